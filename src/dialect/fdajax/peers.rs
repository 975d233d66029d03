//! What pages may do besides waiting: send to each other, and cancel.

use super::query::Query;
use super::{Fdajax, answers, script, types};
use crate::dialect::Context;
use crate::dialect::holder::UserKey;
use crate::wire::response::Response;

impl Fdajax {
    /// Serves `cancel`: ends a window, or dismisses an alert.
    pub(super) fn cancel(
        &mut self,
        context: &mut Context,
        user: UserKey,
        query: &Query,
    ) -> Result<Response, Response> {
        let was_there = match (query.win_id, query.alert_id) {
            (0, 0) => return Err(answers::refusal(400, "cancel needs win_id or alert_id")),
            (0, alert) => {
                let account = self.users.get_mut(user).account.as_mut();
                account.is_some_and(|account| account.post.dismiss(alert))
            }
            (window, _) => {
                self.note_gone(context, user);
                self.cancel_window(context, user, window)
            }
        };
        let is_silent = query.mes.as_ref().is_some_and(|mes| mes.starts_with(b"noresult"));
        let word: &[u8] = match was_there {
            _ if is_silent => b"",
            true => b"CLOSED",
            false => b"NOT_FOUND",
        };
        Ok(answers::to_page(word, query.win_st))
    }

    /// Serves `chat_sig`: calls a function in the pages of another user, or of everybody in a group.
    pub(super) fn signal(
        &mut self,
        context: &mut Context,
        user: UserKey,
        query: &Query,
    ) -> Result<Response, Response> {
        let (Some(kind), Some(arguments)) = (query.types.only(), &query.mes) else {
            return Err(answers::refusal(400, "chat_sig needs one type and mes"));
        };
        let max = context.config.limits.fdajax_peer_calls;
        // Any cookie is a session, and costs nothing.
        let client = context.client;
        let is_within = match client.counted {
            true => self.calls.count(context.now.at, client.address) <= max,
            false => self.users.get_mut(user).may_call(context.now.at, max),
        };
        if !is_within {
            context.broker.stats.publications_refused += 1;
            return Err(answers::refusal(429, "limits.fdajax_peer_calls is reached").with("Retry-After", 1));
        }
        let word = match types::is_group(kind) {
            true => self.signal_group(context, user, kind, arguments)?,
            false => self.signal_peer(context, user, kind, arguments, query)?,
        };
        Ok(answers::to_page(word.as_bytes(), query.win_st))
    }

    fn signal_group(
        &self,
        context: &mut Context,
        user: UserKey,
        kind: u8,
        arguments: &[u8],
    ) -> Result<&'static str, Response> {
        if !is_allowed(context, kind) || !script::is_arguments(arguments) {
            return Ok("WRONG_SYNTAX");
        }
        let (sender, name) = (self.users.get(user).id(), types::NAMES[usize::from(kind)]);
        let call = format!("{}({sender},\"{name}\",", context.config.fdajax.js_grp_peer_func);
        self.publish_to_group(context, kind, [call.as_bytes(), &script::disarm(arguments), b");"].concat())?;
        Ok("CMD_OK")
    }

    fn signal_peer(
        &mut self,
        context: &mut Context,
        user: UserKey,
        kind: u8,
        arguments: &[u8],
        query: &Query,
    ) -> Result<&'static str, Response> {
        let Some(account) = self.users.get(user).account.as_ref().filter(|_| query.peer_id != 0) else {
            return Err(answers::refusal(403, "guests send to groups only; others need a peer_id"));
        };
        let sender = account.id;
        if !account.peers.contains(&query.peer_id) {
            return Ok("NOT_IN_CHAT");
        }
        let Some(peer) = self.users.of_id(query.peer_id) else { return Ok("USER_NOT_LOGGED") };
        let mut ids = query.types.ids(kind);
        let (Some(id), None) = (ids.next(), ids.next()) else { return Ok("WRONG_SYNTAX") };
        if !is_allowed(context, kind) || !script::is_arguments(arguments) {
            return Ok("WRONG_SYNTAX");
        }
        let name = types::NAMES[usize::from(kind)];
        let call = format!("{}({sender},\"{name}\",{id},", context.config.fdajax.js_peer_func);
        let text = [call.as_bytes(), &script::disarm(arguments), b");"].concat();
        self.publish_to_user(context, peer, query, text)?;
        Ok("CMD_OK")
    }
}

fn is_allowed(context: &Context, kind: u8) -> bool {
    context.config.fdajax.allow_peer_call.iter().any(|name| name == types::NAMES[usize::from(kind)])
}
