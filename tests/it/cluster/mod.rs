//! Several servers that share one history over a real Redis, which is killed, cut, emptied, replaced and filled under them.
//! Publishers are held to their answers, and followers, who change server with every poll, to what they saw.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Encke, data, seq, until};
use crate::redis::{Door, Redis};
use crate::store::ask;

mod clients;
mod engine;
mod faults;
mod presence;

const JSON: &[&str] = &["Accept: application/json"];

/// Starts a server that shares the history behind `url`.
pub fn node(url: &str, options: &[&str]) -> Encke {
    let options =
        [&["--engine-url", url, "--history-messages", "1000000", "--history-bytes", "100000000"], options]
            .concat();
    Encke::start(&options)
}

/// Waits until health says nothing.
pub fn well(node: &Encke) {
    until("the server is well", || (node.get("/healthz", &[]).status == 200).then_some(()));
}

/// Waits until health says something.
fn unwell(node: &Encke, why: &str) {
    until(why, || {
        let answer = node.get("/healthz", &[]);
        (answer.status == 503 && answer.text().contains(why)).then_some(())
    });
}

/// What publishers were answered and followers saw.
#[derive(Default)]
struct Book {
    /// By number: the texts that were given it.
    answered: Mutex<BTreeMap<u64, String>>,
    done: AtomicBool,
}

/// One poll of a follower.
struct Poll {
    from: u64,
    to: u64,
    gap: bool,
    messages: Vec<(u64, String)>,
}

