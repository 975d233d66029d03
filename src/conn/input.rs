//! Requests out of bytes that arrive in any pieces.
//!
//! A request that lies whole in the bytes just read is served from there, without a copy
//! ([`whole_request`]). Otherwise its bytes are gathered until it is complete ([`Input`]); a chunked body is
//! decoded while it is gathered, so that a limit on the message is a limit on the memory.

use crate::carry::carry;
use crate::config::Limits;
use crate::wire::chunked::Decoder;
use crate::wire::head::{self, Framing, Head, Refusal, Slots};

const HEAD_TOO_LARGE: Refusal = Refusal { status: 431, detail: "the head is larger than limits.head_bytes" };
const BODY_TOO_LARGE: Refusal =
    Refusal { status: 413, detail: "the message is larger than limits.message_bytes" };

const TARGET_TOO_LARGE: Refusal =
    Refusal { status: 414, detail: "path and query are longer than limits.target_bytes" };
const NOT_HTTP: Refusal = Refusal { status: 400, detail: "this is not HTTP; TLS is not spoken here" };

/// A complete request.
#[derive(Debug)]
pub struct Request<'b> {
    /// Its head.
    pub head: Head<'b>,
    /// Its body, without transfer coding.
    pub body: &'b [u8],
}

/// The request at the front of `bytes` and its length, if it lies there whole and nothing is the matter with it:
/// the way of nearly all requests. Any other must be gathered.
pub fn whole_request<'b>(
    bytes: &'b [u8],
    limits: &Limits,
    slots: &'b mut Slots<'b>,
) -> Option<(Request<'b>, usize)> {
    let within = &bytes[..bytes.len().min(limits.head_bytes)];
    if !within.first()?.is_ascii_alphabetic() {
        return None;
    }
    let (head, end) = head::parse_front(within, slots)?;
    let Framing::Length(length) = head.framing else { return None };
    let total = end + sized(length, limits).ok()?;
    let body = bytes.get(end..total).filter(|_| head.target.len() <= limits.target_bytes)?;
    Some((Request { head, body }, total))
}

/// A request that has arrived in part, or bytes that wait behind a parked one.
#[derive(Debug, Default)]
pub struct Input {
    /// The head; then the body, decoded.
    bytes: Vec<u8>,
    stage: Stage,
    /// Bytes of the body, and what follows it, that wait for an earlier answer to be taken.
    behind: Vec<u8>,
    /// Requests that came together with the bytes that wait, and have been served.
    pub served: usize,
}

carry! {
    struct Input { bytes, stage, behind, served }
}

#[derive(Debug, Default)]
enum Stage {
    /// The head's end has not been seen.
    #[default]
    Head,
    /// The body, which begins at `head_end`, is complete when `bytes` has length `total`.
    Sized { head_end: usize, total: usize },
    /// A chunked body, which begins at `head_end`.
    Chunked { head_end: usize, decoder: Box<Decoder> },
}

carry! {
    enum Stage { 0 => Head, 1 => Sized { head_end: usize, total: usize }, 2 => Chunked { head_end: usize, decoder: Box<Decoder> } }
}

/// What became of bytes given to [`Input::gather`].
#[derive(Debug, PartialEq, Eq)]
pub struct Gathered {
    /// So many of them belonged to the request.
    pub used: usize,
    /// The request is complete.
    pub complete: bool,
    /// The client waits for `100 Continue` (RFC 9110, section 10.1.1).
    pub wants_continue: bool,
}

impl Input {
    /// Adds bytes behind a parked poll, or behind an answer that is not taken.
    pub fn push(&mut self, bytes: &[u8]) {
        match self.stage {
            Stage::Head => self.bytes.extend_from_slice(bytes),
            _ => self.behind.extend_from_slice(bytes),
        }
    }

    /// Bytes that wait.
    pub const fn waiting_len(&self) -> usize {
        match self.stage {
            Stage::Head => self.bytes.len(),
            _ => self.behind.len(),
        }
    }

    /// What there is of the head.
    pub fn head(&self) -> &[u8] {
        match self.stage {
            Stage::Head => &self.bytes,
            Stage::Sized { head_end, .. } | Stage::Chunked { head_end, .. } => &self.bytes[..head_end],
        }
    }

    /// What there is of a head that is not complete, unless a body has begun.
    pub fn head_so_far(&self) -> Option<&[u8]> {
        matches!(self.stage, Stage::Head).then_some(&*self.bytes)
    }

    /// Takes the bytes that wait, to serve them; what has been gathered of a body stays.
    pub fn take_waiting(&mut self) -> Vec<u8> {
        match self.stage {
            Stage::Head => std::mem::take(&mut self.bytes),
            _ => std::mem::take(&mut self.behind),
        }
    }

