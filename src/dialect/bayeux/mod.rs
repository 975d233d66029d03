//! Bayeux 1.0, as CometD and Faye clients speak it.
//!
//! ```text
//! http ─▶ message ─┬▶ meta: handshake, connect, disconnect ─▶ session
//!   body → parsed  ├▶ subscription ─▶ hub.subscribe
//!                  └▶ publish ─▶ hub.publish ─▶ … ─▶ deliver: pull at the session's cursor ─▶ http
//! ```
//!
//! A session is one subscriber of the hub which outlives its connections; what it has not been sent is what is
//! newer than its cursor. So an acknowledged batch is a cursor that moves when the client says so, the replay of
//! old messages is a cursor put back, and overlapping subscriptions cannot deliver twice.
//!
//! On HTTP, events come with the answer to a connect and no other: two answers on two connections could
//! overtake each other, one connect after the other cannot.

mod channel;
mod deliver;
mod hook;
mod http;
mod identity;
mod message;
mod meta;
mod publish;
mod reply;
mod session;
mod socket;
mod stream;
mod subscription;
mod timesync;

use super::holder::SessionKey;
use super::{Act, Context, Denial, Holder, Identity};
use crate::broker::Rate;
use crate::broker::access::{Asker, Word};
use crate::carry::resume;
use crate::config::Config;
use crate::conn::ConnId;
use crate::id::{Key, Secrets, Seed};
use crate::time::{Instant, Now};
use channel::Allow;
pub use message::DEPTH_MAX;
use message::Incoming;
use reply::{Advice, Replies};
use session::{Held, Sessions};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

/// Sessions whose time has come that are looked at in one turn.
const EXPIRED_AT_ONCE: usize = 64;
/// No session.
const NOBODY: SessionKey = SessionKey::NONE;

/// All sessions, and what holds for them.
#[derive(Debug)]
pub struct Bayeux {
    mounts: Vec<String>,
    sessions: Sessions,
    /// By the slot of a connection: the session whose connect it holds, or whose events it carries.
    holders: Vec<SessionKey>,
    publish: Allow,
    subscribe: Allow,
    handshakes: Rate,
    /// Messages of sessions that do not exist.
    unknown: Rate,
    /// For hashes of cookies.
    cookies: Key,
    /// What client ids and cookies are made of.
    secrets: Secrets,
    /// Hashes of the cookies of browsers with WebSockets, where sessions are bound to them.
    browsers: BTreeMap<ConnId, u64>,
    /// What the handshakes of WebSockets had shown, if they had shown anything.
    identities: BTreeMap<ConnId, Identity>,
    /// Who uses WebSockets, as the application is told, where it is asked.
    askers: BTreeMap<ConnId, Rc<Asker>>,
    draining: bool,
}

resume! {
    Bayeux {
        carried: sessions, holders, browsers, identities, askers, draining;
        resumed: handshakes, unknown, secrets;
        given: mounts, publish, subscribe, cookies
    }
}

