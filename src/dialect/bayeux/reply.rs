//! What the server says: replies, errors, advice.
//!
//! Clients act on advice and never on error codes, so the rules for advice are strict (see [`Advice`]).

use crate::broker::Refusal;
use crate::dialect::Denial;
use crate::wire::response::write_all;

/// The session is unknown: never was, has expired, or is that of another browser.
pub const SESSION_UNKNOWN: &str = "402::session_unknown";
/// The message names no channel.
pub const CHANNEL_MISSING: &str = "400::channel_missing";
/// The channel is none.
pub const CHANNEL_INVALID: &str = "405::channel_invalid";
/// The id is neither a string nor a number, or is too long.
pub const ID_INVALID: &str = "405::message_id_invalid";
/// A publication without `data`.
pub const DATA_MISSING: &str = "402:data:data_missing";
/// `data` that would break the parsers of those it goes to.
pub const DATA_INVALID: &str = "400:data:data_invalid";
/// A subscription to nothing.
pub const SUBSCRIPTION_MISSING: &str = "403::subscription_missing";
/// A subscription to something that is no channel.
pub const SUBSCRIPTION_INVALID: &str = "405::subscription_invalid";
/// More subscriptions than `bayeux.subscriptions`.
pub const TOO_MANY_SUBSCRIPTIONS: &str = "403::too_many_subscriptions";
/// The address has had too many channels looked at in this second.
pub const TOO_MANY_SEARCHES: &str = "429::too_many_searches";
/// The subscriptions of the address take as much memory as they may.
pub const SHARE_EXCEEDED: &str = "429::share_exceeded";
/// `limits.memory` is near.
pub const MEMORY_SHORT: &str = "503::memory_short";
/// `limits.channels` is reached.
pub const TOO_MANY_CHANNELS: &str = "503::too_many_channels";
/// The message's key belongs to another message.
pub const KEY_REUSED: &str = "422::key_reused";
pub const RESERVED: &str = "403::channel_reserved";
/// `limits.publishes_per_second` is reached.
pub const TOO_MANY_MESSAGES: &str = "429::too_many_messages";
/// `bayeux.sessions` is reached.
pub const TOO_MANY_SESSIONS: &str = "503::too_many_sessions";
/// `bayeux.handshakes_per_second` is reached.
pub const TOO_MANY_HANDSHAKES: &str = "429::too_many_handshakes";
/// The disk does not keep up.
pub const CANNOT_STORE: &str = "503::cannot_store";
/// Other servers have not said yet who is there.
pub const PRESENCE_UNKNOWN: &str = "503::presence_unknown";
/// A handshake without a version, or with one that is none.
pub const VERSION_MISSING: &str = "402:version:version_missing";
/// A handshake without a connection type that we have.
pub const TYPES_UNSUPPORTED: &str = "301::connection_types_unsupported";

/// What the broker refuses.
pub const fn refused(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::TooManyMessages => TOO_MANY_MESSAGES,
        Refusal::TooManySearches => TOO_MANY_SEARCHES,
        Refusal::ShareExceeded | Refusal::TooManyTemplates => SHARE_EXCEEDED,
        Refusal::MemoryShort => MEMORY_SHORT,
        Refusal::KeyReused => KEY_REUSED,
        Refusal::Reserved | Refusal::Presence => RESERVED,
        Refusal::LogBehind | Refusal::Outdated => CANNOT_STORE,
        Refusal::PresenceUnknown => PRESENCE_UNKNOWN,
        Refusal::TooManyMatches => TOO_MANY_SUBSCRIPTIONS,
        Refusal::TooManyChannels | Refusal::TooManySubscribers | Refusal::Key { .. } | Refusal::NotLatest => {
            TOO_MANY_CHANNELS
        }
    }
}

/// The token is bad.
pub const TOKEN_INVALID: &str = "401::invalid_token";
/// The token of the session has ended.
pub const TOKEN_EXPIRED: &str = "401::token_expired";
/// The right of the session was taken back.
pub const REVOKED: &str = "403::revoked";
/// The token is of another subject than the session.
pub const ANOTHER_SUBJECT: &str = "403::another_subject";
/// The request shows several tokens.
pub const TOKENS_DIFFER: &str = "400::tokens_differ";
/// `limits.tokens_refused_per_second` is reached.
pub const TOO_MANY_BAD_TOKENS: &str = "429::too_many_bad_tokens";

/// The application has not answered.
pub const UNANSWERED: &str = "503::application_unanswered";
/// The address has its share of those who wait for the application's word.
pub const TOO_MANY_ASKING: &str = "429::too_many_waiting";
/// The application says no, or is not asked for that page.
pub const REFUSED: &str = "403::refused";

