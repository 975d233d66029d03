//! What forgotten channels had lost: a bounded memory that errs on the side of telling.

use super::name::Pattern;
use crate::carry::{carry, resume};
use crate::id::Seq;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::rc::Rc;

/// Tombstones that one question looks at; where more could answer it, the answer is a suspicion.
const LOOK_AT_MAX: usize = 1000;

/// The `evicted` watermark of channels that no longer exist, by their name. When a tombstone itself has to
/// go, a watermark for all unknown channels takes over what it said.
#[derive(Debug)]
pub struct Tombstones {
    max: usize,
    evicted: BTreeMap<Rc<str>, Lost>,
    /// Names in the order of burial, some of them recalled or buried again since.
    order: VecDeque<(Rc<str>, Seq)>,
    watermark: Seq,
    /// The highest number that any forgotten channel had lost.
    highest: Seq,
}

/// What a forgotten channel had lost: messages up to a number, and the moment of the last loss.
#[derive(Debug, Clone, Copy)]
struct Lost {
    upto: Seq,
    moment: u64,
}

carry! {
    struct Lost { upto, moment }
}

resume! {
    Tombstones {
        carried: evicted, order, watermark, highest;
        resumed: ;
        given: max
    }
}

impl Tombstones {
    /// Room for `max` tombstones.
    pub const fn new(max: usize) -> Self {
        Self { max, evicted: BTreeMap::new(), order: VecDeque::new(), watermark: 0, highest: 0 }
    }

    /// Remembers that channel `name`, now forgotten, had lost messages up to `evicted`, the last of them at `moment`.
    pub fn bury(&mut self, name: &Rc<str>, evicted: Seq, moment: u64) {
        self.highest = self.highest.max(evicted);
        if evicted <= self.watermark {
            return;
        }
        self.evicted.insert(Rc::clone(name), Lost { upto: evicted, moment });
        self.order.push_back((Rc::clone(name), evicted));
        while self.evicted.len() > self.max || self.order.len() > 2 * self.max + 64 {
            let Some((name, evicted)) = self.order.pop_front() else { break };
            if self.evicted.get(&name).is_some_and(|lost| lost.upto == evicted) {
                self.evicted.remove(&name);
                self.watermark = self.watermark.max(evicted);
            }
        }
    }

    /// Notes that any unknown channel may have lost messages up to `seq`.
    pub fn suspect(&mut self, seq: Seq) {
        self.watermark = self.watermark.max(seq);
        self.highest = self.highest.max(seq);
    }

    /// Notes that nothing after `seq` was ever lost.
    pub fn lower(&mut self, seq: Seq) {
        self.evicted
            .values_mut()
            .map(|lost| &mut lost.upto)
            .chain(self.order.iter_mut().map(|(_, lost)| lost))
            .for_each(|lost| *lost = seq.min(*lost));
        (self.watermark, self.highest) = (self.watermark.min(seq), self.highest.min(seq));
    }

    /// The highest number that any forgotten channel had lost.
    pub const fn highest(&self) -> Seq {
        self.highest
    }

    /// Whether a forgotten channel that `pattern` matches may have lost messages newer than `after` since that moment, and
    /// how many had to be looked at to know.
    pub fn may_have_lost(&self, pattern: &Pattern, after: Seq, since: u64) -> (bool, usize) {
        // Whoever was here a moment ago is told so without looking.
        if after >= self.highest || after < self.watermark {
            return (after < self.watermark, 0);
        }
        let from = (Bound::Included(pattern.prefix()), Bound::Unbounded);
        let under = self.evicted.range::<str, _>(from);
        let mut looked_at = 0;
        let lost = under.take_while(|(name, _)| name.starts_with(pattern.prefix())).any(|(name, lost)| {
            looked_at += 1;
            let is_lost = lost.upto > after && lost.moment >= since;
            looked_at > LOOK_AT_MAX || is_lost && pattern.matches(name)
        });
        (lost, looked_at)
    }

