//! Channels, rings and cursors: who must get which message. Knows no HTTP, no socket, no clock.
//!
//! Design: every message gets the next number of one sequence and lies in the ring of its channel. A
//! subscriber owns no queue, only a cursor; delivering is pulling from the rings what is newer than the
//! cursor, oldest first. Live delivery, resuming, history and slow readers are therefore one code path:
//!
//! ```text
//! commit ─▶ ring ─▶ mark the channel's subscribers ready
//!                               next_ready ─▶ pull at the cursor ─▶ (the server writes) ─▶ advance
//! ```
//!
//! What a limit throws away raises the ring's `evicted` watermark; a cursor below it has a gap, which
//! [`Hub::pull`] yields before the first message.

mod admission;
mod channel;
#[cfg(any(test, feature = "check"))]
mod check;
mod conflate;
mod directory;
mod feed;
mod history;
mod ids;
mod key;
mod keyed;
mod latest;
mod membership;
mod memory;
mod message;
mod name;
mod news;
mod order;
mod pace;
mod patterns;
mod pull;
mod restore;
mod ring;
mod selection;
pub mod selector;
mod shared;
mod shares;
mod subscriber;
mod subscription;
mod terms;
#[cfg(test)]
mod tests;
mod tombstones;
mod update;
mod view;

pub use channel::ChannelInfo;
pub use conflate::Stage;
pub use directory::place_of;
pub use ids::REMEMBERED_MAX as IDS_REMEMBERED_MAX;
pub use key::{ChannelKey, Owner, SubscriberKey};
pub use keyed::{Change, KeyError};
pub use message::{Data, Encoded, Message, Publication, Update, one_line};
pub use name::{
    HIDDEN, NAME_BYTES_MAX, NameError, PRIVATE, Pattern, SUBSCRIPTIONS, channel_name, covers, is_simple,
    meets,
};
pub use pace::Pace;
pub use pull::{EVERYWHERE, GAPS_MAX, Gap, Lacking};
pub use restore::ExpiredKey;
pub use selection::Selection;
pub use selector::Selector;
pub use shares::Payer;
pub use subscriber::Start;

use crate::carry::{carry, resume};
use crate::config::Config;
use crate::id::{Epoch, MessageId, Seq};
use crate::table::Table;
use crate::time::{Instant, Wheel};
use channel::Channel;
use directory::Directory;
use feed::Feeds;
use history::History;
use ids::Ids;
use latest::Latest;
use memory::{MEMBERSHIP_BYTES, share_bounds};
use pace::Ticks;
use patterns::Patterns;
use ring::Gone;
use shares::Shares;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use subscriber::{Memberships, Stranger, Subscriber};
use terms::Terms;
pub use terms::{PRESENCE, SHOWN_MAX};
use tombstones::Tombstones;
use view::Aside;
pub use view::Wish;

/// Subscribers and connections for which there is room from the beginning. Room is not memory until it is used, but of
/// such arrays the system gives each a place of its own, where it can grow; one that grows among other things leaves
/// holes as large as itself behind.
pub const ROOM: usize = 16 << 10;

