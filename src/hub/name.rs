//! Channel names and patterns of them.

use crate::carry::carry;
use std::fmt;

/// Longest channel name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// How the names of our own channels begin, which no client can write and no pattern matches.
pub const HIDDEN: char = '\u{1}';

/// What the name of a channel begins with that is not for all: a topic's private updates, or what the server itself
/// tells. No client can name such a channel, as names have no control characters.
pub const PRIVATE: &str = "\u{2}";
/// The channel of what is told about subscriptions.
pub const SUBSCRIPTIONS: &str = "\u{2}\u{2}subscriptions";

/// Whether a channel's name is one that no client can give.
pub fn is_internal(name: &str) -> bool {
    name.starts_with(PRIVATE) || name.starts_with(HIDDEN)
}

/// The topic whose updates a channel has, private ones or others.
pub fn topic_of(name: &str) -> &str {
    name.strip_prefix(PRIVATE).unwrap_or(name)
}

/// Segments of a pattern that are compared for the price of one look at a channel.
const SEGMENTS_PER_LOOK: usize = 4;

/// Why a name is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// Nothing, or more than 255 bytes.
    Length,
    /// Not UTF-8.
    NotUtf8,
    /// A control character.
    Control,
    /// An empty segment, `.` or `..`.
    Segment,
    /// `*` or `**` where only a plain name may stand, or `**` before the last segment.
    Wildcard,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "a channel name has 1 to 255 bytes",
            Self::NotUtf8 => "a channel name is UTF-8",
            Self::Control => "a channel name has no control characters",
            Self::Segment => "a channel name has no empty, `.` or `..` segment",
            Self::Wildcard => {
                "wildcards are whole segments (`*`, or `**` as the last one) and for subscribing only"
            }
        })
    }
}

/// Whether a text is a channel's name for sure, and no pattern: letters, digits, `-` and `_` of ASCII, and `/` between
/// them. Nearly all names are such, and need no closer look; nothing in them is ever percent-encoded.
pub fn is_simple(text: &str) -> bool {
    let (mut simple, mut before) = (text.len() <= NAME_BYTES_MAX, b'/');
    for byte in text.bytes() {
        simple &= LETTERS[usize::from(byte)] || byte == b'/' && before != b'/';
        before = byte;
    }
    simple && before != b'/'
}

/// Of which bytes segments of such names are.
const LETTERS: [bool; 256] = {
    let mut letters = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        letters[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'-' | b'_');
        byte += 1;
    }
    letters
};

/// Checks a channel name that may not be a pattern.
pub fn channel_name(bytes: &[u8]) -> Result<&str, NameError> {
    let name = plain(bytes)?;
    match name.contains('*') && name.split('/').any(is_wildcard) {
        true => Err(NameError::Wildcard),
        false => Ok(name),
    }
}

fn is_wildcard(segment: &str) -> bool {
    matches!(segment, "*" | "**")
}

fn plain(bytes: &[u8]) -> Result<&str, NameError> {
    if bytes.is_empty() || bytes.len() > NAME_BYTES_MAX {
        return Err(NameError::Length);
    }
    let name = std::str::from_utf8(bytes).map_err(|_| NameError::NotUtf8)?;
    // Most names are ASCII, and looked at byte by byte.
    if name.bytes().any(|byte| byte.is_ascii_control())
        || !name.is_ascii() && name.chars().any(char::is_control)
    {
        return Err(NameError::Control);
    }
    match name.as_bytes().split(|&byte| byte == b'/').any(|segment| matches!(segment, b"" | b"." | b"..")) {
        true => Err(NameError::Segment),
        false => Ok(name),
    }
}

/// A channel name in which `*` stands for one segment and a last `**` for one or more.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(Box<str>);

carry! {
    struct Pattern(_)
}

