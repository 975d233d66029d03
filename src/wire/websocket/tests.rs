use super::*;
use crate::wire::head;

/// A client's frame with this first byte; its length is written in the shortest form.
fn client(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut out = Vec::new();
    write_frame(&mut out, 0, payload);
    out[0] = first;
    out[1] |= MASKED;
    let from = out.len() - payload.len();
    unmask(&mut out[from..], mask);
    out.splice(from..from, mask);
    out
}

fn show(message: Message) -> String {
    match message {
        Message::Text(text) => format!("text {text}"),
        Message::Binary(bytes) => format!("binary {bytes:?}"),
        Message::Ping(bytes) => format!("ping {}", String::from_utf8_lossy(bytes)),
        Message::Pong(bytes) => format!("pong {}", String::from_utf8_lossy(bytes)),
        Message::Close(code) => format!("close {code:?}"),
    }
}

fn bounds(bytes: usize) -> Bounds {
    Bounds { bytes, frames: 10 }
}

/// What is read from `parts`, one after the other.
fn read(parts: &[&[u8]], max: usize) -> Result<Vec<String>, u16> {
    let (mut reader, mut all) = (Reader::default(), Vec::new());
    for part in parts {
        let mut rest = *part;
        while let Some(message) = reader.read(&mut rest, bounds(max)).map_err(|violation| violation.code)? {
            all.push(show(message));
        }
        assert!(rest.is_empty(), "all is taken");
    }
    Ok(all)
}

#[test]
fn the_key_of_the_rfc() {
    assert_eq!(accept_of(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let check = |fields: &str, good| {
        let bytes = format!("GET / HTTP/1.0\r\n{fields}\r\n");
        let mut slots = head::slots();
        let head = head::parse(bytes.as_bytes(), &mut slots).unwrap();
        assert_eq!(accept(&head).is_some(), good, "{fields}");
    };
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    check(key, true);
    check("", false);
    check("Sec-WebSocket-Key: \r\n", false);
    check("Sec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n", false);
    check("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n", false);
    check(&key.repeat(2), false);
}

#[test]
fn messages_cut_at_any_two_bytes() {
    let long = "ü".repeat(80);
    let wire = [
        client(0x81, "Grüße".as_bytes()),
        client(0x01, &"€".as_bytes()[..1]),
        client(0x89, b"between"),
        client(0x00, &"€".as_bytes()[1..2]),
        client(0x8a, b""),
        client(0x80, &"€".as_bytes()[2..]),
        client(0x82, &[0, 0xff]),
        client(0x81, long.as_bytes()),
        client(0x81, b""),
        client(0x88, &[0x03, 0xe8, b'!']),
    ]
    .concat();
    let text = format!("text {long}");
    let expected = [
        "text Grüße",
        "ping between",
        "pong ",
        "text €",
        "binary [0, 255]",
        &text,
        "text ",
        "close Some(1000)",
    ];
    for first in 0..=wire.len() {
        for second in first..=wire.len() {
            let parts = [&wire[..first], &wire[first..second], &wire[second..]];
            assert_eq!(read(&parts, 1000).unwrap(), expected, "cut at {first} and {second}");
        }
    }
    let bytes: Vec<&[u8]> = wire.chunks(1).collect();
    assert_eq!(read(&bytes, 1000).unwrap(), expected);
}

#[test]
fn violations_and_their_codes() {
    let check = |bytes: &[u8], code| {
        assert_eq!(read(&[bytes], 100), Err(code), "{bytes:x?}");
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single, 100), Err(code), "{bytes:x?}, byte by byte");
    };
    for reserved in [0xc1, 0xa1, 0x91, 0xf1] {
        check(&[reserved], 1002);
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        check(&[0x80 | opcode], 1002);
    }
    for control in [CLOSE, PING, PONG] {
        check(&[control], 1002);
        check(&[FIN | control, MASKED | 126], 1002);
        check(&[FIN | control, MASKED | 127], 1002);
    }
    check(&[0x81, 0x00], 1002);
    check(&[0x81, 0xfe, 0, 125], 1002);
    check(&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], 1002);
    check(&[0x81, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0], 1002);
    check(&client(0x80, b"x"), 1002);
    check(&[client(0x01, b"x"), client(0x81, b"y")].concat(), 1002);
    check(&[client(0x81, b"x"), client(0x80, b"y")].concat(), 1002);
    check(&client(0x88, &[3]), 1002);
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535_u16] {
        check(&client(0x88, &code.to_be_bytes()), 1002);
    }
    check(&client(0x88, &[3, 0xe8, 0xff]), 1007);
    check(&client(0x81, &[0xff]), 1007);
    check(&client(0x81, &[0xe2, 0x82]), 1007);
    check(&client(0x81, &[0xed, 0xa0, 0x80]), 1007);
    check(&client(0x81, &[0xf4, 0x90, 0x80, 0x80]), 1007);
    check(&[client(0x01, &[0xe2, 0x82]), client(0x80, b"x")].concat(), 1007);
}

