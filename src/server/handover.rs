//! A server hands over to the next: all that it knows of connections, channels and sessions goes over as bytes.
//!
//! What goes over is values, field by field (see [`crate::carry`]), with the places that things have in their tables: so
//! whatever refers to another thing still does, and the next server goes on in the midst of whatever the first was doing.
//! What it is told by its own settings, or can find out again, does not go over. Parting changes nothing: if nobody
//! adopts what was parted with, the first server goes on.

use super::Server;
use crate::carry::{Carry, Damaged, Parcel, Resume, Shape, Unpack, carry, resume};
use crate::config::Config;
use crate::conn::{ConnId, Slot};
use crate::hub::ROOM;
use crate::id::Seed;
use crate::time::Now;

/// To be raised when something that goes over means something else than before. What it consists of, its
/// [`Shape`] tells by itself.
const MEANING: u32 = 1;

/// A number for what goes over: two servers understand each other if they have the same.
pub fn format() -> u128 {
    let mut shape = Shape::default();
    shape.add(&MEANING.to_string());
    Seed::shape(&mut shape);
    Settings::shape(&mut shape);
    Server::shape(&mut shape);
    shape.digest()
}

/// What it waits for while messages are being stored.
pub const STORING: &str = "messages are being stored";

/// The settings of which the next server has to know what they were.
struct Settings {
    /// What tells whether publish tokens are the same, without telling them.
    publish_tokens: u128,
    /// The same of rules and keys.
    access: u128,
}

carry! {
    struct Settings { publish_tokens, access }
}

impl Server {
    /// All connections.
    pub fn ids(&self) -> Vec<ConnId> {
        self.connections.iter().map(|(slot, _)| self.id(slot)).collect()
    }

    /// Why it cannot part at the moment, if it cannot. To be asked between two turns, when all effects have been taken.
    pub fn parting_waits_for(&self) -> Option<&'static str> {
        match () {
            () if self.drain.begun => Some("it leaves already"),
            // The next one reads what is shared, and clients resume there.
            () if self.broker.is_shared() => Some("its history is shared with other servers"),
            () if self.broker.is_loading() => Some("the history is being loaded"),
            () if self.broker.has_open_proposals() => Some(STORING),
            () => None,
        }
    }

    /// All that another server has to know to go on in its place.
    pub fn part(&self) -> Vec<u8> {
        debug_assert!(self.writer.out.is_empty() && self.writer.body.is_none(), "nobody is being served");
        let mut parcel = Parcel::default();
        self.seed.pack(&mut parcel);
        self.settings().pack(&mut parcel);
        self.pack(&mut parcel);
        parcel.into_bytes()
    }

    /// The server that goes on where another one has parted, with its own settings.
    pub fn adopt(config: Config, state: &[u8], now: Now) -> Result<Self, Damaged> {
        let mut from = Unpack::new(state);
        let seed = Seed::unpack(&mut from)?;
        let before = Settings::unpack(&mut from)?;
        let mut server = Self::new(config, seed, now);
        server.resume(&mut from)?;
        from.end()?;
        server.settle_in(before);
        server.ask_anew(now);
        Ok(server)
    }

    /// Makes what follows from the settings and what came over.
    fn settle_in(&mut self, before: Settings) {
        let settings = self.settings();
        self.connections.reserve(ROOM);
        self.broker.hub.make_room();
        self.watch_again();
        self.broker.hub.refit();
        if self.mercure.is_some() {
            self.serve_mercure();
        }
        self.writer.cors.renew(&self.config.cors, self.access.is_on());
        self.count_addresses();
        match self.config.log.access {
            true => _ = self.telemetry.access_log.get_or_insert_default(),
            false => self.telemetry.access_log = None,
        }
        match self.access.is_on() {
            true => {
                let publishers_left = settings.publish_tokens != before.publish_tokens;
                if settings.access != before.access {
                    self.access.hook.forget_said();
                    self.access.tokens.forget_verified();
                }
                if publishers_left || settings.access != before.access {
                    self.rights.judge_all(publishers_left);
                }
            }
            false => self.rights.forget(),
        }
    }

    /// Has everything handled again whose bytes waited for the application's word: the process that asked is no more.
    fn ask_anew(&mut self, now: Now) {
        let slots = self.connections.iter().map(|(slot, _)| slot);
        let asking: Vec<Slot> = slots.filter(|slot| self.is_asking(*slot)).collect();
        let ids = asking.iter().map(|slot| self.id(*slot)).collect::<Vec<_>>();
        self.access.hook.go_on(now.at, ids.iter().copied());
        for id in ids {
            self.handle_later(now, id);
        }
    }

    fn settings(&self) -> Settings {
        let key = self.seed.key("settings");
        let publish_tokens = key.digest(&self.config.publish.token);
        let access = key.digest(self.access.judges_by());
        Settings { publish_tokens, access }
    }
}

resume! {
    Server {
        carried: connections, generations, wheel, readers, aside;
        resumed: memory, broker, dialects, mercure, access, rights, queues, writer, telemetry;
        // What the settings give, what is found out again, and what is empty when a server parts.
        given: seed, config, addresses, pending, drain
    }
}
