//! Memory: of parked connections, after much traffic, and after everybody left.

use std::io;

use crate::bench::Bench;
use crate::meter::Memory;
use crate::results::{Goal, Row};
use crate::server::Server;

const SUBSCRIBERS: i64 = 15_000;
const MB: f64 = 1024.0 * 1024.0;

pub fn run(bench: &mut Bench<'_>) -> io::Result<()> {
    for technique in ["stream", "poll", "websocket"] {
        let name = format!("memory per parked {technique}, N={SUBSCRIBERS}");
        if !bench.begins(&name) {
            continue;
        }
        let mut user = Row::new(&name, "bytes").goal(Goal::AtMost(160.0));
        let mut slab = Row::new(format!("{name}, kernel slab of both ends"), "bytes");
        for server in bench.fresh()? {
            let held = parked(bench, &server, technique, SUBSCRIBERS as usize)?;
            user = user.value(server.name, held.pss as f64 / SUBSCRIBERS as f64);
            slab = slab.value(server.name, held.slab as f64 / SUBSCRIBERS as f64);
        }
        bench.row(user);
        bench.row(slab);
    }
    after_traffic(bench)
}

/// What so many parked subscribers cost a fresh server, in which a few were before so that its code is resident.
pub fn parked(bench: &Bench<'_>, server: &Server, technique: &str, subscribers: usize) -> io::Result<Memory> {
    warm(bench, server, technique)?;
    let arguments = format!("--as {technique} -n {subscribers}");
    let generator = bench.generators.start(server, &arguments)?;
    Ok(generator.gathered.memory.unwrap_or_default())
}

fn warm(bench: &Bench<'_>, server: &Server, technique: &str) -> io::Result<()> {
    bench.interleave(&[server], &format!("--as {technique} -n 10 --seconds 0.05 --warm-up 0"), 1)?;
    Ok(())
}

fn after_traffic(bench: &mut Bench<'_>) -> io::Result<()> {
    let messages = if bench.args.is_full() { 10_000 } else { 500 };
    let name = format!("memory after {messages} messages to {SUBSCRIBERS} streams");
    if !bench.begins(&name) {
        return Ok(());
    }
    let mut traffic = Row::new(&name, "MB more than parked").goal(Goal::AtMost(2.0));
    let mut left = Row::new(format!("{name} that left"), "MB more than before").goal(Goal::AtMost(2.0));
    // The floor has no history and no batches: at a single write per delivery it takes an hour, and shows nothing.
    for server in bench.fresh()?.into_iter().skip(1) {
        warm(bench, &server, "stream")?;
        let meter = server.meter()?;
        let before = meter.memory()?;
        let arguments =
            format!("-n {SUBSCRIBERS} --publishers 4 --in-flight 64 --messages {messages} --patience 60");
        let mut generator = bench.generators.start(&server, &arguments)?;
        let parked = meter.memory()?;
        generator.round()?;
        traffic = traffic.value(server.name, meter.memory()?.since(parked).pss as f64 / MB);
        drop(generator);
        settle(&server)?;
        left = left.value(server.name, meter.memory()?.since(before).pss as f64 / MB);
    }
    bench.row(traffic);
    bench.row(left);
    Ok(())
}

/// Waits until the server's CPU time stands still: it has seen that everybody left.
fn settle(server: &Server) -> io::Result<()> {
    let meter = server.meter()?;
    let mut last = f64::MIN;
    for _ in 0..200 {
        let now = meter.cpu()?.total_us;
        if now - last < 200.0 {
            break;
        }
        last = now;
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    Ok(())
}
