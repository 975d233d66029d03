//! The sans-IO whole: every connection, the hub and the timers. No socket, no clock, no thread.
//!
//! Inputs: [`accept`](Server::accept), [`receive`](Server::receive), [`hang_up`](Server::hang_up),
//! [`reset`](Server::reset), [`writable`](Server::writable), [`publish`](Server::publish),
//! [`tick`](Server::tick), [`drain`](Server::drain). Outputs: bytes, written through the [`Sink`] that each
//! input is given, and [`poll_effect`](Server::poll_effect), to be drained at the end of the turn.
//! A turn is: inputs, then `tick`, then [`deliver`](Server::deliver), then effects.

mod access_log;
mod addresses;
mod admin;
mod aside;
mod asking;
mod beginning;
#[cfg(any(test, feature = "check"))]
mod check;
mod closings;
mod deliver;
mod drain;
mod ending;
mod execute;
pub mod handover;
mod held;
mod latest;
pub mod limits;
mod listen;
mod memory;
mod mercure;
mod pending;
mod plain;
mod presence;
mod queues;
mod readers;
mod report;
mod request;
mod revoking;
mod rights;
mod sink;
mod socket;
mod surplus;
mod telemetry;
#[cfg(test)]
mod tests;
mod timing;
mod turns;
mod watch;
mod writing;

use crate::broker::{self, Broker};
use crate::carry::carry;
use crate::config::Config;
use crate::conn::{ConnId, Connection, Input, Phase, Slot};
use crate::dialect::hook::Ask;
use crate::dialect::native::Targets;
use crate::dialect::{Access, Dialects};
use crate::hub::{Hub, Publication, ROOM};
use crate::id::Seed;
use crate::log::Proposal;
use crate::stats::Stats;
use crate::table::Table;
use crate::time::{Now, Wheel};
use crate::transport::Format;
use crate::wire::response::Response;
use addresses::Addresses;
use aside::Aside;
use ending::Seen;
use memory::Memory;
use queues::Queues;
use sink::write_slices;
pub use sink::{Line, Sink, Write, Wrote};
use std::io::IoSlice;
pub use telemetry::Process;
use telemetry::Telemetry;
use writing::{Body, Writer};

/// Bytes that may wait behind a parked poll or an answer that is not taken: as much as one read brings.
pub const PIPELINE_BYTES_MAX: usize = 64 << 10;
/// The same while memory is scarce: a request or two.
const PIPELINE_BYTES_SCARCE: usize = 4 << 10;
/// No further request is served while so much of earlier answers has not been taken.
const BACKLOG_BYTES_MAX: usize = 256 << 10;

/// How requests begin that are answered while the history is being loaded.
const HEALTH: [&[u8]; 2] = [b"GET /healthz ", b"HEAD /healthz "];

/// Deliveries that are planned and written together.
pub const WRITES: usize = 32;

/// Memory of fewer connections than this is kept for the next ones.
const CROWD: usize = 1024;

/// What is noted with the subscriber of a connection: the number of its stream's format, 0 if it is blocked or no stream.
fn note_of(connection: &Connection) -> u8 {
    let look = connection.look().filter(|_| connection.output.is_none());
    look.map_or(0, |look| Format::Stream(look).number())
}

/// TLS handshakes, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// Those that ended well.
    pub done: u64,
    /// Those of them that resumed an earlier session.
    pub resumed: u64,
    /// Those that failed or took too long.
    pub failed: u64,
    /// Those that had to wait for the next second of their address.
    pub delayed: u64,
}

/// What the server asks of the outside at the end of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Shut down the writing side: the last answer has been given.
    HalfClose(ConnId),
    /// Close the connection; its id is invalid from now on.
    Close(ConnId),
    /// Read no more of the connection for now: what has arrived has to wait for its turn.
    Pause(ConnId),
    /// Go on reading it.
    Resume(ConnId),
    /// Have its socket take no more once so many bytes have not been sent: what waits in it gets old.
    Unsent((ConnId, u32)),
    /// Ask the application this; what it says comes back by [`Server::hear_answer`].
    Ask(Box<Ask>),
    /// Give this to the log; it comes back by [`Server::apply`] or [`Server::refuse_proposals`].
    Append(Box<Proposal>),
}

