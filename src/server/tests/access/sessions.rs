//! Tokens in protocols with sessions: Bayeux, FDAjax.

use super::super::bench::Bench;
use super::{NOW, alice, bayeux, bench, config, handshake, has, rule, status, token, with};
use crate::config::Who;
use serde_json::{Value, json};

#[test]
fn bayeux_sessions_have_one_identity() {
    let mut bench = bench();
    let bad = handshake(&mut bench, "", json!({"token": "x"}));
    assert_eq!((&bad["error"], &bad["advice"]["reconnect"]), (&json!("401::invalid_token"), &json!("none")));
    let bad = handshake(&mut bench, &with("x"), json!({}));
    assert_eq!((&bad["error"], &bad["advice"]["reconnect"]), (&json!("401::invalid_token"), &json!("none")));

    let nobody = handshake(&mut bench, "", json!({}));
    let alice_session = handshake(&mut bench, "", json!({"token": alice()}));
    let by_header = handshake(&mut bench, &with(&alice()), json!({}));
    let subscribe = |session: &Value, channel: &str| json!([{"channel": "/meta/subscribe", "clientId": session["clientId"], "subscription": channel}]);
    let publish = |session: &Value, channel: &str| json!([{"channel": channel, "clientId": session["clientId"], "data": 1}]);
    for (session, channel, error) in [
        (&nobody, "/news", Value::Null),
        (&nobody, "/chat/a", json!("401:/chat/a:subscribe_denied")),
        (&nobody, "/**", json!("401:/**:subscribe_denied")),
        (&alice_session, "/chat/a", Value::Null),
        (&by_header, "/chat/*", Value::Null),
        (&alice_session, "/ops/a", json!("403:/ops/a:subscribe_denied")),
    ] {
        assert_eq!(bayeux(&mut bench, "", subscribe(session, channel))[0]["error"], error, "{channel}");
    }
    for (session, channel, error) in [
        (&nobody, "/wall/a", Value::Null),
        (&nobody, "/chat/lobby", json!("401:/chat/lobby:publish_denied")),
        (&nobody, "/news", json!("403:/news:publish_denied")),
        (&alice_session, "/chat/lobby", Value::Null),
        (&alice_session, "/chat/b", json!("403:/chat/b:publish_denied")),
        (&alice_session, "/ops/b", json!("403:/ops/b:publish_denied")),
    ] {
        assert_eq!(bayeux(&mut bench, "", publish(session, channel))[0]["error"], error, "{channel}");
    }
    // Somebody else's token at the session.
    let bob = with(&token("bob", NOW + 60, &["chat/**"], &[]));
    let refused = bayeux(&mut bench, &bob, subscribe(&alice_session, "/chat/c"));
    assert_eq!(refused[0]["error"], json!("403::another_subject"));
    assert_eq!(
        bayeux(&mut bench, &with("x"), subscribe(&alice_session, "/chat/c"))[0]["error"],
        "401::invalid_token"
    );
}

#[test]
fn bayeux_sessions_are_renewed_and_expire() {
    let mut bench = bench();
    let connect = |session: &Value, ext: Value| {
        json!([{"channel": "/meta/connect", "clientId": session["clientId"],
            "connectionType": "long-polling", "ext": ext}])
    };
    let session = handshake(&mut bench, "", json!({"token": alice()}));
    for channel in ["/chat/a", "/chat/b"] {
        let subscribe =
            json!([{"channel": "/meta/subscribe", "clientId": session["clientId"], "subscription": channel}]);
        assert_eq!(bayeux(&mut bench, "", subscribe)[0]["successful"], true);
    }
    assert_eq!(bayeux(&mut bench, "", connect(&session, json!({})))[0]["successful"], true);
    let bob = token("bob", NOW + 600, &["chat/**"], &[]);
    for (ext, error) in [(bob.as_str(), "403::another_subject"), ("x", "401::invalid_token")] {
        let refused = bayeux(&mut bench, "", connect(&session, json!({"token": ext})));
        assert_eq!(
            (&refused[0]["error"], &refused[0]["advice"]["reconnect"]),
            (&json!(error), &json!("retry"))
        );
    }
    let renewed = token("alice", NOW + 100, &["chat/a"], &[]);
    let held = bench.connect();
    let body = connect(&session, json!({"token": renewed})).to_string();
    bench.send(
        held,
        &format!("POST /bayeux HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
    );
    bench.turn();
    bench.publish("chat/b", "not granted any more", None);
    bench.turn();
    assert_eq!(bench.heard(held), "");
    bench.publish("chat/a", "granted", None);
    bench.turn();
    has(&bench.heard(held), &["granted", "/meta/connect"]);
    let body = connect(&session, json!({})).to_string();
    let again = format!("POST /bayeux HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for _ in 0..4 {
        bench.send(held, &again);
        bench.turn();
        bench.seconds(29);
        assert_eq!(bench.heard(held), "");
        bench.seconds(1);
        has(&bench.heard(held), &["\"successful\":true"]);
    }
    // The first token would have ended at ninety seconds, the second does at a hundred and thirty.
    bench.send(held, &again);
    bench.turn();
    bench.seconds(10);
    has(&bench.heard(held), &["\"successful\":false", "401::token_expired"]);
}

#[test]
fn a_held_connect_is_told_that_its_token_has_expired() {
    let mut bench = bench();
    let session = handshake(&mut bench, "", json!({"token": token("alice", NOW - 20, &["chat/**"], &[])}));
    let connect = json!([{"channel": "/meta/connect", "clientId": session["clientId"], "connectionType": "long-polling"}]);
    assert_eq!(bayeux(&mut bench, "", connect.clone())[0]["successful"], true);
    let held = bench.connect();
    let body = connect.to_string();
    bench.send(
        held,
        &format!("POST /bayeux HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
    );
    bench.turn();
    bench.seconds(9);
    assert_eq!(bench.heard(held), "");
    bench.seconds(1);
    has(&bench.heard(held), &["\"successful\":false", "401::token_expired", "\"reconnect\":\"handshake\""]);
    assert_eq!(bench.server.stats().sessions_refused, 0);
}

#[test]
fn fdajax_groups_are_channels_with_rules() {
    let mut config = config();
    config.fdajax.enabled = true;
    config.fdajax.win_timeout = 5000;
    config.channels.insert(0, rule("fdajax/groups/feed", Who::Token, None));
    let mut bench = Bench::new(config);
    let wait = "/live.fdajax?cmd=wait&types=feed&win_id=7";
    let session = "Cookie: _session_id=abcdef0123456789abcdef0123456789\r\n";
    let refused = bench.get_with(wait, session);
    status(&refused, 401);
    let bob = with(&token("bob", NOW + 60, &["chat/**"], &[]));
    status(&bench.get_with(wait, &format!("{session}{bob}")), 403);
    status(&bench.get_with(wait, &format!("{session}{}", with("x"))), 401);

    let carol = with(&token("carol", NOW - 20, &["fdajax/groups/*"], &[]));
    let id = bench.connect();
    bench.send(id, &format!("GET {wait} HTTP/1.1\r\nHost: x\r\n{session}{carol}\r\n"));
    bench.turn();
    assert_eq!(bench.heard(id), "");
    bench.seconds(9);
    assert_eq!(bench.heard(id), "");
    bench.seconds(1);
    has(&bench.heard(id), &["HTTP/1.1 401 ", "has expired"]);
}
