//! Feeds: what a selection of topics has, as one channel that keeps nothing.
//!
//! A subscriber of several topics, of templates, or with a right to private updates listens to a feed, which it shares
//! with all who select and may see the same. A message that is for a feed is put into the feed's ring until all who
//! listen have it, and then goes from there; so a delivery is that of any channel, none is given twice, and there is one
//! order. Who is behind what the ring has walks through all messages since its cursor, in the order of their numbers,
//! and takes those that the feed reaches: that costs what it missed, however much is kept.
//!
//! Which feeds a channel reaches is found out once, when the channel or the feed comes. Only a feed of everything, or
//! of more channels than may be noted, is asked about each message.
//!
//! What limits take from channels that a feed reaches is noted with the feed, so that its subscribers are told.

use super::key::ChannelKey;
use super::message::Message;
use super::name::{HIDDEN, SUBSCRIPTIONS, covers, is_internal, topic_of};
use super::pull::Gap;
use super::selection::Selection;
use super::selector::Selector;
use super::subscriber::{Memberships, Owner, Start, SubscriberKey};
use super::view::Wish;
use super::{Hub, HubError};
use crate::carry::{carry, resume};
use crate::id::{MessageId, Seq};
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// Most messages in a feed's ring. Who has not had them then walks.
const WINDOW: usize = 1024;
/// So many entries are looked at in one pull by who walks.
const WALKED_MAX: usize = 4096;
/// Most losses that are told apart; of others, the later moment counts.
const LOSSES_MAX: usize = 64;
/// So many messages of a channel are looked at to find out whether what it lost could be seen.
const SEEN_MAX: usize = 16;

#[cfg(test)]
mod tests;

/// What a channel is that is a feed.
#[derive(Debug)]
pub struct Feed {
    selection: Rc<Selection>,
    /// The channels that it reaches, unless it is wide.
    channels: BTreeSet<ChannelKey>,
    /// It reaches everything, or too much to note it: it is asked about each message.
    is_wide: bool,
    losses: Losses,
    /// Which losses do not concern a subscriber: those before it came and asked for what was kept, and those it was told
    /// of.
    told: BTreeMap<SubscriberKey, u64>,
}

carry! {
    struct Feed { selection, channels, is_wide, losses, told }
}

/// What was lost, and when: of losses after a moment, the highest number.
#[derive(Debug, Default)]
struct Losses {
    moment: u64,
    /// Moments ascend, numbers descend: a later and higher one says all that an earlier one would.
    all: VecDeque<(u64, Seq)>,
}

carry! {
    struct Losses { moment, all }
}

impl Losses {
    fn note(&mut self, seq: Seq) {
        while self.all.back().is_some_and(|&(_, lower)| lower <= seq) {
            self.all.pop_back();
        }
        self.moment += 1;
        self.all.push_back((self.moment, seq));
        if self.all.len() > LOSSES_MAX
            && let Some((_, highest)) = self.all.pop_front()
            && let Some(first) = self.all.front_mut()
        {
            first.1 = highest;
        }
    }

    /// The highest number that was lost after that moment.
    fn since(&self, moment: u64) -> Seq {
        self.all.iter().find(|&&(when, _)| when > moment).map_or(0, |&(_, seq)| seq)
    }
}

/// All feeds, and how they are found.
#[derive(Debug, Default)]
pub struct Feeds {
    is_on: bool,
    known: BTreeMap<Rc<Selection>, ChannelKey>,
    /// Feeds by a topic that they ask for.
    exact: BTreeMap<Rc<str>, Vec<ChannelKey>>,
    /// Feeds by what their templates begin with, and how long these beginnings are.
    templates: BTreeMap<Rc<str>, BTreeMap<Selector, Vec<ChannelKey>>>,
    lengths: BTreeMap<usize, usize>,
    wide: BTreeSet<ChannelKey>,
    /// Names and patterns of channels, and whether they are shown to who does not name them; the first counts that
    /// covers a name.
    shown: Vec<(Box<str>, bool)>,
    /// The highest number that a limit took from a channel that all may see.
    lost: Seq,
    /// Feeds with something in their rings.
    filled: Vec<ChannelKey>,
    /// Bytes of selections.
    bytes: usize,
    /// How far the last walk came.
    walked: std::cell::Cell<Option<Seq>>,
}

resume! {
    Feeds {
        carried: lost, filled;
        resumed: ;
        // What follows from the feeds is found out again when selections are served.
        given: is_on, known, exact, templates, lengths, wide, shown, bytes, walked
    }
}

