//! Queries, channel names and patterns: what is valid survives being written into a URL and read again, and a
//! pattern matches what a plain reading of its segments says.

use encke::hub::{Pattern, channel_name};
use encke::wire::query;

/// Checks a name, a pattern and a query.
pub fn check(data: &[u8]) {
    let (pattern, name) = match data.iter().position(|&byte| byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, data),
    };
    check_name(name);
    check_pattern(pattern, name);
    if let Ok(text) = std::str::from_utf8(data) {
        check_query(text);
    }
}

fn check_name(bytes: &[u8]) {
    let Ok(name) = channel_name(bytes) else { return };
    assert!((1..=255).contains(&name.len()) && !name.chars().any(char::is_control));
    let is_bad = |segment: &str| matches!(segment, "" | "." | ".." | "*" | "**");
    assert!(!name.split('/').any(is_bad), "{name:?}");
    let encoded = query::encode_path(name).to_string();
    assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic() && !b",?#\"<>".contains(&byte)), "{encoded}");
    assert_eq!(&*query::decode_path(&encoded), bytes);
}

fn check_pattern(pattern: &[u8], name: &[u8]) {
    let Ok(Some(pattern)) = Pattern::parse(pattern) else { return };
    assert!(pattern.covers(&pattern), "{pattern:?} does not cover itself");
    let Ok(name) = channel_name(name) else { return };
    let matches = plainly(pattern.as_str(), name);
    assert_eq!(pattern.matches(name), matches, "{pattern:?} and {name:?}");
    if matches {
        assert!(name.starts_with(pattern.prefix()), "{name:?} has not the prefix of {pattern:?}");
    }
}

/// The segments from the end, rather than from the beginning.
fn plainly(pattern: &str, name: &str) -> bool {
    let (mut wanted, mut found) =
        (pattern.split('/').collect::<Vec<_>>(), name.split('/').collect::<Vec<_>>());
    if wanted.last() == Some(&"**") {
        wanted.pop();
        if found.len() <= wanted.len() {
            return false;
        }
        found.truncate(wanted.len());
    }
    wanted.len() == found.len()
        && wanted.iter().zip(&found).all(|(wanted, found)| *wanted == "*" || wanted == found)
}

fn check_query(text: &str) {
    for (name, value) in query::pairs(text).flatten() {
        let written = format!("{}={}", encode(&name), encode(&value));
        let read: Vec<_> = query::pairs(&written).collect();
        assert_eq!(read, [Some((name, value))], "{written}");
    }
    let parts: Vec<_> = query::split(text, b'&').collect();
    assert_eq!(parts, text.split('&').collect::<Vec<_>>());
    assert_eq!(query::split_once(text, b'='), text.split_once('='));
}

fn encode(text: &str) -> String {
    query::encode_path(text).to_string()
}
