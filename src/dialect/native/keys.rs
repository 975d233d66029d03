//! Keys of a channel over HTTP: the latest value of one, its patches and its removal, and their conditions.

use super::properties::{self, KEY_BYTES_MAX, checked, milliseconds, once, text_field, whose};
use super::{Refused, check_publishing, one_channel, pairs, wants_text};
use crate::broker::{IfMatch, Publishing, Several, Terms};
use crate::dialect::{Caller, Command, Operation, Publish};
use crate::hub::{Data, Publication};
use crate::id::MessageId;
use crate::wire::head::Head;
use crate::wire::response::Response;
use crate::wire::{json, media, query, tags};
use std::borrow::Cow;

/// The media type of patches.
const MERGE_PATCH: &str = "application/merge-patch+json";

fn bad(detail: impl Into<String>) -> Refused {
    (400, detail.into())
}

/// The key that a request names: its field `Encke-Key` wins over `key=`.
pub fn named<'b>(head: &Head<'b>) -> Result<Option<Box<str>>, Refused> {
    let field = text_field(head, "encke-key")?.map(Cow::Borrowed);
    let mut in_query = None;
    for (name, value) in pairs(head)? {
        match &*name {
            "key" => in_query = Some(value),
            _ => check_publishing(&name)?,
        }
    }
    field.or(in_query).map(|key| checked("key", &key, KEY_BYTES_MAX)).transpose()
}

/// `PATCH /pub/{channel}?key=…`.
pub fn patch<'b>(
    head: &Head<'b>,
    body: &[u8],
    channels: &'b str,
    caller: Caller,
) -> Result<Command<'b>, Refused> {
    let content_type = head.field("content-type").unwrap_or_default();
    if !media::essence(content_type).eq_ignore_ascii_case(MERGE_PATCH) {
        let detail = format!("a value is patched by {MERGE_PATCH} (RFC 7396)");
        let response = Response::problem(415, &detail, wants_text(head)).with("Accept-Patch", MERGE_PATCH);
        return Ok(Command::Respond(response));
    }
    let name = one_channel(channels)?;
    let key = named(head)?.ok_or_else(|| bad("name the key whose value is patched: key= or Encke-Key"))?;
    let text = std::str::from_utf8(body).map_err(|_| bad("the patch is not UTF-8"))?;
    check_patch(text).map_err(bad)?;
    let [mut event, mut ttl] = [None, None];
    for (name, value) in pairs(head)? {
        match &*name {
            "event" => event = Some(value),
            "ttl" => ttl = Some(value),
            _ => {}
        }
    }
    event = text_field(head, "encke-event")?.map(Cow::Borrowed).or(event);
    ttl = text_field(head, "encke-ttl")?.map(Cow::Borrowed).or(ttl);
    let ttl: Option<u64> =
        ttl.map(|ttl| query::number(&ttl).ok_or_else(|| bad("ttl is a number of seconds"))).transpose()?;
    let publication = Publication {
        event: event.map_or(Ok(None), |text| properties::event(&text))?,
        key: Some(key),
        ttl_ms: ttl.map(milliseconds),
        ..Publication::of(Data::Json(text.into()))
    };
    let terms = Terms { patches: vec![0], if_match: condition(head)? };
    publish(head, name, publication, (terms, false), caller)
}

/// Whether a text is a merge patch: a JSON object.
pub fn check_patch(text: &str) -> Result<(), String> {
    json::check(text).map_err(|error| format!("the patch is not JSON: {error}"))?;
    match crate::merge::is_object(text) {
        true => Ok(()),
        false => {
            Err("a merge patch that is no object would replace the whole value; publish it instead".into())
        }
    }
}

/// `DELETE /pub/{channel}?key=…`; none if it names no key, and so is for the channel.
pub fn delete<'b>(
    head: &Head<'b>,
    channels: &'b str,
    caller: Caller,
) -> Result<Option<Command<'b>>, Refused> {
    let Some(key) = named(head)? else { return check_unconditional(head).map(|()| None) };
    let terms = Terms { patches: Vec::new(), if_match: condition(head)? };
    publish(head, one_channel(channels)?, Publication::removal(&key), (terms, true), caller).map(Some)
}

