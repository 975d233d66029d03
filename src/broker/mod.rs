//! The door to the hub: who may do what, how often, in which order, and what became of it.
//!
//! Whatever language a client speaks, what it publishes, and what it wants to listen to, comes through here and nowhere
//! else. So there is one budget for each client, one memory of idempotency keys with one rule, and one list of what is
//! refused. Refusals are data; each dialect says them in its own words.
//!
//! ```text
//!                    ┌───────────────────────── Broker ─────────────────────────┐
//!  publish ──────────▶ repeats ─▶ gate ─▶ room for all of it? ─▶ order: numbers ──▶ hub.commit ─▶ receipts
//!  search, attach, … ─▶ gate ─────────────────────────────────────────────────────▶ hub.attach, hub.subscribe
//!                    └──────────────────────────────────────────────────────────┘
//! ```
//!
//! What changes nothing for others (pulling, advancing, detaching) is asked of [`Broker::hub`] directly.

pub mod access;
mod client;
mod everywhere;
mod gate;
mod gathering;
mod mercure;
mod nodes;
mod order;
pub mod presence;
mod proposals;
mod publish;
mod rate;
mod refusal;
mod repeats;
mod several;
mod shared;
mod waiting;

pub use client::{Client, forwarded_for, is_exempt};
pub use gate::{GUESTS, GUESTS_BY_ONE, SAID_IN_DEMO, SAID_IN_DEMO_BY_ONE, Search, Shortage};
pub use publish::{IfMatch, Once, Publishing, Receipt, Receipts, Terms};
pub use rate::{Rate, network};
pub use refusal::Refusal;
pub use repeats::{REMEMBERED_MS, number};
pub use several::Several;
pub use shared::Applied;
pub use waiting::{LogSettings, LogWaiting};

use crate::carry::resume;
use crate::config::Config;
use crate::hub::{
    Change, ChannelKey, Hub, KeyError, Owner, Pattern, Publication, Published, Start, SubscriberKey, Wish,
};
use crate::id::{Secrets, Seed};
use crate::stats::Stats;
use crate::time::Instant;
use gate::Gate;
use order::Order;
use presence::Presence;
use repeats::Repeats;
use std::borrow::Cow;

/// The hub, and the door to it.
#[derive(Debug)]
pub struct Broker {
    /// Channels, rings and cursors. Nobody else publishes, attaches or subscribes there.
    pub hub: Hub,
    order: Order,
    gate: Gate,
    repeats: Repeats,
    /// Who is on which channels.
    pub presence: Presence,
    /// What waits for the log, if there is one.
    log: Option<Box<waiting::Proposals>>,
    /// What names of channels may not contain: that is Mercure's to tell. Empty = nothing.
    reserved: Vec<Box<str>>,
    /// There are names to which not everything can be published.
    has_exceptions: bool,
    /// `limits.message_bytes`, for what patches make.
    message_bytes: usize,
    /// What has been counted beside what the hub counts itself; [`Broker::stats`] has both.
    pub stats: Stats,
}

resume! {
    Broker {
        carried: order, stats;
        resumed: hub, gate, repeats, presence;
        given: log, message_bytes, reserved, has_exceptions
    }
}

/// Whether any of the channels, or topics, that these messages are for is such a one.
fn names(messages: &Several<(Cow<str>, Publication)>, is_one: impl Fn(&str) -> bool) -> bool {
    messages.iter().any(|(name, publication)| match &publication.update {
        Some(update) => update.topics.iter().any(|topic| is_one(topic)),
        None => is_one(name),
    })
}

impl Broker {
    /// An empty hub, and nobody who has done anything.
    pub fn new(config: &Config, seed: Seed, now: Instant) -> Self {
        let mut broker = Self {
            hub: Hub::new(config, seed.epoch, now),
            order: Order::default(),
            gate: Gate::new(config, seed),
            repeats: Repeats::new(config, seed.key("idempotency")),
            presence: Presence::new(config.presence_seconds * 1000, config.limits.presence_members),
            log: None,
            reserved: Vec::new(),
            has_exceptions: false,
            message_bytes: config.limits.message_bytes,
            stats: Stats::default(),
        };
        broker.hub.count_moments_from((Secrets::new(seed.key("moments of loss")).draw() >> 88) as u64);
        broker.find_exceptions();
        broker
    }

