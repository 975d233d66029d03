//! Connections that come, and those that are too many.
//!
//! What has been accepted is finished; what is too much is told so, with a time to come back at that differs from
//! client to client. A few places beyond the limit are kept for that, and for health checks: whoever gets one is
//! heard, and a health check is answered as ever.

use super::{CROWD, Server};
use crate::conn::{ConnId, Connection, Door, Slot, Surplus};
use crate::dialect::access;
use crate::dialect::native;
use crate::time::Now;
use crate::transport;
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
/// Milliseconds after which clients of streams come back when the server leaves, at the earliest.
const RETURN_MS_MIN: u64 = 5000;
/// In so many milliseconds more all of them do.
const RETURN_MS_SPREAD: u64 = 10_000;

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
        Some(ConnId { slot, generation })
    }

    /// Whether the request of a connection that is too many is answered all the same.
    pub(super) fn serves_surplus(surplus: Surplus, head: &Head) -> bool {
        surplus != Surplus::Address && head.path == "/healthz"
    }

    /// Tells a connection that it is too many, and so its request, if one has come.
    #[cold]
    pub(super) fn turn_away(&mut self, now: Now, slot: Slot, head: Option<&Head>) {
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
        match head {
            Some(head) => self.refuse_to(now, slot, Some(head), &softened(problem, head)),
            None => self.refuse(now, slot, &problem),
        }
    }

    /// The answer to who wants to listen while the server leaves.
    #[cold]
    pub(super) fn leaving(&self, slot: Slot, as_text: bool) -> Response {
        let seconds = self.return_ms(slot).div_ceil(1000);
        Response::problem(503, "the server leaves; come back", as_text).with("Retry-After", seconds)
    }

    /// Milliseconds after which the client of a stream comes back that ends because the server leaves: late enough for
    /// another one to have started, as Firefox gives up an EventSource that finds none; not all at once.
    pub(super) fn return_ms(&self, slot: Slot) -> u64 {
        // Multiplied by the golden ratio, neighbouring connections lie far apart.
        let share = u64::from(self.connections[slot].generation.wrapping_mul(0x9E37_79B9));
        RETURN_MS_MIN + ((RETURN_MS_SPREAD * share) >> 32)
    }

    /// Seconds after which a client may try again: at least `least`, spread over so many more, different for
    /// each connection, so that they do not come back together.
    pub(super) fn retry_after(&self, slot: Slot, least: u64, spread: u64) -> u64 {
        least + u64::from(self.connections[slot].generation) % spread
    }

    /// Counts `count` messages to be published by a request. False, and they are not counted, if their address has
    /// published too many in this second.
    pub(super) fn may_publish(&mut self, now: Now, slot: Slot, head: &Head, count: usize) -> bool {
        let peer = self.connections[slot].peer;
        let is_own = self.config.trusted_proxies.is_empty() && self.config.limits.exempt.contains(&peer);
        is_own || self.counted(head, peer).is_none_or(|address| self.count_published(now, address, count))
    }

    /// The address whose messages are counted when they come as `head` does; none if nobody counts them.
    #[cold]
    pub(super) fn counted(&self, head: &Head, peer: IpAddr) -> Option<IpAddr> {
        access::counted(head, peer, &self.config)
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

/// What to answer instead of `refusal`, if that is only for now and an EventSource asks: it takes no for ever.
#[cold]
pub(super) fn softened(refusal: Response, head: &Head) -> Response {
    match refusal.retry_after().filter(|_| native::asks_for_events(head)) {
        Some(seconds) => transport::come_back(seconds * 1000, &refusal),
        None => refusal,
    }
}
