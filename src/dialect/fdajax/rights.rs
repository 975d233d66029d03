//! Rules of channels and tokens, as far as FDAjax has to do with them: groups are channels. A query has no room for a
//! token, so it comes as `Authorization` or in a cookie. A user's own channel is the session's to open.

use super::query::{Query, Verb};
use super::types;
use super::windows::{Window, group_channel};
use super::{Fdajax, WindowKey};
use crate::broker::access::{Bad, Bearer, Revocation};
use crate::conn::ConnId;
use crate::dialect::{Act, Context, Denial, Identity};
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

impl Fdajax {
    /// Notes by what right the window that a connection holds listens.
    pub(super) fn note_right(&mut self, context: &mut Context, from: ConnId, identity: Identity) {
        let Some(key) = self.window_of(from) else { return };
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

    /// Judges the windows again, after the settings have changed.
    pub fn judge_windows(&mut self, context: &mut Context) {
        let refused = |key: WindowKey, window: &Window| {
            let grant = self.grants.get(&key);
            let has_fallen = grant.is_some_and(|grant| !context.access.stands(grant, context.now.unix));
            let groups: Vec<String> = window.types.groups().map(group_channel).collect();
            let who = Bearer { grant: grant.map(|grant| &**grant), ..Bearer::default() };
            has_fallen || context.access.judge_subscribe(who, groups.iter().map(String::as_str)).is_err()
        };
        let fallen: Vec<WindowKey> =
            self.windows.iter().filter(|(key, window)| refused(*key, window)).map(|(key, _)| key).collect();
        for key in fallen {
            self.end_refused(context, key, &Denial::Forbidden("listening on".into()));
        }
    }

    /// Ends the windows that a revocation concerns. Returns how many.
    pub fn revoke(&mut self, context: &mut Context, revocation: &Revocation) -> usize {
        let concerned: Vec<WindowKey> = self
            .grants
            .iter()
            .filter(|(key, grant)| {
                let mut groups = self.windows[**key].types.groups().map(group_channel);
                revocation.concerns(grant) && groups.any(|group| revocation.takes(&group))
            })
            .map(|(key, _)| *key)
            .collect();
        for key in &concerned {
            self.end_refused(context, *key, &Denial::Forbidden("listening on".into()));
        }
        concerned.len()
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
