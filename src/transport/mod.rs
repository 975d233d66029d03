//! How messages look on the wire: one file per technique, one enum over them.
//!
//! A message is encoded once per [`Format`] and its bytes are shared by all subscribers of that format. What
//! differs between subscribers (a gap, the start of a stream) is rare and composed for each.
//!
//! A new technique is a new file and a new variant here; nothing of it in the hub or the reactor.

pub mod bayeux;
mod envelope;
mod iframe;
pub mod jsonp;
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
pub use script::is_callback;

use crate::config::Config;
use crate::hub::{Gap, Message};
use crate::id::MessageId;
use crate::wire::chunked::{LAST_CHUNK, chunk_length, write_chunk};
use crate::wire::media;
use crate::wire::response::Response;
use crate::wire::websocket::EMPTY_PING;
use std::borrow::Cow;

/// A way to get messages to a client, as `as=` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Technique {
    /// Long polling: waits, then one answer.
    Poll,
    /// Interval polling: never waits.
    Interval,
    /// Server-sent events (WHATWG HTML, section 9.2).
    Sse,
    /// The same with envelopes as data, so that a script learns the channel, and whether data is JSON or text.
    SseEnvelope,
    /// Endless JSON lines.
    Stream,
    /// Endless bare messages.
    Raw,
    /// A poll that is answered by a script.
    Jsonp,
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
}

impl Technique {
    /// The technique of that name in a query.
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "poll" => Self::Poll,
            "interval" => Self::Interval,
            "sse" => Self::Sse,
            "sse-envelope" => Self::SseEnvelope,
            "stream" => Self::Stream,
            "raw" => Self::Raw,
            "jsonp" => Self::Jsonp,
            "iframe" => Self::Iframe,
            "multipart" => Self::Multipart,
            "x-mixed-replace" => Self::Replace,
            _ => return None,
        })
    }

    /// Whether one answer carries all messages, rather than one answer per request.
    pub const fn is_stream(self) -> bool {
        !self.is_poll()
    }

    /// Whether it waits for news and then answers once.
    pub const fn waits(self) -> bool {
        matches!(self, Self::Poll | Self::Jsonp)
    }

    const fn is_poll(self) -> bool {
        matches!(self, Self::Poll | Self::Interval | Self::Jsonp)
    }

    /// Whether a stream of it can show a sign of life.
    pub const fn has_heartbeat(self) -> bool {
        !self.is_poll() && !matches!(self, Self::Raw | Self::Replace)
    }
}

/// One of the byte forms that a message is encoded in at most once. No form's number is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Format {
    /// [`Technique::Sse`] as a chunk.
    Sse = 1,
    /// [`Technique::Sse`] to an HTTP/1.0 client.
    SsePlain,
    /// [`Technique::SseEnvelope`] as a chunk.
    SseEnvelope,
    /// [`Technique::SseEnvelope`] to an HTTP/1.0 client.
    SseEnvelopePlain,
    /// [`Technique::Stream`] as a chunk.
    Stream,
    /// [`Technique::Stream`] to an HTTP/1.0 client.
    StreamPlain,
    /// [`Technique::Raw`] as a chunk.
    Raw,
    /// [`Technique::Raw`] to an HTTP/1.0 client.
    RawPlain,
    /// [`Technique::Iframe`] as a chunk.
    Iframe,
    /// [`Technique::Iframe`] to an HTTP/1.0 client.
    IframePlain,
    /// [`Technique::Multipart`] and [`Technique::Replace`] as a chunk.
    Multipart,
    /// [`Technique::Multipart`] and [`Technique::Replace`] to an HTTP/1.0 client.
    MultipartPlain,
    /// [`Technique::WebSocket`].
    WebSocket,
    /// [`Technique::WebSocketRaw`].
    WebSocketRaw,
    /// A whole answer to a poll: the message verbatim.
    PollVerbatim,
    /// A whole answer to a poll: a batch of this message alone.
    PollBatch,
    /// The body of such an answer.
    BatchBody,
    /// An event of Bayeux.
    Bayeux,
    /// An event of Bayeux that tells its position.
    BayeuxReplay,
}

