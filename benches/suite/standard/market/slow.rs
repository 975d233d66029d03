//! A reader that takes a tenth of what it is sent.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};

use super::{KEYS, UPDATES};
use crate::bench::Bench;
use crate::feed::{BEGIN, Feed};
use crate::results::{Goal, Row};
use crate::statistics::median;

/// So many of them, so that what each costs shows.
const READERS: usize = 10;
/// Bytes a second that one takes: a delivery of 500 quotes is 200 KB, twice a second.
const PACE: usize = 40_000;
const SECONDS: u64 = 60;
/// How often it reads.
const STEP: Duration = Duration::from_millis(20);
/// What its kernel may keep for it: a line that is slow holds little.
const KEPT: usize = 16 << 10;
const MB: f64 = 1024.0 * 1024.0;

struct Reader {
    stream: TcpStream,
    /// What was read of the line at hand.
    rest: Vec<u8>,
    /// How old values were when they were read, seconds.
    ages: Vec<f64>,
}

pub fn run(bench: &mut Bench<'_>) -> io::Result<()> {
    let name = "readers that take a tenth of what they are sent, for a minute";
    if !bench.begins(name) {
        return Ok(());
    }
    let server = bench.encke_with(&[])?;
    let begun = Instant::now();
    let feed = Feed::quotes(server.address, KEYS, UPDATES, begun)?;
    thread::sleep(Duration::from_secs(1));
    let mut readers =
        (0..READERS).map(|_| Reader::connect(server.address)).collect::<io::Result<Vec<_>>>()?;
    let mut memory = Vec::new();
    for second in 0..SECONDS {
        let end = begun + Duration::from_secs(second + 2);
        while Instant::now() < end {
            for reader in &mut readers {
                reader.read(PACE * STEP.as_millis() as usize / 1000, begun)?;
            }
            thread::sleep(STEP);
        }
        memory.push(server.meter()?.memory()?.pss as f64 / MB);
    }
    feed.end()?;
    let (early, late) =
        (median(memory[5..15].iter().copied()), median(memory.iter().rev().take(10).copied()));
    let row = |what: &str, unit| Row::new(format!("{name}, {what}"), unit);
    let grown = row("memory", "MB more at the end than at the beginning").value(server.name, late - early);
    bench.row(grown.goal(Goal::AtMost(0.5)));
    // What came while buffers filled says nothing.
    let ages = readers.iter().flat_map(|reader| reader.ages.iter().skip(reader.ages.len() / 2).copied());
    bench.row(row("the age of what they read, median", "s").value(server.name, median(ages)));
    Ok(())
}

impl Reader {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        let fd: OwnedFd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        sockopt::set_socket_recv_buffer_size(&fd, KEPT)?;
        connect(&fd, &address)?;
        let mut stream = TcpStream::from(fd);
        stream.write_all(b"GET /sub/quotes?as=stream&rate=2 HTTP/1.1\r\nHost: bench\r\n\r\n")?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, rest: Vec::new(), ages: Vec::new() })
    }

    fn read(&mut self, bytes: usize, begun: Instant) -> io::Result<()> {
        let at = self.rest.len();
        self.rest.resize(at + bytes, 0);
        let length = match self.stream.read(&mut self.rest[at..]) {
            Ok(0) => return Err(io::Error::other("a slow reader was closed")),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        self.rest.truncate(at + length);
        let now = begun.elapsed().as_secs_f64();
        while let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let at = line.split(r#""at":"#).nth(1).and_then(|rest| rest.get(..12)?.parse::<f64>().ok());
            self.ages.extend(at.map(|at| now - (at - BEGIN as f64) / 1e6));
        }
        Ok(())
    }
}
