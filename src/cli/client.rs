//! What the command-line clients share: where the server is and how it is asked.
//!
//! The clients speak the same public HTTP interface as everybody else, over a blocking HTTP library: each
//! of them does one thing at a time, so a thread that waits is the simplest thing that works. Redirects are
//! not followed (a publish that silently became a GET would be lost) and proxies of the environment are
//! not used (a stream through a buffering proxy never arrives).

mod answer;
mod backoff;
mod lines;
#[cfg(test)]
pub(super) mod mock;
#[cfg(test)]
mod tests;

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::Agent;
use ureq::http::Uri;

pub(super) use answer::{Remedy, Trouble, check, printable};
pub(super) use backoff::{Backoff, full_jitter};
pub(super) use lines::{Line, read_line};

/// Where a server listens that was not told otherwise.
const URL_DEFAULT: &str = "http://127.0.0.1:8080";
/// How long opening a connection may take, for each of name resolution and connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Every byte but the unreserved ones of RFC 3986.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// In a channel's name `/` separates segments and `*` is a wildcard; a comma is part of the name.
const CHANNEL: &AsciiSet = &QUERY.remove(b'/').remove(b'*');

/// A server to talk to, and the connections to it.
#[derive(Debug)]
pub(super) struct Server {
    base: String,
    pub agent: Agent,
}

impl Server {
    /// The server at `flag`, else at `ENCKE_URL`, else the default; `silence` as in [`Server::new`].
    pub fn find(flag: Option<&str>, silence: Duration) -> Result<Self, String> {
        let environment = env("ENCKE_URL")?;
        Self::new(flag.or(environment.as_deref()).unwrap_or(URL_DEFAULT), silence)
    }

    /// The server at `url`. A connection on which nothing moves for `silence` while something is
    /// awaited counts as dead. Errors say what is wrong with the URL.
    pub fn new(url: &str, silence: Duration) -> Result<Self, String> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("encke/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(silence))
            .timeout_per_write(Some(silence))
            .build();
        Ok(Self { base: parse_base(url)?, agent: config.new_agent() })
    }

    /// The address of `path` (which begins with `/`, percent-encoded) with a query of these `pairs`.
    pub fn url(&self, path: &str, pairs: &[(&str, &str)]) -> String {
        let mut url = format!("{}{path}", self.base);
        for (n, (name, value)) in pairs.iter().enumerate() {
            url.push(if n == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            url.extend(utf8_percent_encode(value, QUERY));
        }
        url
    }

    /// The URL the server was given as, without a slash at the end.
    pub fn base(&self) -> &str {
        &self.base
    }
}

/// A channel's name as it stands in a path: `/` stays between segments, wildcards stay, `,` is encoded.
pub(super) fn encode_channel(name: &str) -> String {
    utf8_percent_encode(name, CHANNEL).to_string()
}

/// A variable of the environment; one that is empty counts as not set.
pub(super) fn env(name: &str) -> Result<Option<String>, String> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(format!("the environment variable {name} is not UTF-8"))
        }
    }
}

fn parse_base(url: &str) -> Result<String, String> {
    let uri: Uri = url.parse().map_err(|error| format!("the URL \"{url}\" cannot be read: {error}"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err(format!(
                "{url}: this program speaks plain HTTP only. Use the server's http:// address, from its own \
                 machine or through a tunnel (ssh -L 8080:127.0.0.1:8080 HOST)"
            ));
        }
        _ => return Err(format!("the URL \"{url}\" must begin with http://, for example {URL_DEFAULT}")),
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("a URL with a user or password is not accepted: put the token for publishing into the \
                    environment variable ENCKE_PUBLISH_TOKEN"
            .into());
    }
    if uri.query().is_some() {
        return Err(format!("the URL \"{url}\" must end before the question mark: it is the server's base"));
    }
    Ok(url.trim_end_matches('/').into())
}
