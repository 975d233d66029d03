//! The forever frame: a page that never ends.

use serde_json::{Value, json};

use crate::client::Client;
use crate::harness::Encke;

/// The page up to its first call, and the argument of that.
fn opening(page: &mut Client) -> (String, Value) {
    let text = page.line();
    let (before, rest) = text.split_once("-->\n").unwrap_or_else(|| panic!("{text:?}"));
    (before.into(), argument(rest))
}

/// The argument of the call in one script.
fn argument(script: &str) -> Value {
    let call = script.strip_prefix("<script>e(").and_then(|rest| rest.strip_suffix(")</script>\n"));
    serde_json::from_str(call.unwrap_or_else(|| panic!("{script:?}"))).unwrap()
}

#[test]
fn a_page_that_calls_its_parent() {
    let server = Encke::start(&[]);
    let (head, mut page) = server.open("/sub/x?as=iframe&callback=take", &["Accept: text/html"]);
    assert_eq!(head.get("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(head.get("content-security-policy"), None, "its scripts are inline");
    assert_eq!(head.get("x-frame-options"), None);
    let (before, first) = opening(&mut page);
    assert!(before.starts_with("<!DOCTYPE html><html>") && before.contains("parent.take(m)"), "{before}");
    assert!(before.ends_with(&format!("<!--{}", " ".repeat(2048))));
    assert_eq!(first, json!({"next": head.next()}));
    // Another callback: the frames are the same.
    let (_, mut other) = server.open("/sub/x?as=iframe", &[]);
    assert!(opening(&mut other).0.contains("parent.encke(m)"));
    let id = server.publish("x", "news");
    for page in [&mut page, &mut other] {
        assert_eq!(argument(&page.line()), json!({"id": id, "channel": "x", "data": "news"}));
    }
}

#[test]
fn data_cannot_leave_its_script() {
    let server = Encke::start(&[]);
    let (_, mut page) = server.open("/sub/x?as=iframe", &[]);
    page.line();
    let nasty = "</script><!-- <script> \u{2028}\u{2029} ]]>";
    server.admin().publish("x", &["Encke-Event: </script>"], nasty.as_bytes());
    let script = page.line();
    assert_eq!(script.matches('<').count(), 2, "{script}");
    assert!(!script.contains(['\u{2028}', '\u{2029}']));
    assert_eq!(argument(&script)["data"], nasty);
}

#[test]
fn callbacks_padding_gaps_and_heartbeats() {
    let server = Encke::start(&[
        "--heartbeat",
        "1",
        "--iframe-padding-bytes",
        "0",
        "--history-messages",
        "1",
        "--history-grace-seconds",
        "0",
    ]);
    for callback in ["alert(1)", "a;b", "", "</script>", "opener.form.submit", "a.b"] {
        assert_eq!(
            server.get(&format!("/sub/x?as=iframe&callback={callback}"), &[]).status,
            400,
            "{callback}"
        );
    }
    let ids = ["1", "2", "3"].map(|text| server.publish("x", text));
    let (_, mut page) = server.open(&format!("/sub/x?as=iframe&after={}", ids[0]), &[]);
    assert!(opening(&mut page).0.ends_with("<!--"));
    assert_eq!(argument(&page.line())["gap"]["after"], ids[0].as_str());
    assert_eq!(argument(&page.line())["data"], "3");
    assert_eq!(page.line(), "\n", "a heartbeat");
    assert_eq!(server.ask("DELETE", "/pub/x", &[], b"").status, 204);
    while let Some(chunk) = page.chunk() {
        assert_eq!(chunk, b"\n");
    }
}

#[test]
fn pages_of_other_origins_by_post_message() {
    let server = Encke::start(&[]);
    let (_, mut page) = server.open("/sub/x?as=iframe&callback=postMessage", &[]);
    assert!(opening(&mut page).0.contains("parent.postMessage(m,\"*\");"));
    let server = Encke::start(&["--cors-origins", "https://app.example,https://b.example"]);
    let (_, mut page) = server.open("/sub/x?as=iframe&callback=postMessage", &[]);
    let (before, _) = opening(&mut page);
    for target in ["location.origin", "\"https://app.example\"", "\"https://b.example\""] {
        assert!(before.contains(&format!("parent.postMessage(m,{target});")), "{before}");
    }
    assert!(!before.contains("\"*\""), "nobody else is told");
}

#[test]
fn old_clients_and_head() {
    let server = Encke::start(&[]);
    let mut old = server.connect();
    old.send("GET /sub/x?as=iframe HTTP/1.0\r\n\r\n");
    let head = old.head();
    assert_eq!(
        (head.status, head.get("transfer-encoding"), head.get("connection")),
        (200, None, Some("close"))
    );
    old.read_until(b"\"})</script>\n");
    server.publish("x", "news");
    let script = String::from_utf8(old.read_until(b"</script>\n")).unwrap();
    assert_eq!(argument(&script)["data"], "news");
    assert_eq!(server.ask("DELETE", "/pub/x", &[], b"").status, 204);
    old.closed();
    let mut head_only = server.connect();
    head_only.request("HEAD", "/sub/x?as=iframe", &["Connection: close"], b"");
    assert_eq!(head_only.head().media_type(), "text/html");
    head_only.closed();
}

#[test]
fn a_frame_is_a_frame_and_calls_what_it_may() {
    let server = Encke::start(&["--iframe-callbacks", "app.push.take"]);
    let status = |callback: &str, headers: &[&str]| {
        let mut client = server.connect();
        client.request("GET", &format!("/sub/x?as=iframe&callback={callback}"), headers, b"");
        client.head().status
    };
    assert_eq!(status("app.push.take", &[]), 200, "it is configured");
    for callback in ["app.push.other", "app.push", "opener.x.click", "top.x"] {
        assert_eq!(status(callback, &[]), 400, "{callback}");
    }
    for (destination, expected) in [("iframe", 200), ("frame", 200), ("empty", 200), ("document", 403)] {
        assert_eq!(status("take", &[&format!("Sec-Fetch-Dest: {destination}")]), expected, "{destination}");
    }
    let (head, _) = server.open("/sub/x?as=iframe", &[]);
    assert_eq!(
        head.get("cross-origin-opener-policy"),
        Some("same-origin"),
        "nobody who opened it is its opener"
    );
    assert_eq!(
        server.get("/sub/x?as=jsonp&callback=a.b.c&timeout=1", &[]).status,
        200,
        "scripts say so themselves"
    );
}