#[test]
fn bad_text_is_refused_before_it_is_complete() {
    let frame = client(0x81, &[&[0xce, 0xba, 0xf5][..], &[b'x'; 60]].concat());
    assert_eq!(read(&[&frame[..8]], 100), Ok(Vec::new()));
    assert_eq!(read(&[&frame[..9]], 100), Err(1007));
}

#[test]
fn sizes_are_refused_when_they_are_announced() {
    let fits = client(0x82, &[0; 100]);
    assert_eq!(read(&[&fits], 100).unwrap().len(), 1);
    let announced = client(0x82, &[0; 101]);
    assert_eq!(read(&[&announced[..5]], 100), Ok(Vec::new()));
    assert_eq!(read(&[&announced[..6]], 100), Err(1009), "not a byte of its payload had to come");
    let huge = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    assert_eq!(read(&[&huge], 100), Err(1009));
    let fragments = [client(0x02, &[0; 60]), client(0x00, &[0; 40]), client(0x80, &[0])].concat();
    assert_eq!(read(&[&fragments], 100), Err(1009), "fragments add up");
    let mut reader = Reader::default();
    let mut part = &announced[..20];
    assert_eq!(reader.read(&mut part, bounds(1 << 30)), Ok(None));
    assert!(reader.payload.capacity() < 64, "room for what came, not for what was announced");
}

#[test]
fn nothing_is_kept_between_messages() {
    let frame = client(0x81, b"x");
    let mut reader = Reader::default();
    assert!(reader.is_idle());
    for cut in 1..frame.len() {
        let (mut first, mut second) = frame.split_at(cut);
        assert_eq!(reader.read(&mut first, bounds(9)), Ok(None));
        assert!(!reader.is_idle());
        assert_eq!(reader.read(&mut second, bounds(9)), Ok(Some(Message::Text("x"))));
        assert!(reader.is_idle());
    }
}

#[test]
fn masks_of_every_length_and_offset() {
    let mask = [1, 2, 4, 8];
    for length in 0..40 {
        let mut bytes = vec![0xa5; length];
        unmask(&mut bytes, mask);
        let naive: Vec<u8> = (0..length).map(|at| 0xa5 ^ mask[at % 4]).collect();
        assert_eq!(bytes, naive);
    }
}

#[test]
fn lengths_are_written_in_their_shortest_form() {
    for (length, head) in [
        (0, &[0x82, 0][..]),
        (125, &[0x82, 125]),
        (126, &[0x82, 126, 0, 126]),
        (65535, &[0x82, 126, 0xff, 0xff]),
        (65536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let mut out = Vec::new();
        write_binary(&mut out, &vec![7; length]);
        assert_eq!(&out[..out.len() - length], head);
    }
    let mut out = Vec::new();
    write_close(&mut out, Some(1002), &"ü".repeat(100));
    assert_eq!(out.len(), 2 + 124, "a reason is cut between two characters");
}

#[test]
fn a_message_comes_in_so_many_frames_and_no_more() {
    let message = |frames: usize| {
        let mut parts = vec![client(TEXT, b"")];
        parts.extend((2..frames).map(|_| client(CONTINUATION, b"")));
        parts.push(client(FIN | CONTINUATION, b"x"));
        parts.concat()
    };
    let ping = client(FIN | PING, b"");
    assert_eq!(read(&[&message(10), &ping, &message(10)], 9).unwrap(), ["text x", "ping ", "text x"]);
    assert_eq!(read(&[&message(11)], 9), Err(close::POLICY));
    let with_pings = [&message(10)[..6], &ping.repeat(20)].concat();
    assert_eq!(read(&[&with_pings], 9).unwrap().len(), 20, "control frames are none of its frames");
}
