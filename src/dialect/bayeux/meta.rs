//! Handshake, connect, disconnect.

use super::message::Incoming;
use super::reply::{self, Advice, Replies};
use super::session::{Held, Pipe};
use super::timesync::{self, Timesync};
use super::{Bayeux, Exchange, respond, stream};
use crate::dialect::holder::SessionKey;
use crate::dialect::{Act, Context};
use crate::wire::response::Response;
use std::io::Write;

/// What we offer; the order is the one in which clients that choose by the server's list prefer them.
pub const CONNECTION_TYPES: [&str; 5] =
    ["websocket", "eventsource", "long-polling", "cross-origin-long-polling", "callback-polling"];

/// How long a client waits before it asks again for a session that could not be begun.
const BUSY_INTERVAL_MS: u64 = 5000;
/// How long it waits at most if very many came at once.
const RETURN_MS_MAX: u64 = 60_000;

const HANDSHAKE: Option<&str> = Some("\"/meta/handshake\"");
const CONNECT: Option<&str> = Some("\"/meta/connect\"");
const DISCONNECT: Option<&str> = Some("\"/meta/disconnect\"");

impl Bayeux {
    /// Begins a session.
    pub(super) fn handshake(
        &mut self,
        cx: &mut Context,
        exchange: &Exchange,
        message: &Incoming,
        replies: &mut Replies,
    ) {
        let begun = self.begin_session(cx, exchange, message);
        let out = replies.next();
        reply::begin(out, HANDSHAKE, message.fit_id(), begun.err().map(|(failure, _)| failure));
        out.extend_from_slice(
            b",\"version\":\"1.0\",\"minimumVersion\":\"1.0\",\"supportedConnectionTypes\":",
        );
        let _ = serde_json::to_writer(&mut *out, &CONNECTION_TYPES);
        match begun {
            Err((_, advice)) => {
                advice.write(out);
                timesync::write_ext(out, message, cx.now);
            }
            Ok(key) => {
                out.extend_from_slice(b",\"clientId\":\"");
                out.extend_from_slice(self.sessions.client_id(key).as_bytes());
                out.push(b'"');
                self.advice(cx.config, key).write(out);
                out.extend_from_slice(b",\"ext\":{\"replay\":true");
                if self.sessions.get(key).acks {
                    out.extend_from_slice(b",\"ack\":true");
                }
                if let Some(timesync) = Timesync::read(message.ext().timesync, cx.now) {
                    timesync.write(out, cx.now.at);
                }
                out.push(b'}');
            }
        }
        replies.close();
    }

    /// A new session, or why there is none and what the client should do.
    fn begin_session(
        &mut self,
        cx: &mut Context,
        exchange: &Exchange,
        message: &Incoming,
    ) -> Result<SessionKey, (&'static str, Advice)> {
        let later = Advice::Handshake { interval_ms: BUSY_INTERVAL_MS };
        let per_second = cx.config.bayeux.handshakes_per_second;
        let earlier = self.handshakes.count(cx.now.at, exchange.visitor.address) - 1;
        if earlier >= per_second {
            // Those who are too many come back one after the other, as many in a second as are welcome then.
            let interval_ms = (1000 * u64::from(earlier / per_second)).min(RETURN_MS_MAX);
            cx.broker.stats.sessions_refused += 1;
            return Err((reply::TOO_MANY_HANDSHAKES, Advice::Handshake { interval_ms }));
        }
        if !message.has_version() {
            return Err((reply::VERSION_MISSING, Advice::None));
        }
        let wanted = message.connection_types();
        if !wanted.iter().any(|wanted| CONNECTION_TYPES.contains(&wanted.as_str())) {
            return Err((reply::TYPES_UNSUPPORTED, Advice::None));
        }
        if self.sessions.len() >= cx.config.bayeux.sessions {
            cx.broker.stats.sessions_refused += 1;
            return Err((reply::TOO_MANY_SESSIONS, later));
        }
        if !cx.broker.admits_session(cx.client) {
            cx.broker.stats.sessions_refused += 1;
            return Err((reply::MEMORY_SHORT, later));
        }
        let identity = Self::identity_of(cx, exchange, message)
            .map_err(|denial| (reply::of_denial(&denial), Advice::None))?;
        let key = self.sessions.begin(self.secrets.draw(), exchange.visitor.cookie, cx.now.at);
        self.note_identity(cx, key, identity);
        let session = self.sessions.get(key);
        session.acks = message.ext().ack.is_some_and(|ack| ack.get() == "true");
        // What comes before the first connect need not wait for it.
        if exchange.socket {
            session.pipe = Some(Pipe { connection: exchange.from, socket: true });
            self.hold(exchange.from, key);
        }
        self.arm(cx, key);
        Ok(key)
    }

