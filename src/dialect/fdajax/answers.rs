//! Answers: words for the application, JavaScript for pages, and the rest for whoever asked wrongly.

use super::script;
use crate::wire::media;
use crate::wire::response::Response;

const HTML: &str = "text/html; charset=utf-8";
/// No cache between us and a browser of any age may keep an answer.
const NO_CACHE: &str = "Pragma: no-cache\r\nExpires: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
    Cache-Control: no-store, no-transform, no-cache, must-revalidate, post-check=0, pre-check=0\r\n";

/// A result word for the application.
pub fn word(word: &'static str) -> Response {
    let mut response = Response::new(200, media::TEXT, word.as_bytes());
    response.fields.to_mut().push_str(NO_CACHE);
    response
}

/// What a page asked for, in a script element if it waits in a frame (`win_st` is not 0). Otherwise it is
/// plain text: the page evaluates it, and whoever opens the address sees no markup of others.
pub fn to_page(text: &[u8], win_st: u32) -> Response {
    let mut response = match win_st {
        0 => Response::new(200, media::TEXT, text.to_vec()).with("Content-Security-Policy", "sandbox"),
        _ => Response::new(200, HTML, script::tagged(text)),
    };
    response.fields.to_mut().push_str(NO_CACHE);
    response
}

/// The head of a stream.
pub fn stream_head() -> Response {
    let mut response = Response::new(200, HTML, Vec::new());
    response.fields.to_mut().push_str(NO_CACHE);
    // Proxies that gather an answer before they send it must not gather this one.
    response.with("X-Accel-Buffering", "no").with("X-Content-Type-Options", "nosniff")
}

/// An HTML page for the operator.
pub fn page(html: String) -> Response {
    let mut response = Response::new(200, HTML, html.into_bytes());
    response.fields.to_mut().push_str(NO_CACHE);
    response.with("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
}

/// Why a request is not served. The original answered 500 to all that; its clients only look whether it is
/// a success.
pub fn refusal(status: u16, detail: &str) -> Response {
    Response::problem(status, detail, true)
}
