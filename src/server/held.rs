//! Connections that a protocol with sessions holds: calling it, and doing what it asks.

use super::pending::Answer;
use super::{Server, Sink};
use crate::broker::Client;
use crate::conn::{ConnId, Hold, Phase, Protocol, Request, Slot, User};
use crate::dialect::{Act, Context, Dialects, Holder, cors};
use crate::time::Now;
use crate::transport;
use crate::wire::chunked::write_chunk;
use crate::wire::head::Method;
use crate::wire::response::{self, Envelope, Response};
use crate::wire::websocket;

/// Room for so many acts is kept from one turn to the next.
const FEW_ACTS: usize = 64;

impl Server {
    /// Hands a request to the protocol that serves its path. What it asks for the connection at hand goes to
    /// `out`, behind the answers before it.
    #[inline(never)]
    pub(super) fn hold(&mut self, now: Now, slot: Slot, protocol: Protocol, request: &Request) {
        let head = &request.head;
        let names = self.dialects.names_origins(protocol, &self.config);
        let named = self.writer.cors.unlisted(head).filter(|_| names);
        let hold = Hold {
            protocol,
            head_only: head.method == Method::Head,
            close: !head.keep_alive || self.drain.begun,
            chunked: head.http11,
            begun: false,
            origin: self.writer.cors.find(head),
        };
        match named {
            Some(origin) => _ = self.aside.origins.insert(slot, origin.into()),
            None if self.aside.origins.is_empty() => {}
            None => _ = self.aside.origins.remove(&slot),
        }
        self.connections[slot].enter(Phase::Held(hold), now.at);
        let id = self.id(slot);
        let client = self.client(slot, head);
        self.consult_for(now, slot, client, |dialects, context| {
            dialects.request(protocol, context, id, request);
        });
        if let Phase::Socket(_) = self.connections[slot].phase {
            self.note_client(slot, client);
        }
    }

    /// Calls the protocols for the connection in `slot`. What they ask for it goes to `out`, behind the answers before
    /// it; what they ask for others waits in the outbox for the end of the turn.
    pub(super) fn consult_for(
        &mut self,
        now: Now,
        slot: Slot,
        client: Client,
        call: impl FnOnce(&mut Dialects, &mut Context),
    ) {
        let id = self.id(slot);
        let waiting = std::mem::take(&mut self.queues.outbox);
        let connection = &self.connections[slot];
        let unsent = match connection.phase {
            // Many of its messages are answered before anything is written.
            Phase::Socket(_) => {
                self.writer.out.len() + connection.output.as_ref().map_or(0, |output| output.own_len())
            }
            _ => 0,
        };
        self.consult_with(now, client, self.memory.batch_bytes().saturating_sub(unsent), call);
        let mut acts = std::mem::replace(&mut self.queues.outbox, waiting);
        if let Some(ticket) = self.propose(now.at) {
            // Protocols with sessions tell no numbers.
            _ = self.broker.take_receipts();
            let own = acts.extract_if(.., |(of, _)| *of == id).map(|(_, act)| act).collect();
            self.keep_answer(ticket, id, Answer::Acts(own));
        }
        for (of, act) in acts {
            match of == id {
                true => self.write_act(now, slot, act),
                false => self.queues.outbox.push((of, act)),
            }
        }
    }

    /// Calls the protocols; what they ask is kept in the outbox.
    pub(super) fn consult(&mut self, now: Now, call: impl FnOnce(&mut Dialects, &mut Context)) {
        self.consult_with(now, Client::OWN, self.memory.batch_bytes(), call);
    }

    fn consult_with(
        &mut self,
        now: Now,
        client: Client,
        room: usize,
        call: impl FnOnce(&mut Dialects, &mut Context),
    ) {
        self.broker.begin_visit();
        let mut context = Context {
            config: &self.config,
            broker: &mut self.broker,
            access: &mut self.access,
            client,
            now,
            outbox: &mut self.queues.outbox,
            connections: &self.connections,
            room,
        };
        call(&mut self.dialects, &mut context);
    }

    /// Takes note that a session's subscriber is ready.
    pub(super) fn session_ready(&mut self, now: Now, holder: Holder, sink: &mut impl Sink) {
        self.consult(now, |dialects, context| dialects.ready(context, holder));
        self.act(now, sink);
    }

    /// Takes note that a held connection takes bytes again.
    pub(super) fn held_writable(&mut self, now: Now, slot: Slot, protocol: Protocol, sink: &mut impl Sink) {
        let id = self.id(slot);
        self.consult(now, |dialects, context| dialects.writable(protocol, context, id));
        self.act(now, sink);
    }

    /// Lets the protocols do what is due, and tells them of connections that have gone.
    #[inline(never)]
    pub(super) fn tick_sessions(&mut self, now: Now, sink: &mut impl Sink) {
        for (id, protocol) in std::mem::take(&mut self.queues.abandoned) {
            self.consult(now, |dialects, context| dialects.gone(protocol, context, id));
        }
        if self.dialects.next_deadline() <= now.at {
            self.consult(now, |dialects, context| dialects.tick(context));
        }
        self.act(now, sink);
    }

    /// Lets the protocols answer whom they hold, because the server leaves.
    pub(super) fn drain_sessions(&mut self, now: Now, sink: &mut impl Sink) {
        self.consult(now, |dialects, context| dialects.drain(context));
        self.act(now, sink);
    }

