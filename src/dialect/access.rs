//! Who may publish: whoever shows the token, and, while none is configured, peers on a loopback address.

use super::cors;
use super::token::{bearer, is_one_of};
use crate::broker::forwarded_for;
use crate::config::Config;
use crate::wire::head::Head;
use std::net::IpAddr;

/// Why somebody may not publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    /// 401 or 403.
    pub status: u16,
    /// What the operator or the client can do.
    pub detail: &'static str,
}

const NOT_LOOPBACK: Denied = Denied {
    status: 403,
    detail: "publishing is open to loopback peers only; to publish from elsewhere, start the server with \
             --publish-token-file (or ENCKE_PUBLISH_TOKEN) and send `Authorization: Bearer <token>`; for a \
             proxy in front, see --trusted-proxies",
};
const OTHER_SITE: Denied = Denied {
    status: 403,
    detail: "a page of another origin may not publish by the loopback rule; configure publish.token",
};
const OTHER_NAME: Denied = Denied {
    status: 403,
    detail: "by the loopback rule, the URL must name this server localhost or by an address: any other name may \
             be somebody's who points it here; or configure publish.token",
};
const NO_TOKEN: Denied = Denied {
    status: 401,
    detail: "publishing needs `Authorization: Bearer <token>` with the token of this server",
};

/// Whether the sender of `head` may publish, delete and look at channels.
pub fn may_publish(head: &Head, peer: IpAddr, config: &Config) -> Result<(), Denied> {
    let tokens = &config.publish.token;
    if !tokens.is_empty() {
        let shown = head.field("authorization").and_then(bearer).unwrap_or_default();
        return match is_one_of(shown, tokens) {
            true => Ok(()),
            false => Err(NO_TOKEN),
        };
    }
    if !forwarded_for(head, peer, config).is_some_and(|client| client.to_canonical().is_loopback()) {
        return Err(NOT_LOOPBACK);
    }
    // A page that had its own name point at the loopback address sends no field that tells, but for Host.
    match has_public_name(head) {
        true => Err(OTHER_NAME),
        false if is_other_site(head) => Err(OTHER_SITE),
        false => Ok(()),
    }
}

/// Whether a browser says that a page of another origin sends this: being on the same machine is no proof of
/// good will for that page. A name that anybody can point at the loopback address proves nothing either, so a
/// page has to be at `localhost` or at an address.
fn is_other_site(head: &Head) -> bool {
    let authority = |origin: &str| origin.split_once("://").map(|(_, rest)| rest.to_ascii_lowercase());
    let is_foreign = |origin: &str| {
        let host = head.authority().to_ascii_lowercase();
        authority(origin).as_ref() != Some(&host) || !is_local_name(&host)
    };
    let is_far = |site: &[u8]| matches!(site, b"cross-site" | b"same-site");
    cors::pages(head).any(is_foreign) || head.fields("sec-fetch-site").any(is_far)
}

/// Whether the request names the server by a name that anybody can own: such have a dot. Names without one are
/// given by the machine, or by the network that it is in.
pub fn has_public_name(head: &Head) -> bool {
    // What most programs ask need not be read as an address.
    let authority = head.authority_bytes();
    let is_usual = authority.starts_with(b"127.0.0.1:");
    !is_usual && authority.contains(&b'.') && !is_local_name(head.authority())
}

