//! One publishing connection: sends pipelined, counts the answers.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;

use crate::answer::{Head, excerpt};
use crate::bayeux;
use crate::error::Error;

pub struct Publisher {
    socket: TcpStream,
    /// Messages of Bayeux that the next request will bring.
    batch: Vec<u8>,
    /// Requests not sent yet.
    out: Vec<u8>,
    /// Answers not read whole yet.
    rest: Vec<u8>,
    /// Requests without an answer.
    pub unanswered: u32,
    /// Answers in all.
    pub answered: u64,
}

impl Publisher {
    /// Connects, waiting for it: publishers are few and come first, so that a server that is not there shows at once.
    pub fn connect(server: SocketAddr) -> Result<Self, Error> {
        let socket = std::net::TcpStream::connect(server).map_err(Error::Unreachable)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: TcpStream::from_std(socket),
            batch: Vec::new(),
            out: Vec::new(),
            rest: Vec::new(),
            unanswered: 0,
            answered: 0,
        })
    }

    pub fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Queues a request that `write` appends; [`Self::flush`] sends it.
    pub fn queue(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.out);
        self.unanswered += 1;
    }

    /// Adds a message to a batch of Bayeux, which is one request.
    pub fn add(&mut self, channel: u32, data: &[u8]) {
        self.unanswered += u32::from(self.batch.is_empty());
        bayeux::add(channel, data, &mut self.batch);
    }

    /// Sends what is queued, as far as the socket takes it.
    pub fn flush(&mut self) -> Result<(), Error> {
        if !self.batch.is_empty() {
            bayeux::publish(&self.batch, &mut self.out);
            self.batch.clear();
        }
        while !self.out.is_empty() {
            match self.socket.write(&self.out) {
                Ok(length) if length == self.out.len() => self.out.clear(),
                Ok(length) => drop(self.out.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(Error::Closed(format!("a publisher's: {error}"))),
            }
        }
        Ok(())
    }

    /// Reads and counts answers; any that is not a success is an error.
    pub fn readable(&mut self, scratch: &mut [u8]) -> Result<(), Error> {
        loop {
            match self.socket.read(scratch) {
                Ok(0) => return Err(Error::Closed("a publisher's".into())),
                Ok(length) => self.rest.extend_from_slice(&scratch[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(Error::Closed(format!("a publisher's: {error}"))),
            }
        }
        let mut used = 0;
        while let Some(head) = Head::parse(&self.rest[used..])? {
            let Some(body) = head.body else {
                return Err(Error::Refused("a chunked answer to a publisher".into()));
            };
            if self.rest.len() < used + head.length + body {
                break;
            }
            if !matches!(head.status, 200..=202) {
                return Err(Error::Refused(format!("to a publisher: {}", excerpt(&self.rest[used..]))));
            }
            bayeux::expect_success(&self.rest[used + head.length..used + head.length + body])?;
            let Some(left) = self.unanswered.checked_sub(1) else {
                return Err(Error::Refused("more answers than messages published".into()));
            };
            self.unanswered = left;
            self.answered += 1;
            used += head.length + body;
        }
        self.rest.drain(..used);
        Ok(())
    }
}
