//! Who has something to pull, and who has to end because its patterns match too much.

use super::Hub;
use super::key::{Owner, SubscriberKey};
use super::subscriber::Subscriber;
use crate::id::MessageId;
use crate::table::Table;
use crate::time::Instant;
use std::collections::VecDeque;

impl Hub {
    /// The next subscriber that may have something to pull; each is named once until it is marked again, be it here or by
    /// [`Hub::next_bulk`].
    pub fn next_ready(&mut self) -> Option<SubscriberKey> {
        next_queued(&mut self.ready, &mut self.subscribers)
    }

    /// The same of those who have a large delivery before them.
    pub fn next_bulk(&mut self) -> Option<SubscriberKey> {
        next_queued(&mut self.bulk, &mut self.subscribers)
    }

    /// Whether [`Hub::next_ready`] has anybody to name.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether [`Hub::next_bulk`] has anybody to name.
    pub fn has_bulk(&self) -> bool {
        !self.bulk.is_empty()
    }

    /// Whether the subscriber waits to be named. Who does not has nothing to pull.
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

    /// Marks one subscriber ready for a large delivery, which comes behind those to others. Until then, nothing marks it
    /// again.
    pub fn mark_bulk(&mut self, key: SubscriberKey) {
        let subscriber = &mut self.subscribers[key];
        if !subscriber.queued {
            subscriber.queued = true;
            self.bulk.push_back(key);
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

/// The first of a queue who is still there and waits.
fn next_queued(
    queue: &mut VecDeque<SubscriberKey>,
    subscribers: &mut Table<SubscriberKey, Subscriber>,
) -> Option<SubscriberKey> {
    while let Some(key) = queue.pop_front() {
        // A key may be stale: its subscriber left, or left and the place was taken again.
        if let Some(subscriber) = subscribers.get_mut(key)
            && std::mem::take(&mut subscriber.queued)
        {
            return Some(key);
        }
    }
    None
}
