//! Request smuggling: the cases of the literature, against the server itself and behind nginx and haproxy.
//!
//! Each attack hides a publication where one reader sees the body of a request and another the next request. Behind a
//! front that lets nobody publish, it would arrive from the front's own address, which is loopback.

use std::time::Duration;

use crate::front::{FRONTS, Front};
use crate::harness::Encke;

/// What must never be carried out.
const HIDDEN: &str = "POST /pub/smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nevil";

/// An attack: its name, its bytes, and what the server says to them: 200 if it reads all of it as one request (the
/// request is one for `/sub/a?as=interval`, with a body that does not matter).
struct Attack {
    name: &'static str,
    bytes: Vec<u8>,
    status: u16,
}

/// A request with these fields and that body.
fn request(fields: &str, body: &str) -> Vec<u8> {
    format!("POST /sub/a?as=interval HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n{body}").into_bytes()
}

fn attack(name: &'static str, fields: &str, body: &str, status: u16) -> Attack {
    Attack { name, bytes: request(fields, body), status }
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

fn attacks() -> Vec<Attack> {
    let length = |extra: usize| format!("Content-Length: {}\r\n", HIDDEN.len() + extra);
    let end_and_hidden = format!("0\r\n\r\n{HIDDEN}");
    let in_chunk = format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len());
    let mut attacks = vec![
        attack("CL.TE", &(length(5) + CHUNKED), &end_and_hidden, 400),
        attack("TE.CL", &format!("{CHUNKED}Content-Length: 4\r\n"), &in_chunk, 400),
        attack("CL.0", "Content-Length: 0, 60\r\n", HIDDEN, 400),
        attack("two lengths", &format!("Content-Length: 0\r\n{}", length(0)), HIDDEN, 400),
        attack("two lengths, the other way", &format!("{}Content-Length: 0\r\n", length(0)), HIDDEN, 400),
        attack("a folded length", &format!("Content-Length:\r\n {}\r\n", HIDDEN.len()), HIDDEN, 400),
        attack(
            "a folded coding",
            &format!("{}Transfer-Encoding:\r\n chunked\r\n", length(5)),
            &end_and_hidden,
            400,
        ),
        attack(
            "a coding in a folded line",
            &format!("X: y\r\n {CHUNKED}{}", length(5)),
            &end_and_hidden,
            400,
        ),
        attack(
            "a blank before the colon",
            &format!("{}Transfer-Encoding : chunked\r\n", length(5)),
            &end_and_hidden,
            400,
        ),
        attack("a tab before the colon", &format!("Content-Length\t: 0\r\n{}", length(0)), HIDDEN, 400),
        attack("a bare LF in the head", &format!("X: y\n{CHUNKED}{}", length(5)), &end_and_hidden, 400),
        attack("a bare CR in the head", &format!("X: y\r{CHUNKED}{}", length(5)), &end_and_hidden, 400),
        attack(
            "NUL in a name",
            &format!("{}Transfer\0-Encoding: chunked\r\n", length(5)),
            &end_and_hidden,
            400,
        ),
        attack(
            "NUL in a value",
            &format!("{}Transfer-Encoding: chunked\0\r\n", length(5)),
            &end_and_hidden,
            400,
        ),
        attack("a length in hexadecimal", "Content-Length: 0x0\r\n", HIDDEN, 400),
        attack("a signed length", "Content-Length: +0\r\n", HIDDEN, 400),
        attack("a negative length", "Content-Length: -1\r\n", HIDDEN, 400),
        attack("a length beyond 64 bits", "Content-Length: 18446744073709551616\r\n", HIDDEN, 400),
        attack("a chunk size beyond 64 bits", CHUNKED, &format!("10000000000000000\r\n{HIDDEN}"), 400),
        attack("a negative chunk size", CHUNKED, &format!("-1\r\n{HIDDEN}"), 400),
        attack("a chunk size with 0x", CHUNKED, &format!("0x0\r\n\r\n{HIDDEN}"), 400),
        attack("a chunk size with a blank", CHUNKED, &format!("0 \r\n\r\n{HIDDEN}"), 400),
        attack("a chunk that is longer than its size", CHUNKED, &format!("1\r\nab\r\n{HIDDEN}"), 400),
        attack("a bare LF behind the size", CHUNKED, &format!("0\n\n{HIDDEN}"), 400),
        attack("a bare LF in an extension", CHUNKED, &format!("1;x\nA\r\n0\r\n\r\n{HIDDEN}"), 400),
        attack("a bare CR behind the size", CHUNKED, &format!("0\r\r\n{HIDDEN}"), 400),
        attack("an endless extension", CHUNKED, &format!("1;{}", "x".repeat(20_000)), 400),
        attack("a bad trailer", CHUNKED, &format!("0\r\n{HIDDEN}"), 400),
    ];
    // TE.TE: a coding that only one reader takes for "chunked".
    for coding in [
        "xchunked",
        "chunked, identity",
        "identity, chunked",
        "chunked\r\nTransfer-Encoding: x",
        "\x0bchunked",
        "\"chunked\"",
        "chunked;q=1",
    ] {
        let fields = format!("{}Transfer-Encoding: {coding}\r\n", length(5));
        attacks.push(attack("TE.TE", &fields, &end_and_hidden, 400));
    }
    for (coding, status) in [
        ("xchunked", 501),
        ("gzip, chunked", 501),
        ("identity", 501),
        ("chunked, chunked", 400),
        ("chunked\r\nTransfer-Encoding: chunked", 400),
        ("chunked, gzip", 400),
    ] {
        let fields = format!("Transfer-Encoding: {coding}\r\n");
        attacks.push(attack("TE.TE without a length", &fields, &end_and_hidden, status));
    }
    let old = format!("POST /sub/a?as=interval HTTP/1.0\r\n{CHUNKED}\r\n{end_and_hidden}").into_bytes();
    attacks.push(Attack { name: "a coding in HTTP/1.0", bytes: old, status: 400 });
    attacks
}

