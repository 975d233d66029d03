//! The reactor and its relay: a history that is shared with other servers.

use super::relay::{Relay, Settings, Told};
use super::{Mail, Mailbox, Reactor};
use crate::broker::LogSettings;
use crate::config::Config;
use crate::id::Seed;
use crate::log::{Condition, NodeId};
use crate::server::Server;
use crate::time::Now;
use std::io;

/// A server, and its relay if its history is to be shared: it is on its way then, as soon as it can be reached.
pub(super) fn begin(
    config: Config,
    seed: Seed,
    now: Now,
    mailbox: &Mailbox,
) -> io::Result<(Server, Option<Relay>)> {
    let node = NodeId(getrandom::u64().map_err(io::Error::other)?);
    let Some(settings) = Settings::of(&config, seed, node)? else {
        return Ok((Server::new(config, seed, now), None));
    };
    let url = config.engine.url.as_deref().unwrap_or_default();
    log::info!("engine: looking for the history \"{}\" at {url}; this is node {node}", config.engine.name);
    let sharing = LogSettings {
        behind: false,
        staged_bytes: config.engine.staged_bytes,
        lag_ms: 0,
        shared: Some(node),
    };
    let mut server = Server::new(config, seed, now);
    server.use_log(sharing);
    let mailbox = mailbox.clone();
    let relay = Relay::start(settings, move |told| mailbox.send(Mail::Relay(Box::new(told))))?;
    Ok((server, Some(relay)))
}

impl Reactor {
    /// Takes what the relay tells.
    pub(super) fn hear_relay(&mut self, now: Now, told: Told) {
        let (server, sink) = (&mut self.server, &mut self.sockets);
        match told {
            Told::Opened(opening) => {
                log::info!("engine: found; epoch {}, the next number: {}", opening.epoch, opening.next);
                server.log_opened(now, opening);
            }
            Told::Tails(tails, figures) => {
                server.apply_shared(now, tails, sink);
                server.note_figures(*figures);
            }
            Told::Repeated { ticket, first, answer } => server.repeated(now, ticket, first, &answer, sink),
            Told::Outdated(ticket) => server.outdated(now, ticket, sink),
            Told::Refused { tickets, why } => server.refuse_shared(now, &tickets, &why, sink),
            Told::Revoked(revoked) => server.take_revoked(now, revoked),
            Told::Condition(condition) => {
                if let Condition::Failed(why) = &condition {
                    self.failure = Some(why.clone());
                }
                server.log_condition(now, condition);
            }
        }
    }
}