    /// Answers a connect: when there is news, when its time is up, or at once if the client does not want to
    /// wait.
    pub(super) fn connect(
        &mut self,
        cx: &mut Context,
        exchange: &Exchange,
        message: &Incoming,
        replies: &mut Replies,
    ) {
        let id = message.fit_id();
        let Some(key) = self.session_of(cx, exchange, message) else {
            return refuse_connect(cx, message, replies);
        };
        if self.is_of_another(exchange, key) {
            return refuse_token(replies, id, reply::ANOTHER_SUBJECT, Advice::None);
        }
        if let Err(failure) = self.renew(cx, key, message) {
            return refuse_token(replies, id, failure, self.advice(cx.config, key));
        }
        self.release_older(cx, key);
        let ext = message.ext();
        if let Some(batch) = ext.ack.and_then(|raw| raw.get().parse().ok()) {
            self.acknowledge(cx, key, batch);
        }
        let by_stream = !exchange.socket && message.connection_type().as_deref() == Some("eventsource");
        let patience_ms = self.patience(cx, key, exchange, message, by_stream);
        self.choose_pipe(cx, key, exchange, by_stream);
        let timesync = Timesync::read(ext.timesync, cx.now);
        let session = self.sessions.get(key);
        session.connected = true;
        let Some(news) = (if session.pushes().is_some() {
            self.note_gaps(cx, key)
        } else {
            self.collect(cx, key, replies)
        }) else {
            return refuse_connect(cx, message, replies);
        };
        if news || patience_ms == 0 {
            self.write_connect(cx, key, id, timesync.as_ref(), replies);
        } else {
            self.sessions.get(key).held = Some(Box::new(Held {
                connection: exchange.from,
                socket: exchange.socket,
                id: id.map(Into::into),
                until: cx.now.at + patience_ms,
                callback: exchange.callback.clone(),
                timesync: timesync.map(Box::new),
            }));
            self.hold(exchange.from, key);
        }
        self.arm(cx, key);
    }

    /// For how long a connect is held, in milliseconds: not at all if it is the first, so that the client knows
    /// it is connected, nor beside other messages, whose replies would have to wait, nor if events come on a
    /// stream.
    fn patience(
        &mut self,
        cx: &Context,
        key: SessionKey,
        exchange: &Exchange,
        message: &Incoming,
        by_stream: bool,
    ) -> u64 {
        let waits = self.sessions.get(key).connected && exchange.alone && !by_stream && !self.draining;
        let timeout_ms = cx.config.bayeux.timeout_ms;
        match waits {
            true => message.timeout_ms().map_or(timeout_ms, |wanted| wanted.min(timeout_ms)),
            false => 0,
        }
    }

