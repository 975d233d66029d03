//! Server-sent events, read as a browser reads them.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::Answer;
use crate::harness::Encke;

/// One block of a stream, by the rules of the HTML standard.
#[derive(Debug, Default, PartialEq)]
pub struct Event {
    pub id: Option<String>,
    pub event: Option<String>,
    pub data: Option<String>,
    pub retry: Option<String>,
    pub comments: usize,
}

/// Interprets a block of lines as a browser does.
pub fn parse(block: &str) -> Event {
    let mut event = Event::default();
    for line in block.split(['\n', '\r']) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match field {
            "" => event.comments += 1,
            "id" => event.id = Some(value),
            "event" => event.event = Some(value),
            "retry" => event.retry = Some(value),
            "data" => {
                event.data = Some(match event.data {
                    Some(before) => format!("{before}\n{value}"),
                    None => value,
                });
            }
            other => panic!("a browser ignores the field {other:?} of {block:?}"),
        }
    }
    event
}

#[test]
fn a_stream_begins_at_once_with_where_it_starts() {
    let server = Encke::start(&[]);
    for (target, headers) in [("/sub/x?as=sse", &[][..]), ("/sub/x", &["Accept: text/event-stream"])] {
        let (head, mut sse) = server.open(target, headers);
        assert_eq!(head.media_type(), "text/event-stream");
        assert_eq!(head.get("cache-control"), Some("no-store, no-transform"));
        assert_eq!((head.get("x-accel-buffering"), head.get("encke-heartbeat")), (Some("no"), Some("15")));
        assert_eq!((head.get("content-length"), head.get("transfer-encoding")), (None, Some("chunked")));
        let opening = parse(&sse.block().unwrap());
        assert_eq!((opening.id, opening.retry), (Some(head.next()), Some("2000".into())));
        let place = json!({"next": head.next(), "heartbeat": 15});
        assert_eq!(
            opening.event.as_deref(),
            Some("encke.open"),
            "no message for the page, and none without data"
        );
        assert_eq!(serde_json::from_str::<Value>(&opening.data.unwrap()).unwrap(), place);
    }
}

#[test]
fn a_message_is_an_event() {
    let server = Encke::start(&[]);
    let (_, mut sse) = server.open("/sub/x?as=sse", &[]);
    sse.block();
    let mut check = |headers: &[&str], body: &[u8], event: Option<&str>, data: &str| {
        let id = server.admin().publish("x", headers, body);
        let got = parse(&sse.block().unwrap());
        let expected =
            Event { id: Some(id), event: event.map(Into::into), data: Some(data.into()), ..Event::default() };
        assert_eq!(got, expected);
    };
    check(&[], b"plain", None, "plain");
    check(&["Encke-Event: tick"], b"named", Some("tick"), "named");
    check(&[], b"a\nb\r\nc\rd", None, "a\nb\nc\nd");
    check(&[], b"\n", None, "\n");
    check(&[], b"\n\nid: forged\n\n", None, "\n\nid: forged\n\n");
    check(&[], b"", None, "");
    check(&[], b" leading blank", None, " leading blank");
    check(&[], "gr\u{fc}\u{df}e\u{2028}".as_bytes(), None, "grüße\u{2028}");
    check(&["Content-Type: application/json"], b"{\"a\":1}", None, "{\"a\":1}");
    check(&["Content-Type: image/png"], b"\x00\xff\x80", None, "{\"data64\":\"AP+A\"}");
}

#[test]
fn last_event_id_resumes() {
    let server = Encke::start(&[]);
    let id = server.publish("x", "1");
    let ids = ["2", "3"].map(|body| server.publish("x", body));
    let (_, mut sse) = server.open("/sub/x", &["Accept: text/event-stream", &format!("Last-Event-ID: {id}")]);
    assert_eq!(parse(&sse.block().unwrap()).id, Some(id));
    for (id, body) in ids.into_iter().zip(["2", "3"]) {
        let event = parse(&sse.block().unwrap());
        assert_eq!((event.id, event.data), (Some(id), Some(body.into())));
    }
}

#[test]
fn a_client_that_has_seen_no_message_can_resume() {
    let server = Encke::start(&[]);
    let (_, mut sse) = server.open("/sub/x?as=sse", &[]);
    let start = parse(&sse.block().unwrap()).id.unwrap();
    drop(sse);
    server.listeners("x", 0);
    server.publish("x", "meanwhile");
    let (_, mut sse) = server.open("/sub/x?as=sse", &[&format!("Last-Event-ID: {start}")]);
    sse.block();
    assert_eq!(parse(&sse.block().unwrap()).data.as_deref(), Some("meanwhile"));
}

#[test]
fn heartbeats_are_comments_that_end_no_block() {
    let server = Encke::start(&["--heartbeat", "1"]);
    let (head, mut sse) = server.open("/sub/x?as=sse", &[]);
    assert_eq!(head.get("encke-heartbeat"), Some("1"));
    sse.block();
    for _ in 0..2 {
        assert_eq!(sse.line(), ":\n", "libraries take each empty line for a message");
    }
    let id = server.publish("x", "after");
    let block = sse.block().unwrap();
    let event = parse(&block);
    assert_eq!((event.id, event.data.as_deref()), (Some(id), Some("after")), "{block:?}");
}

