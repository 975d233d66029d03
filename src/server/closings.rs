//! Why the server closed connections lately: whoever asks about one is told why the last one of its address ended.

use super::Server;
use crate::conn::Slot;
use crate::time::Instant;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::IpAddr;

/// So many are remembered, of all addresses.
const CLOSINGS: usize = 256;

/// The last ones.
#[derive(Debug, Default)]
pub struct Closings {
    last: VecDeque<Closing>,
}

/// One of them.
#[derive(Debug)]
pub struct Closing {
    peer: IpAddr,
    /// When.
    pub at: Instant,
    /// Why, for people.
    pub why: Cow<'static, str>,
}

impl Closings {
    fn note(&mut self, closing: Closing) {
        if self.last.len() == CLOSINGS {
            self.last.pop_front();
        }
        self.last.push_back(closing);
    }

    /// The last one of an address, if it is remembered.
    pub fn last_of(&self, peer: IpAddr) -> Option<&Closing> {
        self.last.iter().rev().find(|closing| closing.peer == peer.to_canonical())
    }
}

impl Server {
    /// Closes a connection that its client has not ended, says why, and remembers it.
    #[cold]
    pub(super) fn close_because(&mut self, now: Instant, slot: Slot, why: impl Into<Cow<'static, str>>) {
        let why = why.into();
        log::info!("{}: closed: {why}", self.connections[slot].peer);
        self.close_quietly(now, slot, why);
    }

    /// The same of one of many, of which the log says how many they are.
    #[cold]
    pub(super) fn close_quietly(&mut self, now: Instant, slot: Slot, why: impl Into<Cow<'static, str>>) {
        let peer = self.connections[slot].peer.to_canonical();
        self.telemetry.closings.note(Closing { peer, at: now, why: why.into() });
        self.close(now, slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_of_an_address_is_told_while_it_is_remembered() {
        let mut closings = Closings::default();
        let mut note = |last: u8, at: u64| {
            let peer = IpAddr::from([192, 0, 2, last]);
            closings.note(Closing { peer, at: Instant::from_millis(at), why: format!("reason {at}").into() });
        };
        note(1, 1);
        note(2, 2);
        note(1, 3);
        (0..CLOSINGS as u64 - 1).for_each(|number| note(9, 4 + number));
        let told = |last: u8| closings.last_of(IpAddr::from([192, 0, 2, last])).map(|closing| &*closing.why);
        assert_eq!([told(1), told(2)], [Some("reason 3"), None]);
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert!(closings.last_of(mapped).is_some());
        assert_eq!(closings.last.len(), CLOSINGS);
    }
}
