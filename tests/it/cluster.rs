//! Several servers that share one history over a real Redis, which is killed, cut, emptied, replaced and filled under them.
//! Publishers are held to their answers, and followers, who change server with every poll, to what they saw.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Encke, data, free_address, parts, seq, until};
use crate::redis::{Door, Redis};
use crate::store::ask;

const JSON: &[&str] = &["Accept: application/json"];

/// Starts a server that shares the history behind `url`.
fn node(url: &str, options: &[&str]) -> Encke {
    let options = [&["--engine-url", url, "--history-messages", "1000000"], options].concat();
    Encke::start(&options)
}

fn well(node: &Encke) {
    until("the server is well", || (node.get("/healthz", &[]).status == 200).then_some(()));
}

/// Waits until health says something.
fn unwell(node: &Encke, why: &str) {
    until(why, || {
        let answer = node.get("/healthz", &[]);
        (answer.status == 503 && answer.text().contains(why)).then_some(())
    });
}

/// What publishers were answered and followers saw.
#[derive(Default)]
struct Book {
    /// By number: the texts that were given it.
    answered: Mutex<BTreeMap<u64, String>>,
    done: AtomicBool,
}

/// One poll of a follower.
struct Poll {
    from: u64,
    to: u64,
    gap: bool,
    messages: Vec<(u64, String)>,
}

