//! How often Redis is asked while much comes. A question costs some thirty microseconds here and there, whatever it is
//! about; so where there is much, what comes together is asked about together. Where there is little, nothing waits.

use std::time::{Duration, Instant};

/// Over what time it is counted.
const WINDOW: Duration = Duration::from_millis(10);
/// How many records in that time are much: 4,000 a second.
const MUCH: u64 = 40;
/// How long it is at least from one batch that is written to the next while there is much.
pub const WRITE: Duration = Duration::from_micros(1500);
/// The same for reads, of which each server has as many as all others together write.
pub const READ: Duration = Duration::from_millis(4);

/// How much came lately.
#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    began: Instant,
    count: u64,
    is_busy: bool,
}

impl Pace {
    /// Nothing has come. While there is much, it is at least `interval` from one question to the next.
    pub const fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, began: now, count: 0, is_busy: false }
    }

    /// Notes that a question which was asked at `now` was about so many records.
    pub fn note(&mut self, now: Instant, count: u64) {
        self.count += count;
        let time = now.saturating_duration_since(self.began);
        if time >= WINDOW {
            self.is_busy = u128::from(self.count) * WINDOW.as_micros() >= u128::from(MUCH) * time.as_micros();
            (self.began, self.count) = (now, 0);
        }
    }

    /// How long to wait until the next question, if the last one was asked at `last`.
    pub fn wait(&self, last: Instant, now: Instant) -> Duration {
        match self.is_busy {
            true => (last + self.interval).saturating_duration_since(now),
            false => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_there_is_much_it_waits() {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let mut pace = Pace::new(WRITE, begin);
        (1..100).for_each(|ms| pace.note(at(ms), 1));
        assert_eq!(pace.wait(at(99), at(99)), Duration::ZERO, "a thousand a second");
        (100..130).for_each(|ms| pace.note(at(ms), 10));
        assert_eq!(pace.wait(at(129), at(129)), WRITE, "ten thousand");
        assert_eq!(pace.wait(at(129), at(130)), WRITE - Duration::from_millis(1));
        assert_eq!(pace.wait(at(129), at(200)), Duration::ZERO);
        pace.note(at(1000), 50);
        assert_eq!(pace.wait(at(1000), at(1000)), Duration::ZERO, "it was quiet in between");
    }
}
