//! The broker with a log that several servers share: who numbers is somebody else.
//!
//! ```text
//! publish ─▶ staged: numbers 1, 2, … ─▶ Proposal ─▶ engine ─▶ Tail on every server, in one order ─▶ rings, ready
//! answers wait ◀─ numbers put right ◀─ own: this proposal begins with number n ◀──┘
//! ```
//!
//! What a request is answered is known up to the numbers of its messages, which are counted from 1 until the log has
//! given them. A repeat of a request that another server took is found by the engine, and answered as it was there.
//! What is made of a value that is there (a patch, a condition, a removal of what has expired) is proposed together with
//! how much of the log was known then; if the value has changed since, the engine refuses it.

use super::access::Revocation;
use super::repeats::{self, Remembered};
use super::waiting::{Ended, Proposals, SLOW_SECONDS};
use super::{Broker, Receipts, Terms};
use crate::hub::Owner;
use crate::id::{MessageId, Seq};
use crate::log::{Entry, Record, Tail, Ticket};
use crate::time::Instant;

/// What comes so many milliseconds after it was accepted comes late.
const LATE_MS: u64 = 1000;

/// What follows from records for who has connections.
#[derive(Debug, Default)]
pub struct Applied {
    /// Whose subscriptions ended with a channel, and where they were.
    pub ended: Vec<Ended>,
    /// Rights that were taken back.
    pub revoked: Vec<Box<str>>,
}

impl Proposals {
    /// Why the server is not well, as far as the engine is concerned.
    pub(super) fn complaint_of_engine(&self, now: Instant) -> Option<String> {
        let seconds = |since: Instant| now.millis_since(since) / 1000;
        let waits = self.open.front().map_or(0, |open| seconds(open.since));
        match &self.shared.away {
            Some((why, since)) => {
                let loading = if self.is_closed() { "loading; " } else { "" };
                Some(format!("{loading}engine: {why}, for {} s", seconds(*since)))
            }
            None if self.is_closed() => Some("loading".to_owned()),
            None => (waits > SLOW_SECONDS).then(|| format!("engine: publications have waited for {waits} s")),
        }
    }

    /// Forgets proposals that the log has answered, in the order of their tickets.
    fn settle_those(&mut self, now: Instant, settled: &[(Ticket, Seq)]) {
        let is_settled = |ticket: Ticket| settled.binary_search_by_key(&ticket, |one| one.0).is_ok();
        let bytes = &mut self.bytes;
        self.open.retain(|open| {
            let goes = is_settled(open.ticket);
            *bytes -= if goes { open.bytes } else { 0 };
            !goes
        });
        self.places.retain(|_, ticket| !is_settled(*ticket));
        self.keys.retain(|_, ticket| !is_settled(*ticket));
        self.removals.retain(|(ticket, _)| !is_settled(*ticket));
        self.closed = self.is_full(now);
    }
}

