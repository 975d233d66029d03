//! Settings that are read anew while clients stay.

use std::path::PathBuf;
use std::process::{Command, Output};

use rustix::process::Signal;

use crate::harness::{Encke, until};

/// A settings file of its own.
struct Settings(PathBuf);

impl Settings {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("encke-reload-{}-{name}.toml", std::process::id()));
        let settings = Self(path);
        settings.write(text);
        settings
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.0, text).expect("a directory for temporary files");
    }

    fn name(&self) -> &str {
        self.0.to_str().expect("a name in UTF-8")
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn publish(server: &Encke, token: &str, body: &[u8]) -> u16 {
    server.ask("POST", "/pub/x", &[&format!("Authorization: Bearer {token}")], body).status
}

#[test]
fn what_changes_counts_at_once_and_nobody_is_lost() {
    let settings = Settings::new("change", "[publish]\ntoken = \"first-first\"\n");
    let server = Encke::start(&["--config", settings.name()]);
    let (_, mut stream) = server.open("/sub/x?as=stream", &[]);
    assert_eq!(publish(&server, "first-first", b"one"), 201);
    assert_eq!(publish(&server, "second-second", b"two"), 401);

    settings.write(
        "demo = true\n[publish]\ntoken = \"second-second\"\n[limits]\nmessage_bytes = 10\n\
         [cors]\norigins = [\"https://a.example\"]\n",
    );
    server.signal(Signal::HUP);
    server.logged("count from now on: publish.token, cors.origins, limits.message_bytes");
    server.logged("need a restart: demo");
    assert_eq!(publish(&server, "first-first", b"one"), 401);
    assert_eq!(publish(&server, "second-second", b"two"), 201);
    assert_eq!(publish(&server, "second-second", b"more than ten bytes"), 413);
    let allowed = |origin: &str| {
        let answer = server.get("/sub/x?as=interval", &[&format!("Origin: {origin}")]);
        answer.get("access-control-allow-origin").map(ToOwned::to_owned)
    };
    assert_eq!(allowed("https://a.example").as_deref(), Some("https://a.example"));
    assert_eq!(allowed("https://b.example"), None);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let line = stream.line();
        seen.extend(["one", "two"].into_iter().filter(|word| line.contains(&format!("\"data\":\"{word}\""))));
    }
    assert_eq!(seen, ["one", "two"]);
}

#[test]
fn rules_of_channels_may_come_and_go() {
    let settings = Settings::new("rules", "");
    let server = Encke::start(&["--config", settings.name()]);
    assert_eq!(server.get("/sub/secret?as=interval", &[]).status, 304);
    settings.write(
        "[[channels]]\nmatch = \"secret\"\nsubscribe = \"publishers\"\n\
         [[channels]]\nmatch = \"**\"\nsubscribe = \"anyone\"\n",
    );
    server.signal(Signal::HUP);
    server.logged("count from now on: channels");
    let refused = server.get("/sub/secret?as=interval", &[]).status;
    assert!(matches!(refused, 401 | 403), "{refused}");
    settings.write("");
    server.signal(Signal::HUP);
    until("the rule is gone", || (server.get("/sub/secret?as=interval", &[]).status == 304).then_some(()));
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let settings = Settings::new("bad", "[publish]\ntoken = \"first-first\"\n");
    let server = Encke::start(&["--config", settings.name()]);
    settings.write("[publish]\ntoken = \"second-second\"\n[limits]\nmessage_byts = 10\nhead_bytes = 0\n");
    server.signal(Signal::HUP);
    server.logged(":4: limits.message_byts: unknown setting");
    server.logged(":5: limits.head_bytes: must be");
    server.logged("the settings stay as they are");
    assert_eq!(publish(&server, "second-second", b"x"), 401);
    assert_eq!(publish(&server, "first-first", b"x"), 202);
    std::fs::remove_file(&settings.0).expect("it is there");
    server.signal(Signal::HUP);
    server.logged("cannot be read");
    assert_eq!(publish(&server, "first-first", b"x"), 202);
}