    /// What any forgotten channel may have lost whose name begins with `prefix` and is one of those that `matches`; of
    /// more than can be looked at, what any of them may have.
    pub fn highest_of(&self, prefix: &str, matches: impl Fn(&str) -> bool) -> Seq {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let mut under = self.evicted.range::<str, _>(from).take_while(|(name, _)| name.starts_with(prefix));
        let looked_at = under.by_ref().take(LOOK_AT_MAX);
        let found = looked_at.filter(|(name, _)| matches(name)).map(|(_, lost)| lost.upto).max();
        let rest = if under.next().is_some() { self.highest } else { 0 };
        found.unwrap_or(0).max(rest).max(self.watermark)
    }

    /// What the channel `name` may have lost in a former life.
    pub fn lost(&self, name: &str) -> Seq {
        self.evicted.get(name).map_or(0, |lost| lost.upto).max(self.watermark)
    }

    /// When the channel `name` lost the last of that, if it is known.
    pub fn lost_at(&self, name: &str) -> Option<u64> {
        self.evicted.get(name).filter(|lost| lost.upto >= self.watermark).map(|lost| lost.moment)
    }

    /// Whether it is known of the channel `name`, and not only suspected, that it lost message `seq` in a former life.
    pub fn has_lost(&self, name: &str, seq: Seq) -> bool {
        self.evicted.get(name).is_some_and(|lost| lost.upto >= seq)
    }

    /// The channel `name` speaks for itself again: its tombstone is no longer needed.
    pub fn remove(&mut self, name: &str) {
        self.evicted.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bury(stones: &mut Tombstones, name: &str, seq: Seq) {
        stones.bury(&name.into(), seq, seq);
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn nothing_lost_is_ever_denied() {
        let mut stones = Tombstones::new(10);
        for seq in 1..=1000 {
            bury(&mut stones, &format!("c{}", seq % 40), seq);
            assert!(stones.order.len() <= 84 && stones.evicted.len() <= 10);
            assert!(
                stones.may_have_lost(&pattern("*"), seq - 1, 0).0
                    && !stones.may_have_lost(&pattern("*"), seq, 0).0
            );
        }
        assert!(!stones.may_have_lost(&pattern("d/*"), 995, 0).0, "nothing there has lost anything");
        assert!(stones.may_have_lost(&pattern("d/*"), 900, 0).0, "that is no longer known");
        for seq in 961..=1000 {
            assert!(stones.lost(&format!("c{}", seq % 40)) >= seq);
        }
        assert!(stones.lost("never seen") <= 990, "only what had to go speaks for everybody");
    }

    #[test]
    fn one_question_looks_at_a_bounded_number() {
        let mut stones = Tombstones::new(10_000);
        for seq in 1..=10_000 {
            bury(&mut stones, &format!("a/{seq}"), seq);
        }
        bury(&mut stones, "b/c", 10_001);
        assert!(stones.may_have_lost(&pattern("a/*/x"), 9_999, 0).0, "a suspicion, as there are too many");
        assert!(!stones.may_have_lost(&pattern("b/*/x"), 9_999, 0).0);
        assert!(stones.may_have_lost(&pattern("b/*"), 9_999, 0).0);
    }

    #[test]
    fn what_was_lost_before_a_moment_is_told_from_what_was_lost_since() {
        let mut stones = Tombstones::new(10);
        bury(&mut stones, "a/b", 7);
        assert_eq!((stones.lost_at("a/b"), stones.lost_at("b")), (Some(7), None));
        assert!(
            stones.may_have_lost(&pattern("a/*"), 6, 7).0 && !stones.may_have_lost(&pattern("a/*"), 6, 8).0
        );
    }

    #[test]
    fn a_channel_without_losses_leaves_none() {
        let mut stones = Tombstones::new(10);
        bury(&mut stones, "quiet", 0);
        assert_eq!(stones.lost("quiet"), 0);
    }
}
