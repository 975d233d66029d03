//! A server as a process of its own: starting it, and what /proc tells of it.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};

/// Ends with the value.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
    /// Where it speaks TLS, if it was told to.
    #[allow(dead_code, reason = "not all who start one want to know")]
    pub tls: Option<SocketAddr>,
}

impl Process {
    /// Starts `command`, which is to listen on a port that the system chooses, and waits until it says on which. What it logs
    /// after that is for `rest`, in a thread of its own.
    pub fn start(mut command: Command, rest: fn(BufReader<ChildStderr>)) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let by_tls = command.get_args().any(|argument| argument == "--tls-listen");
        let program = command.get_program().display().to_string();
        let mut child =
            command.spawn().map_err(|error| io::Error::other(format!("cannot start {program}: {error}")))?;
        let stderr = child.stderr.take().ok_or_else(|| io::Error::other("no standard error"))?;
        let mut lines = BufReader::new(stderr);
        let mut process = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), tls: None };
        let mut line = String::new();
        while lines.read_line(&mut line)? > 0 {
            if let Some(address) = line.split("listening on ").nth(1) {
                let address = address.trim().parse().map_err(io::Error::other)?;
                match line.contains("TLS listening on ") {
                    true => process.tls = Some(address),
                    false => process.address = address,
                }
            }
            if process.address.port() != 0 && (process.tls.is_some() || !by_tls) {
                std::thread::spawn(move || rest(lines));
                return Ok(process);
            }
            line.clear();
        }
        Err(io::Error::other("the server ended before it listened"))
    }

    pub const fn child(&self) -> &Child {
        &self.child
    }

    /// Bytes in `file` of /proc, on the line that begins with `field`, which counts KiB.
    pub fn bytes(&self, file: &str, field: &str) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("");
        let kib = line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok());
        kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other(format!("no {field} the server has ended")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
