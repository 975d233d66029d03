//! A simulated client: writes requests in any pieces and takes the answers apart, strictly.

use super::oracle::{Debt, From, Selection, Watch};
use crate::conn::ConnId;
use crate::hub::{Hub, Message};
use crate::id::{Epoch, MessageId, Place, Seq};
use crate::time::Instant;
use crate::transport::{Streaming, Transport};
use data_encoding::BASE64;
use serde_json::Value;
use std::collections::VecDeque;

/// What a client may compare answers with.
pub struct View<'a> {
    pub journal: &'a [Message],
    pub epoch: Epoch,
    pub at: Instant,
    /// What the server keeps.
    pub hub: &'a Hub,
    /// Up to here, any forgotten channel may have lost something.
    pub suspected: Seq,
}

impl View<'_> {
    /// Whether the server keeps a message.
    pub fn keeps(&self, message: &Message) -> bool {
        self.hub.keeps(&message.channel, message.id.seq)
    }

    pub fn newest(&self) -> Seq {
        self.journal.len() as Seq
    }

    fn seq(&self, id: &str) -> Seq {
        let id = MessageId::parse(id).unwrap_or_else(|| panic!("{id:?} is no id"));
        assert!(id.epoch == self.epoch && id.seq <= self.newest(), "an id of nobody: {id}");
        id.seq
    }
}

/// A request that has not been answered.
#[derive(Debug, Clone)]
pub struct Ask {
    pub kind: Kind,
    /// Neither a body nor a wait.
    pub head_only: bool,
    /// Bytes of the connection's requests, including this one.
    pub ends_at: usize,
    /// When all of it had been written, or the answer before it had been read.
    pub since: Option<Instant>,
}

#[derive(Debug, Clone)]
pub enum Kind {
    /// Channels and payloads, in order.
    Publish(Vec<(&'static str, String)>),
    Subscribe(Box<Subscription>),
    /// Anything else, and the statuses it may be answered with.
    Other(&'static [u16]),
}

#[derive(Debug, Clone)]
pub struct Subscription {
    pub watch: Watch,
    pub transport: Transport,
    pub batch: bool,
    pub timeout_ms: u64,
}

/// An endless answer.
#[derive(Debug)]
pub struct Stream {
    pub subscription: Subscription,
    chunked: bool,
    /// Its end was told in good order.
    pub ended: bool,
}

#[derive(Debug, Default)]
pub struct Client {
    pub id: Option<ConnId>,
    pub outbox: Vec<u8>,
    pub written: usize,
    pub asks: VecDeque<Ask>,
    inbox: Vec<u8>,
    pub stream: Option<Stream>,
    /// The server has announced that nothing follows.
    pub over: bool,
    /// The last answer may have a body or none.
    may_trail: bool,
    pub half_closed: bool,
    /// It comes from an address that may publish nothing.
    pub stranger: bool,
    pub selection: Selection,
    /// The id to resume from.
    pub last: Option<String>,
    /// What is owed to who resumes from there, if that is known.
    pub debt: Option<Debt>,
}

/// An answer's head.
pub struct Head {
    pub status: u16,
    pub length: usize,
    fields: Vec<(String, String)>,
}

impl Head {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut slots = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut slots);
        let status = response.parse(bytes).expect("a well-formed head");
        let httparse::Status::Complete(length) = status else { return None };
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("a field is text");
        let fields: Vec<_> = response
            .headers
            .iter()
            .map(|field| (field.name.to_ascii_lowercase(), text(field.value)))
            .collect();
        Some(Self { status: response.code?, length, fields })
    }
}

impl Client {
    pub fn new(selection: Selection) -> Self {
        Self { selection, ..Self::default() }
    }

    /// Forgets the connection, not how far it has read.
    pub fn leave(&mut self) {
        let (selection, last) = (std::mem::take(&mut self.selection), self.last.take());
        let debt = self.debt.take();
        *self = Self { selection, last, debt, ..Self::default() };
    }

    /// Adds a request.
    pub fn ask(&mut self, request: &[u8], kind: Kind, head_only: bool) {
        self.outbox.extend_from_slice(request);
        let ends_at = self.written + self.outbox.len();
        self.asks.push_back(Ask { kind, head_only, ends_at, since: None });
    }

