//! Who is there, whichever server is asked, and whichever is gone.

use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::access;
use crate::client::Client;

const WATCH: &str = "/sub/encke/presence/chat/lobby?as=stream&latest";
const LOBBY: &str = "/sub/chat/lobby?as=stream";

/// Servers whose chat has presence.
struct House {
    redis: Redis,
    folder: PathBuf,
}

impl House {
    fn new(name: &str) -> Self {
        let rules = access::CHAT.replacen("publish = ", "presence = true\npublish = ", 1);
        let folder = access::settings(name, &rules, access::KEY);
        Self { redis: Redis::start(&[]), folder }
    }

    fn server(&self) -> Encke {
        self.server_at(&self.redis.url())
    }

    fn server_at(&self, url: &str) -> Encke {
        let file = self.folder.join("encke.toml");
        let server = node(url, &["--config", file.to_str().unwrap(), "--presence-seconds", "0"]);
        well(&server);
        server
    }

    fn token(&self, subject: &str) -> String {
        let make =
            ["token", "--config", "encke.toml", "--key", "app.key", "--subscribe", "chat/*", "--subject"];
        let made = access::encke(&self.folder, &[&make[..], &[subject]].concat());
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        format!("Authorization: Bearer {}", String::from_utf8(made.stdout).unwrap().trim())
    }

    fn joins(&self, server: &Encke, subject: &str) -> Client {
        server.open(LOBBY, &[&self.token(subject)]).1
    }

    /// Who is there, as a server says: names, and by how many connections.
    fn members(&self, server: &Encke) -> Vec<(String, u64)> {
        let here = server.get("/presence/chat/lobby", &[&self.token("auditor")]).json();
        let member =
            |one: &Value| (one["id"].as_str().unwrap().to_owned(), one["connections"].as_u64().unwrap());
        let members: Vec<_> = here["members"].as_array().unwrap().iter().map(member).collect();
        assert_eq!(here["count"], members.len(), "{here}");
        members
    }

