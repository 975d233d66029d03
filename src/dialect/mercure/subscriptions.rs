//! Who subscribes: the documents that the API gives and events carry, and what the API is asked.

use super::{Judge, Refused, bad, identity};
use crate::broker::access::Draft;
use crate::dialect::Denial;
use crate::hub::{Data, Publication, Update};
use crate::wire::head::Head;
use crate::wire::media::{self, wants_text};
use crate::wire::query;
use crate::wire::response::Response;
use crate::wire::tags;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

/// What the API is asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Query {
    /// The path, as it was asked.
    pub path: Box<str>,
    /// By which draft: subscriptions made by it are told of.
    pub draft: Draft,
    /// Those of this kind, as draft 08 calls it.
    pub kind: Option<Box<str>>,
    /// Those with this selector; none = all.
    pub topic: Option<Box<str>>,
    /// The one of this subscriber.
    pub subscriber: Option<Box<str>>,
    /// What the client has, by its tags.
    pub has: Vec<Box<str>>,
    /// Errors are told as text.
    pub as_text: bool,
}

/// Bytes of the documents in one answer.
pub const DOCUMENT_BYTES_MAX: usize = 16 << 20;
/// The same for those whose budgets are counted: everybody else waits while an answer is made.
pub const DOCUMENT_BYTES_OF_ONE: usize = 1 << 20;
/// Where subscriptions are, below the hub's path.
pub const BELOW: &str = "/subscriptions";
/// What documents mean.
const CONTEXT: &str = "https://mercure.rocks/";
/// All but what is never encoded.
const VARIABLE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The type of documents.
const JSON_LD: &str = "application/ld+json";
/// What draft 08 calls selectors.
const EXACT: &str = "exact";
const URL_PATTERN: &str = "urlpattern";
/// The type of events of draft 08.
const EVENT: &str = "mercure";

/// A subscription: one selector of one subscriber.
#[derive(Debug, Clone, Copy)]
pub struct Subscription<'a> {
    /// The path of the hub.
    pub hub: &'a str,
    /// By which draft it was made.
    pub draft: Draft,
    /// It is a URL pattern.
    pub is_url_pattern: bool,
    /// The selector.
    pub topic: &'a str,
    /// Who, as `urn:uuid:…`.
    pub subscriber: &'a str,
    /// It is there; or it has just ended.
    pub active: bool,
    /// What the subscriber's token says of it, as JSON.
    pub payload: Option<&'a str>,
}

impl Subscription<'_> {
    /// Its id, which is its topic, too.
    pub fn id(&self) -> String {
        let [topic, subscriber] =
            [self.topic, self.subscriber].map(|text| utf8_percent_encode(text, VARIABLE));
        let (hub, kind) = (self.hub, self.kind());
        match self.draft {
            Draft::Classic => format!("{hub}{BELOW}/{topic}/{subscriber}"),
            Draft::V1 => format!("{hub}{BELOW}/{kind}/{topic}/{subscriber}"),
        }
    }

    /// What draft 08 calls its selector.
    pub const fn kind(&self) -> &'static str {
        if self.is_url_pattern { URL_PATTERN } else { EXACT }
    }

    /// Its document; one inside another one needs no context.
    pub fn document(&self, with_context: bool) -> String {
        let context = if with_context { format!("\"@context\":\"{CONTEXT}\",") } else { String::new() };
        let [id, topic, subscriber] =
            [&*self.id(), self.topic, self.subscriber].map(|text| Value::from(text).to_string());
        let payload = self.payload.map(|payload| format!(",\"payload\":{payload}")).unwrap_or_default();
        let what = match self.draft {
            Draft::Classic => format!("{context}\"id\":{id},\"type\":\"Subscription\",\"topic\":{topic}"),
            Draft::V1 => {
                let kind = self.kind();
                format!("\"id\":{id},\"type\":\"subscription\",\"match_type\":\"{kind}\",\"match\":{topic}")
            }
        };
        format!("{{{what},\"subscriber\":{subscriber},\"active\":{}{payload}}}", self.active)
    }

    /// The event that tells of it: a private update.
    pub fn event(&self) -> Publication {
        let update = Update { topics: vec![self.id().into()], private: true, ..Update::default() };
        let data = Data::Text(self.document(true).into());
        let event = (self.draft == Draft::V1).then(|| EVENT.into());
        Publication { event, update: Some(Box::new(update)), ..Publication::of(data) }
    }
}