impl Feeds {
    /// Whether there may be any.
    pub const fn is_on(&self) -> bool {
        self.is_on
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Bytes of selections and of what is noted with them.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn hides(&self, name: &str) -> bool {
        let topic = topic_of(name);
        !self.shown.iter().find(|(pattern, _)| covers(pattern, topic)).is_none_or(|(_, is_shown)| *is_shown)
    }

    /// Enters what a feed asks for.
    fn enter(&mut self, key: ChannelKey, selection: &Selection) {
        for selector in selection.selectors() {
            match selector {
                Selector::All => {}
                Selector::Exact(topic) => self.exact.entry(Rc::clone(topic)).or_default().push(key),
                Selector::Template(_) => {
                    let prefix = selector.prefix();
                    if !self.templates.contains_key(prefix) {
                        *self.lengths.entry(prefix.len()).or_default() += 1;
                    }
                    let under = self.templates.entry(prefix.into()).or_default();
                    under.entry(selector.clone()).or_default().push(key);
                }
            }
        }
        self.bytes += selection.bytes();
    }

    /// Strikes it out.
    fn strike(&mut self, key: ChannelKey, selection: &Selection) {
        for selector in selection.selectors() {
            match selector {
                Selector::All => {}
                Selector::Exact(topic) => {
                    if let Some(feeds) = self.exact.get_mut(topic) {
                        feeds.retain(|other| *other != key);
                        if feeds.is_empty() {
                            self.exact.remove(topic);
                        }
                    }
                }
                Selector::Template(_) => self.strike_template(key, selector),
            }
        }
        self.bytes -= selection.bytes();
    }

    fn strike_template(&mut self, key: ChannelKey, selector: &Selector) {
        let prefix = selector.prefix();
        let Some(under) = self.templates.get_mut(prefix) else { return };
        if let Some(feeds) = under.get_mut(selector) {
            feeds.retain(|other| *other != key);
            if feeds.is_empty() {
                under.remove(selector);
            }
        }
        if under.is_empty() {
            self.templates.remove(prefix);
            if let Some(count) = self.lengths.get_mut(&prefix.len()) {
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&prefix.len());
                }
            }
        }
    }

    /// The feeds with selectors that select `topic`, but for those of everything.
    fn asking(&self, topic: &str) -> BTreeSet<ChannelKey> {
        let mut found: BTreeSet<ChannelKey> = self.exact.get(topic).into_iter().flatten().copied().collect();
        let lengths = self.lengths.keys().take_while(|length| **length <= topic.len());
        let prefixes = lengths.filter_map(|&length| topic.get(..length));
        let under = prefixes.filter_map(|prefix| self.templates.get(prefix)).flatten();
        for (_, feeds) in under.filter(|(template, _)| template.matches(topic)) {
            found.extend(feeds);
        }
        found
    }
}

impl Hub {
    /// Serves selections from now on. `shown` are names and patterns of channels, and whether they are shown to who does
    /// not name them; the first counts that covers a name.
    pub fn serve_selections(&mut self, shown: Vec<(Box<str>, bool)>) {
        self.feeds.is_on = true;
        self.history.watch();
        self.feeds.shown = shown;
        self.index_feeds();
        let all: Vec<ChannelKey> = self.channels.iter().map(|(key, _)| key).collect();
        for key in all {
            if self.channels[key].feed.is_none() {
                self.leave_feeds(key);
                self.reach_feeds(key);
            }
        }
    }

    /// Enters all feeds anew.
    fn index_feeds(&mut self) {
        let Feeds { lost, filled, shown, .. } = std::mem::take(&mut self.feeds);
        self.feeds = Feeds { is_on: true, lost, filled, shown, ..Feeds::default() };
        for (key, channel) in self.channels.iter() {
            let Some(feed) = &channel.feed else { continue };
            self.feeds.enter(key, &feed.selection);
            self.feeds.known.insert(Rc::clone(&feed.selection), key);
            self.feeds.bytes += feed.channels.len() * size_of::<ChannelKey>() * 4;
            if feed.is_wide {
                self.feeds.wide.insert(key);
            }
        }
    }

