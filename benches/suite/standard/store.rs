//! The history on disk: what it costs to publish, to keep, and to start. The disk is that of the output directory; a figure
//! says as much of it as of the server, but for those that are ratios.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};
use rustix::process::{Pid, Signal, kill_process};

use crate::bench::Bench;
use crate::publisher::Publisher;
use crate::results::{Goal, Row};
use crate::server::Server;

const MESSAGES: usize = 1_000_000;
const CHANNELS: usize = 1000;
const BATCH: usize = 1000;
const CONNECTIONS: usize = 64;
const RATE: usize = 10_000;
const MB: f64 = 1024.0 * 1024.0;

pub fn run(bench: &mut Bench<'_>) -> io::Result<()> {
    if bench.args.floor_twice {
        return Ok(());
    }
    one_publisher(bench)?;
    many_publishers(bench)?;
    kept(bench)
}

/// A directory for a history, empty.
fn directory(bench: &Bench<'_>) -> io::Result<PathBuf> {
    let path = bench.args.output.join("store");
    _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path)?;
    fs::canonicalize(path)
}

fn stored(bench: &Bench<'_>, directory: &std::path::Path) -> io::Result<Server> {
    let directory = directory.to_string_lossy();
    bench.encke_with(&["--store-dir", &directory, "--history-messages", "2000"])
}

fn publish_one(publisher: &mut Publisher, number: usize) -> io::Result<()> {
    let target = format!("/pub/bench/{}", number % 16);
    publisher.publish(&target, "Content-Type: text/plain\r\n", &[b'x'; 200])
}

fn at(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// One message at a time, and the same bytes written and synced by nobody but us, in turn.
fn one_publisher(bench: &mut Bench<'_>) -> io::Result<()> {
    let name = "synced, one publisher, p50 of the answer";
    if !bench.begins(name) {
        return Ok(());
    }
    let directory = directory(bench)?;
    let server = stored(bench, &directory)?;
    let file = File::create(directory.join("bare"))?;
    file.set_len(64 << 20)?;
    file.write_all_at(&vec![1; 64 << 20], 0)?;
    file.sync_all()?;
    let mut publisher = Publisher::to(server.address)?;
    let (mut own, mut bare) = (Vec::new(), Vec::new());
    for number in 0..500 {
        // The pause between two commits must not be what is measured.
        thread::sleep(Duration::from_millis(8));
        let begun = Instant::now();
        file.write_all_at(&[2; 4096], number as u64 * 4096)?;
        file.sync_data()?;
        bare.push(begun.elapsed().as_secs_f64() * 1e6);
        thread::sleep(Duration::from_millis(2));
        let begun = Instant::now();
        publish_one(&mut publisher, number)?;
        own.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    let (own, bare) = (at(&sorted(own), 0.5), at(&sorted(bare), 0.5));
    bench.row(Row::new(name, "µs").value(server.name, own));
    bench.row(Row::new("a bare pwrite + fdatasync, p50", "µs").value(server.name, bare));
    let row = Row::new(name, "answer ÷ bare pwrite + fdatasync").value(server.name, own / bare);
    bench.row(row.goal(Goal::AtMost(1.5)));
    Ok(())
}

/// What one server made of a rate.
struct Load {
    p99_ms: f64,
    cpu_us: f64,
    store_share: f64,
}

fn load(server: &Server) -> io::Result<Load> {
    let seconds = 5;
    let period = Duration::from_secs(1) * CONNECTIONS as u32 / RATE as u32;
    let (cpu, store) = (server.meter()?.cpu()?.total_us, store_ns(server.pid()));
    let begin = Instant::now() + Duration::from_millis(50);
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|place| {
            let mut publisher = Publisher::to(server.address)?;
            Ok(thread::spawn(move || -> io::Result<Vec<f64>> {
                let mut took = Vec::new();
                for number in 0..RATE * seconds / CONNECTIONS {
                    let due = begin + period * number as u32 + period * place as u32 / CONNECTIONS as u32;
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    publish_one(&mut publisher, place + number)?;
                    // From when it was due: who waits for an answer is late with the next.
                    took.push(due.elapsed().as_secs_f64() * 1e3);
                }
                Ok(took)
            }))
        })
        .collect::<io::Result<_>>()?;
    let mut took = Vec::new();
    for thread in threads {
        took.extend(thread.join().map_err(|_| io::Error::other("a publisher panicked"))??);
    }
    let elapsed = begin.elapsed().as_secs_f64();
    Ok(Load {
        cpu_us: (server.meter()?.cpu()?.total_us - cpu) / took.len() as f64,
        store_share: (store_ns(server.pid()) - store) / 1e9 / elapsed * 100.0,
        p99_ms: at(&sorted(took), 0.99),
    })
}

/// What the store's thread has had of a processor.
fn store_ns(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stores = tasks
        .filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == "store"));
    let figures = stores.filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok());
    figures.filter_map(|figures| figures.split_whitespace().next()?.parse::<f64>().ok()).sum()
}