/// All channels and subscribers. Inputs: [`commit`](Hub::commit), [`attach`](Hub::attach),
/// [`detach`](Hub::detach), [`delete`](Hub::delete), [`tick`](Hub::tick); outputs:
/// [`next_ready`](Hub::next_ready) and [`pull`](Hub::pull).
#[derive(Debug)]
pub struct Hub {
    epoch: Epoch,
    seq: Seq,
    channels: Table<ChannelKey, Channel>,
    names: Directory,
    subscribers: Table<SubscriberKey, Subscriber>,
    /// Subscribers by wildcard, which join channels as they appear.
    patterns: Patterns,
    /// What subscriptions take, and for whom.
    shares: Shares,
    /// Who pays for what is asked next.
    payer: Payer,
    /// The ids that [`Subscriber::stranger`]s came with.
    strangers: BTreeMap<SubscriberKey, Stranger>,
    ready: VecDeque<SubscriberKey>,
    /// Those with a large delivery before them, which must not keep others waiting.
    bulk: VecDeque<SubscriberKey>,
    /// What is known of few subscribers of latest values.
    asides: BTreeMap<SubscriberKey, Aside>,
    /// Channels with news for subscribers of some pace.
    ticks: Ticks,
    /// Channels that keep what was superseded until all who are to be told have been.
    in_delivery: Vec<ChannelKey>,
    /// Keys that have a value on some channel, and bytes of these values.
    keys: usize,
    value_bytes: usize,
    /// Bytes of superseded values that are kept for patches.
    base_bytes: usize,
    /// Removals that are remembered, and on which channel.
    removals: BTreeMap<Seq, ChannelKey>,
    /// One timer a channel: its next expiry, or its end when it is empty.
    timers: Wheel<ChannelKey>,
    history: History,
    tombstones: Tombstones,
    feeds: Feeds,
    /// Ids that publishers chose.
    ids: Ids,
    /// Cursors that lack a number below this have a gap everywhere.
    lost: Seq,
    /// How far the cursor of a client may be ahead of us, who has had messages from another server.
    ahead: Seq,
    /// Somebody else gives all numbers, and removes values that have expired; and these are to be removed.
    is_numbered_outside: bool,
    expired_keys: Vec<ExpiredKey>,
    idle_seconds: u64,
    bounds: Bounds,
    terms: Terms,
    /// Whose subscribers may listen elsewhere than they did.
    moved: VecDeque<Owner>,
    /// Up to which number an earlier life may have told who was there.
    presence_lost: Seq,
    /// Channels that have never had a message.
    silent: usize,
    /// Subscribers whose patterns matched a channel too many.
    overfull: Vec<SubscriberKey>,
    /// Work of [`Hub::spend`], since the hub began.
    looked_at: u64,
    /// How much more of it is allowed for what is being asked.
    allowance: u64,
    /// Memberships that have been left, and owe nothing any more: they end with the next [`Hub::tick`].
    settled: Vec<(SubscriberKey, ChannelKey)>,
    /// What has been counted here.
    pub counts: Counts,
    /// Every message there ever was, for tests to compare with.
    #[cfg(test)]
    pub(crate) journal: Vec<Message>,
}

resume! {
    Hub {
        carried: epoch, seq, channels, names, subscribers, patterns, strangers, ready, bulk, asides, ticks, in_delivery, keys, value_bytes, base_bytes, removals, timers, lost, is_numbered_outside, expired_keys, silent, overfull, looked_at, allowance, settled, moved, presence_lost, counts;
        resumed: history, tombstones, feeds, ids, shares;
        given: ahead, idle_seconds, bounds, terms, payer, #[cfg(test)] journal
    }
}

/// How many there may be.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Channels. At most half of them may be there only because somebody listens to them: who may only listen
    /// cannot keep others from publishing.
    channels: usize,
    /// Subscribers of one channel.
    subscribers: usize,
    /// Channels that the patterns of one subscriber match.
    matches: usize,
    /// Keys of one channel that have a value, and removals remembered there.
    keys_per_channel: usize,
    /// Keys of all channels.
    keys: usize,
    /// Removals remembered of all channels.
    removals: usize,
}

/// Looks that it costs as much as to join a channel and to leave it again.
pub const LOOKS_PER_JOIN: usize = 4;
/// Channels that may be looked at in a second for the patterns of one address.
pub const LOOKED_AT_PER_SECOND: u32 = 1_000_000;
/// The same for one request, during which nobody else is served.
pub const LOOKED_AT_PER_VISIT: u64 = 250_000;
/// The same for all addresses together.
pub const LOOKED_AT_IN_ALL: u64 = 8_000_000;

/// Why a publication or a subscription was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubError {
    /// `limits.channels` is reached.
    TooManyChannels,
    /// `limits.subscribers_per_channel` is reached.
    TooManySubscribers,
    /// `limits.channels_per_pattern` is exceeded.
    TooManyMatches,
    /// [`LOOKED_AT_PER_SECOND`] or [`LOOKED_AT_IN_ALL`] is reached.
    TooManySearches,
    /// `limits.memory_per_address` is reached, or what all strangers may have together.
    ShareExceeded,
    /// `limits.keys_per_channel` or `limits.keys` is reached.
    TooManyKeys,
    /// Latest values alone would take more than `history.total_bytes`.
    TooManyValueBytes,
}

