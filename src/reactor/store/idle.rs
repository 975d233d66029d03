//! A history that no server uses: looked at, and kept in order. What is refused (in use, damaged, of another version)
//! stays as it is: everything is read before anything is written.

use super::StoreError;
use super::clocks::Clocks;
use super::directory::{Directory, Disk};
use super::rows::{FORMAT, Meta};
use super::tables::{Snapshot, Tables};
use crate::id::{Epoch, Seq};
use crate::log::{LogTime, Record};
use crate::reactor::draw_seed;
use std::collections::HashSet;
use std::path::Path;

/// Bytes of records that are read at once.
const READ_BYTES: usize = 1 << 20;

/// Such a history. Nobody else can use it meanwhile.
#[derive(Debug)]
pub struct Idle {
    directory: Directory,
}

/// What there is in a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// Its format.
    pub format: u64,
    /// Its name.
    pub epoch: Epoch,
    /// The last server to use it ended in good order.
    pub is_closed: bool,
    /// It is a copy: the first server to use it gives it another name.
    pub is_copy: bool,
    /// The number of the next message.
    pub next: Seq,
    /// Messages that a server would load. It may then drop some of them: its limits are not asked here.
    pub live: u64,
    /// Messages that were deleted, dropped by limits or have expired, and are still in the file.
    pub dead: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Channels with messages.
    pub channels: usize,
    /// Idempotency keys.
    pub keys: usize,
}

impl Idle {
    /// Takes the history in the directory at `path`.
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { directory: Directory::take_existing(path)? })
    }

    /// Reads all of it.
    pub fn check(&self) -> Result<Contents, StoreError> {
        let tables = self.look()?;
        let mut channels = HashSet::new();
        let mut live = 0;
        each(&tables, |_, record| {
            live += 1;
            if !channels.contains(record.channel()) {
                channels.insert(Box::<str>::from(record.channel()));
            }
            true
        })?;
        let meta = tables.meta();
        Ok(Contents {
            format: FORMAT,
            epoch: Epoch::from_random(meta.epoch),
            is_closed: meta.open == 0,
            is_copy: meta.copy != 0,
            next: next(&meta),
            live,
            dead: tables.rows() - live,
            bytes: self.directory.bytes(),
            channels: channels.len(),
            keys: tables.keys(),
        })
    }

    /// Hands over every message that a server would load, in order, and the name of the history, until `take` says that
    /// nobody wants more.
    pub fn read(&self, mut take: impl FnMut(Epoch, Seq, Record) -> bool) -> Result<(), StoreError> {
        let tables = self.look()?;
        let epoch = Epoch::from_random(tables.meta().epoch);
        each(&tables, |seq, record| take(epoch, seq, record))
    }

    /// Makes the file as small as it can be. Returns its bytes before and after.
    pub fn compact(&mut self) -> Result<(u64, u64), StoreError> {
        let before = self.check()?.bytes;
        let mut tables = Tables::open(self.directory.open()?)?;
        tables.compact()?;
        // The file has its length when it is closed.
        drop(tables);
        Ok((before, self.directory.bytes()))
    }

    /// Gives it a new epoch. Returns the old one and the new one.
    pub fn renew_epoch(&mut self) -> Result<(Epoch, Epoch), StoreError> {
        let old = self.check()?.epoch;
        let new = draw_seed()?.epoch;
        Tables::open(self.directory.open()?)?.rename(new)?;
        Ok((old, new))
    }

    /// Has somebody look at all of it.
    pub fn snapshot<T>(
        &self,
        look: impl FnOnce(&Snapshot) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let tables = self.look()?;
        look(&tables.snapshot()?)
    }

    /// The tables, such that nothing on the disk changes.
    fn look(&self) -> Result<Tables, StoreError> {
        Tables::open(self.directory.open_frozen()?)
    }
}

/// The number that a server would begin with.
const fn next(meta: &Meta) -> Seq {
    if meta.lease > 0 { meta.lease } else { meta.next }
}

/// Hands over what a server would load and has not expired, until `take` says that nobody wants more.
fn each(tables: &Tables, mut take: impl FnMut(Seq, Record) -> bool) -> Result<(), StoreError> {
    let meta = tables.meta();
    let now = Clocks::read().time_since(meta.clocks, meta.time);
    tables.load(READ_BYTES, |batch| {
        let mut lasting = batch.entries.into_iter().filter(|entry| !has_expired(&entry.record, now));
        lasting.all(|entry| take(entry.seq, entry.record))
    })
}

fn has_expired(record: &Record, now: LogTime) -> bool {
    matches!(record, Record::Message { publication, at, .. }
        if publication.ttl_ms.is_some_and(|ttl| at.0.saturating_add(ttl) <= now.0))
}