    /// Finds out whether there are names to which not everything can be published.
    fn find_exceptions(&mut self) {
        self.has_exceptions = self.gate.is_demo() || self.hub.has_presence() || !self.reserved.is_empty();
    }

    /// Takes other settings, as far as they may change while the server runs.
    pub fn reconfigure(&mut self, config: &Config) {
        let shows_more = self.hub.reconfigure(config);
        self.presence.reconfigure(config.presence_seconds * 1000, config.limits.presence_members);
        self.gate.reconfigure(config);
        self.repeats.reconfigure(config);
        self.find_exceptions();
        self.ask_who_is_here(shows_more);
    }

    /// Publishes all of it, or nothing. A repeat is answered like the first and publishes nothing.
    ///
    /// # Errors
    ///
    /// The client publishes too much, its key belongs to another request, or there is no room for a new channel.
    pub fn publish<'b>(
        &mut self,
        now: Instant,
        client: Client,
        publishing: Publishing<'b>,
    ) -> Result<Receipts<'b>, Refusal> {
        let Publishing { mut messages, once, whose, terms } = publishing;
        let known = once
            .map(|once| self.repeats.find(now, once, whose.as_deref(), &messages, terms.as_deref()))
            .transpose();
        let known = known.inspect_err(|_| self.stats.publications_refused += 1)?;
        if let Some(earlier) = known.as_ref().and_then(|known| known.receipts.clone()) {
            self.stats.messages_repeated += 1;
            known.iter().for_each(|known| self.note_repeat(known.place(), &earlier));
            return Ok(earlier);
        }
        if self.has_exceptions
            && let Some(refusal) = self.exception(now, client, &messages)
        {
            self.stats.publications_refused += 1;
            return Err(refusal);
        }
        if !self.gate.admits_publications(now, client, messages.len()) {
            self.stats.publications_refused += 1;
            return Err(Refusal::TooManyMessages);
        }
        self.check_log()?;
        if let Some(terms) = &terms {
            self.check_keys(&messages)?;
            self.note_terms(terms);
        }
        if let Some(terms) = terms {
            self.try_out(now, &mut messages, &terms)?;
        } else if messages.len() > 1 && messages.first.1.key.is_some() {
            // The same value on several channels.
            self.try_out(now, &mut messages, &Terms::default())?;
        }
        let found = match messages.len() {
            1 => self.hub.admits_one(&messages.first.0, &messages.first.1)?,
            _ => self.hub.admits(messages.iter().map(|(channel, _)| &**channel)).map(|()| None)?,
        };
        let receipts = messages.map(|(channel, publication)| {
            let published = self.accept(now, &channel, found, publication);
            Receipt { channel, published }
        });
        if let Some(known) = known {
            let place = known.place();
            if self.log.is_some() {
                self.note_request(now, place, known.remembered(&receipts));
            }
            self.stats.idempotency_keys_forgotten += self.repeats.insert(now, known, &receipts) as u64;
        }
        if self.log.is_some() {
            self.note_receipts(&receipts);
        }
        Ok(receipts)
    }

    /// Why this cannot be published because of the names of its channels.
    #[cold]
    fn exception(
        &mut self,
        now: Instant,
        client: Client,
        messages: &Several<(Cow<str>, Publication)>,
    ) -> Option<Refusal> {
        // The topics of an update have been judged by the draft that it came by.
        let is_reserved =
            |(name, of): &(Cow<str>, Publication)| of.update.is_none() && self.is_reserved(name);
        if messages.iter().any(is_reserved) {
            return Some(Refusal::Reserved);
        }
        if names(messages, |name| self.hub.is_presence(name)) {
            return Some(Refusal::Presence);
        }
        let channels = messages.iter().map(|(channel, _)| &**channel);
        (!self.gate.admits_in_demo(now, client, channels)).then_some(Refusal::TooManyMessages)
    }

    /// Whether `client` may be another guest of the demo in this second; if so, it is counted.
    pub fn admits_guest(&mut self, now: Instant, client: Client) -> bool {
        self.gate.admits_guest(now, client)
    }

    /// Tries changes of keys out: applies patches, and finds out whether all of it can be done.
    #[inline(never)]
    fn try_out(
        &mut self,
        now: Instant,
        messages: &mut Several<(Cow<str>, Publication)>,
        terms: &Terms,
    ) -> Result<(), Refusal> {
        let ids: Vec<_> = messages
            .iter()
            .filter_map(|(channel, publication)| {
                let value = self.hub.value(now, channel, publication.key.as_deref()?);
                Some(value.map(|message| message.id))
            })
            .collect();
        let mut patches = terms.patches.iter().copied().peekable();
        let changes = messages.iter_mut().enumerate().map(|(place, (channel, publication))| Change {
            channel,
            publication,
            is_patch: patches.next_if_eq(&place).is_some(),
        });
        if let Err((place, error)) = self.hub.resolve(now, changes, self.message_bytes) {
            self.stats.keys_refused += u64::from(matches!(error, KeyError::NoRoom(_)));
            return Err(Refusal::Key { error, place });
        }
        match &terms.if_match {
            Some(condition) if !ids.into_iter().all(|id| condition.holds(id)) => Err(Refusal::NotLatest),
            _ => Ok(()),
        }
    }

    /// Numbers a message and makes it history, or has the log do that. `found` is its channel, if it is known.
    #[inline(always)]
    fn accept(
        &mut self,
        now: Instant,
        channel: &str,
        found: Option<ChannelKey>,
        publication: Publication,
    ) -> Published {
        let seq = self.order.accept(self.hub.newest().seq);
        match found {
            _ if self.log.is_some() => self.stage(now, channel, seq, publication),
            Some(key) => self.hub.commit_to(now, key, seq, publication),
            None => self.hub.commit(now, channel, seq, publication),
        }
    }

    /// Publishes a message of the process itself, which nobody counts.
    pub fn publish_own(
        &mut self,
        now: Instant,
        channel: &str,
        publication: Publication,
    ) -> Result<Published, Refusal> {
        self.check_log()?;
        let found = self.hub.admits_one(channel, &publication)?;
        Ok(self.accept(now, channel, found, publication))
    }

    /// Leave for `client` to have channels looked at for its patterns. Tell [`Broker::end_search`] when that is done.
    ///
    /// # Errors
    ///
    /// The client has had too many of them looked at in this second.
    #[cold]
    pub fn search(&mut self, now: Instant, client: Client) -> Result<Search, Refusal> {
        let search = self.gate.begin_search(now, client, &mut self.hub);
        search.inspect_err(|_| self.stats.subscriptions_refused += 1)
    }

    /// Counts for the client what it had looked at.
    #[cold]
    pub fn end_search(&mut self, now: Instant, search: Search) {
        self.gate.end_search(now, search, &mut self.hub);
    }

    /// Does what has channels looked at for `client`: both of the above, for a request that has nothing else to be looked at.
    pub fn searching<R>(
        &mut self,
        now: Instant,
        client: Client,
        work: impl FnOnce(&mut Self, &Search) -> Result<R, Refusal>,
    ) -> Result<R, Refusal> {
        self.begin_visit();
        let search = self.search(now, client)?;
        let done = work(self, &search);
        self.end_search(now, search);
        done
    }

    /// Adds a subscriber of the channels `names`, which must be distinct. No others are looked at for it.
    ///
    /// # Errors
    ///
    /// There is no room for it, or for one of the channels.
    pub fn attach(
        &mut self,
        now: Instant,
        owner: Owner,
        names: &[&str],
        start: Start,
    ) -> Result<SubscriberKey, Refusal> {
        self.check_presence(names.iter().copied())?;
        Ok(self.hub.attach(now, owner, names, Vec::new(), start)?)
    }

    /// The same of one that may want latest values.
    ///
    /// # Errors
    ///
    /// As [`Broker::attach`].
    pub fn attach_as(
        &mut self,
        now: Instant,
        owner: Owner,
        names: &[&str],
        start: Start,
        wish: Wish,
    ) -> Result<SubscriberKey, Refusal> {
        self.check_presence(names.iter().copied())?;
        Ok(self.hub.attach_as(now, owner, names, Vec::new(), start, wish)?)
    }

    /// The same with all channels that match `patterns`, existing ones and those to come.
    pub fn attach_searching(
        &mut self,
        now: Instant,
        search: &Search,
        owner: Owner,
        names: &[&str],
        patterns: Vec<Pattern>,
        begin: (Start, Wish),
    ) -> Result<SubscriberKey, Refusal> {
        self.check_memory(search.is_counted())?;
        self.check_presence(names.iter().copied().chain(patterns.iter().map(Pattern::as_str)))?;
        Ok(self.hub.attach_as(now, owner, names, patterns, begin.0, begin.1)?)
    }

    /// Adds channels and patterns to a subscriber, each beginning where `start` says; what it listens to already is left
    /// as it is. All of it is done, or nothing.
    ///
    /// # Errors
    ///
    /// There is no room for it, or for one of the channels.
    pub fn subscribe(
        &mut self,
        now: Instant,
        search: &Search,
        key: SubscriberKey,
        names: &[&str],
        patterns: &[Pattern],
        start: impl Fn(&str) -> Start,
    ) -> Result<(), Refusal> {
        self.check_memory(search.is_counted())?;
        self.check_presence(names.iter().copied().chain(patterns.iter().map(Pattern::as_str)))?;
        Ok(self.hub.subscribe(now, key, names, patterns, start)?)
    }

    /// Takes channels and patterns away from a subscriber, all of them or none. What was accepted before is still for it, even if
    /// the log has yet to take it.
    ///
    /// # Errors
    ///
    /// It would take more work than the client may cause.
    pub fn unsubscribe(
        &mut self,
        now: Instant,
        _: &Search,
        key: SubscriberKey,
        names: &[&str],
        patterns: &[Pattern],
    ) -> Result<(), Refusal> {
        match self.log.as_ref().and_then(|log| log.invisible()) {
            Some(until) => Ok(self.hub.unsubscribe_later(now, key, names, patterns, until)?),
            None => Ok(self.hub.unsubscribe(now, key, names, patterns)?),
        }
    }

    /// The same for a subscriber that has lost the right to listen to them: what was published before is not for it any
    /// more, and nobody's budget pays for it.
    ///
    /// # Errors
    ///
    /// It would take too much work; all of the subscriber has to end then.
    pub fn take_away(
        &mut self,
        now: Instant,
        key: SubscriberKey,
        names: &[&str],
        patterns: &[Pattern],
    ) -> Result<(), Refusal> {
        Ok(self.hub.take_away(now, key, names, patterns)?)
    }

    /// Another request begins, whose searches have one budget together.
    pub const fn begin_visit(&mut self) {
        self.gate.begin_visit();
    }

    /// Takes note of whom there is no memory for from now on.
    pub const fn note_shortage(&mut self, shortage: Shortage) {
        self.gate.note_shortage(shortage);
    }

    /// Whether there is memory for more that is kept of `client`: a session.
    pub fn admits_session(&self, client: Client) -> bool {
        self.gate.has_memory(client.counted)
    }

    /// Whether there is memory for further subscriptions of somebody who is `counted`, or not.
    fn check_memory(&mut self, counted: bool) -> Result<(), Refusal> {
        if self.gate.has_memory(counted) {
            return Ok(());
        }
        self.stats.subscriptions_refused += 1;
        Err(Refusal::MemoryShort)
    }

    /// Bytes that are remembered of idempotency keys.
    pub const fn remembered_bytes(&self) -> usize {
        self.repeats.bytes()
    }

    /// All that has been counted.
    pub fn stats(&self) -> Stats {
        let (own, hub) = (&self.stats, &self.hub.counts);
        Stats {
            channels_refused: own.channels_refused + hub.channels_refused,
            subscriptions_refused: own.subscriptions_refused + hub.subscriptions_refused,
            messages_published: hub.messages_published,
            frames_encoded: hub.frames_encoded,
            gaps_told: hub.gaps_told,
            messages_evicted: hub.messages_evicted,
            messages_expired: hub.messages_expired,
            keys_refused: own.keys_refused + hub.keys_refused,
            removals_forgotten: hub.removals_forgotten,
            ..own.clone()
        }
    }
}
