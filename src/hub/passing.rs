//! What passes: messages and channels whose time is over, channels that are deleted.

use super::Hub;
use super::key::{ChannelKey, Owner, SubscriberKey};
use super::latest::Latest;
use super::ring::Gone;
use crate::id::MessageId;
use crate::time::Instant;

impl Hub {
    /// Sees to it that the channel's timer fires when the next thing happens to it, or before.
    pub(super) fn schedule(&mut self, now: Instant, key: ChannelKey) {
        let channel = &self.channels[key];
        let mut next = channel.ring.next_expiry();
        if let Some(latest) = channel.latest() {
            next = next.into_iter().chain(latest.next_expiry()).min();
        }
        match next {
            // With every message of a full ring it moves on: a timer that fires too early finds out.
            Some(expiry) => self.timers.set_by(key, expiry),
            None if channel.is_idle() => {
                self.timers.set(key, now.plus_seconds(self.idle_seconds));
            }
            None => self.timers.clear(key),
        }
    }

    /// Lets messages and channels expire whose time has come, lets go of frames that all have who they were for, and
    /// keeps the limits that publishing leaves for later: the count of each ring, and the bytes of frames encoded since.
    ///
    /// Call it when nobody is ready any more, so that bursts and messages of TTL 0 reach those they are
    /// for.
    pub fn tick(&mut self, now: Instant) {
        self.tick_while(now, || true);
    }

    /// The same; of what expires, some is left for the next call when there is no more `time`.
    pub fn tick_while(&mut self, now: Instant, mut time: impl FnMut() -> bool) {
        self.end_settled(now);
        if self.feeds.is_on() {
            self.empty_feeds();
        }
        let cut_at = |key, at| self.timers.set_by(key, at);
        self.counts.messages_evicted += self.history.trim(&mut self.channels, now, cut_at) as u64;
        if !self.in_delivery.is_empty() {
            self.settle_groups();
        }
        while let Some(key) = self.timers.expire(now) {
            self.lapse(now, key);
            if !time() {
                break;
            }
        }
        if self.has_unfitted() {
            self.fit_some(now);
        }
        if self.history.has_lost() {
            self.note_lost();
        }
    }

    /// Takes out what is too old on a channel whose timer has fired, or beyond the count and past the grace; or the
    /// channel, if it has been idle.
    #[inline(never)]
    pub(super) fn lapse(&mut self, now: Instant, key: ChannelKey) {
        let channel = &mut self.channels[key];
        let is_due = channel.ring.next_expiry().is_some_and(|expiry| expiry <= now);
        let gone = if is_due { self.history.expire(key, channel, now) } else { Gone::default() };
        self.counts.messages_evicted += self.history.cut(key, channel, now) as u64;
        self.counts.messages_expired += gone.expired as u64;
        self.counts.messages_evicted += gone.evicted as u64;
        if channel.keyed.is_some() {
            self.remove_expired(now, key);
        }
        let channel = &self.channels[key];
        match gone == Gone::default() && channel.ring.is_empty() && channel.is_idle() {
            true => self.forget(key),
            false => {
                self.schedule(now, key);
                if let Some(at) = self.history.next_cut(&self.channels[key]) {
                    self.timers.set_by(key, at);
                }
            }
        }
    }

    /// When [`Hub::tick`] has something to do next.
    pub fn next_deadline(&self) -> Instant {
        let soon = if self.has_unfitted() { Instant::default() } else { Instant::NEVER };
        self.timers.next_deadline().min(self.ticks.next()).min(soon)
    }

    /// Forgets the history of channel `name`. Of its subscribers, those whose owner `ends` with it are
    /// detached from all their channels and returned, with where they were; while others listen, the channel goes on,
    /// empty. Whoever has left it, and has not had all that was published before, goes on elsewhere and is told of a gap.
    /// `None` if there is no such channel.
    pub fn delete(
        &mut self,
        now: Instant,
        name: &str,
        ends: impl Fn(Owner) -> bool,
    ) -> Option<Vec<(Owner, MessageId)>> {
        let key = self.names.get(name)?;
        let list = self.channels[key].members();
        let members: Vec<SubscriberKey> = list.map(|entry| entry.subscriber).collect();
        let mut ended = Vec::new();
        for member in members {
            let owner = self.owner(member);
            if !self.has_left(member, key) && ends(owner) {
                ended.push((owner, self.position(member)));
                self.detach(now, member);
            }
        }
        // One that never had a message has gone with its last subscriber.
        let Some(channel) = self.channels.get_mut(key) else { return Some(ended) };
        self.counts.messages_evicted += self.history.clear(key, channel, now) as u64;
        if self.history.has_lost() {
            self.note_lost();
        }
        if self.clear_latest(key) {
            // Whoever has had its newest message has to be told all the same: the values are gone.
            let lost = self.next_id().seq;
            let channel = &mut self.channels[key];
            channel.ring.lose(lost);
            self.history.note_lost(channel);
            self.mark_ready(key);
        }
        match self.channels[key].places() == 0 {
            true => self.forget(key),
            false => self.schedule(now, key),
        }
        Some(ended)
    }

    /// Removes an empty channel, leaving a tombstone.
    pub(super) fn forget(&mut self, key: ChannelKey) {
        self.timers.clear(key);
        // Only removals may be left of its keys.
        let newest_removal = self.channels[key].latest().map_or(0, Latest::newest_removal);
        self.clear_latest(key);
        self.change_groups(key, |channel| channel.keyed = None);
        self.leave_feeds(key);
        self.forget_lost_beside(key);
        let channel = self.channels.remove(key);
        debug_assert!(channel.ring.is_empty() && channel.places() == 0);
        self.names.remove(channel.name());
        match channel.spoken {
            true => {
                self.history.note_buried();
                let upto = channel.ring.evicted().max(newest_removal);
                self.tombstones.bury(channel.name(), upto, channel.ring.lost_at());
            }
            false => self.silent -= 1,
        }
    }
}
