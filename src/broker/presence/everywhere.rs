//! Who is on which channels on all servers that share a history, as its records say.
//!
//! Every server reads the same records in the same order. A record that changes who is there *is* the message that tells of
//! it, with its number: so the first who comes and the last who goes are told once, on all servers alike. Where that cannot
//! be (more than one message of one record), a server says it again: what is said twice is told once.

use super::{About, COUNT_MS, count, json, value};
use crate::hub::Publication;
use crate::id::Seq;
use crate::log::{LogTime, NodeId, Said};
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Who is where.
#[derive(Debug, Default)]
pub struct Everywhere {
    rooms: BTreeMap<Rc<str>, Crowd>,
    nodes: BTreeMap<NodeId, Node>,
    /// Channels whose counts are to be told, and when.
    counts: BTreeSet<(Instant, Rc<str>)>,
}

/// What a server has said.
#[derive(Debug, Default)]
struct Node {
    said: BTreeMap<About, Word>,
}

/// The records by which a server has said that somebody is there, and nothing else since: the numbers of the first and of the
/// last.
#[derive(Debug)]
struct Word {
    first: Seq,
    last: Seq,
}

/// Who is on a channel.
#[derive(Debug, Default)]
struct Crowd {
    members: BTreeMap<Box<str>, Vec<Holder>>,
    /// Connections without a subject.
    anonymous: BTreeMap<NodeId, usize>,
    /// The counts that were told last, and when.
    counted: (usize, usize),
    last_count: Option<Instant>,
    /// Not all members are told, and so their count was.
    is_counted: bool,
    /// When counts are to be told.
    count_at: Option<Instant>,
}

/// A server where a subject is.
#[derive(Debug)]
struct Holder {
    node: NodeId,
    info: Option<Box<str>>,
    /// Since when it is told there.
    since: LogTime,
}

/// What follows from a record.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// What is to be told, with the number of the record.
    pub told: Option<Publication>,
    /// There are not too many any more: those who have not been told are to be said again.
    pub has_thinned: bool,
}

impl Everywhere {
    /// Takes what a server has said of somebody on `channel`, by record number `seq`. `before` is what is told of them on the
    /// presence channel; at most `max` are told of there.
    pub fn apply(
        &mut self,
        at: Instant,
        (seq, node): (Seq, NodeId),
        channel: &str,
        what: &Said,
        before: Option<&[u8]>,
        max: usize,
    ) -> Change {
        let channel =
            self.rooms.get_key_value(channel).map_or_else(|| channel.into(), |(name, _)| Rc::clone(name));
        let about: About = (Rc::clone(&channel), what.subject().into());
        let from = self.nodes.entry(node).or_default();
        match what {
            Said::Gone { .. } | Said::Others(0) => _ = from.said.remove(&about),
            Said::Here { .. } | Said::Others(_) => {
                from.said.entry(about).or_insert(Word { first: seq, last: seq }).last = seq;
            }
        }
        let room = self.rooms.entry(Rc::clone(&channel)).or_default();
        let had = room.members.len();
        room.take(node, what);
        let has = room.members.len();
        let holders = room.members.get(what.subject());
        let told = match (what, holders) {
            (Said::Others(_), _) => None,
            (_, Some(holders)) => {
                let value = newest(holders).map(|info| value(what.subject(), info)).unwrap_or_default();
                let is_new = before.is_none_or(|before| before != value.as_bytes());
                let is_told = is_new && (before.is_some() || has <= max);
                is_told.then(|| Publication { key: Some(what.subject().into()), ..json(value) })
            }
            // Even of whom nothing is told here: a server that knew of another one where it was has told of it until now, and so
            // its clients are told whichever they ask.
            (_, None) => Some(Publication::removal(what.subject())),
        };
        let told = self.settle(at, &channel, told, max);
        Change { told, has_thinned: has < had && has == max }
    }

