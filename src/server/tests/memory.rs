//! Memory: what is measured, what goes first when it becomes short, and how a shortage ends.

mod strangers;

use super::bench::Bench;
use super::limits::{field, status};
use crate::config::Config;
use crate::conn::ConnId;

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
    bench.turn();
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
