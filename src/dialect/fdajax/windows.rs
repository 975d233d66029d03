//! Windows: pages and tabs, each a subscriber in the hub that outlives its connections.
//!
//! ```text
//!   wait, stream          answered, or the client has gone
//!  ──────────────▶ Open ──────────────────────────────────▶ Idle, Gone
//!                   ▲          wait, stream again              │
//!                   └──────────────────────────────────────────┤
//!                                                win_timeout   ▼
//!                                                          forgotten
//! ```

use super::answers;
use super::query::Query;
use super::slots::{self, Asked, SLOTS};
use super::types::{NAMES, Types, UNW};
use super::users::NO_WINDOW;
use super::{Fdajax, Rank, script};
use crate::broker::Refusal;
use crate::carry::carry;
use crate::conn::ConnId;
use crate::dialect::holder::{Holder, UserKey, WindowKey};
use crate::dialect::{Act, Context};
use crate::hub::{Start, SubscriberKey};
use crate::id::Seq;
use crate::time::{Instant, Now};
use crate::wire::response::Response;

/// Windows whose time has come that are looked at in one turn.
const EXPIRED_AT_ONCE: usize = 64;
/// A page or tab.
#[derive(Debug)]
pub struct Window {
    /// Whose it is.
    pub user: UserKey,
    /// The number the page drew for itself.
    pub id: u32,
    /// Its cursor in the hub.
    pub subscriber: SubscriberKey,
    /// What it is doing.
    pub state: State,
    /// The host name it came by.
    pub slot: u8,
    /// Its open connection is a stream.
    pub stream: bool,
    /// How its answers are wrapped.
    pub win_st: u32,
    /// What it wants.
    pub types: Types,
    /// The last message it got of each type that it got any of.
    pub had: Box<[(u8, Seq)]>,
    /// It gets nothing older than this.
    pub start: Instant,
    /// When it was made.
    created: Instant,
    /// How often it was sent something.
    pub deliveries: u32,
    /// The last alert it was told of.
    pub last_alert: u32,
}

carry! {
    struct Window { user, id, subscriber, state, slot, stream, win_st, types, had, start, created, deliveries, last_alert }
}

/// What a window is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has a connection that waits.
    Open(ConnId),
    /// It has been answered and is expected to ask again.
    Idle,
    /// Its client dropped the connection: it may come back, but its slot is free.
    Gone,
}

carry! {
    enum State { 0 => Open(connection: ConnId), 1 => Idle, 2 => Gone }
}

impl Window {
    /// Whether a message is news to it.
    pub fn lacks(&self, kind: u8, seq: Seq, published: Instant) -> bool {
        let had = self.had.iter().find(|(of, _)| *of == kind);
        had.map_or(published >= self.start, |(_, had)| seq > *had)
    }

    /// Notes that it got a message.
    pub fn got(&mut self, kind: u8, seq: Seq) {
        match self.had.iter_mut().find(|(of, _)| *of == kind) {
            Some((_, had)) => *had = seq,
            None => {
                let more = self.had.iter().copied().chain([(kind, seq)]);
                self.had = more.collect();
            }
        }
    }

    pub(super) const fn connection(&self) -> Option<ConnId> {
        match self.state {
            State::Open(connection) => Some(connection),
            State::Idle | State::Gone => None,
        }
    }
}

impl Fdajax {
    /// Serves `wait` and `stream`: opens or resumes the window, which is then held, or answers.
    pub(super) fn open(
        &mut self,
        context: &mut Context,
        (user, from): (UserKey, ConnId),
        host: &str,
        query: &Query,
    ) -> Result<Option<Response>, Response> {
        if query.types.is_empty() || query.win_id == 0 {
            return Err(answers::refusal(400, "wait and stream need types and a win_id other than 0"));
        }
        self.expire_windows(context);
        self.note_gone(context, user);
        let place = slots::asked(host);
        let force = place.force || query.force != 0;
        let known = self.find_window(user, query.win_id);
        let state = known.map(|key| self.windows[key].state);
        if let Some(State::Open(_)) = state {
            return Err(answers::refusal(409, "this window has a connection that waits"));
        }
        if state != Some(State::Idle)
            && let Err(other) = self.take_slot(context, user, Asked { force, ..place })
        {
            let call = format!("{}({other});", context.config.fdajax.js_redirect);
            self.note(context, Rank::Windows, user, "redirected to another slot", query);
            return Ok(Some(answers::to_page(call.as_bytes(), query.win_st)));
        }
        let key = match known {
            Some(key) => self.resume(context, key, query, place.slot)?,
            None => self.create(context, user, query, place.slot)?,
        };
        self.note(context, Rank::Windows, user, "opens a window", query);
        self.begin(context, key, from, query);
        Ok(None)
    }

