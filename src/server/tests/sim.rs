//! A seed decides what happens to the server; the oracle says whether that was right.
//!
//! `ENCKE_SIM_SEED=n` replays one seed and prints what happened; `ENCKE_SIM_SEEDS=n` runs that many, from
//! `ENCKE_SIM_FROM` on.

mod habits;
mod others;
mod requests;

use super::bayeux_client::{self, BayeuxClient, LINES, STREAM};
use super::client::{Client, Kind, View};
use super::handover::hand_over;
use super::oracle::Selection;
use super::sockets::{Seen, Talker};
use super::trace::{Trace, note};
use super::world::World;
use crate::broker::REMEMBERED_MS;
use crate::config::Config;
use crate::conn::ConnId;
use crate::hub::Message;
use crate::id::Seed;
use crate::id::{Epoch, Random, Seq};
use crate::server::{Effect, Server};
use crate::time::Instant;
use crate::transport::{Polling, Transport};
use habits::{Habits, config, habits};

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
            90 if self.habits.resets => self.cut(who, id),
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

    /// What a client writes arrives, in one piece or two.
    fn receive_in_pieces(&mut self, id: ConnId, bytes: &[u8]) {
        let cut = if self.random.one_in(4) { self.random.below(bytes.len() as u64) as usize } else { 0 };
        let (first, second) = bytes.split_at(cut);
        for piece in [first, second].into_iter().filter(|piece| !piece.is_empty()) {
            self.server.receive(self.world.now, id, piece, &mut self.world);
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

    /// The network cuts a connection.
    fn cut(&mut self, who: usize, id: ConnId) {
        note!(self, "{who} resets");
        self.world.socket(id).broken = true;
        // The reactor may find out by writing before it is told.
        if self.random.one_in(2) {
            self.server.reset(self.world.now, id);
        }
        self.forget(who);
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
                let is_cut = self.habits.cuts && slowly && self.random.one_in(6);
                if is_cut && self.clients[who].stream.is_some() {
                    self.cut(who, id);
                }
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
        let hub = &self.server.broker.hub;
        if !hub.has_ready() && !hub.has_bulk() {
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

fn view(server: &Server, epochs: u64, at: Instant) -> View<'_> {
    let hub = &server.broker.hub;
    View { journal: &hub.journal, epoch: Epoch::from_random(epochs), at, hub, suspected: hub.suspected() }
}

/// The number in a payload.
fn number(payload: &[u8]) -> usize {
    let text = std::str::from_utf8(payload).unwrap();
    let digits = text.trim_start_matches(|first: char| !first.is_ascii_digit());
    let end = digits.find(|behind: char| !behind.is_ascii_digit()).unwrap();
    digits[..end].parse().unwrap()
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
