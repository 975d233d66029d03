//! How messages look on the wire: one file per technique, one enum over them.
//!
//! A message is encoded once per [`Format`] and its bytes are shared by all subscribers of that format. What
//! differs between subscribers (a gap, the start of a stream) is rare and composed for each.
//!
//! A new technique is a new file and a new variant here; nothing of it in the hub or the reactor.

pub mod bayeux;
mod envelope;
mod format;
mod iframe;
pub mod jsonp;
pub mod mercure;
mod multipart;
pub mod poll;
mod raw;
mod script;
mod sse;
mod stream;
#[cfg(test)]
mod tests;
pub mod websocket;

pub use envelope::{write_envelope, write_string};
pub use format::Format;
pub use script::is_callback;

use crate::carry::carry;
use crate::config::Config;
use crate::hub::{Gap, Message};
use crate::id::Place;
use crate::wire::chunked::{LAST_CHUNK, chunk_length, write_chunk};
use crate::wire::media;
use crate::wire::response::{INERT, Response};
use crate::wire::websocket::{EMPTY_PING, write_text};
use std::borrow::Cow;

/// A way to get messages to a client, as `as=` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One answer per request.
    Poll(Polling),
    /// One answer, or one WebSocket, carries all messages.
    Stream(Streaming),
}

/// How a poll is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Polling {
    /// Long polling: waits, then one answer.
    Long,
    /// Interval polling: never waits.
    Interval,
    /// A poll that waits and is answered by a script (JSONP).
    Script,
}

carry! {
    enum Polling { 0 => Long, 1 => Interval, 2 => Script }
}

/// How messages look on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Streaming {
    /// Server-sent events (WHATWG HTML, section 9.2).
    Sse,
    /// The same with envelopes as data, so that a script learns the channel, and whether data is JSON or text.
    SseEnvelope,
    /// Endless JSON lines.
    Lines,
    /// Endless bare messages.
    Raw,
    /// Forever frame: an endless page of scripts.
    Iframe,
    /// An endless `multipart/mixed`.
    Multipart,
    /// An endless `multipart/x-mixed-replace`.
    Replace,
    /// WebSocket with envelopes (RFC 6455).
    WebSocket,
    /// WebSocket with bare messages.
    WebSocketRaw,
    /// Server-sent events as Mercure has them.
    Mercure,
}

carry! {
    enum Streaming { 0 => Sse, 1 => SseEnvelope, 2 => Lines, 3 => Raw, 4 => Iframe, 5 => Multipart, 6 => Replace, 7 => WebSocket, 8 => WebSocketRaw, 9 => Mercure }
}

impl Transport {
    /// The transport of that name in a query.
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "poll" => Self::Poll(Polling::Long),
            "interval" => Self::Poll(Polling::Interval),
            "jsonp" => Self::Poll(Polling::Script),
            "sse" => Self::Stream(Streaming::Sse),
            "sse-envelope" => Self::Stream(Streaming::SseEnvelope),
            "stream" => Self::Stream(Streaming::Lines),
            "raw" => Self::Stream(Streaming::Raw),
            "iframe" => Self::Stream(Streaming::Iframe),
            "multipart" => Self::Stream(Streaming::Multipart),
            "x-mixed-replace" => Self::Stream(Streaming::Replace),
            _ => return None,
        })
    }

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Poll(Polling::Long) => "poll",
            Self::Poll(Polling::Interval) => "interval",
            Self::Poll(Polling::Script) => "jsonp",
            Self::Stream(Streaming::Sse) => "sse",
            Self::Stream(Streaming::SseEnvelope) => "sse-envelope",
            Self::Stream(Streaming::Lines) => "stream",
            Self::Stream(Streaming::Raw) => "raw",
            Self::Stream(Streaming::Iframe) => "iframe",
            Self::Stream(Streaming::Multipart) => "multipart",
            Self::Stream(Streaming::Replace) => "x-mixed-replace",
            Self::Stream(Streaming::Mercure) => "mercure",
            Self::Stream(Streaming::WebSocket | Streaming::WebSocketRaw) => "websocket",
        }
    }
}

impl Polling {
    /// Whether it waits for news and then answers once.
    pub const fn waits(self) -> bool {
        match self {
            Self::Long | Self::Script => true,
            Self::Interval => false,
        }
    }
}

