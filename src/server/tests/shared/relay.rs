//! A server and what relays for it: a writer and a tail, as the threads of the reactor are, but that a seed says when each has
//! a turn, and what breaks.

use super::engine::Outcome;
use super::presence::Visitor;
use super::{BEAT, JUMP, Sim, config};
use crate::broker::LogSettings;
use crate::conn::ConnId;
use crate::id::{Epoch, Seed, Seq};
use crate::log::{
    Condition, Entry, Jump, Jumps, LogTime, NodeId, Opening, Outstanding, Proposal, Record, Refusal, Tail,
    Ticket,
};
use crate::server::tests::world::World;
use crate::server::{Effect, Server};
use std::collections::VecDeque;
use std::net::Ipv4Addr;

/// A server and what relays for it.
pub(super) struct Node {
    /// Its name: another one in each life.
    pub name: NodeId,
    pub server: Server,
    pub world: World,
    pub queue: VecDeque<Proposal>,
    /// Which engine it reaches; none = it is cut off.
    pub engine: Option<usize>,
    /// It has attached since it last came to another one or met an error.
    pub is_attached: bool,
    pub is_open: bool,
    /// The highest number that it has shown or told.
    pub known: Seq,
    pub serial: u64,
    pub sent: u64,
    pub doubtful: usize,
    pub batches: Outstanding,
    /// It has found the history anew, and has not compared it with what it has read.
    pub is_torn: bool,
    /// Publishers were told that the engine is away.
    pub is_away: bool,
    pub visitors: Vec<Visitor>,
    /// Somebody who listens from the beginning, as long as the server lives.
    pub listener: Option<ConnId>,
    /// When it beats next.
    pub beat_at: u64,
}

impl Sim {
    /// A server that has just started.
    pub(super) fn life(&mut self) -> Node {
        let mut world = World::default();
        world.advance(1000);
        let seed =
            Seed { epoch: Epoch::from_random(self.random.next()), secret: u128::from(self.random.next()) };
        let mut server = Server::new(config(), seed, world.now);
        self.lives += 1;
        let name = NodeId(self.lives);
        server.use_log(LogSettings { behind: false, staged_bytes: 1 << 20, lag_ms: 0, shared: Some(name) });
        Node {
            name,
            server,
            world,
            queue: VecDeque::new(),
            engine: Some(0),
            is_attached: false,
            is_open: false,
            known: 0,
            serial: 0,
            sent: 0,
            doubtful: 0,
            batches: Outstanding::default(),
            is_torn: false,
            is_away: false,
            visitors: Vec::new(),
            listener: None,
            beat_at: self.now_ms + self.random.below(4000),
        }
    }

    /// Lets a server find the history, as the relay does.
    pub(super) fn attach(&mut self, node: usize) {
        let jump = JUMP + self.random.below(15 * JUMP);
        let at = LogTime(self.now_ms);
        let one = &mut self.nodes[node];
        let Some(engine) = one.engine else { return };
        one.serial += 1;
        let (serial, last) = self.engines[engine].attach(one.name, one.known, one.serial, at, jump);
        if !one.is_open {
            one.is_open = true;
            let opening = Opening {
                epoch: self.epoch,
                secret: 77,
                next: self.engines[engine].seq + 1,
                lost: 0,
                watermark: 0,
                time: at,
            };
            one.server.log_opened(one.world.now, opening);
        }
        let settled = (serial == one.sent && one.doubtful > 0).then(|| {
            let executed: Vec<Proposal> = one.queue.drain(..one.doubtful).collect();
            let is_plain = |one: &Proposal| one.answered.is_none() && one.seen.is_none();
            let (plain, again): (Vec<_>, Vec<_>) = executed.into_iter().partition(is_plain);
            again.into_iter().rev().for_each(|proposal| one.queue.push_front(proposal));
            (plain.into_iter().map(|proposal| proposal.ticket).collect(), last)
        });
        one.doubtful = 0;
        one.is_attached = true;
        let jumps: Jumps = self.engines[engine].jumps.iter().copied().collect();
        let lost = one.batches.attach(&jumps, (1, self.engines[engine].seq), settled);
        one.is_torn = true;
        one.server.refuse_shared(one.world.now, &lost, &Refusal("lost".into()), &mut one.world);
        self.turn(node);
    }