impl HubError {
    /// A sentence for the client's author.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::TooManyChannels => "limits.channels is reached; no new channel can be made",
            Self::TooManySubscribers => "limits.subscribers_per_channel is reached; try again later",
            Self::TooManyMatches => {
                "the patterns match more channels than limits.channels_per_pattern; narrow them"
            }
            Self::TooManySearches => {
                "too many channels would be looked at for patterns of your address, or of all, in this second; try again later"
            }
            Self::ShareExceeded => {
                "the subscriptions of your address, or of all, take as much memory as they may (limits.memory_per_address)"
            }
            Self::TooManyKeys => {
                "limits.keys_per_channel or limits.keys is reached; no new key can have a value"
            }
            Self::TooManyValueBytes => {
                "the latest values of all keys take history.total_bytes; remove some, or raise the limit"
            }
        }
    }
}

/// What became of a published message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The message's id.
    pub id: MessageId,
    /// Subscribers of its channel at that moment.
    pub subscribers: usize,
    /// Messages its channel now keeps.
    pub messages: usize,
}

carry! {
    struct Published { id, subscribers, messages }
}

impl Bounds {
    const fn new(config: &Config) -> Self {
        Self {
            channels: config.limits.channels,
            subscribers: config.limits.subscribers_per_channel,
            matches: config.limits.channels_per_pattern,
            keys_per_channel: config.limits.keys_per_channel,
            keys: config.limits.keys,
            removals: config.limits.tombstones,
        }
    }
}

impl Hub {
    /// Takes other settings, as far as they may change while the server runs.
    pub fn reconfigure(&mut self, config: &Config) {
        self.idle_seconds = config.channel_idle_seconds;
        self.bounds = Bounds::new(config);
        self.shares.reconfigure(share_bounds(config));
        self.set_terms(config);
    }

    /// An empty hub whose history is named `epoch`.
    pub fn new(config: &Config, epoch: Epoch, now: Instant) -> Self {
        let mut hub = Self {
            epoch,
            seq: 0,
            channels: Table::default(),
            names: Directory::default(),
            subscribers: Table::with_capacity(ROOM),
            patterns: Patterns::default(),
            shares: Shares::new(share_bounds(config)),
            payer: Payer::NOBODY,
            strangers: BTreeMap::new(),
            ready: VecDeque::new(),
            bulk: VecDeque::new(),
            asides: BTreeMap::new(),
            ticks: Ticks::default(),
            in_delivery: Vec::new(),
            keys: 0,
            value_bytes: 0,
            base_bytes: 0,
            removals: BTreeMap::new(),
            timers: Wheel::new(now),
            history: History::new(terms::bounds(config), config.history.total_bytes),
            tombstones: Tombstones::new(config.limits.tombstones),
            feeds: Feeds::default(),
            ids: Ids::default(),
            lost: 0,
            ahead: 0,
            is_numbered_outside: false,
            expired_keys: Vec::new(),
            idle_seconds: config.channel_idle_seconds,
            bounds: Bounds::new(config),
            terms: Terms::default(),
            moved: VecDeque::new(),
            presence_lost: 0,
            silent: 0,
            overfull: Vec::new(),
            looked_at: 0,
            allowance: u64::MAX,
            settled: Vec::new(),
            counts: Counts::default(),
            #[cfg(test)]
            journal: Vec::new(),
        };
        hub.set_terms(config);
        hub
    }

    /// The id of the newest message (number 0 before the first).
    pub const fn newest(&self) -> MessageId {
        self.id(self.seq)
    }

    /// The id that message number `seq` of this history has.
    pub(super) const fn id(&self, seq: Seq) -> MessageId {
        MessageId { epoch: self.epoch, seq }
    }

    /// Whether there is room for a message on channel `name`, and which channel that is, if it is there. Ask before
    /// [`Hub::commit`], which takes whatever comes.
    ///
    /// # Errors
    ///
    /// There is no such channel yet, and as many as there may be; or no value yet of its key.
    pub fn admits_one(
        &mut self,
        name: &str,
        publication: &Publication,
    ) -> Result<Option<ChannelKey>, HubError> {
        if let Some(update) = &publication.update {
            return self.admits_update(update).map(|()| None);
        }
        let known = self.names.find(&self.channels, name);
        if publication.key.is_some() {
            self.admits_key(known, publication).inspect_err(|_| self.counts.keys_refused += 1)?;
        }
        match known {
            Some(_) => Ok(known),
            None => self.admits([name]).map(|()| None),
        }
    }