    fn find_window(&self, user: UserKey, id: u32) -> Option<WindowKey> {
        self.users.get(user).windows().find(|&key| self.windows[key].id == id)
    }

    /// Makes a slot free for a new window, or names the slot to use instead.
    fn take_slot(&mut self, context: &mut Context, user: UserKey, place: Asked) -> Result<(), u8> {
        let holder = |slot: u8| {
            let has_slot = |&key: &WindowKey| {
                let window = &self.windows[key];
                window.slot == slot && window.state != State::Gone
            };
            self.users.get(user).windows().find(has_slot)
        };
        let Some(old) = holder(place.slot) else { return Ok(()) };
        let (ended, verdict) = match (0..SLOTS).find(|&slot| holder(slot).is_none()) {
            _ if place.force || !context.config.fdajax.send_redirects => (old, Ok(())),
            Some(free) => return Err(free),
            None => {
                let windows = self.users.get(user).windows();
                let oldest = windows.min_by_key(|&key| self.windows[key].created).unwrap_or(old);
                let slot = self.windows[oldest].slot;
                (oldest, if slot == place.slot { Ok(()) } else { Err(slot) })
            }
        };
        self.end(context, ended, &context.config.fdajax.js_maxwin_code);
        verdict
    }

    /// Makes a window.
    fn create(
        &mut self,
        context: &mut Context,
        user: UserKey,
        query: &Query,
        slot: u8,
    ) -> Result<WindowKey, Response> {
        let places = &self.users.get(user).windows;
        let place = places.iter().position(|&key| key == NO_WINDOW).unwrap_or_else(|| {
            // Those with a slot are fewer than the places: somebody has gone.
            let gone = |&key: &WindowKey| self.windows[key].state == State::Gone;
            places.iter().position(gone).unwrap_or_default()
        });
        if places[place] != NO_WINDOW {
            self.forget(context, places[place]);
        }
        let key = self.windows.vacant();
        let start = start(query, context.now);
        let subscriber = self.subscribe(context, key, user, &query.types, start)?;
        self.windows.insert(Window {
            user,
            id: query.win_id,
            subscriber,
            state: State::Idle,
            slot,
            stream: false,
            win_st: 0,
            types: query.types.clone(),
            had: Box::default(),
            start,
            created: context.now.at,
            deliveries: 0,
            last_alert: 0,
        });
        self.users.get_mut(user).windows[place] = key;
        Ok(key)
    }

    /// Takes up a known window, perhaps with other types.
    fn resume(
        &mut self,
        context: &mut Context,
        key: WindowKey,
        query: &Query,
        slot: u8,
    ) -> Result<WindowKey, Response> {
        if self.windows[key].types != query.types {
            self.resubscribe(context, key, &query.types)?;
        }
        let window = &mut self.windows[key];
        if window.state == State::Gone {
            window.slot = slot;
        }
        Ok(key)
    }

    /// Lets a window hear other types from where it began; what it got of each type stays known.
    fn resubscribe(&mut self, context: &mut Context, key: WindowKey, types: &Types) -> Result<(), Response> {
        let Window { user, subscriber, start, .. } = self.windows[key];
        let new = self.subscribe(context, key, user, types, start)?;
        context.broker.hub.detach(context.now.at, subscriber);
        let window = &mut self.windows[key];
        (window.subscriber, window.types) = (new, types.clone());
        Ok(())
    }

    /// A subscriber of the user's channel and of the groups among `types`.
    fn subscribe(
        &self,
        context: &mut Context,
        key: WindowKey,
        user: UserKey,
        types: &Types,
        start: Instant,
    ) -> Result<SubscriberKey, Response> {
        let mut names: Vec<String> = types.groups().map(group_channel).collect();
        names.extend(self.users.get(user).account.as_ref().map(|account| user_channel(account.id)));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let owner = Holder::Window(key).into();
        let attached = context.broker.attach(context.now.at, owner, &names, Start::Since(start));
        attached.map_err(refused)
    }

    /// Gives a window its new connection and what waits for it.
    fn begin(&mut self, context: &mut Context, key: WindowKey, from: ConnId, query: &Query) {
        let stream = query.verb == super::query::Verb::Stream;
        let window = &mut self.windows[key];
        (window.state, window.stream, window.win_st) = (State::Open(from), stream, query.win_st);
        let user = window.user;
        let slot = from.slot.index();
        if slot >= self.by_connection.len() {
            self.by_connection.resize(slot + 1, NO_WINDOW);
        }
        self.by_connection[slot] = key;
        match context.config.fdajax.send_pings {
            0 => self.timers.clear(key),
            seconds => self.timers.set(key, context.now.at.plus_seconds(seconds)),
        }
        if stream {
            let mut begin = context.config.fdajax.html_begin.clone().into_bytes();
            script::end_line(&mut begin);
            context.act(from, Act::Begin(answers::stream_head()));
            context.act(from, Act::Write(begin));
        }
        if query.types.has(UNW) {
            self.judge_again(context, user);
        }
        self.deliver(context, key, true);
    }

