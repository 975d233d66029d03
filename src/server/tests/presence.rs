//! Presence: who listens, by what anybody is told, and who may know.

use super::access::{NOW, bayeux, handshake, revoke, rule, status, token, with};
use super::bench::Bench;
use crate::config::{Config, Shows, Who};
use crate::conn::ConnId;
use crate::id::Random;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

fn config() -> Config {
    let mut config = super::access::config();
    let shown = |pattern: &str, subscribe, presence| crate::config::ChannelRule {
        presence,
        ..rule(pattern, subscribe, None)
    };
    config.channels = vec![
        shown("chat/**", Who::Token, Shows::Subjects),
        shown("hall/**", Who::Anyone, Shows::Subjects),
        shown("square/**", Who::Anyone, Shows::Everybody),
        rule("**", Who::Anyone, None),
    ];
    config
}

fn bench() -> Bench {
    Bench::new(config())
}

fn of(name: &str) -> String {
    with(&token(name, NOW + 100_000, &["chat/*"], &[]))
}

impl Bench {
    fn listen(&mut self, target: &str, fields: &str) -> ConnId {
        let id = self.connect();
        self.send(id, &format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
        self.turn();
        id
    }

    fn here(&mut self, target: &str, fields: &str) -> Value {
        let answer = self.get_with(target, fields);
        status(&answer, 200);
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    fn quit(&mut self, id: ConnId) {
        self.server.reset(self.world.now, id);
        self.turn();
    }
}

/// The messages among what a stream of JSON lines was sent.
fn messages(heard: &str) -> Vec<Value> {
    let lines = heard.lines().filter(|line| line.starts_with('{'));
    let all = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|message| message.get("id").is_some()).collect()
}

const WATCH: &str = "/sub/encke/presence/chat/lobby?as=stream&latest";

#[test]
fn who_is_here_is_a_channel_with_a_value_for_each_subject() {
    let mut bench = bench();
    let alice = bench.listen("/sub/chat/lobby?as=stream", &of("alice"));
    let watcher = bench.listen(WATCH, &of("bob"));
    let heard = bench.heard(watcher);
    let snapshot = messages(&heard);
    assert_eq!(snapshot.len(), 1, "{heard}");
    assert_eq!((&snapshot[0]["key"], &snapshot[0]["data"]), (&json!("alice"), &json!({"id": "alice"})));
    // Who looks on is not there, nor who listens by a pattern, nor a HEAD.
    bench.listen("/sub/chat/*?as=stream", &of("carol"));
    bench.says(&format!("HEAD /sub/chat/lobby?as=stream HTTP/1.1\r\nHost: x\r\n{}\r\n", of("dave")));
    let second = bench.listen("/sub/chat/lobby,news?as=sse", &of("alice"));
    assert_eq!(bench.heard(watcher), "");
    let erin = bench.listen("/sub/chat/lobby?timeout=300", &of("erin"));
    assert_eq!(messages(&bench.heard(watcher))[0]["key"], "erin");
    // A poll that comes again makes no noise.
    bench.publish("chat/lobby", "hello", None);
    bench.turn();
    bench.heard(erin);
    bench.seconds(9);
    bench.send(erin, &format!("GET /sub/chat/lobby?timeout=300 HTTP/1.1\r\nHost: x\r\n{}\r\n", of("erin")));
    bench.turn();
    bench.quit(alice);
    bench.seconds(20);
    assert!(messages(&bench.heard(watcher)).is_empty());
    bench.quit(second);
    bench.seconds(9);
    assert!(messages(&bench.heard(watcher)).is_empty());
    bench.seconds(1);
    let gone = messages(&bench.heard(watcher));
    assert_eq!((gone.len(), &gone[0]["key"], gone[0].get("data")), (1, &json!("alice"), None), "{gone:?}");
    bench.server.check(bench.world.now);
}

#[test]
fn a_poll_whose_client_has_gone_keeps_nobody() {
    let mut bench = bench();
    let watcher = bench.listen(WATCH, &of("watcher"));
    let alice = bench.listen("/sub/chat/lobby?timeout=300", &of("alice"));
    assert_eq!(messages(&bench.heard(watcher))[0]["key"], "alice");
    bench.server.hang_up(bench.world.now, alice, &mut bench.world);
    bench.turn();
    bench.seconds(9);
    assert!(messages(&bench.heard(watcher)).is_empty());
    bench.seconds(1);
    assert_eq!(messages(&bench.heard(watcher)).len(), 1);
    // It may be there all the same, and is answered.
    bench.publish("chat/lobby", "hello", None);
    bench.turn();
    assert!(bench.heard(alice).contains("hello"));
    bench.server.check(bench.world.now);
}

#[test]
fn who_may_know_who_is_here() {
    let mut bench = bench();
    let presence = |channel: &str| format!("/sub/encke/presence/{channel}?as=interval");
    status(&bench.get_with(&presence("chat/lobby"), ""), 401);
    status(&bench.get_with(&presence("chat/a/b"), &of("alice")), 403);
    status(&bench.get_with(&presence("chat/lobby"), &of("alice")), 304);
    status(&bench.get_with(&presence("chat/*"), &of("alice")), 304);
    status(&bench.get_with(&presence("**"), &of("alice")), 403);
    // Where anybody may listen, the world does not see who is there.
    status(&bench.get_with(&presence("hall/a"), ""), 403);
    status(&bench.get_with(&presence("hall/a"), &of("alice")), 304);
    status(&bench.get_with(&presence("square/a"), ""), 304);
    // Where no rule has presence, it is a channel like any other.
    status(&bench.get_with(&presence("news"), ""), 304);
    status(&bench.post_with("/pub/encke/presence/news", &with("application-token-1"), "x"), 202);
    // Nobody publishes there, nor deletes.
    let publisher = with("application-token-1");
    status(&bench.post_with("/pub/encke/presence/chat/lobby", &publisher, "x"), 403);
    let delete = format!("DELETE /pub/encke/presence/chat/lobby HTTP/1.1\r\nHost: x\r\n{publisher}\r\n");
    status(&bench.says(&delete), 403);
    // Who listens to everything is not told.
    let everything = bench.listen("/sub/**?as=stream", &publisher);
    let asked = bench.listen("/sub/encke/presence/**?as=stream", &publisher);
    bench.heard(everything);
    bench.listen("/sub/chat/lobby?as=stream", &of("alice"));
    assert!(messages(&bench.heard(everything)).is_empty());
    assert_eq!(messages(&bench.heard(asked)).len(), 1);
}

#[test]
fn the_list_of_who_is_here() {
    let mut bench = bench();
    status(&bench.get_with("/presence/news", ""), 404);
    status(&bench.get_with("/presence/chat/lobby", ""), 401);
    status(&bench.says("OPTIONS /presence/chat/lobby HTTP/1.1\r\nHost: x\r\n\r\n"), 204);
    status(&bench.post_with("/presence/chat/lobby", &of("alice"), ""), 405);
    let nobody = json!({"channel": "chat/lobby", "count": 0, "anonymous": 0, "members": []});
    assert_eq!(bench.here("/presence/chat/lobby", &of("alice")), nobody);
    for _ in 0..2 {
        bench.listen("/sub/hall/a?as=stream", &of("alice"));
        bench.listen("/sub/hall/a?as=stream", "");
    }
    let members = json!([{"id": "alice", "connections": 2}]);
    let all = json!({"channel": "hall/a", "count": 1, "anonymous": 2, "members": members});
    assert_eq!(bench.here("/presence/hall/a", &of("bob")), all);
    assert_eq!(bench.here("/presence/hall/a", &with("application-token-1")), all);
    let counts = json!({"channel": "hall/a", "count": 1, "anonymous": 2});
    assert_eq!(bench.here("/presence/hall/a?count", &of("bob")), counts);
    assert_eq!(bench.here("/presence/hall/a", ""), counts);
}

#[test]
fn sessions_and_sockets_are_there_and_the_revoked_leave_at_once() {
    let mut bench = bench();
    let watcher = bench.listen(WATCH, &of("watcher"));
    bench.heard(watcher);
    let (socket, _) = bench.socket("/sub/news", &of("alice"));
    bench.tell(socket, "{\"subscribe\":[\"chat/lobby\"]}");
    assert_eq!(messages(&bench.heard(watcher))[0]["key"], "alice");
    bench.tell(socket, "{\"unsubscribe\":[\"chat/lobby\"]}");
    bench.tell(socket, "{\"subscribe\":[\"chat/lobby\"]}");
    let session = handshake(&mut bench, &of("bob"), json!({}));
    let subscribe = json!([{"channel": "/meta/subscribe", "clientId": session["clientId"], "subscription": "/chat/lobby"}]);
    assert_eq!(bayeux(&mut bench, "", subscribe)[0]["successful"], true);
    assert_eq!(messages(&bench.heard(watcher))[0]["key"], "bob");
    bench.seconds(9);
    assert!(messages(&bench.heard(watcher)).is_empty(), "a session needs no connection");
    for (name, ended) in [("alice", 1), ("bob", 1)] {
        assert_eq!(revoke(&mut bench, &json!({"subject": name})), ended);
        bench.turn();
        let gone = messages(&bench.heard(watcher));
        assert_eq!((gone.len(), &gone[0]["key"], gone[0].get("data")), (1, &json!(name), None));
    }
    // What others are told follows the newest token.
    let named = |name: &str| {
        let claims = json!({"sub": "carol", "iat": NOW, "exp": NOW + 10_000,
            "encke": {"subscribe": ["chat/*"], "info": {"name": name}}});
        super::access::signed(&claims)
    };
    let (socket, _) = bench.socket("/sub/chat/lobby", &with(&named("C")));
    assert_eq!(messages(&bench.heard(watcher))[0]["data"]["info"], json!({"name": "C"}));
    bench.tell(socket, &format!("{{\"token\":\"{}\"}}", named("Carol")));
    bench.turn();
    assert_eq!(messages(&bench.heard(watcher))[0]["data"]["info"], json!({"name": "Carol"}));
}

#[test]
fn polls_that_do_not_wait_are_there_and_windows_of_fdajax() {
    let mut config = config();
    config.fdajax.enabled = true;
    config.fdajax.win_timeout = 5000;
    let group = crate::config::ChannelRule {
        presence: Shows::Subjects,
        ..rule("fdajax/groups/feed", Who::Token, None)
    };
    config.channels.insert(0, group);
    let mut bench = Bench::new(config);
    let watcher = bench.listen(WATCH, &of("watcher"));
    for _ in 0..5 {
        status(&bench.get_with("/sub/chat/lobby?as=interval", &of("alice")), 304);
        bench.seconds(6);
    }
    let here = bench.here("/presence/chat/lobby", &of("bob"));
    assert_eq!(here["members"], json!([{"id": "alice", "connections": 0}]));
    bench.seconds(4);
    let told: Vec<bool> = messages(&bench.heard(watcher)).iter().map(|it| it.get("data").is_some()).collect();
    assert_eq!(told, [true, false], "came once, went once");
    let token = with(&token("dave", NOW + 100_000, &["fdajax/groups/*"], &[]));
    let session = "Cookie: _session_id=abcdef0123456789abcdef0123456789\r\nOrigin: http://x\r\n";
    let window = bench.listen("/live.fdajax?cmd=wait&types=feed&win_id=7", &format!("{session}{token}"));
    let asked = "/presence/fdajax/groups/feed";
    assert_eq!(bench.here(asked, &token)["members"], json!([{"id": "dave", "connections": 1}]));
    bench.quit(window);
    assert_eq!(bench.here(asked, &token)["members"][0]["connections"], 1, "the window waits for the next");
    bench.seconds(6);
    bench.seconds(10);
    assert_eq!(bench.here(asked, &token)["count"], 0);
}

#[test]
fn who_loses_one_channel_leaves_it_at_once() {
    let mut bench = bench();
    let watcher = bench.listen(WATCH, &of("watcher"));
    bench.heard(watcher);
    let (socket, _) = bench.socket("/sub/chat/lobby,chat/other", &of("alice"));
    let session = handshake(&mut bench, &of("bob"), json!({}));
    for channel in ["/chat/lobby", "/chat/other"] {
        let subscribe =
            json!([{"channel": "/meta/subscribe", "clientId": session["clientId"], "subscription": channel}]);
        assert_eq!(bayeux(&mut bench, "", subscribe)[0]["successful"], true);
    }
    bench.heard(watcher);
    for name in ["alice", "bob"] {
        assert_eq!(revoke(&mut bench, &json!({"subject": name, "channels": ["chat/lobby"]})), 1);
        bench.turn();
        let gone = messages(&bench.heard(watcher));
        assert_eq!((gone.len(), &gone[0]["key"], gone[0].get("data")), (1, &json!(name), None));
    }
    let (lobby, other) =
        (bench.here("/presence/chat/lobby", &of("eve")), bench.here("/presence/chat/other", &of("eve")));
    assert_eq!((&lobby["count"], &other["count"]), (&json!(0), &json!(2)));
    // So does who is between two polls.
    let poll = bench.listen("/sub/chat/lobby?timeout=300", &of("carol"));
    bench.quit(poll);
    assert_eq!(messages(&bench.heard(watcher)).len(), 1);
    revoke(&mut bench, &json!({"subject": "carol"}));
    bench.turn();
    assert_eq!(messages(&bench.heard(watcher)).len(), 1);
    bench.heard(socket);
    bench.server.check(bench.world.now);
}

#[test]
fn another_process_goes_on_with_who_is_here() {
    let mut bench = bench();
    let alice = bench.listen("/sub/chat/lobby?as=stream", &of("alice"));
    let watcher = bench.listen(WATCH, &of("watcher"));
    bench.quit(alice);
    bench.heard(watcher);
    bench.seconds(5);
    bench.listen("/sub/chat/lobby?as=stream", &of("bob"));
    bench.server = crate::server::Server::adopt(config(), &bench.server.part(), bench.world.now).unwrap();
    bench.turn();
    assert_eq!(bench.here("/presence/chat/lobby?count", &of("eve"))["count"], 2);
    bench.heard(watcher);
    bench.seconds(5);
    let gone = messages(&bench.heard(watcher));
    assert_eq!((gone.len(), &gone[0]["key"], gone[0].get("data")), (1, &json!("alice"), None));
    // One that knows of no presence forgets it.
    let plain = Config { channels: vec![rule("**", Who::Anyone, None)], ..config() };
    bench.server = crate::server::Server::adopt(plain, &bench.server.part(), bench.world.now).unwrap();
    bench.turn();
    bench.seconds(10);
    assert!(bench.server.broker.presence.is_empty());
}

#[test]
fn what_the_log_refuses_is_told_later() {
    use crate::broker::{Broker, LogSettings};
    use crate::hub::{Owner, Start};
    use crate::id::{Epoch, MessageId, Seed};
    use crate::log::{Batch, Entry, LogTime, Opening, Proposal};
    use crate::time::Instant;
    let at = Instant::from_millis;
    let mut broker = Broker::new(&config(), Seed::of_number(1), at(0));
    broker.use_log(LogSettings { behind: false, staged_bytes: 1 << 20, lag_ms: 60_000, shared: None });
    let (epoch, time) = (Epoch::from_random(1), LogTime(0));
    broker.log_opened(at(0), Opening { epoch, secret: 1, next: 7, lost: 0, watermark: 0, time });
    broker.log_is_ready(at(0));
    let store = |broker: &mut Broker, ms, proposal: Proposal| {
        assert!(proposal.records.iter().all(crate::log::Record::is_passing), "on no disk");
        let own = Some(proposal.ticket);
        let entries =
            (proposal.first..).zip(proposal.records).map(|(seq, record)| Entry { seq, record }).collect();
        broker.apply(at(ms), Batch { entries, own, ..Batch::default() }, |_| false);
    };
    let names = |broker: &Broker| {
        let is_there = |name: &&str| broker.hub.value(at(0), "encke/presence/chat/lobby", name).is_some();
        ["alice", "bob"].into_iter().filter(is_there).collect::<Vec<_>>()
    };
    let note = |broker: &mut Broker, ms, owner, name: &str, is_here: bool| {
        let channels = if is_here { vec!["chat/lobby".into()] } else { Vec::new() };
        broker.presence.note(at(ms), Owner(owner), Some(&(name.into(), None)), channels);
    };
    note(&mut broker, 1, 1, "alice", true);
    note(&mut broker, 1, 2, "bob", true);
    let proposal = broker.tell_presence(at(1)).unwrap();
    store(&mut broker, 2, proposal);
    assert_eq!(names(&broker), ["alice", "bob"]);
    // One leaves, and another comes: neither is stored.
    note(&mut broker, 3, 2, "bob", false);
    broker.presence.tick(at(10_003));
    let proposal = broker.tell_presence(at(10_003)).unwrap();
    broker.refuse(at(10_004), proposal.ticket);
    broker.presence.tick(at(10_004));
    assert!(broker.tell_presence(at(10_004)).is_none());
    assert_eq!((names(&broker), broker.presence.next_deadline()), (vec!["alice", "bob"], at(11_004)));
    broker.presence.tick(at(11_004));
    let proposal = broker.tell_presence(at(11_004)).unwrap();
    store(&mut broker, 11_005, proposal);
    assert_eq!(names(&broker), ["alice"]);
    // Who saw them before that life is told of a gap.
    let before = Start::After(MessageId { epoch, seq: 3 });
    let key = broker.attach(at(11_006), Owner(9), &["encke/presence/chat/other"], before).unwrap();
    assert_eq!(broker.hub.take_gaps(key).len(), 1);
}

#[test]
fn a_crowd_that_comes_and_goes_is_bounded() {
    let mut bench = bench();
    let all = bench.listen(WATCH, &of("watcher"));
    let paced = bench.listen(&format!("{WATCH}&rate=1"), &of("watcher"));
    bench.heard(all);
    bench.heard(paced);
    let writes = |bench: &mut Bench, id| bench.world.socket(id).writes;
    let (before_all, before_paced) = (writes(&mut bench, all), writes(&mut bench, paced));
    let published = bench.server.stats().messages_published;
    let mut crowd = Vec::new();
    for number in 0..1000 {
        crowd.push(bench.listen("/sub/chat/lobby?as=stream", &of(&format!("user{number}"))));
        if number % 200 == 199 {
            bench.seconds(1);
        }
    }
    for (number, id) in crowd.into_iter().enumerate() {
        bench.quit(id);
        if number % 250 == 249 {
            bench.seconds(1);
        }
    }
    bench.seconds(5);
    assert_eq!(
        bench.server.stats().messages_published - published,
        1000,
        "joins only, until ten seconds have passed"
    );
    for _ in 0..10 {
        bench.seconds(1);
    }
    let count = bench.server.stats().messages_published - published;
    assert_eq!(count, 2000, "one message for each who came, one for each who went");
    let (all, paced) = (writes(&mut bench, all) - before_all, writes(&mut bench, paced) - before_paced);
    println!(
        "a crowd of 1,000: {count} messages; writes to who wants all: {all}, to who wants one a second: {paced}"
    );
    assert!(paced <= 40, "{paced} writes");
    bench.server.check(bench.world.now);
    // A crowd that is too large is counted.
    let mut config = config();
    config.limits.presence_members = 10;
    let mut bench = Bench::new(config);
    let watcher = bench.listen("/sub/encke/presence/chat/lobby?as=stream", &of("watcher"));
    bench.heard(watcher);
    for number in 0..500 {
        bench.listen("/sub/chat/lobby?as=stream", &of(&format!("user{number}")));
    }
    for _ in 0..3 {
        bench.seconds(1);
    }
    let told = messages(&bench.heard(watcher));
    assert_eq!(told.len(), 12, "{told:?}");
    assert_eq!(told[11]["data"], json!({"count": 500, "anonymous": 0}));
}

const NAMES: [&str; 5] = ["ann", "ben", "cat", "dan", "eve"];

/// A seed decides who comes, by what, who leaves, and when; the truth is kept beside.
struct Story {
    random: Random,
    bench: Bench,
    /// Who is connected, by what.
    guests: Vec<(ConnId, usize)>,
    /// When each was last there.
    left: BTreeMap<usize, u64>,
    /// Watchers, the tables that they have made of what they were told, and whether they are told at a pace.
    watchers: Vec<(ConnId, BTreeSet<String>, bool)>,
}

impl Story {
    fn ms(&self) -> u64 {
        self.bench.world.now.at.as_millis()
    }

