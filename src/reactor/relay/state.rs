//! What writer and tail know together.

use super::retention::Retention;
use super::scripts::Found;
use crate::id::Seq;
use crate::log::{Figures, Jump, Jumps, Ticket};
use std::collections::{BTreeMap, VecDeque};
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
    /// The number up to which the tail has read.
    seen: AtomicU64,
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
    /// Batches that are in the stream and have not come back: their tickets, and their last number.
    taken: VecDeque<(Vec<Ticket>, Seq)>,
    /// After which number something was lost last, and up to which.
    lost: (Seq, Seq),
    /// Jumps that have been read.
    jumps: Jumps,
    /// Those of the history as it was found, with the first number in the stream, until the tail has compared them.
    found: Option<(Jumps, Seq)>,
    retention: Retention,
    revoked: Revoked,
    revocations: usize,
    figures: Figures,
}

impl State {
    /// Nothing is known.
    pub fn new(keep_seconds: u64, keep_messages: u64, revocations: usize) -> Self {
        let shared = Shared {
            generation: 0,
            range: (0, 0),
            away: None,
            well_from: 0,
            beat: 0,
            outstanding: None,
            taken: VecDeque::new(),
            lost: (0, 0),
            jumps: Jumps::default(),
            found: None,
            retention: Retention::new(keep_seconds, keep_messages),
            revoked: Revoked::new(),
            revocations: revocations.max(1),
            figures: Figures::default(),
        };
        Self {
            shared: Mutex::new(shared),
            attached: Condvar::new(),
            seen: AtomicU64::new(0),
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

    /// The number up to which the tail has read.
    pub fn seen(&self) -> Seq {
        self.seen.load(Ordering::Acquire)
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

    /// The writer has found the history, whose numbers in the stream are these, and which has had these jumps.
    /// Returns which proposals of ours are not in it, which another half, or a run that was lost, had taken.
    pub fn attach(&self, found: &Found) -> Vec<Ticket> {
        let mut shared = self.lock();
        let taken = std::mem::take(&mut shared.taken);
        let (kept, lost): (VecDeque<_>, VecDeque<_>) =
            taken.into_iter().partition(|(_, last)| *last <= found.last);
        shared.taken = kept;
        match shared.generation {
            // The others are in the stream, and will be read.
            0 => shared.jumps = found.jumps.up_to(found.first - 1),
            _ => shared.found = Some((found.jumps.clone(), found.first)),
        }
        shared.generation += 1;
        shared.range = (found.first, found.last);
        // What was under way is not counted.
        shared.outstanding = None;
        shared.well_from = shared.beat + 1;
        drop(shared);
        self.attached.notify_all();
        lost.into_iter().flat_map(|(tickets, _)| tickets).collect()
    }

    /// Goes back where the history that was found has parted from what was read, if it has: to that number. Returns it,
    /// and which proposals of ours do not come back. To be asked when nothing is read any more of what was there before.
    pub fn go_back(&self) -> Option<(Seq, Vec<Ticket>)> {
        let mut shared = self.lock();
        let (found, first) = shared.found.take()?;
        let after = found.parting(&shared.jumps, self.seen())?;
        // What was trimmed is not read again.
        shared.jumps = found.up_to(after.max(first - 1));
        shared.lost = (after, self.seen());
        self.seen.store(after, Ordering::Release);
        let taken = shared.taken.drain(..).flat_map(|(tickets, _)| tickets).collect();
        Some((after, taken))
    }

    /// Notes that a jump has been read.
    pub fn note_jump(&self, jump: Jump) {
        self.lock().jumps.note(jump);
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

    /// Notes that proposals are in the stream, the last record with this number. The tail may have come by there already:
    /// those that it did not find are returned.
    pub fn note_taken(&self, tickets: Vec<Ticket>, last: Seq, took: Duration) -> Vec<Ticket> {
        let mut shared = self.lock();
        shared.figures.count(took.as_micros() as u64);
        if last > self.seen() {
            shared.taken.push_back((tickets, last));
            return Vec::new();
        }
        let (after, upto) = shared.lost;
        if last > after && last <= upto { tickets } else { Vec::new() }
    }

    /// Notes that the tail has come to `last`, with `count` more records, which Redis took at `at_ms`. What was lost on
    /// the way, after the number `lost`, never comes back: returns the tickets.
    pub fn note_read(&self, at_ms: u64, last: Seq, count: u64, lost: Option<Seq>) -> Vec<Ticket> {
        let mut shared = self.lock();
        self.seen.store(last, Ordering::Release);
        self.note_told(last);
        let keep = shared.retention.note(at_ms, last, count);
        self.keep.store(keep, Ordering::Relaxed);
        if let Some(after) = lost {
            shared.lost = (after, last);
        }
        let mut refused = Vec::new();
        while shared.taken.front().is_some_and(|(_, seq)| *seq <= last) {
            let Some((tickets, seq)) = shared.taken.pop_front() else { break };
            if lost.is_some_and(|lost| seq > lost) {
                refused.extend(tickets);
            }
        }
        refused
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
    use crate::id::Epoch;
    use crate::log::LogTime;

    #[test]
    fn only_a_beat_that_was_sent_since_proves_that_all_is_well() {
        let state = State::new(1, 1, 1);
        let before = state.begin_beat();
        assert!(state.note_away("gone") && !state.note_away("still gone"));
        assert!(!state.end_beat(before), "it was on its way");
        let after = state.begin_beat();
        assert!(state.end_beat(after));
        assert!(!state.end_beat(after), "told once");
    }

    #[test]
    fn what_was_taken_and_is_lost_is_refused() {
        let state = State::new(1, 1000, 1);
        let took = Duration::ZERO;
        for (ticket, last) in [(3, 10), (5, 20), (8, 30)] {
            assert!(state.note_taken(vec![Ticket(ticket)], last, took).is_empty());
        }
        assert!(state.note_read(0, 10, 10, None).is_empty());
        assert_eq!(state.note_read(0, 1 << 20, 0, Some(15)), [Ticket(5), Ticket(8)]);
        assert!(state.note_taken(vec![Ticket(9)], 7, took).is_empty(), "it had been read when it was noted");
        assert_eq!(state.note_taken(vec![Ticket(10)], 17, took), [Ticket(10)], "it was lost by then");
        assert!(state.note_read(0, 2 << 20, 0, Some(0)).is_empty());
    }

    #[test]
    fn who_was_with_a_half_that_has_lost_goes_back() {
        let found = |jumps: &[(Seq, Seq)], last| Found {
            seed: (Epoch::from_random(1), 1),
            last,
            first: 101,
            time: LogTime(0),
            before: (0, 0),
            jumps: jumps.iter().map(|&(to, after)| Jump { to, after }).collect(),
        };
        let state = State::new(1, 1000, 1);
        assert!(state.attach(&found(&[(100, 10)], 120)).is_empty());
        assert!(state.note_read(0, 120, 120, None).is_empty());
        _ = state.attach(&found(&[(100, 10)], 130));
        assert_eq!(state.go_back(), None, "it was there");
        state.note_jump(Jump { to: 300, after: 130 });
        assert!(state.note_read(0, 310, 0, Some(130)).is_empty());
        assert!(state.note_taken(vec![Ticket(1)], 320, Duration::ZERO).is_empty());
        assert!(state.note_taken(vec![Ticket(2)], 500, Duration::ZERO).is_empty());
        assert_eq!(state.attach(&found(&[(100, 10), (400, 320)], 410)), [Ticket(2)], "it is not there");
        assert_eq!(state.go_back(), Some((130, vec![Ticket(1)])), "the others did not jump there");
        assert_eq!((state.seen(), state.go_back()), (130, None));
        assert!(state.note_read(0, 310, 0, None).is_empty());
        assert!(state.note_taken(vec![Ticket(3)], 320, Duration::ZERO).is_empty());
        _ = state.attach(&found(&[(100, 10), (200, 125), (400, 250)], 410));
        assert_eq!(
            state.go_back(),
            Some((125, vec![Ticket(3)])),
            "the others jumped, and it did not see that"
        );
        assert_eq!((state.seen(), state.known()), (125, 310), "what was shown stays known");
        state.note_told(300);
        state.note_told(320);
        assert_eq!(state.known(), 320);
        state.note_jump(Jump { to: 200, after: 125 });
        _ = state.attach(&found(&[(100, 10), (200, 125), (400, 250)], 410));
        assert_eq!(state.go_back(), None);
    }

    #[test]
    fn revocations_are_bounded() {
        let state = State::new(1, 1, 2);
        for (name, lapses) in [("a", 10), ("b", 5), ("c", 20)] {
            state.note_revoked(name.into(), name.into(), lapses);
        }
        assert_eq!(state.revoked(0).into_keys().collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(state.revoked(10).into_keys().collect::<Vec<_>>(), ["c"]);
    }
}
