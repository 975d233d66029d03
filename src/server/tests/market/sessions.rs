//! Readers that speak Bayeux and FDAjax. They know no keys: they get values in order, as any other message, none twice, and
//! no removals. What a limit took Bayeux tells as a gap, and FDAjax has no word for.

use super::items::Answer;
use super::truth::{Entry, Truth};
use super::{CHANNELS, FEED, Sim};
use crate::conn::ConnId;
use crate::hub::{Data, Hub};
use crate::id::Seq;
use crate::server::tests::trace::note;
use crate::time::Instant;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const SUBSCRIPTIONS: [&[&str]; 4] = [&["/q/a"], &["/q/*"], &["/q/a", "/r"], &["/q/a", "/q/b", "/r"]];

/// How one listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Bayeux(&'static [&'static str]),
    /// A window of the guest of that number.
    Fdajax(usize),
}

#[derive(Debug)]
pub struct Session {
    protocol: Protocol,
    conn: Option<ConnId>,
    inbox: Vec<u8>,
    /// What was asked has no answer yet.
    is_asked: bool,
    /// The server knows it: by that name.
    id: Option<String>,
    /// It listens.
    is_subscribed: bool,
    /// It has everything after this.
    since: Seq,
    last: Seq,
    had: BTreeSet<Seq>,
    /// By channel: what came before this may be lost, and it knows, if there is a word for it.
    floor: BTreeMap<&'static str, Seq>,
    pub values: u64,
    pub gaps: u64,
}

