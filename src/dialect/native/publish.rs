//! `POST /pub/{channels}` and batches: requests that publish.

use super::{Refused, channel, check_unknown, keys, pairs, wants_text};
use crate::broker::{Once, Publishing, Several, Terms};
use crate::config::Config;
use crate::dialect::{Command, Publish};
use crate::hub::{Data, Publication, channel_name};
use crate::wire::head::{Head, Method};
use crate::wire::{json, media, query};
use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The fields of what a message may have beside its payload: its event, its key, its TTL.
const PROPERTIES: [&str; 3] = ["encke-event", "encke-key", "encke-ttl"];
/// The same in a query, and what else may stand there.
pub const PARAMETERS: [&str; 4] = ["event", "key", "ttl", "access_token"];
pub const EVENT_BYTES_MAX: usize = 64;
/// What the names of the server's own events begin with.
const RESERVED_EVENTS: &str = "encke.";
/// Events that an EventSource takes for its own, so that no page would get them as messages.
const RESERVED_WORDS: [&str; 2] = ["open", "error"];
pub const KEY_BYTES_MAX: usize = 255;
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
const CONTENT_TYPE_BYTES_MAX: usize = 255;

#[cold]
fn bad(detail: impl Into<String>) -> Refused {
    (400, detail.into())
}

/// Reads a publication to one or several channels.
pub fn read<'b>(
    head: &Head<'b>,
    body: &[u8],
    channels: &'b str,
    config: &Config,
) -> Result<Command<'b>, Refused> {
    let (first, others) = query::split_once(channels, b',').map_or((channels, None), |(a, b)| (a, Some(b)));
    let mut messages = Several::one((channel(first)?, publication(head, body)?));
    if let Some(others) = others {
        add_channels(&mut messages, others, config.limits.channels_per_request)?;
    }
    let list = messages.len() > 1;
    let terms = keys::terms(head, &messages.first.1)?;
    let what = Publishing { messages, once: once(head)?, whose: None, terms };
    Ok(Command::Publish(Publish { what, list, as_text: wants_text(head), is_removal: false }))
}

/// Adds the same message to each of the `others`, unless with them there are more than `max` channels.
#[inline(never)]
fn add_channels<'b>(
    messages: &mut Several<(Cow<'b, str>, Publication)>,
    others: &'b str,
    max: usize,
) -> Result<(), Refused> {
    if 1 + query::split(others, b',').count() > max {
        return Err(bad(format!("a request may name at most {max} channels (limits.channels_per_request)")));
    }
    for part in query::split(others, b',') {
        let name = channel(part)?;
        if !messages.iter().any(|(known, _)| *known == name) {
            let publication = messages.first.1.clone();
            messages.others.push((name, publication));
        }
    }
    Ok(())
}

/// The message that the request's body and fields (or, where there is no such field, its query) describe.
fn publication(head: &Head, body: &[u8]) -> Result<Publication, Refused> {
    let content_type = text_field(head, "content-type")?.filter(|value| !value.is_empty());
    let publication = Publication {
        // What goes without saying is not kept.
        content_type: content_type
            .filter(|&text| text != media::TEXT)
            .map(|text| checked("Content-Type", text, CONTENT_TYPE_BYTES_MAX))
            .transpose()?,
        ..Publication::of(data(body, content_type)?)
    };
    match head.query.is_empty() && !PROPERTIES.iter().any(|name| head.may_have(name)) {
        true => Ok(publication),
        false => with_properties(publication, head),
    }
}