    /// Notes which feeds a channel that has come reaches.
    #[inline(never)]
    pub(super) fn reach_feeds(&mut self, key: ChannelKey) {
        let name = Rc::clone(self.channels[key].name());
        let is_hidden = self.feeds.hides(&name);
        self.channels[key].is_shown = !is_hidden;
        let feeds: BTreeSet<ChannelKey> = match *name == *SUBSCRIPTIONS {
            true => self.feeds.known.values().copied().collect(),
            false if name.starts_with(HIDDEN) => BTreeSet::new(),
            false => self.feeds.asking(topic_of(&name)),
        };
        for feed in feeds {
            self.note_reached(feed, key);
        }
    }

    /// Notes that a feed reaches a channel, if it does, and may.
    fn note_reached(&mut self, feed: ChannelKey, key: ChannelKey) {
        let [Some(of), Some(channel)] = [feed, key].map(|key| self.channels.get(key)) else { return };
        let (Some(of), name) = (&of.feed, channel.name()) else { return };
        let is_named = of.selection.names(topic_of(name));
        let is_internal = is_internal(name) && !of.selection.sees_private();
        if of.is_wide || is_internal || !(channel.is_shown || is_named) {
            return;
        }
        let is_full = of.channels.len() >= self.bounds.matches;
        if is_full {
            return self.widen(feed);
        }
        if let Some(of) = &mut self.channels[feed].feed
            && of.channels.insert(key)
        {
            self.feeds.bytes += size_of::<ChannelKey>() * 4;
            // In order, so that what is found out again is the same.
            let feeds = &mut self.channels[key].feeds;
            feeds.insert(feeds.partition_point(|other| *other < feed), feed);
        }
    }

    /// Has a feed that reaches too many channels asked about each message instead.
    #[cold]
    fn widen(&mut self, feed: ChannelKey) {
        let Some(of) = &mut self.channels[feed].feed else { return };
        of.is_wide = true;
        let channels = std::mem::take(&mut of.channels);
        self.feeds.bytes -= channels.len() * size_of::<ChannelKey>() * 4;
        for key in channels {
            self.channels[key].feeds.retain(|other| *other != feed);
        }
        self.feeds.wide.insert(feed);
    }

    /// Has the feeds forget a channel that goes.
    pub(super) fn leave_feeds(&mut self, key: ChannelKey) {
        for feed in std::mem::take(&mut self.channels[key].feeds) {
            if let Some(of) = &mut self.channels[feed].feed
                && of.channels.remove(&key)
            {
                self.feeds.bytes -= size_of::<ChannelKey>() * 4;
            }
        }
    }

    /// Whether a feed reaches what channel `key` has.
    fn is_reached(&self, feed: &Feed, key: ChannelKey) -> bool {
        let Some(channel) = self.channels.get(key) else { return false };
        match feed.is_wide {
            false => feed.channels.contains(&key),
            true if **channel.name() == *SUBSCRIPTIONS => feed.selection.sees_private(),
            true => {
                let topic = topic_of(channel.name());
                feed.selection.reaches(channel.name()) && (channel.is_shown || feed.selection.names(topic))
            }
        }
    }

    /// Whether a feed is given a message of channel `key`.
    fn is_given(&self, feed: &Feed, key: ChannelKey, message: &Message) -> bool {
        let is_event = || **self.channels[key].name() == *SUBSCRIPTIONS;
        let is_selected = || {
            let update = message.publication.update.as_deref();
            !is_event() || update.is_some_and(|update| feed.selection.selects_any(update))
        };
        self.is_reached(feed, key) && feed.selection.sees(message) && is_selected()
    }

    /// The feeds that a channel may reach.
    fn feeds_of(&self, key: ChannelKey) -> Vec<ChannelKey> {
        self.channels[key].feeds.iter().chain(&self.feeds.wide).copied().collect()
    }

    /// Hands a message that was put into the ring of channel `key` to the feeds.
    #[inline(never)]
    pub(super) fn hand_on(&mut self, key: ChannelKey, message: &Rc<Message>) {
        for of in self.feeds_of(key) {
            let channel = &self.channels[of];
            let Some(feed) = &channel.feed else { continue };
            // Another topic of it may have brought it already.
            if channel.ring.newest() == message.id.seq || !self.is_given(feed, key, message) {
                continue;
            }
            let bytes = self.history.ring_bytes(channel);
            let ring = &mut self.channels[of].ring;
            if ring.is_empty() {
                self.feeds.filled.push(of);
            }
            ring.pass(message);
            while ring.len() > WINDOW || ring.bytes() > bytes && ring.len() > 1 {
                ring.let_pass();
            }
            self.mark_ready(of);
        }
    }

