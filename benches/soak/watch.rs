//! Samples, verdicts and plots.

use std::fmt;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use crate::client::Count;
use crate::plot::{Axis, Line, Plot};

/// What a second was like.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub at: f64,
    pub resident: u64,
    pub descriptors: usize,
    /// Clients connected.
    pub clients: usize,
    pub deliveries: u64,
    pub p99_us: f64,
}

/// One of the things that must hold.
pub struct Verdict {
    pub holds: bool,
    text: String,
}

impl Verdict {
    pub fn new(holds: bool, text: String) -> Self {
        Self { holds, text }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}", if self.holds { "ok  " } else { "FAIL" }, self.text)
    }
}

/// Everything that was seen.
pub struct Watch {
    pub samples: Vec<Sample>,
    seconds: f64,
    is_watched: bool,
}

/// Memory may grow by so much after the warm-up and still be called flat: allocators keep what fragments.
const SLACK_BYTES: f64 = 1024.0 * 1024.0;
const SLACK_RATIO: f64 = 1.03;

impl Watch {
    pub fn new(seconds: u64) -> Self {
        Self { samples: Vec::new(), seconds: seconds as f64, is_watched: io::stderr().is_terminal() }
    }

    /// Notes a sample and shows where we are: on a terminal every second, elsewhere twice a minute.
    pub fn note(&mut self, sample: Sample, count: &Count) {
        let Sample { at, resident, descriptors, clients, deliveries, p99_us } = sample;
        self.samples.push(sample);
        let line = format!(
            "{at:>4.0} of {} s: {clients} clients, {:.1} MB, {descriptors} descriptors, {deliveries} deliveries/s, \
             p99 {:.1} ms, {} gaps, {} faults",
            self.seconds,
            resident as f64 / 1e6,
            p99_us / 1e3,
            count.gaps,
            count.faults.len()
        );
        if self.is_watched {
            eprint!("\r{line:<118}");
        } else if self.samples.len().is_multiple_of(30) {
            eprintln!("{line}");
        }
    }

    /// When everything bounded is full, or half of a short run.
    pub fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(120f64.min(self.seconds / 2.0))
    }

    pub fn memory(&self) -> Verdict {
        let warm = self.warm_up().as_secs_f64();
        let fifth = (self.seconds - warm) / 5.0;
        let first = self.resident_between(warm, warm + fifth);
        let last = self.resident_between(self.seconds - fifth, self.seconds + 1.0);
        let start = self.samples.first().map_or(0.0, |sample| sample.resident as f64);
        Verdict::new(
            last > 0.0 && last <= first * SLACK_RATIO + SLACK_BYTES,
            format!(
                "memory is flat: {:.2} MB at first, {:.2} MB after the warm-up, {:.2} MB at the end",
                start / 1e6,
                first / 1e6,
                last / 1e6
            ),
        )
    }

    /// The median.
    fn resident_between(&self, from: f64, to: f64) -> f64 {
        let within = self.samples.iter().filter(|sample| (from..to).contains(&sample.at));
        let mut all: Vec<u64> = within.map(|sample| sample.resident).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or(0) as f64
    }

    /// Descriptors are those of the clients, those the server began with, and those of whoever has just gone.
    pub fn descriptors(&self, own: usize, clients: usize) -> Verdict {
        let most = self.samples.iter().map(|sample| sample.descriptors).max().unwrap_or(0);
        let may = own + clients + clients / 4;
        Verdict::new(most <= may, format!("descriptors stay below {may}: at most {most} were open"))
    }

    pub fn plot(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        let line = |name: &str, value: &dyn Fn(&Sample) -> f64| Line {
            name: name.into(),
            points: self.samples.iter().map(|sample| (sample.at, value(sample))).collect(),
        };
        let plots = [
            ("memory.svg", "Resident memory", "MB", vec![line("server", &|s| s.resident as f64 / 1e6)]),
            (
                "descriptors.svg",
                "Open descriptors",
                "descriptors",
                vec![line("server", &|s| s.descriptors as f64), line("clients", &|s| s.clients as f64)],
            ),
            ("deliveries.svg", "Deliveries", "deliveries/s", vec![line("all", &|s| s.deliveries as f64)]),
        ];
        for (file, title, unit, lines) in plots {
            let plot = Plot { title: title.into(), x: Axis::linear("s"), y: Axis::linear(unit), lines };
            fs::write(directory.join(file), plot.svg())?;
        }
        let mut lines = vec![line("live", &|s| s.p99_us / 1e3)];
        // Seconds in which nothing came have no place on a logarithmic scale.
        lines[0].points.retain(|(_, ms)| *ms > 0.0);
        let y = Axis::log("p99 of each second, ms");
        let plot = Plot { title: "Latency".into(), x: Axis::linear("s"), y, lines };
        fs::write(directory.join("latency.svg"), plot.svg())
    }
}
