//! Server-sent events as clients of Mercure rely on them.
//!
//! An empty line is sent only behind `data:`: libraries that are no browser take every block for a message. Every event
//! has an id: the one that its publisher chose, or `#` and ours, which is a fragment, and so none that a publisher may
//! choose.

use super::{Look, envelope, framed, sse};
use crate::hub::{Gap, Message};
use crate::id::{MessageId, Place};
use std::io::Write;

/// Appends a message as an event.
pub fn write_message(out: &mut Vec<u8>, message: &Message) {
    if let Some(event) = message.publication.event.as_deref().filter(|_| !message.is_removal()) {
        let _ = writeln!(out, "event: {event}");
    }
    let update = message.update();
    if let Some(retry_ms) = update.and_then(|update| update.retry_ms) {
        sse::write_retry(out, retry_ms);
    }
    match update.and_then(|update| update.id.as_deref()) {
        Some(id) => _ = writeln!(out, "id: {id}"),
        None => _ = writeln!(out, "id: {}", own_id(message.id)),
    }
    if let Some(key) = message.key().filter(|_| message.is_removal()) {
        let _ = write!(out, "event: encke.removed\ndata: {key}\n\n");
        return;
    }
    sse::write_payload(out, message);
    out.push(b'\n');
}

/// The id that a message has whose publisher chose none.
pub fn own_id(id: MessageId) -> String {
    format!("#{id}")
}

/// Appends the beginning: how long to wait before reconnecting, and a comment.
pub fn write_opening(out: &mut Vec<u8>, retry_ms: u64) {
    sse::write_retry(out, retry_ms);
    out.extend_from_slice(b":\n");
}

/// The event that tells where a stream begins, for who asks for it.
pub fn start_notice(look: Look, position: MessageId) -> Vec<u8> {
    let event = format!("event: encke.start\nid: {}\ndata: {{}}\n\n", own_id(position));
    framed(event.into_bytes(), look.chunked)
}

/// The notice of a gap before the first message, to who came with the id `after`.
pub fn gap_notice(look: Look, gap: &Gap, after: Option<&str>) -> Vec<u8> {
    let mut payload = Vec::new();
    write_gap(&mut payload, gap, after);
    framed(payload, look.chunked)
}

/// Appends the notice of a gap. Its id is where the subscriber stands, so that it is told once.
pub fn write_gap(out: &mut Vec<u8>, gap: &Gap, after: Option<&str>) {
    let _ = write!(out, "event: encke.gap\nid: {}\ndata: {{", own_id(gap.position));
    if &*gap.channel != "*" {
        out.extend_from_slice(b"\"topic\":");
        envelope::write_string(out, &gap.channel);
        out.push(b',');
    }
    out.extend_from_slice(b"\"after\":");
    envelope::write_string(out, after.unwrap_or(&own_id(gap.after)));
    let _ = write!(out, ",\"oldest\":\"{}\"}}\n\n", own_id(gap.oldest));
}

/// Appends the event that tells why the stream ends; its id is where the client goes on.
pub fn write_farewell(out: &mut Vec<u8>, name: &str, next: Place) {
    let _ = write!(out, "event: encke.{name}\nid: {}\ndata: {{\"{name}\":true}}\n\n", own_id(next.id));
}
