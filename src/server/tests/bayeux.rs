//! A seed speaks Bayeux, over HTTP and WebSocket, from several addresses: handshakes, connects, subscriptions,
//! publications, acknowledgements, goodbyes, clients that leave, a clock that leaps. Nothing may panic, what is kept
//! must agree, and the same seed must have the server write the same bytes.

use super::bench::Bench;
use super::budgets::{connect, frame, request};
use super::handover::hand_over;
use crate::config::Config;
use crate::conn::ConnId;
use crate::id::Random;
use crate::id::Seed;
use crate::server::Server;
use serde_json::{Value, json};

const CHANNELS: [&str; 4] = ["/chat/a", "/chat/b", "/chat/*", "/news"];
const UPGRADE: &str = "GET /bayeux HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A connection, and whether it is a WebSocket.
struct Line {
    id: ConnId,
    is_socket: bool,
}

struct Talk {
    random: Random,
    bench: Bench,
    lines: Vec<Line>,
    /// Client ids that were given out, and the last batch that each acknowledges.
    sessions: Vec<String>,
    numbers: u32,
    /// All that was written, in order, with the connection's number.
    transcript: Vec<u8>,
}

impl Talk {
    fn new(script: u64, seed: Seed) -> Self {
        let mut random = Random::new(script);
        let mut config = Config::default();
        config.bayeux.mounts = vec!["/bayeux".into()];
        config.bayeux.publish = vec!["chat/**".into()];
        config.bayeux.subscribe = vec!["**".into()];
        config.bayeux.sessions = 1 + random.below(20) as usize;
        config.bayeux.bind_sessions_to_cookie = random.one_in(3);
        config.bayeux.end_session_on_gap = random.one_in(3);
        (config.bayeux.timeout_ms, config.bayeux.max_interval_ms) = (2_000, 3_000);
        config.history.messages = 1 + random.below(6) as usize;
        config.history.grace_seconds = 0;
        config.limits.publishes_per_second = 20;
        config.log.access = random.one_in(2);
        let mut bench = Bench::new(config.clone());
        bench.server = Server::new(config, seed, bench.world.now);
        Self { random, bench, lines: Vec::new(), sessions: Vec::new(), numbers: 0, transcript: Vec::new() }
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.random.below(from.len() as u64) as usize]
    }

    /// A session that was begun, or one that never was.
    fn session(&mut self) -> String {
        match self.sessions.len() as u64 {
            0 => "nobody".into(),
            _ if self.random.one_in(20) => "0000000000000000000000000000".into(),
            count => self.sessions[self.random.below(count) as usize].clone(),
        }
    }

    fn message(&mut self) -> String {
        self.numbers += 1;
        let (id, session, channel) = (self.numbers, self.session(), self.pick(&CHANNELS));
        let ack = if self.random.one_in(2) { "\"ext\":{\"ack\":true}," } else { "" };
        let head = format!("\"id\":\"{id}\",\"clientId\":\"{session}\"");
        match self.random.below(16) {
            0 | 1 => format!(
                "{{\"channel\":\"/meta/handshake\",{ack}\"version\":\"1.0\",\"supportedConnectionTypes\":[\"long-polling\",\"websocket\"],\"id\":\"{id}\"}}"
            ),
            2..8 => {
                let (batch, kind) =
                    (self.random.below(5), self.pick(&["long-polling", "websocket", "eventsource"]));
                format!(
                    "{{\"channel\":\"/meta/connect\",\"connectionType\":\"{kind}\",\"ext\":{{\"ack\":{batch}}},{head}}}"
                )
            }
            8..10 => {
                let replay = match self.random.below(3) {
                    0 => format!("\"ext\":{{\"replay\":{{\"{channel}\":-2}}}},"),
                    _ => String::new(),
                };
                format!("{{\"channel\":\"/meta/subscribe\",{replay}\"subscription\":\"{channel}\",{head}}}")
            }
            10 => format!("{{\"channel\":\"/meta/unsubscribe\",\"subscription\":\"{channel}\",{head}}}"),
            11 if self.random.one_in(3) => format!("{{\"channel\":\"/meta/disconnect\",{head}}}"),
            _ => {
                let channel = self.pick(&["/chat/a", "/chat/b", "/news"]);
                // Now and then the same once more.
                let id = if self.random.one_in(4) { id - 1 } else { id };
                format!(
                    "{{\"channel\":\"{channel}\",\"data\":{id},\"id\":\"{id}\",\"clientId\":\"{session}\"}}"
                )
            }
        }
    }

    fn request(&mut self) -> String {
        let count = 1 + self.random.below(3);
        let messages: Vec<String> = (0..count).map(|_| self.message()).collect();
        format!("[{}]", messages.join(","))
    }

    fn line(&mut self) -> usize {
        if !self.lines.is_empty() && self.random.one_in(2) {
            return self.random.below(self.lines.len() as u64) as usize;
        }
        let address = [192, 0, 2, self.random.below(3) as u8];
        let id = self.bench.connect_from(address).unwrap();
        if self.random.one_in(4) {
            self.bench.world.socket(id).capacity = 100;
        }
        let is_socket = self.random.one_in(3);
        self.lines.push(Line { id, is_socket });
        if is_socket {
            self.bench.send(id, UPGRADE);
        }
        self.lines.len() - 1
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0 if !self.lines.is_empty() => {
                let place = self.random.below(self.lines.len() as u64) as usize;
                let id = self.lines[place].id;
                let now = self.bench.world.now;
                match self.random.one_in(2) {
                    true => self.bench.server.hang_up(now, id, &mut self.bench.world),
                    false => self.bench.server.reset(now, id),
                }
            }
            1 => {
                let ms = self.random.below(1500);
                self.bench.world.advance(ms);
            }
            2 => self.bench.publish("chat/a", "\"from elsewhere\"", None),
            _ => self.say(),
        }
        if self.random.one_in(3) {
            self.turn();
        }
    }

    fn say(&mut self) {
        let place = self.line();
        let Line { id, is_socket } = self.lines[place];
        let body = self.request();
        match is_socket {
            true => self.bench.send_bytes(id, &frame(&body)),
            false => {
                let length = body.len();
                let head = "Content-Type: application/json\r\nHost: x";
                self.bench.send(
                    id,
                    &format!("POST /bayeux HTTP/1.1\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}"),
                );
            }
        }
    }

    fn turn(&mut self) {
        self.bench.turn();
        self.bench.server.check(self.bench.world.now);
        if self.random.one_in(5) {
            hand_over(&mut self.bench.server, self.bench.world.now);
        }
        for line in std::mem::take(&mut self.lines) {
            let bytes = self.bench.world.read(line.id, usize::MAX);
            let text = String::from_utf8_lossy(&bytes);
            let given = text.split("\"clientId\":\"").skip(1).filter_map(|rest| rest.split('"').next());
            self.sessions.extend(given.map(str::to_owned));
            self.transcript.extend(line.id.slot.number().to_be_bytes());
            self.transcript.extend(bytes);
            if !self.bench.world.at_end(line.id) {
                self.lines.push(line);
            }
        }
    }

    /// Everybody leaves; sessions and messages go in their time.
    fn end(mut self) -> Vec<u8> {
        self.turn();
        for line in std::mem::take(&mut self.lines) {
            self.bench.server.reset(self.bench.world.now, line.id);
        }
        for _ in 0..6 {
            self.bench.world.advance(3_700_000);
            self.turn();
        }
        self.bench.server.check_nothing_left(self.bench.world.now);
        self.transcript
    }
}

