//! Message numbers and ids, the seed that secret ids come from, and the generator that tests draw from.

mod seed;

pub use seed::{Key, Secrets, Seed};

use crate::carry::carry;
use std::fmt;

/// Number of a message in the one process-wide sequence, from 1; 0 stands before all messages.
pub type Seq = u64;

/// Longest message id accepted from a client, in bytes.
pub const ID_BYTES_MAX: usize = 40;

/// The random name of one history: drawn anew whenever the history starts empty, so that ids of a former
/// life of the process are told from ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

carry! {
    struct Epoch(_)
}

impl Epoch {
    /// An epoch from random bits. Only 41 of them are used, which are at most 8 digits in base 36.
    pub const fn from_random(bits: u64) -> Self {
        Self(bits & ((1 << 41) - 1))
    }

    /// The epoch of ids that no server of ours has given: it never is that of a history.
    pub const NOBODYS: Self = Self(u64::MAX);

    /// The random bits.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text_of(|out| self.write_to(out)))
    }
}

impl Epoch {
    /// Appends it in base 36. All ids of an answer begin with it, so it is written without a loop: those that are ours have at
    /// most eight digits, which are two halves that the processor works out side by side.
    fn write_to(self, out: &mut Vec<u8>) {
        let (high, low) = (self.0 / HALF, (self.0 % HALF) as u32);
        if high >= HALF {
            return self.write_long_to(out);
        }
        let digits = u64::from_le_bytes(eight_digits(high as u32, low));
        let zeros = ((digits ^ u64::from_le_bytes([b'0'; 8])).trailing_zeros() / 8).min(7);
        out.extend_from_slice(&(digits >> (8 * zeros)).to_le_bytes());
        out.truncate(out.len() - zeros as usize);
    }

    /// The same for those of others, which may have more digits.
    #[cold]
    fn write_long_to(self, out: &mut Vec<u8>) {
        Self(self.0 / (HALF * HALF)).write_to(out);
        let rest = self.0 % (HALF * HALF);
        out.extend_from_slice(&eight_digits((rest / HALF) as u32, (rest % HALF) as u32));
    }
}

/// What is written so: it is ASCII.
fn text_of(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::with_capacity(ID_BYTES_MAX);
    write(&mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// What four digits in base 36 reach.
const HALF: u64 = 36 * 36 * 36 * 36;

/// What two digits in base 36 reach.
const PAIR: u32 = 36 * 36;

/// All pairs of digits in base 36: half as many divisions as digits.
static PAIRS: [[u8; 2]; PAIR as usize] = {
    let digits = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut pairs = [[0; 2]; PAIR as usize];
    let mut number = 0;
    while number < pairs.len() {
        pairs[number] = [digits[number / 36], digits[number % 36]];
        number += 1;
    }
    pairs
};

/// Four digits in base 36 of each.
fn eight_digits(high: u32, low: u32) -> [u8; 8] {
    let pairs = [high / PAIR % PAIR, high % PAIR, low / PAIR % PAIR, low % PAIR];
    let [[a, b], [c, d], [e, f], [g, h]] = pairs.map(|pair| PAIRS[pair as usize]);
    [a, b, c, d, e, f, g, h]
}

/// A message id: `<epoch>:<seq>`, the epoch in base 36, the number in decimal. Opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageId {
    /// The history it belongs to.
    pub epoch: Epoch,
    /// The message's number in that history.
    pub seq: Seq,
}

carry! {
    struct MessageId { epoch, seq }
}

impl MessageId {
    /// What stands for an id of another kind than ours.
    pub const FOREIGN: Self = Self { epoch: Epoch::NOBODYS, seq: 0 };

    /// As it is written.
    pub fn text(self) -> String {
        text_of(|out| self.write_to(out))
    }

    /// Appends it as it is written: one or two ids an answer, so that detours would show.
    pub fn write_to(self, out: &mut Vec<u8>) {
        self.epoch.write_to(out);
        out.push(b':');
        out.extend_from_slice(itoa::Buffer::new().format(self.seq).as_bytes());
    }

    /// Reads what [`MessageId`]'s `Display` writes; `None` for anything else, longer than
    /// [`ID_BYTES_MAX`], or with numbers that do not fit.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > ID_BYTES_MAX {
            return None;
        }
        let mut bytes = text.bytes();
        let epoch = read_number(36, bytes.by_ref().take_while(|&byte| byte != b':'))?;
        let seq = read_number(10, bytes)?;
        // Without a colon, the first number takes all, and the second has no digit.
        Some(Self { epoch: Epoch(epoch), seq })
    }
}

/// A place in the history from which a client continues: an id, or `<epoch>:<seq>~<n>` for whoever takes latest values:
/// values of keys up to `seq`, everything else up to `seq + n`. Or `<epoch>:<seq>~<n>~<last>~<moment>` for whoever has come to
/// `seq` and not yet to where all its channels began, when `seq + n` was the newest number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// Up to here everything was had.
    pub id: MessageId,
    /// So many numbers further, everything but values of keys was.
    pub ahead: Seq,
    /// How all its channels began.
    pub began: Option<Began>,
}

/// How a client of several channels began, each of which has a beginning of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Began {
    /// With the last so many messages of each; 0 = all that were kept.
    pub last: u64,
    /// After what had been lost by then.
    pub moment: u64,
}

