//! What forgotten channels had lost: a bounded memory that errs on the side of telling.

use crate::id::Seq;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// The `evicted` watermark of channels that no longer exist, by a hash of their name. When a tombstone
/// itself has to go, a watermark for all unknown channels takes over what it said.
#[derive(Debug)]
pub struct Tombstones {
    max: usize,
    hasher: RandomState,
    evicted: HashMap<u64, Seq>,
    /// Hashes in the order of burial, some of them recalled or buried again since.
    order: VecDeque<(u64, Seq)>,
    watermark: Seq,
    /// The highest number that any forgotten channel had lost.
    highest: Seq,
}

impl Tombstones {
    /// Room for `max` tombstones.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            hasher: RandomState::new(),
            evicted: HashMap::new(),
            order: VecDeque::new(),
            watermark: 0,
            highest: 0,
        }
    }

    /// Remembers that channel `name`, now forgotten, had lost messages up to `evicted`.
    pub fn bury(&mut self, name: &str, evicted: Seq) {
        self.highest = self.highest.max(evicted);
        if evicted <= self.watermark {
            return;
        }
        let hash = self.hasher.hash_one(name);
        self.evicted.insert(hash, evicted);
        self.order.push_back((hash, evicted));
        while self.evicted.len() > self.max || self.order.len() > 2 * self.max + 64 {
            let Some((hash, evicted)) = self.order.pop_front() else { break };
            if self.evicted.get(&hash) == Some(&evicted) {
                self.evicted.remove(&hash);
                self.watermark = self.watermark.max(evicted);
            }
        }
    }

    /// What any forgotten channel may have lost: for those who listen to channels they do not name.
    pub const fn highest(&self) -> Seq {
        self.highest
    }

    /// What the channel `name` may have lost in a former life. Its tombstone is no longer needed.
    pub fn recall(&mut self, name: &str) -> Seq {
        self.evicted.remove(&self.hasher.hash_one(name)).unwrap_or_default().max(self.watermark)
    }
}

#[cfg(test)]
mod tests {
    use super::Tombstones;

    #[test]
    fn nothing_lost_is_ever_denied() {
        let mut stones = Tombstones::new(10);
        for seq in 1..=1000 {
            stones.bury(&format!("c{}", seq % 40), seq);
            assert!(stones.order.len() <= 84 && stones.evicted.len() <= 10);
        }
        for seq in 961..=1000 {
            assert!(stones.recall(&format!("c{}", seq % 40)) >= seq);
        }
        assert!(stones.recall("never seen") <= 990, "only what had to go speaks for everybody");
    }

    #[test]
    fn a_channel_without_losses_leaves_none() {
        let mut stones = Tombstones::new(10);
        stones.bury("quiet", 0);
        assert_eq!(stones.recall("quiet"), 0);
    }
}
