//! What one of several servers has to say to the others of who listens to it, and to ask them.
//!
//! Nothing is kept of what it has said: it says what is so when it says it. Whoever is *due* is said in the next proposal; what
//! is under way is compared with what is so when it has come back, and what was refused is due again a second later. So
//! whatever is lost, by us, by the engine or on the way, ends with the others knowing what is so.
//!
//! Servers that come, or may have missed something, ask. All others then say of everybody who is there, some in each turn,
//! and at last that this was all.

use super::{AGAIN_MS, About};
use crate::id::Seq;
use crate::log::{NodeId, Record, Ticket};
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};

/// So many are said in one proposal, at most.
pub const SAID_AT_ONCE: usize = 1000;
/// So many may be under way.
const UNDER_WAY: usize = 4 * SAID_AT_ONCE;
/// Milliseconds that others have to ask, too, before they are answered.
const ANSWER_MS: u64 = 100;
/// Milliseconds from one answer to the next, at least.
const ANSWERS_MS: u64 = 1000;

/// Somebody, and the server of which it is said: our own, or one that is dead.
pub type Key = (NodeId, About);

/// What is to be said, and what is under way.
#[derive(Debug, Default)]
pub struct Saying {
    due: BTreeSet<Key>,
    under_way: BTreeSet<Key>,
    /// Of those that are under way: what has changed meanwhile.
    again: BTreeSet<Key>,
    sent: BTreeMap<Ticket, Sent>,
    /// Nothing is said before.
    not_before: Instant,
    /// We are to ask.
    asks: bool,
    /// We were asked, by the record of this number; and when that is answered.
    asked: Option<(Seq, Instant)>,
    /// When it was answered last.
    answered_at: Instant,
    answer: Option<Answer>,
}

/// An answer that is being given.
#[derive(Debug)]
struct Answer {
    /// To the record of this number.
    to: Seq,
    stage: Stage,
    /// Parts of it that are under way.
    parts: BTreeSet<Ticket>,
}

#[derive(Debug)]
enum Stage {
    /// It has come up to this one of those who are there.
    Members(Option<About>),
    /// All have been said; that they were all, when their records are history.
    Last,
    /// That, too.
    Done,
}

/// What a proposal says.
#[derive(Debug, Default)]
pub struct Sent {
    keys: Vec<Key>,
    asks: bool,
    /// The question to which it is a part of the answer.
    answers: Option<Seq>,
}

impl Saying {
    /// Has somebody said, after what is under way of it.
    pub fn mark(&mut self, key: Key) {
        match self.under_way.contains(&key) {
            true => self.again.insert(key),
            false => self.due.insert(key),
        };
    }

    /// Whether that is to be said, or being said.
    pub fn is_marked(&self, key: &Key) -> bool {
        self.due.contains(key) || self.under_way.contains(key)
    }

    /// Whether it is being said.
    pub fn is_under_way(&self, key: &Key) -> bool {
        self.under_way.contains(key)
    }

    /// How many are to be said.
    pub fn waiting(&self) -> usize {
        self.due.len()
    }

    /// Has the others asked.
    pub const fn ask(&mut self) {
        self.asks = true;
    }

    /// Notes that somebody has asked.
    pub fn note_asked(&mut self, now: Instant, seq: Seq) {
        let soon = (now + ANSWER_MS).max(self.answered_at + ANSWERS_MS);
        let when = self.asked.map_or(soon, |(_, when)| when);
        self.asked = Some((seq, when));
    }

    /// When there is something to say.
    pub fn next(&self) -> Instant {
        let is_answering = self.answer.as_ref().is_some_and(Answer::can_go_on);
        match () {
            () if self.under_way.len() >= UNDER_WAY => Instant::NEVER,
            () if self.asks || !self.due.is_empty() || is_answering => self.not_before,
            // One answer after the other.
            () if self.answer.is_some() => Instant::NEVER,
            () => self.asked.map_or(Instant::NEVER, |(_, when)| when.max(self.not_before)),
        }
    }