    /// Whether none are held.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether nothing has arrived but an empty line, or the beginning of one, which is no request yet.
    pub fn is_blank(&self) -> bool {
        !self.in_body() && self.bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
    }

    /// Bytes of memory that it takes, with the room they have grown into.
    pub const fn kept_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity() + self.behind.capacity()
    }

    /// Bytes of the body that have come, decoded.
    pub const fn body_len(&self) -> usize {
        match self.stage {
            Stage::Head => 0,
            Stage::Sized { head_end, .. } | Stage::Chunked { head_end, .. } => self.bytes.len() - head_end,
        }
    }

    /// Whether the head is complete and the body is arriving.
    pub const fn in_body(&self) -> bool {
        !matches!(self.stage, Stage::Head)
    }

    /// Takes from `bytes` what belongs to the request; first the head alone, so that its sender can be refused
    /// before anything of the body is kept.
    pub fn gather(&mut self, bytes: &[u8], limits: &Limits) -> Result<Gathered, Refusal> {
        if let Stage::Head = self.stage {
            let held = self.bytes.len();
            self.bytes.extend_from_slice(bytes);
            let blank = blank_lines(&self.bytes);
            self.bytes.drain(..blank);
            let Some(end) = head_end(&self.bytes, held.saturating_sub(blank), limits)? else {
                return Ok(Gathered { used: bytes.len(), complete: false, wants_continue: false });
            };
            let used = end + blank - held;
            self.bytes.truncate(end);
            let wants_continue = self.begin_body(end, limits)? && used == bytes.len();
            let complete = self.is_complete();
            return Ok(Gathered { used, complete, wants_continue: wants_continue && !complete });
        }
        let used = self.gather_body(bytes, limits)?;
        Ok(Gathered { used, complete: self.is_complete(), wants_continue: false })
    }

    /// Reads from the complete head what body follows. Returns whether the client expects to be asked for it.
    fn begin_body(&mut self, head_end: usize, limits: &Limits) -> Result<bool, Refusal> {
        let mut slots = head::slots();
        let head = checked(head::parse(&self.bytes, &mut slots)?, limits)?;
        let expects = head.expects_continue;
        self.stage = match head.framing {
            Framing::Length(length) => Stage::Sized { head_end, total: head_end + sized(length, limits)? },
            Framing::Chunked => Stage::Chunked { head_end, decoder: Box::default() },
        };
        Ok(expects)
    }

    fn gather_body(&mut self, bytes: &[u8], limits: &Limits) -> Result<usize, Refusal> {
        match &mut self.stage {
            Stage::Head => Ok(0),
            Stage::Sized { total, .. } => {
                let take = bytes.len().min(*total - self.bytes.len());
                self.bytes.extend_from_slice(&bytes[..take]);
                Ok(take)
            }
            Stage::Chunked { head_end, decoder } => {
                decoder.decode(bytes, &mut self.bytes, *head_end + limits.message_bytes)
            }
        }
    }

    /// Whether all of the request is there.
    pub fn is_complete(&self) -> bool {
        match &self.stage {
            Stage::Head => false,
            Stage::Sized { total, .. } => self.bytes.len() == *total,
            Stage::Chunked { decoder, .. } => decoder.is_done(),
        }
    }

    /// The request, once it is complete.
    pub fn request<'b>(&'b self, slots: &'b mut Slots<'b>) -> Result<Request<'b>, Refusal> {
        let (head, body) = self.bytes.split_at(self.head().len());
        Ok(Request { head: head::parse(head, slots)?, body })
    }
}

fn checked<'b>(head: Head<'b>, limits: &Limits) -> Result<Head<'b>, Refusal> {
    if head.target.len() > limits.target_bytes { Err(TARGET_TOO_LARGE) } else { Ok(head) }
}

/// The end of the head, if it is complete and within its limit.
fn head_end(bytes: &[u8], scanned: usize, limits: &Limits) -> Result<Option<usize>, Refusal> {
    // Told at once, as a TLS client waits for an answer and never sends a line.
    if bytes.first().is_some_and(|first| first.is_ascii_control() && !first.is_ascii_whitespace()) {
        return Err(NOT_HTTP);
    }
    let within = &bytes[..bytes.len().min(limits.head_bytes)];
    match head::find_end(within, scanned.min(within.len()))? {
        None if bytes.len() > limits.head_bytes => Err(HEAD_TOO_LARGE),
        end => Ok(end),
    }
}

