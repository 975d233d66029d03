//! WebSocket (RFC 6455): the handshake's arithmetic, frames out of bytes that arrive in any pieces, and frames
//! to send. Knows no socket and no hub, and not what messages mean.
//!
//! A [`Reader`] exists only while a message is arriving. What is announced is checked against the limit before
//! anything is kept, and memory grows with what has arrived, never with what was announced. Text is checked as
//! it comes, so that a message which cannot become UTF-8 is refused at its first bad byte.

#[cfg(test)]
mod tests;

use super::head::Head;
use crate::carry::carry;
use arrayvec::ArrayVec;
use data_encoding::BASE64;
use sha1_smol::Sha1;

/// Most bytes in the payload of a control frame (section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;
/// The version we speak (section 4.4).
pub const VERSION: &str = "13";

/// Why a connection ends (section 7.4.1).
pub mod close {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The server leaves, or what was listened to is gone.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// A kind of data that is not understood here.
    pub const UNSUPPORTED: u16 = 1003;
    /// A text that is not UTF-8.
    pub const INVALID_DATA: u16 = 1007;
    /// A rule of ours was broken.
    pub const POLICY: u16 = 1008;
    /// A message above the limit.
    pub const TOO_BIG: u16 = 1009;
    /// The server has no room at the moment.
    pub const TRY_AGAIN_LATER: u16 = 1013;
    /// The token has expired, or was never shown (RFC 6455 leaves the numbers from 4000 to applications).
    pub const EXPIRED: u16 = 4401;
    /// The right to be connected was taken back.
    pub const REVOKED: u16 = 4403;
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// The value of `Sec-WebSocket-Accept` for the request's key; `None` if the request has no key, more than
/// one, or one that is not 16 bytes in base64 (section 4.2.1).
pub fn accept(head: &Head) -> Option<String> {
    let mut keys = head.fields("sec-websocket-key");
    let (key, None) = (keys.next()?, keys.next()) else { return None };
    BASE64.decode(key).ok().filter(|nonce| nonce.len() == 16)?;
    Some(accept_of(key))
}

fn accept_of(key: &[u8]) -> String {
    let mut sha1 = Sha1::new();
    sha1.update(key);
    sha1.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64.encode(&sha1.digest().bytes())
}

/// What a frame or a few of them carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A ping, to be answered by a pong with the same payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The peer closes, with this code if it named one. Nothing more may be sent but a close frame.
    Close(Option<u16>),
}

/// Why the connection has to be failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// The close code to send.
    pub code: u16,
    /// A sentence for the client's author.
    pub reason: &'static str,
}

const fn broken(reason: &'static str) -> Violation {
    Violation { code: close::PROTOCOL_ERROR, reason }
}

const NOT_UTF8: Violation = Violation { code: close::INVALID_DATA, reason: "a text message is not UTF-8" };
const TOO_BIG: Violation =
    Violation { code: close::TOO_BIG, reason: "the message is larger than limits.message_bytes" };

/// How much one message may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of its payload.
    pub bytes: usize,
    /// Frames that it comes in.
    pub frames: usize,
}

const TOO_MANY: Violation =
    Violation { code: close::POLICY, reason: "the message comes in more frames than limits.fragments" };

/// Reads what a client sends.
#[derive(Debug, Default)]
pub struct Reader {
    /// The bytes of an incomplete frame head: at most 2, a length of 8 and a mask of 4.
    head: ArrayVec<u8, 14>,
    /// The frame whose payload is arriving.
    frame: Option<Frame>,
    /// The kind of the message whose fragments are arriving.
    message: Option<Kind>,
    /// Frames of that message so far.
    frames: usize,
    /// The message's payload so far.
    payload: Vec<u8>,
    /// So many bytes at its beginning are known to be UTF-8.
    checked: usize,
    control: ArrayVec<u8, CONTROL_BYTES_MAX>,
}

carry! {
    struct Reader { head, frame, message, frames, payload, checked, control }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Binary,
}

carry! {
    enum Kind { 0 => Text, 1 => Binary }
}

