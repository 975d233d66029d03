//! The access log: one line a request, when its answer is complete, with what was really answered.
//!
//! `ADDRESS METHOD TARGET STATUS BYTES MS "AGENT"`, and the reason of a refusal behind that. The address is the client's,
//! seen through trusted proxies; secrets are left out of the target. A poll has its line when it is answered, a stream
//! or a WebSocket when it ends. Status 499 is nobody's answer: the client left before it had one.
//!
//! Switched on by `log.access`. What a line needs is kept beside the connections, so that without the log a connection
//! costs nothing for it.

use super::Server;
use super::ending::Seen;
use crate::broker::Client;
use crate::carry::{Carry, Damaged, Parcel, Shape, Unpack, carry};
use crate::conn::{Protocol, Slot};
use crate::time::{Instant, Now};
use crate::wire::head::{Head, Method};
use crate::wire::shown::Shown;
use log::{Level, Record};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Whoever left before there was an answer.
const CLIENT_LEFT: u16 = 499;
/// Parts of a path that are as long as a Bayeux client id, which is a secret.
const SECRET_SEGMENT: usize = 26;

/// Requests whose answers are not complete.
#[derive(Debug, Default)]
pub struct AccessLog {
    open: BTreeMap<Slot, Line>,
}

carry! {
    struct AccessLog { open }
}

/// What is known of a request.
#[derive(Debug)]
struct Line {
    client: IpAddr,
    method: &'static str,
    target: String,
    agent: String,
    since: Instant,
    /// That of a stream that has begun.
    status: Option<u16>,
    bytes: usize,
}

impl Carry for Line {
    fn shape(shape: &mut Shape) {
        shape.add("Line");
        shape.field("client", |it: &Self| &it.client);
        shape.add("method");
        shape.field("target", |it: &Self| &it.target);
        shape.field("agent", |it: &Self| &it.agent);
        shape.field("since", |it: &Self| &it.since);
        shape.field("status", |it: &Self| &it.status);
        shape.field("bytes", |it: &Self| &it.bytes);
    }

    fn pack(&self, parcel: &mut Parcel) {
        let Self { client, method, target, agent, since, status, bytes } = self;
        client.pack(parcel);
        Box::<str>::from(*method).pack(parcel);
        target.pack(parcel);
        agent.pack(parcel);
        since.pack(parcel);
        (*status, *bytes).pack(parcel);
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        let (client, named) = <(IpAddr, Box<str>)>::unpack(from)?;
        let method = METHODS.into_iter().map(name).find(|method| **method == *named).unwrap_or("-");
        let (target, agent, since) = Carry::unpack(from)?;
        let (status, bytes) = Carry::unpack(from)?;
        Ok(Self { client, method, target, agent, since, status, bytes })
    }
}

impl Line {
    fn new(now: Instant, client: IpAddr, head: &Head, protocol: Option<Protocol>) -> Self {
        Self {
            client,
            method: name(head.method),
            target: shown_target(head.target, head.path, protocol),
            agent: shown_agent(&String::from_utf8_lossy(head.bytes("user-agent").unwrap_or(b"-"))),
            since: now,
            status: None,
            bytes: 0,
        }
    }

    /// The line of a request that could not be read.
    fn unread(now: Instant, client: IpAddr) -> Self {
        let (target, agent) = ("-".to_owned(), "-".to_owned());
        Self { client, method: "-", target, agent, since: now, status: None, bytes: 0 }
    }

    fn write(&self, now: Instant, status: u16, reason: Option<&str>) {
        let Self { client, method, target, agent, since, bytes, .. } = self;
        let ms = now.millis_since(*since);
        let reason = reason.map(|reason| format!(" \"{}\"", Shown(reason)));
        let reason = reason.unwrap_or_default();
        // Whoever wants it has said so, whatever the level of other lines is.
        log::logger().log(
            &Record::builder()
                .level(Level::Info)
                .target("encke::access")
                .args(format_args!("{client} {method} {target} {status} {bytes} {ms} \"{agent}\"{reason}"))
                .build(),
        );
    }
}

impl AccessLog {
    /// Notes an answer, or what follows one that has begun, with `body` bytes behind it.
    fn note(&mut self, now: Instant, slot: Slot, answer: &[u8], body: usize, goes_on: bool) {
        let Some(mut line) = self.open.remove(&slot) else { return };
        let status = line.status.unwrap_or_else(|| status_of(answer));
        line.bytes += answer.len() + body;
        match goes_on {
            true => {
                line.status = Some(status);
                self.open.insert(slot, line);
            }
            false => line.write(now, status, reason_of(status, answer).as_deref()),
        }
    }
}

impl Server {
    /// Notes a request that has been understood.
    pub(super) fn log_request(&mut self, now: Now, slot: Slot, head: &Head, protocol: Option<Protocol>) {
        if self.telemetry.access_log.is_some() {
            self.note_request(now, slot, head, protocol);
        }
    }

    #[cold]
    fn note_request(&mut self, now: Now, slot: Slot, head: &Head, protocol: Option<Protocol>) {
        let client = Client::of(head, self.connections[slot].peer, &self.config).address;
        if let Some(log) = &mut self.telemetry.access_log {
            log.open.insert(slot, Line::new(now.at, client, head, protocol));
        }
    }

    /// Notes the answer that was composed in `out` from `begin` on. It is complete, unless it `goes_on`.
    pub(super) fn log_answer(&mut self, now: Instant, slot: Slot, begin: usize, goes_on: bool) {
        if self.telemetry.access_log.is_some() {
            self.note_answer(now, slot, begin, goes_on);
        }
    }

