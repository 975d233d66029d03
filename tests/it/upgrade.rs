//! Upgrades that nobody notices: another process takes over every connection, in the midst of whatever it is doing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tungstenite::Message;

use crate::client::{Client, request};
use crate::harness::{Crowd, Encke, PATIENCE, until};
use crate::store::Directory;
use crate::systemd::Manager;
use crate::tls::{self, Files};
use crate::tunnel;
use crate::websocket::{HANDSHAKE, open};

/// A server, and the processes that have taken over from each other, which are nobody's children in the end.
pub struct Line {
    pub server: Encke,
    serving: u32,
    upgrades: usize,
}

impl Line {
    fn start(options: &[&str]) -> Self {
        Self::of(Encke::start(options))
    }

    pub fn of(server: Encke) -> Self {
        Self { serving: server.pid(), server, upgrades: 0 }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.serving as i32).expect("a process");
        kill_process(pid, signal).expect("it runs");
    }

    /// Has another process take over. Returns for how many milliseconds nobody was served.
    pub fn upgrade(&mut self) -> u64 {
        let begun = self.server.log().matches(" is to take over").count();
        self.signal(Signal::USR2);
        self.upgrades += 1;
        let log = until("another process has taken over", || {
            let log = self.server.log();
            // Each process has a log of its own, and they come together in any order.
            let count = |what: &str| log.matches(what).count();
            let is_told = [count("this process has taken over"), count(" is to take over")];
            (is_told == [self.upgrades, begun + 1]).then_some(log)
        });
        let said = |before: &str, after: &str| -> u64 {
            let rest = log.rsplit_once(before).expect("it says so").1;
            rest.split(after).next().unwrap_or_default().parse().expect("a number")
        };
        self.serving = said("upgrade: process ", " is to take over") as u32;
        said("nobody was served for ", " ms")
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.serving != self.server.pid()
            && let Some(pid) = Pid::from_raw(self.serving as i32)
        {
            // It fails only if the process has gone already.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Copies the binary. This process must not have a program open for writing: while it starts others, they would have it
/// open, too, and the system starts no such program.
fn copy(to: &Path) {
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_encke")).arg(to).status();
    assert!(copied.expect("cp").success());
}

/// A directory with a program that can be exchanged.
struct Program(PathBuf);

impl Program {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("encke-upgrade-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory for temporary files");
        let program = Self(directory);
        copy(&program.path());
        program
    }

    fn path(&self) -> PathBuf {
        self.0.join("encke")
    }

    /// Puts a script in its place, as a package does: by a new file of the same name.
    fn replace(&self, script: &str) {
        let new = self.0.join("new");
        let write = "printf '%s\\n' '#!/bin/sh' \"$1\" >\"$0\" && chmod 755 \"$0\"";
        let written = Command::new("sh").args(["-c", write]).arg(&new).arg(script).status();
        assert!(written.expect("a shell").success());
        std::fs::rename(&new, self.path()).expect("it is the same directory");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const TECHNIQUES: [&str; 8] =
    ["sse", "sse-envelope", "stream", "raw", "iframe&callback=f", "multipart", "x-mixed-replace", "poll"];

#[test]
fn whatever_a_connection_is_doing_it_goes_on() {
    let mut line = Line::start(&["--fdajax"]);
    let server = &line.server;
    let mut streams: Vec<(Client, &str)> = TECHNIQUES
        .iter()
        .map(|name| {
            let mut client = server.connect();
            client.request("GET", &format!("/sub/a?as={name}"), &[], b"");
            if *name != "poll" {
                assert_eq!(client.head().status, 200, "{name}");
            }
            (client, *name)
        })
        .collect();
    let mut socket = open(server, "/sub/a");
    let mut begun = server.connect();
    let whole = request("POST", "/pub/a", &[], b"from who had begun");
    let (first, second) = whole.split_at(30);
    begun.send(first);
    let mut idle = server.connect();
    assert_eq!(idle.get("/healthz", &[]).status, 200);
    // A frame of which the half has come.
    let mut half = server.connect();
    half.request("GET", "/sub/b", &HANDSHAKE, b"");
    assert_eq!(half.head().status, 101);
    let frame = [&[0x81, 0x80 | 9, 0, 0, 0, 0][..], b"{\"ref\":7}"].concat();
    half.send(&frame[..8]);
    let mut window = server.connect();
    window.request("GET", "/x.fdajax?cmd=wait&win_id=1&types=chat", &[], b"");
    server.listeners("a", TECHNIQUES.len() as u64 + 1);
    let before = server.json("/stats");

    for _ in 0..3 {
        line.upgrade();
    }
    let server = &line.server;
    let after = server.json("/stats");
    for name in ["epoch", "subscribers"] {
        assert_eq!(before[name], after[name], "{name}");
    }
    begun.send(second);
    assert_eq!(begun.answer().status, 201);
    half.send(&frame[8..]);
    assert_eq!(idle.get("/healthz", &[]).status, 200);
    for (client, name) in &mut streams {
        match *name {
            "poll" => assert_eq!(client.answer().body, b"from who had begun"),
            _ => _ = client.read_until(b"from who had begun"),
        }
    }
    loop {
        if let Message::Text(text) = socket.read().expect("it is open")
            && text.contains("from who had begun")
        {
            break;
        }
    }
    half.read_until(b"\"ref\":7");
}

/// What a client of the crowd has read: numbers in order, none missing and none twice.
fn judge(stream: &mut TcpStream, who: usize, count: u64) {
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let (mut bytes, mut some) = (Vec::new(), [0; 64 << 10]);
    let last = format!("\"number {}\"", count - 1);
    while !bytes.windows(last.len().min(bytes.len().max(1))).any(|window| window == last.as_bytes()) {
        match stream.read(&mut some) {
            Ok(0) => panic!("client {who} was closed"),
            Ok(read) => bytes.extend_from_slice(&some[..read]),
            Err(error) => panic!("client {who}: {error}"),
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let numbers: Vec<u64> = text
        .split("\"number ")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap_or_default().parse().expect("a number"))
        .collect();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "client {who}");
}

/// Reads by polling until the message `last` has come; says how many came, each once.
fn poll_until(mut client: Client, over: &AtomicBool, total: impl Fn() -> u64) -> u64 {
    let mut after = "oldest".to_owned();
    let mut numbers = Vec::new();
    while !over.load(Ordering::SeqCst) || (numbers.len() as u64) < total() {
        let answer =
            client.get(&format!("/sub/news?as=poll&timeout=1&after={after}"), &["Accept: application/json"]);
        if answer.status == 200 {
            let batch = answer.json();
            assert!(batch["gaps"].is_null(), "{batch}");
            numbers.extend(crate::harness::data(&batch));
        }
        if let Some(next) = answer.get("encke-next") {
            after = next.to_owned();
        }
    }
    let expected: Vec<String> = (0..total()).map(|number| format!("number {number}")).collect();
    assert_eq!(numbers, expected, "of who polls");
    numbers.len() as u64
}

/// Five upgrades in a row under publication. `ENCKE_UPGRADE_CLIENTS` says how many clients there are.
#[test]
fn five_upgrades_under_publication_and_nobody_loses_anything() {
    let wanted = std::env::var("ENCKE_UPGRADE_CLIENTS").ok().and_then(|count| count.parse().ok());
    let crowd = Crowd::of(wanted.unwrap_or(400));
    let mut line = Line::start(&["--history-messages", "100000", "--history-bytes", "100MiB"]);
    let addr = line.server.addr();
    let mut streams: Vec<TcpStream> = Vec::new();
    for number in 0..crowd.count {
        let mut stream = TcpStream::connect(addr).expect("the server accepts");
        let target = ["stream", "sse-envelope"][number % 2];
        let head = match number % 4 {
            3 => request("GET", "/sub/news", &HANDSHAKE, b""),
            _ => request("GET", &format!("/sub/news?as={target}"), &[], b""),
        };
        stream.write_all(&head).expect("it reads");
        streams.push(stream);
    }
    line.server.listeners("news", crowd.count as u64);
    let (stop, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let published = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let pollers: Vec<_> = (0..8)
        .map(|_| {
            let (client, over, published) =
                (line.server.connect(), Arc::clone(&over), Arc::clone(&published));
            thread::spawn(move || poll_until(client, &over, || published.load(Ordering::SeqCst)))
        })
        .collect();
    let publisher = {
        let (mut client, stop, published) =
            (line.server.connect(), Arc::clone(&stop), Arc::clone(&published));
        thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !stop.load(Ordering::SeqCst) {
                let number = published.load(Ordering::SeqCst);
                let begun = Instant::now();
                client.publish("news", &[], format!("number {number}").as_bytes());
                longest = longest.max(begun.elapsed());
                published.store(number + 1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(5));
            }
            longest
        })
    };
    let mut silences = Vec::new();
    for _ in 0..5 {
        let before = published.load(Ordering::SeqCst);
        until("it is published on", || (published.load(Ordering::SeqCst) > before + 5).then_some(()));
        silences.push(line.upgrade());
    }
    stop.store(true, Ordering::SeqCst);
    let longest = publisher.join().expect("it publishes all the time");
    over.store(true, Ordering::SeqCst);
    let count = published.load(Ordering::SeqCst);
    for poller in pollers {
        assert_eq!(poller.join().expect("it polls all the time"), count);
    }
    for (who, stream) in streams.iter_mut().enumerate() {
        judge(stream, who, count);
    }
    println!(
        "{} clients, {count} messages, five upgrades: nobody was served for {silences:?} ms; the longest publication took {longest:?}",
        crowd.count
    );
}

/// A server whose program can be exchanged, and a client that listens.
fn with_program(name: &str, options: &[&str]) -> (Program, Line, Client) {
    let program = Program::new(name);
    let server = Encke::start_program(&program.path(), options);
    let (_, client) = server.open("/sub/a?as=stream", &[]);
    (program, Line::of(server), client)
}

/// The old process goes on, and says why.
fn goes_on(line: &Line, client: &mut Client, why: &str) {
    line.signal(Signal::USR2);
    line.server.logged(why);
    line.server.logged("this process goes on");
    line.server.publish("a", "still here");
    client.read_until(b"still here");
}

#[test]
fn a_process_that_ends_changes_nothing() {
    let (program, line, mut client) = with_program("ends", &[]);
    program.replace("exit 1");
    goes_on(&line, &mut client, "it has ended");
}

#[test]
fn a_program_that_is_not_there_changes_nothing() {
    let (program, line, mut client) = with_program("missing", &[]);
    std::fs::remove_file(program.path()).expect("it is there");
    line.signal(Signal::USR2);
    line.server.logged("cannot start another process");
    line.server.publish("a", "still here");
    client.read_until(b"still here");
}

#[test]
fn a_process_that_says_nothing_is_given_up() {
    let (program, line, mut client) = with_program("silent", &["--upgrade-seconds", "1"]);
    program.replace("exec sleep 100");
    goes_on(&line, &mut client, "it is not ready in time");
}

#[test]
fn a_process_that_ends_in_the_midst_of_it_changes_nothing() {
    let (program, mut line, mut client) = with_program("midst", &[]);
    // It has the right format, takes some of what it is given, and ends.
    program.replace("{ head -c 24; printf '\\0\\0\\0\\0'; } <&0 >&0; head -c 100 <&0 >/dev/null");
    goes_on(&line, &mut client, "it has ended");
    // And another one can take over then.
    copy(&program.0.join("good"));
    std::fs::rename(program.0.join("good"), program.path()).expect("it is the same directory");
    line.upgrade();
    line.server.publish("a", "from the other one");
    client.read_until(b"from the other one");
}

#[test]
fn a_process_of_another_form_is_refused() {
    let (program, line, mut client) = with_program("form", &[]);
    program.replace("printf 'encke: \\n0123456789abcdef\\003\\0009.9\\0\\0' >&0; sleep 5");
    goes_on(&line, &mut client, "version 9.9 keeps its state in another form");
}

#[test]
fn a_process_of_another_form_is_refused_by_its_successor() {
    let (mut own, other) = UnixStream::pair().expect("a line");
    own.write_all(b"encke: \n0123456789abcdef\x03\x009.9\0\0").expect("it has room");
    let output = Command::new(env!("CARGO_BIN_EXE_encke"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("PREDECESSOR_OF_ENCKE", std::process::id().to_string())
        .stdin(Stdio::from(OwnedFd::from(other)))
        .output()
        .expect("it can be started");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("the state of version 9.9 has another form: it needs a restart"), "{said}");
    let mut answer = Vec::new();
    own.read_to_end(&mut answer).expect("it answers");
    assert!(answer.starts_with(b"encke: \n"), "{answer:?}");
    assert!(String::from_utf8_lossy(&answer).contains("it needs a restart"));
}

#[test]
fn the_command_says_what_became_of_it() {
    let program = Program::new("command");
    let pid_file = program.0.join("pid");
    let pid_file = pid_file.to_str().expect("text");
    let server = Encke::start_program(&program.path(), &["--pid-file", pid_file]);
    let mut line = Line::of(server);
    let upgrade = || {
        let command =
            Command::new(env!("CARGO_BIN_EXE_encke")).args(["upgrade", "--pid-file", pid_file]).output();
        let output = command.expect("it can be started");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let (is_done, said) = upgrade();
    assert!(is_done, "{said}");
    let written: u32 = until("the new process writes its number", || {
        let pid = std::fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
        (pid != line.serving).then_some(pid)
    });
    assert!(
        said.contains(&format!("process {written} has taken over from process {}", line.serving)),
        "{said}"
    );
    line.serving = written;
    program.replace("exit 3");
    let (is_done, said) = upgrade();
    assert!(!is_done && said.contains("goes on: no other one has taken over"), "{said}");
    assert_eq!(line.server.get("/healthz", &[]).status, 200);
}

#[test]
fn the_service_manager_hears_who_serves() {
    let manager = Manager::new("upgrade");
    let path = manager.1.to_str().expect("a name in UTF-8");
    let variables = [("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", "400000"), ("WATCHDOG_PID", "1")];
    let mut line = Line::of(Encke::start_with_environment(&variables, &[]));
    assert_eq!(manager.hears(), "READY=1\n");
    line.upgrade();
    // The one that goes and the one that comes speak for themselves: in any order.
    let alive = "WATCHDOG=1\n";
    let mut lacking = vec![format!("MAINPID={}\n", line.serving), "READY=1\n".to_owned(), alive.to_owned()];
    while !lacking.is_empty() {
        let told = manager.hears();
        assert!(told == alive || lacking.contains(&told), "{told:?}, and {lacking:?} is lacking");
        // Whatever number the watchdog was meant for.
        lacking.retain(|expected| *expected != told);
    }
}

#[test]
fn the_history_on_disk_changes_hands() {
    let directory = Directory::new("upgrade");
    let store = directory.store();
    for answer in ["synced", "behind"] {
        let options = ["--store-dir", &store, "--store-answer", answer];
        let mut line = Line::start(&options);
        let (_, mut stream) = line.server.open(&format!("/sub/{answer}?as=stream"), &[]);
        let mut ids = vec![line.server.publish(answer, "0")];
        for number in 1..4 {
            line.upgrade();
            let key = format!("Idempotency-Key: {answer}{number}");
            let text = number.to_string();
            let publish = || line.server.connect().publish(answer, &[&key], text.as_bytes());
            let id = publish();
            assert_eq!(publish(), id, "a repeat is recognised");
            ids.push(id);
        }
        stream.read_until(b"\"data\":\"3\"");
        line.signal(Signal::TERM);
        line.server.logged("every connection had its answer");
        until("the last of them leaves", || {
            (!PathBuf::from(format!("/proc/{}", line.serving)).exists()).then_some(())
        });
        drop(line);
        let again = Encke::start(&options);
        again.logged("history: loaded");
        assert_eq!(again.history(answer), ["0", "1", "2", "3"]);
        let answer = again.get(&format!("/sub/{answer}?as=interval&after={}", ids[3]), &[]);
        assert_eq!(answer.status, 304, "no gap, and nothing new");
    }
}

#[test]
fn who_came_by_tls_is_told_to_come_back() {
    let files = Files::new("upgrade");
    let (server, address) = tls::start(&files, &[]);
    let mut line = Line::of(server);
    let tunnel = tunnel::start(address, &files.path("a.pem"), 64 << 10);
    let mut stream = Client::connect(tunnel);
    stream.request("GET", "/sub/a?as=sse", &[], b"");
    assert_eq!(stream.head().status, 200);
    let mut poll = Client::connect(tunnel);
    poll.request("GET", "/sub/a?as=poll", &[], b"");
    line.server.listeners("a", 2);
    let (_, mut plain) = line.server.open("/sub/a?as=stream", &[]);
    line.upgrade();
    let answer = poll.answer();
    assert_eq!((answer.status, answer.get("retry-after").is_some()), (204, true));
    while stream.block().is_some() {}
    assert!(stream.left().contains("retry: "), "{:?}", stream.left());
    let mut again = Client::connect(tunnel);
    again.request("GET", "/sub/a?as=sse", &[], b"");
    assert_eq!(again.head().status, 200);
    line.server.publish("a", "to all");
    again.read_until(b"to all");
    plain.read_until(b"to all");
}
