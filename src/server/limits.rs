//! Every limit in one table: what it bounds, what a client gets that reaches it, what counts it.
//!
//! `docs/limits.md` and `encke config --limits` show it. What a setting bounds and its default come from the
//! settings themselves; a test sees to it that none of `limits` and `history` is missing, and that the document is
//! what is printed here.

use super::mercure::UNTOLD_BYTES_MAX;
use super::readers::{SLOW_UNSENT_BYTES, UNSENT_BYTES};
use super::timing::{BODY_GRACE_MS, LINGER_MS};
use super::{BACKLOG_BYTES_MAX, PIPELINE_BYTES_MAX, surplus};
use crate::broker::access::tokens::TOKEN_BYTES_MAX;
use crate::broker::access::tokens::guests::GUEST_NAME_MAX;
use crate::broker::{GUESTS, GUESTS_BY_ONE, REMEMBERED_MS, SAID_IN_DEMO, SAID_IN_DEMO_BY_ONE};
use crate::config::{Config, Setting};
use crate::dialect::hook::BODY_BYTES_MAX;
use crate::dialect::mercure;
use crate::dialect::native::POLL_SECONDS_MAX;
use crate::hub::{
    ASKED_MAX, ASKED_OF_ONE_MAX, CLAIMS_MAX, COMPARED_MAX, COMPARED_OF_ONE_MAX, GAPS_MAX, IDS_REMEMBERED_MAX,
    LOOKED_AT_IN_ALL, LOOKED_AT_PER_SECOND, LOOKED_AT_PER_VISIT, NAME_BYTES_MAX, PATCHED_BYTES_MAX,
    SHOWN_MAX, TEMPLATE_BYTES_IN_ALL, TEMPLATE_BYTES_MAX,
};
use crate::transport::poll::BATCH_BYTES_MAX;
use crate::wire::{chunked, head, websocket};
use std::fmt::Write;

pub use super::surplus::RESERVED;

/// One limit.
#[derive(Debug)]
pub struct Limit {
    /// The setting, or what is bounded where no setting says how much.
    pub name: &'static str,
    /// The bound, if it is no setting.
    pub fixed: Option<usize>,
    /// What happens when it is reached.
    pub answer: &'static str,
    /// The counters in `/stats` that count it; none if nothing is refused or lost.
    pub counters: &'static [&'static str],
}

const fn setting(name: &'static str, answer: &'static str, counters: &'static [&'static str]) -> Limit {
    Limit { name, fixed: None, answer, counters }
}

const fn fixed(
    name: &'static str,
    bound: usize,
    answer: &'static str,
    counters: &'static [&'static str],
) -> Limit {
    Limit { name, fixed: Some(bound), answer, counters }
}

const REFUSED: &[&str] = &["requests_refused"];
const FAILED: &[&str] = &["requests_failed"];
const TIMED_OUT: &[&str] = &["heads_timed_out"];
const SOCKETS: &[&str] = &["sockets_failed"];
const EVICTED: &[&str] = &["messages_evicted", "gaps_told"];