    fn step(&mut self) {
        match self.random.below(10) {
            0..4 => {
                let who = self.random.below(NAMES.len() as u64) as usize;
                let target = match self.random.below(3) {
                    0 => "/sub/chat/lobby?as=stream",
                    1 => "/sub/chat/lobby,news?as=sse",
                    _ => "/sub/chat/lobby?timeout=300",
                };
                let id = self.bench.listen(target, &of(NAMES[who]));
                self.guests.push((id, who));
            }
            4..7 if !self.guests.is_empty() => {
                let at = self.random.below(self.guests.len() as u64) as usize;
                let (id, who) = self.guests.swap_remove(at);
                self.bench.quit(id);
                self.left.insert(who, self.ms());
            }
            7 if self.watchers.len() < 4 => {
                let is_paced = self.random.one_in(2);
                let query = if is_paced { "&rate=2" } else { "" };
                let id = self.bench.listen(&format!("{WATCH}{query}"), &of("watcher"));
                self.watchers.push((id, BTreeSet::new(), is_paced));
            }
            _ => {
                let ms = self.random.below(6000);
                self.bench.world.advance(ms);
                self.bench.turn();
            }
        }
        self.bench.server.check(self.bench.world.now);
    }

    /// Who is there, as it is to be told at that time.
    fn truth(&self, ms: u64) -> BTreeSet<String> {
        let is_here = |who: &usize| self.guests.iter().any(|(_, guest)| guest == who);
        let lingers = |who: &usize| self.left.get(who).is_some_and(|left| ms < left + 10_000);
        (0..NAMES.len()).filter(|who| is_here(who) || lingers(who)).map(|who| NAMES[who].to_owned()).collect()
    }