impl Broker {
    /// Whether numbers are given by a log that several servers share.
    pub fn is_shared(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.settings.shared.is_some())
    }

    /// Servers that share the log, as far as they have said so lately.
    pub fn nodes(&self, now: Instant) -> usize {
        self.log.as_ref().map_or(0, |log| log.shared.nodes.count(now))
    }

    /// Notes that the engine does not do its work, and why; or that it does again.
    pub fn note_away(&mut self, now: Instant, why: Option<String>) {
        let Some(log) = &mut self.log else { return };
        let since = log.shared.away.as_ref().map_or(now, |(_, since)| *since);
        log.shared.away = why.map(|why| (why, since));
        if log.shared.away.is_none() {
            // Nobody could beat.
            self.renew_nodes(now);
        }
    }

    /// Notes what the request at hand is to be answered.
    pub(super) fn note_receipts(&mut self, receipts: &Receipts) {
        let Some(log) = self.log.as_mut().filter(|log| log.settings.shared.is_some()) else { return };
        log.shared.receipts = Some(repeats::owned(receipts));
    }

    /// What the request at hand is to be answered, once its messages have numbers.
    pub fn take_receipts(&mut self) -> Option<Receipts<'static>> {
        self.log.as_mut()?.shared.receipts.take()
    }

    /// Notes that what the request at hand publishes depends on values that are there.
    pub(super) fn note_terms(&mut self, terms: &Terms) {
        if !terms.patches.is_empty() || terms.if_match.is_some() {
            self.base_on_what_is_known();
        }
    }

    /// The same for what is proposed next.
    pub(super) fn base_on_what_is_known(&mut self) {
        if let Some(log) = self.log.as_mut().filter(|log| log.settings.shared.is_some()) {
            log.shared.is_based = true;
        }
    }

    /// Proposes that a right is taken back on every server, and in lives to come; nothing without a log.
    pub fn keep_revocation(&mut self, revocation: &Revocation) {
        let Some(log) = &mut self.log else { return };
        let seq = match log.settings.shared.is_some() {
            true => 1,
            false => self.order.accept(self.hub.newest().seq),
        };
        log.stage(seq, Record::Revoked { text: revocation.text().into(), lapses: revocation.lapses });
    }

    /// Whether there is a log.
    pub const fn has_log(&self) -> bool {
        self.log.is_some()
    }

    /// Takes what has become history on every server, and puts it into the rings.
    pub fn apply_shared(
        &mut self,
        now: Instant,
        tails: Vec<Tail>,
        ends: impl Fn(Owner) -> bool + Copy,
    ) -> (Applied, Vec<(Ticket, Seq)>) {
        let (mut applied, mut own) = (Applied::default(), Vec::new());
        for tail in tails {
            let Some(log) = &mut self.log else { break };
            let at = log.instant(tail.at).min(now).max(log.shared.last_at);
            log.shared.last_at = at;
            // Nobody could have had it from us before: it is as young to our clients as if it had come now.
            if log.loading || at + LATE_MS <= now {
                self.hub.open(now);
            }
            // What we wrote a moment ago shows how the clock of the log has gone on.
            if !log.loading
                && tail.entries.iter().any(|entry| matches!(entry.record, Record::Beat { node, .. } if Some(node) == log.settings.shared))
            {
                log.ahead_ms = tail.at.0.saturating_sub(now.as_millis());
            }
            for Entry { seq, record } in tail.entries {
                self.apply_record(now, at, seq, record, ends, &mut applied);
            }
            own.extend(tail.own);
        }
        if self.is_reading() {
            self.hub.tick(now);
        }
        own.sort_unstable();
        self.settle_shared(now, &own);
        (applied, own)
    }

    fn apply_record(
        &mut self,
        now: Instant,
        at: Instant,
        seq: Seq,
        record: Record,
        ends: impl Fn(Owner) -> bool,
        applied: &mut Applied,
    ) {
        let Some(log) = &mut self.log else { return };
        match record {
            Record::Message { channel, publication, .. } => {
                self.hub.commit(at, &channel, seq, publication);
                return;
            }
            Record::Deleted { channel } => {
                // If it takes a number, that is the one.
                self.hub.go_on_at(seq);
                applied.ended.extend(self.hub.delete(now, &channel, ends).unwrap_or_default());
            }
            Record::Revoked { text, .. } => applied.revoked.push(text),
            Record::Beat { .. } | Record::Left(_) | Record::Asked(_) | Record::AllSaid { .. } => {
                self.apply_of_node(now, at, seq, record);
            }
            Record::Said { node, channel, what } => {
                if self.apply_said(at, (seq, node), &channel, &what) {
                    return;
                }
            }
            Record::Lost(after) => {
                self.repeats.forget_after(after, |place| log.places.contains_key(&place));
                match seq <= after {
                    true => {
                        log.shared.last_at = Instant::default();
                        self.hub.go_back_to(now, after);
                    }
                    false => self.hub.lose_after(now, after, seq),
                }
                // Who died before we came is dead.
                self.renew_nodes(if self.is_reading() { at } else { now });
                self.doubt_presence(after);
                return;
            }
        }
        self.hub.go_on_at(seq + 1);
    }

    /// Takes note of the numbers of what was proposed here.
    fn settle_shared(&mut self, now: Instant, own: &[(Ticket, Seq)]) {
        let Some(log) = self.log.as_mut().filter(|_| !own.is_empty()) else { return };
        let first_of = |ticket: Ticket| own.binary_search_by_key(&ticket, |one| one.0).map(|at| own[at].1);
        for (&place, &ticket) in &log.places {
            if let Ok(first) = first_of(ticket) {
                self.repeats.number(place, first);
            }
        }
        log.settle_those(now, own);
        for (ticket, first) in own {
            self.hub.part_now(now, &(ticket.0..=ticket.0), *first);
        }
        own.iter().for_each(|(ticket, _)| self.presence.note_said(*ticket));
    }

    /// Takes note that a proposal repeats what was published before, on another server perhaps, as number `first` and
    /// those that follow. Returns what is to be answered; `None` if the key belongs to another request.
    pub fn repeated(
        &mut self,
        now: Instant,
        ticket: Ticket,
        first: Seq,
        answer: &[u8],
    ) -> Option<Receipts<'static>> {
        let log = self.log.as_mut()?;
        let place: Remembered = *log.places.iter().find(|(_, of)| **of == ticket)?.0;
        let id = MessageId { epoch: log.opening?.epoch, seq: first };
        let receipts = self.repeats.adopt(now + super::REMEMBERED_MS, place, answer, id);
        self.stats.messages_repeated += u64::from(receipts.is_some());
        log.settle_those(now, &[(ticket, first)]);
        self.let_go(now, ticket);
        receipts
    }

    /// Takes note that nothing of some proposals, in order, has happened. With `again`, values that have expired are to be removed
    /// later.
    pub fn refuse_shared(&mut self, now: Instant, refused: &[Ticket], again: bool) {
        self.refuse_those(|ticket| refused.binary_search(&ticket).is_ok(), again);
        refused.iter().for_each(|ticket| self.presence.note_unsaid(now, *ticket));
        let settled: Vec<(Ticket, Seq)> = refused.iter().map(|ticket| (*ticket, 0)).collect();
        if let Some(log) = &mut self.log {
            log.settle_those(now, &settled);
        }
        refused.iter().for_each(|ticket| self.let_go(now, *ticket));
    }

    /// Nothing of a proposal comes. What was proposed before may still be on its way.
    fn let_go(&mut self, now: Instant, ticket: Ticket) {
        let Some(log) = &self.log else { return };
        let earlier = log.open.partition_point(|open| open.ticket < ticket).checked_sub(1);
        match earlier.map(|at| log.open[at]) {
            Some(open) => self.hub.part_with(ticket.0, (open.ticket.0, open.last)),
            None => self.hub.part_now(now, &(ticket.0..=ticket.0), 0),
        }
    }
}
