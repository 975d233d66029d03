//! `/admin`: what operators look at, and the page that shows it. It is served where `/stats` is, and what it tells only to
//! who may publish everything: the token, or the loopback rule.

use super::{Refused, channel, check_unknown, get_only, not_allowed, options, pages, pairs, refusal};
use crate::conn::{ConnId, Slot};
use crate::dialect::native::Targets;
use crate::dialect::{Caller, Command, Operation, Subscribe, access};
use crate::hub::Start;
use crate::transport::{Streaming, Transport};
use crate::wire::head::{Head, Method};
use crate::wire::query;
use std::net::SocketAddr;

/// The channel on which the page is told each second how the server does. No client can name it, and no pattern matches
/// it; see [`crate::hub::HIDDEN`].
pub const LIVE: &str = "\u{1}admin";

/// What may be done with one connection.
const METHODS_OF_ONE: &str = "GET, HEAD, DELETE, OPTIONS";

/// What an operator asks.
#[derive(Debug)]
pub enum Inquiry {
    /// How the server does.
    Now,
    /// How it did in the last minutes.
    History,
    /// Channels whose name contains `search`, those behind the name `after`.
    Channels {
        /// The last name that was had.
        after: String,
        /// Part of a name.
        search: String,
    },
    /// One channel, with the newest of its messages and values.
    Channel(String),
    /// Connections that have to do with `search`, from the place `from` on.
    Connections {
        /// The first place to look at.
        from: u32,
        /// Part of an address, a technique or the name of a channel.
        search: String,
    },
    /// Everything about a connection.
    Connection(Named),
    /// To end it.
    End(Named),
}

/// How a connection is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// As the list of connections does: `SLOT.GENERATION`.
    Id(ConnId),
    /// By its other end.
    Peer(SocketAddr),
}

impl Named {
    fn parse(text: &str) -> Option<Self> {
        if let Ok(peer) = text.parse() {
            return Some(Self::Peer(peer));
        }
        let (slot, generation) = text.split_once('.')?;
        Some(Self::Id(ConnId {
            slot: Slot::new(query::number(slot)?),
            generation: query::number(generation)?,
        }))
    }
}

/// A request below `/admin`, of which `rest` is the remaining path.
#[cold]
pub fn command<'b>(
    head: &Head<'b>,
    rest: &str,
    caller: Caller,
    targets: &'b mut Targets,
) -> Result<Command<'b>, Refused> {
    if rest.is_empty() {
        return get_only(head, || Ok(Command::Respond(pages::admin(head))));
    }
    if let Err(denied) = access::may_publish(head, caller.peer, caller.config) {
        return Ok(Command::Respond(refusal(head, denied)));
    }
    if rest == "/live" {
        return get_only(head, || {
            let transport = Transport::Stream(Streaming::Lines);
            let asked = targets.one(LIVE, caller.config);
            Ok(Command::Watch(Subscribe {
                asked,
                start: Start::Now,
                transport,
                batch: false,
                callback: None,
            }))
        });
    }
    let inquiry = match rest {
        "/now" => Inquiry::Now,
        "/history" => Inquiry::History,
        "/channels" => {
            let (after, search) = parameters(head, "after")?;
            Inquiry::Channels { after, search }
        }
        "/connections" => {
            let (from, search) = parameters(head, "from")?;
            let from = if from.is_empty() { Some(0) } else { query::number(&from) };
            let from =
                from.ok_or_else(|| (400, "from= is a number: `next` of an earlier answer".to_owned()))?;
            Inquiry::Connections { from, search }
        }
        _ => below(head, rest)?,
    };
    match (head.method, &inquiry) {
        (Method::Delete, Inquiry::End(_)) => Ok(inquire(inquiry)),
        (_, Inquiry::End(named)) => match head.method {
            Method::Get | Method::Head => Ok(inquire(Inquiry::Connection(*named))),
            Method::Options => options(METHODS_OF_ONE, head),
            _ => Ok(not_allowed(METHODS_OF_ONE, head)),
        },
        _ => get_only(head, || Ok(inquire(inquiry))),
    }
}

/// One connection, which may be looked at or ended, or one channel.
fn below(head: &Head, rest: &str) -> Result<Inquiry, Refused> {
    let decoded = |text: &str| String::from_utf8_lossy(&query::decode_path(text)).into_owned();
    if let Some(name) = rest.strip_prefix("/connections/") {
        let unknown =
            || (400, "a connection is named by its id, 12.345, or by its peer, 192.0.2.1:50000".to_owned());
        return Named::parse(&decoded(name)).map(Inquiry::End).ok_or_else(unknown);
    }
    if let Some(name) = rest.strip_prefix("/channels/") {
        return Ok(Inquiry::Channel(channel(name)?.into_owned()));
    }
    Err((404, format!("there is nothing at {}", head.path)))
}

const fn inquire(inquiry: Inquiry) -> Command<'static> {
    Command::Operate(Operation::Inquire(inquiry))
}

/// Where to go on, as `place` says, and what to look for.
fn parameters(head: &Head, place: &str) -> Result<(String, String), Refused> {
    let (mut from, mut search) = (String::new(), String::new());
    for (name, value) in pairs(head)? {
        match &*name {
            "search" => search = value.into_owned(),
            name if name == place => from = value.into_owned(),
            _ => check_unknown(&name, &["search", place])?,
        }
    }
    Ok((from, search))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_named_by_id_or_peer() {
        let id = |slot, generation| Named::Id(ConnId { slot: Slot::new(slot), generation });
        assert_eq!(Named::parse("12.345"), Some(id(12, 345)));
        assert_eq!(Named::parse("192.0.2.1:80"), Some(Named::Peer("192.0.2.1:80".parse().unwrap())));
        assert_eq!(Named::parse("[::1]:80"), Some(Named::Peer("[::1]:80".parse().unwrap())));
        for wrong in ["", "12", "12.", ".5", "192.0.2.1", "-1.5", "+1.5", "1.+5", "12.345.6", "4294967296.1"]
        {
            assert_eq!(Named::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn nobody_can_ask_for_what_operators_are_told() {
        assert!(crate::hub::channel_name(LIVE.as_bytes()).is_err());
        for pattern in ["**", "*", "*/*"] {
            let pattern = crate::hub::Pattern::parse(pattern.as_bytes()).unwrap().unwrap();
            assert!(!pattern.matches(LIVE));
        }
    }
}
