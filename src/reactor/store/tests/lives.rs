//! A seed lives several lives: proposals, failing calls, sweeps, clocks that step, and the power is cut in the middle.
//!
//! What a life begins with has to be one of the histories that the last one may have left: all that was told, and of what
//! has no answer, or was refused when nobody could know, as much as one transaction may have taken. From then on it is
//! known which.
//!
//! `ENCKE_STORE_SEED=n` replays one seed, `ENCKE_STORE_SEEDS=n` runs that many.

use super::disk::SimDisk;
use super::model::{Loaded, State};
use crate::broker::access::{Revocation, Whose};
use crate::config::Promise;
use crate::hub::{Data, Publication};
use crate::id::{Epoch, Random, Seq};
use crate::log::{Answered, Batch, Condition, Entry, LogTime, Lost, Opening, Proposal, Record, Ticket};
use crate::reactor::store::clocks::Clocks;
use crate::reactor::store::engine::Engine;
use crate::reactor::store::orders::{Order, Settings, Told};
use std::collections::{BTreeSet, VecDeque};
use std::io::ErrorKind;

#[derive(Debug)]
struct World {
    random: Random,
    disk: SimDisk,
    clocks: Clocks,
    promise: Promise,
    next: Seq,
    tickets: u64,
    epoch: Option<Epoch>,
    /// What was told to be history.
    told: State,
    /// What a hub has that does not wait for the disk.
    ahead: State,
    /// What this life has proposed and has no answer.
    open: VecDeque<Proposal>,
    /// What was refused since something was told last, by transactions.
    doubt: Vec<Vec<Proposal>>,
    /// The last that was refused.
    refused: Ticket,
    /// What the time line said when the life began.
    time: LogTime,
    /// Cursors below this had a gap everywhere in the last life, which ended in good order.
    lost: Option<Seq>,
    is_sick: bool,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    lives: usize,
    cut_openings: usize,
    told: usize,
    refused: usize,
    /// Lives that began with something that the one before was not told.
    found: usize,
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
            told: State::default(),
            ahead: State::default(),
            open: VecDeque::new(),
            doubt: Vec::new(),
            refused: Ticket(0),
            time: LogTime(0),
            lost: None,
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
        let Ok((mut engine, opening, is_new)) = opened else { return self.cut_while_opening() };
        let mut loaded = Loaded::default();
        let is_loaded = engine.load(|batch| {
            loaded.take(batch);
            true
        });
        if is_loaded.is_err() {
            return self.cut_while_opening();
        }
        self.begin(&opening, is_new, &loaded);
        self.disk.cut_in(40 + self.random.below(2000));
        for _ in 0..self.random.below(60) {
            self.step(&mut engine);
        }
        let is_over = self.random.one_in(3) && engine.end(self.clocks).is_ok() && self.open.is_empty();
        self.lost = (is_over && self.doubt.is_empty()).then_some(opening.lost);
        self.is_sick = false;
        self.restart();
    }

    fn cut_while_opening(&mut self) {
        self.counts.cut_openings += 1;
        // It may have begun a life.
        self.lost = None;
        self.restart();
    }

    fn restart(&mut self) {
        self.disk.restart();
        if self.random.one_in(2) {
            self.clocks.boot += 1;
            self.clocks.up_ms = 10;
        }
    }

    /// A life begins: holds what was loaded to what was told.
    fn begin(&mut self, opening: &Opening, is_new: bool, loaded: &Loaded) {
        match self.epoch {
            Some(epoch) if !is_new => assert_eq!(opening.epoch, epoch),
            _ => assert_eq!(self.told.last, 0, "a history began anew that had something in it"),
        }
        let is_behind = self.promise == Promise::Behind;
        if let Some(lost) = self.lost {
            assert_eq!(opening.lost, lost, "a life that ended in good order is no gap");
        }
        let hub = if is_behind { &self.ahead } else { &self.told };
        assert!(opening.next > hub.last, "number {} was seen, the next is {}", hub.last, opening.next);
        let possible = self.possible();
        let judged: Vec<_> =
            possible.iter().map(|state| state.check(loaded, opening, hub, is_behind)).collect();
        let Some(at) = judged.iter().position(Result::is_ok) else {
            panic!("none of {} possible histories: {judged:#?}", judged.len());
        };
        let mut state = possible[at].clone();
        state.begin_with(loaded);
        assert!(!is_behind || hub.last <= state.last || hub.last < opening.lost, "lost in silence");
        self.counts.found += usize::from(at > 0);
        (self.told, self.ahead) = (state.clone(), state);
        self.open.clear();
        self.doubt.clear();
        self.epoch = Some(opening.epoch);
        self.time = opening.time;
        self.next = opening.next;
    }

    /// The histories that the last life may have left.
    fn possible(&self) -> Vec<State> {
        let mut all = vec![self.told.clone()];
        // What was refused, as a whole or not at all: there is one transaction at a time.
        for refused in &self.doubt {
            let mut state = self.told.clone();
            refused.iter().for_each(|proposal| state.apply(proposal));
            all.push(state);
        }
        // What has no answer, in order.
        let mut state = self.told.clone();
        for proposal in &self.open {
            state.apply(proposal);
            all.push(state.clone());
        }
        all
    }

    fn step(&mut self, engine: &mut Engine<SimDisk>) {
        self.pass();
        if self.random.one_in(25) {
            let kind = [ErrorKind::StorageFull, ErrorKind::Other][self.random.below(2) as usize];
            let times = if self.random.one_in(2) { 1 } else { self.random.below(20) };
            self.disk.fail_in(self.random.below(30), kind, times);
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
        self.tickets += 1;
        let records: Vec<Record> = match self.random.below(24) {
            0..2 => vec![Record::Deleted { channel: self.channel() }],
            2 => vec![self.revoked()],
            _ => (0..count).map(|_| self.message()).collect(),
        };
        let has_messages = matches!(records[0], Record::Message { .. });
        let key = format!("key {}", self.tickets);
        let answered = (has_messages && self.random.one_in(4)).then(|| Answered {
            key: key.as_str().into(),
            until: LogTime(self.time.0 + 1_000_000),
            answer: key.as_bytes().into(),
        });
        let proposal =
            Proposal { ticket: Ticket(self.tickets), first: self.next, records, answered, seen: None };
        self.next = proposal.last() + 1;
        self.open.push_back(proposal.clone());
        if self.promise == Promise::Behind {
            self.ahead.apply(&proposal);
        }
        Order::Append { proposal, live: self.hub().live() }
    }

    fn hub(&self) -> &State {
        if self.promise == Promise::Behind { &self.ahead } else { &self.told }
    }

    fn channel(&mut self) -> Box<str> {
        format!("c{}", self.random.below(5)).into()
    }

    fn message(&mut self) -> Record {
        let text = "x".repeat(self.random.below(900) as usize) + &self.random.next().to_string();
        let mut publication = Publication::of(Data::Text(text.into()));
        publication.key = self.random.one_in(3).then(|| format!("k{}", self.random.below(3)).into());
        if publication.key.is_some() && self.random.one_in(3) {
            publication.data = Data::Removed;
        }
        publication.ttl_ms = self.random.one_in(20).then_some(0);
        Record::Message { channel: self.channel(), publication, at: self.time }
    }

    fn revoked(&mut self) -> Record {
        let whose = Whose::Token(self.tickets.to_string().into());
        let revocation = Revocation { whose, before: self.tickets, channels: Vec::new(), lapses: 1 << 40 };
        Record::Revoked { text: revocation.text().into(), lapses: revocation.lapses }
    }

    fn hear(&mut self, told: Told) -> Option<Order> {
        match told {
            Told::Tail(batch) => self.applied(batch),
            Told::Refused { upto, why } => {
                assert!(self.promise == Promise::Synced && !why.0.is_empty());
                self.counts.refused += 1;
                self.refused = upto;
                let refused = self.answered_upto(upto);
                self.doubt.push(refused);
            }
            Told::Look(rows) => {
                let hub = self.hub();
                let dead = rows.iter().map(|&(seq, _)| seq).filter(|&seq| !hub.keeps(seq)).collect();
                let names: BTreeSet<&Box<str>> = rows.iter().map(|(_, channel)| channel).collect();
                let lost = names.into_iter().map(|channel| {
                    let upto = hub.lost_on(channel);
                    Lost { channel: channel.clone(), upto, of_latest: hub.of_latest(channel) }
                });
                return Some(Order::Kept { dead, lost: lost.filter(|lost| lost.upto > 0).collect() });
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

    /// What was open up to a ticket, and is not any more.
    fn answered_upto(&mut self, upto: Ticket) -> Vec<Proposal> {
        let count = self.open.iter().take_while(|proposal| proposal.ticket <= upto).count();
        self.open.drain(..count).collect()
    }

    fn applied(&mut self, batch: Batch) {
        self.counts.told += 1;
        let own = batch.own.expect("nobody else writes");
        assert!(own > self.refused, "it was refused");
        let stored = self.answered_upto(own);
        let (mut entries, mut answered) = (Vec::new(), Vec::new());
        for proposal in &stored {
            self.told.apply(proposal);
            let numbered = (proposal.first..).zip(proposal.records.clone());
            entries.extend(numbered.map(|(seq, record)| Entry { seq, record }));
            answered.extend(proposal.answered.clone());
        }
        assert_eq!((entries, answered), (batch.entries, batch.answered));
        // What was refused before is not there: its numbers are below.
        self.doubt.clear();
    }
}

fn seeds() -> u64 {
    std::env::var("ENCKE_STORE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(300)
}

#[test]
fn nothing_told_is_lost_whatever_the_disk_does() {
    let number = |name| std::env::var(name).ok().and_then(|seed| seed.parse().ok());
    let one: Option<u64> = number("ENCKE_STORE_SEED");
    let first = number("ENCKE_STORE_FIRST_SEED").unwrap_or(0);
    let mut all = Counts::default();
    for seed in one.map_or_else(|| first..first + seeds(), |seed| seed..seed + 1) {
        eprintln!("seed {seed}");
        let mut world = World::new(seed);
        for _ in 0..6 {
            world.live();
        }
        all.lives += world.counts.lives;
        all.cut_openings += world.counts.cut_openings;
        all.told += world.counts.told;
        all.refused += world.counts.refused;
        all.found += world.counts.found;
        all.swept += world.counts.swept;
        all.sick += world.counts.sick;
    }
    eprintln!("{all:?}");
    let is_enough = all.told > 1000 && all.refused > 10 && all.cut_openings > 10 && all.sick > 10;
    assert!(one.is_some() || is_enough && all.found > 2);
}
