//! What the hub tells of itself and of its channels, and what it has counted.

use super::Hub;
use super::channel::ChannelInfo;
use super::key::ChannelKey;
use super::message::{Encoded, Message};
use super::name;
use crate::carry::carry;
use crate::id::Seq;
use std::rc::Rc;

/// What has happened in a hub since it began. Counts only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Channels refused because there are too many.
    pub channels_refused: u64,
    /// Subscriptions refused because of too many subscribers of a channel, or channels of a pattern.
    pub subscriptions_refused: u64,
    /// Messages accepted.
    pub messages_published: u64,
    /// Messages encoded for a wire format.
    pub frames_encoded: u64,
    /// Gaps announced to subscribers.
    pub gaps_told: u64,
    /// Messages that a limit threw away.
    pub messages_evicted: u64,
    /// Publications with a key refused because there are too many.
    pub keys_refused: u64,
    /// Removals of keys forgotten early.
    pub removals_forgotten: u64,
    /// Messages whose own TTL ran out.
    pub messages_expired: u64,
}

carry! {
    struct Counts { channels_refused, subscriptions_refused, messages_published, frames_encoded, gaps_told, messages_evicted, keys_refused, removals_forgotten, messages_expired }
}

/// What the hub holds at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauges {
    /// Channels that exist.
    pub channels: usize,
    /// Subscribers attached.
    pub subscribers: usize,
    /// Messages in all rings.
    pub messages: usize,
    /// Bytes these messages and all latest values are charged with.
    pub bytes: usize,
    /// Keys that have a value on some channel.
    pub keys: usize,
    /// Feeds that somebody listens to.
    pub feeds: usize,
}

impl Hub {
    /// What is known of channel `name`.
    pub fn info(&self, name: &str) -> Option<ChannelInfo> {
        let key = self.names.get(name)?;
        Some(self.channels[key].info(self.epoch))
    }

    /// The channels whose name begins with `prefix`, in the order of their names.
    pub fn list<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = ChannelInfo> + 'a {
        let shown = self.names.under(prefix).filter(|(name, _)| !name::is_internal(name));
        shown.map(|(_, key)| self.channels[key].info(self.epoch))
    }

    /// The channels behind the name `after`, in the order of their names.
    pub fn list_after<'a>(&'a self, after: &'a str) -> impl Iterator<Item = ChannelInfo> + 'a {
        let shown = self.names.behind(after).filter(|(name, _)| !name::is_internal(name));
        shown.map(|(_, key)| self.channels[key].info(self.epoch))
    }

    /// The newest messages of a channel that are kept, at most so many, oldest first.
    pub fn recent(&self, name: &str, count: usize) -> impl Iterator<Item = &Rc<Message>> {
        let ring = self.names.get(name).map(|key| &self.channels[key].ring);
        ring.into_iter().flat_map(move |ring| ring.after(0).skip(ring.len().saturating_sub(count)))
    }

    /// The latest values of a channel, at most so many, oldest first.
    pub fn values(&self, name: &str, count: usize) -> impl Iterator<Item = &Rc<Message>> {
        let latest = self.names.get(name).and_then(|key| self.channels[key].latest());
        let values = latest.into_iter().flat_map(|latest| latest.after(0));
        values.filter(|message| !message.is_removal()).take(count)
    }

    /// Notes that so many messages were encoded for one client alone: nothing of it is kept.
    pub const fn note_encoded(&mut self, messages: usize) {
        self.counts.frames_encoded += messages as u64;
    }

    /// Notes what was `encoded`: it is charged to the history, and the first to go when that is full.
    pub fn charge(&mut self, encoded: &Encoded) {
        for message in encoded.messages() {
            self.counts.frames_encoded += 1;
            if let Some(key) = self.names.get(&message.channel) {
                self.history.note_encoded(&self.channels, key, message.id.seq);
            }
        }
        self.history.charge(encoded.bytes());
    }

    /// Notes that message `seq` was encoded for a crowd that gets it at once: the `bytes` it takes are charged to
    /// the history until [`Hub::tick`].
    pub fn charge_once(&mut self, channel: ChannelKey, seq: Seq, bytes: usize) {
        self.counts.frames_encoded += 1;
        let channel = match self.channels[channel].feed.is_some() {
            true => self.home_of(channel, seq),
            false => channel,
        };
        self.history.charge_once(channel, seq, bytes);
    }

    /// Channels, subscribers, messages and bytes of history at this moment.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            channels: self.channels.len(),
            subscribers: self.subscribers.len(),
            messages: self.history.messages(),
            bytes: self.history.bytes(),
            keys: self.keys,
            feeds: self.feeds.len(),
        }
    }
}
