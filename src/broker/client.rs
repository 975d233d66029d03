//! Who asks, as far as budgets are concerned: the client's address, seen through the proxies that are trusted.

use crate::carry::carry;
use crate::config::Config;
use crate::wire::head::Head;
use ipnet::IpNet;
use std::net::IpAddr;

/// Whose budget it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The client's address; that of the nearest proxy if it is not known.
    pub address: IpAddr,
    /// What it does is counted.
    pub counted: bool,
}

carry! {
    struct Client { address, counted }
}

impl Client {
    /// The process itself, whom nobody counts.
    pub const OWN: Self = Self { address: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), counted: false };

    /// The peer itself, without a proxy between.
    pub fn direct(peer: IpAddr, config: &Config) -> Self {
        Self { address: peer, counted: !is_exempt(peer, config) }
    }

    /// Whoever sent `head` on a connection of `peer`. A client that a proxy does not name is counted as that proxy,
    /// which itself would be exempt.
    pub fn of(head: &Head, peer: IpAddr, config: &Config) -> Self {
        if config.trusted_proxies.is_empty() && is_among(&config.limits.exempt, peer) {
            return Self { address: peer, counted: false };
        }
        match forwarded_for(head, peer, config) {
            Some(address) => Self { address, counted: !is_exempt(address, config) },
            None => Self { address: peer, counted: true },
        }
    }
}

/// Whether `address` is one of those, or in one of those networks.
fn is_among(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// Whether limits per address do not hold for `address`: many clients come from there.
pub fn is_exempt(address: IpAddr, config: &Config) -> bool {
    let address = address.to_canonical();
    is_among(&config.limits.exempt, address) || is_among(&config.trusted_proxies, address)
}

/// The client's address: the peer's, unless the request came through a proxy. A trusted proxy is believed,
/// any other makes the client unknown. A proxy writes one of the two fields and may hand on the other as it
/// came, so where both are there they have to agree.
pub fn forwarded_for(head: &Head, peer: IpAddr, config: &Config) -> Option<IpAddr> {
    if !head.may_have("x-forwarded-for") && !head.may_have("forwarded") {
        return Some(peer);
    }
    told_by_proxies(head, peer, config)
}

#[cold]
fn told_by_proxies(head: &Head, peer: IpAddr, config: &Config) -> Option<IpAddr> {
    let mut fields =
        ["x-forwarded-for", "forwarded"].into_iter().filter(|name| head.fields(name).next().is_some());
    let Some(first) = fields.next() else { return Some(peer) };
    let client = forwarded(head, first, peer, config)?;
    match fields.next() {
        Some(second) => forwarded(head, second, peer, config).filter(|other| *other == client),
        None => Some(client),
    }
}

/// The client's address as the proxies tell it in one field.
fn forwarded(head: &Head, field: &str, peer: IpAddr, config: &Config) -> Option<IpAddr> {
    let values = head.fields(field).map(|value| std::str::from_utf8(value).unwrap_or_default());
    let hops: Vec<&str> = values.flat_map(|value| value.split(',')).collect();
    let mut address = peer;
    // The nearest proxy appended the last hop; each is believed only if the one after it is trusted.
    for hop in hops.into_iter().rev() {
        if !is_among(&config.trusted_proxies, address.to_canonical()) {
            return (address != peer).then_some(address);
        }
        address = read_hop(hop)?;
    }
    Some(address)
}

/// An address as in `X-Forwarded-For`, or the `for=` of `Forwarded` (RFC 7239), with or without a port.
fn read_hop(hop: &str) -> Option<IpAddr> {
    let node = hop.split(';').find_map(|part| {
        let (name, value) = part.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    });
    let node = node.unwrap_or_else(|| hop.trim()).trim_matches('"');
    let bare = node.strip_prefix('[').and_then(|rest| rest.split(']').next());
    let without_port = node.rsplit_once(':').map_or(node, |(address, _)| address);
    [bare.unwrap_or(node), without_port].iter().find_map(|text| text.parse().ok())
}
