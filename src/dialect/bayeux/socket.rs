//! Bayeux over WebSocket: each text is an array of messages, or one; replies and events come as arrays.
//!
//! A session is not bound to its socket: Faye's client begins it by POST and then connects on a socket, and a
//! socket may carry several sessions, or none yet. Where a session last connected, its events are pushed.

use super::message;
use super::reply::Replies;
use super::{Bayeux, Exchange, Visitor};
use crate::conn::{ConnId, Request};
use crate::dialect::{Act, Context, Identity, upgrade};
use std::rc::Rc;

impl Bayeux {
    /// Makes the connection a WebSocket.
    pub(super) fn open_socket(&mut self, cx: &mut Context, from: ConnId, request: &Request) {
        match upgrade::answer(&request.head, cx.config) {
            Err(problem) => cx.act(from, Act::Answer(problem)),
            Ok(answer) => {
                match cx.identify(from, &request.head) {
                    Err(denial) => return cx.act(from, Act::Answer(denial.response(false))),
                    Ok(identity) if identity.publisher || identity.grant.is_some() => {
                        self.identities.insert(from, identity);
                    }
                    Ok(_) => {}
                }
                let cookie = self.visitor(cx, &request.head).cookie;
                if cx.config.bayeux.bind_sessions_to_cookie && cookie != 0 {
                    self.browsers.insert(from, cookie);
                }
                if let Some(asker) = cx.asker(&request.head, "bayeux") {
                    self.askers.insert(from, asker);
                }
                cx.act(from, Act::Upgrade(answer));
            }
        }
    }

    /// What the handshake of a WebSocket had shown, as long as it counts.
    fn identity_shown(&self, cx: &Context, from: ConnId) -> Identity {
        let shown = self.identities.get(&from).cloned().unwrap_or_default();
        match shown.grant.as_ref().is_none_or(|grant| grant.is_valid(cx.now.unix)) {
            true => shown,
            false => Identity::default(),
        }
    }

    /// Takes a text. Who sends something else than messages is not understood any further.
    pub fn message(&mut self, cx: &mut Context, from: ConnId, text: &str) {
        let settings = &cx.config.bayeux;
        let mut messages = Vec::new();
        if message::read(text, settings.request_messages, &mut messages).is_err() {
            cx.broker.stats.sockets_failed += 1;
            return cx.act(from, Act::End);
        }
        let handshake = messages.iter().position(message::Incoming::is_handshake);
        let messages = handshake.map_or(&messages[..], |at| &messages[at..=at]);
        let cookie = self.browsers.get(&from).copied().unwrap_or_default();
        let visitor = Visitor { address: cx.client.address, cookie };
        if self.is_flood(cx, visitor, messages) {
            cx.broker.stats.sockets_failed += 1;
            return cx.act(from, Act::End);
        }
        let alone = messages.len() == 1;
        let identity = Ok(self.identity_shown(cx, from));
        let mut exchange = Exchange {
            from,
            socket: true,
            callback: None,
            visitor,
            alone,
            identity,
            said: Vec::new(),
            denied: None,
        };
        let asker = |_: &Context| self.askers.get(&from).map(Rc::clone);
        if !self.hear(cx, &mut exchange, messages, asker, text.len()) {
            return;
        }
        let mut replies = Replies::new();
        for message in messages {
            self.take(cx, &exchange, message, &mut replies);
        }
        // Old clients of Faye send an empty array to see whether anybody is there.
        if !replies.is_empty() || messages.is_empty() {
            cx.act(from, Act::Write(replies.finish()));
        }
    }
}