/// How it is called here that somebody is denied.
pub const fn of_denial(denial: &Denial) -> &'static str {
    match denial {
        Denial::TooManyBad => TOO_MANY_BAD_TOKENS,
        Denial::Contradiction(_) => TOKENS_DIFFER,
        Denial::BadToken(_) | Denial::NoToken(_) | Denial::Forbidden(_) => TOKEN_INVALID,
        Denial::Unheard(_) | Denial::Unanswered => UNANSWERED,
        Denial::TooManyAsking => TOO_MANY_ASKING,
        Denial::Refused { .. } | Denial::OtherPage => REFUSED,
    }
}

/// That something is refused on `channel`: `401:/a/b:subscribe_denied` if a token would help.
pub fn denied_with(status: u16, channel: &str, what: &str) -> String {
    format!("{status}:{channel}:{what}_denied")
}

/// That something is not allowed on `channel`: `403:/a/b:publish_denied`.
pub fn denied(channel: &str, what: &str) -> String {
    format!("403:{channel}:{what}_denied")
}

/// The messages of one answer: a JSON array.
#[derive(Debug)]
pub struct Replies {
    out: Vec<u8>,
    /// How many of them are events.
    events: usize,
    /// There is no room for further events.
    full: bool,
}

impl Replies {
    /// None yet.
    pub const fn new() -> Self {
        Self { out: Vec::new(), events: 0, full: false }
    }

    /// Where to write the next one.
    pub fn next(&mut self) -> &mut Vec<u8> {
        if self.is_empty() {
            // A connect that is held has none: room for a reply and a short event or two is for those that are not.
            self.out.reserve(512);
        }
        self.out.push(if self.out.is_empty() { b'[' } else { b',' });
        &mut self.out
    }

    /// Adds an event, unless with it there would be more than so many bytes. One event is always told.
    pub fn add_event(&mut self, event: &[u8], max_bytes: usize) -> bool {
        self.full |= self.events > 0 && self.out.len() + event.len() > max_bytes;
        if !self.full {
            self.next().extend_from_slice(event);
            self.events += 1;
        }
        !self.full
    }

    /// How many events it may have beside those it has, if it may have `max`.
    pub const fn room_for(&self, max: usize) -> usize {
        if self.full { 0 } else { max.saturating_sub(self.events) }
    }

    /// Whether there is any event.
    pub const fn has_events(&self) -> bool {
        self.events > 0
    }

    /// Closes the object that was begun.
    pub fn close(&mut self) {
        self.out.push(b'}');
    }

    /// Whether there is none yet.
    pub const fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// The array.
    pub fn finish(mut self) -> Vec<u8> {
        self.out.extend_from_slice(if self.is_empty() { b"[]" } else { b"]" });
        self.out
    }
}

/// Begins a reply; the caller adds fields and closes the object. `channel` and `id` are JSON.
pub fn begin(out: &mut Vec<u8>, channel: Option<&str>, id: Option<&str>, failure: Option<&str>) {
    out.push(b'{');
    if let Some(id) = id {
        write_all(out, &["\"id\":", id, ","]);
    }
    if let Some(channel) = channel {
        write_all(out, &["\"channel\":", channel, ","]);
    }
    write_all(out, &["\"successful\":", if failure.is_none() { "true" } else { "false" }]);
    if let Some(failure) = failure {
        out.extend_from_slice(b",\"error\":");
        string(out, failure);
    }
}

/// Appends a JSON string.
pub fn string(out: &mut Vec<u8>, text: &str) {
    // Writing a string into memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// What a client is told to do next.
///
/// Every advice carries `reconnect`, because clients merge advice into what they were told before, and
/// `handshake` stands only in failed handshakes and connects: clients keep the advice of any message and would
/// act on it when the next connect returns.
#[derive(Debug, Clone, Copy)]
pub enum Advice {
    /// Connect again: `timeout` is how long the connect will be held, `interval` how long to wait before it.
    Retry {
        /// Milliseconds.
        timeout_ms: u64,
        /// Milliseconds.
        interval_ms: u64,
        /// Milliseconds without a connect after which the session is gone.
        max_interval_ms: u64,
    },
    /// Begin a new session, after a while.
    Handshake {
        /// Milliseconds.
        interval_ms: u64,
    },
    /// Give up.
    None,
}

impl Advice {
    /// Appends `,"advice":{…}`.
    pub fn write(self, out: &mut Vec<u8>) {
        let (reconnect, interval_ms) = match self {
            Self::Retry { interval_ms, .. } => ("retry", Some(interval_ms)),
            Self::Handshake { interval_ms } => ("handshake", Some(interval_ms)),
            Self::None => ("none", None),
        };
        write_all(out, &[",\"advice\":{\"reconnect\":\"", reconnect, "\""]);
        let mut member = |name: &str, ms: u64| write_all(out, &[name, itoa::Buffer::new().format(ms)]);
        if let Some(interval_ms) = interval_ms {
            member(",\"interval\":", interval_ms);
        }
        if let Self::Retry { timeout_ms, max_interval_ms, .. } = self {
            member(",\"timeout\":", timeout_ms);
            member(",\"maxInterval\":", max_interval_ms);
        }
        out.push(b'}');
    }
}
