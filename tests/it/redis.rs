//! A Redis of a test's own: in a directory of its own, on a port of its own, killed when the test is over. And a door in
//! front of it, which can be slammed, or lead elsewhere.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{PATIENCE, free_address, until};
use crate::store_faults::Small;

/// A running Redis.
pub struct Redis {
    child: Child,
    pub addr: SocketAddr,
    folder: PathBuf,
    arguments: Vec<String>,
    /// What its folder is mounted on, if that is small.
    disk: Option<Small>,
}

impl Redis {
    /// Starts one that keeps an append-only file, with further options.
    pub fn start(options: &[&str]) -> Self {
        Self::start_at(free_address(), options)
    }

    /// The same at an address that was free a moment ago.
    pub fn start_at(addr: SocketAddr, options: &[&str]) -> Self {
        Self::launch(
            addr,
            Self::folder(addr),
            &[&keeping(&addr.port().to_string())[..], options].concat(),
            None,
        )
    }

    /// One whose disk has so many megabytes. To be asked only if [`Redis::can_be_small`].
    pub fn start_small(megabytes: usize) -> Self {
        let (addr, folder) = (free_address(), Self::folder(free_address()));
        let disk = Small::mount(&folder, megabytes);
        assert!(disk.is_some(), "it could be mounted a moment ago");
        Self::launch(addr, folder, &keeping(&addr.port().to_string()), disk)
    }

    /// Whether a small file system can be mounted here.
    pub fn can_be_small() -> bool {
        let folder = Self::folder(free_address());
        let can = Small::mount(&folder, 1).is_some();
        _ = fs::remove_dir(folder);
        can
    }

    fn folder(addr: SocketAddr) -> PathBuf {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("redis-{}", addr.port()));
        _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn launch(addr: SocketAddr, folder: PathBuf, arguments: &[&str], disk: Option<Small>) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let child = Self::spawn(&folder, &arguments);
        let redis = Self { child, addr, folder, arguments, disk };
        redis.answers();
        redis
    }

    fn spawn(folder: &PathBuf, arguments: &Vec<String>) -> Child {
        Command::new("redis-server")
            .args(arguments)
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

    /// The same, but none if it closes the connection, as it does when it is made a replica.
    pub fn try_ask(&self, words: &[&str]) -> Option<String> {
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
        self.child = Self::spawn(&self.folder, &self.arguments);
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

    /// Fills the disk.
    pub fn fill_disk(&self) {
        let mut file = fs::File::create(self.folder.join("filler")).unwrap();
        for size in [64 << 10, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Takes away what fills the disk.
    pub fn free_disk(&self) {
        fs::remove_file(self.folder.join("filler")).unwrap();
    }

    /// Takes everything off the disk.
    pub fn wipe(&self) {
        fs::remove_dir_all(self.folder.join("appendonlydir")).unwrap();
    }
}

/// Arguments of a server that keeps an append-only file.
const fn keeping(port: &str) -> [&str; 14] {
    [
        "--port",
        port,
        "--bind",
        "127.0.0.1",
        "--appendonly",
        "yes",
        "--appendfsync",
        "everysec",
        "--save",
        "",
        "--loglevel",
        "warning",
        "--repl-diskless-sync-delay",
        "0",
    ]
}

/// Three Sentinels that watch over a primary, and name another one when it is gone.
pub struct Sentinels([Redis; 3]);

impl Sentinels {
    /// Those of a primary that has a replica. They know of it, and of each other.
    pub fn watch(primary: SocketAddr) -> Self {
        let sentinels = Self([(); 3].map(|()| {
            let addr = free_address();
            let folder = Redis::folder(addr);
            let settings = format!(
                "port {}\nbind 127.0.0.1\nsentinel monitor shop 127.0.0.1 {} 2\n\
                 sentinel down-after-milliseconds shop 1000\nsentinel failover-timeout shop 3000\n",
                addr.port(),
                primary.port()
            );
            fs::write(folder.join("sentinel.conf"), settings).unwrap();
            Redis::launch(addr, folder, &["sentinel.conf", "--sentinel"], None)
        }));
        until("they know each other, and a replica", || {
            let know = |one: &Redis| {
                one.ask(&["SENTINEL", "CKQUORUM", "shop"]).starts_with("OK 3 ")
                    && one.ask(&["SENTINEL", "REPLICAS", "shop"]).contains("master-link-status ok")
            };
            sentinels.0.iter().all(know).then_some(())
        });
        sentinels
    }

    /// The URL of what they watch over.
    pub fn url(&self) -> String {
        let places: Vec<String> = self.0.iter().map(|one| one.addr.to_string()).collect();
        format!("redis+sentinel://{}/shop", places.join(","))
    }

    /// Has them make another one the primary, though this one is well.
    pub fn fail_over(&self) {
        until("they do so", || (self.0[0].ask(&["SENTINEL", "FAILOVER", "shop"]) == "OK").then_some(()));
    }

    /// Waits until they have made another one the primary. A Sentinel whose clock seems to have stood still, as it does on
    /// a busy machine, does nothing for half a minute.
    pub fn elect(&self, other: SocketAddr) {
        let deadline = Instant::now() + 4 * PATIENCE;
        while self.primary() != other {
            assert!(Instant::now() < deadline, "no other one was made the primary");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The primary, as the first of them knows it.
    fn primary(&self) -> SocketAddr {
        let said = self.0[0].ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "shop"]);
        said.replace(' ', ":").parse().expect("an address")
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
        drop(self.disk.take());
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
