//! A channel: its ring and who listens.

use super::Hub;
use super::feed::Feed;
pub use super::key::{ChannelKey, Entry};
use super::latest::Latest;
use super::message::Message;
use super::pace::{Group, Pace};
use super::ring::{Gone, Ring};
use crate::carry::carry;
use crate::id::{Epoch, MessageId, Seq};
use crate::time::Instant;
use std::rc::Rc;

/// A named sequence of messages and those who listen to it.
#[derive(Debug)]
pub struct Channel {
    pub(super) name: Rc<str>,
    /// What is kept.
    pub ring: Ring,
    /// Those who are told at once. Dense, in no order: 8 bytes a subscriber.
    pub subscribers: Vec<Entry>,
    /// How many of them have left, and only have to get what was published before.
    pub left: u32,
    /// What there is only where keys are published or somebody wants latest values.
    pub keyed: Option<Box<Keyed>>,
    /// The place of the bounds of its ring.
    pub terms: u16,
    /// It is noted who listens to it by name.
    pub shows: bool,
    /// It has had a message. One that has not is there for those who listen to it, and goes with the last of
    /// them; subscribers by pattern join with the first message.
    pub spoken: bool,
    /// It is shown to who selects it without naming it.
    pub is_shown: bool,
    /// The feeds that it reaches, but for those that are asked about each message.
    pub feeds: Vec<ChannelKey>,
    /// What it is if it is a feed.
    pub feed: Option<Box<Feed>>,
}

carry! {
    struct Channel { name, ring, subscribers, left, keyed, terms, shows, spoken, is_shown, feeds, feed }
}

/// Latest values, and who is told at some pace.
#[derive(Debug)]
pub struct Keyed {
    /// The newest message of each key.
    pub latest: Latest,
    /// One for each pace that somebody has; few.
    pub groups: Vec<Group>,
    /// No message without key is newer than this.
    pub unkeyed: Seq,
}

carry! {
    struct Keyed { latest, groups, unkeyed }
}

/// What the API tells of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelInfo {
    /// The channel's name.
    pub channel: Rc<str>,
    /// The newest message kept, if any is.
    pub newest: Option<MessageId>,
    /// Subscribers listening.
    pub subscribers: usize,
    /// Messages kept.
    pub messages: usize,
    /// Keys that have a value; none if there never was one.
    pub keys: Option<usize>,
}

impl Channel {
    /// A channel without messages, which lost those up to `evicted` in a former life.
    pub fn new(name: Rc<str>, evicted: u64) -> Self {
        let ring = Ring::new(evicted);
        let (subscribers, left, keyed, terms) = (Vec::new(), 0, None, 0);
        let (shows, spoken, is_shown, feeds, feed) = (false, false, true, Vec::new(), None);
        Self { name, ring, subscribers, left, keyed, terms, shows, spoken, is_shown, feeds, feed }
    }

    /// Its name.
    pub const fn name(&self) -> &Rc<str> {
        &self.name
    }

    /// What the API tells of it.
    pub fn info(&self, epoch: Epoch) -> ChannelInfo {
        ChannelInfo {
            channel: Rc::clone(&self.name),
            newest: (!self.ring.is_empty()).then(|| MessageId { epoch, seq: self.ring.newest() }),
            subscribers: self.listeners(),
            messages: self.ring.len(),
            keys: self.latest().filter(|latest| latest.was_used()).map(Latest::keys),
        }
    }

    /// Its latest values and removals, if it ever had any.
    pub fn latest(&self) -> Option<&Latest> {
        self.keyed.as_ref().map(|keyed| &keyed.latest)
    }

    /// The number of its newest message that is kept in any way, 0 if none is.
    pub fn newest(&self) -> Seq {
        self.ring.newest().max(self.latest().map_or(0, Latest::newest))
    }

    /// The highest number of a message that is lost for those who want latest values.
    pub fn lost_of_latest(&self) -> Seq {
        self.ring.evicted_unkeyed().max(self.latest().map_or(0, Latest::forgotten))
    }

