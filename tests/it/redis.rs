//! A Redis of a test's own: in a directory of its own, on a port of its own, killed when the test is over. And a door in
//! front of it, which can be slammed, or lead elsewhere.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{PATIENCE, free_address, until};

/// A running Redis.
pub struct Redis {
    child: Child,
    pub addr: SocketAddr,
    folder: PathBuf,
    options: Vec<String>,
}

impl Redis {
    /// Starts one that keeps an append-only file, with further options.
    pub fn start(options: &[&str]) -> Self {
        Self::start_at(free_address(), options)
    }

    /// The same at an address that was free a moment ago.
    pub fn start_at(addr: SocketAddr, options: &[&str]) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("redis-{}", addr.port()));
        _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let child = Self::spawn(addr, &folder, &options);
        let redis = Self { child, addr, folder, options };
        redis.answers();
        redis
    }

    fn spawn(addr: SocketAddr, folder: &PathBuf, options: &Vec<String>) -> Child {
        let port = addr.port().to_string();
        Command::new("redis-server")
            .args([
                "--port",
                &port,
                "--bind",
                "127.0.0.1",
                "--appendonly",
                "yes",
                "--appendfsync",
                "everysec",
            ])
            .args(["--save", "", "--loglevel", "warning", "--repl-diskless-sync-delay", "0"])
            .args(options)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect(
                "redis-server is missing: `make test` installs it (on Debian: apt-get install redis-server)",
            )
    }

    fn answers(&self) {
        until("Redis answers", || {
            let said = self.try_ask(&["PING"])?;
            (said == "PONG" || said.starts_with("NOAUTH")).then_some(())
        });
    }

    /// The URL of it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// Asks something; lists are joined by blanks.
    pub fn ask(&self, words: &[&str]) -> String {
        self.try_ask(words).unwrap_or_else(|| panic!("Redis does not answer {words:?}"))
    }

    fn try_ask(&self, words: &[&str]) -> Option<String> {
        let mut stream = TcpStream::connect(self.addr).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut bytes = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| bytes.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        stream.write_all(bytes.as_bytes()).ok()?;
        answer(&mut BufReader::new(stream))
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("Redis runs");
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again with what is on the disk.
    pub fn restart(&mut self) {
        self.child = Self::spawn(self.addr, &self.folder, &self.options);
        self.answers();
    }

    /// Takes bytes off the end of the append-only file, as a power cut does.
    pub fn cut_tail(&self, bytes: u64) {
        let files =
            fs::read_dir(self.folder.join("appendonlydir")).unwrap().map(|entry| entry.unwrap().path());
        let newest = files.filter(|path| path.to_str().unwrap().ends_with(".incr.aof")).max().unwrap();
        let file = fs::OpenOptions::new().write(true).open(newest).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(bytes)).unwrap();
    }

    /// Takes everything off the disk.
    pub fn wipe(&self) {
        fs::remove_dir_all(self.folder.join("appendonlydir")).unwrap();
    }
}

/// Reads an answer.
fn answer(stream: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let line = line.trim_end();
    let (kind, rest) = line.split_at_checked(1)?;
    match kind {
        "$" | "*" if rest == "-1" => Some(String::new()),
        "$" => {
            let mut bytes = vec![0; rest.parse::<usize>().ok()? + 2];
            stream.read_exact(&mut bytes).ok()?;
            bytes.truncate(bytes.len() - 2);
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
        "*" => {
            let parts: Option<Vec<String>> = (0..rest.parse().ok()?).map(|_| answer(stream)).collect();
            Some(parts?.join(" "))
        }
        _ => Some(rest.to_owned()),
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        _ = fs::remove_dir_all(&self.folder);
    }
}

/// A way to a Redis.
pub struct Door {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    /// Where it leads to; none = nowhere.
    to: Mutex<Option<SocketAddr>>,
    delay: Mutex<Duration>,
    open: Mutex<Vec<TcpStream>>,
}

impl Door {
    /// A door that leads to `to`.
    pub fn to(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            to: Mutex::new(Some(to)),
            delay: Mutex::new(Duration::ZERO),
            open: Mutex::default(),
        });
        let own = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let Some(to) = *own.to.lock().unwrap() else { continue };
                let Ok(other) = TcpStream::connect(to) else { continue };
                let clones = || Some((stream.try_clone().ok()?, other.try_clone().ok()?));
                let (Some(back), Some(kept)) = (clones(), clones()) else { continue };
                own.open.lock().unwrap().extend([kept.0, kept.1]);
                let (to, fro) = (Arc::clone(&own), Arc::clone(&own));
                thread::spawn(move || pass(&to, stream, other));
                thread::spawn(move || pass(&fro, back.1, back.0));
            }
        });
        Self { addr, shared }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// Cuts all connections; new ones are made as before.
    pub fn slam(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Leads elsewhere, or nowhere.
    pub fn lead(&self, to: Option<SocketAddr>) {
        *self.shared.to.lock().unwrap() = to;
        self.slam();
    }

    /// Holds everything back for so long.
    pub fn slow_down(&self, delay: Duration) {
        *self.shared.delay.lock().unwrap() = delay;
    }
}

fn pass(shared: &Shared, mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let delay = *shared.delay.lock().unwrap();
        if !delay.is_zero() {
            thread::sleep(delay);
        }
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    _ = from.shutdown(Shutdown::Both);
    _ = to.shutdown(Shutdown::Both);
}
