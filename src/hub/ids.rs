//! Ids that publishers chose, as cursors: which number each means.
//!
//! An id that is used several times means its earliest holder that is kept. When the last one goes, the pair moves to a
//! bounded table, so that the cursor stays exact for a while: numbers are never used twice.
//!
//! Entries are looked at some at a time, in turn, whenever one is added; so there are never many more than messages.

use super::key::ChannelKey;
use crate::carry::resume;
use crate::id::Seq;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Ids of messages that are gone which are remembered.
pub const REMEMBERED_MAX: usize = 65_536;
/// Entries that are looked at when one is added: more than one, or they would become ever more.
const STEPS: usize = 3;
/// Bytes of an entry beside its text, about.
const ENTRY_BYTES: usize = 96;

/// Which numbers ids mean.
#[derive(Debug, Default)]
pub struct Ids {
    /// By id: its holders, in the order of their numbers, each with one of its channels. Some are gone.
    holders: BTreeMap<Rc<str>, VecDeque<(Seq, ChannelKey)>>,
    /// All holders, in the order in which they are looked at.
    turn: VecDeque<(Rc<str>, Seq, ChannelKey)>,
    remembered: BTreeMap<Rc<str>, Seq>,
    /// In the order in which they came there.
    oldest: VecDeque<(Rc<str>, Seq)>,
    bytes: usize,
}

resume! {
    Ids {
        carried: holders, turn, remembered, oldest, bytes;
        resumed: ;
        given:
    }
}

impl Ids {
    /// Bytes that it takes, about.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes that message `seq`, on channel `key` among others, has that id. `is_kept` tells what is still there.
    pub fn add(&mut self, id: &str, seq: Seq, key: ChannelKey, is_kept: impl Fn(Seq, ChannelKey) -> bool) {
        let id: Rc<str> = match self.holders.get_key_value(id) {
            Some((known, _)) => Rc::clone(known),
            None => id.into(),
        };
        self.bytes += id.len() + ENTRY_BYTES;
        self.holders.entry(Rc::clone(&id)).or_default().push_back((seq, key));
        self.turn.push_back((id, seq, key));
        for _ in 0..STEPS {
            let Some((id, seq, key)) = self.turn.pop_front() else { return };
            match is_kept(seq, key) {
                true => self.turn.push_back((id, seq, key)),
                false => self.retire(&id, seq),
            }
        }
    }

    /// The number that an id means.
    pub fn find(&self, id: &str, is_kept: impl Fn(Seq, ChannelKey) -> bool) -> Option<Seq> {
        let holders = self.holders.get(id).into_iter().flatten();
        let mut gone = None;
        for &(seq, key) in holders {
            if is_kept(seq, key) {
                return Some(seq);
            }
            gone = Some(seq);
        }
        gone.or_else(|| self.remembered.get(id).copied())
    }

    /// Notes that a holder of an id is gone.
    fn retire(&mut self, id: &Rc<str>, seq: Seq) {
        self.bytes -= id.len() + ENTRY_BYTES;
        if let Some(holders) = self.holders.get_mut(id) {
            holders.retain(|&(other, _)| other != seq);
            if holders.is_empty() {
                self.holders.remove(id);
            }
        }
        let known = self.remembered.insert(Rc::clone(id), seq);
        self.oldest.push_back((Rc::clone(id), seq));
        self.bytes += if known.is_none() { id.len() + ENTRY_BYTES } else { 0 };
        while self.remembered.len() > REMEMBERED_MAX || self.oldest.len() > 2 * REMEMBERED_MAX {
            let Some((id, seq)) = self.oldest.pop_front() else { return };
            if self.remembered.get(&id) == Some(&seq) {
                self.remembered.remove(&id);
                self.bytes -= id.len() + ENTRY_BYTES;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Random;

    const KEY: ChannelKey = ChannelKey::new(3);

    #[test]
    fn an_id_means_its_earliest_holder_that_is_kept() {
        let mut random = Random::new(5);
        let (mut ids, mut all) = (Ids::default(), Vec::new());
        let mut kept = std::collections::BTreeSet::new();
        for seq in 1..5000 {
            let id = format!("id{}", random.below(700));
            kept.insert(seq);
            ids.add(&id, seq, KEY, |seq, _| kept.contains(&seq));
            all.push((id, seq));
            if kept.len() > 300 {
                let any = *kept.iter().nth(random.below(4) as usize).unwrap();
                kept.remove(&any);
            }
            let asked = format!("id{}", random.below(700));
            let holders = || all.iter().filter(|(id, _)| *id == asked).map(|&(_, seq)| seq);
            let earliest = holders().find(|seq| kept.contains(seq));
            let found = ids.find(&asked, |seq, _| kept.contains(&seq));
            match earliest {
                Some(_) => assert_eq!(found, earliest, "{asked}"),
                // One of them, so that nothing is lost that was there when it was given.
                None => assert_eq!(found.is_some(), holders().next().is_some(), "{asked}"),
            }
            assert!(ids.turn.len() < 2 * 300 + 64, "{} entries", ids.turn.len());
        }
    }

    #[test]
    fn a_bounded_number_is_remembered() {
        let mut ids = Ids::default();
        let count = REMEMBERED_MAX as u64 + 100;
        for seq in 1..=count {
            ids.add(&seq.to_string(), seq, KEY, |_, _| false);
        }
        assert_eq!(ids.find("1", |_, _| false), None);
        assert_eq!(ids.find(&count.to_string(), |_, _| false), Some(count));
        assert!(ids.remembered.len() <= REMEMBERED_MAX && ids.bytes() < REMEMBERED_MAX * (ENTRY_BYTES + 8));
    }
}
