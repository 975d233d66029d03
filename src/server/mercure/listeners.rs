//! Who listens by a grant, or is told of: the streams that end with their grants, and what others are told of them.

use super::super::{Server, Sink};
use super::listener::Listener;
use super::untold::Untold;
use crate::broker::access::{Draft, MercureGrant, Revocation};
use crate::carry::resume;
use crate::conn::{Phase, Slot, Stream};
use crate::hub::Selection;
use crate::id::{Secrets, Seed};
use crate::time::{Instant, Now};
use crate::transport::{self, Ending};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What never ends.
const NEVER: u64 = u64::MAX;
/// When a grant ends that was taken back.
const REVOKED: u64 = 0;

/// What is known of streams of Mercure.
#[derive(Debug)]
pub(in crate::server) struct Mercure {
    pub(super) listeners: BTreeMap<Slot, Rc<Listener>>,
    /// When their grants end, in milliseconds since 1970.
    ends: BTreeSet<(u64, Slot)>,
    /// What subscribers are named by.
    names: Secrets,
    /// Of whom nobody has been told yet.
    pub(super) untold: Untold,
}

resume! {
    Mercure {
        carried: listeners, ends, untold;
        resumed: names;
        given:
    }
}

impl Mercure {
    pub(in crate::server) fn new(seed: Seed) -> Self {
        let names = Secrets::new(seed.key("mercure subscribers"));
        Self { listeners: BTreeMap::new(), ends: BTreeSet::new(), names, untold: Untold::default() }
    }

    /// How many listen by a grant, or are told of.
    pub(in crate::server) fn listeners(&self) -> usize {
        self.listeners.len()
    }

    /// Those who are known.
    #[cfg(any(test, feature = "check"))]
    pub(in crate::server) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.listeners.keys().copied()
    }
}

/// A UUID of version 4 (RFC 9562) out of random bits.
fn uuid(bits: u128) -> Box<str> {
    let bits = bits & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62;
    let hex = format!("{bits:032x}");
    format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]).into()
}

fn unix_ms(now: Now) -> u64 {
    now.unix * 1000 + u64::from(now.unix_ms)
}

impl Server {
    /// Keeps what has to be known of a stream, and tells of it who may know.
    pub(super) fn note_listener(
        &mut self,
        slot: Slot,
        selection: Rc<Selection>,
        (draft, has_any_url): (Draft, bool),
        grant: Option<Rc<MercureGrant>>,
    ) {
        let is_told = self.config.mercure.subscriptions;
        let Some(mercure) = &mut self.mercure else { return };
        if !is_told && grant.is_none() {
            return;
        }
        if let Some(grant) = grant.as_ref().filter(|grant| grant.ends_ms != NEVER) {
            mercure.ends.insert((grant.ends_ms, slot));
        }
        let name = is_told.then(|| uuid(mercure.names.draw()));
        let listener = Rc::new(Listener { name, selection, draft, has_any_url, grant });
        if is_told {
            mercure.untold.push(Rc::clone(&listener), true);
        }
        mercure.listeners.insert(slot, listener);
    }

    /// Notes that a stream has ended, whoever ended it.
    pub(in crate::server) fn mercure_left(&mut self, slot: Slot) {
        let Some(mercure) = &mut self.mercure else { return };
        let Some(listener) = mercure.listeners.remove(&slot) else { return };
        if let Some(grant) = &listener.grant {
            mercure.ends.remove(&(grant.ends_ms, slot));
            mercure.ends.remove(&(REVOKED, slot));
        }
        if listener.name.is_some() {
            mercure.untold.push(listener, false);
        }
    }

    /// When the next grant ends by which somebody listens. The wall clock may step until then.
    pub(in crate::server) fn next_mercure_end(&self, now: Now) -> Instant {
        let next = self.mercure.as_ref().and_then(|mercure| mercure.ends.first());
        next.map_or(Instant::NEVER, |&(ends, _)| now.at + ends.saturating_sub(unix_ms(now)))
    }

    /// Ends those who listen by a grant that has ended.
    pub(in crate::server) fn end_mercure_grants(&mut self, now: Now, sink: &mut impl Sink) {
        while let Some(&(ends, slot)) = self.mercure.as_ref().and_then(|mercure| mercure.ends.first())
            && ends <= unix_ms(now)
        {
            if let Some(mercure) = &mut self.mercure {
                mercure.ends.remove(&(ends, slot));
            }
            let why = if ends == REVOKED { Ending::Revoked } else { Ending::Expired };
            self.end_mercure(now, slot, why, sink);
        }
    }

    /// Ends a stream whose right has ended, in good order: it shall not simply come back.
    fn end_mercure(&mut self, now: Now, slot: Slot, why: Ending, sink: &mut impl Sink) {
        let Some(connection) = self.connections.get(slot) else { return };
        let Phase::Streaming(Stream { subscriber, look, .. }) = connection.phase else { return };
        // What it has not taken it may not have any more.
        if connection.output.is_some() {
            return self.close(now.at, slot);
        }
        let mut bytes = transport::farewell(look, why, self.broker.hub.position(subscriber).into());
        bytes.extend(transport::ending(look, None));
        self.log_bytes(slot, bytes.len());
        self.leave(now.at, slot);
        self.connections[slot].closing = true;
        self.send_bytes(now.at, slot, &bytes, sink);
        if self.connections.get(slot).is_some_and(|connection| !matches!(connection.phase, Phase::Closed)) {
            self.arm(slot, now.at);
        }
    }

    /// Takes rights of Mercure back. Returns how many listened by them; their grants end with the turn.
    pub(in crate::server) fn revoke_mercure(&mut self, now: Now, revocation: &Revocation) -> usize {
        self.access.mercure.revoke(revocation.clone(), now.unix);
        let Some(mercure) = &mut self.mercure else { return 0 };
        let mut count = 0;
        for (slot, listener) in &mercure.listeners {
            if let Some(grant) = listener.grant.as_ref().filter(|grant| grant.is_concerned(revocation)) {
                mercure.ends.remove(&(grant.ends_ms, *slot));
                mercure.ends.insert((REVOKED, *slot));
                count += 1;
            }
        }
        count
    }
}
