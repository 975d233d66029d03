use super::*;
use crate::config::Config;
use crate::hub::{Data, Hub, Owner, Publication, Start};
use crate::id::Epoch;
use crate::time::Instant;

const SSE: Look = Look { stream: Streaming::Sse, chunked: true };
const SSE_PLAIN: Look = Look { chunked: false, ..SSE };
const SSE_ENVELOPE: Look = Look { stream: Streaming::SseEnvelope, chunked: true };
const SSE_ENVELOPE_PLAIN: Look = Look { chunked: false, ..SSE_ENVELOPE };
const LINES_PLAIN: Look = Look { stream: Streaming::Lines, chunked: false };
const RAW: Look = Look { stream: Streaming::Raw, chunked: true };

/// What a subscriber with that look gets for one message.
fn wire(publication: Publication, look: Look) -> String {
    let now = Instant::default();
    let mut hub = Hub::new(&Config::default(), Epoch::from_random(36), now);
    let key = hub.attach(now, Owner(0), &["a/b"], Vec::new(), Start::Now).unwrap();
    hub.publish(now, "a/b", publication).unwrap();
    let mut pulled = Vec::new();
    hub.pull(now, key, 1, &mut pulled);
    let (bytes, encoded) = frame(pulled[0], look);
    assert!(encoded > 0);
    assert_eq!(frame(pulled[0], look), (bytes, 0), "encoded once");
    String::from_utf8_lossy(bytes).into_owned()
}

fn text(text: &str) -> Publication {
    Publication::of(Data::Text(text.into()))
}

#[test]
fn formats_are_known_by_their_numbers() {
    let names = ["sse", "sse-envelope", "stream", "raw", "iframe", "multipart", "x-mixed-replace"];
    let named = names.iter().filter_map(|name| match Transport::by_name(name)? {
        Transport::Stream(stream) => Some(stream),
        Transport::Poll(_) => None,
    });
    for stream in named.chain([Streaming::WebSocket, Streaming::WebSocketRaw, Streaming::Mercure]) {
        for chunked in [false, true] {
            let look = Look { stream, chunked };
            let format = Format::Stream(look);
            assert_eq!(Format::numbered(format.number()), Some(format));
            assert!(!Format::is_poll(format.number()));
        }
    }
    for format in
        [Format::PollVerbatim, Format::PollBatch, Format::BatchBody, Format::Bayeux, Format::BayeuxReplay]
    {
        assert_eq!(Format::numbered(format.number()), Some(format));
        let is_poll = matches!(format, Format::PollVerbatim | Format::PollBatch);
        assert_eq!(Format::is_poll(format.number()), is_poll);
    }
    for number in [0, 21, 0x7f, 0x85, u8::MAX] {
        assert_eq!(Format::numbered(number), None);
    }
}

#[test]
fn events_have_a_data_field_a_line() {
    let check = |message, lines| {
        assert_eq!(wire(text(message), SSE_PLAIN), format!("id: 10:1\n{lines}\n"));
    };
    check("one", "data: one\n");
    check("", "data: \n");
    check("a\nb\r\nc\rd\n", "data: a\ndata: b\ndata: c\ndata: d\ndata: \n");
    let named = Publication { event: Some("price".into()), ..text("x") };
    assert_eq!(wire(named, SSE_PLAIN), "id: 10:1\nevent: price\ndata: x\n\n");
    let binary = Publication::of(Data::Binary(Box::new([0xff])));
    assert_eq!(wire(binary, SSE_PLAIN), "id: 10:1\ndata: {\"data64\":\"/w==\"}\n\n");
}

#[test]
fn envelopes_carry_what_is_there() {
    let full = Publication {
        event: Some("e".into()),
        key: Some("k".into()),
        ..Publication::of(Data::Json("{\"a\":1}".into()))
    };
    let json = "{\"id\":\"10:1\",\"channel\":\"a/b\",\"event\":\"e\",\"key\":\"k\",\"data\":{\"a\":1}}\n";
    assert_eq!(wire(full, LINES_PLAIN), json);
    let quoted = "{\"id\":\"10:1\",\"channel\":\"a/b\",\"data\":\"a\\\"\\n\"}\n";
    assert_eq!(wire(text("a\"\n"), LINES_PLAIN), quoted);
    let binary = Publication::of(Data::Binary(Box::new([0, 0xff])));
    assert_eq!(wire(binary, LINES_PLAIN), "{\"id\":\"10:1\",\"channel\":\"a/b\",\"data64\":\"AP8=\"}\n");
}

#[test]
fn events_may_carry_envelopes() {
    let json = Publication { event: Some("e".into()), ..Publication::of(Data::Json("[1]".into())) };
    let frame = "id: 10:1\ndata: {\"id\":\"10:1\",\"channel\":\"a/b\",\"event\":\"e\",\"data\":[1]}\n\n";
    assert_eq!(wire(json.clone(), SSE_ENVELOPE_PLAIN), frame);
    assert_eq!(wire(json, SSE_ENVELOPE), format!("{:x}\r\n{frame}\r\n", frame.len()));
}

#[test]
fn each_message_is_one_chunk() {
    assert_eq!(wire(text("0123456789abcdef"), RAW), "10\r\n0123456789abcdef\r\n");
    assert_eq!(wire(text(""), RAW), "", "an empty chunk would end the stream");
    assert!(wire(text("x"), SSE).ends_with("\n\n\r\n"));
}
