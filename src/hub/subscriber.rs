//! A subscriber: one cursor, and the channels it listens to.

use super::channel::ChannelKey;
use super::message::Message;
use crate::id::{MessageId, Seq};
use crate::table::place;
use crate::time::Instant;

place! {
    /// Place of a subscriber in the hub. Valid from [`Hub::attach`] until [`Hub::detach`].
    SubscriberKey
}

/// Whom the hub's user thinks of when a subscriber is ready; opaque to the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner(pub u32);

/// Where a subscriber begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With what is published from now on.
    Now,
    /// With the oldest message kept.
    Oldest,
    /// With the last so many messages of each channel.
    Last(usize),
    /// After the message with this id.
    After(MessageId),
    /// With the oldest message that was published at this time or later.
    Since(Instant),
}

/// One cursor and its channels.
#[derive(Debug)]
pub struct Subscriber {
    /// Everything up to here has been delivered.
    pub(super) after: Seq,
    /// The newest message when it came: what is newer reaches it whatever its TTL.
    pub(super) joined: Seq,
    pub(super) memberships: Memberships,
    pub(super) owner: Owner,
    /// What its owner has noted; see [`Hub::note`].
    pub(super) note: u8,
    /// In the ready queue.
    pub(super) queued: bool,
    /// It named an id of another history, or from before a forgotten channel lost messages that its patterns
    /// may have matched, and has not been told of the gap yet.
    pub(super) stranger: bool,
}

impl Subscriber {
    /// Whether a message that is newer than its cursor still has to reach it.
    pub(super) fn is_for(&self, message: &Message, now: Instant) -> bool {
        message.id.seq > self.joined || !message.expired(now)
    }
}

/// The channels of a subscriber; nearly all have one.
#[derive(Debug)]
pub enum Memberships {
    /// One channel: its key and the subscriber's place in its list.
    One {
        /// Which channel.
        channel: ChannelKey,
        /// Place in the channel's list.
        index: u32,
    },
    /// Any number of channels, or patterns.
    Many(Box<Many>),
}

/// Several channels of one subscriber, and which of them have news.
#[derive(Debug, Default)]
pub struct Many {
    pub(super) all: Vec<Membership>,
    /// Those with possibly something newer than the cursor. A channel that is not here has nothing, so
    /// that a subscriber of ten thousand channels costs as much as those that speak.
    pub(super) dirty: Vec<u32>,
}

/// One of several channels of a subscriber.
#[derive(Debug)]
pub struct Membership {
    pub(super) channel: ChannelKey,
    /// Place in the channel's list.
    pub(super) index: u32,
    /// On this channel, everything up to here counts as delivered, told as a gap or not asked for.
    pub(super) floor: Seq,
    /// Listed in [`Many::dirty`].
    pub(super) dirty: bool,
    /// Asked for by its name, and not only by a pattern.
    pub(super) named: bool,
    /// A gap has to be told because the subscriber came with the id of another history.
    pub(super) stranger: bool,
}

impl Memberships {
    /// Notes that the channel of membership `index` has news.
    pub(super) fn touch(&mut self, index: u32) {
        if let Self::Many(many) = self {
            many.touch(index);
        }
    }
}

impl Many {
    pub(super) fn touch(&mut self, index: u32) {
        let membership = &mut self.all[index as usize];
        if !membership.dirty {
            membership.dirty = true;
            self.dirty.push(index);
        }
    }

    /// Keeps those dirty for which `news` holds.
    pub(super) fn clean(&mut self, mut news: impl FnMut(&Membership) -> bool) {
        let Self { all, dirty } = self;
        dirty.retain(|&index| {
            let membership = &mut all[index as usize];
            membership.dirty = news(membership);
            membership.dirty
        });
    }
}

#[cfg(any(test, feature = "check"))]
impl Membership {
    pub(super) const fn place(&self) -> (ChannelKey, u32) {
        (self.channel, self.index)
    }

    pub(super) const fn is_dirty(&self) -> bool {
        self.dirty
    }
}

#[cfg(any(test, feature = "check"))]
impl Many {
    /// Panics if the list of dirty memberships and their marks contradict each other.
    pub(super) fn check(&self) {
        assert_eq!(self.dirty.len(), self.all.iter().filter(|membership| membership.dirty).count());
        assert!(self.dirty.iter().all(|&index| self.all[index as usize].dirty));
    }
}
