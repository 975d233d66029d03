//! Publishing for a while, open- or closed-loop, and waiting until everybody has everything.

use std::time::Duration;

use crate::args::Args;
use crate::error::Error;
use crate::run::wire::Wire;

/// When to stop, and how fast to go until then.
pub struct Publishing<'a> {
    args: &'a Args,
    duration: Duration,
    messages: Option<u64>,
}

impl<'a> Publishing<'a> {
    /// For `duration`, or exactly `messages`; at least one.
    pub fn new(args: &'a Args, duration: Duration, messages: Option<u64>) -> Self {
        Self { args, duration, messages }
    }

    pub fn run(&self, wire: &mut Wire<'_>) -> Result<(), Error> {
        let start = wire.now();
        let end = start + self.duration.as_nanos() as u64;
        let mut sent = 0;
        loop {
            let now = wire.now();
            let over = self.messages.map_or(now >= end && sent > 0, |messages| sent >= messages);
            if over && wire.is_quiet() {
                return Ok(());
            }
            let mut wait = None;
            if !over {
                let most = self.messages.unwrap_or(u64::MAX);
                match self.args.rate {
                    Some(rate) => {
                        let burst = u64::from(self.args.burst);
                        wait = Some(open(wire, &mut sent, most, start, rate, burst));
                    }
                    None => self.closed(wire, &mut sent, most),
                }
            }
            wire.flush()?;
            wire.turn(wait)?;
        }
    }

    fn closed(&self, wire: &mut Wire<'_>, sent: &mut u64, most: u64) {
        let depth = self.args.in_flight.div_ceil(self.args.publishers);
        while *sent < most && wire.ledger.under_way < u64::from(self.args.in_flight) {
            let now = wire.now();
            if !wire.publish(depth, now) {
                return;
            }
            *sent += 1;
        }
    }
}

/// Publishes what is due, marked with the time it was due at, so that a server (or generator) that falls behind is seen
/// in the latency; says how long to wait for the next.
fn open(wire: &mut Wire<'_>, sent: &mut u64, most: u64, start: u64, rate: f64, burst: u64) -> Duration {
    while *sent < most {
        let due = start + ((*sent - *sent % burst) as f64 * 1e9 / rate) as u64;
        let now = wire.now();
        if due > now {
            // The kernel rounds waits up to milliseconds: the last one is spent looking.
            return Duration::from_millis((due - now) / 1_000_000);
        }
        wire.publish(u32::MAX, due);
        *sent += 1;
    }
    Duration::from_millis(1)
}
