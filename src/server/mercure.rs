//! Mercure carried out: streams that begin and end, and who is told of them.
//!
//! A stream of Mercure is a stream like any other, and is delivered to as one. What is kept beside it, only where it is
//! needed, is the grant by which it listens, as it has to end with that, and what others are told of it.

use super::pending::Shape;
use super::request::{Reply, envelope};
use super::{Server, Sink};
use crate::broker::access::{MercureGrant, Revocation};
use crate::broker::{Client, Refusal};
use crate::carry::{carry, resume};
use crate::conn::{Phase, Request, Slot, Stream};
use crate::dialect::mercure::subscriptions::{self, Query, Subscription};
use crate::dialect::mercure::{self, Asked, Judge, Listen, WELL_KNOWN};
use crate::dialect::{Command, Holder, Identity, native};
use crate::hub::{Gap, Publication, SUBSCRIPTIONS, Start, SubscriberKey};
use crate::id::{MessageId, Secrets, Seed};
use crate::time::{Instant, Now};
use crate::transport::{self, Ending, Look, NOT_KEPT, Streaming};
use crate::wire::head::{Head, Method};
use crate::wire::media;
use crate::wire::response::{self, Envelope, Response};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::rc::Rc;

/// What never ends.
const NEVER: u64 = u64::MAX;
/// When a grant ends that was taken back.
const REVOKED: u64 = 0;

/// What is known of streams of Mercure.
#[derive(Debug)]
pub(super) struct Mercure {
    listeners: BTreeMap<Slot, Listener>,
    /// When their grants end, in milliseconds since 1970.
    ends: BTreeSet<(u64, Slot)>,
    /// What subscribers are named by.
    names: Secrets,
    /// Subscriptions that have ended, of which nobody has been told.
    ended: Vec<Publication>,
}

/// Somebody who listens.
#[derive(Debug)]
struct Listener {
    /// What it goes by, if others are told of it.
    name: Option<Box<str>>,
    selectors: Vec<Box<str>>,
    grant: Option<Rc<MercureGrant>>,
}

resume! {
    Mercure {
        carried: listeners, ends, ended;
        resumed: names;
        given:
    }
}

carry! {
    struct Listener { name, selectors, grant }
}

impl Mercure {
    pub(super) fn new(seed: Seed) -> Self {
        let names = Secrets::new(seed.key("mercure subscribers"));
        Self { listeners: BTreeMap::new(), ends: BTreeSet::new(), names, ended: Vec::new() }
    }

    /// How many listen by a grant, or are told of.
    pub(super) fn listeners(&self) -> usize {
        self.listeners.len()
    }

    /// Those who are known.
    #[cfg(any(test, feature = "check"))]
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.listeners.keys().copied()
    }
}

impl Listener {
    /// Its subscriptions, if others are told of it.
    fn subscriptions<'a>(&'a self, hub: &'a str, active: bool) -> impl Iterator<Item = Subscription<'a>> {
        let payload = self.grant.as_ref().and_then(|grant| grant.payload.as_deref());
        let name = self.name.as_deref();
        let of = move |subscriber: &'a str| {
            self.selectors.iter().map(move |topic| Subscription { hub, topic, subscriber, active, payload })
        };
        name.into_iter().flat_map(of)
    }
}

/// A UUID of version 4 (RFC 9562) out of random bits.
fn uuid(bits: u128) -> Box<str> {
    let bits = bits & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62;
    let hex = format!("{bits:032x}");
    format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]).into()
}

fn unix_ms(now: Now) -> u64 {
    now.unix * 1000 + u64::from(now.unix_ms)
}

impl Server {
    /// Has the hub serve what Mercure needs, by the rules that hold now.
    pub(super) fn serve_mercure(&mut self) {
        let shown = self.access.rules.shown();
        self.broker.serve_mercure(&[WELL_KNOWN, &self.config.mercure.path], shown);
    }

    /// Whether Mercure serves `path`.
    pub(super) fn is_mercure(&self, path: &str) -> bool {
        self.mercure.is_some() && mercure::claims(path, &self.config)
    }

