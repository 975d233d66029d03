//! A seed lives several lives: proposals, failing calls, sweeps, clocks that step, and the power is cut in the middle.

use super::disk::SimDisk;
use crate::config::Promise;
use crate::hub::{Data, Publication};
use crate::id::{Epoch, Random, Seq};
use crate::log::{Answered, Batch, Condition, LogTime, Lost, Opening, Proposal, Record, Ticket};
use crate::reactor::store::clocks::Clocks;
use crate::reactor::store::engine::{Engine, Order, Settings, Told};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::ErrorKind;

/// What a proposal has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It may be there or not.
    Unknown,
    /// It was told to be history.
    Told,
}

#[derive(Debug)]
struct World {
    random: Random,
    disk: SimDisk,
    clocks: Clocks,
    promise: Promise,
    next: Seq,
    tickets: u64,
    epoch: Option<Epoch>,
    /// Every proposal of all lives.
    journal: BTreeMap<Seq, (Proposal, Fate)>,
    /// Those of this life that have no answer.
    open: BTreeMap<Ticket, Seq>,
    /// Messages that the hub keeps, by number, and their channel.
    kept: BTreeMap<Seq, Box<str>>,
    /// What a limit threw away, by channel.
    evicted: HashMap<Box<str>, BTreeSet<Seq>>,
    /// Up to which number a channel was deleted.
    deleted: HashMap<Box<str>, Seq>,
    keys: HashMap<Box<str>, Answered>,
    /// What the time line said when the life began.
    time: LogTime,
    is_sick: bool,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    lives: usize,
    cut_openings: usize,
    told: usize,
    refused: usize,
    swept: u64,
    sick: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let promise = if random.one_in(3) { Promise::Behind } else { Promise::Synced };
        Self {
            disk: SimDisk::new(random.next()),
            clocks: Clocks { wall_ms: 1_800_000_000_000, up_ms: 1000, boot: 1 },
            promise,
            next: 0,
            tickets: 0,
            epoch: None,
            journal: BTreeMap::new(),
            open: BTreeMap::new(),
            kept: BTreeMap::new(),
            evicted: HashMap::new(),
            deleted: HashMap::new(),
            keys: HashMap::new(),
            time: LogTime(0),
            is_sick: false,
            counts: Counts::default(),
            random,
        }
    }

    fn pass(&mut self) {
        let ms = self.random.below(3000);
        self.clocks.up_ms += ms;
        self.clocks.wall_ms += ms;
        if self.random.one_in(20) {
            self.clocks.wall_ms =
                (self.clocks.wall_ms + self.random.below(7_200_000)).saturating_sub(3_600_000);
        }
    }

    fn live(&mut self) {
        self.counts.lives += 1;
        if self.random.one_in(3) {
            self.disk.cut_in(self.random.below(120));
        }
        let settings =
            Settings { promise: self.promise, pause_ms: 0, keys_max: 1000, dead_max: 10, channels_max: 3 };
        let fresh = super::seed(self.random.next());
        let opened = Engine::open(self.disk.clone(), settings, fresh, self.clocks);
        let Ok((mut engine, opening, is_new)) = opened else {
            self.counts.cut_openings += 1;
            return self.disk.restart();
        };
        self.begin(opening, is_new);
        let mut batches = Vec::new();
        if engine
            .load(|batch| {
                batches.push(batch);
                true
            })
            .is_err()
        {
            self.counts.cut_openings += 1;
            return self.disk.restart();
        }
        self.check_loaded(opening, batches);
        self.disk.cut_in(40 + self.random.below(2000));
        for _ in 0..self.random.below(60) {
            self.step(&mut engine);
        }
        if self.random.one_in(3) {
            _ = engine.end(self.clocks);
        } else {
            drop(engine);
        }
        self.open.clear();
        self.is_sick = false;
        self.disk.restart();
        if self.random.one_in(2) {
            self.clocks.boot += 1;
            self.clocks.up_ms = 10;
        }
    }

    fn begin(&mut self, opening: Opening, is_new: bool) {
        let highest = self.journal.iter().rev().find(|(_, (_, fate))| *fate == Fate::Told);
        let highest = highest.map_or(0, |(_, (proposal, _))| proposal.last());
        assert!(opening.next > highest, "number {} was seen, the next is {}", highest, opening.next);
        match self.epoch {
            Some(epoch) if !is_new => assert_eq!(opening.epoch, epoch),
            _ => assert!(highest == 0, "a history began anew that had something in it"),
        }
        self.epoch = Some(opening.epoch);
        self.time = opening.time;
        self.next = opening.next;
    }

    /// Holds what was loaded to what was told.
    fn check_loaded(&mut self, opening: Opening, batches: Vec<Batch>) {
        let mut lost: HashMap<Box<str>, Seq> = HashMap::new();
        let mut loaded: BTreeMap<Seq, Record> = BTreeMap::new();
        let mut keys = HashMap::new();
        for batch in batches {
            for Lost { channel, upto } in batch.lost {
                assert!(lost.insert(channel, upto).is_none(), "a loss is told once");
            }
            for entry in batch.entries {
                assert!(loaded.last_key_value().is_none_or(|(&last, _)| last < entry.seq), "out of order");
                loaded.insert(entry.seq, entry.record);
            }
            keys.extend(batch.answered.into_iter().map(|kept| (kept.key.clone(), kept)));
        }
        // Unknown ones are there as a whole or not at all; from now on it is known.
        let is_behind = self.promise == Promise::Behind;
        let mut deletions = Vec::new();
        for (proposal, fate) in self.journal.values_mut() {
            let messages = (proposal.first..).zip(&proposal.records);
            let messages: Vec<(Seq, &Record)> =
                messages.filter(|(_, record)| matches!(record, Record::Message { .. })).collect();
            let there = messages.iter().filter(|(seq, _)| loaded.contains_key(seq)).count();
            if *fate == Fate::Unknown {
                let key_is_there = proposal.answered.as_ref().map(|kept| keys.contains_key(&kept.key));
                assert!(there == 0 || there == messages.len(), "half of {proposal:?}");
                if there > 0 {
                    assert_ne!(key_is_there, Some(false), "messages without their key: {proposal:?}");
                    *fate = Fate::Told;
                    for (seq, record) in messages {
                        self.kept.insert(seq, record.channel().into());
                    }
                }
                if is_behind && there == 0 {
                    assert!(proposal.last() < opening.lost, "lost in silence: {proposal:?}");
                }
                if let [Record::Deleted { channel }] = &proposal.records[..] {
                    // What an earlier deletion took is gone anyway.
                    let is_gone =
                        |seq| deletions.iter().any(|(_, _, gone): &(_, _, Vec<Seq>)| gone.contains(seq));
                    let older: Vec<Seq> = self
                        .kept
                        .range(..proposal.first)
                        .filter(|(seq, name)| *name == channel && !is_gone(seq))
                        .map(|(&seq, _)| seq)
                        .collect();
                    let gone = older.iter().filter(|seq| !loaded.contains_key(seq)).count();
                    assert!(gone == 0 || gone == older.len(), "half a deletion");
                    if gone > 0 {
                        deletions.push((channel.clone(), proposal.first, older));
                    }
                }
            }
        }
        for (channel, seq, older) in deletions {
            self.evict(&channel, &older);
            self.deleted.insert(channel, seq);
        }
        let unknown = |fate: &Fate| *fate == Fate::Unknown;
        self.journal.retain(|_, (_, fate)| !unknown(fate));
        for (seq, record) in &loaded {
            let (_, (proposal, _)) = self.journal.range(..=seq).next_back().expect("somebody wrote it");
            let index = (seq - proposal.first) as usize;
            assert_eq!(proposal.records.get(index), Some(record), "wrong bytes at {seq}");
            let deleted = self.deleted.get(record.channel()).copied().unwrap_or(0);
            assert!(*seq > deleted, "{seq} was deleted");
            assert!(*seq < opening.next);
            if let Record::Message { at, .. } = record {
                assert!(*at <= opening.time, "the time line runs backwards");
            }
        }
        for (seq, channel) in &self.kept {
            assert!(
                loaded.contains_key(seq),
                "message {seq} on {channel} was told to be stored and is not there"
            );
        }
        for (channel, evicted) in &self.evicted {
            let told = lost.get(channel).copied().unwrap_or(0).max(opening.watermark);
            for seq in evicted {
                assert!(
                    loaded.contains_key(seq) || *seq <= told,
                    "{seq} was evicted from {channel}, and nobody is told"
                );
            }
        }
        for (channel, upto) in &lost {
            let deleted = self.deleted.get(channel).copied().unwrap_or(0);
            let evicted = self.evicted.get(channel).and_then(|evicted| evicted.last().copied()).unwrap_or(0);
            let suspected = opening.watermark;
            assert!(*upto <= deleted.max(evicted).max(suspected), "{channel} has lost nothing up to {upto}");
            assert!(loaded.iter().all(|(seq, record)| seq > upto || record.channel() != &**channel));
        }
        for (key, kept) in &self.keys {
            if kept.until > opening.time {
                assert_eq!(keys.get(key), Some(kept), "a key is forgotten");
            }
        }
    }

    fn step(&mut self, engine: &mut Engine<SimDisk>) {
        self.pass();
        if self.random.one_in(25) {
            let kind = [ErrorKind::StorageFull, ErrorKind::Other][self.random.below(2) as usize];
            self.disk.fail_in(self.random.below(30), kind);
        }
        let orders: Vec<Order> = (0..self.random.below(4)).map(|_| self.append()).collect();
        engine.take(orders, self.clocks);
        let mut answers = Vec::new();
        while let Some(told) = engine.poll() {
            answers.extend(self.hear(told));
        }
        if !answers.is_empty() {
            engine.take(answers, self.clocks);
            while let Some(told) = engine.poll() {
                self.hear(told);
            }
        }
        self.counts.swept = self.counts.swept.max(engine.figures.swept);
        assert!(self.promise == Promise::Behind || self.open.is_empty(), "a proposal without an answer");
    }

    fn append(&mut self) -> Order {
        let count = 1 + self.random.below(3) * self.random.below(2);
        let is_deletion = self.random.one_in(12);
        let records: Vec<Record> = match is_deletion {
            true => vec![Record::Deleted { channel: self.channel() }],
            false => (0..count).map(|_| self.message()).collect(),
        };
        self.tickets += 1;
        let key = format!("key {}", self.tickets);
        let answered = (!is_deletion && self.random.one_in(4)).then(|| Answered {
            key: key.as_str().into(),
            until: LogTime(self.time.0 + 1_000_000),
            answer: key.as_bytes().into(),
        });
        let proposal =
            Proposal { ticket: Ticket(self.tickets), first: self.next, records, answered, seen: None };
        self.next = proposal.last() + 1;
        self.open.insert(proposal.ticket, proposal.first);
        self.journal.insert(proposal.first, (proposal.clone(), Fate::Unknown));
        Order::Append { proposal, live: self.kept.len() as u64 }
    }

    fn channel(&mut self) -> Box<str> {
        format!("c{}", self.random.below(5)).into()
    }

    fn message(&mut self) -> Record {
        let text = "x".repeat(self.random.below(900) as usize) + &self.random.next().to_string();
        Record::Message {
            channel: self.channel(),
            publication: Publication::of(Data::Text(text.into())),
            at: self.time,
        }
    }

    fn hear(&mut self, told: Told) -> Option<Order> {
        match told {
            Told::Tail(batch) => self.applied(batch),
            Told::Refused { upto, why } => {
                assert!(self.promise == Promise::Synced && !why.0.is_empty());
                self.counts.refused += 1;
                self.open.retain(|ticket, _| *ticket > upto);
            }
            Told::Look(rows) => {
                let dead: Vec<Seq> =
                    rows.iter().map(|&(seq, _)| seq).filter(|seq| !self.kept.contains_key(seq)).collect();
                let names: BTreeSet<&Box<str>> = rows.iter().map(|(_, channel)| channel).collect();
                let lost = names.into_iter().filter_map(|channel| {
                    let upto = *self.evicted.get(channel)?.last()?;
                    Some(Lost { channel: channel.clone(), upto })
                });
                return Some(Order::Kept { dead, lost: lost.collect() });
            }
            Told::Opened { .. } => unreachable!("the thread tells that"),
            Told::Condition(condition) => {
                let is_sick = matches!(condition, Condition::CannotStore(_));
                assert_ne!(is_sick, self.is_sick, "only changes are told: {condition:?}");
                assert!(!matches!(condition, Condition::Failed(_)), "{condition:?}");
                self.is_sick = is_sick;
                self.counts.sick += usize::from(is_sick);
            }
        }
        None
    }

    fn applied(&mut self, batch: Batch) {
        self.counts.told += 1;
        let own = batch.own.expect("nobody else writes");
        let mut last = 0;
        for entry in batch.entries {
            assert!(entry.seq > last, "out of order");
            last = entry.seq;
            let (_, (proposal, fate)) = self.journal.range_mut(..=entry.seq).next_back().unwrap();
            assert_eq!(proposal.records[(entry.seq - proposal.first) as usize], entry.record);
            *fate = Fate::Told;
            if let Some(answered) = proposal.answered.clone() {
                self.keys.insert(answered.key.clone(), answered);
            }
            let channel: Box<str> = entry.record.channel().into();
            match entry.record {
                Record::Message { .. } => _ = self.kept.insert(entry.seq, channel.clone()),
                Record::Deleted { .. } => {
                    self.deleted.insert(channel.clone(), entry.seq);
                    let gone: Vec<Seq> =
                        self.kept.iter().filter(|(_, name)| **name == channel).map(|(&seq, _)| seq).collect();
                    self.evict(&channel, &gone);
                }
                _ => unreachable!("only what several servers share has others"),
            }
            let ring: Vec<Seq> =
                self.kept.iter().filter(|(_, name)| **name == channel).map(|(&seq, _)| seq).collect();
            self.evict(&channel, &ring[..ring.len().saturating_sub(3)]);
        }
        self.open.retain(|ticket, _| *ticket > own);
    }

    fn evict(&mut self, channel: &str, gone: &[Seq]) {
        for seq in gone {
            self.kept.remove(seq);
            self.evicted.entry(channel.into()).or_default().insert(*seq);
        }
    }
}

fn seeds() -> u64 {
    std::env::var("ENCKE_STORE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(300)
}

#[test]
fn nothing_told_is_lost_whatever_the_disk_does() {
    let first = std::env::var("ENCKE_STORE_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut all = Counts::default();
    for seed in first.map_or_else(|| 0..seeds(), |seed: u64| seed..seed + 1) {
        eprintln!("seed {seed}");
        let mut world = World::new(seed);
        for _ in 0..6 {
            world.live();
        }
        all.lives += world.counts.lives;
        all.cut_openings += world.counts.cut_openings;
        all.told += world.counts.told;
        all.refused += world.counts.refused;
        all.swept += world.counts.swept;
        all.sick += world.counts.sick;
    }
    eprintln!("{all:?}");
    assert!(first.is_some() || all.told > 1000 && all.refused > 10 && all.cut_openings > 10 && all.sick > 10);
}
