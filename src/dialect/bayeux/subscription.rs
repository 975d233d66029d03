//! Subscribing and unsubscribing, and where a subscription begins: the extension `replay`, as the clients of
//! Salesforce's streaming API use it.

use super::channel::Channel;
use super::message::{self, Incoming};
use super::reply::{self, Replies};
use super::{Bayeux, Exchange, timesync};
use crate::dialect::Context;
use crate::dialect::access;
use crate::dialect::holder::{Holder, SessionKey};
use crate::hub::{HubError, Pattern, Start};
use crate::id::MessageId;
use crate::transport::bayeux::replayed_seq;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Positions by channel.
type Positions<'a> = BTreeMap<Cow<'a, str>, i64>;

impl Bayeux {
    /// Adds subscriptions to a session, or takes them away.
    pub(super) fn change(
        &mut self,
        cx: &mut Context,
        exchange: &Exchange,
        message: &Incoming,
        replies: &mut Replies,
        adds: bool,
    ) {
        let done = match self.session_of(cx, exchange, message) {
            Some(key) => self.search(cx, exchange, key, message, adds),
            None => Err(reply::SESSION_UNKNOWN.into()),
        };
        let out = replies.next();
        let channel = if adds { "\"/meta/subscribe\"" } else { "\"/meta/unsubscribe\"" };
        reply::begin(out, Some(channel), message.id().unwrap_or_default(), done.err().as_deref());
        if let Some(subscription) = message.subscription {
            out.extend_from_slice(b",\"subscription\":");
            out.extend_from_slice(subscription.get().as_bytes());
        }
        timesync::write_ext(out, message, cx.now);
        replies.close();
    }

