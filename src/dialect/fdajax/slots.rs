//! Slots: the number of the host name by which a window came.
//!
//! Browsers opened only two connections to a host, so a second window would have starved behind a waiting
//! first one. Pages therefore had several names (`www`, `www1` … `www4`), each good for one waiting window.

/// Slots there are.
pub const SLOTS: u8 = 5;

/// What a host name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The slot.
    pub slot: u8,
    /// A window that has the slot must go.
    pub force: bool,
}

/// What the `Host` field of a request says. An address instead of a name says nothing.
pub fn asked(host: &str) -> Asked {
    if host.starts_with("secure") {
        return Asked { slot: SLOTS - 1, force: true };
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_address = host.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok();
    let digit = name.trim_start_matches('w').bytes().next().filter(u8::is_ascii_digit);
    let slot = digit.filter(|_| !is_address).map_or(0, |digit| (digit - b'0').min(SLOTS - 1));
    Asked { slot, force: false }
}

/// What registries give names below, under the code of a country: `co.uk` is nobody's site.
const PUBLIC: [&str; 15] =
    ["ac", "co", "com", "edu", "go", "gob", "gov", "ltd", "me", "mil", "ne", "net", "nom", "or", "org"];

/// The host without what tells its slot, so that the hosts of one site compare equal. A name that only begins like a
/// slot is somebody else's, and so are `www.com`, which is no slot of `com`, and `www.co.uk`.
pub fn site(host: &str) -> &str {
    let Some((label, rest)) = host.split_once('.') else { return host };
    let is_slot = match label.strip_prefix("www") {
        Some(number) => number.len() <= 1 && number.bytes().all(|byte| byte.is_ascii_digit()),
        None => label == "secure",
    };
    if is_slot && is_site(rest) { rest } else { host }
}

/// Whether somebody can have that host as a site of his own.
fn is_site(host: &str) -> bool {
    let name = host.split(':').next().unwrap_or_default();
    let name = name.strip_suffix('.').unwrap_or(name);
    match name.rsplit_once('.') {
        Some((second, country)) => !(country.len() == 2 && PUBLIC.contains(&second)),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_their_slots() {
        for (host, slot, force) in [
            ("", 0, false),
            ("localhost:8080", 0, false),
            ("www.example.com", 0, false),
            ("www0.example.com", 0, false),
            ("www1.example.com", 1, false),
            ("w2.example.com:80", 2, false),
            ("www4.example.com", 4, false),
            ("www5.example.com", 4, false),
            ("www9", 4, false),
            ("3com.example", 3, false),
            ("WWW1.example.com", 0, false),
            ("secure.example.com", 4, true),
            ("secure2.example.com", 4, true),
            ("127.0.0.1:8080", 0, false),
            ("192.0.2.1", 0, false),
            ("[2001:db8::1]:80", 0, false),
        ] {
            assert_eq!(asked(host), Asked { slot, force }, "{host}");
        }
    }

    #[test]
    fn hosts_of_one_site() {
        for host in ["www.example.com:80", "www1.example.com:80", "secure.example.com:80", "example.com:80"] {
            assert_eq!(site(host), "example.com:80");
        }
        for host in ["localhost", "evil.example.com", "web.example.com", "www12.example.com", "1.example.com"]
        {
            assert_eq!(site(host), host);
        }
        for host in
            ["www.com", "secure.com", "w.com:80", "w1.co.uk", "securebank.example.com", "wwww1.example.com"]
        {
            assert_eq!(site(host), host);
        }
        for host in
            ["www.com.", "secure.com.:80", "www.co.uk", "secure.com.au:80", "www1.co.uk.", "www.", "www.:80"]
        {
            assert_eq!(site(host), host);
        }
        assert_eq!(site("www.example.co.uk."), "example.co.uk.");
        assert_eq!(site("www.abc.de"), "abc.de");
    }
}
