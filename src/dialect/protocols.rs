//! Protocols with sessions of their own: those that are switched on, and when the server calls them.
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
use super::native::Targets;
use super::session::{Act, Context};
use crate::broker::access::{Grant, Revocation};
use crate::carry::resume;
use crate::config::Config;
use crate::conn::{ConnId, Protocol, Request};
use crate::hub::SubscriberKey;
use crate::id::Seed;
use crate::time::{Instant, Now};
use std::rc::Rc;

/// The protocols with sessions that are switched on, and what the native API, which has none, remembers.
#[derive(Debug)]
pub struct Dialects {
    bayeux: Bayeux,
    fdajax: Option<Fdajax>,
    /// What requests to listen by the native API asked for lately.
    pub targets: Targets,
}

resume! {
    Dialects {
        carried: ;
        resumed: bayeux, fdajax;
        given: targets
    }
}

impl Dialects {
    /// Those that `config` switches on.
    pub fn new(config: &Config, seed: Seed, now: Now) -> Self {
        Self {
            bayeux: Bayeux::new(config, seed, now),
            fdajax: Fdajax::new(config, seed, now),
            targets: Targets::default(),
        }
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

    /// Judges some of the sessions of a protocol again, from the place `from` on, after the settings have changed. Returns
    /// where to go on.
    pub fn judge_some(
        &mut self,
        context: &mut Context,
        protocol: Protocol,
        from: usize,
        count: usize,
    ) -> Option<usize> {
        match (protocol, &mut self.fdajax) {
            (Protocol::Bayeux, _) => self.bayeux.judge_some(context, from, count),
            (Protocol::Fdajax, Some(fdajax)) => fdajax.judge_some(context, from, count),
            (Protocol::Fdajax, None) => None,
        }
    }

    /// Ends what a revocation concerns. Returns how many sessions and windows lost something.
    pub fn revoke(&mut self, context: &mut Context, revocation: &Revocation) -> usize {
        let windows = self.fdajax.as_mut().map_or(0, |fdajax| fdajax.revoke(context, revocation));
        windows + self.bayeux.revoke(context, revocation)
    }

    /// The subscriber of a session or a window.
    pub fn subscriber(&self, holder: Holder) -> Option<SubscriberKey> {
        match (holder, &self.fdajax) {
            (Holder::Bayeux(session), _) => self.bayeux.subscriber(session),
            (Holder::Window(window), Some(fdajax)) => fdajax.subscriber(window),
            (Holder::Window(_), None) | (Holder::User(_) | Holder::Connection(_), _) => None,
        }
    }

    /// What a token grants to a session or a window.
    pub fn grant(&self, holder: Holder) -> Option<&Grant> {
        match (holder, &self.fdajax) {
            (Holder::Bayeux(session), _) => self.bayeux.grant(session),
            (Holder::Window(window), Some(fdajax)) => fdajax.grant(window),
            (Holder::Window(_), None) | (Holder::User(_) | Holder::Connection(_), _) => None,
        }
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
