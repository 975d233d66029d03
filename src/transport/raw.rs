//! Bare messages, each exactly one chunk. There is no room for anything else: no heartbeat, no gap notice
//! (a stream with a gap is cut off instead), and an empty message does not show.

use crate::hub::Message;

/// Appends a message.
pub fn write_message(out: &mut Vec<u8>, message: &Message) {
    out.extend_from_slice(message.publication.data.bytes());
}
