//! A channel: its ring and who listens.

use super::ring::Ring;
use super::subscriber::SubscriberKey;
use crate::id::{Epoch, MessageId};
use crate::table::place;
use std::rc::Rc;

place! {
    /// Place of a channel in the hub.
    ChannelKey
}

/// One subscriber in a channel's list.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Who.
    pub subscriber: SubscriberKey,
    /// Which of that subscriber's memberships this is.
    pub membership: u32,
}

/// A named sequence of messages and those who listen to it.
#[derive(Debug)]
pub struct Channel {
    pub(super) name: Rc<str>,
    /// What is kept.
    pub ring: Ring,
    /// Dense, in no order: 8 bytes a subscriber.
    pub subscribers: Vec<Entry>,
    /// How many of them have left, and only have to get what was published before.
    pub left: u32,
    /// It has had a message. One that has not is there for those who listen to it, and goes with the last of
    /// them; subscribers by pattern join with the first message.
    pub spoken: bool,
}

/// What the API tells of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelInfo {
    /// The channel's name.
    pub channel: Rc<str>,
    /// The newest message kept, if any is.
    pub newest: Option<MessageId>,
    /// Subscribers listening.
    pub subscribers: usize,
    /// Messages kept.
    pub messages: usize,
}

impl Channel {
    /// A channel without messages, which lost those up to `evicted` in a former life.
    pub fn new(name: Rc<str>, evicted: u64) -> Self {
        Self { name, ring: Ring::new(evicted), subscribers: Vec::new(), left: 0, spoken: false }
    }

    /// Its name.
    pub const fn name(&self) -> &Rc<str> {
        &self.name
    }

    /// How many listen to what will be published.
    pub const fn listeners(&self) -> usize {
        self.subscribers.len() - self.left as usize
    }

    /// What the API tells of it.
    pub fn info(&self, epoch: Epoch) -> ChannelInfo {
        ChannelInfo {
            channel: Rc::clone(&self.name),
            newest: (!self.ring.is_empty()).then(|| MessageId { epoch, seq: self.ring.newest() }),
            subscribers: self.listeners(),
            messages: self.ring.len(),
        }
    }
}
