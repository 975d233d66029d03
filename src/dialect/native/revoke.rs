//! `POST /revoke`: taking back what tokens grant.

use super::{Refused, encoded, not_allowed, options, refusal, wants_text};
use crate::broker::access::{Revocation, Whose};
use crate::dialect::{Caller, Command, Denial, Operation, access};
use crate::hub::Pattern;
use crate::wire::head::{Head, Method};
use crate::wire::{json, media};
use serde::Deserialize;
use std::borrow::Cow;

const METHODS: &str = "POST, OPTIONS";
/// Most bytes of a subject or of a token's number.
const TEXT_BYTES_MAX: usize = 255;
const CHANNELS_MAX: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    subject: Option<Cow<'a, str>>,
    #[serde(borrow)]
    token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    channels: Option<Vec<Cow<'a, str>>>,
    before: Option<u64>,
}

/// What refuses the sender, unless it may revoke: who may publish everything may. What a token grants is never that.
pub fn refused(head: &Head, caller: Caller) -> Option<Command<'static>> {
    match head.method {
        Method::Options => None,
        Method::Post => {
            let denied = access::may_publish(head, caller.peer, caller.config).err()?;
            Some(Command::Respond(match &caller.identity.grant {
                // Their token is good, but never for this.
                Some(_) => Denial::Forbidden("revoking".into()).response(wants_text(head)),
                None => refusal(head, denied),
            }))
        }
        _ => Some(not_allowed(METHODS, head)),
    }
}

/// Reads a revocation. `unix` is the second in which it comes.
pub fn read(head: &Head, body: &[u8], caller: Caller, unix: u64) -> Result<Command<'static>, Refused> {
    if let Some(refused) = refused(head, caller) {
        return Ok(refused);
    }
    if head.method == Method::Options {
        return options(METHODS, head);
    }
    if media::is_encoded(head) {
        return Ok(Command::Respond(encoded(head)));
    }
    let bad = |detail: &str| (400, detail.to_owned());
    if !json::begins_object(body) {
        return Err(bad("the body is a JSON object"));
    }
    // The parser's own message would repeat what may be a token.
    let body: Body = serde_json::from_slice(body).map_err(|error| {
        bad(&format!(
            "the body is JSON: {{\"subject\":\"…\"}} or {{\"token\":\"…\"}}, and perhaps \"channels\" and \"before\"; \
             something is wrong at line {}, column {}",
            error.line(),
            error.column()
        ))
    })?;
    let is_sound = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
    let whose = match (&body.subject, &body.token) {
        (Some(subject), None) if is_sound(subject) && subject.len() <= TEXT_BYTES_MAX => {
            Whose::Subject((&**subject).into())
        }
        (None, Some(token)) if is_sound(token) => {
            let number =
                caller.access.tokens.number_of(token).filter(|number| number.len() <= TEXT_BYTES_MAX);
            Whose::Token(number.ok_or_else(|| bad("this is no token of ours, nor the number (jti) of one"))?)
        }
        _ => return Err(bad("name a subject, or a token by its number (jti) or as a whole: one of the two")),
    };
    let channels = body.channels.unwrap_or_default();
    if channels.len() > CHANNELS_MAX {
        return Err(bad("a revocation has at most 64 channels and patterns"));
    }
    let channels: Result<Vec<Box<str>>, Refused> = channels.iter().map(|text| item(text)).collect();
    let settings = &caller.config.tokens;
    let before = body.before.unwrap_or(unix);
    let lapses =
        before.max(unix).saturating_add(settings.max_seconds).saturating_add(settings.leeway_seconds + 1);
    Ok(Command::Operate(Operation::Revoke(Revocation { whose, before, channels: channels?, lapses })))
}

/// A channel or a pattern, checked.
fn item(text: &str) -> Result<Box<str>, Refused> {
    match Pattern::parse(text.as_bytes()) {
        Ok(_) => Ok(text.into()),
        Err(error) => Err((400, error.to_string())),
    }
}
