//! A seed decides what happens to the server; the oracle says whether that was right.
//!
//! `ENCKE_SIM_SEED=n` replays one seed and prints what happened; `ENCKE_SIM_SEEDS=n` runs that many, from
//! `ENCKE_SIM_FROM` on.

use super::bayeux_client::{self, BayeuxClient, LINES, STREAM};
use super::client::{Client, Kind, Subscription, View};
use super::handover::hand_over;
use super::oracle::{From, Selection, Watch};
use super::sockets::{Seen, Talker};
use super::trace::{Trace, note};
use super::world::World;
use crate::broker::REMEMBERED_MS;
use crate::config::Config;
use crate::conn::ConnId;
use crate::hub::Message;
use crate::id::Seed;
use crate::id::{Epoch, Place, Random, Seq};
use crate::server::{Effect, Server};
use crate::time::Instant;
use crate::transport::{Polling, Streaming, Transport};
use std::fmt::Write;

const CHANNELS: [&str; 6] = ["a", "b", "c/x", "c/y", "c/y/z", "d"];
const SELECTIONS: [&[&str]; 10] = [
    &["a"],
    &["b"],
    &["c/x"],
    &["a", "b"],
    &["a", "c/y", "d"],
    &["c/*"],
    &["c/**", "a"],
    &["**"],
    &["*", "c/y/z"],
    &["c/*", "c/x"],
];
const TURNS: usize = 250;
/// `limits.memory` where memory is short now and then.
const MEMORY: usize = 1 << 20;

/// Things that a seed may do without: what is rare beside everything else is frequent on its own.
struct Habits {
    resets: bool,
    half_closes: bool,
    leaps: bool,
    deletes: bool,
    stale: bool,
    slow: bool,
    batches: bool,
    ttl: bool,
    restarts: bool,
    /// Another server takes over, and nobody notices.
    hands_over: bool,
    drains: bool,
    nonsense: bool,
    pipelines: bool,
    /// Writes are cut short, and sometimes the kernel has no memory for any of it.
    scarce: bool,
    /// Turns are short.
    hasty: bool,
    /// Writes find their connections broken.
    breaks: bool,
    /// Somebody sets the wall clock.
    skews: bool,
    /// Bare messages are known by what they say alone: then nothing is published twice.
    raw: bool,
    /// Some speak through WebSockets.
    sockets: bool,
    /// Some speak Bayeux.
    bayeux: bool,
    /// What may have been published already is published again, under the same key.
    repeats: bool,
    /// Some come from other addresses, and may publish nothing.
    strangers: bool,
    /// Memory is short now and then.
    presses: bool,
}