fn sized(length: u64, limits: &Limits) -> Result<usize, Refusal> {
    usize::try_from(length).ok().filter(|&length| length <= limits.message_bytes).ok_or(BODY_TOO_LARGE)
}

/// Empty lines before a request, which some clients send (RFC 9112, section 2.2).
fn blank_lines(bytes: &[u8]) -> usize {
    bytes.chunks_exact(2).take_while(|pair| pair == b"\r\n").count() * 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn limits() -> Limits {
        Limits { head_bytes: 200, target_bytes: 100, message_bytes: 20, ..Config::default().limits }
    }

    /// Feeds `parts` one after the other; returns each complete request's path and body.
    fn feed(parts: &[&[u8]]) -> Result<Vec<(String, Vec<u8>)>, u16> {
        let (mut input, mut done) = (Input::default(), Vec::new());
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() {
                let gathered = input.gather(rest, &limits()).map_err(|refusal| refusal.status)?;
                rest = &rest[gathered.used..];
                if gathered.complete {
                    let mut slots = head::slots();
                    let request = input.request(&mut slots).unwrap();
                    done.push((request.head.path.to_owned(), request.body.to_vec()));
                    input = Input::default();
                }
            }
        }
        Ok(done)
    }

    const WIRE: &[u8] = b"\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n\
        POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello\r\n\
        PUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n\
        GET /d HTTP/1.0\r\n\r\n";

    #[test]
    fn requests_cut_at_any_two_bytes() {
        let expected = [("/a", &b""[..]), ("/b", b"hello"), ("/c", b"abcde"), ("/d", b"")]
            .map(|(path, body)| (path.to_owned(), body.to_vec()));
        for first in 0..=WIRE.len() {
            for second in first..=WIRE.len() {
                let parts = [&WIRE[..first], &WIRE[first..second], &WIRE[second..]];
                assert_eq!(feed(&parts).unwrap(), expected, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn a_whole_request_is_served_in_place_and_agrees_with_the_gathered_one() {
        let mut slots = head::slots();
        assert!(whole_request(WIRE, &limits(), &mut slots).is_none(), "blank lines are gathered");
        let mut rest = &WIRE[4..];
        for path in ["/a", "/b"] {
            let mut slots = head::slots();
            let (request, used) = whole_request(rest, &limits(), &mut slots).unwrap();
            assert_eq!(request.head.path, path);
            rest = &rest[used..];
        }
        let mut slots = head::slots();
        assert!(whole_request(rest, &limits(), &mut slots).is_none(), "chunked is gathered");
    }

    #[test]
    fn limits_are_kept_at_the_byte() {
        let head = |length: usize| {
            let fixed = "GET / HTTP/1.0\r\nX: \r\n\r\n".len();
            format!("GET / HTTP/1.0\r\nX: {}\r\n\r\n", "x".repeat(length - fixed))
        };
        assert_eq!(feed(&[head(200).as_bytes()]).unwrap().len(), 1);
        assert_eq!(feed(&[head(201).as_bytes()]), Err(431));
        assert_eq!(feed(&[&[b'x'; 201]]), Err(431), "a request line without end");
        let target = |length: usize| format!("GET /{} HTTP/1.0\r\n\r\n", "x".repeat(length - 1));
        assert_eq!(feed(&[target(100).as_bytes()]).unwrap().len(), 1);
        assert_eq!(feed(&[target(101).as_bytes()]), Err(414));
        let mut slots = head::slots();
        assert!(whole_request(target(101).as_bytes(), &limits(), &mut slots).is_none());
        let body = |length| format!("POST / HTTP/1.0\r\nContent-Length: {length}\r\n\r\n");
        assert_eq!(feed(&[body(20).as_bytes()]).unwrap().len(), 0);
        assert_eq!(feed(&[body(21).as_bytes()]), Err(413));
        let chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(feed(&[chunked, b"14\r\n"]).unwrap().len(), 0);
        assert_eq!(feed(&[chunked, b"15\r\n"]), Err(413));
        assert_eq!(feed(&[chunked, b"13\r\n0123456789012345678\r\n2\r\n"]), Err(413));
    }

    #[test]
    fn the_client_is_asked_for_a_body_it_holds_back() {
        let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
        let mut input = Input::default();
        assert!(input.gather(head, &limits()).unwrap().wants_continue);
        let with_body = [&head[..], b"ab"].concat();
        let mut input = Input::default();
        let gathered = input.gather(&with_body, &limits()).unwrap();
        assert_eq!(gathered, Gathered { used: head.len(), complete: false, wants_continue: false });
        assert!(input.gather(b"ab", &limits()).unwrap().complete);
    }
}
