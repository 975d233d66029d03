//! The handshake of a WebSocket (RFC 6455, section 4.2), for whichever protocol is spoken over it.

use super::cors;
use crate::config::Config;
use crate::wire::head::{Head, Method};
use crate::wire::media::wants_text;
use crate::wire::response::Response;
use crate::wire::websocket;

/// Whether the request asks for a WebSocket, or did so before a proxy took `Upgrade` away. HEAD asks for nothing but a
/// head.
pub fn is_asked(head: &Head) -> bool {
    head.method == Method::Get
        && (head.lists("upgrade", "websocket") || head.bytes("sec-websocket-key").is_some())
}

/// The 101 that makes the connection a WebSocket, or what refuses it. A sub-protocol is for the caller to add.
pub fn answer(head: &Head, config: &Config) -> Result<Response, Response> {
    let refuse = |status, detail| Err(Response::problem(status, detail, wants_text(head)));
    if !head.lists("upgrade", "websocket") {
        let detail = "this is the handshake of a WebSocket without `Upgrade: websocket`: a proxy in the way has \
            dropped the field; let it pass Upgrade and Connection on, or use another technique";
        return Err(must_upgrade(detail, head));
    }
    if !head.http11 || !head.lists("connection", "upgrade") {
        return refuse(
            400,
            "a WebSocket begins with HTTP/1.1 and `Connection: Upgrade`; a proxy may be in the way",
        );
    }
    if head.field("sec-websocket-version").is_none_or(|version| version.trim() != websocket::VERSION) {
        return Err(must_upgrade("the WebSocket version spoken here is 13", head));
    }
    let Some(accept) = websocket::accept(head) else {
        return refuse(400, "Sec-WebSocket-Key must be there once, 16 bytes in base64");
    };
    if config.techniques_off.iter().any(|name| name == "websocket") {
        return refuse(403, "websocket is switched off here (techniques_off); use another technique");
    }
    if !cors::admits(head, &config.cors) {
        return refuse(403, "pages of this origin may not connect; see --cors-origins");
    }
    let response = Response::empty(101).with("Upgrade", "websocket");
    Ok(response.with("Sec-WebSocket-Accept", accept))
}

/// The answer to a handshake that cannot be one.
#[cold]
fn must_upgrade(detail: &str, head: &Head) -> Response {
    let problem = Response::problem(426, detail, wants_text(head));
    let problem = problem.with("Upgrade", "websocket");
    problem.with("Sec-WebSocket-Version", websocket::VERSION)
}
