//! The reactor and its store: what goes there, and what comes back.

use super::relay::Relay;
use super::sharing;
use super::store::{self, Order, Store, Told};
use super::{Mail, Mailbox, Reactor};
use crate::broker::LogSettings;
use crate::config::{Config, Promise};
use crate::id::Seed;
use crate::log::{Condition, Figures, Proposal};
use crate::server::Server;
use crate::time::Now;
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::time::Duration;

/// A server, and what keeps its history or shares it.
pub(super) type Begun = (Server, Option<Store>, Option<Relay>);

/// A server with the history on disk, if there is to be one: what it holds is on its way.
pub(super) fn begin(config: Config, seed: Seed, now: Now, mailbox: &Mailbox) -> io::Result<Begun> {
    let Some(directory) = config.store.dir.clone() else {
        let (server, relay) = sharing::begin(config, seed, now, mailbox)?;
        return Ok((server, None, relay));
    };
    let (log, settings) = settings(&config);
    let mailbox = mailbox.clone();
    let tell = move |told, figures| mailbox.send(Mail::Store(told, Box::new(figures)));
    let store = store::start(&directory, settings, seed, tell)
        .map_err(|error| io::Error::other(refusal(&directory, &error)))?;
    let mut server = Server::new(config, seed, now);
    server.use_log(log);
    Ok((server, Some(store), None))
}

/// Goes on with the history on disk, if there is one, of which `server` has in memory all that it has to have.
pub(super) fn go_on(server: &mut Server, now: Now, mailbox: &Mailbox) -> io::Result<Option<Store>> {
    let Some(directory) = server.config().store.dir.clone() else { return Ok(None) };
    let newest = server.hub().newest();
    let (log, settings) = settings(server.config());
    let mailbox = mailbox.clone();
    let tell = move |told, figures| mailbox.send(Mail::Store(told, Box::new(figures)));
    let fresh = Seed { epoch: newest.epoch, secret: 0 };
    let (store, opening, is_new) = store::go_on(&directory, settings, fresh, tell)
        .map_err(|error| io::Error::other(refusal(&directory, &error)))?;
    if is_new || opening.epoch != newest.epoch || opening.next <= newest.seq {
        return Err(io::Error::other(refusal(&directory, &"this is not the history that was in use")));
    }
    server.go_on_with_log(now, opening, log);
    Ok(Some(store))
}

fn settings(config: &Config) -> (LogSettings, store::Settings) {
    let log = LogSettings {
        behind: config.store.answer == Promise::Behind,
        staged_bytes: config.store.staged_bytes,
        lag_ms: config.store.lag_ms,
        shared: None,
    };
    let settings = store::Settings {
        promise: config.store.answer,
        pause_ms: config.store.pause_ms,
        keys_max: config.limits.idempotency_keys,
        dead_max: store::DEAD_MAX,
        channels_max: config.limits.channels.saturating_add(config.limits.tombstones),
    };
    (log, settings)
}

/// Why the server cannot go on with its history.
fn refusal(directory: &Path, why: &impl Display) -> String {
    format!("store.dir {}: {why}", directory.display())
}

/// How long to wait for a word of a store that ends.
const STORE_PAUSE: Duration = Duration::from_millis(5);

impl Reactor {
    /// Waits until all that was given to the store is there.
    pub(super) fn end_store(self) {
        let Self { store, relay, mail, .. } = self;
        // It must not wait for us.
        drop(mail);
        if let Some(store) = store {
            store.end();
        }
        if let Some(relay) = relay {
            relay.end();
        }
    }

    /// Lets go of the history on disk, when all that was given to it is there and whoever waited for that has been
    /// answered.
    pub(super) fn close_store(&mut self, now: Now) {
        let Some(store) = self.store.take() else { return };
        store.close();
        while !store.has_ended() {
            if let Ok(mail) = self.mail.recv_timeout(STORE_PAUSE) {
                self.hear_last(now, mail);
            }
        }
        while let Ok(mail) = self.mail.try_recv() {
            self.hear_last(now, mail);
        }
        store.end();
        self.take_effects(now);
    }

    fn hear_last(&mut self, now: Now, mail: Mail) {
        match mail {
            Mail::Store(told, figures) => self.hear(now, told, *figures),
            // The demo goes on elsewhere.
            Mail::Publish { .. } | Mail::Relay(_) | Mail::Word { .. } => {}
        }
    }

    /// Takes the history on disk up again.
    pub(super) fn reopen_store(&mut self, now: Now) -> io::Result<()> {
        self.store = go_on(&mut self.server, now, &self.mailbox)?;
        Ok(())
    }

    /// Gives what is published to the store, or to the relay.
    pub(super) fn append(&self, proposal: Proposal) {
        if let Some(relay) = &self.relay {
            return relay.send(proposal);
        }
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
                Told::Opened { opening, is_new } => {
                    match is_new {
                        true => log::info!("store: a new history, epoch {}", opening.epoch),
                        false => log::info!("store: loading the history of epoch {}", opening.epoch),
                    }
                    self.server.log_opened(now, opening);
                }
                Told::Condition(condition) => {
                    if let Condition::Failed(why) = &condition {
                        let directory = self.running.store.dir.as_deref().unwrap_or_else(|| Path::new(""));
                        self.failure = Some(refusal(directory, why));
                    }
                    self.server.log_condition(now, condition);
                }
            }
        }
        self.server.note_figures(figures);
    }
}
