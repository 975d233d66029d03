//! Handing over to another process, so that nobody notices an upgrade.
//!
//! ```text
//!  the process that serves                     its child, perhaps of another version
//!    start ── stdin is one end of a line ────▶   reads its settings
//!    Offer: the format of the state ─────────▶   compares
//!    ◀──────────────────────── Answer: ready, or why not
//!    stops serving
//!    Passage, descriptors, state ────────────▶   adopts all of it, registers it, opens the store
//!    ◀────────────────────────────────── Adopted
//!    Go ─────────────────────────────────────▶   serves
//!    leaves
//! ```
//!
//! One decides, the old process, and only once: until it has said *go*, it has all that it had before, and if the line
//! breaks or a deadline passes, it goes on as if nothing had happened; the child, whose line has ended without a *go*,
//! leaves without having touched a socket. After that it never serves again.
//!
//! The child has the descriptors of the same sockets, in a poll of its own, where each is looked at once, as bytes may have
//! come while nobody served. What cannot go over are TLS sessions, of which the library lets nothing out: those
//! connections are ended in good order before, as soon as the child has said that it is ready.

mod line;
mod predecessor;
mod successor;

pub use line::Line;
pub use predecessor::Succession;

use crate::carry::{Carry, Damaged, Parcel, Unpack, carry};
use crate::conn::ConnId;
use crate::time::Instant;

/// Begins what is said first, whatever the versions are. It never changes.
const GREETING: &[u8; 8] = b"encke: \n";

/// What the old process says of itself, and the new one answers. Its form never changes, so that any two versions can
/// tell each other that they do not understand each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Greeting {
    /// The format of the state: see [`crate::server::handover::format`].
    pub format: u128,
    /// The version, for people.
    pub version: String,
    /// Why it cannot be, if it cannot.
    pub refusal: String,
}

impl Greeting {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = GREETING.to_vec();
        bytes.extend(self.format.to_le_bytes());
        for text in [&self.version, &self.refusal] {
            let text = &text.as_bytes()[..text.len().min(usize::from(u16::MAX))];
            bytes.extend((text.len() as u16).to_le_bytes());
            bytes.extend(text);
        }
        bytes
    }

    /// Reads one from the front; `None` if there is more to come.
    fn read(bytes: &[u8]) -> Result<Option<Self>, Damaged> {
        let begin = &bytes[..bytes.len().min(GREETING.len())];
        if *begin != GREETING[..begin.len()] {
            return Err(Damaged("that is no greeting"));
        }
        let mut rest = &bytes[begin.len()..];
        let mut take = |count: usize| {
            let (taken, after) = rest.split_at_checked(count)?;
            rest = after;
            Some(taken)
        };
        let mut greeting = || {
            let format = u128::from_le_bytes(take(16)?.try_into().ok()?);
            let mut text = || {
                let length = u16::from_le_bytes(take(2)?.try_into().ok()?);
                Some(String::from_utf8_lossy(take(length.into())?).into_owned())
            };
            Some(Self { format, version: text()?, refusal: text()? })
        };
        Ok(greeting())
    }
}

/// What goes over beside the state of the server. The descriptors come in its order: listeners, then sockets.
#[derive(Debug)]
pub(super) struct Passage {
    /// What the clock of the old process said, and the system's monotonic clock at that moment, in nanoseconds.
    pub at: Instant,
    pub monotonic: u64,
    /// What each listener is for.
    pub listeners: Vec<u8>,
    /// Whose sockets these are.
    pub sockets: Vec<ConnId>,
    /// The directory of the history, if there is one.
    pub store: Option<String>,
    /// All that the server knows.
    pub state: Vec<u8>,
}

carry! {
    struct Passage { at, monotonic, listeners, sockets, store, state }
}

impl Passage {
    fn bytes(&self) -> Vec<u8> {
        let mut parcel = Parcel::default();
        self.pack(&mut parcel);
        parcel.into_bytes()
    }

    fn read(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut from = Unpack::new(bytes);
        let passage = Self::unpack(&mut from)?;
        from.end()?;
        Ok(passage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_are_read_in_any_pieces_and_nothing_else_is_taken_for_one() {
        let greeting = Greeting { format: 1 << 100, version: "0.1.0 (abc)".into(), refusal: String::new() };
        let bytes = greeting.bytes();
        for end in 0..bytes.len() {
            assert_eq!(Greeting::read(&bytes[..end]), Ok(None), "after {end} bytes");
        }
        assert_eq!(Greeting::read(&bytes), Ok(Some(greeting)));
        assert!(Greeting::read(b"GET / HTTP/1.1\r\n").is_err());
    }

    #[test]
    fn a_passage_is_read_as_it_was_written() {
        let passage = Passage {
            at: Instant::START + 7,
            monotonic: u64::MAX,
            listeners: vec![0, 2],
            sockets: Vec::new(),
            store: Some("/var/lib/encke".into()),
            state: b"all of it".to_vec(),
        };
        let bytes = passage.bytes();
        let read = Passage::read(&bytes).unwrap();
        assert_eq!(read.bytes(), bytes);
        assert!(Passage::read(&bytes[..bytes.len() - 1]).is_err());
    }
}
