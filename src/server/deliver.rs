//! Delivering: at the end of a turn, whoever is ready pulls at its cursor, and what is pulled leaves in one
//! write.

use super::{Server, Sink, Wrote, write_slices};
use crate::conn::{ConnId, Listener, Output, Phase};
use crate::dialect::SESSION_OWNER;
use crate::hub::{Gap, Message, Owner, SubscriberKey};
use crate::id::{MessageId, Seq};
use crate::time::{Instant, Now, http_date};
use crate::transport::websocket::CLOSE_GAP;
use crate::transport::{self, Format, poll};
use crate::wire::response::{self, Envelope, Response};
use crate::wire::websocket::{self, close};
use arrayvec::ArrayVec;
use std::io::IoSlice;
use std::sync::Arc;

/// Most messages in one write.
const GATHER_MAX: usize = 64;
/// A write is not made larger than this by a further message.
const GATHER_BYTES_MAX: usize = 256 << 10;

impl Server {
    /// Writes to subscribers that are ready, at most as many as the turn's budget allows. Returns whether
    /// some are left for the next turn.
    pub fn deliver(&mut self, now: Now, sink: &mut impl Sink) -> bool {
        self.dismiss(now, sink);
        if self.date.0 != now.unix {
            self.date = (now.unix, http_date(now.unix));
        }
        for _ in 0..self.config.turn.deliveries {
            let Some(key) = self.hub.next_ready() else { return false };
            let owner @ Owner(slot) = self.hub.owner(key);
            if slot & SESSION_OWNER != 0 {
                self.session_ready(now, owner, sink);
                continue;
            }
            let slot = slot as usize;
            let connection = &self.connections[slot];
            match &connection.phase {
                // It pulls when its socket takes bytes again.
                _ if connection.output.is_some() => {}
                Phase::Streaming(_) | Phase::Socket(_) => self.deliver_stream(now, slot, key, sink),
                Phase::Parked(_) => self.deliver_poll(now, slot, key, sink),
                _ => debug_assert!(false, "only who listens is ready"),
            }
        }
        self.hub.has_ready()
    }

    /// Writes what a stream lacks.
    fn deliver_stream(&mut self, now: Now, slot: usize, key: SubscriberKey, sink: &mut impl Sink) {
        let gaps = self.hub.take_gaps(key);
        let id = self.id(slot);
        let Some((technique, chunked)) = self.connections[slot].stream() else { return };
        let format = Format::of_stream(technique, chunked);
        if !gaps.is_empty() {
            let Some(notice) = transport::gap_notice(technique, chunked, &gaps) else {
                return self.cut_off(now.at, slot, sink);
            };
            self.send_bytes(now.at, slot, &notice, sink);
            let connection = &self.connections[slot];
            if connection.output.is_some() || matches!(connection.phase, Phase::Closed) {
                return;
            }
        }
        let Some(written) = self.write_pulled(now.at, id, key, format, sink) else {
            return self.close(now.at, slot);
        };
        self.settle(key, written.last, written.count, written.encoded);
        match written.rest {
            Some(output) => {
                self.connections[slot].output = Some(output);
                self.arm(slot, now.at);
            }
            None if written.more => self.hub.mark(key),
            None => {}
        }
    }

    /// Ends a stream whose technique cannot tell the gap it has.
    fn cut_off(&mut self, now: Instant, slot: usize, sink: &mut impl Sink) {
        log::info!("{}: a raw stream with a gap is cut off", self.connections[slot].peer);
        match self.connections[slot].phase {
            Phase::Socket(_) => {
                self.close_socket(now, slot, Some(CLOSE_GAP), "messages are missing");
                self.send(now, slot, sink);
            }
            _ => self.close(now, slot),
        }
    }

    /// Pulls what a stream lacks and writes it with one call; `None` if the connection is broken.
    fn write_pulled(
        &self,
        now: Instant,
        id: ConnId,
        key: SubscriberKey,
        format: Format,
        sink: &mut impl Sink,
    ) -> Option<Written> {
        let mut pulled: ArrayVec<&Arc<Message>, GATHER_MAX> = ArrayVec::new();
        self.hub.pull(now, key, GATHER_MAX, &mut pulled);
        let (mut frames, mut offered, mut encoded) = (ArrayVec::<IoSlice, GATHER_MAX>::new(), 0, 0);
        for message in &pulled {
            let (bytes, new) = transport::frame(message, format);
            encoded += new;
            if offered > 0 && offered + bytes.len() > GATHER_BYTES_MAX {
                break;
            }
            offered += bytes.len();
            frames.push(IoSlice::new(bytes));
        }
        let Wrote::Bytes(taken) = write_slices(sink, id, &frames) else { return None };
        let (complete, partial) = split(&frames, taken);
        let rest = (taken < offered).then(|| {
            let mut output = Output::blocked(now);
            if partial > 0 {
                output.push_frame(pulled[complete], format, partial);
            }
            Box::new(output)
        });
        let count = complete + usize::from(partial > 0);
        let last = count.checked_sub(1).map(|index| pulled[index].id.seq);
        let more = frames.len() < pulled.len() || pulled.is_full();
        Some(Written { count, last, encoded, more, rest })
    }

