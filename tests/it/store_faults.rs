//! Histories on disks and under clocks that are not what they should be.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use redb::{Database, ReadableDatabase, TableDefinition};
use rustix::process::Signal;

use crate::harness::{Encke, until};
use crate::store::{Directory, refusal};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// Changes facts about a history that no server uses.
fn change(store: &str, facts: &[(&str, &dyn Fn(u64) -> u64)]) {
    let database = Database::open(Path::new(store).join("history.redb")).unwrap();
    let read = database.begin_read().unwrap();
    let old = |name: &str| {
        let row = read.open_table(META).unwrap().get(name).unwrap().unwrap();
        u64::from_le_bytes(row.value().try_into().unwrap())
    };
    let transaction = database.begin_write().unwrap();
    for (name, new) in facts {
        let new = new(old(name)).to_le_bytes();
        transaction.open_table(META).unwrap().insert(name, &new[..]).unwrap();
    }
    transaction.commit().unwrap();
}

#[test]
fn a_history_of_another_version_is_refused() {
    let directory = Directory::new("version");
    let store = directory.store();
    let mut server = Encke::start(&["--store-dir", &store]);
    server.publish("c", "x");
    server.signal(Signal::TERM);
    server.exit();
    change(&store, &[("format", &|format| format + 1)]);
    let said = refusal(&["--store-dir", &store]);
    assert!(said.contains("the history has format 2, this program reads format 1"), "{said}");
    assert!(said.contains(&store), "{said}");
    change(&store, &[("format", &|format| format - 1)]);
    assert_eq!(Encke::start(&["--store-dir", &store]).history("c"), ["x"]);
}

const HOUR_MS: u64 = 3_600_000;

/// A life of another start of the system, between which and the next the wall clock was set.
fn after_a_step(name: &str, step: &dyn Fn(u64) -> u64) -> Vec<String> {
    let directory = Directory::new(name);
    let store = directory.store();
    let mut server = Encke::start(&["--store-dir", &store]);
    for (text, ttl) in [("brief", 5400), ("long", 86_400)] {
        assert_eq!(server.ask("POST", &format!("/pub/c?ttl={ttl}"), &[], text.as_bytes()).status, 202);
    }
    server.publish("c", "for ever");
    server.signal(Signal::KILL);
    server.exit();
    change(&store, &[("wall", step), ("boot", &|boot| boot ^ 1)]);
    let server = Encke::start(&["--store-dir", &store, "--history-seconds", "1000000"]);
    server.publish("c", "next");
    server.history("c")
}

#[test]
fn a_clock_that_was_set_by_hours_between_two_lives_revives_nothing() {
    // The clock of before was ahead: it has been set back since, and nothing gets younger or older.
    let back = after_a_step("clock-back", &|wall| wall + 3 * HOUR_MS);
    assert_eq!(back, ["brief", "long", "for ever", "next"]);
    // It was behind, or the machine was off for two hours: nobody can tell, and time has passed.
    let ahead = after_a_step("clock-ahead", &|wall| wall - 2 * HOUR_MS);
    assert_eq!(ahead, ["long", "for ever", "next"]);
}

#[test]
fn a_clock_that_was_set_while_the_system_runs_is_not_believed() {
    let directory = Directory::new("clock-runs");
    let store = directory.store();
    let mut server = Encke::start(&["--store-dir", &store]);
    assert_eq!(server.ask("POST", "/pub/c?ttl=600", &[], b"brief").status, 202);
    server.signal(Signal::KILL);
    server.exit();
    change(&store, &[("wall", &|wall| wall - 5 * HOUR_MS)]);
    assert_eq!(Encke::start(&["--store-dir", &store]).history("c"), ["brief"]);
}

#[test]
fn without_the_right_to_write_the_server_does_not_start() {
    let directory = Directory::new("rights");
    let store = directory.store();
    let mut server = Encke::start(&["--store-dir", &store]);
    server.publish("c", "x");
    server.signal(Signal::TERM);
    server.exit();
    let other = directory.0.join("new");
    for path in [&store, other.to_str().unwrap()] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_encke"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--store-dir", path]);
        if rustix::process::geteuid().is_root() {
            // Nobody in particular.
            command.uid(65_534).gid(65_534);
        } else {
            Command::new("chmod").args(["-R", "a-w"]).arg(&directory.0).status().unwrap();
        }
        let output = command.output().unwrap();
        Command::new("chmod").args(["-R", "u+w"]).arg(&directory.0).status().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(path) && said.contains("ermission denied"), "{said}");
    }
    assert_eq!(Encke::start(&["--store-dir", &store]).history("c"), ["x"]);
}

