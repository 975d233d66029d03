//! What is written when, and what becomes of it: the store without its thread, so that a test can drive it.
//!
//! A transaction that fails has an unknown outcome. The file is dropped then, as a failed `fdatasync` must not be
//! repeated on the same handle (the kernel believes the pages to be written), and opened anew: what is in it decides.
//! While it cannot be opened, or was full a moment ago, everything is refused; what was refused and turns out to have
//! been written is taken out again.

use super::StoreError;
use super::clocks::Clocks;
use super::directory::Disk;
use super::orders::{Order, Settings, Told};
use super::rows::Sweep;
use super::tables::{Mark, Tables};
use crate::config::Promise;
use crate::id::{Seed, Seq};
use crate::log::{Batch, Condition, Entry, Figures, LogTime, Opening, Proposal, Refusal};
use std::collections::VecDeque;
use std::io;
use std::time::Instant;

/// Dead rows that are not worth sweeping.
pub const DEAD_MAX: u64 = 20_000;
/// Rows that are looked at for a message that is written, and at most with one commit.
const LOOKS_PER_MESSAGE: usize = 4;
const LOOKS: std::ops::RangeInclusive<usize> = 64..=4096;
/// Milliseconds until it is tried again after a failure, at first and at most.
const WAIT_MS: std::ops::RangeInclusive<u64> = 1000..=30_000;
/// Milliseconds that the hub has to say what it keeps, before anything else is tried on a full disk.
const SWEEP_MS: u64 = 100;
/// Bytes of records that are handed over at once.
const LOAD_BYTES: usize = 128 << 10;

/// A sweep through the rows.
#[derive(Debug, Default)]
struct Sweeping {
    /// It is under way.
    runs: bool,
    /// The number of the next record when it began.
    began: Seq,
    /// The same of the one before, which is complete: what was removed before it has left the disk. Until then the
    /// removal must stay there, or the value would come back.
    settled: Seq,
    /// Rows up to this number have been looked at.
    at: Seq,
    /// The reactor has been asked and has not answered.
    asked: bool,
    /// Rows that there were at the beginning, or when the one before was complete. Messages of several channels count in each of them, so that
    /// there may be less that lives than the hub says: what has doubled since is looked at in any case.
    left: u64,
    /// What goes with the next commit.
    next: Sweep,
}

/// What was written with an unknown outcome.
#[derive(Debug, Default)]
struct Doubt {
    proposals: Vec<Proposal>,
    /// Up to which number channels were deleted before.
    deleted: Vec<Mark>,
    /// It has been refused: if it is there, it is taken out again.
    is_refused: bool,
}

/// Nothing can be stored at the moment.
#[derive(Debug)]
struct Sick {
    why: String,
    /// There was no room: rows that are dead go first.
    is_full: bool,
    /// What is dead has been looked for since.
    has_swept: bool,
    /// Something dead was removed since: there is room in the file.
    has_made_room: bool,
    /// There was no room for what is owed together with what goes.
    has_no_room_for_both: bool,
    wait_ms: u64,
    /// When to try again, by [`Clocks::up_ms`].
    retry_at: u64,
}

/// The store.
#[derive(Debug)]
pub struct Engine<D: Disk> {
    disk: D,
    settings: Settings,
    tables: Option<Tables>,
    /// Where the time line was when the life began, and what clocks said.
    began: (LogTime, Clocks),
    /// The number after the last that was told to be stored.
    stored: Seq,
    /// What was written with an unknown outcome.
    doubt: Doubt,
    /// What has been answered and is still to be written, in [`Promise::Behind`].
    owed: Vec<Proposal>,
    live: u64,
    sweeping: Sweeping,
    sick: Option<Sick>,
    has_failed: bool,
    /// The disk has been full in this life.
    has_been_full: bool,
    /// What is counted.
    pub figures: Figures,
    out: VecDeque<Told>,
}

impl<D: Disk> Engine<D> {
    /// Opens the history on `disk`, or begins an empty one named `fresh`. Returns whether it is new.
    pub fn open(
        mut disk: D,
        settings: Settings,
        fresh: Seed,
        clocks: Clocks,
    ) -> Result<(Self, Opening, bool), StoreError> {
        let is_there = disk.is_there()?;
        let mut tables = match is_there {
            true => Tables::open(disk.open()?)?,
            false => {
                let tables = Tables::create(disk.begin()?, fresh, clocks)?;
                disk.adopt()?;
                tables
            }
        };
        let opening = tables.begin(fresh, clocks, settings.promise == Promise::Behind)?;
        let rows = tables.rows();
        let engine = Self {
            figures: Figures { rows, file_bytes: disk.bytes(), ..Figures::default() },
            disk,
            settings,
            tables: Some(tables),
            began: (opening.time, clocks),
            stored: opening.next,
            doubt: Doubt::default(),
            owed: Vec::new(),
            live: rows,
            sweeping: Sweeping { left: rows, ..Sweeping::default() },
            sick: None,
            has_failed: false,
            has_been_full: false,
            out: VecDeque::new(),
        };
        Ok((engine, opening, !is_there))
    }

