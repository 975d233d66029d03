//! Hosts and ports, as `Host` and the targets of requests name them.

use super::query::is_encoded_well;
use super::words::first_of;
use memchr::memchr;
use std::net::Ipv6Addr;

/// Letters, digits, `-`, `.` and `_`, of which nearly all hosts are.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        plain[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'-' | b'.' | b'_');
        byte += 1;
    }
    plain
};

/// The same as [`is_host`] of a name or an IPv4 address that need not be encoded; of any other it says no.
pub fn is_plain_host(value: &[u8]) -> bool {
    let (host, port) = value.split_at(first_of(value, [b':']).unwrap_or(value.len()));
    let has_port = match port {
        [] => true,
        [_, digits @ ..] => is_port(digits),
    };
    // Without a branch for each byte: nearly always all are plain.
    has_port && host.iter().fold(true, |is_plain, byte| is_plain & PLAIN[usize::from(*byte)])
}

/// Whether these are the digits of a port, which may be none.
fn is_port(digits: &[u8]) -> bool {
    let add = |port: u32, digit: &u8| digit.is_ascii_digit().then(|| port * 10 + u32::from(digit - b'0'));
    digits.len() <= 5 && digits.iter().try_fold(0, add).is_some_and(|port| port <= u16::MAX.into())
}

/// Whether `value` is `uri-host [ ":" port ]` (RFC 9110, section 7.2), which may be empty. A comma is none of it: it
/// joins what came as two fields. All of it is ASCII.
#[cold]
pub fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value {
        [b'[', rest @ ..] => {
            let Some(end) = memchr(b']', rest) else { return false };
            let (address, behind) = (&rest[..end], &rest[end + 1..]);
            let address =
                std::str::from_utf8(address).ok().and_then(|address| address.parse::<Ipv6Addr>().ok());
            if address.is_none() {
                return false;
            }
            (&b""[..], behind)
        }
        _ => value.split_at(memchr(b':', value).unwrap_or(value.len())),
    };
    let is_named = |&byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%".contains(&byte);
    let has_port = match port {
        [] => true,
        [b':', digits @ ..] => is_port(digits),
        _ => false,
    };
    has_port && host.iter().all(is_named) && is_encoded_well(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_way_to_tell_a_host_says_the_same() {
        for host in ["", "a", "A-b_c.example", "127.0.0.1:8080", ":80", "a:", "a:65535", "a:00080"] {
            assert!(is_plain_host(host.as_bytes()) && is_host(host.as_bytes()), "{host}");
        }
        for host in ["[::1]", "[::1]:80", "[2001:db8::7f00:1]", "[::ffff:127.0.0.1]", "a%20b", "a~b", "a!"] {
            assert!(!is_plain_host(host.as_bytes()) && is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "a:123456",
            "a:65536",
            "a:99999",
            "a:b",
            "a:1:2",
            "a b",
            "a,b",
            "a/b",
            "\u{e4}",
            "a%2",
            "a@b",
            "[",
            "[]",
            "[abc]",
            "[:::]",
            "[1.2.3.4]",
            "[::1%25lo]",
            "[::1]:65536",
        ] {
            assert!(!is_plain_host(host.as_bytes()) && !is_host(host.as_bytes()), "{host}");
        }
    }
}
