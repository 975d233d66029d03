//! Paces: how often a subscriber wants to be told, and who shares the ticks of a pace on a channel.
//!
//! All subscribers of one pace on one channel are ready at the same moments, common ticks that are multiples of the
//! pace's period, and so lack the same: what they get is encoded once. A channel is looked at by a tick only if something
//! was published on it since the one before.

use super::key::{ChannelKey, Entry, SubscriberKey};
use super::latest::ENTRY_BYTES;
use super::message::Message;
use crate::carry::carry;
use crate::id::Seq;
use crate::time::Instant;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Milliseconds between two ticks of each pace, slowest first.
const PERIODS: [u64; 9] = [10_000, 5000, 2000, 1000, 500, 200, 100, 50, 20];

/// At most how often a subscriber is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pace(u8);

carry! {
    struct Pace(_)
}

impl Pace {
    /// Whenever there is something.
    pub const NONE: Self = Self(0);
    /// Not at all, until [`Hub::release`](super::Hub::release): its owner keeps the time itself.
    pub const HELD: Self = Self(15);

    /// The fastest pace of at most `rate` deliveries a second; `None` if that is not between 0.1 and 50.
    pub fn at_most(rate: f64) -> Option<Self> {
        if !(0.1..=50.0).contains(&rate) {
            return None;
        }
        let is_kept = |period: &&u64| 1000.0 / **period as f64 <= rate;
        let count = PERIODS.iter().take_while(is_kept).count();
        Some(Self(count as u8))
    }

    /// Whether there is none.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Milliseconds between two deliveries; 0 if it does not say.
    pub const fn period(self) -> u64 {
        match self.0 {
            number @ 1..=9 => PERIODS[number as usize - 1],
            _ => 0,
        }
    }

    /// What it is in four bits.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The pace of these bits.
    pub const fn of_bits(bits: u8) -> Self {
        Self(bits)
    }
}

/// Subscribers of one pace on a channel, and what was superseded since they were told.
#[derive(Debug)]
pub struct Group {
    /// Which pace. That of [`Pace::NONE`] has no members: they are on the channel's own list.
    pub pace: Pace,
    /// Who; see [`Channel::subscribers`](super::channel::Channel::subscribers).
    pub members: Vec<Entry>,
    /// Something was published since the last tick.
    pub is_pending: bool,
    /// How many subscribers want patches. What was superseded is kept for them only.
    pub deltas: u32,
    /// Somebody who wants patches was given a part of what was for it at the last tick, and is given the rest when its
    /// socket takes it.
    pub is_awaited: bool,
    /// At least one. From place `ticked` on, they have begun with the last tick or later.
    periods: Vec<Period>,
    ticked: usize,
}

carry! {
    struct Group { pace, members, is_pending, deltas, is_awaited, periods, ticked }
}

/// Most periods between two ticks.
const PERIODS_MAX: usize = 8;
/// One begins when of so many keys one has changed in the last.
const KEYS_PER_PERIOD: usize = 8;

/// A time that begins with a tick, or when somebody has everything: whoever had everything then can be given patches of
/// all that is superseded in it.
#[derive(Debug, Default)]
struct Period {
    /// The newest message of the channel when it began.
    since: Seq,
    /// What was the latest value when it began, of keys that changed in it; and the number of what superseded it.
    superseded: BTreeMap<Box<str>, (Rc<Message>, Seq)>,
    /// The lowest number of these messages.
    oldest: Option<Seq>,
    /// Bytes of these messages.
    bytes: usize,
    /// There was no room for all of it: nobody is given patches.
    is_given_up: bool,
}

carry! {
    struct Period { since, superseded, oldest, bytes, is_given_up }
}

impl Period {
    fn new(newest: Seq) -> Self {
        Self { since: newest, ..Self::default() }
    }

    /// Keeps what was superseded by message `seq` if that takes no more than `room` bytes, else nothing any more: whoever
    /// is told then is given whole values.
    fn keep(&mut self, key: &str, old: &Rc<Message>, seq: Seq, room: usize) {
        let cost = old.cost() + ENTRY_BYTES;
        if self.is_given_up || cost > room {
            *self = Self { is_given_up: true, ..Self::new(self.since) };
            return;
        }
        self.bytes += cost;
        self.oldest = Some(self.oldest.map_or(old.id.seq, |oldest| oldest.min(old.id.seq)));
        self.superseded.insert(key.into(), (Rc::clone(old), seq));
    }
}

/// What a subscriber that wants patches holds of a channel, as far as its numbers tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Its cursor.
    pub cursor: Seq,
    /// It holds the latest value of every key when this was the newest message, but for what it was given since.
    pub whole: Seq,
    /// What the newest message was when it was first given a part of what it lacked since.
    pub first: Seq,
    /// What the newest message was when it was given something last.
    pub last: Seq,
}

