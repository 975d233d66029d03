//! The server's process.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::process::Process;

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
    process: Process,
    pub address: SocketAddr,
}

impl Server {
    pub fn start(program: &Path) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(OPTIONS);
        // Whatever else it says is for whoever looks.
        let process = Process::start(command, |mut lines| _ = io::copy(&mut lines, &mut io::stderr()))?;
        Ok(Self { address: process.address, process })
    }

    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(self.process.child()), signal)?)
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> io::Result<u64> {
        self.process.bytes("status", "VmRSS:")
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> io::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.process.child().id()))?.count())
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