impl Streaming {
    /// Whether a stream of it can show a sign of life.
    pub const fn has_heartbeat(self) -> bool {
        match self {
            Self::Raw | Self::Replace => false,
            Self::Sse
            | Self::SseEnvelope
            | Self::Lines
            | Self::Iframe
            | Self::Multipart
            | Self::WebSocket
            | Self::WebSocketRaw
            | Self::Mercure => true,
        }
    }
}

/// How a stream's bytes look: what its messages are, and whether they come in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Look {
    /// How messages look.
    pub stream: Streaming,
    /// HTTP/1.1: each message is a chunk. A WebSocket has frames of its own instead.
    pub chunked: bool,
}

carry! {
    struct Look { stream, chunked }
}

impl Look {
    /// That of a WebSocket.
    pub const fn of_socket(stream: Streaming) -> Self {
        Self { stream, chunked: false }
    }
}

/// The shared bytes of `message` on a stream, and how much was newly encoded for it.
pub fn frame(message: &Message, look: Look) -> (&[u8], usize) {
    message.frame(Format::Stream(look).number(), |message| encode(message, look).into())
}

/// What a stream is given of `message`.
fn encode(message: &Message, look: Look) -> Vec<u8> {
    let mut payload = Vec::with_capacity(message.cost());
    match look.stream {
        Streaming::Sse => sse::write_message(&mut payload, message),
        Streaming::SseEnvelope => sse::write_envelope_event(&mut payload, message),
        Streaming::Lines => stream::write_message(&mut payload, message),
        Streaming::Raw => raw::write_message(&mut payload, message),
        Streaming::Iframe => iframe::write_message(&mut payload, message),
        Streaming::Multipart => multipart::write_message(&mut payload, message),
        // It would blank the picture.
        Streaming::Replace if message.is_removal() => {}
        Streaming::Replace => multipart::write_message(&mut payload, message),
        Streaming::WebSocket => websocket::write_message(&mut payload, message),
        Streaming::WebSocketRaw => websocket::write_bare(&mut payload, message),
        Streaming::Mercure => mercure::write_message(&mut payload, message),
    }
    framed(payload, look.chunked)
}

/// `payload` as one chunk, or as it is for HTTP/1.0.
fn framed(payload: Vec<u8>, chunked: bool) -> Vec<u8> {
    if !chunked {
        return payload;
    }
    // Exactly as much as is kept.
    let mut chunk = Vec::with_capacity(chunk_length(payload.len()));
    write_chunk(&mut chunk, &[&payload]);
    chunk
}

/// The media type of a stream; a WebSocket has none.
pub const fn content_type(stream: Streaming) -> &'static str {
    match stream {
        Streaming::Sse | Streaming::SseEnvelope | Streaming::Mercure => media::EVENT_STREAM,
        Streaming::Lines => media::NDJSON,
        Streaming::Raw => "application/octet-stream",
        Streaming::Iframe => "text/html; charset=utf-8",
        Streaming::Multipart => multipart::MIXED,
        Streaming::Replace => multipart::REPLACE,
        Streaming::WebSocket | Streaming::WebSocketRaw => "",
    }
}

/// Fields of a stream's head that keep what it carries from doing anything when it is opened as a page. A forever frame
/// must run its scripts, in which messages are data: it is kept apart from who opened it elsewhere than in a frame.
pub const fn precautions(stream: Streaming) -> &'static str {
    match stream {
        Streaming::Iframe => "X-Content-Type-Options: nosniff\r\nCross-Origin-Opener-Policy: same-origin\r\n",
        Streaming::Sse
        | Streaming::SseEnvelope
        | Streaming::Lines
        | Streaming::Raw
        | Streaming::Multipart
        | Streaming::Replace
        | Streaming::WebSocket
        | Streaming::WebSocketRaw
        | Streaming::Mercure => INERT,
    }
}

/// What a stream begins with, before the first message: `start` is where it stands, `callback` the function
/// that a forever frame calls.
pub fn opening(look: Look, start: Place, callback: &str, config: &Config) -> Vec<u8> {
    let mut payload = Vec::new();
    match look.stream {
        Streaming::Sse | Streaming::SseEnvelope => {
            sse::write_opening(&mut payload, start, config.sse.retry_ms, config.heartbeat);
        }
        Streaming::WebSocket => websocket::write_opening(&mut payload, start, config.heartbeat),
        Streaming::Iframe => iframe::write_opening(&mut payload, start, callback, config),
        Streaming::Multipart | Streaming::Replace => payload.extend_from_slice(multipart::BOUNDARY),
        Streaming::Lines => payload.push(b'\n'),
        Streaming::Mercure => mercure::write_opening(&mut payload, config.sse.retry_ms),
        Streaming::Raw | Streaming::WebSocketRaw => {}
    }
    framed(payload, look.chunked)
}

