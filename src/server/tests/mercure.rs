//! A seed publishes and subscribes as clients of Mercure do, by both drafts: selectors, private updates, grants that end
//! or are taken back, places to go on from, gaps, restarts, hand-overs. Its oracle matches with rules of its own and reads
//! nothing of the server but the journal of all messages.
//!
//! `ENCKE_SIM_SEED=n` replays one seed and prints what happened.

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
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
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

/// What a token grants, until when, and its number.
#[derive(Debug, Clone)]
struct Right {
    sees: BTreeSet<&'static str>,
    ends: u64,
    number: String,
}

#[derive(Debug, Default)]
struct Reader {
    id: Option<ConnId>,
    inbox: Vec<u8>,
    /// The head of the answer has been read.
    has_head: bool,
    selects: BTreeSet<&'static str>,
    right: Option<Right>,
    is_revoked: bool,
    /// Its right has ended: nothing newer than this is for it.
    ended_at: Option<Seq>,
    /// Everything up to here has come, or was not to come.
    cursor: Seq,
    /// What was there when it began; of that, what was held.
    began: Seq,
    held: BTreeSet<Seq>,
    /// What was there when it was last told of a gap: some of that was lost.
    told: Seq,
    /// It asked for what cannot be known any more: a gap has to be told first.
    must_be_told: bool,
    /// The last id that it has seen.
    last: Option<String>,
    got: usize,
    gaps: usize,
}

struct Sim {
    random: Random,
    config: Config,
    server: Server,
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

fn signed(kind: &str, claims: &Value, key: &str) -> String {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let message = format!("{}.{}", part(&json!({"alg": "HS256", "typ": kind})), part(claims));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes());
    format!("{message}.{}", BASE64URL_NOPAD.encode(ring::hmac::sign(&key, message.as_bytes()).as_ref()))
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The topics of a message, and whether it is private.
fn topics_of(message: &Message) -> (Vec<String>, bool) {
    match message.publication.update.as_deref() {
        Some(update) => (update.topics.iter().map(|topic| topic.to_string()).collect(), update.private),
        None => (vec![message.channel.to_string()], false),
    }
}

impl Reader {
    /// Whether a message is for it.
    fn wants(&self, message: &Message) -> bool {
        let (topics, private) = topics_of(message);
        let has = |set: &BTreeSet<&str>| topics.iter().any(|topic| set.contains(topic.as_str()));
        has(&self.selects) && (!private || self.right.as_ref().is_some_and(|right| has(&right.sees)))
    }

    /// Everything up to `upto` has come, or nobody has to send it.
    fn account(&mut self, journal: &[Message], upto: Seq) {
        for message in journal.iter().filter(|message| (self.cursor + 1..=upto).contains(&message.id.seq)) {
            let seq = message.id.seq;
            let is_owed = seq > self.told && (seq > self.began || self.held.contains(&seq));
            assert!(!is_owed || !self.wants(message), "{seq} is missing: {self:?}");
        }
        self.cursor = self.cursor.max(upto);
    }

    fn event(&mut self, journal: &[Message], block: &str) {
        let field = |name: &str| {
            block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
        };
        let (event, id, data) = (field("event"), field("id").to_owned(), field("data"));
        assert!(!data.is_empty() && !id.is_empty(), "a block without data or id: {block:?}");
        match event {
            "encke.gap" => {
                let position = MessageId::parse(&id[1..]).expect("a gap is told with an id of ours").seq;
                assert!(position <= journal.len() as Seq);
                self.cursor = self.cursor.max(position);
                self.told = journal.len() as Seq;
                self.must_be_told = false;
                self.gaps += 1;
            }
            "encke.expired" | "encke.revoked" => {}
            _ => {
                // What was sent says its number; so ids that were chosen twice are told apart.
                let message =
                    journal.iter().find(|message| message.publication.data.bytes() == data.as_bytes());
                let message = message.unwrap_or_else(|| panic!("{data:?} was not published in this life"));
                let chosen = message.publication.update.as_deref().and_then(|update| update.id.as_deref());
                let seq = message.id.seq;
                assert_eq!(id, chosen.map_or_else(|| format!("#{}", message.id), str::to_owned));
                assert!(self.wants(message), "{seq} is not for it: {self:?}");
                assert!(seq > self.cursor, "{seq} comes twice, or late: {self:?}");
                assert!(!self.must_be_told, "nothing was told of what is lost");
                self.account(journal, seq - 1);
                assert!(
                    self.ended_at.is_none_or(|ended| seq <= ended),
                    "{seq} came beyond the end of its right"
                );
                self.cursor = seq;
                self.got += 1;
            }
        }
        self.last = Some(id);
    }

