//! What a history is, made of the proposals that are in it: what a store is held to.

use crate::hub::Data;
use crate::id::Seq;
use crate::log::{Answered, Batch, Lost, Opening, Proposal, Record};
use std::collections::{BTreeMap, BTreeSet};

/// Messages that a ring keeps.
const RING: usize = 3;

/// A channel and a key on it.
type Place = (Box<str>, Box<str>);

/// A history, and what a hub would keep of it.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Every message, whatever became of it.
    messages: BTreeMap<Seq, Record>,
    rings: BTreeMap<Box<str>, BTreeSet<Seq>>,
    /// Under which number keys changed last: a value or a removal.
    changed: BTreeMap<Place, Seq>,
    /// What limits or deletions threw out of the rings.
    lost: BTreeMap<Box<str>, Seq>,
    /// The same of what had no key, of removals, and of what was deleted.
    of_latest: BTreeMap<Box<str>, Seq>,
    deleted: BTreeMap<Box<str>, Seq>,
    /// When channels were deleted that had values.
    tables: BTreeMap<Box<str>, Seq>,
    answered: BTreeMap<Box<str>, Answered>,
    revoked: BTreeSet<Box<str>>,
    /// The number of the last record.
    pub last: Seq,
}

/// What a store hands over when a life begins.
#[derive(Debug, Default)]
pub struct Loaded {
    records: BTreeMap<Seq, Record>,
    lost: BTreeMap<Box<str>, Seq>,
    of_latest: BTreeMap<Box<str>, Seq>,
    answered: BTreeMap<Box<str>, Answered>,
    revoked: BTreeSet<Box<str>>,
}

impl Loaded {
    pub fn take(&mut self, batch: Batch) {
        for Lost { channel, upto, of_latest } in batch.lost {
            let has_more = |record: &Record| record.channel() == &*channel;
            assert!(
                !self.records.values().any(has_more),
                "a loss is told before what is kept of its channel"
            );
            assert!(of_latest <= upto);
            self.of_latest.insert(channel.clone(), of_latest);
            assert!(self.lost.insert(channel, upto).is_none(), "a loss is told once");
        }
        for entry in batch.entries {
            assert!(self.records.last_key_value().is_none_or(|(&last, _)| last < entry.seq), "out of order");
            self.records.insert(entry.seq, entry.record);
        }
        self.answered.extend(batch.answered.into_iter().map(|kept| (kept.key.clone(), kept)));
        self.revoked.extend(batch.revoked);
    }

    /// Up to which number a subscriber of a channel is told of a gap.
    fn told(&self, channel: &str, opening: &Opening) -> Seq {
        self.lost.get(channel).copied().unwrap_or(0).max(opening.watermark)
    }
}

fn key(record: &Record) -> Option<&str> {
    match record {
        Record::Message { publication, .. } => publication.key.as_deref(),
        _ => None,
    }
}

fn is_value(record: &Record) -> bool {
    matches!(record, Record::Message { publication, .. } if publication.data != Data::Removed)
}

impl State {
    pub fn apply(&mut self, proposal: &Proposal) {
        for (seq, record) in (proposal.first..).zip(&proposal.records) {
            assert!(seq > self.last, "number {seq} is used again");
            self.last = seq;
            match record {
                Record::Message { .. } if record.is_passing() => {}
                Record::Message { channel, .. } => {
                    self.messages.insert(seq, record.clone());
                    if let Some(key) = key(record) {
                        self.changed.insert((channel.clone(), key.into()), seq);
                    }
                    let ring = self.rings.entry(channel.clone()).or_default();
                    ring.insert(seq);
                    if ring.len() > RING {
                        let oldest = ring.pop_first().unwrap();
                        self.lost.insert(channel.clone(), oldest);
                        let record = &self.messages[&oldest];
                        if key(record).is_none() || !is_value(record) {
                            self.of_latest.insert(channel.clone(), oldest);
                        }
                    }
                }
                Record::Deleted { channel } => {
                    self.deleted.insert(channel.clone(), seq);
                    let values = self.values();
                    self.changed.retain(|(name, _), _| name != channel);
                    let ring = self.rings.remove(channel);
                    let mut newest = ring.and_then(|mut ring| ring.pop_last());
                    if self.values() < values {
                        // Whoever had everything has a table that is to be forgotten.
                        newest = Some(seq);
                        self.tables.insert(channel.clone(), seq);
                    }
                    if let Some(newest) = newest {
                        self.lost.insert(channel.clone(), newest);
                        self.of_latest.insert(channel.clone(), newest);
                    }
                }
                Record::Revoked { text, .. } => _ = self.revoked.insert(text.clone()),
                _ => unreachable!("only what several servers share has others"),
            }
        }
        self.answered.extend(proposal.answered.iter().map(|kept| (kept.key.clone(), kept.clone())));
    }

