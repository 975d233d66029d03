//! An even pace: each message has its moment, counted from the first one.
//!
//! Moments do not move because a sleep was a little long, so that the rate does not drift. Being late by
//! much (no input, a slow server) is forgiven, so that no burst follows a pause.

use std::time::{Duration, Instant};

/// Lateness that is still caught up.
const CATCH_UP: Duration = Duration::from_millis(100);

/// Tells when the next message may go.
#[derive(Debug)]
pub struct Pacer {
    interval: Duration,
    next: Option<Instant>,
}

impl Pacer {
    /// `rate` is messages per second, at least one in a day.
    pub fn new(rate: f64) -> Self {
        Self { interval: Duration::from_secs_f64(1.0 / rate), next: None }
    }

    /// How long to wait from `now` on before the next message.
    pub fn wait(&mut self, now: Instant) -> Duration {
        let due = self.next.filter(|next| *next + CATCH_UP.max(self.interval) >= now).unwrap_or(now);
        self.next = Some(due + self.interval);
        due.saturating_duration_since(now)
    }
}
