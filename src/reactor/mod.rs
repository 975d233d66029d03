//! The reactor: one thread, one `mio::Poll`, all I/O.
//!
//! ```text
//!  demo ────┐
//!           ├─▶ Mailbox ─▶ ┌─────────────── Reactor ───────────────┐
//!           …              │ poll · clock · events · tick · deliver │ ─▶ sockets
//!                          └────────────────┬──────────────────────┘
//!                                         Server (sans-IO)
//! ```
//!
//! Sockets are registered once, for both edges: there is no `epoll_ctl` between accept and close. A short
//! read or write tells that the socket is drained or full (epoll(7) allows that conclusion for streams), so
//! that most requests cost one read and one write.

mod clock;
mod handover;
mod history;
mod hook;
mod host;
mod lateness;
mod listener;
mod mailbox;
mod memory;
pub mod relay;
mod reload;
mod sharing;
mod signals;
mod sockets;
pub mod store;
mod sys;
mod tls;

pub use host::{Host, Moment};
pub use mailbox::{Mail, Mailbox};
pub use memory::available as available_memory;
pub use sys::raise_descriptors;

use crate::broker::is_exempt;
use crate::config::Config;
use crate::conn::ConnId;
use crate::dialect::hook::Ask;
use crate::id::{Epoch, Seed};
use crate::server::{Effect, Process, Server, Sink};
use crate::time::{Instant, Now};
use arrayvec::ArrayVec;
use clock::{Clock, Pace};
use handover::Succession;
use hook::Askers;
use lateness::Lateness;
use listener::Listener;
use memory::Resident;
use mio::event::Event;
use mio::{Events, Poll, Token, Waker};
use relay::Relay;
use signals::{Signals, Wish};
use sockets::{Read, Sockets};
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::time::Duration;
use store::Store;
use tls::{Certificates, Tls};

const WAKER: Token = Token(usize::MAX);
const CLIENTS: Token = Token(usize::MAX - 1);
const ADMIN: Token = Token(usize::MAX - 2);
const SIGNALS: Token = Token(usize::MAX - 3);
const TLS: Token = Token(usize::MAX - 4);
const HANDOVER: Token = Token(usize::MAX - 5);

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 1024;
/// Mails taken in one turn.
const MAIL_MAX: usize = 1024;
/// The same while the history is loaded.
const MAIL_LOADING_MAX: usize = 8;
/// Milliseconds until a write is tried again for which the kernel had no memory.
const STARVED_MS: u64 = 20;
/// Most bytes of one read.
const READ_BYTES: usize = 64 << 10;
/// Sockets that are read before what came is looked at: what a request needs of the processor's caches, the kernel
/// pushes out with every read, so that a request that follows another one costs less than one that follows a read.
const READS: usize = 16;
/// Distance of their places in the scratch buffer: a power of two would have all of them share a few cache lines.
const PLACE_BYTES: usize = READ_BYTES + 320;

/// The loop, and what it loops over.
pub struct Reactor {
    poll: Poll,
    server: Server,
    sockets: Sockets,
    listeners: Vec<Listener>,
    mailbox: Mailbox,
    mail: Receiver<Mail>,
    /// Somebody called.
    has_mail: bool,
    signals: Signals,
    clock: Clock,
    /// What all sockets are read into.
    scratch: Box<[u8]>,
    resident: Resident,
    /// When to look again how much memory is resident, if anything happens then.
    weigh_at: Instant,
    /// By which time deadlines are judged.
    lateness: Lateness,
    /// When to try again the writes for which the kernel had no memory.
    feed_at: Instant,
    /// The process around it.
    host: Box<dyn Host>,
    /// The settings as they were given; the server has widened some.
    running: Config,
    /// `admin_listen` is not from the settings.
    has_admin_given: bool,
    /// How often the service manager is told that the process is alive, and when next.
    watchdog: Option<Duration>,
    alive_at: Instant,
    /// The history on disk, if it is kept there.
    store: Option<Store>,
    /// The history that is shared with other servers, if it is.
    relay: Option<Relay>,
    /// Those who ask the application.
    askers: Askers,
    /// Who is to take over, while there is somebody.
    succession: Option<Box<Succession>>,
    /// Why the process must not go on.
    failure: Option<String>,
    /// When a shutdown stops waiting.
    leave_at: Option<Instant>,
}

