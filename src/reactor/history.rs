//! The reactor and its store: what goes there, and what comes back.

use super::store::{self, Order, Store, Told};
use super::{Mail, Mailbox, Reactor};
use crate::broker::LogSettings;
use crate::config::{Config, Promise};
use crate::id::Seed;
use crate::log::{Condition, Figures, Proposal};
use crate::server::Server;
use crate::time::Now;
use std::io;

/// A server with the history on disk, if there is to be one: what it holds is on its way.
pub(super) fn begin(
    config: Config,
    mut seed: Seed,
    now: Now,
    mailbox: &Mailbox,
) -> io::Result<(Server, Option<Store>)> {
    let Some(opened) = open(&config, seed)? else { return Ok((Server::new(config, seed, now), None)) };
    seed.epoch = opened.opening.epoch;
    let settings = LogSettings {
        behind: config.store.answer == Promise::Behind,
        staged_bytes: config.store.staged_bytes,
        lag_ms: config.store.lag_ms,
    };
    let mut server = Server::new(config, seed, now);
    server.use_log(now, opened.opening, settings);
    let mailbox = mailbox.clone();
    let store = opened.start(move |told, figures| mailbox.send(Mail::Store(told, Box::new(figures))))?;
    Ok((server, Some(store)))
}

/// Opens the history on disk, if there is to be one; a new one is named `fresh`.
fn open(config: &Config, fresh: Seed) -> io::Result<Option<store::Opened>> {
    let Some(directory) = &config.store.dir else { return Ok(None) };
    let settings = store::Settings {
        promise: config.store.answer,
        pause_ms: config.store.pause_ms,
        keys_max: config.limits.idempotency_keys,
        dead_max: store::DEAD_MAX,
        channels_max: config.limits.channels.saturating_add(config.limits.tombstones),
    };
    let opened = store::open(directory, settings, fresh)
        .map_err(|error| io::Error::other(format!("store.dir {}: {error}", directory.display())))?;
    match opened.is_new {
        true => log::info!("store: a new history in {}, epoch {}", directory.display(), opened.opening.epoch),
        false => log::info!("store: loading the history in {}", directory.display()),
    }
    Ok(Some(opened))
}

impl Reactor {
    /// Waits until all that was given to the store is there.
    pub(super) fn end_store(self) {
        let Self { store, mail, .. } = self;
        // It must not wait for us.
        drop(mail);
        if let Some(store) = store {
            store.end();
        }
    }

    /// Gives what is published to the store.
    pub(super) fn append(&self, proposal: Proposal) {
        if let Some(store) = &self.store {
            let gauges = self.server.hub().gauges();
            // Latest values may be in their rings, too: then there is a little less to sweep than there seems to be kept.
            let live = (gauges.messages + gauges.keys) as u64;
            store.send(Order::Append { proposal, live });
        }
    }

    /// Takes what the store tells.
    #[cold]
    pub(super) fn hear(&mut self, now: Now, told: Vec<Told>, figures: Figures) {
        for told in told {
            match told {
                Told::Tail(batch) => self.server.apply(now, batch, &mut self.sockets),
                Told::Refused { upto, why } => {
                    self.server.refuse_proposals(now, upto, &why, &mut self.sockets);
                }
                Told::Look(rows) => {
                    let (dead, lost) = self.server.not_kept(&rows);
                    if let Some(store) = &self.store {
                        store.send(Order::Kept { dead, lost });
                    }
                }
                Told::Condition(condition) => {
                    if let Condition::Failed(why) = &condition {
                        self.failure = Some(why.clone());
                    }
                    self.server.log_condition(condition);
                }
            }
        }
        self.server.note_figures(figures);
    }
}
