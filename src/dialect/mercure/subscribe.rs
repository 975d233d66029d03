//! Subscribing: `GET` of the hub.

use super::identity;
use super::{Asked, ID_BYTES_MAX, Judge, Listen, Refused, SELECTOR_BYTES_MAX, TOPICS_MAX, bad, has_controls};
use crate::broker::access::MercureGrant;
use crate::config::Who;
use crate::dialect::Denial;
use crate::hub::{Selection, Selector};
use crate::wire::head::{Head, Method};
use crate::wire::query;
use std::rc::Rc;

/// Names of the parameter that says where to go on, the one that counts first. The polyfill appends the newest id under
/// the first name, while the page's own URL keeps an old one under the second for ever.
const AFTER: [&str; 2] = ["lastEventId", "lastEventID"];

/// What a request subscribes to.
pub fn read(head: &Head, judge: &mut Judge<'_>) -> Result<Asked, Refused> {
    let grant = identity::subscriber(head, judge)?;
    if grant.is_none() && !judge.config.mercure.anonymous {
        return Err(Denial::NoToken("subscribing".into()).into());
    }
    let pairs: Option<Vec<query::Pair>> = query::pairs(head.query).collect();
    let pairs = pairs.ok_or_else(|| bad("the query is not UTF-8"))?;
    let mut selectors: Vec<Box<str>> = Vec::new();
    let mut count = 0;
    for (_, selector) in pairs.iter().filter(|(name, _)| name == "topic") {
        count += 1;
        check(selector, count)?;
        if !selectors.iter().any(|known| **known == **selector) {
            selectors.push(Box::from(&**selector));
        }
    }
    if selectors.is_empty() {
        return Err(bad("Missing \"topic\" parameter."));
    }
    let compiled: Vec<Selector> = selectors.iter().map(|text| Selector::templated(text)).collect();
    for selector in &compiled {
        judge_selector(selector, grant.as_deref(), judge)?;
    }
    let sight = grant.as_ref().map(|grant| Rc::clone(&grant.subscribe)).unwrap_or_default();
    let named = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| &**value);
    let tells_start = named("encke") == Some("start");
    Ok(Asked::Listen(Box::new(Listen {
        selection: Rc::new(Selection::new(compiled, sight)),
        after: after(head, named).map(Box::from),
        grant,
        tells_start,
        head_only: head.method == Method::Head,
    })))
}

/// Where the client wants to go on.
fn after<'h>(head: &Head<'h>, named: impl Fn(&str) -> Option<&'h str>) -> Option<&'h str> {
    let header = head.bytes("last-event-id").map(|value| std::str::from_utf8(value).unwrap_or(UNKNOWN));
    let asked = header.filter(|id| !id.is_empty());
    let asked = asked.or_else(|| AFTER.into_iter().find_map(|name| named(name).filter(|id| !id.is_empty())));
    let asked = asked.or_else(|| named("Last-Event-ID").filter(|id| !id.is_empty()));
    // What cannot stand in a header field is none that we have given.
    asked.map(|id| if has_controls(id) || id.len() > ID_BYTES_MAX { UNKNOWN } else { id })
}

/// An id that nobody has: publishers may not choose it, and it is none of ours.
const UNKNOWN: &str = "#";

fn check(selector: &str, count: usize) -> Result<(), Refused> {
    match () {
        () if count > TOPICS_MAX => {
            Err(bad(format!("Too many \"topic\" parameters: a subscriber has at most {TOPICS_MAX}.")))
        }
        () if selector.is_empty() || selector.len() > SELECTOR_BYTES_MAX || has_controls(selector) => {
            Err(bad(format!(
                "Invalid \"topic\" parameter: 1 to {SELECTOR_BYTES_MAX} bytes, no control characters."
            )))
        }
        () => Ok(()),
    }
}

/// Whether rules of channels let somebody name that topic.
fn judge_selector(
    selector: &Selector,
    grant: Option<&MercureGrant>,
    judge: &Judge<'_>,
) -> Result<(), Refused> {
    let Selector::Exact(topic) = selector else { return Ok(()) };
    let what = || format!("listening to {topic:?}");
    match (judge.access.rules.listeners(topic), grant) {
        (Who::Anyone, _) => Ok(()),
        (Who::Token, Some(grant)) if grant.may_subscribe(topic) => Ok(()),
        (Who::Token, None) => Err(Denial::NoToken(what()).into()),
        (Who::Token | Who::Hook | Who::Publishers, _) => Err(Denial::Forbidden(what()).into()),
    }
}
