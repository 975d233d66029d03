//! WebSocket as its users see it, driven by a client library that is none of ours.

use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::Response;
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket};

use crate::client::Client;
use crate::harness::{Encke, PATIENCE, until};
use crate::redis::Redis;
use crate::store::Directory;

/// The fields of a good handshake; the key is that of the RFC.
pub const HANDSHAKE: [&str; 4] = [
    "Upgrade: websocket",
    "Connection: keep-alive, Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

pub type Socket = WebSocket<TcpStream>;

fn open_with(server: &Encke, target: &str, headers: &[(&'static str, &str)]) -> (Response, Socket) {
    let mut request = format!("ws://{}{target}", server.addr()).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(server.addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (socket, response) = tungstenite::client(request, stream).unwrap();
    (response, socket)
}

/// An open socket that has been told where it stands.
pub fn open(server: &Encke, target: &str) -> Socket {
    let (response, mut socket) = open_with(server, target, &[]);
    assert_eq!(json(&mut socket)["next"], response.headers()["encke-next"].to_str().unwrap());
    socket
}

/// The next text message, as JSON.
fn json(socket: &mut Socket) -> Value {
    loop {
        match socket.read().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The answer to a command.
fn ask(socket: &mut Socket, command: &Value) -> Value {
    socket.send(Message::text(command.to_string())).unwrap();
    json(socket)
}

/// How the server closes: nothing else comes before.
fn close_frame(socket: &mut Socket) -> (u16, String) {
    match socket.read().unwrap() {
        Message::Close(Some(CloseFrame { code, reason })) => (code.into(), reason.to_string()),
        other => panic!("{other:?}"),
    }
}

fn error(answer: &Value) -> &str {
    answer["error"].as_str().unwrap_or_else(|| panic!("no error: {answer}"))
}

#[test]
fn a_handshake_by_the_rfc() {
    let server = Encke::start(&[]);
    let mut client = server.connect();
    client.request("GET", "/sub/x", &HANDSHAKE, b"");
    let head = client.head();
    assert_eq!(head.status, 101);
    assert_eq!(head.get("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert!(head.lists("upgrade", "websocket") && head.lists("connection", "upgrade"));
    assert_eq!((head.get("sec-websocket-protocol"), head.get("content-length")), (None, None));
    head.next();
}

#[test]
fn handshakes_that_are_refused() {
    let server = Encke::start(&["--cors-origins", "https://app.example"]);
    let ask = |target: &str, drop: &str, add: &[&str]| {
        let mut headers: Vec<&str> = HANDSHAKE.into_iter().filter(|field| !field.starts_with(drop)).collect();
        headers.extend(add);
        let mut client = server.connect();
        client.request("GET", target, &headers, b"");
        client.head()
    };
    let version = "Sec-WebSocket-Version";
    for add in [&[][..], &["Sec-WebSocket-Version: 8"], &["Sec-WebSocket-Version: 14"]] {
        let head = ask("/sub/x", version, add);
        assert_eq!((head.status, head.get("sec-websocket-version")), (426, Some("13")), "{add:?}");
        assert!(head.lists("upgrade", "websocket"));
    }
    let key = "Sec-WebSocket-Key";
    for add in [&[][..], &["Sec-WebSocket-Key: short"], &["Sec-WebSocket-Key: dGhlIHNhbXBsZQ=="]] {
        assert_eq!(ask("/sub/x", key, add).status, 400, "{add:?}");
    }
    assert_eq!(ask("/sub/x", "none", &[HANDSHAKE[3]]).status, 400, "two keys");
    assert_eq!(ask("/sub/x", "Connection", &[]).status, 400);
    assert_eq!(ask("/sub/a//b", "none", &[]).status, 400);
    assert_eq!(ask("/sub/x?after=banana", "none", &[]).status, 400);
    for (origin, status) in [
        ("Origin: https://evil.example", 403),
        ("Origin: http://app.example", 403),
        ("Origin: null", 403),
        ("Origin: https://app.example", 101),
        ("Origin: http://localhost", 101),
    ] {
        assert_eq!(ask("/sub/x", "none", &[origin]).status, status, "{origin}");
    }
    let mut old = server.connect();
    old.send("GET /sub/x HTTP/1.0\r\n");
    HANDSHAKE.iter().for_each(|field| old.send(format!("{field}\r\n")));
    old.send("\r\n");
    assert_eq!(old.answer().status, 400, "HTTP/1.0 knows no upgrade");
    let mut head_only = server.connect();
    head_only.request("HEAD", "/sub/x", &HANDSHAKE, b"");
    assert_eq!(head_only.head().status, 204, "HEAD never opens anything");
    assert_eq!(server.ask("POST", "/sub/x", &HANDSHAKE, b"").status, 405);
}

#[test]
fn by_default_pages_of_every_origin_may_connect() {
    let server = Encke::start(&[]);
    let (response, _) = open_with(&server, "/sub/x", &[("origin", "https://any.example")]);
    assert_eq!(response.status(), 101);
}

#[test]
fn a_message_is_an_envelope() {
    let server = Encke::start(&[]);
    let mut socket = open(&server, "/sub/x");
    let id = server.admin().publish("x", &["Encke-Event: e", "Encke-Key: k"], "grü\nße".as_bytes());
    let expected = json!({"id": id, "channel": "x", "event": "e", "key": "k", "data": "grü\nße"});
    assert_eq!(json(&mut socket), expected);
    let id = server.admin().publish("x", &["Content-Type: application/json"], b"{\"a\":1}");
    assert_eq!(json(&mut socket), json!({"id": id, "channel": "x", "data": {"a": 1}}));
    let id = server.publish("x", [0x00, 0xff]);
    assert_eq!(json(&mut socket), json!({"id": id, "channel": "x", "data64": "AP8="}));
    for size in [0, 60, 100, 125, 126, 65_400, 65_536, 1 << 20] {
        server.publish("x", "x".repeat(size));
        assert_eq!(json(&mut socket)["data"].as_str().unwrap().len(), size);
    }
}

#[test]
fn the_place_is_resumed_and_a_gap_is_told() {
    let server = Encke::start(&["--history-messages", "2", "--history-grace-seconds", "0"]);
    let mut socket = open(&server, "/sub/x");
    let first = server.publish("x", "1");
    assert_eq!(json(&mut socket)["id"], first.as_str());
    drop(socket);
    server.publish("x", "2");
    let mut socket = open(&server, &format!("/sub/x?after={first}"));
    assert_eq!(json(&mut socket)["data"], "2");
    for text in ["3", "4", "5"] {
        server.publish("x", text);
        json(&mut socket);
    }
    let (response, mut socket) = open_with(&server, "/sub/x", &[("last-event-id", &first)]);
    assert_eq!(response.headers()["encke-gap"], "x");
    json(&mut socket);
    let gap = json(&mut socket);
    assert_eq!((&gap["gap"]["channel"], &gap["gap"]["after"]), (&json!("x"), &json!(first)));
    assert_eq!(json(&mut socket)["data"], "4");
    assert_eq!(json(&mut socket)["data"], "5");
}

#[test]
fn bare_messages_by_sub_protocol() {
    let server = Encke::start(&["--heartbeat", "1"]);
    let offers = [("sec-websocket-protocol", "other, encke.raw")];
    let (response, mut socket) = open_with(&server, "/sub/x?heartbeat=message", &offers);
    assert_eq!(response.headers()["sec-websocket-protocol"], "encke.raw");
    let ping = Message::Ping(Vec::new().into());
    // On a slow machine it is time for a ping at any moment.
    let next = |socket: &mut Socket| loop {
        match socket.read().unwrap() {
            message if message == ping => {}
            message => return message,
        }
    };
    server.publish("x", "text");
    assert_eq!(next(&mut socket), Message::text("text"));
    server.publish("x", [0x00, 0xff]);
    assert_eq!(next(&mut socket), Message::binary(vec![0x00, 0xff]));
    server.publish("x", "");
    assert_eq!(next(&mut socket), Message::text(""));
    assert_eq!(socket.read().unwrap(), ping, "no message but what was published");
}

#[test]
fn publishing_on_the_open_socket() {
    let server = Encke::start(&[]);
    let mut sender = open(&server, "/sub/other");
    let mut reader = open(&server, "/sub/chat/room");
    let full = json!({"publish": {"channel": "chat/room", "data": {"a": [1]}, "event": "e", "key": "k", "ttl": 9},
        "ref": "r1"});
    let answer = ask(&mut sender, &full);
    let envelope = json(&mut reader);
    assert_eq!(answer["ref"], "r1");
    let id = &envelope["id"];
    assert_eq!(answer["ok"], json!({"id": id, "channel": "chat/room", "subscribers": 1, "messages": 1}));
    let expected = json!({"id": id, "channel": "chat/room", "event": "e", "key": "k", "data": {"a": [1]}});
    assert_eq!(envelope, expected);
    sender.send(Message::text("{\"publish\":{\"channel\":\"chat/room\",\n\"data\":{\n\"b\":2}}}")).unwrap();
    assert_eq!(json(&mut reader)["data"], json!({"b": 2}));
    let silent = json!({"publish": {"channel": "chat/room", "data": "without ref"}});
    sender.send(Message::text(silent.to_string())).unwrap();
    assert_eq!(json(&mut reader)["data"], "without ref");
    let answer =
        ask(&mut sender, &json!({"publish": {"channel": "chat/room", "data64": "AP8="}, "ref": {"n": 2}}));
    assert_eq!(answer["ref"], json!({"n": 2}), "only commands with a ref are answered");
    assert_eq!(json(&mut reader)["data64"], "AP8=");
}

#[test]
fn listening_to_more_and_to_less() {
    let server = Encke::start(&[]);
    server.publish("late", "before");
    let mut socket = open(&server, "/sub/one");
    let ok = |socket: &mut Socket, command: Value| {
        let mut command = command;
        command["ref"] = json!(7);
        assert_eq!(ask(socket, &command), json!({"ref": 7, "ok": true}), "{command}");
    };
    ok(&mut socket, json!({"subscribe": ["late", "stocks/*"]}));
    for (channel, text) in [("one", "1"), ("late", "2"), ("stocks/A", "3"), ("stocks/B", "4")] {
        server.publish(channel, text);
        let envelope = json(&mut socket);
        assert_eq!((&envelope["channel"], &envelope["data"]), (&json!(channel), &json!(text)));
    }
    ok(&mut socket, json!({"subscribe": ["stocks/A", "one"]}));
    ok(&mut socket, json!({"unsubscribe": ["stocks/*", "one", "never"]}));
    for channel in ["one", "stocks/B", "stocks/C", "stocks/A"] {
        server.publish(channel, "x");
    }
    assert_eq!(json(&mut socket)["channel"], "stocks/A", "it is still asked for by its name");
    ok(&mut socket, json!({"unsubscribe": ["stocks/A", "late"]}));
    server.publish("late", "unheard");
    ok(&mut socket, json!({"subscribe": []}));
    server.listeners("late", 0);
    server.listeners("one", 0);
    drop(socket);
    server.listeners("stocks/A", 0);
}

#[test]
fn nonsense_is_an_error_and_the_connection_lives() {
    let server =
        Encke::start(&["--limits-channels-per-connection", "3", "--limits-channels-per-request", "2"]);
    let mut socket = open(&server, "/sub/x");
    let mut check = |text: &str, reference: Value, needle: &str| {
        socket.send(Message::text(text)).unwrap();
        let answer = json(&mut socket);
        assert!(error(&answer).contains(needle), "{text}: {answer}");
        assert_eq!(answer["ref"], reference, "{text}: {answer}");
    };
    check("", Value::Null, "EOF");
    check("hello", Value::Null, "expected");
    check("[]", Value::Null, "");
    check("{}", Value::Null, "one of publish");
    check(r#"{"ref":1}"#, json!(1), "one of publish");
    check(r#"{"subscribe":["a"],"unsubscribe":["b"],"ref":"two"}"#, json!("two"), "one of publish");
    check(r#"{"dance":true,"ref":1}"#, json!(1), "dance");
    check(r#"{"subscribe":"a","ref":1}"#, json!(1), "expected a sequence");
    check(r#"{"subscribe":["a//b"],"ref":1}"#, json!(1), "segment");
    check(r#"{"subscribe":["a","b","c"],"ref":1}"#, json!(1), "limits.channels_per_request");
    check(r#"{"publish":{"channel":"a/*","data":1},"ref":1}"#, json!(1), "");
    check(r#"{"publish":{"channel":"x"},"ref":1}"#, json!(1), "data");
    check(r#"{"publish":{"channel":"x","data":1,"data64":""},"ref":1}"#, json!(1), "data");
    check(r#"{"publish":{"channel":"x","data64":"?"},"ref":1}"#, json!(1), "base64");
    check(&format!(r#"{{"subscribe":[],"ref":"{}"}}"#, "r".repeat(200)), Value::Null, "ref");
    // What would break its sender's parser is not echoed.
    check(r#"{"subscribe":[],"ref":"\ud83d"}"#, Value::Null, "surrogate");
    check(r#"{"subscribe":["a//b"],"ref":[{"\ude00":1}]}"#, Value::Null, "surrogate");
    assert_eq!(ask(&mut socket, &json!({"subscribe": ["a", "b"], "ref": 1}))["ok"], true);
    let answer = ask(&mut socket, &json!({"subscribe": ["c"], "ref": 1}));
    assert!(error(&answer).contains("limits.channels_per_connection"), "{answer}");
    server.publish("x", "still here");
    assert_eq!(json(&mut socket)["data"], "still here");
}

#[test]
fn only_who_may_publish_over_http_may_publish_here() {
    let publish = json!({"publish": {"channel": "x", "data": 1}, "ref": 1});
    let may = |server: &Encke, headers: &[(&'static str, &str)]| {
        let (_, mut socket) = open_with(server, "/sub/x", headers);
        json(&mut socket);
        let answer = ask(&mut socket, &publish);
        assert_eq!(answer["ref"], 1);
        answer["ok"]["id"].is_string() || error(&answer).is_empty()
    };
    let server = Encke::start(&[]);
    assert!(may(&server, &[]));
    assert!(!may(&server, &[("x-forwarded-for", "127.0.0.1")]));
    assert!(!may(&server, &[("origin", "https://elsewhere.example")]));
    let file = std::env::temp_dir().join(format!("encke-ws-token-{}", std::process::id()));
    std::fs::write(&file, "s3cret\n").unwrap();
    let server = Encke::start(&["--publish-token-file", file.to_str().unwrap()]);
    assert!(!may(&server, &[]));
    assert!(!may(&server, &[("authorization", "Bearer wrong")]));
    assert!(may(&server, &[("authorization", "Bearer s3cret")]));
    std::fs::remove_file(file).unwrap();
    let server = Encke::start(&["--admin-listen", "127.0.0.1:0"]);
    assert!(!may(&server, &[]), "publishing has moved to the admin address");
}

#[test]
fn heartbeats_are_pings_or_on_demand_messages() {
    let server = Encke::start(&["--heartbeat", "1"]);
    let mut pinged = open(&server, "/sub/x");
    let mut told = open(&server, "/sub/x?heartbeat=message");
    for _ in 0..2 {
        assert_eq!(pinged.read().unwrap(), Message::Ping(Vec::new().into()));
        assert_eq!(told.read().unwrap(), Message::text("{}"));
    }
    assert_eq!(server.get("/sub/x?heartbeat=loud", &[]).status, 400);
    let (_, mut sse) = server.open("/sub/x?as=sse&heartbeat=message", &[]);
    sse.block();
    assert_eq!(sse.block().unwrap(), "event: encke.heartbeat\ndata: {}");
}

#[test]
fn closing_from_either_side() {
    let server = Encke::start(&[]);
    let mut socket = open(&server, "/sub/x");
    let frame = CloseFrame { code: 3333.into(), reason: "bye".into() };
    socket.close(Some(frame)).unwrap();
    assert_eq!(close_frame(&mut socket).0, 3333, "the code comes back");
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)), "the server closes first");
    server.listeners("x", 0);

    let mut socket = open(&server, "/sub/x,y");
    assert_eq!(server.ask("DELETE", "/pub/x", &[], b"").status, 204);
    assert_eq!(close_frame(&mut socket), (1001, "the channel has been deleted".into()));
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
    server.listeners("y", 0);

    let gone = open(&server, "/sub/x");
    server.listeners("x", 1);
    drop(gone);
    server.listeners("x", 0);
}

#[test]
fn a_server_that_leaves_says_so() {
    let mut server = Encke::start(&[]);
    let mut socket = open(&server, "/sub/x");
    server.signal(Signal::TERM);
    assert_eq!(close_frame(&mut socket).0, 1001);
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
    drop(socket);
    assert!(server.exit().success());
}

#[test]
fn a_stream_of_limited_length_ends_in_good_order() {
    let server = Encke::start(&["--limits-stream-seconds", "1"]);
    let mut socket = open(&server, "/sub/x");
    assert_eq!(close_frame(&mut socket).0, 1001);
}

#[test]
fn a_slow_reader_loses_nothing() {
    let server = Encke::start(&["--history-bytes", "64MiB", "--history-messages", "1000"]);
    let mut client = server.connect();
    client.fix_window();
    client.request("GET", "/sub/x", &HANDSHAKE, b"");
    assert_eq!(client.head().status, 101);
    let mut publisher = server.admin();
    let filling = "x".repeat(100_000);
    for number in 0..100 {
        publisher.publish("x", &[], format!("{number} {filling}").as_bytes());
    }
    assert!(text(&mut client).contains("next"));
    for number in 0..100 {
        let envelope: Value = serde_json::from_str(&text(&mut client)).unwrap();
        assert!(envelope["data"].as_str().unwrap().starts_with(&format!("{number} ")), "{number}");
    }
}

#[test]
fn a_client_that_takes_nothing_is_closed() {
    let server = Encke::start(&["--limits-stalled-seconds", "1", "--history-bytes", "64MiB"]);
    let mut client = server.connect();
    client.fix_window();
    client.request("GET", "/sub/x", &HANDSHAKE, b"");
    assert_eq!(client.head().status, 101);
    for _ in 0..16 {
        server.publish("x", "x".repeat(1 << 20));
    }
    server.logged("stalled");
    server.listeners("x", 0);
}

/// The payload of the next text frame of a raw connection.
fn text(client: &mut Client) -> String {
    let head = client.read_exactly(2);
    assert_eq!(head[0], 0x81);
    let wide = match head[1] {
        126 => client.read_exactly(2),
        127 => client.read_exactly(8),
        short => vec![short],
    };
    let length = wide.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
    String::from_utf8(client.read_exactly(length)).unwrap()
}

#[test]
fn the_channels_of_fdajax_users_are_not_for_everybody() {
    let server = Encke::start(&["--fdajax"]);
    let (_, mut socket) = open_with(&server, "/sub/x", &[("X-Forwarded-For", "192.0.2.1")]);
    assert!(json(&mut socket)["next"].is_string());
    for channel in ["fdajax/users/7", "fdajax/**"] {
        let answer = ask(&mut socket, &json!({"subscribe": [channel], "ref": 1}));
        assert!(error(&answer).contains("is not granted"), "{answer}");
    }
    let answer = ask(&mut socket, &json!({"subscribe": ["fdajax/groups/feed"], "ref": 2}));
    assert_eq!(answer, json!({"ref": 2, "ok": true}));
}

#[test]
fn who_publishes_and_leaves_in_one_go_gets_it() {
    let server = Encke::start(&[]);
    let came = publish_and_leave(&server);
    let heard =
        |reference: i32| &came.iter().find(|object| object["ref"] == reference).unwrap()["ok"]["subscribers"];
    assert_eq!((heard(1), heard(3), heard(5)), (&json!(1), &json!(0), &json!(1)), "{came:?}");
}

/// There, what was published has a number only when its publisher has left, and may get it together with what follows.
#[test]
fn who_publishes_and_leaves_in_one_go_gets_it_by_a_disk() {
    let directory = Directory::new("leaves");
    publish_and_leave(&Encke::start(&["--store-dir", &directory.store()]));
}

#[test]
fn who_publishes_and_leaves_in_one_go_gets_it_by_an_engine() {
    let redis = Redis::start(&[]);
    publish_and_leave(&Encke::start(&["--engine-url", &redis.url()]));
}

/// All that comes to a socket that leaves a channel between two messages to it, and joins another before the third.
fn publish_and_leave(server: &Encke) -> Vec<Value> {
    let mut client = server.connect();
    client.request("GET", "/sub/x", &HANDSHAKE, b"");
    assert_eq!(client.head().status, 101);
    assert!(text(&mut client).contains("next"));
    let frame = |text: &str| [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat();
    let commands = [
        r#"{"publish":{"channel":"x","data":1},"ref":1}"#,
        r#"{"unsubscribe":["x"],"ref":2}"#,
        r#"{"publish":{"channel":"x","data":2},"ref":3}"#,
        r#"{"subscribe":["y"],"ref":4}"#,
        r#"{"publish":{"channel":"y","data":3},"ref":5}"#,
    ];
    client.send(commands.map(frame).concat());
    let came: Vec<Value> = (0..7).map(|_| serde_json::from_str(&text(&mut client)).unwrap()).collect();
    let got: Vec<&Value> =
        came.iter().filter(|object| object.get("id").is_some()).map(|object| &object["data"]).collect();
    assert_eq!(got, [&json!(1), &json!(3)], "what it had asked for, and nothing else");
    until("nobody listens", || (server.json("/pub/x")["subscribers"] == 0).then_some(()));
    came
}
