//! Mercure, as its clients see it: publishing, selectors, private updates, tokens, history.

use crate::client::{Answer, Client};
use crate::harness::{Encke, until};
use data_encoding::BASE64URL_NOPAD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ring::hmac;
use serde_json::{Value, json};

pub const HUB: &str = "/.well-known/mercure";
pub const PUBLISHER_KEY: &str = "a key of thirty-two bytes or more, for publishers";
pub const SUBSCRIBER_KEY: &str = "another key of thirty-two bytes, for subscribers";
pub const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

/// A hub, with these further options.
pub fn hub(options: &[&str]) -> Encke {
    let keys =
        [("ENCKE_MERCURE_PUBLISHER_KEY", PUBLISHER_KEY), ("ENCKE_MERCURE_SUBSCRIBER_KEY", SUBSCRIBER_KEY)];
    Encke::start_with_environment(&keys, options)
}

/// A hub that anonymous subscribers may use.
fn open_hub(options: &[&str]) -> Encke {
    hub(&[&["--mercure-anonymous"], options].concat())
}

pub fn signed(header: &Value, claims: &Value, key: &str) -> String {
    let [header, claims] = [header, claims].map(|part| BASE64URL_NOPAD.encode(part.to_string().as_bytes()));
    let message = format!("{header}.{claims}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    format!("{message}.{}", BASE64URL_NOPAD.encode(hmac::sign(&key, message.as_bytes()).as_ref()))
}

fn token(claims: &Value, key: &str) -> String {
    signed(&json!({"alg": "HS256", "typ": "JWT"}), claims, key)
}

pub fn publisher(selectors: &[&str]) -> String {
    token(&json!({"mercure": {"publish": selectors}}), PUBLISHER_KEY)
}

pub fn subscriber(selectors: &[&str]) -> String {
    token(&json!({"mercure": {"subscribe": selectors}}), SUBSCRIBER_KEY)
}

pub fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

pub fn form(fields: &[(&str, &str)]) -> String {
    let pairs = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn post(server: &Encke, fields: &[(&str, &str)]) -> Answer {
    let token = bearer(&publisher(&["*"]));
    server.ask("POST", HUB, &[FORM, &token], form(fields).as_bytes())
}

/// Publishes, and gives the id.
pub fn publish(server: &Encke, fields: &[(&str, &str)]) -> String {
    let answer = post(server, fields);
    assert_eq!(answer.status, 200, "{fields:?}: {}", answer.text());
    answer.text()
}

/// The head of the answer to a HEAD, which begins no stream.
pub fn head(server: &Encke, target: &str, headers: &[&str]) -> crate::client::Head {
    let mut client = server.connect();
    client.request("HEAD", target, headers, b"");
    client.head()
}

pub fn target(topics: &[&str], more: &str) -> String {
    let topics: Vec<String> = topics.iter().map(|topic| format!("topic={}", encoded(topic))).collect();
    format!("{HUB}?{}{more}", topics.join("&"))
}

/// An event as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    pub id: String,
    pub event: String,
    pub data: String,
}

pub fn event(client: &mut Client) -> Event {
    let block = client.block().expect("the stream goes on");
    let mut found = Event::default();
    let mut lines: Vec<&str> = Vec::new();
    for line in block.lines() {
        match line.split_once(": ") {
            Some(("id", value)) => found.id = value.into(),
            Some(("event", value)) => found.event = value.into(),
            Some(("data", value)) => lines.push(value),
            _ if line == "data:" => lines.push(""),
            _ => {}
        }
    }
    assert!(!lines.is_empty(), "an empty line behind no data: {block:?}");
    found.data = lines.join("\n");
    found
}

pub fn data(client: &mut Client) -> String {
    let found = event(client);
    assert_eq!(found.event, "", "{found:?}");
    found.data
}

#[test]
fn there_is_no_hub_without_a_key() {
    let server = Encke::start(&[]);
    assert_eq!(server.get(&target(&["a"], ""), &[]).status, 404);
    assert_eq!(server.ask("POST", HUB, &[FORM], b"topic=a").status, 404);
}

#[test]
fn an_update_reaches_who_selects_it() {
    let server = open_hub(&[]);
    let (head, mut exact) = server.open(&target(&["https://example.com/books/1"], ""), &[]);
    assert_eq!(head.get("content-type"), Some("text/event-stream"));
    assert!(head.get("cache-control").unwrap().contains("no-store"));
    assert_eq!(head.get("x-accel-buffering"), Some("no"));
    assert_eq!((head.get("content-length"), head.get("last-event-id")), (None, None));
    let (_, mut template) = server.open(&target(&["https://example.com/books/{id}"], ""), &[]);
    let (_, mut all) = server.open(&target(&["*"], ""), &[]);
    let (_, mut several) = server.open(&target(&["https://example.com/books/1", "x", "/alt/{y}"], ""), &[]);
    let (_, mut other) = server.open(&target(&["https://example.com/books/2", "{x"], ""), &[]);
    let answer = post(
        &server,
        &[
            ("topic", "https://example.com/books/1"),
            ("topic", "/alt/1"),
            ("data", "a\n\rb\r\nc\n"),
            ("type", "update"),
            ("retry", "1234"),
        ],
    );
    assert_eq!((answer.status, answer.get("content-type")), (200, Some("text/plain; charset=utf-8")));
    let id = answer.text();
    assert!(id.starts_with('#') && !id.ends_with('\n'), "{id}");
    let expected = Event { id, event: "update".into(), data: "a\n\nb\nc\n".into() };
    for client in [&mut exact, &mut template, &mut all, &mut several] {
        assert_eq!(event(client), expected);
    }
    publish(&server, &[("topic", "{x"), ("data", "text")]);
    assert_eq!(data(&mut other), "text");
    assert_eq!(data(&mut all), "text");
    publish(&server, &[("topic", "x")]);
    assert_eq!(data(&mut several), "", "an update without data is one, and nothing came twice");
}

#[test]
fn topics_are_channels() {
    let server = open_hub(&[]);
    let (_, mut mercure) = server.open(&target(&["foo"], ""), &[]);
    let (_, mut native) = server.open("/sub/foo?as=sse", &[]);
    native.block();
    let id = server.publish("foo", "by the native API");
    assert_eq!(
        event(&mut mercure),
        Event { id: format!("#{id}"), data: "by the native API".into(), ..Event::default() }
    );
    assert!(native.block().unwrap().contains("by the native API"));
    let id = publish(&server, &[("topic", "foo"), ("data", "by Mercure")]);
    assert!(native.block().unwrap().contains(&format!("id: {}", &id[1..])));
    assert_eq!(data(&mut mercure), "by Mercure");
    // What is private is nobody's who speaks something else.
    publish(&server, &[("topic", "foo"), ("data", "private"), ("private", "on")]);
    publish(&server, &[("topic", "foo"), ("data", "public")]);
    assert_eq!(data(&mut mercure), "public");
    assert!(native.block().unwrap().contains("public"));
    assert_eq!(server.json("/pub/foo")["messages"], 3);
    let channels = server.json("/pub/");
    assert!(!channels.to_string().contains("u0002"), "{channels}");
    let reserved = server.ask("POST", "/pub/a/.well-known/mercure/x", &[], b"x");
    assert_eq!(reserved.status, 403, "{}", reserved.text());
}

#[test]
fn private_updates_are_for_who_is_granted_one_of_the_topics() {
    let server = open_hub(&[]);
    let listen = |selectors: &[&str], grants: &[&str]| {
        let token = bearer(&subscriber(grants));
        server.open(&target(selectors, ""), &[&token]).1
    };
    let mut anonymous = server.open(&target(&["/books/1"], ""), &[]).1;
    let mut granted = listen(&["/books/1"], &["/books/1"]);
    let mut everything = listen(&["*"], &["*"]);
    // Grants never widen a subscription.
    let mut elsewhere = listen(&["/books/2"], &["*"]);
    let mut ungranted = listen(&["/books/1"], &["/books/2"]);
    // By another topic than the one that is subscribed to.
    let mut by_alternate = listen(&["/books/{id}"], &["/users/foo/{?topic}"]);
    publish(&server, &[("topic", "/books/1"), ("data", "1"), ("private", "")]);
    publish(
        &server,
        &[("topic", "/books/1"), ("topic", "/users/foo/?topic=x"), ("data", "2"), ("private", "false")],
    );
    publish(&server, &[("topic", "/books/1"), ("topic", "/books/2"), ("data", "3")]);
    assert_eq!(data(&mut anonymous), "3");
    assert_eq!(data(&mut ungranted), "3");
    assert_eq!(data(&mut elsewhere), "3");
    for expected in ["1", "2", "3"] {
        assert_eq!(data(&mut granted), expected);
        assert_eq!(data(&mut everything), expected);
    }
    assert_eq!([data(&mut by_alternate), data(&mut by_alternate)], ["2", "3"]);
    // The same when it is replayed, under today's token.
    let replayed = |grants: &[&str]| {
        let token = bearer(&subscriber(grants));
        let (head, mut client) = server.open(&target(&["/books/{id}"], "&lastEventID=earliest"), &[&token]);
        assert_eq!(head.get("last-event-id"), Some("earliest"));
        let mut all = Vec::new();
        while all.last().is_none_or(|last| last != "3") {
            all.push(data(&mut client));
        }
        all
    };
    assert_eq!(replayed(&["/books/{id}"]), ["1", "2", "3"]);
    assert_eq!(replayed(&["/users/foo/{?topic}"]), ["2", "3"]);
    assert_eq!(replayed(&[]), ["3"]);
}

#[test]
fn what_was_missed_is_replayed() {
    let server = open_hub(&[]);
    let ids: Vec<String> = (0..6)
        .map(|n| publish(&server, &[("topic", &format!("/{}", n % 2)), ("data", &n.to_string())]))
        .collect();
    let named = publish(&server, &[("topic", "/elsewhere"), ("id", "urn:\"a\" [é]"), ("data", "x")]);
    assert_eq!(named, "urn:\"a\" [é]");
    publish(&server, &[("topic", "/0"), ("data", "6")]);
    let replay =
        |topics: &[&str], headers: &[&str], more: &str, answered: Option<&str>, expected: &[&str]| {
            let (head, mut client) = server.open(&target(topics, more), headers);
            assert_eq!(head.get("last-event-id"), answered, "{more} {headers:?}");
            for expected in expected {
                assert_eq!(data(&mut client), *expected, "{more} {headers:?}");
            }
            client
        };
    let after = |id: &str| format!("&lastEventID={}", encoded(id));
    replay(&["/0"], &[], &after(&ids[1]), Some(&ids[1]), &["2", "4", "6"]);
    replay(&["/{n}"], &[], &after(&ids[1]), Some(&ids[1]), &["2", "3", "4", "5", "x", "6"]);
    replay(&["/0", "/1"], &[], &after(&ids[3]), Some(&ids[3]), &["4", "5", "6"]);
    // The id of an update on a topic that nobody here asked for is as good as any.
    replay(&["/0"], &[], &after(&named), Some(&named), &["6"]);
    replay(&["*"], &[&format!("Last-Event-ID: {named}")], "", Some(&named), &["6"]);
    // The header wins, then the name that the polyfill appends, then the protocol's.
    replay(&["/0"], &[&format!("Last-Event-ID: {}", ids[3])], &after(&ids[0]), Some(&ids[3]), &["4"]);
    let both = format!("{}&lastEventId={}", after(&ids[0]), encoded(&ids[3]));
    replay(&["/0"], &["Last-Event-ID:"], &both, Some(&ids[3]), &["4"]);
    let twig = format!("&Last-Event-ID={0}&lastEventID={0}", encoded(&ids[3]));
    replay(&["/0"], &[], &twig, Some(&ids[3]), &["4"]);
    let epoch = ids[0].split(':').next().unwrap();
    let zero = format!("{epoch}:0");
    replay(&["/0"], &[], &after(&zero), Some(&zero), &["0", "2"]);
    replay(&["/{n}"], &[], &after("earliest"), Some("earliest"), &["0", "1"]);
    // What is not known is told, and then comes all that is held.
    for unknown in ["no such id", "#zz:3", "#", "a\nb", &"x".repeat(256)] {
        for topics in [&["/0"][..], &["/{n}"], &["*"]] {
            let (head, mut client) = server.open(&target(topics, &after(unknown)), &[]);
            assert_eq!(head.get("last-event-id"), Some("earliest"), "{unknown}");
            let gap = event(&mut client);
            assert_eq!(gap.event, "encke.gap");
            let told: Value = serde_json::from_str(&gap.data).unwrap();
            assert!(told["after"].is_string() && told["oldest"].is_string(), "{told}");
            assert_eq!(told.get("topic").is_some(), topics != ["*"], "{told}");
            assert_eq!(data(&mut client), "0");
            // With the notice's id it is told once.
            let (head, mut client) = server.open(&target(topics, &after(&gap.id)), &[]);
            assert_eq!(head.get("last-event-id"), Some(&*gap.id));
            assert_eq!(data(&mut client), "0");
        }
    }
}

#[test]
fn what_limits_took_is_told() {
    let server = open_hub(&["--history-messages", "3", "--history-grace-seconds", "0"]);
    let ids: Vec<String> =
        (0..10).map(|n| publish(&server, &[("topic", "/a"), ("data", &n.to_string())])).collect();
    publish(&server, &[("topic", "/b"), ("data", "b")]);
    let after = |id: &str| format!("&lastEventID={}", encoded(id));
    for topics in [&["/a"][..], &["/{x}"], &["*"], &["/a", "/c"]] {
        let (head, mut client) = server.open(&target(topics, &after(&ids[2])), &[]);
        assert_eq!(head.get("last-event-id"), Some("earliest"), "{topics:?}");
        let gap = event(&mut client);
        assert_eq!((&*gap.event, &*gap.id), ("encke.gap", &*ids[6]), "{topics:?}");
        assert_eq!(data(&mut client), "7");
        let (head, mut client) = server.open(&target(topics, &after(&ids[6])), &[]);
        assert_eq!((head.get("last-event-id"), &*data(&mut client)), (Some(&*ids[6]), "7"), "{topics:?}");
        // Nothing lost, no notice: not for those who begin, nor for who asks for what there is.
        let (_, mut client) = server.open(&target(topics, &after("earliest")), &[]);
        assert_eq!(data(&mut client), "7");
    }
    let (head, mut client) = server.open(&target(&["/b"], &after(&ids[2])), &[]);
    assert_eq!((head.get("last-event-id"), &*data(&mut client)), (Some(&*ids[2]), "b"));
    let (head, mut client) = server.open(&target(&["/b{x}"], &after(&ids[2])), &[]);
    assert_eq!((head.get("last-event-id"), &*data(&mut client)), (Some(&*ids[2]), "b"));
    let quiet = open_hub(&["--mercure-gap-events=false"]);
    publish(&quiet, &[("topic", "/a"), ("data", "1")]);
    let (head, mut client) = quiet.open(&target(&["/a"], &after("unknown")), &[]);
    assert_eq!((head.get("last-event-id"), &*data(&mut client)), (Some("earliest"), "1"));
}

#[test]
fn reused_ids_mean_the_first_that_is_held() {
    let server = open_hub(&[]);
    for n in ["1", "2", "3"] {
        publish(&server, &[("topic", "/a"), ("id", "UPDATE"), ("data", n)]);
    }
    let (_, mut client) = server.open(&target(&["/a"], "&lastEventID=UPDATE"), &[]);
    assert_eq!(event(&mut client), Event { id: "UPDATE".into(), data: "2".into(), ..Event::default() });
}

#[test]
fn publications_are_judged_in_order() {
    let server = open_hub(&["--limits-message-bytes", "4000"]);
    let all = bearer(&publisher(&["*"]));
    let books = bearer(&publisher(&["/books/{id}"]));
    let nothing = bearer(&token(&json!({"mercure": {"publish": []}}), PUBLISHER_KEY));
    let bad = bearer("a.b.c");
    let check = |headers: &[&str], body: &str, status: u16| {
        let answer = server.ask("POST", HUB, headers, body.as_bytes());
        assert_eq!(answer.status, status, "{body:.60} {headers:?}: {}", answer.text());
    };
    check(&[FORM], "topic=a", 401);
    check(&[FORM, &bad], "", 401);
    check(&[&bad], "", 401);
    check(&[&all], "topic=a", 400);
    check(&["Content-Type: application/json", &all], "{}", 400);
    check(&["Content-Type: application/x-www-form-urlencoded; charset=utf-8", &all], "topic=a", 200);
    check(&[FORM, &all], "", 400);
    check(&[FORM, &all], "data=x", 400);
    check(&[FORM, &nothing], "data=x", 400);
    check(&[FORM, &books], "topic=/books/1&topic=/x&retry=x", 400);
    check(&[FORM, &books], "topic=/books/1&topic=/x", 403);
    check(&[FORM, &books], "topic=/books/1&topic=/books/2&private", 200);
    check(&[FORM, &nothing], "topic=a", 403);
    check(&[FORM, &books], "topic=", 403);
    check(&[FORM, &all], "topic=", 400);
    check(&[FORM, &all], "topic=a%0Ab", 400);
    check(&[FORM, &all], "topic=a%7Fb", 400);
    check(&[FORM, &all], &format!("topic={}", "x".repeat(2048)), 200);
    check(&[FORM, &all], &format!("topic={}", "x".repeat(2049)), 400);
    check(&[FORM, &all], "topic=https://e/.well-known/mercure/x", 403);
    check(&[FORM, &all], "topic=a&id=%23x", 400);
    check(&[FORM, &all], "topic=a&id=earliest", 400);
    check(&[FORM, &all], "topic=a&id=a%0Db", 400);
    check(&[FORM, &all], &format!("topic=a&id={}", "x".repeat(256)), 400);
    check(&[FORM, &all], "topic=a&type=a%0Ab", 400);
    check(&[FORM, &all], "topic=a&retry=5s", 400);
    check(&[FORM, &all], "topic=%ff", 400);
    check(&[FORM, &all], &format!("topic=a&data={}", "x".repeat(4000)), 413);
    let in_url = server.ask("POST", &format!("{HUB}?topic=a"), &[FORM, &all], b"data=x");
    assert_eq!(in_url.status, 400, "only the body counts");
    for method in ["PUT", "DELETE", "PATCH"] {
        let answer = server.ask(method, HUB, &[&all], b"");
        assert_eq!((answer.status, answer.get("allow").is_some()), (405, true), "{method}");
    }
    // Of a form in pieces, too.
    let body = form(&[("topic", "é"), ("data", "+ &=%"), ("id", "x")]);
    let request = format!(
        "POST {HUB} HTTP/1.1\r\nHost: x\r\n{FORM}\r\n{all}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut client = server.connect();
    for split in 0..request.len() {
        client.send(&request[..split]);
        client.send(&request[split..]);
        assert_eq!(client.answer().status, 200, "split at {split}");
    }
}

#[test]
fn tokens() {
    let server = open_hub(&[]);
    let good = subscriber(&["*"]);
    let far = 4_000_000_000_u64;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let soon = now.as_secs_f64() + 0.5;
    let claims = |more: Value| {
        let mut claims = json!({"mercure": {"subscribe": ["*"]}});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    };
    let check = |headers: &[&str], query: &str, status: u16| {
        let answer = head(&server, &target(&["a"], query), headers);
        assert_eq!(answer.status, status, "{query} {headers:?}");
    };
    check(&[], "", 200);
    check(&[&bearer(&good)], "", 200);
    check(&[&format!("Authorization: bearer {good}")], "", 200);
    check(&[], &format!("&authorization={good}"), 200);
    check(&[&format!("Cookie: a=b; mercureAuthorization={good}; c=d")], "", 200);
    // The first place decides, and what is bad is never nobody's.
    check(
        &[&bearer("x"), &format!("Cookie: mercureAuthorization={good}")],
        &format!("&authorization={good}"),
        401,
    );
    check(&[&format!("Cookie: mercureAuthorization={good}")], "&authorization=x", 401);
    check(&["Cookie: mercureAuthorization=x"], "", 401);
    for malformed in ["Basic abc", "Bearer", "Bearer ", &good] {
        check(&[&format!("Authorization: {malformed}")], "", 401);
    }
    check(&[&bearer(&good), &bearer(&good)], "", 401);
    // A token of the other role is none.
    check(&[&bearer(&publisher(&["*"]))], "", 401);
    for (more, status) in [
        (json!({"exp": far}), 200),
        (json!({"exp": far as f64 + 0.5}), 200),
        (json!({"exp": 1}), 401),
        (json!({"exp": "4000000000"}), 401),
        (json!({"exp": null}), 401),
        (json!({"nbf": far}), 401),
        // As who issues it says that it begins now, and has a clock that may be a moment ahead.
        (json!({"nbf": soon}), 200),
        (json!({"nbf": soon + 60.0}), 401),
        (json!({"nbf": 1.5}), 200),
        (json!({"nbf": []}), 401),
        (json!({"mercure": {"subscribe": "*"}}), 401),
        (json!({"mercure": {"subscribe": ["*", 1]}}), 401),
        (json!({"mercure": []}), 401),
        (json!({"mercure": {"subscribe": null}}), 200),
        (json!({"mercure": {"subscribe": vec!["x"; 1001]}}), 401),
        (json!({"https://mercure.rocks/": 1}), 401),
    ] {
        check(&[&bearer(&token(&claims(more.clone()), SUBSCRIBER_KEY))], "", status);
    }
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "None"}),
        json!({"alg": "HS512"}),
        json!({"alg": "RS256"}),
        json!({"alg": "HS256", "crit": ["exp"]}),
        json!({"typ": "JWT"}),
    ] {
        check(&[&bearer(&signed(&header, &claims(json!({})), SUBSCRIBER_KEY))], "", 401);
    }
    let unsigned = good.rsplit_once('.').unwrap().0;
    check(&[&bearer(&format!("{unsigned}."))], "", 401);
    check(&[&bearer(&format!("{good}="))], "", 401);
    check(&[&bearer(&format!("{good}.x"))], "", 401);
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(2000), "]".repeat(2000));
    let message = format!(
        "{}.{}",
        BASE64URL_NOPAD.encode(b"{\"alg\":\"HS256\"}"),
        BASE64URL_NOPAD.encode(deep.as_bytes())
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, SUBSCRIBER_KEY.as_bytes());
    let signature = BASE64URL_NOPAD.encode(hmac::sign(&key, message.as_bytes()).as_ref());
    check(&[&bearer(&format!("{message}.{signature}"))], "", 401);
    check(&[&bearer(&"x".repeat(60_000))], "", 431);
    let closed = hub(&[]);
    assert_eq!(closed.get(&target(&["a"], ""), &[]).status, 401);
    assert_eq!(head(&closed, &target(&["a"], ""), &[&bearer(&good)]).status, 200);
}

