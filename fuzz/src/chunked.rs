//! Chunked bodies: cut anywhere they decode to the same, as a plain reading of the RFC does; what we write, we read.

use crate::Cut;
use encke::wire::chunked::{Decoder, LAST_CHUNK, write_chunk};

const MAX: usize = 512;

#[derive(Debug, PartialEq)]
enum Verdict {
    /// The body, and how many bytes it took.
    Done(Vec<u8>, usize),
    Incomplete(Vec<u8>),
    Refused(u16),
}

/// Checks a body, cut and uncut.
pub fn check(data: &[u8]) {
    let cut = Cut::of(data);
    let whole = decode([cut.whole].into_iter());
    assert_eq!(whole, decode(cut.pieces()), "in pieces");
    assert_eq!(whole, decode(cut.whole.chunks(1)), "byte by byte");
    if let Verdict::Done(body, used) = &whole {
        assert_eq!(plainly(cut.whole).as_ref(), Some(&(body.clone(), *used)), "a plain reading differs");
    }
    round_trip(&cut);
}

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Verdict {
    let (mut decoder, mut body, mut used) = (Decoder::default(), Vec::new(), 0);
    for piece in pieces {
        match decoder.decode(piece, &mut body, MAX) {
            Ok(count) => used += count,
            Err(refusal) => return Verdict::Refused(refusal.status),
        }
        assert!(body.len() <= MAX, "{} bytes of {MAX}", body.len());
        if decoder.is_done() {
            return Verdict::Done(body, used);
        }
    }
    Verdict::Incomplete(body)
}

/// RFC 9112, section 7.1, for bodies that are complete and correct: no state, no pieces.
fn plainly(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    let line = |at: usize| {
        let end = bytes[at..].windows(2).position(|pair| pair == b"\r\n")? + at;
        Some((&bytes[at..end], end + 2))
    };
    loop {
        let (size, next) = line(at)?;
        let digits = size.split(|&byte| matches!(byte, b';' | b' ' | b'\t')).next()?;
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        at = next;
        if size == 0 {
            break;
        }
        body.extend_from_slice(bytes.get(at..at + size)?);
        at += size;
        (bytes.get(at..at + 2)? == b"\r\n").then_some(())?;
        at += 2;
    }
    loop {
        let (field, next) = line(at)?;
        at = next;
        if field.is_empty() {
            return Some((body, at));
        }
    }
}

/// What we write as chunks we read as the body.
fn round_trip(cut: &Cut) {
    let body = &cut.whole[..cut.whole.len().min(MAX)];
    let mut wire = Vec::new();
    for piece in (Cut { whole: body, ..*cut }).pieces() {
        write_chunk(&mut wire, &[piece]);
    }
    wire.extend_from_slice(LAST_CHUNK);
    assert_eq!(decode([&wire[..]].into_iter()), Verdict::Done(body.to_vec(), wire.len()));
}
