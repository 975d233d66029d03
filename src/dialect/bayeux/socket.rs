//! Bayeux over WebSocket: each text is an array of messages, or one; replies and events come as arrays.
//!
//! A session is not bound to its socket: Faye's client begins it by POST and then connects on a socket, and a
//! socket may carry several sessions, or none yet. Where a session last connected, its events are pushed.

use super::message;
use super::reply::Replies;
use super::{Bayeux, Exchange, Visitor, peer};
use crate::conn::{ConnId, Request};
use crate::dialect::{Act, Context, access, upgrade};

impl Bayeux {
    /// Makes the connection a WebSocket.
    pub(super) fn open_socket(&mut self, cx: &mut Context, from: ConnId, request: &Request) {
        match upgrade::answer(&request.head, cx.config) {
            Err(problem) => cx.act(from, Act::Answer(problem)),
            Ok(answer) => {
                let visitor = self.visitor(cx, from, &request.head);
                let matters = cx.config.bayeux.bind_sessions_to_cookie && visitor.cookie != 0;
                if matters || visitor != of_peer(cx, from, visitor.cookie) {
                    self.visitors.insert(from, visitor);
                }
                cx.act(from, Act::Upgrade(answer));
            }
        }
    }

    /// Takes a text. Who sends something else than messages is not understood any further.
    pub fn message(&mut self, cx: &mut Context, from: ConnId, text: &str) {
        let settings = &cx.config.bayeux;
        let mut messages = Vec::new();
        if message::read(text, settings.request_messages, &mut messages).is_err() {
            cx.hub.stats.sockets_failed += 1;
            return cx.act(from, Act::End);
        }
        let handshake = messages.iter().position(message::Incoming::is_handshake);
        let messages = handshake.map_or(&messages[..], |at| &messages[at..=at]);
        let known = self.visitors.get(&from).copied();
        let visitor = known.unwrap_or_else(|| of_peer(cx, from, 0));
        if self.is_flood(cx, visitor, messages) {
            cx.hub.stats.sockets_failed += 1;
            return cx.act(from, Act::End);
        }
        let exchange = Exchange { from, socket: true, callback: None, visitor, alone: messages.len() == 1 };
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

/// Who sends by a connection that no proxy is known to stand behind.
fn of_peer(cx: &Context, from: ConnId, cookie: u64) -> Visitor {
    let address = peer(cx, from);
    Visitor { address, exempt: access::is_exempt(address, cx.config), cookie }
}
