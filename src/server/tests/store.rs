//! A seed speaks to a server whose log is simulated: it answers after any delay, refuses, and when the process crashes it
//! keeps all that it has answered, and perhaps some more. Over all lives, publishers are held to their answers and
//! subscribers to what they saw.

mod publishers;
mod readers;
mod windows;

use super::disk::Disk;
use super::world::World;
use crate::broker::LogSettings;
use crate::config::Config;
use crate::conn::ConnId;
use crate::id::{Epoch, Random, Seed, Seq};
use crate::log::{Batch, Entry, Proposal, Record, Refusal};
use crate::server::{Effect, Server};
use crate::time::Instant;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

/// What windows of FDAjax listen to, and how old it may be for a new one.
const GROUP: &str = "fdajax/groups/feed";
const LIVE_MS: u64 = 60_000;
const CHANNELS: [&str; 3] = ["a", "b", "c"];

/// An answer that a publisher waits for.
#[derive(Debug)]
struct Waiting {
    conn: ConnId,
    texts: Vec<String>,
    key: Option<String>,
    kind: Kind,
    /// What it publishes was on the disk already when it was sent.
    was_stored: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    WebSocket,
    Bayeux,
    Delete(usize),
}

/// Who polls one channel after another, and resumes where it was. Each poll brings everything that is newer than its
/// place, or tells of a gap. A crash alone is a gap only in `behind`: for a place that is older than the life, once.
#[derive(Debug)]
struct Follower {
    channels: &'static str,
    next: String,
    /// Where it began, or went on after the last gap that it was told of: it has everything newer.
    since: Seq,
    /// What it was given since then.
    seen: BTreeMap<Seq, String>,
    /// Since its last poll without a gap, a channel was deleted: that may be one.
    may_miss: bool,
}

