//! A subscriber: one cursor, and the channels it listens to.

use super::key::ChannelKey;
pub use super::key::{Owner, SubscriberKey};
use super::name::Pattern;
use super::news::News;
use super::shares::Payer;
use super::view::{View, Wish};
use crate::carry::{Carry, Damaged, Parcel, Shape, Unpack, carry};
use crate::id::{MessageId, Place, Seq};
use crate::time::Instant;
use slab::Slab;
use std::collections::BTreeMap;

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
    /// At this place. Who wants all messages begins after its id, on several channels where they began.
    At(Place),
    /// With the latest values, for who wants them; else with what is published from now on.
    Snapshot,
    /// With the oldest message that was published at this time or later.
    Since(Instant),
}

impl Start {
    /// What it means to a subscriber with that wish: only those of latest values have snapshots and places in them.
    pub(super) fn meant_for(self, wish: Wish) -> Self {
        match self {
            Self::After(id) if wish.is_latest() => Self::At(id.into()),
            Self::At(place) if place.began.is_some() == wish.is_latest() => match wish.is_latest() {
                true => Self::At(place.id.into()),
                false => Self::After(place.id),
            },
            Self::Snapshot if !wish.is_latest() => Self::Now,
            Self::Now
            | Self::Oldest
            | Self::Last(_)
            | Self::After(_)
            | Self::At(_)
            | Self::Since(_)
            | Self::Snapshot => self,
        }
    }

    /// The id up to which everything but values was had, if one is named.
    pub(super) fn rest(self) -> Option<MessageId> {
        match self {
            Self::After(id) => Some(id),
            Self::At(place) if place.began.is_some() => Some(place.id),
            Self::At(place) => Some(MessageId { seq: place.rest(), ..place.id }),
            Self::Now | Self::Oldest | Self::Last(_) | Self::Since(_) | Self::Snapshot => None,
        }
    }
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
    /// What it wants, if it wants the latest values.
    pub(super) view: View,
    /// What its owner has noted; see [`Hub::note`](super::Hub::note).
    pub(super) note: u8,
    /// In one of the queues of those who are ready.
    pub(super) queued: bool,
    /// It named an id of another history, or from before a forgotten channel lost messages that its patterns
    /// may have matched, and has not been told of the gap yet.
    pub(super) stranger: bool,
}

carry! {
    struct Subscriber { after, joined, memberships, owner, view, note, queued, stranger }
}

/// Ids that somebody came with and that cannot be taken up: of another history, or from before something was lost that
/// is not known any more. It has not been told yet.
#[derive(Debug, Default)]
pub struct Stranger {
    /// The one that all its channels begin at.
    pub(super) id: Option<MessageId>,
    /// Those of its patterns.
    pub(super) patterns: Vec<(Pattern, MessageId)>,
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

carry! {
    enum Memberships { 0 => One { channel: ChannelKey, index: u32 }, 1 => Many(many: Box<Many>) }
}

/// Several channels of one subscriber, and which of them have news.
#[derive(Debug, Default)]
pub struct Many {
    pub(super) all: Slab<Membership>,
    /// Who pays for them.
    pub(super) payer: Payer,
    /// The places of memberships by their channel, once there are more than [`FEW`].
    places: BTreeMap<ChannelKey, u32>,
    /// How many channels are asked for by name.
    pub(super) named: usize,
    /// How many have been left, and owe messages yet.
    pub(super) left: usize,
    /// Those with possibly something newer than the cursor. A channel that is not here has nothing.
    pub(super) news: News,
    /// Memberships that have been looked at, for tests of what something costs.
    #[cfg(test)]
    pub(super) looks: std::cell::Cell<usize>,
}

impl Carry for Many {
    fn shape(shape: &mut Shape) {
        shape.add("Many");
        shape.field("all", |it: &Self| &it.all);
        shape.field("payer", |it: &Self| &it.payer);
        shape.field("places", |it: &Self| &it.places);
        shape.field("named", |it: &Self| &it.named);
        shape.field("left", |it: &Self| &it.left);
        shape.field("news", |it: &Self| &it.news);
    }

