//! One client: it asks, takes what comes, checks that nothing is missing that was not announced, and asks again.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use rustix::net::sockopt::set_socket_linger;

use crate::book::Book;
use crate::frame;
use crate::mark::{self, Mark, Torn};
use crate::technique::{Session, Technique, request};

/// Bytes per payload.
pub const PAYLOAD_BYTES: usize = 200;
/// Ways of telling a gap, in a head, an event or an envelope.
const GAPS: [&[u8]; 4] = [b"Encke-Gap: ", b"event: encke.gap", b"\"gap\":{", b"\"gap\":true"];
/// The longest of them, without its last byte: it may come in two pieces.
const TAIL_BYTES: usize = 15;
/// Milliseconds between two interval polls.
const INTERVAL: Duration = Duration::from_millis(1000);

/// The head of an answer, as far as it matters here.
pub struct Head {
    pub status: u16,
    pub length: usize,
    pub body: Option<usize>,
}

impl Head {
    pub fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut answer = httparse::Response::new(&mut headers);
        let status = answer.parse(bytes).map_err(io::Error::other)?;
        let httparse::Status::Complete(length) = status else { return Ok(None) };
        let status = answer.code.unwrap_or(0);
        let field = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let body = field.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
        Ok(Some(Self { status, length, body: if matches!(status, 204 | 304) { Some(0) } else { body } }))
    }
}

/// What is counted over all clients.
pub struct Count {
    /// What times are counted from.
    pub started: Instant,
    pub deliveries: u64,
    pub gaps: u64,
    pub latency: hdrhistogram::Histogram<u64>,
    /// What must not happen, in words.
    pub faults: Vec<String>,
}

impl Count {
    pub fn time(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    /// Asked, and the answer has not come whole.
    Asked,
    Streaming,
    /// Asks again at this time.
    Waiting(Instant),
}

/// A place that one client after the other takes; each goes on where the last one was.
pub struct Client {
    pub channel: usize,
    pub technique: Technique,
    socket: Option<TcpStream>,
    phase: Phase,
    /// The last message it had.
    last: u64,
    /// A gap was told since.
    gap: bool,
    unread: Vec<u8>,
    tail: Vec<u8>,
    /// Of a Bayeux client.
    session: Session,
    /// When it connected: what was published before says nothing about latency.
    born: u64,
    /// When it last heard anything.
    pub heard: Instant,
    /// When it is born, or dies.
    pub turn: Instant,
}

/// How a client goes.
#[derive(Clone, Copy, Debug)]
pub enum Death {
    Close,
    Reset,
}

impl Client {
    pub fn new(channel: usize, technique: Technique, turn: Instant) -> Self {
        Self {
            channel,
            technique,
            socket: None,
            phase: Phase::Connecting,
            last: 0,
            gap: false,
            unread: Vec::new(),
            tail: Vec::new(),
            session: Session::default(),
            born: 0,
            heard: turn,
            turn,
        }
    }

    pub const fn is_alive(&self) -> bool {
        self.socket.is_some()
    }

    /// Whether it is owed something: an answer, or a sign of life.
    pub const fn waits(&self) -> bool {
        !matches!(self.phase, Phase::Waiting(_)) && self.is_alive()
    }

    /// Whether it has to ask again.
    pub fn is_due(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Waiting(until) if until <= now) && self.is_alive()
    }

    pub fn connect(&mut self, address: SocketAddr, now: Instant, born: u64) -> io::Result<&mut TcpStream> {
        self.phase = Phase::Connecting;
        self.heard = now;
        self.born = born;
        Ok(self.socket.insert(TcpStream::connect(address)?))
    }

    pub fn die(&mut self, death: Death) {
        let Some(socket) = self.socket.take() else { return };
        if let Death::Reset = death {
            // If it fails, it was a close.
            let _ = set_socket_linger(&socket, Some(Duration::ZERO));
        }
        self.unread = Vec::new();
        self.tail.clear();
        self.gap = false;
        self.session = Session::default();
    }

    /// Something happened to its socket, or its time has come.
    pub fn act(&mut self, book: &Book, now: Instant, count: &mut Count, scratch: &mut [u8]) {
        if let Err(error) = self.try_act(book, now, count, scratch) {
            count
                .faults
                .push(format!("{:?} on c{}, {:?}: {error}", self.technique, self.channel, self.phase));
            self.die(Death::Close);
        }
    }

