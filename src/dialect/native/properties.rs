//! What a message has beside its payload, and how a repeat of its publication is recognised: read, and bounded.

use super::Refused;
use crate::broker::Once;
use crate::dialect::{Caller, access};
use crate::wire::head::{Head, Method};

/// What may stand in the query of a request that publishes.
pub const PARAMETERS: [&str; 4] = ["event", "key", "ttl", "access_token"];
const EVENT_BYTES_MAX: usize = 64;
/// What the names of the server's own events begin with.
const RESERVED_EVENTS: &str = "encke.";
/// Events that an EventSource takes for its own, so that no page would get them as messages.
const RESERVED_WORDS: [&str; 2] = ["open", "error"];
pub const KEY_BYTES_MAX: usize = 255;
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

#[cold]
fn bad(detail: impl Into<String>) -> Refused {
    (400, detail.into())
}

/// A field that must not be dropped because it cannot be read.
pub fn text_field<'b>(head: &Head<'b>, name: &str) -> Result<Option<&'b str>, Refused> {
    let value = head.bytes(name).map(std::str::from_utf8);
    value.transpose().map_err(|_| bad(format!("{name} is not UTF-8")))
}

/// A time to live is given in seconds.
pub const fn milliseconds(seconds: u64) -> u64 {
    seconds.saturating_mul(1000)
}

/// An event's name; an empty one is none.
pub fn event(text: &str) -> Result<Option<Box<str>>, Refused> {
    (!text.is_empty()).then(|| checked("event", text, EVENT_BYTES_MAX)).transpose()
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

/// Whose a publication is, and so its idempotency key: one that somebody else guesses must not make the application's
/// message a repeat. Those who may publish without rules share theirs, as they always did.
pub fn whose(head: &Head, caller: Caller) -> Option<Box<str>> {
    if caller.access.is_on() { whose_by_rules(head, caller) } else { None }
}

#[cold]
fn whose_by_rules(head: &Head, caller: Caller) -> Option<Box<str>> {
    // The loopback rule does not count for what a token grants, or the application.
    let is_somebody = caller.identity.grant.is_some() || !caller.identity.said.is_empty();
    let by_itself = || !is_somebody && access::may_publish(head, caller.peer, caller.config).is_ok();
    let is_application = caller.admin && (caller.identity.publisher || by_itself());
    (!is_application).then(|| caller.identity.subject().unwrap_or_default().into())
}

/// The methods that publish.
const fn method_name(method: Method) -> &'static str {
    match method {
        Method::Put => "PUT",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
        Method::Get | Method::Head | Method::Post | Method::Options | Method::Query => "POST",
    }
}

/// Whether `key` may be an idempotency key.
pub const fn is_key(key: &str) -> bool {
    !key.is_empty() && key.len() <= IDEMPOTENCY_KEY_BYTES_MAX
}