    /// The same for several channels, so that a publication happens in all of them or in none.
    #[inline(never)]
    pub fn admits<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> Result<(), HubError> {
        let mut new: Vec<&str> = names.into_iter().filter(|name| self.names.get(name).is_none()).collect();
        new.sort_unstable();
        new.dedup();
        if self.channels.len() + new.len() <= self.bounds.channels {
            return Ok(());
        }
        self.counts.channels_refused += 1;
        Err(HubError::TooManyChannels)
    }

    /// Makes a message that was accepted as number `seq` history: keeps it in the ring of channel `name` and marks the
    /// channel's subscribers ready. Numbers ascend, and nothing is refused: what is accepted is accepted.
    pub fn commit(&mut self, now: Instant, name: &str, seq: Seq, publication: Publication) -> Published {
        if publication.update.is_some() {
            return self.commit_update(now, name, seq, publication);
        }
        let key = match self.names.find(&self.channels, name) {
            Some(key) => key,
            None => self.open_channel(now, name),
        };
        self.commit_to(now, key, seq, publication)
    }

    /// The same for a channel that has just been found.
    #[inline]
    pub fn commit_to(
        &mut self,
        now: Instant,
        key: ChannelKey,
        seq: Seq,
        publication: Publication,
    ) -> Published {
        debug_assert!(seq > self.seq, "numbers ascend");
        if !self.channels[key].spoken {
            self.begin_speaking(key);
        }
        let id = self.id(seq);
        self.accept(now, key, id, publication);
        let channel = &self.channels[key];
        Published { id, subscribers: channel.listeners(), messages: channel.ring.len() }
    }

    /// Keeps a message and marks those ready who listen.
    fn accept(&mut self, now: Instant, key: ChannelKey, id: MessageId, publication: Publication) {
        self.seq = id.seq;
        self.counts.messages_published += 1;
        let channel = &self.channels[key];
        #[cfg(test)]
        self.journal.push(Message::new(id, Rc::clone(channel.name()), publication.clone(), now));
        let message = Rc::new(Message::new(id, Rc::clone(channel.name()), publication, now));
        let passed = self.feeds.is_on().then(|| Rc::clone(&message));
        let old = match message.key() {
            Some(_) => self.keep_latest(key, &message),
            None => None,
        };
        self.counts.messages_evicted += self.history.push(&mut self.channels, key, message) as u64;
        self.mark_ready(key);
        if self.channels[key].keyed.is_some() {
            self.note_paced(now, key, id.seq, old.as_ref());
        }
        self.schedule(now, key);
        if let Some(message) = passed {
            self.hand_on(key, &message);
            self.note_lost();
        }
    }

    /// Marks every subscriber of the channel ready to pull.
    fn mark_ready(&mut self, key: ChannelKey) {
        let seq = self.seq;
        for entry in &self.channels[key].subscribers {
            let subscriber = &mut self.subscribers[entry.subscriber];
            subscriber.memberships.touch(entry.membership, seq);
            if !subscriber.queued {
                subscriber.queued = true;
                self.ready.push_back(entry.subscriber);
            }
        }
    }

    /// The next subscriber that may have something to pull; each is named once until it is marked again.
    pub fn next_ready(&mut self) -> Option<SubscriberKey> {
        while let Some(key) = self.ready.pop_front() {
            // A key may be stale: its subscriber left, or left and the place was taken again.
            if let Some(subscriber) = self.subscribers.get_mut(key)
                && std::mem::take(&mut subscriber.queued)
            {
                return Some(key);
            }
        }
        None
    }

    /// Whether [`Hub::next_ready`] has anybody to name.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether [`Hub::next_bulk`] has anybody to name.
    pub fn has_bulk(&self) -> bool {
        !self.bulk.is_empty()
    }

    /// Whether the subscriber waits to be named by [`Hub::next_ready`]. Who does not has nothing to pull.
    pub fn is_ready(&self, key: SubscriberKey) -> bool {
        self.subscribers[key].queued
    }

    /// Marks one subscriber ready, because its last pull stopped early.
    pub fn mark(&mut self, key: SubscriberKey) {
        let subscriber = &mut self.subscribers[key];
        if !subscriber.queued {
            subscriber.queued = true;
            self.ready.push_back(key);
        }
    }

    /// Notes for the owner of a subscriber what it wants to be told with it, rather than look it up; opaque to the hub,
    /// 0 at first.
    pub fn note(&mut self, key: SubscriberKey, note: u8) {
        self.subscribers[key].note = note;
    }