    fn try_act(
        &mut self,
        book: &Book,
        now: Instant,
        count: &mut Count,
        scratch: &mut [u8],
    ) -> io::Result<()> {
        match (self.phase, &mut self.socket) {
            (_, None) => return Ok(()),
            (Phase::Connecting, Some(socket)) => {
                if let Some(error) = socket.take_error()? {
                    return Err(error);
                }
                if socket.peer_addr().is_ok() {
                    self.ask(book)?;
                }
            }
            (Phase::Waiting(until), _) if until <= now => {
                self.heard = now;
                self.ask(book)?;
            }
            _ => {}
        }
        while let Some(socket) = &mut self.socket {
            match socket.read(scratch) {
                Ok(0) => return Err(io::Error::other("the server closed the connection")),
                Ok(length) => {
                    self.heard = now;
                    let time = count.time();
                    self.take(&scratch[..length], book, now, time, count)?;
                }
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) =>
                {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Asks for what is newer than the last message it had; later, if its id is not known yet.
    fn ask(&mut self, book: &Book) -> io::Result<()> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        let Some(id) = book.id(self.channel, self.last) else {
            self.phase = Phase::Waiting(Instant::now() + Duration::from_millis(5));
            return Ok(());
        };
        let request = match self.technique {
            Technique::Bayeux => self.session.request(self.channel),
            technique => request(technique, self.channel, id),
        };
        self.phase = Phase::Asked;
        match socket.write(request.as_bytes())? {
            length if length == request.len() => Ok(()),
            _ => Err(io::Error::other("a fresh socket did not take a whole request")),
        }
    }

    fn take(
        &mut self,
        bytes: &[u8],
        book: &Book,
        now: Instant,
        time: u64,
        count: &mut Count,
    ) -> io::Result<()> {
        self.tail.extend_from_slice(bytes);
        let is_told = GAPS.iter().any(|gap| memchr::memmem::find(&self.tail, gap).is_some());
        self.gap |= is_told;
        count.gaps += u64::from(is_told);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL_BYTES));
        if is_told {
            self.tail.clear();
        }

        let mut whole = std::mem::take(&mut self.unread);
        whole.extend_from_slice(bytes);
        let used = self.consume(&whole, book, now, time, count)?;
        whole.drain(..used);
        self.unread = whole;
        Ok(())
    }

    /// How many of `bytes` are done with.
    fn consume(
        &mut self,
        bytes: &[u8],
        book: &Book,
        now: Instant,
        time: u64,
        count: &mut Count,
    ) -> io::Result<usize> {
        let mut used = 0;
        if self.phase == Phase::Asked {
            let Some(head) = Head::parse(bytes)? else { return Ok(0) };
            if self.technique.is_endless() && head.status == self.technique.status() {
                self.phase = Phase::Streaming;
                used = head.length;
            } else if !self.technique.is_endless() && matches!(head.status, 200 | 204 | 304) {
                let end = head.length + head.body.unwrap_or(0);
                let Some(body) = bytes.get(head.length..end) else { return Ok(0) };
                self.marks(body, time, count)?;
                match self.technique {
                    // It begins with the first message after it has subscribed.
                    Technique::Bayeux => self.gap |= self.session.answer(body).map_err(io::Error::other)?,
                    _ => self.gap = false,
                }
                match self.technique {
                    Technique::Interval => self.phase = Phase::Waiting(now + INTERVAL),
                    _ => self.ask(book)?,
                }
                return Ok(end);
            } else {
                return Err(io::Error::other(format!("answered {}", String::from_utf8_lossy(bytes))));
            }
        }
        if self.technique != Technique::Websocket {
            return Ok(used + self.marks(&bytes[used..], time, count)?);
        }
        // The length of a frame may look like the beginning of a payload.
        while let Some((payload, length)) = frame::first(&bytes[used..]) {
            self.marks(payload, time, count)?;
            used += length;
        }
        Ok(used)
    }

    fn marks(&mut self, bytes: &[u8], time: u64, count: &mut Count) -> io::Result<usize> {
        mark::scan(bytes, PAYLOAD_BYTES, |mark| self.message(mark, time, count))
            .map_err(|Fault(text)| io::Error::other(text))
    }

    fn message(&mut self, mark: Mark, time: u64, count: &mut Count) -> Result<(), Fault> {
        count.deliveries += 1;
        // What waited for a client that was away has no latency.
        let Mark { lane, number, .. } = mark;
        let is_live = number == self.last + 1 && !self.gap;
        if lane as usize != self.channel || number <= self.last || !is_live && !self.gap {
            let (last, channel) = (self.last, self.channel);
            return Err(Fault(format!(
                "after message {last} of c{channel} came {number} of c{lane}, and no gap was told"
            )));
        }
        if is_live && mark.time >= self.born && self.technique != Technique::Interval {
            count.latency.saturating_record(time.saturating_sub(mark.time));
        }
        self.last = number;
        self.gap = false;
        Ok(())
    }
}

struct Fault(String);

impl From<Torn> for Fault {
    fn from(_: Torn) -> Self {
        Self("a payload came with other bytes than were sent".into())
    }
}
