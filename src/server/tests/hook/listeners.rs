//! Who listens by the application's word: it is asked about them again, and what becomes of them.

use super::{COOKIE, OURS, bench, config};
use crate::config::Who;
use crate::conn::ConnId;
use crate::dialect::hook::Reply;
use crate::server::tests::access::{has, revoke, rule, status};
use crate::server::tests::bench::Bench;
use serde_json::{Value, json};

/// Somebody who listens by the application's word for ten seconds.
fn for_ten_seconds(bench: &mut Bench, target: &str) -> ConnId {
    let id = bench.get_waits(target, COOKIE);
    bench.say(&json!({"allow": true, "subject": "alice", "expires_in": 10, "cache_seconds": 0}));
    bench.heard(id);
    id
}

#[test]
fn who_listens_is_judged_again_in_the_last_fifth_and_goes_on_meanwhile() {
    let mut bench = bench();
    let id = for_ten_seconds(&mut bench, "/sub/room/a?as=stream");
    bench.world.advance(7_999);
    bench.turn();
    assert!(bench.asked.is_empty());
    bench.world.advance(2_000);
    bench.turn();
    let (number, question) = bench.question();
    assert_eq!(question["channels"], json!(["room/a"]));
    bench.publish("room/a", "meanwhile", None);
    bench.turn();
    has(&bench.heard(id), &["meanwhile"]);
    bench.answer(number, 200, &json!({"allow": true, "subject": "alice", "expires_in": 10}));
    bench.seconds(7);
    assert!(!bench.heard(id).contains('{'), "signs of life only");
    bench.world.advance(2_999);
    bench.turn();
    bench.say(&json!({"allow": false}));
    has(&bench.heard(id), &["{\"revoked\":true,\"next\":\""]);
    bench.publish("room/a", "secret", None);
    bench.turn();
    assert_eq!(bench.heard(id), "");
    assert!(bench.server.access.hook.is_idle());
}

#[test]
fn an_application_that_is_gone_is_asked_until_the_time_is_over() {
    let mut bench = bench();
    let id = for_ten_seconds(&mut bench, "/sub/room/a?as=stream");
    bench.world.advance(7_900);
    let mut times = 0;
    for _ in 0..21 {
        bench.world.advance(100);
        bench.turn();
        for ask in std::mem::take(&mut bench.asked) {
            assert_eq!(bench.heard(id), "");
            bench.reply(ask.number, &Reply::Failed("refused".into()));
            times += 1;
        }
    }
    assert!((1..=3).contains(&times), "{times} times");
    has(&bench.heard(id), &["{\"expired\":true"]);
}

#[test]
fn expiry_is_told_in_the_words_of_each_technique() {
    for (query, expected) in [
        ("?as=sse", "event: encke.expired"),
        ("?as=stream", "{\"expired\":true,\"next\":\""),
        ("?timeout=300", "HTTP/1.1 503 "),
        ("?as=jsonp&callback=f&timeout=300", "{\"expired\":true}"),
    ] {
        let mut bench = bench();
        let id = for_ten_seconds(&mut bench, &format!("/sub/room/a{query}"));
        bench.seconds(10);
        has(&bench.heard(id), &[expected]);
        assert_eq!(bench.server.hub().gauges().subscribers, 0);
    }
    let mut bench = bench();
    let (id, _) = bench.socket("/sub/news", COOKIE);
    bench.tell(id, "{\"subscribe\":[\"room/a\",\"room/b\"]}");
    bench.say(&json!({"allow": true, "subject": "alice", "expires_in": 10}));
    bench.seconds(10);
    has(&bench.heard(id), &["{\"expired\":true,\"next\":\"", "\u{11}1"]);
}