    /// Notes what was delivered and what was encoded for it.
    fn settle(&mut self, key: SubscriberKey, last: Option<Seq>, count: usize, encoded: usize) {
        let last = last.unwrap_or_else(|| self.hub.position(key).seq);
        self.hub.advance(key, last);
        self.hub.stats.messages_delivered += count as u64;
        self.hub.stats.deliveries += u64::from(count > 0);
        if encoded > 0 {
            self.hub.charge(encoded);
        }
    }

    /// Answers a parked poll.
    fn deliver_poll(&mut self, now: Now, slot: usize, key: SubscriberKey, sink: &mut impl Sink) {
        let gaps = self.hub.take_gaps(key);
        let connection = &self.connections[slot];
        let Phase::Parked(listener) = &connection.phase else { return };
        let close = listener.close || connection.half_closed;
        let is_plain = gaps.is_empty() && !close && listener.origin.is_none();
        let rest = match is_plain.then(|| self.write_shared(now, slot, key, listener, sink)).flatten() {
            Some(Shared::Broken) => return self.close(now.at, slot),
            Some(Shared::Written { last, encoded, rest }) => {
                self.settle(key, Some(last), 1, encoded);
                rest
            }
            None if !self.compose_answer(now, slot, key, &gaps, close) => return,
            None => None,
        };
        self.connections[slot].output = rest;
        self.end_poll(now, slot, close, sink);
    }

    /// Answers a poll with the bytes that all polls of its kind get, if exactly one message is to be told.
    fn write_shared(
        &self,
        now: Now,
        slot: usize,
        key: SubscriberKey,
        listener: &Listener,
        sink: &mut impl Sink,
    ) -> Option<Shared> {
        let mut pulled: ArrayVec<&Arc<Message>, 2> = ArrayVec::new();
        self.hub.pull(now.at, key, if listener.batch { 2 } else { 1 }, &mut pulled);
        let [message] = pulled[..] else { return None };
        let fields = self.cors.fields(None);
        let envelope = Envelope { unix: now.unix, head_only: false, close: false, fields };
        let (answer, encoded) = poll::shared_answer(message, listener.batch, &envelope);
        if !poll::is_current(answer, &self.date.1) {
            return None;
        }
        let Wrote::Bytes(taken) = sink.write(self.id(slot), &[IoSlice::new(answer)]) else {
            return Some(Shared::Broken);
        };
        let rest = (taken < answer.len()).then(|| {
            let mut output = Output::blocked(now.at);
            let format = if listener.batch { Format::PollBatch } else { Format::PollVerbatim };
            output.push_frame(message, format, taken);
            Box::new(output)
        });
        Some(Shared::Written { last: message.id.seq, encoded, rest })
    }

    /// Composes the answer to a poll in `out`. Returns whether there is anything to tell.
    fn compose_answer(
        &mut self,
        now: Now,
        slot: usize,
        key: SubscriberKey,
        gaps: &[Gap],
        close: bool,
    ) -> bool {
        let Phase::Parked(listener) = &self.connections[slot].phase else { return false };
        let max = if listener.batch { usize::from(listener.max) } else { 1 };
        let mut pulled: Vec<&Arc<Message>> = Vec::new();
        self.hub.pull(now.at, key, max, &mut pulled);
        if pulled.is_empty() && gaps.is_empty() {
            self.settle(key, None, 0, 0);
            return false;
        }
        let fields = self.cors.fields(listener.origin);
        let envelope = Envelope { unix: now.unix, head_only: false, close, fields };
        let last = pulled.last().map(|message| message.id);
        let next = last.unwrap_or_else(|| self.hub.newest());
        write_answer(&mut self.out, &pulled, listener.batch, next, gaps, &envelope);
        let count = pulled.len();
        self.settle(key, last.map(|id| id.seq), count, 0);
        true
    }

    /// Answers a parked poll that has no news.
    pub(super) fn answer_no_news(&mut self, now: Now, slot: usize, status: u16, sink: &mut impl Sink) {
        let connection = &self.connections[slot];
        let Phase::Parked(listener) = &connection.phase else { return };
        let fields = self.cors.fields(listener.origin);
        let close = listener.close || connection.half_closed || self.draining;
        let envelope = Envelope { unix: now.unix, head_only: false, close, fields };
        poll::write_no_news(&mut self.out, status, self.hub.newest(), &[], &envelope);
        self.end_poll(now, slot, close, sink);
    }

