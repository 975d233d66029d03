//! Protocols with sessions of their own: what they get from the server, and what they may ask of it.
//!
//! The native API needs no session: a cursor lives as long as its connection. A protocol whose sessions
//! outlive connections keeps them in its own folder, each with a subscriber in the hub, and answers held
//! connections through an outbox. The server calls it when
//!
//! - a request for it arrives ([`Dialects::request`]): the connection is then *held* until an [`Act`] ends it,
//! - a message arrives on a WebSocket that such a connection became ([`Dialects::message`]),
//! - one of its subscribers is ready ([`Dialects::ready`]),
//! - time has passed ([`Dialects::tick`]),
//! - a held connection has gone ([`Dialects::gone`]) or takes bytes again ([`Dialects::writable`]).
//!
//! A protocol is one field of [`Dialects`] and one variant of [`Protocol`].

use super::fdajax::Fdajax;
use crate::config::Config;
use crate::conn::{ConnId, Connection, Phase, Protocol, Request};
use crate::hub::{Hub, Owner};
use crate::time::{Instant, Now};
use crate::wire::response::Response;
use slab::Slab;
use std::net::IpAddr;

/// Marks the [`Owner`] of a session's subscriber; without it, an owner is the slot of a connection. The
/// protocols share out the numbers below it.
pub const SESSION_OWNER: u32 = 1 << 31;

/// What a protocol asks of the server for a connection that it holds.
#[derive(Debug)]
pub enum Act {
    /// Answer the request; the connection is free again.
    Answer(Response),
    /// Begin an endless answer with these header fields (complete lines); chunked for HTTP/1.1.
    Begin(Response),
    /// Make the connection a WebSocket with this answer (see [`upgrade::answer`](super::upgrade::answer)).
    Upgrade(Response),
    /// Write these bytes of an endless answer, as one chunk; or, on a WebSocket, this text as one message.
    Write(Vec<u8>),
    /// End an endless answer, or a WebSocket, in good order.
    End,
    /// Close the connection without a word.
    Close,
}

/// What a protocol works with while it is called.
#[derive(Debug)]
pub struct Context<'a> {
    /// The settings.
    pub config: &'a Config,
    /// Channels and subscribers.
    pub hub: &'a mut Hub,
    /// The clocks.
    pub now: Now,
    /// Acts for the server, carried out in this order when the call returns.
    pub outbox: &'a mut Vec<(ConnId, Act)>,
    /// All connections, to look at.
    pub connections: &'a Slab<Connection>,
}

impl Context<'_> {
    /// Asks something for a held connection.
    pub fn act(&mut self, connection: ConnId, act: Act) {
        self.outbox.push((connection, act));
    }

    /// Whether the client has not taken what was written to it before. Nothing more should be written then;
    /// [`Dialects::writable`] tells when it has.
    pub fn is_blocked(&self, id: ConnId) -> bool {
        self.connections.get(id.slot as usize).is_some_and(|connection| connection.output.is_some())
    }

    /// Whether a connection is still there and waits for its answer. One that has gone may not have been told
    /// of yet.
    pub fn is_held(&self, id: ConnId) -> bool {
        let connection = self.connections.get(id.slot as usize);
        connection.is_some_and(|connection| {
            connection.generation == id.generation && matches!(connection.phase, Phase::Held(_))
        })
    }

    /// Who is at the other end of a connection.
    pub fn peer(&self, id: ConnId) -> Option<IpAddr> {
        self.connections.get(id.slot as usize).map(|connection| connection.peer)
    }
}

/// The protocols with sessions that are switched on.
#[derive(Debug, Default)]
pub struct Dialects {
    fdajax: Option<Fdajax>,
}

impl Dialects {
    /// Those that `config` switches on.
    pub fn new(config: &Config, now: Now) -> Self {
        Self { fdajax: Fdajax::new(config, now) }
    }

    /// The protocol that serves `path`.
    pub fn claim(&self, path: &str) -> Option<Protocol> {
        let fdajax = self.fdajax.as_ref().filter(|fdajax| fdajax.claims(path));
        fdajax.map(|_| Protocol::Fdajax)
    }

    /// Takes a request; the connection is held.
    pub fn request(&mut self, protocol: Protocol, context: &mut Context, from: ConnId, request: &Request) {
        match (protocol, &mut self.fdajax) {
            (Protocol::Fdajax, Some(fdajax)) => fdajax.request(context, from, request),
            _ => context.act(from, Act::Close),
        }
    }

    /// Takes a text message from a connection that [`Act::Upgrade`] made a WebSocket.
    pub fn message(&mut self, _protocol: Protocol, _context: &mut Context, _from: ConnId, _text: &str) {}

    /// Takes note that a subscriber of a session is ready.
    pub fn ready(&mut self, context: &mut Context, owner: Owner) {
        if let Some(fdajax) = self.fdajax.as_mut().filter(|_| Fdajax::owns(owner)) {
            fdajax.ready(context, owner);
        }
    }

    /// Takes note that a held connection has gone.
    pub fn gone(&mut self, protocol: Protocol, context: &mut Context, connection: ConnId) {
        if let (Protocol::Fdajax, Some(fdajax)) = (protocol, &mut self.fdajax) {
            fdajax.gone(context, connection);
        }
    }

    /// Takes note that a held connection which was blocked takes bytes again.
    pub fn writable(&mut self, protocol: Protocol, context: &mut Context, connection: ConnId) {
        if let (Protocol::Fdajax, Some(fdajax)) = (protocol, &mut self.fdajax) {
            fdajax.writable(context, connection);
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, context: &mut Context) {
        if let Some(fdajax) = &mut self.fdajax {
            fdajax.tick(context);
        }
    }

    /// When [`Dialects::tick`] has something to do.
    pub fn next_deadline(&self) -> Instant {
        self.fdajax.as_ref().map_or(Instant::NEVER, Fdajax::next_deadline)
    }

    /// Answers every held connection, because the server leaves.
    pub fn drain(&mut self, context: &mut Context) {
        if let Some(fdajax) = &mut self.fdajax {
            fdajax.drain(context);
        }
    }
}
