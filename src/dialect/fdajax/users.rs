//! Who is known: users, whom the application logs in, and guests, who are anybody with a session cookie.
//!
//! Guests cost memory for nothing but a cookie, so they are limited, and one without a window is forgotten
//! after a while: a guest that comes back is a new guest and cannot tell the difference.

use super::post::Post;
use crate::carry::{carry, resume};
use crate::dialect::holder::{UserKey, WindowKey};
use crate::hub::SubscriberKey;
use crate::id::Key;
use crate::table::Table;
use crate::time::Instant;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// A place without a window.
pub const NO_WINDOW: WindowKey = WindowKey::NONE;
/// Windows of one user, at most.
pub const WINDOWS_MAX: usize = 5;
/// Chat peers of one user, at most.
pub const PEERS_MAX: usize = 20;

/// A user or a guest.
#[derive(Debug)]
pub struct User {
    /// The session id.
    pub session: Box<str>,
    /// The only address the session may be used from.
    pub address: IpAddr,
    /// The windows, each at a fixed place; [`NO_WINDOW`] where there is none.
    pub windows: [WindowKey; WINDOWS_MAX],
    /// The second in which a message was last sent to a peer, and how many in it.
    calls: (u32, u32),
    /// Since when there has been no window.
    idle_since: Instant,
    /// What a guest does not have.
    pub account: Option<Box<Account>>,
}

carry! {
    struct User { session, address, windows, calls, idle_since, account }
}

/// What only a user has who is logged in.
#[derive(Debug)]
pub struct Account {
    /// The number that the application gave.
    pub id: u32,
    /// When the login was, in seconds since 1970.
    pub since: u64,
    /// Whom the user may send messages to.
    pub peers: Vec<u32>,
    /// What has come and not been delivered, and alerts.
    pub post: Post,
    /// Hears what is published for this user, so that it can be judged.
    pub subscriber: SubscriberKey,
}

carry! {
    struct Account { id, since, peers, post, subscriber }
}

impl User {
    /// The windows there are, by their places.
    pub fn windows(&self) -> impl Iterator<Item = WindowKey> {
        self.windows.into_iter().filter(|&key| key != NO_WINDOW)
    }

    /// The number by which others know the user; 0 for guests.
    pub fn id(&self) -> u32 {
        self.account.as_ref().map_or(0, |account| account.id)
    }

    /// Whether another message to a peer may be sent in this second, which then counts.
    pub fn may_call(&mut self, now: Instant, max: u32) -> bool {
        let second = (now.as_millis() / 1000) as u32;
        if self.calls.0 != second {
            self.calls = (second, 0);
        }
        self.calls.1 += 1;
        self.calls.1 <= max
    }
}

/// All users and guests.
#[derive(Debug)]
pub struct Users {
    /// How long a guest without windows is remembered.
    guest_seconds: u64,
    all: Table<UserKey, User>,
    /// For hashes of session ids.
    key: Key,
    /// By a hash of the session id, so that a guest's is kept once.
    by_session: BTreeMap<u64, UserKey>,
    by_id: BTreeMap<u32, UserKey>,
    guests: usize,
    /// Guests without windows, since when; some have windows again, or are gone.
    idle_guests: VecDeque<(UserKey, Instant)>,
}

resume! {
    Users {
        carried: all, by_session, by_id, guests, idle_guests;
        resumed: ;
        given: guest_seconds, key
    }
}

impl Users {
    /// Nobody. Guests without windows will be remembered for so long.
    pub fn new(guest_seconds: u64, key: Key) -> Self {
        Self {
            guest_seconds,
            all: Table::default(),
            key,
            by_session: BTreeMap::new(),
            by_id: BTreeMap::new(),
            guests: 0,
            idle_guests: VecDeque::new(),
        }
    }

    /// The owner of a session.
    pub fn of_session(&self, session: &str) -> Option<UserKey> {
        let key = *self.by_session.get(&self.key.hash(session))?;
        (*self.all[key].session == *session).then_some(key)
    }

    /// The user of that number.
    pub fn of_id(&self, id: u32) -> Option<UserKey> {
        self.by_id.get(&id).copied()
    }

    /// The users, in the order of their numbers, without guests.
    pub fn logged_in(&self) -> Vec<UserKey> {
        self.by_id.values().copied().collect()
    }

    /// How many users there are, without guests.
    pub fn logged_in_count(&self) -> usize {
        self.by_id.len()
    }

    /// How many guests there are.
    pub const fn guests(&self) -> usize {
        self.guests
    }

    /// A user or guest.
    pub fn get(&self, key: UserKey) -> &User {
        &self.all[key]
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, key: UserKey) -> &mut User {
        &mut self.all[key]
    }

    /// Whether there is (still) a user at that place.
    pub fn exists(&self, key: UserKey) -> bool {
        self.all.contains(key)
    }

    /// Makes a guest, of whom [`Users::note_idle`] must be told if no window follows. `None` if there are as
    /// many as there may be, and all of them have windows.
    pub fn add_guest(&mut self, session: &str, address: IpAddr, max: usize) -> Option<UserKey> {
        while self.guests >= max {
            let (key, since) = self.idle_guests.pop_front()?;
            if self.is_idle(key, since) {
                self.remove(key);
            }
        }
        self.guests += 1;
        Some(self.add(session, address, None))
    }

