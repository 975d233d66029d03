//! Subscribers of latest values against what is published: a client is a table of each channel and a place.

use super::*;
use crate::config::Config;
use crate::hub::tests::hand_over;
use crate::hub::{Data, Owner, Pattern, Publication, Start};
use crate::id::{Epoch, Random};
use std::collections::BTreeMap;

const CHANNELS: [&str; 3] = ["q/a", "q/b", "r"];
const KEYS: [&str; 5] = ["A", "B", "C", "D", "E"];

/// What a client believes.
#[derive(Debug, Default)]
struct Client {
    names: Vec<&'static str>,
    pattern: Option<&'static str>,
    wish: Wish,
    /// It comes anew for each answer.
    polls: bool,
    subscriber: Option<SubscriberKey>,
    place: Option<Place>,
    /// By channel and key: the number of the value.
    table: BTreeMap<(String, String), Seq>,
    /// What this connection has given.
    given: BTreeMap<(String, String), Seq>,
    /// By channel, the last number since the last gap.
    last: BTreeMap<String, Seq>,
    /// Messages without key up to here are accounted for, by channel.
    rest: BTreeMap<String, Seq>,
    had: Vec<Seq>,
    /// When it was told something last, and whether that was more than once at that moment.
    told_at: Option<Instant>,
    /// It has not been told all of that.
    unfinished: bool,
}

