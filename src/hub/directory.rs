//! Channels by name, in the order of their names.
//!
//! Who publishes looks up one name, and in an ordered map it is compared with a dozen others, each of them somewhere
//! else in memory. So a name's hash says where it was found lately. That is a hint and no more: whoever makes names
//! that share a place has them looked up in order, which is what would be done without hints.

use super::channel::{Channel, ChannelKey};
use slab::Slab;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

/// Places for hints per channel, so that few share one.
const HINTS_PER_CHANNEL: usize = 4;
/// Most places for hints.
const HINTS_MAX: usize = 1 << 16;
/// A place without a hint.
const NO_HINT: ChannelKey = ChannelKey::MAX;

/// The names of all channels.
#[derive(Debug, Default)]
pub struct Directory {
    in_order: BTreeMap<Rc<str>, ChannelKey>,
    /// A power of two of them, or none.
    hints: Vec<ChannelKey>,
    /// Bytes of the names.
    bytes: usize,
}

impl Directory {
    /// Bytes of the names.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The channel of that name.
    pub fn get(&self, name: &str) -> Option<ChannelKey> {
        self.in_order.get(name).copied()
    }

    /// The same for whoever is likely to ask again.
    pub fn find(&mut self, channels: &Slab<Channel>, name: &str) -> Option<ChannelKey> {
        let place = self.place(name)?;
        let hint = self.hints[place];
        if channels.get(hint as usize).is_some_and(|channel| **channel.name() == *name) {
            return Some(hint);
        }
        let key = self.get(name)?;
        self.hints[place] = key;
        Some(key)
    }

    /// Where the hint for `name` is, if there are any.
    fn place(&self, name: &str) -> Option<usize> {
        let mask = self.hints.len().checked_sub(1)?;
        Some(short_hash(name.as_bytes()) as usize & mask)
    }

    /// The channels whose name begins with `prefix`, in the order of their names.
    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a Rc<str>, ChannelKey)> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let names = self.in_order.range::<str, _>(from).map(|(name, &key)| (name, key));
        names.take_while(move |(name, _)| name.starts_with(prefix))
    }

    /// Enters a new name.
    pub fn insert(&mut self, name: Rc<str>, key: ChannelKey) {
        self.bytes += name.len();
        self.in_order.insert(name, key);
        let places = (self.in_order.len() * HINTS_PER_CHANNEL).min(HINTS_MAX);
        if places > self.hints.len() {
            self.hints = vec![NO_HINT; places.next_power_of_two()];
        }
    }

    /// Strikes out a name.
    pub fn remove(&mut self, name: &str) {
        if self.in_order.remove(name).is_some() {
            self.bytes -= name.len();
        }
    }

    /// Panics if the names are not counted right.
    #[cfg(any(test, feature = "check"))]
    pub fn check(&self) {
        assert_eq!(self.in_order.keys().map(|name| name.len()).sum::<usize>(), self.bytes);
    }
}

/// Tells short texts apart cheaply, where nothing depends on how well: whoever wants to can make texts of equal hash.
pub fn short_hash(text: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash.rotate_left(29) ^ word).wrapping_mul(ODD);
    let (words, rest) = text.as_chunks::<8>();
    let hash = words.iter().fold(0, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let hash = rest.iter().fold(hash, |hash, &byte| mix(hash, byte.into()));
    hash >> 32
}
