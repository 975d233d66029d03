//! What strangers can make the server keep: who of them is refused, or closed, when memory becomes short.

use super::MIB;
use crate::config::Config;
use crate::conn::ConnId;
use crate::server::tests::bench::{Bench, post};
use crate::server::tests::budgets::frame;
use crate::server::tests::limits::{field, status};
use serde_json::json;

/// A stranger, who is not the application.
const STRANGER: [u8; 4] = [192, 0, 2, 1];

const UPGRADE: &str = " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";

impl Bench {
    /// A connection of `address` that has asked for `target`, and what it was answered.
    fn get_from(&mut self, address: [u8; 4], target: &str) -> (ConnId, String) {
        let id = self.connect_from(address).unwrap();
        (id, self.get_on(id, target))
    }

    fn get_on(&mut self, id: ConnId, target: &str) -> String {
        self.send(id, &format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        self.turn();
        String::from_utf8_lossy(&self.world.read(id, usize::MAX)).into_owned()
    }

    /// An open WebSocket.
    fn socket_from(&mut self, address: [u8; 4], target: &str) -> ConnId {
        let id = self.connect_from(address).unwrap();
        self.send(id, &format!("GET {target}{UPGRADE}"));
        self.turn();
        self.world.read(id, usize::MAX);
        id
    }

    /// What a command to a WebSocket is answered.
    fn command(&mut self, id: ConnId, command: &str) -> String {
        self.send_bytes(id, &frame(command));
        self.turn();
        String::from_utf8_lossy(&self.world.read(id, usize::MAX)).into_owned()
    }

    /// A client that asks for `target` and reads nothing beyond what the kernel holds.
    fn stalled(&mut self, address: [u8; 4], target: &str) -> ConnId {
        let id = self.connect_from(address).unwrap();
        self.world.socket(id).capacity = 1000;
        self.send(id, &format!("GET {target} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n"));
        self.turn();
        id
    }

    fn is_closed(&mut self, id: ConnId) -> bool {
        self.world.socket(id).closed
    }
}

#[test]
fn strangers_inside_are_refused_what_takes_memory_in_every_language() {
    let mut config = Config::default();
    config.limits.memory = 100 * MIB;
    config.fdajax.enabled = true;
    let mut bench = Bench::new(config);
    bench.publish("c/1", "x", None);
    let (poller, _) = bench.get_from(STRANGER, "/sub/c/1?as=interval&after=oldest");
    let socket = bench.socket_from(STRANGER, "/sub/own");
    let guest = bench.connect_from(STRANGER).unwrap();
    let handshake = json!([{"channel": "/meta/handshake", "version": "1.0",
        "supportedConnectionTypes": ["long-polling"]}]);
    let bayeux = bench.connect_from(STRANGER).unwrap();
    let session = bench.bayeux(bayeux, &handshake)[0]["clientId"].as_str().unwrap().to_owned();
    let subscribe =
        json!([{"channel": "/meta/subscribe", "clientId": session, "subscription": ["/a", "/b"]}]);
    bench.weigh(91);
    assert!(bench.server.is_refusing());
    for target in ["/sub/c/*?as=stream", "/sub/a,b?as=interval"] {
        let refused = bench.get_on(poller, target);
        assert_eq!(status(&refused), 503, "{target}: {refused}");
        assert!(refused.contains("limits.memory") && field(&refused, "Retry-After").is_some(), "{refused}");
    }
    let refused = bench.command(socket, r#"{"subscribe":["a"]}"#);
    assert!(refused.contains("\"error\":\"memory is short"), "{refused}");
    let done = bench.command(socket, r#"{"unsubscribe":["own"],"ref":1}"#);
    assert!(done.contains("\"ok\":true"), "what gives memory back is not refused: {done}");
    assert_eq!(bench.bayeux(bayeux, &subscribe)[0]["error"], "503::memory_short");
    assert_eq!(bench.bayeux(bayeux, &handshake)[0]["error"], "503::memory_short");
    bench.send(
        guest,
        "GET /live.fdajax?cmd=wait&win_id=1&types=feed HTTP/1.1\r\nHost: x\r\nCookie: _session_id=s\r\n\r\n",
    );
    bench.turn();
    let refused = bench.read(guest);
    assert!(status(&refused) == 503 && refused.contains("limits.memory"), "{refused}");
    assert!(bench.connect_from(STRANGER).is_some_and(|id| status(&bench.get_on(id, "/sub/c/1")) == 503));
    let stats = bench.stats();
    assert_eq!((stats.subscriptions_refused, stats.sessions_refused), (4, 2));
    // The application goes on: who listens, who publishes, whole or in pieces.
    assert_eq!(status(&bench.get("/sub/c/*?as=stream")), 200);
    let (publisher, _) = bench.client("POST /pub/c/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nne");
    bench.send(publisher, "ws");
    assert_eq!(status(&bench.read(publisher)), 201);
    bench.weigh(97);
    assert_eq!(status(&bench.get("/sub/c/*?as=stream")), 503);
    assert_eq!(status(&bench.ask(&post("c/1", "x"))), 503, "a new connection");
    bench.send(publisher, &post("c/2", "x"));
    assert_eq!(status(&bench.read(publisher)) / 100, 2, "publishing takes no more than history may");
    bench.weigh(70);
    assert_eq!(status(&bench.get_on(poller, "/sub/a,b?as=interval")), 304);
    assert_eq!(bench.bayeux(bayeux, &subscribe)[0]["successful"], true);
}

/// Bytes that subscriptions of so many channels are counted with.
const fn channels(count: usize) -> usize {
    count * 144
}

#[test]
fn subscriptions_of_an_address_have_a_share_of_the_memory() {
    let mut config = Config::default();
    config.limits.memory_per_address = channels(20);
    let mut bench = Bench::new(config);
    let names = |range: std::ops::Range<usize>| {
        let names: Vec<String> = range.map(|number| format!("c/{number}")).collect();
        names.join(",")
    };
    let (first, answer) = bench.get_from(STRANGER, &format!("/sub/{}?as=stream", names(0..15)));
    assert_eq!(status(&answer), 200);
    let socket = bench.socket_from(STRANGER, "/sub/c/0");
    let listed: Vec<String> = (0..6).map(|number| format!("\"c/{number}\"")).collect();
    let refused = bench.command(socket, &format!("{{\"subscribe\":[{}]}}", listed.join(",")));
    assert!(refused.contains("limits.memory_per_address"), "{refused}");
    let (second, refused) = bench.get_from(STRANGER, &format!("/sub/{}?as=stream", names(0..6)));
    assert_eq!(status(&refused), 429, "{refused}");
    assert!(refused.contains("limits.memory_per_address") && field(&refused, "Retry-After").is_some());
    assert_eq!(bench.stats().subscriptions_refused, 2);
    let again = format!("/sub/{}?as=stream", names(0..15));
    assert_eq!(status(&bench.get_from([192, 0, 2, 2], &again).1), 200, "another address");
    assert_eq!(status(&bench.get(&format!("/sub/{}?as=stream", names(0..90)))), 200, "the application");
    assert_eq!(status(&bench.get_on(second, &format!("/sub/{}?as=stream", names(0..5)))), 200);
    assert!(bench.command(socket, r#"{"subscribe":["c/0"],"ref":1}"#).contains("\"ok\":true"), "it had that");
    bench.leave(first);
    assert!(
        bench.command(socket, r#"{"subscribe":["c/1","c/2","c/3"],"ref":1}"#).contains("\"ok\":true"),
        "there is room again"
    );
    // A pattern that comes to match more than there is room for ends, as one does that matches too much.
    bench.leave(second);
    let (pattern, answer) = bench.get_from(STRANGER, "/sub/d/*?as=stream");
    assert_eq!(status(&answer), 200);
    (0..20).for_each(|number| bench.publish(&format!("d/{number}"), "x", None));
    bench.turn();
    assert!(bench.world.at_end(pattern) || !bench.read(pattern).is_empty() && bench.world.at_end(pattern));
    bench.server.check(bench.world.now);
}

#[test]
fn strangers_together_leave_half_of_the_memory() {
    let mut config = Config::default();
    config.limits.memory = 2 * channels(40);
    let mut bench = Bench::new(config);
    let target = "/sub/a,b,c,d,e,f,g,h,i,j?as=stream";
    let statuses: Vec<u16> =
        (0..9).map(|number| status(&bench.get_from([192, 0, 2, number], target).1)).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 429, 429, 429, 429, 429]);
    assert_eq!(status(&bench.get(target)), 200, "the application has the other half");
}

#[test]
fn who_leaves_most_unread_is_closed_first() {
    let mut config = Config::default();
    config.limits.memory = 100 * MIB;
    let mut bench = Bench::new(config);
    (0..40).for_each(|_| bench.publish("a", &"\u{1}".repeat(20_000), None));
    let batch = |max: usize| format!("/sub/a?after=oldest&max={max}&as=interval");
    let stalled: Vec<ConnId> =
        [2, 8, 4, 1].map(|max| bench.stalled(STRANGER, &batch(max))).into_iter().collect();
    let own = bench.stalled([127, 0, 0, 1], &batch(8));
    assert!(bench.server.unsent_bytes() > 2 * MIB);
    // A MiB and a half too much, and all history is heard.
    let _listener = bench.subscriber("a?as=stream");
    bench.server.broker.hub.delete(bench.world.now.at, "a", |_| false);
    bench.server.note_memory(bench.world.now, 90 * MIB);
    assert!(stalled.iter().all(|&id| !bench.is_closed(id)), "nine tenths are allowed");
    bench.server.note_memory(bench.world.now, 90 * MIB + 2000);
    bench.turn();
    let closed: Vec<bool> = stalled.iter().map(|&id| bench.is_closed(id)).collect();
    assert_eq!(closed, [true, true, true, true], "ten MiB too much");
    assert!(!bench.is_closed(own), "the application's own programs come last");
    assert_eq!(bench.stats().connections_shed, 4);
    bench.server.note_memory(bench.world.now, 99 * MIB);
    bench.turn();
    assert!(bench.is_closed(own));
}

#[test]
fn no_more_of_them_are_closed_than_needed() {
    let mut config = Config::default();
    config.limits.memory = 20 * MIB;
    config.history.total_bytes = 1 << 20;
    let mut bench = Bench::new(config);
    let now = bench.world.now;
    (0..40).for_each(|_| bench.publish("a", &"\u{1}".repeat(20_000), None));
    let batch = |max: usize| format!("/sub/a?after=oldest&max={max}&as=interval");
    let sizes = [3, 8, 5, 8, 8, 1, 8, 2];
    let stalled = sizes.map(|max| {
        let id = bench.stalled(STRANGER, &batch(max));
        bench.server.note_memory(now, 10 * MIB);
        id
    });
    // Two MiB too much for eight tenths: two or three of the largest.
    bench.server.note_memory(now, 18 * MIB + 2000);
    bench.turn();
    let closed = stalled.map(|id| bench.is_closed(id));
    let of_each = |size: usize| sizes.iter().zip(closed).filter(|&(of, gone)| *of == size && gone).count();
    assert!((2..=3).contains(&of_each(8)), "{closed:?}");
    assert_eq!([1, 2, 3, 5].map(of_each), [0; 4], "{closed:?}");
    assert!(!bench.server.is_refusing());
}

#[test]
fn messages_that_stalled_readers_hold_on_to_are_counted() {
    let mut config = Config::default();
    config.limits.memory = 100 * MIB;
    (config.history.messages, config.history.grace_seconds) = (1, 0);
    let mut bench = Bench::new(config);
    let mut stalled = Vec::new();
    for number in 0..30 {
        // Each is behind with another message, and in another form.
        let technique = ["sse", "stream", "raw", "iframe", "multipart"][number % 5];
        stalled.push(bench.stalled(STRANGER, &format!("/sub/a?as={technique}")));
        bench.publish("a", &"x".repeat(MIB), None);
        bench.turn();
    }
    assert!(bench.kept("a") == 1 && bench.server.hub().gauges().bytes < 10 * MIB, "history knows nothing");
    bench.weigh(91);
    let closed = stalled.iter().filter(|&&id| bench.is_closed(id)).count();
    assert!((3..=11).contains(&closed), "eleven MiB too much: {closed}");
    assert_eq!((bench.kept("a"), bench.stats().connections_shed), (1, closed as u64), "history stays");
}

/// A reader who takes 1,500 bytes every five seconds for ever makes progress, and is ended all the same.
#[test]
fn a_reader_has_a_least_pace() {
    for target in ["/sub/a?as=stream&after=oldest", "/sub/a?after=oldest&max=1000&as=interval"] {
        let mut bench = Bench::new(Config::default());
        (0..400).for_each(|_| bench.publish("a", &"x".repeat(1400), None));
        let [slow, faster] = [STRANGER; 2].map(|address| bench.stalled(address, target));
        for _ in 0..13 {
            bench.pass(5000);
            bench.world.read(slow, 1500);
            for _ in 0..4 {
                bench.world.read(faster, 1500);
                bench.turn();
            }
        }
        assert!(bench.is_closed(slow), "{target}: 300 bytes a second");
        assert!(!bench.is_closed(faster), "{target}: 1,200 bytes a second");
        assert_eq!(bench.stats().connections_stalled, 1);
    }
}

#[test]
fn who_catches_up_now_and_then_may_be_slow() {
    let mut bench = Bench::new(Config::default());
    let id = bench.stalled(STRANGER, "/sub/a?as=stream");
    for _ in 0..40 {
        bench.publish("a", &"x".repeat(1400), None);
        bench.turn();
        bench.pass(5000);
        for _ in 0..3 {
            bench.world.read(id, 800);
            bench.turn();
        }
    }
    assert!(!bench.is_closed(id), "300 bytes a second, and that is all there is");
    // Any pace will do if the settings say so.
    let mut config = Config::default();
    config.limits.unread_bytes_per_second = 0;
    let mut bench = Bench::new(config);
    (0..400).for_each(|_| bench.publish("a", &"x".repeat(1400), None));
    let id = bench.stalled(STRANGER, "/sub/a?as=stream&after=oldest");
    for _ in 0..100 {
        bench.pass(5000);
        bench.world.read(id, 100);
        bench.turn();
    }
    assert!(!bench.is_closed(id));
}
