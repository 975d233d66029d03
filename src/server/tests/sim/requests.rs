//! What clients of the simulation ask for by HTTP, and what is published.

use super::super::client::{Kind, Subscription};
use super::super::oracle::{Debt, From, Last, Watch};
use super::{CHANNELS, Sim};
use crate::id::{Epoch, Place};
use crate::transport::{Polling, Streaming, Transport};
use std::fmt::Write;

impl Sim {
    pub(super) fn enqueue(&mut self, who: usize) {
        let client = &self.clients[who];
        let depth = if self.habits.pipelines { 4 } else { 1 };
        if client.asks.len() >= depth || client.over || client.half_closed {
            return;
        }
        match self.random.below(20) {
            0..9 => self.enqueue_subscription(who),
            9..16 => self.enqueue_publication(who),
            16 if self.habits.batches => self.enqueue_batch(who),
            17 if self.habits.deletes => {
                let channel = self.channel();
                self.request(who, &format!("DELETE /pub/{channel}"), "", Kind::Other(&[204, 404]));
            }
            18 if self.habits.nonsense => self.enqueue_nonsense(who),
            _ => self.request(who, "GET /stats", "", Kind::Other(&[200])),
        }
    }

    /// A request with a body, chunked or not.
    pub(super) fn request(&mut self, who: usize, line: &str, body: &str, kind: Kind) {
        let (line, fields) = line.split_once("\r\n").unwrap_or((line, ""));
        let mut text = format!("{line} HTTP/1.1\r\nHost: x\r\n{fields}");
        match body.is_empty() {
            true => text.push_str("\r\n"),
            false if self.random.one_in(4) => {
                let (first, second) = body.split_at(1);
                text.push_str("Transfer-Encoding: chunked\r\n\r\n");
                let _ = write!(text, "1\r\n{first}\r\n");
                if !second.is_empty() {
                    let _ = write!(text, "{:x}\r\n{second}\r\n", second.len());
                }
                text.push_str("0\r\n\r\n");
            }
            false => {
                if self.random.one_in(8) {
                    text.push_str("Expect: 100-continue\r\n");
                }
                let _ = write!(text, "Content-Length: {}\r\n\r\n{body}", body.len());
            }
        }
        self.clients[who].ask(text.as_bytes(), kind, false);
    }

