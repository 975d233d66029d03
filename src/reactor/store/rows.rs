//! Rows of the tables of a history: how facts, messages and marks lie in them, read and written in a transaction.
//!
//! | table | row |
//! |---|---|
//! | `messages` | number → message |
//! | `channels` | name → up to which number it has lost messages to limits, was deleted, and has lost what who wants latest values misses |
//! | `keys` | idempotency key → until when, answer |
//! | `meta` | name → number |
//!
//! A channel without a row in `channels` has lost nothing that is newer than the watermark in `meta`.

use super::StoreError;
use super::clocks::Clocks;
use crate::id::Seq;
use crate::log::{Answered, LogTime, Lost, Marks, Proposal, Record};
use redb::{CursorError, Database, ReadableDatabase, ReadableTable, ReadableTableMetadata};
use redb::{TableDefinition, WriteTransaction};
use std::collections::VecDeque;
use std::ops::Bound;

/// The format of the tables and records; another one is refused.
pub const FORMAT: u64 = 1;

/// Messages by their numbers.
pub const MESSAGES: TableDefinition<u64, &[u8]> = TableDefinition::new("messages");
/// What channels have lost. One type for this and what follows, as each other one would be 60 kB of the program.
pub const CHANNELS: Named = TableDefinition::new("channels");
/// Idempotency keys.
pub const KEYS: Named = TableDefinition::new("keys");
/// Facts, and rights that were taken back.
pub const META: Named = TableDefinition::new("meta");

/// A table by name. Values begin with numbers of eight bytes, the lowest byte first.
pub type Named = TableDefinition<'static, &'static str, &'static [u8]>;

/// Facts about the history as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meta {
    pub epoch: u64,
    /// The number of the next record.
    pub next: Seq,
    /// Numbers below this may have been given out; 0 = none that are not stored.
    pub lease: Seq,
    /// Cursors below this have a gap everywhere.
    pub lost: Seq,
    /// What channels without a row may have lost.
    pub watermark: Seq,
    /// What hides idempotency keys: the upper and the lower half.
    pub secret: [u64; 2],
    /// Not 0: it is a copy, and needs an epoch of its own.
    pub copy: u64,
    /// Not 0: a life has begun and has not ended in good order.
    pub open: u64,
    /// What the time line and the clocks said at the last commit.
    pub time: LogTime,
    pub clocks: Clocks,
}

impl Meta {
    /// Each with its name in the table.
    pub const fn fields(&mut self) -> [(&'static str, &mut u64); 13] {
        let [secret_high, secret_low] = &mut self.secret;
        [
            ("secret high", secret_high),
            ("secret low", secret_low),
            ("epoch", &mut self.epoch),
            ("next", &mut self.next),
            ("lease", &mut self.lease),
            ("lost", &mut self.lost),
            ("watermark", &mut self.watermark),
            ("copy", &mut self.copy),
            ("open", &mut self.open),
            ("time", &mut self.time.0),
            ("wall", &mut self.clocks.wall_ms),
            ("up", &mut self.clocks.up_ms),
            ("boot", &mut self.clocks.boot),
        ]
    }
}

/// Rows to take away.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Numbers of messages, in order.
    pub dead: Vec<Seq>,
    /// What their channels have lost.
    pub lost: Vec<Lost>,
}

/// What is known of a channel, out of its row. One that ends early is of a version that did not tell the rest.
pub fn marks_in(row: &[u8]) -> Marks {
    let (lost, rest) = number_in(row);
    let (deleted, rest) = number_in(rest);
    let of_latest = if rest.is_empty() { lost } else { number_in(rest).0 };
    Marks { lost, deleted, of_latest }
}

/// The row of it.
pub const fn row_of(marks: Marks) -> [[u8; 8]; 3] {
    [marks.lost.to_le_bytes(), marks.deleted.to_le_bytes(), marks.of_latest.to_le_bytes()]
}

/// A row of any table.
#[derive(Debug, PartialEq, Eq)]
pub enum Row {
    Message(Seq, Box<[u8]>),
    Channel(Box<str>, Box<[u8]>),
    Key(Box<str>, Box<[u8]>),
    Meta(Box<str>, Box<[u8]>),
}

impl Row {
    /// Bytes that it has about.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Message(_, record) => record.len(),
            Self::Channel(name, value) | Self::Key(name, value) | Self::Meta(name, value) => {
                name.len() + value.len()
            }
        }
    }
}

/// Facts, how many messages there are, and idempotency keys by the time at which they may be forgotten.
pub type Facts = (Meta, u64, VecDeque<(LogTime, Box<str>)>);

/// What is known of the whole.
pub fn read_facts(database: &Database) -> Result<Facts, StoreError> {
    let transaction = database.begin_read().map_err(redb::Error::from)?;
    let table = transaction.open_table(META).map_err(redb::Error::from)?;
    let number = |name| -> Result<u64, StoreError> {
        let row = table.get(name).map_err(redb::Error::from)?;
        Ok(number_in(row.ok_or_else(|| StoreError::Damaged(format!("{name} is missing")))?.value()).0)
    };
    match number("format")? {
        FORMAT => {}
        other => return Err(StoreError::Version(other)),
    }
    let mut meta = Meta::default();
    for (name, field) in meta.fields() {
        *field = number(name)?;
    }
    let messages = transaction.open_table(MESSAGES).map_err(redb::Error::from)?;
    transaction.open_table(CHANNELS).map_err(redb::Error::from)?;
    let rows = messages.len().map_err(redb::Error::from)?;
    let newest = messages.last().map_err(redb::Error::from)?.map_or(0, |(seq, _)| seq.value());
    if newest >= meta.next {
        return Err(StoreError::Damaged(format!("message {newest} is newer than the newest number")));
    }
    let mut keys = Vec::new();
    for row in transaction.open_table(KEYS).map_err(redb::Error::from)?.iter().map_err(redb::Error::from)? {
        let (key, value) = row.map_err(redb::Error::from)?;
        keys.push((LogTime(number_in(value.value()).0), Box::from(key.value())));
    }
    keys.sort_unstable();
    Ok((meta, rows, keys.into()))
}

