//! The standard set, one function per group of measures.

mod bayeux;
mod growth;
mod market;
mod memory;
mod requests;
mod store;
mod tls;

use std::fs;
use std::io;

use crate::bench::{Bench, compare, compare_by, cpu, latency_lines, pairs_of};
use crate::plot::{Axis, Plot};
use crate::report::{Latency, Report};
use crate::results::{Goal, Row};
use crate::server::Server;
use crate::statistics::{Ratio, median};

/// Measures everything that is wanted.
pub fn run(bench: &mut Bench<'_>) -> io::Result<()> {
    fan_out(bench)?;
    tls::run(bench)?;
    saturated(bench)?;
    many_channels(bench)?;
    requests::run(bench)?;
    set_up(bench)?;
    stalled(bench)?;
    memory::run(bench)?;
    growth::run(bench)?;
    bayeux::run(bench)?;
    store::run(bench)?;
    market::run(bench)?;
    start_up(bench)
}

fn fan_out(bench: &mut Bench<'_>) -> io::Result<()> {
    for (name, technique, subscribers, seconds, most) in [
        ("streaming fan-out", "stream", 1000, 0.4, 1.05),
        ("streaming fan-out", "stream", 10_000, 1.0, 1.05),
        ("SSE fan-out", "sse", 1000, 0.4, 1.05),
        ("WebSocket fan-out", "websocket", 1000, 0.4, 1.05),
        ("long-poll fan-out", "poll", 1000, 0.4, 1.07),
        ("long-poll fan-out", "poll", 5000, 0.8, 1.07),
    ] {
        let name = format!("{name}, N={subscribers}");
        if !bench.begins(&name) {
            continue;
        }
        // Longer rounds and more pairs both narrow the error; the full set can afford both.
        let seconds = if bench.args.is_full() { 2.0 * seconds } else { seconds };
        let servers: Vec<&Server> = bench.servers.iter().collect();
        let arguments = format!("--as {technique} -n {subscribers} --seconds {seconds} --warm-up 0.1");
        let rounds = bench.interleave(&servers, &arguments, bench.args.pairs())?;
        if technique == "stream" && subscribers == 1000 {
            let lines = latency_lines(&rounds);
            let plot = latency_plot("Latency of a fan-out to 1,000 streams, closed loop", lines);
            bench.plot("latency-fan-out.svg", plot);
        }
        let row = Row::new(name, "µs CPU/delivery").goal(Goal::RatioAtMost(most));
        bench.row(compare(row, &rounds, cpu));
    }
    Ok(())
}

fn latency_plot(title: &str, lines: Vec<crate::plot::Line>) -> Plot {
    let x = Axis::log("percentile").with_names(&[
        (1.0, "0"),
        (2.0, "50"),
        (10.0, "90"),
        (100.0, "99"),
        (1e3, "99.9"),
        (1e4, "99.99"),
        (1e5, "99.999"),
    ]);
    Plot { title: title.into(), x, y: Axis::log("µs from publishing to reading"), lines }
}

/// The floor may let the kernel gather its writes here: its best.
fn saturated(bench: &mut Bench<'_>) -> io::Result<()> {
    let name = "saturated streaming, N=1000";
    if !bench.begins(name) {
        return Ok(());
    }
    let floor = bench.floor(true)?;
    let mut servers: Vec<&Server> = bench.servers.iter().collect();
    servers[0] = &floor;
    let arguments = "-n 1000 --publishers 4 --in-flight 64 --seconds 0.5 --warm-up 0.1";
    let rounds = bench.interleave(&servers, arguments, bench.args.pairs())?;
    let goal = if bench.args.floor_twice { Goal::RatioAtLeast(0.0) } else { Goal::RatioAtLeast(5.0) };
    bench.row(compare(Row::new(name, "deliveries/s").goal(goal), &rounds, |report| report.deliveries_per_s));
    bench.row(compare(Row::new(format!("{name}, p99"), "µs"), &rounds, p99));
    Ok(())
}

fn p50(report: &Report) -> f64 {
    report.latency.as_ref().map_or(f64::NAN, |latency: &Latency| latency.p50)
}

fn p99(report: &Report) -> f64 {
    report.latency.as_ref().map_or(f64::NAN, |latency| latency.p99)
}

