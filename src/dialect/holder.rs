//! Whose subscriber it is: a connection's, or that of something which outlives connections.
//!
//! The hub knows an [`Owner`], four bytes that mean nothing to it. Here is what they mean, and nowhere else.

use crate::carry::carry;
use crate::conn::Slot;
use crate::hub::Owner;
use crate::table::{TableKey, table_key};

table_key! {
    /// A Bayeux session.
    SessionKey
}
table_key! {
    /// An FDAjax window.
    WindowKey
}
table_key! {
    /// An FDAjax user or guest.
    UserKey
}

/// Who holds a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// A connection that listens in the native way.
    Connection(Slot),
    /// A Bayeux session.
    Bayeux(SessionKey),
    /// An FDAjax window.
    Window(WindowKey),
    /// An FDAjax user.
    User(UserKey),
}

carry! {
    enum Holder {
        0 => Connection(slot: Slot), 1 => Bayeux(session: SessionKey), 2 => Window(window: WindowKey),
        3 => User(user: UserKey)
    }
}

/// Whoever is no connection has this bit, and the next two tell who it is.
const OUTLIVES: u32 = 1 << 31;
const FDAJAX: u32 = OUTLIVES | 1 << 30;
const USER: u32 = FDAJAX | 1 << 29;

impl From<Holder> for Owner {
    fn from(holder: Holder) -> Self {
        Self(match holder {
            Holder::Connection(slot) => slot.number(),
            Holder::Bayeux(key) => OUTLIVES | key.number(),
            Holder::Window(key) => FDAJAX | key.number(),
            Holder::User(key) => USER | key.number(),
        })
    }
}

impl From<Owner> for Holder {
    #[inline]
    fn from(Owner(bits): Owner) -> Self {
        let place = (bits & !USER) as usize;
        match bits & USER {
            OUTLIVES => Self::Bayeux(SessionKey::at(place)),
            FDAJAX => Self::Window(WindowKey::at(place)),
            USER => Self::User(UserKey::at(place)),
            _ => Self::Connection(Slot::new(bits)),
        }
    }
}

impl Holder {
    /// The connection that it is, if it is one.
    #[inline]
    pub fn connection(owner: Owner) -> Option<Slot> {
        let Owner(bits) = owner;
        (bits & OUTLIVES == 0).then(|| Slot::new(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_mean_what_they_were_made_of() {
        for number in [0, 1, 77, (1 << 29) - 1] {
            for holder in [
                Holder::Connection(Slot::new(number)),
                Holder::Bayeux(SessionKey::new(number)),
                Holder::Window(WindowKey::new(number)),
                Holder::User(UserKey::new(number)),
            ] {
                assert_eq!(Holder::from(Owner::from(holder)), holder);
            }
        }
    }
}
