//! The results, as a table and as JSON.

use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::meter::Memory;

/// The percentiles of the latency curve.
const CURVE: [f64; 14] =
    [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 99.999, 100.0];

/// One round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub subscribers: usize,
    pub channels: u32,
    /// Seconds from opening the first connection until everybody was subscribed.
    pub connect_s: f64,
    pub elapsed_s: f64,
    pub published: u64,
    pub deliveries: u64,
    pub deliveries_per_s: f64,
    /// Bytes read by subscribers, framing included.
    pub bytes_per_delivery: f64,
    pub latency: Option<Latency>,
    pub cpu: Option<CpuReport>,
    /// What the server holds more than before the subscribers came.
    pub memory: Option<Memory>,
}

/// From (scheduled) publishing to reading, microseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    /// Percentile and latency.
    pub curve: Vec<(f64, f64)>,
}

/// The server's time on a processor, microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CpuReport {
    pub total_us: f64,
    /// Per delivery, or per message where nobody listens, or per connection where nothing is published.
    pub per_unit_us: f64,
    /// Of the total; counted in ticks of 10 ms.
    pub user_share: f64,
}

impl Latency {
    /// `None` for an empty histogram (of nanoseconds).
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let at = |percentile: f64| histogram.value_at_percentile(percentile) as f64 / 1000.0;
        Some(Self {
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            max: histogram.max() as f64 / 1000.0,
            curve: CURVE.iter().map(|&percentile| (percentile, at(percentile))).collect(),
        })
    }
}

impl Report {
    pub fn table(&self) -> String {
        let mut out = String::new();
        let mut row = |name: &str, value: String| _ = writeln!(out, "{name:<28}{value}");
        row("subscribers", format!("{} in {} channels", self.subscribers, self.channels));
        row("subscribed after", format!("{:.3} s", self.connect_s));
        if self.published > 0 {
            row("published", format!("{} in {:.3} s", self.published, self.elapsed_s));
        }
        if self.deliveries > 0 {
            row("deliveries", format!("{}, none lost, doubled or out of order", self.deliveries));
            row("deliveries per second", format!("{:.0}", self.deliveries_per_s));
            row("bytes per delivery", format!("{:.1}", self.bytes_per_delivery));
        }
        if let Some(Latency { p50, p90, p99, p999, max, .. }) = self.latency {
            row(
                "latency µs",
                format!("p50 {p50:.0}  p90 {p90:.0}  p99 {p99:.0}  p99.9 {p999:.0}  max {max:.0}"),
            );
        }
        if let Some(cpu) = self.cpu {
            let unit = if self.deliveries > 0 {
                "delivery"
            } else if self.published > 0 {
                "message"
            } else {
                "connection"
            };
            let user = 100.0 * cpu.user_share;
            row("server CPU", format!("{:.2} µs per {unit}, {user:.0} % of it user mode", cpu.per_unit_us));
        }
        if let (Some(memory), true) = (self.memory, self.subscribers > 0) {
            let each = |bytes: i64| bytes as f64 / self.subscribers as f64;
            let Memory { rss, pss, anonymous, slab } = memory;
            row(
                "server memory, bytes each",
                format!("RSS {:.0}  PSS {:.0}  anonymous {:.0}", each(rss), each(pss), each(anonymous)),
            );
            row("kernel slab, bytes each", format!("{:.0} (both ends)", each(slab)));
        }
        out
    }
}
