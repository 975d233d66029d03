//! Delivering: at the end of a turn, whoever is ready pulls at its cursor, and what is pulled leaves in one
//! write.

use super::{Body, Effect, Server, Sink, Wrote, write_slices};
use crate::conn::{ConnId, Output, Phase, Poll, Slot};
use crate::dialect::Holder;
use crate::hub::{Encoded, Gap, Message, Pace, SubscriberKey};
use crate::id::{Place, Seq};
use crate::time::{Instant, Now};
use crate::transport::websocket::CLOSE_GAP;
use crate::transport::{self, Format, Look, Streaming, jsonp, poll};
use crate::wire::response::Envelope;
use crate::wire::websocket::close;
use arrayvec::ArrayVec;
use std::borrow::Cow;
use std::io::IoSlice;
use std::rc::Rc;

/// Most messages in one write.
const GATHER_MAX: usize = 64;
/// Milliseconds after which the hub keeps its limits even though somebody waits for a delivery.
const TRIM_MS: u64 = 1000;
/// A write is not made larger than this by a further message.
const GATHER_BYTES_MAX: usize = 256 << 10;
/// What is larger comes after what is not. So does a page of latest values that is not at hand.
pub(super) const SMALL_BYTES: usize = 16 << 10;
/// The same of so many messages.
const SMALL_MESSAGES: usize = 32;

impl Server {
    /// Writes to subscribers that are ready, at most as many as the turn's budget allows. Once nobody waits
    /// for a delivery any more, the hub lets expire what is due and keeps its limits. Returns whether some
    /// are left for the next turn.
    pub fn deliver(&mut self, now: Now, sink: &mut impl Sink) -> bool {
        if self.broker.hub.has_overfull() {
            self.end_overfull(now, sink);
        }
        self.dismiss(now, sink);
        if !self.queues.revoked.is_empty() {
            self.end_revoked(now, sink);
        }
        if !self.queues.due.is_empty() {
            sink.begin_part();
            self.serve_due(now, sink);
        }
        if self.has_untold_subscriptions() {
            self.tell_subscriptions(now, sink);
        }
        if self.has_presence_work(now) {
            self.tick_presence(now);
        }
        self.broker.hub.tick_paces(now.at);
        if self.broker.hub.has_ready() {
            sink.begin_part();
            self.deliver_ready(now, sink);
        }
        if self.broker.hub.has_bulk() {
            sink.begin_part();
            self.deliver_bulk(now, sink);
        }
        if self.queues.has_last() {
            self.serve_last(now, sink);
        }
        let hub = &self.broker.hub;
        let is_left = hub.has_ready() || hub.has_bulk() || !self.queues.put_off.is_empty();
        if !is_left && !self.writer.pages.is_empty() {
            self.writer.pages.clear();
        }
        // A flood does not keep limits from being kept.
        if !is_left || self.memory.trimmed + TRIM_MS <= now.at {
            self.memory.trimmed = now.at;
            self.broker.hub.tick_while(now.at, || !sink.is_late());
            let removals = self.broker.remove_expired(now.at);
            self.queues.effects.extend(removals.map(|proposal| Effect::Append(Box::new(proposal))));
        }
        is_left
    }

    /// Does what comes last, each with a share of the turn.
    #[cold]
    fn serve_last(&mut self, now: Now, sink: &mut impl Sink) {
        sink.begin_part();
        self.deliver_put_off(now, sink);
        self.serve_backlog(now, sink);
        sink.begin_part();
        self.close_departed(now, sink);
    }

    fn deliver_ready(&mut self, now: Now, sink: &mut impl Sink) {
        let mut left = self.config.turn.deliveries;
        while left > 0 {
            let count = self.deliver_plain(now, left, sink);
            left -= count;
            if count > 0 && sink.is_late() {
                return;
            }
            if count == 0 {
                let Some(key) = self.broker.hub.next_ready() else { return };
                left -= usize::from(self.deliver_one(now, key, sink));
                if sink.is_late() {
                    return;
                }
            }
        }
    }

