//! Connections that come, and those that are too many.
//!
//! What has been accepted is finished; what is too much is told so, with a time to come back at that differs from
//! client to client. A few places beyond the limit are kept for that, and for health checks: whoever gets one is
//! heard, and a health check is answered as ever.

use super::addresses::Addresses;
use super::ending::Seen;
use super::{CROWD, Server};
use crate::broker::{Client, is_exempt};
use crate::conn::{ConnId, Connection, Door, Phase, Slot, Surplus};
use crate::dialect::native;
use crate::time::Now;
use crate::transport;
use crate::wire::head::{self, Head};
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

impl Server {
    /// Takes a new connection. `None` if it must be closed at once.
    #[inline(never)]
    pub fn accept(&mut self, now: Now, peer: IpAddr, admin: bool) -> Option<ConnId> {
        let beyond = self.connections.len().saturating_sub(self.config.limits.connections);
        if beyond >= SURPLUS_MAX + if admin { OPERATORS_MAX } else { 0 } {
            self.broker.stats.connections_refused += 1;
            return None;
        }
        let of_address = self.addresses.enter(peer, &self.config);
        let max = self.config.limits.connections_per_address;
        if of_address > max + SURPLUS_PER_ADDRESS_MAX {
            self.addresses.leave(peer, &self.config);
            self.broker.stats.connections_refused_per_address += 1;
            return None;
        }
        self.broker.stats.connections_accepted += 1;
        self.generations = self.generations.wrapping_add(1);
        let generation = self.generations;
        let door = match () {
            () if of_address > max => Door::Closed(Surplus::Address),
            () if admin => Door::Admin,
            () if self.connections.len() >= self.config.limits.connections => Door::Closed(Surplus::Full),
            () if self.is_short_for(peer, admin) => Door::Closed(Surplus::Memory),
            () => self.door_of(peer),
        };
        let slot = self.connections.insert(Connection::new(generation, peer, door, now.at));
        if self.connections.len() >= CROWD {
            self.memory.ebb = self.memory.ebb.max(Some(self.connections.len() / 4));
        }
        self.arm(slot, now.at);
        Some(ConnId { slot, generation })
    }

    /// How a connection of `peer` came in by the listener for clients.
    fn door_of(&self, peer: IpAddr) -> Door {
        if is_exempt(peer, &self.config) { Door::Exempt } else { Door::Clients }
    }

    /// Counts connections by their addresses anew, as the settings say whom limits hold for.
    pub(super) fn count_addresses(&mut self) {
        self.addresses = Addresses::default();
        let slots: Vec<Slot> = self.connections.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let Connection { peer, door, .. } = self.connections[slot];
            self.addresses.enter(peer, &self.config);
            if matches!(door, Door::Clients | Door::Exempt) {
                self.connections[slot].door = self.door_of(peer);
            }
        }
    }

    /// Whether limits per address do not hold for the peer of a connection.
    #[inline]
    pub(super) fn is_exempt(&self, slot: Slot) -> bool {
        let connection = &self.connections[slot];
        match connection.door {
            Door::Clients => false,
            Door::Exempt => true,
            Door::Admin | Door::Closed(_) => is_exempt(connection.peer, &self.config),
        }
    }

    /// Whose budget pays for a request on a connection.
    pub(super) fn client(&self, slot: Slot, head: &Head) -> Client {
        let Connection { peer, door, .. } = self.connections[slot];
        match door {
            Door::Exempt if self.config.trusted_proxies.is_empty() => {
                Client { address: peer, counted: false }
            }
            _ => Client::of(head, peer, &self.config),
        }
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
            Surplus::Address => self.broker.stats.connections_refused_per_address += 1,
            Surplus::Full | Surplus::Memory => self.broker.stats.connections_refused += 1,
        }
        let problem =
            Response::problem(status, detail, false).with("Retry-After", self.retry_after(slot, 1, 10));
        match head {
            Some(head) => self.refuse_to(now, slot, Seen::Head(head), &softened(problem, head)),
            None => self.refuse_to(now, slot, Seen::Nothing, &problem),
        }
    }

    /// Answers whose request has waited for its turn for too long: as a rule because the history is still on its way.
    #[cold]
    pub(super) fn refuse_waiting(&mut self, now: Now, slot: Slot) {
        let waiting = self.take_waiting(slot);
        let detail = match self.broker.is_loading() {
            true => "the history is not there yet; try again later",
            false => "the server is overloaded; try again later",
        };
        let problem =
            Response::problem(503, detail, false).with("Retry-After", self.retry_after(slot, 1, 10));
        let mut slots = head::slots();
        match head::parse_front(&waiting, &mut slots) {
            Some((head, _)) => self.refuse_to(now, slot, Seen::Head(&head), &softened(problem, &head)),
            None => self.refuse_to(now, slot, Seen::Nothing, &problem),
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

    /// Who asks on a connection that is open for long: its peer, or whom the proxy named when it began.
    pub(super) fn client_of(&self, slot: Slot) -> Client {
        let named = if self.aside.clients.is_empty() { None } else { self.aside.clients.get(&slot).copied() };
        named.unwrap_or_else(|| Client::direct(self.connections[slot].peer, &self.config))
    }

    /// For whom what is done for a connection is counted: its peer, or whom the trusted proxy there has named. Nobody, if
    /// limits per address do not hold for them.
    #[inline(always)]
    pub(super) fn payer(&self, slot: Slot) -> Option<IpAddr> {
        let Connection { peer, door, .. } = self.connections[slot];
        match door {
            Door::Clients => Some(peer),
            Door::Exempt if self.aside.clients.is_empty() => None,
            Door::Exempt | Door::Admin | Door::Closed(_) => self.payer_aside(slot),
        }
    }

    #[inline(never)]
    fn payer_aside(&self, slot: Slot) -> Option<IpAddr> {
        match self.is_exempt(slot) {
            false => Some(self.connections[slot].peer),
            true => {
                self.aside.clients.get(&slot).filter(|client| client.counted).map(|client| client.address)
            }
        }
    }

    /// Whether a proxy may be at the other end, which tells of each request who asks.
    #[inline]
    pub(super) fn is_proxied(&self, slot: Slot) -> bool {
        self.connections[slot].door == Door::Exempt && !self.config.trusted_proxies.is_empty()
    }

    /// Looks who asks, when a request has come by a proxy, before it is decided whose turn it is: the request before it
    /// may have been somebody else's.
    #[cold]
    pub(super) fn look_who_asks(&mut self, slot: Slot, bytes: &[u8]) {
        let connection = &self.connections[slot];
        if !matches!(connection.phase, Phase::Idle) || connection.input.is_some() {
            return;
        }
        let mut slots = head::slots();
        let asks = head::parse_front(bytes, &mut slots).map(|(head, _)| self.client(slot, &head));
        // Of which only a part is there may be anybody's.
        let asks = asks.unwrap_or_else(|| Client::direct(connection.peer, &self.config));
        self.note_client(slot, asks);
    }

    /// Notes who asks on a connection, as far as its peer does not tell.
    #[cold]
    pub(super) fn note_client(&mut self, slot: Slot, client: Client) {
        match client == Client::direct(self.connections[slot].peer, &self.config) {
            true => _ = self.aside.clients.remove(&slot),
            false => _ = self.aside.clients.insert(slot, client),
        }
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
