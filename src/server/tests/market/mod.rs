//! Prices through the whole server: a seed publishes values, patches and removals of keys, and readers of several paces
//! follow them on every technique, on slow sockets and good ones, lose their lines and come back. Some speak Bayeux or FDAjax,
//! and some servers have a history on disk, and crash.
//!
//! The oracle: at every moment a reader's table is what the truth was at its cursor; nothing superseded comes after
//! something newer of the same key; paces are kept; a patch applied to the base that it names gives the published value;
//! what has no key comes, or a gap is told; and after the last delivery everybody's table is the truth.
//!
//! `ENCKE_SIM_SEED=n` replays one seed, `ENCKE_SIM_SEEDS=n` runs that many.

mod items;
mod life;
mod lines;
mod pages;
mod publish;
mod reader;
mod sessions;
mod truth;

use super::budgets::frame;
use super::disk::Disk;
use super::trace::{Trace, note};
use super::world::World;
use crate::config::Config;
use crate::conn::ConnId;
use crate::id::{Random, Seed};
use crate::server::Server;
use crate::transport::{Streaming, Transport};
use items::{Answer, TECHNIQUES};
use reader::{Reader, View};
use serde_json::json;
use sessions::Session;
use std::fmt::Write;
use std::net::Ipv4Addr;
use truth::Truth;

const CHANNELS: [&str; 4] = ["q/a", "q/b", "r", FEED];
/// What windows of FDAjax listen to.
const FEED: &str = "fdajax/groups/feed";
const KEYS: [&str; 5] = ["A", "B", "ü/%,", "D", "E"];
const SELECTIONS: [&[&str]; 6] = [&["q/a"], &["q/a"], &["r"], &["q/a", "r"], &["q/*"], &["q/a", "q/b", "r"]];
const RATES: [(&str, u64); 4] = [("50", 20), ("9.9", 200), ("2", 500), ("0.5", 2000)];
/// A long time for whoever waits for a delivery, a TTL or a timer.
const REST_MS: u64 = 30_000;

struct Sim {
    random: Random,
    config: Config,
    server: Server,
    world: World,
    epoch: u64,
    truth: Truth,
    readers: Vec<Reader>,
    sessions: Vec<Session>,
    /// The history on disk, if there is one.
    disk: Option<Disk>,
    /// Messages of the hub's journal that have been looked at.
    seen: usize,
    numbers: u64,
    /// Values, patches, removals, gaps that readers were told; publications refused; crashes; values and gaps of sessions.
    counts: [u64; 8],
    trace: Trace,
}

fn config(random: &mut Random) -> Config {
    let mut pick = |values: &[u64]| values[random.below(values.len() as u64) as usize];
    let mut config = Config::default();
    config.history.messages = pick(&[1, 3, 100]) as usize;
    config.history.grace_seconds = pick(&[0, 0, 1, 10]);
    config.history.bytes = pick(&[600, 1 << 20, 1 << 20]) as usize;
    config.history.total_bytes = pick(&[6000, 1 << 20, 1 << 20]) as usize;
    config.history.seconds = pick(&[1, 10, 3600]);
    config.channel_idle_seconds = pick(&[1, 30]);
    config.turn.deliveries = pick(&[1, 2, 256]) as usize;
    config.limits.keys_per_channel = pick(&[2, 10_000, 10_000]) as usize;
    config.limits.keys = pick(&[3, 10_000, 10_000]) as usize;
    config.limits.tombstones = pick(&[1, 3, 100]) as usize;
    config.limits.stalled_seconds = pick(&[3, 60]);
    config.fdajax.enabled = true;
    // Windows do not end while a reader rests, and nothing is too old for them.
    (config.fdajax.mes_live_max, config.fdajax.win_timeout) = (10_000_000, 10_000_000);
    config
}

