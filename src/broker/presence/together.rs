//! Presence on several servers that share a history: each says who listens to it, and all read what all have said.

#[cfg(test)]
mod tests;

use super::everywhere::Everywhere;
use super::saying::{SAID_AT_ONCE, Saying, Sent};
use super::{About, Here, HereMember, Presence, Room};
use crate::broker::nodes::Nodes;
use crate::hub::Publication;
use crate::id::Seq;
use crate::log::{LogTime, NodeId, Record, Said, Ticket};
use crate::time::Instant;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

/// Milliseconds from one look for what is to be done for all servers to the next.
const LOOK_MS: u64 = 250;
/// So many members of dead servers are to be said at a time.
const DEAD_AT_ONCE: usize = 10 * SAID_AT_ONCE;

/// What several servers know of each other.
#[derive(Debug)]
pub(super) struct Together {
    me: NodeId,
    all: Everywhere,
    saying: Saying,
    /// When it is looked again for what is to be done for all.
    look_at: Instant,
}

impl Presence {
    /// Shares with other servers who is here; we are this one.
    pub fn share(&mut self, me: NodeId) {
        let (all, saying) = (Everywhere::default(), Saying::default());
        self.together = Some(Box::new(Together { me, all, saying, look_at: Instant::default() }));
    }

    /// Whether it does.
    pub const fn is_shared(&self) -> bool {
        self.together.is_some()
    }

    /// What is so of somebody here, as others are told.
    fn truth(
        rooms: &BTreeMap<Rc<str>, Room>,
        (channel, subject): &About,
        time: impl Fn(Instant) -> LogTime,
    ) -> Option<Said> {
        let room = rooms.get(channel)?;
        if subject.is_empty() {
            return (room.anonymous > 0).then_some(Said::Others(room.anonymous as u64));
        }
        let member = room.members.get(subject).filter(|member| member.is_told)?;
        let (subject, info) = (subject.clone(), member.info.clone());
        Some(Said::Here { subject, info, since: time(member.since) })
    }

    /// Takes what a server has said, by record number `seq`. `before` is what is told of whom it is about. Returns what is to be
    /// told, and whether those who have not been told are to be said again.
    pub fn apply(
        &mut self,
        at: Instant,
        (seq, node): (Seq, NodeId),
        channel: &str,
        what: &Said,
        before: Option<&[u8]>,
    ) -> (Option<Publication>, bool) {
        let Some(together) = &mut self.together else { return (None, false) };
        let change = together.all.apply(at, (seq, node), channel, what, before, self.max);
        if node == together.me {
            let key = (node, (Rc::from(channel), what.subject().into()));
            if !together.saying.is_under_way(&key) {
                together.correct(&self.rooms, key.1);
            }
        }
        (change.told, change.has_thinned)
    }

    /// Has somebody said.
    pub fn mark(&mut self, channel: &str, subject: &str) {
        if let Some(together) = &mut self.together {
            let about = (channel.into(), subject.into());
            together.saying.mark((together.me, about));
        }
    }

    /// The subjects that are on a channel by this server.
    pub fn subjects_here(&self, channel: &str) -> Vec<Box<str>> {
        self.rooms.get(channel).map(|room| room.members.keys().cloned().collect()).unwrap_or_default()
    }

    /// Whether no server is known to have this subject.
    pub fn lacks(&self, channel: &str, subject: &str) -> bool {
        self.together.as_ref().is_some_and(|together| together.all.lacks(channel, subject))
    }

    /// Whether a server is known to have somebody.
    pub fn has(&self, node: NodeId) -> bool {
        self.together.as_ref().is_some_and(|together| together.all.has(node))
    }

    /// Forgets servers of which there is nobody.
    pub fn forget(&mut self, nodes: &[NodeId]) {
        let Some(together) = &mut self.together else { return };
        nodes.iter().for_each(|node| together.all.forget(*node));
    }

    /// Notes that somebody asks who is here.
    pub fn note_asked(&mut self, now: Instant, seq: Seq) {
        if let Some(together) = &mut self.together {
            together.saying.note_asked(now, seq);
        }
    }

    /// Notes that a server has said of everybody since record `since`: whom it has not is gone.
    pub fn note_all_said(&mut self, node: NodeId, since: Seq) {
        let Some(Together { all, saying, .. }) = self.together.as_deref_mut() else { return };
        all.not_said_since(node, since).into_iter().for_each(|about| saying.mark((node, about)));
    }

    /// Asks the others, as we have missed something, or may have: what they said after number `after`, at least.
    pub fn ask(&mut self, after: Seq) {
        let Some(together) = &mut self.together else { return };
        together.all.doubt(after);
        together.saying.ask();
    }

    /// Whoever has come or gone is to be said.
    pub fn say_news(&mut self) {
        let Some(together) = &mut self.together else { return };
        for news in std::mem::take(&mut self.news) {
            together.saying.mark((together.me, news.about()));
        }
    }

    /// When there is something to say to the others, or to be done for them.
    pub fn next_saying(&self, nodes: &Nodes) -> Instant {
        let Some(together) = &self.together else { return Instant::NEVER };
        let deaths = nodes.deaths().filter(|(_, node)| together.all.has(*node)).map(|(at, _)| at);
        let duty = deaths.chain(together.all.counts().map(|(due, _)| *due).next()).min();
        let duty = duty.map_or(Instant::NEVER, |due| due.max(together.look_at));
        together.saying.next().min(duty)
    }

