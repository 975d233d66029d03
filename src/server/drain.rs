//! Leaving in good order: whoever waits or listens is sent away, with a time to come back at, and a crowd not all at once.
//!
//! Clients come back when their connection ends, and then they cost the server that takes over a connection each, perhaps
//! a TLS handshake. So a crowd is sent away over three quarters of `drain_seconds`, in the order of its places, and gets
//! messages until then. The last quarter is for what is still being written.

use super::{Server, Sink};
use crate::conn::{ConnId, Phase};
use crate::time::{Instant, Now};
use std::collections::VecDeque;

/// So many are sent away at once.
const AT_ONCE: u64 = 100;
/// The others follow, so many a second at least.
const PER_SECOND_MIN: u64 = 500;

/// Whether a server leaves, and how far it is with that.
#[derive(Debug, Default)]
pub(super) struct Drain {
    pub begun: bool,
    /// Who has not been sent away yet.
    pub farewell: Option<Farewell>,
}

/// Those who are still to be sent away.
#[derive(Debug)]
pub(super) struct Farewell {
    waiting: VecDeque<ConnId>,
    begun: Instant,
    per_second: u64,
    sent: u64,
}

impl Farewell {
    /// How many may have been sent away by now.
    fn due(&self, now: Instant) -> u64 {
        AT_ONCE.saturating_add(now.millis_since(self.begun).saturating_mul(self.per_second) / 1000)
    }

    /// When the next one goes.
    fn next(&self) -> Instant {
        let after = (self.sent + 1).saturating_sub(AT_ONCE).saturating_mul(1000).div_ceil(self.per_second);
        self.begun + after
    }
}

impl Server {
    /// Begins to leave: closes idle connections, and sends those away who wait or listen. Requests that are arriving are
    /// still answered.
    pub fn drain(&mut self, now: Now, sink: &mut impl Sink) {
        self.drain.begun = true;
        self.drain_sessions(now, sink);
        let mut waiting = VecDeque::new();
        let ids: Vec<ConnId> = self.connections.iter().map(|(slot, _)| self.id(slot)).collect();
        for id in ids {
            let connection = &mut self.connections[id.slot];
            match connection.phase {
                Phase::Parked(_) | Phase::Streaming(_) | Phase::Socket(_) => waiting.push_back(id),
                Phase::Idle if connection.output.is_none() => self.close(now.at, id.slot),
                Phase::Idle => connection.closing = true,
                Phase::Held(_) if self.pending.concerns(id.slot) => {}
                Phase::Held(_) => self.close(now.at, id.slot),
                Phase::Committing
                | Phase::Asking
                | Phase::Due
                | Phase::Reading
                | Phase::Lingering
                | Phase::Closed => {}
            }
        }
        let per_second = match self.config.drain_seconds * 3 / 4 {
            0 => waiting.len() as u64 * 1000,
            seconds => (waiting.len() as u64).div_ceil(seconds),
        };
        let per_second = per_second.max(PER_SECOND_MIN);
        self.drain.farewell = Some(Farewell { waiting, begun: now.at, per_second, sent: 0 });
        self.send_away(now, sink);
    }

    /// Sends some of those away who wait or listen, and closes what is idle of them: they cannot stay with whoever takes
    /// over. Requests that are arriving are still answered.
    #[cold]
    pub fn send_some_away(&mut self, now: Now, ids: &[ConnId], sink: &mut impl Sink) {
        let was_draining = std::mem::replace(&mut self.drain.begun, true);
        for &id in ids {
            let Some(slot) = self.find(id) else { continue };
            let connection = &mut self.connections[slot];
            match connection.phase {
                Phase::Parked(_) => self.answer_poll(now, slot, Some(self.config.poll.no_news_status), sink),
                Phase::Streaming(_) | Phase::Socket(_) => self.end_stream(now.at, slot, sink),
                Phase::Idle if connection.output.is_none() => self.close(now.at, slot),
                Phase::Idle => connection.closing = true,
                Phase::Held(_) if self.pending.concerns(slot) => {}
                // Its session goes on.
                Phase::Held(_) => self.close(now.at, slot),
                Phase::Asking
                | Phase::Committing
                | Phase::Due
                | Phase::Reading
                | Phase::Lingering
                | Phase::Closed => {}
            }
        }
        self.drain.begun = was_draining;
    }

    /// Sends those away whose time has come, as many as a turn has deliveries.
    #[cold]
    pub(super) fn send_away(&mut self, now: Now, sink: &mut impl Sink) {
        let Some(mut farewell) = self.drain.farewell.take() else { return };
        let due = farewell.due(now.at).min(farewell.sent + self.config.turn.deliveries as u64);
        while farewell.sent < due {
            let Some(id) = farewell.waiting.pop_front() else { return };
            let Some(slot) = self.find(id) else { continue };
            farewell.sent += 1;
            match self.connections[slot].phase {
                Phase::Parked(_) => self.answer_poll(now, slot, Some(self.config.poll.no_news_status), sink),
                Phase::Streaming(_) | Phase::Socket(_) => self.end_stream(now.at, slot, sink),
                // It has been answered meanwhile.
                _ => {}
            }
        }
        self.drain.farewell = Some(farewell);
    }

    /// When the next one is sent away.
    pub(super) fn next_farewell(&self) -> Instant {
        self.drain.farewell.as_ref().map_or(Instant::NEVER, Farewell::next)
    }

    /// Whether a server that drains has no connection left.
    pub fn is_drained(&self) -> bool {
        self.drain.begun && self.connections.is_empty()
    }
}
