//! What the server refuses, with which status, and that a broken connection is closed.

use std::time::{Duration, Instant};

use crate::harness::{Encke, PATIENCE};

/// Sends the bytes and expects a refusal that explains itself, and a close.
fn check(server: &Encke, bytes: impl AsRef<[u8]>, status: u16) {
    let bytes = bytes.as_ref();
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    let mut client = server.connect();
    // The server may refuse before it has taken everything.
    client.try_send(bytes);
    let answer = client.answer();
    assert_eq!(answer.status, status, "{shown:?}: {}", answer.text());
    assert_eq!(answer.get("connection"), Some("close"), "{shown:?}");
    assert_eq!(answer.media_type(), "application/problem+json", "{shown:?}");
    assert!(answer.json()["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{shown:?}");
    client.closed();
}

#[test]
fn broken_heads() {
    let server = Encke::start(&[]);
    for line in [
        "Host: localhost",
        "Host : localhost",
        " Host: localhost",
        ": no name",
        "no colon",
        "b@d name: x",
        "n\u{e4}me: x",
        "X: a\0b",
        "X: a\x01b",
        "X: a\x7fb",
        "X: a\rb",
        "X: a\r\n folded",
        "X: a\r\n\tfolded",
        "X: a\nY: b",
    ] {
        check(&server, format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{line}\r\n\r\n"), 400);
    }
    for head in [
        "GET /healthz HTTP/1.1\r\n\r\n",
        "GET /healthz HTTP/1.1\nHost: localhost\n\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\n\r\n",
        "GET /health\0z HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /health\x01z HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /health z HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET  /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /healthz\r\nHost: localhost\r\n\r\n",
        "GET\r\n\r\n",
        "G\0T /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "what is this?\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01\u{7c}\x03\x03 a TLS handshake",
    ] {
        check(&server, head, 400);
    }
}

#[test]
fn broken_framing_publishes_nothing() {
    let server = Encke::start(&[]);
    let post = |headers: &str, body: &str| {
        format!("POST /pub/x HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n{body}")
    };
    for headers in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: 3, 4",
        "Content-Length: three",
        "Content-Length: -3",
        "Content-Length: +3",
        "Content-Length: 0x3",
        "Content-Length: 3 3",
        "Content-Length:",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
    ] {
        check_framing(&server, &post(headers, "3\r\nabc\r\n0\r\n\r\n"));
    }
    for body in [
        "x\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabcXY0\r\n\r\n",
        "3;a\0b\r\nabc\r\n0\r\n\r\n",
    ] {
        check(&server, post("Transfer-Encoding: chunked", body), 400);
    }
    assert_eq!(server.get("/pub/x", &[]).status, 404, "nothing was published");
}

/// A transfer coding nobody knows may also be answered 501 (RFC 9112, 6.1).
fn check_framing(server: &Encke, bytes: &str) {
    if bytes.contains("xchunked") || bytes.contains("identity") {
        let mut client = server.connect();
        client.send(bytes);
        assert!(matches!(client.answer().status, 400 | 501), "{bytes:?}");
        client.closed();
    } else {
        check(server, bytes, 400);
    }
}

#[test]
fn lengths_beyond_all_numbers() {
    let server = Encke::start(&[]);
    for (header, body) in [
        ("Content-Length: 18446744073709551616", ""),
        ("Content-Length: 99999999999999999999999999", ""),
        ("Transfer-Encoding: chunked", "FFFFFFFFFFFFFFFFF\r\n"),
        ("Transfer-Encoding: chunked", "FFFFFFFFFFFFFFFF\r\n"),
        ("Transfer-Encoding: chunked", "8000000000000000\r\n"),
    ] {
        let mut client = server.connect();
        client.send(format!("POST /pub/x HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n{body}"));
        let status = client.answer().status;
        assert!(matches!(status, 400 | 413), "{header} {body}: {status}");
        client.closed();
    }
}

#[test]
fn methods_and_versions() {
    let server = Encke::start(&[]);
    for method in ["BREW", "get", "PROPFIND"] {
        let mut client = server.connect();
        client.request(method, "/healthz", &[], b"");
        assert_eq!(client.answer().status, 501, "{method}");
    }
    for version in ["HTTP/2.0", "HTTP/3.0"] {
        check(&server, format!("GET /healthz {version}\r\nHost: localhost\r\n\r\n"), 505);
    }
    check(&server, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
}

#[test]
fn unknown_paths_and_wrong_methods() {
    let server = Encke::start(&[]);
    let mut client = server.connect();
    for target in ["/nowhere", "/sub", "/subscribe/x", "/pub2", "/healthz/x", "/%00"] {
        let answer = client.get(target, &[]);
        assert_eq!((answer.status, answer.media_type()), (404, "application/problem+json"), "{target}");
    }
    for (method, target, allowed) in [
        ("POST", "/sub/x", &["GET", "HEAD"][..]),
        ("PUT", "/sub/x", &["GET", "HEAD"]),
        ("DELETE", "/sub/x", &["GET", "HEAD"]),
        ("POST", "/healthz", &["GET", "HEAD"]),
        ("DELETE", "/metrics", &["GET", "HEAD"]),
        ("PUT", "/stats", &["GET", "HEAD"]),
        ("POST", "/", &["GET", "HEAD"]),
        ("GET", "/pub", &["POST"]),
        ("DELETE", "/pub", &["POST"]),
    ] {
        let answer = client.ask(method, target, &[], b"");
        assert_eq!(answer.status, 405, "{method} {target}");
        for allow in allowed {
            assert!(answer.lists("allow", allow), "{method} {target}: {answer:?}");
        }
        assert!(!answer.lists("allow", method), "{method} {target}: {answer:?}");
    }
}

#[test]
fn errors_are_problems_or_plain_text() {
    let server = Encke::start(&[]);
    for accept in
        [&[][..], &["Accept: */*"], &["Accept: application/json"], &["Accept: application/problem+json"]]
    {
        let answer = server.get("/sub/x?after=banana", accept);
        assert_eq!((answer.status, answer.media_type()), (400, "application/problem+json"), "{accept:?}");
        let problem = answer.json();
        assert_eq!(problem["status"], 400);
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()));
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("after")), "{problem}");
    }
    let answer = server.get("/sub/x?after=banana", &["Accept: text/plain"]);
    assert_eq!((answer.status, answer.media_type()), (400, "text/plain"));
    assert!(answer.text().contains("after") && !answer.text().starts_with('{'), "{}", answer.text());
}

