//! Rights that lapse: a grant ends, the settings change, another token is shown. Who loses one is told in band.
//!
//! Ends are looked for when the wall clock says that one may have come: it steps, and a timer that was set once would not
//! notice.

use super::{ENDED, PUBLISHER};
use crate::broker::access::{Bad, Bearer};
use crate::conn::{Phase, Protocol, Slot};
use crate::dialect::identity::NEVER;
use crate::dialect::native::answer;
use crate::dialect::{Denial, Holder, Identity};
use crate::hub::{Pattern, SubscriberKey};
use crate::server::{Server, Sink};
use crate::time::{Instant, Now};
use crate::transport::{self, Ending, Polling, Streaming, jsonp};
use crate::wire::response::{self, Envelope};
use crate::wire::websocket::{self, close};
use std::rc::Rc;

/// After a reload, so many connections are judged again in a turn.
const JUDGED_PER_TURN: usize = 256;

impl Server {
    /// Judges some of those who listen again, after the settings have changed.
    #[cold]
    pub(in crate::server) fn judge_again(&mut self, now: Now, sink: &mut impl Sink) {
        for (place, protocol) in [Protocol::Bayeux, Protocol::Fdajax].into_iter().enumerate() {
            let Some(from) = self.rights.unjudged_sessions[place] else { continue };
            let mut next = None;
            self.consult(now, |dialects, context| {
                next = dialects.judge_some(context, protocol, from, JUDGED_PER_TURN);
            });
            self.rights.unjudged_sessions[place] = next;
        }
        self.act(now, sink);
        let Some(from) = self.rights.unjudged else { return };
        let slots: Vec<Slot> = self.connections.iter().map(|(slot, _)| slot).collect();
        let mut slots = slots.into_iter().skip_while(|slot| slot.index() < from);
        for slot in slots.by_ref().take(JUDGED_PER_TURN) {
            self.judge_connection(now, slot, sink);
        }
        self.rights.unjudged = slots.next().map(Slot::index);
        if self.rights.unjudged.is_none() {
            self.rights.publishers_left = false;
        }
    }

    fn judge_connection(&mut self, now: Now, slot: Slot, sink: &mut impl Sink) {
        let Some(connection) = self.connections.get(slot) else { return };
        let Some(key) = connection.subscriber() else { return };
        if connection.look().is_some_and(|look| look.stream == Streaming::Mercure) {
            // Its client comes back, and is judged as all who come.
            return self.end_stream(now.at, slot, sink);
        }
        let (is_socket, peer) = (matches!(connection.phase, Phase::Socket(_)), connection.peer);
        let was_publisher = self.rights.number(slot) == PUBLISHER;
        let grant = self.rights.grant(slot).map(Rc::clone);
        let has_fallen = grant.as_ref().is_some_and(|grant| !self.access.stands(grant, now.unix));
        if has_fallen || was_publisher && self.rights.publishers_left {
            return self.end_right(now, slot, Ending::Revoked, sink);
        }
        let local = self.config.publish.token.is_empty() && peer.to_canonical().is_loopback();
        let held = self.access.hook.grant_of(Holder::Connection(slot));
        let bearer = Bearer { publisher: was_publisher, local, grant: grant.as_deref(), held, said: &[] };
        let (names, patterns) = self.broker.hub.listens_to(key);
        let items = names.iter().map(|name| &**name).chain(patterns.iter().map(Pattern::as_str));
        if self.access.judge_subscribe(bearer, items).is_ok() {
            return;
        }
        if is_socket {
            self.end_ungranted(now, slot, key, local);
            return self.send(now.at, slot, sink);
        }
        self.end_right(now, slot, Ending::Revoked, sink);
    }

    /// When to look whether a grant has ended: with the next second, as long as there is one that can. The wall clock
    /// may step until then, so its end is not worked out.
    pub(in crate::server) fn next_look_for_ends(&self, now: Now) -> Instant {
        match self.access.next_end() {
            NEVER => Instant::NEVER,
            _ => now.at + (1000 - u64::from(now.unix_ms)),
        }
    }

    /// Ends those who listen by a grant that has ended.
    #[cold]
    pub(in crate::server) fn end_grants(&mut self, now: Now, sink: &mut impl Sink) {
        self.access.begin_sweep();
        for slot in self.rights.holders(|grant| !grant.is_valid(now.unix)) {
            self.end_right(now, slot, Ending::Expired, sink);
        }
        self.rights.grants().for_each(|grant| self.access.note(grant));
        self.consult(now, |dialects, context| dialects.end_grants(context));
        self.act(now, sink);
    }

    /// Ends who listens by a connection, in band: it is told why, and from where it may go on.
    pub(in crate::server) fn end_right(&mut self, now: Now, slot: Slot, why: Ending, sink: &mut impl Sink) {
        let Some(connection) = self.connections.get(slot) else { return self.forget_right(slot) };
        let subscriber = connection.subscriber();
        let (Some(key), Phase::Parked(_) | Phase::Streaming(_) | Phase::Socket(_)) =
            (subscriber, &connection.phase)
        else {
            // It is between two requests, and the next shows another token.
            return self.forget_right(slot);
        };
        if why == Ending::Revoked {
            self.broker.presence.expel(now.at, Holder::Connection(slot).into(), |_| true);
        }
        let is_of_token = self.rights.grant(slot).is_some();
        self.rights.set(slot, ENDED);
        self.access.hook.end(Holder::Connection(slot));
        let refusal = match why {
            Ending::Expired if is_of_token => Denial::BadToken(Bad::EXPIRED),
            Ending::Expired => Denial::Unanswered,
            Ending::Revoked => Denial::Forbidden("listening on".into()),
        };
        match connection.phase {
            Phase::Parked(_) => self.end_poll_by(now, slot, key, (why, &refusal), sink),
            _ => self.end_stream_by(now, slot, key, (why, is_of_token), sink),
        }
    }

