//! `POST /pub`: batches, a message a line; what a WebSocket publishes looks like such a line.

use super::properties::{self, KEY_BYTES_MAX, checked, milliseconds, once};
use super::{Refused, check_publishing, keys, pairs, wants_text};
use crate::broker::{Publishing, Several, Terms};
use crate::config::Config;
use crate::dialect::{Command, Publish};
use crate::hub::{Data, Publication, channel_name};
use crate::wire::head::Head;
use crate::wire::{json, media};
use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

#[cold]
fn bad(detail: impl Into<String>) -> Refused {
    (400, detail.into())
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
pub fn read<'b>(head: &Head<'b>, body: &[u8], config: &Config) -> Result<Command<'b>, Refused> {
    let content_type = head.field("content-type").unwrap_or_default();
    if !media::essence(content_type).eq_ignore_ascii_case(media::NDJSON) {
        let detail =
            format!("a batch is published as {}; a single message to /pub/{{channel}}", media::NDJSON);
        return Err((415, detail));
    }
    keys::check_unconditional(head)?;
    for (name, _) in pairs(head)? {
        match &*name {
            "event" | "key" | "ttl" => {
                return Err(bad(format!("{name}= is for one message; in a batch it stands in each line")));
            }
            _ => check_publishing(&name)?,
        }
    }
    let text = std::str::from_utf8(body).map_err(|_| bad("the batch is not UTF-8"))?;
    let max = config.limits.batch_messages;
    let (mut messages, mut patches) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !is_blank(line.as_bytes())) {
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

/// Whether there is nothing on a line but what JSON takes for blanks.
fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

/// The number of the line that message number `place` of a batch stands in, counted from 1.
pub fn line_of(body: &[u8], place: usize) -> usize {
    let lines = body.split(|byte| *byte == b'\n').enumerate();
    let mut messages = lines.filter(|(_, line)| !is_blank(line));
    messages.nth(place).map_or(place, |(line, _)| line) + 1
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
        event: line.event.map_or(Ok(None), |text| properties::event(&text))?,
        key: line.key.map(|text| checked("key", &text, KEY_BYTES_MAX)).transpose()?,
        ttl_ms: line.ttl.map(milliseconds),
        update: None,
    };
    Ok((name.to_owned(), publication, is_patch))
}
