//! Commands of the application: who is logged in, who may talk to whom, and messages for them.

use super::post::{Bounds, Post};
use super::query::{Query, Verb};
use super::types;
use super::users::{Account, PEERS_MAX};
use super::windows::{State, group_channel, refused, user_channel};
use super::{Fdajax, Rank, answers, info};
use crate::broker::Publishing;
use crate::dialect::Context;
use crate::dialect::holder::{Holder, UserKey, WindowKey};
use crate::hub::{Data, Owner, Publication, Start};
use crate::wire::response::Response;
use std::net::IpAddr;

const NOT_LOGGED: &str = "USER_NOT_LOGGED";
const NOT_FOUND: &str = "USER_NOT_FOUND";
const OK: &str = "CMD_OK";

fn missing(what: &str) -> Response {
    answers::refusal(400, &format!("the command needs {what}"))
}

impl Fdajax {
    /// Carries out a command of the application.
    pub(super) fn command(&mut self, context: &mut Context, query: &Query) -> Result<Response, Response> {
        let word = match query.verb {
            Verb::Info => return Ok(info::page(self, context)),
            Verb::Login => self.login(context, query)?,
            Verb::Push => self.push(context, query)?,
            Verb::Alert => self.alert(context, query)?,
            Verb::AddChat | Verb::RmChat if query.user_id == 0 || query.peer_id == 0 => {
                return Err(missing("user_id and peer_id other than 0"));
            }
            Verb::AddChat => self.add_chat(query.user_id, query.peer_id),
            Verb::RmChat => self.remove_chat(query.user_id, query.peer_id),
            _ if query.user_id == 0 => return Err(missing("a user_id other than 0")),
            verb => match self.users.of_id(query.user_id) {
                None => NOT_FOUND,
                Some(user) if verb == Verb::Check && self.is_active(context, user) => "USER_ACTIVE",
                Some(user) => {
                    self.log_out(context, user);
                    "LOGOUT_OK"
                }
            },
        };
        Ok(answers::word(word))
    }

