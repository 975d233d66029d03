//! Memberships that have been left while something was on its way to history that may still be for them: each waits
//! until that has its number, or is refused.
//!
//! What is on its way are proposals; to the hub, each is a mark that grows. A membership is in here for as long as it
//! waits, and no longer: whoever comes back, or ends, leaves nothing behind.

use super::key::{ChannelKey, SubscriberKey};
use crate::id::Seq;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// The last of what was accepted before a membership was left: its proposal, and the last record of that. While records
/// have no numbers, they are counted from 1.
pub type Until = (u64, Seq);

/// All of them.
#[derive(Debug, Default)]
pub struct Parting {
    /// With the newest message there was: so far, it is owed everything whatever becomes of the rest.
    waiting: BTreeMap<(SubscriberKey, ChannelKey), (Until, Seq)>,
    /// The same, by what they wait for: an answer costs what waits for it, and not what waits.
    order: BTreeSet<(u64, SubscriberKey, ChannelKey)>,
    /// How many have been looked at, for tests.
    #[cfg(test)]
    pub looked_at: usize,
}

impl Parting {
    /// Takes note that a membership waits, which is owed everything up to `newest` anyway.
    pub fn add(&mut self, key: SubscriberKey, channel: ChannelKey, until: Until, newest: Seq) {
        self.forget(key, channel);
        self.waiting.insert((key, channel), (until, newest));
        self.order.insert((until.0, key, channel));
    }

    /// Takes note that a membership does not wait any more. Returns for what it has waited.
    pub fn forget(&mut self, key: SubscriberKey, channel: ChannelKey) -> Option<(Until, Seq)> {
        let waited = self.waiting.remove(&(key, channel))?;
        self.order.remove(&(waited.0.0, key, channel));
        Some(waited)
    }

    /// Finds one that waits for one of these proposals.
    pub fn next(&mut self, proposals: &RangeInclusive<u64>) -> Option<(SubscriberKey, ChannelKey)> {
        let first = (*proposals.start(), SubscriberKey::new(0), ChannelKey::new(0));
        let &(proposal, key, channel) = self.order.range(first..).next()?;
        #[cfg(test)]
        {
            self.looked_at += 1;
        }
        proposals.contains(&proposal).then_some((key, channel))
    }

    /// Panics if those that wait are others than these.
    #[cfg(any(test, feature = "check"))]
    pub fn check(&self, waiting: impl Iterator<Item = (SubscriberKey, ChannelKey)>) {
        let waiting: BTreeSet<_> = waiting.collect();
        assert!(self.waiting.keys().eq(&waiting), "{:?} wait, and not {waiting:?}", self.waiting);
        let ordered: BTreeSet<_> = self.order.iter().map(|&(_, key, channel)| (key, channel)).collect();
        assert_eq!((self.order.len(), ordered), (waiting.len(), waiting));
    }
}
