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
    /// What is known of each, and up to where that has been told.
    channels: BTreeMap<Box<str>, (Marks, Seq)>,
    /// What channels of which nothing is known may have lost.
    watermark: Seq,
}

/// What is known of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// Up to here it has lost messages to limits.
    pub lost: Seq,
    /// Up to here it was deleted.
    pub deleted: Seq,
    /// Up to here it has lost what who wants latest values misses.
    pub of_latest: Seq,
}

impl Marks {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            lost: self.lost.max(other.lost),
            deleted: self.deleted.max(other.deleted),
            of_latest: self.of_latest.max(other.of_latest),
        }
    }

    /// What is told of it when a life begins.
    fn loss_of(self, channel: &str) -> Lost {
        Lost { channel: channel.into(), upto: self.lost, of_latest: self.of_latest.min(self.lost) }
    }
}

impl Losses {
    /// Nothing is known of any channel, but that each may have lost messages up to `watermark`.
    pub fn new(watermark: Seq) -> Self {
        Self { channels: BTreeMap::new(), watermark }
    }

    /// Notes what is known of a channel.
    pub fn note(&mut self, channel: &str, marks: Marks) {
        self.channels.insert(channel.into(), (marks, 0));
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
        let new = self.channels.into_iter().filter(|(_, (marks, told))| marks.lost > *told);
        let mut rest: Vec<Lost> = new.map(|(channel, (marks, _))| marks.loss_of(&channel)).collect();
        rest.sort_unstable_by(|one, other| (one.upto, &one.channel).cmp(&(other.upto, &other.channel)));
        rest
    }

    fn has(&mut self, channel: &str, seq: Seq, has_key: bool) -> bool {
        let suspected = self.watermark.min(seq - 1);
        if !self.channels.contains_key(channel) {
            self.note(channel, Marks { lost: suspected, deleted: 0, of_latest: suspected });
        }
        self.channels.get_mut(channel).is_some_and(|(marks, _)| {
            if seq <= marks.deleted {
                // Whoever had its newest message has to be told all the same if there were values: they are gone.
                let upto = if has_key { marks.deleted } else { seq };
                (marks.lost, marks.of_latest) = (upto.max(marks.lost), upto.max(marks.of_latest));
                return false;
            }
            seq > marks.lost || has_key
        })
    }

    fn tell(&mut self, channel: &str, told: &mut Vec<Lost>) {
        if let Some((marks, upto)) = self.channels.get_mut(channel).filter(|(marks, told)| marks.lost > *told)
        {
            *upto = marks.lost;
            told.push(marks.loss_of(channel));
        }
    }
}