/// Writes messages, and takes rows away. Returns how many rows there are then.
pub fn write_messages(
    transaction: &WriteTransaction,
    proposals: &[Proposal],
    sweep: &Sweep,
    scratch: &mut Vec<u8>,
) -> Result<u64, redb::Error> {
    let mut messages = transaction.open_table(MESSAGES)?;
    if let (Some(&first), Some(&last)) = (sweep.dead.first(), sweep.dead.last()) {
        messages.retain_in(first..=last, |seq, _| sweep.dead.binary_search(&seq).is_err())?;
    }
    let mut end = messages.upper_bound_mut(Bound::<u64>::Unbounded)?;
    for proposal in proposals {
        for (seq, record) in (proposal.first..).zip(&proposal.records) {
            let Record::Message { channel, publication, at } = record else { continue };
            if record.is_passing() {
                continue;
            }
            scratch.clear();
            Record::write_message(scratch, channel, publication, *at);
            end.insert_before(seq, scratch.as_slice())
                .map_err(|error: CursorError| redb::Error::from(error))?;
        }
    }
    end.close()?;
    Ok(messages.len()?)
}

/// Notes what channels have lost, and deletions among `proposals`.
pub fn write_channels(
    transaction: &WriteTransaction,
    proposals: &[Proposal],
    lost: &[Lost],
) -> Result<(), redb::Error> {
    let records = proposals.iter().flat_map(|proposal| (proposal.first..).zip(&proposal.records));
    let deleted = records.filter_map(|(seq, record)| match record {
        Record::Deleted { channel } => Some((&**channel, Marks { deleted: seq, ..Marks::default() })),
        // What is revoked has rows of its own; what only servers have that share a history is never proposed to a store.
        _ => None,
    });
    let swept = lost.iter().map(|lost| {
        let marks = Marks { lost: lost.upto, of_latest: lost.of_latest, deleted: 0 };
        (&*lost.channel, marks)
    });
    let mut marks = deleted.chain(swept).peekable();
    if marks.peek().is_none() {
        return Ok(());
    }
    let mut channels = transaction.open_table(CHANNELS)?;
    for (channel, marks) in marks {
        let old = channels.get(channel)?.map_or_else(Marks::default, |row| marks_in(row.value()));
        channels.insert(channel, row_of(marks.and(old)).as_flattened())?;
    }
    Ok(())
}

/// Remembers keys, and forgets others.
pub fn write_keys<'a>(
    transaction: &WriteTransaction,
    answered: impl Iterator<Item = &'a Answered>,
    forgotten: &[(LogTime, Box<str>)],
) -> Result<(), redb::Error> {
    let mut answered = answered.peekable();
    if answered.peek().is_none() && forgotten.is_empty() {
        return Ok(());
    }
    let mut keys = transaction.open_table(KEYS)?;
    for (until, key) in forgotten {
        // It may have been used again since.
        if keys.get(&**key)?.is_some_and(|row| number_in(row.value()).0 == until.0) {
            keys.remove(&**key)?;
        }
    }
    for Answered { key, until, answer } in answered {
        keys.insert(&**key, &*[&until.0.to_le_bytes()[..], answer].concat())?;
    }
    Ok(())
}

/// Writes what has changed since `old`. With every commit that is little, and rows that are not touched cost nothing.
pub fn write_meta(transaction: &WriteTransaction, mut meta: Meta, mut old: Meta) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(META)?;
    for ((name, value), (_, old)) in meta.fields().into_iter().zip(old.fields()) {
        if value != old {
            table.insert(name, &value.to_le_bytes()[..])?;
        }
    }
    Ok(())
}

/// Writes all of it, for the first time.
pub fn create_meta(transaction: &WriteTransaction, mut meta: Meta) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(META)?;
    table.insert("format", &FORMAT.to_le_bytes()[..])?;
    for (name, value) in meta.fields() {
        table.insert(name, &value.to_le_bytes()[..])?;
    }
    Ok(())
}

/// The number that a value begins with, and the rest. What is too short is no number of ours: 0.
pub fn number_in(bytes: &[u8]) -> (u64, &[u8]) {
    bytes.split_first_chunk().map_or((0, bytes), |(number, rest)| (u64::from_le_bytes(*number), rest))
}

/// Message `seq`.
pub fn read(seq: Seq, bytes: &[u8]) -> Result<Record, StoreError> {
    Record::read_message(bytes).map_err(|_| damaged(seq))
}

/// Message `seq` cannot be read.
pub fn damaged(seq: Seq) -> StoreError {
    StoreError::Damaged(format!("message {seq} cannot be read"))
}
