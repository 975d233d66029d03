//! What the server answers does not depend on how the bytes that reached it were cut: where two cuts could be read
//! differently, a request could be smuggled.

use crate::Cut;
use crate::mercure::hub;
use crate::script::{MARK, Stage};

/// Checks the answers to one connection's bytes, cut and uncut.
pub fn check(data: &[u8]) {
    let cut = Cut::of(data);
    // Asked for its body, or not, is what a client may see of a cut.
    if cut.whole.to_ascii_lowercase().windows(12).any(|window| window == b"100-continue") {
        return;
    }
    let whole = answers([cut.whole].into_iter());
    for (pieces, how) in
        [(answers(cut.pieces()), "in pieces"), (answers(cut.whole.chunks(1)), "byte by byte")]
    {
        assert_eq!(until_refusal(&whole), until_refusal(&pieces), "{how}");
    }
}

/// The answers up to the first that is given before its request's body has come, if that comes later: it closes the
/// connection then, and does not otherwise.
fn until_refusal(answers: &str) -> &str {
    // 400: a target with a fragment, a token that contradicts itself.
    let refusals = [400, 401, 403, 404, 405, 415].map(|status| answers.find(&format!("HTTP/1.1 {status} ")));
    &answers[..refusals.into_iter().flatten().min().unwrap_or(answers.len())]
}

fn answers<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> String {
    let mut script = Vec::new();
    for piece in pieces {
        for &byte in piece {
            script.extend_from_slice(if byte == MARK { &[MARK, MARK] } else { std::slice::from_ref(&byte) });
        }
        script.extend_from_slice(&[MARK, b'|']);
    }
    let mut stage = Stage::new(hub());
    stage.play(&script);
    String::from_utf8_lossy(&stage.received[0]).into_owned()
}
