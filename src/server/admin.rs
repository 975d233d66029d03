//! What operators are told: how the server does, second by second, its channels, its connections.
//!
//! Lists come in parts: a request looks at so many places at most, whatever it finds there, and says where to go on. So
//! nobody waits for who looks.

use super::telemetry::{TECHNIQUES, technique};
use super::{Server, Sink};
use crate::conn::{ConnId, Connection, Phase, Slot};
use crate::dialect::native::admin::{Inquiry, LIVE, Named};
use crate::hub::{Data, Message};
use crate::stats::histogram::BOUNDS_US;
use crate::time::{Instant, Now};
use crate::wire::media;
use crate::wire::response::Response;
use serde_json::{Map, Value, json};
use std::net::SocketAddr;

/// Rows of a list in one answer.
const ROWS: usize = 100;
/// Places that are looked at for one answer.
const LOOKS: usize = 4096;
/// Connections whose peers are compared with an address and a port, for which the system has to be asked.
const PEERS: usize = 4096;
/// Channels of a connection that are told in a list, and that are searched; and when one connection is looked at.
const SOME_CHANNELS: usize = 8;
const MANY_CHANNELS: usize = 100;
/// Messages and values of one channel, and characters of each.
const MESSAGES: usize = 20;
const VALUES: usize = 100;
const CHARACTERS: usize = 400;
impl Server {
    /// Answers an operator, who asks by the connection in `asker`.
    #[cold]
    pub(super) fn inquire(
        &mut self,
        now: Now,
        asker: Slot,
        inquiry: Inquiry,
        sink: &mut impl Sink,
    ) -> Response {
        let value = match inquiry {
            Inquiry::Now => self.state(now),
            Inquiry::History => self.past(),
            Inquiry::Channels { after, search } => self.list_channels(&after, &search),
            Inquiry::Channel(name) => match self.describe_channel(now, &name) {
                Some(value) => value,
                None => return Response::problem(404, "there is no such channel", false),
            },
            Inquiry::Connections { from, search } => self.list_connections(now, from, &search, sink),
            Inquiry::Connection(named) => match self.named(named, sink) {
                Ok(slot) => self.describe_connection(now, slot, sink),
                Err(refused) => return refused,
            },
            Inquiry::End(named) => match self.named(named, sink) {
                Ok(slot) if slot == asker => {
                    return Response::problem(409, "that is the connection by which you ask", false);
                }
                Ok(slot) => {
                    self.close_because(now.at, slot, "ended by an operator");
                    return Response::empty(204);
                }
                Err(refused) => return refused,
            },
        };
        Response::new(200, media::JSON, value.to_string().into_bytes()).with("Cache-Control", "no-store")
    }

    /// How the server does.
    pub(super) fn state(&self, now: Now) -> Value {
        let stats = self.stats();
        let counters: Map<String, Value> =
            stats.each().map(|(name, _, value)| (name.to_owned(), value.into())).collect();
        let gauges: Map<String, Value> =
            self.gauges(now.at).map(|(name, _, value)| (name.to_owned(), value.into())).collect();
        let clients: Map<String, Value> =
            self.census().iter().map(|&(name, count)| (name.to_owned(), count.into())).collect();
        let commits = self.broker.log_waiting().map(|log| json!(log.figures.commits));
        let telemetry = &self.telemetry;
        json!({
            "version": env!("VERSION_AND_COMMIT"),
            "epoch": self.broker.hub.newest().epoch.to_string(),
            "unix": now.unix,
            "uptime_ms": now.at.millis_since(self.telemetry.started.at),
            "uptime_seconds": now.at.millis_since(self.telemetry.started.at) / 1000,
            "draining": self.drain.begun,
            "counters": counters,
            "gauges": gauges,
            "clients": clients,
            "responses": telemetry.responses,
            "sent_bytes": telemetry.process.sent_bytes,
            "cpu_us": telemetry.process.cpu_us,
            "bounds_us": BOUNDS_US,
            "turns": telemetry.turns.classes,
            "deliveries": telemetry.deliveries.classes,
            "commit_bounds_us": commits.as_ref().map(|_| json!(crate::log::COMMIT_BUCKETS_US)),
            "commits": commits,
        })
    }

