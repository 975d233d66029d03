use super::*;
use crate::config::Config;
use crate::hub::{Data, Hub, Owner, Publication, Start};
use crate::id::Epoch;
use crate::time::Instant;

/// What a subscriber of `technique` gets for one message.
fn wire(publication: Publication, format: Format) -> String {
    let now = Instant::default();
    let mut hub = Hub::new(&Config::default(), Epoch::from_random(36), now);
    let key = hub.attach(now, Owner(0), &["a/b"], Vec::new(), Start::Now).unwrap();
    hub.publish(now, "a/b", publication).unwrap();
    let mut pulled = Vec::new();
    hub.pull(now, key, 1, &mut pulled);
    let (bytes, encoded) = frame(pulled[0], format);
    assert!(encoded > 0);
    assert_eq!(frame(pulled[0], format), (bytes, 0), "encoded once");
    String::from_utf8_lossy(bytes).into_owned()
}

fn text(text: &str) -> Publication {
    Publication::of(Data::Text(text.into()))
}

#[test]
fn formats_of_streams_are_known_by_their_numbers() {
    let streams = ["sse", "sse-envelope", "stream", "raw", "iframe", "multipart", "x-mixed-replace"];
    let techniques = streams.iter().filter_map(|name| Technique::by_name(name));
    for technique in techniques.chain([Technique::WebSocket, Technique::WebSocketRaw]) {
        for chunked in [false, true] {
            let format = Format::of_stream(technique, chunked);
            assert_eq!(Format::by_number(format as u8), Some(format));
        }
    }
    for number in [0, Format::PollVerbatim as u8, Format::BayeuxReplay as u8, u8::MAX] {
        assert_eq!(Format::by_number(number), None);
    }
}

#[test]
fn events_have_a_data_field_a_line() {
    let check = |message, lines| {
        assert_eq!(wire(text(message), Format::SsePlain), format!("id: 10:1\n{lines}\n"));
    };
    check("one", "data: one\n");
    check("", "data: \n");
    check("a\nb\r\nc\rd\n", "data: a\ndata: b\ndata: c\ndata: d\ndata: \n");
    let named = Publication { event: Some("price".into()), ..text("x") };
    assert_eq!(wire(named, Format::SsePlain), "id: 10:1\nevent: price\ndata: x\n\n");
    let binary = Publication::of(Data::Binary(Box::new([0xff])));
    assert_eq!(wire(binary, Format::SsePlain), "id: 10:1\ndata: {\"data64\":\"/w==\"}\n\n");
}

#[test]
fn envelopes_carry_what_is_there() {
    let full = Publication {
        event: Some("e".into()),
        key: Some("k".into()),
        ..Publication::of(Data::Json("{\"a\":1}".into()))
    };
    let json = "{\"id\":\"10:1\",\"channel\":\"a/b\",\"event\":\"e\",\"key\":\"k\",\"data\":{\"a\":1}}\n";
    assert_eq!(wire(full, Format::StreamPlain), json);
    let quoted = "{\"id\":\"10:1\",\"channel\":\"a/b\",\"data\":\"a\\\"\\n\"}\n";
    assert_eq!(wire(text("a\"\n"), Format::StreamPlain), quoted);
    let binary = Publication::of(Data::Binary(Box::new([0, 0xff])));
    assert_eq!(
        wire(binary, Format::StreamPlain),
        "{\"id\":\"10:1\",\"channel\":\"a/b\",\"data64\":\"AP8=\"}\n"
    );
}

#[test]
fn events_may_carry_envelopes() {
    let json = Publication { event: Some("e".into()), ..Publication::of(Data::Json("[1]".into())) };
    let frame = "id: 10:1\ndata: {\"id\":\"10:1\",\"channel\":\"a/b\",\"event\":\"e\",\"data\":[1]}\n\n";
    assert_eq!(wire(json.clone(), Format::SseEnvelopePlain), frame);
    assert_eq!(wire(json, Format::SseEnvelope), format!("{:x}\r\n{frame}\r\n", frame.len()));
}

#[test]
fn each_message_is_one_chunk() {
    assert_eq!(wire(text("0123456789abcdef"), Format::Raw), "10\r\n0123456789abcdef\r\n");
    assert_eq!(wire(text(""), Format::Raw), "", "an empty chunk would end the stream");
    assert!(wire(text("x"), Format::Sse).ends_with("\n\n\r\n"));
}
