//! Who a session is of, and what becomes of it when its token ends.
//!
//! A session has one identity: that of `ext.token` in its handshake, else that of the handshake's `Authorization`.
//! `ext.token` in a connect renews it. Being on the same machine is no right over Bayeux.

use super::message::Incoming;
use super::reply::{self, Advice, Replies};
use super::{Bayeux, Exchange, SessionKey};
use crate::broker::access::{Bearer, Grant, Revocation};
use crate::dialect::{Context, Denial, Holder, Identity, token};
use crate::hub::{Pattern, SubscriberKey};
use std::borrow::Cow;
use std::rc::Rc;

/// What a message is refused with whose request had shown a bad token, unless it brings a token of its own.
pub fn failure(exchange: &Exchange, message: &Incoming) -> Option<&'static str> {
    match &exchange.identity {
        Err(denial) if !(message.is_handshake() && message.ext().token.is_some()) => {
            Some(reply::of_denial(denial))
        }
        _ => None,
    }
}

/// Writes the reply to a message whose sender is refused whatever it asks.
pub fn refuse(replies: &mut Replies, channel: Option<&str>, id: Option<&str>, failure: &str) {
    let out = replies.next();
    reply::begin(out, channel, id, Some(failure));
    if matches!(channel, Some("\"/meta/handshake\"" | "\"/meta/connect\"")) {
        Advice::None.write(out);
    }
    replies.close();
}

impl Bayeux {
    /// The identity that a handshake gives its session.
    pub(super) fn identity_of(
        cx: &mut Context,
        exchange: &Exchange,
        message: &Incoming,
    ) -> Result<Identity, Denial> {
        match message.token() {
            Some(token) if cx.access.is_on() => shown(cx, &token),
            _ => exchange.identity.clone(),
        }
    }

    /// Notes what a session may do.
    pub(super) fn note_identity(&mut self, cx: &mut Context, key: SessionKey, identity: Identity) {
        if let Some(grant) = &identity.grant {
            cx.access.note(grant);
        }
        self.sessions.get(key).identity = Identity { local: false, ..identity };
    }

