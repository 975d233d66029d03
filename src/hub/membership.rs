//! Memberships: the places of subscribers on the lists of channels.

use super::Hub;
use super::channel::{Channel, ChannelKey, Entry};
use super::subscriber::{Membership, Memberships, SubscriberKey};
use crate::id::Seq;
use crate::time::Instant;

/// Room for so many subscribers on a channel's list is never given back.
const CROWD: usize = 64;

impl Hub {
    /// Whether subscriber `key` is on the list of `channel`.
    pub(super) fn listens(&self, key: SubscriberKey, channel: ChannelKey) -> bool {
        match &self.subscribers[key].memberships {
            Memberships::One { channel: only, .. } => *only == channel,
            Memberships::Many(many) => many.find(channel).is_some(),
        }
    }

    /// Ends the memberships in the channels `left` of a subscriber of several. Where it has not had all that was
    /// published before, that is still for it: it stays on the list until its cursor has passed it.
    pub(super) fn part(&mut self, now: Instant, key: SubscriberKey, left: &[ChannelKey]) {
        for &channel in left {
            let subscriber = &mut self.subscribers[key];
            let Memberships::Many(many) = &mut subscriber.memberships else { return };
            let Some(place) = many.find(channel) else { continue };
            let membership = &mut many.all[place as usize];
            if membership.is_left() {
                continue;
            }
            let had = subscriber.after.max(membership.floor);
            let Channel { ring, left, .. } = &mut self.channels[channel];
            if ring.newest() > had || ring.evicted() > had || membership.stranger {
                membership.until = ring.newest().max(ring.evicted());
                many.left += 1;
                *left += 1;
            } else {
                self.end_membership(now, key, channel);
            }
        }
    }

    /// Takes a subscriber of several channels off the list of one.
    pub(super) fn end_membership(&mut self, now: Instant, key: SubscriberKey, channel: ChannelKey) {
        let Memberships::Many(many) = &mut self.subscribers[key].memberships else { return };
        if let Some(membership) = many.remove(channel) {
            self.channels[channel].left -= u32::from(membership.is_left());
            self.leave(now, membership.channel, membership.index);
        }
    }

    /// Whether a subscriber on the list of a channel has left it, and only has to get what was published before.
    pub(super) fn has_left(&self, key: SubscriberKey, channel: ChannelKey) -> bool {
        let Memberships::Many(many) = &self.subscribers[key].memberships else { return false };
        many.left > 0 && many.find(channel).is_some_and(|place| many.all[place as usize].is_left())
    }

    /// Has a subscriber that has left a channel, but is still on its list, stay.
    pub(super) fn stay(&mut self, key: SubscriberKey, channel: ChannelKey) {
        let newest = self.seq;
        let subscriber = &mut self.subscribers[key];
        let Memberships::Many(many) = &mut subscriber.memberships else { return };
        let Some(place) = many.find(channel) else { return };
        let membership = &mut many.all[place as usize];
        if !membership.is_left() {
            return;
        }
        membership.until = Seq::MAX;
        if membership.next == 0 {
            membership.floor = newest;
        }
        many.left -= 1;
        self.channels[channel].left -= 1;
    }

    /// Ends memberships that were left, and owe nothing any more.
    pub(super) fn end_settled(&mut self, now: Instant) {
        for (key, channel) in std::mem::take(&mut self.settled) {
            // It may be another's by now, or have come back.
            let Some(subscriber) = self.subscribers.get(key) else { continue };
            let Memberships::Many(many) = &subscriber.memberships else { continue };
            let Some(place) = many.find(channel) else { continue };
            let membership = &many.all[place as usize];
            if membership.is_left() && membership.next == 0 {
                self.end_membership(now, key, channel);
            }
        }
    }

    /// Puts subscriber `key` on the list of `channel`.
    pub(super) fn join(&mut self, key: SubscriberKey, channel: ChannelKey, floor: Seq) {
        let index = self.channels[channel].subscribers.len() as u32;
        let subscriber = &mut self.subscribers[key];
        let membership = match &mut subscriber.memberships {
            Memberships::One { channel: only, index: place } => {
                (*only, *place) = (channel, index);
                subscriber.after = subscriber.after.max(floor);
                0
            }
            Memberships::Many(many) => {
                let ring = &self.channels[channel].ring;
                let had = subscriber.after.max(floor);
                let has_news = ring.newest() > had || ring.evicted() > had;
                let next = if has_news { had + 1 } else { 0 };
                let (named, stranger) = (false, false);
                many.insert(Membership { channel, index, floor, next, named, stranger, until: Seq::MAX })
            }
        };
        self.channels[channel].subscribers.push(Entry { subscriber: key, membership });
    }

    /// Removes a subscriber. Its key is invalid afterwards.
    pub fn detach(&mut self, now: Instant, key: SubscriberKey) {
        let subscriber = self.subscribers.remove(key);
        if subscriber.stranger {
            self.strangers.remove(&key);
        }
        if !self.overfull.is_empty() {
            self.overfull.retain(|other| *other != key);
        }
        match subscriber.memberships {
            Memberships::One { channel, index } => self.leave(now, channel, index),
            Memberships::Many(many) => {
                self.patterns.remove(&key);
                for (_, membership) in &many.all {
                    self.channels[membership.channel].left -= u32::from(membership.is_left());
                    // Leaving moves others in a channel's list, never this one: it is on each list once.
                    self.leave(now, membership.channel, membership.index);
                }
            }
        }
    }

    /// Takes place `index` off the list of `channel` and tells whoever is moved there.
    fn leave(&mut self, now: Instant, channel: ChannelKey, index: u32) {
        let list = &mut self.channels[channel].subscribers;
        list.swap_remove(index as usize);
        if let Some(moved) = list.get(index as usize) {
            match &mut self.subscribers[moved.subscriber].memberships {
                Memberships::One { index: place, .. } => *place = index,
                Memberships::Many(many) => many.all[moved.membership as usize].index = index,
            }
        }
        let room = list.capacity();
        if room > CROWD && list.len() < room / 4 {
            list.shrink_to(room / 2);
        }
        if list.is_empty() {
            match self.channels[channel].spoken {
                true => self.schedule(now, channel),
                false => self.forget(channel),
            }
        }
    }
}
