//! Latest values: what a delivery at a pace, a patch, a snapshot and a value cost, beside a floor that writes the same bytes
//! at the same pace; what a parked subscriber keeps; and what a reader does to the server that takes a tenth of what it is
//! sent.

mod slow;
mod snapshot;

use std::io;
use std::time::{Duration, Instant};

use crate::bench::{Bench, in_turn};
use crate::crowd::Crowd;
use crate::feed::{self, Feed};
use crate::publisher::Publisher;
use crate::results::{Goal, Row};
use crate::server::Server;
use crate::statistics::{Ratio, median};

const SUBSCRIBERS: usize = 1000;
const KEYS: usize = 500;
/// Updates a second.
const UPDATES: usize = 5000;
/// The time from a delivery to the next at `rate=2`.
const PERIOD: Duration = Duration::from_millis(500);
/// Deliveries that are measured in one go.
const TICKS: u32 = 4;
const PARKED: usize = 15_000;
/// Publications that are measured in one go.
const PUBLICATIONS: usize = 10_000;

pub fn run(bench: &mut Bench<'_>) -> io::Result<()> {
    if bench.args.floor_twice {
        return Ok(());
    }
    paced(bench)?;
    snapshot::run(bench)?;
    keyed(bench)?;
    parked(bench)?;
    slow::run(bench)
}

/// What some deliveries took.
#[derive(Clone, Copy, Debug)]
struct Taken {
    cpu_us: f64,
    bytes: f64,
}

/// Lets `feed` run, and measures from the middle between two deliveries on.
fn measure(server: &Server, crowd: &mut Crowd, feed: Feed) -> io::Result<Taken> {
    crowd.read_until(Instant::now() + 2 * PERIOD)?;
    let before = crowd.bytes;
    let patience = Instant::now() + 10 * PERIOD;
    while crowd.bytes == before && Instant::now() < patience {
        crowd.read_until(Instant::now() + Duration::from_millis(1))?;
    }
    crowd.read_until(Instant::now() + PERIOD / 2)?;
    let (cpu, bytes) = (server.meter()?.cpu()?.total_us, crowd.bytes);
    crowd.read_until(Instant::now() + PERIOD * TICKS)?;
    let taken = Taken { cpu_us: server.meter()?.cpu()?.total_us - cpu, bytes: (crowd.bytes - bytes) as f64 };
    feed.end()?;
    crowd.read_until_quiet(PERIOD + PERIOD / 2)?;
    Ok(taken)
}

/// The cost of a subscriber and delivery is what the server takes with all of them, less what it takes with one.
fn paced(bench: &mut Bench<'_>) -> io::Result<()> {
    let mut whole = None;
    for (wish, most) in [("rate=2", 1.15), ("rate=2&delta", 1.25)] {
        let name = format!("1,000 subscribers, 500 keys, 5,000 updates/s, {wish}");
        if !bench.begins(&name) {
            continue;
        }
        let target = format!("/sub/quotes?as=stream&{wish}");
        let (floor, encke, alone) = (bench.floor(false)?, bench.encke_with(&[])?, bench.encke_with(&[])?);
        let mut crowds = [
            Crowd::connect(floor.address, "/sub/c0?as=raw", SUBSCRIBERS)?,
            Crowd::connect(encke.address, &target, SUBSCRIBERS)?,
            Crowd::connect(alone.address, &target, 1)?,
        ];
        let quotes = |server: &Server, crowd: &mut Crowd| {
            measure(server, crowd, Feed::quotes(server.address, KEYS, UPDATES, Instant::now())?)
        };
        let deliveries = f64::from(TICKS) * SUBSCRIBERS as f64;
        // What is to be written by the floor.
        let delivery = quotes(&encke, &mut crowds[1])?.bytes / deliveries;
        let pids: Vec<u32> = [&floor, &encke, &alone].iter().flat_map(|server| server.pids.clone()).collect();
        let pairs = bench.args.pairs().div_ceil(2).max(3);
        let taken = in_turn(3, pairs, 0, &bench.quiet, &pids, |which| match which {
            0 => {
                let same = Feed::same(floor.address, "/pub/c0", vec![b'x'; delivery as usize], PERIOD)?;
                measure(&floor, &mut crowds[0], same)
            }
            1 => quotes(&encke, &mut crowds[1]),
            _ => quotes(&alone, &mut crowds[2]),
        })?;
        let cost = |of: usize| -> Vec<f64> {
            let costs = taken[of].iter().zip(&taken[2]);
            costs
                .map(|(many, one)| match of {
                    0 => many.cpu_us / deliveries,
                    _ => (many.cpu_us - one.cpu_us) / (deliveries - f64::from(TICKS)),
                })
                .collect()
        };
        let (floored, own) = (cost(0), cost(1));
        let pairs: Vec<(f64, f64)> = own.iter().copied().zip(floored.iter().copied()).collect();
        let row = Row::new(&name, "µs CPU/subscriber and delivery").value("floor", median(floored));
        let row = row.value(encke.name, median(own)).ratio(encke.name, Ratio::of(&pairs));
        bench.row(row.goal(Goal::RatioAtMost(most)));
        let all = taken[1].iter().map(|taken| taken.cpu_us / deliveries);
        let row = Row::new(format!("{name}, all that the server takes"), "µs CPU/subscriber and delivery");
        bench.row(row.value(encke.name, median(all)));
        let bytes = taken[1].iter().map(|taken| taken.bytes / deliveries / KEYS as f64);
        let bytes = median(bytes);
        let of_floor = median(taken[0].iter().map(|taken| taken.bytes / deliveries / KEYS as f64));
        let row = Row::new(format!("{name}, of what is sent"), "bytes/update");
        bench.row(row.value("floor", of_floor).value(encke.name, bytes));
        match whole {
            None => whole = Some(bytes),
            Some(whole) => {
                let row = Row::new("quotes of 300 bytes, three of ten members change", "patch ÷ whole value");
                bench.row(row.value(encke.name, bytes / whole).goal(Goal::AtMost(0.45)));
            }
        }
    }
    Ok(())
}

