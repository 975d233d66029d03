//! The store in a real directory.

use super::*;
use crate::id::Epoch;
use crate::reactor::store::idle::Idle;
use crate::reactor::store::{Directory, Store, StoreError, back_up, start as begin};
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

/// What there is at once.
fn open(path: &Path, epoch: u64) -> Result<(Engine<Directory>, bool), StoreError> {
    let (engine, _, is_new) = Engine::open(Directory::take(path)?, SETTINGS, seed(epoch), clocks(0))?;
    Ok((engine, is_new))
}

fn refusal(path: &Path) -> StoreError {
    match open(path, 9) {
        Err(error) => error,
        Ok(_) => panic!("{} was opened", path.display()),
    }
}

fn start(path: &Path, epoch: u64) -> (Store, Epoch, Receiver<Told>) {
    let (sender, told) = mpsc::channel();
    let tell = move |all: Vec<Told>, _| all.into_iter().all(|told| sender.send(told).is_ok());
    let store = begin(path, SETTINGS, seed(epoch), tell).unwrap();
    match told.recv().unwrap() {
        Told::Opened { opening, .. } => (store, opening.epoch, told),
        other => panic!("{other:?}"),
    }
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
    let first = open(&temporary.store(), 1).unwrap();
    assert!(matches!(refusal(&temporary.store()), StoreError::Locked(_)));
    drop(first);
    open(&temporary.store(), 1).unwrap();
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
    open(&temporary.store(), 1).unwrap();
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
    assert!(open(&temporary.store(), 1).unwrap().1);
}

#[test]
fn another_format_is_refused() {
    let temporary = Temporary::new("format");
    open(&temporary.store(), 1).unwrap();
    let database = Database::open(temporary.file()).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
    transaction.open_table(meta).unwrap().insert("format", &2u64.to_le_bytes()[..]).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = refusal(&temporary.store());
    assert!(matches!(error, StoreError::Version(2)) && error.to_string().contains("format 2"), "{error}");
}

#[test]
fn a_copy_of_a_running_store_is_a_history_of_its_own() {
    let temporary = Temporary::new("copy");
    let (store, epoch, told) = start(&temporary.store(), 5);
    for seq in 1..=3000 {
        store.send(append(seq, &format!("{seq} {}", "x".repeat(2000)), seq));
    }
    hear(&told, 3000);
    let to = temporary.0.join("copy.redb");
    fs::write(&to, "an older one").unwrap();
    let copied = back_up(&temporary.store(), &to, u64::MAX).unwrap();
    assert_eq!((copied.messages, copied.bytes), (3000, fs::metadata(&to).unwrap().len()));
    assert!(!temporary.0.join("copy.redb.part").exists());
    // What is written afterwards is not in it.
    store.send(append(3001, "later", 3001));
    store.end();
    let restored = temporary.0.join("restored");
    fs::create_dir(&restored).unwrap();
    fs::copy(&to, restored.join("history.redb")).unwrap();
    let contents = Idle::take(&restored).unwrap().check().unwrap();
    assert!(contents.is_copy && contents.is_closed);
    assert_eq!((contents.live, contents.next), (3000, 3001));
    let (store, other, told) = start(&restored, 6);
    assert_eq!(other, Epoch::from_random(6), "a copy has a name of its own");
    assert_ne!(other, epoch);
    assert_eq!(hear(&told, 3000).len(), 3000);
    store.end();
    // The same of one that no server uses.
    let copied = back_up(&temporary.store(), &to, u64::MAX).unwrap();
    assert_eq!(copied.messages, 3001);
}

#[test]
fn a_copy_that_breaks_off_leaves_nothing() {
    let temporary = Temporary::new("no-copy");
    let to = temporary.0.join("copy.redb");
    assert!(matches!(back_up(&temporary.store(), &to, 1), Err(StoreError::NoHistory(_))));
    let opened = open(&temporary.store(), 1).unwrap();
    let error = back_up(&temporary.store(), &to, 1).unwrap_err();
    assert!(matches!(error, StoreError::Locked(_)), "its server gives no copies: {error}");
    drop(opened);
    back_up(&temporary.store(), &to, 1_000_000).unwrap();
    fs::write(&to, "kept").unwrap();
    fs::write(temporary.file(), "damaged").unwrap();
    assert!(back_up(&temporary.store(), &to, 1_000_000).is_err());
    assert_eq!(fs::read(&to).unwrap(), b"kept");
    assert_eq!(fs::read_dir(&temporary.0).unwrap().count(), 2, "nothing is left of it");
}

#[test]
fn who_is_sent_a_copy_and_reads_nothing_keeps_nobody() {
    let temporary = Temporary::new("deaf");
    let (store, _, told) = start(&temporary.store(), 5);
    for seq in 1..=1000 {
        store.send(append(seq, &"x".repeat(2000), seq));
    }
    hear(&told, 1000);
    let deaf = std::os::unix::net::UnixStream::connect(temporary.store().join("copies")).unwrap();
    store.send(append(1001, "goes on", 1001));
    assert_eq!(hear(&told, 1).len(), 1);
    store.send(Order::End);
    store.end();
    drop(deaf);
}

#[test]
fn what_was_revoked_is_there_in_later_lives_and_in_copies() {
    let temporary = Temporary::new("revoked");
    let revoked = |whose: &str, before: u64, lapses: u64| {
        let text = format!("{{{whose}\"before\":{before},\"lapses\":{lapses},\"channels\":[]}}");
        Record::Revoked { text: text.into(), lapses }
    };
    let (alice, bob, token) = ("\"subject\":\"alice\",", "\"subject\":\"bob\",", "\"token\":\"7\",");
    // What is taken back again, and by whom nobody is concerned any more, has no row.
    let records = [
        revoked(alice, 5, 105),
        revoked(bob, 6, 106),
        revoked(alice, 8, 108),
        revoked(token, 9, 109),
        revoked("\"everybody\":true,", 6, 20),
    ];
    let (store, _, told) = start(&temporary.store(), 5);
    for (ticket, record) in (1..).zip(records) {
        let proposal = Proposal {
            ticket: Ticket(ticket),
            first: ticket,
            records: vec![record],
            answered: None,
            seen: None,
        };
        store.send(Order::Append { proposal, live: 0 });
    }
    store.send(append(6, "after them", 1));
    hear(&told, 6);
    let to = temporary.0.join("copy.redb");
    assert_eq!(back_up(&temporary.store(), &to, u64::MAX).unwrap().messages, 1);
    store.end();
    let restored = temporary.0.join("restored");
    fs::create_dir(&restored).unwrap();
    fs::copy(&to, restored.join("history.redb")).unwrap();
    for path in [temporary.store(), restored] {
        let (engine, _) = open(&path, 9).unwrap();
        let mut found = Vec::new();
        let take = |batch: Batch| {
            found.extend(batch.revoked);
            true
        };
        engine.load(take).unwrap();
        found.sort_unstable();
        let expected = [
            "{\"everybody\":true,\"before\":6,\"lapses\":20,\"channels\":[]}",
            "{\"subject\":\"alice\",\"before\":8,\"lapses\":108,\"channels\":[]}",
            "{\"token\":\"7\",\"before\":9,\"lapses\":109,\"channels\":[]}",
        ];
        assert_eq!(found.iter().map(|text| &**text).collect::<Vec<_>>(), expected);
    }
}