/// The document of all subscriptions that were asked for, whose `documents` are separated by commas.
pub fn collection(query: &Query, cursor: &str, documents: &str) -> String {
    let path = &*query.path;
    if query.draft == Draft::V1 {
        let path = Value::from(path);
        return format!("{{\"id\":{path},\"type\":\"subscriptions\",\"subscriptions\":[{documents}]}}");
    }
    let [path, cursor] = [path, cursor].map(|text| Value::from(text).to_string());
    format!(
        "{{\"@context\":\"{CONTEXT}\",\"id\":{path},\"type\":\"Subscriptions\",\"lastEventID\":{cursor},\
         \"subscriptions\":[{documents}]}}"
    )
}

/// The document of one, with the cursor, which draft 08 has elsewhere.
pub fn single(document: String, draft: Draft, cursor: &str) -> String {
    if draft == Draft::V1 {
        return document;
    }
    let cursor = Value::from(cursor).to_string();
    let inner = document.strip_suffix('}').unwrap_or(&document);
    format!("{inner},\"lastEventID\":{cursor}}}")
}

/// The answer with a body, and the cursor where draft 08 has it.
pub fn answer(query: &Query, hub: &str, cursor: &str, body: String) -> Response {
    match query.draft {
        Draft::Classic => Response::new(200, JSON_LD, body.into_bytes()),
        Draft::V1 => Response::new(200, media::JSON, body.into_bytes()).with(
            "Link",
            format_args!(
                "<{hub}>; rel=\"mercure\"; last-event-id=\"{cursor}\"; type=\"{EVENT}\"; content-type=\"{}\"",
                media::JSON
            ),
        ),
    }
}

/// What a request to `rest`, below the hub's path, asks for.
pub fn read(head: &Head, rest: &str, judge: &mut Judge<'_>) -> Result<super::Asked, Refused> {
    if !judge.config.mercure.subscriptions {
        let detail = "mercure.subscriptions is off: nobody is told who subscribes";
        return Ok(super::Asked::Respond(Response::problem(404, detail, wants_text(head))));
    }
    let draft = identity::draft(head, judge.config);
    let grant = identity::subscriber(head, draft, judge)?;
    let grant = grant.ok_or_else(|| Denial::NoToken("looking at subscriptions".into()))?;
    let resource = if draft == Draft::V1 { head.path } else { head.target };
    if !grant.may_subscribe(resource) {
        return Err(Denial::Forbidden("looking at these subscriptions".into()).into());
    }
    let mut variables = rest.strip_prefix(BELOW).unwrap_or_default().split('/').skip(1).map(decode);
    let kind = if draft == Draft::V1 { variables.next().transpose()? } else { None };
    if kind.as_deref().is_some_and(|kind| ![EXACT, URL_PATTERN].contains(&kind)) {
        return Err(bad("match types are \"exact\" and \"urlpattern\""));
    }
    let (topic, subscriber) = (variables.next().transpose()?, variables.next().transpose()?);
    if variables.next().is_some() || kind.is_some() && topic.is_none() {
        return Err(Refused::Because(404, "there is no such subscription".into()));
    }
    let has = tags::named(head.fields("if-none-match")).map(Box::from).collect();
    Ok(super::Asked::List(Query {
        path: head.path.into(),
        draft,
        kind,
        topic,
        subscriber,
        has,
        as_text: wants_text(head),
    }))
}

/// A variable of a path, which was encoded once.
fn decode(text: &str) -> Result<Box<str>, Refused> {
    const WRONG: &str = "the path is not percent-encoded UTF-8";
    let is_escaped = text.split('%').skip(1).all(|after| {
        after.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    if !is_escaped {
        return Err(bad(WRONG));
    }
    let bytes = query::decode_path(text).into_owned();
    String::from_utf8(bytes).map(Into::into).map_err(|_| bad(WRONG))
}
