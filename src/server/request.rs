//! Requests: from bytes to commands, and commands carried out.

use super::deliver::EnvelopeOf;
use super::pending::{Form, Refused, Shape};
use super::surplus::softened;
use super::{BACKLOG_BYTES_MAX, Effect, Server, Sink};
use crate::broker;
use crate::conn::{
    ConnId, Door, Input, OriginIndex, Phase, Poll, Request, Slot, Stream, User, whole_request,
};
use crate::dialect::native::{self, Asked, Targets, answer};
use crate::dialect::{
    Caller, Command, Denial, Heard, Holder, Identity, Open, Operation, Publish, Subscribe, Unheard, cors,
};
use crate::hub::{Pace, Start, SubscriberKey, Wish};
use crate::log::Ticket;
use crate::time::{HttpDate, Instant, Now};
use crate::transport::{self, Look, NOT_KEPT, Polling, Transport, poll};
use crate::wire::head::{self, Head, Method, Refusal};
use crate::wire::response::{self, Envelope, Response};
use crate::wire::websocket::close;
use std::io::Write;
use std::num::NonZeroU16;

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

/// Bytes that cost as much to look at as a small request.
pub(super) const BYTES_PER_UNIT: usize = 64;

/// Why requests are not served any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// There are none.
    Done,
    /// What has been answered has to be written first.
    Backlog,
    /// It is somebody else's turn.
    Time,
}

/// Why a request is refused before its body has come.
enum Early {
    /// Its connection is too many.
    Surplus,
    /// It would be answered so whatever its body.
    Refused(Response),
    /// The application is asked; the body stays in the socket.
    Asking,
}

impl Server {
    /// Serves the requests in `bytes` and writes the answers.
    pub(super) fn serve(&mut self, now: Now, slot: Slot, bytes: &[u8], sink: &mut impl Sink) {
        self.begin_serving();
        let mut stop = self.serve_until_stopped(now, slot, bytes, sink);
        self.send(now.at, slot, sink);
        while stop == Stop::Backlog && self.may_serve(slot) {
            let waiting = self.take_waiting(slot);
            stop = self.serve_until_stopped(now, slot, &waiting, sink);
            self.send(now.at, slot, sink);
        }
        let connection = &mut self.connections[slot];
        if let Phase::Socket(_) = connection.phase
            && connection.input.is_some()
        {
            let frames = self.take_waiting(slot);
            self.receive_frames(now, slot, &frames, sink);
        } else if stop == Stop::Time && connection.output.is_none() && !connection.closing {
            self.serve_later(now.at, slot, true);
        }
        self.end_serving();
    }

    /// Sees to it, in tests, that nobody is served inside somebody else's request: the chain could be as long as there
    /// are connections, and the stack is not.
    fn begin_serving(&mut self) {
        #[cfg(any(test, feature = "check"))]
        assert!(!std::mem::replace(&mut self.serving, true), "one is served inside another one's request");
    }

    fn end_serving(&mut self) {
        #[cfg(any(test, feature = "check"))]
        assert!(std::mem::take(&mut self.serving));
    }

    /// Serves the requests in `bytes`, and keeps what is left. Returns why it stopped.
    fn serve_until_stopped(&mut self, now: Now, slot: Slot, bytes: &[u8], sink: &mut impl Sink) -> Stop {
        let mut input = self.connections[slot].input.take();
        let mut rest = bytes;
        let before = input.as_ref().map_or(0, |input| input.served);
        let mut served = before;
        // Of which nothing is left is no input any more.
        input.take_if(|input| input.is_empty());
        let mut stop = Stop::Done;
        while (!rest.is_empty() || input.as_ref().is_some_and(|input| input.is_complete()))
            && self.may_serve(slot)
        {
            if input.is_none() && sink.is_over(served - before) {
                stop = Stop::Time;
                break;
            }
            served += usize::from(input.is_none());
            if served > self.config.limits.pipelined_requests {
                self.refuse_pipeline(now, slot);
                return Stop::Done;
            }
            if input.is_none() && self.serve_whole(now, slot, &mut rest, sink) {
                continue;
            }
            if let Err(refusal) = self.gather(now, slot, &mut input, &mut rest, sink) {
                self.refuse_head(now, slot, refusal);
                return Stop::Done;
            }
        }
        let units = served - before + (bytes.len() - rest.len()) / BYTES_PER_UNIT;
        self.note_work(now.at, slot, units, sink);
        // Behind a request that closes the connection, or an endless answer, nothing is answered.
        let connection = &self.connections[slot];
        let is_last = connection.closing || matches!(connection.phase, Phase::Streaming(_));
        if !rest.is_empty() && !is_last {
            let input = input.get_or_insert_default();
            input.push(rest);
            input.served = if stop == Stop::Time { served } else { 0 };
        }
        self.keep(slot, input);
        if stop == Stop::Done {
            self.note_reading(now, slot);
        }
        if self.is_full() { Stop::Backlog } else { stop }
    }