    fn shows(&self, servers: &[&Encke], expected: &[(&str, u64)]) {
        let expected: Vec<_> = expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        for server in servers {
            let mut last = Vec::new();
            let deadline = Instant::now() + crate::harness::PATIENCE;
            while last != expected {
                assert!(Instant::now() < deadline, "{last:?} are there, and not {expected:?}");
                last = self.members(server);
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The next that a watcher is told of somebody: who, and whether they are there.
fn told(watcher: &mut Client) -> (String, bool) {
    loop {
        if let Ok(line) = serde_json::from_str::<Value>(&watcher.line())
            && let Some(key) = line["key"].as_str()
        {
            return (key.to_owned(), line.get("removed").is_none());
        }
    }
}

fn here(name: &str) -> (String, bool) {
    (name.to_owned(), true)
}

fn gone(name: &str) -> (String, bool) {
    (name.to_owned(), false)
}

#[test]
fn who_comes_to_one_server_is_seen_on_all() {
    let house = House::new("presence-all");
    let (one, other) = (house.server(), house.server());
    let (_, mut watcher) = other.open(WATCH, &[&house.token("watcher")]);
    let alice = house.joins(&one, "alice");
    assert_eq!(told(&mut watcher), here("alice"));
    house.shows(&[&one, &other], &[("alice", 1)]);
    // Who comes to both is told once, and goes when the last goes.
    let again = house.joins(&other, "alice");
    house.shows(&[&one, &other], &[("alice", 2)]);
    drop(alice);
    house.shows(&[&one, &other], &[("alice", 1)]);
    let bob = house.joins(&one, "bob");
    assert_eq!(told(&mut watcher), here("bob"), "nothing else was told");
    drop(again);
    assert_eq!(told(&mut watcher), gone("alice"));
    house.shows(&[&one, &other], &[("bob", 1)]);
    // Who starts now knows who is there, and so do its clients.
    let late = house.server();
    house.shows(&[&late], &[("bob", 1)]);
    let (_, mut elsewhere) = late.open(WATCH, &[&house.token("watcher")]);
    assert_eq!(told(&mut elsewhere), here("bob"));
    drop(bob);
    for watcher in [&mut watcher, &mut elsewhere] {
        assert_eq!(told(watcher), gone("bob"));
    }
    house.shows(&[&one, &other, &late], &[]);
}

#[test]
fn a_server_that_is_killed_takes_its_members_with_it() {
    let house = House::new("presence-killed");
    let (one, other) = (house.server(), house.server());
    let (_, mut watcher) = other.open(WATCH, &[&house.token("watcher")]);
    let _alice = house.joins(&one, "alice");
    assert_eq!(told(&mut watcher), here("alice"));
    let _bob = [house.joins(&one, "bob"), house.joins(&other, "bob")];
    assert_eq!(told(&mut watcher), here("bob"));
    house.shows(&[&other], &[("alice", 1), ("bob", 2)]);
    let killed = Instant::now();
    one.signal(rustix::process::Signal::KILL);
    assert_eq!(told(&mut watcher), gone("alice"));
    println!("alice was gone after {:?}", killed.elapsed());
    house.shows(&[&other], &[("bob", 1)]);
    drop(one);
}

#[test]
fn a_server_that_is_thought_dead_and_is_not_says_so() {
    let house = House::new("presence-stopped");
    let (one, other) = (house.server(), house.server());
    let (_, mut watcher) = other.open(WATCH, &[&house.token("watcher")]);
    let _alice = house.joins(&one, "alice");
    assert_eq!(told(&mut watcher), here("alice"));
    one.signal(rustix::process::Signal::STOP);
    assert_eq!(told(&mut watcher), gone("alice"));
    one.signal(rustix::process::Signal::CONT);
    assert_eq!(told(&mut watcher), here("alice"));
    house.shows(&[&one, &other], &[("alice", 1)]);
}

#[test]
fn an_engine_that_has_lost_everything_is_told_who_is_there() {
    let mut house = House::new("presence-empty");
    let (one, other) = (house.server(), house.server());
    let _alice = house.joins(&one, "alice");
    let bob = house.joins(&other, "bob");
    house.shows(&[&one, &other], &[("alice", 1), ("bob", 1)]);
    house.redis.kill();
    drop(bob);
    let _carol = house.joins(&one, "carol");
    house.redis.wipe();
    house.redis.restart();
    [&one, &other].into_iter().for_each(well);
    house.shows(&[&one, &other], &[("alice", 1), ("carol", 1)]);
    let (_, mut watcher) = other.open(WATCH, &[&house.token("watcher")]);
    let mut table = [told(&mut watcher), told(&mut watcher)];
    table.sort();
    assert_eq!(table, [here("alice"), here("carol")]);
    // A server that starts now learns it from the others.
    let late = house.server();
    house.shows(&[&late], &[("alice", 1), ("carol", 1)]);
}

#[test]
fn while_the_engine_is_away_who_comes_and_goes_waits() {
    let house = House::new("presence-away");
    let door = Door::to(house.redis.addr);
    let (one, other) = (house.server_at(&door.url()), house.server());
    let (_, mut watcher) = other.open(WATCH, &[&house.token("watcher")]);
    let alice = house.joins(&one, "alice");
    assert_eq!(told(&mut watcher), here("alice"));
    door.lead(None);
    let _bob = house.joins(&one, "bob");
    drop(alice);
    unwell(&one, "engine: ");
    door.lead(Some(house.redis.addr));
    let mut news = [told(&mut watcher), told(&mut watcher)];
    news.sort();
    assert_eq!(news, [gone("alice"), here("bob")]);
    house.shows(&[&one, &other], &[("bob", 1)]);
}

#[test]
fn counts_without_names_are_those_of_all_servers() {
    let house = House::new("presence-counts");
    let rules = "[[channels]]\nmatch = \"hall/**\"\npresence = \"public\"\n";
    std::fs::write(house.folder.join("encke.toml"), rules).unwrap();
    let (one, other) = (house.server(), house.server());
    let mut clients: Vec<Client> =
        [&one, &one, &other].map(|server| server.open("/sub/hall/a?as=stream", &[]).1).into();
    let shows = |count: usize| {
        for server in [&one, &other] {
            until("all are counted", || {
                let told = server.get("/presence/hall/a", &[]).json();
                (told["anonymous"] == json!(count)).then_some(())
            });
        }
    };
    shows(3);
    clients.remove(0);
    shows(2);
    clients.clear();
    shows(0);
}
