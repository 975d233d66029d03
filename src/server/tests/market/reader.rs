//! A subscriber: a table of latest values, a place, and what it may rely on.

use super::items::{Answer, Item, Stream, Told, What};
use super::truth::{Truth, patched};
use crate::conn::ConnId;
use crate::hub::{Data, Pattern};
use crate::id::{Epoch, MessageId, Place, Seq};
use crate::time::Instant;
use crate::transport::{Polling, Streaming, Transport};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What a client believes to be the value of a key.
#[derive(Debug, Clone)]
struct Held {
    /// Its number, and the epoch of that.
    id: (u64, Seq),
    value: Value,
}

#[derive(Debug)]
pub struct Reader {
    pub transport: Transport,
    pub name: &'static str,
    /// Channels and patterns.
    pub selection: Vec<&'static str>,
    pub latest: bool,
    /// Deliveries a second, and milliseconds between two.
    pub rate: Option<(&'static str, u64)>,
    pub delta: bool,
    /// Answers to polls are batches.
    pub batch: bool,
    /// It reads seldom, and little.
    pub slow: bool,
    /// What comes on this connection may have been held up.
    pub unsteady: bool,
    pub conn: Option<ConnId>,
    pub stream: Stream,
    /// A poll that was asked, and when.
    pub asked: Option<Instant>,
    /// What has arrived of its answer.
    pub inbox: Vec<u8>,
    /// Where to go on.
    pub place: Option<String>,
    /// What a connection begins with in band has been read.
    opened: bool,
    /// It has joined a channel, whose snapshot is not complete: its place is not safe.
    pub joining: bool,
    table: BTreeMap<(String, String), Held>,
    /// Values that this connection gave.
    given: BTreeMap<(String, String), Seq>,
    /// By channel: the last number.
    cursor: BTreeMap<String, Seq>,
    /// The last number of all channels.
    last: Seq,
    /// By channel: everything that may not be left out has come up to here.
    rest: BTreeMap<String, Seq>,
    had: BTreeSet<Seq>,
    /// When it was told something last, and whether that was the first of this connection.
    told: Option<(Instant, bool)>,
    /// Counts, to see that a run was worth it.
    pub values: u64,
    pub patches: u64,
    pub removals: u64,
    pub gaps: u64,
}

/// What a reader may compare with.
pub struct View<'a> {
    pub truth: &'a Truth,
    pub epoch: u64,
    pub now: Instant,
}

impl View<'_> {
    fn seq(&self, id: &str) -> Seq {
        let id = MessageId::parse(id).unwrap_or_else(|| panic!("{id:?} is no id"));
        assert!(
            id.epoch == Epoch::from_random(self.epoch) && id.seq <= self.truth.newest(),
            "whose id is {id}?"
        );
        id.seq
    }

    fn place(&self, text: &str) -> Place {
        let place = Place::parse(text).unwrap_or_else(|| panic!("{text:?} is no place"));
        assert!(place.rest() <= self.truth.newest(), "{place} is in the future");
        place
    }
}