    /// Whether what has been answered must be written first.
    fn is_full(&self) -> bool {
        self.out.len() >= BACKLOG_BYTES_MAX || self.body.is_some()
    }

    /// Whether the connection can take another request now.
    fn may_serve(&self, slot: Slot) -> bool {
        let connection = &self.connections[slot];
        let is_free = matches!(connection.phase, Phase::Idle | Phase::Reading);
        is_free && !connection.closing && connection.output.is_none() && !self.is_full()
    }

    /// Ends a connection that asks too much at once.
    #[cold]
    fn refuse_pipeline(&mut self, now: Now, slot: Slot) {
        self.broker.stats.pipelines_refused += 1;
        let detail = "more requests arrive together than limits.pipelined_requests";
        let retry = self.retry_after(slot, 1, 10);
        self.refuse(now, slot, &Response::problem(429, detail, false).with("Retry-After", retry));
    }

    /// Serves the request at the front of `rest`, if all of it is there. Returns whether it was.
    fn serve_whole(&mut self, now: Now, slot: Slot, rest: &mut &[u8], sink: &mut impl Sink) -> bool {
        let mut slots = head::slots();
        let Some((request, used)) = whole_request(rest, &self.config.limits, &mut slots) else {
            return false;
        };
        self.handle(now, slot, &request, sink);
        if !matches!(self.connections[slot].phase, Phase::Asking) {
            *rest = &rest[used..];
        }
        true
    }

