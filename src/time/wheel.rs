//! A hierarchical timer wheel with one timer per key.
//!
//! Design: a server of parked clients has one deadline per client and moves it rarely, so a timer must cost
//! few bytes and O(1) to set. Keys are slab indices; the links of the wheel's lists live in one array beside
//! the slab (12 bytes a key), so setting a timer never allocates for itself. Four levels of 64 buckets of 8,
//! 512, … ms reach 37 hours; what lies beyond waits in the last bucket and is put back when that comes round.
//! Timers fire up to one tick late, never early.

use super::Instant;
use crate::carry::{Carry, Damaged, Parcel, Shape, Unpack, carry};
use crate::table::TableKey;
use std::marker::PhantomData;

const TICK_MS: u64 = 8;
const BITS: u32 = 6;
const BUCKETS: usize = 1 << BITS;
const LEVELS: usize = 4;
/// Ticks that the whole wheel covers.
const SPAN: u64 = 1 << (BITS * LEVELS as u32);
const NIL: u32 = u32::MAX;
/// A link whose key has no timer names itself as its bucket's neighbour.
const UNSET: u32 = u32::MAX - 1;
/// `prev` of the first timer in a bucket: the bucket's number, marked.
const HEAD: u32 = 1 << 31;

#[derive(Debug, Clone, Copy)]
struct Link {
    /// The deadline's tick, its low 32 bits: enough, as no two deadlines lie further apart than that.
    due: u32,
    prev: u32,
    next: u32,
}

carry! {
    struct Link { due, prev, next }
}

/// The timers of the keys of one slab.
#[derive(Debug)]
pub struct Wheel<P = usize> {
    links: Vec<Link>,
    heads: [[u32; BUCKETS]; LEVELS],
    /// Which buckets of a level hold anything.
    occupied: [u64; LEVELS],
    /// The next tick to be processed: everything before it has fired.
    tick: u64,
    /// Before this tick there is nothing to do. What is set moves it, what is cleared does not: that costs a look too
    /// many at times, where looking each time would cost one in every turn.
    next: u64,
    len: usize,
    of: PhantomData<P>,
}

