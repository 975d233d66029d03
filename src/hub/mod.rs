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
mod ahead;
mod beginning;
mod bounds;
mod channel;
#[cfg(any(test, feature = "check"))]
mod check;
mod conflate;
mod directory;
mod feed;
mod figures;
mod history;
mod ids;
mod key;
mod keyed;
mod latest;
mod listened;
mod membership;
mod memory;
mod message;
mod name;
mod news;
mod order;
mod pace;
mod parting;
mod passing;
mod patterns;
mod publish;
mod pull;
mod ready;
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
mod unsubscription;
mod update;
mod view;

pub use ahead::CLAIMS_MAX;
pub use bounds::{HubError, LOOKED_AT_IN_ALL, LOOKED_AT_PER_SECOND, LOOKED_AT_PER_VISIT, LOOKS_PER_JOIN};
pub use channel::ChannelInfo;
pub use conflate::Stage;
pub use directory::place_of;
pub use figures::{Counts, Gauges};
pub use ids::REMEMBERED_MAX as IDS_REMEMBERED_MAX;
pub use key::{ChannelKey, Owner, SubscriberKey};
pub use keyed::{Change, KeyError, PATCHED_BYTES_MAX};
pub use message::{Data, Encoded, Message, Publication, Update, one_line};
pub use name::{
    HIDDEN, NAME_BYTES_MAX, NameError, PRIVATE, Pattern, SUBSCRIPTIONS, channel_name, covers, is_simple,
    meets,
};
pub use pace::Pace;
pub use parting::Until;
pub use publish::Published;
pub use pull::{EVERYWHERE, GAPS_MAX, Gap, Lacking};
pub use restore::ExpiredKey;
pub use selection::Selection;
pub use selector::{Selector, is_unseen};
pub use shares::Payer;
pub use subscriber::Start;

use crate::carry::resume;
use crate::config::Config;
use crate::id::{Epoch, MessageId, Seq};
use crate::table::Table;
use crate::time::{Instant, Wheel};
use ahead::Ahead;
use beginning::Beginning;
use bounds::Bounds;
use channel::Channel;
use directory::Directory;
use feed::Feeds;
pub use feed::{ASKED_MAX, ASKED_OF_ONE_MAX, COMPARED_MAX, COMPARED_OF_ONE_MAX};
use history::History;
use ids::Ids;
pub use memory::{TEMPLATE_BYTES_IN_ALL, TEMPLATE_BYTES_MAX};
use memory::{TEMPLATES, share_bounds};
use pace::Ticks;
use parting::Parting;
use patterns::Patterns;
use shares::Shares;
use std::collections::{BTreeMap, VecDeque};
use subscriber::{Stranger, Subscriber};
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
    /// What templates of feeds take, as each new topic is compared with them.
    compared: Shares,
    /// Who pays for what is asked next.
    payer: Payer,
    /// The ids that [`Subscriber::stranger`]s came with.
    strangers: BTreeMap<SubscriberKey, Stranger>,
    ready: VecDeque<SubscriberKey>,
    /// Those with a large delivery before them, which must not keep others waiting.
    bulk: VecDeque<SubscriberKey>,
    /// Those who have not come to where all their channels begin.
    beginnings: BTreeMap<SubscriberKey, Beginning>,
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
    /// Clients that are ahead of us, having had messages from another server.
    ahead: Ahead,
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
    /// Memberships that have been left, and wait until it is known what they are owed.
    parting: Parting,
    /// What has been counted here.
    pub counts: Counts,
    /// Every message there ever was, for tests to compare with.
    #[cfg(test)]
    pub(crate) journal: Vec<Message>,
}

resume! {
    Hub {
        carried: epoch, seq, channels, names, subscribers, patterns, strangers, ready, bulk, beginnings, asides, ticks, in_delivery, keys, value_bytes, base_bytes, removals, timers, lost, is_numbered_outside, expired_keys, silent, overfull, looked_at, allowance, settled, moved, presence_lost, counts;
        resumed: history, tombstones, feeds, ids, shares, compared;
        given: parting, ahead, idle_seconds, bounds, terms, payer, #[cfg(test)] journal
    }
}

impl Hub {
    /// Takes other settings, as far as they may change while the server runs. Returns whether it is noted on other channels
    /// than before who listens.
    pub fn reconfigure(&mut self, config: &Config) -> bool {
        self.idle_seconds = config.channel_idle_seconds;
        self.bounds = Bounds::new(config);
        self.shares.reconfigure(share_bounds(config));
        self.set_terms(config)
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
            compared: Shares::new(TEMPLATES),
            payer: Payer::NOBODY,
            strangers: BTreeMap::new(),
            ready: VecDeque::new(),
            bulk: VecDeque::new(),
            beginnings: BTreeMap::new(),
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
            ahead: Ahead::default(),
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
            parting: Parting::default(),
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

    /// Gives back the room of subscribers who have left.
    pub fn shrink(&mut self) {
        self.subscribers.shrink_to_fit();
        self.ready.shrink_to_fit();
    }
}
