//! The broker with a log: what is published is proposed first, and history only when the log has it.
//!
//! What one request has published is one proposal, all or nothing, with a ticket. The answer to the request waits for
//! the ticket, and so does that to a repeat of it. What the log refuses has never happened: nobody saw it, and its
//! idempotency key is free again.

use super::gathering::Shut;
use super::repeats::Remembered;
use super::waiting::{Ended, LogSettings, LogWaiting, Open, Proposals, SLOW_SECONDS};
use super::{Broker, Receipts, Refusal, Several};
use crate::hub::{ExpiredKey, Hub, Owner, PRESENCE, Publication, Published};
use crate::id::{MessageId, Seq};
use crate::log::{Answered, Batch, Entry, Figures, LogTime, Lost, Opening, Proposal, Record, Ticket};
use crate::time::Instant;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

impl Broker {
    /// Begins to use a log. It is going to say what its history [is](Broker::log_opened), which is to be
    /// [applied](Broker::apply) then, until the log is [ready](Broker::log_is_ready).
    pub fn use_log(&mut self, settings: LogSettings) {
        self.hub.number_nothing();
        if let Some(me) = settings.shared {
            self.presence.share(me);
        }
        self.log = Some(Box::new(Proposals::new(settings)));
    }

    /// Takes note of what the history is. Nobody has been told an id yet.
    pub fn log_opened(&mut self, now: Instant, opening: Opening) {
        self.hub.rename(opening.epoch);
        // A repeat is recognised in every life.
        self.repeats.use_secret(opening.seed().key("idempotency"));
        if let Some(log) = &mut self.log {
            log.ahead_ms = opening.time.0.saturating_sub(now.as_millis());
            log.opening = Some(opening);
            if log.settings.shared.is_some() {
                self.hub.begin_shared(opening.watermark);
            }
        }
    }

    /// Goes on with a log whose history is here already.
    pub fn go_on_with_log(&mut self, now: Instant, opening: Opening, settings: LogSettings) {
        self.use_log(settings);
        self.log_opened(now, opening);
        self.log.iter_mut().for_each(|log| log.loading = false);
    }

