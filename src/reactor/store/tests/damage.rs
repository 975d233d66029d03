//! Files that are not what was written.

use super::disk::SimDisk;
use super::*;
use crate::id::{Epoch, Random};
use crate::reactor::store::StoreError;

fn written(count: Seq) -> SimDisk {
    let disk = SimDisk::new(1);
    let (mut engine, ..) = Engine::open(disk.clone(), SETTINGS, seed(1), clocks(0)).unwrap();
    for seq in 1..=count {
        engine.take(vec![append(seq, &format!("message {seq}"), seq)], clocks(seq));
    }
    engine.end(clocks(count)).unwrap();
    disk.restart();
    disk
}

/// A changed byte is found, or was in nothing that matters. Never is anything else read than what was written.
#[test]
fn a_changed_byte_is_found() {
    let whole = written(300);
    let mut random = Random::new(3);
    let mut found = 0;
    for _ in 0..200 {
        let disk = whole.copy();
        disk.damage(random.below(disk.len() as u64) as usize);
        match Engine::open(disk, SETTINGS, seed(2), clocks(1000)) {
            Err(StoreError::Damaged(why)) => {
                assert!(!why.is_empty());
                found += 1;
            }
            Err(other) => panic!("{other}"),
            Ok((engine, opening, is_new)) => {
                assert!(!is_new);
                assert_eq!((opening.epoch, opening.next), (Epoch::from_random(1), 301));
                let loaded = load(&engine);
                assert_eq!(loaded.len(), 300);
                assert!(
                    loaded.iter().all(|(seq, record)| *record == message("c", &format!("message {seq}")))
                );
            }
        }
    }
    assert!(found > 2, "{found}");
}
