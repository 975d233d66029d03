//! What must hold whatever arrives, one file a kind of input. A target of the fuzzer calls one `check`; a test on
//! the stable toolchain calls it with every seed.
//!
//! "It does not panic" is the least of it: a property compares two ways to the same answer (bytes in one piece and
//! in many, written and read again, ours and somebody else's), or asks the server whether what it holds agrees.

pub mod answers;
pub mod bayeux;
pub mod chunked;
pub mod clients;
pub mod fdajax;
pub mod head;
pub mod keys;
pub mod mercure;
pub mod merge;
pub mod names;
pub mod script;
pub mod selectors;
pub mod settings;
pub mod splits;
pub mod stream;
pub mod tokens;
pub mod websocket;

// The simulated sockets are those of the server's own tests, which name these modules so.
use encke::{conn, id, server, time};
#[expect(dead_code, reason = "they do more than is needed here")]
#[path = "../../src/server/tests/world.rs"]
mod world;

/// Bytes whose first few say how the others are cut: so a fuzzer learns where cuts matter.
pub struct Cut<'a> {
    /// The bytes.
    pub whole: &'a [u8],
    sizes: &'a [u8],
}

impl<'a> Cut<'a> {
    /// The last `SIZES` bytes of `data` are sizes of pieces, the others are what is cut.
    pub fn of(data: &'a [u8]) -> Self {
        const SIZES: usize = 4;
        let (whole, sizes) = data.split_at(data.len().saturating_sub(SIZES));
        Self { whole, sizes }
    }

    /// The pieces, all of them, none empty.
    pub fn pieces(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.whole;
        let mut sizes = self.sizes.iter().cycle();
        std::iter::from_fn(move || {
            let size = usize::from(*sizes.next()?).clamp(1, rest.len().max(1));
            let (piece, behind) = rest.split_at(size.min(rest.len()));
            rest = behind;
            (!piece.is_empty()).then_some(piece)
        })
    }
}

/// The text of whole chunks, as far as they are whole.
pub fn unchunked(mut rest: &str) -> String {
    let mut text = String::new();
    while let Some((size, behind)) = rest.split_once("\r\n") {
        let Some(length) = usize::from_str_radix(size, 16).ok().filter(|length| *length > 0) else { break };
        let Some(chunk) = behind.get(..length) else { break };
        text += chunk;
        rest = behind[length..].strip_prefix("\r\n").unwrap_or_default();
    }
    text
}
