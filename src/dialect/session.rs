//! Protocols with sessions of their own: what they get from the server, and what they may ask of it.
//!
//! The native API needs no session: a cursor lives as long as its connection. A protocol whose sessions
//! outlive connections keeps them in its own folder, each with a subscriber in the hub, and answers held
//! connections through an outbox. The server calls it when
//!
//! - a request for it arrives ([`Dialects::request`]): the connection is then *held* until an [`Act`] ends it,
//! - a message arrives on a WebSocket that such a connection became ([`Dialects::message`]),
//! - one of its subscribers is ready ([`Dialects::ready`]), or had to be detached ([`Dialects::detached`]),
//! - time has passed ([`Dialects::tick`]),
//! - a held connection has gone ([`Dialects::gone`]) or takes bytes again ([`Dialects::writable`]).
//!
//! A protocol is one field of [`Dialects`] and one variant of [`Protocol`].

use super::bayeux::{self, Bayeux};
use super::fdajax::Fdajax;
use super::holder::Holder;
use super::identity::{Heard, may_ask};
use crate::broker::access::{Asker, Question, Revocation};
use crate::broker::{Broker, Client};
use crate::carry::{carry, resume};
use crate::config::Config;
use crate::conn::{ConnId, Connection, Protocol, Request, Slot};
use crate::dialect::{Access, Denial, Identity, Unheard};
use crate::id::Seed;
use crate::table::Table;
use crate::time::{Instant, Now};
use crate::wire::head::Head;
use crate::wire::response::Response;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

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
    /// Have the request, or the message, wait for the application's word, and then come again. Nothing of it has been
    /// done.
    Wait,
    /// Close the connection without a word.
    Close,
}

carry! {
    enum Act { 0 => Answer(response: Response), 1 => Begin(response: Response), 2 => Upgrade(response: Response), 3 => Write(bytes: Vec<u8>), 4 => End, 5 => Close, 6 => Wait }
}

/// What a protocol works with while it is called.
#[derive(Debug)]
pub struct Context<'a> {
    /// The settings.
    pub config: &'a Config,
    /// The door to channels and subscribers.
    pub broker: &'a mut Broker,
    /// Who may do what.
    pub access: &'a mut Access,
    /// Whose budget pays for what is asked.
    pub client: Client,
    /// The clocks.
    pub now: Now,
    /// Acts for the server, carried out in this order when the call returns.
    pub outbox: &'a mut Vec<(ConnId, Act)>,
    /// All connections, to look at.
    pub connections: &'a Table<Slot, Connection>,
    /// Bytes of messages that there is room for in one answer; less while memory is scarce, or while the WebSocket at
    /// hand has answers to be taken. The rest waits for the next answer.
    pub room: usize,
}

impl Context<'_> {
    /// Who sent `head` on a connection.
    pub fn identify(&mut self, from: ConnId, head: &Head) -> Result<Identity, Denial> {
        let peer = self.peer(from).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        self.access.identify(head, peer, self.config, self.now, &mut self.broker.stats)
    }

    /// What the application says to `unheard`, asked for by `asker` on a connection, of whose request or message `bytes`
    /// wait if it has to be asked.
    pub fn hear(&mut self, from: ConnId, asker: &Rc<Asker>, unheard: Unheard, bytes: usize) -> Heard {
        let question = Question::new(unheard.action, unheard.channels, Rc::clone(asker));
        self.access.hear(self.now, (from, self.client), question, bytes, &mut self.broker.stats)
    }

    /// Who sent `head`, as the application is told; none if it must not be asked for them.
    pub fn asker(&self, head: &Head, technique: &'static str) -> Option<Rc<Asker>> {
        let asks = self.access.rules.asks() && may_ask(head, self.config);
        asks.then(|| Rc::new(Asker::of(head, self.client, technique, self.config)))
    }

    /// Asks something for a held connection.
    pub fn act(&mut self, connection: ConnId, act: Act) {
        self.outbox.push((connection, act));
    }

    /// Whether the client has not taken what was written to it before. Nothing more should be written then;
    /// [`Dialects::writable`] tells when it has.
    pub fn is_blocked(&self, id: ConnId) -> bool {
        self.connections.get(id.slot).is_some_and(|connection| connection.output.is_some())
    }

    /// Whether a connection that was held still is.
    pub fn is_held(&self, id: ConnId) -> bool {
        self.connections
            .get(id.slot)
            .is_some_and(|connection| connection.generation == id.generation && connection.holder().is_some())
    }

    /// Whether the client will send nothing more. It may have gone altogether: both look the same.
    pub fn is_half_closed(&self, id: ConnId) -> bool {
        self.connections.get(id.slot).is_some_and(|connection| connection.half_closed)
    }

    /// Who is at the other end of a connection.
    pub fn peer(&self, id: ConnId) -> Option<IpAddr> {
        self.connections.get(id.slot).map(|connection| connection.peer)
    }
}