#[test]
fn weak_keys_and_public_ones_as_secrets_keep_it_from_starting() {
    let pem = std::fs::read_to_string("tests/keys/rsa.pub.pem").unwrap();
    for key in ["short", &pem] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_encke"))
            .env("ENCKE_MERCURE_PUBLISHER_KEY", key)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("mercure.publisher_key") && !output.status.success(), "{text}");
    }
    let variables = [("ENCKE_MERCURE_PUBLISHER_KEY", &*pem)];
    let server = Encke::start_with_environment(&variables, &["--mercure-publisher-alg", "RS256"]);
    assert_eq!(server.get(HUB, &[]).status, 401);
}

#[test]
fn subscriptions_are_judged() {
    let server = open_hub(&[]);
    let check = |target: &str, status: u16| {
        let answer = head(&server, target, &[]);
        assert_eq!(answer.status, status, "{target:.80}");
    };
    check(HUB, 400);
    check(&format!("{HUB}?topic="), 400);
    check(&format!("{HUB}?topic=a%0Ab"), 400);
    check(&format!("{HUB}?topic=%ff"), 400);
    check(&format!("{HUB}?{}", "topic=a&".repeat(1000)), 200);
    check(&format!("{HUB}?{}", "topic=a&".repeat(1001)), 400);
    check(&format!("{HUB}?topic={}", "x".repeat(4097)), 400);
    check(&format!("{HUB}/x?topic=a"), 404);
    check(&format!("{HUB}/?topic=a"), 404);
    check(&format!("{HUB}x?topic=a"), 404);
    // A HEAD leaves the connection free.
    let mut client = server.connect();
    for _ in 0..3 {
        client.request("HEAD", &target(&["a"], ""), &[], b"");
        assert_eq!(client.head().status, 200);
    }
}