    #[cold]
    fn note_answer(&mut self, now: Instant, slot: Slot, begin: usize, goes_on: bool) {
        let Some(log) = &mut self.telemetry.access_log else { return };
        let answer = &self.writer.out[begin.min(self.writer.out.len())..];
        let body = self.writer.body.as_ref().map_or(0, |body| body.bytes().len());
        log.note(now, slot, answer, body, goes_on);
    }

    /// Notes the last words to whoever listens no longer: the answer to a poll, or the end of a stream.
    pub(super) fn log_goodbye(&mut self, now: Instant, slot: Slot, goodbye: &[u8]) {
        if let Some(log) = &mut self.telemetry.access_log {
            log.note(now, slot, goodbye, 0, false);
        }
    }

    /// Notes the answer to a poll that was written without being composed here.
    pub(super) fn log_written(&mut self, now: Instant, slot: Slot, bytes: usize) {
        if let Some(log) = &mut self.telemetry.access_log
            && let Some(mut line) = log.open.remove(&slot)
        {
            line.bytes += bytes;
            line.write(now, 200, None);
        }
    }

    /// Counts bytes of an endless answer.
    pub(super) fn log_bytes(&mut self, slot: Slot, bytes: usize) {
        if let Some(log) = &mut self.telemetry.access_log
            && let Some(line) = log.open.get_mut(&slot).filter(|line| line.status.is_some())
        {
            line.bytes += bytes;
        }
    }

    /// Notes that whatever the connection was doing is over.
    pub(super) fn log_end(&mut self, now: Instant, slot: Slot) {
        if let Some(log) = &mut self.telemetry.access_log
            && let Some(line) = log.open.remove(&slot)
        {
            line.write(now, line.status.unwrap_or(CLIENT_LEFT), None);
        }
    }

    /// Notes a refusal that is answered from `begin` on in `out`.
    #[cold]
    pub(super) fn log_refusal(&mut self, now: Now, slot: Slot, seen: Seen, begin: usize) {
        let Some(log) = &mut self.telemetry.access_log else { return };
        let peer = self.connections[slot].peer;
        let line = match seen {
            Seen::Head(head) => {
                let protocol = self.dialects.claim(head.path);
                Line::new(now.at, Client::of(head, peer, &self.config).address, head, protocol)
            }
            Seen::Line(method, target) => {
                let path = target.split(['?', '#']).next().unwrap_or_default();
                let target = shown_target(target, path, self.dialects.claim(path));
                Line { method: method.map_or("-", name), target, ..Line::unread(now.at, peer) }
            }
            Seen::Nothing => Line::unread(now.at, peer),
        };
        // What it had asked before is not answered any more.
        if let Some(earlier) = log.open.insert(slot, line) {
            earlier.write(now.at, earlier.status.unwrap_or(CLIENT_LEFT), None);
        }
        self.note_answer(now.at, slot, begin, false);
    }

    /// Lines that wait for the end of their answer.
    #[cfg(any(test, feature = "check"))]
    pub(super) fn log_open(&self) -> impl Iterator<Item = Slot> {
        self.telemetry.access_log.iter().flat_map(|log| log.open.keys().copied())
    }
}

const METHODS: [Method; 8] = [
    Method::Get,
    Method::Head,
    Method::Post,
    Method::Put,
    Method::Patch,
    Method::Delete,
    Method::Options,
    Method::Query,
];

const fn name(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
        Method::Query => "QUERY",
    }
}

/// A target as it may be logged. The protocols with sessions have all that they say in their queries.
fn shown_target(target: &str, path: &str, protocol: Option<Protocol>) -> String {
    match protocol {
        Some(_) => Shown(&without_ids(path)).to_string(),
        None => Shown(target).to_string(),
    }
}

/// An agent as it may be logged: escaped, and without a token that somebody put there.
fn shown_agent(agent: &str) -> String {
    let shown = Shown(agent).to_string();
    match shown.to_ascii_lowercase().find("bearer ") {
        Some(at) => format!("{}[redacted]", &shown[..at]),
        None => shown,
    }
}

/// A path without the ids of sessions that it may name.
fn without_ids(path: &str) -> String {
    let shown = path.split('/').map(|part| if part.len() >= SECRET_SEGMENT { "[redacted]" } else { part });
    shown.collect::<Vec<_>>().join("/")
}

/// The status of an answer.
pub(super) fn status_of(answer: &[u8]) -> u16 {
    let digits = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

/// The sentence that a refusal says.
fn reason_of(status: u16, answer: &[u8]) -> Option<String> {
    if status < 400 {
        return None;
    }
    let text = std::str::from_utf8(answer).ok()?;
    let (_, body) = text.split_once("\r\n\r\n")?;
    let problem: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let detail = problem.as_ref().and_then(|problem| problem.get("detail")?.as_str());
    let reason = detail.or_else(|| body.lines().find(|line| !line.is_empty()))?;
    Some(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_says() {
        let problem = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/problem+json\r\n\r\n{\"status\":403,\"detail\":\"no \\\"x\\\"\"}";
        assert_eq!(status_of(problem), 403);
        assert_eq!(reason_of(403, problem).as_deref(), Some("no \"x\""));
        assert_eq!(
            reason_of(404, b"HTTP/1.1 404 Not Found\r\n\r\nnothing\nhere").as_deref(),
            Some("nothing")
        );
        assert_eq!((status_of(b""), reason_of(200, problem)), (0, None));
    }

    #[test]
    fn client_ids_are_secrets() {
        assert_eq!(without_ids("/bayeux/handshake"), "/bayeux/handshake");
        assert_eq!(without_ids(&format!("/bayeux/{}", "a".repeat(26))), "/bayeux/[redacted]");
    }
}
