//! Who is there: visitors come to any server and go, servers die with theirs, and who looks on goes from one to another.
//! When all is well, every server shows the same who are there, and so does the table of whoever has looked on.

use super::{BEAT, NODES, Sim};
use crate::config::{ChannelRule, Config, Shows};
use crate::conn::ConnId;
use crate::log::{BEAT_MS, LEASE_MS, LogTime, Proposal, Record};
use crate::server::tests::access::{self, NOW, rule, token, with};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

const ROOMS: [&str; 2] = ["room/x", "room/y"];
const NAMES: [&str; 4] = ["alice", "bob", "carol", "dave"];

static TOKENS: LazyLock<[String; 4]> =
    LazyLock::new(|| NAMES.map(|name| with(&token(name, NOW + 1_000_000, &["room/*"], &[]))));

/// Somebody who listens to a room, perhaps without a name.
#[derive(Debug)]
pub(super) struct Visitor {
    conn: ConnId,
    room: usize,
    name: Option<usize>,
}

/// What somebody knows who looks on.
#[derive(Debug, Default)]
pub(super) struct Table {
    place: Option<String>,
    names: BTreeSet<String>,
    /// It has asked a server that had waited in vain for what the others say.
    is_hasty: bool,
}

pub(super) fn config() -> Config {
    let Config { token_keys, mut tokens, .. } = access::config();
    tokens.max_seconds = 10_000_000;
    let mut config = Config { presence_seconds: 1, token_keys, tokens, ..Config::default() };
    let room = rule("room/*", crate::config::Who::Anyone, None);
    config.channels = vec![
        ChannelRule { presence: Shows::Everybody, ..room },
        rule("**", crate::config::Who::Anyone, None),
    ];
    config
}

impl Sim {
    /// Time passes. Servers beat.
    pub(super) fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        for node in 0..NODES {
            self.nodes[node].world.advance(ms);
            let one = &self.nodes[node];
            if one.beat_at <= self.now_ms && one.is_attached {
                self.nodes[node].beat_at = self.now_ms + BEAT_MS;
                self.append(node, Record::Beat { node: self.nodes[node].name, lease_ms: LEASE_MS });
            }
            self.turn(node);
        }
    }

    /// What the writer writes by itself.
    pub(super) fn append(&mut self, node: usize, record: Record) {
        let one = &mut self.nodes[node];
        let Some(engine) = one.engine else { return };
        one.serial += 1;
        let records = vec![record];
        let beat = Proposal { ticket: BEAT, first: 1, records, answered: None, seen: None };
        let taken = self.engines[engine].append(one.name, one.serial, &[beat], LogTime(self.now_ms));
        one.is_attached &= taken.is_some();
    }

    /// Somebody comes, or goes.
    pub(super) fn visit(&mut self, node: usize) {
        let count = self.nodes[node].visitors.len() as u64;
        if count > 0 && self.random.one_in(2) {
            let visitor = self.nodes[node].visitors.swap_remove(self.random.below(count) as usize);
            let one = &mut self.nodes[node];
            one.server.reset(one.world.now, visitor.conn);
            return self.turn(node);
        }
        let room = self.random.below(ROOMS.len() as u64) as usize;
        let name = Some(self.random.below(5) as usize).filter(|&name| name < NAMES.len());
        let token = name.map_or("", |name| &TOKENS[name]);
        let conn = self
            .request(node, &format!("GET /sub/{}?as=stream HTTP/1.1\r\nHost: x\r\n{token}\r\n", ROOMS[room]));
        self.nodes[node].visitors.push(Visitor { conn, room, name });
    }

    /// Somebody who looks on asks a server what is new.
    pub(super) fn watch(&mut self, node: usize) {
        let room = self.random.below(ROOMS.len() as u64) as usize;
        if self.is_open(node) {
            self.look(node, room);
        }
    }

    /// Returns whether nothing was new.
    fn look(&mut self, node: usize, room: usize) -> bool {
        let place =
            self.tables[room].place.as_ref().map(|place| format!("&after={place}")).unwrap_or_default();
        let target = format!("/sub/encke/presence/{}?as=interval&latest&max=1000{place}", ROOMS[room]);
        let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n");
        let conn = self.request(node, &head);
        let bytes = self.nodes[node].world.read(conn, usize::MAX);
        let answer = String::from_utf8_lossy(&bytes).into_owned();
        let is_hasty = self.nodes[node].server.broker.is_gathering();
        let table = &mut self.tables[room];
        table.is_hasty |= is_hasty;
        if answer.starts_with("HTTP/1.1 304") {
            let next = answer.split("Encke-Next: ").nth(1).unwrap().split("\r\n").next().unwrap();
            table.place = Some(next.to_owned());
            return true;
        }
        let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).expect(&answer);
        if body["gap"] == true {
            table.names.clear();
            table.is_hasty = is_hasty;
        }
        for message in body["messages"].as_array().unwrap() {
            let Some(key) = message["key"].as_str() else { continue };
            match message.get("removed") {
                None => table.names.insert(key.to_owned()),
                Some(_) => table.names.remove(key),
            };
        }
        table.place = Some(body["next"].as_str().unwrap().to_owned());
        false
    }

    /// So many beats of every server come back.
    pub(super) fn let_beat(&mut self, beats: u64) {
        for _ in 0..4 * beats {
            self.pass(BEAT_MS / 4);
            self.quiesce();
        }
    }

    /// Lets everything be written and read.
    pub(super) fn quiesce(&mut self) {
        while (0..NODES).any(|node| {
            let one = &self.nodes[node];
            !one.queue.is_empty() || one.is_torn || one.batches.seen() < self.engines[0].seq
        }) {
            for node in 0..NODES {
                while !self.nodes[node].queue.is_empty() {
                    self.write(node);
                }
                self.catch_up(node);
            }
        }
    }

    /// Everybody has had the time to say who is there.
    pub(super) fn settle_presence(&mut self) {
        self.quiesce();
        for _ in 0..20 {
            self.pass(1000);
            self.quiesce();
        }
        for room in 0..ROOMS.len() {
            let shown: Vec<Value> = (0..NODES).map(|node| self.here(node, room)).collect();
            let mut names = BTreeMap::new();
            for (node, one) in self.nodes.iter().enumerate() {
                let there = one.visitors.iter().filter(|visitor| visitor.room == room);
                for name in there.filter_map(|visitor| visitor.name) {
                    names.entry(NAMES[name].to_owned()).or_insert_with(|| vec![0; NODES])[node] += 1;
                }
            }
            let all = self.nodes.iter().flat_map(|one| &one.visitors);
            let anonymous = all.filter(|visitor| visitor.room == room && visitor.name.is_none()).count();
            for (node, shown) in shown.iter().enumerate() {
                let told = |one: &Value| {
                    (one["id"].as_str().unwrap().to_owned(), one["connections"].as_u64().unwrap())
                };
                let told: BTreeMap<String, u64> =
                    shown["members"].as_array().unwrap().iter().map(told).collect();
                let here = |counts: &Vec<u64>| -> u64 {
                    counts
                        .iter()
                        .enumerate()
                        .map(|(at, &count)| if at == node { count } else { count.min(1) })
                        .sum()
                };
                let expected: BTreeMap<String, u64> =
                    names.iter().map(|(name, counts)| (name.clone(), here(counts))).collect();
                assert_eq!(
                    (told, &shown["anonymous"]),
                    (expected, &Value::from(anonymous)),
                    "server {node}, {shown}"
                );
            }
            let node = self.random.below(NODES as u64) as usize;
            // A snapshot may come in parts.
            while !self.look(node, room) {}
            let names: BTreeSet<String> = names.into_keys().collect();
            let table = &self.tables[room];
            let is_whole = table.names == names || table.is_hasty && table.names.is_subset(&names);
            assert!(
                is_whole,
                "{table:?} at server {node}, where {names:?} are: {:?}",
                self.engines[0].stream
            );
            self.hasty += usize::from(table.is_hasty);
            self.tables[room] = Table::default();
            while !self.look(node, room) {}
            assert_eq!(self.tables[room].names, names, "a fresh table of server {node}");
        }
    }

    fn here(&mut self, node: usize, room: usize) -> Value {
        let target = format!("/presence/{}", ROOMS[room]);
        let conn = self.request(node, &format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let bytes = self.nodes[node].world.read(conn, usize::MAX);
        let answer = String::from_utf8_lossy(&bytes).into_owned();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).expect(&answer)
    }
}

