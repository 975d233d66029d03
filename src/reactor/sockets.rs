//! The clients' sockets: a descriptor, a generation and a few flags per connection, nothing else.
//!
//! Reading and writing are system calls without the C library between: its calls can be cancelled by other threads, and
//! what it does for that shows in a delivery.

use crate::conn::{ConnId, Slot};
use crate::hub::ROOM;
use crate::server::{Sink, WRITES, Write, Wrote};
use arrayvec::ArrayVec;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustix::io::{Errno, retry_on_intr, writev};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};

/// All client sockets, by the slot of their connection.
#[derive(Debug)]
pub struct Sockets {
    sockets: Vec<Option<Socket>>,
    /// Those with something to read, each once.
    unread: VecDeque<ConnId>,
    /// Those for whose bytes the kernel had no memory: no event tells when it has.
    starved: Vec<ConnId>,
}

#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    generation: u32,
    /// In the queue of those with something to read.
    unread: bool,
    /// The peer has closed: reading must go on until the end of the stream is seen.
    closed: bool,
    /// It did not take all of a write, and has not told since that it takes more.
    full: bool,
}

/// What reading a socket gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// The client sends nothing more.
    End,
    /// The connection is broken.
    Broken,
    /// Nothing at the moment.
    Nothing,
}

/// The token of a connection.
fn token(id: ConnId) -> Token {
    Token((id.generation as usize) << 32 | id.slot.index())
}

/// The connection of a token.
pub fn id(token: Token) -> ConnId {
    ConnId { slot: Slot::new(token.0 as u32), generation: (token.0 >> 32) as u32 }
}

impl Sockets {
    /// No sockets yet.
    pub fn new() -> Self {
        Self { sockets: Vec::with_capacity(ROOM), unread: VecDeque::new(), starved: Vec::new() }
    }

    /// Adds the socket of a new connection and registers it, for both edges, for as long as it lives.
    pub fn insert(&mut self, registry: &Registry, id: ConnId, mut stream: TcpStream) -> io::Result<()> {
        registry.register(&mut stream, token(id), Interest::READABLE | Interest::WRITABLE)?;
        let slot = id.slot.index();
        if slot >= self.sockets.len() {
            self.sockets.resize_with(slot + 1, || None);
        }
        self.sockets[slot] =
            Some(Socket { stream, generation: id.generation, unread: false, closed: false, full: false });
        Ok(())
    }

    /// Notes that a socket has something to read, or that its peer has closed.
    pub fn note_unread(&mut self, id: ConnId, closed: bool) {
        let Some(socket) = self.find(id) else { return };
        socket.closed |= closed;
        if !std::mem::replace(&mut socket.unread, true) {
            self.unread.push_back(id);
        }
    }

    /// Notes that a socket takes bytes. Returns whether anybody waits for that: the kernel says it with every
    /// event, and a connection is not looked at for nothing.
    pub fn note_writable(&mut self, id: ConnId) -> bool {
        self.find(id).is_some_and(|socket| std::mem::take(&mut socket.full))
    }

    /// Whether any socket has something to read.
    pub fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Reads the next socket that has something, once.
    pub fn read_next(&mut self, scratch: &mut [u8]) -> Option<(ConnId, Read)> {
        let id = self.unread.pop_front()?;
        let Some(socket) = self.find(id) else { return Some((id, Read::Nothing)) };
        socket.unread = false;
        let closed = socket.closed;
        let (read, again) = match recv(&socket.stream, &mut *scratch, RecvFlags::empty()) {
            Ok((0, _)) => (Read::End, false),
            // A short read has drained the socket; only a full one, or a close that came together with bytes,
            // leaves something behind that no event will tell.
            Ok((count, _)) => (Read::Bytes(count), closed || count == scratch.len()),
            Err(Errno::AGAIN) => (Read::Nothing, false),
            Err(Errno::INTR) => (Read::Nothing, true),
            Err(_) => (Read::Broken, false),
        };
        if again {
            self.note_unread(id, false);
        }
        Some((id, read))
    }

