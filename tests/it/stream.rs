//! Endless chunked answers: JSON lines and raw bytes, each message exactly one chunk.

use serde_json::json;

use crate::harness::{Encke, seq};

#[test]
fn json_lines_begin_at_once() {
    let server = Encke::start(&[]);
    for (target, headers) in [("/sub/x?as=stream", &[][..]), ("/sub/x", &["Accept: application/x-ndjson"])] {
        let (head, mut stream) = server.open(target, headers);
        assert_eq!(head.media_type(), "application/x-ndjson");
        assert!(head.lists("cache-control", "no-transform"), "{head:?}");
        assert_eq!(head.get("x-accel-buffering"), Some("no"));
        assert_eq!((head.get("content-length"), head.get("transfer-encoding")), (None, Some("chunked")));
        head.next();
        assert_eq!(stream.line(), "\n");
    }
}

#[test]
fn every_message_is_one_line_in_one_chunk() {
    let server = Encke::start(&[]);
    let waiting = server.publish("x", "waiting 1");
    server.publish("x", "waiting 2");
    let (_, mut stream) = server.open("/sub/x,y?as=stream&after=oldest", &[]);
    assert_eq!(stream.envelope(), json!({"id": waiting, "channel": "x", "data": "waiting 1"}));
    assert_eq!(stream.envelope()["data"], "waiting 2");
    let id = server.admin().publish("y", &["Encke-Event: e", "Encke-Key: k"], b"two\nlines");
    let expected = json!({"id": id, "channel": "y", "event": "e", "key": "k", "data": "two\nlines"});
    assert_eq!(stream.envelope(), expected);
    let id = server.admin().publish("x", &["Content-Type: application/json"], b"{\n\"a\":\r\n1}");
    assert_eq!(stream.envelope(), json!({"id": id, "channel": "x", "data": {"a": 1}}));
    let id = server.publish("x", [0x00, 0xff, 0x80]);
    assert_eq!(stream.envelope(), json!({"id": id, "channel": "x", "data64": "AP+A"}));
}

#[test]
fn raw_is_the_bytes_of_each_message_in_one_chunk() {
    let server = Encke::start(&[]);
    server.publish("x", "waiting 1");
    server.publish("x", "waiting 2");
    for (target, headers) in
        [("/sub/x?as=raw&after=oldest", &[][..]), ("/sub/x?after=oldest", &["TE: chunked", "Connection: TE"])]
    {
        let (head, mut raw) = server.open(target, headers);
        assert!(head.lists("cache-control", "no-transform"), "{head:?}");
        assert_eq!((head.get("content-length"), head.get("transfer-encoding")), (None, Some("chunked")));
        head.next();
        assert_eq!(raw.line(), "waiting 1");
        assert_eq!(raw.line(), "waiting 2");
    }
    let (_, mut raw) = server.open("/sub/x?as=raw", &[]);
    let every_byte: Vec<u8> = (0..=255).collect();
    server.publish("x", &every_byte);
    assert_eq!(raw.chunk(), Some(every_byte));
    server.publish("x", "");
    server.publish("x", "after an empty one");
    assert_eq!(raw.line(), "after an empty one", "an empty chunk would have ended the stream");
    let large = vec![b'x'; 1 << 20];
    server.publish("x", &large);
    assert_eq!(raw.chunk().map(|chunk| chunk.len()), Some(large.len()));
}

#[test]
fn the_query_wins_over_the_headers() {
    let server = Encke::start(&[]);
    let (head, _) = server.open("/sub/x?as=stream", &["Accept: text/event-stream", "TE: chunked"]);
    assert_eq!(head.media_type(), "application/x-ndjson");
    let (head, _) = server.open("/sub/x?as=sse", &["Accept: application/x-ndjson"]);
    assert_eq!(head.media_type(), "text/event-stream");
    let answer = server.get("/sub/x?as=interval", &["Accept: text/event-stream"]);
    assert_eq!(answer.status, 304);
}

#[test]
fn an_empty_line_is_the_heartbeat() {
    let server = Encke::start(&["--heartbeat", "1"]);
    let (_, mut stream) = server.open("/sub/x?as=stream", &[]);
    for _ in 0..3 {
        assert_eq!(stream.line(), "\n");
    }
    server.publish("x", "after");
    assert_eq!(stream.envelope()["data"], "after");
}

