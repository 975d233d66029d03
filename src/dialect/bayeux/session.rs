//! Sessions: what is remembered of a client between its requests, and for how long.
//!
//! A session has no queue: its undelivered messages are those newer than the cursor of its subscriber. It
//! belongs to no connection; a connection may hold its connect, or be the one its events are pushed on.

use super::timesync::Timesync;
use crate::carry::carry;
use crate::conn::ConnId;
use crate::dialect::Identity;
use crate::dialect::holder::SessionKey;
use crate::hub::SubscriberKey;
use crate::id::Seq;
use crate::table::Table;
use crate::time::{Instant, Wheel};
use std::rc::Rc;

/// Digits of a client id that are random: 128 bits in base 36.
const SECRET_DIGITS: usize = 25;
/// Digits of a client id that are the place of the session, in base 36.
const PLACE_DIGITS_MAX: usize = 7;
const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// One client.
#[derive(Debug)]
pub struct Session {
    /// What only its client knows: the random part of the client id.
    secret: u128,
    /// A hash of the browser's cookie.
    pub cookie: u64,
    /// Whose it is, and what they may do.
    pub identity: Identity,
    /// Its cursor in the hub, from the first subscription on.
    pub subscriber: Option<SubscriberKey>,
    /// The connect that waits for news.
    pub held: Option<Box<Held>>,
    /// The connection that events are pushed on.
    pub pipe: Option<Pipe>,
    /// When its client was last heard of, or was last answered a connect.
    pub since: Instant,
    /// The newest message in the batch that is not acknowledged yet; 0 = the batch has none.
    pub sent: Seq,
    /// The number of the last batch.
    pub batch: u32,
    /// Batches are acknowledged: the cursor moves only then.
    pub acks: bool,
    /// Events tell their position.
    pub replay: bool,
    /// There has been a connect.
    pub connected: bool,
    /// It connects by eventsource: connects are not held, but follow each other at the pace of `timeout`.
    pub paced: bool,
    /// Channels of which it missed messages, to be told with the next connect.
    pub gaps: Vec<Rc<str>>,
    /// How many of them, the first ones, stand in the last batch, which is not acknowledged yet.
    pub gaps_told: u32,
}

carry! {
    struct Session { secret, cookie, identity, subscriber, held, pipe, since, sent, batch, acks, replay, connected, paced, gaps, gaps_told }
}

impl Session {
    /// The gaps that the next reply to a connect tells of. Where batches are acknowledged, they are told again until that
    /// has come.
    pub fn tell_gaps(&mut self) -> Vec<Rc<str>> {
        if !self.acks {
            return std::mem::take(&mut self.gaps);
        }
        self.gaps_told = self.gaps.len() as u32;
        self.gaps.clone()
    }

    /// The last batch has come, or will be sent again.
    pub fn settle_gaps(&mut self, has_come: bool) {
        let told = (std::mem::take(&mut self.gaps_told) as usize).min(self.gaps.len());
        if has_come {
            self.gaps.drain(..told);
        }
    }

    /// The connection that events are pushed on, unless they have to wait for connects.
    pub fn pushes(&self) -> Option<Pipe> {
        self.pipe.filter(|pipe| !self.acks && (pipe.socket || self.paced))
    }
}

/// A connect that waits for news.
#[derive(Debug)]
pub struct Held {
    /// Where it waits.
    pub connection: ConnId,
    /// That is a WebSocket, and not a request.
    pub socket: bool,
    /// Its id, as JSON.
    pub id: Option<Box<str>>,
    /// When it is answered at the latest.
    pub until: Instant,
    /// The function that a callback-polling answer calls.
    pub callback: Option<Box<str>>,
    /// What its client asked of our clock.
    pub timesync: Option<Box<Timesync>>,
}

carry! {
    struct Held { connection, socket, id, until, callback, timesync }
}

/// A connection that events are pushed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pipe {
    /// Which.
    pub connection: ConnId,
    /// A WebSocket; else the stream of an eventsource.
    pub socket: bool,
}

carry! {
    struct Pipe { connection, socket }
}

/// All sessions.
#[derive(Debug)]
pub struct Sessions {
    all: Table<SessionKey, Session>,
    /// One timer a session: the end of its held connect, or its own.
    wheel: Wheel<SessionKey>,
}

carry! {
    struct Sessions { all, wheel }
}

