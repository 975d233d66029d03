//! Whose bytes wait for the application's word: until when, and how many there are of whom.

use crate::conn::ConnId;
use crate::dialect::Denial;
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Of those who may wait, one address has one in so many.
const ADDRESS_SHARE: usize = 10;
/// Of those who may wait, exempt addresses together have one in so many.
const EXEMPT_SHARE: usize = 2;

/// Somebody whose bytes wait.
#[derive(Debug)]
pub struct Waiting {
    /// The question that it waits for.
    pub number: u64,
    /// Until when.
    pub deadline: Instant,
    /// The network that it comes from; none = it is exempt.
    pub address: Option<IpAddr>,
    /// How many bytes.
    pub bytes: usize,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Waiters {
    max: usize,
    bytes_max: usize,
    all: BTreeMap<ConnId, Waiting>,
    deadlines: BTreeSet<(Instant, ConnId)>,
    bytes: usize,
    exempt: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

impl Waiters {
    /// Nobody waits; so many may, with so many bytes in all.
    pub fn new(max: usize, bytes_max: usize) -> Self {
        Self { max, bytes_max, ..Self::default() }
    }

    /// Takes other bounds.
    pub const fn reconfigure(&mut self, max: usize, bytes_max: usize) {
        (self.max, self.bytes_max) = (max, bytes_max);
    }

    /// Whether there is room for one more of `address` and so many bytes.
    pub fn check_room(&self, address: Option<IpAddr>, bytes: usize) -> Result<(), Denial> {
        let exceeds = |count: usize, share: usize| count * share >= self.max.max(share);
        let of_address = address.and_then(|address| self.by_address.get(&address));
        if of_address.is_some_and(|count| exceeds(*count, ADDRESS_SHARE)) {
            return Err(Denial::TooManyAsking);
        }
        let is_full = self.all.len() >= self.max || self.bytes + bytes > self.bytes_max;
        match is_full || address.is_none() && exceeds(self.exempt, EXEMPT_SHARE) {
            true => Err(Denial::Unanswered),
            false => Ok(()),
        }
    }

    /// Notes that somebody waits who did not.
    pub fn enter(&mut self, id: ConnId, waiting: Waiting) {
        match waiting.address {
            Some(address) => *self.by_address.entry(address).or_default() += 1,
            None => self.exempt += 1,
        }
        self.bytes += waiting.bytes;
        self.deadlines.insert((waiting.deadline, id));
        self.all.insert(id, waiting);
    }

    /// Notes that somebody waits no longer, and for which question that was.
    pub fn leave(&mut self, id: ConnId) -> Option<u64> {
        let Waiting { number, deadline, address, bytes } = self.all.remove(&id)?;
        self.deadlines.remove(&(deadline, id));
        self.bytes -= bytes;
        match address {
            None => self.exempt -= 1,
            Some(address) => {
                if let Some(count) = self.by_address.get_mut(&address) {
                    *count -= 1;
                    if *count == 0 {
                        self.by_address.remove(&address);
                    }
                }
            }
        }
        Some(number)
    }

    /// Has somebody wait for another question.
    pub fn turn_to(&mut self, id: ConnId, number: u64) {
        if let Some(waiting) = self.all.get_mut(&id) {
            waiting.number = number;
        }
    }

    /// Until when somebody waits.
    pub fn deadline(&self, id: ConnId) -> Option<Instant> {
        self.all.get(&id).map(|waiting| waiting.deadline)
    }

    /// Whose time is over first, for which question that is, and when.
    pub fn first(&self) -> Option<(ConnId, u64, Instant)> {
        let &(deadline, id) = self.deadlines.first()?;
        self.all.get(&id).map(|waiting| (id, waiting.number, deadline))
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Whether nobody does, and nobody is counted.
    #[cfg(any(test, feature = "check"))]
    pub fn is_idle(&self) -> bool {
        let counts_nobody = self.bytes == 0 && self.exempt == 0 && self.by_address.is_empty();
        self.all.is_empty() && self.deadlines.is_empty() && counts_nobody
    }
}
