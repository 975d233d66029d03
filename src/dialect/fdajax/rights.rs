//! Rules of channels and tokens, as far as FDAjax has to do with them: groups are channels. A query has no room for a
//! token, so it comes as `Authorization` or in a cookie. A user's own channel is the session's to open.

use super::query::{Query, Verb};
use super::types;
use super::windows::{Window, group_channel};
use super::{Fdajax, WindowKey};
use crate::broker::access::{Bad, Bearer, Grant, Revocation};
use crate::conn::ConnId;
use crate::dialect::{Act, Context, Denial, Heard, Holder, Identity};
use crate::hub::SubscriberKey;
use crate::wire::head::Head;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Whether all groups that a request names may be listened to, or sent to.
pub fn judge(context: &Context, identity: &Identity, query: &Query) -> Result<(), Denial> {
    if context.access.rules.is_open() {
        return Ok(());
    }
    // Being on the same machine is a right of the native API alone.
    let who = Bearer { local: false, ..identity.bearer() };
    match query.verb {
        Verb::Cancel => Ok(()),
        Verb::ChatSig => match query.types.only().filter(|kind| types::is_group(*kind)) {
            // Without a rule, `fdajax.allow_peer_call` decides.
            Some(kind) => context.access.judge_publish(who, &group_channel(kind)).unwrap_or(Ok(())),
            None => Ok(()),
        },
        _ => {
            let groups: Vec<String> = query.types.groups().map(group_channel).collect();
            context.access.judge_subscribe(who, groups.iter().map(String::as_str))
        }
    }
}

/// Whether all groups that a request names may be listened to, or sent to, by what the application says about them, where
/// it is asked. `None` = it has to be asked first.
pub fn hear(
    context: &mut Context,
    from: ConnId,
    head: &Head,
    identity: &mut Identity,
    query: &Query,
) -> Option<Result<(), Denial>> {
    let unheard = match judge(context, identity, query) {
        Err(Denial::Unheard(unheard)) => *unheard,
        judged => return Some(judged),
    };
    let Some(asker) = context.asker(head, "fdajax") else { return Some(Err(Denial::OtherPage)) };
    match context.hear(from, &asker, unheard, head.target.len()) {
        Heard::Word(word) => identity.said.push(word),
        Heard::Waits => return None,
        Heard::Denied(denial) => return Some(Err(denial)),
    }
    context.access.hook.forget(from);
    Some(judge(context, identity, query))
}

impl Fdajax {
    /// Notes by what right the window that a connection holds listens.
    pub(super) fn note_right(&mut self, context: &mut Context, from: ConnId, identity: Identity) {
        let Some(key) = self.window_of(from) else { return };
        context.access.hook.end(Holder::Window(key));
        for word in identity.said.iter().filter(|word| !word.grant.subscribe.is_empty()) {
            context.access.hook.listen(context.now.at, Holder::Window(key), word);
        }
        match identity.grant {
            Some(grant) => {
                context.access.note(&grant);
                self.grants.insert(key, grant);
            }
            None => _ = self.grants.remove(&key),
        }
    }

    /// Ends the windows whose token has ended.
    pub fn end_grants(&mut self, context: &mut Context) {
        let all: Vec<_> = self.grants.iter().map(|(key, grant)| (*key, Rc::clone(grant))).collect();
        for (key, grant) in all {
            if grant.is_valid(context.now.unix) {
                context.access.note(&grant);
                continue;
            }
            self.end_refused(context, key, &Denial::BadToken(Bad::EXPIRED));
        }
    }

