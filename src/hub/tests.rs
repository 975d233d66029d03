//! The hub against its naive twin: a list of all messages, and a cursor per subscriber and channel.

mod deliveries;
mod returning;

use super::subscriber::Memberships;
use super::*;
use crate::carry::{Parcel, Resume, Unpack};
use crate::id::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

const NAMES: [&str; 5] = ["a", "b", "c/x", "c/y", "d"];
const PATTERNS: [&str; 3] = ["c/*", "**", "*"];

/// Puts another hub in the place of this one, which has nothing but what was carried over.
pub fn hand_over(hub: &mut Hub, config: &Config, now: Instant) {
    let mut parcel = Parcel::default();
    hub.pack(&mut parcel);
    let state = parcel.into_bytes();
    let mut next = Hub::new(config, hub.epoch, now);
    next.resume(&mut Unpack::new(&state)).expect("what was written can be read");
    next.journal = std::mem::take(&mut hub.journal);
    *hub = next;
}

/// What the twin knows of a message.
struct Known {
    channel: &'static str,
    published: Instant,
    expires: Instant,
    /// Before this no count takes it.
    grace: Instant,
    /// Somebody deleted it with its channel, or memory was short.
    is_taken: bool,
}

/// What the twin knows of a subscriber.
#[derive(Debug)]
struct Twin {
    key: SubscriberKey,
    names: Vec<&'static str>,
    patterns: Vec<Pattern>,
    /// What it asked for, by channel. Those that it has left are there, too.
    windows: BTreeMap<&'static str, Window>,
    had: Vec<Seq>,
    /// Gaps told: a channel or pattern, and what it had lost by then.
    told: Vec<(Rc<str>, Seq)>,
    /// It named ids of another history: for these channels and patterns it has not been told yet.
    foreign: Vec<Rc<str>>,
    /// All channels and patterns for which it ever did.
    suspected: Vec<Rc<str>>,
}

/// Which messages of a channel a subscriber asks for.
#[derive(Debug)]
struct Window {
    /// What is newer than this…
    after: Seq,
    /// …up to here, for who has left.
    until: Seq,
    /// The newest message when it asked.
    joined: Seq,
    /// Of what was there by then it asked for these alone, the oldest first.
    kept: Option<Vec<Seq>>,
    /// Everything up to here is accounted for.
    cursor: Seq,
}

impl Window {
    fn covers(&self, seq: Seq) -> bool {
        let of_kept = || self.kept.as_ref().is_none_or(|kept| kept.contains(&seq));
        seq > self.after && seq <= self.until && (seq > self.joined || of_kept())
    }
}

struct Pair {
    random: Random,
    config: Config,
    hub: Hub,
    now: Instant,
    known: Vec<Known>,
    twins: Vec<Twin>,
    /// Places of forgotten channels may be forgotten, too: gaps may be told on suspicion.
    tombstones_suffice: bool,
}

fn config(random: &mut Random) -> Config {
    let mut pick = |values: &[u64]| values[random.below(values.len() as u64) as usize];
    let mut config = Config::default();
    config.history.messages = pick(&[1, 2, 5, 100]) as usize;
    config.history.grace_seconds = pick(&[0, 0, 1, 10]);
    config.history.bytes = pick(&[1, 600, 1 << 20]) as usize;
    config.history.total_bytes = pick(&[1, 1500, 1 << 20]) as usize;
    config.history.seconds = pick(&[1, 10, 3600]);
    config.channel_idle_seconds = pick(&[1, 30]);
    config.limits.channels = pick(&[2, 100]) as usize;
    config.limits.tombstones = pick(&[1, 2, 100]) as usize;
    config
}

