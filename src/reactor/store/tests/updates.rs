//! Updates of Mercure, which lie in several channels.

use super::disk::SimDisk;
use super::*;
use crate::hub::Update;
use crate::log::Lost;

const EAGER: Settings = Settings { dead_max: 1, ..SETTINGS };

struct Run {
    engine: Engine<SimDisk>,
    up_ms: u64,
    next: Seq,
}

impl Run {
    fn new(settings: Settings) -> Self {
        let (engine, ..) = Engine::open(SimDisk::new(1), settings, seed(1), clocks(0)).unwrap();
        Self { engine, up_ms: 0, next: 1 }
    }

    /// Gives the engine an order; which rows it wants to know of, if any.
    fn take(&mut self, order: Order) -> Vec<(Seq, Box<str>)> {
        self.up_ms += 100;
        self.engine.take(vec![order], clocks(self.up_ms));
        let looks = drain(&mut self.engine).into_iter().filter_map(|told| match told {
            Told::Look(rows) => Some(rows),
            _ => None,
        });
        looks.flatten().collect()
    }

    fn append(&mut self, record: Record, live: u64) -> Vec<(Seq, Box<str>)> {
        let (ticket, first) = (Ticket(self.next), self.next);
        self.next += 1;
        let proposal = Proposal { ticket, first, records: vec![record], answered: None, seen: None };
        self.take(Order::Append { proposal, live })
    }

    /// The numbers that are history, and what is told of losses before the first.
    fn load(&self) -> (Vec<Seq>, Vec<(String, Seq)>) {
        let mut batches = Vec::new();
        self.engine
            .load(|batch| {
                batches.push(batch);
                true
            })
            .unwrap();
        let lost = batches[0].lost.iter().map(|lost| (lost.channel.to_string(), lost.upto)).collect();
        let entries = batches.iter().flat_map(|batch| &batch.entries);
        (entries.map(|entry| entry.seq).collect(), lost)
    }
}

fn update(topics: &[&str]) -> Record {
    let topics = topics.iter().map(|topic| Box::from(*topic)).collect();
    let update = Some(Box::new(Update { topics, private: false, id: None, retry_ms: None }));
    let publication = Publication { update, ..Publication::of(Data::Text("x".into())) };
    Record::Message { channel: "a".into(), publication, at: LogTime(0) }
}

fn lost(channel: &str, upto: Seq) -> Order {
    Order::Kept { dead: Vec::new(), lost: vec![Lost { channel: channel.into(), upto, of_latest: upto }] }
}

#[test]
fn an_update_is_history_while_one_of_its_topics_has_it() {
    let mut run = Run::new(EAGER);
    run.append(update(&["a", "b"]), 0);
    let rows = run.append(message("c", "y"), 0);
    let expected: [(Seq, Box<str>); 3] = [(1, "a".into()), (1, "b".into()), (2, "c".into())];
    assert_eq!(rows, expected, "the hub is asked about each");
    run.take(lost("a", 1));
    run.append(message("c", "z"), 0);
    assert_eq!(run.load(), (vec![1, 2, 3], vec![("a".into(), 1)]), "what one has lost is told before");
    run.append(Record::Deleted { channel: "b".into() }, 0);
    assert_eq!(run.load().0, [2, 3], "nobody has it any more");
}

#[test]
fn what_has_doubled_is_looked_at_whatever_the_hub_counts() {
    let mut run = Run::new(Settings { dead_max: 100, ..SETTINGS });
    for _ in 0..2000 {
        // The hub counts each update in each of its topics; of all, it keeps the last ten.
        let rows = run.append(update(&["a", "b", "c", "d"]), 40_000);
        if !rows.is_empty() {
            let dead = rows.into_iter().map(|(seq, _)| seq).filter(|seq| seq + 10 < run.next);
            let mut dead: Vec<Seq> = dead.collect();
            dead.dedup();
            run.take(Order::Kept { dead, lost: Vec::new() });
        }
    }
    assert!(run.load().0.len() < 500, "{}", run.load().0.len());
}