/// What a shutdown left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Connections that had to be cut off.
    pub connections: usize,
    /// The number of the process that serves from now on, if there is one.
    pub successor: Option<u32>,
}

/// What a reactor stands on.
struct Ground {
    poll: Poll,
    mailbox: Mailbox,
    mail: Receiver<Mail>,
}

/// What follows from settings and listeners.
struct Rest {
    /// The settings, with what the listeners tell of them.
    config: Config,
    has_admin_given: bool,
    listeners: Vec<Listener>,
    sockets: Sockets,
}

impl Rest {
    fn of(mut config: Config, listeners: Vec<Listener>, seed: Seed) -> io::Result<Self> {
        // Where the service manager has opened the admin listener, what belongs there vanishes from the other one, too.
        let has_admin_given = config.admin_listen.is_none();
        let admin = listeners.iter().find(|listener| listener.token() == ADMIN);
        config.admin_listen = config.admin_listen.or_else(|| admin.map(Listener::address));
        let mut tls = None;
        if listeners.iter().any(|listener| listener.token() == TLS) {
            let key = seed.key("TLS handshakes by address");
            tls = Some(Tls::new(&config, Certificates::read(&config)?, key)?);
        }
        let sockets = Sockets::new(tls, Pace::new(config.turn.milliseconds));
        Ok(Self { config, has_admin_given, listeners, sockets })
    }
}

impl Reactor {
    /// Binds the listeners of `config`.
    pub fn new(config: Config, host: Box<dyn Host>) -> io::Result<Self> {
        let ground = Self::ground()?;
        let seed = draw_seed()?;
        let listeners = Listener::bind_all(ground.poll.registry(), &config)?;
        let rest = Rest::of(config, listeners, seed)?;
        let mut clock = Clock::start();
        let begun = history::begin(rest.config.clone(), seed, clock.now(), &ground.mailbox)?;
        Self::build(ground, rest, host, clock, begun)
    }

