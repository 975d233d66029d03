//! Clients of Bayeux in the simulation: sessions that outlive their connections, with and without acknowledgements, by long
//! polling, callback polling, eventsource and WebSocket. A [`Ledger`] knows what each had to get, and what it must not.

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

/// What it is told.
impl BayeuxClient {
    /// Takes bytes that arrived on a line.
    pub fn take(&mut self, line: usize, bytes: &[u8], view: &View) {
        let Some(mut current) = self.lines[line].take() else { return };
        current.inbox.extend_from_slice(bytes);
        while self.step(line, &mut current, view) {}
        self.lines[line] = Some(current);
    }

    /// Takes one answer, or one frame. False if there is none.
    fn step(&mut self, line: usize, of: &mut Line, view: &View) -> bool {
        if self.by_socket && of.is_open {
            let Some((opcode, payload)) = take_frame(&mut of.inbox) else { return false };
            assert!(!of.over, "frames after the last one");
            match opcode {
                0x1 => self.messages(line, &payload, view),
                0x8 => of.over = true,
                0x9 | 0xa => {}
                _ => panic!("a frame of kind {opcode}"),
            }
            return true;
        }
        if let Stream::Begun(life) = of.stream {
            return self.take_streamed(of, life, view);
        }
        let Some(head) = Head::read(&of.inbox).filter(|_| !of.inbox.is_empty()) else { return false };
        if let Stream::Asked(life) = of.stream
            && head.field("transfer-encoding").is_some()
        {
            assert_eq!(head.status, 200);
            of.inbox.drain(..head.length);
            of.stream = Stream::Begun(life);
            if life == self.life {
                // From now on nothing is sent on an older one.
                self.ledger.excuse_up_to(view.newest());
            }
            return true;
        }
        let length = head.field("content-length").map_or(0, |length| length.parse::<usize>().unwrap());
        let end = head.length + length;
        if of.inbox.len() < end {
            return false;
        }
        let body = of.inbox[head.length..end].to_vec();
        of.inbox.drain(..end);
        of.over = head.field("connection") == Some("close");
        let stream = std::mem::replace(&mut of.stream, Stream::None);
        match head.status {
            // What an EventSource gets instead of a refusal.
            200 if stream != Stream::None => {
                assert!(
                    body.starts_with(b"retry: ") && head.field("retry-after").is_some(),
                    "{}",
                    String::from_utf8_lossy(&body)
                );
            }
            404 if stream == Stream::Asked(self.life) => {
                self.session_gone(&String::from_utf8_lossy(&body), view);
            }
            404 if stream != Stream::None => {}
            101 => of.is_open = true,
            200 => {
                let script = body.strip_prefix(b"/**/f(").and_then(|rest| rest.strip_suffix(b");"));
                self.messages(line, script.unwrap_or(&body), view);
                let left: Vec<_> = self.asked.values().filter(|asked| asked.line == line).collect();
                assert!(left.is_empty(), "not answered: {left:?}");
            }
            status => {
                assert!(REFUSALS.contains(&status), "{status}: {}", String::from_utf8_lossy(&body));
                let asked = std::mem::take(&mut self.asked);
                let (refused, others) = asked.into_iter().partition(|(_, asked)| asked.line == line);
                self.asked = others;
                self.give_up(refused);
            }
        }
        true
    }

    /// Takes one chunk of a stream. False if there is none.
    fn take_streamed(&mut self, of: &mut Line, life: u32, view: &View) -> bool {
        let Some(chunk) = take_chunk(&mut of.inbox) else { return false };
        assert!(!of.over, "bytes after the last chunk");
        of.over = chunk.is_empty();
        let Some(messages) = chunk.strip_prefix(b"data: ") else {
            assert!([&b""[..], b":\r\n\r\n", b"retry: 5000\r\n\r\n"].contains(&&chunk[..]), "{chunk:?}");
            return true;
        };
        if life == self.life {
            // Of a gap the answer to the next connect tells.
            self.ledger.is_told_later(Some(self.count));
            self.messages(STREAM, messages, view);
            self.ledger.is_told_later(None);
        }
        true
    }