/// Whether an authority is `localhost`, a name below it, or an address, with or without a port.
fn is_local_name(authority: &str) -> bool {
    let bracketed = authority.strip_prefix('[').and_then(|rest| rest.split(']').next());
    let name = bracketed.unwrap_or_else(|| authority.split(':').next().unwrap_or_default());
    let first_digit = name.starts_with(|first: char| first.is_ascii_digit()) || bracketed.is_some();
    if first_digit {
        return name.parse::<IpAddr>().is_ok();
    }
    let (name, localhost) = (name.as_bytes(), b".localhost");
    name.eq_ignore_ascii_case(&localhost[1..])
        || name.len() > localhost.len()
            && name[name.len() - localhost.len()..].eq_ignore_ascii_case(localhost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Publish};
    use crate::wire::head;

    fn verdict(fields: &str, peer: &str, config: &Config) -> u16 {
        let bytes = format!("POST /pub/a HTTP/1.1\r\nHost: localhost:8080\r\n{fields}\r\n");
        let mut slots = head::slots();
        let head = head::parse(bytes.as_bytes(), &mut slots).unwrap();
        may_publish(&head, peer.parse().unwrap(), config).err().map_or(200, |denied| denied.status)
    }

    #[test]
    fn without_a_token_only_loopback_peers() {
        let check = |fields, peer, status| {
            assert_eq!(verdict(fields, peer, &Config::default()), status, "{fields} from {peer}");
        };
        check("", "127.0.0.1", 200);
        check("", "127.8.9.1", 200);
        check("", "::1", 200);
        check("", "::ffff:127.0.0.1", 200);
        check("", "192.0.2.1", 403);
        check("X-Forwarded-For: 127.0.0.1\r\n", "127.0.0.1", 403);
        check("Forwarded: for=127.0.0.1\r\n", "127.0.0.1", 403);
        check("Origin: http://localhost:8080\r\n", "127.0.0.1", 200);
        check("Origin: http://evil.example\r\n", "127.0.0.1", 403);
        check("Origin: null\r\n", "127.0.0.1", 403);
        check("Sec-Fetch-Site: cross-site\r\n", "127.0.0.1", 403);
        check("Sec-Fetch-Site: same-origin\r\n", "127.0.0.1", 200);
        check("Referer: http://localhost:8080/demo/chat\r\n", "127.0.0.1", 200);
        check("Referer: http://evil.example/form\r\n", "127.0.0.1", 403);
        check("Referer: http://evil.example\r\n", "127.0.0.1", 403);
        check("Referer: http://evil.example\r\nReferer: http://localhost:8080/\r\n", "127.0.0.1", 403);
        check("Origin: http://evil.example\r\nOrigin: http://localhost:8080\r\n", "127.0.0.1", 403);
        check("Origin: http://evil.example@localhost:8080\r\n", "127.0.0.1", 403);
    }

    /// Old browsers send bytes of a query as they are.
    #[test]
    fn a_page_whose_address_cannot_be_read_is_foreign() {
        let bytes =
            b"POST /pub/a HTTP/1.1\r\nHost: localhost:8080\r\nReferer: http://evil.example/?\xe4\r\n\r\n";
        let mut slots = head::slots();
        let head = head::parse(bytes, &mut slots).unwrap();
        let verdict = may_publish(&head, [127, 0, 0, 1].into(), &Config::default());
        assert_eq!(verdict.map_err(|denied| denied.status), Err(403));
    }

    #[test]
    fn the_loopback_rule_is_for_local_names() {
        for (host, status) in [
            ("localhost", 200),
            ("LOCALHOST:8080", 200),
            ("127.0.0.1:8080", 200),
            ("[::1]:8080", 200),
            ("encke", 200),
            ("evil.example:8080", 403),
            ("evil.example.:8080", 403),
            ("127.0.0.1.evil.example", 403),
        ] {
            let bytes = format!("GET /pub/a HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let mut slots = head::slots();
            let head = head::parse(bytes.as_bytes(), &mut slots).unwrap();
            let verdict = may_publish(&head, [127, 0, 0, 1].into(), &Config::default())
                .err()
                .map_or(200, |denied| denied.status);
            assert_eq!(verdict, status, "{host}");
        }
    }

    #[test]
    fn a_name_that_points_here_is_no_proof_of_being_here() {
        for (authority, local) in [
            ("localhost:8080", true),
            ("demo.localhost", true),
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("evil.example:8080", false),
            ("localhost.evil.example", false),
        ] {
            assert_eq!(is_local_name(authority), local, "{authority}");
        }
    }

    #[test]
    fn a_trusted_proxy_is_believed() {
        let config = Config { trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()], ..Config::default() };
        let check = |fields, status| assert_eq!(verdict(fields, "127.0.0.1", &config), status, "{fields}");
        check("X-Forwarded-For: 192.0.2.1\r\n", 403);
        check("X-Forwarded-For: 127.0.0.2\r\n", 200);
        check("X-Forwarded-For: 127.0.0.2, 192.0.2.1\r\n", 403);
        check("Forwarded: proto=http;for=\"[::1]:4711\"\r\n", 200);
        check("Forwarded: for=192.0.2.1\r\n", 403);
        check("X-Forwarded-For: rubbish\r\n", 403);
        check("X-Forwarded-For: 192.0.2.1\r\nForwarded: for=127.0.0.2\r\n", 403);
        check("X-Forwarded-For: 127.0.0.2\r\nForwarded: for=127.0.0.2\r\n", 200);
    }

    #[test]
    fn with_a_token_nothing_else_counts() {
        let publish = Publish { token: vec!["0ther".into(), "s3cret".into()], ..Publish::default() };
        let config = Config { publish, ..Config::default() };
        let check = |fields, status| assert_eq!(verdict(fields, "127.0.0.1", &config), status, "{fields}");
        check("", 401);
        check("Authorization: Bearer wrong\r\n", 401);
        check("Authorization: Bearer 0ther\r\n", 200);
        check("Authorization: bearer s3cret\r\nOrigin: http://elsewhere\r\n", 200);
    }
}
