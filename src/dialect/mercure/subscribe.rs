//! Subscribing: `GET` of the hub, or `QUERY` of draft 08.

use super::{
    Asked, ID_BYTES_MAX, Judge, Listen, Refused, SELECTOR_BYTES_MAX, TOPICS_MAX, bad, check_unknown,
    has_controls,
};
use super::{form, identity};
use crate::broker::access::{Draft, MercureGrant};
use crate::config::{Protocol, Who};
use crate::dialect::Denial;
use crate::hub::{Selection, Selector};
use crate::wire::head::{Head, Method};
use crate::wire::query;
use std::rc::Rc;

/// Names of the parameter that says where to go on, the one that counts first. The polyfill appends the newest id under
/// the first name, while the page's own URL keeps an old one under the second for ever.
const AFTER: [&str; 4] = ["lastEventId", "lastEventID", "Last-Event-ID", "last_event_id"];
/// The same of draft 08, and what others call it.
const AFTER_V1: [&str; 4] = ["lastEventId", "last_event_id", "lastEventID", "Last-Event-ID"];
/// What a request by draft 07 may say.
const KNOWN: [&str; 7] =
    ["topic", "authorization", "encke", "lastEventId", "lastEventID", "Last-Event-ID", "last_event_id"];
/// Selectors of a subscriber by draft 08.
pub const SELECTORS_V1_MAX: usize = 100;
/// What parameters begin with that select by draft 08.
const MATCH: &str = "match";
/// A pattern as draft 08 calls it.
const URL_PATTERN: &str = "match_urlpattern";

/// What a request subscribes to. `body` is that of a `QUERY`.
pub fn read(head: &Head, body: &[u8], judge: &mut Judge<'_>) -> Result<Asked, Refused> {
    let query: Option<Vec<query::Pair>> = query::pairs(head.query).collect();
    let mut pairs = query.ok_or_else(|| bad("the query is not UTF-8"))?;
    // The URL's pairs come first, and so count.
    if head.method == Method::Query {
        pairs.extend(form::pairs(head, body)?);
    }
    let draft = draft(head, &pairs, judge)?;
    let known: &[&str] = match draft {
        Draft::Classic => &KNOWN,
        // What begins with "match" is judged below.
        Draft::V1 => &AFTER_V1,
    };
    pairs.iter().try_for_each(|(name, _)| check_unknown(name, known))?;
    let grant = identity::subscriber(head, draft, judge)?;
    if grant.is_none() && !judge.config.mercure.anonymous {
        return Err(Denial::NoToken("subscribing".into()).into());
    }
    let selectors = match draft {
        Draft::Classic => templates(&pairs)?,
        Draft::V1 => matchers(&pairs, judge)?,
    };
    for selector in &selectors {
        judge_selector(selector, grant.as_deref(), judge)?;
    }
    let sight = grant.as_ref().map(|grant| Rc::clone(&grant.subscribe)).unwrap_or_default();
    let named = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| &**value);
    let is_any =
        |name: &str| pairs.iter().any(|pair| pair.0.starts_with(MATCH) && pair == &(name.into(), "*".into()));
    let has_any_url = is_any(URL_PATTERN) && !is_any("match") && !is_any("match_exact");
    Ok(Asked::Listen(Box::new(Listen {
        selection: Rc::new(Selection::new(selectors, sight)),
        draft,
        has_any_url,
        after: after(head, draft, named).map(Box::from),
        grant,
        tells_start: named("encke") == Some("start"),
        head_only: head.method == Method::Head,
    })))
}

/// By which draft a request is meant: its parameters tell.
fn draft(head: &Head, pairs: &[query::Pair], judge: &Judge<'_>) -> Result<Draft, Refused> {
    let has_match = pairs.iter().any(|(name, _)| begins_with_match(name));
    let has_topic = pairs.iter().any(|(name, _)| name == "topic");
    match judge.config.mercure.protocol {
        Protocol::Classic => Ok(Draft::Classic),
        Protocol::V1 => Ok(Draft::V1),
        Protocol::Both if has_match && has_topic => {
            Err(bad("\"topic\" and \"match\" parameters are of two protocols: use those of one."))
        }
        Protocol::Both if has_match || head.method == Method::Query => Ok(Draft::V1),
        Protocol::Both => Ok(Draft::Classic),
    }
}

