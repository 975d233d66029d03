//! What has arrived and waits for its turn: whose it is, and when.

use super::{Effect, Server, Sink};
use crate::conn::{ConnId, Phase, Slot};
use crate::time::{Instant, Now};

impl Server {
    /// Has what waited behind an answer that has now been given served when the connection's turn comes.
    /// Whoever `has_had` a share of the turn comes after those who have not.
    pub(super) fn serve_later(&mut self, now: Instant, slot: Slot, has_had: bool) {
        let id = self.id(slot);
        let level = self.level(now, slot).max(usize::from(has_had));
        let connection = &mut self.connections[slot];
        let is_free = matches!(connection.phase, Phase::Idle | Phase::Reading);
        if is_free && (connection.input.is_some() || connection.half_closed) {
            connection.enter(Phase::Due, now);
            match level {
                0 => self.queues.due.push_back(id),
                _ => self.queues.backlog.push(level, id),
            }
            if has_had {
                self.queues.effects.push_back(Effect::Pause(id));
            }
            self.arm(slot, now);
        }
    }

    /// Whether what has just arrived has to wait: the turn is over, or its address has had more than its share of this
    /// second while others wait.
    pub(super) fn must_wait(&mut self, now: Now, slot: Slot, bytes: &[u8], sink: &mut impl Sink) -> bool {
        if self.is_proxied(slot) {
            self.look_who_asks(slot, bytes);
        }
        sink.is_late() || self.level(now.at, slot) > 0
    }

    /// Keeps what has just arrived until the connection's turn comes.
    #[cold]
    pub(super) fn defer(&mut self, now: Now, slot: Slot, bytes: &[u8]) {
        let id = self.id(slot);
        let level = self.level(now.at, slot);
        let connection = &mut self.connections[slot];
        let is_queued = connection.input.is_some() && matches!(connection.phase, Phase::Socket(_));
        connection.input.get_or_insert_default().push(bytes);
        self.memory.gathered += bytes.len();
        self.queues.effects.push_back(Effect::Pause(id));
        match connection.phase {
            Phase::Socket(_) if is_queued => {}
            Phase::Socket(_) if level > 0 => self.queues.backlog.push(level, id),
            Phase::Socket(_) => self.queues.due.push_back(id),
            _ => self.serve_later(now.at, slot, level > 0),
        }
    }

    /// Whether bytes of a connection wait for its turn, so that no more should be read of it.
    pub fn is_waiting(&self, id: ConnId) -> bool {
        self.find(id).is_some_and(|slot| {
            let connection = &self.connections[slot];
            matches!(connection.phase, Phase::Due)
                || matches!(connection.phase, Phase::Socket(_)) && connection.input.is_some()
        })
    }

    /// Serves those whose turn it is, at most as many as sockets are read in a turn, and while it lasts.
    #[inline(never)]
    pub(super) fn serve_due(&mut self, now: Now, sink: &mut impl Sink) {
        if self.broker.is_loading() {
            return;
        }
        // Who comes to be due meanwhile has the next turn.
        for count in 0..self.queues.due.len().min(self.config.turn.reads) {
            if sink.is_late() && count > 0 {
                return;
            }
            let Some(id) = self.queues.due.pop_front() else { return };
            // Much may have been done for its address since.
            match self.find(id).map_or(0, |slot| self.level(now.at, slot)) {
                0 => self.serve_waiting(now, id, sink),
                level => self.queues.backlog.push(level, id),
            }
        }
    }

    /// Serves those who have had their share, in what is left of the turn.
    #[inline(never)]
    pub(super) fn serve_backlog(&mut self, now: Now, sink: &mut impl Sink) {
        if self.broker.is_loading() {
            return;
        }
        for _ in 0..self.config.turn.reads {
            let Some(id) = self.queues.backlog.pop() else { return };
            self.serve_waiting(now, id, sink);
            if sink.is_late() {
                return;
            }
        }
    }

    /// Serves what waited.
    pub(super) fn serve_waiting(&mut self, now: Now, id: ConnId, sink: &mut impl Sink) {
        let Some(slot) = self.find(id) else { return };
        if self.rights.has_command(slot) && !self.command_again(now, slot, sink) {
            return;
        }
        let waiting = self.take_waiting(slot);
        match self.connections[slot].phase {
            Phase::Due => {
                self.connections[slot].enter(Phase::Idle, now.at);
                let was_asked = self.access.hook.has_said(id);
                if was_asked && !self.go_on_with_body(now, slot, sink) {
                    if let Some(input) = &mut self.connections[slot].input {
                        input.push(&waiting);
                    }
                    return;
                }
                self.serve(now, slot, &waiting, sink);
                if was_asked && !self.find(id).is_some_and(|slot| self.is_asking(slot)) {
                    self.access.hook.forget(id);
                }
            }
            Phase::Socket(_) => {
                self.receive_frames(now, slot, &waiting, sink);
                let connection = &self.connections[slot];
                if matches!(connection.phase, Phase::Socket(_)) && connection.is_done() {
                    self.close(now.at, slot);
                }
            }
            _ => {}
        }
        if !self.is_waiting(id) {
            self.queues.effects.push_back(Effect::Resume(id));
        }
    }

    /// Takes the bytes that waited; a body that is being gathered stays, and how many requests came before them.
    pub(super) fn take_waiting(&mut self, slot: Slot) -> Vec<u8> {
        let place = &mut self.connections[slot].input;
        let Some(input) = place else { return Vec::new() };
        let waiting = input.take_waiting();
        place.take_if(|input| !input.in_body() && input.served == 0);
        waiting
    }
}
