//! What the clients of each technique ask, which is what those of the load generator ask, with a timeout.

pub use crate::load_technique::Technique;

/// All that clients listen by, evenly. Interval polls come once a second, and of more messages than that: they lag until
/// the history forgets what they lack, and are told so.
pub const ALL: [Technique; 11] = [
    Technique::Poll,
    Technique::PollJson,
    Technique::Interval,
    Technique::Jsonp,
    Technique::Stream,
    Technique::Sse,
    Technique::Raw,
    Technique::Iframe,
    Technique::Multipart,
    Technique::Websocket,
    Technique::Bayeux,
];

/// Seconds a poll waits.
pub const POLL_SECONDS: u64 = 10;

/// The request for what is newer than the message `after`.
pub fn request(technique: Technique, channel: usize, after: &str) -> String {
    let (choice, fields) = (technique.choice(), technique.fields());
    format!(
        "GET /sub/c{channel}?{choice}&after={after}&timeout={POLL_SECONDS} HTTP/1.1\r\nHost: soak\r\n{fields}\r\n"
    )
}

/// A Bayeux session in the making: shakes hands, subscribes, connects again and again.
#[derive(Default)]
pub struct Session {
    client: String,
    is_subscribed: bool,
}

impl Session {
    /// What has to be asked next.
    pub fn request(&self, channel: usize) -> String {
        let client = &self.client;
        let message = match (client.as_str(), self.is_subscribed) {
            ("", _) => {
                r#""/meta/handshake","version":"1.0","supportedConnectionTypes":["long-polling"]"#.into()
            }
            (_, false) => format!(r#""/meta/subscribe","clientId":"{client}","subscription":"/c{channel}""#),
            _ => format!(r#""/meta/connect","clientId":"{client}","connectionType":"long-polling""#),
        };
        let body = format!("[{{\"channel\":{message}}}]");
        let length = body.len();
        format!(
            "POST /bayeux HTTP/1.1\r\nHost: soak\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    }

    /// Takes an answer; whether it was the one to the subscription, from which on nothing may be missing.
    pub fn answer(&mut self, body: &[u8]) -> Result<bool, String> {
        let body = String::from_utf8_lossy(body);
        if body.contains("\"successful\":false") {
            return Err(body.into_owned());
        }
        if self.client.is_empty() {
            let id = body.split("\"clientId\":\"").nth(1).and_then(|rest| rest.split('"').next());
            self.client = id.ok_or("a handshake without clientId")?.to_owned();
            return Ok(false);
        }
        Ok(!std::mem::replace(&mut self.is_subscribed, true))
    }
}
