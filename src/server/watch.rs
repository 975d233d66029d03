//! The last minutes, sample by sample, and who watches how the server does.

use super::Server;
use crate::dialect::native::admin::LIVE;
use crate::hub::{Data, Publication};
use crate::stats::histogram::{BOUNDS_US, Histogram};
use crate::time::{Instant, Now};
use serde_json::{Value, json};
use std::collections::VecDeque;

/// Milliseconds between two messages to who watches.
const LIVE_MS: u64 = 1000;
/// Seconds between two samples, and how many are kept: ten minutes, of which each takes 72 bytes.
const SAMPLE_SECONDS: u64 = 2;
const SAMPLES: usize = 300;

/// How the server did at some moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    unix: u64,
    connections: u64,
    published: u64,
    delivered: u64,
    sent_bytes: u64,
    gaps: u64,
    memory: u64,
    /// Percentiles of deliveries since the sample before, in microseconds; 0 = there was none.
    p50_us: u64,
    p99_us: u64,
}

/// The last minutes, and who watches.
#[derive(Debug, Default)]
pub struct Watch {
    samples: VecDeque<Sample>,
    /// Deliveries up to the last sample.
    deliveries: Histogram,
    /// When those who watch are told next, if there are any.
    due: Option<Instant>,
}

impl Watch {
    /// When it is time to tell those who watch.
    pub fn next(&self) -> Instant {
        self.due.unwrap_or(Instant::NEVER)
    }
}

/// The class of which a share of all is not above, as its upper bound; 0 if there is nothing.
fn percentile(before: &Histogram, after: &Histogram, share: f64) -> u64 {
    let more: Vec<u64> = after.classes.iter().zip(before.classes).map(|(now, then)| now - then).collect();
    let all: u64 = more.iter().sum();
    let mut count = 0;
    for (class, added) in more.iter().enumerate() {
        count += added;
        if all > 0 && count as f64 >= all as f64 * share {
            return BOUNDS_US.get(class).copied().unwrap_or(2 * BOUNDS_US[BOUNDS_US.len() - 1]);
        }
    }
    0
}

impl Server {
    /// Notes that somebody watches from now on.
    #[cold]
    pub(super) fn watch(&mut self, now: Now) {
        self.telemetry.watch.due.get_or_insert(now.at);
    }

    /// Goes on telling those who watched the server that parted.
    pub(super) fn watch_again(&mut self) {
        self.telemetry.watch.due = self.broker.hub.info(LIVE).map(|_| Instant::default());
    }

    /// Tells those who watch how the server does, if it is time.
    #[cold]
    pub(super) fn tell_watchers(&mut self, now: Now) {
        let watchers = self.broker.hub.info(LIVE).map_or(0, |info| info.subscribers);
        self.telemetry.watch.due = (watchers > 0).then_some(now.at + LIVE_MS);
        if watchers > 0 {
            let data = Data::Json(self.state(now).to_string().into());
            let told = self.publish(now, LIVE, Publication { ttl_ms: Some(0), ..Publication::of(data) });
            if let Err(refusal) = told {
                log::debug!("who watches is not told: {refusal:?}");
            }
        }
    }

    /// Takes a sample now and then, while anything happens.
    #[cold]
    pub(super) fn sample(&mut self, now: Now) {
        let watch = &self.telemetry.watch;
        if watch.samples.back().is_some_and(|last| now.unix < last.unix + SAMPLE_SECONDS) {
            return;
        }
        let (stats, deliveries) = (self.stats(), self.telemetry.deliveries);
        let sample = Sample {
            unix: now.unix,
            connections: self.connections.len() as u64,
            published: stats.messages_published,
            delivered: stats.messages_delivered,
            sent_bytes: self.telemetry.process.sent_bytes,
            gaps: stats.gaps_told,
            memory: self.memory.resident as u64,
            p50_us: percentile(&self.telemetry.watch.deliveries, &deliveries, 0.5),
            p99_us: percentile(&self.telemetry.watch.deliveries, &deliveries, 0.99),
        };
        let watch = &mut self.telemetry.watch;
        watch.deliveries = deliveries;
        if watch.samples.len() == SAMPLES {
            watch.samples.pop_front();
        }
        watch.samples.push_back(sample);
    }

    /// The last minutes.
    pub(super) fn past(&self) -> Value {
        let rows: Vec<Value> = self
            .telemetry
            .watch
            .samples
            .iter()
            .map(|sample| {
                json!([
                    sample.unix,
                    sample.connections,
                    sample.published,
                    sample.delivered,
                    sample.sent_bytes,
                    sample.gaps,
                    sample.memory,
                    sample.p50_us,
                    sample.p99_us,
                ])
            })
            .collect();
        let columns = [
            "unix",
            "connections",
            "published",
            "delivered",
            "sent_bytes",
            "gaps",
            "memory",
            "p50_us",
            "p99_us",
        ];
        json!({ "columns": columns, "rows": rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_came_since() {
        let before = Histogram { classes: [7; BOUNDS_US.len() + 1], sum_us: 0 };
        let mut after = before;
        assert_eq!(percentile(&before, &after, 0.5), 0);
        after.add(20, 98);
        after.add(400, 1);
        after.add(9_999_999, 1);
        assert_eq!(
            [0.5, 0.98, 0.99, 1.0].map(|share| percentile(&before, &after, share)),
            [25, 25, 500, 5_000_000]
        );
    }
}