struct Sim {
    random: Random,
    behind: bool,
    disk: Disk,
    epoch: Epoch,
    /// What the time line of the history said when the life began, and our clock.
    began: (u64, Instant),
    server: Server,
    world: World,
    /// What the log was given and has not answered.
    queue: VecDeque<Proposal>,
    waiting: Vec<Waiting>,
    followers: Vec<Follower>,
    /// Every number and the text that it named.
    named: BTreeMap<Seq, String>,
    /// Texts that publishers were told to be published, and their numbers if they were told.
    told: BTreeMap<String, Option<Seq>>,
    /// What the log has answered.
    stored: BTreeSet<String>,
    /// What was refused with its key, which may be tried again.
    refused: Vec<(String, String)>,
    deleted: BTreeSet<String>,
    /// A window of FDAjax that waits, and what windows were given.
    window: Option<ConnId>,
    chats: BTreeSet<String>,
    /// When the time of those is over that have one: counted from when they were accepted, as after a restart, and from
    /// when they were stored.
    brief: BTreeMap<String, (u64, u64)>,
    texts: u64,
    counts: [usize; 4],
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let behind = random.one_in(3);
        let disk = Disk::new();
        let epoch = Epoch::from_random(random.next());
        let world = new_world();
        let server = Server::new(config(), Seed::of_number(seed), world.now);
        let mut sim = Self {
            random,
            behind,
            disk,
            epoch,
            began: (1_800_000_000_000, Instant::START),
            server,
            world,
            queue: VecDeque::new(),
            waiting: Vec::new(),
            followers: Vec::new(),
            named: BTreeMap::new(),
            told: BTreeMap::new(),
            stored: BTreeSet::new(),
            refused: Vec::new(),
            deleted: BTreeSet::new(),
            window: None,
            chats: BTreeSet::new(),
            brief: BTreeMap::new(),
            texts: 0,
            counts: [0; 4],
        };
        sim.begin(false);
        for channels in ["a", "a,b,c", "*"] {
            let next = sim.poll(channels, "now").1;
            let since = sim.seq_of(&next);
            sim.followers.push(Follower { channels, next, since, seen: BTreeMap::new(), may_miss: false });
        }
        sim
    }

    /// A life begins: with what is on the disk.
    fn begin(&mut self, was_clean: bool) {
        self.disk.begin(self.behind, was_clean);
        assert!(
            self.named.keys().next_back().is_none_or(|&last| last < self.disk.next),
            "a number is used again"
        );
        // A clock that was set back meanwhile stops the time line at most; one that was set ahead is believed.
        let away = if self.random.one_in(3) { self.random.below(3_600_000) } else { 0 };
        self.began = (self.line() + away, Instant::START);
        if away > 30_000 {
            // Keys may be forgotten by then.
            self.refused.clear();
        }
        self.world = new_world();
        let (behind, staged_bytes) = (self.behind, if self.random.one_in(3) { 2000 } else { 1 << 20 });
        // What it is called is not known before the history is open.
        let seed = Seed::of_number(self.random.next());
        self.server = Server::new(config(), seed, self.world.now);
        let opening = self.disk.opening(self.epoch, self.began.0);
        let settings = LogSettings { behind, staged_bytes, lag_ms: 60_000, shared: None };
        self.server.use_log(settings);
        // Who comes early waits, but for health.
        let early = self.connect();
        self.send(early, "GET /pub/a HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(self.world.read(early, usize::MAX), b"", "nothing is known yet");
        let health = self.connect();
        self.send(health, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(self.read(health).ends_with("loading\n"));
        self.server.log_opened(self.world.now, opening);
        let Self { disk, server, world, named, deleted, .. } = self;
        disk.load(server, world, |gone| {
            // In `behind`, the sweep may have come to the disk and the deletion not.
            assert!(behind, "{} was lost before it was deleted", gone.seq);
            deleted.insert(named[&gone.seq].clone());
        });
        self.turn();
        assert!(!self.read(early).is_empty(), "who waited is answered");
        self.check_history();
        self.check_window();
    }

    /// What the time line of the history says.
    fn line(&self) -> u64 {
        self.began.0 + self.world.now.at.millis_since(self.began.1)
    }

    /// A life ends, in good order or not.
    fn end(&mut self) {
        self.counts[0] += 1;
        let is_clean = self.random.one_in(3);
        let keep =
            if is_clean { self.queue.len() } else { self.random.below(self.queue.len() as u64 + 1) as usize };
        for proposal in std::mem::take(&mut self.queue).into_iter().take(keep) {
            self.store(&proposal);
        }
        if is_clean {
            self.disk.lease = 0;
        }
        self.waiting.clear();
        self.begin(is_clean);
    }

    fn store(&mut self, proposal: &Proposal) {
        for (seq, record) in (proposal.first..).zip(&proposal.records) {
            match record {
                Record::Message { publication, .. } => {
                    let text = String::from_utf8(publication.data.bytes().to_vec()).unwrap();
                    let before = self.named.insert(seq, text.clone());
                    assert!(before.is_none_or(|before| before == text), "{seq} names two messages");
                    let end = self.line() + publication.ttl_ms.unwrap_or(0);
                    self.brief.entry(text.clone()).and_modify(|brief| brief.1 = end);
                    self.stored.insert(text);
                }
                Record::Deleted { channel } => {
                    let gone = self.disk.entries.iter().filter(|entry| entry.record.channel() == &**channel);
                    self.deleted.extend(gone.map(|entry| self.named[&entry.seq].clone()));
                    self.followers.iter_mut().for_each(|follower| follower.may_miss = true);
                }
                _ => unreachable!("only what several servers share has others"),
            }
        }
        self.disk.write(proposal);
    }

    fn connect(&mut self) -> ConnId {
        let id = self.server.accept(self.world.now, Ipv4Addr::LOCALHOST.into(), false).unwrap();
        self.world.open(id, 1 << 30);
        id
    }

    fn send(&mut self, id: ConnId, bytes: &str) {
        self.server.receive(self.world.now, id, bytes.as_bytes(), &mut self.world);
        self.turn();
    }

    fn read(&mut self, id: ConnId) -> String {
        String::from_utf8_lossy(&self.world.read(id, usize::MAX)).into_owned()
    }

    fn turn(&mut self) {
        loop {
            let now = self.world.now;
            self.server.tick(now, &mut self.world);
            self.server.deliver(now, &mut self.world);
            while let Some(effect) = self.server.poll_effect() {
                match effect {
                    Effect::Append(proposal) => self.queue.push_back(*proposal),
                    Effect::Ask(_) => unreachable!(),
                    Effect::Pause(_) | Effect::Resume(_) | Effect::Unsent(_) => {}
                    Effect::HalfClose(id) => self.world.socket(id).ended = true,
                    Effect::Close(id) => self.world.socket(id).closed = true,
                }
            }
            self.server.broker.hub.check();
            if self.server.next_deadline(now) > now.at {
                break;
            }
        }
        let bytes: usize = self.queue.iter().map(Proposal::bytes).sum();
        assert!(bytes <= (1 << 20) + 10_000, "what waits is bounded");
        if self.behind {
            for proposal in self.queue.iter() {
                for (seq, record) in (proposal.first..).zip(&proposal.records) {
                    if let Record::Message { publication, .. } = record {
                        let text = String::from_utf8(publication.data.bytes().to_vec()).unwrap();
                        assert!(self.named.insert(seq, text.clone()).is_none_or(|before| before == text));
                    }
                }
            }
        }
    }

    fn text(&mut self) -> String {
        self.texts += 1;
        format!("text {}{}", self.texts, "x".repeat(self.random.below(40) as usize))
    }

    fn channel(&mut self) -> &'static str {
        CHANNELS[self.random.below(3) as usize]
    }

    fn seq_of(&self, id: &str) -> Seq {
        let (epoch, seq) = id.split_once(':').unwrap();
        assert_eq!(epoch, self.epoch.to_string());
        // Of several channels, one of which has told of a gap, more is said of how they go on.
        seq.split('~').next().unwrap().parse().unwrap()
    }
}