    /// Whether the history of earlier lives is being loaded.
    pub fn is_reading(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.loading)
    }

    /// Whether clients have to wait: for that, or until other servers have said who is there.
    pub fn is_loading(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.is_closed())
    }

    /// Whether there is something that the log has not answered.
    pub fn has_open_proposals(&self) -> bool {
        self.log.as_ref().is_some_and(|log| !log.open.is_empty() || !log.staged.is_empty())
    }

    /// Why the server is not well, as far as the log is concerned.
    pub fn complaint(&self, now: Instant) -> Option<String> {
        let log = self.log.as_ref()?;
        if log.settings.shared.is_some() {
            return log.complaint_of_engine(now);
        }
        match &log.sick {
            _ if log.loading => Some("loading".to_owned()),
            Some(why) => Some(format!("cannot store: {why}")),
            None => {
                let waits = log.open.front().map_or(0, |open| now.millis_since(open.since) / 1000);
                (waits > SLOW_SECONDS).then(|| format!("cannot store: the disk has taken {waits} s"))
            }
        }
    }

    /// What the log has counted, and what waits for it; `None` without a log.
    pub fn log_waiting(&self) -> Option<LogWaiting> {
        let log = self.log.as_ref()?;
        Some(LogWaiting { figures: log.figures, proposals: log.open.len(), bytes: log.bytes })
    }

    /// Takes note of what the log has counted.
    pub fn note_figures(&mut self, figures: Figures) {
        if let Some(log) = &mut self.log {
            log.figures = figures;
        }
    }

    /// Notes that nothing can be stored, and why; or that it can again.
    pub fn note_sick(&mut self, why: Option<String>) {
        if let Some(log) = &mut self.log {
            log.sick = why;
        }
    }

    /// Notes that the history of earlier lives has been applied; from now on there are proposals. Returns the number of
    /// the next message.
    pub fn log_is_ready(&mut self, now: Instant) -> Seq {
        let Some(log) = &mut self.log else { return 0 };
        let Some(Opening { mut next, lost, watermark, .. }) = log.opening else { return 0 };
        log.loading = false;
        self.hub.open(now);
        if log.settings.shared.is_some() {
            next = self.hub.newest().seq + 1;
            self.doubt_presence(Seq::MAX);
            self.begin_to_gather(now, Shut::All);
        } else {
            self.hub.suspect(watermark);
            self.hub.go_on_at(next);
            self.hub.lose_presence();
            self.hub.lose(lost);
            self.order.go_on_at(next);
        }
        // Nothing of it has happened in this life.
        let counts = &mut self.hub.counts;
        (counts.messages_published, counts.messages_evicted, counts.messages_expired) = (0, 0, 0);
        next
    }

    /// Notes where the request at hand is remembered, and how a repeat of it is to be answered in later lives.
    pub(super) fn note_request(&mut self, now: Instant, place: Remembered, remembered: Option<Box<[u8]>>) {
        if let Some(log) = &mut self.log {
            let until = LogTime(log.time(now).0 + super::REMEMBERED_MS);
            let answered =
                remembered.map(|answer| Answered { key: place.text().as_str().into(), until, answer });
            log.request.push((place, answered));
        }
    }

    /// Notes that the request at hand repeats the one that is remembered there.
    pub(super) fn note_repeat(&mut self, place: Remembered, earlier: &Receipts<'static>) {
        if let Some(log) = &mut self.log {
            log.repeats = log.places.get(&place).copied();
            if log.settings.shared.is_some() && log.repeats.is_some() {
                log.shared.receipts = Some(earlier.clone());
            }
        }
    }

    /// Whether the log takes more at the moment.
    ///
    /// # Errors
    ///
    /// Too much waits for it.
    pub(super) fn check_log(&self) -> Result<(), Refusal> {
        match &self.log {
            Some(log) if log.closed => Err(Refusal::LogBehind),
            _ => Ok(()),
        }
    }

    /// Whether no value that is to be patched, removed or compared waits for the log.
    ///
    /// # Errors
    ///
    /// One does: what would come of it is not known yet.
    pub(super) fn check_keys(&self, messages: &Several<(Cow<str>, Publication)>) -> Result<(), Refusal> {
        let Some(log) = self.log.as_ref().filter(|log| !log.keys.is_empty()) else { return Ok(()) };
        let waits = messages.iter().any(|(channel, publication)| {
            let key = publication.key.as_deref().unwrap_or_default();
            log.keys.contains_key(&(Box::from(&**channel), Box::from(key)))
        });
        if waits { Err(Refusal::LogBehind) } else { Ok(()) }
    }

    /// Publishes the removals of values that have expired. Returns a proposal of them.
    pub fn remove_expired(&mut self, now: Instant) -> Option<Proposal> {
        if self.is_reading() || !self.hub.has_expired_keys() {
            return None;
        }
        let mut expired = self.hub.take_expired_keys();
        // What changes the key is on its way: if that is refused, the value is still to be removed.
        let waits = |(channel, key): &ExpiredKey| {
            let place = (Box::from(&**channel), key.clone());
            self.log.as_ref().is_some_and(|log| log.keys.contains_key(&place))
        };
        let later: Vec<ExpiredKey> = expired.extract_if(.., |expired| waits(expired)).collect();
        self.hub.return_expired_keys(later);
        // It may have another value by now.
        expired.retain(|(channel, key)| self.hub.has_expired_value(now, channel, key));
        for (channel, key) in &expired {
            self.accept(now, channel, None, Publication::removal(key));
        }
        self.base_on_what_is_known();
        let proposal = self.propose(now)?;
        let log = self.log.as_mut()?;
        log.removals.extend(expired.into_iter().map(|expired| (proposal.ticket, expired)));
        Some(proposal)
    }

    /// Publishes what is to be told of who is on which channels. Returns a proposal of it, if there is a log.
    pub fn tell_presence(&mut self, now: Instant) -> Option<Proposal> {
        if self.presence.is_shared() {
            return self.say_presence(now);
        }
        let mut told = Vec::new();
        for news in self.presence.take_news() {
            let (about, publication) = news.publication();
            let name = format!("{PRESENCE}{}", about.0);
            match self.publish_own(now, &name, publication) {
                Ok(_) => told.push(about),
                Err(_) => self.presence.untold(about),
            }
        }
        let proposal = self.propose(now)?;
        if let Some(log) = &mut self.log {
            log.told.extend(told.into_iter().map(|told| (proposal.ticket, told)));
        }
        Some(proposal)
    }

    /// Keeps a message for the log. It is visible now, or when the log has it; then, what is known of its channel at this
    /// moment is told.
    #[cold]
    pub(super) fn stage(
        &mut self,
        now: Instant,
        channel: &str,
        seq: Seq,
        publication: Publication,
    ) -> Published {
        let behind = self.log.as_ref().is_some_and(|log| log.settings.behind);
        // The log will give the number; until then it is one among those of the request.
        let shared = self.log.as_ref().filter(|log| log.settings.shared.is_some());
        let seq = shared.map_or(seq, |log| 1 + log.staged.len() as Seq);
        let published = match behind {
            true => self.hub.commit(now, channel, seq, publication.clone()),
            false => {
                let (subscribers, kept) = self.hub.counts_of(channel);
                let staged = self.log.iter().flat_map(|log| &log.staged);
                let more = 1 + staged.filter(|record| record.channel() == channel).count();
                let id = MessageId { epoch: self.hub.newest().epoch, seq };
                Published { id, subscribers, messages: kept + more }
            }
        };
        if let Some(log) = &mut self.log {
            let at = log.time(now);
            log.stage(seq, Record::Message { channel: channel.into(), publication, at });
        }
        published
    }

    /// What the request at hand has published, to be given to the log.
    pub fn propose(&mut self, now: Instant) -> Option<Proposal> {
        let log = self.log.as_mut().filter(|log| !log.staged.is_empty())?;
        let records = std::mem::take(&mut log.staged);
        let (first, last) = (log.first, log.first + records.len() as Seq - 1);
        log.tickets += 1;
        let ticket = Ticket(log.tickets);
        let mut answered = None;
        for (place, remembered) in log.request.drain(..) {
            log.places.insert(place, ticket);
            answered = answered.or(remembered);
        }
        let is_based = std::mem::take(&mut log.shared.is_based);
        let seen = is_based.then(|| self.hub.newest().seq);
        let proposal = Proposal { ticket, first, records, answered, seen };
        let bytes = proposal.bytes();
        log.bytes += bytes;
        log.open.push_back(Open { ticket, bytes, since: now, first, last });
        log.closed = log.is_full(now);
        Some(proposal)
    }

    /// The ticket that the answer to the request at hand has to wait for, if it made this proposal.
    pub fn must_wait_for(&mut self, proposal: Option<&Proposal>) -> Option<Ticket> {
        let log = self.log.as_mut()?;
        log.request.clear();
        let repeated = log.repeats.take();
        let own = proposal.map(|proposal| proposal.ticket);
        let ticket = own.or(repeated).filter(|_| !log.settings.behind);
        if ticket.is_none() {
            (log.shared.receipts, log.shared.is_based) = (None, false);
        }
        ticket
    }

    /// Deletes a channel: those whose owner `ends` with it are returned, now or when the log has it. `None` if there is
    /// no such channel.
    ///
    /// # Errors
    ///
    /// Too much waits for the log.
    pub fn delete(
        &mut self,
        now: Instant,
        name: &str,
        ends: impl Fn(Owner) -> bool,
    ) -> Result<Option<Vec<Ended>>, Refusal> {
        self.check_log()?;
        let Some(log) = self.log.as_mut().filter(|_| self.hub.info(name).is_some()) else {
            return Ok(self.hub.delete(now, name, ends));
        };
        let seq = match log.settings.shared.is_some() {
            true => 1,
            false => self.order.accept(self.hub.newest().seq),
        };
        log.stage(seq, Record::Deleted { channel: name.into() });
        match log.settings.behind {
            true => {
                self.hub.go_on_at(seq);
                Ok(self.hub.delete(now, name, ends))
            }
            false => Ok(Some(Vec::new())),
        }
    }

    /// Takes what has become history, and puts it into the rings. Returns whose subscriptions ended with a channel.
    pub fn apply(&mut self, now: Instant, batch: Batch, ends: impl Fn(Owner) -> bool + Copy) -> Vec<Ended> {
        let Some(log) = &mut self.log else { return Vec::new() };
        let epoch = self.hub.newest().epoch;
        let is_ours = batch.own.is_some();
        let mut lost: BTreeMap<&str, Seq> =
            batch.lost.iter().map(|lost| (&*lost.channel, lost.upto)).collect();
        let mut ended = Vec::new();
        if !(is_ours && log.settings.behind) {
            for entry in batch.entries {
                match entry.record {
                    Record::Message { channel, publication, at } if !is_ours => {
                        // Not all at once: of what is not of a channel that is there, few are remembered.
                        if !lost.is_empty() {
                            for name in publication.channels(&channel) {
                                let upto = lost.remove(&*name);
                                upto.into_iter().for_each(|upto| self.hub.restore_loss(&name, upto));
                            }
                        }
                        self.hub.restore((now, log.instant(at)), &channel, entry.seq, publication);
                    }
                    _ => ended.extend(apply(&mut self.hub, now, entry, ends)),
                }
            }
        }
        lost.into_iter().for_each(|(channel, upto)| self.hub.restore_loss(channel, upto));
        for Lost { channel, upto, of_latest } in &batch.lost {
            self.hub.restore_loss_of_latest(channel, *upto, *of_latest);
        }
        if log.loading {
            self.hub.open(now);
            self.hub.tick(now);
        }
        for answered in batch.answered {
            let until = log.instant(answered.until);
            if !is_ours {
                self.repeats.restore(until, &answered.key, &answered.answer, epoch);
            }
        }
        if let Some(upto) = batch.own {
            self.settle(now, upto);
        }
        ended
    }

    /// Takes note that nothing of what was proposed up to `upto` has happened, unless it was applied.
    pub fn refuse(&mut self, now: Instant, upto: Ticket) {
        self.refuse_those(|ticket| ticket <= upto, true);
        self.settle(now, upto);
    }

    /// The same for some; with `again`, values that have expired are to be removed later.
    pub(super) fn refuse_those(&mut self, is_one: impl Fn(Ticket) -> bool, again: bool) {
        let Some(log) = &mut self.log else { return };
        let refused = log.places.iter().filter(|(_, ticket)| is_one(**ticket)).map(|(place, _)| *place);
        let refused: Vec<Remembered> = refused.collect();
        refused.into_iter().for_each(|place| self.repeats.forget(place));
        if again {
            let expired = log.removals.iter().filter(|(ticket, _)| is_one(*ticket));
            self.hub.return_expired_keys(expired.map(|(_, expired)| expired.clone()).collect());
        }
        for (_, about) in log.told.iter().filter(|(ticket, _)| is_one(*ticket)) {
            self.presence.untold(about.clone());
        }
    }

    fn settle(&mut self, now: Instant, upto: Ticket) {
        let Some(log) = &mut self.log else { return };
        log.settle(upto);
        log.places.retain(|_, ticket| *ticket > upto);
        log.keys.retain(|_, ticket| *ticket > upto);
        log.removals.retain(|(ticket, _)| *ticket > upto);
        log.told.retain(|(ticket, _)| *ticket > upto);
        log.closed = log.is_full(now);
        self.hub.part_now(now, &(0..=upto.0), 1);
    }

    /// Which of these rows of the log the hub does not keep, and what their channels have lost.
    pub fn not_kept(&self, rows: &[(Seq, Box<str>)]) -> (Vec<Seq>, Vec<Lost>) {
        let kept = rows.iter().filter(|(seq, channel)| self.hub.keeps(channel, *seq)).map(|&(seq, _)| seq);
        let kept: BTreeSet<Seq> = kept.collect();
        let mut dead: Vec<Seq> = rows.iter().map(|&(seq, _)| seq).filter(|seq| !kept.contains(seq)).collect();
        dead.dedup();
        let mut names: Vec<&Box<str>> = rows.iter().map(|(_, channel)| channel).collect();
        names.sort_unstable();
        names.dedup();
        let lost = names.into_iter().map(|channel| {
            let (upto, of_latest) = (self.hub.lost_on(channel), self.hub.lost_of_latest_on(channel));
            Lost { channel: channel.clone(), upto, of_latest }
        });
        (dead, lost.filter(|lost| lost.upto > 0).collect())
    }
}

fn apply(
    hub: &mut Hub,
    now: Instant,
    Entry { seq, record }: Entry,
    ends: impl Fn(Owner) -> bool,
) -> Vec<Ended> {
    match record {
        Record::Message { channel, publication, .. } => {
            hub.commit(now, &channel, seq, publication);
            Vec::new()
        }
        Record::Deleted { channel } => {
            // If it takes a number, that is the one.
            hub.go_on_at(seq);
            hub.delete(now, &channel, ends).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}
