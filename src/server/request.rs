//! Requests: from bytes to commands.

use super::ending::Seen;
pub(super) use super::execute::{Reply, envelope};
use super::surplus::softened;
use super::{BACKLOG_BYTES_MAX, Effect, Server, Sink};
use crate::conn::{Door, Input, Phase, Request, Slot, whole_request};
use crate::dialect::native::{self, Targets};
use crate::dialect::{Caller, Command, Denial, Heard, Identity, Unheard};
use crate::time::Now;
use crate::wire::head::{self, Head, Method, Refusal};
use crate::wire::response::Response;

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
    pub(super) fn begin_serving(&mut self) {
        #[cfg(any(test, feature = "check"))]
        assert!(
            !std::mem::replace(&mut self.queues.serving, true),
            "one is served inside another one's request"
        );
    }

    pub(super) fn end_serving(&mut self) {
        #[cfg(any(test, feature = "check"))]
        assert!(std::mem::take(&mut self.queues.serving));
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
                self.refuse(now, slot, refusal, None);
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
    pub(super) fn is_full(&self) -> bool {
        self.writer.out.len() >= BACKLOG_BYTES_MAX || self.writer.body.is_some()
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
        self.refuse(now, slot, Refusal { status: 429, detail }, Some(retry));
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
        let gathered = match gathering.gather(rest, &self.config.limits) {
            Ok(gathered) => gathered,
            Err(refusal) => {
                self.connections[slot].input = Some(gathering);
                return Err(refusal);
            }
        };
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
            self.connections[slot].input = Some(gathering);
            self.refuse_body(now, slot);
            return Ok(());
        }
        self.memory.gathered += gathered.used;
        if gathering.in_body() && !was_in_body {
            let head = &gathering.request(&mut slots)?.head;
            if let Some(refusal) = self.judge_before_body(now, slot, head) {
                match refusal {
                    Early::Surplus => self.turn_away(now, slot, Some(head)),
                    Early::Refused(response) => self.refuse_to(now, slot, Seen::Head(head), &response),
                    Early::Asking => {
                        self.connections[slot].enter(Phase::Asking, now.at);
                        self.queues.effects.push_back(Effect::Pause(self.id(slot)));
                        *input = Some(gathering);
                    }
                }
                return Ok(());
            }
            self.connections[slot].enter(Phase::Reading, now.at);
        }
        if gathered.wants_continue {
            self.writer.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        *input = Some(gathering);
        Ok(())
    }

    /// Ends a connection whose body there is no memory for.
    #[cold]
    fn refuse_body(&mut self, now: Now, slot: Slot) {
        let detail = "memory is short (limits.memory); try again later, with a body that arrives at once";
        let retry = self.retry_after(slot, 1, 10);
        self.refuse(now, slot, Refusal { status: 503, detail }, Some(retry));
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
    pub(super) fn go_on_with_body(&mut self, now: Now, slot: Slot, sink: &mut impl Sink) -> bool {
        let Some(input) = self.connections[slot].input.take() else { return true };
        let mut slots = head::slots();
        let Ok(request) = input.request(&mut slots) else { return true };
        let early = if input.is_complete() { None } else { self.judge_before_body(now, slot, &request.head) };
        match early {
            None => {
                let is_awaited = request.head.expects_continue && !input.is_complete();
                if is_awaited && input.body_len() + input.waiting_len() == 0 {
                    self.writer.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
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
                self.refuse_to(now, slot, Seen::Head(&request.head), &response);
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
        if self.is_proxied(slot) {
            self.note_client(slot, self.client(slot, head));
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
            close: !head.keep_alive || self.drain.begun || connection.door.surplus().is_some(),
            head,
            body: request.body,
            origin: self.writer.cors.find(head),
            identity: &Identity::default(),
        };
        self.log_request(now, slot, head, None);
        let begin = self.writer.out.len();
        let identity = match self.identify(slot, now, head) {
            Ok(identity) => identity,
            Err(refusal) => {
                let response = refusal.response(native::wants_text(head));
                self.execute(now, slot, Command::Respond(response), &reply, sink);
                return self.log_answer(now.at, slot, begin, false);
            }
        };
        let mut targets = std::mem::take(&mut self.dialects.targets);
        let command = native::command(head, request.body, self.caller(now, slot, &identity), &mut targets);
        // It is large: bound anew, it would be copied.
        if !matches!(command, Command::Ask(_)) {
            self.execute(now, slot, command, &Reply { identity: &identity, ..reply }, sink);
        } else if let Command::Ask(unheard) = command {
            self.ask_first(now, slot, request, (identity, *unheard), &reply, sink);
        }
        self.dialects.targets = targets;
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
}