    pub(super) fn channel(&mut self) -> &'static str {
        CHANNELS[self.random.below(CHANNELS.len() as u64) as usize]
    }

    /// A message that nobody has sent before.
    pub(super) fn message(&mut self) -> (String, Option<u64>) {
        let filler = ["x", "two\nlines", "é\u{2028}"][self.random.below(3) as usize];
        let times = [1, 1, 5, 200][self.random.below(4) as usize];
        let payload = format!("m{} {}", self.sent.len(), filler.repeat(times));
        let ttl = self.habits.ttl && self.random.one_in(3);
        let ttl = ttl.then(|| [0, 1, 5, 1000][self.random.below(4) as usize]);
        self.sent.push((payload.clone(), ttl));
        (payload, ttl)
    }

    /// A message to a channel, now and then one that was sent before, or may have been, with the same key.
    pub(super) fn keyed_or_new(&mut self) -> (Vec<&'static str>, usize) {
        let again = self.habits.repeats && !self.keyed.is_empty() && self.random.one_in(3);
        if again {
            let place = self.keyed.len() - 1 - self.random.below(self.keyed.len().min(4) as u64) as usize;
            let (number, channels) = &self.keyed[place];
            if channels.len() == 1 {
                return (channels.clone(), *number);
            }
        }
        let channels = vec![self.channel()];
        self.message();
        let number = self.sent.len() - 1;
        if self.habits.repeats && !self.habits.raw && self.random.one_in(3) {
            self.keyed.push((number, channels.clone()));
        }
        (channels, number)
    }

    pub(super) fn is_keyed(&self, number: usize) -> bool {
        self.keyed.iter().any(|(keyed, _)| *keyed == number)
    }

    /// A channel or a pattern.
    pub(super) fn item(&mut self) -> &'static str {
        match self.random.below(3) {
            0 => ["c/*", "c/**", "*", "**"][self.random.below(4) as usize],
            _ => self.channel(),
        }
    }

    pub(super) fn enqueue_publication(&mut self, who: usize) {
        let (mut channels, number) = self.keyed_or_new();
        if self.habits.batches && !self.habits.raw && !self.is_keyed(number) && self.random.one_in(4) {
            let more = self.channel();
            channels.extend((more != channels[0]).then_some(more));
        }
        let (payload, ttl) = self.sent[number].clone();
        let mut line = format!("POST /pub/{}\r\n", channels.join(","));
        if let Some(ttl) = ttl {
            let _ = write!(line, "Encke-TTL: {ttl}\r\n");
        }
        let messages: Vec<_> = channels.iter().map(|channel| (*channel, payload.clone())).collect();
        if !self.habits.raw && !self.is_keyed(number) && self.random.one_in(10) {
            self.keyed.push((number, channels));
        }
        if self.is_keyed(number) {
            let _ = write!(line, "Idempotency-Key: {}\r\n", key(number));
        }
        if self.is_keyed(number) && self.random.one_in(3) {
            self.request(who, &line, &payload, Kind::Publish(messages.clone()));
        }
        self.request(who, &line, &payload, Kind::Publish(messages));
    }

    pub(super) fn enqueue_batch(&mut self, who: usize) {
        let (mut body, mut messages) = (String::new(), Vec::new());
        for _ in 0..=self.random.below(12) {
            let channel = self.channel();
            let (payload, ttl) = self.message();
            let line = serde_json::json!({"channel": channel, "data": payload, "ttl": ttl});
            let _ = writeln!(body, "{line}");
            messages.push((channel, payload));
        }
        let line = "POST /pub\r\nContent-Type: application/x-ndjson\r\n";
        self.request(who, line, &body, Kind::Publish(messages));
    }

    pub(super) fn enqueue_nonsense(&mut self, who: usize) {
        match self.random.below(3) {
            0 => self.request(who, "GET /nowhere", "", Kind::Other(&[404])),
            1 => self.request(who, "GET /sub/a?after=rubbish", "", Kind::Other(&[400])),
            _ => self.clients[who].ask(b"NONSENSE\r\n\r\n", Kind::Other(&[400]), false),
        }
    }

    pub(super) fn enqueue_subscription(&mut self, who: usize) {
        let (from, after, last) = self.start(who);
        let techniques = [
            (Transport::Poll(Polling::Long), "poll"),
            (Transport::Poll(Polling::Long), "poll"),
            (Transport::Poll(Polling::Interval), "interval"),
            (Transport::Stream(Streaming::Sse), "sse"),
            (Transport::Stream(Streaming::Lines), "stream"),
            (Transport::Stream(Streaming::Raw), "raw"),
        ];
        // Raw messages tell neither channel nor number: where they begin must be known.
        let count = if from == From::Kept || !self.habits.raw { 5 } else { 6 };
        let (transport, name) = techniques[self.random.below(count) as usize];
        let http11 = transport == Transport::Stream(Streaming::Raw) || !self.random.one_in(6);
        let batch = self.random.one_in(2);
        let timeout = [1, 5, 30][self.random.below(3) as usize];
        let max = [1, 2, 100][self.random.below(3) as usize];
        let method = if http11 && self.random.one_in(20) { "HEAD" } else { "GET" };
        let path = self.clients[who].selection.0.join(",");
        let mut text = format!("{method} /sub/{path}?as={name}&timeout={timeout}&max={max}");
        let header = self.random.one_in(2);
        if !header {
            let _ = write!(text, "&after={after}");
        }
        text.push_str(if http11 { " HTTP/1.1\r\nHost: x\r\n" } else { " HTTP/1.0\r\n" });
        if header {
            let _ = write!(text, "Last-Event-ID: {after}\r\n");
        }
        text.push_str(if batch { "Accept: application/json\r\n\r\n" } else { "\r\n" });
        let selection = self.clients[who].selection.clone();
        let watch = match (from, self.clients[who].debt.clone()) {
            (From::After(seq), Some(debt)) => Watch::resumed(selection, seq, debt),
            (From::After(seq), None) => Watch::resumed(selection, seq, Debt::after(seq)),
            _ => Watch::new(selection, from).with_last(last),
        };
        let kind = Subscription { watch, transport, batch, timeout_ms: timeout * 1000 };
        self.clients[who].ask(text.as_bytes(), Kind::Subscribe(Box::new(kind)), method == "HEAD");
    }

    /// Where a client begins, mostly where it was; and with how many of each channel, if it is not there.
    pub(super) fn start(&mut self, who: usize) -> (From, String, Last) {
        match (&self.clients[who].last, self.random.below(10)) {
            (Some(last), 0..8) => {
                let place = Place::parse(last).unwrap();
                let from = match place.id.epoch == Epoch::from_random(self.epochs) {
                    // Of some channels, not all that comes after it was asked for, and of what is not known.
                    true if place.began.is_some() && self.clients[who].debt.is_none() => From::Kept,
                    true => From::After(place.id.seq),
                    false => From::Stranger,
                };
                (from, last.clone(), Last::Unknown)
            }
            (_, 8) => (From::Kept, "oldest".into(), Last::All),
            (_, 9) => {
                let count = self.random.below(4);
                (From::Kept, format!("-{count}"), Last::Some(count as usize))
            }
            _ => (From::Now, "now".into(), Last::Unknown),
        }
    }
}

/// The key of the message with a number.
pub(super) fn key(number: usize) -> String {
    format!("key {number}")
}