struct Sim {
    random: Random,
    habits: Habits,
    config: Config,
    server: Server,
    epochs: u64,
    world: World,
    clients: Vec<Client>,
    talkers: Vec<Talker>,
    bayeux: Vec<BayeuxClient>,
    /// Connections that no longer exist.
    stale: Vec<ConnId>,
    /// What was sent under each number: payload and TTL.
    sent: Vec<(String, Option<u64>)>,
    /// What was sent with an idempotency key: its number, and to which channels.
    keyed: Vec<(usize, Vec<&'static str>)>,
    checked: usize,
    draining: bool,
    trace: Trace,
}

fn habits(random: &mut Random) -> Habits {
    let mut one = || random.one_in(2);
    Habits {
        resets: one(),
        half_closes: one(),
        leaps: one(),
        deletes: one(),
        stale: one(),
        slow: one(),
        batches: one(),
        ttl: one(),
        restarts: one() && one(),
        hands_over: one(),
        drains: one(),
        nonsense: one(),
        pipelines: one(),
        scarce: one(),
        hasty: one(),
        breaks: one(),
        skews: one(),
        raw: one(),
        sockets: one(),
        bayeux: one(),
        repeats: one(),
        strangers: one(),
        presses: one() && one(),
    }
}

fn config(random: &mut Random) -> Config {
    let mut pick = |values: &[u64]| values[random.below(values.len() as u64) as usize];
    let mut config = Config::default();
    config.history.messages = pick(&[1, 2, 3, 5, 100]) as usize;
    config.history.grace_seconds = pick(&[0, 0, 1, 10]);
    config.history.bytes = pick(&[1, 700, 2000, 1 << 20]) as usize;
    config.history.total_bytes = pick(&[1, 3000, 10_000, 1 << 20]) as usize;
    config.history.seconds = pick(&[1, 20, 3600]);
    config.channel_idle_seconds = pick(&[1, 60]);
    config.heartbeat = pick(&[1, 15]);
    config.poll.no_news_status = pick(&[204, 304, 408]) as u16;
    config.turn.deliveries = pick(&[1, 2, 256]) as usize;
    config.limits.connections = pick(&[2, 100, 100]) as usize;
    config.limits.connections_per_address = pick(&[1, 2, 100, 100]) as usize;
    config.limits.channels = pick(&[3, 100, 100]) as usize;
    config.limits.tombstones = pick(&[1, 3, 100]) as usize;
    config.limits.idempotency_keys = pick(&[1, 10_000]) as usize;
    config.limits.stalled_seconds = pick(&[3, 60]);
    config.limits.unread_bytes_per_second = pick(&[0, 0, 20]) as usize;
    config.limits.idle_seconds = pick(&[5, 75]);
    config.limits.head_seconds = pick(&[3, 10]);
    config.limits.body_seconds = pick(&[3, 30]);
    config.limits.stream_seconds = pick(&[0, 0, 20]);
    config.bayeux.publish = vec!["**".into()];
    config.bayeux.timeout_ms = pick(&[500, 30_000]);
    config.bayeux.max_interval_ms = pick(&[1000, 10_000]);
    config.bayeux.end_session_on_gap = pick(&[0, 0, 1]) == 1;
    config.bayeux.sessions = pick(&[2, 100]) as usize;
    config.bayeux.answer_messages = pick(&[1, 3, 1000]) as usize;
    config.bayeux.answer_bytes = pick(&[1, 1 << 20]) as usize;
    config
}

impl Sim {
    fn new(seed: u64, traced: bool) -> Self {
        let mut random = Random::new(seed);
        let habits = habits(&mut random);
        let mut config = config(&mut random);
        config.limits.memory = if habits.presses { MEMORY } else { 0 };
        let mut world = World::default();
        world.advance(random.below(100_000));
        world.scarcity = habits.scarce.then(|| Random::new(seed ^ 1));
        world.haste = habits.hasty.then(|| Random::new(seed ^ 3));
        world.breakage = habits.breaks.then(|| Random::new(seed ^ 2));
        let server = Server::new(config.clone(), Seed::of_number(1), world.now);
        let count = 2 + random.below(8);
        let mut client = || {
            let selection = SELECTIONS[random.below(SELECTIONS.len() as u64) as usize];
            Client::new(Selection(selection.to_vec()))
        };
        let clients = (0..count).map(|_| client()).collect();
        let talkers = (0..random.below(3)).filter(|_| habits.sockets).map(|_| Talker::default()).collect();
        let terms = bayeux_client::Terms {
            max_interval_ms: config.bayeux.max_interval_ms,
            timeout_ms: config.bayeux.timeout_ms,
            ends_on_gap: config.bayeux.end_session_on_gap,
            raw: habits.raw,
        };
        let count = if habits.bayeux { random.below(4) } else { 0 };
        let bayeux = (0..count).map(|_| BayeuxClient::new(&mut random, terms)).collect();
        let trace = Trace::new(seed, traced, &config);
        let (stale, sent, keyed) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            random,
            habits,
            config,
            server,
            epochs: 1,
            world,
            clients,
            talkers,
            bayeux,
            stale,
            sent,
            keyed,
            checked: 0,
            draining: false,
            trace,
        }
    }

    fn run(&mut self) {
        for _ in 0..TURNS {
            for _ in 0..=self.random.below(4) {
                self.act();
                self.perhaps_hand_over();
            }
            self.turn();
            self.perhaps_hand_over();
            if self.habits.restarts && self.random.one_in(80) {
                self.restart();
            }
        }
        self.settle();
        if self.habits.drains {
            self.drain();
        }
        self.leave();
        self.trace.finish();
    }

    /// One thing happens.
    fn act(&mut self) {
        if !self.talkers.is_empty() && self.random.one_in(4) {
            return self.talk();
        }
        if !self.bayeux.is_empty() && self.random.one_in(4) {
            return self.speak_bayeux();
        }
        let who = self.random.below(self.clients.len() as u64) as usize;
        let below = self.random.below(100);
        let Some(id) = self.clients[who].id else {
            if !self.draining {
                self.connect(who);
            }
            return;
        };
        match below {
            0..35 => self.enqueue(who),
            35..80 => self.write(who, id),
            80..90 => self.read(who, id, self.habits.slow),
            90 if self.habits.resets => {
                note!(self, "{who} resets");
                self.world.socket(id).broken = true;
                // The reactor may find out by writing before it is told.
                if self.random.one_in(2) {
                    self.server.reset(self.world.now, id);
                }
                self.forget(who);
            }
            91 if self.habits.half_closes && !self.clients[who].half_closed => {
                note!(self, "{who} half-closes");
                self.clients[who].half_closed = true;
                self.clients[who].outbox.clear();
                self.clients[who].asks.retain(|ask| ask.since.is_some());
                self.server.hang_up(self.world.now, id, &mut self.world);
            }
            92 if self.habits.resets => {
                note!(self, "{who} closes");
                self.world.socket(id).deaf = true;
                self.server.hang_up(self.world.now, id, &mut self.world);
                self.forget(who);
            }
            93 if self.habits.stale && !self.stale.is_empty() => self.haunt(),
            95 if self.habits.leaps => {
                let ms = [1000, 10_000, 100_000, 400_000_000][self.random.below(4) as usize];
                let ms = self.random.below(ms);
                self.world.advance(ms);
                note!(self, "the clock leaps by {ms}");
            }
            98 if self.habits.presses => {
                let percent = [50, 85, 91, 95, 120][self.random.below(5) as usize];
                note!(self, "{percent} % of the memory are in use");
                self.server.note_held();
                self.server.note_memory(self.world.now, MEMORY / 100 * percent);
            }
            94 if self.habits.skews => {
                self.world.skew = self.random.below(2_000_000) as i64 - 1_000_000;
                note!(self, "the wall clock is set {} s ahead", self.world.skew);
            }
            // The kernel reports a socket as writable whenever it reports anything.
            96..98 => self.server.writable(self.world.now, id, &mut self.world),
            _ => {
                let ms = self.random.below(400);
                self.world.advance(ms);
            }
        }
    }