    fn ground() -> io::Result<Ground> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let (mailbox, mail) = Mailbox::new(waker);
        Ok(Ground { poll, mailbox, mail })
    }

    fn build(
        ground: Ground,
        rest: Rest,
        host: Box<dyn Host>,
        mut clock: Clock,
        (server, store, relay): history::Begun,
    ) -> io::Result<Self> {
        let Ground { poll, mailbox, mail } = ground;
        let Rest { config, has_admin_given, listeners, sockets } = rest;
        let now = clock.now();
        let askers = Askers::new(&config, mailbox.clone());
        Ok(Self {
            running: config,
            has_admin_given,
            watchdog: host.watchdog().map(|period| period / 2),
            alive_at: now.at,
            host,
            server,
            sockets,
            listeners,
            mailbox,
            mail,
            has_mail: false,
            signals: Signals::watch(poll.registry(), SIGNALS)?,
            clock,
            scratch: vec![0; READS * PLACE_BYTES].into(),
            resident: Resident::open(),
            weigh_at: Instant::default(),
            lateness: Lateness::new(now),
            feed_at: Instant::NEVER,
            leave_at: None,
            askers,
            store,
            relay,
            succession: None,
            failure: None,
            poll,
        })
    }

    /// Where it listens, and what for.
    pub fn addresses(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        self.listeners.iter().map(|listener| {
            let what = match listener.token() {
                ADMIN => "admin listening on",
                TLS => "TLS listening on",
                _ => "listening on",
            };
            (what, listener.address())
        })
    }

    /// How other threads speak to the reactor.
    pub fn mailbox(&self) -> Mailbox {
        self.mailbox.clone()
    }

    /// Runs until a shutdown is complete or has waited for long enough.
    pub fn run(mut self) -> io::Result<Left> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut now = self.clock.now();
        self.host.tell(Moment::Ready);
        loop {
            let timeout = self.timeout(now);
            let polled = self.poll.poll(&mut events, timeout);
            let asked = std::mem::replace(&mut now, self.clock.now());
            match polled {
                // A process that was stopped and goes on comes by here, and has not seen yet what arrived.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            self.turn(asked, now, &events);
            if self.watchdog.is_some() {
                self.show_life(now);
            }
            if self.succession.is_some()
                && let Some(pid) = self.attend_succession(now)
            {
                self.host.tell(Moment::Succeeded(pid));
                return Ok(Left { connections: 0, successor: Some(pid) });
            }
            if let Some(why) = self.failure.take() {
                return Err(io::Error::other(why));
            }
            if self.has_left(now) {
                let connections = self.server.connections();
                self.end_store();
                return Ok(Left { connections, successor: None });
            }
        }
    }

    /// How long to sleep: until the next deadline, not at all if work is left over.
    fn timeout(&self, now: Now) -> Option<Duration> {
        if self.sockets.has_work() || self.sockets.has_handshakes() {
            return Some(Duration::ZERO);
        }
        let alive_at = self.watchdog.map(|_| self.alive_at);
        let retries = self.listeners.iter().map(Listener::retry_at);
        match retries
            .chain(self.leave_at)
            .chain(alive_at)
            .chain(self.succession.as_ref().map(|succession| succession.next()))
            .chain([self.feed_at, self.sockets.next_deadline()])
            .chain(self.server.is_lighter().then_some(self.weigh_at))
            .fold(self.server.next_deadline(now), Instant::min)
        {
            Instant::NEVER => None,
            deadline => Some(Duration::from_millis(deadline.millis_since(now.at))),
        }
    }

    /// Tells the service manager that the process is alive, when it is time.
    #[cold]
    fn show_life(&mut self, now: Now) {
        if self.alive_at <= now.at
            && let Some(period) = self.watchdog
        {
            self.alive_at = now.at + period.as_millis() as u64;
            self.host.tell(Moment::Alive);
        }
    }

    /// One turn: what happened since we `asked`, what is due, deliveries, closings.
    #[inline(never)]
    fn turn(&mut self, asked: Now, now: Now, events: &Events) {
        self.sockets.pace.begin_turn();
        let mut count = 0;
        for event in events {
            count += 1;
            match event.token() {
                WAKER => self.has_mail = true,
                SIGNALS => self.heed(now),
                // It is looked at when the turn is over.
                HANDOVER => {}
                token @ (CLIENTS | ADMIN | TLS) => {
                    self.listeners
                        .iter_mut()
                        .filter(|listener| listener.token() == token)
                        .for_each(Listener::note_ready);
                }
                _ => self.note(event),
            }
        }
        if std::mem::take(&mut self.has_mail) {
            self.take_mail(now);
        }
        if self.listeners.iter().any(|listener| listener.retry_at() <= now.at) {
            self.accept(now);
        }
        if self.feed_at <= now.at {
            self.feed(now);
        }
        if self.write(now) {
            self.sockets.pace.begin_part();
        }
        self.read(now);
        let is_behind = count == EVENTS_MAX || self.sockets.has_work();
        let judged = self.lateness.judge(asked, now, if count == 0 { now } else { asked }, is_behind);
        self.server.tick(judged, &mut self.sockets);
        self.server.deliver(now, &mut self.sockets);
        self.take_effects(now);
        if self.feed_at == Instant::NEVER && self.sockets.has_starved() {
            self.feed_at = now.at + STARVED_MS;
        }
        if let Some(tls) = self.sockets.tls() {
            if tls.expiry.look_at <= now.at {
                tls.expiry.look(now);
            }
            self.server.note_handshakes(tls.handshakes.take_counts());
        }
        self.weigh(now);
        self.server.note_turn(self.sockets.pace.elapsed_us());
    }

    /// Has the application asked.
    #[cold]
    fn ask(&self, now: Now, ask: Ask) {
        let within = Duration::from_millis(ask.deadline.millis_since(now.at));
        self.askers.ask(ask, within);
    }

    fn take_effects(&mut self, now: Now) {
        while let Some(effect) = self.server.poll_effect() {
            match effect {
                Effect::HalfClose(id) => self.sockets.half_close(id),
                Effect::Close(id) => self.sockets.close(id),
                Effect::Pause(id) => self.sockets.pause(id),
                Effect::Resume(id) => self.sockets.resume(id),
                Effect::Unsent((id, bytes)) => self.sockets.bound_unsent(id, bytes),
                Effect::Append(proposal) => self.append(*proposal),
                Effect::Ask(ask) => self.ask(now, *ask),
            }
        }
    }

    /// Tries again to write what the kernel had no memory for.
    #[cold]
    fn feed(&mut self, now: Now) {
        self.feed_at = Instant::NEVER;
        for id in self.sockets.take_starved() {
            if self.sockets.flush(id) {
                self.server.writable(now, id, &mut self.sockets);
            }
        }
    }

    /// Tells the server now and then how much memory is resident, and gives back what is free after a peak. While
    /// nothing happens and nothing is to be given back, neither is needed.
    fn weigh(&mut self, now: Now) {
        self.server.note_held();
        if self.weigh_at <= now.at || self.server.is_heavier() {
            self.measure(now);
        }
    }

    #[cold]
    fn measure(&mut self, now: Now) {
        let memory = self.resident.look();
        self.server.note_memory(now, memory.resident);
        self.weigh_at = now.at + self.server.weigh_ms();
        let process = Process { sent_bytes: self.sockets.sent_bytes, ..sys::process(memory.size) };
        self.server.note_process(now, process);
        if self.server.is_lighter() {
            sys::give_back();
            self.server.note_given_back();
        }
    }

    /// Takes note of what happened to a client's socket.
    fn note(&mut self, event: &Event) {
        let id = sockets::id(event.token());
        if event.is_writable() {
            self.sockets.note_writable(id);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.sockets.note_unread(id, event.is_read_closed() || event.is_error());
        }
    }

    /// Goes on with those whose sockets take bytes again, for a part of the turn. Returns whether there were any.
    fn write(&mut self, now: Now) -> bool {
        let mut has_any = false;
        while let Some(id) = self.sockets.next_writable() {
            has_any = true;
            self.server.writable(now, id, &mut self.sockets);
            if self.sockets.pace.is_late() {
                break;
            }
        }
        has_any
    }

    /// Reads sockets, at most as many as the turn's budget allows.
    fn read(&mut self, now: Now) {
        let mut left = self.server.config().turn.reads;
        for id in self.sockets.begin_turn(now.at) {
            self.server.reset(now, id);
        }
        loop {
            let mut batch: ArrayVec<(ConnId, Read), READS> = ArrayVec::new();
            for place in self.scratch.chunks_exact_mut(PLACE_BYTES).take(left) {
                let Some(read) = self.sockets.read_next(now.at, &mut place[..READ_BYTES]) else { break };
                batch.push(read);
            }
            if batch.is_empty() {
                return;
            }
            left -= batch.len();
            let is_late = self.sockets.is_late();
            for ((id, read), place) in batch.into_iter().zip(self.scratch.chunks_exact(PLACE_BYTES)) {
                match read {
                    Read::Bytes(count) => self.server.receive(now, id, &place[..count], &mut self.sockets),
                    Read::End => self.server.hang_up(now, id, &mut self.sockets),
                    Read::Broken => self.server.reset(now, id),
                    Read::Nothing => {}
                }
            }
            if is_late {
                return;
            }
        }
    }

    /// Accepts connections, at most as many as the turn's budget allows.
    #[inline(never)]
    fn accept(&mut self, now: Now) {
        let mut budget = self.server.config().turn.accepts;
        // Who came by TLS now could not stay.
        let no_tls = self.succession.as_ref().is_some_and(|succession| succession.is_ready());
        for listener in self.listeners.iter_mut().filter(|listener| !no_tls || listener.token() != TLS) {
            while budget > 0
                && let Some((stream, peer)) = listener.accept(now.at)
            {
                budget -= 1;
                let admin = listener.token() == ADMIN;
                let Some(id) = self.server.accept(now, peer.ip(), admin) else { continue };
                let inserted = match listener.token() {
                    TLS => {
                        let exempt = is_exempt(peer.ip(), self.server.config());
                        self.sockets.insert_tls(self.poll.registry(), id, stream, (now.at, peer.ip(), exempt))
                    }
                    _ => self.sockets.insert(self.poll.registry(), id, stream),
                };
                if let Err(error) = inserted {
                    log::warn!("{peer}: cannot watch its socket: {error}");
                    self.server.reset(now, id);
                }
            }
        }
    }

    /// Takes what other threads sent.
    #[inline(never)]
    fn take_mail(&mut self, now: Now) {
        self.mailbox.opened();
        // A history that is loaded comes in batches of hundreds of messages: health is told meanwhile.
        let max = if self.server.is_loading() { MAIL_LOADING_MAX } else { MAIL_MAX };
        for _ in 0..max {
            match self.mail.try_recv() {
                Err(_) => return,
                Ok(Mail::Publish { channel, publication }) => {
                    if let Err(error) = self.server.publish(now, channel, publication) {
                        log::warn!("a message of the process itself was refused: {error:?}");
                    }
                }
                Ok(Mail::Store(told, figures)) => self.hear(now, told, *figures),
                Ok(Mail::Relay(told)) => self.hear_relay(now, *told),
                Ok(Mail::Word { number, reply }) => {
                    self.server.hear_answer(now, number, &reply, &mut self.sockets);
                }
            }
        }
        self.mailbox.wake();
    }

    /// Does what signals ask.
    #[cold]
    fn heed(&mut self, now: Now) {
        for wish in self.signals.take() {
            match wish {
                Wish::Leave => self.shut_down(now),
                Wish::Reload => self.reload(),
                Wish::Upgrade => self.begin_succession(now),
                Wish::Nothing => log::info!("SIGUSR1: has no meaning here"),
            }
        }
    }

    /// The first call begins to drain, the second leaves at once.
    #[cold]
    fn shut_down(&mut self, now: Now) {
        if self.leave_at.is_some() {
            log::info!("leaving at once");
            self.leave_at = Some(now.at);
            return;
        }
        self.abandon_succession();
        let seconds = self.server.config().drain_seconds;
        log::info!(
            "shutting down: {} connections have {seconds} s (drain_seconds)",
            self.server.connections()
        );
        self.host.tell(Moment::Leaving);
        self.leave_at = Some(now.at.plus_seconds(seconds));
        self.listeners.clear();
        self.server.drain(now, &mut self.sockets);
    }

    fn has_left(&self, now: Now) -> bool {
        self.leave_at.is_some_and(|leave_at| self.server.is_drained() || leave_at <= now.at)
    }
}

/// What this life of the process begins with: the only randomness that the server is given.
fn draw_seed() -> io::Result<Seed> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret).map_err(io::Error::other)?;
    let epoch = Epoch::from_random(getrandom::u64().map_err(io::Error::other)?);
    Ok(Seed { epoch, secret: u128::from_ne_bytes(secret) })
}
