//! Prices with a history on disk: the process crashes at any moment, and what comes after it knows every value and every
//! removal that anybody saw.

use super::items::Answer;
use super::{CHANNELS, Disk, Sim};
use crate::broker::LogSettings;
use crate::config::Config;
use crate::id::{Epoch, MessageId, Seed, Seq};
use crate::log::{Batch, Entry};
use crate::server::tests::trace::note;
use crate::server::{Effect, Server};
use serde_json::Value;

/// What the time line of the history is ahead of our clock.
const AHEAD_MS: u64 = 1_800_000_000_000;

impl Sim {
    /// Carries out what the server wants done. What it proposes is on the disk, and history, at once. Returns whether
    /// there was such.
    pub(super) fn carry_out(&mut self) -> bool {
        let mut has_news = false;
        loop {
            let mut proposals = Vec::new();
            while let Some(effect) = self.server.poll_effect() {
                match effect {
                    Effect::Append(proposal) => proposals.push(*proposal),
                    other => self.world.carry(&other),
                }
            }
            let Some(last) = proposals.last().map(|proposal| proposal.ticket) else { return has_news };
            has_news = true;
            let mut batch = Batch { own: Some(last), ..Batch::default() };
            for proposal in proposals {
                self.disk.as_mut().expect("a log").write(&proposal);
                let numbered = (proposal.first..).zip(proposal.records);
                batch.entries.extend(numbered.map(|(seq, record)| Entry { seq, record }));
                batch.answered.extend(proposal.answered);
            }
            self.server.apply(self.world.now, batch, &mut self.world);
        }
    }

    /// A server begins with what is on the disk.
    pub(super) fn begin_life(&mut self) {
        let Some(disk) = &mut self.disk else { return };
        let now = self.world.now;
        let seed = Seed::of_number(self.random.next());
        self.server = Server::new(self.config.clone(), seed, now);
        self.server.use_log(LogSettings {
            behind: false,
            staged_bytes: 1 << 20,
            lag_ms: 60_000,
            shared: None,
        });
        let epoch = Epoch::from_random(self.epoch);
        self.server.log_opened(now, disk.opening(epoch, AHEAD_MS + now.at.as_millis()));
        disk.load(&mut self.server, &mut self.world, |_| {});
        self.seen = self.server.broker.hub.journal.len();
    }

    /// Another server takes over, which knows nothing.
    pub(super) fn restart(&mut self) {
        note!(self, "restart");
        self.epoch += 1;
        self.server = Server::new(self.config.clone(), Seed::of_number(self.epoch), self.world.now);
        self.world.clear();
        self.truth = super::Truth::default();
        self.seen = 0;
        self.readers.iter_mut().for_each(super::Reader::restart);
        self.sessions.iter_mut().for_each(super::sessions::Session::restart);
    }

    /// The process ends at once, and another one takes up its history: whoever comes is told what it would have been told
    /// before.
    pub(super) fn crash(&mut self) {
        note!(self, "crash");
        self.turn();
        if self.random.one_in(2) {
            let disk = self.disk.as_mut().unwrap();
            let dead = disk.sweep(&self.server);
            disk.entries.retain(|entry| dead.binary_search(&entry.seq).is_err());
        }
        let newest = self.truth.newest();
        let places: Vec<(&str, Option<Seq>)> = CHANNELS
            .into_iter()
            .flat_map(|channel| {
                [None, Some(newest), Some(self.random.below(newest + 1))].map(|at| (channel, at))
            })
            .collect();
        let before: Vec<Shown> = places.iter().map(|&(channel, at)| self.shown(channel, at)).collect();
        note!(self, "what channels have lost: {:?}", self.disk.as_ref().unwrap().lost);
        self.world.clear();
        self.begin_life();
        for (place, before) in places.iter().zip(&before) {
            let after = self.shown(place.0, place.1);
            note!(self, "{place:?}: {before:?}, {after:?}");
            // A channel that nobody listens to, and whose keys are all gone, is forgotten.
            let is_known = self.truth.keys(|channel| channel == place.0).any(|(channel, key)| {
                self.truth.value_at(channel, key, newest).is_some_and(|seq| !self.has_expired(seq))
            });
            assert!(
                before.gap || !after.gap || !is_known,
                "{place:?}: a crash is no gap: {before:?}, {after:?}"
            );
            if before.gap || after.gap {
                continue;
            }
            assert_eq!(before.messages, after.messages, "{place:?}: {before:?}, {after:?}");
        }
        self.readers.iter_mut().for_each(super::Reader::leave);
        self.sessions.iter_mut().for_each(super::sessions::Session::restart);
        self.counts[5] += 1;
    }

    fn has_expired(&self, seq: Seq) -> bool {
        self.truth.get(seq).expires <= self.world.now.at
    }

    /// What somebody is told who wants latest values, and has what was up to there.
    fn shown(&mut self, channel: &str, at: Option<Seq>) -> Shown {
        let id = |seq| MessageId { epoch: Epoch::from_random(self.epoch), seq }.text();
        let after = at.map(|seq| format!("&after={}", id(seq))).unwrap_or_default();
        let head = format!("GET /sub/{channel}?as=interval&latest&max=1000{after} HTTP/1.1\r\nHost: x\r\n");
        let answer: Answer = self.request(&format!("{head}Accept: application/json\r\n\r\n"));
        let hub = &self.server.broker.hub;
        note!(self, "{channel} has lost {:?}", (hub.lost_on(channel), hub.lost_of_latest_on(channel)));
        let body = answer.json();
        let messages = body["messages"].as_array().cloned().unwrap_or_default();
        Shown { gap: answer.field("encke-gap").is_some(), messages }
    }
}

/// What somebody is told.
#[derive(Debug)]
struct Shown {
    gap: bool,
    messages: Vec<Value>,
}

#[test]
fn a_value_of_no_time_is_removed_by_the_next_life() {
    let mut sim = Sim::new(0, false);
    (sim.config, sim.disk) = (Config::default(), Some(Disk::new()));
    sim.begin_life();
    let publish = |sim: &mut Sim, ttl: &str| {
        let text = format!("POST /pub/q?key=A{ttl} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1");
        sim.request(&text).json()["id"].as_str().unwrap().to_owned()
    };
    let first = publish(&mut sim, "");
    publish(&mut sim, "&ttl=0");
    // The process ends before the removal is told.
    sim.world.clear();
    sim.begin_life();
    for _ in 0..2 {
        sim.world.advance(1000);
        let now = sim.world.now;
        sim.server.tick(now, &mut sim.world);
        sim.server.deliver(now, &mut sim.world);
        sim.carry_out();
    }
    let get = format!("GET /sub/q?as=interval&latest&after={first} HTTP/1.1\r\nHost: x\r\n");
    let answer = sim.request(&format!("{get}Accept: application/json\r\n\r\n")).json();
    assert_eq!(answer["messages"][0]["removed"], true, "{answer}");
    sim.trace.finish();
}