/// Publishes until it is told to stop, each message with a key, again and again until there is an answer, on one server or
/// the other. What it has no answer to is not published a second time.
fn publish(book: &Book, nodes: [SocketAddr; 2], who: usize) {
    for number in 0.. {
        let text = format!("{who}/{number}");
        let head = format!("POST /pub/c{} HTTP/1.1\r\nIdempotency-Key: {text}", number % 3);
        for attempt in 0.. {
            if let Ok((201 | 202, body)) = ask(nodes[(who + attempt) % 2], &head, text.as_bytes()) {
                let id = serde_json::from_str::<Value>(&body).unwrap()["id"].as_str().unwrap().to_owned();
                let before = book.answered.lock().unwrap().insert(seq(&id), text.clone());
                assert!(before.is_none(), "{id} was given to {before:?} and {text}");
                break;
            }
            if book.done.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        if book.done.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Polls one server after the other, until it has seen the end.
fn follow(nodes: [SocketAddr; 2], first: &str) -> Vec<Poll> {
    let (mut next, mut polls) = (first.to_owned(), Vec::new());
    let deadline = Instant::now() + Duration::from_secs(180);
    for turn in 0.. {
        assert!(Instant::now() < deadline, "the end was never seen");
        let head =
            format!("GET /sub/c0,c1,c2?after={next}&timeout=1&max=1000 HTTP/1.1\r\nAccept: application/json");
        let Ok((200, body)) = ask(nodes[turn % 2], &head, b"") else {
            thread::sleep(Duration::from_millis(2));
            continue;
        };
        let batch: Value = serde_json::from_str(&body).unwrap();
        let ids = batch["messages"].as_array().unwrap().iter().map(|one| seq(one["id"].as_str().unwrap()));
        let messages: Vec<(u64, String)> = ids.zip(data(&batch)).collect();
        let is_end = messages.iter().any(|(_, text)| text == "end");
        let from = seq(&next);
        batch["next"].as_str().unwrap().clone_into(&mut next);
        polls.push(Poll { from, to: seq(&next), gap: batch["gap"] == true, messages });
        if is_end {
            break;
        }
    }
    polls
}

/// Two servers, each with its door to a Redis, publishers and followers.
struct Stage {
    redis: Redis,
    /// None if the way is another one.
    doors: Vec<Door>,
    nodes: [Encke; 2],
    book: Arc<Book>,
    publishers: Vec<JoinHandle<()>>,
    followers: Vec<JoinHandle<Vec<Poll>>>,
    first: u64,
}

impl Stage {
    fn set(options: &[&str]) -> Self {
        Self::around(Redis::start(options))
    }

    /// With a Redis that runs.
    fn around(redis: Redis) -> Self {
        let doors = vec![Door::to(redis.addr), Door::to(redis.addr)];
        let nodes = [node(&doors[0].url(), &[]), node(&doors[1].url(), &[])];
        Self::with(redis, doors, nodes)
    }

    /// With servers that may find it in another way.
    fn with(redis: Redis, doors: Vec<Door>, nodes: [Encke; 2]) -> Self {
        nodes.iter().for_each(well);
        let first = nodes[0].publish("c0", "first");
        let addrs = [nodes[0].addr(), nodes[1].addr()];
        let book = Arc::new(Book::default());
        let publishers = (0..4).map(|who| {
            let book = Arc::clone(&book);
            thread::spawn(move || publish(&book, addrs, who))
        });
        let publishers = publishers.collect();
        let followers = (0..2).map(|who| {
            let (first, addrs) = (first.clone(), [addrs[who], addrs[1 - who]]);
            thread::spawn(move || follow(addrs, &first))
        });
        let followers = followers.collect();
        let stage = Self { redis, doors, nodes, book, publishers, followers, first: seq(&first) };
        stage.go_on();
        stage
    }

    fn answers(&self) -> usize {
        self.book.answered.lock().unwrap().len()
    }

    /// Waits until publishers have more answers, of both servers.
    fn go_on(&self) {
        let before = self.answers();
        until("publishers have answers", || (self.answers() > before + 100).then_some(()));
    }

    /// Ends the play, and looks what everybody was told. Returns how many of the gaps that followers were told there were.
    fn end(self) -> usize {
        self.go_on();
        self.nodes.iter().for_each(well);
        self.book.done.store(true, Ordering::Relaxed);
        self.publishers.into_iter().for_each(|thread| thread.join().unwrap());
        self.nodes[0].publish("c0", "end");
        let mut gaps = 0;
        let answered = self.book.answered.lock().unwrap();
        let mut named = answered.clone();
        for follower in self.followers {
            let polls = follower.join().unwrap();
            let mut seen = BTreeMap::new();
            let mut last = self.first;
            for poll in &polls {
                gaps += usize::from(poll.gap);
                for (number, text) in &poll.messages {
                    assert!(*number > last, "{number} after {last}: in order, none twice");
                    last = *number;
                    let before = named.insert(*number, text.clone());
                    assert!(before.is_none_or(|before| before == *text), "{number} names two messages");
                    assert!(seen.insert(*number, text.clone()).is_none());
                }
            }
            for (number, text) in answered.iter().filter(|(number, _)| **number > self.first) {
                let is_told = polls.iter().any(|poll| poll.gap && poll.from < *number && *number <= poll.to);
                assert!(
                    seen.contains_key(number) || is_told,
                    "{number} ({text}) was answered, and is missing in silence"
                );
            }
        }
        let texts: std::collections::BTreeSet<&String> = answered.values().collect();
        assert_eq!(texts.len(), answered.len(), "a key was answered with two numbers");
        let histories = [0, 1].map(|node| history(&self.nodes[node]));
        assert_eq!(histories[0], histories[1], "all servers keep the same");
        gaps
    }
}

/// All ids that a server keeps.
fn history(node: &Encke) -> Vec<String> {
    let mut ids = Vec::new();
    let mut after = "oldest".to_owned();
    loop {
        let answer = node.get(&format!("/sub/c0,c1,c2?as=interval&after={after}&max=1000"), JSON);
        if answer.status == 304 {
            return ids;
        }
        let batch = answer.json();
        ids.extend(
            batch["messages"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()),
        );
        after = batch["next"].as_str().unwrap().to_owned();
    }
}

/// How often each play is given.
fn plays() -> usize {
    std::env::var("ENCKE_PLAYS").ok().and_then(|plays| plays.parse().ok()).unwrap_or(1)
}

fn play(options: &[&str], fault: impl Fn(&mut Stage)) -> usize {
    play_on(|| Stage::set(options), fault)
}

/// The same on a stage of its own kind.
fn play_on(set: impl Fn() -> Stage, fault: impl Fn(&mut Stage)) -> usize {
    let mut gaps = 0;
    for _ in 0..plays() {
        let mut stage = set();
        fault(&mut stage);
        gaps += stage.end();
    }
    gaps
}
