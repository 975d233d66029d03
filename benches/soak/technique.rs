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
}

/// Seconds a poll waits.
pub const POLL_SECONDS: u64 = 10;

impl Technique {
    pub const ALL: [Self; 10] = [
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
    ];

    /// One answer goes on for ever.
    pub const fn is_endless(self) -> bool {
        !matches!(self, Self::Poll | Self::PollJson | Self::Interval | Self::Jsonp)
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
            Self::WebSocket => "",
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
