//! Long polling and interval polling: whole answers.

use super::Format;
use super::envelope::{envelope_len, write_envelope};
use crate::hub::{Gap, Message};
use crate::id::Place;
use crate::wire::media;
use crate::wire::query::encode_path;
use crate::wire::response::{self, Envelope, write_all, write_body_fields};
use std::io::Write;
use std::rc::Rc;

/// The answer to a poll, verbatim or as a batch as `format` says, that anybody without special wishes may get.
/// `envelope` must be the one that all of them share; the frame is made at most once.
pub fn shared_answer<'m>(message: &'m Rc<Message>, format: Format, envelope: &Envelope) -> (&'m [u8], usize) {
    message.frame(format.number(), |_| {
        let mut out = Vec::new();
        match format == Format::PollBatch {
            true => write_batch(&mut out, &[message], message.id.into(), &[], envelope),
            false => write_verbatim(&mut out, message, message.id.into(), &[], envelope),
        }
        out.into()
    })
}

/// Bytes of messages after which a batch ends: the client asks for the rest with its next request. One message
/// is always told.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// Cuts what was pulled to what one answer carries: `max` bytes, or one message. In a script, more is escaped.
pub fn cut_batch<'p, 'm>(
    pulled: &'p [&'m Rc<Message>],
    max: usize,
    in_script: bool,
) -> &'p [&'m Rc<Message>] {
    if pulled.len() < 2 {
        return pulled;
    }
    let mut bytes = 0;
    let mut fits = |message: &&Rc<Message>| {
        bytes += envelope_len(message, in_script);
        bytes <= max
    };
    let count = pulled.iter().take_while(|message| fits(message)).count();
    &pulled[..count.max(1)]
}

/// Whether an answer rendered earlier still tells the time.
pub fn is_current(answer: &[u8], date: &[u8]) -> bool {
    const DATE_AT: usize = b"HTTP/1.1 200 OK\r\nDate: ".len();
    answer.get(DATE_AT..DATE_AT + date.len()) == Some(date)
}

/// Appends an answer that is the message itself.
pub fn write_verbatim(out: &mut Vec<u8>, message: &Message, next: Place, gaps: &[Gap], envelope: &Envelope) {
    let body = message.publication.data.bytes();
    out.reserve(body.len() + 512);
    write_verbatim_head(out, message, next, gaps, envelope);
    if !envelope.head_only {
        out.extend_from_slice(body);
    }
}

/// Bytes of a payload from which on it is not copied behind its head.
const SHARED_BODY_BYTES_MIN: usize = 16 << 10;
/// Bytes of the payload from which a batch of one message is shared: it is kept with the message.
const SHARED_BATCH_BYTES_MIN: usize = 64 << 10;

/// The same, for a single poll: returns the message if its payload, being large, has to follow from there.
pub fn write_verbatim_to_one(
    out: &mut Vec<u8>,
    message: &Rc<Message>,
    next: Place,
    gaps: &[Gap],
    envelope: &Envelope,
) -> Option<Rc<Message>> {
    if envelope.head_only || message.publication.data.bytes().len() < SHARED_BODY_BYTES_MIN {
        write_verbatim(out, message, next, gaps, envelope);
        return None;
    }
    write_verbatim_head(out, message, next, gaps, envelope);
    Some(Rc::clone(message))
}

fn write_verbatim_head(out: &mut Vec<u8>, message: &Message, next: Place, gaps: &[Gap], envelope: &Envelope) {
    let publication = &message.publication;
    response::write_head(out, 200, envelope);
    write_ids(out, next, gaps);
    if let Some(event) = &publication.event {
        write_all(out, &["Encke-Event: ", event, "\r\n"]);
    }
    write_key_field(out, message);
    if message.is_removal() {
        return out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    }
    let content_type = publication.content_type.as_deref().unwrap_or(media::TEXT);
    write_body_fields(out, content_type, publication.data.bytes().len());
}

/// Appends the field that tells the key of a message, or which key is gone. Keys are UTF-8, which scripts would read as
/// Latin-1: so they are percent-encoded.
pub(super) fn write_key_field(out: &mut Vec<u8>, message: &Message) {
    if let Some(key) = message.key() {
        let name = if message.is_removal() { "Encke-Removed: " } else { "Encke-Key: " };
        let _ = write!(out, "{name}{}\r\n", encode_path(key));
    }
}

