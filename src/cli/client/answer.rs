//! What an answer means for the one who asked: go on, try again, or give up.
//!
//! A 4xx is the client's fault and repeating it changes nothing, except for 408 and 429; everything else
//! that goes wrong may pass. For a publish it also matters whether the server may have acted although no
//! answer says so.

use std::time::Duration;

use serde::Deserialize;
use ureq::http::{Response, StatusCode, header};
use ureq::{Body, Error, Timeout};

/// Bytes read of an error's body.
const DETAIL_BYTES: u64 = 16 << 10;
/// Characters shown of an error that is not a problem document.
const DETAIL_CHARS: usize = 300;
/// The longest `Retry-After` that is believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// A request that did not succeed.
#[derive(Debug)]
pub struct Trouble {
    /// For a person: what happened.
    pub reason: String,
    /// What the asker can do about it.
    pub remedy: Remedy,
    /// The status of the answer, if there was one that refused.
    pub status: Option<StatusCode>,
}

/// What to do about a [`Trouble`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Repeating the request would not help.
    GiveUp,
    /// This message is too large; another one may pass.
    Skip,
    /// Ask again, not before `after` if the server named a time.
    Retry {
        /// The server's `Retry-After`.
        after: Option<Duration>,
        /// The server may have done what it was asked.
        perhaps_done: bool,
    },
}

impl Trouble {
    /// A connection that failed with the request on its way.
    pub fn lost(reason: String) -> Self {
        Self { reason, remedy: Remedy::Retry { after: None, perhaps_done: true }, status: None }
    }

    /// Something repeating will not change.
    pub fn lasting(reason: String) -> Self {
        Self { reason, remedy: Remedy::GiveUp, status: None }
    }
}

/// Splits answers of success from all others.
pub fn check(result: Result<Response<Body>, Error>) -> Result<Response<Body>, Trouble> {
    let mut response = result.map_err(explain)?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let after = retry_after(&response);
    let reason = match detail(&mut response) {
        Some(detail) => format!("{status}: {detail}"),
        None => status.to_string(),
    };
    let remedy = match status {
        StatusCode::PAYLOAD_TOO_LARGE => Remedy::Skip,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Remedy::Retry { after, perhaps_done: false }
        }
        status if status.is_server_error() => Remedy::Retry { after, perhaps_done: true },
        _ => Remedy::GiveUp,
    };
    Err(Trouble { reason, remedy, status: Some(status) })
}

/// `text` of a peer, fit for a terminal: without control characters.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn explain(error: Error) -> Trouble {
    use std::io::ErrorKind::{
        AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable,
    };
    let perhaps_done = match &error {
        Error::Http(_) | Error::BadUri(_) | Error::LargeResponseHeader(..) => {
            return Trouble::lasting(error.to_string());
        }
        Error::Timeout(Timeout::Connect | Timeout::Resolve)
        | Error::HostNotFound
        | Error::ConnectionFailed => false,
        // These come from opening a connection, so nothing was sent: on an open one they appear only when the
        // system gives it up, long after our own timeout.
        Error::Io(io) => !matches!(
            io.kind(),
            AddrNotAvailable | ConnectionRefused | HostUnreachable | NetworkDown | NetworkUnreachable
        ),
        _ => true,
    };
    let reason = match error {
        Error::Io(io) => io.to_string(),
        Error::HostNotFound => "no such host".into(),
        other => other.to_string(),
    };
    Trouble { reason, remedy: Remedy::Retry { after: None, perhaps_done }, status: None }
}

/// `Retry-After` in seconds; the form with a date is left to the caller's own back-off.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds: u64 = value.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// The `detail` (else `title`) of a problem document, else the beginning of a plain text.
fn detail(response: &mut Response<Body>) -> Option<String> {
    #[derive(Deserialize)]
    struct Problem {
        detail: Option<String>,
        title: Option<String>,
    }
    let mime = response.body().mime_type().unwrap_or_default().to_owned();
    let body = response.body_mut().with_config().limit(DETAIL_BYTES).read_to_vec().ok()?;
    let text = match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => problem.detail.or(problem.title)?,
        Err(_) if mime == "text/plain" => {
            String::from_utf8_lossy(&body).trim().chars().take(DETAIL_CHARS).collect()
        }
        Err(_) => return None,
    };
    Some(printable(&text)).filter(|text| !text.is_empty())
}