    /// Serves a request of which some has arrived before, or has yet to arrive, if it is complete with `rest`.
    #[inline(never)]
    fn gather(
        &mut self,
        now: Now,
        slot: Slot,
        input: &mut Option<Box<Input>>,
        rest: &mut &[u8],
        sink: &mut impl Sink,
    ) -> Result<(), Refusal> {
        let mut slots = head::slots();
        let mut gathering = input.take().unwrap_or_default();
        let was_in_body = gathering.in_body();
        let gathered = gathering.gather(rest, &self.config.limits)?;
        *rest = &rest[gathered.used..];
        if gathered.complete {
            self.handle(now, slot, &gathering.request(&mut slots)?, sink);
            if let Phase::Asking = self.connections[slot].phase {
                *input = Some(gathering);
            }
            return Ok(());
        }
        // What is left over may be all of its body.
        if gathering.in_body() && rest.is_empty() && self.is_short_on(slot) {
            self.refuse_body(now, slot);
            return Ok(());
        }
        self.memory.gathered += gathered.used;
        if gathering.in_body() && !was_in_body {
            let head = &gathering.request(&mut slots)?.head;
            if let Some(refusal) = self.judge_before_body(now, slot, head) {
                match refusal {
                    Early::Surplus => self.turn_away(now, slot, Some(head)),
                    Early::Refused(response) => self.refuse_to(now, slot, Some(head), &response),
                    Early::Asking => {
                        self.connections[slot].enter(Phase::Asking, now.at);
                        self.effects.push_back(Effect::Pause(self.id(slot)));
                        *input = Some(gathering);
                    }
                }
                return Ok(());
            }
            self.connections[slot].enter(Phase::Reading, now.at);
        }
        if gathered.wants_continue {
            self.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        *input = Some(gathering);
        Ok(())
    }

    /// Ends a connection whose body there is no memory for.
    #[cold]
    fn refuse_body(&mut self, now: Now, slot: Slot) {
        let detail = "memory is short (limits.memory); try again later, with a body that arrives at once";
        let retry = self.retry_after(slot, 1, 10);
        self.refuse(now, slot, &Response::problem(503, detail, false).with("Retry-After", retry));
    }

    /// Whether a request is refused whatever its body, which then need not be kept, nor asked for.
    #[cold]
    fn judge_before_body(&mut self, now: Now, slot: Slot, head: &Head) -> Option<Early> {
        let connection = &self.connections[slot];
        match connection.door.surplus() {
            Some(_) => Some(Early::Surplus),
            None if self.claim(head.path).is_some() => None,
            None if self.is_mercure(head.path) => {
                self.mercure_before_body(now, slot, head).map(Early::Refused)
            }
            None => {
                let as_text = native::wants_text(head);
                let mut identity = match self.identify(slot, now, head) {
                    Ok(identity) => identity,
                    Err(refusal) => return Some(Early::Refused(refusal.response(as_text))),
                };
                let mut command = native::before_body(head, self.caller(now, slot, &identity));
                if let Some(Command::Ask(unheard)) = command {
                    match self.hear(now, slot, head, *unheard, 0) {
                        Heard::Word(word) => identity.said.push(word),
                        Heard::Waits => return Some(Early::Asking),
                        Heard::Denied(denial) => return Some(Early::Refused(denial.response(as_text))),
                    }
                    command = native::before_body(head, self.caller(now, slot, &identity));
                }
                match command {
                    Some(Command::Respond(response)) => Some(Early::Refused(response)),
                    _ => None,
                }
            }
        }
    }

    /// Judges a request whose body has not come again, now that the application has said something. Returns whether
    /// the body is to be read.
    #[cold]
    fn go_on_with_body(&mut self, now: Now, slot: Slot, sink: &mut impl Sink) -> bool {
        let Some(input) = self.connections[slot].input.take() else { return true };
        let mut slots = head::slots();
        let Ok(request) = input.request(&mut slots) else { return true };
        let early = if input.is_complete() { None } else { self.judge_before_body(now, slot, &request.head) };
        match early {
            None => {
                let is_awaited = request.head.expects_continue && !input.is_complete();
                if is_awaited && input.body_len() + input.waiting_len() == 0 {
                    self.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
                self.connections[slot].input = Some(input);
                true
            }
            Some(Early::Surplus) => {
                self.turn_away(now, slot, Some(&request.head));
                self.send(now.at, slot, sink);
                false
            }
            Some(Early::Refused(response)) => {
                self.access.hook.forget(self.id(slot));
                self.refuse_to(now, slot, Some(&request.head), &response);
                self.send(now.at, slot, sink);
                false
            }
            Some(Early::Asking) => {
                self.connections[slot].enter(Phase::Asking, now.at);
                self.connections[slot].input = Some(input);
                false
            }
        }
    }

    /// Who sent `head`. Elsewhere than where messages are published and listened to, a token means nothing.
    fn identify(&mut self, slot: Slot, now: Now, head: &Head) -> Result<Identity, Denial> {
        let Self { access, config, broker, connections, .. } = self;
        match access.is_on() || !access.rules.is_open() {
            true if native::is_judged(head.path) => {
                access.identify(head, connections[slot].peer, config, now, &mut broker.stats)
            }
            _ => Ok(Identity::default()),
        }
    }

    /// Who asks by a connection.
    fn caller<'a>(&'a self, now: Now, slot: Slot, identity: &'a Identity) -> Caller<'a> {
        let connection = &self.connections[slot];
        let admin = connection.door == Door::Admin || self.config.admin_listen.is_none();
        let Self { config, access, .. } = self;
        Caller { peer: connection.peer, admin, config, access, identity, unix: now.unix }
    }

    /// Starts or stops the clock for an incomplete request. Empty lines are none, and wind up no clock: else they
    /// would keep a connection open for ever. Who is one too many has its time from the beginning.
    fn note_reading(&mut self, now: Now, slot: Slot) {
        let connection = &mut self.connections[slot];
        match (&connection.phase, &connection.input) {
            (Phase::Idle, Some(input)) if connection.door.surplus().is_none() && !input.is_blank() => {
                connection.enter(Phase::Reading, now.at);
            }
            (Phase::Reading, None) => connection.phase = Phase::Idle,
            _ => {}
        }
        if connection.half_closed {
            self.end_half_closed(slot);
        }
        self.arm(slot, now.at);
    }

    /// Ends the connection of a client that sends nothing more, unless there is something to be answered yet.
    /// What is incomplete remains so.
    #[cold]
    fn end_half_closed(&mut self, slot: Slot) {
        let is_full = self.is_full();
        let connection = &mut self.connections[slot];
        connection.closing |= !is_full && matches!(connection.phase, Phase::Idle | Phase::Reading);
    }

    /// Has what waited behind an answer that has now been given served when the connection's turn comes.
    /// Whoever `has_had` a share of the turn comes after those who have not.
    pub(super) fn serve_later(&mut self, now: Instant, slot: Slot, has_had: bool) {
        let id = self.id(slot);
        let level = self.level(now, slot).max(usize::from(has_had));
        let connection = &mut self.connections[slot];
        let is_free = matches!(connection.phase, Phase::Idle | Phase::Reading);
        if is_free && (connection.input.is_some() || connection.half_closed) {
            connection.enter(Phase::Due, now);
            match level {
                0 => self.due.push_back(id),
                _ => self.backlog.push(level, id),
            }
            if has_had {
                self.effects.push_back(Effect::Pause(id));
            }
            self.arm(slot, now);
        }
    }

    /// Whether what has just arrived has to wait: the turn is over, or its address has had more than its share of this
    /// second while others wait.
    pub(super) fn must_wait(&self, now: Now, slot: Slot, sink: &mut impl Sink) -> bool {
        sink.is_late() || self.level(now.at, slot) > 0
    }

    /// Keeps what has just arrived until the connection's turn comes.
    #[cold]
    pub(super) fn defer(&mut self, now: Now, slot: Slot, bytes: &[u8]) {
        let id = self.id(slot);
        let level = self.level(now.at, slot);
        let connection = &mut self.connections[slot];
        let is_queued = connection.input.is_some() && matches!(connection.phase, Phase::Socket(_));
        connection.input.get_or_insert_default().push(bytes);
        self.memory.gathered += bytes.len();
        self.effects.push_back(Effect::Pause(id));
        match connection.phase {
            Phase::Socket(_) if is_queued => {}
            Phase::Socket(_) if level > 0 => self.backlog.push(level, id),
            Phase::Socket(_) => self.due.push_back(id),
            _ => self.serve_later(now.at, slot, level > 0),
        }
    }

    /// Whether bytes of a connection wait for its turn, so that no more should be read of it.
    pub fn is_waiting(&self, id: ConnId) -> bool {
        self.find(id).is_some_and(|slot| {
            let connection = &self.connections[slot];
            matches!(connection.phase, Phase::Due)
                || matches!(connection.phase, Phase::Socket(_)) && connection.input.is_some()
        })
    }

    /// Serves those whose turn it is, at most as many as sockets are read in a turn, and while it lasts.
    #[inline(never)]
    pub(super) fn serve_due(&mut self, now: Now, sink: &mut impl Sink) {
        if self.broker.is_loading() {
            return;
        }
        // Who comes to be due meanwhile has the next turn.
        for count in 0..self.due.len().min(self.config.turn.reads) {
            if sink.is_late() && count > 0 {
                return;
            }
            let Some(id) = self.due.pop_front() else { return };
            // Much may have been done for its address since.
            match self.find(id).map_or(0, |slot| self.level(now.at, slot)) {
                0 => self.serve_waiting(now, id, sink),
                level => self.backlog.push(level, id),
            }
        }
    }

    /// Serves those who have had their share, in what is left of the turn.
    #[inline(never)]
    pub(super) fn serve_backlog(&mut self, now: Now, sink: &mut impl Sink) {
        if self.broker.is_loading() {
            return;
        }
        for _ in 0..self.config.turn.reads {
            let Some(id) = self.backlog.pop() else { return };
            self.serve_waiting(now, id, sink);
            if sink.is_late() {
                return;
            }
        }
    }

    /// Serves what waited.
    fn serve_waiting(&mut self, now: Now, id: ConnId, sink: &mut impl Sink) {
        let Some(slot) = self.find(id) else { return };
        if self.rights.has_command(slot) && !self.command_again(now, slot, sink) {
            return;
        }
        let waiting = self.take_waiting(slot);
        match self.connections[slot].phase {
            Phase::Due => {
                self.connections[slot].enter(Phase::Idle, now.at);
                let was_asked = self.access.hook.has_said(id);
                if was_asked && !self.go_on_with_body(now, slot, sink) {
                    if let Some(input) = &mut self.connections[slot].input {
                        input.push(&waiting);
                    }
                    return;
                }
                self.serve(now, slot, &waiting, sink);
            }
            Phase::Socket(_) => {
                self.receive_frames(now, slot, &waiting, sink);
                let connection = &self.connections[slot];
                if matches!(connection.phase, Phase::Socket(_)) && connection.is_done() {
                    self.close(now.at, slot);
                }
            }
            _ => {}
        }
        if !self.is_waiting(id) {
            self.effects.push_back(Effect::Resume(id));
        }
    }

    /// Takes the bytes that waited; a body that is being gathered stays, and how many requests came before them.
    fn take_waiting(&mut self, slot: Slot) -> Vec<u8> {
        let place = &mut self.connections[slot].input;
        let Some(input) = place else { return Vec::new() };
        let waiting = input.take_waiting();
        place.take_if(|input| !input.in_body() && input.served == 0);
        waiting
    }

    /// Understands a request and carries it out.
    fn handle(&mut self, now: Now, slot: Slot, request: &Request, sink: &mut impl Sink) {
        self.broker.stats.requests += 1;
        let head = &request.head;
        let connection = &mut self.connections[slot];
        connection.enter(Phase::Idle, now.at);
        if let Some(surplus) = connection.door.surplus()
            && !Self::serves_surplus(surplus, head)
        {
            return self.turn_away(now, slot, Some(head));
        }
        if let Some(protocol) = self.claim(head.path) {
            self.log_request(now, slot, head, Some(protocol));
            return self.hold(now, slot, protocol, request);
        }
        if self.is_mercure(head.path) {
            return self.handle_mercure(now, slot, request, sink);
        }
        let connection = &self.connections[slot];
        let reply = Reply {
            head_only: head.method == Method::Head,
            close: !head.keep_alive || self.draining || connection.door.surplus().is_some(),
            head,
            body: request.body,
            origin: self.cors.find(head),
            identity: &Identity::default(),
        };
        self.log_request(now, slot, head, None);
        let begin = self.out.len();
        let identity = match self.identify(slot, now, head) {
            Ok(identity) => identity,
            Err(refusal) => {
                let response = refusal.response(native::wants_text(head));
                self.execute(now, slot, Command::Respond(response), &reply, sink);
                return self.log_answer(now.at, slot, begin, false);
            }
        };
        let mut targets = std::mem::take(&mut self.targets);
        let command = native::command(head, request.body, self.caller(now, slot, &identity), &mut targets);
        // It is large: bound anew, it would be copied.
        if !matches!(command, Command::Ask(_)) {
            self.execute(now, slot, command, &Reply { identity: &identity, ..reply }, sink);
        } else if let Command::Ask(unheard) = command {
            self.ask_first(now, slot, request, (identity, *unheard), &reply, sink);
        }
        self.targets = targets;
        // A poll that waits, and what is endless, has its line later.
        if let Phase::Idle = self.connections[slot].phase {
            self.log_answer(now.at, slot, begin, false);
        }
    }

    /// Carries out a request when the application has said what it thinks of it; its bytes wait until then.
    #[cold]
    fn ask_first(
        &mut self,
        now: Now,
        slot: Slot,
        request: &Request,
        (mut identity, unheard): (Identity, Unheard),
        reply: &Reply,
        sink: &mut impl Sink,
    ) {
        let (head, mut targets) = (&request.head, Targets::default());
        let command = match self.hear(now, slot, head, unheard, request.body.len()) {
            Heard::Waits => return self.wait_for_word(now, slot),
            Heard::Word(word) => {
                identity.said.push(word);
                native::command(head, request.body, self.caller(now, slot, &identity), &mut targets)
            }
            Heard::Denied(denial) => {
                Command::Respond(softened(denial.response(native::wants_text(head)), head))
            }
        };
        self.access.hook.forget(self.id(slot));
        let reply = Reply { identity: &identity, ..*reply };
        self.execute(now, slot, command, &reply, sink);
    }

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
        let envelope =
            Envelope { keep_alive: &self.keep_alive, ..envelope(self.dates.at(now.unix), reply, &self.cors) };
        response::write_response(&mut self.out, &response, &envelope);
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
    fn operate(
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
                let message = self.broker.hub.value(now.at, &channel, &key);
                native::keys::value(message.map(|message| &**message), has.as_ref(), as_text)
            }
            Operation::Presence { channel, names, has_members } => {
                answer::presence(&channel, &self.broker.presence.look(&channel), names, has_members)
            }
            Operation::Health => self.health(now),
            Operation::Metrics => self.metrics(now),
            Operation::Stats => self.statistics(now),
            Operation::Inquire(inquiry) => self.inquire(now, slot, inquiry, sink),
            Operation::Revoke(revocation) => {
                let ended = self.revoke_for_good(now, revocation);
                answer::ended(ended, self.broker.has_log(), as_text)
            }
        }
    }