    /// What is to be said now; `time` is on the time line of the history.
    pub fn say(
        &mut self,
        now: Instant,
        nodes: &Nodes,
        time: impl Fn(Instant) -> LogTime + Copy,
    ) -> (Vec<Record>, Sent) {
        let Some(together) = &mut self.together else { return (Vec::new(), Sent::default()) };
        together.look(now, nodes);
        let Together { me, all, saying, .. } = &mut **together;
        let (me, rooms) = (*me, &self.rooms);
        let record = |(node, about): &(NodeId, About)| {
            let (channel, subject) = about;
            let gone = || match subject.is_empty() {
                true => Said::Others(0),
                false => Said::Gone { subject: subject.clone() },
            };
            let what = match *node == me {
                true => Self::truth(rooms, about, time).unwrap_or_else(gone),
                false if all.says(*node, about, None) => return None,
                false => gone(),
            };
            Some(Record::Said { node: *node, channel: (&**channel).into(), what })
        };
        let (records, sent) = saying.say(now, me, record, |place| after(rooms, place.cloned()));
        for record in &records {
            if let Record::Said { node, channel, what: Said::Others(count) } = record
                && *node == me
                && let Some(room) = self.rooms.get_mut(&**channel)
            {
                room.note_counted(*count as usize);
            }
        }
        (records, sent)
    }

    /// Notes by which proposal that was said.
    pub fn note_sent(&mut self, ticket: Ticket, sent: Sent) {
        if let Some(together) = &mut self.together {
            together.saying.note_sent(ticket, sent);
        }
    }

    /// Notes that a proposal has become history. What is not so any more is said anew.
    pub fn note_said(&mut self, ticket: Ticket) {
        let Some(together) = &mut self.together else { return };
        let said = together.saying.settle(ticket);
        let ours = said.into_iter().filter(|(node, _)| *node == together.me).map(|(_, about)| about);
        let ours: Vec<About> = ours.collect();
        ours.into_iter().for_each(|about| together.correct(&self.rooms, about));
    }

    /// Notes that nothing of a proposal has happened.
    pub fn note_unsaid(&mut self, now: Instant, ticket: Ticket) {
        if let Some(together) = &mut self.together {
            together.saying.refuse(now, ticket);
        }
    }

    /// Who is on a channel, on all servers.
    pub(super) fn look_together<'a>(&'a self, together: &'a Together, channel: &str) -> Here<'a> {
        let Together { me, all, .. } = together;
        let room = self.rooms.get(channel);
        let (count, anonymous) = all.numbers(channel, *me);
        let members = all.look(channel, *me).map(|(subject, info, others)| {
            let here = room.and_then(|room| room.members.get(subject)).map_or(0, |member| member.connections);
            HereMember { subject, info, connections: here + others }
        });
        Here {
            count,
            anonymous: anonymous + room.map_or(0, |room| room.anonymous),
            members: (count <= self.max).then(|| members.collect()),
        }
    }
}

impl Together {
    /// Says anew what is not so any more, or was not said by us. How many have no name is compared with what we said last, as what
    /// has changed since is said when it is time.
    fn correct(&mut self, rooms: &BTreeMap<Rc<str>, Room>, about: About) {
        let truth = match about.1.is_empty() {
            true => rooms.get(&about.0).map(|room| Said::Others(room.counted() as u64)),
            false => Presence::truth(rooms, &about, |_| LogTime::default()),
        };
        if !self.all.says(self.me, &about, truth.as_ref()) {
            self.saying.mark((self.me, about));
        }
    }

    /// Does what one of all servers has to do, if we are that one: says of dead servers that nobody is there, and gives counts
    /// that are due a number.
    fn look(&mut self, now: Instant, nodes: &Nodes) {
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK_MS;
        let Some(patience_ms) = nodes.patience_ms(now) else { return };
        for (_, dead) in nodes.deaths().filter(|(died, _)| *died + patience_ms <= now) {
            let room = DEAD_AT_ONCE.saturating_sub(self.saying.waiting());
            let keys = self.all.said_by(dead).map(|about| (dead, about.clone()));
            let keys: Vec<_> = keys.filter(|key| !self.saying.is_marked(key)).take(room).collect();
            keys.into_iter().for_each(|key| self.saying.mark(key));
        }
        let due = self.all.counts().take_while(|(due, _)| *due + patience_ms <= now);
        let counts: Vec<Rc<str>> = due.take(SAID_AT_ONCE).map(|(_, channel)| Rc::clone(channel)).collect();
        counts.into_iter().for_each(|channel| self.saying.mark((self.me, (channel, "".into()))));
    }
}

/// Those who are here and come after `place`: of each channel first those without a name.
fn after(rooms: &BTreeMap<Rc<str>, Room>, place: Option<About>) -> impl Iterator<Item = About> {
    let from = place.as_ref().map_or(Bound::Unbounded, |(channel, _)| Bound::Included(Rc::clone(channel)));
    rooms.range((from, Bound::Unbounded)).flat_map(move |(channel, room)| {
        let behind = place.as_ref().filter(|(before, _)| before == channel).map(|(_, subject)| subject);
        let anonymous = (room.anonymous > 0 && behind.is_none()).then(|| Box::from(""));
        let from = behind.map_or(Bound::Unbounded, |subject| Bound::Excluded(subject.clone()));
        let told = room.members.range((from, Bound::Unbounded)).filter(|(_, member)| member.is_told);
        let channel = Rc::clone(channel);
        anonymous
            .into_iter()
            .chain(told.map(|(subject, _)| subject.clone()))
            .map(move |subject| (Rc::clone(&channel), subject))
    })
}