/// How a batch of messages came, and what its answer needs.
#[derive(Debug)]
struct Exchange {
    from: ConnId,
    /// That is a WebSocket, and not a request.
    socket: bool,
    /// The function that a callback-polling answer calls.
    callback: Option<Box<str>>,
    visitor: Visitor,
    /// The message is alone in its batch.
    alone: bool,
    /// Who asks, as far as the request, or the WebSocket's handshake, has shown.
    identity: Result<Identity, Denial>,
    /// What the application has said about what is asked for.
    said: Vec<Rc<Word>>,
    /// Why it was not asked, or has said nothing.
    denied: Option<Denial>,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Visitor {
    /// The client's address, as far as it is known: else that of the nearest proxy.
    address: IpAddr,
    /// A hash of the browser's cookie; 0 = it has none.
    cookie: u64,
}

impl Bayeux {
    /// No sessions yet.
    pub fn new(config: &Config, seed: Seed, now: Now) -> Self {
        let settings = &config.bayeux;
        Self {
            mounts: settings.mounts.clone(),
            sessions: Sessions::new(now.at),
            holders: Vec::new(),
            publish: Allow::of(settings.publish.iter().map(String::as_str)),
            subscribe: Allow::of(settings.subscribe.iter().map(String::as_str)),
            handshakes: Rate::new(seed.key("Bayeux handshakes by address")),
            unknown: Rate::new(seed.key("Bayeux unknown sessions by address")),
            cookies: seed.key("Bayeux cookies"),
            secrets: Secrets::new(seed.key("Bayeux secrets")),
            browsers: BTreeMap::new(),
            identities: BTreeMap::new(),
            askers: BTreeMap::new(),
            draining: false,
        }
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Whether `path` is a mount or below one.
    pub fn claims(&self, path: &str) -> bool {
        self.below_mount(path).is_some()
    }

    /// What follows the mount in `path`.
    fn below_mount<'p>(&self, path: &'p str) -> Option<&'p str> {
        let mut below = self.mounts.iter().filter_map(|mount| path.strip_prefix(mount.as_str()));
        below.find(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Takes one message. Its reply goes to `replies`, unless it is a connect that is held.
    fn take(&mut self, cx: &mut Context, exchange: &Exchange, message: &Incoming, replies: &mut Replies) {
        let Ok(id) = message.id() else {
            return refuse(replies, message.channel_token(), None, reply::ID_INVALID);
        };
        let channel = match message.channel() {
            Ok(Some(channel)) => channel,
            Ok(None) => return refuse(replies, None, id, reply::CHANNEL_MISSING),
            Err(_) => return refuse(replies, message.channel_token(), id, reply::CHANNEL_INVALID),
        };
        if let Some(failure) = identity::failure(exchange, message) {
            return identity::refuse(replies, message.channel_token(), id, failure);
        }
        match &*channel {
            "/meta/handshake" => self.handshake(cx, exchange, message, replies),
            "/meta/connect" => self.connect(cx, exchange, message, replies),
            "/meta/disconnect" => self.disconnect(cx, exchange, message, replies),
            "/meta/subscribe" => self.change(cx, exchange, message, replies, true),
            "/meta/unsubscribe" => self.change(cx, exchange, message, replies, false),
            channel => {
                let failure = self.publish(cx, exchange, message, channel).err();
                reply::begin(replies.next(), message.channel_token(), id, failure.as_deref());
                replies.close();
            }
        }
    }

    /// The session of a message, which shows that its client is alive. Counts those that do not exist.
    fn session_of(&mut self, cx: &Context, exchange: &Exchange, message: &Incoming) -> Option<SessionKey> {
        let found = message.client_id().and_then(|id| self.sessions.find(&id));
        let bound = cx.config.bayeux.bind_sessions_to_cookie;
        let key = found.filter(|&key| !bound || self.sessions.get(key).cookie == exchange.visitor.cookie);
        match key {
            Some(key) => self.sessions.get(key).since = cx.now.at,
            None => _ = self.unknown.count(cx.now.at, exchange.visitor.address),
        }
        key
    }

    /// Whether messages are refused unread, because too many of sessions that do not exist come from their
    /// address and they have such among them. Who ignores advice asks again and again, and each question costs an
    /// answer; most are honest, though: after a restart every client names its old session once. So many a second
    /// are answered, and the rest are told to come later, which spreads their return.
    fn is_flood(&self, cx: &Context, visitor: Visitor, messages: &[Incoming]) -> bool {
        let of_nobody = |message: &Incoming| match message.client_id() {
            _ if message.is_handshake() => false,
            Some(id) => self.sessions.find(&id).is_none(),
            None => message.is_meta(),
        };
        self.has_asked_enough(cx, visitor) && messages.iter().any(of_nobody)
    }

    fn has_asked_enough(&self, cx: &Context, visitor: Visitor) -> bool {
        self.unknown.so_far(cx.now.at, visitor.address) >= cx.config.bayeux.unknown_per_second
    }

    /// Sees to it that the session's timer fires at the end of its held connect, or at its own end.
    fn arm(&mut self, cx: &Context, key: SessionKey) {
        let deadline = self.deadline(cx.config, key);
        self.sessions.arm(key, deadline);
    }

    fn deadline(&mut self, config: &Config, key: SessionKey) -> Instant {
        let session = self.sessions.get(key);
        let settings = &config.bayeux;
        let interval = if session.paced { settings.timeout_ms } else { settings.interval_ms };
        let end = session.since + interval + settings.max_interval_ms;
        session.held.as_ref().map_or(end, |held| held.until)
    }

    /// The advice that goes with a successful handshake or connect.
    fn advice(&mut self, config: &Config, key: SessionKey) -> Advice {
        let settings = &config.bayeux;
        let (timeout_ms, interval_ms) = match self.sessions.get(key).paced {
            true => (0, settings.timeout_ms),
            false => (settings.timeout_ms, settings.interval_ms),
        };
        Advice::Retry { timeout_ms, interval_ms, max_interval_ms: settings.max_interval_ms }
    }

    /// Notes what a connection is for.
    fn hold(&mut self, connection: ConnId, key: SessionKey) {
        let slot = connection.slot.index();
        if slot >= self.holders.len() {
            self.holders.resize(slot + 1, NOBODY);
        }
        self.holders[slot] = key;
    }

    /// Takes note that a session's subscriber is ready.
    pub fn ready(&mut self, cx: &mut Context, key: SessionKey) {
        if self.sessions.look(key).is_some_and(|session| session.subscriber.is_some()) {
            self.deliver(cx, key);
        }
    }

    /// Takes note that a session's subscriber is gone, because its patterns match too many channels. The session ends:
    /// its client begins another, and is told when it subscribes to them again.
    pub fn detached(&mut self, cx: &mut Context, key: SessionKey) {
        if self.sessions.look(key).is_some() {
            self.sessions.get(key).subscriber = None;
            self.end(cx, key, Advice::Handshake { interval_ms: 0 });
        }
    }

    /// Takes note that a connection has gone.
    pub fn gone(&mut self, cx: &mut Context, connection: ConnId) {
        self.browsers.remove(&connection);
        self.identities.remove(&connection);
        self.askers.remove(&connection);
        let Some(holder) = self.holders.get_mut(connection.slot.index()) else { return };
        let key = *holder;
        if self.sessions.look(key).is_none() {
            return;
        }
        let session = self.sessions.get(key);
        let held_it = session.held.take_if(|held| held.connection == connection).is_some();
        let piped = session.pipe.take_if(|pipe| pipe.connection == connection).is_some();
        if held_it {
            session.since = cx.now.at;
        }
        if held_it || piped {
            self.holders[connection.slot.index()] = NOBODY;
            self.arm(cx, key);
        }
    }

    /// Takes note that a connection takes bytes again.
    pub fn writable(&mut self, cx: &mut Context, connection: ConnId) {
        let key = self.holders.get(connection.slot.index()).copied().unwrap_or(NOBODY);
        let carries = |pipe: session::Pipe| pipe.connection == connection;
        if self.sessions.look(key).is_some_and(|session| session.pipe.is_some_and(carries)) {
            self.deliver(cx, key);
        }
    }

    /// Answers connects that have waited for long enough and ends sessions nobody asks for.
    pub fn tick(&mut self, cx: &mut Context) {
        // The others have the next turn.
        for _ in 0..EXPIRED_AT_ONCE {
            let Some(key) = self.sessions.expire(cx.now.at) else { return };
            let due = self.deadline(cx.config, key) <= cx.now.at;
            match self.sessions.get(key).held.is_some() {
                _ if !due => self.arm(cx, key),
                true => self.answer_held(cx, key, Replies::new()),
                false => {
                    log::debug!("a Bayeux session has expired");
                    self.end(cx, key, Advice::Handshake { interval_ms: 0 });
                }
            }
        }
    }

    /// When [`Bayeux::tick`] has something to do.
    pub fn next_deadline(&self) -> Instant {
        self.sessions.next_deadline()
    }

    /// Answers every held connect and ends every stream.
    pub fn drain(&mut self, cx: &mut Context) {
        self.draining = true;
        for key in self.sessions.keys() {
            if self.sessions.get(key).held.is_some() {
                self.answer_held(cx, key, Replies::new());
            }
            if let Some(pipe) = self.sessions.get(key).pipe.take() {
                cx.act(pipe.connection, Act::End);
            }
        }
    }

    /// Ends a session. A connect that is held is answered with `advice`.
    fn end(&mut self, cx: &mut Context, key: SessionKey, advice: Advice) {
        let failure = matches!(advice, Advice::Handshake { .. }).then_some(reply::SESSION_UNKNOWN);
        self.end_because(cx, key, failure, advice);
    }

    /// The same with another reason.
    fn end_because(&mut self, cx: &mut Context, key: SessionKey, failure: Option<&str>, advice: Advice) {
        let session = self.sessions.remove(key);
        cx.access.hook.end(Holder::Bayeux(key));
        if let Some(subscriber) = session.subscriber {
            cx.broker.hub.detach(cx.now.at, subscriber);
        }
        stream::close(cx, session.pipe);
        if let Some(held) = session.held {
            let mut replies = Replies::new();
            let out = replies.next();
            reply::begin(out, Some("\"/meta/connect\""), held.id.as_deref(), failure);
            advice.write(out);
            replies.close();
            respond(cx, &held, replies);
        }
    }
}

/// Answers a held connect.
fn respond(cx: &mut Context, held: &Held, replies: Replies) {
    let act = match held.socket {
        true => Act::Write(replies.finish()),
        false => Act::Answer(http::answer(held.callback.as_deref(), replies.finish())),
    };
    cx.act(held.connection, act);
}

/// Writes the reply to a message that is refused before it is looked at.
fn refuse(replies: &mut Replies, channel: Option<&str>, id: Option<&str>, failure: &str) {
    reply::begin(replies.next(), channel, id, Some(failure));
    replies.close();
}

/// Whether answers name the origin of any page. Faye's clients send credentials with everything, which browsers
/// allow only where the origin is named; they mean nothing here, unless sessions are bound to a cookie, or a cookie may
/// carry a token.
pub const fn names_origins(config: &Config) -> bool {
    !config.bayeux.bind_sessions_to_cookie && config.tokens.cookie.is_none()
}