    /// How many listen to what will be published.
    pub fn listeners(&self) -> usize {
        self.places() - self.left as usize
    }

    /// How many are on its lists: those who have left stay there until they have had all.
    pub fn places(&self) -> usize {
        self.subscribers.len() + self.paced().map(|group| group.members.len()).sum::<usize>()
    }

    /// Whether nobody listens and no key has a value, so that it is forgotten once it is empty.
    pub fn is_idle(&self) -> bool {
        self.places() == 0 && self.latest().is_none_or(|latest| latest.keys() == 0)
    }

    /// Everybody who listens.
    pub fn members(&self) -> impl Iterator<Item = &Entry> {
        self.subscribers.iter().chain(self.paced().flat_map(|group| &group.members))
    }

    fn paced(&self) -> impl Iterator<Item = &Group> {
        self.keyed.iter().flat_map(|keyed| &keyed.groups)
    }

    /// The list of those who are told at `pace`.
    pub fn list(&mut self, pace: Pace) -> &mut Vec<Entry> {
        if pace.is_none() { &mut self.subscribers } else { &mut self.group(pace).members }
    }

    /// The group of `pace`.
    pub fn group(&mut self, pace: Pace) -> &mut Group {
        let newest = self.newest();
        let groups = &mut self.keyed().groups;
        let place = groups.iter().position(|group| group.pace == pace).unwrap_or_else(|| {
            groups.push(Group::new(pace, newest));
            groups.len() - 1
        });
        &mut groups[place]
    }

    /// Its keys, from now on.
    pub fn keyed(&mut self) -> &mut Keyed {
        let unkeyed = self.ring.newest();
        self.keyed
            .get_or_insert_with(|| Box::new(Keyed { latest: Latest::default(), groups: Vec::new(), unkeyed }))
    }

    /// What of those who want latest values, and have everything up to `after`, all lack the same: the number of the newest
    /// value up to `after`, as nothing is left of what was between. Nothing if there is something without key for them.
    pub fn settled(&self, after: Seq) -> Option<Seq> {
        let keyed = self.keyed.as_ref().filter(|keyed| keyed.unkeyed <= after)?;
        Some(keyed.latest.newest_up_to(after))
    }

    /// Bytes of what was superseded and is kept for patches.
    pub fn base_bytes(&self) -> usize {
        self.paced().map(Group::bytes).sum()
    }

    /// Lets go of a group that nobody needs.
    pub fn drop_group(&mut self, pace: Pace) {
        if let Some(keyed) = &mut self.keyed {
            keyed.groups.retain(|group| group.pace != pace || group.deltas > 0 || !group.members.is_empty());
        }
    }

    /// The group of `pace`, if there is one.
    pub fn known_group(&self, pace: Pace) -> Option<&Group> {
        self.paced().find(|group| group.pace == pace)
    }

    /// Where message `seq` is held: in the ring, and among the latest values.
    pub fn holders(&mut self, seq: Seq) -> impl Iterator<Item = &mut Rc<Message>> {
        let value = self.keyed.as_mut().and_then(|keyed| keyed.latest.holder(seq));
        self.ring.holder(seq).into_iter().chain(value)
    }

    /// Throws the oldest message of the ring away because of a limit.
    pub fn evict(&mut self, now: Instant) -> Gone {
        let latest = self.keyed.as_ref().map(|keyed| &keyed.latest);
        self.ring.evict(now, latest)
    }

    /// Takes out of the ring what is too old at `now`, by its own TTL or by the age limit.
    pub fn expire(&mut self, age_ms: u64, now: Instant) -> Gone {
        let latest = self.keyed.as_ref().map(|keyed| &keyed.latest);
        self.ring.expire(age_ms, now, latest)
    }
}

impl Hub {
    /// Adds a channel that is a feed: it has no name, and a history without what was before it.
    pub(super) fn insert_feed(&mut self, feed: Feed) -> ChannelKey {
        let (spoken, feed) = (true, Some(Box::new(feed)));
        self.channels.insert(Channel { spoken, feed, ..Channel::new(Rc::from(""), self.seq) })
    }
}
