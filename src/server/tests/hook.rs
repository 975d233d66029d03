//! The application that is asked: it answers, late, wrongly or never, and what becomes of who waits.

use super::access::{NOW, bayeux, handshake, has, revoke, rule, status, with};
use super::delivery::Bench;
use crate::config::{Config, Who};
use crate::conn::ConnId;
use crate::dialect::hook::{Ask, Reply};
use crate::id::Random;
use serde_json::{Value, json};

const OURS: &str = "Origin: http://x\r\n";
pub const COOKIE: &str = "Cookie: session=abc\r\nOrigin: http://x\r\n";

pub fn config() -> Config {
    let mut config = super::access::config();
    config.channels = vec![
        rule("room/**", Who::Hook, Some(Who::Hook)),
        rule("chat/**", Who::Token, Some(Who::Token)),
        rule("**", Who::Anyone, None),
    ];
    config.hook.url = Some("http://127.0.0.1:1/".into());
    config.limits.exempt = Vec::new();
    config
}

fn bench() -> Bench {
    Bench::new(config())
}

impl Bench {
    /// The question that the application has been asked, as JSON, and its number.
    pub fn question(&mut self) -> (u64, Value) {
        assert_eq!(self.asked.len(), 1, "{:?}", self.asked);
        let Ask { number, body, .. } = self.asked.remove(0);
        (number, serde_json::from_slice(&body).unwrap())
    }

    fn answer(&mut self, number: u64, status: u16, body: &Value) {
        let body = match body {
            Value::String(text) => text.clone().into_bytes(),
            body => body.to_string().into_bytes(),
        };
        self.reply(number, &Reply::Answer { status, body });
    }

    fn reply(&mut self, number: u64, reply: &Reply) {
        self.server.hear_answer(self.world.now, number, reply, &mut self.world);
        self.turn();
    }

    /// Answers the one question that is open.
    pub fn say(&mut self, body: &Value) -> Value {
        let (number, question) = self.question();
        self.answer(number, 200, body);
        question
    }

    pub fn asks(&mut self, request: &str) -> ConnId {
        let id = self.connect();
        self.send(id, request);
        self.turn();
        assert_eq!(self.heard(id), "", "it waits");
        id
    }

