//! Latest values: of each key of a channel its newest message, be it a value or a removal, in the order of their numbers.
//!
//! What a conflating subscriber lacks is what lies here behind its cursor: however far it is behind, one message a key.
//! Removals are remembered so that whoever comes back is told of them; a bounded number, the oldest is forgotten first.

use super::message::Message;
use crate::carry::carry;
use crate::id::Seq;
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// The newest message of each key.
#[derive(Debug, Default)]
pub struct Latest {
    /// Values and remembered removals.
    in_order: BTreeMap<Seq, Rc<Message>>,
    by_key: BTreeMap<Box<str>, Seq>,
    /// Remembered removals.
    removals: BTreeSet<Seq>,
    /// When the TTL of which value runs out, of those that have one.
    expiries: BTreeSet<(Instant, Seq)>,
    /// Bytes of the values without their frames.
    bytes: usize,
    /// The highest number of a removal that was forgotten.
    forgotten: Seq,
}

carry! {
    struct Latest { in_order, by_key, removals, expiries, bytes, forgotten }
}

/// Bytes of an entry beside its message and its key: its places in both maps, which are half empty at worst.
pub const ENTRY_BYTES: usize = 96;

impl Latest {
    /// Keys that have a value.
    pub fn keys(&self) -> usize {
        self.in_order.len() - self.removals.len()
    }

    /// Whether there ever was a key.
    pub fn was_used(&self) -> bool {
        !self.in_order.is_empty() || self.forgotten > 0
    }

    /// Remembered removals.
    pub fn removals(&self) -> usize {
        self.removals.len()
    }

    /// Bytes of the values, without frames.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The highest number of a removal that was forgotten; 0 if none was.
    pub const fn forgotten(&self) -> Seq {
        self.forgotten
    }

    /// The number of the newest entry; 0 if there is none.
    pub fn newest(&self) -> Seq {
        self.in_order.last_key_value().map_or(0, |(&seq, _)| seq)
    }

    /// The number of the newest entry that is not newer than `seq`; 0 if there is none.
    pub fn newest_up_to(&self, seq: Seq) -> Seq {
        self.in_order.range(..=seq).next_back().map_or(0, |(&seq, _)| seq)
    }

    /// The number of the newest removal there ever was; 0 if there was none.
    pub fn newest_removal(&self) -> Seq {
        self.removals.last().copied().unwrap_or_default().max(self.forgotten)
    }

    /// Whether message `seq` is the newest of its key.
    pub fn contains(&self, seq: Seq) -> bool {
        self.in_order.contains_key(&seq)
    }

    /// Where message `seq` is held, if it is the newest of its key.
    pub fn holder(&mut self, seq: Seq) -> Option<&mut Rc<Message>> {
        self.in_order.get_mut(&seq)
    }

    /// The newest message of `key`, a value or a removal.
    pub fn of_key(&self, key: &str) -> Option<&Rc<Message>> {
        self.by_key.get(key).and_then(|seq| self.in_order.get(seq))
    }

    /// The value of `key` that holds at `now`.
    pub fn value(&self, key: &str, now: Instant) -> Option<&Rc<Message>> {
        self.of_key(key).filter(|message| !message.is_removal() && !message.expired(now))
    }

    /// What is newer than `after`, oldest first.
    pub fn after(&self, after: Seq) -> impl Iterator<Item = &Rc<Message>> {
        self.in_order.range(after + 1..).map(|(_, message)| message)
    }

    /// Takes the newest message of its key. Returns the one before.
    pub fn put(&mut self, message: &Rc<Message>) -> Option<Rc<Message>> {
        let key = message.key()?;
        let seq = message.id.seq;
        let before = match self.by_key.get_mut(key) {
            Some(place) => Some(std::mem::replace(place, seq)),
            None => {
                self.by_key.insert(key.into(), seq);
                None
            }
        };
        let old = before.and_then(|before| self.take(before));
        match message.is_removal() {
            true => _ = self.removals.insert(seq),
            false => {
                self.bytes += message.cost();
                if message.expires() < Instant::NEVER {
                    self.expiries.insert((message.expires(), seq));
                }
            }
        }
        self.in_order.insert(seq, Rc::clone(message));
        old
    }

    /// Takes an entry out, but for its key.
    fn take(&mut self, seq: Seq) -> Option<Rc<Message>> {
        let old = self.in_order.remove(&seq)?;
        match old.is_removal() {
            true => _ = self.removals.remove(&seq),
            false => {
                self.bytes -= old.cost();
                self.expiries.remove(&(old.expires(), seq));
            }
        }
        Some(old)
    }

    /// Takes out what is newer than `after`, which has never happened.
    pub fn take_back(&mut self, after: Seq) -> Vec<Rc<Message>> {
        self.forgotten = self.forgotten.min(after);
        let newer: Vec<Seq> = self.in_order.range(after + 1..).map(|(&seq, _)| seq).collect();
        let taken: Vec<Rc<Message>> = newer.into_iter().filter_map(|seq| self.take(seq)).collect();
        for key in taken.iter().filter_map(|message| message.key()) {
            self.by_key.remove(key);
        }
        taken
    }

    /// The number of the oldest removal remembered.
    pub fn oldest_removal(&self) -> Option<Seq> {
        self.removals.first().copied()
    }

    /// Forgets removal `seq`. Returns it, if it was remembered.
    pub fn forget_removal(&mut self, seq: Seq) -> Option<Rc<Message>> {
        if !self.removals.contains(&seq) {
            return None;
        }
        let removal = self.take(seq)?;
        if let Some(key) = removal.key() {
            self.by_key.remove(key);
        }
        self.forgotten = self.forgotten.max(seq);
        Some(removal)
    }

    /// When the first value expires.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.expiries.first().map(|&(expiry, _)| expiry)
    }

    /// A value that has expired at `now`, which is not named again.
    pub fn take_expired(&mut self, now: Instant) -> Option<Rc<Message>> {
        let (_, seq) = *self.expiries.first().filter(|(expiry, _)| *expiry <= now)?;
        self.expiries.pop_first();
        self.in_order.get(&seq).cloned()
    }

    /// The key of a value that has expired at `now`.
    pub fn expired(&self, now: Instant) -> Option<Rc<Message>> {
        let &(expiry, seq) = self.expiries.first().filter(|(expiry, _)| *expiry <= now)?;
        debug_assert!(expiry <= now);
        self.in_order.get(&seq).cloned()
    }
}

#[cfg(any(test, feature = "check"))]
impl Latest {
    /// Panics if its parts contradict each other.
    pub fn check(&self) {
        assert_eq!(self.by_key.len(), self.in_order.len());
        let mut bytes = 0;
        for (seq, message) in &self.in_order {
            assert_eq!((message.id.seq, self.by_key.get(message.key().unwrap())), (*seq, Some(seq)));
            assert_eq!(message.is_removal(), self.removals.contains(seq));
            let has_expiry = !message.is_removal() && message.expires() < Instant::NEVER;
            // One that has expired may be on its way out.
            assert!(has_expiry || !self.expiries.contains(&(message.expires(), *seq)));
            bytes += if message.is_removal() { 0 } else { message.cost() };
        }
        assert_eq!(bytes, self.bytes);
        assert!(
            self.removals
                .iter()
                .all(|seq| *seq > self.forgotten || self.removals.len() < self.in_order.len())
        );
    }
}
