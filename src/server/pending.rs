//! Answers that wait for the log: what they tell of is not on the disk yet.
//!
//! With a log, a request that publishes is carried out as ever, but its messages are only proposed; the answer waits with
//! the proposal's ticket. When the log has the messages, they are put into the rings, and the answer is given; if it
//! refuses them, the client is told so instead, and nothing has happened. Requests that are pipelined behind wait, as
//! behind a poll; a WebSocket goes on, and its answers come in order.

use super::access_log::status_of;
use super::{Effect, Server, Sink};
use crate::broker::access::Revocation;
use crate::broker::{self, LogSettings, Receipts};
use crate::conn::{ConnId, OriginIndex, Phase, Slot};
use crate::dialect::native::{answer, websocket as commands};
use crate::dialect::{Act, Holder};
use crate::id::Seq;
use crate::log::{Batch, Condition, Figures, Lost, Opening, Refusal, Tail, Ticket};
use crate::time::{Instant, Now};
use crate::transport;
use crate::wire::media;
use crate::wire::response::{self, Envelope, Response};
use crate::wire::websocket::{self, close};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, VecDeque};

/// Answers that wait.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// In the order of their tickets.
    answers: VecDeque<Waiting>,
    /// How many of a connection wait.
    by_slot: BTreeMap<Slot, usize>,
}

/// An answer, and what it waits for.
#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    id: ConnId,
    answer: Answer,
}

/// An answer in its form.
#[derive(Debug)]
pub(super) enum Answer {
    /// To an HTTP request.
    Http {
        /// The whole answer.
        bytes: Vec<u8>,
        /// What another one takes from the request.
        reply: Refused,
    },
    /// To an HTTP request that published, once the numbers are known.
    Published(Box<Published>),
    /// To a command on a WebSocket that published, once the number is known.
    Outcome {
        /// What became of it.
        receipts: Receipts<'static>,
        /// How many listen may be told.
        told: bool,
        reference: Option<Box<RawValue>>,
    },
    /// To a command on a WebSocket, which is named by what it was given.
    Frames { bytes: Vec<u8>, reference: Option<Box<RawValue>> },
    /// What a protocol with sessions asked for the connection.
    Acts(Vec<Act>),
}

/// An answer to a publication whose numbers are not known yet.
#[derive(Debug)]
pub(super) struct Published {
    receipts: Receipts<'static>,
    shape: Shape,
    reply: Refused,
}

/// How a publication is answered whose numbers are not known yet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// As others that were made so.
    Native(Form),
    /// One of Mercure by the id that it was given.
    Update,
}

impl Shape {
    fn answer(self, receipts: &Receipts) -> Response {
        match self {
            Self::Native(form) => form.answer(receipts, Vec::new()),
            Self::Update => {
                let id = transport::mercure::own_id(receipts.first.published.id);
                Response::new(200, media::TEXT, id.into_bytes())
            }
        }
    }
}

/// How a publication is answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// A list even of one.
    pub(super) list: bool,
    /// Text rather than JSON.
    pub(super) as_text: bool,
    /// How many listen may be told.
    pub(super) told: bool,
    /// It is a removal, which is answered by 200.
    pub(super) is_removal: bool,
}

impl Form {
    /// The answer, written in `room`.
    pub(super) fn answer(self, receipts: &Receipts, room: Vec<u8>) -> Response {
        let mut response = answer::published(receipts, (self.list, self.as_text), self.told, room);
        if self.is_removal {
            response.status = 200;
        }
        response
    }
}

/// What an answer takes from its request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused {
    pub(super) as_text: bool,
    pub(super) head_only: bool,
    pub(super) close: bool,
    pub(super) origin: OriginIndex,
}

impl Answer {
    /// Gives what was published its numbers, from `first`.
    fn number(&mut self, first: Seq) {
        match self {
            Self::Published(published) => broker::number(&mut published.receipts, first),
            Self::Outcome { receipts, .. } => broker::number(receipts, first),
            Self::Http { .. } | Self::Frames { .. } | Self::Acts(_) => {}
        }
    }