/// A frame whose head has been read.
#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: u8,
    fin: bool,
    mask: [u8; 4],
    /// Bytes of its payload that have not arrived.
    left: usize,
}

carry! {
    struct Frame { opcode, fin, mask, left }
}

impl Reader {
    /// Takes from `bytes` until a message is complete; `None` if they are all taken. No message may be larger
    /// than `max`. After a violation, nothing more may be read.
    pub fn read(&mut self, bytes: &mut &[u8], max: Bounds) -> Result<Option<Message<'_>>, Violation> {
        if self.message.is_none() {
            // What was lent out by the last call has been used.
            self.payload.clear();
            self.checked = 0;
        }
        loop {
            let Some(frame) = &mut self.frame else {
                match self.read_head(bytes, max)? {
                    true => continue,
                    false => return Ok(None),
                }
            };
            let (piece, rest) = bytes.split_at(frame.left.min(bytes.len()));
            *bytes = rest;
            let is_control = frame.opcode & 8 != 0;
            match is_control {
                true => self.control.extend(piece.iter().copied()),
                false => self.payload.extend_from_slice(piece),
            }
            let new: &mut [u8] = if is_control { &mut self.control } else { &mut self.payload };
            let from = new.len() - piece.len();
            unmask(&mut new[from..], frame.mask);
            frame.mask.rotate_left(piece.len() % 4);
            frame.left -= piece.len();
            let frame = *frame;
            if !is_control && self.message == Some(Kind::Text) {
                self.check_text()?;
            }
            if frame.left > 0 {
                return Ok(None);
            }
            self.frame = None;
            if is_control {
                return self.control_message(frame.opcode).map(Some);
            }
            if frame.fin {
                return self.data_message().map(Some);
            }
        }
    }

    /// Bytes of the message that is arriving.
    pub const fn payload_len(&self) -> usize {
        self.payload.len()
    }

    /// Whether no message has begun to arrive, so that nothing need be kept.
    pub fn is_idle(&self) -> bool {
        self.head.is_empty() && self.frame.is_none() && self.message.is_none()
    }

    /// Takes the head of a frame; false if it is not complete.
    fn read_head(&mut self, bytes: &mut &[u8], max: Bounds) -> Result<bool, Violation> {
        while let Some((&byte, rest)) = bytes.split_first() {
            *bytes = rest;
            self.head.push(byte);
            if let Some(frame) = parse_head(&self.head)? {
                self.head.clear();
                self.begin(frame, max)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Checks that a frame may come now, and that there is room for it.
    fn begin(&mut self, frame: Frame, max: Bounds) -> Result<(), Violation> {
        match (frame.opcode, self.message) {
            (CONTINUATION, None) => return Err(broken("a continuation without a message to continue")),
            (TEXT | BINARY, Some(_)) => return Err(broken("a new message before the last was complete")),
            (TEXT, None) => self.message = Some(Kind::Text),
            (BINARY, None) => self.message = Some(Kind::Binary),
            (CONTINUATION, Some(_)) => {}
            _ => self.control.clear(),
        }
        if frame.opcode & 8 == 0 && frame.left > max.bytes.saturating_sub(self.payload.len()) {
            return Err(TOO_BIG);
        }
        if frame.opcode & 8 == 0 {
            self.frames = if frame.opcode == CONTINUATION { self.frames + 1 } else { 1 };
            if self.frames > max.frames {
                return Err(TOO_MANY);
            }
        }
        self.frame = Some(frame);
        Ok(())
    }

    /// Refuses text at its first bad byte; a character that is cut short may go on in the next piece.
    fn check_text(&mut self) -> Result<(), Violation> {
        match std::str::from_utf8(&self.payload[self.checked..]) {
            Ok(_) => self.checked = self.payload.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(NOT_UTF8),
        }
        Ok(())
    }

    fn data_message(&mut self) -> Result<Message<'_>, Violation> {
        match self.message.take() {
            Some(Kind::Text) if self.checked < self.payload.len() => Err(NOT_UTF8),
            Some(Kind::Text) => std::str::from_utf8(&self.payload).map(Message::Text).map_err(|_| NOT_UTF8),
            _ => Ok(Message::Binary(&self.payload)),
        }
    }

    fn control_message(&self, opcode: u8) -> Result<Message<'_>, Violation> {
        Ok(match opcode {
            PING => Message::Ping(&self.control),
            PONG => Message::Pong(&self.control),
            _ => Message::Close(close_code(&self.control)?),
        })
    }
}

