//! Counters: plain numbers that the server counts up and `/metrics` and `/stats` read out.

macro_rules! counters {
    ($($name:ident: $help:literal,)*) => {
        /// What has happened since the start. Counters only grow.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Stats {
            $(#[doc = $help] pub $name: u64,)*
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
    connections_refused: "Connections refused because `limits.connections` was reached.",
    requests: "Requests understood.",
    requests_refused: "Requests refused because they broke HTTP or a limit of it.",
    messages_published: "Messages accepted from publishers.",
    messages_repeated: "Publications answered from their idempotency key, without a new message.",
    messages_delivered: "Messages handed to subscribers.",
    deliveries: "Writes that carried messages to a subscriber.",
    frames_encoded: "Messages encoded for a wire format.",
    gaps_told: "Gaps announced to subscribers.",
    messages_evicted: "Messages that a history limit threw away.",
    messages_expired: "Messages whose own TTL ran out.",
    polls_parked: "Polls that had to wait.",
    polls_timed_out: "Polls that ended without news.",
    streams_started: "Streams begun.",
    heartbeats: "Heartbeats sent.",
    connections_stalled: "Connections closed because their client stopped reading.",
    heads_timed_out: "Connections closed because a request was not complete in time.",
}
