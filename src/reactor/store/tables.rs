//! The tables of a history, and what one transaction does to them.

use super::StoreError;
use super::clocks::Clocks;
use super::revoked::{self, Revoked};
use super::rows::{
    CHANNELS, FORMAT, KEYS, MESSAGES, META, Meta, Row, Sweep, create_meta, damaged, marks_in, number_in,
    read, read_facts, row_of, write_channels, write_keys, write_messages, write_meta,
};
use crate::id::{Epoch, Seed, Seq};
use crate::log::{Answered, Batch, Entry, LEASE, LogTime, Losses, Marks, Opening, Proposal, Record};
use redb::{
    Builder, CursorError, Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    StorageBackend, WriteTransaction,
};
use std::collections::VecDeque;
use std::ops::{Bound, Range};

/// Bytes that `redb` may keep of the file in memory.
const CACHE_BYTES: usize = 8 << 20;
/// Bytes of names of channels that are looked at in one go: an update may have a thousand.
const LOOK_BYTES: usize = 1 << 20;
/// Bytes of rows of a copy that are one transaction.
const FILL_BYTES: usize = 8 << 20;
/// Files above this are written such that they need no repair after a crash, which reads all of it.
const QUICK_REPAIR_BYTES: u64 = 4 << 30;

/// A channel, and up to which number it was deleted.
pub type Mark = (Box<str>, Seq);

/// A history as it was at one moment.
pub struct Snapshot {
    transaction: ReadTransaction,
    meta: Meta,
}

impl Snapshot {
    /// Hands over every row, messages last and in order, until `take` fails.
    pub fn rows(&self, take: &mut dyn FnMut(Row) -> Result<(), StoreError>) -> Result<(), StoreError> {
        take(Row::Meta("format".into(), FORMAT.to_le_bytes().into()))?;
        let mut meta = self.meta;
        for (name, value) in meta.fields() {
            take(Row::Meta(name.into(), value.to_le_bytes().into()))?;
        }
        for Revoked { name, value } in revoked::read(&self.transaction, META)? {
            take(Row::Meta(name, value))?;
        }
        for (table, row) in [(CHANNELS, Row::Channel as fn(_, _) -> _), (KEYS, Row::Key)] {
            let table = self.transaction.open_table(table).map_err(redb::Error::from)?;
            for found in table.iter().map_err(redb::Error::from)? {
                let (name, value) = found.map_err(redb::Error::from)?;
                take(row(name.value().into(), value.value().into()))?;
            }
        }
        let messages = self.transaction.open_table(MESSAGES).map_err(redb::Error::from)?;
        for found in messages.iter().map_err(redb::Error::from)? {
            let (seq, record) = found.map_err(redb::Error::from)?;
            take(Row::Message(seq.value(), record.value().into()))?;
        }
        Ok(())
    }
}

/// An open history.
#[derive(Debug)]
pub struct Tables {
    database: Database,
    meta: Meta,
    /// Rows of messages.
    rows: u64,
    /// Keys by the time at which they may be forgotten.
    keys: VecDeque<(LogTime, Box<str>)>,
    /// A record's bytes, while it is written.
    scratch: Vec<u8>,
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

impl Tables {
    /// Makes an empty history in an empty file.
    pub fn create(backend: impl StorageBackend, fresh: Seed, clocks: Clocks) -> Result<Self, StoreError> {
        let database = builder().create_with_backend(backend).map_err(redb::Error::from)?;
        let meta = Meta {
            epoch: fresh.epoch.bits(),
            secret: [(fresh.secret >> 64) as u64, fresh.secret as u64],
            next: 1,
            time: LogTime(clocks.wall_ms),
            clocks,
            ..Meta::default()
        };
        let mut tables = Self { database, meta, rows: 0, keys: VecDeque::new(), scratch: Vec::new() };
        tables.transaction(|transaction| {
            transaction.open_table(MESSAGES)?;
            transaction.open_table(CHANNELS)?;
            transaction.open_table(KEYS)?;
            create_meta(transaction, meta)
        })?;
        tables.meta = meta;
        Ok(tables)
    }

    /// Opens a history; every page is read and compared with its checksum.
    pub fn open(backend: impl StorageBackend) -> Result<Self, StoreError> {
        let database = builder().create_with_backend(backend).map_err(redb::Error::from)?;
        let (meta, rows, keys) = read_facts(&database)?;
        Ok(Self { database, meta, rows, keys, scratch: Vec::new() })
    }

    /// What is known of the whole.
    pub const fn meta(&self) -> Meta {
        self.meta
    }

