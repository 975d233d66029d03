//! A subscriber: one cursor, and the channels it listens to.

use super::channel::{ChannelKey, Entry};
use super::message::Message;
use super::name::Pattern;
use super::{Hub, HubError};
use crate::id::{MessageId, Seq};
use crate::time::Instant;
use std::collections::HashSet;
use std::rc::Rc;

/// So many channels may be looked at for each that a pattern may match.
const LOOKED_AT_PER_MATCH: usize = 10;
/// Room for so many subscribers on a channel's list is never given back.
const CROWD: usize = 64;

/// Place of a subscriber in the hub's slab. Valid from [`Hub::attach`] until [`Hub::detach`].
pub type SubscriberKey = u32;

/// Whom the hub's user thinks of when a subscriber is ready; opaque to the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner(pub u32);

/// Where a subscriber begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With what is published from now on.
    Now,
    /// With the oldest message kept.
    Oldest,
    /// With the last so many messages of each channel.
    Last(usize),
    /// After the message with this id.
    After(MessageId),
    /// With the oldest message that was published at this time or later.
    Since(Instant),
}

/// One cursor and its channels.
#[derive(Debug)]
pub struct Subscriber {
    /// Everything up to here has been delivered.
    pub(super) after: Seq,
    /// The newest message when it came: what is newer reaches it whatever its TTL.
    pub(super) joined: Seq,
    pub(super) memberships: Memberships,
    pub(super) owner: Owner,
    /// What its owner has noted; see [`Hub::note`].
    pub(super) note: u8,
    /// In the ready queue.
    pub(super) queued: bool,
    /// It named an id of another history, or from before a forgotten channel lost messages that its patterns
    /// may have matched, and has not been told of the gap yet.
    pub(super) stranger: bool,
}

impl Subscriber {
    /// Whether a message that is newer than its cursor still has to reach it.
    pub(super) fn is_for(&self, message: &Message, now: Instant) -> bool {
        message.id.seq > self.joined || !message.expired(now)
    }
}

/// The channels of a subscriber; nearly all have one.
#[derive(Debug)]
pub enum Memberships {
    /// One channel: its key and the subscriber's place in its list.
    One {
        /// Which channel.
        channel: ChannelKey,
        /// Place in the channel's list.
        index: u32,
    },
    /// Any number of channels, or patterns.
    Many(Box<Many>),
}

/// Several channels of one subscriber, and which of them have news.
#[derive(Debug, Default)]
pub struct Many {
    pub(super) all: Vec<Membership>,
    /// Those with possibly something newer than the cursor. A channel that is not here has nothing, so
    /// that a subscriber of ten thousand channels costs as much as those that speak.
    pub(super) dirty: Vec<u32>,
}

/// One of several channels of a subscriber.
#[derive(Debug)]
pub struct Membership {
    pub(super) channel: ChannelKey,
    /// Place in the channel's list.
    index: u32,
    /// On this channel, everything up to here counts as delivered, told as a gap or not asked for.
    pub(super) floor: Seq,
    /// Listed in [`Many::dirty`].
    dirty: bool,
    /// Asked for by its name, and not only by a pattern.
    named: bool,
    /// A gap has to be told because the subscriber came with the id of another history.
    pub(super) stranger: bool,
}

impl Memberships {
    /// Notes that the channel of membership `index` has news.
    pub(super) fn touch(&mut self, index: u32) {
        if let Self::Many(many) = self {
            many.touch(index);
        }
    }
}

impl Many {
    fn touch(&mut self, index: u32) {
        let membership = &mut self.all[index as usize];
        if !membership.dirty {
            membership.dirty = true;
            self.dirty.push(index);
        }
    }

    /// Keeps those dirty for which `news` holds.
    pub(super) fn clean(&mut self, mut news: impl FnMut(&Membership) -> bool) {
        let Self { all, dirty } = self;
        dirty.retain(|&index| {
            let membership = &mut all[index as usize];
            membership.dirty = news(membership);
            membership.dirty
        });
    }
}

