//! The log: what is accepted, in the order in which it becomes history. Plain values and their encoding; no I/O.
//!
//! Design: the log decides, the hub applies. A publication is *proposed* to an engine, a thread that makes it durable
//! and says so; what comes back, in order, is put into rings, shown to subscribers and answered. Loading the history
//! of an earlier life is the same thing, from the first number on. A server without a log does both in one call.

mod codec;
mod figures;
mod jumps;
mod losses;
mod outstanding;

pub use codec::Damaged;
pub use figures::{COMMIT_BUCKETS_US, Figures};
pub use jumps::{JUMPS_MAX, Jump, Jumps};
pub use losses::{Losses, Marks};
pub use outstanding::{Outstanding, Taken};

use crate::carry::carry;
use crate::hub::{PRESENCE, Publication};
use crate::id::{Epoch, Seed, Seq};
use std::collections::BTreeSet;
use std::fmt;

/// Numbers that are given out ahead of what is stored, where answers do not wait. At least half of them are left after
/// each commit.
pub const LEASE: u64 = 1 << 20;

/// Milliseconds on the time line of a history: the wall clock when the history was created, and from then on a clock
/// that nobody sets. It goes on over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogTime(pub u64);

carry! {
    struct LogTime(_)
}

/// Names a server among those that share a history: drawn anew in every life of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeId(pub u64);

carry! {
    struct NodeId(_)
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What happened: to a channel, or to the servers that share a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A message was published on it.
    Message {
        /// Its name.
        channel: Box<str>,
        /// What was published.
        publication: Publication,
        /// When it was accepted.
        at: LogTime,
    },
    /// Its history was forgotten, up to the number of this record.
    Deleted {
        /// Its name.
        channel: Box<str>,
    },
    /// A right was taken back.
    Revoked {
        /// Which, in a form that only its writer reads.
        text: Box<str>,
        /// The second since 1970 from which it means nothing any more.
        lapses: u64,
    },
    /// A server lives, and will say so again within this time.
    Beat {
        /// Which.
        node: NodeId,
        /// Milliseconds until it is taken for dead.
        lease_ms: u64,
    },
    /// A server has left in good order.
    Left(NodeId),
    /// A server says who listens to a channel there. Others say of one that is dead that nobody does.
    Said {
        /// The server.
        node: NodeId,
        /// The channel.
        channel: Box<str>,
        /// What.
        what: Said,
    },
    /// A server asks all others who listens there.
    Asked(NodeId),
    /// A server has said of everybody who listens there since the record of this number. Whom it has not said, is not there.
    AllSaid {
        /// Which.
        node: NodeId,
        /// Since when.
        since: Seq,
    },
    /// What had the numbers after this one, up to that of this record, is lost. If that is the same number: all that was
    /// applied after it; what is history there follows.
    Lost(Seq),
}

carry! {
    enum Record {
        0 => Message { channel: Box<str>, publication: Publication, at: LogTime },
        1 => Deleted { channel: Box<str> },
        2 => Revoked { text: Box<str>, lapses: u64 },
        3 => Beat { node: NodeId, lease_ms: u64 },
        4 => Left(node: NodeId),
        5 => Lost(after: Seq),
        6 => Said { node: NodeId, channel: Box<str>, what: Said },
        7 => Asked(node: NodeId),
        8 => AllSaid { node: NodeId, since: Seq }
    }
}

/// What a server says of who listens to a channel there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// This subject does.
    Here {
        /// Who.
        subject: Box<str>,
        /// What others are told about it, as JSON.
        info: Option<Box<str>>,
        /// Since when that is told.
        since: LogTime,
    },
    /// This subject does no longer.
    Gone {
        /// Who.
        subject: Box<str>,
    },
    /// So many do whose names are not known.
    Others(u64),
}

carry! {
    enum Said {
        0 => Here { subject: Box<str>, info: Option<Box<str>>, since: LogTime },
        1 => Gone { subject: Box<str> },
        2 => Others(count: u64)
    }
}

/// A record and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The number.
    pub seq: Seq,
    /// What has it.
    pub record: Record,
}

/// Milliseconds from one beat of a server to the next.
pub const BEAT_MS: u64 = 4000;
/// Milliseconds after which a server that has not beaten is dead: three beats.
pub const LEASE_MS: u64 = 3 * BEAT_MS;

/// Names a proposal. They ascend, and none is used twice in the life of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticket(pub u64);

carry! {
    struct Ticket(_)
}

/// An idempotency key and what to answer to a repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The key.
    pub key: Box<str>,
    /// When it may be forgotten.
    pub until: LogTime,
    /// The answer, in a form that only its writer reads.
    pub answer: Box<[u8]>,
}

carry! {
    struct Answered { key, until, answer }
}

/// Records that become history together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Its name.
    pub ticket: Ticket,
    /// The number of the first record; those that follow have the next ones.
    pub first: Seq,
    /// The records.
    pub records: Vec<Record>,
    /// The key under which a repeat of it is recognised.
    pub answered: Option<Answered>,
    /// What it was made of must not have changed since this number: none of the values that it gives keys had another
    /// one published later. Only an engine that several servers share has to look.
    pub seen: Option<Seq>,
}

