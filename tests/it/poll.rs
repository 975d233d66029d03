//! Long polling and interval polling: one request, one answer.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Encke, data, seq};

const JSON: [&str; 1] = ["Accept: application/json"];

#[test]
fn a_parked_poll_gets_the_message_verbatim() {
    let server = Encke::start(&[]);
    let mut poll = server.park("/sub/x", &[], "x", 1);
    let id = server.admin().publish("x", &["Content-Type: image/svg+xml", "Encke-Event: e"], b"<svg/>");
    let answer = poll.answer();
    assert_eq!((answer.status, answer.version.as_str()), (200, "HTTP/1.1"));
    assert_eq!((answer.body.as_slice(), answer.get("content-type")), (&b"<svg/>"[..], Some("image/svg+xml")));
    assert_eq!((answer.get("etag"), answer.next()), (Some(format!("\"{id}\"").as_str()), id.clone()));
    assert_eq!((answer.get("content-length"), answer.get("encke-gap")), (Some("6"), None));
    server.listeners("x", 0);

    poll.request("GET", &format!("/sub/x?after={id}"), &[], b"");
    server.listeners("x", 1);
    server.publish("x", "next");
    assert_eq!(poll.answer().text(), "next", "the same connection goes on");
}

#[test]
fn everybody_who_waits_gets_it() {
    let server = Encke::start(&[]);
    let mut polls: Vec<_> = (1..=20).map(|count| server.park("/sub/x", &[], "x", count)).collect();
    server.publish("x", "to all");
    for poll in &mut polls {
        assert_eq!(poll.answer().text(), "to all");
    }
    server.listeners("x", 0);
}

#[test]
fn without_json_the_oldest_waiting_message_comes_first() {
    let server = Encke::start(&[]);
    let ids = ["1", "2", "3"].map(|body| server.publish("x", body));
    let mut client = server.connect();
    let mut after = "oldest".to_owned();
    for (id, body) in ids.iter().zip(["1", "2", "3"]) {
        let answer = client.get(&format!("/sub/x?after={after}"), &[]);
        assert_eq!((answer.text().as_str(), &answer.next()), (body, id));
        after = answer.next();
    }
    assert_eq!(client.get(&format!("/sub/x?after={after}&as=interval"), &[]).status, 304);
}

#[test]
fn a_json_batch_has_all_that_waits() {
    let server = Encke::start(&[]);
    let first = server.admin().publish("x", &["Content-Type: application/json"], b"{\"n\":[1,null]}");
    let second =
        server.admin().publish("x", &["Encke-Event: e", "Encke-Key: k"], "gr\u{fc}\u{df}e \"\\\n".as_bytes());
    let third = server.admin().publish("x", &["Content-Type: image/png"], b"\x00\xff\x80");
    let answer = server.get("/sub/x?after=oldest", &JSON);
    assert_eq!((answer.status, answer.media_type()), (200, "application/json"));
    let expected = json!({
        "messages": [
            {"id": first, "channel": "x", "data": {"n": [1, null]}},
            {"id": second, "channel": "x", "event": "e", "key": "k", "data": "grüße \"\\\n"},
            {"id": third, "channel": "x", "data64": "AP+A"},
        ],
        "next": third,
        "gap": false,
    });
    assert_eq!(answer.json(), expected);
    assert_eq!((answer.get("etag"), answer.next()), (Some(format!("\"{third}\"").as_str()), third));
}

#[test]
fn a_parked_json_poll_gets_a_batch() {
    let server = Encke::start(&[]);
    let mut poll = server.park("/sub/x", &JSON, "x", 1);
    let id = server.publish("x", "news");
    let expected =
        json!({"messages": [{"id": id, "channel": "x", "data": "news"}], "next": id, "gap": false});
    assert_eq!(poll.answer().json(), expected);
}

