//! A seed speaks to a server whose log is simulated: it answers after any delay, refuses, and when the process crashes it
//! keeps all that it has answered, and perhaps some more. Over all lives, publishers are held to their answers and
//! subscribers to what they saw.

use super::world::World;
use crate::broker::LogSettings;
use crate::config::Config;
use crate::conn::ConnId;
use crate::id::{Epoch, Random, Seed, Seq};
use crate::log::{Answered, Batch, Condition, Entry, LogTime, Lost, Opening, Proposal, Record, Refusal};
use crate::server::{Effect, Server};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

const CHANNELS: [&str; 3] = ["a", "b", "c"];
const LEASE: u64 = 1 << 20;

/// What lies on the simulated disk.
#[derive(Debug, Default)]
struct Disk {
    entries: Vec<Entry>,
    answered: Vec<Answered>,
    lost: BTreeMap<Box<str>, Seq>,
    next: Seq,
    lease: Seq,
    lost_all: Seq,
}

impl Disk {
    /// Writes a proposal.
    fn write(&mut self, proposal: &Proposal) {
        self.next = proposal.last() + 1;
        for (seq, record) in (proposal.first..).zip(&proposal.records) {
            match record {
                Record::Message { .. } => self.entries.push(Entry { seq, record: record.clone() }),
                Record::Deleted { channel } => {
                    let lost = self.lost.entry(channel.clone()).or_default();
                    self.entries.retain(|entry| {
                        let goes = entry.record.channel() == &**channel;
                        *lost = if goes { entry.seq.max(*lost) } else { *lost };
                        !goes
                    });
                }
            }
        }
        self.answered.extend(proposal.answered.clone());
    }
}

