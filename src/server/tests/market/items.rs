//! What a subscriber is told, taken out of the bytes of each technique as a client would.

use crate::transport::{Polling, Streaming, Transport};
use crate::wire::query;
use serde_json::Value;

const BOUNDARY: &str = "--encke-5f0c1e9a7d3b4826\r\n";
const LAST_BOUNDARY: &str = "--encke-5f0c1e9a7d3b4826--\r\n";

/// One thing that a subscriber is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    Message(Told),
    /// Messages of a channel, or of those that match a pattern, are missing.
    Gap(String),
    /// Where it stands.
    Place(String),
}

/// A message, as far as the technique tells it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Told {
    pub id: Option<String>,
    pub channel: Option<String>,
    pub key: Option<String>,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub enum What {
    /// The payload as it was published.
    Bare(Vec<u8>),
    /// The payload in an envelope.
    Value(Value),
    Patch {
        base: String,
        patch: Value,
    },
    #[default]
    Removed,
}

/// An answer to a request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The head of an answer at the beginning of `bytes`, which is taken from there.
    fn head(bytes: &mut Vec<u8>) -> Option<Self> {
        let mut slots = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut slots);
        let httparse::Status::Complete(length) = response.parse(bytes).expect("a head") else { return None };
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        let fields = response.headers.iter().map(|it| (it.name.to_ascii_lowercase(), text(it.value)));
        let answer = Self { status: response.code?, fields: fields.collect(), body: Vec::new() };
        bytes.drain(..length);
        Some(answer)
    }

    /// A whole answer with a length at the beginning of `bytes`.
    pub fn take(bytes: &mut Vec<u8>) -> Option<Self> {
        let mut rest = bytes.clone();
        let mut answer = Self::head(&mut rest)?;
        let length = answer.field("content-length").map_or(0, |length| length.parse().unwrap());
        if rest.len() < length {
            return None;
        }
        answer.body = rest.drain(..length).collect();
        *bytes = rest;
        Some(answer)
    }

    /// What the answer to a poll tells, in order, and where to go on.
    pub fn items(&self, polling: Polling) -> (Vec<Item>, String) {
        let next = self.field("encke-next").expect("a place").to_owned();
        let names = self.field("encke-gap").into_iter().flat_map(|names| names.split(", "));
        let gaps = names.map(|name| Item::Gap(String::from_utf8(query::decode_path(name).into()).unwrap()));
        let mut items: Vec<Item> = gaps.collect();
        if self.status != 200 {
            return (items, next);
        }
        if polling == Polling::Script {
            let text = std::str::from_utf8(&self.body).unwrap();
            let arguments = text.strip_prefix("/**/cb(").and_then(|text| text.strip_suffix(");")).unwrap();
            let arguments: Vec<Value> = serde_json::from_str(&format!("[{arguments}]")).unwrap();
            assert_eq!((arguments[1].as_str(), arguments.len() > 2), (Some(&*next), !items.is_empty()));
            items.extend(arguments[0].as_array().unwrap().iter().map(enveloped));
        } else if let Some(messages) = self.json().get("messages") {
            let body = self.json();
            assert_eq!(
                (body["next"].as_str(), body["gap"].as_bool()),
                (Some(&*next), Some(!items.is_empty()))
            );
            items.extend(messages.as_array().unwrap().iter().map(enveloped));
        } else {
            let named = |name| self.field(name).map(decoded);
            let removed = named("encke-removed");
            let what = match removed {
                Some(_) => What::Removed,
                None => What::Bare(self.body.clone()),
            };
            // Up to where it continues there was nothing else.
            let id = next.split('~').next().map(str::to_owned);
            items.push(Item::Message(Told { id, channel: None, key: named("encke-key").or(removed), what }));
        }
        (items, next)
    }
}

