//! Answers: status line, header fields, body (RFC 9112, section 4).

use super::media;
use crate::carry::carry;
use crate::time::HttpDate;
use std::borrow::Cow;

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Type of the body.
    pub content_type: Cow<'static, str>,
    /// The body; not sent for HEAD, 101, 204 and 304.
    pub body: Cow<'static, [u8]>,
    /// Further header fields, complete lines with CR LF.
    pub fields: Cow<'static, str>,
}

carry! {
    struct Response { status, content_type, body, fields }
}

impl Response {
    /// An answer with a body.
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Self {
        Self { status, content_type: content_type.into(), body: body.into(), fields: Cow::Borrowed("") }
    }

    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self::new(status, "", Vec::new())
    }

    /// An error as `application/problem+json` (RFC 9457), or as text for those who asked for it.
    pub fn problem(status: u16, detail: &str, as_text: bool) -> Self {
        Self::problem_of(status, None, detail, as_text)
    }

    /// The same, with a word for programs in the member `error`.
    pub fn problem_of(status: u16, error: Option<&str>, detail: &str, as_text: bool) -> Self {
        if as_text {
            return Self::new(status, media::TEXT, format!("{detail}\n").into_bytes());
        }
        let detail = serde_json::Value::from(detail);
        let title = reason(status);
        let error = error.map(|error| format!("\"error\":\"{error}\",")).unwrap_or_default();
        let body = format!(
            "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{status},{error}\"detail\":{detail}}}\n"
        );
        Self::new(status, media::PROBLEM, body.into_bytes())
    }

    /// The seconds after which the client may ask again, if it tells them.
    pub fn retry_after(&self) -> Option<u64> {
        self.fields.lines().find_map(|line| line.strip_prefix("Retry-After: "))?.parse().ok()
    }

    /// Adds the fields that tell where the client stands.
    #[must_use]
    pub fn at(self, position: impl std::fmt::Display + Copy) -> Self {
        self.with("ETag", format_args!("\"{position}\"")).with("Encke-Next", position)
    }

    /// Adds a header field. `value` must not contain line ends.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        use std::fmt::Write;
        let _ = write!(self.fields.to_mut(), "{name}: {value}\r\n");
        self
    }
}

/// What an answer takes from the request and the connection it answers.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// `Date`.
    pub date: HttpDate,
    /// Only the head is sent (the request was a HEAD).
    pub head_only: bool,
    /// The connection ends after this answer.
    pub close: bool,
    /// Header fields that every answer to this request carries, complete lines.
    pub fields: &'a str,
    /// Header fields of a whole answer after which the connection stays open, complete lines.
    pub keep_alive: &'a str,
}

/// The bytes before the date in every answer's head: those of the most frequent statuses are ready.
fn write_status(out: &mut Vec<u8>, status: u16, date: &HttpDate) {
    match status {
        200 => out.extend_from_slice(b"HTTP/1.1 200 OK\r\nDate: "),
        201 => out.extend_from_slice(b"HTTP/1.1 201 Created\r\nDate: "),
        202 => out.extend_from_slice(b"HTTP/1.1 202 Accepted\r\nDate: "),
        _ => {
            write_all(
                out,
                &["HTTP/1.1 ", itoa::Buffer::new().format(status), " ", reason(status), "\r\nDate: "],
            );
        }
    }
    out.extend_from_slice(date);
    out.extend_from_slice(b"\r\n");
}

/// Appends a number in decimal: nearly always it has one digit or a few.
pub fn write_number(out: &mut Vec<u8>, number: usize) {
    match number {
        0..10 => out.push(b'0' + number as u8),
        _ => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
    }
}

/// Appends texts one after the other. Answers are made of few pieces and by the hundred thousand: formatting
/// machinery takes ten times as long as copying them. What is in every answer, and is known here, is appended piece by piece:
/// then its length is known, too.
pub fn write_all(out: &mut Vec<u8>, texts: &[&str]) {
    texts.iter().for_each(|text| out.extend_from_slice(text.as_bytes()));
}

/// Fields of what carries the bytes of others: that it is what its type says, and that, opened as a page, it may do
/// nothing there.
pub const INERT: &str = "X-Content-Type-Options: nosniff\r\nContent-Security-Policy: sandbox\r\n";

/// Field of answers to requests that have a token in their query: it stays out of pages that are linked to, and, as
/// [`write_response`] sees to, out of caches.
pub const HIDING: &str = "Referrer-Policy: no-referrer\r\n";

/// Appends the type and length of a body, and the empty line before it.
pub fn write_body_fields(out: &mut Vec<u8>, content_type: &str, length: usize) {
    if content_type.is_empty() {
        out.extend_from_slice(b"Content-Length: ");
    } else {
        out.extend_from_slice(b"Content-Type: ");
        out.extend_from_slice(content_type.as_bytes());
        out.extend_from_slice(b"\r\nContent-Length: ");
    }
    write_number(out, length);
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends a head up to, and without, the empty line.
pub fn write_head(out: &mut Vec<u8>, status: u16, envelope: &Envelope) {
    write_status(out, status, &envelope.date);
    if !envelope.fields.is_empty() {
        out.extend_from_slice(envelope.fields.as_bytes());
    }
    match (status, envelope.close) {
        // What upgrades, or asks for it, says so in this field, too (RFC 9110, section 7.8).
        (101 | 426, true) => out.extend_from_slice(b"Connection: close, Upgrade\r\n"),
        (101 | 426, false) => out.extend_from_slice(b"Connection: Upgrade\r\n"),
        (_, true) => out.extend_from_slice(b"Connection: close\r\n"),
        (_, false) => {}
    }
}

/// Appends a complete answer.
pub fn write_response(out: &mut Vec<u8>, response: &Response, envelope: &Envelope) {
    write_head(out, response.status, envelope);
    if !envelope.close && !matches!(response.status, 101 | 426) {
        out.extend_from_slice(envelope.keep_alive.as_bytes());
    }
    let has_fields = !response.fields.is_empty();
    if has_fields {
        out.extend_from_slice(response.fields.as_bytes());
    }
    let mut is_kept = has_fields && response.fields.contains("Cache-Control: ");
    if is_kept && envelope.fields.ends_with(HIDING) {
        is_kept = response.fields.contains("no-store");
    }
    match (response.status, is_kept) {
        (101, _) | (204 | 304, true) => return out.extend_from_slice(b"\r\n"),
        (204 | 304, false) => return out.extend_from_slice(b"Cache-Control: no-store\r\n\r\n"),
        (_, true) => out.extend_from_slice(b"X-Content-Type-Options: nosniff\r\n"),
        (_, false) => {
            out.extend_from_slice(b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n");
        }
    }
    write_body_fields(out, &response.content_type, response.body.len());
    if !envelope.head_only {
        out.extend_from_slice(&response.body);
    }
}

/// The reason phrase of the statuses we send.
pub const fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}
