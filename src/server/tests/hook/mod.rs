//! The application that is asked: it answers, late, wrongly or never, and what becomes of who waits.

mod listeners;
mod sessions;
mod story;

use super::access::{NOW, has, rule, status, with};
use super::bench::Bench;
use crate::config::{Config, Who};
use crate::conn::ConnId;
use crate::dialect::hook::{Ask, Reply};
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
