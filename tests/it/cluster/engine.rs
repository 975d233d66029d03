//! What one server does while Redis is away, refuses, or is not what it should be.

use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::json;

use super::*;
use crate::harness::free_address;

#[test]
fn while_the_engine_is_away_publishers_wait_and_are_refused() {
    let redis = Redis::start(&[]);
    let door = Door::to(redis.addr);
    let node = node(&door.url(), &["--engine-patience-ms", "3000"]);
    well(&node);
    let (_, mut stream) = node.open("/sub/a?as=stream&after=now", &[]);
    node.publish("a", "one");
    assert!((stream.envelope()["data"] == "one"));
    door.lead(None);
    let began = Instant::now();
    let refused = node.ask("POST", "/pub/a", &["Idempotency-Key: two"], b"two");
    assert_eq!(refused.status, 503, "{}", refused.text());
    // Its clock has whole milliseconds.
    assert!(began.elapsed() > Duration::from_millis(2990), "it has patience");
    assert!(refused.get("Retry-After").is_some() && refused.text().contains("Idempotency-Key"));
    unwell(&node, "engine: ");
    assert_eq!(node.history("a"), ["one"], "what is known is served on");
    node.logged("error encke::server::pending] engine: ");
    door.lead(Some(redis.addr));
    well(&node);
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
    let node = node(&redis.url(), &["--engine-patience-ms", "3000"]);
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
    let keep = ["--engine-keep-messages", "10", "--history-grace-seconds", "0"];
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
    let output = Command::new(env!("CARGO_BIN_EXE_encke"))
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
    let mut command = Command::new(script);
    command.arg(env!("CARGO_BIN_EXE_encke")).stdin(Stdio::null());
    for name in ["REDIS_PORT", "ONE_PORT", "TWO_PORT", "FRONT_PORT"] {
        command.env(name, free_address().port().to_string());
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.ends_with("ok\n"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn it_hands_over_to_no_other_process() {
    let redis = Redis::start(&[]);
    let node = node(&redis.url(), &[]);
    well(&node);
    let (_, mut stream) = node.open("/sub/a?as=stream&after=now", &[]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_encke"));
    let output = command.args(["upgrade", "--pid", &node.pid().to_string()]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("goes on: no other one has taken over"), "{said}");
    node.logged("upgrade: a history that several servers share cannot be handed over; restart instead");
    node.publish("a", "still here");
    assert!((stream.envelope()["data"] == "still here"));
}