carry! {
    struct Began { last, moment }
}

impl From<MessageId> for Place {
    fn from(id: MessageId) -> Self {
        Self { id, ahead: 0, began: None }
    }
}

impl Place {
    /// As it is written.
    pub fn text(self) -> String {
        text_of(|out| self.write_to(out))
    }

    /// Appends it as it is written.
    pub fn write_to(self, out: &mut Vec<u8>) {
        self.id.write_to(out);
        if self.ahead > 0 || self.began.is_some() {
            out.push(b'~');
            out.extend_from_slice(itoa::Buffer::new().format(self.ahead).as_bytes());
        }
        if let Some(Began { last, moment }) = self.began {
            out.push(b'~');
            out.extend_from_slice(itoa::Buffer::new().format(last).as_bytes());
            out.push(b'~');
            Epoch(moment).write_to(out);
        }
    }

    /// Whether a client can come back with it.
    pub fn is_fit(self) -> bool {
        self.text().len() <= ID_BYTES_MAX
    }

    /// Reads what [`Place::text`] writes; `None` for anything else, longer than [`ID_BYTES_MAX`], or with numbers that do
    /// not fit.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('~');
        let id = MessageId::parse(parts.next()?)?;
        let ahead = parts.next().map_or(Some(0), |ahead| read_number(10, ahead.bytes()))?;
        let began = match parts.next() {
            None => None,
            Some(last) => Some(Began {
                last: read_number(10, last.bytes())?,
                moment: read_number(36, parts.next()?.bytes())?,
            }),
        };
        let is_whole = text.len() <= ID_BYTES_MAX && parts.next().is_none();
        (is_whole && id.seq.checked_add(ahead).is_some()).then_some(Self { id, ahead, began })
    }

    /// The number up to which everything but values of keys was had.
    pub const fn rest(self) -> Seq {
        self.id.seq.saturating_add(self.ahead)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// A number of at least one digit, in lower case; `None` if it is none or does not fit.
fn read_number(radix: u64, digits: impl Iterator<Item = u8>) -> Option<u64> {
    let mut number = None;
    for byte in digits {
        let digit = match byte {
            b'0'..=b'9' => u64::from(byte - b'0'),
            b'a'..=b'z' => u64::from(byte - b'a') + 10,
            _ => return None,
        };
        if digit >= radix {
            return None;
        }
        number = Some(number.unwrap_or(0u64).checked_mul(radix)?.checked_add(digit)?);
    }
    number
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// A small seeded generator (xorshift64*): for simulations and jitter, never for secrets.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66_D1CE_CAFE | 1)
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound` (which is at least 1).
    pub const fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    /// True once in `n` times.
    pub const fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_what_they_write() {
        for (bits, seq) in [(0, 0), (1, 1), (u64::MAX, u64::MAX), (35, 36), (123_456_789, 1042)] {
            let id = MessageId { epoch: Epoch::from_random(bits), seq };
            assert_eq!(MessageId::parse(&id.to_string()), Some(id));
            assert!(id.to_string().len() <= ID_BYTES_MAX);
        }
    }

    #[test]
    fn epochs_in_base_36() {
        let check = |epoch: u64, text: &str| assert_eq!(Epoch(epoch).to_string(), text);
        check(0, "0");
        check(35, "z");
        check(36, "10");
        check(HALF - 1, "zzzz");
        check(HALF, "10000");
        check(HALF * HALF - 1, "zzzzzzzz");
        check(HALF * HALF, "100000000");
        check(HALF * HALF * HALF + 37, "1000000000011");
        check(u64::MAX, "3w5e11264sgsf");
    }

    #[test]
    fn places_read_what_they_write() {
        for (seq, ahead) in [(0, 0), (0, 7), (1042, 1), (1 << 50, 1 << 50)] {
            let id = MessageId { epoch: Epoch::from_random(123_456_789), seq };
            for began in [None, Some(Began { last: 0, moment: 1 }), Some(Began { last: 60, moment: 1 << 40 })]
            {
                let place = Place { id, ahead, began };
                assert_eq!(Place::parse(&place.to_string()), Some(place).filter(|place| place.is_fit()));
            }
        }
        for text in [
            "",
            "~",
            "a:1~",
            "~1",
            "a:1~1~1",
            "a:1~1~1~",
            "a:1~1~~1",
            "a:1~1~-1~1",
            "a:1~1~1~1~1",
            "a:1~-1",
            "a:1~+1",
            "a~1:1",
            "a:1~b",
            "a:18446744073709551615~1",
        ] {
            assert_eq!(Place::parse(text), None, "{text:?}");
        }
        assert_eq!(Place::parse("a:1~0").map(|place| place.to_string()).as_deref(), Some("a:1"));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", ":", "a:", ":1", "a", "a:b", "A:1", "a:-1", "a:+1", " a:1", "a:1 ", "a:1:2", "ä:1"]
        {
            assert_eq!(MessageId::parse(text), None, "{text:?}");
        }
        assert_eq!(MessageId::parse("zzzzzzzzzzzzzz:1"), None, "an epoch beyond 64 bits");
        assert_eq!(MessageId::parse("a:18446744073709551616"), None, "a number beyond 64 bits");
        assert_eq!(MessageId::parse(&format!("a:{}1", "0".repeat(40))), None, "too long");
    }
}
