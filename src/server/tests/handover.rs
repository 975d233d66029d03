//! A server goes over to another one, in the midst of anything.

use super::bench::{Bench, post};
use super::budgets::frame;
use crate::carry::Damaged;
use crate::config::Config;
use crate::conn::ConnId;
use crate::server::Server;
use crate::server::handover::format;
use crate::time::Now;
use std::collections::BTreeMap;

/// Puts another server in the place of this one, which has nothing but what the first parted with.
pub fn hand_over(server: &mut Server, now: Now) {
    let state = server.part();
    let mut next = Server::adopt(server.config.clone(), &state, now).expect("what was written can be read");
    assert!(next.part() == state, "what was read would be written in another way");
    next.broker.hub.journal = std::mem::take(&mut server.broker.hub.journal);
    *server = next;
}

/// The same while the application is asked: what waits for its word is handled again, so it is not as it was.
pub fn adopt(bench: &mut Bench) {
    let state = bench.server.part();
    let config = bench.server.config().clone();
    bench.server = Server::adopt(config, &state, bench.world.now).expect("what was written can be read");
    bench.asked.clear();
}

const TECHNIQUES: [&str; 9] = [
    "poll",
    "jsonp&callback=f",
    "sse",
    "sse-envelope",
    "stream",
    "raw",
    "iframe",
    "multipart",
    "x-mixed-replace",
];

