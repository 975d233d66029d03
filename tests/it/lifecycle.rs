//! Starting, and leaving by signal without losing anybody.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::client::Client;
use crate::harness::{Encke, until};

/// A client that keeps the server writing: it has not read what 24 MB of messages left in its socket.
fn unread_stream(server: &Encke) -> Client {
    let mut client = server.connect();
    client.fix_window();
    client.request("GET", "/sub/large?as=stream", &[], b"");
    assert_eq!(client.head().status, 200);
    let body = vec![b'x'; 512 << 10];
    for _ in 0..48 {
        server.publish("large", &body);
    }
    client
}

#[test]
fn a_signal_answers_polls_ends_streams_and_exits_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Encke::start(&[]);
        let id = server.publish("x", "before");
        let (_, mut stream) = server.open("/sub/x?as=stream", &[]);
        let (_, mut raw) = server.open("/sub/x?as=raw&after=oldest", &[]);
        let (_, mut sse) = server.open("/sub/x?as=sse", &[]);
        let mut idle = server.connect();
        assert_eq!(idle.get("/healthz", &[]).status, 200);
        let mut poll = server.park("/sub/x", &[], "x", 4);
        let mut json = server.park(&format!("/sub/x?after={id}"), &["Accept: application/json"], "x", 5);

        server.signal(signal);
        for parked in [&mut poll, &mut json] {
            let answer = parked.answer();
            assert_eq!((answer.status, answer.next()), (204, id.clone()), "with the id to go on from");
            parked.closed();
        }
        assert_eq!((stream.line().as_str(), stream.chunk()), ("\n", None), "ended with the last chunk");
        assert_eq!((raw.line().as_str(), raw.chunk()), ("before", None));
        sse.block();
        assert_eq!(sse.block(), None);
        for client in [&mut stream, &mut raw, &mut sse, &mut idle] {
            client.closed();
        }
        assert_eq!(server.exit().code(), Some(0), "{signal:?}");
    }
}

#[test]
fn draining_waits_no_longer_than_it_may() {
    let mut server = Encke::start(&["--drain-seconds", "1"]);
    let _unread = unread_stream(&server);
    let start = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.exit().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(20), "left after {:?} instead of 1 s", start.elapsed());
}

#[test]
fn what_is_being_written_is_finished_at_a_message_boundary() {
    let mut server = Encke::start(&[]);
    let mut unread = unread_stream(&server);
    server.signal(Signal::TERM);
    let mut chunks = 0;
    while let Some(chunk) = unread.chunk() {
        let line: Value = if chunk == b"\n" { continue } else { serde_json::from_slice(&chunk).unwrap() };
        let whole = line["data"].as_str().is_some_and(|data| data.len() == 512 << 10);
        assert!(whole || line.get("gap").is_some(), "a whole message or a notice");
        chunks += 1;
    }
    assert!(chunks > 0);
    unread.closed();
    assert_eq!(server.exit().code(), Some(0));
}

#[test]
fn while_draining_nobody_new_is_served() {
    let mut server = Encke::start(&["--drain-seconds", "60"]);
    let _unread = unread_stream(&server);
    let mut inside = server.connect();
    assert_eq!(inside.get("/healthz", &[]).status, 200);
    inside.send("GET /healthz HTTP/1.1\r\nHost: local");
    let mut poll = server.park("/sub/x", &[], "x", 1);
    server.signal(Signal::TERM);
    assert_eq!(poll.answer().status, 204, "draining has begun");

    // A request half sent may be cut off; if it is answered, then with what a load balancer needs to know.
    if inside.try_send("host\r\n\r\n") {
        let rest = String::from_utf8(inside.rest()).expect("a head is text");
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 503 "), "{rest}");
    }
    until("nobody can connect", || std::net::TcpStream::connect(server.addr()).is_err().then_some(()));
    server.signal(Signal::TERM);
    server.exit();
}

#[test]
fn a_second_signal_leaves_at_once() {
    // Draining might last longer than this test's patience.
    let mut server = Encke::start(&["--drain-seconds", "600"]);
    let _unread = unread_stream(&server);
    let mut poll = server.park("/sub/x", &[], "x", 1);
    server.signal(Signal::TERM);
    assert_eq!(poll.answer().status, 204, "draining has begun");
    server.signal(Signal::INT);
    server.exit();
}

#[test]
fn other_signals_do_not_kill() {
    let server = Encke::start(&[]);
    let mut inside = server.connect();
    for signal in [Signal::HUP, Signal::USR1] {
        server.signal(signal);
        assert_eq!(inside.get("/healthz", &[]).status, 200, "{signal:?}");
    }
    server.logged("has no meaning here");
    assert_eq!(inside.get("/healthz", &[]).status, 200);
}

