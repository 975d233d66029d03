//! Query strings (`application/x-www-form-urlencoded`, WHATWG URL) and percent-encoding.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::borrow::Cow;

/// A name and a value, decoded.
pub type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The pairs of a query, decoded. A pair that is not UTF-8 once decoded yields `None`.
pub fn pairs(query: &str) -> impl Iterator<Item = Option<Pair<'_>>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decode_form(name)?, decode_form(value)?))
    })
}

fn decode_form(text: &str) -> Option<Cow<'_, str>> {
    match text.contains('+') {
        true => {
            let spaced = text.replace('+', " ");
            Some(Cow::Owned(percent_decode_str(&spaced).decode_utf8().ok()?.into_owned()))
        }
        false => percent_decode_str(text).decode_utf8().ok(),
    }
}

/// The bytes of a percent-encoded path segment or path.
pub fn decode_path(text: &str) -> Cow<'_, [u8]> {
    percent_decode_str(text).into()
}

/// Everything but unreserved characters and the slash.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A channel name as it stands in a URL or in a header field.
pub fn encode_path(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, PATH)
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
        assert_eq!(read("a=%zz"), [some("a=%zz")]);
        assert_eq!(encode_path("a/b,c é").to_string(), "a/b%2Cc%20%C3%A9");
    }
}
