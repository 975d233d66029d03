//! How many connections each address has open.
//!
//! One entry an address, whatever the number of its connections, so that a connection costs nothing here. Addresses
//! that no limit holds for are not counted.

use crate::broker::is_exempt;
use crate::broker::network;
use crate::config::Config;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Connections by address; of IPv6, by network of 64 bits.
#[derive(Debug, Default)]
pub struct Addresses {
    open: BTreeMap<IpAddr, u32>,
}

impl Addresses {
    /// Notes a connection of `peer`. Returns how many it has now; 0 if nobody counts them.
    pub fn enter(&mut self, peer: IpAddr, config: &Config) -> usize {
        if is_exempt(peer, config) {
            return 0;
        }
        let open = self.open.entry(network(peer)).or_default();
        *open += 1;
        *open as usize
    }

    /// How many connections an address has; 0 if nobody counts them.
    pub fn open(&self, peer: IpAddr) -> usize {
        self.open.get(&network(peer)).map_or(0, |open| *open as usize)
    }

    /// Notes that a connection of `peer` has gone.
    pub fn leave(&mut self, peer: IpAddr, config: &Config) {
        if is_exempt(peer, config) {
            return;
        }
        let network = network(peer);
        if let Some(open) = self.open.get_mut(&network) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(&network);
            }
        }
    }

    /// Addresses that have connections open.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_counted_and_forgotten() {
        let config = Config { trusted_proxies: vec!["192.0.2.9/32".parse().unwrap()], ..Config::default() };
        let mut addresses = Addresses::default();
        let mut enter = |peer: &str| addresses.enter(peer.parse().unwrap(), &config);
        assert_eq!(["192.0.2.1", "192.0.2.1", "192.0.2.2"].map(&mut enter), [1, 2, 1]);
        assert_eq!(["2001:db8::1", "2001:db8::2:0:0:1", "2001:db8:0:1::1"].map(&mut enter), [1, 2, 1]);
        assert_eq!(["::ffff:192.0.2.1", "127.0.0.2"].map(&mut enter), [3, 1]);
        assert_eq!(["127.0.0.1", "::1", "::ffff:127.0.0.1", "192.0.2.9"].map(&mut enter), [0; 4]);
        assert_eq!(addresses.len(), 5);
        for peer in
            ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::9", "2001:db8::9", "127.0.0.2"]
        {
            addresses.leave(peer.parse().unwrap(), &config);
        }
        addresses.leave("127.0.0.1".parse().unwrap(), &config);
        assert_eq!(addresses.len(), 1, "2001:db8:0:1::1 is left");
    }
}
