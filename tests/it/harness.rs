//! The server under test: the real binary with a port of its own, killed when the test is over.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use encke::reactor::raise_descriptors;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::client::{Answer, Client, Head};

/// How long anything may take before a test fails: far more than it ever needs, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Ports that are below those which the system chooses from.
const PORTS: Range<u16> = 12_000..32_000;

/// Descriptors that the tests need beside a crowd of clients.
const FEW_DESCRIPTORS: u64 = 4000;

/// Room for a crowd of clients among the descriptors of this process, which all tests share: until it is dropped,
/// whoever else wants some waits.
pub struct Crowd {
    /// How many clients there is room for.
    pub count: usize,
    _turn: MutexGuard<'static, ()>,
}

impl Crowd {
    /// Room for `count` clients, or for as many as the hard limit of descriptors allows.
    pub fn of(count: usize) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        // A crowd whose test failed is gone as well.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let most = raise_descriptors().saturating_sub(FEW_DESCRIPTORS);
        Self { count: count.min(most as usize), _turn: turn }
    }
}

/// A running server.
pub struct Encke {
    child: Child,
    addr: SocketAddr,
    admin: Option<SocketAddr>,
    log: Arc<Log>,
}

impl Encke {
    /// Starts `encke serve` on a free port of the loopback address, with further options.
    pub fn start(options: &[&str]) -> Self {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_encke")), options)
    }

    /// The same, with further variables in its environment.
    pub fn start_with_environment(variables: &[(&str, &str)], options: &[&str]) -> Self {
        let mut command = Command::new("env");
        command.args(variables.iter().map(|(name, value)| format!("{name}={value}")));
        command.arg(env!("CARGO_BIN_EXE_encke"));
        Self::spawn(command, options)
    }

    /// The same, from another file.
    pub fn start_program(program: &Path, options: &[&str]) -> Self {
        Self::spawn(Command::new(program), options)
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The same, in a process that may have no more than `count` descriptors open.
    pub fn start_with_descriptors(count: usize, options: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {count}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_encke")]);
        Self::spawn(shell, options)
    }

    /// The same, with a log as `RUST_LOG` asks for.
    pub fn start_logging(filter: &str, options: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("RUST_LOG={filter} exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_encke")]);
        Self::spawn(shell, options)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// The same, with its system calls written to `trace`.
    pub fn start_traced(trace: &Path) -> Self {
        Self::start_under_strace(trace, &["-s", "500"], &[])
    }

    /// The same, with a kernel that fails as the `faults` say, in strace's words.
    pub fn start_with_faults(faults: &[&str], options: &[&str]) -> Self {
        // Threads fail only in calls that are traced.
        let calls: Vec<&str> = faults.iter().filter_map(|fault| fault.split(':').next()).collect();
        let mut arguments = vec!["-e".to_owned(), format!("trace={}", calls.join(","))];
        for fault in faults {
            arguments.extend(["-e".to_owned(), format!("inject={fault}")]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Self::start_under_strace(Path::new("/dev/null"), &arguments, options)
    }

    fn start_under_strace(trace: &Path, arguments: &[&str], options: &[&str]) -> Self {
        let installed = Command::new("strace").arg("-V").output().is_ok();
        assert!(installed, "strace is missing: `make test` installs it (on Debian: apt-get install strace)");
        let mut strace = Command::new("strace");
        // -D: the server stays our child.
        strace.args(["-D", "-f", "-q"]).args(arguments);
        strace.arg("-o").arg(trace).arg(env!("CARGO_BIN_EXE_encke"));
        Self::spawn(strace, options)
    }

    /// Starts it at an address that was free a moment ago, its standard error wherever that goes, saying everything.
    pub fn start_at(addr: SocketAddr, stderr: Stdio, options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_encke"));
        Self::prepare(&mut command, &addr.to_string(), options);
        let child =
            command.env("RUST_LOG", "debug").stderr(stderr).spawn().expect("the binary can be started");
        let server = Self { child, addr, admin: None, log: Arc::default() };
        until("the server listens", || std::net::TcpStream::connect(addr).ok());
        server
    }

    fn prepare(command: &mut Command, listen: &str, options: &[&str]) {
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ENCKE_")) {
            command.env_remove(name);
        }
        command.env_remove("RUST_LOG").args(["serve", "--listen", listen]).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::null());
    }

    fn spawn(mut command: Command, options: &[&str]) -> Self {
        Self::prepare(&mut command, "127.0.0.1:0", options);
        command.stderr(Stdio::piped());
        let mut child = command.spawn().expect("the server's binary can be started");
        let log = Log::follow(BufReader::new(child.stderr.take().expect("stderr is piped")));
        let mut server = Self { child, addr: SocketAddr::from(([0; 4], 0)), admin: None, log };
        server.addr = server.address_after(|line| {
            let (before, addr) = line.split_once("listening on ")?;
            (!before.ends_with("admin ") && !before.ends_with("TLS ")).then_some(addr)
        });
        if options.contains(&"--admin-listen") {
            let addr = server.address_after(|line| Some(line.split_once("admin listening on ")?.1));
            server.admin = Some(addr);
        }
        server
    }

