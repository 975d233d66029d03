//! Who is behind what a feed's ring has: it walks through all messages from its cursor on.

use super::super::Hub;
use super::super::key::ChannelKey;
use super::super::message::Message;
use super::super::subscriber::SubscriberKey;
use super::Feed;
use crate::id::Seq;
use crate::time::Instant;
use std::rc::Rc;

/// So many entries are looked at in one pull by who walks.
const WALKED_MAX: usize = 4096;
/// And at least so many.
const WALKED_MIN: usize = 64;
/// The rings of so many channels are walked through themselves, rather than all messages.
const MERGED_MAX: usize = 64;

impl Hub {
    /// Whether the subscriber of a feed lacks what the feed's ring has not.
    pub(in super::super) fn must_walk(&self, channel: ChannelKey, after: Seq) -> bool {
        let channel = &self.channels[channel];
        channel.feed.is_some() && channel.ring.evicted() > after
    }

    /// Adds at most `max` messages newer than `after` to `pulled` that a feed reaches, out of all there are.
    pub(in super::super) fn walk<'a>(
        &'a self,
        now: Instant,
        (key, feed): (SubscriberKey, ChannelKey),
        max: usize,
        pulled: &mut impl Extend<&'a Rc<Message>>,
    ) {
        let subscriber = &self.subscribers[key];
        let ring_from = self.channels[feed].ring.evicted();
        let mut found = self.walk_from(feed, subscriber.after, ring_from);
        let (mut count, mut upto) = (0, subscriber.after);
        for _ in 0..self.steps(feed) {
            if count >= max {
                self.feeds.walked.set(Some(upto));
                return;
            }
            let Some((seq, message)) = found.next() else {
                // What is newer is in the feed's ring.
                self.feeds.walked.set(Some(ring_from.max(upto)));
                return;
            };
            if let Some(message) =
                message.filter(|message| seq > upto && message.reaches(subscriber.joined, now))
            {
                pulled.extend(Some(message));
                count += 1;
            }
            upto = upto.max(seq);
        }
        // The rest of a message with several topics is looked at again.
        self.feeds.walked.set(Some(upto));
    }

    /// How many messages may be looked at in one go: fewer where it takes long to find out whether one is for the feed.
    pub(super) fn steps(&self, feed: ChannelKey) -> usize {
        let Some(feed) = &self.channels[feed].feed else { return 0 };
        let to_reach = if feed.is_wide { feed.selection.weight() } else { 1 };
        (WALKED_MAX / to_reach.max(feed.selection.weight_of_sight())).max(WALKED_MIN)
    }

    /// What there is newer than `after`, up to `last`, in order: each number, and the message if it is for the feed. Of
    /// few channels only theirs, of many all there are.
    pub(super) fn walk_from(
        &self,
        feed: ChannelKey,
        after: Seq,
        last: Seq,
    ) -> Box<dyn Iterator<Item = (Seq, Option<&Rc<Message>>)> + '_> {
        match self.channels[feed].feed.as_deref() {
            Some(of) if !of.is_wide && of.channels.len() <= MERGED_MAX => {
                Box::new(self.merged(of, after).take_while(move |&(seq, _)| seq <= last))
            }
            of => Box::new(self.all_since(of, after).take_while(move |&(seq, _)| seq <= last)),
        }
    }

    /// The same out of the rings of the channels of a feed.
    fn merged<'a>(
        &'a self,
        feed: &'a Feed,
        after: Seq,
    ) -> impl Iterator<Item = (Seq, Option<&'a Rc<Message>>)> {
        let rings = feed.channels.iter().map(|&key| (key, self.channels[key].ring.after(after).peekable()));
        let mut rings: Vec<_> = rings.collect();
        std::iter::from_fn(move || {
            let seq = rings.iter_mut().filter_map(|(_, ring)| Some(ring.peek()?.id.seq)).min()?;
            let mut found = None;
            for (key, ring) in &mut rings {
                let message = ring.next_if(|message: &&Rc<Message>| message.id.seq == seq);
                let is_given = |message: &&Rc<Message>| self.is_given(feed, *key, message);
                found = found.or_else(|| message.filter(is_given));
            }
            Some((seq, found))
        })
    }

    /// The same out of all messages.
    fn all_since<'a>(
        &'a self,
        feed: Option<&'a Feed>,
        after: Seq,
    ) -> impl Iterator<Item = (Seq, Option<&'a Rc<Message>>)> {
        let mut entries = self.history.since(after).peekable();
        std::iter::from_fn(move || {
            let (seq, key) = entries.next()?;
            let message = |key: ChannelKey| {
                let feed = feed.filter(|feed| self.is_reached(feed, key))?;
                let message = self.channels[key].ring.find(seq)?;
                self.is_given(feed, key, message).then_some(message)
            };
            let mut found = message(key);
            while let Some((_, other)) = entries.next_if(|&(next, _)| next == seq) {
                found = found.or_else(|| message(other));
            }
            Some((seq, found))
        })
    }

    /// How far the last pull has walked, if it has: what it has not brought up to there is not for its subscriber.
    pub fn walked(&self) -> Option<Seq> {
        self.feeds.walked.take()
    }
}
