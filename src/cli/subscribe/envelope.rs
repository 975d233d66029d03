//! A line of the stream, and what is printed of it.
//!
//! Numbers and the order of keys stay as the publisher wrote them: a JSON message is compacted as text, not
//! parsed and written anew.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};

use data_encoding::BASE64;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::merge;

/// What the server says in one line.
#[derive(Debug)]
pub enum Event<'a> {
    /// An empty line.
    Heartbeat,
    /// A message.
    Message(Envelope<'a>),
    /// Messages that cannot be had any more.
    Gap(Gap<'a>),
    /// Where the stream stands.
    Place(Cow<'a, str>),
    /// Something of a later version of the protocol.
    Other,
}

/// A message with what belongs to it.
#[derive(Debug)]
pub struct Envelope<'a> {
    /// Where to resume after this message.
    pub id: Cow<'a, str>,
    /// Where it was published.
    pub channel: Option<Cow<'a, str>>,
    /// The key whose value it is.
    pub key: Option<Cow<'a, str>>,
    payload: Payload<'a>,
}

/// The message itself.
#[derive(Debug)]
enum Payload<'a> {
    Text(Cow<'a, str>),
    Json(&'a str),
    Bytes(Vec<u8>),
    Removed,
    Patch {
        base: Cow<'a, str>,
        patch: &'a str,
    },
    /// JSON that was made of a patch.
    Made(String),
}

/// The JSON values that a connection gave last, with their ids, by channel and key.
pub type Values = BTreeMap<(String, String), (String, String)>;

/// The server's notice of what is missing.
#[derive(Debug, Deserialize)]
pub struct Gap<'a> {
    #[serde(borrow)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow)]
    after: Option<Cow<'a, str>>,
    #[serde(borrow)]
    oldest: Option<Cow<'a, str>>,
}

/// Every field a line may have.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    data64: Option<Cow<'a, str>>,
    #[serde(borrow)]
    gap: Option<Gap<'a>>,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(default)]
    removed: bool,
    #[serde(borrow)]
    base: Option<Cow<'a, str>>,
    #[serde(borrow)]
    patch: Option<&'a RawValue>,
    #[serde(borrow)]
    next: Option<Cow<'a, str>>,
}

/// Keeps a `null` apart from a field that is absent: it is a message.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<'a> Event<'a> {
    /// Reads a line without its end; the error says what is wrong with it.
    pub fn parse(line: &'a [u8]) -> Result<Self, String> {
        if line.is_empty() {
            return Ok(Self::Heartbeat);
        }
        let fields: Fields = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        if let Some(gap) = fields.gap {
            return Ok(Self::Gap(gap));
        }
        let Some(id) = fields.id else { return Ok(fields.next.map_or(Self::Other, Self::Place)) };
        let payload = match (fields.data, fields.data64) {
            _ if fields.removed => Payload::Removed,
            _ if fields.patch.is_some() => Payload::Patch {
                base: fields.base.unwrap_or_default(),
                patch: fields.patch.map_or("{}", RawValue::get),
            },
            (Some(data), _) if data.get().starts_with('"') => {
                Payload::Text(serde_json::from_str::<String>(data.get()).map_err(|e| e.to_string())?.into())
            }
            (Some(data), _) => Payload::Json(data.get()),
            (None, Some(text)) => {
                Payload::Bytes(BASE64.decode(text.as_bytes()).map_err(|error| format!("data64: {error}"))?)
            }
            (None, None) => Payload::Text("".into()),
        };
        Ok(Self::Message(Envelope { id, channel: fields.channel, key: fields.key, payload }))
    }
}

impl Envelope<'_> {
    /// Writes the message: text and bytes verbatim, JSON without white space.
    pub fn write_payload(&self, out: &mut impl Write) -> io::Result<()> {
        match &self.payload {
            Payload::Text(text) => out.write_all(text.as_bytes()),
            Payload::Bytes(bytes) => out.write_all(bytes),
            Payload::Json(json) => write_compact(json, out),
            Payload::Removed => write!(out, "(removed {})", self.key.as_deref().unwrap_or_default()),
            Payload::Patch { patch, .. } => write_compact(patch, out),
            Payload::Made(json) => write_compact(json, out),
        }
    }

    /// Replaces a patch by the value that it makes, and remembers values for the patches to come. The error is what is
    /// wrong with a patch.
    pub fn resolve(&mut self, values: &mut Values) -> Result<(), String> {
        let Some(key) = &self.key else { return Ok(()) };
        let place = (self.channel.as_deref().unwrap_or_default().to_owned(), key.clone().into_owned());
        match &self.payload {
            Payload::Json(json) => {
                _ = values.insert(place, (self.id.clone().into_owned(), (*json).to_owned()));
            }
            Payload::Patch { base, patch } => {
                let known = values.get(&place).filter(|(id, _)| id == base);
                let value = known.and_then(|(_, value)| merge::apply(value, patch));
                let value = value.ok_or_else(|| format!("a patch of {base}, which is not known"))?;
                values.insert(place, (self.id.clone().into_owned(), value.clone()));
                self.payload = Payload::Made(value);
            }
            Payload::Text(_) | Payload::Bytes(_) | Payload::Removed | Payload::Made(_) => {
                _ = values.remove(&place);
            }
        }
        Ok(())
    }
}

impl Gap<'_> {
    /// The notice for a person.
    pub fn describe(&self) -> String {
        let mut text = String::from("gap: messages");
        for (word, value) in
            [(" of channel", &self.channel), (" after", &self.after), (" before", &self.oldest)]
        {
            if let Some(value) = value {
                text += &format!("{word} {value}");
            }
        }
        text + " are no longer there"
    }
}

/// Writes JSON without the white space between its tokens.
fn write_compact(json: &str, out: &mut impl Write) -> io::Result<()> {
    let (mut in_string, mut escaped) = (false, false);
    let token = |c: &char| {
        let inside = in_string;
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => in_string = !in_string,
            _ => {}
        }
        inside || !c.is_ascii_whitespace()
    };
    out.write_all(json.chars().filter(token).collect::<String>().as_bytes())
}