impl Hub {
    /// Adds a subscriber of the channels `names` (which must be distinct) and of all channels that match
    /// `patterns`, beginning at `start`. If something is waiting for it, it is ready at once.
    pub fn attach(
        &mut self,
        now: Instant,
        owner: Owner,
        names: &[&str],
        mut patterns: Vec<Pattern>,
        start: Start,
    ) -> Result<SubscriberKey, HubError> {
        if let ([name], true) = (names, patterns.is_empty()) {
            let channel = self.admit_listener(now, name)?;
            let only = Memberships::One { channel: u32::MAX, index: 0 };
            let key = self.insert(owner, only, &[], start);
            self.join_at_start(now, key, channel, start);
            return Ok(key);
        }
        let matching = self.admit_listeners(names, &patterns, 0)?;
        let key = self.insert(owner, Memberships::Many(Box::default()), &patterns, start);
        for name in names {
            let channel = self.channel_to_hear(now, name);
            self.join_at_start(now, key, channel, start);
            self.set_named(key, channel, true);
        }
        for channel in matching {
            self.join_at_start(now, key, channel, start);
        }
        if !patterns.is_empty() {
            patterns.sort_unstable();
            patterns.dedup();
            self.patterns.insert(key, patterns);
        }
        if matches!(start, Start::Oldest | Start::Last(_)) {
            self.begin_at_floors(key);
        }
        if self.subscribers[key as usize].stranger {
            self.mark(key);
        }
        Ok(key)
    }

    /// Adds a subscriber that is on no list yet.
    #[inline(always)]
    fn insert(
        &mut self,
        owner: Owner,
        memberships: Memberships,
        patterns: &[Pattern],
        start: Start,
    ) -> SubscriberKey {
        let after = match start {
            Start::Now => self.seq,
            Start::After(id) if self.is_ours(id) => id.seq,
            _ => 0,
        };
        // Channels that a pattern would have matched may be forgotten, with messages that it never had.
        let had_lost =
            |id: MessageId| patterns.iter().any(|pattern| self.tombstones.may_have_lost(pattern, id.seq));
        let stranger = matches!(start, Start::After(id) if !self.is_ours(id) || had_lost(id));
        let joined = self.seq;
        let subscriber = Subscriber { after, joined, memberships, owner, note: 0, queued: false, stranger };
        let key = self.subscribers.insert(subscriber) as SubscriberKey;
        if let Start::After(id) = start
            && stranger
        {
            self.strangers.insert(key, id);
        }
        key
    }

    /// Moves the cursor of a subscriber of several channels up to where the first of them begins: what is
    /// older was not asked for, and an id from before it would be taken for a gap when it comes back.
    fn begin_at_floors(&mut self, key: SubscriberKey) {
        let newest = self.seq;
        let subscriber = &mut self.subscribers[key as usize];
        if let Memberships::Many(many) = &subscriber.memberships {
            let first = many.all.iter().map(|membership| membership.floor).min();
            subscriber.after = first.unwrap_or(newest);
        }
    }

    /// Whether `id` was given out by this history.
    pub(super) fn is_ours(&self, id: MessageId) -> bool {
        id.epoch == self.epoch && id.seq <= self.seq
    }

    /// The channel `name` for one more subscriber, or why it may not come.
    fn admit_listener(&mut self, now: Instant, name: &str) -> Result<ChannelKey, HubError> {
        if let Some(key) = self.names.find(&self.channels, name)
            && self.channels[key as usize].subscribers.len() < self.bounds.subscribers
        {
            return Ok(key);
        }
        self.admit_listeners(&[name], &[], 0)?;
        Ok(self.open_channel(now, name))
    }

    /// Whether a subscriber that has `so_far` channels may listen to all of these, too. Changes nothing. Returns
    /// the channels that the patterns match.
    fn admit_listeners(
        &mut self,
        names: &[&str],
        patterns: &[Pattern],
        so_far: usize,
    ) -> Result<Vec<ChannelKey>, HubError> {
        let known: Vec<ChannelKey> = names.iter().filter_map(|name| self.names.get(name)).collect();
        if let Err(error) = self.admits_new(names.len() - known.len()) {
            self.stats.channels_refused += 1;
            return Err(error);
        }
        let room = self.bounds.matches.saturating_sub(if patterns.is_empty() { 0 } else { so_far });
        let matching = self.matching(names, patterns, room);
        let full =
            |key: &ChannelKey| self.channels[*key as usize].subscribers.len() >= self.bounds.subscribers;
        let is_full = known.iter().chain(matching.iter().flatten()).any(full);
        match matching {
            Some(matching) if !is_full => Ok(matching),
            found => {
                self.stats.subscriptions_refused += 1;
                Err(if found.is_none() { HubError::TooManyMatches } else { HubError::TooManySubscribers })
            }
        }
    }