#[test]
fn a_cookie_publishes_for_pages_that_may() {
    let server = open_hub(&["--mercure-publish-origins", "https://app.example"]);
    let cookie = format!("Cookie: mercureAuthorization={}", publisher(&["*"]));
    let check = |headers: &[&str], status: u16| {
        let headers: Vec<&str> = [FORM, &cookie].iter().chain(headers).copied().collect();
        assert_eq!(server.ask("POST", HUB, &headers, b"topic=a").status, status, "{headers:?}");
    };
    check(&[], 401);
    check(&["Origin: null"], 401);
    check(&["Origin: https://evil.example"], 401);
    check(&["Origin: https://app.example.evil"], 401);
    check(&["Origin: https://app.example"], 200);
    check(&["Referer: https://app.example/page?x"], 200);
    check(&["Referer: https://app.example.evil/"], 401);
    check(&["Origin: null", "Referer: https://app.example/"], 401);
    check(&[&format!("Origin: http://{}", "localhost")], 200);
    check(&["Origin: https://evil.example", &bearer(&publisher(&["*"]))], 200);
}

#[test]
fn a_stream_ends_with_its_token() {
    let server = open_hub(&[]);
    publish(&server, &[("topic", "a"), ("data", "x"), ("private", "on")]);
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    // On a slow machine it may have ended before it is shown.
    let (ends, short, mut client) = until("a token is good", || {
        let ends = now() + 2.7;
        let claims = json!({"exp": ends, "mercure": {"subscribe": ["*"]}});
        let short = bearer(&token(&claims, SUBSCRIBER_KEY));
        let mut client = server.connect();
        client.request("GET", &target(&["a"], "&lastEventID=earliest"), &[&short], b"");
        (client.head().status == 200).then_some((ends, short, client))
    });
    assert_eq!(data(&mut client), "x");
    let farewell = event(&mut client);
    assert_eq!((&*farewell.event, &*farewell.data), ("encke.expired", "{\"expired\":true}"));
    assert_eq!(client.block(), None, "in good order");
    client.closed();
    let ended = now();
    assert!(ended >= ends - 0.002, "not earlier: {}", ended - ends);
    assert_eq!(server.get(&target(&["a"], ""), &[&short]).status, 401);
}