/// One step of what clients do.
type Step = Box<dyn Fn(&mut Bench, &mut BTreeMap<&'static str, ConnId>)>;

fn send(who: &'static str, bytes: impl Into<Vec<u8>>) -> Step {
    let bytes = bytes.into();
    Box::new(move |bench, open| {
        let id = *open.entry(who).or_insert_with(|| bench.connect());
        bench.send_bytes(id, &bytes);
    })
}

fn publish(channel: &'static str, text: &'static str) -> Step {
    Box::new(move |bench, _| bench.publish(channel, text, None))
}

fn pass(ms: u64) -> Step {
    Box::new(move |bench, _| bench.world.advance(ms))
}

/// From now on, so many bytes more are taken of what is written to somebody.
fn narrow(who: &'static str, capacity: usize) -> Step {
    Box::new(move |bench, open| bench.world.socket(open[who]).capacity = capacity)
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")
}

fn upgrade(target: &str, protocol: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{protocol}\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

fn value(key: &str, json: &str) -> String {
    let length = json.len();
    format!(
        "PUT /pub/q?key={key} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{json}"
    )
}

/// Everything that a connection can be in the midst of.
fn steps() -> Vec<Step> {
    let mut steps = vec![publish("a", "before")];
    steps.extend(TECHNIQUES.iter().map(|name| send(name, get(&format!("/sub/a?as={name}")))));
    let frame = frame("{\"publish\":{\"channel\":\"a\",\"data\":\"by frame\"},\"ref\":1}");
    let (first, second) = frame.split_at(7);
    let head = post("a", "a body");
    let (begun, rest) = head.split_at(30);
    steps.extend([
        send("ws", upgrade("/sub/a", "")),
        send("raw ws", upgrade("/sub/a,b", "Sec-WebSocket-Protocol: encke.raw\r\n")),
        send("patterns", get("/sub/*,b?as=stream&after=oldest")),
        send("interrupted", begun),
        send("ws", first),
        publish("a", "one"),
        send("interrupted", rest),
        send("ws", second),
        send("chunked", "POST /pub/b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfir"),
        narrow("sse", 10),
        publish("a", "two, of which a part is taken"),
        send("chunked", "st\r\n3\r\n---\r\n0\r\n"),
        publish("a", "three, that waits"),
        send("chunked", "\r\n"),
        narrow("sse", 1 << 20),
        // Behind a poll another request waits.
        send("pipe", get("/sub/b?as=poll&timeout=20") + &get("/healthz")),
        publish("b", "for who polls"),
        send("key", value("k", "{\"n\":1,\"long\":\"0123456789012345678901234567890123456789\"}")),
        send("latest", get("/sub/q?as=stream&latest=1")),
        send("delta", get("/sub/q?as=stream&delta=1")),
        send("paced", get("/sub/q?as=stream&rate=1&delta=1")),
        send("key", value("k", "{\"n\":2,\"long\":\"0123456789012345678901234567890123456789\"}")),
        pass(400),
        send("key", value("k", "{\"n\":3,\"long\":\"0123456789012345678901234567890123456789\"}")),
        pass(700),
        pass(20_000),
        send("key", "DELETE /pub/q?key=k HTTP/1.1\r\nHost: x\r\n\r\n"),
        send("again", "POST /pub/a HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Length: 1\r\n\r\n4"),
        send("again", "POST /pub/a HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Length: 1\r\n\r\n4"),
        send("window", get("/live.fdajax?cmd=wait&win_id=7&types=chat&sec=0")),
        pass(100_000),
        send("missed", get("/sub/a?as=interval&after=oldest&max=100")),
    ]);
    steps
}

/// What everybody reads if the server goes over after each step of which `goes_over` says so.
fn transcript(goes_over: impl Fn(usize) -> bool) -> BTreeMap<&'static str, Vec<u8>> {
    let mut config = Config::default();
    (config.fdajax.enabled, config.log.access) = (true, true);
    config.history.messages = 3;
    config.history.grace_seconds = 0;
    let mut bench = Bench::new(config);
    let (mut open, mut read) = (BTreeMap::new(), BTreeMap::<&'static str, Vec<u8>>::new());
    for (number, step) in steps().iter().enumerate() {
        step(&mut bench, &mut open);
        if goes_over(number) {
            hand_over(&mut bench.server, bench.world.now);
        }
        bench.turn();
        bench.server.check(bench.world.now);
        if goes_over(number) {
            hand_over(&mut bench.server, bench.world.now);
        }
        for (&who, &id) in &open {
            read.entry(who).or_default().extend(bench.world.read(id, usize::MAX));
        }
    }
    read
}

#[test]
fn nobody_can_tell_in_the_midst_of_anything() {
    let expected = transcript(|_| false);
    let count = |who: &str, text: &str| String::from_utf8_lossy(&expected[who]).matches(text).count();
    assert_eq!(
        (count("ws", "by frame"), count("chunked", "201 Created"), count("pipe", "200 OK")),
        (1, 1, 2)
    );
    assert!(count("delta", "\"patch\"") > 0 && count("sse", "three, that waits") == 1);
    let same = |goes_over: &dyn Fn(usize) -> bool, what: &str| {
        for (who, bytes) in transcript(goes_over) {
            let (read, expected) = (String::from_utf8_lossy(&bytes), String::from_utf8_lossy(&expected[who]));
            assert!(read == expected, "{what}: {who} reads\n{read}\n, not\n{expected}");
        }
    };
    same(&|_| true, "always");
    for number in 0..steps().len() {
        same(&|other| other == number, &format!("after step {number}"));
    }
}

#[test]
fn what_is_cut_or_longer_than_it_is_is_refused() {
    let mut bench = Bench::new(Config::default());
    bench.publish("a", "one", None);
    bench.subscriber("a?as=sse");
    let state = bench.server.part();
    for end in 0..state.len() {
        assert!(Server::adopt(Config::default(), &state[..end], bench.world.now).is_err(), "cut at {end}");
    }
    let longer = [&state[..], b"x"].concat();
    assert!(Server::adopt(Config::default(), &longer, bench.world.now).is_err());
}

#[test]
fn whoever_uses_what_is_switched_off_is_not_taken_over() {
    let mut config = Config::default();
    config.fdajax.enabled = true;
    let bench = Bench::new(config);
    let refused = Server::adopt(Config::default(), &bench.server.part(), bench.world.now).err();
    assert_eq!(refused, Some(Damaged("something is in use that the settings switch off")));
}

#[test]
fn the_settings_of_the_next_server_count() {
    let mut bench = Bench::new(Config::default());
    (0..10).for_each(|number| bench.publish("a", &number.to_string(), None));
    bench.world.advance(60_000);
    bench.turn();
    let mut config = Config::default();
    (config.history.messages, config.limits.message_bytes) = (3, 10);
    bench.server = Server::adopt(config, &bench.server.part(), bench.world.now).unwrap();
    bench.turn();
    assert_eq!(bench.server.hub().gauges().messages, 3);
    // Rules, too: each process has places of its own for what they say.
    let keeping = |pattern: &str, messages| crate::config::ChannelRule {
        pattern: pattern.into(),
        history: crate::config::Keeps { messages: Some(messages), ..Default::default() },
        ..Default::default()
    };
    for rules in [vec![keeping("b", 9), keeping("a", 2)], vec![keeping("a", 1)], Vec::new()] {
        let config = Config { channels: rules, ..bench.server.config().clone() };
        bench.server = Server::adopt(config, &bench.server.part(), bench.world.now).unwrap();
        bench.turn();
    }
    assert_eq!(bench.server.hub().gauges().messages, 1);
    let (_, answer) = bench.client(&post("a", "more than ten bytes"));
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

/// Two programs compare it, so it must depend on nothing but what goes over.
#[test]
fn the_format_has_a_number() {
    assert_eq!(format(), format());
    assert_ne!(format(), 0);
}