    /// Whether there is room for the channels that a subscriber of `names` would make.
    pub fn admits_listener<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<(), HubError> {
        self.admits_new(names.filter(|name| self.names.get(name).is_none()).count())
    }

    /// Whether there is room for so many channels that have no messages yet.
    fn admits_new(&self, count: usize) -> Result<(), HubError> {
        let max = self.bounds.channels;
        match self.channels.len() + count <= max && self.silent + count <= max.div_ceil(2) || count == 0 {
            true => Ok(()),
            false => Err(HubError::TooManyChannels),
        }
    }

    /// The channel `name`, which may be new.
    fn channel_to_hear(&mut self, now: Instant, name: &str) -> ChannelKey {
        match self.names.find(&self.channels, name) {
            Some(key) => key,
            None => self.open_channel(now, name),
        }
    }

    /// Existing channels with messages that match one of `patterns`, without those named in `names`. `None` if
    /// they are more than `max`, or if too many have to be looked at to know.
    fn matching(&mut self, names: &[&str], patterns: &[Pattern], max: usize) -> Option<Vec<ChannelKey>> {
        let mut found: Vec<(&Rc<str>, ChannelKey)> = Vec::new();
        let (mut looked_at, most) = (0, max.saturating_mul(LOOKED_AT_PER_MATCH));
        for (pattern, (name, key)) in patterns.iter().flat_map(|pattern| {
            let under = self.names.under(pattern.prefix());
            under.map(move |channel| (pattern, channel))
        }) {
            looked_at += 1;
            if looked_at > most {
                break;
            }
            if pattern.matches(name) && self.channels[key as usize].spoken {
                found.push((name, key));
            }
        }
        found.retain(|(name, _)| !names.contains(&&***name));
        found.sort_unstable();
        found.dedup();
        let keys =
            (found.len() <= max && looked_at <= most).then(|| found.iter().map(|&(_, key)| key).collect());
        self.looked_at += looked_at as u64;
        keys
    }

    /// Joins a channel with the floor that `start` means there.
    fn join_at_start(&mut self, now: Instant, key: SubscriberKey, channel: ChannelKey, start: Start) {
        let ring = &self.channels[channel as usize].ring;
        let floor = match start {
            Start::Now | Start::After(_) => 0,
            Start::Oldest => ring.evicted(),
            Start::Last(count) => ring.before_last(count, now),
            Start::Since(time) => ring.before(time),
        };
        self.join(key, channel, floor);
        let foreign = matches!(start, Start::After(id) if !self.is_ours(id));
        let ring = &self.channels[channel as usize].ring;
        let subscriber = &mut self.subscribers[key as usize];
        if let Memberships::Many(many) = &mut subscriber.memberships
            && let Some(membership) = many.all.last_mut()
        {
            membership.stranger = foreign;
        }
        let had = subscriber.after.max(floor);
        if ring.newest() > had || ring.evicted() > had || foreign {
            self.mark(key);
        }
    }

    /// Adds channels or patterns to a subscriber, each beginning at `start`; what it listens to already is
    /// left as it is.
    pub fn subscribe(
        &mut self,
        now: Instant,
        key: SubscriberKey,
        names: &[&str],
        patterns: &[Pattern],
        start: Start,
    ) -> Result<(), HubError> {
        let known = self.patterns.get(&key);
        let is_new = |pattern: &&Pattern| known.is_none_or(|known| known.binary_search(pattern).is_err());
        let patterns: Vec<Pattern> = patterns.iter().filter(is_new).cloned().collect();
        let matching = self.admit_listeners(names, &patterns, self.channels_of(key))?;
        self.grow(key);
        for name in names {
            let channel = self.channel_to_hear(now, name);
            self.add(now, key, channel, start);
            self.set_named(key, channel, true);
        }
        let joined = if matching.is_empty() { HashSet::new() } else { self.joined(key) };
        for channel in matching.into_iter().filter(|channel| !joined.contains(channel)) {
            self.add_new(now, key, channel, start);
        }
        if !patterns.is_empty() {
            let known = self.patterns.entry(key).or_default();
            known.extend(patterns);
            known.sort_unstable();
            known.dedup();
        }
        Ok(())
    }