    /// The tail compares the history that was found with what it has read.
    pub(super) fn go_back(&mut self, node: usize) {
        let one = &mut self.nodes[node];
        one.is_torn = false;
        let (parting, lost) = one.batches.go_back();
        if let Some(after) = parting {
            self.parted += 1;
            let entries = vec![Entry { seq: after, record: Record::Lost(after) }];
            one.server.apply_shared(one.world.now, vec![Tail { entries, ..Tail::default() }], &mut one.world);
        }
        one.server.refuse_shared(one.world.now, &lost, &Refusal("lost".into()), &mut one.world);
        self.turn(node);
    }

    /// The writer has a turn.
    pub(super) fn write(&mut self, node: usize) {
        if self.nodes[node].engine.is_none() {
            return self.lose_patience(node);
        }
        if !self.nodes[node].is_attached {
            self.attach(node);
        }
        let (is_lost, is_answered) = (self.random.one_in(12), self.random.one_in(2));
        let one = &mut self.nodes[node];
        let Some(engine) = one.engine else { return };
        let count = one.queue.len().min(4);
        if count == 0 {
            return;
        }
        one.serial += 1;
        one.sent = one.serial;
        let batch: Vec<Proposal> = one.queue.range(..count).cloned().collect();
        let at = LogTime(self.now_ms);
        if is_lost {
            // The connection breaks: before the engine has it, or before its answer is there.
            if is_answered {
                self.engines[engine].append(one.name, one.serial, &batch, at);
            }
            one.doubtful = count;
            one.is_attached = false;
            self.counts[0] += 1;
            return;
        }
        match self.engines[engine].append(one.name, one.serial, &batch, at) {
            None => one.is_attached = false,
            Some((outcomes, last)) => {
                one.queue.drain(..count);
                let now = one.world.now;
                let mut taken = Vec::new();
                let newest = batch.last().map(|proposal| proposal.ticket);
                for (proposal, outcome) in batch.into_iter().zip(outcomes) {
                    match outcome {
                        Outcome::Taken => taken.push(proposal.ticket),
                        Outcome::Repeated(first, answer) => {
                            self.counts[1] += 1;
                            one.known = one.known.max(first + proposal.records.len() as Seq - 1);
                            one.server.repeated(now, proposal.ticket, first, &answer, &mut one.world);
                        }
                        Outcome::Outdated => {
                            self.counts[2] += 1;
                            one.server.outdated(now, proposal.ticket, &mut one.world);
                        }
                    }
                }
                let newest = newest.unwrap_or_default();
                let lost = one.batches.note_taken(taken, last);
                one.batches.forget_early(newest);
                one.server.refuse_shared(now, &lost, &Refusal("lost".into()), &mut one.world);
                self.turn(node);
            }
        }
    }

    /// What has waited for too long is refused.
    pub(super) fn lose_patience(&mut self, node: usize) {
        let one = &mut self.nodes[node];
        let refused: Vec<Ticket> = one.queue.drain(..).map(|proposal| proposal.ticket).collect();
        one.doubtful = 0;
        // The writer may not have noticed yet.
        if !one.is_away && self.random.one_in(2) {
            one.is_away = true;
            one.server.log_condition(one.world.now, Condition::Away("cut off".into()));
        }
        if !refused.is_empty() {
            one.server.refuse_shared(one.world.now, &refused, &Refusal("away".into()), &mut one.world);
        }
        self.turn(node);
    }

