//! The application's word over Bayeux: before anything of a batch is done, what has to be asked about it is.

use super::channel::Channel;
use super::message::Incoming;
use super::reply::{self, Advice};
use super::subscription::subscriptions;
use super::{Bayeux, Exchange, SessionKey};
use crate::broker::access::{Action, Asker};
use crate::dialect::{Act, Context, Denial, Heard, Holder, Unheard};
use std::rc::Rc;

impl Bayeux {
    /// Hears what the application says about the messages of a batch of `bytes` bytes. Returns false if they have to wait
    /// for it.
    pub(super) fn hear(
        &self,
        cx: &mut Context,
        exchange: &mut Exchange,
        messages: &[Incoming],
        asker: impl FnOnce(&Context) -> Option<Rc<Asker>>,
        bytes: usize,
    ) -> bool {
        if !cx.access.rules.asks() || exchange.identity.is_err() {
            return true;
        }
        let mut asker = Some(asker);
        let mut known = None;
        for action in [Action::Subscribe, Action::Publish] {
            let channels = self.unheard(cx, exchange, messages, action);
            if channels.is_empty() {
                continue;
            }
            if let Some(asker) = asker.take() {
                known = asker(cx);
            }
            let Some(asker) = &known else {
                exchange.denied = Some(Denial::OtherPage);
                continue;
            };
            match cx.hear(exchange.from, asker, Unheard { action, channels }, bytes) {
                Heard::Word(word) => exchange.said.push(word),
                Heard::Denied(denial) => exchange.denied = Some(denial),
                Heard::Waits => {
                    cx.act(exchange.from, Act::Wait);
                    return false;
                }
            }
        }
        cx.access.hook.forget(exchange.from);
        true
    }

    /// The channels among those that messages name about which the application has to be asked.
    fn unheard(
        &self,
        cx: &Context,
        exchange: &Exchange,
        messages: &[Incoming],
        action: Action,
    ) -> Vec<Box<str>> {
        let mut found = Vec::new();
        for message in messages {
            let Ok(Some(channel)) = message.channel() else { continue };
            let key = message.client_id().and_then(|id| self.sessions.find(&id));
            let bearer = self.bearer(cx, exchange, key);
            let mut note = |denial: Option<Denial>| {
                if let Some(Denial::Unheard(unheard)) = denial {
                    found.extend(unheard.channels);
                }
            };
            match (action, Channel::read(&channel)) {
                (Action::Publish, Some(Channel::Name(name))) => {
                    note(cx.access.judge_publish(bearer, name).and_then(Result::err));
                }
                (Action::Subscribe, Some(Channel::Meta)) if *channel == *"/meta/subscribe" => {
                    for text in subscriptions(message).unwrap_or_default() {
                        if let Some(Channel::Name(name)) = Channel::read(&text) {
                            note(cx.access.judge_subscribe(bearer, std::iter::once(name)).err());
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// The status of what somebody is denied: of what was not heard of, why not.
    pub(super) fn status(exchange: &Exchange, denial: &Denial) -> u16 {
        match (denial, &exchange.denied) {
            (Denial::Unheard(_), Some(denied)) => denied.status(),
            _ => denial.status(),
        }
    }

    /// Notes by what word of the application a session listens.
    pub(super) fn note_words(cx: &mut Context, exchange: &Exchange, key: SessionKey) {
        for word in exchange.said.iter().filter(|word| !word.grant.subscribe.is_empty()) {
            cx.access.hook.listen(cx.now.at, Holder::Bayeux(key), word);
        }
    }

    /// The channels that a session listens to by name.
    pub fn listened(&mut self, cx: &Context, key: SessionKey) -> Vec<Rc<str>> {
        let subscriber = self.sessions.look(key).and_then(|session| session.subscriber);
        subscriber.map_or_else(Vec::new, |subscriber| cx.broker.hub.listens_to(subscriber).0)
    }

    /// Takes note of what the application has said about a session when it was asked again.
    pub fn confirm(&mut self, cx: &mut Context, key: SessionKey, is_same: bool) {
        match self.sessions.look(key).is_some() {
            false => cx.access.hook.end(Holder::Bayeux(key)),
            true if is_same => self.end_ungranted(cx, key),
            true => self.end_because(cx, key, Some(reply::REVOKED), Advice::None),
        }
    }

    /// Ends a session by the application's word, which counts no more: its client begins another, and it is asked again.
    pub fn end_word(&mut self, cx: &mut Context, key: SessionKey) {
        if self.sessions.look(key).is_some() {
            self.end_because(cx, key, Some(reply::UNANSWERED), Advice::Handshake { interval_ms: 0 });
        }
    }
}
