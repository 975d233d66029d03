//! What requests that listen say in their target or in their header fields, value by value.

use super::Refused;
use crate::config::Config;
use crate::hub::{NameError, Pattern, Start};
use crate::id::{MessageId, Place};
use crate::wire::{query, tags};
use std::borrow::Cow;

/// What cannot be understood.
pub fn bad(detail: impl Into<String>) -> Refused {
    (400, detail.into())
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

/// What stands for an id that is not even text.
pub const NO_ID: &str = "?";

/// Where a client has come to, as it was told earlier, by us or by another server: browsers and libraries send that
/// by themselves, so an id of another kind is one of another history; none is nothing.
pub fn read_position(value: &str) -> Option<Start> {
    let is_empty = matches!(value.trim(), "" | "\"\"" | "W/\"\"");
    (!is_empty).then(|| read_start(value.trim()).unwrap_or(Start::After(MessageId::FOREIGN)))
}

/// `oldest`, `now`, `-N`, or an id, which may stand in quotes as an entity tag does.
pub fn read_start(value: &str) -> Result<Start, Refused> {
    let value = tags::plain(value);
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
    let place = Place::parse(value).ok_or_else(|| no_id(value))?;
    Ok(if place.ahead > 0 || place.began.is_some() { Start::At(place) } else { Start::After(place.id) })
}

fn no_id(value: &str) -> Refused {
    let shown: String = value.chars().take(60).collect();
    bad(format!("after={shown:?} is no message id; use an id, oldest, now or -N"))
}

/// A number of at most `max`, from 1.
pub fn number(value: &str, max: usize, name: &str) -> Result<usize, Refused> {
    let number = query::number(value).filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| bad(format!("{name} is a number from 1 to {max}")))
}
