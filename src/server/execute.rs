//! Commands of requests, carried out.

use super::pending::{Form, Refused, Shape};
use super::surplus::softened;
use super::{Server, Sink};
use crate::broker;
use crate::broker::access::Guest;
use crate::conn::{OriginIndex, Slot};
use crate::dialect::native::{self, answer};
use crate::dialect::{Command, Denial, Holder, Identity, Operation, Publish, cors};
use crate::hub::PRESENCE;
use crate::log::Ticket;
use crate::time::{HttpDate, Now};
use crate::wire::head::Head;
use crate::wire::response::{self, Envelope, Response};
use std::borrow::Cow;

/// What an answer takes from its request.
pub(super) struct Reply<'a> {
    pub(super) head: &'a Head<'a>,
    /// The request's body, for what is said of a line of it.
    pub(super) body: &'a [u8],
    pub(super) head_only: bool,
    pub(super) close: bool,
    /// The origin that the answer must name.
    pub(super) origin: OriginIndex,
    /// Who asks.
    pub(super) identity: &'a Identity,
}

impl Server {
    /// Carries out a command.
    pub(super) fn execute(
        &mut self,
        now: Now,
        slot: Slot,
        command: Command,
        reply: &Reply,
        sink: &mut impl Sink,
    ) {
        let response = match command {
            Command::Respond(response) => response,
            // It was asked, about all of it.
            Command::Ask(_) => Denial::Unanswered.response(native::wants_text(reply.head)),
            Command::Publish(publish) => {
                let form = Form {
                    list: publish.list,
                    as_text: publish.as_text,
                    told: publish.what.whose.is_none(),
                    is_removal: publish.is_removal,
                };
                let response = self.carry_out_publish(now, slot, publish, reply, form);
                match self.propose(now.at) {
                    Some(ticket) => {
                        let shape = (form.as_text, Some(Shape::Native(form)));
                        return self.answer_stored(now, slot, ticket, &response, reply, shape);
                    }
                    None => response,
                }
            }
            Command::Subscribe(subscribe) => match self.carry_out_subscribe(now, slot, subscribe, reply) {
                Ok(()) => return,
                Err(response) => softened(response, reply.head),
            },
            Command::Watch(subscribe) => {
                self.watch(now);
                match self.carry_out_subscribe(now, slot, subscribe, reply) {
                    Ok(()) => return,
                    Err(response) => response,
                }
            }
            Command::Open(open) => match self.carry_out_open(now, slot, open, reply) {
                Ok(()) => return,
                Err(response) => response,
            },
            Command::Operate(operation) => {
                let as_text = native::wants_text(reply.head);
                let response = self.operate(now, slot, operation, as_text, sink);
                match self.propose(now.at) {
                    Some(ticket) => {
                        return self.answer_stored(now, slot, ticket, &response, reply, (as_text, None));
                    }
                    None => response,
                }
            }
        };
        self.broker.stats.requests_failed += u64::from(response.status >= 400);
        self.telemetry.note_status(response.status);
        let envelope = Envelope {
            keep_alive: &self.writer.keep_alive,
            ..envelope(self.writer.dates.at(now.unix), reply, &self.writer.cors)
        };
        response::write_response(&mut self.writer.out, &response, &envelope);
        if let Cow::Owned(body) = response.body {
            self.writer.keep_room(body);
        }
        self.answered(slot, reply.close);
    }

    /// Has an answer wait until what it tells of is stored.
    #[cold]
    pub(super) fn answer_stored(
        &mut self,
        now: Now,
        slot: Slot,
        ticket: Ticket,
        response: &Response,
        reply: &Reply,
        (as_text, shape): (bool, Option<Shape>),
    ) {
        let refused =
            Refused { as_text, head_only: reply.head_only, close: reply.close, origin: reply.origin };
        self.keep_http(now, slot, ticket, response, (refused, shape));
    }