    /// Delivers what is not plain. Returns whether it has, and not left it for later.
    #[inline(never)]
    fn deliver_one(&mut self, now: Now, key: SubscriberKey, sink: &mut impl Sink) -> bool {
        let slot = match Holder::from(self.broker.hub.owner(key)) {
            Holder::Connection(slot) => slot,
            holder => {
                self.session_ready(now, holder, sink);
                return true;
            }
        };
        !self.puts_off(now.at, slot, key) && self.deliver_to(now, slot, key, Turn::Early, sink)
    }

    /// Makes large deliveries, for as long as others can wait, and one of them in any case.
    #[cold]
    fn deliver_bulk(&mut self, now: Now, sink: &mut impl Sink) {
        for _ in 0..self.config.turn.deliveries {
            let Some(key) = self.broker.hub.next_bulk() else { return };
            let Holder::Connection(slot) = Holder::from(self.broker.hub.owner(key)) else { continue };
            if !self.puts_off(now.at, slot, key) {
                self.deliver_to(now, slot, key, Turn::Late, sink);
            }
            if sink.is_late() {
                return;
            }
        }
    }

    /// Delivers to a connection what is not plain. Returns whether it has, and it was not too early for that.
    #[inline(never)]
    pub(super) fn deliver_to(
        &mut self,
        now: Now,
        slot: Slot,
        key: SubscriberKey,
        turn: Turn,
        sink: &mut impl Sink,
    ) -> bool {
        let mut is_early = false;
        let connection = &self.connections[slot];
        match &connection.phase {
            // It pulls when its socket takes bytes again.
            _ if connection.output.is_some() => self.note_newer(now.at, slot, key),
            Phase::Streaming(_) | Phase::Socket(_) => match self.broker.hub.is_latest(key) {
                true => is_early = !self.deliver_latest(now, slot, key, turn, sink),
                false => is_early = !self.deliver_stream(now, slot, key, turn, sink),
            },
            // Its time has not come yet.
            Phase::Parked(_) if self.broker.hub.wish(key).pace == Pace::HELD => {}
            Phase::Parked(poll) if turn == Turn::Early && self.gets_much(now.at, poll) => {
                self.broker.hub.mark_bulk(key);
                is_early = true;
            }
            Phase::Parked(_) => self.answer_poll(now, slot, None, sink),
            _ => debug_assert!(false, "only who listens is ready"),
        }
        self.note_work(now.at, slot, 1, sink);
        !is_early
    }

    /// Whether what a poll would be given is large, or much.
    pub(super) fn gets_much(&self, now: Instant, poll: &Poll) -> bool {
        let mut first: ArrayVec<&Rc<Message>, SMALL_MESSAGES> = ArrayVec::new();
        let max = poll.batch.map_or(1, |max| usize::from(max.get()).min(SMALL_MESSAGES));
        self.broker.hub.pull(now, poll.subscriber, max, &mut first);
        let bytes: usize = first.iter().map(|message| message.publication.data.bytes().len()).sum();
        first.is_full() || bytes > SMALL_BYTES
    }

    /// Writes what a stream lacks. Returns whether it has: what is large has to wait if it is `Early`.
    fn deliver_stream(
        &mut self,
        now: Now,
        slot: Slot,
        key: SubscriberKey,
        turn: Turn,
        sink: &mut impl Sink,
    ) -> bool {
        let gaps = self.broker.hub.take_gaps_for(now.at, key, GATHER_MAX);
        let id = self.id(slot);
        let Some(look) = self.connections[slot].look() else { return true };
        if !gaps.is_empty() {
            let Some(notice) = transport::gap_notice(look, &gaps) else {
                self.cut_off(now.at, slot, sink);
                return true;
            };
            self.log_bytes(slot, notice.len());
            self.send_bytes(now.at, slot, &notice, sink);
            let connection = &self.connections[slot];
            if connection.output.is_some() || matches!(connection.phase, Phase::Closed) {
                return true;
            }
        }
        if self.broker.hub.is_beginning(key) {
            // It is composed for it.
            match turn {
                Turn::Early => self.broker.hub.mark_bulk(key),
                Turn::Late => self.deliver_beginning(now, slot, key, look, sink),
            }
            return turn == Turn::Late;
        }
        let mut written = self.write_pulled(now.at, id, key, look, turn, sink);
        self.broker.hub.charge(&written.encoded);
        if written.is_early {
            self.broker.hub.mark_bulk(key);
            return false;
        }
        if written.broken {
            self.close(now.at, slot);
            return true;
        }
        self.log_bytes(slot, written.offered);
        if let Some((seq, published)) = written.newest {
            self.note_wait(now, key, seq, published, 1);
        }
        if let Some(upto) = written.walked.filter(|_| written.rest.is_none()) {
            // What lies between is not for it.
            written.last = written.last.max(Some(upto));
            written.more |= upto < self.broker.hub.newest().seq;
        }
        self.settle(key, written.last, written.count);
        match written.rest {
            Some(output) => {
                self.block(slot, output, written.taken);
                self.arm(slot, now.at);
            }
            None if written.more => {
                self.note_taken(now.at, slot, written.taken);
                self.broker.hub.mark_bulk(key);
            }
            None => self.note_caught_up(slot),
        }
        true
    }