#[test]
fn max_bounds_a_batch_and_next_continues_it() {
    let server = Encke::start(&["--history-messages", "300"]);
    let bodies: Vec<String> = (0..250).map(|n| n.to_string()).collect();
    let mut publisher = server.admin();
    for body in &bodies {
        publisher.publish("x", &[], body.as_bytes());
    }
    let mut client = server.connect();
    let two = client.get("/sub/x?after=oldest&max=2", &JSON).json();
    assert_eq!(data(&two), ["0", "1"]);
    assert_eq!(two["next"], two["messages"][1]["id"]);

    let (mut after, mut sizes, mut got) = ("oldest".to_owned(), vec![], vec![]);
    while got.len() < bodies.len() {
        let batch = client.get(&format!("/sub/x?after={after}&as=poll"), &JSON).json();
        sizes.push(data(&batch).len());
        got.extend(data(&batch));
        after = batch["next"].as_str().unwrap().into();
    }
    assert_eq!((sizes, got), (vec![100, 100, 50], bodies), "100 is the default");
}

#[test]
fn no_news_is_answered_when_the_time_is_over() {
    let server = Encke::start(&[]);
    let before = server.publish("x", "old");
    let mut client = server.connect();
    for headers in [&[][..], &JSON[..]] {
        let start = Instant::now();
        let answer = client.get("/sub/x?timeout=1", headers);
        assert!(start.elapsed() >= Duration::from_millis(900), "answered after {:?}", start.elapsed());
        assert_eq!(answer.status, 204);
        assert_eq!(answer.get("etag"), Some(format!("\"{}\"", answer.next()).as_str()));
        assert!(seq(&answer.next()) >= seq(&before));
        let id = server.publish("x", "later");
        let resumed = client.get(&format!("/sub/x?after={}", answer.next()), &[]);
        assert_eq!((resumed.text(), resumed.next()), ("later".into(), id), "nothing is lost in between");
    }
}

#[test]
fn the_status_of_no_news_is_configurable() {
    for status in [304, 408] {
        let server =
            Encke::start(&["--poll-no-news-status", &status.to_string(), "--poll-timeout-seconds", "1"]);
        let mut client = server.connect();
        let answer = client.get("/sub/x", &[]);
        assert_eq!(answer.status, status);
        answer.next();
        assert_eq!(client.get("/healthz", &[]).status, 200, "the connection goes on after {status}");
    }
}

#[test]
fn interval_polling_never_waits() {
    let server = Encke::start(&[]);
    let mut client = server.connect();
    let empty = client.get("/sub/x?as=interval", &[]);
    assert_eq!((empty.status, empty.get("etag")), (304, Some(format!("\"{}\"", empty.next()).as_str())));
    let id = server.publish("x", "news");
    let tag = format!("If-None-Match: \"{}\"", empty.next());
    let answer = client.get("/sub/x?as=interval", &[&tag]);
    assert_eq!((answer.status, answer.text(), answer.next()), (200, "news".into(), id.clone()));
    let tag = format!("If-None-Match: {}", answer.get("etag").unwrap());
    assert_eq!(client.get("/sub/x?as=interval", &[&tag]).status, 304);
    let batch = client.get(&format!("/sub/x?as=interval&after={}", empty.next()), &JSON).json();
    assert_eq!(batch["messages"], json!([{"id": id, "channel": "x", "data": "news"}]));
    assert_eq!(client.get(&format!("/sub/x?as=interval&after={id}"), &JSON).status, 304);
}

#[test]
fn one_poll_listens_to_several_channels() {
    let server = Encke::start(&[]);
    let mut poll = server.park("/sub/a,b%2Cc", &[], "a", 1);
    server.listeners("b%2Cc", 1);
    server.publish("b", "not listened to");
    let id = server.publish("b%2Cc", "1");
    assert_eq!(poll.answer().text(), "1");
    server.publish("a", "2");
    server.publish("b%2Cc", "3");
    server.publish("a", "4");
    let batch = server.get(&format!("/sub/a,b%2Cc?after={id}"), &JSON).json();
    assert_eq!(data(&batch), ["2", "3", "4"], "in the order they were published");
    let channels: Vec<_> =
        batch["messages"].as_array().unwrap().iter().map(|message| &message["channel"]).collect();
    assert_eq!(channels, ["a", "b,c", "a"]);
}

