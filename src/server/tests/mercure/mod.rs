//! A seed publishes and subscribes as clients of Mercure do, by both drafts: selectors, private updates, grants that end
//! or are taken back, places to go on from, gaps, restarts with and without a history on disk, hand-overs. Its oracle
//! matches with rules of its own and reads nothing of the server but the journal of all messages, and what is held of them.
//!
//! `ENCKE_SIM_SEED=n` replays one seed and prints what happened.

mod log;
mod reader;

use super::handover::hand_over;
use super::trace::{Trace, note};
use super::world::World;
use crate::broker::access::{Revocation, Whose};
use crate::config::{Config, Protocol};
use crate::conn::ConnId;
use crate::hub::Message;
use crate::id::{MessageId, Random, Seed, Seq};
use crate::server::Server;
use data_encoding::BASE64URL_NOPAD;
use log::Log;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reader::{Journal, Reader, Right, topics_of};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const PUBLISHER_KEY: &str = "a key of thirty-two bytes or more, for publishers";
const SUBSCRIBER_KEY: &str = "another key of thirty-two bytes, for subscribers";
const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "https://hub.example/.well-known/mercure";
const TOPICS: [&str; 6] = ["a", "/b/1", "/b/2", "/b/1/2", "https://e/1", "x y"];
/// What is asked for, and what of the topics that is.
const CLASSIC: [(&str, &[&str]); 7] = [
    ("*", &TOPICS),
    ("a", &["a"]),
    ("/b/1", &["/b/1"]),
    ("/b/{id}", &["/b/1", "/b/2"]),
    ("/b{/x*}", &["/b/1", "/b/2", "/b/1/2"]),
    ("{+any}", &["a", "/b/1", "/b/2", "/b/1/2", "https://e/1"]),
    ("x y", &["x y"]),
];
const V1: [(&str, &str, &[&str]); 6] = [
    ("match", "*", &TOPICS),
    ("match_exact", "a", &["a"]),
    ("match_urlpattern", "/b/:id", &["/b/1", "/b/2"]),
    ("match_urlpattern", "/b/*", &["/b/1", "/b/2", "/b/1/2"]),
    ("match_urlpattern", "https://e/:x", &["https://e/1"]),
    ("match", "x y", &["x y"]),
];
const TURNS: usize = 220;

/// An update whose publisher waits for its answer.
struct Waiting {
    id: ConnId,
    text: String,
    inbox: Vec<u8>,
}

struct Sim {
    random: Random,
    config: Config,
    server: Server,
    journal: Journal,
    log: Option<Log>,
    waiting: Vec<Waiting>,
    lives: u64,
    world: World,
    readers: Vec<Reader>,
    tokens: u64,
    sent: u64,
    got: usize,
    gaps: usize,
    ends: usize,
    trace: Trace,
}

pub(super) fn signed(kind: &str, claims: &Value, key: &str) -> String {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let message = format!("{}.{}", part(&json!({"alg": "HS256", "typ": kind})), part(claims));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes());
    format!("{message}.{}", BASE64URL_NOPAD.encode(ring::hmac::sign(&key, message.as_bytes()).as_ref()))
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

impl Sim {
    fn new(seed: u64, traced: bool) -> Self {
        let mut random = Random::new(seed);
        let mut pick = |values: &[usize]| values[random.below(values.len() as u64) as usize];
        let mut config = Config::default();
        config.mercure.publisher_key = Some(PUBLISHER_KEY.into());
        config.mercure.subscriber_key = Some(SUBSCRIBER_KEY.into());
        config.mercure.anonymous = true;
        config.mercure.protocol = Protocol::Both;
        config.mercure.issuer = Some(ISSUER.into());
        config.mercure.audience = Some(AUDIENCE.into());
        config.history.messages = pick(&[1, 3, 10, 100]);
        config.history.grace_seconds = pick(&[0, 0, 1]) as u64;
        config.history.bytes = pick(&[900, 1 << 20]);
        config.history.total_bytes = pick(&[3000, 1 << 20]);
        config.history.seconds = pick(&[5, 3600]) as u64;
        config.channel_idle_seconds = pick(&[1, 60]) as u64;
        config.limits.channels_per_pattern = pick(&[1, 3, 100]);
        config.turn.deliveries = pick(&[1, 256]);
        let mut world = World::default();
        world.advance(1000);
        world.scarcity = random.one_in(2).then(|| Random::new(seed ^ 1));
        world.haste = random.one_in(2).then(|| Random::new(seed ^ 3));
        let trace = Trace::new(seed, traced, &config);
        let server = Server::new(config.clone(), Seed::of_number(1), world.now);
        let readers = (0..2 + random.below(5)).map(|_| Reader::default()).collect();
        let log = random.one_in(3).then(|| Log::new(&mut random));
        let (journal, waiting) = (Journal::new(), Vec::new());
        let (lives, tokens, sent, got, gaps, ends) = (1, 0, 0, 0, 0, 0);
        let mut sim = Self {
            random,
            config,
            server,
            journal,
            log,
            waiting,
            lives,
            world,
            readers,
            tokens,
            sent,
            got,
            gaps,
            ends,
            trace,
        };
        if sim.log.is_some() {
            sim.begin_life();
        }
        sim
    }

