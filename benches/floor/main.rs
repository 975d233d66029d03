//! The floor: the cheapest conceivable Comet server, the measure of what the kernel alone costs.
//!
//! An `int` per connection, fixed answers, one `write` per subscriber in a plain loop. It reads no HTTP beyond the
//! few bytes that tell what is asked, keeps no timers, no limits, and no history but the last large message of a channel. Of a
//! frame that a socket does not take at once it remembers how far it got, and drops whoever has not taken it all when the
//! next one comes. A ratio to the floor is therefore what a server's own work costs, and it is only worth something when both
//! were measured in the same run.
//!
//! What it expects of its only client, the load generator: channels are called `c<number>`, a GET arrives whole and
//! alone in a read, a `POST` has a `Content-Length`.
#![forbid(unsafe_code)]

mod answers;
mod request;
mod secure;

use std::collections::HashMap;
use std::env;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ServerConfig;

use crate::answers::Kind;
use crate::request::{Asked, Request};
use crate::secure::Session;

const LISTENER: Token = Token(usize::MAX);
const TLS_LISTENER: Token = Token(usize::MAX - 1);
/// Bytes from which on a message is kept for who comes later.
const KEPT: usize = 1 << 20;
const HELP: &str = "The floor: the cheapest conceivable Comet server, to compare with.\n\n\
                    Usage: floor --listen ADDR:PORT [--nagle] [--tls CERTIFICATE KEY]\n\n  \
                    --listen   port 0: any; the address is printed on stderr\n  \
                    --nagle    let the kernel gather small writes: cheaper when saturated, slower when not\n  \
                    --tls      listens for TLS, too, on any port";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some(address) = arguments.iter().position(|a| a == "--listen").and_then(|at| arguments.get(at + 1))
    else {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    };
    let nagle = arguments.iter().any(|argument| argument == "--nagle");
    let tls = arguments.iter().position(|a| a == "--tls").and_then(|at| arguments.get(at + 1..at + 3));
    let tls = tls.map(|files| secure::config(Path::new(&files[0]), Path::new(&files[1]))).transpose();
    let address_of = || address.parse().map_err(io::Error::other);
    let result = tls.and_then(|tls| address_of().and_then(|address| serve(address, nagle, tls)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Everybody who listens to one channel, as descriptors, by the framing they asked for.
#[derive(Default)]
struct Channel {
    listeners: [Vec<u32>; Kind::COUNT],
    sequence: u64,
    /// What was published last, if it was large.
    last: Rc<[u8]>,
}

struct Floor {
    poll: Poll,
    /// Indexed by descriptor: the kernel hands out the lowest free number, so this is dense.
    sockets: Vec<Option<TcpStream>>,
    /// The same of TLS; empty without.
    sessions: Vec<Option<Box<Session>>>,
    tls: Option<Arc<ServerConfig>>,
    record: Vec<u8>,
    channels: Vec<Channel>,
    /// Requests of which a read got only the first part; in practice empty.
    partial: HashMap<usize, Vec<u8>>,
    frame: Vec<u8>,
    dropped: Vec<u32>,
    /// Frames that sockets have a part of, and how much; in practice only large ones.
    halves: HashMap<u32, (Rc<[u8]>, usize)>,
}

fn listen(address: SocketAddr, nagle: bool) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    rustix::net::sockopt::set_tcp_nodelay(&listener, !nagle)?; // accepted sockets inherit it
    rustix::net::listen(&listener, 4096)?; // mio's backlog of 128 loses connections when thousands come at once
    Ok(listener)
}

fn serve(address: SocketAddr, nagle: bool, tls: Option<Arc<ServerConfig>>) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let poll = Poll::new()?;
    let mut secure = None;
    if tls.is_some() {
        let listener = secure.insert(listen(SocketAddr::new(address.ip(), 0), nagle)?);
        poll.registry().register(listener, TLS_LISTENER, Interest::READABLE)?;
        eprintln!("TLS listening on {}", listener.local_addr()?);
    }
    let mut listener = listen(address, nagle)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    eprintln!("listening on {}", listener.local_addr()?);
    let mut floor = Floor {
        poll,
        sockets: Vec::new(),
        sessions: Vec::new(),
        tls,
        record: Vec::new(),
        channels: Vec::new(),
        partial: HashMap::new(),
        frame: Vec::new(),
        dropped: Vec::new(),
        halves: HashMap::new(),
    };
    let mut events = Events::with_capacity(1024);
    let mut scratch = vec![0; 256 << 10];
    loop {
        match floor.poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            match event.token() {
                LISTENER => floor.accept(&listener, false)?,
                TLS_LISTENER => {
                    if let Some(listener) = &secure {
                        floor.accept(listener, true)?;
                    }
                }
                token => floor.ready(token.0, event, &mut scratch),
            }
        }
    }
}

