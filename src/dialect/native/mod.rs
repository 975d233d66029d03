//! Encke's own HTTP API: `/pub`, `/sub` and the pages around them.

pub mod admin;
pub mod answer;
mod asked;
mod batch;
mod guest;
pub mod keys;
mod pages;
mod presence;
mod properties;
mod publish;
mod read;
mod revoke;
mod rights;
mod subscribe;
pub mod websocket;

pub use asked::{Asked, POLL_SECONDS_MAX, Targets};
pub use subscribe::asks_for_events;

use super::token::without_token;
use super::{Caller, Command, Denial, Operation, access, cors, upgrade};
use crate::config::is_misspelled;
use crate::hub::{channel_name, is_simple};
use crate::wire::head::{Head, Method};
use crate::wire::media;
pub use crate::wire::media::wants_text;
use crate::wire::query;
use crate::wire::response::Response;
use std::borrow::Cow;

/// A request that cannot be carried out: a status and a sentence.
type Refused = (u16, String);

/// What is wrong with a target that has a fragment.
pub const HAS_FRAGMENT: &str = "a request target has no fragment; # in a name is %23";

/// What the request asks for.
pub fn command<'b>(head: &Head<'b>, body: &[u8], caller: Caller, targets: &'b mut Targets) -> Command<'b> {
    let path = head.path;
    if head.has_fragment {
        return problem(head, (400, HAS_FRAGMENT.to_owned()));
    }
    if let Some(channels) = path.strip_prefix("/sub/") {
        let command = get_only(head, || listen(head, channels, caller, targets));
        return command.unwrap_or_else(|refused| problem(head, refused));
    }
    let publication = path.strip_prefix("/pub").filter(|rest| rest.is_empty() || rest.starts_with('/'));
    if let Some(rest) = publication.filter(|rest| caller.admin || rights::is_public(head, rest, caller)) {
        return publication_command(head, body, rest, caller)
            .unwrap_or_else(|refused| problem(head, refused));
    }
    if caller.admin
        && let Some(rest) = path.strip_prefix("/admin")
        && (rest.is_empty() || rest.starts_with('/'))
    {
        return admin::command(head, rest, caller, targets).unwrap_or_else(|refused| problem(head, refused));
    }
    if path == "/revoke" && caller.admin && caller.access.is_on() {
        return revoke::read(head, body, caller, caller.unix)
            .unwrap_or_else(|refused| problem(head, refused));
    }
    if let Some(channel) = path.strip_prefix("/presence/").filter(|_| caller.access.is_on()) {
        return get_only(head, || presence::read(head, channel, caller))
            .unwrap_or_else(|refused| problem(head, refused));
    }
    if guest::is_asked(head, caller) {
        return guest::read(head, body).unwrap_or_else(|refused| problem(head, refused));
    }
    elsewhere(head, caller)
}

/// Whether what a request to `path` shows of tokens matters: where channels are read and written, and tokens taken back.
pub fn is_judged(path: &str) -> bool {
    let below =
        |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    below("/sub") || below("/pub") || below("/presence") || path == "/revoke"
}

/// What a request asks for that neither listens nor publishes.
#[inline(never)]
fn elsewhere<'b>(head: &Head<'b>, caller: Caller) -> Command<'b> {
    let path = head.path;
    let answer = match () {
        () if path == "*" => options("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS", head),
        () if path == "/healthz" => get_only(head, || Ok(Command::Operate(Operation::Health))),
        () if path == "/metrics" && caller.admin => {
            get_only(head, || Ok(Command::Operate(Operation::Metrics)))
        }
        () if path == "/stats" && caller.admin => get_only(head, || Ok(Command::Operate(Operation::Stats))),
        () => match pages::at(head, path) {
            Some(page) => get_only(head, || Ok(Command::Respond(page))),
            None => Err((404, format!("there is nothing at {path}; see / for what there is"))),
        },
    };
    answer.unwrap_or_else(|refused| problem(head, refused))
}