fn begins_with_match(name: &str) -> bool {
    name.get(..MATCH.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(MATCH))
}

/// Where the client wants to go on.
fn after<'h>(head: &Head<'h>, draft: Draft, named: impl Fn(&str) -> Option<&'h str>) -> Option<&'h str> {
    let header = head.bytes("last-event-id").map(|value| std::str::from_utf8(value).unwrap_or(UNKNOWN));
    let names: &[&str] = match draft {
        Draft::Classic => &AFTER,
        Draft::V1 => &AFTER_V1,
    };
    // Empty is absent by draft 07, and asks by draft 08.
    let asks = |id: &&str| !id.is_empty() || draft == Draft::V1;
    let asked = header.filter(asks).or_else(|| names.iter().find_map(|name| named(name).filter(asks)));
    // What cannot stand in a header field is none that we have given.
    let is_possible = |id: &str| !id.is_empty() && id.len() <= ID_BYTES_MAX && !has_controls(id, draft);
    asked.map(|id| if is_possible(id) { id } else { UNKNOWN })
}

/// An id that nobody has: publishers may not choose it, and it is none of ours.
const UNKNOWN: &str = "#";

/// The selectors of a request by draft 07.
fn templates(pairs: &[query::Pair]) -> Result<Vec<Selector>, Refused> {
    let given: Vec<&str> =
        pairs.iter().filter(|(name, _)| name == "topic").map(|(_, selector)| &**selector).collect();
    let is_sound = |text: &&str| {
        !text.is_empty() && text.len() <= SELECTOR_BYTES_MAX && !has_controls(text, Draft::Classic)
    };
    match given.len() {
        0 => return Err(bad("Missing \"topic\" parameter.")),
        1..=TOPICS_MAX => {}
        _ => {
            return Err(bad(format!(
                "Too many \"topic\" parameters: a subscriber has at most {TOPICS_MAX}."
            )));
        }
    }
    if !given.iter().all(is_sound) {
        return Err(bad(format!(
            "Invalid \"topic\" parameter: 1 to {SELECTOR_BYTES_MAX} bytes, no control characters."
        )));
    }
    Ok(given.into_iter().map(Selector::templated).collect())
}

/// The selectors of a request by draft 08.
fn matchers(pairs: &[query::Pair], judge: &Judge<'_>) -> Result<Vec<Selector>, Refused> {
    let mut selectors = Vec::new();
    for (name, text) in pairs.iter().filter(|(name, _)| begins_with_match(name)) {
        if selectors.len() >= SELECTORS_V1_MAX {
            return Err(bad(format!("Too many selectors: a subscriber has at most {SELECTORS_V1_MAX}.")));
        }
        let wrong = |rule: &str| bad(format!("Invalid {name:?} parameter: {rule}."));
        if text.is_empty() || text.len() > SELECTOR_BYTES_MAX || has_controls(text, Draft::V1) {
            let rule =
                format!("1 to {SELECTOR_BYTES_MAX} bytes, no control characters and none that is not seen");
            return Err(wrong(&rule));
        }
        selectors.push(match &**name {
            "match" | "match_exact" => Selector::exact(text),
            URL_PATTERN => Selector::url_pattern(text, judge.access.mercure.base())
                .ok_or_else(|| wrong("no URL pattern, or one that takes too much"))?,
            _ => return Err(bad("what selects is \"match\", \"match_exact\" or \"match_urlpattern\".")),
        });
    }
    match selectors.is_empty() {
        true => Err(bad("Missing \"match\" parameter: or \"match_exact\", or \"match_urlpattern\".")),
        false => Ok(selectors),
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