    /// Events go where the session last connected. A stream stays open while its client polls: Faye's opens it
    /// first, and polls until it is open.
    fn choose_pipe(&mut self, cx: &mut Context, key: SessionKey, exchange: &Exchange, by_stream: bool) {
        let session = self.sessions.get(key);
        session.paced = by_stream;
        let stream = session.pipe.filter(|pipe| !pipe.socket);
        session.pipe = match exchange.socket {
            true => Some(Pipe { connection: exchange.from, socket: true }),
            false => stream,
        };
        let subscriber = session.subscriber;
        match stream {
            Some(stream) if by_stream => stream::sign_of_life(cx, stream),
            Some(_) if exchange.socket => stream::close(cx, stream),
            _ => {}
        }
        if exchange.socket {
            self.hold(exchange.from, key);
        }
        // What has been waiting follows at the end of the turn.
        if let Some(subscriber) = subscriber.filter(|_| exchange.socket || by_stream) {
            cx.broker.hub.mark(subscriber);
        }
    }

    /// Writes the reply to a connect that is answered now.
    pub(super) fn write_connect(
        &mut self,
        cx: &Context,
        key: SessionKey,
        id: Option<&str>,
        timesync: Option<&Timesync>,
        replies: &mut Replies,
    ) {
        let advice = self.advice(cx.config, key);
        let session = self.sessions.get(key);
        session.since = cx.now.at;
        let out = replies.next();
        reply::begin(out, CONNECT, id, None);
        advice.write(out);
        let mut ext = Vec::new();
        if session.acks {
            session.batch += 1;
            let _ = write!(ext, ",\"ack\":{}", session.batch);
        }
        for (index, channel) in session.tell_gaps().iter().enumerate() {
            ext.extend_from_slice(if index == 0 { b",\"gap\":[" } else { b"," });
            reply::string(&mut ext, &format!("/{channel}"));
        }
        if ext.contains(&b'[') {
            ext.push(b']');
        }
        if let Some(timesync) = timesync {
            timesync.write(&mut ext, cx.now.at);
        }
        if let Some((_, members)) = ext.split_first() {
            out.extend_from_slice(b",\"ext\":{");
            out.extend_from_slice(members);
            out.push(b'}');
        }
        replies.close();
    }

    /// Answers the connect that is held, behind the events in `replies`.
    pub(super) fn answer_held(&mut self, cx: &mut Context, key: SessionKey, mut replies: Replies) {
        let Some(held) = self.sessions.get(key).held.take() else { return };
        self.write_connect(cx, key, held.id.as_deref(), held.timesync.as_deref(), &mut replies);
        respond(cx, &held, replies);
        self.arm(cx, key);
    }

    /// Ends an older connect of the same session. Its answer is no Bayeux: a failure would make the client act
    /// on it, and the two would chase each other.
    fn release_older(&mut self, cx: &mut Context, key: SessionKey) {
        if let Some(older) = self.sessions.get(key).held.take()
            && !older.socket
        {
            let detail = "another connect of this session has taken the place of this one";
            cx.act(older.connection, Act::Answer(Response::problem(409, detail, false)));
        }
    }

    /// Ends a session.
    pub(super) fn disconnect(
        &mut self,
        cx: &mut Context,
        exchange: &Exchange,
        message: &Incoming,
        replies: &mut Replies,
    ) {
        let found = self.session_of(cx, exchange, message);
        let failure = found.is_none().then_some(reply::SESSION_UNKNOWN);
        let out = replies.next();
        reply::begin(out, DISCONNECT, message.fit_id(), failure);
        timesync::write_ext(out, message, cx.now);
        replies.close();
        if let Some(key) = found {
            self.end(cx, key, Advice::None);
        }
    }
}

/// Refuses a connect because of the token that it shows.
fn refuse_token(replies: &mut Replies, id: Option<&str>, failure: &str, advice: Advice) {
    let out = replies.next();
    reply::begin(out, CONNECT, id, Some(failure));
    advice.write(out);
    replies.close();
}

/// Refuses a connect of a session that is not there: the client has to begin another.
fn refuse_connect(cx: &Context, message: &Incoming, replies: &mut Replies) {
    let out = replies.next();
    reply::begin(out, CONNECT, message.fit_id(), Some(reply::SESSION_UNKNOWN));
    Advice::Handshake { interval_ms: 0 }.write(out);
    timesync::write_ext(out, message, cx.now);
    replies.close();
}
