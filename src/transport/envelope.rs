//! The JSON envelope: `{"id":…,"channel":…,"event":…,"key":…,"data":…}`, always on one line.

use crate::hub::{Data, Gap, Message, one_line};
use crate::id::Place;
use crate::merge;
use crate::wire::response::write_all;
use data_encoding::BASE64;

/// Appends the envelope of `message` up to its data.
fn write_begin(out: &mut Vec<u8>, message: &Message) {
    out.extend_from_slice(b"{\"id\":\"");
    message.id.write_to(out);
    out.extend_from_slice(b"\",\"channel\":");
    write_string(out, &message.channel);
    let publication = &message.publication;
    for (name, value) in [("event", &publication.event), ("key", &publication.key)] {
        if let Some(value) = value {
            write_all(out, &[",\"", name, "\":"]);
            write_string(out, value);
        }
    }
}

/// Appends the envelope of `message`.
pub fn write_envelope(out: &mut Vec<u8>, message: &Message) {
    write_begin(out, message);
    match &message.publication.data {
        Data::Json(json) => {
            out.extend_from_slice(b",\"data\":");
            out.extend_from_slice(one_line(json).as_bytes());
        }
        Data::Text(text) => {
            out.extend_from_slice(b",\"data\":");
            write_string(out, text);
        }
        Data::Binary(bytes) => {
            out.push(b',');
            write_data64(out, bytes);
        }
        Data::Removed => out.extend_from_slice(b",\"removed\":true"),
    }
    out.push(b'}');
}

/// The envelope of `message` as a patch of `base`, the value of the same key before; `None` if there is none, or if it is
/// not smaller than the whole.
pub fn patch_envelope(base: &Message, message: &Message) -> Option<Vec<u8>> {
    let (Data::Json(old), Data::Json(new)) = (&base.publication.data, &message.publication.data) else {
        return None;
    };
    let patch = merge::diff(old, new)?;
    // Both envelopes are alike but for this.
    let (of_patch, of_whole) = (",\"base\":\"\",\"patch\":".len(), ",\"data\":".len());
    let base = base.id.text();
    if of_patch + base.len() + patch.len() >= of_whole + new.len() {
        return None;
    }
    let mut out = Vec::with_capacity(patch.len() + 128);
    write_begin(&mut out, message);
    write_all(&mut out, &[",\"base\":\"", &base, "\",\"patch\":", &one_line(&patch), "}"]);
    Some(out)
}

/// Appends `{"next":…}`: where a stream stands.
pub fn write_next(out: &mut Vec<u8>, next: Place) {
    out.extend_from_slice(b"{\"next\":\"");
    next.write_to(out);
    out.extend_from_slice(b"\"}");
}

/// Bytes of the envelope of `message`, or some more: an answer is bounded by what is written, not by what was
/// published. In a script, more is escaped.
pub fn envelope_len(message: &Message, in_script: bool) -> usize {
    /// Names of the members, quotes and commas, and the id.
    const AROUND: usize = 96;
    let escaped = |text: &str| -> usize {
        let len_of = |byte: u8| match byte {
            0..b' ' => 6,
            b'"' | b'\\' => 2,
            b'<' | 0xe2 if in_script => 6,
            _ => 1,
        };
        text.bytes().map(len_of).sum()
    };
    let publication = &message.publication;
    let data = match &publication.data {
        Data::Json(json) if !in_script => json.len(),
        Data::Json(text) | Data::Text(text) => escaped(text),
        Data::Binary(bytes) => bytes.len().div_ceil(3) * 4,
        Data::Removed => 0,
    };
    let property = |text: &Option<Box<str>>| text.as_deref().map_or(0, escaped);
    AROUND + escaped(&message.channel) + property(&publication.event) + property(&publication.key) + data
}

/// Appends `"data64":"…"`.
pub fn write_data64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"\"data64\":\"");
    out.extend_from_slice(BASE64.encode(bytes).as_bytes());
    out.push(b'"');
}

/// Appends `{"channel":…,"after":…,"oldest":…}`.
pub fn write_gap(out: &mut Vec<u8>, gap: &Gap) {
    out.extend_from_slice(b"{\"channel\":");
    write_string(out, &gap.channel);
    out.extend_from_slice(format!(",\"after\":\"{}\",\"oldest\":\"{}\"}}", gap.after, gap.oldest).as_bytes());
}

/// Appends `{"next":…,"heartbeat":…}`: where a stream stands, and how often it shows a sign of life.
pub fn write_place(out: &mut Vec<u8>, next: Place, heartbeat_seconds: u64) {
    let seconds = &mut itoa::Buffer::new();
    write_all(
        out,
        &["{\"next\":\"", &next.text(), "\",\"heartbeat\":", seconds.format(heartbeat_seconds), "}"],
    );
}

/// Appends a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    // Nearly all texts have nothing that needs an escape.
    if !needs_escape(text.as_bytes()) {
        return write_all(out, &["\"", text, "\""]);
    }
    // Writing a string into memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// Whether there is anything that may not stand in a JSON string as it is: by the word; the last may overlap the one before.
fn needs_escape(bytes: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);
    // Whether a byte of a word is below that, which must be at most 0x80. Exact for a word, not for each of its bytes.
    let has_below = |word: u64, than: u64| word.wrapping_sub(ONES * than) & !word;
    let look = |word: &[u8; 8]| {
        let word = u64::from_ne_bytes(*word);
        let quotes = has_below(word ^ (ONES * u64::from(b'"')), 1);
        (has_below(word, 0x20) | quotes | has_below(word ^ (ONES * u64::from(b'\\')), 1)) & TOPS
    };
    match bytes.last_chunk() {
        Some(last) => bytes.as_chunks().0.iter().fold(look(last), |found, word| found | look(word)) != 0,
        None => bytes.iter().any(|&byte| byte < b' ' || byte == b'"' || byte == b'\\'),
    }
}

#[cfg(test)]
mod tests {
    use super::write_string;

    #[test]
    fn strings_are_written_as_serde_writes_them() {
        let check = |text: &str| {
            let mut written = Vec::new();
            write_string(&mut written, text);
            assert_eq!(String::from_utf8(written).unwrap(), serde_json::to_string(text).unwrap());
        };
        check("");
        for character in (0..0x250).filter_map(char::from_u32) {
            for text in [format!("{character}"), format!("{}{character}{}", "a".repeat(40), "é".repeat(7))] {
                check(&text);
            }
        }
    }
}
