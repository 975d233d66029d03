//! How subscribers listen: what each technique asks, and whose URLs it uses.
//!
//! A technique is a way to ask and a way to go on; how a message is wrapped does not matter (see [`crate::mark`]). A new
//! one is a variant here, with its request; a new server a [`Dialect`].

use std::io::Write;

use clap::ValueEnum;

/// Whose URLs and headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// `/sub/c0?as=…&after=…` and `/pub/c0`; the floor speaks it too
    Encke,
    /// `/stream/c0`, `/sse/c0`, `/poll/c0` and `/pub/c0`, as in the configuration that the suite writes for nchan
    Nchan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Technique {
    /// Endless JSON lines
    Stream,
    /// Server-sent events
    Sse,
    /// Server-sent events with envelopes as data
    SseEnvelope,
    /// Endless chunks of nothing but messages
    Raw,
    /// Forever frame: an endless page of scripts
    Iframe,
    /// An endless multipart/mixed
    Multipart,
    /// An endless multipart/x-mixed-replace
    Replace,
    /// WebSocket with envelopes
    Websocket,
    /// Long polling, one message verbatim per answer
    Poll,
    /// Long polling, JSON batches
    PollJson,
    /// Long polling, answered by a script
    Jsonp,
    /// Interval polling
    Interval,
    /// Bayeux long polling, see [`crate::bayeux`]
    Bayeux,
}

/// What an answer said about where to go on.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    pub id: String,
    /// nchan's ids have two halves.
    pub modified: String,
}

impl Technique {
    /// One answer goes on for ever, instead of one per poll.
    pub fn is_endless(self) -> bool {
        !matches!(self, Self::Poll | Self::PollJson | Self::Jsonp | Self::Interval | Self::Bayeux)
    }

    /// Whether the configuration that the suite writes for nchan knows it.
    pub fn is_nchans(self) -> bool {
        matches!(
            self,
            Self::Stream
                | Self::Sse
                | Self::Raw
                | Self::Websocket
                | Self::Poll
                | Self::PollJson
                | Self::Interval
        )
    }

    /// The status of an answer that has messages, or will have.
    pub fn status(self) -> u16 {
        if self == Self::Websocket { 101 } else { 200 }
    }

    /// What Encke calls it, as the beginning of a query.
    pub fn choice(self) -> &'static str {
        match self {
            Self::Stream => "as=stream",
            Self::Sse => "as=sse",
            Self::SseEnvelope => "as=sse-envelope",
            Self::Raw => "as=raw",
            Self::Iframe => "as=iframe",
            Self::Multipart => "as=multipart",
            Self::Replace => "as=x-mixed-replace",
            Self::Poll | Self::PollJson | Self::Bayeux => "as=poll",
            Self::Jsonp => "as=jsonp&callback=f",
            Self::Interval => "as=interval",
            // Its header fields say it.
            Self::Websocket => "",
        }
    }

    /// The header fields that it needs.
    pub fn fields(self) -> &'static str {
        match self {
            Self::PollJson => "Accept: application/json\r\n",
            // As of a page of our own.
            Self::Jsonp => "Sec-Fetch-Site: same-origin\r\n",
            Self::Websocket => {
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            }
            _ => "",
        }
    }

    /// Appends the request (of all techniques but Bayeux) for channel `number`, going on at `cursor` if there is one.
    pub fn request(self, dialect: Dialect, number: u32, cursor: Option<&Cursor>, out: &mut Vec<u8>) {
        match dialect {
            Dialect::Encke => self.encke(number, cursor, out),
            Dialect::Nchan => self.nchan(number, cursor, out),
        }
        .expect("a Vec takes everything");
    }

    fn encke(self, number: u32, cursor: Option<&Cursor>, out: &mut Vec<u8>) -> std::io::Result<()> {
        write!(out, "GET /sub/c{number}?{}", self.choice())?;
        if let Some(cursor) = cursor {
            write!(out, "&after={}", cursor.id)?;
        }
        write!(out, " HTTP/1.1\r\nHost: bench\r\n{}\r\n", self.fields())
    }

    fn nchan(self, number: u32, cursor: Option<&Cursor>, out: &mut Vec<u8>) -> std::io::Result<()> {
        let (path, header) = match self {
            Self::Sse => ("sse", "Accept: text/event-stream\r\n"),
            Self::Raw => ("raw", ""),
            Self::Websocket => ("websocket", self.fields()),
            Self::Poll | Self::PollJson | Self::Interval => ("poll", ""),
            // Those that it does not know have been refused.
            _ => ("stream", "TE: chunked\r\n"),
        };
        write!(out, "GET /{path}/c{number} HTTP/1.1\r\nHost: bench\r\n{header}")?;
        if let Some(cursor) = cursor {
            write!(out, "If-None-Match: {}\r\nIf-Modified-Since: {}\r\n", cursor.id, cursor.modified)?;
        }
        out.write_all(b"\r\n")
    }
}

/// Appends a publish request.
pub fn publish(number: u32, body: &[u8], out: &mut Vec<u8>) {
    write!(
        out,
        "POST /pub/c{number} HTTP/1.1\r\nHost: bench\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .expect("a Vec takes everything");
    out.extend_from_slice(body);
}
