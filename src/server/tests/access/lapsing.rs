//! Tokens that expire, are renewed, or come later.

use super::super::bench::Bench;
use super::{NOW, alice, bench, config, has, status, token, with};
use crate::config::Config;

#[test]
fn expiry_ends_listening_in_band_on_every_technique() {
    let ends: [(&str, &str, &[&str]); 10] = [
        ("", "", &["HTTP/1.1 401 ", "error=\"invalid_token\"", "has expired", "Encke-Next: "]),
        ("?as=jsonp&callback=f", "", &["HTTP/1.1 200 ", "/**/f([],\"", "\",{\"expired\":true});"]),
        ("?as=sse", "", &["event: encke.expired\nid: ", "\ndata: {\"expired\":true}\n\n", "0\r\n\r\n"]),
        ("?as=sse-envelope", "", &["id: ", "data: {\"expired\":true,\"next\":\""]),
        ("?as=stream", "", &["{\"expired\":true,\"next\":\"", "\"}\n", "0\r\n\r\n"]),
        ("?as=raw", "", &["0\r\n\r\n"]),
        ("?as=iframe", "", &["<script>e({\"expired\":true,\"next\":\"", "0\r\n\r\n"]),
        ("?as=multipart", "", &["Encke-Expired: true\r\nEncke-Next: ", "{\"expired\":true", "--\r\n"]),
        ("?as=x-mixed-replace", "", &["Encke-Expired: true\r\n", "Content-Length: 0\r\n"]),
        ("?timeout=300&max=2", "Accept: application/json\r\n", &["HTTP/1.1 401 ", "Encke-Next: "]),
    ];
    for (query, fields, expected) in ends {
        // Open channels end, too: a good token that ends does not make its bearer anonymous.
        for channel in ["chat/a", "news"] {
            let mut bench = bench();
            let id = bench.connect();
            let good = with(&alice());
            bench.send(id, &format!("GET /sub/{channel}{query} HTTP/1.1\r\nHost: x\r\n{fields}{good}\r\n"));
            bench.turn();
            let begun = bench.heard(id);
            let waits = query.is_empty() || query.contains("jsonp") || query.contains("timeout");
            if waits && !query.contains("timeout") {
                // The poll that runs out is asked again with the same token.
                bench.seconds(29);
                assert_eq!(bench.heard(id), "");
                bench.seconds(1);
                assert!(!bench.heard(id).is_empty());
                bench.send(
                    id,
                    &format!(
                        "GET /sub/{channel}{query}{}timeout=300 HTTP/1.1\r\nHost: x\r\n{good}\r\n",
                        if query.is_empty() { "?" } else { "&" }
                    ),
                );
                bench.turn();
                bench.seconds(59);
            } else {
                assert!(waits || begun.starts_with("HTTP/1.1 200"), "{begun}");
                bench.seconds(89);
            }
            let before = bench.heard(id);
            assert!(!before.contains("expired"), "{query}: {before}");
            bench.seconds(1);
            has(&bench.heard(id), expected);
            bench.publish(channel, "secret", None);
            bench.seconds(1);
            assert_eq!(bench.heard(id), "", "{query}");
            assert_eq!(bench.server.hub().gauges().subscribers, 0);
        }
    }
}

#[test]
fn a_clock_that_steps_ends_what_has_ended_by_it() {
    let mut bench = bench();
    let id = bench.connect();
    bench.send(id, &format!("GET /sub/chat/a?as=sse HTTP/1.1\r\nHost: x\r\n{}\r\n", with(&alice())));
    bench.turn();
    bench.heard(id);
    bench.world.skew = 100;
    bench.seconds(1);
    has(&bench.heard(id), &["encke.expired"]);
    // Nor is there a timer that goes off by itself when the clock was set back.
    bench.world.skew = -100;
    bench.seconds(1);
    let (socket, _) = bench.socket("/sub/chat/a", &with(&alice()));
    bench.seconds(120);
    assert!(!bench.heard(socket).contains("expired"));
    bench.seconds(80);
    has(&bench.heard(socket), &["{\"expired\":true,\"next\":\""]);
}

#[test]
fn who_does_not_drain_is_cut_soon() {
    let mut bench = bench();
    let id = bench.connect();
    bench.send(id, &format!("GET /sub/chat/a?as=sse HTTP/1.1\r\nHost: x\r\n{}\r\n", with(&alice())));
    bench.turn();
    bench.heard(id);
    bench.seconds(88);
    bench.world.socket(id).capacity = 10;
    bench.publish("chat/a", &"x".repeat(100), None);
    bench.turn();
    bench.seconds(2);
    assert!(!bench.world.socket(id).closed);
    bench.seconds(6);
    assert!(bench.world.socket(id).closed);
}

