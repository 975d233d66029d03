//! Hosts and ports, as `Host` and the targets of requests name them.

use super::query::is_encoded_well;
use memchr::memchr;

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
    let end = value.iter().position(|byte| !PLAIN[usize::from(*byte)]).unwrap_or(value.len());
    match &value[end..] {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// Whether `value` is `uri-host [ ":" port ]` (RFC 9110, section 7.2), which may be empty. A comma is none of it: it
/// joins what came as two fields. All of it is ASCII.
#[cold]
pub fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value {
        [b'[', rest @ ..] => {
            let Some(end) = memchr(b']', rest) else { return false };
            let (address, behind) = (&rest[..end], &rest[end + 1..]);
            let is_address = |&byte: &u8| byte.is_ascii_hexdigit() || b":.%".contains(&byte);
            if address.is_empty() || !address.iter().all(is_address) {
                return false;
            }
            (&b""[..], behind)
        }
        _ => value.split_at(memchr(b':', value).unwrap_or(value.len())),
    };
    let is_named = |&byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%".contains(&byte);
    let is_port = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    is_port && host.iter().all(is_named) && is_encoded_well(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_way_to_tell_a_host_says_the_same() {
        for host in ["", "a", "A-b_c.example", "127.0.0.1:8080", ":80", "a:", "a:65535"] {
            assert!(is_plain_host(host.as_bytes()) && is_host(host.as_bytes()), "{host}");
        }
        for host in ["[::1]", "[::1]:80", "a%20b", "a~b", "a!"] {
            assert!(!is_plain_host(host.as_bytes()) && is_host(host.as_bytes()), "{host}");
        }
        for host in ["a:123456", "a:b", "a:1:2", "a b", "a,b", "a/b", "\u{e4}", "a%2", "[", "[]", "a@b"] {
            assert!(!is_plain_host(host.as_bytes()) && !is_host(host.as_bytes()), "{host}");
        }
    }
}