impl Format {
    /// The formats of streams, in the order of their numbers.
    const OF_STREAMS: [Self; 14] = [
        Self::Sse,
        Self::SsePlain,
        Self::SseEnvelope,
        Self::SseEnvelopePlain,
        Self::Stream,
        Self::StreamPlain,
        Self::Raw,
        Self::RawPlain,
        Self::Iframe,
        Self::IframePlain,
        Self::Multipart,
        Self::MultipartPlain,
        Self::WebSocket,
        Self::WebSocketRaw,
    ];

    /// The format of a stream that has this number.
    pub fn by_number(number: u8) -> Option<Self> {
        Self::OF_STREAMS.get(usize::from(number).wrapping_sub(1)).copied()
    }

    /// Whether it is a whole answer to a poll.
    pub const fn is_poll(self) -> bool {
        matches!(self, Self::PollVerbatim | Self::PollBatch)
    }

    /// The format of a stream; `chunked` unless the client speaks HTTP/1.0.
    pub const fn of_stream(technique: Technique, chunked: bool) -> Self {
        match (technique, chunked) {
            (Technique::Sse, true) => Self::Sse,
            (Technique::Sse, false) => Self::SsePlain,
            (Technique::SseEnvelope, true) => Self::SseEnvelope,
            (Technique::SseEnvelope, false) => Self::SseEnvelopePlain,
            (Technique::Raw, true) => Self::Raw,
            (Technique::Raw, false) => Self::RawPlain,
            (Technique::Iframe, true) => Self::Iframe,
            (Technique::Iframe, false) => Self::IframePlain,
            (Technique::Multipart | Technique::Replace, true) => Self::Multipart,
            (Technique::Multipart | Technique::Replace, false) => Self::MultipartPlain,
            (Technique::WebSocket, _) => Self::WebSocket,
            (Technique::WebSocketRaw, _) => Self::WebSocketRaw,
            (_, true) => Self::Stream,
            (_, false) => Self::StreamPlain,
        }
    }
}

/// The shared bytes of `message` on a stream, and how much was newly encoded for it.
pub fn frame(message: &Message, format: Format) -> (&[u8], usize) {
    message.frame(format as u8, |message| {
        let mut payload = Vec::with_capacity(message.cost());
        let chunked = match format {
            Format::Sse | Format::SsePlain => {
                sse::write_message(&mut payload, message);
                format == Format::Sse
            }
            Format::SseEnvelope | Format::SseEnvelopePlain => {
                sse::write_envelope_event(&mut payload, message);
                format == Format::SseEnvelope
            }
            Format::Raw | Format::RawPlain => {
                raw::write_message(&mut payload, message);
                format == Format::Raw
            }
            Format::Iframe | Format::IframePlain => {
                iframe::write_message(&mut payload, message);
                format == Format::Iframe
            }
            Format::Multipart | Format::MultipartPlain => {
                multipart::write_message(&mut payload, message);
                format == Format::Multipart
            }
            Format::WebSocket => {
                websocket::write_message(&mut payload, message);
                false
            }
            Format::WebSocketRaw => {
                websocket::write_bare(&mut payload, message);
                false
            }
            _ => {
                stream::write_message(&mut payload, message);
                format == Format::Stream
            }
        };
        framed(payload, chunked).into()
    })
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

/// The media type of a stream.
pub const fn content_type(technique: Technique) -> &'static str {
    match technique {
        Technique::Sse | Technique::SseEnvelope => media::EVENT_STREAM,
        Technique::Raw => "application/octet-stream",
        Technique::Iframe => "text/html; charset=utf-8",
        Technique::Multipart => multipart::MIXED,
        Technique::Replace => multipart::REPLACE,
        _ => media::NDJSON,
    }
}

