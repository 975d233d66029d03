//! Handshakes that are not done: which go on in this turn, which wait, which are late.
//!
//! A handshake costs as much as hundreds of deliveries, and who asks for it needs no more than a few bytes. So a turn goes
//! on with a few of them only, each address has so many a second, and a client that does not come to an end in time is
//! cut off. Who is over the rate is not refused but waits for the next second: behind one address may be a whole company
//! that reconnects.

use crate::broker::Rate;
use crate::config::Config;
use crate::conn::{ConnId, Slot};
use crate::id::Key;
use crate::server::Handshakes as Counts;
use crate::time::Instant;
use rustls::{Error, HandshakeKind};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// Somebody whose handshake is not done.
struct Opening {
    generation: u32,
    peer: IpAddr,
    /// It counts for its address, or need not.
    counted: bool,
}

/// All of them.
pub struct Handshakes {
    /// By the slot of their connection.
    openings: HashMap<Slot, Opening>,
    /// Those that have something to read, each once.
    ready: VecDeque<ConnId>,
    /// Those that are over the rate of their address, and when they go on.
    waiting: VecDeque<(Instant, ConnId)>,
    /// When each must be done. Those that are done stay until then.
    deadlines: VecDeque<(Instant, ConnId)>,
    /// Handshakes of each address.
    rate: Rate,
    per_second: u32,
    seconds: u64,
    per_turn: usize,
    /// How many the turn may still go on with.
    left: usize,
    counts: Counts,
}

impl Handshakes {
    /// None yet; the limits are those of `config`.
    pub fn new(config: &Config, key: Key) -> Self {
        Self {
            openings: HashMap::new(),
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            deadlines: VecDeque::new(),
            rate: Rate::new(key),
            per_second: config.limits.handshakes_per_second,
            seconds: config.limits.handshake_seconds,
            per_turn: config.turn.handshakes,
            left: config.turn.handshakes,
            counts: Counts::default(),
        }
    }

    /// Takes the limits of `config`.
    pub const fn reconfigure(&mut self, config: &Config) {
        self.per_second = config.limits.handshakes_per_second;
        self.seconds = config.limits.handshake_seconds;
        self.per_turn = config.turn.handshakes;
    }

    /// Notes a new connection. The rate does not hold for addresses that are `exempt`.
    pub fn begin(&mut self, now: Instant, id: ConnId, peer: IpAddr, exempt: bool) {
        self.openings.insert(id.slot, Opening { generation: id.generation, peer, counted: exempt });
        self.deadlines.push_back((now.plus_seconds(self.seconds), id));
    }

    /// Notes that there is something to read.
    pub fn note_ready(&mut self, id: ConnId) {
        self.ready.push_back(id);
    }

    /// Whether any can go on.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Begins a turn.
    pub fn begin_turn(&mut self) {
        self.left = self.per_turn;
    }

    /// The next that may go on in this turn.
    pub fn next(&mut self, now: Instant) -> Option<ConnId> {
        while self.left > 0 {
            let id = self.ready.pop_front()?;
            let Some(opening) = self.openings.get_mut(&id.slot) else { return Some(id) };
            if !opening.counted {
                if self.rate.so_far(now, opening.peer) >= self.per_second {
                    self.counts.delayed += 1;
                    self.waiting.push_back((now.plus_seconds(1), id));
                    continue;
                }
                self.rate.count(now, opening.peer);
            }
            opening.counted = true;
            self.left -= 1;
            return Some(id);
        }
        None
    }

    /// Lets those go on whose second has come.
    pub fn resume(&mut self, now: Instant) {
        while let Some((at, id)) = self.waiting.front().copied()
            && at <= now
        {
            self.waiting.pop_front();
            self.ready.push_back(id);
        }
    }

    /// The next connection that is late, if there is one.
    pub fn next_late(&mut self, now: Instant) -> Option<ConnId> {
        while let Some((at, id)) = self.deadlines.front().copied()
            && at <= now
        {
            self.deadlines.pop_front();
            let is_it = |opening: &Opening| opening.generation == id.generation;
            if self.openings.get(&id.slot).is_some_and(is_it)
                && let Some(opening) = self.openings.remove(&id.slot)
            {
                self.counts.failed += 1;
                log::debug!("{}: its TLS handshake was not done in time", opening.peer);
                return Some(id);
            }
        }
        None
    }

    /// When to look again.
    pub fn next_deadline(&self) -> Instant {
        let first = |queue: &VecDeque<(Instant, ConnId)>| queue.front().map_or(Instant::NEVER, |(at, _)| *at);
        first(&self.waiting).min(first(&self.deadlines))
    }

    /// Notes how a handshake went.
    pub fn done(&mut self, id: ConnId, kind: Option<HandshakeKind>, result: &Result<usize, Error>) {
        let Some(opening) = self.openings.remove(&id.slot) else { return };
        match result {
            Ok(_) => {
                self.counts.done += 1;
                self.counts.resumed += u64::from(kind == Some(HandshakeKind::Resumed));
            }
            Err(error) => {
                self.counts.failed += 1;
                log::debug!("{}: TLS handshake failed: {error}", opening.peer);
            }
        }
    }

    /// Forgets a connection that has gone.
    pub fn forget(&mut self, id: ConnId) {
        if self.openings.remove(&id.slot).is_some() {
            self.counts.failed += 1;
        }
        // Behind the last of them, nobody's deadline matters.
        if self.openings.is_empty() {
            self.deadlines.clear();
        }
    }

    /// What has happened since the last time.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }
}
