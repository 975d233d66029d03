//! The only place that reads clocks.

use crate::time::{Instant, Now};
use std::time::SystemTime;

/// Both clocks, read together. The wall clock is asked ten times a second at most.
#[derive(Debug)]
pub struct Clock {
    start: std::time::Instant,
    /// The tenth of a second in which the wall clock was last read.
    read_in: u64,
    /// What the wall clock, in milliseconds, was ahead of the monotonic one then.
    ahead_ms: u64,
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self { start: std::time::Instant::now(), read_in: u64::MAX, ahead_ms: 0 }
    }

    /// What the clocks say.
    pub fn now(&mut self) -> Now {
        let elapsed = self.start.elapsed().as_millis() as u64;
        let at = Instant::START + elapsed;
        if self.read_in != elapsed / 100 {
            self.read_in = elapsed / 100;
            let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            self.ahead_ms = unix.map_or(0, |since| since.as_millis() as u64).saturating_sub(elapsed);
        }
        let unix_ms = self.ahead_ms + elapsed;
        Now { at, unix: unix_ms / 1000, unix_ms: (unix_ms % 1000) as u16 }
    }
}
