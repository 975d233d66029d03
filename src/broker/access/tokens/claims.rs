//! The claims of a token, read strictly: what is missing, of another type or out of its bounds makes the token bad.

use super::Bad;
use super::json::Json;
use crate::broker::access::Grant;
use crate::config::Tokens as Settings;
use crate::hub::{NAME_BYTES_MAX, Pattern};
use std::collections::BTreeMap;

/// Most bytes of a subject, of a token's number.
const TEXT_BYTES_MAX: usize = 255;
/// Most patterns in both lists together.
const PATTERNS_MAX: usize = 64;
/// Most bytes of `info`, as JSON without blanks.
const INFO_BYTES_MAX: usize = 1024;
/// A moment later than all others, in seconds.
const FOR_EVER: u64 = 1 << 53;

type Claims = BTreeMap<String, Json>;

/// What the claims grant, if they are good in the second `unix`.
pub fn read(payload: &[u8], settings: &Settings, unix: u64) -> Result<Grant, Bad> {
    let claims = Json::object(payload).ok_or(Bad("the token's claims are not a JSON object"))?;
    issuer(&claims, settings)?;
    audience(&claims, settings)?;
    let grant = Grant {
        subject: text(&claims, "sub").map_err(|()| Bad("the token's sub is not text of 1 to 255 bytes"))?,
        id: text(&claims, "jti").map_err(|()| Bad("the token's jti is not text of 1 to 255 bytes"))?,
        ..times(&claims, settings, unix)?
    };
    match claims.get(settings.claim.as_str()) {
        None => Ok(grant),
        Some(Json::Object(members)) => with_rights(grant, members, payload, &settings.claim),
        Some(_) => Err(Bad("the token's grants are not an object")),
    }
}

/// The number of a token, whatever else it says.
pub fn number(payload: &[u8]) -> Option<Box<str>> {
    text(&Json::object(payload)?, "jti").ok()?
}

fn issuer(claims: &Claims, settings: &Settings) -> Result<(), Bad> {
    let issuer = claims.get("iss").map(|value| value.as_text().ok_or(Bad("the token's iss is not text")));
    let issuer = issuer.transpose()?;
    match settings.issuer.as_deref().is_none_or(|wanted| issuer == Some(wanted)) {
        true => Ok(()),
        false => Err(Bad("the token is of another issuer")),
    }
}

fn audience(claims: &Claims, settings: &Settings) -> Result<(), Bad> {
    let named = match claims.get("aud") {
        None => Vec::new(),
        Some(Json::Text(one)) => vec![one.as_str()],
        Some(Json::Array(all)) => {
            let texts: Option<Vec<&str>> = all.iter().map(Json::as_text).collect();
            texts.ok_or(Bad("the token's aud is not text"))?
        }
        Some(_) => return Err(Bad("the token's aud is not text")),
    };
    match settings.audience.as_deref().is_none_or(|wanted| named.contains(&wanted)) {
        true => Ok(()),
        false => Err(Bad("the token is for another audience")),
    }
}

/// Seconds that the issuer's clock may be ahead, whatever leeway there is: a turn of the server has one time, that of its
/// beginning, and a token that was made since then is not of the future.
pub(super) const CLOCK_SECONDS: u64 = 1;

/// When the token was issued, begins and ends.
fn times(claims: &Claims, settings: &Settings, unix: u64) -> Result<Grant, Bad> {
    let leeway = settings.leeway_seconds;
    let ahead = leeway.max(CLOCK_SECONDS);
    let issued = second(claims, "iat").map_err(|()| Bad("the token's iat is not a number"))?;
    let begins = second(claims, "nbf").map_err(|()| Bad("the token's nbf is not a number"))?;
    let expires = second(claims, "exp").map_err(|()| Bad("the token's exp is not a number"))?;
    if issued.is_some_and(|issued| issued > unix + ahead) {
        return Err(Bad("the token was issued in the future"));
    }
    let expires = match (expires, issued) {
        (Some(expires), _) => expires,
        (None, _) if settings.require_expiry => return Err(Bad("the token has no exp")),
        (None, Some(issued)) => issued.saturating_add(settings.max_seconds),
        (None, None) => return Err(Bad("the token has neither exp nor iat")),
    };
    let from = issued.unwrap_or(unix);
    if expires.saturating_sub(from) > settings.max_seconds {
        return Err(Bad("the token is valid for longer than is allowed here"));
    }
    Ok(Grant {
        issued,
        begins: begins.unwrap_or(0).saturating_sub(ahead),
        ends: expires.saturating_add(leeway),
        ..Grant::default()
    })
}

/// A moment as a number of seconds; fractions are cut off.
fn second(claims: &Claims, name: &str) -> Result<Option<u64>, ()> {
    match claims.get(name) {
        None => Ok(None),
        Some(Json::Number(number)) => Ok(Some((number.max(0.0) as u64).min(FOR_EVER))),
        Some(_) => Err(()),
    }
}

fn text(claims: &Claims, name: &str) -> Result<Option<Box<str>>, ()> {
    let is_sound =
        |text: &&str| (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    claims.get(name).map(|value| value.as_text().filter(is_sound).map(Box::from).ok_or(())).transpose()
}

fn with_rights(grant: Grant, members: &Claims, payload: &[u8], claim: &str) -> Result<Grant, Bad> {
    let subscribe = patterns(members.get("subscribe"))?;
    let publish = patterns(members.get("publish"))?;
    if subscribe.len() + publish.len() > PATTERNS_MAX {
        return Err(Bad("the token grants more than 64 patterns"));
    }
    let info = members.get("info").map(|_| info(payload, claim)).transpose()?;
    Ok(Grant { subscribe, publish, info, ..grant })
}

fn patterns(list: Option<&Json>) -> Result<Vec<Box<str>>, Bad> {
    const BAD: Bad = Bad("the token's grants are not lists of channels and patterns");
    let items = match list {
        None => return Ok(Vec::new()),
        Some(Json::Array(items)) => items,
        Some(_) => return Err(BAD),
    };
    let read = |item: &Json| {
        let text = item.as_text().filter(|text| text.len() <= NAME_BYTES_MAX).ok_or(BAD)?;
        Pattern::parse(text.as_bytes()).map_err(|_| BAD)?;
        Ok(text.into())
    };
    items.iter().map(read).collect()
}

/// What others are told about the subject, without blanks. Read anew, as a value that keeps what it is made of.
fn info(payload: &[u8], claim: &str) -> Result<Box<str>, Bad> {
    let claims: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
    let info = claims[claim]["info"].to_string();
    match info.len() <= INFO_BYTES_MAX {
        true => Ok(info.into()),
        false => Err(Bad("the token's info is longer than 1 KiB")),
    }
}
