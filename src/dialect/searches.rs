//! How much work each address has had done for its patterns: channels looked at, names compared, the dearest that a client
//! can ask for in few bytes. A command of fifty bytes may touch as many channels as one subscriber may have; a thousand
//! of them fit one read.

use super::rate::Rate;
use crate::hub::{Hub, HubError, LOOKED_AT_IN_ALL, LOOKED_AT_PER_SECOND};
use crate::id::Key;
use crate::time::Instant;
use std::net::IpAddr;

/// What has been looked at in the second that runs.
#[derive(Debug)]
pub struct Searches {
    /// For each address.
    each: Rate,
    /// For all of them together, and in which second.
    all: (u64, u64),
}

/// A search that is being carried out: for whom, unless nobody counts it, and what had been looked at before.
#[derive(Debug)]
#[must_use]
pub struct Search {
    address: Option<IpAddr>,
    before: u64,
}

impl Searches {
    /// Nobody has had anything looked at. `key` hides which addresses share a place.
    pub const fn new(key: Key) -> Self {
        Self { each: Rate::new(key), all: (0, 0) }
    }

    /// Before `hub` may look at many channels for a client at `address`, unless nobody counts it:
    /// [`HubError::TooManySearches`] if it, or all together, have had too many of them looked at in this second. What is
    /// left is what the hub may do until [`Searches::end`].
    pub fn begin(
        &mut self,
        now: Instant,
        address: Option<IpAddr>,
        hub: &mut Hub,
    ) -> Result<Search, HubError> {
        let second = now.as_millis() / 1000;
        if self.all.0 != second {
            self.all = (second, 0);
        }
        if let Some(address) = address {
            let own = u64::from(LOOKED_AT_PER_SECOND.saturating_sub(self.each.so_far(now, address)));
            let left = own.min(LOOKED_AT_IN_ALL.saturating_sub(self.all.1));
            if left == 0 {
                hub.stats.subscriptions_refused += 1;
                return Err(HubError::TooManySearches);
            }
            hub.allow(left);
        }
        Ok(Search { address, before: hub.looked_at() })
    }

    /// Counts what `hub` has looked at since.
    pub fn end(&mut self, now: Instant, search: Search, hub: &mut Hub) {
        hub.allow(u64::MAX);
        if let Some(address) = search.address {
            let looked_at = hub.looked_at() - search.before;
            self.all.1 += looked_at;
            self.each.add(now, address, u32::try_from(looked_at).unwrap_or(u32::MAX));
        }
    }
}