    /// A hub begins with what was loaded. Of what has happened, a sweep may have taken more: somebody was ahead of the disk.
    pub fn begin_with(&mut self, loaded: &Loaded) {
        let gone: Vec<Seq> = self
            .messages
            .keys()
            .copied()
            .filter(|seq| self.keeps(*seq) && !loaded.records.contains_key(seq))
            .collect();
        for seq in gone {
            let channel: Box<str> = self.messages[&seq].channel().into();
            if self.rings.get_mut(&channel).is_some_and(|ring| ring.remove(&seq)) {
                let lost = self.lost.entry(channel.clone()).or_default();
                *lost = seq.max(*lost);
            }
            self.changed.retain(|_, newest| *newest != seq);
        }
        for (known, loaded) in [(&mut self.lost, &loaded.lost), (&mut self.of_latest, &loaded.of_latest)] {
            for (channel, seq) in loaded {
                let known = known.entry(channel.clone()).or_default();
                *known = (*known).max(*seq);
            }
        }
    }

    /// Whether a hub keeps message `seq`. One that has forgotten a removal is the worst for a store.
    pub fn keeps(&self, seq: Seq) -> bool {
        let Some(record) = self.messages.get(&seq) else { return false };
        let is_latest = |key: &str| self.changed.get(&(record.channel().into(), key.into())) == Some(&seq);
        self.rings.get(record.channel()).is_some_and(|ring| ring.contains(&seq))
            || is_value(record) && key(record).is_some_and(is_latest)
    }

    pub fn lost_on(&self, channel: &str) -> Seq {
        self.lost.get(channel).copied().unwrap_or(0)
    }

    pub fn of_latest(&self, channel: &str) -> Seq {
        self.of_latest.get(channel).copied().unwrap_or(0)
    }

    /// Messages and values that a hub keeps, as the reactor counts them.
    pub fn live(&self) -> u64 {
        (self.rings.values().map(BTreeSet::len).sum::<usize>() + self.values()) as u64
    }

    /// Keys that have a value.
    fn values(&self) -> usize {
        self.changed.values().filter(|seq| is_value(&self.messages[seq])).count()
    }

    /// Whether a history in which just this has happened could have been loaded so. What is dead was taken away by the
    /// word of a `hub`, which may have been `ahead` of what the disk has.
    pub fn check(&self, loaded: &Loaded, opening: &Opening, hub: &Self, ahead: bool) -> Result<(), String> {
        if opening.next <= self.last {
            return Err(format!("number {} was used, and the next is {}", self.last, opening.next));
        }
        self.check_loaded(loaded, opening)?;
        self.check_missing(loaded, opening, hub, ahead)?;
        self.check_lost(loaded, opening, hub)?;
        self.check_rest(loaded, opening)
    }

