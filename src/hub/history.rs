//! The bounds of all rings: count, bytes and age per channel, bytes in all.
//!
//! The count is enforced only when no delivery is outstanding ([`History::trim`]): a burst of more messages
//! than a ring keeps, read in one turn, reaches the subscribers that are connected. What is younger than the
//! grace stays even then, for those who are between two polls; when it has passed, the timer of the channel
//! has the count enforced ([`History::cut`]). Bytes are enforced at once.

use super::channel::Channel;
use super::key::ChannelKey;
use super::message::{Data, Message, Publication};
use super::order::Order;
use super::ring::Gone;
use crate::carry::{carry, resume};
use crate::id::{Epoch, MessageId, Seq};
use crate::table::Table;
use crate::time::Instant;
use std::collections::VecDeque;
use std::rc::Rc;

#[cfg(test)]
mod tests;

/// Bounds of one channel's ring. The newest message is kept whatever they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Messages.
    pub messages: usize,
    /// Milliseconds for which a message is not thrown away because of the count.
    pub grace_ms: u64,
    /// Bytes, without encoded frames.
    pub bytes: usize,
    /// Milliseconds.
    pub age_ms: u64,
}

/// What all rings keep together.
#[derive(Debug)]
pub struct History {
    /// Bounds of rings, by the place that their channels know. At place 0 are those of channels of which no rule says
    /// anything else; none ever leaves.
    limits: Vec<Limits>,
    total_bytes: usize,
    /// Bytes of all messages and of all their frames.
    bytes: usize,
    messages: usize,
    order: Order,
    /// Channels that have come to keep more messages than they may.
    overfull: Vec<ChannelKey>,
    /// Messages whose frames are not needed once nobody waits for a delivery; see [`History::charge_once`].
    passing: Vec<(ChannelKey, Seq)>,
    /// Messages whose frames stay as long as there is room, in the order in which they were encoded.
    encoded: VecDeque<(ChannelKey, Seq)>,
    /// When there are so many of these, those that are gone are left out.
    encoded_most: usize,
    /// What stands for a message that is taken out of where it is held, for a moment.
    nothing: Rc<Message>,
    /// Since when there are clients: before that, nobody could ask for what came.
    opened: Instant,
    /// Moments count who has begun where each channel has its own beginning: the first, the last, and that at which a channel
    /// was forgotten last that had lost something.
    moments: Moments,
    /// Feeds are to be told of what limits take; and that.
    is_watched: bool,
    lost: Vec<(ChannelKey, Rc<Message>)>,
}

resume! {
    History {
        carried: bytes, messages, order, overfull, passing, encoded, opened, moments;
        resumed: ;
        given: limits, total_bytes, is_watched, lost, encoded_most, nothing
    }
}

/// Moments of loss.
#[derive(Debug, Default, Clone, Copy)]
struct Moments {
    first: u64,
    last: u64,
    buried: u64,
}

carry! {
    struct Moments { first, last, buried }
}

/// So many entries of messages that are gone are left where they are.
const ENCODED_MIN: usize = 1024;

/// So many of them are remembered. The frames of others leave with their messages.
const PASSING_MAX: usize = 1024;

impl History {
    /// No history yet; in all at most `total_bytes`.
    pub fn new(limits: Limits, total_bytes: usize) -> Self {
        Self {
            limits: vec![limits],
            total_bytes,
            bytes: 0,
            messages: 0,
            order: Order::default(),
            overfull: Vec::new(),
            passing: Vec::new(),
            encoded: VecDeque::new(),
            encoded_most: ENCODED_MIN,
            nothing: nothing(),
            opened: Instant::default(),
            moments: Moments::default(),
            is_watched: false,
            lost: Vec::new(),
        }
    }

    /// The place of these bounds. There are as many as the settings have ever named.
    pub fn place_of(&mut self, limits: Limits) -> u16 {
        let known = self.limits.iter().position(|known| *known == limits);
        let place = known.unwrap_or(self.limits.len());
        let Ok(place) = u16::try_from(place) else { return 0 };
        if known.is_none() {
            self.limits.push(limits);
        }
        place
    }

    fn limits_of(&self, channel: &Channel) -> &Limits {
        &self.limits[usize::from(channel.terms)]
    }

    /// Keeps what limits take, for [`History::take_lost`].
    pub const fn watch(&mut self) {
        self.is_watched = true;
    }