#[test]
fn origins_may_change_while_polls_wait() {
    let settings =
        Settings::new("origins", "[cors]\norigins = [\"https://a.example\", \"https://b.example\"]\n");
    let server = Encke::start(&["--config", settings.name()]);
    let mut a = server.park("/sub/x", &["Origin: https://a.example"], "x", 1);
    let mut b = server.park("/sub/x", &["Origin: https://b.example"], "x", 2);
    settings.write("[cors]\norigins = [\"https://c.example\", \"https://b.example\"]\n");
    server.signal(Signal::HUP);
    server.logged("count from now on: cors.origins");
    server.publish("x", "hello");
    let allowed =
        |answer: crate::client::Answer| answer.get("access-control-allow-origin").map(ToOwned::to_owned);
    assert_eq!(allowed(a.answer()), None, "it is not listed any more");
    assert_eq!(allowed(b.answer()).as_deref(), Some("https://b.example"));
}

#[test]
fn proxies_may_be_networks_and_change() {
    let settings = Settings::new("proxies", "");
    let server = Encke::start(&["--config", settings.name()]);
    let publish = || server.ask("POST", "/pub/x", &["X-Forwarded-For: 127.0.0.9"], b"x").status;
    assert_eq!(publish(), 403, "nobody is believed");
    settings.write("trusted_proxies = [\"10.0.0.0/8\", \"127.0.0.0/29\"]\n");
    server.signal(Signal::HUP);
    server.logged("count from now on: trusted_proxies");
    assert_eq!(publish(), 202, "127.0.0.1 is a proxy, and its client is on this machine");
    // Who came from there before is counted, or not, by the rule that holds now.
    let held: Vec<_> = (0..5).map(|_| server.connect()).collect();
    settings.write("[limits]\nexempt = []\nconnections_per_address = 1000\n");
    server.signal(Signal::HUP);
    server.logged("count from now on: trusted_proxies, limits.connections_per_address, limits.exempt");
    drop(held);
    assert_eq!(publish(), 403);
}

#[test]
fn the_log_gets_more_and_less() {
    let settings = Settings::new("log", "log.level = \"info\"\n");
    let server = Encke::start(&["--config", settings.name()]);
    assert_eq!(server.get("/no-such-page", &[]).status, 404);
    assert!(!server.log().contains("no-such-page"));
    settings.write("log.level = \"error\"\nlog.access = true\n");
    server.signal(Signal::HUP);
    until("the access log is on", || {
        assert_eq!(server.get("/no-such-page", &[]).status, 404);
        server.log().contains("no-such-page").then_some(())
    });
    settings.write("log.level = \"trace\"\n");
    server.signal(Signal::HUP);
    server.logged("count from now on: log.level, log.access");
    server.get("/another", &[]);
    server.logged("trace mio");
    assert!(!server.log().contains("/another"));
}

fn reload(options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_encke"));
    command.arg("reload").args(options).output().expect("the binary can be started")
}

#[test]
fn the_command_checks_first_and_finds_the_process() {
    let pid_file = std::env::temp_dir().join(format!("encke-reload-{}.pid", std::process::id()));
    let settings = Settings::new("command", "");
    let text = |heartbeat: &str| format!("pid_file = {:?}\nheartbeat = {heartbeat}\n", pid_file.display());
    settings.write(&text("5"));
    let mut server = Encke::start(&["--config", settings.name()]);
    let options = ["--config", settings.name()];

    settings.write(&text("0"));
    let output = reload(&options);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(":2: heartbeat: must be a time"), "{said}");

    settings.write(&text("6"));
    let output = reload(&options);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    server.logged("count from now on: heartbeat");
    assert!(!server.log().contains("stay as they are"), "what was wrong never reached it");

    let output = reload(&["--pid", &std::process::id().to_string()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("not encke"), "{said}");

    server.signal(Signal::TERM);
    server.exit();
    assert!(!pid_file.exists());
    let said = String::from_utf8_lossy(&reload(&options).stderr).into_owned();
    assert!(said.contains("does the server run?"), "{said}");
}
