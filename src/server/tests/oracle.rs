//! What a subscriber must get: an independent reading of the contract, over the journal of all messages.

use super::client::View;
use crate::hub::Message;
use crate::id::Seq;
use crate::time::Instant;
use std::collections::{BTreeSet, HashSet};

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

/// With how many of what is kept of each channel a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    All,
    Some(usize),
    /// That is not known any more, or it does not begin so.
    Unknown,
}

impl Last {
    const fn count(self) -> Option<usize> {
        match self {
            Self::All => Some(usize::MAX),
            Self::Some(count) => Some(count),
            Self::Unknown => None,
        }
    }
}

/// What somebody is owed who began once and has come back since, as often as its connection was cut: what is told as lost
/// is some of this.
#[derive(Debug, Clone, Default)]
pub struct Debt {
    /// The newest message when it began: what is newer is owed, whatever it is.
    upto: Seq,
    /// What is owed of the others.
    of_old: BTreeSet<Seq>,
    /// Channels that began with their last few, some of which were to expire: then nobody can know later which these were.
    doubtful: HashSet<String>,
    /// Channels (or patterns) and the number up to which a gap may have been told.
    gaps: Vec<(String, Seq)>,
    /// The same, and up to which number one was told for sure.
    surely: Vec<(String, Seq)>,
}

impl Debt {
    /// That of who has had everything up to `seq`, or asked for nothing of it.
    pub fn after(seq: Seq) -> Self {
        Self { upto: seq, ..Self::default() }
    }

    /// That of who begins now with what is kept of all that it selects.
    pub fn of_kept(view: &View, selection: &Selection, last: usize) -> Self {
        let mut debt = Self::after(view.newest());
        let channels: BTreeSet<&str> = view.journal.iter().map(|message| &*message.channel).collect();
        for channel in channels.into_iter().filter(|channel| selection.matches(channel)) {
            let of_channel = view.journal.iter().rev().filter(|message| &*message.channel == channel);
            let is_doubtful = of_channel.clone().any(|message| message.publication.ttl_ms.is_some());
            if last < usize::MAX && is_doubtful {
                debt.doubtful.insert(channel.to_owned());
            }
            let kept = of_channel.filter(|message| !message.expired(view.at) && view.keeps(message));
            debt.of_old.extend(kept.take(last).map(|message| message.id.seq));
        }
        debt
    }

    fn owes(&self, message: &Message) -> bool {
        let seq = message.id.seq;
        seq > self.upto || self.of_old.contains(&seq) || self.doubtful.contains(&*message.channel)
    }

    /// Whether some of what is owed of `channel` behind `cursor` is lost, of which no gap has told yet.
    fn has_lost(&self, channel: &str, cursor: Seq, view: &View) -> bool {
        let told =
            self.surely.iter().filter(|(of, _)| of == channel).map(|&(_, upto)| upto).max().unwrap_or(0);
        // What was the oldest message that was kept may be the next that is lost.
        let had = cursor.max(told.saturating_sub(1));
        view.journal[had as usize..]
            .iter()
            .any(|message| &*message.channel == channel && self.owes(message) && !view.keeps(message))
    }
}

/// One subscription and what it has had.
#[derive(Debug, Clone)]
pub struct Watch {
    pub selection: Selection,
    pub from: From,
    /// With how many messages of each channel it begins, if it does not come back.
    last: Last,
    /// What it is owed, if that is known.
    debt: Option<Debt>,
    /// Everything up to here is accounted for.
    cursor: Option<Seq>,
    /// The newest message when the request arrived, if the server served it at once.
    pub began: Option<Seq>,
    /// The newest message when the request had been written.
    pub asked: Seq,
    /// The message that came last is not enough to go on: its client has to be told a place.
    pub lacks_place: bool,
    /// A gap was told that is ahead of what has come, and no place behind it: whoever is cut there is told of it again.
    pub forgets_gap: bool,
    /// Channels that have delivered something.
    seen: HashSet<String>,
    /// Channels (or patterns) and the number up to which a gap was told.
    gaps: Vec<(String, Seq)>,
}