    /// Hands over the whole history, until `take` says that nobody wants it.
    pub fn load(&self, take: impl FnMut(Batch) -> bool) -> Result<(), StoreError> {
        self.tables.as_ref().map_or(Ok(()), |tables| tables.load(LOAD_BYTES, take))
    }

    /// The next thing to tell.
    pub fn poll(&mut self) -> Option<Told> {
        self.out.pop_front()
    }

    /// When to call [`Engine::take`] even if there are no orders, by [`Clocks::up_ms`].
    pub fn retry_at(&self) -> Option<u64> {
        self.sick.as_ref().filter(|_| !self.has_failed).map(|sick| sick.retry_at)
    }

    /// Whether at least so many proposals have been answered and are still to be written.
    #[cfg(test)]
    pub fn is_owing(&self, count: usize) -> bool {
        self.owed.len() + self.doubt.proposals.len() >= count
    }

    /// Does what the reactor asks; all that is to be kept in one transaction.
    pub fn take(&mut self, orders: Vec<Order>, clocks: Clocks) {
        let mut proposals = std::mem::take(&mut self.owed);
        for order in orders {
            match order {
                Order::Append { proposal, live } => {
                    self.live = live;
                    proposals.push(proposal);
                }
                Order::Kept { dead, lost } => {
                    self.sweeping.asked = false;
                    self.sweeping.next.dead.extend(dead);
                    self.sweeping.next.lost.extend(lost);
                }
                Order::Copy(reply) => {
                    let why = || StoreError::Io(io::Error::other(format!("cannot store: {}", self.why().0)));
                    let snapshot = self.tables.as_ref().map_or_else(|| Err(why()), Tables::snapshot);
                    // Who does not wait any more needs none.
                    _ = reply.send(snapshot);
                }
                Order::End => {}
            }
        }
        if self.has_failed {
            return;
        }
        match &self.sick {
            None if proposals.is_empty() => {}
            None => self.commit(proposals, clocks),
            Some(sick) => {
                let (is_due, is_full) = (sick.retry_at <= clocks.up_ms, sick.is_full);
                self.recover(proposals, is_due, is_full, clocks);
            }
        }
    }

    /// Ends in good order, if all that was told is stored.
    pub fn end(mut self, clocks: Clocks) -> Result<(), StoreError> {
        let stamp = self.stamp(clocks);
        match &mut self.tables {
            Some(tables) if self.owed.is_empty() && self.doubt.proposals.is_empty() => tables.end(stamp),
            _ => Ok(()),
        }
    }

    fn stamp(&self, clocks: Clocks) -> (LogTime, Clocks) {
        let (time, began) = self.began;
        (clocks.time_since(began, time), clocks)
    }

    /// Tries again when it is time to. On a full disk what is dead goes first, and with nothing to write it is well
    /// when there is room for the reserve.
    fn recover(&mut self, proposals: Vec<Proposal>, is_due: bool, is_full: bool, clocks: Clocks) {
        let must_sweep = is_full && self.sweeping.runs;
        if must_sweep && !self.sweeping.next.dead.is_empty() && self.tables.is_some() {
            // What is owed may be why something is dead: a message in whose favour it went, a deletion. If there is room
            // for both, none of it is on the disk without the other.
            let together = self.settings.promise == Promise::Behind
                && self.sick.as_ref().is_some_and(|sick| !sick.has_no_room_for_both);
            if together {
                return self.commit(proposals, clocks);
            }
            self.refuse(proposals);
            return self.commit(Vec::new(), clocks);
        }
        if !is_due || must_sweep && self.sweeping.asked {
            return self.refuse(proposals);
        }
        if proposals.is_empty() && is_full {
            // Room is made before the reserve takes what it gave: what comes next needs it.
            if let (Some(_), Some(sick)) = (&self.tables, &mut self.sick)
                && !std::mem::replace(&mut sick.has_swept, true)
            {
                sick.retry_at = clocks.up_ms + SWEEP_MS;
                self.sweep(0);
                if self.sweeping.runs {
                    return;
                }
            }
            self.disk.keep_reserve(true);
            let has_room =
                self.disk.has_reserve() || self.sick.as_ref().is_some_and(|sick| sick.has_made_room);
            if !has_room {
                self.wait(clocks);
                return self.sweep(0);
            }
        }
        self.commit(proposals, clocks);
    }