    /// Ends a stream whose technique cannot tell the gap it has.
    pub(super) fn cut_off(&mut self, now: Instant, slot: Slot, sink: &mut impl Sink) {
        match self.connections[slot].phase {
            Phase::Socket(_) => {
                log::info!("{}: a raw stream with a gap is cut off", self.connections[slot].peer);
                self.close_socket(now, slot, Some(CLOSE_GAP), "messages are missing");
                self.send(now, slot, sink);
            }
            _ => self.close_because(now, slot, "a raw stream with a gap is cut off"),
        }
    }

    /// Pulls what a stream lacks and writes it with one call.
    fn write_pulled(
        &self,
        now: Instant,
        id: ConnId,
        key: SubscriberKey,
        look: Look,
        turn: Turn,
        sink: &mut impl Sink,
    ) -> Written {
        let mut pulled: ArrayVec<&Rc<Message>, GATHER_MAX> = ArrayVec::new();
        self.broker.hub.pull(now, key, GATHER_MAX, &mut pulled);
        let (mut frames, mut offered) = (ArrayVec::<IoSlice, GATHER_MAX>::new(), 0);
        let mut written = Written::default();
        for message in &pulled {
            let (bytes, new) = transport::frame(message, look);
            written.encoded.note(message, new);
            if offered > 0 && offered + bytes.len() > GATHER_BYTES_MAX {
                break;
            }
            offered += bytes.len();
            frames.push(IoSlice::new(bytes));
        }
        written.offered = offered;
        if turn == Turn::Early && offered > SMALL_BYTES {
            return Written { is_early: true, ..written };
        }
        let Wrote::Bytes(taken) = write_slices(sink, id, &frames) else {
            return Written { broken: true, ..written };
        };
        written.taken = taken;
        let (complete, partial) = split(&frames, taken);
        written.rest = (taken < offered).then(|| {
            let mut output = Output::blocked(now);
            if partial > 0 {
                output.push_frame(pulled[complete], Format::Stream(look), partial);
            }
            output
        });
        written.count = complete + usize::from(partial > 0);
        let newest = written.count.checked_sub(1).map(|index| pulled[index]);
        written.newest = newest.map(|message| (message.id.seq, message.published));
        written.last = newest.map(|message| message.id.seq);
        // Only if all that was found is on its way is it known how far it is.
        let walked = self.broker.hub.walked();
        written.walked = walked.filter(|_| frames.len() == pulled.len() && written.count == pulled.len());
        written.more = frames.len() < pulled.len() || pulled.is_full() || self.broker.hub.is_cut(key);
        written
    }

    /// Notes what was delivered.
    pub(super) fn settle(&mut self, key: SubscriberKey, last: Option<Seq>, count: usize) {
        let last = last.unwrap_or_else(|| self.broker.hub.position(key).seq);
        self.broker.hub.advance(key, last);
        self.broker.stats.messages_delivered += count as u64;
        self.broker.stats.deliveries += u64::from(count > 0);
    }