struct World {
    random: Random,
    config: Config,
    hub: Hub,
    now: Instant,
    clients: Vec<Client>,
    /// The number of the newest message of each key; removed ones are not there.
    truth: BTreeMap<(String, String), Seq>,
    seen: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut config = Config::default();
        let mut pick = |values: &[u64]| values[random.below(values.len() as u64) as usize];
        config.history.messages = pick(&[1, 3, 100]) as usize;
        config.history.grace_seconds = pick(&[0, 0, 1, 10]);
        config.history.bytes = pick(&[600, 1 << 20]) as usize;
        config.history.total_bytes = pick(&[4000, 1 << 20]) as usize;
        config.history.seconds = pick(&[1, 10, 3600]);
        config.limits.keys_per_channel = pick(&[2, 10_000]) as usize;
        config.limits.keys = pick(&[3, 10_000]) as usize;
        config.limits.tombstones = pick(&[1, 3, 100]) as usize;
        config.channel_idle_seconds = pick(&[1, 30]);
        let now = Instant::from_millis(random.below(1_000_000));
        let hub = Hub::new(&config, Epoch::from_random(7), now);
        Self { random, config, hub, now, clients: Vec::new(), truth: BTreeMap::new(), seen: 0 }
    }

    fn run(&mut self) {
        for _ in 0..6 {
            let client = self.client();
            self.clients.push(client);
        }
        for _ in 0..600 {
            match self.random.below(12) {
                0..4 => self.publish(),
                4 => self.remove(),
                5 => {
                    // Deliveries are not put off, so that paces can be judged.
                    while self.hub.has_ready() {
                        self.deliver();
                    }
                    let leap = [5, 30, 600, 20_000][self.random.below(4) as usize];
                    self.now = self.now + self.random.below(leap);
                    self.tick();
                }
                6 if self.random.one_in(10) => self.delete(),
                7 => self.connect(),
                8 if self.random.one_in(4) => self.lose(),
                9 if self.random.one_in(8) => self.change_wish(),
                _ => self.deliver(),
            }
            if self.random.one_in(40) {
                hand_over(&mut self.hub, &self.config, self.now);
            }
            self.observe();
            self.hub.check();
        }
        self.end();
    }

    fn client(&mut self) -> Client {
        let mut names: Vec<_> = CHANNELS.into_iter().filter(|_| self.random.one_in(2)).collect();
        let pattern = self.random.one_in(4).then_some("q/*");
        if names.is_empty() && pattern.is_none() {
            names.push("r");
        }
        let pace = [0.0, 50.0, 2.0][self.random.below(3) as usize];
        let pace = Pace::at_most(pace).unwrap_or_default();
        let polls = pace.is_none() && self.random.one_in(3);
        let delta = !polls && self.random.one_in(2);
        Client { names, pattern, polls, wish: Wish { latest: true, pace, delta }, ..Client::default() }
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.random.below(all.len() as u64) as usize]
    }

    fn publish(&mut self) {
        let channel = self.of(&CHANNELS);
        let key = (!self.random.one_in(5)).then(|| self.of(&KEYS).into());
        let ttl_ms = self.random.one_in(6).then(|| [0, 700, 15_000][self.random.below(3) as usize]);
        let text = "x".repeat(self.random.below(200) as usize);
        let publication = Publication { key, ttl_ms, ..Publication::of(Data::Text(text.into())) };
        let admitted = self.hub.admits_key(self.hub.names.get(channel), &publication).is_ok();
        let published = self.hub.publish(self.now, channel, publication);
        assert_eq!(published.is_ok(), admitted);
    }

    fn remove(&mut self) {
        let (channel, key) = (self.of(&CHANNELS), self.of(&KEYS));
        let value = self.hub.value(self.now, channel, key).is_some();
        assert_eq!(self.hub.remove(self.now, channel, key).is_some(), value);
    }

    fn delete(&mut self) {
        let channel = self.of(&CHANNELS);
        for (Owner(owner), _) in self.hub.delete(self.now, channel, |_| true).unwrap_or_default() {
            self.clients[owner as usize].subscriber = None;
        }
        self.truth.retain(|(of, _), _| of != channel);
        // A number may have been taken.
        while self.hub.journal.len() < self.hub.seq as usize {
            let mut filler = Publication::of(Data::Text("".into()));
            filler.ttl_ms = Some(0);
            let id = MessageId { seq: self.hub.journal.len() as Seq + 1, ..self.hub.newest() };
            self.hub.journal.push(Message::new(id, "none".into(), filler, self.now));
        }
        self.seen = self.hub.journal.len();
    }

    /// Notes what was published since it was called last.
    fn observe(&mut self) {
        for message in &self.hub.journal[self.seen..] {
            let Some(key) = message.key() else { continue };
            let place = (message.channel.to_string(), key.to_owned());
            match message.is_removal() {
                true => _ = self.truth.remove(&place),
                false => _ = self.truth.insert(place, message.id.seq),
            }
        }
        self.seen = self.hub.journal.len();
    }

    fn tick(&mut self) {
        self.hub.tick_paces(self.now);
        if !self.hub.has_ready() {
            self.hub.tick(self.now);
        }
    }

    fn connect(&mut self) {
        let at = self.random.below(self.clients.len() as u64) as usize;
        if self.clients[at].subscriber.is_none() {
            self.attach(at);
        }
    }

    fn attach(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let start = client.place.map_or(Start::Snapshot, Start::At);
        let patterns =
            client.pattern.iter().map(|text| Pattern::parse(text.as_bytes()).unwrap().unwrap()).collect();
        let key = self.hub.attach_as(self.now, Owner(at as u32), &client.names, patterns, start, client.wish);
        client.subscriber = key.ok();
        client.given.clear();
        (client.told_at, client.unfinished) = (None, false);
        client.last.clear();
        if start == Start::Snapshot {
            client.table.clear();
            let newest = self.hub.seq;
            CHANNELS.iter().for_each(|channel| _ = client.rest.insert((*channel).to_owned(), newest));
        }
    }

    fn lose(&mut self) {
        let at = self.random.below(self.clients.len() as u64) as usize;
        if let Some(key) = self.clients[at].subscriber.take() {
            self.hub.detach(self.now, key);
        }
    }

    fn change_wish(&mut self) {
        let at = self.random.below(self.clients.len() as u64) as usize;
        let pace = Pace::at_most([1.0, 20.0][self.random.below(2) as usize]).unwrap();
        let client = &mut self.clients[at];
        let Some(key) = client.subscriber.filter(|_| !client.polls) else { return };
        let wish = Wish { pace, ..client.wish };
        self.hub.set_wish(self.now, key, wish);
        client.wish = wish;
        client.told_at = None;
    }

    /// Gives one subscriber some of what it lacks, as the server does.
    fn deliver(&mut self) {
        let Some(key) = self.hub.next_ready() else { return self.tick() };
        let Owner(at) = self.hub.owner(key);
        let at = at as usize;
        let max = [1, 3, 100][self.random.below(3) as usize];
        let polls = self.clients[at].polls;
        let gaps = if polls { self.hub.take_gaps_of_poll(key) } else { self.hub.take_gaps(key) };
        for gap in &gaps {
            self.clients[at].gap(gap, self.hub.seq);
        }
        let mut pulled: Vec<&Rc<Message>> = Vec::new();
        self.hub.pull(self.now, key, max, &mut pulled);
        let pulled: Vec<Rc<Message>> = pulled.into_iter().cloned().collect();
        let is_all = pulled.len() < max;
        for message in &pulled {
            if message.key().is_some() && message.id.seq != self.newest_of(message) {
                panic!("{} is superseded", message.id.seq);
            }
            let base = self.hub.base(key, message).map(|base| base.id.seq);
            self.clients[at].take(message, base);
        }
        let client = &mut self.clients[at];
        if !pulled.is_empty() && !client.wish.pace.is_none() {
            let (period, now) = (client.wish.pace.period(), self.now.as_millis());
            let slot = |told: Instant| told.as_millis() / period < now / period;
            assert!(client.unfinished || client.told_at.is_none_or(slot), "too soon: {client:?}");
            client.told_at = Some(self.now);
        }
        client.unfinished = !is_all;
        let last = pulled.last().map(|message| message.id.seq);
        if !is_all {
            self.hub.cut(key);
        }
        if let Some(last) = last {
            self.hub.advance(key, last);
            client.place = Some(if polls { self.hub.place(key) } else { self.hub.id(last).into() });
        }
        match is_all {
            true => {
                if let Some((place, id)) = self.hub.finish(self.now, key) {
                    client.place = Some(if polls { place } else { id.into() });
                }
                self.complete(at);
            }
            false => self.hub.mark(key),
        }
        if polls && (last.is_some() || !gaps.is_empty()) {
            if client_place_is_unset(&self.clients[at]) {
                self.clients[at].place = Some(self.hub.newest().into());
            }
            self.hub.detach(self.now, key);
            self.attach(at);
        }
    }

    fn newest_of(&self, message: &Message) -> Seq {
        let is_same = |other: &&Message| other.channel == message.channel && other.key() == message.key();
        self.hub.journal.iter().rev().find(is_same).map_or(0, |newest| newest.id.seq)
    }

    /// A client that has everything knows the truth.
    fn complete(&mut self, at: usize) {
        self.observe();
        let client = &mut self.clients[at];
        let wants = |channel: &str| {
            client.names.contains(&channel) || client.pattern.is_some() && channel.starts_with("q/")
        };
        let truth: BTreeMap<_, _> = self
            .truth
            .iter()
            .filter(|((channel, _), _)| wants(channel))
            .map(|(place, seq)| (place.clone(), *seq))
            .collect();
        // A value may have expired that nobody has removed yet.
        let (hub, now) = (&self.hub, self.now);
        let holds = |(channel, key): &(String, String)| hub.value(now, channel, key).is_some();
        for (place, seq) in &truth {
            assert!(
                client.table.get(place) == Some(seq) || !holds(place),
                "{place:?} is not {seq}: {client:?}"
            );
        }
        for (place, seq) in &client.table {
            let is_deleted = hub.names.get(&place.0).is_none();
            let is_expired = truth.contains_key(place) && !holds(place);
            assert!(
                truth.get(place) == Some(seq) || is_deleted || is_expired,
                "{place:?} is {seq} for it, which is gone: {client:?}"
            );
        }
        for message in &self.hub.journal {
            let seq = message.id.seq;
            let begin = client.rest.get(&*message.channel).copied().unwrap_or_default();
            let is_due =
                message.key().is_none() && seq > begin && wants(&message.channel) && !message.expired(now);
            assert!(!is_due || client.had.contains(&seq), "{seq} without key is missing: {client:?}");
        }
        let newest = self.hub.seq;
        CHANNELS.iter().for_each(|channel| _ = client.rest.insert((*channel).to_owned(), newest));
    }

    fn end(&mut self) {
        for at in 0..self.clients.len() {
            if self.clients[at].subscriber.is_none() {
                self.attach(at);
            }
        }
        for _ in 0..400 {
            self.now = self.now + 100;
            self.tick();
            self.deliver();
            self.observe();
            self.hub.check();
        }
        for at in 0..self.clients.len() {
            // Who was not delivered anything had everything already.
            if self.clients[at].subscriber.is_some() {
                self.complete(at);
            }
        }
        for at in 0..self.clients.len() {
            if let Some(key) = self.clients[at].subscriber.take() {
                self.hub.detach(self.now, key);
            }
        }
        for channel in CHANNELS {
            self.hub.delete(self.now, channel, |_| true);
        }
        self.hub.check();
        assert_eq!((self.hub.keys, self.hub.value_bytes, self.hub.history.bytes()), (0, 0, 0));
        assert!(
            self.hub.asides.is_empty() && self.hub.removals.is_empty() && self.hub.subscribers.is_empty()
        );
    }
}

