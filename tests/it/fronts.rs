//! All techniques through nginx and haproxy: messages pass at once, whatever these do to the answers.

use std::net::TcpStream;

use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::client::IntoClientRequest;

use crate::client::request;
use crate::front::{FRONTS, Front, Kind};
use crate::harness::{Encke, PATIENCE, until};

#[test]
fn streams_pass_message_by_message() {
    let server = Encke::start(&[]);
    for kind in FRONTS {
        let front = Front::start(kind, &server);
        for technique in ["sse", "stream", "raw", "iframe&callback=f", "multipart"] {
            let channel = format!("{kind:?}-{}", &technique[..3]);
            let mut client = front.connect();
            client.request("GET", &format!("/sub/{channel}?as={technique}"), &[], b"");
            assert_eq!(client.head().status, 200, "{kind:?}: {technique}");
            server.listeners(&channel, 1);
            // Each is seen before the next one is published.
            for text in ["first", "second", "third"] {
                server.publish(&channel, text);
                client.read_until(text.as_bytes());
            }
        }
    }
}

#[test]
fn polls_wait_and_go_on_with_the_same_connection() {
    let server = Encke::start(&[]);
    for kind in FRONTS {
        let front = Front::start(kind, &server);
        let mut client = front.connect();
        let mut after = "now".to_owned();
        for (round, technique) in ["poll", "poll", "jsonp&callback=f", "poll"].into_iter().enumerate() {
            let channel = format!("{kind:?}");
            let text = format!("message {round}");
            let accept = ["Accept: application/json"];
            client.request("GET", &format!("/sub/{channel}?as={technique}&after={after}"), &accept, b"");
            server.listeners(&channel, 1);
            server.publish(&channel, &text);
            let answer = client.answer();
            assert!(answer.status == 200 && answer.text().contains(&text), "{kind:?}: {}", answer.text());
            after = answer.next();
        }
        let answer = client.get(&format!("/sub/{kind:?}?as=interval&after={after}"), &[]);
        assert_eq!(answer.status, 304, "{kind:?}");
        let answer = client.get(&format!("/sub/{kind:?}?timeout=1&after={after}"), &[]);
        assert_eq!(answer.status, 204, "{kind:?}");
    }
}

#[test]
fn websockets_pass_both_ways() {
    let server = Encke::start(&[]);
    for kind in FRONTS {
        let front = Front::start(kind, &server);
        let request = format!("ws://{}/sub/a", front.addr()).into_client_request().unwrap();
        let stream = TcpStream::connect(front.addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut socket, _) = tungstenite::client(request, stream).unwrap();
        let mut next = || loop {
            if let Message::Text(text) = socket.read().unwrap() {
                return (serde_json::from_str::<Value>(&text).unwrap(), ());
            }
        };
        assert!(next().0["next"].is_string());
        server.publish("a", "hello");
        assert_eq!(next().0["data"], "hello", "{kind:?}");
        socket.send(Message::text(json!({"subscribe": ["b"], "ref": 1}).to_string())).unwrap();
        let publish = json!({"publish": {"channel": "a", "data": 1}, "ref": 2});
        socket.send(Message::text(publish.to_string())).unwrap();
        let mut read = || serde_json::from_str::<Value>(socket.read().unwrap().to_text().unwrap()).unwrap();
        assert_eq!(read(), json!({"ref": 1, "ok": true}), "{kind:?}");
        // Who comes by a proxy is not on this machine.
        assert!(read()["error"].as_str().unwrap().contains("may not publish"), "{kind:?}");
    }
}

#[test]
fn the_demo_works_behind_the_proxy_of_the_document_by_any_name() {
    let server = Encke::start(&["--demo"]);
    let front = Front::start(Kind::Pasted, &server);
    let named = |method: &str, target: &str, body: &str| {
        let length = body.len();
        let mut client = front.connect();
        client.send(format!(
            "{method} {target} HTTP/1.1\r\nHost: push.example\r\nOrigin: http://push.example\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        client
    };
    for page in ["/", "/demo/chat", "/demo/ticker", "/encke.js"] {
        assert_eq!(named("GET", page, "").answer().status, 200, "{page}");
    }
    let mut ticks = named("GET", "/sub/demo/ticks?as=sse", "");
    assert_eq!(ticks.head().status, 200);
    ticks.read_until(b"S&P 500");
    let mut room = named("GET", "/sub/demo/chat/lobby?as=stream", "");
    assert_eq!(room.head().status, 200);
    server.listeners("demo/chat/lobby", 1);
    let guest = "{\"secret\":\"what a page keeps for long\",\"name\":\"Johann\"}";
    assert_eq!(named("POST", "/demo/guest", guest).answer().status, 200);
    assert_eq!(named("GET", "/presence/demo/chat/lobby", "").answer().status, 200);
    assert_eq!(named("POST", "/pub/demo/chat/lobby", "{\"text\":\"hello\"}").answer().status, 201);
    room.read_until(b"hello");
    for target in ["/pub/demo/ticks", "/pub/news", "/pub", "/metrics", "/stats", "/revoke"] {
        assert_eq!(named("POST", target, "x").answer().status, 403, "{target}");
    }
    // Nor does the server itself take it from there.
    let forwarded = ["X-Forwarded-For: 203.0.113.9"];
    assert_eq!(server.ask("POST", "/pub/demo/ticks", &forwarded, b"x").status, 403);
    assert_eq!(server.ask("POST", "/pub/demo/chat/lobby", &forwarded, b"x").status, 201);
    // Everybody may speak, so many times a second. Who comes on this machine's own address is counted only with all
    // others, and a round that begins in one second may end in the next.
    let mut client = server.connect();
    let again = request("POST", "/pub/demo/chat/lobby", &forwarded, b"again");
    until("somebody is told to wait", || {
        client.send(again.repeat(300));
        (0..300).any(|_| client.answer().status == 429).then_some(())
    });
}