    /// How many channels a subscriber is on the lists of.
    fn channels_of(&self, key: SubscriberKey) -> usize {
        match &self.subscribers[key as usize].memberships {
            Memberships::One { .. } => 1,
            Memberships::Many(many) => many.all.len(),
        }
    }

    /// Makes a subscriber of one channel one of several.
    fn grow(&mut self, key: SubscriberKey) {
        let subscriber = &mut self.subscribers[key as usize];
        let Memberships::One { channel, index } = subscriber.memberships else { return };
        let (floor, stranger) = (subscriber.after, subscriber.stranger);
        let only = Membership { channel, index, floor, dirty: true, named: true, stranger };
        subscriber.memberships = Memberships::Many(Box::new(Many { all: vec![only], dirty: vec![0] }));
    }

    /// Joins a channel, unless it listens there already.
    fn add(&mut self, now: Instant, key: SubscriberKey, channel: ChannelKey, start: Start) {
        if !self.listens(key, channel) {
            self.add_new(now, key, channel, start);
        }
    }

    /// Joins a channel that it does not listen to.
    fn add_new(&mut self, now: Instant, key: SubscriberKey, channel: ChannelKey, start: Start) {
        self.begin_at(key, channel, start);
        self.join_at_start(now, key, channel, start);
        self.settle_floor(key, start);
    }

    /// The channels that a subscriber of several is on the lists of.
    fn joined(&self, key: SubscriberKey) -> HashSet<ChannelKey> {
        match &self.subscribers[key as usize].memberships {
            Memberships::One { channel, .. } => HashSet::from([*channel]),
            Memberships::Many(many) => many.all.iter().map(|membership| membership.channel).collect(),
        }
    }

    /// Moves the cursor back if the channel about to be joined begins before it: what the subscriber had on
    /// its other channels is kept as their floor.
    fn begin_at(&mut self, key: SubscriberKey, channel: ChannelKey, start: Start) {
        let begin = match start {
            Start::Now => return,
            Start::After(id) if self.is_ours(id) => id.seq,
            Start::After(_) | Start::Oldest | Start::Last(_) | Start::Since(_) => {
                self.channels[channel as usize].ring.evicted()
            }
        };
        let subscriber = &mut self.subscribers[key as usize];
        if let Memberships::Many(many) = &mut subscriber.memberships
            && begin < subscriber.after
        {
            for membership in &mut many.all {
                membership.floor = membership.floor.max(subscriber.after);
            }
            subscriber.after = begin;
        }
    }

    /// The channel joined last begins at `start`, wherever the subscriber's cursor is.
    fn settle_floor(&mut self, key: SubscriberKey, start: Start) {
        let floor = match start {
            Start::Now => self.seq,
            Start::After(id) if self.is_ours(id) => id.seq,
            _ => return,
        };
        if let Memberships::Many(many) = &mut self.subscribers[key as usize].memberships
            && let Some(membership) = many.all.last_mut()
        {
            membership.floor = membership.floor.max(floor);
        }
    }

