//! Budgets: how much each client may do in a second, whatever it speaks.

use super::client::Client;
use super::rate::{Rate, network};
use super::refusal::Refusal;
use crate::carry::resume;
use crate::config::{Config, is_demo_chat};
use crate::hub::{Hub, LOOKED_AT_IN_ALL, LOOKED_AT_PER_SECOND, LOOKED_AT_PER_VISIT, Payer};
use crate::id::{Key, Seed};
use crate::time::Instant;
use std::net::{IpAddr, Ipv4Addr};

/// Messages that one address may publish in the demo's chat in a second.
pub const SAID_IN_DEMO_BY_ONE: u32 = 20;
/// The same for all together: a proxy that does not tell who its clients are is everybody.
pub const SAID_IN_DEMO: u32 = 200;
/// Tokens that one address may have as a guest of the demo in a second.
pub const GUESTS_BY_ONE: u32 = 20;
/// The same for all together.
pub const GUESTS: u32 = 200;

/// What each client has done in the second that runs.
#[derive(Debug)]
pub struct Gate {
    publishes_per_second: u32,
    /// Messages published.
    published: Rate,
    /// The same in the chat of the demo, where everybody may.
    said_in_demo: Rate,
    /// Tokens that guests of the demo were given.
    welcomed: Rate,
    is_demo: bool,
    /// Work done for patterns, channels looked at and names compared: the dearest that a client can ask for in few
    /// bytes. A command of fifty bytes may touch as many channels as one subscriber may have; a thousand of them fit
    /// one read.
    looked_at: Rate,
    /// The same for all of them together, and in which second.
    looked_at_by_all: (u64, u64),
    /// How much of it is left for the request at hand.
    left_of_visit: u64,
    /// For whom addresses are to the hub.
    payers: Key,
    /// Who is refused what takes memory.
    shortage: Shortage,
}

/// Whom there is no memory for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shortage {
    /// Nobody is refused.
    #[default]
    None,
    /// Clients whose budgets are counted.
    Strangers,
    /// The application's own programs, too.
    Everybody,
}

resume! {
    Gate {
        carried: looked_at_by_all;
        resumed: published, said_in_demo, welcomed, looked_at;
        // How short memory is, is found out again.
        given: publishes_per_second, is_demo, left_of_visit, payers, shortage
    }
}

/// Leave to have channels looked at: for whom, unless nobody counts it, and what had been looked at before.
#[derive(Debug)]
#[must_use]
pub struct Search {
    address: Option<IpAddr>,
    before: u64,
}

impl Search {
    /// Whether somebody counts it.
    pub const fn is_counted(&self) -> bool {
        self.address.is_some()
    }
}

impl Gate {
    /// Nobody has done anything.
    pub fn new(config: &Config, seed: Seed) -> Self {
        Self {
            publishes_per_second: config.limits.publishes_per_second,
            published: Rate::new(seed.key("publications by address")),
            said_in_demo: Rate::new(seed.key("what is said in the demo by address")),
            welcomed: Rate::new(seed.key("guests of the demo by address")),
            is_demo: config.demo,
            looked_at: Rate::new(seed.key("searches by address")),
            looked_at_by_all: (0, 0),
            left_of_visit: LOOKED_AT_PER_VISIT,
            payers: seed.key("shares by address"),
            shortage: Shortage::None,
        }
    }

    /// Another request begins: nobody else is served until it is done, so that all of it has one budget.
    pub const fn begin_visit(&mut self) {
        self.left_of_visit = LOOKED_AT_PER_VISIT;
    }

    /// Takes note of whom there is no memory for from now on.
    pub const fn note_shortage(&mut self, shortage: Shortage) {
        self.shortage = shortage;
    }

    /// Whether there is memory for more that is kept for a client who is `counted`, or not.
    pub fn has_memory(&self, counted: bool) -> bool {
        self.shortage < if counted { Shortage::Strangers } else { Shortage::Everybody }
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

    /// Whether it counts what is said in the demo.
    pub const fn is_demo(&self) -> bool {
        self.is_demo
    }

    /// Whether what is published to these channels by `client` is not too much in this second for the chat of the demo;
    /// if so, it is counted.
    pub fn admits_in_demo<'c>(
        &mut self,
        now: Instant,
        client: Client,
        channels: impl Iterator<Item = &'c str>,
    ) -> bool {
        !self.is_demo || self.count_in_demo(now, client, channels)
    }

    #[cold]
    fn count_in_demo<'c>(
        &mut self,
        now: Instant,
        client: Client,
        channels: impl Iterator<Item = &'c str>,
    ) -> bool {
        let said = channels.filter(|channel| is_demo_chat(channel)).count();
        let said = u32::try_from(said).unwrap_or(u32::MAX);
        said == 0 || admits(&mut self.said_in_demo, now, client, said, (SAID_IN_DEMO_BY_ONE, SAID_IN_DEMO))
    }

    /// Whether `client` may have another token as a guest of the demo in this second; if so, it is counted.
    pub fn admits_guest(&mut self, now: Instant, client: Client) -> bool {
        admits(&mut self.welcomed, now, client, 1, (GUESTS_BY_ONE, GUESTS))
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
            let left =
                own.min(LOOKED_AT_IN_ALL.saturating_sub(self.looked_at_by_all.1)).min(self.left_of_visit);
            if left == 0 {
                return Err(Refusal::TooManySearches);
            }
            hub.allow(left);
            // Zero is nobody.
            hub.pays(Payer(self.payers.hash(network(address)).max(1)));
        }
        Ok(Search { address, before: hub.looked_at() })
    }

    /// Counts what has been looked at since.
    pub fn end_search(&mut self, now: Instant, search: Search, hub: &mut Hub) {
        hub.allow(u64::MAX);
        hub.pays(Payer::NOBODY);
        if let Some(address) = search.address {
            let looked_at = hub.looked_at() - search.before;
            self.looked_at_by_all.1 += looked_at;
            self.left_of_visit = self.left_of_visit.saturating_sub(looked_at);
            self.looked_at.add(now, address, u32::try_from(looked_at).unwrap_or(u32::MAX));
        }
    }
}

/// Whether `client` may do something `times` in a second in which one address may do it so often, and all together so
/// often; if so, it is counted. Who is exempt counts among all.
fn admits(rate: &mut Rate, now: Instant, client: Client, times: u32, (by_one, by_all): (u32, u32)) -> bool {
    let all = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let exceeds = |by, most| rate.so_far(now, by).saturating_add(times) > most;
    if exceeds(all, by_all) || client.counted && exceeds(client.address, by_one) {
        return false;
    }
    rate.add(now, all, times);
    rate.add(now, client.address, times);
    true
}