/// What an object in an envelope's place tells.
fn enveloped(value: &Value) -> Item {
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    if value["gap"].is_object() {
        return Item::Gap(value["gap"]["channel"].as_str().unwrap().into());
    }
    if let Some(next) = text("next") {
        return Item::Place(next);
    }
    let what = match (value.get("data"), value.get("patch"), value.get("removed")) {
        (Some(data), None, None) => What::Value(data.clone()),
        (None, Some(patch), None) => What::Patch { base: text("base").unwrap(), patch: patch.clone() },
        (None, None, Some(Value::Bool(true))) => What::Removed,
        _ => panic!("{value}"),
    };
    Item::Message(Told { id: text("id"), channel: text("channel"), key: text("key"), what })
}

fn decoded(text: &str) -> String {
    String::from_utf8(query::decode_path(text).into()).unwrap()
}

/// An endless answer that is being read.
#[derive(Debug, Default)]
pub struct Stream {
    /// What has arrived and was not looked at.
    inbox: Vec<u8>,
    /// What the chunks carried.
    text: Vec<u8>,
    pub begun: Option<Answer>,
    /// Its end was told in good order.
    pub ended: bool,
}

impl Stream {
    /// What `bytes` that arrived complete.
    pub fn take(&mut self, bytes: &[u8], stream: Streaming) -> Vec<Item> {
        self.inbox.extend_from_slice(bytes);
        if self.begun.is_none() {
            self.begun = Answer::head(&mut self.inbox);
            if self.begun.is_none() {
                return Vec::new();
            }
        }
        let mut items = Vec::new();
        match stream {
            Streaming::WebSocket | Streaming::WebSocketRaw => {
                while let Some((opcode, payload)) = self.frame() {
                    match opcode {
                        1 if stream == Streaming::WebSocketRaw => items.push(bare(payload)),
                        1 => items.extend(object(std::str::from_utf8(&payload).unwrap())),
                        8 => self.ended = true,
                        _ => assert_eq!(opcode, 9, "a ping"),
                    }
                }
            }
            Streaming::Raw => {
                while let Some(chunk) = self.chunk() {
                    items.push(bare(chunk));
                }
            }
            _ => {
                while let Some(chunk) = self.chunk() {
                    self.text.extend(chunk);
                }
                while let Some(found) = self.block(stream) {
                    items.extend(found);
                }
            }
        }
        items
    }

    /// Whether a part has begun that has no message yet.
    pub fn has_notice_ahead(&self) -> bool {
        self.text.starts_with(b"Encke-Gap: ")
    }

    fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.inbox.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&self.inbox[..line]).unwrap(), 16).unwrap();
        let end = line + 2 + size;
        if self.inbox.len() < end + 2 {
            return None;
        }
        let payload = self.inbox[line + 2..end].to_vec();
        self.inbox.drain(..end + 2);
        self.ended |= size == 0;
        (size > 0).then_some(payload)
    }

    /// A frame of a WebSocket: its opcode and its payload.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (length, at) = match *self.inbox.get(1)? {
            126 => (usize::from(u16::from_be_bytes(*self.inbox.get(2..)?.first_chunk()?)), 4),
            127 => (u64::from_be_bytes(*self.inbox.get(2..)?.first_chunk()?) as usize, 10),
            short => (usize::from(short), 2),
        };
        let payload = self.inbox.get(at..at + length)?.to_vec();
        let first = self.inbox[0];
        assert_eq!(first & 0xf0, 0x80, "whole messages");
        self.inbox.drain(..at + length);
        Some((first & 0xf, payload))
    }

    /// What the next event, line, script or part tells.
    fn block(&mut self, stream: Streaming) -> Option<Vec<Item>> {
        let text = std::str::from_utf8(&self.text).expect("whole characters");
        let (length, found) = match stream {
            Streaming::Multipart | Streaming::Replace => part(text)?,
            Streaming::Sse | Streaming::SseEnvelope => {
                let end = text.find("\n\n")? + 2;
                (end, event(&text[..end], stream))
            }
            Streaming::Iframe => {
                let end = text.find('\n')? + 1;
                let call = text[..end].trim_end().strip_prefix("<script>e(");
                (
                    end,
                    call.and_then(|call| call.strip_suffix(")</script>"))
                        .and_then(object)
                        .into_iter()
                        .collect(),
                )
            }
            _ => {
                let end = text.find('\n')? + 1;
                (end, Some(&text[..end]).filter(|line| *line != "\n").and_then(object).into_iter().collect())
            }
        };
        self.text.drain(..length);
        Some(found)
    }
}