    fn address_after(&self, pick: impl Fn(&str) -> Option<&str>) -> SocketAddr {
        let found = |line: &str| pick(line)?.split_whitespace().next()?.parse().ok();
        self.log.wait(found).unwrap_or_else(|log| panic!("the server never said where it listens:\n{log}"))
    }

    /// The address that clients use who speak TLS.
    pub fn tls(&self) -> Option<SocketAddr> {
        let found =
            |line: &str| line.split_once("TLS listening on ")?.1.split_whitespace().next()?.parse().ok();
        self.log.wait(found).ok()
    }

    /// The address that clients use.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A URL of this server.
    pub fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.addr)
    }

    /// A new connection.
    pub fn connect(&self) -> Client {
        Client::connect(self.addr)
    }

    /// A new connection to where publishing happens: the admin listener if there is one.
    pub fn admin(&self) -> Client {
        Client::connect(self.admin.unwrap_or(self.addr))
    }

    /// One request on a connection of its own.
    pub fn ask(&self, method: &str, target: &str, headers: &[&str], body: &[u8]) -> Answer {
        self.connect().ask(method, target, headers, body)
    }

    /// One GET on a connection of its own.
    pub fn get(&self, target: &str, headers: &[&str]) -> Answer {
        self.ask("GET", target, headers, b"")
    }

    /// The JSON body of a GET that succeeds.
    pub fn json(&self, target: &str) -> Value {
        let answer = self.get(target, &["Accept: application/json"]);
        assert_eq!(answer.status, 200, "GET {target}: {}", answer.text());
        answer.json()
    }

    /// Publishes and gives the id of the message.
    pub fn publish(&self, channel: &str, body: impl AsRef<[u8]>) -> String {
        self.admin().publish(channel, &[], body.as_ref())
    }

    /// Opens a stream: its head has come, so its subscriber listens.
    pub fn open(&self, target: &str, headers: &[&str]) -> (Head, Client) {
        let mut client = self.connect();
        client.request("GET", target, headers, b"");
        let head = client.head();
        assert_eq!(head.status, 200, "GET {target}");
        (head, client)
    }

    /// A poll that waits: returns when the server counts `listeners` on the channel, this one among them.
    pub fn park(&self, target: &str, headers: &[&str], channel: &str, listeners: u64) -> Client {
        let mut client = self.connect();
        client.request("GET", target, headers, b"");
        self.admin().listeners(channel, listeners);
        client
    }

    /// Waits until the channel has that many subscribers.
    pub fn listeners(&self, channel: &str, count: u64) {
        self.admin().listeners(channel, count);
    }

    /// Waits until the connection of that client does so, as operators are told; none = it is gone. What one connection
    /// was sent may arrive behind what another was sent later, so whoever relies on an order has to see.
    pub fn does(&self, client: SocketAddr, what: Option<&str>) {
        let mut admin = self.admin();
        until(&format!("{client} does {what:?}"), || {
            let told = admin.get(&format!("/admin/connections/{client}"), &[]);
            let does = (told.status == 200).then(|| told.json()["does"].clone());
            (does.as_ref().map(|does| does.as_str().expect("text")) == what).then_some(())
        });
    }

    /// The bodies that a new client would get from the channel's history, oldest first.
    pub fn history(&self, channel: &str) -> Vec<String> {
        let answer = self
            .get(&format!("/sub/{channel}?as=interval&after=oldest&max=1000"), &["Accept: application/json"]);
        if answer.status == 304 {
            return Vec::new();
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
        data(&answer.json())
    }

    /// Waits until the log has a line that contains `needle`.
    pub fn logged(&self, needle: &str) {
        let found = |line: &str| line.to_lowercase().contains(needle).then_some(());
        self.log.wait(found).unwrap_or_else(|log| panic!("no line of the log says {needle:?}:\n{log}"));
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the server runs");
    }

    /// Takes the end of its standard error's pipe, if nobody has.
    pub fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Whether a signal has stopped the process.
    pub fn is_stopped(&self) -> bool {
        self.proc_file("stat").rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// Waits for the process to end.
    pub fn exit(&mut self) -> ExitStatus {
        until("the server leaves", || self.child.try_wait().expect("it is our child"))
    }

    /// Resident memory in bytes, the program's own text among it.
    pub fn resident_bytes(&self) -> usize {
        self.status_bytes("VmRSS:")
    }

    /// Resident memory in bytes that the server has asked for. Unlike the text of the program, which the system maps
    /// and unmaps as it sees fit, it depends on nothing but what the server does.
    pub fn allocated_bytes(&self) -> usize {
        self.status_bytes("RssAnon:")
    }

    fn status_bytes(&self, name: &str) -> usize {
        let status = self.proc_file("status");
        let line = status.lines().find(|line| line.starts_with(name)).expect("it is in /proc/PID/status");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number of kB")
            * 1024
    }

    /// Descriptors open while nobody is connected.
    pub fn descriptors(&self) -> usize {
        self.descriptors_below(usize::MAX)
    }

    /// Those of them that count against a limit of so many. What the tests themselves were started with is
    /// inherited, and may have a number that no descriptor within the limit would get.
    pub fn descriptors_below(&self, limit: usize) -> usize {
        let mut client = self.connect();
        until("nobody else is connected", || {
            (client.get("/stats", &[]).json()["connections"] == 1).then_some(())
        });
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("the server runs");
        let number = |entry: std::fs::DirEntry| entry.file_name().to_str().and_then(|name| name.parse().ok());
        let numbers = open.filter_map(|entry| entry.ok().and_then(number));
        numbers.filter(|&number: &usize| number < limit).count() - 1
    }

    /// Waits until nobody listens, no channel is left, and as many descriptors are open as `before`. Needs
    /// `--channel-idle-seconds 1` and a history of a few seconds.
    pub fn forgotten(&self, before: usize) {
        let gauges = ["subscribers", "channels", "history_messages", "history_bytes"];
        until("everything is forgotten", || {
            let stats = self.json("/stats");
            let is_over = gauges.iter().all(|gauge| stats[gauge] == 0);
            is_over.then_some(())
        });
        assert_eq!(self.descriptors(), before, "descriptors are left open");
    }

    /// Processor time used so far, in hundredths of a second.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = self.proc_file("stat");
        // The name of the process may contain blanks, its closing parenthesis is the last one.
        let fields: Vec<&str> = stat.rsplit_once(')').expect("a stat line").1.split_whitespace().collect();
        fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("ticks")).sum()
    }

    /// Threads it has.
    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("the server runs").count()
    }

    fn proc_file(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).expect("the server runs")
    }
}

