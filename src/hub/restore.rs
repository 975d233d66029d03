//! What an earlier life of the process left: where numbers go on, and what had been lost.

use super::name::Pattern;
use super::pull::{EVERYWHERE, GAPS_MAX};
use super::{Gap, Hub, Message, Publication};
use crate::id::{Epoch, Seq};
use crate::time::Instant;
use std::rc::Rc;

/// A channel and a key on it.
pub type ExpiredKey = (Rc<str>, Box<str>);

impl Hub {
    /// Names the history. Nobody has been told an id of it yet.
    pub const fn rename(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    /// The next message has number `next`, or a higher one.
    pub const fn go_on_at(&mut self, next: Seq) {
        self.seq = next - 1;
    }

    /// Notes that there were no clients until now. What came before is as young to them as if it had come now: it is kept
    /// for the grace, even if its channel has more than its count.
    pub const fn open(&mut self, now: Instant) {
        self.history.open(now);
    }

    /// Makes the room that a hub has from the beginning.
    pub fn make_room(&mut self) {
        self.subscribers.reserve(super::ROOM);
    }

    /// Takes no number itself from now on: values that expire are [handed out](Hub::take_expired_keys), to be removed.
    pub const fn number_nothing(&mut self) {
        self.is_numbered_outside = true;
    }

    /// Whether values have expired that are to be removed.
    pub const fn has_expired_keys(&self) -> bool {
        !self.expired_keys.is_empty()
    }

    /// Values that have expired and are to be removed. Nobody is given them any more.
    pub fn take_expired_keys(&mut self) -> Vec<ExpiredKey> {
        std::mem::take(&mut self.expired_keys)
    }

    /// Takes them back, as they could not be removed.
    pub fn return_expired_keys(&mut self, keys: Vec<ExpiredKey>) {
        self.expired_keys.extend(keys);
    }

    /// Notes, before its first message is committed, that channel `name` lost messages up to `upto`.
    pub fn restore_loss(&mut self, name: &str, upto: Seq) {
        self.tombstones.bury(&name.into(), upto, 0);
    }

    /// Notes, when what is kept of channel `name` is here, that of what was lost `upto` there, who wants latest values misses
    /// nothing after `of_latest`.
    pub fn restore_loss_of_latest(&mut self, name: &str, upto: Seq, of_latest: Seq) {
        if let Some(key) = self.names.get(name) {
            self.channels[key].ring.restore_loss_of_latest(upto, of_latest);
        }
    }

    /// Takes back message `seq` of an earlier life, which was accepted at `at`. A value that had left its ring, or has
    /// expired, is not in it again, where it would take the room of others; what its publisher let expire is no gap to
    /// anybody.
    pub fn restore(&mut self, (now, at): (Instant, Instant), name: &str, seq: Seq, publication: Publication) {
        let is_over = publication.ttl_ms.is_some_and(|ttl| at + ttl <= now);
        let has_left = is_over || publication.key.is_some() && seq <= self.lost_on(name);
        if publication.update.is_some() || !has_left {
            self.commit(at, name, seq, publication);
            return;
        }
        let known = self.names.find(&self.channels, name);
        let key = known.unwrap_or_else(|| self.open_channel(at, name));
        if !self.channels[key].spoken {
            self.begin_speaking(key);
        }
        self.seq = seq;
        if publication.key.is_some() {
            #[cfg(test)]
            self.journal.push(Message::new(self.id(seq), name.into(), publication.clone(), at));
            let message = Rc::new(Message::new(self.id(seq), name.into(), publication, at));
            self.history.charge(message.cost());
            _ = self.keep_latest(key, &message);
        }
        // It is idle from now on at most: more of it may come.
        self.schedule(now, key);
    }

    /// Notes that any channel of which nothing is known may have lost messages up to `upto`.
    pub fn suspect(&mut self, upto: Seq) {
        self.tombstones.suspect(upto);
    }

    /// Has every cursor that lacks a number below `lost` told of a gap on whatever it listens to: not all that was
    /// published before it is known any more.
    pub const fn lose(&mut self, lost: Seq) {
        self.lost = lost;
    }

    /// What a crash took is told with the last page of what is older, not with each of them: takes out of `gaps` those
    /// that have no other cause, and returns how many there were.
    #[cold]
    pub fn put_off_gaps(&self, gaps: &mut Vec<Gap>) -> u64 {
        let count = gaps.len();
        let has_lost = |gap: &Gap| match Pattern::parse(gap.channel.as_bytes()) {
            // One that stands for many may stand for any.
            _ if count == GAPS_MAX && &*gap.channel == EVERYWHERE => true,
            Ok(Some(pattern)) => self.tombstones.may_have_lost(&pattern, gap.after.seq, 0).0,
            _ => self.lost_on(&gap.channel) > gap.after.seq,
        };
        gaps.retain(has_lost);
        (count - gaps.len()) as u64
    }

    /// Whether message `seq` of channel `name` is kept.
    pub fn keeps(&self, name: &str, seq: Seq) -> bool {
        self.names.get(name).is_some_and(|key| {
            let channel = &self.channels[key];
            channel.ring.contains(seq) || channel.latest().is_some_and(|latest| latest.contains(seq))
        })
    }

    /// Up to which number channel `name` has lost messages.
    pub fn lost_on(&self, name: &str) -> Seq {
        match self.names.get(name) {
            Some(key) => self.channels[key].ring.evicted(),
            None => self.tombstones.lost(name),
        }
    }

    /// The same for who wants latest values.
    pub fn lost_of_latest_on(&self, name: &str) -> Seq {
        match self.names.get(name) {
            Some(key) => self.channels[key].lost_of_latest(),
            None => self.tombstones.lost(name),
        }
    }

    /// Who listens to what is published to channel `name` now, and messages that it keeps.
    pub fn counts_of(&self, name: &str) -> (usize, usize) {
        self.names.get(name).map_or((0, 0), |key| {
            let channel = &self.channels[key];
            (channel.listeners(), channel.ring.len())
        })
    }
}
