//! What the server answers does not depend on how the bytes that reached it were cut: where two cuts could be read
//! differently, a request could be smuggled.

use crate::Cut;
use crate::script::{MARK, Stage, small};
use encke::config::Config;

/// Checks the answers to one connection's bytes, cut and uncut.
pub fn check(data: &[u8]) {
    let cut = Cut::of(data);
    // Asked for its body, or not, is what a client may see of a cut.
    if cut.whole.to_ascii_lowercase().windows(12).any(|window| window == b"100-continue") {
        return;
    }
    let whole = answers([cut.whole].into_iter());
    assert_eq!(whole, answers(cut.pieces()), "in pieces");
    assert_eq!(whole, answers(cut.whole.chunks(1)), "byte by byte");
}

fn answers<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> String {
    let mut script = Vec::new();
    for piece in pieces {
        for &byte in piece {
            script.extend_from_slice(if byte == MARK { &[MARK, MARK] } else { std::slice::from_ref(&byte) });
        }
        script.extend_from_slice(&[MARK, b'|']);
    }
    let mut stage = Stage::new(config());
    stage.play(&script);
    String::from_utf8_lossy(&stage.received[0]).into_owned()
}

/// Without Bayeux, whose sessions have names drawn at random.
fn config() -> Config {
    let mut config = small();
    config.bayeux.mounts.clear();
    config
}
