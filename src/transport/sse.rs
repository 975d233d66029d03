//! Server-sent events (WHATWG HTML, section 9.2).

use super::envelope;
use crate::hub::{Data, Gap, Message};
use crate::id::Place;
use std::io::Write;

/// Appends a message as an event: one `data:` per line of the message. An event stream is UTF-8, so other
/// bytes come as `{"data64":"…"}`.
pub fn write_message(out: &mut Vec<u8>, message: &Message) {
    let _ = writeln!(out, "id: {}", message.id);
    if let Some(key) = message.key().filter(|_| message.is_removal()) {
        let _ = write!(out, "event: encke.removed\ndata: {key}\n\n");
        return;
    }
    if let Some(event) = &message.publication.event {
        let _ = writeln!(out, "event: {event}");
    }
    write_payload(out, message);
    out.push(b'\n');
}

/// Appends what a message carries, one `data:` per line of it.
pub fn write_payload(out: &mut Vec<u8>, message: &Message) {
    match &message.publication.data {
        Data::Json(text) | Data::Text(text) => write_data(out, text),
        Data::Binary(bytes) => {
            out.extend_from_slice(b"data: {");
            envelope::write_data64(out, bytes);
            out.extend_from_slice(b"}\n");
        }
        Data::Removed => {}
    }
}

/// Appends a message as an event whose data is its envelope, always one line.
pub fn write_envelope_event(out: &mut Vec<u8>, message: &Message) {
    let _ = write!(out, "id: {}\ndata: ", message.id);
    envelope::write_envelope(out, message);
    out.extend_from_slice(b"\n\n");
}

/// Appends the notice of a gap among envelopes.
pub fn write_gap_envelope(out: &mut Vec<u8>, gap: &Gap) {
    out.extend_from_slice(b"data: {\"gap\":");
    envelope::write_gap(out, gap);
    out.extend_from_slice(b"}\n\n");
}

/// Lines end with CR LF, LF or CR: to an event stream they are all the same.
fn write_data(out: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    loop {
        let end = rest.find(['\r', '\n']);
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&rest.as_bytes()[..end.unwrap_or(rest.len())]);
        out.push(b'\n');
        let Some(end) = end else { return };
        let ending = if rest[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = &rest[end + ending..];
    }
}

/// Appends the notice of a gap.
pub fn write_gap(out: &mut Vec<u8>, gap: &Gap) {
    out.extend_from_slice(b"event: encke.gap\ndata: ");
    envelope::write_gap(out, gap);
    out.extend_from_slice(b"\n\n");
}

/// Appends the beginning: how long to wait before reconnecting, and an event of our own with an id, so that a client
/// which loses its connection before the first message resumes from here.
///
/// It is a named event with data because libraries that are no browser take every block for a message: such a one can
/// be told from messages, and parsed. For the same reason there is never an empty line but behind data.
pub fn write_opening(out: &mut Vec<u8>, start: Place, retry_ms: u64, heartbeat_seconds: u64) {
    let _ = write!(out, "retry: {retry_ms}\nid: {start}\nevent: encke.open\ndata: ");
    envelope::write_place(out, start, heartbeat_seconds);
    out.extend_from_slice(b"\n\n");
}

/// Appends how long to wait before reconnecting, for a stream that ends.
pub fn write_retry(out: &mut Vec<u8>, retry_ms: u64) {
    let _ = writeln!(out, "retry: {retry_ms}");
}

/// Appends the event that tells why the stream ends; its id is where the client goes on.
pub fn write_farewell(out: &mut Vec<u8>, name: &str, next: Place) {
    let _ = write!(out, "event: encke.{name}\nid: {next}\ndata: {{\"{name}\":true}}\n\n");
}

/// The same among envelopes.
pub fn write_farewell_envelope(out: &mut Vec<u8>, object: &str, next: Place) {
    let _ = write!(out, "id: {next}\ndata: {object}\n\n");
}

/// Appends a place without a message.
pub fn write_place(out: &mut Vec<u8>, place: Place) {
    let _ = write!(out, "id: {place}\n\n");
}

/// The same among envelopes.
pub fn write_place_envelope(out: &mut Vec<u8>, place: Place) {
    let mut json = Vec::new();
    envelope::write_next(&mut json, place);
    write_enveloped(out, place, &json);
}

/// Appends an event whose data is `json`.
pub fn write_enveloped(out: &mut Vec<u8>, id: Place, json: &[u8]) {
    let _ = write!(out, "id: {id}\ndata: ");
    out.extend_from_slice(json);
    out.extend_from_slice(b"\n\n");
}