    /// What it has asked waits for its turn: where the first of it begins, its answer will tell.
    pub fn waits(&mut self) {
        if let Some(Ask { kind: Kind::Subscribe(subscription), .. }) = self.asks.front_mut() {
            subscription.watch.wait();
        }
    }

    /// Takes the next `count` bytes to write; notes the requests that are complete with them.
    pub fn write(&mut self, count: usize, view: &View) -> Vec<u8> {
        let bytes: Vec<u8> = self.outbox.drain(..count).collect();
        self.written += count;
        for (index, ask) in self.asks.iter_mut().enumerate() {
            if ask.since.is_none() && ask.ends_at <= self.written {
                ask.since = Some(view.at);
                if let Kind::Subscribe(subscription) = &mut ask.kind {
                    subscription.watch.asked = view.newest();
                    // Nothing stands before it: it is served at once.
                    if index == 0 {
                        subscription.watch.serve(view);
                    }
                }
            }
        }
        bytes
    }

    /// Takes bytes that arrived.
    pub fn take(&mut self, bytes: &[u8], view: &View) {
        self.inbox.extend_from_slice(bytes);
        while self.step(view) {}
    }

    /// The connection ended: nothing may be left half-said, unless it was `cut`.
    pub fn end(&mut self, cut: bool) {
        if let Some(stream) = &self.stream {
            let plain = !stream.chunked;
            let gap_cuts = stream.subscription.transport == Transport::Stream(Streaming::Raw);
            assert!(cut || plain || stream.ended || gap_cuts, "a stream ends without its last chunk");
            return;
        }
        assert!(cut || self.inbox.is_empty(), "an answer is cut off: {:?}", self.asks.front());
        assert!(cut || self.over || self.asks.iter().all(|ask| ask.since.is_none()));
    }

    /// Takes one thing out of the inbox, if it is complete.
    fn step(&mut self, view: &View) -> bool {
        if let Some(stream) = &mut self.stream {
            let Some(payload) = stream.next(&mut self.inbox) else { return false };
            if !payload.is_empty() {
                let before = self.last.clone();
                stream.payload(&payload, view, &mut self.last);
                if self.last != before {
                    self.debt = stream.debt();
                }
            }
            return true;
        }
        if self.inbox.is_empty() {
            return false;
        }
        if self.may_trail {
            self.inbox.clear();
            return false;
        }
        assert!(!self.over, "bytes after the last answer: {:?}", String::from_utf8_lossy(&self.inbox));
        let Some(head) = Head::read(&self.inbox) else { return false };
        if head.status == 100 {
            self.inbox.drain(..head.length);
            return true;
        }
        // What refuses the connection does not look at the request; that no channel can be made is an answer.
        let no_channel =
            head.field("retry-after").is_some_and(|seconds| seconds.parse::<u32>().unwrap() >= 60);
        let refused = head.field("connection") == Some("close")
            && matches!(head.status, 408 | 429 | 431 | 503)
            && !no_channel;
        let head_only = self.asks.front().is_some_and(|ask| ask.head_only);
        // A HEAD that had not come whole when its connection was refused was not known to be one.
        self.may_trail = refused && head_only;
        let length = head.field("content-length").map(|length| length.parse::<usize>().unwrap());
        let chunked = head.field("transfer-encoding").is_some();
        assert!(length.is_none() || !chunked, "both lengths");
        let has_body = !matches!(head.status, 204 | 304) && !head_only;
        let body = match length {
            Some(length) if has_body => length,
            None if has_body => return self.begin_stream(&head, chunked, view),
            _ => 0,
        };
        let Some(body) = self.inbox.get(head.length..head.length + body).map(<[u8]>::to_vec) else {
            return false;
        };
        self.inbox.drain(..head.length + body.len());
        self.over = head.field("connection") == Some("close");
        self.answer(&head, &body, view);
        if let Some(next) = self.asks.front_mut() {
            next.since = next.since.map(|_| view.at);
        }
        true
    }

