//! The innocent client: publishes fifty times a second and hears it by a stream. It listens from an address of its own
//! that nothing exempts from limits, as browsers do. By TLS, it listens so, and comes by another connection five times a
//! second: how long that takes until it may speak counts among what its messages take.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::crowd::connect_from;
use crate::secure::{self, Secure};
use crate::server::Addresses;

const EVERY: Duration = Duration::from_millis(20);
/// How often it comes anew by TLS.
const VISIT: Duration = Duration::from_millis(200);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 9, 9, 9);

/// How it listens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    Plain,
    Tls,
}

/// What it felt.
pub struct Felt {
    /// How long each message took, in order; those that have not come with their age.
    times: Vec<Duration>,
    /// It was not sent away.
    pub is_alive: bool,
}

impl Felt {
    /// The time that such a share of the messages did not exceed.
    pub fn at(&self, share: f64) -> Duration {
        let place = (self.times.len() as f64 * share) as usize;
        let last = self.times.len().saturating_sub(1);
        self.times.get(place.min(last)).copied().unwrap_or(Duration::MAX)
    }
}

#[derive(Default)]
struct Book {
    /// When each message was sent that has not come.
    sent: Vec<(u64, Instant)>,
    times: Vec<Duration>,
    is_gone: bool,
}

pub struct Innocent(Arc<Mutex<Book>>);

impl Innocent {
    pub fn start(addresses: Addresses, by: By) -> io::Result<Self> {
        let book = Arc::new(Mutex::new(Book::default()));
        let mut stream = Line::open(addresses, by)?;
        stream.say(b"GET /sub/innocent?as=stream HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        if by == By::Tls {
            let visiting = Arc::clone(&book);
            thread::spawn(move || visit(addresses, &visiting));
        }
        let mut publisher = TcpStream::connect(addresses.plain)?;
        publisher.set_nodelay(true)?;
        let mut answers = publisher.try_clone()?;
        thread::spawn(move || io::copy(&mut answers, &mut io::sink()));
        let (listening, publishing) = (Arc::clone(&book), Arc::clone(&book));
        thread::spawn(move || {
            let listened = listen(stream, &listening);
            note(&listening, |book| book.is_gone = true);
            listened
        });
        thread::spawn(move || {
            let mut due = Instant::now();
            for number in 0.. {
                note(&publishing, |book| book.sent.push((number, Instant::now())));
                let body = format!("innocent-{number}-");
                let length = body.len();
                let request = format!(
                    "POST /pub/innocent HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
                );
                if publisher.write_all(request.as_bytes()).is_err() {
                    return note(&publishing, |book| book.is_gone = true);
                }
                due = (due + EVERY).max(Instant::now());
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        Ok(Self(book))
    }

    /// What it has felt since it was last asked.
    pub fn take(&self) -> Felt {
        let mut felt = Felt { times: Vec::new(), is_alive: true };
        note(&self.0, |book| {
            felt.times = std::mem::take(&mut book.times);
            felt.times.extend(book.sent.iter().map(|(_, at)| at.elapsed()).filter(|age| *age > EVERY));
            felt.is_alive = !book.is_gone;
        });
        felt.times.sort_unstable();
        felt
    }
}

fn note(book: &Mutex<Book>, change: impl FnOnce(&mut Book)) {
    if let Ok(mut book) = book.lock() {
        change(&mut book);
    }
}

/// A connection, in the clear or by TLS.
struct Line {
    socket: TcpStream,
    secure: Option<Secure>,
}

impl Line {
    fn open(addresses: Addresses, by: By) -> io::Result<Self> {
        let address = if by == By::Tls { addresses.tls } else { addresses.plain };
        let mut socket = connect_from(ADDRESS, address, None)?;
        socket.set_nonblocking(false)?;
        let mut secure = None;
        if by == By::Tls {
            let session = secure.insert(Secure::new(&secure::config()?)?);
            session.shake(&mut socket)?;
        }
        Ok(Self { socket, secure })
    }

    fn say(&mut self, words: &[u8]) -> io::Result<()> {
        match &mut self.secure {
            Some(secure) => secure.write(&mut self.socket, words).map(drop),
            None => self.socket.write_all(words),
        }
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.secure {
            Some(secure) => secure.read(&mut self.socket, buffer),
            None => self.socket.read(buffer),
        }
    }
}

/// Comes again and again, and goes as soon as its handshake is done.
fn visit(addresses: Addresses, book: &Mutex<Book>) {
    loop {
        let begun = Instant::now();
        match Line::open(addresses, By::Tls) {
            Ok(_) => note(book, |book| book.times.push(begun.elapsed())),
            Err(_) => return note(book, |book| book.is_gone = true),
        }
        thread::sleep(VISIT);
    }
}

fn listen(stream: impl Read, book: &Mutex<Book>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while stream.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        let number: Option<u64> =
            text.split("innocent-").nth(1).and_then(|rest| rest.split('-').next()?.parse().ok());
        if let Some(number) = number {
            note(book, |book: &mut Book| {
                if let Some(at) = book.sent.iter().position(|&(sent, _)| sent == number) {
                    let (_, at) = book.sent.swap_remove(at);
                    book.times.push(at.elapsed());
                }
            });
        }
        line.clear();
    }
    Ok(())
}
