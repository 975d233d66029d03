//! Open WebSockets: what they send, how they end. What they are sent goes the way of every stream.

use super::pending::Answer;
use super::request::BYTES_PER_UNIT;
use super::{BACKLOG_BYTES_MAX, Effect, PIPELINE_BYTES_MAX, Server, Sink};
use crate::broker::access::Bearer;
use crate::broker::{Once, Publishing, Refusal, Terms};
use crate::conn::{Incoming, Phase, Protocol, Slot, User};
use crate::dialect::hook::is_among;
use crate::dialect::native::{answer, websocket as native};
use crate::dialect::{Denial, Heard, Holder};
use crate::hub::{Pattern, Start, SubscriberKey};
use crate::time::{Instant, Now};
use crate::transport::{Look, Streaming};
use crate::wire::websocket::{self, Bounds, Message, Reader, Violation, close};
use std::borrow::Cow;

const MAY_NOT_PUBLISH: &str = "this connection may not publish: without publish.token, only loopback clients may; \
    with it, the handshake must carry `Authorization: Bearer <token>`; with --admin-listen, connect there";

impl Server {
    /// Takes bytes that arrived on a WebSocket.
    pub(super) fn receive_frames(&mut self, now: Now, slot: Slot, bytes: &[u8], sink: &mut impl Sink) {
        let max = Bounds { bytes: self.config.limits.message_bytes, frames: self.config.limits.fragments };
        let mut rest = bytes;
        let (mut reader, mut since) = match self.aside.incoming.remove(&slot) {
            Some(incoming) => (incoming.reader, incoming.since),
            None => (Reader::default(), now.at),
        };
        let mut done = 0;
        while self.is_socket(slot) && !self.rights.has_command(slot) {
            if sink.is_over(done) {
                break;
            }
            done += 1;
            if self.writer.out.len() >= BACKLOG_BYTES_MAX {
                self.send(now.at, slot, sink);
                if self.is_flooded(slot) {
                    return self.close_flooded(now.at, slot);
                }
            }
            if reader.is_idle() {
                since = now.at;
            }
            match reader.read(&mut rest, max) {
                Ok(Some(message)) => self.take_message(now, slot, message),
                Ok(None) => break,
                Err(Violation { code, reason }) => {
                    log::debug!("{}: WebSocket failed: {reason}", self.connections[slot].peer);
                    self.broker.stats.sockets_failed += 1;
                    self.close_socket(now.at, slot, Some(code), reason);
                }
            }
        }
        self.send(now.at, slot, sink);
        self.note_work(now.at, slot, done + (bytes.len() - rest.len()) / BYTES_PER_UNIT, sink);
        if !self.is_socket(slot) {
            return;
        }
        if self.is_flooded(slot) {
            return self.close_flooded(now.at, slot);
        }
        if !reader.is_idle() && self.is_short_on(slot) {
            self.broker.stats.sockets_failed += 1;
            self.close_socket(now.at, slot, Some(close::TRY_AGAIN_LATER), "memory is short (limits.memory)");
            return self.send(now.at, slot, sink);
        }
        self.memory.gathered += bytes.len();
        if !reader.is_idle() {
            self.aside.incoming.insert(slot, Incoming { reader, since });
            self.arm(slot, now.at);
        }
        if !rest.is_empty() {
            self.connections[slot].input.get_or_insert_default().push(rest);
            if self.rights.has_command(slot) {
                return;
            }
            let id = self.id(slot);
            let level = self.level(now.at, slot);
            self.queues.backlog.push(level, id);
            self.queues.effects.push_back(Effect::Pause(id));
        }
    }

    /// Whether the client has not taken more of the answers to what it sends than it may leave.
    fn is_flooded(&self, slot: Slot) -> bool {
        let output = self.connections[slot].output.as_ref();
        output.is_some_and(|output| output.own_len() > PIPELINE_BYTES_MAX)
    }

    #[cold]
    fn close_flooded(&mut self, now: Instant, slot: Slot) {
        self.broker.stats.connections_stalled += 1;
        self.close_because(now, slot, "it sends, and does not read the answers");
    }

    /// Whether there is an open WebSocket in `slot`.
    fn is_socket(&self, slot: Slot) -> bool {
        matches!(self.connections[slot].phase, Phase::Socket(_))
    }

    /// Does what a message asks; answers go to `out`.
    fn take_message(&mut self, now: Now, slot: Slot, message: Message) {
        let Phase::Socket(user) = self.connections[slot].phase else { return };
        match (message, user) {
            (Message::Ping(payload), _) => websocket::write_pong(&mut self.writer.out, payload),
            (Message::Pong(_), _) => {}
            (Message::Close(code), _) => self.close_socket(now.at, slot, code, ""),
            (Message::Binary(_), _) => {
                self.close_socket(now.at, slot, Some(close::UNSUPPORTED), "commands are text messages");
            }
            (Message::Text(text), User::Subscriber { subscriber, may_publish, .. }) => {
                self.obey(now, slot, subscriber, may_publish, text);
            }
            (Message::Text(text), User::Session(protocol)) => {
                self.pass_on(now, slot, protocol, text);
            }
        }
    }