    /// Tells how many are there, unless something else is told, in which case that is due later.
    fn settle(
        &mut self,
        at: Instant,
        channel: &Rc<str>,
        told: Option<Publication>,
        max: usize,
    ) -> Option<Publication> {
        let room = self.rooms.get_mut(channel)?;
        let old = room.count_at.take();
        let told = match (room.count_due(at, max), told) {
            (Some(due), None) if due <= at => Some(room.count(at, max)),
            (due, told) => {
                room.count_at = due;
                told
            }
        };
        let due = room.count_at;
        if old != due {
            old.into_iter().for_each(|old| _ = self.counts.remove(&(old, Rc::clone(channel))));
            due.into_iter().for_each(|due| _ = self.counts.insert((due, Rc::clone(channel))));
        }
        if room.members.is_empty() && room.anonymous.is_empty() && due.is_none() {
            self.rooms.remove(channel);
        }
        told
    }

    /// Of whom a server has not said anything since record `since`.
    pub fn not_said_since(&self, node: NodeId, since: Seq) -> Vec<About> {
        let said = self.nodes.get(&node).into_iter().flat_map(|node| &node.said);
        said.filter(|(_, word)| word.last <= since).map(|(about, _)| about.clone()).collect()
    }

    /// Notes that what was said after number `after` has never been: whoever was said to be there only since is not, as others
    /// may have never read it, and would tell that somebody goes where we know of one who stays. Whoever says of everybody from
    /// now on has said of all the rest anew.
    pub fn doubt(&mut self, after: Seq) {
        let (rooms, counts) = (&mut self.rooms, &mut self.counts);
        for (node, of) in &mut self.nodes {
            of.said.retain(|(channel, subject), word| {
                word.last = word.last.min(after);
                if word.first <= after {
                    return true;
                }
                let Some(room) = rooms.get_mut(channel) else { return false };
                room.take(
                    *node,
                    &match subject.is_empty() {
                        true => Said::Others(0),
                        false => Said::Gone { subject: subject.clone() },
                    },
                );
                // How many are left is told when somebody says so.
                if room.is_counted && room.count_at.is_none() {
                    let due = room.last_count.unwrap_or_default() + COUNT_MS;
                    room.count_at = Some(due);
                    counts.insert((due, Rc::clone(channel)));
                }
                if room.members.is_empty() && room.anonymous.is_empty() && room.count_at.is_none() {
                    rooms.remove(channel);
                }
                false
            });
        }
    }

    /// Forgets a server, of which there is nobody.
    pub fn forget(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }

    /// Whether a server has said that somebody is there.
    pub fn has(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|node| !node.said.is_empty())
    }

    /// Whom a server has.
    pub fn said_by(&self, node: NodeId) -> impl Iterator<Item = &About> {
        self.nodes.get(&node).into_iter().flat_map(|node| node.said.keys())
    }

    /// Whether a server has said this of somebody, and nothing else since; that they are there, or so many.
    pub fn says(&self, node: NodeId, (channel, subject): &About, what: Option<&Said>) -> bool {
        let room = self.rooms.get(channel);
        if subject.is_empty() {
            let count = room.and_then(|room| room.anonymous.get(&node)).map_or(0, |count| *count as u64);
            return what.map_or(0, |what| if let Said::Others(count) = what { *count } else { 0 }) == count;
        }
        let holders = room.and_then(|room| room.members.get(subject));
        let holder = holders.and_then(|holders| holders.iter().find(|holder| holder.node == node));
        match (what, holder) {
            (Some(Said::Here { info, .. }), Some(holder)) => holder.info == *info,
            (Some(Said::Here { .. }), None) | (_, Some(_)) => false,
            (_, None) => true,
        }
    }

    /// Whether nobody is known to have this subject.
    pub fn lacks(&self, channel: &str, subject: &str) -> bool {
        self.rooms.get(channel).is_none_or(|room| !room.members.contains_key(subject))
    }

    /// When counts are to be told, and of which channels, in this order.
    pub fn counts(&self) -> impl Iterator<Item = &(Instant, Rc<str>)> {
        self.counts.iter()
    }

    /// Who is on a channel: each subject, what is told of it, and on how many servers beside `me` it is.
    pub fn look(&self, channel: &str, me: NodeId) -> impl Iterator<Item = (&str, Option<&str>, usize)> {
        let members = self.rooms.get(channel).into_iter().flat_map(|room| &room.members);
        members.map(move |(subject, holders)| {
            let others = holders.iter().filter(|holder| holder.node != me).count();
            (&**subject, newest(holders).flatten(), others)
        })
    }

    /// How many are there, and how many without a subject on servers beside `me`.
    pub fn numbers(&self, channel: &str, me: NodeId) -> (usize, usize) {
        let Some(room) = self.rooms.get(channel) else { return (0, 0) };
        let others = room.anonymous.iter().filter(|(node, _)| **node != me).map(|(_, count)| count);
        (room.members.len(), others.sum())
    }
}

