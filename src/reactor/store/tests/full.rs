//! A disk that is full.

use super::disk::SimDisk;
use super::*;
use crate::log::{Condition, Lost};

const TEXT: usize = 2000;

struct Run {
    engine: Engine<SimDisk>,
    up_ms: u64,
    next: Seq,
    /// The hub keeps so many of the last messages.
    keeps: u64,
    told: u64,
    refused: u64,
    conditions: Vec<Condition>,
}

impl Run {
    fn new(disk: &SimDisk, keeps: u64) -> Self {
        Self::with(disk, keeps, SETTINGS)
    }

    fn with(disk: &SimDisk, keeps: u64, settings: Settings) -> Self {
        let (engine, ..) = Engine::open(disk.clone(), settings, seed(1), clocks(0)).unwrap();
        Self { engine, up_ms: 0, next: 1, keeps, told: 0, refused: 0, conditions: Vec::new() }
    }

    fn publish(&mut self) {
        let order = append(self.next, &"x".repeat(TEXT), self.keeps.min(self.told));
        self.next += 1;
        self.take(vec![order]);
    }

    fn take(&mut self, orders: Vec<Order>) {
        self.up_ms += 100;
        self.engine.take(orders, clocks(self.up_ms));
        let mut answers = Vec::new();
        for told in drain(&mut self.engine) {
            match told {
                Told::Tail(_) => self.told += 1,
                Told::Refused { why, .. } => {
                    assert!(
                        why.0.contains("no storage space") || why.0.contains("an earlier write failed"),
                        "{why:?}"
                    );
                    self.refused += 1;
                }
                Told::Condition(condition) => self.conditions.push(condition),
                Told::Opened { .. } => unreachable!("the thread tells that"),
                Told::Look(rows) => {
                    let from = self.next.saturating_sub(self.keeps);
                    let dead: Vec<Seq> =
                        rows.into_iter().map(|(seq, _)| seq).filter(|seq| *seq < from).collect();
                    let lost = vec![Lost { channel: "c".into(), upto: from.saturating_sub(1), of_latest: 0 }];
                    answers.push(Order::Kept { dead, lost });
                }
            }
        }
        if !answers.is_empty() {
            self.take(answers);
        }
    }

    fn is_sick(&self) -> bool {
        matches!(self.conditions.last(), Some(Condition::CannotStore(_)))
    }
}

#[test]
fn what_is_dead_makes_room() {
    let disk = SimDisk::new(1);
    disk.room(2 << 20);
    let mut run = Run::new(&disk, 100);
    run.take(Vec::new());
    for _ in 0..3000 {
        run.publish();
    }
    assert!(run.refused > 0, "it was full");
    assert!(run.told > 1500, "and went on: {} told, {} refused", run.told, run.refused);
    assert!(run.refused < 100, "{} told, {} refused", run.told, run.refused);
    assert!(run.engine.figures.swept > 1000);
}

#[test]
fn with_room_again_it_is_well_without_being_asked() {
    let disk = SimDisk::new(1);
    disk.room(1 << 20);
    let mut run = Run::new(&disk, u64::MAX);
    for _ in 0..1000 {
        run.publish();
    }
    assert!(run.is_sick() && run.refused > 100, "{} told, {} refused", run.told, run.refused);
    for _ in 0..1000 {
        run.take(Vec::new());
    }
    assert!(run.is_sick(), "there is no room");
    disk.room(16 << 20);
    for _ in 0..400 {
        run.take(Vec::new());
    }
    assert_eq!(run.conditions.last(), Some(&Condition::Well));
    let told = run.told;
    run.publish();
    assert_eq!(run.told, told + 1);
    assert!(run.conditions.len() <= 40, "it is told when something changes: {}", run.conditions.len());
    assert_eq!(load(&run.engine).len() as u64, run.told, "what was told is there, and nothing else");
}

/// In `behind`, what is dead went in favour of what is not stored yet. Neither may be there without the other.
#[test]
fn nothing_makes_room_for_what_is_not_stored() {
    const KEEPS: u64 = 100;
    let disk = SimDisk::new(1);
    disk.room(2 << 20);
    let settings = Settings { promise: Promise::Behind, ..SETTINGS };
    let mut run = Run::with(&disk, KEEPS, settings);
    let mut looked_at = 0;
    for _ in 0..4000 {
        // As the server does: it takes no more when too much waits.
        match run.is_sick() && run.engine.is_owing(20) {
            true => run.take(Vec::new()),
            false => run.publish(),
        }
        let there = load(&run.engine);
        let Some(&(last, _)) = there.last().filter(|_| run.is_sick()) else { continue };
        looked_at += 1;
        let kept: Vec<Seq> = there.iter().rev().take(KEEPS as usize).map(|(seq, _)| *seq).collect();
        let expected: Vec<Seq> = (1..=last).rev().take(KEEPS as usize).collect();
        assert_eq!(kept, expected, "after a crash they would be missing");
    }
    assert!(looked_at > 5, "it was full: {looked_at}");
    assert!(run.told > 1000, "and went on: {}", run.told);
}

/// Between two messages the store has time to find that there is room for its reserve: that must not be all that it does.
#[test]
fn the_reserve_does_not_take_the_room_that_it_gave() {
    let disk = SimDisk::new(1);
    disk.room(2 << 20);
    let mut run = Run::new(&disk, 100);
    for _ in 0..3000 {
        run.publish();
        for _ in 0..30 {
            run.take(Vec::new());
        }
    }
    assert!(run.refused > 0, "it was full");
    assert!(run.refused < 50, "{} told, {} refused", run.told, run.refused);
    assert_eq!(run.conditions.last(), Some(&Condition::Well));
}
