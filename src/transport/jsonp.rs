//! JSONP: a poll that is answered by a script, `callback([envelope…], next)`, for pages of other origins in
//! browsers that know nothing better. A third argument, `true`, tells that messages are missing.

use super::Ending;
use super::envelope::write_envelope;
use super::poll::write_ids;
use super::script;
use crate::hub::{Gap, Message};
use crate::id::{MessageId, Place};
use crate::wire::response::{self, Envelope};
use std::io::Write;
use std::rc::Rc;

/// Appends an answer, with or without messages. An empty comment comes first, so that the answer cannot be
/// taken for anything but a script.
pub fn write_answer(
    out: &mut Vec<u8>,
    callback: &str,
    messages: &[&Rc<Message>],
    next: Place,
    gaps: &[Gap],
    envelope: &Envelope,
) {
    let mut json = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        write_envelope(&mut json, message);
    }
    let mut body = format!("/**/{callback}([").into_bytes();
    script::write_json(&mut body, &json);
    let missing = if gaps.is_empty() { "" } else { ",true" };
    let _ = write!(body, "],\"{next}\"{missing});");
    response::write_head(out, 200, envelope);
    write_ids(out, next, gaps);
    let _ = write!(
        out,
        "Content-Type: text/javascript; charset=utf-8\r\nCross-Origin-Resource-Policy: cross-origin\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    if !envelope.head_only {
        out.extend_from_slice(&body);
    }
}

/// Appends an answer that tells why listening ends: `callback([], next, {"expired":true})`.
pub fn write_ending(out: &mut Vec<u8>, callback: &str, next: MessageId, why: Ending, envelope: &Envelope) {
    let body = format!("/**/{callback}([],\"{next}\",{{\"{}\":true}});", why.name());
    response::write_head(out, 200, envelope);
    write_ids(out, next.into(), &[]);
    let _ = write!(
        out,
        "Content-Type: text/javascript; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
}
