//! Subscriptions that others are to be told of, as they begin and as they end.
//!
//! A stream may have a thousand selectors, and each is an event: they are published a few in each turn, in the order in
//! which streams came and went, and made no earlier than that. Who comes pays for both of its events beforehand.

use super::super::{Server, Sink};
use super::listener::Listener;
use crate::broker::{Client, Refusal};
use crate::carry::carry;
use crate::hub::{Publication, SUBSCRIPTIONS};
use crate::time::{Instant, Now};
use std::collections::VecDeque;
use std::rc::Rc;

/// Bytes of selections that may wait to be told of; above, nobody comes.
pub const UNTOLD_BYTES_MAX: usize = 16 << 20;

/// Streams that have begun or ended, of which not everything has been told.
#[derive(Debug, Default)]
pub(super) struct Untold {
    streams: VecDeque<Telling>,
    bytes: usize,
}

#[derive(Debug)]
struct Telling {
    listener: Rc<Listener>,
    /// It has begun; else it has ended.
    active: bool,
    /// How many of its subscriptions have been told of.
    told: usize,
}

carry! {
    struct Untold { streams, bytes }
}

carry! {
    struct Telling { listener, active, told }
}

impl Untold {
    /// Adds a stream.
    pub fn push(&mut self, listener: Rc<Listener>, active: bool) {
        self.bytes += listener.bytes();
        self.streams.push_back(Telling { listener, active, told: 0 });
    }

    /// The next event.
    fn next(&mut self, hub: &str) -> Option<Publication> {
        loop {
            let Telling { listener, active, told } = self.streams.front_mut()?;
            if let Some(subscription) = listener.subscription(*told, hub, *active) {
                *told += 1;
                return Some(subscription.event());
            }
            self.bytes -= listener.bytes();
            self.streams.pop_front();
        }
    }
}

impl Server {
    /// Whether there is somebody to tell of.
    pub(in crate::server) fn has_untold_subscriptions(&self) -> bool {
        self.mercure.as_ref().is_some_and(|mercure| !mercure.untold.streams.is_empty())
    }

    /// Whether `client` may have others told of so many subscriptions, when they begin and when they end.
    pub(super) fn may_be_told_of(
        &mut self,
        now: Instant,
        client: Client,
        count: usize,
    ) -> Result<(), Refusal> {
        let untold = self.mercure.as_ref().map_or(0, |mercure| mercure.untold.bytes);
        match self.config.mercure.subscriptions {
            true if untold > UNTOLD_BYTES_MAX => Err(Refusal::LogBehind),
            true => self.broker.admits_events(now, client, 2 * count),
            false => Ok(()),
        }
    }

    /// Tells of subscriptions that have begun or ended, while there is time.
    #[cold]
    pub(in crate::server) fn tell_subscriptions(&mut self, now: Now, sink: &mut impl Sink) {
        sink.begin_part();
        let mut told = 0;
        while !sink.is_over(told)
            && let Some(event) =
                self.mercure.as_mut().and_then(|mercure| mercure.untold.next(&self.config.mercure.path))
        {
            told += 1;
            if let Err(refusal) = self.broker.publish_own(now.at, SUBSCRIPTIONS, event) {
                log::warn!("a subscription is not told of: {}", refusal.detail());
            }
        }
        self.propose(now.at);
    }
}