    /// Handles the command again that waited for the application's word, if it need not wait any longer.
    #[cold]
    pub(super) fn command_again(&mut self, now: Now, slot: Slot, sink: &mut impl Sink) -> bool {
        let id = self.id(slot);
        if self.access.hook.is_waiting(id) {
            return false;
        }
        if let Some(text) = self.rights.take_command(slot) {
            self.take_message(now, slot, Message::Text(&text));
        }
        if self.rights.has_command(slot) {
            return false;
        }
        self.access.hook.forget(id);
        self.send(now.at, slot, sink);
        !matches!(self.connections[slot].phase, Phase::Closed)
    }

    /// Hands a message to the protocol that uses the WebSocket.
    fn pass_on(&mut self, now: Now, slot: Slot, protocol: Protocol, text: &str) {
        let id = self.id(slot);
        let client = self.client_of(slot);
        self.consult_for(now, slot, client, |dialects, context| {
            dialects.message(protocol, context, id, text);
        });
        self.rights.keep_command(slot, text);
    }

    /// Carries out a command of the native API.
    fn obey(&mut self, now: Now, slot: Slot, subscriber: SubscriberKey, may_publish: bool, text: &str) {
        let begin = self.writer.out.len();
        let native::Request { reference, order } = native::read(text, &self.config);
        // Its client has to know when it ends.
        let told = matches!(order, Ok(native::Order::Token(_)));
        let order = match order {
            Ok(order) if self.access.rules.asks() => {
                self.hear_order(now, slot, may_publish, order, text.len())
            }
            order => order,
        };
        if self.rights.keep_command(slot, text) {
            return;
        }
        let outcome = order.and_then(|order| self.carry_out_order(now, slot, subscriber, may_publish, order));
        self.rights.set_said(Vec::new());
        self.broker.stats.requests_failed += u64::from(outcome.is_err());
        // Behind a close frame nothing is said.
        if !self.is_socket(slot) {
            return;
        }
        if let Some(answer) = native::answer(reference, outcome, told) {
            self.log_bytes(slot, answer.len());
            websocket::write_text(&mut self.writer.out, answer.as_bytes());
        }
        if let Some(ticket) = self.propose(now.at) {
            let (bytes, reference) = (self.writer.out.split_off(begin), reference.map(ToOwned::to_owned));
            let answer = match self.broker.take_receipts() {
                Some(receipts) => {
                    let may_publish = matches!(
                        self.connections[slot].phase,
                        Phase::Socket(User::Subscriber { may_publish: true, .. })
                    );
                    let told = self.publisher_of(slot, may_publish).is_none();
                    Answer::Outcome { receipts, told, reference }
                }
                None => Answer::Frames { bytes, reference },
            };
            self.keep_answer(ticket, self.id(slot), answer);
        }
    }

