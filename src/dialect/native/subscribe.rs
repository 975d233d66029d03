//! `GET /sub/{channels}`: requests that listen.

use super::Refused;
use super::asked::Asked;
use super::read::{NO_ID, bad, read_position};
use crate::config::Config;
use crate::dialect::{Subscribe, cors, upgrade};
use crate::hub::Start;
use crate::id::MessageId;
use crate::transport::{Polling, Streaming, Transport};
use crate::wire::head::{Head, Method};
use crate::wire::{media, query};

/// What a forever frame calls that names nothing else.
const CALLBACK_DEFAULT: &str = "encke";

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
        Transport::Stream(Streaming::Iframe) if head.field("sec-fetch-dest") == Some("document") => {
            return Err((
                403,
                "a forever frame belongs in a frame of a page, not in a window of its own".into(),
            ));
        }
        Transport::Stream(Streaming::Iframe) if !is_for_frames(asked.callback.as_deref(), config) => {
            return Err(bad("callback= of a forever frame is one word without dots (see iframe.callbacks)"));
        }
        Transport::Poll(Polling::Script) | Transport::Stream(Streaming::Iframe) => {
            asked.callback.as_deref().or(Some(CALLBACK_DEFAULT))
        }
        Transport::Poll(Polling::Long | Polling::Interval) | Transport::Stream(_) => None,
    };
    let batch = is_script || wants_batch(head);
    if asked.wish.delta && !has_envelopes(transport, batch) && !upgrade::is_asked(head) {
        return Err(bad(NO_ENVELOPES));
    }
    Ok(Subscribe {
        asked,
        start: header_start(head).or(asked.start).unwrap_or(Start::Snapshot),
        transport,
        batch,
        callback,
    })
}

/// Why a technique has no patches.
pub const NO_ENVELOPES: &str = "delta needs a technique with envelopes: stream, sse-envelope, iframe, jsonp, WebSocket, or polls \
     that accept application/json";

/// Whether messages come in envelopes, in which a patch can be told.
const fn has_envelopes(transport: Transport, batch: bool) -> bool {
    match transport {
        Transport::Poll(_) => batch,
        Transport::Stream(stream) => match stream {
            Streaming::SseEnvelope | Streaming::Lines | Streaming::Iframe | Streaming::WebSocket => true,
            Streaming::Sse
            | Streaming::Raw
            | Streaming::Multipart
            | Streaming::Replace
            | Streaming::WebSocketRaw
            | Streaming::Mercure => false,
        },
    }
}

/// Whether a forever frame may call this function. By a name with dots, whoever gets somebody to open a frame of this
/// origin could have any button pressed of any page of it, as `opener.form.submit` does.
fn is_for_frames(callback: Option<&str>, config: &Config) -> bool {
    callback
        .is_none_or(|name| !name.contains('.') || config.iframe.callbacks.iter().any(|known| known == name))
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

/// The technique that the request's header fields ask for: of the types that techniques have, the one that the client
/// would like best; of several, the first here.
fn by_fields(head: &Head) -> Transport {
    let poll = Transport::Poll(Polling::Long);
    if !head.may_have("accept") && !head.may_have("te") {
        return poll;
    }
    let typed = [
        (media::EVENT_STREAM, Streaming::Sse),
        (media::NDJSON, Streaming::Lines),
        ("multipart/x-mixed-replace", Streaming::Replace),
        ("multipart/mixed", Streaming::Multipart),
    ];
    let mut best = (0, if head.lists("te", "chunked") { Transport::Stream(Streaming::Raw) } else { poll });
    for (media_type, stream) in typed {
        best = match media::weight(head, media_type) {
            weight if weight > best.0 => (weight, Transport::Stream(stream)),
            _ => best,
        };
    }
    if media::weight(head, media::JSON) > best.0 && best.0 > 0 { poll } else { best.1 }
}

/// What the technique is called by which `head` asks for messages.
pub fn technique(head: &Head) -> &'static str {
    let named = query::pairs(head.query).flatten().filter(|(name, _)| name == "as").last();
    let named = named.and_then(|(_, technique)| Transport::by_name(&technique));
    named.unwrap_or_else(|| by_fields(head)).name()
}

/// Whether a poll is answered by a batch in JSON rather than by one message as it is.
fn wants_batch(head: &Head) -> bool {
    let json = media::weight(head, media::JSON);
    json > 0 && json >= media::weight(head, "text/plain")
}

/// Whether an EventSource asks, or who wants to be served as one. A script that fetches envelopes can read a refusal.
pub fn asks_for_events(head: &Head) -> bool {
    let is_get = matches!(head.method, Method::Get | Method::Head) && !head.lists("upgrade", "websocket");
    let named = query::pairs(head.query).flatten().filter(|(name, _)| name == "as").last();
    is_get
        && match named.as_ref().map(|(_, technique)| &**technique) {
            Some("sse") => true,
            Some("sse-envelope") => media::accepts(head, media::EVENT_STREAM),
            Some(_) => false,
            None => by_fields(head) == Transport::Stream(Streaming::Sse),
        }
}

/// Where the header fields say to begin. They win over the query, as an EventSource that reconnects keeps
/// its URL and adds `Last-Event-ID`.
fn header_start(head: &Head) -> Option<Start> {
    let of = |name| head.bytes(name).filter(|value| !value.is_empty());
    let text = |value| std::str::from_utf8(value).unwrap_or(NO_ID);
    let reached = of("last-event-id").and_then(|value| read_position(text(value)));
    reached.or_else(|| of("if-none-match").and_then(|_| tagged(head)))
}

/// Where the client is that asks for what has no tag of those in `If-None-Match` (RFC 9110, section 13.1.2): it has had
/// the newest of them. `*` names none.
fn tagged(head: &Head) -> Option<Start> {
    let values = head.fields("if-none-match").map(|value| std::str::from_utf8(value).unwrap_or(NO_ID));
    let items = values.flat_map(|value| query::split(value, b',')).map(str::trim);
    let positions = items.filter(|item| !matches!(*item, "" | "*")).filter_map(read_position);
    positions.max_by_key(|start| match start {
        Start::After(id) if *id != MessageId::FOREIGN => Some(id.seq),
        Start::At(place) => Some(place.id.seq),
        _ => None,
    })
}