    fn judge(&mut self, now: Now, slot: Slot, head: &Head) -> Judge<'_> {
        let client = Client::of(head, self.connections[slot].peer, &self.config);
        let Self { config, access, broker, .. } = self;
        Judge { config, access, stats: &mut broker.stats, client, now }
    }

    /// The answer to a request whose body has not come, if it does not depend on it.
    #[cold]
    pub(super) fn mercure_before_body(&mut self, now: Now, slot: Slot, head: &Head) -> Option<Response> {
        mercure::before_body(head, self.judge(now, slot, head))
    }

    /// Understands a request and carries it out.
    #[inline(never)]
    pub(super) fn handle_mercure(&mut self, now: Now, slot: Slot, request: &Request, sink: &mut impl Sink) {
        let head = &request.head;
        self.log_request(now, slot, head, None);
        let begin = self.out.len();
        let identity = Identity::default();
        let reply = Reply {
            head_only: head.method == Method::Head,
            close: !head.keep_alive || self.draining || self.connections[slot].door.surplus().is_some(),
            head,
            body: request.body,
            origin: self.cors.find(head),
            identity: &identity,
        };
        let asked = match head.has_fragment {
            true => Asked::Respond(Response::problem(400, native::HAS_FRAGMENT, native::wants_text(head))),
            false => mercure::asked(head, request.body, self.judge(now, slot, head)),
        };
        let response = match asked {
            Asked::Respond(response) => response,
            Asked::Publish { channel, publication } => {
                let has_id = publication.update.as_ref().is_some_and(|update| update.id.is_some());
                let response = self.publish_update(now, slot, head, channel, *publication);
                let shape = (native::wants_text(head), (!has_id).then_some(Shape::Update));
                match self.propose(now.at) {
                    Some(ticket) => {
                        return self.answer_stored(now, slot, ticket, &response, &reply, shape);
                    }
                    None => response,
                }
            }
            Asked::Listen(listen) => match self.begin_mercure(now, slot, *listen, &reply) {
                Ok(()) => return,
                Err(response) => response,
            },
            Asked::List(query) => self.list_subscriptions(&query),
        };
        self.execute(now, slot, Command::Respond(response), &reply, sink);
        self.log_answer(now.at, slot, begin, false);
    }

    fn publish_update(
        &mut self,
        now: Now,
        slot: Slot,
        head: &Head,
        channel: String,
        publication: Publication,
    ) -> Response {
        let client = Client::of(head, self.connections[slot].peer, &self.config);
        let chosen = publication.update.as_ref().and_then(|update| update.id.clone());
        match self.broker.publish_update(now.at, client, channel, publication) {
            Ok(receipts) => {
                let own = || transport::mercure::own_id(receipts.first.published.id);
                let id = chosen.map_or_else(own, String::from);
                Response::new(200, media::TEXT, id.into_bytes())
            }
            Err(refusal) => self.refused(slot, refusal, native::wants_text(head)),
        }
    }

    /// Where a subscriber begins that asks for that.
    fn mercure_start(&self, after: Option<&str>) -> Start {
        let Some(after) = after else { return Start::Now };
        if after == "earliest" {
            return Start::Oldest;
        }
        let own = after.strip_prefix('#').and_then(MessageId::parse);
        Start::After(own.or_else(|| self.broker.hub.find_id(after)).unwrap_or(MessageId::FOREIGN))
    }

    /// Attaches a subscriber and begins its stream.
    fn begin_mercure(&mut self, now: Now, slot: Slot, listen: Listen, reply: &Reply) -> Result<(), Response> {
        let look = Look { stream: Streaming::Mercure, chunked: reply.head.http11 };
        if self.draining {
            self.turn_mercure_away(now, slot, look, self.return_ms(slot), reply);
            return Ok(());
        }
        let Listen { selection, selectors, grant, after, tells_start, head_only } = listen;
        let start = self.mercure_start(after.as_deref());
        let owner = Holder::Connection(slot).into();
        let client = Client::of(reply.head, self.connections[slot].peer, &self.config);
        let attached = self.broker.attach_selection(now.at, client, owner, selection, start);
        let subscriber = match attached {
            Ok(subscriber) => subscriber,
            Err(refusal) => return self.refuse_mercure(now, slot, look, refusal, reply),
        };
        let begin = self.out.len();
        let gaps = self.broker.hub.take_gaps(subscriber);
        let is_exact = matches!(start, Start::After(_)) && gaps.is_empty();
        let answered = after.as_deref().map(|after| if is_exact { after } else { "earliest" });
        self.write_mercure_head(now, look, answered, reply);
        if head_only {
            self.broker.hub.detach(now.at, subscriber);
            self.answered(slot, reply.close);
            self.log_answer(now.at, slot, begin, false);
            return Ok(());
        }
        self.write_mercure_opening(look, &gaps, after.as_deref(), subscriber, tells_start);
        self.broker.stats.streams_started += 1;
        self.log_answer(now.at, slot, begin, true);
        self.connections[slot].enter(Phase::Streaming(Stream { subscriber, look, loud: false }), now.at);
        self.note_format(slot);
        // As with all streams, heartbeats are counted from here.
        self.wheel.clear(slot);
        self.note_listener(now, slot, selectors, grant);
        Ok(())
    }

    fn write_mercure_head(&mut self, now: Now, look: Look, answered: Option<&str>, reply: &Reply) {
        let envelope = Envelope {
            close: !look.chunked || reply.close,
            ..envelope(self.dates.at(now.unix), reply, &self.cors)
        };
        self.telemetry.note_status(200);
        response::write_head(&mut self.out, 200, &envelope);
        let content_type = transport::content_type(look.stream);
        let _ = write!(
            self.out,
            "Content-Type: {content_type}\r\nCache-Control: {NOT_KEPT}\r\nX-Accel-Buffering: no\r\n{}",
            transport::precautions(look.stream),
        );
        if let Some(answered) = answered {
            let _ = write!(self.out, "Last-Event-ID: {answered}\r\n");
        }
        let coding: &[u8] = if look.chunked { b"Transfer-Encoding: chunked\r\n\r\n" } else { b"\r\n" };
        self.out.extend_from_slice(coding);
    }

    fn write_mercure_opening(
        &mut self,
        look: Look,
        gaps: &[Gap],
        after: Option<&str>,
        subscriber: SubscriberKey,
        tells_start: bool,
    ) {
        let position = self.broker.hub.position(subscriber);
        self.out.extend(transport::opening(look, position.into(), "", &self.config));
        if self.config.mercure.gap_events {
            for gap in gaps {
                self.out.extend(transport::mercure::gap_notice(look, gap, after));
            }
        }
        if tells_start {
            self.out.extend(transport::mercure::start_notice(look, position));
        }
    }

    /// Answers who cannot be served now with a stream that ends at once: an EventSource takes no for ever.
    fn turn_mercure_away(&mut self, now: Now, slot: Slot, look: Look, retry_ms: u64, reply: &Reply) {
        let begin = self.out.len();
        self.write_mercure_head(now, look, None, reply);
        if !reply.head_only {
            self.out.extend(transport::cut_short(look, Some(retry_ms)));
        }
        self.log_answer(now.at, slot, begin, false);
        self.answered(slot, true);
    }

    #[cold]
    fn refuse_mercure(
        &mut self,
        now: Now,
        slot: Slot,
        look: Look,
        refusal: Refusal,
        reply: &Reply,
    ) -> Result<(), Response> {
        let is_stream = media::accepts(reply.head, media::EVENT_STREAM);
        match refusal.retry_seconds().filter(|_| is_stream) {
            Some((least, spread)) => {
                let retry_ms = self.retry_after(slot, least, spread) * 1000;
                self.turn_mercure_away(now, slot, look, retry_ms, reply);
                Ok(())
            }
            None => Err(self.refused(slot, refusal, native::wants_text(reply.head))),
        }
    }

    /// Keeps what has to be known of a stream, and tells of it who may know.
    fn note_listener(
        &mut self,
        now: Now,
        slot: Slot,
        selectors: Vec<Box<str>>,
        grant: Option<Rc<MercureGrant>>,
    ) {
        let is_told = self.config.mercure.subscriptions;
        let Some(mercure) = &mut self.mercure else { return };
        if !is_told && grant.is_none() {
            return;
        }
        if let Some(grant) = grant.as_ref().filter(|grant| grant.ends_ms != NEVER) {
            mercure.ends.insert((grant.ends_ms, slot));
        }
        let name = is_told.then(|| uuid(mercure.names.draw()));
        let listener = Listener { name, selectors, grant };
        let events: Vec<Publication> =
            listener.subscriptions(&self.config.mercure.path, true).map(|it| it.event()).collect();
        mercure.listeners.insert(slot, listener);
        self.tell_subscriptions(now, events);
    }

    /// Publishes what is told of subscriptions.
    fn tell_subscriptions(&mut self, now: Now, events: Vec<Publication>) {
        for event in events {
            if let Err(refusal) = self.broker.publish_own(now.at, SUBSCRIPTIONS, event) {
                log::warn!("a subscription is not told of: {}", refusal.detail());
            }
        }
        self.propose(now.at);
    }

    /// Notes that a stream has ended, whoever ended it.
    pub(super) fn mercure_left(&mut self, slot: Slot) {
        let Some(mercure) = &mut self.mercure else { return };
        let Some(listener) = mercure.listeners.remove(&slot) else { return };
        if let Some(grant) = &listener.grant {
            mercure.ends.remove(&(grant.ends_ms, slot));
            mercure.ends.remove(&(REVOKED, slot));
        }
        let ended = listener.subscriptions(&self.config.mercure.path, false).map(|it| it.event());
        mercure.ended.extend(ended);
    }

    /// Whether there are subscriptions to tell of that have ended.
    pub(super) fn has_ended_subscriptions(&self) -> bool {
        self.mercure.as_ref().is_some_and(|mercure| !mercure.ended.is_empty())
    }

    /// Tells of subscriptions that have ended.
    #[cold]
    pub(super) fn tell_ended_subscriptions(&mut self, now: Now) {
        let ended = self.mercure.as_mut().map(|mercure| std::mem::take(&mut mercure.ended));
        self.tell_subscriptions(now, ended.unwrap_or_default());
    }

    /// When the next grant ends by which somebody listens. The wall clock may step until then.
    pub(super) fn next_mercure_end(&self, now: Now) -> Instant {
        let next = self.mercure.as_ref().and_then(|mercure| mercure.ends.first());
        next.map_or(Instant::NEVER, |&(ends, _)| now.at + ends.saturating_sub(unix_ms(now)))
    }

    /// Ends those who listen by a grant that has ended.
    pub(super) fn end_mercure_grants(&mut self, now: Now, sink: &mut impl Sink) {
        while let Some(&(ends, slot)) = self.mercure.as_ref().and_then(|mercure| mercure.ends.first())
            && ends <= unix_ms(now)
        {
            if let Some(mercure) = &mut self.mercure {
                mercure.ends.remove(&(ends, slot));
            }
            let why = if ends == REVOKED { Ending::Revoked } else { Ending::Expired };
            self.end_mercure(now, slot, why, sink);
        }
    }

    /// Ends a stream whose right has ended, in good order: it shall not simply come back.
    fn end_mercure(&mut self, now: Now, slot: Slot, why: Ending, sink: &mut impl Sink) {
        let Some(connection) = self.connections.get(slot) else { return };
        let Phase::Streaming(Stream { subscriber, look, .. }) = connection.phase else { return };
        // What it has not taken it may not have any more.
        if connection.output.is_some() {
            return self.close(now.at, slot);
        }
        let mut bytes = transport::farewell(look, why, self.broker.hub.position(subscriber));
        bytes.extend(transport::ending(look, None));
        self.log_bytes(slot, bytes.len());
        self.leave(now.at, slot);
        self.connections[slot].closing = true;
        self.send_bytes(now.at, slot, &bytes, sink);
        if self.connections.get(slot).is_some_and(|connection| !matches!(connection.phase, Phase::Closed)) {
            self.arm(slot, now.at);
        }
    }

    /// Takes rights of Mercure back. Returns how many listened by them; their grants end with the turn.
    pub(super) fn revoke_mercure(&mut self, now: Now, revocation: &Revocation) -> usize {
        self.access.mercure.revoke(revocation.clone(), now.unix);
        let Some(mercure) = &mut self.mercure else { return 0 };
        let mut count = 0;
        for (slot, listener) in &mercure.listeners {
            if let Some(grant) = listener.grant.as_ref().filter(|grant| grant.is_concerned(revocation)) {
                mercure.ends.remove(&(grant.ends_ms, *slot));
                mercure.ends.insert((REVOKED, *slot));
                count += 1;
            }
        }
        count
    }

    /// Who subscribes, as the API tells it.
    fn list_subscriptions(&self, query: &Query) -> Response {
        let newest = self.broker.hub.newest();
        let cursor = if newest.seq == 0 { "earliest".into() } else { transport::mercure::own_id(newest) };
        let dress = |response: Response| {
            response.with("ETag", format_args!("\"{cursor}\"")).with("Cache-Control", "must-revalidate")
        };
        if query.has.as_deref() == Some(&*cursor) {
            return dress(Response::empty(304));
        }
        let listeners = self.mercure.iter().flat_map(|mercure| mercure.listeners.values());
        let all = listeners.flat_map(|listener| listener.subscriptions(&self.config.mercure.path, true));
        let mut wanted = all.filter(|one| {
            query.topic.as_deref().is_none_or(|topic| topic == one.topic)
                && query.subscriber.as_deref().is_none_or(|subscriber| subscriber == one.subscriber)
        });
        let body = match query.subscriber {
            Some(_) => match wanted.next() {
                Some(one) => subscriptions::single(&one.document(true), &cursor),
                None => return Response::problem(404, "there is no such subscription", query.as_text),
            },
            None => {
                let documents: Vec<String> = wanted.map(|one| one.document(false)).collect();
                subscriptions::collection(&query.path, &cursor, &documents)
            }
        };
        dress(Response::new(200, subscriptions::JSON_LD, body.into_bytes()))
    }
}
