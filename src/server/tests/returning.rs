//! Tokens against what happened to others: revoked ones out of caches, cookies that expire, keys that run together. And a
//! seed: who comes back with another token goes on where they were, is given what it covers, once, and nothing else.

use super::access::{NOW, config, has, revoke, signed, status, token, with};
use super::bench::Bench;
use crate::conn::ConnId;
use crate::id::Random;
use serde_json::json;

#[test]
fn a_revoked_token_is_not_served_from_the_cache() {
    let mut bench = Bench::new(config());
    let alice = token("alice", NOW + 60, &["chat/**"], &[]);
    let ways = [
        ("/sub/chat/a?as=interval".to_owned(), with(&alice)),
        (format!("/sub/chat/a?as=interval&access_token={alice}"), String::new()),
        ("/sub/chat/a?as=interval".to_owned(), format!("Cookie: t={alice}\r\nOrigin: http://x\r\n")),
    ];
    for (target, fields) in &ways {
        status(&bench.get_with(target, fields), 304);
    }
    assert_eq!(revoke(&mut bench, &json!({"subject": "alice"})), 0);
    for (target, fields) in &ways {
        let refused = bench.get_with(target, fields);
        status(&refused, 401);
        has(&refused, &["the token was revoked"]);
    }
}

#[test]
fn a_cookie_that_expires_ends_what_it_opened_and_is_never_nobody() {
    let mut bench = Bench::new(config());
    let cookie = format!("Cookie: t={}\r\nOrigin: http://x\r\n", token("alice", NOW + 60, &["chat/**"], &[]));
    // On a channel that is open to everybody, too.
    let (socket, answer) = bench.socket("/sub/news", &cookie);
    status(&answer, 101);
    let stream = bench.connect();
    bench.send(stream, &format!("GET /sub/news?as=stream HTTP/1.1\r\nHost: x\r\n{cookie}\r\n"));
    bench.turn();
    status(&bench.heard(stream), 200);
    bench.seconds(91);
    has(&bench.heard(stream), &["\"expired\":true"]);
    has(&bench.heard(socket), &["\"expired\":true"]);
    bench.publish("news", "later", None);
    bench.turn();
    assert_eq!(bench.heard(stream) + &bench.heard(socket), "");
    status(&bench.get_with("/sub/news?as=interval", &cookie), 401);
}

#[test]
fn keys_of_subjects_and_channels_do_not_run_together() {
    let mut bench = Bench::new(config());
    let mut published = 0;
    for (subject, channel, key) in
        [("b", "wall/a", "k"), ("bb", "wall/a", "k"), ("b", "wall/a", "bk"), ("b wall", "wall/a", "k")]
    {
        let fields = with(&token(subject, NOW + 60, &[], &["**"])) + &format!("Idempotency-Key: {key}\r\n");
        let answer = bench.post_with(&format!("/pub/{channel}"), &fields, "x");
        status(&answer, 202);
        published += 1;
        assert_eq!(bench.server.broker.hub.journal.len(), published, "{subject} {channel} {key}");
    }
}

const ROOMS: [&str; 3] = ["chat/a", "chat/b", "chat/c"];

/// Somebody who listens now and then, by whatever token there is.
struct Guest {
    subject: u64,
    rooms: [bool; 3],
    /// Where to go on, and how many messages there were then.
    place: String,
    has: usize,
    /// A stream that is open, when its token ends, and when it was made.
    stream: Option<(ConnId, u64, u64)>,
}

struct Story {
    random: Random,
    bench: Bench,
    guests: Vec<Guest>,
    /// The room of each message.
    published: Vec<usize>,
    /// Subjects, and until when their tokens were taken back.
    revoked: [u64; 3],
    resumed: usize,
    refused: usize,
}

impl Story {
    fn now(&self) -> u64 {
        self.bench.world.now.unix
    }