    /// What is said now: `record` says what is so of somebody, if that is to be said; `after` names those who are there after
    /// somebody, in order.
    pub fn say<I: Iterator<Item = About>>(
        &mut self,
        now: Instant,
        me: NodeId,
        record: impl Fn(&Key) -> Option<Record>,
        after: impl Fn(Option<&About>) -> I,
    ) -> (Vec<Record>, Sent) {
        let (mut records, mut sent) = (Vec::new(), Sent::default());
        if self.next() > now {
            return (records, sent);
        }
        if std::mem::take(&mut self.asks) {
            records.push(Record::Asked(me));
            sent.asks = true;
        }
        while records.len() < SAID_AT_ONCE
            && let Some(key) = self.due.pop_first()
        {
            if let Some(record) = record(&key) {
                records.push(record);
                self.under_way.insert(key.clone());
                sent.keys.push(key);
            }
        }
        if self.answer.is_none()
            && let Some((to, _)) = self.asked.take_if(|(_, when)| *when <= now)
        {
            self.answered_at = now;
            self.answer = Some(Answer { to, stage: Stage::Members(None), parts: BTreeSet::new() });
        }
        if let Some(answer) = self.answer.as_mut().filter(|_| self.due.is_empty()) {
            let before = records.len();
            answer.go_on(
                me,
                &mut records,
                |about| {
                    let key = (me, about);
                    // It was said since we were asked.
                    let record = record(&key).filter(|_| !self.under_way.contains(&key))?;
                    self.under_way.insert(key.clone());
                    sent.keys.push(key);
                    Some(record)
                },
                after,
            );
            sent.answers = (records.len() > before).then_some(answer.to);
        }
        (records, sent)
    }

    /// Notes by which proposal that was said.
    pub fn note_sent(&mut self, ticket: Ticket, sent: Sent) {
        if let Some(answer) = self.answer.as_mut().filter(|_| sent.answers.is_some()) {
            answer.parts.insert(ticket);
        }
        self.sent.insert(ticket, sent);
    }

    /// Notes that a proposal has become history. Returns of whom it was.
    pub fn settle(&mut self, ticket: Ticket) -> Vec<Key> {
        let Some(sent) = self.sent.remove(&ticket) else { return Vec::new() };
        for key in &sent.keys {
            self.under_way.remove(key);
            self.due.extend(self.again.take(key));
        }
        if let Some(answer) = &mut self.answer {
            answer.parts.remove(&ticket);
        }
        self.answer.take_if(|answer| answer.parts.is_empty() && matches!(answer.stage, Stage::Done));
        sent.keys
    }

    /// Notes that nothing of a proposal has happened.
    pub fn refuse(&mut self, now: Instant, ticket: Ticket) {
        let Some(sent) = self.sent.remove(&ticket) else { return };
        self.not_before = now + AGAIN_MS;
        self.asks |= sent.asks;
        for key in sent.keys {
            self.under_way.remove(&key);
            self.again.remove(&key);
            self.due.insert(key);
        }
        // What is under way in parts is to be whole.
        if let Some(to) = sent.answers {
            self.answer = None;
            let to = self.asked.map_or(to, |(seq, _)| seq.max(to));
            self.asked = Some((to, self.not_before));
        }
    }
}

impl Answer {
    /// Whether there is more of it to be said now.
    fn can_go_on(&self) -> bool {
        match self.stage {
            Stage::Members(_) => true,
            Stage::Last => self.parts.is_empty(),
            Stage::Done => false,
        }
    }

    /// Says of more of those who are there, and at last, when all parts have become history, that these were all.
    fn go_on<I: Iterator<Item = About>>(
        &mut self,
        me: NodeId,
        records: &mut Vec<Record>,
        mut record: impl FnMut(About) -> Option<Record>,
        after: impl Fn(Option<&About>) -> I,
    ) {
        if let Stage::Members(place) = &mut self.stage {
            let some: Vec<About> =
                after(place.as_ref()).take(SAID_AT_ONCE.saturating_sub(records.len())).collect();
            let is_end = records.len() + some.len() < SAID_AT_ONCE;
            *place = some.last().cloned().or_else(|| place.take());
            records.extend(some.into_iter().filter_map(&mut record));
            if is_end {
                self.stage = Stage::Last;
            }
        }
        if matches!(self.stage, Stage::Last) && self.parts.is_empty() {
            records.push(Record::AllSaid { node: me, since: self.to });
            self.stage = Stage::Done;
        }
    }
}
