//! Publishers, who repeat what was not answered, and followers, who poll one server after the other.

use super::relay::Node;
use super::{NODES, Sim};
use crate::conn::ConnId;
use crate::id::Seq;
use crate::log::Jumps;
use serde_json::Value;
use std::collections::BTreeSet;

/// A request that was not answered yet.
pub(super) struct Waiting {
    pub node: usize,
    conn: ConnId,
    pub text: String,
    pub key: Option<String>,
}

impl Waiting {
    /// A message that is published without a key.
    pub(super) fn of(node: usize, conn: ConnId, text: &str) -> Self {
        Self { node, conn, text: text.into(), key: None }
    }
}

/// Somebody who has had all up to some place.
#[derive(Default)]
pub(super) struct Follower {
    pub next: String,
    seen: BTreeSet<Seq>,
    /// What it was told to have missed: after the first number, up to the second.
    /// The server that told it had come to the third.
    gaps: Vec<(Seq, Seq, Seq)>,
    pub first: Seq,
    /// The jumps in the history that it was told of last.
    jumps: Jumps,
}

impl Sim {
    pub(super) fn publish(&mut self) {
        let node = self.random.below(NODES as u64) as usize;
        let channel = ["a", "b", "c"][self.random.below(3) as usize];
        // What was not answered is tried again, on any server.
        let again = self.random.one_in(3).then(|| {
            let keyed = self.waiting.iter().filter_map(|one| Some((one.text.clone(), one.key.clone()?)));
            let keyed: Vec<(String, String)> = keyed.collect();
            (!keyed.is_empty()).then(|| keyed[self.random.below(keyed.len() as u64) as usize].clone())
        });
        let (text, key) = again.flatten().unwrap_or_else(|| {
            self.texts += 1;
            (format!("{channel} text {}", self.texts), format!("{channel}/{}", self.texts))
        });
        let channel = key.split('/').next().unwrap_or(channel).to_owned();
        let length = text.len();
        let conn = match self.random.below(4) {
            0 if self.random.one_in(4) => {
                let conn = self.request(node, &format!("DELETE /pub/{channel} HTTP/1.1\r\nHost: x\r\n\r\n"));
                return self.waiting.push(Waiting { node, conn, text: String::new(), key: None });
            }
            1 => self.request(
                node,
                &format!(
                    "PUT /pub/values?key=k{} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{{\"a\":{}}}",
                    self.texts % 3,
                    self.texts % 10
                ),
            ),
            2 => {
                let patch = "PATCH /pub/values?key=k1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/merge-patch+json";
                self.request(
                    node,
                    &format!("{patch}\r\nContent-Length: 7\r\n\r\n{{\"b\":{}}}", self.texts % 10),
                )
            }
            _ => {
                let head = format!("POST /pub/{channel} HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {key}");
                let conn = self.request(node, &format!("{head}\r\nContent-Length: {length}\r\n\r\n{text}"));
                return self.waiting.push(Waiting { node, conn, text, key: Some(key) });
            }
        };
        self.waiting.push(Waiting { node, conn, text: String::new(), key: None });
    }

    /// Whether a server lets clients in.
    pub(super) fn is_open(&self, node: usize) -> bool {
        !self.nodes[node].server.broker.is_loading()
    }

    /// Somebody begins to follow.
    pub(super) fn begin_to_follow(&mut self) {
        let (_, next, _) = self.poll(0, "now");
        let (first, jumps) = (self.seq_of(&next), self.nodes[0].batches.jumps().clone());
        self.followers.push(Follower { next, first, jumps, ..Follower::default() });
    }

