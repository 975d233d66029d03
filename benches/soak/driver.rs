//! The loop: births, deaths, publishing, silence.

use std::io;
use std::time::{Duration, Instant};

use encke::id::Random;
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::args::Args;
use crate::book::Book;
use crate::client::{Client, Count, Death, PAYLOAD_BYTES};
use crate::mark::Mark;
use crate::publisher::Publisher;
use crate::server::Server;
use crate::technique::{self, POLL_SECONDS};
use crate::watch::{Sample, Verdict, Watch};

const PUBLISHER: Token = Token(usize::MAX - 1);
/// How long the process is stopped in the middle of the warm-up: afterwards memory has seen the worst.
const STOP: Duration = Duration::from_secs(5);
/// Whoever is owed something and hears nothing for so long waits in vain: a poll's time, the stop, and what a busy
/// machine may take.
const SILENCE: Duration = Duration::from_secs(POLL_SECONDS + 15);
/// How often everybody is looked at.
const ROUND: Duration = Duration::from_millis(10);
/// How long the server may take to forget everything.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(90);
/// Messages a second on channels that nobody knows.
const STRAYS_PER_SECOND: u64 = 20;
/// Faults after which there is no point in going on.
const FAULTS_MAX: usize = 20;

struct Driver<'a> {
    args: &'a Args,
    server: Server,
    poll: Poll,
    publisher: Publisher,
    book: Book,
    clients: Vec<Client>,
    count: Count,
    random: Random,
    scratch: Vec<u8>,
    /// Messages and strays published since the clients came.
    published: u64,
    strays: u64,
    births: u64,
}

/// Soaks; says what held.
pub fn run(args: &Args) -> io::Result<Vec<Verdict>> {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?;
    let server = Server::start(&args.encke)?;
    server.stats()?;
    let own = server.descriptors()?;
    let mut driver = Driver::new(args, server)?;
    driver.begin()?;
    let mut watch = Watch::new(args.seconds);
    driver.soak(&mut watch)?;
    watch.plot(&args.output)?;
    eprintln!("\nplots are in {}; waiting until the server has forgotten everybody", args.output.display());
    let mut verdicts = vec![watch.memory(), watch.descriptors(own, args.clients)];
    verdicts.extend(driver.end(own)?);
    Ok(verdicts)
}

impl<'a> Driver<'a> {
    fn new(args: &'a Args, server: Server) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut publisher = Publisher::connect(server.address)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut publisher.socket, PUBLISHER, interest)?;
        let latency = Histogram::new_with_bounds(1, 600_000_000_000, 3).map_err(io::Error::other)?;
        let count = Count { started: Instant::now(), deliveries: 0, gaps: 0, latency, faults: Vec::new() };
        Ok(Self {
            args,
            server,
            poll,
            publisher,
            book: Book::new(args.channels),
            clients: Vec::new(),
            count,
            random: Random::new(args.seed),
            scratch: vec![0; 64 << 10],
            published: 0,
            strays: 0,
            births: 0,
        })
    }

    /// Publishes the message that everybody begins after, and lets clients be born in the first seconds.
    fn begin(&mut self) -> io::Result<()> {
        for channel in 0..self.args.channels {
            self.publish(channel)?;
        }
        while self.publisher.unanswered() > 0 {
            self.turn()?;
        }
        let now = Instant::now();
        for at in 0..self.args.clients {
            let technique = technique::ALL[at % technique::ALL.len()];
            let channel = at / technique::ALL.len() % self.args.channels;
            let birth = now + Duration::from_millis(self.random.below(5000));
            self.clients.push(Client::new(channel, technique, birth));
        }
        Ok(())
    }

    fn publish(&mut self, channel: usize) -> io::Result<()> {
        let number = self.book.publish(channel);
        let mark = Mark { run: 1, lane: channel as u32, number, time: self.count.time() };
        let mut body = Vec::with_capacity(PAYLOAD_BYTES);
        mark.write(PAYLOAD_BYTES, &mut body);
        self.publisher.publish(&format!("c{channel}"), Some(channel), &body)
    }

    fn soak(&mut self, watch: &mut Watch) -> io::Result<()> {
        let start = Instant::now();
        let run = Duration::from_secs(self.args.seconds);
        let (mut stop_at, mut go_on_at) = (Some(start + watch.warm_up() / 2), None);
        let (mut round_at, mut sample_at) = (start, start + Duration::from_secs(1));
        while start.elapsed() < run && self.count.faults.len() < FAULTS_MAX {
            let now = Instant::now();
            self.publish_due(now - start)?;
            if round_at <= now {
                round_at = now + ROUND;
                self.look_at_all(now)?;
            }
            if stop_at.is_some_and(|at| at <= now) {
                (stop_at, go_on_at) = (None, Some(now + STOP));
                self.server.signal(Signal::STOP)?;
            }
            if go_on_at.is_some_and(|at| at <= now) {
                go_on_at = None;
                self.server.signal(Signal::CONT)?;
            }
            if sample_at <= now {
                sample_at += Duration::from_secs(1);
                let sample = self.sample((now - start).as_secs_f64(), &watch.samples)?;
                watch.note(sample, &self.count);
            }
            self.turn()?;
        }
        Ok(())
    }

