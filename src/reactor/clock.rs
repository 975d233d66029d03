//! The only place that reads clocks.

use crate::time::{Instant, Now};
use std::time::SystemTime;

/// Both clocks, read together. The wall clock is asked ten times a second at most.
#[derive(Debug)]
pub struct Clock {
    start: std::time::Instant,
    /// The tenth of a second in which the wall clock was last read, and the wall time, in milliseconds, at
    /// which by that reading the process began.
    wall: (u64, u64),
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self { start: std::time::Instant::now(), wall: (u64::MAX, 0) }
    }

    /// What the clocks say.
    pub fn now(&mut self) -> Now {
        let elapsed = self.start.elapsed().as_millis() as u64;
        let at = Instant::from_millis(elapsed);
        if self.wall.0 != elapsed / 100 {
            let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            // What the wall clock said when the process began, had nobody set it since.
            let start = unix.map_or(0, |since| since.as_millis() as u64).saturating_sub(elapsed);
            self.wall = (elapsed / 100, start);
        }
        let unix_ms = self.wall.1 + elapsed;
        Now { at, unix: unix_ms / 1000, unix_ms }
    }
}