#[test]
fn the_version_names_the_commit() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_encke")).arg("--version").output().expect("it can be started");
    let text = String::from_utf8(output.stdout).expect("text");
    let rest = text.strip_prefix(concat!("encke ", env!("CARGO_PKG_VERSION"))).expect("name and version");
    // A copy without the repository does not know.
    assert!(rest == "\n" || rest.starts_with(" (") && rest.ends_with(")\n"), "{text}");
}

#[test]
fn a_variable_that_is_no_setting_is_told() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_encke"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ENCKE_")) {
        command.env_remove(name);
    }
    command.args(["config"]).env("ENCKE_HEARTBEET", "5").env("ENCKE_PORT", "tcp://10.0.0.1:8080");
    let output = command.output().expect("it can be started");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said, "encke: warning: ENCKE_HEARTBEET: unknown variable, did you mean ENCKE_HEARTBEAT?\n");
    assert!(output.status.success());
}

#[test]
fn the_settings_in_the_documents_are_right() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut blocks = 0;
    for document in ["README.md", "docs/operate.md"] {
        let text = std::fs::read_to_string(root.join(document)).expect(document);
        for block in text.split("```toml\n").skip(1) {
            blocks += 1;
            let block = block.split("```").next().unwrap_or_default();
            let name = format!("encke-document-{}-{blocks}.toml", std::process::id());
            let file = std::env::temp_dir().join(name);
            std::fs::write(&file, block).expect("a directory for temporary files");
            let mut command = Command::new(env!("CARGO_BIN_EXE_encke"));
            let output = command.args(["config", "--check"]).arg(&file).output().expect("it can be started");
            let _ = std::fs::remove_file(&file);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{document}:\n{block}\n{said}");
        }
    }
    assert!(blocks >= 3);
}

#[test]
fn the_status_is_one_screen() {
    let server = Encke::start(&[]);
    (0..3).for_each(|_| drop(server.publish("x", "hello")));
    let mut command = Command::new(env!("CARGO_BIN_EXE_encke"));
    let output = command.args(["status", "--url", &server.url("")]).output().expect("it can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figure = |label: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(label)).expect(label);
        line.trim_start()
            .strip_prefix(label)
            .and_then(|rest| rest.split_whitespace().next())
            .map(str::to_owned)
    };
    assert_eq!(figure("published").as_deref(), Some("3"), "{text}");
    assert_eq!(figure("channels").as_deref(), Some("1"), "{text}");
    assert!(text.lines().count() <= 40, "{text}");
}

fn value_of(metrics: &str, name: &str) -> Option<u64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[test]
fn metrics_tell_what_runs() {
    let server = Encke::start(&[]);
    server.publish("x", "hello");
    let text = server.get("/metrics", &[]).text();
    let version = format!("encke_build_info{{version=\"{}", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&version), "{text}");
    assert!(text.contains("\nencke_messages_published_total 1\n"), "{text}");
    for name in ["process_start_time_seconds", "process_resident_memory_bytes"] {
        assert!(value_of(&text, name) > Some(1000), "{name}: {text}");
    }
    // Since Linux 6.2, the size of this directory says it.
    let knows = std::fs::metadata("/proc/self/fd").is_ok_and(|directory| directory.len() > 0);
    assert_eq!(value_of(&text, "process_open_fds").is_some_and(|count| count > 3), knows, "{text}");
}

#[test]
fn the_board_shows_metrics_that_exist() {
    let server = Encke::start(&[]);
    let metrics = server.get("/metrics", &[]).text();
    let exists = |name: &str| metrics.contains(&format!("# TYPE {name} "));
    let board = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/grafana.json");
    let text = std::fs::read_to_string(board).expect("docs/grafana.json");
    let board: Value = serde_json::from_str(&text).expect("JSON");
    let mut expressions = 0;
    for panel in board["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().expect("targets") {
            let expression = target["expr"].as_str().expect("an expression");
            let start = expression.find("encke_").expect("one of our metrics");
            let name = expression[start..].split(['{', '[', ')']).next().unwrap_or_default();
            assert!(exists(name), "{name} in {expression}");
            expressions += 1;
        }
    }
    assert!(expressions > 20);
    assert!(exists("encke_build_info"), "the board finds the instances by it");
}

#[test]
fn an_address_in_use_is_said_and_ends_the_start() {
    let server = Encke::start(&[]);
    let addr = server.addr().to_string();
    let mut second = Command::new(env!("CARGO_BIN_EXE_encke"));
    let output = second.args(["serve", "--listen", &addr]).output().expect("the binary can be started");
    assert!(!output.status.success());
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(log.contains(&addr), "names the address: {log}");
    assert_eq!(server.get("/healthz", &[]).status, 200);
}