impl Session {
    fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            conn: None,
            inbox: Vec::new(),
            is_asked: false,
            id: None,
            is_subscribed: false,
            since: 0,
            last: 0,
            had: BTreeSet::new(),
            floor: BTreeMap::new(),
            values: 0,
            gaps: 0,
        }
    }

    /// Its connection is gone.
    fn leave(&mut self) {
        self.inbox.clear();
        (self.conn, self.is_asked) = (None, false);
        if let Protocol::Fdajax(_) = self.protocol {
            // It may be another window by now, which is given what there is.
            self.last = 0;
        }
    }

    /// The server does not know it any more.
    fn forget(&mut self) {
        (self.id, self.is_subscribed) = (None, false);
        self.had.clear();
        self.floor.clear();
    }

    /// The server was replaced by one that knows nothing.
    pub fn restart(&mut self) {
        self.leave();
        self.forget();
        (self.since, self.last) = (0, 0);
    }

    fn wants(&self, channel: &str) -> bool {
        match self.protocol {
            Protocol::Fdajax(_) => channel == FEED,
            Protocol::Bayeux(names) => names.iter().any(|name| match name[1..].strip_suffix('*') {
                Some(above) => channel.strip_prefix(above).is_some_and(|rest| !rest.contains('/')),
                None => channel == &name[1..],
            }),
        }
    }

    /// What it sends next.
    fn request(&self) -> String {
        let Protocol::Bayeux(names) = self.protocol else {
            let Protocol::Fdajax(guest) = self.protocol else { unreachable!() };
            return format!(
                "GET /live.fdajax?cmd=wait&win_id=1&types=feed&sec=1 HTTP/1.1\r\nHost: x\r\nCookie: _session_id=s{guest}\r\n\r\n"
            );
        };
        let body = match &self.id {
            None => json!([{"channel": "/meta/handshake", "version": "1.0",
                "supportedConnectionTypes": ["long-polling"]}]),
            Some(id) if !self.is_subscribed => {
                let replay: Value = names.iter().map(|name| ((*name).to_owned(), json!(-1))).collect();
                json!([{"channel": "/meta/subscribe", "clientId": id, "subscription": names,
                    "ext": {"replay": replay}}])
            }
            Some(id) => {
                json!([{"channel": "/meta/connect", "clientId": id, "connectionType": "long-polling"}])
            }
        };
        let body = body.to_string();
        let head = "POST /bayeux HTTP/1.1\r\nHost: x\r\nContent-Type: application/json";
        format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    fn answered(&mut self, answer: &Answer, truth: &Truth, hub: &Hub, now: Instant) {
        match self.protocol {
            Protocol::Fdajax(_) => self.window(answer, truth, now),
            Protocol::Bayeux(_) => self.replies(&answer.json(), truth, hub),
        }
        if let Protocol::Fdajax(_) = self.protocol {
            self.floor.insert(FEED, hub.lost_on(FEED));
        }
        self.account(self.last, truth, now);
    }

    fn replies(&mut self, replies: &Value, truth: &Truth, hub: &Hub) {
        for reply in replies.as_array().expect("a list") {
            let is_successful = reply["successful"] == true;
            match reply["channel"].as_str().unwrap() {
                "/meta/handshake" => {
                    self.id = Some(reply["clientId"].as_str().expect("a session").into());
                }
                "/meta/subscribe" if is_successful => {
                    self.is_subscribed = true;
                    (self.since, self.last) = (truth.newest(), truth.newest());
                }
                "/meta/connect" if is_successful => {
                    for channel in reply["ext"]["gap"].as_array().into_iter().flatten() {
                        self.gaps += 1;
                        let named = channel.as_str().unwrap().trim_start_matches('/');
                        for channel in CHANNELS.into_iter().filter(|of| super::reader::matches(named, of)) {
                            self.floor.insert(channel, hub.lost_on(channel));
                        }
                    }
                }
                meta if meta.starts_with("/meta/") => {
                    assert_eq!(reply["error"], "402::session_unknown", "{reply}");
                    self.forget();
                }
                channel => self.event(channel, reply, truth),
            }
        }
    }

    fn event(&mut self, channel: &str, event: &Value, truth: &Truth) {
        // Above these bits a replay id names the history.
        let seq = event["ext"]["replayId"].as_u64().expect("a position") & ((1 << 40) - 1);
        let entry = truth.get(seq);
        assert_eq!(channel[1..], entry.channel);
        assert!(!entry.is_removal(), "{seq} is a removal");
        let mut data = event["data"].clone();
        if let Some(object) = data.as_object_mut()
            && entry.value()["event"].is_null()
        {
            object.remove("event");
        }
        assert_eq!(data, entry.value(), "{seq}");
        self.take(seq, entry);
    }

    /// The answer to a window is what it is given, a line each.
    fn window(&mut self, answer: &Answer, truth: &Truth, now: Instant) {
        assert_eq!(answer.status, 200);
        self.id = Some("window".into());
        self.is_subscribed = true;
        let body = std::str::from_utf8(&answer.body).unwrap();
        for line in body.lines() {
            let is_it = |(_, entry): &(Seq, &Entry)| {
                let is_same = entry.data.bytes() == line.as_bytes() && entry.data != Data::Removed;
                entry.channel == FEED && is_same
            };
            let all = || truth.between(self.last, truth.newest()).filter(is_it);
            let lives = |(_, entry): &(Seq, &Entry)| entry.expires >= now;
            let is_new = |found: &(Seq, &Entry)| lives(found) && !self.had.contains(&found.0);
            // What expired between two requests of a window may be for who was there when it was published.
            let found = all().find(is_new).or_else(|| all().find(lives)).or_else(|| all().next());
            let (seq, entry) = found.unwrap_or_else(|| panic!("nobody said {line:?}: {self:?}"));
            // Where the same value was published again, nobody can tell which it is.
            let same: Vec<Seq> = all().map(|(seq, _)| seq).collect();
            self.take(seq, entry);
            self.had.extend(same);
        }
    }

    fn take(&mut self, seq: Seq, entry: &Entry) {
        assert!(self.wants(&entry.channel), "{seq} of {} was not asked for", entry.channel);
        assert!(seq > self.last, "{seq} after {}: {self:?}", self.last);
        self.last = seq;
        self.had.insert(seq);
        self.values += 1;
    }

    /// Everything up to `upto` has come, or has left the ring.
    fn account(&mut self, upto: Seq, truth: &Truth, now: Instant) {
        for (seq, entry) in truth.between(self.since, upto) {
            let floor = self.floor.get(&*entry.channel).copied().unwrap_or(0);
            let is_due = self.wants(&entry.channel) && !entry.is_removal() && entry.expires > now;
            let is_there = self.had.contains(&seq) || seq <= floor;
            assert!(!is_due || is_there, "{seq} of {} is missing: {self:?}", entry.channel);
        }
        self.since = upto.max(self.since);
    }
}