fn many_channels(bench: &mut Bench<'_>) -> io::Result<()> {
    let name = "1,000 channels × 10, 2,000 publishes/s";
    if !bench.begins(name) {
        return Ok(());
    }
    // Long enough for the p99 not to be one hiccup of the machine.
    let arguments = "-n 10000 --channels 1000 --publishers 4 --rate 2000 --seconds 3 --warm-up 0.2";
    let rounds = bench.interleave_fresh(arguments, bench.args.pairs())?;
    let plot =
        latency_plot("Latency, 1,000 channels × 10 subscribers, 2,000 publishes/s", latency_lines(&rounds));
    bench.plot("latency-channels.svg", plot);
    let row = Row::new(name, "µs CPU/delivery").goal(Goal::RatioAtMost(1.07));
    bench.row(compare(row, &rounds, cpu));
    let row = |part: &str| Row::new(format!("{name}, {part}"), "µs").goal(Goal::RatioAtMost(1.1));
    bench.row(compare(row("p50"), &rounds, p50));
    // A hiccup of the machine makes the p99 of its round ten times as large.
    bench.row(compare_by(row("p99, median of the ratios"), &rounds, p99, Ratio::middle));
    bench.row(compare(Row::new(format!("{name}, p99, geometric mean of the ratios"), "µs"), &rounds, p99));
    Ok(())
}

fn set_up(bench: &mut Bench<'_>) -> io::Result<()> {
    let name = "connection set-up, 10,000 at once";
    if !bench.begins(name) {
        return Ok(());
    }
    let servers: Vec<&Server> = bench.servers.iter().collect();
    let arguments = "-n 10000 --connect-only --connecting 10000";
    let rounds = bench.interleave(&servers, arguments, bench.args.pairs())?;
    let row = Row::new(name, "connections/s").goal(Goal::RatioAtLeast(0.8));
    bench.row(compare(row, &rounds, |report| report.subscribers as f64 / report.connect_s));
    bench.row(compare(Row::new(format!("{name}, CPU"), "µs CPU/connection"), &rounds, cpu));
    Ok(())
}

/// Two servers of the judged kind, one of them with readers that never read: what the others feel of them.
fn stalled(bench: &mut Bench<'_>) -> io::Result<()> {
    for (name, count) in [("one stalled reader among 10,000", 1), ("100 stalled readers among 10,000", 100)] {
        if bench.args.floor_twice || !bench.begins(name) {
            continue;
        }
        let other = bench.judged()?;
        let arguments = "-n 10000 --seconds 0.5";
        let stalled = format!("{arguments} --stalled {count}");
        let runs = [(&bench.servers[1], arguments), (&other, &*stalled)];
        let rounds = bench.interleave_runs(&runs, bench.args.pairs())?;
        let pairs = pairs_of(&rounds[1], &rounds[0], p99);
        let ratio = Ratio::of(&pairs);
        let judged = other.name;
        let row = |what: &str, unit| Row::new(format!("{name}, {what}"), unit);
        let (with, without): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        bench.row(row("p99 without", "µs").value(judged, median(without)));
        bench.row(row("p99 with", "µs").value(judged, median(with)));
        let row = row("p99", "with ÷ without").value(judged, ratio.mean);
        bench.row(row.goal(Goal::Unchanged { error: ratio.error.max(0.05) }));
    }
    Ok(())
}

fn start_up(bench: &mut Bench<'_>) -> io::Result<()> {
    if bench.begins("start-up to first answer") {
        let mut times = (Vec::new(), Vec::new());
        for _ in 0..10 {
            times.0.push(bench.floor(false)?.start_up.as_secs_f64() * 1e3);
            times.1.push(bench.judged()?.start_up.as_secs_f64() * 1e3);
        }
        let row = Row::new("start-up to first answer", "ms").value("floor", median(times.0));
        bench.row(row.value(bench.servers[1].name, median(times.1)).goal(Goal::AtMost(20.0)));
    }
    if bench.begins("program size") {
        let size = fs::metadata(bench.judged_program())?.len() as f64 / 1e6;
        bench.row(Row::new("program size", "MB").value(bench.servers[1].name, size).goal(Goal::AtMost(6.0)));
    }
    Ok(())
}
