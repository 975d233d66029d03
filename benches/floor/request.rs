//! What is asked, told from as few bytes as possible.

use std::ops::Range;

use memchr::memmem;

use crate::answers::Kind;

/// One request at the front of what was read.
pub struct Request {
    pub asked: Asked,
    /// Bytes of the request, body included.
    pub length: usize,
}

/// What the load generator may ask.
pub enum Asked {
    Listen {
        channel: usize,
        kind: Kind,
    },
    Publish {
        channel: usize,
        body: Range<usize>,
    },
    /// A stream that begins with what was published last.
    Last {
        channel: usize,
    },
    /// Something that is answered at once, with a message that is there: `as=interval`, or a poll with `after=oldest`.
    Waiting,
    Health,
    Unknown,
}

/// The first request in `bytes`, if it is there as a whole.
pub fn first(bytes: &[u8]) -> Option<Request> {
    if let Some(path) = bytes.strip_prefix(b"POST /pub/c") {
        return publish(bytes, path);
    }
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let asked = match bytes {
        [b'G', b'E', b'T', b' ', b'/', b's', b'u', b'b', b'/', b'c', path @ ..] => listen(path),
        [b'G', b'E', b'T', b' ', b'/', b'h', ..] => Asked::Health,
        _ => Asked::Unknown,
    };
    Some(Request { asked, length: bytes.len() })
}

fn publish(bytes: &[u8], path: &[u8]) -> Option<Request> {
    const LENGTH: &[u8] = b"Content-Length: ";
    let body = memmem::find(bytes, b"\r\n\r\n")? + 4;
    let Some(at) = memmem::find(&bytes[..body], LENGTH) else {
        return Some(Request { asked: Asked::Unknown, length: bytes.len() });
    };
    let (length, _) = number(&bytes[at + LENGTH.len()..]);
    let end = body + length;
    let asked = Asked::Publish { channel: number(path).0, body: body..end };
    (end <= bytes.len()).then_some(Request { asked, length: end })
}

/// `<number>?as=<kind>…`, behind `GET /sub/c`.
fn listen(path: &[u8]) -> Asked {
    let (channel, rest) = number(path);
    let kind = match rest {
        [b'?', b' ', ..] => Kind::WebSocket,
        [b'?', b'a', b's', b'=', b's', b't', ..] => Kind::Stream,
        [b'?', b'a', b's', b'=', b's', ..] => Kind::Sse,
        [b'?', b'a', b's', b'=', b'r', ..] => Kind::Raw,
        [b'?', b'a', b's', b'=', b'l', ..] => return Asked::Last { channel },
        [b'?', b'a', b's', b'=', b'p', _, _, _, b'&', b'a', b'f', b't', b'e', b'r', b'=', b'o', ..] => {
            return Asked::Waiting;
        }
        [b'?', b'a', b's', b'=', b'p', ..] => Kind::Poll,
        [b'?', b'a', b's', b'=', b'i', ..] => return Asked::Waiting,
        _ => return Asked::Unknown,
    };
    Asked::Listen { channel, kind }
}

/// The decimal number at the front, at most 99,999,999, and what follows it.
fn number(bytes: &[u8]) -> (usize, &[u8]) {
    let digits = bytes.iter().take(8).take_while(|byte| byte.is_ascii_digit()).count();
    let value = bytes[..digits].iter().fold(0, |value, digit| value * 10 + usize::from(digit - b'0'));
    (value, &bytes[digits..])
}
