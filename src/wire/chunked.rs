//! Chunked transfer coding (RFC 9112, section 7.1): bodies that arrive, frames that leave.

use super::head::Refusal;
use crate::carry::carry;

/// Longest line inside a chunked body (a size with its extensions, or a trailer field), in bytes.
pub const LINE_BYTES_MAX: usize = 1024;
/// Most trailer fields, which are read and ignored.
pub const TRAILERS_MAX: u8 = 32;

const BAD_SIZE: Refusal = Refusal { status: 400, detail: "a chunk's size is malformed" };
const BAD_END: Refusal = Refusal { status: 400, detail: "a chunk does not end where its size says" };
const BAD_TRAILER: Refusal = Refusal { status: 400, detail: "the trailer of the chunked body is malformed" };

/// Takes chunks apart, however they are cut on their way.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    /// The line being read, while it is incomplete.
    line: Vec<u8>,
    trailers: u8,
}

carry! {
    struct Decoder { state, line, trailers }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailer,
    Done,
}

carry! {
    enum State { 0 => Size, 1 => Data(left: u64), 2 => DataEnd, 3 => Trailer, 4 => Done }
}

impl Decoder {
    /// Decodes from the front of `bytes` and appends the body's bytes to `body`, which may grow to `max`
    /// bytes (beyond: 413). Returns how many bytes were used; what follows the end of the body is not.
    pub fn decode(&mut self, bytes: &[u8], body: &mut Vec<u8>, max: usize) -> Result<usize, Refusal> {
        let mut rest = bytes;
        while !rest.is_empty() && self.state != State::Done {
            if let State::Data(left) = self.state {
                let take = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                body.extend_from_slice(&rest[..take]);
                rest = &rest[take..];
                self.state = match left - take as u64 {
                    0 => State::DataEnd,
                    left => State::Data(left),
                };
                continue;
            }
            let Some(end) = memchr::memchr(b'\n', rest) else {
                self.keep(rest)?;
                rest = &[];
                break;
            };
            self.keep(&rest[..=end])?;
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.line);
            let room = max.saturating_sub(body.len()) as u64;
            self.state = self.end_of_line(line.strip_suffix(b"\r\n").ok_or(BAD_SIZE)?, room)?;
        }
        Ok(bytes.len() - rest.len())
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn keep(&mut self, part: &[u8]) -> Result<(), Refusal> {
        if self.line.len() + part.len() > LINE_BYTES_MAX {
            return Err(BAD_SIZE);
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn end_of_line(&mut self, line: &[u8], room: u64) -> Result<State, Refusal> {
        match self.state {
            State::Size => match read_size(line)? {
                0 => Ok(State::Trailer),
                size if size > room => Err(Refusal { status: 413, detail: "the message is too large" }),
                size => Ok(State::Data(size)),
            },
            State::DataEnd if line.is_empty() => Ok(State::Size),
            State::DataEnd => Err(BAD_END),
            _ if line.is_empty() => Ok(State::Done),
            _ => {
                self.trailers += 1;
                match is_field(line) && self.trailers <= TRAILERS_MAX {
                    true => Ok(State::Trailer),
                    false => Err(BAD_TRAILER),
                }
            }
        }
    }
}

/// Whether a line of the trailer is a field: nobody reads it, but what is none is not passed over.
fn is_field(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|&byte| byte == b':') else { return false };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_token) && value.iter().all(is_plain)
}

/// Whether a byte may stand in a field's value.
const fn is_plain(byte: &u8) -> bool {
    *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)
}

/// The size in hexadecimal before an optional `;extension`.
fn read_size(line: &[u8]) -> Result<u64, Refusal> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, extension) = line.split_at(end);
    let starts = extension.trim_ascii_start().first();
    let extension_ok = starts.is_none_or(|byte| *byte == b';') && extension.iter().all(is_plain);
    // Trailing blanks without an extension are what smuggling is made of.
    let blank = !extension.is_empty() && starts.is_none();
    if digits.is_empty() || digits.len() > 16 || !extension_ok || blank {
        return Err(BAD_SIZE);
    }
    let text = std::str::from_utf8(digits).map_err(|_| BAD_SIZE)?;
    u64::from_str_radix(text, 16).map_err(|_| BAD_SIZE)
}

