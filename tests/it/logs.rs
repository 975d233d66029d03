//! The log is the operator's: no peer can write a line of it, steer the terminal it is read on, or have it hold a
//! secret.

use serde_json::json;
use tungstenite::Message;

use crate::client::Client;
use crate::harness::{Encke, until};

/// What would forge a line, clear a screen, or turn a text around, as bytes that a head may hold and as text.
const NASTY: &str = "\u{1b}[2J\u{85}FORGED\u{9b}31m\u{2028}FORGED\u{202e}\u{7f}";
const PERCENT: &str = "%0D%0AFORGED%1B%5B2J%C2%9B1m%00";
const SECRET: &str = "s3cret-s3cret";

#[test]
fn a_thread_writes_the_log_and_leaves() {
    let server = Encke::start(&["--log-access"]);
    // A second one makes every system call dearer.
    until("there is one thread", || (server.threads() == 1).then_some(()));
    server.publish("a", "x");
    server.logged("post /pub/a");
    until("the thread has left", || (server.threads() == 1).then_some(()));
    server.publish("b", "x");
    server.logged("post /pub/b");
}

#[test]
fn no_peer_writes_the_log() {
    let server = Encke::start_logging(
        "trace",
        &["--log-access", "--fdajax", "--fdajax-log-level", "3", "--fdajax-log-security", "3"],
    );
    let raw = |text: &str| {
        let mut client = server.connect();
        client.try_send(text.as_bytes());
        client.half_close();
        client.rest();
    };
    // Request lines and fields, as a head may hold them and as it may not.
    for target in [
        format!("/sub/{PERCENT}?as=interval"),
        format!("/sub/a?x={PERCENT}&as=interval"),
        format!("/sub/a?token={SECRET}&as=interval"),
        format!("/sub/a?x=1&Access_Token={SECRET}&as=interval"),
        format!("/pub/a?api%5Fkey={SECRET}"),
        format!("/live.fdajax?cmd=login&user_id=1&sess_id={SECRET}&admin_passwd={SECRET}&ip_addr={PERCENT}"),
        format!("/live.fdajax?cmd={PERCENT}&types={PERCENT}"),
        format!("/{PERCENT}.fdajax?cmd=wait"),
        format!("/bayeux/{PERCENT}?message={PERCENT}&jsonp={PERCENT}"),
        "/sub/\u{9b}2J\u{85}\u{2028}\u{202e}?as=interval".to_owned(),
        "/sub/a?\u{9b}2J\u{85}=\u{202e}&as=interval".to_owned(),
    ] {
        raw(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    }
    for field in [
        "User-Agent",
        "Cookie",
        "Origin",
        "Referer",
        "X-Forwarded-For",
        "Last-Event-ID",
        "Accept",
        "Authorization",
    ] {
        for value in [NASTY, PERCENT, "\u{9b}31m\u{85}FORGED\u{2028}"] {
            raw(&format!("GET /sub/a?as=interval HTTP/1.1\r\nHost: localhost\r\n{field}: {value}\r\n\r\n"));
        }
        raw(&format!(
            "GET /sub/a?as=interval HTTP/1.1\r\nHost: localhost\r\n{field}: Bearer {SECRET}\r\n\r\n"
        ));
    }
    raw(&format!("{NASTY} / HTTP/1.1\r\n\r\n"));
    raw(&format!("GET /{NASTY} HTTP/1.1\r\nHost: {NASTY}\r\n\r\n"));
    // Bodies.
    for body in [
        json!([{"channel": NASTY, "id": NASTY, "data": NASTY}]),
        json!({"channel": "/meta/handshake", "ext": NASTY}),
    ] {
        server.ask("POST", "/bayeux", &["Content-Type: application/json"], body.to_string().as_bytes());
    }
    server.ask(
        "POST",
        "/pub",
        &["Content-Type: application/x-ndjson"],
        json!({"channel": NASTY, "data": 1}).to_string().as_bytes(),
    );
    server.ask(
        "POST",
        "/pub/a",
        &["Encke-Event: \u{9b}31m", &format!("Idempotency-Key: {SECRET}")],
        NASTY.as_bytes(),
    );
    // An open WebSocket.
    let (mut socket, _) = tungstenite::connect(format!("ws://{}/sub/a", server.addr())).unwrap();
    for command in [json!({"subscribe": [NASTY], "ref": 1}), json!({"ref": NASTY}), json!(NASTY)] {
        socket.send(Message::text(command.to_string())).unwrap();
    }
    socket.close(None).unwrap();
    Client::connect(server.addr()).get("/healthz?the=last", &[]);
    server.logged("/healthz?the=last");
    let log = server.log();
    assert!(log.lines().count() > 40, "it logs what is asked:\n{log}");
    for line in log.lines() {
        let begins = line.starts_with('[') && line.contains("Z ");
        assert!(begins && !line.starts_with("[2J"), "a line that is none of ours: {line:?}");
        let plain = |c: char| !c.is_control() && !('\u{200b}'..='\u{206f}').contains(&c);
        assert!(line.chars().all(plain), "{line:?}");
        assert!(!line.contains(SECRET), "a secret: {line:?}");
    }
    assert!(log.contains("[redacted]"));
}
