//! Who is behind what a feed's ring has: it walks through all messages from its cursor on.

use super::super::Hub;
use super::super::key::ChannelKey;
use super::super::message::Message;
use super::super::subscriber::SubscriberKey;
use crate::id::Seq;
use crate::time::Instant;
use std::rc::Rc;

/// So many entries are looked at in one pull by who walks.
pub(super) const WALKED_MAX: usize = 4096;

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
        for _ in 0..WALKED_MAX {
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

    /// What there is newer than `after`, up to `last`, in order: each number, and the message if it is for the feed.
    pub(super) fn walk_from(
        &self,
        feed: ChannelKey,
        after: Seq,
        last: Seq,
    ) -> impl Iterator<Item = (Seq, Option<&Rc<Message>>)> {
        let of = self.channels[feed].feed.as_deref();
        let entries = self.history.since(after).take_while(move |&(seq, _)| seq <= last);
        let mut entries = entries.peekable();
        std::iter::from_fn(move || {
            let (seq, key) = entries.next()?;
            let message = |key: ChannelKey| {
                let feed = of.filter(|feed| self.is_reached(feed, key))?;
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
