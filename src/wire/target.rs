//! Request targets (RFC 9112, section 3.2), taken apart.

use super::host::is_host;
use super::query::is_encoded_well;
use super::words::first_of;
use memchr::memchr2;

/// A request target, taken apart.
pub struct Target<'b> {
    pub path: &'b str,
    pub query: &'b str,
    pub authority: Option<&'b str>,
    pub has_fragment: bool,
}

/// Takes apart a target in origin form or absolute form, or `*`; or says what is wrong with it.
pub fn split_target(target: &str) -> Result<Target<'_>, &'static str> {
    let (authority, origin) = match target.as_bytes() {
        [b'/', ..] | b"*" => (None, target),
        _ => {
            let (authority, origin) = split_absolute(target)?;
            (Some(authority), origin)
        }
    };
    let Parts { path, query, has_fragment, is_encoded } = split_origin(origin);
    match !is_encoded || is_encoded_well(path.as_bytes()) {
        true => Ok(Target { path, query, authority, has_fragment }),
        false => Err("a % in the path is not followed by two hexadecimal digits; % in a name is %25"),
    }
}

/// A target in origin form, taken apart.
struct Parts<'b> {
    path: &'b str,
    query: &'b str,
    has_fragment: bool,
    /// There is a percent sign in the path.
    is_encoded: bool,
}

/// Takes apart a target in origin form.
fn split_origin(origin: &str) -> Parts<'_> {
    let bytes = origin.as_bytes();
    let found = first_of(bytes, [b'?', b'#', b'%']).unwrap_or(bytes.len());
    let is_encoded = bytes.get(found) == Some(&b'%');
    let path_end = match is_encoded {
        true => memchr2(b'?', b'#', bytes).unwrap_or(bytes.len()),
        false => found,
    };
    let (query_start, query_end) = match bytes.get(path_end) {
        Some(b'?') => {
            let start = path_end + 1;
            (start, first_of(&bytes[start..], [b'#']).map_or(bytes.len(), |at| start + at))
        }
        _ => (path_end, path_end),
    };
    let has_fragment = bytes.len() > query_end;
    Parts { path: &origin[..path_end], query: &origin[query_start..query_end], has_fragment, is_encoded }
}

/// Authority and origin form of a target in absolute form.
#[cold]
fn split_absolute(target: &str) -> Result<(&str, &str), &'static str> {
    let (scheme, rest) = target.split_once("://").ok_or("the request target must begin with a slash")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err("the scheme of the request target is neither http nor https");
    }
    let (authority, origin) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // A Host may be empty; where a target names a host, it is one.
    let is_named = !authority.is_empty() && !authority.starts_with(':');
    match is_named && is_host(authority.as_bytes()) {
        true => Ok((authority, origin)),
        false => Err("the request target names no host"),
    }
}