#[test]
fn wildcards_match_segments() {
    let server = Encke::start(&[]);
    for channel in ["stocks", "stocks/AAPL", "stocks/MSFT", "stocks/us/AAPL", "bonds/AAPL", "stocksX/AAPL"] {
        server.publish(channel, channel);
    }
    let check = |pattern: &str, expected: &[&str]| {
        let answer = server.get(&format!("/sub/{pattern}?as=interval&after=oldest"), &JSON);
        let got = if answer.status == 304 { vec![] } else { data(&answer.json()) };
        assert_eq!(got, expected, "{pattern}");
    };
    check("stocks/*", &["stocks/AAPL", "stocks/MSFT"]);
    check("*/AAPL", &["stocks/AAPL", "bonds/AAPL", "stocksX/AAPL"]);
    check("*/*/AAPL", &["stocks/us/AAPL"]);
    check("*", &["stocks"]);
    check("stocks/**", &["stocks/AAPL", "stocks/MSFT", "stocks/us/AAPL"]);
    check("futures/**", &[]);
    check("stocks/*,bonds/*", &["stocks/AAPL", "stocks/MSFT", "bonds/AAPL"]);
    check("stocks/*,stocks/AAPL,*/AAPL", &["stocks/AAPL", "stocks/MSFT", "bonds/AAPL", "stocksX/AAPL"]);
}

#[test]
fn a_parked_wildcard_hears_channels_born_later() {
    let server = Encke::start(&[]);
    // The literal channel shows that the poll is parked, the pattern beside it has no count of its own.
    let mut poll = server.park("/sub/marker,stocks/*", &JSON, "marker", 1);
    server.publish("stocks/us/AAPL", "too deep");
    let id = server.publish("stocks/NEW", "born");
    let batch = poll.answer().json();
    assert_eq!(batch["messages"], json!([{"id": id, "channel": "stocks/NEW", "data": "born"}]));
}

#[test]
fn head_never_parks() {
    let server = Encke::start(&[]);
    let check = |target: &str, status: u16, length: Option<&str>| {
        let mut client = server.connect();
        client.request("HEAD", target, &["Connection: close"], b"");
        let head = client.head();
        assert_eq!((head.status, head.get("content-length")), (status, length), "HEAD {target}");
        client.closed();
    };
    check("/sub/x", 204, None);
    check("/sub/x?as=interval", 304, None);
    server.publish("x", "12345");
    check("/sub/x?after=oldest", 200, Some("5"));
    check("/sub/x?as=interval&after=oldest", 200, Some("5"));
    check("/sub/x?as=sse", 200, None);
    check("/sub/x?as=stream", 200, None);
    check("/sub/x?after=banana", 400, server.get("/sub/x?after=banana", &[]).get("content-length"));
    server.listeners("x", 0);
}

#[test]
fn a_half_closed_poller_still_gets_its_answer() {
    let server = Encke::start(&[]);
    let mut before = server.connect();
    before.request("GET", "/sub/x", &[], b"");
    before.half_close();
    let mut after = server.park("/sub/x", &[], "x", 2);
    after.half_close();
    let mut timed = server.connect();
    timed.request("GET", "/sub/x?timeout=1", &[], b"");
    timed.half_close();
    assert_eq!(timed.answer().status, 204);
    timed.closed();
    server.publish("x", "late");
    for poll in [&mut before, &mut after] {
        assert_eq!(poll.answer().text(), "late");
        poll.closed();
    }
    server.listeners("x", 0);
}

#[test]
fn a_poller_that_was_reset_is_forgotten() {
    let server = Encke::start(&[]);
    let gone = server.park("/sub/x", &[], "x", 1);
    let mut stays = server.park("/sub/x", &[], "x", 2);
    gone.reset();
    server.listeners("x", 1);
    server.publish("x", "news");
    assert_eq!(stays.answer().text(), "news");
}

#[test]
fn a_poll_that_asks_for_a_close_gets_one() {
    let server = Encke::start(&[]);
    let mut poll = server.park("/sub/x", &["Connection: close"], "x", 1);
    server.publish("x", "news");
    let answer = poll.answer();
    assert_eq!((answer.text().as_str(), answer.get("connection")), ("news", Some("close")));
    poll.closed();
}
