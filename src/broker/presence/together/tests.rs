//! Several tables of who is there, and the records between them.

use super::*;
use crate::hub::{Data, Owner};
use crate::log::{BEAT_MS, LEASE_MS};
use std::collections::BTreeMap;

const ROOM: &str = "chat/lobby";

struct Site {
    presence: Presence,
    nodes: Nodes,
    /// What is told of each subject.
    told: BTreeMap<String, Vec<u8>>,
    /// All that was told: `+name`, `-name` or a count.
    heard: Vec<String>,
    /// It beats.
    lives: bool,
}

/// Servers, and the log between them.
struct Sites {
    now: Instant,
    seq: Seq,
    max: usize,
    all: Vec<Site>,
    /// Records of all proposals, in order.
    log: Vec<Record>,
}

impl Sites {
    fn new(count: usize, max: usize) -> Self {
        let mut sites =
            Self { now: Instant::from_millis(1000), seq: 0, max, all: Vec::new(), log: Vec::new() };
        (0..count).for_each(|_| sites.start());
        sites
    }

    fn start(&mut self) {
        let me = NodeId(self.all.len() as u64 + 1);
        let mut presence = Presence::new(0, self.max);
        presence.share(me);
        presence.ask(Seq::MAX);
        let (told, heard) = (BTreeMap::new(), Vec::new());
        self.all.push(Site { presence, nodes: Nodes::of(me), told, heard, lives: true });
    }

    fn note(&mut self, site: usize, owner: u32, name: Option<&str>, is_here: bool) {
        let subject = name.map(|name| (Box::from(name), None));
        let channels = if is_here { vec![ROOM.into()] } else { Vec::new() };
        self.all[site].presence.note(self.now, Owner(owner), subject.as_ref(), channels);
        self.say();
    }

    /// Lets everybody say what there is to say, and hear it.
    fn say(&mut self) {
        while let Some(site) = (0..self.all.len()).find(|site| self.say_one(*site, false)) {
            assert!(self.log.len() < 100_000, "server {site} does not end");
        }
    }

    /// Lets one make a proposal, which may be refused. Returns whether there was one.
    fn say_one(&mut self, site: usize, is_refused: bool) -> bool {
        let Site { presence, nodes, lives, .. } = &mut self.all[site];
        if !*lives {
            return false;
        }
        presence.tick(self.now);
        presence.say_news();
        let (records, sent) = presence.say(self.now, nodes, |at| LogTime(at.as_millis()));
        if records.is_empty() {
            assert!(presence.next_saying(nodes) > self.now, "it would turn around and around");
            return false;
        }
        let ticket = Ticket(self.seq + 1);
        presence.note_sent(ticket, sent);
        if is_refused {
            presence.note_unsaid(self.now, ticket);
            return true;
        }
        records.into_iter().for_each(|record| self.append(record));
        self.all[site].presence.note_said(ticket);
        true
    }

    fn append(&mut self, record: Record) {
        self.seq += 1;
        (0..self.all.len()).for_each(|site| self.all[site].apply(self.now, self.seq, &record));
        self.log.push(record);
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now + ms;
        self.say();
    }

    /// Time passes; who lives beats.
    fn beat_for(&mut self, ms: u64) {
        let until = self.now + ms;
        while self.now < until {
            for site in 0..self.all.len() {
                let is_time = (self.now.as_millis() + 700 * site as u64).is_multiple_of(BEAT_MS);
                if self.all[site].lives && is_time {
                    self.append(Record::Beat { node: self.all[site].nodes.me(), lease_ms: LEASE_MS });
                }
            }
            self.pass(100);
        }
    }

    fn names(&self, site: usize) -> Vec<String> {
        self.all[site].told.keys().cloned().collect()
    }

    fn heard(&mut self, site: usize) -> Vec<String> {
        std::mem::take(&mut self.all[site].heard)
    }
}

impl Site {
    /// As the broker does, with a hub.
    fn apply(&mut self, now: Instant, seq: Seq, record: &Record) {
        match record {
            Record::Said { node, channel, what } => {
                self.nodes.heard(now, *node);
                let before = self.told.get(what.subject()).map(|value| &value[..]);
                let (told, has_thinned) = self.presence.apply(now, (seq, *node), channel, what, before);
                if has_thinned {
                    for subject in self.presence.subjects_here(channel) {
                        if !self.told.contains_key(&*subject) {
                            self.presence.mark(channel, &subject);
                        }
                    }
                }
                let Some(told) = told else { return };
                let text = String::from_utf8(told.data.bytes().to_vec()).unwrap();
                match (told.key, told.data) {
                    (Some(key), Data::Removed) => {
                        self.told.remove(&*key);
                        self.heard.push(format!("-{key}"));
                    }
                    (Some(key), data) => {
                        self.told.insert(key.clone().into(), data.bytes().to_vec());
                        self.heard.push(format!("+{key}"));
                    }
                    (None, _) => self.heard.push(text),
                }
            }
            Record::Beat { node, lease_ms } => self.nodes.beat(now, *node, *lease_ms),
            Record::Asked(_) => self.presence.note_asked(now, seq),
            Record::AllSaid { node, since } => self.presence.note_all_said(*node, *since),
            _ => unreachable!(),
        }
    }
}

#[test]
fn first_in_and_last_out_are_told_once_on_all() {
    let mut sites = Sites::new(3, 10);
    sites.note(0, 1, Some("alice"), true);
    sites.note(1, 1, Some("alice"), true);
    sites.note(0, 1, None, false);
    sites.note(2, 1, Some("bob"), true);
    sites.note(1, 1, None, false);
    for site in 0..3 {
        assert_eq!(sites.heard(site), ["+alice", "+bob", "-alice"], "server {site}");
    }
    let here = sites.all[0].presence.look(ROOM);
    assert_eq!((here.count, here.members.unwrap()[0].connections), (1, 1));
}