    /// Takes channels or patterns away from a subscriber. A channel stays while it is asked for by its name
    /// or by another pattern.
    pub fn unsubscribe(&mut self, now: Instant, key: SubscriberKey, names: &[&str], patterns: &[Pattern]) {
        let unnamed: HashSet<ChannelKey> = names.iter().filter_map(|name| self.names.get(name)).collect();
        let removed = self.remove_patterns(key, patterns);
        if unnamed.is_empty() && removed.is_empty() {
            return;
        }
        self.grow(key);
        let Memberships::Many(many) = &mut self.subscribers[key as usize].memberships else { return };
        self.looked_at += (many.all.len() * (1 + removed.len())) as u64;
        let known = self.patterns.get(&key).map(Vec::as_slice).unwrap_or_default();
        let mut left = HashSet::new();
        for membership in &mut many.all {
            let channel = &self.channels[membership.channel as usize];
            let matches =
                |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(channel.name()));
            let is_unnamed = unnamed.contains(&membership.channel);
            membership.named &= !is_unnamed;
            if (is_unnamed || matches(&removed)) && !membership.named && !(channel.spoken && matches(known)) {
                left.insert(membership.channel);
            }
        }
        self.part(now, key, &left);
    }

    /// Takes patterns away from a subscriber; returns those that it had.
    fn remove_patterns(&mut self, key: SubscriberKey, patterns: &[Pattern]) -> Vec<Pattern> {
        let Some(known) = self.patterns.get_mut(&key) else { return Vec::new() };
        let is_known = |pattern: &&Pattern| known.binary_search(pattern).is_ok();
        let mut removed: Vec<Pattern> = patterns.iter().filter(is_known).cloned().collect();
        removed.sort_unstable();
        known.retain(|pattern| removed.binary_search(pattern).is_err());
        if known.is_empty() {
            self.patterns.remove(&key);
        }
        removed
    }

    /// Notes whether the subscriber asks for a channel by its name.
    fn set_named(&mut self, key: SubscriberKey, channel: ChannelKey, named: bool) {
        if let Memberships::Many(many) = &mut self.subscribers[key as usize].memberships
            && let Some(membership) = many.all.iter_mut().find(|membership| membership.channel == channel)
        {
            membership.named = named;
        }
    }

    /// Whether subscriber `key` is on the list of `channel`.
    pub(super) fn listens(&self, key: SubscriberKey, channel: ChannelKey) -> bool {
        match &self.subscribers[key as usize].memberships {
            Memberships::One { channel: only, .. } => *only == channel,
            Memberships::Many(many) => many.all.iter().any(|membership| membership.channel == channel),
        }
    }

    /// Ends the memberships in the channels `left` of a subscriber of several.
    fn part(&mut self, now: Instant, key: SubscriberKey, left: &HashSet<ChannelKey>) {
        let Memberships::Many(many) = &mut self.subscribers[key as usize].memberships else { return };
        let all = std::mem::take(&mut many.all);
        let (gone, kept): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|membership| left.contains(&membership.channel));
        for (place, membership) in (0..).zip(&kept) {
            let entry =
                &mut self.channels[membership.channel as usize].subscribers[membership.index as usize];
            entry.membership = place;
        }
        many.dirty = (0..).zip(&kept).filter(|(_, membership)| membership.dirty).map(|(at, _)| at).collect();
        many.all = kept;
        // Leaving moves others in a channel's list, never this one: it is on each list once.
        gone.into_iter().for_each(|membership| self.leave(now, membership.channel, membership.index));
    }

    /// Puts subscriber `key` on the list of `channel`.
    pub(super) fn join(&mut self, key: SubscriberKey, channel: ChannelKey, floor: Seq) {
        let list = &mut self.channels[channel as usize].subscribers;
        let index = list.len() as u32;
        let subscriber = &mut self.subscribers[key as usize];
        let membership = match &mut subscriber.memberships {
            Memberships::One { channel: only, index: place } => {
                (*only, *place) = (channel, index);
                subscriber.after = subscriber.after.max(floor);
                0
            }
            Memberships::Many(many) => {
                let number = many.all.len() as u32;
                let (dirty, named, stranger) = (false, false, false);
                many.all.push(Membership { channel, index, floor, dirty, named, stranger });
                many.touch(number);
                number
            }
        };
        list.push(Entry { subscriber: key, membership });
    }

    /// Removes a subscriber. Its key is invalid afterwards.
    pub fn detach(&mut self, now: Instant, key: SubscriberKey) {
        let subscriber = self.subscribers.remove(key as usize);
        if subscriber.stranger {
            self.strangers.remove(&key);
        }
        if !self.overfull.is_empty() {
            self.overfull.retain(|(other, _)| *other != key);
        }
        match subscriber.memberships {
            Memberships::One { channel, index } => self.leave(now, channel, index),
            Memberships::Many(many) => {
                self.patterns.remove(&key);
                for membership in &many.all {
                    // Leaving moves others in a channel's list, never this one: it is on each list once.
                    self.leave(now, membership.channel, membership.index);
                }
            }
        }
    }

    /// Takes place `index` off the list of `channel` and tells whoever is moved there.
    fn leave(&mut self, now: Instant, channel: ChannelKey, index: u32) {
        let list = &mut self.channels[channel as usize].subscribers;
        list.swap_remove(index as usize);
        if let Some(moved) = list.get(index as usize) {
            match &mut self.subscribers[moved.subscriber as usize].memberships {
                Memberships::One { index: place, .. } => *place = index,
                Memberships::Many(many) => many.all[moved.membership as usize].index = index,
            }
        }
        let room = list.capacity();
        if room > CROWD && list.len() < room / 4 {
            list.shrink_to(room / 2);
        }
        if list.is_empty() {
            match self.channels[channel as usize].spoken {
                true => self.schedule(now, channel),
                false => self.forget(channel),
            }
        }
    }

    /// How many channels a subscriber asks for by name, and by how many patterns.
    pub fn subscriptions(&self, key: SubscriberKey) -> usize {
        match &self.subscribers[key as usize].memberships {
            Memberships::One { .. } => 1,
            Memberships::Many(many) => {
                let named = many.all.iter().filter(|membership| membership.named).count();
                named + self.patterns.get(&key).map_or(0, Vec::len)
            }
        }
    }

    /// Who owns a subscriber.
    pub fn owner(&self, key: SubscriberKey) -> Owner {
        self.subscribers[key as usize].owner
    }
}

