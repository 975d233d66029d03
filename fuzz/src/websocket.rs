//! WebSocket frames: cut anywhere they give the same messages; what another implementation writes, we read; what we
//! write, it reads.

use crate::Cut;
use encke::wire::websocket::{self, Bounds, Message, Reader};
use std::io::Cursor;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

const MAX: usize = 1 << 10;

#[derive(Debug, PartialEq, Clone)]
enum Event {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    Violation(u16),
}

/// Checks a stream of frames, cut and uncut.
pub fn check(data: &[u8]) {
    let cut = Cut::of(data);
    let whole = read([cut.whole].into_iter());
    assert_eq!(whole, read(cut.pieces()), "in pieces");
    assert_eq!(whole, read(cut.whole.chunks(1)), "byte by byte");
    compare(&whole, cut.whole);
    round_trip(&cut);
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Event> {
    let (mut reader, mut events) = (Reader::default(), Vec::new());
    for piece in pieces {
        let mut rest = piece;
        loop {
            let event = match reader.read(&mut rest, Bounds { bytes: MAX, frames: usize::MAX }) {
                Ok(None) => break,
                Ok(Some(message)) => owned(message),
                Err(violation) => Event::Violation(violation.code),
            };
            let is_last = matches!(event, Event::Violation(_) | Event::Close(_));
            events.push(event);
            if is_last {
                return events;
            }
        }
        assert!(rest.is_empty(), "bytes were left");
    }
    events
}

fn owned(message: Message) -> Event {
    match message {
        Message::Text(text) => Event::Text(text.to_owned()),
        Message::Binary(bytes) => Event::Binary(bytes.to_vec()),
        Message::Ping(bytes) => Event::Ping(bytes.to_vec()),
        Message::Pong(bytes) => Event::Pong(bytes.to_vec()),
        Message::Close(code) => Event::Close(code),
    }
}

/// The other implementation agrees with every message until one of both refuses: we refuse earlier (text at its
/// first bad byte, lengths that are not in their shortest form), never later.
fn compare(ours: &[Event], bytes: &[u8]) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX))
        .max_frame_size(Some(MAX))
        .accept_unmasked_frames(false);
    let stream = Pipe { input: Cursor::new(bytes.to_vec()), output: Vec::new() };
    let mut other = WebSocket::from_raw_socket(stream, Role::Server, Some(config));
    for event in ours {
        let theirs = match other.read() {
            Ok(tungstenite::Message::Text(text)) => Event::Text(text.to_string()),
            Ok(tungstenite::Message::Binary(bytes)) => Event::Binary(bytes.to_vec()),
            Ok(tungstenite::Message::Ping(bytes)) => Event::Ping(bytes.to_vec()),
            Ok(tungstenite::Message::Pong(bytes)) => Event::Pong(bytes.to_vec()),
            Ok(tungstenite::Message::Close(frame)) => Event::Close(frame.map(|frame| frame.code.into())),
            Ok(tungstenite::Message::Frame(_)) => unreachable!("reading gives no bare frames"),
            Err(_) => Event::Violation(0),
        };
        match (event, &theirs) {
            (Event::Violation(_), _) => return,
            // The code 1005 is how it says "none"; what it thinks of a code it answers, and tells us.
            (Event::Close(_), Event::Close(_)) => return,
            _ => assert_eq!(*event, theirs, "we took what the other did not"),
        }
    }
}

struct Pipe {
    input: Cursor<Vec<u8>>,
    output: Vec<u8>,
}

impl std::io::Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.input.read(buffer)
    }
}

impl std::io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What we write is what the other's client reads, and masked it is what we read.
fn round_trip(cut: &Cut) {
    let payload = &cut.whole[..cut.whole.len().min(MAX)];
    let mut wire = Vec::new();
    websocket::write_binary(&mut wire, payload);
    let stream = Pipe { input: Cursor::new(wire), output: Vec::new() };
    let mut client = WebSocket::from_raw_socket(stream, Role::Client, None);
    let taken = client.read().expect("a frame of ours");
    assert_eq!(taken, tungstenite::Message::binary(payload.to_vec()));
    let stream = Pipe { input: Cursor::new(Vec::new()), output: Vec::new() };
    let mut client = WebSocket::from_raw_socket(stream, Role::Client, None);
    client.send(tungstenite::Message::binary(payload.to_vec())).expect("it writes to memory");
    let pieces = client.get_ref().output.chunks(cut.whole.len() % 7 + 1);
    assert_eq!(read(pieces), [Event::Binary(payload.to_vec())]);
}
