//! The history of the simulation on a disk that answers late, refuses, and keeps what it has answered over a crash.

use super::super::disk::Disk;
use super::super::trace::note;
use super::Sim;
use crate::broker::LogSettings;
use crate::id::{Epoch, Random, Seed, Seq};
use crate::log::{Batch, Entry, Proposal, Refusal};
use crate::server::{Effect, Server};
use std::collections::{BTreeSet, VecDeque};

/// What the log is, and what it was given and has not answered.
pub(super) struct Log {
    pub disk: Disk,
    behind: bool,
    epoch: Epoch,
    queue: VecDeque<Proposal>,
    /// What has ever been on the disk.
    stored: BTreeSet<Seq>,
}

impl Log {
    pub fn new(random: &mut Random) -> Self {
        Self {
            disk: Disk::new(),
            behind: random.one_in(3),
            epoch: Epoch::from_random(random.next()),
            queue: VecDeque::new(),
            stored: BTreeSet::new(),
        }
    }

    fn store(&mut self, proposal: &Proposal) {
        self.disk.write(proposal);
        self.stored.extend(proposal.first..=proposal.last());
    }
}

impl Sim {
    /// A life begins with what is on the disk.
    pub(super) fn begin_life(&mut self) {
        let (now, seed) = (self.world.now, Seed::of_number(self.random.next()));
        let Some(log) = &mut self.log else { return };
        self.server = Server::new(self.config.clone(), seed, now);
        let settings =
            LogSettings { behind: log.behind, staged_bytes: 1 << 20, lag_ms: 60_000, shared: None };
        self.server.use_log(settings);
        // The time line of the history is that of the world.
        let opening = log.disk.opening(log.epoch, 1_800_000_000_000 + now.at.as_millis());
        self.server.log_opened(now, opening);
        log.disk.load(&mut self.server, &mut self.world, |_| {});
        self.carry_out();
        self.note_journal();
    }

    /// A life ends, in good order or not: of what the log has not answered, some is on the disk.
    pub(super) fn end_life(&mut self) {
        if self.random.one_in(3) {
            note!(self, "a is deleted");
            self.ask("DELETE /pub/a HTTP/1.1\r\nHost: x\r\n\r\n");
            self.carry_out();
        }
        let is_clean = self.random.one_in(3);
        let Some(log) = &mut self.log else { return };
        let count = log.queue.len();
        let kept = if is_clean { count } else { self.random.below(count as u64 + 1) as usize };
        for proposal in std::mem::take(&mut log.queue).iter().take(kept) {
            log.store(proposal);
        }
        if is_clean {
            log.disk.lease = 0;
        }
        log.disk.begin(log.behind, is_clean);
        // What a crash took was history only while the server ran ahead of its log.
        let stored = &log.stored;
        self.journal.retain(|seq, _| stored.contains(seq));
    }

    /// What the server wants done at the end of a turn.
    pub(super) fn carry_out(&mut self) {
        while let Some(effect) = self.server.poll_effect() {
            match effect {
                Effect::Append(proposal) => {
                    self.log.as_mut().expect("a history on disk").queue.push_back(*proposal);
                }
                other => self.world.carry(&other),
            }
        }
    }

    /// The log answers some of what waits, perhaps.
    pub(super) fn answer(&mut self) {
        let Some(log) = self.log.as_mut().filter(|_| self.random.one_in(3)) else { return };
        let count = 1 + self.random.below(log.queue.len().max(1) as u64) as usize;
        let taken: Vec<Proposal> = log.queue.drain(..count.min(log.queue.len())).collect();
        let Some(last) = taken.last().map(|proposal| proposal.ticket) else { return };
        if !log.behind && self.random.one_in(6) {
            note!(self, "the log refuses");
            let why = Refusal("no space left".to_owned());
            return self.server.refuse_proposals(self.world.now, last, &why, &mut self.world);
        }
        let mut batch = Batch { own: Some(last), ..Batch::default() };
        for proposal in taken {
            log.store(&proposal);
            let numbered = (proposal.first..).zip(proposal.records);
            batch.entries.extend(numbered.map(|(seq, record)| Entry { seq, record }));
        }
        self.server.apply(self.world.now, batch, &mut self.world);
        if self.random.one_in(4) {
            let dead: BTreeSet<Seq> = log.disk.sweep(&self.server).into_iter().collect();
            log.disk.entries.retain(|entry| !dead.contains(&entry.seq));
        }
    }
}
