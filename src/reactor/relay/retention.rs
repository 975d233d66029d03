//! Up to which number the stream may be trimmed: a number for each moment, and how many messages came since.

use crate::id::Seq;
use std::collections::VecDeque;

/// Marks that are kept; when there are more, every second one goes.
const MARKS_MAX: usize = 4096;

/// What came when.
#[derive(Debug)]
pub struct Retention {
    keep_ms: u64,
    keep: u64,
    /// What is younger is kept whatever its number.
    grace_ms: u64,
    /// Time, the last number, and how many there had been.
    marks: VecDeque<(u64, Seq, u64)>,
    /// How many there have been since the beginning.
    count: u64,
    /// No mark is nearer to the one before.
    spacing_ms: u64,
    spacing: u64,
}

impl Retention {
    /// Keeps what is younger than so many seconds, but not more than so many records, beside those that are younger than the
    /// grace.
    pub fn new(keep_seconds: u64, keep: u64, grace_seconds: u64) -> Self {
        let keep_ms = keep_seconds.saturating_mul(1000);
        let (spacing_ms, spacing) = ((keep_ms / 1024).max(1), (keep / 1024).max(1));
        let grace_ms = grace_seconds.saturating_mul(1000);
        Self { keep_ms, keep, grace_ms, marks: VecDeque::new(), count: 0, spacing_ms, spacing }
    }

    /// Notes that `count` records, the last of them number `last`, came at `at_ms`. Returns from which number on the
    /// stream is to be kept.
    pub fn note(&mut self, at_ms: u64, last: Seq, count: u64) -> Seq {
        self.count += count;
        let is_far = self.marks.back().is_none_or(|&(at, _, before)| {
            at_ms.abs_diff(at) >= self.spacing_ms || self.count - before >= self.spacing
        });
        if is_far {
            self.marks.push_back((at_ms, last, self.count));
        }
        // The newest mark that is too old, or has enough behind it, is the last that may go.
        while self.marks.get(1).is_some_and(|mark| self.may_go(mark, at_ms)) {
            self.marks.pop_front();
        }
        if self.marks.len() > MARKS_MAX {
            let mut index = 0;
            self.marks.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
        match self.marks.front() {
            Some(mark) if self.may_go(mark, at_ms) => mark.1 + 1,
            _ => 0,
        }
    }

    fn may_go(&self, &(at, _, count): &(u64, Seq, u64), now_ms: u64) -> bool {
        let is_older = |ms: u64| at.saturating_add(ms) <= now_ms;
        is_older(self.keep_ms) || self.count - count >= self.keep && is_older(self.grace_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_young_and_few_stays() {
        let mut retention = Retention::new(10, 100, 0);
        for (at, last, from) in
            [(0, 10, 0), (5_000, 20, 0), (9_999, 30, 0), (10_000, 40, 11), (14_999, 50, 11), (15_000, 60, 21)]
        {
            assert_eq!(retention.note(at, last, 10), from, "at {at}");
        }
    }

    #[test]
    fn no_more_than_so_many_stay_whatever_their_numbers() {
        let mut retention = Retention::new(1_000_000, 100, 0);
        assert_eq!(retention.note(0, 50, 50), 0);
        assert_eq!(retention.note(1, 100, 50), 0);
        assert_eq!(retention.note(2, (1 << 20) + 1, 1), 0, "a jump of numbers is no message");
        assert_eq!(retention.note(3, (1 << 20) + 50, 49), 51);
    }

    #[test]
    fn what_came_a_moment_ago_stays_however_many_there_are() {
        let mut retention = Retention::new(3600, 100, 10);
        assert_eq!(retention.note(0, 50, 50), 0);
        assert_eq!(retention.note(1_000, 5_000, 4_950), 0, "somebody may be a second behind");
        assert_eq!(retention.note(9_999, 5_001, 1), 0);
        assert_eq!(retention.note(10_000, 5_002, 1), 51);
        assert_eq!(retention.note(11_000, 5_003, 1), 51, "a hundred are kept at least");
        assert_eq!(retention.note(12_000, 5_102, 99), 5_001);
    }

    #[test]
    fn marks_are_few() {
        let mut retention = Retention::new(3600, 1_000_000, 10);
        let mut from = 0;
        for at in 0..100_000u64 {
            let kept = retention.note(at * 100, at + 1, 1);
            assert!(kept >= from && kept <= at + 1);
            from = kept;
            assert!(retention.marks.len() <= MARKS_MAX);
        }
        // An hour is 36,000 of them; a mark is as coarse as a thousandth.
        assert!((64_000 - 40..=64_001).contains(&from), "{from}");
    }
}