#[test]
fn a_crowd_is_counted_and_told_when_it_is_none_any_more() {
    let mut sites = Sites::new(2, 2);
    for (number, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        sites.note(number % 2, number as u32, Some(name), true);
    }
    for site in 0..2 {
        assert_eq!(sites.heard(site), ["+a", "+b", r#"{"count":3,"anonymous":0}"#]);
    }
    sites.note(0, 9, None, true);
    // The count is told a second after the last one; it takes the first of those that live to give it a number.
    sites.beat_for(5000);
    for site in 0..2 {
        assert_eq!(sites.heard(site), [r#"{"count":4,"anonymous":1}"#]);
    }
    sites.note(0, 0, None, false);
    sites.note(1, 1, None, false);
    for site in 0..2 {
        assert_eq!(sites.names(site), ["c", "d"], "who came too late is told");
    }
    sites.beat_for(2000);
    for site in 0..2 {
        assert_eq!(sites.heard(site).last().unwrap(), r#"{"count":2,"anonymous":1}"#);
    }
}

#[test]
fn who_starts_is_told_of_a_crowd_in_parts() {
    let mut sites = Sites::new(1, 10_000);
    for number in 0..2500 {
        sites.note(0, number, Some(&format!("user{number:04}")), true);
    }
    sites.pass(2000);
    let before = sites.log.len();
    sites.heard(0);
    sites.start();
    sites.pass(0);
    sites.note(0, 0, None, false);
    sites.pass(2000);
    assert_eq!(sites.names(1).len(), 2499);
    assert_eq!(sites.names(1), sites.names(0));
    assert_eq!(sites.heard(0), ["-user0000"], "nobody is told what is known");
    let ends = sites.log[before..].iter().filter(|record| matches!(record, Record::AllSaid { .. }));
    assert_eq!(ends.count(), 2, "each has said of all");
    assert!(matches!(sites.log.last(), Some(Record::AllSaid { .. })), "at last");
}

#[test]
fn a_dead_server_takes_its_members_out_within_fifteen_seconds() {
    for phase in (0..BEAT_MS).step_by(300) {
        let mut sites = Sites::new(3, 10_000);
        sites.now = Instant::from_millis(4000);
        for number in 0..30 {
            sites.note(0, number, Some(&format!("user{number}")), true);
        }
        sites.note(0, 98, None, true);
        sites.note(0, 99, Some("bob"), true);
        sites.note(1, 99, Some("bob"), true);
        sites.beat_for(4000 + phase);
        sites.all[0].lives = false;
        sites.beat_for(7900);
        assert_eq!(sites.names(2).len(), 31, "it may live, at {phase}");
        sites.beat_for(7100);
        for site in 1..3 {
            assert_eq!(sites.names(site), ["bob"], "killed {phase} ms after a beat");
            let here = sites.all[site].presence.look(ROOM);
            assert_eq!((here.members.unwrap()[0].connections, here.anonymous), (1, 0));
        }
        // It lived after all, and has read what was said of it.
        sites.all[0].lives = true;
        sites.beat_for(5000);
        assert!((1..3).all(|site| sites.names(site).len() == 31));
        assert!((1..3).all(|site| sites.all[site].presence.look(ROOM).anonymous == 1));
    }
}

#[test]
fn what_is_refused_is_said_as_it_is_a_second_later() {
    let mut sites = Sites::new(2, 10);
    sites.pass(1000);
    sites.all[0].presence.note(sites.now, Owner(1), Some(&("alice".into(), None)), vec![ROOM.into()]);
    sites.all[0].presence.note(sites.now, Owner(2), Some(&("bob".into(), None)), vec![ROOM.into()]);
    assert!(sites.say_one(0, true));
    sites.note(0, 1, None, false);
    sites.pass(999);
    assert!(sites.heard(1).is_empty());
    sites.pass(1);
    assert_eq!(sites.names(1), ["bob"]);
    // An answer that is refused in parts is given anew, as a whole.
    sites.all[1].presence.ask(Seq::MAX);
    sites.say();
    sites.now = sites.now + 1000;
    assert!(sites.say_one(0, true));
    let before = sites.log.len();
    sites.pass(1000);
    let ends = sites.log[before..].iter().filter(|record| matches!(record, Record::AllSaid { .. }));
    assert_eq!(ends.count(), 2);
    let is_bob = |record: &Record| matches!(record, Record::Said { what, .. } if what.subject() == "bob");
    assert!(sites.log[before..].iter().any(is_bob));
}

#[test]
fn who_has_missed_a_leave_is_told_of_it_when_it_asks() {
    let mut sites = Sites::new(3, 10);
    sites.note(0, 1, Some("alice"), true);
    sites.note(0, 2, Some("bob"), true);
    sites.pass(2000);
    // One record is lost on the way to the last.
    let mut absent = sites.all.pop().unwrap();
    sites.note(0, 1, None, false);
    absent.presence.ask(Seq::MAX);
    sites.all.push(absent);
    assert_eq!(sites.names(2), ["alice", "bob"]);
    sites.pass(0);
    sites.pass(2000);
    assert_eq!((sites.names(1), sites.names(2)), (vec!["bob".to_owned()], vec!["bob".to_owned()]));
    let twice = ["+alice", "+bob", "-alice", "-alice"];
    assert_eq!(sites.heard(1), twice, "clients come from the other one, which told of it until then");
}
