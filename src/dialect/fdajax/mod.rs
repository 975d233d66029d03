//! FDAjax, the full-duplex Ajax protocol of the lighttpd module (2007): pages of its time work unmodified.
//!
//! Everything is in the query of a request, answers are JavaScript that the page evaluates. It lives on the
//! hub: a group is the channel `fdajax/groups/NAME`, what is for a user goes through `fdajax/users/ID`, and a
//! window is a subscriber of these that outlives its connections. Rings and cursors do what the original did
//! with queues of its own; what a channel cannot say (which types a window wants, alerts, what becomes of a
//! message that nobody wanted) is kept here.
//!
//! ```text
//!  query ─▶ who ─▶ admin (login, push, …) ─┬─▶ users, post ─┐
//!            └──▶ peers (chat_sig, cancel) ┘                ├─▶ deliver ─▶ answers ─▶ the window's connection
//!            └──▶ windows (wait, stream) ── slots ──────────┘
//! ```

mod admin;
mod answers;
mod deliver;
mod info;
mod peers;
mod post;
mod query;
mod rights;
mod script;
mod slots;
mod types;
mod users;
mod who;
mod windows;

pub use windows::is_private;

use super::holder::{UserKey, WindowKey};
use super::native::encoded;
use super::{Act, Context, cors};
use crate::broker::Rate;
use crate::broker::access::Grant;
use crate::carry::resume;
use crate::config::Config;
use crate::conn::{ConnId, Request};
use crate::id::Seed;
use crate::table::Table;
use crate::time::{Instant, Now, Wheel};
use crate::wire::head::{Head, Method};
use crate::wire::media;
use crate::wire::query::decode_path;
use crate::wire::response::Response;
use crate::wire::shown::Shown;
use query::{Query, Verb};
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use users::Users;
use windows::{State, Window};

/// Users, guests and their windows.
#[derive(Debug)]
pub struct Fdajax {
    /// What the paths end in that are ours.
    ending: String,
    users: Users,
    windows: Table<WindowKey, Window>,
    /// The window that a connection's slot holds open.
    by_connection: Vec<WindowKey>,
    /// By what right a window listens, if a token gives one.
    grants: BTreeMap<WindowKey, Rc<Grant>>,
    /// One timer a window: the end of its being remembered, or its next ping.
    timers: Wheel<WindowKey>,
    /// Messages that each client has sent.
    calls: Rate,
    /// The second of the last refusal, and how many there have been in it.
    refused: Cell<(u64, u32)>,
}

resume! {
    Fdajax {
        carried: windows, by_connection, grants, timers;
        resumed: users, calls;
        given: ending, refused
    }
}

/// From which `log_level` on something is logged.
#[derive(Debug, Clone, Copy)]
enum Rank {
    Logins = 1,
    Windows = 2,
    Commands = 3,
}

/// From which `log_security` on something is logged.
#[derive(Debug, Clone, Copy)]
enum Doubt {
    Admin = 1,
    Session = 2,
    Other = 3,
}

impl Fdajax {
    /// Without users, if it is switched on.
    pub fn new(config: &Config, seed: Seed, now: Now) -> Option<Self> {
        config.fdajax.enabled.then(|| Self {
            ending: format!(".{}", config.fdajax.ext),
            users: Users::new(config.limits.fdajax_guest_seconds, seed.key("FDAjax sessions")),
            windows: Table::default(),
            by_connection: Vec::new(),
            grants: BTreeMap::new(),
            timers: Wheel::new(now.at),
            calls: Rate::new(seed.key("FDAjax messages by address")),
            refused: Cell::default(),
        })
    }

    /// Whether it serves that path. A channel whose name has our ending stays a channel.
    pub fn claims(&self, path: &str) -> bool {
        let is_native = NATIVE.iter().any(|root| path.starts_with(root));
        !is_native && decode_path(path).ends_with(self.ending.as_bytes())
    }

    /// Takes a request: answers it, or holds it as the connection of a window.
    pub fn request(&mut self, context: &mut Context, from: ConnId, request: &Request) {
        if let Some(response) = self.serve(context, from, request).unwrap_or_else(Some) {
            context.act(from, Act::Answer(response));
        }
    }

    fn serve(
        &mut self,
        context: &mut Context,
        from: ConnId,
        request: &Request,
    ) -> Result<Option<Response>, Response> {
        let head = &request.head;
        match head.method {
            Method::Post if media::is_encoded(head) => return Err(encoded(head)),
            Method::Get | Method::Post | Method::Head => {}
            Method::Options => return Ok(Some(options(head))),
            Method::Put | Method::Patch | Method::Delete | Method::Query => {
                let refusal = answers::refusal(405, "FDAjax knows GET, HEAD and POST");
                return Err(refusal.with("Allow", METHODS));
            }
        }
        let refuse = |status: u16, doubt: Doubt, detail: &str| {
            self.doubtful(context, from, doubt, detail);
            answers::refusal(status, detail)
        };
        let text = query_text(request).ok_or_else(|| refuse(400, Doubt::Other, "there is no query"))?;
        let query = query::parse(&text).map_err(|detail| refuse(400, Doubt::Other, detail))?;
        if query.verb.is_admin() {
            who::is_admin(context, from, head, &query).map_err(|denied| {
                let refusal = refuse(denied.status, Doubt::Admin, denied.detail);
                if denied.status == 401 { refusal.with("WWW-Authenticate", "Bearer") } else { refusal }
            })?;
            return self.command(context, &query).map(Some);
        }
        let mut identity = context.identify(from, head).map_err(|denial| denial.response(false))?;
        let Some(judged) = rights::hear(context, from, head, &mut identity, &query) else {
            context.act(from, Act::Wait);
            return Ok(None);
        };
        judged.map_err(|denial| {
            self.doubtful(context, from, Doubt::Other, &denial.detail());
            denial.response(false)
        })?;
        let user = self.identify(context, head, &query).inspect_err(|answer| {
            self.doubtful(context, from, Doubt::Session, &String::from_utf8_lossy(&answer.body));
        })?;
        self.note(context, Rank::Commands, user, "asks", &query);
        let outcome = match query.verb {
            Verb::Cancel => self.cancel(context, user, &query).map(Some),
            Verb::ChatSig => self.signal(context, user, &query).map(Some),
            _ => {
                let opened = self.open(context, (user, from), head.authority(), &query);
                self.note_right(context, from, identity);
                opened
            }
        };
        self.users.note_idle(context.now.at, user);
        outcome
    }