    /// Whether the kernel had no memory for what was written to somebody.
    pub fn has_starved(&self) -> bool {
        !self.starved.is_empty()
    }

    /// Those whose writes have to be tried again.
    pub fn take_starved(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.starved)
    }

    /// Shuts down the writing side.
    pub fn half_close(&mut self, id: ConnId) {
        if let Some(socket) = self.find(id) {
            // It fails only if the peer was faster, and then there is nothing to say.
            let _ = socket.stream.shutdown(Shutdown::Write);
        }
    }

    /// Closes a socket.
    pub fn close(&mut self, id: ConnId) {
        if self.find(id).is_some() {
            self.sockets[id.slot.index()] = None;
            self.shrink();
        }
    }

    /// Gives back the places behind the last socket, once three quarters of the room are not used, but for what there
    /// was at the beginning.
    #[inline(never)]
    fn shrink(&mut self) {
        while let Some(None) = self.sockets.last() {
            self.sockets.pop();
        }
        if self.sockets.len() < self.sockets.capacity() / 4 && self.sockets.capacity() > ROOM {
            self.sockets.shrink_to(ROOM.max(self.sockets.capacity() / 2));
        }
    }

    /// Notes what became of a write of so many bytes.
    fn wrote(&mut self, slot: Slot, offered: usize, result: rustix::io::Result<usize>) -> Wrote {
        // Nearly always: the record need not be fetched again.
        if result == Ok(offered) {
            return Wrote::Bytes(offered);
        }
        let Some(Some(socket)) = self.sockets.get_mut(slot.index()) else { return Wrote::Broken };
        match result {
            Ok(_) | Err(Errno::AGAIN) => socket.full = true,
            // The kernel has no memory at the moment: the connection is as good as before.
            Err(Errno::NOBUFS | Errno::NOMEM) => {
                self.starved.push(ConnId { slot, generation: socket.generation });
            }
            Err(_) => return Wrote::Broken,
        }
        Wrote::Bytes(result.unwrap_or(0))
    }

    fn find(&mut self, id: ConnId) -> Option<&mut Socket> {
        let socket = self.sockets.get_mut(id.slot.index())?.as_mut()?;
        (socket.generation == id.generation).then_some(socket)
    }
}

impl Sink for Sockets {
    fn write(&mut self, id: ConnId, slices: &[IoSlice<'_>]) -> Wrote {
        let Some(socket) = self.find(id) else { return Wrote::Broken };
        let result = match slices {
            [one] => send_some(&socket.stream, one),
            many => retry_on_intr(|| writev(&socket.stream, many)),
        };
        self.wrote(id.slot, slices.iter().map(|slice| slice.len()).sum(), result)
    }

    fn write_each(&mut self, writes: &mut [Write<'_>]) {
        for writes in writes.chunks_mut(WRITES) {
            // With every write the kernel pushes our records out of the caches, so all are looked at before the first.
            let streams = writes.iter().map(|write| self.sockets.get(write.slot.index())?.as_ref());
            let streams: ArrayVec<Option<BorrowedFd>, WRITES> =
                streams.map(|socket| socket.map(|socket| socket.stream.as_fd())).collect();
            let results: ArrayVec<rustix::io::Result<usize>, WRITES> = writes
                .iter()
                .zip(streams)
                .map(|(write, stream)| send_some(stream.ok_or(Errno::BADF)?, write.bytes))
                .collect();
            for (write, result) in writes.iter_mut().zip(results) {
                write.wrote = self.wrote(write.slot, write.bytes.len(), result);
            }
        }
    }
}

/// Writes what the socket takes at once of `bytes`.
fn send_some(stream: impl AsFd, bytes: &[u8]) -> rustix::io::Result<usize> {
    retry_on_intr(|| send(&stream, bytes, SendFlags::NOSIGNAL))
}
