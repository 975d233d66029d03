//! Who is here: of each channel whose rule has presence, the subjects that listen to it by name, and how many others do.
//!
//! It is a table, kept in step with the hub by those who know whose subscriber listens; what it tells goes to the channel
//! `encke/presence/…` as values and removals of keys, like any other message. So a snapshot, conflation, and a place to
//! go on from are there already, and a log that several servers share would carry it.
//!
//! A leave is told only when somebody has been gone for `presence_seconds`: polls, reloads and changes of technique make no
//! noise. Above `limits.presence_members` newcomers are not told; then the count is, once a second.

use crate::carry::{carry, resume};
use crate::hub::{Data, Owner, Publication};
use crate::time::Instant;
use crate::wire::media::JSON;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Milliseconds between two counts of a channel that are told.
const COUNT_MS: u64 = 1000;
/// Milliseconds after which what could not be told is tried again.
const AGAIN_MS: u64 = 1000;
/// So many leaves, and channels with something due, are looked at in a turn.
const LOOKS_PER_TURN: usize = 1000;

/// Somebody's name, and what others are told about them, as JSON.
pub type Subject = (Box<str>, Option<Box<str>>);

/// A channel, and whom on it something is told about; nobody in particular for the count.
pub type About = (Rc<str>, Box<str>);

/// Something to be told on a channel's presence channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// This subject is here, or what is told about it has changed.
    Here {
        /// The channel.
        channel: Rc<str>,
        /// Who.
        subject: Box<str>,
        /// The value.
        value: String,
    },
    /// This subject is here no longer.
    Gone {
        /// The channel.
        channel: Rc<str>,
        /// Who.
        subject: Box<str>,
    },
    /// So many are here.
    Count {
        /// The channel.
        channel: Rc<str>,
        /// The counts, as JSON.
        value: String,
    },
}

/// Who is on a channel, to be shown.
#[derive(Debug, Default)]
pub struct Here<'a> {
    /// How many subjects.
    pub count: usize,
    /// How many connections without one.
    pub anonymous: usize,
    /// The subjects, unless they are too many to be told.
    pub members: Option<Vec<HereMember<'a>>>,
}

/// Somebody who is there.
#[derive(Debug)]
pub struct HereMember<'a> {
    /// Who.
    pub subject: &'a str,
    /// What others are told, as JSON.
    pub info: Option<&'a str>,
    /// By how many connections or sessions; 0 = it has gone a moment ago.
    pub connections: usize,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Presence {
    rooms: BTreeMap<Rc<str>, Room>,
    /// Who listens, as what, and where.
    owners: BTreeMap<Owner, Listener>,
    /// When something is due in which room: somebody has been gone for long enough, or a count is to be told.
    timers: BTreeSet<(Instant, Rc<str>)>,
    /// Milliseconds after which a leave is told.
    pause_ms: u64,
    /// Most members of a channel that are told.
    max: usize,
    news: Vec<News>,
    /// What could not be told: of which channel, and about whom. Nobody in particular is the count.
    untold: BTreeSet<About>,
    /// When that is tried again.
    again_at: Option<Instant>,
}

#[derive(Debug)]
struct Listener {
    subject: Option<Box<str>>,
    channels: Vec<Rc<str>>,
}

#[derive(Debug, Default)]
struct Room {
    members: BTreeMap<Box<str>, Member>,
    /// Members that have been told.
    told: usize,
    /// Connections without a subject.
    anonymous: usize,
    /// Members that have gone, and when that is told.
    leaving: BTreeSet<(Instant, Box<str>)>,
    /// The counts that were told last, and when.
    counted: (usize, usize),
    last_count: Option<Instant>,
    /// Not all members are told, and so their count was.
    is_counted: bool,
    /// When counts are to be told.
    count_at: Option<Instant>,
    /// When the timer of the room is set.
    timer: Option<Instant>,
}

#[derive(Debug)]
struct Member {
    connections: usize,
    info: Option<Box<str>>,
    is_told: bool,
    /// When its leave is told, if it has gone.
    leaves: Option<Instant>,
}

resume! {
    Presence {
        carried: rooms, owners, timers, news, untold, again_at;
        resumed: ;
        given: pause_ms, max
    }
}

carry! {
    struct Listener { subject, channels }
}

carry! {
    struct Room { members, told, anonymous, leaving, counted, last_count, is_counted, count_at, timer }
}

carry! {
    struct Member { connections, info, is_told, leaves }
}

carry! {
    enum News {
        0 => Here { channel: Rc<str>, subject: Box<str>, value: String },
        1 => Gone { channel: Rc<str>, subject: Box<str> },
        2 => Count { channel: Rc<str>, value: String }
    }
}

