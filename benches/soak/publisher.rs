//! The one connection that publishes: pipelined, never waiting for an answer.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;

use crate::book::Book;

pub struct Publisher {
    pub socket: TcpStream,
    unsent: Vec<u8>,
    unread: Vec<u8>,
    /// Where each answer to come belongs; none = to a channel that nobody listens to.
    asked: VecDeque<Option<usize>>,
}

impl Publisher {
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let socket = std::net::TcpStream::connect(address)?;
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let socket = TcpStream::from_std(socket);
        Ok(Self { socket, unsent: Vec::new(), unread: Vec::new(), asked: VecDeque::new() })
    }

    /// Publishes on channel `name`, which is number `channel` of the book, if it is in there.
    pub fn publish(&mut self, name: &str, channel: Option<usize>, body: &[u8]) -> io::Result<()> {
        let length = body.len();
        let _ = write!(
            self.unsent,
            "POST /pub/{name} HTTP/1.1\r\nHost: soak\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n"
        );
        if channel.is_none() {
            // No channel is named twice: that fills what remembers keys.
            let _ = write!(self.unsent, "Idempotency-Key: {name}\r\n");
        }
        self.unsent.extend_from_slice(b"\r\n");
        self.unsent.extend_from_slice(body);
        self.asked.push_back(channel);
        self.flush()
    }

    /// Answers that have not come.
    pub fn unanswered(&self) -> usize {
        self.asked.len()
    }

    pub fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads the answers that have come and enters them in the book.
    pub fn read(&mut self, book: &mut Book, scratch: &mut [u8]) -> io::Result<()> {
        loop {
            match self.socket.read(scratch) {
                Ok(0) => return Err(io::Error::other("the server closed the publisher's connection")),
                Ok(count) => self.unread.extend_from_slice(&scratch[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let mut used = 0;
        while let Some(length) = self.answer(used, book)? {
            used += length;
        }
        self.unread.drain(..used);
        Ok(())
    }

    /// Takes one answer, if it is complete; its length.
    fn answer(&mut self, from: usize, book: &mut Book) -> io::Result<Option<usize>> {
        let bytes = &self.unread[from..];
        let Some(head) = crate::client::Head::parse(bytes)? else { return Ok(None) };
        let end = head.length + head.body.unwrap_or(0);
        let Some(body) = bytes.get(head.length..end) else { return Ok(None) };
        if !matches!(head.status, 201 | 202) {
            let text = String::from_utf8_lossy(body);
            return Err(io::Error::other(format!("a publication was refused: {} {text}", head.status)));
        }
        let channel = self.asked.pop_front().ok_or_else(|| io::Error::other("an answer to nothing"))?;
        if let Some(channel) = channel {
            let body = String::from_utf8_lossy(body);
            let id = body.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next());
            book.answer(channel, id.ok_or_else(|| io::Error::other("a publication without id"))?);
        }
        Ok(Some(end))
    }
}
