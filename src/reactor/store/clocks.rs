//! What clocks say, for the time line of a history: it goes on over restarts, and nobody can set it.

use crate::log::LogTime;
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::time::SystemTime;

/// All that is asked of clocks, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clocks {
    /// The wall clock, in milliseconds since 1970.
    pub wall_ms: u64,
    /// Milliseconds since the system started, sleep included.
    pub up_ms: u64,
    /// Names this start of the system; 0 = unknown.
    pub boot: u64,
}

impl Clocks {
    /// What they say now.
    pub fn read() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let up = clock_gettime(ClockId::Boottime);
        Self {
            wall_ms: wall.map_or(0, |wall| wall.as_millis() as u64),
            up_ms: up.tv_sec as u64 * 1000 + up.tv_nsec as u64 / 1_000_000,
            boot: boot(),
        }
    }

    /// What the time line says now, that said `then` when the clocks said `before`. After a restart of the system only
    /// the wall clock knows how long it took; time does not run backwards.
    pub const fn time_since(self, before: Self, then: LogTime) -> LogTime {
        let elapsed = match self.boot == before.boot && self.boot != 0 {
            true => self.up_ms.saturating_sub(before.up_ms),
            false => self.wall_ms.saturating_sub(before.wall_ms),
        };
        LogTime(then.0 + elapsed)
    }
}

/// The first half of the system's boot id.
fn boot() -> u64 {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stepped_wall_clock_is_not_believed_while_the_system_runs() {
        let before = Clocks { wall_ms: 1_000_000, up_ms: 500, boot: 7 };
        let then = LogTime(900_000);
        for wall_ms in [0, 1_000_000, 9_000_000] {
            assert_eq!(Clocks { wall_ms, up_ms: 800, boot: 7 }.time_since(before, then), LogTime(900_300));
        }
        let after_a_boot = |wall_ms| Clocks { wall_ms, up_ms: 1, boot: 8 }.time_since(before, then);
        assert_eq!(after_a_boot(1_000_250), LogTime(900_250));
        assert_eq!(after_a_boot(10), then, "never backwards");
    }

    #[test]
    fn the_clocks_of_this_machine_can_be_read() {
        let clocks = Clocks::read();
        assert!(clocks.wall_ms > 1_700_000_000_000 && clocks.up_ms > 0 && clocks.boot != 0);
    }
}
