//! Cross-origin rules (WHATWG Fetch, section 3.3): which pages of other origins may read our answers.

use crate::config::Cors;
use crate::wire::head::Head;

/// Fields that scripts of another origin may read.
const EXPOSED: &str = "Access-Control-Expose-Headers: ETag, Encke-Next, Encke-Gap\r\n";

/// The fields of every answer if all origins are allowed; else of answers to no listed origin.
pub fn default_fields(cors: &Cors) -> String {
    match allows_all(cors) {
        true => format!("Access-Control-Allow-Origin: *\r\n{EXPOSED}"),
        false => String::new(),
    }
}

/// The origin of the request, if it is listed by name and answers must name it.
pub fn listed_origin<'b>(head: &Head<'b>, cors: &Cors) -> Option<&'b str> {
    head.field("origin")
        .filter(|origin| cors.origins.iter().any(|listed| listed.eq_ignore_ascii_case(origin)))
}

/// The origin of the request, if it may read answers at all: for protocols whose clients send credentials
/// without meaning anything by them.
pub fn allowed_origin<'b>(head: &Head<'b>, cors: &Cors) -> Option<&'b str> {
    head.field("origin").filter(|origin| {
        allows_all(cors) || cors.origins.iter().any(|listed| listed.eq_ignore_ascii_case(origin))
    })
}

/// Whether the page that sends this may open a WebSocket, which no browser refuses it on our behalf: pages of
/// this host and of allowed origins may, and what is no page.
pub fn admits(head: &Head, cors: &Cors) -> bool {
    let Some(origin) = head.field("origin") else { return head.fields("origin").next().is_none() };
    let is_own = || {
        let host = head.field("host").unwrap_or_default();
        origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
    };
    allows_all(cors) || listed_origin(head, cors).is_some() || is_own()
}

/// The fields of answers to a listed origin, which gets credentials.
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

fn allows_all(cors: &Cors) -> bool {
    cors.origins.iter().any(|origin| origin == "*")
}