    /// Judges some of the windows again, from the place `from` on, after the settings have changed. Returns where to go on.
    pub fn judge_some(&mut self, context: &mut Context, from: usize, count: usize) -> Option<usize> {
        let refused = |key: WindowKey, window: &Window| {
            let grant = self.grants.get(&key);
            let has_fallen = grant.is_some_and(|grant| !context.access.stands(grant, context.now.unix));
            let groups: Vec<String> = window.types.groups().map(group_channel).collect();
            let held = context.access.hook.grant_of(Holder::Window(key));
            let who = Bearer { grant: grant.map(|grant| &**grant), held, ..Bearer::default() };
            has_fallen || context.access.judge_subscribe(who, groups.iter().map(String::as_str)).is_err()
        };
        let all: Vec<WindowKey> = self.windows.iter().map(|(key, _)| key).collect();
        let mut keys = all.into_iter().skip_while(|key| key.index() < from);
        let judged = keys.by_ref().take(count);
        let fallen: Vec<WindowKey> = judged.filter(|key| refused(*key, &self.windows[*key])).collect();
        let next = keys.next().map(WindowKey::index);
        for key in fallen {
            self.end_refused(context, key, &Denial::Forbidden("listening on".into()));
        }
        next
    }

    /// Ends the windows that a revocation concerns. Returns how many.
    pub fn revoke(&mut self, context: &mut Context, revocation: &Revocation) -> usize {
        let concerned: BTreeSet<WindowKey> = self
            .grants
            .iter()
            .filter(|(key, grant)| {
                let mut groups = self.windows[**key].types.groups().map(group_channel);
                revocation.concerns(grant) && groups.any(|group| revocation.takes(&group))
            })
            .map(|(key, _)| *key)
            .chain(self.concerned_by_word(context, revocation))
            .collect();
        for key in &concerned {
            context.broker.presence.expel(context.now.at, Holder::Window(*key).into(), |_| true);
            self.end_refused(context, *key, &Denial::Forbidden("listening on".into()));
        }
        concerned.len()
    }

    /// Windows that listen by a word of the application, which is taken back.
    fn concerned_by_word(&self, context: &Context, revocation: &Revocation) -> Vec<WindowKey> {
        let holders = context.access.hook.listeners.holders(|grant| revocation.concerns(grant));
        let windows = holders.into_iter().filter_map(|holder| match holder {
            Holder::Window(key) => Some(key),
            _ => None,
        });
        let loses = |key: &WindowKey| {
            let mut groups = self.windows[*key].types.groups().map(group_channel);
            groups.any(|group| revocation.takes(&group))
        };
        windows.filter(loses).collect()
    }

    /// The subscriber of a window.
    pub fn subscriber(&self, key: WindowKey) -> Option<SubscriberKey> {
        self.windows.get(key).map(|window| window.subscriber)
    }

    /// What a token grants to a window.
    pub fn grant(&self, key: WindowKey) -> Option<&Grant> {
        self.grants.get(&key).map(|grant| &**grant)
    }

    /// The channels that a window listens to.
    pub fn listened(&self, key: WindowKey) -> Vec<Rc<str>> {
        let groups = self.windows.get(key).map(|window| window.types.groups().map(group_channel));
        groups.into_iter().flatten().map(Rc::from).collect()
    }

    /// Takes note of what the application has said about a window.
    pub fn confirm(&mut self, context: &mut Context, key: WindowKey, is_same: bool) {
        if !self.windows.contains(key) {
            return context.access.hook.end(Holder::Window(key));
        }
        let groups: Vec<String> = self.windows[key].types.groups().map(group_channel).collect();
        let grant = self.grants.get(&key).map(|grant| &**grant);
        let who =
            Bearer { grant, held: context.access.hook.grant_of(Holder::Window(key)), ..Bearer::default() };
        let judged = context.access.judge_subscribe(who, groups.iter().map(String::as_str));
        if !is_same || judged.is_err() {
            self.end_refused(context, key, &Denial::Forbidden("listening on".into()));
        }
    }

    /// Ends a window by the application's word, which counts no more.
    pub fn end_word(&mut self, context: &mut Context, key: WindowKey) {
        if self.windows.contains(key) {
            self.end_refused(context, key, &Denial::Unanswered);
        }
    }

    /// Ends a window whose right to listen has ended. A stream has no words for it.
    fn end_refused(&mut self, context: &mut Context, key: WindowKey, refusal: &Denial) {
        if let Some(connection) = self.windows[key].connection() {
            let act = match self.windows[key].stream {
                true => Act::End,
                false => Act::Answer(refusal.response(false)),
            };
            context.act(connection, act);
        }
        self.forget(context, key);
    }
}
