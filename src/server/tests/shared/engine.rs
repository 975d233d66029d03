//! A simulated engine: what the scripts do, in short.

use crate::id::Seq;
use crate::log::{Jump, LogTime, NodeId, Proposal, Record, Ticket};
use std::collections::BTreeMap;

/// A batch in the stream, or a jump.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub first: Seq,
    pub last: Seq,
    pub at: LogTime,
    pub node: NodeId,
    pub groups: Vec<(Ticket, Vec<Record>)>,
    pub lost: Option<Seq>,
}

/// What the scripts do, in short.
#[derive(Debug, Clone, Default)]
pub(super) struct Engine {
    pub run: u64,
    written_by: u64,
    pub seq: Seq,
    pub stream: Vec<Batch>,
    keys: BTreeMap<Box<str>, (Seq, Box<[u8]>)>,
    values: BTreeMap<(Box<str>, Box<str>), Seq>,
    /// The last batch of each server, and up to which serial number batches are refused.
    batches: BTreeMap<NodeId, (u64, u64, Seq)>,
    pub jumps: Vec<Jump>,
}

pub(super) enum Outcome {
    Taken,
    Repeated(Seq, Box<[u8]>),
    Outdated,
}

impl Engine {
    /// One in its first run.
    pub fn new() -> Self {
        Self { run: 1, ..Self::default() }
    }

    /// Returns the last batch of the server, and the last number.
    pub fn attach(&mut self, node: NodeId, seen: Seq, fence: u64, at: LogTime, jump: Seq) -> (u64, Seq) {
        let is_new = self.written_by == 0 && self.stream.is_empty() && seen == 0;
        if !is_new && (self.written_by != self.run || seen > self.seq) {
            let to = self.seq.max(seen) + jump;
            let first = self.seq + 1;
            self.stream.push(Batch { first, last: to, at, node, groups: vec![], lost: Some(self.seq) });
            self.jumps.push(Jump { to, after: self.seq });
            self.seq = to;
        }
        self.written_by = self.run;
        let batch = self.batches.entry(node).or_default();
        batch.0 = fence;
        (batch.1, batch.2)
    }

    pub fn append(
        &mut self,
        node: NodeId,
        serial: u64,
        batch: &[Proposal],
        at: LogTime,
    ) -> Option<(Vec<Outcome>, Seq)> {
        if self.written_by != self.run || self.batches.get(&node).is_some_and(|batch| batch.0 >= serial) {
            return None;
        }
        let (first, mut groups, mut outcomes) = (self.seq + 1, Vec::new(), Vec::new());
        for proposal in batch {
            let known = proposal.answered.as_ref().and_then(|answered| self.keys.get(&answered.key));
            let values: Vec<(Box<str>, Box<str>)> = proposal.records.iter().filter_map(value_of).collect();
            let changed = values.iter().filter_map(|value| self.values.get(value)).max();
            if let Some((first, answer)) = known {
                outcomes.push(Outcome::Repeated(*first, answer.clone()));
            } else if proposal.seen.is_some_and(|seen| changed > Some(&seen)) {
                outcomes.push(Outcome::Outdated);
            } else {
                if let Some(answered) = &proposal.answered {
                    self.keys.insert(answered.key.clone(), (self.seq + 1, answered.answer.clone()));
                }
                self.seq += proposal.records.len() as Seq;
                self.values.extend(values.into_iter().map(|value| (value, self.seq)));
                groups.push((proposal.ticket, proposal.records.clone()));
                outcomes.push(Outcome::Taken);
            }
        }
        if !groups.is_empty() {
            self.stream.push(Batch { first, last: self.seq, at, node, groups, lost: None });
            self.batches.insert(node, (serial, serial, self.seq));
        }
        Some((outcomes, self.seq))
    }

    /// Another run, which lacks the last entries. Returns the deletions among them.
    pub fn restart(&mut self, lost: usize, run: u64) -> Vec<Deletion> {
        self.run = run;
        let mut undeleted = Vec::new();
        for batch in self.stream.split_off(self.stream.len() - lost.min(self.stream.len())) {
            undeleted.extend(batch.deletions());
            self.jumps.retain(|jump| jump.to < batch.first);
            self.keys.retain(|_, (first, _)| *first < batch.first);
            self.values.retain(|_, seq| *seq < batch.first);
            self.batches.retain(|_, (_, _, last)| *last < batch.first);
        }
        self.seq = self.stream.last().map_or(0, |batch| batch.last);
        undeleted
    }

    /// All deletions.
    pub fn deletions(&self) -> Vec<Deletion> {
        self.stream.iter().flat_map(Batch::deletions).collect()
    }

    /// Deletions that it has and `other` has not.
    pub fn deletions_beside(&self, other: &Self) -> Vec<Deletion> {
        let common =
            self.stream.iter().zip(&other.stream).take_while(|(one, other)| one.last == other.last).count();
        self.stream.iter().skip(common).flat_map(Batch::deletions).collect()
    }

    /// The texts that are history: all that are in the stream, but for those that were deleted.
    pub fn texts(&self) -> Vec<(Seq, String)> {
        let mut kept: BTreeMap<Seq, (&str, String)> = BTreeMap::new();
        for (seq, record) in self.stream.iter().flat_map(Batch::numbered) {
            match record {
                Record::Message { channel, publication, .. } if publication.key.is_none() => {
                    let text = String::from_utf8_lossy(publication.data.bytes()).into_owned();
                    kept.insert(seq, (channel, text));
                }
                Record::Deleted { channel } => kept.retain(|_, (of, _)| *of != &**channel),
                _ => {}
            }
        }
        kept.into_iter().map(|(seq, (_, text))| (seq, text)).collect()
    }
}

/// That of a channel, by the record of this number.
pub(super) type Deletion = (Box<str>, Seq);

impl Batch {
    fn numbered(&self) -> impl Iterator<Item = (Seq, &Record)> {
        (self.first..).zip(self.groups.iter().flat_map(|(_, records)| records))
    }

    fn deletions(&self) -> impl Iterator<Item = Deletion> {
        self.numbered().filter_map(|(seq, record)| match record {
            Record::Deleted { channel } => Some((channel.clone(), seq)),
            _ => None,
        })
    }
}

fn value_of(record: &Record) -> Option<(Box<str>, Box<str>)> {
    let Record::Message { channel, publication, .. } = record else { return None };
    Some((channel.clone(), publication.key.clone()?))
}