    fn run(&mut self) {
        // Before a hand-over, everything is on the disk.
        let hands_over = self.random.one_in(2) && self.log.is_none();
        let restarts = self.random.one_in(3) || self.log.is_some();
        for _ in 0..TURNS {
            self.act();
            if hands_over && self.random.one_in(10) {
                note!(self, "hand-over");
                hand_over(&mut self.server, self.world.now);
            }
            self.turn();
            if restarts && self.random.one_in(60) {
                self.restart();
            }
        }
        self.settle();
        self.trace.finish();
    }

    fn act(&mut self) {
        let who = self.random.below(self.readers.len() as u64) as usize;
        match self.random.below(20) {
            0..9 => self.publish(),
            9..13 if self.readers[who].id.is_none() => self.subscribe(who),
            13 => self.leave(who),
            14 => self.revoke(who),
            15 => {
                let ms = [400, 3000, 20_000][self.random.below(3) as usize];
                self.world.advance(self.random.below(ms));
            }
            _ => self.world.advance(self.random.below(200)),
        }
    }

    fn ask(&mut self, request: &str) -> ConnId {
        let address = [192, 0, 2, 1].into();
        let id = self.server.accept(self.world.now, address, false).expect("there is room");
        self.world.open(id, 1 << 30);
        // At once, so that it is known what was there.
        let haste = self.world.haste.take();
        self.server.receive(self.world.now, id, request.as_bytes(), &mut self.world);
        self.world.haste = haste;
        id
    }