    /// Empties the rings of feeds: all who listen have had what is there, or walk.
    pub(super) fn empty_feeds(&mut self) {
        for key in std::mem::take(&mut self.feeds.filled) {
            if let Some(channel) = self.channels.get_mut(key)
                && channel.feed.is_some()
            {
                while !channel.ring.is_empty() {
                    channel.ring.let_pass();
                }
            }
        }
    }

    /// Notes with the feeds what limits have taken.
    #[inline(never)]
    pub(super) fn note_lost(&mut self) {
        for (key, message) in self.history.take_lost() {
            let Some(channel) = self.channels.get(key) else { continue };
            let seq = message.id.seq;
            if channel.is_shown && !is_internal(channel.name()) {
                self.feeds.lost = self.feeds.lost.max(seq);
            }
            for of in self.feeds_of(key) {
                let Some(feed) = &self.channels[of].feed else { continue };
                let is_lost = self.is_given(feed, key, &message) && !self.is_elsewhere(feed, &message);
                if let Some(feed) = self.channels[of].feed.as_mut().filter(|_| is_lost) {
                    feed.losses.note(seq);
                }
            }
        }
    }

    /// Whether a feed still reaches a message by another of its topics.
    fn is_elsewhere(&self, feed: &Feed, message: &Message) -> bool {
        message.is_held()
            && self.rings_of(message).into_iter().any(|name| {
                let key = self.names.get(&name);
                key.is_some_and(|key| {
                    self.is_reached(feed, key) && self.channels[key].ring.contains(message.id.seq)
                })
            })
    }

    /// Adds a subscriber of a selection, beginning at `start`.
    pub fn attach_selection(
        &mut self,
        owner: Owner,
        selection: Selection,
        start: Start,
    ) -> Result<SubscriberKey, HubError> {
        let feed = match self.feeds.known.get(&selection) {
            Some(&feed) if self.channels[feed].listeners() >= self.bounds.subscribers => {
                self.counts.subscriptions_refused += 1;
                return Err(HubError::TooManySubscribers);
            }
            Some(&feed) => feed,
            None => self.open_feed(Rc::new(selection))?,
        };
        let only = Memberships::One { channel: ChannelKey::NONE, index: 0 };
        let key = self.insert(owner, only, false, start, Wish::default());
        self.join(key, feed, 0);
        let after = self.subscribers[key].after;
        let is_stranger = self.subscribers[key].stranger;
        if let Some(of) = self.channels[feed].feed.as_mut().filter(|_| start == Start::Oldest) {
            of.told.insert(key, of.losses.moment);
        }
        if after < self.seq || is_stranger {
            self.mark(key);
        }
        Ok(key)
    }

    /// Makes a feed, and finds the channels that it reaches.
    fn open_feed(&mut self, selection: Rc<Selection>) -> Result<ChannelKey, HubError> {
        if self.channels.len() >= self.bounds.channels {
            self.counts.channels_refused += 1;
            return Err(HubError::TooManyChannels);
        }
        self.spend(selection.selectors().len() + selection.weight())?;
        let found = self.search(&selection)?;
        let is_wide = selection.has_all() || found.len() > self.bounds.matches;
        let mut losses = Losses::default();
        // What may not be seen may not be missed either.
        let is_seen = |&&key: &&ChannelKey| {
            let channel = &self.channels[key];
            !is_internal(channel.name())
                || selection.grants(topic_of(channel.name()))
                || channel.ring.after(0).take(SEEN_MAX).any(|message| selection.sees(message))
        };
        let evicted = found.iter().filter(is_seen).map(|&key| self.channels[key].ring.evicted()).max();
        let lost = evicted.unwrap_or(0).max(if selection.has_all() { self.feeds.lost } else { 0 });
        let stones = selection.searched().map(|(selector, prefix)| {
            let matches = |name: &str| selection.reaches(name) && !self.feeds.hides(name);
            match selector {
                Selector::Exact(_) if self.names.get(&prefix).is_some() => 0,
                Selector::Exact(_) => self.tombstones.lost(&prefix),
                Selector::All | Selector::Template(_) => self.tombstones.highest_of(&prefix, matches),
            }
        });
        let lost = stones.fold(lost, Seq::max);
        if lost > 0 {
            losses.note(lost);
        }
        let told = BTreeMap::new();
        let channels = BTreeSet::new();
        let feed =
            self.insert_feed(Feed { selection: Rc::clone(&selection), channels, is_wide, losses, told });
        self.feeds.enter(feed, &selection);
        self.feeds.known.insert(selection, feed);
        match is_wide {
            true => _ = self.feeds.wide.insert(feed),
            false => found.into_iter().for_each(|key| self.note_reached(feed, key)),
        }
        Ok(feed)
    }