impl Pattern {
    /// Reads a pattern; `None` if it is a plain name.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, NameError> {
        let name = plain(bytes)?;
        if !name.as_bytes().contains(&b'*') {
            return Ok(None);
        }
        let segments: Vec<&str> = name.split('/').collect();
        match segments.iter().position(|segment| *segment == "**") {
            Some(at) if at + 1 < segments.len() => Err(NameError::Wildcard),
            _ => Ok(segments.into_iter().any(is_wildcard).then(|| Self(name.into()))),
        }
    }

    /// How it is written.
    pub const fn as_str(&self) -> &str {
        &self.0
    }

    /// What every matching name begins with.
    pub fn prefix(&self) -> &str {
        let wildcard = self.0.find("/*").map(|at| at + 1).filter(|_| !self.0.starts_with('*'));
        &self.0[..wildcard.unwrap_or(0)]
    }

    /// Whether every name that `other` matches matches this, too.
    pub fn covers(&self, other: &Self) -> bool {
        covers(&self.0, &other.0)
    }

    /// What it costs to compare a name with it: 1, or more if it is long.
    pub fn weight(&self) -> usize {
        (self.0.bytes().filter(|&byte| byte == b'/').count() + 1).div_ceil(SEGMENTS_PER_LOOK)
    }

    /// Whether any name may match both this and `other`.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut own, mut others) = (self.0.split('/'), other.0.split('/'));
        loop {
            match (own.next(), others.next()) {
                (None, None) => return true,
                (Some("**"), found) | (found, Some("**")) => return found.is_some(),
                (Some(one), Some(other)) if one == other || one == "*" || other == "*" => {}
                _ => return false,
            }
        }
    }

    /// Whether `name` matches.
    pub fn matches(&self, name: &str) -> bool {
        if is_internal(name) {
            return false;
        }
        let mut segments = name.split('/');
        for wanted in self.0.split('/') {
            match (wanted, segments.next()) {
                ("**", found) => return found.is_some(),
                ("*", Some(_)) => {}
                (wanted, Some(found)) if wanted == found => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }
}

/// Whether everything that `inner` stands for is among what `outer` stands for. Either is a name or a pattern, as it is
/// written; no name has a wildcard for a segment.
pub fn covers(outer: &str, inner: &str) -> bool {
    if outer == inner || outer == "**" {
        return true;
    }
    let mut others = segments(inner);
    for wanted in segments(outer) {
        match (wanted, others.next()) {
            ("**", found) => return found.is_some(),
            (_, Some("**")) => return false,
            ("*", Some(_)) => {}
            (wanted, Some(found)) if wanted == found => {}
            _ => return false,
        }
    }
    others.next().is_none()
}

/// The segments of a name or a pattern. They are short, and looked at for every request that is judged: this is several
/// times as fast as `str::split`, which is made for long texts.
fn segments(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = text.bytes().position(|byte| byte == b'/');
        rest = end.map(|end| &text[end + 1..]);
        Some(end.map_or(text, |end| &text[..end]))
    })
}

