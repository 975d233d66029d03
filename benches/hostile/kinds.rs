//! What strangers do: one entry for each kind.

use std::time::Duration;

use serde_json::json;

use crate::server::CHANNELS;

/// A kind of strangers.
pub struct Kind {
    pub name: &'static str,
    /// The third byte of their address.
    pub address: u8,
    pub sockets: usize,
    /// What they say first.
    pub begins: fn(usize) -> Vec<u8>,
    /// What they do then.
    pub does: Does,
    /// Bytes a second that all of them say together; nothing is said at a stretch that is longer.
    pub bytes_per_second: f64,
    pub reads: Reads,
}

pub enum Does {
    /// Wait.
    Nothing,
    /// Go, and come back at once.
    Leave,
    /// Say this again and again.
    Say(fn(usize) -> Vec<u8>),
    /// The same as a session of Bayeux.
    InSession(fn(&str) -> Vec<u8>),
    /// Say it once.
    Once(fn(&str) -> Vec<u8>),
    /// Begin a TLS session, again and again; half of them do not come to its end.
    Handshake,
}

pub enum Reads {
    All,
    Nothing,
    Some { bytes: usize, every: Duration },
}

const fn kind(name: &'static str, address: u8, sockets: usize, begins: fn(usize) -> Vec<u8>) -> Kind {
    Kind { name, address, sockets, begins, does: Does::Nothing, bytes_per_second: 0.0, reads: Reads::All }
}

const MB: f64 = 1e6;