    /// Makes the new channel `name`.
    #[inline(never)]
    fn open_channel(&mut self, now: Instant, name: &str) -> ChannelKey {
        let name: Rc<str> = name.into();
        let mut evicted = self.tombstones.lost(&name);
        if self.presence_lost > 0 && name.starts_with(PRESENCE) {
            evicted = evicted.max(self.presence_lost);
        }
        let (terms, shows) = self.terms_of(&name);
        let key = self.channels.insert(Channel { terms, shows, ..Channel::new(Rc::clone(&name), evicted) });
        self.names.insert(name, key);
        self.silent += 1;
        if self.feeds.is_on() {
            self.reach_feeds(key);
        }
        self.schedule(now, key);
        key
    }

    /// Before the first message of a channel: adds the subscribers whose pattern matches. What that channel
    /// lost in a former life counts for them, too.
    #[cold]
    fn begin_speaking(&mut self, key: ChannelKey) {
        let channel = &mut self.channels[key];
        channel.spoken = true;
        self.silent -= 1;
        // Until now it told those who listen by patterns what the channel had lost.
        self.tombstones.remove(channel.name());
        if self.patterns.is_empty() {
            return;
        }
        let channel = &self.channels[key];
        let name = Rc::clone(channel.name());
        // Who has left it by its name, and has not been told yet what it had lost, is on its list, too.
        let by_name = channel.members().map(|entry| entry.subscriber);
        let by_name: BTreeSet<SubscriberKey> = by_name
            .filter(|&subscriber| self.patterns.has_any(subscriber) && !self.has_left(subscriber, key))
            .collect();
        for subscriber in
            self.patterns.matching(&name, self.terms.written(&name)).difference(&by_name).copied()
        {
            match &self.subscribers[subscriber].memberships {
                _ if self.has_left(subscriber, key) => self.stay(subscriber, key),
                Memberships::Many(many)
                    if many.all.len() >= self.bounds.matches
                        || !self.shares.admits(many.payer, MEMBERSHIP_BYTES) =>
                {
                    self.overfull.push(subscriber);
                }
                _ => self.join(subscriber, key, 0),
            }
        }
    }

    /// The owners of subscribers whose patterns have come to match more channels than they may, and how far they had got.
    /// They are detached.
    pub fn take_overfull(&mut self, now: Instant) -> Vec<(Owner, MessageId)> {
        let mut ended = Vec::new();
        for key in std::mem::take(&mut self.overfull) {
            // It may be listed several times.
            if let Some(subscriber) = self.subscribers.get(key) {
                ended.push((subscriber.owner, self.position(key)));
                self.detach(now, key);
            }
        }
        self.counts.subscriptions_refused += ended.len() as u64;
        ended
    }

    /// Channels that were looked at for somebody's patterns, since the hub began: the dearest that a client can
    /// ask for in few bytes.
    pub const fn looked_at(&self) -> u64 {
        self.looked_at
    }

    /// Whether [`Hub::take_overfull`] has anybody to name.
    pub const fn has_overfull(&self) -> bool {
        !self.overfull.is_empty()
    }

    /// Sees to it that the channel's timer fires when the next thing happens to it, or before.
    fn schedule(&mut self, now: Instant, key: ChannelKey) {
        let channel = &self.channels[key];
        let mut next = channel.ring.next_expiry();
        if let Some(latest) = channel.latest() {
            next = next.into_iter().chain(latest.next_expiry()).min();
        }
        match next {
            // With every message of a full ring it moves on: a timer that fires too early finds out.
            Some(expiry) => self.timers.set_by(key, expiry),
            None if channel.is_idle() => {
                self.timers.set(key, now.plus_seconds(self.idle_seconds));
            }
            None => self.timers.clear(key),
        }
    }

    /// Lets messages and channels expire whose time has come, lets go of frames that all have who they were for, and
    /// keeps the limits that publishing leaves for later: the count of each ring, and the bytes of frames encoded since.
    ///
    /// Call it when nobody is ready any more, so that bursts and messages of TTL 0 reach those they are
    /// for.
    pub fn tick(&mut self, now: Instant) {
        self.tick_while(now, || true);
    }

