//! How many channels each address has had looked at for its patterns: the dearest that a client can ask for in few
//! bytes. A command of fifty bytes may touch as many channels as one subscriber may have; a thousand of them fit one
//! read.

use super::rate::Rate;
use crate::hub::{Hub, HubError, LOOKED_AT_PER_SECOND};
use crate::id::Key;
use crate::time::Instant;
use std::net::IpAddr;

/// What each address has had looked at in the second that runs.
#[derive(Debug)]
pub struct Searches(Rate);

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
        Self(Rate::new(key))
    }

    /// Before `hub` may look at many channels for a client at `address` (none: nobody counts it):
    /// [`HubError::TooManySearches`] if it has had too many of them looked at in this second.
    pub fn begin(&self, now: Instant, address: Option<IpAddr>, hub: &mut Hub) -> Result<Search, HubError> {
        if address.is_some_and(|address| self.0.so_far(now, address) >= LOOKED_AT_PER_SECOND) {
            hub.stats.subscriptions_refused += 1;
            return Err(HubError::TooManySearches);
        }
        Ok(Search { address, before: hub.looked_at() })
    }

    /// Counts what `hub` has looked at since.
    pub fn end(&mut self, now: Instant, search: Search, hub: &Hub) {
        if let Some(address) = search.address {
            let looked_at = u32::try_from(hub.looked_at() - search.before).unwrap_or(u32::MAX);
            self.0.add(now, address, looked_at);
        }
    }
}