    fn pack(&self, parcel: &mut Parcel) {
        let Self {
            all,
            payer,
            places,
            named,
            left,
            news,
            #[cfg(test)]
                looks: _,
        } = self;
        all.pack(parcel);
        payer.pack(parcel);
        places.pack(parcel);
        (*named, *left).pack(parcel);
        news.pack(parcel);
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        let (all, payer, places) = Carry::unpack(from)?;
        let ((named, left), news) = Carry::unpack(from)?;
        Ok(Self {
            all,
            payer,
            places,
            named,
            left,
            news,
            #[cfg(test)]
            looks: std::cell::Cell::default(),
        })
    }
}

/// So many memberships are searched one after the other.
const FEW: usize = 16;

/// One of several channels of a subscriber.
#[derive(Debug)]
pub struct Membership {
    pub(super) channel: ChannelKey,
    /// Place in the channel's list.
    pub(super) index: u32,
    /// On this channel, everything up to here counts as delivered, told as a gap or not asked for.
    pub(super) floor: Seq,
    /// The newest message when the channel was asked for: what is newer reaches the subscriber whatever its TTL.
    pub(super) joined: Seq,
    /// The number it is listed with in [`Many::news`]; 0 = it is not.
    pub(super) next: Seq,
    /// Asked for by its name, and not only by a pattern.
    pub(super) named: bool,
    /// A gap has to be told because the subscriber came with the id of another history.
    pub(super) stranger: bool,
    /// It has been left: what was published up to here is still for the subscriber. [`Seq::MAX`] = it has not.
    pub(super) until: Seq,
}

carry! {
    struct Membership { channel, index, floor, joined, next, named, stranger, until }
}

carry! {
    struct Stranger { id, patterns }
}

/// Where a membership ends that has been left while there was something that has no number yet and may be for it.
pub(super) const NOT_YET: Seq = Seq::MAX - 1;

impl Membership {
    /// Whether the subscriber has left, and only has to get what was published before.
    pub(super) const fn is_left(&self) -> bool {
        self.until != Seq::MAX
    }
}

impl Memberships {
    /// Notes that message `seq` has just been published on the channel of membership `place`.
    pub(super) fn touch(&mut self, place: u32, seq: Seq) {
        if let Self::Many(many) = self {
            let membership = &mut many.all[place as usize];
            if membership.next == 0 && seq <= membership.until {
                membership.next = seq;
                many.news.push(seq, place);
            }
        }
    }
}

impl Memberships {
    /// Notes that the channel of membership `place` may have news beyond what was `had`.
    pub(super) fn expect_news(&mut self, place: u32, had: Seq) {
        if let Self::Many(many) = self {
            let membership = &many.all[place as usize];
            if membership.next == 0 {
                let had = had.max(membership.floor);
                many.expect(place, had + 1);
            }
        }
    }
}

impl Many {
    /// None yet, for which `payer` will pay.
    pub(super) fn of(payer: Payer) -> Box<Self> {
        Box::new(Self { payer, ..Self::default() })
    }

    /// Adds a membership; says where.
    pub(super) fn insert(&mut self, membership: Membership) -> u32 {
        let (channel, next) = (membership.channel, membership.next);
        self.named += usize::from(membership.named);
        let place = self.all.insert(membership) as u32;
        if !self.places.is_empty() {
            self.places.insert(channel, place);
        } else if self.all.len() > FEW {
            let all = self.all.iter();
            self.places = all.map(|(place, membership)| (membership.channel, place as u32)).collect();
        }
        if next > 0 {
            self.news.insert(next, place);
        }
        place
    }

