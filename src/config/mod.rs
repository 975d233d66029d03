//! Every setting of the server, with its default.
//!
//! Plain values: this module reads no file and no environment (that is `config/load.rs`), so that any
//! part of the server can be built in a test from `Config::default()`.

use std::net::{IpAddr, SocketAddr};

/// All settings. `Config::default()` is a safe server on the loopback address.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Address that serves clients.
    pub listen: SocketAddr,
    /// Second address for publishing, channel information, metrics and statistics, which then vanish
    /// from `listen`; none = everything on `listen`.
    pub admin_listen: Option<SocketAddr>,
    /// Publish the built-in market data to `demo/ticks`.
    pub demo: bool,
    /// Seconds between two heartbeats of a stream.
    pub heartbeat: u64,
    /// Seconds a shutdown waits for what is being written.
    pub drain_seconds: u64,
    /// Seconds an empty channel without subscribers is remembered.
    pub channel_idle_seconds: u64,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Who may publish.
    pub publish: Publish,
    /// Which web pages of other origins may use the server.
    pub cors: Cors,
    /// Long polling.
    pub poll: Poll,
    /// Server-sent events.
    pub sse: Sse,
    /// What is kept for those who were away.
    pub history: History,
    /// What a peer may ask for.
    pub limits: Limits,
    /// What one turn of the reactor may do.
    pub turn: Turn,
}

/// Who may publish; without a token, only peers on a loopback address.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Publish {
    /// Bearer token that allows publishing from anywhere; none = loopback peers only.
    pub token: Option<String>,
}

/// Cross-origin rules (WHATWG Fetch).
#[derive(Debug, Clone, PartialEq)]
pub struct Cors {
    /// Allowed origins; `*` allows all of them, without credentials.
    pub origins: Vec<String>,
}

/// Long polling.
#[derive(Debug, Clone, PartialEq)]
pub struct Poll {
    /// Seconds a poll waits that names no `timeout=`.
    pub timeout_seconds: u64,
    /// Status of a poll that ran out without news: 204, 304 or 408.
    pub no_news_status: u16,
}

/// Server-sent events.
#[derive(Debug, Clone, PartialEq)]
pub struct Sse {
    /// Milliseconds an EventSource waits before it reconnects (`retry:`).
    pub retry_ms: u64,
}

/// Bounds of what is kept for resuming subscribers.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// Messages kept per channel.
    pub messages: usize,
    /// Bytes kept per channel.
    pub bytes: usize,
    /// Bytes kept in all channels together; the globally oldest message goes first.
    pub total_bytes: usize,
    /// Seconds a message is kept.
    pub seconds: u64,
}

/// What a peer may ask for; the answer at each limit is in the README.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Open connections; above, 503.
    pub connections: usize,
    /// Bytes of a request's head; above, 431.
    pub head_bytes: usize,
    /// Seconds until a request's head is complete; after, 408.
    pub head_seconds: u64,
    /// Bytes of a message; above, 413.
    pub message_bytes: usize,
    /// Seconds until a request's body is complete; after, 408.
    pub body_seconds: u64,
    /// Seconds a keep-alive connection may idle between requests; then closed.
    pub idle_seconds: u64,
    /// Seconds a client may leave what it is sent unread; then closed.
    pub stalled_seconds: u64,
    /// Seconds after which a stream ends, at a message boundary; 0 = never.
    pub stream_seconds: u64,
    /// Channels that exist at once; above, 503.
    pub channels: usize,
    /// Channels and patterns one request may name; above, 400.
    pub channels_per_request: usize,
    /// Messages in one JSON batch; larger `max=` values are refused with 400.
    pub batch_messages: usize,
    /// Idempotency keys remembered at once; the oldest is forgotten first.
    pub idempotency_keys: usize,
    /// Forgotten channels whose lost messages are remembered; beyond, gaps are announced on suspicion.
    pub tombstones: usize,
}

/// Budget of one turn of the reactor: what exceeds it continues in the next turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Connections accepted.
    pub accepts: usize,
    /// Sockets read.
    pub reads: usize,
    /// Subscribers written to.
    pub deliveries: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin_listen: None,
            demo: false,
            heartbeat: 15,
            drain_seconds: 10,
            channel_idle_seconds: 60,
            trusted_proxies: Vec::new(),
            publish: Publish::default(),
            cors: Cors { origins: vec!["*".into()] },
            poll: Poll { timeout_seconds: 30, no_news_status: 204 },
            sse: Sse { retry_ms: 2000 },
            history: History { messages: 100, bytes: 1 << 20, total_bytes: 256 << 20, seconds: 3600 },
            limits: Limits {
                connections: 100_000,
                head_bytes: 8 << 10,
                head_seconds: 10,
                message_bytes: 1 << 20,
                body_seconds: 30,
                idle_seconds: 75,
                stalled_seconds: 60,
                stream_seconds: 0,
                channels: 1_000_000,
                channels_per_request: 100,
                batch_messages: 1000,
                idempotency_keys: 65_536,
                tombstones: 65_536,
            },
            turn: Turn { accepts: 64, reads: 256, deliveries: 256 },
        }
    }
}