carry! {
    enum Effect { 0 => HalfClose(id: ConnId), 1 => Close(id: ConnId), 2 => Pause(id: ConnId), 3 => Resume(id: ConnId), 4 => Append(proposal: Box<Proposal>), 5 => Ask(ask: Box<Ask>), 6 => Unsent(bound: (ConnId, u32)) }
}

/// The server.
#[derive(Debug)]
pub struct Server {
    config: Config,
    /// What all that it draws comes from.
    seed: Seed,
    connections: Table<Slot, Connection>,
    /// How many connections there have been.
    generations: u32,
    addresses: Addresses,
    memory: Memory,
    /// Who is behind with reading.
    readers: readers::Readers,
    broker: Broker,
    /// One timer a connection.
    wheel: Wheel<Slot>,
    /// Answers that wait for the log.
    pending: pending::Pending,
    dialects: Dialects,
    /// Streams of Mercure, where it is served.
    mercure: Option<Box<mercure::Mercure>>,
    /// What is judged by.
    access: Access,
    /// By what right each connection listens.
    rights: rights::Rights,
    /// What is to be done in this turn or in one of the next.
    queues: Queues,
    /// What is known of few connections.
    aside: Aside,
    /// What answers are written with.
    writer: Writer,
    telemetry: Telemetry,
    drain: drain::Drain,
}

impl Server {
    /// A server without connections. All it draws by chance comes from `seed`.
    pub fn new(mut config: Config, seed: Seed, now: Now) -> Self {
        Self::widen(&mut config);
        let memory = Memory::new(config.limits.memory, now.at);
        config.history.total_bytes = memory.room_for_history(config.history.total_bytes);
        let access = Access::new(&config, seed);
        let mercure = access.mercure.has_keys().then(|| Box::new(mercure::Mercure::new(seed)));
        let mut server = Self {
            broker: Broker::new(&config, seed, now.at),
            wheel: Wheel::with_room(now.at, ROOM),
            pending: pending::Pending::default(),
            dialects: Dialects::new(&config, seed, now),
            mercure,
            writer: Writer::new(&config, access.is_on()),
            access,
            rights: rights::Rights::default(),
            connections: Table::with_capacity(ROOM),
            generations: 0,
            addresses: Addresses::default(),
            memory,
            readers: readers::Readers::new(),
            queues: Queues::new(seed),
            aside: Aside::default(),
            telemetry: Telemetry::new(&config, now),
            drain: drain::Drain::default(),
            seed,
            config,
        };
        if server.mercure.is_some() {
            server.serve_mercure();
        }
        server
    }

    /// FDAjax's messages travel in heads.
    fn widen(config: &mut Config) {
        if config.fdajax.enabled {
            config.limits.head_bytes = config.limits.head_bytes.max(config.limits.fdajax_head_bytes);
            config.limits.target_bytes = config.limits.target_bytes.max(config.limits.fdajax_head_bytes);
        }
    }

    /// Takes other settings, of which only those have changed that may; see [`crate::config::reload`].
    pub fn reconfigure(&mut self, mut config: Config) {
        Self::widen(&mut config);
        self.broker.reconfigure(&config);
        self.access.reconfigure(&config);
        self.writer.cors.renew(&config.cors, self.access.is_on());
        match self.access.is_on() {
            true => self.rights.judge_all(self.config.publish.token != config.publish.token),
            // Nobody notes any more who leaves.
            false => self.rights.forget(),
        }
        self.dialects.targets = Targets::default();
        if self.telemetry.access_log.is_some() != config.log.access {
            self.telemetry.access_log = config.log.access.then(Box::default);
        }
        // Who is counted may have changed.
        self.config = config;
        self.count_addresses();
        if self.mercure.is_some() {
            self.serve_mercure();
        }
    }

    /// The settings.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// What has been counted.
    pub fn stats(&self) -> Stats {
        self.broker.stats()
    }

    /// Adds what happened before connections could be heard.
    pub fn note_handshakes(&mut self, handshakes: Handshakes) {
        let stats = &mut self.broker.stats;
        stats.tls_handshakes += handshakes.done;
        stats.tls_resumed += handshakes.resumed;
        stats.tls_failed += handshakes.failed;
        stats.tls_delayed += handshakes.delayed;
    }

