//! WebSocket in the native API: the handshake, and the commands of an open socket.
//!
//! A command is a JSON object with one of `publish`, `subscribe`, `unsubscribe`, and perhaps a `ref`. The answer
//! carries the same `ref`, and `ok` or `error`; a success without `ref` is not answered. A command that makes no
//! sense is an error and nothing worse: the connection lives.

use super::asked::pace;
use super::batch::{Line, line_publication};
use super::properties::is_key;
use super::{Asked, Refused, read, subscribe};
use crate::config::Config;
use crate::dialect::{Caller, Command, Open, access, upgrade};
use crate::hub::{Pattern, Publication, Wish};
use crate::transport::{Streaming, Transport};
use crate::wire::head::Head;
use crate::wire::json;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The sub-protocol of bare messages.
const RAW: &str = "encke.raw";
const REF_BYTES_MAX: usize = 128;

/// Reads a handshake.
pub fn open<'b>(head: &Head, asked: &'b Asked, caller: Caller) -> Result<Command<'b>, Refused> {
    let mut response = match upgrade::answer(head, caller.config) {
        Ok(response) => response,
        Err(response) => return Ok(Command::Respond(response)),
    };
    let mut subscribe = subscribe::read(head, asked, caller.config)?;
    // In the client's own spelling: browsers fail a connection that answers in another.
    let offered = head.listed("sec-websocket-protocol", RAW).and_then(|name| std::str::from_utf8(name).ok());
    let stream = if offered.is_some() { Streaming::WebSocketRaw } else { Streaming::WebSocket };
    if offered.is_some() && asked.wish.delta {
        return Err((400, subscribe::NO_ENVELOPES.into()));
    }
    subscribe.transport = Transport::Stream(stream);
    if let Some(name) = offered {
        response = response.with("Sec-WebSocket-Protocol", name);
    }
    let by_itself = || access::may_publish(head, caller.peer, caller.config).is_ok();
    let may_publish = caller.admin && (caller.identity.publisher || by_itself());
    Ok(Command::Open(Open { subscribe, stream, response, may_publish }))
}

/// What a command asks for.
#[derive(Debug)]
pub enum Order<'a> {
    /// To publish a message on a channel, once, if it has a key.
    Publish {
        /// Where.
        channel: String,
        /// What.
        publication: Box<Publication>,
        /// How a repeat is recognised.
        key: Option<Cow<'a, str>>,
        /// Its data is a patch of the latest value.
        is_patch: bool,
    },
    /// To listen to these, too, and from now on so to all channels.
    Subscribe(Vec<Cow<'a, str>>, Vec<Pattern>, Wish),
    /// To listen to these no longer.
    Unsubscribe(Vec<Cow<'a, str>>, Vec<Pattern>),
    /// To be judged by this token from now on.
    Token(Cow<'a, str>),
}

/// A command that was understood or not, and what its answer must carry.
#[derive(Debug)]
pub struct Request<'a> {
    /// The client's name for it.
    pub reference: Option<&'a RawValue>,
    /// What it asks for, or what is wrong with it.
    pub order: Result<Order<'a>, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object<'a> {
    #[serde(borrow, default, deserialize_with = "json::optional_object")]
    publish: Option<Line<'a>>,
    #[serde(borrow)]
    subscribe: Option<Vec<Cow<'a, str>>>,
    #[serde(default)]
    latest: bool,
    rate: Option<serde_json::Number>,
    #[serde(default)]
    delta: bool,
    #[serde(borrow)]
    unsubscribe: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow)]
    token: Option<Cow<'a, str>>,
    #[serde(rename = "ref")]
    _reference: Option<&'a RawValue>,
}

/// What can be read even of a command that is otherwise wrong.
#[derive(Deserialize)]
struct Reference<'a> {
    #[serde(borrow, rename = "ref")]
    reference: Option<&'a RawValue>,
}

/// Reads a command.
pub fn read<'a>(text: &'a str, config: &Config) -> Request<'a> {
    let reference = json::object(text).ok().and_then(|object: Reference| object.reference);
    match reference.map_or(Ok(()), |reference| check_reference(reference.get())) {
        Ok(()) => Request { reference, order: order(text, config) },
        Err(wrong) => Request { reference: None, order: Err(wrong) },
    }
}

/// Says what is wrong with a `ref`, which is echoed as it came.
fn check_reference(reference: &str) -> Result<(), String> {
    match reference.len() <= REF_BYTES_MAX {
        true => json::check_valid(reference).map_err(|error| format!("ref: {error}")),
        false => Err(format!("ref has at most {REF_BYTES_MAX} bytes")),
    }
}

fn order<'a>(text: &'a str, config: &Config) -> Result<Order<'a>, String> {
    let object: Object = json::object(text)?;
    let select = |items: Vec<Cow<'a, str>>| {
        let bytes = items.into_iter().map(|item| match item {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        });
        read::select(bytes, config).map_err(|(_, detail)| detail)
    };
    match (object.publish, object.subscribe, object.unsubscribe, object.token) {
        (None, None, None, Some(token)) => Ok(Order::Token(token)),
        (Some(mut line), None, None, None) => {
            let key = line.idempotency_key.take();
            if key.as_deref().is_some_and(|key| !is_key(key)) {
                return Err("idempotency_key has 1 to 255 bytes".into());
            }
            let (channel, publication, is_patch) = line_publication(line).map_err(|(_, detail)| detail)?;
            Ok(Order::Publish { channel, publication: Box::new(publication), key, is_patch })
        }
        (None, Some(items), None, None) => {
            let pace =
                object.rate.map(|rate| pace(&rate.to_string())).transpose().map_err(|(_, detail)| detail)?;
            let wish = Wish { latest: object.latest, pace: pace.unwrap_or_default(), delta: object.delta };
            select(items).map(|(names, patterns)| Order::Subscribe(names, patterns, wish))
        }
        _ if object.latest || object.delta || object.rate.is_some() => {
            Err("latest, rate and delta go with subscribe".into())
        }
        (None, None, Some(items), None) => {
            select(items).map(|(names, patterns)| Order::Unsubscribe(names, patterns))
        }
        _ => Err("a command is one of publish, subscribe, unsubscribe and token".into()),
    }
}

/// The answer to a command, of which `outcome` is JSON or what went wrong; none to one that succeeded and has no `ref`,
/// unless what it says is `told` all the same.
pub fn answer(reference: Option<&RawValue>, outcome: Result<String, String>, told: bool) -> Option<String> {
    let lead = reference.map(|reference| format!("\"ref\":{reference},")).unwrap_or_default();
    match outcome {
        Ok(_) if reference.is_none() && !told => None,
        Ok(value) => Some(format!("{{{lead}\"ok\":{value}}}")),
        Err(detail) => Some(format!("{{{lead}\"error\":{}}}", Value::from(detail))),
    }
}