    fn connect(&mut self, who: usize) {
        let Some((id, stranger)) = self.accept() else { return };
        note!(self, "{who} connects as {id:?}");
        self.clients[who].leave();
        (self.clients[who].id, self.clients[who].stranger) = (Some(id), stranger);
    }

    /// A connection that is accepted, and whether it is of a stranger.
    fn accept(&mut self) -> Option<(ConnId, bool)> {
        let stranger = self.habits.strangers && self.random.one_in(2);
        let address = if stranger { [192, 0, 2, self.random.below(3) as u8] } else { [127, 0, 0, 1] };
        let id = self.server.accept(self.world.now, address.into(), false)?;
        let capacity = match self.habits.slow {
            true => [1, 40, 300, 5000, 1 << 30][self.random.below(5) as usize],
            false => 1 << 30,
        };
        self.world.open(id, capacity);
        Some((id, stranger))
    }

    /// Something happens to a WebSocket.
    fn talk(&mut self) {
        let who = self.random.below(self.talkers.len() as u64) as usize;
        let newest = self.server.broker.hub.journal.len() as Seq;
        let Some(id) = self.talkers[who].id else {
            if self.draining {
                return;
            }
            let Some((id, _)) = self.accept() else { return };
            let item = self.item();
            let handshake = self.talkers[who].begin(id, item, newest);
            note!(self, "socket {who} opens as {id:?} {item}");
            return self.server.receive(self.world.now, id, handshake.as_bytes(), &mut self.world);
        };
        if self.habits.resets && self.random.one_in(20) {
            note!(self, "socket {who} resets");
            self.world.socket(id).broken = true;
            self.server.reset(self.world.now, id);
            self.stale.extend(self.talkers[who].leave());
        } else if self.talkers[who].may_speak() && self.server.find(id).is_some() {
            let bytes = self.say(who, newest);
            note!(self, "socket {who} says {:?}", String::from_utf8_lossy(&bytes));
            self.receive_in_pieces(id, &bytes);
        }
    }

    /// A command.
    fn say(&mut self, who: usize, newest: Seq) -> Vec<u8> {
        match self.random.below(10) {
            0..3 => {
                let items = (0..=self.random.below(2)).map(|_| self.item()).collect();
                self.talkers[who].subscribe(items, newest)
            }
            3..5 => {
                let item = self.item();
                self.talkers[who].unsubscribe(item, newest)
            }
            5 if self.habits.nonsense => self.talkers[who].say_nonsense(),
            _ => {
                let (channels, number) = self.keyed_or_new();
                let (payload, ttl) = self.sent[number].clone();
                let mut more = serde_json::json!({"ttl": ttl});
                if self.is_keyed(number) {
                    more["idempotency_key"] = key(number).into();
                }
                self.talkers[who].publish(channels[0], payload, &more)
            }
        }
    }

    /// A message to a channel, now and then one that was sent before, or may have been, with the same key.
    fn keyed_or_new(&mut self) -> (Vec<&'static str>, usize) {
        let again = self.habits.repeats && !self.keyed.is_empty() && self.random.one_in(3);
        if again {
            let place = self.keyed.len() - 1 - self.random.below(self.keyed.len().min(4) as u64) as usize;
            let (number, channels) = &self.keyed[place];
            if channels.len() == 1 {
                return (channels.clone(), *number);
            }
        }
        let channels = vec![self.channel()];
        self.message();
        let number = self.sent.len() - 1;
        if self.habits.repeats && !self.habits.raw && self.random.one_in(3) {
            self.keyed.push((number, channels.clone()));
        }
        (channels, number)
    }

    fn is_keyed(&self, number: usize) -> bool {
        self.keyed.iter().any(|(keyed, _)| *keyed == number)
    }

