//! A history that several servers share, in a stream of Redis or Valkey, behind two threads.
//!
//! ```text
//! reactor ── Proposal ─▶ writer: what has come is one script, which numbers it ─▶ stream
//!         ◀─ Told::Tails ─── tail: reads the stream from its cursor, every server the same ◀──┘
//! ```
//!
//! The stream is the log. A batch is one entry; its id is the number of its last record, and it says that of its first,
//! so that every number is in exactly one entry and a hole is seen. Who was accepted learns it from the tail, like
//! everybody else; only what is not in the stream (repeats, refusals) is told by the writer.
//!
//! Redis may lose what it has acknowledged: by a restart, or when a replica takes over. So whoever finds another run of
//! Redis than the one that the stream was last written by, or fewer numbers than it has seen, first *jumps*: it moves the
//! numbers ahead, beyond all that can have been given out, and writes that into the stream. Every server comes to the jump
//! in its place, takes back what it has from inside, and tells of a gap. Nobody can append under a new run before that.
//!
//! The writer names its batches by a serial number, and the last one of each server is kept with the stream. After an
//! error it is not known whether a batch was taken; the next connection asks, and fences what may still be under way. So
//! what is sent again is not published twice.
//!
//! Health is proved end to end: a beat that the writer sends must come back through the tail.
//!
//! This folder is the only place that knows `redis`.

mod link;
mod pace;
mod retention;
mod scripts;
mod state;
mod tail;
mod writer;

use crate::config::{Config, EnginePlace};
use crate::id::{Seed, Seq};
use crate::log::{Condition, Figures, NodeId, Opening, Proposal, Refusal, Tail, Ticket};
use state::State;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How a relay works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where Redis is.
    pub place: EnginePlace,
    /// The name of the history.
    pub name: String,
    /// Who logs in.
    pub user: Option<String>,
    /// With what.
    pub password: Option<String>,
    /// Certificates that may sign that of Redis, as PEM.
    pub ca: Option<Vec<u8>>,
    /// How long messages are kept, in seconds.
    pub keep_seconds: u64,
    /// How many.
    pub keep_messages: u64,
    /// How long they are kept, in seconds, however many there are.
    pub grace_seconds: u64,
    /// How long publications wait while Redis is away.
    pub patience: Duration,
    /// How many rights taken back are remembered.
    pub revocations: usize,
    /// Our name.
    pub node: NodeId,
    /// What a history is called that begins with us.
    pub fresh: Seed,
}

impl Settings {
    /// Those of `config`, if a history is to be shared.
    pub fn of(config: &Config, fresh: Seed, node: NodeId) -> io::Result<Option<Self>> {
        let engine = &config.engine;
        let Some(place) = engine.url.as_deref().and_then(EnginePlace::parse) else { return Ok(None) };
        let ca = engine.ca_file.as_deref().map(read).transpose()?;
        Ok(Some(Self {
            place,
            name: engine.name.clone(),
            user: engine.user.clone(),
            password: engine.password.clone(),
            ca,
            keep_seconds: engine.keep_seconds,
            keep_messages: engine.keep_messages,
            grace_seconds: config.history.grace_seconds,
            patience: Duration::from_millis(engine.patience_ms),
            revocations: config.limits.revocations,
            node,
            fresh,
        }))
    }

    /// The name of a key: all of a history are in one slot of a cluster.
    fn key(&self, what: &str) -> String {
        format!("{{{}}}:{what}", self.name)
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        io::Error::other(format!("engine.ca_file: {} cannot be read: {error}", path.display()))
    })
}

/// What a relay tells the reactor.
#[derive(Debug)]
pub enum Told {
    /// The history has been found; what is kept of it follows.
    Opened(Opening),
    /// This is history now, in this order.
    Tails(Vec<Tail>, Box<Figures>),
    /// A proposal repeats what was published before.
    Repeated {
        /// Which.
        ticket: Ticket,
        /// The number of the first message then.
        first: Seq,
        /// What was answered then.
        answer: Vec<u8>,
    },
    /// What a proposal was made of has changed since.
    Outdated(Ticket),
    /// These proposals were not taken, or not in time.
    Refused {
        /// In whatever order; what was proposed twice may be among them twice.
        tickets: Vec<Ticket>,
        /// Why.
        why: Refusal,
    },
    /// Rights that were taken back before we came.
    Revoked(Vec<Box<str>>),
    /// The relay is in another state.
    Condition(Condition),
}

/// How a thread tells the reactor something. Returns whether it still listens.
type Tell = Box<dyn Fn(Told) -> bool + Send>;

/// A relay that runs.
#[derive(Debug)]
pub struct Relay {
    orders: Option<Sender<Proposal>>,
    state: Arc<State>,
    writer: Option<JoinHandle<()>>,
}

impl Relay {
    /// Begins to look for the history, whether Redis can be reached or not.
    pub fn start<T>(settings: Settings, tell: T) -> io::Result<Self>
    where
        T: Fn(Told) -> bool + Send + Clone + 'static,
    {
        let (orders, received) = mpsc::channel();
        let state = Arc::new(State::new(&settings));
        let writer =
            writer::Writer::new(settings.clone(), Arc::clone(&state), received, Box::new(tell.clone()));
        let tail = tail::TailReader::new(settings, Arc::clone(&state), Box::new(tell));
        let writer = thread::Builder::new().name("relay".into()).spawn(move || writer.run())?;
        thread::Builder::new().name("tail".into()).spawn(move || tail.run())?;
        Ok(Self { orders: Some(orders), state, writer: Some(writer) })
    }

    /// Proposes something.
    pub fn send(&self, proposal: Proposal) {
        if let Some(orders) = &self.orders {
            // A thread that is no more has said why.
            _ = orders.send(proposal);
        }
    }

    /// Ends when all that was sent is in the stream, or Redis does not take it. The tail ends with the process.
    pub fn end(mut self) {
        self.orders = None;
        self.state.end();
        if let Some(writer) = self.writer.take() {
            _ = writer.join();
        }
    }
}