impl<P: TableKey> Wheel<P> {
    /// An empty wheel that begins at `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            links: Vec::new(),
            heads: [[NIL; BUCKETS]; LEVELS],
            occupied: [0; LEVELS],
            tick: now.as_millis() / TICK_MS,
            next: u64::MAX,
            len: 0,
            of: PhantomData,
        }
    }

    /// The same, with `room` for so many keys.
    pub fn with_room(now: Instant, room: usize) -> Self {
        Self { links: Vec::with_capacity(room), ..Self::new(now) }
    }

    /// Timers that are set.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the timer of `key` is set and fires at `deadline` at the latest, to the tick.
    #[cfg(any(test, feature = "check"))]
    pub fn fires_by(&self, key: P, deadline: Instant) -> bool {
        let due = deadline.as_millis().div_ceil(TICK_MS);
        let link = self.links.get(key.index()).filter(|link| link.prev != UNSET);
        link.is_some_and(|link| {
            self.tick + u64::from(link.due.wrapping_sub(self.tick as u32)) <= due.max(self.tick)
        })
    }

    /// Sets (or moves) the timer of `key` to `deadline`. One in the past fires at the next [`Wheel::expire`].
    /// Deadlines further away than about 200 days are cut to that.
    pub fn set(&mut self, key: P, deadline: Instant) {
        self.clear(key);
        let key = key.index() as u32;
        if key as usize >= self.links.len() {
            self.links.resize(key as usize + 1, Link { due: 0, prev: UNSET, next: NIL });
        }
        let due = deadline.as_millis().div_ceil(TICK_MS);
        let due = due.clamp(self.tick, self.tick + (u64::from(u32::MAX) >> 1));
        self.insert(key, due);
        self.len += 1;
    }

    /// Makes sure that the timer of `key` fires at `deadline` at the latest: one that fires earlier is left
    /// as it is, so that whoever moves a deadline on and on pays once.
    pub fn set_by(&mut self, key: P, deadline: Instant) {
        let due = deadline.as_millis().div_ceil(TICK_MS);
        let fires = self.links.get(key.index()).filter(|link| link.prev != UNSET);
        let ahead = fires.map(|link| u64::from(link.due.wrapping_sub(self.tick as u32)));
        if ahead.is_none_or(|ahead| self.tick + ahead > due) {
            self.set(key, deadline);
        }
    }

    /// Removes the timer of `key`, if it has one.
    pub fn clear(&mut self, key: P) {
        let Some(&Link { prev, next, .. }) = self.links.get(key.index()) else { return };
        if prev == UNSET {
            return;
        }
        self.unlink(prev, next);
        self.links[key.index()].prev = UNSET;
        self.len -= 1;
        if self.len == 0 {
            self.next = u64::MAX;
        }
    }

    /// Gives back the room of keys behind the last that has a timer.
    pub fn shrink(&mut self) {
        let used = self.links.iter().rposition(|link| link.prev != UNSET).map_or(0, |last| last + 1);
        self.links.truncate(used);
        self.links.shrink_to_fit();
    }

    /// Takes out one timer that is due at `now`; the caller handles it and asks again until `None`.
    pub fn expire(&mut self, now: Instant) -> Option<P> {
        let until = now.as_millis() / TICK_MS;
        if until < self.next {
            if self.len == 0 {
                // Nothing else would move it.
                self.tick = self.tick.max(until);
            }
            return None;
        }
        self.expire_until(until)
    }

    fn expire_until(&mut self, until: u64) -> Option<P> {
        while self.tick <= until {
            let slot = (self.tick % BUCKETS as u64) as usize;
            let key = self.heads[0][slot];
            if key != NIL {
                let key = P::at(key as usize);
                self.clear(key);
                return Some(key);
            }
            if self.tick == until {
                break;
            }
            self.advance(until);
        }
        self.next = (0..LEVELS).filter_map(|level| self.next_occupied(level)).min().unwrap_or(u64::MAX);
        None
    }

    /// When [`Wheel::expire`] should next be called: at or before the earliest deadline (sooner, if timers
    /// must move down a level first, or if an earlier one was cleared); [`Instant::NEVER`] if no timer is set.
    pub const fn next_deadline(&self) -> Instant {
        match self.next {
            u64::MAX => Instant::NEVER,
            tick => Instant::from_millis(tick * TICK_MS),
        }
    }

    /// The tick at which the next occupied bucket of `level` comes round.
    fn next_occupied(&self, level: usize) -> Option<u64> {
        if self.occupied[level] == 0 {
            return None;
        }
        let shift = BITS * level as u32;
        let position = self.tick >> shift;
        let from = (position % BUCKETS as u64) as u32;
        // On the lowest level the current bucket is still to come; above, it has been emptied already,
        // unless it is that of a whole round ahead.
        let first = u32::from(level > 0);
        let rotated = self.occupied[level].rotate_right((from + first) % BUCKETS as u32);
        let ahead = u64::from(rotated.trailing_zeros() + first);
        Some(((position + ahead) << shift).max(self.tick))
    }

    /// Moves to the next tick at which there is something to do, at most to `until`.
    fn advance(&mut self, until: u64) {
        let next = (0..LEVELS).filter_map(|level| match level {
            0 => self.next_occupied(0).filter(|&tick| tick > self.tick),
            _ => self.next_occupied(level),
        });
        self.tick = next.min().unwrap_or(until).clamp(self.tick + 1, until);
        for level in (1..LEVELS).rev() {
            if self.tick.is_multiple_of(1 << (BITS * level as u32)) {
                self.cascade(level);
            }
        }
    }

    /// Spreads the bucket of `level` that begins now over the levels below.
    fn cascade(&mut self, level: usize) {
        let slot = ((self.tick >> (BITS * level as u32)) % BUCKETS as u64) as usize;
        let mut key = std::mem::replace(&mut self.heads[level][slot], NIL);
        self.occupied[level] &= !(1 << slot);
        while key != NIL {
            let Link { due, next, .. } = self.links[key as usize];
            let ahead = u64::from(due.wrapping_sub(self.tick as u32));
            self.insert(key, self.tick + ahead);
            key = next;
        }
    }

    fn insert(&mut self, key: u32, due: u64) {
        let ahead = (due - self.tick).min(SPAN - 1);
        let level = match ahead {
            0 => 0,
            _ => (ahead.ilog2() / BITS) as usize,
        };
        let shift = BITS * level as u32;
        let position = (self.tick + ahead) >> shift;
        self.next = self.next.min((position << shift).max(self.tick));
        let slot = (position % BUCKETS as u64) as usize;
        let head = self.heads[level][slot];
        if head != NIL {
            self.links[head as usize].prev = key;
        }
        let prev = HEAD | (level * BUCKETS + slot) as u32;
        self.links[key as usize] = Link { due: due as u32, prev, next: head };
        self.heads[level][slot] = key;
        self.occupied[level] |= 1 << slot;
    }

    fn unlink(&mut self, prev: u32, next: u32) {
        if next != NIL {
            self.links[next as usize].prev = prev;
        }
        if prev & HEAD == 0 {
            self.links[prev as usize].next = next;
            return;
        }
        let bucket = (prev & !HEAD) as usize;
        let (level, slot) = (bucket / BUCKETS, bucket % BUCKETS);
        self.heads[level][slot] = next;
        if next == NIL {
            self.occupied[level] &= !(1 << slot);
        }
    }
}