/// All of them.
pub static KINDS: &[Kind] = &[
    // Tiny frames.
    Kind {
        does: Does::Say(|_| frame("[]").repeat(2000)),
        bytes_per_second: 4.0 * MB,
        ..kind("pings", 10, 400, |_| upgrade("/bayeux"))
    },
    Kind {
        does: Does::Say(|_| frame("").repeat(2000)),
        bytes_per_second: 4.0 * MB,
        ..kind("errors", 11, 400, |_| upgrade("/sub/x"))
    },
    // Pipelined requests, cheap and dear.
    Kind {
        does: Does::Say(|_| b"GET /x HTTP/1.1\r\nHost:\r\n\r\n".repeat(500)),
        bytes_per_second: 4.0 * MB,
        ..kind("requests", 12, 400, |_| Vec::new())
    },
    Kind {
        does: Does::Say(|_| get(&format!("/sub/{}?as=interval", names(100))).repeat(20)),
        bytes_per_second: 16.0 * MB,
        ..kind("polls", 13, 400, |_| Vec::new())
    },
    // Storms of subscriptions, by pattern and by name.
    Kind {
        does: Does::Say(|_| {
            [frame(r#"{"unsubscribe":["c/*"]}"#), frame(r#"{"subscribe":["c/*"]}"#)].concat().repeat(20)
        }),
        bytes_per_second: 0.2 * MB,
        ..kind("patterns", 14, 50, |_| upgrade("/sub/own"))
    },
    Kind {
        does: Does::InSession(storm),
        bytes_per_second: 8.0 * MB,
        ..kind("names", 15, 8, |_| handshake())
    },
    // Resuming from elsewhere, on everything, and not reading.
    Kind { reads: Reads::Nothing, ..kind("gaps", 16, 600, |_| get("/sub/c/*?after=zz:1&as=stream")) },
    // Stalled readers, each in another form of another message.
    Kind {
        reads: Reads::Nothing,
        ..kind("pins", 17, 600, |place| {
            let technique = ["sse", "stream", "raw", "iframe&callback=f", "multipart"][place % 5];
            get(&format!("/sub/big?as={technique}&after=-{}", 1 + place % 10))
        })
    },
    Kind { reads: Reads::Nothing, does: Does::Once(replay), ..kind("unread", 18, 300, |_| handshake()) },
    // What arrives in pieces, or too early.
    Kind { ..kind("behind", 19, 1000, |_| [get("/sub/quiet"), get(&"/x".repeat(1000)).repeat(29)].concat()) },
    Kind {
        ..kind("bodies", 20, 400, |_| {
            let head = "POST /bayeux HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n";
            [head.as_bytes(), &[b' '; 900_000]].concat()
        })
    },
    // Readers who take a little.
    Kind {
        reads: Reads::Some { bytes: 1500, every: Duration::from_secs(5) },
        ..kind("trickle", 21, 400, |_| get("/sub/big?after=oldest&max=1000&as=interval"))
    },
    // Thousands of channels, each with something, again and again.
    Kind {
        does: Does::Say(|_| get("/sub/c/*?after=oldest&max=1000&as=interval")),
        bytes_per_second: 0.02 * MB,
        ..kind("backlog", 22, 50, |_| Vec::new())
    },
    // Large heads.
    Kind {
        does: Does::Say(|_| {
            let fields: String = (0..90).map(|n| format!("X-{n}: {}\r\n", "y".repeat(70))).collect();
            format!("GET /x HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").repeat(8).into_bytes()
        }),
        bytes_per_second: 20.0 * MB,
        ..kind("heads", 23, 100, |_| Vec::new())
    },
    // JSON that is deep, or broken at its end.
    Kind {
        does: Does::Say(|place| {
            let body = match place % 2 {
                0 => "[".repeat(200_000),
                _ => format!("[{}", r#"{"channel":"/meta/connect","clientId":"x"},"#.repeat(20_000)),
            };
            post("/bayeux", &body)
        }),
        bytes_per_second: 20.0 * MB,
        ..kind("json", 24, 50, |_| Vec::new())
    },
    // Coded bodies.
    Kind {
        does: Does::Say(|_| {
            let head = "POST /bayeux HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 60000\r\n\r\n";
            [head.as_bytes(), &[0x1f; 60_000]].concat()
        }),
        bytes_per_second: 20.0 * MB,
        ..kind("coded", 25, 50, |_| Vec::new())
    },
    // Who comes and goes.
    Kind { does: Does::Leave, ..kind("churn", 26, 64, |_| get("/sub/c/*,own?as=stream")) },
    Kind {
        does: Does::Say(|_| handshake().repeat(10)),
        bytes_per_second: 2.0 * MB,
        ..kind("sessions", 27, 100, |_| Vec::new())
    },
    // What costs most of all that can be asked for in few bytes.
    Kind { does: Does::Handshake, ..kind("handshakes", 28, 400, |_| Vec::new()) },
];

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

fn post(target: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn upgrade(target: &str) -> Vec<u8> {
    let fields = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").into_bytes()
}

/// A text frame, masked with zeros.
fn frame(text: &str) -> Vec<u8> {
    let mut bytes = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn names(count: usize) -> String {
    (0..count).map(|number| number.to_string()).collect::<Vec<_>>().join(",")
}

fn handshake() -> Vec<u8> {
    let message = json!([{"channel": "/meta/handshake", "version": "1.0",
        "supportedConnectionTypes": ["long-polling"]}]);
    post("/bayeux", &message.to_string())
}

/// A megabyte of subscriptions to a thousand channels, taken back at once.
fn storm(session: &str) -> Vec<u8> {
    let channels: Vec<String> = (0..900).map(|number| format!("/c/{}", number * CHANNELS / 1000)).collect();
    let change = |what: &str| json!({"channel": what, "clientId": session, "subscription": channels});
    let pair = [change("/meta/subscribe"), change("/meta/unsubscribe")];
    let messages: Vec<_> = pair.iter().cycle().take(110).cloned().collect();
    post("/bayeux", &json!(messages).to_string())
}

/// Everything that is kept of large messages, in one answer.
fn replay(session: &str) -> Vec<u8> {
    let connect = json!({"channel": "/meta/connect", "clientId": session, "connectionType": "long-polling"});
    let subscribe = json!({"channel": "/meta/subscribe", "clientId": session, "subscription": "/big",
        "ext": {"replay": {"/big": -2}}});
    let asks = [json!([connect]), json!([subscribe]), json!([connect]), json!([connect])];
    asks.iter().flat_map(|messages| post("/bayeux", &messages.to_string())).collect()
}
