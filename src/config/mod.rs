//! Every setting of the server: its name, type, default, meaning and bounds, in one table.
//!
//! An entry of the table is the only thing to write for a new setting. From it come the field of
//! [`Config`], the TOML key, the environment variable, the option of `encke serve`, the line `encke config`
//! prints and the check of what was given. `limits.message_bytes` for example is
//! `[limits] message_bytes = …` in a file, `ENCKE_LIMITS_MESSAGE_BYTES` and `--limits-message-bytes`.
//!
//! Plain values: nothing here opens a file or asks the environment (`cli` does and hands in the texts), so
//! that any part of the server can be built in a test from `Config::default()`.

mod access;
mod engine;
mod file;
mod kind;
mod load;
mod print;
mod reload;
mod setting;
mod source;
mod store;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

pub use access::{Algorithm, DEMO_CHAT, Keeps, KeyText, Protocol, Shows, Who, is_demo_chat};
pub use engine::{Place as EnginePlace, Servers as EngineServers};
pub use file::is_misspelled;
pub use kind::{Describe, Given, Kind, milliseconds};
pub use load::{Sources, check, load, unknown_variables};
pub use print::toml;
pub use reload::{Reloaded, reload};
pub use setting::{Column, Section, Setting, Table};
pub use source::{File, Loaded, Origin, Problem};
pub use store::Promise;

use access::{Choice, ClaimText, CookieName, FieldName, HookUrl, HubUrl, KeepsTable, ShowsWord};
use engine::{EngineName, EngineUrl};
use kind::Time::{Millis, Seconds};
use kind::{
    Address, Bytes, ChannelPattern, Event, Flag, FolderName, Function, Ip, KeyValue, Level, List, Mount,
    Network, Number, One, OneOf, Optional, Secret, Secrets, TechniqueName, Text, TextFile, WebOrigin,
};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

fn localhost() -> Vec<IpNet> {
    vec![IpAddr::V4(Ipv4Addr::LOCALHOST).into(), IpAddr::V6(Ipv6Addr::LOCALHOST).into()]
}

