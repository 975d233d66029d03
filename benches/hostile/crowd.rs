//! Strangers of one kind: many sockets, which say what their kind does, as fast as it does it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};
use rustls::ClientConfig;

use crate::kinds::{Does, Kind, Reads};
use crate::secure::{self, Secure};
use crate::server::Addresses;

/// Connections of one address that speak TLS: it may begin only so many sessions in a second.
const TLS_PER_ADDRESS: usize = 10;
/// Addresses of a network.
const HOSTS: usize = 250;
/// How long to wait when nobody can do anything.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a stranger who was sent away waits before it comes back.
const RETURN: Duration = Duration::from_millis(200);
/// So much of what comes is kept, until a session's id is found in it.
const HEARD_BYTES: usize = 4096;
/// Connections that are begun in a row.
const BATCH: usize = 64;

/// A connection from an address of the loopback network, which stands for one stranger.
pub fn connect_from(
    source: Ipv4Addr,
    address: SocketAddr,
    receive_bytes: Option<usize>,
) -> io::Result<TcpStream> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    if let Some(bytes) = receive_bytes {
        sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
    }
    bind(&socket, &SocketAddrV4::new(source, 0))?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One of them.
struct Stranger {
    stream: Option<TcpStream>,
    /// When it does the next thing.
    at: Instant,
    /// What it is saying, and how much of it is out.
    words: Vec<u8>,
    said: usize,
    /// It has said how it begins.
    begun: bool,
    /// After how many departures of all together it came.
    round: u64,
    /// What came and has not been looked at, until its session is known.
    heard: Vec<u8>,
    /// Its TLS session, if it wants one.
    secure: Option<Secure>,
}

pub struct Crowd {
    kind: &'static Kind,
    address: SocketAddr,
    strangers: Vec<Stranger>,
    begun: Instant,
    sent: usize,
    tls: Option<Tls>,
}

/// What those have in common who speak TLS.
struct Tls {
    config: Arc<ClientConfig>,
    /// What each says first that will not come to the end: the server works, and it does not.
    hello: Vec<u8>,
}

impl Crowd {
    pub fn new(kind: &'static Kind, addresses: Addresses) -> io::Result<Self> {
        let now = Instant::now();
        let (address, tls) = match kind.does {
            Does::Handshake => {
                let config = secure::config()?;
                (addresses.tls, Some(Tls { hello: Secure::hello(&config)?, config }))
            }
            _ => (addresses.plain, None),
        };
        let stranger = || Stranger {
            stream: None,
            at: now,
            words: Vec::new(),
            said: 0,
            begun: false,
            round: 0,
            heard: Vec::new(),
            secure: None,
        };
        let strangers = std::iter::repeat_with(stranger).take(kind.sockets).collect();
        Ok(Self { kind, address, strangers, begun: now, sent: 0, tls })
    }