    /// What it takes from its request, if that came by HTTP.
    const fn reply(&self) -> Option<Refused> {
        match self {
            Self::Http { reply, .. } => Some(*reply),
            Self::Published(published) => Some(published.reply),
            Self::Outcome { .. } | Self::Frames { .. } | Self::Acts(_) => None,
        }
    }
}

impl Pending {
    /// Whether an answer of the connection in `slot` waits.
    pub(super) fn concerns(&self, slot: Slot) -> bool {
        self.by_slot.contains_key(&slot)
    }

    /// The next answer that waits for a ticket up to `upto`.
    fn next_answer(&mut self, upto: Ticket) -> Option<Waiting> {
        self.answers.front().filter(|waiting| waiting.ticket <= upto)?;
        self.take(0)
    }

    /// An answer that waits for `ticket`.
    fn answer_to(&mut self, ticket: Ticket) -> Option<Waiting> {
        let place = self.answers.partition_point(|waiting| waiting.ticket < ticket);
        self.answers.get(place).filter(|waiting| waiting.ticket == ticket)?;
        self.take(place)
    }

    fn take(&mut self, place: usize) -> Option<Waiting> {
        let waiting = self.answers.remove(place)?;
        if let Some(count) = self.by_slot.get_mut(&waiting.id.slot) {
            *count -= 1;
            if *count == 0 {
                self.by_slot.remove(&waiting.id.slot);
            }
        }
        Some(waiting)
    }
}

impl Server {
    /// Begins to use a log, which says what its history [is](Server::log_opened). That is [applied](Server::apply) before
    /// anybody is served.
    pub fn use_log(&mut self, settings: LogSettings) {
        self.broker.use_log(settings);
    }

    /// Whether the history is not all there yet, so that nobody is served.
    pub fn is_loading(&self) -> bool {
        self.broker.is_loading()
    }

    /// Takes note of what the history is that is going to be applied.
    pub fn log_opened(&mut self, now: Now, opening: Opening) {
        self.broker.log_opened(now.at, opening);
        self.access.tokens.know_guests_by(opening.seed());
    }

    /// Goes on with a log whose history is here already.
    pub fn go_on_with_log(&mut self, now: Now, opening: Opening, settings: LogSettings) {
        self.broker.go_on_with_log(now.at, opening, settings);
        self.access.tokens.know_guests_by(opening.seed());
    }

    /// Gives the log what the request at hand has published. Returns the ticket that its answer must wait for, if it
    /// must.
    #[inline]
    pub(super) fn propose(&mut self, now: Instant) -> Option<Ticket> {
        if self.broker.has_log() { self.propose_to_log(now) } else { None }
    }

    #[inline(never)]
    fn propose_to_log(&mut self, now: Instant) -> Option<Ticket> {
        let proposal = self.broker.propose(now);
        let ticket = self.broker.must_wait_for(proposal.as_ref());
        self.queues.effects.extend(proposal.map(|proposal| Effect::Append(Box::new(proposal))));
        ticket
    }

    /// Has an answer wait for `ticket`.
    pub(super) fn keep_answer(&mut self, ticket: Ticket, id: ConnId, answer: Answer) {
        let pending = &mut self.pending;
        let place = pending.answers.partition_point(|waiting| waiting.ticket <= ticket);
        pending.answers.insert(place, Waiting { ticket, id, answer });
        *pending.by_slot.entry(id.slot).or_default() += 1;
    }

    /// Has the answer to the request in `slot` wait for `ticket`.
    pub(super) fn keep_http(
        &mut self,
        now: Now,
        slot: Slot,
        ticket: Ticket,
        response: &Response,
        (reply, shape): (Refused, Option<Shape>),
    ) {
        self.connections[slot].enter(Phase::Committing, now.at);
        let answer = match (self.broker.take_receipts(), shape) {
            (Some(receipts), Some(shape)) => {
                Answer::Published(Box::new(Published { receipts, shape, reply }))
            }
            _ => Answer::Http { bytes: self.written(now, response, reply), reply },
        };
        self.keep_answer(ticket, self.id(slot), answer);
    }

