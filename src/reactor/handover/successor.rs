//! The side of the process that takes over.

use super::predecessor::{ADOPTED, GO};
use super::{Greeting, Line, Passage};
use crate::config::Config;
use crate::reactor::clock::{Clock, monotonic};
use crate::reactor::listener::Listener;
use crate::reactor::{Host, Reactor, Rest, draw_seed, history};
use crate::server::Server;
use crate::server::handover::format;
use mio::net::TcpStream;
use std::io;
use std::net;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

impl Reactor {
    /// Takes over from the process at the other end of `line`. Until it has said that this one shall go on, no socket is
    /// touched, and whoever sees an error leaves as if it had never been there.
    pub fn take_over(config: Config, host: Box<dyn Host>, line: UnixStream) -> io::Result<Self> {
        let patience = Duration::from_secs(config.upgrade_seconds);
        let mut line = Line::new(line, patience)?;
        answer(&mut line, &*host)?;
        // Connections by TLS are being ended meanwhile.
        line.wait_for(patience + Duration::from_secs(2));
        let (bytes, descriptors) = line.receive_all()?;
        let passage = Passage::read(&bytes).map_err(|error| io::Error::other(error.0))?;
        drop(bytes);
        let at = passage.at;
        let mut reactor = Self::adopt(config, host, passage, descriptors)?;
        line.wait_for(patience);
        line.send(&[ADOPTED])?;
        let mut answer = [0];
        line.receive(&mut answer)?;
        if answer != [GO] {
            return Err(io::Error::other("the process before says something strange"));
        }
        let now = reactor.clock.now();
        log::info!(
            "upgrade: this process has taken over {} connections; nobody was served for {} ms",
            reactor.server.connections(),
            now.at.millis_since(at)
        );
        Ok(reactor)
    }

    fn adopt(
        config: Config,
        host: Box<dyn Host>,
        passage: Passage,
        descriptors: Vec<OwnedFd>,
    ) -> io::Result<Self> {
        let Passage { at, monotonic: then, listeners: kinds, sockets: ids, store, state } = passage;
        if descriptors.len() != kinds.len() + ids.len() {
            return Err(io::Error::other("descriptors are missing"));
        }
        let own = config.store.dir.as_ref().map(|dir| dir.display().to_string());
        if own != store {
            return Err(io::Error::other("store.dir is another one: it needs a restart"));
        }
        let mut clock = Clock::go_on(at, monotonic().saturating_sub(then));
        let now = clock.now();
        let ground = Self::ground()?;
        let registry = ground.poll.registry();
        let mut descriptors = descriptors.into_iter();
        let mut listeners = Vec::new();
        for (kind, descriptor) in kinds.into_iter().zip(descriptors.by_ref()) {
            listeners.push(Listener::adopt(registry, net::TcpListener::from(descriptor), kind)?);
        }
        let mut rest = Rest::of(config, listeners, draw_seed()?)?;
        let mut server = Server::adopt(rest.config.clone(), &state, now)
            .map_err(|error| io::Error::other(format!("the state cannot be read: {error}")))?;
        drop(state);
        for (id, descriptor) in ids.into_iter().zip(descriptors) {
            let stream = TcpStream::from_std(net::TcpStream::from(descriptor));
            rest.sockets.adopt(registry, id, stream, server.is_waiting(id))?;
        }
        // Those by TLS have not come over.
        for id in server.ids() {
            if !rest.sockets.has(id) {
                server.reset(now, id);
            }
        }
        let store = history::go_on(&mut server, now, &ground.mailbox)?;
        Self::build(ground, rest, host, clock, (server, store, None))
    }
}

/// Hears what the process before is, and says what this one is.
fn answer(line: &mut Line, host: &dyn Host) -> io::Result<()> {
    let mut heard = Vec::new();
    let offer = loop {
        let mut some = [0; 1024];
        let count = line.receive_some(&mut some)?;
        if count == 0 {
            return Err(io::Error::other("the process before has ended"));
        }
        heard.extend_from_slice(&some[..count]);
        if let Some(offer) = Greeting::read(&heard).map_err(|error| io::Error::other(error.0))? {
            break offer;
        }
    };
    let mut own = Greeting { format: format(), version: host.version(), refusal: String::new() };
    if offer.format != own.format {
        let version = &offer.version;
        own.refusal = format!("the state of version {version} has another form: it needs a restart");
        line.send(&own.bytes())?;
        return Err(io::Error::other(own.refusal));
    }
    line.send(&own.bytes())
}