/// What a client that asks for events is told which cannot be served now: when to come back, in milliseconds.
fn told_to_come_back(answer: &Answer) -> u64 {
    assert_eq!((answer.status, answer.media_type()), (200, "text/event-stream"), "{}", answer.text());
    assert_eq!(answer.get("cache-control"), Some("no-store, no-transform"));
    let text = answer.text();
    assert!(!text.contains("\n\n") && text.ends_with('\n'), "no block, which would be a message: {text:?}");
    let event = parse(text.trim_end());
    assert_eq!((event.id, event.event, event.data), (None, None, None));
    event.retry.expect("when to come back").parse().unwrap()
}

#[test]
fn at_a_limit_an_event_source_is_told_to_come_back() {
    let listens = ["--limits-connections", "2"];
    let server = Encke::start(&listens);
    let inside = [server.open("/sub/x?as=sse", &[]), server.open("/sub/x?as=sse", &[])];
    let mut told = Vec::new();
    for (target, fields, served) in [
        ("/sub/x", &["Accept: text/event-stream"][..], true),
        ("/sub/x?as=sse-envelope", &["Accept: text/event-stream"], true),
        ("/sub/x?as=sse", &[], true),
        ("/bayeux/nobody", &["Accept: text/event-stream"], true),
        ("/sub/x?as=sse-envelope", &[], false),
        ("/sub/x?as=poll", &["Accept: text/event-stream"], false),
        ("/sub/x", &[], false),
    ] {
        let answer = server.get(target, fields);
        match served {
            true => told.push(told_to_come_back(&answer)),
            false => assert_eq!(answer.status, 503, "{target} {fields:?}"),
        }
        assert_eq!(answer.get("connection"), Some("close"));
    }
    assert!(told.iter().all(|retry| (1000..=11_000).contains(retry)), "{told:?}");
    assert!(told.iter().any(|retry| *retry != told[0]), "not all at once: {told:?}");
    drop(inside);

    let server = Encke::start(&["--limits-subscribers-per-channel", "1"]);
    let _inside = server.open("/sub/x?as=sse", &[]);
    assert_eq!(server.get("/sub/x?as=stream", &[]).status, 503);
    let mut client = server.connect();
    for _ in 0..2 {
        let answer = client.get("/sub/x", &["Accept: text/event-stream"]);
        assert!(told_to_come_back(&answer) >= 60_000);
        let seconds: u64 = answer.get("retry-after").unwrap().parse().unwrap();
        assert_eq!(told_to_come_back(&answer), seconds * 1000, "for scripts, too");
    }
    client.request("HEAD", "/sub/x", &["Accept: text/event-stream"], b"");
    assert_eq!(client.head().status, 200);
}

#[test]
fn a_page_of_a_listed_origin_may_read_that_it_shall_come_back() {
    let server = Encke::start(&["--limits-connections", "1", "--cors-origins", "https://a.example"]);
    let _inside = server.open("/sub/x?as=sse", &[]);
    let answer = server.get("/sub/x", &["Accept: text/event-stream", "Origin: https://a.example"]);
    assert_eq!(answer.get("access-control-allow-origin"), Some("https://a.example"));
    told_to_come_back(&answer);
}

#[test]
fn when_the_server_leaves_event_sources_come_back_after_a_drawn_time() {
    let mut server = Encke::start(&["--drain-seconds", "60"]);
    let mut times = Vec::new();
    let mut streams: Vec<_> = (0..8).map(|_| server.open("/sub/x?as=sse", &[]).1).collect();
    server.signal(Signal::TERM);
    for sse in &mut streams {
        assert!(sse.block().is_some_and(|block| block.starts_with("retry: 2000\n")));
        assert_eq!(sse.block(), None);
        let retry = parse(sse.left().trim_end()).retry.expect("when to come back");
        times.push(retry.parse::<u64>().unwrap());
    }
    assert!(times.iter().all(|ms| (5000..15_000).contains(ms)), "{times:?}");
    times.sort_unstable();
    times.dedup();
    assert!(times.len() > 4, "not all at once: {times:?}");
    server.exit();
}

#[test]
fn the_time_before_a_reconnect_is_configurable() {
    let server = Encke::start(&["--sse-retry-ms", "123"]);
    let (_, mut sse) = server.open("/sub/x?as=sse", &[]);
    assert_eq!(parse(&sse.block().unwrap()).retry.as_deref(), Some("123"));
}

#[test]
fn events_may_carry_envelopes() {
    let server = Encke::start(&[]);
    let (head, mut sse) = server.open("/sub/x,y?as=sse-envelope", &[]);
    assert_eq!(head.media_type(), "text/event-stream");
    sse.block();
    let id = server.admin().publish("y", &["Encke-Event: e"], b"5");
    let got = parse(&sse.block().unwrap());
    let envelope = format!(r#"{{"id":"{id}","channel":"y","event":"e","data":"5"}}"#);
    assert_eq!((got.id, got.event, got.data), (Some(id), None, Some(envelope)));
}