#[test]
fn a_websocket_loses_what_is_not_allowed_any_more() {
    let mut bench = bench();
    let (id, _) = bench.socket("/sub/news", COOKIE);
    bench.tell(id, "{\"subscribe\":[\"room/a\",\"room/b\",\"room/c\"]}");
    bench.say(&json!({"allow": true, "subject": "alice", "expires_in": 10, "cache_seconds": 0}));
    bench.tell(id, "{\"unsubscribe\":[\"room/c\"]}");
    bench.world.advance(9_999);
    bench.turn();
    let question = bench.say(&json!({"allow": ["room/b"], "subject": "alice", "expires_in": 10}));
    assert_eq!(question["channels"], json!(["room/a", "room/b"]), "what it left is not asked about");
    has(&bench.heard(id), &["{\"revoked\":true,\"channels\":[\"room/a\"]}"]);
    // Somebody else by now.
    bench.world.advance(9_999);
    bench.turn();
    bench.say(&json!({"allow": true, "subject": "bob"}));
    has(&bench.heard(id), &["{\"revoked\":true,\"next\":\""]);
}

#[test]
fn a_revocation_ends_it_and_what_was_on_its_way_is_asked_again() {
    let mut bench = bench();
    let listener = bench.get_waits("/sub/room/a?as=stream", COOKIE);
    bench.say(&json!({"allow": true, "subject": "alice"}));
    bench.heard(listener);
    let (socket, _) = bench.socket("/sub/news", COOKIE);
    bench.tell(socket, "{\"subscribe\":[\"room/a\",\"room/b\"]}");
    bench.say(&json!({"allow": true, "subject": "alice"}));
    bench.heard(socket);
    let waiting = bench.get_waits("/sub/room/c?as=interval", COOKIE);
    let (number, _) = bench.question();
    assert_eq!(revoke(&mut bench, &json!({"subject": "bob"})), 0);
    assert_eq!(revoke(&mut bench, &json!({"subject": "alice", "channels": ["room/b"]})), 1);
    has(&bench.heard(socket), &["{\"revoked\":true,\"channels\":[\"room/b\"]}"]);
    assert_eq!(revoke(&mut bench, &json!({"subject": "alice"})), 2);
    has(&bench.heard(listener), &["\"revoked\":true"]);
    has(&bench.heard(socket), &["\"revoked\":true"]);
    // The answer that was on its way is thrown away.
    bench.answer(number, 200, &json!({"allow": true}));
    assert_eq!(bench.heard(waiting), "");
    bench.say(&json!({"allow": false}));
    status(&bench.heard(waiting), 403);
    // What was remembered is forgotten.
    bench.get_waits("/sub/room/a?as=stream", COOKIE);
    bench.question();
}

#[test]
fn after_a_reload_those_who_listen_are_asked_about_again() {
    let mut bench = bench();
    let ids: Vec<ConnId> = (0..20)
        .map(|number| {
            let id = bench.get_waits("/sub/room/a?as=stream", &format!("Cookie: a={number}\r\n{OURS}"));
            bench.say(&json!({"allow": true, "subject": format!("user{number}")}));
            bench.heard(id);
            id
        })
        .collect();
    bench.server.reconfigure(config());
    bench.turn();
    for _ in 0..30 {
        bench.world.advance(100);
        bench.turn();
        assert!(bench.asked.len() <= 16);
        for ask in std::mem::take(&mut bench.asked) {
            let question: Value = serde_json::from_slice(&ask.body).unwrap();
            let number: usize = question["headers"]["cookie"].as_str().unwrap()[2..].parse().unwrap();
            bench.answer(
                ask.number,
                200,
                &json!({"allow": number.is_multiple_of(2), "subject": format!("user{number}")}),
            );
        }
    }
    for (number, id) in ids.into_iter().enumerate() {
        let heard = bench.heard(id);
        assert_eq!(heard.contains("\"revoked\":true"), number % 2 == 1, "{number}: {heard}");
    }
    // A rule that begins to ask ends those of whom nothing is known.
    let late = bench.client("GET /sub/hall?as=stream HTTP/1.1\r\nHost: x\r\n\r\n").0;
    let mut config = config();
    config.channels.insert(0, rule("hall", Who::Hook, None));
    bench.server.reconfigure(config);
    bench.turn();
    has(&bench.heard(late), &["\"revoked\":true"]);
}
