//! Counters: plain numbers that the server counts up and `/metrics` and `/stats` read out.

pub mod histogram;

macro_rules! counters {
    ($($name:ident: $help:literal,)*) => {
        /// What has happened since the start. Counters only grow.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Stats {
            $(#[doc = $help] pub $name: u64,)*
        }

        crate::carry::carry! {
            struct Stats { $($name),* }
        }

        impl Stats {
            /// Every counter with its name and meaning, in a fixed order.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), $help, self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    connections_accepted: "Connections accepted.",
    connections_refused: "Connections refused because `limits.connections` was reached or memory was short.",
    connections_refused_per_address: "Connections refused because `limits.connections_per_address` was reached.",
    tls_handshakes: "TLS handshakes done.",
    tls_resumed: "TLS handshakes that resumed an earlier session.",
    tls_failed: "TLS handshakes that failed or took too long.",
    tls_delayed: "TLS handshakes that waited because of `limits.handshakes_per_second`.",
    requests: "Requests understood.",
    requests_refused: "Requests refused because they broke HTTP or a limit of it, or came too soon.",
    requests_failed: "Requests and commands answered with an error.",
    pipelines_refused: "Connections closed because `limits.pipelined_requests` was exceeded.",
    publications_refused: "Publications refused because `limits.publishes_per_second` was exceeded.",
    subscriptions_refused: "Subscriptions refused because of too many subscribers of a channel or channels of a pattern, or for lack of memory.",
    tokens_verified: "Signatures of tokens that were verified and good.",
    rights_revoked: "Times that a right was taken back.",
    tokens_refused: "Requests and commands refused because of a bad token.",
    questions_asked: "Questions that the application was asked (`[hook]`), and has answered or not.",
    questions_unanswered: "Questions that the application has not answered, not in time, or not so that it was understood.",
    questions_remembered: "Requests and commands judged by an answer of the application that was remembered.",
    questions_refused: "Requests and commands refused because too many wait for the application's word.",
    sessions_refused: "Bayeux handshakes and FDAjax guests refused by a limit.",
    channels_refused: "Channels refused because `limits.channels` was reached.",
    publications_not_stored: "Publications refused because the disk did not take them.",
    messages_published: "Messages accepted from publishers.",
    messages_repeated: "Publications answered from their idempotency key, without a new message.",
    messages_delivered: "Messages handed to subscribers.",
    deliveries: "Writes that carried messages to a subscriber.",
    frames_encoded: "Messages encoded for a wire format.",
    gaps_told: "Gaps announced to subscribers.",
    messages_evicted: "Messages that a history limit, or a shortage of memory, threw away.",
    keys_refused: "Publications with a key refused because of `limits.keys_per_channel`, `limits.keys` or `history.total_bytes`.",
    removals_forgotten: "Removals of keys forgotten early, because of their number.",
    messages_expired: "Messages whose own TTL ran out.",
    polls_parked: "Polls that had to wait.",
    polls_timed_out: "Polls that ended without news.",
    streams_started: "Streams begun.",
    heartbeats: "Heartbeats sent.",
    connections_stalled: "Connections closed because their client stopped reading, or read too slowly.",
    connections_shed: "Connections closed because memory was short, those with most unread first.",
    connections_idle: "Connections closed because they were idle for too long.",
    streams_expired: "Streams ended because `limits.stream_seconds` had passed.",
    heads_timed_out: "Connections closed because a request was not complete in time, or came too slowly.",
    sockets_failed: "WebSockets closed because their client broke the protocol or a limit of it.",
    idempotency_keys_forgotten: "Idempotency keys forgotten early, because of their number or bytes.",
    memory_shortages: "Times that `limits.memory` came near.",
}
