//! Simulated sockets and the clock.

use crate::conn::{ConnId, Slot};
use crate::id::Random;
use crate::server::{Effect, Sink, Write, Wrote};
use crate::time::{Instant, Now};
use std::collections::HashMap;
use std::io::IoSlice;

/// Microseconds that a part of a turn may take.
const PART_US: u32 = 1250;

/// The server's end of a simulated connection, with the kernel's buffer between it and the client.
#[derive(Debug)]
pub struct Socket {
    /// Bytes the buffer holds.
    pub capacity: usize,
    buffer: Vec<u8>,
    /// How many bytes may wait in it unsent, if the server has said so.
    pub unsent: Option<u32>,
    /// A write was cut short: the next room is an edge.
    short: bool,
    /// When that first happened.
    pub first_short: Option<Instant>,
    /// Every further write fails.
    pub broken: bool,
    /// The client has closed altogether: what is written next is answered by a reset.
    pub deaf: bool,
    /// The server has shut down its writing side, or closed.
    pub ended: bool,
    /// The server has closed.
    pub closed: bool,
    /// When a write last took anything.
    pub progress: Instant,
    /// Calls of `write`.
    pub writes: usize,
    /// Slices of the last call.
    pub slices: usize,
}

/// Everything around the server.
#[derive(Debug, Default)]
pub struct World {
    pub now: Now,
    sockets: HashMap<ConnId, Socket>,
    /// Who had a slot last.
    slots: HashMap<Slot, ConnId>,
    /// Connections whose sockets have to be reported as writable.
    pub edges: Vec<ConnId>,
    /// Decides which writes are cut short, and which find no memory in the kernel.
    pub scarcity: Option<Random>,
    /// Decides which writes find their connection broken.
    pub breakage: Option<Random>,
    /// Decides when it is somebody else's turn.
    pub haste: Option<Random>,
    /// Bytes that a write takes to the kernel in a microsecond; 0 = in no time.
    pub pace: usize,
    /// Microseconds that have passed whenever somebody asks how long something took.
    pub hurry: u32,
    /// Microseconds that writes have taken since somebody asked, and in this part of the turn.
    spent: u32,
    part: u32,
    /// Seconds that somebody has set the wall clock ahead, or back.
    pub skew: i64,
}

impl World {
    pub fn open(&mut self, id: ConnId, capacity: usize) {
        let socket = Socket {
            capacity,
            buffer: Vec::new(),
            unsent: None,
            short: false,
            first_short: None,
            broken: false,
            deaf: false,
            ended: false,
            closed: false,
            progress: self.now.at,
            writes: 0,
            slices: 0,
        };
        assert!(self.sockets.insert(id, socket).is_none(), "{id:?} was given out twice");
        self.slots.insert(id.slot, id);
    }

    /// Carries out one of the things that a server wants done at the end of its turn, which is for neither a log nor an
    /// application.
    pub fn carry(&mut self, effect: &Effect) {
        match *effect {
            Effect::Pause(_) | Effect::Resume(_) => {}
            Effect::Unsent((id, bytes)) => self.socket(id).unsent = Some(bytes),
            Effect::Append(_) | Effect::Ask(_) => unreachable!(),
            Effect::HalfClose(id) => self.socket(id).ended = true,
            Effect::Close(id) => self.socket(id).closed = true,
        }
    }

    /// Who has the slot.
    pub fn at(&self, slot: Slot) -> ConnId {
        self.slots[&slot]
    }

    pub fn socket(&mut self, id: ConnId) -> &mut Socket {
        self.sockets.get_mut(&id).expect("a socket that was opened")
    }

    /// The client reads at most `max` bytes. Room after a short write is an edge.
    pub fn read(&mut self, id: ConnId, max: usize) -> Vec<u8> {
        let socket = self.socket(id);
        let count = max.min(socket.buffer.len());
        let bytes = socket.buffer.drain(..count).collect();
        if socket.short && socket.buffer.len() < socket.capacity {
            socket.short = false;
            self.edges.push(id);
        }
        bytes
    }

    /// Whether the client sees the end of the stream.
    pub fn at_end(&mut self, id: ConnId) -> bool {
        self.has_ended(id) && self.socket(id).buffer.is_empty()
    }

    /// Whether nothing is added to what the client has yet to read.
    pub fn has_ended(&mut self, id: ConnId) -> bool {
        let socket = self.socket(id);
        socket.ended || socket.closed
    }

    /// All connections are gone, the time goes on.
    pub fn clear(&mut self) {
        self.sockets.clear();
        self.edges.clear();
    }

    pub fn advance(&mut self, ms: u64) {
        self.now.at = self.now.at + ms;
        let unix = 1_700_000_000 + self.now.at.as_millis() / 1000;
        self.now.unix = unix.saturating_add_signed(self.skew);
    }

    /// How much of `room` bytes the kernel finds memory for at the moment.
    fn ration(&mut self, room: usize) -> usize {
        let Some(random) = &mut self.scarcity else { return room };
        match random.below(16) {
            0..2 => 0,
            2..9 => random.below(room as u64 + 1) as usize,
            _ => room,
        }
    }
}

impl Sink for World {
    fn write(&mut self, id: ConnId, slices: &[IoSlice<'_>]) -> Wrote {
        let at = self.now.at;
        let breaks = self.breakage.as_mut().is_some_and(|random| random.one_in(50));
        let ration = self.ration(slices.iter().map(|slice| slice.len()).sum());
        let socket = self.socket(id);
        socket.broken |= breaks;
        assert!(!socket.ended && !socket.closed, "{id:?}: a write after the end");
        socket.writes += 1;
        socket.slices = slices.len();
        if socket.broken {
            return Wrote::Broken;
        }
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(offered > 0, "{id:?}: a write of nothing");
        if socket.deaf {
            socket.broken = true;
            return Wrote::Bytes(offered);
        }
        let room = offered.min(socket.capacity.saturating_sub(socket.buffer.len()));
        let taken = room.min(ration);
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied());
        socket.buffer.extend(bytes.take(taken));
        socket.short |= room < offered;
        if taken < offered {
            socket.first_short.get_or_insert(at);
        }
        if taken > 0 {
            socket.progress = at;
        }
        let took = taken.checked_div(self.pace).unwrap_or(0) as u32;
        (self.spent, self.part) = (self.spent + took, self.part + took);
        if taken < room {
            self.edges.push(id);
        }
        Wrote::Bytes(taken)
    }

    fn is_over(&mut self, done: usize) -> bool {
        done > 0 && self.is_late()
    }

    fn is_late(&mut self) -> bool {
        self.part > PART_US || self.haste.as_mut().is_some_and(|random| random.one_in(6))
    }

    fn begin_part(&mut self) {
        self.part = 0;
    }

    fn spent(&mut self) -> u32 {
        std::mem::take(&mut self.spent) + self.hurry
    }

    fn write_each(&mut self, writes: &mut [Write<'_>]) {
        for write in writes {
            write.wrote = self.write(self.at(write.slot), &[IoSlice::new(write.bytes)]);
        }
    }
}
