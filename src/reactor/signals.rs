//! Signals become events: each sets its flag and puts a byte into a socket that the reactor polls.
//!
//! No thread waits for them. A process with one thread has cheaper system calls, as the kernel need not hold on to the
//! descriptor that is at work: 50 ns each.

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::flag;
use signal_hook::low_level::pipe;
use std::io::{self, Read};
use std::os::unix::net;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To leave: SIGTERM, SIGINT.
    Leave,
    /// To read the settings anew: SIGHUP.
    Reload,
    /// To hand over to another process: SIGUSR2.
    Upgrade,
    /// Nothing: SIGUSR1 has no meaning here, and must not kill.
    Nothing,
}

const CAUGHT: [(i32, Wish); 5] = [
    (SIGTERM, Wish::Leave),
    (SIGINT, Wish::Leave),
    (SIGHUP, Wish::Reload),
    (SIGUSR1, Wish::Nothing),
    (SIGUSR2, Wish::Upgrade),
];

/// The signals that are caught.
pub struct Signals {
    teller: UnixStream,
    flags: Vec<(Arc<AtomicBool>, Wish)>,
}

impl Signals {
    /// Catches them from now on, and registers the socket that tells of them.
    pub fn watch(registry: &Registry, token: Token) -> io::Result<Self> {
        let (caught, teller) = net::UnixStream::pair()?;
        caught.set_nonblocking(true)?;
        let mut caught = UnixStream::from_std(caught);
        registry.register(&mut caught, token, Interest::READABLE)?;
        let mut flags = Vec::new();
        for (signal, wish) in CAUGHT {
            let flag = Arc::new(AtomicBool::new(false));
            // In this order: who is woken finds the flag set.
            flag::register(signal, Arc::clone(&flag))?;
            pipe::register(signal, teller.try_clone()?)?;
            flags.push((flag, wish));
        }
        Ok(Self { teller: caught, flags })
    }

    /// What was asked for since the last time. The same signal several times at once counts once: who sends a signal to
    /// a process and to its group means it once.
    pub fn take(&mut self) -> Vec<Wish> {
        let mut bytes = [0; 16];
        while let Ok(1..) = self.teller.read(&mut bytes) {}
        let mut wishes: Vec<Wish> = Vec::new();
        for (flag, wish) in &self.flags {
            if flag.swap(false, Ordering::SeqCst) && !wishes.contains(wish) {
                wishes.push(*wish);
            }
        }
        wishes
    }
}
