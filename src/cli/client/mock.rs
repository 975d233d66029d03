//! A server of a few lines that does what a script says, for the tests of the clients.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Until a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the server does with a request.
pub enum Step {
    /// Answers and keeps the connection alive.
    Answer(String),
    /// Sends this and closes the connection.
    Cut(String),
    /// Sends this and then nothing any more, but keeps the connection open.
    Hang(String),
}

/// A request as it came.
#[derive(Debug)]
pub struct Request {
    /// The how-manieth connection it came on.
    pub connection: usize,
    /// The request line.
    pub line: String,
    head: Vec<String>,
    /// The body, by its `Content-Length`.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// The server, on a port of its own; it ends with its script, or when it is asked for its requests.
pub struct Mock {
    /// Where it listens, as a URL.
    pub url: String,
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Request>>,
}

impl Mock {
    /// Starts it.
    pub fn start(script: impl IntoIterator<Item = Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script: VecDeque<Step> = script.into_iter().collect();
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        Self { url, over, thread: std::thread::spawn(move || serve(&listener, script, &seen)) }
    }

    /// Every request there was; call it when no client is left.
    pub fn requests(self) -> Vec<Request> {
        self.over.store(true, Ordering::SeqCst);
        // Wakes a server that waits for a client; one that ended with its script refuses.
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
        self.thread.join().unwrap()
    }
}

/// A whole answer.
pub fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

/// The head and the first bytes of an endless stream; `headers` end with a line break each.
pub fn stream(headers: &str, body: &str) -> String {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n";
    format!("{head}{headers}\r\n{:x}\r\n{body}\r\n", body.len())
}

fn serve(listener: &TcpListener, mut script: VecDeque<Step>, over: &AtomicBool) -> Vec<Request> {
    let mut requests = Vec::new();
    let mut hanging = Vec::new();
    let mut connection = 0;
    while !script.is_empty() {
        let (stream, _) = listener.accept().unwrap();
        if over.load(Ordering::SeqCst) {
            break;
        }
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        connection += 1;
        let mut stream = BufReader::new(stream);
        while !script.is_empty()
            && let Some(request) = read_request(&mut stream, connection)
        {
            requests.push(request);
            match script.pop_front().unwrap() {
                Step::Answer(bytes) => stream.get_mut().write_all(bytes.as_bytes()).unwrap(),
                Step::Cut(bytes) => {
                    stream.get_mut().write_all(bytes.as_bytes()).unwrap();
                    break;
                }
                Step::Hang(bytes) => {
                    stream.get_mut().write_all(bytes.as_bytes()).unwrap();
                    hanging.push(stream);
                    break;
                }
            }
        }
    }
    requests
}

/// The next request; none when the client closed the connection. A body that waits for a 100 is not read.
fn read_request(stream: &mut BufReader<TcpStream>, connection: usize) -> Option<Request> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        head.push(line.to_owned());
    }
    let line = head.remove(0);
    let mut request = Request { connection, line, head, body: Vec::new() };
    if request.header("expect").is_none() {
        let length = request.header("content-length").map_or(0, |value| value.parse().unwrap());
        request.body.resize(length, 0);
        stream.read_exact(&mut request.body).unwrap();
    }
    Some(request)
}