/// All of them.
pub static LIMITS: &[Limit] = &[
    setting(
        "limits.connections",
        "503 with `Retry-After` to the first request, close; `/healthz` is answered",
        &["connections_refused"],
    ),
    fixed(
        "connections beyond it that are heard",
        surplus::SURPLUS_MAX,
        "closed without a word",
        &["connections_refused"],
    ),
    fixed(
        "milliseconds they have to send a request",
        surplus::SURPLUS_MS as usize,
        "503 with `Retry-After`, close",
        &["connections_refused"],
    ),
    fixed(
        "places beside these for the admin listener",
        surplus::OPERATORS_MAX,
        "closed without a word",
        &["connections_refused"],
    ),
    setting(
        "limits.connections_per_address",
        "429 with `Retry-After`, close",
        &["connections_refused_per_address"],
    ),
    fixed(
        "connections beyond it that are heard",
        surplus::SURPLUS_PER_ADDRESS_MAX,
        "closed without a word",
        &["connections_refused_per_address"],
    ),
    setting(
        "limits.memory",
        "who leaves most unread is closed; history goes, first that of channels without subscribers; if that is not \
         enough, 503 with `Retry-After` to new connections, subscriptions, sessions and bodies in pieces",
        &["memory_shortages", "connections_shed", "messages_evicted", "connections_refused"],
    ),
    setting(
        "limits.memory_per_address",
        "429 with `Retry-After`; an error to the command, or to the Bayeux message; who comes to exceed it later is ended",
        &["subscriptions_refused"],
    ),
    setting("limits.handshake_seconds", "closed without a word", &["tls_failed"]),
    setting("limits.handshakes_per_second", "the handshake waits for the next second", &["tls_delayed"]),
    setting("limits.head_bytes", "431, close", REFUSED),
    setting("limits.fdajax_head_bytes", "431, close", REFUSED),
    setting("limits.target_bytes", "414, close", REFUSED),
    fixed("header fields", head::HEADERS_MAX, "431, close", REFUSED),
    setting("limits.head_seconds", "408, close", TIMED_OUT),
    setting(
        "limits.message_bytes",
        "413 before the body is read, close; WebSocket 1009",
        &["requests_refused", "sockets_failed"],
    ),
    fixed("bytes of a chunk's size line", chunked::LINE_BYTES_MAX, "400, close", REFUSED),
    fixed("trailer fields", chunked::TRAILERS_MAX as usize, "400, close", REFUSED),
    setting("limits.body_seconds", "408, close; WebSocket 1008", &["heads_timed_out", "sockets_failed"]),
    setting(
        "limits.body_bytes_per_second",
        "408, close; WebSocket 1008",
        &["heads_timed_out", "sockets_failed"],
    ),
    fixed(
        "milliseconds of a body before its pace counts",
        BODY_GRACE_MS as usize,
        "408 from then on",
        TIMED_OUT,
    ),
    setting("limits.pipelined_requests", "429 with `Retry-After`, close", &["pipelines_refused"]),
    fixed("pipelined bytes behind a request that waits", PIPELINE_BYTES_MAX, "431, close", REFUSED),
    fixed("bytes of answers not taken yet", BACKLOG_BYTES_MAX, "the next request waits", &[]),
    setting(
        "limits.idle_seconds",
        "closed; 503 with `Retry-After` to a request for which the history has not come until then",
        &["connections_idle"],
    ),
    fixed(
        "bytes that wait in the kernel unsent for a subscriber of latest values",
        UNSENT_BYTES as usize,
        "what comes next is held back, and conflated",
        &[],
    ),
    fixed("the same once it has been behind for 400 ms", SLOW_UNSENT_BYTES as usize, "the same", &[]),
    fixed("milliseconds of reading on after the last answer", LINGER_MS as usize, "closed", &[]),
    setting("limits.stalled_seconds", "closed, and the log says so", &["connections_stalled"]),
    setting("limits.unread_bytes_per_second", "closed, and the log says so", &["connections_stalled"]),
    setting("limits.stream_seconds", "the stream ends at a message boundary", &["streams_expired"]),
    fixed("`timeout=` of a poll, in seconds", POLL_SECONDS_MAX as usize, "400", FAILED),
    setting("store.staged_bytes", "503 with `Retry-After`, to publishers", FAILED),
    setting(
        "store.lag_ms",
        "503 with `Retry-After`, to publishers, with `store.answer = \"behind\"`",
        FAILED,
    ),
    setting("engine.staged_bytes", "503 with `Retry-After`, to publishers", FAILED),
    setting("engine.patience_ms", "503 with `Retry-After`, to publishers", &["publications_not_stored"]),
    setting(
        "limits.publishes_per_second",
        "429 with `Retry-After`; an error to the WebSocket's command, or to the Bayeux message",
        &["publications_refused"],
    ),
    fixed(
        "messages that one address may publish in a second in the chat of `--demo`",
        SAID_IN_DEMO_BY_ONE as usize,
        "429 with `Retry-After`; an error to the WebSocket's command, or to the Bayeux message",
        &["publications_refused"],
    ),
    fixed(
        "the same for all addresses together, exempt ones among them",
        SAID_IN_DEMO as usize,
        "429 with `Retry-After`; an error to the WebSocket's command, or to the Bayeux message",
        &["publications_refused"],
    ),
    fixed(
        "tokens that one address may have as a guest of the demo in a second (`POST /demo/guest`)",
        GUESTS_BY_ONE as usize,
        "429 with `Retry-After`",
        FAILED,
    ),
    fixed(
        "the same for all addresses together, exempt ones among them",
        GUESTS as usize,
        "429 with `Retry-After`",
        FAILED,
    ),
    fixed("characters of the name of such a guest", GUEST_NAME_MAX, "400", FAILED),
    setting(
        "limits.tokens_refused_per_second",
        "429 with `Retry-After`; WebSocket 1008",
        &["tokens_refused"],
    ),
    setting(
        "limits.revocations",
        "all tokens as old as those of the oldest are refused",
        &["rights_revoked"],
    ),
    setting("limits.tokens_remembered", "those not used lately are verified again", &["tokens_verified"]),
    fixed("channels with presence that show one listener", SHOWN_MAX, "it is not shown on the others", &[]),
    setting("limits.presence_members", "newcomers are not told by name; the count is, once a second", &[]),
    fixed("bytes of a token", TOKEN_BYTES_MAX, "401", &["tokens_refused"]),
    setting(
        "limits.judged_waiting",
        "503 with `Retry-After`; 429 to an address that has a tenth of them; an error to the command",
        &["questions_refused"],
    ),
    setting("limits.judged_bytes", "503 with `Retry-After`; an error to the command", &["questions_refused"]),
    setting("limits.judged_remembered", "the application is asked again", &["questions_asked"]),
    setting("hook.timeout_ms", "503 with `Retry-After`; an error to the command", &["questions_unanswered"]),
    fixed(
        "bytes of the application's answer",
        BODY_BYTES_MAX,
        "503 with `Retry-After`",
        &["questions_unanswered"],
    ),
    setting("limits.channels", "503 with `Retry-After`; an error to the command", &["channels_refused"]),
    setting(
        "limits.keys_per_channel",
        "503 with `Retry-After` to who publishes a new key, an error to the command; of removals, the oldest is forgotten",
        &["keys_refused", "removals_forgotten"],
    ),
    setting(
        "limits.keys",
        "503 with `Retry-After` to who publishes a new key; an error to the command",
        &["keys_refused"],
    ),
    fixed(
        "numbers remembered that clients of a shared history have had and a server has yet to read",
        CLAIMS_MAX,
        "who comes with another one is told of a gap at once",
        &["gaps_told"],
    ),
    fixed("gaps that are told at once", GAPS_MAX, "one for `**` stands for the others", &["gaps_told"]),
    fixed("bytes of a channel's name", NAME_BYTES_MAX, "400", FAILED),
    setting(
        "limits.subscribers_per_channel",
        "503 with `Retry-After`; an error to the command",
        &["subscriptions_refused"],
    ),
    setting(
        "limits.channels_per_pattern",
        "400; `403::too_many_subscriptions`; who comes to exceed it later is ended, a session told to begin anew",
        &["subscriptions_refused"],
    ),
    fixed(
        "channels looked at in a second for the patterns of one address; of long patterns, each counts more",
        LOOKED_AT_PER_SECOND as usize,
        "429 with `Retry-After`; an error to the command, or to the Bayeux message",
        &["subscriptions_refused"],
    ),
    fixed(
        "the same for one request; joining a channel counts four times",
        LOOKED_AT_PER_VISIT as usize,
        "429 with `Retry-After`; an error to the command, or to the Bayeux message",
        &["subscriptions_refused"],
    ),
    fixed(
        "the same for all addresses together",
        LOOKED_AT_IN_ALL as usize,
        "429 with `Retry-After`; an error to the command, or to the Bayeux message",
        &["subscriptions_refused"],
    ),
    setting("limits.channels_per_request", "400", FAILED),
    setting("limits.channels_per_connection", "an error to the WebSocket's command", FAILED),
    setting("limits.batch_messages", "413; 400 for a larger `max=`", FAILED),
    fixed(
        "bytes of messages in one answer: JSON batch, JSONP, FDAjax",
        BATCH_BYTES_MAX,
        "the rest comes with the next poll",
        &[],
    ),
    setting("limits.fragments", "WebSocket 1008", SOCKETS),
    fixed("bytes of a WebSocket's control frame", websocket::CONTROL_BYTES_MAX, "WebSocket 1002", SOCKETS),
    fixed(
        "bytes of a WebSocket's answers not taken yet",
        PIPELINE_BYTES_MAX,
        "closed, and the log says so",
        &["connections_stalled"],
    ),
    setting("limits.idempotency_keys", "the oldest is forgotten", &["idempotency_keys_forgotten"]),
    setting("limits.idempotency_bytes", "the oldest is forgotten", &["idempotency_keys_forgotten"]),
    fixed(
        "milliseconds an idempotency key is remembered",
        REMEMBERED_MS as usize,
        "a repeat publishes again",
        &[],
    ),
    setting("limits.tombstones", "gaps of forgotten channels are told on suspicion", &["gaps_told"]),
    setting("history.messages", "the channel's oldest message goes; who lacks it is told", EVICTED),
    setting("history.grace_seconds", "the message goes when `history.messages` is exceeded", EVICTED),
    setting("history.bytes", "the channel's oldest message goes; who lacks it is told", EVICTED),
    setting("history.seconds", "the message goes; who lacks it is told", EVICTED),
    setting("history.total_bytes", "the oldest message of all goes; who lacks it is told", EVICTED),
    setting("bayeux.sessions", "the handshake fails: `503::too_many_sessions`", &["sessions_refused"]),
    setting(
        "bayeux.handshakes_per_second",
        "the handshake fails: `429::too_many_handshakes`, with an interval to wait",
        &["sessions_refused"],
    ),
    setting(
        "bayeux.unknown_per_second",
        "429 with `Retry-After`; the WebSocket is closed",
        &["requests_failed", "sockets_failed"],
    ),
    setting("bayeux.subscriptions", "`403::too_many_subscriptions`", &["subscriptions_refused"]),
    setting(
        "bayeux.request_messages",
        "413; the WebSocket is closed",
        &["requests_failed", "sockets_failed"],
    ),
    fixed(
        "nesting of a Bayeux body's JSON",
        crate::dialect::BAYEUX_DEPTH_MAX,
        "400; the WebSocket is closed",
        &["requests_failed", "sockets_failed"],
    ),
    setting("bayeux.answer_messages", "the rest comes with the next answer", &[]),
    setting("bayeux.answer_bytes", "the rest comes with the next answer", &[]),
    setting("bayeux.repeats", "the oldest is forgotten", &[]),
    fixed("topics of an update of Mercure", mercure::TOPICS_MAX, "400", FAILED),
    fixed("selectors of a stream of Mercure", mercure::TOPICS_MAX, "400", FAILED),
    fixed("the same by its version 1", mercure::SELECTORS_V1_MAX, "400", FAILED),
    fixed("bytes of a topic of Mercure", mercure::TOPIC_BYTES_MAX, "400", FAILED),
    fixed("bytes of a selector of Mercure", mercure::SELECTOR_BYTES_MAX, "400", FAILED),
    fixed("bytes of the id or type of an update of Mercure", mercure::ID_BYTES_MAX, "400", FAILED),
    fixed(
        "selectors in a token of Mercure",
        crate::broker::access::tokens::mercure::SELECTORS_MAX,
        "401",
        &["tokens_refused"],
    ),
    fixed(
        "topics in the authorization details of a token",
        crate::broker::access::tokens::details::DETAILS_MAX,
        "401",
        &["tokens_refused"],
    ),
    fixed(
        "bytes of templates of Mercure of one address, all streams together",
        TEMPLATE_BYTES_MAX,
        "429 with `Retry-After`; to who wants an event stream, one that ends at once and says when to return",
        &["subscriptions_refused"],
    ),
    fixed(
        "the same of all addresses together",
        TEMPLATE_BYTES_IN_ALL,
        "429 with `Retry-After`; to who wants an event stream, one that ends at once and says when to return",
        &["subscriptions_refused"],
    ),
    fixed(
        "looks at templates of Mercure for one topic (each is one, and one more for 64 places of its expressions)",
        COMPARED_MAX,
        "429 with `Retry-After`; to who wants an event stream, one that ends at once and says when to return",
        &["subscriptions_refused"],
    ),
    fixed(
        "the same of one address, of templates that begin alike",
        COMPARED_OF_ONE_MAX,
        "429 with `Retry-After`; to who wants an event stream, one that ends at once and says when to return",
        &["subscriptions_refused"],
    ),
    fixed(
        "looks at selections of Mercure, for one message, that reach more than `limits.channels_per_pattern` channels",
        ASKED_MAX,
        "429 with `Retry-After`; to who wants an event stream, one that ends at once and says when to return",
        &["subscriptions_refused"],
    ),
    fixed(
        "the same of one address",
        ASKED_OF_ONE_MAX,
        "429 with `Retry-After`; to who wants an event stream, one that ends at once and says when to return",
        &["subscriptions_refused"],
    ),
    fixed("bytes of values that the patches of one request work through", PATCHED_BYTES_MAX, "413", FAILED),
    fixed(
        "bytes of selections of which others have yet to be told (`mercure.subscriptions`)",
        UNTOLD_BYTES_MAX,
        "503 with `Retry-After`; to who wants an event stream, one that ends at once and says when to return",
        &["requests_failed"],
    ),
    fixed(
        "bytes of subscriptions in one answer of Mercure",
        mercure::subscriptions::DOCUMENT_BYTES_OF_ONE,
        "503",
        FAILED,
    ),
    fixed(
        "the same to the application, which no budget counts",
        mercure::subscriptions::DOCUMENT_BYTES_MAX,
        "503",
        FAILED,
    ),
    fixed(
        "ids of updates of Mercure that are gone which are remembered",
        IDS_REMEMBERED_MAX,
        "the oldest is unknown from then on: what is held is sent, and the gap is told",
        &["gaps_told"],
    ),
    setting("limits.fdajax_guests", "503 with `Retry-After`", &["sessions_refused"]),
    setting("limits.fdajax_guest_seconds", "forgotten; it comes back as a new guest", &[]),
    setting("limits.fdajax_peer_calls", "429 with `Retry-After`", &["publications_refused"]),
];