/// Adds what a message has beside its payload.
#[inline(never)]
fn with_properties(publication: Publication, head: &Head) -> Result<Publication, Refused> {
    let [mut event, mut key, mut ttl] = [None, None, None];
    for (name, value) in pairs(head)? {
        match &*name {
            "event" => event = Some(value),
            "key" => key = Some(value),
            "ttl" => ttl = Some(value),
            _ => check_unknown(&name, &PARAMETERS)?,
        }
    }
    for (place, name) in [&mut event, &mut key, &mut ttl].into_iter().zip(PROPERTIES) {
        if let Some(value) = text_field(head, name)? {
            *place = Some(Cow::Borrowed(value));
        }
    }
    let ttl: Option<u64> =
        ttl.map(|ttl| ttl.parse().map_err(|_| bad("ttl is a number of seconds"))).transpose()?;
    Ok(Publication {
        event: event.map(|text| checked("event", &text, EVENT_BYTES_MAX)).transpose()?,
        key: key.map(|text| checked("key", &text, KEY_BYTES_MAX)).transpose()?,
        ttl_ms: ttl.map(milliseconds),
        ..publication
    })
}

/// A field that must not be dropped because it cannot be read.
pub fn text_field<'b>(head: &Head<'b>, name: &str) -> Result<Option<&'b str>, Refused> {
    let value = head.bytes(name).map(std::str::from_utf8);
    value.transpose().map_err(|_| bad(format!("{name} is not UTF-8")))
}

/// Classifies a message; JSON is validated here, once for all who will read it.
fn data(body: &[u8], content_type: Option<&str>) -> Result<Data, Refused> {
    let text = std::str::from_utf8(body);
    if content_type.is_some_and(media::is_json) {
        let text = text.map_err(|_| bad("the message is not JSON: it is not UTF-8"))?;
        json::check(text)
            .map_err(|error| bad(format!("the message is not JSON that all can read: {error}")))?;
        return Ok(Data::Json(text.into()));
    }
    Ok(text.map_or_else(|_| Data::Binary(body.into()), |text| Data::Text(text.into())))
}

/// A time to live is given in seconds.
pub const fn milliseconds(seconds: u64) -> u64 {
    seconds.saturating_mul(1000)
}

pub fn checked(name: &str, text: &str, max: usize) -> Result<Box<str>, Refused> {
    if name == "event" && text.starts_with(RESERVED_EVENTS) {
        return Err(bad("events whose names begin with encke. are the server's own"));
    }
    if name == "event" && RESERVED_WORDS.contains(&text) {
        return Err(bad("an EventSource takes events named open and error for its own; use another name"));
    }
    if name == "key" && text.is_empty() {
        return Err(bad("a key has 1 to 255 bytes"));
    }
    match text.len() <= max && !text.chars().any(char::is_control) {
        true => Ok(text.into()),
        false => Err(bad(format!("{name} has at most {max} bytes and no control characters"))),
    }
}

/// How a repeat of the request is recognised, if its publisher wants that.
pub fn once<'b>(head: &Head<'b>) -> Result<Option<Once<'b>>, Refused> {
    head.bytes(IDEMPOTENCY_KEY).map(|key| read_key(key, head.method)).transpose()
}

#[inline(never)]
fn read_key(key: &[u8], method: Method) -> Result<Once<'_>, Refused> {
    let key = std::str::from_utf8(key).map_err(|_| bad("Idempotency-Key is not UTF-8"))?;
    match is_key(key) {
        false => Err(bad(format!("Idempotency-Key has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes"))),
        true => Ok(Once::Key { key, method: method_name(method) }),
    }
}

/// The methods that publish.
const fn method_name(method: Method) -> &'static str {
    match method {
        Method::Put => "PUT",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
        Method::Get | Method::Head | Method::Post | Method::Options => "POST",
    }
}

/// Whether `key` may be an idempotency key.
pub const fn is_key(key: &str) -> bool {
    !key.is_empty() && key.len() <= IDEMPOTENCY_KEY_BYTES_MAX
}

/// A message and its channel as JSON: a line of a batch, or what a WebSocket publishes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    data64: Option<Cow<'a, str>>,
    #[serde(borrow)]
    patch: Option<&'a RawValue>,
    #[serde(default)]
    remove: bool,
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    ttl: Option<u64>,
    /// How a repeat is recognised: for WebSockets, as batches have a header field.
    #[serde(borrow)]
    pub idempotency_key: Option<Cow<'a, str>>,
}

