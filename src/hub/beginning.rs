//! Where each of several channels begins, for clients that are given what they asked for in several answers, or by a stream
//! that is cut in the midst of it.
//!
//! Who asks for the oldest messages of several channels, or the last so many, begins elsewhere on each of them; and who is
//! told of a gap goes on behind it on that channel alone. A client may come back before it has come to all of these
//! beginnings, and it comes back with one id. So it is told a place instead, that says how it began: with how many, up to
//! which number, and after what had been lost by then. From this, each beginning is found again: what was asked for is all
//! there, or something has been lost since, and that is known by its moment.

use super::Hub;
use super::key::{ChannelKey, SubscriberKey};
use super::pull::Gap;
use super::subscriber::{Memberships, Start};
use crate::carry::carry;
use crate::id::{Began, MessageId, Place, Seq};
use crate::time::Instant;
use std::collections::BTreeMap;

/// How a subscriber began that has not come to where all its channels begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beginning {
    began: Began,
    /// Which message was the newest then.
    newest: Seq,
    /// Where the last of its channels begins.
    upto: Seq,
}

carry! {
    struct Beginning { began, newest, upto }
}

impl Hub {
    /// Counts moments of loss from there, so that those of others are not taken for ours.
    pub const fn count_moments_from(&mut self, first: u64) {
        self.history.count_moments_from(first);
    }

    /// Notes how a subscriber of several channels begins that has just come, unless a message's number is enough for it
    /// to go on.
    pub(super) fn note_beginning(&mut self, key: SubscriberKey, start: Start) {
        let last = match start {
            Start::Oldest => 0,
            Start::Last(last) => last as u64,
            Start::At(place) if place.began.is_some() => 0,
            Start::Now | Start::After(_) | Start::At(_) | Start::Snapshot | Start::Since(_) => return,
        };
        let subscriber = &self.subscribers[key];
        let Memberships::Many(many) = &subscriber.memberships else { return };
        let upto = many.all.iter().map(|(_, membership)| membership.floor).max().unwrap_or(0);
        // What forgotten channels had lost that its patterns might have matched was not asked for either.
        let forgotten = if self.patterns.of(key).is_empty() { 0 } else { self.tombstones.highest() };
        let upto = upto.max(forgotten);
        if !subscriber.view.is_plain() || upto <= subscriber.after {
            return;
        }
        let (began, newest) = match start {
            Start::At(place @ Place { began: Some(began), .. }) => (began, place.rest()),
            _ => (Began { last, moment: self.history.next_moment() }, self.seq),
        };
        self.beginnings.insert(key, Beginning { began, newest, upto });
    }

    /// Notes that a subscriber has been told of all gaps that it has: on each of these channels, it goes on behind what is
    /// lost, and is not to be told of that again.
    pub(super) fn note_told(&mut self, key: SubscriberKey, gaps: &[Gap]) {
        let subscriber = &self.subscribers[key];
        let upto = gaps.iter().map(|gap| gap.position.seq).max().unwrap_or(0);
        let is_one = matches!(subscriber.memberships, Memberships::One { .. });
        if is_one || upto <= subscriber.after && !self.beginnings.contains_key(&key) {
            return;
        }
        let moment = self.history.next_moment();
        let began = Began { last: 0, moment };
        let beginning = self.beginnings.entry(key).or_insert(Beginning { began, newest: self.seq, upto });
        beginning.began.moment = moment;
        beginning.upto = beginning.upto.max(upto);
    }

    /// Notes that a subscriber has everything up to `seq`.
    pub(super) fn note_position(
        beginnings: &mut BTreeMap<SubscriberKey, Beginning>,
        key: SubscriberKey,
        seq: Seq,
    ) {
        if beginnings.get(&key).is_some_and(|beginning| beginning.upto <= seq) {
            beginnings.remove(&key);
        }
    }

    /// Whether a subscriber has not come to where all its channels begin, so that a message's number is not enough for it
    /// to go on.
    pub fn is_beginning(&self, key: SubscriberKey) -> bool {
        self.beginnings.contains_key(&key)
    }

    /// The place of a subscriber who has had everything up to `last`.
    pub fn place_after(&self, key: SubscriberKey, last: MessageId) -> Place {
        let beginning = self.beginnings.get(&key).filter(|beginning| beginning.upto > last.seq);
        let Some(&Beginning { began, newest, .. }) = beginning else { return last.into() };
        let place = Place { id: last, ahead: newest.saturating_sub(last.seq), began: Some(began) };
        if place.is_fit() { place } else { last.into() }
    }

    /// A start as it can be taken up: of a place that somebody else has told of, its id is left.
    pub(super) fn taken_up(&self, start: Start) -> Start {
        match start {
            Start::At(place) if place.began.is_some() && !self.is_taken_up(place) => Start::After(place.id),
            _ => start,
        }
    }

    fn is_taken_up(&self, place: Place) -> bool {
        let is_ours = place.began.is_some_and(|began| self.history.has_been(began.moment));
        is_ours && place.id.epoch == self.epoch && place.rest() <= self.seq
    }

    /// Up to which number a channel that speaks for the first time had lost all before a subscriber began that is still
    /// beginning: that is no loss to it.
    pub(super) fn lost_before(&self, key: SubscriberKey, channel: ChannelKey) -> Seq {
        let ring = &self.channels[channel].ring;
        match self.beginnings.get(&key) {
            Some(beginning) if ring.lost_at() < beginning.began.moment => ring.evicted(),
            _ => 0,
        }
    }

    /// Where a channel began for a client that began so when `newest` was the newest number.
    pub(super) fn began_on(&self, now: Instant, channel: ChannelKey, newest: Seq, began: Began) -> Seq {
        let ring = &self.channels[channel].ring;
        let count =
            if began.last == 0 { usize::MAX } else { usize::try_from(began.last).unwrap_or(usize::MAX) };
        match ring.before_last_of(count, newest, now) {
            Some(floor) => floor,
            // There were no more, and nothing of it is lost.
            None if ring.lost_at() < began.moment => ring.evicted(),
            // Something is: what is lost of what comes after the cursor is a gap.
            None => 0,
        }
    }
}
