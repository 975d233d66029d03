//! `POST /demo/guest`: a token for the demo's chat, for whoever keeps a secret.
//!
//! No cookie or password goes with it, and the secret is the page's own, so a page of another site gets nothing here that it
//! would not have by itself: as for what is said in the chat, everybody may ask.

use super::{Refused, encoded, not_allowed, options};
use crate::broker::access::Guest;
use crate::dialect::{Caller, Command, Operation};
use crate::wire::head::{Head, Method};
use crate::wire::{json, media};
use serde::Deserialize;
use std::borrow::Cow;

/// Where it is.
pub const PATH: &str = "/demo/guest";
const METHODS: &str = "POST, OPTIONS";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    secret: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// Whether the request is for it, which is there where the demo is.
pub fn is_asked(head: &Head, caller: Caller) -> bool {
    caller.config.demo && head.path == PATH
}

/// The answer to what does not depend on the body.
pub fn before_body(head: &Head) -> Result<Option<Command<'static>>, Refused> {
    match head.method {
        Method::Post if media::is_encoded(head) => Ok(Some(Command::Respond(encoded(head)))),
        Method::Post => Ok(None),
        Method::Options => options(METHODS, head).map(Some),
        _ => Ok(Some(not_allowed(METHODS, head))),
    }
}

/// Reads who comes.
pub fn read(head: &Head, body: &[u8]) -> Result<Command<'static>, Refused> {
    if let Some(answer) = before_body(head)? {
        return Ok(answer);
    }
    let bad = |detail: &str| (400, detail.to_owned());
    const FORM: &str = "the body is JSON: {\"secret\":\"…\",\"name\":\"…\"}";
    if !json::begins_object(body) {
        return Err(bad(FORM));
    }
    // The parser's own message would repeat what is secret.
    let body: Body = serde_json::from_slice(body).map_err(|_| bad(FORM))?;
    let guest = Guest::new(&body.secret, &body.name).map_err(bad)?;
    Ok(Command::Operate(Operation::Welcome(guest)))
}