impl Drop for Encke {
    fn drop(&mut self) {
        // Both fail only if the process is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the server's log\n{}", self.log.text());
        }
    }
}

/// What the server wrote to stderr, line by line as it comes.
#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    news: Condvar,
}

impl Log {
    fn follow(stderr: impl BufRead + Send + 'static) -> Arc<Self> {
        let log = Arc::new(Self::default());
        let writer = Arc::clone(&log);
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                writer.lines.lock().expect("no holder panics").0.push(line);
                writer.news.notify_all();
            }
            writer.lines.lock().expect("no holder panics").1 = true;
            writer.news.notify_all();
        });
        log
    }

    /// What `pick` finds in the first line it likes; the whole log when none comes in time.
    fn wait<T>(&self, pick: impl Fn(&str) -> Option<T>) -> Result<T, String> {
        let deadline = Instant::now() + PATIENCE;
        let mut guard = self.lines.lock().expect("no holder panics");
        loop {
            if let Some(found) = guard.0.iter().find_map(|line| pick(line)) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if guard.1 || left.is_zero() {
                return Err(guard.0.join("\n"));
            }
            guard = self.news.wait_timeout(guard, left).expect("no holder panics").0;
        }
    }

    fn text(&self) -> String {
        self.lines.lock().expect("no holder panics").0.join("\n")
    }
}

/// An address of the loopback interface that is free, and stays so until it is used: it is none of those that the system
/// gives to clients and to who asks for any, and another one each time.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(101);
    loop {
        let number = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + (number % PORTS.len() as u32) as u16;
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}

/// Asks again and again until there is an answer; fails with `what` when none came in time.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The payloads of a JSON batch: strings as they are, anything else as JSON text.
pub fn data(batch: &Value) -> Vec<String> {
    let text = |envelope: &Value| match &envelope["data"] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    batch["messages"].as_array().expect("a batch has messages").iter().map(text).collect()
}

/// The epoch and the number of a message id, which clients must not look into, but tests do.
pub fn parts(id: &str) -> (&str, u64) {
    let (epoch, seq) = id.split_once(':').unwrap_or_else(|| panic!("{id:?} is no id"));
    let base36 = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    assert!(!epoch.is_empty() && epoch.bytes().all(base36), "{id:?}: the epoch is base 36");
    assert!(id.len() <= 40, "{id:?} is longer than 40 bytes");
    (epoch, seq.parse().unwrap_or_else(|_| panic!("{id:?}: the number is decimal")))
}

/// The number in a message id.
pub fn seq(id: &str) -> u64 {
    parts(id).1
}