    /// Rows of messages.
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Idempotency keys.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// All of it as it is now, whatever becomes of it.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let transaction = self.database.begin_read().map_err(redb::Error::from)?;
        let meta = Meta { lease: 0, open: 0, copy: 1, ..self.meta };
        // What may have been given out beyond is not of the copy's epoch.
        Ok(Snapshot { transaction, meta })
    }

    /// Makes a history out of rows of another one, which come in order.
    pub fn fill(
        &mut self,
        rows: &mut dyn FnMut() -> Result<Option<Row>, StoreError>,
    ) -> Result<u64, StoreError> {
        let mut count = 0;
        loop {
            let (mut bytes, mut is_over) = (0, false);
            // An error of the rows ends the transaction, and comes out behind it.
            let mut failed = None;
            self.transaction(|transaction| {
                let mut messages = transaction.open_table(MESSAGES)?;
                let mut end = messages.upper_bound_mut(Bound::<u64>::Unbounded)?;
                let (mut channels, mut keys) =
                    (transaction.open_table(CHANNELS)?, transaction.open_table(KEYS)?);
                let mut meta = transaction.open_table(META)?;
                while bytes < FILL_BYTES && !is_over {
                    let row = match rows() {
                        Ok(row) => row,
                        Err(error) => {
                            failed = Some(error);
                            break;
                        }
                    };
                    bytes += row.as_ref().map_or(0, Row::bytes);
                    match row {
                        Some(Row::Message(seq, record)) => {
                            count += 1;
                            end.insert_before(seq, &*record)
                                .map_err(|error: CursorError| redb::Error::from(error))?;
                        }
                        Some(Row::Channel(name, value)) => _ = channels.insert(&*name, &*value)?,
                        Some(Row::Key(name, value)) => _ = keys.insert(&*name, &*value)?,
                        Some(Row::Meta(name, value)) => _ = meta.insert(&*name, &*value)?,
                        None => is_over = true,
                    }
                }
                end.close()?;
                Ok(())
            })?;
            match failed {
                Some(error) => return Err(error),
                None if is_over => return Ok(count),
                None => {}
            }
        }
    }

    /// Gives back to the file system what the file does not need.
    pub fn compact(&mut self) -> Result<(), StoreError> {
        self.database.compact().map_err(redb::Error::from)?;
        Ok(())
    }

    /// Gives it another epoch: no id of before is one of this history.
    pub fn rename(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        let meta = Meta { epoch: epoch.bits(), copy: 0, ..self.meta };
        self.transaction(|transaction| write_meta(transaction, meta, self.meta))?;
        self.meta = meta;
        Ok(())
    }

    /// Begins a life: gives a copy the epoch `fresh`, jumps over numbers that may have been seen and were not stored,
    /// and takes a lease if numbers are to be given out `ahead`.
    pub fn begin(&mut self, fresh: Seed, clocks: Clocks, ahead: bool) -> Result<Opening, StoreError> {
        let mut meta = self.meta;
        meta.time = clocks.time_since(meta.clocks, meta.time);
        meta.clocks = clocks;
        if meta.copy != 0 {
            (meta.copy, meta.epoch) = (0, fresh.epoch.bits());
        }
        if meta.lease > 0 {
            (meta.next, meta.lost) = (meta.lease, meta.lease);
        }
        meta.lease = if ahead { meta.next + LEASE } else { 0 };
        meta.open = 1;
        self.transaction(|transaction| write_meta(transaction, meta, self.meta))?;
        self.meta = meta;
        let (epoch, watermark) = (Epoch::from_random(meta.epoch), meta.watermark);
        let secret = u128::from(meta.secret[0]) << 64 | u128::from(meta.secret[1]);
        Ok(Opening { epoch, secret, next: meta.next, lost: meta.lost, watermark, time: meta.time })
    }

