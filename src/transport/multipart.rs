//! Multipart (RFC 2046, section 5.1): a part a message, with the message's own Content-Type; as
//! `multipart/x-mixed-replace` browsers show each in place of the last, so that an `<img>` becomes a film.
//!
//! Each part is followed at once by the boundary, which tells the client that it is complete. A stream that ends
//! therefore ends with a part that has nothing in it; parsers pass over it.
//!
//! What is not a message differs between the two types. In `multipart/mixed`, notices and signs of life are
//! parts of type `application/json` without `Encke-Id`. In `multipart/x-mixed-replace` they would be shown, so
//! a gap is told by a field of the next part, and there are no signs of life.

use super::poll::{write_gap_field, write_key_field};
use super::{Ending, envelope};
use crate::hub::{Gap, Message};
use crate::id::Place;
use crate::wire::media;
use crate::wire::query::encode_path;
use data_encoding::BASE64_MIME;
use std::io::Write;

/// The media type of parts that stand side by side.
pub const MIXED: &str = "multipart/mixed; boundary=encke-5f0c1e9a7d3b4826";
/// The media type of parts that replace each other.
pub const REPLACE: &str = "multipart/x-mixed-replace; boundary=encke-5f0c1e9a7d3b4826";
/// The first boundary, and what makes each part complete.
pub const BOUNDARY: &[u8] = b"--encke-5f0c1e9a7d3b4826\r\n";
/// What ends a stream: the last boundary.
pub const END: &[u8] = b"--encke-5f0c1e9a7d3b4826--\r\n";
/// A sign of life among parts that stand side by side.
pub const EMPTY_OBJECT: &[u8] =
    b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}\r\n--encke-5f0c1e9a7d3b4826\r\n";

/// Appends a message. One that contains the boundary goes in base64, so that nobody can forge parts.
pub fn write_message(out: &mut Vec<u8>, message: &Message) {
    let publication = &message.publication;
    let content_type = publication.content_type.as_deref().unwrap_or(media::TEXT);
    let _ = write!(out, "Encke-Id: {}\r\nEncke-Channel: {}\r\n", message.id, encode_path(&message.channel));
    if let Some(event) = &publication.event {
        let _ = write!(out, "Encke-Event: {event}\r\n");
    }
    write_key_field(out, message);
    let boundary = &BOUNDARY[..BOUNDARY.len() - 2];
    let body = publication.data.bytes();
    if message.is_removal() {
        out.extend_from_slice(b"Content-Length: 0\r\n\r\n\r\n");
        return out.extend_from_slice(BOUNDARY);
    }
    match memchr::memmem::find(body, boundary) {
        None => write_body(out, content_type, body),
        Some(_) => {
            out.extend_from_slice(b"Content-Transfer-Encoding: base64\r\n");
            write_body(out, content_type, BASE64_MIME.encode(body).as_bytes());
        }
    }
}

fn write_body(out: &mut Vec<u8>, content_type: &str, body: &[u8]) {
    let _ = write!(out, "Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n", body.len());
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(BOUNDARY);
}

/// Appends the notice of a gap as a part.
pub fn write_gap(out: &mut Vec<u8>, gap: &Gap) {
    let mut json = b"{\"gap\":".to_vec();
    envelope::write_gap(&mut json, gap);
    json.push(b'}');
    write_body(out, media::JSON, &json);
}

/// Appends the notice of a gap as a field of the part that will follow.
pub fn write_gap_ahead(out: &mut Vec<u8>, gap: &Gap) {
    write_gap_field(out, std::slice::from_ref(gap));
}

/// Appends the part that tells why the stream ends, in its fields for who shows parts.
pub fn write_farewell(out: &mut Vec<u8>, why: Ending, next: Place, object: &[u8]) {
    let field = match why {
        Ending::Expired => "Encke-Expired",
        Ending::Revoked => "Encke-Revoked",
    };
    let _ = write!(out, "{field}: true\r\nEncke-Next: {next}\r\n");
    write_body(out, media::JSON, object);
}

/// Appends a place without a message, as a part.
pub fn write_place(out: &mut Vec<u8>, place: Place) {
    let mut json = Vec::new();
    envelope::write_next(&mut json, place);
    write_body(out, media::JSON, &json);
}
