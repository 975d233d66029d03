//! Who has something to pull, and who has to end because its patterns match too much.

use super::Hub;
use super::key::{Owner, SubscriberKey};
use crate::id::MessageId;
use crate::time::Instant;

impl Hub {
    /// The next subscriber that may have something to pull; each is named once until it is marked again.
    pub fn next_ready(&mut self) -> Option<SubscriberKey> {
        while let Some(key) = self.ready.pop_front() {
            // A key may be stale: its subscriber left, or left and the place was taken again.
            if let Some(subscriber) = self.subscribers.get_mut(key)
                && std::mem::take(&mut subscriber.queued)
            {
                return Some(key);
            }
        }
        None
    }

    /// Whether [`Hub::next_ready`] has anybody to name.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether [`Hub::next_bulk`] has anybody to name.
    pub fn has_bulk(&self) -> bool {
        !self.bulk.is_empty()
    }

    /// Whether the subscriber waits to be named by [`Hub::next_ready`]. Who does not has nothing to pull.
    pub fn is_ready(&self, key: SubscriberKey) -> bool {
        self.subscribers[key].queued
    }

    /// Marks one subscriber ready, because its last pull stopped early.
    pub fn mark(&mut self, key: SubscriberKey) {
        let subscriber = &mut self.subscribers[key];
        if !subscriber.queued {
            subscriber.queued = true;
            self.ready.push_back(key);
        }
    }

    /// Notes for the owner of a subscriber what it wants to be told with it, rather than look it up; opaque to the hub,
    /// 0 at first.
    pub fn note(&mut self, key: SubscriberKey, note: u8) {
        self.subscribers[key].note = note;
    }

    /// The owners of subscribers whose patterns have come to match more channels than they may, and how far they had got.
    /// They are detached.
    pub fn take_overfull(&mut self, now: Instant) -> Vec<(Owner, MessageId)> {
        let mut ended = Vec::new();
        for key in std::mem::take(&mut self.overfull) {
            // It may be listed several times.
            if let Some(subscriber) = self.subscribers.get(key) {
                ended.push((subscriber.owner, self.position(key)));
                self.detach(now, key);
            }
        }
        self.counts.subscriptions_refused += ended.len() as u64;
        ended
    }

    /// Channels that were looked at for somebody's patterns, since the hub began: the dearest that a client can
    /// ask for in few bytes.
    pub const fn looked_at(&self) -> u64 {
        self.looked_at
    }

    /// Whether [`Hub::take_overfull`] has anybody to name.
    pub const fn has_overfull(&self) -> bool {
        !self.overfull.is_empty()
    }
}
