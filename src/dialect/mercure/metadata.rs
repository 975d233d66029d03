//! What draft 08 tells of the hub to who has no token yet (RFC 9728), and the challenge that names it.

use super::{identity, methods, not_allowed, options};
use crate::broker::access::Draft;
use crate::broker::access::tokens::details;
use crate::config::{Config, Protocol};
use crate::dialect::cors;
use crate::wire::head::{Head, Method};
use crate::wire::media;
use crate::wire::response::Response;
use serde_json::{Value, json};

/// Where metadata of resources are, before the path of the resource.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Whether the metadata are at that path.
pub fn is_here(path: &str, config: &Config) -> bool {
    let below = path.strip_prefix(WELL_KNOWN);
    config.mercure.protocol.speaks_v1() && below.is_some_and(|below| below == config.mercure.path)
}

/// The answer to who asks for them.
pub fn answer(head: &Head, config: &Config) -> Response {
    let allow = methods(false, config);
    match head.method {
        Method::Get | Method::Head => {
            Response::new(200, media::JSON, document(config).to_string().into_bytes())
        }
        Method::Options => options(head, allow),
        _ => not_allowed(head, allow),
    }
}

fn document(config: &Config) -> Value {
    let mut document = json!({
        "resource": config.mercure.audience,
        "authorization_details_types_supported": [details::TYPE],
        "bearer_methods_supported": ["header"],
        "mercure_cookie": identity::cookie_name(Draft::V1, config),
    });
    if config.mercure.subscriptions {
        document["mercure_subscriptions"] = true.into();
    }
    document
}

/// The same refusal, with a challenge that names the metadata where draft 08 is spoken.
pub fn challenge(mut response: Response, config: &Config) -> Response {
    const PLAIN: &str = "WWW-Authenticate: Bearer";
    let audience = config.mercure.audience.as_deref().unwrap_or_default();
    let origin = cors::origin_of(audience);
    let named = format!("{PLAIN} resource_metadata=\"{origin}{WELL_KNOWN}{}\"", config.mercure.path);
    match config.mercure.protocol {
        Protocol::Classic => {}
        // What went wrong is told by the draft of who asks; this is for both.
        Protocol::Both if response.status == 401 => response.fields = format!("{named}\r\n").into(),
        Protocol::V1 | Protocol::Both => {
            let with_error = response.fields.replacen(&format!("{PLAIN} "), &format!("{named}, "), 1);
            response.fields = with_error.replacen(&format!("{PLAIN}\r"), &format!("{named}\r"), 1).into();
        }
    }
    response
}
