//! Whose turn it is, and what is to be done yet: those who cannot be served at once, by how much has lately been done for
//! their address.
//!
//! Who asks little is served before who asks much, so that nobody has to wait for a flood; of a flood, some is served
//! in every turn. Behind a trusted proxy, it is the address that the proxy names. Addresses that limits do not hold for
//! ask nothing, as far as this goes.

use super::deliver::Turn;
use super::held::Outbox;
use super::revoking::Revoked;
use super::{Effect, Server, Sink};
use crate::broker::Rate;
use crate::carry::{carry, resume};
use crate::conn::{ConnId, Protocol, Slot};
use crate::hub::SubscriberKey;
use crate::id::Seed;
use crate::time::{Instant, Now};
use std::collections::{BTreeSet, VecDeque};

/// Work of an address, in this second or the one before, from which on it comes after those of whom less was done:
/// about as many microseconds of it.
const LEVELS: [u32; 3] = [5_000, 50_000, 200_000];
/// One of so many that are served is of those of whom most was done, so that nobody waits for ever.
const LAST_ONE_OF: u32 = 8;

/// What is to be done in this turn or in one of the next.
#[derive(Debug)]
pub(super) struct Queues {
    /// Those in [`Phase::Due`](crate::conn::Phase::Due), in the order in which they came to be. What one connection causes
    /// for another goes through here or through `outbox`: nobody is served inside somebody else's request.
    pub due: VecDeque<ConnId>,
    /// Those of them who have had their share of a turn, or of a second: they are served when everybody else has been.
    pub backlog: Backlog,
    /// Deliveries that come after those to others.
    pub put_off: PutOff,
    /// Broken connections whose end is much work.
    pub departed: VecDeque<ConnId>,
    /// What the protocols with sessions asked and has not been done yet.
    pub outbox: Outbox,
    /// Connections that a protocol held and that have gone, of which it has to be told.
    pub abandoned: Vec<(ConnId, Protocol)>,
    /// Connections whose channel was deleted, and who have to be told.
    pub deleted: Vec<ConnId>,
    /// Connections that have lost a right, and have to be told.
    pub revoked: Revoked,
    /// What is asked of the outside at the end of the turn.
    pub effects: VecDeque<Effect>,
    /// Work done for each address.
    pub work: Rate,
    /// Somebody is being served.
    #[cfg(any(test, feature = "check"))]
    pub serving: bool,
}

resume! {
    Queues {
        carried: due, backlog, put_off, departed, outbox, abandoned, deleted, revoked, effects;
        resumed: work;
        given: #[cfg(any(test, feature = "check"))] serving
    }
}

impl Queues {
    /// There is nothing to be done yet.
    pub fn new(seed: Seed) -> Self {
        Self {
            due: VecDeque::new(),
            backlog: Backlog::default(),
            put_off: PutOff::default(),
            departed: VecDeque::new(),
            outbox: Outbox::default(),
            abandoned: Vec::new(),
            deleted: Vec::new(),
            revoked: Revoked::default(),
            effects: VecDeque::new(),
            work: Rate::new(seed.key("work by address")),
            #[cfg(any(test, feature = "check"))]
            serving: false,
        }
    }

    /// Whether somebody waits to be served.
    pub fn has_waiting(&self) -> bool {
        !self.due.is_empty() || !self.backlog.is_empty()
    }

    /// Whether somebody has to be told something, or a protocol.
    pub const fn has_news(&self) -> bool {
        !self.outbox.is_empty()
            || !self.abandoned.is_empty()
            || !self.deleted.is_empty()
            || !self.revoked.is_empty()
    }

    /// Whether something comes last in a turn.
    pub fn has_last(&self) -> bool {
        !self.backlog.is_empty() || !self.put_off.is_empty() || !self.departed.is_empty()
    }
}

