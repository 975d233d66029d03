//! The clients' sockets: a descriptor, a generation and a few flags per connection, nothing else. TLS sessions stand in a
//! table beside them: as a variant of the socket they would make every plain one larger.
//!
//! Reading and writing are system calls without the C library between: its calls can be cancelled by other threads, and
//! what it does for that shows in a delivery.

use super::clock::Pace;
use super::sys;
use super::tls::{End, Sent, Tls};
use crate::conn::{ConnId, Slot};
use crate::hub::ROOM;
use crate::server::{Line, Sink, WRITES, Write, Wrote};
use crate::time::Instant;
use arrayvec::ArrayVec;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustix::io::{Errno, retry_on_intr, writev};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Shutdown};
use std::os::fd::{AsFd, BorrowedFd};

/// All client sockets, by the slot of their connection.
pub struct Sockets {
    sockets: Vec<Option<Socket>>,
    /// If there is a listener for it.
    tls: Option<Box<Tls>>,
    /// Those with something to read, each once.
    unread: VecDeque<ConnId>,
    /// Those who waited until their socket takes bytes, and now it does.
    writable: VecDeque<ConnId>,
    /// Those for whose bytes the kernel had no memory: no event tells when it has.
    starved: Vec<ConnId>,
    /// How long a turn lasts.
    pub pace: Pace,
    /// Bytes that sockets took.
    pub sent_bytes: u64,
}

#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    generation: u32,
    unread: Unread,
    /// The peer has closed: reading must go on until the end of the stream is seen.
    closed: bool,
    /// It did not take all of a write, and has not told since that it takes more.
    full: bool,
    kind: Kind,
}

/// Whether a socket has something to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unread {
    Nothing,
    /// It is in the queue of those who have.
    Queued,
    /// It is not read for now, and has nothing.
    Paused,
    /// It is not read for now, and has something.
    Waiting,
}

