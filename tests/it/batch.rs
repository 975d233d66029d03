//! `POST /pub`: many messages at once, one JSON object per line, all or none.

use serde_json::{Value, json};

use crate::client::Answer;
use crate::harness::{Encke, seq};

const NDJSON: [&str; 1] = ["Content-Type: application/x-ndjson"];

fn post(server: &Encke, lines: &str) -> Answer {
    server.ask("POST", "/pub", &NDJSON, lines.as_bytes())
}

#[test]
fn lines_are_published_in_order() {
    let server = Encke::start(&[]);
    let answer = post(
        &server,
        "{\"channel\":\"a\",\"data\":\"1\"}\n{\"channel\":\"b\",\"data\":\"2\"}\r\n{\"channel\":\"a\",\"data\":\"3\"}",
    );
    assert_eq!(answer.status, 202);
    let infos = answer.json();
    let infos = infos.as_array().unwrap();
    let channels: Vec<_> = infos.iter().map(|info| &info["channel"]).collect();
    assert_eq!(channels, ["a", "b", "a"]);
    let seqs: Vec<_> = infos.iter().map(|info| seq(info["id"].as_str().unwrap())).collect();
    assert_eq!(seqs, [seqs[0], seqs[0] + 1, seqs[0] + 2]);
    assert_eq!(server.history("a"), ["1", "3"]);
    assert_eq!(server.history("b"), ["2"]);
}

#[test]
fn the_status_says_whether_any_had_a_listener() {
    let server = Encke::start(&[]);
    let mut poll = server.park("/sub/b", &[], "b", 1);
    let answer = post(&server, "{\"channel\":\"a\",\"data\":\"1\"}\n{\"channel\":\"b\",\"data\":\"2\"}\n");
    assert_eq!(answer.status, 201);
    assert_eq!(poll.answer().text(), "2");
}

#[test]
fn data_has_the_type_it_was_written_in() {
    let server = Encke::start(&[]);
    let check = |line: Value, content_type: &str, body: &[u8]| {
        assert_eq!(post(&server, &line.to_string()).status, 202, "{line}");
        let answer = server.get("/sub/x?after=-1", &[]);
        assert_eq!((answer.media_type(), &answer.body[..]), (content_type, body), "{line}");
    };
    check(json!({"channel": "x", "data": "text"}), "text/plain", b"text");
    check(json!({"channel": "x", "data": ""}), "text/plain", b"");
    check(json!({"channel": "x", "data": "gr\u{fc}\u{df}e\n"}), "text/plain", "grüße\n".as_bytes());
    check(json!({"channel": "x", "data": {"a": [1]}}), "application/json", b"{\"a\":[1]}");
    check(json!({"channel": "x", "data": 42}), "application/json", b"42");
    check(json!({"channel": "x", "data": null}), "application/json", b"null");

    assert_eq!(post(&server, "{\"channel\":\"x\",\"data64\":\"AP+A\"}").status, 202);
    assert_eq!(server.get("/sub/x?after=-1", &[]).body, [0x00, 0xff, 0x80]);
}

#[test]
fn event_key_and_ttl_come_with_the_line() {
    let server = Encke::start(&[]);
    let (_, mut stream) = server.open("/sub/x?as=stream", &[]);
    let line = json!({"channel": "x", "data": "now", "event": "tick", "key": "AAPL", "ttl": 0});
    assert_eq!(post(&server, &line.to_string()).status, 201);
    let envelope = stream.envelope();
    assert_eq!((&envelope["event"], &envelope["key"]), (&json!("tick"), &json!("AAPL")));
    // A value that has expired is removed, and that is a message.
    assert_eq!(stream.envelope()["removed"], true);
    assert_eq!(server.json("/pub/x")["messages"], 1);
}

#[test]
fn one_bad_line_refuses_the_batch() {
    let server = Encke::start(&[]);
    let event = json!({"channel": "a", "data": "x", "event": "e".repeat(65)}).to_string();
    let key = json!({"channel": "a", "data": "x", "key": "k".repeat(256)}).to_string();
    for bad in [
        "{\"channel\":\"a\"",
        "[]",
        "\"a\"",
        "{}",
        "{\"data\":\"no channel\"}",
        "{\"channel\":\"no data\"}",
        "{\"channel\":7,\"data\":\"x\"}",
        "{\"channel\":\"\",\"data\":\"x\"}",
        "{\"channel\":\"a/../b\",\"data\":\"x\"}",
        "{\"channel\":\"a/*\",\"data\":\"x\"}",
        "{\"channel\":\"a\\u0000\",\"data\":\"x\"}",
        "{\"channel\":\"a\",\"data\":\"x\",\"data64\":\"eA==\"}",
        "{\"channel\":\"a\",\"data64\":\"!\"}",
        "{\"channel\":\"a\",\"data\":\"x\",\"event\":\"a\\nb\"}",
        "{\"channel\":\"a\",\"data\":\"x\",\"ttl\":-1}",
        "{\"channel\":\"a\",\"data\":\"x\",\"ttl\":\"soon\"}",
        // Blank to some, and not to JSON.
        "\u{a0}",
        "\u{2003}",
        "\u{c}",
        "\u{b}",
        &event,
        &key,
    ] {
        let good = "{\"channel\":\"good\",\"data\":\"x\"}";
        for lines in
            [format!("{good}\n{bad}\n"), format!("{bad}\n{good}\n"), format!("{good}\n{bad}\n{good}")]
        {
            let answer = post(&server, &lines);
            assert_eq!(answer.status, 400, "{lines}");
            assert!(!answer.json()["detail"].as_str().unwrap().is_empty());
        }
    }
    assert_eq!(server.json("/pub/"), json!([]), "nothing was published");
}

#[test]
fn bytes_that_are_no_utf8_refuse_the_batch() {
    let server = Encke::start(&[]);
    let answer = server.ask("POST", "/pub", &NDJSON, b"{\"channel\":\"a\",\"data\":\"\xff\"}");
    assert_eq!(answer.status, 400);
    assert_eq!(server.json("/pub/"), json!([]));
}
