//! Pulling: what a subscriber has not had, oldest first.

use super::Hub;
use super::key::{ChannelKey, Owner, SubscriberKey};
use super::message::Message;
use super::ring::Ring;
use super::subscriber::{Many, Membership, Memberships, NOT_YET, Stranger, Subscriber};
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
    /// Where the subscriber stands, having been told.
    pub position: MessageId,
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

/// Gaps that are told at once; one for all channels stands for those that are more. What ninety bytes ask for may not be
/// a megabyte.
pub const GAPS_MAX: usize = 100;
/// What matches every channel.
pub const EVERYWHERE: &str = "**";

/// Channels on which nothing was delivered, but which are looked at after a delivery all the same.
const PUT_RIGHT_MAX: usize = 64;

impl Hub {
    /// What the subscriber lacks that [`Hub::next_ready`] names next, if it has one channel, nothing has to be told
    /// of a gap, and something is there. `before` is what was said of another since rings have last changed.
    pub fn first_lacking(&self, now: Instant, before: Option<Lacking>) -> Option<Lacking> {
        let subscriber = self.subscribers.get(*self.ready.front()?)?;
        let Memberships::One { channel, .. } = subscriber.memberships else { return None };
        if !subscriber.queued || subscriber.stranger {
            return None;
        }
        if !subscriber.view.is_plain() {
            return self.first_latest(now, subscriber, channel);
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
        let message = lacking.next().filter(|message| message.reaches(subscriber.joined, now))?;
        let more = lacking.next().is_some();
        Some(Lacking { owner, note, channel, after, seq: message.id.seq, more })
    }

    /// The same of a subscriber that wants latest values: something if it lacks one message of all, which nothing can
    /// have superseded then.
    #[inline(never)]
    fn first_latest(&self, now: Instant, subscriber: &Subscriber, channel: ChannelKey) -> Option<Lacking> {
        let Subscriber { owner, note, after, view, .. } = *subscriber;
        if !view.is_simple() || self.lost(channel, after) {
            return None;
        }
        let mut lacking = self.channels[channel].ring.after(after);
        let message = lacking.next().filter(|message| message.reaches(subscriber.joined, now))?;
        let more = lacking.next().is_some();
        (!more).then_some(Lacking { owner, note, channel, after, seq: message.id.seq, more })
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
        self.channels[channel].ring.find(seq)
    }

    /// Whether there is nothing to pull for sure, and no gap to be told: the subscriber has had the newest message of all, and
    /// listens to one channel. False if it takes a closer look.
    pub fn has_had_all(&self, key: SubscriberKey) -> bool {
        let subscriber = &self.subscribers[key];
        let is_one = matches!(subscriber.memberships, Memberships::One { .. }) && subscriber.view.is_plain();
        is_one && !subscriber.stranger && subscriber.after >= self.seq
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
        if !subscriber.view.is_plain() {
            return self.pull_latest(now, key, max, pulled);
        }
        match &subscriber.memberships {
            Memberships::One { channel, .. } if self.must_walk(*channel, subscriber.after) => {
                self.walk(now, (key, *channel), max, pulled);
            }
            Memberships::One { channel, .. } => {
                let is_due = |message: &&Rc<Message>| message.reaches(subscriber.joined, now);
                let ring = &self.channels[*channel].ring;
                pulled.extend(ring.after(subscriber.after).filter(is_due).take(max));
            }
            Memberships::Many(many) => {
                let end = many.news.looked_up_to;
                let mut entries = many.news.in_order().take_while(|(next, _)| *next < end).peekable();
                let (mut rings, mut heads) = (Vec::new(), BinaryHeap::new());
                for _ in 0..max {
                    // Only where what comes next may be older than all that is at hand has to be looked, or the same: a
                    // message of several topics is in several rings.
                    while let Some((_, place)) =
                        entries.next_if(|(next, _)| heads.peek().is_none_or(|Reverse((seq, _))| next <= seq))
                    {
                        many.note_looks(1);
                        let membership = &many.all[place as usize];
                        let ring = &self.channels[membership.channel].ring;
                        let newer = ring.after(subscriber.after.max(membership.floor));
                        let is_owed = |message: &&Rc<Message>| message.id.seq <= membership.until;
                        let is_due = |message: &&Rc<Message>| message.reaches(membership.joined, now);
                        rings.push(newer.take_while(is_owed).filter(is_due).peekable());
                        let ring = rings.len() - 1;
                        heads.extend(head(&mut rings[ring]).map(|seq| Reverse((seq, ring))));
                    }
                    let Some(Reverse((_, ring))) = heads.pop().filter(|Reverse((seq, _))| *seq < end) else {
                        return;
                    };
                    let message = rings[ring].next();
                    let seq = message.map_or(0, |message| message.id.seq);
                    pulled.extend(message);
                    heads.extend(head(&mut rings[ring]).map(|seq| Reverse((seq, ring))));
                    while let Some(&Reverse((_, ring))) =
                        heads.peek().filter(|Reverse((other, _))| *other == seq)
                    {
                        heads.pop();
                        rings[ring].next();
                        heads.extend(head(&mut rings[ring]).map(|seq| Reverse((seq, ring))));
                    }
                }
            }
        }
    }

    /// Whether there may be more to pull, of which [`Hub::take_gaps_for`] has not looked yet whether there are gaps.
    pub fn is_cut(&self, key: SubscriberKey) -> bool {
        matches!(&self.subscribers[key].memberships, Memberships::Many(many) if many.news.is_cut())
    }

    /// Notes that the subscriber has everything up to `seq`.
    pub fn advance(&mut self, key: SubscriberKey, seq: Seq) {
        let subscriber = &mut self.subscribers[key];
        debug_assert!(seq >= subscriber.after);
        if !subscriber.view.is_plain() {
            return self.advance_latest(key, seq);
        }
        subscriber.after = seq;
        let Memberships::Many(many) = &mut subscriber.memberships else { return };
        if !self.beginnings.is_empty() {
            Self::note_position(&mut self.beginnings, key, seq);
        }
        let mut looked_at = 0;
        while let Some((next, place)) = many.news.first() {
            many.note_looks(1);
            let membership = &many.all[place as usize];
            let had = seq.max(membership.floor);
            let ring = &self.channels[membership.channel].ring;
            let first = ring.after(had).next().map(|message| message.id.seq);
            let first = first.filter(|seq| *seq <= membership.until);
            let has_gap = ring.evicted() > had && had < membership.until || membership.stranger;
            if first.is_none() && !has_gap && membership.until < NOT_YET {
                self.settled.push((key, membership.channel));
            }
            if next > seq {
                // Where nothing was delivered, a few are put where they belong: messages may be gone from there.
                looked_at += 1;
                if first == Some(next) || has_gap || looked_at > PUT_RIGHT_MAX {
                    return;
                }
            }
            // A gap has its place before all that is newer, of whatever channel.
            many.expect(place, if has_gap { had + 1 } else { first.unwrap_or(0) });
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
        match self.subscribers[key].view.is_plain() {
            true => self.look_for_gaps(key, Seq::MAX),
            false => self.take_latest_gaps(key, false),
        }
    }

    /// The same of a subscriber that is going to pull at most so many messages: who is behind on thousands of channels
    /// is told channel by channel, as it comes to them. [`Hub::pull`] goes no further than that.
    pub fn take_gaps_for(&mut self, now: Instant, key: SubscriberKey, messages: usize) -> Vec<Gap> {
        let subscriber = &self.subscribers[key];
        if !subscriber.view.is_plain() {
            return self.take_latest_gaps(key, false);
        }
        let up_to = match &subscriber.memberships {
            Memberships::Many(many) if many.news.len() > messages && !subscriber.stranger => {
                // Where nothing is to be pulled, no message comes from.
                let mut least = Seq::MAX;
                let has_any = |&(_, place): &(Seq, u32)| {
                    many.note_looks(1);
                    let membership = &many.all[place as usize];
                    let ring = &self.channels[membership.channel].ring;
                    let newer = ring.after(subscriber.after.max(membership.floor));
                    let mut owed = newer.take_while(|message| message.id.seq <= membership.until);
                    let first = owed.find(|message| message.reaches(membership.joined, now));
                    least = least.min(first.map_or(Seq::MAX, |message| message.id.seq));
                    first.is_some()
                };
                let beyond = many.news.in_order().filter(has_any).nth(messages);
                // At least the first message is pulled.
                beyond.map_or(Seq::MAX, |(next, _)| next.max(least + 1))
            }
            _ => Seq::MAX,
        };
        self.look_for_gaps(key, up_to)
    }

    fn look_for_gaps(&mut self, key: SubscriberKey, up_to: Seq) -> Vec<Gap> {
        let subscriber = &mut self.subscribers[key];
        let (after, stranger) = (subscriber.after, subscriber.stranger);
        if let Memberships::One { channel, .. } = subscriber.memberships
            && self.channels[channel].feed.is_some()
        {
            return self.look_for_feed_gap(key, channel);
        }
        let channels = &self.channels;
        let ring = |channel: ChannelKey| &channels[channel].ring;
        let has_gap = match &mut subscriber.memberships {
            Memberships::One { channel, .. } => channels[*channel].ring.evicted() > after || stranger,
            Memberships::Many(many) => {
                many.news.looked_up_to = up_to;
                let mut entries = many.news.in_order().take_while(|&(next, _)| next < up_to);
                stranger
                    || entries.any(|(_, place)| {
                        many.note_looks(1);
                        let membership = &many.all[place as usize];
                        membership.stranger || has_lost(&ring, many, membership, after)
                    })
            }
        };
        match has_gap {
            true => self.settle_gaps(key),
            false => Vec::new(),
        }
    }

    /// The same for a poll, whose client continues at one place for all channels.
    pub fn take_gaps_of_poll(&mut self, key: SubscriberKey) -> Vec<Gap> {
        match self.subscribers[key].view.is_plain() {
            true => self.take_gaps(key),
            false => self.take_latest_gaps(key, true),
        }
    }

    /// The gap of a subscriber of a feed, if it has one.
    #[inline(never)]
    fn look_for_feed_gap(&mut self, key: SubscriberKey, channel: ChannelKey) -> Vec<Gap> {
        if !self.subscribers[key].stranger && !self.has_feed_gap(key, channel) {
            return Vec::new();
        }
        self.subscribers[key].stranger = false;
        let came_with = self.strangers.remove(&key).and_then(|stranger| stranger.id);
        self.counts.gaps_told += 1;
        vec![self.take_feed_gap(key, channel, came_with)]
    }

    fn lost(&self, channel: ChannelKey, after: Seq) -> bool {
        self.channels[channel].ring.evicted() > after
    }

    /// Lists the gaps of a subscriber that has some, and moves it past them.
    #[cold]
    fn settle_gaps(&mut self, key: SubscriberKey) -> Vec<Gap> {
        let newest = self.newest();
        let epoch = self.epoch;
        let Stranger { id: after, patterns: strange } = self.strangers.remove(&key).unwrap_or_default();
        let subscriber = &mut self.subscribers[key];
        subscriber.stranger = false;
        let channels = &self.channels;
        let ring = |channel: ChannelKey| &channels[channel].ring;
        let gap = |channel: ChannelKey, cursor: Seq| {
            let channel = &channels[channel];
            Gap {
                channel: Rc::clone(channel.name()),
                after: after.unwrap_or(MessageId { epoch, seq: cursor }),
                oldest: channel.ring.oldest().map_or(newest, |seq| MessageId { epoch, seq }),
                position: MessageId { epoch, seq: cursor.max(channel.ring.evicted()) },
            }
        };
        let mut gaps = Vec::new();
        match &mut subscriber.memberships {
            Memberships::One { channel, .. } => {
                gaps.push(gap(*channel, subscriber.after));
                subscriber.after = subscriber.after.max(channels[*channel].ring.evicted());
            }
            Memberships::Many(many) => {
                if self.beginnings.contains_key(&key) {
                    // Its place says of which losses it has been told: of all that there were at some time.
                    many.news.looked_up_to = Seq::MAX;
                }
                let looked_at = many.news.in_order().take_while(|(next, _)| *next < many.news.looked_up_to);
                let has_gap = |&place: &u32| {
                    let membership = &many.all[place as usize];
                    membership.stranger || has_lost(&ring, many, membership, subscriber.after)
                };
                let places: Vec<u32> = looked_at.map(|(_, place)| place).filter(has_gap).collect();
                for place in places {
                    let membership = &mut many.all[place as usize];
                    membership.stranger = false;
                    gaps.push(gap(membership.channel, subscriber.after.max(membership.floor)));
                    membership.floor = membership.floor.max(channels[membership.channel].ring.evicted());
                }
            }
        }
        // What a pattern missed may have been on channels that do not exist any more.
        gaps.extend(strange.into_iter().map(|(pattern, after)| Gap {
            channel: pattern.as_str().into(),
            after,
            oldest: newest,
            position: newest,
        }));
        self.counts.gaps_told += gaps.len() as u64;
        if !self.is_cut(key) {
            self.note_told(key, &gaps);
        }
        if gaps.len() > GAPS_MAX {
            let rest = gaps.split_off(GAPS_MAX - 1);
            let after = rest.iter().map(|gap| gap.after).next().unwrap_or(newest);
            gaps.push(Gap { channel: EVERYWHERE.into(), after, oldest: newest, position: newest });
        }
        gaps
    }

    /// From where the subscriber would resume if it lost its connection now.
    pub fn position(&self, key: SubscriberKey) -> MessageId {
        self.id(self.subscribers[key].after)
    }

    /// Whether a message came when the subscriber, if it is still there, listened already.
    pub fn is_new_to(&self, key: SubscriberKey, seq: Seq) -> bool {
        self.subscribers.get(key).is_some_and(|subscriber| seq > subscriber.joined)
    }
}

/// Of so many channels of a subscriber it is found out whether they have what another of them has lost: each is asked about
/// each message that any of them has lost so. Who has more is told of a gap on suspicion.
const SEARCHED_MAX: usize = 16;

/// Whether a subscriber lacks something that one of its channels has lost, and none of its others has.
fn has_lost<'a>(
    ring: &impl Fn(ChannelKey) -> &'a Ring,
    many: &Many,
    membership: &Membership,
    after: Seq,
) -> bool {
    let had = after.max(membership.floor);
    let has = |other: &Membership, seq: Seq| {
        other.floor < seq && seq <= other.until && ring(other.channel).contains(seq)
    };
    let is_elsewhere =
        |seq: Seq| many.all.len() <= SEARCHED_MAX && many.all.iter().any(|(_, other)| has(other, seq));
    had < membership.until && ring(membership.channel).has_lost(had, is_elsewhere)
}

/// The number of a ring's next message.
fn head<'a>(ring: &mut Peekable<impl Iterator<Item = &'a Rc<Message>>>) -> Option<Seq> {
    ring.peek().map(|message| message.id.seq)
}
