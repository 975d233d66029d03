//! Recent publications by their idempotency key, so that a repeated request publishes nothing.

use crate::hub::Published;
use crate::time::Instant;
use std::collections::{HashMap, VecDeque};

/// Milliseconds a key is remembered.
const REMEMBERED_MS: u64 = 120_000;

/// What a publication did: its channels and messages.
pub type Done = Vec<(String, Published)>;

/// A bounded memory of publications; the oldest is forgotten first.
#[derive(Debug)]
pub struct Recent {
    max: usize,
    by_key: HashMap<String, Done>,
    order: VecDeque<(Instant, String)>,
}

impl Recent {
    /// Room for `max` keys.
    pub fn new(max: usize) -> Self {
        Self { max, by_key: HashMap::new(), order: VecDeque::new() }
    }

    /// What the publication with this key did, if it is remembered.
    pub fn get(&mut self, now: Instant, key: &str) -> Option<&Done> {
        self.forget(|done_at, _| done_at + REMEMBERED_MS <= now);
        self.by_key.get(key)
    }

    /// Remembers what the publication with this (new) key did.
    pub fn insert(&mut self, now: Instant, key: String, done: Done) {
        let max = self.max;
        self.order.push_back((now, key.clone()));
        self.by_key.insert(key, done);
        self.forget(|_, count| count > max);
    }

    fn forget(&mut self, is_over: impl Fn(Instant, usize) -> bool) {
        while self.order.front().is_some_and(|(done_at, _)| is_over(*done_at, self.order.len())) {
            if let Some((_, key)) = self.order.pop_front() {
                self.by_key.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_forgotten_in_time_and_beyond_the_limit() {
        let at = Instant::from_millis;
        let mut recent = Recent::new(2);
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
}
