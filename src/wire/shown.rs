//! What a peer sent, as it may stand in a log line.
//!
//! A log is read by people and programs that trust it: a line of it must be one of ours. So whatever is not
//! printable is escaped (line ends, escape sequences of terminals, characters that turn the text around), what
//! looks like a secret in a query is left out, and the text is cut.

use super::query;
use std::fmt::{self, Display, Formatter, Write};

/// Most characters of a text that are shown.
const CHARS_MAX: usize = 300;

/// Parts of the names of query parameters whose values are nobody's business.
const SECRETS: [&str; 9] =
    ["token", "secret", "passw", "pwd", "auth", "session", "sess_id", "signature", "apikey"];

/// Text of a peer; a request target's query is shown without its secrets.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub &'a str);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut left = CHARS_MAX;
        let Some((path, query)) = query::split_once(self.0, b'?') else {
            return escaped(f, self.0, &mut left);
        };
        escaped(f, path, &mut left)?;
        for (place, pair) in query::split(query, b'&').enumerate() {
            if left == 0 {
                break;
            }
            f.write_char(if place == 0 { '?' } else { '&' })?;
            match query::split_once(pair, b'=') {
                Some((name, _)) if is_secret(name) => {
                    escaped(f, name, &mut left)?;
                    f.write_str("=[redacted]")?;
                }
                _ => escaped(f, pair, &mut left)?,
            }
        }
        Ok(())
    }
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
    let decoded = String::from_utf8_lossy(&query::decode_path(name)).to_ascii_lowercase();
    let plain = decoded.replace(['-', '.'], "_");
    SECRETS.iter().any(|part| plain.contains(part)) || matches!(&*plain, "sid" | "sig" | "jwt" | "api_key")
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
            ("/é", "/é"),
        ] {
            assert_eq!(Shown(text).to_string(), shown);
        }
        let long = format!("/{}?{}", "x".repeat(500), "y=1&".repeat(500));
        assert!(Shown(&long).to_string().chars().count() < 320);
    }
}