    /// Answers a parked poll with what it lacks. Without news it gets the status `no_news`, or goes on
    /// waiting if there is none. Whatever ends a poll comes here, so that no message is skipped which was
    /// published a moment before.
    pub(super) fn answer_poll(&mut self, now: Now, slot: Slot, no_news: Option<u16>, sink: &mut impl Sink) {
        let connection = &self.connections[slot];
        let Phase::Parked(poll) = connection.phase else { return };
        let close = poll.close || connection.is_done() || self.drain.begun;
        let callback = self.take_callback(poll.subscriber);
        let envelope = EnvelopeOf {
            head_only: false,
            close,
            retry: self.drain.begun.then(|| self.return_ms(slot).div_ceil(1000)),
        };
        let begin = self.writer.out.len();
        if self.compose_poll(now, &poll, callback.as_deref(), no_news, envelope) {
            self.log_answer(now.at, slot, begin, false);
            return self.end_poll(now, slot, close, sink);
        }
        if let Some(callback) = callback {
            self.aside.callbacks.insert(poll.subscriber, callback);
        }
    }

    /// Composes the answer to a poll in `out`, whether it has waited or not. Returns whether there is one to give:
    /// without news there is if `no_news` says its status.
    pub(super) fn compose_poll(
        &mut self,
        now: Now,
        poll: &Poll,
        callback: Option<&str>,
        no_news: Option<u16>,
        EnvelopeOf { head_only, close, retry }: EnvelopeOf,
    ) -> bool {
        let key = poll.subscriber;
        let mut gaps = self.broker.hub.take_gaps_of_poll(key);
        let place = self.broker.hub.place(key);
        let (mut one, mut batch) = (ArrayVec::<&Rc<Message>, 1>::new(), Vec::new());
        let pulled = match poll.max() {
            1 => {
                self.broker.hub.pull(now.at, key, 1, &mut one);
                &one[..]
            }
            max => {
                self.broker.hub.pull(now.at, key, max, &mut batch);
                &batch[..]
            }
        };
        let is_all = pulled.len() < poll.max();
        let count = pulled.len();
        let pulled = poll::cut_batch(pulled, self.memory.batch_bytes(), callback.is_some());
        let mut fields = Cow::Borrowed(self.writer.cors.fields(poll.origin));
        if let Some(seconds) = retry {
            fields = format!("{fields}Retry-After: {seconds}\r\n").into();
        }
        let fields = &*fields;
        let envelope =
            Envelope { date: self.writer.dates.at(now.unix), head_only, close, fields, keep_alive: "" };
        let last = pulled.last().map(|message| message.id);
        let is_all = is_all && pulled.len() == count;
        let newest = self.broker.hub.newest();
        let put_off = match last.filter(|&last| !is_all && !self.broker.hub.is_known(last)) {
            Some(_) => self.broker.hub.put_off_gaps(&mut gaps),
            None => 0,
        };
        let next = match place.ahead > 0 && place.began.is_none() {
            // A snapshot: values up to the last of them, everything else up to when it began, or up to now.
            true => {
                let id = last.unwrap_or(place.id);
                let rest = if is_all { newest.seq } else { place.rest() };
                Place { id, ahead: rest.saturating_sub(id.seq), began: None }
            }
            false => match last {
                // What a crash took was told of, and what is left is all given: it is not to be told again.
                Some(last) if !is_all || self.broker.hub.is_known(last) => {
                    let next = self.broker.hub.place_after(key, last);
                    // Behind all there is, a number says everything.
                    if is_all && next.began.is_some() { newest.into() } else { next }
                }
                // Its client may have been told more by another server than we know of yet.
                _ if place.id.seq > newest.seq => place,
                _ => newest.into(),
            },
        };
        let has_news = !pulled.is_empty() || !gaps.is_empty();
        match no_news {
            _ if has_news => {
                let batch = poll.batch.is_some();
                self.writer.body =
                    write_answer(&mut self.writer.out, pulled, batch, callback, next, &gaps, &envelope);
            }
            Some(status) => write_no_news(&mut self.writer.out, status, callback, next, &envelope),
            None => {}
        }
        let count = pulled.len();
        drop(one);
        let has_waited = poll.polling.waits() && !head_only;
        self.broker.stats.polls_timed_out += u64::from(!has_news && no_news.is_some() && has_waited);
        if has_news || no_news.is_some() {
            self.telemetry.note_status(if has_news { 200 } else { no_news.unwrap_or(200) });
        }
        self.settle(key, last.map(|id| id.seq), count);
        self.broker.hub.counts.gaps_told -= put_off;
        has_news || no_news.is_some()
    }

