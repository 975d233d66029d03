//! Subscribing and unsubscribing, and where a subscription begins: the extension `replay`, as the clients of
//! Salesforce's streaming API use it.

use super::channel::Channel;
use super::message::{self, Incoming};
use super::reply::{self, Replies};
use super::{Bayeux, Exchange, timesync};
use crate::broker::{Refusal, Search};
use crate::dialect::Context;
use crate::dialect::holder::{Holder, SessionKey};
use crate::dialect::hook::is_among;
use crate::hub::{Pattern, Start};
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
            Some(key) if self.is_of_another(exchange, key) => Err(reply::ANOTHER_SUBJECT.into()),
            Some(key) => self.search(cx, exchange, key, message, adds),
            None => Err(reply::SESSION_UNKNOWN.into()),
        };
        let out = replies.next();
        let channel = if adds { "\"/meta/subscribe\"" } else { "\"/meta/unsubscribe\"" };
        reply::begin(out, Some(channel), message.fit_id(), done.err().as_deref());
        if let Some(subscription) = message.subscription_token() {
            out.extend_from_slice(b",\"subscription\":");
            out.extend_from_slice(subscription.as_bytes());
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
        let search = cx.broker.search(cx.now.at, cx.client).map_err(reply::refused)?;
        let done = self.carry_out(cx, &search, exchange, key, message, adds);
        cx.broker.end_search(cx.now.at, search);
        done
    }

    /// Carries out all that the message asks for, or nothing.
    fn carry_out(
        &mut self,
        cx: &mut Context,
        search: &Search,
        exchange: &Exchange,
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
                Some(channel) if adds => {
                    self.may_subscribe(cx, exchange, key, text, &channel)?;
                    channels.push((text, channel));
                }
                Some(channel) => channels.push((text, channel)),
            }
        }
        if !adds {
            return self.unsubscribe(cx, search, key, channels.into_iter().map(|(_, channel)| channel));
        }
        self.check_room(cx, key, channels.iter().map(|(_, channel)| channel))?;
        let positions = positions(message.ext().replay);
        let (names, patterns) = sort(channels.into_iter().map(|(_, channel)| channel));
        let begins = positions.as_ref().map(|positions| {
            let read = |(channel, position): (&Cow<str>, &i64)| {
                Some((channel.strip_prefix('/')?.to_owned(), start_at(cx, *position)))
            };
            positions.iter().filter_map(read).collect::<BTreeMap<_, _>>()
        });
        let start = |name: &str| *begins.as_ref().and_then(|begins| begins.get(name)).unwrap_or(&Start::Now);
        self.subscribe(cx, search, key, &names, &patterns, start).map_err(reply::refused)?;
        Self::note_words(cx, exchange, key);
        self.sessions.get(key).replay |= positions.is_some();
        Ok(())
    }

    /// Whether the session may listen to `channel`: the settings list it, and the judge allows it.
    fn may_subscribe(
        &self,
        cx: &Context,
        exchange: &Exchange,
        key: SessionKey,
        text: &str,
        channel: &Channel,
    ) -> Result<(), Cow<'static, str>> {
        let (listed, name) = match channel {
            Channel::Name(name) => (self.subscribe.name(name), *name),
            Channel::Pattern(pattern) => (self.subscribe.pattern(pattern), pattern.as_str()),
            Channel::Meta | Channel::Service => (false, ""),
        };
        match listed {
            true => self.judge_subscribe(cx, exchange, key, name),
            false => Err(reply::denied(text, "subscribe").into()),
        }
    }

    /// Whether the session may have so many more, and the hub has room for them.
    fn check_room<'a>(
        &mut self,
        cx: &mut Context,
        key: SessionKey,
        channels: impl Iterator<Item = &'a Channel<'a>> + Clone,
    ) -> Result<(), Cow<'static, str>> {
        let has =
            self.sessions.get(key).subscriber.map_or(0, |subscriber| cx.broker.hub.subscriptions(subscriber));
        if has + channels.clone().count() > cx.config.bayeux.subscriptions {
            cx.broker.stats.subscriptions_refused += 1;
            return Err(reply::TOO_MANY_SUBSCRIPTIONS.into());
        }
        let names = channels.filter_map(|channel| match channel {
            Channel::Name(name) => Some(*name),
            _ => None,
        });
        cx.broker.hub.admits_listener(names).map_err(|_| reply::TOO_MANY_CHANNELS.into())
    }

    /// Adds subscriptions. The first attach the session to the hub.
    fn subscribe(
        &mut self,
        cx: &mut Context,
        search: &Search,
        key: SessionKey,
        names: &[&str],
        patterns: &[Pattern],
        start: impl Fn(&str) -> Start,
    ) -> Result<(), Refusal> {
        let now = cx.now.at;
        let session = self.sessions.get(key);
        if let Some(subscriber) = session.subscriber {
            cx.broker.subscribe(now, search, subscriber, names, patterns, &start)?;
            let all = names.iter().copied().chain(patterns.iter().map(Pattern::as_str));
            if all.into_iter().any(|name| start(name) != Start::Now) {
                // The cursor may have moved back: what is on its way could no longer be acknowledged by it.
                session.sent = 0;
            }
            return Ok(());
        }
        session.subscriber = match (names, patterns) {
            ([], []) => None,
            ([name], []) => Some(cx.broker.attach(now, Holder::Bayeux(key).into(), &[name], start(name))?),
            _ => {
                let subscriber = cx.broker.attach(now, Holder::Bayeux(key).into(), &[], Start::Now)?;
                let done = cx.broker.subscribe(now, search, subscriber, names, patterns, start);
                done.inspect_err(|_| cx.broker.hub.detach(now, subscriber))?;
                Some(subscriber)
            }
        };
        Ok(())
    }

    /// Takes subscriptions away. What was never subscribed is none of them.
    fn unsubscribe<'a>(
        &mut self,
        cx: &mut Context,
        search: &Search,
        key: SessionKey,
        channels: impl Iterator<Item = Channel<'a>>,
    ) -> Result<(), Cow<'static, str>> {
        let Some(subscriber) = self.sessions.get(key).subscriber else { return Ok(()) };
        let (names, patterns) = sort(channels);
        let done = cx.broker.unsubscribe(cx.now.at, search, subscriber, &names, &patterns);
        if cx.access.hook.grant_of(Holder::Bayeux(key)).is_some() {
            let (listened, _) = cx.broker.hub.listens_to(subscriber);
            cx.access.hook.listeners.keep(Holder::Bayeux(key), |name| is_among(&listened, name));
        }
        done.map_err(|refusal| reply::refused(refusal).into())
    }
}

/// The names and the patterns among channels.
fn sort<'a>(channels: impl Iterator<Item = Channel<'a>>) -> (Vec<&'a str>, Vec<Pattern>) {
    let (mut names, mut patterns): (Vec<&str>, Vec<Pattern>) = (Vec::new(), Vec::new());
    for channel in channels {
        match channel {
            Channel::Name(name) => names.push(name),
            Channel::Pattern(pattern) => patterns.push(pattern),
            Channel::Meta | Channel::Service => {}
        }
    }
    (names, patterns)
}

/// The channels that `subscription` names.
pub fn subscriptions<'a>(message: &Incoming<'a>) -> Result<Vec<Cow<'a, str>>, Cow<'static, str>> {
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
    let epoch = cx.broker.hub.newest().epoch;
    match u64::try_from(position) {
        Err(_) if position == -1 => Start::Now,
        Err(_) => Start::Oldest,
        Ok(position) => match replayed_seq(position, epoch) {
            Some(seq) if cx.broker.hub.is_ours(MessageId { epoch, seq }) => {
                Start::After(MessageId { epoch, seq })
            }
            _ => Start::Oldest,
        },
    }
}
