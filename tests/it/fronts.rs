//! All techniques through nginx and haproxy: messages pass at once, whatever these do to the answers.

use std::net::TcpStream;

use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::client::IntoClientRequest;

use crate::front::{FRONTS, Front};
use crate::harness::{Encke, PATIENCE};

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
