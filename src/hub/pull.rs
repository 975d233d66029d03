//! Pulling: what a subscriber has not had, oldest first.

use super::message::Message;
use super::name::Pattern;
use super::subscriber::{Memberships, Owner, Subscriber, SubscriberKey};
use super::{ChannelKey, Hub};
use crate::id::{MessageId, Seq};
use crate::time::Instant;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter::Peekable;
use std::rc::Rc;

/// Messages of a channel that a subscriber has not had and will not get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Which channel, or which pattern if it may have been any that matches.
    pub channel: Rc<str>,
    /// The last message the subscriber had.
    pub after: MessageId,
    /// The oldest message that is kept (the newest of all, if none is kept).
    pub oldest: MessageId,
}

/// The first of those that are ready, if what it lacks needs no composing.
#[derive(Debug, Clone, Copy)]
pub struct Lacking {
    /// Whose it is.
    pub owner: Owner,
    /// What its owner has noted.
    pub note: u8,
    /// Its only channel.
    pub channel: ChannelKey,
    /// Its cursor.
    pub after: Seq,
    /// The number of the oldest message that it lacks.
    pub seq: Seq,
    /// It lacks others, too.
    pub more: bool,
}

impl Hub {
    /// What the subscriber lacks that [`Hub::next_ready`] names next, if it has one channel, nothing has to be told
    /// of a gap, and something is there. `before` is what was said of another since rings have last changed.
    pub fn first_lacking(&self, now: Instant, before: Option<Lacking>) -> Option<Lacking> {
        let subscriber = self.subscribers.get(*self.ready.front()?)?;
        let Memberships::One { channel, .. } = subscriber.memberships else { return None };
        if !subscriber.queued || subscriber.stranger {
            return None;
        }
        let Subscriber { owner, note, after, joined, .. } = *subscriber;
        // Nearly always a crowd has had the same, and so lacks the same. What is newer than all of them is for all.
        if let Some(same) = before
            && (same.channel, same.after) == (channel, after)
            && same.seq > joined
        {
            return Some(Lacking { owner, note, ..same });
        }
        if self.lost(channel, after) {
            return None;
        }
        let mut lacking = self.channels[channel].ring.after(after);
        let message = lacking.next().filter(|message| subscriber.is_for(message, now))?;
        let more = lacking.next().is_some();
        Some(Lacking { owner, note, channel, after, seq: message.id.seq, more })
    }

    /// Takes the subscriber that [`Hub::first_lacking`] told of out of the queue, and notes that it has everything up
    /// to `seq`.
    pub fn take_first(&mut self, seq: Seq) -> Option<SubscriberKey> {
        let key = self.ready.pop_front()?;
        let subscriber = &mut self.subscribers[key];
        debug_assert!(subscriber.queued && matches!(subscriber.memberships, Memberships::One { .. }));
        debug_assert!(seq >= subscriber.after);
        subscriber.queued = false;
        subscriber.after = seq;
        Some(key)
    }

    /// Message `seq`, if `channel` keeps it.
    pub fn message(&self, channel: ChannelKey, seq: Seq) -> Option<&Rc<Message>> {
        self.channels[channel].ring.after(seq - 1).next().filter(|message| message.id.seq == seq)
    }

