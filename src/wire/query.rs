//! Query strings (`application/x-www-form-urlencoded`, WHATWG URL) and percent-encoding.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::borrow::Cow;

/// A name and a value, decoded.
pub type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The pairs of a query, decoded. A pair that is not UTF-8 once decoded yields `None`.
pub fn pairs(query: &str) -> impl Iterator<Item = Option<Pair<'_>>> {
    named(query).map(|(_, pair)| pair)
}

/// The same, each beside its name as it came.
pub fn named(query: &str) -> impl Iterator<Item = (&str, Option<Pair<'_>>)> {
    split(query, b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = split_once(pair, b'=').unwrap_or((pair, ""));
        (name, decode_form(name).zip(decode_form(value)))
    })
}

/// The parts of `text` between `separator`s (an ASCII character). Heads are short and read often: this is
/// several times as fast as `str::split`, which is made for long texts.
pub fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        match split_once(text, separator) {
            Some((part, behind)) => {
                rest = Some(behind);
                Some(part)
            }
            None => rest.take(),
        }
    })
}

/// What is before and behind the first `separator` (an ASCII character).
pub fn split_once(text: &str, separator: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|byte| byte == separator)?;
    Some((&text[..at], &text[at + 1..]))
}

fn decode_form(text: &str) -> Option<Cow<'_, str>> {
    let is_plain = |byte: u8| byte != b'%' && byte != b'+';
    if text.bytes().all(is_plain) {
        return Some(Cow::Borrowed(text));
    }
    let spaced = text.replace('+', " ");
    Some(Cow::Owned(percent_decode_str(&spaced).decode_utf8().ok()?.into_owned()))
}

/// A number as digits, and nothing else: what `parse` takes beyond that is another number to others.
pub fn number<N: std::str::FromStr>(text: &str) -> Option<N> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// The bytes of a percent-encoded path segment or path.
pub fn decode_path(text: &str) -> Cow<'_, [u8]> {
    match text.bytes().all(|byte| byte != b'%') {
        true => Cow::Borrowed(text.as_bytes()),
        false => percent_decode_str(text).into(),
    }
}

/// Everything but unreserved characters and the slash.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A channel name as it stands in a URL or in a header field.
pub fn encode_path(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, PATH)
}

/// Whether each percent sign is followed by two hexadecimal digits.
pub fn is_encoded_well(path: &[u8]) -> bool {
    memchr::memchr_iter(b'%', path).all(|at| {
        let digits = path.get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let read = |query| pairs(query).map(|pair| pair.map(|(n, v)| format!("{n}={v}"))).collect::<Vec<_>>();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            read("a=1&b=%C3%A9+%2B&&c&d=e=f"),
            [some("a=1"), some("b=é +"), some("c="), some("d=e=f")]
        );
        assert_eq!(read("a=%ff"), [None]);
        assert_eq!(
            ["5", "05", "+5", "-5", "", " 5", "5 ", "1e3", "256"].map(number::<u8>),
            [Some(5), Some(5), None, None, None, None, None, None, None]
        );
        assert_eq!(read("a=%zz"), [some("a=%zz")]);
        assert_eq!(encode_path("a/b,c é").to_string(), "a/b%2Cc%20%C3%A9");
    }
}
