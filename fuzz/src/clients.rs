//! Who a client is: whatever it says of itself, a proxy that is trusted has the last word, and who comes without one is its
//! own address.

use encke::broker::Client;
use encke::config::Config;
use encke::wire::head;
use std::net::IpAddr;

/// Checks what a client may write into `X-Forwarded-For` and `Forwarded`: lines, each a value of one of them.
pub fn check(data: &[u8]) {
    let [proxy, stranger, client]: [IpAddr; 3] =
        ["192.0.2.7", "198.51.100.9", "203.0.113.5"].map(|text| text.parse().expect("an address"));
    let config =
        Config { trusted_proxies: vec!["192.0.2.0/24".parse().expect("a network")], ..Config::default() };
    let lines: Vec<Vec<u8>> = data
        .split(|&byte| byte == b'\n')
        .take(8)
        .map(|line| line.iter().copied().filter(|&byte| byte >= b' ' && byte != 0x7f).collect())
        .collect();
    let names = [&b"X-Forwarded-For: "[..], b"Forwarded: "];
    let own: Vec<u8> =
        lines.iter().enumerate().flat_map(|(at, line)| [names[at % 2], line, b"\r\n"].concat()).collect();
    let of = |fields: &[u8], peer| {
        let bytes = [&b"GET / HTTP/1.1\r\nHost: x\r\n"[..], fields, b"\r\n"].concat();
        let mut slots = head::slots();
        head::parse(&bytes, &mut slots).ok().map(|head| Client::of(&head, peer, &config))
    };
    if let Some(found) = of(&own, stranger) {
        assert!(found.counted && found.address == stranger, "a stranger is who it is: {found:?}");
    }
    // Each proxy appends to one field, and hands on the other as it came.
    for appended in [&b"X-Forwarded-For: 203.0.113.5\r\n"[..], b"Forwarded: for=203.0.113.5\r\n"] {
        if let Some(found) = of(&[&own, appended].concat(), proxy) {
            let is_known = found.address == client || found.address == proxy;
            assert!(found.counted && is_known, "whoever contradicts its proxy counts as that: {found:?}");
        }
    }
}
