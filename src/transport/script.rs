//! JSON inside scripts: what is harmless in JSON may end a script or begin something else in HTML.

/// Most bytes in the name of a callback.
const CALLBACK_BYTES_MAX: usize = 64;

/// Appends `json` so that it may stand in a script, in a page or not: `<` would let a string end the script or
/// open a comment, and old browsers take U+2028 and U+2029 for line ends. All three occur in strings only.
pub fn write_json(out: &mut Vec<u8>, json: &[u8]) {
    let mut rest = json;
    while let Some(at) = memchr::memchr2(b'<', 0xe2, rest) {
        let (before, from) = rest.split_at(at);
        out.extend_from_slice(before);
        let (escape, length): (&[u8], _) = match from {
            [b'<', ..] => (b"\\u003c", 1),
            [0xe2, 0x80, 0xa8, ..] => (b"\\u2028", 3),
            [0xe2, 0x80, 0xa9, ..] => (b"\\u2029", 3),
            _ => (b"\xe2", 1),
        };
        out.extend_from_slice(escape);
        rest = &from[length..];
    }
    out.extend_from_slice(rest);
}

/// Whether `name` is a script's name for a function: identifiers of ASCII letters, digits, `_` and `$`, joined
/// by dots. Anything else could be a script of its own.
pub fn is_callback(name: &str) -> bool {
    let is_identifier = |part: &str| {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
        part.bytes().all(is_word) && part.bytes().next().is_some_and(|first| !first.is_ascii_digit())
    };
    name.len() <= CALLBACK_BYTES_MAX && name.split('.').all(is_identifier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_not_ended_by_data() {
        let check = |json: &str, expected: &str| {
            let mut out = Vec::new();
            write_json(&mut out, json.as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check("\"</script><!--\"", "\"\\u003c/script>\\u003c!--\"");
        check("\"a\u{2028}b\u{2029}c\u{2027}€\"", "\"a\\u2028b\\u2029c\u{2027}€\"");
        check("{\"plain\":1}", "{\"plain\":1}");
    }

    #[test]
    fn names_of_functions() {
        for name in ["a", "$", "_a1", "jQuery123_456", "a.b.$c", &"x".repeat(64)] {
            assert!(is_callback(name), "{name}");
        }
        for name in [
            "",
            "1a",
            "a.",
            ".a",
            "a..b",
            "a b",
            "a(",
            "a;b",
            "a-b",
            "é",
            "a[0]",
            "</script>",
            &"x".repeat(65),
        ] {
            assert!(!is_callback(name), "{name}");
        }
    }
}
