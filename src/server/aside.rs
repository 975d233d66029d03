//! What is known of few connections: it would be a field in vain in all the others. `Server::close` forgets it.

use crate::broker::Client;
use crate::carry::carry;
use crate::conn::{Incoming, Slot};
use crate::hub::SubscriberKey;
use std::collections::BTreeMap;

/// Tables beside the one of connections.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// The functions that parked polls by script want called.
    pub callbacks: BTreeMap<SubscriberKey, Box<str>>,
    /// Messages that have arrived in part, by the slot of their WebSocket.
    pub incoming: BTreeMap<Slot, Incoming>,
    /// Who asks on a connection, where that is not simply its peer: behind proxies.
    pub clients: BTreeMap<Slot, Client>,
    /// Origins that are not listed, but that answers to held requests name all the same, by the slot of the connection.
    pub origins: BTreeMap<Slot, Box<str>>,
}

carry! {
    struct Aside { callbacks, incoming, clients, origins }
}

impl Aside {
    /// Forgets a connection. Functions are kept by subscriber, and go with it.
    pub fn forget(&mut self, slot: Slot) {
        self.incoming.remove(&slot);
        self.clients.remove(&slot);
        self.origins.remove(&slot);
    }

    /// Whether nothing is known of anybody.
    #[cfg(any(test, feature = "check"))]
    pub fn is_empty(&self) -> bool {
        let Self { callbacks, incoming, clients, origins } = self;
        callbacks.is_empty() && incoming.is_empty() && clients.is_empty() && origins.is_empty()
    }
}