impl News {
    /// Of which channel and about whom it is, and how it is told.
    pub fn publication(self) -> (About, Publication) {
        match self {
            Self::Here { channel, subject, value } => {
                let publication = Publication { key: Some(subject.clone()), ..json(value) };
                ((channel, subject), publication)
            }
            Self::Gone { channel, subject } => {
                let publication = Publication::removal(&subject);
                ((channel, subject), publication)
            }
            Self::Count { channel, value } => ((channel, "".into()), json(value)),
        }
    }
}

fn json(value: String) -> Publication {
    Publication { content_type: Some(JSON.into()), ..Publication::of(Data::Json(value.into())) }
}

fn value(subject: &str, info: Option<&str>) -> String {
    let id = Value::from(subject);
    match info {
        Some(info) => format!("{{\"id\":{id},\"info\":{info}}}"),
        None => format!("{{\"id\":{id}}}"),
    }
}

fn count((count, anonymous): (usize, usize)) -> String {
    format!("{{\"count\":{count},\"anonymous\":{anonymous}}}")
}

impl Presence {
    /// Nobody is here.
    pub fn new(pause_ms: u64, max: usize) -> Self {
        Self { pause_ms, max, ..Self::default() }
    }

    /// Takes other bounds, for what comes.
    pub const fn reconfigure(&mut self, pause_ms: u64, max: usize) {
        (self.pause_ms, self.max) = (pause_ms, max);
    }

    /// Notes to which channels with presence `owner` listens by name from now on, in order, as `subject`.
    pub fn note(&mut self, now: Instant, owner: Owner, subject: Option<&Subject>, channels: Vec<Rc<str>>) {
        let old = self.owners.remove(&owner);
        if old.is_none() && channels.is_empty() {
            return;
        }
        let name = subject.map(|(name, _)| name.clone());
        let is_same = old.as_ref().is_some_and(|old| old.subject == name);
        let before = old.as_ref().map_or(&[][..], |old| &old.channels);
        for channel in &channels {
            let was_here = is_same && before.binary_search(channel).is_ok();
            self.enter(channel, subject, was_here);
        }
        if let Some(old) = old {
            let kept = |channel: &Rc<str>| is_same && channels.binary_search(channel).is_ok();
            let left: Vec<Rc<str>> = old.channels.iter().filter(|channel| !kept(channel)).cloned().collect();
            for channel in left {
                self.leave(&channel, old.subject.as_deref(), now + self.pause_ms);
                self.settle(now, &channel);
            }
        }
        for channel in &channels {
            self.settle(now, channel);
        }
        if !channels.is_empty() {
            self.owners.insert(owner, Listener { subject: name, channels });
        }
    }

    /// Notes that `owner` has lost its right to the channels that are `lost`: that it leaves these is told at once, unless
    /// its subject is there by another.
    pub fn expel(&mut self, now: Instant, owner: Owner, lost: impl Fn(&str) -> bool) {
        let Some(Listener { subject, channels }) = self.owners.remove(&owner) else { return };
        let (gone, kept): (Vec<_>, Vec<_>) = channels.into_iter().partition(|channel| lost(channel));
        if !kept.is_empty() {
            self.owners.insert(owner, Listener { subject: subject.clone(), channels: kept });
        }
        for channel in gone {
            self.leave(&channel, subject.as_deref(), now);
            self.settle(now, &channel);
        }
    }

    /// The same for a subject that is between two connections.
    pub fn expel_absent(&mut self, now: Instant, subject: &str, lost: impl Fn(&str) -> bool) {
        let mut gone = Vec::new();
        for (channel, room) in self.rooms.iter_mut().filter(|(channel, _)| lost(channel)) {
            let Some(member) = room.members.get_mut(subject) else { continue };
            let Some(leaves) = member.leaves.as_mut() else { continue };
            let old = std::mem::replace(leaves, now);
            room.leaving.remove(&(old, subject.into()));
            room.leaving.insert((now, subject.into()));
            gone.push(Rc::clone(channel));
        }
        for channel in gone {
            self.settle(now, &channel);
        }
    }