    /// Ends a poll in band; `refusal` is its answer, unless a script has to be called.
    fn end_poll_by(
        &mut self,
        now: Now,
        slot: Slot,
        key: SubscriberKey,
        (why, refusal): (Ending, &Denial),
        sink: &mut impl Sink,
    ) {
        let connection = &self.connections[slot];
        let Phase::Parked(parked) = connection.phase else { return };
        let close = parked.close || connection.is_done();
        let next = self.broker.hub.position(key);
        let callback = self.take_callback(key);
        let fields = self.writer.cors.fields(parked.origin);
        let envelope = Envelope {
            date: self.writer.dates.at(now.unix),
            head_only: false,
            close,
            fields,
            keep_alive: &self.writer.keep_alive,
        };
        match callback.filter(|_| parked.polling == Polling::Script) {
            Some(callback) => jsonp::write_ending(&mut self.writer.out, &callback, next, why, &envelope),
            None => {
                let response = refusal.response(false).at(next);
                self.telemetry.note_status(response.status);
                response::write_response(&mut self.writer.out, &response, &envelope);
            }
        }
        self.end_poll(now, slot, close, sink);
    }

    fn end_stream_by(
        &mut self,
        now: Now,
        slot: Slot,
        key: SubscriberKey,
        (why, is_of_token): (Ending, bool),
        sink: &mut impl Sink,
    ) {
        let Some(look) = self.connections[slot].look() else { return };
        let next = self.broker.hub.place(key);
        let notice = transport::farewell(look, why, next);
        if let Phase::Socket(_) = self.connections[slot].phase {
            self.writer.out.extend_from_slice(&notice);
            let (code, reason) = match why {
                Ending::Expired if is_of_token => (close::EXPIRED, "the token has expired"),
                Ending::Expired => (close::EXPIRED, "the right to listen has ended"),
                Ending::Revoked => (close::REVOKED, "the right to listen was revoked"),
            };
            self.close_socket(now.at, slot, Some(code), reason);
            return self.send(now.at, slot, sink);
        }
        let mut bytes = notice;
        bytes.extend_from_slice(&transport::ending(look, None));
        self.leave(now.at, slot);
        self.connections[slot].closing = true;
        self.send_bytes(now.at, slot, &bytes, sink);
        if self.connections.get(slot).is_some_and(|connection| !matches!(connection.phase, Phase::Closed)) {
            self.arm(slot, now.at);
        }
    }

    /// Lets an open WebSocket be judged by another token from now on. What it does not grant ends.
    pub(in crate::server) fn renew(
        &mut self,
        now: Now,
        slot: Slot,
        key: SubscriberKey,
        token: &str,
        may_publish: bool,
    ) -> Result<String, String> {
        if !self.access.is_on() {
            return Err("this server has no [[tokens.keys]] and no rules: it takes no tokens".into());
        }
        let client = self.client_of(slot);
        let Self { access, config, broker, .. } = self;
        let checked = access.check(token, client, config, now, &mut broker.stats);
        if checked == Err(Denial::TooManyBad) {
            self.close_socket(now.at, slot, Some(close::POLICY), "too many bad tokens");
        }
        let grant = checked.map_err(|denial| denial.detail().into_owned())?;
        if let Some(old) = self.rights.grant(slot)
            && old.subject != grant.subject
        {
            return Err("the token is of another subject than the one before".into());
        }
        let expires = grant.ends.saturating_sub(self.config.tokens.leeway_seconds);
        self.set_right(slot, &Identity { grant: Some(grant), ..Identity::default() });
        self.end_ungranted(now, slot, key, may_publish);
        // What others are told may be another.
        self.note_where(now, Holder::Connection(slot).into(), Some(key));
        Ok(format!("{{\"expires\":{expires}}}"))
    }

    /// Ends the subscriptions of an open WebSocket that its user has no right to any more.
    pub(in crate::server) fn end_ungranted(
        &mut self,
        now: Now,
        slot: Slot,
        key: SubscriberKey,
        may_publish: bool,
    ) {
        let (names, patterns) = self.broker.hub.listens_to(key);
        let bearer = self.bearer(slot, may_publish);
        let is_refused = |item: &str| self.access.judge_subscribe(bearer, std::iter::once(item)).is_err();
        let names: Vec<Rc<str>> = names.into_iter().filter(|name| is_refused(name)).collect();
        let patterns: Vec<Pattern> =
            patterns.into_iter().filter(|pattern| is_refused(pattern.as_str())).collect();
        if names.is_empty() && patterns.is_empty() {
            return;
        }
        let borrowed: Vec<&str> = names.iter().map(|name| &**name).collect();
        self.expel(now, slot, |name| borrowed.contains(&name));
        if self.broker.take_away(now.at, key, &borrowed, &patterns).is_err() {
            // It listens to so much that taking some of it away is more work than a command may make: all of it ends.
            return self.close_socket(now.at, slot, Some(close::REVOKED), "the right to listen was revoked");
        }
        let ended = borrowed.iter().copied().chain(patterns.iter().map(Pattern::as_str));
        let notice = answer::revoked(ended);
        if self.connections[slot].look().is_some_and(|look| look.stream == Streaming::WebSocket) {
            websocket::write_text(&mut self.writer.out, notice.as_bytes());
        }
    }
}
