//! How long to wait before trying again.
//!
//! Pure: the caller sleeps, and the caller brings the randomness.

use std::time::Duration;

/// Delays that double from `first` up to `cap`.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    next: Duration,
}

impl Backoff {
    /// Begins at `first`, ends at `cap`.
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, next: first }
    }

    /// The next delay.
    pub fn next(&mut self) -> Duration {
        let delay = self.next;
        self.next = delay.saturating_mul(2).min(self.cap);
        delay
    }

    /// Begins again: the last attempt was a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Anything between nothing and `ceiling`, in proportion to `random`: so that a crowd that lost the same
/// server does not return at the same moment.
pub fn full_jitter(ceiling: Duration, random: u32) -> Duration {
    ceiling.mul_f64(f64::from(random) / f64::from(u32::MAX))
}