carry! {
    struct Proposal { ticket, first, records, answered, seen }
}

impl Proposal {
    /// The number of the last record; the one before `first` if there is none.
    pub const fn last(&self) -> Seq {
        self.first + self.records.len() as u64 - 1
    }

    /// Bytes that it keeps while it waits.
    pub fn bytes(&self) -> usize {
        let records = self.records.iter().map(Record::bytes).sum::<usize>();
        let answered = self.answered.as_ref().map_or(0, |kept| kept.key.len() + kept.answer.len());
        size_of::<Self>() + records + answered
    }
}

impl Record {
    /// The channel that it is about; empty if it is about none.
    pub fn channel(&self) -> &str {
        match self {
            Self::Message { channel, .. } | Self::Deleted { channel } => channel,
            _ => "",
        }
    }

    /// All channels that it is about.
    pub fn channels(&self) -> BTreeSet<String> {
        match self {
            Self::Message { channel, publication, .. } => publication.channels(channel),
            _ => BTreeSet::from([self.channel().to_owned()]),
        }
    }

    /// Whether it is only for those who are connected: it has a number and its place among all others, and is not kept
    /// for a later life. Who is there is nobody any more by then. A value is kept however short its time is, as it stands
    /// in the place of the one before, and a life that ends before its removal is told leaves that to the next.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Message { channel, publication, .. } => {
                let is_momentary = publication.ttl_ms == Some(0) && publication.key.is_none();
                is_momentary || channel.starts_with(PRESENCE)
            }
            _ => false,
        }
    }

    /// Bytes that it keeps.
    pub fn bytes(&self) -> usize {
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let own = match self {
            Self::Message { publication, .. } => {
                publication.data.bytes().len()
                    + text(&publication.content_type)
                    + text(&publication.event)
                    + text(&publication.key)
                    + publication.update.as_ref().map_or(0, |update| update.cost())
            }
            Self::Revoked { text, .. } => text.len(),
            Self::Said { channel, what, .. } => channel.len() + what.bytes(),
            Self::Deleted { .. } | Self::Beat { .. } | Self::Left(_) | Self::Lost(_) => 0,
            Self::Asked(_) | Self::AllSaid { .. } => 0,
        };
        size_of::<Self>() + self.channel().len() + own
    }
}

impl Said {
    /// Whom it is about; empty if it is about those whose names are not known.
    pub fn subject(&self) -> &str {
        match self {
            Self::Here { subject, .. } | Self::Gone { subject } => subject,
            Self::Others(_) => "",
        }
    }

    fn bytes(&self) -> usize {
        let info = if let Self::Here { info: Some(info), .. } = self { info.len() } else { 0 };
        self.subject().len() + info
    }
}

/// What comes back from an engine, in order: history. The records of a proposal come back as they went, so that no
/// payload is copied.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The last proposal of ours whose records these are; none = an earlier life wrote them.
    pub own: Option<Ticket>,
    /// The records, in the order of their numbers.
    pub entries: Vec<Entry>,
    /// What channels had lost before these records.
    pub lost: Vec<Lost>,
    /// What is to be answered to repeats.
    pub answered: Vec<Answered>,
    /// Rights that were taken back in earlier lives, as the broker writes them.
    pub revoked: Vec<Box<str>>,
}

/// What comes back from an engine that several servers share: what one of them had accepted in one go. Every server is told
/// of everything, in the same order, and of nothing twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tail {
    /// When the engine took it.
    pub at: LogTime,
    /// The records, in the order of their numbers. Messages have no time of their own.
    pub entries: Vec<Entry>,
    /// Proposals of ours among them, and the number of the first record of each.
    pub own: Vec<(Ticket, Seq)>,
}

/// Up to which number a channel has lost messages; see [`crate::hub`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The channel.
    pub channel: Box<str>,
    /// The highest number that a limit threw away.
    pub upto: Seq,
    /// The same for who wants latest values, who misses neither what was superseded nor what is kept as a latest value.
    pub of_latest: Seq,
}

/// Why proposals were not accepted. Nothing of them is visible anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(
    /// What the system said.
    pub String,
);

/// How an engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The history of earlier lives has been handed over; from now on there are proposals.
    Ready,
    /// Nothing can be made durable at the moment.
    CannotStore(String),
    /// It can again.
    Well,
    /// What was answered as stored is not there any more: the process must not go on.
    Failed(String),
    /// The engine that several servers share cannot be reached, or does not do its work.
    Away(String),
}

/// What a history is at the beginning of a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// Its name.
    pub epoch: Epoch,
    /// What hides idempotency keys in it, and makes guests of the demo.
    pub secret: u128,
    /// The number of the next record.
    pub next: Seq,
    /// Cursors below this have a gap on every channel: what they had may not be all that there was.
    pub lost: Seq,
    /// What channels of which nothing is known may have lost.
    pub watermark: Seq,
    /// What its time line says now.
    pub time: LogTime,
}

impl Opening {
    /// What secrets are derived from that mean the same in every life of the history, and on all servers that share it.
    pub const fn seed(&self) -> Seed {
        Seed { epoch: self.epoch, secret: self.secret }
    }
}
