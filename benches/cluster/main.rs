//! What a shared history costs: two servers, one Redis, everything on this machine.
//!
//! `cargo bench --bench cluster -- --run` starts them (the binary of `target/release`, Redis from the path), each in
//! passing, and prints a line for each measure. Nothing else should run.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Something that runs until it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

impl Process {
    fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Processor time so far.
    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit_once(')').expect("a stat line").1.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("ticks")).sum();
        Duration::from_millis(10 * ticks)
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("the loopback interface")
}

fn node(redis: SocketAddr) -> (Process, SocketAddr) {
    let (addr, binary) = (free(), concat!(env!("CARGO_MANIFEST_DIR"), "/target/release/encke"));
    let binary = std::env::var("ENCKE_BIN").unwrap_or_else(|_| binary.to_owned());
    let mut command = Command::new(binary);
    command.args(["serve", "--listen", &addr.to_string(), "--engine-url", &format!("redis://{redis}")]);
    command.args(["--limits-publishes-per-second", "1000000", "--history-total-bytes", "2GiB"]);
    let process = Process::start(&mut command);
    while get(addr, "/healthz").is_none_or(|(status, _)| status != 200) {
        thread::sleep(Duration::from_millis(1));
    }
    (process, addr)
}

fn get(addr: SocketAddr, target: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(addr).ok()?;
    write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some((text.get(9..12)?.parse().ok()?, text))
}

/// A connection that publishes.
struct Publisher {
    stream: BufReader<TcpStream>,
}

impl Publisher {
    fn to(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket");
        Self { stream: BufReader::new(stream) }
    }

