//! A server that takes over while the application is asked: whatever waits for its word goes over with its bytes, and is
//! asked about anew.

use super::access::{handshake, has, rule, status};
use super::bench::Bench;
use super::handover::adopt;
use super::hook::{COOKIE, config};
use crate::config::{Config, Who};
use crate::dialect::hook::Reply;
use crate::server::Server;
use serde_json::{Value, json};

/// Has another server take over, which asks what `question` says.
fn asked_anew(bench: &mut Bench, action: &str, channels: &Value) {
    bench.turn();
    adopt(bench);
    bench.turn();
    bench.server.check(bench.world.now);
    let asked = bench.say(&json!({"allow": true, "subject": "alice"}));
    assert_eq!((&asked["action"], &asked["channels"]), (&json!(action), channels));
}

#[test]
fn requests_that_wait_go_over() {
    let mut bench = Bench::new(config());
    let poll = bench.get_waits("/sub/room/a?as=interval", COOKIE);
    asked_anew(&mut bench, "subscribe", &json!(["room/a"]));
    status(&bench.heard(poll), 304);
    let stream = bench.get_waits("/sub/room/b?as=stream", COOKIE);
    asked_anew(&mut bench, "subscribe", &json!(["room/b"]));
    status(&bench.heard(stream), 200);
    // Twice in a row, and what is pipelined behind.
    let both = format!(
        "POST /pub/room/b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n{COOKIE}\r\nhelloGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    );
    let publisher = bench.asks(&both);
    adopt(&mut bench);
    asked_anew(&mut bench, "publish", &json!(["room/b"]));
    let heard = bench.heard(publisher);
    has(&heard, &["HTTP/1.1 201", "HTTP/1.1 200"]);
    has(&bench.heard(stream), &["hello"]);
}

#[test]
fn a_body_is_asked_for_only_when_it_is_allowed() {
    let mut bench = Bench::new(config());
    let head = format!(
        "POST /pub/room/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n{COOKIE}\r\n"
    );
    for allowed in [true, false] {
        let id = bench.asks(&head);
        adopt(&mut bench);
        bench.turn();
        assert_eq!(bench.heard(id), "", "nobody has said that it may come");
        bench.say(&json!({"allow": allowed, "cache_seconds": 0}));
        match allowed {
            true => {
                has(&bench.heard(id), &["100 Continue"]);
                bench.send(id, "hello");
                bench.turn();
                // It was allowed by what was said to this server.
                if !bench.asked.is_empty() {
                    bench.say(&json!({"allow": true, "cache_seconds": 0}));
                }
                status(&bench.heard(id), 202);
            }
            false => status(&bench.heard(id), 403),
        }
        bench.server.check(bench.world.now);
    }
}

#[test]
fn what_was_said_in_the_same_moment_goes_over() {
    let mut bench = Bench::new(config());
    let id = bench.get_waits("/sub/room/a?as=interval", COOKIE);
    let (number, _) = bench.question();
    let body = json!({"allow": true, "cache_seconds": 0}).to_string().into_bytes();
    let reply = Reply::Answer { status: 200, body };
    // Its turn has not come yet.
    bench.server.hear_answer(bench.world.now, number, &reply, &mut bench.world);
    adopt(&mut bench);
    bench.turn();
    assert!(bench.asked.is_empty(), "it is known");
    status(&bench.heard(id), 304);
    bench.server.check(bench.world.now);
}

#[test]
fn commands_and_sessions_that_wait_go_over() {
    let mut config = config();
    config.fdajax.enabled = true;
    config.channels.insert(0, rule("fdajax/groups/feed", Who::Hook, None));
    let mut bench = Bench::new(config);
    let (socket, opened) = bench.socket("/sub/news", COOKIE);
    status(&opened, 101);
    assert_eq!(bench.tell(socket, "{\"subscribe\":[\"room/a\"],\"ref\":1}"), "");
    assert_eq!(bench.tell(socket, "{\"subscribe\":[],\"ref\":2}"), "", "it waits behind");
    asked_anew(&mut bench, "subscribe", &json!(["room/a"]));
    let heard = bench.heard(socket);
    has(&heard, &["{\"ref\":1,\"ok\":true}", "{\"ref\":2,\"ok\":true}"]);
    assert!(heard.find("\"ref\":1") < heard.find("\"ref\":2"), "in their order: {heard}");

    let client = handshake(&mut bench, COOKIE, json!({}))["clientId"].clone();
    let subscribe =
        json!([{"channel": "/meta/subscribe", "clientId": client, "subscription": "/room/b", "id": "1"}]);
    let post = bench.post_waits("/bayeux", COOKIE, &subscribe.to_string());
    asked_anew(&mut bench, "subscribe", &json!(["room/b"]));
    has(&bench.heard(post), &["\"channel\":\"/meta/subscribe\",\"successful\":true"]);
    let (over_socket, opened) = bench.socket("/bayeux", COOKIE);
    status(&opened, 101);
    let publish = json!([{"channel": "/room/b", "clientId": client, "data": "x", "id": "2"}]);
    assert_eq!(bench.tell(over_socket, &publish.to_string()), "");
    asked_anew(&mut bench, "publish", &json!(["room/b"]));
    has(&bench.heard(over_socket), &["\"id\":\"2\",\"channel\":\"/room/b\",\"successful\":true"]);

    let session = "Cookie: _session_id=abcdef0123456789abcdef0123456789\r\nOrigin: http://x\r\n";
    let window = bench.get_waits("/live.fdajax?cmd=wait&types=feed&win_id=7", session);
    asked_anew(&mut bench, "subscribe", &json!(["fdajax/groups/feed"]));
    assert_eq!(bench.heard(window), "", "the window is open");
    bench.publish("fdajax/groups/feed", "to the feed", None);
    bench.turn();
    bench.server.check(bench.world.now);
}

#[test]
fn rules_of_the_next_server_count() {
    let mut bench = Bench::new(config());
    let id = bench.get_waits("/sub/room/a?as=interval", COOKIE);
    let (socket, opened) = bench.socket("/sub/news", COOKIE);
    status(&opened, 101);
    assert_eq!(bench.tell(socket, "{\"subscribe\":[\"room/a\"],\"ref\":1}"), "");
    let state = bench.server.part();
    let config = Config { channels: Vec::new(), ..bench.server.config().clone() };
    bench.server = Server::adopt(config, &state, bench.world.now).unwrap();
    bench.asked.clear();
    bench.turn();
    assert!(bench.asked.is_empty(), "nobody has to be asked any more");
    status(&bench.heard(id), 304);
    has(&bench.heard(socket), &["{\"ref\":1,\"ok\":true}"]);
    assert!(bench.server.access.hook.is_idle());
    bench.server.check(bench.world.now);
}

#[test]
fn a_command_that_waits_outlives_the_rules_that_asked() {
    let mut bench = Bench::new(config());
    let (socket, opened) = bench.socket("/sub/news", COOKIE);
    status(&opened, 101);
    assert_eq!(bench.tell(socket, "{\"subscribe\":[\"room/a\"],\"ref\":1}"), "");
    let (number, _) = bench.question();
    let config = Config { channels: Vec::new(), token_keys: Vec::new(), ..bench.server.config().clone() };
    bench.server.reconfigure(config);
    bench.turn();
    let reply = Reply::Answer { status: 200, body: b"{\"allow\":true}".to_vec() };
    bench.server.hear_answer(bench.world.now, number, &reply, &mut bench.world);
    bench.turn();
    // That was asked before, so it does not count, and is asked again.
    bench.say(&json!({"allow": true}));
    has(&bench.heard(socket), &["{\"ref\":1,\"ok\":true}"]);
    has(&bench.tell(socket, "{\"subscribe\":[],\"ref\":2}"), &["{\"ref\":2,\"ok\":true}"]);
    bench.server.check(bench.world.now);
}