    /// The tail has a turn: reads at most `most` entries.
    pub(super) fn read(&mut self, node: usize, most: usize) {
        if self.nodes[node].engine.is_some() && self.nodes[node].is_torn {
            self.go_back(node);
        }
        let one = &mut self.nodes[node];
        let Some(engine) = one.engine else { return };
        let (stream, cursor) = (&self.engines[engine].stream, one.batches.seen());
        let newer = stream.iter().filter(|batch| batch.last > cursor).take(most);
        let (mut tails, mut refused, mut is_beat) = (Vec::new(), Vec::new(), false);
        for batch in newer {
            if one.batches.is_elsewhere(batch.first, batch.lost) {
                break;
            }
            let mut tail = Tail { at: batch.at, ..Tail::default() };
            assert!(batch.lost.is_some() || batch.first == one.batches.seen() + 1, "numbers are consecutive");
            if let Some(after) = batch.lost {
                tail.entries.push(Entry { seq: batch.last, record: Record::Lost(after) });
                one.batches.note_jump(Jump { to: batch.last, after });
            }
            let mut next = batch.first;
            for (ticket, records) in &batch.groups {
                if batch.node == one.name && *ticket < BEAT {
                    tail.own.push((*ticket, next));
                }
                is_beat |= batch.node == one.name && *ticket == BEAT;
                for record in records {
                    tail.entries.push(Entry { seq: next, record: record.clone() });
                    next += 1;
                }
            }
            one.known = one.known.max(batch.last);
            let brought: Vec<Ticket> = tail.own.iter().map(|(ticket, _)| *ticket).collect();
            refused.extend(one.batches.note_read(batch.last, &brought));
            tails.push(tail);
        }
        one.server.apply_shared(one.world.now, tails, &mut one.world);
        one.server.refuse_shared(one.world.now, &refused, &Refusal("lost".into()), &mut one.world);
        if is_beat && std::mem::take(&mut one.is_away) {
            one.server.log_condition(one.world.now, Condition::Well);
        }
        self.turn(node);
    }

    /// Lets a server come to the end of the stream.
    pub(super) fn catch_up(&mut self, node: usize) {
        self.nodes[node].is_attached = false;
        self.attach(node);
        self.read(node, 7);
        while self.nodes[node].batches.seen() < self.engines[self.nodes[node].engine.unwrap()].seq {
            self.read(node, 7);
        }
        if self.nodes[node].server.broker.is_reading() {
            let one = &mut self.nodes[node];
            one.server.log_condition(one.world.now, Condition::Ready);
            self.turn(node);
        }
        self.listen(node);
    }

    /// Lets somebody listen, if nobody does. Who listened may have been told that a channel is deleted.
    fn listen(&mut self, node: usize) {
        let Node { server, world, listener, .. } = &mut self.nodes[node];
        let is_there = listener.is_some_and(|listener| {
            world.read(listener, usize::MAX);
            !world.at_end(listener)
        });
        if !is_there && !server.broker.is_loading() {
            let head = "GET /sub/a,b,c?as=stream HTTP/1.1\r\nHost: x\r\n\r\n";
            self.nodes[node].listener = Some(self.request(node, head));
        }
    }

    pub(super) fn turn(&mut self, node: usize) {
        let Node { server, world, queue, .. } = &mut self.nodes[node];
        loop {
            let now = world.now;
            server.tick(now, world);
            server.deliver(now, world);
            while let Some(effect) = server.poll_effect() {
                match effect {
                    Effect::Append(proposal) => queue.push_back(*proposal),
                    Effect::Ask(_) => unreachable!(),
                    Effect::Pause(_) | Effect::Resume(_) | Effect::Unsent(_) => {}
                    Effect::HalfClose(id) => world.socket(id).ended = true,
                    Effect::Close(id) => world.socket(id).closed = true,
                }
            }
            server.broker.hub.check();
            if server.next_deadline(now) > now.at {
                return;
            }
        }
    }

    pub(super) fn request(&mut self, node: usize, request: &str) -> ConnId {
        let one = &mut self.nodes[node];
        let id = one.server.accept(one.world.now, Ipv4Addr::LOCALHOST.into(), false).unwrap();
        one.world.open(id, 1 << 30);
        one.server.receive(one.world.now, id, request.as_bytes(), &mut one.world);
        self.turn(node);
        id
    }
}