/// What is told of somebody: what is newest.
fn newest(holders: &[Holder]) -> Option<Option<&str>> {
    let newest = holders.iter().max_by_key(|holder| (holder.since, holder.node))?;
    Some(newest.info.as_deref())
}

impl Crowd {
    fn take(&mut self, node: NodeId, what: &Said) {
        match what {
            Said::Here { subject, info, since } => {
                let holders = self.members.entry(subject.clone()).or_default();
                match holders.iter_mut().find(|holder| holder.node == node) {
                    // What is said again is not newer for that.
                    Some(holder) if holder.info == *info => {}
                    Some(holder) => (holder.info, holder.since) = (info.clone(), *since),
                    None => holders.push(Holder { node, info: info.clone(), since: *since }),
                }
            }
            Said::Gone { subject } => {
                if let Some(holders) = self.members.get_mut(subject) {
                    holders.retain(|holder| holder.node != node);
                    if holders.is_empty() {
                        self.members.remove(subject);
                    }
                }
            }
            Said::Others(0) => _ = self.anonymous.remove(&node),
            Said::Others(count) => _ = self.anonymous.insert(node, *count as usize),
        }
    }

    fn counts(&self) -> (usize, usize) {
        (self.members.len(), self.anonymous.values().sum())
    }

    /// When its counts are to be told, if they are: while not all members are, and once more when they are.
    fn count_due(&self, at: Instant, max: usize) -> Option<Instant> {
        let is_crowd = self.members.len() > max;
        let is_news = (is_crowd || self.is_counted) && self.counts() != self.counted;
        is_news.then(|| self.last_count.map_or(at, |last| last + COUNT_MS))
    }

    fn count(&mut self, at: Instant, max: usize) -> Publication {
        self.is_counted = self.members.len() > max;
        (self.counted, self.last_count) = (self.counts(), Some(at));
        json(count(self.counted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_there_only_by_what_is_lost_keeps_nobody_there() {
        let at = Instant::from_millis(1000);
        let here = Said::Here { subject: "alice".into(), info: None, since: LogTime(1) };
        let gone = Said::Gone { subject: "alice".into() };
        for (said, is_told) in [(&[15][..], true), (&[7, 15], false)] {
            let mut all = Everywhere::default();
            let told = all.apply(at, (5, NodeId(1)), "room", &here, None, 10).told.unwrap();
            let before = Some(told.data.bytes());
            for seq in said {
                assert_eq!(all.apply(at, (*seq, NodeId(2)), "room", &here, before, 10).told, None);
            }
            all.doubt(10);
            let change = all.apply(at, (20, NodeId(1)), "room", &gone, before, 10);
            let removal = Publication::removal("alice");
            assert_eq!(
                change.told,
                is_told.then_some(removal),
                "as it is told by those who never read the rest"
            );
            assert_eq!(all.has(NodeId(2)), !is_told);
        }
    }
}
