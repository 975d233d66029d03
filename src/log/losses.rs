//! What channels had lost of a history that is loaded: which rows are history still, and what has to be known before.
//!
//! A row is history while one of its channels has it. An update of Mercure lies in several, one of which may have lost it
//! to a limit or a deletion, so each is asked, and what one of them has lost is told before the row is applied.

use super::{Lost, Record};
use crate::id::Seq;
use std::collections::BTreeMap;

/// What is known of all channels.
#[derive(Debug, Default)]
pub struct Losses {
    channels: BTreeMap<Box<str>, Marks>,
    /// What channels of which nothing is known may have lost.
    watermark: Seq,
}

/// What is known of one.
#[derive(Debug, Default)]
struct Marks {
    /// Up to here it has lost messages to limits.
    lost: Seq,
    /// Up to here it was deleted.
    deleted: Seq,
    /// What has been told of it.
    told: Seq,
}

impl Losses {
    /// Nothing is known of any channel, but that each may have lost messages up to `watermark`.
    pub fn new(watermark: Seq) -> Self {
        Self { channels: BTreeMap::new(), watermark }
    }

    /// Notes up to which numbers a channel has lost messages, and was deleted.
    pub fn note(&mut self, channel: &str, lost: Seq, deleted: Seq) {
        self.channels.insert(channel.into(), Marks { lost, deleted, told: 0 });
    }

    /// Whether a row is history still; if so, `told` is given what has to be known before it is applied. Rows come in the
    /// order of their numbers.
    pub fn admits(&mut self, seq: Seq, record: &Record, told: &mut Vec<Lost>) -> bool {
        let Record::Message { channel, publication, .. } = record else { return true };
        // The latest value of a key outlives its ring.
        let has_key = publication.key.is_some();
        if publication.update.is_none() {
            let has_it = self.has(channel, seq, has_key);
            if has_it {
                self.tell(channel, told);
            }
            return has_it;
        }
        let names = publication.channels(channel);
        let holders = names.iter().filter(|name| self.has(name, seq, has_key)).count();
        if holders > 0 {
            names.iter().for_each(|name| self.tell(name, told));
        }
        holders > 0
    }

    /// What has not been told yet.
    pub fn rest(self) -> Vec<Lost> {
        let is_new = |marks: &Marks| marks.lost > marks.told;
        let new = self.channels.into_iter().filter(|(_, marks)| is_new(marks));
        let mut rest: Vec<Lost> = new.map(|(channel, marks)| Lost { channel, upto: marks.lost }).collect();
        rest.sort_unstable_by(|one, other| (one.upto, &one.channel).cmp(&(other.upto, &other.channel)));
        rest
    }

    fn has(&mut self, channel: &str, seq: Seq, has_key: bool) -> bool {
        let suspected = self.watermark.min(seq - 1);
        if !self.channels.contains_key(channel) {
            self.note(channel, suspected, 0);
        }
        self.channels.get_mut(channel).is_some_and(|marks| {
            let is_lost = seq <= marks.deleted || seq <= marks.lost && !has_key;
            if is_lost {
                marks.lost = seq.max(marks.lost);
            }
            !is_lost
        })
    }

    fn tell(&mut self, channel: &str, told: &mut Vec<Lost>) {
        if let Some(marks) = self.channels.get_mut(channel).filter(|marks| marks.lost > marks.told) {
            marks.told = marks.lost;
            told.push(Lost { channel: channel.into(), upto: marks.lost });
        }
    }
}
