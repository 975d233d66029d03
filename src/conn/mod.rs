//! One client's connection, HTTP/1.1 or the WebSocket it became: what it is doing, what has arrived of its next request, what it has
//! not taken yet of its answer.
//!
//! A connection that waits holds no buffer: bytes are read into one scratch buffer of the reactor, and only
//! an incomplete request or a half-written answer costs heap, which is given back when it is done.

mod input;
mod output;
mod socket;

pub use input::{Input, Request, whole_request};
pub use output::Output;
pub use socket::{Incoming, User};

use crate::carry::carry;
use crate::hub::{Pace, SubscriberKey};
use crate::table::table_key;
use crate::time::Instant;
use crate::transport::{Look, Polling};
use std::net::IpAddr;
use std::num::NonZeroU16;

table_key! {
    /// A connection in the server.
    Slot
}

/// Names a connection. The generation tells it from others that had its slot before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// Its place in the server.
    pub slot: Slot,
    /// Which of the connections that had this place.
    pub generation: u32,
}

carry! {
    struct ConnId { slot, generation }
}

/// The state of one client's connection.
#[derive(Debug)]
pub struct Connection {
    /// What it is doing.
    pub phase: Phase,
    /// The incomplete request, or requests that wait behind a parked one.
    pub input: Option<Box<Input>>,
    /// What its client has not taken yet.
    pub output: Option<Box<Output>>,
    /// When it began to do what it is doing.
    pub since: Instant,
    /// Who is at the other end.
    pub peer: IpAddr,
    /// Tells it from others that had its slot.
    pub generation: u32,
    /// How it came in.
    pub door: Door,
    /// The client has shut down its writing side: nothing more will arrive.
    pub half_closed: bool,
    /// Close it when its output is written.
    pub closing: bool,
}

carry! {
    struct Connection { phase, input, output, since, peer, generation, door, half_closed, closing }
}

/// How a connection came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// By the listener for clients.
    Clients,
    /// The same, from an address that limits do not hold for: that is asked of every request.
    Exempt,
    /// By the admin listener.
    Admin,
    /// It is one too many.
    Closed(Surplus),
}

carry! {
    enum Door { 0 => Clients, 1 => Admin, 2 => Closed(surplus: Surplus), 3 => Exempt }
}

impl Door {
    /// Why it is one too many, if it is.
    pub const fn surplus(self) -> Option<Surplus> {
        match self {
            Self::Closed(surplus) => Some(surplus),
            Self::Clients | Self::Exempt | Self::Admin => None,
        }
    }
}

/// Why a connection is one too many. Its first request is heard all the same: a health check is answered, and
/// everybody else is told when to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surplus {
    /// `limits.connections` is reached.
    Full,
    /// `limits.connections_per_address` is reached.
    Address,
    /// `limits.memory` is near.
    Memory,
}

carry! {
    enum Surplus { 0 => Full, 1 => Address, 2 => Memory }
}

/// Which of the origins in `cors.origins` a page is of, counted from 1; none = answers name no origin.
pub type OriginIndex = Option<NonZeroU16>;

/// What a connection is doing.
#[derive(Debug)]
pub enum Phase {
    /// Between two requests, or before the first.
    Idle,
    /// Its answer has been given, and what waited behind it is served when its turn comes.
    Due,
    /// A request has begun to arrive.
    Reading,
    /// Its answer waits until what it published is stored.
    Committing,
    /// Its request waits, unhandled, for the application's word.
    Asking,
    /// A poll waits for news.
    Parked(Poll),
    /// An endless answer has begun.
    Streaming(Stream),
    /// A protocol with sessions has its request and will answer it.
    Held(Hold),
    /// It is a WebSocket: messages go both ways.
    Socket(User),
    /// The last answer has been given; what still arrives is thrown away until the client closes, as
    /// closing at once could destroy that answer on its way (RFC 9112, section 9.6).
    Lingering,
    /// Nothing any more: the slot is given back at the end of the turn.
    Closed,
}

carry! {
    enum Phase { 0 => Idle, 1 => Due, 2 => Reading, 3 => Committing, 4 => Parked(poll: Poll), 5 => Streaming(stream: Stream), 6 => Held(hold: Hold), 7 => Socket(user: User), 8 => Lingering, 9 => Closed, 10 => Asking }
}