    fn begin_stream(&mut self, head: &Head, chunked: bool, view: &View) -> bool {
        self.inbox.drain(..head.length);
        let ask = self.asks.pop_front().expect("an answer without a request");
        let Kind::Subscribe(mut subscription) = ask.kind else { panic!("{} without a length", head.status) };
        assert_eq!(head.status, 200);
        let position = head.field("encke-next").expect("a position");
        let place = Place::parse(position).expect("a place");
        subscription.watch.begin(view.seq(&place.id.to_string()), view.newest());
        if subscription.watch.from != From::Stranger {
            self.last = Some(position.to_owned());
            self.debt = subscription.watch.debt();
        }
        if subscription.transport == Transport::Stream(Streaming::Raw) {
            gap_field(head, &mut subscription.watch, view.newest(), view);
        }
        self.over = true;
        self.stream = Some(Stream { subscription: *subscription, chunked, ended: false });
        true
    }

    fn answer(&mut self, head: &Head, body: &[u8], view: &View) {
        let status = head.status;
        let Some(ask) = self.asks.pop_front() else {
            let is_early = matches!(status, 408 | 429 | 503) || self.stranger && status == 403;
            assert!(is_early && self.over, "an answer to nothing: {status}");
            return;
        };
        if self.over && matches!(status, 408 | 429 | 431 | 503) && head.field("encke-next").is_none() {
            return self.asks.clear();
        }
        let publishes = matches!(ask.kind, Kind::Publish(_) | Kind::Other(&[204, 404]));
        if self.stranger && publishes {
            // Before its body is read, and then nothing behind it is answered; or behind it.
            assert_eq!(status, 403, "strangers may not publish");
            if self.over {
                self.asks.clear();
            }
            return;
        }
        assert!(ask.since.is_some(), "answered before it was asked: {status} {ask:?}");
        let shown = || String::from_utf8_lossy(body);
        match ask.kind {
            Kind::Other(statuses) => assert!(statuses.contains(&status), "{status}: {}", shown()),
            Kind::Publish(messages) => published(status, body, &messages, view),
            Kind::Subscribe(subscription) if matches!(status, 503 | 410) => drop(subscription),
            Kind::Subscribe(subscription) if ask.head_only => drop(subscription),
            // What an EventSource gets instead of a refusal.
            Kind::Subscribe(subscription) if subscription.transport == Transport::Stream(Streaming::Sse) => {
                assert!(body.starts_with(b"retry: ") && head.field("retry-after").is_some(), "{}", shown());
            }
            Kind::Subscribe(mut subscription) => {
                self.last = Some(polled(head, body, &mut subscription, view));
                self.debt = subscription.watch.debt();
            }
        }
    }
}

fn published(status: u16, body: &[u8], messages: &[(&'static str, String)], view: &View) {
    if status == 503 {
        return;
    }
    assert!(matches!(status, 201 | 202), "{status}: {}", String::from_utf8_lossy(body));
    let value: Value = serde_json::from_slice(body).unwrap();
    let all = if let Value::Array(all) = value { all } else { vec![value] };
    assert_eq!(all.len(), messages.len());
    for (told, (channel, payload)) in all.iter().zip(messages) {
        let seq = view.seq(told["id"].as_str().unwrap());
        let message = &view.journal[seq as usize - 1];
        assert_eq!((&*message.channel, told["channel"].as_str()), (*channel, Some(*channel)));
        assert_eq!(message.publication.data.bytes(), payload.as_bytes());
    }
}

/// Checks the answer to a poll; returns the id to go on with.
fn polled(head: &Head, body: &[u8], subscription: &mut Subscription, view: &View) -> String {
    let watch = &mut subscription.watch;
    let next = head.field("encke-next").unwrap_or_else(|| panic!("{}: no position", head.status)).to_owned();
    assert_eq!(head.field("etag"), Some(format!("\"{next}\"").as_str()));
    let upto = view.seq(&Place::parse(&next).unwrap().id.to_string());
    let payloads = match head.status {
        200 if subscription.batch => batch(body, &next, head.field("encke-gap").is_some(), view),
        200 => vec![(upto, body.to_vec())],
        204 | 304 | 408 => Vec::new(),
        status => panic!("{status}: {}", String::from_utf8_lossy(body)),
    };
    let channel = |seq: Seq| &*view.journal[seq as usize - 1].channel;
    for name in head.field("encke-gap").into_iter().flat_map(|names| names.split(", ")) {
        let name = String::from_utf8_lossy(&crate::wire::query::decode_path(name)).into_owned();
        let first = payloads.iter().find(|(seq, _)| channel(*seq) == name);
        // Its place says how far it had come when it was told; and if it tells how somebody began, of which losses it has been
        // told, which are all that there were by then.
        let place = Place::parse(&next).unwrap();
        let told = if place.began.is_some() { view.newest() } else { place.rest() };
        watch.gap(&name, first.map_or((0, told), |(seq, _)| (seq - 1, seq - 1)), view);
    }
    watch.began.get_or_insert_with(|| view.newest());
    for (seq, payload) in &payloads {
        watch.message(view.journal, *seq, payload, view.at);
        // Its answer tells it.
        (watch.lacks_place, watch.forgets_gap) = (false, false);
    }
    assert!(watch.from != From::Stranger || watch.was_told(), "a foreign id, but no gap was told");
    watch.account(view.journal, upto, view.at);
    next
}

fn batch(body: &[u8], next: &str, gap: bool, view: &View) -> Vec<(Seq, Vec<u8>)> {
    let value: Value = serde_json::from_slice(body).unwrap();
    assert_eq!((value["next"].as_str(), value["gap"].as_bool()), (Some(next), Some(gap)));
    value["messages"].as_array().unwrap().iter().map(|envelope| unwrap(envelope, view)).collect()
}

/// Number and payload in an envelope.
fn unwrap(envelope: &Value, view: &View) -> (Seq, Vec<u8>) {
    let seq = view.seq(envelope["id"].as_str().unwrap());
    assert_eq!(envelope["channel"].as_str(), Some(&*view.journal[seq as usize - 1].channel));
    (seq, data(envelope))
}

fn data(envelope: &Value) -> Vec<u8> {
    match (&envelope["data"], &envelope["data64"]) {
        (Value::Null, Value::String(encoded)) => BASE64.decode(encoded.as_bytes()).unwrap(),
        (Value::String(text), Value::Null) => text.clone().into_bytes(),
        (json, Value::Null) => json.to_string().into_bytes(),
        _ => panic!("{envelope}"),
    }
}

/// Gaps told in the head, of which only the channels are known.
fn gap_field(head: &Head, watch: &mut Watch, upto: Seq, view: &View) {
    for name in head.field("encke-gap").into_iter().flat_map(|names| names.split(", ")) {
        let name = crate::wire::query::decode_path(name);
        watch.gap(&String::from_utf8_lossy(&name), (0, upto), view);
    }
}

impl Stream {
    /// What is owed to who comes back with the last it had. Bare messages have no place, but an id that somebody knows.
    fn debt(&self) -> Option<Debt> {
        let is_raw = self.subscription.transport == Transport::Stream(Streaming::Raw);
        let watch = &self.subscription.watch;
        if is_raw || watch.lacks_place || watch.forgets_gap { None } else { watch.debt() }
    }

    /// The next chunk, or event or line of a stream without chunks; empty for what says nothing.
    fn next(&mut self, inbox: &mut Vec<u8>) -> Option<Vec<u8>> {
        if self.ended {
            assert!(inbox.is_empty(), "bytes after the last chunk");
            return None;
        }
        if !self.chunked {
            let is_events = self.subscription.transport == Transport::Stream(Streaming::Sse);
            let end: &[u8] = if is_events && !is_between_blocks(inbox) { b"\n\n" } else { b"\n" };
            let at = inbox.windows(end.len()).position(|window| window == end)? + end.len();
            return Some(inbox.drain(..at).collect());
        }
        let payload = take_chunk(inbox)?;
        self.ended = payload.is_empty();
        Some(payload)
    }

    /// Takes what one chunk carries.
    fn payload(&mut self, payload: &[u8], view: &View, last: &mut Option<String>) {
        match self.subscription.transport {
            Transport::Stream(Streaming::Sse) => {
                self.event(std::str::from_utf8(payload).unwrap(), view, last);
            }
            Transport::Stream(Streaming::Raw) => {
                let watch = &mut self.subscription.watch;
                watch.lacks_place = false;
                let seq = watch.find(view.journal, payload, view.at).expect("a message that was published");
                watch.message(view.journal, seq, payload, view.at);
                *last = Some(view.journal[seq as usize - 1].id.to_string());
            }
            _ if payload == b"\n" => {}
            _ => self.line(payload, view, last),
        }
    }

    fn line(&mut self, line: &[u8], view: &View, last: &mut Option<String>) {
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "one line a chunk");
        let value: Value = serde_json::from_slice(line).unwrap();
        match (value.get("gap"), value.get("next")) {
            (Some(gap), _) => self.gap(gap, view),
            (None, Some(next)) => self.place(next.as_str().unwrap(), view, last),
            (None, None) => {
                let (seq, payload) = unwrap(&value, view);
                self.subscription.watch.message(view.journal, seq, &payload, view.at);
                *last = value["id"].as_str().map(str::to_owned);
            }
        }
    }

    fn event(&mut self, text: &str, view: &View, last: &mut Option<String>) {
        if is_between_blocks(text.as_bytes()) {
            return;
        }
        assert!(text.ends_with("\n\n") && !text[..text.len() - 1].contains("\n\n"), "one event: {text:?}");
        let field = |name: &'static str| text.lines().filter_map(move |line| line.strip_prefix(name));
        let data: Vec<&str> = field("data: ").collect();
        let data = data.join("\n");
        if field("event: ").next() == Some("encke.gap") {
            return self.gap(&serde_json::from_str(&data).unwrap(), view);
        }
        let Some(id) = field("id: ").next() else { return };
        let foreign = self.subscription.watch.from == From::Stranger && !self.subscription.watch.was_told();
        if field("event: ").next() == Some("encke.open") {
            let place: Value = serde_json::from_str(&data).unwrap();
            assert!(place["next"].as_str() == Some(id) && place["heartbeat"].is_u64(), "{place}");
        } else if field("data:").next().is_none() {
            return self.place(id, view, last);
        } else {
            let seq = view.seq(id);
            let binary =
                matches!(view.journal[seq as usize - 1].publication.data, crate::hub::Data::Binary(_));
            let payload = match binary {
                true => self::data(&serde_json::from_str(&data).unwrap()),
                false => data.into_bytes(),
            };
            self.subscription.watch.message(view.journal, seq, &payload, view.at);
        }
        if !foreign {
            *last = Some(id.to_owned());
        }
    }

    /// A place is told behind a message.
    fn place(&mut self, place: &str, view: &View, last: &mut Option<String>) {
        let told = Place::parse(place).unwrap_or_else(|| panic!("{place:?} is no place"));
        assert!(told.rest() <= view.newest(), "a place that nobody has come to: {place}");
        self.subscription.watch.place(told.id.seq);
        *last = Some(place.to_owned());
    }

    fn gap(&mut self, gap: &Value, view: &View) {
        let oldest = view.seq(gap["oldest"].as_str().unwrap());
        let channel = gap["channel"].as_str().unwrap();
        // If nothing is kept, the oldest is the newest of all, which may be lost as well.
        self.subscription.watch.gap(channel, (oldest, oldest), view);
    }
}

/// Takes a chunk out of what has come, if it is complete; the last one is empty.
pub fn take_chunk(inbox: &mut Vec<u8>) -> Option<Vec<u8>> {
    let line = inbox.windows(2).position(|window| window == b"\r\n")?;
    let size = usize::from_str_radix(std::str::from_utf8(&inbox[..line]).unwrap(), 16).unwrap();
    let end = line + 2 + size;
    if inbox.len() < end + 2 {
        return None;
    }
    assert_eq!(&inbox[end..end + 2], b"\r\n", "a chunk ends where its size says");
    let payload = inbox[line + 2..end].to_vec();
    inbox.drain(..end + 2);
    Some(payload)
}

/// Whether an event stream goes on with a line that belongs to no block: a sign of life, or when to come back, which
/// nothing follows.
fn is_between_blocks(text: &[u8]) -> bool {
    let is_last = text.iter().filter(|byte| **byte == b'\n').count() == 1 && text.ends_with(b"\n");
    text.starts_with(b":") || text.starts_with(b"retry: ") && is_last
}