impl<P> Carry for Wheel<P> {
    fn shape(shape: &mut Shape) {
        shape.add("Wheel");
        shape.field("links", |it: &Self| &it.links);
        shape.field("heads", |it: &Self| &it.heads);
        shape.field("occupied", |it: &Self| &it.occupied);
        shape.field("tick", |it: &Self| &it.tick);
        shape.field("next", |it: &Self| &it.next);
        shape.field("len", |it: &Self| &it.len);
    }

    fn pack(&self, parcel: &mut Parcel) {
        let Self { links, heads, occupied, tick, next, len, of: _ } = self;
        links.pack(parcel);
        heads.pack(parcel);
        occupied.pack(parcel);
        (*tick, *next, *len).pack(parcel);
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        let (links, heads) = Carry::unpack(from)?;
        let (occupied, (tick, next, len)) = Carry::unpack(from)?;
        Ok(Self { links, heads, occupied, tick, next, len, of: PhantomData })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Random;
    use std::collections::BTreeMap;

    /// The naive twin: a map from key to deadline.
    fn against_a_map(seed: u64, start: u64) {
        let mut random = Random::new(seed);
        let mut now = start;
        let mut wheel = Wheel::<usize>::new(Instant::from_millis(now));
        let mut twin: BTreeMap<usize, u64> = BTreeMap::new();
        for _ in 0..2000 {
            let key = random.below(50) as usize;
            match random.below(5) {
                0 => {
                    wheel.clear(key);
                    twin.remove(&key);
                }
                4 => wheel.shrink(),
                1 | 2 => {
                    let reach = [20, 1000, 60_000, 10_000_000, 400_000_000][random.below(5) as usize];
                    let deadline = now + random.below(reach);
                    wheel.set(key, Instant::from_millis(deadline));
                    twin.insert(key, deadline);
                }
                _ => {
                    let leap = [5, 100, 5_000, 3_000_000, 300_000_000][random.below(5) as usize];
                    now += random.below(leap);
                    while let Some(key) = wheel.expire(Instant::from_millis(now)) {
                        let due = twin.remove(&key).expect("only what was set fires");
                        assert!(due <= now, "seed {seed}: {key} fired {} ms early", due - now);
                    }
                    let late = twin.values().find(|&&due| due + TICK_MS <= now);
                    assert_eq!(late, None, "seed {seed}: overdue at {now}");
                    assert!(wheel.next_deadline().as_millis() > now, "seed {seed}: no rest at {now}");
                }
            }
            assert_eq!(wheel.len(), twin.len());
            let next = wheel.next_deadline().as_millis();
            match twin.values().min() {
                None => assert_eq!(next, u64::MAX),
                Some(&due) => assert!(next <= due.max(now) + TICK_MS, "seed {seed}: sleeps through {due}"),
            }
        }
    }

    #[test]
    fn agrees_with_a_sorted_map() {
        for seed in 0..200 {
            against_a_map(seed, 0);
            against_a_map(seed, (1 << 32) * TICK_MS - 100_000);
        }
    }

    #[test]
    fn sleeping_until_the_next_deadline_is_enough_and_not_busy() {
        let mut wheel = Wheel::<usize>::new(Instant::from_millis(0));
        wheel.set(7, Instant::from_millis(30_000));
        let mut wakes = 0;
        let fired = loop {
            let now = wheel.next_deadline();
            wakes += 1;
            if wheel.expire(now) == Some(7) {
                break now.as_millis();
            }
        };
        assert!((30_000..30_000 + TICK_MS).contains(&fired));
        assert!(wakes <= LEVELS, "{wakes} wake-ups for one timer");
    }

    #[test]
    fn a_timer_costs_twelve_bytes() {
        assert_eq!(size_of::<Link>(), 12);
    }
}
