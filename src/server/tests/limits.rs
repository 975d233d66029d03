//! Limits, each reached and exceeded by one, on the virtual clock.

use super::bench::{Bench, post};
use crate::config::{Config, Limits};
use crate::conn::ConnId;
use crate::hub::HubError;
use crate::server::PIPELINE_BYTES_MAX;
use crate::stats::Stats;

fn bench(change: impl FnOnce(&mut Limits)) -> Bench {
    let mut config = Config::default();
    change(&mut config.limits);
    Bench::new(config)
}

/// The status of the first answer in `text`; 0 if there is none.
pub(super) fn status(text: &str) -> u16 {
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

pub(super) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

impl Bench {
    pub(super) fn ask(&mut self, request: &str) -> String {
        self.client(request).1
    }

    pub(super) fn get(&mut self, target: &str) -> String {
        self.ask(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }

    /// A client of another address that has sent `request`, and its answer.
    fn ask_from(&mut self, address: [u8; 4], request: &str) -> (ConnId, String) {
        let id = self.connect_from(address).unwrap();
        self.send(id, request);
        self.turn();
        (id, self.read(id))
    }

    pub(super) fn leave(&mut self, id: ConnId) {
        let now = self.world.now;
        self.server.reset(now, id);
        self.turn();
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.world.advance(ms);
        self.turn();
    }

    pub(super) fn stats(&self) -> Stats {
        self.server.stats()
    }

    pub(super) fn channels(&self) -> usize {
        self.server.hub().gauges().channels
    }
}

#[test]
fn who_only_listens_leaves_no_channels() {
    let mut bench = bench(|_| {});
    let (poll, _) = bench.client("GET /sub/a,b HTTP/1.1\r\nHost: x\r\n\r\n");
    let other = bench.subscriber("b?as=stream");
    assert_eq!(bench.channels(), 2);
    bench.leave(poll);
    assert_eq!(bench.channels(), 1, "b is still heard");
    bench.leave(other);
    assert_eq!(bench.channels(), 0, "at once, without waiting for channel_idle_seconds");
    bench.publish("a", "x", Some(0));
    bench.turn();
    assert_eq!(bench.channels(), 1, "a channel with messages stays");
    bench.subscriber("*?as=stream");
    let silent = bench.subscriber("c?as=stream");
    bench.leave(silent);
    assert_eq!(bench.channels(), 1, "patterns do not keep channels without messages");
}

#[test]
fn patterns_join_with_the_first_message() {
    let mut bench = bench(|_| {});
    let named = bench.subscriber("a?as=stream");
    let both = bench.subscriber("a,*?as=stream");
    let pattern = bench.subscriber("*?as=stream");
    for id in [named, both, pattern] {
        bench.read(id);
    }
    bench.publish("a", "first", None);
    bench.publish("a", "second", None);
    bench.turn();
    for id in [named, both, pattern] {
        let text = bench.read(id);
        assert_eq!((text.matches("first").count(), text.matches("second").count()), (1, 1), "{text}");
    }
}

#[test]
fn who_only_listens_gets_at_most_half_of_the_channels() {
    let mut bench = bench(|limits| limits.channels = 5);
    for name in ["a", "b", "c"] {
        bench.subscriber(&format!("{name}?as=stream"));
    }
    let refused = bench.get("/sub/d?as=stream");
    assert_eq!(status(&refused), 503, "{refused}");
    assert!(field(&refused, "Retry-After").is_some_and(|seconds| seconds.parse::<u32>().unwrap() >= 60));
    assert_eq!(status(&bench.get("/sub/d,e")), 503);
    assert_eq!(bench.stats().channels_refused, 2);
    assert_eq!(status(&bench.ask(&post("d", "x"))), 202);
    assert_eq!(status(&bench.ask(&post("e", "x"))), 202, "publishers get all of them");
    assert_eq!(status(&bench.ask(&post("f", "x"))), 503);
    assert_eq!(bench.stats().channels_refused, 3);
    assert_eq!(status(&bench.ask(&post("a", "x"))), 201);
    assert_eq!(bench.server.hub().gauges().channels, 5);
}

#[test]
fn subscribers_of_one_channel() {
    let mut bench = bench(|limits| limits.subscribers_per_channel = 2);
    bench.publish("a", "x", None);
    let first = bench.subscriber("a?as=stream");
    bench.subscriber("*?as=stream");
    for target in ["/sub/a?as=stream", "/sub/a,b?as=stream", "/sub/*?as=stream"] {
        let refused = bench.get(target);
        assert_eq!(status(&refused), 503, "{target}: {refused}");
        assert!(field(&refused, "Retry-After").is_some());
    }
    assert_eq!(bench.stats().subscriptions_refused, 3);
    assert_eq!(bench.channels(), 1, "a refusal makes no channel");
    bench.leave(first);
    assert_eq!(status(&bench.get("/sub/a?as=stream")), 200);
}

#[test]
fn channels_that_patterns_match() {
    let mut bench = bench(|limits| limits.channels_per_pattern = 3);
    for name in ["a/1", "a/2", "a/3", "b/1"] {
        bench.publish(name, "x", None);
    }
    assert_eq!(status(&bench.get("/sub/a/*?as=stream")), 200);
    for target in ["/sub/**?as=stream", "/sub/a/*,b/*", "/sub/*/*"] {
        let refused = bench.get(target);
        assert_eq!(status(&refused), 400, "{target}");
        assert!(refused.contains("limits.channels_per_pattern"), "{refused}");
    }
    assert_eq!(bench.stats().subscriptions_refused, 3);
    assert_eq!(status(&bench.get("/sub/a/1,a/2,a/3,b/1?as=stream")), 200, "names are no patterns");
}

#[test]
fn patterns_that_would_look_at_too_many_channels() {
    let mut bench = bench(|limits| limits.channels_per_pattern = 3);
    for number in 0..30 {
        bench.publish(&format!("a/{number}"), "x", None);
    }
    assert_eq!(status(&bench.get("/sub/*/7?as=stream")), 200);
    bench.publish("b/7", "x", None);
    assert_eq!(status(&bench.get("/sub/*/7?as=stream")), 400, "to find these takes a look at all");
    assert_eq!(status(&bench.get("/sub/b/*?as=stream")), 200);
}

#[test]
fn patterns_that_come_to_match_too_many_channels() {
    let mut bench = bench(|limits| limits.channels_per_pattern = 2);
    let stream = bench.subscriber("*?as=stream");
    let (poll, _) = bench.client("GET /sub/n/* HTTP/1.1\r\nHost: x\r\n\r\n");
    let narrow = bench.subscriber("b?as=stream");
    bench.publish("a", "1", None);
    bench.publish("b", "2", None);
    bench.turn();
    bench.read(stream);
    assert!(!bench.world.at_end(stream), "two are allowed");
    bench.publish("c", "3", None);
    bench.turn();
    let goodbye = bench.read(stream);
    assert!(goodbye.ends_with("0\r\n\r\n") && !goodbye.contains("\"3\""), "{goodbye}");
    assert!(bench.world.at_end(stream));
    assert!(!bench.world.at_end(narrow));
    bench.server.broker.hub.check();
    for (number, channel) in ["n/1", "n/2", "n/3"].into_iter().enumerate() {
        bench.publish(channel, &number.to_string(), None);
    }
    bench.turn();
    assert_eq!(status(&bench.read(poll)), 400);
    assert_eq!(bench.stats().subscriptions_refused, 2);
    assert_eq!(status(&bench.get("/sub/*?as=stream")), 400, "it comes back, and learns why");
}

#[test]
fn all_that_fits_one_read_may_arrive_together() {
    let mut bench = bench(|_| {});
    let short = "GET /healthz HTTP/1.1\r\nHost:\r\n\r\n";
    let count = (64 << 10) / short.len();
    let (_, answers) = bench.client(&short.repeat(count));
    assert_eq!(answers.matches("HTTP/1.1 200").count(), count);
    assert_eq!(bench.stats().pipelines_refused, 0);
}

#[test]
fn requests_that_arrive_together() {
    let mut bench = bench(|limits| limits.pipelined_requests = 3);
    let health = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let (id, answers) = bench.client(&health.repeat(3));
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 3);
    bench.send(id, &health.repeat(3));
    assert_eq!(bench.read(id).matches("HTTP/1.1 200").count(), 3, "the next three are others");
    bench.send(id, &health.repeat(4));
    bench.turn();
    let answers = bench.read(id);
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 3, "what was accepted is answered");
    assert!(answers.contains("HTTP/1.1 429") && field(&answers, "Retry-After").is_some(), "{answers}");
    assert_eq!(bench.stats().pipelines_refused, 1);
}