/// An answer that a publisher waits for.
#[derive(Debug)]
struct Waiting {
    conn: ConnId,
    texts: Vec<String>,
    key: Option<String>,
    kind: Kind,
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
    now_ms: u64,
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
    texts: u64,
    counts: [usize; 4],
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let behind = random.one_in(3);
        let disk = Disk { next: 1, ..Disk::default() };
        let epoch = Epoch::from_random(random.next());
        let mut world = World::default();
        world.advance(1000);
        let server = Server::new(config(), Seed::of_number(seed), world.now);
        let mut sim = Self {
            random,
            behind,
            disk,
            epoch,
            now_ms: 1_800_000_000_000,
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
        if self.behind && !was_clean && self.disk.lease > 0 {
            (self.disk.next, self.disk.lost_all) = (self.disk.lease, self.disk.lease);
        }
        self.disk.lease = self.disk.next + LEASE;
        assert!(
            self.named.keys().next_back().is_none_or(|&last| last < self.disk.next),
            "a number is used again"
        );
        self.world = World::default();
        self.world.advance(1000);
        self.now_ms += 5;
        let (behind, staged_bytes) = (self.behind, if self.random.one_in(3) { 2000 } else { 1 << 20 });
        let seed = Seed { epoch: self.epoch, secret: u128::from(self.random.next()) };
        self.server = Server::new(config(), seed, self.world.now);
        let opening = Opening {
            epoch: self.epoch,
            secret: 77,
            next: self.disk.next,
            lost: self.disk.lost_all,
            watermark: 0,
            time: LogTime(self.now_ms),
        };
        let settings = LogSettings { behind, staged_bytes, lag_ms: 60_000 };
        self.server.use_log(self.world.now, opening, settings);
        // Who comes early waits, but for health.
        let early = self.connect();
        self.send(early, "GET /pub/a HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(self.world.read(early, usize::MAX), b"", "nothing is known yet");
        let health = self.connect();
        self.send(health, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(self.read(health).ends_with("loading\n"));
        self.forget_lost();
        let mut lost: Vec<Lost> =
            self.disk.lost.iter().map(|(channel, &upto)| Lost { channel: channel.clone(), upto }).collect();
        let chunks: Vec<Vec<Entry>> = self.disk.entries.chunks(7).map(<[Entry]>::to_vec).collect();
        for entries in chunks {
            let named: BTreeSet<&str> = entries.iter().map(|entry| entry.record.channel()).collect();
            let now = lost.extract_if(.., |lost| named.contains(&*lost.channel)).collect();
            let batch = Batch { entries, lost: now, ..Batch::default() };
            self.server.apply(self.world.now, batch, &mut self.world);
        }
        let batch = Batch { lost, answered: self.disk.answered.clone(), ..Batch::default() };
        self.server.apply(self.world.now, batch, &mut self.world);
        self.server.log_condition(Condition::Ready);
        self.turn();
        assert!(!self.read(early).is_empty(), "who waited is answered");
        self.check_history();
    }

    /// As the store does: what a sweep has told to be lost is not loaded. In `behind`, the sweep may have come to the disk
    /// and the deletion not.
    fn forget_lost(&mut self) {
        let Disk { entries, lost, .. } = &mut self.disk;
        for gone in entries.extract_if(.., |entry| lost.get(entry.record.channel()) >= Some(&entry.seq)) {
            assert!(self.behind, "{} was lost before it was deleted", gone.seq);
            self.deleted.insert(self.named[&gone.seq].clone());
        }
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
                    self.stored.insert(text);
                }
                Record::Deleted { channel } => {
                    let gone = self.disk.entries.iter().filter(|entry| entry.record.channel() == &**channel);
                    self.deleted.extend(gone.map(|entry| self.named[&entry.seq].clone()));
                    self.followers.iter_mut().for_each(|follower| follower.may_miss = true);
                }
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
                    Effect::Pause(_) | Effect::Resume(_) => {}
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

    fn publish(&mut self) {
        let conn = self.connect();
        let (text, channel) = (self.text(), self.channel());
        match self.random.below(5) {
            0 => {
                let texts = vec![text, self.text()];
                let other = self.channel();
                let body = format!(
                    "{}\n{}\n",
                    json!({"channel": channel, "data": texts[0]}),
                    json!({"channel": other, "data": texts[1]})
                );
                let head = "POST /pub HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n";
                self.send(conn, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
                self.waiting.push(Waiting { conn, texts, key: None, kind: Kind::Http });
            }
            1 => {
                let key = format!("key {}", self.texts);
                self.publish_keyed(conn, channel, &text, &key);
            }
            2 => {
                self.send(
                    conn,
                    "GET /sub/quiet?after=now HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
                );
                assert!(self.read(conn).starts_with("HTTP/1.1 101"));
                let command = json!({"publish": {"channel": channel, "data": text}, "ref": 7}).to_string();
                let length = command.len() as u8;
                let mut frame =
                    if length < 126 { vec![0x81, 0x80 | length] } else { vec![0x81, 0xfe, 0, length] };
                frame.extend([0; 4]);
                frame.extend(command.bytes());
                self.server.receive(self.world.now, conn, &frame, &mut self.world);
                self.turn();
                self.waiting.push(Waiting { conn, texts: vec![text], key: None, kind: Kind::WebSocket });
            }
            3 => {
                let body = json!([{"channel": format!("/{channel}"), "data": text, "id": "1"}]).to_string();
                let head = "POST /bayeux HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
                self.send(conn, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
                let texts = vec![json!(text).to_string()];
                self.waiting.push(Waiting { conn, texts, key: None, kind: Kind::Bayeux });
            }
            _ => {
                let length = text.len();
                // Another request waits behind it.
                self.send(conn, &format!("POST /pub/{channel} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{text}GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"));
                self.waiting.push(Waiting { conn, texts: vec![text], key: None, kind: Kind::Http });
            }
        }
    }

    fn publish_keyed(&mut self, conn: ConnId, channel: &str, text: &str, key: &str) {
        let head = format!("POST /pub/{channel} HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {key}");
        self.send(conn, &format!("{head}\r\nContent-Length: {}\r\n\r\n{text}", text.len()));
        let key = Some(format!("{channel} {key}"));
        self.waiting.push(Waiting { conn, texts: vec![text.to_owned()], key, kind: Kind::Http });
    }

    /// Sends a request again, of which the answer is not known or was a refusal.
    fn repeat(&mut self) {
        let waiting =
            self.waiting.iter().filter_map(|waiting| Some((waiting.key.clone()?, waiting.texts[0].clone())));
        let mut all: Vec<(String, String)> = waiting.chain(self.refused.iter().cloned()).collect();
        if all.is_empty() {
            return;
        }
        let (key, text) = all.swap_remove(self.random.below(all.len() as u64) as usize);
        let (channel, key) = key.split_once(' ').unwrap();
        let conn = self.connect();
        self.publish_keyed(conn, channel, &text, key);
    }

    fn delete(&mut self) {
        let at = self.random.below(3) as usize;
        let conn = self.connect();
        self.followers.iter_mut().for_each(|follower| follower.may_miss = true);
        self.send(conn, &format!("DELETE /pub/{} HTTP/1.1\r\nHost: x\r\n\r\n", CHANNELS[at]));
        self.waiting.push(Waiting { conn, texts: vec![], key: None, kind: Kind::Delete(at) });
    }

    /// The log answers some of what waits.
    fn answer(&mut self) {
        let count = 1 + self.random.below(self.queue.len().max(1) as u64) as usize;
        let taken: Vec<Proposal> = self.queue.drain(..count.min(self.queue.len())).collect();
        let Some(last) = taken.last().map(|proposal| proposal.ticket) else { return };
        if !self.behind && self.random.one_in(5) {
            self.counts[1] += 1;
            let why = Refusal("no space left".to_owned());
            self.server.refuse_proposals(self.world.now, last, &why, &mut self.world);
        } else {
            let mut batch = Batch { own: Some(last), ..Batch::default() };
            for proposal in taken {
                self.store(&proposal);
                let numbered = (proposal.first..).zip(proposal.records);
                batch.entries.extend(numbered.map(|(seq, record)| Entry { seq, record }));
                batch.answered.extend(proposal.answered);
            }
            self.server.apply(self.world.now, batch, &mut self.world);
        }
        self.turn();
        if self.random.one_in(4) {
            let rows: Vec<(Seq, Box<str>)> =
                self.disk.entries.iter().map(|entry| (entry.seq, entry.record.channel().into())).collect();
            let (dead, lost) = self.server.not_kept(&rows);
            assert!(self.behind || dead.is_empty(), "nothing has left the rings: {dead:?}");
            for lost in lost {
                let known = self.disk.lost.entry(lost.channel).or_default();
                *known = lost.upto.max(*known);
            }
        }
    }

    /// Looks what publishers were answered.
    fn hear(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            let bytes = self.world.read(waiting.conn, usize::MAX);
            let answer = String::from_utf8_lossy(&bytes).into_owned();
            if answer.is_empty() {
                let is_open = !self.world.at_end(waiting.conn);
                assert!(is_open || waiting.kind == Kind::WebSocket, "closed without an answer");
                self.waiting.push(waiting);
                continue;
            }
            self.judge(&waiting, &answer);
        }
    }

    fn judge(&mut self, waiting: &Waiting, answer: &str) {
        let status = answer.get(9..12).unwrap_or_default();
        let is_done = match waiting.kind {
            Kind::Http => matches!(status, "201" | "202"),
            Kind::Bayeux => status == "200" && answer.contains("\"successful\":true"),
            Kind::WebSocket => answer.contains("\"ref\":7") && !answer.contains("\"error\""),
            Kind::Delete(_) => {
                assert!(matches!(status, "204" | "404" | "503"), "{answer}");
                return;
            }
        };
        if !is_done {
            assert!(
                answer.contains("503")
                    || waiting.kind == Kind::WebSocket && answer.contains("repeated")
                    || answer.contains("keep up"),
                "{answer}"
            );
            let text = waiting.texts[0].clone();
            self.refused.extend(waiting.key.clone().map(|key| (key, text)));
            return;
        }
        self.counts[2] += 1;
        for (index, text) in waiting.texts.iter().enumerate() {
            assert!(self.behind || self.stored.contains(text), "{text} was answered and is not stored");
            let seq = match waiting.kind {
                Kind::Http => {
                    let body = answer.split("\r\n\r\n").nth(1).unwrap();
                    let body = body.split("HTTP/1.1").next().unwrap();
                    let value: Value = serde_json::from_str(body).unwrap();
                    let one = if value.is_array() { &value[index] } else { &value };
                    Some(self.seq_of(one["id"].as_str().unwrap()))
                }
                _ => None,
            };
            if let Some(seq) = seq {
                assert_eq!(self.named.get(&seq), Some(text), "{seq} names what it was given for");
            }
            let known = self.told.insert(text.clone(), seq);
            assert!(known.is_none_or(|known| known == seq), "{text} was published twice");
        }
    }

    fn seq_of(&self, id: &str) -> Seq {
        let (epoch, seq) = id.split_once(':').unwrap();
        assert_eq!(epoch, self.epoch.to_string());
        seq.parse().unwrap()
    }

    /// What a poll brings: messages, where to go on, and whether there is a gap.
    fn poll(&mut self, channels: &str, after: &str) -> (Vec<(Seq, String)>, String, bool) {
        let conn = self.connect();
        let request = format!(
            "GET /sub/{channels}?as=interval&after={after}&max=1000 HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n"
        );
        self.send(conn, &request);
        let answer = self.read(conn);
        if answer.starts_with("HTTP/1.1 304") {
            let next = answer.split("Encke-Next: ").nth(1).unwrap().split("\r\n").next().unwrap();
            return (vec![], next.to_owned(), false);
        }
        let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).expect(&answer);
        let messages = body["messages"].as_array().unwrap().iter().map(|one| {
            let data = &one["data"];
            let text = data.as_str().map_or_else(|| data.to_string(), ToOwned::to_owned);
            (self.seq_of(one["id"].as_str().unwrap()), text)
        });
        (messages.collect(), body["next"].as_str().unwrap().to_owned(), body["gap"] == true)
    }

    fn follow(&mut self) {
        let at = self.random.below(3) as usize;
        let (channels, place) = (self.followers[at].channels, self.followers[at].next.clone());
        let mut last = self.seq_of(&place);
        let is_from_before = last + 1 < self.disk.lost_all;
        let (messages, next, gap) = self.poll(channels, &place);
        let next_seq = self.seq_of(&next);
        let follower = &mut self.followers[at];
        assert!(gap || !is_from_before, "what a crash took was not told of: {place}");
        assert!(!gap || follower.may_miss || is_from_before, "a gap without a cause: {place}");
        assert!(next_seq + 1 >= self.disk.lost_all, "the same gap would be told again: {next}");
        if gap {
            // What is kept is brought along; what is missing is older than where it goes on.
            follower.since = next_seq;
            follower.seen.clear();
        } else {
            follower.may_miss = false;
        }
        for (seq, text) in messages {
            let known = self.named.get(&seq).map(|named| named.trim_matches('"'));
            assert_eq!(known, Some(text.trim_matches('"')), "{seq} shows what is stored");
            assert!(seq > last, "in order, none twice");
            last = seq;
            follower.seen.insert(seq, text);
        }
        assert!(next_seq >= last, "it would be given {last} again");
        follower.next = next;
        let channels: Vec<&str> = channels.split(',').collect();
        let follower = &self.followers[at];
        for entry in &self.disk.entries {
            let is_its = channels.contains(&"*") || channels.contains(&entry.record.channel());
            let has_it = entry.seq <= follower.since || follower.seen.contains_key(&entry.seq);
            // Whoever has not had it is told so, as long as its place is older than what was deleted.
            let is_told = gap && self.is_deleted_ahead(entry);
            assert!(!is_its || has_it || is_told, "{} was not delivered", entry.seq);
        }
    }

    /// Whether its channel was deleted in `behind` since, which is not on the disk yet.
    fn is_deleted_ahead(&self, entry: &Entry) -> bool {
        let deletes = |record: &Record| matches!(record, Record::Deleted { channel } if **channel == *entry.record.channel());
        let later = self.queue.iter().filter(|proposal| proposal.first > entry.seq);
        self.behind && later.flat_map(|proposal| &proposal.records).any(deletes)
    }

    /// The rings hold what is on the disk, and nothing that is not.
    fn check_history(&mut self) {
        let (messages, ..) = self.poll("a,b,c", "oldest");
        let shown: BTreeMap<Seq, String> = messages.into_iter().collect();
        let stored: BTreeSet<Seq> = self.disk.entries.iter().map(|entry| entry.seq).collect();
        assert_eq!(shown.keys().copied().collect::<BTreeSet<_>>(), stored);
        if !self.behind {
            for (text, seq) in &self.told {
                let is_there = seq.is_none_or(|seq| stored.contains(&seq));
                assert!(is_there || self.deleted.contains(text), "{text} was answered and is not there");
            }
        }
        for seq in self.followers.iter().flat_map(|follower| follower.seen.keys()) {
            let may_be_gone = *seq < self.disk.lost_all || self.deleted.contains(&self.named[seq]);
            assert!(may_be_gone || stored.contains(seq), "{seq} was seen and is not there");
        }
        let texts: BTreeSet<&String> = shown.values().collect();
        assert_eq!(texts.len(), shown.len(), "something was published twice");
    }

    fn live(&mut self) {
        for _ in 0..self.random.below(120) {
            match self.random.below(20) {
                0..9 => self.publish(),
                9 => self.repeat(),
                10 if self.random.one_in(3) => self.delete(),
                11..16 => self.answer(),
                16..19 => self.follow(),
                _ => self.world.advance(self.random.below(50)),
            }
            self.now_ms += 3;
            self.hear();
        }
        if self.random.one_in(2) {
            while !self.queue.is_empty() {
                self.answer();
            }
            self.hear();
            assert!(self.waiting.is_empty(), "without an answer: {:?}", self.waiting);
            let waiting = self.server.broker.log_waiting().unwrap();
            assert_eq!((waiting.proposals, waiting.bytes), (0, 0));
        }
        self.end();
    }
}

fn config() -> Config {
    let mut config = Config::default();
    config.history.messages = 100_000;
    config.bayeux.publish = vec!["**".into()];
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
    assert!(seed.is_some() || counts[0] > 200 && counts[1] > 50 && counts[2] > 500);
}