fn client_place_is_unset(client: &Client) -> bool {
    client.place.is_none()
}

impl Client {
    fn gap(&mut self, gap: &Gap, newest: Seq) {
        let matches = |channel: &str| match Pattern::parse(gap.channel.as_bytes()).unwrap() {
            Some(pattern) => pattern.matches(channel),
            None => *channel == *gap.channel,
        };
        self.table.retain(|(channel, _), _| !matches(channel));
        self.last.retain(|channel, _| !matches(channel));
        for channel in CHANNELS.into_iter().filter(|channel| matches(channel)) {
            self.rest.insert(channel.to_owned(), newest);
        }
    }

    fn take(&mut self, message: &Message, base: Option<Seq>) {
        let seq = message.id.seq;
        let last = self.last.insert(message.channel.to_string(), seq).unwrap_or_default();
        assert!(seq > last, "{seq} of {} after {last}", message.channel);
        let Some(key) = message.key() else { return self.had.push(seq) };
        let place = (message.channel.to_string(), key.to_owned());
        if base.is_some() {
            assert_eq!(
                base,
                self.given.get(&place).copied(),
                "the base is what this connection gave last: {seq} {self:?}"
            );
        }
        self.given.insert(place.clone(), seq);
        match message.is_removal() {
            true => _ = self.table.remove(&place),
            false => _ = self.table.insert(place, seq),
        }
    }
}

