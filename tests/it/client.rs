//! A raw HTTP/1.1 client: it sends the bytes it is given, and shows an answer as it was framed.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::ops::Deref;
use std::time::{Duration, Instant};

use rustix::net::{self, AddressFamily, SocketType, sockopt};
use serde_json::Value;

use crate::harness::{PATIENCE, until};

/// A connection to the server.
pub struct Client {
    stream: TcpStream,
    /// Bytes that came but were not asked for yet.
    unread: Vec<u8>,
    /// Text of a chunked stream that is no whole block yet.
    text: String,
}

/// Status line and headers of an answer.
#[derive(Debug)]
pub struct Head {
    pub version: String,
    pub status: u16,
    headers: Vec<(String, String)>,
}

/// A complete answer.
#[derive(Debug)]
pub struct Answer {
    head: Head,
    pub body: Vec<u8>,
}

/// The bytes of a request. `Host` is added, `Content-Length` too where a body is expected.
pub fn request(method: &str, target: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    if !body.is_empty() || matches!(method, "POST" | "PUT") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Self {
        Self::of(TcpStream::connect_timeout(&addr, PATIENCE).expect("the server accepts connections"))
    }

    /// A connection of another of the loopback addresses.
    pub fn connect_from(addr: SocketAddr, from: IpAddr) -> Self {
        let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        net::bind(&socket, &SocketAddr::new(from, 0)).expect("a loopback address");
        net::connect(&socket, &addr).expect("the server accepts connections");
        Self::of(TcpStream::from(socket))
    }

    fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a TCP socket");
        Self { stream, unread: Vec::new(), text: String::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server reads");
    }

    /// Sends to a server that may have closed already; says whether it took the bytes.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    pub fn request(&mut self, method: &str, target: &str, headers: &[&str], body: &[u8]) {
        self.send(request(method, target, headers, body));
    }

    /// Says that nothing more will be sent; answers can still come.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("an open socket");
    }

    /// Its own address, by which the server knows it.
    pub fn addr(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket")
    }

    /// Waits until what [`Client::half_close`] says has arrived: the kernel at the other end has acknowledged it.
    pub fn end_has_arrived(&self) {
        // As /proc/net/tcp shows it: the local port in hexadecimal digits, the other end, the state FIN_WAIT2.
        let port = format!(":{:04X}", self.addr().port());
        until("the end has arrived", || {
            let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux has it");
            let has_arrived = |line: &str| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                fields.get(1).is_some_and(|local| local.ends_with(&port)) && fields.get(3) == Some(&"05")
            };
            table.lines().any(has_arrived).then_some(())
        });
    }

    /// Leaves with a reset instead of an orderly close.
    pub fn reset(self) {
        sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO)).expect("a TCP socket");
    }

    /// Keeps the kernel from hiding that this client does not read: unasked, it would buffer 30 MB for it.
    pub fn fix_window(&self) {
        sockopt::set_socket_recv_buffer_size(&self.stream, 128 << 10).expect("a TCP socket");
    }

    /// What is sent to this client comes in many small pieces.
    pub fn narrow_window(&self) {
        sockopt::set_socket_recv_buffer_size(&self.stream, 8 << 10).expect("a TCP socket");
    }

    pub fn ask(&mut self, method: &str, target: &str, headers: &[&str], body: &[u8]) -> Answer {
        self.request(method, target, headers, body);
        self.answer()
    }

    pub fn get(&mut self, target: &str, headers: &[&str]) -> Answer {
        self.ask("GET", target, headers, b"")
    }

    /// Publishes and gives the id of the message.
    pub fn publish(&mut self, channel: &str, headers: &[&str], body: &[u8]) -> String {
        let answer = self.ask("POST", &format!("/pub/{channel}"), headers, body);
        assert!(matches!(answer.status, 201 | 202), "publishing: {} {}", answer.status, answer.text());
        answer.json()["id"].as_str().expect("an id").into()
    }

    /// Waits until the channel has that many subscribers; an unknown channel has none.
    pub fn listeners(&mut self, channel: &str, count: u64) {
        until(&format!("{channel} has {count} subscribers"), || {
            let answer = self.get(&format!("/pub/{channel}"), &[]);
            let listening = match answer.status {
                404 => 0,
                _ => answer.json()["subscribers"].as_u64().expect("a count"),
            };
            (listening == count).then_some(())
        });
    }

    /// Reads the next status line and headers.
    pub fn head(&mut self) -> Head {
        let bytes = self.read_until(b"\r\n\r\n");
        let text = String::from_utf8(bytes).expect("a head is text");
        let mut lines = text.trim_end().split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let mut words = status_line.splitn(3, ' ');
        let version = words.next().unwrap_or_default().to_owned();
        let status = words.next().and_then(|status| status.parse().ok());
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?} is no header"));
            (name.to_ascii_lowercase(), value.to_owned())
        });
        let headers = headers.collect();
        Head { version, status: status.unwrap_or_else(|| panic!("{status_line:?}")), headers }
    }

    /// Reads a whole answer, its body however it is framed.
    pub fn answer(&mut self) -> Answer {
        let head = self.head();
        let length = head.get("content-length").map(|length| length.parse().expect("a length"));
        let chunked = head.get("transfer-encoding") == Some("chunked");
        let body = match (head.status, chunked, length) {
            (100..200 | 204, _, _) => {
                assert!(!chunked && length.is_none(), "{} has no body: {head:?}", head.status);
                Vec::new()
            }
            (304, _, _) => Vec::new(),
            (_, true, None) => std::iter::from_fn(|| self.chunk()).flatten().collect(),
            (_, false, Some(length)) => self.read_exactly(length),
            (_, false, None) => self.rest(),
            (_, true, Some(_)) => panic!("chunked, and with a length: {head:?}"),
        };
        Answer { head, body }
    }

    /// Reads one chunk of a chunked body; none is its end.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = String::from_utf8(self.read_until(b"\r\n")).expect("a chunk size is text");
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap_or_else(|_| panic!("{line:?}"));
        let data = self.read_exactly(size + 2);
        assert!(data.ends_with(b"\r\n"), "a chunk ends with CRLF");
        (size > 0).then(|| data[..size].to_vec())
    }

    /// One chunk as text; fails at the end of the stream.
    pub fn line(&mut self) -> String {
        String::from_utf8(self.chunk().expect("the stream goes on")).expect("text")
    }

    /// The next non-empty line of a JSON stream, which has to be one chunk.
    pub fn envelope(&mut self) -> Value {
        loop {
            let line = self.line();
            if line != "\n" {
                assert_eq!(line.find('\n'), Some(line.len() - 1), "one line in one chunk: {line:?}");
                return serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
            }
        }
    }

    /// The next block of a chunked SSE stream, without its empty line; none is the end of the stream, at which a
    /// comment may be left, and when to come back (see [`Client::left`]).
    pub fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let rest = self.text.split_off(end + 2);
                let mut block = std::mem::replace(&mut self.text, rest);
                block.truncate(end);
                return Some(block);
            }
            let Some(chunk) = self.chunk() else {
                let is_boundary =
                    self.text.lines().all(|line| line.starts_with(':') || line.starts_with("retry: "));
                assert!(is_boundary, "a stream ends at a message's boundary, not with {:?}", self.text);
                return None;
            };
            self.text.push_str(std::str::from_utf8(&chunk).expect("SSE is UTF-8"));
        }
    }

    /// What an event stream that has ended said after its last block.
    pub fn left(&self) -> &str {
        &self.text
    }

    /// Reads up to and including `end`.
    pub fn read_until(&mut self, end: &[u8]) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.unread.windows(end.len()).position(|window| window == end) {
                return self.take(at + end.len());
            }
            self.expect_more(deadline);
        }
    }

    pub fn read_exactly(&mut self, length: usize) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        while self.unread.len() < length {
            self.expect_more(deadline);
        }
        self.take(length)
    }

    /// Everything until the server closes; a reset counts as a close.
    pub fn rest(&mut self) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        while self.fill(deadline) {}
        std::mem::take(&mut self.unread)
    }

    /// Asserts that the server closes and sends nothing more.
    pub fn closed(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "before the close came {:?}", String::from_utf8_lossy(&rest));
    }

    /// Whether an answer has begun to come within that time.
    pub fn answered_within(&mut self, time: Duration) -> bool {
        if self.unread.is_empty() {
            self.stream.set_read_timeout(Some(time)).expect("a positive time");
            return self.stream.peek(&mut [0]).is_ok();
        }
        true
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let rest = self.unread.split_off(length);
        std::mem::replace(&mut self.unread, rest)
    }

    fn expect_more(&mut self, deadline: Instant) {
        if !self.fill(deadline) {
            panic!("the server closed after {:?}", String::from_utf8_lossy(&self.unread));
        }
    }

    /// Reads what is there; false at the end.
    fn fill(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left)).expect("a positive time");
        let mut buffer = [0; 64 << 10];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                count > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => {
                let came = &self.unread[..self.unread.len().min(1000)];
                let came = String::from_utf8_lossy(came);
                panic!("waited in vain for more than {came:?}: {error}")
            }
        }
    }
}

impl Head {
    /// A header's value; fails if it is there twice.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice: {self:?}");
        value
    }

    /// The id to continue with.
    pub fn next(&self) -> String {
        self.get("encke-next").unwrap_or_else(|| panic!("no Encke-Next: {self:?}")).into()
    }

    /// Whether a comma separated header has this member, in any case.
    pub fn lists(&self, name: &str, member: &str) -> bool {
        let list = self.get(name).unwrap_or_default();
        list.split(',').any(|item| item.trim().eq_ignore_ascii_case(member))
    }

    /// The media type, without its parameters.
    pub fn media_type(&self) -> &str {
        self.get("content-type").unwrap_or_default().split(';').next().unwrap_or_default().trim()
    }
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }
}

impl Deref for Answer {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.head
    }
}
