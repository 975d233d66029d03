//! What a subscriber must get: an independent reading of the contract, over the journal of all messages.

use crate::hub::Message;
use crate::id::Seq;
use crate::time::Instant;
use std::collections::HashSet;

/// Channels and patterns that a client listens to.
#[derive(Debug, Clone, Default)]
pub struct Selection(pub Vec<&'static str>);

impl Selection {
    pub fn matches(&self, channel: &str) -> bool {
        self.0.iter().any(|pattern| matches(pattern, channel))
    }
}

/// Whether `pattern` matches `channel`, segment by segment.
pub fn matches(pattern: &str, channel: &str) -> bool {
    match (pattern.split_once('/'), channel.split_once('/')) {
        _ if pattern == "**" => true,
        (None, None) => pattern == "*" || pattern == channel,
        (Some((head, rest)), Some((segment, below))) => {
            (head == "*" || head == segment) && matches(rest, below)
        }
        _ => false,
    }
}

/// Where a subscription began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Now,
    /// With whatever is kept, or the last of it.
    Kept,
    After(Seq),
    /// After an id of another history.
    Stranger,
}

/// One subscription and what it has had.
#[derive(Debug, Clone)]
pub struct Watch {
    pub selection: Selection,
    pub from: From,
    /// Everything up to here is accounted for.
    cursor: Option<Seq>,
    /// The newest message when the request arrived, if the server served it at once.
    pub began: Option<Seq>,
    /// The newest message when the request had been written.
    pub asked: Seq,
    /// Channels that have delivered something.
    seen: HashSet<String>,
    /// Channels (or patterns) and the number up to which a gap was told.
    gaps: Vec<(String, Seq)>,
}

impl Watch {
    pub fn new(selection: Selection, from: From) -> Self {
        let cursor = if let From::After(seq) = from { Some(seq) } else { None };
        Self { selection, from, cursor, began: None, asked: 0, seen: HashSet::new(), gaps: Vec::new() }
    }

    /// The position that the server named when the subscription began.
    pub fn begin(&mut self, position: Seq, newest: Seq) {
        self.began.get_or_insert(newest);
        if self.from == From::Now {
            assert!(position >= self.asked, "begins before the request: {position}");
            self.cursor.get_or_insert(position);
        }
    }

    /// The server told of a gap on `channel`, up to (at most) message `upto`.
    pub fn gap(&mut self, channel: &str, upto: Seq) {
        self.gaps.push((channel.to_owned(), upto));
    }

    pub fn was_told(&self) -> bool {
        !self.gaps.is_empty()
    }

    /// The number of the next message with this payload, which may have been published on several channels:
    /// rather one that has to come than one that may be missing.
    pub fn find(&self, journal: &[Message], payload: &[u8], now: Instant) -> Option<Seq> {
        let after = self.cursor.unwrap_or_default();
        let newer = journal[after as usize..].iter().filter(|message| {
            message.publication.data.bytes() == payload && self.selection.matches(&message.channel)
        });
        newer.map(|message| (self.is_explained(message, now), message.id.seq)).min().map(|(_, seq)| seq)
    }

    /// Message `seq` arrived.
    pub fn message(&mut self, journal: &[Message], seq: Seq, payload: &[u8], now: Instant) {
        let message = &journal[usize::try_from(seq - 1).unwrap()];
        assert!(self.selection.matches(&message.channel), "{seq} of {} was not asked for", message.channel);
        assert_eq!(message.publication.data.bytes(), payload, "payload of {seq}");
        assert!(self.cursor.is_none_or(|cursor| seq > cursor), "{seq} comes twice or too late: {self:?}");
        if self.from == From::Now {
            assert!(seq > self.asked, "{seq} was there before the request");
        }
        assert!(self.from != From::Stranger || self.was_told(), "a foreign id, but no gap was told");
        self.account(journal, seq - 1, now);
        self.cursor = Some(seq);
        self.seen.insert(message.channel.to_string());
    }

    /// Everything up to `upto` has been delivered or explained.
    pub fn account(&mut self, journal: &[Message], upto: Seq, now: Instant) {
        let from = match (self.cursor, self.from) {
            (Some(cursor), _) => cursor,
            (None, From::Now) => self.began.unwrap_or(upto),
            (None, _) => 0,
        };
        for message in &journal[from.min(upto) as usize..upto as usize] {
            let lost = self.selection.matches(&message.channel) && !self.is_explained(message, now);
            assert!(!lost, "{} of {} is missing: {self:?}", message.id.seq, message.channel);
        }
        self.cursor = Some(from.max(upto));
    }

    fn is_explained(&self, message: &Message, now: Instant) -> bool {
        let seq = message.id.seq;
        let told = |(channel, upto): &(String, Seq)| seq <= *upto && matches(channel, &message.channel);
        let not_asked_for = self.from == From::Kept
            && self.began.is_none_or(|began| seq <= began)
            && !self.seen.contains(&*message.channel);
        message.expired(now) || not_asked_for || self.gaps.iter().any(told)
    }
}