    /// Connections open.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// The hub, to look at.
    pub const fn hub(&self) -> &Hub {
        &self.broker.hub
    }

    /// Takes bytes that arrived.
    pub fn receive(&mut self, now: Now, id: ConnId, bytes: &[u8], sink: &mut impl Sink) {
        let Some(slot) = self.find(id) else { return };
        let is_loading = self.broker.is_loading();
        let connection = &self.connections[slot];
        match connection.phase {
            _ if connection.closing => {}
            Phase::Idle | Phase::Reading | Phase::Due if is_loading => {
                self.receive_early(now, slot, bytes, sink);
            }
            Phase::Idle | Phase::Reading if connection.output.is_none() => {
                match self.must_wait(now, slot, bytes, sink) {
                    false => self.serve(now, slot, bytes, sink),
                    true => self.defer(now, slot, bytes),
                }
            }
            Phase::Due => self.connections[slot].input.get_or_insert_default().push(bytes),
            Phase::Idle
            | Phase::Reading
            | Phase::Committing
            | Phase::Asking
            | Phase::Parked(_)
            | Phase::Held(_) => {
                self.wait_behind(now, slot, bytes, sink);
            }
            Phase::Socket(_) if self.rights.has_command(slot) => self.wait_behind_command(slot, bytes),
            Phase::Socket(_) => match connection.input.is_some() || self.must_wait(now, slot, bytes, sink) {
                false => self.receive_frames(now, slot, bytes, sink),
                true => self.defer(now, slot, bytes),
            },
            // After an endless answer nothing is answered any more.
            Phase::Streaming(_) | Phase::Lingering | Phase::Closed => {}
        }
    }

    /// Takes bytes that arrive while the history is being loaded: they wait, but for health checks.
    #[cold]
    fn receive_early(&mut self, now: Now, slot: Slot, bytes: &[u8], sink: &mut impl Sink) {
        let connection = &self.connections[slot];
        let begun = connection.input.as_deref().map_or(Some(&[][..]), Input::head_so_far);
        let is_health = begun.is_some_and(|begun| {
            let is_line =
                |line: &&[u8]| begun.iter().chain(bytes).zip(*line).all(|(byte, wanted)| byte == wanted);
            HEALTH.iter().any(is_line)
        });
        match is_health && !matches!(connection.phase, Phase::Due) {
            true => self.serve(now, slot, bytes, sink),
            false => self.defer(now, slot, bytes),
        }
    }

    /// Keeps bytes for when the answer at hand has been given.
    fn wait_behind(&mut self, now: Now, slot: Slot, bytes: &[u8], sink: &mut impl Sink) {
        let connection = &mut self.connections[slot];
        let input = connection.input.get_or_insert_default();
        let room = if self.memory.is_scarce() { PIPELINE_BYTES_SCARCE } else { PIPELINE_BYTES_MAX };
        if input.waiting_len() + bytes.len() <= room {
            self.memory.gathered += bytes.len();
            return input.push(bytes);
        }
        let detail = "too much is pipelined behind a request that is not answered yet";
        // It answers that request, not the one that waits first.
        connection.input = None;
        self.refuse_to(now, slot, Seen::Nothing, &Response::problem(431, detail, false));
        self.send(now.at, slot, sink);
    }

    /// Keeps what comes behind a command that waits for the application's word. What is too much stays in the socket.
    #[cold]
    fn wait_behind_command(&mut self, slot: Slot, bytes: &[u8]) {
        let id = self.id(slot);
        let input = self.connections[slot].input.get_or_insert_default();
        input.push(bytes);
        if input.waiting_len() > PIPELINE_BYTES_SCARCE {
            self.queues.effects.push_back(Effect::Pause(id));
        }
        self.memory.gathered += bytes.len();
    }

