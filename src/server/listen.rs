//! Those who come to listen: a poll is answered or parked, a stream or a WebSocket begins.

use super::Server;
use super::deliver::EnvelopeOf;
use super::execute::{Reply, envelope};
use crate::broker;
use crate::conn::{Phase, Poll, Slot, Stream, User};
use crate::dialect::native::{self, Asked};
use crate::dialect::{Holder, Open, Subscribe};
use crate::hub::{Pace, Start, SubscriberKey, Wish};
use crate::time::Now;
use crate::transport::{self, Look, NOT_KEPT, Polling, Transport, poll};
use crate::wire::head::Head;
use crate::wire::response::{self, Envelope, Response};
use crate::wire::websocket::close;
use std::io::Write;
use std::num::NonZeroU16;

impl Server {
    /// Attaches a subscriber and answers or parks it, or begins its stream.
    #[inline(never)]
    pub(super) fn carry_out_subscribe(
        &mut self,
        now: Now,
        slot: Slot,
        subscribe: Subscribe,
        reply: &Reply,
    ) -> Result<(), Response> {
        self.note_right(now, slot, reply.identity);
        let Subscribe { asked, start, transport, .. } = subscribe;
        if self.drain.begun && native::asks_for_events(reply.head) {
            return Err(self.leaving(slot, native::wants_text(reply.head)));
        }
        // A poll keeps its time itself, and is given values whole.
        let wish = match transport {
            Transport::Stream(_) => asked.wish,
            Transport::Poll(polling) => {
                let is_held = polling.waits() && !asked.wish.pace.is_none();
                let pace = if is_held { Pace::HELD } else { Pace::NONE };
                Wish { latest: asked.wish.is_latest(), pace, delta: false }
            }
        };
        let attached = self.attach(now, slot, reply.head, asked, start, wish);
        let subscriber =
            attached.map_err(|error| self.refused(slot, error, native::wants_text(reply.head)))?;
        if self.broker.hub.has_moved() && !reply.head_only {
            self.note_arrival(now, slot, subscriber);
        }
        match transport {
            Transport::Stream(stream) => {
                let look = Look { stream, chunked: reply.head.http11 };
                let stream = Stream { subscriber, look, loud: asked.loud };
                self.begin_stream(now, slot, stream, reply, subscribe.callback.unwrap_or_default());
            }
            Transport::Poll(polling) => {
                let poll = Poll {
                    subscriber,
                    timeout_seconds: asked.timeout_seconds as u16,
                    batch: NonZeroU16::new(asked.max).filter(|_| subscribe.batch),
                    origin: reply.origin,
                    polling,
                    pace: if wish.pace == Pace::HELD { asked.wish.pace } else { Pace::NONE },
                    close: reply.close,
                };
                self.begin_poll(now, slot, poll, reply, subscribe.callback);
            }
        }
        Ok(())
    }

    /// Makes the connection in `slot` a subscriber of what it asked for with `head`.
    pub(super) fn attach(
        &mut self,
        now: Now,
        slot: Slot,
        head: &Head,
        asked: &Asked,
        start: Start,
        wish: Wish,
    ) -> Result<SubscriberKey, broker::Refusal> {
        let owner = Holder::Connection(slot).into();
        match &asked.names[..] {
            [only] if asked.patterns.is_empty() => {
                self.broker.attach_as(now.at, owner, &[&**only], start, wish)
            }
            names => {
                let names: Vec<&str> = names.iter().map(|name| &**name).collect();
                let client = self.client(slot, head);
                self.broker.searching(now.at, client, |broker, search| {
                    broker.attach_searching(
                        now.at,
                        search,
                        owner,
                        &names,
                        asked.patterns.clone(),
                        (start, wish),
                    )
                })
            }
        }
    }

    /// Attaches a subscriber and makes its connection a WebSocket.
    #[inline(never)]
    pub(super) fn carry_out_open(
        &mut self,
        now: Now,
        slot: Slot,
        open: Open,
        reply: &Reply,
    ) -> Result<(), Response> {
        self.note_right(now, slot, reply.identity);
        self.remember_asker(slot, reply.head);
        let Open { subscribe: Subscribe { asked, start, .. }, stream, response, may_publish } = open;
        match asked.names.is_empty() && asked.patterns.is_empty() {
            true => self.expect_subscription(slot),
            false => self.end_waiting(slot),
        }
        let look = Look::of_socket(stream);
        let attached = self.attach(now, slot, reply.head, asked, start, asked.wish);
        let subscriber =
            attached.map_err(|error| self.refused(slot, error, native::wants_text(reply.head)))?;
        let start = self.broker.hub.place(subscriber);
        let gaps = self.broker.hub.take_gaps(subscriber);
        let begin = self.writer.out.len();
        let envelope =
            Envelope { close: false, ..envelope(self.writer.dates.at(now.unix), reply, &self.writer.cors) };
        response::write_head(&mut self.writer.out, response.status, &envelope);
        let heartbeat = self.config.heartbeat;
        let _ = write!(
            self.writer.out,
            "{}Encke-Heartbeat: {heartbeat}\r\nEncke-Next: {start}\r\n",
            response.fields
        );
        poll::write_gap_field(&mut self.writer.out, &gaps);
        self.writer.out.extend_from_slice(b"\r\n");
        self.writer.out.extend_from_slice(&transport::opening(look, start, "", &self.config));
        self.writer.out.extend(transport::gap_notice(look, &gaps).unwrap_or_default());
        self.broker.stats.streams_started += 1;
        self.telemetry.note_status(response.status);
        let user = User::Subscriber { subscriber, stream, may_publish, loud: asked.loud };
        self.note_client(slot, self.client(slot, reply.head));
        self.log_answer(now.at, slot, begin, true);
        self.connections[slot].enter(Phase::Socket(user), now.at);
        self.note_format(slot);
        self.bound_unsent(slot, subscriber);
        // As with streams, heartbeats are counted from here.
        self.wheel.clear(slot);
        if self.drain.begun {
            self.close_socket(now.at, slot, Some(close::GOING_AWAY), "come back");
        }
        Ok(())
    }