    /// Whether limits have taken something.
    pub const fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// What limits have taken, and from which channels.
    pub fn take_lost(&mut self) -> Vec<(ChannelKey, Rc<Message>)> {
        std::mem::take(&mut self.lost)
    }

    /// All entries newer than `after`, oldest first. A message of several topics has several, and some are of messages
    /// that are gone.
    pub fn since(&self, after: Seq) -> impl Iterator<Item = (Seq, ChannelKey)> {
        self.order.since(after)
    }

    /// Bytes that the ring of a channel may take.
    pub fn ring_bytes(&self, channel: &Channel) -> usize {
        self.limits_of(channel).bytes
    }

    /// Messages in all rings.
    pub const fn messages(&self) -> usize {
        self.messages
    }

    /// Bytes of all rings, with frames.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of all messages that may be kept.
    pub const fn total_bytes(&self) -> usize {
        self.total_bytes
    }

    /// Lets go of a message that was among the latest values, and is in no ring any more.
    pub fn release(&mut self, message: &Message) {
        self.bytes -= message.cost() + message.frames_cost();
    }

    /// Lets go of `bytes` that were charged.
    pub const fn discharge(&mut self, bytes: usize) {
        self.bytes -= bytes;
    }

    /// Notes `bytes` of newly encoded frames, or of what is kept for patches.
    pub const fn charge(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Notes that message `seq` has been encoded, for as long as there is room.
    pub fn note_encoded(&mut self, channels: &Table<ChannelKey, Channel>, key: ChannelKey, seq: Seq) {
        if self.encoded.len() >= self.encoded_most {
            self.encoded.retain(|&(key, seq)| is_held(channels, seq, key));
            self.encoded_most = 2 * self.encoded.len() + ENCODED_MIN;
        }
        self.encoded.push_back((key, seq));
    }

    /// Notes `bytes` of a frame that was encoded for a crowd which gets it at once: [`History::trim`] throws it away.
    /// A third of what a small message takes is its frame, and who comes late is rare.
    pub fn charge_once(&mut self, channel: ChannelKey, seq: Seq, bytes: usize) {
        self.bytes += bytes;
        if self.passing.len() < PASSING_MAX {
            self.passing.push((channel, seq));
        }
    }

    /// Puts `message` into the ring of channel `key` and enforces the bounds in bytes. Returns how many
    /// messages were thrown away.
    pub fn push(
        &mut self,
        channels: &mut Table<ChannelKey, Channel>,
        key: ChannelKey,
        message: Rc<Message>,
    ) -> usize {
        let now = message.published;
        self.order.push(message.id.seq, key);
        self.messages += 1;
        if !message.is_held() {
            self.bytes += message.cost();
        }
        let channel = &mut channels[key];
        let limits = &self.limits[usize::from(channel.terms)];
        let (most, bytes) = (limits.messages, limits.bytes);
        channel.ring.push(message, limits.age_ms);
        let mut evicted = 0;
        while channel.ring.bytes() > bytes && channel.ring.len() > 1 {
            evicted += self.evict(key, channel, now).evicted;
        }
        if channel.ring.len() == most + 1 {
            self.overfull.push(key);
        }
        evicted + self.enforce_total(channels, now)
    }

    /// Throws the globally oldest messages away until the total is kept.
    fn enforce_total(&mut self, channels: &mut Table<ChannelKey, Channel>, now: Instant) -> usize {
        // Whoever lacks a message whose frame is gone has it encoded again; a message that is gone nobody gets.
        while self.bytes > self.total_bytes
            && let Some((key, seq)) = self.encoded.pop_front()
        {
            self.bytes -= self.forget_frames(channels, key, seq);
        }
        let mut evicted = 0;
        while self.bytes > self.total_bytes && self.messages > 1 {
            let Some((seq, key)) = self.order.pop() else { break };
            // The oldest of all, if its ring still keeps it, is the oldest of its ring.
            if is_kept(channels, seq, key) {
                evicted += self.evict(key, &mut channels[key], now).evicted;
            }
        }
        self.order.sweep(self.messages, |seq, key| is_kept(channels, seq, key));
        evicted
    }

    /// Throws away frames that have been delivered to all they were for. Enforces the count of every ring that grew
    /// beyond it, and the total, which encoding frames may have exceeded. Has `cut_at` called for each channel that
    /// still keeps more than its count: [`History::cut`] has something to do then. Returns how many messages were
    /// thrown away.
    pub fn trim(
        &mut self,
        channels: &mut Table<ChannelKey, Channel>,
        now: Instant,
        mut cut_at: impl FnMut(ChannelKey, Instant),
    ) -> usize {
        let mut passing = std::mem::take(&mut self.passing);
        for (key, seq) in passing.drain(..) {
            self.bytes -= self.forget_frames(channels, key, seq);
        }
        self.passing = passing;
        let mut evicted = 0;
        for key in std::mem::take(&mut self.overfull) {
            let Some(channel) = channels.get_mut(key) else { continue };
            evicted += self.cut(key, channel, now);
            if let Some(at) = self.next_cut(channel) {
                cut_at(key, at);
            }
        }
        evicted + self.enforce_total(channels, now)
    }

    /// Throws the frames of message `seq` away, unless somebody is in the midst of one. Returns what they took.
    fn forget_frames(&self, channels: &mut Table<ChannelKey, Channel>, key: ChannelKey, seq: Seq) -> usize {
        let Some(channel) = channels.get_mut(key) else { return 0 };
        match channel.ring.holder(seq).map(|message| Rc::get_mut(message)) {
            Some(Some(message)) => message.forget_frames(),
            _ => self.forget_frames_of_many(channels, key, seq),
        }
    }

    /// The same for a message that may be held in several places: a latest value, an update with several topics.
    #[inline(never)]
    fn forget_frames_of_many(
        &self,
        channels: &mut Table<ChannelKey, Channel>,
        key: ChannelKey,
        seq: Seq,
    ) -> usize {
        let others = self.order.since(seq - 1).take_while(|&(other, _)| other == seq).map(|(_, key)| key);
        let keys: Vec<ChannelKey> =
            std::iter::once(key).chain(others.filter(|other| *other != key)).collect();
        let mut only = None;
        for &key in &keys {
            let Some(channel) = channels.get_mut(key) else { continue };
            for holder in channel.holders(seq) {
                let message = std::mem::replace(holder, Rc::clone(&self.nothing));
                only.get_or_insert(message);
            }
        }
        let Some(mut message) = only else { return 0 };
        let bytes = Rc::get_mut(&mut message).map_or(0, Message::forget_frames);
        for &key in &keys {
            let Some(channel) = channels.get_mut(key) else { continue };
            // What stands for it has another number, but not its place.
            channel.holders(seq).for_each(|holder| *holder = Rc::clone(&message));
        }
        bytes
    }

    /// Enforces the count of the ring of `channel`, as far as the grace lets it. Returns how many messages were
    /// thrown away.
    pub fn cut(&mut self, key: ChannelKey, channel: &mut Channel, now: Instant) -> usize {
        let mut evicted = 0;
        while self.next_cut(channel).is_some_and(|at| at <= now) {
            evicted += self.evict(key, channel, now).evicted;
        }
        evicted
    }

    /// When the next message of `channel` goes because of the count, unless something else takes it before; `None` if
    /// no more are kept than the count.
    pub fn next_cut(&self, channel: &Channel) -> Option<Instant> {
        let limits = self.limits_of(channel);
        let oldest = channel.ring.oldest_published().filter(|_| channel.ring.len() > limits.messages)?;
        Some(oldest.max(self.opened) + limits.grace_ms)
    }

    /// Counts moments from there.
    pub const fn count_moments_from(&mut self, first: u64) {
        self.moments = Moments { first, last: first, buried: first };
    }

    /// Whether such a moment has come.
    pub const fn has_been(&self, moment: u64) -> bool {
        moment > self.moments.first && moment <= self.moments.last
    }

    /// A new moment: what is lost from now on is lost after it has come.
    pub const fn next_moment(&mut self) -> u64 {
        self.moments.last += 1;
        self.moments.last
    }

    /// Notes that a channel has lost something, or that it comes and had lost something.
    pub const fn note_lost(&self, channel: &mut Channel) {
        channel.ring.note_lost_at(self.moments.last);
    }

    /// Notes that a channel is forgotten which had lost something.
    pub const fn note_buried(&mut self) {
        self.moments.buried = self.moments.last;
    }

    /// Whether no such channel was forgotten since that moment.
    pub const fn is_unburied(&self, moment: u64) -> bool {
        self.moments.buried < moment
    }

    /// Notes that there were no clients until now, as a history was loaded.
    pub const fn open(&mut self, now: Instant) {
        self.opened = now;
    }

    /// Whether channel `key` is to be looked at by the next [`History::trim`].
    #[cfg(any(test, feature = "check"))]
    pub fn is_overfull(&self, key: ChannelKey) -> bool {
        self.overfull.contains(&key)
    }

    /// Throws away `bytes` of messages that `may_go`, the oldest first; it must let go what is older on the same
    /// channel, too. Returns how many messages that were, how many bytes, and which channels are empty now.
    pub fn shed(
        &mut self,
        channels: &mut Table<ChannelKey, Channel>,
        now: Instant,
        bytes: usize,
        may_go: impl Fn(&Channel, Seq) -> bool,
    ) -> (usize, usize, Vec<ChannelKey>) {
        let before = self.bytes;
        let (mut evicted, mut emptied) = (0, Vec::new());
        let mut order = std::mem::take(&mut self.order);
        order.retain(|seq, key| {
            if self.bytes.saturating_add(bytes) <= before {
                return true;
            }
            let Some(channel) = channels.get_mut(key) else { return false };
            let is_kept = channel.ring.contains(seq);
            if !is_kept || !may_go(channel, seq) {
                return is_kept;
            }
            evicted += self.evict(key, channel, now).evicted;
            if channel.ring.is_empty() {
                emptied.push(key);
            }
            false
        });
        self.order = order;
        (evicted, before - self.bytes, emptied)
    }

    /// Takes out of `channel` what is too old.
    pub fn expire(&mut self, key: ChannelKey, channel: &mut Channel, now: Instant) -> Gone {
        let age_ms = self.limits_of(channel).age_ms;
        if self.is_watched {
            let aged = channel.ring.aged(age_ms, now);
            self.lost.extend(aged.map(|message| (key, Rc::clone(message))));
        }
        let gone = channel.expire(age_ms, now);
        self.settle(channel, gone)
    }

    /// Takes out of `channel` what is beyond bounds that have changed.
    pub fn fit(&mut self, key: ChannelKey, channel: &mut Channel, now: Instant) -> Gone {
        let mut gone = self.expire(key, channel, now);
        while channel.ring.bytes() > self.ring_bytes(channel) && channel.ring.len() > 1 {
            gone.evicted += self.evict(key, channel, now).evicted;
        }
        gone.evicted += self.cut(key, channel, now);
        gone
    }

    /// Takes what is newer than `after` out of `channel`: it has never happened.
    pub fn take_back(&mut self, channel: &mut Channel, after: Seq) {
        let latest = channel.keyed.as_ref().map(|keyed| &keyed.latest);
        let gone = channel.ring.take_back(after, latest);
        self.settle(channel, gone);
    }

    /// Throws away all that `channel` keeps. Returns how many messages that were.
    pub fn clear(&mut self, key: ChannelKey, channel: &mut Channel, now: Instant) -> usize {
        let mut evicted = 0;
        while !channel.ring.is_empty() {
            evicted += self.evict(key, channel, now).evicted;
        }
        evicted
    }

    /// Throws the oldest message of a channel away because of a limit.
    fn evict(&mut self, key: ChannelKey, channel: &mut Channel, now: Instant) -> Gone {
        if self.is_watched
            && let Some(message) = channel.ring.first().filter(|message| !message.expired(now))
        {
            self.lost.push((key, Rc::clone(message)));
        }
        let gone = channel.evict(now);
        self.settle(channel, gone)
    }

    const fn settle(&mut self, channel: &mut Channel, gone: Gone) -> Gone {
        if gone.evicted > 0 {
            channel.ring.note_lost_at(self.moments.last);
        }
        self.bytes -= gone.bytes;
        self.messages -= gone.expired + gone.evicted;
        gone
    }
}

/// A message that is none.
fn nothing() -> Rc<Message> {
    let id = MessageId { epoch: Epoch::from_random(0), seq: 0 };
    Rc::new(Message::new(id, "".into(), Publication::of(Data::Removed), Instant::default()))
}

/// Whether channel `key` still keeps message `seq`.
fn is_kept(channels: &Table<ChannelKey, Channel>, seq: Seq, key: ChannelKey) -> bool {
    channels.get(key).is_some_and(|channel| channel.ring.contains(seq))
}

/// The same, or among its latest values.
fn is_held(channels: &Table<ChannelKey, Channel>, seq: Seq, key: ChannelKey) -> bool {
    let is_value = |channel: &Channel| channel.latest().is_some_and(|latest| latest.contains(seq));
    is_kept(channels, seq, key) || channels.get(key).is_some_and(is_value)
}
