//! How often each address does something, counted by the second.
//!
//! One host cannot have more than its share by having many addresses: an IPv6 network of 64 bits, which is what
//! one subscriber of a provider gets, counts as one. The table has a fixed size. Addresses that fall on the same
//! few places push out the one that has done least, so who floods stays known, and what a flood from very many
//! addresses makes the table forget is counted anew: in doubt somebody is served.

use crate::carry::{carry, resume};
use crate::id::Key;
use crate::time::Instant;
use std::net::{IpAddr, Ipv6Addr};

/// Addresses with the same hash share so many places.
const WAYS: usize = 4;
const SETS: usize = 1024;

/// What each address has done in the second that runs.
#[derive(Debug)]
pub struct Rate {
    /// Secret, so that nobody can choose addresses that share a place.
    key: Key,
    /// Allocated with the first count.
    places: Vec<[Seat; WAYS]>,
}

resume! {
    Rate {
        carried: places;
        resumed: ;
        given: key
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Seat {
    /// A hash of the address.
    whose: u32,
    /// The second, from 1; 0 = the place is free.
    second: u32,
    /// How often in it.
    count: u32,
    /// How often in the second before.
    before: u32,
}

carry! {
    struct Seat { whose, second, count, before }
}

impl Rate {
    /// Nobody has done anything.
    pub const fn new(key: Key) -> Self {
        Self { key, places: Vec::new() }
    }

    /// How often `address` has done it in this second.
    pub fn so_far(&self, now: Instant, address: IpAddr) -> u32 {
        if self.places.is_empty() {
            return 0;
        }
        let (set, whose) = self.place(address);
        let second = second_of(now);
        let own = self.places[set].iter().find(|place| place.whose == whose && place.second == second);
        own.map_or(0, |place| place.count)
    }

    /// How often `address` has done it in this second or in the one before, whichever is more: who floods does not begin
    /// anew with each second.
    pub fn recent(&self, now: Instant, address: IpAddr) -> u32 {
        if self.places.is_empty() {
            return 0;
        }
        let (set, whose) = self.place(address);
        let second = second_of(now);
        let of = |place: &Seat| match place.second {
            own if own == second => place.count.max(place.before),
            own if own + 1 == second => place.count,
            _ => 0,
        };
        self.places[set].iter().find(|place| place.whose == whose).map_or(0, of)
    }

    /// Notes that `address` does it once more. Returns how often it has in this second.
    pub fn count(&mut self, now: Instant, address: IpAddr) -> u32 {
        self.add(now, address, 1)
    }

    /// Notes that `address` does it `times` more. Returns how often it has in this second.
    pub fn add(&mut self, now: Instant, address: IpAddr, times: u32) -> u32 {
        if self.places.is_empty() {
            self.places = vec![[Seat::default(); WAYS]; SETS];
        }
        let (set, whose) = self.place(address);
        let second = second_of(now);
        let places = &mut self.places[set];
        let found = places.iter_mut().position(|place| place.whose == whose && place.second > 0);
        let least = |place: &Seat| if place.second == second { place.count } else { 0 };
        let at = found.or_else(|| (0..WAYS).min_by_key(|&way| least(&places[way]))).unwrap_or_default();
        let place = places[at];
        if found.is_none() || place.second != second {
            let is_next = found.is_some() && place.second + 1 == second;
            places[at] = Seat { whose, second, count: 0, before: if is_next { place.count } else { 0 } };
        }
        places[at].count = places[at].count.saturating_add(times);
        places[at].count
    }

    fn place(&self, address: IpAddr) -> (usize, u32) {
        let hash = self.key.hash(network(address));
        (hash as usize % SETS, (hash >> 32) as u32)
    }
}

/// What counts as one address: all of an IPv4 address, the upper half of an IPv6 address.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

const fn second_of(now: Instant) -> u32 {
    (now.as_millis() / 1000) as u32 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Seed;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_address_has_its_own_count_each_second() {
        let mut rate = Rate::new(Seed::of_number(1).key("test"));
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let at = Instant::from_millis;
        assert_eq!(rate.so_far(at(0), one), 0);
        assert_eq!([rate.count(at(0), one), rate.count(at(999), one), rate.count(at(999), other)], [1, 2, 1]);
        assert_eq!((rate.so_far(at(999), one), rate.so_far(at(1000), one)), (2, 0));
        assert_eq!(rate.count(at(1000), one), 1);
    }

    #[test]
    fn what_counts_as_one_address() {
        let same = |one: &str, other: &str| network(address(one)) == network(address(other));
        assert!(same("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"));
        assert!(!same("2001:db8:1:2::1", "2001:db8:1:3::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2") && !same("::1", "127.0.0.1"));
    }

    #[test]
    fn who_floods_stays_known_among_very_many() {
        let mut rate = Rate::new(Seed::of_number(1).key("test"));
        let flooder = address("192.0.2.1");
        let now = Instant::from_millis(5000);
        for _ in 0..100 {
            rate.count(now, flooder);
        }
        for bits in 0..100_000_u32 {
            rate.count(now, IpAddr::V4(bits.into()));
        }
        assert_eq!(rate.so_far(now, flooder), 100);
        let next = now + 1000;
        assert_eq!(rate.count(next, flooder), 1);
    }
}
