//! What is measured beside counting: how long turns and deliveries took, how requests were answered, and what the process
//! takes. None of it reads a clock: the reactor tells.

use super::Server;
use super::access_log::AccessLog;
use super::closings::Closings;
use super::watch::Watch;
use crate::carry::resume;
use crate::config::Config;
use crate::conn::{Connection, Phase, Protocol, User};
use crate::hub::SubscriberKey;
use crate::id::Seq;
use crate::stats::histogram::Histogram;
use crate::time::{Instant, Now};
use crate::transport::{Polling, Streaming};

/// What is measured.
#[derive(Debug)]
pub struct Telemetry {
    /// Turns of the reactor, without its sleep.
    pub turns: Histogram,
    /// From a message's acceptance until it was written to those who listen to one channel or took what came before.
    pub deliveries: Histogram,
    /// Deliveries in this turn of what came in this turn: how long they took is known at its end.
    prompt: u64,
    /// Answers by the first digit of their status, 1 to 5.
    pub responses: [u64; 5],
    /// The process, as last seen.
    pub process: Process,
    /// Why connections were closed lately.
    pub(super) closings: Closings,
    /// What those are shown who watch.
    pub(super) watch: Watch,
    /// Requests that are being answered, while there is an access log.
    pub(super) access_log: Option<Box<AccessLog>>,
    /// When the server began.
    pub(super) started: Now,
}

resume! {
    Telemetry {
        carried: access_log, started;
        resumed: ;
        given: turns, deliveries, prompt, responses, process, closings, watch
    }
}

/// What the process takes of the system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Process {
    /// Bytes of address space.
    pub virtual_bytes: u64,
    /// Microseconds of the processor, of all threads.
    pub cpu_us: u64,
    /// Most descriptors that it may have open.
    pub descriptors: u64,
    /// How many it has; 0 = the system does not say, as Linux before 6.2.
    pub open_descriptors: u64,
    /// Bytes written to clients.
    pub sent_bytes: u64,
}

impl Telemetry {
    /// Nothing has been measured yet.
    pub fn new(config: &Config, now: Now) -> Self {
        Self {
            turns: Histogram::default(),
            deliveries: Histogram::default(),
            prompt: 0,
            responses: [0; 5],
            process: Process::default(),
            closings: Closings::default(),
            watch: Watch::default(),
            access_log: config.log.access.then(Box::default),
            started: now,
        }
    }

    /// Notes `count` deliveries of a message that came at `published`.
    pub fn note_deliveries(&mut self, now: Instant, published: Instant, count: u64) {
        match now.millis_since(published) {
            0 => self.prompt += count,
            ms => self.deliveries.add(ms * 1000, count),
        }
    }

    /// Notes an answer.
    pub fn note_status(&mut self, status: u16) {
        self.note_answers(status, 1);
    }

    /// Notes `count` answers alike.
    pub fn note_answers(&mut self, status: u16, count: u64) {
        let class = usize::from(status / 100).clamp(1, 5);
        self.responses[class - 1] += count;
    }
}

impl Server {
    /// Notes that a turn is over, and that it took `us` microseconds.
    pub fn note_turn(&mut self, us: u64) {
        let telemetry = &mut self.telemetry;
        telemetry.turns.add(us, 1);
        let prompt = std::mem::take(&mut telemetry.prompt);
        if prompt > 0 {
            telemetry.deliveries.add(us, prompt);
        }
    }

    /// Notes what the process takes, and takes a sample.
    pub fn note_process(&mut self, now: Now, process: Process) {
        self.telemetry.process = process;
        self.sample(now);
    }

    /// Notes deliveries of a message to those who listened when it came. What they were given of the history when they
    /// came, nobody has waited for.
    pub(super) fn note_wait(
        &mut self,
        now: Now,
        key: SubscriberKey,
        seq: Seq,
        published: Instant,
        count: u64,
    ) {
        if self.broker.hub.is_new_to(key, seq) {
            self.telemetry.note_deliveries(now.at, published, count);
        }
    }

    /// How many connections there are of each kind. It looks at all of them, one after the other as they lie in memory, 64
    /// bytes each: for who asks once a second at most.
    #[cold]
    pub(super) fn census(&self) -> [(&'static str, u64); TECHNIQUES.len()] {
        let mut counts = TECHNIQUES.map(|name| (name, 0));
        for (_, connection) in self.connections.iter() {
            counts[technique(connection)].1 += 1;
        }
        counts
    }
}

/// What connections do, as it is told.
pub const TECHNIQUES: [&str; 13] = [
    "none",
    "websocket",
    "sse",
    "stream",
    "raw",
    "iframe",
    "multipart",
    "poll",
    "jsonp",
    "bayeux",
    "fdajax",
    "answering",
    "closing",
];

/// What a connection does, by its place in [`TECHNIQUES`].
pub fn technique(connection: &Connection) -> usize {
    let name = match &connection.phase {
        Phase::Idle | Phase::Reading => "none",
        Phase::Due | Phase::Committing | Phase::Asking => "answering",
        Phase::Lingering | Phase::Closed => "closing",
        Phase::Parked(poll) => match poll.polling {
            Polling::Script => "jsonp",
            Polling::Long | Polling::Interval => "poll",
        },
        Phase::Streaming(stream) => of_stream(stream.look.stream),
        Phase::Socket(User::Subscriber { .. }) => "websocket",
        Phase::Held(hold) => of_protocol(hold.protocol),
        Phase::Socket(User::Session(protocol)) => of_protocol(*protocol),
    };
    TECHNIQUES.iter().position(|known| *known == name).unwrap_or_default()
}

const fn of_stream(stream: Streaming) -> &'static str {
    match stream {
        Streaming::Sse | Streaming::SseEnvelope | Streaming::Mercure => "sse",
        Streaming::Lines => "stream",
        Streaming::Raw => "raw",
        Streaming::Iframe => "iframe",
        Streaming::Multipart | Streaming::Replace => "multipart",
        Streaming::WebSocket | Streaming::WebSocketRaw => "websocket",
    }
}

const fn of_protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Bayeux => "bayeux",
        Protocol::Fdajax => "fdajax",
    }
}