    pub fn get_waits(&mut self, target: &str, fields: &str) -> ConnId {
        self.asks(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n"))
    }

    pub fn post_waits(&mut self, target: &str, fields: &str, body: &str) -> ConnId {
        let length = body.len();
        self.asks(&format!(
            "POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
        ))
    }
}

#[test]
fn a_request_waits_for_the_word_and_is_judged_by_it() {
    let mut bench = bench();
    let id = bench.get_waits("/sub/room/a?as=stream", COOKIE);
    let question = bench.say(&json!({"allow": true, "subject": "alice"}));
    let client = json!({"address": "127.0.0.1", "origin": "http://x", "technique": "stream"});
    assert_eq!(
        question,
        json!({"action": "subscribe", "channels": ["room/a"], "client": client,
        "headers": {"cookie": "session=abc"}})
    );
    status(&bench.heard(id), 200);
    bench.publish("room/a", "hello", None);
    bench.turn();
    has(&bench.heard(id), &["hello"]);
    assert_eq!(bench.server.stats().requests, 1, "handled twice, counted once");

    // Refusals are the application's, and say what it says.
    for (said, code, expected) in [
        (json!({"allow": false, "reason": "members only"}), 403, "\"detail\":\"members only\""),
        (json!({"allow": []}), 403, "does not allow listening to"),
        (json!({"allow": ["room/*", "room"]}), 403, "does not allow listening to \\\"room/b\\\""),
    ] {
        let id = bench.get_waits("/sub/room/b?as=interval", COOKIE);
        bench.say(&said);
        let refused = bench.heard(id);
        status(&refused, code);
        has(&refused, &[expected]);
        bench.seconds(2);
    }
    for (code, field) in [(401, "WWW-Authenticate: Bearer\r\n"), (403, "HTTP/1.1 403 ")] {
        let id = bench.get_waits("/sub/room/c?as=interval", COOKIE);
        let (number, _) = bench.question();
        bench.answer(number, code, &json!("please log in"));
        has(&bench.heard(id), &[field, "please log in"]);
        bench.seconds(2);
    }
    // Everything else is no answer.
    for reply in [
        Reply::Answer { status: 200, body: b"{\"allow\":\"yes\"}".to_vec() },
        Reply::Answer { status: 302, body: Vec::new() },
        Reply::Answer { status: 500, body: Vec::new() },
        Reply::Failed("refused".into()),
        Reply::Late,
    ] {
        let id = bench.get_waits("/sub/room/d?as=interval", COOKIE);
        bench.world.advance(if reply == Reply::Late { 2000 } else { 0 });
        let (number, _) = bench.question();
        bench.reply(number, &reply);
        let refused = bench.heard(id);
        status(&refused, 503);
        has(&refused, &["Retry-After: "]);
    }
    bench.server.check(bench.world.now);
}

#[test]
fn all_channels_of_a_request_are_allowed_or_none_and_others_are_not_asked_about() {
    let mut bench = bench();
    let id = bench.get_waits("/sub/room/b,room/a,news?as=interval", COOKIE);
    let question = bench.say(&json!({"allow": ["room/a"]}));
    assert_eq!(question["channels"], json!(["room/a", "room/b"]));
    let refused = bench.heard(id);
    status(&refused, 403);
    has(&refused, &["room/b"]);
    // What is refused anyway is not asked; nor are patterns.
    status(&bench.get_with("/sub/room/a,chat/a?as=interval", COOKIE), 401);
    status(&bench.get_with("/sub/room/*?as=interval", COOKIE), 403);
    status(&bench.get_with("/sub/**?as=interval", COOKIE), 403);
    // Publish tokens are never asked about.
    status(&bench.get_with("/sub/room/a?as=interval", &with("application-token-1")), 304);
    assert!(bench.asked.is_empty());
}

#[test]
fn publishing_is_asked_about_from_the_head_and_a_batch_when_it_is_there() {
    let mut bench = bench();
    let id = bench.post_waits("/pub/room/a", COOKIE, "hello");
    let question = bench.say(&json!({"allow": true}));
    assert_eq!((&question["action"], &question["client"]["technique"]), (&json!("publish"), &json!("http")));
    status(&bench.heard(id), 202);
    assert_eq!(bench.server.hub().info("room/a").unwrap().messages, 1);
    // It is remembered: no question.
    status(&bench.post_with("/pub/room/a", COOKIE, "again"), 202);
    assert_eq!(bench.server.stats().questions_remembered, 1);
    let head = format!(
        "POST /pub/room/b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n{COOKIE}\r\n"
    );
    let id = bench.asks(&head);
    bench.say(&json!({"allow": true}));
    status(&bench.heard(id), 100);
    bench.send(id, "hello");
    bench.turn();
    status(&bench.heard(id), 202);
    let id = bench.asks(&head.replace("room/b", "room/c"));
    bench.say(&json!({"allow": false}));
    status(&bench.heard(id), 403);
    // The body comes in pieces while the application thinks.
    let id = bench.asks(&head.replace("room/b", "room/d").replace("Expect: 100-continue\r\n", ""));
    bench.send(id, "he");
    bench.turn();
    bench.say(&json!({"allow": true}));
    assert_eq!(bench.heard(id), "");
    bench.send(id, "llo");
    bench.turn();
    status(&bench.heard(id), 202);
    let batch = "{\"channel\":\"room/x\",\"data\":1}\n{\"channel\":\"room/y\",\"data\":1}\n";
    let fields = format!("{COOKIE}Content-Type: application/x-ndjson\r\n");
    let id = bench.post_waits("/pub", &fields, batch);
    let question = bench.say(&json!({"allow": ["room/x"]}));
    assert_eq!(question["channels"], json!(["room/x", "room/y"]));
    let refused = bench.heard(id);
    status(&refused, 403);
    assert_eq!(bench.server.hub().info("room/x").map(|info| info.messages), None, "all or nothing");
    bench.server.check(bench.world.now);
}

#[test]
fn requests_in_any_pieces_and_behind_each_other() {
    let request = format!(
        "POST /pub/room/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{COOKIE}\r\n5\r\nhello\r\n0\r\n\r\n\
         GET /sub/room/a?as=interval&after=oldest HTTP/1.1\r\nHost: x\r\n{COOKIE}\r\n\
         GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    );
    for cut in 0..request.len() {
        let mut bench = bench();
        let id = bench.connect();
        bench.send(id, &request[..cut]);
        bench.turn();
        let ask = |bench: &mut Bench| {
            while !bench.asked.is_empty() {
                bench.say(&json!({"allow": true}));
            }
        };
        if cut % 2 == 0 {
            ask(&mut bench);
        }
        bench.send(id, &request[cut..]);
        bench.turn();
        ask(&mut bench);
        let heard = bench.heard(id);
        let statuses: Vec<&str> =
            heard.match_indices("HTTP/1.1 ").map(|(at, _)| &heard[at + 9..at + 12]).collect();
        assert_eq!(statuses, ["202", "200", "200"], "cut at {cut}: {heard}");
        bench.server.check(bench.world.now);
    }
}

#[test]
fn equal_questions_are_asked_once_and_answers_are_remembered_for_the_whole_question() {
    let mut bench = bench();
    let both: Vec<ConnId> = (0..2).map(|_| bench.get_waits("/sub/room/a?as=interval", COOKIE)).collect();
    bench.say(&json!({"allow": true, "cache_seconds": 10}));
    for id in both {
        status(&bench.heard(id), 304);
    }
    bench.seconds(9);
    status(&bench.get_with("/sub/room/a?as=interval", COOKIE), 304);
    // Another cookie, technique, channel or action is another question.
    for request in [
        format!("GET /sub/room/a?as=interval HTTP/1.1\r\nHost: x\r\nCookie: session=abd\r\n{OURS}\r\n"),
        format!("GET /sub/room/a?as=stream HTTP/1.1\r\nHost: x\r\n{COOKIE}\r\n"),
        format!("GET /sub/room/a,room/b?as=interval HTTP/1.1\r\nHost: x\r\n{COOKIE}\r\n"),
        format!("POST /pub/room/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n{COOKIE}\r\nx"),
    ] {
        let id = bench.asks(&request);
        bench.say(&json!({"allow": false}));
        status(&bench.heard(id), 403);
    }
    bench.seconds(1);
    // A refusal is remembered for a second; what ends is remembered no longer than that.
    let id = bench.get_waits("/sub/room/a?as=interval", COOKIE);
    bench.say(&json!({"allow": true, "expires_in": 1}));
    status(&bench.heard(id), 304);
    bench.seconds(1);
    let id = bench.get_waits("/sub/room/a?as=interval", COOKIE);
    bench.say(&json!({"allow": false}));
    status(&bench.heard(id), 403);
    status(&bench.get_with("/sub/room/a?as=interval", COOKIE), 403);
    bench.seconds(1);
    bench.get_waits("/sub/room/a?as=interval", COOKIE);
    let (number, _) = bench.question();
    // No answer is never remembered.
    bench.answer(number, 500, &json!(""));
    bench.get_waits("/sub/room/a?as=interval", COOKIE);
    bench.question();
}

#[test]
fn who_waits_has_its_time_and_who_left_is_not_asked_for() {
    let mut config = config();
    config.hook.concurrency = 2;
    config.limits.judged_waiting = 100;
    let mut bench = Bench::new(config);
    let waiting: Vec<ConnId> =
        (0..5).map(|number| bench.get_waits(&format!("/sub/room/{number}?as=interval"), COOKIE)).collect();
    assert_eq!(bench.asked.len(), 2, "two at once");
    bench.server.reset(bench.world.now, waiting[2]);
    bench.server.hang_up(bench.world.now, waiting[3], &mut bench.world);
    bench.turn();
    let first = bench.asked.remove(0);
    bench.answer(first.number, 200, &json!({"allow": true}));
    status(&bench.heard(waiting[0]), 304);
    // The places of those who left are skipped.
    let asked: Vec<String> =
        bench.asked.iter().map(|ask| String::from_utf8_lossy(&ask.body).into_owned()).collect();
    assert!(asked.len() == 2 && asked[1].contains("room/4"), "{asked:?}");
    bench.world.advance(1999);
    bench.turn();
    assert_eq!(bench.heard(waiting[4]), "");
    bench.world.advance(1);
    bench.turn();
    for id in [waiting[1], waiting[4]] {
        status(&bench.heard(id), 503);
    }
    assert!(bench.server.next_deadline(bench.world.now) > bench.world.now.at);
    // What comes too late is remembered at most.
    for ask in std::mem::take(&mut bench.asked) {
        bench.answer(ask.number, 200, &json!({"allow": true}));
    }
    status(&bench.get_with("/sub/room/4?as=interval", COOKIE), 304);
    bench.server.check(bench.world.now);
}

#[test]
fn who_came_while_it_was_under_way_has_its_own_time() {
    let mut bench = bench();
    let first = bench.get_waits("/sub/room/a?as=interval", COOKIE);
    bench.world.advance(1500);
    let second = bench.get_waits("/sub/room/a?as=interval", COOKIE);
    bench.world.advance(500);
    bench.turn();
    status(&bench.heard(first), 503);
    let (number, _) = bench.question();
    bench.reply(number, &Reply::Late);
    assert_eq!(bench.heard(second), "", "it has time left, and is asked again");
    bench.say(&json!({"allow": true}));
    status(&bench.heard(second), 304);
}

#[test]
fn an_address_has_its_share_and_all_have_a_bound() {
    let mut config = config();
    config.limits.judged_waiting = 20;
    config.limits.judged_bytes = 1000;
    config.limits.exempt = vec!["10.0.0.0/8".parse().unwrap()];
    let mut bench = Bench::new(config);
    let ask = |bench: &mut Bench, address: [u8; 4], name: &str| {
        let id = bench.connect_from(address).unwrap();
        bench.send(id, &format!("GET /sub/room/{name}?as=interval HTTP/1.1\r\nHost: x\r\n{OURS}\r\n"));
        bench.turn();
        (id, bench.heard(id))
    };
    for (number, expected) in [(0, None), (1, None), (2, Some(429))] {
        let (_, heard) = ask(&mut bench, [192, 0, 2, 1], &format!("a{number}"));
        assert_eq!(expected.is_some(), !heard.is_empty(), "{number}");
        expected.into_iter().for_each(|code| status(&heard, code));
    }
    // Exempt ones have half of all.
    for number in 0..11 {
        let (_, heard) = ask(&mut bench, [10, 0, 0, number], &format!("e{number}"));
        match number {
            0..10 => assert_eq!(heard, ""),
            _ => status(&heard, 503),
        }
    }
    for number in 0..9 {
        let (_, heard) = ask(&mut bench, [198, 51, 100, number], &format!("o{number}"));
        match number {
            0..8 => assert_eq!(heard, "", "{number}"),
            _ => status(&heard, 503),
        }
    }
    assert_eq!(bench.server.stats().questions_refused, 3);
    assert!(bench.asked.len() <= 16);
    bench.seconds(2);
    bench.server.check(bench.world.now);
    // Bodies that wait have a bound, too: a batch is known only when it is there.
    let batch = |bench: &mut Bench, last: u8, size: usize| {
        let line = format!("{{\"channel\":\"room/{last}\",\"data\":\"{}\"}}", "x".repeat(size));
        let id = bench.connect_from([203, 0, 113, last]).unwrap();
        bench.send(
            id,
            &format!(
                "POST /pub HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nContent-Type: application/x-ndjson\r\n{OURS}\r\n{line}",
                line.len()
            ),
        );
        bench.turn();
        bench.heard(id)
    };
    assert_eq!(batch(&mut bench, 1, 600), "");
    status(&batch(&mut bench, 2, 600), 503);
    assert_eq!(batch(&mut bench, 3, 100), "");
}

#[test]
fn pages_of_others_are_refused_unasked() {
    let mut bench = bench();
    for fields in [
        "Cookie: session=abc\r\n",
        "Cookie: session=abc\r\nOrigin: https://evil.example\r\n",
        "Cookie: session=abc\r\nSec-Fetch-Site: cross-site\r\n",
        "Origin: https://evil.example\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Referer: https://evil.example/\r\n",
        "Authorization: Basic YTpi\r\n",
    ] {
        let refused = bench.get_with("/sub/room/a?as=sse", fields);
        status(&refused, 403);
        has(&refused, &["cors.origins"]);
    }
    status(
        &bench.post_with("/pub/room/a", "Cookie: session=abc\r\nSec-Fetch-Site: same-origin\r\n", "x"),
        403,
    );
    let (_, refused) = bench.socket("/sub/room/a", "Cookie: session=abc\r\nSec-Fetch-Site: same-origin\r\n");
    status(&refused, 403);
    // A socket that a page elsewhere opened for open channels is not asked about later either.
    let (socket, opened) =
        bench.socket("/sub/news", "Cookie: session=abc\r\nOrigin: https://evil.example\r\n");
    status(&opened, 101);
    has(&bench.tell(socket, "{\"subscribe\":[\"room/a\"],\"ref\":1}"), &["\"error\""]);
    assert!(bench.asked.is_empty());
    for fields in [
        "",
        COOKIE,
        "Cookie: a=b\r\nSec-Fetch-Site: same-origin\r\n",
        "Origin: https://app.example\r\nCookie: a=b\r\n",
    ] {
        bench.get_waits("/sub/room/a?as=sse", fields);
        bench.question();
    }
}

#[test]
fn without_keys_a_bearer_is_for_the_application() {
    let mut config = config();
    config.channels.remove(1);
    config.token_keys.clear();
    let mut bench = Bench::new(config);
    let id = bench.get_waits("/sub/room/a?as=interval", &with("opaque"));
    let question = bench.say(&json!({"allow": true}));
    assert_eq!(question["headers"], json!({"authorization": "Bearer opaque"}));
    status(&bench.heard(id), 304);
    // With keys, a bad token is refused everywhere.
    let mut bench = self::bench();
    status(&bench.get_with("/sub/room/a", &with("opaque")), 401);
}

#[test]
fn commands_of_a_websocket_wait_in_their_order() {
    let mut bench = bench();
    let (id, opened) = bench.socket("/sub/news", COOKIE);
    status(&opened, 101);
    assert_eq!(bench.tell(id, "{\"subscribe\":[\"room/a\"],\"ref\":1}"), "");
    assert_eq!(
        bench.tell(id, "{\"publish\":{\"channel\":\"wall\",\"data\":1},\"ref\":2}"),
        "",
        "it waits behind"
    );
    assert_eq!(bench.tell(id, "{\"subscribe\":[\"room/b\"],\"ref\":3}"), "");
    bench.server.check(bench.world.now);
    let question = bench.say(&json!({"allow": true, "subject": "alice"}));
    assert_eq!(question["client"]["technique"], "websocket");
    let heard = bench.heard(id);
    has(&heard, &["{\"ref\":1,\"ok\":true}", "\"ref\":2,"]);
    bench.say(&json!({"allow": false, "reason": "full"}));
    has(&bench.heard(id), &["{\"ref\":3,\"error\":\"full\"}"]);
    bench.publish("room/a", "hello a", None);
    bench.publish("room/b", "hello b", None);
    bench.turn();
    let heard = bench.heard(id);
    assert!(heard.contains("hello a") && !heard.contains("hello b"), "{heard}");
    // What was allowed needs no question as long as it counts.
    has(&bench.tell(id, "{\"subscribe\":[\"room/a\"],\"ref\":4}"), &["\"ref\":4,\"ok\""]);
    assert_eq!(bench.tell(id, "{\"publish\":{\"channel\":\"room/a\",\"data\":1},\"ref\":5}"), "");
    bench.seconds(2);
    has(&bench.heard(id), &["\"ref\":5,\"error\":\"the application has not answered"]);
    bench.question();
    // Who leaves while it waits leaves nothing behind.
    assert_eq!(bench.tell(id, "{\"subscribe\":[\"room/c\"]}"), "");
    bench.server.reset(bench.world.now, id);
    bench.turn();
    bench.server.check(bench.world.now);
    assert_eq!(bench.server.access.hook.waiting(), 0);
    assert!(bench.server.access.hook.is_idle());
}

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

#[test]
fn bayeux_asks_before_anything_of_a_batch_is_done() {
    let mut bench = bench();
    let session = handshake(&mut bench, COOKIE, json!({}));
    let subscribe = |channel: &str| json!({"channel": "/meta/subscribe", "clientId": session["clientId"], "subscription": channel});
    let publish =
        |channel: &str| json!({"channel": channel, "clientId": session["clientId"], "data": "x", "id": "1"});
    let batch = json!([subscribe("/room/a"), subscribe("/news"), subscribe("/room/b"), publish("/room/c")])
        .to_string();
    let id = bench.post_waits("/bayeux", COOKIE, &batch);
    assert_eq!(bench.server.hub().gauges().subscribers, 0, "nothing is done");
    let question = bench.say(&json!({"allow": ["room/a"], "subject": "alice"}));
    assert_eq!(
        (&question["channels"], &question["client"]["technique"]),
        (&json!(["room/a", "room/b"]), &json!("bayeux"))
    );
    let question = bench.say(&json!({"allow": true}));
    assert_eq!((&question["action"], &question["channels"]), (&json!("publish"), &json!(["room/c"])));
    let heard = bench.heard(id);
    has(&heard, &["403:/room/b:subscribe_denied"]);
    assert_eq!(heard.matches("\"successful\":true").count(), 3, "{heard}");
    assert_eq!(bench.server.hub().info("room/c").unwrap().messages, 1, "published once");
    // No answer.
    let batch = json!([subscribe("/room/x")]).to_string();
    let id = bench.post_waits("/bayeux", COOKIE, &batch);
    bench.seconds(2);
    has(&bench.heard(id), &["503:/room/x:subscribe_denied"]);
    bench.asked.clear();
    // A page of somebody else.
    let refused =
        bayeux(&mut bench, "Cookie: a=b\r\nOrigin: https://evil.example\r\n", json!([subscribe("/room/y")]));
    assert_eq!(refused[0]["error"], "403:/room/y:subscribe_denied");
    assert!(bench.asked.is_empty());
    assert_eq!(revoke(&mut bench, &json!({"subject": "alice"})), 1);
    bench.server.check(bench.world.now);
    assert!(bench.server.access.hook.listeners.is_empty());
}

#[test]
fn bayeux_over_a_websocket_waits_in_order() {
    let mut bench = bench();
    let session = handshake(&mut bench, COOKIE, json!({}));
    let (socket, opened) = bench.socket("/bayeux", COOKIE);
    status(&opened, 101);
    let client = &session["clientId"];
    let subscribe =
        json!([{"channel": "/meta/subscribe", "clientId": client, "subscription": "/room/a", "id": "1"}]);
    assert_eq!(bench.tell(socket, &subscribe.to_string()), "");
    let publish = json!([{"channel": "/room/a", "clientId": client, "data": "late", "id": "2"}]);
    assert_eq!(bench.tell(socket, &publish.to_string()), "");
    bench.say(&json!({"allow": true, "expires_in": 10}));
    has(&bench.heard(socket), &["\"id\":\"1\",\"channel\":\"/meta/subscribe\",\"successful\":true"]);
    bench.say(&json!({"allow": true}));
    has(&bench.heard(socket), &["\"id\":\"2\",\"channel\":\"/room/a\",\"successful\":true"]);
    let connect = json!([{"channel": "/meta/connect", "clientId": client, "connectionType": "websocket"}]);
    bench.tell(socket, &connect.to_string());
    assert_eq!(bench.tell(socket, &connect.to_string()), "");
    bench.publish("room/a", "hello", None);
    bench.turn();
    has(&bench.heard(socket), &["hello"]);
    bench.seconds(10);
    has(&bench.heard(socket), &["503::application_unanswered", "\"reconnect\":\"handshake\""]);
    bench.server.check(bench.world.now);
}

#[test]
fn fdajax_windows_wait_for_the_word() {
    let mut config = config();
    config.fdajax.enabled = true;
    config.fdajax.win_timeout = 5000;
    config.channels.insert(0, rule("fdajax/groups/feed", Who::Hook, None));
    let mut bench = Bench::new(config);
    let session = "Cookie: _session_id=abcdef0123456789abcdef0123456789\r\nOrigin: http://x\r\n";
    let wait = "/live.fdajax?cmd=wait&types=feed&win_id=7";
    let id = bench.get_waits(wait, session);
    let question = bench.say(&json!({"allow": false, "reason": "no"}));
    assert_eq!(
        (&question["channels"], &question["client"]["technique"]),
        (&json!(["fdajax/groups/feed"]), &json!("fdajax"))
    );
    status(&bench.heard(id), 403);
    bench.seconds(2);
    let id = bench.get_waits(wait, session);
    bench.say(&json!({"allow": true, "expires_in": 10, "subject": "alice", "cache_seconds": 0}));
    assert_eq!(bench.heard(id), "");
    bench.world.advance(9_999);
    bench.turn();
    bench.say(&json!({"allow": true, "expires_in": 10, "subject": "alice", "cache_seconds": 0}));
    assert_eq!(bench.heard(id), "");
    bench.seconds(10);
    status(&bench.heard(id), 503);
    bench.asked.clear();
    let id = bench.get_waits(wait, session);
    bench.say(&json!({"allow": true, "subject": "alice"}));
    assert_eq!(revoke(&mut bench, &json!({"subject": "alice"})), 1);
    status(&bench.heard(id), 403);
}

#[test]
fn with_a_thousand_questions_open_a_publication_is_as_fast() {
    let mut config = config();
    config.limits.exempt = vec!["127.0.0.0/8".parse().unwrap()];
    config.limits.judged_waiting = 2000;
    let mut bench = Bench::new(config);
    let listener = bench.subscriber("open?as=stream");
    bench.heard(listener);
    for number in 0..1000 {
        bench.get_waits(&format!("/sub/room/{number}?as=interval"), COOKIE);
    }
    assert_eq!((bench.server.access.hook.waiting(), bench.asked.len()), (1000, 16));
    // Whatever waits, it is one turn, and one write.
    let writes = bench.world.socket(listener).writes;
    bench.publish("open", "hello", None);
    assert!(bench.server.access.hook.next_deadline() > bench.world.now.at, "nothing of it is looked at");
    bench.turn();
    has(&bench.heard(listener), &["hello"]);
    assert_eq!(bench.world.socket(listener).writes, writes + 1);
    assert_eq!(NOW, bench.world.now.unix);
}

#[test]
fn an_application_that_does_anything() {
    for seed in 0..120 {
        Story::new(seed).run();
    }
}

const ROOMS: [&str; 3] = ["room/a", "room/b", "room/c"];

/// Somebody who listens or waits, and what the oracle knows of them.
struct Guest {
    id: ConnId,
    user: u64,
    listens: [bool; 3],
    state: State,
    is_socket: bool,
    /// The step in which it came.
    came: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waits,
    Listens,
    Gone,
}

/// A seed decides who comes, what the application says, and when, if ever. The truth is what the application said last.
struct Story {
    random: Random,
    bench: Bench,
    guests: Vec<Guest>,
    /// Questions that are open, and the step in which each was asked.
    open: Vec<(Ask, u64)>,
    /// What the application has allowed: to whom, where, until when, and the step in which it was asked.
    words: Vec<(u64, [bool; 3], u64, u64)>,
    /// The step in which a user's rights were last taken back.
    revoked: [u64; 4],
    /// The step in which the application last said no to a user.
    denied: [u64; 4],
    now: u64,
    published: u64,
    seed: u64,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut config = config();
        config.hook.cache_seconds = seed % 3;
        config.hook.concurrency = 1 + (seed as usize % 4);
        config.limits.judged_waiting = 200;
        let (random, bench) = (Random::new(seed), Bench::new(config));
        let (guests, open, words) = (Vec::new(), Vec::new(), Vec::new());
        let (revoked, denied) = ([0; 4], [0; 4]);
        Self { random, bench, guests, open, words, revoked, denied, now: 1, published: 0, seed }
    }

    fn ms(&self) -> u64 {
        self.bench.world.now.at.as_millis()
    }

    fn come(&mut self) {
        let (user, is_socket) = (self.random.below(4), self.random.one_in(2));
        let mut listens = std::array::from_fn(|_| self.random.one_in(2));
        listens[self.random.below(3) as usize] = true;
        let names: Vec<&str> =
            ROOMS.iter().zip(listens).filter(|(_, is)| *is).map(|(name, _)| *name).collect();
        let (target, fields) =
            (format!("/sub/{}?as=stream", names.join(",")), format!("Cookie: u={user}\r\n{OURS}"));
        let (id, heard) = match is_socket {
            true => self.bench.socket(&target, &fields),
            false => {
                let id = self.bench.connect();
                self.bench.send(id, &format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
                (id, String::new())
            }
        };
        self.guests.push(Guest { id, user, listens, state: State::Waits, is_socket, came: self.now });
        // An answer was remembered.
        self.note(self.guests.len() - 1, &heard);
        self.settle();
    }

    /// Takes what became of those who wait or listen.
    fn settle(&mut self) {
        self.bench.turn();
        self.open.extend(self.bench.asked.drain(..).map(|ask| (ask, self.now)));
        self.bench.server.check(self.bench.world.now);
    }

    fn answer(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let at = self.random.below(self.open.len() as u64) as usize;
        let (ask, asked) = self.open.remove(at);
        let question: Value = serde_json::from_slice(&ask.body).unwrap();
        let user = question["headers"]["cookie"].as_str().unwrap().to_owned();
        let names: Vec<String> = serde_json::from_value(question["channels"].clone()).unwrap();
        let number: usize = user[2..].parse().unwrap();
        let wrong = [r#"{"allow":true"#, r#"{"allow":"yes"}"#, r#"{"allow":true,"expires":5}"#, "", "[true]"];
        let reply = match self.random.below(9) {
            8 => {
                let body = wrong[self.random.below(wrong.len() as u64) as usize].into();
                Reply::Answer { status: 200, body }
            }
            0 => Reply::Late,
            1 => Reply::Failed("refused".into()),
            2 => Reply::Answer { status: 500, body: Vec::new() },
            3 => {
                self.denied[number] = self.now;
                Reply::Answer { status: 403, body: b"no".to_vec() }
            }
            _ => {
                let allowed: Vec<&String> = names.iter().filter(|_| !self.random.one_in(5)).collect();
                let mut body = json!({"allow": allowed, "subject": user});
                let mut ends = u64::MAX;
                if self.random.one_in(2) {
                    let seconds = 1 + self.random.below(20);
                    body["expires_in"] = json!(seconds);
                    ends = self.ms() + seconds * 1000;
                }
                let rooms = std::array::from_fn(|room| allowed.iter().any(|name| *name == ROOMS[room]));
                self.words.push((number as u64, rooms, ends, asked));
                if allowed.len() < names.len() {
                    self.denied[number] = self.now;
                }
                Reply::Answer { status: 200, body: body.to_string().into_bytes() }
            }
        };
        self.bench.reply(ask.number, &reply);
        self.settle();
    }

    fn publish(&mut self) {
        // What was heard until now is settled, so that what comes is this message.
        self.hear();
        let room = self.random.below(3) as usize;
        self.published += 1;
        let text = format!("<message {}>", self.published);
        // By the server's own book, which the next test of it is: who listens there, and by what grant.
        let before: Vec<bool> = self.guests.iter().map(|guest| self.covered(guest, room)).collect();
        self.bench.publish(ROOMS[room], &text, None);
        self.settle();
        for (at, covered) in before.into_iter().enumerate() {
            let heard = self.bench.heard(self.guests[at].id);
            let count = heard.matches(&*text).count();
            assert_eq!(
                count,
                usize::from(covered),
                "seed {}: guest {at} in {}: {heard}",
                self.seed,
                ROOMS[room]
            );
            // Whoever is given it was allowed it, by a word that counts.
            let user = self.guests[at].user;
            let counts = |(whose, rooms, ends, asked): &(u64, [bool; 3], u64, u64)| {
                *whose == user && rooms[room] && self.ms() < *ends && *asked > self.revoked[user as usize]
            };
            assert!(
                !covered || self.words.iter().any(counts),
                "seed {}: guest {at} in {}",
                self.seed,
                ROOMS[room]
            );
            self.note(at, &heard);
        }
    }

    /// Whether a guest listens to a room, and may, as far as it was told.
    fn covered(&self, guest: &Guest, room: usize) -> bool {
        guest.state == State::Listens && guest.listens[room]
    }

    fn hear(&mut self) {
        for at in 0..self.guests.len() {
            let heard = self.bench.heard(self.guests[at].id);
            assert!(!heard.contains("<message"), "seed {}: {heard}", self.seed);
            self.note(at, &heard);
        }
    }

    /// Takes what a guest was told of its state.
    fn note(&mut self, at: usize, heard: &str) {
        let guest = &mut self.guests[at];
        if heard.contains("HTTP/1.1 200 ") || heard.contains("HTTP/1.1 101 ") {
            assert_eq!(guest.state, State::Waits);
            guest.state = State::Listens;
        } else if heard.starts_with("HTTP/1.1 ") {
            guest.state = State::Gone;
        }
        let ended = |why: &str| heard.contains(&format!("\"{why}\":true,\"next\":\""));
        if ended("expired") || ended("revoked") {
            guest.state = State::Gone;
            // Nobody is sent away without a cause: the word was no, or its time is over and there is no other.
            let (user, now) = (guest.user as usize, self.bench.world.now.at.as_millis());
            let was_denied = self.denied[user].max(self.revoked[user]) >= guest.came;
            let is_over = self.words.iter().any(|(whose, _, ends, _)| *whose == guest.user && *ends <= now);
            assert!(!ended("revoked") || was_denied, "seed {}: guest {at} was sent away", self.seed);
            assert!(!ended("expired") || is_over, "seed {}: guest {at} has its time", self.seed);
        }
        if let Some((_, lost)) = heard.split_once("{\"revoked\":true,\"channels\":") {
            let lost = &lost[..lost.find(']').unwrap()];
            for (room, listens) in guest.listens.iter_mut().enumerate() {
                *listens &= !lost.contains(ROOMS[room]);
            }
        }
    }

    /// Another server takes over, which asks anew what is open.
    fn hand_over(&mut self) {
        self.open.clear();
        super::handover::adopt(&mut self.bench);
        self.settle();
    }

    fn step(&mut self) {
        self.now += 1;
        match self.random.below(15) {
            14 => self.hand_over(),
            0..3 => self.come(),
            3..7 => self.answer(),
            7..10 => self.publish(),
            10 => {
                let user = self.random.below(4);
                self.hear();
                let now: Vec<usize> = (0..self.guests.len())
                    .filter(|at| self.guests[*at].state == State::Listens && self.guests[*at].user == user)
                    .collect();
                let ended = revoke(&mut self.bench, &json!({"subject": format!("u={user}")}));
                self.revoked[user as usize] = self.now;
                self.now += 1;
                self.settle();
                assert_eq!(ended, now.len() as u64, "seed {}", self.seed);
                for at in now {
                    let heard = self.bench.heard(self.guests[at].id);
                    has(&heard, &["\"revoked\":true"]);
                    self.note(at, &heard);
                }
            }
            11 => {
                self.hear();
                let living: Vec<usize> =
                    (0..self.guests.len()).filter(|at| self.guests[*at].state != State::Gone).collect();
                if let Some(at) = living.first() {
                    let id = self.guests[*at].id;
                    // A stream whose client will send nothing more goes on.
                    let listens = self.guests[*at].state == State::Listens;
                    if listens || self.guests[*at].is_socket || self.random.one_in(2) {
                        self.bench.server.reset(self.bench.world.now, id);
                    } else {
                        self.bench.server.hang_up(self.bench.world.now, id, &mut self.bench.world);
                    }
                    self.settle();
                    self.guests[*at].state = State::Gone;
                    self.bench.heard(id);
                }
            }
            _ => {
                let ms = self.random.below(3000);
                self.bench.world.advance(ms);
                self.settle();
                self.hear();
            }
        }
    }

    fn run(mut self) {
        for _ in 0..150 {
            self.step();
        }
        self.hear();
        // All leave, and everything is given back.
        for at in 0..self.guests.len() {
            let id = self.guests[at].id;
            self.bench.server.reset(self.bench.world.now, id);
        }
        for (ask, _) in std::mem::take(&mut self.open) {
            self.bench.reply(ask.number, &Reply::Late);
        }
        self.settle();
        assert!(self.bench.server.access.hook.is_idle(), "seed {}", self.seed);
    }
}