    /// Messages of one answer, or of one frame.
    fn messages(&mut self, line: usize, text: &[u8], view: &View) {
        let messages: Vec<Value> = serde_json::from_slice(text).unwrap();
        let is_event = |message: &&Value| message.get("data").is_some();
        let has_connect = messages.iter().any(|message| message["channel"] == "/meta/connect");
        let has_events = messages.iter().any(|message| is_event(&message));
        let is_pushed = (self.by_socket || line == STREAM) && !self.acks;
        assert!(!has_events || has_connect || is_pushed, "events come with connects: {messages:?}");
        // What an earlier session was told is of no use any more.
        let of_connect = |message: &&Value| message["channel"] == "/meta/connect";
        let connect = messages.iter().find(of_connect).and_then(|reply| reply["id"].as_str()?.parse().ok());
        let asked = connect.and_then(|id: u64| self.asked.get(&id));
        let is_current = asked.is_none_or(|asked| asked.life == self.life);
        // Gaps stand behind the events that come after them.
        for name in messages.iter().filter_map(|message| message["ext"]["gap"].as_array()).flatten() {
            if !is_current {
                break;
            }
            let name = name.as_str().unwrap().strip_prefix('/').unwrap();
            let of_it = |message: &&Value| message["channel"].as_str() == Some(&format!("/{name}"));
            let first = messages.iter().filter(is_event).find(of_it);
            let upto = first.map_or_else(|| view.newest(), |event| self.find(event, view) - 1);
            self.ledger.gap(name, upto);
            self.seen.gaps += 1;
        }
        for message in &messages {
            match is_event(&message) {
                true if is_current => {
                    self.event(message, view);
                    self.seen.streamed += u64::from(line == STREAM);
                }
                true => {}
                false => self.reply(line, message, view),
            }
        }
    }

    /// Which message an event is.
    fn find(&self, event: &Value, view: &View) -> Seq {
        let channel = event["channel"].as_str().unwrap().strip_prefix('/').unwrap();
        let bytes = payload(&without_replay(event));
        let is_it =
            |message: &&Message| *message.channel == *channel && message.publication.data.bytes() == bytes;
        let found = match event["ext"]["replayId"].as_u64() {
            Some(id) => view.journal.iter().find(|message| replay_id(message.id) == id),
            None => view.journal[self.ledger.cursor() as usize..].iter().find(is_it),
        };
        let found = found.unwrap_or_else(|| panic!("an event of no message, or too late: {event}, {self:?}"));
        assert!(is_it(&found), "{event}");
        found.id.seq
    }

    fn event(&mut self, event: &Value, view: &View) {
        assert!(event.get("id").is_none() && event.get("clientId").is_none(), "{event}");
        let seq = self.find(event, view);
        let life = self.life;
        let pending = self.asked.values().filter(|asked| asked.life == life);
        let pending = pending.filter_map(|asked| match &asked.what {
            What::Subscribe(items, after) => Some((&items[..], after.unwrap_or(asked.newest))),
            _ => None,
        });
        self.ledger.message(seq, view, pending);
        self.last = event["ext"]["replayId"].as_u64().map(|id| (id, seq)).or(self.last);
        self.seen.events += 1;
    }