    fn sample(&mut self, at: f64, earlier: &[Sample]) -> io::Result<Sample> {
        let p99_us = self.count.latency.value_at_quantile(0.99) as f64 / 1e3;
        self.count.latency.reset();
        let total: u64 = earlier.iter().map(|sample| sample.deliveries).sum();
        Ok(Sample {
            at,
            resident: self.server.resident()?,
            descriptors: self.server.descriptors()?,
            clients: self.clients.iter().filter(|client| client.is_alive()).count(),
            deliveries: self.count.deliveries - total,
            p99_us,
        })
    }

    /// Publishes what is due by now, evenly over the channels, and strays on channels that nobody knows.
    fn publish_due(&mut self, elapsed: Duration) -> io::Result<()> {
        let due = |per_second: u64| (elapsed.as_millis() as u64) * per_second / 1000;
        while self.published < due(self.args.rate) {
            let channel = self.published as usize % self.args.channels;
            self.published += 1;
            self.publish(channel)?;
        }
        while self.strays < due(STRAYS_PER_SECOND) {
            self.strays += 1;
            self.publisher.publish(&format!("stray/{}", self.strays), None, b"nobody hears it")?;
        }
        Ok(())
    }

    /// Whose time has come is born, dies or asks again; who waits in vain is a fault.
    fn look_at_all(&mut self, now: Instant) -> io::Result<()> {
        for at in 0..self.clients.len() {
            let client = &mut self.clients[at];
            if client.turn <= now {
                match client.is_alive() {
                    true => self.kill(at, now),
                    false => self.bear(at, now)?,
                }
                continue;
            }
            if client.is_due(now) {
                client.act(&self.book, now, &mut self.count, &mut self.scratch);
            }
            if client.waits() && now.saturating_duration_since(client.heard) > SILENCE {
                let Client { technique, channel, .. } = *client;
                let seconds = SILENCE.as_secs();
                self.count.faults.push(format!("{technique:?} on c{channel} heard nothing for {seconds} s"));
                client.die(Death::Close);
            }
        }
        Ok(())
    }

    fn bear(&mut self, at: usize, now: Instant) -> io::Result<()> {
        // Lifetimes are distributed exponentially: most are short, some are long.
        let uniform = (self.random.below(1 << 20) + 1) as f64 / f64::from(1 << 20);
        let lifetime = -uniform.ln() * self.args.lifetime as f64;
        let client = &mut self.clients[at];
        client.turn = now + Duration::from_secs_f64(lifetime);
        let socket = client.connect(self.server.address, now, self.count.time())?;
        self.births += 1;
        self.poll.registry().register(socket, Token(at), Interest::READABLE | Interest::WRITABLE)
    }

    fn kill(&mut self, at: usize, now: Instant) {
        let death = if self.random.one_in(2) { Death::Reset } else { Death::Close };
        // Most come back at once; a few when the history has forgotten where they were.
        let away_ms = match self.random.one_in(50) {
            true => 12_000 + self.random.below(8_000),
            false => self.random.below(1000),
        };
        self.clients[at].die(death);
        self.clients[at].turn = now + Duration::from_millis(away_ms);
    }

    fn turn(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        match self.poll.poll(&mut events, Some(Duration::from_millis(2))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        let now = Instant::now();
        for event in &events {
            match event.token() {
                PUBLISHER => {
                    self.publisher.flush()?;
                    self.publisher.read(&mut self.book, &mut self.scratch)?;
                }
                Token(at) => self.clients[at].act(&self.book, now, &mut self.count, &mut self.scratch),
            }
        }
        Ok(())
    }

    /// Everybody leaves: nothing may be left of them.
    fn end(mut self, own: usize) -> io::Result<Vec<Verdict>> {
        for client in &mut self.clients {
            client.die(Death::Close);
        }
        while self.publisher.unanswered() > 0 {
            self.turn()?;
        }
        let published: u64 = (0..self.args.channels).map(|channel| self.book.count(channel)).sum();
        drop(self.publisher);
        let gauges = ["subscribers", "channels", "history_messages", "history_bytes"];
        let deadline = Instant::now() + FORGOTTEN_WITHIN;
        let (left, descriptors) = loop {
            let stats = self.server.stats()?;
            let left: Vec<String> = gauges.iter().map(|gauge| format!("{gauge} {}", stats[gauge])).collect();
            let is_over = gauges.iter().all(|gauge| stats[gauge] == 0) && stats["connections"] == 1;
            std::thread::sleep(Duration::from_millis(200));
            let descriptors = self.server.descriptors()?;
            if is_over && descriptors == own || Instant::now() > deadline {
                break (left.join(", "), descriptors);
            }
        };
        let faults = &self.count.faults;
        faults.iter().for_each(|fault| eprintln!("fault: {fault}"));
        let is_empty = left.split(", ").all(|gauge| gauge.ends_with(" 0"));
        Ok(vec![
            Verdict::new(
                faults.is_empty(),
                format!(
                    "nothing was lost unannounced and nobody waited in vain: {} faults; {} messages, {} deliveries, \
                     {} gaps told, {} connections",
                    faults.len(),
                    published,
                    self.count.deliveries,
                    self.count.gaps,
                    self.births
                ),
            ),
            Verdict::new(self.count.deliveries > 0 && self.births > 0, "there was something to see".into()),
            Verdict::new(
                descriptors == own,
                format!("{descriptors} descriptors are left of {own} at the start"),
            ),
            Verdict::new(is_empty, format!("nothing is left: {left}")),
        ])
    }
}