fn bare(payload: Vec<u8>) -> Item {
    Item::Message(Told { what: What::Bare(payload), ..Told::default() })
}

/// What a JSON object of a stream tells, if it is none that says nothing, and no answer to a command.
fn object(text: &str) -> Option<Item> {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("JSON: {text}"));
    assert!(value.get("error").is_none(), "{value}");
    (value.as_object().is_some_and(|it| !it.is_empty()) && value.get("ref").is_none())
        .then(|| enveloped(&value))
}

/// What an event of an event stream tells.
fn event(text: &str, stream: Streaming) -> Vec<Item> {
    let field = |name: &'static str| text.lines().filter_map(move |line| line.strip_prefix(name));
    let data: Vec<&str> = field("data: ").collect();
    let data = data.join("\n");
    let id = field("id: ").next().map(str::to_owned);
    let message = |key, what| vec![Item::Message(Told { id: id.clone(), channel: None, key, what })];
    match field("event: ").next() {
        Some("encke.open") => vec![Item::Place(id.unwrap())],
        Some("encke.gap") => {
            let gap: Value = serde_json::from_str(&data).unwrap();
            vec![Item::Gap(gap["channel"].as_str().unwrap().into())]
        }
        Some("encke.removed") => message(Some(data), What::Removed),
        None if data.is_empty() => vec![Item::Place(id.unwrap())],
        None if stream == Streaming::SseEnvelope => {
            let item = object(&data).unwrap();
            if let Item::Message(told) = &item {
                assert_eq!(told.id, id);
            }
            vec![item]
        }
        None => message(None, What::Bare(data.into_bytes())),
        Some(other) => panic!("{other}"),
    }
}

/// A part, and what follows the boundary before it.
fn part(text: &str) -> Option<(usize, Vec<Item>)> {
    for boundary in [BOUNDARY, LAST_BOUNDARY] {
        if text.starts_with(boundary) {
            return Some((boundary.len(), Vec::new()));
        }
    }
    let head = text.find("\r\n\r\n")?;
    let field = |name: &str| {
        let mut lines = text[..head].split("\r\n");
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let length: usize = field("Content-Length").expect("a length").parse().unwrap();
    let body = text.get(head + 4..head + 4 + length)?;
    let end = head + 4 + length + 2;
    text.get(..end)?;
    let gaps = text[..head].split("\r\n").filter_map(|line| line.strip_prefix("Encke-Gap: "));
    let mut items: Vec<Item> =
        gaps.flat_map(|names| names.split(", ")).map(|name| Item::Gap(decoded(name))).collect();
    match field("Encke-Id") {
        Some(id) => {
            let removed = field("Encke-Removed").map(decoded);
            let what = match removed {
                Some(_) => What::Removed,
                None => What::Bare(body.into()),
            };
            let channel = field("Encke-Channel").map(decoded);
            let key = field("Encke-Key").map(decoded).or(removed);
            items.push(Item::Message(Told { id: Some(id.into()), channel, key, what }));
        }
        None => items.extend(object(body)),
    }
    Some((end, items))
}

/// All techniques, by the names that `as=` has for them; a WebSocket has none.
pub const TECHNIQUES: [(Transport, &str); 12] = [
    (Transport::Poll(Polling::Long), "poll"),
    (Transport::Poll(Polling::Interval), "interval"),
    (Transport::Poll(Polling::Script), "jsonp"),
    (Transport::Stream(Streaming::Sse), "sse"),
    (Transport::Stream(Streaming::SseEnvelope), "sse-envelope"),
    (Transport::Stream(Streaming::Lines), "stream"),
    (Transport::Stream(Streaming::Raw), "raw"),
    (Transport::Stream(Streaming::Iframe), "iframe"),
    (Transport::Stream(Streaming::Multipart), "multipart"),
    (Transport::Stream(Streaming::Replace), "x-mixed-replace"),
    (Transport::Stream(Streaming::WebSocket), ""),
    (Transport::Stream(Streaming::WebSocketRaw), ""),
];