#[test]
fn wildcards_hear_channels_born_later() {
    let server = Encke::start(&[]);
    let (_, mut one) = server.open("/sub/stocks/*?as=stream", &[]);
    let (_, mut all) = server.open("/sub/stocks/**?as=stream", &[]);
    for channel in ["stocks", "bonds/X", "stocks/us/AAPL", "stocks/AAPL"] {
        server.publish(channel, "x");
    }
    assert_eq!(one.envelope()["channel"], "stocks/AAPL");
    assert_eq!(all.envelope()["channel"], "stocks/us/AAPL");
    assert_eq!(all.envelope()["channel"], "stocks/AAPL");
}

#[test]
fn a_storm_arrives_whole_in_order_and_once() {
    let server = Encke::start(&["--history-messages", "5000"]);
    let mut streams: Vec<_> = (0..5).map(|_| server.open("/sub/a,b?as=stream", &[]).1).collect();
    let mut publisher = server.admin();
    for batch in 0..20 {
        let line = |n: usize| format!("{{\"channel\":\"{}\",\"data\":{n}}}\n", ["a", "b"][n % 2]);
        let lines: String = (batch * 200..(batch + 1) * 200).map(line).collect();
        let ndjson = ["Content-Type: application/x-ndjson"];
        assert_eq!(publisher.ask("POST", "/pub", &ndjson, lines.as_bytes()).status, 201);
    }
    for stream in &mut streams {
        let mut before = 0;
        for n in 0..4000 {
            let envelope = stream.envelope();
            assert_eq!(envelope["data"], n);
            let seq = seq(envelope["id"].as_str().unwrap());
            assert!(seq > before);
            before = seq;
        }
    }
}

#[test]
fn a_stream_that_was_cut_resumes_without_loss_or_duplicate() {
    let server = Encke::start(&["--limits-stream-seconds", "1"]);
    server.publish("x", "1");
    let (head, mut stream) = server.open("/sub/x?as=stream&after=oldest", &[]);
    let mut after = head.next();
    while let Some(line) = stream.chunk() {
        if line != b"\n" {
            let envelope: serde_json::Value = serde_json::from_slice(&line).unwrap();
            assert_eq!(envelope["data"], "1");
            after = envelope["id"].as_str().unwrap().into();
        }
    }
    assert_ne!(after, head.next(), "the message came before the end");
    server.listeners("x", 0);
    server.publish("x", "2");
    let (_, mut stream) = server.open(&format!("/sub/x?as=stream&after={after}"), &[]);
    assert_eq!(stream.envelope()["data"], "2");
}

#[test]
fn http_1_0_gets_a_stream_without_chunks() {
    let server = Encke::start(&[]);
    let id = server.publish("x", "1");
    let mut client = server.connect();
    client.send("GET /sub/x?as=stream&after=oldest HTTP/1.0\r\n\r\n");
    let head = client.head();
    assert_eq!((head.status, head.get("transfer-encoding"), head.get("content-length")), (200, None, None));
    assert!(head.lists("connection", "close"), "{head:?}");
    assert_eq!(client.read_until(b"\n"), b"\n");
    let line = client.read_until(b"\n");
    let envelope: serde_json::Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(envelope, json!({"id": id, "channel": "x", "data": "1"}));

    let mut raw = server.connect();
    raw.send("GET /sub/x?as=raw&after=oldest HTTP/1.0\r\n\r\n");
    assert_eq!(raw.head().status, 200);
    server.listeners("x", 2);
    server.publish("x", "23");
    assert_eq!(raw.read_until(b"123"), b"123", "nothing but the messages");
    assert_eq!(server.ask("DELETE", "/pub/x", &[], b"").status, 204);
    raw.closed();
}

#[test]
fn a_stream_whose_client_left_is_forgotten() {
    let server = Encke::start(&[]);
    let (_, closed) = server.open("/sub/x?as=stream", &[]);
    let (_, reset) = server.open("/sub/x?as=raw", &[]);
    let (_, mut stays) = server.open("/sub/x?as=sse", &[]);
    server.listeners("x", 3);
    drop(closed);
    reset.reset();
    // A client that only closed its side might still read: the server notices at the next write at the latest.
    server.publish("x", "1");
    server.publish("x", "2");
    server.listeners("x", 1);
    stays.block();
    assert!(stays.block().unwrap().ends_with("data: 1"));
}
