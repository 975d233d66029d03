//! Clients of Bayeux in the simulation: sessions that outlive their connections, with and without acknowledgements, by long
//! polling, callback polling, eventsource and WebSocket. A [`Ledger`] knows what each had to get, and what it must not.

mod answers;

use super::budgets::frame;
use super::client::{Head, View, take_chunk};
use super::ledger::Ledger;
use super::sockets::{payload, take_frame};
use crate::conn::ConnId;
use crate::hub::Message;
use crate::id::{Random, Seq};
use crate::time::Instant;
use crate::transport::bayeux::replay_id;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The connection of connects, and the one of everything else. A WebSocket is for both. What came on a stream before it
/// ended came before what is answered elsewhere from then on, so it is read first.
pub const LINES: [usize; 3] = [STREAM, CONNECTS, OTHERS];
const CONNECTS: usize = 0;
const OTHERS: usize = 1;
/// The connection that events are streamed on, by eventsource.
pub const STREAM: usize = 2;
/// Refused as a whole, before anybody has looked at the messages, or not to be waited for.
const REFUSALS: [u16; 4] = [408, 409, 429, 503];

/// A connection.
#[derive(Debug)]
struct Line {
    id: ConnId,
    inbox: Vec<u8>,
    /// It takes requests; a WebSocket, after its handshake.
    is_open: bool,
    half_closed: bool,
    /// Nothing follows.
    over: bool,
    stream: Stream,
}

/// How far a connection has come that events are streamed on, and of which session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    None,
    Asked(u32),
    Begun(u32),
}

/// A message that has not been answered.
#[derive(Debug)]
struct Asked {
    what: What,
    line: usize,
    /// Of which session.
    life: u32,
    /// When it was written, and the newest message then.
    at: Instant,
    newest: Seq,
    /// It had to wait for its turn.
    is_deferred: bool,
}

