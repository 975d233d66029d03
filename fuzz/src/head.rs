//! Request heads: the verdict does not depend on how they were cut, and what is accepted is what it says.

use crate::Cut;
use encke::config::{Config, Limits};
use encke::conn::{Input, whole_request};
use encke::wire::head::{self, Framing, Head};

/// What we read from a request: enough to notice that two readings differ.
#[derive(Debug, PartialEq)]
struct Reading {
    method: String,
    target: String,
    framing: Framing,
    keep_alive: bool,
    body: Vec<u8>,
}

/// All requests of a connection, and the status that ended it.
#[derive(Debug, PartialEq, Default)]
struct Verdict {
    requests: Vec<Reading>,
    refused: Option<u16>,
    /// Bytes of an incomplete request are held.
    more: bool,
}

fn reading(head: &Head, body: &[u8]) -> Reading {
    Reading {
        method: format!("{:?}", head.method),
        target: head.target.to_owned(),
        framing: head.framing,
        keep_alive: head.keep_alive,
        body: body.to_vec(),
    }
}

/// Checks one sequence of requests, cut and uncut.
pub fn check(data: &[u8]) {
    let cut = Cut::of(data);
    let limits = Limits { head_bytes: 1024, message_bytes: 256, ..Config::default().limits };
    let whole = gather([cut.whole].into_iter(), &limits);
    assert_eq!(whole, gather(cut.pieces(), &limits), "in pieces");
    assert_eq!(whole, gather(cut.whole.chunks(1), &limits), "byte by byte");
    assert_eq!(whole, in_place(cut.whole, &limits), "in place");
    check_head(cut.whole);
}

fn gather<'a>(pieces: impl Iterator<Item = &'a [u8]>, limits: &Limits) -> Verdict {
    let (mut verdict, mut input) = (Verdict::default(), Input::default());
    for piece in pieces {
        let mut rest = piece;
        while !rest.is_empty() {
            let gathered = match input.gather(rest, limits) {
                Ok(gathered) => gathered,
                Err(refusal) => return Verdict { refused: Some(refusal.status), ..verdict },
            };
            assert!(gathered.used <= rest.len() && (gathered.used > 0 || gathered.complete), "no progress");
            rest = &rest[gathered.used..];
            if gathered.complete {
                let mut slots = head::slots();
                let request = input.request(&mut slots).expect("what was gathered has been read before");
                assert!(request.body.len() <= limits.message_bytes);
                verdict.requests.push(reading(&request.head, request.body));
                input = Input::default();
            }
        }
    }
    verdict.more = !input.is_empty();
    verdict
}

/// As the server does: from the bytes themselves where a request lies whole in them, gathered where it does not.
fn in_place(bytes: &[u8], limits: &Limits) -> Verdict {
    let (mut verdict, mut rest) = (Verdict::default(), bytes);
    while !rest.is_empty() {
        let mut slots = head::slots();
        match whole_request(rest, limits, &mut slots) {
            Some((request, used)) => {
                verdict.requests.push(reading(&request.head, request.body));
                rest = &rest[used..];
            }
            None => {
                let mut input = Input::default();
                let mut used = 0;
                loop {
                    let gathered = match input.gather(&rest[used..], limits) {
                        Err(refusal) => return Verdict { refused: Some(refusal.status), ..verdict },
                        Ok(gathered) => gathered,
                    };
                    used += gathered.used;
                    if gathered.complete {
                        break;
                    }
                    if used == rest.len() {
                        verdict.more = !input.is_empty();
                        return verdict;
                    }
                }
                let mut slots = head::slots();
                let request = input.request(&mut slots).expect("read before");
                verdict.requests.push(reading(&request.head, request.body));
                rest = &rest[used..];
            }
        }
    }
    verdict
}

/// What an accepted head may not be.
fn check_head(bytes: &[u8]) {
    let Ok(Some(end)) = head::find_end(bytes, 0) else { return };
    let mut bytes = &bytes[..end];
    while let Some(behind) = bytes.strip_prefix(b"\r\n") {
        bytes = behind;
    }
    assert!(bytes.ends_with(b"\r\n\r\n") || bytes.is_empty());
    let mut slots = head::slots();
    let Ok(head) = head::parse(bytes, &mut slots) else { return };
    assert!(head.path.is_empty() || head.path.starts_with('/') || head.path == "*", "{:?}", head.path);
    assert!(!head.path.contains(['?', '#']) && !head.query.contains('#'));
    assert!(!head.target.bytes().any(|byte| byte <= b' ' || byte == 0x7f), "{:?}", head.target);
    assert!(!bytes.contains(&0), "NUL passed");
    let count = |name| head.fields(name).count();
    assert!(count("host") == 1 || !head.http11 && count("host") == 0);
    match head.framing {
        Framing::Chunked => assert!(head.http11 && count("content-length") == 0),
        Framing::Length(0) => {}
        Framing::Length(_) => assert!(count("content-length") > 0 && count("transfer-encoding") == 0),
    }
    // No line begins with a blank (folding), and no name is followed by one.
    let text = bytes.split(|&byte| byte == b'\n').skip(1);
    for line in text.filter(|line| !matches!(line, [] | [b'\r'])) {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        assert!(!name.is_empty() && name.iter().all(|byte| byte.is_ascii_graphic()), "{name:?}");
    }
}
