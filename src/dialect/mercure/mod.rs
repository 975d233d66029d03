//! Mercure: updates of topics, pushed as server-sent events, for Symfony, API Platform, Turbo.
//!
//! It is no hub beside the hub: topics are channels, an update is a message, a subscriber is a stream like any other.
//! Here requests become what the server is to do; the server does it. A request is judged in one order: its token, its
//! form, its right, its content.

mod form;
mod identity;
mod metadata;
mod publish;
mod subscribe;
pub mod subscriptions;

pub use subscribe::SELECTORS_V1_MAX;

use crate::broker::Client;
use crate::broker::access::{Draft, MercureGrant};
use crate::config::Config;
use crate::config::is_misspelled;
use crate::dialect::native::encoded;
use crate::dialect::{Access, Denial, cors};
use crate::hub::{Publication, Selection, is_unseen};
use crate::stats::Stats;
use crate::time::Now;
use crate::wire::head::{Head, Method};
use crate::wire::media::wants_text;
use crate::wire::response::Response;
use std::rc::Rc;

/// The path that topics of Mercure's own are below, wherever the hub is.
pub const WELL_KNOWN: &str = "/.well-known/mercure";
/// Bytes of a topic.
pub const TOPIC_BYTES_MAX: usize = 2048;
/// Bytes of a selector.
pub const SELECTOR_BYTES_MAX: usize = 4096;
/// Bytes of an id, of an event type.
pub const ID_BYTES_MAX: usize = 255;
/// Topics of an update, and selectors of a subscription.
pub const TOPICS_MAX: usize = 1000;

/// What judges a request.
pub struct Judge<'a> {
    /// The settings.
    pub config: &'a Config,
    /// Keys, rules, and tokens that were verified.
    pub access: &'a mut Access,
    /// Counters.
    pub stats: &'a mut Stats,
    /// Whose budget pays for bad tokens.
    pub client: Client,
    /// The clocks.
    pub now: Now,
}

/// What a request asks for.
pub enum Asked {
    /// This answer.
    Respond(Response),
    /// To publish.
    Publish {
        /// The channel of the canonical topic.
        channel: String,
        /// What.
        publication: Box<Publication>,
    },
    /// To listen.
    Listen(Box<Listen>),
    /// To be told of subscriptions.
    List(subscriptions::Query),
}

/// What a subscriber wants.
pub struct Listen {
    /// Which updates.
    pub selection: Rc<Selection>,
    /// By which draft.
    pub draft: Draft,
    /// Everything is asked for, by a URL pattern.
    pub has_any_url: bool,
    /// What its token grants, if it shows one.
    pub grant: Option<Rc<MercureGrant>>,
    /// Where it wants to go on, in its own words.
    pub after: Option<Box<str>>,
    /// It wants to be told where it begins.
    pub tells_start: bool,
    /// Only the head is wanted.
    pub head_only: bool,
}

/// Why a request cannot be carried out.
#[derive(Debug)]
pub enum Refused {
    /// A status and a sentence.
    Because(u16, String),
    /// It is not granted.
    Denied(Denial),
    /// The body is coded for the way.
    Encoded,
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl Refused {
    fn response(&self, head: &Head, config: &Config) -> Response {
        match self {
            Self::Encoded => encoded(head),
            Self::Because(status, detail) => Response::problem(*status, detail, wants_text(head)),
            // What contradicts itself is a malformed token here.
            Self::Denied(denial) => metadata::challenge(denial.response(wants_text(head)), config),
        }
    }
}

fn bad(detail: impl Into<String>) -> Refused {
    Refused::Because(400, detail.into())
}

/// Refuses a parameter that is none of the `known`, but nearly one: it would be overlooked in silence, and an update that
/// was to be private would be for everybody.
fn check_unknown(name: &str, known: &[&str]) -> Result<(), Refused> {
    match known.iter().find(|known| is_misspelled(name, known)) {
        Some(meant) if !known.contains(&name) => {
            Err(bad(format!("there is no \"{name}\" parameter; \"{meant}\" may be meant")))
        }
        _ => Ok(()),
    }
}

/// Whether requests to `path` are Mercure's.
pub fn claims(path: &str, config: &Config) -> bool {
    let below = path.strip_prefix(config.mercure.path.as_str());
    below.is_some_and(|rest| {
        rest.is_empty() || rest == "/subscriptions" || rest.starts_with("/subscriptions/")
    }) || metadata::is_here(path, config)
}

/// What a request asks for.
pub fn asked(head: &Head, body: &[u8], mut judge: Judge<'_>) -> Asked {
    let config = judge.config;
    if metadata::is_here(head.path, config) {
        return Asked::Respond(metadata::answer(head, config));
    }
    let rest = head.path.strip_prefix(config.mercure.path.as_str()).unwrap_or_default();
    let asked = match (rest.is_empty(), head.method) {
        (of_hub, Method::Options) => Ok(Asked::Respond(options(head, methods(of_hub, config)))),
        (true, Method::Get | Method::Head) => subscribe::read(head, &[], &mut judge),
        (true, Method::Query) if config.mercure.protocol.speaks_v1() => {
            subscribe::read(head, body, &mut judge)
        }
        (true, Method::Post) => publish::read(head, body, &mut judge),
        (false, Method::Get | Method::Head) => subscriptions::read(head, rest, &mut judge),
        (of_hub, _) => Ok(Asked::Respond(not_allowed(head, methods(of_hub, config)))),
    };
    asked.unwrap_or_else(|refused| Asked::Respond(refused.response(head, config)))
}

/// The answer to a request whose body has not come, if it does not depend on it.
pub fn before_body(head: &Head, mut judge: Judge<'_>) -> Option<Response> {
    let config = judge.config;
    let rest = head.path.strip_prefix(config.mercure.path.as_str()).unwrap_or_default();
    let draft = identity::draft(head, config);
    match (rest.is_empty(), head.method) {
        _ if metadata::is_here(head.path, config) => Some(metadata::answer(head, config)),
        (true, Method::Post) => match identity::publisher(head, draft, &mut judge) {
            Ok(_) => None,
            Err(refused) => Some(refused.response(head, config)),
        },
        (true, Method::Query) if config.mercure.protocol.speaks_v1() => None,
        (_, Method::Get | Method::Head | Method::Options) => None,
        (of_hub, _) => Some(not_allowed(head, methods(of_hub, config))),
    }
}

const fn methods(of_hub: bool, config: &Config) -> &'static str {
    match of_hub {
        true if config.mercure.protocol.speaks_v1() => "GET, HEAD, POST, QUERY, OPTIONS",
        true => "GET, HEAD, POST, OPTIONS",
        false => "GET, HEAD, OPTIONS",
    }
}

fn not_allowed(head: &Head, allow: &str) -> Response {
    let detail = format!("this resource knows the methods {allow}");
    Response::problem(405, &detail, wants_text(head)).with("Allow", allow)
}

fn options(head: &Head, allow: &str) -> Response {
    let mut response = Response::empty(204).with("Allow", allow);
    if head.field("access-control-request-method").is_some() {
        response.fields.to_mut().push_str(&cors::preflight(head, allow));
    }
    response
}

/// Whether `text` has a character that no name may have.
fn has_controls(text: &str, draft: Draft) -> bool {
    match draft {
        Draft::Classic => text.bytes().any(|byte| byte.is_ascii_control()),
        Draft::V1 => text.chars().any(is_unseen),
    }
}
