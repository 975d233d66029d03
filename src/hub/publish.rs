//! Publishing: a message becomes history, and those ready who listen.

use super::channel::Channel;
use super::key::ChannelKey;
use super::key::SubscriberKey;
use super::memory::MEMBERSHIP_BYTES;
use super::message::{Message, Publication};
use super::name::is_internal;
use super::subscriber::Memberships;
use super::{Hub, HubError, PRESENCE};
use crate::carry::carry;
use crate::id::{MessageId, Seq};
use crate::time::Instant;
use std::collections::BTreeSet;
use std::rc::Rc;

/// What became of a published message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The message's id.
    pub id: MessageId,
    /// Subscribers of its channel at that moment.
    pub subscribers: usize,
    /// Messages its channel now keeps.
    pub messages: usize,
}

carry! {
    struct Published { id, subscribers, messages }
}

impl Hub {
    /// Whether there is room for a message on channel `name`, and which channel that is, if it is there. Ask before
    /// [`Hub::commit`], which takes whatever comes.
    ///
    /// # Errors
    ///
    /// There is no such channel yet, and as many as there may be; or no value yet of its key.
    pub fn admits_one(
        &mut self,
        name: &str,
        publication: &Publication,
    ) -> Result<Option<ChannelKey>, HubError> {
        if let Some(update) = &publication.update {
            return self.admits_update(update).map(|()| None);
        }
        let known = self.names.find(&self.channels, name);
        if publication.key.is_some() {
            self.admits_key(known, publication).inspect_err(|_| self.counts.keys_refused += 1)?;
        }
        match known {
            Some(_) => Ok(known),
            None => self.admits([name]).map(|()| None),
        }
    }

    /// The same for several channels, so that a publication happens in all of them or in none.
    #[inline(never)]
    pub fn admits<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> Result<(), HubError> {
        let mut new: Vec<&str> = names.into_iter().filter(|name| self.names.get(name).is_none()).collect();
        new.sort_unstable();
        new.dedup();
        if self.channels.len() + new.len() <= self.bounds.channels {
            return Ok(());
        }
        self.counts.channels_refused += 1;
        Err(HubError::TooManyChannels)
    }

    /// Makes a message that was accepted as number `seq` history: keeps it in the ring of channel `name` and marks the
    /// channel's subscribers ready. Numbers ascend, and nothing is refused: what is accepted is accepted.
    pub fn commit(&mut self, now: Instant, name: &str, seq: Seq, publication: Publication) -> Published {
        if publication.update.is_some() {
            return self.commit_update(now, name, seq, publication);
        }
        let key = match self.names.find(&self.channels, name) {
            Some(key) => key,
            None => self.open_channel(now, name),
        };
        self.commit_to(now, key, seq, publication)
    }

    /// The same for a channel that has just been found.
    #[inline]
    pub fn commit_to(
        &mut self,
        now: Instant,
        key: ChannelKey,
        seq: Seq,
        publication: Publication,
    ) -> Published {
        debug_assert!(seq > self.seq, "numbers ascend");
        if !self.channels[key].spoken {
            self.begin_speaking(key);
        }
        let id = self.id(seq);
        self.accept(now, key, id, publication);
        let channel = &self.channels[key];
        Published { id, subscribers: channel.listeners(), messages: channel.ring.len() }
    }

    /// Keeps a message and marks those ready who listen.
    pub(super) fn accept(&mut self, now: Instant, key: ChannelKey, id: MessageId, publication: Publication) {
        self.seq = id.seq;
        self.counts.messages_published += 1;
        let channel = &self.channels[key];
        #[cfg(test)]
        self.journal.push(Message::new(id, Rc::clone(channel.name()), publication.clone(), now));
        let message = Rc::new(Message::new(id, Rc::clone(channel.name()), publication, now));
        let passed = self.feeds.is_on().then(|| Rc::clone(&message));
        let is_keyed = message.key().is_some();
        let old = match message.key() {
            Some(_) => self.keep_latest(key, &message),
            None => None,
        };
        self.counts.messages_evicted += self.history.push(&mut self.channels, key, message) as u64;
        self.mark_ready(key);
        if self.channels[key].keyed.is_some() {
            self.note_paced(now, key, (id.seq, is_keyed), old.as_ref());
        }
        self.schedule(now, key);
        if let Some(message) = passed {
            self.hand_on(&[key], &message);
            self.note_lost();
        }
    }

    /// Marks every subscriber of the channel ready to pull.
    pub(super) fn mark_ready(&mut self, key: ChannelKey) {
        let seq = self.seq;
        for entry in &self.channels[key].subscribers {
            let subscriber = &mut self.subscribers[entry.subscriber];
            subscriber.memberships.touch(entry.membership, seq);
            if !subscriber.queued {
                subscriber.queued = true;
                self.ready.push_back(entry.subscriber);
            }
        }
    }

    /// Makes the new channel `name`.
    #[inline(never)]
    pub(super) fn open_channel(&mut self, now: Instant, name: &str) -> ChannelKey {
        let name: Rc<str> = name.into();
        let mut evicted = self.tombstones.lost(&name);
        let lost_at = self.tombstones.lost_at(&name).filter(|_| self.presence_lost == 0);
        if self.presence_lost > 0 && name.starts_with(PRESENCE) {
            evicted = evicted.max(self.presence_lost);
        }
        let (terms, shows) = self.terms_of(&name);
        let key = self.channels.insert(Channel { terms, shows, ..Channel::new(Rc::clone(&name), evicted) });
        match lost_at {
            Some(moment) => self.channels[key].ring.note_lost_at(moment),
            None => self.history.note_lost(&mut self.channels[key]),
        }
        self.names.insert(name, key);
        self.silent += 1;
        if self.feeds.is_on() {
            self.reach_feeds(key);
            // Whether others could see what it lost in a former life is not known.
            if evicted > 0 && is_internal(self.channels[key].name()) {
                self.note_lost_beside(key, evicted);
            }
        }
        self.schedule(now, key);
        key
    }

    /// Before the first message of a channel: adds the subscribers whose pattern matches. What that channel
    /// lost in a former life counts for them, too.
    #[cold]
    pub(super) fn begin_speaking(&mut self, key: ChannelKey) {
        let channel = &mut self.channels[key];
        channel.spoken = true;
        self.silent -= 1;
        // Until now it told those who listen by patterns what the channel had lost.
        self.tombstones.remove(channel.name());
        if self.patterns.is_empty() {
            return;
        }
        let channel = &self.channels[key];
        let name = Rc::clone(channel.name());
        // Who has left it by its name, and has not been told yet what it had lost, is on its list, too.
        let by_name = channel.members().map(|entry| entry.subscriber);
        let by_name: BTreeSet<SubscriberKey> = by_name
            .filter(|&subscriber| self.patterns.has_any(subscriber) && !self.has_left(subscriber, key))
            .collect();
        for subscriber in
            self.patterns.matching(&name, self.terms.written(&name)).difference(&by_name).copied()
        {
            match &self.subscribers[subscriber].memberships {
                _ if self.has_left(subscriber, key) => self.stay(subscriber, key),
                Memberships::Many(many)
                    if many.all.len() >= self.bounds.matches
                        || !self.shares.admits(many.payer, MEMBERSHIP_BYTES) =>
                {
                    self.overfull.push(subscriber);
                }
                _ => self.join(subscriber, key, self.lost_before(subscriber, key)),
            }
        }
    }
}