/// Whether there can be a channel that both stand for. Each is a name or a pattern, as it is written.
pub fn meets(one: &str, other: &str) -> bool {
    if one == "**" || other == "**" {
        return true;
    }
    let (mut one, mut other) = (segments(one), segments(other));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some("**"), Some(_)) | (Some(_), Some("**")) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let long = "x".repeat(256);
        for (name, verdict) in [
            ("ticks", None),
            ("stocks/AAPL", None),
            ("a,b *x/é", None),
            ("", Some(NameError::Length)),
            (&long, Some(NameError::Length)),
            (&long[1..], None),
            ("a//b", Some(NameError::Segment)),
            ("/a", Some(NameError::Segment)),
            ("a/", Some(NameError::Segment)),
            ("a/../b", Some(NameError::Segment)),
            (".", Some(NameError::Segment)),
            ("a\nb", Some(NameError::Control)),
            ("a\u{85}b", Some(NameError::Control)),
            ("a/*", Some(NameError::Wildcard)),
            ("**", Some(NameError::Wildcard)),
        ] {
            assert_eq!(channel_name(name.as_bytes()).err(), verdict, "{name:?}");
        }
        for (name, simple) in [
            ("ticks", true),
            ("Stocks/A-1_b", true),
            ("", false),
            ("/", false),
            ("/a", false),
            ("a/", false),
            ("a//b", false),
            ("a.b", false),
            ("a%20b", false),
            ("a/*", false),
            ("é", false),
            (&long, false),
            (&long[1..], true),
        ] {
            assert_eq!(is_simple(name), simple, "{name:?}");
            assert!(!simple || channel_name(name.as_bytes()).is_ok(), "{name:?}");
        }
        assert_eq!(channel_name(b"a\xff"), Err(NameError::NotUtf8));
    }

    #[test]
    fn patterns_that_share_names() {
        let check = |one: &str, other: &str, overlaps: bool| {
            let [one, other] = [one, other].map(|text| Pattern::parse(text.as_bytes()).unwrap().unwrap());
            assert_eq!(
                (one.overlaps(&other), other.overlaps(&one)),
                (overlaps, overlaps),
                "{one:?} {other:?}"
            );
        };
        check("c/*", "c/*", true);
        check("c/*", "c/1/*", false);
        check("c/*", "*/1", true);
        check("c/**", "*/1", true);
        check("c/**", "*", false);
        check("**", "*", true);
        check("a/**", "b/**", false);
        check("a/*/c", "a/b/**", true);
        check("a/**", "a/*/c/*", true);
        assert_eq!(["*", "a/b/c/*", "a/b/c/d/*"].map(|text| Pattern(text.into()).weight()), [1, 1, 2]);
    }

    #[test]
    fn patterns_within_patterns() {
        let check = |outer: &str, inner: &str, covers: bool| {
            let [outer, inner] = [outer, inner].map(|text| Pattern::parse(text.as_bytes()).unwrap().unwrap());
            assert_eq!(outer.covers(&inner), covers, "{outer:?} {inner:?}");
        };
        check("**", "**", true);
        check("**", "a/*", true);
        check("a/**", "a/*", true);
        check("a/**", "a/b/**", true);
        check("a/**", "a/**", true);
        check("a/*", "a/**", false);
        check("a/**", "**", false);
        check("*/**", "**", false);
        check("a/b/**", "a/*/c", false);
        check("*", "*", true);
    }

    #[test]
    fn covering_and_meeting_are_what_the_names_say() {
        let segments = ["a", "b", "*", "**"];
        let (mut patterns, mut names) = (Vec::new(), Vec::new());
        for depth in 1..=3_u32 {
            for number in 0..4_usize.pow(depth) {
                let parts: Vec<&str> =
                    (0..depth).map(|place| segments[number / 4_usize.pow(place) % 4]).collect();
                let text = parts.join("/");
                match Pattern::parse(text.as_bytes()) {
                    Ok(None) => names.push(text),
                    Ok(Some(_)) => patterns.push(text),
                    Err(_) => {}
                }
            }
        }
        // Names with a segment that no pattern has, and longer than all of them.
        let letters = |depth: u32| {
            (0..3_usize.pow(depth)).map(move |number| {
                let parts = (0..depth).map(|place| ["a", "b", "c"][number / 3_usize.pow(place) % 3]);
                parts.collect::<Vec<_>>().join("/")
            })
        };
        let all: Vec<String> = (1..=4).flat_map(letters).collect();
        let stands_for = |text: &str| -> Vec<bool> {
            let pattern = Pattern::parse(text.as_bytes()).unwrap();
            all.iter().map(|name| pattern.as_ref().map_or(name == text, |it| it.matches(name))).collect()
        };
        let items: Vec<(String, Vec<bool>)> =
            names.into_iter().chain(patterns).map(|text| (text.clone(), stands_for(&text))).collect();
        for (one, ones) in &items {
            for (other, others) in &items {
                let both = ones.iter().zip(others).any(|(a, b)| *a && *b);
                let within = ones.iter().zip(others).all(|(a, b)| *a || !*b);
                assert_eq!(meets(one, other), both, "{one} meets {other}");
                assert_eq!(covers(one, other), within, "{one} covers {other}");
            }
        }
        assert!(meets("docs/*/public", "docs/a/*") && !meets("docs/*/public", "docs/*/draft"));
        assert!(!covers("chat/*", "chat/**") && covers("chat/**", "chat/*") && !covers("chat/**", "chat"));
    }

    #[test]
    fn patterns() {
        let check = |pattern: &str, name: &str, matches: bool| {
            let pattern = Pattern::parse(pattern.as_bytes()).unwrap().unwrap();
            assert_eq!(pattern.matches(name), matches, "{pattern:?} {name}");
            assert!(!matches || name.starts_with(pattern.prefix()), "{pattern:?} {name}");
        };
        check("stocks/*", "stocks/AAPL", true);
        check("stocks/*", "stocks", false);
        check("stocks/*", "stocks/a/b", false);
        check("stocks/**", "stocks/a/b", true);
        check("stocks/**", "stocks/a", true);
        check("stocks/**", "stocks", false);
        check("*/x", "a/x", true);
        check("*/x", "a/y", false);
        check("a/*/c/**", "a/b/c/d/e", true);
        check("a/*/c/**", "a/b/d/d/e", false);
        check("**", "anything/at/all", true);
        check("*", "one", true);
        check("a*/*", "a*/b", true);
        assert_eq!(Pattern::parse(b"a/**/b"), Err(NameError::Wildcard));
        assert_eq!(Pattern::parse(b"a/b*"), Ok(None));
    }
}
