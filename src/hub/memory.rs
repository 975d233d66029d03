//! What the hub takes, and what it gives when memory is short.

use super::Hub;
use super::channel::Channel;
use super::key::{Entry, SubscriberKey};
use super::latest::ENTRY_BYTES;
use super::shares::Bounds;
use super::subscriber::{Memberships, Subscriber};
use crate::config::Config;
use crate::id::Seq;
use crate::time::Instant;

/// Bytes of a channel beside itself and its name: its places among the names and the timers, and of the allocator.
const CHANNEL_BYTES: usize = 128;
/// Bytes of a membership: itself, its places in the channel's list, by its channel and among those with news, with the
/// room that what grows has.
pub(super) const MEMBERSHIP_BYTES: usize = 144;
/// The subscriptions of one address may take an eighth of the memory, unless the settings say otherwise.
const SHARES: usize = 8;

/// Bytes of templates that one address may have compared with new topics.
pub const TEMPLATE_BYTES_MAX: usize = 1 << 20;
/// The same for all addresses together.
pub const TEMPLATE_BYTES_IN_ALL: usize = 32 << 20;
/// How much templates may take.
pub(super) const TEMPLATES: Bounds = Bounds { each: TEMPLATE_BYTES_MAX, all: TEMPLATE_BYTES_IN_ALL };

/// From so many channels on, it is much work to let go of a subscriber.
const LARGE: usize = 500;

/// How much subscriptions may take.
pub(super) const fn share_bounds(config: &Config) -> Bounds {
    let limits = &config.limits;
    let each = match (limits.memory_per_address, limits.memory) {
        (0, 0) => usize::MAX,
        (0, memory) => memory / SHARES,
        (each, _) => each,
    };
    let all = if limits.memory == 0 { usize::MAX } else { limits.memory / 2 };
    Bounds { each, all }
}

impl Hub {
    /// About how many bytes history, channels and subscribers take. Costs nothing.
    pub fn bytes(&self) -> usize {
        self.history.bytes()
            + self.names.bytes()
            + self.ids.bytes()
            + self.channels.len() * (size_of::<Channel>() + CHANNEL_BYTES)
            + self.subscribers.len() * (size_of::<Subscriber>() + size_of::<Entry>())
            + (self.keys + self.removals.len()) * ENTRY_BYTES
            + self.shares.bytes()
    }

    /// Whether it is much work to let go of a subscriber.
    pub fn is_large(&self, key: SubscriberKey) -> bool {
        matches!(&self.subscribers[key].memberships, Memberships::Many(many) if many.all.len() >= LARGE)
    }

    /// Throws away `bytes` of what is kept for channels without subscribers, or all of it, the oldest first.
    /// Returns how many bytes that were.
    pub fn shed_idle(&mut self, now: Instant, bytes: usize) -> usize {
        self.shed(now, bytes, |channel, _| channel.places() == 0)
    }

    /// The same of all channels, but what subscribers are about to get stays, and `keep` bytes of history in all.
    /// Who comes back for what went is told of the gap.
    pub fn shed_heard(&mut self, now: Instant, bytes: usize, keep: usize) -> usize {
        let ready = self.ready.iter().chain(&self.bulk).filter_map(|&key| self.subscribers.get(key));
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
