//! Waiting for the application's word: requests and commands whose bytes wait, and those who listen by what it said.
//!
//! When the application has said something, or its time is over, the bytes are handled again from the beginning, in the
//! connection's turn; nothing of them has happened before. So there is one way to carry out a request, and a client that
//! leaves leaves nothing behind.

use super::{Server, Sink};
use crate::broker::access::{Asker, Question, Word};
use crate::conn::{ConnId, Phase, Slot};
use crate::dialect::hook::{Due, Reply};
use crate::dialect::identity::may_ask;
use crate::dialect::{Denial, Heard, Holder, Unheard, native};
use crate::hub::Pattern;
use crate::time::Now;
use crate::transport::Ending;
use crate::wire::head::Head;
use std::rc::Rc;

impl Server {
    /// What the application says about what a request asks for, while `bytes` of it may have to wait.
    #[cold]
    pub(super) fn hear(
        &mut self,
        now: Now,
        slot: Slot,
        head: &Head,
        unheard: Unheard,
        bytes: usize,
    ) -> Heard {
        if !may_ask(head, &self.config) {
            return Heard::Denied(Denial::OtherPage);
        }
        let client = self.client(slot, head);
        let asker = Rc::new(Asker::of(head, client, native::technique(head), &self.config));
        let question = Question::new(unheard.action, unheard.channels, asker);
        let from = (self.id(slot), client);
        self.access.hear(now, from, question, bytes, &mut self.broker.stats)
    }

    /// The same for a command on an open WebSocket, of whose handshake is known who asks.
    #[cold]
    pub(super) fn hear_command(&mut self, now: Now, slot: Slot, unheard: Unheard, bytes: usize) -> Heard {
        let Some(asker) = self.rights.asker(slot) else { return Heard::Denied(Denial::OtherPage) };
        let question = Question::new(unheard.action, unheard.channels, asker);
        let from = (self.id(slot), self.client_of(slot));
        self.access.hear(now, from, question, bytes, &mut self.broker.stats)
    }

    /// Has the bytes of the request in `slot` wait.
    #[cold]
    pub(super) fn wait_for_word(&mut self, now: Now, slot: Slot) {
        // It is counted when it is handled again.
        self.broker.stats.requests = self.broker.stats.requests.saturating_sub(1);
        self.connections[slot].enter(Phase::Asking, now.at);
    }

    /// Whether something of the connection waits for the application's word.
    pub(super) fn is_asking(&self, slot: Slot) -> bool {
        match self.connections[slot].phase {
            Phase::Asking => true,
            Phase::Socket(_) => self.rights.has_command(slot),
            _ => false,
        }
    }

    /// Takes what the application has answered to a question.
    #[cold]
    pub fn hear_answer(&mut self, now: Now, number: u64, reply: &Reply, sink: &mut impl Sink) {
        self.access.hook.answered(now, number, reply, &mut self.broker.stats);
        self.act_on_words(now, sink);
    }

    /// Gives up on answers that are late, and has the application asked about those who listen.
    #[cold]
    pub(super) fn tick_hook(&mut self, now: Now, sink: &mut impl Sink) {
        for due in self.access.hook.expire(now) {
            match due {
                Due::Again(holder) => {
                    let listened = self.listened(now, holder);
                    self.access.hook.ask_again(now, holder, &listened);
                }
                Due::Ended(Holder::Connection(slot)) => self.end_right(now, slot, Ending::Expired, sink),
                Due::Ended(holder) => {
                    self.consult(now, |dialects, context| dialects.end_word(context, holder));
                }
            }
        }
        self.act_on_words(now, sink);
    }

    /// The channels that somebody listens to by name.
    fn listened(&mut self, now: Now, holder: Holder) -> Vec<Rc<str>> {
        match holder {
            Holder::Connection(slot) => {
                let key = self.connections.get(slot).and_then(|connection| connection.subscriber());
                key.map_or_else(Vec::new, |key| self.broker.hub.listens_to(key).0)
            }
            _ => {
                let mut names = Vec::new();
                self.consult(now, |dialects, context| names = dialects.listened(context, holder));
                names
            }
        }
    }

    /// Does what follows from what the application has said.
    fn act_on_words(&mut self, now: Now, sink: &mut impl Sink) {
        for (holder, word) in self.access.hook.take_confirmed() {
            let is_same = self.access.hook.confirm(now.at, holder, &word);
            match holder {
                Holder::Connection(slot) => self.confirm_connection(now, slot, is_same, sink),
                _ => self.consult(now, |dialects, context| dialects.confirm(context, holder, is_same)),
            }
        }
        self.act(now, sink);
        for id in self.access.hook.take_ready() {
            self.handle_later(now, id);
        }
    }

    /// Judges who listens by what the application has said when it was asked again. Who is somebody else by now ends.
    fn confirm_connection(&mut self, now: Now, slot: Slot, is_same: bool, sink: &mut impl Sink) {
        let Some(connection) = self.connections.get(slot) else { return };
        let Some(key) = connection.subscriber() else { return self.forget_right(slot) };
        let is_socket = matches!(connection.phase, Phase::Socket(_));
        if is_same && is_socket {
            self.end_ungranted(now, slot, key, false);
            return self.send(now.at, slot, sink);
        }
        let (names, patterns) = self.broker.hub.listens_to(key);
        let items = names.iter().map(|name| &**name).chain(patterns.iter().map(Pattern::as_str));
        if !is_same || self.access.judge_subscribe(self.bearer(slot, false), items).is_err() {
            self.end_right(now, slot, Ending::Revoked, sink);
        }
    }

    /// Has the bytes that waited handled when the connection's turn comes.
    pub(super) fn handle_later(&mut self, now: Now, id: ConnId) {
        match self.find(id) {
            Some(slot) if matches!(self.connections[slot].phase, Phase::Asking) => {
                self.connections[slot].enter(Phase::Due, now.at);
                self.queues.due.push_back(id);
                self.arm(slot, now.at);
            }
            Some(slot) if self.is_asking(slot) => self.queues.due.push_back(id),
            _ => self.access.hook.forget(id),
        }
    }

    /// Notes by what word of the application the connection listens from now on.
    pub(super) fn note_words(&mut self, now: Now, slot: Slot, said: &[Rc<Word>]) {
        for word in said.iter().filter(|word| !word.grant.subscribe.is_empty()) {
            self.access.hook.listen(now.at, Holder::Connection(slot), word);
        }
    }
}
