//! Time as a value. Nothing below the reactor reads a clock: the reactor reads both clocks once a turn and
//! hands a [`Now`] down, so that a test can run the whole server on a clock of its own.

mod date;
mod wheel;

pub use date::{Dates, HTTP_DATE_LEN, HttpDate, http_date};
pub use wheel::Wheel;

use crate::carry::carry;
use std::ops::Add;

/// A point of monotonic time, in milliseconds. A process begins at [`Instant::START`], so that there is room before it:
/// a message that was restored is older than the process. (Tests may begin at 0.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

carry! {
    struct Instant(_)
}

impl Instant {
    /// Later than every instant that happens.
    pub const NEVER: Self = Self(u64::MAX);

    /// When a process begins: 34 years after 0.
    pub const START: Self = Self(1 << 40);

    /// The instant that is `ms` milliseconds after 0.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since 0.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Milliseconds from `earlier` to `self`; 0 if `earlier` is the later one.
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// `seconds` later; saturates at [`Instant::NEVER`].
    pub const fn plus_seconds(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1000)))
    }
}

impl Add<u64> for Instant {
    type Output = Self;

    /// `ms` milliseconds later; saturates.
    fn add(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// What the clocks said at the beginning of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic clock: deadlines, ages.
    pub at: Instant,
    /// Wall clock, in seconds since 1970 (UTC): only for what people read, such as `Date`.
    pub unix: u64,
    /// The milliseconds of that second, to compare with the clock of another machine.
    pub unix_ms: u16,
}

carry! {
    struct Now { at, unix, unix_ms }
}
