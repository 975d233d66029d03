//! The mark every payload carries, so that a message is recognised in whatever framing it comes.
//!
//! `~` run (4) lane (6) number (10) time (16), all hexadecimal, filler, `^`. No framing changes any of these bytes, so
//! finding a `~` and checking for the `^` at its place finds exactly the whole payloads, in a chunked stream as in JSON.

/// Bytes from `~` to the end of the time.
const HEAD: usize = 1 + 4 + 6 + 10 + 16;

/// What a payload says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Of this run of the generator: another run's messages are not ours.
    pub run: u16,
    /// Which publisher's messages in which channel, see [`crate::ledger`].
    pub lane: u32,
    /// From 0 in each lane.
    pub number: u64,
    /// Nanoseconds since the generator began, when it was (or should have been) published.
    pub time: u64,
}

impl Mark {
    /// Appends a payload of `length` bytes, at least 48.
    pub fn write(&self, length: usize, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(b'~');
        for (value, digits) in
            [(u64::from(self.run), 4), (u64::from(self.lane), 6), (self.number, 10), (self.time, 16)]
        {
            for digit in (0..digits).rev() {
                out.push(b"0123456789abcdef"[(value >> (4 * digit)) as usize & 15]);
            }
        }
        out.resize(start + length - 1, b'x');
        out.push(b'^');
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let field = |from: usize, digits: usize| {
            bytes[from..from + digits].iter().try_fold(0, |value, &byte| {
                let digit = match byte {
                    b'0'..=b'9' => byte - b'0',
                    b'a'..=b'f' => byte - b'a' + 10,
                    _ => return None,
                };
                Some(value << 4 | u64::from(digit))
            })
        };
        Some(Self {
            run: field(1, 4)? as u16,
            lane: field(5, 6)? as u32,
            number: field(11, 10)?,
            time: field(21, 16)?,
        })
    }
}

/// Calls `found` for every whole payload of `length` bytes; says how many bytes are done with (the rest may become one).
pub fn scan<E: From<Torn>>(
    bytes: &[u8],
    length: usize,
    mut found: impl FnMut(Mark) -> Result<(), E>,
) -> Result<usize, E> {
    debug_assert!(length > HEAD);
    let mut at = 0;
    while let Some(offset) = memchr::memchr(b'~', &bytes[at..]) {
        at += offset;
        let Some(payload) = bytes[at..].get(..length) else { return Ok(at) };
        let mark = Mark::read(payload).filter(|_| payload[length - 1] == b'^').ok_or(Torn)?;
        found(mark)?;
        at += length;
    }
    Ok(bytes.len())
}

/// A payload that began and did not end as it was sent.
pub struct Torn;
