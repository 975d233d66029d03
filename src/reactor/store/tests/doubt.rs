//! What was written and could not be known to be: it was refused, and is taken out again.

use super::disk::SimDisk;
use super::*;
use crate::log::{Answered, Condition};

/// Calls that fail behind the one that writes all: enough for the file not to be opened at once.
const MUTE: u64 = 3;

struct Run {
    disk: SimDisk,
    engine: Engine<SimDisk>,
    up_ms: u64,
}

impl Run {
    /// With message 1.
    fn new() -> Self {
        let disk = SimDisk::new(1);
        let (engine, ..) = Engine::open(disk.clone(), SETTINGS, seed(1), clocks(0)).unwrap();
        let mut run = Self { disk, engine, up_ms: 0 };
        let told = run.take(vec![append(1, "first", 0)]);
        assert!(matches!(&told[..], [Told::Tail(_)]), "{told:?}");
        run
    }

    fn take(&mut self, orders: Vec<Order>) -> Vec<Told> {
        self.up_ms += 100;
        self.engine.take(orders, clocks(self.up_ms));
        drain(&mut self.engine)
    }

    /// Writes a proposal that is refused all the same.
    fn refuse(&mut self, order: Order) {
        self.disk.mute(MUTE);
        let told = self.take(vec![order]);
        let is_refused = |told: &Told| matches!(told, Told::Refused { upto: Ticket(2), .. });
        assert!(told.iter().any(is_refused), "{told:?}");
    }

    /// Waits until the disk is well; nothing else is told.
    fn recover(&mut self) {
        let mut told = Vec::new();
        while told.is_empty() {
            assert!(self.up_ms < 1_000_000, "it does not recover");
            told = self.take(Vec::new());
        }
        assert!(matches!(&told[..], [Told::Condition(Condition::Well)]), "{told:?}");
    }

    fn numbers(&self) -> Vec<Seq> {
        load(&self.engine).into_iter().map(|(seq, _)| seq).collect()
    }

    /// What another life would find.
    fn answers(&self) -> Vec<Box<[u8]>> {
        let (engine, ..) = Engine::open(self.disk.copy(), SETTINGS, seed(1), clocks(0)).unwrap();
        let mut answers = Vec::new();
        engine
            .load(|batch| {
                answers.extend(batch.answered.into_iter().map(|kept| kept.answer));
                true
            })
            .unwrap();
        answers
    }
}

/// Message `seq` with the key, whose answer is this.
fn keyed(seq: Seq, answer: &str) -> Order {
    let Order::Append { mut proposal, live } = append(seq, answer, 1) else { unreachable!() };
    proposal.answered =
        Some(Answered { key: "key".into(), until: LogTime(u64::MAX), answer: answer.as_bytes().into() });
    Order::Append { proposal, live }
}

#[test]
fn a_message_that_was_refused_is_not_history_when_the_disk_is_well() {
    let mut run = Run::new();
    run.refuse(keyed(2, "refused"));
    let (found, ..) = Engine::open(run.disk.copy(), SETTINGS, seed(1), clocks(0)).unwrap();
    assert_eq!(load(&found).len(), 2, "it is on the disk");
    run.recover();
    assert_eq!(run.numbers(), [1]);
    assert!(run.answers().is_empty(), "a repeat is none");
    let told = run.take(vec![keyed(3, "repeated")]);
    assert!(told.iter().any(|told| matches!(told, Told::Tail(_))), "{told:?}");
    assert_eq!(run.numbers(), [1, 3]);
    assert_eq!(run.answers(), [Box::from(&b"repeated"[..])]);
}

#[test]
fn a_deletion_that_was_refused_deletes_nothing() {
    let mut run = Run::new();
    let Order::Append { mut proposal, live } = append(2, "", 1) else { unreachable!() };
    proposal.records = vec![Record::Deleted { channel: "c".into() }];
    run.refuse(Order::Append { proposal, live });
    run.recover();
    assert_eq!(run.numbers(), [1]);
}