/// What a server that begins with `seed` writes when `script` decides what is said.
fn transcript(script: u64, seed: Seed) -> Vec<u8> {
    let mut talk = Talk::new(script, seed);
    (0..400).for_each(|_| talk.step());
    talk.end()
}

#[test]
fn whatever_is_said_nothing_breaks_and_nothing_stays() {
    let mut deliveries = 0;
    for script in 1..=60 {
        println!("script {script}");
        let text = transcript(script, Seed::of_number(script));
        deliveries += String::from_utf8_lossy(&text).matches("\"from elsewhere\\\"").count();
    }
    assert!(deliveries > 100, "they heard {deliveries} messages");
}

#[test]
fn the_same_seed_writes_the_same_bytes() {
    for script in 1..=20 {
        let seed = Seed::of_number(script);
        let once = transcript(script, seed);
        assert!(once == transcript(script, seed), "script {script}");
        let other = Seed { secret: seed.secret + 1, ..seed };
        assert!(once != transcript(script, other), "script {script}: the secret does not matter");
    }
}

/// A bench whose times are those of the settings given, in milliseconds.
fn timed(timeout_ms: u64, max_interval_ms: u64) -> Bench {
    let mut config = Config::default();
    (config.bayeux.timeout_ms, config.bayeux.max_interval_ms) = (timeout_ms, max_interval_ms);
    Bench::new(config)
}

