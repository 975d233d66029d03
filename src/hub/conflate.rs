//! Conflation: subscribers that want of each key only the newest message.
//!
//! Such a subscriber is a cursor like any other; it only pulls from other places: the latest values of a channel instead
//! of its ring, and from the ring what has no key. While it is given a snapshot it has two numbers, as its client has
//! ([`Place`]): values up to the cursor, everything else up to a *horizon*, the newest number when it came. The horizon
//! lies in its [`Aside`], which few have, and none for long.

use super::Hub;
use super::channel::Channel;
use super::key::{ChannelKey, SubscriberKey};
use super::message::Message;
use super::pace::{Due, Held, Pace};
use super::pull::Gap;
use super::subscriber::{Membership, Memberships, Stranger, Subscriber};
use super::view::{Aside, Cut, View, Wish};
use crate::id::{MessageId, Place, Seq};
use crate::time::Instant;
use arrayvec::ArrayVec;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter::Peekable;
use std::rc::Rc;

/// Who has not kept step with the ticks and listens to more channels than this is given some values whole that could be
/// patches.
const PATCHED_CHANNELS: usize = 64;

/// What a subscriber of one channel lacks, in few numbers: who is at the same stage lacks the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    channel: ChannelKey,
    after: Seq,
    horizon: Seq,
    /// The newest message of all: what is lacked changes with it.
    newest: Seq,
    /// It wants patches, and was given a part of what it lacked.
    cut: Option<Cut>,
    /// What it had from other connections up to this number may be what a patch would change.
    given: Seq,
}

impl Hub {
    /// Whether the subscriber wants latest values.
    pub fn is_latest(&self, key: SubscriberKey) -> bool {
        !self.subscribers[key].view.is_plain()
    }

    /// What the subscriber wants.
    pub fn wish(&self, key: SubscriberKey) -> Wish {
        self.subscribers[key].view.wish()
    }

    /// Whether a snapshot of the subscriber's is unfinished, in which something is left for it.
    pub fn has_snapshot(&self, key: SubscriberKey) -> bool {
        let subscriber = &self.subscribers[key];
        let horizons = self.aside(key).map_or(&[][..], |aside| &aside.horizons);
        horizons.iter().any(|&(channel, horizon)| {
            let latest = self.channels[channel].latest();
            let cursor = subscriber.after.max(self.floor(key, channel));
            latest.is_some_and(|latest| {
                let mut values = latest.after(cursor).take_while(|message| message.id.seq <= horizon);
                values.any(|message| !message.is_removal())
            })
        })
    }

    /// At what stage the subscriber is, if others can be at the same.
    pub fn stage(&self, key: SubscriberKey) -> Option<Stage> {
        let subscriber = &self.subscribers[key];
        let Memberships::One { channel, .. } = subscriber.memberships else { return None };
        let after = subscriber.after;
        let horizon = self.horizon(key, channel).max(after);
        let (cut, given) = self.aside(key).map_or((None, 0), |aside| (aside.cut, aside.given));
        let oldest = || self.channels[channel].known_group(subscriber.view.pace())?.oldest_base();
        let given = if given > 0 && oldest().is_some_and(|oldest| oldest <= given) { given } else { 0 };
        let newest = self.seq;
        let is_shared = horizon >= subscriber.joined && !subscriber.stranger;
        let stage = Stage { channel, after, horizon, newest, cut, given };
        // Where nothing depends on what they have had, those who lack the same may have had more or less.
        let is_settled = horizon == after && (!subscriber.view.is_delta() || oldest().is_none());
        let settled = is_settled.then(|| self.channels[channel].settled(after)).flatten();
        let stage = settled.map_or(stage, |after| Stage { after, horizon: Seq::MAX, ..stage });
        is_shared.then_some(stage)
    }

