//! What writer and tail know together.

use super::Settings;
use super::retention::Retention;
use super::scripts::Found;
use crate::id::Seq;
use crate::log::{Figures, Jump, Outstanding, Taken, Ticket};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A beat that has not come back by then does not.
const LOST_AFTER: Duration = Duration::from_secs(5);

/// What writer and tail know together.
#[derive(Debug)]
pub struct State {
    shared: Mutex<Shared>,
    attached: Condvar,
    /// The highest number that anybody was shown or told here, whether it is history or not.
    known: AtomicU64,
    /// From which number on the stream is to be kept.
    keep: AtomicU64,
    ended: AtomicBool,
}

/// Rights taken back, by a name of them: what they say, and when they lapse.
pub type Revoked = BTreeMap<String, (Box<str>, u64)>;

#[derive(Debug)]
struct Shared {
    /// Counts the connections of the writer that have found the history: each time, the tail makes a new one, too.
    generation: u64,
    /// The first number in the stream, and the last, when it was found.
    range: (Seq, Seq),
    /// Why Redis does not do its work, as it was told.
    away: Option<String>,
    /// From which beat on one proves that it does.
    well_from: u64,
    /// The last beat, and when it was sent, unless it has come back.
    beat: u64,
    outstanding: Option<Instant>,
    /// Where we stand, and what has been taken and has not come back.
    batches: Outstanding,
    retention: Retention,
    revoked: Revoked,
    revocations: usize,
    figures: Figures,
}

impl State {
    /// Nothing is known.
    pub fn new(settings: &Settings) -> Self {
        let &Settings { keep_seconds, keep_messages, grace_seconds, revocations, .. } = settings;
        Self::keeping(Retention::new(keep_seconds, keep_messages, grace_seconds), revocations)
    }

