//! A conversation with the whole server, written in bytes.
//!
//! Bytes are sent as they are on the connection at hand; [`MARK`] begins an order: another connection, a piece that
//! ends here, time that passes, a client that reads, leaves or vanishes. So real requests are seeds as they stand,
//! and a fuzzer that inserts and deletes bytes changes requests and what happens between them alike.

use crate::world::World;
use encke::config::Config;
use encke::conn::ConnId;
use encke::dialect::hook::{Ask, Reply};
use encke::id::Seed;
use encke::server::{Effect, Server};

/// Begins an order; twice, it is a byte like any other. No UTF-8 text holds it.
pub const MARK: u8 = 0xfe;

const CLIENTS: usize = 6;

/// The server, what surrounds it, and its clients.
pub struct Stage {
    /// The server.
    pub server: Server,
    world: World,
    clients: [Option<ConnId>; CLIENTS],
    at: usize,
    pending: Vec<u8>,
    /// What each client has been sent.
    pub received: [Vec<u8>; CLIENTS],
    /// What the application is being asked.
    asked: Vec<Ask>,
}

/// Limits so small that short inputs reach them.
pub fn small() -> Config {
    let mut config = Config::default();
    config.history.messages = 3;
    config.history.grace_seconds = 0;
    config.history.bytes = 2000;
    config.history.total_bytes = 4000;
    config.limits.connections = CLIENTS - 1;
    config.limits.channels = 8;
    config.limits.head_bytes = 2048;
    config.limits.message_bytes = 512;
    config.limits.tombstones = 2;
    config.limits.idempotency_keys = 2;
    config.limits.channels_per_request = 8;
    config.limits.channels_per_connection = 8;
    config.limits.fdajax_guests = 3;
    config.limits.fdajax_head_bytes = 2048;
    config.limits.stream_seconds = 40;
    config.bayeux.sessions = 3;
    config.bayeux.subscriptions = 4;
    config.bayeux.publish = vec!["**".into()];
    config.bayeux.repeats = 2;
    config.fdajax.enabled = true;
    config.fdajax.win_timeout = 500;
    config.fdajax.allow_peer_call = vec!["chat".into()];
    config.turn.deliveries = 2;
    config
}

impl Stage {
    /// Nobody is connected yet.
    pub fn new(config: Config) -> Self {
        let mut world = World::default();
        world.advance(1000);
        let server = Server::new(config, Seed::of_number(1), world.now);
        Self {
            server,
            world,
            clients: [None; CLIENTS],
            at: 0,
            pending: Vec::new(),
            received: Default::default(),
            asked: Vec::new(),
        }
    }

    /// Plays a conversation to its end and checks after each turn, and that nothing is left when all have gone.
    pub fn play(&mut self, script: &[u8]) {
        let mut rest = script;
        while let Some((&byte, behind)) = rest.split_first() {
            rest = behind;
            if byte != MARK {
                self.pending.push(byte);
                continue;
            }
            let Some((&order, behind)) = rest.split_first() else { break };
            rest = behind;
            if order == MARK {
                self.pending.push(MARK);
            } else {
                self.obey(order);
            }
        }
        self.send();
        self.turn();
        self.leave();
    }

    /// Sends a request on the connection at hand, and has its answer.
    pub fn request(&mut self, text: &str) -> String {
        self.pending = text.as_bytes().to_vec();
        self.send();
        self.turn();
        self.read(usize::MAX);
        String::from_utf8_lossy(&std::mem::take(&mut self.received[self.at])).into_owned()
    }

    /// Says something on a connection of its own, but for the first, and returns what was answered.
    pub fn play_on(&mut self, at: usize, bytes: &[u8]) -> String {
        self.at = at;
        if at > 0
            && let Some(id) = self.clients[at].take()
        {
            self.server.reset(self.world.now, id);
            self.turn();
        }
        self.pending = bytes.to_vec();
        self.send();
        self.turn();
        if at == 0 {
            return String::new();
        }
        self.at = at;
        self.read(usize::MAX);
        String::from_utf8_lossy(&self.take(at)).into_owned()
    }

    /// What somebody has been sent since.
    pub fn take(&mut self, at: usize) -> Vec<u8> {
        self.at = at;
        self.read(usize::MAX);
        std::mem::take(&mut self.received[at])
    }

    /// Has the application answer everything that it is asked.
    pub fn reply(&mut self, reply: &Reply) {
        for ask in std::mem::take(&mut self.asked) {
            self.server.hear_answer(self.world.now, ask.number, reply, &mut self.world);
        }
        self.turn();
    }

    /// All go, and nothing is left.
    pub fn end(&mut self) {
        self.leave();
    }