    fn commit(&mut self, mut proposals: Vec<Proposal>, clocks: Clocks) {
        if self.tables.is_none() {
            if let Err(error) = self.reopen() {
                self.figures.failures += 1;
                self.fail(Vec::new(), &error, clocks);
                return self.refuse(proposals);
            }
            // What is still owed since then is older.
            proposals.splice(..0, std::mem::take(&mut self.owed));
        }
        let stamp = self.stamp(clocks);
        let begun = Instant::now();
        match self.write(&proposals, stamp) {
            Ok(()) => {
                self.figures.count(begun.elapsed().as_micros() as u64);
                let is_sweep = proposals.is_empty() && !self.sweeping.next.dead.is_empty();
                self.stored(proposals);
                if let Some(sick) = self.sick.as_mut().filter(|_| is_sweep) {
                    sick.has_made_room = true;
                } else if self.sick.take().is_some() {
                    self.out.push_back(Told::Condition(Condition::Well));
                }
                if self.sick.is_none() && !self.disk.has_reserve() {
                    self.disk.keep_reserve(true);
                }
            }
            Err(error) => {
                self.figures.failures += 1;
                self.fail(proposals, &error, clocks);
            }
        }
        self.figures.rows = self.tables.as_ref().map_or(self.figures.rows, Tables::rows);
        self.figures.file_bytes = self.disk.bytes();
    }

    fn write(&mut self, proposals: &[Proposal], stamp: (LogTime, Clocks)) -> Result<(), StoreError> {
        match &mut self.tables {
            Some(tables) if !self.has_failed => {
                // Only what can be refused can have to be taken out again.
                if self.settings.promise == Promise::Synced {
                    self.doubt.deleted = tables.deleted_before(proposals)?;
                }
                tables.commit(proposals, &self.sweeping.next, self.settings.keys_max, stamp)
            }
            _ => Err(StoreError::Damaged("what was stored is not there any more".into())),
        }
    }

    /// Opens the file after a failure, and finds out what became of what is doubtful. What has been refused and is there
    /// is taken out again.
    fn reopen(&mut self) -> Result<(), StoreError> {
        let mut tables = Tables::open(self.disk.open()?)?;
        let next = tables.meta().next;
        if next < self.stored {
            let why = format!("message {} was stored and is not there any more", self.stored - 1);
            self.has_failed = true;
            self.out.push_back(Told::Condition(Condition::Failed(why)));
        }
        let is_there = self.doubt.proposals.last().is_some_and(|last| last.last() < next);
        if is_there && self.doubt.is_refused {
            tables.take_back(&self.doubt.proposals, &self.doubt.deleted)?;
        }
        self.tables = Some(tables);
        let Doubt { proposals, is_refused, .. } = std::mem::take(&mut self.doubt);
        if is_there && !is_refused {
            self.stored(proposals);
        } else if self.settings.promise == Promise::Behind {
            self.owed.splice(..0, proposals);
        }
        Ok(())
    }

    /// Tells that `proposals` are history, and goes on sweeping.
    fn stored(&mut self, proposals: Vec<Proposal>) {
        let Some(tables) = &self.tables else { return };
        self.stored = tables.meta().next;
        let swept = std::mem::take(&mut self.sweeping.next);
        self.figures.swept += swept.dead.len() as u64;
        let written: usize = proposals.iter().map(|proposal| proposal.records.len()).sum();
        let own = proposals.last().map(|proposal| proposal.ticket);
        let mut batch = Batch { own, ..Batch::default() };
        for proposal in proposals {
            let numbered = (proposal.first..).zip(proposal.records);
            batch.entries.extend(numbered.map(|(seq, record)| Entry { seq, record }));
            batch.answered.extend(proposal.answered);
        }
        if own.is_some() {
            self.out.push_back(Told::Tail(batch));
        }
        self.sweep(written);
    }