    /// The value of its key that a subscriber was given last on this connection, if that is known: what a patch of
    /// `message` is made against.
    pub fn base(&self, key: SubscriberKey, message: &Message) -> Option<&Rc<Message>> {
        let subscriber = &self.subscribers[key];
        if !subscriber.view.is_delta() {
            return None;
        }
        let channel = match &subscriber.memberships {
            Memberships::One { channel, .. } => *channel,
            Memberships::Many(_) => self.names.get(&message.channel)?,
        };
        if self.horizon(key, channel) > 0 {
            return None;
        }
        let (cut, given) = self.aside(key).map_or((None, 0), |aside| (aside.cut, aside.given));
        let cursor = subscriber.after.max(self.floor(key, channel));
        let held = match cut {
            Some(Cut { whole, first, last }) => Held { cursor, whole, first, last },
            None => Held::all(cursor),
        };
        let group = self.channels[channel].known_group(subscriber.view.pace())?;
        group.base(held, message).filter(|base| base.id.seq > given)
    }

    pub(super) fn aside(&self, key: SubscriberKey) -> Option<&Aside> {
        match self.subscribers[key].view.has_aside() {
            true => self.asides.get(&key),
            false => None,
        }
    }

    pub(super) fn aside_mut(&mut self, key: SubscriberKey) -> &mut Aside {
        self.subscribers[key].view.set_aside(true);
        self.asides.entry(key).or_default()
    }

    /// Up to which number everything but values counts as had on a channel; 0 if no snapshot of it is unfinished.
    fn horizon(&self, key: SubscriberKey, channel: ChannelKey) -> Seq {
        let horizons = self.aside(key).map_or(&[][..], |aside| &aside.horizons);
        horizons.iter().find(|(of, _)| *of == channel).map_or(0, |&(_, horizon)| horizon)
    }

    pub(super) fn set_horizon(&mut self, key: SubscriberKey, channel: ChannelKey, horizon: Seq) {
        let horizons = &mut self.aside_mut(key).horizons;
        horizons.retain(|(of, _)| *of != channel);
        horizons.push((channel, horizon));
    }

    fn floor(&self, key: SubscriberKey, channel: ChannelKey) -> Seq {
        match &self.subscribers[key].memberships {
            Memberships::One { .. } => 0,
            Memberships::Many(many) => many.find(channel).map_or(0, |place| many.all[place as usize].floor),
        }
    }

