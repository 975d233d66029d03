//! Writing answers: what a socket does not take is kept, or shared.

use super::latest::Pages;
use super::{Effect, PIPELINE_BYTES_MAX, Server, Sink, Wrote, note_of};
use crate::carry::resume;
use crate::config::Config;
use crate::conn::{Output, Phase, Slot};
use crate::dialect::cors;
use crate::hub::{Encoded, Message};
use crate::time::{Dates, Instant};
use crate::transport::Format;
use std::io::IoSlice;
use std::rc::Rc;

/// What answers are written with.
#[derive(Debug)]
pub(super) struct Writer {
    /// Answers of the connection at hand, until they are written.
    pub out: Vec<u8>,
    /// Where the next answer to a publication is written, until it is known how long it is.
    pub room: Vec<u8>,
    /// What follows `out`, being too large to be copied there.
    pub body: Option<Body>,
    /// What subscribers of latest values are given who are at the same stage.
    pub pages: Pages,
    /// The header fields that answers to pages of other origins carry.
    pub cors: cors::Rules,
    /// The header fields of answers after which the connection stays open: for how long.
    pub keep_alive: Box<str>,
    pub dates: Dates,
}

resume! {
    Writer {
        carried: ;
        resumed: cors;
        // Empty when a server parts, or given by the settings.
        given: out, room, body, pages, keep_alive, dates
    }
}

impl Writer {
    /// One that has written nothing. Clients that keep connections open for later are told when we close them, so that they
    /// are the ones who do.
    pub fn new(config: &Config, is_judged: bool) -> Self {
        Self {
            out: Vec::new(),
            room: Vec::new(),
            body: None,
            pages: Pages::default(),
            cors: cors::Rules::new(&config.cors, is_judged),
            keep_alive: format!("Keep-Alive: timeout={}\r\n", config.limits.idle_seconds).into(),
            dates: Dates::default(),
        }
    }

    /// Keeps the room of a body that has been written for the next answer to a publication, unless it is much.
    pub fn keep_room(&mut self, mut body: Vec<u8>) {
        if body.capacity() <= ROOM_BYTES {
            body.clear();
            self.room = body;
        }
    }
}

/// Room for an answer that is kept from one to the next.
const ROOM_BYTES: usize = 1024;

/// What connections share of an answer.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) message: Rc<Message>,
    /// Its frame of this format; none = its payload.
    pub(super) format: Option<Format>,
    /// Bytes newly encoded for it.
    pub(super) encoded: usize,
}

impl Body {
    pub(super) fn bytes(&self) -> &[u8] {
        match self.format {
            Some(format) => self.message.encoded(format.number()).unwrap_or_default(),
            None => self.message.publication.data.bytes(),
        }
    }
}

impl Server {
    /// Writes the answers in `out`, and the payload that follows, to the connection.
    pub(super) fn send(&mut self, now: Instant, slot: Slot, sink: &mut impl Sink) {
        let mut out = std::mem::take(&mut self.writer.out);
        match self.writer.body.is_some() {
            false => self.send_bytes(now, slot, &out, sink),
            true => self.send_with_body(now, slot, &out, sink),
        }
        out.clear();
        // One large answer does not stay allocated for ever.
        out.shrink_to(PIPELINE_BYTES_MAX);
        self.writer.out = out;
    }

    /// Writes `bytes` to the connection, or keeps what its socket does not take.
    pub(super) fn send_bytes(&mut self, now: Instant, slot: Slot, bytes: &[u8], sink: &mut impl Sink) {
        let id = self.id(slot);
        let connection = &mut self.connections[slot];
        if let Some(output) = &mut connection.output {
            self.memory.gathered += bytes.len();
            return output.push(bytes);
        }
        if !bytes.is_empty() {
            let Wrote::Bytes(taken) = sink.write(id, &[IoSlice::new(bytes)]) else {
                return self.close(now, slot);
            };
            if taken < bytes.len() {
                let mut output = Output::blocked(now);
                output.push(&bytes[taken..]);
                self.memory.gathered += bytes.len() - taken;
                self.block(slot, output, taken);
                return self.arm(slot, now);
            }
        }
        if connection.closing {
            self.finish(now, slot);
        }
    }

    /// Writes `bytes` and the payload that follows, of which the connection shares what its socket does not take.
    #[cold]
    fn send_with_body(&mut self, now: Instant, slot: Slot, bytes: &[u8], sink: &mut impl Sink) {
        let Some(shared) = self.writer.body.take() else { return };
        let mut encoded = Encoded::default();
        encoded.note(&shared.message, shared.encoded);
        self.broker.hub.charge(&encoded);
        let id = self.id(slot);
        let connection = &mut self.connections[slot];
        if let Some(output) = &mut connection.output {
            output.push(bytes);
            return output.push_body(&shared.message, shared.format, 0);
        }
        let body = shared.bytes();
        let Wrote::Bytes(taken) = sink.write(id, &[IoSlice::new(bytes), IoSlice::new(body)]) else {
            return self.close(now, slot);
        };
        if taken < bytes.len() + body.len() {
            let mut output = Output::blocked(now);
            output.push(&bytes[taken.min(bytes.len())..]);
            output.push_body(&shared.message, shared.format, taken.saturating_sub(bytes.len()));
            self.block(slot, output, taken);
            self.arm(slot, now);
        } else if connection.closing {
            self.finish(now, slot);
        }
    }

    /// Notes in the hub the format of what a stream gets, while its socket takes bytes: so that a delivery need not look
    /// at the connection, which would have to be fetched from far away.
    pub(super) fn note_format(&mut self, slot: Slot) {
        let connection = &self.connections[slot];
        if let Some(subscriber) = connection.subscriber() {
            self.broker.hub.note(subscriber, note_of(connection));
        }
    }

    /// Ends a connection whose last byte has been written.
    #[inline(never)]
    pub(super) fn finish(&mut self, now: Instant, slot: Slot) {
        let id = self.id(slot);
        let connection = &mut self.connections[slot];
        connection.closing = false;
        match connection.phase {
            Phase::Lingering if !connection.half_closed => {
                self.queues.effects.push_back(Effect::HalfClose(id));
            }
            _ => self.close(now, slot),
        }
    }
}