/// That a stream stands at `place`, which no message says: a snapshot is complete, or some of its channels begin behind it.
/// Empty where the technique has no room for it.
pub fn place_notice(look: Look, place: Place) -> Vec<u8> {
    let mut payload = Vec::new();
    match look.stream {
        Streaming::Sse => sse::write_place(&mut payload, place),
        Streaming::SseEnvelope => sse::write_place_envelope(&mut payload, place),
        Streaming::Lines => {
            envelope::write_next(&mut payload, place);
            payload.push(b'\n');
        }
        Streaming::Iframe => iframe::write_place(&mut payload, place),
        Streaming::Multipart => multipart::write_place(&mut payload, place),
        Streaming::WebSocket => websocket::write_place(&mut payload, place),
        Streaming::Raw | Streaming::Replace | Streaming::WebSocketRaw | Streaming::Mercure => return payload,
    }
    framed(payload, look.chunked)
}

/// Appends `message` as a patch of `base` to what a stream is given, in the form that `look` has for envelopes. Returns
/// false, and appends nothing, if there is no such patch, or none that is smaller.
pub fn write_patch(out: &mut Vec<u8>, look: Look, base: &Message, message: &Message) -> bool {
    let Some(envelope) = envelope::patch_envelope(base, message) else { return false };
    let mut payload = Vec::with_capacity(envelope.len() + 64);
    match look.stream {
        Streaming::SseEnvelope => sse::write_enveloped(&mut payload, message.id.into(), &envelope),
        Streaming::Lines => {
            payload.extend_from_slice(&envelope);
            payload.push(b'\n');
        }
        Streaming::Iframe => iframe::write_call(&mut payload, &envelope),
        Streaming::WebSocket => write_text(&mut payload, &envelope),
        Streaming::Sse
        | Streaming::Raw
        | Streaming::Multipart
        | Streaming::Replace
        | Streaming::WebSocketRaw
        | Streaming::Mercure => return false,
    }
    out.extend_from_slice(&framed(payload, look.chunked));
    true
}

/// Appends what a stream is given of `message`, without keeping it.
pub fn write_message(out: &mut Vec<u8>, look: Look, message: &Message) {
    match message.encoded(Format::Stream(look).number()) {
        Some(bytes) => out.extend_from_slice(bytes),
        None => out.extend_from_slice(&encode(message, look)),
    }
}

/// The notices of `gaps` on a stream; `None` if the technique cannot tell them in band, so that the stream
/// has to end instead.
pub fn gap_notice(look: Look, gaps: &[Gap]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    for gap in gaps {
        let mut payload = Vec::new();
        match look.stream {
            Streaming::Sse => sse::write_gap(&mut payload, gap),
            Streaming::SseEnvelope => sse::write_gap_envelope(&mut payload, gap),
            Streaming::Lines => stream::write_gap(&mut payload, gap),
            Streaming::Iframe => iframe::write_gap(&mut payload, gap),
            Streaming::Multipart => multipart::write_gap(&mut payload, gap),
            Streaming::Replace => multipart::write_gap_ahead(&mut payload, gap),
            Streaming::WebSocket => websocket::write_gap(&mut payload, gap),
            Streaming::Mercure => mercure::write_gap(&mut payload, gap, None),
            Streaming::Raw | Streaming::WebSocketRaw => return None,
        }
        all.extend_from_slice(&framed(payload, look.chunked));
    }
    Some(all)
}

/// A sign of life; empty if the technique has none. A `loud` one is seen by scripts, too.
pub fn heartbeat(look: Look, loud: bool) -> Cow<'static, [u8]> {
    let sign: &[u8] = match (look.stream, look.chunked) {
        (Streaming::Sse | Streaming::SseEnvelope, true) if loud => {
            b"21\r\nevent: encke.heartbeat\ndata: {}\n\n\r\n"
        }
        (Streaming::Sse | Streaming::SseEnvelope, false) if loud => b"event: encke.heartbeat\ndata: {}\n\n",
        // No empty line: it would end a block, which some libraries take for a message.
        (Streaming::Sse | Streaming::SseEnvelope | Streaming::Mercure, true) => b"2\r\n:\n\r\n",
        (Streaming::Sse | Streaming::SseEnvelope | Streaming::Mercure, false) => b":\n",
        (Streaming::WebSocket, _) if loud => websocket::EMPTY_OBJECT,
        (Streaming::WebSocket | Streaming::WebSocketRaw, _) => EMPTY_PING,
        (Streaming::Multipart, chunked) => return framed(multipart::EMPTY_OBJECT.to_vec(), chunked).into(),
        (Streaming::Raw | Streaming::Replace, _) => b"",
        // To a page and to lines of JSON, a line end is nothing.
        (Streaming::Iframe | Streaming::Lines, true) => b"1\r\n\n\r\n",
        (Streaming::Iframe | Streaming::Lines, false) => b"\n",
    };
    sign.into()
}

