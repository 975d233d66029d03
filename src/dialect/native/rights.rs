//! Whether who asks may do it: requests of the native API before the judge.

use super::batch::line_of;
use super::properties::whose;
use super::{Asked, channel, keys, refusal, wants_text};
use crate::broker::access::{Action, Bearer};
use crate::dialect::{Caller, Command, Denial, Unheard, access};
use crate::wire::head::{Head, Method};
use crate::wire::query;
use crate::wire::response::Response;

/// Whether the sender may listen to all that is asked for. `channels` is that as it was written, of which the first
/// that is refused is named.
pub fn may_listen(asked: &Asked, channels: &str, caller: Caller) -> Result<(), Denial> {
    let who = caller.identity.bearer();
    let Err(refusal) = caller.access.judge_subscribe(who, asked.items()) else { return Ok(()) };
    if matches!(refusal, Denial::Unheard(_)) {
        return Err(refusal);
    }
    for item in query::split(channels, b',').map(query::decode_path) {
        let item = String::from_utf8_lossy(&item);
        match caller.access.judge_subscribe(who, std::iter::once(&*item)) {
            Ok(()) | Err(Denial::Unheard(_)) => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Err(refusal)
}

/// Whether the listener for clients takes a publication to `rest`, while there is another one for publishers: if rules
/// let others publish to all these channels.
pub fn is_public(head: &Head, rest: &str, caller: Caller) -> bool {
    let channels = rest.strip_prefix('/').unwrap_or_default();
    let by_name = matches!(head.method, Method::Post | Method::Put | Method::Patch | Method::Options)
        && !channels.is_empty();
    let max = caller.config.limits.channels_per_request;
    let mut names = query::split(channels, b',').take(max).map(channel);
    caller.access.is_on()
        && by_name
        && names.all(|name| name.is_ok_and(|name| caller.access.is_public(&name)))
}

/// Whether the sender may do what is asked below `/pub`, where `rest` is the remaining path; else the answer, or what the
/// application has to be asked. What a batch is for is not known from its head: it is judged by [`judge_batch`], unless
/// its sender may publish nowhere.
pub fn may_publish(head: &Head, rest: &str, caller: Caller) -> Result<(), Box<Command<'static>>> {
    let mut unheard = Vec::new();
    judge_publish(head, rest, caller, &mut unheard).map_err(|refused| Box::new(Command::Respond(refused)))?;
    ask(unheard)
}

/// Asks the application about `channels`, if there are any.
fn ask(channels: Vec<Box<str>>) -> Result<(), Box<Command<'static>>> {
    match channels.is_empty() {
        true => Ok(()),
        false => Err(Box::new(Command::Ask(Box::new(Unheard { action: Action::Publish, channels })))),
    }
}

fn judge_publish(
    head: &Head,
    rest: &str,
    caller: Caller,
    unheard: &mut Vec<Box<str>>,
) -> Result<(), Response> {
    let ordinary = || match caller.identity.publisher && caller.admin {
        true => Ok(()),
        false => access::may_publish(head, caller.peer, caller.config),
    };
    let channels = rest.strip_prefix('/').unwrap_or_default();
    if !caller.access.rules.is_open() && !matches!(head.method, Method::Get | Method::Head) {
        // Nobody else tells who is there, nor that nobody was.
        let mut names = query::split(channels, b',').filter_map(|part| channel(part).ok());
        if let Some(name) = names.find(|name| caller.access.rules.told_of(name).is_some()) {
            let refusal = Denial::Forbidden(format!("publishing to {name:?}"));
            return Err(refusal.response(wants_text(head)));
        }
    }
    // Who may publish a value may change it and remove it. Reading it is for who may publish everything.
    let removes = head.method == Method::Delete && keys::named(head).is_ok_and(|key| key.is_some());
    let publishes = matches!(head.method, Method::Post | Method::Put | Method::Patch) || removes;
    if !caller.access.is_on() || !publishes {
        return ordinary().map_err(|denied| match &caller.identity.grant {
            // Their token is good, but never for this.
            Some(_) => Denial::Forbidden("administering channels".into()).response(wants_text(head)),
            None => refusal(head, denied),
        });
    }
    let who = Bearer { publisher: caller.identity.publisher && caller.admin, ..caller.identity.bearer() };
    if channels.is_empty() {
        let may_somewhere = caller.access.rules.is_publishable()
            || who.grant.is_some_and(|grant| !grant.publish.is_empty())
            || who.publisher;
        return match may_somewhere {
            true => Ok(()),
            false => ordinary().map_err(|denied| refusal(head, denied)),
        };
    }
    let max = caller.config.limits.channels_per_request;
    for part in query::split(channels, b',').take(max) {
        let name =
            channel(part).map_err(|(status, detail)| Response::problem(status, &detail, wants_text(head)))?;
        match caller.access.judge_publish(who, &name) {
            Some(Err(Denial::Unheard(found))) => unheard.extend(found.channels),
            Some(verdict) => verdict.map_err(|refusal| refusal.response(wants_text(head)))?,
            None => ordinary().map_err(|denied| refusal(head, denied))?,
        }
    }
    Ok(())
}

/// The batch, if its sender may publish all of it; else the answer, which names the line.
pub fn judge_batch<'b>(head: &Head, body: &[u8], mut batch: Command<'b>, caller: Caller) -> Command<'b> {
    let Command::Publish(publish) = &batch else { return batch };
    if !caller.access.is_on() {
        return batch;
    }
    let who = caller.identity.bearer();
    let ordinary = who.publisher || access::may_publish(head, caller.peer, caller.config).is_ok();
    let mut unheard = Vec::new();
    for (place, (name, _)) in publish.what.messages.iter().enumerate() {
        let verdict = caller.access.judge_publish(who, name).unwrap_or_else(|| match ordinary {
            true => Ok(()),
            false => Err(Denial::Forbidden(format!("publishing to {name:?}"))),
        });
        let Err(refusal) = verdict else { continue };
        let line = |what: String| format!("line {}: {what}", line_of(body, place));
        let refusal = match refusal {
            Denial::Forbidden(what) => Denial::Forbidden(line(what)),
            Denial::NoToken(what) => Denial::NoToken(line(what)),
            Denial::Refused { status, what, reason } => Denial::Refused { status, what: line(what), reason },
            Denial::Unheard(found) => {
                unheard.extend(found.channels);
                continue;
            }
            other => other,
        };
        return respond(head, &refusal);
    }
    match ask(unheard) {
        Ok(()) => {
            if let Command::Publish(publish) = &mut batch {
                publish.what.whose = whose(head, caller);
            }
            batch
        }
        Err(question) => *question,
    }
}

fn respond(head: &Head, refusal: &Denial) -> Command<'static> {
    Command::Respond(refusal.response(wants_text(head)))
}