impl Watch {
    pub fn new(selection: Selection, from: From) -> Self {
        let cursor = if let From::After(seq) = from { Some(seq) } else { None };
        let (seen, gaps) = (HashSet::new(), Vec::new());
        Self {
            selection,
            from,
            last: Last::Unknown,
            debt: None,
            cursor,
            began: None,
            asked: 0,
            lacks_place: false,
            forgets_gap: false,
            seen,
            gaps,
        }
    }

    /// The same with that many messages of each channel.
    pub fn with_last(self, last: Last) -> Self {
        Self { last, ..self }
    }

    /// That of who goes on behind `seq` where its connection was cut.
    pub fn resumed(selection: Selection, seq: Seq, debt: Debt) -> Self {
        let gaps = debt.gaps.clone();
        Self { debt: Some(debt), gaps, ..Self::new(selection, From::After(seq)) }
    }

    /// It is served now.
    pub fn serve(&mut self, view: &View) {
        self.began = Some(view.newest());
        if let Some(last) = self.last.count() {
            self.debt = Some(Debt::of_kept(view, &self.selection, last));
        }
    }

    /// It has to wait for its turn: nobody knows when that is.
    pub fn wait(&mut self) {
        self.began = None;
        if self.last != Last::Unknown {
            self.debt = None;
        }
    }

    /// What its client is owed when it comes back.
    pub fn debt(&self) -> Option<Debt> {
        self.debt.clone().map(|debt| Debt { gaps: self.gaps.clone(), ..debt })
    }

    /// The position that the server named when the subscription began.
    pub fn begin(&mut self, position: Seq, newest: Seq) {
        self.began.get_or_insert(newest);
        if self.from == From::Now {
            assert!(position >= self.asked, "begins before the request: {position}");
            self.cursor.get_or_insert(position);
        }
    }

    /// The server told of a gap on `channel`, up to at least the first of these numbers, and at most the second.
    pub fn gap(&mut self, channel: &str, (surely, upto): (Seq, Seq), view: &View) {
        // Of patterns, and of channels that nobody remembers, it is told on suspicion.
        let cursor = self.cursor.unwrap_or_default();
        let is_suspicion = channel.contains('*') || cursor < view.suspected;
        if let Some(debt) = self.debt().filter(|_| !is_suspicion) {
            assert!(debt.has_lost(channel, cursor, view), "a false gap on {channel}: {self:?}");
        }
        self.forgets_gap = true;
        self.gaps.push((channel.to_owned(), upto));
        if let Some(debt) = &mut self.debt {
            debt.surely.push((channel.to_owned(), surely));
        }
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
        let is_owed = self.debt.as_ref().is_none_or(|debt| debt.owes(message));
        assert!(is_owed, "{seq} is more than was asked for: {self:?}");
        assert!(self.cursor.is_none_or(|cursor| seq > cursor), "{seq} comes twice or too late: {self:?}");
        if self.from == From::Now {
            assert!(seq > self.asked, "{seq} was there before the request");
        }
        assert!(self.from != From::Stranger || self.was_told(), "a foreign id, but no gap was told");
        assert!(!self.lacks_place, "a message came, and not the place behind the one before: {self:?}");
        self.account(journal, seq - 1, now);
        self.cursor = Some(seq);
        self.lacks_place = self.debt.as_ref().is_some_and(|debt| {
            let before = journal.get(seq as usize..debt.upto as usize).unwrap_or_default();
            let is_sure = |message: &Message| message.publication.ttl_ms.is_none();
            before.iter().any(|of| self.selection.matches(&of.channel) && !debt.owes(of) && is_sure(of))
        });
        self.forgets_gap = self.gaps.iter().any(|(_, upto)| *upto > seq);
        self.seen.insert(message.channel.to_string());
    }

    /// The place behind message `seq` is told.
    pub fn place(&mut self, seq: Seq) {
        assert_eq!(self.cursor, Some(seq), "a place behind another message: {self:?}");
        (self.lacks_place, self.forgets_gap) = (false, false);
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
        let not_asked_for = match &self.debt {
            Some(debt) => {
                !debt.owes(message) || debt.doubtful.contains(&*message.channel) && seq <= debt.upto
            }
            None => {
                self.from == From::Kept
                    && self.began.is_none_or(|began| seq <= began)
                    && !self.seen.contains(&*message.channel)
            }
        };
        message.expired(now) || not_asked_for || self.gaps.iter().any(told)
    }
}