    fn check_loaded(&self, loaded: &Loaded, opening: &Opening) -> Result<(), String> {
        for (seq, record) in &loaded.records {
            match self.messages.get(seq) {
                Some(known) if known == record => {}
                Some(_) => return Err(format!("wrong bytes at {seq}")),
                None => return Err(format!("{seq} never happened")),
            }
            if self.deleted.get(record.channel()).is_some_and(|deleted| seq <= deleted) {
                let what = if is_value(record) { "value or message" } else { "removal" };
                return Err(format!("{seq}, a {what}, was deleted"));
            }
            if let Record::Message { at, .. } = record
                && *at > opening.time
            {
                return Err(format!("the time line runs backwards: {at:?}, {:?}", opening.time));
            }
            // What has been superseded does not come back.
            if let Some(key) = key(record)
                && let Some(newest) = self.changed.get(&(record.channel().into(), key.into()))
                && !loaded.records.contains_key(newest)
            {
                return Err(format!("{seq} is there, and {newest} is not, which superseded it"));
            }
        }
        Ok(())
    }

    fn check_missing(
        &self,
        loaded: &Loaded,
        opening: &Opening,
        hub: &Self,
        ahead: bool,
    ) -> Result<(), String> {
        for (seq, record) in self.messages.iter().filter(|(seq, _)| !loaded.records.contains_key(seq)) {
            if self.keeps(*seq) && (!ahead || hub.keeps(*seq)) {
                return Err(format!("{seq} on {} was stored and is not there", record.channel()));
            }
            if *seq > loaded.told(record.channel(), opening) {
                return Err(format!("{seq} is not on {} any more, and nobody is told", record.channel()));
            }
            let of_latest =
                loaded.of_latest.get(record.channel()).copied().unwrap_or(0).max(opening.watermark);
            let is_superseded = is_value(record) && key(record).is_some();
            let was_deleted = self.deleted.get(record.channel()).is_some_and(|deleted| seq <= deleted);
            if *seq > of_latest && (!is_superseded || was_deleted) {
                return Err(format!(
                    "{seq} is not on {} any more: a gap for latest values",
                    record.channel()
                ));
            }
        }
        Ok(())
    }

    fn check_lost(&self, loaded: &Loaded, opening: &Opening, hub: &Self) -> Result<(), String> {
        for (channel, deleted) in &self.tables {
            if loaded.told(channel, opening) < *deleted {
                return Err(format!("{channel} was deleted at {deleted}, and nobody is told"));
            }
        }
        for (channel, upto) in &loaded.lost {
            // Where removals were deleted, the deletion counts on suspicion.
            let suspected = self.deleted.get(channel).copied().unwrap_or(0).max(opening.watermark);
            let lost = self.lost_on(channel).max(hub.lost_on(channel)).max(suspected);
            if *upto > lost {
                return Err(format!("{channel} has lost nothing up to {upto}"));
            }
            let of_latest = self.of_latest(channel).max(hub.of_latest(channel)).max(suspected);
            if loaded.of_latest[channel] > of_latest {
                return Err(format!(
                    "{channel} has lost no latest values up to {}",
                    loaded.of_latest[channel]
                ));
            }
            let is_gone = |(seq, record): (&Seq, &Record)| {
                *seq <= *upto && record.channel() == &**channel && key(record).is_none()
            };
            if loaded.records.iter().any(is_gone) {
                return Err(format!("{channel} has something that was lost, up to {upto}"));
            }
        }
        Ok(())
    }

    fn check_rest(&self, loaded: &Loaded, opening: &Opening) -> Result<(), String> {
        for (key, kept) in &self.answered {
            if kept.until > opening.time && loaded.answered.get(key) != Some(kept) {
                return Err(format!("{key} is forgotten"));
            }
        }
        if let Some(key) = loaded.answered.keys().find(|key| !self.answered.contains_key(*key)) {
            return Err(format!("{key} is known, and what it was answered is not"));
        }
        // One that was refused may be there: whoever asked for that asks again.
        if let Some(text) = self.revoked.iter().find(|text| !loaded.revoked.contains(*text)) {
            return Err(format!("{text} counts again"));
        }
        Ok(())
    }
}