    /// Turns an answered poll into an idle connection again.
    fn end_poll(&mut self, now: Now, slot: usize, close: bool, sink: &mut impl Sink) {
        self.leave(now.at, slot);
        self.connections[slot].closing |= close;
        self.send(now.at, slot, sink);
        let connection = &self.connections[slot];
        if matches!(connection.phase, Phase::Idle) {
            if connection.output.is_none() && !connection.closing {
                self.serve_waiting(now, slot, sink);
            }
            self.arm(slot, now.at);
        }
    }

    /// Ends a stream, or a WebSocket, at a message boundary.
    pub(super) fn end_stream(&mut self, now: Instant, slot: usize, sink: &mut impl Sink) {
        let connection = &self.connections[slot];
        if matches!(connection.phase, Phase::Socket(_)) {
            self.close_socket(now, slot, Some(close::GOING_AWAY), "come back");
            return self.send(now, slot, sink);
        }
        let Some((_, chunked)) = connection.stream() else { return };
        let closing = transport::closing(chunked);
        self.leave(now, slot);
        self.connections[slot].closing = true;
        self.send_bytes(now, slot, closing, sink);
    }

    /// Ends the subscriber of a deleted channel, which the hub has already detached. Its connection is told
    /// when the turn's answers are written.
    pub(super) fn end_deleted(&mut self, now: Now, owner: Owner) {
        let Owner(slot) = owner;
        self.deleted.push(self.id(slot as usize));
        let connection = &mut self.connections[slot as usize];
        const DETAIL: &str = "the channel has been deleted";
        let mut goodbye = Vec::new();
        let (close, next) = match &connection.phase {
            Phase::Streaming(listener) => {
                goodbye.extend_from_slice(transport::closing(listener.chunked));
                (true, Phase::Idle)
            }
            Phase::Socket(_) => {
                websocket::write_close(&mut goodbye, Some(close::GOING_AWAY), DETAIL);
                (true, Phase::Lingering)
            }
            Phase::Parked(listener) => {
                let close = listener.close || connection.half_closed;
                let fields = self.cors.fields(listener.origin);
                let envelope = Envelope { unix: now.unix, head_only: false, close, fields };
                let gone = Response::problem(410, DETAIL, false);
                response::write_response(&mut goodbye, &gone, &envelope);
                (close, Phase::Idle)
            }
            _ => return,
        };
        connection.enter(next, now.at);
        connection.closing |= close;
        connection.output.get_or_insert_with(|| Box::new(Output::blocked(now.at))).push(&goodbye);
    }

    /// Says goodbye to the subscribers of deleted channels.
    pub(super) fn dismiss(&mut self, now: Now, sink: &mut impl Sink) {
        for id in std::mem::take(&mut self.deleted) {
            self.writable(now, id, sink);
            if let Some(slot) = self.find(id) {
                self.arm(slot, now.at);
            }
        }
    }
}

/// What became of an answer that all polls of a kind share.
enum Shared {
    /// The message with this number is on its way.
    Written { last: Seq, encoded: usize, rest: Option<Box<Output>> },
    /// The connection is broken.
    Broken,
}

/// What became of one delivery to a stream.
struct Written {
    /// Messages that are on their way, the last of them perhaps in part.
    count: usize,
    /// The number of the last of them.
    last: Option<Seq>,
    /// Bytes newly encoded.
    encoded: usize,
    /// There may be more to pull.
    more: bool,
    /// What the socket did not take.
    rest: Option<Box<Output>>,
}

/// How many of `frames` were written whole, and how many bytes of the next.
fn split(frames: &[IoSlice], written: usize) -> (usize, usize) {
    let mut left = written;
    for (index, frame) in frames.iter().enumerate() {
        if left < frame.len() {
            return (index, left);
        }
        left -= frame.len();
    }
    (frames.len(), 0)
}

/// Appends the answer to a poll.
pub(super) fn write_answer(
    out: &mut Vec<u8>,
    messages: &[&Arc<Message>],
    batch: bool,
    next: MessageId,
    gaps: &[Gap],
    envelope: &Envelope,
) {
    match (messages, batch) {
        (_, true) => poll::write_batch(out, messages, next, gaps, envelope),
        ([message, ..], false) => poll::write_verbatim(out, message, gaps, envelope),
        ([], false) => poll::write_no_news(out, 204, next, gaps, envelope),
    }
}