    /// Something happens to a client of Bayeux.
    fn speak_bayeux(&mut self) {
        let who = self.random.below(self.bayeux.len() as u64) as usize;
        let line = self.bayeux[who].choose_line(&mut self.random);
        let Some(id) = self.bayeux[who].connection(line) else {
            if self.draining {
                return;
            }
            let Some((id, _)) = self.accept() else { return };
            note!(self, "Bayeux client {who} connects as {id:?}");
            let begin = self.bayeux[who].open(line, id);
            return begin
                .into_iter()
                .for_each(|bytes| self.server.receive(self.world.now, id, bytes, &mut self.world));
        };
        if self.habits.resets && self.random.one_in(20) {
            note!(self, "Bayeux client {who} resets {id:?}");
            self.world.socket(id).broken = true;
            // The reactor may find out by writing before it is told.
            if self.random.one_in(2) {
                self.server.reset(self.world.now, id);
            }
            self.stale.extend(self.bayeux[who].lose(line, true));
        } else if self.server.find(id).is_none() || !self.bayeux[who].may_speak(line) {
            // Nothing can be said.
        } else if self.habits.half_closes && line != STREAM && self.random.one_in(30) {
            note!(self, "Bayeux client {who} half-closes {id:?}");
            self.bayeux[who].half_close(line);
            self.server.hang_up(self.world.now, id, &mut self.world);
        } else {
            let (item, channel, number) = (self.item(), self.channel(), self.sent.len());
            let filler = ["x", "é\u{2028}"][self.random.below(2) as usize];
            let payload = format!("{{\"m\":{number},\"x\":\"{filler}\"}}");
            let view = view(&self.server, self.epochs, self.world.now.at);
            let mut is_new = false;
            let message = || {
                is_new = true;
                payload.clone()
            };
            let said = self.bayeux[who].say(&mut self.random, line, &view, (item, channel), message);
            if is_new {
                self.sent.push((payload, None));
            }
            let Some(bytes) = said else { return };
            note!(self, "Bayeux client {who} says {:?}", String::from_utf8_lossy(&bytes));
            self.receive_in_pieces(id, &bytes);
            if self.server.is_waiting(id) {
                self.bayeux[who].waits(line);
            }
        }
    }

    /// What a client writes arrives, in one piece or two.
    fn receive_in_pieces(&mut self, id: ConnId, bytes: &[u8]) {
        let cut = if self.random.one_in(4) { self.random.below(bytes.len() as u64) as usize } else { 0 };
        let (first, second) = bytes.split_at(cut);
        for piece in [first, second].into_iter().filter(|piece| !piece.is_empty()) {
            self.server.receive(self.world.now, id, piece, &mut self.world);
        }
    }

    /// A client of Bayeux reads.
    fn hear_bayeux(&mut self, who: usize, line: usize, id: ConnId, slowly: bool) {
        let max = if slowly { [0, 1, 50, 1 << 30][self.random.below(4) as usize] } else { usize::MAX };
        let bytes = self.world.read(id, max);
        if !bytes.is_empty() {
            note!(self, "Bayeux client {who} reads {:?}", String::from_utf8_lossy(&bytes));
            self.bayeux[who].take(line, &bytes, &view(&self.server, self.epochs, self.world.now.at));
        }
        if self.world.at_end(id) {
            let is_cut = self.draining || self.is_cut(id);
            note!(self, "Bayeux client {who} sees the end of {id:?}");
            self.server.reset(self.world.now, id);
            self.stale.extend(self.bayeux[who].lose(line, is_cut));
        }
    }

