//! Forever frame: a page that never ends, in a frame of the client's page. Each message is a script that calls
//! a function of the page around it; browsers run it as it arrives.
//!
//! The name of that function is the subscriber's, the frames are everybody's: the page's head defines `e`, which
//! calls it, and all scripts call `e`. The function must belong to a page of the same origin; to pages of other
//! origins goes what `callback=postMessage` sends, if `cors.origins` allows them.

use super::envelope;
use super::script;
use crate::config::Config;
use crate::hub::{Gap, Message};
use crate::id::Place;
use std::io::Write;

/// The name of the callback that sends messages to pages of other origins.
const POST_MESSAGE: &str = "postMessage";

/// Appends a message.
pub fn write_message(out: &mut Vec<u8>, message: &Message) {
    let mut json = Vec::new();
    envelope::write_envelope(&mut json, message);
    write_call(out, &json);
}

/// Appends the notice of a gap.
pub fn write_gap(out: &mut Vec<u8>, gap: &Gap) {
    let mut json = b"{\"gap\":".to_vec();
    envelope::write_gap(&mut json, gap);
    json.push(b'}');
    write_call(out, &json);
}

pub fn write_call(out: &mut Vec<u8>, json: &[u8]) {
    out.extend_from_slice(b"<script>e(");
    script::write_json(out, json);
    out.extend_from_slice(b")</script>\n");
}

/// Appends the beginning of the page: the function that all scripts call, blanks against those who hold back
/// the first bytes of an answer, and where the stream stands. A script that has run is removed, as the page
/// would grow for ever.
pub fn write_opening(out: &mut Vec<u8>, start: Place, callback: &str, config: &Config) {
    let origins = &config.cors.origins;
    out.extend_from_slice(
        b"<!DOCTYPE html><html><head><meta charset=\"utf-8\"><title>Encke</title></head><body>\n\
          <script>function e(m){var s=document.getElementsByTagName(\"script\");s=s[s.length-1];\
          s.parentNode.removeChild(s);",
    );
    if callback == POST_MESSAGE {
        let own = std::iter::once("location.origin".to_owned());
        let targets: Vec<String> = match origins.iter().any(|origin| origin == "*") {
            true => vec!["\"*\"".into()],
            false => own.chain(origins.iter().map(|origin| format!("{origin:?}"))).collect(),
        };
        for target in targets {
            out.extend_from_slice(b"parent.postMessage(m,");
            script::write_json(out, target.as_bytes());
            out.extend_from_slice(b");");
        }
    } else {
        let _ = write!(out, "parent.{callback}(m);");
    }
    out.extend_from_slice(b"}</script>\n<!--");
    out.resize(out.len() + config.iframe.padding_bytes, b' ');
    out.extend_from_slice(b"-->\n");
    write_call(out, format!("{{\"next\":\"{start}\"}}").as_bytes());
}

/// Appends the call that tells why the page ends.
pub fn write_farewell(out: &mut Vec<u8>, object: &str) {
    write_call(out, object.as_bytes());
}

/// Appends a place without a message.
pub fn write_place(out: &mut Vec<u8>, place: Place) {
    let mut json = Vec::new();
    envelope::write_next(&mut json, place);
    write_call(out, &json);
}