    /// Adds at most `max` messages newer than the subscriber's cursor to `pulled`, oldest first. Tell
    /// [`Hub::advance`] how far they were delivered.
    pub fn pull<'a>(
        &'a self,
        now: Instant,
        key: SubscriberKey,
        max: usize,
        pulled: &mut impl Extend<&'a Rc<Message>>,
    ) {
        let subscriber = &self.subscribers[key];
        let is_due = |message: &&Rc<Message>| subscriber.is_for(message, now);
        match &subscriber.memberships {
            Memberships::One { channel, .. } => {
                let ring = &self.channels[*channel].ring;
                pulled.extend(ring.after(subscriber.after).filter(is_due).take(max));
            }
            Memberships::Many(many) => {
                let dirty = many.dirty.iter().map(|&index| &many.all[index as usize]);
                let mut rings: Vec<_> = dirty
                    .map(|membership| {
                        let ring = &self.channels[membership.channel].ring;
                        ring.after(subscriber.after.max(membership.floor)).filter(is_due).peekable()
                    })
                    .collect();
                merge(&mut rings, max, pulled);
            }
        }
    }

    /// Notes that the subscriber has everything up to `seq`.
    pub fn advance(&mut self, key: SubscriberKey, seq: Seq) {
        let subscriber = &mut self.subscribers[key];
        debug_assert!(seq >= subscriber.after);
        subscriber.after = seq;
        if let Memberships::Many(many) = &mut subscriber.memberships {
            let channels = &self.channels;
            many.clean(|membership| channels[membership.channel].ring.newest() > seq.max(membership.floor));
        }
    }

    /// Notes that the subscriber, which has one channel, did not get what is newer than `after` after all.
    pub fn take_back(&mut self, key: SubscriberKey, after: Seq) {
        let subscriber = &mut self.subscribers[key];
        debug_assert!(after <= subscriber.after && matches!(subscriber.memberships, Memberships::One { .. }));
        subscriber.after = after;
    }

    /// The gaps the subscriber must be told of before its next message. Asking counts as telling.
    pub fn take_gaps(&mut self, key: SubscriberKey) -> Vec<Gap> {
        let subscriber = &self.subscribers[key];
        let after = subscriber.after;
        let stranger = subscriber.stranger;
        let has_gap = match &subscriber.memberships {
            Memberships::One { channel, .. } => self.lost(*channel, after) || stranger,
            Memberships::Many(many) => {
                stranger
                    || many.dirty.iter().any(|&index| {
                        let membership = &many.all[index as usize];
                        self.lost(membership.channel, after.max(membership.floor))
                    })
            }
        };
        match has_gap {
            true => self.settle_gaps(key),
            false => Vec::new(),
        }
    }

    fn lost(&self, channel: ChannelKey, after: Seq) -> bool {
        self.channels[channel].ring.evicted() > after
    }

    /// Lists the gaps of a subscriber that has some, and moves it past them.
    #[cold]
    fn settle_gaps(&mut self, key: SubscriberKey) -> Vec<Gap> {
        let newest = self.newest();
        let epoch = self.epoch;
        let after = self.strangers.remove(&key);
        let foreign = after.is_some_and(|id| !self.is_ours(id));
        let subscriber = &mut self.subscribers[key];
        let patterns = match std::mem::take(&mut subscriber.stranger) {
            true => self.patterns.get(&key),
            false => None,
        };
        let channels = &self.channels;
        let gap = |channel: ChannelKey, cursor: Seq| {
            let channel = &channels[channel];
            Gap {
                channel: Rc::clone(channel.name()),
                after: after.unwrap_or(MessageId { epoch, seq: cursor }),
                oldest: channel.ring.oldest().map_or(newest, |seq| MessageId { epoch, seq }),
            }
        };
        let mut gaps = Vec::new();
        match &mut subscriber.memberships {
            Memberships::One { channel, .. } => {
                gaps.push(gap(*channel, subscriber.after));
                subscriber.after = subscriber.after.max(channels[*channel].ring.evicted());
            }
            Memberships::Many(many) => {
                for &index in &many.dirty {
                    let membership = &mut many.all[index as usize];
                    let evicted = channels[membership.channel].ring.evicted();
                    let cursor = subscriber.after.max(membership.floor);
                    if std::mem::take(&mut membership.stranger) || evicted > cursor {
                        gaps.push(gap(membership.channel, cursor));
                        membership.floor = membership.floor.max(evicted);
                    }
                }
            }
        }
        // What a pattern missed may have been on channels that do not exist any more.
        let had_lost = |pattern: &&Pattern| {
            foreign || after.is_some_and(|id| self.tombstones.may_have_lost(pattern, id.seq))
        };
        gaps.extend(patterns.into_iter().flatten().filter(had_lost).map(|pattern| Gap {
            channel: pattern.as_str().into(),
            after: after.unwrap_or(newest),
            oldest: newest,
        }));
        self.stats.gaps_told += gaps.len() as u64;
        gaps
    }

    /// From where the subscriber would resume if it lost its connection now.
    pub fn position(&self, key: SubscriberKey) -> MessageId {
        self.id(self.subscribers[key].after)
    }
}

/// Adds the first `max` messages of all rings together, in the order of their numbers.
fn merge<'a, I>(rings: &mut [Peekable<I>], max: usize, pulled: &mut impl Extend<&'a Rc<Message>>)
where
    I: Iterator<Item = &'a Rc<Message>>,
{
    let head = |ring: &mut Peekable<I>| ring.peek().map(|message| message.id.seq);
    let heads = rings.iter_mut().enumerate();
    let mut heap: BinaryHeap<Reverse<(Seq, usize)>> =
        heads.filter_map(|(index, ring)| Some(Reverse((head(ring)?, index)))).collect();
    for _ in 0..max {
        let Some(Reverse((_, index))) = heap.pop() else { return };
        pulled.extend(rings[index].next());
        heap.extend(head(&mut rings[index]).map(|seq| Reverse((seq, index))));
    }
}
