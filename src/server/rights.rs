//! By what right each connection listens.
//!
//! A connection has a number for its grant, four bytes in an array beside the table of connections; the grants
//! themselves are shared by all who listen by the same token.

mod lapses;

use super::Server;
use crate::broker::access::{Asker, Bearer, Grant, Word};
use crate::carry::{Carry, Damaged, Parcel, Resume, Shape, Unpack, carry};
use crate::conn::Slot;
use crate::dialect::identity::may_ask;
use crate::dialect::{Holder, Identity, native};
use crate::time::{Instant, Now};
use crate::wire::head::Head;
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Seconds that a connection may take to drain whose right has ended.
pub(super) const ENDED_SECONDS: u64 = 5;

/// Numbers below this say something of their own.
const GRANTS: u32 = 3;
const NOBODY: u32 = 0;
const PUBLISHER: u32 = 1;
const ENDED: u32 = 2;

/// By what right connections listen.
#[derive(Debug, Default)]
pub(super) struct Rights {
    /// By slot.
    numbers: Vec<u32>,
    grants: Slab<Held>,
    /// The grants by their address, which is theirs for as long as they are held.
    known: BTreeMap<*const Grant, usize>,
    /// WebSockets that began without channels and have not subscribed to any yet.
    waiting: BTreeSet<Slot>,
    /// Who uses an open WebSocket, as the application is told, where it is asked.
    askers: BTreeMap<Slot, Rc<Asker>>,
    /// Commands of WebSockets that wait for the application's word.
    commands: BTreeMap<Slot, Box<str>>,
    /// The command at hand has to wait for it.
    must_wait: bool,
    /// What the application has said about the command at hand.
    said: Vec<Rc<Word>>,
    /// The settings have changed: the slot from which on connections have yet to be judged again, and from which places
    /// on sessions have.
    unjudged: Option<usize>,
    unjudged_sessions: [Option<usize>; 2],
    /// Publish tokens are others than they were.
    publishers_left: bool,
}

#[derive(Debug)]
struct Held {
    grant: Rc<Grant>,
    holders: usize,
}

carry! {
    struct Held { grant, holders }
}

impl Resume for Rights {
    fn shape(shape: &mut Shape) {
        shape.add("Rights");
        shape.field("numbers", |it: &Self| &it.numbers);
        shape.field("grants", |it: &Self| &it.grants);
        shape.field("waiting", |it: &Self| &it.waiting);
        shape.field("askers", |it: &Self| &it.askers);
        shape.field("commands", |it: &Self| &it.commands);
        shape.field("unjudged", |it: &Self| &it.unjudged);
        shape.field("unjudged_sessions", |it: &Self| &it.unjudged_sessions);
        shape.field("publishers_left", |it: &Self| &it.publishers_left);
    }

    fn pack(&self, parcel: &mut Parcel) {
        let Self {
            numbers,
            grants,
            known: _,
            waiting,
            askers,
            commands,
            must_wait: _,
            said: _,
            unjudged,
            unjudged_sessions,
            publishers_left,
        } = self;
        numbers.pack(parcel);
        grants.pack(parcel);
        waiting.pack(parcel);
        askers.pack(parcel);
        commands.pack(parcel);
        unjudged_sessions.pack(parcel);
        (*unjudged, *publishers_left).pack(parcel);
    }

    fn resume(&mut self, from: &mut Unpack) -> Result<(), Damaged> {
        let (numbers, grants, waiting) = Carry::unpack(from)?;
        let (askers, commands) = (Carry::unpack(from)?, Carry::unpack(from)?);
        let unjudged_sessions = Carry::unpack(from)?;
        let (unjudged, publishers_left) = Carry::unpack(from)?;
        let grants: Slab<Held> = grants;
        let known = grants.iter().map(|(key, held)| (Rc::as_ptr(&held.grant), key)).collect();
        *self = Self {
            numbers,
            grants,
            known,
            waiting,
            askers,
            commands,
            unjudged,
            unjudged_sessions,
            publishers_left,
            ..Self::default()
        };
        Ok(())
    }
}

impl Rights {
    /// Has every connection judged again. `publishers_left` tells that publish tokens have changed.
    pub(super) fn judge_all(&mut self, publishers_left: bool) {
        self.unjudged = Some(0);
        self.unjudged_sessions = [Some(0); 2];
        self.publishers_left |= publishers_left;
    }

    /// Forgets who may what, as nobody asks any more. Commands that wait are carried out.
    pub(super) fn forget(&mut self) {
        *self = Self { commands: std::mem::take(&mut self.commands), ..Self::default() };
    }

    /// Whether there are connections to be judged again.
    pub(super) fn has_unjudged(&self) -> bool {
        self.unjudged.is_some() || self.unjudged_sessions.iter().any(Option::is_some)
    }

    fn number(&self, slot: Slot) -> u32 {
        self.numbers.get(slot.index()).copied().unwrap_or(NOBODY)
    }

    fn set(&mut self, slot: Slot, number: u32) {
        let index = slot.index();
        if index >= self.numbers.len() {
            if number == NOBODY {
                return;
            }
            self.numbers.resize(index + 1, NOBODY);
        }
        let old = std::mem::replace(&mut self.numbers[index], number);
        let Some(key) = old.checked_sub(GRANTS).map(|key| key as usize) else { return };
        let held = &mut self.grants[key];
        held.holders -= 1;
        if held.holders == 0 {
            let held = self.grants.remove(key);
            self.known.remove(&Rc::as_ptr(&held.grant));
        }
    }

    fn set_grant(&mut self, slot: Slot, grant: &Rc<Grant>) {
        let address = Rc::as_ptr(grant);
        let key = match self.known.get(&address) {
            Some(key) => *key,
            None => {
                let key = self.grants.insert(Held { grant: Rc::clone(grant), holders: 0 });
                self.known.insert(address, key);
                key
            }
        };
        self.grants[key].holders += 1;
        self.set(slot, key as u32 + GRANTS);
    }