    /// Carries it out, unless the client's address has had too many channels looked at.
    fn search(
        &mut self,
        cx: &mut Context,
        exchange: &Exchange,
        key: SessionKey,
        message: &Incoming,
        adds: bool,
    ) -> Result<(), Cow<'static, str>> {
        let search = self.searches.begin(cx.now.at, exchange.visitor.counted(), cx.hub);
        let search = search.map_err(|_| reply::TOO_MANY_SEARCHES)?;
        let done = self.carry_out(cx, key, message, adds);
        self.searches.end(cx.now.at, search, cx.hub);
        done
    }

    /// Carries out all that the message asks for, or nothing.
    fn carry_out(
        &mut self,
        cx: &mut Context,
        key: SessionKey,
        message: &Incoming,
        adds: bool,
    ) -> Result<(), Cow<'static, str>> {
        let mut texts = subscriptions(message)?;
        texts.sort_unstable();
        texts.dedup();
        let mut channels = Vec::with_capacity(texts.len());
        for text in &texts {
            match Channel::read(text) {
                None => return Err(reply::SUBSCRIPTION_INVALID.into()),
                Some(Channel::Meta) => return Err(reply::denied(text, "subscribe").into()),
                // Private messages need no subscription.
                Some(Channel::Service) => {}
                Some(channel) if adds && !self.may_subscribe(cx, &channel) => {
                    return Err(reply::denied(text, "subscribe").into());
                }
                Some(channel) => channels.push((text, channel)),
            }
        }
        if !adds {
            self.unsubscribe(cx, key, channels.into_iter().map(|(_, channel)| channel));
            return Ok(());
        }
        self.check_room(cx, key, channels.iter().map(|(_, channel)| channel))?;
        let positions = positions(message.ext().replay);
        for (text, channel) in channels {
            let start = positions.as_ref().and_then(|positions| positions.get(&**text));
            let start = start.map_or(Start::Now, |&position| start_at(cx, position));
            self.subscribe(cx, key, channel, start).map_err(|_| reply::TOO_MANY_CHANNELS)?;
        }
        self.sessions.get(key).replay |= positions.is_some();
        Ok(())
    }

    /// Whether Bayeux clients may listen to `channel`: the settings list it, and it is not that of one of
    /// FDAjax's users.
    fn may_subscribe(&self, cx: &Context, channel: &Channel) -> bool {
        let (listed, name) = match channel {
            Channel::Name(name) => (self.subscribe.name(name), *name),
            Channel::Pattern(pattern) => (self.subscribe.pattern(pattern), pattern.as_str()),
            Channel::Meta | Channel::Service => return false,
        };
        listed && !access::is_private(cx.config, name)
    }

    /// Whether the session may have so many more, and the hub has room for them.
    fn check_room<'a>(
        &mut self,
        cx: &mut Context,
        key: SessionKey,
        channels: impl Iterator<Item = &'a Channel<'a>> + Clone,
    ) -> Result<(), Cow<'static, str>> {
        let has = self.sessions.get(key).subscriber.map_or(0, |subscriber| cx.hub.subscriptions(subscriber));
        if has + channels.clone().count() > cx.config.bayeux.subscriptions {
            cx.hub.stats.subscriptions_refused += 1;
            return Err(reply::TOO_MANY_SUBSCRIPTIONS.into());
        }
        let names = channels.filter_map(|channel| match channel {
            Channel::Name(name) => Some(*name),
            _ => None,
        });
        cx.hub.admits_listener(names).map_err(|_| reply::TOO_MANY_CHANNELS.into())
    }

    /// Adds one subscription. The first attaches the session to the hub.
    fn subscribe(
        &mut self,
        cx: &mut Context,
        key: SessionKey,
        channel: Channel,
        start: Start,
    ) -> Result<(), HubError> {
        let (name, pattern) = match channel {
            Channel::Name(name) => (Some(name), None),
            Channel::Pattern(pattern) => (None, Some(pattern)),
            Channel::Meta | Channel::Service => return Ok(()),
        };
        let session = self.sessions.get(key);
        if let Some(subscriber) = session.subscriber {
            if start != Start::Now {
                // The cursor may move back: what is on its way could no longer be acknowledged by it.
                session.sent = 0;
            }
            return cx.hub.subscribe(cx.now.at, subscriber, name.as_slice(), pattern.as_slice(), start);
        }
        let patterns = pattern.into_iter().collect();
        let subscriber =
            cx.hub.attach(cx.now.at, Holder::Bayeux(key).into(), name.as_slice(), patterns, start)?;
        session.subscriber = Some(subscriber);
        Ok(())
    }

    /// Takes subscriptions away. What was never subscribed is none of them.
    fn unsubscribe<'a>(
        &mut self,
        cx: &mut Context,
        key: SessionKey,
        channels: impl Iterator<Item = Channel<'a>>,
    ) {
        let Some(subscriber) = self.sessions.get(key).subscriber else { return };
        let (mut names, mut patterns): (Vec<&str>, Vec<Pattern>) = (Vec::new(), Vec::new());
        for channel in channels {
            match channel {
                Channel::Name(name) => names.push(name),
                Channel::Pattern(pattern) => patterns.push(pattern),
                Channel::Meta | Channel::Service => {}
            }
        }
        cx.hub.unsubscribe(cx.now.at, subscriber, &names, &patterns);
    }
}

/// The channels that `subscription` names.
fn subscriptions<'a>(message: &Incoming<'a>) -> Result<Vec<Cow<'a, str>>, Cow<'static, str>> {
    let raw = message.subscription.ok_or(reply::SUBSCRIPTION_MISSING)?;
    if let Some(one) = message::text(raw) {
        return Ok(vec![one]);
    }
    match serde_json::from_str::<Vec<String>>(raw.get()) {
        Ok(many) if !many.is_empty() => Ok(many.into_iter().map(Cow::Owned).collect()),
        Ok(_) => Err(reply::SUBSCRIPTION_MISSING.into()),
        Err(_) => Err(reply::SUBSCRIPTION_INVALID.into()),
    }
}

fn positions(raw: Option<&RawValue>) -> Option<Positions<'_>> {
    serde_json::from_str(raw?.get()).ok()
}

/// Where a position is: −1 = what comes, −2 = all that is kept, else after the event with this replay id. An id
/// of another life of the server can only be answered with all that is kept.
fn start_at(cx: &Context, position: i64) -> Start {
    let MessageId { epoch, seq: newest } = cx.hub.newest();
    match u64::try_from(position) {
        Err(_) if position == -1 => Start::Now,
        Err(_) => Start::Oldest,
        Ok(position) => match replayed_seq(position, epoch) {
            Some(seq) if seq <= newest => Start::After(MessageId { epoch, seq }),
            _ => Start::Oldest,
        },
    }
}
