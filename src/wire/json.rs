//! JSON that is passed on: what every parser of a subscriber takes, and objects that are objects.
//!
//! A message is judged by one rule, however it came: the grammar (RFC 8259), and beyond it what breaks parsers that
//! others use, which is deep nesting and escapes that make no text.

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny};
use serde_json::value::RawValue;

/// Deepest nesting of a message: what is deeper breaks parsers.
pub const DEPTH_MAX: usize = 128;

const TOO_DEEP: &str = "it is nested deeper than 128";
const LONE_SURROGATE: &str = "it has half of a surrogate pair (\\ud800 to \\udfff) alone, which is no text";

/// Says what is wrong with `text` as a message in JSON, if anything is.
pub fn check(text: &str) -> Result<(), String> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| error.to_string())?;
    check_valid(text)
}

/// The same for what is known to be JSON by the grammar.
pub fn check_valid(text: &str) -> Result<(), String> {
    match () {
        () if is_deeper(text.as_bytes(), DEPTH_MAX) => Err(TOO_DEEP.into()),
        () if has_lone_surrogate(text.as_bytes()) => Err(LONE_SURROGATE.into()),
        () => Ok(()),
    }
}

/// Whether what begins here can be an object and nothing else. Derived readers take arrays of the fields' values as well.
pub fn begins_object(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"{")
}

/// Reads an object. Derived readers take arrays of the fields' values as well, which nobody means.
pub fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    match begins_object(text.as_bytes()) {
        true => serde_json::from_str(text).map_err(|error| error.to_string()),
        // What is no JSON at all is told by the parser.
        false => Err(serde_json::from_str::<IgnoredAny>(text)
            .map_or_else(|error| error.to_string(), |_| "it is no JSON object".into())),
    }
}

/// The same for a field of another object, which may be missing.
pub fn optional_object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let raw = <&RawValue>::deserialize(deserializer)?;
    object(raw.get()).map(Some).map_err(D::Error::custom)
}

/// Whether arrays and objects are nested deeper than `max`. Sound for any bytes, JSON or not.
pub fn is_deeper(json: &[u8], max: usize) -> bool {
    let is_opening = |byte: u8| usize::from(byte == b'[' || byte == b'{');
    // Nearly all messages have not even so many brackets.
    if json.len() <= max || json.iter().map(|&byte| is_opening(byte)).sum::<usize>() <= max {
        return false;
    }
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(&byte) = json.get(at) {
        at += 1;
        match byte {
            b'"' => at = after_string(json, at),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > max {
            return true;
        }
    }
    false
}

/// Where the string that begins before `at` is over.
pub fn after_string(json: &[u8], mut at: usize) -> usize {
    while let Some(offset) = memchr::memchr2(b'"', b'\\', json.get(at..).unwrap_or_default()) {
        at += offset + 1;
        if json[at - 1] == b'"' {
            return at;
        }
        // What follows a backslash ends nothing.
        at += 1;
    }
    json.len()
}

/// Bytes up to which a text is looked through by the word: a search that has to get ready first pays for longer ones.
const SHORT: usize = 32;

/// Whether there is a backslash: without one, a string is what it says. By the word, as most strings are short; the last may
/// overlap the one before.
pub fn has_backslash(bytes: &[u8]) -> bool {
    let look = |word: &[u8; 8]| zeros(u64::from_ne_bytes(*word) ^ u64::from_ne_bytes([b'\\'; 8]));
    match bytes.last_chunk() {
        Some(last) => bytes.as_chunks().0.iter().fold(look(last), |found, word| found | look(word)) != 0,
        None => bytes.contains(&b'\\'),
    }
}

/// The top bit of each byte that is zero.
const fn zeros(word: u64) -> u64 {
    const LOW: u64 = u64::from_ne_bytes([0x7f; 8]);
    !(((word & LOW) + LOW) | word | LOW)
}

/// Whether an escape stands for half a character. Backslashes stand in strings only.
fn has_lone_surrogate(json: &[u8]) -> bool {
    if json.len() <= SHORT && !has_backslash(json) {
        return false;
    }
    let mut rest = json;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        rest = &rest[at..];
        rest = match (surrogate(rest), rest.get(6..).and_then(surrogate)) {
            (Some(Half::High), Some(Half::Low)) => &rest[12..],
            (Some(_), _) => return true,
            (None, _) => rest.get(2..).unwrap_or_default(),
        };
    }
    false
}

enum Half {
    High,
    Low,
}

/// Which half of a pair the escape at the front of `json` is, if it is one.
fn surrogate(json: &[u8]) -> Option<Half> {
    match json.get(..6)? {
        [b'\\', b'u', b'd' | b'D', b'8' | b'9' | b'a' | b'b' | b'A' | b'B', ..] => Some(Half::High),
        [b'\\', b'u', b'd' | b'D', b'c'..=b'f' | b'C'..=b'F', ..] => Some(Half::Low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backslash_is_seen_wherever_it_stands() {
        for length in 0..40 {
            let mut bytes = vec![0xdc; length];
            assert!(!has_backslash(&bytes));
            for at in 0..length {
                bytes[at] = b'\\';
                assert!(has_backslash(&bytes), "{bytes:?}");
                bytes[at] = b'[' + 2 * u8::from(at % 2 == 0);
            }
            assert!(!has_backslash(&bytes));
        }
    }

    #[test]
    fn halves_of_pairs_are_seen_in_short_and_in_long_texts() {
        for length in 0..2 * SHORT {
            let filler = "x".repeat(length);
            assert_eq!(check_valid(&format!("\"{filler}\"")), Ok(()));
            assert_eq!(check_valid(&format!(r#""{filler}\ud83d\ude00""#)), Ok(()));
            assert!(check_valid(&format!(r#""{filler}\ud83d""#)).is_err());
        }
    }

    #[test]
    fn what_is_passed_on() {
        for good in [
            "1",
            "null",
            r#""\ud83d\ude00""#,
            r#""\uD83D\uDE00 \\ud83d""#,
            r#"{"\\":"\"\\","a":[{"b":"\ud7ff\ue000"}]}"#,
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "[1,]",
            "\"",
            r#""\ud83d""#,
            r#""\ude00""#,
            r#"{"a":["\ud83d\ud83d\ude00"]}"#,
            r#""\ud83d \ude00""#,
            r#"{"\udc00":1}"#,
            r#""\\\ud83d""#,
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nesting() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(check(&nested(DEPTH_MAX)), Ok(()));
        assert!(check(&nested(DEPTH_MAX + 1)).is_err());
        let objects = |depth: usize| format!("{}1{}", "{\"[\":".repeat(depth), "}".repeat(depth));
        assert_eq!(check(&objects(DEPTH_MAX)), Ok(()));
        assert!(check(&objects(DEPTH_MAX + 1)).is_err());
        assert_eq!(check(&format!("[{}1]", "[],".repeat(1000))), Ok(()), "side by side");
        assert_eq!(check(&format!("\"{}\"", "[".repeat(1000))), Ok(()), "in a string");
        assert!(check(&nested(1_000_000)).is_err(), "without recursion");
    }

    #[test]
    fn objects_are_objects() {
        #[derive(serde::Deserialize)]
        struct Point {
            x: u8,
        }
        assert_eq!(object::<Point>(" \r\n\t{\"x\":1}").map(|point| point.x), Ok(1));
        assert!(object::<Point>("[1]").is_err() && object::<Point>("").is_err());
    }
}