    /// The channels that a selection reaches; of one of everything only those of private updates, as there nothing has to
    /// be known of the others.
    fn search(&mut self, selection: &Selection) -> Result<Vec<ChannelKey>, HubError> {
        let mut found = BTreeSet::new();
        let mut spent = 0;
        for (selector, prefix) in selection.searched() {
            let is_template = matches!(selector, Selector::Template(_));
            match selector {
                Selector::All if !is_internal(&prefix) => {}
                Selector::Exact(_) => found.extend(self.names.get(&prefix)),
                Selector::All | Selector::Template(_) => {
                    let weight = selector.weight();
                    for (name, key) in self.names.under(&prefix) {
                        spent += weight;
                        if spent as u64 > self.allowance {
                            break;
                        }
                        let is_of_space = is_internal(name) == is_internal(&prefix);
                        if is_of_space && selector.matches(topic_of(name)) && !self.feeds.hides(name) {
                            found.insert(key);
                        }
                    }
                }
            }
            // A topic that is spelled like the template.
            if is_template {
                let spelled = prefix[..prefix.len() - selector.prefix().len()].to_owned() + selector.as_str();
                found.extend(self.names.get(&spelled));
            }
        }
        // What was in vain is counted, too: it would be tried again.
        let most = usize::try_from(self.allowance).unwrap_or(usize::MAX);
        self.spend(spent.min(most))?;
        if spent > most {
            self.counts.subscriptions_refused += 1;
            return Err(HubError::TooManySearches);
        }
        if selection.sees_private() {
            found.extend(self.names.get(SUBSCRIPTIONS));
        }
        Ok(found.into_iter().collect())
    }

    /// Forgets a feed that nobody listens to any more.
    #[cold]
    pub(super) fn close_feed(&mut self, key: ChannelKey) {
        let channel = self.channels.remove(key);
        let Some(feed) = channel.feed else { return };
        for reached in &feed.channels {
            if let Some(channel) = self.channels.get_mut(*reached) {
                channel.feeds.retain(|other| *other != key);
            }
        }
        self.feeds.bytes -= feed.channels.len() * size_of::<ChannelKey>() * 4;
        self.feeds.wide.remove(&key);
        self.feeds.strike(key, &feed.selection);
        self.feeds.known.remove(&feed.selection);
    }

    /// Notes that a subscriber is on a feed's list no longer.
    pub(super) fn leave_feed(&mut self, key: SubscriberKey, feed: ChannelKey) {
        if let Some(feed) = &mut self.channels[feed].feed {
            feed.told.remove(&key);
        }
    }

    /// Whether the subscriber of a feed lacks what the feed's ring has not.
    pub(super) fn must_walk(&self, channel: ChannelKey, after: Seq) -> bool {
        let channel = &self.channels[channel];
        channel.feed.is_some() && channel.ring.evicted() > after
    }

