//! Copies of the history on disk, and what becomes of clients when one is put back.

use std::path::Path;
use std::process::{Command, Output};

use rustix::process::Signal;

use crate::harness::{Encke, data, parts};
use crate::store::{Directory, facts, history};

fn back_up(store: &str, file: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_encke"));
    command.arg("backup").arg(file).args(["--store-dir", store]).args(more).output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_backup_is_taken_while_the_server_runs_and_put_back() {
    let directory = Directory::new("backup");
    let store = directory.store();
    let mut server = Encke::start(&["--store-dir", &store]);
    for number in 0..200 {
        server.publish("c0", format!("{number} {}", "x".repeat(3000)));
    }
    assert_eq!(server.ask("POST", "/pub/c1", &["Idempotency-Key: k"], b"keyed").status, 202);
    server.publish("c2", "deleted");
    assert_eq!(server.ask("DELETE", "/pub/c2", &[], b"").status, 204);
    let before = history(&server);
    let file = directory.0.join("backup.redb");
    let (code, out, complaint) = said(&back_up(&store, &file, &[]));
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{out}");
    assert!(out.starts_with("202 messages, "), "{out}");
    let later = server.publish("c0", "after the backup");
    server.signal(Signal::KILL);
    server.exit();

    // As the manual says: put the file back, start.
    std::fs::copy(&file, Path::new(&store).join("history.redb")).unwrap();
    assert!(facts(&store)["epoch"].ends_with("it is a copy, and its first server gives it a new one"));
    let server = Encke::start(&["--store-dir", &store]);
    let texts = |all: &std::collections::BTreeMap<String, String>| -> Vec<String> {
        let mut all: Vec<_> = all.iter().map(|(id, text)| (parts(id).1, text.clone())).collect();
        all.sort();
        all.into_iter().map(|(_, text)| text).collect()
    };
    assert_eq!(texts(&history(&server)), texts(&before), "what was there when it was taken");
    // Who had seen more is told of a gap, and goes on.
    let batch = server.json(&format!("/sub/c0?as=interval&after={later}&max=1000"));
    assert_eq!(batch["gap"], true);
    assert!(data(&batch).len() >= 100 && !data(&batch).contains(&"after the backup".to_owned()));
    let next = batch["next"].as_str().unwrap().to_owned();
    assert_ne!(parts(&next).0, parts(&later).0, "ids that were given out after the backup are none of its");
    server.publish("c0", "goes on");
    let batch = server.json(&format!("/sub/c0?as=interval&after={next}"));
    assert_eq!((batch["gap"].as_bool(), data(&batch)), (Some(false), vec!["goes on".to_owned()]));
    // A key of before still answers.
    assert_eq!(server.ask("POST", "/pub/c1", &["Idempotency-Key: k"], b"keyed").status, 202);
    assert_eq!(server.history("c1"), ["keyed"]);
}

#[test]
fn a_backup_of_a_history_that_no_server_uses_is_the_same() {
    let directory = Directory::new("backup-idle");
    let store = directory.store();
    let file = directory.0.join("backup.redb");
    let (code, _, complaint) = said(&back_up(&store, &file, &[]));
    assert!(code == Some(1) && complaint.contains("there is no history in"), "{complaint}");
    let mut server = Encke::start(&["--store-dir", &store]);
    server.publish("c0", "one");
    server.signal(Signal::KILL);
    server.exit();
    let (code, out, complaint) = said(&back_up(&store, &file, &["--rate", "1"]));
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    assert!(out.starts_with("1 messages, "), "{out}");
    assert_eq!(said(&back_up(&store, &file, &["--rate", "0"])).0, Some(2));
    assert_eq!(said(&back_up(&store, Path::new("/nowhere/file"), &[])).0, Some(1));
    assert_eq!(
        said(&Command::new(env!("CARGO_BIN_EXE_encke")).args(["backup", "x"]).output().unwrap()).0,
        Some(1)
    );
}
