//! Readers that do not keep up: how much each takes of what it has left unread.
//!
//! Whoever takes nothing is found by the time of its last progress. Whoever takes a little now and then makes progress
//! for ever, and what is kept for it is kept for ever: so a reader has a least pace, as a body has. It is judged over
//! `limits.stalled_seconds` in which it never had everything, and begins anew once it has.

use super::Server;
use crate::carry::carry;
use crate::conn::{Output, Slot};
use crate::time::Instant;
use std::collections::BTreeMap;

/// Milliseconds after which a reader whose socket took everything was not behind.
const CAUGHT_UP_MS: u64 = 1000;

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
}

carry! {
    struct Behind { since, taken, seen }
}

impl Server {
    /// Keeps for the connection what its socket does not take, which has just taken so many bytes.
    #[cold]
    pub(super) fn block(&mut self, slot: Slot, output: Output, taken: usize) {
        let now = output.progress;
        let behind = self.readers.entry(slot).or_insert(Behind { since: now, taken: 0, seen: now });
        if behind.seen + CAUGHT_UP_MS < now {
            *behind = Behind { since: now, taken: 0, seen: now };
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
            *behind = Behind { since: now, taken: 0, seen: now };
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
