//! The side of the process that serves: starts its successor, and parts with everything, or with nothing.

use super::{Greeting, Line, Passage};
use crate::conn::ConnId;
use crate::reactor::listener::Listener;
use crate::reactor::{HANDOVER, Reactor};
use crate::server::handover::{STORING, format};
use crate::time::{Instant, Now};
use mio::Interest;
use mio::net::UnixStream;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net;
use std::process::Child;
use std::time::Duration;

/// Milliseconds that connections by TLS have to end in good order.
const TLS_MS: u64 = 1000;
/// Milliseconds after which it is tried again while something has to be finished first.
const AGAIN_MS: u64 = 10;
/// What the new process says when it has everything.
pub(super) const ADOPTED: u8 = b'+';
/// What the old process says then.
pub(super) const GO: u8 = b'!';

/// A process that is to take over.
pub struct Succession {
    child: Child,
    line: UnixStream,
    heard: Vec<u8>,
    /// When the process has to be ready, or to have taken over.
    deadline: Instant,
    /// It is ready, and connections by TLS are ended until then.
    ready: Option<Instant>,
    /// When to look again.
    look_at: Instant,
}

impl Succession {
    /// When something is to be done.
    pub fn next(&self) -> Instant {
        self.deadline.min(self.look_at)
    }

    /// Whether nobody new is taken by TLS.
    pub const fn is_ready(&self) -> bool {
        self.ready.is_some()
    }
}

impl Reactor {
    /// Starts the process that is to take over, from the file that this one was started from.
    #[cold]
    pub(in crate::reactor) fn begin_succession(&mut self, now: Now) {
        if self.succession.is_some() {
            return log::warn!("upgrade: another one is under way");
        }
        if self.leave_at.is_some() {
            return log::warn!("upgrade: this process leaves already");
        }
        if self.relay.is_some() {
            return log::warn!(
                "upgrade: a history that several servers share cannot be handed over; restart instead"
            );
        }
        let seconds = self.server.config().upgrade_seconds;
        match self.start_successor(now.at.plus_seconds(seconds)) {
            Ok(succession) => {
                log::info!("upgrade: process {} is to take over, within {seconds} s", succession.child.id());
                self.succession = Some(Box::new(succession));
            }
            Err(error) => log::error!("upgrade: cannot start another process: {error}; this one goes on"),
        }
    }

    fn start_successor(&mut self, deadline: Instant) -> io::Result<Succession> {
        if std::process::id() == 1 {
            return Err(io::Error::other("this is process 1, with whose end all others would end"));
        }
        let (own, other) = net::UnixStream::pair()?;
        own.set_nonblocking(true)?;
        let offer = Greeting { format: format(), version: self.host.version(), refusal: String::new() };
        // It fits into the empty buffer of a socket.
        io::Write::write_all(&mut &own, &offer.bytes())?;
        let mut line = UnixStream::from_std(own);
        self.poll.registry().register(&mut line, HANDOVER, Interest::READABLE)?;
        let child = self.host.start_successor(OwnedFd::from(other))?;
        let (heard, ready, look_at) = (Vec::new(), None, Instant::NEVER);
        Ok(Succession { child, line, heard, deadline, ready, look_at })
    }

    /// Hears what the successor says, or sees that it is late. Returns its number if it serves from now on.
    #[cold]
    pub(in crate::reactor) fn attend_succession(&mut self, now: Now) -> Option<u32> {
        let mut succession = self.succession.take()?;
        match self.advance(now, &mut succession) {
            Ok(true) => return Some(succession.child.id()),
            Ok(false) => self.succession = Some(succession),
            Err(error) => self.give_up(*succession, &error),
        }
        None
    }

    /// Lets nobody take over any more: this process leaves.
    #[cold]
    pub(in crate::reactor) fn abandon_succession(&mut self) {
        if let Some(succession) = self.succession.take() {
            self.give_up(*succession, &io::Error::other("this process was told to leave"));
        }
    }

    /// Goes on as if nothing had happened.
    fn give_up(&mut self, mut succession: Succession, why: &io::Error) {
        let pid = succession.child.id();
        // It may have ended by itself.
        let _ = succession.child.kill();
        let _ = succession.child.wait();
        let _ = self.poll.registry().deregister(&mut succession.line);
        log::error!("upgrade: process {pid} has not taken over: {why}; this process goes on");
    }

