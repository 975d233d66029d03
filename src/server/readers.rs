//! Readers that do not keep up: how much each takes of what it has left unread.
//!
//! Whoever takes nothing is found by the time of its last progress. Whoever takes a little now and then makes progress
//! for ever, and what is kept for it is kept for ever: so a reader has a least pace, as a body has. It is judged over
//! `limits.stalled_seconds` in which it never had everything, and begins anew once it has.

use super::{Effect, Server};
use crate::carry::carry;
use crate::conn::{Output, Slot};
use crate::hub::SubscriberKey;
use crate::time::Instant;
use std::collections::BTreeMap;

/// Milliseconds after which a reader whose socket took everything was not behind.
const CAUGHT_UP_MS: u64 = 1000;

/// Milliseconds for which a subscriber of latest values may be behind before its line counts as slow.
const SLOW_MS: u64 = 400;

/// Bytes that may wait in the kernel for a subscriber of latest values, without having been sent: what is there cannot be
/// superseded any more. What is on its way does not count, so that no line gets slower by it.
pub(super) const UNSENT_BYTES: u32 = 64 << 10;
/// The same where the line is slow: at 10 KB a second, this is a second and a half.
pub(super) const SLOW_UNSENT_BYTES: u32 = 16 << 10;

/// Those who are behind, by the slot of their connection.
pub type Readers = BTreeMap<Slot, Behind>;

/// How far a reader gets that is behind.
#[derive(Debug)]
pub struct Behind {
    /// Since when it is judged.
    since: Instant,
    /// Bytes that its socket has taken since then.
    taken: usize,
    /// When it was last seen behind.
    seen: Instant,
    /// Its socket has been told to keep little.
    keeps_little: bool,
}

carry! {
    struct Behind { since, taken, seen, keeps_little }
}

impl Behind {
    const fn new(now: Instant) -> Self {
        Self { since: now, taken: 0, seen: now, keeps_little: false }
    }
}

impl Server {
    /// Keeps for the connection what its socket does not take, which has just taken so many bytes.
    #[cold]
    pub(super) fn block(&mut self, slot: Slot, output: Output, taken: usize) {
        let now = output.progress;
        let behind = self.readers.entry(slot).or_insert_with(|| Behind::new(now));
        if behind.seen + CAUGHT_UP_MS < now {
            *behind = Behind::new(now);
        }
        self.connections[slot].output = Some(Box::new(output));
        self.note_taken(now, slot, taken);
        self.note_format(slot);
    }

    /// Notes that the socket of a reader who is behind has taken so many bytes.
    pub(super) fn note_taken(&mut self, now: Instant, slot: Slot, bytes: usize) {
        if let Some(behind) = self.readers.get_mut(&slot) {
            behind.taken += bytes;
            behind.seen = now;
        }
    }

    /// Notes that a reader has everything there was for it, or has gone.
    pub(super) fn note_caught_up(&mut self, slot: Slot) {
        if !self.readers.is_empty() {
            self.readers.remove(&slot);
        }
    }

    /// Has little of what is for a subscriber of latest values wait in the kernel.
    pub(super) fn bound_unsent(&mut self, slot: Slot, subscriber: SubscriberKey) {
        if self.broker.hub.is_latest(subscriber) {
            self.queues.effects.push_back(Effect::Unsent((self.id(slot), UNSENT_BYTES)));
        }
    }

    /// Something newer is there for a subscriber whose socket takes nothing now. One that is behind for longer than a moment
    /// shall have little of it wait in the kernel, where it gets old.
    #[cold]
    pub(super) fn note_newer(&mut self, now: Instant, slot: Slot, subscriber: SubscriberKey) {
        let id = self.id(slot);
        if let Some(behind) = self.readers.get_mut(&slot)
            && !behind.keeps_little
            && behind.since + SLOW_MS <= now
            && self.broker.hub.is_latest(subscriber)
        {
            behind.keeps_little = true;
            self.queues.effects.push_back(Effect::Unsent((id, SLOW_UNSENT_BYTES)));
        }
    }

    /// Whether a reader is behind for longer than a moment, and wants latest values.
    pub(super) fn keeps_little(&self, slot: Slot) -> bool {
        self.readers.get(&slot).is_some_and(|behind| behind.keeps_little)
    }

    /// When the pace of a reader is to be judged, of whom something is unread.
    pub(super) fn pace_judged_at(&self, slot: Slot) -> Instant {
        let limits = &self.config.limits;
        match self.readers.get(&slot) {
            Some(behind) if limits.unread_bytes_per_second > 0 => {
                behind.since.plus_seconds(limits.stalled_seconds)
            }
            _ => Instant::NEVER,
        }
    }

    /// Closes a reader who has taken too little. Whoever has taken enough is judged anew from now on.
    pub(super) fn judge_pace(&mut self, now: Instant, slot: Slot) {
        let limits = &self.config.limits;
        let (rate, seconds) = (limits.unread_bytes_per_second, limits.stalled_seconds);
        let Some(behind) = self.readers.get_mut(&slot) else { return };
        if behind.taken as u64 >= (rate as u64).saturating_mul(seconds) {
            (behind.since, behind.taken, behind.seen) = (now, 0, now);
            return;
        }
        let (connection, taken) = (&self.connections[slot], behind.taken);
        let unread = connection.output.as_ref().map_or(0, |output| output.len());
        let why = format!(
            "the client reads too slowly, {taken} bytes in {seconds} s (limits.unread_bytes_per_second), \
             {unread} bytes unsent"
        );
        self.broker.stats.connections_stalled += 1;
        self.close_because(now, slot, why);
    }
}