#[test]
fn clients_with_a_table_and_a_place_know_the_truth() {
    for seed in 0..100 {
        World::new(seed).run();
    }
}

/// What is kept for patches is charged to the history, and given up when there is no room for it: values come whole then.
#[test]
fn what_is_kept_for_patches_has_a_limit() {
    let value = |number: usize| format!("{{\"n\":{number},\"text\":\"{}\"}}", "x".repeat(1000));
    for (total_bytes, has_patches) in [(1 << 20, true), (30_000, false)] {
        let mut config = Config::default();
        config.history.total_bytes = total_bytes;
        let mut now = Instant::from_millis(1000);
        let mut hub = Hub::new(&config, Epoch::from_random(7), now);
        let wish = Wish { latest: true, pace: Pace::at_most(2.0).unwrap(), delta: true };
        let key = hub.attach_as(now, Owner(0), &["q"], Vec::new(), Start::Now, wish).unwrap();
        let mut pulled = Vec::new();
        // The first comes at once, the others with the ticks; from the second of these on there are values to patch.
        for round in 0..4 {
            for number in 0..20 {
                let publication = Publication {
                    key: Some(format!("k{number}").into()),
                    ..Publication::of(Data::Json(value(100 * round + number).into()))
                };
                hub.publish(now, "q", publication).unwrap();
                hub.check();
            }
            assert_eq!(hub.base_bytes > 20_000, has_patches && round > 1, "{round}: {}", hub.base_bytes);
            now = now + 1000;
            hub.tick_paces(now);
            assert_eq!(hub.next_ready(), Some(key));
            let mut messages: Vec<&Rc<Message>> = Vec::new();
            hub.pull(now, key, 100, &mut messages);
            pulled = messages.iter().map(|message| hub.base(key, message).is_some()).collect();
            hub.advance(key, hub.seq);
            hub.finish(now, key);
            hub.tick(now);
            hub.check();
        }
        assert_eq!(pulled, [has_patches; 20]);
        hub.detach(now, key);
        hub.check();
        assert_eq!(hub.base_bytes, 0, "it goes with the last who wants patches");
    }
}

/// Who wants patches twice a second of a channel with ten keys, and what it has been given.
struct Reader {
    hub: Hub,
    now: Instant,
    key: SubscriberKey,
    given: BTreeMap<String, Seq>,
}

impl Reader {
    fn new() -> Self {
        let now = Instant::from_millis(1000);
        let hub = Hub::new(&Config::default(), Epoch::from_random(7), now);
        let wish = Wish { latest: true, pace: Pace::at_most(2.0).unwrap(), delta: true };
        let key = SubscriberKey::NONE;
        let mut reader = Self { hub, now, key, given: BTreeMap::new() };
        reader.publish(0..10);
        reader.key = reader.hub.attach_as(now, Owner(0), &["q"], Vec::new(), Start::Snapshot, wish).unwrap();
        assert_eq!(reader.deliver(100), [false; 10], "a first value is whole");
        reader
    }

    fn publish(&mut self, keys: std::ops::Range<usize>) {
        for key in keys {
            let publication = Publication {
                key: Some(format!("k{key}").into()),
                ..Publication::of(Data::Json("{}".into()))
            };
            self.hub.publish(self.now, "q", publication).unwrap();
        }
        self.hub.check();
    }

    fn tick(&mut self) {
        self.now = self.now + 500;
        self.hub.tick_paces(self.now);
    }