    fn advance(&mut self, now: Now, succession: &mut Succession) -> io::Result<bool> {
        if succession.ready.is_none() {
            if !succession.hear()? {
                return match succession.deadline <= now.at {
                    true => Err(io::Error::other("it is not ready in time (upgrade_seconds)")),
                    false => Ok(false),
                };
            }
            let ids = self.sockets.tls_ids();
            if !ids.is_empty() {
                log::info!("upgrade: {} connections by TLS are ended in good order", ids.len());
            }
            self.server.send_some_away(now, &ids, &mut self.sockets);
            succession.ready = Some(now.at + TLS_MS);
            succession.deadline = now.at.plus_seconds(self.server.config().upgrade_seconds);
        }
        let is_empty =
            self.sockets.tls_ids().is_empty() || succession.ready.is_some_and(|until| until <= now.at);
        // What is being stored is waited for when nobody is served any more.
        let must_wait = self.server.parting_waits_for().is_some_and(|what| what != STORING);
        if succession.deadline <= now.at {
            return Err(io::Error::other("this process was not ready in time (upgrade_seconds)"));
        }
        if !is_empty || must_wait {
            succession.look_at = now.at + AGAIN_MS;
            return Ok(false);
        }
        self.part(now, succession).map(|()| true)
    }

    /// Parts with everything. From the beginning to the end, nobody is served.
    fn part(&mut self, now: Now, succession: &mut Succession) -> io::Result<()> {
        self.close_store(now);
        let parted = self.part_with(now, succession).map_err(ended);
        if parted.is_err()
            && let Err(error) = self.reopen_store(now)
        {
            self.failure = Some(error.to_string());
        }
        parted
    }

    fn part_with(&mut self, now: Now, succession: &mut Succession) -> io::Result<()> {
        if let Some(what) = self.server.parting_waits_for() {
            return Err(io::Error::other(what));
        }
        let now = Now { at: self.clock.now().at, ..now };
        let plain: Vec<(ConnId, BorrowedFd)> = self.sockets.plain().collect();
        let listeners = self.listeners.iter();
        let passage = Passage {
            at: now.at,
            monotonic: crate::reactor::clock::monotonic(),
            listeners: listeners.clone().map(Listener::kind).collect(),
            sockets: plain.iter().map(|(id, _)| *id).collect(),
            store: self.server.config().store.dir.as_ref().map(|dir| dir.display().to_string()),
            state: self.server.part(),
        };
        let descriptors: Vec<BorrowedFd> =
            listeners.map(AsFd::as_fd).chain(plain.iter().map(|(_, descriptor)| *descriptor)).collect();
        let patience = Duration::from_millis(succession.deadline.millis_since(now.at).max(1));
        let mut line = Line::new(succession.line.as_fd().try_clone_to_owned()?.into(), patience)?;
        line.send_all(&passage.bytes(), &descriptors)?;
        let mut answer = [0];
        line.receive(&mut answer)?;
        if answer != [ADOPTED] {
            return Err(io::Error::other("it says something strange"));
        }
        // From here on this process serves nobody any more.
        line.send(&[GO])
    }
}

/// A process that ends breaks the line.
fn ended(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            io::Error::other("it has ended; its log lines say why")
        }
        _ => error,
    }
}

impl Succession {
    /// Takes what the successor says. Returns whether it is ready.
    fn hear(&mut self) -> io::Result<bool> {
        let mut some = [0; 1024];
        loop {
            match self.line.read(&mut some) {
                Ok(0) => return Err(io::Error::other("it has ended; its log lines say why")),
                Ok(count) => self.heard.extend_from_slice(&some[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(ended(error)),
            }
            let Some(answer) = Greeting::read(&self.heard).map_err(|error| io::Error::other(error.0))? else {
                continue;
            };
            let Greeting { format: of, version, refusal } = answer;
            return match () {
                () if !refusal.is_empty() => {
                    Err(io::Error::other(format!("version {version} says: {refusal}")))
                }
                () if of != format() => Err(io::Error::other(format!(
                    "version {version} keeps its state in another form: it needs a restart"
                ))),
                () => {
                    log::info!("upgrade: version {version} is ready");
                    Ok(true)
                }
            };
        }
    }
}
