//! Lines that came together, as one request: JSON lines as `POST /pub` takes them.
//!
//! What cannot stand there as it is (bytes that are no UTF-8, a content type of its own) goes alone.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use super::PublishArgs;

/// Bytes from which on a batch is sent, whatever else is there.
pub const BYTES: usize = 64 << 10;
/// The same for lines. The server's default limit is twice as many.
const LINES: usize = 500;

/// Collects lines.
pub struct Batch {
    channel: String,
    event: Option<String>,
    key: Option<String>,
    /// The member that has the key of each message.
    key_field: Option<String>,
    ttl: Option<u64>,
    /// The messages are JSON.
    is_json: bool,
    lines: Lines,
}

/// What was collected.
#[derive(Default)]
pub struct Lines {
    /// The body of the request.
    pub json: Vec<u8>,
    /// Each line and its number.
    pub each: Vec<(u64, Vec<u8>)>,
}

/// A line of the request.
#[derive(Serialize)]
struct Message<'a> {
    channel: &'a str,
    data: Data<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u64>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Text(&'a str),
    Json(&'a RawValue),
}

/// The key that the member `name` of a JSON object has: a string, or a number as it is written.
pub fn key_of(line: &[u8], name: &str) -> Option<String> {
    let members: BTreeMap<Cow<str>, &RawValue> = serde_json::from_slice(line).ok()?;
    let value = members.get(name)?.get();
    match value.bytes().next()? {
        b'"' => serde_json::from_str(value).ok(),
        b'-' | b'0'..=b'9' => Some(value.to_owned()),
        _ => None,
    }
}

impl Batch {
    /// A batch of messages as `args` describe them; none if such messages have to go one by one.
    pub fn new(args: &PublishArgs) -> Option<Self> {
        let is_json = args.content_type.as_deref() == Some("application/json") || args.key_field.is_some();
        (is_json || args.content_type.is_none()).then(|| Self {
            channel: args.channel.clone(),
            event: args.event.clone(),
            key: args.key.clone(),
            key_field: args.key_field.clone(),
            ttl: args.ttl,
            is_json,
            lines: Lines::default(),
        })
    }

    /// Takes a line, if it can go along with others.
    pub fn take(&mut self, number: u64, line: &[u8]) -> bool {
        let Some(data) = std::str::from_utf8(line).ok().and_then(|text| self.data(text)) else {
            return false;
        };
        let member = match &self.key_field {
            None => None,
            Some(name) => match key_of(line, name) {
                Some(key) => Some(key),
                None => return false,
            },
        };
        let (event, key) = (self.event.as_deref(), member.as_deref().or(self.key.as_deref()));
        let message = Message { channel: &self.channel, data, event, key, ttl: self.ttl };
        let Ok(json) = serde_json::to_vec(&message) else { return false };
        self.lines.json.extend(json);
        self.lines.json.push(b'\n');
        self.lines.each.push((number, line.to_owned()));
        true
    }

    /// A string of JSON would arrive as text, so it goes alone, and so does what is no JSON: the server says why.
    fn data<'a>(&self, text: &'a str) -> Option<Data<'a>> {
        match self.is_json {
            false => Some(Data::Text(text)),
            true => serde_json::from_str::<&RawValue>(text)
                .ok()
                .filter(|json| !json.get().starts_with('"'))
                .map(Data::Json),
        }
    }

    /// Whether it must be sent before more is added.
    pub fn is_full(&self) -> bool {
        self.lines.each.len() >= LINES || self.lines.json.len() >= BYTES
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.lines.each.is_empty()
    }

    /// Takes everything out.
    pub fn clear(&mut self) -> Lines {
        std::mem::take(&mut self.lines)
    }
}