/// What is spoken on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// TLS, whose handshake is not done.
    Opening,
    /// TLS.
    Tls,
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
    pub fn new(tls: Option<Tls>, pace: Pace) -> Self {
        let tls = tls.map(Box::new);
        Self {
            sockets: Vec::with_capacity(ROOM),
            tls,
            unread: VecDeque::new(),
            writable: VecDeque::new(),
            starved: Vec::new(),
            pace,
            sent_bytes: 0,
        }
    }

    /// Adds the socket of a new connection and registers it, for both edges, for as long as it lives.
    pub fn insert(&mut self, registry: &Registry, id: ConnId, stream: TcpStream) -> io::Result<()> {
        self.register(registry, id, stream, Kind::Plain)
    }

    /// The same of one that another process has handed over: what its client sent or took meanwhile is looked at once. It
    /// `waits` if it is not to be read for now.
    pub fn adopt(
        &mut self,
        registry: &Registry,
        id: ConnId,
        stream: TcpStream,
        waits: bool,
    ) -> io::Result<()> {
        self.register(registry, id, stream, Kind::Plain)?;
        if let Some(socket) = self.find(id) {
            // The first event tells of room, whoever waits for it.
            socket.full = true;
            socket.unread = if waits { Unread::Paused } else { Unread::Nothing };
        }
        Ok(())
    }

    /// Whether there is a socket of that connection.
    pub fn has(&self, id: ConnId) -> bool {
        let socket = self.sockets.get(id.slot.index()).and_then(Option::as_ref);
        socket.is_some_and(|socket| socket.generation == id.generation)
    }

    fn all(&self) -> impl Iterator<Item = (ConnId, &Socket)> {
        let places = self.sockets.iter().enumerate();
        places.filter_map(|(index, socket)| {
            let socket = socket.as_ref()?;
            Some((ConnId { slot: Slot::new(index as u32), generation: socket.generation }, socket))
        })
    }

    /// Those that do not speak TLS.
    pub fn plain(&self) -> impl Iterator<Item = (ConnId, BorrowedFd<'_>)> {
        let plain = self.all().filter(|(_, socket)| socket.kind == Kind::Plain);
        plain.map(|(id, socket)| (id, socket.stream.as_fd()))
    }

    /// Those that do.
    pub fn tls_ids(&self) -> Vec<ConnId> {
        match &self.tls {
            Some(_) => {
                self.all().filter(|(_, socket)| socket.kind != Kind::Plain).map(|(id, _)| id).collect()
            }
            None => Vec::new(),
        }
    }

    /// The same for a connection that speaks TLS; see [`Tls::insert`].
    pub fn insert_tls(
        &mut self,
        registry: &Registry,
        id: ConnId,
        stream: TcpStream,
        (now, peer, exempt): (Instant, IpAddr, bool),
    ) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Err(io::ErrorKind::Unsupported.into()) };
        tls.insert(now, id, peer, exempt)?;
        self.register(registry, id, stream, Kind::Opening)
    }

    /// TLS, if it is served.
    pub fn tls(&mut self) -> Option<&mut Tls> {
        self.tls.as_deref_mut()
    }

    fn register(
        &mut self,
        registry: &Registry,
        id: ConnId,
        mut stream: TcpStream,
        kind: Kind,
    ) -> io::Result<()> {
        registry.register(&mut stream, token(id), Interest::READABLE | Interest::WRITABLE)?;
        let slot = id.slot.index();
        if slot >= self.sockets.len() {
            self.sockets.resize_with(slot + 1, || None);
        }
        let generation = id.generation;
        self.sockets[slot] =
            Some(Socket { stream, generation, unread: Unread::Nothing, closed: false, full: false, kind });
        Ok(())
    }

    /// Notes that a socket has something to read, or that its peer has closed.
    pub fn note_unread(&mut self, id: ConnId, closed: bool) {
        let Some(socket) = self.find(id) else { return };
        socket.closed |= closed;
        if socket.unread == Unread::Paused {
            socket.unread = Unread::Waiting;
        } else if socket.unread == Unread::Nothing {
            socket.unread = Unread::Queued;
            match (socket.kind, &mut self.tls) {
                (Kind::Opening, Some(tls)) => tls.handshakes.note_ready(id),
                _ => self.unread.push_back(id),
            }
        }
    }

    /// Notes that a socket takes bytes, if anybody waits for that: the kernel says it with every event, and a connection
    /// is not looked at for nothing.
    pub fn note_writable(&mut self, id: ConnId) {
        let Some(socket) = self.find(id) else { return };
        let was_full = std::mem::take(&mut socket.full);
        let kind = socket.kind;
        if was_full && (kind == Kind::Plain || self.flush(id)) {
            self.writable.push_back(id);
        }
    }

    /// The next who waited for that.
    pub fn next_writable(&mut self) -> Option<ConnId> {
        self.writable.pop_front()
    }

    /// Writes what a TLS session has encrypted and not sent. Returns whether there is room for more.
    #[cold]
    pub fn flush(&mut self, id: ConnId) -> bool {
        let Some(Some(socket)) = self.sockets.get_mut(id.slot.index()) else { return false };
        if let (Kind::Opening | Kind::Tls, Some(tls)) = (socket.kind, &mut self.tls) {
            socket.full = !tls.flush(id.slot, &socket.stream);
        }
        !socket.full
    }

    /// Reads a socket no more for now.
    pub fn pause(&mut self, id: ConnId) {
        if let Some(socket) = self.find(id) {
            socket.unread = match socket.unread {
                Unread::Nothing | Unread::Paused => Unread::Paused,
                Unread::Queued | Unread::Waiting => Unread::Waiting,
            };
        }
    }

    /// Reads a socket again.
    pub fn resume(&mut self, id: ConnId) {
        let Some(socket) = self.find(id) else { return };
        match socket.unread {
            Unread::Paused => socket.unread = Unread::Nothing,
            Unread::Waiting => {
                socket.unread = Unread::Queued;
                self.unread.push_back(id);
            }
            Unread::Nothing | Unread::Queued => {}
        }
    }

    /// Has a socket take no more once so many bytes have not been sent.
    #[cold]
    pub fn bound_unsent(&mut self, id: ConnId, bytes: u32) {
        if let Some(socket) = self.find(id) {
            sys::bound_unsent(&socket.stream, bytes);
        }
    }

    /// Whether any socket has something to read, or somebody waits to write.
    pub fn has_work(&self) -> bool {
        !self.unread.is_empty() || !self.writable.is_empty()
    }

    /// Whether a handshake can go on.
    pub fn has_handshakes(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.handshakes.has_ready())
    }

    /// When something is to be done for TLS, if nothing happens before.
    pub fn next_deadline(&self) -> Instant {
        self.tls.as_ref().map_or(Instant::NEVER, |tls| tls.handshakes.next_deadline().min(tls.expiry.look_at))
    }

    /// Begins the reading of a turn; those whose handshakes are late are returned.
    pub fn begin_turn(&mut self, now: Instant) -> Vec<ConnId> {
        let Some(tls) = &mut self.tls else { return Vec::new() };
        tls.handshakes.begin_turn();
        tls.handshakes.resume(now);
        std::iter::from_fn(|| tls.handshakes.next_late(now)).collect()
    }

    /// Reads the next socket that has something, once.
    pub fn read_next(&mut self, now: Instant, scratch: &mut [u8]) -> Option<(ConnId, Read)> {
        let id = match self.unread.pop_front() {
            Some(id) => id,
            None => self.tls.as_mut()?.handshakes.next(now)?,
        };
        let Some(socket) = self.find(id) else { return Some((id, Read::Nothing)) };
        if matches!(socket.unread, Unread::Paused | Unread::Waiting) {
            return Some((id, Read::Nothing));
        }
        socket.unread = Unread::Nothing;
        if socket.kind != Kind::Plain {
            return Some((id, self.read_tls(id, scratch)));
        }
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

    #[inline(never)]
    fn read_tls(&mut self, id: ConnId, scratch: &mut [u8]) -> Read {
        let (Some(Some(socket)), Some(tls)) = (self.sockets.get_mut(id.slot.index()), &mut self.tls) else {
            return Read::Nothing;
        };
        let received = tls.read(id, &socket.stream, scratch);
        if socket.kind == Kind::Opening && tls.is_open(id.slot) {
            socket.kind = Kind::Tls;
        }
        socket.full |= tls.has_unsent(id.slot);
        let again = received.again || (socket.closed && received.end.is_none() && received.bytes > 0);
        if again {
            self.note_unread(id, false);
        }
        match received.end {
            _ if received.bytes > 0 => Read::Bytes(received.bytes),
            Some(End::Closed) => Read::End,
            Some(End::Broken) => Read::Broken,
            None => Read::Nothing,
        }
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
        let Some(socket) = self.find(id) else { return };
        if socket.kind != Kind::Plain {
            return self.finish_tls(id);
        }
        // It fails only if the peer was faster, and then there is nothing to say.
        let _ = socket.stream.shutdown(Shutdown::Write);
    }

    #[cold]
    fn finish_tls(&mut self, id: ConnId) {
        if let (Some(Some(socket)), Some(tls)) = (self.sockets.get(id.slot.index()), &mut self.tls) {
            tls.finish(id.slot, &socket.stream);
        }
    }

    /// Closes a socket.
    pub fn close(&mut self, id: ConnId) {
        let Some(socket) = self.find(id) else { return };
        if socket.kind != Kind::Plain {
            self.finish_tls(id);
            self.tls.as_mut().into_iter().for_each(|tls| tls.remove(id));
        }
        self.sockets[id.slot.index()] = None;
        self.shrink();
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
        self.sent_bytes += result.unwrap_or(0) as u64;
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

    /// Encrypts and writes.
    #[inline(never)]
    fn write_tls(&mut self, slot: Slot, slices: &[IoSlice<'_>]) -> Wrote {
        let (Some(Some(socket)), Some(tls)) = (self.sockets.get_mut(slot.index()), &mut self.tls) else {
            return Wrote::Broken;
        };
        let offered = slices.iter().map(|slice| slice.len()).sum();
        match tls.write(slot, &socket.stream, slices) {
            Sent::Bytes(count) => {
                self.sent_bytes += count as u64;
                socket.full |= count < offered;
                Wrote::Bytes(count)
            }
            Sent::Starved => {
                self.starved.push(ConnId { slot, generation: socket.generation });
                Wrote::Bytes(0)
            }
            Sent::Broken => Wrote::Broken,
        }
    }

    fn find(&mut self, id: ConnId) -> Option<&mut Socket> {
        let socket = self.sockets.get_mut(id.slot.index())?.as_mut()?;
        (socket.generation == id.generation).then_some(socket)
    }
}

impl Sink for Sockets {
    fn is_over(&mut self, done: usize) -> bool {
        self.pace.is_over(done)
    }

    fn is_late(&mut self) -> bool {
        self.pace.is_late()
    }

    fn line(&mut self, id: ConnId) -> Option<Line> {
        let socket = self.find(id)?;
        sys::line(&socket.stream, socket.stream.peer_addr().ok()?)
    }

    fn begin_part(&mut self) {
        self.pace.begin_part();
    }

    fn spent(&mut self) -> u32 {
        self.pace.spent()
    }

    fn write(&mut self, id: ConnId, slices: &[IoSlice<'_>]) -> Wrote {
        let Some(socket) = self.find(id) else { return Wrote::Broken };
        if socket.kind != Kind::Plain {
            return self.write_tls(id.slot, slices);
        }
        let result = match slices {
            [one] => send_some(&socket.stream, one),
            many => retry_on_intr(|| writev(&socket.stream, many)),
        };
        self.wrote(id.slot, slices.iter().map(|slice| slice.len()).sum(), result)
    }

    fn write_each(&mut self, writes: &mut [Write<'_>]) {
        for writes in writes.chunks_mut(WRITES) {
            // With every write the kernel pushes our records out of the caches, so all are looked at before the first.
            let plain = |socket: &&Socket| socket.kind == Kind::Plain;
            let streams =
                writes.iter().map(|write| self.sockets.get(write.slot.index())?.as_ref().filter(plain));
            let streams: ArrayVec<Option<BorrowedFd>, WRITES> =
                streams.map(|socket| socket.map(|socket| socket.stream.as_fd())).collect();
            let results: ArrayVec<rustix::io::Result<usize>, WRITES> = writes
                .iter()
                .zip(streams)
                .map(|(write, stream)| send_some(stream.ok_or(Errno::BADF)?, write.bytes))
                .collect();
            for (write, result) in writes.iter_mut().zip(results) {
                write.wrote = match result {
                    // It has no plain socket.
                    Err(Errno::BADF) => self.write_tls(write.slot, &[IoSlice::new(write.bytes)]),
                    result => self.wrote(write.slot, write.bytes.len(), result),
                };
            }
        }
    }
}

/// Writes what the socket takes at once of `bytes`.
fn send_some(stream: impl AsFd, bytes: &[u8]) -> rustix::io::Result<usize> {
    retry_on_intr(|| send(&stream, bytes, SendFlags::NOSIGNAL))
}