    /// Writes the head of a stream and what it begins with; messages follow at the end of the turn.
    pub(super) fn begin_stream(
        &mut self,
        now: Now,
        slot: Slot,
        stream: Stream,
        reply: &Reply,
        callback: &str,
    ) {
        let Stream { subscriber, look, .. } = stream;
        let chunked = look.chunked;
        let start = self.broker.hub.place(subscriber);
        let gaps = self.broker.hub.take_gaps(subscriber);
        let envelope = Envelope {
            close: !chunked || reply.close,
            ..envelope(self.writer.dates.at(now.unix), reply, &self.writer.cors)
        };
        let begin = self.writer.out.len();
        self.telemetry.note_status(200);
        response::write_head(&mut self.writer.out, 200, &envelope);
        let content_type = transport::content_type(look.stream);
        let _ = write!(
            self.writer.out,
            "Content-Type: {content_type}\r\nCache-Control: {NOT_KEPT}\r\nX-Accel-Buffering: no\r\n{}\
             Encke-Heartbeat: {}\r\nEncke-Next: {start}\r\n",
            transport::precautions(look.stream),
            if look.stream.has_heartbeat() { self.config.heartbeat } else { 0 },
        );
        poll::write_gap_field(&mut self.writer.out, &gaps);
        if chunked {
            self.writer.out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        self.writer.out.extend_from_slice(b"\r\n");
        if reply.head_only {
            self.broker.hub.detach(now.at, subscriber);
            return self.answered(slot, reply.close);
        }
        self.writer.out.extend_from_slice(&transport::opening(look, start, callback, &self.config));
        // What cannot be told in band is told in the head.
        self.writer.out.extend(transport::gap_notice(look, &gaps).unwrap_or_default());
        self.broker.stats.streams_started += 1;
        if self.drain.begun {
            // Its client comes back to whoever serves next.
            self.writer.out.extend(transport::ending(look, Some(self.return_ms(slot))));
            self.broker.hub.detach(now.at, subscriber);
            return self.answered(slot, true);
        }
        self.log_answer(now.at, slot, begin, true);
        self.connections[slot].enter(Phase::Streaming(stream), now.at);
        self.note_format(slot);
        self.bound_unsent(slot, subscriber);
        // Heartbeats are counted from here, not from an earlier deadline.
        self.wheel.clear(slot);
    }

    /// Answers a poll if there is anything to answer, else parks it.
    pub(super) fn begin_poll(
        &mut self,
        now: Now,
        slot: Slot,
        poll: Poll,
        reply: &Reply,
        callback: Option<&str>,
    ) {
        let waits = poll.polling.waits() && !reply.head_only && !self.drain.begun;
        let is_held = !poll.pace.is_none() && !self.broker.hub.has_snapshot(poll.subscriber);
        // What is large comes after what is small: many who come for it at once do not keep others waiting.
        let is_ready = self.broker.hub.is_ready(poll.subscriber);
        if waits && (is_held || !is_ready || self.gets_much(now.at, &poll)) {
            return self.park(now, slot, poll, callback);
        }
        let no_news = match poll.polling {
            _ if waits => None,
            Polling::Interval => Some(304),
            Polling::Long | Polling::Script => Some(self.config.poll.no_news_status),
        };
        let retry = self.drain.begun.then(|| self.return_ms(slot).div_ceil(1000));
        let envelope = EnvelopeOf { head_only: reply.head_only, close: reply.close, retry };
        if !self.compose_poll(now, &poll, callback, no_news, envelope) {
            return self.park(now, slot, poll, callback);
        }
        self.broker.hub.detach(now.at, poll.subscriber);
        self.answered(slot, reply.close);
    }

    /// Lets a poll wait for news.
    pub(super) fn park(&mut self, now: Now, slot: Slot, asked: Poll, callback: Option<&str>) {
        self.broker.stats.polls_parked += 1;
        if let Some(callback) = callback {
            self.aside.callbacks.insert(asked.subscriber, callback.into());
        }
        self.connections[slot].enter(Phase::Parked(asked), now.at);
    }
}