/// Appends an answer that is a JSON batch of messages; `next` is the id to continue with.
pub fn write_batch(
    out: &mut Vec<u8>,
    messages: &[&Rc<Message>],
    next: Place,
    gaps: &[Gap],
    envelope: &Envelope,
) {
    let body = batch_body(messages, next, !gaps.is_empty());
    out.reserve(body.len() + 512);
    write_batch_head(out, next, gaps, body.len(), envelope);
    if !envelope.head_only {
        out.extend_from_slice(&body);
    }
}

/// Appends the head of an answer that is a batch of one large message without a gap. The body, which all such answers
/// share, has to follow from there. Returns how many bytes were newly encoded; `None` if it is none of these.
pub fn write_batch_to_one(
    out: &mut Vec<u8>,
    messages: &[&Rc<Message>],
    next: Place,
    gaps: &[Gap],
    envelope: &Envelope,
) -> Option<usize> {
    let [message] = messages else { return None };
    let is_large = message.publication.data.bytes().len() >= SHARED_BATCH_BYTES_MIN;
    if !is_large || !gaps.is_empty() || envelope.head_only || next != message.id.into() {
        return None;
    }
    let encode = |_: &Message| batch_body(messages, message.id.into(), false).into();
    let (body, encoded) = message.frame(Format::BatchBody.number(), encode);
    write_batch_head(out, message.id.into(), gaps, body.len(), envelope);
    Some(encoded)
}

fn write_batch_head(out: &mut Vec<u8>, next: Place, gaps: &[Gap], length: usize, envelope: &Envelope) {
    response::write_head(out, 200, envelope);
    write_ids(out, next, gaps);
    write_body_fields(out, media::JSON, length);
}

fn batch_body(messages: &[&Rc<Message>], next: Place, gap: bool) -> Vec<u8> {
    let mut body = b"{\"messages\":[".to_vec();
    for (index, message) in messages.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        write_envelope(&mut body, message);
    }
    body.extend_from_slice(b"],\"next\":\"");
    next.write_to(&mut body);
    write_all(&mut body, &["\",\"gap\":", if gap { "true}" } else { "false}" }]);
    body
}

/// Appends an answer without news.
pub fn write_no_news(out: &mut Vec<u8>, status: u16, next: Place, gaps: &[Gap], envelope: &Envelope) {
    response::write_head(out, status, envelope);
    write_ids(out, next, gaps);
    if !matches!(status, 204 | 304) {
        out.extend_from_slice(b"Content-Length: 0\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// What stands before the first id: that the answer is not kept, [`response::INERT`], and the beginning of the tag.
const BEFORE_ID: &str = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
    Content-Security-Policy: sandbox\r\nETag: \"";

/// The fields from which a client continues, and the channels it missed messages of.
pub fn write_ids(out: &mut Vec<u8>, next: Place, gaps: &[Gap]) {
    out.extend_from_slice(BEFORE_ID.as_bytes());
    let begin = out.len();
    next.write_to(out);
    let end = out.len();
    out.extend_from_slice(b"\"\r\nEncke-Next: ");
    out.extend_from_within(begin..end);
    out.extend_from_slice(b"\r\n");
    write_gap_field(out, gaps);
}

/// Bytes of `Encke-Gap` after which further channels are summed up: proxies and clients refuse long heads.
const GAP_FIELD_BYTES_MAX: usize = 2048;

/// `Encke-Gap`, if there is one to tell: the channels, and `**` for those that are too many to name.
pub fn write_gap_field(out: &mut Vec<u8>, gaps: &[Gap]) {
    let start = out.len();
    for (index, gap) in gaps.iter().enumerate() {
        let lead = if index == 0 { "Encke-Gap: " } else { ", " };
        if out.len() - start > GAP_FIELD_BYTES_MAX {
            out.extend_from_slice(b", **");
            break;
        }
        let _ = write!(out, "{lead}{}", encode_path(&gap.channel));
    }
    if !gaps.is_empty() {
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn answers_are_inert() {
        assert!(super::BEFORE_ID.contains(super::response::INERT));
    }
}