    fn publish(&mut self) {
        let count = 1 + self.random.below(8) / 6;
        let topics: BTreeSet<&str> =
            (0..count).map(|_| TOPICS[self.random.below(TOPICS.len() as u64) as usize]).collect();
        self.sent += 1;
        let mut body = format!("data=message-{}", self.sent);
        topics.iter().for_each(|topic| body += &format!("&topic={}", encoded(topic)));
        if self.random.one_in(3) {
            body += "&private=";
        }
        if self.random.one_in(4) {
            body += &format!("&id=chosen-{}", self.random.below(20));
        }
        note!(self, "publish {body}");
        let text = format!("message-{}", self.sent);
        let token = signed("JWT", &json!({"mercure": {"publish": ["*"]}}), PUBLISHER_KEY);
        let before = self.journal.len();
        let id = self.ask(&format!(
            "POST /.well-known/mercure HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: \
             application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        self.note_journal();
        assert!(self.log.is_some() || self.journal.len() == before + 1, "one update is one message");
        self.waiting.push(Waiting { id, text, inbox: Vec::new() });
    }

    /// Takes what has become history.
    fn note_journal(&mut self) {
        for message in std::mem::take(&mut self.server.broker.hub.journal) {
            let data = message.publication.data.bytes().to_vec();
            let before = self.journal.insert(message.id.seq, message);
            assert!(
                before.is_none_or(|before| before.publication.data.bytes() == data),
                "a number is used twice"
            );
        }
    }

    /// Looks what publishers were answered: what is told to be published is history, and what is not is none.
    fn hear(&mut self) {
        for mut waiting in std::mem::take(&mut self.waiting) {
            waiting.inbox.extend(self.world.read(waiting.id, usize::MAX));
            let answer = String::from_utf8(waiting.inbox.clone()).unwrap();
            let length = answer.split_once("Content-Length: ").and_then(|(_, rest)| rest.split_once("\r\n"));
            let length = length.map(|(length, _)| length.parse::<usize>().unwrap());
            let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
            let Some(body) = body.filter(|body| Some(body.len()) == length) else {
                self.waiting.push(waiting);
                continue;
            };
            let mut all = self.journal.values();
            let message = all.find(|message| message.publication.data.bytes() == waiting.text.as_bytes());
            match message {
                Some(message) => assert_eq!((&answer[9..12], body), ("200", &*id_of(message))),
                None => assert_eq!(&answer[9..12], "503", "{answer}"),
            }
            self.world.socket(waiting.id).broken = true;
            self.server.reset(self.world.now, waiting.id);
        }
    }

    /// A token of a draft for some of what there is, and what it grants.
    fn token(&mut self, is_v1: bool) -> (String, Right) {
        self.tokens += 1;
        let number = format!("token {}", self.tokens);
        let now = self.world.now.unix;
        let ends = if is_v1 || self.random.one_in(2) { now + 1 + self.random.below(30) } else { u64::MAX };
        let (kind, mut claims, sees) = if is_v1 {
            let (name, text, sees) = V1[self.random.below(V1.len() as u64) as usize];
            let kind = if name == "match_urlpattern" { "urlpattern" } else { "exact" };
            let detail = json!({
                "type": "https://mercure.rocks/authorization-detail", "actions": ["subscribe"],
                "topics": [{"match": text, "match_type": kind}],
            });
            ("at+jwt", json!({"iss": ISSUER, "aud": AUDIENCE, "authorization_details": [detail]}), sees)
        } else {
            let (text, sees) = CLASSIC[self.random.below(CLASSIC.len() as u64) as usize];
            ("JWT", json!({"mercure": {"subscribe": [text]}}), sees)
        };
        claims["jti"] = number.clone().into();
        if ends < u64::MAX {
            claims["exp"] = ends.into();
        }
        let right = Right { sees: sees.iter().copied().collect(), ends, number };
        (signed(kind, &claims, SUBSCRIBER_KEY), right)
    }

    fn subscribe(&mut self, who: usize) {
        let is_v1 = self.random.one_in(3);
        let (mut query, mut selects) = (String::new(), BTreeSet::new());
        for _ in 0..=self.random.below(3) / 2 {
            let (name, text, selected) = match is_v1 {
                true => V1[self.random.below(V1.len() as u64) as usize],
                false => {
                    let (text, selected) = CLASSIC[self.random.below(CLASSIC.len() as u64) as usize];
                    ("topic", text, selected)
                }
            };
            query += &format!("&{name}={}", encoded(text));
            selects.extend(selected);
        }
        let (mut fields, mut right) = (String::new(), None);
        if self.random.one_in(2) {
            let (token, granted) = self.token(is_v1);
            fields += &format!("Authorization: Bearer {token}\r\n");
            right = Some(granted);
        }
        let newest = self.newest();
        let last = self.readers[who].last.clone();
        let after = match self.random.below(4) {
            0 => None,
            1 => Some("earliest".to_owned()),
            _ => last,
        };
        let (begins, must_be_told) = self.place(after.as_deref());
        if let Some(after) = &after {
            fields += &format!("Last-Event-ID: {after}\r\n");
        }
        let is_held = |seq: &Seq, message: &Message| {
            let (topics, private) = topics_of(message);
            // By a topic that is asked for: what others have of it is not looked at.
            topics.iter().filter(|topic| selects.contains(topic.as_str())).any(|topic| {
                let name = if private { format!("{}{topic}", crate::hub::PRIVATE) } else { topic.clone() };
                self.server.broker.hub.recent(&name, usize::MAX).any(|message| message.id.seq == *seq)
            })
        };
        let all = self.journal.range(begins + 1..newest + 1);
        let held = all.clone().filter(|(seq, message)| is_held(seq, message)).map(|(seq, _)| *seq).collect();
        let mut reader = Reader {
            selects,
            right,
            cursor: begins,
            began: newest,
            held,
            must_be_told,
            last: after.clone().filter(|after| after != "earliest"),
            ..Reader::default()
        };
        let mut wanted = all.filter(|(_, message)| reader.wants(message));
        let has_lost = wanted.any(|(seq, _)| !reader.held.contains(seq));
        reader.must_be_told |= has_lost && after.is_some_and(|after| after != "earliest");
        note!(self, "{who} subscribes {query}\n{fields}{:?}", reader.right);
        reader.id =
            Some(self.ask(&format!(
                "GET /.well-known/mercure?{} HTTP/1.1\r\nHost: x\r\n{fields}\r\n",
                &query[1..]
            )));
        self.readers[who] = reader;
    }

    fn newest(&self) -> Seq {
        self.server.broker.hub.newest().seq
    }

    /// Where somebody begins that asks for that, and whether what came before cannot be known.
    fn place(&self, after: Option<&str>) -> (Seq, bool) {
        let Some(after) = after else { return (self.newest(), false) };
        // What an id of ours means is its number; of a chosen one, the earliest that is held counts, or one that is
        // remembered.
        let own = after.strip_prefix('#').and_then(MessageId::parse);
        let is_taken = |seq: Seq| self.log.as_ref().is_some_and(|log| seq + 1 < log.disk.lost_all);
        match own {
            Some(id) if id.epoch == self.server.broker.hub.newest().epoch => (id.seq, is_taken(id.seq)),
            Some(_) => (0, true),
            None if after == "earliest" => (0, false),
            None => match self.server.broker.hub.find_id(after) {
                Some(id) => {
                    assert_eq!(id_of(&self.journal[&id.seq]), after);
                    (id.seq, is_taken(id.seq))
                }
                None => (0, true),
            },
        }
    }

    fn leave(&mut self, who: usize) {
        let Some(id) = self.readers[who].id.take() else { return };
        note!(self, "{who} leaves");
        self.world.socket(id).broken = true;
        self.server.reset(self.world.now, id);
        self.count(who);
    }

    fn count(&mut self, who: usize) {
        self.got += std::mem::take(&mut self.readers[who].got);
        self.gaps += std::mem::take(&mut self.readers[who].gaps);
    }

    fn revoke(&mut self, who: usize) {
        let (Some(_), Some(right)) = (self.readers[who].id, self.readers[who].right.clone()) else { return };
        note!(self, "the token of {who} is revoked");
        let now = self.world.now;
        let revocation = Revocation {
            whose: Whose::Token(right.number.into()),
            before: now.unix,
            channels: Vec::new(),
            lapses: now.unix + 1000,
        };
        self.server.revoke(now, revocation);
        self.readers[who].is_revoked = true;
        self.readers[who].ended_at = Some(self.newest());
    }

    fn turn(&mut self) {
        self.answer();
        let (now, newest) = (self.world.now.unix, self.newest());
        for reader in &mut self.readers {
            if reader.right.as_ref().is_some_and(|right| right.ends <= now) {
                reader.ended_at.get_or_insert(newest);
            }
        }
        for id in std::mem::take(&mut self.world.edges) {
            self.server.writable(self.world.now, id, &mut self.world);
        }
        self.server.tick(self.world.now, &mut self.world);
        let is_left = self.server.deliver(self.world.now, &mut self.world);
        self.carry_out();
        self.server.check(self.world.now);
        self.note_journal();
        self.hear();
        self.read(is_left);
    }

    fn read(&mut self, is_left: bool) {
        let (now, newest) = (self.world.now.unix, self.newest());
        for who in 0..self.readers.len() {
            let Some(id) = self.readers[who].id else { continue };
            let bytes = self.world.read(id, usize::MAX);
            if !bytes.is_empty() {
                note!(self, "{who} reads {:?}", String::from_utf8_lossy(&bytes));
            }
            let reader = &mut self.readers[who];
            reader.read(&self.journal, newest, &bytes);
            let is_over = reader.right.as_ref().is_some_and(|right| right.ends <= now) || reader.is_revoked;
            let at_end = self.world.at_end(id);
            assert!(!at_end || is_over, "{who} was ended for no reason");
            assert!(
                at_end || !is_over || is_left || self.world.scarcity.is_some(),
                "{who} goes on without a right"
            );
            if at_end {
                note!(self, "{who} has come to its end");
                self.ends += 1;
                self.readers[who].id = None;
                self.count(who);
            }
        }
    }

    fn restart(&mut self) {
        note!(self, "restart");
        self.lives += 1;
        if self.log.is_some() {
            self.end_life();
        } else {
            self.journal.clear();
            self.server = Server::new(self.config.clone(), Seed::of_number(self.lives), self.world.now);
        }
        self.world.clear();
        self.waiting.clear();
        if self.log.is_some() {
            self.begin_life();
        }
        for who in 0..self.readers.len() {
            self.count(who);
            let reader = &mut self.readers[who];
            (reader.id, reader.cursor) = (None, 0);
        }
    }

    /// Nothing is short any more, and everybody gets what it lacks.
    fn settle(&mut self) {
        (self.world.scarcity, self.world.haste) = (None, None);
        for _ in 0..400 {
            self.turn();
        }
        let newest = self.newest();
        for who in 0..self.readers.len() {
            let reader = &mut self.readers[who];
            if reader.id.is_some() {
                reader.account(&self.journal, newest);
                assert!(!reader.must_be_told, "nothing was told of what is lost: {reader:?}");
            }
            self.count(who);
        }
        assert!(self.waiting.is_empty(), "a publisher was not answered");
    }
}

/// The id that an update is shown by.
fn id_of(message: &Message) -> String {
    let chosen = message.publication.update.as_deref().and_then(|update| update.id.as_deref());
    chosen.map_or_else(|| format!("#{}", message.id), str::to_owned)
}

#[test]
fn subscribers_of_mercure_get_what_is_theirs() {
    let run = |seed: u64, traced: bool| {
        let mut sim = Sim::new(seed, traced);
        sim.run();
        (sim.got, sim.gaps, sim.ends)
    };
    if let Some(seed) = std::env::var("ENCKE_SIM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        run(seed, true);
        return;
    }
    let seeds = std::env::var("ENCKE_SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(40);
    let (mut got, mut gaps, mut ends) = (0, 0, 0);
    for seed in 0..seeds {
        let (more, told, ended) = run(seed, false);
        (got, gaps, ends) = (got + more, gaps + told, ends + ended);
    }
    // What never happens was not tried.
    assert!(got > 500 && gaps > 20 && ends > 20, "{got} {gaps} {ends}");
}