/// The texts of messages in an answer.
fn texts_in(answer: &str) -> impl Iterator<Item = &str> {
    answer.match_indices("text ").map(|(at, _)| {
        let rest = &answer[at + 5..];
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != 'x').unwrap_or(rest.len());
        &answer[at..at + 5 + end]
    })
}

fn new_world() -> World {
    let mut world = World::default();
    world.now.at = Instant::START;
    world.advance(0);
    world
}

fn config() -> Config {
    let mut config = Config::default();
    (config.history.messages, config.history.seconds) = (100_000, 1_000_000);
    config.bayeux.publish = vec!["**".into()];
    (config.fdajax.enabled, config.fdajax.mes_live_max) = (true, LIVE_MS);
    config.fdajax.win_timeout = LIVE_MS;
    config.limits.connections = 10_000;
    config
}

/// Nothing is published after the crash: whoever asks again must wait, not be told at once for ever.
#[test]
fn what_a_crash_took_is_told_once() {
    let mut sim = Sim::new(1);
    sim.behind = true;
    sim.begin(true);
    let places = ["a", "b", "*"].map(|channels| (channels, sim.poll(channels, "now").1));
    let conn = sim.connect();
    sim.publish_keyed(conn, "a", "kept", "key");
    sim.answer();
    sim.begin(false);
    for (channels, place) in places {
        let (messages, next, gap) = sim.poll(channels, &place);
        assert!(gap, "not all of what was published to {channels} is known");
        assert_eq!(messages.len(), usize::from(channels != "b"), "what is kept comes along");
        let (messages, _, gap) = sim.poll(channels, &next);
        assert!(!gap && messages.is_empty(), "{channels}: it is told again at {next}");
    }
    let now = sim.poll("a", "now").1;
    assert!(!sim.poll("a", &now).2, "who comes after the crash has lost nothing");
}

#[test]
fn what_a_crash_took_is_told_once_whatever_the_size_of_pages() {
    let mut sim = Sim::new(1);
    sim.behind = true;
    sim.begin(true);
    let first = sim.poll("a,b", "now").1;
    for number in 0..7 {
        let conn = sim.connect();
        sim.publish_keyed(
            conn,
            if number % 2 == 0 { "a" } else { "b" },
            &format!("{number}"),
            &format!("key {number}"),
        );
    }
    sim.answer();
    while !sim.queue.is_empty() {
        sim.answer();
    }
    sim.begin(false);
    let conn = sim.connect();
    sim.publish_keyed(conn, "a", "new", "new");
    for channels in ["a,b", "a", "*"] {
        for max in [1, 2, 3, 7, 8] {
            let (mut place, mut gaps, mut seen) = (first.clone(), 0, 0);
            for _ in 0..10 {
                let (messages, next, gap) = sim.poll_page(channels, &place, max);
                gaps += usize::from(gap);
                seen += messages.len();
                place = next;
            }
            assert_eq!((gaps, seen), (1, if channels == "a" { 5 } else { 8 }), "{channels} by {max}");
        }
    }
}

#[test]
fn nobody_is_told_what_a_crash_could_take_back() {
    let seed = std::env::var("ENCKE_SIM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds: u64 = std::env::var("ENCKE_SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    let mut counts = [0; 4];
    for seed in seed.map_or_else(|| 0..seeds.min(5000), |seed: u64| seed..seed + 1) {
        eprintln!("seed {seed}");
        let mut sim = Sim::new(seed);
        for _ in 0..5 {
            sim.live();
        }
        counts.iter_mut().zip(sim.counts).for_each(|(all, count)| *all += count);
    }
    eprintln!("lives, refusals, answers: {counts:?}");
    let seeds = seeds as usize;
    assert!(seed.is_some() || counts[0] > 4 * seeds && counts[1] > seeds && counts[2] > 10 * seeds);
}