impl Reader {
    pub fn new((transport, name): (Transport, &'static str), selection: Vec<&'static str>) -> Self {
        Self {
            transport,
            name,
            selection,
            latest: true,
            rate: None,
            delta: false,
            batch: false,
            slow: false,
            unsteady: false,
            conn: None,
            stream: Stream::default(),
            asked: None,
            inbox: Vec::new(),
            place: None,
            opened: false,
            joining: false,
            table: BTreeMap::new(),
            given: BTreeMap::new(),
            cursor: BTreeMap::new(),
            last: 0,
            rest: BTreeMap::new(),
            had: BTreeSet::new(),
            told: None,
            values: 0,
            patches: 0,
            removals: 0,
            gaps: 0,
        }
    }

    pub fn polling(&self) -> Option<Polling> {
        match self.transport {
            Transport::Poll(polling) => Some(polling),
            Transport::Stream(_) => None,
        }
    }

    pub fn streaming(&self) -> Option<Streaming> {
        match self.transport {
            Transport::Poll(_) => None,
            Transport::Stream(stream) => Some(stream),
        }
    }

    /// Whether it is told ids, so that it can go on where it was.
    pub fn knows_ids(&self) -> bool {
        !matches!(self.streaming(), Some(Streaming::Raw | Streaming::WebSocketRaw))
    }

    /// Whether it is told of removals.
    fn knows_removals(&self) -> bool {
        self.knows_ids() && self.streaming() != Some(Streaming::Replace)
    }

    /// Whether envelopes come, in which patches can be told on an open line.
    pub fn has_patches(&self) -> bool {
        matches!(
            self.streaming(),
            Some(Streaming::SseEnvelope | Streaming::Lines | Streaming::Iframe | Streaming::WebSocket)
        )
    }

    pub fn wants(&self, channel: &str) -> bool {
        self.selection.iter().any(|item| matches(item, channel))
    }

    /// A connection begins, at the place that is known, or without one.
    pub fn begin(&mut self, view: &View) {
        (self.stream, self.unsteady) = (Stream::default(), false);
        self.given.clear();
        (self.told, self.last, self.joining) = (None, 0, false);
        // Lines and parts begin with nothing of the kind.
        self.opened = matches!(self.streaming(), None | Some(Streaming::Lines | Streaming::Multipart));
        match self.place.as_deref().and_then(Place::parse) {
            None => self.forget(view, |_| true),
            // A snapshot of one channel may have taken it back behind what it has of others.
            Some(place) => self.cursor.values_mut().for_each(|cursor| *cursor = place.id.seq.min(*cursor)),
        }
    }

    /// Numbers of channels that are `meant` begin anew.
    fn forget(&mut self, view: &View, meant: impl Fn(&str) -> bool) {
        self.table.retain(|(channel, _), _| !meant(channel));
        self.cursor.retain(|channel, _| !meant(channel));
        self.last = 0;
        for channel in super::CHANNELS.into_iter().filter(|channel| meant(channel)) {
            self.rest.insert(channel.to_owned(), view.truth.newest());
        }
    }

    /// It listens to a further channel from now on, of which it is given a snapshot.
    pub fn join(&mut self, view: &View, channel: &'static str) {
        self.selection.push(channel);
        self.joining = self.latest;
        // Its snapshot comes at once.
        self.told = None;
        self.forget(view, |of| of == channel);
    }

    /// It listens to a channel no longer.
    pub fn part(&mut self, view: &View, channel: &str) {
        self.selection.retain(|item| *item != channel);
        self.forget(view, |of| of == channel);
        self.given.retain(|(of, _), _| of != channel);
    }

    /// The connection has ended, perhaps in the midst of something.
    pub fn leave(&mut self) {
        (self.conn, self.asked) = (None, None);
        self.inbox.clear();
        if self.joining || !self.knows_ids() {
            self.place = None;
        }
    }

    /// The server was replaced by one that knows nothing.
    pub fn restart(&mut self) {
        self.leave();
        self.cursor.clear();
        self.had.clear();
        self.rest.clear();
    }

    /// What arrived on a stream.
    pub fn take(&mut self, bytes: &[u8], view: &View, is_prompt: bool) {
        let stream = self.streaming().unwrap();
        let had_begun = self.stream.begun.is_some();
        let items = self.stream.take(bytes, stream);
        if !had_begun && let Some(head) = &self.stream.begun {
            assert!(matches!(head.status, 200 | 101), "{}: {:?}", head.status, head);
            if let Some(next) = head.field("encke-next").map(str::to_owned) {
                self.stand(&next, view, true);
            }
        }
        self.take_items(items, view, is_prompt);
    }

    fn take_items(&mut self, items: Vec<Item>, view: &View, is_prompt: bool) {
        let mut count = 0;
        for item in items {
            match item {
                Item::Message(told) => {
                    count += 1;
                    self.message(told, view, is_prompt);
                }
                Item::Gap(channel) => {
                    self.gaps += 1;
                    if self.latest && self.streaming().is_some() {
                        // What it had is forgotten: its place is good for nothing until it is told another.
                        self.place = None;
                    }
                    self.forget(view, |of| matches(&channel, of));
                    self.given.retain(|(of, _), _| !matches(&channel, of));
                }
                Item::Place(next) => {
                    self.joining &= next.contains('~');
                    let is_opening = !std::mem::replace(&mut self.opened, true);
                    self.stand(&next, view, is_opening);
                }
            }
        }
        if count > 0 && is_prompt && self.latest {
            self.pace(view.now);
        }
        self.check_table(view);
    }

    /// Deliveries come no more often than was asked.
    fn pace(&mut self, now: Instant) {
        let Some((_, period)) = self.rate else { return };
        if self.streaming().is_none() {
            return;
        }
        let slot = |at: Instant| at.as_millis() / period;
        match self.told {
            None => self.told = Some((now, true)),
            Some((before, _)) if before == now => {}
            Some((before, true)) => {
                assert!(before + period <= now, "{before:?}, {now:?}: too soon after the first: {self:?}");
                self.told = Some((now, false));
            }
            Some((before, false)) => {
                assert!(slot(before) < slot(now), "{before:?}, {now:?}: too soon: {self:?}");
                self.told = Some((now, false));
            }
        }
    }

    /// The pace has changed: what was told before does not count.
    pub fn set_rate(&mut self, rate: (&'static str, u64)) {
        (self.rate, self.told) = (Some(rate), None);
    }

    /// The server says where the client stands: it has had everything up to there.
    fn stand(&mut self, next: &str, view: &View, is_opening: bool) {
        let place = Place::parse(next).unwrap_or_else(|| panic!("{next:?} is no place"));
        if place.id.epoch != Epoch::from_random(view.epoch) {
            assert!(is_opening || self.place.as_deref() == Some(next), "a foreign place: {next}");
            return;
        }
        let place = view.place(next);
        let is_foreign = self
            .place
            .as_deref()
            .and_then(Place::parse)
            .is_some_and(|before| before.id.epoch != place.id.epoch);
        if is_foreign || self.joining {
            return;
        }
        if self.place.is_none() {
            // It begins: values come in a snapshot, or nothing that was before.
            for channel in super::CHANNELS {
                self.rest.insert(channel.to_owned(), place.rest());
            }
        } else if !is_opening && place.ahead == 0 {
            self.account(place.id.seq, view);
            self.advance(place.id.seq);
        }
        self.place = Some(next.to_owned());
    }

    fn advance(&mut self, seq: Seq) {
        let wanted: Vec<&str> = super::CHANNELS.into_iter().filter(|channel| self.wants(channel)).collect();
        for channel in wanted {
            let cursor = self.cursor.entry(channel.to_owned()).or_default();
            *cursor = seq.max(*cursor);
        }
    }

    fn message(&mut self, told: Told, view: &View, is_prompt: bool) {
        let truth = view.truth;
        let seq = match (&told.id, &told.what) {
            (Some(id), _) => view.seq(id),
            // Bare messages: which one it is, its text says.
            (None, What::Bare(text)) => self.find(text, truth),
            (None, what) => panic!("{what:?} without an id"),
        };
        let entry = truth.get(seq);
        let channel = &entry.channel;
        assert!(self.wants(channel), "{seq} of {channel} was not asked for");
        assert!(told.channel.as_ref().is_none_or(|told| told == channel));
        assert!(told.key.is_none() || told.key == entry.key, "{told:?} {entry:?}");
        let last = self.cursor.get(channel).copied().unwrap_or_default();
        assert!(seq > last, "{seq} of {channel} after {last}: {self:?}");
        if !self.joining && self.knows_ids() {
            assert!(seq > self.last, "{seq} of {channel} after {} of all: {self:?}", self.last);
            self.last = seq;
        }
        if self.latest
            && is_prompt
            && let Some(key) = &entry.key
        {
            let newest = truth.changed(channel, key, truth.newest());
            // What is for this moment alone is removed in the same turn.
            let is_same =
                !self.knows_ids() && newest.is_some_and(|newest| truth.get(newest).data == entry.data);
            let is_right = newest == Some(seq) || is_same || entry.expires <= view.now;
            assert!(is_right, "{seq} is superseded by {newest:?}: {self:?}");
        }
        if let Some(key) = &entry.key {
            let place = (channel.clone(), key.clone());
            match &told.what {
                What::Removed => {
                    assert!(entry.is_removal(), "{seq} is told to be a removal");
                    self.removals += 1;
                    self.table.remove(&place);
                    self.given.remove(&place);
                }
                what => {
                    assert!(!entry.is_removal(), "{seq} is a removal");
                    let value = self.value_of(what, &place, view, seq);
                    assert_eq!(value, entry.value(), "{seq}: {what:?}");
                    self.values += 1;
                    self.table.insert(place.clone(), Held { id: (view.epoch, seq), value });
                    self.given.insert(place, seq);
                }
            }
        } else {
            assert!(!matches!(told.what, What::Removed | What::Patch { .. }));
            if let What::Bare(text) = &told.what {
                assert_eq!(text, entry.data.bytes());
            }
        }
        self.had.insert(seq);
        self.account_before(seq, view);
        self.cursor.insert(channel.clone(), seq);
        if !self.joining && self.streaming().is_some() {
            self.place = told.id;
        }
    }

    fn value_of(&mut self, what: &What, place: &(String, String), view: &View, seq: Seq) -> Value {
        match what {
            What::Value(value) => value.clone(),
            What::Bare(text) => {
                assert_eq!(text, view.truth.get(seq).data.bytes());
                view.truth.get(seq).value()
            }
            What::Patch { base, patch } => {
                assert!(self.delta, "a patch for who did not ask");
                self.patches += 1;
                let base = view.seq(base);
                assert_eq!(self.given.get(place), Some(&base), "the base was not given here: {self:?}");
                let held = &self.table[place];
                assert_eq!(held.id, (view.epoch, base));
                patched(&held.value, patch)
            }
            What::Removed => unreachable!(),
        }
    }

    /// The next message with that text.
    fn find(&self, text: &[u8], truth: &Truth) -> Seq {
        // Values of a snapshot may be older than where everything else begins.
        let begin = |channel: &str| if self.latest { None } else { self.rest.get(channel).copied() };
        let had = |channel: &str| self.cursor.get(channel).copied().max(begin(channel)).unwrap_or_default();
        let is_it = |(seq, entry): &(Seq, &super::truth::Entry)| {
            entry.data.bytes() == text
                && entry.data != Data::Removed
                && self.wants(&entry.channel)
                && *seq > had(&entry.channel)
        };
        // The same value again has the same text: either is right.
        let found = truth.between(0, truth.newest()).find(is_it).map(|(seq, _)| seq);
        found.unwrap_or_else(|| panic!("nobody said {:?}", String::from_utf8_lossy(text)))
    }

    /// Whether a message may not be left out.
    fn is_due(&self, seq: Seq, entry: &super::truth::Entry, now: Instant) -> bool {
        let may_be_left_out = match (self.latest, &entry.key) {
            (true, Some(_)) => true,
            _ if entry.is_removal() => entry.key.is_none() || !self.knows_removals(),
            _ => false,
        };
        !may_be_left_out && entry.expires > now && self.wants(&entry.channel) && !self.had.contains(&seq)
    }

    /// Message `seq` has come: those before it have, too.
    fn account_before(&mut self, seq: Seq, view: &View) {
        if self.joining {
            return;
        }
        for (other, entry) in view.truth.between(0, seq) {
            let from = self.rest.get(&entry.channel).copied().unwrap_or_default();
            let is_missing = other > from && self.is_due(other, entry, view.now);
            assert!(!is_missing, "{other} of {} is missing before {seq}: {self:?}", entry.channel);
        }
    }

    /// Everything up to `upto` has come.
    fn account(&mut self, upto: Seq, view: &View) {
        self.account_before(upto, view);
        for channel in super::CHANNELS {
            let rest = self.rest.entry(channel.to_owned()).or_default();
            *rest = upto.max(*rest);
        }
    }

    /// The table is what the truth was at the cursor of each channel, but for what has been superseded since.
    fn check_table(&self, view: &View) {
        if !self.latest {
            return;
        }
        let truth = view.truth;
        for (channel, key) in truth.keys(|channel| self.wants(channel)) {
            let Some(&cursor) = self.cursor.get(channel) else { continue };
            let state = |seq| (truth.changed(channel, key, seq), truth.value_at(channel, key, seq));
            if state(cursor) == state(truth.newest()) {
                self.check_key(view, channel, key, cursor);
            }
        }
    }

    fn check_key(&self, view: &View, channel: &str, key: &str, upto: Seq) {
        let held = self.table.get(&(channel.to_owned(), key.to_owned()));
        match view.truth.value_at(channel, key, upto) {
            Some(seq) => {
                let entry = view.truth.get(seq);
                // It may have expired, and nobody have been told.
                let is_right = match self.knows_ids() {
                    true => held.is_some_and(|held| held.id == (view.epoch, seq)),
                    false => held.is_some_and(|held| held.value == entry.value()),
                };
                assert!(
                    is_right || entry.expires <= view.now,
                    "{channel} {key} is {seq}, not {held:?}: {self:?}"
                );
            }
            // Of a deleted channel it will be told.
            None if view
                .truth
                .changed(channel, key, upto)
                .is_some_and(|seq| !view.truth.get(seq).is_removal()) => {}
            None => assert!(
                held.is_none() || !self.knows_removals(),
                "{channel} {key} is gone, not {held:?}: {self:?}"
            ),
        }
    }

    /// Nothing more will come: its table is the truth.
    pub fn complete(&mut self, view: &View) {
        let newest = view.truth.newest();
        if self.stream.has_notice_ahead() {
            // There is a gap, which is told with the next part.
            return;
        }
        self.account(newest, view);
        if !self.latest {
            return;
        }
        for (channel, key) in view.truth.keys(|channel| self.wants(channel)) {
            self.check_key(view, channel, key, newest);
        }
        for ((channel, key), held) in &self.table {
            let value = view.truth.value_at(channel, key, newest);
            let is_right = value.is_some_and(|seq| !self.knows_ids() || held.id == (view.epoch, seq));
            assert!(is_right || !self.knows_removals(), "{channel} {key} is not {held:?} any more: {self:?}");
        }
    }

    /// What a poll was answered.
    pub fn answered(&mut self, answer: &Answer, view: &View, is_prompt: bool) {
        let polling = self.polling().unwrap();
        let asked = self.asked.take().unwrap();
        if matches!(answer.status, 410 | 503) {
            // The channel has been deleted: from where it was it is told of a gap.
            return;
        }
        let (items, next) = answer.items(polling);
        let had_place = self.place.as_deref().is_some_and(|place| !place.contains('~'));
        let has_gap = items.iter().any(|item| matches!(item, Item::Gap(_)));
        let count = items.iter().filter(|item| matches!(item, Item::Message(_))).count();
        if let Some((_, period)) = self.rate
            && had_place
            && !has_gap
            && polling.waits()
            && is_prompt
        {
            assert!(asked + period <= view.now, "answered too soon: {count} {self:?}");
        }
        let place = view.place(&next);
        self.take_items(items, view, is_prompt);
        let is_new = self.place.is_none();
        // Who wants all messages has them up to the id; what is said beside it is how its channels began.
        let upto = if place.began.is_some() { place.id.seq } else { place.rest() };
        if is_new {
            for channel in super::CHANNELS {
                let rest = self.rest.entry(channel.to_owned()).or_default();
                *rest = upto.max(*rest);
            }
        } else {
            self.account(upto, view);
        }
        self.place = Some(next);
        self.advance(place.id.seq);
        self.check_table(view);
        // Each answer comes on its own: the next may be to another connection.
        self.last = 0;
    }
}

/// Whether a name or a pattern means a channel.
pub fn matches(item: &str, channel: &str) -> bool {
    match Pattern::parse(item.as_bytes()).unwrap() {
        Some(pattern) => pattern.matches(channel),
        None => item == channel,
    }
}
