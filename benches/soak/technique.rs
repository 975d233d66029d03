//! What each technique asks, and how its answers go on.

/// How a client listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Technique {
    Poll,
    PollJson,
    /// One message a second of more than that: it lags until the history forgets what it lacks, and is told so.
    Interval,
    Jsonp,
    Stream,
    Sse,
    Raw,
    Iframe,
    Multipart,
    WebSocket,
    Bayeux,
}

/// Seconds a poll waits.
pub const POLL_SECONDS: u64 = 10;

impl Technique {
    pub const ALL: [Self; 11] = [
        Self::Poll,
        Self::PollJson,
        Self::Interval,
        Self::Jsonp,
        Self::Stream,
        Self::Sse,
        Self::Raw,
        Self::Iframe,
        Self::Multipart,
        Self::WebSocket,
        Self::Bayeux,
    ];

    /// One answer goes on for ever.
    pub const fn is_endless(self) -> bool {
        !matches!(self, Self::Poll | Self::PollJson | Self::Interval | Self::Jsonp | Self::Bayeux)
    }

    /// The request for what is newer than the message `after`.
    pub fn request(self, channel: usize, after: &str) -> String {
        let name = match self {
            Self::Poll | Self::PollJson => "poll",
            Self::Interval => "interval",
            Self::Jsonp => "jsonp&callback=f",
            Self::Stream => "stream",
            Self::Sse => "sse",
            Self::Raw => "raw",
            Self::Iframe => "iframe",
            Self::Multipart => "multipart",
            Self::WebSocket | Self::Bayeux => "",
        };
        let fields = match self {
            Self::PollJson => "Accept: application/json\r\n",
            Self::WebSocket => {
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            }
            _ => "",
        };
        let choice = if name.is_empty() { String::new() } else { format!("as={name}&") };
        format!(
            "GET /sub/c{channel}?{choice}after={after}&timeout={POLL_SECONDS} HTTP/1.1\r\nHost: soak\r\n{fields}\r\n"
        )
    }
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
