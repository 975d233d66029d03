//! Budgets: how much each client may do in a second, whatever it speaks.

use super::client::Client;
use super::rate::Rate;
use super::refusal::Refusal;
use crate::carry::resume;
use crate::config::Config;
use crate::hub::{Hub, LOOKED_AT_IN_ALL, LOOKED_AT_PER_SECOND};
use crate::id::Seed;
use crate::time::Instant;
use std::net::IpAddr;

/// What each client has done in the second that runs.
#[derive(Debug)]
pub struct Gate {
    publishes_per_second: u32,
    /// Messages published.
    published: Rate,
    /// Work done for patterns, channels looked at and names compared: the dearest that a client can ask for in few
    /// bytes. A command of fifty bytes may touch as many channels as one subscriber may have; a thousand of them fit
    /// one read.
    looked_at: Rate,
    /// The same for all of them together, and in which second.
    looked_at_by_all: (u64, u64),
}

resume! {
    Gate {
        carried: looked_at_by_all;
        resumed: published, looked_at;
        given: publishes_per_second
    }
}

/// Leave to have channels looked at: for whom, unless nobody counts it, and what had been looked at before.
#[derive(Debug)]
#[must_use]
pub struct Search {
    address: Option<IpAddr>,
    before: u64,
}

impl Gate {
    /// Nobody has done anything.
    pub fn new(config: &Config, seed: Seed) -> Self {
        Self {
            publishes_per_second: config.limits.publishes_per_second,
            published: Rate::new(seed.key("publications by address")),
            looked_at: Rate::new(seed.key("searches by address")),
            looked_at_by_all: (0, 0),
        }
    }

    /// Takes the limits of `config`.
    pub const fn reconfigure(&mut self, config: &Config) {
        self.publishes_per_second = config.limits.publishes_per_second;
    }

    /// Counts `count` messages to be published by `client`. False, and they are not counted, if it has published too
    /// many in this second.
    pub fn admits_publications(&mut self, now: Instant, client: Client, count: usize) -> bool {
        !client.counted || self.count_publications(now, client.address, count)
    }

    #[cold]
    fn count_publications(&mut self, now: Instant, address: IpAddr, count: usize) -> bool {
        let (so_far, count) = (self.published.so_far(now, address), u32::try_from(count).unwrap_or(u32::MAX));
        if so_far.saturating_add(count) > self.publishes_per_second {
            return false;
        }
        self.published.add(now, address, count);
        true
    }

    /// Before `hub` may look at many channels for `client`. What is left of its budget, and of that of all together, is
    /// what the hub may do until [`Gate::end_search`].
    pub fn begin_search(&mut self, now: Instant, client: Client, hub: &mut Hub) -> Result<Search, Refusal> {
        let second = now.as_millis() / 1000;
        if self.looked_at_by_all.0 != second {
            self.looked_at_by_all = (second, 0);
        }
        let address = client.counted.then_some(client.address);
        if let Some(address) = address {
            let own = u64::from(LOOKED_AT_PER_SECOND.saturating_sub(self.looked_at.so_far(now, address)));
            let left = own.min(LOOKED_AT_IN_ALL.saturating_sub(self.looked_at_by_all.1));
            if left == 0 {
                return Err(Refusal::TooManySearches);
            }
            hub.allow(left);
        }
        Ok(Search { address, before: hub.looked_at() })
    }

    /// Counts what has been looked at since.
    pub fn end_search(&mut self, now: Instant, search: Search, hub: &mut Hub) {
        hub.allow(u64::MAX);
        if let Some(address) = search.address {
            let looked_at = hub.looked_at() - search.before;
            self.looked_at_by_all.1 += looked_at;
            self.looked_at.add(now, address, u32::try_from(looked_at).unwrap_or(u32::MAX));
        }
    }
}