impl Held {
    /// Of whoever has everything up to its cursor.
    pub const fn all(cursor: Seq) -> Self {
        Self { cursor, whole: cursor, first: cursor, last: cursor }
    }
}

impl Group {
    /// A group without members, of a channel whose newest message is `newest`.
    pub fn new(pace: Pace, newest: Seq) -> Self {
        let periods = vec![Period::new(newest)];
        let (members, is_pending, deltas, is_awaited, ticked) = (Vec::new(), false, 0, false, 0);
        Self { pace, members, is_pending, deltas, is_awaited, periods, ticked }
    }

    /// Bytes of what was superseded and is kept.
    pub fn bytes(&self) -> usize {
        self.periods.iter().map(|period| period.bytes).sum()
    }

    /// The lowest number of a message that patches may be made against.
    pub fn oldest_base(&self) -> Option<Seq> {
        self.periods.iter().filter_map(|period| period.oldest).min()
    }

    /// Takes note of message `seq`, which supersedes `old`; for that there are `room` bytes.
    pub fn note(&mut self, seq: Seq, old: Option<&Rc<Message>>, room: usize) {
        let Some(period) = self.periods.last_mut().filter(|_| self.deltas > 0) else { return };
        if let Some(old) = old.filter(|old| !old.is_removal() && old.id.seq <= period.since)
            && let Some(key) = old.key()
        {
            period.keep(key, old, seq, room);
        }
    }

    /// Begins a new period: those who have not been told yet can still have patches against what was superseded before.
    pub fn tick(&mut self, newest: Seq) {
        (self.is_pending, self.is_awaited) = (false, false);
        self.periods.drain(..self.ticked);
        self.ticked = self.periods.len();
        self.periods.push(Period::new(newest));
    }

    /// Notes that somebody who wants patches has everything, and `keys` keys there are. If many of them have changed since
    /// a period has begun, one begins now; else the few will come whole.
    pub fn note_whole(&mut self, newest: Seq, keys: usize) {
        let has_room = self.periods.len() < self.ticked + PERIODS_MAX;
        let has_changed = |period: &Period| period.superseded.len() * KEYS_PER_PERIOD >= keys.max(1);
        if has_room && !self.pace.is_none() && self.periods.last().is_some_and(has_changed) {
            self.periods.push(Period::new(newest));
        }
    }

    /// Forgets all that was superseded: the newest message is `newest` now.
    pub fn begin_anew(&mut self, newest: Seq) {
        (self.periods, self.ticked) = (vec![Period::new(newest)], 0);
    }

    /// Lets go of what is for those who were to be told at the last tick, if all of them have been. Without ticks of its
    /// own, a group begins a new period.
    pub fn settle(&mut self, newest: Seq) {
        if self.pace.is_none() {
            self.tick(newest);
        }
        if !self.is_awaited {
            self.periods.drain(..self.ticked);
            self.ticked = 0;
        }
    }

    /// The value that a subscriber was given last of the key of `message`, which is the latest and which it lacks, if that
    /// is known.
    pub fn base(&self, held: Held, message: &Message) -> Option<&Rc<Message>> {
        let key = message.key()?;
        let superseded = |period: &'_ Period| period.superseded.get(key).map(|(old, by)| (old.id.seq, *by));
        let find = |wanted: &dyn Fn(Seq, Seq) -> bool| {
            let mut found = self.periods.iter().rev().filter_map(|period| period.superseded.get(key));
            found.find(|(old, by)| wanted(old.id.seq, *by)).map(|(old, _)| old)
        };
        // It was given if it was the latest whenever something was given.
        let given = find(&|old, by| old <= held.cursor && by > held.last);
        if given.is_some() || held.first == held.whole {
            return given;
        }
        // Else it has what it had when it was given all, if what was the latest when it was given a part first is newer
        // than its cursor, as all is that came later.
        let place = self.periods.iter().rposition(|period| period.since <= held.first)?;
        let later = &self.periods[place..];
        let then = later.iter().find_map(superseded).map_or(message.id.seq, |(old, _)| old);
        let is_known = then <= later[0].since && !later.iter().any(|period| period.is_given_up);
        (is_known && then > held.cursor).then(|| find(&|old, by| old <= held.whole && by > held.whole))?
    }
}

/// The next tick of a pace.
#[derive(Debug)]
struct Tick {
    at: Instant,
    channels: Vec<ChannelKey>,
    early: Vec<SubscriberKey>,
}

carry! {
    struct Tick { at, channels, early }
}

