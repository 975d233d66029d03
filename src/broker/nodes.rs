//! The servers that share a history: which of them live, as far as their beats tell.
//!
//! A server is dead that has not beaten for its lease. While nobody can beat, as the engine is away, nobody dies of it: what
//! counts is that a server is silent while our own beats come back.

use crate::log::{LEASE_MS, NodeId};
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};

/// So many beats of ours come back, at least, before another server is dead.
const BEATS: u8 = 2;
/// Milliseconds that the first of those who live has to do what one of them has to do.
const PATIENCE_MS: u64 = 2000;

/// The servers that share a history.
#[derive(Debug, Default)]
pub struct Nodes {
    me: NodeId,
    all: BTreeMap<NodeId, Life>,
}

#[derive(Debug)]
struct Life {
    /// When its lease ends, or, if it has left, when it is missed.
    until: Instant,
    /// Beats of ours since its last.
    beats: u8,
    has_left: bool,
}

impl Nodes {
    /// Nobody is known; we are this one.
    pub fn of(me: NodeId) -> Self {
        Self { me, all: BTreeMap::new() }
    }

    /// Our own name.
    pub const fn me(&self) -> NodeId {
        self.me
    }

    /// Notes that a server has beaten.
    pub fn beat(&mut self, at: Instant, node: NodeId, lease_ms: u64) {
        self.all.insert(node, Life { until: at + lease_ms, beats: 0, has_left: false });
        if node == self.me {
            let others = self.all.iter_mut().filter(|(node, _)| **node != self.me);
            others.for_each(|(_, life)| life.beats = life.beats.saturating_add(1));
        }
    }

    /// Notes that a server has said something, which may be dead as well: what it wrote is there for long.
    pub fn heard(&mut self, at: Instant, node: NodeId) {
        self.all.entry(node).or_insert_with(|| Life { until: at + LEASE_MS, beats: 0, has_left: false });
    }

    /// Notes that a server has left in good order; it is not missed until then.
    pub fn leave(&mut self, node: NodeId, until: Instant) {
        self.all.insert(node, Life { until, beats: 0, has_left: true });
    }

    /// Notes that it is not known who has beaten until now.
    pub fn renew(&mut self, now: Instant) {
        for life in self.all.values_mut().filter(|life| !life.has_left) {
            (life.until, life.beats) = (now + LEASE_MS, 0);
        }
    }

    /// How many live.
    pub fn count(&self, now: Instant) -> usize {
        self.living(now).count()
    }

    /// The others that live.
    pub fn others(&self, now: Instant) -> BTreeSet<NodeId> {
        self.living(now).filter(|node| *node != self.me).collect()
    }

    fn living(&self, now: Instant) -> impl Iterator<Item = NodeId> {
        self.all.iter().filter(move |(_, life)| life.until > now && !life.has_left).map(|(node, _)| *node)
    }

    /// How long we wait, in milliseconds, before we do what one of those who live has to do: the first of them does it at once,
    /// unless it does not know of it. Nothing if we may be dead ourselves.
    pub fn patience_ms(&self, now: Instant) -> Option<u64> {
        let place = self.living(now).position(|node| node == self.me)?;
        Some(if place == 0 { 0 } else { PATIENCE_MS })
    }

    /// Those that are dead, and when they died; or will have died, unless they beat.
    pub fn deaths(&self) -> impl Iterator<Item = (Instant, NodeId)> {
        let others = self.all.iter().filter(|(node, _)| **node != self.me);
        let missed = others.filter(|(_, life)| life.has_left || life.beats >= BEATS);
        missed.map(|(node, life)| (life.until, *node))
    }

    /// Forgets those that are dead and not `missed`. Returns them.
    pub fn bury(&mut self, now: Instant, missed: impl Fn(NodeId) -> bool) -> Vec<NodeId> {
        let dead = self.deaths().filter(|(died, node)| *died <= now && !missed(*node));
        let dead: Vec<NodeId> = dead.map(|(_, node)| node).collect();
        self.all.retain(|node, _| !dead.contains(node));
        dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn who_does_not_beat_is_dead_unless_nobody_could() {
        let [me, other] = [NodeId(2), NodeId(1)];
        let mut nodes = Nodes::of(me);
        let dead = |nodes: &Nodes, ms| nodes.deaths().filter(|(died, _)| *died <= at(ms)).count();
        nodes.beat(at(0), other, LEASE_MS);
        nodes.beat(at(0), me, LEASE_MS);
        assert_eq!((nodes.count(at(1)), nodes.patience_ms(at(1)), dead(&nodes, 1)), (2, Some(2000), 0));
        nodes.beat(at(4000), me, LEASE_MS);
        nodes.beat(at(8000), me, LEASE_MS);
        assert_eq!((dead(&nodes, 11_999), dead(&nodes, 12_000)), (0, 1));
        assert_eq!((nodes.patience_ms(at(12_000)), nodes.patience_ms(at(20_000))), (Some(0), None));
        // The engine was away for long: who was not missed before has time to say that it lives.
        nodes.beat(at(12_000), other, LEASE_MS);
        nodes.beat(at(60_000), me, LEASE_MS);
        assert_eq!(dead(&nodes, 60_000), 0);
        nodes.beat(at(64_000), me, LEASE_MS);
        assert_eq!(dead(&nodes, 64_000), 1);
        nodes.renew(at(64_000));
        nodes.beat(at(72_000), me, LEASE_MS);
        assert_eq!(dead(&nodes, 76_000), 0);
        assert!(nodes.bury(at(90_000), |_| false).is_empty(), "one beat of ours is not enough");
        nodes.leave(other, at(91_000));
        assert_eq!((nodes.count(at(73_000)), nodes.bury(at(90_999), |_| false)), (1, vec![]));
        assert!(nodes.bury(at(91_000), |_| true).is_empty(), "it is missed");
        assert_eq!(nodes.bury(at(91_000), |_| false), [other]);
    }
}
