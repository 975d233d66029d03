//! Clients of several channels that begin with the oldest messages, or the last so many, in answers of any size, or by streams
//! that are cut in the midst of them: each channel brings what was asked of it, and a gap is told exactly when something of
//! that is lost, and once.

use super::bench::Bench;
use crate::config::Config;
use crate::id::Random;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const CHANNELS: [&str; 4] = ["a", "b", "p/1", "p/2"];

const POLLS: [&str; 3] = ["poll", "interval", "jsonp&callback=f"];
const TECHNIQUES: [&str; 8] =
    ["poll", "interval", "jsonp&callback=f", "sse", "sse-envelope", "stream", "iframe", "multipart"];

/// A client, and what is owed to it.
struct Client {
    target: &'static str,
    max: u64,
    technique: &'static str,
    next: String,
    owed: BTreeSet<u64>,
    got: Vec<u64>,
    gaps: usize,
}

struct World {
    random: Random,
    bench: Bench,
    keep: usize,
    /// By channel, all that was published.
    all: BTreeMap<&'static str, Vec<u64>>,
    newest: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut config = Config::default();
        let keep = [3, 10, 100][random.below(3) as usize];
        (config.history.messages, config.history.grace_seconds) = (keep, 0);
        Self { random, bench: Bench::new(config), keep, all: BTreeMap::new(), newest: 0 }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.below(from.len() as u64) as usize]
    }

    fn publish(&mut self, count: u64) {
        // One channel is busier than another.
        let busy = self.pick(&CHANNELS);
        for _ in 0..count {
            let channel = if self.random.one_in(4) { self.pick(&CHANNELS) } else { busy };
            self.bench.publish(channel, "x", None);
            self.bench.turn();
            self.newest += 1;
            self.all.entry(channel).or_default().push(self.newest);
        }
    }

    fn kept(&self, channel: &str) -> &[u64] {
        let all = self.all.get(channel).map_or(&[][..], Vec::as_slice);
        &all[all.len().saturating_sub(self.keep)..]
    }

    fn begin(&mut self) -> Client {
        let target = self.pick(&["a,b", "a,b,p/1,p/2", "p/*", "*,p/*", "a,p/**"]);
        let last = self.pick(&[0, 1, 2, 5, 50]);
        let mut owed = BTreeSet::new();
        for channel in CHANNELS.iter().filter(|channel| reaches(target, channel)) {
            let kept = self.kept(channel);
            let count = if last == 0 { kept.len() } else { last };
            owed.extend(&kept[kept.len().saturating_sub(count)..]);
        }
        Client {
            target,
            max: self.pick(&[1, 2, 3, 7, 1000]),
            technique: self.pick(&TECHNIQUES),
            next: if last == 0 { "oldest".into() } else { format!("-{last}") },
            owed,
            got: Vec::new(),
            gaps: 0,
        }
    }

    /// Asks once. Returns whether anything came.
    fn ask(&mut self, client: &mut Client) -> bool {
        if !POLLS.contains(&client.technique) {
            return self.stream(client);
        }
        let Client { target, max, technique, next, .. } = client;
        let request =
            format!("GET /sub/{target}?as={technique}&max={max}&after={next} HTTP/1.1\r\nHost: x\r\n");
        let (id, answer) = self.bench.client(&format!("{request}Accept: application/json\r\n\r\n"));
        let now = self.bench.world.now;
        self.bench.server.hang_up(now, id, &mut self.bench.world);
        self.bench.turn();
        let Some((head, body)) = answer.split_once("\r\n\r\n").filter(|_| answer.contains(" 200 ")) else {
            return false;
        };
        let place = head.split("Encke-Next: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap();
        assert!(place.len() <= 40, "{place}");
        let (messages, is_gap): (Value, bool) = match body.split_once("f(") {
            Some((_, script)) => {
                let script = script.rsplit_once(')').unwrap().0;
                let all: Vec<Value> = serde_json::from_str(&format!("[{script}]")).unwrap();
                (all[0].clone(), all.len() > 2)
            }
            None => {
                let batch: Value = serde_json::from_str(body).unwrap();
                (batch["messages"].clone(), batch["gap"] == true)
            }
        };
        place.clone_into(&mut client.next);
        client.gaps += usize::from(is_gap);
        let messages = messages.as_array().unwrap();
        assert!(messages.len() as u64 <= client.max);
        for message in messages {
            let id = message["id"].as_str().unwrap();
            client.got.push(id.split_once(':').unwrap().1.parse().unwrap());
        }
        !messages.is_empty()
    }
}

/// What a stream tells.
#[derive(Debug)]
enum Told {
    Message(u64),
    Place(String),
    Gap,
}

