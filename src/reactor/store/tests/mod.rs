//! The store on a simulated disk, held to what it told; and in a real directory.

mod damage;
mod directory;
mod disk;
mod doubt;
mod full;
mod lives;
mod model;
mod updates;

use crate::config::Promise;
use crate::hub::{Data, Publication};
use crate::id::{Epoch, Seed, Seq};
use crate::log::{Batch, LogTime, Proposal, Record, Ticket};
use crate::reactor::store::clocks::Clocks;
use crate::reactor::store::directory::Disk;
use crate::reactor::store::engine::Engine;
use crate::reactor::store::orders::{Order, Settings, Told};

const SETTINGS: Settings =
    Settings { promise: Promise::Synced, pause_ms: 0, keys_max: 100, dead_max: 20_000, channels_max: 100 };

/// What a history is made with.
fn seed(epoch: u64) -> Seed {
    Seed { epoch: Epoch::from_random(epoch), secret: 1 << 100 | 7 }
}

fn clocks(up_ms: u64) -> Clocks {
    Clocks { wall_ms: 1_800_000_000_000 + up_ms, up_ms, boot: 1 }
}

fn message(channel: &str, text: &str) -> Record {
    let publication = Publication::of(Data::Text(text.into()));
    Record::Message { channel: channel.into(), publication, at: LogTime(0) }
}

/// Message `seq`, alone, while the hub keeps `live` of them.
fn append(seq: Seq, text: &str, live: u64) -> Order {
    let proposal = Proposal {
        ticket: Ticket(seq),
        first: seq,
        records: vec![message("c", text)],
        answered: None,
        seen: None,
    };
    Order::Append { proposal, live }
}

/// All that is told.
fn drain<D: Disk>(engine: &mut Engine<D>) -> Vec<Told> {
    std::iter::from_fn(|| engine.poll()).collect()
}

/// The history, record by record.
fn load<D: Disk>(engine: &Engine<D>) -> Vec<(Seq, Record)> {
    let mut loaded = Vec::new();
    let take = |batch: Batch| {
        loaded.extend(batch.entries.into_iter().map(|entry| (entry.seq, entry.record)));
        true
    };
    engine.load(take).unwrap();
    loaded
}