    /// Publishes one message, or a batch of lines. Returns the status.
    fn publish(&mut self, target: &str, kind: &str, body: &str) -> u16 {
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(head.as_bytes()).expect("the server reads");
        let (mut status, mut length, mut line) = (0, 0, String::new());
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("the server answers");
            match line.trim_end() {
                "" => break,
                text if text.starts_with("HTTP/1.1 ") => status = text[9..12].parse().expect("a status"),
                text => {
                    let value = text.strip_prefix("Content-Length: ");
                    length = value.map_or(length, |value| value.parse().expect("a length"));
                }
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("the whole answer");
        status
    }
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    format!("p50 {:.2} ms, p99 {:.2} ms, max {:.1} ms", at(0.5), at(0.99), at(1.0))
}

/// Messages published on one, and when a stream on the other shows them.
fn across(from: SocketAddr, to: SocketAddr, count: usize, each: Duration) {
    let mut stream = TcpStream::connect(to).expect("the server listens");
    write!(stream, "GET /sub/latency?as=stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("the server reads");
    let mut lines = BufReader::new(stream);
    let mut head = String::new();
    while head != "\r\n" {
        head.clear();
        lines.read_line(&mut head).expect("a head");
    }
    let sent: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let own = Arc::clone(&sent);
    let publisher = thread::spawn(move || {
        let mut publisher = Publisher::to(from);
        let begin = Instant::now();
        for number in 0..count {
            thread::sleep((begin + each * number as u32).saturating_duration_since(Instant::now()));
            own.lock().expect("nobody panics").push(Instant::now());
            publisher.publish("/pub/latency", "text/plain", &format!("message {number}{}", "x".repeat(150)));
        }
    });
    let (mut seen, mut line) = (Vec::with_capacity(count), String::new());
    while seen.len() < count {
        line.clear();
        lines.read_line(&mut line).expect("the stream goes on");
        if line.contains("\"message ") {
            let sent = sent.lock().expect("nobody panics")[seen.len()];
            seen.push(sent.elapsed());
        }
    }
    publisher.join().expect("it has published");
    println!(
        "published on one, seen on the other, {}/s: {}",
        1000 / each.as_millis().max(1),
        percentiles(seen.split_off(count / 10))
    );
}

/// 10,000 publications a second over 64 connections.
fn crowd(to: [SocketAddr; 2], reader: &Process, redis: &Process) {
    let (connections, rate, seconds) = (64, 10_000, 8);
    let refused = Arc::new(AtomicUsize::new(0));
    let times: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let before = (reader.cpu(), redis.cpu());
    let begin = Instant::now();
    let threads: Vec<_> = (0..connections)
        .map(|who| {
            let (refused, times) = (Arc::clone(&refused), Arc::clone(&times));
            thread::spawn(move || {
                let mut publisher = Publisher::to(to[0]);
                let count = rate * seconds / connections;
                let each = Duration::from_secs(seconds as u64) / count as u32;
                let mut own = Vec::with_capacity(count);
                for number in 0..count {
                    let due = begin + each * number as u32 + each * who as u32 / connections as u32;
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    // From when it was due: who waits for others counts.
                    let status =
                        publisher.publish(&format!("/pub/c{}", who % 16), "text/plain", &"x".repeat(150));
                    own.push(due.elapsed());
                    refused.fetch_add(usize::from(status >= 300), Ordering::Relaxed);
                }
                times.lock().expect("nobody panics").extend(own.split_off(count / 8));
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("it has published"));
    let took = begin.elapsed();
    let after = (reader.cpu(), redis.cpu());
    let count = (rate * seconds) as f64;
    let times = std::mem::take(&mut *times.lock().expect("nobody panics"));
    println!(
        "{:.0} publications/s over {connections} connections: {}; {} refused",
        count / took.as_secs_f64(),
        percentiles(times),
        refused.load(Ordering::Relaxed)
    );
    println!(
        "  processor of the other server, which nobody listens to: {:.2} µs a message",
        (after.0 - before.0).as_secs_f64() * 1e6 / count
    );
    println!("  processor of Redis: {:.2} µs a message", (after.1 - before.1).as_secs_f64() * 1e6 / count);
}

/// What Redis itself knows of its pauses since it began: what it was doing, and for how long at most. Whoever waits for an
/// answer then waits as long, whatever the servers do.
fn pauses(redis: SocketAddr) -> String {
    let mut stream = TcpStream::connect(redis).expect("Redis listens");
    stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a TCP socket");
    stream.write_all(b"LATENCY LATEST\r\n").expect("Redis reads");
    // Redis waits for the next command: the answer has come when nothing comes any more.
    let mut answer = Vec::new();
    _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let (mut lines, mut pauses) = (answer.lines(), Vec::new());
    while let Some(line) = lines.next() {
        if line.starts_with('$') {
            let what = lines.next().unwrap_or_default();
            // When it was last, for how long then, and at most.
            let most = lines.nth(2).unwrap_or_default();
            pauses.push(format!("{what} {} ms", most.trim_start_matches(':')));
        }
    }
    if pauses.is_empty() { "none".to_owned() } else { pauses.join(", ") }
}

/// A server starts where a million messages are kept.
fn start(redis: SocketAddr, to: SocketAddr) {
    let lines: String = (0..500)
        .map(|number| format!("{{\"channel\":\"m{}\",\"data\":\"{}\"}}\n", number % 100, "x".repeat(150)))
        .collect();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let lines = lines.clone();
            thread::spawn(move || {
                let mut publisher = Publisher::to(to);
                for _ in 0..500 {
                    assert!(publisher.publish("/pub", "application/x-ndjson", &lines) < 300);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("it has published"));
    let began = Instant::now();
    let (_late, addr) = node(redis);
    let took = began.elapsed();
    let stats = get(addr, "/stats").expect("statistics").1;
    let kept = stats.split("\"history_messages\":").nth(1).and_then(|rest| rest.split([',', '}']).next());
    println!(
        "1,000,000 kept messages read at start: {:.2} s ({} are within [history])",
        took.as_secs_f64(),
        kept.unwrap_or("?")
    );
}

fn main() {
    if !std::env::args().any(|argument| argument == "--run") {
        return println!("cluster: nothing is measured without --run");
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cluster");
    _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("room for Redis");
    let addr = free();
    let mut command = Command::new("redis-server");
    command
        .args([
            "--port",
            &addr.port().to_string(),
            "--bind",
            "127.0.0.1",
            "--appendonly",
            "yes",
            "--save",
            "",
        ])
        .args(["--latency-monitor-threshold", "10"])
        .current_dir(&folder);
    let redis = Process::start(&mut command);
    let is_there = (0..500).any(|_| {
        thread::sleep(Duration::from_millis(10));
        TcpStream::connect(addr).is_ok()
    });
    assert!(is_there, "redis-server does not listen at {addr}");
    let (_one, one) = node(addr);
    let (other, two) = node(addr);
    across(one, two, 6000, Duration::from_millis(1));
    crowd([one, two], &other, &redis);
    println!("  pauses of Redis of 10 ms or more: {}", pauses(addr));
    start(addr, one);
    drop(redis);
    _ = fs::remove_dir_all(&folder);
}
