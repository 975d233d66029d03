//! Delivering: what is newer than a session's cursor becomes events, in the answer to its connect or on the
//! connection that they are pushed on.

use super::reply::{Advice, Replies};
use super::{Bayeux, stream};
use crate::dialect::Context;
use crate::dialect::holder::SessionKey;
use crate::hub::{EVERYWHERE, Encoded, GAPS_MAX, Message};
use crate::transport::bayeux;
use std::rc::Rc;

impl Bayeux {
    /// Sends a session what it lacks, if there is a way to.
    pub(super) fn deliver(&mut self, cx: &mut Context, key: SessionKey) {
        let session = self.sessions.get(key);
        if let Some(pipe) = session.pushes() {
            let subscriber = session.subscriber;
            if !cx.is_held(pipe.connection) || cx.is_blocked(pipe.connection) {
                return;
            }
            // A gap is told by the reply to a connect, and before the events behind it: they wait for that.
            if pipe.socket && self.note_gaps(cx, key) != Some(false) && !self.answer_for_gap(cx, key) {
                return;
            }
            let mut replies = Replies::new();
            if self.collect(cx, key, &mut replies).is_none() || replies.is_empty() {
                return;
            }
            stream::push(cx, pipe, replies);
            // There may be more: when this has been written, and if its client takes it.
            subscriber.into_iter().for_each(|subscriber| cx.broker.hub.mark(subscriber));
        } else if let Some(held) = &session.held {
            // Where a WebSocket has not taken what it was sent, events wait; see [`Bayeux::writable`].
            if held.socket && cx.is_blocked(held.connection) {
                return;
            }
            let mut replies = Replies::new();
            // Nobody may be there any more: the connect is answered, and the events wait for the next one.
            if cx.is_half_closed(held.connection) || self.collect(cx, key, &mut replies) == Some(true) {
                self.answer_held(cx, key, replies);
            }
        }
    }

    /// Has the connect at hand tell what gaps there are. False if there is no connect, or no session any more.
    fn answer_for_gap(&mut self, cx: &mut Context, key: SessionKey) -> bool {
        let is_held = self.sessions.look(key).is_some_and(|session| session.held.is_some());
        if is_held {
            self.answer_held(cx, key, Replies::new());
        }
        is_held
    }

    /// Takes note of the gaps that a session has to be told of. Returns whether there are some; `None` if the session
    /// has ended, because it missed messages.
    pub(super) fn note_gaps(&mut self, cx: &mut Context, key: SessionKey) -> Option<bool> {
        let session = self.sessions.get(key);
        let messages = cx.config.bayeux.answer_messages;
        let gaps =
            session.subscriber.map(|subscriber| cx.broker.hub.take_gaps_for(cx.now.at, subscriber, messages));
        let gaps = gaps.unwrap_or_default();
        if !gaps.is_empty() && cx.config.bayeux.end_session_on_gap {
            self.end(cx, key, Advice::Handshake { interval_ms: 0 });
            return None;
        }
        session.gaps.extend(gaps.into_iter().map(|gap| gap.channel));
        if session.gaps.len() > GAPS_MAX {
            session.gaps.truncate(GAPS_MAX - 1);
            session.gaps_told = session.gaps_told.min(GAPS_MAX as u32 - 1);
            session.gaps.push(EVERYWHERE.into());
        }
        Some(!session.gaps.is_empty())
    }

    /// Adds the events that a session lacks to `replies`, as many as one answer takes. Returns whether there is
    /// anything to tell; `None` if the session has ended, because it missed messages.
    pub(super) fn collect(
        &mut self,
        cx: &mut Context,
        key: SessionKey,
        replies: &mut Replies,
    ) -> Option<bool> {
        let settings = &cx.config.bayeux;
        let session = self.sessions.get(key);
        let Some(subscriber) = session.subscriber else { return Some(false) };
        if cx.broker.hub.has_had_all(subscriber) {
            return Some(!session.gaps.is_empty());
        }
        self.note_gaps(cx, key)?;
        let session = self.sessions.get(key);
        // What waits for an acknowledgement would be told again by each further connect in the same answer.
        if cx.room == 0 || session.acks && replies.has_events() {
            return Some(!session.gaps.is_empty());
        }
        let mut pulled: Vec<&Rc<Message>> = Vec::new();
        cx.broker.hub.pull(cx.now.at, subscriber, replies.room_for(settings.answer_messages), &mut pulled);
        let (mut count, mut last) = (0, 0);
        let mut encoded = Encoded::default();
        for message in pulled {
            let (event, new) = bayeux::event(message, session.replay);
            encoded.note(message, new);
            // What is on a channel that Bayeux keeps for itself is not for its clients.
            if !event.is_empty() {
                if !replies.add_event(event, settings.answer_bytes.min(cx.room)) {
                    break;
                }
                count += 1;
            }
            last = message.id.seq;
        }
        match session.acks && count > 0 {
            true => session.sent = last,
            false if last > 0 => {
                cx.broker.hub.advance(subscriber, last);
                if cx.broker.hub.is_cut(subscriber) {
                    cx.broker.hub.mark(subscriber);
                }
            }
            false => {}
        }
        cx.broker.hub.charge(&encoded);
        cx.broker.stats.messages_delivered += count;
        cx.broker.stats.deliveries += u64::from(count > 0);
        Some(count > 0 || !session.gaps.is_empty())
    }

    /// Takes note that a client has received batch number `batch`. If that is the last one, its messages are
    /// delivered; else they will be sent again.
    pub(super) fn acknowledge(&mut self, cx: &mut Context, key: SessionKey, batch: u32) {
        let session = self.sessions.get(key);
        let sent = std::mem::take(&mut session.sent);
        session.settle_gaps(batch >= session.batch);
        if let Some(subscriber) = session.subscriber
            && sent > 0
            && session.acks
            && batch >= session.batch
        {
            cx.broker.hub.advance(subscriber, sent);
        }
    }
}