#[cfg(any(test, feature = "check"))]
impl Membership {
    pub(super) const fn place(&self) -> (ChannelKey, u32) {
        (self.channel, self.index)
    }

    pub(super) const fn is_dirty(&self) -> bool {
        self.dirty
    }
}

#[cfg(any(test, feature = "check"))]
impl Many {
    /// Panics if the list of dirty memberships and their marks contradict each other.
    pub(super) fn check(&self) {
        assert_eq!(self.dirty.len(), self.all.iter().filter(|membership| membership.dirty).count());
        assert!(self.dirty.iter().all(|&index| self.all[index as usize].dirty));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_millis(0);

    fn hub() -> Hub {
        Hub::new(&crate::config::Config::default(), crate::id::Epoch::from_random(1), NOW)
    }

    fn publish(hub: &mut Hub, channel: &str) -> Seq {
        let publication = crate::hub::Publication::of(crate::hub::Data::Text(channel.into()));
        hub.publish(NOW, channel, publication).unwrap().id.seq
    }

    /// What the subscriber gets now.
    fn pull(hub: &mut Hub, key: SubscriberKey) -> Vec<Seq> {
        let mut pulled = Vec::new();
        hub.pull(NOW, key, 100, &mut pulled);
        let seqs: Vec<Seq> = pulled.iter().map(|message| message.id.seq).collect();
        if let Some(&last) = seqs.last() {
            hub.advance(key, last);
        }
        seqs
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn several_channels_begin_where_the_first_of_them_does() {
        let mut hub = hub();
        let now = Instant::default();
        for channel in ["a", "b", "a", "b", "b"] {
            publish(&mut hub, channel);
        }
        let mut position = |start| {
            let key = hub.attach(now, Owner(0), &["a", "b"], Vec::new(), start).unwrap();
            (hub.position(key).seq, pull(&mut hub, key))
        };
        assert_eq!(position(Start::Last(1)), (2, vec![3, 5]));
        assert_eq!(position(Start::Last(0)), (3, vec![]));
        assert_eq!(position(Start::Oldest), (0, vec![1, 2, 3, 4, 5]));
        let nothing_matches = hub.attach(now, Owner(0), &[], vec![pattern("x/*")], Start::Oldest).unwrap();
        assert_eq!(hub.position(nothing_matches).seq, 5);
    }

    #[test]
    fn a_subscriber_grows_and_shrinks() {
        let mut hub = hub();
        let key = hub.attach(NOW, Owner(0), &["a"], Vec::new(), Start::Now).unwrap();
        let (a, b) = (publish(&mut hub, "a"), publish(&mut hub, "b"));
        hub.subscribe(NOW, key, &["b"], &[pattern("*")], Start::Now).unwrap();
        let (b2, c) = (publish(&mut hub, "b"), publish(&mut hub, "c"));
        assert_eq!(hub.subscriptions(key), 3);
        assert_eq!(pull(&mut hub, key), [a, b2, c], "what was published on b before is not its own: {b}");
        hub.unsubscribe(NOW, key, &["a", "b", "never"], &[]);
        let again = ["a", "b", "c"].map(|name| publish(&mut hub, name));
        assert_eq!(pull(&mut hub, key), again, "the pattern still asks for them");
        hub.subscribe(NOW, key, &["b"], &[], Start::Now).unwrap();
        hub.unsubscribe(NOW, key, &[], &[pattern("*")]);
        let [_, b, _] = ["a", "b", "c"].map(|name| publish(&mut hub, name));
        assert_eq!(pull(&mut hub, key), [b]);
        hub.unsubscribe(NOW, key, &["b"], &[]);
        assert_eq!((publish(&mut hub, "b"), hub.subscriptions(key)).1, 0);
        assert!(pull(&mut hub, key).is_empty());
    }

    #[test]
    fn a_channel_joined_later_may_begin_before_the_cursor() {
        let mut hub = hub();
        let old = [0; 3].map(|_| publish(&mut hub, "old"));
        let key = hub.attach(NOW, Owner(0), &["a"], Vec::new(), Start::Now).unwrap();
        let a = publish(&mut hub, "a");
        assert_eq!(pull(&mut hub, key), [a]);
        let after = MessageId { seq: old[0], ..hub.newest() };
        hub.subscribe(NOW, key, &["old"], &[], Start::After(after)).unwrap();
        let new = publish(&mut hub, "a");
        assert_eq!(pull(&mut hub, key), [old[1], old[2], new], "nothing twice");
        hub.unsubscribe(NOW, key, &["old"], &[]);
        hub.subscribe(NOW, key, &["old"], &[], Start::Oldest).unwrap();
        assert_eq!(pull(&mut hub, key), old);
    }

    #[test]
    fn who_stays_with_too_many_channels_loses_nothing() {
        let mut config = crate::config::Config::default();
        config.limits.channels_per_pattern = 2;
        let mut hub = Hub::new(&config, crate::id::Epoch::from_random(1), NOW);
        let stays = hub.attach(NOW, Owner(1), &[], vec![pattern("*")], Start::Now).unwrap();
        let goes = hub.attach(NOW, Owner(2), &[], vec![pattern("*")], Start::Now).unwrap();
        let [a, b] = ["a", "b"].map(|name| publish(&mut hub, name));
        assert!(!hub.has_overfull());
        let c = publish(&mut hub, "c");
        assert_eq!(hub.take_overfull(NOW, |owner| owner == Owner(2)), [Owner(2)]);
        hub.check();
        assert!(!hub.subscribers.contains(goes as usize) && !hub.has_overfull());
        assert!(hub.take_gaps(stays).is_empty());
        assert_eq!(pull(&mut hub, stays), [a, b, c]);
        let more = publish(&mut hub, "c");
        assert_eq!(pull(&mut hub, stays), [more]);
    }

    #[test]
    fn what_is_taken_away_in_few_bytes_costs_little() {
        let mut hub = hub();
        let names: Vec<String> = (0..9_000).map(|number| format!("c/{number}")).collect();
        names.iter().for_each(|name| _ = publish(&mut hub, name));
        let key = hub.attach(NOW, Owner(0), &["own"], Vec::new(), Start::Now).unwrap();
        let before = hub.looked_at();
        hub.unsubscribe(NOW, key, &[], &[]);
        hub.unsubscribe(NOW, key, &["never"], &[pattern("never/*")]);
        assert_eq!(hub.looked_at(), before, "nothing was taken away, and nothing looked at");
        for _ in 0..20 {
            hub.subscribe(NOW, key, &[], &[pattern("c/*")], Start::Now).unwrap();
            hub.subscribe(NOW, key, &[], &[pattern("c/*")], Start::Now).unwrap();
            assert_eq!(hub.channels_of(key), 9_001);
            hub.unsubscribe(NOW, key, &[], &[pattern("c/*")]);
            assert_eq!(hub.channels_of(key), 1);
        }
        hub.check();
        assert!(hub.looked_at() - before <= 20 * 4 * 9_001, "each channel once a command that does anything");
    }

    #[test]
    fn sessions_stay_on_a_deleted_channel() {
        let mut hub = hub();
        let stays = hub.attach(NOW, Owner(1), &["a"], Vec::new(), Start::Now).unwrap();
        hub.attach(NOW, Owner(2), &["a"], Vec::new(), Start::Now).unwrap();
        publish(&mut hub, "a");
        assert_eq!(hub.delete(NOW, "a", |owner| owner == Owner(2)), Some(vec![Owner(2)]));
        let seq = publish(&mut hub, "a");
        assert_eq!(hub.take_gaps(stays).len(), 1, "what was deleted is missing");
        assert_eq!(pull(&mut hub, stays), [seq]);
    }

    #[test]
    fn a_subscriber_of_one_channel_takes_forty_bytes() {
        assert_eq!(size_of::<Subscriber>(), 40);
        assert_eq!(size_of::<Entry>(), 8);
    }
}
