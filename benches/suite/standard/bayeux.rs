//! Bayeux: what a session costs beside a native long poll, and the load test of CometD's documentation.

use std::io;

use super::memory::parked;
use super::{p50, p99};
use crate::bench::{Bench, cpu, pairs_of};
use crate::report::Report;
use crate::results::{Goal, Row};
use crate::server::Server;
use crate::statistics::{Ratio, median};

/// Of the documented load test of CometD, in milliseconds: what half of the messages take, and what 99 % take.
const DOCUMENTED_MS: (f64, f64) = (22.0, 52.0);
/// Opened for the generator: all its clients come from one address, at once.
const OPTIONS: [&str; 2] = ["--bayeux-publish=**", "--bayeux-handshakes-per-second=1000000"];

pub fn run(bench: &mut Bench<'_>) -> io::Result<()> {
    if bench.args.floor_twice {
        return Ok(());
    }
    cost(bench)?;
    memory(bench)?;
    rooms(bench)
}

fn server(bench: &Bench<'_>) -> io::Result<Server> {
    bench.encke_with(&OPTIONS)
}

/// The same messages to as many sessions and as many polls, in turn, on one server each, which is all that differs.
fn cost(bench: &mut Bench<'_>) -> io::Result<()> {
    let name = "Bayeux long-poll fan-out, N=1000";
    if !bench.begins(name) {
        return Ok(());
    }
    let servers = [server(bench)?, server(bench)?];
    let arguments =
        ["poll-json", "bayeux"].map(|name| format!("--as {name} -n 1000 --seconds 0.4 --warm-up 0.1"));
    let runs = [(&servers[0], &*arguments[0]), (&servers[1], &*arguments[1])];
    let rounds = bench.interleave_runs(&runs, bench.args.pairs())?;
    let pairs = pairs_of(&rounds[1], &rounds[0], cpu);
    let Ratio { mean, error } = Ratio::of(&pairs);
    let encke = servers[0].name;
    let cost =
        |name: String, values: Vec<f64>| Row::new(name, "µs CPU/delivery").value(encke, median(values));
    bench.row(cost(format!("{name}: native JSON long poll"), pairs.iter().map(|pair| pair.1).collect()));
    bench.row(cost(name.into(), pairs.iter().map(|pair| pair.0).collect()));
    let ratio = Row::new(format!("{name}, ± {error:.2}"), "Bayeux ÷ native JSON").value(encke, mean);
    bench.row(ratio.goal(Goal::AtMost(1.5)));
    Ok(())
}

/// What a session costs that a parked poll does not.
fn memory(bench: &mut Bench<'_>) -> io::Result<()> {
    const SESSIONS: usize = 15_000;
    let name = format!("memory per Bayeux session beyond its parked connection, N={SESSIONS}");
    if !bench.begins(&name) {
        return Ok(());
    }
    let mut each = Vec::new();
    for technique in ["bayeux", "poll-json"] {
        let server = server(bench)?;
        each.push(parked(bench, &server, technique, SESSIONS)?.pss as f64 / SESSIONS as f64);
    }
    let row = Row::new(name, "bytes").value(bench.servers[1].name, each[0] - each[1]);
    bench.row(row.goal(Goal::AtMost(300.0)));
    Ok(())
}

/// 1,000 clients, each in 10 of 100 rooms; 50 bytes a message; 10 messages at once, every 10 ms.
fn rooms(bench: &mut Bench<'_>) -> io::Result<()> {
    let name = "Bayeux, 1,000 clients in 10 of 100 rooms, 10 messages per 10 ms";
    if !bench.begins(name) {
        return Ok(());
    }
    let server = server(bench)?;
    let arguments = "--as bayeux -n 1000 --rooms 10 --channels 100 --payload 50 --rate 1000 --burst 10 \
                     --seconds 3 --warm-up 1 --patience 30";
    let rounds = bench.interleave(&[&server], arguments, if bench.args.is_full() { 10 } else { 3 })?;
    let of = |metric: fn(&Report) -> f64| median(rounds[0].reports.iter().map(metric));
    for (part, ms, documented) in
        [("p50", of(p50) / 1e3, DOCUMENTED_MS.0), ("p99", of(p99) / 1e3, DOCUMENTED_MS.1)]
    {
        let row = Row::new(format!("{name}, {part}"), "ms").value(server.name, ms);
        bench.row(row.goal(Goal::AtMost(documented)));
    }
    let most =
        rounds[0].reports.iter().filter_map(|report| report.latency.as_ref()).map(|latency| latency.max);
    let row = |part: &str, unit| Row::new(format!("{name}, {part}"), unit);
    bench.row(row("longest", "ms").value(server.name, most.fold(0.0, f64::max) / 1e3));
    bench.row(row("delivered", "per s").value(server.name, of(|report| report.deliveries_per_s)));
    bench.row(row("cost", "µs CPU/delivery").value(server.name, of(cpu)));
    Ok(())
}