    /// The same; of what expires, some is left for the next call when there is no more `time`.
    pub fn tick_while(&mut self, now: Instant, mut time: impl FnMut() -> bool) {
        self.end_settled(now);
        if self.feeds.is_on() {
            self.empty_feeds();
        }
        let cut_at = |key, at| self.timers.set_by(key, at);
        self.counts.messages_evicted += self.history.trim(&mut self.channels, now, cut_at) as u64;
        if !self.in_delivery.is_empty() {
            self.settle_groups();
        }
        while let Some(key) = self.timers.expire(now) {
            self.lapse(now, key);
            if !time() {
                break;
            }
        }
        if self.has_unfitted() {
            self.fit_some(now);
        }
        if self.history.has_lost() {
            self.note_lost();
        }
    }

    /// Takes out what is too old on a channel whose timer has fired, or beyond the count and past the grace; or the
    /// channel, if it has been idle.
    #[inline(never)]
    fn lapse(&mut self, now: Instant, key: ChannelKey) {
        let channel = &mut self.channels[key];
        let is_due = channel.ring.next_expiry().is_some_and(|expiry| expiry <= now);
        let gone = if is_due { self.history.expire(key, channel, now) } else { Gone::default() };
        self.counts.messages_evicted += self.history.cut(key, channel, now) as u64;
        self.counts.messages_expired += gone.expired as u64;
        self.counts.messages_evicted += gone.evicted as u64;
        if channel.keyed.is_some() {
            self.remove_expired(now, key);
        }
        let channel = &self.channels[key];
        match gone == Gone::default() && channel.ring.is_empty() && channel.is_idle() {
            true => self.forget(key),
            false => {
                self.schedule(now, key);
                if let Some(at) = self.history.next_cut(&self.channels[key]) {
                    self.timers.set_by(key, at);
                }
            }
        }
    }

    /// When [`Hub::tick`] has something to do next.
    pub fn next_deadline(&self) -> Instant {
        let soon = if self.has_unfitted() { Instant::default() } else { Instant::NEVER };
        self.timers.next_deadline().min(self.ticks.next()).min(soon)
    }

    /// Forgets the history of channel `name`. Of its subscribers, those whose owner `ends` with it are
    /// detached from all their channels and returned, with where they were; while others listen, the channel goes on,
    /// empty. `None` if there is no such channel.
    pub fn delete(
        &mut self,
        now: Instant,
        name: &str,
        ends: impl Fn(Owner) -> bool,
    ) -> Option<Vec<(Owner, MessageId)>> {
        let key = self.names.get(name)?;
        let list = self.channels[key].members();
        let members: Vec<SubscriberKey> = list.map(|entry| entry.subscriber).collect();
        let mut ended = Vec::new();
        for member in members {
            let owner = self.owner(member);
            if self.has_left(member, key) {
                self.end_membership(now, member, key);
            } else if ends(owner) {
                ended.push((owner, self.position(member)));
                self.detach(now, member);
            }
        }
        // One that never had a message has gone with its last subscriber.
        let Some(channel) = self.channels.get_mut(key) else { return Some(ended) };
        self.counts.messages_evicted += self.history.clear(key, channel, now) as u64;
        if self.history.has_lost() {
            self.note_lost();
        }
        if self.clear_latest(key) {
            // Whoever has had its newest message has to be told all the same: the values are gone.
            let lost = self.next_id().seq;
            self.channels[key].ring.lose(lost);
        }
        match self.channels[key].places() == 0 {
            true => self.forget(key),
            false => self.schedule(now, key),
        }
        Some(ended)
    }

    /// Removes an empty channel, leaving a tombstone.
    fn forget(&mut self, key: ChannelKey) {
        self.timers.clear(key);
        // Only removals may be left of its keys.
        let newest_removal = self.channels[key].latest().map_or(0, Latest::newest_removal);
        self.clear_latest(key);
        self.change_groups(key, |channel| channel.keyed = None);
        self.leave_feeds(key);
        let channel = self.channels.remove(key);
        debug_assert!(channel.ring.is_empty() && channel.places() == 0);
        self.names.remove(channel.name());
        match channel.spoken {
            true => self.tombstones.bury(channel.name(), channel.ring.evicted().max(newest_removal)),
            false => self.silent -= 1,
        }
    }

    /// What is known of channel `name`.
    pub fn info(&self, name: &str) -> Option<ChannelInfo> {
        let key = self.names.get(name)?;
        Some(self.channels[key].info(self.epoch))
    }

