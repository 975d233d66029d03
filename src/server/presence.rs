//! Presence: who listens where is noted when it changes, and told on channels of its own.

use super::{Effect, Server};
use crate::broker::access::{Grant, Revocation, Whose};
use crate::broker::presence::Subject;
use crate::conn::{Connection, Phase, Slot};
use crate::dialect::Holder;
use crate::hub::{Owner, SubscriberKey};
use crate::time::Now;

/// So many who have come or gone are noted in a turn.
const MOVES_PER_TURN: usize = 1000;

/// Who that is whom `grant` names, and what others are told about them.
fn subject_of(grant: Option<&Grant>) -> Option<Subject> {
    let grant = grant?;
    Some((grant.subject.clone()?, grant.info.clone()))
}

/// The subscriber of a connection whose client is there. A poll still gets its answer when its client sends nothing more;
/// nearly always that client has gone.
fn present(connection: &Connection) -> Option<SubscriberKey> {
    let has_gone = connection.half_closed && matches!(connection.phase, Phase::Parked(_));
    connection.subscriber().filter(|_| !has_gone)
}

impl Server {
    /// Notes that the client of a poll sends nothing more.
    pub(super) fn note_hung_up(&mut self, slot: Slot) {
        if let Some(key) = self.connections.get(slot).and_then(|connection| connection.subscriber()) {
            self.broker.hub.note_moved(key);
        }
    }

    /// Whether somebody has come or gone, or is to be told of.
    pub(super) fn has_presence_work(&self, now: Now) -> bool {
        let is_due = self.broker.next_presence() <= now.at;
        is_due || self.broker.hub.has_moved() || self.broker.presence.has_news()
    }

    /// Notes some who have come and gone, and tells it.
    #[cold]
    pub(super) fn tick_presence(&mut self, now: Now) {
        if self.broker.is_reading() {
            return;
        }
        self.broker.tire_of_gathering(now.at);
        for _ in 0..MOVES_PER_TURN {
            let Some(owner) = self.broker.hub.next_moved() else { break };
            let key = match Holder::from(owner) {
                Holder::Connection(slot) => self.connections.get(slot).and_then(present),
                holder => self.dialects.subscriber(holder),
            };
            self.note_where(now, owner, key);
        }
        self.broker.presence.tick(now.at);
        let told = self.broker.tell_presence(now.at);
        self.queues.effects.extend(told.map(|proposal| Effect::Append(Box::new(proposal))));
    }

    /// Notes where a connection's subscriber listens, which may end within the turn: an interval poll is there, too.
    #[cold]
    pub(super) fn note_arrival(&mut self, now: Now, slot: Slot, key: SubscriberKey) {
        self.note_where(now, Holder::Connection(slot).into(), Some(key));
    }

    /// Notes where a subscriber listens, and who that is.
    pub(super) fn note_where(&mut self, now: Now, owner: Owner, key: Option<SubscriberKey>) {
        let channels = key.map(|key| self.broker.hub.shown_on(key)).unwrap_or_default();
        let holder = Holder::from(owner);
        let granted = match holder {
            _ if channels.is_empty() => None,
            Holder::Connection(slot) => self.rights.grant(slot).map(|grant| &**grant),
            holder => self.dialects.grant(holder),
        };
        let said = || if channels.is_empty() { None } else { self.access.hook.grant_of(holder) };
        let subject = subject_of(granted.or_else(said));
        self.broker.presence.note(now.at, owner, subject.as_ref(), channels);
    }

    /// Notes that who holds a connection has lost the right to some channels: that is told at once.
    pub(super) fn expel(&mut self, now: Now, slot: Slot, lost: impl Fn(&str) -> bool) {
        self.broker.presence.expel(now.at, Holder::Connection(slot).into(), lost);
    }

    /// The same for the subject that a revocation concerns, if it is between two connections.
    pub(super) fn expel_absent(&mut self, now: Now, revocation: &Revocation) {
        if let Whose::Subject(subject) = &revocation.whose {
            self.broker.presence.expel_absent(now.at, subject, |channel| revocation.takes(channel));
        }
    }
}