impl Sessions {
    /// None.
    pub fn new(now: Instant) -> Self {
        Self { all: Table::default(), wheel: Wheel::new(now) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Begins a session.
    pub fn begin(&mut self, secret: u128, cookie: u64, now: Instant) -> SessionKey {
        let session = Session {
            secret,
            cookie,
            identity: Identity::default(),
            subscriber: None,
            held: None,
            pipe: None,
            since: now,
            sent: 0,
            batch: 0,
            acks: false,
            replay: false,
            connected: false,
            paced: false,
            gaps: Vec::new(),
            gaps_told: 0,
        };
        self.all.insert(session)
    }

    /// The client id of a session: its random part, then its place.
    pub fn client_id(&self, key: SessionKey) -> String {
        let mut rest = self.all[key].secret;
        let mut digits = [0; SECRET_DIGITS];
        for digit in digits.iter_mut().rev() {
            *digit = DIGITS[(rest % 36) as usize];
            rest /= 36;
        }
        let mut id: String = digits.iter().map(|&digit| char::from(digit)).collect();
        let mut place = key.number();
        loop {
            id.push(char::from(DIGITS[(place % 36) as usize]));
            place /= 36;
            if place == 0 {
                return id;
            }
        }
    }

    /// The session of that client id.
    pub fn find(&self, client_id: &str) -> Option<SessionKey> {
        let (secret, place) = client_id.as_bytes().split_at_checked(SECRET_DIGITS)?;
        // The last digit is the highest: with zeros behind it, several ids would name one session.
        let is_padded = place.len() > 1 && place.ends_with(b"0");
        if place.is_empty() || place.len() > PLACE_DIGITS_MAX || is_padded {
            return None;
        }
        let key = place.iter().rev().try_fold(0_u64, |key, &byte| Some(key * 36 + digit(byte)?))?;
        let key = SessionKey::new(u32::try_from(key).ok()?);
        let secret = number(secret)?;
        self.all.get(key).is_some_and(|session| session.secret == secret).then_some(key)
    }

    /// A session that exists.
    pub fn get(&mut self, key: SessionKey) -> &mut Session {
        &mut self.all[key]
    }

    /// A session, if it exists.
    pub fn look(&self, key: SessionKey) -> Option<&Session> {
        self.all.get(key)
    }

    /// All of them.
    pub fn keys(&self) -> Vec<SessionKey> {
        self.all.iter().map(|(key, _)| key).collect()
    }

    /// Ends a session.
    pub fn remove(&mut self, key: SessionKey) -> Session {
        self.wheel.clear(key);
        self.all.remove(key)
    }

    /// Sees to it that a session's timer fires at the latest then.
    pub fn arm(&mut self, key: SessionKey, deadline: Instant) {
        self.wheel.set_by(key, deadline);
    }

    /// A session whose timer has run out.
    pub fn expire(&mut self, now: Instant) -> Option<SessionKey> {
        self.wheel.expire(now)
    }

    /// When [`Sessions::expire`] has something to tell.
    pub fn next_deadline(&self) -> Instant {
        self.wheel.next_deadline()
    }
}

/// The value of each byte as a digit in base 36; 36 = it is none. Capital letters are none.
static VALUES: [u8; 256] = {
    let mut values = [36; 256];
    let mut value = 0;
    while value < DIGITS.len() {
        values[DIGITS[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// The value of a digit in base 36.
fn digit(byte: u8) -> Option<u64> {
    Some(VALUES[usize::from(byte)].into()).filter(|value| *value < 36)
}

/// A number in base 36; `None` if it has more than 128 bits. Twelve digits at a time fit a machine's word.
fn number(digits: &[u8]) -> Option<u128> {
    digits.chunks(12).try_fold(0_u128, |number, chunk| {
        let part = chunk.iter().try_fold(0_u64, |part, &byte| Some(part * 36 + digit(byte)?))?;
        number.checked_mul(36_u128.pow(chunk.len() as u32))?.checked_add(part.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_find_their_session_and_nothing_else_does() {
        let mut sessions = Sessions::new(Instant::default());
        for (place, secret) in [0, 1, u128::MAX, 1 << 77].into_iter().enumerate() {
            let key = sessions.begin(secret, 0, Instant::default());
            let id = sessions.client_id(key);
            assert!(id.len() >= 22 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            assert_eq!((key, sessions.find(&id)), (SessionKey::new(place as u32), Some(key)));
            for wrong in [
                format!("{id}0"),
                format!("{id}00"),
                format!("{id}1"),
                id.to_uppercase(),
                id.replacen(['0', 'f'], "1", 1),
            ] {
                assert!(wrong == id || sessions.find(&wrong).is_none(), "{wrong}");
            }
        }
        for wrong in ["", "nope", &"z".repeat(26), &"0".repeat(33), "é".repeat(13).as_str()] {
            assert_eq!(sessions.find(wrong), None, "{wrong}");
        }
        let id = sessions.client_id(SessionKey::new(2));
        sessions.remove(SessionKey::new(2));
        assert_eq!(sessions.find(&id), None);
    }

    #[test]
    fn a_session_is_small() {
        assert!(size_of::<Session>() <= 144, "{}", size_of::<Session>());
    }
}
