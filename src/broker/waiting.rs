//! What waits for the log, and what is known of it.

use super::Receipts;
use super::gathering::{Gathering, Shut};
use super::nodes::Nodes;
use super::presence::About;
use super::repeats::Remembered;
use crate::hub::{ExpiredKey, Owner, Until};
use crate::id::{MessageId, Seq};
use crate::log::{Answered, Figures, LEASE, LogTime, NodeId, Opening, Record, Ticket};
use crate::time::Instant;
use std::collections::{BTreeMap, VecDeque};

/// Whose subscriptions ended with a channel, and where they were.
pub(super) type Ended = (Owner, MessageId);

/// How the log is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// Answers do not wait, and messages are visible at once.
    pub behind: bool,
    /// Bytes that may wait for the log.
    pub staged_bytes: usize,
    /// Milliseconds that the log may lag behind.
    pub lag_ms: u64,
    /// Several servers share the log, which gives the numbers, and we are this one of them; see `broker::shared`.
    pub shared: Option<NodeId>,
}

/// Seconds after which a disk that does not answer is a complaint.
pub(super) const SLOW_SECONDS: u64 = 5;

/// What a log has counted, and what waits for it.
#[derive(Debug, Clone, Copy)]
pub struct LogWaiting {
    /// What it has counted.
    pub figures: Figures,
    /// Proposals that it has not answered.
    pub proposals: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// What waits for the log, and what is known of it.
#[derive(Debug)]
pub(super) struct Proposals {
    pub(super) settings: LogSettings,
    /// What the history is, when it is known.
    pub(super) opening: Option<Opening>,
    /// The history of earlier lives is being loaded.
    pub(super) loading: bool,
    /// Why nothing can be stored at the moment.
    pub(super) sick: Option<String>,
    pub(super) figures: Figures,
    /// What the time line is ahead of our clock, in milliseconds.
    pub(super) ahead_ms: u64,
    pub(super) tickets: u64,
    /// What the request at hand has published, and the number of the first of it.
    pub(super) staged: Vec<Record>,
    pub(super) first: Seq,
    /// Too much waits.
    pub(super) closed: bool,
    /// Channels and keys whose values wait for the log.
    pub(super) keys: BTreeMap<(Box<str>, Box<str>), Ticket>,
    /// Removals of values that have expired, which wait for it.
    pub(super) removals: VecDeque<(Ticket, ExpiredKey)>,
    /// What is told of who is on which channels, which waits for it.
    pub(super) told: VecDeque<(Ticket, About)>,
    /// Proposals that the log has not answered.
    pub(super) open: VecDeque<Open>,
    pub(super) bytes: usize,
    /// Where the requests of these are remembered.
    pub(super) places: BTreeMap<Remembered, Ticket>,
    /// Where the request at hand is remembered, and what is stored of that. Of a session's, there may be several.
    pub(super) request: Vec<(Remembered, Option<Answered>)>,
    /// The request at hand repeats one that the log has not answered.
    pub(super) repeats: Option<Ticket>,
    /// What only a shared log needs.
    pub(super) shared: Shared,
}

/// A proposal that the log has not answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    pub(super) ticket: Ticket,
    pub(super) bytes: usize,
    pub(super) since: Instant,
    /// The numbers of its first record and of its last.
    pub(super) first: Seq,
    pub(super) last: Seq,
}

/// What only a shared log needs.
#[derive(Debug, Default)]
pub struct Shared {
    /// What the request at hand is to be answered, without its numbers.
    pub receipts: Option<Receipts<'static>>,
    /// What the request at hand publishes was made of values that are there.
    pub is_based: bool,
    /// Why the engine does not do its work, and since when.
    pub away: Option<(String, Instant)>,
    /// When the last message was accepted: time does not go back in a history.
    pub last_at: Instant,
    /// Servers that share it.
    pub nodes: Nodes,
    /// We have just started, or just begun to show who is there, and wait for what they say of that.
    pub gathering: Option<Gathering>,
    /// A reload has had us show who is there on other channels than before, and we have not begun to wait.
    pub has_begun_to_show: bool,
}

impl Proposals {
    /// Nothing waits.
    pub(super) fn new(settings: LogSettings) -> Self {
        Self {
            settings,
            opening: None,
            loading: true,
            sick: None,
            figures: Figures::default(),
            ahead_ms: 0,
            tickets: 0,
            staged: Vec::new(),
            first: 0,
            closed: false,
            keys: BTreeMap::new(),
            removals: VecDeque::new(),
            told: VecDeque::new(),
            open: VecDeque::new(),
            bytes: 0,
            places: BTreeMap::new(),
            request: Vec::new(),
            repeats: None,
            shared: Shared { nodes: Nodes::of(settings.shared.unwrap_or_default()), ..Shared::default() },
        }
    }

    /// Whether clients have to wait until all is known that is history.
    pub(super) fn is_closed(&self) -> bool {
        self.loading || self.shared.gathering.as_ref().is_some_and(|it| it.shut() == Some(Shut::All))
    }

    pub(super) const fn time(&self, at: Instant) -> LogTime {
        LogTime(at.as_millis() + self.ahead_ms)
    }

    /// When that was by our clock: before it began to run, for what an earlier life wrote.
    pub(super) const fn instant(&self, time: LogTime) -> Instant {
        Instant::from_millis(time.0.saturating_sub(self.ahead_ms))
    }

    /// Whether more waits for the log than may.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        let Some(oldest) = self.open.front() else { return false };
        let lags = oldest.since + self.settings.lag_ms <= now;
        // A crash must not meet numbers that nobody has a lease of.
        let has_many = self.first.saturating_sub(oldest.first) > LEASE / 4;
        self.bytes > self.settings.staged_bytes || self.settings.behind && (lags || has_many)
    }

    /// Keeps what is to be proposed.
    pub(super) fn stage(&mut self, seq: Seq, record: Record) {
        if self.staged.is_empty() {
            self.first = seq;
        }
        if let Record::Message { channel, publication, .. } = &record
            && let Some(key) = publication.key.as_ref().filter(|_| !self.settings.behind)
        {
            self.keys.insert((channel.clone(), key.clone()), Ticket(self.tickets + 1));
        }
        self.staged.push(record);
    }

    /// The last of what has been accepted and is not visible yet: its proposal, and the last record of that, as records are
    /// counted while they have no numbers.
    pub(super) fn invisible(&self) -> Option<Until> {
        match self.staged.len() as Seq {
            _ if self.settings.behind => None,
            0 => self.open.back().map(|open| (open.ticket.0, open.last)),
            count => Some((self.tickets + 1, self.first + count - 1)),
        }
    }

    /// Forgets proposals up to `upto`, which the log has answered.
    pub(super) fn settle(&mut self, upto: Ticket) {
        while let Some(&Open { ticket, bytes, .. }) = self.open.front()
            && ticket <= upto
        {
            self.open.pop_front();
            self.bytes -= bytes;
        }
    }
}