    /// Adds at most `max` messages that the subscriber lacks to `pulled`, in the order of their numbers.
    pub(super) fn pull_latest<'a>(
        &'a self,
        now: Instant,
        key: SubscriberKey,
        max: usize,
        pulled: &mut impl Extend<&'a Rc<Message>>,
    ) {
        let subscriber = &self.subscribers[key];
        match &subscriber.memberships {
            Memberships::One { channel, .. } => {
                let horizon = self.horizon(key, *channel);
                pulled.extend(self.lacking(now, subscriber, *channel, subscriber.after, horizon).take(max));
            }
            Memberships::Many(many) => {
                let dirty = many.news.in_order().map(|(_, place)| &many.all[place as usize]);
                let mut channels: Vec<_> = dirty
                    .map(|membership| {
                        let horizon = self.horizon(key, membership.channel);
                        let after = subscriber.after.max(membership.floor);
                        self.lacking(now, subscriber, membership.channel, after, horizon).peekable()
                    })
                    .collect();
                merge(&mut channels, max, pulled);
            }
        }
    }

    /// What a subscriber lacks of a channel: values after `after`, all else after `horizon`, if that is larger.
    fn lacking<'a>(
        &'a self,
        now: Instant,
        subscriber: &'a Subscriber,
        channel: ChannelKey,
        after: Seq,
        horizon: Seq,
    ) -> impl Iterator<Item = &'a Rc<Message>> {
        let channel = &self.channels[channel];
        let horizon = horizon.max(after);
        let values = channel.latest().into_iter().flat_map(move |latest| latest.after(after));
        let mut values =
            values.filter(move |message| message.id.seq > horizon || !message.is_removal()).peekable();
        let mut rest = channel.ring.after(horizon).filter(|message| message.key().is_none()).peekable();
        let both = std::iter::from_fn(move || match (values.peek(), rest.peek()) {
            (Some(value), Some(other)) if value.id.seq > other.id.seq => rest.next(),
            (Some(_), _) => values.next(),
            (None, _) => rest.next(),
        });
        both.filter(move |message| message.reaches(subscriber.joined, now))
    }

    /// Whether a channel has something that a subscriber lacks who has had it up to `had`.
    pub(super) fn has_news(channel: &Channel, view: View, had: Seq) -> bool {
        match view.is_plain() {
            true => channel.ring.newest() > had,
            false => channel.newest() > had,
        }
    }

    /// The gaps the subscriber must be told of, as [`Hub::take_gaps`] says. After each it gets a fresh snapshot. With
    /// `whole`, its client continues at one place for all channels: then all of them begin anew, and are told.
    #[cold]
    pub(super) fn take_latest_gaps(&mut self, key: SubscriberKey, whole: bool) -> Vec<Gap> {
        if !self.subscribers[key].view.list().is_none() {
            self.touch_news(key);
        }
        let subscriber = &self.subscribers[key];
        let after = subscriber.after;
        let lost = |hub: &Self, channel: ChannelKey, had: Seq| {
            hub.channels[channel].lost_of_latest() > had.max(hub.horizon(key, channel))
        };
        let members: Vec<(ChannelKey, Seq, bool)> = match &subscriber.memberships {
            Memberships::One { channel, .. } => vec![(*channel, after, subscriber.stranger)],
            Memberships::Many(many) => {
                let had = |floor: Seq| after.max(floor);
                many.all.iter().map(|(_, it)| (it.channel, had(it.floor), it.stranger)).collect()
            }
        };
        let is_stranger = subscriber.stranger;
        let mut told: Vec<(ChannelKey, Seq)> = members
            .iter()
            .filter(|&&(channel, had, stranger)| stranger || lost(self, channel, had))
            .map(|&(channel, had, _)| (channel, had))
            .collect();
        if told.is_empty() && !is_stranger {
            return Vec::new();
        }
        let newest = self.newest();
        let Stranger { id: came_with, patterns: strange } = self.strangers.remove(&key).unwrap_or_default();
        let mut gaps: Vec<Gap> = Vec::new();
        let mut anew: Vec<ChannelKey> = Vec::new();
        for (pattern, after) in &strange {
            let matching =
                members.iter().filter(|(channel, ..)| pattern.matches(self.channels[*channel].name()));
            anew.extend(matching.map(|&(channel, ..)| channel));
            gaps.push(Gap {
                channel: pattern.as_str().into(),
                after: *after,
                oldest: newest,
                position: newest,
            });
        }
        if whole && !(told.is_empty() && gaps.is_empty()) {
            // A snapshot leaves out what has no key, and removals; and its numbers begin anew.
            let others = members.iter().filter(|(channel, ..)| !anew.contains(channel));
            told.extend(others.map(|&(channel, had, _)| (channel, had)));
        }
        told.sort_unstable();
        told.dedup_by_key(|(channel, _)| *channel);
        gaps.extend(told.iter().map(|&(channel, had)| {
            let channel = &self.channels[channel];
            Gap {
                channel: Rc::clone(channel.name()),
                after: came_with.unwrap_or_else(|| self.id(had)),
                oldest: channel.ring.oldest().map_or(newest, |seq| self.id(seq)),
                position: newest,
            }
        }));
        if gaps.is_empty() {
            self.subscribers[key].stranger = false;
            return gaps;
        }
        match whole {
            true => anew.extend(members.iter().map(|&(channel, ..)| channel)),
            false => anew.extend(told.iter().map(|&(channel, _)| channel)),
        }
        self.begin_anew(key, &anew);
        self.counts.gaps_told += gaps.len() as u64;
        gaps
    }

    /// Marks those channels of a subscriber that have news: of what was published since the last tick it has not been told
    /// one channel after the other.
    fn touch_news(&mut self, key: SubscriberKey) {
        let Subscriber { after, view, memberships, .. } = &mut self.subscribers[key];
        let Memberships::Many(many) = memberships else { return };
        let channels = &self.channels;
        let had = |membership: &Membership| membership.floor.max(*after);
        let has_news =
            |membership: &Membership| Self::has_news(&channels[membership.channel], *view, had(membership));
        let silent = many.all.iter().filter(|(_, membership)| membership.next == 0 && has_news(membership));
        let found: Vec<(u32, Seq)> =
            silent.map(|(place, membership)| (place as u32, had(membership))).collect();
        found.into_iter().for_each(|(place, had)| many.expect(place, had + 1));
    }

    /// Has the subscriber given fresh snapshots of these of its channels.
    fn begin_anew(&mut self, key: SubscriberKey, channels: &[ChannelKey]) {
        let newest = self.seq;
        let subscriber = &mut self.subscribers[key];
        subscriber.stranger = false;
        let after = std::mem::take(&mut subscriber.after);
        if let Memberships::Many(many) = &mut subscriber.memberships {
            for (_, membership) in &mut many.all {
                membership.stranger = false;
                membership.floor = membership.floor.max(after);
            }
            for &channel in channels {
                let Some(place) = many.find(channel) else { continue };
                many.all[place as usize].floor = 0;
                many.expect(place, 1);
            }
        }
        for &channel in channels {
            self.set_horizon(key, channel, newest);
        }
        self.aside_mut(key).horizon = newest;
    }

    /// Notes that the subscriber has been given everything up to `seq`, but what lies before a floor or a horizon.
    pub(super) fn advance_latest(&mut self, key: SubscriberKey, seq: Seq) {
        let Subscriber { view, after, .. } = self.subscribers[key];
        // A snapshot of a channel that joins comes at once, too.
        let has_snapshot = self.aside(key).is_some_and(|aside| !aside.horizons.is_empty());
        let in_snapshot = view.pace().period() > 0 && has_snapshot;
        if (view.is_fresh() || in_snapshot) && seq > after {
            self.aside_mut(key).is_told = true;
        }
        self.move_to(key, seq);
    }

    /// Notes that the subscriber is given only a part of what it lacks now. To be told before [`Hub::advance`] is.
    pub fn cut(&mut self, key: SubscriberKey) {
        let Subscriber { after, view, memberships, .. } = &self.subscribers[key];
        if !view.is_delta() {
            return;
        }
        let (after, pace, newest) = (*after, view.pace(), self.seq);
        let whole = match memberships {
            Memberships::Many(many) if many.all.len() > PATCHED_CHANNELS => Seq::MAX,
            // Of some channel it has had more than its cursor says.
            Memberships::Many(many) if many.all.iter().any(|(_, it)| it.floor > after) => Seq::MAX,
            _ => after,
        };
        let cut = Cut { whole, first: newest, last: newest };
        self.aside_mut(key).cut.get_or_insert(cut).last = newest;
        for channel in self.patched_channels(key) {
            self.channels[channel].group(pace).is_awaited = !pace.is_none();
        }
    }

    /// The channels of a subscriber, if they are few enough to be looked at with each delivery.
    fn patched_channels(&self, key: SubscriberKey) -> ArrayVec<ChannelKey, PATCHED_CHANNELS> {
        match &self.subscribers[key].memberships {
            Memberships::One { channel, .. } => std::iter::once(*channel).collect(),
            Memberships::Many(many) if many.all.len() <= PATCHED_CHANNELS => {
                many.all.iter().map(|(_, membership)| membership.channel).collect()
            }
            Memberships::Many(_) => ArrayVec::new(),
        }
    }

    fn move_to(&mut self, key: SubscriberKey, seq: Seq) {
        let subscriber = &mut self.subscribers[key];
        subscriber.after = seq;
        if let Memberships::Many(many) = &mut subscriber.memberships {
            let news: Vec<u32> = many.news.in_order().map(|(_, place)| place).collect();
            for place in news {
                let membership = &many.all[place as usize];
                let had = seq.max(membership.floor);
                let has_news = Self::has_news(&self.channels[membership.channel], subscriber.view, had);
                many.expect(place, if has_news { had + 1 } else { 0 });
            }
        }
    }

    /// Notes that the subscriber has been given all there is. If that ends a snapshot, or several, tells the place that
    /// its client knows and that of the newest message: there was nothing more between them, and it may continue at
    /// either.
    pub fn finish(&mut self, now: Instant, key: SubscriberKey) -> Option<(Place, MessageId)> {
        let newest = self.newest();
        if self.aside(key).is_some_and(|aside| aside.is_told) {
            self.aside_mut(key).is_told = false;
            self.drop_spent_aside(key);
            self.settle_pace(now, key);
        }
        if self.aside(key).is_some_and(|aside| aside.cut.is_some()) {
            self.aside_mut(key).cut = None;
            self.drop_spent_aside(key);
        }
        let after = self.subscribers[key].after;
        let view = self.subscribers[key].view;
        if view.is_delta() {
            for channel in self.patched_channels(key) {
                let channel = &mut self.channels[channel];
                let (newest, keys) = (channel.newest(), channel.latest().map_or(0, |latest| latest.keys()));
                channel.group(view.pace()).note_whole(newest, keys);
            }
        }
        let is_end = self.aside(key).is_some_and(|aside| !aside.horizons.is_empty() || aside.horizon > 0);
        if !is_end {
            return None;
        }
        let aside = self.aside_mut(key);
        aside.horizons.clear();
        aside.horizon = 0;
        self.drop_spent_aside(key);
        self.move_to(key, newest.seq);
        let place = Place { id: self.id(after), ahead: newest.seq - after, began: None };
        Some((place, newest))
    }

    fn drop_spent_aside(&mut self, key: SubscriberKey) {
        if self.asides.get(&key).is_some_and(Aside::is_spent) {
            self.asides.remove(&key);
            self.subscribers[key].view.set_aside(false);
        }
    }

    /// From where the subscriber would continue if it lost its connection now.
    pub fn place(&self, key: SubscriberKey) -> Place {
        let after = self.subscribers[key].after;
        if self.is_beginning(key) {
            return self.place_after(key, self.id(after));
        }
        let horizon = self.aside(key).map_or(0, |aside| aside.horizon);
        Place { id: self.id(after), ahead: horizon.saturating_sub(after), began: None }
    }

    /// Has a subscriber that was told something at no tick wait for those of its pace from now on.
    fn settle_pace(&mut self, now: Instant, key: SubscriberKey) {
        let view = self.subscribers[key].view;
        let mut settled = view;
        settled.settle();
        // From a tick to the next is a period.
        if !now.as_millis().is_multiple_of(view.pace().period()) {
            settled.set_early(true);
            self.ticks.add_early(now, view.pace(), key);
        }
        self.relist(now, key, settled);
        self.remind(now, key);
    }

    /// Sees to it that the next tick looks at the channels of a subscriber of some pace.
    fn remind(&mut self, now: Instant, key: SubscriberKey) {
        let subscriber = &self.subscribers[key];
        let pace = subscriber.view.list();
        let (after, view) = (subscriber.after, subscriber.view);
        let behind = |channel: &ChannelKey| Self::has_news(&self.channels[*channel], view, after);
        let channels = self.channels_of_member(key).into_iter().map(|(_, channel)| channel);
        let channels: Vec<ChannelKey> = channels.filter(behind).collect();
        for channel in channels {
            let group = self.channels[channel].group(pace);
            if !std::mem::replace(&mut group.is_pending, true) {
                self.ticks.add(now, pace, channel);
            }
        }
    }

    /// Has a subscriber of [`Pace::HELD`] told at once from now on; it is ready if it lacks something.
    pub fn release(&mut self, now: Instant, key: SubscriberKey) {
        let view = self.subscribers[key].view;
        if view.pace() == Pace::HELD {
            let simple = View::of(Wish { pace: Pace::NONE, ..view.wish() });
            self.relist(now, key, simple);
            self.touch_news(key);
            self.mark(key);
        }
    }

    /// Gives the subscriber another wish. What is wanted already is never taken back; only the pace may change.
    pub fn set_wish(&mut self, now: Instant, key: SubscriberKey, wish: Wish) {
        let old = self.subscribers[key].view;
        let known = old.wish();
        let pace = if wish.pace.is_none() { known.pace } else { wish.pace };
        let wish = Wish { latest: true, pace, delta: known.delta || wish.delta };
        let mut view = View::of(wish);
        if !known.pace.is_none() && !old.is_fresh() {
            view.settle();
        }
        view.set_early(old.is_early());
        if view.wish() == known {
            return;
        }
        if view.is_early() {
            self.ticks.add_early(now, view.pace(), key);
        }
        if old.is_plain() {
            self.end_left(now, key);
        }
        let newest = self.seq;
        self.relist(now, key, view);
        if wish.delta && !known.delta {
            // What it was given before was not noted.
            self.aside_mut(key).given = newest;
        }
        if !view.list().is_none() {
            self.remind(now, key);
        }
    }

    /// Does what is due at the ticks of all paces: marks those ready who may have something.
    pub fn tick_paces(&mut self, now: Instant) {
        while let Some(Due { pace, channels, early }) = self.ticks.take_due(now) {
            for channel in channels {
                self.tick_channel(now, pace, channel);
            }
            // Each may have gone, and another one be in its place: if that has the same pace, it has come since the last
            // tick, too.
            for key in early {
                if let Some(subscriber) = self.subscribers.get_mut(key)
                    && subscriber.view.pace() == pace
                {
                    subscriber.view.set_early(false);
                }
            }
        }
    }

    fn tick_channel(&mut self, now: Instant, pace: Pace, key: ChannelKey) {
        // Its channel may have been forgotten, and another one be in its place.
        let Some(channel) = self.channels.get(key) else { return };
        let newest = channel.newest();
        if !channel.known_group(pace).is_some_and(|group| group.is_pending) {
            return;
        }
        self.change_groups(key, |channel| channel.group(pace).tick(newest));
        self.in_delivery.push(key);
        let mut skipped = false;
        for place in 0.. {
            let Some(entry) =
                self.channels[key].known_group(pace).and_then(|group| group.members.get(place)).copied()
            else {
                break;
            };
            let subscriber = &mut self.subscribers[entry.subscriber];
            subscriber.memberships.expect_news(entry.membership, subscriber.after);
            if subscriber.view.is_early() {
                skipped = true;
                continue;
            }
            self.mark(entry.subscriber);
        }
        if skipped {
            self.channels[key].group(pace).is_pending = true;
            self.ticks.add(now, pace, key);
        }
    }

    /// Lets go of what was superseded before all had been told, as all have been.
    #[inline(never)]
    pub(super) fn settle_groups(&mut self) {
        for key in std::mem::take(&mut self.in_delivery) {
            if !self.channels.contains(key) {
                continue;
            }
            self.change_groups(key, |channel| {
                let newest = channel.newest();
                let groups = channel.keyed.iter_mut().flat_map(|keyed| &mut keyed.groups);
                groups.for_each(|group| group.settle(newest));
            });
        }
    }
}

/// Adds the first `max` messages of all channels together, in the order of their numbers.
fn merge<'a, I>(channels: &mut [Peekable<I>], max: usize, pulled: &mut impl Extend<&'a Rc<Message>>)
where
    I: Iterator<Item = &'a Rc<Message>>,
{
    let head = |channel: &mut Peekable<I>| channel.peek().map(|message| message.id.seq);
    let heads = channels.iter_mut().enumerate();
    let mut heap: BinaryHeap<Reverse<(Seq, usize)>> =
        heads.filter_map(|(index, channel)| Some(Reverse((head(channel)?, index)))).collect();
    for _ in 0..max {
        let Some(Reverse((seq, index))) = heap.pop() else { return };
        pulled.extend(channels[index].next());
        heap.extend(head(&mut channels[index]).map(|seq| Reverse((seq, index))));
        // A message of several topics is in several rings.
        while let Some(&Reverse((_, index))) = heap.peek().filter(|Reverse((other, _))| *other == seq) {
            heap.pop();
            channels[index].next();
            heap.extend(head(&mut channels[index]).map(|seq| Reverse((seq, index))));
        }
    }
}

#[cfg(test)]
mod tests;