/// The frame that `head` describes, or `None` if the head is longer. It is refused as soon as it can be.
fn parse_head(head: &[u8]) -> Result<Option<Frame>, Violation> {
    let (&first, opcode) = (head.first().unwrap_or(&0), head.first().unwrap_or(&0) & 0x0f);
    if first & RESERVED != 0 {
        return Err(broken("a reserved bit is set, and no extension was agreed upon"));
    }
    let is_control = matches!(opcode, CLOSE | PING | PONG);
    if !is_control && !matches!(opcode, CONTINUATION | TEXT | BINARY) {
        return Err(broken("a reserved opcode"));
    }
    let fin = first & FIN != 0;
    if is_control && !fin {
        return Err(broken("a fragmented control frame"));
    }
    let Some(&second) = head.get(1) else { return Ok(None) };
    if second & MASKED == 0 {
        return Err(broken("a client's frames must be masked"));
    }
    let short = second & !MASKED;
    if is_control && usize::from(short) > CONTROL_BYTES_MAX {
        return Err(broken("a control frame of more than 125 bytes"));
    }
    let (width, smallest) = match short {
        126 => (2, 126),
        127 => (8, 1 << 16),
        _ => (0, 0),
    };
    let Some(wide) = head.get(2..2 + width) else { return Ok(None) };
    let long = wide.iter().fold(0, |length: u64, &byte| length << 8 | u64::from(byte));
    if long < smallest || long >> 63 != 0 {
        return Err(broken("a length that is not in its shortest form, or negative"));
    }
    let length = if width == 0 { short.into() } else { long };
    let Some(mask) = head.get(2 + width..6 + width).and_then(|mask| mask.try_into().ok()) else {
        return Ok(None);
    };
    // Where a usize is shorter, no limit is so large either.
    let left = usize::try_from(length).unwrap_or(usize::MAX);
    Ok(Some(Frame { opcode, fin, mask, left }))
}

/// The code in the payload of a close frame (sections 5.5.1 and 7.4).
fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let [high, low, reason @ ..] = payload else {
        return match payload {
            [] => Ok(None),
            _ => Err(broken("a close frame with half a code")),
        };
    };
    let code = u16::from_be_bytes([*high, *low]);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(broken("a close code that must not be sent"));
    }
    std::str::from_utf8(reason).map_err(|_| NOT_UTF8)?;
    Ok(Some(code))
}

/// Applies a mask (section 5.3), eight bytes at a time.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([mask, mask].concat().try_into().unwrap_or_default());
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        let masked = u64::from_ne_bytes((&*word).try_into().unwrap_or_default());
        word.copy_from_slice(&(masked ^ wide).to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// Appends a text message in one frame.
pub fn write_text(out: &mut Vec<u8>, payload: &[u8]) {
    write_frame(out, TEXT, payload);
}

/// Appends a binary message in one frame.
pub fn write_binary(out: &mut Vec<u8>, payload: &[u8]) {
    write_frame(out, BINARY, payload);
}

/// Appends a pong that answers a ping with this payload.
pub fn write_pong(out: &mut Vec<u8>, payload: &[u8]) {
    write_frame(out, PONG, payload);
}

/// A ping without payload.
pub const EMPTY_PING: &[u8] = &[FIN | PING, 0];

/// Appends a close frame; without a code, an empty one. Reasons above 123 bytes are cut.
pub fn write_close(out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    let Some(code) = code else { return write_frame(out, CLOSE, &[]) };
    let mut end = reason.len().min(CONTROL_BYTES_MAX - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    write_frame(out, CLOSE, &[&code.to_be_bytes(), &reason.as_bytes()[..end]].concat());
}

fn write_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.reserve(payload.len() + 10);
    out.push(FIN | opcode);
    match payload.len() {
        length @ ..=125 => out.push(length as u8),
        length @ ..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}
