//! Where each of several channels begins, for clients that are given what they asked for in several answers.
//!
//! Who asks for the oldest messages of several channels, or the last so many, begins elsewhere on each of them. An answer may
//! end before all of these beginnings, and its client comes back with one id. So it is told a place instead, that says how it
//! began: with how many, up to which number, and after what had been lost by then. From this, each beginning is found again:
//! what was asked for is all there, or something has been lost since, and that is known by its moment.

use super::Hub;
use super::key::{ChannelKey, SubscriberKey};
use super::subscriber::{Memberships, Start};
use crate::id::{Began, MessageId, Place, Seq};
use crate::time::Instant;

impl Hub {
    /// Counts moments of loss from there, so that those of others are not taken for ours.
    pub const fn count_moments_from(&mut self, first: u64) {
        self.history.count_moments_from(first);
    }

    /// How a subscriber began that has just come, and which message was the newest then; none if a message's number is enough
    /// for it to go on.
    pub fn began(&mut self, key: SubscriberKey, start: Start) -> Option<(Began, Seq)> {
        let subscriber = &self.subscribers[key];
        if !subscriber.view.is_plain() || !matches!(subscriber.memberships, Memberships::Many(_)) {
            return None;
        }
        let last = match start {
            Start::Oldest => 0,
            // None of a channel: all begin now.
            Start::Last(0) => return None,
            Start::Last(last) => last as u64,
            Start::At(place) => {
                return self.is_taken_up(place).then_some(place.began?).map(|began| (began, place.rest()));
            }
            Start::Now | Start::After(_) | Start::Snapshot | Start::Since(_) => return None,
        };
        let moment = self.history.next_moment();
        Some((Began { last, moment }, self.seq))
    }

    /// The place of a subscriber who has had everything up to `last`, and began so.
    pub fn place_after(&self, key: SubscriberKey, last: MessageId, began: Option<(Began, Seq)>) -> Place {
        let Some((began, newest)) = began else { return last.into() };
        let is_before = match &self.subscribers[key].memberships {
            Memberships::One { .. } => false,
            Memberships::Many(many) => many.all.iter().any(|(_, membership)| membership.floor > last.seq),
        };
        let place = Place { id: last, ahead: newest.saturating_sub(last.seq), began: Some(began) };
        if is_before && place.is_fit() { place } else { last.into() }
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