impl Pair {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let config = config(&mut random);
        let now = Instant::from_millis(random.below(1_000_000));
        let hub = Hub::new(&config, Epoch::from_random(7), now);
        let tombstones_suffice = config.limits.tombstones >= NAMES.len();
        Self { random, config, hub, now, known: Vec::new(), twins: Vec::new(), tombstones_suffice }
    }

    fn run(&mut self) {
        for _ in 0..300 {
            match self.random.below(16) {
                0..4 => self.publish(),
                4..6 if self.twins.len() < 8 => self.attach(),
                6 => self.detach(),
                7 if self.random.one_in(4) => self.delete(),
                10..12 => self.subscribe(),
                12 => self.unsubscribe(),
                13 if self.random.one_in(4) => self.shed(),
                8 => {
                    let leap = [10, 1000, 20_000, 4_000_000][self.random.below(4) as usize];
                    self.now = self.now + self.random.below(leap);
                }
                9 => self.tick(),
                _ => self.deliver(),
            }
            if self.random.one_in(30) {
                hand_over(&mut self.hub, &self.config, self.now);
            }
            self.hub.check();
        }
        self.end();
    }

    fn tick(&mut self) {
        self.hub.tick(self.now);
        for (_, channel) in self.hub.channels.iter() {
            // A timer may be eight milliseconds late.
            let grace_ms = self.config.history.grace_seconds * 1000;
            let may_stay = |oldest: Instant| grace_ms > 0 && oldest + grace_ms + 8 > self.now;
            let is_cut = channel.ring.len() <= self.config.history.messages;
            assert!(
                is_cut || channel.ring.oldest_published().is_some_and(may_stay),
                "the count is forgotten"
            );
        }
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.random.below(NAMES.len() as u64) as usize]
    }

    fn publish(&mut self) {
        let name = self.name();
        let ttl = self.random.one_in(3).then(|| [0, 1, 15][self.random.below(3) as usize]);
        let text = "x".repeat(self.random.below(300) as usize);
        let publication =
            Publication { ttl_ms: ttl.map(|ttl| ttl * 1000), ..Publication::of(Data::Text(text.into())) };
        let room = self.hub.info(name).is_some() || self.hub.channels.len() < self.config.limits.channels;
        let published = self.hub.publish(self.now, name, publication);
        assert_eq!(published.is_ok(), room);
        let Ok(published) = published else { return };
        let expires = ttl.map_or(Instant::NEVER, |ttl| self.now.plus_seconds(ttl));
        let history = &self.config.history;
        let grace = self.now.plus_seconds(history.grace_seconds.min(history.seconds));
        let published_at = self.now;
        self.known.push(Known { channel: name, published: published_at, expires, grace, is_taken: false });
        assert_eq!(published.id.seq, self.known.len() as Seq);
        let listening = self.twins.iter().filter(|twin| twin.wants(name)).count();
        assert_eq!(published.subscribers, listening);
        assert!(
            self.hub.gauges().bytes <= self.config.history.total_bytes || self.hub.gauges().messages == 1
        );
    }

    /// Some names and patterns; perhaps none.
    fn choose(&mut self) -> (Vec<&'static str>, Vec<Pattern>) {
        let names = NAMES.into_iter().filter(|_| self.random.one_in(3)).collect();
        let patterns = PATTERNS.into_iter().filter(|_| self.random.one_in(5));
        (names, patterns.map(|text| Pattern::parse(text.as_bytes()).unwrap().unwrap()).collect())
    }

    fn start(&mut self) -> Start {
        let newest = self.hub.newest();
        match self.random.below(7) {
            0 => Start::Now,
            1 => Start::Oldest,
            2 => Start::Last(self.random.below(4) as usize),
            3 => Start::After(MessageId { epoch: Epoch::from_random(8), seq: self.random.below(100) }),
            4 => {
                let ago = [5, 2_000, 100_000][self.random.below(3) as usize];
                Start::Since(Instant::from_millis(self.now.as_millis().saturating_sub(ago)))
            }
            _ => Start::After(MessageId { seq: self.random.below(newest.seq + 1), ..newest }),
        }
    }

    /// What somebody asks for on channel `name` who begins there now.
    fn window(&self, name: &str, start: Start) -> Window {
        let joined = self.known.len() as Seq;
        let kept = self.kept(name);
        let (after, kept) = match start {
            Start::After(id) if id.epoch == self.hub.epoch => (id.seq, None),
            Start::After(_) => (0, None),
            Start::Oldest => (0, Some(kept)),
            Start::Last(count) => (0, Some(kept[kept.len().saturating_sub(count)..].to_vec())),
            Start::Since(time) => {
                let is_since = |seq: &Seq| self.known[*seq as usize - 1].published >= time;
                (0, Some(kept.into_iter().filter(is_since).collect()))
            }
            Start::Now | Start::At(_) | Start::Snapshot => (joined, None),
        };
        Window { after, until: Seq::MAX, joined, kept, cursor: after }
    }

    fn has_room(&self, names: &[&str]) -> bool {
        let max = self.config.limits.channels;
        let new = names.iter().filter(|name| self.hub.info(name).is_none()).count();
        self.hub.channels.len() + new <= max && self.hub.silent + new <= max.div_ceil(2)
    }

    fn attach(&mut self) {
        let (names, patterns) = self.choose();
        if names.is_empty() && patterns.is_empty() {
            return;
        }
        let start = self.start();
        let mut twin = Twin {
            key: SubscriberKey::NONE,
            names,
            patterns,
            windows: BTreeMap::new(),
            had: Vec::new(),
            told: Vec::new(),
            foreign: Vec::new(),
            suspected: Vec::new(),
        };
        let wanted = NAMES.into_iter().filter(|name| twin.wants(name));
        twin.windows = wanted.map(|name| (name, self.window(name, start))).collect();
        if matches!(start, Start::After(id) if id.epoch != self.hub.epoch) {
            twin.is_foreign(&twin.names.clone(), &twin.patterns.clone());
        }
        let has_room = self.has_room(&twin.names);
        let attached = self.hub.attach(self.now, Owner(0), &twin.names, twin.patterns.clone(), start);
        assert_eq!(attached.is_ok(), has_room);
        let Ok(key) = attached else { return };
        twin.key = key;
        self.twins.push(twin);
    }

    /// Whether somebody is on the list of a channel, and has not left.
    fn listens(&self, key: SubscriberKey, name: &str) -> bool {
        let channel = self.hub.names.get(name);
        channel.is_some_and(|channel| self.hub.listens(key, channel) && !self.hub.has_left(key, channel))
    }

    /// Whether somebody has left a channel, and has not had all of it.
    fn owes(&self, key: SubscriberKey, name: &str) -> bool {
        let Some(channel) = self.hub.names.get(name) else { return false };
        let Memberships::Many(many) = &self.hub.subscribers[key].memberships else { return false };
        let has_news = many.find(channel).is_some_and(|place| many.all[place as usize].has_news());
        has_news && self.hub.has_left(key, channel)
    }

    /// Somebody asks for more.
    fn subscribe(&mut self) {
        let (names, patterns) = self.choose();
        let start = self.start();
        if self.twins.is_empty() {
            return;
        }
        let place = self.random.below(self.twins.len() as u64) as usize;
        let has_room = self.has_room(&names);
        let key = self.twins[place].key;
        let leaving = NAMES.map(|name| self.owes(key, name));
        let stays: Vec<_> = NAMES.into_iter().filter(|name| self.listens(key, name)).collect();
        let windows = NAMES.map(|name| self.window(name, start));
        let subscribed = self.hub.subscribe(self.now, key, &names, &patterns, |_| start);
        assert_eq!(subscribed.is_ok(), has_room);
        if subscribed.is_err() {
            return;
        }
        let known = &self.known;
        let twin = &mut self.twins[place];
        let wanted = NAMES.map(|name| twin.wants(name));
        let new: Vec<_> = patterns.into_iter().filter(|pattern| !twin.patterns.contains(pattern)).collect();
        if start != Start::Now {
            // Where it had left, it begins anew.
            let anew = |name: &str| names.contains(&name) || new.iter().any(|pattern| pattern.matches(name));
            let is_pattern = |of: &str| !NAMES.contains(&of);
            twin.foreign.retain(|of| stays.contains(&&**of) || is_pattern(of) || !anew(of));
        }
        if matches!(start, Start::After(id) if id.epoch != self.hub.epoch) {
            let unheard: Vec<_> = names.iter().copied().filter(|name| !twin.wants(name)).collect();
            twin.is_foreign(&unheard, &new);
            // Where its patterns ask for a channel that does not exist yet, a name is as good as new.
            twin.suspected.extend(names.iter().map(|name| Rc::from(*name)));
        }
        twin.names.extend(names.iter().filter(|name| !twin.names.contains(name)).collect::<Vec<_>>());
        twin.patterns.extend(new);
        for ((name, window), (wanted, leaving)) in
            NAMES.into_iter().zip(windows).zip(wanted.into_iter().zip(leaving))
        {
            if wanted || !twin.wants(name) {
                continue;
            }
            let of = twin.windows.get(name);
            let owes = of.is_some_and(|of| {
                let of_channel = (1..).zip(known).filter(|(_, known)| known.channel == name);
                let mut owed = of_channel.filter(|(seq, _)| *seq > of.cursor && of.covers(*seq));
                owed.any(|(seq, known)| {
                    let is_told = twin.told.iter().any(|(gap, lost)| seq <= *lost && matches(gap, name));
                    known.expires > self.now && !is_told
                })
            });
            assert!(leaving || !owes, "what {name} owes is forgotten: {twin:?}");
            match twin.windows.get_mut(name) {
                Some(window) if leaving && start == Start::Now => window.until = Seq::MAX,
                _ => {
                    // It asks for them once more.
                    twin.had.retain(|seq| known[*seq as usize - 1].channel != name);
                    twin.windows.insert(name, window);
                }
            }
        }
    }

    /// Somebody wants less; or has lost the right to it, and to what was published before.
    fn unsubscribe(&mut self) {
        let (names, patterns) = self.choose();
        if self.twins.is_empty() {
            return;
        }
        let place = self.random.below(self.twins.len() as u64) as usize;
        let twin = &mut self.twins[place];
        let wanted = NAMES.map(|name| twin.wants(name));
        let is_taken_away = self.random.one_in(3);
        match is_taken_away {
            true => self.hub.take_away(self.now, twin.key, &names, &patterns).unwrap(),
            false => self.hub.unsubscribe(self.now, twin.key, &names, &patterns).unwrap(),
        }
        let removed: Vec<_> =
            patterns.into_iter().filter(|pattern| twin.patterns.contains(pattern)).collect();
        twin.names.retain(|name| !names.contains(name));
        twin.patterns.retain(|pattern| !removed.contains(pattern));
        let newest = self.known.len() as Seq;
        let is_meant =
            |name: &str| names.contains(&name) || removed.iter().any(|pattern| pattern.matches(name));
        for (name, wanted) in NAMES.into_iter().zip(wanted).filter(|(name, _)| is_meant(name)) {
            let key = self.hub.names.get(name);
            let is_known = key.is_some_and(|key| self.hub.channels[key].spoken);
            if twin.wants(name) {
                if is_taken_away && !is_known {
                    // Its patterns ask for what comes.
                    let window =
                        Window { after: newest, until: Seq::MAX, joined: newest, kept: None, cursor: newest };
                    twin.windows.insert(name, window);
                    twin.foreign.retain(|foreign| **foreign != *name);
                }
                continue;
            }
            // Of a channel that is forgotten there is nothing to get, and who has left does not hear what it had lost.
            if is_taken_away || !is_known {
                twin.windows.remove(name);
                twin.foreign.retain(|foreign| **foreign != *name);
            } else if wanted {
                twin.windows.get_mut(name).unwrap().until = newest;
            }
        }
    }

    /// Memory is short.
    fn shed(&mut self) {
        let bytes = self.random.below(2_000) as usize;
        match self.random.one_in(2) {
            true => self.hub.shed_idle(self.now, bytes),
            false => self.hub.shed_heard(self.now, bytes, self.random.below(500) as usize),
        };
        for (seq, known) in (1..).zip(&mut self.known) {
            let key = self.hub.names.get(known.channel);
            known.is_taken |= key.is_none_or(|key| self.hub.channels[key].ring.evicted() >= seq);
        }
    }

    fn detach(&mut self) {
        if self.twins.is_empty() {
            return;
        }
        let place = self.random.below(self.twins.len() as u64) as usize;
        let twin = self.twins.swap_remove(place);
        self.hub.detach(self.now, twin.key);
    }

    fn delete(&mut self) {
        let name = self.name();
        // Patterns match what has messages.
        let spoken = self.hub.names.get(name).is_some_and(|key| self.hub.channels[key].spoken);
        let is_on = |twin: &Twin| if spoken { twin.wants(name) } else { twin.names.contains(&name) };
        let Some(ended) = self.hub.delete(self.now, name, |_| true) else {
            assert!(self.hub.info(name).is_none());
            return;
        };
        assert_eq!(ended.len(), self.twins.iter().filter(|twin| is_on(twin)).count());
        self.known.iter_mut().filter(|known| known.channel == name).for_each(|known| known.is_taken = true);
        self.twins.retain(|twin| !is_on(twin));
    }

    /// Nobody who is not ready lacks anything; when all have left, nothing stays.
    fn end(&mut self) {
        while self.hub.has_ready() {
            self.deliver();
        }
        for place in 0..self.twins.len() {
            let mut pulled: Vec<&Rc<Message>> = Vec::new();
            self.hub.pull(self.now, self.twins[place].key, 1, &mut pulled);
            assert!(pulled.is_empty());
            self.compare(place, &[], &[], 1);
        }
        while !self.twins.is_empty() {
            self.detach();
        }
        for _ in 0..3 {
            self.now = self.now.plus_seconds(4000);
            self.hub.tick(self.now);
        }
        let nothing = Gauges { channels: 0, subscribers: 0, messages: 0, bytes: 0, keys: 0, feeds: 0 };
        assert_eq!((self.hub.gauges(), self.hub.next_deadline()), (nothing, Instant::NEVER));
        assert!(self.hub.strangers.is_empty() && self.hub.patterns.is_empty());
    }
}

fn matches(pattern: &str, channel: &str) -> bool {
    match Pattern::parse(pattern.as_bytes()).unwrap() {
        Some(pattern) => pattern.matches(channel),
        None => pattern == channel,
    }
}

impl Twin {
    fn wants(&self, channel: &str) -> bool {
        self.names.contains(&channel) || self.patterns.iter().any(|pattern| pattern.matches(channel))
    }

    /// It has named an id of another history for these.
    fn is_foreign(&mut self, names: &[&str], patterns: &[Pattern]) {
        self.foreign.extend(names.iter().map(|name| Rc::from(*name)));
        self.foreign.extend(patterns.iter().map(|pattern| Rc::from(pattern.as_str())));
        self.suspected.extend(self.foreign.iter().cloned());
    }
}

#[test]
fn agrees_with_a_list_and_cursors() {
    let from_env = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    if let Some(seed) = from_env("ENCKE_SIM_SEED") {
        return Pair::new(seed).run();
    }
    for seed in 0..from_env("ENCKE_SIM_SEEDS").unwrap_or(200) {
        let pair = std::panic::catch_unwind(|| Pair::new(seed).run());
        assert!(pair.is_ok(), "seed {seed}: replay it with ENCKE_SIM_SEED={seed}");
    }
}