// One entry reads: what it means, then `name: type = default, what is allowed;`.
setting::settings! {
    /// All settings. `Config::default()` is a safe server on the loopback address.
    Config {
        /// Address that serves clients.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080)), Address;
        /// Second address for publishing, channel information, metrics and statistics, which then vanish
        /// from `listen`; none = everything on `listen`.
        admin_listen: Option<SocketAddr> = None, Optional(Address);
        /// Publish the built-in market data below `demo/`, and open the rooms of the demo's chat (`demo/chat/**`) to
        /// everybody, so many messages a second; who is in them is shown.
        demo: bool = false, Flag;
        /// Seconds between two heartbeats of a stream; the first comes up to a quarter earlier.
        heartbeat: u64 = 15, Seconds(1..=HOUR);
        /// Seconds a shutdown takes: a crowd is sent away over three quarters of it, what is being written is waited for;
        /// 0 = it does not wait.
        drain_seconds: u64 = 10, Seconds(0..=HOUR);
        /// Seconds that another process has to be ready to take over, and then to do it; see `encke upgrade`.
        upgrade_seconds: u64 = 10, Seconds(1..=HOUR);
        /// Seconds an empty channel without subscribers is remembered.
        channel_idle_seconds: u64 = 60, Seconds(1..=DAY);
        /// Seconds after which presence tells that somebody has gone whose last connection has ended.
        presence_seconds: u64 = 10, Seconds(0..=HOUR);
        /// Techniques that are not served, for example `jsonp` and `iframe`, which hand scripts to pages; 403.
        /// Without `jsonp`, there is no callback polling in Bayeux either.
        techniques_off: Vec<String> = Vec::new(), List(TechniqueName);
        /// Proxies whose `X-Forwarded-For` is believed: addresses, or networks such as `10.0.0.0/8`.
        trusted_proxies: Vec<IpNet> = Vec::new(), List(Network);
        /// File that the process writes its number into, for `encke reload` and `encke upgrade`; none = none.
        pid_file: Option<PathBuf> = None, Optional(TextFile);
    }

    /// Who may publish; without a token, only peers on a loopback address.
    publish: Publish {
        /// Bearer tokens that allow publishing from anywhere, one or several: `"…"` or `["…", "…"]`, separated by
        /// blanks in the environment; none = loopback peers only. Not an option, because `ps` shows options to
        /// everybody.
        token: Vec<String> = Vec::new(), Secrets;
        /// File that holds the tokens, one a line, read at start.
        token_file: Option<PathBuf> = None, Optional(TextFile);
    }

    /// TLS on a listener of its own. Several certificates are told apart by the name that the client asks for.
    tls: Tls {
        /// Address that serves clients by TLS; none = no TLS.
        listen: Option<SocketAddr> = None, Optional(Address);
        /// PEM files with a certificate and those of its issuers, the server's own first.
        certificate: Vec<PathBuf> = Vec::new(), List(TextFile);
        /// PEM files with the private keys, in the same order.
        key: Vec<PathBuf> = Vec::new(), List(TextFile);
    }

    /// Tokens that say what their bearer may do: JSON Web Tokens (RFC 7519), signed by the application.
    tokens: Tokens {
        /// The claim `iss` that tokens must have; none = not looked at.
        issuer: Option<String> = None, Optional(ClaimText);
        /// What must be among the claim `aud`; none = not looked at.
        audience: Option<String> = None, Optional(ClaimText);
        /// The claim that holds what is granted.
        claim: String = "encke".into(), One(ClaimText);
        /// Seconds by which clocks may differ: a token counts until so long after its expiry.
        leeway_seconds: u64 = 30, Seconds(0..=HOUR);
        /// Refuse tokens without the claim `exp`.
        require_expiry: bool = true, Flag;
        /// Seconds that a token may be valid for; one that is valid longer is refused.
        max_seconds: u64 = 30 * DAY, Seconds(60..=YEAR);
        /// Cookie that may carry the token, for pages of this server and of `cors.origins`; none = no cookie does.
        cookie: Option<String> = None, Optional(CookieName);
    }

    /// The application, which is asked where rules say `hook`.
    hook: Hook {
        /// Where it is asked, by POST; none = it is not. TLS is not spoken there.
        url: Option<String> = None, Optional(HookUrl);
        /// Header fields of the client's request that are handed on to it.
        headers: Vec<String> = vec!["cookie".into(), "authorization".into()], List(FieldName);
        /// Milliseconds from the client's request within which it must have answered; then 503.
        timeout_ms: u64 = 2000, Millis(1..=600_000);
        /// Questions that it is asked at once; the others wait.
        concurrency: usize = 16, Number(1..=256);
        /// Seconds that an answer is remembered; the application may say less. 0 = not at all.
        cache_seconds: u64 = 30, Seconds(0..=DAY);
    }

    /// Which web pages of other origins may use the server (WHATWG Fetch).
    cors: Cors {
        /// Allowed origins; `*` allows all of them, without credentials.
        origins: Vec<String> = vec!["*".into()], List(WebOrigin);
    }

    /// Long polling.
    poll: Poll {
        /// Seconds a poll waits that names no `timeout=`.
        timeout_seconds: u64 = 30, Seconds(1..=300);
        /// Status of a poll that ran out without news: 204, 304 or 408.
        no_news_status: u16 = 204, OneOf(&[204, 304, 408]);
    }

    /// FDAjax, the protocol of the lighttpd module of 2007, under its own names for its options. A file that
    /// has this section switches it on.
    fdajax: Fdajax {
        /// Serve FDAjax.
        enabled: bool = false, Flag;
        /// Paths that end in a dot and this are FDAjax requests.
        ext: String = "fdajax".into(), Text;
        /// Addresses that admin commands may come from.
        admin_ips: Vec<IpAddr> = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)], List(Ip);
        /// Password that admin commands must show, too: as `admin_passwd` or as a bearer token. Without one they
        /// must show a publish token, where there is any. Not an option, because `ps` shows options to everybody.
        admin_password: Option<String> = None, Secret;
        /// The cookie that holds the session id.
        session_cookie: String = "_session_id".into(), Text;
        /// Milliseconds a message is kept.
        mes_live_max: u64 = 500, Millis(0..=65_535);
        /// Milliseconds a window is remembered after its last answer.
        win_timeout: u64 = 0, Millis(0..=65_535);
        /// Send all that waits in one answer; else one message at a time.
        merge_messages: bool = true, Flag;
        /// Send a window whose slot is taken to another one; else end the window that has it.
        send_redirects: bool = true, Flag;
        /// A session may only be used from the address it began at.
        check_user_ip: bool = true, Flag;
        /// Serve visitors who are not logged in.
        allow_guests: bool = true, Flag;
        /// Seconds after which a waiting window is told to ask anew; 0 = never.
        send_pings: u64 = 0, Seconds(0..=65_535);
        /// Event types that users may send to each other; none = no chat_sig.
        allow_peer_call: Vec<String> = Vec::new(), List(Event);
        /// JavaScript function that gets what a chat peer sends.
        js_peer_func: String = "js_peer_func".into(), Text;
        /// JavaScript function that gets what somebody sends to a group.
        js_grp_peer_func: String = "js_grp_peer_func".into(), Text;
        /// JavaScript for a window whose user is logged out.
        js_logout_code: String = "js_logout_code();".into(), Text;
        /// JavaScript for a window that has to give way to another one.
        js_maxwin_code: String = "js_maxwin_code();".into(), Text;
        /// JavaScript for a request without session cookie.
        js_nocookies: String = "js_nocookies_code();".into(), Text;
        /// JavaScript for a user who is not logged in (any more).
        js_notfound: String = "js_notfound_code();".into(), Text;
        /// JavaScript for guests where they are not allowed.
        js_no_guests: String = "js_no_guests();".into(), Text;
        /// JavaScript that tells a window to ask anew.
        js_ping_code: String = "js_ping_code();".into(), Text;
        /// JavaScript function that is told why the user must log in again.
        js_relogin: String = "js_relogin_func".into(), Text;
        /// JavaScript function that is told the slot to use instead.
        js_redirect: String = "js_redirect_func".into(), Text;
        /// JavaScript function that is told the number of the alert that follows.
        js_alert_id_func: String = "js_alert_id_func".into(), Text;
        /// What stands before a message that no window had asked for.
        unw_prefix: String = "unw.".into(), Text;
        /// How the page of a stream begins.
        html_begin: String = "<html><head><title>FdAjax</title></head><body>".into(), Text;
        /// How much is logged of what users do: 0 nothing, 1 logins, 2 windows as well, 3 every command.
        log_level: u64 = 1, Number(0..=3);
        /// How much is logged of what is refused: 0 nothing, 1 admin commands, 2 sessions, 3 everything.
        log_security: u64 = 2, Number(0..=3);
    }

    /// What is logged.
    log: Log {
        /// Up to which level: `error`, `warn`, `info`, `debug` or `trace`; `RUST_LOG` wins over it.
        level: String = "info".into(), One(Level);
        /// Log a line for each request, at the target `encke::access`: address, method, target without secrets, status,
        /// bytes, milliseconds, agent.
        access: bool = false, Flag;
    }

    /// Server-sent events.
    sse: Sse {
        /// Milliseconds an EventSource waits before it reconnects (`retry:`).
        retry_ms: u64 = 2000, Millis(1..=1000 * HOUR);
    }

    /// Bayeux 1.0, for CometD and Faye clients.
    bayeux: Bayeux {
        /// Paths it is served at, with all below them; none = it is not served.
        mounts: Vec<String> = vec!["/bayeux".into()], List(Mount);
        /// Channels its clients may publish to, such as `chat/**`, where no rule says who may.
        publish: Vec<String> = Vec::new(), List(ChannelPattern);
        /// Channels its clients may subscribe to.
        subscribe: Vec<String> = vec!["**".into()], List(ChannelPattern);
        /// Milliseconds a connect is held.
        timeout_ms: u64 = 30_000, Millis(1..=1000 * HOUR);
        /// Milliseconds clients wait between two connects.
        interval_ms: u64 = 0, Millis(0..=1000 * HOUR);
        /// Milliseconds without a connect, beyond the interval, after which a session is gone.
        max_interval_ms: u64 = 10_000, Millis(1..=1000 * DAY);
        /// Only the browser that began a session (by its cookie BAYEUX_BROWSER) may use it.
        bind_sessions_to_cookie: bool = false, Flag;
        /// End a session whose client was away for so long that history limits threw messages away, rather
        /// than telling it.
        end_session_on_gap: bool = false, Flag;
        /// Sessions that exist at once; above, handshakes fail.
        sessions: usize = 100_000, Number(1..=100_000_000);
        /// Channels and patterns one session may subscribe to; above, 403.
        subscriptions: usize = 1000, Number(1..=1_000_000);
        /// Messages in one request; above, 413.
        request_messages: usize = 1000, Number(1..=1_000_000);
        /// Events in one answer; the rest comes with the next.
        answer_messages: usize = 1000, Number(1..=1_000_000);
        /// Bytes of events in one answer, unless a single one is larger; the rest comes with the next.
        answer_bytes: usize = 1 << 20, Bytes(1..=GIB);
        /// Handshakes a second of one address (of IPv6, a network of 64 bits); above, they fail and are to be
        /// tried again later.
        handshakes_per_second: u32 = 500, Number(1..=1_000_000);
        /// Messages a second in which one address may name sessions that do not exist; above, 429.
        unknown_per_second: u32 = 500, Number(1..=1_000_000);
        /// Publications remembered to recognise one that is sent again; the oldest is forgotten first.
        repeats: usize = 65_536, Number(1..=100_000_000);
    }

    /// Mercure, the protocol for server-sent events of Symfony and API Platform; docs/mercure.md. It is served when there
    /// is a key.
    mercure: Mercure {
        /// Path of the hub.
        path: String = "/.well-known/mercure".into(), One(Mount);
        /// What is spoken: draft 07 (`classic`), draft 08 (`v1`), or each request as it comes (`both`), which is only as
        /// strict about tokens as `classic`: it is for a migration.
        protocol: Protocol = Protocol::Classic, Choice(&Protocol::NAMES);
        /// Who must have issued tokens of draft 08; they need it.
        issuer: Option<String> = None, Optional(ClaimText);
        /// The URL of the hub as its clients know it, whom tokens of draft 08 must be for; they need it. What is relative
        /// in topics and URL patterns is below it.
        audience: Option<String> = None, Optional(HubUrl);
        /// The key that tokens of publishers are verified by: a secret, or a public key as PEM; none = nobody publishes.
        /// Not an option, because `ps` shows options to everybody.
        publisher_key: Option<String> = None, KeyValue;
        /// File that holds it.
        publisher_key_file: Option<PathBuf> = None, Optional(TextFile);
        /// The algorithm that tokens of publishers must be signed with.
        publisher_alg: Algorithm = Algorithm::HS256, Choice(&Algorithm::NAMES);
        /// The key that tokens of subscribers are verified by; none = they can show none.
        subscriber_key: Option<String> = None, KeyValue;
        /// File that holds it.
        subscriber_key_file: Option<PathBuf> = None, Optional(TextFile);
        /// The algorithm that tokens of subscribers must be signed with.
        subscriber_alg: Algorithm = Algorithm::HS256, Choice(&Algorithm::NAMES);
        /// Serve subscribers without a token: they get updates that are not private.
        anonymous: bool = false, Flag;
        /// Tell who subscribes: events, and the subscription API.
        subscriptions: bool = false, Flag;
        /// Origins of pages that may publish by the cookie, beside those of the server itself.
        publish_origins: Vec<String> = Vec::new(), List(WebOrigin);
        /// The cookie that carries a token; none = `mercureAuthorization`, of draft 08
        /// `__Secure-mercure_access_token`.
        cookie_name: Option<String> = None, Optional(CookieName);
        /// Tell of lost updates by an event, `encke.gap`.
        gap_events: bool = true, Flag;
    }

    /// Forever frames.
    iframe: Iframe {
        /// Bytes of blanks at the beginning, against browsers and proxies that hold the first bytes back.
        padding_bytes: usize = 2048, Bytes(0..=1 << 20);
        /// Functions with dots in their names that forever frames may call, such as `app.push.received`; any other
        /// `callback=` is one word, as a page could have anything clicked or sent by a longer one.
        callbacks: Vec<String> = Vec::new(), List(Function);
    }

    /// What is kept for those who were away.
    history: History {
        /// Messages kept per channel, beside those that are younger than `grace_seconds`.
        messages: usize = 1000, Number(1..=1_000_000);
        /// Seconds in which a message is kept even if its channel has more than `messages`, for clients between two
        /// polls; bytes bound it still.
        grace_seconds: u64 = 10, Seconds(0..=HOUR);
        /// Bytes kept per channel.
        bytes: usize = 1 << 20, Bytes(1..=TIB);
        /// Bytes kept in all channels together; the globally oldest message goes first.
        total_bytes: usize = 256 << 20, Bytes(1..=TIB);
        /// Seconds a message is kept.
        seconds: u64 = HOUR, Seconds(1..=YEAR);
    }

    /// The history on disk.
    store: Store {
        /// The directory where history is kept, so that a crash loses none of it; docs/history.md. Without it, history
        /// is in memory and ends with the process.
        dir: Option<PathBuf> = None, Optional(FolderName);
        /// When publishers are answered, and messages shown: "synced", once they are on the disk, or "behind", at
        /// once; then a crash may lose the last of them, and clients are told of a gap.
        answer: Promise = Promise::Synced, Choice(&Promise::NAMES);
        /// Milliseconds from one write to the next, unless nothing was published for so long.
        pause_ms: u64 = 5, Millis(0..=10_000);
        /// Milliseconds that the disk may be late with "behind"; then publishers get 503.
        lag_ms: u64 = 200, Millis(1..=60_000);
        /// Bytes of messages that may wait for the disk; above, publishers get 503.
        staged_bytes: usize = 16 << 20, Bytes(1..=GIB);
    }

    /// A history that several servers share, in Redis or Valkey; docs/cluster.md.
    engine: Engine {
        /// Where it is: `redis://host:6379`, `rediss://…` by TLS, `redis+sentinel://host:26379,host:26379/service`, with
        /// the number of a database behind a slash if it is not 0; none = the server is alone.
        url: Option<String> = None, Optional(EngineUrl);
        /// The name of the history: servers with the same name share one.
        name: String = "encke".into(), One(EngineName);
        /// User to log in as (ACL); none = the default one.
        user: Option<String> = None, Optional(ClaimText);
        /// Password of the user. Not an option, because `ps` shows options to everybody.
        password: Option<String> = None, Secret;
        /// File that holds the password, read at start.
        password_file: Option<PathBuf> = None, Optional(TextFile);
        /// PEM file with the certificates that may sign that of the engine; none = those that the system trusts.
        ca_file: Option<PathBuf> = None, Optional(TextFile);
        /// Seconds that messages are kept in the engine, for servers that start.
        keep_seconds: u64 = HOUR, Seconds(1..=YEAR);
        /// Messages that are kept there, beside those that are younger than `history.grace_seconds`.
        keep_messages: u64 = 1_000_000, Number(1..=1_000_000_000);
        /// Milliseconds that publications wait while the engine is away; then publishers get 503.
        patience_ms: u64 = 2000, Millis(100..=60_000);
        /// Bytes of messages that may wait for the engine; above, publishers get 503.
        staged_bytes: usize = 4 << 20, Bytes(1..=GIB);
    }

    /// What a peer may ask for; docs/limits.md has the answer at each limit, and what counts it.
    limits: Limits {
        /// Open connections; above, 503.
        connections: usize = 100_000, Number(1..=10_000_000);
        /// Open connections of one address (of IPv6, a network of 64 bits); above, 429.
        connections_per_address: usize = 2000, Number(1..=10_000_000);
        /// Addresses or networks that limits per address do not hold for, as they do not for trusted proxies: many
        /// clients come from there, or your own programs.
        exempt: Vec<IpNet> = localhost(), List(Network);
        /// Bytes of memory of the whole process, of which history takes half at most; when they come near,
        /// clients that leave most unread are closed, history goes, first that of channels without subscribers, and
        /// strangers are refused whatever takes memory. 0 = three quarters of what the system or the control group has.
        memory: usize = 0, Bytes(0..=TIB);
        /// Bytes of memory that the subscriptions of one address may take: channels joined by name or by pattern, and
        /// patterns; above, 429. All addresses together have half of `memory`. 0 = an eighth of `memory`.
        memory_per_address: usize = 0, Bytes(0..=TIB);
        /// Bytes of a request's head; above, 431.
        head_bytes: usize = 8 << 10, Bytes(64..=1 << 20);
        /// Bytes of a request's target (path and query); above, 414.
        target_bytes: usize = 8 << 10, Bytes(16..=1 << 20);
        /// Requests that may arrive together; above, 429.
        pipelined_requests: usize = 3000, Number(1..=1_000_000);
        /// Seconds until a request's head is complete; after, 408.
        head_seconds: u64 = 10, Seconds(1..=HOUR);
        /// Bytes of a message; above, 413.
        message_bytes: usize = 1 << 20, Bytes(1..=GIB);
        /// Seconds until a request's body is complete; after, 408.
        body_seconds: u64 = 30, Seconds(1..=HOUR);
        /// Bytes a second that a body, or a WebSocket's message, brings on average after its first 5 seconds; if
        /// it is slower, 408. 0 = any pace.
        body_bytes_per_second: usize = 200, Bytes(0..=GIB);
        /// Seconds a keep-alive connection may idle between requests; then closed.
        idle_seconds: u64 = 75, Seconds(1..=DAY);
        /// Seconds a client may leave what it is sent unread; then closed.
        stalled_seconds: u64 = 60, Seconds(1..=DAY);
        /// Bytes a second that a client takes at least of what it has left unread, over `stalled_seconds`; then closed.
        /// 0 = any pace.
        unread_bytes_per_second: usize = 500, Bytes(0..=GIB);
        /// Seconds after which a stream ends, at a message boundary; 0 = never.
        stream_seconds: u64 = 0, Seconds(0..=YEAR);
        /// Seconds until a TLS handshake is done; then closed.
        handshake_seconds: u64 = 10, Seconds(1..=HOUR);
        /// TLS handshakes of one address in a second; the others wait for the next second.
        handshakes_per_second: u32 = 200, Number(1..=1_000_000);
        /// Messages that one address may publish in a second; above, 429.
        publishes_per_second: u32 = 10_000, Number(1..=100_000_000);
        /// Tokens of one address that are found bad in a second; above, 429.
        tokens_refused_per_second: u32 = 50, Number(1..=1_000_000);
        /// Rights taken back that are remembered; above, all tokens as old as the oldest of these are refused.
        revocations: usize = 10_000, Number(1..=10_000_000);
        /// Verified tokens remembered, so that one that comes again is not verified again.
        tokens_remembered: usize = 10_000, Number(2..=10_000_000);
        /// Requests and commands that wait for the application's word (`[hook]`), of one address a tenth of them, of
        /// exempt ones half; above, 503, or 429 to that address.
        judged_waiting: usize = 1000, Number(1..=1_000_000);
        /// Bytes of requests and commands that wait so; above, 503.
        judged_bytes: usize = 16 << 20, Bytes(1..=GIB);
        /// Answers of the application that are remembered.
        judged_remembered: usize = 10_000, Number(2..=10_000_000);
        /// Members of a channel that presence tells; of a larger crowd it tells the count.
        presence_members: usize = 1000, Number(1..=1_000_000);
        /// Channels that exist at once, at most half of them without ever a message; above, 503.
        channels: usize = 1_000_000, Number(1..=100_000_000);
        /// Keys with a latest value on one channel, and removals remembered there; above, 503 to who publishes a new key.
        keys_per_channel: usize = 10_000, Number(1..=100_000_000);
        /// Keys with a latest value in all channels; above, 503 to who publishes a new key.
        keys: usize = 1_000_000, Number(1..=1_000_000_000);
        /// Subscribers of one channel; above, 503.
        subscribers_per_channel: usize = 1_000_000, Number(1..=100_000_000);
        /// Channels that the patterns of one subscriber may match; above, 400.
        channels_per_pattern: usize = 10_000, Number(1..=100_000_000);
        /// Channels and patterns one request may name; above, 400.
        channels_per_request: usize = 100, Number(1..=10_000);
        /// Channels and patterns one WebSocket may come to listen to; above, its command is refused.
        channels_per_connection: usize = 1000, Number(1..=1_000_000);
        /// Messages in one JSON batch; larger `max=` values are refused with 400.
        batch_messages: usize = 1000, Number(1..=1_000_000);
        /// Frames in one WebSocket message; above, the WebSocket is closed.
        fragments: usize = 1000, Number(1..=1_000_000);
        /// Idempotency keys remembered at once; the oldest is forgotten first.
        idempotency_keys: usize = 65_536, Number(1..=100_000_000);
        /// Bytes of idempotency keys and of what is remembered with them; the oldest is forgotten first.
        idempotency_bytes: usize = 32 << 20, Bytes(1..=TIB);
        /// Forgotten channels whose lost messages are remembered, and removals of keys; beyond, gaps are announced on
        /// suspicion.
        tombstones: usize = 65_536, Number(1..=100_000_000);
        /// Bytes of a request's head while FDAjax is on, whose messages travel there; the larger of this and
        /// head_bytes counts.
        fdajax_head_bytes: usize = 96 << 10, Bytes(64..=1 << 20);
        /// FDAjax guests known at once; above, those without a window are forgotten, then 503.
        fdajax_guests: usize = 100_000, Number(1..=10_000_000);
        /// Seconds an FDAjax guest without a window is remembered.
        fdajax_guest_seconds: u64 = 60, Seconds(1..=DAY);
        /// FDAjax messages (chat_sig) a client may send in a second; above, 429. Of `exempt` addresses, a session.
        fdajax_peer_calls: u32 = 100, Number(1..=1_000_000);
    }

    /// Budget of one turn of the reactor: what exceeds it continues in the next turn.
    turn: Turn {
        /// Connections accepted.
        accepts: usize = 64, Number(1..=1_000_000);
        /// Sockets read.
        reads: usize = 256, Number(1..=1_000_000);
        /// TLS handshakes gone on with.
        handshakes: usize = 8, Number(1..=1_000_000);
        /// Subscribers written to.
        deliveries: usize = 256, Number(1..=1_000_000);
        /// Milliseconds after which a turn gives way to the next, whatever there is to be done; each of its four parts has
        /// a quarter of them.
        milliseconds: u64 = 4, Number(1..=1000);
    }

    tables {
        /// Who may do what on which channels. The first rule whose pattern matches a channel's name holds for it.
        "channels" channels: ChannelRule {
            /// The channels it is for, such as `chat/**`.
            "match" pattern: String = String::new(), One(ChannelPattern);
            /// Who may subscribe.
            "subscribe" subscribe: Who = Who::Anyone, Choice(&Who::NAMES);
            /// Who may publish; if it says nothing, whoever may without rules.
            "publish" publish: Option<Who> = None, Choice(&Who::NAMES);
            /// Whether it shows who is on its channels: to those with a subject who may subscribe, or to all who may.
            "presence" presence: Shows = Shows::Nobody, ShowsWord;
            /// What is kept of its channels, as far as it differs from `[history]`.
            "history" history: Keeps = Keeps::default(), KeepsTable;
        }
        /// The keys that tokens are verified by. Several at once are for rotation.
        "tokens.keys" token_keys: TokenKey {
            /// The `kid` of the tokens that this key verifies. The members of a JWK set have ids of their own.
            "id" id: Option<String> = None, Optional(ClaimText);
            /// The algorithm that tokens of this key must be signed with; a JWK set may leave it to its members.
            "algorithm" algorithm: Option<Algorithm> = None, Choice(&Algorithm::NAMES);
            /// The secret, the public key as PEM, or a JWK set; beside the file of settings if the path is relative.
            "file" file: Option<PathBuf> = None, Optional(TextFile);
            hidden /// What is in the file.
            text: KeyText;
        }
    }
}