    /// Renews a session's identity by the token in a connect, if there is one.
    pub(super) fn renew(
        &mut self,
        cx: &mut Context,
        key: SessionKey,
        message: &Incoming,
    ) -> Result<(), &'static str> {
        let Some(token) = message.token().filter(|_| cx.access.is_on()) else { return Ok(()) };
        let new = shown(cx, &token).map_err(|denial| reply::of_denial(&denial))?;
        let old = &self.sessions.get(key).identity;
        if old.grant.is_some() && old.subject() != new.subject() {
            return Err(reply::ANOTHER_SUBJECT);
        }
        self.note_identity(cx, key, new);
        self.end_ungranted(cx, key);
        Ok(())
    }

    /// Whether a request shows the token of somebody else than the session is of.
    pub(super) fn is_of_another(&mut self, exchange: &Exchange, key: SessionKey) -> bool {
        let own = self.sessions.get(key).identity.subject();
        match &exchange.identity {
            Ok(shown) if shown.grant.is_some() => shown.subject() != own,
            _ => false,
        }
    }

    /// What is judged by for a message: a publish token that the request shows, else what the session may do, or,
    /// without one, what the request shows.
    pub(super) fn bearer<'a>(
        &'a self,
        cx: &'a Context,
        exchange: &'a Exchange,
        key: Option<SessionKey>,
    ) -> Bearer<'a> {
        let shown = exchange.identity.as_ref().ok();
        let own = key.and_then(|key| self.sessions.look(key)).map(|session| &session.identity);
        let bearer = shown.filter(|shown| shown.publisher).or(own).or(shown).map(Identity::bearer);
        let held = key.and_then(|key| cx.access.hook.grant_of(Holder::Bayeux(key)));
        Bearer { local: false, held, said: &exchange.said, ..bearer.unwrap_or_default() }
    }

    /// Whether all of `items` may be subscribed to.
    pub(super) fn judge_subscribe(
        &self,
        cx: &Context,
        exchange: &Exchange,
        key: SessionKey,
        item: &str,
    ) -> Result<(), Cow<'static, str>> {
        let judged = cx.access.judge_subscribe(self.bearer(cx, exchange, Some(key)), std::iter::once(item));
        judged.map_err(|denial| {
            let status = Self::status(exchange, &denial);
            reply::denied_with(status, &format!("/{item}"), "subscribe").into()
        })
    }

    /// Takes from a session what it may not listen to any more.
    pub(super) fn end_ungranted(&mut self, cx: &mut Context, key: SessionKey) {
        let session = self.sessions.get(key);
        let Some(subscriber) = session.subscriber else { return };
        let held = cx.access.hook.grant_of(Holder::Bayeux(key));
        let bearer = Bearer { local: false, held, ..session.identity.bearer() };
        let (mut names, mut patterns) = cx.broker.hub.listens_to(subscriber);
        let is_refused = |item: &str| cx.access.judge_subscribe(bearer, std::iter::once(item)).is_err();
        names.retain(|name| is_refused(name));
        patterns.retain(|pattern: &Pattern| is_refused(pattern.as_str()));
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        cx.broker.presence.expel(cx.now.at, Holder::Bayeux(key).into(), |name| names.contains(&name));
        if cx.broker.take_away(cx.now.at, subscriber, &names, &patterns).is_err() {
            // It listens to so much that taking some of it away is more work than a message may make: all of it ends.
            cx.broker.hub.detach(cx.now.at, subscriber);
            self.sessions.get(key).subscriber = None;
        }
    }

    /// The subscriber of a session.
    pub fn subscriber(&self, key: SessionKey) -> Option<SubscriberKey> {
        self.sessions.look(key)?.subscriber
    }

    /// What a token grants to a session.
    pub fn grant(&self, key: SessionKey) -> Option<&Grant> {
        self.sessions.look(key)?.identity.grant.as_deref()
    }

    /// Ends the sessions whose token has ended.
    pub fn end_grants(&mut self, cx: &mut Context) {
        for key in self.sessions.keys() {
            let Some(grant) = self.sessions.get(key).identity.grant.clone() else { continue };
            match grant.is_valid(cx.now.unix) {
                true => cx.access.note(&grant),
                false => {
                    let advice = Advice::Handshake { interval_ms: 0 };
                    self.end_because(cx, key, Some(reply::TOKEN_EXPIRED), advice);
                }
            }
        }
    }

    /// Judges some of the sessions again, from the place `from` on, after the settings have changed: one whose key is gone
    /// ends, and one loses what rules do not allow any more. Returns where to go on.
    pub fn judge_some(&mut self, cx: &mut Context, from: usize, count: usize) -> Option<usize> {
        if from == 0 {
            self.identities.clear();
        }
        let keys = self.sessions.keys();
        let mut keys = keys.into_iter().skip_while(|key| key.index() < from);
        for key in keys.by_ref().take(count) {
            let identity = &self.sessions.get(key).identity;
            match &identity.grant {
                Some(grant) if !cx.access.stands(grant, cx.now.unix) => {
                    self.end_because(cx, key, Some(reply::REVOKED), Advice::None);
                }
                _ => {
                    self.sessions.get(key).identity.publisher = false;
                    self.end_ungranted(cx, key);
                }
            }
        }
        keys.next().map(SessionKey::index)
    }

    /// Ends the sessions that a revocation concerns, or takes the channels from them. Returns how many lost something.
    pub fn revoke(&mut self, cx: &mut Context, revocation: &Revocation) -> usize {
        let mut count = 0;
        let is_concerned =
            |identity: &Identity| identity.grant.as_ref().is_some_and(|it| revocation.concerns(it));
        self.identities.retain(|_, identity| !is_concerned(identity));
        for key in self.sessions.keys() {
            let holder = Holder::Bayeux(key);
            let by_word = cx.access.hook.grant_of(holder).is_some_and(|grant| revocation.concerns(grant));
            let session = self.sessions.get(key);
            let grant = session.identity.grant.clone().filter(|grant| revocation.concerns(grant));
            if grant.is_none() && !by_word {
                continue;
            }
            if revocation.channels.is_empty() {
                cx.broker.presence.expel(cx.now.at, holder.into(), |_| true);
                self.end_because(cx, key, Some(reply::REVOKED), Advice::None);
                count += 1;
                continue;
            }
            let had = session.subscriber.map(|subscriber| cx.broker.hub.subscriptions(subscriber));
            if let Some(grant) = grant {
                let except = grant.except.iter().chain(&revocation.channels).cloned().collect();
                session.identity.grant = Some(Rc::new(Grant { except, ..Grant::clone(&grant) }));
            }
            if by_word {
                cx.access.hook.listeners.keep(holder, |name| !revocation.takes(name));
            }
            self.end_ungranted(cx, key);
            let has =
                self.sessions.get(key).subscriber.map(|subscriber| cx.broker.hub.subscriptions(subscriber));
            count += usize::from(has != had);
        }
        count
    }
}

/// Whose token that is.
fn shown(cx: &mut Context, token: &str) -> Result<Identity, Denial> {
    if token::is_one_of(token, &cx.config.publish.token) {
        return Ok(Identity { publisher: true, ..Identity::default() });
    }
    let grant = cx.access.check(token, cx.client, cx.config, cx.now, &mut cx.broker.stats)?;
    Ok(Identity { grant: Some(grant), ..Identity::default() })
}
