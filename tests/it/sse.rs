//! Server-sent events, read as a browser reads them.

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
        assert!(head.lists("cache-control", "no-store"), "{head:?}");
        assert_eq!(head.get("x-accel-buffering"), Some("no"));
        assert_eq!((head.get("content-length"), head.get("transfer-encoding")), (None, Some("chunked")));
        let opening = parse(&sse.block().unwrap());
        assert_eq!((opening.id, opening.retry), (Some(head.next()), Some("2000".into())));
        assert_eq!((opening.event, opening.data), (None, None), "no event reaches the page");
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
fn heartbeats_are_comments() {
    let server = Encke::start(&["--heartbeat", "1"]);
    let (_, mut sse) = server.open("/sub/x?as=sse", &[]);
    sse.block();
    for _ in 0..2 {
        let beat = parse(&sse.block().unwrap());
        assert_eq!((beat.id, beat.event, beat.data), (None, None, None), "no event reaches the page");
        assert!(beat.comments > 0, "but something goes over the wire");
    }
    server.publish("x", "after");
    let event =
        std::iter::from_fn(|| sse.block()).map(|block| parse(&block)).find(|event| event.data.is_some());
    assert_eq!(event.unwrap().data.as_deref(), Some("after"));
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