    fn reply(&mut self, line: usize, reply: &Value, view: &View) {
        let id: u64 = reply["id"].as_str().expect("an id").parse().unwrap();
        let asked = self.asked.remove(&id).unwrap_or_else(|| panic!("an answer to nothing: {reply}"));
        assert_eq!(asked.line, line, "an answer elsewhere");
        let (is_done, error) = (reply["successful"] == true, reply["error"].as_str().unwrap_or_default());
        assert!(is_done != reply["error"].is_string(), "{reply}");
        if asked.life != self.life {
            return;
        }
        let is_unknown = error.starts_with("402::");
        if is_unknown && !matches!(asked.what, What::Handshake) {
            if let What::Connect(_) = asked.what {
                assert_eq!(reply["advice"]["reconnect"], "handshake", "{reply}");
            }
            return self.session_gone(error, view);
        }
        self.heard = self.heard.max(asked.at);
        match asked.what {
            What::Handshake if is_done => {
                self.session = Some(reply["clientId"].as_str().unwrap().to_owned());
                assert_eq!(reply["ext"]["ack"] == true, self.acks, "{reply}");
                (self.heard, self.has_restarted) = (asked.at, false);
                self.seen.sessions += 1;
            }
            What::Connect(by_stream) => {
                assert!(is_done, "{reply}");
                // What goodbyes answer has no number.
                if self.acks && reply["advice"]["reconnect"] != "none" {
                    let batch = reply["ext"]["ack"].as_u64().expect("a batch");
                    assert!(batch > self.batch, "batches have ascending numbers");
                    self.batch = batch;
                }
                self.ledger.settle(id, view);
                (self.streams, self.is_back) = (by_stream, false);
                // The server may not know yet that a stream is lost.
                if !by_stream || self.has_stream() {
                    self.ledger.excuse_up_to(view.newest());
                }
            }
            What::Subscribe(items, after) if is_done => {
                // What is asked for from an earlier place on has to come from there, or a gap is told.
                let begun = after.filter(|&after| after > 0).unwrap_or_else(|| view.newest());
                let asked = after.unwrap_or(asked.newest);
                items.iter().for_each(|&item| self.ledger.begin(item, asked, begun));
                items.into_iter().for_each(|item| self.note_leaving(item));
            }
            What::Unsubscribe(item) if is_done => self.ledger.end(item, asked.newest, view.newest()),
            What::Publish(channel, payload) if is_done => {
                let is_it = |message: &Message| {
                    *message.channel == *channel && message.publication.data.bytes() == payload.as_bytes()
                };
                assert!(view.journal.iter().any(is_it), "{payload} was not published");
                self.seen.published += 1;
            }
            What::Disconnect if is_done => self.forget(),
            What::Unsubscribe(item) => {
                self.ledger.go_on(item, asked.newest);
                self.note_leaving(item);
            }
            What::Handshake | What::Subscribe(..) | What::Publish(..) | What::Disconnect => {}
        }
    }

    /// What has been asked for may have been left since, by what is not answered yet.
    fn note_leaving(&mut self, item: &'static str) {
        let leaves = |asked: &&Asked| {
            asked.life == self.life && matches!(asked.what, What::Unsubscribe(left) if left == item)
        };
        let asked = self.asked.values().filter(leaves).map(|asked| asked.newest);
        asked.for_each(|newest| self.ledger.perhaps_end(item, newest));
    }

    /// The server knows the session no more: its time was over, or it has missed something, or the server is another.
    fn session_gone(&mut self, why: &str, view: &View) {
        let is_over = self.heard + self.terms.max_interval_ms <= view.at;
        let leaves = |asked: &Asked| asked.life == self.life && matches!(asked.what, What::Disconnect);
        let is_leaving = self.asked.values().any(leaves);
        let is_known = self.has_restarted || self.terms.ends_on_gap || is_over || is_leaving;
        assert!(is_known, "the session is gone: {why}, {self:?}");
        self.seen.unknown += 1;
        self.forget();
    }

    /// When all is quiet, who waits lacks nothing, and does not wait for too long.
    pub fn settle(&mut self, view: &View) {
        if self.streams && self.has_stream() && !self.acks && !self.is_connecting() && !self.has_restarted {
            self.ledger.is_told_later(Some(self.count));
            self.ledger.account(view.newest(), view);
            return self.ledger.is_told_later(None);
        }
        let is_connect = |asked: &&Asked| matches!(asked.what, What::Connect(_)) && asked.life == self.life;
        let Some(connect) = self.asked.values().find(is_connect) else { return };
        let Some(line) = &self.lines[connect.line] else { return };
        if line.over || line.half_closed || self.has_restarted {
            return;
        }
        let due = connect.at + self.terms.timeout_ms + 16;
        assert!(connect.is_deferred || due > view.at, "a connect overslept: {self:?}");
        self.ledger.account(view.newest(), view);
    }
}

/// The data of an event as it was published: where it is an object, its position has been written into it.
fn without_replay(event: &Value) -> Value {
    let mut data = event["data"].clone();
    if let Some(object) = data.as_object_mut() {
        object.remove("event");
    }
    data
}
