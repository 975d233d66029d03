//! `GET /sub/{channels}`: requests that listen.

use super::Refused;
use super::asked::Asked;
use crate::config::Config;
use crate::dialect::{Subscribe, cors};
use crate::hub::{NameError, Pattern, Start};
use crate::id::MessageId;
use crate::transport::{Polling, Streaming, Transport};
use crate::wire::head::{Head, Method};
use crate::wire::{media, query};
use std::borrow::Cow;

/// Most seconds a poll may ask to wait.
pub const POLL_SECONDS_MAX: u64 = 300;
/// What a forever frame calls that names nothing else.
const CALLBACK_DEFAULT: &str = "encke";

pub fn bad(detail: impl Into<String>) -> Refused {
    (400, detail.into())
}

/// Reads a subscription: what its target asks for, and what its header fields say.
pub fn read<'b>(head: &Head, asked: &'b Asked, config: &Config) -> Result<Subscribe<'b>, Refused> {
    let transport = asked.transport.unwrap_or_else(|| by_fields(head));
    let is_script = transport == Transport::Poll(Polling::Script);
    let callback = match transport {
        Transport::Poll(Polling::Script) if !cors::admits_script(head, &config.cors) => {
            return Err((403, "pages of this origin may not ask for scripts; see --cors-origins".into()));
        }
        Transport::Poll(Polling::Script) if asked.callback.is_none() => {
            return Err(bad("as=jsonp needs callback=, the name of a function"));
        }
        Transport::Poll(Polling::Script) | Transport::Stream(Streaming::Iframe) => {
            asked.callback.as_deref().or(Some(CALLBACK_DEFAULT))
        }
        Transport::Poll(Polling::Long | Polling::Interval) | Transport::Stream(_) => None,
    };
    Ok(Subscribe {
        asked,
        start: header_start(head)?.or(asked.start).unwrap_or(Start::Now),
        transport,
        batch: is_script || media::accepts(head, media::JSON),
        callback,
    })
}

/// Refuses a technique that is switched off.
pub fn check_served(transport: Transport, config: &Config) -> Result<(), Refused> {
    match config.techniques_off.iter().find(|name| Transport::by_name(name) == Some(transport)) {
        Some(name) => {
            Err((403, format!("{name} is switched off here (techniques_off); use another technique")))
        }
        None => Ok(()),
    }
}

/// The technique that the request's header fields ask for.
fn by_fields(head: &Head) -> Transport {
    Transport::Stream(match () {
        () if media::accepts(head, media::EVENT_STREAM) => Streaming::Sse,
        () if media::accepts(head, media::NDJSON) => Streaming::Lines,
        () if media::accepts(head, "multipart/x-mixed-replace") => Streaming::Replace,
        () if media::accepts(head, "multipart/mixed") => Streaming::Multipart,
        () if head.lists("te", "chunked") => Streaming::Raw,
        () => return Transport::Poll(Polling::Long),
    })
}

/// Whether an EventSource asks, or who wants to be served as one. A script that fetches envelopes can read a refusal.
pub fn asks_for_events(head: &Head) -> bool {
    let is_get = matches!(head.method, Method::Get | Method::Head) && !head.lists("upgrade", "websocket");
    let named = query::pairs(head.query).flatten().filter(|(name, _)| name == "as").last();
    is_get
        && match named.as_ref().map(|(_, technique)| &**technique) {
            Some("sse") => true,
            Some("sse-envelope") | None => media::accepts(head, media::EVENT_STREAM),
            Some(_) => false,
        }
}

/// Distinct channel names, and patterns of such.
pub type Selection<'b> = (Vec<Cow<'b, str>>, Vec<Pattern>);

/// The distinct channels and patterns among `items`.
pub fn select<'b>(
    items: impl Iterator<Item = Cow<'b, [u8]>>,
    config: &Config,
) -> Result<Selection<'b>, Refused> {
    let max = config.limits.channels_per_request;
    let (mut names, mut patterns) = (Vec::new(), Vec::new());
    for item in items {
        match Pattern::parse(&item).map_err(|error| bad(error.to_string()))? {
            Some(pattern) => patterns.push(pattern),
            None => names.push(text(item).ok_or_else(|| bad(NameError::NotUtf8.to_string()))?),
        }
        if names.len() + patterns.len() > max {
            return Err(bad(format!(
                "a request may name at most {max} channels (limits.channels_per_request)"
            )));
        }
    }
    names.sort_unstable();
    names.dedup();
    patterns.sort_unstable();
    patterns.dedup();
    Ok((names, patterns))
}

fn text(bytes: Cow<'_, [u8]>) -> Option<Cow<'_, str>> {
    match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

/// Where the header fields say to begin. They win over the query, as an EventSource that reconnects keeps
/// its URL and adds `Last-Event-ID`.
fn header_start(head: &Head) -> Result<Option<Start>, Refused> {
    for name in ["last-event-id", "if-none-match"] {
        let Some(value) = head.fields(name).next() else { continue };
        let value = std::str::from_utf8(value).map_err(|_| no_id(name))?;
        if !value.is_empty() {
            return read_start(value).map(Some);
        }
    }
    Ok(None)
}

/// `oldest`, `now`, `-N`, or an id, which may stand in quotes as an entity tag does.
pub fn read_start(value: &str) -> Result<Start, Refused> {
    let tag = value.strip_prefix("W/").unwrap_or(value);
    let value = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(tag);
    match value {
        "oldest" => return Ok(Start::Oldest),
        "now" => return Ok(Start::Now),
        _ => {}
    }
    if let Some(count) =
        value.strip_prefix('-').filter(|count| count.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return count.parse().map(Start::Last).map_err(|_| no_id(value));
    }
    MessageId::parse(value).map(Start::After).ok_or_else(|| no_id(value))
}

fn no_id(value: &str) -> Refused {
    let shown: String = value.chars().take(60).collect();
    bad(format!("after={shown:?} is no message id; use an id, oldest, now or -N"))
}

pub fn number(value: &str, max: usize, name: &str) -> Result<usize, Refused> {
    let number = value.parse().ok().filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| bad(format!("{name} is a number from 1 to {max}")))
}
