//! Tokens as requests carry them: in `Authorization`, in the query.

use crate::wire::query;
use std::borrow::Cow;
use subtle::ConstantTimeEq;

/// The parameter of a query that carries a token (RFC 6750, section 2.3).
const PARAMETER: &str = "access_token";

/// Whether `shown` is one of the tokens, in a time that does not tell how near it comes to one.
pub fn is_one_of(shown: &str, tokens: &[String]) -> bool {
    let equal = |found, token: &String| found | shown.as_bytes().ct_eq(token.as_bytes());
    tokens.iter().fold(subtle::Choice::from(0), equal).into()
}

/// How an `Authorization` field begins that carries a token, in any case.
const SCHEME: &[u8; 7] = b"bearer ";

/// The token in an `Authorization` field.
pub fn bearer(value: &str) -> Option<&str> {
    let scheme = value.as_bytes().first_chunk::<7>()?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| value[SCHEME.len()..].trim())
}

/// The same as bytes, of which nothing else is known.
pub fn bearer_bytes(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_first_chunk::<7>()?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_ascii())
}

/// The values of `access_token` in a query.
pub fn query_tokens(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let text = if may_have_token(text) { text } else { "" };
    // What is not UTF-8 is no token, and is one that is shown.
    let read = |pair| match query::split_once(pair, b'=') {
        Some((name, _)) if !is_parameter(name) => None,
        None if !is_parameter(pair) => None,
        _ => Some(query::pairs(pair).next().flatten().map_or(Cow::Borrowed(""), |(_, value)| value)),
    };
    query::split(text, b'&').filter_map(read)
}

/// Whether a query has a sign without which no token is in it: most have neither.
fn may_have_token(text: &str) -> bool {
    memchr::memchr2(b'_', b'%', text.as_bytes()).is_some()
}

fn is_parameter(name: &str) -> bool {
    name == PARAMETER || name.as_bytes().contains(&b'%') && *query::decode_path(name) == *PARAMETER.as_bytes()
}

/// Whether a query carries a token.
pub fn has_token(text: &str) -> bool {
    may_have_token(text) && query_tokens(text).next().is_some()
}

/// The same query without its tokens.
pub fn without_token(text: &str) -> String {
    let is_other = |pair: &&str| !is_parameter(query::split_once(pair, b'=').map_or(pair, |(name, _)| name));
    query::split(text, b'&').filter(is_other).collect::<Vec<_>>().join("&")
}