    /// The place of the membership of a channel.
    pub(super) fn find(&self, channel: ChannelKey) -> Option<u32> {
        self.note_looks(if self.places.is_empty() { self.all.capacity() } else { 1 });
        if !self.places.is_empty() {
            return self.places.get(&channel).copied();
        }
        let mut all = self.all.iter();
        all.find(|(_, membership)| membership.channel == channel).map(|(place, _)| place as u32)
    }

    /// Takes the membership of a channel out.
    pub(super) fn remove(&mut self, channel: ChannelKey) -> Option<Membership> {
        let place = self.find(channel)?;
        self.places.remove(&channel);
        let membership = self.all.remove(place as usize);
        if self.all.is_empty() {
            // Its memory is paid for by nobody any more, and a search would look at every empty place.
            self.all = Slab::new();
        }
        self.named -= usize::from(membership.named);
        self.left -= usize::from(membership.is_left());
        if membership.next > 0 {
            self.news.remove(membership.next, place);
        }
        Some(membership)
    }

    /// Notes that on the channel of membership `place` something may come from message `seq` on; 0 = nothing will.
    pub(super) fn expect(&mut self, place: u32, seq: Seq) {
        let membership = &mut self.all[place as usize];
        let before = std::mem::replace(&mut membership.next, seq);
        if before > 0 {
            self.news.remove(before, place);
        }
        if seq > 0 {
            self.news.insert(seq, place);
        }
    }

    /// Counts memberships that are looked at, for tests of what something costs.
    pub(super) fn note_looks(&self, count: usize) {
        #[cfg(test)]
        self.looks.set(self.looks.get() + count);
        #[cfg(not(test))]
        let _ = count;
    }

    /// Notes whether a channel is asked for by its name.
    pub(super) fn set_named(&mut self, channel: ChannelKey, named: bool) {
        let Some(place) = self.find(channel) else { return };
        let before = std::mem::replace(&mut self.all[place as usize].named, named);
        self.named = self.named + usize::from(named) - usize::from(before);
    }
}

#[cfg(any(test, feature = "check"))]
impl Membership {
    pub(super) const fn place(&self) -> (ChannelKey, u32) {
        (self.channel, self.index)
    }

    pub(super) const fn has_news(&self) -> bool {
        self.next > 0
    }
}

#[cfg(any(test, feature = "check"))]
impl Many {
    /// Panics if lists, marks and sums contradict each other.
    pub(super) fn check(&self) {
        assert_eq!(self.news.len(), self.all.iter().filter(|(_, membership)| membership.next > 0).count());
        assert!(self.news.in_order().all(|(next, place)| self.all[place as usize].next == next));
        assert_eq!(self.named, self.all.iter().filter(|(_, membership)| membership.named).count());
        for (place, membership) in &self.all {
            assert_eq!(self.find(membership.channel), Some(place as u32));
        }
        assert!(self.places.is_empty() || self.places.len() == self.all.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(channel: u32) -> Membership {
        let (channel, until) = (ChannelKey::new(channel), Seq::MAX);
        let (named, stranger) = (true, false);
        Membership { channel, index: 0, floor: 0, joined: 0, next: 0, named, stranger, until }
    }

    /// Who has had hundreds of channels is no dearer than who has a few.
    #[test]
    fn places_that_were_left_are_neither_kept_nor_looked_at() {
        let mut many = Many::of(Payer::default());
        (0..900).for_each(|channel| _ = many.insert(membership(channel)));
        (0..900).for_each(|channel| _ = many.remove(ChannelKey::new(channel)));
        many.check();
        assert_eq!(many.all.capacity(), 0, "nobody pays for it any more");
        let before = many.looks.get();
        (0..900).for_each(|channel| assert_eq!(many.find(ChannelKey::new(channel)), None));
        (0..3).for_each(|channel| _ = many.insert(membership(channel)));
        (0..900).for_each(|channel| _ = many.find(ChannelKey::new(channel)));
        let looks = many.looks.get() - before;
        assert!(looks <= 8 * 900, "{looks} looks for 1,800 searches");
    }
}