    fn enter(&mut self, channel: &Rc<str>, subject: Option<&Subject>, was_here: bool) {
        let room = self.rooms.entry(Rc::clone(channel)).or_default();
        let Some((name, info)) = subject else {
            room.anonymous += usize::from(!was_here);
            return;
        };
        let member = room.members.entry(name.clone()).or_insert_with(|| Member {
            connections: 0,
            info: None,
            is_told: false,
            leaves: None,
        });
        member.connections += usize::from(!was_here);
        if let Some(leaves) = member.leaves.take() {
            room.leaving.remove(&(leaves, name.clone()));
        }
        // The newest counts.
        if member.info != *info {
            member.info.clone_from(info);
            if member.is_told {
                let (channel, subject) = (Rc::clone(channel), name.clone());
                self.news.push(News::Here { channel, value: value(name, info.as_deref()), subject });
            }
        }
    }

    fn leave(&mut self, channel: &Rc<str>, subject: Option<&str>, leaves: Instant) {
        let Some(room) = self.rooms.get_mut(channel) else { return };
        let Some(name) = subject else {
            room.anonymous -= 1;
            return;
        };
        let Some(member) = room.members.get_mut(name) else { return };
        member.connections -= 1;
        if member.connections == 0 {
            member.leaves = Some(leaves);
            room.leaving.insert((leaves, name.into()));
        }
    }

    /// Tells what is to be told of a room, and sets its timer. Returns how many have gone.
    fn settle(&mut self, now: Instant, channel: &Rc<str>) -> usize {
        let Some(room) = self.rooms.get_mut(channel) else { return 0 };
        let gone = room.settle(now, self.max, channel, &mut self.news);
        let due = room.due();
        let old = std::mem::replace(&mut room.timer, due);
        if old != due {
            old.into_iter().for_each(|old| _ = self.timers.remove(&(old, Rc::clone(channel))));
            due.into_iter().for_each(|due| _ = self.timers.insert((due, Rc::clone(channel))));
        }
        if room.is_empty() {
            self.rooms.remove(channel);
        }
        gone
    }

    /// Does some of what is due.
    pub fn tick(&mut self, now: Instant) {
        self.tell_again(now);
        let mut looks = 0;
        while looks < LOOKS_PER_TURN
            && let Some((_, channel)) = self.timers.first().filter(|(due, _)| *due <= now)
        {
            let channel = Rc::clone(channel);
            looks += 1 + self.settle(now, &channel);
        }
    }

    /// When something is due next.
    pub fn next_deadline(&self) -> Instant {
        let due = self.timers.first().map_or(Instant::NEVER, |(due, _)| *due);
        let again = if self.untold.is_empty() { Instant::NEVER } else { self.again_at.unwrap_or_default() };
        due.min(again)
    }

    /// What is to be told.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Whether anything is to be told.
    pub fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// Notes that news of a member, or the count, could not be told: what is so then is told in a second.
    pub fn untold(&mut self, about: About) {
        self.untold.insert(about);
    }

    /// Tells what is so now of whom something could not be told.
    fn tell_again(&mut self, now: Instant) {
        if self.untold.is_empty() {
            return;
        }
        if self.again_at.get_or_insert(now + AGAIN_MS).as_millis() > now.as_millis() {
            return;
        }
        self.again_at = None;
        for (channel, subject) in std::mem::take(&mut self.untold) {
            let room = self.rooms.get_mut(&channel);
            if subject.is_empty() {
                if let Some(room) = room {
                    let counts = (room.members.len(), room.anonymous);
                    self.news.push(News::Count { channel, value: count(counts) });
                }
                continue;
            }
            let member = room.and_then(|room| room.members.get(&subject)).filter(|member| member.is_told);
            self.news.push(match member {
                Some(member) => {
                    let value = value(&subject, member.info.as_deref());
                    News::Here { channel, subject, value }
                }
                None => News::Gone { channel, subject },
            });
        }
    }

    /// Who is on a channel.
    pub fn look(&self, channel: &str) -> Here<'_> {
        let Some(room) = self.rooms.get(channel) else {
            return Here { members: Some(Vec::new()), ..Here::default() };
        };
        let members = room.members.iter().map(|(name, member)| HereMember {
            subject: name,
            info: member.info.as_deref(),
            connections: member.connections,
        });
        Here {
            count: room.members.len(),
            anonymous: room.anonymous,
            members: (room.members.len() <= self.max).then(|| members.collect()),
        }
    }

    /// Whether nobody is noted.
    #[cfg(any(test, feature = "check"))]
    pub fn is_empty(&self) -> bool {
        let is_noted = !self.owners.is_empty() || !self.rooms.is_empty() || !self.timers.is_empty();
        !is_noted && self.news.is_empty() && self.untold.is_empty()
    }
}

