//! WebSocket: an envelope a text message; or, with the sub-protocol `encke.raw`, the bare payload, as text if it
//! is UTF-8. Its frames are shared like all others: what a server sends is not masked.
//!
//! The first message of a connection tells where it stands, so that a script which has got no other yet can
//! resume; it cannot read the fields of the handshake.

use super::envelope;
use crate::hub::{Data, Gap, Message};
use crate::id::Place;
use crate::wire::websocket::{write_binary, write_text};

/// The close code that tells a subscriber of bare messages that some are missing (RFC 6455 leaves the numbers
/// from 4000 to applications).
pub const CLOSE_GAP: u16 = 4000;
/// A sign of life that scripts can see.
pub const EMPTY_OBJECT: &[u8] = b"\x81\x02{}";

/// Appends a message as its envelope.
pub fn write_message(out: &mut Vec<u8>, message: &Message) {
    let mut payload = Vec::new();
    envelope::write_envelope(&mut payload, message);
    write_text(out, &payload);
}

/// Appends a message and nothing around it.
pub fn write_bare(out: &mut Vec<u8>, message: &Message) {
    match &message.publication.data {
        Data::Json(text) | Data::Text(text) => write_text(out, text.as_bytes()),
        Data::Binary(bytes) => write_binary(out, bytes),
        // There is no room to say so.
        Data::Removed => {}
    }
}

/// Appends where the connection stands, and how often it shows a sign of life.
pub fn write_opening(out: &mut Vec<u8>, start: Place, heartbeat_seconds: u64) {
    let mut payload = Vec::new();
    envelope::write_place(&mut payload, start, heartbeat_seconds);
    write_text(out, &payload);
}

/// Appends the notice of a gap.
pub fn write_gap(out: &mut Vec<u8>, gap: &Gap) {
    let mut payload = b"{\"gap\":".to_vec();
    envelope::write_gap(&mut payload, gap);
    payload.push(b'}');
    write_text(out, &payload);
}

/// Appends the object that tells why the connection will be closed.
pub fn write_farewell(out: &mut Vec<u8>, object: &str) {
    write_text(out, object.as_bytes());
}

/// Appends a place without a message.
pub fn write_place(out: &mut Vec<u8>, place: Place) {
    let mut payload = Vec::new();
    envelope::write_next(&mut payload, place);
    write_text(out, &payload);
}