    /// The channels whose name begins with `prefix`, in the order of their names.
    pub fn list<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = ChannelInfo> + 'a {
        let shown = self.names.under(prefix).filter(|(name, _)| !name::is_internal(name));
        shown.map(|(_, key)| self.channels[key].info(self.epoch))
    }

    /// The channels behind the name `after`, in the order of their names.
    pub fn list_after<'a>(&'a self, after: &'a str) -> impl Iterator<Item = ChannelInfo> + 'a {
        let shown = self.names.behind(after).filter(|(name, _)| !name::is_internal(name));
        shown.map(|(_, key)| self.channels[key].info(self.epoch))
    }

    /// The newest messages of a channel that are kept, at most so many, oldest first.
    pub fn recent(&self, name: &str, count: usize) -> impl Iterator<Item = &Rc<Message>> {
        let ring = self.names.get(name).map(|key| &self.channels[key].ring);
        ring.into_iter().flat_map(move |ring| ring.after(0).skip(ring.len().saturating_sub(count)))
    }

    /// The latest values of a channel, at most so many, oldest first.
    pub fn values(&self, name: &str, count: usize) -> impl Iterator<Item = &Rc<Message>> {
        let latest = self.names.get(name).and_then(|key| self.channels[key].latest());
        let values = latest.into_iter().flat_map(|latest| latest.after(0));
        values.filter(|message| !message.is_removal()).take(count)
    }

    /// Gives back the room of subscribers who have left.
    pub fn shrink(&mut self) {
        self.subscribers.shrink_to_fit();
        self.ready.shrink_to_fit();
    }

    /// Notes that so many messages were encoded for one client alone: nothing of it is kept.
    pub const fn note_encoded(&mut self, messages: usize) {
        self.counts.frames_encoded += messages as u64;
    }

    /// Notes what was `encoded`: it is charged to the history, and the first to go when that is full.
    pub fn charge(&mut self, encoded: &Encoded) {
        for message in encoded.messages() {
            self.counts.frames_encoded += 1;
            if let Some(key) = self.names.get(&message.channel) {
                self.history.note_encoded(&self.channels, key, message.id.seq);
            }
        }
        self.history.charge(encoded.bytes());
    }

    /// Notes that message `seq` was encoded for a crowd that gets it at once: the `bytes` it takes are charged to
    /// the history until [`Hub::tick`].
    pub fn charge_once(&mut self, channel: ChannelKey, seq: Seq, bytes: usize) {
        self.counts.frames_encoded += 1;
        let channel = match self.channels[channel].feed.is_some() {
            true => self.home_of(channel, seq),
            false => channel,
        };
        self.history.charge_once(channel, seq, bytes);
    }

    /// Channels, subscribers, messages and bytes of history at this moment.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            channels: self.channels.len(),
            subscribers: self.subscribers.len(),
            messages: self.history.messages(),
            bytes: self.history.bytes(),
            keys: self.keys,
            feeds: self.feeds.len(),
        }
    }
}

/// What has happened in a hub since it began. Counts only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Channels refused because there are too many.
    pub channels_refused: u64,
    /// Subscriptions refused because of too many subscribers of a channel, or channels of a pattern.
    pub subscriptions_refused: u64,
    /// Messages accepted.
    pub messages_published: u64,
    /// Messages encoded for a wire format.
    pub frames_encoded: u64,
    /// Gaps announced to subscribers.
    pub gaps_told: u64,
    /// Messages that a limit threw away.
    pub messages_evicted: u64,
    /// Publications with a key refused because there are too many.
    pub keys_refused: u64,
    /// Removals of keys forgotten early.
    pub removals_forgotten: u64,
    /// Messages whose own TTL ran out.
    pub messages_expired: u64,
}

carry! {
    struct Counts { channels_refused, subscriptions_refused, messages_published, frames_encoded, gaps_told, messages_evicted, keys_refused, removals_forgotten, messages_expired }
}

/// What the hub holds at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauges {
    /// Channels that exist.
    pub channels: usize,
    /// Subscribers attached.
    pub subscribers: usize,
    /// Messages in all rings.
    pub messages: usize,
    /// Bytes these messages and all latest values are charged with.
    pub bytes: usize,
    /// Keys that have a value on some channel.
    pub keys: usize,
    /// Feeds that somebody listens to.
    pub feeds: usize,
}