/// A request for the messages of `channels`.
#[inline(never)]
fn listen<'b>(
    head: &Head,
    channels: &str,
    caller: Caller,
    targets: &'b mut Targets,
) -> Result<Command<'b>, Refused> {
    let asked = match () {
        () if channels.is_empty() && caller.access.is_on() && upgrade::is_asked(head) => {
            targets.nothing(head.query, caller.config)?
        }
        () if caller.identity.in_query => {
            let query = without_token(head.query);
            targets.read(&format!("{}?{query}", head.path), channels, &query, caller.config)?
        }
        () => targets.read(head.target, channels, head.query, caller.config)?,
    };
    match rights::may_listen(asked, channels, caller) {
        Ok(()) => {}
        Err(Denial::Unheard(question)) => return Ok(Command::Ask(question)),
        Err(refusal) => return Ok(Command::Respond(refusal.response(wants_text(head)))),
    }
    match upgrade::is_asked(head) {
        true => websocket::open(head, asked, caller),
        false => {
            let subscribe = subscribe::read(head, asked, caller.config)?;
            subscribe::check_served(subscribe.transport, caller.config)?;
            Ok(Command::Subscribe(subscribe))
        }
    }
}

/// The answer to a request whose body has not come, if it does not depend on it, or what the application has to be asked
/// before: nobody's body is kept who may not publish.
#[cold]
pub fn before_body(head: &Head, caller: Caller) -> Option<Command<'static>> {
    let command = match head.path {
        _ if head.has_fragment => problem(head, (400, HAS_FRAGMENT.to_owned())),
        path if (path == "/pub" || path.starts_with("/pub/"))
            && (caller.admin || rights::is_public(head, &path["/pub".len()..], caller)) =>
        {
            match head.method {
                Method::Post | Method::Put | Method::Patch => {
                    match rights::may_publish(head, &path["/pub".len()..], caller) {
                        Err(refused) => *refused,
                        Ok(()) if media::is_encoded(head) => Command::Respond(encoded(head)),
                        Ok(()) => return None,
                    }
                }
                _ => return None,
            }
        }
        "/revoke" if caller.admin && caller.access.is_on() => revoke::refused(head, caller)?,
        path if path.starts_with("/sub/") => get_only(head, || Ok(Command::Operate(Operation::Health)))
            .unwrap_or_else(|refused| problem(head, refused)),
        _ if guest::is_asked(head, caller) => {
            guest::before_body(head).unwrap_or_else(|refused| Some(problem(head, refused)))?
        }
        _ => elsewhere(head, caller),
    };
    match command {
        Command::Respond(response) if response.status >= 400 => Some(Command::Respond(response)),
        Command::Ask(question) => Some(Command::Ask(question)),
        _ => None,
    }
}

#[cold]
fn problem(head: &Head, (status, detail): Refused) -> Command<'static> {
    Command::Respond(Response::problem(status, &detail, wants_text(head)))
}

/// What the application is told of how somebody is served who sent `head`.
pub fn technique(head: &Head) -> &'static str {
    match head.method {
        Method::Get | Method::Head if upgrade::is_asked(head) => "websocket",
        Method::Get | Method::Head => subscribe::technique(head),
        _ => "http",
    }
}

/// Everything below `/pub`, of which `rest` is the remaining path.
fn publication_command<'b>(
    head: &Head<'b>,
    body: &[u8],
    rest: &'b str,
    caller: Caller,
) -> Result<Command<'b>, Refused> {
    if head.method == Method::Options {
        return options(allowed_methods(rest), head);
    }
    if let Err(refused) = rights::may_publish(head, rest, caller) {
        return Ok(*refused);
    }
    if media::is_encoded(head) {
        return Ok(Command::Respond(encoded(head)));
    }
    let channels = rest.strip_prefix('/').unwrap_or_default();
    if rest.is_empty() && !matches!(head.method, Method::Post) {
        return Ok(not_allowed(allowed_methods(rest), head));
    }
    match (head.method, channels.is_empty()) {
        (Method::Post | Method::Put, false) => publish::read(head, body, channels, caller),
        (Method::Post, true) => {
            let batch = batch::read(head, body, caller.config)?;
            Ok(rights::judge_batch(head, body, batch, caller))
        }
        (Method::Patch, false) => keys::patch(head, body, channels, caller),
        (Method::Get | Method::Head, false) => match keys::get(head, channels)? {
            Some(value) => Ok(value),
            None => Ok(Command::Operate(Operation::Info(one_channel(channels)?))),
        },
        (Method::Get | Method::Head, true) => Ok(Command::Operate(Operation::List(prefix(head)?))),
        (Method::Delete, false) => match keys::delete(head, channels, caller)? {
            Some(removal) => Ok(removal),
            None => Ok(Command::Operate(Operation::Delete(one_channel(channels)?))),
        },
        _ => Ok(not_allowed(allowed_methods(rest), head)),
    }
}

