//! Taking rights back: who listens by a token that is revoked ends, or loses the channels, within the same turn.
//!
//! The request that revokes counts whom it concerns; they are told when the turn's answers are written, as nobody is
//! served inside another one's request. Nothing is delivered in between.

use super::{Server, Sink};
use crate::broker::access::{Grant, Revocation};
use crate::conn::{ConnId, Phase, Slot};
use crate::dialect::{Holder, Identity};
use crate::hub::Pattern;
use crate::time::Now;
use crate::transport::Ending;
use std::rc::Rc;

/// Connections that lose something, and what took it from them.
pub(super) type Revoked = Vec<(ConnId, Rc<Revocation>)>;

impl Server {
    /// Takes a right back, in this life and those to come. Returns how many lose something that they listened to.
    pub(super) fn revoke_for_good(&mut self, now: Now, revocation: Revocation) -> usize {
        self.broker.keep_revocation(&revocation);
        let (ended, left) = self.take_back(now, revocation);
        if let Some(left) = left.filter(|_| !self.broker.is_shared()) {
            self.broker.keep_revocation(&left);
        }
        ended
    }

    /// Takes a right back that was taken back elsewhere, or in an earlier life.
    pub(super) fn revoke(&mut self, now: Now, revocation: Revocation) {
        self.take_back(now, revocation);
    }

    /// Returns how many lose something that they listened to, and what is left of entries that had to go.
    #[cold]
    fn take_back(&mut self, now: Now, revocation: Revocation) -> (usize, Option<Revocation>) {
        self.broker.stats.rights_revoked += 1;
        let left = self.access.tokens.revoke(revocation.clone(), now.unix);
        self.access.hook.forget_said();
        let revocation = Rc::new(revocation);
        let mut ended = 0;
        for slot in self.concerned(&revocation) {
            let Some(connection) = self.connections.get(slot) else { continue };
            let is_socket = matches!(connection.phase, Phase::Socket(_));
            let loses = self.loses(slot, &revocation);
            ended += usize::from(loses);
            // A WebSocket that does not listen to them may not begin to, nor publish there.
            if loses || is_socket {
                self.queues.revoked.push((self.id(slot), Rc::clone(&revocation)));
            }
        }
        self.expel_absent(now, &revocation);
        self.consult(now, |dialects, context| ended += dialects.revoke(context, &revocation));
        (ended + self.revoke_mercure(now, &revocation), left)
    }

    /// Connections that listen by a token, or by a word of the application, which is taken back.
    fn concerned(&self, revocation: &Revocation) -> Vec<Slot> {
        let mut slots = self.rights.holders(|grant| revocation.concerns(grant));
        let by_word = self.access.hook.listeners.holders(|grant| revocation.concerns(grant));
        slots.extend(by_word.into_iter().filter_map(|holder| match holder {
            Holder::Connection(slot) => Some(slot),
            _ => None,
        }));
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// Whether a connection listens to something that is taken from it.
    fn loses(&self, slot: Slot, revocation: &Revocation) -> bool {
        let Some(key) = self.connections.get(slot).and_then(|connection| connection.subscriber()) else {
            return false;
        };
        let (names, patterns) = self.broker.hub.listens_to(key);
        let mut items = names.iter().map(|name| &**name).chain(patterns.iter().map(Pattern::as_str));
        revocation.channels.is_empty() || items.any(|item| revocation.takes(item))
    }

    /// Tells those who have lost something.
    #[cold]
    pub(super) fn end_revoked(&mut self, now: Now, sink: &mut impl Sink) {
        for (id, revocation) in std::mem::take(&mut self.queues.revoked) {
            let Some(slot) = self.find(id) else { continue };
            let keeps_some = !revocation.channels.is_empty();
            let is_socket = matches!(self.connections[slot].phase, Phase::Socket(_));
            match keeps_some && is_socket {
                true => self.take_from_socket(now, slot, &revocation, sink),
                false => self.end_right(now, slot, Ending::Revoked, sink),
            }
        }
    }

    /// Takes channels from an open WebSocket, which goes on with the others.
    fn take_from_socket(&mut self, now: Now, slot: Slot, revocation: &Revocation, sink: &mut impl Sink) {
        if let Some(grant) = self.rights.grant(slot).filter(|grant| revocation.concerns(grant)) {
            let except = grant.except.iter().chain(&revocation.channels).cloned().collect();
            let grant = Rc::new(Grant { except, ..Grant::clone(grant) });
            self.set_right(slot, &Identity { grant: Some(grant), ..Identity::default() });
        }
        // The application may allow it again: it is asked.
        let holder = Holder::Connection(slot);
        if self.access.hook.grant_of(holder).is_some_and(|grant| revocation.concerns(grant)) {
            self.access.hook.listeners.keep(holder, |name| !revocation.takes(name));
        }
        let key = self.connections[slot].subscriber();
        if let Some(key) = key {
            self.end_ungranted(now, slot, key, false);
        }
        self.send(now.at, slot, sink);
    }
}