impl World {
    /// Reads a stream, which is cut somewhere: what stands half there is not heard of, nor is a gap without what follows it.
    /// Returns whether anything came.
    fn stream(&mut self, client: &mut Client) -> bool {
        let Client { target, technique, next, .. } = client;
        // In the midst of a write, or between two of them.
        let id = self.bench.connect();
        let request =
            format!("GET /sub/{target}?as={technique}&callback=f&after={next} HTTP/1.0\r\nHost: x\r\n\r\n");
        self.bench.send(id, &request);
        let capacity = self.pick(&[1000, 3000, 1 << 30]);
        self.bench.world.socket(id).capacity = capacity;
        self.bench.turn();
        let mut text = self.bench.read_text(id);
        for _ in 0..self.random.below(4) {
            self.bench.turn();
            text += &self.bench.read_text(id);
        }
        let now = self.bench.world.now;
        self.bench.world.socket(id).broken = true;
        self.bench.server.reset(now, id);
        self.bench.turn();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { panic!("the head comes first: {text}") };
        let place = head.split("Encke-Next: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap();
        let epoch = place.split(':').next().unwrap();
        place.clone_into(&mut client.next);
        let told = told(technique, body);
        let mut groups: Vec<Vec<Told>> = Vec::new();
        for item in told {
            let is_new = match (&item, groups.last().and_then(|group| group.last())) {
                (_, None) => true,
                (Told::Place(_), _) => false,
                (_, Some(Told::Gap)) => false,
                _ => true,
            };
            if is_new {
                groups.push(Vec::new());
            }
            groups.last_mut().unwrap().push(item);
        }
        let has_any = groups.iter().flatten().any(|item| matches!(item, Told::Message(_)));
        // The last of them may stand half there.
        let is_cut = has_any || capacity < 1 << 30;
        let count = if has_any { self.random.below(groups.len() as u64 + 1) as usize } else { groups.len() };
        if !has_any && is_cut {
            return true;
        }
        let is_whole = groups.len() == count;
        let last = groups.get(count.wrapping_sub(1)).map_or(0, Vec::len);
        if is_whole
            && last > 0
            && matches!(groups[count - 1].last(), Some(Told::Message(_)))
            && capacity < 1 << 30
        {
            groups.pop();
        }
        for item in groups.into_iter().take(count).flatten() {
            match item {
                Told::Message(seq) => {
                    client.got.push(seq);
                    client.next = format!("{epoch}:{seq}");
                }
                Told::Place(place) => client.next = place,
                Told::Gap => client.gaps += 1,
            }
        }
        is_cut
    }
}

/// What is told in a stream, as far as it stands there whole.
fn told(technique: &str, body: &str) -> Vec<Told> {
    let read = |object: &str| {
        let value: Value = serde_json::from_str(object).unwrap();
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        match (text("id"), text("next")) {
            _ if value.get("gap").is_some() => Some(Told::Gap),
            (Some(id), _) => Some(Told::Message(number(&id))),
            (None, next) => next.map(Told::Place),
        }
    };
    let whole = |end: &str| body.rsplit_once(end).map_or("", |(whole, _)| whole).to_owned();
    match technique {
        "stream" => whole("\n").lines().filter(|line| !line.is_empty()).filter_map(read).collect(),
        "iframe" => {
            let whole = whole("\n");
            let calls =
                whole.lines().filter_map(|line| line.strip_prefix("<script>e(")?.strip_suffix(")</script>"));
            calls.filter_map(read).collect()
        }
        "multipart" => {
            let mut all = Vec::new();
            for part in whole("--encke-5f0c1e9a7d3b4826\r\n").split("--encke-5f0c1e9a7d3b4826\r\n") {
                let Some((head, body)) = part.split_once("\r\n\r\n") else { continue };
                match head.split("Encke-Id: ").nth(1) {
                    Some(id) => all.push(Told::Message(number(id.split("\r\n").next().unwrap()))),
                    None => all.extend(read(body.trim_end())),
                }
            }
            all
        }
        _ => {
            let mut all = Vec::new();
            for block in whole("\n\n").split("\n\n") {
                let field =
                    |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let (id, data) = (field("id: "), field("data: "));
                match (field("event: ").as_deref(), id, data) {
                    (Some("encke.gap"), ..) => all.push(Told::Gap),
                    (Some("encke.open"), Some(id), _) | (None, Some(id), None) => all.push(Told::Place(id)),
                    (None, _, Some(data)) if technique == "sse-envelope" => all.extend(read(&data)),
                    (None, Some(id), Some(_)) => all.push(Told::Message(number(&id))),
                    other => panic!("{other:?}"),
                }
            }
            all
        }
    }
}

fn number(id: &str) -> u64 {
    id.split_once(':').unwrap().1.parse().unwrap()
}

fn reaches(target: &str, channel: &str) -> bool {
    target.split(',').any(|item| match item {
        "*" => !channel.contains('/'),
        "p/*" | "p/**" => channel.starts_with("p/"),
        name => name == channel,
    })
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    let count = world.random.below(60);
    world.publish(count);
    for _ in 0..6 {
        let mut client = world.begin();
        for round in 0.. {
            let before = world.newest;
            if world.ask(&mut client) {
                if round < 30 && world.random.one_in(6) {
                    let count = 1 + world.random.below(12);
                    world.publish(count);
                }
            } else {
                break;
            }
            for channel in CHANNELS.iter().filter(|channel| reaches(client.target, channel)) {
                client.owed.extend(world.all.get(channel).into_iter().flatten().filter(|&&seq| seq > before));
            }
        }
        let Client { target, max, technique, owed, got, gaps, .. } = client;
        assert!(got.is_sorted(), "{seed}: {got:?}");
        let is_all = owed.iter().eq(&got);
        let is_owed = got.iter().all(|seq| owed.contains(seq));
        assert!(is_owed, "{seed}: {target} by {technique} and {max} is given {got:?} of {owed:?}");
        assert_eq!(gaps == 0, is_all, "{seed}: {target} by {technique} and {max}, {got:?} of {owed:?}");
        // Each of them tells of something that no other has told.
        assert!(
            gaps <= owed.len() - got.len(),
            "{seed}: {target} by {technique}: {gaps} gaps, {got:?} of {owed:?}"
        );
    }
}

#[test]
fn each_channel_brings_what_was_asked_of_it() {
    let seeds = std::env::var("ENCKE_SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    (0..seeds).for_each(run);
}

/// What another server has told of, or an earlier life of this one, is an id and no more: in doubt, a gap is told.
#[test]
fn a_place_of_somebody_else_is_its_id() {
    let mut config = Config::default();
    (config.history.messages, config.history.grace_seconds) = (3, 0);
    let mut world = World { bench: Bench::new(config), ..World::new(2) };
    for channel in ["a", "a", "b", "b", "b", "b", "b"] {
        world.bench.publish(channel, "x", None);
        world.bench.turn();
    }
    let mut client =
        Client { target: "a,b", max: 1, technique: "interval", next: "oldest".into(), ..world.begin() };
    assert!(world.ask(&mut client) && client.gaps == 0);
    let (ours, moment) = client.next.rsplit_once('~').unwrap();
    let foreign = format!("{ours}~{}", if moment.starts_with('1') { "2" } else { "1" });
    let own = client.next.clone();
    assert!(world.ask(&mut client) && client.gaps == 0, "{own}");
    client.next = foreign;
    assert!(world.ask(&mut client) && client.gaps == 1);
    // Neither is one beyond what there is.
    client.next = own.replacen('~', "~99", 1);
    assert!(world.ask(&mut client) && client.gaps == 2);
}

/// A large message is shared by all who get it alone, but for the place behind it.
#[test]
fn a_place_is_told_with_a_large_message_too() {
    let mut config = Config::default();
    (config.history.messages, config.history.grace_seconds) = (3, 0);
    let mut bench = Bench::new(config);
    let large = "x".repeat(100 << 10);
    for (channel, text) in [("b", &*large), ("a", "1"), ("a", "2"), ("a", "3"), ("a", "4")] {
        bench.publish(channel, text, None);
        bench.turn();
    }
    let request = "GET /sub/a,b?max=1&after=oldest HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n";
    let (_, answer) = bench.client(request);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let place = head.split("Encke-Next: ").nth(1).unwrap().split("\r\n").next().unwrap();
    assert!(place.matches('~').count() == 3, "{head}");
    let batch: Value = serde_json::from_str(body).unwrap();
    assert_eq!((batch["next"].as_str(), batch["messages"][0]["channel"].as_str()), (Some(place), Some("b")));
}

#[test]
fn what_a_channel_lost_before_somebody_began_is_no_loss_when_it_comes_back() {
    let mut bench = Bench::new(Config::default());
    for channel in ["a", "b", "a", "d"] {
        bench.publish(channel, "x", None);
        bench.turn();
    }
    bench.client("DELETE /pub/d HTTP/1.1\r\nHost: x\r\n\r\n");
    let (id, text) = bench.client("GET /sub/**?as=stream&after=-3 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(text.matches("\"data\"").count(), 3, "{text}");
    bench.publish("d", "again", None);
    bench.turn();
    let text = bench.read(id);
    assert!(text.contains("again") && !text.contains("gap"), "{text}");
}