    /// A channel or a pattern.
    fn item(&mut self) -> &'static str {
        match self.random.below(3) {
            0 => ["c/*", "c/**", "*", "**"][self.random.below(4) as usize],
            _ => self.channel(),
        }
    }

    /// A WebSocket reads.
    fn hear(&mut self, who: usize, id: ConnId, slowly: bool) {
        let max = if slowly { [0, 1, 50, 1 << 30][self.random.below(4) as usize] } else { usize::MAX };
        let bytes = self.world.read(id, max);
        if !bytes.is_empty() {
            note!(self, "socket {who} reads {:?}", String::from_utf8_lossy(&bytes));
            self.talkers[who].take(&bytes, &view(&self.server, self.epochs, self.world.now.at));
        }
        if self.world.at_end(id) {
            let is_cut = self.is_cut(id);
            note!(self, "socket {who} sees the end");
            assert!(
                is_cut || self.talkers[who].over,
                "a WebSocket ends without a word: {:?}",
                self.talkers[who]
            );
            self.server.reset(self.world.now, id);
            self.stale.extend(self.talkers[who].leave());
        }
    }

    /// Whether a connection may have been cut off without a word.
    fn is_cut(&mut self, id: ConnId) -> bool {
        let socket = self.world.socket(id);
        let limit = self.config.limits.stalled_seconds;
        let (broken, stalled_at) = (socket.broken, socket.progress.plus_seconds(limit));
        let is_paced = self.config.limits.unread_bytes_per_second > 0;
        let behind = socket.first_short.filter(|_| is_paced);
        let stalled_at = stalled_at.min(behind.map_or(stalled_at, |since| since.plus_seconds(limit)));
        // Who keeps most is closed when memory is short.
        let is_shed = self.habits.presses && self.server.stats().connections_shed > 0;
        broken || is_shed || stalled_at <= self.world.now.at
    }

    /// The client will not look at this connection again.
    fn forget(&mut self, who: usize) {
        self.stale.extend(self.clients[who].id);
        self.clients[who].leave();
    }

    /// Events for connections that may no longer exist.
    fn haunt(&mut self) {
        let id = self.stale[self.random.below(self.stale.len() as u64) as usize];
        let now = self.world.now;
        if !self.world.socket(id).closed {
            return;
        }
        match self.random.below(4) {
            0 => self.server.receive(now, id, b"GET / HTTP/1.1\r\n\r\n", &mut self.world),
            1 => self.server.writable(now, id, &mut self.world),
            2 => self.server.hang_up(now, id, &mut self.world),
            _ => self.server.reset(now, id),
        }
    }

    fn write(&mut self, who: usize, id: ConnId) {
        let client = &mut self.clients[who];
        let all = client.outbox.len();
        // A request that meets a closing connection is lost, as anywhere.
        let is_lost = self.server.find(id).is_none();
        if all == 0 || client.half_closed || client.over || is_lost {
            return;
        }
        let count = if self.random.one_in(2) { all } else { 1 + self.random.below(all as u64) as usize };
        let bytes = client.write(count, &view(&self.server, self.epochs, self.world.now.at));
        note!(self, "{who} writes {:?}", String::from_utf8_lossy(&bytes));
        self.server.receive(self.world.now, id, &bytes, &mut self.world);
        if self.server.is_waiting(id) {
            self.clients[who].waits();
        }
    }

    fn read(&mut self, who: usize, id: ConnId, slowly: bool) {
        let max = if slowly { [0, 1, 50, 1 << 30][self.random.below(4) as usize] } else { usize::MAX };
        let bytes = self.world.read(id, max);
        if !bytes.is_empty() {
            note!(self, "{who} reads {:?}", String::from_utf8_lossy(&bytes));
            self.clients[who].take(&bytes, &view(&self.server, self.epochs, self.world.now.at));
        }
        if self.world.at_end(id) {
            let is_cut = self.is_cut(id);
            note!(self, "{who} sees the end");
            self.clients[who].end(is_cut);
            self.server.reset(self.world.now, id);
            self.forget(who);
        }
    }

    fn turn(&mut self) {
        let now = self.world.now;
        for id in std::mem::take(&mut self.world.edges) {
            self.server.writable(now, id, &mut self.world);
        }
        self.server.tick(now, &mut self.world);
        self.server.deliver(now, &mut self.world);
        while let Some(effect) = self.server.poll_effect() {
            note!(self, "{effect:?}");
            match effect {
                Effect::Pause(_) | Effect::Resume(_) | Effect::Unsent(_) => {}
                Effect::Append(_) | Effect::Ask(_) => unreachable!(),
                Effect::HalfClose(id) => self.world.socket(id).ended = true,
                Effect::Close(id) => self.world.socket(id).closed = true,
            }
        }
        for who in 0..self.clients.len() {
            if let Some(id) = self.clients[who].id {
                let slowly = self.habits.slow && self.random.one_in(2);
                self.read(who, id, slowly);
            }
        }
        for who in 0..self.talkers.len() {
            if let Some(id) = self.talkers[who].id {
                let slowly = self.habits.slow && self.random.one_in(2);
                self.hear(who, id, slowly);
            }
        }
        for (who, line) in (0..self.bayeux.len()).flat_map(|who| LINES.map(|line| (who, line))) {
            if let Some(id) = self.bayeux[who].connection(line) {
                let has_ended = line == STREAM && self.world.has_ended(id);
                let slowly = self.habits.slow && self.random.one_in(2) && !has_ended;
                self.hear_bayeux(who, line, id, slowly);
            }
        }
        self.check();
    }

    /// What holds after every turn.
    fn check(&mut self) {
        self.server.check(self.world.now);
        self.check_journal();
        if !self.server.broker.hub.has_ready() {
            let gauges = self.server.broker.hub.gauges();
            let total = self.config.history.total_bytes;
            assert!(gauges.bytes <= total || gauges.messages <= 1, "{} bytes of {total}", gauges.bytes);
            // What the grace keeps goes with a timer, which may fire a little late.
            let grace_ms = self.config.history.grace_seconds * 1000;
            let now = self.world.now.at;
            let is_young = |published| grace_ms > 0 && published + grace_ms + 100 > now;
            let newest_first = self.server.broker.hub.journal.iter().rev();
            let young = newest_first.take_while(|message| is_young(message.published)).count();
            let may_be = self.config.history.messages * gauges.channels + young;
            // A turn that gives way leaves timers to the next.
            let is_left = self.server.broker.hub.next_deadline() <= now;
            assert!(is_left || gauges.messages <= may_be, "{} messages of {may_be}", gauges.messages);
        }
    }

    /// What was published is what was sent, and once, however often it was sent under the same key.
    fn check_journal(&mut self) {
        let (known, new) = self.server.broker.hub.journal.split_at(self.checked);
        for (place, message) in new.iter().enumerate() {
            let number = number(message.publication.data.bytes());
            let (payload, ttl) = &self.sent[number];
            assert_eq!(message.publication.data.bytes(), payload.as_bytes());
            assert_eq!(message.publication.ttl_ms, ttl.map(|ttl| ttl * 1000));
            let is_same = |earlier: &&Message| {
                earlier.channel == message.channel
                    && earlier.publication.data.bytes() == message.publication.data.bytes()
            };
            let earlier = known.iter().chain(&new[..place]).rev().find(is_same);
            let is_forgotten = |earlier: &Message| {
                let is_full = self.config.limits.idempotency_keys == 1;
                self.is_keyed(number) && (is_full || earlier.published + REMEMBERED_MS <= message.published)
            };
            assert!(earlier.is_none_or(is_forgotten), "{payload} was published twice: {earlier:?}");
        }
        self.checked = self.server.broker.hub.journal.len();
    }

    /// Everybody reads everything; then nobody may lack anything.
    fn settle(&mut self) {
        self.habits.slow = false;
        self.world.breakage = None;
        let open = self.clients.iter().map(|client| client.id);
        let lines = self.bayeux.iter().flat_map(|client| LINES.map(|line| client.connection(line)));
        for id in open.chain(self.talkers.iter().map(|talker| talker.id)).chain(lines).flatten() {
            self.world.socket(id).capacity = 1 << 30;
        }
        for _ in 0..10_000 {
            self.turn();
            if self.server.next_deadline(self.world.now) > self.world.now.at && self.world.edges.is_empty() {
                break;
            }
        }
        assert!(self.server.next_deadline(self.world.now) > self.world.now.at, "the server never rests");
        let view = view(&self.server, self.epochs, self.world.now.at);
        for talker in self.talkers.iter_mut().filter(|talker| talker.may_speak()) {
            talker.account(view.newest(), &view);
        }
        self.bayeux.iter_mut().for_each(|client| client.settle(&view));
        for client in &mut self.clients {
            let parked = client.asks.front_mut().filter(|ask| ask.since.is_some());
            if let Some(stream) = &mut client.stream {
                stream.subscription.watch.account(view.journal, view.newest(), view.at);
            } else if let Some(ask) = parked {
                let Kind::Subscribe(parked) = &mut ask.kind else { panic!("never answered: {ask:?}") };
                assert!(
                    parked.transport == Transport::Poll(Polling::Long) && !ask.head_only,
                    "never answered: {parked:?}"
                );
                // Of what had to wait for its turn, nobody knows when it began.
                let due = ask.since.unwrap() + parked.timeout_ms + 16;
                assert!(parked.watch.began.is_none() || due > view.at, "a poll overslept: {parked:?}");
                parked.watch.account(view.journal, view.newest(), view.at);
            }
        }
    }

    /// Another server takes over; clients come back with what they know.
    fn restart(&mut self) {
        note!(self, "restart");
        self.epochs += 1;
        let seed = Seed::of_number(self.epochs);
        self.server = Server::new(self.config.clone(), seed, self.world.now);
        self.world.clear();
        self.clients.iter_mut().for_each(Client::leave);
        self.talkers.iter_mut().for_each(|talker| _ = talker.leave());
        self.bayeux.iter_mut().for_each(|client| _ = client.restart());
        self.stale.clear();
        self.checked = 0;
    }

    /// The next server has everything but the sockets, which stay.
    fn perhaps_hand_over(&mut self) {
        if self.habits.hands_over && self.random.one_in(12) {
            note!(self, "hand-over");
            hand_over(&mut self.server, self.world.now);
        }
    }

    fn drain(&mut self) {
        note!(self, "drain");
        self.draining = true;
        self.server.drain(self.world.now, &mut self.world);
        for _ in 0..200 {
            self.act();
            self.turn();
            self.world.advance(500);
        }
        assert!(self.server.is_drained(), "a drained server holds on to somebody");
    }

    /// Everybody leaves and time passes: nothing may be left.
    fn leave(&mut self) {
        for who in 0..self.clients.len() {
            if let Some(id) = self.clients[who].id {
                self.server.reset(self.world.now, id);
                self.forget(who);
            }
        }
        self.stale.extend(self.talkers.iter_mut().filter_map(Talker::leave));
        for line in LINES {
            self.stale.extend(self.bayeux.iter_mut().filter_map(|client| client.lose(line, true)));
        }
        // In the end the kernel tells of every reset.
        for id in std::mem::take(&mut self.stale) {
            self.server.reset(self.world.now, id);
        }
        for _ in 0..1000 {
            self.turn();
            self.world.advance(60_000);
        }
        self.server.check_nothing_left(self.world.now);
    }
}

