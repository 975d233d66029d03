//! What limits take from the channels that feeds reach, and whom that concerns.

use super::super::Hub;
use super::super::key::ChannelKey;
use super::super::message::Message;
use super::super::name::{SUBSCRIPTIONS, is_internal, topic_of};
use super::super::pull::Gap;
use super::super::selection::Selection;
use super::super::subscriber::SubscriberKey;
use crate::carry::carry;
use crate::id::{MessageId, Seq};
use std::collections::VecDeque;
use std::rc::Rc;

/// Most losses that are told apart; of others, the later moment counts.
const LOSSES_MAX: usize = 64;
/// So many events of subscriptions are looked at to find out whether what is lost of them could be seen.
const SEEN_MAX: usize = 16;

/// What was lost, and when: of losses after a moment, the highest number.
#[derive(Debug, Default)]
pub struct Losses {
    pub(super) moment: u64,
    /// Moments ascend, numbers descend: a later and higher one says all that an earlier one would.
    all: VecDeque<(u64, Seq)>,
}

carry! {
    struct Losses { moment, all }
}

impl Losses {
    pub(super) fn note(&mut self, seq: Seq) {
        while self.all.back().is_some_and(|&(_, lower)| lower <= seq) {
            self.all.pop_back();
        }
        self.moment += 1;
        self.all.push_back((self.moment, seq));
        if self.all.len() > LOSSES_MAX
            && let Some((_, highest)) = self.all.pop_front()
            && let Some(first) = self.all.front_mut()
        {
            first.1 = highest;
        }
    }

    /// The highest number that was lost after that moment.
    pub(super) fn since(&self, moment: u64) -> Seq {
        self.all.iter().find(|&&(when, _)| when > moment).map_or(0, |&(_, seq)| seq)
    }
}

impl Hub {
    /// Notes with the feeds what limits have taken.
    #[inline(never)]
    pub(in super::super) fn note_lost(&mut self) {
        for (key, message) in self.history.take_lost() {
            let Some(channel) = self.channels.get(key) else { continue };
            let seq = message.id.seq;
            let has_others = message.update().is_some_and(|update| update.topics.len() > 1);
            match is_internal(channel.name()) {
                true if has_others => self.note_lost_beside(key, seq),
                true => {}
                false if channel.is_shown => self.feeds.lost = self.feeds.lost.max(seq),
                false => {}
            }
            let feeds = self.feeds_of(key);
            // What other channels have it is found out once, for all feeds.
            let others = match message.is_held() && !feeds.is_empty() {
                true => self.holders_of(&message),
                false => Vec::new(),
            };
            for of in feeds {
                let Some(feed) = &self.channels[of].feed else { continue };
                let is_elsewhere = others.iter().any(|&other| self.is_reached(feed, other));
                let is_lost = !is_elsewhere && self.is_given(feed, key, &message);
                if let Some(feed) = self.channels[of].feed.as_mut().filter(|_| is_lost) {
                    feed.losses.note(seq);
                }
            }
        }
    }

    /// Notes that a channel of private updates has lost what may have been seen by another topic.
    pub(in super::super) fn note_lost_beside(&mut self, key: ChannelKey, seq: Seq) {
        let lost = self.feeds.lost_beside.entry(key).or_default();
        *lost = seq.max(*lost);
    }

    /// The channel goes.
    pub(in super::super) fn forget_lost_beside(&mut self, key: ChannelKey) {
        self.feeds.lost_beside.remove(&key);
    }

    /// Up to which number a channel has lost what a selection might have seen there.
    pub(super) fn lost_to(&self, selection: &Selection, key: ChannelKey) -> Seq {
        let (ring, name) = (&self.channels[key].ring, self.channels[key].name());
        // What may not be seen may not be missed either.
        let is_seen = match &**name {
            // Events have topics of their own there: who may see some of what is left might have seen what is not.
            SUBSCRIPTIONS => {
                ring.is_empty() || ring.after(0).take(SEEN_MAX).any(|message| selection.sees(message))
            }
            _ => !is_internal(name) || selection.grants(topic_of(name)),
        };
        match is_seen {
            true => ring.evicted(),
            false => self.feeds.lost_beside.get(&key).copied().unwrap_or_default(),
        }
    }

    /// The channels that keep a message.
    fn holders_of(&self, message: &Message) -> Vec<ChannelKey> {
        let names = self.rings_of(message);
        let keys = names.iter().filter_map(|name| self.names.get(name));
        keys.filter(|&key| self.channels[key].ring.contains(message.id.seq)).collect()
    }

    /// Whether the subscriber of a feed has a gap.
    pub(in super::super) fn has_feed_gap(&self, key: SubscriberKey, channel: ChannelKey) -> bool {
        let after = self.subscribers[key].after;
        let Some(feed) = self.channels[channel].feed.as_ref().filter(|_| self.must_walk(channel, after))
        else {
            return false;
        };
        let moment = feed.told.get(&key).copied().unwrap_or(0);
        feed.losses.since(moment) > after
    }

    /// The gap of a subscriber of a feed, which counts as told, and moves the subscriber up to before the first message
    /// that it gets.
    #[cold]
    pub(in super::super) fn take_feed_gap(
        &mut self,
        key: SubscriberKey,
        channel: ChannelKey,
        came_with: Option<MessageId>,
    ) -> Gap {
        let after = self.subscribers[key].after;
        let last = self.channels[channel].ring.evicted();
        let (mut next, mut oldest, steps) = (after, None, self.steps(channel));
        let mut walked = 0;
        for (seq, message) in self.walk_from(channel, after, last).take(steps) {
            walked += 1;
            next = seq;
            if message.is_some() {
                oldest = Some(seq);
                next = seq - 1;
                break;
            }
        }
        if oldest.is_none() && walked < steps {
            next = next.max(last);
        }
        self.subscribers[key].after = next;
        let newest = self.newest();
        let came_with = came_with.unwrap_or_else(|| self.id(after));
        let oldest = oldest.map_or(newest, |seq| self.id(seq));
        let position = self.id(next);
        let mut label = Rc::from("*");
        if let Some(feed) = &mut self.channels[channel].feed {
            feed.told.insert(key, feed.losses.moment);
            if let [only] = feed.selection.selectors() {
                label = only.as_str().into();
            }
        }
        Gap { channel: label, after: came_with, oldest, position }
    }
}
