//! Feeds: what a selection of topics has, as one channel that keeps nothing.
//!
//! A subscriber of several topics, of templates, or with a right to private updates listens to a feed, which it shares
//! with all who select and may see the same. A message that is for a feed is put into the feed's ring until all who
//! listen have it, and then goes from there; so a delivery is that of any channel, none is given twice, and there is one
//! order. Who is behind what the ring has walks through all messages since its cursor, in the order of their numbers,
//! and takes those that the feed reaches: that costs what it missed, however much is kept.
//!
//! Which feeds a channel reaches is found out once, when the channel or the feed comes. Only a feed of everything, or
//! of more channels than may be noted, is asked about each message.
//!
//! What limits take from channels that a feed reaches is noted with the feed, so that its subscribers are told.

mod compared;
mod index;
mod losses;
mod open;
#[cfg(test)]
mod tests;
mod walk;

pub use compared::{COMPARED_MAX, COMPARED_OF_ONE_MAX};
pub use index::{ASKED_MAX, ASKED_OF_ONE_MAX, Feeds};

use super::Hub;
use super::key::ChannelKey;
use super::message::Message;
use super::name::{HIDDEN, SUBSCRIPTIONS, is_internal, topic_of};
use super::selection::Selection;
use super::shares::Payer;
use super::subscriber::SubscriberKey;
use crate::carry::carry;
use losses::Losses;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Most messages in a feed's ring. Who has not had them then walks.
const WINDOW: usize = 1024;
/// Bytes of a channel that a feed reaches: its places in the feed's set and in the channel's list.
const REACHED_BYTES: usize = size_of::<ChannelKey>() * 4;

/// What a channel is that is a feed.
#[derive(Debug)]
pub struct Feed {
    selection: Rc<Selection>,
    /// The channels that it reaches, unless it is wide.
    channels: BTreeSet<ChannelKey>,
    /// It reaches everything, or too much to note it: it is asked about each message.
    is_wide: bool,
    losses: Losses,
    /// Which losses do not concern a subscriber: those before it came and asked for what was kept, and those it was told
    /// of.
    told: BTreeMap<SubscriberKey, u64>,
    /// Who pays for it: whoever has come first. Whatever is counted stays counted until it ends.
    payer: Payer,
    /// Bytes that are paid for the selection, and for its templates, as these are compared with each new topic.
    bytes: usize,
    compared: usize,
}

carry! {
    struct Feed { selection, channels, is_wide, losses, told, payer, bytes, compared }
}

impl Feed {
    /// Bytes that are paid for it.
    const fn paid(&self, channels: usize) -> usize {
        self.bytes + channels * REACHED_BYTES
    }

    /// What it costs to ask it about a message while it is wide. Of everything nothing is compared.
    fn asked(&self) -> usize {
        if self.selection.has_all() { 0 } else { self.selection.weight() }
    }
}

impl Hub {
    /// Serves selections from now on. `shown` are names and patterns of channels, and whether they are shown to who does
    /// not name them; the first counts that covers a name.
    pub fn serve_selections(&mut self, shown: Vec<(Box<str>, bool)>) {
        self.feeds.is_on = true;
        self.history.watch();
        self.feeds.shown = shown;
        self.index_feeds();
        let all: Vec<ChannelKey> = self.channels.iter().map(|(key, _)| key).collect();
        for key in all {
            if self.channels[key].feed.is_none() {
                self.leave_feeds(key);
                self.reach_feeds(key);
            }
        }
    }

    /// Enters all feeds anew.
    fn index_feeds(&mut self) {
        self.feeds = std::mem::take(&mut self.feeds).emptied();
        for (key, channel) in self.channels.iter() {
            let Some(feed) = &channel.feed else { continue };
            self.feeds.enter(key, &feed.selection);
            self.feeds.templates.enter(key, feed.payer, &feed.selection);
            self.feeds.known.insert(Rc::clone(&feed.selection), key);
            if feed.is_wide {
                self.feeds.add_wide(key, feed.payer, feed.asked());
            }
        }
    }

