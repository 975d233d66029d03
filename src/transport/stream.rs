//! Endless JSON lines: an envelope a line, an empty line as heartbeat.

use super::envelope;
use crate::hub::{Gap, Message};

/// Appends a message.
pub fn write_message(out: &mut Vec<u8>, message: &Message) {
    envelope::write_envelope(out, message);
    out.push(b'\n');
}

/// Appends the notice of a gap.
pub fn write_gap(out: &mut Vec<u8>, gap: &Gap) {
    out.extend_from_slice(b"{\"gap\":");
    envelope::write_gap(out, gap);
    out.extend_from_slice(b"}\n");
}

/// Appends the line that tells why the stream ends.
pub fn write_farewell(out: &mut Vec<u8>, object: &str) {
    out.extend_from_slice(object.as_bytes());
    out.push(b'\n');
}