impl Room {
    fn settle(&mut self, now: Instant, max: usize, channel: &Rc<str>, news: &mut Vec<News>) -> usize {
        let mut gone = 0;
        while gone < LOOKS_PER_TURN
            && let Some((leaves, _)) = self.leaving.first()
            && *leaves <= now
            && let Some((_, subject)) = self.leaving.pop_first()
        {
            gone += 1;
            if self.members.remove(&subject).is_some_and(|member| member.is_told) {
                self.told -= 1;
                news.push(News::Gone { channel: Rc::clone(channel), subject });
            }
        }
        // Newcomers are told while there are not too many, and when there are not any more.
        if self.told < self.members.len() && self.members.len() <= max {
            for (subject, member) in self.members.iter_mut().filter(|(_, member)| !member.is_told) {
                member.is_told = true;
                self.told += 1;
                let value = value(subject, member.info.as_deref());
                news.push(News::Here { channel: Rc::clone(channel), subject: subject.clone(), value });
            }
        }
        self.count(now, channel, news);
        gone
    }

    /// Tells how many are here while not all of them are told, and once more when they are.
    fn count(&mut self, now: Instant, channel: &Rc<str>, news: &mut Vec<News>) {
        let is_crowd = self.told < self.members.len();
        let counts = (self.members.len(), self.anonymous);
        self.count_at = None;
        if !is_crowd && !self.is_counted || counts == self.counted {
            return;
        }
        let next = self.last_count.map_or(now, |last| last + COUNT_MS);
        if next > now {
            self.count_at = Some(next);
            return;
        }
        (self.counted, self.last_count, self.is_counted) = (counts, Some(now), is_crowd);
        news.push(News::Count { channel: Rc::clone(channel), value: count(counts) });
    }

    /// When something is due.
    fn due(&self) -> Option<Instant> {
        let leaves = self.leaving.first().map(|(leaves, _)| *leaves);
        leaves.into_iter().chain(self.count_at).min()
    }

