//! How connections end: refused, dismissed with their channel, closed, forgotten.

use super::{Effect, Server, Sink};
use crate::conn::{ConnId, Output, Phase, Slot};
use crate::dialect::{Holder, native};
use crate::hub::{HubError, Owner, SubscriberKey};
use crate::id::MessageId;
use crate::time::{Instant, Now};
use crate::transport;
use crate::wire::head::{self, Head, Method, Refusal};
use crate::wire::response::{self, Envelope, Response};
use crate::wire::websocket::{self, close};

/// What has been seen of a request that is refused.
#[derive(Debug, Clone, Copy)]
pub(super) enum Seen<'a> {
    /// Its head.
    Head(&'a Head<'a>),
    /// Its method, if we know that, and its target.
    Line(Option<Method>, &'a str),
    /// It is none yet, or cannot be read.
    Nothing,
}

impl Server {
    /// Answers what cannot be served, and nothing after it. `retry` = the seconds after which to try again.
    #[cold]
    pub(super) fn refuse(&mut self, now: Now, slot: Slot, refusal: Refusal, retry: Option<u64>) {
        // What has come of the request says whose it is, and how they want to be told.
        let input = self.connections[slot].input.take();
        let begun = input.as_ref().map_or(&[][..], |input| input.head());
        let mut slots = head::slots();
        let parsed = head::parse(begun, &mut slots);
        let seen = match &parsed {
            Ok(head) => Seen::Head(head),
            Err(_) => {
                head::glimpse(begun).map_or(Seen::Nothing, |(method, target)| Seen::Line(method, target))
            }
        };
        let as_text = matches!(seen, Seen::Head(head) if native::wants_text(head));
        let response = Response::problem(refusal.status, refusal.detail, as_text);
        let response = match retry {
            Some(seconds) => response.with("Retry-After", seconds),
            None => response,
        };
        self.refuse_to(now, slot, seen, &response);
    }

    /// The same, with that answer, to a request of which that has been seen.
    #[cold]
    pub(super) fn refuse_to(&mut self, now: Now, slot: Slot, seen: Seen, response: &Response) {
        self.broker.stats.requests_refused += 1;
        self.telemetry.note_status(response.status);
        self.leave(now.at, slot);
        let (origin, method) = match seen {
            Seen::Head(head) => (self.writer.cors.find(head), Some(head.method)),
            Seen::Line(method, _) => (None, method),
            Seen::Nothing => (None, None),
        };
        let fields = self.writer.cors.fields(origin);
        let head_only = method == Some(Method::Head);
        let envelope =
            Envelope { date: self.writer.dates.at(now.unix), head_only, close: true, fields, keep_alive: "" };
        let begin = self.writer.out.len();
        response::write_response(&mut self.writer.out, response, &envelope);
        self.log_refusal(now, slot, seen, begin);
        let connection = &mut self.connections[slot];
        connection.input = None;
        connection.closing = true;
        connection.enter(Phase::Lingering, now.at);
        self.arm(slot, now.at);
    }

    /// Closes a connection at the end of the turn.
    #[inline(never)]
    pub(super) fn close(&mut self, now: Instant, slot: Slot) {
        self.leave(now, slot);
        let id = self.id(slot);
        let connection = &mut self.connections[slot];
        if !matches!(connection.phase, Phase::Closed) {
            connection.phase = Phase::Closed;
            self.aside.forget(slot);
            connection.input = None;
            connection.output = None;
            self.wheel.clear(slot);
            self.note_caught_up(slot);
            self.forget_right(slot);
            self.access.hook.leave(id);
            self.queues.effects.push_back(Effect::Close(id));
        }
    }

    /// Takes the connection's subscriber out of the hub, if it has one, or tells the protocol that holds the
    /// connection.
    pub(super) fn leave(&mut self, now: Instant, slot: Slot) {
        self.log_end(now, slot);
        let id = self.id(slot);
        let connection = &mut self.connections[slot];
        if let Some(protocol) = connection.holder() {
            self.queues.abandoned.push((id, protocol));
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
        if !self.aside.callbacks.is_empty() {
            self.aside.callbacks.remove(&key);
        }
    }

    /// The function that a poll by script wants called, which is forgotten.
    pub(super) fn take_callback(&mut self, key: SubscriberKey) -> Option<Box<str>> {
        if self.aside.callbacks.is_empty() { None } else { self.aside.callbacks.remove(&key) }
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
        if self.memory.ebb.is_none_or(|ebb| left > ebb) {
            return;
        }
        self.memory.ebb = (left > 0).then_some(left / 2);
        self.connections.shrink_to_fit();
        self.wheel.shrink();
        self.broker.hub.shrink();
    }

    /// Ends the subscribers whose patterns have come to match too many channels.
    #[cold]
    pub(super) fn end_overfull(&mut self, now: Now, sink: &mut impl Sink) {
        for ended @ (owner, _) in self.broker.hub.take_overfull(now.at) {
            match Holder::connection(owner) {
                Some(_) => self.end_listener(now, ended, (400, HubError::TooManyMatches.detail())),
                None => self.consult(now, |dialects, context| dialects.detached(context, owner.into())),
            }
        }
        self.act(now, sink);
    }

    /// Ends the subscriber of a deleted channel, which the hub has already detached.
    pub(super) fn end_deleted(&mut self, now: Now, ended: (Owner, MessageId)) {
        self.end_listener(now, ended, (410, "the channel has been deleted"));
    }

    /// Ends a subscriber that the hub has already detached. Its connection is told when the turn's answers are
    /// written.
    fn end_listener(&mut self, now: Now, ended: (Owner, MessageId), (status, detail): (u16, &str)) {
        let (owner, position) = ended;
        let Some(slot) = Holder::connection(owner) else { return };
        self.queues.deleted.push(self.id(slot));
        if let Some(key) = self.connections[slot].subscriber() {
            self.forget_callback(key);
            self.mercure_left(slot);
        }
        let connection = &mut self.connections[slot];
        let mut goodbye = Vec::new();
        let (close, next) = match &connection.phase {
            Phase::Streaming(stream) => {
                goodbye.extend(transport::ending(stream.look, None));
                (true, Phase::Idle)
            }
            Phase::Socket(_) => {
                self.aside.incoming.remove(&slot);
                websocket::write_close(&mut goodbye, Some(close::GOING_AWAY), detail);
                (true, Phase::Lingering)
            }
            Phase::Parked(parked) => {
                let close = parked.close || connection.is_done();
                let fields = self.writer.cors.fields(parked.origin);
                let keep_alive = &*self.writer.keep_alive;
                let envelope = Envelope {
                    date: self.writer.dates.at(now.unix),
                    head_only: false,
                    close,
                    fields,
                    keep_alive,
                };
                // Its other channels may live: it can go on from where it was.
                let gone = Response::problem(status, detail, false).at(position);
                response::write_response(&mut goodbye, &gone, &envelope);
                (close, Phase::Idle)
            }
            _ => return,
        };
        connection.enter(next, now.at);
        connection.closing |= close;
        connection.output.get_or_insert_with(|| Box::new(Output::blocked(now.at))).push(&goodbye);
        self.log_goodbye(now.at, slot, &goodbye);
    }

    /// Says goodbye to the subscribers of deleted channels.
    pub(super) fn dismiss(&mut self, now: Now, sink: &mut impl Sink) {
        for id in std::mem::take(&mut self.queues.deleted) {
            self.writable(now, id, sink);
            if let Some(slot) = self.find(id) {
                self.arm(slot, now.at);
            }
        }
    }
}
