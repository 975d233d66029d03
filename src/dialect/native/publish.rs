//! `POST /pub/{channel}`: requests that publish a message.

use super::properties::{self, KEY_BYTES_MAX, checked, milliseconds, once, text_field, whose};
use super::{Refused, channel, check_publishing, keys, pairs, wants_text};
use crate::broker::{Publishing, Several};
use crate::dialect::{Caller, Command, Publish};
use crate::hub::{Data, Publication};
use crate::wire::head::Head;
use crate::wire::{json, media, query};
use std::borrow::Cow;

/// The fields of what a message may have beside its payload: its event, its key, its TTL.
const PROPERTIES: [&str; 3] = ["encke-event", "encke-key", "encke-ttl"];
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
    caller: Caller,
) -> Result<Command<'b>, Refused> {
    let (first, others) = query::split_once(channels, b',').map_or((channels, None), |(a, b)| (a, Some(b)));
    let mut messages = Several::one((channel(first)?, publication(head, body)?));
    if let Some(others) = others {
        add_channels(&mut messages, others, caller.config.limits.channels_per_request)?;
    }
    let list = messages.len() > 1;
    let terms = keys::terms(head, &messages.first.1)?;
    let what = Publishing { messages, once: once(head)?, whose: whose(head, caller), terms };
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
            _ => check_publishing(&name)?,
        }
    }
    for (place, name) in [&mut event, &mut key, &mut ttl].into_iter().zip(PROPERTIES) {
        if let Some(value) = text_field(head, name)? {
            *place = Some(Cow::Borrowed(value));
        }
    }
    let ttl: Option<u64> =
        ttl.map(|ttl| query::number(&ttl).ok_or_else(|| bad("ttl is a number of seconds"))).transpose()?;
    Ok(Publication {
        event: event.map_or(Ok(None), |text| properties::event(&text))?,
        key: key.map(|text| checked("key", &text, KEY_BYTES_MAX)).transpose()?,
        ttl_ms: ttl.map(milliseconds),
        ..publication
    })
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
