//! What strangers say.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::rights::{Rights, bearer};
use crate::server::{CHANNELS, KEYS};

pub fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

pub fn post(target: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

pub fn upgrade(target: &str) -> Vec<u8> {
    let fields = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").into_bytes()
}

/// A text frame, masked with zeros.
pub fn frame(text: &str) -> Vec<u8> {
    let mut bytes = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

pub fn names(count: usize) -> String {
    (0..count).map(|number| number.to_string()).collect::<Vec<_>>().join(",")
}

pub fn handshake() -> Vec<u8> {
    let message = json!([{"channel": "/meta/handshake", "version": "1.0",
        "supportedConnectionTypes": ["long-polling"]}]);
    post("/bayeux", &message.to_string())
}

/// A megabyte of subscriptions to a thousand channels, taken back at once.
pub fn storm(session: &str) -> Vec<u8> {
    let channels: Vec<String> = (0..900).map(|number| format!("/c/{}", number * CHANNELS / 1000)).collect();
    let change = |what: &str| json!({"channel": what, "clientId": session, "subscription": channels});
    let pair = [change("/meta/subscribe"), change("/meta/unsubscribe")];
    let messages: Vec<_> = pair.iter().cycle().take(110).cloned().collect();
    post("/bayeux", &json!(messages).to_string())
}

/// Everything that is kept of large messages, in one answer.
pub fn replay(session: &str) -> Vec<u8> {
    let connect = json!({"channel": "/meta/connect", "clientId": session, "connectionType": "long-polling"});
    let subscribe = json!({"channel": "/meta/subscribe", "clientId": session, "subscription": "/big",
        "ext": {"replay": {"/big": -2}}});
    let asks = [json!([connect]), json!([subscribe]), json!([connect]), json!([connect])];
    asks.iter().flat_map(|messages| post("/bayeux", &messages.to_string())).collect()
}

/// Somebody whom nobody has heard of yet.
fn newcomer() -> usize {
    static KNOWN: AtomicUsize = AtomicUsize::new(0);
    KNOWN.fetch_add(1, Ordering::Relaxed)
}

/// A request with the token of a page.
fn with_token(method: &str, target: &str, token: &str, fields: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{}{fields}", bearer(token));
    match body.is_empty() {
        true => format!("{head}\r\n"),
        false => format!("{head}Content-Length: {length}\r\n\r\n{body}"),
    }
    .into_bytes()
}

/// A subscription to topics of Mercure.
pub fn hub(topics: &[&str], more: &str, token: Option<&str>) -> Vec<u8> {
    let encoded = |topic: &&str| topic.replace('{', "%7B").replace('}', "%7D").replace('/', "%2F");
    let topics: Vec<String> = topics.iter().map(|topic| format!("topic={}", encoded(topic))).collect();
    let target = format!("/.well-known/mercure?{}{more}", topics.join("&"));
    match token {
        Some(token) => with_token("GET", &target, token, "", ""),
        None => get(&target),
    }
}

/// The first are told of all subscriptions. Of the others, every second asks for topics that are there, as many as may be
/// compared with them, and the rest for more templates that nothing is for.
pub fn templates(place: usize) -> Vec<u8> {
    const TOLD: &str = "/.well-known/mercure/subscriptions/{topic}/{subscriber}";
    if place < 20 {
        return hub(&[TOLD], "", Some(&Rights::Told(TOLD).token()));
    }
    let own = newcomer();
    let topics: Vec<String> = match place % 2 {
        0 => (0..20).map(|number| format!("c/{{id}}{}", own * 20 + number)).collect(),
        _ => (0..200).map(|number| format!("n/{own}/{number}/{{id}}")).collect(),
    };
    hub(&topics.iter().map(String::as_str).collect::<Vec<_>>(), "", None)
}

/// A hundred templates, each another one, that take any topic or none.
pub fn compared(_: usize) -> Vec<u8> {
    let own = newcomer();
    let one = |number: usize| match number % 2 {
        0 => format!("{{+x{own}_{number}}}"),
        _ => format!("{{+x}}{}{{y}}", own * 100 + number),
    };
    let topics: Vec<String> = (0..100).map(one).collect();
    hub(&topics.iter().map(String::as_str).collect::<Vec<_>>(), "", None)
}

/// Several hundred topics, by their names.
pub fn subscribes(place: usize) -> Vec<u8> {
    let topics: Vec<String> = (0..400).map(|number| format!("s{place}-{number}")).collect();
    hub(&topics.iter().map(String::as_str).collect::<Vec<_>>(), "", None)
}

/// Asks for a document of everybody's subscriptions.
pub fn who_subscribes() -> Vec<u8> {
    const ALL: &str = "/.well-known/mercure/subscriptions";
    with_token("GET", ALL, &Rights::Told(ALL).token(), "", "")
}

/// Somebody who is seen in a room, or who looks on.
pub fn join(room: &str, looks_on: bool) -> Vec<u8> {
    let token = Rights::Named(newcomer()).token();
    match looks_on {
        true => {
            with_token("GET", &format!("/sub/encke/presence/chat/{room}?as=stream&latest"), &token, "", "")
        }
        false => with_token("GET", &format!("/sub/chat/{room}?as=stream"), &token, "", ""),
    }
}

/// Asks who is in a room.
pub fn who_is_there(room: &str) -> Vec<u8> {
    with_token("GET", &format!("/presence/chat/{room}"), &Rights::Named(0).token(), "", "")
}

/// A batch of a snapshot.
pub fn reads_table() -> Vec<u8> {
    b"GET /sub/table?latest&as=interval&max=1000 HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n".into()
}

/// A stream that begins with a snapshot.
pub fn opens_table(place: usize) -> Vec<u8> {
    get(&format!("/sub/table?latest&as={}", ["stream", "sse-envelope", "iframe"][place % 3]))
}

/// A stream of patches.
pub fn listens_to_tables(place: usize) -> Vec<u8> {
    let technique = ["stream", "sse-envelope", "iframe"][place % 3];
    get(&format!("/sub/table?delta&rate={}&as={technique}", [50, 20, 10][place / 3 % 3]))
}

/// Members of each value that is patched.
const MEMBERS: usize = 40_000;

/// A value of half a megabyte, of a channel of its own.
pub fn values(place: usize) -> Vec<u8> {
    let members: Vec<String> = (0..MEMBERS).map(|number| format!("\"m{number:05}\":1")).collect();
    let value = format!("{{{}}}", members.join(","));
    let target = format!("/pub/own/{place}?key=k");
    with_token("POST", &target, &Rights::Speaks.token(), "Content-Type: application/json\r\n", &value)
}

/// Changes one member of it, or several times one in a batch.
pub fn patches(place: usize) -> Vec<u8> {
    let token = Rights::Speaks.token();
    let member = |number: usize| format!("{{\"m{:05}\":{}}}", newcomer() % MEMBERS, number);
    if place.is_multiple_of(2) {
        let fields = "Content-Type: application/merge-patch+json\r\n";
        return with_token("PATCH", &format!("/pub/own/{place}?key=k"), &token, fields, &member(1)).repeat(4);
    }
    let line =
        |number| format!("{{\"channel\":\"own/{place}\",\"key\":\"k\",\"patch\":{}}}\n", member(number));
    let body: String = (0..7).map(line).collect();
    with_token("POST", "/pub", &token, "Content-Type: application/x-ndjson\r\n", &body)
}

/// A value that the application sets, of ten members.
pub fn quote(key: usize, number: usize) -> String {
    let members: Vec<String> = (0..10).map(|member| format!("\"p{member}\":{}", number * member)).collect();
    format!("{{\"channel\":\"table\",\"key\":\"{}\",\"data\":{{{}}}}}\n", key % KEYS, members.join(","))
}