    /// Comes, or asks once, with a token that grants some rooms and may have ended or been taken back.
    fn come(&mut self, at: usize) {
        let Guest { subject, rooms, place, has: had, stream } = &self.guests[at];
        if stream.is_some() {
            return;
        }
        let (subject, rooms, had) = (*subject, *rooms, *had);
        let (now, polls) = (self.now(), self.random.one_in(2));
        let issued = now - self.random.below(40);
        let expires = issued + self.random.below(60);
        let grants: [bool; 3] = std::array::from_fn(|_| !self.random.one_in(4));
        let names = |of: [bool; 3]| -> Vec<&str> {
            ROOMS.iter().zip(of).filter(|(_, is)| *is).map(|(name, _)| *name).collect()
        };
        let claims = json!({"sub": format!("user{subject}"), "iat": issued, "exp": expires, "jti": "1",
            "encke": {"subscribe": names(grants)}});
        let as_what = if polls { "interval&max=1000" } else { "stream" };
        let target = format!("/sub/{}?as={as_what}&after={place}", names(rooms).join(","));
        let fields = format!("Accept: application/json\r\n{}", with(&signed(&claims)));
        let id = self.bench.connect();
        self.bench.send(id, &format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
        self.bench.turn();
        let answer = self.bench.heard(id);
        let is_bad = expires + 30 <= now || issued <= self.revoked[subject as usize];
        let is_granted = (0..3).all(|room| grants[room] || !rooms[room]);
        match (is_bad, is_granted) {
            (true, _) => status(&answer, 401),
            (false, false) => status(&answer, 403),
            (false, true) => {}
        }
        if is_bad || !is_granted {
            self.refused += 1;
            assert!(!answer.contains("<message"), "{answer}");
            return;
        }
        self.resumed += usize::from(had < self.published.len());
        self.read(at, &answer);
        self.guests[at].stream = (!polls).then_some((id, expires + 30, issued));
    }

    /// All that a guest lacks has come, in order, once, and nothing else.
    fn read(&mut self, at: usize, heard: &str) {
        let guest = &mut self.guests[at];
        let lacks = (guest.has..self.published.len()).filter(|number| guest.rooms[self.published[*number]]);
        let expected: Vec<String> = lacks.map(|number| format!("<message {number}>")).collect();
        let mut rest = heard;
        for text in &expected {
            let found =
                rest.find(text.as_str()).unwrap_or_else(|| panic!("{text} is not in its place: {heard}"));
            rest = &rest[found + text.len()..];
        }
        assert_eq!(heard.matches("<message").count(), expected.len(), "{heard}");
        guest.has = self.published.len();
        // The last place that it was told: of a message, a position, the end.
        let places = ["\"id\":\"", "\"next\":\"", "Encke-Next: "].iter().filter_map(|mark| {
            let begin = heard.rfind(mark)? + mark.len();
            let end = heard[begin..].find(['"', '\r'])?;
            Some((begin, heard[begin..begin + end].to_owned()))
        });
        if let Some((_, place)) = places.max() {
            guest.place = place;
        }
    }

    /// What is open reads; what has ended says so, and where to go on.
    fn hear(&mut self) {
        for at in 0..self.guests.len() {
            let Some((id, ends, _)) = self.guests[at].stream else { continue };
            let heard = self.bench.heard(id);
            self.read(at, &heard);
            if ends <= self.now() {
                has(&heard, &["\"expired\":true,\"next\":\""]);
                self.guests[at].stream = None;
            }
        }
    }

    fn publish(&mut self) {
        // Who has ended is given nothing more.
        self.bench.turn();
        self.hear();
        let room = self.random.below(3) as usize;
        let text = format!("<message {}>", self.published.len());
        self.published.push(room);
        self.bench.publish(ROOMS[room], &text, None);
        self.bench.turn();
        self.hear();
    }

    fn revoke(&mut self) {
        self.hear();
        let subject = self.random.below(3);
        let now = self.now();
        self.revoked[subject as usize] = now;
        let open: Vec<usize> = (0..self.guests.len())
            .filter(|at| self.guests[*at].subject == subject && self.guests[*at].stream.is_some())
            .collect();
        let ended = revoke(&mut self.bench, &json!({"subject": format!("user{subject}")}));
        assert_eq!(ended, open.len() as u64);
        for at in open {
            let (id, ..) = self.guests[at].stream.take().unwrap();
            let heard = self.bench.heard(id);
            has(&heard, &["\"revoked\":true,\"next\":\""]);
            self.read(at, &heard);
        }
    }

    fn step(&mut self) {
        let at = self.random.below(self.guests.len() as u64) as usize;
        match self.random.below(10) {
            0..4 => self.publish(),
            4..7 => self.come(at),
            7 => {
                if let Some((id, ..)) = self.guests[at].stream.take() {
                    self.bench.server.reset(self.bench.world.now, id);
                }
            }
            8 if self.random.one_in(3) => self.revoke(),
            _ => {
                let seconds = self.random.below(20);
                self.bench.seconds(seconds);
                self.hear();
            }
        }
    }
}

#[test]
fn who_comes_back_with_another_token_goes_on_where_they_were() {
    let (mut resumed, mut refused) = (0, 0);
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let mut bench = Bench::new(config());
        bench.world.advance(0);
        let newest = bench.get_with("/sub/wall/x?as=interval&after=now", "Accept: application/json\r\n");
        let place = newest.split("Encke-Next: ").nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
        let guests = (0..4).map(|subject| {
            let mut rooms: [bool; 3] = std::array::from_fn(|_| random.one_in(2));
            rooms[random.below(3) as usize] = true;
            Guest { subject: subject % 3, rooms, place: place.clone(), has: 0, stream: None }
        });
        let guests = guests.collect();
        let (published, revoked) = (Vec::new(), [0; 3]);
        let mut story = Story { random, bench, guests, published, revoked, resumed: 0, refused: 0 };
        (0..120).for_each(|_| story.step());
        (resumed, refused) = (resumed + story.resumed, refused + story.refused);
    }
    // What never happens was not tried.
    assert!(resumed > 1000 && refused > 1000, "{resumed} {refused}");
}