/// Appends one chunk of `parts` together. Nothing is appended for no bytes, as that would end the body.
pub fn write_chunk(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if length == 0 {
        return;
    }
    write_size(out, length);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(b"\r\n");
}

/// Bytes of a chunk of so many bytes of data.
pub const fn chunk_length(data: usize) -> usize {
    if data == 0 { 0 } else { hex_digits(data) as usize + b"\r\n".len() + data + b"\r\n".len() }
}

const fn hex_digits(number: usize) -> u32 {
    (usize::BITS - number.leading_zeros()).div_ceil(4)
}

fn write_size(out: &mut Vec<u8>, length: usize) {
    let digits = (0..hex_digits(length)).rev();
    out.extend(digits.map(|digit| b"0123456789abcdef"[length >> (4 * digit) & 15]));
    out.extend_from_slice(b"\r\n");
}

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(parts: &[&[u8]], max: usize) -> Result<(Vec<u8>, usize), u16> {
        let (mut decoder, mut body, mut used) = (Decoder::default(), Vec::new(), 0);
        for part in parts {
            used += decoder.decode(part, &mut body, max).map_err(|refusal| refusal.status)?;
        }
        match decoder.is_done() {
            true => Ok((body, used)),
            false => Err(0),
        }
    }

    #[test]
    fn every_split_gives_the_same_body() {
        let wire = b"5\r\nhello\r\n1;x=y\r\n \r\nA\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\nnext";
        let end = wire.len() - 4;
        for first in 0..=wire.len() {
            for second in first..=wire.len() {
                let parts = [&wire[..first], &wire[first..second], &wire[second..]];
                let (body, used) = decode(&parts, 100).unwrap();
                assert_eq!((&body[..], used), (&b"hello 0123456789"[..], end));
            }
        }
    }

    #[test]
    fn chunks_of_every_length_are_as_long_as_foretold() {
        for data in (0..70_000).step_by(13).chain([1, 15, 16, 255, 256, 4095, 4096, 65_535, 65_536]) {
            let mut chunk = Vec::new();
            write_chunk(&mut chunk, &[&vec![b'x'; data]]);
            assert_eq!(chunk.len(), chunk_length(data));
            assert!(data == 0 || chunk.starts_with(format!("{data:x}\r\n").as_bytes()));
        }
    }

    #[test]
    fn malformed_bodies() {
        for (wire, status) in [
            (&b"x\r\n"[..], 400),
            (b"\r\n", 400),
            (b"5\nhello", 400),
            (b"5 \r\nhello", 400),
            (b"-5\r\n", 400),
            (b"0x5\r\n", 400),
            (b"5 x\r\n", 400),
            (b"5;\0\r\n", 400),
            (b"fffffffffffffffff\r\n", 400),
            (b"ffffffffffffffff\r\n", 413),
            (b"65\r\n", 413),
            (b"1\r\nab\r\n", 400),
            (b"0\r\nno field\r\n\r\n", 400),
            (b"0\r\n: no name\r\n\r\n", 400),
            (b"0\r\nblank : x\r\n\r\n", 400),
            (b"0\r\n folded: x\r\n\r\n", 400),
            (b"0\r\nnul: \0\r\n\r\n", 400),
            (b"5\r\nhel", 0),
        ] {
            assert_eq!(decode(&[wire], 100).unwrap_err(), status, "{:?}", String::from_utf8_lossy(wire));
        }
        let endless = format!("1;{}", "x".repeat(2000));
        assert_eq!(decode(&[endless.as_bytes()], 100).unwrap_err(), 400);
        let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(100));
        assert_eq!(decode(&[trailers.as_bytes()], 100).unwrap_err(), 400);
    }

    #[test]
    fn chunks_written_are_chunks_read() {
        let mut wire = Vec::new();
        write_chunk(&mut wire, &[b"a", b"", b"bc"]);
        write_chunk(&mut wire, &[b""]);
        wire.extend_from_slice(LAST_CHUNK);
        assert_eq!(decode(&[&wire], 100).unwrap().0, b"abc");
    }
}
