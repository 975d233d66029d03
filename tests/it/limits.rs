//! The limits of what clients may have open, name and keep.

use crate::client::Client;
use crate::harness::{Encke, until};

#[test]
fn connections_over_the_limit_are_turned_away() {
    let server = Encke::start(&["--limits-connections", "3"]);
    let mut served: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    for client in &mut served {
        assert_eq!(client.get("/healthz", &[]).status, 200);
    }
    let mut surplus = server.connect();
    surplus.try_send("GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = surplus.answer();
    assert_eq!((answer.status, answer.get("connection")), (503, Some("close")));
    assert!(answer.get("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()), "{answer:?}");
    surplus.closed();

    served.pop();
    until("a place is free again", || {
        let mut client = server.connect();
        client.try_send("GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n");
        (client.answer().status == 200).then_some(())
    });
    for client in &mut served {
        assert_eq!(client.get("/healthz", &[]).status, 200, "those inside noticed nothing");
    }
}

#[test]
fn idle_connections_are_closed_without_a_word() {
    let server = Encke::start(&["--limits-idle-seconds", "1"]);
    let mut idle = server.connect();
    assert_eq!(idle.get("/healthz", &[]).status, 200);
    let mut poll = server.park("/sub/x?timeout=300", &[], "x", 1);
    idle.closed();
    // Who was idle for a shorter time than the poll waits by now is gone, too.
    let mut later = server.connect();
    assert_eq!(later.get("/healthz", &[]).status, 200);
    later.closed();
    server.publish("x", "news");
    assert_eq!(poll.answer().text(), "news", "who waits for an answer is not idle");
}

#[test]
fn channels_over_the_limit_are_refused() {
    let server = Encke::start(&["--limits-channels", "2"]);
    server.publish("a", "1");
    server.publish("b", "1");
    for (method, target) in [("POST", "/pub/c"), ("POST", "/pub/a,c"), ("GET", "/sub/c?timeout=1")] {
        assert_eq!(server.ask(method, target, &[], b"x").status, 503, "{method} {target}");
    }
    server.publish("a", "2");
    assert_eq!(server.history("a"), ["1", "2"], "known channels go on, and a refusal published nothing");
    assert_eq!(server.ask("DELETE", "/pub/b", &[], b"").status, 204);
    server.publish("c", "there is room again");
}

#[test]
fn channels_per_request() {
    let server = Encke::start(&["--limits-channels-per-request", "2"]);
    assert_eq!(server.ask("POST", "/pub/a,b", &[], b"x").status, 202);
    assert_eq!(server.ask("POST", "/pub/a,b,c", &[], b"x").status, 400);
    assert_eq!(server.get("/sub/a,b?after=oldest", &[]).status, 200);
    assert_eq!(server.get("/sub/a,b,c?after=oldest", &[]).status, 400);
}

#[test]
fn messages_per_batch() {
    let server = Encke::start(&["--limits-batch-messages", "5"]);
    server.publish("x", "1");
    assert_eq!(server.get("/sub/x?after=oldest&max=5", &["Accept: application/json"]).status, 200);
    let answer = server.get("/sub/x?after=oldest&max=6", &["Accept: application/json"]);
    assert_eq!(answer.status, 400);
    assert!(answer.json()["detail"].as_str().unwrap().contains('5'), "names the limit: {}", answer.text());
}

#[test]
fn the_oldest_idempotency_key_is_forgotten_first() {
    let server = Encke::start(&["--limits-idempotency-keys", "2"]);
    let mut publisher = server.admin();
    let mut publish = |key: &str| publisher.publish("x", &[&format!("Idempotency-Key: {key}")], b"x");
    let ids = ["k1", "k2", "k3"].map(&mut publish);
    assert_eq!(publish("k3"), ids[2]);
    assert_eq!(publish("k2"), ids[1]);
    assert_ne!(publish("k1"), ids[0]);
}

#[test]
fn empty_channels_disappear_when_nobody_listens() {
    let server = Encke::start(&["--channel-idle-seconds", "1"]);
    let poll = server.park("/sub/empty?timeout=300", &[], "empty", 1);
    server.admin().publish("gone", &["Encke-TTL: 1"], b"x");
    server.publish("kept", "x");
    until("the expired channel is forgotten", || (server.get("/pub/gone", &[]).status == 404).then_some(()));
    assert_eq!(server.get("/pub/kept", &[]).status, 200, "it has a message");
    assert_eq!(server.get("/pub/empty", &[]).status, 200, "it has a subscriber");
    // Closed in good order, it might still read its answer.
    poll.reset();
    until("the left channel is forgotten", || (server.get("/pub/empty", &[]).status == 404).then_some(()));
}