/// A file system of some megabytes; none where it cannot be mounted.
pub struct Small(PathBuf);

impl Small {
    /// Mounts one of so many megabytes.
    pub fn mount(path: &Path, megabytes: usize) -> Option<Self> {
        let size = format!("size={megabytes}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "encke-test"]).arg(path).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| Self(path.to_owned()))
    }

    fn grow(&self, megabytes: usize) {
        let size = format!("remount,size={megabytes}m");
        assert!(Command::new("mount").args(["-o", &size]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_file_system_refuses_publishers_and_nobody_else() {
    let directory = Directory::new("full");
    let Some(small) = Small::mount(&directory.0, 40) else {
        return println!("skipped: only root can mount a small file system");
    };
    let store = directory.store();
    let options = ["--store-dir", &store, "--history-bytes", "100000000", "--history-messages", "100000"];
    let mut server = Encke::start(&options);
    let large = "x".repeat(60_000);
    let mut answered = 0;
    let refused = until("it is full", || {
        let answer = server.ask("POST", "/pub/c", &[], format!("{answered} {large}").as_bytes());
        match answer.status {
            202 => answered += 1,
            _ => return Some(answer),
        }
        None
    });
    assert_eq!(refused.status, 503);
    assert!(
        refused.get("retry-after").is_some() && refused.text().contains("may be repeated"),
        "{}",
        refused.text()
    );
    let health = server.get("/healthz", &[]);
    assert!(health.status == 503 && health.text().contains("cannot store: "), "{}", health.text());
    assert!(health.text().contains("No space left"), "{}", health.text());
    let there = |server: &Encke| server.json("/stats")["history_messages"].as_u64();
    assert_eq!(there(&server), Some(answered), "subscribers are served on, and nothing refused is visible");
    small.grow(120);
    until("it goes on by itself", || {
        (server.ask("POST", "/pub/c", &[], b"goes on").status == 202).then_some(())
    });
    until("it is well", || (server.get("/healthz", &[]).status == 200).then_some(()));
    server.signal(Signal::KILL);
    server.exit();
    let server = Encke::start(&options);
    until("it is loaded", || (there(&server) == Some(answered + 1)).then_some(()));
    drop(server);
}

#[test]
fn dead_messages_make_room_on_a_full_file_system() {
    let directory = Directory::new("full-sweep");
    let Some(_small) = Small::mount(&directory.0, 40) else {
        return println!("skipped: only root can mount a small file system");
    };
    let store = directory.store();
    let server =
        Encke::start(&["--store-dir", &store, "--history-messages", "20", "--history-grace-seconds", "0"]);
    let large = "x".repeat(60_000);
    let mut refused = 0;
    // Three times what there is room for.
    for number in 0..2000 {
        until("it is taken, at last", || {
            let answer = server.ask("POST", "/pub/c", &[], format!("{number} {large}").as_bytes());
            refused += usize::from(answer.status == 503);
            match answer.status {
                202 => Some(()),
                _ => {
                    thread::sleep(Duration::from_millis(20));
                    None
                }
            }
        });
    }
    assert!(refused > 0, "it was full");
    let last = server.history("c").last().map(|text| text.starts_with("1999 "));
    assert_eq!(last, Some(true));
}

#[test]
fn while_the_history_is_opened_clients_are_accepted_and_wait() {
    let directory = Directory::new("slow");
    let store = directory.store();
    let mut server = Encke::start(&["--store-dir", &store]);
    for number in 0..50 {
        server.publish("c", format!("{number} {}", "x".repeat(20_000)));
    }
    server.signal(Signal::KILL);
    server.exit();
    // Every look at the file takes a tenth of a second.
    let server = Encke::start_with_faults(&["pread64:delay_enter=100000"], &["--store-dir", &store]);
    let waiting = thread::scope(|scope| {
        let waiting = scope.spawn(|| server.history("c"));
        let health = server.get("/healthz", &[]);
        assert_eq!((health.status, health.text().as_str()), (503, "loading\n"));
        assert!(!waiting.is_finished(), "who asks for more than health waits");
        waiting.join().unwrap()
    });
    assert_eq!(waiting.len(), 50, "and is answered when it is there");
    until("it is well", || (server.get("/healthz", &[]).status == 200).then_some(()));
}