/// Requests.
impl Sim {
    fn enqueue(&mut self, who: usize) {
        let client = &self.clients[who];
        let depth = if self.habits.pipelines { 4 } else { 1 };
        if client.asks.len() >= depth || client.over || client.half_closed {
            return;
        }
        match self.random.below(20) {
            0..9 => self.enqueue_subscription(who),
            9..16 => self.enqueue_publication(who),
            16 if self.habits.batches => self.enqueue_batch(who),
            17 if self.habits.deletes => {
                let channel = self.channel();
                self.request(who, &format!("DELETE /pub/{channel}"), "", Kind::Other(&[204, 404]));
            }
            18 if self.habits.nonsense => self.enqueue_nonsense(who),
            _ => self.request(who, "GET /stats", "", Kind::Other(&[200])),
        }
    }

    /// A request with a body, chunked or not.
    fn request(&mut self, who: usize, line: &str, body: &str, kind: Kind) {
        let (line, fields) = line.split_once("\r\n").unwrap_or((line, ""));
        let mut text = format!("{line} HTTP/1.1\r\nHost: x\r\n{fields}");
        match body.is_empty() {
            true => text.push_str("\r\n"),
            false if self.random.one_in(4) => {
                let (first, second) = body.split_at(1);
                text.push_str("Transfer-Encoding: chunked\r\n\r\n");
                let _ = write!(text, "1\r\n{first}\r\n");
                if !second.is_empty() {
                    let _ = write!(text, "{:x}\r\n{second}\r\n", second.len());
                }
                text.push_str("0\r\n\r\n");
            }
            false => {
                if self.random.one_in(8) {
                    text.push_str("Expect: 100-continue\r\n");
                }
                let _ = write!(text, "Content-Length: {}\r\n\r\n{body}", body.len());
            }
        }
        self.clients[who].ask(text.as_bytes(), kind, false);
    }