/// A table that lacks somebody does so on every other server, too, until they have something to tell.
#[test]
fn who_is_there_is_shown_after_a_reload_when_all_have_said() {
    let mut sim = Sim::new(1);
    let without = Config { channels: vec![rule("**", crate::config::Who::Anyone, None)], ..config() };
    sim.nodes[0].server.reconfigure(without);
    sim.quiesce();
    let head = format!("GET /sub/room/x?as=stream HTTP/1.1\r\nHost: x\r\n{}\r\n", TOKENS[0]);
    let conn = sim.request(1, &head);
    sim.nodes[1].visitors.push(Visitor { conn, room: 0, name: Some(0) });
    sim.let_beat(1);
    sim.nodes[0].server.reconfigure(config());
    let table = "/sub/encke/presence/room/x?as=interval&latest";
    let ask = |sim: &mut Sim, target: &str| {
        let conn = sim.request(0, &format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        String::from_utf8(sim.nodes[0].world.read(conn, usize::MAX)).unwrap()
    };
    let asked =
        [table, "/presence/room/x", "/pub/encke/presence/room/x?key=alice", "/sub/a,encke/presence/room/*"];
    for _ in 0..2 {
        for target in asked {
            let answer = ask(&mut sim, target);
            assert!(answer.starts_with("HTTP/1.1 503"), "{target}: {answer}");
            assert!(answer.contains("Retry-After: ") && answer.contains("have not said yet"), "{answer}");
        }
        // Nobody else waits for that.
        assert!(ask(&mut sim, "/sub/a?as=interval").starts_with("HTTP/1.1 304"));
        sim.turn(0);
    }
    sim.quiesce();
    sim.pass(1000);
    sim.quiesce();
    for target in &asked[..3] {
        let answer = ask(&mut sim, target);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("alice"), "{target}: {answer}");
    }
    // Once is enough: what is shown is what was shown before.
    sim.nodes[0].server.reconfigure(config());
    assert!(ask(&mut sim, table).starts_with("HTTP/1.1 200"));
    // Who keeps silent is not waited for.
    let more = ChannelRule { presence: Shows::Everybody, ..rule("hall/*", crate::config::Who::Anyone, None) };
    let mut others = config();
    others.channels.insert(0, more);
    sim.nodes[0].server.reconfigure(others);
    assert!(ask(&mut sim, table).starts_with("HTTP/1.1 503"));
    sim.write(0);
    for _ in 0..3 {
        sim.nodes[0].world.advance(1000);
        sim.turn(0);
    }
    assert!(ask(&mut sim, table).starts_with("HTTP/1.1 200"));
}