#[derive(Debug)]
enum What {
    Handshake,
    /// It says that events come on a stream.
    Connect(bool),
    /// What, and the place after which it begins, unless that is where the server is.
    Subscribe(Vec<&'static str>, Option<Seq>),
    Unsubscribe(&'static str),
    Publish(&'static str, String),
    Disconnect,
}

/// What clients have been told, in all.
#[derive(Debug, Default, Clone, Copy)]
pub struct Seen {
    pub sessions: u64,
    pub events: u64,
    pub gaps: u64,
    /// Sessions that were gone.
    pub unknown: u64,
    pub published: u64,
    /// Events that came on streams.
    pub streamed: u64,
}

/// What the settings of the run say that a client has to know.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    pub max_interval_ms: u64,
    pub timeout_ms: u64,
    pub ends_on_gap: bool,
    /// Bare events are known by what they say alone; else their numbers are asked for.
    pub raw: bool,
}

#[derive(Debug)]
pub struct BayeuxClient {
    terms: Terms,
    by_socket: bool,
    by_stream: bool,
    acks: bool,
    session: Option<String>,
    /// Counts sessions.
    life: u32,
    lines: [Option<Line>; 3],
    asked: BTreeMap<u64, Asked>,
    count: u64,
    ledger: Ledger,
    /// The last batch that came.
    batch: u64,
    /// A connection was lost: the next connect is not to wait.
    is_back: bool,
    /// The session has had a stream; it streams its events, as far as the last connect that was answered said.
    has_streamed: bool,
    streams: bool,
    /// What was last answered was written then.
    heard: Instant,
    /// The server has been another one since.
    has_restarted: bool,
    /// The last event's place, for who begins another session.
    last: Option<(u64, Seq)>,
    pub seen: Seen,
}

impl BayeuxClient {
    pub fn new(random: &mut Random, terms: Terms) -> Self {
        let by_socket = random.one_in(3);
        Self {
            terms,
            by_socket,
            acks: random.one_in(2),
            by_stream: !by_socket && random.one_in(2),
            session: None,
            life: 0,
            lines: [None, None, None],
            asked: BTreeMap::new(),
            count: 0,
            ledger: Ledger::default(),
            batch: 0,
            is_back: false,
            has_streamed: false,
            streams: false,
            heard: Instant::default(),
            has_restarted: false,
            last: None,
            seen: Seen::default(),
        }
    }

    /// The connection of a line.
    pub fn connection(&self, line: usize) -> Option<ConnId> {
        self.lines[line].as_ref().map(|line| line.id)
    }

    /// A line that something could be said on, or that has to be made first.
    pub fn choose_line(&self, random: &mut Random) -> usize {
        if self.by_stream && self.session.is_some() && random.one_in(4) {
            return STREAM;
        }
        if self.by_socket || self.session.is_some() && random.one_in(2) { CONNECTS } else { OTHERS }
    }

    /// A connection is made; what it begins with.
    pub fn open(&mut self, line: usize, id: ConnId) -> Option<&'static [u8]> {
        let is_open = !self.by_socket;
        let (inbox, stream) = (Vec::new(), Stream::None);
        self.lines[line] = Some(Line { id, inbox, is_open, half_closed: false, over: false, stream });
        self.by_socket.then_some(
            b"GET /bayeux HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
    }

    /// Whether it may say something there: by HTTP, when what it said before is answered.
    pub fn may_speak(&self, line: usize) -> bool {
        if line == STREAM {
            // What a connect without a stream is answered would be overtaken by it.
            let is_new = self.lines[line].as_ref().is_some_and(|line| line.stream == Stream::None);
            let is_read = !self.asked.values().any(|asked| matches!(asked.what, What::Connect(true)));
            return is_new && is_read && self.session.is_some();
        }
        let is_busy = !self.by_socket && self.asked.values().any(|asked| asked.line == line);
        self.lines[line].as_ref().is_some_and(|line| line.is_open && !line.over && !line.half_closed)
            && !is_busy
    }

    /// What it said there waits for its turn.
    pub fn waits(&mut self, line: usize) {
        let there = self.asked.values_mut().filter(|asked| asked.line == line);
        there.for_each(|asked| asked.is_deferred = true);
    }

    /// It sends nothing more there.
    pub fn half_close(&mut self, line: usize) {
        if let Some(line) = &mut self.lines[line] {
            line.half_closed = true;
        }
    }

    /// Another server, with a history of its own, has taken the place of the one that it knew.
    pub fn restart(&mut self) -> Vec<ConnId> {
        self.has_restarted = true;
        self.last = None;
        self.ledger = Ledger::default();
        LINES.into_iter().filter_map(|line| self.lose(line, true)).collect()
    }

    /// The connection has ended, which it names; `is_cut`: perhaps in the midst of something.
    pub fn lose(&mut self, line: usize, is_cut: bool) -> Option<ConnId> {
        let lost = self.lines[line].take()?;
        let was_over = lost.over || lost.half_closed;
        let (asked, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.asked).into_iter().partition(|(_, asked)| asked.line == line);
        self.asked = others;
        assert!(is_cut || was_over || self.by_socket || asked.is_empty(), "no answer: {asked:?}");
        let was_told = lost.is_open || lost.over || !self.by_socket;
        assert!(
            is_cut || was_over || !self.by_socket || !was_told,
            "a WebSocket ends without a word: {self:?}"
        );
        let was_streaming = lost.stream != Stream::None && !was_over;
        assert!(is_cut || !was_streaming, "a stream ends without its last chunk: {self:?}");
        let connects = asked.values().any(|asked| matches!(asked.what, What::Connect(_)));
        self.give_up(asked);
        if connects || self.by_socket || was_streaming {
            // What was sent there without being acknowledged is gone.
            if !self.acks {
                self.ledger.excuse();
            }
            self.is_back = true;
        }
        Some(lost.id)
    }

    /// What becomes of messages to which no answer will come.
    fn give_up(&mut self, asked: BTreeMap<u64, Asked>) {
        let life = self.life;
        for asked in asked.into_values().filter(|asked| asked.life == life) {
            match asked.what {
                // That somebody may have left was noted when it was asked for.
                What::Handshake | What::Publish(..) | What::Unsubscribe(_) => {}
                What::Connect(_) => {
                    self.streams = false;
                    // Its answer may have told of gaps.
                    self.ledger.forgive();
                }
                What::Subscribe(items, after) => {
                    let asked = after.unwrap_or(asked.newest);
                    items.into_iter().for_each(|item| self.ledger.perhaps_begin(item, asked));
                }
                What::Disconnect => self.forget(),
            }
        }
    }

    /// Its session is no more.
    fn forget(&mut self) {
        (self.session, self.batch, self.is_back) = (None, 0, false);
        (self.has_streamed, self.streams) = (false, false);
        self.life += 1;
        self.ledger = Ledger::default();
    }
}

/// What it says.
impl BayeuxClient {
    /// What it says next on a line, as bytes; `None`: nothing. `message` is what it would publish.
    pub fn say(
        &mut self,
        random: &mut Random,
        line: usize,
        view: &View,
        (item, channel): (&'static str, &'static str),
        payload: impl FnOnce() -> String,
    ) -> Option<Vec<u8>> {
        if line == STREAM {
            return self.ask_for_stream();
        }
        let begins = |asked: &Asked| asked.life == self.life && matches!(asked.what, What::Handshake);
        let mut message = match self.session.clone() {
            None if self.asked.values().any(begins) => return None,
            None => self.handshake(line, view),
            Some(session) => {
                let mut message = self.choose(random, line, view, (item, channel), payload)?;
                message["clientId"] = session.into();
                message
            }
        };
        message["id"] = self.count.to_string().into();
        let mut messages = vec![message];
        // Beside another message, a connect is not held.
        if self.session.is_some() && !self.is_connecting() && random.one_in(8) {
            let mut connect = self.connect(random, line, view);
            connect["id"] = self.count.to_string().into();
            connect["clientId"] = self.session.clone().into();
            messages.push(connect);
        }
        let text = Value::from(messages).to_string();
        Some(match self.by_socket {
            true => frame(&text),
            false if text.len() < 1000 && random.one_in(5) => {
                let message = utf8_percent_encode(&text, NON_ALPHANUMERIC);
                format!("GET /bayeux?jsonp=f&message={message} HTTP/1.1\r\nHost: x\r\n\r\n").into()
            }
            false => {
                let length = text.len();
                format!("POST /bayeux HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{text}").into()
            }
        })
    }

    fn ask_for_stream(&mut self) -> Option<Vec<u8>> {
        let (session, line) = (self.session.as_ref()?, self.lines[STREAM].as_mut()?);
        (line.stream, self.has_streamed) = (Stream::Asked(self.life), true);
        let request =
            format!("GET /bayeux/{session} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n");
        Some(request.into())
    }

    /// Whether it has a stream, which events may come on.
    fn has_stream(&self) -> bool {
        let is_there = |line: &Line| line.stream == Stream::Begun(self.life) && !line.over;
        self.lines[STREAM].as_ref().is_some_and(is_there)
    }

    /// Notes a message, which is the one of the highest number.
    fn ask(&mut self, what: What, line: usize, view: &View) {
        self.count += 1;
        let asked =
            Asked { what, line, life: self.life, at: view.at, newest: view.newest(), is_deferred: false };
        self.asked.insert(self.count, asked);
    }

    fn is_connecting(&self) -> bool {
        self.asked.values().any(|asked| matches!(asked.what, What::Connect(_)))
    }

    fn handshake(&mut self, line: usize, view: &View) -> Value {
        self.ask(What::Handshake, line, view);
        json!({"channel": "/meta/handshake", "version": "1.0", "ext": {"ack": self.acks},
            "supportedConnectionTypes": ["long-polling", "eventsource", "websocket"]})
    }

    fn connect(&mut self, random: &mut Random, line: usize, view: &View) -> Value {
        // Where a stream was lost, it polls until there is another one.
        let by_stream = self.by_stream && (self.has_stream() || !self.has_streamed && random.one_in(2));
        self.ask(What::Connect(by_stream), line, view);
        let kind = match by_stream {
            true => "eventsource",
            false if self.by_socket => "websocket",
            false => "long-polling",
        };
        let mut connect =
            json!({"channel": "/meta/connect", "connectionType": kind, "ext": {"ack": self.batch}});
        if self.is_back || random.one_in(10) {
            connect["advice"] = json!({"timeout": 0});
        }
        connect
    }

    fn choose(
        &mut self,
        random: &mut Random,
        line: usize,
        view: &View,
        (item, channel): (&'static str, &'static str),
        payload: impl FnOnce() -> String,
    ) -> Option<Value> {
        let may_connect = (self.by_socket || line == CONNECTS) && !self.is_connecting();
        match random.below(12) {
            0..6 if may_connect => Some(self.connect(random, line, view)),
            // The line of connects is for them alone.
            _ if !self.by_socket && line == CONNECTS => None,
            0..6 => Some(self.subscribe(random, line, view, item)),
            6..8 => {
                // The answer may come behind events that it has an effect on.
                self.ledger.perhaps_end(item, view.newest());
                self.ask(What::Unsubscribe(item), line, view);
                Some(json!({"channel": "/meta/unsubscribe", "subscription": format!("/{item}")}))
            }
            8 if random.one_in(8) => {
                self.ask(What::Disconnect, line, view);
                Some(json!({"channel": "/meta/disconnect"}))
            }
            _ => {
                let payload = payload();
                let message = json!({"channel": format!("/{channel}"),
                    "data": serde_json::from_str::<Value>(&payload).unwrap()});
                self.ask(What::Publish(channel, payload), line, view);
                Some(message)
            }
        }
    }

    /// Subscribes to something: the first time, perhaps with what was before. Later that would put back the cursor.
    fn subscribe(&mut self, random: &mut Random, line: usize, view: &View, item: &'static str) -> Value {
        let subscribes = |asked: &Asked| asked.life == self.life && matches!(asked.what, What::Subscribe(..));
        let is_first = self.ledger.is_new() && !self.asked.values().any(subscribes);
        let (position, after) = match (random.below(4), self.last) {
            (0, _) if is_first => (Some(json!(-2)), Some(0)),
            (1, Some((id, seq))) if is_first => (Some(json!(id)), Some(seq)),
            _ => (None, None),
        };
        self.ask(What::Subscribe(vec![item], after), line, view);
        let mut message = json!({"channel": "/meta/subscribe", "subscription": format!("/{item}")});
        if !self.terms.raw {
            message["ext"] = json!({"replay": {}});
        }
        if let Some(position) = position {
            message["ext"]["replay"][format!("/{item}")] = position;
        }
        message
    }
}
