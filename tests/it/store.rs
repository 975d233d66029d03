//! History on disk: the real binary is killed again and again, and held to what it answered and showed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Encke, data, free_address, parts, until};

const JSON: &[&str] = &["Accept: application/json"];

/// A directory that is removed when the test ends.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("encke-it-{name}-{}", std::process::id()));
        _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn store(&self) -> String {
        self.0.join("store").to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// One request on a connection of its own, to a server that may be gone at any moment.
pub fn ask(addr: SocketAddr, head: &str, body: &[u8]) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let length = body.len();
    write!(stream, "{head}\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n")?;
    stream.write_all(body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    if length.is_some_and(|length| length.parse() != Ok(body.len())) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let status = head.get(9..12).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok((status, body.to_owned()))
}

/// What publishers were answered and a subscriber saw, over all lives of the server.
#[derive(Default)]
struct Book {
    /// By id: the text.
    answered: Mutex<BTreeMap<String, String>>,
    seen: Mutex<Vec<(String, String)>>,
    gaps: Mutex<usize>,
    done: AtomicBool,
}

/// Publishes until it is told to stop: each message with a key, again and again until there is an answer.
fn publish(book: &Book, addr: SocketAddr, who: usize) {
    for number in 0.. {
        let text = format!("{who}/{number}");
        let head = format!("POST /pub/c{} HTTP/1.1\r\nIdempotency-Key: {text}", number % 3);
        loop {
            if let Ok((201 | 202, body)) = ask(addr, &head, text.as_bytes()) {
                let id = serde_json::from_str::<Value>(&body).unwrap()["id"].as_str().unwrap().to_owned();
                book.answered.lock().unwrap().insert(id, text);
                break;
            }
            if book.done.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        if book.done.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Polls, and resumes where it was, whatever happens to the server.
fn follow(book: &Book, addr: SocketAddr, first: &str) {
    let mut next = first.to_owned();
    while !book.done.load(Ordering::Relaxed) {
        let head =
            format!("GET /sub/c0,c1,c2?after={next}&timeout=1&max=1000 HTTP/1.1\r\nAccept: application/json");
        let Ok((200, body)) = ask(addr, &head, b"") else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        let batch: Value = serde_json::from_str(&body).unwrap();
        *book.gaps.lock().unwrap() += usize::from(batch["gap"] == true);
        let ids =
            batch["messages"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned());
        book.seen.lock().unwrap().extend(ids.zip(data(&batch)));
        next = batch["next"].as_str().unwrap().to_owned();
    }
}

/// Every message in the history of the server, by id.
pub fn history(server: &Encke) -> BTreeMap<String, String> {
    let batch = server.json("/sub/c0,c1,c2?as=interval&after=oldest&max=1000");
    let mut all = BTreeMap::new();
    let mut batch = batch;
    loop {
        let ids =
            batch["messages"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned());
        all.extend(ids.zip(data(&batch)));
        let next = batch["next"].as_str().unwrap();
        let answer = server.get(&format!("/sub/c0,c1,c2?as=interval&after={next}&max=1000"), JSON);
        if answer.status == 304 {
            return all;
        }
        batch = answer.json();
    }
}

fn kills() -> usize {
    std::env::var("ENCKE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(4)
}

#[test]
fn kill_9_loses_nothing_that_was_answered_or_seen() {
    let directory = Directory::new("kills");
    let store = directory.store();
    let options = ["--store-dir", &store, "--history-messages", "1000000", "--limits-batch-messages", "1000"];
    let addr = free_address();
    let book = Arc::new(Book::default());
    let mut server = Encke::start_at(addr, Stdio::null(), &options);
    let first = server.publish("c0", "first");
    let publishers = (0..4).map(|who| {
        let book = Arc::clone(&book);
        thread::spawn(move || publish(&book, addr, who))
    });
    let mut threads: Vec<_> = publishers.collect();
    let follower = Arc::clone(&book);
    let from = first.clone();
    threads.push(thread::spawn(move || follow(&follower, addr, &from)));
    let answered = |book: &Book| book.answered.lock().unwrap().len();
    for kill in 0..kills() {
        let before = answered(&book);
        until("publishers have answers", || (answered(&book) > before + 50).then_some(()));
        server.signal(Signal::KILL);
        server.exit();
        drop(server);
        server = Encke::start_at(addr, Stdio::null(), &options);
        assert_eq!(
            parts(&first).0,
            parts(&server.publish("c0", format!("life {kill}"))).0,
            "the epoch stays"
        );
    }
    let before = answered(&book);
    until("publishers have answers", || (answered(&book) > before + 50).then_some(()));
    book.done.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());

    let history = history(&server);
    for (id, text) in &*book.answered.lock().unwrap() {
        assert_eq!(history.get(id), Some(text), "{id} was answered");
    }
    let seen = book.seen.lock().unwrap();
    for (id, text) in &*seen {
        assert_eq!(history.get(id), Some(text), "{id} was seen");
    }
    assert!(seen.windows(2).all(|pair| parts(&pair[0].0).1 < parts(&pair[1].0).1), "in order, none twice");
    assert_eq!(*book.gaps.lock().unwrap(), 0, "nobody lost anything");
    let last = parts(&seen.last().unwrap().0).1;
    let missed = history.iter().filter(|(id, _)| (2..=last).contains(&parts(id).1));
    assert_eq!(missed.count(), seen.len(), "whoever resumes gets everything");
    let texts: BTreeSet<&String> = history.values().collect();
    assert_eq!(texts.len(), history.len(), "a key publishes once");
}

#[test]
fn behind_tells_of_what_a_crash_may_have_lost_and_uses_no_number_twice() {
    let directory = Directory::new("behind");
    let store = directory.store();
    let options = ["--store-dir", &store, "--store-answer", "behind", "--store-pause-ms", "1000"];
    let mut server = Encke::start(&options);
    // In one request, so that nobody is refused because the disk lags behind where the machine is slow.
    let lines: String = (0..50).map(|text| format!("{{\"channel\":\"c0\",\"data\":\"{text}\"}}\n")).collect();
    let answer = server.ask("POST", "/pub", &["Content-Type: application/x-ndjson"], lines.as_bytes());
    assert_eq!(answer.status, 202, "{}", answer.text());
    let id = |told: &Value| told["id"].as_str().unwrap().to_owned();
    let ids: Vec<String> = answer.json().as_array().unwrap().iter().map(id).collect();
    assert_eq!(server.history("c0").len(), 50, "it is visible at once");
    server.signal(Signal::KILL);
    server.exit();
    let server = Encke::start(&options);
    let last = ids.last().unwrap();
    let batch = server.json(&format!("/sub/c0?as=interval&after={last}"));
    assert_eq!(batch["gap"], true, "something may be lost");
    let next = server.publish("c0", "next");
    assert!(parts(&next).1 > parts(last).1 && parts(&next).0 == parts(last).0);
    let after = server.get(&format!("/sub/c0?as=interval&after={next}"), JSON);
    assert_eq!((after.status, after.get("encke-gap")), (304, None), "a gap is told once");
}

#[test]
fn a_clean_end_loses_nothing_in_behind_either() {
    let directory = Directory::new("clean");
    let store = directory.store();
    let options = ["--store-dir", &store, "--store-answer", "behind"];
    let mut server = Encke::start(&options);
    let id = server.publish("c0", "one");
    let last = server.publish("c0", "two");
    server.signal(Signal::TERM);
    server.exit();
    let server = Encke::start(&options);
    let batch = server.json(&format!("/sub/c0?as=interval&after={id}"));
    assert_eq!((batch["gap"].as_bool(), data(&batch)), (Some(false), vec!["two".to_owned()]));
    assert_eq!(parts(&server.publish("c0", "three")).1, parts(&last).1 + 1);
}

#[test]
fn keys_deletions_and_times_to_live_outlive_a_crash() {
    let directory = Directory::new("facts");
    let store = directory.store();
    let options = ["--store-dir", &store];
    let mut server = Encke::start(&options);
    let keyed = |server: &Encke| server.ask("POST", "/pub/keyed", &["Idempotency-Key: k"], b"once");
    let first = keyed(&server);
    let gone = server.publish("gone", "deleted");
    server.publish("kept", "kept");
    let brief = server.ask("POST", "/pub/brief?ttl=2", &[], b"brief").json();
    let lasting = server.ask("POST", "/pub/lasting?ttl=3600", &[], b"lasting");
    assert!(lasting.status < 300);
    assert_eq!(server.ask("DELETE", "/pub/gone", &[], b"").status, 204);
    server.signal(Signal::KILL);
    server.exit();
    // Longer than the brief one lives.
    thread::sleep(Duration::from_millis(2100));
    let server = Encke::start(&options);
    let again = keyed(&server);
    assert_eq!((again.status, again.text()), (first.status, first.text()), "the same answer");
    let other = server.ask("POST", "/pub/keyed", &["Idempotency-Key: k"], b"another");
    assert_eq!(other.status, 422, "the key belongs to the first request");
    assert_eq!(server.history("keyed"), ["once"]);
    assert_eq!(server.history("kept"), ["kept"]);
    assert_eq!(server.history("lasting"), ["lasting"]);
    assert_eq!(server.history("brief"), [""; 0], "its time had come while nobody was there");
    let id = brief["id"].as_str().unwrap();
    let batch = server.get(&format!("/sub/brief?as=interval&after={id}"), JSON);
    assert_eq!(batch.status, 304, "what its publisher let expire is no gap");
    assert_eq!(server.history("gone"), [""; 0]);
    let before = parts(&gone).1 - 1;
    let epoch = parts(&gone).0;
    let batch = server.json(&format!("/sub/gone?as=interval&after={epoch}:{before}"));
    assert_eq!(batch["gap"], true, "what was deleted is missed");
}

#[test]
fn latest_values_and_removals_outlive_a_crash() {
    let directory = Directory::new("values");
    let store = directory.store();
    let options = ["--store-dir", &store, "--history-messages", "1", "--history-grace-seconds", "0"];
    let mut server = Encke::start(&options);
    let json = &["Content-Type: application/json"];
    let mut last = String::new();
    for (method, key, kind, body) in [
        ("POST", "kept", json, r#"{"a":1}"#),
        ("POST", "removed", json, r#"{"a":2}"#),
        ("PATCH", "kept", &["Content-Type: application/merge-patch+json"], r#"{"b":4}"#),
        ("DELETE", "removed", json, ""),
        // The last, so that whatever has a higher number is its removal.
        ("POST", "brief&ttl=1", json, r#"{"a":3}"#),
    ] {
        let answer = server.ask(method, &format!("/pub/q?key={key}"), kind, body.as_bytes());
        assert!(answer.status < 300, "{method} {key}: {}", answer.text());
        last = answer.json()["id"].as_str().unwrap().to_owned();
    }
    until("the brief one has expired", || (server.get("/pub/q?key=brief", &[]).status == 404).then_some(()));
    // The removal of what expires has a number, too, and is stored.
    until("its removal is there", || {
        let newest = server.json("/stats")["newest"].as_str().unwrap().to_owned();
        (parts(&newest).1 > parts(&last).1).then_some(())
    });
    let newest = server.json("/stats")["newest"].as_str().unwrap().to_owned();
    server.signal(Signal::KILL);
    server.exit();
    let server = Encke::start(&options);
    assert_eq!(server.get("/pub/q?key=kept", &[]).json(), serde_json::json!({"a": 1, "b": 4}));
    for gone in ["removed", "brief"] {
        assert_eq!(server.get(&format!("/pub/q?key={gone}"), &[]).status, 404, "{gone}");
    }
    assert!(parts(&server.publish("q", "next")).1 > parts(&newest).1, "no number is used twice");
}

/// Starts it and waits for its end; returns what it said.
pub fn refusal(options: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_encke"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(options)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_cannot_be_a_store_keeps_the_server_from_starting() {
    let directory = Directory::new("refusals");
    let store = directory.store();
    let server = Encke::start(&["--store-dir", &store]);
    server.publish("c", "x");
    let said = refusal(&["--store-dir", &store]);
    assert!(said.contains("another process uses") && said.contains(&store), "{said}");
    drop(server);
    let missing = directory.0.join("not/there");
    let said = refusal(&["--store-dir", missing.to_str().unwrap()]);
    assert!(said.contains("does not exist; create it"), "{said}");
    let file = Path::new(&store).join("history.redb");
    std::fs::write(&file, b"not a history").unwrap();
    let said = refusal(&["--store-dir", &store]);
    assert!(said.contains("the history is damaged") && said.contains("restore a backup"), "{said}");
    assert_eq!(std::fs::read(&file).unwrap(), b"not a history", "nothing is overwritten");
}

/// A disk that fails for a while: publishers are told, subscribers are served, and it goes on by itself.
fn survives(faults: &[&str], word: &str) {
    let directory = Directory::new(word);
    let store = directory.store();
    let server = Encke::start_with_faults(faults, &["--store-dir", &store, "--store-pause-ms", "0"]);
    let mut answered = vec![];
    let mut refused = 0;
    until("it fails and is well again", || {
        let text = format!("{}", answered.len() + refused);
        let answer = server.ask("POST", "/pub/c", &[], text.as_bytes());
        match answer.status {
            202 => answered.push(text),
            503 => {
                assert!(answer.text().contains("may be repeated"), "{}", answer.text());
                assert!(answer.get("retry-after").is_some());
                let health = server.get("/healthz", &[]);
                assert!(
                    health.status == 200 || health.text().starts_with("cannot store: "),
                    "{}",
                    health.text()
                );
                refused += 1;
                thread::sleep(Duration::from_millis(20));
            }
            other => panic!("{other}"),
        }
        (refused > 0 && answered.len() > 40 && answer.status == 202).then_some(())
    });
    assert_eq!(server.get("/healthz", &[]).status, 200);
    let log = server.log();
    assert!(
        log.matches("cannot store").count() <= refused + 1 && log.contains("messages are stored again"),
        "{log}"
    );
    let visible = server.history("c");
    assert!(answered.iter().rev().take(90).all(|text| visible.contains(text)), "{visible:?}");
    drop(server);
    let server = Encke::start(&["--store-dir", &store]);
    let history = server.history("c");
    assert!(answered.iter().rev().take(90).all(|text| history.contains(text)), "{history:?}");
}

#[test]
fn a_failing_sync_is_told_and_survived() {
    survives(&["fdatasync:error=EIO:when=20..22"], "eio");
}

#[test]
fn a_full_disk_is_told_and_survived() {
    survives(&["pwrite64:error=ENOSPC:when=120..126"], "enospc");
}

/// `encke store …`: exit code, what it printed, what it complained of.
fn tool(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_encke")).arg("store").args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The same, of what works.
pub fn tell(action: &str, store: &str) -> String {
    let (code, said, complaint) = tool(&[action, "--store-dir", store]);
    assert_eq!((code, complaint.as_str()), (0, ""), "{action}: {said}");
    said
}

/// Every line of what `check` says, by its label.
pub fn facts(store: &str) -> BTreeMap<String, String> {
    let said = tell("check", store);
    assert!(said.ends_with("ok: every message can be read\n"), "{said}");
    said.lines()
        .filter_map(|line| line.split_at_checked(18))
        .map(|(label, value)| (label.trim().to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn a_history_at_rest_is_checked_and_dumped_and_stays_as_it_is() {
    let directory = Directory::new("at-rest");
    let store = directory.store();
    let mut server = Encke::start(&["--store-dir", &store]);
    let first = server.publish("plain", "a \"text\"");
    server.ask(
        "POST",
        "/pub/json?event=quote",
        &["Content-Type: application/json", "Encke-Key: k"],
        b"{\"a\":\n1}",
    );
    server.ask("POST", "/pub/bytes", &["Content-Type: application/octet-stream"], b"\xff\x00");
    server.ask("POST", "/pub/once", &["Idempotency-Key: 1"], b"once");
    server.publish("gone", "deleted");
    assert_eq!(server.ask("DELETE", "/pub/gone", &[], b"").status, 204);
    // The last, so that there is nothing to wait for while it lives.
    server.ask("POST", "/pub/brief?ttl=3", &[], b"brief");
    server.signal(Signal::KILL);
    server.exit();
    // Longer than the brief one lives, which it did until the server was gone.
    thread::sleep(Duration::from_millis(3100));
    let file = Path::new(&store).join("history.redb");
    let before = std::fs::read(&file).unwrap();
    let found = facts(&store);
    for (label, value) in [
        ("format", "1"),
        ("closed", "no: its server crashed, or was killed; the next one goes on from here"),
        ("epoch", parts(&first).0),
        ("next number", "8"),
        ("messages", "4"),
        ("dead messages", "2"),
        ("channels", "4"),
        ("idempotency keys", "1"),
    ] {
        assert_eq!(found[label], value, "{label} of {found:?}");
    }
    let dump = tell("dump", &store);
    let lines: Vec<Value> = dump.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4, "{dump}");
    assert_eq!(
        (lines[0]["id"].as_str(), lines[0]["data"].as_str()),
        (Some(first.as_str()), Some("a \"text\""))
    );
    assert!(lines.iter().all(|line| line["time"].as_u64() > Some(1_600_000_000_000)), "{dump}");
    assert_eq!(lines[1]["channel"], "json");
    assert_eq!((&lines[1]["event"], &lines[1]["key"]), (&"quote".into(), &"k".into()));
    assert_eq!(lines[1]["data"], serde_json::json!({"a": 1}));
    assert_eq!(lines[2]["data64"], "/wA=");
    assert!(std::fs::read(&file).unwrap() == before, "nothing is written, not even a repair");
    assert_eq!(Encke::start(&["--store-dir", &store]).history("plain"), ["a \"text\""]);
}

#[test]
fn a_crash_in_behind_is_seen_and_its_jump_told() {
    let directory = Directory::new("at-rest-behind");
    let store = directory.store();
    let mut server = Encke::start(&["--store-dir", &store, "--store-answer", "behind"]);
    server.publish("c", "x");
    server.signal(Signal::KILL);
    server.exit();
    let next: u64 = facts(&store)["next number"].parse().unwrap();
    let server = Encke::start(&["--store-dir", &store]);
    assert_eq!(parts(&server.publish("c", "y")).1, next);
}

#[test]
fn compacting_makes_the_file_smaller_and_loses_nothing() {
    let directory = Directory::new("compact");
    let store = directory.store();
    let options = ["--store-dir", &store, "--history-messages", "5"];
    let mut server = Encke::start(&options);
    let large = "x".repeat(60_000);
    for _ in 0..60 {
        server.publish("c", &large);
    }
    server.publish("other", "kept");
    assert_eq!(server.ask("DELETE", "/pub/c", &[], b"").status, 204);
    server.signal(Signal::KILL);
    server.exit();
    let bytes = || std::fs::metadata(Path::new(&store).join("history.redb")).unwrap().len();
    let (before, dump) = (bytes(), tell("dump", &store));
    let said = tell("compact", &store);
    assert!(said.contains("before") && said.contains("after"), "{said}");
    assert!(bytes() < before, "{before} bytes before, {} after", bytes());
    assert_eq!(tell("dump", &store), dump);
    assert_eq!(Encke::start(&options).history("other"), ["kept"]);
}

#[test]
fn a_new_epoch_tells_everybody_of_a_gap() {
    let directory = Directory::new("epoch");
    let store = directory.store();
    let mut server = Encke::start(&["--store-dir", &store]);
    let id = server.publish("c", "one");
    server.signal(Signal::TERM);
    server.exit();
    assert_eq!(facts(&store)["closed"], "in good order");
    let said = tell("new-epoch", &store);
    let epoch = facts(&store)["epoch"].clone();
    assert_ne!(epoch, parts(&id).0);
    assert!(said.contains(&epoch) && said.contains(parts(&id).0), "{said}");
    let server = Encke::start(&["--store-dir", &store]);
    let batch = server.json(&format!("/sub/c?as=interval&after={id}"));
    assert_eq!((batch["gap"].as_bool(), data(&batch)), (Some(true), vec!["one".to_owned()]));
    let next = server.publish("c", "two");
    assert_eq!(parts(&next), (&*epoch, parts(&id).1 + 1));
}

const ACTIONS: [&str; 4] = ["check", "compact", "new-epoch", "dump"];

#[test]
fn what_is_no_history_at_rest_is_refused_and_stays_as_it_is() {
    let directory = Directory::new("at-rest-refusals");
    let store = directory.store();
    let refuse = |word: &str| {
        for action in ACTIONS {
            let (code, said, complaint) = tool(&[action, "--store-dir", &store]);
            assert_eq!((code, said.as_str()), (1, ""), "{action}: {complaint}");
            assert!(complaint.contains(word) && complaint.lines().count() == 1, "{action}: {complaint}");
        }
    };
    refuse("there is no history in");
    assert!(!Path::new(&store).exists(), "nothing is made");
    std::fs::create_dir(&store).unwrap();
    refuse("there is no history in");
    assert_eq!(std::fs::read_dir(&store).unwrap().count(), 0, "nothing is made");
    let mut server = Encke::start(&["--store-dir", &store]);
    for number in 0..300 {
        server.publish("c", format!("{number} {}", "x".repeat(500)));
    }
    refuse("another process uses");
    server.signal(Signal::KILL);
    server.exit();
    let file = Path::new(&store).join("history.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    // In the middle of a message that is there.
    let at = bytes.windows(8).rposition(|part| part == b"xxxxxxxx").unwrap();
    bytes[at] = b'y';
    for damaged in [bytes, b"not a history".to_vec(), Vec::new()] {
        std::fs::write(&file, &damaged).unwrap();
        refuse("the history is damaged");
        assert!(std::fs::read(&file).unwrap() == damaged, "nothing is written");
    }
    let (code, _, complaint) = tool(&["check"]);
    assert!(code == 1 && complaint.contains("--store-dir"), "{complaint}");
    assert_eq!(tool(&["erase", "--store-dir", &store]).0, 2);
}

#[test]
fn a_dump_whose_reader_leaves_ends_quietly() {
    let directory = Directory::new("dump-pipe");
    let store = directory.store();
    let mut server = Encke::start(&["--store-dir", &store]);
    for _ in 0..20 {
        server.publish("c", "x".repeat(60_000));
    }
    server.signal(Signal::TERM);
    server.exit();
    let mut dump = Command::new(env!("CARGO_BIN_EXE_encke"))
        .args(["store", "dump"])
        .env("ENCKE_STORE_DIR", &store)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    dump.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert!(first.starts_with(b"{\"id\":\""));
    let output = dump.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}