fn many_publishers(bench: &mut Bench<'_>) -> io::Result<()> {
    let name = format!("synced, {RATE} publications/s over {CONNECTIONS} connections");
    if !bench.begins(&name) {
        return Ok(());
    }
    let directory = directory(bench)?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        _ = fs::remove_dir_all(&directory);
        let server = stored(bench, &directory)?;
        load(&server)?;
        with.push(load(&server)?);
        drop(server);
        let server = bench.encke_with(&["--history-messages", "2000"])?;
        load(&server)?;
        without.push(load(&server)?);
    }
    let middle = |loads: &[Load], of: fn(&Load) -> f64| at(&sorted(loads.iter().map(of).collect()), 0.5);
    let judged = bench.servers[1].name;
    let row = |what: &str, unit| Row::new(format!("{name}, {what}"), unit);
    bench.row(
        row("p99 of the answer", "ms")
            .value(judged, middle(&with, |load| load.p99_ms))
            .goal(Goal::AtMost(15.0)),
    );
    bench.row(
        row("store's thread", "% of a processor")
            .value(judged, middle(&with, |load| load.store_share))
            .goal(Goal::AtMost(15.0)),
    );
    let cpu: fn(&Load) -> f64 = |load| load.cpu_us;
    bench.row(row("CPU a publication", "µs").value(judged, middle(&with, cpu)));
    bench.row(row("CPU a publication in memory mode", "µs").value(judged, middle(&without, cpu)));
    let ratio = middle(&with, cpu) / middle(&without, cpu);
    bench.row(row("CPU", "÷ memory mode").value(judged, ratio).goal(Goal::AtMost(1.6)));
    Ok(())
}

/// Publishes a million messages of 200 bytes, a thousand at once.
fn fill(server: &Server) -> io::Result<()> {
    let mut publisher = Publisher::to(server.address)?;
    let payload = "x".repeat(200);
    for batch in 0..MESSAGES / BATCH {
        let lines: String = (0..BATCH)
            .map(|line| {
                format!(
                    "{{\"channel\":\"bench/{}\",\"data\":\"{payload}\"}}\n",
                    (batch * BATCH + line) % CHANNELS
                )
            })
            .collect();
        publisher.publish_batch(&lines)?;
    }
    Ok(())
}

fn kept(bench: &mut Bench<'_>) -> io::Result<()> {
    let name = "1,000,000 messages of 200 bytes";
    if !bench.begins(name) {
        return Ok(());
    }
    let directory = directory(bench)?;
    let options = [
        "--history-messages",
        "2000",
        "--history-total-bytes",
        "2000000000",
        "--limits-memory",
        "4000000000",
    ];
    let memory = bench.encke_with(&options)?;
    fill(&memory)?;
    let in_memory = memory.meter()?.memory()?.rss;
    drop(memory);
    let place = directory.to_string_lossy().into_owned();
    let options = [&["--store-dir", &place], &options[..]].concat();
    let server = bench.encke_with(&options)?;
    fill(&server)?;
    let on_disk = server.meter()?.memory()?.rss;
    if let Some(pid) = i32::try_from(server.pid()).ok().and_then(Pid::from_raw) {
        kill_process(pid, Signal::KILL)?;
    }
    drop(server);
    let file = File::open(directory.join("history.redb"))?;
    file.sync_all()?;
    // Cold: none of it is in memory.
    fadvise(&file, 0, None, Advice::DontNeed)?;
    let server = bench.encke_with(&options)?;
    let judged = server.name;
    let row = |what: &str, unit| Row::new(format!("{name}, {what}"), unit);
    let start = server.start_up.as_secs_f64();
    bench.row(row("back after kill -9, cold", "s").value(judged, start).goal(Goal::AtMost(2.0)));
    let more = (on_disk - in_memory) as f64 / MB;
    bench.row(row("memory", "MB more than in memory mode").value(judged, more).goal(Goal::AtMost(24.0)));
    let bytes = file.metadata()?.len() as f64 / MESSAGES as f64;
    bench.row(row("on disk", "bytes a message").value(judged, bytes).goal(Goal::AtMost(300.0)));
    drop(server);
    fs::remove_dir_all(&directory)
}