    /// Notes that the client will send nothing more. A poll still gets its answer; a stream is probed, as a
    /// client that has gone altogether looks the same until something is written to it.
    #[inline(never)]
    pub fn hang_up(&mut self, now: Now, id: ConnId, sink: &mut impl Sink) {
        let Some(slot) = self.find(id) else { return };
        let connection = &mut self.connections[slot];
        connection.half_closed = true;
        match connection.phase {
            Phase::Parked(_) => self.note_hung_up(slot),
            Phase::Committing | Phase::Due => {}
            // Who leaves meanwhile looks so, and nobody is asked for who left.
            Phase::Asking => self.close(now.at, slot),
            Phase::Socket(_) if connection.input.is_some() => {}
            Phase::Held(ref hold) if hold.outlasts_half_close() => {}
            Phase::Streaming(ref stream) if stream.look.stream.has_heartbeat() => {
                self.probe(now.at, slot, sink);
            }
            // A stream without a sign of life cannot be probed: it ends with its client's side.
            Phase::Streaming(_) => self.end_stream(now.at, slot, sink),
            // What has been answered still reaches it, and what it asked behind that is answered, too.
            Phase::Idle | Phase::Reading if connection.output.is_some() => {}
            Phase::Lingering if connection.output.is_some() => connection.closing = true,
            _ => self.close(now.at, slot),
        }
    }

    /// Notes that the connection is broken.
    #[inline(never)]
    pub fn reset(&mut self, now: Now, id: ConnId) {
        let Some(slot) = self.find(id) else { return };
        match self.connections[slot].subscriber() {
            Some(key) if self.broker.hub.is_large(key) => self.queues.departed.push_back(id),
            _ => self.close(now.at, slot),
        }
    }

    /// Notes that the socket takes bytes again.
    #[inline(never)]
    pub fn writable(&mut self, now: Now, id: ConnId, sink: &mut impl Sink) {
        let Some(slot) = self.find(id) else { return };
        let connection = &mut self.connections[slot];
        let Some(output) = &mut connection.output else { return };
        let mut all_taken = 0;
        while let Some(bytes) = output.next() {
            let offered = bytes.len();
            let Wrote::Bytes(taken) = sink.write(id, &[IoSlice::new(bytes)]) else {
                return self.close(now.at, slot);
            };
            output.took(taken, now.at);
            all_taken += taken;
            if taken < offered {
                return self.note_taken(now.at, slot, all_taken);
            }
        }
        connection.output = None;
        self.note_taken(now.at, slot, all_taken);
        let connection = &mut self.connections[slot];
        if matches!(connection.phase, Phase::Idle | Phase::Reading | Phase::Lingering) {
            connection.since = now.at;
            self.arm(slot, now.at);
        }
        self.unblocked(now, slot, sink);
    }

    /// Goes on with a connection whose client has taken everything.
    fn unblocked(&mut self, now: Now, slot: Slot, sink: &mut impl Sink) {
        let connection = &self.connections[slot];
        if connection.closing {
            return self.finish(now.at, slot);
        }
        if let Some(protocol) = connection.holder() {
            return self.held_writable(now, slot, protocol, sink);
        }
        // What came meanwhile for a subscriber found it blocked.
        if let Some(subscriber) = connection.subscriber() {
            self.note_format(slot);
            return self.broker.hub.mark(subscriber);
        }
        self.serve_later(now.at, slot, false);
    }

    /// Publishes a message of the process itself; before the history is loaded, nothing.
    pub fn publish(
        &mut self,
        now: Now,
        channel: &str,
        publication: Publication,
    ) -> Result<(), broker::Refusal> {
        if self.broker.is_loading() {
            return Ok(());
        }
        let published = self.broker.publish_own(now.at, channel, publication).map(|_| ());
        self.propose(now.at);
        published
    }

    /// The next effect; drain them at the end of each turn.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        let Some(effect) = self.queues.effects.pop_front() else {
            return self.access.hook.next_ask().map(|ask| Effect::Ask(Box::new(ask)));
        };
        if let Effect::Close(id) = effect {
            self.forget(id);
        }
        Some(effect)
    }

    /// The slot of a connection that still exists.
    fn find(&self, id: ConnId) -> Option<Slot> {
        let connection = self.connections.get(id.slot)?;
        let is_it = connection.generation == id.generation && !matches!(connection.phase, Phase::Closed);
        is_it.then_some(id.slot)
    }

    fn id(&self, slot: Slot) -> ConnId {
        ConnId { slot, generation: self.connections[slot].generation }
    }

    /// Keeps the rest of an incomplete request, or what waits behind the answer at hand.
    fn keep(&mut self, slot: Slot, input: Option<Box<Input>>) {
        self.connections[slot].input = input.filter(|input| !input.is_empty());
    }
}