/// `GET /pub/{channel}?key=…`; none if it names no key.
pub fn get(head: &Head, channels: &str) -> Result<Option<Command<'static>>, Refused> {
    let Some(key) = named(head)? else { return Ok(None) };
    let has = ids(head, "if-none-match")?;
    Ok(Some(Command::Operate(Operation::Value { channel: one_channel(channels)?, key, has })))
}

fn publish<'b>(
    head: &Head<'b>,
    name: String,
    publication: Publication,
    (terms, is_removal): (Terms, bool),
    caller: Caller,
) -> Result<Command<'b>, Refused> {
    let messages = Several::one((name.into(), publication));
    let (whose, terms) = (whose(head, caller), Some(Box::new(terms)));
    let what = Publishing { messages, once: once(head)?, whose, terms };
    Ok(Command::Publish(Publish { what, list: false, as_text: wants_text(head), is_removal }))
}

/// The condition that the request makes for the latest value of its key.
fn condition(head: &Head) -> Result<Option<IfMatch>, Refused> {
    match (ids(head, "if-match")?, ids(head, "if-none-match")?) {
        (Some(_), Some(_)) => Err(bad("If-Match or If-None-Match: one condition is enough")),
        (condition, None) => Ok(condition),
        (None, Some(condition)) => Ok(Some(IfMatch::Not(Box::new(condition)))),
    }
}

/// Refuses a condition where there is no value that it could be for: it would be dropped in silence.
pub fn check_unconditional(head: &Head) -> Result<(), Refused> {
    if !head.may_have("if-match") && !head.may_have("if-none-match") {
        return Ok(());
    }
    match condition(head)? {
        None => Ok(()),
        Some(_) => {
            Err(bad("If-Match and If-None-Match are for the value of a key: name it by key= or Encke-Key"))
        }
    }
}

/// The ids that a condition names; those that are none of ours are nobody's.
fn ids(head: &Head, field: &str) -> Result<Option<IfMatch>, Refused> {
    let mut found = None;
    for value in head.fields(field) {
        let value = std::str::from_utf8(value).map_err(|_| bad(format!("{field} is not UTF-8")))?;
        for item in query::split(value, b',').map(str::trim).filter(|item| !item.is_empty()) {
            if item == "*" {
                return Ok(Some(IfMatch::Any));
            }
            let all: &mut Vec<MessageId> = found.get_or_insert_default();
            all.extend(MessageId::parse(tags::plain(item)));
        }
    }
    Ok(found.map(IfMatch::Ids))
}

/// Terms of a publication with a key, if it has any.
pub fn terms(head: &Head, publication: &Publication) -> Result<Option<Box<Terms>>, Refused> {
    match publication.key.is_some() {
        false => check_unconditional(head).map(|()| None),
        true => Ok(condition(head)?
            .map(|if_match| Box::new(Terms { patches: Vec::new(), if_match: Some(if_match) }))),
    }
}

/// The answer to who asks for the latest value of a key.
pub fn value(message: Option<&crate::hub::Message>, has: Option<&IfMatch>, as_text: bool) -> Response {
    let Some(message) = message else {
        return Response::problem(404, "the key has no value on this channel", as_text);
    };
    let id = message.id;
    let is_known = has.is_some_and(|has| has.holds(Some(id)));
    let publication = &message.publication;
    let mut response = match is_known {
        true => Response::empty(304),
        false => Response::new(200, media::TEXT, publication.data.bytes().to_vec()),
    };
    if let Some(content_type) = publication.content_type.as_deref().filter(|_| !is_known) {
        response.content_type = content_type.to_owned().into();
    }
    if let Some(event) = &publication.event {
        response = response.with("Encke-Event", event);
    }
    // It is what its publisher made of it, and opened as a page it may do nothing.
    response
        .with("ETag", format_args!("\"{id}\""))
        .with("Cache-Control", "no-store")
        .with("Content-Security-Policy", "sandbox")
}