impl Sim {
    fn new(seed: u64, traced: bool) -> Self {
        let mut random = Random::new(seed);
        let config = config(&mut random);
        let mut world = World::default();
        world.advance(random.below(100_000));
        world.scarcity = random.one_in(3).then(|| Random::new(seed ^ 1));
        world.haste = random.one_in(2).then(|| Random::new(seed ^ 3));
        let server = Server::new(config.clone(), Seed::of_number(1), world.now);
        let trace = Trace::new(seed, traced, &config);
        let mut sim = Self {
            random,
            config,
            server,
            world,
            epoch: 1,
            truth: Truth::default(),
            readers: Vec::new(),
            sessions: Vec::new(),
            disk: None,
            seen: 0,
            numbers: 0,
            counts: [0; 8],
            trace,
        };
        if sim.random.one_in(3) {
            sim.disk = Some(Disk::new());
            sim.begin_life();
        }
        sim.sessions = sim.sessions();
        for _ in 0..3 + sim.random.below(4) {
            let reader = sim.reader();
            sim.readers.push(reader);
        }
        sim
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.random.below(all.len() as u64) as usize]
    }

    fn reader(&mut self) -> Reader {
        let technique = self.of(&TECHNIQUES);
        // Bare messages tell neither channel nor key.
        let selection = self.of(&SELECTIONS).to_vec();
        let mut reader = Reader::new(technique, selection);
        reader.latest = !self.random.one_in(5);
        reader.rate = (reader.latest && self.random.one_in(2)).then(|| self.of(&RATES));
        reader.batch = self.random.one_in(2);
        reader.delta = reader.latest && reader.has_patches() && !self.random.one_in(3);
        reader.slow = self.random.one_in(3);
        reader
    }

    fn run(&mut self) {
        for _ in 0..300 {
            match self.random.below(16) {
                0..7 => self.publish(),
                7 => self.publish_without_key(),
                8 => self.look(),
                9 if self.random.one_in(12) => self.delete(),
                10 => self.lose(),
                11 => self.command(),
                12 if self.disk.is_some() && self.random.one_in(8) => self.crash(),
                12 if self.disk.is_none() && self.random.one_in(60) => self.restart(),
                _ => {
                    let leap = self.of(&[5, 30, 300, 3000]);
                    let ms = self.random.below(leap);
                    self.pass(ms);
                }
            }
            self.turn();
            self.attend(false);
            for at in 0..self.readers.len() {
                if self.readers[at].conn.is_none() && self.random.one_in(3) {
                    self.connect(at);
                }
            }
            // Who is prompt has read what there is before the next thing happens.
            self.turn();
        }
        self.settle();
        self.leave();
        for reader in &self.readers {
            let counts = [reader.values, reader.patches, reader.removals, reader.gaps];
            self.counts.iter_mut().zip(counts).for_each(|(all, count)| *all += count);
        }
        for session in &self.sessions {
            self.counts[6] += session.values;
            self.counts[7] += session.gaps;
        }
        self.trace.finish();
    }

    /// Time passes, in steps as a reactor makes them: it never sleeps beyond a deadline.
    fn pass(&mut self, ms: u64) {
        let end = self.world.now.at + ms;
        loop {
            self.turn();
            let now = self.world.now.at;
            let next = self.server.next_deadline(self.world.now).min(end);
            if now >= end {
                return;
            }
            self.world.advance(next.as_millis().saturating_sub(now.as_millis()).max(1));
        }
    }

    /// Turns, until nothing is left to do at this moment.
    fn turn(&mut self) {
        for round in 0.. {
            assert!(round < 5000, "the server never rests");
            let now = self.world.now;
            for id in std::mem::take(&mut self.world.edges) {
                self.server.writable(now, id, &mut self.world);
            }
            self.server.tick(now, &mut self.world);
            self.server.deliver(now, &mut self.world);
            if self.carry_out() {
                self.observe();
                continue;
            }
            self.observe();
            self.server.check(now);
            self.hear_sessions();
            for at in 0..self.readers.len() {
                if !self.readers[at].slow {
                    self.read(at, usize::MAX);
                }
            }
            if self.server.next_deadline(now) > now.at && self.world.edges.is_empty() {
                break;
            }
        }
        for at in 0..self.readers.len() {
            if self.readers[at].slow && self.random.one_in(4) {
                let max = self.of(&[1, 50, 700, 1 << 30]);
                self.read(at, max);
            }
        }
    }

    /// Notes what was published, and that what nobody asked for are values that have expired.
    fn observe(&mut self) {
        let now = self.world.now.at;
        for message in &self.server.broker.hub.journal[self.seen..] {
            let key = message.key().expect("only values expire into messages");
            let before = self.truth.value_at(&message.channel, key, self.truth.newest());
            assert!(message.is_removal(), "nobody published {message:?}");
            assert!(self.truth.get(before.unwrap()).expires <= now, "{key} was removed too early");
            self.truth.note(message);
        }
        self.seen = self.server.broker.hub.journal.len();
    }

    fn view<'a>(truth: &'a Truth, epoch: u64, world: &World) -> View<'a> {
        View { truth, epoch, now: world.now.at }
    }

    fn read(&mut self, at: usize, max: usize) {
        let Some(id) = self.readers[at].conn else { return };
        let reader = &self.readers[at];
        let is_prompt = !reader.slow && !reader.unsteady && self.world.scarcity.is_none();
        let bytes = self.world.read(id, max);
        if !bytes.is_empty() {
            note!(self, "{at} reads {:?}", String::from_utf8_lossy(&bytes));
        }
        let view = Self::view(&self.truth, self.epoch, &self.world);
        let reader = &mut self.readers[at];
        if reader.streaming().is_some() {
            reader.take(&bytes, &view, is_prompt);
        } else {
            reader.inbox.extend(bytes);
            let answer = if reader.asked.is_some() { Answer::take(&mut reader.inbox) } else { None };
            if let Some(answer) = answer {
                reader.answered(&answer, &view, is_prompt);
            }
        }
        if self.world.at_end(id) {
            note!(self, "{at} sees the end");
            self.server.reset(self.world.now, id);
            self.readers[at].leave();
        } else if self.readers[at].polling().is_some()
            && self.readers[at].asked.is_none()
            && self.random.one_in(3)
        {
            self.poll(at);
        }
    }

    fn accept(&mut self) -> ConnId {
        let id = self.server.accept(self.world.now, Ipv4Addr::LOCALHOST.into(), false).unwrap();
        self.world.open(id, 1 << 30);
        id
    }

    fn connect(&mut self, at: usize) {
        let id = self.accept();
        if self.readers[at].slow {
            self.world.socket(id).capacity = self.of(&[60, 300, 4000]);
        }
        self.readers[at].conn = Some(id);
        let view = Self::view(&self.truth, self.epoch, &self.world);
        self.readers[at].begin(&view);
        match self.readers[at].polling() {
            Some(_) => self.poll(at),
            None => self.ask(at, ""),
        }
    }

    fn poll(&mut self, at: usize) {
        let timeout = self.of(&["&timeout=1", "&timeout=5", "&timeout=30"]);
        let max = self.of(&["", "&max=1", "&max=2"]);
        self.readers[at].asked = Some(self.world.now.at);
        if self.readers[at].place.is_none() {
            let view = Self::view(&self.truth, self.epoch, &self.world);
            self.readers[at].begin(&view);
        }
        self.ask(at, &format!("{timeout}{max}"));
    }

    fn ask(&mut self, at: usize, more: &str) {
        let reader = &self.readers[at];
        let mut text = format!("GET /sub/{}?as={}{more}", reader.selection.join(","), reader.name);
        if reader.name.is_empty() {
            text = text.replace("as=", "x=");
        }
        text.push_str(if reader.name == "jsonp" { "&callback=cb" } else { "" });
        if let Some((rate, _)) = reader.rate {
            let _ = write!(text, "&rate={rate}");
        } else if reader.latest {
            text.push_str("&latest");
        }
        text.push_str(if reader.delta { "&delta" } else { "" });
        match &reader.place {
            Some(place) => _ = write!(text, "&after={place}"),
            None if !reader.latest => text.push_str("&after=now"),
            None => {}
        }
        text.push_str(" HTTP/1.1\r\nHost: x\r\n");
        if reader.batch && reader.polling().is_some() {
            text.push_str("Accept: application/json\r\n");
        }
        if reader.name.is_empty() {
            text.push_str("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
            text.push_str("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
        }
        if reader.transport == Transport::Stream(Streaming::WebSocketRaw) {
            text.push_str("Sec-WebSocket-Protocol: encke.raw\r\n");
        }
        text.push_str("\r\n");
        note!(self, "{at} asks {text:?}");
        let id = self.readers[at].conn.unwrap();
        self.server.receive(self.world.now, id, text.as_bytes(), &mut self.world);
    }

    fn lose(&mut self) {
        let at = self.random.below(self.readers.len() as u64) as usize;
        let Some(id) = self.readers[at].conn else { return };
        note!(self, "{at} loses its line");
        self.server.reset(self.world.now, id);
        self.readers[at].leave();
        if self.random.one_in(20) {
            self.readers[at].place = None;
        }
    }

    /// What an open WebSocket may ask for later: channels that join and leave, another pace.
    fn command(&mut self) {
        let at = self.random.below(self.readers.len() as u64) as usize;
        let reader = &self.readers[at];
        let is_open = reader.stream.begun.is_some() && reader.conn.is_some() && !reader.stream.ended;
        // Whoever has not read what was sent before takes it for what comes after.
        let is_simple = !reader.selection.iter().any(|item| item.contains('*'))
            && !reader.slow
            && self.world.scarcity.is_none();
        if reader.streaming() != Some(Streaming::WebSocket)
            || !is_open
            || !is_simple
            || reader.joining
            || reader.place.is_none()
        {
            return;
        }
        let channel = self.of(&CHANNELS);
        let reader = &self.readers[at];
        let has_it = reader.selection.contains(&channel);
        let command = match (has_it, reader.latest) {
            (true, _) if reader.selection.len() > 1 && self.random.one_in(2) => {
                json!({"unsubscribe": [channel]})
            }
            (true, true) if self.readers[at].rate.is_some() => {
                let rate = self.of(&RATES);
                self.readers[at].set_rate(rate);
                json!({"subscribe": [channel], "rate": rate.0.parse::<f64>().unwrap()})
            }
            (true, _) => return,
            // What it asked for holds for this channel, too.
            (false, _) => json!({"subscribe": [channel]}),
        };
        note!(self, "{at} commands {command}");
        let id = self.readers[at].conn.unwrap();
        self.turn();
        self.read(at, usize::MAX);
        if self.readers[at].conn != Some(id) || self.world.socket(id).closed {
            return;
        }
        let view = Self::view(&self.truth, self.epoch, &self.world);
        if command["unsubscribe"].is_array() {
            self.readers[at].part(&view, channel);
        } else if !has_it {
            self.readers[at].join(&view, channel);
        }
        let bytes = frame(&command.to_string());
        self.server.receive(self.world.now, id, &bytes, &mut self.world);
    }

    /// One that reads at once sends a request, and has its answer.
    fn request(&mut self, text: &str) -> Answer {
        note!(self, "{text:?}");
        let id = self.accept();
        // It is served at once, and its answer is taken.
        let (haste, scarcity) = (self.world.haste.take(), self.world.scarcity.take());
        self.server.receive(self.world.now, id, text.as_bytes(), &mut self.world);
        self.carry_out();
        (self.world.haste, self.world.scarcity) = (haste, scarcity);
        let mut bytes = self.world.read(id, usize::MAX);
        let answer = Answer::take(&mut bytes).expect("an answer");
        self.server.reset(self.world.now, id);
        note!(self, "{} {}", answer.status, String::from_utf8_lossy(&answer.body));
        answer
    }
}

/// How it ends.
impl Sim {
    /// Everybody comes, reads everything and waits as long as it takes.
    fn settle(&mut self) {
        note!(self, "nothing more is published");
        let was_scarce = self.world.scarcity.take().is_some();
        for at in 0..self.readers.len() {
            let was_slow = std::mem::take(&mut self.readers[at].slow);
            self.readers[at].unsteady = was_slow || was_scarce;
            if let Some(id) = self.readers[at].conn {
                self.world.socket(id).capacity = 1 << 30;
                self.world.edges.push(id);
            }
        }
        for _ in 0..REST_MS / 500 {
            self.pass(500);
            self.attend(true);
            for at in 0..self.readers.len() {
                if self.readers[at].conn.is_none() {
                    self.connect(at);
                }
            }
        }
        let view = Self::view(&self.truth, self.epoch, &self.world);
        for reader in &mut self.readers {
            reader.complete(&view);
        }
        self.complete_sessions();
    }

    /// Everybody leaves, and channels with keys are deleted: nothing may be left.
    fn leave(&mut self) {
        self.dismiss();
        for at in 0..self.readers.len() {
            if let Some(id) = self.readers[at].conn {
                self.server.reset(self.world.now, id);
                self.readers[at].leave();
            }
        }
        for channel in CHANNELS {
            let _ = self.request(&format!("DELETE /pub/{channel} HTTP/1.1\r\nHost: x\r\n\r\n"));
        }
        for _ in 0..200 {
            let now = self.world.now;
            self.server.tick(now, &mut self.world);
            self.server.deliver(now, &mut self.world);
            self.carry_out();
            self.world.advance(60_000);
        }
        self.server.check_nothing_left(self.world.now);
        assert_eq!(self.server.broker.hub.gauges().keys, 0);
    }
}

#[test]
fn tables_are_the_truth() {
    let from_env = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    if let Some(seed) = from_env("ENCKE_SIM_SEED") {
        return Sim::new(seed, true).run();
    }
    let mut counts = [0; 8];
    let seeds = from_env("ENCKE_SIM_SEEDS").unwrap_or(60);
    for seed in 0..seeds {
        let mut sim = Sim::new(seed, false);
        sim.run();
        counts.iter_mut().zip(sim.counts).for_each(|(all, count)| *all += count);
        if seed % 1000 == 999 {
            eprintln!("{} of {seeds} seeds: {counts:?}", seed + 1);
        }
    }
    let least = [100, 2, 5, 1, 5, 0, 5, 0].map(|least| least * seeds);
    assert!(
        counts.iter().zip(least).all(|(count, least)| *count > least),
        "values, patches, removals, gaps, refusals, crashes, sessions' values and gaps: {counts:?}"
    );
}