    /// Reads what has arrived: a head, then chunks with whole events.
    fn read(&mut self, journal: &[Message], bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
        if !self.has_head {
            let Some(end) = self.inbox.windows(4).position(|four| four == b"\r\n\r\n") else { return };
            let head = String::from_utf8(self.inbox.drain(..end + 4).collect()).unwrap();
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            self.has_head = true;
        }
        while let Some(line) = self.inbox.windows(2).position(|two| two == b"\r\n") {
            let size = std::str::from_utf8(&self.inbox[..line]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            if self.inbox.len() < line + 2 + size + 2 {
                return;
            }
            let chunk = self.inbox[line + 2..line + 2 + size].to_vec();
            self.inbox.drain(..line + 2 + size + 2);
            for block in String::from_utf8(chunk).unwrap().split("\n\n") {
                if block.lines().any(|line| line.starts_with("data")) {
                    self.event(journal, block);
                }
            }
        }
    }
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
        let (lives, tokens, sent, got, gaps, ends) = (1, 0, 0, 0, 0, 0);
        Self { random, config, server, lives, world, readers, tokens, sent, got, gaps, ends, trace }
    }

    fn run(&mut self) {
        let hands_over = self.random.one_in(2);
        let restarts = self.random.one_in(3);
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
        let token = signed("JWT", &json!({"mercure": {"publish": ["*"]}}), PUBLISHER_KEY);
        let before = self.server.broker.hub.journal.len();
        let id = self.ask(&format!(
            "POST /.well-known/mercure HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: \
             application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert_eq!(self.server.broker.hub.journal.len(), before + 1, "one update is one message");
        self.world.socket(id).broken = true;
        self.server.reset(self.world.now, id);
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
        let journal = &self.server.broker.hub.journal;
        let newest = journal.len() as Seq;
        let old = &self.readers[who];
        let (last, cursor) = (old.last.clone(), old.cursor);
        let after = match self.random.below(4) {
            0 => None,
            1 => Some("earliest".to_owned()),
            _ => last,
        };
        // What an id of ours means is its number; what a chosen one does is judged by what is held of it.
        let own = after.as_deref().and_then(|after| after.strip_prefix('#')).and_then(MessageId::parse);
        let epoch = self.server.broker.hub.newest().epoch;
        let (begins, must_be_told) = match (&after, own) {
            (None, _) => (newest, false),
            (Some(_), Some(id)) if id.epoch == epoch => (id.seq, false),
            (Some(_), Some(_)) => (0, true),
            (Some(after), None) if after == "earliest" => (0, false),
            // Of a chosen id, the earliest that is held counts, or one that is remembered; not after a restart.
            (Some(after), None) => match self.server.broker.hub.find_id(after) {
                Some(id) => (id.seq, false),
                None => (0, true),
            },
        };
        let _ = cursor;
        if let Some(after) = &after {
            fields += &format!("Last-Event-ID: {after}\r\n");
        }
        let is_held = |seq: &Seq| {
            let (topics, private) = topics_of(&journal[*seq as usize - 1]);
            // By a topic that is asked for: what others have of it is not looked at.
            topics.iter().filter(|topic| selects.contains(topic.as_str())).any(|topic| {
                let name = if private { format!("{}{topic}", crate::hub::PRIVATE) } else { topic.clone() };
                self.server.broker.hub.recent(&name, usize::MAX).any(|message| message.id.seq == *seq)
            })
        };
        let held = (begins + 1..=newest).filter(is_held).collect();
        note!(self, "{who} subscribes {query} {after:?} {right:?}");
        let id = self
            .ask(&format!("GET /.well-known/mercure?{} HTTP/1.1\r\nHost: x\r\n{fields}\r\n", &query[1..]));
        self.readers[who] = Reader {
            id: Some(id),
            selects,
            right,
            cursor: begins,
            began: newest,
            held,
            must_be_told,
            last: after.filter(|after| after != "earliest"),
            ..Reader::default()
        };
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
        self.readers[who].ended_at = Some(self.server.broker.hub.journal.len() as Seq);
    }

    fn turn(&mut self) {
        let (now, newest) = (self.world.now.unix, self.server.broker.hub.journal.len() as Seq);
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
        self.world.carry_out(&mut self.server);
        self.server.check(self.world.now);
        self.read(is_left);
    }

    fn read(&mut self, is_left: bool) {
        let journal = std::mem::take(&mut self.server.broker.hub.journal);
        let now = self.world.now.unix;
        for who in 0..self.readers.len() {
            let Some(id) = self.readers[who].id else { continue };
            let bytes = self.world.read(id, usize::MAX);
            if !bytes.is_empty() {
                note!(self, "{who} reads {:?}", String::from_utf8_lossy(&bytes));
            }
            let reader = &mut self.readers[who];
            reader.read(&journal, &bytes);
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
        self.server.broker.hub.journal = journal;
    }

    fn restart(&mut self) {
        note!(self, "restart");
        self.lives += 1;
        self.server = Server::new(self.config.clone(), Seed::of_number(self.lives), self.world.now);
        self.world.clear();
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
        let newest = self.server.broker.hub.journal.len() as Seq;
        let journal = std::mem::take(&mut self.server.broker.hub.journal);
        for who in 0..self.readers.len() {
            if self.readers[who].id.is_some() {
                self.readers[who].account(&journal, newest);
            }
            self.count(who);
        }
        self.server.broker.hub.journal = journal;
    }
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
