//! What a peer sent, as it may stand in a log line.
//!
//! A log is read by people and programs that trust it: a line of it must be one of ours. So whatever is not
//! printable is escaped (line ends, escape sequences of terminals, characters that turn the text around), what
//! looks like a secret in a query is left out, and the text is cut.

use super::query;
use std::fmt::{self, Display, Formatter};

/// Most characters of a text that are shown.
const CHARS_MAX: usize = 300;

/// Parts of the names of query parameters whose values are nobody's business.
const SECRETS: [&str; 12] = [
    "token",
    "secret",
    "pass",
    "pwd",
    "auth",
    "session",
    "sess_id",
    "signature",
    "apikey",
    "credential",
    "bearer",
    "cookie",
];
/// Such names that would be parts of too many others.
const SECRET_NAMES: [&str; 6] = ["sid", "sig", "jwt", "api_key", "code", "pw"];
/// What stands between a path, the pairs of its query and its fragment, in any order: what it means is the server's to say,
/// and whoever wrote a secret behind one of these meant to name it.
const BETWEEN: [char; 4] = ['?', '&', ';', '#'];

/// Text of a peer; a request target's query is shown without its secrets.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub &'a str);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut left = CHARS_MAX;
        let (before, user, behind) = user_of(self.0);
        escaped(f, before, &mut left)?;
        f.write_str(if user.is_empty() { "" } else { "[redacted]" })?;
        for piece in behind.split_inclusive(BETWEEN) {
            if left == 0 {
                break;
            }
            let (pair, sign) = match piece.strip_suffix(BETWEEN) {
                Some(pair) => (pair, &piece[pair.len()..]),
                None => (piece, ""),
            };
            match query::split_once(pair, b'=') {
                Some((name, value)) if is_secret(name) => {
                    escaped(f, name, &mut left)?;
                    // In a sentence, there may be more behind it.
                    let end = value.find(char::is_whitespace).unwrap_or(value.len());
                    f.write_str(if end > 0 { "=[redacted]" } else { "=" })?;
                    escaped(f, &value[end..], &mut left)?;
                }
                _ => escaped(f, pair, &mut left)?,
            }
            if left > 0 {
                f.write_str(sign)?;
                left -= sign.len();
            }
        }
        Ok(())
    }
}

/// What stands before the user that a URL names at its beginning, perhaps with a password; the user; and the rest.
fn user_of(text: &str) -> (&str, &str, &str) {
    let begin = text.find("://").map_or(0, |at| at + 3);
    let (before, rest) = text.split_at(begin);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let user = if begin > 0 { rest[..end].rfind('@').unwrap_or(0) } else { 0 };
    (before, &rest[..user], &rest[user..])
}

/// Writes `text` with escapes, at most `left` characters of it.
fn escaped(f: &mut Formatter<'_>, text: &str, left: &mut usize) -> fmt::Result {
    for char in text.chars() {
        if *left == 0 {
            return f.write_str("…");
        }
        *left -= 1;
        write!(f, "{}", char.escape_debug())?;
    }
    Ok(())
}

/// Whether a parameter's name says that its value is a secret, however the name is encoded.
fn is_secret(name: &str) -> bool {
    let name = name.rsplit(char::is_whitespace).next().unwrap_or_default();
    let decoded = String::from_utf8_lossy(&query::decode_path(name)).to_ascii_lowercase();
    let plain = decoded.replace(['-', '.'], "_");
    SECRETS.iter().any(|part| plain.contains(part)) || SECRET_NAMES.contains(&&*plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown() {
        for (text, shown) in [
            ("/sub/a?after=now&as=sse", "/sub/a?after=now&as=sse"),
            ("/a\r\n[2026] forged", "/a\\r\\n[2026] forged"),
            (
                "/\u{1b}[2J\u{9b}1m\u{85}\u{2028}\u{202e}\0",
                "/\\u{1b}[2J\\u{9b}1m\\u{85}\\u{2028}\\u{202e}\\0",
            ),
            ("/a?token=s3cret&x=1", "/a?token=[redacted]&x=1"),
            ("/a?x=1&Access-Token=s3cret", "/a?x=1&Access-Token=[redacted]"),
            ("/a?%74oken=s3cret", "/a?%74oken=[redacted]"),
            (
                "/a?admin_passwd=s3cret&sess_id=s3cret&api_key=s3cret",
                "/a?admin_passwd=[redacted]&sess_id=[redacted]&api_key=[redacted]",
            ),
            ("/a?key=k&tok", "/a?key=k&tok"),
            ("/a?x=1#access_token=s3cret&y=2", "/a?x=1#access_token=[redacted]&y=2"),
            ("/a#access_token=s3cret", "/a#access_token=[redacted]"),
            ("/a?x=1;token=s3cret;y=2", "/a?x=1;token=[redacted];y=2"),
            ("/a?x=1?token=s3cret", "/a?x=1?token=[redacted]"),
            (
                "/a?pass=s3cret&pw=s3cret&code=s3cret&codes=1",
                "/a?pass=[redacted]&pw=[redacted]&code=[redacted]&codes=1",
            ),
            ("as=x;token=s3cret: use poll", "as=x;token=[redacted] use poll"),
            ("there is no tokn=; token= may be meant", "there is no tokn=; token= may be meant"),
            ("http://user:s3cret@host/a?token=s3cret", "http://[redacted]@host/a?token=[redacted]"),
            ("http://host/a@b", "http://host/a@b"),
            ("/a@b", "/a@b"),
            ("what passes by is x=1", "what passes by is x=1"),
            ("/é", "/é"),
        ] {
            assert_eq!(Shown(text).to_string(), shown);
        }
        let long = format!("/{}?{}", "x".repeat(500), "y=1&".repeat(500));
        assert!(Shown(&long).to_string().chars().count() < 320);
    }
}