/// Publishes until it is told to stop, each message with a key, again and again until there is an answer, on one server or
/// the other. What it has no answer to is not published a second time.
fn publish(book: &Book, nodes: [SocketAddr; 2], who: usize) {
    for number in 0.. {
        let text = format!("{who}/{number}");
        let head = format!("POST /pub/c{} HTTP/1.1\r\nIdempotency-Key: {text}", number % 3);
        for attempt in 0.. {
            if let Ok((201 | 202, body)) = ask(nodes[(who + attempt) % 2], &head, text.as_bytes()) {
                let id = serde_json::from_str::<Value>(&body).unwrap()["id"].as_str().unwrap().to_owned();
                let before = book.answered.lock().unwrap().insert(seq(&id), text.clone());
                assert!(before.is_none(), "{id} was given to {before:?} and {text}");
                break;
            }
            if book.done.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        if book.done.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Polls one server after the other, until it has seen the end.
fn follow(nodes: [SocketAddr; 2], first: &str) -> Vec<Poll> {
    let (mut next, mut polls) = (first.to_owned(), Vec::new());
    let deadline = Instant::now() + Duration::from_secs(90);
    for turn in 0.. {
        assert!(Instant::now() < deadline, "the end was never seen");
        let head =
            format!("GET /sub/c0,c1,c2?after={next}&timeout=1&max=1000 HTTP/1.1\r\nAccept: application/json");
        let Ok((200, body)) = ask(nodes[turn % 2], &head, b"") else {
            thread::sleep(Duration::from_millis(2));
            continue;
        };
        let batch: Value = serde_json::from_str(&body).unwrap();
        let ids = batch["messages"].as_array().unwrap().iter().map(|one| seq(one["id"].as_str().unwrap()));
        let messages: Vec<(u64, String)> = ids.zip(data(&batch)).collect();
        let is_end = messages.iter().any(|(_, text)| text == "end");
        let from = seq(&next);
        batch["next"].as_str().unwrap().clone_into(&mut next);
        polls.push(Poll { from, to: seq(&next), gap: batch["gap"] == true, messages });
        if is_end {
            break;
        }
    }
    polls
}

/// Two servers, each with its door to a Redis, publishers and followers.
struct Stage {
    redis: Redis,
    doors: [Door; 2],
    nodes: [Encke; 2],
    book: Arc<Book>,
    publishers: Vec<JoinHandle<()>>,
    followers: Vec<JoinHandle<Vec<Poll>>>,
    first: u64,
}

impl Stage {
    fn set(options: &[&str]) -> Self {
        let redis = Redis::start(options);
        let doors = [Door::to(redis.addr), Door::to(redis.addr)];
        let nodes = [node(&doors[0].url(), &[]), node(&doors[1].url(), &[])];
        nodes.iter().for_each(well);
        let first = nodes[0].publish("c0", "first");
        let addrs = [nodes[0].addr(), nodes[1].addr()];
        let book = Arc::new(Book::default());
        let publishers = (0..4).map(|who| {
            let book = Arc::clone(&book);
            thread::spawn(move || publish(&book, addrs, who))
        });
        let publishers = publishers.collect();
        let followers = (0..2).map(|who| {
            let (first, addrs) = (first.clone(), [addrs[who], addrs[1 - who]]);
            thread::spawn(move || follow(addrs, &first))
        });
        let followers = followers.collect();
        let stage = Self { redis, doors, nodes, book, publishers, followers, first: seq(&first) };
        stage.go_on();
        stage
    }

    fn answers(&self) -> usize {
        self.book.answered.lock().unwrap().len()
    }

    /// Waits until publishers have more answers, of both servers.
    fn go_on(&self) {
        let before = self.answers();
        until("publishers have answers", || (self.answers() > before + 100).then_some(()));
    }

    /// Ends the play, and looks what everybody was told. Returns how many of the gaps that followers were told there were.
    fn end(self) -> usize {
        self.go_on();
        self.nodes.iter().for_each(well);
        self.book.done.store(true, Ordering::Relaxed);
        self.publishers.into_iter().for_each(|thread| thread.join().unwrap());
        self.nodes[0].publish("c0", "end");
        let mut gaps = 0;
        let answered = self.book.answered.lock().unwrap();
        let mut named = answered.clone();
        for follower in self.followers {
            let polls = follower.join().unwrap();
            let mut seen = BTreeMap::new();
            let mut last = self.first;
            for poll in &polls {
                gaps += usize::from(poll.gap);
                for (number, text) in &poll.messages {
                    assert!(*number > last, "{number} after {last}: in order, none twice");
                    last = *number;
                    let before = named.insert(*number, text.clone());
                    assert!(before.is_none_or(|before| before == *text), "{number} names two messages");
                    assert!(seen.insert(*number, text.clone()).is_none());
                }
            }
            for (number, text) in answered.iter().filter(|(number, _)| **number > self.first) {
                let is_told = polls.iter().any(|poll| poll.gap && poll.from < *number && *number <= poll.to);
                assert!(
                    seen.contains_key(number) || is_told,
                    "{number} ({text}) was answered, and is missing in silence"
                );
            }
        }
        let texts: std::collections::BTreeSet<&String> = answered.values().collect();
        assert_eq!(texts.len(), answered.len(), "a key was answered with two numbers");
        let histories = [0, 1].map(|node| history(&self.nodes[node]));
        assert_eq!(histories[0], histories[1], "all servers keep the same");
        gaps
    }
}

/// All ids that a server keeps.
fn history(node: &Encke) -> Vec<String> {
    let mut ids = Vec::new();
    let mut after = "oldest".to_owned();
    loop {
        let answer = node.get(&format!("/sub/c0,c1,c2?as=interval&after={after}&max=1000"), JSON);
        if answer.status == 304 {
            return ids;
        }
        let batch = answer.json();
        ids.extend(
            batch["messages"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()),
        );
        after = batch["next"].as_str().unwrap().to_owned();
    }
}

/// How often each play is given.
fn plays() -> usize {
    std::env::var("ENCKE_PLAYS").ok().and_then(|plays| plays.parse().ok()).unwrap_or(1)
}

fn play(options: &[&str], fault: impl Fn(&mut Stage)) -> usize {
    let mut gaps = 0;
    for _ in 0..plays() {
        let mut stage = Stage::set(options);
        fault(&mut stage);
        gaps += stage.end();
    }
    gaps
}

#[test]
fn one_history_on_every_server() {
    let redis = Redis::start(&[]);
    let (one, other) = (node(&redis.url(), &[]), node(&redis.url(), &[]));
    let (_, mut stream) = other.open("/sub/a?as=stream&after=now", &[]);
    let id = one.publish("a", "hello");
    assert_eq!(parts(&id).0, other.json("/stats")["epoch"].as_str().unwrap());
    assert!((stream.envelope()["data"] == "hello"), "what is published on one is seen on the other");
    // A key is one on all.
    let key = ["Idempotency-Key: k"];
    let first = one.ask("POST", "/pub/a", &key, b"once");
    let second = other.ask("POST", "/pub/a", &key, b"once");
    assert_eq!((first.status, first.json()["id"].clone()), (202, second.json()["id"].clone()));
    assert_eq!(other.ask("POST", "/pub/a", &key, b"another").status, 422);
    assert_eq!(one.ask("POST", "/pub/a", &key, b"another").status, 422);
    // Numbers of a batch are known on both.
    let batch = one.ask(
        "POST",
        "/pub",
        &["Content-Type: application/x-ndjson"],
        b"{\"channel\":\"a\",\"data\":1}\n{\"channel\":\"b\",\"data\":2}\n",
    );
    let ids: Vec<u64> =
        batch.json().as_array().unwrap().iter().map(|one| seq(one["id"].as_str().unwrap())).collect();
    assert_eq!(ids[1], ids[0] + 1);
    until("the other has them", || (other.history("b") == ["2"]).then_some(()));
    // Values of keys, and removals.
    let value = |node: &Encke| node.get("/pub/prices?key=x", &[]);
    let put = one.ask("PUT", "/pub/prices?key=x", &["Content-Type: application/json"], b"{\"bid\":1}");
    assert!(matches!(put.status, 200..=202), "{}", put.text());
    until("the other has the value", || (value(&other).status == 200).then_some(()));
    assert_eq!(other.ask("DELETE", "/pub/prices?key=x", &[], b"").status, 200);
    until("the value is gone", || (value(&one).status == 404).then_some(()));
    // A deletion is one on all.
    assert_eq!(other.ask("DELETE", "/pub/b", &[], b"").status, 204);
    until("it is gone", || one.history("b").is_empty().then_some(()));
    // Who comes late has it all.
    let late = node(&redis.url(), &[]);
    well(&late);
    assert_eq!(late.history("a"), one.history("a"));
    assert!(late.history("b").is_empty());
    assert_eq!(late.ask("POST", "/pub/a", &key, b"once").json()["id"], first.json()["id"]);
    until("all know of each other", || (late.json("/stats")["engine_nodes"] == 3).then_some(()));
    drop(other);
    drop(one);
    until("who is gone is gone", || (late.json("/stats")["engine_nodes"] == 1).then_some(()));
}

#[test]
fn cut_connections_lose_nothing() {
    let gaps = play(&[], |stage| {
        for turn in 0..6 {
            stage.doors[turn % 2].slam();
            stage.go_on();
        }
    });
    assert_eq!(gaps, 0);
}

#[test]
fn a_server_that_is_killed_and_restarted_loses_nothing() {
    play(&[], |stage| {
        for _ in 0..2 {
            stage.redis.kill();
            stage.redis.restart();
            stage.go_on();
        }
    });
}

#[test]
fn a_tail_that_a_power_cut_took_is_told() {
    let gaps = play(&[], |stage| {
        stage.redis.kill();
        stage.redis.cut_tail(4000);
        stage.redis.restart();
    });
    assert!(gaps > 0);
}

#[test]
fn an_empty_restart_is_told() {
    let gaps = play(&[], |stage| {
        stage.redis.kill();
        stage.redis.wipe();
        stage.redis.restart();
    });
    assert!(gaps > 0);
}

#[test]
fn keys_that_somebody_deletes_are_told() {
    let gaps = play(&[], |stage| {
        stage.redis.ask(&["FLUSHALL"]);
    });
    assert!(gaps > 0);
}

#[test]
fn a_replica_that_lacks_messages_takes_over() {
    let gaps = play(&[], |stage| {
        let replica = Redis::start(&["--replicaof", "127.0.0.1", &stage.redis.addr.port().to_string()]);
        until("it follows", || {
            replica.ask(&["INFO", "replication"]).contains("master_link_status:up").then_some(())
        });
        stage.go_on();
        replica.signal(Signal::STOP);
        stage.go_on();
        stage.redis.kill();
        replica.signal(Signal::CONT);
        replica.ask(&["REPLICAOF", "NO", "ONE"]);
        stage.doors.iter().for_each(|door| door.lead(Some(replica.addr)));
        stage.redis = replica;
    });
    assert!(gaps > 0);
}

#[test]
fn two_halves_become_one() {
    let gaps = play(&[], |stage| {
        let replica = Redis::start(&["--replicaof", "127.0.0.1", &stage.redis.addr.port().to_string()]);
        until("it follows", || {
            replica.ask(&["INFO", "replication"]).contains("master_link_status:up").then_some(())
        });
        // One server goes on with the old primary, the other with a new one.
        replica.ask(&["REPLICAOF", "NO", "ONE"]);
        stage.doors[1].lead(Some(replica.addr));
        well(&stage.nodes[1]);
        stage.go_on();
        stage.go_on();
        // The old one is demoted, and what only it had is gone. It still answers reads.
        stage.redis.ask(&["REPLICAOF", "127.0.0.1", &replica.addr.port().to_string()]);
        unwell(&stage.nodes[0], "engine: ");
        stage.doors[0].lead(Some(replica.addr));
        stage.redis = replica;
    });
    assert!(gaps > 0);
}

#[test]
fn while_the_engine_is_away_publishers_wait_and_are_refused() {
    let redis = Redis::start(&[]);
    let door = Door::to(redis.addr);
    let node = node(&door.url(), &["--engine-patience-ms", "500"]);
    well(&node);
    let (_, mut stream) = node.open("/sub/a?as=stream&after=now", &[]);
    node.publish("a", "one");
    assert!((stream.envelope()["data"] == "one"));
    door.lead(None);
    let began = Instant::now();
    let refused = node.ask("POST", "/pub/a", &["Idempotency-Key: two"], b"two");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(began.elapsed() >= Duration::from_millis(500), "it has patience");
    assert!(refused.get("Retry-After").is_some() && refused.text().contains("Idempotency-Key"));
    unwell(&node, "engine: ");
    assert_eq!(node.history("a"), ["one"], "what is known is served on");
    node.logged("error encke::server::pending] engine: ");
    door.lead(Some(redis.addr));
    let answer = node.ask("POST", "/pub/a", &["Idempotency-Key: two"], b"two");
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert!((stream.envelope()["data"] == "two"));
    well(&node);
    node.logged("engine: at work again");
    let lines = node.log().lines().filter(|line| line.contains("engine: ") && line.contains("ERROR")).count();
    assert_eq!(lines, 1, "a line for each change:\n{}", node.log());
}

#[test]
fn a_stopped_engine_is_one_that_is_away() {
    let redis = Redis::start(&[]);
    let node = node(&redis.url(), &["--engine-patience-ms", "300"]);
    well(&node);
    node.publish("a", "one");
    redis.signal(Signal::STOP);
    let refused = node.ask("POST", "/pub/a", &["Idempotency-Key: two"], b"two");
    assert_eq!(refused.status, 503);
    unwell(&node, "engine: ");
    redis.signal(Signal::CONT);
    well(&node);
    // What was under way when it stopped is fenced, or a repeat is recognised: it is there once.
    let answer = node.ask("POST", "/pub/a", &["Idempotency-Key: two"], b"two");
    assert!(matches!(answer.status, 201 | 202), "{}", answer.text());
    assert_eq!(node.history("a"), ["one", "two"]);
}

#[test]
fn a_slow_engine_is_waited_for() {
    let gaps = play(&[], |stage| {
        stage.doors[0].slow_down(Duration::from_millis(150));
        stage.go_on();
        stage.doors[0].slow_down(Duration::ZERO);
    });
    assert_eq!(gaps, 0);
}

#[test]
fn an_engine_without_memory_refuses_and_recovers() {
    let redis = Redis::start(&[]);
    let node = node(&redis.url(), &[]);
    well(&node);
    let before = node.publish("a", "one");
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = node.ask("POST", "/pub/a", &[], b"two");
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("OOM"), "{}", refused.text());
    unwell(&node, "OOM");
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    well(&node);
    assert!(seq(&node.publish("a", "three")) > seq(&before));
    assert_eq!(node.history("a"), ["one", "three"]);
}

#[test]
fn an_engine_that_misses_its_replicas_refuses_and_recovers() {
    let redis = Redis::start(&[]);
    let node = node(&redis.url(), &[]);
    well(&node);
    redis.ask(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    assert_eq!(node.ask("POST", "/pub/a", &[], b"two").status, 503);
    unwell(&node, "NOREPLICAS");
    redis.ask(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    well(&node);
    assert_eq!(node.history("a"), Vec::<String>::new());
}

#[test]
fn an_engine_that_evicts_is_not_used() {
    let redis = Redis::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let node = node(&redis.url(), &[]);
    unwell(&node, "noeviction");
    redis.ask(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    well(&node);
}

#[test]
fn a_server_may_start_before_its_engine() {
    let addr = free_address();
    let node = node(&format!("redis://{addr}"), &[]);
    unwell(&node, "loading; engine: ");
    let mut early = node.connect();
    early.request("POST", "/pub/a", &[], b"early");
    let _redis = Redis::start_at(addr, &[]);
    assert_eq!(early.answer().status, 202, "who came early is served");
    well(&node);
}

#[test]
fn a_password_is_shown() {
    let redis = Redis::start(&["--requirepass", "s3cret"]);
    let with = Encke::start_with_environment(
        &[("ENCKE_ENGINE_PASSWORD", "s3cret")],
        &["--engine-url", &redis.url()],
    );
    well(&with);
    let without = node(&redis.url(), &[]);
    unwell(&without, "engine: ");
    assert!(!with.log().contains("s3cret"));
}

#[test]
fn a_server_that_was_stopped_catches_up() {
    let redis = Redis::start(&[]);
    let (one, other) = (node(&redis.url(), &[]), node(&redis.url(), &[]));
    [&one, &other].into_iter().for_each(well);
    let place = one.publish("a", "0");
    until("the other has it", || (other.history("a") == ["0"]).then_some(()));
    other.signal(Signal::STOP);
    let texts: Vec<String> = (1..200).map(|number| number.to_string()).collect();
    texts.iter().for_each(|text| _ = one.publish("a", text));
    other.signal(Signal::CONT);
    until("it has caught up", || (other.history("a").len() == 200).then_some(()));
    let batch = other.json(&format!("/sub/a?after={place}&max=1000"));
    assert_eq!((data(&batch), &batch["gap"]), (texts, &json!(false)));
    well(&other);
}

#[test]
fn a_server_that_was_stopped_for_too_long_tells_a_gap() {
    let redis = Redis::start(&["--stream-node-max-entries", "1"]);
    let keep = ["--engine-keep-messages", "10"];
    let (one, other) = (node(&redis.url(), &keep), node(&redis.url(), &keep));
    [&one, &other].into_iter().for_each(well);
    let place = one.publish("a", "0");
    until("the other has it", || (other.history("a") == ["0"]).then_some(()));
    other.signal(Signal::STOP);
    (1..100).for_each(|number| _ = one.publish("a", number.to_string()));
    assert!(redis.ask(&["XLEN", "{encke}:log"]).parse::<usize>().unwrap() < 50, "the stream is trimmed");
    other.signal(Signal::CONT);
    until("it has caught up", || (other.history("a").last().map(String::as_str) == Some("99")).then_some(()));
    assert_eq!(other.json(&format!("/sub/a?after={place}&max=1000"))["gap"], true);
    // So does one that starts now, which has only what is kept.
    let late = node(&redis.url(), &keep);
    well(&late);
    assert_eq!(late.json(&format!("/sub/a?after={place}&max=1000"))["gap"], true);
    assert_eq!(one.json(&format!("/sub/a?after={place}&max=1000"))["gap"], false);
}

#[test]
fn a_store_and_an_engine_are_refused_together() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_encke"))
        .args(["config", "--engine-url", "redis://localhost", "--store-dir", "/tmp/x"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("store.dir is given too"));
}

#[test]
fn the_example_runs() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/run.sh");
    let mut command = std::process::Command::new(script);
    command.arg(env!("CARGO_BIN_EXE_encke")).stdin(Stdio::null());
    for name in ["REDIS_PORT", "ONE_PORT", "TWO_PORT", "FRONT_PORT"] {
        command.env(name, free_address().port().to_string());
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.ends_with("ok\n"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