    /// Adds somebody whose session is not known yet.
    pub fn add(&mut self, session: &str, address: IpAddr, account: Option<Box<Account>>) -> UserKey {
        let id = account.as_ref().map(|account| account.id);
        let user = User {
            session: session.into(),
            address,
            windows: [NO_WINDOW; WINDOWS_MAX],
            calls: (0, 0),
            idle_since: Instant::NEVER,
            account,
        };
        let key = self.all.insert(user);
        self.by_session.insert(self.key.hash(session), key);
        self.by_id.extend(id.map(|id| (id, key)));
        key
    }

    /// The place where [`Users::add`] will put the next one.
    pub fn next_key(&self) -> UserKey {
        self.all.vacant()
    }

    /// Makes a guest a user.
    pub fn promote(&mut self, key: UserKey, address: IpAddr, account: Box<Account>) {
        self.guests -= 1;
        self.by_id.insert(account.id, key);
        let user = &mut self.all[key];
        (user.address, user.account) = (address, Some(account));
    }

    /// Gives a user another session, which nobody has.
    pub fn change_session(&mut self, key: UserKey, session: &str, address: IpAddr) {
        let user = &mut self.all[key];
        user.address = address;
        let old = std::mem::replace(&mut user.session, session.into());
        self.by_session.remove(&self.key.hash(&*old));
        self.by_session.insert(self.key.hash(session), key);
    }

    /// Forgets a user or guest.
    pub fn remove(&mut self, key: UserKey) -> User {
        let user = self.all.remove(key);
        self.by_session.remove(&self.key.hash(&*user.session));
        match &user.account {
            Some(account) => {
                self.by_id.remove(&account.id);
            }
            None => self.guests -= 1,
        }
        user
    }

    /// Notes that a guest has no window (any more).
    pub fn note_idle(&mut self, now: Instant, key: UserKey) {
        let user = &mut self.all[key];
        if user.account.is_none() && user.windows().next().is_none() && user.idle_since != now {
            user.idle_since = now;
            self.idle_guests.push_back((key, now));
        }
    }

    /// Whether the guest has been without window since then.
    fn is_idle(&self, key: UserKey, since: Instant) -> bool {
        let user = self.all.get(key);
        user.is_some_and(|user| {
            user.account.is_none() && user.idle_since == since && user.windows().next().is_none()
        })
    }

    /// Forgets guests who have been without a window for long.
    pub fn expire(&mut self, now: Instant) {
        while let Some(&(key, since)) = self.idle_guests.front()
            && since.plus_seconds(self.guest_seconds) <= now
        {
            self.idle_guests.pop_front();
            if self.is_idle(key, since) {
                self.remove(key);
            }
        }
    }

    /// When [`Users::expire`] has something to do.
    pub fn next_expiry(&self) -> Instant {
        let first = self.idle_guests.front();
        first.map_or(Instant::NEVER, |(_, since)| since.plus_seconds(self.guest_seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Seed;
    use std::net::Ipv4Addr;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn a_hundred_thousand_invented_sessions_leave_nothing_behind() {
        let mut users = Users::new(60, Seed::of_number(1).key("test"));
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        for n in 0..100_000 {
            let key = users.add_guest(&format!("s{n}"), address, 1000).unwrap();
            users.note_idle(at(n), key);
            assert!(users.all.len() <= 1000 && users.idle_guests.len() <= 1001);
        }
        users.expire(at(99_999 + 60_000));
        assert_eq!((users.all.len(), users.guests, users.by_session.len()), (0, 0, 0));
        assert_eq!(users.next_expiry(), Instant::NEVER);
    }

    #[test]
    fn guests_with_windows_stay() {
        let mut users = Users::new(60, Seed::of_number(1).key("test"));
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let first = users.add_guest("a", address, 2).unwrap();
        let second = users.add_guest("b", address, 2).unwrap();
        [first, second].into_iter().for_each(|key| users.note_idle(at(0), key));
        users.get_mut(first).windows[0] = WindowKey::new(1);
        assert!(users.add_guest("c", address, 2) == Some(second), "the idle one goes");
        assert_eq!((users.of_session("a"), users.of_session("b")), (Some(first), None));
        users.get_mut(second).windows[0] = WindowKey::new(2);
        assert_eq!(users.add_guest("d", address, 2), None);
        users.expire(at(1_000_000));
        assert_eq!(users.guests(), 2);
    }

    #[test]
    fn a_guest_takes_little_memory() {
        assert!(size_of::<User>() <= 80, "{}", size_of::<User>());
    }

    #[test]
    fn calls_are_counted_by_the_second() {
        let mut users = Users::new(60, Seed::of_number(1).key("test"));
        let key = users.add("a", IpAddr::V4(Ipv4Addr::LOCALHOST), None);
        let user = users.get_mut(key);
        let mut may = |ms| user.may_call(Instant::from_millis(ms), 2);
        assert!(may(5000) && may(5001) && !may(5999) && may(6000));
    }
}