    fn list_channels(&self, after: &str, search: &str) -> Value {
        let mut rows = Vec::new();
        let mut next = None;
        for (looked, info) in self.broker.hub.list_after(after).enumerate() {
            if looked == LOOKS || rows.len() == ROWS {
                break;
            }
            next = Some(info.channel.to_string());
            if info.channel.contains(search) {
                rows.push(json!({
                    "channel": &*info.channel, "subscribers": info.subscribers, "messages": info.messages,
                    "keys": info.keys, "newest": info.newest.map(|id| id.to_string()),
                }));
            }
        }
        let next = next.filter(|next| self.broker.hub.list_after(next).next().is_some());
        json!({ "channels": rows, "next": next })
    }

    fn describe_channel(&self, now: Now, name: &str) -> Option<Value> {
        let hub = &self.broker.hub;
        let info = hub.info(name)?;
        let row = |message: &std::rc::Rc<Message>| {
            json!({
                "id": message.id.to_string(), "key": message.key(), "data": shown(&message.publication.data),
                "age_ms": now.at.millis_since(message.published),
            })
        };
        Some(json!({
            "channel": &*info.channel, "subscribers": info.subscribers, "messages": info.messages, "keys": info.keys,
            "newest": info.newest.map(|id| id.to_string()),
            "recent": hub.recent(name, MESSAGES).map(row).collect::<Vec<_>>(),
            "values": hub.values(name, VALUES).map(row).collect::<Vec<_>>(),
        }))
    }

    fn list_connections(&self, now: Now, from: u32, search: &str, sink: &mut impl Sink) -> Value {
        let end = self.connections.end();
        let mut rows = Vec::new();
        let mut place = from;
        while place < end && (place - from) < LOOKS as u32 && rows.len() < ROWS {
            let slot = Slot::new(place);
            place += 1;
            let Some(connection) = self.connections.get(slot) else { continue };
            let (channels, count) = self.channels_of(connection, SOME_CHANNELS);
            let what = TECHNIQUES[technique(connection)];
            let address = connection.peer.to_canonical().to_string();
            let is_meant = address.contains(search)
                || what.contains(search)
                || channels.iter().any(|channel| channel.contains(search));
            if !is_meant {
                continue;
            }
            let peer = sink.line(self.id(slot)).map(|line| canonical(line.peer).to_string());
            rows.push(json!({
                "id": name_of(self.id(slot)), "peer": peer.unwrap_or(address), "does": what,
                "for_ms": now.at.millis_since(connection.since), "channels": channels, "channels_all": count,
                "unsent_bytes": connection.output.as_ref().map_or(0, |output| output.len()),
            }));
        }
        json!({ "connections": rows, "next": (place < end).then_some(place), "of": self.connections.len() })
    }

    /// Some of the channels and patterns that a connection listens to, and how many there are.
    fn channels_of(&self, connection: &Connection, max: usize) -> (Vec<String>, usize) {
        let Some(key) = connection.subscriber() else { return (Vec::new(), 0) };
        let shown = |name: String| if name == LIVE { "/admin".to_owned() } else { name };
        let some = self.broker.hub.some_channels(key, max).into_iter().map(shown);
        (some.collect(), self.broker.hub.subscriptions(key))
    }

    /// The connection of that name.
    fn named(&self, named: Named, sink: &mut impl Sink) -> Result<Slot, Response> {
        let unknown = || Response::problem(404, "there is no such connection", false);
        let wanted = match named {
            Named::Id(id) => return self.find(id).ok_or_else(unknown),
            Named::Peer(wanted) => canonical(wanted),
        };
        let of_address =
            self.connections.iter().filter(|(_, found)| found.peer.to_canonical() == wanted.ip());
        for (looked, (slot, _)) in of_address.enumerate() {
            if looked == PEERS {
                let detail = "that address has too many connections to look for the port; name it by its id";
                return Err(Response::problem(409, detail, false));
            }
            if sink.line(self.id(slot)).is_some_and(|line| canonical(line.peer) == wanted) {
                return self.find(self.id(slot)).ok_or_else(unknown);
            }
        }
        Err(unknown())
    }