    /// Notes which feeds a channel that has come reaches.
    #[inline(never)]
    pub(super) fn reach_feeds(&mut self, key: ChannelKey) {
        let name = Rc::clone(self.channels[key].name());
        let is_hidden = self.feeds.hides(&name);
        self.channels[key].is_shown = !is_hidden;
        let feeds: BTreeSet<ChannelKey> = match *name == *SUBSCRIPTIONS {
            true => self.feeds.known.values().copied().collect(),
            false if name.starts_with(HIDDEN) => BTreeSet::new(),
            false => self.feeds.asking(topic_of(&name)),
        };
        for feed in feeds {
            self.note_reached(feed, key);
        }
    }

    /// Notes that a feed reaches a channel, if it does, and may.
    fn note_reached(&mut self, feed: ChannelKey, key: ChannelKey) {
        let [Some(of), Some(channel)] = [feed, key].map(|key| self.channels.get(key)) else { return };
        let (Some(of), name) = (&of.feed, channel.name()) else { return };
        let is_named = of.selection.names(topic_of(name));
        let is_internal = is_internal(name) && !of.selection.sees_private();
        if of.is_wide || is_internal || !(channel.is_shown || is_named) {
            return;
        }
        let is_full = of.channels.len() >= self.bounds.matches;
        // Whoever has come to exceed a share pays by being asked last.
        if is_full || !self.shares.admits(of.payer, REACHED_BYTES) {
            return self.widen(feed);
        }
        if let Some(of) = &mut self.channels[feed].feed
            && of.channels.insert(key)
        {
            self.shares.add(of.payer, REACHED_BYTES);
            // In order, so that what is found out again is the same.
            let feeds = &mut self.channels[key].feeds;
            feeds.insert(feeds.partition_point(|other| *other < feed), feed);
        }
    }

    /// Has a feed that reaches too many channels asked about each message instead.
    #[cold]
    fn widen(&mut self, feed: ChannelKey) {
        let Some(of) = &mut self.channels[feed].feed else { return };
        of.is_wide = true;
        let channels = std::mem::take(&mut of.channels);
        let (payer, weight) = (of.payer, of.asked());
        self.shares.release(payer, channels.len() * REACHED_BYTES);
        for key in channels {
            self.channels[key].feeds.retain(|other| *other != feed);
        }
        // Where too much is asked for each message already, it ends.
        if !self.feeds.asked.0.admits(payer, weight) {
            self.overfull.extend(self.channels[feed].members().map(|entry| entry.subscriber));
        }
        self.feeds.add_wide(feed, payer, weight);
    }

    /// Has the feeds forget a channel that goes.
    pub(super) fn leave_feeds(&mut self, key: ChannelKey) {
        for feed in std::mem::take(&mut self.channels[key].feeds) {
            if let Some(of) = &mut self.channels[feed].feed
                && of.channels.remove(&key)
            {
                self.shares.release(of.payer, REACHED_BYTES);
            }
        }
    }

    /// Whether a feed reaches what channel `key` has.
    fn is_reached(&self, feed: &Feed, key: ChannelKey) -> bool {
        let Some(channel) = self.channels.get(key) else { return false };
        match feed.is_wide {
            false => feed.channels.contains(&key),
            true if **channel.name() == *SUBSCRIPTIONS => feed.selection.sees_private(),
            true => {
                let topic = topic_of(channel.name());
                feed.selection.reaches(channel.name()) && (channel.is_shown || feed.selection.names(topic))
            }
        }
    }

    /// Whether a feed is given a message of channel `key`.
    fn is_given(&self, feed: &Feed, key: ChannelKey, message: &Message) -> bool {
        self.is_for(feed, key, message) && feed.selection.sees(message)
    }

    /// The same, if it may see the message.
    fn is_for(&self, feed: &Feed, key: ChannelKey, message: &Message) -> bool {
        let is_event = || **self.channels[key].name() == *SUBSCRIPTIONS;
        let is_selected = || {
            let update = message.publication.update.as_deref();
            !is_event() || update.is_some_and(|update| feed.selection.selects_any(update))
        };
        self.is_reached(feed, key) && is_selected()
    }

