//! Publications that were sent again because their answer got lost.
//!
//! Faye's client repeats every message with the same id until it is answered. A publication with the session,
//! id, channel and data of one a short while ago is that one, and is not published a second time. All four
//! count, so that a client which gives all its messages one id loses nothing.

use crate::id::Key;
use crate::time::Instant;
use std::collections::{BTreeSet, VecDeque};
use std::hash::Hash;

/// Milliseconds for which a publication is remembered.
const MEMORY_MS: u64 = 120_000;

/// The publications remembered, by a hash of 64 bits.
#[derive(Debug)]
pub struct Repeats {
    max: usize,
    key: Key,
    known: BTreeSet<u64>,
    order: VecDeque<(u64, Instant)>,
}

impl Repeats {
    /// Remembers at most `max`.
    pub const fn new(max: usize, key: Key) -> Self {
        Self { max, key, known: BTreeSet::new(), order: VecDeque::new() }
    }

    /// Notes a publication. Returns whether it is new.
    pub fn is_new(&mut self, now: Instant, publication: impl Hash) -> bool {
        while self.order.front().is_some_and(|&(_, since)| since + MEMORY_MS <= now) {
            self.forget_oldest();
        }
        let hash = self.key.hash(publication);
        if !self.known.insert(hash) {
            return false;
        }
        self.order.push_back((hash, now));
        if self.order.len() > self.max {
            self.forget_oldest();
        }
        true
    }

    fn forget_oldest(&mut self) {
        if let Some((hash, _)) = self.order.pop_front() {
            self.known.remove(&hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Seed;

    #[test]
    fn a_repeat_is_known_for_a_while_and_room_is_bounded() {
        let mut repeats = Repeats::new(2, Seed::of_number(1).key("test"));
        let at = Instant::from_millis;
        assert!(repeats.is_new(at(0), "a"));
        assert!(!repeats.is_new(at(MEMORY_MS - 1), "a"));
        assert!(repeats.is_new(at(MEMORY_MS), "a"));
        assert!(repeats.is_new(at(MEMORY_MS), "b") && repeats.is_new(at(MEMORY_MS), "c"));
        assert!(repeats.is_new(at(MEMORY_MS), "a"), "the oldest had to go");
        assert_eq!((repeats.known.len(), repeats.order.len()), (2, 2));
    }
}