    /// Notes that a request has been answered.
    pub(super) fn answered(&mut self, slot: Slot, close: bool) {
        self.connections[slot].closing |= close;
    }

    fn carry_out_publish(
        &mut self,
        now: Now,
        slot: Slot,
        publish: Publish,
        reply: &Reply,
        form: Form,
    ) -> Response {
        let client = self.client(slot, reply.head);
        match self.broker.publish(now.at, client, publish.what) {
            Ok(receipts) => form.answer(&receipts),
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

    /// Attaches a subscriber and answers or parks it, or begins its stream.
    #[inline(never)]
    fn carry_out_subscribe(
        &mut self,
        now: Now,
        slot: Slot,
        subscribe: Subscribe,
        reply: &Reply,
    ) -> Result<(), Response> {
        self.note_right(now, slot, reply.identity);
        let Subscribe { asked, start, transport, .. } = subscribe;
        if self.draining && native::asks_for_events(reply.head) {
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
    fn attach(
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
                self.broker.begin_visit();
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
    fn carry_out_open(&mut self, now: Now, slot: Slot, open: Open, reply: &Reply) -> Result<(), Response> {
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
        let begin = self.out.len();
        let envelope = Envelope { close: false, ..envelope(self.dates.at(now.unix), reply, &self.cors) };
        response::write_head(&mut self.out, response.status, &envelope);
        let heartbeat = self.config.heartbeat;
        let _ =
            write!(self.out, "{}Encke-Heartbeat: {heartbeat}\r\nEncke-Next: {start}\r\n", response.fields);
        poll::write_gap_field(&mut self.out, &gaps);
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(&transport::opening(look, start, "", &self.config));
        self.out.extend(transport::gap_notice(look, &gaps).unwrap_or_default());
        self.broker.stats.streams_started += 1;
        self.telemetry.note_status(response.status);
        let user = User::Subscriber { subscriber, stream, may_publish, loud: asked.loud };
        self.remember_client(slot, self.client(slot, reply.head));
        self.log_answer(now.at, slot, begin, true);
        self.connections[slot].enter(Phase::Socket(user), now.at);
        self.note_format(slot);
        // As with streams, heartbeats are counted from here.
        self.wheel.clear(slot);
        if self.draining {
            self.close_socket(now.at, slot, Some(close::GOING_AWAY), "come back");
        }
        Ok(())
    }

    /// Writes the head of a stream and what it begins with; messages follow at the end of the turn.
    fn begin_stream(&mut self, now: Now, slot: Slot, stream: Stream, reply: &Reply, callback: &str) {
        let Stream { subscriber, look, .. } = stream;
        let chunked = look.chunked;
        let start = self.broker.hub.place(subscriber);
        let gaps = self.broker.hub.take_gaps(subscriber);
        let envelope = Envelope {
            close: !chunked || reply.close,
            ..envelope(self.dates.at(now.unix), reply, &self.cors)
        };
        let begin = self.out.len();
        self.telemetry.note_status(200);
        response::write_head(&mut self.out, 200, &envelope);
        let content_type = transport::content_type(look.stream);
        let _ = write!(
            self.out,
            "Content-Type: {content_type}\r\nCache-Control: {NOT_KEPT}\r\nX-Accel-Buffering: no\r\n{}\
             Encke-Heartbeat: {}\r\nEncke-Next: {start}\r\n",
            transport::precautions(look.stream),
            if look.stream.has_heartbeat() { self.config.heartbeat } else { 0 },
        );
        poll::write_gap_field(&mut self.out, &gaps);
        if chunked {
            self.out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        self.out.extend_from_slice(b"\r\n");
        if reply.head_only {
            self.broker.hub.detach(now.at, subscriber);
            return self.answered(slot, reply.close);
        }
        self.out.extend_from_slice(&transport::opening(look, start, callback, &self.config));
        // What cannot be told in band is told in the head.
        self.out.extend(transport::gap_notice(look, &gaps).unwrap_or_default());
        self.broker.stats.streams_started += 1;
        if self.draining {
            // Its client comes back to whoever serves next.
            self.out.extend(transport::ending(look, Some(self.return_ms(slot))));
            self.broker.hub.detach(now.at, subscriber);
            return self.answered(slot, true);
        }
        self.log_answer(now.at, slot, begin, true);
        self.connections[slot].enter(Phase::Streaming(stream), now.at);
        self.note_format(slot);
        // Heartbeats are counted from here, not from an earlier deadline.
        self.wheel.clear(slot);
    }

    /// Answers a poll if there is anything to answer, else parks it.
    fn begin_poll(&mut self, now: Now, slot: Slot, poll: Poll, reply: &Reply, callback: Option<&str>) {
        let waits = poll.polling.waits() && !reply.head_only && !self.draining;
        let is_held = !poll.pace.is_none() && !self.broker.hub.has_snapshot(poll.subscriber);
        if waits && (is_held || !self.broker.hub.is_ready(poll.subscriber)) {
            return self.park(now, slot, poll, callback);
        }
        let no_news = match poll.polling {
            _ if waits => None,
            Polling::Interval => Some(304),
            Polling::Long | Polling::Script => Some(self.config.poll.no_news_status),
        };
        let retry = self.draining.then(|| self.return_ms(slot).div_ceil(1000));
        let envelope = EnvelopeOf { head_only: reply.head_only, close: reply.close, retry };
        if !self.compose_poll(now, &poll, callback, no_news, envelope) {
            return self.park(now, slot, poll, callback);
        }
        self.broker.hub.detach(now.at, poll.subscriber);
        self.answered(slot, reply.close);
    }

    /// Lets a poll wait for news.
    fn park(&mut self, now: Now, slot: Slot, asked: Poll, callback: Option<&str>) {
        self.broker.stats.polls_parked += 1;
        if let Some(callback) = callback {
            self.callbacks.insert(asked.subscriber, callback.into());
        }
        self.connections[slot].enter(Phase::Parked(asked), now.at);
    }
}

pub(super) fn envelope<'a>(date: HttpDate, reply: &Reply, cors: &'a cors::Rules) -> Envelope<'a> {
    let fields = cors.fields(reply.origin);
    Envelope { date, head_only: reply.head_only, close: reply.close, fields, keep_alive: "" }
}

fn no_channel(as_text: bool) -> Response {
    Response::problem(404, "there is no such channel", as_text)
}
