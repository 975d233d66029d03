//! How many channels each address has had looked at for its patterns: the dearest that a client can ask for in few
//! bytes. A command of fifty bytes may touch as many channels as one subscriber may have; a thousand of them fit one
//! read.

use super::Server;
use crate::dialect::access::is_exempt;
use crate::hub::{Hub, HubError, LOOKED_AT_PER_SECOND};
use crate::time::Now;

impl Server {
    /// Carries out what may look at many channels, unless the client's address has had too many of them looked at in
    /// this second.
    #[cold]
    pub(super) fn searching<R>(
        &mut self,
        now: Now,
        slot: usize,
        search: impl FnOnce(&mut Hub) -> Result<R, HubError>,
    ) -> Result<R, HubError> {
        let peer = self.connections[slot].peer;
        if is_exempt(peer, &self.config) {
            return search(&mut self.hub);
        }
        if self.searches.so_far(now.at, peer) >= LOOKED_AT_PER_SECOND {
            self.hub.stats.subscriptions_refused += 1;
            return Err(HubError::TooManySearches);
        }
        let before = self.hub.looked_at();
        let done = search(&mut self.hub);
        let looked_at = u32::try_from(self.hub.looked_at() - before).unwrap_or(u32::MAX);
        self.searches.add(now.at, peer, looked_at);
        done
    }
}