/// Whether the hidden publication has been carried out.
fn assert_nothing_arrived(server: &Encke, name: &str) {
    let answer = server.get("/pub/smuggled", &[]);
    assert_eq!(answer.status, 404, "{name}: it arrived: {}", answer.text());
}

#[test]
fn the_server_itself_reads_no_second_request() {
    let server = Encke::start(&[]);
    for Attack { name, bytes, status } in attacks() {
        let mut client = server.connect();
        client.try_send(&bytes);
        let answer = client.answer();
        // Nobody may POST there: where the head is sound, that is told before the body is looked at.
        assert!([status, 405].contains(&answer.status), "{name}: {} {}", answer.status, answer.text());
        assert_eq!(answer.get("connection"), Some("close"), "{name}");
        client.closed();
        assert_nothing_arrived(&server, name);
    }
}

/// Whatever a front makes of it, nothing that it lets through may be read as two requests; and the connections it
/// shares among clients stay in step: each answer is that of its request.
#[test]
fn nothing_passes_a_front() {
    let server = Encke::start(&[]);
    for kind in FRONTS {
        let front = Front::start(kind, &server);
        for Attack { name, bytes, .. } in attacks() {
            let mut client = front.connect();
            client.try_send(&bytes);
            // Some leave the front waiting for more of a body: then nothing has passed at all.
            client.answered_within(Duration::from_millis(300));
            drop(client);
            for _ in 0..3 {
                let answer = front.connect().get("/healthz", &[]);
                assert_eq!(
                    (answer.status, answer.text().trim()),
                    (200, "ok"),
                    "{kind:?} is out of step after {name}"
                );
            }
            assert_nothing_arrived(&server, name);
        }
        let refused = front.connect().ask("POST", "/pub/smuggled", &[], b"x");
        assert_eq!(refused.status, 403, "{kind:?} lets somebody publish");
    }
}
