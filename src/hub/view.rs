//! What a subscriber wants of a channel's messages: all, or the latest values, at which pace, as patches or whole.

use super::key::ChannelKey;
use super::pace::Pace;
use crate::carry::carry;
use crate::id::Seq;

/// What a subscriber asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// No message that a newer one of its key has superseded.
    pub latest: bool,
    /// How often at most; implies `latest`.
    pub pace: Pace,
    /// Values as patches against the value before where that is possible; implies `latest`.
    pub delta: bool,
}

impl Wish {
    /// Whether it wants latest values.
    pub const fn is_latest(self) -> bool {
        self.latest || self.delta || !self.pace.is_none()
    }
}

/// A [`Wish`] in one byte, with what else must be known at once of a subscriber that has one. 0 = none, all messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct View(u8);

carry! {
    struct View(_)
}

/// In the place of its pace: the latest values at none.
const LATEST: u8 = 14;
const PACE: u8 = 0xf;
const EARLY: u8 = 1 << 4;
const DELTA: u8 = 1 << 5;
const ASIDE: u8 = 1 << 6;
const FRESH: u8 = 1 << 7;

impl View {
    /// That of a subscriber that has just come.
    pub fn of(wish: Wish) -> Self {
        if !wish.is_latest() {
            return Self::default();
        }
        let fresh = if matches!(wish.pace, Pace::NONE | Pace::HELD) { 0 } else { FRESH };
        let pace = if wish.pace.is_none() { LATEST } else { wish.pace.bits() };
        Self(pace | if wish.delta { DELTA } else { 0 } | fresh)
    }

    /// Whether all messages are wanted, one after the other.
    pub const fn is_plain(self) -> bool {
        self.0 == 0
    }

    /// Whether latest values are wanted, whole, at no pace, and nothing particular has to be known.
    pub const fn is_simple(self) -> bool {
        self.0 == LATEST
    }

    /// Whether patches are wanted.
    pub const fn is_delta(self) -> bool {
        self.0 & DELTA != 0
    }

    /// Whether there is an [`Aside`].
    pub const fn has_aside(self) -> bool {
        self.0 & ASIDE != 0
    }

    /// Whether it has a pace and has not been delivered anything yet: the first comes at once.
    pub const fn is_fresh(self) -> bool {
        self.0 & FRESH != 0
    }

    /// Whether it has been told something since the last tick of its pace: the next is too early for it.
    pub const fn is_early(self) -> bool {
        self.0 & EARLY != 0
    }

    /// Its pace.
    pub const fn pace(self) -> Pace {
        match self.0 & PACE {
            LATEST => Pace::NONE,
            bits => Pace::of_bits(bits),
        }
    }

    /// On which list of a channel it is: that of this pace.
    pub const fn list(self) -> Pace {
        if self.is_fresh() { Pace::NONE } else { self.pace() }
    }

    /// What it wants.
    pub const fn wish(self) -> Wish {
        Wish { latest: !self.is_plain(), pace: self.pace(), delta: self.is_delta() }
    }

    /// Notes whether there is an [`Aside`].
    pub const fn set_aside(&mut self, there_is: bool) {
        self.0 = if there_is { self.0 | ASIDE } else { self.0 & !ASIDE };
    }

    /// Notes that it has had its first delivery.
    pub const fn settle(&mut self) {
        self.0 &= !FRESH;
    }

    /// Notes whether the next tick of its pace is too early for it.
    pub const fn set_early(&mut self, is: bool) {
        self.0 = if is { self.0 | EARLY } else { self.0 & !EARLY };
    }
}

/// What is known of few subscribers of latest values, and of each not for long.
#[derive(Debug, Default)]
pub struct Aside {
    /// Channels with an unfinished snapshot: everything but values counts as had up to this number.
    pub horizons: Vec<(ChannelKey, Seq)>,
    /// The same of all channels together, as the client is told it; 0 if no snapshot is unfinished.
    pub horizon: Seq,
    /// It wants patches, and was given a part of what it lacked.
    pub cut: Option<Cut>,
    /// It has a pace, and a delivery has begun that comes at once: its first, or a snapshot.
    pub is_told: bool,
    /// The client may have values up to this number from another connection: they are no bases of patches.
    pub given: Seq,
}

carry! {
    struct Aside { horizons, horizon, cut, is_told, given }
}

/// What somebody holds who was given a part of what it lacked; see [`Held`](super::pace::Held).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The latest values when this was the newest message, but for what it was given since.
    pub whole: Seq,
    /// The newest message when it was given a part first.
    pub first: Seq,
    /// The newest message when it was given a part last.
    pub last: Seq,
}

carry! {
    struct Cut { whole, first, last }
}

impl Aside {
    /// Whether it says nothing any more.
    pub const fn is_spent(&self) -> bool {
        self.horizons.is_empty()
            && self.horizon == 0
            && self.given == 0
            && !self.is_told
            && self.cut.is_none()
    }
}