#[test]
fn heads_over_the_limit() {
    let server = Encke::start(&["--limits-head-bytes", "2000"]);
    let filler = "x".repeat(2000);
    check(&server, format!("GET /{filler} HTTP/1.1\r\nHost: localhost\r\n\r\n"), 431);
    check(&server, format!("GET /{filler}"), 431);
    check(&server, format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {filler}\r\n\r\n"), 431);
    check(&server, format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {filler}"), 431);
    let short = &filler[..1900];
    assert_eq!(server.get("/healthz", &[&format!("X: {short}")]).status, 200);
}

#[test]
fn a_head_of_100_megabytes_costs_nothing() {
    let server = Encke::start(&[]);
    assert_eq!(server.get("/healthz", &[]).status, 200);
    let before = server.allocated_bytes();
    let mut client = server.connect();
    client.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ");
    let filler = vec![b'x'; 1 << 20];
    (0..100).take_while(|_| client.try_send(&filler)).count();
    assert!(client.rest().starts_with(b"HTTP/1.1 431 "));
    assert_eq!(server.get("/healthz", &[]).status, 200);
    let growth = server.allocated_bytes().saturating_sub(before);
    assert!(growth < 8 << 20, "memory grew by {growth} bytes");
}

#[test]
fn bodies_over_the_limit() {
    let server = Encke::start(&["--limits-message-bytes", "1000"]);
    let post = |length: usize| {
        format!("POST /pub/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n")
    };
    check(&server, post(1001), 413);
    check(&server, post(100_000_000_000), 413);
    check(&server, post(1001) + &"x".repeat(1001), 413);
    check(&server, post(100_000) + &"x".repeat(100_000), 413);
    let chunked = "POST /pub/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    check(&server, format!("{chunked}3E9\r\n"), 413);
    check(&server, format!("{chunked}3E8\r\n{}\r\n1\r\nx\r\n", "x".repeat(1000)), 413);
    assert_eq!(server.get("/pub/x", &[]).status, 404, "nothing was published");
    assert_eq!(server.ask("POST", "/pub/x", &[], &[b'x'; 1000]).status, 202, "the limit itself is allowed");
}

#[test]
fn slow_heads() {
    let server = Encke::start(&["--limits-head-seconds", "1"]);
    let mut silent = server.connect();
    silent.send("GET /healthz HTTP/1.1\r\nHost: loc");
    let mut second = server.connect();
    assert_eq!(second.get("/healthz", &[]).status, 200);
    second.send("GET /hea");
    let mut dripping = server.connect();
    dripping.send("GET /healthz HTTP/1.1\r\nX: ");
    let deadline = Instant::now() + PATIENCE;
    while !dripping.answered_within(Duration::from_millis(50)) {
        assert!(Instant::now() < deadline, "every byte buys a client more time");
        dripping.try_send("x");
    }
    for client in [&mut silent, &mut second, &mut dripping] {
        let head = client.head();
        assert_eq!((head.status, head.get("connection")), (408, Some("close")));
        client.rest();
    }
}

#[test]
fn slow_bodies() {
    let server = Encke::start(&["--limits-body-seconds", "1"]);
    for body in ["Content-Length: 10\r\n\r\n12345", "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"] {
        let mut client = server.connect();
        client.send(format!("POST /pub/x HTTP/1.1\r\nHost: localhost\r\n{body}"));
        let answer = client.answer();
        assert_eq!((answer.status, answer.get("connection")), (408, Some("close")));
        client.closed();
    }
    assert_eq!(server.get("/pub/x", &[]).status, 404, "nothing was published");
}

#[test]
fn a_publisher_that_leaves_in_mid_body_publishes_nothing() {
    let server = Encke::start(&[]);
    for body in [
        "Content-Length: 10\r\n\r\n12345",
        "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n",
    ] {
        let head = "POST /pub/x HTTP/1.1\r\nHost: localhost\r\n";
        let mut half_closed = server.connect();
        half_closed.send(format!("{head}{body}"));
        half_closed.half_close();
        half_closed.rest();
        let mut reset = server.connect();
        reset.send(format!("{head}{body}"));
        reset.reset();
    }
    server.publish("x", "whole");
    assert_eq!(server.history("x"), ["whole"]);
}

#[test]
fn leaving_in_mid_head_disturbs_nobody() {
    let server = Encke::start(&[]);
    let mut poll = server.park("/sub/x", &[], "x", 1);
    for bytes in ["", "G", "GET /healthz HTTP/1.1\r\nHost: loc"] {
        let mut half_closed = server.connect();
        half_closed.send(bytes);
        half_closed.half_close();
        half_closed.rest();
        let mut reset = server.connect();
        reset.send(bytes);
        reset.reset();
    }
    server.publish("x", "news");
    assert_eq!(poll.answer().text(), "news");
}

#[test]
fn a_refusal_is_told_as_it_was_asked_for() {
    let server = Encke::start(&["--cors-origins", "https://a.example"]);
    // Whoever asks by HEAD takes what follows the head for the next answer.
    for head in [
        "HEAD /a HTTP/1.1\r\n\r\n",
        "HEAD /a HTTP/1.1\r\nHost: a b\r\n\r\n",
        "HEAD /a HTTP/9.1\r\nHost: a\r\n\r\n",
    ] {
        let mut client = server.connect();
        client.send(head);
        let answer = client.head();
        assert!(matches!(answer.status, 400 | 505), "{head}");
        assert!(client.rest().is_empty(), "{head}");
    }
    for (fields, status) in [("Content-Length: 99999999", 413), ("Transfer-Encoding: chunked", 400)] {
        let mut client = server.connect();
        client.send(format!(
            "POST /bayeux HTTP/1.1\r\nHost: localhost\r\nOrigin: https://a.example\r\nAccept: text/plain\r\n{fields}\r\n\r\nno size\r\n"
        ));
        let answer = client.answer();
        assert_eq!((answer.status, answer.media_type()), (status, "text/plain"), "{fields}");
        assert_eq!(answer.get("access-control-allow-origin"), Some("https://a.example"), "{fields}");
    }
}