impl Floor {
    fn accept(&mut self, listener: &TcpListener, is_secure: bool) -> io::Result<()> {
        loop {
            let mut socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            let fd = socket.as_raw_fd() as usize;
            self.poll.registry().register(&mut socket, Token(fd), Interest::READABLE)?;
            if self.sockets.len() <= fd {
                self.sockets.resize_with(fd + 1, || None);
            }
            self.sockets[fd] = Some(socket);
            if let Some(tls) = self.tls.as_ref().filter(|_| is_secure) {
                if self.sessions.len() <= fd {
                    self.sessions.resize_with(fd + 1, || None);
                }
                self.sessions[fd] = Some(Box::new(Session::new(tls)?));
            }
        }
    }

    /// Reads until a short read, which is as good as `WouldBlock` with edge-triggered epoll.
    fn ready(&mut self, fd: usize, event: &Event, scratch: &mut [u8]) {
        if event.is_writable() {
            self.go_on(fd as u32);
        }
        loop {
            let Some(Some(socket)) = self.sockets.get_mut(fd) else { return };
            match socket.read(scratch) {
                Ok(0) => return self.close(fd as u32),
                Ok(length) => {
                    match self.sessions.get_mut(fd) {
                        Some(Some(session)) => match session.receive(&scratch[..length], socket) {
                            Ok(plain) if plain.is_empty() => {}
                            Ok(plain) => self.received(fd, &plain),
                            Err(_) => return self.close(fd as u32),
                        },
                        _ => self.received(fd, &scratch[..length]),
                    }
                    if length < scratch.len() && !event.is_read_closed() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.close(fd as u32),
            }
        }
    }

    fn received(&mut self, fd: usize, bytes: &[u8]) {
        if self.partial.is_empty() {
            let used = self.requests(fd, bytes);
            if used < bytes.len() {
                self.partial.insert(fd, bytes[used..].to_vec());
            }
            return;
        }
        let mut whole = self.partial.remove(&fd).unwrap_or_default();
        whole.extend_from_slice(bytes);
        let used = self.requests(fd, &whole);
        if used < whole.len() {
            self.partial.insert(fd, whole.split_off(used));
        }
    }

    /// Answers the whole requests at the front of `bytes`; says how many bytes they were.
    fn requests(&mut self, fd: usize, bytes: &[u8]) -> usize {
        let mut used = 0;
        while let Some(Request { asked, length }) = request::first(&bytes[used..]) {
            match asked {
                Asked::Listen { channel, kind } => {
                    if let Some(head) = kind.head() {
                        self.answer(fd, head);
                    }
                    self.channel(channel).listeners[kind as usize].push(fd as u32);
                }
                Asked::Last { channel } => {
                    self.answer(fd, answers::STREAM);
                    let last = Rc::clone(&self.channel(channel).last);
                    self.send(fd as u32, &last);
                }
                Asked::Publish { channel, body } => self.publish(fd, channel, &bytes[used..][body]),
                Asked::Waiting => self.answer(fd, answers::WAITING),
                Asked::Health => self.answer(fd, answers::HEALTH),
                Asked::Unknown => self.answer(fd, answers::UNKNOWN),
            }
            used += length;
        }
        used
    }

    fn channel(&mut self, number: usize) -> &mut Channel {
        if self.channels.len() <= number {
            self.channels.resize_with(number + 1, Channel::default);
        }
        &mut self.channels[number]
    }

    /// Answers the publisher, then writes the frame to everybody: the loop that all others are measured by.
    fn publish(&mut self, publisher: usize, number: usize, body: &[u8]) {
        self.answer(publisher, answers::PUBLISHED);
        self.channel(number);
        let channel = &mut self.channels[number];
        channel.sequence += 1;
        for kind in Kind::ALL {
            let listeners = &mut channel.listeners[kind as usize];
            if listeners.is_empty() {
                continue;
            }
            kind.render(number, channel.sequence, body, &mut self.frame);
            let mut whole: Option<Rc<[u8]>> = None;
            for &fd in listeners.iter() {
                let Some(socket) = &self.sockets[fd as usize] else { continue };
                if let Some(Some(session)) = self.sessions.get_mut(fd as usize) {
                    if !session.write(&self.frame, socket, &mut self.record) {
                        self.dropped.push(fd);
                    }
                    continue;
                }
                if !self.halves.is_empty() && self.halves.contains_key(&fd) {
                    self.dropped.push(fd);
                    continue;
                }
                match rustix::io::write(socket, &self.frame) {
                    Ok(length) if length == self.frame.len() => {}
                    Ok(length) => {
                        let whole = whole.get_or_insert_with(|| self.frame.as_slice().into());
                        self.halves.insert(fd, (Rc::clone(whole), length));
                        self.dropped.extend((!wait(&self.poll, socket, true)).then_some(fd));
                    }
                    _ => self.dropped.push(fd),
                }
            }
            if kind == Kind::Poll {
                listeners.clear();
            }
        }
        while let Some(fd) = self.dropped.pop() {
            self.close(fd);
        }
        if body.len() < KEPT {
            return;
        }
        Kind::Stream.render(number, self.channels[number].sequence, body, &mut self.frame);
        self.channels[number].last = self.frame.as_slice().into();
    }

    /// Writes the frame, or as much of it as the socket takes.
    fn send(&mut self, fd: u32, frame: &Rc<[u8]>) {
        self.halves.insert(fd, (Rc::clone(frame), 0));
        let is_waiting =
            self.sockets[fd as usize].as_ref().is_some_and(|socket| wait(&self.poll, socket, true));
        match is_waiting {
            true => self.go_on(fd),
            false => self.close(fd),
        }
    }

    /// Writes what a socket still has to get.
    fn go_on(&mut self, fd: u32) {
        let (Some((frame, at)), Some(Some(socket))) =
            (self.halves.get_mut(&fd), self.sockets.get(fd as usize))
        else {
            return;
        };
        while *at < frame.len() {
            match rustix::io::write(socket, &frame[*at..]) {
                Ok(length) => *at += length,
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => return self.close(fd),
            }
        }
        self.halves.remove(&fd);
        if !wait(&self.poll, socket, false) {
            self.close(fd);
        }
    }

    fn answer(&mut self, fd: usize, bytes: &[u8]) {
        let Some(socket) = &self.sockets[fd] else { return };
        let went = match self.sessions.get_mut(fd) {
            Some(Some(session)) => session.write(bytes, socket, &mut self.record),
            _ => matches!(rustix::io::write(socket, bytes), Ok(length) if length == bytes.len()),
        };
        if !went {
            self.close(fd as u32);
        }
    }

    fn close(&mut self, fd: u32) {
        self.sockets[fd as usize] = None;
        if let Some(session) = self.sessions.get_mut(fd as usize) {
            *session = None;
        }
        self.partial.remove(&(fd as usize));
        self.halves.remove(&fd);
        for listeners in self.channels.iter_mut().flat_map(|channel| &mut channel.listeners) {
            if let Some(at) = listeners.iter().position(|&listener| listener == fd) {
                listeners.swap_remove(at);
            }
        }
    }
}

/// Has the kernel say when a socket takes more, or not any more.
fn wait(poll: &Poll, socket: &TcpStream, wait: bool) -> bool {
    let interest = if wait { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
    let fd = socket.as_raw_fd();
    poll.registry().reregister(&mut mio::unix::SourceFd(&fd), Token(fd as usize), interest).is_ok()
}
