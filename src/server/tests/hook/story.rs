//! A seed decides what the application does, held to an oracle.

use super::{OURS, config};
use crate::conn::ConnId;
use crate::dialect::hook::{Ask, Reply};
use crate::id::Random;
use crate::server::tests::access::{has, revoke};
use crate::server::tests::bench::Bench;
use serde_json::{Value, json};

#[test]
fn an_application_that_does_anything() {
    for seed in 0..120 {
        Story::new(seed).run();
    }
}

const ROOMS: [&str; 3] = ["room/a", "room/b", "room/c"];

/// Somebody who listens or waits, and what the oracle knows of them.
struct Guest {
    id: ConnId,
    user: u64,
    listens: [bool; 3],
    state: State,
    is_socket: bool,
    /// The step in which it came.
    came: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waits,
    Listens,
    Gone,
}

/// A seed decides who comes, what the application says, and when, if ever. The truth is what the application said last.
struct Story {
    random: Random,
    bench: Bench,
    guests: Vec<Guest>,
    /// Questions that are open, and the step in which each was asked.
    open: Vec<(Ask, u64)>,
    /// What the application has allowed: to whom, where, until when, and the step in which it was asked.
    words: Vec<(u64, [bool; 3], u64, u64)>,
    /// The step in which a user's rights were last taken back.
    revoked: [u64; 4],
    /// The step in which the application last said no to a user.
    denied: [u64; 4],
    now: u64,
    published: u64,
    seed: u64,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut config = config();
        config.hook.cache_seconds = seed % 3;
        config.hook.concurrency = 1 + (seed as usize % 4);
        config.limits.judged_waiting = 200;
        let (random, bench) = (Random::new(seed), Bench::new(config));
        let (guests, open, words) = (Vec::new(), Vec::new(), Vec::new());
        let (revoked, denied) = ([0; 4], [0; 4]);
        Self { random, bench, guests, open, words, revoked, denied, now: 1, published: 0, seed }
    }

    fn ms(&self) -> u64 {
        self.bench.world.now.at.as_millis()
    }

    fn come(&mut self) {
        let (user, is_socket) = (self.random.below(4), self.random.one_in(2));
        let mut listens = std::array::from_fn(|_| self.random.one_in(2));
        listens[self.random.below(3) as usize] = true;
        let names: Vec<&str> =
            ROOMS.iter().zip(listens).filter(|(_, is)| *is).map(|(name, _)| *name).collect();
        let (target, fields) =
            (format!("/sub/{}?as=stream", names.join(",")), format!("Cookie: u={user}\r\n{OURS}"));
        let (id, heard) = match is_socket {
            true => self.bench.socket(&target, &fields),
            false => {
                let id = self.bench.connect();
                self.bench.send(id, &format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
                (id, String::new())
            }
        };
        self.guests.push(Guest { id, user, listens, state: State::Waits, is_socket, came: self.now });
        // An answer was remembered.
        self.note(self.guests.len() - 1, &heard);
        self.settle();
    }

    /// Takes what became of those who wait or listen.
    fn settle(&mut self) {
        self.bench.turn();
        self.open.extend(self.bench.asked.drain(..).map(|ask| (ask, self.now)));
        self.bench.server.check(self.bench.world.now);
    }

    fn answer(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let at = self.random.below(self.open.len() as u64) as usize;
        let (ask, asked) = self.open.remove(at);
        let question: Value = serde_json::from_slice(&ask.body).unwrap();
        let user = question["headers"]["cookie"].as_str().unwrap().to_owned();
        let names: Vec<String> = serde_json::from_value(question["channels"].clone()).unwrap();
        let number: usize = user[2..].parse().unwrap();
        let wrong = [r#"{"allow":true"#, r#"{"allow":"yes"}"#, r#"{"allow":true,"expires":5}"#, "", "[true]"];
        let reply = match self.random.below(9) {
            8 => {
                let body = wrong[self.random.below(wrong.len() as u64) as usize].into();
                Reply::Answer { status: 200, body }
            }
            0 => Reply::Late,
            1 => Reply::Failed("refused".into()),
            2 => Reply::Answer { status: 500, body: Vec::new() },
            3 => {
                self.denied[number] = self.now;
                Reply::Answer { status: 403, body: b"no".to_vec() }
            }
            _ => {
                let allowed: Vec<&String> = names.iter().filter(|_| !self.random.one_in(5)).collect();
                let mut body = json!({"allow": allowed, "subject": user});
                let mut ends = u64::MAX;
                if self.random.one_in(2) {
                    let seconds = 1 + self.random.below(20);
                    body["expires_in"] = json!(seconds);
                    ends = self.ms() + seconds * 1000;
                }
                let rooms = std::array::from_fn(|room| allowed.iter().any(|name| *name == ROOMS[room]));
                self.words.push((number as u64, rooms, ends, asked));
                if allowed.len() < names.len() {
                    self.denied[number] = self.now;
                }
                Reply::Answer { status: 200, body: body.to_string().into_bytes() }
            }
        };
        self.bench.reply(ask.number, &reply);
        self.settle();
    }

    fn publish(&mut self) {
        // What was heard until now is settled, so that what comes is this message.
        self.hear();
        let room = self.random.below(3) as usize;
        self.published += 1;
        let text = format!("<message {}>", self.published);
        // By the server's own book, which the next test of it is: who listens there, and by what grant.
        let before: Vec<bool> = self.guests.iter().map(|guest| self.covered(guest, room)).collect();
        self.bench.publish(ROOMS[room], &text, None);
        self.settle();
        for (at, covered) in before.into_iter().enumerate() {
            let heard = self.bench.heard(self.guests[at].id);
            let count = heard.matches(&*text).count();
            assert_eq!(
                count,
                usize::from(covered),
                "seed {}: guest {at} in {}: {heard}",
                self.seed,
                ROOMS[room]
            );
            // Whoever is given it was allowed it, by a word that counts.
            let user = self.guests[at].user;
            let counts = |(whose, rooms, ends, asked): &(u64, [bool; 3], u64, u64)| {
                *whose == user && rooms[room] && self.ms() < *ends && *asked > self.revoked[user as usize]
            };
            assert!(
                !covered || self.words.iter().any(counts),
                "seed {}: guest {at} in {}",
                self.seed,
                ROOMS[room]
            );
            self.note(at, &heard);
        }
    }

    /// Whether a guest listens to a room, and may, as far as it was told.
    fn covered(&self, guest: &Guest, room: usize) -> bool {
        guest.state == State::Listens && guest.listens[room]
    }

    fn hear(&mut self) {
        for at in 0..self.guests.len() {
            let heard = self.bench.heard(self.guests[at].id);
            assert!(!heard.contains("<message"), "seed {}: {heard}", self.seed);
            self.note(at, &heard);
        }
    }

    /// Takes what a guest was told of its state.
    fn note(&mut self, at: usize, heard: &str) {
        let guest = &mut self.guests[at];
        if heard.contains("HTTP/1.1 200 ") || heard.contains("HTTP/1.1 101 ") {
            assert_eq!(guest.state, State::Waits);
            guest.state = State::Listens;
        } else if heard.starts_with("HTTP/1.1 ") {
            guest.state = State::Gone;
        }
        let ended = |why: &str| heard.contains(&format!("\"{why}\":true,\"next\":\""));
        if ended("expired") || ended("revoked") {
            guest.state = State::Gone;
            // Nobody is sent away without a cause: the word was no, or its time is over and there is no other.
            let (user, now) = (guest.user as usize, self.bench.world.now.at.as_millis());
            let was_denied = self.denied[user].max(self.revoked[user]) >= guest.came;
            let is_over = self.words.iter().any(|(whose, _, ends, _)| *whose == guest.user && *ends <= now);
            assert!(!ended("revoked") || was_denied, "seed {}: guest {at} was sent away", self.seed);
            assert!(!ended("expired") || is_over, "seed {}: guest {at} has its time", self.seed);
        }
        if let Some((_, lost)) = heard.split_once("{\"revoked\":true,\"channels\":") {
            let lost = &lost[..lost.find(']').unwrap()];
            for (room, listens) in guest.listens.iter_mut().enumerate() {
                *listens &= !lost.contains(ROOMS[room]);
            }
        }
    }

    /// Another server takes over, which asks anew what is open.
    fn hand_over(&mut self) {
        self.open.clear();
        crate::server::tests::handover::adopt(&mut self.bench);
        self.settle();
    }

    fn step(&mut self) {
        self.now += 1;
        match self.random.below(15) {
            14 => self.hand_over(),
            0..3 => self.come(),
            3..7 => self.answer(),
            7..10 => self.publish(),
            10 => {
                let user = self.random.below(4);
                self.hear();
                let now: Vec<usize> = (0..self.guests.len())
                    .filter(|at| self.guests[*at].state == State::Listens && self.guests[*at].user == user)
                    .collect();
                let ended = revoke(&mut self.bench, &json!({"subject": format!("u={user}")}));
                self.revoked[user as usize] = self.now;
                self.now += 1;
                self.settle();
                assert_eq!(ended, now.len() as u64, "seed {}", self.seed);
                for at in now {
                    let heard = self.bench.heard(self.guests[at].id);
                    has(&heard, &["\"revoked\":true"]);
                    self.note(at, &heard);
                }
            }
            11 => {
                self.hear();
                let living: Vec<usize> =
                    (0..self.guests.len()).filter(|at| self.guests[*at].state != State::Gone).collect();
                if let Some(at) = living.first() {
                    let id = self.guests[*at].id;
                    // A stream whose client will send nothing more goes on.
                    let listens = self.guests[*at].state == State::Listens;
                    if listens || self.guests[*at].is_socket || self.random.one_in(2) {
                        self.bench.server.reset(self.bench.world.now, id);
                    } else {
                        self.bench.server.hang_up(self.bench.world.now, id, &mut self.bench.world);
                    }
                    self.settle();
                    self.guests[*at].state = State::Gone;
                    self.bench.heard(id);
                }
            }
            _ => {
                let ms = self.random.below(3000);
                self.bench.world.advance(ms);
                self.settle();
                self.hear();
            }
        }
    }

    fn run(mut self) {
        for _ in 0..150 {
            self.step();
        }
        self.hear();
        // All leave, and everything is given back.
        for at in 0..self.guests.len() {
            let id = self.guests[at].id;
            self.bench.server.reset(self.bench.world.now, id);
        }
        for (ask, _) in std::mem::take(&mut self.open) {
            self.bench.reply(ask.number, &Reply::Late);
        }
        self.settle();
        assert!(self.bench.server.access.hook.is_idle(), "seed {}", self.seed);
    }
}