    /// Turns an answered poll into an idle connection again.
    pub(super) fn end_poll(&mut self, now: Now, slot: Slot, close: bool, sink: &mut impl Sink) {
        self.leave(now.at, slot);
        self.connections[slot].closing |= close;
        self.send(now.at, slot, sink);
        let connection = &self.connections[slot];
        if matches!(connection.phase, Phase::Idle) {
            if connection.output.is_none() && !connection.closing {
                self.serve_later(now.at, slot, false);
            }
            self.arm(slot, now.at);
        }
    }

    /// Ends a stream, or a WebSocket, at a message boundary.
    pub(super) fn end_stream(&mut self, now: Instant, slot: Slot, sink: &mut impl Sink) {
        let connection = &self.connections[slot];
        if matches!(connection.phase, Phase::Socket(_)) {
            self.close_socket(now, slot, Some(close::GOING_AWAY), "come back");
            return self.send(now, slot, sink);
        }
        let Some(look) = connection.look() else { return };
        let retry_ms = self.drain.begun.then(|| self.return_ms(slot));
        let ending = if look.stream == Streaming::Mercure {
            transport::cut_short(look, retry_ms)
        } else {
            transport::ending(look, retry_ms)
        };
        self.log_bytes(slot, ending.len());
        self.leave(now, slot);
        self.connections[slot].closing = true;
        self.send_bytes(now, slot, &ending, sink);
    }
}

/// When somebody is delivered to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Before others: what is large has to wait.
    Early,
    /// When nobody waits for what is small any more.
    Late,
}

/// What an answer's head says beside what is answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct EnvelopeOf {
    /// It has no body.
    pub head_only: bool,
    /// The connection ends with it.
    pub close: bool,
    /// Seconds after which its client is to come back.
    pub retry: Option<u64>,
}

/// What became of one delivery to a stream.
#[derive(Default)]
struct Written {
    /// Messages that are on their way, the last of them perhaps in part.
    count: usize,
    /// The number of the last of them.
    last: Option<Seq>,
    /// The same, and when it was published.
    newest: Option<(Seq, Instant)>,
    /// What was newly encoded.
    encoded: Encoded,
    /// Bytes of all that was to be written.
    offered: usize,
    /// Bytes of it that the socket took.
    taken: usize,
    /// There may be more to pull.
    more: bool,
    /// How far it was walked: what was not pulled up to there is not for the subscriber.
    walked: Option<Seq>,
    /// What the socket did not take.
    rest: Option<Output>,
    /// The connection is broken.
    broken: bool,
    /// Nothing was: it is large, and others come first.
    is_early: bool,
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

/// Appends the answer to a poll that has news. Returns what follows, if it was too large to be appended.
fn write_answer(
    out: &mut Vec<u8>,
    messages: &[&Rc<Message>],
    batch: bool,
    callback: Option<&str>,
    next: Place,
    gaps: &[Gap],
    envelope: &Envelope,
) -> Option<Body> {
    match (messages, callback) {
        (_, Some(callback)) => jsonp::write_answer(out, callback, messages, next, gaps, envelope),
        (_, None) if batch => match poll::write_batch_to_one(out, messages, next, gaps, envelope) {
            Some(encoded) => {
                let (message, format) = (Rc::clone(messages[0]), Some(Format::BatchBody));
                return Some(Body { message, format, encoded });
            }
            None => poll::write_batch(out, messages, next, gaps, envelope),
        },
        ([message, ..], None) => {
            let message = poll::write_verbatim_to_one(out, message, next, gaps, envelope)?;
            return Some(Body { message, format: None, encoded: 0 });
        }
        ([], None) => poll::write_no_news(out, 204, next, gaps, envelope),
    }
    None
}

/// Appends the answer to a poll without news. A script must be a script even then.
fn write_no_news(out: &mut Vec<u8>, status: u16, callback: Option<&str>, next: Place, envelope: &Envelope) {
    match callback {
        Some(callback) => jsonp::write_answer(out, callback, &[], next, &[], envelope),
        None => poll::write_no_news(out, status, next, &[], envelope),
    }
}
