//! Who is here: of each channel whose rule has presence, the subjects that listen to it by name, and how many others do.
//!
//! It is a table, kept in step with the hub by those who know whose subscriber listens; what it tells goes to the channel
//! `encke/presence/…` as values and removals of keys, like any other message. So a snapshot, conflation, and a place to
//! go on from are there already, and a log that several servers share would carry it.
//!
//! A leave is told only when somebody has been gone for `presence_seconds`: polls, reloads and changes of technique make no
//! noise. Above `limits.presence_members` newcomers are not told; then the count is, once a second.

mod everywhere;
mod room;
mod saying;
#[cfg(test)]
mod tests;
mod together;

use crate::carry::{carry, resume};
use crate::hub::{Data, Owner, Publication};
use crate::time::Instant;
use crate::wire::media::JSON;
use room::{Member, Room};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use together::Together;

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
    /// What several servers know of each other, if they share a history.
    together: Option<Box<Together>>,
}

#[derive(Debug)]
struct Listener {
    subject: Option<Box<str>>,
    channels: Vec<Rc<str>>,
}

resume! {
    Presence {
        carried: rooms, owners, timers, news, untold, again_at;
        resumed: ;
        given: pause_ms, max, together
    }
}

carry! {
    struct Listener { subject, channels }
}

carry! {
    enum News {
        0 => Here { channel: Rc<str>, subject: Box<str>, value: String },
        1 => Gone { channel: Rc<str>, subject: Box<str> },
        2 => Count { channel: Rc<str>, value: String }
    }
}

impl News {
    /// Of which channel and about whom it is.
    fn about(self) -> About {
        match self {
            Self::Here { channel, subject, .. } | Self::Gone { channel, subject } => (channel, subject),
            Self::Count { channel, .. } => (channel, "".into()),
        }
    }

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

    /// Milliseconds after which a leave is told.
    pub const fn pause_ms(&self) -> u64 {
        self.pause_ms
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
            self.enter(now, channel, subject, was_here);
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

    fn enter(&mut self, now: Instant, channel: &Rc<str>, subject: Option<&Subject>, was_here: bool) {
        let room = self.rooms.entry(Rc::clone(channel)).or_default();
        let Some((name, info)) = subject else {
            room.anonymous += usize::from(!was_here);
            return;
        };
        let member = room.members.entry(name.clone()).or_insert_with(|| Member {
            connections: 0,
            info: None,
            since: now,
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
            member.since = now;
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
        let max = if self.together.is_some() { None } else { Some(self.max) };
        let gone = room.settle(now, max, channel, &mut self.news);
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
        if let Some(together) = &self.together {
            return self.look_together(together, channel);
        }
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