/// The protocols with sessions that are switched on.
#[derive(Debug)]
pub struct Dialects {
    bayeux: Bayeux,
    fdajax: Option<Fdajax>,
}

resume! {
    Dialects {
        carried: ;
        resumed: bayeux, fdajax;
        given:
    }
}

impl Dialects {
    /// Those that `config` switches on.
    pub fn new(config: &Config, seed: Seed, now: Now) -> Self {
        Self { bayeux: Bayeux::new(config, seed, now), fdajax: Fdajax::new(config, seed, now) }
    }

    /// The protocol that serves `path`.
    pub fn claim(&self, path: &str) -> Option<Protocol> {
        match &self.fdajax {
            _ if self.bayeux.claims(path) => Some(Protocol::Bayeux),
            Some(fdajax) if fdajax.claims(path) => Some(Protocol::Fdajax),
            _ => None,
        }
    }

    /// Whether answers name the origin of a page even if it is allowed only because all are.
    pub fn names_origins(&self, protocol: Protocol, config: &Config) -> bool {
        match protocol {
            Protocol::Bayeux => bayeux::names_origins(config),
            Protocol::Fdajax => false,
        }
    }

    /// Who is there, by name and meaning.
    pub fn gauges(&self) -> [(&'static str, &'static str, u64); 3] {
        let (users, guests) = self.fdajax.as_ref().map_or((0, 0), Fdajax::known);
        [
            ("bayeux_sessions", "Bayeux sessions that exist.", self.bayeux.sessions() as u64),
            ("fdajax_users", "FDAjax users logged in.", users as u64),
            ("fdajax_guests", "FDAjax guests known.", guests as u64),
        ]
    }

    /// How many sessions, users and guests that are.
    pub fn sessions(&self) -> usize {
        self.gauges().iter().map(|&(_, _, count)| count as usize).sum()
    }

    /// Takes a request; the connection is held.
    pub fn request(&mut self, protocol: Protocol, context: &mut Context, from: ConnId, request: &Request) {
        match (protocol, &mut self.fdajax) {
            (Protocol::Bayeux, _) => self.bayeux.request(context, from, request),
            (Protocol::Fdajax, Some(fdajax)) => fdajax.request(context, from, request),
            (Protocol::Fdajax, None) => context.act(from, Act::Close),
        }
    }

    /// Takes a text message from a connection that [`Act::Upgrade`] made a WebSocket.
    pub fn message(&mut self, protocol: Protocol, context: &mut Context, from: ConnId, text: &str) {
        match protocol {
            Protocol::Bayeux => self.bayeux.message(context, from, text),
            // It makes no WebSockets.
            Protocol::Fdajax => context.act(from, Act::Close),
        }
    }

    /// Takes note that a subscriber of a session is ready.
    pub fn ready(&mut self, context: &mut Context, holder: Holder) {
        match (holder, &mut self.fdajax) {
            (Holder::Bayeux(session), _) => self.bayeux.ready(context, session),
            (Holder::Window(window), Some(fdajax)) => fdajax.window_ready(context, window),
            (Holder::User(user), Some(fdajax)) => fdajax.user_ready(context, user),
            (Holder::Window(_) | Holder::User(_), None) | (Holder::Connection(_), _) => {}
        }
    }