/// Sends empty lines to `id`, byte by byte, one a second. Returns how many seconds it took until it was closed, and
/// what it was told.
fn drip_empty_lines(bench: &mut Bench, id: ConnId) -> (u64, String) {
    for second in 1..100 {
        bench.send(id, if second % 2 == 1 { "\r" } else { "\n" });
        bench.pass(1000);
        let told = bench.read(id);
        if !told.is_empty() || bench.world.at_end(id) {
            return (second, told);
        }
    }
    panic!("it is open after 100 seconds");
}

#[test]
fn empty_lines_do_not_keep_a_connection_open() {
    let mut bench = bench(|limits| (limits.idle_seconds, limits.connections) = (5, 2));
    let (first, _) = bench.client("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    let (listener, _) = bench.client("GET /sub/a HTTP/1.1\r\nHost: x\r\n\r\n");
    let surplus = bench.connect();
    let (seconds, told) = drip_empty_lines(&mut bench, surplus);
    assert_eq!((seconds, status(&told)), (2, 503));
    let begun = bench.connect();
    bench.pass(1000);
    bench.send(begun, "GET");
    bench.pass(1000);
    assert_eq!(status(&bench.read(begun)), 503, "counted from the beginning");
    bench.send(first, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    bench.read(first);
    assert_eq!(drip_empty_lines(&mut bench, first), (5, String::new()));
    assert_eq!((bench.read(listener), bench.stats().connections_idle), (String::new(), 1));
}

#[test]
fn a_body_must_keep_its_pace() {
    let mut bench = bench(|limits| limits.body_bytes_per_second = 10);
    let head = "POST /pub/a HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n";
    // 5 seconds of grace, and a tenth of a second for each byte.
    let (slow, _) = bench.client(head);
    for second in 1..=5 {
        bench.pass(1000);
        assert_eq!(bench.read(slow), "", "after {second} seconds");
        bench.send(slow, "x");
    }
    bench.pass(400);
    assert_eq!(bench.read(slow), "");
    bench.pass(200);
    assert_eq!(status(&bench.read(slow)), 408);
    assert_eq!(bench.stats().heads_timed_out, 1);
    let (steady, _) = bench.client(head);
    for _ in 0..10 {
        bench.pass(1000);
        assert_eq!(bench.read(steady), "");
        bench.send(steady, &"x".repeat(10));
    }
    assert_eq!(status(&bench.read(steady)), 202);
}

#[test]
fn a_connection_that_is_too_many_is_heard() {
    let mut bench = bench(|limits| limits.connections = 2);
    let inside = [bench.connect(), bench.connect()];
    let health = bench.get("/healthz");
    assert_eq!((status(&health), field(&health, "Connection")), (200, Some("close")), "{health}");
    let mut retries: Vec<String> = (0..10)
        .map(|_| {
            let refused = bench.get("/stats");
            assert_eq!((status(&refused), field(&refused, "Connection")), (503, Some("close")));
            field(&refused, "Retry-After").unwrap().to_owned()
        })
        .collect();
    retries.sort_unstable();
    retries.dedup();
    assert_eq!(retries.len(), 10, "they do not come back together");
    let posting = "POST /pub/a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(status(&bench.ask(posting)), 503, "without its body");
    let silent = bench.connect();
    bench.pass(1900);
    assert_eq!(bench.read(silent), "");
    bench.pass(200);
    assert_eq!(status(&bench.read(silent)), 503);
    assert_eq!(bench.stats().connections_refused, 12);
    bench.pass(10_000);
    assert_eq!(bench.server.connections(), 2, "those who are too many are gone");
    for id in inside {
        bench.send(id, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(status(&bench.read(id)), 200);
    }
}

#[test]
fn places_for_those_who_are_too_many_are_few_but_operators_have_their_own() {
    let mut bench = bench(|limits| limits.connections = 2);
    for _ in 0..2 + 64 {
        bench.connect();
    }
    assert!(bench.connect_from([127, 0, 0, 1]).is_none(), "closed without a word");
    assert_eq!(bench.stats().connections_refused, 1);
    let now = bench.world.now;
    for _ in 0..16 {
        let id = bench.server.accept(now, [127, 0, 0, 1].into(), true).unwrap();
        bench.world.open(id, 1 << 20);
        bench.send(id, "GET /stats HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(status(&bench.read(id)), 200, "operators are served");
    }
    assert!(bench.server.accept(now, [127, 0, 0, 1].into(), true).is_none());
}

#[test]
fn connections_of_one_address() {
    let mut bench = bench(|limits| limits.connections_per_address = 3);
    let health = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut inside: Vec<ConnId> = (0..3).map(|_| bench.connect_from([192, 0, 2, 1]).unwrap()).collect();
    let (_, refused) = bench.ask_from([192, 0, 2, 1], health);
    assert_eq!((status(&refused), field(&refused, "Connection")), (429, Some("close")));
    assert!(field(&refused, "Retry-After").is_some() && refused.contains("limits.connections_per_address"));
    assert_eq!(status(&bench.ask_from([192, 0, 2, 2], health).1), 200, "others notice nothing");
    for _ in 0..10 {
        bench.connect();
    }
    bench.pass(10_000);
    for _ in 0..4 {
        assert!(bench.connect_from([192, 0, 2, 1]).is_some(), "heard before it is refused");
    }
    assert!(bench.connect_from([192, 0, 2, 1]).is_none());
    // Told, and then closed.
    bench.pass(5000);
    bench.pass(5000);
    assert_eq!(bench.stats().connections_refused_per_address, 6);
    bench.leave(inside.pop().unwrap());
    assert_eq!(status(&bench.ask_from([192, 0, 2, 1], health).1), 200, "there is room again");
}

#[test]
fn messages_that_one_address_publishes_in_a_second() {
    let mut bench = bench(|limits| limits.publishes_per_second = 3);
    let local = [127, 0, 0, 2];
    let batch = |count: usize| {
        let lines = "{\"channel\":\"a\",\"data\":1}\n".repeat(count);
        format!(
            "POST /pub HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n{lines}",
            lines.len()
        )
    };
    assert_eq!(status(&bench.ask_from(local, &batch(4)).1), 429, "all or none");
    assert_eq!(status(&bench.ask_from(local, &batch(3)).1), 202);
    let (_, refused) = bench.ask_from(local, &post("a", "x"));
    assert_eq!(status(&refused), 429);
    assert!(field(&refused, "Retry-After").is_some() && refused.contains("limits.publishes_per_second"));
    assert_eq!(status(&bench.ask_from([127, 0, 0, 3], &batch(3)).1), 202, "another address");
    for _ in 0..10 {
        assert_eq!(status(&bench.ask(&batch(3))), 202, "127.0.0.1 is exempt");
    }
    bench.pass(1000);
    assert_eq!(status(&bench.ask_from(local, &post("a", "x")).1), 202);
    assert_eq!(bench.stats().publications_refused, 2);
    assert_eq!(bench.stats().messages_published, 3 + 3 + 30 + 1);
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

impl Bench {
    /// Opens a WebSocket with further `fields` and publishes twice on it. Returns the answers.
    fn publish_twice_by_socket(&mut self, fields: &str) -> [bool; 2] {
        let id = self.connect();
        self.send(id, &format!("GET /sub/b HTTP/1.1\r\nHost: x\r\n{fields}{UPGRADE}\r\n"));
        self.turn();
        self.world.read(id, usize::MAX);
        [0; 2].map(|_| {
            let command = r#"{"ref":1,"publish":{"channel":"a","data":1}}"#;
            // A short text frame, masked with zeros; all bytes are ASCII but the first two.
            let frame = [&[0x81, 0x80 | command.len() as u8, 0, 0, 0, 0], command.as_bytes()].concat();
            self.send_bytes(id, &frame);
            self.turn();
            let answer = self.world.read(id, usize::MAX);
            String::from_utf8_lossy(&answer).contains("\"ok\"")
        })
    }
}

#[test]
fn channels_that_one_address_has_looked_at_in_a_second() {
    let mut bench = bench(|_| {});
    (0..10_000).for_each(|number| bench.publish(&format!("c/{number}"), "x", None));
    let stranger = [192, 0, 2, 1];
    let search = "GET /sub/c/*/never?as=interval HTTP/1.1\r\nHost: x\r\n\r\n";
    for _ in 0..100 {
        assert_eq!(status(&bench.ask_from(stranger, search).1), 304);
    }
    let (_, refused) = bench.ask_from(stranger, search);
    assert_eq!(status(&refused), 429);
    assert!(field(&refused, "Retry-After").is_some());
    let plain = "GET /sub/c/1?as=interval HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(status(&bench.ask_from(stranger, plain).1), 304, "a name is no search");
    assert_eq!(status(&bench.ask_from([192, 0, 2, 2], search).1), 304, "another address");
    assert_eq!(status(&bench.ask(search)), 304, "127.0.0.1 is exempt");
    assert_eq!(bench.stats().subscriptions_refused, 1);
    bench.pass(1000);
    assert_eq!(status(&bench.ask_from(stranger, search).1), 304);
}

#[test]
fn behind_a_trusted_proxy_the_clients_address_counts() {
    let mut config = Config::default();
    config.limits.publishes_per_second = 1;
    config.publish.token = vec!["t".into()];
    config.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let mut bench = Bench::new(config);
    let publish = |client: &str| {
        format!(
            "POST /pub/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\nX-Forwarded-For: {client}\r\nContent-Length: 1\r\n\r\nx"
        )
    };
    for (client, expected) in [
        ("127.0.0.8", 202),
        ("127.0.0.8", 429),
        ("127.0.0.9", 202),
        ("127.0.0.9", 429),
        ("unknown", 202),
        ("unknown", 429),
    ] {
        assert_eq!(status(&bench.ask(&publish(client))), expected, "{client}");
    }
    bench.pass(1000);
    let token = "Authorization: Bearer t\r\n";
    assert_eq!(bench.publish_twice_by_socket(token), [true, true], "the proxy's own machine is exempt");
    let through = format!("{token}X-Forwarded-For: 192.0.2.1\r\n");
    assert_eq!(bench.publish_twice_by_socket(&through), [true, false]);
}

#[test]
fn a_body_is_not_asked_for_that_nobody_will_look_at() {
    let mut bench = bench(|_| {});
    let request = |line: &str| {
        format!("{line} HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\nExpect: 100-continue\r\n\r\n")
    };
    let stranger = [192, 0, 2, 1];
    for (line, expected) in [
        ("POST /pub/a", 403),
        ("PUT /pub/a", 403),
        ("POST /pub", 403),
        ("POST /nowhere", 404),
        ("POST /sub/a", 405),
    ] {
        let (id, answer) = bench.ask_from(stranger, &request(line));
        assert_eq!((status(&answer), field(&answer, "Connection")), (expected, Some("close")), "{line}");
        // Nor is it kept when it comes all the same.
        bench.send(id, &"x".repeat(50_000));
        bench.turn();
        assert_eq!(bench.read(id), "");
    }
    assert_eq!(status(&bench.ask(&request("POST /nowhere"))), 404);
    assert_eq!(status(&bench.ask(&request("POST /pub/a"))), 100, "who may publish is asked for it");
    let mut config = Config::default();
    config.publish.token = vec!["secret".into()];
    let mut bench = Bench::new(config);
    let answer = bench.ask(&request("POST /pub/a"));
    assert_eq!((status(&answer), field(&answer, "WWW-Authenticate")), (401, Some("Bearer")));
}

#[test]
fn an_idempotency_key_holds_however_its_channels_are_written() {
    let mut bench = bench(|_| {});
    let publish = |path: &str| {
        format!("POST /pub/{path} HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Length: 1\r\n\r\nx")
    };
    let answers = ["a,b", "%61,b", "a%2Cb", "b,a"].map(|path| status(&bench.ask(&publish(path))));
    assert_eq!(answers, [202, 202, 422, 422], "other channels are another request");
    assert_eq!((bench.stats().messages_published, bench.stats().messages_repeated), (2, 1));
}

/// What waits first behind it is a HEAD, whose answer would have no body.
#[test]
fn what_is_pipelined_behind_a_poll_is_bounded_and_the_poll_is_told() {
    let mut bench = bench(|_| ());
    let (poll, _) = bench.client("GET /sub/a?as=poll HTTP/1.1\r\nHost: x\r\n\r\n");
    bench.send(poll, "HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    bench.send(poll, &"x".repeat(PIPELINE_BYTES_MAX));
    bench.turn();
    let answer = bench.read(poll);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!((status(head), field(head, "Content-Length").unwrap()), (431, &*body.len().to_string()));
    assert!(body.contains("too much is pipelined"), "{answer}");
}

#[test]
fn idempotency_keys_are_bounded_in_bytes() {
    let mut bench = bench(|limits| limits.idempotency_bytes = 2000);
    let key = |number: usize| {
        format!(
            "POST /pub/a HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {number:0200}\r\nContent-Length: 1\r\n\r\nx"
        )
    };
    for number in 0..20 {
        bench.ask(&key(number));
    }
    bench.ask(&key(19));
    bench.ask(&key(0));
    assert_eq!(bench.stats().messages_repeated, 1, "the newest is known, the oldest is not");
    assert!(bench.stats().idempotency_keys_forgotten > 5);
}

#[test]
fn details_name_their_settings() {
    for (error, name) in [
        (HubError::TooManyChannels, "limits.channels "),
        (HubError::TooManySubscribers, "limits.subscribers_per_channel "),
        (HubError::TooManyMatches, "limits.channels_per_pattern;"),
    ] {
        assert!(error.detail().contains(name), "{}", error.detail());
    }
}
