//! A listening socket: accepting, and pausing when there are no descriptors left.

use super::{ADMIN, CLIENTS, TLS, sys};
use crate::config::Config;
use crate::time::Instant;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Milliseconds without accepting after the system refused a socket.
const PAUSE_MS: u64 = 100;

/// What listeners are for, by their number.
const KINDS: [Token; 3] = [CLIENTS, ADMIN, TLS];

/// The server closes a client that stalls, and says so; the kernel gives up one that is not there.
pub const fn unacknowledged(config: &Config) -> Duration {
    Duration::from_secs(config.limits.stalled_seconds + 5)
}

/// A listener and whether it has connections for us.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    token: Token,
    /// When to accept again: at once, at a time after a pause, or after the next event.
    retry_at: Instant,
    /// The system has no descriptors left, and that has been logged.
    exhausted: bool,
}

impl Listener {
    /// Binds and registers a listener.
    pub fn bind(
        registry: &Registry,
        address: SocketAddr,
        token: Token,
        unacknowledged: Duration,
    ) -> io::Result<Self> {
        let socket = sys::listen(address, unacknowledged)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
        Self::of(registry, socket, token)
    }

    /// Registers a socket that another process has handed over, of that [kind](Listener::kind).
    pub fn adopt(registry: &Registry, socket: net::TcpListener, kind: u8) -> io::Result<Self> {
        let token = KINDS.get(usize::from(kind)).ok_or(io::ErrorKind::InvalidData)?;
        Self::of(registry, socket, *token)
    }

    /// What it is for, as a number that another process knows.
    pub fn kind(&self) -> u8 {
        KINDS.iter().position(|token| *token == self.token).unwrap_or_default() as u8
    }

    /// Registers a socket that listens already.
    fn of(registry: &Registry, socket: net::TcpListener, token: Token) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let mut socket = TcpListener::from_std(socket);
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(Self { socket, address, token, retry_at: Instant::NEVER, exhausted: false })
    }

    /// Takes over the sockets that the service manager has opened, and binds what it has not: one for clients, and those
    /// that `config` has for operators and for TLS. By its name (`FileDescriptorName=`), a socket is for `admin`, for
    /// `tls`, or for clients.
    pub fn bind_all(registry: &Registry, config: &Config) -> io::Result<Vec<Self>> {
        let unacknowledged = unacknowledged(config);
        let mut listeners = Vec::new();
        for (name, socket) in sys::inherited(unacknowledged)? {
            let token = match name.as_str() {
                "admin" => ADMIN,
                "tls" if config.tls.certificate.is_empty() => {
                    return Err(io::Error::other(
                        "the service manager gives a socket for TLS: needs tls.certificate",
                    ));
                }
                "tls" => TLS,
                _ => CLIENTS,
            };
            listeners.push(Self::of(registry, socket, token)?);
        }
        let wanted = [(CLIENTS, Some(config.listen)), (ADMIN, config.admin_listen), (TLS, config.tls.listen)];
        for (token, address) in wanted {
            if let Some(address) = address.filter(|_| !listeners.iter().any(|it: &Self| it.token == token)) {
                listeners.push(Self::bind(registry, address, token, unacknowledged)?);
            }
        }
        Ok(listeners)
    }

    /// Sets how long what is sent to clients accepted from now on may stay unacknowledged.
    pub fn give_up_after(&self, unacknowledged: Duration) {
        if let Err(error) = sys::give_up_after(&self.socket, unacknowledged) {
            log::warn!("{}: cannot set limits.stalled_seconds: {error}", self.address);
        }
    }

    /// The address it is bound to.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its token.
    pub const fn token(&self) -> Token {
        self.token
    }

    /// Notes that connections wait. A pause goes on.
    pub fn note_ready(&mut self) {
        if !self.exhausted {
            self.retry_at = Instant::default();
        }
    }

    /// When to call [`Listener::accept`] again, if no event says so before.
    pub const fn retry_at(&self) -> Instant {
        self.retry_at
    }

    /// The next connection, if there is one.
    pub fn accept(&mut self, now: Instant) -> Option<(TcpStream, SocketAddr)> {
        while self.retry_at <= now {
            match self.socket.accept() {
                Ok(accepted) => {
                    self.resume();
                    return Some(accepted);
                }
                // A pause is over, too: accept(2) takes the descriptor before it looks for a connection, so that
                // it may have failed without one, and no later event is to be missed.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.resume();
                    self.retry_at = Instant::NEVER;
                }
                // The client was gone before we came.
                Err(error) if is_of_the_client(&error) => {}
                Err(error) => self.pause(now, &error),
            }
        }
        None
    }

    fn pause(&mut self, now: Instant, error: &io::Error) {
        if !self.exhausted {
            let remedy = match Errno::from_io_error(error) {
                Some(Errno::MFILE | Errno::NFILE) => " (raise the limit of open files)",
                _ => "",
            };
            log::warn!("cannot accept: {error}; trying again every {PAUSE_MS} ms{remedy}");
        }
        self.exhausted = true;
        self.retry_at = now + PAUSE_MS;
    }

    fn resume(&mut self) {
        if self.exhausted {
            log::info!("accepting again");
            self.exhausted = false;
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}
