//! Entity tags in conditions (RFC 9110, section 13.1), as clients send them and proxies leave them.

use super::query;

/// What stands for any tag.
pub const ANY: &str = "*";

/// The tags that fields name, as [`plain`] leaves them. What is not even text names none.
pub fn named<'b>(fields: impl Iterator<Item = &'b [u8]>) -> impl Iterator<Item = &'b str> {
    let values = fields.filter_map(|value| std::str::from_utf8(value).ok());
    values.flat_map(|value| query::split(value, b',')).map(plain).filter(|tag| !tag.is_empty())
}

/// A tag without its quotes, without `W/`, and without what a server that compressed the answer appended.
pub fn plain(tag: &str) -> &str {
    let tag = tag.trim_matches([' ', '\t']);
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    let tag = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(tag);
    without_coding(tag)
}

/// A tag without what a server that compressed the answer on its way appended to it: Apache `-gzip`, others `-br` or
/// `--gzip`.
fn without_coding(tag: &str) -> &str {
    let Some((id, coding)) = tag.split_once('-') else { return tag };
    let is_coding = matches!(coding.trim_start_matches('-'), "gzip" | "br" | "deflate" | "zstd");
    if !id.is_empty() && is_coding { id } else { tag }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fields_name() {
        let fields = [&b"\"a\", W/\"b-gzip\""[..], b"*", b"c--br,, \"d-7\"", b"\xff", b"\"-gzip\""];
        let found: Vec<&str> = named(fields.into_iter()).collect();
        assert_eq!(found, ["a", "b", ANY, "c", "d-7", "-gzip"]);
    }
}
