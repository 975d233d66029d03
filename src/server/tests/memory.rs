//! Memory: what clients can make the server keep, and who is refused or closed when it becomes short.

use super::budgets::frame;
use super::delivery::{Bench, post};
use super::limits::{field, status};
use crate::config::Config;
use crate::conn::ConnId;
use serde_json::json;

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
    // The application's own programs are refused that later than others.
    bench.weigh(97);
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