    fn is_empty(&self) -> bool {
        self.members.is_empty() && self.anonymous == 0 && self.count_at.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: &str = "chat/lobby";

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn told(presence: &mut Presence) -> Vec<String> {
        let text = |news| match news {
            News::Here { value, .. } => format!("+{value}"),
            News::Gone { subject, .. } => format!("-{subject}"),
            News::Count { value, .. } => value,
        };
        presence.take_news().into_iter().map(text).collect()
    }

    fn note(presence: &mut Presence, ms: u64, owner: u32, name: Option<&str>, is_here: bool) {
        let subject = name.map(|name| (Box::from(name), None));
        let channels = if is_here { vec![ROOM.into()] } else { Vec::new() };
        presence.note(at(ms), Owner(owner), subject.as_ref(), channels);
    }

    #[test]
    fn short_absences_make_no_noise() {
        let mut presence = Presence::new(10_000, 10);
        note(&mut presence, 0, 1, Some("alice"), true);
        assert_eq!(told(&mut presence), [r#"+{"id":"alice"}"#]);
        note(&mut presence, 1000, 1, Some("alice"), false);
        note(&mut presence, 9000, 2, Some("alice"), true);
        note(&mut presence, 9500, 3, Some("alice"), true);
        presence.tick(at(30_000));
        note(&mut presence, 30_000, 2, None, false);
        presence.tick(at(60_000));
        assert_eq!(told(&mut presence), [""; 0]);
        assert_eq!(presence.look(ROOM).members.unwrap()[0].connections, 1);
        note(&mut presence, 60_000, 3, None, false);
        assert_eq!(presence.next_deadline(), at(70_000));
        presence.tick(at(69_999));
        assert_eq!(told(&mut presence), [""; 0]);
        presence.tick(at(70_000));
        assert_eq!(told(&mut presence), ["-alice"]);
        assert!(presence.is_empty());
    }

    #[test]
    fn who_is_expelled_leaves_at_once_unless_it_is_there_otherwise() {
        let mut presence = Presence::new(10_000, 10);
        note(&mut presence, 0, 1, Some("alice"), true);
        note(&mut presence, 0, 2, Some("alice"), true);
        note(&mut presence, 0, 3, None, true);
        told(&mut presence);
        presence.expel(at(1), Owner(1), |_| true);
        assert_eq!(told(&mut presence), [""; 0]);
        presence.expel(at(2), Owner(2), |name| name == ROOM);
        assert_eq!(told(&mut presence), ["-alice"]);
        assert_eq!((presence.look(ROOM).count, presence.look(ROOM).anonymous), (0, 1));
        presence.expel(at(3), Owner(3), |_| false);
        assert_eq!(presence.look(ROOM).anonymous, 1);
        presence.expel(at(3), Owner(3), |_| true);
        assert!(presence.is_empty());
    }

    #[test]
    fn a_crowd_is_counted_and_told_when_it_is_none_any_more() {
        let mut presence = Presence::new(0, 3);
        for number in 0..3 {
            note(&mut presence, 0, number, Some(&format!("user{number}")), true);
        }
        assert_eq!(told(&mut presence).len(), 3);
        note(&mut presence, 10, 3, Some("user3"), true);
        assert_eq!(told(&mut presence), [r#"{"count":4,"anonymous":0}"#]);
        for number in 4..100 {
            note(&mut presence, 10 + number, number as u32, Some(&format!("user{number}")), true);
        }
        assert_eq!(told(&mut presence), [""; 0], "once a second");
        presence.tick(at(1010));
        assert_eq!(told(&mut presence), [r#"{"count":100,"anonymous":0}"#]);
        // Who was told is removed when gone, even now.
        note(&mut presence, 1100, 0, None, false);
        assert_eq!(told(&mut presence), ["-user0"]);
        for number in 3..99 {
            note(&mut presence, 1200, number, None, false);
        }
        let left = told(&mut presence);
        assert_eq!(left, [r#"+{"id":"user99"}"#]);
        presence.tick(at(2010));
        assert_eq!(told(&mut presence), [r#"{"count":3,"anonymous":0}"#]);
        note(&mut presence, 9000, 99, None, false);
        assert_eq!(told(&mut presence), ["-user99"]);
    }

    #[test]
    fn what_others_are_told_is_the_newest_and_subjects_may_change() {
        let mut presence = Presence::new(0, 10);
        let named = |name: &str, info: &str| (Box::from(name), Some(Box::from(info)));
        let here = || vec![Rc::from(ROOM)];
        presence.note(at(0), Owner(1), Some(&named("alice", "1")), here());
        presence.note(at(1), Owner(1), Some(&named("alice", "1")), here());
        presence.note(at(2), Owner(2), Some(&named("alice", "2")), here());
        let expected = [r#"+{"id":"alice","info":1}"#, r#"+{"id":"alice","info":2}"#];
        assert_eq!(told(&mut presence), expected);
        presence.note(at(3), Owner(1), Some(&named("bob", "3")), here());
        assert_eq!(told(&mut presence), [r#"+{"id":"bob","info":3}"#]);
        presence.note(at(4), Owner(2), None, here());
        assert_eq!(told(&mut presence), ["-alice"]);
        assert_eq!((presence.look(ROOM).count, presence.look(ROOM).anonymous), (1, 1));
        // What could not be told is told a second later, as it is then.
        presence.untold((ROOM.into(), "bob".into()));
        presence.untold((ROOM.into(), "alice".into()));
        presence.untold((ROOM.into(), "".into()));
        presence.tick(at(5));
        assert_eq!((told(&mut presence), presence.next_deadline()), (Vec::new(), at(1005)));
        presence.tick(at(1005));
        let expected = [r#"{"count":1,"anonymous":1}"#, "-alice", r#"+{"id":"bob","info":3}"#];
        assert_eq!(told(&mut presence), expected);
        assert_eq!(presence.next_deadline(), Instant::NEVER);
    }

    #[test]
    fn who_is_between_two_connections_leaves_at_once_when_revoked() {
        let mut presence = Presence::new(10_000, 10);
        note(&mut presence, 0, 1, Some("alice"), true);
        note(&mut presence, 0, 2, Some("bob"), true);
        note(&mut presence, 1, 1, None, false);
        told(&mut presence);
        presence.expel_absent(at(2), "alice", |_| false);
        presence.expel_absent(at(2), "bob", |_| true);
        presence.expel_absent(at(2), "carol", |_| true);
        assert_eq!(told(&mut presence), [""; 0]);
        presence.expel_absent(at(3), "alice", |name| name == ROOM);
        assert_eq!(told(&mut presence), ["-alice"]);
        assert_eq!((presence.look(ROOM).count, presence.next_deadline()), (1, Instant::NEVER));
    }

    #[test]
    fn a_large_crowd_leaves_some_a_turn() {
        let mut presence = Presence::new(1000, 10);
        for number in 0..2500 {
            note(&mut presence, 0, number, Some(&format!("user{number}")), true);
        }
        (0..2500).for_each(|number| note(&mut presence, 1, number, None, false));
        let mut turns = 0;
        while presence.next_deadline() <= at(1001) {
            presence.tick(at(1001));
            turns += 1;
        }
        assert!((3..=4).contains(&turns), "{turns}");
        presence.tick(at(5000));
        assert!(presence.look(ROOM).count == 0 && presence.timers.is_empty() && presence.rooms.is_empty());
    }
}
