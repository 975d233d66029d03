//! What strangers do: one entry for each kind.

use std::time::Duration;

use crate::words::{
    compared, frame, get, handshake, hub, join, listens_to_tables, names, opens_table, patches, post,
    reads_table, replay, storm, subscribes, templates, upgrade, values, who_is_there, who_subscribes,
};

/// A kind of strangers.
pub struct Kind {
    pub name: &'static str,
    /// The third byte of their address.
    pub address: u8,
    pub sockets: usize,
    /// How many of them have the same address.
    pub per_address: usize,
    /// So many of them, the first ones, do nothing after that.
    pub stay: usize,
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
    /// The same, but only when they have been answered.
    LeaveAnswered,
    /// All go at the same moment, again and again, and come back at once.
    LeaveTogether { every: Duration },
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
    Kind {
        name,
        address,
        sockets,
        per_address: PER_ADDRESS,
        stay: 0,
        begins,
        does: Does::Nothing,
        bytes_per_second: 0.0,
        reads: Reads::All,
    }
}

const MB: f64 = 1e6;
/// Connections that one address may have.
const PER_ADDRESS: usize = 1900;

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
    // Selections of topics that come and go, and those who are told of each.
    Kind { does: Does::Leave, stay: 20, ..kind("templates", 29, 200, templates) },
    // Templates that every new topic is compared with, by many addresses.
    Kind { per_address: 20, ..kind("compared", 39, 800, compared) },
    // Who subscribes, asked again and again.
    Kind {
        does: Does::Say(|_| who_subscribes().repeat(10)),
        stay: 100,
        bytes_per_second: 0.1 * MB,
        ..kind("lists", 40, 150, |place| if place < 100 { subscribes(place) } else { Vec::new() })
    },
    // Everything that is kept, again and again.
    Kind {
        does: Does::LeaveAnswered,
        ..kind("replays", 30, 100, |place| match place % 2 {
            0 => hub(&["*"], "&lastEventID=earliest", None),
            _ => hub(&["c/{id}", "big"], "&lastEventID=earliest", None),
        })
    },
    // Members who go together, and a crowd that comes and goes, each time by other names.
    Kind {
        does: Does::LeaveTogether { every: Duration::from_millis(250) },
        stay: 50,
        ..kind("members", 31, 500, |place| join("lobby", place < 50))
    },
    Kind {
        does: Does::LeaveAnswered,
        stay: 1050,
        ..kind("crowd", 32, 1200, |place| join("hall", place < 50))
    },
    Kind {
        does: Does::Say(|_| who_is_there("room").repeat(20)),
        stay: 900,
        bytes_per_second: 0.4 * MB,
        ..kind("who", 33, 950, |place| if place < 900 { join("room", false) } else { Vec::new() })
    },
    // Snapshots of ten thousand values, in batches and by streams.
    Kind {
        does: Does::Say(|_| reads_table().repeat(10)),
        bytes_per_second: 0.2 * MB,
        ..kind("snapshots", 34, 100, |_| Vec::new())
    },
    Kind { does: Does::LeaveAnswered, per_address: 1, ..kind("openings", 35, 100, opens_table) },
    // Patches of large values, one by one and in batches.
    Kind { does: Does::Say(patches), bytes_per_second: 0.2 * MB, ..kind("patches", 36, 20, values) },
    // Readers of patches, each somebody else, who keep step and who do not.
    Kind { per_address: 1, ..kind("deltas", 37, 300, listens_to_tables) },
    Kind {
        per_address: 1,
        reads: Reads::Some { bytes: 20_000, every: Duration::from_millis(100) },
        ..kind("laggards", 38, 300, listens_to_tables)
    },
];