    /// Gives it at most `max` messages, in a turn of their own. Returns which of them have a base.
    fn deliver(&mut self, max: usize) -> Vec<bool> {
        while self.hub.next_ready().is_some() {}
        let mut pulled: Vec<&Rc<Message>> = Vec::new();
        self.hub.pull(self.now, self.key, max, &mut pulled);
        let pulled: Vec<Rc<Message>> = pulled.into_iter().cloned().collect();
        let mut have = Vec::new();
        for message in &pulled {
            let base = self.hub.base(self.key, message).map(|base| base.id.seq);
            let before = self.given.insert(message.key().unwrap().to_owned(), message.id.seq);
            assert!(base.is_none() || base == before, "{base:?} was not given, but {before:?}");
            have.push(base.is_some());
        }
        if pulled.len() == max {
            self.hub.cut(self.key);
        }
        if let Some(last) = pulled.last() {
            self.hub.advance(self.key, last.id.seq);
        }
        if pulled.len() < max {
            self.hub.finish(self.now, self.key);
        }
        self.hub.tick(self.now);
        self.hub.check();
        have
    }
}

/// A socket that takes a part of a delivery does not make the rest larger, nor the next: else it would take a part of that,
/// too, and so on for ever.
#[test]
fn who_is_given_a_part_is_given_patches_all_the_same() {
    let mut reader = Reader::new();
    reader.publish(0..10);
    reader.tick();
    assert_eq!(reader.deliver(100), [true; 10], "it has kept step");
    reader.publish(0..10);
    reader.tick();
    assert_eq!(reader.deliver(4), [true; 4], "k0 to k3");
    // One that it was given changes, and one that it was not.
    reader.publish(2..3);
    reader.publish(7..8);
    assert_eq!(reader.deliver(100), [true; 7], "k4 to k6, k8, k9, and these two");
    // It has everything, but was given the last of it at no tick.
    reader.publish(0..10);
    reader.tick();
    assert_eq!(reader.deliver(100), [true; 10], "two of ten keys had changed since the tick");
    reader.publish(0..10);
    reader.tick();
    assert_eq!(reader.deliver(100), [true; 10], "and it keeps step again");
}

#[test]
fn what_nobody_waits_for_is_not_kept_for_patches() {
    let mut reader = Reader::new();
    for is_cut in [false, true] {
        reader.publish(0..10);
        reader.tick();
        reader.deliver(if is_cut { 4 } else { 100 });
        assert_eq!(reader.hub.base_bytes > 0, is_cut);
    }
    reader.deliver(100);
    reader.tick();
    reader.publish(0..1);
    reader.tick();
    reader.deliver(100);
    assert_eq!(reader.hub.base_bytes, 0);
}

/// Its place may have been another's, who was told between two ticks of another pace.
#[test]
fn a_pace_is_kept_by_who_takes_the_place_of_another() {
    let at = Instant::from_millis;
    let mut hub = Hub::new(&Config::default(), Epoch::from_random(7), at(0));
    let attach = |hub: &mut Hub, now, rate| {
        let wish = Wish { latest: true, pace: Pace::at_most(rate).unwrap(), delta: false };
        hub.attach_as(now, Owner(0), &["q"], Vec::new(), Start::Snapshot, wish).unwrap()
    };
    let put = |hub: &mut Hub, now| {
        let publication = Publication { key: Some("k".into()), ..Publication::of(Data::Json("{}".into())) };
        hub.publish(now, "q", publication).unwrap();
    };
    let told = |hub: &mut Hub, now, key: SubscriberKey| {
        hub.tick_paces(now);
        let is_ready = hub.next_ready() == Some(key);
        if is_ready {
            hub.advance(key, hub.seq);
            hub.finish(now, key);
        }
        hub.tick(now);
        hub.check();
        is_ready
    };
    put(&mut hub, at(0));
    let gone = attach(&mut hub, at(100), 2.0);
    assert!(told(&mut hub, at(100), gone), "the first comes at once");
    hub.detach(at(450), gone);
    let key = attach(&mut hub, at(450), 5.0);
    assert_eq!(key, gone);
    assert!(told(&mut hub, at(450), key));
    put(&mut hub, at(460));
    // At 500 there is a tick of the other's pace; its own are at 600 and 800.
    assert_eq!([500, 600, 800].map(|time| told(&mut hub, at(time), key)), [false, false, true]);
    // With another pace from now on, it is told no sooner than that allows.
    put(&mut hub, at(850));
    assert_eq!([1000, 1200].map(|time| told(&mut hub, at(time), key)), [true, false]);
    put(&mut hub, at(1210));
    let wish = Wish { latest: true, pace: Pace::at_most(50.0).unwrap(), delta: false };
    hub.set_wish(at(1210), key, wish);
    assert!(told(&mut hub, at(1220), key));
}
