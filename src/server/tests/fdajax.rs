//! A seed speaks FDAjax: any command at any time, clients that leave, a clock that leaps. Nothing may panic,
//! lists and indices must agree, and when everybody has gone nothing may stay.

use super::handover::hand_over;
use super::world::World;
use crate::config::Config;
use crate::conn::ConnId;
use crate::id::Random;
use crate::id::Seed;
use crate::server::{Effect, Server};

const COMMANDS: [&str; 12] = [
    "wait", "wait", "stream", "cancel", "chat_sig", "push", "push", "alert", "check", "login", "add_chat",
    "info",
];
const TYPES: [&str; 8] =
    ["unw", "chat", "chat,1", "chat,2|unw", "feed", "gchat|feed", "chat|feed|unw", "mes|ord"];

struct Talk {
    random: Random,
    server: Server,
    world: World,
    open: Vec<ConnId>,
    answers: usize,
}

impl Talk {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut config = Config::default();
        let mut flag = || random.one_in(2);
        (config.fdajax.enabled, config.fdajax.merge_messages) = (true, flag());
        (config.fdajax.send_redirects, config.fdajax.send_pings) = (flag(), u64::from(flag()));
        config.fdajax.html_begin = if flag() { "<html>".into() } else { String::new() };
        config.log.access = flag();
        config.fdajax.allow_peer_call = vec!["chat".into(), "gchat".into()];
        (config.fdajax.win_timeout, config.fdajax.mes_live_max) = (random.below(600), random.below(900));
        (config.limits.fdajax_guests, config.history.messages) = (1 + random.below(6) as usize, 3);
        config.history.grace_seconds = 0;
        let mut world = World::default();
        world.advance(1000);
        let server = Server::new(config, Seed::of_number(seed), world.now);
        Self { random, server, world, open: Vec::new(), answers: 0 }
    }

    fn query(&mut self) -> String {
        let random = &mut self.random;
        let mut one = |bound: u64| random.below(bound);
        let command = COMMANDS[one(COMMANDS.len() as u64) as usize];
        let types = TYPES[one(TYPES.len() as u64) as usize];
        let (user, peer, window) = (one(3), one(3), one(7));
        let (amode, force, win_st, alert) = (one(3), one(2), one(3), one(3));
        let more = match command {
            "login" => format!("ip_addr=127.0.0.1&sess_id=s{}", one(4)),
            "push" | "chat_sig" | "alert" => format!("mes={}", one(100)),
            "cancel" => format!("alert_id={alert}"),
            _ => format!("force={force}&sec={}", [0, 1_699_999_999, 2_000_000_000][one(3) as usize]),
        };
        let command = if one(40) == 0 { "logout" } else { command };
        format!(
            "cmd={command}&user_id={user}&peer_id={peer}&win_id={window}&types={types}&amode={amode}&\
             win_st={win_st}&{more}"
        )
    }

    fn request(&mut self) -> String {
        let group = ["fdajax/groups/feed", "fdajax/users/1", "fdajax/users/2"][self.random.below(3) as usize];
        match self.random.below(20) {
            0 => format!("DELETE /pub/{group} HTTP/1.1\r\nHost: x\r\n\r\n"),
            1 | 2 => {
                format!("POST /pub/{group}?event=chat HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n7")
            }
            _ => {
                let (slot, session) = (self.random.below(6), self.random.below(5));
                let query = self.query();
                format!(
                    "GET /live.fdajax?{query} HTTP/1.1\r\nHost: www{slot}.x\r\nCookie: _session_id=s{session}\r\n\r\n"
                )
            }
        }
    }

    fn connection(&mut self) -> ConnId {
        if !self.open.is_empty() && self.random.one_in(2) {
            return self.open[self.random.below(self.open.len() as u64) as usize];
        }
        let id = self.server.accept(self.world.now, [127, 0, 0, 1].into(), false).unwrap();
        let capacity = if self.random.one_in(4) { 40 } else { 1 << 20 };
        self.world.open(id, capacity);
        self.open.push(id);
        id
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0 if !self.open.is_empty() => {
                let id = self.open[self.random.below(self.open.len() as u64) as usize];
                match self.random.one_in(2) {
                    true => self.server.hang_up(self.world.now, id, &mut self.world),
                    false => self.server.reset(self.world.now, id),
                }
            }
            1 => {
                let ms = self.random.below(700);
                self.world.advance(ms);
            }
            _ => {
                let id = self.connection();
                let request = self.request();
                self.server.receive(self.world.now, id, request.as_bytes(), &mut self.world);
            }
        }
        if self.random.one_in(3) {
            self.turn();
        }
    }

    fn turn(&mut self) {
        let now = self.world.now;
        self.server.tick(now, &mut self.world);
        self.server.deliver(now, &mut self.world);
        for id in self.open.clone() {
            let bytes = self.world.read(id, usize::MAX);
            self.answers += String::from_utf8_lossy(&bytes).matches("HTTP/1.1 ").count();
        }
        for id in std::mem::take(&mut self.world.edges) {
            self.server.writable(now, id, &mut self.world);
        }
        while let Some(effect) = self.server.poll_effect() {
            match effect {
                Effect::Pause(_) | Effect::Resume(_) | Effect::Unsent(_) => {}
                Effect::Append(_) | Effect::Ask(_) => unreachable!(),
                Effect::HalfClose(id) => self.world.socket(id).ended = true,
                Effect::Close(id) => {
                    self.world.socket(id).closed = true;
                    self.open.retain(|&open| open != id);
                }
            }
        }
        self.server.check(now);
        if self.random.one_in(5) {
            hand_over(&mut self.server, now);
        }
    }

    fn end(mut self) {
        for id in self.open.clone() {
            self.server.reset(self.world.now, id);
        }
        self.turn();
        let id = self.server.accept(self.world.now, [127, 0, 0, 1].into(), false).unwrap();
        self.world.open(id, 1 << 20);
        for user in 1..3 {
            let logout = format!("GET /live.fdajax?cmd=logout&user_id={user} HTTP/1.1\r\nHost: x\r\n\r\n");
            self.server.receive(self.world.now, id, logout.as_bytes(), &mut self.world);
        }
        // Windows, guests and channels go one after the other.
        for _ in 0..6 {
            self.world.advance(3_700_000);
            self.turn();
        }
        let left = self.server.broker.hub.gauges();
        assert_eq!((left.subscribers, left.messages, left.channels), (0, 0, 0));
        assert_eq!(self.server.connections(), 0);
        assert!(self.answers > 50, "it was a conversation");
    }
}

#[test]
fn whatever_is_said_nothing_breaks_and_nothing_stays() {
    for seed in 1..=60 {
        println!("seed {seed}");
        let mut talk = Talk::new(seed);
        (0..600).for_each(|_| talk.step());
        talk.end();
    }
}