#[test]
fn pages_of_other_origins() {
    let server = hub(&["--cors-origins", "https://app.example"]);
    let origin = "Origin: https://app.example";
    let preflight = server.ask("OPTIONS", HUB, &[origin, "Access-Control-Request-Method: POST"], b"");
    assert_eq!(preflight.status, 204);
    for method in ["GET", "HEAD", "POST"] {
        assert!(preflight.lists("access-control-allow-methods", method));
    }
    for name in ["authorization", "cache-control", "last-event-id", "content-type"] {
        assert!(preflight.lists("access-control-allow-headers", name), "{name}");
    }
    // On refusals, too.
    let refused = server.get(&target(&["a"], ""), &[origin]);
    assert_eq!(refused.status, 401);
    assert_eq!(refused.get("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(refused.get("access-control-allow-credentials"), Some("true"));
    let exposed = ["Last-Event-ID", "Mercure-Last-Event-ID", "Link", "ETag"];
    let (head, _) = server.open(&target(&["a"], ""), &[origin, &bearer(&subscriber(&[]))]);
    assert!(exposed.iter().all(|name| head.lists("access-control-expose-headers", name)), "{head:?}");
    let foreign = server.get(&target(&["a"], ""), &["Origin: https://evil.example"]);
    assert_eq!(foreign.get("access-control-allow-origin"), None);
}

#[test]
fn who_subscribes_is_told() {
    let server = hub(&["--mercure-subscriptions"]);
    let watch = format!("{HUB}/subscriptions{{/topic}}{{/subscriber}}");
    let watcher = bearer(&subscriber(&["*"]));
    let (_, mut events) = server.open(&target(&[&watch], ""), &[&watcher]);
    let own: Value = serde_json::from_str(&data(&mut events)).unwrap();
    assert_eq!((&own["topic"], &own["active"]), (&json!(watch), &json!(true)));
    let claims = json!({"mercure": {"subscribe": ["/a b"], "payload": {"name": "é", "n": [1.50]}}});
    let listener = bearer(&token(&claims, SUBSCRIBER_KEY));
    let (_, client) = server.open(&target(&["/a b", "{x}"], ""), &[&listener]);
    let first: Value = serde_json::from_str(&data(&mut events)).unwrap();
    let second: Value = serde_json::from_str(&data(&mut events)).unwrap();
    let name = first["subscriber"].as_str().unwrap().to_owned();
    assert!(name.starts_with("urn:uuid:") && name.len() == 45, "{name}");
    let id = format!("{HUB}/subscriptions/%2Fa%20b/{}", name.replace(':', "%3A"));
    let expected = json!({
        "@context": "https://mercure.rocks/", "id": id, "type": "Subscription", "topic": "/a b",
        "subscriber": name, "active": true, "payload": {"name": "é", "n": [1.50]},
    });
    assert_eq!(first, expected);
    assert_eq!((&second["topic"], &second["subscriber"]), (&json!("{x}"), &json!(name)));

    let all = server.get(&format!("{HUB}/subscriptions"), &[&watcher]);
    assert_eq!((all.status, all.media_type()), (200, "application/ld+json"));
    let tag = all.get("etag").unwrap().to_owned();
    let document = all.json();
    assert_eq!(document["id"], format!("{HUB}/subscriptions"));
    assert_eq!(document["type"], "Subscriptions");
    assert_eq!(format!("\"{}\"", document["lastEventID"].as_str().unwrap()), tag);
    assert_eq!(document["subscriptions"].as_array().unwrap().len(), 3);
    for same in [&tag, tag.trim_matches('"')] {
        let again =
            server.get(&format!("{HUB}/subscriptions"), &[&watcher, &format!("If-None-Match: {same}")]);
        assert_eq!((again.status, again.get("etag")), (304, Some(&*tag)));
    }
    let of_topic = server.get(&format!("{HUB}/subscriptions/%2Fa%20b"), &[&watcher]).json();
    assert_eq!(of_topic["subscriptions"].as_array().unwrap().len(), 1);
    assert_eq!(server.get(&id, &[&watcher]).json()["subscriber"], name);
    let none = server.get(&format!("{HUB}/subscriptions/none"), &[&watcher]).json();
    assert_eq!(none["subscriptions"], json!([]));
    assert_eq!(server.get(&format!("{HUB}/subscriptions/none/{name}"), &[&watcher]).status, 404);
    assert_eq!(server.get(&format!("{HUB}/subscriptions/%ff"), &[&watcher]).status, 400);
    assert_eq!(server.get(&format!("{HUB}/subscriptions/%z"), &[&watcher]).status, 400);
    assert_eq!(server.get(&format!("{HUB}/subscriptions"), &[]).status, 401);
    assert_eq!(server.get(&format!("{HUB}/subscriptions"), &[&listener]).status, 403);

    // With the list's cursor, nothing is missed in between.
    drop(client);
    let mut ended: Vec<Value> = (0..2).map(|_| serde_json::from_str(&data(&mut events)).unwrap()).collect();
    ended.sort_by_key(|event| event["topic"].to_string());
    assert!(ended.iter().all(|event| event["active"] == false && event["subscriber"] == *name));
    assert_eq!(server.get(&id, &[&watcher]).status, 404);
    let cursor = format!("&lastEventID={}", encoded(tag.trim_matches('"')));
    let (_, mut later) = server.open(&target(&[&watch], &cursor), &[&watcher]);
    let told: Value = serde_json::from_str(&data(&mut later)).unwrap();
    assert_eq!(told["active"], false);
    // Who is not granted them gets none.
    let (_, mut other) = server.open(&target(&["*"], ""), &[&bearer(&subscriber(&["/x"]))]);
    publish(&server, &[("topic", "/y"), ("data", "public")]);
    assert_eq!(data(&mut other), "public");
    let off = hub(&[]);
    assert_eq!(off.get(&format!("{HUB}/subscriptions"), &[&watcher]).status, 404);
}

#[test]
fn rules_of_channels_hold() {
    let folder = std::env::temp_dir().join(format!("encke-mercure-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("encke.toml");
    std::fs::write(folder.join("app.key"), "a secret of thirty-two bytes, at least so many").unwrap();
    std::fs::write(
        &file,
        "[[tokens.keys]]\nid = \"app\"\nalgorithm = \"HS256\"\nfile = \"app.key\"\n\
         [[channels]]\nmatch = \"ops/**\"\nsubscribe = \"publishers\"\npublish = \"publishers\"\n\
         [[channels]]\nmatch = \"team/*\"\nsubscribe = \"token\"\npublish = \"token\"\n\
         [[channels]]\nmatch = \"**\"\n",
    )
    .unwrap();
    let server = open_hub(&["--config", file.to_str().unwrap()]);
    std::fs::remove_dir_all(&folder).unwrap();
    let status = |topic: &str, headers: &[&str]| head(&server, &target(&[topic], ""), headers).status;
    let granted = bearer(&subscriber(&["*"]));
    assert_eq!([status("ops/a", &[]), status("ops/a", &[&granted])], [403, 403]);
    assert_eq!([status("team/a", &[]), status("team/a", &[&granted])], [401, 200]);
    assert_eq!(post(&server, &[("topic", "ops/a")]).status, 403);
    let (_, mut all) = server.open(&target(&["*", "{+x}"], ""), &[]);
    let (_, mut team) = server.open(&target(&["team/a"], ""), &[&granted]);
    publish(&server, &[("topic", "team/a"), ("data", "1")]);
    publish(&server, &[("topic", "free"), ("data", "2")]);
    assert_eq!(data(&mut all), "2", "what rules close is shown to who may name it");
    assert_eq!(data(&mut team), "1");
}

#[test]
fn history_on_disk_holds_for_updates() {
    let folder = std::env::temp_dir().join(format!("encke-mercure-store-{}", std::process::id()));
    let options = ["--store-dir", folder.to_str().unwrap()];
    let mut server = open_hub(&options);
    let first = publish(&server, &[("topic", "/a"), ("topic", "/b"), ("id", "mine"), ("data", "1")]);
    let second = publish(&server, &[("topic", "/a"), ("private", "on"), ("data", "2"), ("type", "t")]);
    server.signal(rustix::process::Signal::KILL);
    server.exit();
    let server = open_hub(&options);
    let token = bearer(&subscriber(&["*"]));
    let earliest = "&lastEventID=earliest";
    let (_, mut client) = server.open(&target(&["/{x}"], earliest), &[&token]);
    assert_eq!(event(&mut client), Event { id: first, data: "1".into(), ..Event::default() });
    assert_eq!(event(&mut client), Event { id: second.clone(), event: "t".into(), data: "2".into() });
    let (head, mut client) = server.open(&target(&["/b", "/a"], "&lastEventID=mine"), &[&token]);
    assert_eq!((head.get("last-event-id"), &*event(&mut client).id), (Some("mine"), &*second));
    let (_, mut client) = server.open(&target(&["/b"], earliest), &[]);
    assert_eq!(data(&mut client), "1");
    publish(&server, &[("topic", "/b"), ("data", "3")]);
    assert_eq!(data(&mut client), "3");
    drop(server);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn ends_are_cut_but_for_those_that_are_meant() {
    let server = open_hub(&["--limits-stream-seconds", "1"]);
    let (_, mut client) = server.open(&target(&["a"], "&encke=start"), &[]);
    let start = event(&mut client);
    assert_eq!((&*start.event, &*start.data), ("encke.start", "{}"));
    assert!(start.id.starts_with('#'));
    let rest = client.rest();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{:?}", String::from_utf8_lossy(&rest));
    let server = open_hub(&["--drain-seconds", "1"]);
    let (_, mut client) = server.open(&target(&["a"], ""), &[]);
    server.signal(rustix::process::Signal::TERM);
    let rest = client.rest();
    let text = String::from_utf8_lossy(&rest);
    assert!(text.contains("retry: ") && !text.ends_with("0\r\n\r\n"), "{text:?}");
    let server = open_hub(&[]);
    server.publish("a", "x");
    let (_, mut client) = server.open(&target(&["a"], ""), &[]);
    assert_eq!(server.ask("DELETE", "/pub/a", &[], b"").status, 204);
    assert_eq!(client.block(), None, "a deleted channel ends in good order");
}

#[test]
fn tokens_are_not_logged() {
    let server = open_hub(&["--log-access"]);
    let good = subscriber(&["*"]);
    head(&server, &target(&["a"], &format!("&authorization={good}")), &[]);
    server.logged("authorization=[redacted]");
    assert!(!server.log().contains(&good));
}
