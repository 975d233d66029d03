//! A seed speaks to a server whose log is simulated: it answers after any delay, refuses, and when the process crashes it
//! keeps all that it has answered, and perhaps some more. Over all lives, publishers are held to their answers and
//! subscribers to what they saw.

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

    fn publish(&mut self) {
        let conn = self.connect();
        let (text, channel) = (self.text(), self.channel());
        match self.random.below(6) {
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
                self.wait(conn, Kind::Http, texts);
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
                self.wait(conn, Kind::WebSocket, vec![text]);
            }
            3 => {
                let body = json!([{"channel": format!("/{channel}"), "data": text, "id": "1"}]).to_string();
                let head = "POST /bayeux HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
                self.send(conn, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
                let texts = vec![json!(text).to_string()];
                self.wait(conn, Kind::Bayeux, texts);
            }
            4 => {
                let ttl = [1, 20, 3000][self.random.below(3) as usize];
                let length = text.len();
                self.send(conn, &format!("POST /pub/{channel}?ttl={ttl} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{text}"));
                let end = self.line() + ttl * 1000;
                self.brief.insert(text.clone(), (end, end));
                self.wait(conn, Kind::Http, vec![text]);
            }
            _ => {
                let length = text.len();
                // Another request waits behind it.
                self.send(conn, &format!("POST /pub/{channel} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{text}GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"));
                self.wait(conn, Kind::Http, vec![text]);
            }
        }
    }

    fn publish_keyed(&mut self, conn: ConnId, channel: &str, text: &str, key: &str) {
        let was_stored = self.stored.contains(text);
        let head = format!("POST /pub/{channel} HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {key}");
        self.send(conn, &format!("{head}\r\nContent-Length: {}\r\n\r\n{text}", text.len()));
        let key = Some(format!("{channel} {key}"));
        self.waiting.push(Waiting { conn, texts: vec![text.to_owned()], key, kind: Kind::Http, was_stored });
    }

    /// Waits for the answer to what publishes `texts` without a key.
    fn wait(&mut self, conn: ConnId, kind: Kind, texts: Vec<String>) {
        self.waiting.push(Waiting { conn, texts, key: None, kind, was_stored: false });
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

    /// A window of FDAjax, which names the time up to which it has everything: all that a protocol without ids can say.
    fn chat(&mut self) {
        let text = self.text();
        let conn = self.connect();
        let length = text.len();
        self.send(
            conn,
            &format!("POST /pub/{GROUP} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{text}"),
        );
        self.wait(conn, Kind::Http, vec![text]);
        self.look_at_window();
    }

    /// Reads what it is given, and has it wait again.
    fn look_at_window(&mut self) {
        for _ in 0..100 {
            if let Some(conn) = self.window {
                let answer = self.read(conn);
                if answer.is_empty() {
                    return;
                }
                for text in texts_in(&answer) {
                    assert!(self.behind || self.stored.contains(text), "{text} was shown and is not stored");
                    assert!(!self.has_ended(text), "{text} has expired");
                    self.chats.insert(text.to_owned());
                }
            }
            let conn = self.connect();
            self.send(conn, "GET /live.fdajax?cmd=wait&win_id=1&types=feed&sec=1 HTTP/1.1\r\nHost: x\r\nCookie: _session_id=s\r\n\r\n");
            self.window = Some(conn);
        }
        panic!("a window is answered for ever");
    }

    /// After a restart it is a new window, and gets what is not too old for FDAjax.
    fn check_window(&mut self) {
        self.window = None;
        self.look_at_window();
        for entry in &self.disk.entries {
            let Record::Message { channel, at, .. } = &entry.record else { continue };
            let text = &self.named[&entry.seq];
            let is_due = **channel == *GROUP && at.0 + LIVE_MS > self.line() && !self.has_ended(text);
            assert!(!is_due || self.chats.contains(text), "no window was given {text}");
        }
    }

    fn delete(&mut self) {
        let at = self.random.below(3) as usize;
        let conn = self.connect();
        self.followers.iter_mut().for_each(|follower| follower.may_miss = true);
        self.send(conn, &format!("DELETE /pub/{} HTTP/1.1\r\nHost: x\r\n\r\n", CHANNELS[at]));
        self.wait(conn, Kind::Delete(at), vec![]);
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
            let dead = self.disk.sweep(&self.server);
            let is_lasting = |seq: &Seq| !self.has_ended(&self.named[seq]);
            assert!(self.behind || !dead.iter().any(is_lasting), "nothing has left the rings: {dead:?}");
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
            // What a crash took before it was on the disk is published anew, under a number of its own.
            let was_lost = self.behind
                && !waiting.was_stored
                && known.flatten().is_some_and(|known| known < self.disk.lost_all);
            assert!(was_lost || known.is_none_or(|known| known == seq), "{text} was published twice");
        }
    }

    fn seq_of(&self, id: &str) -> Seq {
        let (epoch, seq) = id.split_once(':').unwrap();
        assert_eq!(epoch, self.epoch.to_string());
        seq.parse().unwrap()
    }

    /// What a poll brings: messages, where to go on, and whether there is a gap.
    fn poll(&mut self, channels: &str, after: &str) -> (Vec<(Seq, String)>, String, bool) {
        self.poll_page(channels, after, 1000)
    }

    /// The same, of at most `max` messages.
    fn poll_page(&mut self, channels: &str, after: &str, max: u64) -> (Vec<(Seq, String)>, String, bool) {
        let conn = self.connect();
        let request = format!(
            "GET /sub/{channels}?as=interval&after={after}&max={max} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n"
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
        // With pages that are too small for all, the last of what is older tells of what a crash took.
        let max = if self.random.one_in(3) { 1 + self.random.below(4) } else { 1000 };
        let (messages, next, gap) = self.poll_page(channels, &place, max);
        let next_seq = self.seq_of(&next);
        let is_partial = messages.len() as u64 == max && next_seq + 1 < self.disk.lost_all;
        let line = self.line();
        let follower = &mut self.followers[at];
        assert!(gap || is_partial || !is_from_before, "what a crash took was not told of: {place}");
        let has_cause = follower.may_miss || is_from_before && !is_partial;
        assert!(!gap || has_cause, "a gap without a cause: {place}");
        assert!(is_partial || next_seq + 1 >= self.disk.lost_all, "the same gap would be told again: {next}");
        if gap {
            // What is kept is brought along; what is missing is older than where it goes on.
            follower.since = next_seq;
            follower.seen.clear();
        } else {
            follower.may_miss &= max < 1000;
        }
        for (seq, text) in messages {
            let known = self.named.get(&seq).map(|named| named.trim_matches('"'));
            assert_eq!(known, Some(text.trim_matches('"')), "{seq} shows what is stored");
            let is_over = self.brief.get(&text).is_some_and(|&(_, end)| end <= line);
            assert!(!is_over, "{seq} has expired");
            assert!(seq > last, "in order, none twice");
            last = seq;
            follower.seen.insert(seq, text);
        }
        assert!(next_seq >= last, "it would be given {last} again");
        follower.next = next;
        let channels: Vec<&str> = channels.split(',').collect();
        let follower = &self.followers[at];
        for entry in &self.disk.entries {
            let is_its = match entry.record.channel() {
                GROUP => false,
                channel => channels.contains(&"*") || channels.contains(&channel),
            };
            let has_it = entry.seq <= follower.since || follower.seen.contains_key(&entry.seq);
            let has_it = has_it || max < 1000 && entry.seq > next_seq;
            // Whoever has not had it is told so, as long as its place is older than what was deleted.
            let is_told = gap && self.is_deleted_ahead(entry) || self.has_ended(&self.named[&entry.seq]);
            assert!(!is_its || has_it || is_told, "{} was not delivered", entry.seq);
        }
    }

    /// Whether the time is over of what it says.
    fn has_ended(&self, text: &str) -> bool {
        self.brief.get(text).is_some_and(|&(end, _)| end <= self.line())
    }

    /// Whether its channel was deleted in `behind` since, which is not on the disk yet.
    fn is_deleted_ahead(&self, entry: &Entry) -> bool {
        let deletes = |record: &Record| matches!(record, Record::Deleted { channel } if **channel == *entry.record.channel());
        let later = self.queue.iter().filter(|proposal| proposal.first > entry.seq);
        self.behind && later.flat_map(|proposal| &proposal.records).any(deletes)
    }

    /// The rings hold what is on the disk, and nothing that is not.
    fn check_history(&mut self) {
        let (messages, ..) = self.poll(&format!("a,b,c,{GROUP}"), "oldest");
        let shown: BTreeMap<Seq, String> = messages.into_iter().collect();
        let seqs = self.disk.entries.iter().map(|entry| entry.seq);
        let stored: BTreeSet<Seq> = seqs.filter(|seq| !self.has_ended(&self.named[seq])).collect();
        assert_eq!(shown.keys().copied().collect::<BTreeSet<_>>(), stored);
        if !self.behind {
            for (text, seq) in &self.told {
                let is_there = seq.is_none_or(|seq| stored.contains(&seq));
                let is_gone = self.deleted.contains(text) || self.has_ended(text);
                assert!(is_there || is_gone, "{text} was answered and is not there");
            }
        }
        for seq in self.followers.iter().flat_map(|follower| follower.seen.keys()) {
            let text = &self.named[seq];
            let may_be_gone =
                *seq < self.disk.lost_all || self.deleted.contains(text) || self.has_ended(text);
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
                19 if self.random.one_in(2) => self.chat(),
                _ => self.world.advance(self.random.below(700)),
            }
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
