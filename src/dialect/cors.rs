//! Cross-origin rules (WHATWG Fetch, section 3.3): which pages of other origins may read our answers.

use crate::config::Cors;
use crate::conn::OriginIndex;
use crate::wire::head::Head;
use std::num::NonZeroU16;

/// Fields that scripts of another origin may read.
const EXPOSED: &str = "Access-Control-Expose-Headers: ETag, Encke-Next, Encke-Gap, Encke-Heartbeat, Encke-Removed, Retry-After\r\n";

/// The header fields that answers carry, made once from the settings.
#[derive(Debug)]
pub struct Rules {
    /// For everybody if all origins are allowed; else for those who are not listed.
    default: String,
    /// Origins listed by name and what answers to them carry.
    listed: Vec<(String, String)>,
}

impl Rules {
    /// The rules of the settings.
    pub fn new(cors: &Cors) -> Self {
        let all = cors.origins.iter().any(|origin| origin == "*");
        let default =
            if all { format!("Access-Control-Allow-Origin: *\r\n{EXPOSED}") } else { String::new() };
        let names =
            cors.origins.iter().filter(|origin| *origin != "*").map(|origin| origin.to_ascii_lowercase());
        let listed = names.map(|origin| (origin.clone(), listed_fields(&origin))).collect();
        Self { default, listed }
    }

    /// Which listed origin the request comes from.
    pub fn find(&self, head: &Head) -> OriginIndex {
        let origin = head.field("origin").filter(|_| !self.listed.is_empty())?;
        let place = self.listed.iter().position(|(listed, _)| listed.eq_ignore_ascii_case(origin))?;
        NonZeroU16::new(u16::try_from(place + 1).ok()?)
    }

    /// The origin the request comes from, if it is allowed only because all are.
    pub fn unlisted<'b>(&self, head: &Head<'b>) -> Option<&'b str> {
        head.field("origin").filter(|_| !self.default.is_empty() && self.find(head).is_none())
    }

    /// The fields of answers to that origin, complete lines.
    pub fn fields(&self, origin: OriginIndex) -> &str {
        let listed = origin.and_then(|index| self.listed.get(usize::from(index.get()) - 1));
        listed.map_or(&self.default, |(_, fields)| fields)
    }
}

/// Whether the page that sends this may connect by a technique where no browser keeps it from reading: pages of
/// this host and of allowed origins may, and what is no page.
pub fn admits(head: &Head, cors: &Cors) -> bool {
    let Some(origin) = head.field("origin") else { return head.fields("origin").next().is_none() };
    let host = head.field("host").unwrap_or_default();
    let is_own = origin.split_once("://").is_some_and(|(_, own)| own.eq_ignore_ascii_case(host));
    is_own || cors.origins.iter().any(|listed| listed == "*" || listed.eq_ignore_ascii_case(origin))
}

/// The same for a script that is asked for by a page. Such requests carry no `Origin`: a browser tells by
/// `Sec-Fetch-Site` that the page is ours, or by `Referer` which page it is.
pub fn admits_script(head: &Head, cors: &Cors) -> bool {
    let is_ours = head.field("sec-fetch-site").is_some_and(|site| matches!(site, "same-origin" | "none"));
    let all = cors.origins.iter().any(|listed| listed == "*");
    all || is_ours
        || head.field("referer").is_some_and(|referer| {
            let origin = origin_of(referer);
            let authority = origin.split_once("://").map_or(origin, |(_, authority)| authority);
            let host = head.field("host").unwrap_or_default();
            let listed = cors.origins.iter().any(|listed| listed.eq_ignore_ascii_case(origin));
            listed || authority.eq_ignore_ascii_case(host)
        })
}

/// The origin at the beginning of a URL.
pub fn origin_of(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let end = url[authority..].find(['/', '?', '#']).map_or(url.len(), |at| authority + at);
    &url[..end]
}

/// The fields of answers that name an origin. A listed origin gets credentials; `*` never does.
pub fn listed_fields(origin: &str) -> String {
    format!(
        "Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin\r\n{EXPOSED}"
    )
}

/// The fields that answer a preflight request.
pub const PREFLIGHT: &str = "Access-Control-Allow-Methods: GET, HEAD, POST, PUT, DELETE, OPTIONS\r\n\
    Access-Control-Allow-Headers: Accept, Authorization, Cache-Control, Content-Type, Encke-Event, Encke-Key, \
    Encke-TTL, Idempotency-Key, If-None-Match, Last-Event-ID, X-Requested-With\r\n\
    Access-Control-Max-Age: 86400\r\n";
