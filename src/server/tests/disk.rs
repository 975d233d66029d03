//! What lies on a simulated disk, and how a life of a server begins with it. Rows are read as the store reads them.

use super::world::World;
use crate::id::{Epoch, Seq};
use crate::log::{
    Answered, Batch, Condition, Entry, LEASE, LogTime, Losses, Lost, Opening, Proposal, Record,
};
use crate::server::Server;
use std::collections::BTreeMap;

/// Rows, and what is known beside them.
#[derive(Debug)]
pub struct Disk {
    pub entries: Vec<Entry>,
    pub answered: Vec<Answered>,
    /// Up to which number channels have lost messages to limits, and were deleted.
    pub lost: BTreeMap<Box<str>, (Seq, Seq)>,
    pub next: Seq,
    pub lease: Seq,
    pub lost_all: Seq,
}

impl Disk {
    /// Nothing is on it.
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
            answered: Vec::new(),
            lost: BTreeMap::new(),
            next: 1,
            lease: 0,
            lost_all: 0,
        }
    }

    /// Writes a proposal.
    pub fn write(&mut self, proposal: &Proposal) {
        self.next = proposal.last() + 1;
        for (seq, record) in (proposal.first..).zip(&proposal.records) {
            match record {
                Record::Message { .. } => self.entries.push(Entry { seq, record: record.clone() }),
                Record::Deleted { channel } => {
                    let (lost, deleted) = self.lost.entry(channel.clone()).or_default();
                    *deleted = seq;
                    // What other channels have, too, is looked at when a life begins.
                    self.entries.retain(|entry| {
                        let goes = entry.record.channels().iter().all(|name| **name == **channel);
                        *lost = if goes { entry.seq.max(*lost) } else { *lost };
                        !goes
                    });
                }
                _ => unreachable!("only what several servers share has others"),
            }
        }
        self.answered.extend(proposal.answered.clone());
    }

    /// A life begins. In `behind`, what was not on the disk when the one before crashed is lost.
    pub fn begin(&mut self, behind: bool, was_clean: bool) {
        if behind && !was_clean && self.lease > 0 {
            (self.next, self.lost_all) = (self.lease, self.lease);
        }
        self.lease = self.next + LEASE;
    }

    /// What the server is told first.
    pub const fn opening(&self, epoch: Epoch, time: u64) -> Opening {
        Opening { epoch, secret: 77, next: self.next, lost: self.lost_all, watermark: 0, time: LogTime(time) }
    }

    /// Hands over all that is on it, some rows at a time. What no channel has any more is given to `gone`.
    pub fn load(&mut self, server: &mut Server, world: &mut World, mut gone: impl FnMut(&Entry)) {
        let mut losses = Losses::new(0);
        for (channel, (lost, deleted)) in &self.lost {
            losses.note(channel, *lost, *deleted);
        }
        let mut batch = Batch::default();
        self.entries.retain(|entry| {
            let is_kept = losses.admits(entry.seq, &entry.record, &mut batch.lost);
            if is_kept {
                batch.entries.push(entry.clone());
            } else {
                gone(entry);
            }
            if batch.entries.len() >= 7 {
                server.apply(world.now, std::mem::take(&mut batch), world);
            }
            is_kept
        });
        server.apply(world.now, batch, world);
        let answered = self.answered.clone();
        server.apply(world.now, Batch { lost: losses.rest(), answered, ..Batch::default() }, world);
        server.log_condition(world.now, Condition::Ready);
    }

    /// Asks which rows the server keeps, and takes note of what it has lost. The others are returned.
    pub fn sweep(&mut self, server: &Server) -> Vec<Seq> {
        let names = |entry: &Entry| entry.record.channels().into_iter().map(Into::into);
        let rows = self.entries.iter().flat_map(|entry| names(entry).map(|name| (entry.seq, name)));
        let rows: Vec<(Seq, Box<str>)> = rows.collect();
        let (dead, lost) = server.not_kept(&rows);
        for Lost { channel, upto } in lost {
            let (known, _) = self.lost.entry(channel).or_default();
            *known = upto.max(*known);
        }
        dead
    }
}
