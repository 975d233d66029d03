//! How connections end: refused, closed, forgotten.

use super::{Effect, Server};
use crate::conn::{ConnId, Phase, Slot};
use crate::hub::SubscriberKey;
use crate::time::{Instant, Now};
use crate::wire::head::{Head, Method, Refusal};
use crate::wire::response::{self, Envelope, Response};

impl Server {
    /// Answers what cannot be served, and nothing after it.
    #[cold]
    pub(super) fn refuse(&mut self, now: Now, slot: Slot, response: &Response) {
        self.refuse_to(now, slot, None, response);
    }

    /// The same, if the head of the request is known.
    #[cold]
    pub(super) fn refuse_to(&mut self, now: Now, slot: Slot, head: Option<&Head>, response: &Response) {
        self.broker.stats.requests_refused += 1;
        self.telemetry.note_status(response.status);
        self.leave(now.at, slot);
        let fields = self.cors.fields(head.and_then(|head| self.cors.find(head)));
        let head_only = head.is_some_and(|head| head.method == Method::Head);
        let envelope =
            Envelope { date: self.dates.at(now.unix), head_only, close: true, fields, keep_alive: "" };
        let begin = self.out.len();
        response::write_response(&mut self.out, response, &envelope);
        self.log_refusal(now, slot, head, begin);
        let connection = &mut self.connections[slot];
        connection.input = None;
        connection.closing = true;
        connection.enter(Phase::Lingering, now.at);
        self.arm(slot, now.at);
    }

    #[cold]
    pub(super) fn refuse_head(&mut self, now: Now, slot: Slot, refusal: Refusal) {
        self.refuse(now, slot, &Response::problem(refusal.status, refusal.detail, false));
    }

    /// Closes a connection at the end of the turn.
    #[inline(never)]
    pub(super) fn close(&mut self, now: Instant, slot: Slot) {
        self.leave(now, slot);
        let id = self.id(slot);
        let connection = &mut self.connections[slot];
        if !matches!(connection.phase, Phase::Closed) {
            connection.phase = Phase::Closed;
            self.incoming.remove(&slot);
            self.origins.remove(&slot);
            self.clients.remove(&slot);
            connection.input = None;
            connection.output = None;
            self.wheel.clear(slot);
            self.note_caught_up(slot);
            self.forget_right(slot);
            self.access.hook.leave(id);
            self.effects.push_back(Effect::Close(id));
        }
    }

    /// Takes the connection's subscriber out of the hub, if it has one, or tells the protocol that holds the
    /// connection.
    pub(super) fn leave(&mut self, now: Instant, slot: Slot) {
        self.log_end(now, slot);
        let id = self.id(slot);
        let connection = &mut self.connections[slot];
        if let Some(protocol) = connection.holder() {
            self.abandoned.push((id, protocol));
            connection.enter(Phase::Idle, now);
        }
        if let Some(key) = connection.subscriber() {
            connection.enter(Phase::Idle, now);
            self.broker.hub.detach(now, key);
            self.forget_callback(key);
            if self.mercure.is_some() {
                self.mercure_left(slot);
            }
        }
    }

    /// Forgets what function a poll by script wants called.
    pub(super) fn forget_callback(&mut self, key: SubscriberKey) {
        if !self.callbacks.is_empty() {
            self.callbacks.remove(&key);
        }
    }

    /// The function that a poll by script wants called, which is forgotten.
    pub(super) fn take_callback(&mut self, key: SubscriberKey) -> Option<Box<str>> {
        if self.callbacks.is_empty() { None } else { self.callbacks.remove(&key) }
    }

    /// Takes out a connection that is closed.
    #[inline(never)]
    pub(super) fn forget(&mut self, id: ConnId) {
        let connection = self.connections.remove(id.slot);
        self.addresses.leave(connection.peer, &self.config);
        self.shrink();
    }

    /// Gives memory back when three quarters of a crowd have left, and again with each further half: every place
    /// has to be looked at for it, and those who stay may sit in the last ones.
    fn shrink(&mut self) {
        let left = self.connections.len();
        if self.ebb.is_none_or(|ebb| left > ebb) {
            return;
        }
        self.ebb = (left > 0).then_some(left / 2);
        self.connections.shrink_to_fit();
        self.wheel.shrink();
        self.broker.hub.shrink();
    }
}
