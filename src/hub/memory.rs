//! What the hub takes, and what it gives when memory is short.

use super::Hub;
use super::channel::{Channel, Entry};
use super::latest::ENTRY_BYTES;
use super::subscriber::{Many, Membership, Memberships, Subscriber};
use crate::id::Seq;
use crate::time::Instant;

/// Bytes of a channel beside itself and its name: its places among the names and the timers, and of the allocator.
const CHANNEL_BYTES: usize = 128;
/// Bytes of a membership beside itself: its places in the channel's list and among those with news, with as much
/// room again as a vector that grows may have.
const MEMBERSHIP_BYTES: usize = size_of::<Membership>() + 2 * size_of::<Entry>();

impl Hub {
    /// About how many bytes history, channels and subscribers take, without what only
    /// [`Hub::membership_bytes`] knows. Costs nothing.
    pub fn bytes(&self) -> usize {
        self.history.bytes()
            + self.names.bytes()
            + self.feeds.bytes()
            + self.ids.bytes()
            + self.channels.len() * (size_of::<Channel>() + CHANNEL_BYTES)
            + self.subscribers.len() * (size_of::<Subscriber>() + size_of::<Entry>())
            + (self.keys + self.removals.len()) * ENTRY_BYTES
    }

    /// About how many bytes take the memberships of subscribers of several channels, and patterns. Looks at every
    /// subscriber.
    pub fn membership_bytes(&self) -> usize {
        let several = |memberships: &Memberships| match memberships {
            Memberships::One { .. } => 0,
            Memberships::Many(many) => size_of::<Many>() + many.all.len() * MEMBERSHIP_BYTES,
        };
        let patterns = self.patterns.values().flatten();
        self.subscribers.iter().map(|(_, subscriber)| several(&subscriber.memberships)).sum::<usize>()
            + patterns.map(|pattern| pattern.as_str().len() + size_of_val(pattern)).sum::<usize>()
    }

    /// Throws away `bytes` of what is kept for channels without subscribers, or all of it, the oldest first.
    /// Returns how many bytes that were.
    pub fn shed_idle(&mut self, now: Instant, bytes: usize) -> usize {
        self.shed(now, bytes, |channel, _| channel.places() == 0)
    }

    /// The same of all channels, but what subscribers are about to get stays, and `keep` bytes of history in all.
    /// Who comes back for what went is told of the gap.
    pub fn shed_heard(&mut self, now: Instant, bytes: usize, keep: usize) -> usize {
        let ready = self.ready.iter().filter_map(|&key| self.subscribers.get(key));
        let had = ready.filter(|subscriber| subscriber.queued).map(|subscriber| subscriber.after).min();
        let had = had.unwrap_or(Seq::MAX);
        self.shed(now, bytes.min(self.history.bytes().saturating_sub(keep)), |_, seq| seq <= had)
    }

    fn shed(&mut self, now: Instant, bytes: usize, may_go: impl Fn(&Channel, Seq) -> bool) -> usize {
        let (evicted, shed, emptied) = self.history.shed(&mut self.channels, now, bytes, may_go);
        self.counts.messages_evicted += evicted as u64;
        if self.history.has_lost() {
            self.note_lost();
        }
        emptied.into_iter().for_each(|key| self.schedule(now, key));
        shed
    }
}
