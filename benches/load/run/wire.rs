//! All connections of a run, and one turn of the loop over them.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Interest, Poll, Registry, Token};
use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::args::Args;
use crate::error::Error;
use crate::ledger::Ledger;
use crate::publisher::Publisher;
use crate::run::Progress;
use crate::secure::{self, Secure};
use crate::subscriber::{Manner, Outcome, Subscriber};
use crate::technique::{Dialect, Technique, publish};

/// Publishers' tokens begin here, subscribers' at 0.
const PUBLISHERS: usize = 1 << 24;
pub const STDIN: Token = Token(usize::MAX);
/// What a stalled reader is given before the others come: more than the socket buffers of both ends can hold.
const STALL: (usize, usize) = (128, 64 << 10);
/// Descriptors that are neither subscriber nor publisher.
const SPARE_DESCRIPTORS: u64 = 16;

pub struct Wire<'a> {
    args: &'a Args,
    poll: Poll,
    events: Option<Events>,
    scratch: Vec<u8>,
    epoch: Instant,
    manner: Manner,
    subscribers: Vec<Subscriber>,
    publishers: Vec<Publisher>,
    stalled: Vec<TcpStream>,
    /// The lane whose turn it is to publish.
    lane: u32,
    /// Subscribers that have asked, and that have the beginning of an answer.
    asked: usize,
    begun: usize,
    /// Interval polls to come, soonest first.
    due: VecDeque<(u64, usize)>,
    pub ledger: Ledger,
    /// Read by subscribers.
    pub bytes: u64,
    /// How much had arrived that was owed to us, and when it last grew.
    heard: (u64, u64),
    lines: Option<usize>,
    body: Vec<u8>,
    progress: Progress,
    /// What subscribers by TLS have in common.
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl<'a> Wire<'a> {
    pub fn new(args: &'a Args) -> Result<Self, Error> {
        let needed =
            args.subscribers as u64 + args.stalled as u64 + u64::from(args.publishers) + SPARE_DESCRIPTORS;
        let limit = getrlimit(Resource::Nofile).maximum;
        if let Some(most) = limit.filter(|&most| most < needed) {
            return Err(Error::Limit(format!(
                "{} subscribers need {needed} descriptors and this process may have {most}: \
                 raise the hard limit (ulimit -Hn) or run several generators",
                args.subscribers
            )));
        }
        setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).map_err(io::Error::from)?;
        if args.rooms > args.channels || (args.rooms > 1 && args.technique != Technique::Bayeux) {
            return Err(Error::Limit(
                "only Bayeux has several rooms, and no more than there are channels".into(),
            ));
        }
        if args.technique == Technique::Bayeux && (args.stalled > 0 || args.dialect != Dialect::Encke) {
            return Err(Error::Limit("Bayeux is spoken to Encke, and without stalled readers".into()));
        }
        if args.dialect == Dialect::Nchan && !args.technique.is_nchans() {
            return Err(Error::Limit(
                "nchan is configured for stream, sse, raw, websocket, poll, poll-json and interval".into(),
            ));
        }
        let run = std::process::id() as u16;
        Ok(Self {
            args,
            poll: Poll::new()?,
            events: Some(Events::with_capacity(1024)),
            scratch: vec![0; 256 << 10],
            epoch: Instant::now(),
            manner: Manner {
                technique: args.technique,
                dialect: args.dialect,
                payload: args.payload as usize,
            },
            subscribers: Vec::new(),
            publishers: Vec::new(),
            stalled: Vec::new(),
            lane: 0,
            asked: 0,
            begun: 0,
            due: VecDeque::new(),
            ledger: Ledger::new(run, args.channels, args.publishers),
            bytes: 0,
            heard: (0, 0),
            lines: Some(0),
            body: Vec::new(),
            progress: Progress::new(),
            tls: args.tls.map(|_| secure::config()).transpose()?,
        })
    }

    pub fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Nanoseconds since the run began.
    pub fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Everything published is answered and delivered.
    pub fn is_quiet(&self) -> bool {
        self.ledger.under_way == 0 && self.publishers.iter().all(|publisher| publisher.unanswered == 0)
    }

    /// Lines that came on standard input since the last call; `None` at its end.
    pub fn take_lines(&mut self) -> Option<usize> {
        self.lines.replace(0).or_else(|| {
            self.lines = None;
            None
        })
    }

    /// Forgets what was counted.
    pub fn begin_round(&mut self) {
        self.ledger.begin_round();
        self.bytes = 0;
    }

    pub fn progress_done(&self) {
        self.progress.clear();
    }

    pub fn add_publishers(&mut self) -> Result<(), Error> {
        for at in 0..self.args.publishers as usize {
            let mut publisher = Publisher::connect(self.args.server)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(publisher.socket(), Token(PUBLISHERS + at), interest)?;
            self.publishers.push(publisher);
        }
        Ok(())
    }

    /// Adds readers that never read, and publishes until none of them can be written to.
    pub fn stall(&mut self, count: usize) -> Result<(), Error> {
        for _ in 0..count {
            let mut socket = TcpStream::connect(self.args.server).map_err(Error::Unreachable)?;
            set_socket_recv_buffer_size(&socket, 4096).map_err(io::Error::from)?;
            let mut request = Vec::new();
            self.manner.technique.request(self.manner.dialect, 0, None, &mut request);
            socket.write_all(&request)?;
            // It has subscribed once the answer begins; a short peek leaves the rest of the buffer as it is.
            socket.set_read_timeout(Some(Duration::from_secs_f64(self.args.patience)))?;
            socket.peek(&mut [0])?;
            self.stalled.push(socket);
        }
        if count > 0 {
            let (messages, length) = STALL;
            let body = vec![b'x'; length];
            for _ in 0..messages {
                self.publishers[0].queue(|out| publish(0, &body, out));
                while !self.is_quiet() {
                    self.flush()?;
                    self.turn(None)?;
                }
            }
        }
        Ok(())
    }

    /// Opens all subscribers' connections and waits until all have asked and every endless answer has begun.
    pub fn subscribe_all(&mut self) -> Result<(), Error> {
        let wanted = self.args.subscribers;
        let begins = self.manner.technique.is_endless() || self.manner.technique == Technique::Interval;
        (self.asked, self.begun) = (0, 0);
        self.heard.1 = self.now();
        loop {
            let done = if begins { self.begun } else { self.asked };
            if done >= wanted {
                return Ok(());
            }
            while self.subscribers.len() < wanted && self.subscribers.len() - done < self.args.connecting {
                self.connect()?;
            }
            self.turn(None)?;
        }
    }

    fn connect(&mut self) -> Result<(), Error> {
        let at = self.subscribers.len();
        let address = self.args.tls.unwrap_or(self.args.server);
        let socket = mio::net::TcpStream::connect(address).map_err(Error::Unreachable)?;
        let session = self.tls.as_ref().map(Secure::new).transpose()?;
        let rooms = rooms(at, self.args.rooms, self.args.channels);
        let rooms = rooms.into_iter().map(|channel| self.ledger.add_subscriber(channel)).collect();
        let mut subscriber = Subscriber::new(socket, session, rooms);
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(subscriber.socket(), Token(at), interest)?;
        self.subscribers.push(subscriber);
        Ok(())
    }

    /// Closes the subscribers' connections by a reset, which leaves no port waiting.
    pub fn disperse(&mut self) {
        for mut subscriber in self.subscribers.drain(..) {
            // If it fails, the port waits: nothing to be done about that.
            _ = set_socket_linger(subscriber.socket(), Some(Duration::ZERO));
        }
        self.ledger.forget_subscribers();
    }

    /// Publishes one message on the next lane whose publisher has less than `depth` unanswered; says whether it could.
    pub fn publish(&mut self, depth: u32, time: u64) -> bool {
        for _ in 0..self.publishers.len() {
            let lane = self.lane;
            self.lane = (lane + 1) % self.ledger.lanes();
            let at = lane as usize % self.publishers.len();
            if self.publishers[at].unanswered < depth {
                let mark = self.ledger.publish(lane, time);
                self.body.clear();
                mark.write(self.manner.payload, &mut self.body);
                let (channel, body) = (lane % self.args.channels, &self.body);
                match self.manner.technique {
                    Technique::Bayeux => self.publishers[at].add(channel, body),
                    _ => self.publishers[at].queue(|out| publish(channel, body, out)),
                }
                return true;
            }
        }
        false
    }

    pub fn flush(&mut self) -> Result<(), Error> {
        self.publishers.iter_mut().try_for_each(Publisher::flush)
    }

    /// Turns for so long, whatever comes.
    pub fn serve_for(&mut self, duration: Duration) -> Result<(), Error> {
        let end = Instant::now() + duration;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.turn(Some(left))?;
        }
    }

    /// Waits for events, at most `wait`, and handles them. Without `wait` something is owed to us: silence is an error.
    pub fn turn(&mut self, wait: Option<Duration>) -> Result<(), Error> {
        let interval = self.due.front().map(|(due, _)| Duration::from_nanos(due.saturating_sub(self.now())));
        let timeout = wait.unwrap_or(Duration::from_secs(1)).min(interval.unwrap_or(Duration::MAX));
        let mut events = self.events.take().unwrap_or_else(|| Events::with_capacity(1024));
        match self.poll.poll(&mut events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            result => result?,
        }
        for event in &events {
            self.event(event)?;
        }
        self.events = Some(events);
        self.ask_again()?;
        self.check_silence(wait.is_some())?;
        let (asked, ledger) = (self.asked, &self.ledger);
        self.progress.show(|| {
            format!("{asked} subscribed, {} deliveries, {} under way", ledger.deliveries, ledger.under_way)
        });
        Ok(())
    }

    /// Heartbeats and empty polls are no sign of life: what was published has to come.
    fn check_silence(&mut self, nothing_owed: bool) -> Result<(), Error> {
        let answers: u64 = self.publishers.iter().map(|publisher| publisher.answered).sum();
        let progress = answers + self.ledger.deliveries + (self.asked + self.begun) as u64;
        let now = self.now();
        if nothing_owed || progress != self.heard.0 {
            self.heard = (progress, now);
        } else if now - self.heard.1 > (self.args.patience * 1e9) as u64 {
            return Err(Error::Silence(format!(
                "for {} s; {} of {} subscribed; {}",
                self.args.patience,
                self.asked.max(self.begun),
                self.args.subscribers,
                self.ledger.missing()
            )));
        }
        Ok(())
    }

    fn event(&mut self, event: &Event) -> Result<(), Error> {
        match event.token() {
            STDIN => self.read_lines(),
            Token(at) if at >= PUBLISHERS => {
                let publisher = &mut self.publishers[at - PUBLISHERS];
                if event.is_readable() {
                    publisher.readable(&mut self.scratch)?;
                }
                publisher.flush()
            }
            Token(at) => self.subscriber_event(at, event),
        }
    }

    fn subscriber_event(&mut self, at: usize, event: &Event) -> Result<(), Error> {
        // An event of a connection that was closed in this turn.
        let Some(subscriber) = self.subscribers.get_mut(at) else { return Ok(()) };
        if event.is_writable() && subscriber.writable(self.manner)? == Outcome::Asked {
            self.asked += 1;
        }
        if !event.is_readable() {
            return Ok(());
        }
        let epoch = self.epoch;
        let clock = || epoch.elapsed().as_nanos() as u64;
        let outcome =
            subscriber.readable(self.manner, &mut self.scratch, &mut self.ledger, &mut self.bytes, clock)?;
        match outcome {
            Outcome::Began => self.begun += 1,
            Outcome::Answered { first } => {
                self.begun += usize::from(first);
                self.due.push_back((clock() + self.args.interval_ms * 1_000_000, at));
            }
            Outcome::Asked => self.asked += 1,
            Outcome::Nothing => {}
        }
        Ok(())
    }

    /// Sends the interval polls that are due.
    fn ask_again(&mut self) -> Result<(), Error> {
        while let Some(&(due, at)) = self.due.front() {
            if due > self.now() {
                break;
            }
            self.due.pop_front();
            if let Some(subscriber) = self.subscribers.get_mut(at) {
                subscriber.ask(self.manner)?;
            }
        }
        Ok(())
    }

    fn read_lines(&mut self) -> Result<(), Error> {
        let mut bytes = [0; 256];
        let length = io::stdin().lock().read(&mut bytes)?;
        let lines = bytes[..length].iter().filter(|&&byte| byte == b'\n').count();
        self.lines = if length == 0 { None } else { self.lines.map(|had| had + lines) };
        Ok(())
    }
}

/// The rooms of subscriber `at`: the first so that all channels have equally many, the others at random, but the same
/// in every run.
fn rooms(at: usize, count: u32, channels: u32) -> Vec<u32> {
    let mut rooms = vec![(at % channels as usize) as u32];
    let mut state = at as u64;
    while rooms.len() < count as usize {
        // Knuth's MMIX generator: what matters is that neighbours do not share all their rooms.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let room = ((state >> 33) % u64::from(channels)) as u32;
        if !rooms.contains(&room) {
            rooms.push(room);
        }
    }
    rooms
}
