//! One subscriber: asks, reads, hands every message to the ledger, and asks again where the technique wants it.

use std::io::{self, Read, Write};

use mio::net::TcpStream;

use crate::answer::{Head, excerpt};
use crate::bayeux::Session;
use crate::error::Error;
use crate::frame;
use crate::ledger::{Ledger, Room};
use crate::mark;
use crate::secure::Secure;
use crate::technique::{Cursor, Dialect, Technique};

/// What all subscribers of a run have in common.
#[derive(Clone, Copy)]
pub struct Manner {
    pub technique: Technique,
    pub dialect: Dialect,
    /// Bytes per payload.
    pub payload: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    /// Asked, and the head has not come.
    Waiting,
    /// In the body of an endless answer.
    Streaming,
}

/// What a call brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Nothing,
    /// It has asked for the first time; a session has been subscribed, and connects.
    Asked,
    /// The endless answer has begun.
    Began,
    /// An interval poll is answered; the next is due after the interval.
    Answered {
        first: bool,
    },
}

pub struct Subscriber {
    socket: TcpStream,
    secure: Option<Box<Secure>>,
    rooms: Box<[Room]>,
    phase: Phase,
    cursor: Option<Box<Cursor>>,
    session: Session,
    /// What was read and could not be used yet; empty nearly always.
    rest: Vec<u8>,
}

impl Subscriber {
    pub fn new(socket: TcpStream, secure: Option<Secure>, rooms: Box<[Room]>) -> Self {
        let (phase, secure) = (Phase::Connecting, secure.map(Box::new));
        Self { socket, secure, rooms, phase, cursor: None, session: Session::None, rest: Vec::new() }
    }

    pub fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// The socket can be written: if it was connecting, it is connected or failed.
    pub fn writable(&mut self, manner: Manner) -> Result<Outcome, Error> {
        if self.phase != Phase::Connecting {
            return Ok(Outcome::Nothing);
        }
        if let Some(error) = self.socket.take_error()? {
            return Err(Error::Unreachable(error));
        }
        self.begin(manner)
    }

    /// Asks, as soon as the handshake is done.
    fn begin(&mut self, manner: Manner) -> Result<Outcome, Error> {
        if let Some(secure) = &mut self.secure
            && !secure.shake(&mut self.socket)?
        {
            return Ok(Outcome::Nothing);
        }
        self.ask(manner)?;
        Ok(if manner.technique == Technique::Bayeux { Outcome::Nothing } else { Outcome::Asked })
    }

    /// Sends the request: a few hundred bytes into an empty socket buffer, so it is taken whole.
    pub fn ask(&mut self, manner: Manner) -> Result<(), Error> {
        let mut request = Vec::with_capacity(256);
        match manner.technique {
            Technique::Bayeux => self.session.request(&self.rooms, &mut request),
            technique => {
                technique.request(
                    manner.dialect,
                    self.rooms[0].channel,
                    self.cursor.as_deref(),
                    &mut request,
                );
            }
        }
        self.phase = Phase::Waiting;
        let written = match &mut self.secure {
            Some(secure) => secure.write(&mut self.socket, &request),
            None => self.socket.write(&request),
        };
        match written {
            Ok(length) if length == request.len() => Ok(()),
            Ok(_) => Err(Error::Limit("a socket did not take a whole request".into())),
            Err(error) => Err(Error::Closed(format!("while asking: {error}"))),
        }
    }

    /// Reads all there is; `clock` is asked once per read. Adds to `bytes` what was read.
    pub fn readable(
        &mut self,
        manner: Manner,
        scratch: &mut [u8],
        ledger: &mut Ledger,
        bytes: &mut u64,
        clock: impl Fn() -> u64,
    ) -> Result<Outcome, Error> {
        let mut outcome = Outcome::Nothing;
        if self.phase == Phase::Connecting && self.secure.is_some() {
            outcome = self.begin(manner)?;
            if self.phase == Phase::Connecting {
                return Ok(outcome);
            }
        }
        loop {
            let read = match &mut self.secure {
                Some(secure) => secure.read(&mut self.socket, scratch),
                None => self.socket.read(scratch),
            };
            let length = match read {
                Ok(0) => return Err(Error::Closed(format!("a subscriber's, {:?}", self.phase))),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(outcome),
                Err(error) => {
                    return Err(Error::Closed(format!("a subscriber's, {:?}: {error}", self.phase)));
                }
            };
            *bytes += length as u64;
            let now = clock();
            match self.received(manner, &scratch[..length], ledger, now)? {
                Outcome::Nothing => {}
                other => outcome = other,
            }
            // What is decrypted comes in pieces of its own.
            if length < scratch.len() && self.secure.is_none() {
                return Ok(outcome);
            }
        }
    }