/// What sessions do.
impl Sim {
    pub(super) fn sessions(&mut self) -> Vec<Session> {
        let bayeux = (0..self.random.below(3)).map(|_| self.of(&SUBSCRIPTIONS)).collect::<Vec<_>>();
        let windows = self.random.below(2) as usize;
        let bayeux = bayeux.into_iter().map(Protocol::Bayeux);
        bayeux.chain((0..windows).map(Protocol::Fdajax)).map(Session::new).collect()
    }

    /// They ask for more, or lose their lines.
    pub(super) fn attend(&mut self, eagerly: bool) {
        for at in 0..self.sessions.len() {
            if self.sessions[at].is_asked {
                if !eagerly && self.random.one_in(60) {
                    note!(self, "session {at} loses its line");
                    self.server.reset(self.world.now, self.sessions[at].conn.unwrap());
                    self.sessions[at].leave();
                }
                continue;
            }
            if !eagerly && !self.random.one_in(3) {
                continue;
            }
            let id = self.sessions[at].conn.unwrap_or_else(|| self.accept());
            let text = self.sessions[at].request();
            note!(self, "session {at} asks {text:?}");
            (self.sessions[at].conn, self.sessions[at].is_asked) = (Some(id), true);
            self.server.receive(self.world.now, id, text.as_bytes(), &mut self.world);
        }
    }

    /// They read what has come.
    pub(super) fn hear_sessions(&mut self) {
        for at in 0..self.sessions.len() {
            let Some(id) = self.sessions[at].conn else { continue };
            let bytes = self.world.read(id, usize::MAX);
            let session = &mut self.sessions[at];
            session.inbox.extend(bytes);
            if let Some(answer) = Answer::take(&mut session.inbox) {
                session.is_asked = false;
                let hub = &self.server.broker.hub;
                note!(self, "session {at} reads {:?}", String::from_utf8_lossy(&answer.body));
                self.sessions[at].answered(&answer, &self.truth, hub, self.world.now.at);
            }
            if self.world.at_end(id) {
                self.server.reset(self.world.now, id);
                self.sessions[at].leave();
            }
        }
    }

    /// Nothing more will come: they have everything.
    pub(super) fn complete_sessions(&mut self) {
        let (newest, now) = (self.truth.newest(), self.world.now.at);
        for session in self.sessions.iter_mut().filter(|session| session.is_subscribed) {
            if let Protocol::Fdajax(_) = session.protocol {
                session.floor.insert(FEED, self.server.broker.hub.lost_on(FEED));
            }
            session.account(newest, &self.truth, now);
        }
    }

    pub(super) fn dismiss(&mut self) {
        for session in &mut self.sessions {
            if let Some(id) = session.conn {
                self.server.reset(self.world.now, id);
                session.leave();
            }
        }
    }
}

/// Whoever has had its newest message is told at once all the same: the values are gone.
#[test]
fn a_deleted_channel_with_keys_is_a_gap_for_sessions_at_once() {
    let mut config = crate::config::Config::default();
    config.fdajax.enabled = false;
    let mut bench = crate::server::tests::bench::Bench::new(config);
    let mut session = Session::new(Protocol::Bayeux(&["/q/a"]));
    let mut ask = |bench: &mut crate::server::tests::bench::Bench| {
        let (conn, answer) = bench.client(&session.request());
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        if let Ok(replies) = serde_json::from_str::<Value>(&body) {
            session.replies(&replies, &Truth::default(), &bench.server.broker.hub);
        }
        (conn, body)
    };
    for _ in 0..3 {
        assert_ne!(
            ask(&mut bench).1,
            "",
            "a handshake, a subscription and a first connect are answered at once"
        );
    }
    bench.client("POST /pub/q/a?key=A HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1");
    let (_, body) = bench.client(&session.request());
    assert!(body.contains("\"data\":\"1\""), "{body}");
    let (conn, body) = bench.client(&session.request());
    assert_eq!(body, "", "it waits");
    bench.client("DELETE /pub/q/a HTTP/1.1\r\nHost: x\r\n\r\n");
    let body = bench.read(conn);
    assert!(body.contains("\"gap\":[\"/q/a\"]"), "{body}");
}