    fn keeping(retention: Retention, revocations: usize) -> Self {
        let shared = Shared {
            generation: 0,
            range: (0, 0),
            away: None,
            well_from: 0,
            beat: 0,
            outstanding: None,
            batches: Outstanding::default(),
            retention,
            revoked: Revoked::new(),
            revocations: revocations.max(1),
            figures: Figures::default(),
        };
        Self {
            shared: Mutex::new(shared),
            attached: Condvar::new(),
            known: AtomicU64::new(0),
            keep: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Nothing is left half done where it could panic.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process leaves.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.attached.notify_all();
    }

    /// Whether it does.
    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The highest number that anybody was shown or told here.
    pub fn known(&self) -> Seq {
        self.known.load(Ordering::Acquire)
    }

    /// Notes that somebody is told a number, which the tail may not have read.
    pub fn note_told(&self, seq: Seq) {
        self.known.fetch_max(seq, Ordering::AcqRel);
    }

    /// From which number on the stream is to be kept.
    pub fn keep(&self) -> Seq {
        self.keep.load(Ordering::Relaxed)
    }

    /// The writer has found the history; `settled` is in it, which was in doubt. Returns which proposals of ours are not,
    /// which another half, or a run that was lost, had taken.
    pub fn attach(&self, found: &Found, settled: Option<Taken>) -> Vec<Ticket> {
        let mut shared = self.lock();
        let lost = match shared.generation {
            0 => {
                shared.batches.begin(&found.jumps, found.first);
                Vec::new()
            }
            _ => shared.batches.attach(&found.jumps, (found.first, found.last), settled),
        };
        shared.generation += 1;
        shared.range = (found.first, found.last);
        // What was under way is not counted.
        shared.outstanding = None;
        shared.well_from = shared.beat + 1;
        drop(shared);
        self.attached.notify_all();
        lost
    }

    /// Goes back where the history that was found has parted from what was read, if it has; see [`Outstanding::go_back`].
    pub fn go_back(&self) -> (Option<Seq>, Vec<Ticket>) {
        self.lock().batches.go_back()
    }

    /// Whether an entry is of another half than what was read; see [`Outstanding::is_elsewhere`].
    pub fn is_elsewhere(&self, first: Seq, lost: Option<Seq>) -> bool {
        self.lock().batches.is_elsewhere(first, lost)
    }

    /// Notes that a jump has been read.
    pub fn note_jump(&self, jump: Jump) {
        self.lock().batches.note_jump(jump);
    }

    /// The writer's connections so far.
    pub fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Waits until the writer has found the history. Returns the numbers in the stream; `None` if the process leaves.
    pub fn wait(&self) -> Option<(Seq, Seq)> {
        let mut shared = self.lock();
        while shared.generation == 0 && !self.is_ended() {
            let waited = self.attached.wait_timeout(shared, Duration::from_secs(1));
            shared = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        (!self.is_ended()).then_some(shared.range)
    }

    /// Notes that Redis does not do its work. Returns whether that is new.
    pub fn note_away(&self, why: &str) -> bool {
        let mut shared = self.lock();
        shared.well_from = shared.beat + 1;
        shared.figures.failures += 1;
        let is_new = shared.away.is_none();
        shared.away.get_or_insert_with(|| why.to_owned());
        is_new
    }

    /// The number of the next beat, which is sent now.
    pub fn begin_beat(&self) -> u64 {
        let mut shared = self.lock();
        shared.beat += 1;
        shared.outstanding.get_or_insert_with(Instant::now);
        shared.beat
    }

    /// Notes that a beat has come back. Returns whether that proves that all is well again.
    pub fn end_beat(&self, beat: u64) -> bool {
        let mut shared = self.lock();
        if beat >= shared.beat {
            shared.outstanding = None;
        }
        beat >= shared.well_from && shared.away.take().is_some()
    }

    /// Whether a beat should have come back.
    pub fn is_beat_lost(&self) -> bool {
        self.lock().outstanding.is_some_and(|since| since.elapsed() > LOST_AFTER)
    }

    /// Notes that proposals, of a batch of which none is newer than `newest`, are in the stream, the last record with this
    /// number. The tail may have come by there already: those that it did not find are returned.
    pub fn note_taken(&self, tickets: Vec<Ticket>, newest: Ticket, last: Seq, took: Duration) -> Vec<Ticket> {
        let mut shared = self.lock();
        shared.figures.count(took.as_micros() as u64);
        let lost = shared.batches.note_taken(tickets, last);
        shared.batches.forget_early(newest);
        lost
    }

    /// Notes that the tail has come to `last`, with `count` more records, which Redis took at `at_ms`, and has brought these
    /// proposals. Returns those that it has passed by, which are lost.
    pub fn note_read(&self, at_ms: u64, last: Seq, count: u64, brought: &[Ticket]) -> Vec<Ticket> {
        let mut shared = self.lock();
        self.note_told(last);
        let keep = shared.retention.note(at_ms, last, count);
        self.keep.store(keep, Ordering::Relaxed);
        shared.batches.note_read(last, brought)
    }

    /// The figures.
    pub fn figures(&self) -> Figures {
        self.lock().figures
    }

    /// Notes that a right was taken back.
    pub fn note_revoked(&self, name: String, text: Box<str>, lapses: u64) {
        let mut shared = self.lock();
        shared.revoked.insert(name, (text, lapses));
        while shared.revoked.len() > shared.revocations {
            let first = shared.revoked.iter().min_by_key(|(_, (_, lapses))| *lapses);
            let Some(name) = first.map(|(name, _)| name.clone()) else { return };
            shared.revoked.remove(&name);
        }
    }

    /// Rights that were taken back and still mean something.
    pub fn revoked(&self, unix: u64) -> Revoked {
        let mut shared = self.lock();
        shared.revoked.retain(|_, (_, lapses)| *lapses > unix);
        shared.revoked.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_beat_that_was_sent_since_proves_that_all_is_well() {
        let state = State::keeping(Retention::new(1, 1, 0), 1);
        let before = state.begin_beat();
        assert!(state.note_away("gone") && !state.note_away("still gone"));
        assert!(!state.end_beat(before), "it was on its way");
        let after = state.begin_beat();
        assert!(state.end_beat(after));
        assert!(!state.end_beat(after), "told once");
    }

    #[test]
    fn revocations_are_bounded() {
        let state = State::keeping(Retention::new(1, 1, 0), 2);
        for (name, lapses) in [("a", 10), ("b", 5), ("c", 20)] {
            state.note_revoked(name.into(), name.into(), lapses);
        }
        assert_eq!(state.revoked(0).into_keys().collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(state.revoked(10).into_keys().collect::<Vec<_>>(), ["c"]);
    }
}