/// A value that is there, even if it is `null`.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads `POST /pub`: JSON lines, each a message with its channel.
pub fn read_batch<'b>(head: &Head<'b>, body: &[u8], config: &Config) -> Result<Command<'b>, Refused> {
    let content_type = head.field("content-type").unwrap_or_default();
    if !media::essence(content_type).eq_ignore_ascii_case(media::NDJSON) {
        let detail =
            format!("a batch is published as {}; a single message to /pub/{{channel}}", media::NDJSON);
        return Err((415, detail));
    }
    for (name, _) in pairs(head)? {
        match &*name {
            "event" | "key" | "ttl" => {
                return Err(bad(format!("{name}= is for one message; in a batch it stands in each line")));
            }
            _ => check_unknown(&name, &PARAMETERS)?,
        }
    }
    let text = std::str::from_utf8(body).map_err(|_| bad("the batch is not UTF-8"))?;
    let max = config.limits.batch_messages;
    let (mut messages, mut patches) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let number = index + 1;
        let (channel, publication, is_patch) =
            read_line(line).map_err(|(status, detail)| (status, format!("line {number}: {detail}")))?;
        if is_patch {
            patches.push(messages.len());
        }
        messages.push((channel.into(), publication));
        if messages.len() > max {
            return Err((413, format!("a batch has at most {max} messages (limits.batch_messages)")));
        }
    }
    let messages = Several::from_vec(messages).ok_or_else(|| bad("the batch is empty"))?;
    let terms = messages.iter().any(|(_, publication)| publication.key.is_some());
    let terms = terms.then(|| Box::new(Terms { patches, if_match: None }));
    let what = Publishing { messages, once: once(head)?, whose: None, terms };
    Ok(Command::Publish(Publish { what, list: true, as_text: wants_text(head), is_removal: false }))
}

fn read_line(line: &str) -> Result<(String, Publication, bool), Refused> {
    let line: Line = json::object(line).map_err(bad)?;
    match line.idempotency_key {
        Some(_) => Err(bad("the key of a batch is the header field Idempotency-Key")),
        None => line_publication(line),
    }
}

/// The channel and the message that a line describes, and whether its data is a patch of the latest value.
pub fn line_publication(line: Line) -> Result<(String, Publication, bool), Refused> {
    let name = channel_name(line.channel.as_bytes()).map_err(|error| bad(error.to_string()))?;
    let is_patch = line.patch.is_some();
    let (data, content_type) = match (line.data, line.data64, line.patch, line.remove) {
        (None, None, Some(patch), false) => {
            keys::check_patch(patch.get()).map_err(bad)?;
            (Data::Json(patch.get().into()), None)
        }
        (None, None, None, true) => (Data::Removed, None),
        (Some(raw), None, None, false) if raw.get().starts_with('"') => {
            let text: String = serde_json::from_str(raw.get()).map_err(|error| bad(error.to_string()))?;
            (Data::Text(text.into()), None)
        }
        (Some(raw), None, None, false) => {
            json::check_valid(raw.get()).map_err(|error| bad(format!("data: {error}")))?;
            (Data::Json(raw.get().into()), Some(media::JSON.into()))
        }
        (None, Some(encoded), None, false) => {
            let bytes = BASE64.decode(encoded.as_bytes()).map_err(|_| bad("data64 is not base64"))?;
            let binary = "application/octet-stream".into();
            (
                String::from_utf8(bytes).map_or_else(
                    |error| Data::Binary(error.into_bytes().into()),
                    |text| Data::Text(text.into()),
                ),
                Some(binary),
            )
        }
        _ => return Err(bad("a message has exactly one of data, data64, patch and \"remove\":true")),
    };
    if (is_patch || line.remove) && line.key.is_none() {
        return Err(bad("a patch and a removal name the key"));
    }
    let publication = Publication {
        data,
        content_type,
        event: line.event.map(|text| checked("event", &text, EVENT_BYTES_MAX)).transpose()?,
        key: line.key.map(|text| checked("key", &text, KEY_BYTES_MAX)).transpose()?,
        ttl_ms: line.ttl.map(milliseconds),
    };
    Ok((name.to_owned(), publication, is_patch))
}
