//! Presence with a history that several servers share: what they say of who listens there is in the log, and is told of as it
//! comes from there.

use super::Broker;
use super::waiting::Proposals;
use crate::hub::PRESENCE;
use crate::id::Seq;
use crate::log::{NodeId, Proposal, Record, Said};
use crate::time::Instant;

impl Proposals {
    /// Whether what waits has to wait on: nothing is proposed that can be said later.
    const fn is_blocked(&self) -> bool {
        self.loading || self.closed || self.shared.away.is_some()
    }
}

impl Broker {
    /// When something is to be done about who is here.
    pub fn next_presence(&self) -> Instant {
        let own = self.presence.next_deadline();
        match &self.log {
            Some(log) if self.presence.is_shared() && !log.is_blocked() => {
                own.min(self.presence.next_saying(&log.shared.nodes))
            }
            _ => own,
        }
    }

    /// Says to the other servers who is here, and what else there is to say. Returns a proposal of it.
    #[cold]
    pub(super) fn say_presence(&mut self, now: Instant) -> Option<Proposal> {
        self.presence.say_news();
        let log = self.log.as_mut().filter(|log| !log.is_blocked())?;
        let (ahead_ms, nodes) = (log.ahead_ms, &log.shared.nodes);
        let time = |at: Instant| crate::log::LogTime(at.as_millis() + ahead_ms);
        let (records, sent) = self.presence.say(now, nodes, time);
        for (place, record) in (1..).zip(records) {
            log.stage(place, record);
        }
        let proposal = self.propose(now)?;
        self.presence.note_sent(proposal.ticket, sent);
        Some(proposal)
    }

    /// Takes what a server has said. Returns whether that is told by a message, which has its number.
    pub(super) fn apply_said(
        &mut self,
        at: Instant,
        (seq, node): (Seq, NodeId),
        channel: &str,
        what: &Said,
    ) -> bool {
        let name = format!("{PRESENCE}{channel}");
        if let Some(log) = &mut self.log {
            log.shared.nodes.heard(at, node);
        }
        let before =
            self.hub.value(at, &name, what.subject()).map(|message| message.publication.data.bytes());
        let (told, has_thinned) = self.presence.apply(at, (seq, node), channel, what, before);
        if has_thinned {
            self.say_untold(at, &name, channel);
        }
        // Those who do not show it may have to soon: they know, and do not tell.
        let Some(publication) = told.filter(|_| self.hub.is_presence(&name)) else { return false };
        self.hub.commit(at, &name, seq, publication);
        true
    }

    /// Has those said again who came when there were too many to be told.
    #[cold]
    fn say_untold(&mut self, at: Instant, name: &str, channel: &str) {
        for subject in self.presence.subjects_here(channel) {
            if self.hub.value(at, name, &subject).is_none() {
                self.presence.mark(channel, &subject);
            }
        }
    }

    /// Takes what a server says of itself, or of all who are there.
    #[cold]
    pub(super) fn apply_of_node(&mut self, now: Instant, at: Instant, seq: Seq, record: Record) {
        let Some(log) = &mut self.log else { return };
        let nodes = &mut log.shared.nodes;
        match record {
            Record::Beat { node, lease_ms } => {
                nodes.beat(at, node, lease_ms);
                if node == nodes.me() {
                    let dead = nodes.bury(now, |node| self.presence.has(node));
                    self.presence.forget(&dead);
                }
            }
            // Its clients have as long to come elsewhere as they would have there.
            Record::Left(node) => nodes.leave(node, at + self.presence.pause_ms()),
            Record::Asked(_) if !log.loading && self.hub.has_presence() => self.presence.note_asked(now, seq),
            Record::AllSaid { node, since } if !log.loading => self.presence.note_all_said(node, since),
            _ => {}
        }
    }

    /// Notes that nobody could beat until now.
    pub(super) fn renew_nodes(&mut self, now: Instant) {
        if let Some(log) = &mut self.log {
            log.shared.nodes.renew(now);
        }
    }

    /// Asks the other servers who is there, as the rules have changed.
    pub(super) fn ask_who_is_here(&mut self) {
        if self.hub.has_presence() {
            self.presence.ask(Seq::MAX);
        }
    }

    /// Something of what they said after number `after` may be missing, or has never been: asks, and finds whom nobody has and
    /// who is told of all the same.
    #[cold]
    pub(super) fn doubt_presence(&mut self, after: Seq) {
        if !self.hub.has_presence() {
            return;
        }
        self.presence.ask(after);
        let names: Vec<Box<str>> = self.hub.list(PRESENCE).map(|info| (*info.channel).into()).collect();
        for name in names {
            let Some(channel) = name.strip_prefix(PRESENCE) else { continue };
            let keys = self.hub.values(&name, usize::MAX).filter_map(|message| message.key());
            let lacking: Vec<Box<str>> =
                keys.filter(|key| self.presence.lacks(channel, key)).map(Box::from).collect();
            lacking.iter().for_each(|subject| self.presence.mark(channel, subject));
        }
    }
}
