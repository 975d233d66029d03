//! An open WebSocket: who uses it, and what has arrived of an incomplete message. Between messages there is
//! none of that, and the connection costs what any other costs.

use super::Protocol;
use crate::carry::carry;
use crate::hub::SubscriberKey;
use crate::time::Instant;
use crate::transport::Streaming;
use crate::wire::websocket::Reader;

/// Who uses a WebSocket.
#[derive(Debug, Clone, Copy)]
pub enum User {
    /// A subscriber of the native API.
    Subscriber {
        /// Its cursor in the hub.
        subscriber: SubscriberKey,
        /// Whether it gets envelopes or bare messages.
        stream: Streaming,
        /// It may send messages as well.
        may_publish: bool,
        /// Signs of life are messages, which scripts see, rather than pings.
        loud: bool,
    },
    /// A protocol with sessions, which gets its messages.
    Session(Protocol),
}

carry! {
    enum User { 0 => Subscriber { subscriber: SubscriberKey, stream: Streaming, may_publish: bool, loud: bool }, 1 => Session(protocol: Protocol) }
}

/// A message that has arrived in part.
#[derive(Debug)]
pub struct Incoming {
    /// What has arrived.
    pub reader: Reader,
    /// Since when it has been arriving.
    pub since: Instant,
}

carry! {
    struct Incoming { reader, since }
}