#[test]
fn a_websocket_is_renewed_and_loses_what_is_not_granted_any_more() {
    let mut bench = bench();
    let (id, opened) = bench.socket("/sub/chat/a,chat/b,news", &with(&alice()));
    status(&opened, 101);
    // Of another subject, or bad: nothing changes.
    let bob = token("bob", NOW + 600, &["chat/**"], &[]);
    has(
        &bench.tell(id, &format!("{{\"token\":\"{bob}\",\"ref\":1}}")),
        &["\"ref\":1,\"error\":\"", "another subject"],
    );
    has(&bench.tell(id, "{\"token\":\"x\"}"), &["\"error\":\"the token is not a signed JWT"]);
    has(&bench.tell(id, "{\"subscribe\":[\"ops/a\"]}"), &["listening to \\\"ops/a\\\" is not granted"]);
    has(&bench.tell(id, r#"{"publish":{"channel":"chat/lobby","data":1},"ref":2}"#), &["\"ok\""]);
    // A renewed one lasts longer, and grants less.
    let renewed = token("alice", NOW + 600, &["chat/a"], &[]);
    let answer = bench.tell(id, &format!("{{\"token\":\"{renewed}\",\"ref\":7}}"));
    has(
        &answer,
        &[
            "{\"revoked\":true,\"channels\":[\"chat/b\"]}",
            &format!("{{\"ref\":7,\"ok\":{{\"expires\":{}}}}}", NOW + 600),
        ],
    );
    has(&bench.tell(id, r#"{"publish":{"channel":"chat/lobby","data":1},"ref":2}"#), &["\"error\""]);
    bench.seconds(200);
    bench.heard(id);
    for channel in ["chat/a", "chat/b", "news"] {
        bench.publish(channel, channel, None);
    }
    bench.turn();
    let heard = bench.heard(id);
    has(&heard, &["\"chat/a\"", "\"news\""]);
    assert!(!heard.contains("chat/b"), "{heard}");
    bench.seconds(430);
    let end = bench.heard(id);
    has(&end, &["{\"expired\":true,\"next\":\"", "\u{11}1the token has expired"]);
}

#[test]
fn a_token_may_come_later() {
    let mut bench = bench();
    let (_, refused) = bench.socket("/sub/chat/a", "");
    status(&refused, 401);
    let (id, opened) = bench.socket("/sub/", "");
    status(&opened, 101);
    has(&bench.tell(id, "{\"subscribe\":[\"chat/a\"]}"), &["listening to \\\"chat/a\\\" needs a token"]);
    let token = format!("{{\"token\":\"{}\"}}", alice());
    has(&bench.tell(id, &token), &["{\"ok\":{\"expires\":"]);
    bench.tell(id, "{\"subscribe\":[\"chat/a\"]}");
    bench.publish("chat/a", "hello", None);
    bench.turn();
    has(&bench.heard(id), &["hello"]);
    bench.seconds(30);
    assert!(!bench.world.socket(id).ended);
    // One that never says what it wants is closed.
    let (id, _) = bench.socket("/sub/", "");
    bench.seconds(9);
    assert!(!bench.world.socket(id).ended);
    bench.seconds(1);
    has(&bench.heard(id), &["\u{11}1"]);
    // Without rules and tokens there is nothing to come later.
    let mut plain = Bench::new(Config::default());
    let (_, refused) = plain.socket("/sub/", "");
    status(&refused, 400);
}

#[test]
fn bad_tokens_of_one_address_are_verified_so_often_only() {
    let mut config = config();
    config.limits.tokens_refused_per_second = 3;
    let mut bench = Bench::new(config);
    for expected in [401, 401, 401, 429, 429] {
        let answer = bench.get_with("/sub/chat/a", &with("x"));
        status(&answer, expected);
        assert_eq!(answer.contains("Retry-After: 1\r\n"), expected == 429);
    }
    // Not even a good one that has not been seen; but one that was verified before is no work.
    status(&bench.get_with("/sub/chat/a?as=interval", &with(&alice())), 429);
    bench.seconds(1);
    status(&bench.get_with("/sub/chat/a?as=interval", &with(&alice())), 304);
    for _ in 0..4 {
        bench.get_with("/sub/chat/a", &with("x"));
    }
    status(&bench.get_with("/sub/chat/a?as=interval", &with(&alice())), 304);
    // A WebSocket is closed.
    let (socket, _) = bench.socket("/sub/news", "");
    let goodbye = bench.tell(socket, "{\"token\":\"x\"}");
    assert!(goodbye.ends_with("too many bad tokens"), "{goodbye}");
    assert!(bench.world.socket(socket).ended);
}