    fn written(&mut self, now: Now, response: &Response, reply: Refused) -> Vec<u8> {
        let mut bytes = Vec::new();
        response::write_response(&mut bytes, response, &self.envelope_of(now, reply));
        bytes
    }

    fn envelope_of(&mut self, now: Now, reply: Refused) -> Envelope<'_> {
        let Refused { head_only, close, origin, .. } = reply;
        let fields = self.writer.cors.fields(origin);
        Envelope {
            date: self.writer.dates.at(now.unix),
            head_only,
            close,
            fields,
            keep_alive: &self.writer.keep_alive,
        }
    }

    /// Hands back what a protocol asks for a connection of which answers wait: it has to wait, too.
    pub(super) fn after_answers(&mut self, id: ConnId, act: Act) -> Option<Act> {
        if !self.pending.concerns(id.slot) {
            return Some(act);
        }
        let last = self.pending.answers.iter_mut().rev().find(|waiting| waiting.id == id);
        match last.map(|waiting| &mut waiting.answer) {
            Some(Answer::Acts(acts)) => acts.push(act),
            _ => return Some(act),
        }
        None
    }

    /// Takes what has become history: puts it into the rings, and gives the answers that waited for it.
    pub fn apply(&mut self, now: Now, mut batch: Batch, sink: &mut impl Sink) {
        let own = batch.own;
        self.take_revoked(now, std::mem::take(&mut batch.revoked));
        let ended = self.broker.apply(now.at, batch, |owner| Holder::connection(owner).is_some());
        ended.into_iter().for_each(|ended| self.end_deleted(now, ended));
        let Some(upto) = own else { return };
        while let Some(waiting) = self.pending.next_answer(upto) {
            self.give(now, waiting, None, sink);
        }
        self.act(now, sink);
    }

    /// Takes what has become history on every server that shares the log, and gives the answers that waited for it.
    pub fn apply_shared(&mut self, now: Now, tails: Vec<Tail>, sink: &mut impl Sink) {
        let ends = |owner| Holder::connection(owner).is_some();
        let (applied, own) = self.broker.apply_shared(now.at, tails, ends);
        // Numbers may be others' now.
        self.writer.pages.clear();
        applied.ended.into_iter().for_each(|ended| self.end_deleted(now, ended));
        self.take_revoked(now, applied.revoked);
        for (ticket, first) in own {
            while let Some(mut waiting) = self.pending.answer_to(ticket) {
                waiting.answer.number(first);
                self.give(now, waiting, None, sink);
            }
        }
        self.act(now, sink);
    }

    /// Takes rights back that were taken back on another server, or in an earlier life.
    pub fn take_revoked(&mut self, now: Now, revoked: Vec<Box<str>>) {
        for revocation in revoked.iter().filter_map(|text| Revocation::of_text(text)) {
            self.revoke(now, revocation);
        }
    }

    /// Gives the answers to a proposal that repeats what was published before, as number `first` and those that follow.
    pub fn repeated(&mut self, now: Now, ticket: Ticket, first: Seq, answer: &[u8], sink: &mut impl Sink) {
        let receipts = self.broker.repeated(now.at, ticket, first, answer);
        if receipts.is_none() {
            self.broker.stats.publications_refused += 1;
        }
        while let Some(waiting) = self.pending.answer_to(ticket) {
            match &receipts {
                Some(receipts) => self.give(now, waiting, Some(receipts), sink),
                None => self.give_refusal(now, waiting, Some(broker::Refusal::KeyReused), "", sink),
            }
        }
        self.act(now, sink);
    }

    /// Tells those whose answers wait for this ticket that what they saw of a value has changed meanwhile.
    pub fn outdated(&mut self, now: Now, ticket: Ticket, sink: &mut impl Sink) {
        self.broker.refuse_shared(now.at, &[ticket], false);
        while let Some(waiting) = self.pending.answer_to(ticket) {
            self.give_refusal(now, waiting, Some(broker::Refusal::Outdated), "", sink);
        }
        self.act(now, sink);
    }

    /// Tells those whose answers wait for these tickets, in whatever order, that the engine did not take what they
    /// published.
    pub fn refuse_shared(&mut self, now: Now, refused: &[Ticket], why: &Refusal, sink: &mut impl Sink) {
        let mut refused = refused.to_vec();
        refused.sort_unstable();
        self.broker.refuse_shared(now.at, &refused, true);
        for ticket in refused {
            while let Some(waiting) = self.pending.answer_to(ticket) {
                self.broker.stats.publications_not_stored += 1;
                self.give_refusal(now, waiting, None, &detail(why), sink);
            }
        }
        self.act(now, sink);
    }

    /// Tells those whose answers wait for tickets up to `upto` that nothing of it happened.
    pub fn refuse_proposals(&mut self, now: Now, upto: Ticket, why: &Refusal, sink: &mut impl Sink) {
        self.broker.refuse(now.at, upto);
        while let Some(waiting) = self.pending.next_answer(upto) {
            self.broker.stats.publications_not_stored += 1;
            self.give_refusal(now, waiting, None, &detail(why), sink);
        }
        self.act(now, sink);
    }

    /// Takes note of the state of the log.
    pub fn log_condition(&mut self, now: Now, condition: Condition) {
        match condition {
            Condition::Ready => {
                let next = self.broker.log_is_ready(now.at);
                let gauges = self.broker.hub.gauges();
                log::info!(
                    "history: loaded; messages: {}, channels: {}, the next number: {next}",
                    gauges.messages,
                    gauges.channels
                );
            }
            Condition::CannotStore(why) => {
                log::error!("cannot store: {why}; publishers get 503, subscribers are served on");
                self.broker.note_sick(Some(why));
            }
            Condition::Well if self.broker.is_shared() => {
                log::info!("engine: at work again");
                self.broker.note_away(now.at, None);
            }
            Condition::Away(why) => {
                log::error!("engine: {why}; publishers get 503, subscribers are served on");
                self.broker.note_away(now.at, Some(why));
            }
            Condition::Well => {
                log::info!("messages are stored again");
                self.broker.note_sick(None);
            }
            Condition::Failed(why) => log::error!("the history is not what was stored: {why}"),
        }
    }

    /// Takes note of what the log has counted.
    pub fn note_figures(&mut self, figures: Figures) {
        self.broker.note_figures(figures);
    }

    /// Which of these rows of the log are of no use any more, and what their channels have lost.
    pub fn not_kept(&self, rows: &[(Seq, Box<str>)]) -> (Vec<Seq>, Vec<Lost>) {
        self.broker.not_kept(rows)
    }

    /// Gives an answer that waited; `earlier` is what the request that it repeats was answered.
    fn give(&mut self, now: Now, waiting: Waiting, earlier: Option<&Receipts>, sink: &mut impl Sink) {
        let Some(slot) = self.find(waiting.id) else { return };
        match waiting.answer {
            Answer::Published(published) => {
                let Published { receipts, shape, reply } = *published;
                let response = shape.answer(earlier.unwrap_or(&receipts));
                let bytes = self.written(now, &response, reply);
                self.give_http(now, slot, &bytes, reply.close, sink);
            }
            Answer::Outcome { receipts, told, reference } => {
                if matches!(self.connections[slot].phase, Phase::Socket(_)) {
                    let one = answer::one(&earlier.unwrap_or(&receipts).first, told);
                    let answer = commands::answer(reference.as_deref(), Ok(one), false);
                    answer
                        .iter()
                        .for_each(|answer| websocket::write_text(&mut self.writer.out, answer.as_bytes()));
                    self.send(now.at, slot, sink);
                }
            }
            Answer::Http { bytes, reply } => self.give_http(now, slot, &bytes, reply.close, sink),
            Answer::Frames { bytes, .. } if matches!(self.connections[slot].phase, Phase::Socket(_)) => {
                self.writer.out.extend_from_slice(&bytes);
                self.send(now.at, slot, sink);
            }
            Answer::Frames { .. } => {}
            Answer::Acts(acts) => self.queues.outbox.extend(acts.into_iter().map(|act| (waiting.id, act))),
        }
    }

    fn give_http(&mut self, now: Now, slot: Slot, bytes: &[u8], close: bool, sink: &mut impl Sink) {
        let close = close || self.drain.begun;
        let connection = &mut self.connections[slot];
        if !matches!(connection.phase, Phase::Committing) {
            return;
        }
        connection.enter(Phase::Idle, now.at);
        connection.closing |= close;
        let begin = self.writer.out.len();
        self.telemetry.note_status(status_of(bytes));
        self.writer.out.extend_from_slice(bytes);
        self.log_answer(now.at, slot, begin, false);
        self.send(now.at, slot, sink);
        let connection = &self.connections[slot];
        if connection.output.is_none() && !connection.closing {
            self.serve_later(now.at, slot, false);
        }
        if !matches!(self.connections[slot].phase, Phase::Closed) {
            self.arm(slot, now.at);
        }
    }

    /// Tells somebody whose answer waited that nothing of it happened: why, or that it could not be stored.
    fn give_refusal(
        &mut self,
        now: Now,
        waiting: Waiting,
        why: Option<broker::Refusal>,
        detail: &str,
        sink: &mut impl Sink,
    ) {
        let Some(slot) = self.find(waiting.id) else { return };
        self.broker.stats.requests_failed += 1;
        let detail = if let Some(why) = why { why.detail() } else { detail };
        let is_socket = matches!(self.connections[slot].phase, Phase::Socket(_));
        let reply = waiting.answer.reply();
        match waiting.answer {
            Answer::Http { .. } | Answer::Published(_) => {
                let Some(reply) = reply else { return };
                let response = match why {
                    Some(why) => self.refused(slot, why, reply.as_text),
                    None => self.not_stored(slot, detail, reply.as_text),
                };
                let bytes = self.written(now, &response, reply);
                self.give_http(now, slot, &bytes, reply.close, sink);
            }
            Answer::Frames { reference, .. } | Answer::Outcome { reference, .. } if is_socket => {
                let answer = commands::answer(reference.as_deref(), Err(detail.to_owned()), false);
                answer
                    .iter()
                    .for_each(|answer| websocket::write_text(&mut self.writer.out, answer.as_bytes()));
                self.send(now.at, slot, sink);
            }
            Answer::Frames { .. } | Answer::Outcome { .. } => {}
            Answer::Acts(acts) => match &self.connections[slot].phase {
                // Its protocol has no word for it: whoever has no answer asks again.
                Phase::Socket(_) => {
                    self.close_socket(now.at, slot, Some(close::TRY_AGAIN_LATER), "cannot store");
                    self.send(now.at, slot, sink);
                }
                Phase::Held(hold) => {
                    let protocol = hold.protocol;
                    if !acts.iter().any(|act| matches!(act, Act::Answer(_))) {
                        self.queues.abandoned.push((waiting.id, protocol));
                    }
                    let response = self.not_stored(slot, detail, false);
                    self.queues.outbox.push((waiting.id, Act::Answer(response)));
                }
                _ => {}
            },
        }
    }

    fn not_stored(&self, slot: Slot, detail: &str, as_text: bool) -> Response {
        Response::problem(503, detail, as_text).with("Retry-After", self.retry_after(slot, 1, 10))
    }
}

fn detail(why: &Refusal) -> String {
    format!(
        "nothing can be stored at the moment ({}); it may be repeated with the same Idempotency-Key",
        why.0
    )
}