    /// Does what its kind does, until `stop`.
    pub fn run(&mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        while !stop.load(Ordering::Relaxed) {
            let (mut busy, mut opened) = (false, 0);
            for place in 0..self.strangers.len() {
                if self.strangers[place].stream.is_none() {
                    if opened < BATCH && self.strangers[place].at <= Instant::now() {
                        opened += 1;
                        self.open(place);
                    }
                    continue;
                }
                match self.go_on(place, &mut buffer) {
                    Ok(did) => busy |= did,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => self.leave(place),
                }
            }
            if !busy {
                thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    fn open(&mut self, place: usize) {
        let per_address = if self.tls.is_some() { TLS_PER_ADDRESS } else { self.kind.per_address };
        let number = place / per_address;
        let address =
            Ipv4Addr::new(127, (number / HOSTS) as u8, self.kind.address, 1 + (number % HOSTS) as u8);
        let receive_bytes = (!matches!(self.kind.reads, Reads::All)).then_some(4096);
        let stranger = &mut self.strangers[place];
        match connect_from(address, self.address, receive_bytes) {
            Ok(stream) => {
                stranger.stream = Some(stream);
                stranger.words = (self.kind.begins)(place);
                (stranger.said, stranger.begun) = (0, false);
                stranger.heard.clear();
                stranger.at = Instant::now();
                if let Does::LeaveTogether { every } = self.kind.does {
                    stranger.round = self.begun.elapsed().div_duration_f64(every) as u64;
                }
                // Every other one says hello, and no more.
                stranger.secure = self
                    .tls
                    .as_ref()
                    .filter(|_| place.is_multiple_of(2))
                    .and_then(|tls| Secure::new(&tls.config).ok());
                if let Some(tls) = self.tls.as_ref().filter(|_| !place.is_multiple_of(2)) {
                    stranger.words.clone_from(&tls.hello);
                }
            }
            // The generator has no more ports, or descriptors.
            Err(_) => stranger.at = Instant::now() + RETURN,
        }
    }

    fn leave(&mut self, place: usize) {
        let stranger = &mut self.strangers[place];
        stranger.stream = None;
        stranger.at = Instant::now() + RETURN;
    }

    /// Reads and writes what one of them can. Returns whether it did anything.
    fn go_on(&mut self, place: usize, buffer: &mut [u8]) -> io::Result<bool> {
        let kind = self.kind;
        let stranger = &mut self.strangers[place];
        let Some(stream) = &mut stranger.stream else { return Ok(false) };
        if let Some(secure) = &mut stranger.secure {
            if !secure.shake(stream)? {
                return Ok(false);
            }
            // It has a session, and goes for another one.
            self.sent += 1;
            self.leave(place);
            self.strangers[place].at = Instant::now();
            return Ok(true);
        }
        let mut did = false;
        let most = match kind.reads {
            Reads::All => buffer.len(),
            Reads::Nothing if stranger.begun || !needs_session(kind) => 0,
            Reads::Nothing => buffer.len(),
            Reads::Some { bytes, every } if stranger.at <= Instant::now() => {
                stranger.at = Instant::now() + every;
                bytes
            }
            Reads::Some { .. } => 0,
        };
        if most > 0 {
            match stream.read(&mut buffer[..most]) {
                Ok(0) => return Err(io::ErrorKind::ConnectionReset.into()),
                Ok(count) => {
                    did = true;
                    if !stranger.begun {
                        let room = HEARD_BYTES.saturating_sub(stranger.heard.len());
                        stranger.heard.extend_from_slice(&buffer[..count.min(room)]);
                    }
                }
                Err(error) if is_early(&error) => {}
                Err(error) => return Err(error),
            }
        }
        if stranger.said == stranger.words.len() && (place < kind.stay || !self.think(place)) {
            return Ok(did);
        }
        let stranger = &mut self.strangers[place];
        let Some(stream) = &mut stranger.stream else { return Ok(did) };
        match stream.write(&stranger.words[stranger.said..]) {
            Ok(count) => {
                stranger.said += count;
                self.sent += count;
                Ok(true)
            }
            Err(error) if is_early(&error) => Ok(did),
            Err(error) => Err(error),
        }
    }

    /// Finds what to say next. Returns whether there is anything.
    fn think(&mut self, place: usize) -> bool {
        let stranger = &mut self.strangers[place];
        let due = self.kind.bytes_per_second * self.begun.elapsed().as_secs_f64();
        match &self.kind.does {
            Does::Nothing => return false,
            // Of those who say no more than hello, every other one stays; the others go as soon as they are answered.
            Does::Handshake if place % 4 == 1 || stranger.heard.is_empty() => return false,
            Does::Handshake => {
                self.leave(place);
                self.strangers[place].at = Instant::now();
                return false;
            }
            Does::LeaveAnswered if stranger.heard.is_empty() => return false,
            Does::LeaveTogether { every }
                if stranger.round == self.begun.elapsed().div_duration_f64(*every) as u64 =>
            {
                return false;
            }
            Does::Leave | Does::LeaveAnswered | Does::LeaveTogether { .. } => {
                self.sent += 1;
                self.leave(place);
                self.strangers[place].at = Instant::now();
                return false;
            }
            _ if stranger.begun && self.sent as f64 > due => return false,
            Does::Say(words) if stranger.begun => _ = words,
            Does::Say(words) => stranger.words = words(place),
            Does::InSession(_) if stranger.begun => {}
            Does::InSession(words) => {
                let text = String::from_utf8_lossy(&stranger.heard);
                let id = text.split("\"clientId\":\"").nth(1).and_then(|rest| rest.split_once('"'));
                let Some((id, _)) = id else { return false };
                stranger.words = words(id);
            }
            Does::Once(words) => {
                if stranger.begun {
                    return false;
                }
                let text = String::from_utf8_lossy(&stranger.heard);
                let id = text.split("\"clientId\":\"").nth(1).and_then(|rest| rest.split_once('"'));
                let Some((id, _)) = id else { return false };
                stranger.words = words(id);
            }
        }
        (stranger.said, stranger.begun) = (0, true);
        true
    }
}

fn needs_session(kind: &Kind) -> bool {
    matches!(kind.does, Does::InSession(_) | Does::Once(_))
}

/// Whether it may work later.
fn is_early(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected | io::ErrorKind::Interrupted
    )
}
