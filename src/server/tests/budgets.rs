//! What a stranger can make the server do: chains through many connections, answers many times the question, work that
//! is not in proportion to what was sent.

use super::delivery::Bench;
use crate::config::Config;
use crate::conn::ConnId;
use serde_json::{Value, json};

const UPGRADE: &str = "GET /bayeux HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A text frame, masked with zeros.
fn frame(text: &str) -> Vec<u8> {
    let mut bytes = vec![0x81];
    match text.len() {
        short @ 0..126 => bytes.push(0x80 | short as u8),
        long => {
            bytes.push(0x80 | 126);
            bytes.extend((long as u16).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(text.as_bytes());
    bytes
}

fn request(messages: &Value) -> String {
    let body = messages.to_string();
    format!("POST /bayeux HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn connect(session: &str, more: &Value) -> Value {
    let mut message =
        json!({"channel": "/meta/connect", "clientId": session, "connectionType": "long-polling"});
    message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    message
}

impl Bench {
    /// The body of the answer to messages of Bayeux.
    fn bayeux(&mut self, id: ConnId, messages: &Value) -> Value {
        self.send(id, &request(messages));
        self.turn();
        let answer = self.read(id);
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("an answer: {answer:?}"));
        serde_json::from_str(body).unwrap()
    }

    /// A session by a connection of its own.
    fn session(&mut self, ext: &Value) -> (ConnId, String) {
        let id = self.connect();
        let handshake = json!([{"channel": "/meta/handshake", "version": "1.0", "ext": ext,
            "supportedConnectionTypes": ["long-polling", "websocket"]}]);
        let session = self.bayeux(id, &handshake)[0]["clientId"].as_str().unwrap().to_owned();
        (id, session)
    }
}

/// Each connection of a long row holds a connect, and has pipelined behind it what releases the next one.
#[test]
fn a_chain_through_many_connections_is_no_recursion() {
    let mut config = Config::default();
    config.bayeux.handshakes_per_second = 1_000_000;
    let mut bench = Bench::new(config);
    let sessions: Vec<_> = (0..3800).map(|_| bench.session(&json!({}))).collect();
    let at_once = json!({"advice": {"timeout": 0}});
    for (at, (id, session)) in sessions.iter().enumerate() {
        bench.bayeux(*id, &json!([connect(session, &json!({}))]));
        bench.send(*id, &request(&json!([connect(session, &json!({}))])));
        bench.send(*id, UPGRADE);
        if let Some((_, next)) = sessions.get(at + 1) {
            bench.send_bytes(*id, &frame(&json!([connect(next, &at_once)]).to_string()));
        }
    }
    bench.turn();
    let (trigger, _) = bench.client("");
    bench.bayeux(trigger, &json!([connect(&sessions[0].1, &at_once)]));
    bench.server.check(bench.world.now);
    for (id, _) in &sessions {
        let bytes = bench.world.read(*id, usize::MAX);
        assert!(
            bytes.starts_with(b"HTTP/1.1 409 "),
            "each was released: {:?}",
            String::from_utf8_lossy(&bytes)
        );
    }
}