    fn channel(&mut self) -> &'static str {
        CHANNELS[self.random.below(CHANNELS.len() as u64) as usize]
    }

    /// A message that nobody has sent before.
    fn message(&mut self) -> (String, Option<u64>) {
        let filler = ["x", "two\nlines", "é\u{2028}"][self.random.below(3) as usize];
        let times = [1, 1, 5, 200][self.random.below(4) as usize];
        let payload = format!("m{} {}", self.sent.len(), filler.repeat(times));
        let ttl = self.habits.ttl && self.random.one_in(3);
        let ttl = ttl.then(|| [0, 1, 5, 1000][self.random.below(4) as usize]);
        self.sent.push((payload.clone(), ttl));
        (payload, ttl)
    }

    fn enqueue_publication(&mut self, who: usize) {
        let (mut channels, number) = self.keyed_or_new();
        if self.habits.batches && !self.habits.raw && !self.is_keyed(number) && self.random.one_in(4) {
            let more = self.channel();
            channels.extend((more != channels[0]).then_some(more));
        }
        let (payload, ttl) = self.sent[number].clone();
        let mut line = format!("POST /pub/{}\r\n", channels.join(","));
        if let Some(ttl) = ttl {
            let _ = write!(line, "Encke-TTL: {ttl}\r\n");
        }
        let messages: Vec<_> = channels.iter().map(|channel| (*channel, payload.clone())).collect();
        if !self.habits.raw && !self.is_keyed(number) && self.random.one_in(10) {
            self.keyed.push((number, channels));
        }
        if self.is_keyed(number) {
            let _ = write!(line, "Idempotency-Key: {}\r\n", key(number));
        }
        if self.is_keyed(number) && self.random.one_in(3) {
            self.request(who, &line, &payload, Kind::Publish(messages.clone()));
        }
        self.request(who, &line, &payload, Kind::Publish(messages));
    }

    fn enqueue_batch(&mut self, who: usize) {
        let (mut body, mut messages) = (String::new(), Vec::new());
        for _ in 0..=self.random.below(12) {
            let channel = self.channel();
            let (payload, ttl) = self.message();
            let line = serde_json::json!({"channel": channel, "data": payload, "ttl": ttl});
            let _ = writeln!(body, "{line}");
            messages.push((channel, payload));
        }
        let line = "POST /pub\r\nContent-Type: application/x-ndjson\r\n";
        self.request(who, line, &body, Kind::Publish(messages));
    }

    fn enqueue_nonsense(&mut self, who: usize) {
        match self.random.below(3) {
            0 => self.request(who, "GET /nowhere", "", Kind::Other(&[404])),
            1 => self.request(who, "GET /sub/a?after=rubbish", "", Kind::Other(&[400])),
            _ => self.clients[who].ask(b"NONSENSE\r\n\r\n", Kind::Other(&[400]), false),
        }
    }

    fn enqueue_subscription(&mut self, who: usize) {
        let (from, after) = self.start(who);
        let techniques = [
            (Transport::Poll(Polling::Long), "poll"),
            (Transport::Poll(Polling::Long), "poll"),
            (Transport::Poll(Polling::Interval), "interval"),
            (Transport::Stream(Streaming::Sse), "sse"),
            (Transport::Stream(Streaming::Lines), "stream"),
            (Transport::Stream(Streaming::Raw), "raw"),
        ];
        // Raw messages tell neither channel nor number: where they begin must be known.
        let count = if from == From::Kept || !self.habits.raw { 5 } else { 6 };
        let (transport, name) = techniques[self.random.below(count) as usize];
        let http11 = transport == Transport::Stream(Streaming::Raw) || !self.random.one_in(6);
        let batch = self.random.one_in(2);
        let timeout = [1, 5, 30][self.random.below(3) as usize];
        let max = [1, 2, 100][self.random.below(3) as usize];
        let method = if http11 && self.random.one_in(20) { "HEAD" } else { "GET" };
        let path = self.clients[who].selection.0.join(",");
        let mut text = format!("{method} /sub/{path}?as={name}&timeout={timeout}&max={max}");
        let header = self.random.one_in(2);
        if !header {
            let _ = write!(text, "&after={after}");
        }
        text.push_str(if http11 { " HTTP/1.1\r\nHost: x\r\n" } else { " HTTP/1.0\r\n" });
        if header {
            let _ = write!(text, "Last-Event-ID: {after}\r\n");
        }
        text.push_str(if batch { "Accept: application/json\r\n\r\n" } else { "\r\n" });
        let watch = Watch::new(self.clients[who].selection.clone(), from);
        let kind = Subscription { watch, transport, batch, timeout_ms: timeout * 1000 };
        self.clients[who].ask(text.as_bytes(), Kind::Subscribe(Box::new(kind)), method == "HEAD");
    }

    /// Where a client begins: mostly where it was.
    fn start(&mut self, who: usize) -> (From, String) {
        match (&self.clients[who].last, self.random.below(10)) {
            (Some(last), 0..8) => {
                let place = Place::parse(last).unwrap();
                let from = match place.id.epoch == Epoch::from_random(self.epochs) {
                    // Of some channels, not all that comes after it was asked for.
                    true if place.began.is_some() => From::Kept,
                    true => From::After(place.id.seq),
                    false => From::Stranger,
                };
                (from, last.clone())
            }
            (_, 8) => (From::Kept, "oldest".into()),
            (_, 9) => (From::Kept, format!("-{}", self.random.below(4))),
            _ => (From::Now, "now".into()),
        }
    }
}

