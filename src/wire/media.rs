//! Media types (RFC 9110, section 8.3) and what a client accepts.

use super::head::Head;
use super::query;

/// The type of a message whose publisher named none.
pub const TEXT: &str = "text/plain; charset=utf-8";
/// JSON.
pub const JSON: &str = "application/json";
/// One JSON value a line.
pub const NDJSON: &str = "application/x-ndjson";
/// Server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream";
/// Error details (RFC 9457).
pub const PROBLEM: &str = "application/problem+json";

/// The type without its parameters.
pub fn essence(content_type: &str) -> &str {
    query::split(content_type, b';').next().unwrap_or_default().trim_ascii()
}

/// Whether a body of that type is JSON.
pub fn is_json(content_type: &str) -> bool {
    let essence = essence(content_type);
    let suffix = essence.len().checked_sub(5).and_then(|at| essence.get(at..));
    essence.eq_ignore_ascii_case(JSON) || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"))
}

/// Whether the client names `media_type` in `Accept`, and not with `q=0`. Ranges (`*/*`) do not count: they
/// say that anything will do.
pub fn accepts(head: &Head, media_type: &str) -> bool {
    weight(head, media_type) > 0
}

/// How much the client would like `media_type`, in thousandths; 0 if it does not name it.
pub fn weight(head: &Head, media_type: &str) -> u16 {
    if head.may_have("accept") { head.weight("accept", media_type) } else { 0 }
}

/// Whether the client asked for text, and so gets errors and information as text.
pub fn wants_text(head: &Head) -> bool {
    weight(head, "text/plain") > weight(head, JSON)
}

/// Whether the body is coded for the way (`Content-Encoding`), and so is not what it says it is.
pub fn is_encoded(head: &Head) -> bool {
    head.may_have("content-encoding") && names_coding(head)
}

#[cold]
fn names_coding(head: &Head) -> bool {
    let codings = head.fields("content-encoding").flat_map(|value| value.split(|&byte| byte == b','));
    codings
        .map(<[u8]>::trim_ascii)
        .any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::head;

    #[test]
    fn json_types() {
        assert!(is_json("application/json; charset=utf-8") && is_json("Application/LD+JSON"));
        assert!(!is_json("text/json5") && !is_json("") && !is_json("é+jso"));
    }

    #[test]
    fn accepted_types() {
        let check = |accept: &str, media_type, expected| {
            let bytes = format!("GET / HTTP/1.0\r\nAccept: {accept}\r\n\r\n");
            let mut slots = head::slots();
            let head = head::parse(bytes.as_bytes(), &mut slots).unwrap();
            assert_eq!(accepts(&head, media_type), expected, "{accept}");
        };
        check("text/event-stream", EVENT_STREAM, true);
        check("text/html, Text/Event-Stream;q=0.5", EVENT_STREAM, true);
        check("text/event-stream;q=0", EVENT_STREAM, false);
        check("text/event-stream; q=0.000", EVENT_STREAM, false);
        check("text/event-stream; charset=utf-8; Q=0.001", EVENT_STREAM, true);
        check("text/event-stream;q=rubbish", EVENT_STREAM, true);
        check("*/*", EVENT_STREAM, false);
    }
}