    /// Asks which of the next rows the hub still keeps, if there are dead ones enough, or no room.
    fn sweep(&mut self, written: usize) {
        let Some(tables) = &mut self.tables else { return };
        let dead = tables.rows().saturating_sub(self.live);
        let is_full = self.sick.as_ref().is_some_and(|sick| sick.is_full);
        if !self.sweeping.runs {
            // The next time that the disk is full, there is nothing to give back.
            let few = *LOOKS.start() as u64;
            let many = match self.disk.has_reserve() {
                true if self.has_been_full => self.live.max(few),
                true => self.live.max(self.settings.dead_max),
                false => self.live / 8 + few,
            };
            let Sweeping { left, settled, .. } = self.sweeping;
            let has_doubled = tables.rows() >= 2 * left.max(self.settings.dead_max);
            let may_make_room = dead > 0 || tables.rows() > left || settled == 0;
            self.sweeping.runs = dead >= many || has_doubled || is_full && may_make_room;
            (self.sweeping.at, self.sweeping.began) = (0, tables.meta().next);
        }
        if !self.sweeping.runs || self.sweeping.asked {
            return;
        }
        let count = if is_full { *LOOKS.end() } else { written * LOOKS_PER_MESSAGE };
        let range = self.sweeping.at + 1..self.sweeping.began;
        match tables.rows_in(range, count.clamp(*LOOKS.start(), *LOOKS.end()), self.sweeping.settled) {
            Ok((_, None)) => {
                self.sweeping.runs = false;
                // Removals from there on were passed over: some may be of channels that were deleted since.
                let settled = std::mem::replace(&mut self.sweeping.settled, self.sweeping.began);
                self.sweeping.left = tables.rows();
                if let Err(error) = tables.forget_channels(self.settings.channels_max, settled) {
                    log::error!("store: cannot forget what channels had lost: {error}");
                }
            }
            Ok((rows, Some(last))) => {
                self.sweeping.at = last;
                self.sweeping.asked = true;
                self.out.push_back(Told::Look(rows));
            }
            Err(error) => log::error!("store: cannot look for what can be deleted: {error}"),
        }
    }

    /// After a failure: finds out what became of `proposals`, which may have been written.
    fn fail(&mut self, proposals: Vec<Proposal>, error: &StoreError, clocks: Clocks) {
        self.tables = None;
        if self.has_failed {
            return;
        }
        let (why, is_full) = (error.to_string(), error.is_full());
        if is_full {
            self.has_been_full = true;
            self.disk.keep_reserve(false);
        }
        match &mut self.sick {
            Some(sick) => {
                (sick.why, sick.is_full) = (why, is_full);
                sick.has_made_room = false;
                sick.has_no_room_for_both |= is_full && !self.sweeping.next.dead.is_empty();
            }
            None => {
                let (wait_ms, retry_at) = (WAIT_MS.start() / 2, clocks.up_ms);
                self.out.push_back(Told::Condition(Condition::CannotStore(why.clone())));
                self.sick = Some(Sick {
                    why,
                    is_full,
                    has_swept: false,
                    has_made_room: false,
                    has_no_room_for_both: false,
                    wait_ms,
                    retry_at,
                });
            }
        }
        self.wait(clocks);
        // Sweeping begins again; a row that is not there can be deleted twice.
        self.sweeping = Sweeping::default();
        let upto = proposals.last().map(|proposal| proposal.ticket);
        debug_assert!(proposals.is_empty() || self.doubt.proposals.is_empty());
        self.doubt.proposals.extend(proposals);
        _ = self.reopen();
        let is_told = |told: &Told| matches!(told, Told::Tail(batch) if batch.own == upto);
        if self.settings.promise == Promise::Synced
            && let Some(upto) = upto
            && !self.out.iter().any(is_told)
        {
            self.doubt.is_refused = !self.doubt.proposals.is_empty();
            self.out.push_back(Told::Refused { upto, why: self.why() });
        }
    }

    /// Waits twice as long as before.
    fn wait(&mut self, clocks: Clocks) {
        if let Some(sick) = &mut self.sick {
            sick.wait_ms = (2 * sick.wait_ms).min(*WAIT_MS.end());
            sick.retry_at = clocks.up_ms + sick.wait_ms;
        }
    }

    /// Refuses `proposals`, or owes them, if they have been answered.
    fn refuse(&mut self, proposals: Vec<Proposal>) {
        let Some(upto) = proposals.last().map(|proposal| proposal.ticket) else { return };
        match self.settings.promise {
            Promise::Behind => self.owed.extend(proposals),
            Promise::Synced => self.out.push_back(Told::Refused { upto, why: self.why() }),
        }
    }

    fn why(&self) -> Refusal {
        Refusal(self.sick.as_ref().map(|sick| sick.why.clone()).unwrap_or_default())
    }
}
