//! A seed decides who comes with which token, and nobody hears what is not granted.

use super::super::bench::Bench;
use super::{SECRET, bench, has, revoke, status, with};
use crate::cli::token::sign::Signer;
use crate::config::Algorithm;
use crate::conn::ConnId;
use crate::id::Random;
use serde_json::json;

const ROOMS: [&str; 4] = ["chat/a", "chat/b", "chat/c", "chat/d"];

/// Somebody who listens, and what the oracle knows of them.
struct Listener {
    id: ConnId,
    is_socket: bool,
    subject: u64,
    issued: u64,
    ends: u64,
    granted: [bool; 4],
    listens: [bool; 4],
    is_there: bool,
}

/// A seed decides who comes with which token, what is published, renewed and revoked, and what the clock does.
struct Story {
    random: Random,
    bench: Bench,
    listeners: Vec<Listener>,
    /// Subject, the second until which its tokens are concerned, and the room, if not all are meant.
    revoked: Vec<(u64, u64, Option<usize>)>,
    published: u64,
}

impl Story {
    fn rooms(&mut self) -> [bool; 4] {
        std::array::from_fn(|_| self.random.one_in(2))
    }

    /// A token of `subject` that is made now, and what it grants once what was revoked is taken off; nothing if all was.
    fn token(&mut self, subject: u64) -> (String, u64, u64, Option<[bool; 4]>) {
        let (mut granted, now) = (self.rooms(), self.bench.world.now.unix);
        let expires = now + self.random.below(60);
        let names: Vec<&str> =
            ROOMS.iter().zip(granted).filter(|(_, is)| *is).map(|(name, _)| *name).collect();
        let claims = json!({"sub": format!("user{subject}"), "iat": now, "exp": expires,
            "jti": self.random.below(u64::MAX).to_string(), "encke": {"subscribe": names}});
        let token = Signer::Secret(SECRET.into()).token(Algorithm::HS256, Some("k"), &claims).unwrap();
        let concerned = self.revoked.iter().filter(|(whose, before, _)| *whose == subject && now <= *before);
        let mut left = true;
        for (_, _, room) in concerned {
            match room {
                Some(room) => granted[*room] = false,
                None => left = false,
            }
        }
        (token, now, expires + 30, left.then_some(granted))
    }

    fn come(&mut self) {
        let (subject, is_socket) = (self.random.below(3), self.random.one_in(2));
        let (token, issued, ends, granted) = self.token(subject);
        let mut listens = self.rooms();
        listens[self.random.below(4) as usize] = true;
        let names: Vec<&str> =
            ROOMS.iter().zip(listens).filter(|(_, is)| *is).map(|(name, _)| *name).collect();
        let (target, fields) = (format!("/sub/{}?as=stream", names.join(",")), with(&token));
        let (id, answer) = match is_socket {
            true => self.bench.socket(&target, &fields),
            false => {
                let id = self.bench.connect();
                self.bench.send(id, &format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
                self.bench.turn();
                let heard = self.bench.heard(id);
                (id, heard)
            }
        };
        let Some(granted) = granted else { return status(&answer, 401) };
        if (0..4).any(|room| listens[room] && !granted[room]) {
            return status(&answer, 403);
        }
        status(&answer, if is_socket { 101 } else { 200 });
        self.listeners.push(Listener {
            id,
            is_socket,
            subject,
            issued,
            ends,
            granted,
            listens,
            is_there: true,
        });
    }

    fn renew(&mut self) {
        let sockets: Vec<usize> = (0..self.listeners.len())
            .filter(|at| self.listeners[*at].is_socket && self.listeners[*at].is_there)
            .collect();
        if sockets.is_empty() {
            return;
        }
        let at = sockets[self.random.below(sockets.len() as u64) as usize];
        let subject = if self.random.one_in(5) { 7 } else { self.listeners[at].subject };
        let (token, issued, ends, granted) = self.token(subject);
        let answer = self.bench.tell(self.listeners[at].id, &format!("{{\"token\":\"{token}\"}}"));
        let listener = &mut self.listeners[at];
        match granted.filter(|_| subject == listener.subject) {
            None => has(&answer, &["\"error\""]),
            Some(granted) => {
                has(&answer, &["\"ok\":{\"expires\":"]);
                (listener.issued, listener.ends, listener.granted) = (issued, ends, granted);
                (0..4).for_each(|room| listener.listens[room] &= granted[room]);
            }
        }
    }

    fn revoke(&mut self) {
        let (subject, now) = (self.random.below(3), self.bench.world.now.unix);
        let room = self.random.one_in(2).then(|| self.random.below(4) as usize);
        let mut body = json!({"subject": format!("user{subject}")});
        if let Some(room) = room {
            body["channels"] = json!([ROOMS[room]]);
        }
        let mut ended = 0;
        for listener in &mut self.listeners {
            if !listener.is_there || listener.subject != subject || listener.issued > now {
                continue;
            }
            match room {
                Some(room) => {
                    ended += u64::from(listener.listens[room]);
                    listener.is_there = listener.is_socket || !listener.listens[room];
                    (listener.granted[room], listener.listens[room]) = (false, false);
                }
                None => {
                    ended += 1;
                    listener.is_there = false;
                }
            }
        }
        self.revoked.push((subject, now, room));
        assert_eq!(revoke(&mut self.bench, &body), ended);
        self.hear(None);
    }

    fn publish(&mut self) {
        let room = self.random.below(4) as usize;
        self.published += 1;
        let text = format!("<message {}>", self.published);
        self.bench.publish(ROOMS[room], &text, None);
        self.bench.turn();
        self.hear(Some((room, text)));
    }

    /// Everybody reads: who is there gets what was published, and nobody else.
    fn hear(&mut self, published: Option<(usize, String)>) {
        let now = self.bench.world.now.unix;
        for listener in &mut self.listeners {
            let is_due = listener.ends <= now;
            let heard = self.bench.heard(listener.id);
            if listener.is_there && is_due {
                listener.is_there = false;
                has(&heard, &["\"expired\":true"]);
            }
            let expected =
                published.as_ref().filter(|(room, _)| listener.is_there && listener.listens[*room]);
            match expected {
                Some((_, text)) => assert_eq!(heard.matches(&**text).count(), 1, "{text} in {heard}"),
                None => assert!(!heard.contains("<message"), "{heard}"),
            }
        }
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0..3 => self.come(),
            3..8 => self.publish(),
            8 => self.renew(),
            9 => self.revoke(),
            10 => {
                let seconds = self.random.below(25);
                self.bench.seconds(seconds);
                self.hear(None);
            }
            _ => {
                self.bench.world.skew += self.random.below(41) as i64 - 20;
                self.bench.seconds(0);
                self.hear(None);
            }
        }
    }
}

#[test]
fn nobody_hears_what_is_not_granted_and_nobody_misses_what_is() {
    for seed in 0..200 {
        let mut story = Story {
            random: Random::new(seed),
            bench: bench(),
            listeners: Vec::new(),
            revoked: Vec::new(),
            published: 0,
        };
        story.bench.world.advance(0);
        (0..80).for_each(|_| story.step());
        assert!(story.published > 10, "seed {seed}");
    }
}
