//! Connections that come, and those that are too many.
//!
//! What has been accepted is finished; what is too much is told so, with a time to come back at that differs from
//! client to client. A few places beyond the limit are kept for that, and for health checks: whoever gets one is
//! heard, and a health check is answered as ever.

use super::{CROWD, Server};
use crate::conn::{ConnId, Connection, Door, Surplus};
use crate::dialect::access::{self, is_exempt};
use crate::time::Now;
use crate::wire::head::Head;
use crate::wire::response::Response;
use std::net::IpAddr;

/// Connections beyond `limits.connections` that are heard; further ones are closed without a word.
pub const SURPLUS_MAX: usize = 64;
/// Connections by the admin listener that find a place even then.
pub const OPERATORS_MAX: usize = 16;
/// Places for connections beyond `limits.connections`.
pub const RESERVED: usize = SURPLUS_MAX + OPERATORS_MAX;
/// Connections beyond `limits.connections_per_address` that are heard.
pub const SURPLUS_PER_ADDRESS_MAX: usize = 4;
/// Milliseconds in which a connection that is too many has to say what it wants.
pub const SURPLUS_MS: u64 = 2000;

/// What an address is told that publishes too much.
pub(super) const TOO_MANY_MESSAGES: &str =
    "your address publishes more messages a second than limits.publishes_per_second";

impl Server {
    /// Takes a new connection. `None` if it must be closed at once.
    #[inline(never)]
    pub fn accept(&mut self, now: Now, peer: IpAddr, admin: bool) -> Option<ConnId> {
        let beyond = self.connections.len().saturating_sub(self.config.limits.connections);
        if beyond >= SURPLUS_MAX + if admin { OPERATORS_MAX } else { 0 } {
            self.hub.stats.connections_refused += 1;
            return None;
        }
        let of_address = self.addresses.enter(peer, &self.config);
        let max = self.config.limits.connections_per_address;
        if of_address > max + SURPLUS_PER_ADDRESS_MAX {
            self.addresses.leave(peer, &self.config);
            self.hub.stats.connections_refused_per_address += 1;
            return None;
        }
        self.hub.stats.connections_accepted += 1;
        self.generations = self.generations.wrapping_add(1);
        let generation = self.generations;
        let door = match () {
            () if of_address > max => Door::Closed(Surplus::Address),
            () if admin => Door::Admin,
            () if self.connections.len() >= self.config.limits.connections => Door::Closed(Surplus::Full),
            () if self.memory.is_short() => Door::Closed(Surplus::Memory),
            () => Door::Clients,
        };
        let slot = self.connections.insert(Connection::new(generation, peer, door, now.at));
        if self.connections.len() >= CROWD {
            self.ebb = self.ebb.max(Some(self.connections.len() / 4));
        }
        self.arm(slot, now.at);
        Some(ConnId { slot: slot as u32, generation })
    }

    /// Whether the request of a connection that is too many is answered all the same.
    pub(super) fn serves_surplus(surplus: Surplus, head: &Head) -> bool {
        surplus != Surplus::Address && head.path == "/healthz"
    }

    /// Tells a connection that it is too many.
    #[cold]
    pub(super) fn turn_away(&mut self, now: Now, slot: usize) {
        let Some(surplus) = self.connections[slot].door.surplus() else { return };
        let (status, detail) = match surplus {
            Surplus::Full => (503, "limits.connections is reached; try again later"),
            Surplus::Memory => (503, "memory is short (limits.memory); try again later"),
            Surplus::Address => (429, "limits.connections_per_address is reached; try again later"),
        };
        match surplus {
            Surplus::Address => self.hub.stats.connections_refused_per_address += 1,
            Surplus::Full | Surplus::Memory => self.hub.stats.connections_refused += 1,
        }
        let problem =
            Response::problem(status, detail, false).with("Retry-After", self.retry_after(slot, 1, 10));
        self.refuse(now, slot, &problem);
    }

    /// Seconds after which a client may try again: at least `least`, spread over so many more, different for
    /// each connection, so that they do not come back together.
    pub(super) fn retry_after(&self, slot: usize, least: u64, spread: u64) -> u64 {
        least + u64::from(self.connections[slot].generation) % spread
    }

    /// Counts `count` messages to be published by a request. False, and they are not counted, if their address has
    /// published too many in this second.
    pub(super) fn may_publish(&mut self, now: Now, slot: usize, head: &Head, count: usize) -> bool {
        let peer = self.connections[slot].peer;
        let is_own = self.config.trusted_proxies.is_empty() && self.config.limits.exempt.contains(&peer);
        is_own || self.counted(head, peer).is_none_or(|address| self.count_published(now, address, count))
    }

    /// The address whose messages are counted when they come as `head` does; none if nobody counts them. A client
    /// that a proxy does not name is counted as that proxy, which itself would be exempt.
    #[cold]
    pub(super) fn counted(&self, head: &Head, peer: IpAddr) -> Option<IpAddr> {
        match access::client(head, peer, &self.config) {
            Some(client) => Some(client).filter(|client| !is_exempt(*client, &self.config)),
            None => Some(peer),
        }
    }

    /// Counts messages of `address`, unless they are too many.
    #[cold]
    pub(super) fn count_published(&mut self, now: Now, address: IpAddr, count: usize) -> bool {
        let (so_far, count) =
            (self.publishes.so_far(now.at, address), u32::try_from(count).unwrap_or(u32::MAX));
        if so_far.saturating_add(count) > self.config.limits.publishes_per_second {
            self.hub.stats.publications_refused += 1;
            return false;
        }
        self.publishes.add(now.at, address, count);
        true
    }
}