/// What a tick is for.
#[derive(Debug, PartialEq, Eq)]
pub struct Due {
    /// Of which pace it is.
    pub pace: Pace,
    /// Channels to look at.
    pub channels: Vec<ChannelKey>,
    /// Subscribers for whom it is too early; the next one is not.
    pub early: Vec<SubscriberKey>,
}

/// Channels that have news for their subscribers of some pace, and the next ticks.
#[derive(Debug)]
pub struct Ticks {
    paces: [Tick; PERIODS.len()],
    next: Instant,
}

carry! {
    struct Ticks { paces, next }
}

impl Default for Ticks {
    fn default() -> Self {
        let none = |_| Tick { at: Instant::NEVER, channels: Vec::new(), early: Vec::new() };
        Self { paces: std::array::from_fn(none), next: Instant::NEVER }
    }
}

impl Ticks {
    /// When the next tick is due.
    pub const fn next(&self) -> Instant {
        self.next
    }

    /// Has the next tick of `pace` after `now` look at `channel`.
    pub fn add(&mut self, now: Instant, pace: Pace, channel: ChannelKey) {
        if let Some(tick) = self.tick(now, pace) {
            tick.channels.push(channel);
        }
    }

    /// Has the next tick of `pace` after `now` be too early for a subscriber.
    pub fn add_early(&mut self, now: Instant, pace: Pace, subscriber: SubscriberKey) {
        if let Some(tick) = self.tick(now, pace) {
            tick.early.push(subscriber);
        }
    }

    /// The next tick of `pace` after `now`, if that has any.
    fn tick(&mut self, now: Instant, pace: Pace) -> Option<&mut Tick> {
        let period = pace.period();
        let tick = (period > 0).then(|| &mut self.paces[usize::from(pace.0) - 1])?;
        if tick.at == Instant::NEVER {
            tick.at = Instant::from_millis((now.as_millis() / period + 1) * period);
            self.next = self.next.min(tick.at);
        }
        Some(tick)
    }

    /// What is due at `now`, of one pace.
    pub fn take_due(&mut self, now: Instant) -> Option<Due> {
        if self.next > now {
            return None;
        }
        let place = self.paces.iter().position(|tick| tick.at <= now)?;
        let tick = &mut self.paces[place];
        tick.at = Instant::NEVER;
        let (channels, early) = (std::mem::take(&mut tick.channels), std::mem::take(&mut tick.early));
        self.next = self.paces.iter().map(|tick| tick.at).min().unwrap_or(Instant::NEVER);
        Some(Due { pace: Pace(place as u8 + 1), channels, early })
    }
}

#[cfg(any(test, feature = "check"))]
impl Ticks {
    /// Whether the next tick of a pace is too early for a subscriber.
    pub fn is_early(&self, pace: Pace, subscriber: SubscriberKey) -> bool {
        self.paces[usize::from(pace.0) - 1].early.contains(&subscriber)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_rounded_down() {
        let period = |rate| Pace::at_most(rate).map(Pace::period);
        assert_eq!(
            [0.1, 0.19, 0.2, 0.7, 1.0, 2.0, 4.9].map(period),
            [10_000, 10_000, 5000, 2000, 1000, 500, 500].map(Some)
        );
        assert_eq!([5.0, 19.9, 20.0, 49.9, 50.0].map(period), [200, 100, 50, 50, 20].map(Some));
        assert_eq!([0.0, 0.09, 50.1, -1.0, f64::NAN, f64::INFINITY].map(period), [None; 6]);
    }

    #[test]
    fn ticks_are_common_and_strictly_later() {
        let mut ticks = Ticks::default();
        let (at, channel) = (Instant::from_millis, ChannelKey::new);
        let (twice, ten) = (Pace::at_most(2.0).unwrap(), Pace::at_most(10.0).unwrap());
        ticks.add(at(1000), twice, channel(1));
        ticks.add(at(1499), twice, channel(2));
        assert_eq!(ticks.next(), at(1500));
        ticks.add(at(1234), ten, channel(3));
        assert_eq!((ticks.next(), ticks.take_due(at(1299))), (at(1300), None));
        ticks.add_early(at(1499), twice, SubscriberKey::new(4));
        let due = |pace, channels: &[ChannelKey], early: &[SubscriberKey]| {
            Some(Due { pace, channels: channels.into(), early: early.into() })
        };
        let both = [channel(1), channel(2)];
        assert_eq!(ticks.take_due(at(1500)), due(twice, &both, &[SubscriberKey::new(4)]));
        assert_eq!(ticks.take_due(at(1500)), due(ten, &[channel(3)], &[]));
        assert_eq!((ticks.next(), ticks.take_due(at(9999))), (Instant::NEVER, None));
        ticks.add(at(1500), Pace::HELD, channel(1));
        assert_eq!(ticks.next(), Instant::NEVER);
    }
}