    /// Everything that is known about a connection.
    fn describe_connection(&self, now: Now, slot: Slot, sink: &mut impl Sink) -> Value {
        let connection = &self.connections[slot];
        let (channels, count) = self.channels_of(connection, MANY_CHANNELS);
        let line = sink.line(self.id(slot));
        let output = connection.output.as_ref();
        let deadline = self.deadline(slot, now.at);
        let grant = self.access.is_on().then(|| self.rights.grant(slot)).flatten();
        let place = connection.subscriber().map(|key| {
            let hub = &self.broker.hub;
            json!({ "place": hub.place(key).to_string(), "lacks": hub.lacks(key, MANY_CHANNELS), "latest": hub.is_latest(key) })
        });
        json!({
            "id": name_of(self.id(slot)),
            "peer": line.map_or_else(|| connection.peer.to_string(), |line| canonical(line.peer).to_string()),
            "client": self.aside.clients.get(&slot).map(|client| client.address.to_string()),
            "listener": format!("{:?}", connection.door).to_lowercase(),
            "does": TECHNIQUES[technique(connection)],
            "for_ms": now.at.millis_since(connection.since),
            "ends_in_ms": (deadline < Instant::NEVER).then(|| deadline.millis_since(now.at)),
            "half_closed": connection.half_closed,
            "closing": connection.closing,
            "waits_for_the_disk": matches!(connection.phase, Phase::Committing),
            "channels": channels,
            "channels_all": count,
            "subscriber": place,
            "received_bytes_waiting": connection.input.as_ref().map(|input| input.waiting_len()),
            "unsent_bytes": output.map_or(0, |output| output.len()),
            "stalled_ms": output.map(|output| now.at.millis_since(output.progress)),
            "stalled_ms_max": self.config.limits.stalled_seconds * 1000,
            "near_limits": self.near_limits(now.at, slot),
            "last_closed_of_address": self.telemetry.closings.last_of(connection.peer).map(|closing| json!({
                "ms_ago": now.at.millis_since(closing.at), "why": closing.why,
            })),
            "subject": grant.and_then(|grant| grant.subject.clone()),
            "token_ends": grant.map(|grant| grant.ends),
            "tcp": line.map(|line| json!({
                "sent_ms_ago": line.sent_ms, "received_ms_ago": line.received_ms, "round_trip_us": line.round_trip_us,
                "unacknowledged_segments": line.unacknowledged, "unsent_bytes": line.unsent_bytes,
                "retransmitted_segments": line.retransmitted,
            })),
        })
    }
}

impl Server {
    /// The limits of which a connection, or its address, has used up four fifths or more, with how much that is.
    fn near_limits(&self, now: Instant, slot: Slot) -> Vec<String> {
        let (connection, limits) = (&self.connections[slot], &self.config.limits);
        let stalled = connection.output.as_ref().map_or(0, |output| now.millis_since(output.progress) / 1000);
        let (kept, kept_max) = match connection.subscriber() {
            Some(key) => self.broker.hub.kept_for(key),
            None => (0, usize::MAX),
        };
        let used = [
            (
                "limits.connections_per_address",
                self.addresses.open(connection.peer),
                limits.connections_per_address,
            ),
            ("limits.connections", self.connections.len(), limits.connections),
            ("limits.memory_per_address", kept, kept_max),
            ("limits.stalled_seconds", stalled as usize, limits.stalled_seconds as usize),
        ];
        let is_near = |&&(_, used, max): &&(&str, usize, usize)| {
            used > 0 && used.saturating_mul(5) >= max.saturating_mul(4)
        };
        used.iter().filter(is_near).map(|(name, used, max)| format!("{name}: {used} of {max}")).collect()
    }
}

fn name_of(id: ConnId) -> String {
    format!("{}.{}", id.slot.number(), id.generation)
}

fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// The beginning of a payload, as text.
fn shown(data: &Data) -> String {
    match data {
        Data::Json(text) | Data::Text(text) => text.chars().take(CHARACTERS).collect(),
        Data::Binary(bytes) => format!("{} bytes", bytes.len()),
        Data::Removed => "removed".to_owned(),
    }
}
