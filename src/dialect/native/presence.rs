//! `GET /presence/{channel}`: who is on a channel.

use super::{Refused, channel, check_unknown, pairs, wants_text};
use crate::broker::access::Bearer;
use crate::config::Shows;
use crate::dialect::{Caller, Command, Denial, Operation};
use crate::wire::head::Head;

/// Reads the question, whose answer is for those who may listen to that channel; `encoded` is the channel as the path has it.
pub fn read(head: &Head, encoded: &str, caller: Caller) -> Result<Command<'static>, Refused> {
    let name = channel(encoded)?;
    let mut has_members = true;
    for (parameter, _) in pairs(head)? {
        match &*parameter {
            "count" => has_members = false,
            _ => check_unknown(&parameter, &["count", "access_token"])?,
        }
    }
    let shows = caller.access.rules.presence(&name);
    if shows == Shows::Nobody {
        return Err((404, "the rule of this channel has no presence".into()));
    }
    let who: Bearer = caller.identity.bearer();
    match caller.access.judge_subscribe(who, std::iter::once(&*name)) {
        Ok(()) => {}
        Err(Denial::Unheard(unheard)) => return Ok(Command::Ask(unheard)),
        Err(denial) => return Ok(Command::Respond(denial.response(wants_text(head)))),
    }
    let names = shows == Shows::Everybody || who.publisher || who.subject().is_some();
    Ok(Command::Operate(Operation::Presence { channel: name.into_owned(), names, has_members }))
}