/// Connections whose bytes wait, but for those of whom little was done, by how much was done for their address.
#[derive(Debug, Default)]
pub struct Backlog {
    levels: [VecDeque<ConnId>; LEVELS.len()],
    served: u32,
}

carry! {
    struct Backlog { levels, served }
}

impl Backlog {
    /// Adds a connection whose address is at that level, from 1.
    pub fn push(&mut self, level: usize, id: ConnId) {
        self.levels[level.clamp(1, LEVELS.len()) - 1].push_back(id);
    }

    /// The next whose turn it is.
    pub fn pop(&mut self) -> Option<ConnId> {
        self.served = self.served.wrapping_add(1);
        match self.served.is_multiple_of(LAST_ONE_OF) {
            true => self.levels.iter_mut().rev().find_map(VecDeque::pop_front),
            false => self.levels.iter_mut().find_map(VecDeque::pop_front),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.levels.iter().all(VecDeque::is_empty)
    }

    /// Whether a connection is among them.
    #[cfg(any(test, feature = "check"))]
    pub fn contains(&self, id: ConnId) -> bool {
        self.levels.iter().flatten().any(|other| *other == id)
    }
}

/// Deliveries that come after those to others.
#[derive(Debug, Default)]
pub struct PutOff {
    order: VecDeque<(ConnId, SubscriberKey)>,
    known: BTreeSet<SubscriberKey>,
}

carry! {
    struct PutOff { order, known }
}

impl PutOff {
    /// Adds one, once.
    fn push(&mut self, id: ConnId, key: SubscriberKey) {
        if self.known.insert(key) {
            self.order.push_back((id, key));
        }
    }

    fn pop(&mut self) -> Option<(ConnId, SubscriberKey)> {
        let next = self.order.pop_front()?;
        self.known.remove(&next.1);
        Some(next)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

impl Server {
    /// After whom a connection is served: 0 = nobody, as little has been done for its address.
    pub(super) fn level(&self, now: Instant, slot: Slot) -> usize {
        let Some(payer) = self.payer(slot) else { return 0 };
        let work = self.queues.work.recent(now, payer);
        LEVELS.iter().filter(|&&from| work >= from).count()
    }

    /// Counts what has been done for the address of a connection: so many units, or as many microseconds as it took.
    pub(super) fn note_work(&mut self, now: Instant, slot: Slot, units: usize, sink: &mut impl Sink) {
        if let Some(payer) = self.payer(slot) {
            let units = u32::try_from(units).unwrap_or(u32::MAX);
            self.queues.work.add(now, payer, units.max(sink.spent()));
        }
    }

    /// Puts the delivery to a connection off until others have had theirs, if much has been done for its address.
    pub(super) fn puts_off(&mut self, now: Instant, slot: Slot, key: SubscriberKey) -> bool {
        let is_late = self.level(now, slot) > 0;
        if is_late {
            let id = self.id(slot);
            self.queues.put_off.push(id, key);
        }
        is_late
    }

    /// Makes the deliveries that were put off, in what is left of the turn, and one of them in any case.
    #[cold]
    pub(super) fn deliver_put_off(&mut self, now: Now, sink: &mut impl Sink) {
        for _ in 0..self.config.turn.deliveries {
            let Some((id, key)) = self.queues.put_off.pop() else { return };
            // It may have gone, and its place have been taken.
            if let Some(slot) = self.find(id)
                && self.connections[slot].subscriber() == Some(key)
            {
                self.deliver_to(now, slot, key, Turn::Late, sink);
            }
            if sink.is_late() {
                return;
            }
        }
    }

    /// Closes connections that are broken and whose subscribers are on thousands of lists: one in any case, the others
    /// while there is time.
    #[cold]
    pub(super) fn close_departed(&mut self, now: Now, sink: &mut impl Sink) {
        while let Some(id) = self.queues.departed.pop_front() {
            if let Some(slot) = self.find(id) {
                self.close(now.at, slot);
            }
            if sink.is_late() {
                return;
            }
        }
    }
}