/// The answer to a body that is coded for the way.
#[cold]
pub fn encoded(head: &Head) -> Response {
    let detail = "bodies are taken as they are: send this one without Content-Encoding";
    Response::problem(415, detail, wants_text(head)).with("Accept-Encoding", "identity")
}

/// Tells who may not.
#[cold]
fn refusal(head: &Head, denied: access::Denied) -> Response {
    let response = Response::problem(denied.status, denied.detail, wants_text(head));
    match denied.status {
        401 => response.with("WWW-Authenticate", "Bearer"),
        _ => response,
    }
}

/// The methods of `/pub`, of the list `/pub/`, and of a channel.
const fn allowed_methods(rest: &str) -> &'static str {
    match rest.len() {
        0 => "POST, OPTIONS",
        1 => "GET, HEAD, POST, OPTIONS",
        _ => "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
    }
}

fn one_channel(encoded: &str) -> Result<String, Refused> {
    if encoded.contains(',') {
        return Err((400, "name one channel; a comma inside a name is %2C".to_owned()));
    }
    channel(encoded).map(Cow::into_owned)
}

/// The name of a channel as a path has it.
fn channel(encoded: &str) -> Result<Cow<'_, str>, Refused> {
    if is_simple(encoded) {
        return Ok(Cow::Borrowed(encoded));
    }
    let name = match query::decode_path(encoded) {
        Cow::Borrowed(plain) => channel_name(plain).map(Cow::Borrowed),
        Cow::Owned(decoded) => channel_name(&decoded).map(|name| Cow::Owned(name.to_owned())),
    };
    name.map_err(|error| (400, error.to_string()))
}

fn prefix(head: &Head) -> Result<String, Refused> {
    let mut prefix = String::new();
    for (name, value) in pairs(head)? {
        match &*name {
            "prefix" => prefix = value.into_owned(),
            _ => check_unknown(&name, &["prefix"])?,
        }
    }
    Ok(prefix)
}

/// What publishers say in header fields, beside what may stand in the query as well.
const FIELDS: [&str; 4] = ["Idempotency-Key", "Encke-Event", "Encke-Key", "Encke-TTL"];

/// The same for a request that publishes, whose header fields some would write into the query.
fn check_publishing(name: &str) -> Result<(), Refused> {
    match FIELDS.iter().find(|field| is_misspelled(name, field)) {
        Some(field) => {
            Err((400, format!("{name}= means nothing in the query: send the header field {field}")))
        }
        None => check_unknown(name, &properties::PARAMETERS),
    }
}

/// Refuses a parameter that is none of the `known`, but nearly one: it would be overlooked in silence.
fn check_unknown(name: &str, known: &[&str]) -> Result<(), Refused> {
    let is_known = known.contains(&name);
    match known.iter().find(|known| !is_known && is_misspelled(name, known)) {
        Some(meant) => Err((400, format!("there is no parameter {name}=; {meant}= may be meant"))),
        None => Ok(()),
    }
}

/// The query's pairs; a 400 if it is not UTF-8.
fn pairs<'b>(head: &Head<'b>) -> Result<Vec<query::Pair<'b>>, Refused> {
    let all: Option<Vec<_>> = query::pairs(head.query).collect();
    all.ok_or_else(|| (400, "the query is not UTF-8".to_owned()))
}

/// `command` for GET and HEAD, an answer to OPTIONS, and a 405 for anything else.
fn get_only<'b>(
    head: &Head,
    command: impl FnOnce() -> Result<Command<'b>, Refused>,
) -> Result<Command<'b>, Refused> {
    match head.method {
        Method::Get | Method::Head => command(),
        Method::Options => options("GET, HEAD, OPTIONS", head),
        _ => Ok(not_allowed("GET, HEAD, OPTIONS", head)),
    }
}

#[cold]
fn not_allowed(allow: &str, head: &Head) -> Command<'static> {
    let detail = format!("this resource knows the methods {allow}");
    Command::Respond(Response::problem(405, &detail, wants_text(head)).with("Allow", allow))
}

#[expect(clippy::unnecessary_wraps, reason = "it stands among those that can fail")]
fn options(allow: &str, head: &Head) -> Result<Command<'static>, Refused> {
    let mut response = Response::empty(204).with("Allow", allow);
    if head.field("access-control-request-method").is_some() {
        response.fields.to_mut().push_str(&cors::preflight(head, allow));
    }
    Ok(Command::Respond(response))
}
