//! Signals become events: each puts a byte into a socket that the reactor polls.
//!
//! No thread waits for them. A process with one thread has cheaper system calls, as the kernel need not hold on to the
//! descriptor that is at work: 50 ns each.

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use std::io::{self, Read};
use std::os::unix::net;

/// SIGTERM and SIGINT.
pub struct Signals(UnixStream);

impl Signals {
    /// Catches them from now on, and registers the socket that tells of them.
    pub fn watch(registry: &Registry, token: Token) -> io::Result<Self> {
        let (caught, teller) = net::UnixStream::pair()?;
        caught.set_nonblocking(true)?;
        let mut caught = UnixStream::from_std(caught);
        registry.register(&mut caught, token, Interest::READABLE)?;
        pipe::register(SIGTERM, teller.try_clone()?)?;
        pipe::register(SIGINT, teller)?;
        Ok(Self(caught))
    }

    /// How many were caught since the last time.
    pub fn take(&mut self) -> usize {
        let (mut count, mut bytes) = (0, [0; 16]);
        while let Ok(read @ 1..) = self.0.read(&mut bytes) {
            count += read;
        }
        count
    }
}
