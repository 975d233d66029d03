//! Who subscribes: the documents that the API gives and events carry, and what the API is asked.

use super::{Judge, Refused, bad, identity};
use crate::dialect::Denial;
use crate::hub::{Data, Publication, Update};
use crate::wire::head::Head;
use crate::wire::media::wants_text;
use crate::wire::query;
use crate::wire::response::Response;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

/// What the API is asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Query {
    /// The path, as it was asked.
    pub path: Box<str>,
    /// Those with this selector; none = all.
    pub topic: Option<Box<str>>,
    /// The one of this subscriber.
    pub subscriber: Option<Box<str>>,
    /// What the client has, by its tag.
    pub has: Option<Box<str>>,
    /// Errors are told as text.
    pub as_text: bool,
}

/// Where subscriptions are, below the hub's path.
pub const BELOW: &str = "/subscriptions";
/// What documents mean.
const CONTEXT: &str = "https://mercure.rocks/";
/// All but what is never encoded.
const VARIABLE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The type of documents.
pub const JSON_LD: &str = "application/ld+json";

/// A subscription: one selector of one subscriber.
#[derive(Debug, Clone, Copy)]
pub struct Subscription<'a> {
    /// The path of the hub.
    pub hub: &'a str,
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
        format!("{}{BELOW}/{topic}/{subscriber}", self.hub)
    }

    /// Its document; one inside another one needs no context.
    pub fn document(&self, with_context: bool) -> String {
        let context = if with_context { format!("\"@context\":\"{CONTEXT}\",") } else { String::new() };
        let [id, topic, subscriber] =
            [&*self.id(), self.topic, self.subscriber].map(|text| Value::from(text).to_string());
        let payload = self.payload.map(|payload| format!(",\"payload\":{payload}")).unwrap_or_default();
        format!(
            "{{{context}\"id\":{id},\"type\":\"Subscription\",\"topic\":{topic},\"subscriber\":{subscriber},\
             \"active\":{}{payload}}}",
            self.active
        )
    }

    /// The event that tells of it: a private update.
    pub fn event(&self) -> Publication {
        let update = Update { topics: vec![self.id().into()], private: true, ..Update::default() };
        let data = Data::Text(self.document(true).into());
        Publication { update: Some(Box::new(update)), ..Publication::of(data) }
    }
}

/// The document of all subscriptions that were asked for.
pub fn collection(path: &str, cursor: &str, documents: &[String]) -> String {
    let [path, cursor] = [path, cursor].map(|text| Value::from(text).to_string());
    format!(
        "{{\"@context\":\"{CONTEXT}\",\"id\":{path},\"type\":\"Subscriptions\",\"lastEventID\":{cursor},\
         \"subscriptions\":[{}]}}",
        documents.join(",")
    )
}

/// The same document of one, with the cursor.
pub fn single(document: &str, cursor: &str) -> String {
    let cursor = Value::from(cursor).to_string();
    let inner = document.strip_suffix('}').unwrap_or(document);
    format!("{inner},\"lastEventID\":{cursor}}}")
}

/// What a request to `rest`, below the hub's path, asks for.
pub fn read(head: &Head, rest: &str, judge: &mut Judge<'_>) -> Result<super::Asked, Refused> {
    if !judge.config.mercure.subscriptions {
        let detail = "mercure.subscriptions is off: nobody is told who subscribes";
        return Ok(super::Asked::Respond(Response::problem(404, detail, wants_text(head))));
    }
    let grant = identity::subscriber(head, judge)?;
    let grant = grant.ok_or_else(|| Denial::NoToken("looking at subscriptions".into()))?;
    if !grant.may_subscribe(head.target) {
        return Err(Denial::Forbidden("looking at these subscriptions".into()).into());
    }
    let mut variables = rest.strip_prefix(BELOW).unwrap_or_default().split('/').skip(1).map(decode);
    let (topic, subscriber) = (variables.next().transpose()?, variables.next().transpose()?);
    if variables.next().is_some() {
        return Err(Refused::Because(404, "there is no such subscription".into()));
    }
    let has = head.field("if-none-match").map(|tag| tag.trim().trim_matches('"').into());
    Ok(super::Asked::List(Query {
        path: head.path.into(),
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
