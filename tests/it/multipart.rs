//! Multipart: a part a message, complete as soon as it is there.

use serde_json::Value;

use crate::client::{Client, Head};
use crate::harness::Encke;

/// A part, as a strict reader of RFC 2046 finds it.
struct Part {
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Part {
    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn boundary(head: &Head) -> String {
    let content_type = head.get("content-type").unwrap();
    format!("--{}\r\n", content_type.split_once("; boundary=").expect("a boundary").1)
}

/// Reads the next part from a chunk, which has to be exactly one, closed by the boundary.
fn part(chunk: &[u8], boundary: &str) -> Part {
    let text =
        chunk.strip_suffix(format!("\r\n{boundary}").as_bytes()).expect("the boundary follows at once");
    let blank = text.windows(4).position(|window| window == b"\r\n\r\n").expect("an empty line");
    let head = std::str::from_utf8(&text[..blank]).unwrap();
    let fields: Vec<(String, String)> = head
        .split("\r\n")
        .map(|line| line.split_once(": ").expect("a field"))
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let part = Part { fields, body: text[blank + 4..].to_vec() };
    assert_eq!(part.get("content-length"), Some(&*part.body.len().to_string()));
    part
}

fn next(stream: &mut Client, boundary: &str) -> Part {
    part(&stream.chunk().expect("the stream goes on"), boundary)
}

#[test]
fn the_type_asked_for() {
    let server = Encke::start(&[]);
    for (target, headers, media_type) in [
        ("/sub/x?as=multipart", &[][..], "multipart/mixed"),
        ("/sub/x?as=x-mixed-replace", &["Accept: image/*"], "multipart/x-mixed-replace"),
        ("/sub/x", &["Accept: multipart/mixed"], "multipart/mixed"),
        ("/sub/x", &["Accept: multipart/x-mixed-replace, */*"], "multipart/x-mixed-replace"),
    ] {
        let (head, mut stream) = server.open(target, headers);
        assert_eq!(head.media_type(), media_type, "{target} {headers:?}");
        assert_eq!(stream.line(), boundary(&head), "it begins at once");
    }
}

#[test]
fn a_message_is_a_part_with_its_own_type() {
    let server = Encke::start(&[]);
    let (head, mut stream) = server.open("/sub/x%2Cy?as=multipart", &[]);
    let boundary = boundary(&head);
    stream.line();
    let every_byte: Vec<u8> = (0..=255).collect();
    let fields = ["Content-Type: image/png", "Encke-Event: e", "Encke-Key: k"];
    let id = server.admin().publish("x%2Cy", &fields, &every_byte);
    let got = next(&mut stream, &boundary);
    assert_eq!(got.body, every_byte);
    for (name, value) in [
        ("content-type", "image/png"),
        ("encke-id", &*id),
        ("encke-channel", "x%2Cy"),
        ("encke-event", "e"),
        ("encke-key", "k"),
    ] {
        assert_eq!(got.get(name), Some(value));
    }
    server.publish("x%2Cy", "");
    let got = next(&mut stream, &boundary);
    assert_eq!((got.get("content-type"), got.body.len()), (Some("text/plain; charset=utf-8"), 0));
    // Who knows the boundary cannot forge a part.
    let forged = format!("a\r\n{boundary}Encke-Id: 1\r\n\r\nforged\r\n{boundary}");
    server.publish("x%2Cy", &forged);
    let got = next(&mut stream, &boundary);
    assert_eq!(got.get("content-transfer-encoding"), Some("base64"));
    let text = String::from_utf8(got.body).unwrap();
    assert!(!text.contains("--") && text.lines().all(|line| line.len() <= 76), "{text}");
}

#[test]
fn gaps_and_heartbeats() {
    let server =
        Encke::start(&["--heartbeat", "1", "--history-messages", "1", "--history-grace-seconds", "0"]);
    let ids = ["1", "2", "3"].map(|text| server.publish("x", text));
    let (head, mut mixed) = server.open(&format!("/sub/x?as=multipart&after={}", ids[0]), &[]);
    let boundary = boundary(&head);
    mixed.line();
    let gap = next(&mut mixed, &boundary);
    assert_eq!((gap.get("encke-id"), gap.get("content-type")), (None, Some("application/json")));
    assert_eq!(gap.json()["gap"]["after"], ids[0].as_str());
    assert_eq!(next(&mut mixed, &boundary).body, b"3");
    let beat = next(&mut mixed, &boundary);
    assert_eq!((beat.get("encke-id"), &beat.body[..]), (None, &b"{}"[..]));

    let (_, mut film) = server.open(&format!("/sub/x?as=x-mixed-replace&after={}", ids[0]), &[]);
    film.line();
    let ahead = film.chunk().unwrap();
    assert_eq!(ahead, b"Encke-Gap: x\r\n", "a notice must not replace what is shown");
    let got = part(&[ahead, film.chunk().unwrap()].concat(), &boundary);
    assert_eq!((got.get("encke-gap"), &got.body[..]), (Some("x"), &b"3"[..]));
}

#[test]
fn a_stream_ends_with_the_last_boundary() {
    let server = Encke::start(&[]);
    for technique in ["multipart", "x-mixed-replace"] {
        let (head, mut stream) = server.open(&format!("/sub/x?as={technique}"), &[]);
        let boundary = boundary(&head);
        stream.line();
        assert_eq!(server.ask("DELETE", "/pub/x", &[], b"").status, 204);
        assert_eq!(stream.line(), format!("{}--\r\n", boundary.trim_end()));
        assert_eq!(stream.chunk(), None);
        stream.closed();
    }
}

#[test]
fn old_clients_and_head() {
    let server = Encke::start(&[]);
    let mut old = server.connect();
    old.send("GET /sub/x HTTP/1.0\r\nAccept: multipart/mixed\r\n\r\n");
    let head = old.head();
    assert_eq!((head.get("transfer-encoding"), head.get("connection")), (None, Some("close")));
    let boundary = boundary(&head);
    old.read_until(boundary.as_bytes());
    server.publish("x", "news");
    assert_eq!(part(&old.read_until(boundary.as_bytes()), &boundary).body, b"news");
    let mut head_only = server.connect();
    head_only.request("HEAD", "/sub/x?as=multipart", &["Connection: close"], b"");
    assert_eq!(head_only.head().media_type(), "multipart/mixed");
    head_only.closed();
}