/// What a stream ends with. If its client shall come back at another time than usual, after `retry_ms`, it is told
/// where the technique has words for it.
pub fn ending(look: Look, retry_ms: Option<u64>) -> Vec<u8> {
    let mut payload = Vec::new();
    match (look.stream, retry_ms) {
        (Streaming::Multipart | Streaming::Replace, _) => payload.extend_from_slice(multipart::END),
        (Streaming::Sse | Streaming::SseEnvelope | Streaming::Mercure, Some(retry_ms)) => {
            sse::write_retry(&mut payload, retry_ms);
        }
        (Streaming::Sse | Streaming::SseEnvelope | Streaming::Mercure, None)
        | (Streaming::Lines | Streaming::Raw | Streaming::Iframe, _)
        | (Streaming::WebSocket | Streaming::WebSocketRaw, _) => {}
    }
    let last = if payload.is_empty() { payload } else { framed(payload, look.chunked) };
    [&last, closing(look.chunked)].concat()
}

/// Why listening ends before its client wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The token has expired.
    Expired,
    /// The right was taken back.
    Revoked,
}

impl Ending {
    /// What it is called in events and objects.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// What a stream is told whose right to listen ends, and which goes on at `next` if it comes back with another. Nothing
/// where the technique has no words for it.
pub fn farewell(look: Look, why: Ending, next: Place) -> Vec<u8> {
    let name = why.name();
    let object = format!("{{\"{name}\":true,\"next\":\"{next}\"}}");
    let mut payload = Vec::new();
    match look.stream {
        Streaming::Sse => sse::write_farewell(&mut payload, name, next),
        Streaming::SseEnvelope => sse::write_farewell_envelope(&mut payload, &object, next),
        Streaming::Lines => stream::write_farewell(&mut payload, &object),
        Streaming::Iframe => iframe::write_farewell(&mut payload, &object),
        Streaming::Multipart => multipart::write_farewell(&mut payload, why, next, object.as_bytes()),
        Streaming::Replace => multipart::write_farewell(&mut payload, why, next, b""),
        Streaming::WebSocket => websocket::write_farewell(&mut payload, &object),
        Streaming::Mercure => mercure::write_farewell(&mut payload, name, next),
        Streaming::Raw | Streaming::WebSocketRaw => return payload,
    }
    framed(payload, look.chunked)
}

/// What a request for server-sent events gets instead of a `refusal` that is only for now: an answer that ends at once,
/// and tells when to come back, and why.
pub fn come_back(retry_ms: u64, refusal: &Response) -> Response {
    let mut body = Vec::new();
    sse::write_retry(&mut body, retry_ms);
    body.extend_from_slice(b": ");
    body.extend_from_slice(refusal.body.trim_ascii());
    body.push(b'\n');
    let response = Response::new(200, media::EVENT_STREAM, body).with("Cache-Control", NOT_KEPT);
    response.with("Retry-After", retry_ms.div_ceil(1000))
}

/// `Cache-Control` of what is for one client and one moment, and shall come as it was sent: a proxy that compresses
/// holds a stream back until it has enough of it.
pub const NOT_KEPT: &str = "no-store, no-transform";

/// What a stream of Mercure is cut off with, whose client is to come back, at another time than usual if one is named.
/// It is no end in good order: some libraries take that for the end of everything.
pub fn cut_short(look: Look, retry_ms: Option<u64>) -> Vec<u8> {
    let mut payload = Vec::new();
    if let Some(retry_ms) = retry_ms {
        sse::write_retry(&mut payload, retry_ms);
    }
    if payload.is_empty() { payload } else { framed(payload, look.chunked) }
}

/// What ends a chunked answer.
pub const fn closing(chunked: bool) -> &'static [u8] {
    if chunked { LAST_CHUNK } else { b"" }
}
