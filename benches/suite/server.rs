//! Servers under test: started on their processor, ended with the value.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::certificate::Certificate;
use crate::meter::Meter;
use crate::processor;

const PATIENCE: Duration = Duration::from_secs(10);

pub struct Server {
    pub name: &'static str,
    pub address: SocketAddr,
    /// Where subscribers speak TLS, if they are to.
    pub tls: Option<SocketAddr>,
    /// As the generator calls it.
    pub dialect: &'static str,
    /// From starting the process to the first answer.
    pub start_up: Duration,
    /// The process that answers is among them.
    pub pids: Vec<u32>,
    /// It has real-time priority.
    pub is_preferred: bool,
    child: Child,
}

impl Server {
    /// The floor; with `nagle` it lets the kernel gather small writes.
    pub fn floor(program: &Path, name: &'static str, nagle: bool, cpu: usize) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(["--listen", "127.0.0.1:0"]);
        if nagle {
            command.arg("--nagle");
        }
        Self::announced(name, command, cpu)
    }

    /// The floor with TLS.
    pub fn floor_by_tls(program: &Path, certificate: &Certificate, cpu: usize) -> io::Result<Self> {
        let mut command = Command::new(program);
        command
            .args(["--listen", "127.0.0.1:0", "--tls"])
            .arg(&certificate.certificate)
            .arg(&certificate.key);
        Self::announced("floor", command, cpu)
    }

    pub fn encke(program: &Path, options: &[&str], cpu: usize) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(options);
        Self::announced("Encke", command, cpu)
    }

    /// nginx with nchan, one worker; its configuration and files go to `directory`.
    pub fn nchan(directory: &Path, cpu: usize) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let directory = fs::canonicalize(directory)?;
        // A free port: taken, let go, and given to nginx, which cannot choose one itself.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let file = directory.join("nginx.conf");
        fs::write(&file, crate::nchan::configuration(&directory, address))?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&file).arg("-e").arg(directory.join("error.log")).arg("-p").arg(&directory);
        command.stderr(Stdio::null());
        let (child, started) = spawn(command, cpu)?;
        Self::new("nchan", address, "nchan", child).answering(started)
    }

    /// A server that prints `listening on ADDR` on standard error.
    fn announced(name: &'static str, mut command: Command, cpu: usize) -> io::Result<Self> {
        command.stderr(Stdio::piped());
        let by_tls = command.get_args().any(|argument| argument.to_string_lossy().starts_with("--tls"));
        let (mut child, started) = spawn(command, cpu)?;
        let stderr = child.stderr.take().ok_or_else(|| io::Error::other("no standard error"))?;
        let mut lines = BufReader::new(stderr);
        let (mut plain, mut tls) = (None, None);
        let address = loop {
            if let Some(address) = plain.filter(|_| !by_tls || tls.is_some()) {
                break address;
            }
            let mut line = String::new();
            if lines.read_line(&mut line)? == 0 {
                _ = child.wait();
                return Err(io::Error::other(format!("{name} ended before it listened")));
            }
            let after =
                line.split("listening on ").nth(1).map(|rest| rest.trim_start_matches("http://").trim());
            match after.and_then(|rest| rest.split_whitespace().next()?.parse().ok()) {
                Some(address) if line.contains("TLS listening on") => tls = Some(address),
                Some(address) => plain = Some(address),
                None => {}
            }
        };
        // Whatever else it says must not fill the pipe.
        std::thread::spawn(move || io::copy(&mut lines, &mut io::sink()));
        let mut server = Self::new(name, address, "encke", child);
        server.tls = tls;
        server.answering(started)
    }

    fn new(name: &'static str, address: SocketAddr, dialect: &'static str, child: Child) -> Self {
        let (start_up, pids, is_preferred) = (Duration::ZERO, Vec::new(), false);
        Self { name, address, tls: None, dialect, start_up, pids, is_preferred, child }
    }

    /// Waits for the first answer.
    fn answering(mut self, started: Instant) -> io::Result<Self> {
        while started.elapsed() < PATIENCE {
            if self.healthy().is_ok() {
                self.start_up = started.elapsed();
                self.pids = self.meter()?.pids().to_vec();
                self.is_preferred = processor::prefer(&self.pids);
                return Ok(self);
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        Err(io::Error::other(format!("{} gives no answer to GET /healthz at {}", self.name, self.address)))
    }

    fn healthy(&self) -> io::Result<()> {
        let mut socket = TcpStream::connect(self.address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0; 12];
        socket.read_exact(&mut answer)?;
        if &answer[9..] == b"200" { Ok(()) } else { Err(io::Error::other("not well")) }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn meter(&self) -> io::Result<Meter> {
        Meter::new(self.pid())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Starts a program on a processor. Returns it, and when it was started.
fn spawn(mut command: Command, cpu: usize) -> io::Result<(Child, Instant)> {
    processor::start_on(cpu, || {
        let started = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().map_err(|error| {
            io::Error::other(format!("cannot start {}: {error}", command.get_program().to_string_lossy()))
        })?;
        Ok((child, started))
    })
}

/// The newest program of that name beside this one: Cargo adds a hash to benches' names.
pub fn sibling(name: &str) -> io::Result<PathBuf> {
    let directory = std::env::current_exe()?.parent().map(Path::to_path_buf).unwrap_or_default();
    let mut found: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(&directory)? {
        let path = entry?.path();
        let stem = path.file_name().and_then(|file| file.to_str()).unwrap_or("");
        if stem.strip_prefix(name).is_some_and(|rest| rest.starts_with('-')) && path.extension().is_none() {
            found.push((fs::metadata(&path)?.modified()?, path));
        }
    }
    let newest = found.into_iter().max().map(|(_, path)| path);
    newest.ok_or_else(|| {
        io::Error::other(format!("no {name} in {}: cargo build --release --benches", directory.display()))
    })
}
