//! JavaScript: what one user may make another's page evaluate, and how the server's own calls are written.

/// Whether `text` is an argument list that a user may send: numbers and double-quoted strings, separated by
/// commas with any number of spaces around.
pub fn is_arguments(text: &[u8]) -> bool {
    let mut rest = text;
    loop {
        let Some(after) = string(rest).or_else(|| numeral(rest)) else { return false };
        if after.is_empty() {
            return true;
        }
        let Some(next) = spaces(after).strip_prefix(b",") else { return false };
        rest = spaces(next);
    }
}

fn spaces(text: &[u8]) -> &[u8] {
    let count = text.iter().take_while(|&&byte| byte == b' ').count();
    &text[count..]
}

/// What follows the string that `text` begins with.
fn string(text: &[u8]) -> Option<&[u8]> {
    let mut bytes = text.strip_prefix(b"\"")?.iter();
    loop {
        match bytes.next()? {
            b'"' => return Some(bytes.as_slice()),
            b'\\' if !matches!(bytes.next()?, b'"' | b'\\' | b'n' | b't' | b'f' | b'r') => return None,
            0..=0x1f | 0x7f => return None,
            _ => {}
        }
    }
}

/// What follows the number that `text` begins with.
fn numeral(text: &[u8]) -> Option<&[u8]> {
    let whole = digits(text.strip_prefix(b"-").unwrap_or(text))?;
    match whole.strip_prefix(b".") {
        Some(fraction) => digits(fraction),
        None => Some(whole),
    }
}

/// What follows 1 to 20 digits.
fn digits(text: &[u8]) -> Option<&[u8]> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (1..=20).contains(&count).then(|| &text[count..])
}

/// The same arguments without a byte that could end a script element, or a character that ends a line in old
/// JavaScript. All of them can only stand in strings, where an escape means the same.
pub fn disarm(arguments: &[u8]) -> Vec<u8> {
    let mut safe = Vec::with_capacity(arguments.len());
    let mut rest = arguments;
    while let Some((&byte, after)) = rest.split_first() {
        let escape: &[u8] = match rest {
            [b'<', ..] => b"\\u003C",
            [0xe2, 0x80, 0xa8, ..] => b"\\u2028",
            [0xe2, 0x80, 0xa9, ..] => b"\\u2029",
            _ => {
                safe.push(byte);
                rest = after;
                continue;
            }
        };
        safe.extend_from_slice(escape);
        rest = &rest[if byte == b'<' { 1 } else { 3 }..];
    }
    safe
}

/// Texts in one answer: each on a line of its own.
pub fn join<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut joined: Vec<u8> = Vec::new();
    for text in texts {
        end_line(&mut joined);
        joined.extend_from_slice(text);
    }
    joined
}

/// Ends the last line of `text`, if there is one that has no end.
pub fn end_line(text: &mut Vec<u8>) {
    if text.last().is_some_and(|&last| last != b'\n') {
        text.push(b'\n');
    }
}

/// Puts `text` into a script element.
pub fn tagged(text: &[u8]) -> Vec<u8> {
    [b"<script type=\"text/javascript\">\n", text, b"</script>\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argument_lists() {
        for good in [
            "1",
            "-1",
            "1.5",
            "-0.25",
            "\"\"",
            "\"a\"",
            "1,2",
            "1 ,  \"b, c\"  , -3",
            "\"\\\"\\\\\\n\\t\\f\\r\"",
            "\"é</script>\"",
            "12345678901234567890.12345678901234567890",
        ] {
            assert!(is_arguments(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            " 1",
            "1 ",
            ",",
            "1,",
            ",1",
            "1,,2",
            "1 2",
            "'a'",
            "\"a",
            "a\"",
            "\"\\x\"",
            "\"\\u003C\"",
            "\"\\",
            "\"\n\"",
            "\"\x7f\"",
            "1e3",
            "+1",
            "--1",
            "1.",
            ".5",
            "a",
            "{}",
            "[1]",
            "f()",
            "\"a\"b",
            "\"a\"+1",
            "1,\t2",
            "123456789012345678901",
            "1.123456789012345678901",
            "\"a\");alert(\"b\"",
        ] {
            assert!(!is_arguments(bad.as_bytes()), "{bad:?}");
        }
        assert!(is_arguments(b"\"\xff\x80\""), "any byte may stand in a string");
    }

    #[test]
    fn disarmed_texts() {
        let check = |text: &str, safe: &str| assert_eq!(disarm(text.as_bytes()), safe.as_bytes());
        check("\"a\",1", "\"a\",1");
        check("\"</script><!--\"", "\"\\u003C/script>\\u003C!--\"");
        check("\"a\u{2028}b\u{2029}\u{2027}é\"", "\"a\\u2028b\\u2029\u{2027}é\"");
    }

    #[test]
    fn texts_in_one_answer() {
        let join =
            |texts: &[&str]| String::from_utf8(join(texts.iter().map(|text| text.as_bytes()))).unwrap();
        assert_eq!(join(&["a", "b\n", "c"]), "a\nb\nc");
        assert_eq!(join(&[]), "");
    }
}
