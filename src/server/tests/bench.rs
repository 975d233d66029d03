//! A server in a simulated world, to be asked and looked at: what most tests of single traits begin with.

use super::world::World;
use crate::config::Config;
use crate::conn::ConnId;
use crate::dialect::hook::Ask;
use crate::hub::{Data, Publication};
use crate::id::Seed;
use crate::server::{Effect, Server, Sink, Write, Wrote};
use std::io::IoSlice;
use std::net::IpAddr;

pub(super) struct Bench {
    pub server: Server,
    pub world: World,
    /// Who was written to, in order.
    pub order: Vec<ConnId>,
    /// What the application is being asked.
    pub asked: Vec<Ask>,
}

/// The world, with a record of who was written to.
struct Recorder<'a>(&'a mut World, &'a mut Vec<ConnId>);

impl Sink for Recorder<'_> {
    fn write(&mut self, id: ConnId, slices: &[IoSlice<'_>]) -> Wrote {
        self.1.push(id);
        self.0.write(id, slices)
    }

    fn write_each(&mut self, writes: &mut [Write<'_>]) {
        self.1.extend(writes.iter().map(|write| self.0.at(write.slot)));
        self.0.write_each(writes);
    }

    fn is_over(&mut self, done: usize) -> bool {
        self.0.is_over(done)
    }

    fn is_late(&mut self) -> bool {
        self.0.is_late()
    }

    fn begin_part(&mut self) {
        self.0.begin_part();
    }

    fn spent(&mut self) -> u32 {
        self.0.spent()
    }
}

impl Bench {
    pub fn new(config: Config) -> Self {
        let mut world = World::default();
        world.advance(1_000);
        let server = Server::new(config, Seed::of_number(36), world.now);
        Self { server, world, order: Vec::new(), asked: Vec::new() }
    }

    pub fn connect(&mut self) -> ConnId {
        self.connect_from([127, 0, 0, 1]).unwrap()
    }

    /// A connection of another address, if it is accepted.
    pub fn connect_from(&mut self, address: impl Into<IpAddr>) -> Option<ConnId> {
        let id = self.server.accept(self.world.now, address.into(), false)?;
        self.world.open(id, 1 << 30);
        Some(id)
    }

    /// A client that has sent `request`, and what it was answered at once.
    pub fn client(&mut self, request: &str) -> (ConnId, String) {
        let id = self.connect();
        self.send(id, request);
        self.turn();
        let answer = self.read(id);
        (id, answer)
    }

    pub fn subscriber(&mut self, query: &str) -> ConnId {
        self.client(&format!("GET /sub/{query} HTTP/1.1\r\nHost: x\r\n\r\n")).0
    }

    pub fn send(&mut self, id: ConnId, bytes: &str) {
        self.send_bytes(id, bytes.as_bytes());
    }

    pub fn send_bytes(&mut self, id: ConnId, bytes: &[u8]) {
        let mut sink = Recorder(&mut self.world, &mut self.order);
        let now = sink.0.now;
        self.server.receive(now, id, bytes, &mut sink);
    }

    pub fn read(&mut self, id: ConnId) -> String {
        String::from_utf8(self.world.read(id, usize::MAX)).unwrap()
    }

    /// What of it is text, as frames are not all.
    pub fn read_text(&mut self, id: ConnId) -> String {
        String::from_utf8_lossy(&self.world.read(id, usize::MAX)).into_owned()
    }

    /// Who was written to, in order.
    pub const fn order(&mut self) -> &mut Vec<ConnId> {
        &mut self.order
    }

    pub fn publish(&mut self, channel: &str, text: &str, ttl: Option<u64>) {
        let publication =
            Publication { ttl_ms: ttl.map(|ttl| ttl * 1000), ..Publication::of(Data::Text(text.into())) };
        self.server.publish(self.world.now, channel, publication).unwrap();
    }

    /// Turns until nothing is left to do now.
    pub fn turn(&mut self) {
        loop {
            let now = self.world.now;
            for id in std::mem::take(&mut self.world.edges) {
                self.server.writable(now, id, &mut self.world);
            }
            let mut sink = Recorder(&mut self.world, &mut self.order);
            self.server.tick(now, &mut sink);
            self.server.deliver(now, &mut sink);
            while let Some(effect) = self.server.poll_effect() {
                match effect {
                    Effect::Ask(ask) => self.asked.push(*ask),
                    effect => self.world.carry(&effect),
                }
            }
            self.server.broker.hub.check();
            if self.server.next_deadline(now) > now.at && self.world.edges.is_empty() {
                return;
            }
        }
    }

    pub fn writes(&mut self, id: ConnId) -> usize {
        self.world.socket(id).writes
    }
}

pub(super) fn post(channel: &str, body: &str) -> String {
    format!("POST /pub/{channel} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
