//! Bayeux messages: whatever the JSON, the server answers with JSON or refuses with a sentence, and nothing stays.

use crate::script::{MARK, Stage, small};

/// Checks one body, after a handshake of a client whose session it may name.
pub fn check(data: &[u8]) {
    let mut script = Vec::new();
    for body in [HANDSHAKE, data, data] {
        let body: Vec<u8> = body.iter().copied().filter(|&byte| byte != MARK).collect();
        let head = format!(
            "POST /bayeux HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        script.extend_from_slice(head.as_bytes());
        script.extend_from_slice(&body);
        script.extend_from_slice(&[MARK, b'.']);
    }
    let mut stage = Stage::new(small());
    stage.play(&script);
    let received = String::from_utf8_lossy(&stage.received[0]).into_owned();
    for (at, _) in received.match_indices("Content-Type: application/json\r\n") {
        let body = received[at..].split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let mut values = serde_json::Deserializer::from_str(body).into_iter::<serde_json::Value>();
        assert!(matches!(values.next(), Some(Ok(_))), "not JSON: {body}");
    }
}

const HANDSHAKE: &[u8] =
    br#"[{"channel":"/meta/handshake","version":"1.0","supportedConnectionTypes":["long-polling"]}]"#;
