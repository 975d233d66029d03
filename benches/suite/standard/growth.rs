//! Growth: what a delivery and a connection cost, against the number of subscribers. Flat is good.

use std::io;

use crate::bench::{Bench, compare, cpu};
use crate::plot::{Axis, Line, Plot};
use crate::results::Row;
use crate::server::Server;
use crate::standard::memory::parked;

const STEPS: [usize; 5] = [10, 100, 1000, 10_000, 18_000];

pub fn run(bench: &mut Bench<'_>) -> io::Result<()> {
    if bench.begins("growth: CPU per delivery") {
        deliveries(bench)?;
    }
    if bench.begins("growth: memory per connection") {
        memory(bench)?;
    }
    Ok(())
}

fn deliveries(bench: &mut Bench<'_>) -> io::Result<()> {
    let pairs = bench.args.pairs().div_ceil(3) | 1;
    let (mut costs, mut rates) = (Lines::new(bench), Lines::new(bench));
    for subscribers in STEPS {
        let servers: Vec<&Server> = bench.servers.iter().collect();
        let seconds = if subscribers < 10_000 { 0.3 } else { 0.8 };
        let rounds = bench.interleave(&servers, &format!("-n {subscribers} --seconds {seconds}"), pairs)?;
        let row =
            compare(Row::new(format!("growth: stream, N={subscribers}"), "µs CPU/delivery"), &rounds, cpu);
        costs.add(subscribers, &row);
        let rate = compare(Row::new("", "deliveries/s"), &rounds, |report| report.deliveries_per_s);
        rates.add(subscribers, &rate);
        bench.row(row);
    }
    let x = || Axis::log("subscribers of one channel");
    let cost = Plot {
        title: "Server CPU per streamed delivery".into(),
        x: x(),
        y: Axis::linear("µs"),
        lines: costs.0,
    };
    let rate = Plot {
        title: "Deliveries per second, closed loop".into(),
        x: x(),
        y: Axis::linear("deliveries/s"),
        lines: rates.0,
    };
    bench.plot("cpu.svg", cost);
    bench.plot("deliveries.svg", rate);
    Ok(())
}

fn memory(bench: &mut Bench<'_>) -> io::Result<()> {
    let mut lines = Lines::new(bench);
    // Below a thousand, whole pages are shared among too few.
    for subscribers in [1000, 2000, 5000, 10_000, 18_000] {
        let mut row = Row::new(format!("growth: memory per stream, N={subscribers}"), "bytes");
        for server in bench.fresh()? {
            let held = parked(bench, &server, "stream", subscribers)?;
            // A logarithmic scale has no place for less than a byte.
            row = row.value(server.name, (held.pss as f64 / subscribers as f64).max(1.0));
        }
        lines.add(subscribers, &row);
        bench.row(row);
    }
    let title = "Resident user-space memory per parked stream".into();
    let plot =
        Plot { title, x: Axis::log("connections"), y: Axis::log("bytes per connection"), lines: lines.0 };
    bench.plot("memory.svg", plot);
    Ok(())
}

/// A line per server, grown row by row.
struct Lines(Vec<Line>);

impl Lines {
    fn new(bench: &Bench<'_>) -> Self {
        Self(
            bench
                .servers
                .iter()
                .map(|server| Line { name: server.name.into(), points: Vec::new() })
                .collect(),
        )
    }

    fn add(&mut self, x: usize, row: &Row) {
        for line in &mut self.0 {
            if let Some((_, y)) = row.values.iter().find(|(name, _)| *name == line.name) {
                line.points.push((x as f64, *y));
            }
        }
    }
}