    /// How many users are logged in, and how many guests are known.
    pub fn known(&self) -> (usize, usize) {
        (self.users.logged_in_count(), self.users.guests())
    }

    /// Takes note that a window's subscriber is ready.
    pub fn window_ready(&mut self, context: &mut Context, key: WindowKey) {
        if self.windows.contains(key) {
            self.deliver(context, key, false);
        }
    }

    /// Takes note that a user's subscriber is ready.
    pub fn user_ready(&mut self, context: &mut Context, key: UserKey) {
        if self.users.exists(key) {
            self.judge_new(context, key);
        }
    }

    /// Takes note that a window's connection has gone.
    pub fn gone(&mut self, context: &mut Context, connection: ConnId) {
        if let Some(key) = self.window_of(connection) {
            self.rest(context, key, State::Gone);
        }
    }

    /// Takes note that a stream takes bytes again.
    pub fn writable(&mut self, context: &mut Context, connection: ConnId) {
        if let Some(key) = self.window_of(connection) {
            self.deliver(context, key, false);
        }
    }

    /// Forgets windows and guests whose time is over, and sends pings.
    pub fn tick(&mut self, context: &mut Context) {
        self.expire_windows(context);
        self.users.expire(context.now.at);
    }

    /// When [`Fdajax::tick`] has something to do.
    pub fn next_deadline(&self) -> Instant {
        self.timers.next_deadline().min(self.users.next_expiry())
    }

    /// Lets every window ask anew, because the server leaves.
    pub fn drain(&mut self, context: &mut Context) {
        let open = |(_, window): (WindowKey, &Window)| match window.state {
            State::Open(connection) => Some((connection, window.stream)),
            State::Idle | State::Gone => None,
        };
        for (connection, is_stream) in self.windows.iter().filter_map(open) {
            let act = if is_stream { Act::End } else { Act::Answer(answers::to_page(b"", 0)) };
            context.outbox.push((connection, act));
        }
        self.windows.iter_mut().for_each(|(_, window)| window.state = State::Idle);
    }

    /// Logs what was refused.
    fn doubtful(&self, context: &Context, from: ConnId, doubt: Doubt, detail: &str) {
        if context.config.fdajax.log_security >= doubt as u64
            && let Some(peer) = context.peer(from)
            && self.may_log(context.now.at)
        {
            log::info!(target: "encke::fdajax", "{peer} is refused: {}", Shown(detail.trim_end()));
        }
    }

    /// Whether another line about what is refused may be logged in this second: a flood of requests that are refused
    /// would be one of lines.
    fn may_log(&self, now: Instant) -> bool {
        let second = now.as_millis() / 1000;
        let (of, before) = self.refused.get();
        let lines = if of == second { before + 1 } else { 1 };
        self.refused.set((second, lines));
        if lines == REFUSALS_LOGGED + 1 {
            log::info!(target: "encke::fdajax", "more is refused in this second than is logged");
        }
        lines <= REFUSALS_LOGGED
    }

    /// Logs what a user does.
    fn note(&self, context: &Context, rank: Rank, user: UserKey, what: &str, query: &Query) {
        if context.config.fdajax.log_level >= rank as u64 {
            let (verb, id) = (query.verb, self.users.get(user).id());
            log::info!(target: "encke::fdajax", "user {id}: {what} ({verb:?}, win_id {})", query.win_id);
        }
    }
}

/// Below these, names of channels stand in the path.
const NATIVE: [&str; 4] = ["/pub/", "/sub/", "/presence/", "/admin/"];

/// Lines a second about what is refused.
const REFUSALS_LOGGED: u32 = 10;

const METHODS: &str = "GET, HEAD, POST, OPTIONS";

fn options(head: &Head) -> Response {
    let mut response = Response::empty(204).with("Allow", METHODS);
    response.fields.to_mut().push_str(&cors::preflight(head, METHODS));
    response
}

/// The query: that of the target up to its end, as old clients send `#` and `?` as they are; without one,
/// the body of a form, which keeps a password out of the logs of proxies.
fn query_text<'a>(request: &Request<'a>) -> Option<Cow<'a, str>> {
    let head = &request.head;
    if let Some((_, query)) = head.target.split_once('?') {
        return Some(query.into());
    }
    let is_form = head
        .field("content-type")
        .is_some_and(|value| media::essence(value).eq_ignore_ascii_case("application/x-www-form-urlencoded"));
    let body = std::str::from_utf8(request.body).ok()?;
    (head.method == Method::Post && is_form).then(|| body.into())
}