    /// Does what the protocols asked. Nothing of it calls them again.
    pub(super) fn act(&mut self, now: Now, sink: &mut impl Sink) {
        let mut acts = std::mem::take(&mut self.queues.outbox);
        for (id, act) in acts.drain(..) {
            let Some(slot) = self.find(id) else { continue };
            if self.connections[slot].holder().is_none() {
                continue;
            }
            let Some(act) = self.after_answers(id, act) else { continue };
            self.write_act(now, slot, act);
            self.send(now.at, slot, sink);
            let connection = &self.connections[slot];
            if connection.output.is_none() && !connection.closing {
                self.serve_later(now.at, slot, false);
            }
            if self.find(id).is_some() {
                self.arm(slot, now.at);
            }
        }
        // Room for a few is used again.
        if self.queues.outbox.capacity() == 0 && acts.capacity() <= FEW_ACTS {
            self.queues.outbox = acts;
        }
    }

    /// Appends to `out` what an act sends, and moves its connection on.
    fn write_act(&mut self, now: Now, slot: Slot, act: Act) {
        if let Phase::Socket(_) = &self.connections[slot].phase {
            return self.write_socket_act(now, slot, act);
        }
        let Phase::Held(hold) = &mut self.connections[slot].phase else { return };
        let (close, chunked, begun) = (hold.close, hold.chunked, hold.begun);
        let named = self.aside.origins.get(&slot).map(|origin| cors::listed_fields(origin));
        let fields = match &named {
            Some(named) => named,
            None if self.dialects.names_origins(hold.protocol, &self.config) => {
                self.writer.cors.varied_fields(hold.origin)
            }
            None => self.writer.cors.fields(hold.origin),
        };
        let envelope = Envelope {
            date: self.writer.dates.at(now.unix),
            head_only: hold.head_only,
            close,
            fields,
            keep_alive: &self.writer.keep_alive,
        };
        let begin = self.writer.out.len();
        match act {
            Act::Answer(response) => {
                self.broker.stats.requests_failed += u64::from(response.status >= 400);
                self.telemetry.note_status(response.status);
                response::write_response(&mut self.writer.out, &response, &envelope);
                self.log_answer(now.at, slot, begin, false);
                self.release(now, slot, close);
            }
            Act::Begin(response) => {
                hold.begun = true;
                self.telemetry.note_status(response.status);
                write_stream_head(&mut self.writer.out, &response, chunked, &envelope);
                let head_only = hold.head_only;
                self.log_answer(now.at, slot, begin, !head_only);
                if head_only {
                    self.leave(now.at, slot);
                    self.connections[slot].closing |= close;
                }
            }
            // An empty chunk would be the end.
            Act::Write(bytes) if bytes.is_empty() => {}
            Act::Upgrade(response) => {
                let envelope = Envelope { head_only: false, close: false, ..envelope };
                self.telemetry.note_status(response.status);
                response::write_response(&mut self.writer.out, &response, &envelope);
                let user = User::Session(hold.protocol);
                self.log_answer(now.at, slot, begin, true);
                self.connections[slot].enter(Phase::Socket(user), now.at);
            }
            Act::Write(bytes) => {
                match chunked {
                    true => write_chunk(&mut self.writer.out, &[&bytes]),
                    false => self.writer.out.extend_from_slice(&bytes),
                }
                self.log_bytes(slot, bytes.len());
            }
            Act::End => {
                if begun {
                    self.writer.out.extend_from_slice(transport::closing(chunked));
                }
                self.release(now, slot, true);
            }
            Act::Wait => self.wait_for_word(now, slot),
            Act::Close => self.close(now.at, slot),
        }
    }

    /// The same for a connection that is a WebSocket.
    fn write_socket_act(&mut self, now: Now, slot: Slot, act: Act) {
        match act {
            Act::Write(bytes) => {
                websocket::write_text(&mut self.writer.out, &bytes);
                self.log_bytes(slot, bytes.len());
            }
            Act::End => self.close_socket(now.at, slot, Some(websocket::close::NORMAL), ""),
            Act::Wait => self.rights.note_wait(),
            Act::Close => self.close(now.at, slot),
            Act::Answer(_) | Act::Begin(_) | Act::Upgrade(_) => {
                debug_assert!(false, "a WebSocket has no requests to answer");
            }
        }
    }

    /// Frees a connection whose answer is complete.
    fn release(&mut self, now: Now, slot: Slot, close: bool) {
        self.log_end(now.at, slot);
        let connection = &mut self.connections[slot];
        connection.enter(Phase::Idle, now.at);
        connection.closing |= close;
    }

    /// Whether a protocol with sessions serves `path`.
    pub(super) fn claim(&self, path: &str) -> Option<Protocol> {
        self.dialects.claim(path)
    }
}

fn write_stream_head(out: &mut Vec<u8>, response: &Response, chunked: bool, envelope: &Envelope) {
    response::write_head(out, response.status, &Envelope { close: !chunked || envelope.close, ..*envelope });
    out.extend_from_slice(response.fields.as_bytes());
    out.extend_from_slice(format!("Content-Type: {}\r\n", response.content_type).as_bytes());
    let coding = if chunked { "Transfer-Encoding: chunked\r\n\r\n" } else { "\r\n" };
    out.extend_from_slice(coding.as_bytes());
}

/// Names a held connection, for the server's own book-keeping.
pub(super) type Outbox = Vec<(ConnId, Act)>;