fn view(server: &Server, epochs: u64, at: Instant) -> View<'_> {
    View { journal: &server.broker.hub.journal, epoch: Epoch::from_random(epochs), at }
}

/// The number in a payload.
fn number(payload: &[u8]) -> usize {
    let text = std::str::from_utf8(payload).unwrap();
    let digits = text.trim_start_matches(|first: char| !first.is_ascii_digit());
    let end = digits.find(|behind: char| !behind.is_ascii_digit()).unwrap();
    digits[..end].parse().unwrap()
}

/// The key of the message with a number.
fn key(number: usize) -> String {
    format!("key {number}")
}

#[test]
fn seeds() {
    let from_env = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    if let Some(seed) = from_env("ENCKE_SIM_SEED") {
        return Sim::new(seed, true).run();
    }
    let count: Seq = from_env("ENCKE_SIM_SEEDS").unwrap_or(256);
    let (mut seen, mut seen_bayeux) = ([0; 4], [0; 6]);
    let from = from_env("ENCKE_SIM_FROM").unwrap_or(0);
    for seed in from..from + count {
        let mut sim = Sim::new(seed, false);
        sim.run();
        for Seen { messages, gaps, done, refused } in sim.talkers.iter().map(|talker| talker.seen) {
            [messages, gaps, done, refused].iter().zip(&mut seen).for_each(|(more, all)| *all += more);
        }
        for client in &sim.bayeux {
            let bayeux_client::Seen { sessions, events, gaps, unknown, published, streamed } = client.seen;
            let all = [sessions, events, gaps, unknown, published, streamed];
            all.iter().zip(&mut seen_bayeux).for_each(|(more, all)| *all += more);
        }
        if seed % 5000 == 4999 {
            eprintln!("{} of {count} seeds", seed + 1 - from);
        }
    }
    eprintln!("WebSockets: messages, gaps, commands done and refused: {seen:?}");
    eprintln!(
        "Bayeux: sessions, events, gaps, lost sessions, publications, events on streams: {seen_bayeux:?}"
    );
    let happens = seen.iter().chain(&seen_bayeux).all(|&count| count > 0);
    assert!(count < 256 || happens, "not all of it happens: {seen:?}, {seen_bayeux:?}");
}