    /// The feeds that a channel may reach.
    fn feeds_of(&self, key: ChannelKey) -> Vec<ChannelKey> {
        self.channels[key].feeds.iter().chain(&self.feeds.wide).copied().collect()
    }

    /// Hands a message that was put into the rings of channels to the feeds.
    #[inline(never)]
    pub(super) fn hand_on(&mut self, keys: &[ChannelKey], message: &Rc<Message>) {
        let feeds = match keys {
            [only] => self.feeds_of(*only),
            _ => {
                let all: BTreeSet<ChannelKey> = keys.iter().flat_map(|&key| self.feeds_of(key)).collect();
                all.into_iter().collect()
            }
        };
        for of in feeds {
            let channel = &self.channels[of];
            let Some(feed) = &channel.feed else { continue };
            // Asked once for all topics, as each may have to be compared with each selector.
            if !feed.selection.sees(message) || !keys.iter().any(|&key| self.is_for(feed, key, message)) {
                continue;
            }
            let bytes = self.history.ring_bytes(channel);
            let ring = &mut self.channels[of].ring;
            if ring.is_empty() {
                self.feeds.filled.push(of);
            }
            ring.pass(message);
            while ring.len() > WINDOW || ring.bytes() > bytes && ring.len() > 1 {
                ring.let_pass();
            }
            self.mark_ready(of);
        }
    }

    /// Empties the rings of feeds: all who listen have had what is there, or walk.
    pub(super) fn empty_feeds(&mut self) {
        for key in std::mem::take(&mut self.feeds.filled) {
            if let Some(channel) = self.channels.get_mut(key)
                && channel.feed.is_some()
            {
                while !channel.ring.is_empty() {
                    channel.ring.let_pass();
                }
            }
        }
    }

    /// What is paid for feeds, and by whom.
    #[cfg(any(test, feature = "check"))]
    pub(super) fn paid_for_feeds(&self) -> impl Iterator<Item = (Payer, usize)> {
        let feeds = self.channels.iter().filter_map(|(_, channel)| channel.feed.as_ref());
        feeds.map(|feed| (feed.payer, feed.paid(feed.channels.len())))
    }

    /// Panics if feeds and channels contradict each other.
    #[cfg(any(test, feature = "check"))]
    pub(super) fn check_feeds(&self) {
        for (key, channel) in self.channels.iter() {
            for of in &channel.feeds {
                let feed = self.channels[*of].feed.as_ref().expect("only feeds are fed");
                assert!(feed.channels.contains(&key), "a channel's feed does not know it");
            }
            let Some(feed) = &channel.feed else { continue };
            assert!(channel.places() > 0, "a feed that nobody listens to");
            assert_eq!(self.feeds.known.get(&feed.selection), Some(&key));
            assert_eq!(feed.is_wide, self.feeds.wide.contains(&key));
            assert!(channel.ring.len() <= WINDOW);
            for reached in &feed.channels {
                assert!(self.channels[*reached].feeds.contains(&key));
            }
            for (name, reached) in self.names.under("") {
                let is_event = **name == *SUBSCRIPTIONS;
                let other = &self.channels[reached];
                let topic = topic_of(name);
                let selects = feed.selection.reaches(name) && (other.is_shown || feed.selection.names(topic));
                let expected = if is_event { feed.selection.sees_private() } else { selects };
                assert!(feed.is_wide || feed.channels.contains(&reached) == expected, "{name} {feed:?}");
            }
            assert!(feed.told.keys().all(|&key| self.subscribers.contains(key)));
        }
        let feeds = || self.channels.iter().filter_map(|(_, channel)| channel.feed.as_ref());
        self.feeds.templates.check();
        let wide = feeds().filter(|feed| feed.is_wide);
        self.feeds.asked.0.check(wide.map(|feed| (feed.payer, feed.asked())));
        self.compared.check(feeds().map(|feed| (feed.payer, feed.compared)));
        assert_eq!(self.feeds.known.len(), self.channels.iter().filter(|(_, it)| it.feed.is_some()).count());
    }
}
