//! The only place that reads clocks.

use crate::time::{Instant, Now};
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime};

/// Both clocks, read together. The wall clock is asked ten times a second at most.
#[derive(Debug)]
pub struct Clock {
    start: std::time::Instant,
    /// Milliseconds that had passed then: since the first of the processes began that handed over to each other.
    before_ms: u64,
    /// The tenth of a second in which the wall clock was last read.
    read_in: u64,
    /// What the wall clock, in milliseconds, was ahead of the monotonic one then.
    ahead_ms: u64,
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self { start: std::time::Instant::now(), before_ms: 0, read_in: u64::MAX, ahead_ms: 0 }
    }

    /// A clock that goes on where another one was at `at`, so many nanoseconds ago.
    pub fn go_on(at: Instant, since: u64) -> Self {
        let before_ms = at.millis_since(Instant::START) + since / 1_000_000;
        Self { before_ms, ..Self::start() }
    }

    /// What the clocks say.
    pub fn now(&mut self) -> Now {
        let elapsed = self.before_ms + self.start.elapsed().as_millis() as u64;
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

/// What the clock says that all processes share, in nanoseconds.
pub fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Of things done for somebody at a stretch, the clock is looked at after so many.
const UNTIMED: usize = 8;
/// Parts of a turn, each of which has as much of its time: what is written, read and served at once, what waited, what is
/// delivered, and what comes last.
const PARTS: u32 = 4;
/// How long somebody is served at a stretch that has more than these.
const VISIT: Duration = Duration::from_micros(100);

/// How long a turn lasts, and how long each has of it who has much to be done.
#[derive(Debug)]
pub struct Pace {
    part: Duration,
    /// When the turn began.
    began: std::time::Instant,
    /// When the part of the turn that runs should end.
    part_end: std::time::Instant,
    /// When somebody last asked for the time.
    asked: std::time::Instant,
    visit_end: std::time::Instant,
}

impl Pace {
    /// Turns of so many milliseconds.
    pub fn new(milliseconds: u64) -> Self {
        let now = std::time::Instant::now();
        let part = Duration::from_millis(milliseconds) / PARTS;
        Self { part, began: now, part_end: now, asked: now, visit_end: now }
    }

    /// A turn begins, with its first part.
    pub fn begin_turn(&mut self) {
        self.begin_part();
        self.began = self.asked;
    }

    /// A part of a turn begins.
    pub fn begin_part(&mut self) {
        self.asked = std::time::Instant::now();
        self.part_end = self.asked + self.part;
    }

    /// Microseconds since the turn began.
    pub fn elapsed_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// Whether it should end.
    pub fn is_late(&mut self) -> bool {
        self.asked = std::time::Instant::now();
        self.asked >= self.part_end
    }

    /// Microseconds since somebody last asked for the time.
    pub fn spent(&mut self) -> u32 {
        let before = self.asked;
        self.asked = std::time::Instant::now();
        u32::try_from((self.asked - before).as_micros()).unwrap_or(u32::MAX)
    }

    /// Whether somebody has had enough for whom `done` things have been done at a stretch.
    pub fn is_over(&mut self, done: usize) -> bool {
        // What is cheap is done many times before it matters.
        if done == 0 || !done.is_power_of_two() && !done.is_multiple_of(UNTIMED) {
            return false;
        }
        let now = std::time::Instant::now();
        if done == 1 {
            self.visit_end = now + VISIT;
        }
        now >= self.visit_end.min(self.part_end)
    }
}
