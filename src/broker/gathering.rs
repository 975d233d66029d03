//! A server that has just started knows of those who are there only what the stream keeps; the others say the rest when they
//! are asked. Whoever took its table of them before, and went on with it to another server, would lack somebody for as long
//! as that one has nothing to tell. So it lets nobody in until all who live have answered, as long as they do not keep silent.
//! Where a reload has switched presence on, it is the same, but that only those are refused who ask for that.

use crate::id::Seq;
use crate::log::NodeId;
use crate::time::Instant;
use std::collections::BTreeSet;

/// Milliseconds that those who are waited for may keep silent: they may be dead, or have no rule about presence.
const SILENT_MS: u64 = 2000;
/// Milliseconds that it is waited at most.
const WAITED_MS: u64 = 10_000;

/// What clients have to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shut {
    /// Whatever they want: we have just started.
    All,
    /// Who is there: we have just begun to show it.
    Presence,
}

/// Waiting for others to say who is there.
#[derive(Debug)]
pub struct Gathering {
    began: Instant,
    /// When it is waited no longer.
    until: Instant,
    /// The number of our question, when it is history.
    asked: Option<Seq>,
    /// Who has yet to answer.
    waits: BTreeSet<NodeId>,
    /// What nobody is given before; nothing if it was waited for too long.
    shut: Option<Shut>,
}

impl Gathering {
    /// It is waited for these.
    pub const fn new(now: Instant, waits: BTreeSet<NodeId>, shut: Shut) -> Self {
        let until = Instant::from_millis(now.as_millis() + SILENT_MS);
        Self { began: now, until, asked: None, waits, shut: Some(shut) }
    }

    /// What nobody is given.
    pub const fn shut(&self) -> Option<Shut> {
        self.shut
    }

    /// Whether all have answered.
    pub fn is_over(&self) -> bool {
        self.asked.is_some() && self.waits.is_empty()
    }

    /// When it is waited no longer.
    pub const fn until(&self) -> Instant {
        if self.shut.is_some() { self.until } else { Instant::NEVER }
    }

    /// It is. Returns for how many it was in vain.
    pub fn tire(&mut self) -> usize {
        self.shut = None;
        self.waits.len()
    }

    /// A server has said something.
    pub fn note_word(&mut self, now: Instant, node: NodeId) {
        if self.waits.contains(&node) {
            self.until = (now + SILENT_MS).min(self.began + WAITED_MS);
        }
    }

    /// We have asked, by the record of this number.
    pub fn note_question(&mut self, seq: Seq, others: BTreeSet<NodeId>) {
        (self.asked, self.waits) = (Some(seq), others);
    }

    /// A server has said of all who are there, as it was asked by the record `since`.
    pub fn note_answer(&mut self, node: NodeId, since: Seq) {
        if self.asked.is_some_and(|asked| asked <= since) {
            self.waits.remove(&node);
        }
    }

    /// Only these live.
    pub fn forget_dead(&mut self, others: &BTreeSet<NodeId>) {
        self.waits.retain(|node| others.contains(node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn nodes(numbers: &[u64]) -> BTreeSet<NodeId> {
        numbers.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn it_is_over_when_all_who_live_have_answered_what_we_asked() {
        let mut gathering = Gathering::new(at(0), nodes(&[1, 2, 3]), Shut::All);
        gathering.note_answer(NodeId(1), 50);
        gathering.note_question(60, nodes(&[1, 2, 3]));
        gathering.note_answer(NodeId(1), 59);
        gathering.note_answer(NodeId(2), 61);
        gathering.note_answer(NodeId(3), 60);
        assert!(!gathering.is_over(), "the first has answered somebody else");
        gathering.forget_dead(&nodes(&[2, 3, 4]));
        assert!(gathering.is_over() && gathering.shut() == Some(Shut::All));
    }

    #[test]
    fn who_keeps_silent_is_not_waited_for() {
        let mut gathering = Gathering::new(at(0), nodes(&[1, 2]), Shut::All);
        assert_eq!(gathering.until(), at(SILENT_MS));
        gathering.note_question(60, nodes(&[1]));
        gathering.note_word(at(1500), NodeId(2));
        assert_eq!(gathering.until(), at(SILENT_MS), "it is not waited for that one");
        gathering.note_word(at(1500), NodeId(1));
        assert_eq!(gathering.until(), at(1500 + SILENT_MS));
        gathering.note_word(at(9500), NodeId(1));
        assert_eq!(gathering.until(), at(WAITED_MS), "at most");
        assert_eq!((gathering.tire(), gathering.until(), gathering.is_over()), (1, Instant::NEVER, false));
        gathering.note_answer(NodeId(1), 60);
        assert!(gathering.is_over());
    }
}
