//! What subscriptions take of the memory: in all, and for each of those who have to share it.
//!
//! A subscriber of one channel is as large as any other, and there is one to a connection. What a client can make grow
//! without another connection are the channels that it joins by name or by pattern, and its patterns: these are counted
//! here, before they are joined. Nobody may have more than a share, and all strangers together no more than half of
//! what there is, so that room is left for others, and for history.

use crate::carry::{carry, resume};
use std::collections::BTreeMap;

/// Who pays for what is kept; opaque to the hub.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Payer(pub u64);

carry! {
    struct Payer(_)
}

impl Payer {
    /// Nobody: it is counted, and has no bounds.
    pub const NOBODY: Self = Self(0);
}

/// How many bytes the subscriptions of one may take, and of all who pay.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Of one.
    pub each: usize,
    /// Of all together.
    pub all: usize,
}

/// What has been counted.
#[derive(Debug)]
pub struct Shares {
    bounds: Bounds,
    /// Of everybody.
    bytes: usize,
    /// Of those who pay.
    paid: usize,
    of: BTreeMap<Payer, usize>,
}

resume! {
    Shares {
        carried: bytes, paid, of;
        resumed: ;
        given: bounds
    }
}

impl Shares {
    /// Nothing is kept yet.
    pub const fn new(bounds: Bounds) -> Self {
        Self { bounds, bytes: 0, paid: 0, of: BTreeMap::new() }
    }

    /// Takes other bounds. Who has more keeps it.
    pub const fn reconfigure(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Bytes of everybody.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that are kept for `payer`, and how many may be.
    pub fn of(&self, payer: Payer) -> (usize, usize) {
        match payer {
            Payer::NOBODY => (0, usize::MAX),
            payer => (self.of.get(&payer).copied().unwrap_or_default(), self.bounds.each),
        }
    }

    /// Whether so many more may be kept for `payer`.
    pub fn admits(&self, payer: Payer, bytes: usize) -> bool {
        let so_far = self.of.get(&payer).copied().unwrap_or_default();
        payer == Payer::NOBODY
            || bytes == 0
            || so_far.saturating_add(bytes) <= self.bounds.each
                && self.paid.saturating_add(bytes) <= self.bounds.all
    }

    /// Notes that so many more are kept for `payer`.
    pub fn add(&mut self, payer: Payer, bytes: usize) {
        self.bytes += bytes;
        if payer != Payer::NOBODY && bytes > 0 {
            self.paid += bytes;
            *self.of.entry(payer).or_default() += bytes;
        }
    }

    /// Notes that so many are no longer kept.
    pub fn release(&mut self, payer: Payer, bytes: usize) {
        self.bytes -= bytes;
        if payer != Payer::NOBODY
            && let Some(of) = self.of.get_mut(&payer)
        {
            self.paid -= bytes;
            *of -= bytes;
            if *of == 0 {
                self.of.remove(&payer);
            }
        }
    }

    /// Panics if these are not the sums of what is kept.
    #[cfg(any(test, feature = "check"))]
    pub fn check(&self, kept: impl Iterator<Item = (Payer, usize)>) {
        let (mut bytes, mut of) = (0, BTreeMap::new());
        for (payer, more) in kept.filter(|&(_, more)| more > 0) {
            bytes += more;
            if payer != Payer::NOBODY {
                *of.entry(payer).or_default() += more;
            }
        }
        assert_eq!((self.bytes, self.paid, &self.of), (bytes, of.values().sum(), &of));
    }
}
