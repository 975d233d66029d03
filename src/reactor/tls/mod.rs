//! TLS on clients' sockets, by rustls.
//!
//! Its unbuffered interface keeps no bytes: what a parked connection holds is the session's keys, and nothing of ours
//! but a few words beside them. All connections are decrypted in one buffer and encrypted in another one. Sockets of
//! plain connections know nothing of this: sessions stand beside them, in a table of their own that is empty without TLS.
//!
//! ```text
//!  socket ─ recv ─▶ incoming ─ session ─▶ the reactor's scratch ─▶ server
//!  socket ◀─ send ─ outgoing ◀─ session ◀─ shared frames ◀──────── server
//! ```
//!
//! The cryptography is `ring`'s: gcc builds it, it brings few crates along, and its licences are those of the others.
//! `aws-lc-rs`, rustls' own choice, is three times as large and wants cmake where there are no bindings for the target.

mod certificates;
mod handshakes;
mod session;

pub use certificates::{Certificates, Expiry};
pub use session::Sent;

use crate::config::Config;
use crate::conn::{ConnId, Slot};
use crate::hub::ROOM;
use crate::id::Key;
use crate::time::Instant;
use handshakes::Handshakes;
use mio::net::TcpStream;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use session::{RECORD_BYTES, Session};
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::sync::Arc;

/// Most bytes of one read: with what was left of a record before, they fit what plain reads fit into.
const READ_BYTES: usize = 40 << 10;

/// What reading a TLS connection gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes for the server.
    pub bytes: usize,
    /// What else: `None` if there may be more later, else the end, or that the connection is broken.
    pub end: Option<End>,
    /// No event will tell of what may be left in the socket.
    pub again: bool,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client sends nothing more.
    Closed,
    /// It cannot go on.
    Broken,
}

/// All sessions, and what they share.
pub struct Tls {
    config: Arc<ServerConfig>,
    /// By the slot of their connection.
    sessions: Vec<Option<Box<Session>>>,
    /// Those whose handshake is not done.
    pub handshakes: Handshakes,
    /// Warns of certificates that end.
    pub expiry: Expiry,
    incoming: Box<[u8]>,
    outgoing: Box<[u8]>,
}

impl Tls {
    /// TLS with these certificates and the limits of `config`; `key` is for counting by address.
    pub fn new(config: &Config, certificates: Certificates, key: Key) -> io::Result<Self> {
        Ok(Self {
            expiry: Expiry::new(certificates.ends()),
            config: Arc::new(server_config(certificates)?),
            sessions: Vec::new(),
            handshakes: Handshakes::new(config, key),
            incoming: vec![0; READ_BYTES + RECORD_BYTES].into(),
            outgoing: vec![0; RECORD_BYTES].into(),
        })
    }

    /// Begins a session; its client's handshake is awaited from now on. Addresses that are `exempt` may have any number
    /// of them in a second.
    pub fn insert(&mut self, now: Instant, id: ConnId, peer: IpAddr, exempt: bool) -> io::Result<()> {
        let session = Session::new(Arc::clone(&self.config)).map_err(io::Error::other)?;
        let slot = id.slot.index();
        if slot >= self.sessions.len() {
            self.sessions.resize_with(slot + 1, || None);
        }
        self.sessions[slot] = Some(Box::new(session));
        self.handshakes.begin(now, id, peer, exempt);
        Ok(())
    }

    /// Takes new certificates and the limits of `settings`, for sessions that begin from now on. Tickets stay good.
    pub fn renew(&mut self, settings: &Config, certificates: Certificates) {
        self.handshakes.reconfigure(settings);
        let mut config = ServerConfig::clone(&self.config);
        self.expiry = Expiry::new(certificates.ends());
        config.cert_resolver = Arc::new(certificates);
        self.config = Arc::new(config);
    }

    /// Whether the handshake of a session is done.
    pub fn is_open(&self, slot: Slot) -> bool {
        self.session(slot).is_some_and(Session::is_open)
    }

    /// Reads the socket once, into `plain`.
    pub fn read(&mut self, id: ConnId, stream: &TcpStream, plain: &mut [u8]) -> Received {
        let broken = Received { bytes: 0, end: Some(End::Broken), again: false };
        let Some(Some(session)) = self.sessions.get_mut(id.slot.index()) else { return broken };
        if session.is_ended() {
            return Received { end: Some(End::Closed), ..broken };
        }
        let kept = session.take_partial(&mut self.incoming);
        let count = match recv(stream, &mut self.incoming[kept..kept + READ_BYTES], RecvFlags::empty()) {
            Ok((0, _)) => {
                session.keep(&self.incoming[..kept]);
                return Received { end: Some(End::Closed), ..broken };
            }
            Ok((count, _)) => count,
            Err(error) => {
                session.keep(&self.incoming[..kept]);
                let is_over = !matches!(error, Errno::AGAIN | Errno::INTR);
                return Received {
                    bytes: 0,
                    end: is_over.then_some(End::Broken),
                    again: error == Errno::INTR,
                };
            }
        };
        let was_open = session.is_open();
        let result = session.receive(&mut self.incoming[..kept + count], plain, stream);
        if !was_open && (session.is_open() || result.is_err()) {
            self.handshakes.done(id, session.kind(), &result);
        }
        match result {
            Ok(bytes) => {
                let again = count == READ_BYTES || session.is_ended();
                // The end is told with the next read if there are bytes to be taken first.
                let end = (session.is_ended() && bytes == 0).then_some(End::Closed);
                Received { bytes, end, again: again && end.is_none() }
            }
            Err(_) => broken,
        }
    }

    /// Whether there is something that the socket has not taken.
    pub fn has_unsent(&self, slot: Slot) -> bool {
        self.session(slot).is_some_and(Session::has_unsent)
    }

    /// Encrypts and writes what the socket takes of `slices`.
    pub fn write(&mut self, slot: Slot, stream: &TcpStream, slices: &[IoSlice<'_>]) -> Sent {
        match self.sessions.get_mut(slot.index()) {
            Some(Some(session)) => session.write(stream, slices, &mut self.outgoing),
            _ => Sent::Broken,
        }
    }

    /// Writes what the socket did not take before. Returns whether it has all of it.
    pub fn flush(&mut self, slot: Slot, stream: &TcpStream) -> bool {
        let Some(Some(session)) = self.sessions.get_mut(slot.index()) else { return true };
        // If the connection is broken, the next write tells.
        session.flush(stream);
        !session.has_unsent()
    }

    /// Tells the client that nothing more comes.
    pub fn finish(&mut self, slot: Slot, stream: &TcpStream) {
        if let Some(Some(session)) = self.sessions.get_mut(slot.index()) {
            session.finish(stream, &mut self.outgoing);
        }
    }

    /// Forgets a session.
    pub fn remove(&mut self, id: ConnId) {
        if let Some(place) = self.sessions.get_mut(id.slot.index()) {
            *place = None;
            self.handshakes.forget(id);
        }
        while let Some(None) = self.sessions.last() {
            self.sessions.pop();
        }
        if self.sessions.len() < self.sessions.capacity() / 4 && self.sessions.capacity() > ROOM {
            self.sessions.shrink_to(ROOM.max(self.sessions.capacity() / 2));
        }
    }

    fn session(&self, slot: Slot) -> Option<&Session> {
        self.sessions.get(slot.index())?.as_deref()
    }
}

fn server_config(certificates: Certificates) -> io::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Sessions are resumed by tickets, whose keys change every six hours and are good for twelve. Nothing is kept here.
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(io::Error::other)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}
