//! The bytes the floor sends: of the same length as the server's, or the ratio would compare unlike things.

use std::io::Write;

/// The framings the floor knows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Stream,
    Sse,
    Raw,
    Poll,
    WebSocket,
}

impl Kind {
    pub const COUNT: usize = 5;
    pub const ALL: [Self; Self::COUNT] = [Self::Stream, Self::Sse, Self::Raw, Self::Poll, Self::WebSocket];

    /// What is sent when the request comes; nothing for a poll, which waits.
    pub fn head(self) -> Option<&'static [u8]> {
        match self {
            Self::Stream => Some(STREAM),
            Self::Sse => Some(SSE),
            Self::Raw => Some(RAW),
            Self::Poll => None,
            Self::WebSocket => Some(WEBSOCKET),
        }
    }

    /// Writes one message into `frame`, as one HTTP chunk or one whole answer. The body is ASCII that JSON leaves alone.
    pub fn render(self, channel: usize, sequence: u64, body: &[u8], frame: &mut Vec<u8>) {
        let id = format!("floor000:{sequence}");
        let (before, after) = match self {
            Self::Stream => (format!(r#"{{"id":"{id}","channel":"c{channel}","data":""#), &b"\"}\n"[..]),
            Self::WebSocket => (format!(r#"{{"id":"{id}","channel":"c{channel}","data":""#), &b"\"}"[..]),
            Self::Sse => (format!("id: {id}\ndata: "), &b"\n\n"[..]),
            Self::Raw => (String::new(), &b""[..]),
            Self::Poll => (poll(&id, body.len()), &b""[..]),
        };
        let length = before.len() + body.len() + after.len();
        let (start, end) = match self {
            Self::Poll => (Vec::new(), &b""[..]),
            // Text, of a length in two bytes: payloads have at least 48, and no more than 64 KB.
            Self::WebSocket if length < 126 => (vec![0x81, length as u8], &b""[..]),
            Self::WebSocket => (vec![0x81, 126, (length >> 8) as u8, length as u8], &b""[..]),
            _ => (format!("{length:x}\r\n").into_bytes(), &b"\r\n"[..]),
        };
        frame.clear();
        for part in [&start[..], before.as_bytes(), body, after, end] {
            frame.write_all(part).expect("a Vec takes everything");
        }
    }
}

fn poll(id: &str, length: usize) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nAccess-Control-Allow-Origin: *\r\n\
         Access-Control-Expose-Headers: ETag, Encke-Next, Encke-Gap, Retry-After\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {length}\r\nCache-Control: no-store\r\nETag: \"{id}\"\r\nEncke-Next: {id}\r\n\r\n"
    )
}

/// The head of a stream.
pub const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\
    Access-Control-Allow-Origin: *\r\n\
    Access-Control-Expose-Headers: ETag, Encke-Next, Encke-Gap, Retry-After\r\n\
    Content-Type: application/x-ndjson\r\nEncke-Next: floor000:1000\r\n\
    Cache-Control: no-store\r\nX-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n";
const SSE: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\
    Access-Control-Allow-Origin: *\r\n\
    Access-Control-Expose-Headers: ETag, Encke-Next, Encke-Gap, Retry-After\r\n\
    Content-Type: text/event-stream\r\nEncke-Next: floor000:1000\r\n\
    Cache-Control: no-store\r\nX-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n:\n\n\r\n";
const RAW: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\
    Access-Control-Allow-Origin: *\r\n\
    Access-Control-Expose-Headers: ETag, Encke-Next, Encke-Gap, Retry-After\r\n\
    Content-Type: text/plain; charset=utf-8\r\nEncke-Next: floor000:1000\r\n\
    Cache-Control: no-store\r\nX-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n";

const WEBSOCKET: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\
    Access-Control-Allow-Origin: *\r\n\
    Access-Control-Expose-Headers: ETag, Encke-Next, Encke-Gap, Retry-After\r\n\
    Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    Encke-Next: floor000:1000\r\n\r\n";

/// To a publisher.
pub const PUBLISHED: &[u8] = b"HTTP/1.1 201 Created\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\
    Access-Control-Allow-Origin: *\r\n\
    Access-Control-Expose-Headers: ETag, Encke-Next, Encke-Gap, Retry-After\r\n\
    Content-Type: application/json\r\nContent-Length: 70\r\n\r\n\
    {\"id\":\"floor000:1000\",\"channel\":\"c0\",\"subscribers\":1000,\"messages\":9}\n";
/// To a poll for which a message of 100 bytes is waiting.
pub const WAITING: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\
    Access-Control-Allow-Origin: *\r\n\
    Access-Control-Expose-Headers: ETag, Encke-Next, Encke-Gap, Retry-After\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 100\r\nCache-Control: no-store\r\n\
    ETag: \"floor000:1000\"\r\nEncke-Next: floor000:1000\r\n\r\n\
    xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
pub const HEALTH: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n\r\nok\n";
pub const UNKNOWN: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
