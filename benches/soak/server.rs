//! The server's process.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Everything that is bounded is bounded tightly enough to be full before the warm-up is over.
const OPTIONS: [&str; 15] = [
    "serve",
    "--listen",
    "127.0.0.1:0",
    "--heartbeat",
    "5",
    "--history-seconds",
    "10",
    "--channel-idle-seconds",
    "5",
    "--limits-tombstones",
    "500",
    "--limits-idempotency-keys",
    "500",
    "--poll-timeout-seconds=10",
    "--bayeux-timeout-ms=8000",
];
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    pub fn start(program: &Path) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(OPTIONS).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| io::Error::other(format!("cannot start {}: {error}", program.display())))?;
        let stderr = child.stderr.take().ok_or_else(|| io::Error::other("no standard error"))?;
        let mut lines = BufReader::new(stderr);
        let mut server = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let mut line = String::new();
        while lines.read_line(&mut line)? > 0 {
            if let Some(address) = line.split("listening on ").nth(1) {
                server.address = address.trim().parse().map_err(io::Error::other)?;
                // Whatever else it says is for whoever looks.
                std::thread::spawn(move || io::copy(&mut lines, &mut io::stderr()));
                return Ok(server);
            }
            line.clear();
        }
        Err(io::Error::other("the server ended before it listened"))
    }

    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("");
        let kib = line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok());
        kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other("no VmRSS: the server has ended"))
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> io::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }

    /// What the server counts.
    pub fn stats(&self) -> io::Result<Value> {
        let mut socket = TcpStream::connect(self.address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(b"GET /stats HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or("");
        serde_json::from_str(body).map_err(io::Error::other)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
