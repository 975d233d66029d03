//! A channel whose listeners are noted: who of them is told, and when that they have gone.

use super::{COUNT_MS, LOOKS_PER_TURN, News, count, value};
use crate::carry::carry;
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

#[derive(Debug, Default)]
pub(super) struct Room {
    pub members: BTreeMap<Box<str>, Member>,
    /// Members that have been told.
    pub told: usize,
    /// Connections without a subject.
    pub anonymous: usize,
    /// Members that have gone, and when that is told.
    pub leaving: BTreeSet<(Instant, Box<str>)>,
    /// The counts that were told last, and when.
    counted: (usize, usize),
    last_count: Option<Instant>,
    /// Not all members are told, and so their count was.
    is_counted: bool,
    /// When counts are to be told.
    count_at: Option<Instant>,
    /// When the timer of the room is set.
    pub timer: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Member {
    pub connections: usize,
    pub info: Option<Box<str>>,
    /// Since when that is told of it.
    pub since: Instant,
    pub is_told: bool,
    /// When its leave is told, if it has gone.
    pub leaves: Option<Instant>,
}

carry! {
    struct Room { members, told, anonymous, leaving, counted, last_count, is_counted, count_at, timer }
}

carry! {
    struct Member { connections, info, since, is_told, leaves }
}

impl Room {
    /// Tells what is to be told: at most `max` members, unless it is one of several servers, which tell of all together.
    /// Returns how many have gone.
    pub fn settle(
        &mut self,
        now: Instant,
        max: Option<usize>,
        channel: &Rc<str>,
        news: &mut Vec<News>,
    ) -> usize {
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
        if self.told < self.members.len() && max.is_none_or(|max| self.members.len() <= max) {
            for (subject, member) in self.members.iter_mut().filter(|(_, member)| !member.is_told) {
                member.is_told = true;
                self.told += 1;
                let value = value(subject, member.info.as_deref());
                news.push(News::Here { channel: Rc::clone(channel), subject: subject.clone(), value });
            }
        }
        self.count(now, max.is_none(), channel, news);
        gone
    }

    /// Tells how many are here while not all of them are told, and once more when they are. To other servers it always tells
    /// how many have no name.
    fn count(&mut self, now: Instant, is_shared: bool, channel: &Rc<str>, news: &mut Vec<News>) {
        let is_crowd = is_shared || self.told < self.members.len();
        let members = if is_shared { 0 } else { self.members.len() };
        let counts = (members, self.anonymous);
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

    /// How many without a name other servers were told of last.
    pub const fn counted(&self) -> usize {
        self.counted.1
    }

    /// Notes that other servers were told how many have no name, for whatever reason.
    pub const fn note_counted(&mut self, anonymous: usize) {
        self.counted = (0, anonymous);
    }

    /// When something is due.
    pub fn due(&self) -> Option<Instant> {
        let leaves = self.leaving.first().map(|(leaves, _)| *leaves);
        leaves.into_iter().chain(self.count_at).min()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.anonymous == 0 && self.count_at.is_none()
    }
}