    /// Looks what publishers were answered.
    pub(super) fn hear(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            let world = &mut self.nodes[waiting.node].world;
            let bytes = world.read(waiting.conn, usize::MAX);
            let answer = String::from_utf8_lossy(&bytes).into_owned();
            if answer.is_empty() {
                self.waiting.push(waiting);
                continue;
            }
            let status: u16 = answer[9..12].parse().unwrap();
            assert!(matches!(status, 200..=204 | 404 | 409 | 412 | 503), "{answer}");
            if waiting.key.is_none() || status == 503 {
                continue;
            }
            let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).expect(&answer);
            let seq = self.seq_of(body["id"].as_str().unwrap());
            self.name(seq, &waiting.text);
            self.counts[3] += 1;
            // What was answered and lost may be published anew by whoever did not hear of it.
            let jumps = self.nodes[waiting.node].batches.jumps().clone();
            self.told.insert(waiting.text, (seq, jumps));
        }
    }

    pub(super) fn name(&mut self, seq: Seq, text: &str) {
        let before = self.named.insert(seq, text.to_owned());
        assert!(before.as_deref().is_none_or(|before| before == text), "{seq} names {before:?} and {text}");
    }

    pub(super) fn seq_of(&self, id: &str) -> Seq {
        let (epoch, seq) = id.split_once(':').unwrap();
        assert_eq!(epoch, self.epoch.to_string());
        seq.parse().unwrap()
    }

    pub(super) fn poll(&mut self, node: usize, after: &str) -> (Vec<(Seq, String)>, String, bool) {
        let head = format!("GET /sub/a,b,c?as=interval&after={after}&max=1000 HTTP/1.1\r\nHost: x");
        let conn = self.request(node, &format!("{head}\r\nAccept: application/json\r\n\r\n"));
        let bytes = self.nodes[node].world.read(conn, usize::MAX);
        let answer = String::from_utf8_lossy(&bytes).into_owned();
        if answer.starts_with("HTTP/1.1 304") {
            let next = answer.split("Encke-Next: ").nth(1).unwrap().split("\r\n").next().unwrap();
            return (vec![], next.to_owned(), false);
        }
        let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).expect(&answer);
        let messages =
            body["messages"].as_array().unwrap().iter().map(|one| {
                (self.seq_of(one["id"].as_str().unwrap()), one["data"].as_str().unwrap().to_owned())
            });
        (messages.collect(), body["next"].as_str().unwrap().to_owned(), body["gap"] == true)
    }

    /// Somebody asks a server for what is new. Returns whether it is where that server is.
    pub(super) fn follow(&mut self, node: usize, at: usize) -> bool {
        if !self.is_open(node) {
            return false;
        }
        let place = self.followers[at].next.clone();
        let from = self.seq_of(&place);
        let (messages, next, gap) = self.poll(node, &place);
        let to = self.seq_of(&next);
        let batches = &self.nodes[node].batches;
        let newest = batches.seen();
        // Whoever comes from a half that is lost with all its servers is told so, and goes back.
        let goes_back = gap && to < from && from > newest;
        assert!(to >= from || goes_back, "it would be given again what it has: {place} → {next}");
        let after = match goes_back {
            true => batches.jumps().parting(&self.followers[at].jumps, from).unwrap_or(0).min(to),
            false => from,
        };
        let mut last = after;
        for (seq, text) in &messages {
            assert!(*seq > last && *seq <= to, "in order, none twice: {seq} after {last}");
            last = *seq;
            assert!(!batches.jumps().skip(*seq), "{seq} is inside a jump that the server knows of");
            let before = self.named.insert(*seq, text.clone());
            assert!(before.as_ref().is_none_or(|before| before == text), "{seq} names {before:?} and {text}");
        }
        let follower = &mut self.followers[at];
        follower.seen.extend(messages.iter().map(|(seq, _)| *seq));
        if gap {
            self.counts[4] += 1;
            self.gone_back += usize::from(goes_back);
            follower.gaps.push((after, to, newest));
        }
        follower.jumps = self.nodes[node].batches.jumps().clone();
        follower.next = next;
        to <= newest
    }

    /// Everything is well: whoever was answered is missed by nobody who has not been told, and all get what follows.
    pub(super) fn settle_followers(&mut self) {
        let mut deletions = self.engines[0].deletions();
        deletions.extend(self.undeleted.iter().cloned());
        for at in 0..self.followers.len() {
            let node = at % NODES;
            // Who comes from a half of which nobody has heard waits until it is known that nobody will.
            if !self.follow(node, at) {
                self.let_beat(3);
                assert!(self.follow(node, at), "follower {at} is ahead of everybody for good");
            }
            let follower = &self.followers[at];
            for (text, (seq, jumps)) in self.told.iter().filter(|(_, (seq, _))| *seq > follower.first) {
                let is_told = |seq: Seq| follower.gaps.iter().any(|(from, to, _)| *from < seq && seq <= *to);
                // With a half that has lost, numbers may be higher than those of the jump by which the other one left.
                let left = self.engines[0].jumps.iter().find(|jump| jump.to <= *seq && !jumps.have(**jump));
                let is_told = is_told(*seq) || left.is_some_and(|left| is_told(left.to));
                // What was deleted is told as a gap on its channel's account, wherever the poll that tells it ends.
                let is_deleted = deletions.iter().any(|(channel, by)| {
                    let is_told = |&(from, _, newest): &(Seq, Seq, Seq)| from < *seq && *by <= newest;
                    seq < by && text.split(' ').next() == Some(channel) && follower.gaps.iter().any(is_told)
                });
                assert!(
                    follower.seen.contains(seq) || is_told || is_deleted,
                    "{text} was answered as {seq}, and follower {at} was not told that it is missing: {:?}; {:?}",
                    follower.gaps,
                    self.engines[0].stream
                );
            }
            (0..NODES).for_each(|node| self.catch_up(node));
            self.texts += 1;
            let text = format!("a text {}", self.texts);
            let head = "POST /pub/a HTTP/1.1\r\nHost: x\r\nContent-Length";
            let conn = self.request(node, &format!("{head}: {}\r\n\r\n{text}", text.len()));
            let is_written = |one: &Node| one.queue.is_empty();
            while !self.nodes.iter().all(is_written) {
                (0..NODES).for_each(|node| self.write(node));
            }
            (0..NODES).for_each(|node| self.read(node, usize::MAX));
            let answer = String::from_utf8(self.nodes[node].world.read(conn, usize::MAX)).unwrap();
            assert!(answer.starts_with("HTTP/1.1 20"), "all is well, but for: {answer}");
            self.follow(node, at);
            let mut seen = self.followers[at].seen.iter();
            let has_it = seen.any(|seq| self.named.get(seq) == Some(&text));
            assert!(has_it, "what follows is missed by follower {at}");
            for node in 0..NODES {
                let listener = self.nodes[node].listener.expect("somebody listens");
                let told = self.nodes[node].world.read(listener, usize::MAX);
                let told = String::from_utf8_lossy(&told);
                assert!(told.contains(&text), "who listens to server {node} has not heard {text:?}: {told}");
            }
        }
    }

    /// The latest values, with their ids.
    pub(super) fn values(&mut self, node: usize) -> Vec<String> {
        let one = |key: usize| {
            let conn = self.request(node, &format!("GET /pub/values?key=k{key} HTTP/1.1\r\nHost: x\r\n\r\n"));
            let bytes = self.nodes[node].world.read(conn, usize::MAX);
            let answer = String::from_utf8_lossy(&bytes).into_owned();
            let lines = answer.lines().filter(|line| !line.starts_with("Date: "));
            lines.collect::<Vec<_>>().join("\n")
        };
        (0..3).map(one).collect()
    }
}