    /// Sends a window its last words, if it has a connection, and forgets it.
    pub(super) fn end(&mut self, context: &mut Context, key: WindowKey, code: &str) {
        let window = &self.windows[key];
        if let Some(connection) = window.connection() {
            if window.stream {
                let text = match window.win_st {
                    0 => code.as_bytes().to_vec(),
                    _ => script::tagged(code.as_bytes()),
                };
                context.act(connection, Act::Write(text));
                context.act(connection, Act::End);
            } else {
                context.act(connection, Act::Answer(answers::to_page(code.as_bytes(), window.win_st)));
            }
        }
        self.forget(context, key);
    }

    /// Ends the connection of a window without a word. Returns whether it had one.
    pub(super) fn cancel_window(&mut self, context: &mut Context, user: UserKey, id: u32) -> bool {
        let Some(key) = self.find_window(user, id) else { return false };
        let connection = self.windows[key].connection();
        if let Some(connection) = connection {
            let is_stream = self.windows[key].stream;
            let act = if is_stream { Act::End } else { Act::Answer(answers::to_page(b"", 0)) };
            context.act(connection, act);
        }
        self.forget(context, key);
        connection.is_some()
    }

    /// Notes that a window has been answered.
    pub(super) fn rest(&mut self, context: &Context, key: WindowKey, state: State) {
        let window = &mut self.windows[key];
        if let Some(connection) = window.connection() {
            self.by_connection[connection.slot.index()] = NO_WINDOW;
        }
        window.state = state;
        self.timers.set(key, context.now.at + context.config.fdajax.win_timeout);
    }

    /// Removes a window. What it left undelivered is not judged at once: a page that is loaded anew cancels its
    /// window, and asks for the same messages a moment later.
    pub(super) fn forget(&mut self, context: &mut Context, key: WindowKey) {
        self.grants.remove(&key);
        context.access.hook.end(Holder::Window(key));
        let window = self.windows.remove(key);
        if let Some(connection) = window.connection() {
            self.by_connection[connection.slot.index()] = NO_WINDOW;
        }
        self.timers.clear(key);
        context.broker.hub.detach(context.now.at, window.subscriber);
        let user = self.users.get_mut(window.user);
        for place in user.windows.iter_mut().filter(|place| **place == key) {
            *place = NO_WINDOW;
        }
        self.users.note_idle(context.now.at, window.user);
    }

    /// Forgets windows that did not come back, and tells those that have waited for long to ask anew.
    pub(super) fn expire_windows(&mut self, context: &mut Context) {
        // The others have the next turn.
        for _ in 0..EXPIRED_AT_ONCE {
            let Some(key) = self.timers.expire(context.now.at) else { return };
            let window = &self.windows[key];
            let (key, user) = (key, window.user);
            match window.connection() {
                Some(connection) => self.ping(context, key, connection),
                None => {
                    self.forget(context, key);
                    self.judge_again(context, user);
                }
            }
        }
    }

    fn ping(&mut self, context: &mut Context, key: WindowKey, connection: ConnId) {
        let window = &mut self.windows[key];
        window.deliveries += 1;
        let is_stream = window.stream;
        self.write(context, key, context.config.fdajax.js_ping_code.as_bytes());
        if is_stream {
            context.act(connection, Act::End);
            self.rest(context, key, State::Idle);
        }
    }

    /// Notes which connections of a user have gone, of which nobody has told yet.
    pub(super) fn note_gone(&mut self, context: &Context, user: UserKey) {
        let windows: Vec<WindowKey> = self.users.get(user).windows().collect();
        for key in windows {
            if let State::Open(connection) = self.windows[key].state
                && !context.is_held(connection)
            {
                self.rest(context, key, State::Gone);
            }
        }
    }

    /// The window that a connection holds open.
    pub(super) fn window_of(&self, connection: ConnId) -> Option<WindowKey> {
        let key = *self.by_connection.get(connection.slot.index())?;
        let window = self.windows.get(key)?;
        (window.state == State::Open(connection)).then_some(key)
    }

