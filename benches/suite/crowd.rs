//! Subscribers that read whatever comes and count it: the load generator's payloads carry marks, and latest values that
//! come at a pace or as patches have none.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// How long to wait for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Crowd {
    poll: Poll,
    events: Events,
    members: Vec<Member>,
    scratch: Vec<u8>,
    /// What all of them have read.
    pub bytes: u64,
    /// When something was read last.
    pub read_at: Instant,
}

struct Member {
    socket: TcpStream,
    request: Vec<u8>,
    bytes: u64,
}

impl Crowd {
    /// Opens `count` connections at once, each of which asks for `target`.
    pub fn connect(address: SocketAddr, target: &str, count: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        let request = format!("GET {target} HTTP/1.1\r\nHost: bench\r\n\r\n");
        let members = (0..count).map(|place| {
            let mut socket = TcpStream::connect(address)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut socket, Token(place), interest)?;
            Ok(Member { socket, request: request.clone().into_bytes(), bytes: 0 })
        });
        let members = members.collect::<io::Result<_>>()?;
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            members,
            scratch: vec![0; 256 << 10],
            bytes: 0,
            read_at: Instant::now(),
        })
    }

    /// Reads what comes, until then.
    pub fn read_until(&mut self, end: Instant) -> io::Result<()> {
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.turn(left)?;
        }
        Ok(())
    }

    /// Reads until every one of them has had `bytes`.
    pub fn read_each(&mut self, bytes: u64) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.members.iter().any(|member| member.bytes < bytes) {
            if Instant::now() > end {
                let least = self.members.iter().map(|member| member.bytes).min();
                return Err(io::Error::other(format!("of {bytes} bytes, somebody was given {least:?}")));
            }
            self.turn(Duration::from_millis(100))?;
        }
        Ok(())
    }

    /// Reads until nothing has come for so long.
    pub fn read_until_quiet(&mut self, pause: Duration) -> io::Result<()> {
        self.read_at = Instant::now();
        while self.read_at.elapsed() < pause {
            self.turn(pause)?;
        }
        Ok(())
    }

    fn turn(&mut self, timeout: Duration) -> io::Result<()> {
        // Rounded up: it would be asked again and again within the last millisecond.
        match self.poll.poll(&mut self.events, Some(timeout.max(Duration::from_millis(1)))) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &self.events {
            let member = &mut self.members[event.token().0];
            if event.is_writable() && !member.request.is_empty() {
                // A few bytes, which an empty socket takes whole.
                member.socket.write_all(&std::mem::take(&mut member.request))?;
            }
            if !event.is_readable() {
                continue;
            }
            loop {
                match member.socket.read(&mut self.scratch) {
                    Ok(0) => return Err(io::Error::other("a subscriber was closed")),
                    Ok(length) => {
                        member.bytes += length as u64;
                        self.bytes += length as u64;
                        self.read_at = Instant::now();
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}