    /// Adds at most `max` messages newer than `after` to `pulled` that a feed reaches, out of all there are.
    pub(super) fn walk<'a>(
        &'a self,
        now: Instant,
        (key, feed): (SubscriberKey, ChannelKey),
        max: usize,
        pulled: &mut impl Extend<&'a Rc<Message>>,
    ) {
        let subscriber = &self.subscribers[key];
        let ring_from = self.channels[feed].ring.evicted();
        let mut found = self.walk_from(feed, subscriber.after, ring_from);
        let (mut count, mut upto) = (0, subscriber.after);
        for _ in 0..WALKED_MAX {
            if count >= max {
                self.feeds.walked.set(Some(upto));
                return;
            }
            let Some((seq, message)) = found.next() else {
                // What is newer is in the feed's ring.
                self.feeds.walked.set(Some(ring_from.max(upto)));
                return;
            };
            if let Some(message) =
                message.filter(|message| seq > upto && message.reaches(subscriber.joined, now))
            {
                pulled.extend(Some(message));
                count += 1;
            }
            upto = upto.max(seq);
        }
        // The rest of a message with several topics is looked at again.
        self.feeds.walked.set(Some(upto));
    }

    /// What there is newer than `after`, up to `last`, in order: each number, and the message if it is for the feed.
    fn walk_from(
        &self,
        feed: ChannelKey,
        after: Seq,
        last: Seq,
    ) -> impl Iterator<Item = (Seq, Option<&Rc<Message>>)> {
        let of = self.channels[feed].feed.as_deref();
        let entries = self.history.since(after).take_while(move |&(seq, _)| seq <= last);
        let mut entries = entries.peekable();
        std::iter::from_fn(move || {
            let (seq, key) = entries.next()?;
            let message = |key: ChannelKey| {
                let feed = of.filter(|feed| self.is_reached(feed, key))?;
                let message = self.channels[key].ring.find(seq)?;
                self.is_given(feed, key, message).then_some(message)
            };
            let mut found = message(key);
            while let Some((_, other)) = entries.next_if(|&(next, _)| next == seq) {
                found = found.or_else(|| message(other));
            }
            Some((seq, found))
        })
    }

    /// How far the last pull has walked, if it has: what it has not brought up to there is not for its subscriber.
    pub fn walked(&self) -> Option<Seq> {
        self.feeds.walked.take()
    }

    /// Whether the subscriber of a feed has a gap.
    pub(super) fn has_feed_gap(&self, key: SubscriberKey, channel: ChannelKey) -> bool {
        let after = self.subscribers[key].after;
        let Some(feed) = self.channels[channel].feed.as_ref().filter(|_| self.must_walk(channel, after))
        else {
            return false;
        };
        let moment = feed.told.get(&key).copied().unwrap_or(0);
        feed.losses.since(moment) > after
    }

    /// The gap of a subscriber of a feed, which counts as told, and moves the subscriber up to before the first message
    /// that it gets.
    #[cold]
    pub(super) fn take_feed_gap(
        &mut self,
        key: SubscriberKey,
        channel: ChannelKey,
        came_with: Option<MessageId>,
    ) -> Gap {
        let after = self.subscribers[key].after;
        let last = self.channels[channel].ring.evicted();
        let (mut next, mut oldest) = (after, None);
        for (seq, message) in self.walk_from(channel, after, last).take(WALKED_MAX) {
            if message.is_some() {
                oldest = Some(seq);
                break;
            }
            next = seq;
        }
        self.subscribers[key].after = next;
        let newest = self.newest();
        let came_with = came_with.unwrap_or_else(|| self.id(after));
        let oldest = oldest.map_or(newest, |seq| self.id(seq));
        let position = self.id(next);
        let mut label = Rc::from("*");
        if let Some(feed) = &mut self.channels[channel].feed {
            feed.told.insert(key, feed.losses.moment);
            if let [only] = feed.selection.selectors() {
                label = only.as_str().into();
            }
        }
        Gap { channel: label, after: came_with, oldest, position }
    }

    /// Panics if feeds and channels contradict each other.
    #[cfg(any(test, feature = "check"))]
    pub(super) fn check_feeds(&self) {
        let mut bytes = 0;
        for (key, channel) in self.channels.iter() {
            for of in &channel.feeds {
                let feed = self.channels[*of].feed.as_ref().expect("only feeds are fed");
                assert!(feed.channels.contains(&key), "a channel's feed does not know it");
            }
            let Some(feed) = &channel.feed else { continue };
            assert!(channel.places() > 0, "a feed that nobody listens to");
            assert_eq!(self.feeds.known.get(&feed.selection), Some(&key));
            assert_eq!(feed.is_wide, self.feeds.wide.contains(&key));
            assert!(channel.ring.len() <= WINDOW);
            bytes += feed.selection.bytes() + feed.channels.len() * size_of::<ChannelKey>() * 4;
            for reached in &feed.channels {
                assert!(self.channels[*reached].feeds.contains(&key));
            }
            for (name, reached) in self.names.under("") {
                let is_event = **name == *SUBSCRIPTIONS;
                let other = &self.channels[reached];
                let topic = topic_of(name);
                let selects = feed.selection.reaches(name) && (other.is_shown || feed.selection.names(topic));
                let expected = if is_event { feed.selection.sees_private() } else { selects };
                assert!(feed.is_wide || feed.channels.contains(&reached) == expected, "{name} {feed:?}");
            }
            assert!(feed.told.keys().all(|&key| self.subscribers.contains(key)));
        }
        assert_eq!(bytes, self.feeds.bytes);
        assert_eq!(self.feeds.known.len(), self.channels.iter().filter(|(_, it)| it.feed.is_some()).count());
    }
}