    /// Writes proposals, and takes rows away, in one transaction. The time line says `time`.
    pub fn commit(
        &mut self,
        proposals: &[Proposal],
        sweep: &Sweep,
        keys_max: usize,
        (time, clocks): (LogTime, Clocks),
    ) -> Result<(), StoreError> {
        let mut meta = Meta { time, clocks, ..self.meta };
        meta.next = proposals.last().map_or(meta.next, |proposal| proposal.last() + 1);
        if meta.lease > 0 && meta.lease.saturating_sub(meta.next) < LEASE / 2 {
            meta.lease = meta.next + LEASE;
        }
        let answered = proposals.iter().filter_map(|proposal| proposal.answered.as_ref());
        let count = self.keys.len() + answered.clone().count();
        let beyond = count.saturating_sub(keys_max);
        let old = |&(index, (until, _)): &(usize, &(LogTime, Box<str>))| index < beyond || *until <= time;
        let forgotten: Vec<(LogTime, Box<str>)> =
            self.keys.iter().enumerate().take_while(old).map(|(_, key)| key.clone()).collect();
        let mut scratch = std::mem::take(&mut self.scratch);
        let quick = self.rows > QUICK_REPAIR_BYTES / 256;
        let rows = self.transaction(|transaction| {
            transaction.set_quick_repair(quick);
            let rows = write_messages(transaction, proposals, sweep, &mut scratch)?;
            write_channels(transaction, proposals, &sweep.lost)?;
            write_keys(transaction, answered.clone(), &forgotten)?;
            let records = proposals.iter().flat_map(|proposal| &proposal.records);
            revoked::write(transaction, META, records)?;
            write_meta(transaction, meta, self.meta)?;
            Ok(rows)
        })?;
        self.scratch = scratch;
        self.meta = meta;
        self.rows = rows;
        self.keys.drain(..forgotten.len());
        self.keys.extend(answered.map(|kept| (kept.until, kept.key.clone())));
        Ok(())
    }

    /// Up to which number the channels were deleted that these proposals delete.
    pub fn deleted_before(&self, proposals: &[Proposal]) -> Result<Vec<Mark>, StoreError> {
        let records = proposals.iter().flat_map(|proposal| &proposal.records);
        let mut names = records.filter_map(|record| match record {
            Record::Deleted { channel } => Some(channel.clone()),
            _ => None,
        });
        let Some(first) = names.next() else { return Ok(Vec::new()) };
        let transaction = self.database.begin_read().map_err(redb::Error::from)?;
        let channels = transaction.open_table(CHANNELS).map_err(redb::Error::from)?;
        let mut marks = Vec::new();
        for name in std::iter::once(first).chain(names) {
            let row = channels.get(&*name).map_err(redb::Error::from)?;
            marks.push((name, row.map_or(0, |row| marks_in(row.value()).deleted)));
        }
        Ok(marks)
    }

    /// Takes out again what was written: messages, their keys, and deletions of channels, which were `deleted` up to these
    /// numbers before. Rights that were taken back stay so.
    pub fn take_back(&mut self, proposals: &[Proposal], deleted: &[Mark]) -> Result<(), StoreError> {
        let answered = || proposals.iter().filter_map(|proposal| proposal.answered.as_ref());
        self.rows = self.transaction(|transaction| {
            let mut messages = transaction.open_table(MESSAGES)?;
            for proposal in proposals {
                messages.retain_in(proposal.first..=proposal.last(), |_, _| false)?;
            }
            let mut keys = transaction.open_table(KEYS)?;
            for Answered { key, .. } in answered() {
                keys.remove(&**key)?;
            }
            let mut channels = transaction.open_table(CHANNELS)?;
            for (name, deleted) in deleted {
                let known = channels.get(&**name)?.map_or_else(Marks::default, |row| marks_in(row.value()));
                let marks = Marks { deleted: *deleted, ..known };
                channels.insert(&**name, row_of(marks).as_flattened())?;
            }
            Ok(messages.len()?)
        })?;
        self.keys.retain(|(_, key)| answered().all(|kept| kept.key != *key));
        Ok(())
    }

    /// Forgets what channels had lost, the oldest first, until `max` of them are remembered: then every channel that is
    /// not known is suspected. Of channels that were deleted at `swept` or later, rows may be left.
    pub fn forget_channels(&mut self, max: usize, swept: Seq) -> Result<(), StoreError> {
        // Not for each channel too many.
        if self.channels()? as usize <= max + max / 4 {
            return Ok(());
        }
        let mut meta = self.meta;
        let forgotten = self.transaction(|transaction| {
            let mut channels = transaction.open_table(CHANNELS)?;
            let beyond = (channels.len()? as usize).saturating_sub(max);
            let mut marks = Vec::new();
            for row in channels.iter()? {
                let (name, marks_of_it) = row?;
                let Marks { lost, deleted, .. } = marks_in(marks_of_it.value());
                if deleted < swept {
                    marks.push((lost, Box::<str>::from(name.value())));
                }
            }
            let Some(last) = beyond.checked_sub(1).filter(|&last| last < marks.len()) else { return Ok(()) };
            let (_, &mut (bound, _), _) = marks.select_nth_unstable(last);
            for (_, name) in marks.iter().filter(|(lost, _)| *lost <= bound) {
                channels.remove(&**name)?;
            }
            meta.watermark = meta.watermark.max(bound);
            drop(channels);
            write_meta(transaction, meta, self.meta)
        });
        self.meta = if forgotten.is_ok() { meta } else { self.meta };
        forgotten
    }

