//! The server's process, and the application that publishes.

use std::fs;
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, setpriority_process};

use crate::certificate::Certificate;
use crate::process::Process;
use crate::processor;
use crate::rights;
use crate::words::quote;

/// As nice(1) counts.
const PRIORITY: i32 = -20;
const PATIENCE: Duration = Duration::from_secs(20);
/// Channels below `c/`, each with a message.
pub const CHANNELS: usize = 9000;
/// Keys of `table`, each with a value.
pub const KEYS: usize = 10_000;
/// Values of it that change at once, and the milliseconds until the next do.
const CHANGES: usize = 50;
const CHANGES_MS: u64 = 100;
/// Bytes of each message on `big`.
const BIG_BYTES: usize = 100_000;
/// Clock ticks a second, as /proc counts them.
const TICKS: f64 = 100.0;

/// Where it listens.
#[derive(Clone, Copy)]
pub struct Addresses {
    pub plain: SocketAddr,
    pub tls: SocketAddr,
}

pub struct Server {
    process: Process,
    pub addresses: Addresses,
}

impl Server {
    /// Starts it on a processor, where it goes before others if that is allowed. Real-time priority would take a twentieth of
    /// each second away from it (sched_rt_runtime_us) as soon as it uses all of its processor, and be measured itself.
    pub fn start(program: &Path, memory_mib: u64, cpu: usize) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--limits-memory"]).arg(format!("{memory_mib}MiB"));
        let files = std::env::temp_dir().join(format!("encke-hostile-{}", std::process::id()));
        command.args(Certificate::make(&files)?.options());
        rights::grant(&mut command, &files)?;
        // It logs every connection that it closes for lack of memory.
        let rest = |mut lines: BufReader<_>| _ = io::copy(&mut lines, &mut io::sink());
        let process = processor::start_on(cpu, || Process::start(command, rest))?;
        let pid = i32::try_from(process.child().id()).ok().and_then(Pid::from_raw);
        _ = setpriority_process(pid, PRIORITY);
        // They have been read.
        fs::remove_dir_all(&files)?;
        let tls = process.tls.ok_or_else(|| io::Error::other("it speaks no TLS"))?;
        Ok(Self { addresses: Addresses { plain: process.address, tls }, process })
    }

    /// Gives it what an application would have published.
    pub fn prepare(&self) -> io::Result<()> {
        let mut application = Application::of(self.addresses.plain)?;
        for begin in (0..CHANNELS).step_by(1000) {
            let lines = (begin..begin + 1000).map(|n| format!("{{\"channel\":\"c/{n}\",\"data\":1}}\n"));
            application.post("/pub", "application/x-ndjson", &lines.collect::<String>())?;
        }
        for begin in (0..KEYS).step_by(1000) {
            application.publish_quotes(begin, 1000)?;
        }
        (0..10).try_for_each(|_| application.publish_big())
    }

    /// Publishes ten large messages a second, and as many on new topics, and changes values, until `stop`.
    pub fn publish_on(&self, stop: Arc<AtomicBool>) -> JoinHandle<io::Result<()>> {
        let address = self.addresses.plain;
        thread::spawn(move || {
            let mut application = Application::of(address)?;
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                application.publish_big()?;
                application.publish_quotes(number * CHANGES, CHANGES)?;
                let topic = format!("/pub/new/{number}/{}?ttl=1", "x".repeat(150));
                application.post(&topic, "text/plain", "new")?;
                thread::sleep(Duration::from_millis(CHANGES_MS));
            }
            Ok(())
        })
    }

    /// Resident memory in bytes. Of what tells it, this alone takes no lock of the server's memory: with `smaps_rollup`, which
    /// holds it while it walks through all of that, the server waits for whoever asks, and for its processor.
    pub fn resident(&self) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/statm", self.process.child().id()))?;
        let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        let pages = pages.ok_or_else(|| io::Error::other("statm has another form"))?;
        Ok(pages * rustix::param::page_size() as u64)
    }

    /// Seconds of processor time.
    pub fn cpu(&self) -> io::Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.process.child().id()))?;
        let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or("").split(' ').collect();
        let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0);
        Ok((ticks(11) + ticks(12)) / TICKS)
    }
}

/// Who publishes on the loopback address, as applications do.
struct Application(TcpStream);

impl Application {
    fn of(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        Ok(Self(socket))
    }

    fn publish_big(&mut self) -> io::Result<()> {
        self.post("/pub/big", "text/plain", &"x".repeat(BIG_BYTES))
    }

    /// Changes the values of so many keys, from `begin` on.
    fn publish_quotes(&mut self, begin: usize, count: usize) -> io::Result<()> {
        let lines: String = (begin..begin + count).map(|number| quote(number, number)).collect();
        self.post("/pub", "application/x-ndjson", &lines)
    }

    fn post(&mut self, target: &str, content_type: &str, body: &str) -> io::Result<()> {
        let length = body.len();
        let head = format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n");
        self.0.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes())?;
        let answer = self.answer()?;
        match answer.starts_with("HTTP/1.1 20") {
            true => Ok(()),
            false => Err(io::Error::other(format!("the application may not publish: {answer}"))),
        }
    }

    /// One answer, whose length is told.
    fn answer(&mut self) -> io::Result<String> {
        let (mut bytes, mut buffer) = (Vec::new(), [0; 64 << 10]);
        loop {
            let count = self.0.read(&mut buffer)?;
            bytes.extend_from_slice(&buffer[..count]);
            let text = String::from_utf8_lossy(&bytes);
            let length = text.split("Content-Length: ").nth(1).and_then(|rest| rest.split('\r').next());
            let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
            if count == 0 || text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.len() >= length) {
                return Ok(text.into_owned());
            }
        }
    }
}
