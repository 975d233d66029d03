//! Recent publications by their idempotency key, so that a repeated request publishes nothing.

use crate::hub::Published;
use crate::time::Instant;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Milliseconds a key is remembered.
pub const REMEMBERED_MS: u64 = 120_000;

/// What a publication did: its channels and messages.
pub type Done = Vec<(String, Published)>;

/// A memory of publications, bounded in number and bytes; the oldest is forgotten first.
#[derive(Debug)]
pub struct Recent {
    max: usize,
    bytes_max: usize,
    /// What the keys, and what is remembered with them, take.
    bytes: usize,
    by_key: BTreeMap<Rc<str>, Done>,
    order: VecDeque<(Instant, Rc<str>)>,
}

impl Recent {
    /// Room for `max` keys, and for `bytes_max` bytes of them unless a single one is larger.
    pub fn new(max: usize, bytes_max: usize) -> Self {
        Self { max, bytes_max, bytes: 0, by_key: BTreeMap::new(), order: VecDeque::new() }
    }

    /// Bytes that are remembered.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What the publication with this key did, if it is remembered.
    pub fn get(&mut self, now: Instant, key: &str) -> Option<&Done> {
        while self.order.front().is_some_and(|(done_at, _)| *done_at + REMEMBERED_MS <= now) {
            self.forget_oldest();
        }
        self.by_key.get(key)
    }

    /// Remembers what the publication with this (new) key did. Returns how many others had to be forgotten.
    #[inline(never)]
    pub fn insert(&mut self, now: Instant, key: String, done: Done) -> usize {
        let key: Rc<str> = key.into();
        self.bytes += cost(&key, &done);
        self.order.push_back((now, Rc::clone(&key)));
        self.by_key.insert(key, done);
        let before = self.order.len();
        while self.order.len() > self.max || self.bytes > self.bytes_max && self.order.len() > 1 {
            self.forget_oldest();
        }
        before - self.order.len()
    }

    fn forget_oldest(&mut self) {
        let Some((_, key)) = self.order.pop_front() else { return };
        let Some(done) = self.by_key.remove(&key) else { return };
        self.bytes -= cost(&key, &done);
    }
}

/// Bytes that a key and what is remembered with it take.
fn cost(key: &str, done: &Done) -> usize {
    let entry = size_of::<(Rc<str>, Done)>() + size_of::<(Instant, Rc<str>)>();
    let messages = done.iter().map(|(channel, _)| channel.len() + size_of::<(String, Published)>());
    entry + key.len() + messages.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_forgotten_in_time_and_beyond_the_limit() {
        let at = Instant::from_millis;
        let mut recent = Recent::new(2, 1 << 20);
        recent.insert(at(0), "a".into(), Vec::new());
        assert!(recent.get(at(119_999), "a").is_some());
        assert!(recent.get(at(120_000), "a").is_none());
        for key in ["b", "c", "d"] {
            recent.insert(at(120_000), key.into(), Vec::new());
        }
        assert!(recent.get(at(120_001), "b").is_none(), "the oldest gave way");
        assert!(recent.get(at(120_001), "d").is_some());
        assert!(recent.by_key.len() == 2 && recent.order.len() == 2);
    }

    #[test]
    fn keys_are_bounded_in_bytes() {
        let now = Instant::from_millis(0);
        let key = |number: usize| format!("{number:0100}");
        let one = cost(&key(0), &Vec::new());
        let mut recent = Recent::new(1000, 3 * one);
        let forgotten: Vec<usize> =
            (0..4).map(|number| recent.insert(now, key(number), Vec::new())).collect();
        assert_eq!(forgotten, [0, 0, 0, 1], "three fit, to the byte");
        assert_eq!(recent.bytes(), 3 * one);
        assert!(recent.get(now, &key(0)).is_none() && recent.get(now, &key(1)).is_some());
        assert_eq!(recent.insert(now, "x".repeat(4 * one), Vec::new()), 3);
        assert!(recent.get(now, &"x".repeat(4 * one)).is_some(), "the newest stays, whatever its size");
        recent.insert(now, key(5), Vec::new());
        assert_eq!((recent.bytes(), recent.order.len(), recent.by_key.len()), (one, 1, 1));
    }
}
