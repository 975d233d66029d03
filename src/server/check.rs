//! What always holds in a server between two turns: for tests, the simulation and the fuzzer.

use super::{Effect, PIPELINE_BYTES_MAX, Server, note_of};
use crate::conn::{Phase, Slot};
use crate::dialect::Holder;
use crate::time::{Instant, Now};

impl Server {
    /// Panics if connections, subscribers, timers and what is kept for them contradict each other. To be
    /// called when a turn is over.
    pub fn check(&self, now: Now) {
        self.broker.hub.check();
        let mut listening = 0;
        for (slot, connection) in self.connections.iter() {
            if matches!(connection.phase, Phase::Closed) {
                let end = Effect::Close(self.id(slot));
                assert!(self.queues.effects.contains(&end), "{slot:?} is closed and nobody is told");
                continue;
            }
            if let Some(subscriber) = connection.subscriber() {
                assert_eq!(
                    self.broker.hub.owner(subscriber),
                    Holder::Connection(slot).into(),
                    "whose subscriber is that?"
                );
                assert_eq!(
                    self.broker.hub.noted(subscriber),
                    note_of(connection),
                    "{slot:?}: how is it written to?"
                );
                listening += 1;
            }
            if self.is_asking(slot) {
                let id = self.id(slot);
                let waits = self.access.hook.is_waiting(id) || self.queues.due.contains(&id);
                assert!(waits, "{slot:?} waits for a word that nobody will say");
            }
            if matches!(connection.phase, Phase::Due) {
                let id = self.id(slot);
                assert!(
                    self.queues.due.contains(&id) || self.queues.backlog.contains(id),
                    "{slot:?} is due and nobody will serve it"
                );
            }
            let due = self.deadline(slot, now.at);
            let is_dismissed = self.queues.deleted.contains(&self.id(slot));
            let is_timed = due == Instant::NEVER || self.wheel.fires_by(slot, due) || is_dismissed;
            assert!(is_timed, "{slot:?}: nothing will end {connection:?} in time");
            self.check_input(slot);
        }
        assert_eq!(
            self.broker.hub.owners().filter(|&owner| Holder::connection(owner).is_some()).count(),
            listening
        );
        let is_socket = |slot: &Slot| {
            self.connections.get(*slot).is_some_and(|found| matches!(found.phase, Phase::Socket(_)))
        };
        assert!(self.aside.incoming.keys().all(is_socket), "part of a message is kept for nobody");
        assert!(self.aside.callbacks.len() <= listening, "a callback is kept for nobody");
        let is_answering = |slot: Slot| {
            let phase = self.connections.get(slot).map(|found| &found.phase);
            !matches!(phase, None | Some(Phase::Idle | Phase::Reading | Phase::Lingering | Phase::Closed))
        };
        assert!(self.log_open().all(is_answering), "a line of the access log is kept for nobody");
        let is_streaming = |slot: Slot| {
            self.connections.get(slot).is_some_and(|found| matches!(found.phase, Phase::Streaming(_)))
        };
        let mut listeners = self.mercure.iter().flat_map(|mercure| mercure.slots());
        assert!(listeners.all(is_streaming), "a listener of Mercure is kept for nobody");
        let is_open = |slot: &Slot| self.connections.contains(*slot);
        assert!(self.aside.origins.keys().all(is_open), "an origin is kept for nobody");
        assert!(self.aside.clients.keys().all(is_open), "an address is kept for nobody");
    }

    /// Bytes of answers that are kept because nobody takes them.
    pub fn unsent_bytes(&self) -> usize {
        let outputs = self.connections.iter().filter_map(|(_, connection)| connection.output.as_ref());
        outputs.map(|output| output.own_len()).sum()
    }

    /// What has arrived is bounded, and kept only where somebody will come back to it.
    fn check_input(&self, slot: Slot) {
        let connection = &self.connections[slot];
        let Some(input) = &connection.input else { return };
        let waits = connection.output.is_some();
        let phase_may = match connection.phase {
            Phase::Idle => waits || input.is_blank() || connection.door.surplus().is_some(),
            Phase::Due
            | Phase::Reading
            | Phase::Committing
            | Phase::Asking
            | Phase::Parked(_)
            | Phase::Held(_) => true,
            Phase::Socket(_) if self.rights.has_command(slot) => true,
            Phase::Socket(_) => {
                self.queues.due.contains(&self.id(slot)) || self.queues.backlog.contains(self.id(slot))
            }
            Phase::Streaming(_) | Phase::Lingering | Phase::Closed => waits,
        };
        assert!(phase_may, "{slot:?}: bytes wait that nobody will look at: {connection:?}");
        let bound = PIPELINE_BYTES_MAX.max(self.config.limits.head_bytes) + PIPELINE_BYTES_MAX;
        assert!(input.waiting_len() <= bound, "{slot:?}: {} bytes wait", input.waiting_len());
    }

    /// Panics unless everything has been given back: nobody is connected, and all that could expire has.
    pub fn check_nothing_left(&self, now: Now) {
        let hub = self.broker.hub.gauges();
        assert_eq!((hub.channels, hub.subscribers, hub.messages, hub.bytes), (0, 0, 0, 0));
        assert_eq!((self.connections.len(), self.wheel.len()), (0, 0));
        assert_eq!(self.next_deadline(now), Instant::NEVER);
        assert!(!self.queues.has_news() && !self.queues.has_waiting() && !self.queues.has_last());
        assert!(self.readers.is_empty());
        assert!(self.aside.is_empty(), "something is kept for nobody");
        assert!(self.broker.presence.is_empty(), "somebody is thought to be there");
        assert!(self.access.hook.is_idle(), "the application is asked for nobody");
        assert!(self.queues.effects.is_empty());
        assert!(self.writer.out.capacity() <= 2 * PIPELINE_BYTES_MAX);
    }
}
