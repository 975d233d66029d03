//! The time by which deadlines are judged.
//!
//! A client whose bytes are here is not late, even if the process was stopped meanwhile: so the time stands still while
//! there is more to read. But not for long, as a flood must not keep deadlines away. What counts of it is the time the
//! turns took; of one in which the process was stopped, little.

use crate::time::Now;

/// Milliseconds of turns in a row for which deadlines wait until what has arrived has been read.
const MERCY_MS: u64 = 2000;
/// Milliseconds that one of these turns counts at most.
const TURN_MS_MAX: u64 = 500;

/// How far the server is behind with reading.
#[derive(Debug)]
pub struct Lateness {
    judged: Now,
    /// Milliseconds of the turns in a row after which there was more to read.
    behind_ms: u64,
}

impl Lateness {
    /// Nothing has arrived before `now`.
    pub const fn new(now: Now) -> Self {
        Self { judged: now, behind_ms: 0 }
    }

    /// The time by which to judge after a turn at `now`, when the last one was at `last` and all that had arrived by
    /// `seen` has been read, unless there `is_more`.
    pub fn judge(&mut self, last: Now, now: Now, seen: Now, is_more: bool) -> Now {
        if !is_more {
            self.behind_ms = 0;
            self.judged = seen;
            return seen;
        }
        self.behind_ms += now.at.millis_since(last.at).min(TURN_MS_MAX);
        if self.behind_ms > MERCY_MS {
            self.judged = now;
        }
        self.judged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    fn at(ms: u64) -> Now {
        Now { at: Instant::from_millis(ms), unix: 0, unix_ms: 0 }
    }

    /// After how many milliseconds of a flood deadlines are judged again, if each turn takes `turn_ms`.
    fn mercy(turn_ms: u64) -> u64 {
        let mut lateness = Lateness::new(at(0));
        let behind = |turn: &u64| {
            let now = turn * turn_ms;
            lateness.judge(at(now - turn_ms), at(now), at(now), true).at < at(now).at
        };
        (1..).take_while(behind).count() as u64 * turn_ms
    }

    #[test]
    fn a_flood_keeps_deadlines_away_for_seconds_only() {
        assert_eq!([1, 10, 50, 300].map(mercy), [2000, 2000, 2000, 1800]);
    }

    #[test]
    fn who_was_stopped_reads_first() {
        let mut lateness = Lateness::new(at(0));
        assert_eq!(lateness.judge(at(0), at(5), at(4), false).at, at(4).at);
        for now in [60_000, 60_010, 120_000] {
            assert_eq!(lateness.judge(at(5), at(now), at(now), true).at, at(4).at, "stopped until {now}");
        }
        assert_eq!(lateness.judge(at(120_000), at(120_001), at(120_001), false).at, at(120_001).at);
        assert_eq!(lateness.behind_ms, 0);
    }
}