    /// What all watchers know is what is so; what is paced may come half a second later.
    fn look(&mut self) {
        for _ in 0..10 {
            self.bench.world.advance(100);
            self.bench.turn();
        }
        let (now, before) = (self.truth(self.ms()), self.truth(self.ms() - 600));
        for (id, table, is_paced) in &mut self.watchers {
            for message in messages(&self.bench.heard(*id)) {
                let key = message["key"].as_str().unwrap().to_owned();
                match message.get("data") {
                    Some(data) => {
                        assert_eq!(data["id"], *key);
                        table.insert(key);
                    }
                    None => _ = table.remove(&key),
                }
            }
            match is_paced {
                true => assert!(table.is_superset(&now) && table.is_subset(&before), "{table:?} {now:?}"),
                false => assert_eq!(*table, now),
            }
        }
    }
}

#[test]
fn whoever_looks_on_knows_who_is_here() {
    for seed in 0..60 {
        let (guests, left, watchers) = (Vec::new(), BTreeMap::new(), Vec::new());
        let mut story = Story { random: Random::new(seed), bench: bench(), guests, left, watchers };
        for _ in 0..12 {
            for _ in 0..8 {
                story.step();
            }
            story.look();
        }
        for (id, _) in std::mem::take(&mut story.guests) {
            story.bench.quit(id);
        }
        for (id, ..) in std::mem::take(&mut story.watchers) {
            story.bench.quit(id);
        }
        story.bench.seconds(10);
        assert!(story.bench.server.broker.presence.is_empty(), "seed {seed}");
    }
}

#[test]
fn presence_comes_and_goes_with_a_reload() {
    let without = || Config { channels: vec![rule("**", Who::Anyone, None)], ..config() };
    let mut bench = Bench::new(without());
    bench.listen("/sub/hall/a?as=stream", &of("alice"));
    bench.server.reconfigure(config());
    bench.turn();
    let publisher = with("application-token-1");
    assert_eq!(bench.here("/presence/hall/a?count", "")["count"], 1);
    let watcher = bench.listen("/sub/encke/presence/hall/a?as=stream&latest", &publisher);
    assert_eq!(messages(&bench.heard(watcher)).len(), 1);
    bench.server.reconfigure(without());
    bench.turn();
    status(&bench.get_with("/presence/hall/a", ""), 404);
    bench.seconds(10);
    assert!(bench.server.broker.presence.is_empty());
    assert_eq!(messages(&bench.heard(watcher))[0].get("data"), None);
}