    /// What was granted to who listens there.
    pub(super) fn grant(&self, slot: Slot) -> Option<&Rc<Grant>> {
        let key = self.number(slot).checked_sub(GRANTS)?;
        self.grants.get(key as usize).map(|held| &held.grant)
    }

    /// Who uses an open WebSocket.
    pub(super) fn asker(&self, slot: Slot) -> Option<Rc<Asker>> {
        self.askers.get(&slot).map(Rc::clone)
    }

    /// Whether a command of a WebSocket waits for the application's word.
    pub(super) fn has_command(&self, slot: Slot) -> bool {
        !self.commands.is_empty() && self.commands.contains_key(&slot)
    }

    /// Takes the command that waits.
    pub(super) fn take_command(&mut self, slot: Slot) -> Option<Box<str>> {
        self.commands.remove(&slot)
    }

    /// Has the command at hand wait.
    pub(super) const fn note_wait(&mut self) {
        self.must_wait = true;
    }

    /// Keeps the command at hand if it has to wait. Returns whether it has.
    pub(super) fn keep_command(&mut self, slot: Slot, text: &str) -> bool {
        let waits = std::mem::take(&mut self.must_wait);
        if waits {
            self.commands.insert(slot, text.into());
        }
        waits
    }

    /// Notes what the application has said about the command at hand.
    pub(super) fn set_said(&mut self, said: Vec<Rc<Word>>) {
        self.said = said;
    }

    /// What it has said.
    pub(super) fn said(&self) -> &[Rc<Word>] {
        &self.said
    }

    /// Whether the right of that connection has ended, so that it only drains.
    pub(super) fn has_ended(&self, slot: Slot) -> bool {
        self.number(slot) == ENDED
    }

    /// The slots of who listens by a grant of which `is_meant` says yes.
    pub(super) fn holders(&self, is_meant: impl Fn(&Grant) -> bool) -> Vec<Slot> {
        let meant: Vec<bool> = {
            let mut meant = vec![false; self.grants.capacity()];
            self.grants.iter().for_each(|(key, held)| meant[key] = is_meant(&held.grant));
            meant
        };
        let holds = |number: &u32| {
            let key = number.checked_sub(GRANTS).map(|key| key as usize);
            key.is_some_and(|key| meant.get(key).copied().unwrap_or(false))
        };
        let slots = self.numbers.iter().enumerate().filter(|(_, number)| holds(number));
        slots.map(|(index, _)| Slot::new(index as u32)).collect()
    }

    fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.grants.iter().map(|(_, held)| &*held.grant)
    }
}

impl Server {
    /// Notes by what right the connection listens from now on.
    pub(super) fn note_right(&mut self, now: Now, slot: Slot, identity: &Identity) {
        if !self.access.is_on() {
            return;
        }
        self.access.hook.end(Holder::Connection(slot));
        if !identity.said.is_empty() {
            self.note_words(now, slot, &identity.said);
        }
        self.set_right(slot, identity);
    }

    /// Notes what a token grants to who uses the connection.
    pub(super) fn set_right(&mut self, slot: Slot, identity: &Identity) {
        match &identity.grant {
            Some(grant) => {
                self.access.note(grant);
                self.rights.set_grant(slot, grant);
            }
            None => self.rights.set(slot, if identity.publisher { PUBLISHER } else { NOBODY }),
        }
    }

    /// Forgets by what right the connection listened.
    pub(super) fn forget_right(&mut self, slot: Slot) {
        if self.access.is_on() {
            self.rights.set(slot, NOBODY);
            self.access.hook.end(Holder::Connection(slot));
            self.rights.askers.remove(&slot);
            self.end_waiting(slot);
        }
        // One may wait from before the rules were others.
        if !self.rights.commands.is_empty() {
            self.rights.commands.remove(&slot);
        }
    }

    /// Notes who uses a WebSocket, if the application may have to be asked about what they send.
    pub(super) fn remember_asker(&mut self, slot: Slot, head: &Head) {
        if self.access.rules.asks() && may_ask(head, &self.config) {
            let client = self.client(slot, head);
            let asker = Asker::of(head, client, native::technique(head), &self.config);
            self.rights.askers.insert(slot, Rc::new(asker));
        }
    }

    /// Who uses an open WebSocket. `may_publish` is what its handshake had shown.
    pub(super) fn bearer(&self, slot: Slot, may_publish: bool) -> Bearer<'_> {
        let publisher = self.rights.number(slot) == PUBLISHER;
        let local = may_publish && !publisher && self.config.publish.token.is_empty();
        let is_application = may_publish && !self.access.is_on() && !local;
        Bearer {
            publisher: publisher || is_application,
            local,
            grant: self.rights.grant(slot).map(|grant| &**grant),
            held: self.access.hook.grant_of(Holder::Connection(slot)),
            said: self.rights.said(),
        }
    }

    /// Notes that a WebSocket has begun without channels.
    pub(super) fn expect_subscription(&mut self, slot: Slot) {
        self.rights.waiting.insert(slot);
    }

    /// Notes that a WebSocket listens to something, or is gone.
    pub(super) fn end_waiting(&mut self, slot: Slot) {
        self.rights.waiting.remove(&slot);
    }

    /// Until when a WebSocket that began without channels must have said what it wants.
    pub(super) fn first_subscription_end(&self, slot: Slot) -> Instant {
        match self.rights.waiting.contains(&slot) {
            true => self.connections[slot].since.plus_seconds(self.config.limits.head_seconds),
            false => Instant::NEVER,
        }
    }
}