    fn channels(&self) -> Result<u64, StoreError> {
        let transaction = self.database.begin_read().map_err(redb::Error::from)?;
        let channels = transaction.open_table(CHANNELS).map_err(redb::Error::from)?;
        Ok(channels.len().map_err(redb::Error::from)?)
    }

    /// Ends a life in good order: every number that was given out is stored.
    pub fn end(&mut self, (time, clocks): (LogTime, Clocks)) -> Result<(), StoreError> {
        let meta = Meta { lease: 0, open: 0, time, clocks, ..self.meta };
        self.transaction(|transaction| write_meta(transaction, meta, self.meta))?;
        self.meta = meta;
        Ok(())
    }

    /// Hands over the whole history, in batches of about `bytes`, until `take` says that nobody wants it.
    pub fn load(&self, bytes: usize, mut take: impl FnMut(Batch) -> bool) -> Result<(), StoreError> {
        let transaction = self.database.begin_read().map_err(redb::Error::from)?;
        let mut losses = Losses::new(self.meta.watermark);
        for row in
            transaction.open_table(CHANNELS).map_err(redb::Error::from)?.iter().map_err(redb::Error::from)?
        {
            let (name, marks) = row.map_err(redb::Error::from)?;
            losses.note(name.value(), marks_in(marks.value()));
        }
        let revoked = revoked::read(&transaction, META)?.iter().filter_map(Revoked::text).collect();
        let mut batch = Batch { answered: self.answered()?, revoked, ..Batch::default() };
        let mut filled = 0;
        let messages = transaction.open_table(MESSAGES).map_err(redb::Error::from)?;
        for row in messages.iter().map_err(redb::Error::from)? {
            let (seq, record) = row.map_err(redb::Error::from)?;
            let seq = seq.value();
            let record = read(seq, record.value())?;
            if !losses.admits(seq, &record, &mut batch.lost) {
                continue;
            }
            filled += record.bytes();
            batch.entries.push(Entry { seq, record });
            if filled >= bytes {
                filled = 0;
                if !take(std::mem::take(&mut batch)) {
                    return Ok(());
                }
            }
        }
        _ = take(batch) && take(Batch { lost: losses.rest(), ..Batch::default() });
        Ok(())
    }

    /// The keys that are remembered, oldest first.
    fn answered(&self) -> Result<Vec<Answered>, StoreError> {
        let transaction = self.database.begin_read().map_err(redb::Error::from)?;
        let keys = transaction.open_table(KEYS).map_err(redb::Error::from)?;
        let mut answered = Vec::new();
        for (_, key) in &self.keys {
            if let Some(row) = keys.get(&**key).map_err(redb::Error::from)? {
                let (until, answer) = number_in(row.value());
                answered.push(Answered { key: key.clone(), until: LogTime(until), answer: answer.into() });
            }
        }
        Ok(answered)
    }

    /// The numbers and channels of at most `max` rows whose numbers are in `range`, but for removals of keys from number
    /// `settled` on; a row of several channels is there with each of them. Also the number of the last row that was looked
    /// at, if there was any.
    pub fn rows_in(&self, range: Range<Seq>, max: usize, settled: Seq) -> Result<Looked, StoreError> {
        let transaction = self.database.begin_read().map_err(redb::Error::from)?;
        let messages = transaction.open_table(MESSAGES).map_err(redb::Error::from)?;
        // A range must not end before it begins.
        let rows = messages.range(range.start.min(range.end)..range.end).map_err(redb::Error::from)?;
        let (mut looked, mut bytes) = ((Vec::new(), None), 0);
        for row in rows.take(max) {
            if bytes > LOOK_BYTES {
                break;
            }
            let (seq, record) = row.map_err(redb::Error::from)?;
            let (seq, record) = (seq.value(), record.value());
            looked.1 = Some(seq);
            if seq < settled || !Record::is_removal(record) {
                for channel in Record::channels_of(record).map_err(|_| damaged(seq))? {
                    bytes += channel.len();
                    looked.0.push((seq, channel.into()));
                }
            }
        }
        Ok(looked)
    }

    /// Does something in one transaction, which is on the disk when this returns.
    fn transaction<T>(
        &self,
        change: impl FnOnce(&mut WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let mut transaction = self.database.begin_write().map_err(redb::Error::from)?;
        let changed = change(&mut transaction)?;
        transaction.commit().map_err(redb::Error::from)?;
        Ok(changed)
    }
}

/// Rows, and the number of the last that was looked at.
type Looked = (Vec<(Seq, Box<str>)>, Option<Seq>);
