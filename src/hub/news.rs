//! Which of several channels of one subscriber have news, in the order of what comes next there.
//!
//! A live subscriber is told of news in the order of their numbers: a queue takes them at one end and gives them at the
//! other. What is left over of a backlog is put back where it belongs, in an ordered set. So a subscriber of ten
//! thousand channels costs as much as those that speak, and one that is far behind on all of them costs, for each
//! message, as much as it takes to find the next.

use crate::carry::carry;
use crate::id::Seq;
use std::collections::{BTreeSet, VecDeque};

/// The place of an entry that has been taken out of the queue's middle.
const NOWHERE: u32 = u32::MAX;
/// So many such entries are left where they are.
const LEFT_BEHIND: usize = 64;

/// Memberships by a number that the next message there has, or is newer than.
#[derive(Debug)]
pub struct News {
    fresh: VecDeque<(Seq, u32)>,
    behind: BTreeSet<(Seq, u32)>,
    /// How many of `fresh` have been taken out of its middle.
    dead: usize,
    /// Gaps have been looked for where something is next that is older than this; what is newer is not pulled yet.
    pub looked_up_to: Seq,
}

carry! {
    struct News { fresh, behind, dead, looked_up_to }
}

impl Default for News {
    fn default() -> Self {
        Self { fresh: VecDeque::new(), behind: BTreeSet::new(), dead: 0, looked_up_to: Seq::MAX }
    }
}

impl News {
    /// How many memberships have news.
    pub fn len(&self) -> usize {
        self.fresh.len() - self.dead + self.behind.len()
    }

    /// Adds a membership where message `seq` has just been published: it is newer than all.
    pub fn push(&mut self, seq: Seq, place: u32) {
        debug_assert!(self.fresh.back().is_none_or(|&(last, _)| last <= seq));
        self.fresh.push_back((seq, place));
    }

    /// What is published from now on may have lower numbers than what is here.
    pub fn unsort(&mut self) {
        let fresh = self.fresh.drain(..).filter(|&(_, place)| place != NOWHERE);
        self.behind.extend(fresh);
        self.dead = 0;
    }

    /// Adds a membership anywhere.
    pub fn insert(&mut self, seq: Seq, place: u32) {
        self.behind.insert((seq, place));
    }

    /// Takes a membership out that was added with `seq`.
    pub fn remove(&mut self, seq: Seq, place: u32) {
        if self.behind.remove(&(seq, place)) {
            return;
        }
        let at = self.fresh.partition_point(|&(other, _)| other < seq);
        // A message of several topics is listed once for each.
        let mut same = self.fresh.range_mut(at..).take_while(|entry| entry.0 == seq);
        if let Some(entry) = same.find(|entry| entry.1 == place) {
            entry.1 = NOWHERE;
            self.dead += 1;
        }
        // Nearly always it was the first.
        while let Some(&(_, NOWHERE)) = self.fresh.front() {
            self.fresh.pop_front();
            self.dead -= 1;
        }
        if self.dead > LEFT_BEHIND + self.fresh.len() / 2 {
            self.fresh.retain(|&(_, place)| place != NOWHERE);
            self.dead = 0;
        }
    }

    /// The first of them.
    pub fn first(&self) -> Option<(Seq, u32)> {
        self.in_order().next()
    }

    /// All of them, what comes next first.
    pub fn in_order(&self) -> impl Iterator<Item = (Seq, u32)> {
        let mut fresh = self.fresh.iter().copied().filter(|&(_, place)| place != NOWHERE).peekable();
        let mut behind = self.behind.iter().copied().peekable();
        std::iter::from_fn(move || match (fresh.peek(), behind.peek()) {
            (Some(first), Some(other)) if other < first => behind.next(),
            (None, _) => behind.next(),
            _ => fresh.next(),
        })
    }

    /// Whether there may be more to pull than where gaps have been looked for.
    pub const fn is_cut(&self) -> bool {
        self.looked_up_to != Seq::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Random;

    #[test]
    fn agrees_with_a_sorted_list() {
        let mut random = Random::new(7);
        for _ in 0..50 {
            let (mut news, mut list) = (News::default(), Vec::new());
            for seq in 1..400 {
                let place = seq as u32;
                match random.below(4) {
                    0 | 1 => {
                        news.push(seq, place);
                        list.push((seq, place));
                    }
                    2 if seq > 1 => {
                        let entry = (1 + random.below(seq), 1000 + place);
                        news.insert(entry.0, entry.1);
                        list.push(entry);
                    }
                    _ if list.is_empty() => {}
                    _ => {
                        let (seq, place) = list.swap_remove(random.below(list.len() as u64) as usize);
                        news.remove(seq, place);
                    }
                }
                list.sort_unstable();
                assert_eq!((news.len(), news.first()), (list.len(), list.first().copied()));
                assert!(news.in_order().eq(list.iter().copied()));
                if random.one_in(9) && !list.is_empty() {
                    let (seq, place) = list.remove(0);
                    news.remove(seq, place);
                }
            }
        }
    }
}
