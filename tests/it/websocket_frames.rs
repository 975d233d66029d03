//! WebSocket frame by frame: the cases of the Autobahn test suite that apply to a server which does not echo.
//!
//! Autobahn sees by its echo that a message was understood. Here, a command with a `ref` takes the place of the
//! echoed text: it is answered if and only if it came through. Sections are Autobahn's: 1 framing, 2 pings and
//! pongs, 3 reserved bits, 4 opcodes, 5 fragmentation, 6 UTF-8, 7 closing, 9 limits.

use crate::client::Client;
use crate::harness::Encke;

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const FIN: u8 = 0x80;

/// A connection that writes whatever frames it likes.
struct Frames {
    client: Client,
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        length @ ..=125 => out.push(0x80 | length as u8),
        length @ ..=0xffff => {
            out.push(0x80 | 126);
            out.extend((length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    let mask = [0x12, 0x34, 0x56, 0x78];
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

impl Frames {
    fn open(server: &Encke) -> Self {
        let mut client = server.connect();
        let fields = [
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ];
        client.request("GET", "/sub/x", &fields, b"");
        assert_eq!(client.head().status, 101);
        let mut frames = Self { client };
        assert_eq!(frames.next().0, FIN | TEXT, "where it stands");
        frames
    }

    fn send(&mut self, first: u8, payload: &[u8]) {
        self.client.send(frame(first, payload));
    }

    /// The first byte and the payload of the next frame.
    fn next(&mut self) -> (u8, Vec<u8>) {
        let head = self.client.read_exactly(2);
        assert!(head[1] < 126, "a short frame, unmasked");
        (head[0], self.client.read_exactly(head[1].into()))
    }

    /// Asserts that a command comes through, and that nothing came before its answer.
    fn alive(&mut self) {
        self.send(FIN | TEXT, COMMAND);
        self.answered();
    }

    fn answered(&mut self) {
        assert_eq!(self.next(), (FIN | TEXT, ANSWER.to_vec()));
    }

    /// Asserts that the server fails the connection with this code, and closes.
    fn failed(mut self, code: u16, why: &str) {
        let (first, payload) = self.next();
        assert_eq!(first, FIN | CLOSE, "{why}");
        assert_eq!(payload[..2], code.to_be_bytes(), "{why}: {}", String::from_utf8_lossy(&payload[2..]));
        self.client.closed();
    }
}

const COMMAND: &[u8] = br#"{"subscribe":[],"ref":1}"#;
const ANSWER: &[u8] = br#"{"ref":1,"ok":true}"#;

/// A command of exactly that many bytes.
fn padded(length: usize) -> Vec<u8> {
    let mut command = COMMAND.to_vec();
    command.splice(1..1, std::iter::repeat_n(b' ', length - COMMAND.len()));
    command
}

/// Sends `frames` on a new connection, whole and byte by byte, and asserts how it is failed.
fn check_failure(server: &Encke, frames: &[u8], code: u16) {
    let why = format!("{:x?}", &frames[..frames.len().min(40)]);
    let mut whole = Frames::open(server);
    whole.client.send(frames);
    whole.failed(code, &why);
    let mut single = Frames::open(server);
    for byte in frames {
        // The server may have seen enough, and closed.
        if !single.client.try_send([*byte]) {
            break;
        }
    }
    single.failed(code, &why);
}

#[test]
fn section_1_framing() {
    let server = Encke::start(&[]);
    let mut frames = Frames::open(&server);
    for length in [24, 125, 126, 127, 128, 65_535, 65_536] {
        frames.send(FIN | TEXT, &padded(length));
        frames.answered();
        for chunk in frame(FIN | TEXT, &padded(length)).chunks(997) {
            frames.client.send(chunk);
        }
        frames.answered();
    }
    // 1.1.1: an empty message is no command.
    frames.send(FIN | TEXT, b"");
    let (first, payload) = frames.next();
    assert!(first == FIN | TEXT && payload.starts_with(b"{\"error\":"));
    frames.alive();
    // 1.2: commands are text.
    check_failure(&server, &frame(FIN | BINARY, b"x"), 1003);
}

#[test]
fn section_2_pings_and_pongs() {
    let server = Encke::start(&[]);
    let mut frames = Frames::open(&server);
    for payload in [&b""[..], b"hello", &[0, 0xff, 0xfe], &[0xaa; 125]] {
        frames.send(FIN | PING, payload);
        assert_eq!(frames.next(), (FIN | PONG, payload.to_vec()));
        // 2.6: in single bytes.
        frame(FIN | PING, payload).chunks(1).for_each(|byte| frames.client.send(byte));
        assert_eq!(frames.next(), (FIN | PONG, payload.to_vec()));
    }
    // 2.7, 2.8, 2.9: pongs that nobody asked for.
    frames.send(FIN | PONG, b"");
    frames.send(FIN | PONG, b"unasked");
    frames.send(FIN | PING, b"asked");
    assert_eq!(frames.next(), (FIN | PONG, b"asked".to_vec()));
    // 2.10: many at once.
    let many: Vec<u8> = (0..10).flat_map(|number| frame(FIN | PING, &[number])).collect();
    frames.client.send(many);
    for number in 0..10 {
        assert_eq!(frames.next(), (FIN | PONG, vec![number]));
    }
    frames.alive();
    // 2.5: too long.
    check_failure(&server, &[FIN | PING, 0x80 | 126, 0, 126], 1002);
}

#[test]
fn section_3_reserved_bits() {
    let server = Encke::start(&[]);
    for bits in [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70] {
        for opcode in [TEXT, BINARY, PING, CLOSE] {
            check_failure(&server, &[FIN | bits | opcode, 0x80], 1002);
        }
    }
    let mut frames = Frames::open(&server);
    frames.send(FIN | TEXT, COMMAND);
    frames.send(FIN | 0x40 | TEXT, COMMAND);
    frames.answered();
    frames.failed(1002, "3.2: what came before is answered");
}

#[test]
fn section_4_opcodes() {
    let server = Encke::start(&[]);
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        check_failure(&server, &frame(FIN | opcode, b""), 1002);
        check_failure(&server, &frame(FIN | opcode, b"payload"), 1002);
    }
    // Not Autobahn's: a client's frame without mask.
    check_failure(&server, &[FIN | TEXT, 2, b'{', b'}'], 1002);
}

#[test]
fn section_5_fragmentation() {
    let server = Encke::start(&[]);
    let fragments: Vec<&[u8]> = COMMAND.chunks(9).collect();
    let [one, two, three] = fragments[..] else { panic!("three fragments") };
    let mut frames = Frames::open(&server);
    // 5.3: two fragments; 5.4: at once.
    frames.send(TEXT, one);
    frames.send(FIN, &COMMAND[9..]);
    frames.answered();
    frames.client.send([frame(TEXT, one), frame(FIN, &COMMAND[9..])].concat());
    frames.answered();
    // 5.6 to 5.8: a ping in between is answered at once.
    frames.send(TEXT, one);
    frames.send(FIN | PING, b"between");
    assert_eq!(frames.next(), (FIN | PONG, b"between".to_vec()));
    frames.send(0, two);
    frames.send(FIN | PONG, b"");
    frames.send(FIN, three);
    frames.answered();
    // 5.19, 5.20: many, some of them empty, in single bytes.
    let all =
        [frame(TEXT, b""), frame(0, one), frame(0, b""), frame(FIN | PING, b"p"), frame(0, two)].concat();
    all.chunks(1).for_each(|byte| frames.client.send(byte));
    frames.client.send([frame(0, three), frame(FIN, b"")].concat());
    assert_eq!(frames.next(), (FIN | PONG, b"p".to_vec()));
    frames.answered();
    frames.alive();
    // 5.1, 5.2: fragmented control frames.
    check_failure(&server, &frame(PING, b"x"), 1002);
    check_failure(&server, &frame(PONG, b"x"), 1002);
    // 5.9 to 5.14: nothing to continue.
    check_failure(&server, &frame(FIN, b"x"), 1002);
    check_failure(&server, &frame(0, b"x"), 1002);
    // 5.15: what came before is answered; 5.18: a new message within another.
    check_failure(&server, &[frame(TEXT, one), frame(FIN | TEXT, two)].concat(), 1002);
}

#[test]
fn section_6_utf8() {
    let server = Encke::start(&[]);
    let mut frames = Frames::open(&server);
    // 6.2, 6.5, 6.7 and others: characters, cut within them.
    let command = "{\"subscribe\":[\"κόσμε/\u{10ffff}/\u{d7ff}/\u{e000}/\u{fffd}\"],\"ref\":1}".as_bytes();
    for cut in 0..command.len() {
        frames.send(TEXT, &command[..cut]);
        frames.send(FIN, &command[cut..]);
        frames.answered();
    }
    // 6.3, 6.6 and 6.8 to 6.23: what is no UTF-8.
    for bad in [
        &[0xce, 0xba, 0xe1, 0xbd, 0xb9, 0xcf, 0x83, 0xce, 0xbc, 0xce, 0xb5, 0xed, 0xa0, 0x80, 0x65][..],
        &[0x80],
        &[0xbf],
        &[0xc0, 0xaf],
        &[0xe0, 0x80, 0xaf],
        &[0xf0, 0x80, 0x80, 0xaf],
        &[0xc1, 0xbf],
        &[0xf8, 0x88, 0x80, 0x80, 0x80],
        &[0xfc, 0x84, 0x80, 0x80, 0x80, 0x80],
        &[0xf4, 0x90, 0x80, 0x80],
        &[0xed, 0xbf, 0xbf],
        &[0xfe],
        &[0xff],
        &[0xce],
        &[0xe1, 0xbd],
        &[0xf0, 0x9f, 0x98],
    ] {
        check_failure(&server, &frame(FIN | TEXT, bad), 1007);
        let (first, second) = bad.split_at(bad.len() / 2);
        check_failure(&server, &[frame(TEXT, first), frame(FIN, second)].concat(), 1007);
    }
    // 6.4: refused before the message is complete.
    let mut early = Frames::open(&server);
    early.send(TEXT, &[0xce, 0xba, 0xf4]);
    early.send(0, &[0x90]);
    early.failed(1007, "6.4.1");
    let mut early = Frames::open(&server);
    let whole = frame(FIN | TEXT, &[&[0xf4, 0x90][..], &[b'x'; 100]].concat());
    early.client.send(&whole[..8]);
    early.failed(1007, "6.4.3");
}

#[test]
fn section_7_closing() {
    let server = Encke::start(&[]);
    let closes = |payload: &[u8], answer: &[u8]| {
        let mut frames = Frames::open(&server);
        frames.send(FIN | CLOSE, payload);
        assert_eq!(frames.next(), (FIN | CLOSE, answer.to_vec()), "{payload:x?}");
        frames.client.closed();
    };
    // 7.3.1, 7.3.3, 7.3.4 and 7.3.5: empty, a code, a reason, the longest reason.
    closes(b"", b"");
    closes(&[0x03, 0xe8], &[0x03, 0xe8]);
    closes(&[0x03, 0xe8, b'h', b'i'], &[0x03, 0xe8]);
    closes(&[&[0x03, 0xe8][..], &[b'*'; 123]].concat(), &[0x03, 0xe8]);
    // 7.7: codes that may be sent.
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999_u16] {
        closes(&code.to_be_bytes(), &code.to_be_bytes());
    }
    // 7.9 and 7.13: codes that may not.
    for code in [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535_u16] {
        check_failure(&server, &frame(FIN | CLOSE, &code.to_be_bytes()), 1002);
    }
    // 7.3.2: half a code; 7.3.6: too long; 7.5.1: a reason that is not UTF-8.
    check_failure(&server, &frame(FIN | CLOSE, &[3]), 1002);
    check_failure(&server, &[FIN | CLOSE, 0x80 | 126, 0, 126], 1002);
    check_failure(&server, &frame(FIN | CLOSE, &[0x03, 0xe8, 0xce, 0xba, 0xe1]), 1007);
    // 7.1.2 to 7.1.4: nothing is answered after a close.
    let mut frames = Frames::open(&server);
    let all = [frame(FIN | TEXT, COMMAND), frame(FIN | CLOSE, b""), frame(FIN | PING, b"")].concat();
    frames.client.send(all);
    frames.answered();
    assert_eq!(frames.next(), (FIN | CLOSE, Vec::new()));
    frames.client.closed();
    // 7.1.5: a close within a fragmented message.
    let mut frames = Frames::open(&server);
    frames.client.send([frame(TEXT, b"half"), frame(FIN | CLOSE, &[0x03, 0xe8])].concat());
    assert_eq!(frames.next(), (FIN | CLOSE, vec![0x03, 0xe8]));
    frames.client.closed();
    server.listeners("x", 0);
}

#[test]
fn section_9_limits() {
    let server = Encke::start(&["--limits-message-bytes", "100000"]);
    let mut frames = Frames::open(&server);
    frames.send(FIN | TEXT, &padded(100_000));
    frames.answered();
    let command = padded(100_000);
    let mut fragments = command.chunks(1000).peekable();
    let mut first = TEXT;
    while let Some(fragment) = fragments.next() {
        let fin = if fragments.peek().is_none() { FIN } else { 0 };
        frames.send(first | fin, fragment);
        first = 0;
    }
    frames.answered();
    // Announced, and never sent.
    check_failure(&server, &[FIN | TEXT, 0xff, 0, 0, 0, 0, 0, 1, 0x86, 0xa1, 0, 0, 0, 0], 1009);
    check_failure(
        &server,
        &[FIN | TEXT, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        1009,
    );
    check_failure(&server, &[FIN | TEXT, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1002);
    let mut frames = Frames::open(&server);
    frames.send(TEXT, &padded(100_000));
    frames.send(FIN, b" ");
    frames.failed(1009, "fragments add up");
}

#[test]
fn frames_behind_the_handshake_in_one_packet() {
    let server = Encke::start(&[]);
    let mut client = server.connect();
    let head = "GET /sub/x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    client.send([head.as_bytes(), &frame(FIN | TEXT, COMMAND), &frame(FIN | TEXT, COMMAND)[..9]].concat());
    assert_eq!(client.head().status, 101);
    let mut frames = Frames { client };
    assert_eq!(frames.next().0, FIN | TEXT);
    frames.answered();
    frames.client.send(&frame(FIN | TEXT, COMMAND)[9..]);
    frames.answered();
}

#[test]
fn a_message_that_never_ends_is_given_up() {
    let server = Encke::start(&["--limits-body-seconds", "1", "--heartbeat", "1"]);
    let mut frames = Frames::open(&server);
    frames.send(TEXT, b"{");
    loop {
        match frames.next() {
            (first, payload) if first == FIN | CLOSE => {
                assert_eq!(payload[..2], 1008_u16.to_be_bytes());
                break frames.client.closed();
            }
            (first, _) => assert_eq!(first, FIN | PING),
        }
    }
}

#[test]
fn a_flood_of_pings_is_cut_off() {
    let server = Encke::start(&[]);
    let mut frames = Frames::open(&server);
    frames.client.fix_window();
    let many = frame(FIN | PING, &[b'p'; 125]).repeat(5000);
    while frames.client.try_send(&many) {}
    server.logged("does not read");
    server.listeners("x", 0);
}
