//! Publishing: `POST` to the hub.

use super::form::{self, Form};
use super::identity;
use super::{Asked, ID_BYTES_MAX, Judge, Refused, TOPIC_BYTES_MAX, WELL_KNOWN, bad, has_controls};
use crate::config::{Config, Who};
use crate::dialect::Denial;
use crate::hub::{Data, Publication, Update};
use crate::wire::head::Head;
use std::borrow::Cow;

/// The channels of FDAjax, which are its own.
const FDAJAX: &str = "fdajax/";

/// What a request publishes.
pub fn read(head: &Head, body: &[u8], judge: &mut Judge<'_>) -> Result<Asked, Refused> {
    let grant = identity::publisher(head, judge)?;
    let form = form::read(head, body)?;
    if let Some(topic) = form.topics.iter().find(|topic| !grant.may_publish(topic)) {
        return Err(Denial::Forbidden(format!("publishing on {topic:?}")).into());
    }
    for topic in &form.topics {
        judge_topic(topic, judge)?;
    }
    check(&form)?;
    let publication = publication(form);
    let channel = match &publication.update {
        Some(update) => update.channel(),
        None => return Err(bad("Missing \"topic\" parameter")),
    };
    let publication = Box::new(plain(publication));
    Ok(Asked::Publish { channel, publication })
}

/// Whether there may be such a topic, and clients may publish on it.
fn judge_topic(topic: &str, judge: &Judge<'_>) -> Result<(), Refused> {
    if topic.is_empty() || topic.len() > TOPIC_BYTES_MAX || has_controls(topic) {
        return Err(bad(format!(
            "Invalid \"topic\" parameter: 1 to {TOPIC_BYTES_MAX} bytes, no control characters"
        )));
    }
    if is_reserved(topic, judge.config) {
        return Err(Refused::Because(403, format!("the topic {topic:?} is reserved for the hub")));
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

fn check(form: &Form) -> Result<(), Refused> {
    let is_text = |text: &str| text.len() <= ID_BYTES_MAX && !text.contains(['\r', '\n', '\0']);
    let id = form.id.as_deref().unwrap_or_default();
    if !is_text(id) || id.starts_with('#') || id == "earliest" {
        return Err(bad(format!(
            "Invalid \"id\" parameter: at most {ID_BYTES_MAX} bytes in one line, not beginning with \"#\", not \
             \"earliest\""
        )));
    }
    if !form.event.as_deref().is_none_or(is_text) {
        return Err(bad(format!("Invalid \"type\" parameter: at most {ID_BYTES_MAX} bytes in one line")));
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
fn plain(mut publication: Publication) -> Publication {
    let needs_more = |update: &Update| {
        update.private || update.topics.len() > 1 || update.id.is_some() || update.retry_ms.is_some()
    };
    publication.update = publication.update.filter(|update| needs_more(update));
    publication
}
