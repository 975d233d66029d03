//! Where a subscriber starts: every form in which it can name a position, and those that are refused.

use crate::harness::{Encke, data, parts};
use crate::sse::parse;

const JSON: &str = "Accept: application/json";

#[test]
fn an_id_is_taken_in_every_form() {
    let server = Encke::start(&[]);
    server.publish("x", "1");
    let id = server.publish("x", "2");
    server.publish("x", "3");
    server.publish("x", "4");
    let encoded = id.replace(':', "%3A");
    let check = |query: &str, header: Option<String>| {
        let headers = [Some(JSON), header.as_deref()];
        let headers: Vec<&str> = headers.into_iter().flatten().collect();
        for technique in ["poll", "interval"] {
            let answer = server.get(&format!("/sub/x?as={technique}&{query}"), &headers);
            assert_eq!(answer.status, 200, "{query} {header:?}: {}", answer.text());
            assert_eq!(data(&answer.json()), ["3", "4"], "{query} {header:?}");
        }
        for technique in ["stream", "sse", "raw"] {
            let (head, _) = server.open(&format!("/sub/x?as={technique}&{query}"), &headers);
            assert_eq!(head.next(), id, "{technique} {query} {header:?}: a stream says where it starts");
        }
    };
    for name in ["after", "last_event_id", "lastEventId"] {
        check(&format!("{name}={id}"), None);
        check(&format!("{name}={encoded}"), None);
    }
    for header in [
        format!("Last-Event-ID: {id}"),
        format!("last-event-id: {id}"),
        format!("If-None-Match: \"{id}\""),
        format!("If-None-Match: W/\"{id}\""),
        format!("If-None-Match: {id}"),
    ] {
        check("", Some(header.clone()));
        check("after=oldest", Some(header.clone()));
        check("after=now", Some(header));
    }
}

#[test]
fn words_and_counts() {
    let server = Encke::start(&[]);
    for (channel, body) in [("a", "a1"), ("b", "b1"), ("a", "a2"), ("a", "a3"), ("b", "b2")] {
        server.publish(channel, body);
    }
    let check = |channels: &str, query: &str, expected: &[&str]| {
        let answer = server.get(&format!("/sub/{channels}?as=interval{query}"), &[JSON]);
        let got = if answer.status == 304 { vec![] } else { data(&answer.json()) };
        assert_eq!(got, expected, "{channels} {query}");
    };
    check("a", "&after=oldest", &["a1", "a2", "a3"]);
    check("a", "&after=now", &[]);
    check("a", "", &[]);
    check("a", "&after=-1", &["a3"]);
    check("a", "&after=-2", &["a2", "a3"]);
    check("a", "&after=-99", &["a1", "a2", "a3"]);
    check("a,b", "&after=oldest", &["a1", "b1", "a2", "a3", "b2"]);
    check("a,b", "&after=-1", &["a3", "b2"]);
    check("a,b", "&after=-2", &["b1", "a2", "a3", "b2"]);
    check("unknown", "&after=-1", &[]);
    check("unknown", "&after=oldest", &[]);
}

#[test]
fn one_id_resumes_any_channels_on_any_technique() {
    let server = Encke::start(&[]);
    let (head, mut sse) = server.open("/sub/a,b?as=sse", &[]);
    assert_eq!(parse(&sse.block().unwrap()).id, Some(head.next()));
    let first = server.publish("a", "1");
    assert!(sse.block().unwrap().contains(&first));
    drop(sse);
    server.publish("b", "2");
    let poll = server.get("/sub/a,b", &[&format!("Last-Event-ID: {first}")]);
    assert_eq!(poll.text(), "2");
    let third = server.publish("a", "3");
    let (_, mut stream) = server.open(&format!("/sub/a,b,c?as=stream&after={}", poll.next()), &[]);
    assert_eq!(stream.envelope()["id"], third.as_str());
}

#[test]
fn what_is_no_position_is_refused() {
    let server = Encke::start(&[]);
    let id = server.publish("x", "1");
    let epoch = parts(&id).0;
    let long = format!("{epoch}:{}1", "0".repeat(40));
    for bad in [
        "banana",
        "-",
        "-x",
        "-1.5",
        ":",
        ":1",
        &format!("{epoch}:"),
        &format!("{epoch}:x"),
        &format!("{epoch}:-1"),
        &format!("{epoch}:99999999999999999999999"),
        &format!("{epoch}:1:2"),
        &format!("{epoch}:1%0A"),
        "%00",
        "%FF",
        "gr%C3%BC%C3%9Fe:1",
        &long,
        "-99999999999999999999999",
    ] {
        let answer = server.get(&format!("/sub/x?as=interval&after={bad}"), &[]);
        assert_eq!(answer.status, 400, "after={bad}");
        assert!(!answer.json()["detail"].as_str().unwrap().is_empty());
        for name in ["last_event_id", "lastEventId"] {
            let answer = server.get(&format!("/sub/x?as=interval&{name}={bad}"), &[]);
            let expected = if bad.ends_with("%0A") { 304 } else { 200 };
            assert_eq!(answer.status, expected, "{name}={bad}: browsers send what they were told");
        }
    }
    let shadowed = server.get(&format!("/sub/x?after={id}"), &["Last-Event-ID: banana"]);
    assert_eq!(
        (shadowed.status, shadowed.get("encke-gap")),
        (200, Some("x")),
        "a header wins over the query"
    );
}

#[test]
fn unknown_values_are_refused() {
    let server = Encke::start(&["--limits-channels-per-request", "3"]);
    for target in [
        "/sub/x?timeout=0",
        "/sub/x?timeout=301",
        "/sub/x?timeout=-1",
        "/sub/x?timeout=soon",
        "/sub/x?timeout=99999999999999999999999",
        "/sub/x?max=0",
        "/sub/x?max=1001",
        "/sub/x?max=many",
        "/sub/x?as=carrier-pigeon",
        "/sub/x?as=",
        "/sub/",
        "/sub/,",
        "/sub/a,,b",
        "/sub//a",
        "/sub/a/",
        "/sub/a//b",
        "/sub/.",
        "/sub/a/../b",
        "/sub/%00",
        "/sub/%FF",
        "/sub/a,b,c,d",
        "/sub/a,b,c/*,d/**",
        &format!("/sub/{}", "c".repeat(256)),
    ] {
        let answer = server.get(target, &[]);
        assert_eq!(answer.status, 400, "GET {target}");
        assert!(!answer.json()["detail"].as_str().unwrap().is_empty(), "GET {target}");
    }
}