    /// Gives a guest who has logged in, and the guest's windows, what users have.
    pub(super) fn adopt(&mut self, context: &mut Context, user: UserKey) -> Result<(), Response> {
        let windows: Vec<WindowKey> = self.users.get(user).windows().collect();
        for key in windows {
            let types = self.windows[key].types.clone();
            self.resubscribe(context, key, &types)?;
        }
        Ok(())
    }

    /// Moves the windows of a guest to a user who takes over the guest's session. Where both have a window
    /// in a slot, the guest's ends.
    pub(super) fn merge(&mut self, context: &mut Context, guest: UserKey, user: UserKey) {
        let windows: Vec<WindowKey> = self.users.get(guest).windows().collect();
        for key in windows {
            let slot = self.windows[key].slot;
            let is_taken = |other: WindowKey| self.windows[other].slot == slot;
            let free = self.users.get(user).windows.iter().position(|&key| key == NO_WINDOW);
            match free.filter(|_| !self.users.get(user).windows().any(is_taken)) {
                Some(place) => {
                    self.users.get_mut(user).windows[place] = key;
                    self.windows[key].user = user;
                }
                None => self.end(context, key, &context.config.fdajax.js_maxwin_code),
            }
        }
        self.users.remove(guest);
    }
}

/// From when on a new window gets messages: since the time it names, else since a second ago.
fn start(query: &Query, now: Now) -> Instant {
    let age_ms = match query.sec {
        0 => 1000,
        sec => {
            let since = u64::from(sec) * 1000 + u64::from(query.usec) / 1000;
            (now.unix * 1000 + u64::from(now.unix_ms)).saturating_sub(since)
        }
    };
    Instant::from_millis(now.at.as_millis().saturating_sub(age_ms))
}

/// The channel of a group.
pub fn group_channel(kind: u8) -> String {
    format!("fdajax/groups/{}", NAMES[usize::from(kind)])
}

/// Whether a channel, or one that a pattern matches, is that of a user. What is for one user is nobody
/// else's to read, and other dialects know no users: there, only the application may listen.
pub fn is_private(name: &str) -> bool {
    let mut segments = name.split('/');
    for wanted in ["fdajax", "users"] {
        match segments.next() {
            Some("**") => return true,
            Some(found) if found == "*" || found == wanted => {}
            _ => return false,
        }
    }
    segments.next().is_some() && segments.next().is_none()
}

/// The channel of a user.
pub fn user_channel(id: u32) -> String {
    format!("fdajax/users/{id}")
}

/// The answer to what the broker refuses: mostly, that there is no room for the channel of a user or group.
pub fn refused(refusal: Refusal) -> Response {
    match refusal {
        Refusal::TooManyMessages
        | Refusal::TooManySearches
        | Refusal::ShareExceeded
        | Refusal::TooManyTemplates => answers::refusal(429, refusal.detail()).with("Retry-After", 1),
        Refusal::Reserved | Refusal::Presence => answers::refusal(403, refusal.detail()),
        Refusal::MemoryShort => answers::refusal(503, refusal.detail()).with("Retry-After", 10),
        Refusal::KeyReused => answers::refusal(422, refusal.detail()),
        Refusal::LogBehind | Refusal::Outdated | Refusal::PresenceUnknown => {
            answers::refusal(503, refusal.detail()).with("Retry-After", 1)
        }
        Refusal::TooManyChannels
        | Refusal::TooManySubscribers
        | Refusal::TooManyMatches
        | Refusal::Key { .. }
        | Refusal::NotLatest => answers::refusal(503, "limits.channels is reached").with("Retry-After", 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_of_users_and_patterns_that_match_some() {
        for name in
            ["fdajax/users/1", "fdajax/users/*", "fdajax/users/**", "**", "fdajax/**", "*/*/*", "*/users/7"]
        {
            assert!(is_private(name), "{name}");
        }
        for name in ["fdajax/groups/feed", "fdajax/groups/*", "fdajax/users", "*", "*/*", "a/**", "users/1"] {
            assert!(!is_private(name), "{name}");
        }
    }

    #[test]
    fn a_new_window_begins_a_second_ago_or_when_it_says() {
        let now = Now { at: Instant::from_millis(9_000), unix: 100, unix_ms: 500 };
        for (from, expected) in
            [("", 8_000), ("&sec=98&usec=250000", 6_750), ("&sec=200", 9_000), ("&sec=1", 0)]
        {
            let query = format!("cmd=wait&win_id=1&types=feed{from}");
            let query = super::super::query::parse(&query).unwrap();
            assert_eq!(start(&query, now).as_millis(), expected, "{from}");
        }
    }

    #[test]
    fn a_window_takes_little_memory() {
        assert!(size_of::<Window>() <= 96, "{}", size_of::<Window>());
    }
}
