//! Updates of Mercure: messages with several topics, ids of their own, and those that are not for all.
//!
//! An update is one message with one number, in the ring of each of its topics. A private one lies in rings of its own
//! that no name of a client can mean, so nobody sees it who is not given it on purpose.

use super::key::ChannelKey;
use super::message::{Message, Publication, Update};
use super::name::{PRIVATE, SUBSCRIPTIONS};
use super::{Hub, HubError, Published};
use crate::id::{MessageId, Seq};
use crate::time::Instant;
use std::collections::BTreeSet;
use std::rc::Rc;

impl Update {
    /// The names of the channels that it is published on.
    fn channels(&self) -> BTreeSet<String> {
        let space = if self.private { PRIVATE } else { "" };
        self.topics.iter().map(|topic| format!("{space}{topic}")).collect()
    }

    /// The name of the channel of its canonical topic.
    pub fn channel(&self) -> String {
        let space = if self.private { PRIVATE } else { "" };
        format!("{space}{}", self.topics.first().map_or("", |topic| topic))
    }
}

impl Publication {
    /// The names of all channels that have it when it is published on `channel`.
    pub fn channels(&self, channel: &str) -> BTreeSet<String> {
        match self.update.as_deref() {
            Some(update) if channel != SUBSCRIPTIONS => update.channels(),
            _ => BTreeSet::from([channel.to_owned()]),
        }
    }
}

impl Hub {
    /// Whether there is room for the channels of an update.
    pub(super) fn admits_update(&mut self, update: &Update) -> Result<(), HubError> {
        let names = update.channels();
        self.admits(names.iter().map(String::as_str))
    }

    /// The names of the channels that have a message, or had.
    pub(super) fn rings_of(&self, message: &Message) -> BTreeSet<String> {
        message.publication.channels(&message.channel)
    }

    /// Makes an update history: puts it into the ring of each of its topics. `name` is that of its canonical one.
    #[inline(never)]
    pub(super) fn commit_update(
        &mut self,
        now: Instant,
        name: &str,
        seq: Seq,
        publication: Publication,
    ) -> Published {
        let mut keys: Vec<ChannelKey> = Vec::new();
        let mut own = ChannelKey::NONE;
        for topic in &publication.channels(name) {
            let key = match self.names.find(&self.channels, topic) {
                Some(key) => key,
                // In an earlier life, it had lost this; another topic has it.
                None if self.tombstones.has_lost(topic, seq) => continue,
                None => self.open_channel(now, topic),
            };
            if !self.channels[key].spoken {
                self.begin_speaking(key);
            }
            if *topic == name || own == ChannelKey::NONE {
                own = key;
            }
            keys.push(key);
        }
        let id = self.id(seq);
        self.seq = seq;
        self.counts.messages_published += 1;
        let channel = self.channels.get(own).map(|channel| Rc::clone(channel.name()));
        let channel = channel.filter(|channel| **channel == *name).unwrap_or_else(|| name.into());
        #[cfg(test)]
        self.journal.push(Message::new(id, Rc::clone(&channel), publication.clone(), now));
        let message = Rc::new(Message::new(id, channel, publication, now));
        for &key in &keys {
            let evicted = self.history.push(&mut self.channels, key, Rc::clone(&message));
            self.counts.messages_evicted += evicted as u64;
            self.mark_ready(key);
            self.schedule(now, key);
        }
        if let Some(chosen) = message.update().and_then(|update| update.id.as_deref()) {
            let Self { ids, channels, .. } = self;
            let is_kept = |seq, key| is_kept(channels, seq, key);
            ids.add(chosen, seq, own, is_kept);
        }
        if self.feeds.is_on() {
            self.hand_on(&keys, &message);
            self.note_lost();
        }
        let (subscribers, messages) =
            self.channels.get(own).map_or((0, 0), |channel| (channel.listeners(), channel.ring.len()));
        Published { id, subscribers, messages }
    }

    /// The number that an id means which a publisher chose.
    pub fn find_id(&self, id: &str) -> Option<MessageId> {
        let found = self.ids.find(id, |seq, key| is_kept(&self.channels, seq, key));
        found.map(|seq| self.id(seq))
    }

    /// Of message `seq` in the ring of a feed: a channel that keeps it.
    #[inline(never)]
    pub(super) fn home_of(&self, feed: ChannelKey, seq: Seq) -> ChannelKey {
        let message = self.channels[feed].ring.find(seq);
        message.and_then(|message| self.names.get(&message.channel)).unwrap_or(feed)
    }
}

/// Whether channel `key` still keeps message `seq`.
fn is_kept(
    channels: &crate::table::Table<ChannelKey, super::channel::Channel>,
    seq: Seq,
    key: ChannelKey,
) -> bool {
    channels.get(key).is_some_and(|channel| channel.ring.contains(seq))
}