/// What a stream begins with, before the first message: `start` is where it stands, `callback` the function
/// that a forever frame calls.
pub fn opening(
    technique: Technique,
    chunked: bool,
    start: MessageId,
    callback: &str,
    config: &Config,
) -> Vec<u8> {
    let mut payload = Vec::new();
    match technique {
        Technique::Sse | Technique::SseEnvelope => {
            sse::write_opening(&mut payload, start, config.sse.retry_ms, config.heartbeat);
        }
        Technique::WebSocket => websocket::write_opening(&mut payload, start, config.heartbeat),
        Technique::Iframe => iframe::write_opening(&mut payload, start, callback, config),
        Technique::Multipart | Technique::Replace => payload.extend_from_slice(multipart::BOUNDARY),
        Technique::Raw | Technique::WebSocketRaw => {}
        _ => payload.push(b'\n'),
    }
    framed(payload, chunked)
}

/// The notices of `gaps` on a stream; `None` if the technique cannot tell them in band, so that the stream
/// has to end instead.
pub fn gap_notice(technique: Technique, chunked: bool, gaps: &[Gap]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    for gap in gaps {
        let mut payload = Vec::new();
        match technique {
            Technique::Sse => sse::write_gap(&mut payload, gap),
            Technique::SseEnvelope => sse::write_gap_envelope(&mut payload, gap),
            Technique::Iframe => iframe::write_gap(&mut payload, gap),
            Technique::Multipart => multipart::write_gap(&mut payload, gap),
            Technique::Replace => multipart::write_gap_ahead(&mut payload, gap),
            Technique::WebSocket => websocket::write_gap(&mut payload, gap),
            Technique::Raw | Technique::WebSocketRaw => return None,
            _ => stream::write_gap(&mut payload, gap),
        }
        all.extend_from_slice(&framed(payload, chunked));
    }
    Some(all)
}

/// A sign of life; empty if the technique has none. A `loud` one is seen by scripts, too.
pub fn heartbeat(technique: Technique, chunked: bool, loud: bool) -> Cow<'static, [u8]> {
    let sign: &[u8] = match (technique, chunked) {
        (Technique::Sse | Technique::SseEnvelope, true) if loud => {
            b"21\r\nevent: encke.heartbeat\ndata: {}\n\n\r\n"
        }
        (Technique::Sse | Technique::SseEnvelope, false) if loud => b"event: encke.heartbeat\ndata: {}\n\n",
        // No empty line: it would end a block, which some libraries take for a message.
        (Technique::Sse | Technique::SseEnvelope, true) => b"2\r\n:\n\r\n",
        (Technique::Sse | Technique::SseEnvelope, false) => b":\n",
        (Technique::WebSocket, _) if loud => websocket::EMPTY_OBJECT,
        (Technique::WebSocket | Technique::WebSocketRaw, _) => EMPTY_PING,
        (Technique::Multipart, _) => return framed(multipart::EMPTY_OBJECT.to_vec(), chunked).into(),
        (Technique::Raw | Technique::Replace, _) => b"",
        // To a page and to lines of JSON, a line end is nothing.
        (_, true) => b"1\r\n\n\r\n",
        (_, false) => b"\n",
    };
    sign.into()
}

/// What a stream of `technique` ends with. If its client shall come back at another time than usual, after
/// `retry_ms`, it is told where the technique has words for it.
pub fn ending(technique: Technique, chunked: bool, retry_ms: Option<u64>) -> Vec<u8> {
    let mut payload = Vec::new();
    match (technique, retry_ms) {
        (Technique::Multipart | Technique::Replace, _) => payload.extend_from_slice(multipart::END),
        (Technique::Sse | Technique::SseEnvelope, Some(retry_ms)) => {
            sse::write_retry(&mut payload, retry_ms);
        }
        _ => {}
    }
    let last = if payload.is_empty() { payload } else { framed(payload, chunked) };
    [&last, closing(chunked)].concat()
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

/// What ends a chunked answer.
pub const fn closing(chunked: bool) -> &'static [u8] {
    if chunked { LAST_CHUNK } else { b"" }
}
