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
    /// Endless chunks of nothing but messages
    Raw,
    /// Long polling, one message verbatim per answer
    Poll,
    /// Long polling, JSON batches
    PollJson,
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
        matches!(self, Self::Stream | Self::Sse | Self::Raw)
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
        let name = match self {
            Self::Stream => "stream",
            Self::Sse => "sse",
            Self::Raw => "raw",
            Self::Poll | Self::PollJson | Self::Bayeux => "poll",
            Self::Interval => "interval",
        };
        write!(out, "GET /sub/c{number}?as={name}")?;
        if let Some(cursor) = cursor {
            write!(out, "&after={}", cursor.id)?;
        }
        out.write_all(b" HTTP/1.1\r\nHost: bench\r\n")?;
        if self == Self::PollJson {
            out.write_all(b"Accept: application/json\r\n")?;
        }
        out.write_all(b"\r\n")
    }

    fn nchan(self, number: u32, cursor: Option<&Cursor>, out: &mut Vec<u8>) -> std::io::Result<()> {
        let (path, header) = match self {
            Self::Stream => ("stream", "TE: chunked\r\n"),
            Self::Sse => ("sse", "Accept: text/event-stream\r\n"),
            Self::Raw => ("raw", ""),
            Self::Poll | Self::PollJson | Self::Bayeux => ("poll", ""),
            Self::Interval => ("interval", ""),
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
