//! Publishing: `POST` to the hub.

use super::form::{self, Form};
use super::identity;
use super::{Asked, ID_BYTES_MAX, Judge, Refused, TOPIC_BYTES_MAX, WELL_KNOWN, bad, has_controls};
use crate::broker::access::Draft;
use crate::config::{Config, Who};
use crate::dialect::Denial;
use crate::hub::{Data, Publication, Update};
use crate::wire::head::Head;
use std::borrow::Cow;

/// The channels of FDAjax, which are its own.
const FDAJAX: &str = "fdajax/";

/// What a request publishes.
pub fn read(head: &Head, body: &[u8], judge: &mut Judge<'_>) -> Result<Asked, Refused> {
    let draft = identity::draft(head, judge.config);
    let grant = identity::publisher(head, draft, judge)?;
    let form = form::read(head, body)?;
    if let Some(topic) = form.topics.iter().find(|topic| !grant.may_publish(topic)) {
        return Err(Denial::Forbidden(format!("publishing on {topic:?}")).into());
    }
    for topic in &form.topics {
        judge_topic(topic, draft, judge)?;
    }
    check(&form, draft)?;
    let publication = publication(form);
    let channel = match &publication.update {
        Some(update) => update.channel(),
        None => return Err(bad("Missing \"topic\" parameter")),
    };
    let publication = Box::new(plain(publication, judge.config));
    Ok(Asked::Publish { channel, publication })
}

/// Whether there may be such a topic, and clients may publish on it.
fn judge_topic(topic: &str, draft: Draft, judge: &Judge<'_>) -> Result<(), Refused> {
    let is_taken = draft == Draft::V1 && topic == "*";
    if topic.is_empty() || is_taken || topic.len() > TOPIC_BYTES_MAX || has_controls(topic, draft) {
        return Err(bad(format!(
            "Invalid \"topic\" parameter: 1 to {TOPIC_BYTES_MAX} bytes, no control characters"
        )));
    }
    let is_reserved = match draft {
        Draft::Classic => is_reserved(topic, judge.config).then_some(403),
        Draft::V1 => is_below_hub(topic, judge).then_some(400),
    };
    if let Some(status) = is_reserved {
        return Err(Refused::Because(status, format!("the topic {topic:?} is reserved for the hub")));
    }
    // A hub's tokens say nothing about what the application is asked.
    let is_closed = matches!(judge.access.rules.publishers(topic), Some(Who::Publishers | Who::Hook))
        || judge.config.fdajax.enabled && topic.starts_with(FDAJAX);
    match is_closed {
        true => Err(Denial::Forbidden(format!("publishing on {topic:?}")).into()),
        false => Ok(()),
    }
}

/// Whether a topic is one of the hub's own.
pub fn is_reserved(topic: &str, config: &Config) -> bool {
    topic.contains(WELL_KNOWN) || topic.contains(config.mercure.path.as_str())
}

/// Whether a topic is the hub's URL or below it, once it is resolved, by the rule of draft 08.
fn is_below_hub(topic: &str, judge: &Judge<'_>) -> bool {
    let Ok(base) = url::Url::parse(judge.access.mercure.base()) else { return false };
    let Ok(url) = url::Url::options().base_url(Some(&base)).parse(topic) else { return false };
    let path = unescaped(url.path());
    [base.path(), &judge.config.mercure.path]
        .iter()
        .any(|hub| path.strip_prefix(hub).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// A path without escapes of what needs none.
fn unescaped(path: &str) -> String {
    let mut parts = path.split('%');
    let mut text = String::from(parts.next().unwrap_or_default());
    for part in parts {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
        match byte.filter(is_plain) {
            Some(byte) => {
                text.push(char::from(byte));
                text.push_str(&part[2..]);
            }
            None => {
                text.push('%');
                text.push_str(part);
            }
        }
    }
    text
}

fn check(form: &Form, draft: Draft) -> Result<(), Refused> {
    let is_line = |text: &str| match draft {
        Draft::Classic => !text.contains(['\r', '\n', '\0']),
        Draft::V1 => !has_controls(text, draft),
    };
    let is_text = |text: &str| text.len() <= ID_BYTES_MAX && is_line(text);
    let id = form.id.as_deref().unwrap_or_default();
    if !is_text(id) || id.starts_with('#') || id == "earliest" {
        return Err(bad(format!(
            "Invalid \"id\" parameter: at most {ID_BYTES_MAX} bytes in one line, not beginning with \"#\", not \
             \"earliest\""
        )));
    }
    // That name is of the hub's own events.
    let is_taken = draft == Draft::V1 && form.event.as_deref() == Some("mercure");
    if is_taken || !form.event.as_deref().is_none_or(is_text) {
        return Err(bad(format!(
            "Invalid \"type\" parameter: at most {ID_BYTES_MAX} bytes in one line, and not of the hub's own"
        )));
    }
    Ok(())
}

fn publication(form: Form) -> Publication {
    let Form { topics, data, private, id, event, retry_ms } = form;
    let boxed = |text: Cow<str>| Box::from(&*text);
    let mut update = Update { topics: Vec::new(), private, id: id.map(boxed), retry_ms };
    for topic in topics {
        if !update.topics.iter().any(|known| **known == *topic) {
            update.topics.push(boxed(topic));
        }
    }
    Publication {
        event: event.map(boxed),
        update: Some(Box::new(update)),
        ..Publication::of(Data::Text(boxed(data)))
    }
}

/// An update that any other dialect could have published is kept as one of those is.
fn plain(mut publication: Publication, config: &Config) -> Publication {
    let needs_more = |update: &Update| {
        // By no other way may such a name be published on.
        let is_ours = update.topics.iter().any(|topic| is_reserved(topic, config));
        is_ours
            || update.private
            || update.topics.len() > 1
            || update.id.is_some()
            || update.retry_ms.is_some()
    };
    publication.update = publication.update.filter(|update| needs_more(update));
    publication
}
