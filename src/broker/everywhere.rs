//! Presence with a history that several servers share: what they say of who listens there is in the log, and is told of as it
//! comes from there.

use super::gathering::{Gathering, Shut};
use super::waiting::{Proposals, Shared};
use super::{Broker, Refusal};
use crate::hub::PRESENCE;
use crate::id::Seq;
use crate::log::{NodeId, Proposal, Record, Said};
use crate::time::Instant;
use std::collections::BTreeSet;

impl Proposals {
    /// Whether what waits has to wait on: nothing is proposed that can be said later.
    const fn is_blocked(&self) -> bool {
        self.loading || self.closed || self.shared.away.is_some()
    }

    /// When it is waited no longer for what others say.
    fn gathers_until(&self) -> Instant {
        self.shared.gathering.as_ref().map_or(Instant::NEVER, Gathering::until)
    }

    /// Takes note of something that is waited for, which may be all.
    fn gather(&mut self, note: impl FnOnce(&mut Gathering, &dyn Fn(Instant) -> BTreeSet<NodeId>)) {
        let Shared { gathering, nodes, .. } = &mut self.shared;
        if let Some(gathering) = gathering {
            note(gathering, &|now| nodes.others(now));
        }
        if gathering.take_if(|gathering| gathering.is_over()).is_some_and(|it| it.shut().is_some()) {
            log::info!("engine: the other servers have said who is there");
        }
    }
}

impl Broker {
    /// When something is to be done about who is here.
    pub fn next_presence(&self) -> Instant {
        let own = self.presence.next_deadline();
        match &self.log {
            Some(log) if self.presence.is_shared() && !log.is_blocked() => {
                own.min(self.presence.next_saying(&log.shared.nodes)).min(log.gathers_until())
            }
            Some(log) => own.min(log.gathers_until()),
            None => own,
        }
    }

    /// Says to the other servers who is here, and what else there is to say. Returns a proposal of it.
    #[cold]
    pub(super) fn say_presence(&mut self, now: Instant) -> Option<Proposal> {
        self.presence.say_news();
        if self.log.as_mut().is_some_and(|log| std::mem::take(&mut log.shared.has_begun_to_show)) {
            self.begin_to_gather(now, Shut::Presence);
        }
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
            log.gather(|gathering, _| gathering.note_word(at, node));
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
        let has_presence = self.hub.has_presence();
        let Some(log) = &mut self.log else { return };
        let nodes = &mut log.shared.nodes;
        let is_ours = |node: NodeId| node == log.settings.shared.unwrap_or_default();
        match record {
            Record::Beat { node, lease_ms } => {
                nodes.beat(at, node, lease_ms);
                if is_ours(node) {
                    let dead = nodes.bury(now, |node| self.presence.has(node));
                    self.presence.forget(&dead);
                    log.gather(|gathering, others| gathering.forget_dead(&others(now)));
                    self.hub.go_on_at(seq + 1);
                    self.hub.refute_claims();
                }
            }
            // Its clients have as long to come elsewhere as they would have there.
            Record::Left(node) => {
                nodes.leave(node, at + self.presence.pause_ms());
                log.gather(|gathering, others| gathering.forget_dead(&others(now)));
            }
            Record::Asked(node) if !log.loading && has_presence => {
                self.presence.note_asked(now, seq);
                if is_ours(node) {
                    log.gather(|gathering, others| gathering.note_question(seq, others(now)));
                }
            }
            Record::AllSaid { node, since } if !log.loading => {
                self.presence.note_all_said(node, since);
                log.gather(|gathering, _| gathering.note_answer(node, since));
            }
            _ => {}
        }
    }

    /// Begins to wait for what the other servers say, if they have something to say.
    pub(super) fn begin_to_gather(&mut self, now: Instant, shut: Shut) {
        let has_presence = self.hub.has_presence();
        let Some(log) = self.log.as_mut().filter(|_| has_presence) else { return };
        let others = log.shared.nodes.others(now);
        log.shared.gathering = (!others.is_empty()).then(|| Gathering::new(now, others, shut));
    }

    /// Whether who is there is known: to be asked before it is shown, on channels of these names, or that these patterns match.
    ///
    /// # Errors
    ///
    /// We have just begun to show it, and others have not said yet whom they have. Whoever took that for all, and went on with
    /// it to another server, would lack somebody for good.
    pub fn check_presence<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> Result<(), Refusal> {
        let Some(Shared { gathering, has_begun_to_show, .. }) = self.log.as_ref().map(|log| &log.shared)
        else {
            return Ok(());
        };
        let is_shut = gathering.as_ref().is_some_and(|it| it.shut() == Some(Shut::Presence));
        match (is_shut || *has_begun_to_show) && names.any(|name| name.starts_with(PRESENCE)) {
            true => Err(Refusal::PresenceUnknown),
            false => Ok(()),
        }
    }

    /// Whether not all have said yet who is there.
    #[cfg(test)]
    pub fn is_gathering(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.shared.gathering.is_some())
    }

    /// Lets clients in, if it is too late for what others say.
    pub fn tire_of_gathering(&mut self, now: Instant) {
        let Some(log) = self.log.as_mut().filter(|log| log.gathers_until() <= now) else { return };
        let silent = log.shared.gathering.as_mut().map_or(0, Gathering::tire);
        log::warn!(
            "engine: other servers have not said who is there: {silent}; whoever looks now may lack somebody"
        );
    }

    /// Notes that nobody could beat until now.
    pub(super) fn renew_nodes(&mut self, now: Instant) {
        if let Some(log) = &mut self.log {
            log.shared.nodes.renew(now);
        }
    }

    /// Asks the other servers who is there, as the rules have changed. With `shows_more`, it is shown of other channels than
    /// before.
    pub(super) fn ask_who_is_here(&mut self, shows_more: bool) {
        if !self.hub.has_presence() {
            return;
        }
        self.presence.ask(Seq::MAX);
        if let Some(log) = self.log.as_mut().filter(|log| shows_more && log.settings.shared.is_some()) {
            log.shared.has_begun_to_show |= !log.is_closed();
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
