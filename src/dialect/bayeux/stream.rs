//! Faye's eventsource: events come as server-sent events on `GET <mount>/<clientId>`, everything else by POST.

use super::reply::Replies;
use super::session::Pipe;
use super::{Bayeux, Visitor, http};
use crate::conn::ConnId;
use crate::dialect::{Act, Context};
use crate::transport::NOT_KEPT;
use crate::wire::media;
use crate::wire::response::{INERT, Response};

/// What a stream begins with: how long to wait before reconnecting, in milliseconds.
const OPENING: &[u8] = b"retry: 5000\r\n\r\n";

impl Bayeux {
    /// Begins the stream of the session with that client id. An older stream of the session ends.
    pub(super) fn begin_stream(&mut self, cx: &mut Context, from: ConnId, client_id: &str, visitor: Visitor) {
        let bound = cx.config.bayeux.bind_sessions_to_cookie;
        let found = self.sessions.find(client_id);
        let Some(key) = found.filter(|&key| !bound || self.sessions.get(key).cookie == visitor.cookie) else {
            if self.has_asked_enough(cx, visitor) {
                return cx.act(from, Act::Answer(http::flooded()));
            }
            self.unknown.count(cx.now.at, visitor.address);
            let detail = "there is no such session; it may have expired: begin another with a handshake";
            return cx.act(from, Act::Answer(Response::problem(404, detail, false)));
        };
        let mut head = Response::new(200, media::EVENT_STREAM, &b""[..])
            .with("Cache-Control", NOT_KEPT)
            .with("X-Accel-Buffering", "no");
        head.fields.to_mut().push_str(INERT);
        cx.act(from, Act::Begin(head));
        cx.act(from, Act::Write(OPENING.to_vec()));
        // Whoever polled until there is a stream goes on with that. If the connection of the poll is lost, and nobody knows
        // yet, nothing is given to it any more.
        if self.sessions.get(key).held.as_ref().is_some_and(|held| !held.socket) {
            self.answer_held(cx, key, Replies::new());
        }
        let session = self.sessions.get(key);
        session.since = cx.now.at;
        let older = session.pipe.replace(Pipe { connection: from, socket: false });
        close(cx, older);
        self.hold(from, key);
        // A stream that was lost comes back: what has been waiting follows at the end of the turn.
        if let Some(subscriber) = self.sessions.get(key).subscriber {
            cx.broker.hub.mark(subscriber);
        }
    }
}

/// Ends a stream that nobody needs any more; a WebSocket may have other uses.
pub fn close(cx: &mut Context, pipe: Option<Pipe>) {
    if let Some(pipe) = pipe.filter(|pipe| !pipe.socket) {
        cx.act(pipe.connection, Act::End);
    }
}

/// Sends events.
pub fn push(cx: &mut Context, pipe: Pipe, events: Replies) {
    if pipe.socket {
        return cx.act(pipe.connection, Act::Write(events.finish()));
    }
    let mut frame = b"data: ".to_vec();
    frame.extend_from_slice(&events.finish());
    frame.extend_from_slice(b"\r\n\r\n");
    cx.act(pipe.connection, Act::Write(frame));
}

/// Keeps proxies from taking the connection for dead.
pub fn sign_of_life(cx: &mut Context, pipe: Pipe) {
    if !pipe.socket && !cx.is_blocked(pipe.connection) {
        cx.act(pipe.connection, Act::Write(b":\r\n\r\n".to_vec()));
    }
}
