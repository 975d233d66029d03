//! Memberships: the places of subscribers on the lists of channels.

use super::Hub;
use super::channel::Channel;
use super::key::{ChannelKey, Entry, SubscriberKey};
use super::memory::MEMBERSHIP_BYTES;
use super::pace::Pace;
use super::parting::Until;
use super::subscriber::{Membership, Memberships, NOT_YET};
use super::view::View;
use crate::id::Seq;
use crate::time::Instant;
use std::ops::RangeInclusive;

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
        let view = self.subscribers[key].view;
        for &channel in left {
            let subscriber = &mut self.subscribers[key];
            let Memberships::Many(many) = &mut subscriber.memberships else { return };
            let Some(place) = many.find(channel) else { continue };
            let membership = &mut many.all[place as usize];
            if membership.is_left() {
                continue;
            }
            if !view.is_plain() {
                // What it lacks of latest values is not what was published meanwhile.
                self.end_membership(now, key, channel);
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

    /// The same while something has been accepted that has no number yet: that is still for it, too, where it stays until
    /// [`Hub::part_now`] is told.
    pub(super) fn part_later(&mut self, now: Instant, key: SubscriberKey, left: &[ChannelKey], until: Until) {
        let subscriber = &mut self.subscribers[key];
        let Memberships::Many(many) = &mut subscriber.memberships else { return };
        if !subscriber.view.is_plain() {
            return self.part(now, key, left);
        }
        for &channel in left {
            let Some(place) = many.find(channel) else { continue };
            let membership = &mut many.all[place as usize];
            if membership.is_left() {
                continue;
            }
            membership.until = NOT_YET;
            many.left += 1;
            self.channels[channel].left += 1;
            self.parting.add(key, channel, until, self.seq);
        }
    }

    /// What some proposals have become is known: whoever has left since gets that, and no more. If they begin with number
    /// `first` only now, their records were counted from 1; 0 = nothing of them has come.
    pub fn part_now(&mut self, now: Instant, proposals: &RangeInclusive<u64>, first: Seq) {
        while let Some((key, channel)) = self.parting.next(proposals) {
            let Some(((_, last), newest)) = self.parting.forget(key, channel) else { return };
            let last = if first == 0 { newest } else { newest.max(last.saturating_add(first - 1)) };
            self.part_up_to(now, key, channel, last);
        }
    }

    /// Nothing of a proposal has come; who has left since still waits for an earlier one.
    pub fn part_with(&mut self, proposal: u64, earlier: Until) {
        while let Some((key, channel)) = self.parting.next(&(proposal..=proposal)) {
            let Some((_, newest)) = self.parting.forget(key, channel) else { return };
            self.parting.add(key, channel, earlier, newest);
        }
    }

    /// A channel that a subscriber has left has been for it up to number `last`.
    fn part_up_to(&mut self, now: Instant, key: SubscriberKey, channel: ChannelKey, last: Seq) {
        let subscriber = &mut self.subscribers[key];
        let Memberships::Many(many) = &mut subscriber.memberships else { return };
        let Some(place) = many.find(channel) else { return };
        let membership = &mut many.all[place as usize];
        let had = subscriber.after.max(membership.floor);
        let ring = &self.channels[channel].ring;
        let last = last.min(ring.newest().max(ring.evicted()));
        let is_owed = ring.after(had).next().is_some_and(|message| message.id.seq <= last);
        match is_owed || ring.evicted() > had && had < last || membership.stranger {
            true => membership.until = last,
            false => self.end_membership(now, key, channel),
        }
    }

    /// Takes a subscriber of several channels off the list of one.
    pub(super) fn end_membership(&mut self, now: Instant, key: SubscriberKey, channel: ChannelKey) {
        let view = self.subscribers[key].view;
        let Memberships::Many(many) = &mut self.subscribers[key].memberships else { return };
        if let Some(membership) = many.remove(channel) {
            self.shares.release(many.payer, MEMBERSHIP_BYTES);
            self.channels[channel].left -= u32::from(membership.is_left());
            if membership.until == NOT_YET {
                self.parting.forget(key, channel);
            }
            self.leave(now, membership.channel, membership.index, view);
        }
    }

    /// Ends the memberships that a subscriber has left, whatever it is owed there.
    pub(super) fn end_left(&mut self, now: Instant, key: SubscriberKey) {
        let Memberships::Many(many) = &self.subscribers[key].memberships else { return };
        let left = many.all.iter().filter(|(_, membership)| membership.is_left());
        let left: Vec<ChannelKey> = left.map(|(_, membership)| membership.channel).collect();
        left.into_iter().for_each(|channel| self.end_membership(now, key, channel));
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
        if membership.until == NOT_YET {
            self.parting.forget(key, channel);
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
            if membership.is_left() && membership.next == 0 && membership.until != NOT_YET {
                self.end_membership(now, key, channel);
            }
        }
    }

    /// Puts subscriber `key` on the list of `channel`.
    pub(super) fn join(&mut self, key: SubscriberKey, channel: ChannelKey, floor: Seq) {
        let subscriber = &mut self.subscribers[key];
        let view = subscriber.view;
        let index = match view.is_plain() {
            true => self.channels[channel].subscribers.len() as u32,
            false => list_of(&mut self.channels[channel], view).len() as u32,
        };
        let membership = match &mut subscriber.memberships {
            Memberships::One { channel: only, index: place } => {
                (*only, *place) = (channel, index);
                subscriber.after = subscriber.after.max(floor);
                0
            }
            Memberships::Many(many) => {
                let of = &self.channels[channel];
                let had = subscriber.after.max(floor);
                let has_news = Self::has_news(of, view, had) || of.ring.evicted() > had;
                let next = if has_news { had + 1 } else { 0 };
                let (joined, until) = (self.seq, Seq::MAX);
                let (named, stranger) = (false, false);
                self.shares.add(many.payer, MEMBERSHIP_BYTES);
                many.insert(Membership { channel, index, floor, joined, next, named, stranger, until })
            }
        };
        let list = match view.is_plain() {
            true => &mut self.channels[channel].subscribers,
            false => self.channels[channel].list(view.list()),
        };
        list.push(Entry { subscriber: key, membership });
    }

    /// Removes a subscriber. Its key is invalid afterwards.
    pub fn detach(&mut self, now: Instant, key: SubscriberKey) {
        self.note_moved(key);
        let subscriber = self.subscribers.remove(key);
        if subscriber.stranger {
            self.strangers.remove(&key);
        }
        self.ahead.forget(key);
        if !self.beginnings.is_empty() {
            self.beginnings.remove(&key);
        }
        let view = subscriber.view;
        if view.has_aside() {
            self.asides.remove(&key);
        }
        if !self.overfull.is_empty() {
            self.overfull.retain(|other| *other != key);
        }
        match subscriber.memberships {
            Memberships::One { channel, index } => {
                if self.channels[channel].feed.is_some() {
                    self.leave_feed(key, channel);
                }
                self.leave(now, channel, index, view);
            }
            Memberships::Many(many) => {
                let patterns = self.patterns.remove(key);
                self.shares.release(many.payer, patterns + many.all.len() * MEMBERSHIP_BYTES);
                for (_, membership) in &many.all {
                    self.channels[membership.channel].left -= u32::from(membership.is_left());
                    if membership.until == NOT_YET {
                        self.parting.forget(key, membership.channel);
                    }
                    // Leaving moves others in a channel's list, never this one: it is on each list once.
                    self.leave(now, membership.channel, membership.index, view);
                }
            }
        }
    }

    /// Takes place `index` off the list of `channel` and tells whoever is moved there.
    fn leave(&mut self, now: Instant, channel: ChannelKey, index: u32, view: View) {
        self.take_off(channel, index, view.list());
        let left = &self.channels[channel];
        let (is_empty, is_feed, spoken) = (left.places() == 0, left.feed.is_some(), left.spoken);
        if is_empty && is_feed {
            return self.close_feed(channel);
        }
        if !view.is_plain() {
            self.change_groups(channel, |channel| leave_group(channel, view));
        }
        if is_empty {
            match spoken {
                true => self.schedule(now, channel),
                false => self.forget(channel),
            }
        }
    }

    /// The same of the list of those who are told at `pace`, and nothing else.
    fn take_off(&mut self, channel: ChannelKey, index: u32, pace: Pace) {
        let list = self.channels[channel].list(pace);
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
    }

    /// Moves a subscriber to the lists where those stand who have such a view, and gives it that view.
    pub(super) fn relist(&mut self, now: Instant, key: SubscriberKey, mut view: View) {
        let old = self.subscribers[key].view;
        view.set_aside(old.has_aside());
        self.subscribers[key].view = view;
        for (membership, channel) in self.channels_of_member(key) {
            let from = match &self.subscribers[key].memberships {
                Memberships::One { index, .. } => *index,
                Memberships::Many(many) => many.all[membership as usize].index,
            };
            let list = list_of(&mut self.channels[channel], view);
            if old.list() != view.list() {
                let to = list.len() as u32;
                list.push(Entry { subscriber: key, membership });
                match &mut self.subscribers[key].memberships {
                    Memberships::One { index, .. } => *index = to,
                    Memberships::Many(many) => many.all[membership as usize].index = to,
                }
                self.take_off(channel, from, old.list());
            }
            if !old.is_plain() {
                self.change_groups(channel, |channel| leave_group(channel, old));
            }
            self.schedule(now, channel);
        }
    }

    /// The channels of a subscriber, each with the place of its membership.
    pub(super) fn channels_of_member(&self, key: SubscriberKey) -> Vec<(u32, ChannelKey)> {
        match &self.subscribers[key].memberships {
            Memberships::One { channel, .. } => vec![(0, *channel)],
            Memberships::Many(many) => {
                many.all.iter().map(|(place, membership)| (place as u32, membership.channel)).collect()
            }
        }
    }
}

/// The list for subscribers with such a view, of whom one more comes.
#[inline(never)]
fn list_of(channel: &mut Channel, view: View) -> &mut Vec<Entry> {
    if view.is_delta() {
        channel.group(view.pace()).deltas += 1;
    }
    channel.list(view.list())
}

/// Takes note that a subscriber with such a view has left the channel.
#[inline(never)]
fn leave_group(channel: &mut Channel, view: View) {
    if view.is_delta() {
        channel.group(view.pace()).deltas -= 1;
    }
    channel.drop_group(view.pace());
}
