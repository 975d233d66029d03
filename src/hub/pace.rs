//! Paces: how often a subscriber wants to be told, and who shares the ticks of a pace on a channel.
//!
//! All subscribers of one pace on one channel are ready at the same moments, common ticks that are multiples of the
//! pace's period, and so lack the same: what they get is encoded once. A channel is looked at by a tick only if something
//! was published on it since the one before.

use super::key::{ChannelKey, Entry};
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
#[derive(Debug, Default)]
pub struct Group {
    /// Which pace. That of [`Pace::NONE`] has no members: they are on the channel's own list.
    pub pace: Pace,
    /// Who; see [`Channel::subscribers`](super::channel::Channel::subscribers).
    pub members: Vec<Entry>,
    /// Something was published since the last tick.
    pub is_pending: bool,
    /// How many subscribers want patches. What was superseded is kept for them only.
    pub deltas: u32,
    current: Period,
    previous: Option<Period>,
}

carry! {
    struct Group { pace, members, is_pending, deltas, current, previous }
}

/// The time between two ticks.
#[derive(Debug, Default)]
struct Period {
    /// The newest message of the channel when it began.
    since: Seq,
    /// The first message of the channel since.
    first: Option<Seq>,
    /// What was the latest value when it began, of keys that have changed since.
    superseded: BTreeMap<Box<str>, Rc<Message>>,
    /// Bytes of these messages.
    bytes: usize,
    /// There was no room for all of it: nobody is given patches.
    is_given_up: bool,
}

carry! {
    struct Period { since, first, superseded, bytes, is_given_up }
}

impl Period {
    /// Whether a subscriber at `cursor` has had what there was when it began, and nothing newer.
    fn begins_at(&self, cursor: Seq) -> bool {
        !self.is_given_up && cursor >= self.since && self.first.is_none_or(|first| cursor < first)
    }

    /// Keeps what was superseded if that takes no more than `room` bytes, else nothing any more: whoever is told then is
    /// given whole values.
    fn keep(&mut self, key: &str, old: &Rc<Message>, room: usize) {
        let cost = old.cost() + ENTRY_BYTES;
        if self.is_given_up || cost > room {
            self.superseded.clear();
            (self.bytes, self.is_given_up) = (0, true);
            return;
        }
        self.bytes += cost;
        self.superseded.insert(key.into(), Rc::clone(old));
    }
}

impl Group {
    /// A group without members, of a channel whose newest message is `newest`.
    pub fn new(pace: Pace, newest: Seq) -> Self {
        Self { pace, current: Period { since: newest, ..Period::default() }, ..Self::default() }
    }

    /// Bytes of what was superseded and is kept.
    pub fn bytes(&self) -> usize {
        self.current.bytes + self.previous.as_ref().map_or(0, |period| period.bytes)
    }

    /// Takes note of message `seq`, which supersedes `old`; for that there are `room` bytes.
    pub fn note(&mut self, seq: Seq, old: Option<&Rc<Message>>, room: usize) {
        self.current.first.get_or_insert(seq);
        if self.deltas > 0
            && let Some(old) = old.filter(|old| !old.is_removal() && old.id.seq <= self.current.since)
            && let Some(key) = old.key()
        {
            self.current.keep(key, old, room);
        }
    }

    /// Begins a new period: those who have not been told yet can still have patches against what was superseded before.
    pub fn tick(&mut self, newest: Seq) {
        self.is_pending = false;
        let next = Period { since: newest, ..Period::default() };
        self.previous = Some(std::mem::replace(&mut self.current, next));
    }

    /// Lets go of what is for those who were to be told at the last tick; all of them have been. Without ticks of its own,
    /// a group begins a new period.
    pub fn settle(&mut self, newest: Seq) {
        if self.pace.is_none() {
            self.tick(newest);
        }
        self.previous = None;
    }

    /// The number by which a subscriber at `cursor` shares its patches with others; `None` if it has none.
    pub fn step(&self, cursor: Seq) -> Option<Seq> {
        let of_current = |period: &&Period| period.begins_at(cursor);
        // Nothing may have been published before the last tick.
        let is_newer = self.current.first.is_none_or(|first| cursor < first);
        let previous = self.previous.as_ref().filter(|period| is_newer && period.begins_at(cursor));
        previous.or_else(|| Some(&self.current).filter(of_current)).map(|period| period.since)
    }

    /// The value of `key` that a subscriber whose step is `step` was given last, if the key has changed since.
    pub fn base(&self, step: Seq, key: &str) -> Option<&Rc<Message>> {
        let of_previous = self.previous.as_ref().filter(|period| period.since == step);
        let superseded = of_previous.and_then(|period| period.superseded.get(key));
        let superseded = superseded.or_else(|| self.current.superseded.get(key));
        // It may be newer than what a subscriber of the period before was given: of a key that was not there then.
        superseded.filter(|base| base.id.seq <= step)
    }
}

/// Channels that have news for their subscribers of some pace, and the next ticks.
#[derive(Debug)]
pub struct Ticks {
    paces: [(Instant, Vec<ChannelKey>); PERIODS.len()],
    next: Instant,
}

carry! {
    struct Ticks { paces, next }
}

impl Default for Ticks {
    fn default() -> Self {
        Self { paces: std::array::from_fn(|_| (Instant::NEVER, Vec::new())), next: Instant::NEVER }
    }
}

impl Ticks {
    /// When the next tick is due.
    pub const fn next(&self) -> Instant {
        self.next
    }

    /// Has the next tick of `pace` after `now` look at `channel`.
    pub fn add(&mut self, now: Instant, pace: Pace, channel: ChannelKey) {
        let Some((next, channels)) = (pace.period() > 0).then(|| &mut self.paces[usize::from(pace.0) - 1])
        else {
            return;
        };
        channels.push(channel);
        if *next == Instant::NEVER {
            *next = Instant::from_millis((now.as_millis() / pace.period() + 1) * pace.period());
            self.next = self.next.min(*next);
        }
    }

    /// A pace whose tick is due at `now`, and the channels to look at.
    pub fn take_due(&mut self, now: Instant) -> Option<(Pace, Vec<ChannelKey>)> {
        if self.next > now {
            return None;
        }
        let place = self.paces.iter().position(|(next, _)| *next <= now)?;
        let (next, channels) = &mut self.paces[place];
        *next = Instant::NEVER;
        let channels = std::mem::take(channels);
        self.next = self.paces.iter().map(|(next, _)| *next).min().unwrap_or(Instant::NEVER);
        Some((Pace(place as u8 + 1), channels))
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
        assert_eq!(ticks.take_due(at(1500)), Some((twice, vec![channel(1), channel(2)])));
        assert_eq!(ticks.take_due(at(1500)), Some((ten, vec![channel(3)])));
        assert_eq!((ticks.next(), ticks.take_due(at(9999))), (Instant::NEVER, None));
        ticks.add(at(1500), Pace::HELD, channel(1));
        assert_eq!(ticks.next(), Instant::NEVER);
    }
}
