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

    /// Whether one was caught since the last time. Several at once are one: who sends a signal to a process and to its
    /// group means it once.
    pub fn take(&mut self) -> bool {
        let (mut is_caught, mut bytes) = (false, [0; 16]);
        while let Ok(1..) = self.0.read(&mut bytes) {
            is_caught = true;
        }
        is_caught
    }
}
