//! All latest values of a channel, to many who come at once.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::{Bench, in_turn};
use crate::crowd::Crowd;
use crate::processor;
use crate::publisher::Publisher;
use crate::results::{Goal, Row};
use crate::server::Server;
use crate::statistics::{Ratio, median};

const SUBSCRIBERS: usize = 1000;
const KEYS: usize = 10_000;
/// Bytes of a value.
const VALUE: usize = 100;
const TARGET: &str = "/sub/quotes?as=stream&latest";
/// The same of the floor: what was published last.
const FLOOR_TARGET: &str = "/sub/c0?as=last";
/// What is no part of a snapshot: the head of an answer, and a little more.
const HEAD: u64 = 600;
const PAUSE: Duration = Duration::from_millis(200);

pub fn run(bench: &mut Bench<'_>) -> io::Result<()> {
    let name = "snapshot of 10,000 keys to 1,000 subscribers at once";
    if !bench.begins(name) {
        return Ok(());
    }
    let (floor, encke) = (bench.floor(false)?, bench.encke_with(&[])?);
    fill(&encke)?;
    let bytes = bytes_of(&encke, TARGET)?;
    let body = vec![b'x'; (bytes - HEAD) as usize];
    Publisher::to(floor.address)?.publish("/pub/c0", "", &body)?;
    let of_floor = bytes_of(&floor, FLOOR_TARGET)?;
    let pids = [&floor.pids[..], &encke.pids].concat();
    let costs = in_turn(2, bench.args.pairs(), 0, &bench.quiet, &pids, |which| match which {
        0 => come(&floor, FLOOR_TARGET, of_floor),
        _ => come(&encke, TARGET, bytes),
    })?;
    let pairs: Vec<(f64, f64)> = costs[1].iter().copied().zip(costs[0].iter().copied()).collect();
    let row = Row::new(name, "µs CPU/subscriber").value("floor", median(costs[0].clone()));
    let row = row.value(encke.name, median(costs[1].clone())).ratio(encke.name, Ratio::of(&pairs));
    bench.row(row.goal(Goal::RatioAtMost(1.2)));
    let row = Row::new(format!("{name}, of what is sent"), "bytes/subscriber");
    bench.row(row.value("floor", of_floor as f64).value(encke.name, bytes as f64));
    let row = Row::new(format!("{name}, the longest wait of another subscriber"), "ms");
    let quiet = longest_wait(&encke, || {
        thread::sleep(5 * PAUSE);
        Ok(())
    })?;
    let waits = (0..3).map(|_| longest_wait(&encke, || come(&encke, TARGET, bytes).map(|_| ())));
    let waits: Vec<Duration> = waits.collect::<io::Result<_>>()?;
    let ms = |wait: Duration| wait.as_secs_f64() * 1e3;
    bench.row(row.value(encke.name, median(waits.into_iter().map(ms))).goal(Goal::AtMost(50.0)));
    let row = Row::new("the longest wait of a subscriber when nobody comes", "ms");
    bench.row(row.value(encke.name, ms(quiet)));
    Ok(())
}

fn fill(server: &Server) -> io::Result<()> {
    let mut publisher = Publisher::to(server.address)?;
    let value = "x".repeat(VALUE);
    for batch in 0..KEYS / 1000 {
        let keys = batch * 1000..(batch + 1) * 1000;
        let lines = keys
            .map(|key| format!("{{\"channel\":\"quotes\",\"key\":\"KEY{key:05}\",\"data\":\"{value}\"}}\n"));
        publisher.publish_batch(&lines.collect::<String>())?;
    }
    Ok(())
}

/// What one subscriber is given.
fn bytes_of(server: &Server, target: &str) -> io::Result<u64> {
    let mut one = Crowd::connect(server.address, target, 1)?;
    one.read_each(HEAD)?;
    one.read_until_quiet(PAUSE)?;
    Ok(one.bytes)
}

/// They come, and have all of it. Returns what one of them cost.
fn come(server: &Server, target: &str, bytes: u64) -> io::Result<f64> {
    let before = server.meter()?.cpu()?.total_us;
    let mut crowd = Crowd::connect(server.address, target, SUBSCRIBERS)?;
    // How many chunks it comes in may differ a little.
    crowd.read_each(bytes - bytes / 1000)?;
    crowd.read_until_quiet(PAUSE / 4)?;
    let cost = (server.meter()?.cpu()?.total_us - before) / SUBSCRIBERS as f64;
    drop(crowd);
    // That they leave is none of it.
    thread::sleep(PAUSE);
    Ok(cost)
}

/// The longest time from publishing to reading on another channel while something is done.
fn longest_wait(server: &Server, work: impl FnOnce() -> io::Result<()>) -> io::Result<Duration> {
    let is_over = Arc::new(AtomicBool::new(false));
    let (stop, address) = (Arc::clone(&is_over), server.address);
    let probe = thread::spawn(move || probe(address, &stop));
    let done = work();
    is_over.store(true, Ordering::Relaxed);
    let longest = probe.join().map_err(|_| io::Error::other("the probe panicked"))?;
    done.and(longest)
}

fn probe(address: SocketAddr, stop: &AtomicBool) -> io::Result<Duration> {
    // It must not wait for the crowd that reads on its processor.
    processor::prefer(&[rustix::thread::gettid().as_raw_nonzero().get() as u32]);
    let mut publisher = Publisher::to(address)?;
    let mut subscriber = TcpStream::connect(address)?;
    subscriber.set_read_timeout(Some(Duration::from_secs(30)))?;
    subscriber.write_all(b"GET /sub/other?as=raw HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    let mut text = [0; 4096];
    // It is there when its answer has begun.
    if subscriber.read(&mut text)? == 0 {
        return Err(io::Error::other("the probe was closed"));
    }
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        publisher.publish("/pub/other", "", b"!")?;
        loop {
            let length = subscriber.read(&mut text)?;
            if length == 0 {
                return Err(io::Error::other("the probe was closed"));
            }
            if text[..length].contains(&b'!') {
                break;
            }
        }
        longest = longest.max(begun.elapsed());
        thread::sleep(Duration::from_millis(2));
    }
    Ok(longest)
}
