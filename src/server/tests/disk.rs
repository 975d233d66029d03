//! What lies on a simulated disk, and how a life of a server begins with it. Rows are read as the store reads them.

use super::world::World;
use crate::id::{Epoch, Seq};
use crate::log::{
    Answered, Batch, Condition, Entry, LEASE, LogTime, Losses, Marks, Opening, Proposal, Record,
};
use crate::server::Server;
use std::collections::BTreeMap;

/// Rows, and what is known beside them.
#[derive(Debug)]
pub struct Disk {
    pub entries: Vec<Entry>,
    pub answered: Vec<Answered>,
    /// What channels have lost.
    pub lost: BTreeMap<Box<str>, Marks>,
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
                _ if record.is_passing() => {}
                Record::Message { .. } => self.entries.push(Entry { seq, record: record.clone() }),
                Record::Deleted { channel } => {
                    let marks = self.lost.entry(channel.clone()).or_default();
                    marks.deleted = seq;
                    // What other channels have, too, is looked at when a life begins.
                    self.entries.retain(|entry| {
                        let goes = entry.record.channels().iter().all(|name| **name == **channel);
                        if goes {
                            let upto = if has_key(&entry.record) { seq } else { entry.seq };
                            (marks.lost, marks.of_latest) = (upto.max(marks.lost), upto.max(marks.of_latest));
                        }
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
        for (channel, marks) in &self.lost {
            losses.note(channel, *marks);
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
        for lost in lost {
            let marks = Marks { lost: lost.upto, deleted: 0, of_latest: lost.of_latest };
            let known = self.lost.entry(lost.channel).or_default();
            *known = known.and(marks);
        }
        dead
    }
}

/// Whether it is a value or a removal of a key.
fn has_key(record: &Record) -> bool {
    matches!(record, Record::Message { publication, .. } if publication.key.is_some())
}