/// One publication at a time, with a key and without, to nobody.
fn keyed(bench: &mut Bench<'_>) -> io::Result<()> {
    let name = "publishing a value to nobody";
    if !bench.begins(name) {
        return Ok(());
    }
    let server = bench.encke_with(&[])?;
    let mut publisher = Publisher::to(server.address)?;
    let body = [b'x'; 200];
    let mut publish = |is_keyed: bool| {
        let before = server.meter()?.cpu()?.total_us;
        for number in 0..PUBLICATIONS {
            match is_keyed {
                true => {
                    let fields =
                        format!("Content-Type: text/plain\r\nEncke-Key: KEY{:05}\r\n", number % KEYS);
                    publisher.publish("/pub/keyed", &fields, &body)?;
                }
                false => publisher.publish("/pub/bare", "Content-Type: text/plain\r\n", &body)?,
            }
        }
        Ok((server.meter()?.cpu()?.total_us - before) / PUBLICATIONS as f64)
    };
    let costs = in_turn(2, bench.args.pairs(), 0, &bench.quiet, &server.pids, |which| publish(which == 1))?;
    let pairs: Vec<(f64, f64)> = costs[1].iter().copied().zip(costs[0].iter().copied()).collect();
    let row = |what: &str, unit| Row::new(format!("{name}, {what}"), unit);
    bench.row(row("without its key", "µs CPU").value(server.name, median(costs[0].clone())));
    bench.row(row("with it", "µs CPU").value(server.name, median(costs[1].clone())));
    let ratio = Ratio::of(&pairs).mean;
    bench.row(row("CPU", "with a key ÷ without").value(server.name, ratio).goal(Goal::AtMost(1.1)));
    Ok(())
}

fn parked(bench: &mut Bench<'_>) -> io::Result<()> {
    let name = format!("memory per parked subscriber of latest values, N={PARKED}");
    if !bench.begins(&name) {
        return Ok(());
    }
    let server = bench.encke_with(&[])?;
    Publisher::to(server.address)?.publish_batch(&feed::lines(1, 0, 1, 0))?;
    let target = "/sub/quotes?as=stream&rate=2";
    // A few were there before, so that its code is resident.
    let mut few = Crowd::connect(server.address, target, 10)?;
    few.read_until_quiet(PERIOD)?;
    let before = server.meter()?.memory()?;
    let mut crowd = Crowd::connect(server.address, target, PARKED)?;
    crowd.read_each(1)?;
    crowd.read_until_quiet(3 * PERIOD)?;
    let held = server.meter()?.memory()?.since(before);
    let row = Row::new(name, "bytes").value(server.name, held.pss as f64 / PARKED as f64);
    bench.row(row.goal(Goal::AtMost(200.0)));
    Ok(())
}