    /// Takes note that the hub has detached the subscriber of a session, whose patterns match too many channels.
    pub fn detached(&mut self, context: &mut Context, holder: Holder) {
        // Those of FDAjax have no patterns.
        if let Holder::Bayeux(session) = holder {
            self.bayeux.detached(context, session);
        }
    }

    /// Takes note that a held connection has gone.
    pub fn gone(&mut self, protocol: Protocol, context: &mut Context, connection: ConnId) {
        match (protocol, &mut self.fdajax) {
            (Protocol::Bayeux, _) => self.bayeux.gone(context, connection),
            (Protocol::Fdajax, Some(fdajax)) => fdajax.gone(context, connection),
            (Protocol::Fdajax, None) => {}
        }
    }

    /// Takes note that a held connection which was blocked takes bytes again.
    pub fn writable(&mut self, protocol: Protocol, context: &mut Context, connection: ConnId) {
        match (protocol, &mut self.fdajax) {
            (Protocol::Bayeux, _) => self.bayeux.writable(context, connection),
            (Protocol::Fdajax, Some(fdajax)) => fdajax.writable(context, connection),
            (Protocol::Fdajax, None) => {}
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, context: &mut Context) {
        self.bayeux.tick(context);
        if let Some(fdajax) = &mut self.fdajax {
            fdajax.tick(context);
        }
    }

    /// Ends what is done by grants that have ended.
    pub fn end_grants(&mut self, context: &mut Context) {
        self.bayeux.end_grants(context);
        if let Some(fdajax) = &mut self.fdajax {
            fdajax.end_grants(context);
        }
    }

    /// Judges sessions and windows again, after the settings have changed.
    pub fn judge_again(&mut self, context: &mut Context) {
        self.bayeux.judge_again(context);
        if let Some(fdajax) = &mut self.fdajax {
            fdajax.judge_windows(context);
        }
    }

    /// Ends what a revocation concerns. Returns how many sessions and windows lost something.
    pub fn revoke(&mut self, context: &mut Context, revocation: &Revocation) -> usize {
        let windows = self.fdajax.as_mut().map_or(0, |fdajax| fdajax.revoke(context, revocation));
        windows + self.bayeux.revoke(context, revocation)
    }

    /// The channels that a session or a window listens to by name.
    pub fn listened(&mut self, context: &mut Context, holder: Holder) -> Vec<Rc<str>> {
        match (holder, &mut self.fdajax) {
            (Holder::Bayeux(session), _) => self.bayeux.listened(context, session),
            (Holder::Window(window), Some(fdajax)) => fdajax.listened(window),
            (Holder::Window(_), None) | (Holder::User(_) | Holder::Connection(_), _) => Vec::new(),
        }
    }

    /// Takes note of what the application has said about a session or a window when it was asked again, and whether it
    /// means the same subject.
    pub fn confirm(&mut self, context: &mut Context, holder: Holder, is_same: bool) {
        match (holder, &mut self.fdajax) {
            (Holder::Bayeux(session), _) => self.bayeux.confirm(context, session, is_same),
            (Holder::Window(window), Some(fdajax)) => fdajax.confirm(context, window, is_same),
            (Holder::Window(_), None) | (Holder::User(_) | Holder::Connection(_), _) => {}
        }
    }

    /// Ends a session or a window by the application's word, which counts no more.
    pub fn end_word(&mut self, context: &mut Context, holder: Holder) {
        match (holder, &mut self.fdajax) {
            (Holder::Bayeux(session), _) => self.bayeux.end_word(context, session),
            (Holder::Window(window), Some(fdajax)) => fdajax.end_word(context, window),
            (Holder::Window(_), None) | (Holder::User(_) | Holder::Connection(_), _) => {}
        }
    }

    /// When [`Dialects::tick`] has something to do.
    pub fn next_deadline(&self) -> Instant {
        let fdajax = self.fdajax.as_ref().map_or(Instant::NEVER, Fdajax::next_deadline);
        self.bayeux.next_deadline().min(fdajax)
    }

    /// Answers every held connection, because the server leaves.
    pub fn drain(&mut self, context: &mut Context) {
        self.bayeux.drain(context);
        if let Some(fdajax) = &mut self.fdajax {
            fdajax.drain(context);
        }
    }
}
