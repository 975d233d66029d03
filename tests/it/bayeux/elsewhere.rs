//! A session whose server is gone, among several that share a history: the client begins anew elsewhere, and misses nothing.

use super::*;
use crate::cluster::{node, well};
use crate::redis::Redis;

fn begin(server: &Encke) -> Session<'_> {
    let mut message = handshake();
    message["ext"] = json!({"ack": true});
    let mut session = Session::handshake(server, &message);
    assert_eq!(batch(&session.connect(json!({"ack": 0}))), 1);
    session
}

/// The number of the batch in the answer to a connect.
fn batch(answer: &[Value]) -> u64 {
    answer.last().unwrap()["ext"]["ack"].as_u64().unwrap_or_else(|| panic!("no batch: {answer:?}"))
}

/// The number in each event, and the position that it tells.
fn told(answer: &[Value]) -> Vec<(u64, i64)> {
    let pair = |data: &Value| (data["n"].as_u64().unwrap(), data["event"]["replayId"].as_i64().unwrap());
    events(answer).iter().map(pair).collect()
}

#[test]
fn a_session_that_is_begun_anew_on_another_server_replays_what_was_not_acknowledged() {
    let redis = Redis::start(&[]);
    let start = || {
        let server = node(&redis.url(), &["--bayeux-publish", "**"]);
        well(&server);
        server
    };
    let (one, other) = (start(), start());
    let mut session = begin(&one);
    let publish = |number: u32| post(&mut other.connect(), &json!({"channel": "/a", "data": {"n": number}}));
    // It is told positions, as it may have to say where it was.
    let subscribe = |position: i64| json!({"channel": "/meta/subscribe", "subscription": "/a", "ext": {"replay": {"/a": position}}});
    assert!(ok(&session.ask(subscribe(-1))));
    assert!((1..=2).all(|number| ok(&publish(number)[0])));
    let numbers = |got: &[(u64, i64)]| got.iter().map(|one| one.0).collect::<Vec<_>>();
    let mut got = Vec::new();
    let mut acknowledged = 1;
    while got.len() < 2 {
        let answer = session.connect(json!({"ack": acknowledged}));
        got.extend(told(&answer));
        acknowledged = batch(&answer);
    }
    assert_eq!(numbers(&got), [1, 2]);
    // What comes now is sent and not acknowledged, and then the server is gone.
    publish(3);
    let mut lost = Vec::new();
    while lost.is_empty() {
        lost = told(&session.connect(json!({"ack": acknowledged})));
    }
    assert_eq!(numbers(&lost), [3]);
    let id = session.id.clone();
    drop(session);
    drop(one);
    publish(4);
    let mut stale = other.connect();
    let connect =
        json!({"channel": "/meta/connect", "clientId": id, "connectionType": "long-polling", "id": "9"});
    let refused = post(&mut stale, &connect);
    assert!(!ok(&refused[0]) && refused[0]["advice"]["reconnect"] == "handshake", "{refused:?}");
    let mut session = begin(&other);
    let position = got.last().unwrap().1;
    assert!(ok(&session.ask(subscribe(position))));
    let again = told(&session.connect(json!({"ack": 1})));
    assert_eq!(numbers(&again), [3, 4], "each once, in order");
    assert_eq!(again[0], lost[0], "positions are the same on all");
}