/// The limits as a table in Markdown.
pub fn markdown() -> String {
    let mut table = String::from(
        "| limit | default | bounds | when it is reached | counted by |\n|---|---|---|---|---|\n",
    );
    let default = Config::default();
    for limit in LIMITS {
        let counters: Vec<String> = limit.counters.iter().map(|counter| format!("`{counter}`")).collect();
        let (name, bound, meaning) = match (Setting::find(limit.name), limit.fixed) {
            (Some(setting), _) => {
                let bound = setting.show(&default);
                (format!("`{}`", limit.name), bound.trim_matches('"').to_owned(), subject(setting))
            }
            (None, bound) => ("fixed".to_owned(), bound.unwrap_or_default().to_string(), limit.name),
        };
        let _ =
            writeln!(table, "| {name} | {bound} | {meaning} | {} | {} |", limit.answer, counters.join(", "));
    }
    table
}

/// What a setting bounds: the beginning of what it means.
fn subject(setting: &Setting) -> &'static str {
    let meaning = setting.meaning();
    meaning.split([';', '.']).next().unwrap_or(meaning).trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SETTINGS;
    use crate::stats::Stats;

    /// Lists of addresses, and no limits.
    const NO_LIMITS: [&str; 1] = ["limits.exempt"];

    #[test]
    fn every_setting_that_limits_is_there_and_counted_by_what_exists() {
        for setting in SETTINGS {
            let is_limit =
                setting.section.is_some_and(|section| matches!(section.name, "limits" | "history"));
            let rows = LIMITS.iter().filter(|limit| limit.name == setting.name).count();
            let expected = is_limit && !NO_LIMITS.contains(&setting.name);
            assert!(rows <= 1 && (rows == 1 || !expected), "{} is {rows} times in LIMITS", setting.name);
        }
        let stats = Stats::default();
        for limit in LIMITS {
            let is_setting = Setting::find(limit.name).is_some();
            assert!(is_setting != limit.fixed.is_some(), "{} is no setting", limit.name);
            for counter in limit.counters {
                assert!(stats.each().any(|(name, ..)| name == *counter), "there is no counter {counter}");
            }
        }
    }
}
