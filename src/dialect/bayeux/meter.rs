//! How often a peer may name sessions that do not exist.
//!
//! A client that ignores advice asks again and again, and each question costs a parse and an answer. Most who
//! ask are honest, though: after a restart of the server every client names its old session once. So many a
//! second are answered, and the rest are told to come later, which spreads the return of the others.

use crate::time::Instant;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

/// Peers are told apart by so many places; a few may share one.
const PLACES: usize = 1024;

/// Questions of each peer in the second that runs.
#[derive(Debug)]
pub struct Meter {
    hasher: RandomState,
    /// The second, and how many there were in it.
    counts: Box<[(u32, u32)]>,
}

impl Meter {
    /// Nobody has asked.
    pub fn new() -> Self {
        Self { hasher: RandomState::new(), counts: vec![(0, 0); PLACES].into() }
    }

    /// Whether `peer` has used up its questions.
    pub fn is_full(&self, now: Instant, peer: IpAddr, per_second: u32) -> bool {
        let (second, count) = self.counts[self.place(peer)];
        second == second_of(now) && count >= per_second
    }

    /// Notes a question.
    pub fn count(&mut self, now: Instant, peer: IpAddr) {
        let place = self.place(peer);
        let entry = &mut self.counts[place];
        if entry.0 != second_of(now) {
            *entry = (second_of(now), 0);
        }
        entry.1 = entry.1.saturating_add(1);
    }

    fn place(&self, peer: IpAddr) -> usize {
        self.hasher.hash_one(peer) as usize % PLACES
    }
}

const fn second_of(now: Instant) -> u32 {
    (now.as_millis() / 1000) as u32
}
