//! Channels by name, in the order of their names.
//!
//! Who publishes looks up one name, and in an ordered map it is compared with a dozen others, each of them somewhere
//! else in memory. So a name's hash says where it was found lately. That is a hint and no more: whoever makes names
//! that share a place has them looked up in order, which is what would be done without hints.

use super::channel::Channel;
use super::key::ChannelKey;
use crate::carry::carry;
use crate::table::Table;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

/// Places for hints per channel, so that few share one.
const HINTS_PER_CHANNEL: usize = 4;
/// Most places for hints.
const HINTS_MAX: usize = 1 << 16;
/// A place without a hint.
const NO_HINT: ChannelKey = ChannelKey::NONE;

/// The names of all channels.
#[derive(Debug, Default)]
pub struct Directory {
    in_order: BTreeMap<Rc<str>, ChannelKey>,
    /// By the hash of a name.
    hints: Vec<ChannelKey>,
    /// Bytes of the names.
    bytes: usize,
}

carry! {
    struct Directory { in_order, hints, bytes }
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
    pub fn find(&mut self, channels: &Table<ChannelKey, Channel>, name: &str) -> Option<ChannelKey> {
        // Without a place for hints there is no channel.
        let place = place_of(name.as_bytes(), self.hints.len());
        let hint = self.hints.get_mut(place)?;
        if channels.get(*hint).is_none_or(|channel| **channel.name() != *name) {
            *hint = *self.in_order.get(name)?;
        }
        Some(*hint)
    }

    /// The same, but it leaves no hint.
    pub fn peek(&self, channels: &Table<ChannelKey, Channel>, name: &str) -> Option<ChannelKey> {
        let hint = *self.hints.get(place_of(name.as_bytes(), self.hints.len()))?;
        match channels.get(hint) {
            Some(channel) if **channel.name() == *name => Some(hint),
            _ => self.get(name),
        }
    }

    /// The channels whose name begins with `prefix`, in the order of their names.
    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a Rc<str>, ChannelKey)> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let names = self.in_order.range::<str, _>(from).map(|(name, &key)| (name, key));
        names.take_while(move |(name, _)| name.starts_with(prefix))
    }

    /// The channels behind the name `after`, in the order of their names.
    pub fn behind(&self, after: &str) -> impl Iterator<Item = (&Rc<str>, ChannelKey)> {
        let from = (Bound::Excluded(after), Bound::Unbounded);
        self.in_order.range::<str, _>(from).map(|(name, &key)| (name, key))
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

/// Which of so many `places` (at most 2^32) a text has: cheap, and even for texts of all kinds, but whoever wants to can
/// make texts that share one.
pub fn place_of(text: &[u8], places: usize) -> usize {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash.rotate_left(29) ^ word).wrapping_mul(ODD);
    let begin = text.len() as u64;
    let hash = match (text.last_chunk(), text.first_chunk(), text.last_chunk()) {
        // The last word may overlap the one before.
        (Some(last), ..) => {
            let hash =
                text.as_chunks().0.iter().fold(begin, |hash, word| mix(hash, u64::from_le_bytes(*word)));
            mix(hash, u64::from_le_bytes(*last))
        }
        (None, Some(first), Some(last)) => {
            let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
            mix(begin, u64::from(first) << 32 | u64::from(last))
        }
        _ => text.iter().fold(begin, |hash, &byte| mix(hash, byte.into())),
    };
    // The highest bits of a product depend on all bits of what was multiplied.
    (((hash >> 32) * places as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_that_are_alike_have_places_of_their_own() {
        let shapes: [fn(u32) -> String; 6] = [
            |n| format!("{n}"),
            |n| format!("ticks{n:03}"),
            |n| format!("ticks{n}"),
            |n| format!("prices/nasdaq{n:03}"),
            |n| format!("{n:03}/prices/of/the/day"),
            |n| format!("user/{:08x}", n * 0x1000),
        ];
        for shape in shapes {
            let place = |n| place_of(shape(n).as_bytes(), 4 * 1000);
            let places: HashSet<usize> = (0..1000).map(place).collect();
            // By chance it would be 885.
            assert!(places.len() > 800, "{}: {}", shape(7), places.len());
        }
        assert_eq!([0, 1].map(|places| place_of(b"a", places)), [0, 0]);
    }

    #[test]
    fn a_hint_is_believed_only_if_it_is_right() {
        let mut channels = Table::default();
        let mut names = Directory::default();
        assert_eq!(names.find(&channels, "a"), None, "nothing is known yet");
        let open = |channels: &mut Table<ChannelKey, Channel>, names: &mut Directory, name: &str| {
            let key = channels.insert(Channel::new(name.into(), 0));
            names.insert(name.into(), key);
            key
        };
        let keys: Vec<(String, ChannelKey)> = (0..500)
            .map(|number| format!("c{number}"))
            .map(|name| (name.clone(), open(&mut channels, &mut names, &name)))
            .collect();
        for (name, key) in keys.iter().chain(&keys) {
            assert_eq!(names.find(&channels, name), Some(*key));
        }
        // Every other goes, and another takes its place.
        for (name, key) in keys.iter().step_by(2) {
            names.remove(name);
            channels.remove(*key);
            assert_eq!(names.find(&channels, name), None);
            assert_eq!(open(&mut channels, &mut names, &format!("new/{name}")), *key);
            assert_eq!(names.find(&channels, name), None);
            assert_eq!(names.find(&channels, &format!("new/{name}")), Some(*key));
        }
        names.check();
    }
}
