//! Publishing one message: what it answers, what it keeps, and what the channel tells about itself.

use serde_json::json;

use crate::harness::{Encke, parts, seq, until};

#[test]
fn the_status_says_whether_somebody_listens() {
    let server = Encke::start(&[]);
    let answer = server.ask("POST", "/pub/ticks", &[], b"one");
    assert_eq!((answer.status, answer.media_type()), (202, "application/json"));
    let info = answer.json();
    let id = info["id"].as_str().unwrap().to_owned();
    assert_eq!(info, json!({"id": id, "channel": "ticks", "subscribers": 0, "messages": 1}));
    parts(&id);

    let mut poll = server.park("/sub/ticks", &[], "ticks", 1);
    let answer = server.ask("PUT", "/pub/ticks", &[], b"two");
    assert_eq!(answer.status, 201);
    assert_eq!(answer.json()["subscribers"], 1);
    assert_eq!(answer.json()["messages"], 2);
    assert_eq!(poll.answer().text(), "two");
}

#[test]
fn the_answer_can_be_plain_text() {
    let server = Encke::start(&[]);
    let answer = server.ask("POST", "/pub/ticks", &["Accept: text/plain"], b"one");
    assert_eq!((answer.status, answer.media_type()), (202, "text/plain"));
    let id = server.json("/pub/ticks")["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.text(), format!("id: {id}\nchannel: ticks\nsubscribers: 0\nmessages: 1\n"));
}

#[test]
fn ids_ascend_across_channels_within_one_epoch() {
    let server = Encke::start(&[]);
    let ids: Vec<String> = ["a", "b", "a", "c"].map(|channel| server.publish(channel, "x")).to_vec();
    for pair in ids.windows(2) {
        assert_eq!(parts(&pair[0]).0, parts(&pair[1]).0);
        assert!(seq(&pair[0]) < seq(&pair[1]), "{ids:?}");
    }
}

#[test]
fn several_channels_get_one_message_each_with_consecutive_ids() {
    let server = Encke::start(&[]);
    let mut poll = server.park("/sub/b", &[], "b", 1);
    let answer = server.ask("POST", "/pub/a,b,c/d", &[], b"same");
    assert_eq!(answer.status, 201, "one of them had a listener");
    let infos = answer.json();
    let infos = infos.as_array().unwrap();
    let channels: Vec<_> = infos.iter().map(|info| info["channel"].as_str().unwrap()).collect();
    assert_eq!(channels, ["a", "b", "c/d"]);
    let seqs: Vec<_> = infos.iter().map(|info| seq(info["id"].as_str().unwrap())).collect();
    assert_eq!(seqs, [seqs[0], seqs[0] + 1, seqs[0] + 2]);
    let got = poll.answer();
    assert_eq!((got.text(), got.next()), ("same".into(), infos[1]["id"].as_str().unwrap().into()));
}

#[test]
fn of_several_channels_all_or_none_get_the_message() {
    let server = Encke::start(&[]);
    assert_eq!(server.ask("POST", "/pub/a,b/../c", &[], b"x").status, 400);
    assert_eq!(server.get("/pub/a", &[]).status, 404);
}

#[test]
fn content_type_is_kept_and_has_a_default() {
    let server = Encke::start(&[]);
    for (given, expected) in [
        (None, "text/plain; charset=utf-8"),
        (Some("Content-Type: image/png"), "image/png"),
        (Some("Content-Type: text/html; charset=iso-8859-1"), "text/html; charset=iso-8859-1"),
        (Some("Content-Type: application/json"), "application/json"),
    ] {
        let id = server.admin().publish("typed", given.as_slice(), b"[1]");
        let answer = server.get("/sub/typed?after=-1", &[]);
        assert_eq!((answer.next(), answer.get("content-type")), (id, Some(expected)));
        assert_eq!(answer.body, b"[1]");
    }
}

#[test]
fn any_bytes_are_a_message() {
    let server = Encke::start(&[]);
    let every_byte: Vec<u8> = (0..=255).collect();
    for body in [&every_byte[..], b"", b"\r\n\r\n", b"0\r\n\r\n"] {
        server.publish("bytes", body);
        assert_eq!(server.get("/sub/bytes?after=-1", &[]).body, body);
    }
}

#[test]
fn event_and_key_come_from_headers_or_query() {
    let server = Encke::start(&[]);
    let mut publisher = server.admin();
    publisher.publish("x", &["Encke-Event: tick", "Encke-Key: AAPL"], b"1");
    publisher.publish("x?event=tock&key=B%20C", &[], b"2");
    publisher.publish("x", &[], b"3");
    let batch = server.get("/sub/x?after=oldest", &["Accept: application/json"]).json();
    let messages = batch["messages"].as_array().unwrap();
    assert_eq!((&messages[0]["event"], &messages[0]["key"]), (&json!("tick"), &json!("AAPL")));
    assert_eq!((&messages[1]["event"], &messages[1]["key"]), (&json!("tock"), &json!("B C")));
    let mut fields: Vec<_> = messages[2].as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(fields, ["channel", "data", "id"], "absent fields are left out");
}

#[test]
fn an_empty_event_is_none() {
    let server = Encke::start(&[]);
    server.admin().publish("x", &["Encke-Event:"], b"1");
    server.admin().publish("x?event=", &[], b"2");
    let line = b"{\"channel\":\"x\",\"data\":\"3\",\"event\":\"\"}";
    assert_eq!(server.ask("POST", "/pub", &["Content-Type: application/x-ndjson"], line).status, 202);
    let batch = server.get("/sub/x?after=oldest", &["Accept: application/json"]).json();
    let messages = batch["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 3);
    assert!(messages.iter().all(|message| message.get("event").is_none()), "{messages:?}");
    assert_eq!(server.get("/sub/x?after=oldest", &[]).get("encke-event"), None);
}

#[test]
fn ttl_zero_is_only_for_those_connected_now() {
    let server = Encke::start(&[]);
    let before = server.publish("x", "kept");
    let (_, mut stream) = server.open("/sub/x?as=stream", &[]);
    let mut poll = server.park("/sub/x", &[], "x", 2);
    server.admin().publish("x", &["Encke-TTL: 0"], b"now");
    assert_eq!(stream.envelope()["data"], "now");
    assert_eq!(poll.answer().text(), "now");
    assert_eq!(server.history("x"), ["kept"]);
    let later = server.get(&format!("/sub/x?as=interval&after={before}"), &["Accept: application/json"]);
    assert_eq!((later.status, later.get("encke-gap")), (304, None), "what expired is no gap");
}

#[test]
fn ttl_ends_a_messages_time_in_history() {
    let server = Encke::start(&[]);
    let before = server.publish("x", "kept");
    server.admin().publish("x?ttl=1", &[], b"by query");
    server.admin().publish("x", &["Encke-TTL: 1"], b"by header");
    server.admin().publish("x", &["Encke-TTL: 3000"], b"long");
    until("two messages expire", || (server.json("/pub/x")["messages"] == 2).then_some(()));
    let batch = server.get(&format!("/sub/x?after={before}"), &["Accept: application/json"]).json();
    assert_eq!((&batch["messages"][0]["data"], &batch["gap"]), (&json!("long"), &json!(false)));
    assert_eq!(server.history("x"), ["kept", "long"]);
}

#[test]
fn an_idempotency_key_belongs_to_one_request() {
    let server = Encke::start(&[]);
    let mut publisher = server.admin();
    let first = publisher.publish("x", &["Idempotency-Key: k1"], b"once");
    assert_eq!(publisher.publish("x", &["Idempotency-Key: k1"], b"once"), first);
    assert_ne!(publisher.publish("x", &["Idempotency-Key: k2"], b"twice"), first);
    for (channel, body) in [("y", "once"), ("x", "something else")] {
        let target = format!("/pub/{channel}");
        let answer = server.ask("POST", &target, &["Idempotency-Key: k1"], body.as_bytes());
        assert_eq!(answer.status, 422);
        assert!(answer.text().contains("idempotency key"), "{}", answer.text());
    }
    assert_eq!(server.history("x"), ["once", "twice"]);
    assert_eq!(server.history("y"), [""; 0]);
}

#[test]
fn json_is_validated_once_when_it_is_published() {
    let server = Encke::start(&[]);
    let json = ["Content-Type: application/json"];
    for body in ["{\"a\":", "", "nan", "[1] [2]", "\"\u{1}\""] {
        let answer = server.ask("POST", "/pub/x", &json, body.as_bytes());
        assert_eq!(answer.status, 400, "{body:?} is no JSON");
    }
    assert_eq!(server.ask("POST", "/pub/x", &json, b"{\"a\":\xff}").status, 400, "JSON is UTF-8");
    server.admin().publish("x", &json, b" {\"a\" : 1.50} ");
    assert_eq!(server.json("/sub/x?after=oldest")["messages"][0]["data"], json!({"a": 1.5}));
}

#[test]
fn channel_names() {
    let server = Encke::start(&[]);
    let longest = "c".repeat(255);
    for (name, channel) in [
        ("a%2Cb", "a,b"),
        ("gr%C3%BC%C3%9Fe", "grüße"),
        ("a%20b", "a b"),
        ("stocks/AAPL", "stocks/AAPL"),
        ("a.b", "a.b"),
        ("...", "..."),
        (&longest, &longest),
    ] {
        let answer = server.ask("POST", &format!("/pub/{name}"), &[], b"x");
        assert_eq!((answer.status, &answer.json()["channel"]), (202, &json!(channel)), "{name}");
        assert_eq!(server.json(&format!("/sub/{name}?after=oldest"))["messages"][0]["channel"], channel);
    }
}

#[test]
fn what_cannot_be_published_is_refused() {
    let server = Encke::start(&[]);
    let (event, key, channel) = ("e".repeat(65), "k".repeat(256), "c".repeat(256));
    let many = vec!["c"; 101].join(",");
    let refused = |target: &str, headers: &[&str]| {
        let answer = server.ask("POST", target, headers, b"x");
        assert_eq!(answer.status, 400, "POST {target} {headers:?}");
        assert!(!answer.json()["detail"].as_str().unwrap().is_empty());
    };
    for name in [
        "/a", "a/", "a//b", ".", "..", "a/./b", "a/../b", "%00", "a%0Ab", "a%7Fb", "%FF", "a,,b", ",", "*",
        "a/*", "a/**", "a,*", &channel, &many,
    ] {
        refused(&format!("/pub/{name}"), &[]);
    }
    for query in [
        format!("event={event}"),
        format!("key={key}"),
        "event=a%0Ab".into(),
        "event=a%00".into(),
        "key=%FF".into(),
        "ttl=soon".into(),
        "ttl=-1".into(),
        "ttl=1.5".into(),
        "ttl=99999999999999999999999".into(),
    ] {
        refused(&format!("/pub/x?{query}"), &[]);
    }
    refused("/pub/x", &[&format!("Encke-Event: {event}")]);
    refused("/pub/x", &[&format!("Encke-Key: {key}")]);
    refused("/pub/x", &["Encke-TTL: soon"]);
    assert_eq!(server.get("/pub/x", &[]).status, 404, "nothing was published");

    let (event, key) = (&event[..64], &key[..128]);
    let longest = server.ask("POST", &format!("/pub/x?event={event}&key={key}"), &[], b"x");
    assert_eq!(longest.status, 202, "the longest names are names");
}

#[test]
fn a_channel_tells_about_itself() {
    let server = Encke::start(&[]);
    let answer = server.get("/pub/ticks", &[]);
    assert_eq!((answer.status, answer.media_type()), (404, "application/problem+json"));
    server.publish("ticks", "one");
    let id = server.publish("ticks", "two");
    let expected = json!({"id": id, "channel": "ticks", "subscribers": 0, "messages": 2});
    assert_eq!(server.json("/pub/ticks"), expected);
    let text = server.get("/pub/ticks", &["Accept: text/plain"]).text();
    assert_eq!(text, format!("id: {id}\nchannel: ticks\nsubscribers: 0\nmessages: 2\n"));
}

#[test]
fn channels_are_listed_by_prefix() {
    let server = Encke::start(&[]);
    for channel in ["stocks/AAPL", "stocks/MSFT", "stock", "bonds"] {
        server.publish(channel, "x");
    }
    let list = |query: &str| {
        let list = server.json(&format!("/pub/{query}"));
        let infos = list.as_array().expect("a list of channels").iter();
        let mut names: Vec<_> =
            infos.map(|info| info["channel"].as_str().expect("a name").to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(list("?prefix=stocks/"), ["stocks/AAPL", "stocks/MSFT"]);
    assert_eq!(list("?prefix=stocks%2FA"), ["stocks/AAPL"]);
    assert_eq!(list("?prefix=nothing"), [""; 0]);
    assert_eq!(list(""), ["bonds", "stock", "stocks/AAPL", "stocks/MSFT"]);
}

#[test]
fn delete_forgets_a_channel_and_ends_its_subscribers() {
    let server = Encke::start(&[]);
    assert_eq!(server.ask("DELETE", "/pub/x", &[], b"").status, 404);
    server.publish("x", "old");
    let (_, mut stream) = server.open("/sub/x?as=stream", &[]);
    let (_, mut raw) = server.open("/sub/x?as=raw", &[]);
    let (_, mut sse) = server.open("/sub/x?as=sse", &[]);
    let mut json = server.park("/sub/x", &["Accept: application/json"], "x", 4);
    let mut poll = server.park("/sub/x", &[], "x", 5);

    assert_eq!(server.ask("DELETE", "/pub/x", &[], b"").status, 204);
    assert_eq!(poll.answer().status, 410);
    assert_eq!(json.answer().status, 410);
    assert_eq!(stream.line(), "\n");
    assert_eq!(stream.chunk(), None);
    assert_eq!(raw.chunk(), None);
    assert!(sse.block().is_some_and(|block| block.starts_with("retry:")));
    assert_eq!(sse.block(), None);
    assert_eq!(server.get("/pub/x", &[]).status, 404);

    server.publish("x", "new");
    assert_eq!(server.history("x"), ["new"], "the name can be used again");
    assert_eq!(poll.get("/healthz", &[]).status, 200, "a poll's connection goes on");
}
