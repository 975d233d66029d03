//! The store in a real directory.

use super::*;
use crate::id::Epoch;
use crate::reactor::store::{Store, StoreError, open};
use redb::{Database, TableDefinition};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};

/// A directory that is removed when the test ends.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("encke-store-{name}-{}", std::process::id()));
        _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    fn file(&self) -> PathBuf {
        self.store().join("history.redb")
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

fn refusal(path: &Path) -> StoreError {
    match open(path, SETTINGS, seed(9)) {
        Err(error) => error,
        Ok(_) => panic!("{} was opened", path.display()),
    }
}

fn start(path: &Path, epoch: u64) -> (Store, Epoch, Receiver<Told>) {
    let opened = open(path, SETTINGS, seed(epoch)).unwrap();
    let epoch = opened.opening.epoch;
    let (sender, told) = mpsc::channel();
    let tell = move |all: Vec<Told>, _| all.into_iter().all(|told| sender.send(told).is_ok());
    (opened.start(tell).unwrap(), epoch, told)
}

/// What is told until `count` messages are history.
fn hear(told: &Receiver<Told>, count: usize) -> Vec<Record> {
    let mut heard = Vec::new();
    while heard.len() < count {
        match told.recv().unwrap() {
            Told::Tail(batch) => heard.extend(batch.entries.into_iter().map(|entry| entry.record)),
            Told::Condition(crate::log::Condition::Ready) => {}
            other => panic!("{other:?}"),
        }
    }
    heard
}

#[test]
fn a_history_outlives_the_process() {
    let temporary = Temporary::new("outlives");
    let (store, epoch, told) = start(&temporary.store(), 5);
    assert_eq!(epoch, Epoch::from_random(5));
    for seq in 1..=100 {
        store.send(append(seq, &seq.to_string(), seq));
    }
    let heard = hear(&told, 100);
    assert_eq!(heard[41], message("c", "42"));
    store.send(append(101, "the last", 101));
    store.end();
    let (store, epoch, told) = start(&temporary.store(), 6);
    assert_eq!(epoch, Epoch::from_random(5), "it has a name already");
    let loaded = hear(&told, 101);
    assert_eq!(loaded[..100], heard);
    assert_eq!(loaded[100], message("c", "the last"), "what was sent before the end is stored");
    assert!(fs::metadata(temporary.store().join("reserve")).unwrap().len() >= 16 << 20);
    store.end();
}

#[test]
fn one_process_at_a_time() {
    let temporary = Temporary::new("locked");
    let first = open(&temporary.store(), SETTINGS, seed(1)).unwrap();
    assert!(matches!(refusal(&temporary.store()), StoreError::Locked(_)));
    drop(first);
    open(&temporary.store(), SETTINGS, seed(1)).unwrap();
}

#[test]
fn a_directory_that_cannot_be_is_refused() {
    let temporary = Temporary::new("refused");
    let error = refusal(&temporary.0.join("not/there"));
    assert!(matches!(error, StoreError::NoDirectory(_)));
    assert!(error.to_string().contains("not does not exist"), "{error}");
    let file = temporary.0.join("file");
    fs::write(&file, "").unwrap();
    let error = refusal(&file);
    assert!(matches!(error, StoreError::Io(_)) && error.to_string().contains("file"), "{error}");
}

#[test]
fn what_is_no_history_is_not_replaced() {
    let temporary = Temporary::new("foreign");
    open(&temporary.store(), SETTINGS, seed(1)).unwrap();
    let whole = fs::read(temporary.file()).unwrap();
    let cut = whole[..whole.len() / 2].to_vec();
    for bytes in [&b""[..], b"no database", &[0; 8192], &whole[..100], &cut] {
        fs::write(temporary.file(), bytes).unwrap();
        let error = refusal(&temporary.store());
        assert!(matches!(error, StoreError::Damaged(_)), "{} bytes: {error:?}", bytes.len());
        assert_eq!(fs::read(temporary.file()).unwrap().len(), bytes.len(), "it is left as it is");
    }
    // What an interrupted creation left behind is nothing.
    fs::remove_file(temporary.file()).unwrap();
    fs::write(temporary.store().join("history.redb.new"), b"half").unwrap();
    assert!(open(&temporary.store(), SETTINGS, seed(1)).unwrap().is_new);
}

#[test]
fn another_format_is_refused() {
    let temporary = Temporary::new("format");
    open(&temporary.store(), SETTINGS, seed(1)).unwrap();
    let database = Database::open(temporary.file()).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta: TableDefinition<&str, u64> = TableDefinition::new("meta");
    transaction.open_table(meta).unwrap().insert("format", 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = refusal(&temporary.store());
    assert!(matches!(error, StoreError::Version(2)) && error.to_string().contains("format 2"), "{error}");
}