    /// Hears what the application says to an order that needs its word.
    #[cold]
    fn hear_order<'o>(
        &mut self,
        now: Now,
        slot: Slot,
        may_publish: bool,
        order: native::Order<'o>,
        bytes: usize,
    ) -> Result<native::Order<'o>, String> {
        let bearer = self.bearer(slot, may_publish);
        let judged = match &order {
            native::Order::Publish { channel, .. } => self.access.judge_publish(bearer, channel),
            native::Order::Subscribe(names, patterns, _) => {
                let asked = names.iter().map(AsRef::as_ref).chain(patterns.iter().map(Pattern::as_str));
                Some(self.access.judge_subscribe(bearer, asked))
            }
            native::Order::Unsubscribe(..) | native::Order::Token(_) => None,
        };
        let Some(Err(Denial::Unheard(unheard))) = judged else { return Ok(order) };
        match self.hear_command(now, slot, *unheard, bytes) {
            Heard::Word(word) => self.rights.set_said(vec![word]),
            Heard::Waits => self.rights.note_wait(),
            Heard::Denied(denial) => return Err(denial.detail().into_owned()),
        }
        Ok(order)
    }

    fn carry_out_order(
        &mut self,
        now: Now,
        slot: Slot,
        subscriber: SubscriberKey,
        may_publish: bool,
        order: native::Order,
    ) -> Result<String, String> {
        let client = self.client_of(slot);
        let refused = |refusal: Refusal| refusal.detail().to_owned();
        match order {
            native::Order::Token(token) => self.renew(now, slot, subscriber, &token, may_publish),
            native::Order::Publish { channel, .. }
                if !self.may_publish_on(slot, &channel, may_publish)? =>
            {
                Err(MAY_NOT_PUBLISH.into())
            }
            native::Order::Publish { channel, publication, key, is_patch } => {
                let once = key.as_deref().map(|key| Once::Key { key, method: "POST" });
                let whose = self.publisher_of(slot, may_publish);
                let told = whose.is_none();
                let patches = if is_patch { vec![0] } else { Vec::new() };
                let terms = publication.key.is_some().then(|| Box::new(Terms { patches, if_match: None }));
                let what = Publishing { once, whose, terms, ..Publishing::of(channel, *publication) };
                let receipts = self.broker.publish(now.at, client, what).map_err(refused)?;
                Ok(answer::one(&receipts.first, told))
            }
            native::Order::Subscribe(names, patterns, wish) => {
                let asked = names.iter().map(AsRef::as_ref).chain(patterns.iter().map(Pattern::as_str));
                let judged = self.access.judge_subscribe(self.bearer(slot, may_publish), asked);
                judged.map_err(|refusal| refusal.detail().into_owned())?;
                let max = self.config.limits.channels_per_connection;
                if self.broker.hub.subscriptions(subscriber) + names.len() + patterns.len() > max {
                    return Err(format!(
                        "a connection may listen to at most {max} channels (limits.channels_per_connection)"
                    ));
                }
                if wish.delta
                    && self.connections[slot].look() == Some(Look::of_socket(Streaming::WebSocketRaw))
                {
                    return Err("delta needs envelopes, which encke.raw has not".into());
                }
                if wish.is_latest() {
                    self.broker.hub.set_wish(now.at, subscriber, wish);
                    self.bound_unsent(slot, subscriber);
                }
                let done = self.broker.searching(now.at, client, |broker, search| {
                    let names = borrowed(&names);
                    // To who wants all messages, a snapshot is nothing.
                    broker.subscribe(now.at, search, subscriber, &names, &patterns, |_| Start::Snapshot)
                });
                if done.is_ok() && self.broker.hub.subscriptions(subscriber) > 0 {
                    self.end_waiting(slot);
                }
                if done.is_ok() && !self.rights.said().is_empty() {
                    let said = self.rights.said().to_vec();
                    self.note_words(now, slot, &said);
                }
                done.map(|()| "true".to_owned()).map_err(refused)
            }
            native::Order::Unsubscribe(names, patterns) => {
                let done = self.broker.searching(now.at, client, |broker, search| {
                    broker.unsubscribe(now.at, search, subscriber, &borrowed(&names), &patterns)
                });
                let holder = Holder::Connection(slot);
                if self.access.hook.grant_of(holder).is_some() {
                    let (listened, _) = self.broker.hub.listens_to(subscriber);
                    self.access.hook.listeners.keep(holder, |name| is_among(&listened, name));
                }
                done.map(|()| "true".to_owned()).map_err(refused)
            }
        }
    }

    /// Whose the idempotency keys of a WebSocket are; none = the application's.
    fn publisher_of(&self, slot: Slot, may_publish: bool) -> Option<Box<str>> {
        if may_publish || !self.access.is_on() {
            return None;
        }
        let bearer = self.bearer(slot, may_publish);
        let said = bearer.said.first().map(|word| &*word.grant);
        let grant = bearer.grant.or(said).or(bearer.held);
        Some(grant.and_then(|grant| grant.subject.clone()).unwrap_or_default())
    }

    /// Whether the user of a WebSocket may publish to `channel`: by a rule, or because the handshake had shown it.
    fn may_publish_on(&self, slot: Slot, channel: &str, may_publish: bool) -> Result<bool, String> {
        let bearer = self.bearer(slot, may_publish);
        let bearer = Bearer { publisher: bearer.publisher && may_publish, ..bearer };
        match self.access.judge_publish(bearer, channel) {
            None => Ok(may_publish),
            Some(verdict) => verdict.map(|()| true).map_err(|refusal| refusal.detail().into_owned()),
        }
    }

    /// Says goodbye in `out`, behind what is there, and reads nothing more. Our side is shut down when that is
    /// written; the client's close frame and what else may come is thrown away until it closes, too.
    pub(super) fn close_socket(&mut self, now: Instant, slot: Slot, code: Option<u16>, reason: &str) {
        websocket::write_close(&mut self.writer.out, code, reason);
        self.leave(now, slot);
        self.aside.incoming.remove(&slot);
        let connection = &mut self.connections[slot];
        connection.input = None;
        connection.closing = true;
        connection.enter(Phase::Lingering, now);
        self.arm(slot, now);
    }
}

fn borrowed<'a>(names: &'a [Cow<'_, str>]) -> Vec<&'a str> {
    names.iter().map(|name| &**name).collect()
}