/// What must be remembered of a poll that waits.
#[derive(Debug, Clone, Copy)]
pub struct Poll {
    /// Its cursor in the hub.
    pub subscriber: SubscriberKey,
    /// Seconds it waits.
    pub timeout_seconds: u16,
    /// Most messages in its batch; none = it gets one message verbatim.
    pub batch: Option<NonZeroU16>,
    /// The origin whose page asks, if answers must name it.
    pub origin: OriginIndex,
    /// Whether it waits, and what its answer is.
    pub polling: Polling,
    /// It is answered no earlier than the period of this pace after it came.
    pub pace: Pace,
    /// The connection ends with this answer.
    pub close: bool,
}

carry! {
    struct Poll { subscriber, timeout_seconds, batch, origin, polling, pace, close }
}

impl Poll {
    /// Most messages in its answer.
    pub fn max(&self) -> usize {
        self.batch.map_or(1, |max| max.get().into())
    }
}

/// What must be remembered of an endless answer.
#[derive(Debug)]
pub struct Stream {
    /// Its cursor in the hub.
    pub subscriber: SubscriberKey,
    /// How its bytes look.
    pub look: Look,
    /// Signs of life are messages, which scripts see.
    pub loud: bool,
}

carry! {
    struct Stream { subscriber, look, loud }
}

/// A protocol whose sessions outlive connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Bayeux 1.0.
    Bayeux,
    /// FDAjax.
    Fdajax,
}

carry! {
    enum Protocol { 0 => Bayeux, 1 => Fdajax }
}

/// What must be remembered of a request that a protocol with sessions holds.
#[derive(Debug)]
pub struct Hold {
    /// Which protocol.
    pub protocol: Protocol,
    /// The request was a HEAD.
    pub head_only: bool,
    /// The connection ends with this answer.
    pub close: bool,
    /// HTTP/1.1: streams are chunked.
    pub chunked: bool,
    /// An endless answer has begun.
    pub begun: bool,
    /// The origin whose page asks, if answers must name it.
    pub origin: OriginIndex,
}

carry! {
    struct Hold { protocol, head_only, close, chunked, begun, origin }
}

impl Hold {
    /// Whether a client that will send nothing more still gets its answer: a poll of Bayeux. A window of FDAjax
    /// closes with its connection.
    pub const fn outlasts_half_close(&self) -> bool {
        matches!(self.protocol, Protocol::Bayeux) && !self.begun
    }
}

impl Connection {
    /// A connection that has just been accepted.
    pub const fn new(generation: u32, peer: IpAddr, door: Door, now: Instant) -> Self {
        Self {
            phase: Phase::Idle,
            input: None,
            output: None,
            since: now,
            peer,
            generation,
            door,
            half_closed: false,
            closing: false,
        }
    }

    /// Moves on to `phase`.
    pub fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.since = now;
    }

    /// Whether its client sends nothing more, and nothing waits of what it sent.
    pub const fn is_done(&self) -> bool {
        self.half_closed && self.input.is_none()
    }

    /// The subscriber it listens as.
    pub fn subscriber(&self) -> Option<SubscriberKey> {
        match &self.phase {
            Phase::Parked(poll) => Some(poll.subscriber),
            Phase::Streaming(stream) => Some(stream.subscriber),
            Phase::Socket(user) => match *user {
                User::Subscriber { subscriber, .. } => Some(subscriber),
                User::Session(_) => None,
            },
            _ => None,
        }
    }

    /// The protocol with sessions that has it.
    pub fn holder(&self) -> Option<Protocol> {
        match &self.phase {
            Phase::Held(hold) => Some(hold.protocol),
            Phase::Socket(user) => match *user {
                User::Session(protocol) => Some(protocol),
                User::Subscriber { .. } => None,
            },
            _ => None,
        }
    }

    /// How the bytes of an endless answer, or of a WebSocket, look.
    pub fn look(&self) -> Option<Look> {
        match &self.phase {
            Phase::Streaming(stream) => Some(stream.look),
            Phase::Socket(user) => match *user {
                User::Subscriber { stream, .. } => Some(Look::of_socket(stream)),
                User::Session(_) => None,
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_takes_a_cache_line() {
        assert!(size_of::<Connection>() <= 64, "{}", size_of::<Connection>());
    }
}