    fn received(
        &mut self,
        manner: Manner,
        bytes: &[u8],
        ledger: &mut Ledger,
        now: u64,
    ) -> Result<Outcome, Error> {
        if self.rest.is_empty() {
            let (used, outcome) = self.consume(manner, bytes, ledger, now)?;
            self.rest.extend_from_slice(&bytes[used..]);
            return Ok(outcome);
        }
        let mut whole = std::mem::take(&mut self.rest);
        whole.extend_from_slice(bytes);
        let (used, outcome) = self.consume(manner, &whole, ledger, now)?;
        if used < whole.len() {
            whole.drain(..used);
            self.rest = whole;
        }
        Ok(outcome)
    }

    fn consume(
        &mut self,
        manner: Manner,
        bytes: &[u8],
        ledger: &mut Ledger,
        now: u64,
    ) -> Result<(usize, Outcome), Error> {
        let (mut used, mut outcome) = (0, Outcome::Nothing);
        if self.phase == Phase::Waiting {
            let Some(head) = Head::parse(bytes)? else { return Ok((0, outcome)) };
            if let (Some(length), false) = (head.body, manner.technique.is_endless()) {
                let end = head.length + length;
                if bytes.len() < end {
                    return Ok((0, outcome));
                }
                if bytes.len() > end {
                    return Err(Error::Refused(format!(
                        "more than one answer to a poll: {}",
                        excerpt(bytes)
                    )));
                }
                outcome = self.answered(manner, &head, &bytes[head.length..], ledger, now)?;
                return Ok((end, outcome));
            }
            if head.status != manner.technique.status()
                || head.body.is_some()
                || !manner.technique.is_endless()
            {
                return Err(Error::Refused(excerpt(bytes)));
            }
            self.phase = Phase::Streaming;
            used = head.length;
            outcome = Outcome::Began;
        }
        let rooms = &mut self.rooms;
        let mut scan = |bytes| mark::scan(bytes, manner.payload, |mark| ledger.deliver(mark, rooms, now));
        if manner.technique != Technique::Websocket {
            used += scan(&bytes[used..])?;
            return Ok((used, outcome));
        }
        // The length of a frame may look like the beginning of a payload.
        while let Some((payload, length)) = frame::first(&bytes[used..]) {
            scan(payload)?;
            used += length;
        }
        Ok((used, outcome))
    }

    /// A poll is answered: asks again, at once or after the interval.
    fn answered(
        &mut self,
        manner: Manner,
        head: &Head,
        body: &[u8],
        ledger: &mut Ledger,
        now: u64,
    ) -> Result<Outcome, Error> {
        if !matches!(head.status, 200 | 204 | 304 | 408) {
            return Err(Error::Refused(format!("{} {}", head.status, excerpt(body))));
        }
        let rooms = &mut self.rooms;
        let used = mark::scan(body, manner.payload, |mark| ledger.deliver(mark, rooms, now))?;
        if used < body.len() {
            return Err(Error::Wrong("a poll's answer ends in the middle of a message".into()));
        }
        if manner.technique == Technique::Bayeux {
            let begins = matches!(self.session, Session::Begun(_));
            self.session.answered(body)?;
            self.ask(manner)?;
            return Ok(if begins { Outcome::Asked } else { Outcome::Nothing });
        }
        let first = self.cursor.is_none();
        if let Some(cursor) = &head.cursor {
            self.cursor = Some(Box::new(cursor.clone()));
        }
        if manner.technique == Technique::Interval {
            return Ok(Outcome::Answered { first });
        }
        self.ask(manner)?;
        Ok(Outcome::Nothing)
    }
}