    /// Carries out what mostly operators ask for.
    #[inline(never)]
    pub(super) fn operate(
        &mut self,
        now: Now,
        slot: Slot,
        operation: Operation,
        as_text: bool,
        sink: &mut impl Sink,
    ) -> Response {
        match operation {
            Operation::Info(name) => match self.broker.hub.info(&name) {
                Some(info) => answer::info(&info, as_text),
                None => no_channel(as_text),
            },
            Operation::List(prefix) => answer::list(self.broker.hub.list(&prefix), as_text),
            Operation::Delete(name) => {
                let ends = |owner| Holder::connection(owner).is_some();
                match self.broker.delete(now.at, &name, ends) {
                    Ok(Some(owners)) => {
                        owners.into_iter().for_each(|ended| self.end_deleted(now, ended));
                        Response::empty(204)
                    }
                    Ok(None) => no_channel(as_text),
                    Err(refusal) => self.refused(slot, refusal, as_text),
                }
            }
            Operation::Value { channel, key, has } => {
                if let Err(refusal) = self.broker.check_presence(std::iter::once(&*channel)) {
                    return self.refused(slot, refusal, as_text);
                }
                let message = self.broker.hub.value(now.at, &channel, &key);
                native::keys::value(message.map(|message| &**message), has.as_ref(), as_text)
            }
            Operation::Presence { channel, names, has_members } => {
                if let Err(refusal) = self.broker.check_presence(std::iter::once(PRESENCE)) {
                    return self.refused(slot, refusal, as_text);
                }
                answer::presence(&channel, &self.broker.presence.look(&channel), names, has_members)
            }
            Operation::Health => self.health(now),
            Operation::Metrics => self.metrics(now),
            Operation::Stats => self.statistics(now),
            Operation::Inquire(inquiry) => self.inquire(now, slot, inquiry, sink),
            Operation::Welcome(guest) => self.welcome(now, slot, &guest, as_text),
            Operation::Revoke(revocation) => {
                let ended = self.revoke_for_good(now, revocation);
                answer::ended(ended, self.broker.has_log(), as_text)
            }
        }
    }

    /// Gives a guest of the demo a token.
    fn welcome(&mut self, now: Now, slot: Slot, guest: &Guest, as_text: bool) -> Response {
        let client = self.client_of(slot);
        if !self.broker.admits_guest(now.at, client) {
            return answer::too_many_guests(as_text);
        }
        match self.access.tokens.welcome(guest, now.unix) {
            Some(welcome) => answer::welcome(&welcome.token, &welcome.id),
            None => Response::problem(404, "there is no demo here", as_text),
        }
    }

    /// Notes that a request has been answered.
    pub(super) fn answered(&mut self, slot: Slot, close: bool) {
        self.connections[slot].closing |= close;
    }

    pub(super) fn carry_out_publish(
        &mut self,
        now: Now,
        slot: Slot,
        publish: Publish,
        reply: &Reply,
        form: Form,
    ) -> Response {
        let client = self.client(slot, reply.head);
        match self.broker.publish(now.at, client, publish.what) {
            Ok(receipts) => form.answer(&receipts, std::mem::take(&mut self.writer.room)),
            Err(refusal) if publish.list => answer::refused_line(refusal, reply.body, publish.as_text)
                .unwrap_or_else(|| self.refused(slot, refusal, publish.as_text)),
            Err(refusal) => self.refused(slot, refusal, publish.as_text),
        }
    }

    /// The answer to what the broker refuses.
    #[cold]
    pub(super) fn refused(&self, slot: Slot, refusal: broker::Refusal, as_text: bool) -> Response {
        let response = answer::refused(refusal, as_text);
        match refusal.retry_seconds() {
            Some((least, spread)) => response.with("Retry-After", self.retry_after(slot, least, spread)),
            None => response,
        }
    }
}

/// What an answer carries beside what it says.
pub(super) fn envelope<'a>(date: HttpDate, reply: &Reply, cors: &'a cors::Rules) -> Envelope<'a> {
    let fields = cors.fields(reply.origin);
    Envelope { date, head_only: reply.head_only, close: reply.close, fields, keep_alive: "" }
}

fn no_channel(as_text: bool) -> Response {
    Response::problem(404, "there is no such channel", as_text)
}
