//! Limits, each reached and exceeded by one, on the virtual clock.

use super::delivery::{Bench, post};
use crate::config::{Config, Limits};
use crate::conn::ConnId;
use crate::hub::HubError;
use crate::stats::Stats;

fn bench(change: impl FnOnce(&mut Limits)) -> Bench {
    let mut config = Config::default();
    change(&mut config.limits);
    Bench::new(config)
}

/// The status of the first answer in `text`; 0 if there is none.
fn status(text: &str) -> u16 {
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

impl Bench {
    fn ask(&mut self, request: &str) -> String {
        self.client(request).1
    }

    fn get(&mut self, target: &str) -> String {
        self.ask(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }

    /// A client of another address that has sent `request`, and its answer.
    fn ask_from(&mut self, address: [u8; 4], request: &str) -> (ConnId, String) {
        let id = self.connect_from(address).unwrap();
        self.send(id, request);
        self.turn();
        (id, self.read(id))
    }

    fn leave(&mut self, id: ConnId) {
        let now = self.world.now;
        self.server.reset(now, id);
        self.turn();
    }

    fn pass(&mut self, ms: u64) {
        self.world.advance(ms);
        self.turn();
    }

    fn stats(&self) -> Stats {
        self.server.stats()
    }

    fn channels(&self) -> usize {
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

const MIB: usize = 1 << 20;

/// A bench with a budget of 100 MiB and 15 messages of 1 MiB on each of `idle` and `live`, whose frames are kept, too.
fn heavy() -> (Bench, ConnId) {
    let mut config = Config::default();
    config.limits.memory = 100 * MIB;
    config.history.bytes = 100 * MIB;
    let mut bench = Bench::new(config);
    let live = bench.subscriber("live?as=raw");
    let text = "x".repeat(MIB);
    for _ in 0..15 {
        bench.publish("live", &text, None);
        bench.publish("idle", &text, None);
    }
    bench.turn();
    (bench, live)
}

impl Bench {
    fn kept(&self, channel: &str) -> usize {
        self.server.hub().info(channel).map_or(0, |info| info.messages)
    }

    fn is_heavier(&mut self) -> bool {
        self.server.note_held();
        self.server.is_heavier()
    }

    fn is_lighter(&mut self) -> bool {
        self.server.note_held();
        self.server.is_lighter()
    }

    /// Memory is seen to be `mib` MiB.
    fn weigh(&mut self, mib: usize) {
        let now = self.world.now;
        self.server.note_held();
        self.server.note_memory(now, mib * MIB);
        self.turn();
    }
}

#[test]
fn history_of_idle_channels_goes_first_and_only_as_much_as_needed() {
    let (mut bench, live) = heavy();
    bench.weigh(90);
    assert_eq!((bench.kept("idle"), bench.stats().memory_shortages), (15, 0), "nine tenths are allowed");
    bench.weigh(91);
    // 11 MiB too much for eight tenths.
    assert_eq!((bench.kept("idle"), bench.kept("live")), (4, 15));
    assert_eq!((bench.stats().memory_shortages, bench.stats().messages_evicted), (1, 11));
    assert!(!bench.server.is_refusing(), "that was enough");
    // What was freed may stay resident without being in use.
    bench.weigh(91);
    assert_eq!(bench.kept("idle"), 4);
    bench.read(live);
    bench.publish("live", "news", None);
    bench.turn();
    assert!(bench.read(live).contains("news"));
}

#[test]
fn then_new_connections_are_refused_until_there_is_room() {
    let (mut bench, live) = heavy();
    bench.weigh(150);
    assert_eq!((bench.kept("idle"), bench.kept("live")), (0, 6), "it did not suffice");
    assert!(bench.server.is_refusing());
    let refused = bench.get("/sub/live");
    assert_eq!(status(&refused), 503);
    assert!(refused.contains("limits.memory") && field(&refused, "Retry-After").is_some());
    assert_eq!(status(&bench.get("/healthz")), 200, "health checks are answered");
    bench.read(live);
    for number in 0..3 {
        bench.publish("live", &number.to_string(), None);
        bench.weigh(150);
    }
    assert!(bench.read(live).contains('2'), "live deliveries go on");
    assert_eq!(bench.stats().memory_shortages, 1, "it is said once");
    bench.weigh(85);
    assert!(bench.server.is_refusing(), "not yet below eight tenths");
    bench.weigh(79);
    assert!(!bench.server.is_refusing());
    assert_eq!(status(&bench.get("/sub/live?after=-1")), 200);
    bench.pass(31_000);
    bench.weigh(79);
    bench.weigh(150);
    assert_eq!(bench.stats().memory_shortages, 2, "over, and again");
}

#[test]
fn memory_is_measured_early_when_much_comes() {
    let (mut bench, _) = heavy();
    bench.weigh(60);
    assert!(!bench.is_heavier());
    let text = "x".repeat(MIB);
    for _ in 0..4 {
        bench.publish("other", &text, None);
    }
    assert!(bench.is_heavier());
    bench.weigh(64);
    assert!(!bench.is_heavier());
}

#[test]
fn free_memory_is_given_back_when_a_quarter_was_let_go() {
    let mut bench = Bench::new(Config::default());
    // Of a MiB each, nearly.
    let fill = |bench: &mut Bench, names: &str| {
        names.chars().for_each(|name| bench.publish(&name.to_string(), &"x".repeat(1_000_000), None));
    };
    let delete = |bench: &mut Bench, names: &str| {
        let now = bench.world.now.at;
        names.chars().for_each(|name| {
            assert!(bench.server.broker.hub.delete(now, &name.to_string(), |_| true).is_some());
        });
    };
    fill(&mut bench, "ab");
    bench.weigh(8);
    delete(&mut bench, "a");
    assert!(!bench.is_lighter(), "less than a MiB");
    fill(&mut bench, "cd");
    assert!(!bench.is_lighter(), "more is held than ever");
    bench.weigh(8);
    delete(&mut bench, "bc");
    assert!(bench.is_lighter());
    bench.weigh(600);
    assert!(!bench.is_lighter(), "there would be too much to look at");
    bench.weigh(8);
    assert!(bench.is_lighter());
    bench.server.note_given_back();
    assert!(!bench.is_lighter(), "once is enough");
    fill(&mut bench, "efghijklmn");
    bench.weigh(16);
    delete(&mut bench, "ef");
    assert!(!bench.is_lighter(), "two of eleven");
    delete(&mut bench, "g");
    assert!(bench.is_lighter(), "three of eleven");
}

#[test]
fn what_arrives_in_pieces_is_not_kept_while_memory_is_short() {
    let mut config = Config::default();
    config.limits.memory = 100 * MIB;
    let mut bench = Bench::new(config);
    let head = "POST /pub/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n";
    let (begun, _) = bench.client(head);
    let (waiting, _) = bench.client("GET /sub/a HTTP/1.1\r\nHost: x\r\n\r\n");
    let upgrade = "GET /sub/a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    let sockets = [0; 2].map(|_| bench.connect());
    for id in sockets {
        bench.send(id, upgrade);
        bench.turn();
        bench.world.read(id, usize::MAX);
    }
    let [publisher, whole_sender] = [0; 2].map(|_| bench.connect());
    bench.weigh(95);
    bench.send(begun, "x");
    bench.turn();
    assert_eq!(status(&bench.read(begun)), 503, "one that has begun");
    let (id, other) = (publisher, bench.connect_from([127, 0, 0, 1]));
    assert!(other.is_some());
    bench.send(id, head);
    bench.turn();
    let refused = bench.read(id);
    assert_eq!(status(&refused), 503);
    assert!(refused.contains("limits.memory") && field(&refused, "Retry-After").is_some(), "{refused}");
    for whole in [
        "\r\nPOST /pub/b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab",
        "POST /pub/b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ] {
        bench.send(whole_sender, whole);
        bench.turn();
        assert_eq!(status(&bench.read(whole_sender)) / 100, 2, "it arrived at once: {whole}");
    }
    // The first byte of a frame.
    bench.send(sockets[0], "\u{1}");
    bench.turn();
    let goodbye = bench.world.read(sockets[0], usize::MAX);
    assert_eq!(goodbye[2..4], 1013_u16.to_be_bytes(), "{goodbye:?}");
    assert_eq!((bench.stats().requests_refused, bench.stats().sockets_failed), (2, 1));
    bench.publish("a", "news", None);
    bench.turn();
    assert!(bench.read(waiting).ends_with("news"), "nobody is sent less");
    assert!(bench.world.read(sockets[1], usize::MAX).ends_with(b"\"data\":\"news\"}"));
    bench.weigh(70);
    let (late, _) = bench.client(head);
    bench.send(late, "0123456789");
    assert_eq!(status(&bench.read(late)), 201);
}

#[test]
fn a_shortage_ends_when_those_who_made_it_leave() {
    let mut config = Config::default();
    config.limits.memory = MIB;
    let mut bench = Bench::new(config);
    let names = (0..1000).map(|number| format!("{number}/{}?as=raw", "n".repeat(240)));
    let crowd: Vec<ConnId> = names.map(|name| bench.subscriber(&name)).collect();
    let now = bench.world.now;
    bench.server.note_memory(now, 1_100_000);
    assert!(bench.server.is_refusing());
    crowd.into_iter().for_each(|id| bench.leave(id));
    assert_eq!(bench.channels(), 0);
    // The allocator keeps what they had, for the next ones.
    bench.server.note_memory(now, 1_100_000);
    assert!(!bench.server.is_refusing());
}

#[test]
fn what_nobody_knows_of_is_forgiven_when_it_grows_no_more() {
    let mut config = Config::default();
    config.limits.memory = 100 * MIB;
    let mut bench = Bench::new(config);
    bench.weigh(150);
    for mib in [150, 152, 152] {
        bench.pass(9000);
        bench.weigh(mib);
        assert!(bench.server.is_refusing(), "it grew less than 10 s ago");
    }
    bench.pass(1000);
    bench.weigh(152);
    assert!(!bench.server.is_refusing());
    bench.weigh(153);
    assert!(!bench.server.is_refusing(), "a little more is no new shortage");
    bench.weigh(165);
    assert!(bench.server.is_refusing(), "that much more is");
    bench.weigh(70);
    assert!(!bench.server.is_refusing());
    bench.weigh(91);
    assert!(bench.server.is_refusing(), "what was given back to the system is not forgiven twice");
}

#[test]
fn more_may_be_shed_than_is_resident() {
    let mut config = Config::default();
    config.limits.memory = MIB;
    config.history.bytes = 100 * MIB;
    let mut bench = Bench::new(config);
    bench.publish("idle", &"x".repeat(3 * MIB), None);
    let now = bench.world.now;
    // The rest has been swapped out.
    bench.server.note_memory(now, 1_000_000);
    assert_eq!((bench.kept("idle"), bench.server.is_refusing()), (0, false));
}

#[test]
fn history_takes_half_of_the_memory_at_most() {
    let (mut bench, _) = heavy();
    let text = "x".repeat(MIB);
    for number in 0..20 {
        bench.publish(&number.to_string(), &text, None);
    }
    bench.turn();
    let bytes = bench.server.hub().gauges().bytes;
    assert!((48 * MIB..50 * MIB).contains(&bytes), "{bytes}");
}

#[test]
fn history_goes_although_somebody_listens_to_everything() {
    let (mut bench, _) = heavy();
    let everything = bench.subscriber("**?as=sse");
    bench.weigh(90);
    assert_eq!((bench.kept("idle"), bench.kept("live")), (15, 15));
    bench.publish("news", "on its way", None);
    let now = bench.world.now;
    bench.server.note_memory(now, 96 * MIB);
    let kept = bench.kept("idle") + bench.kept("live");
    assert!((18..22).contains(&kept), "16 MiB too much for eight tenths went: {kept}");
    assert_eq!(bench.kept("news"), 1);
    assert!(!bench.server.is_refusing());
    // Now so much that all that may go does.
    for _ in 0..20 {
        bench.publish("live", &"x".repeat(MIB), None);
    }
    bench.server.note_memory(now, 200 * MIB);
    assert_eq!(bench.kept("live"), 20, "what is to be delivered stays");
    assert!(bench.server.is_refusing());
    bench.turn();
    assert!(bench.read(everything).contains("on its way"), "no live delivery is lost");
}

#[test]
fn while_memory_is_short_less_is_kept_for_a_client() {
    let mut config = Config::default();
    config.limits.memory = 100 * MIB;
    let mut bench = Bench::new(config);
    let pipelined = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(5000));
    let batch = "GET /sub/a?after=oldest HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n";
    let clients = [0; 2].map(|_| bench.connect());
    let parked = [0; 2].map(|_| bench.client("GET /sub/b HTTP/1.1\r\nHost: x\r\n\r\n").0);
    for (round, messages) in [(0, 4), (1, 2)] {
        (0..4).for_each(|_| bench.publish("a", &"x".repeat(30_000), None));
        bench.send(clients[round], batch);
        bench.turn();
        let answer = bench.read(clients[round]);
        assert_eq!(answer.matches("\"channel\":\"a\"").count(), messages, "{round}");
        bench.send(parked[round], &pipelined);
        bench.turn();
        let is_refused = status(&bench.read(parked[round])) == 431;
        assert_eq!(is_refused, round == 1);
        bench.weigh(95);
    }
}

#[test]
fn what_clients_do_not_take_is_noticed_early() {
    let mut config = Config::default();
    config.limits.memory = 16 * MIB;
    let mut bench = Bench::new(config);
    (0..2).for_each(|_| bench.publish("a", &"\u{1}".repeat(100_000), None));
    bench.weigh(4);
    let batch = "GET /sub/a?after=oldest HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n";
    assert!(!bench.is_heavier());
    let id = bench.connect();
    bench.world.socket(id).capacity = 1000;
    bench.send(id, batch);
    assert!(bench.is_heavier(), "1.2 MB are kept for it");
}

#[test]
fn a_large_message_alone_in_a_batch_is_kept_once() {
    let mut config = Config::default();
    config.limits.memory = 100 * MIB;
    let mut bench = Bench::new(config);
    bench.publish("a", &"\u{1}".repeat(500_000), None);
    let batch = "GET /sub/a?after=oldest HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n";
    let whole = bench.get("/sub/a?after=oldest");
    assert_eq!(whole.matches('\u{1}').count(), 500_000);
    for number in 0..20 {
        let id = bench.connect();
        bench.world.socket(id).capacity = 1000;
        bench.send(id, batch);
        bench.turn();
        assert!(number == 0 || !bench.is_heavier(), "{number}");
        bench.weigh(10);
        let mut answer = String::new();
        if number < 2 {
            bench.world.socket(id).capacity = usize::MAX;
            answer += &bench.read(id);
            bench.turn();
            answer += &bench.read(id);
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert_eq!(field(head, "Content-Length").unwrap(), body.len().to_string());
            assert_eq!(body.matches("\\u0001").count(), 500_000);
            assert!(body.ends_with(",\"gap\":false}"));
        }
    }
}