    fn login(&mut self, context: &mut Context, query: &Query) -> Result<&'static str, Response> {
        let (id, Some(address), Some(session)) = (query.user_id, query.ip_addr, &query.sess_id) else {
            return Err(missing("user_id, ip_addr and sess_id"));
        };
        if id == 0 {
            return Err(missing("a user_id other than 0"));
        }
        let address = IpAddr::V4(address);
        let owner = self.users.of_session(session);
        let is_guest = |owner: UserKey| self.users.get(owner).account.is_none();
        let user = self.users.of_id(id);
        let word = match (user, owner) {
            (Some(user), Some(owner)) if user == owner => {
                self.users.get_mut(user).address = address;
                "ALREADY_LOGGED"
            }
            (_, Some(owner)) if !is_guest(owner) => return Ok("LOGIN_BAD_ID"),
            (Some(user), owner) => {
                if let Some(guest) = owner {
                    self.merge(context, guest, user);
                    self.adopt(context, user)?;
                }
                self.users.change_session(user, session, address);
                "ALREADY_LOGGED"
            }
            (None, Some(guest)) => {
                let account = account(context, id, guest)?;
                self.users.promote(guest, address, account);
                self.adopt(context, guest)?;
                "LOGIN_OLD_SESS"
            }
            (None, None) => {
                let account = account(context, id, self.users.next_key())?;
                self.users.add(session, address, Some(account));
                "LOGIN_OK"
            }
        };
        if let Some(user) = self.users.of_id(id) {
            self.note(context, Rank::Logins, user, word, query);
        }
        Ok(word)
    }

    /// Ends all connections of a user and forgets everything.
    fn log_out(&mut self, context: &mut Context, user: UserKey) {
        let windows: Vec<WindowKey> = self.users.get(user).windows().collect();
        for key in windows {
            self.end(context, key, &context.config.fdajax.js_logout_code);
        }
        if let Some(account) = self.users.remove(user).account {
            context.broker.hub.detach(context.now.at, account.subscriber);
        }
    }

    /// Whether a window is open or expected to come back.
    fn is_active(&mut self, context: &mut Context, user: UserKey) -> bool {
        self.expire_windows(context);
        self.users.get(user).windows().any(|key| match self.windows[key].state {
            State::Open(connection) => context.is_held(connection),
            State::Idle => true,
            State::Gone => false,
        })
    }

    fn push(&mut self, context: &mut Context, query: &Query) -> Result<&'static str, Response> {
        let (Some(kind), Some(message)) = (query.types.only(), &query.mes) else {
            return Err(missing("one type and mes"));
        };
        if types::is_group(kind) {
            self.publish_to_group(context, kind, message.clone())?;
            return Ok(OK);
        }
        if query.peer_id == 0 {
            return Err(missing("a peer_id other than 0 for a type of users"));
        }
        let Some(peer) = self.users.of_id(query.peer_id) else { return Ok(NOT_LOGGED) };
        self.publish_to_user(context, peer, query, message.clone())?;
        Ok(OK)
    }

    /// Publishes a message for a group.
    pub(super) fn publish_to_group(
        &self,
        context: &mut Context,
        kind: u8,
        text: Vec<u8>,
    ) -> Result<(), Response> {
        let publication = publication(context, types::NAMES[usize::from(kind)], text)?;
        publish(context, group_channel(kind), publication)
    }

    /// Publishes a message for a user, of the type and `amode` that `query` names.
    pub(super) fn publish_to_user(
        &mut self,
        context: &mut Context,
        user: UserKey,
        query: &Query,
        text: Vec<u8>,
    ) -> Result<(), Response> {
        // What a window past its time would have taken is unwanted.
        self.expire_windows(context);
        self.judge_new(context, user);
        let publication = publication(context, &types::event(&query.types, query.amode), text)?;
        publish(context, user_channel(self.users.get(user).id()), publication)?;
        self.judge_new(context, user);
        Ok(())
    }

    fn alert(&mut self, context: &mut Context, query: &Query) -> Result<&'static str, Response> {
        let Some(text) = query.mes.as_ref().filter(|_| query.peer_id != 0) else {
            return Err(missing("a peer_id other than 0 and mes"));
        };
        let Some(peer) = self.users.of_id(query.peer_id) else { return Ok(NOT_LOGGED) };
        if let Some(account) = &mut self.users.get_mut(peer).account {
            account.post.alert(text.clone().into(), Bounds::of(context.config));
        }
        self.tell_unwanted(context, peer);
        Ok(OK)
    }

    fn add_chat(&mut self, one: u32, other: u32) -> &'static str {
        if self.peers(one).is_none() || self.peers(other).is_none() {
            return NOT_FOUND;
        }
        let has_room = |peers: Option<&mut Vec<u32>>, peer: u32| {
            peers.is_some_and(|peers| peers.contains(&peer) || peers.len() < PEERS_MAX)
        };
        if !has_room(self.peers(one), other) || !has_room(self.peers(other), one) {
            return "CUSER_TOO_MANY";
        }
        for (user, peer) in [(one, other), (other, one)] {
            if let Some(peers) = self.peers(user).filter(|peers| !peers.contains(&peer)) {
                peers.push(peer);
            }
        }
        "CHAT_PEER_ADD"
    }

    fn remove_chat(&mut self, one: u32, other: u32) -> &'static str {
        let mut remove = |user: u32, peer: u32| {
            let peers = self.peers(user)?;
            let before = peers.len();
            peers.retain(|known| *known != peer);
            Some(peers.len() < before)
        };
        match (remove(one, other), remove(other, one)) {
            (None, None) => NOT_FOUND,
            (Some(true), Some(true)) => "CHAT_PEER_RM_2",
            (Some(true), _) | (None, Some(true)) => "CHAT_PEER_RM_1",
            _ => "CUSER_NOT_FOUND",
        }
    }

    /// The chat peers of a user who is logged in.
    pub(super) fn peers(&mut self, id: u32) -> Option<&mut Vec<u32>> {
        let key = self.users.of_id(id)?;
        self.users.get_mut(key).account.as_mut().map(|account| &mut account.peers)
    }
}

/// What a user has who will be at place `key`.
fn account(context: &mut Context, id: u32, key: UserKey) -> Result<Box<Account>, Response> {
    let channel = user_channel(id);
    let owner = Owner::from(Holder::User(key));
    let attached = context.broker.attach(context.now.at, owner, &[&channel], Start::Now);
    let subscriber = attached.map_err(refused)?;
    let since = context.now.unix;
    Ok(Box::new(Account { id, since, peers: Vec::new(), post: Post::default(), subscriber }))
}

/// Publishes a message for whoever asks; returns its number.
fn publish(context: &mut Context, channel: String, publication: Publication) -> Result<(), Response> {
    let what = Publishing::of(channel, publication);
    context.broker.publish(context.now.at, context.client, what).map_err(refused)?;
    Ok(())
}

fn publication(context: &Context, event: &str, text: Vec<u8>) -> Result<Publication, Response> {
    let max = context.config.limits.message_bytes;
    if text.len() > max {
        return Err(answers::refusal(413, "mes is larger than limits.message_bytes"));
    }
    let data = String::from_utf8(text)
        .map_or_else(|error| Data::Binary(error.into_bytes().into()), |text| Data::Text(text.into()));
    let ttl_ms = Some(context.config.fdajax.mes_live_max);
    Ok(Publication { event: Some(event.into()), ttl_ms, ..Publication::of(data) })
}