    /// What an order does; letters are for those who write seeds.
    fn obey(&mut self, order: u8) {
        self.frame_if(order);
        self.send();
        let id = self.clients[self.at];
        match order {
            b'0'..=b'5' => self.at = usize::from(order - b'0'),
            // A piece ends here: what came before is received alone.
            b'|' | b't' | b'b' => {}
            b'.' => self.turn(),
            b'r' => self.read(1 << 20),
            b'6'..=b'9' => self.read(usize::from(order - b'0') * 16),
            b'h' => {
                if let Some(id) = id {
                    self.server.hang_up(self.world.now, id, &mut self.world);
                }
            }
            b'x' => {
                if let Some(id) = self.clients[self.at].take() {
                    self.server.reset(self.world.now, id);
                }
            }
            b'd' => {
                if let Some(id) = id {
                    self.world.socket(id).deaf = true;
                }
            }
            b's' => {
                if let Some(id) = id {
                    self.world.socket(id).capacity = 40;
                }
            }
            b'w' => {
                if let Some(id) = id {
                    self.server.writable(self.world.now, id, &mut self.world);
                }
            }
            b'D' => self.server.drain(self.world.now, &mut self.world),
            _ => self.pass(u64::from(order)),
        }
    }

    /// `t` and `b` wrap what came before into a masked frame of text or bytes, which no mutation gets right.
    fn frame_if(&mut self, order: u8) {
        let opcode = match order {
            b't' => 0x81,
            b'b' => 0x82,
            _ => return,
        };
        let payload = std::mem::take(&mut self.pending);
        self.pending.push(opcode);
        match u8::try_from(payload.len()) {
            Ok(short @ ..=125) => self.pending.push(0x80 | short),
            _ => {
                self.pending.push(0x80 | 126);
                self.pending.extend_from_slice(&(payload.len().min(0xffff) as u16).to_be_bytes());
            }
        }
        let mask = [7, 77, 0, 177];
        self.pending.extend_from_slice(&mask);
        let masked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        self.pending.extend(masked.take(0xffff));
    }

    /// Time passes: up to 127 times 16 ms, beyond that up to 128 seconds.
    fn pass(&mut self, amount: u64) {
        self.turn();
        self.world.advance(if amount < 128 { amount * 16 } else { (amount - 127) * 1000 });
        self.turn();
    }

    /// Sends what is pending, on a new connection if there is none.
    fn send(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.pending);
        let id = match self.clients[self.at] {
            Some(id) => id,
            None => {
                let peer = if self.at == 4 { [192, 0, 2, 1] } else { [127, 0, 0, 1] };
                let Some(id) = self.server.accept(self.world.now, peer.into(), false) else { return };
                self.world.open(id, 1 << 20);
                self.clients[self.at] = Some(id);
                id
            }
        };
        self.server.receive(self.world.now, id, &bytes, &mut self.world);
    }

    fn read(&mut self, max: usize) {
        if let Some(id) = self.clients[self.at] {
            let bytes = self.world.read(id, max);
            self.received[self.at].extend_from_slice(&bytes);
        }
    }

    /// A turn as the reactor makes it, until nothing is left over.
    fn turn(&mut self) {
        let now = self.world.now;
        for _ in 0..1000 {
            for id in std::mem::take(&mut self.world.edges) {
                self.server.writable(now, id, &mut self.world);
            }
            self.server.tick(now, &mut self.world);
            self.server.deliver(now, &mut self.world);
            while let Some(effect) = self.server.poll_effect() {
                match effect {
                    Effect::Pause(_) | Effect::Resume(_) | Effect::Unsent(_) => {}
                    Effect::Append(_) => unreachable!(),
                    Effect::Ask(ask) => self.asked.push(*ask),
                    Effect::HalfClose(id) => self.world.socket(id).ended = true,
                    Effect::Close(id) => self.close(id),
                }
            }
            self.server.check(now);
            if self.server.next_deadline(now) > now.at && self.world.edges.is_empty() {
                return;
            }
        }
        panic!("the server never rests");
    }

    fn close(&mut self, id: ConnId) {
        self.world.socket(id).closed = true;
        if let Some(at) = self.clients.iter().position(|client| *client == Some(id)) {
            let bytes = self.world.read(id, usize::MAX);
            self.received[at].extend_from_slice(&bytes);
            self.clients[at] = None;
        }
    }

    /// Everybody goes, and time passes until even FDAjax's users are forgotten.
    fn leave(&mut self) {
        for at in 0..CLIENTS {
            self.at = at;
            self.read(usize::MAX);
            if let Some(id) = self.clients[at].take() {
                self.server.reset(self.world.now, id);
            }
        }
        self.turn();
        for user in 0..3 {
            self.at = 0;
            self.pending = format!("GET /x.fdajax?cmd=logout&user_id={user} HTTP/1.0\r\n\r\n").into_bytes();
            self.send();
            self.turn();
        }
        for _ in 0..6 {
            self.world.advance(3_700_000);
            self.turn();
        }
        assert_eq!(self.server.connections(), 0, "somebody is still connected");
    }
}