/// A session that has connected once and listens to `/a`: from then on, connects are held.
fn listening(bench: &mut Bench) -> (ConnId, String) {
    let (id, session) = bench.session(&json!({}));
    bench.bayeux(id, &json!([connect(&session, &json!({}))]));
    let subscribe = json!([{"channel": "/meta/subscribe", "subscription": "/a", "clientId": session}]);
    assert_eq!(bench.bayeux(id, &subscribe)[0]["successful"], true);
    (id, session)
}

/// Sends a connect, which is held.
fn hold(bench: &mut Bench, id: ConnId, session: &str, more: &Value) {
    bench.send(id, &request(&json!([connect(session, more)])));
    bench.turn();
    assert_eq!(bench.read(id), "", "it is held");
}

fn pass(bench: &mut Bench, ms: u64) {
    bench.world.advance(ms);
    bench.turn();
}

#[test]
fn the_second_connect_is_held_until_its_timeout() {
    let mut bench = timed(400, 10_000);
    let (id, session) = listening(&mut bench);
    hold(&mut bench, id, &session, &json!({"id": "5"}));
    pass(&mut bench, 390);
    assert_eq!(bench.read(id), "", "not yet");
    // Timers fire up to one tick of 8 ms late.
    pass(&mut bench, 18);
    let answer = bench.read(id);
    assert!(answer.contains("\"id\":\"5\"") && answer.contains("\"successful\":true"), "{answer}");
    hold(&mut bench, id, &session, &json!({"id": "6", "advice": {"timeout": 20}}));
    pass(&mut bench, 28);
    assert!(bench.read(id).contains("\"id\":\"6\""), "its client waits no longer than it wants to");
}

#[test]
fn a_session_nobody_asks_for_expires() {
    let mut bench = timed(400, 1000);
    let (id, session) = listening(&mut bench);
    pass(&mut bench, 990);
    assert_eq!(bench.server.hub().gauges().subscribers, 1, "not yet");
    pass(&mut bench, 18);
    assert_eq!(bench.server.hub().gauges().subscribers, 0);
    let reply = bench.bayeux(id, &json!([connect(&session, &json!({}))]));
    assert!(reply[0]["error"].as_str().unwrap().starts_with("402::"), "{reply}");
    assert_eq!(reply[0]["advice"]["reconnect"], "handshake");
}

#[test]
fn a_session_whose_connect_is_held_does_not_expire() {
    let mut bench = timed(30_000, 1000);
    let (id, session) = listening(&mut bench);
    hold(&mut bench, id, &session, &json!({"id": "5"}));
    pass(&mut bench, 20_000);
    bench.publish("a", "1", None);
    bench.turn();
    assert!(bench.read(id).contains("\"data\":\"1\""), "it is still there");
    hold(&mut bench, id, &session, &json!({}));
    let now = bench.world.now;
    bench.server.reset(now, id);
    bench.turn();
    pass(&mut bench, 1018);
    assert_eq!(bench.server.hub().gauges().subscribers, 0, "its client has gone");
}

/// The answer to a connect that tells of a gap is lost on its way.
#[test]
fn a_gap_is_told_again_until_it_is_acknowledged() {
    let mut config = Config::default();
    (config.history.messages, config.history.grace_seconds) = (1, 0);
    let mut bench = Bench::new(config);
    let (id, session) = bench.session(&json!({"ack": true}));
    let ask = |bench: &mut Bench, batch: u64| {
        let more = json!({"ext": {"ack": batch}, "advice": {"timeout": 0}});
        let answer = bench.bayeux(id, &json!([connect(&session, &more)]));
        let reply = answer.as_array().unwrap().last().unwrap().clone();
        (reply["ext"]["ack"].as_u64().unwrap(), reply["ext"]["gap"].clone())
    };
    let (first, _) = ask(&mut bench, 0);
    let subscribe = json!([{"channel": "/meta/subscribe", "subscription": "/a", "clientId": session}]);
    assert_eq!(bench.bayeux(id, &subscribe)[0]["successful"], true);
    for text in ["1", "2"] {
        bench.publish("a", text, None);
        bench.turn();
    }
    let (_, gap) = ask(&mut bench, first);
    assert_eq!(gap, json!(["/a"]));
    let (batch, gap) = ask(&mut bench, first);
    assert_eq!(gap, json!(["/a"]), "nobody has acknowledged it");
    let (_, gap) = ask(&mut bench, batch);
    assert_eq!(gap, Value::Null);
}
