//! What a stranger can make the server do: chains through many connections, answers many times the question, work that
//! is not in proportion to what was sent.

use super::bench::Bench;
use crate::config::Config;
use crate::conn::ConnId;
use crate::id::Random;
use serde_json::{Value, json};

const UPGRADE: &str = "GET /bayeux HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A text frame, masked with zeros.
pub(super) fn frame(text: &str) -> Vec<u8> {
    let mut bytes = vec![0x81];
    match text.len() {
        short @ 0..126 => bytes.push(0x80 | short as u8),
        long => {
            bytes.push(0x80 | 126);
            bytes.extend((long as u16).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(text.as_bytes());
    bytes
}

pub(super) fn request(messages: &Value) -> String {
    let body = messages.to_string();
    format!("POST /bayeux HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

pub(super) fn connect(session: &str, more: &Value) -> Value {
    let mut message =
        json!({"channel": "/meta/connect", "clientId": session, "connectionType": "long-polling"});
    message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    message
}

impl Bench {
    /// The body of the answer to messages of Bayeux.
    pub(super) fn bayeux(&mut self, id: ConnId, messages: &Value) -> Value {
        self.send(id, &request(messages));
        self.turn();
        let answer = self.read(id);
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("an answer: {answer:?}"));
        serde_json::from_str(body).unwrap()
    }

    /// A session by a connection of its own.
    pub(super) fn session(&mut self, ext: &Value) -> (ConnId, String) {
        let id = self.connect();
        let handshake = json!([{"channel": "/meta/handshake", "version": "1.0", "ext": ext,
            "supportedConnectionTypes": ["long-polling", "websocket"]}]);
        let session = self.bayeux(id, &handshake)[0]["clientId"].as_str().unwrap().to_owned();
        (id, session)
    }
}

/// Each connection of a long row holds a connect, and has pipelined behind it what releases the next one.
#[test]
fn a_chain_through_many_connections_is_no_recursion() {
    let mut config = Config::default();
    config.bayeux.handshakes_per_second = 1_000_000;
    let mut bench = Bench::new(config);
    let sessions: Vec<_> = (0..3800).map(|_| bench.session(&json!({}))).collect();
    let at_once = json!({"advice": {"timeout": 0}});
    for (at, (id, session)) in sessions.iter().enumerate() {
        bench.bayeux(*id, &json!([connect(session, &json!({}))]));
        bench.send(*id, &request(&json!([connect(session, &json!({}))])));
        bench.send(*id, UPGRADE);
        if let Some((_, next)) = sessions.get(at + 1) {
            bench.send_bytes(*id, &frame(&json!([connect(next, &at_once)]).to_string()));
        }
    }
    bench.turn();
    let (trigger, _) = bench.client("");
    bench.bayeux(trigger, &json!([connect(&sessions[0].1, &at_once)]));
    bench.server.check(bench.world.now);
    for (id, _) in &sessions {
        let bytes = bench.world.read(*id, usize::MAX);
        assert!(
            bytes.starts_with(b"HTTP/1.1 409 "),
            "each was released: {:?}",
            String::from_utf8_lossy(&bytes)
        );
    }
}

const KIB_10: usize = 10 << 10;

/// A session whose channel keeps a megabyte, and the bytes that answer so many connects in one request.
fn bytes_for_connects(config: Config, ext: &Value, connects: usize) -> (Bench, usize) {
    let mut bench = Bench::new(config);
    for _ in 0..100 {
        bench.publish("big", &"x".repeat(KIB_10), None);
    }
    let (id, session) = bench.session(ext);
    bench.bayeux(id, &json!([connect(&session, &json!({}))]));
    let replay = json!([{"channel": "/meta/subscribe", "clientId": session, "subscription": "/big",
        "ext": {"replay": {"/big": -2}}}]);
    bench.bayeux(id, &replay);
    let many: Vec<Value> = (0..connects).map(|_| connect(&session, &json!({}))).collect();
    let answer = bench.bayeux(id, &json!(many));
    let replies = answer.as_array().unwrap().iter().filter(|message| message["channel"] == "/meta/connect");
    assert_eq!(replies.count(), connects, "each connect has its reply");
    let bytes = answer.to_string().len();
    // What did not fit is not lost.
    let mut seen = answer.to_string().matches("\"/big\"").count();
    while seen < 100 {
        let at_once = connect(&session, &json!({"advice": {"timeout": 0}, "ext": {"ack": 1_000_000}}));
        let more = bench.bayeux(id, &json!([at_once])).to_string().matches("\"/big\"").count();
        assert!(more > 0, "{seen} of 100 came");
        seen += more;
    }
    assert_eq!(seen, 100);
    (bench, bytes)
}

#[test]
fn one_answer_of_bayeux_has_one_budget() {
    for ext in [json!({}), json!({"ack": true})] {
        let mut config = Config::default();
        config.bayeux.answer_bytes = 256 << 10;
        let (_, bytes) = bytes_for_connects(config, &ext, 1000);
        assert!((200 << 10..(256 << 10) + 200 * 1000).contains(&bytes), "{bytes} bytes with {ext}");
    }
}

#[test]
fn one_answer_of_bayeux_is_small_while_memory_is_scarce() {
    let mut config = Config::default();
    config.limits.memory = 64 << 20;
    let mut bench = Bench::new(config);
    for _ in 0..100 {
        bench.publish("big", &"x".repeat(KIB_10), None);
    }
    let (id, session) = bench.session(&json!({}));
    bench.bayeux(id, &json!([connect(&session, &json!({}))]));
    let replay = json!([{"channel": "/meta/subscribe", "clientId": session, "subscription": "/big",
        "ext": {"replay": {"/big": -2}}}]);
    bench.bayeux(id, &replay);
    bench.server.note_memory(bench.world.now, 100 << 20);
    bench.publish("big", &"x".repeat(KIB_10), None);
    let answer = bench.bayeux(id, &json!([connect(&session, &json!({}))])).to_string();
    assert!(answer.contains("/big") && answer.len() < 100 << 10, "{} bytes", answer.len());
}

/// The same by WebSocket: the client sends a row of connects and reads nothing.
#[test]
fn a_websocket_that_reads_nothing_is_not_told_the_same_again_and_again() {
    let mut bench = Bench::new(Config::default());
    for _ in 0..100 {
        bench.publish("big", &"x".repeat(KIB_10), None);
    }
    let (id, session) = bench.session(&json!({"ack": true}));
    bench.bayeux(id, &json!([connect(&session, &json!({}))]));
    let replay = json!([{"channel": "/meta/subscribe", "clientId": session, "subscription": "/big",
        "ext": {"replay": {"/big": -2}}}]);
    bench.bayeux(id, &replay);
    let socket = bench.connect();
    bench.send(socket, UPGRADE);
    bench.turn();
    bench.read(socket);
    bench.world.socket(socket).capacity = 0;
    let at_once = json!({"advice": {"timeout": 0}, "connectionType": "websocket"});
    let row = frame(&json!([connect(&session, &at_once)]).to_string()).repeat(400);
    bench.send_bytes(socket, &row);
    let kept = bench.server.unsent_bytes();
    assert!(kept < 2 << 20, "{kept} bytes are kept for {} bytes", row.len());
}

/// What is counted is what is written, not what was published.
#[test]
fn one_batch_has_one_budget_whatever_it_escapes() {
    let mut bench = Bench::new(Config::default());
    for _ in 0..100 {
        bench.publish("big", &"\u{1}".repeat(9 << 10), None);
    }
    let get = "GET /sub/big?after=oldest&max=1000&as=interval HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n";
    let (_, answer) = bench.client(get);
    assert!((900 << 10..1200 << 10).contains(&answer.len()), "{} bytes", answer.len());
    let script = "GET /sub/big?after=oldest&max=1000&as=jsonp&callback=f HTTP/1.1\r\nHost: x\r\n\r\n";
    let (_, answer) = bench.client(script);
    assert!((900 << 10..1200 << 10).contains(&answer.len()), "{} bytes", answer.len());
}

/// A window of FDAjax that waits gets a burst of many megabytes in several answers.
#[test]
fn one_answer_of_fdajax_has_one_budget() {
    let mut config = Config::default();
    config.fdajax.enabled = true;
    config.history.bytes = 64 << 20;
    (config.fdajax.mes_live_max, config.fdajax.win_timeout) = (60_000, 60_000);
    let mut bench = Bench::new(config);
    let wait =
        "GET /live.fdajax?cmd=wait&win_id=1&types=feed HTTP/1.1\r\nHost: x\r\nCookie: _session_id=s\r\n\r\n";
    let id = bench.connect();
    bench.send(id, wait);
    bench.turn();
    for _ in 0..90 {
        bench.publish("fdajax/groups/feed", &"m".repeat(100 << 10), None);
    }
    let mut seen = 0;
    for _ in 0..20 {
        bench.turn();
        let answer = bench.read(id);
        assert!(answer.len() <= (1 << 20) + 4096, "{} bytes", answer.len());
        seen += answer.matches(&"m".repeat(100 << 10)).count();
        bench.send(id, wait);
    }
    assert_eq!(seen, 90);
}

#[test]
fn a_session_whose_patterns_come_to_match_too_much_ends() {
    let mut config = Config::default();
    config.limits.channels_per_pattern = 3;
    let mut bench = Bench::new(config);
    let (id, session) = bench.session(&json!({}));
    bench.bayeux(id, &json!([connect(&session, &json!({}))]));
    let subscribe = json!([{"channel": "/meta/subscribe", "clientId": session, "subscription": "/c/*"}]);
    assert_eq!(bench.bayeux(id, &subscribe)[0]["successful"], true);
    (0..3).for_each(|number| bench.publish(&format!("c/{number}"), "x", None));
    let got = bench.bayeux(id, &json!([connect(&session, &json!({}))]));
    assert_eq!(got.as_array().unwrap().len(), 4, "{got}");
    bench.send(id, &request(&json!([connect(&session, &json!({}))])));
    bench.publish("c/3", "x", None);
    bench.turn();
    let told = bench.read(id);
    assert!(told.contains("402::session_unknown") && told.contains("\"reconnect\":\"handshake\""), "{told}");
    let (id, session) = bench.session(&json!({}));
    let again = json!([{"channel": "/meta/subscribe", "clientId": session, "subscription": "/c/*"}]);
    assert_eq!(bench.bayeux(id, &again)[0]["error"], "403::too_many_subscriptions");
    bench.server.check(bench.world.now);
}

/// Behind a proxy each client has its own share of searches, and all together have one as well.
#[test]
fn searches_count_by_client_and_in_all() {
    let config = Config { trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()], ..Config::default() };
    let mut bench = Bench::new(config);
    (0..10_000).for_each(|number| bench.publish(&format!("c/{number}"), "x", None));
    let id = bench.connect();
    let mut search = |client: u32| {
        let get = "GET /sub/c/*/never?as=interval HTTP/1.1\r\nHost: x\r\n";
        bench.send(id, &format!("{get}X-Forwarded-For: 192.0.2.{client}\r\n\r\n"));
        let answer = bench.read(id);
        answer.split(' ').nth(1).map(str::to_owned).unwrap()
    };
    let statuses: Vec<String> = (0..101).map(|_| search(1)).collect();
    assert_eq!((&*statuses[99], &*statuses[100]), ("304", "429"), "one client");
    assert_eq!(search(2), "304", "another one behind the same proxy");
    let served = (0..1000).filter(|number| search(3 + number / 50) == "304").count();
    assert_eq!(served, 800 - 101, "eight millions in all");
}

/// Sixty bytes of a WebSocket do not compare a thousand channels with a thousand patterns as often as they like.
#[test]
fn taking_patterns_away_is_counted_before_it_is_done() {
    let mut bench = Bench::new(Config::default());
    (0..1_000).for_each(|number| bench.publish(&format!("c/{number}"), "x", None));
    let id = bench.connect_from([192, 0, 2, 1]).unwrap();
    bench.send(id, &UPGRADE.replace("/bayeux", "/sub/own"));
    let subscribe = |patterns: &[String]| frame(&json!({"subscribe": patterns}).to_string());
    let patterns: Vec<String> = (0..900).map(|number| format!("*/x{number}")).collect();
    patterns.chunks(90).for_each(|some| bench.send_bytes(id, &subscribe(some)));
    bench.world.advance(1000);
    let before = bench.server.hub().looked_at();
    let pair = [frame(r#"{"unsubscribe":["c/*"]}"#), frame(r#"{"subscribe":["c/*"],"ref":"1"}"#)].concat();
    bench.send_bytes(id, &pair.repeat(100));
    bench.turn();
    let text = String::from_utf8_lossy(&bench.world.read(id, usize::MAX)).into_owned();
    assert!(text.contains("\"error\":\"too many channels would be looked at"), "{text}");
    assert!(bench.server.hub().looked_at() - before <= 1_000_000);
}

/// Who sends a thousand requests, or frames, is served in many turns, in order, and read no further meanwhile; who
/// comes after it is not kept waiting.
#[test]
fn a_turn_gives_way_whatever_there_is_to_do() {
    let mut bench = Bench::new(Config::default());
    let (flood, socket) = (bench.connect(), bench.connect());
    bench.send(socket, &UPGRADE.replace("/bayeux", "/sub/x"));
    bench.turn();
    bench.world.read(socket, usize::MAX);
    bench.world.haste = Some(Random::new(5));
    let requests: String = (0..1000).map(|n| format!("GET /at/{n} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    bench.send(flood, &requests);
    let frames = (0..1000).flat_map(|n| frame(&format!("{{\"subscribe\":[\"x\"],\"ref\":{n}}}")));
    bench.send_bytes(socket, &frames.collect::<Vec<u8>>());
    assert!(bench.server.is_waiting(flood) && bench.server.is_waiting(socket));
    let served = bench.world.read(flood, usize::MAX);
    assert!(served.len() < 100_000, "a few of them");
    bench.world.haste = None;
    let (_, answer) = bench.client("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let text = [served, bench.world.read(flood, usize::MAX)].concat();
    let text = String::from_utf8(text).unwrap();
    let told: Vec<&str> = text.split("nothing at /at/").skip(1).collect();
    assert_eq!(told.len(), 1000);
    assert!((0..1000).zip(told).all(|(n, told)| told.starts_with(&format!("{n};"))), "in order");
    let answers = String::from_utf8_lossy(&bench.world.read(socket, usize::MAX)).into_owned();
    let refs: Vec<&str> = answers.split("\"ref\":").skip(1).collect();
    assert!((0..1000).zip(&refs).all(|(n, told)| told.starts_with(&format!("{n},"))) && refs.len() == 1000);
    assert!(!bench.server.is_waiting(flood) && !bench.server.is_waiting(socket));
}

/// An address that has had much done in a second is served after those who have not.
#[test]
fn who_has_had_much_done_comes_last() {
    let mut bench = Bench::new(Config::default());
    let stranger = bench.connect_from([192, 0, 2, 1]).unwrap();
    let request = "GET /x HTTP/1.1\r\nHost: x\r\n\r\n";
    for _ in 0..40 {
        bench.send(stranger, &request.repeat(2000));
        bench.turn();
        bench.world.read(stranger, usize::MAX);
    }
    bench.send(stranger, request);
    assert!(bench.server.is_waiting(stranger), "others come first");
    let other = bench.connect_from([192, 0, 2, 2]).unwrap();
    bench.send(other, request);
    assert!(bench.read(other).starts_with("HTTP/1.1 404 "), "at once");
    bench.turn();
    assert!(bench.read(stranger).starts_with("HTTP/1.1 404 "), "later, but in the same second");
    bench.world.advance(1000);
    bench.send(stranger, request);
    assert!(bench.server.is_waiting(stranger), "the next second goes on where the last one ended");
    bench.turn();
    bench.read(stranger);
    bench.world.advance(1000);
    bench.send(stranger, request);
    assert!(bench.read(stranger).starts_with("HTTP/1.1 404 "), "and the one after that is new");
}

/// Ninety bytes that name a foreign id are not told of a gap on each of thousands of channels, one by one.
#[test]
fn gaps_on_thousands_of_channels_are_told_in_few_bytes() {
    let mut bench = Bench::new(Config::default());
    (0..5_000).for_each(|number| bench.publish(&format!("c/{number}"), "x", None));
    for query in ["as=stream", "as=sse", "as=interval", "as=iframe", "max=1&as=jsonp&callback=f"] {
        let id = bench.connect();
        bench.send(id, &format!("GET /sub/c/*?after=zz:1&{query} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let text = bench.read(id);
        assert!(text.starts_with("HTTP/1.1 200") && text.len() < 40_000, "{query}: {} bytes", text.len());
        // In a head there is room for few, and a poll that waits for nothing tells them with its news.
        assert!(text.contains("**") || text.contains("c%2F1") || text.contains("c/1"), "{query}: {text}");
        let now = bench.world.now;
        bench.server.reset(now, id);
    }
}

/// What readers ask for in one form after the other does not throw the application's messages away.
#[test]
fn encodings_go_before_messages() {
    let mut config = Config::default();
    (config.history.total_bytes, config.history.bytes) = (1 << 20, 1 << 20);
    let mut bench = Bench::new(config);
    for number in 0..80 {
        bench.publish(&format!("c/{}", number % 4), &"x".repeat(10 << 10), None);
    }
    let kept = bench.server.hub().gauges().messages;
    assert_eq!(kept, 80);
    for technique in ["sse", "stream", "iframe", "multipart", "raw"] {
        let (id, text) = bench.client(&format!(
            "GET /sub/c/0,c/1,c/2,c/3?after=oldest&as={technique} HTTP/1.1\r\nHost: x\r\n\r\n"
        ));
        assert!(text.starts_with("HTTP/1.1 200"), "{technique}: {text}");
        let now = bench.world.now;
        bench.server.reset(now, id);
        bench.turn();
        bench.publish("other", "x", None);
    }
    let gauges = bench.server.hub().gauges();
    assert_eq!(gauges.messages, kept + 5, "every message is there");
    assert!(gauges.bytes <= 1 << 20, "{gauges:?}");
}

/// A session of FDAjax is a cookie, which costs nothing: what its address sends counts as well.
#[test]
fn messages_of_fdajax_count_by_address() {
    let mut config = Config::default();
    config.fdajax.enabled = true;
    config.fdajax.allow_peer_call = vec!["gchat".into()];
    config.limits.publishes_per_second = 5;
    let mut bench = Bench::new(config);
    let mut call = |address: [u8; 4], session: usize| {
        let id = bench.connect_from(address).unwrap();
        bench.send(id, &format!("GET /live.fdajax?cmd=chat_sig&types=gchat&mes=1 HTTP/1.1\r\nHost: x\r\nCookie: _session_id=s{session}\r\n\r\n"));
        bench.read(id)
    };
    let answers: Vec<String> = (0..7).map(|session| call([192, 0, 2, 1], session)).collect();
    assert!(answers[..5].iter().all(|answer| answer.starts_with("HTTP/1.1 200 ")), "{answers:?}");
    let refused =
        |answer: &String| answer.contains(" 429 ") && answer.contains("limits.publishes_per_second");
    assert!(answers[5..].iter().all(refused), "{answers:?}");
    assert!(call([192, 0, 2, 2], 9).starts_with("HTTP/1.1 200 "), "another address");
}

/// Any cookie is a session of FDAjax, so that what one may send is counted by who sends it.
#[test]
fn calls_of_fdajax_count_by_client() {
    let mut config = Config::default();
    config.fdajax.enabled = true;
    config.fdajax.allow_peer_call = vec!["gchat".into()];
    config.limits.fdajax_peer_calls = 3;
    config.trusted_proxies = vec!["192.0.2.7/32".parse().unwrap()];
    let mut bench = Bench::new(config);
    let mut call = |address: [u8; 4], client: u8, session: usize| {
        let id = bench.connect_from(address).unwrap();
        bench.send(id, &format!("GET /live.fdajax?cmd=chat_sig&types=gchat&mes=1 HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.{client}\r\nCookie: _session_id=s{session}\r\n\r\n"));
        bench.read(id).split(' ').nth(1).unwrap().to_owned()
    };
    let statuses: Vec<String> = (0..5).map(|session| call([192, 0, 2, 7], 1, session)).collect();
    assert_eq!(statuses, ["200", "200", "200", "429", "429"]);
    assert_eq!(call([192, 0, 2, 7], 2, 9), "200", "another client behind the same proxy");
}

/// A Bayeux request of a megabyte that subscribes to names and takes them back is refused what is too much for one turn.
#[test]
fn one_request_has_one_budget_of_subscriptions() {
    let mut bench = Bench::new(Config::default());
    let id = bench.connect_from([192, 0, 2, 1]).unwrap();
    let handshake = json!([{"channel": "/meta/handshake", "version": "1.0",
        "supportedConnectionTypes": ["long-polling"]}]);
    let session = bench.bayeux(id, &handshake)[0]["clientId"].as_str().unwrap().to_owned();
    let channels: Vec<String> = (0..900).map(|number| format!("/c/{number}")).collect();
    let change = |what: &str| json!({"channel": what, "clientId": session, "subscription": channels});
    let pair = [change("/meta/subscribe"), change("/meta/unsubscribe")];
    let mut storm = |count: usize| {
        let messages: Vec<Value> = pair.iter().cycle().take(count).cloned().collect();
        let before = bench.server.hub().looked_at();
        let answer = bench.bayeux(id, &json!(messages));
        let answer = answer.as_array().unwrap();
        let refused = answer.iter().filter(|reply| reply["error"] == "429::too_many_searches").count();
        assert_eq!(answer.iter().filter(|reply| reply["successful"] == true).count(), count - refused);
        (refused, bench.server.hub().looked_at() - before)
    };
    assert_eq!(storm(10).0, 0);
    // A megabyte of them, nearly.
    let (refused, looked_at) = storm(110);
    assert!(refused > 10 && looked_at <= 250_000, "{refused} refused, {looked_at} looks");
    bench.server.check(bench.world.now);
}

/// What one has had looked at by a WebSocket is nobody else's.
#[test]
fn commands_have_a_budget_each() {
    let mut bench = Bench::new(Config::default());
    (0..5000).for_each(|number| bench.publish(&format!("c/{number}"), "x", None));
    let upgrade = UPGRADE.replace("/bayeux", "/sub/own");
    let mut command = |address: [u8; 4]| {
        let id = bench.connect_from(address).unwrap();
        bench.send(id, &upgrade);
        bench.read_text(id);
        bench.send_bytes(id, &frame(r#"{"subscribe":["c/*"],"ref":"1"}"#));
        bench.turn();
        let answer = bench.read_text(id);
        (answer.contains(r#""ok":true"#), answer)
    };
    // All of them together are looked at more than one of them may have.
    for stranger in 0..100 {
        let (done, answer) = command([192, 0, 2, stranger]);
        assert!(done, "{stranger}: {answer}");
    }
    assert!(bench.server.hub().looked_at() > 500_000, "{}", bench.server.hub().looked_at());
}

/// Thousands of sessions that nobody asks for any more do not end in one turn.
#[test]
fn sessions_that_end_at_once_have_several_turns() {
    let mut config = Config::default();
    config.bayeux.handshakes_per_second = 1_000_000;
    let mut bench = Bench::new(config);
    let handshake = json!([{"channel": "/meta/handshake", "version": "1.0",
        "supportedConnectionTypes": ["long-polling"]}]);
    let id = bench.connect();
    (0..300).for_each(|_| _ = bench.bayeux(id, &handshake));
    bench.world.advance(60_000);
    let now = bench.world.now;
    let left = |bench: &Bench| bench.server.dialects.sessions();
    bench.server.tick(now, &mut bench.world);
    assert_eq!(left(&bench), 300 - 64, "the others have the next turn");
    assert!(bench.server.next_deadline(now) <= now.at);
    bench.turn();
    assert_eq!(left(&bench), 0);
}

/// A line of fifty bytes may patch a value of hundreds of thousands: too many of them are refused before anything is done.
#[test]
fn patches_of_one_request_have_one_budget() {
    let mut bench = Bench::new(Config::default());
    let members: Vec<String> = (0..20_000).map(|number| format!("\"m{number}\":{number}")).collect();
    let value = format!("{{{}}}", members.join(","));
    let ask = |bench: &mut Bench, line: &str, content_type: &str, body: &str| {
        let length = body.len();
        let head =
            format!("{line} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {length}");
        bench.client(&format!("{head}\r\n\r\n{body}")).1
    };
    assert!(ask(&mut bench, "PUT /pub/q?key=k", "application/json", &value).starts_with("HTTP/1.1 202 "));
    let mut patch = |count: usize| {
        let lines = "{\"channel\":\"q\",\"key\":\"k\",\"patch\":{\"m1\":2}}\n".repeat(count);
        let answer = ask(&mut bench, "POST /pub", "application/x-ndjson", &lines);
        (answer, bench.server.hub().newest().seq)
    };
    let (answer, newest) = patch(5);
    assert!(answer.starts_with("HTTP/1.1 202 ") && newest == 6, "{answer}");
    let (answer, newest) = patch(100);
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("line 6"), "{answer}");
    assert_eq!(newest, 6, "nothing was published");
}

const SUBSCRIBER_KEY: &str = "a secret of thirty-two bytes at least";

/// Few bytes ask for a document of each of thousands of subscriptions.
#[test]
fn asking_who_subscribes_has_a_budget() {
    let mut config = Config::default();
    config.mercure.subscriber_key = Some(SUBSCRIBER_KEY.into());
    (config.mercure.anonymous, config.mercure.subscriptions) = (true, true);
    let mut bench = Bench::new(config);
    for stream in 0..50 {
        let topics: Vec<String> = (0..400).map(|number| format!("topic=t{stream}-{number}")).collect();
        bench.client(&format!("GET /.well-known/mercure?{} HTTP/1.1\r\nHost: x\r\n\r\n", topics.join("&")));
    }
    let all = "/.well-known/mercure/subscriptions";
    let claims = json!({"mercure": {"subscribe": [all, format!("{all}/{{topic}}")]}});
    let token = super::mercure::signed("JWT", &claims, SUBSCRIBER_KEY);
    let mut ask = |address: [u8; 4], target: &str| {
        let id = bench.connect_from(address).unwrap();
        let before = bench.server.hub().looked_at();
        bench.send(id, &format!("GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"));
        bench.turn();
        let answer = bench.read(id);
        let looked_at = bench.server.hub().looked_at() - before;
        (answer.split(' ').nth(1).unwrap().to_owned(), answer.len(), looked_at)
    };
    // Who is told little pays for a look at each; for all of them, one answer has no room.
    let (status, bytes, looked_at) = ask([192, 0, 2, 1], &format!("{all}/t7-7"));
    assert!(status == "200" && bytes < 2000 && looked_at < 25_000, "{status}, {bytes} bytes, {looked_at}");
    let (status, _, looked_at) = ask([192, 0, 2, 1], all);
    assert!(status == "503" && (100_000..250_000).contains(&looked_at), "{status}, {looked_at}");
    let statuses: Vec<String> = (0..8).map(|_| ask([192, 0, 2, 1], all).0).collect();
    assert_eq!(statuses.last().unwrap(), "429", "{statuses:?}");
    assert_eq!(ask([192, 0, 2, 2], &format!("{all}/t7-7")).0, "200", "another address");
    // The application has its own.
    let (status, bytes, _) = ask([127, 0, 0, 1], all);
    assert!(status == "200" && bytes > 2 << 20, "{status}, {bytes} bytes");
}

/// A stream of Mercure asks for hundreds of topics in one request, and each is an event when it comes and when it goes.
#[test]
fn events_about_subscriptions_have_a_budget_and_several_turns() {
    let mut config = Config::default();
    config.mercure.subscriber_key = Some(SUBSCRIBER_KEY.into());
    (config.mercure.anonymous, config.mercure.subscriptions) = (true, true);
    config.limits.publishes_per_second = 1000;
    let mut bench = Bench::new(config);
    let topics: Vec<String> = (0..400).map(|number| format!("topic=t{number}")).collect();
    let request = format!("GET /.well-known/mercure?{} HTTP/1.1\r\nHost: x\r\n\r\n", topics.join("&"));
    let untold = |bench: &Bench| {
        let waits = bench.server.has_untold_subscriptions();
        assert!(!waits || bench.server.next_deadline(bench.world.now) <= bench.world.now.at);
        waits
    };
    let id = bench.connect_from([192, 0, 2, 1]).unwrap();
    bench.world.haste = Some(Random::new(1));
    bench.send(id, &request);
    let now = bench.world.now;
    let mut turns = 0;
    while untold(&bench) {
        bench.server.deliver(now, &mut bench.world);
        turns += 1;
    }
    assert!(turns > 10, "{turns}");
    bench.server.reset(now, id);
    bench.server.deliver(now, &mut bench.world);
    assert!(untold(&bench), "not all in one turn");
    bench.world.haste = None;
    bench.turn();
    assert_eq!(bench.server.hub().newest().seq, 800, "all are told of");
    // Whoever comes has paid for both events of each topic, so this is too much for one address.
    let mut come = |address: [u8; 4], accept: &str| {
        let id = bench.connect_from(address).unwrap();
        bench.send(id, &request.replace("\r\n\r\n", &format!("\r\n{accept}\r\n\r\n")));
        bench.read(id)
    };
    assert!(come([192, 0, 2, 1], "Accept: */*").starts_with("HTTP/1.1 429 "));
    let softened = come([192, 0, 2, 1], "Accept: text/event-stream");
    assert!(softened.starts_with("HTTP/1.1 200 ") && softened.contains("retry:"), "{softened}");
    assert!(come([192, 0, 2, 2], "Accept: */*").starts_with("HTTP/1.1 200 "), "another address");
    bench.turn();
    bench.server.check(bench.world.now);
}
