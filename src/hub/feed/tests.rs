//! Feeds against a naive twin: who must get which update, once, in one order; nothing private to who may not see it.

use super::*;
use crate::config::{Config, History};
use crate::hub::subscriber::Memberships;
use crate::hub::{
    ASKED_MAX, COMPARED_MAX, COMPARED_OF_ONE_MAX, Data, HubError, Owner, Publication, Selector, Start,
    TEMPLATE_BYTES_MAX, Update,
};
use crate::id::{Epoch, Random, Seq};
use crate::time::Instant;

const NOW: Instant = Instant::from_millis(1 << 40);
const TOPICS: [&str; 9] =
    ["a", "b", "/b/1", "/b/2", "/b/1/2", "https://e/1", "https://e/2", "secret/1", "{x}"];
const SELECTORS: [&str; 10] =
    ["*", "a", "b", "/b/1", "/b/{id}", "https://e/{id}", "{+x}", "{x}", "secret/{x}", "/b{/x*}"];

/// A subscriber and what it has got.
struct Reader {
    key: SubscriberKey,
    selection: Selection,
    /// It must get what is newer, and all of it unless it is told of a gap.
    from: Seq,
    got: Vec<Seq>,
    gaps: usize,
}

struct World {
    hub: Hub,
    random: Random,
    readers: Vec<Reader>,
    now: Instant,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let messages = [3, 20, 5000][random.below(3) as usize];
        let history = History { messages, grace_seconds: 0, bytes: 1 << 20, ..History::default() };
        let mut config = Config { history, ..Config::default() };
        config.limits.channels_per_pattern = [2, 100][random.below(2) as usize];
        let mut hub = Hub::new(&config, Epoch::from_random(1), NOW);
        hub.serve_selections(vec![("secret/*".into(), false)]);
        Self { hub, random, readers: Vec::new(), now: NOW }
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.random.below(from.len() as u64) as usize]
    }

    fn publish(&mut self) {
        let count = if self.random.one_in(3) { 1 + self.random.below(3) } else { 1 };
        let mut topics: Vec<Box<str>> = (0..count).map(|_| self.pick(&TOPICS).into()).collect();
        topics.dedup();
        let private = self.random.one_in(3);
        let data = Data::Text("x".into());
        let publication = match topics.len() == 1 && !private {
            true => Publication::of(data),
            false => {
                let update = Update { topics: topics.clone(), private, ..Update::default() };
                Publication { update: Some(Box::new(update)), ..Publication::of(data) }
            }
        };
        let name = publication.update.as_ref().map_or_else(|| topics[0].to_string(), |it| it.channel());
        self.hub.publish(self.now, &name, publication).unwrap();
    }

    fn attach(&mut self) {
        let mut draw = |most: u64, least: u64| -> Vec<Selector> {
            let count = least + self.random.below(most);
            (0..count)
                .map(|_| SELECTORS[self.random.below(SELECTORS.len() as u64) as usize])
                .map(Selector::templated)
                .collect()
        };
        let (selectors, sight) = (draw(3, 1), draw(3, 0));
        let sight = if self.random.one_in(2) { sight } else { Vec::new() };
        let selection = Selection::new(selectors, sight.into());
        let newest = self.hub.seq;
        let (start, from) = match self.random.below(3) {
            0 => (Start::Now, newest),
            1 => (Start::Oldest, 0),
            _ => {
                let after = self.random.below(newest + 1);
                (Start::After(self.hub.id(after)), after)
            }
        };
        let owner = Owner(self.readers.len() as u32);
        let key = self.hub.attach_selection(owner, Rc::new(selection.clone()), start).unwrap().0;
        self.readers.push(Reader { key, selection, from, got: Vec::new(), gaps: 0 });
    }

    /// Lets a subscriber take some of what it lacks.
    fn read(&mut self, at: usize) {
        let most = 1 + self.random.below(5) as usize;
        let Reader { key, .. } = self.readers[at];
        let gaps = self.hub.take_gaps_for(self.now, key, most);
        self.readers[at].gaps += gaps.len();
        let mut pulled: Vec<&Rc<Message>> = Vec::new();
        self.hub.pull(self.now, key, most, &mut pulled);
        let seqs: Vec<Seq> = pulled.iter().map(|message| message.id.seq).collect();
        let walked = self.hub.walked();
        let last = seqs.last().copied().max(walked);
        self.readers[at].got.extend(&seqs);
        if let Some(last) = last.filter(|last| *last > self.hub.position(key).seq) {
            self.hub.advance(key, last);
        }
        if walked.is_some() || seqs.len() == most {
            self.hub.mark(key);
        }
    }

    fn deliver(&mut self, all: bool) {
        while let Some(key) = self.hub.next_ready() {
            let at = self.readers.iter().position(|reader| reader.key == key).unwrap();
            self.read(at);
            if !all && self.random.one_in(3) {
                return;
            }
        }
        self.hub.tick(self.now);
    }

    fn must_get(&self, reader: &Reader) -> Vec<Seq> {
        let is_for = |message: &&Message| {
            let update = message.publication.update.as_deref();
            let topics: Vec<&str> = match update {
                Some(update) => update.topics.iter().map(|topic| &**topic).collect(),
                None => vec![&*message.channel],
            };
            let shown = |topic: &str| !topic.starts_with("secret/") || reader.selection.names(topic);
            let selects = |topic: &&str| {
                shown(topic) && reader.selection.selectors().iter().any(|selector| selector.matches(topic))
            };
            let granted = |topic: &&str| reader.selection.grants(topic);
            message.id.seq > reader.from
                && topics.iter().any(selects)
                && (!update.is_some_and(|update| update.private) || topics.iter().any(granted))
        };
        self.hub.journal.iter().filter(is_for).map(|message| message.id.seq).collect()
    }

    fn judge(&self, seed: u64) {
        for reader in &self.readers {
            let must = self.must_get(reader);
            assert!(reader.got.windows(2).all(|pair| pair[0] < pair[1]), "{seed}: {:?}", reader.got);
            assert!(reader.got.iter().all(|seq| must.contains(seq)), "{seed}: what is not for it");
            let is_all = must.iter().all(|seq| reader.got.contains(seq));
            assert!(
                is_all || reader.gaps > 0 || reader.from == 0,
                "{seed}: lost in silence {:?}",
                reader.selection
            );
            if is_all && self.hub.counts.messages_evicted == 0 {
                assert_eq!(reader.gaps, 0, "{seed}: a gap where nothing was lost");
            }
        }
    }
}

#[test]
fn everybody_gets_what_is_for_them() {
    let seeds = std::env::var("SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    for seed in 0..seeds {
        let mut world = World::new(seed);
        for _ in 0..120 {
            match world.random.below(10) {
                0..=4 => world.publish(),
                5 | 6 if world.readers.len() < 12 => world.attach(),
                7 => world.deliver(false),
                8 if world.random.one_in(3) => world.now = world.now + 10,
                9 if !world.readers.is_empty() && world.random.one_in(2) => {
                    let at = world.random.below(world.readers.len() as u64) as usize;
                    let gone = world.readers.swap_remove(at);
                    world.hub.detach(world.now, gone.key);
                }
                _ => world.deliver(true),
            }
            world.hub.check();
        }
        world.deliver(true);
        world.judge(seed);
        for reader in std::mem::take(&mut world.readers) {
            world.hub.detach(world.now, reader.key);
        }
        world.hub.tick(world.now);
        world.hub.check();
        assert_eq!((world.hub.feeds.known.len(), world.hub.shares.bytes()), (0, 0));
        assert!(world.hub.feeds.asks_nothing());
    }
}

/// A hub in which `payer` may have that much.
fn bounded(each: usize) -> Hub {
    let mut config = Config::default();
    config.limits.memory_per_address = each;
    let mut hub = Hub::new(&config, Epoch::from_random(1), NOW);
    hub.serve_selections(Vec::new());
    hub.pays(Payer(7));
    hub
}

fn selection(texts: &[&str]) -> Rc<Selection> {
    let selectors = texts.iter().map(|text| Selector::templated(text)).collect();
    Rc::new(Selection::new(selectors, Rc::default()))
}

fn listen(hub: &mut Hub, texts: &[&str], start: Start) -> Result<SubscriberKey, HubError> {
    Ok(hub.attach_selection(Owner(1), selection(texts), start)?.0)
}

fn say(hub: &mut Hub, topic: &str) -> Seq {
    hub.publish(NOW, topic, Publication::of(Data::Text("x".into()))).unwrap().id.seq
}

#[test]
fn selections_are_of_the_share_of_who_opens_them() {
    let mut hub = bounded(20_000);
    let topic = |number: usize| format!("{number}{}", "t".repeat(2000));
    let mut keys = Vec::new();
    let refused = loop {
        let (one, other) = (topic(2 * keys.len()), topic(2 * keys.len() + 1));
        match listen(&mut hub, &[&one, &other], Start::Now) {
            Ok(key) => keys.push(key),
            Err(error) => break error,
        }
        hub.check();
    };
    assert_eq!(refused, HubError::ShareExceeded);
    assert_eq!(keys.len(), 4, "each takes some 4600 bytes");
    // Somebody else has a share of his own, and what is known already takes nothing.
    let (one, other) = (topic(0), topic(1));
    keys.push(listen(&mut hub, &[&one, &other], Start::Now).unwrap());
    hub.pays(Payer(8));
    keys.push(listen(&mut hub, &["other", "more"], Start::Now).unwrap());
    keys.into_iter().for_each(|key| hub.detach(NOW, key));
    hub.check();
    assert_eq!(hub.shares.bytes(), 0);
}

#[test]
fn channels_that_are_reached_are_of_the_share_too() {
    let mut hub = bounded(2000);
    let key = listen(&mut hub, &["/b/{id}", "c"], Start::Now).unwrap();
    for number in 0..1000 {
        say(&mut hub, &format!("/b/{number}"));
    }
    assert!(hub.shares.bytes() <= 2000, "{} bytes", hub.shares.bytes());
    // It is served all the same.
    let mut pulled = Vec::new();
    hub.pull(NOW, key, 2000, &mut pulled);
    assert_eq!(pulled.len(), 1000);
    hub.check();
}

#[test]
fn what_is_compared_with_new_topics_is_bounded() {
    let mut hub = bounded(usize::MAX);
    let mut count = 0;
    let refused = loop {
        let long = format!("/{count}/{}", "{a}b".repeat(1000));
        match listen(&mut hub, &[&long], Start::Now) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, HubError::TooManyTemplates);
    assert!(count < 200 && hub.compared.bytes() <= TEMPLATE_BYTES_MAX, "{count}");
    listen(&mut hub, &["a", "b"], Start::Now).unwrap();
    hub.pays(Payer::NOBODY);
    listen(&mut hub, &["/x/{id}"], Start::Now).unwrap();
    hub.check();
}

#[test]
fn going_on_costs_what_was_missed_of_few_channels() {
    let mut hub = bounded(usize::MAX);
    let first = say(&mut hub, "mine");
    for number in 0..20_000 {
        say(&mut hub, &format!("other/{}", number % 100));
    }
    let own: Vec<Seq> = (0..5).map(|_| say(&mut hub, "mine")).collect();
    let first = hub.id(first);
    let key = listen(&mut hub, &["mine", "/m/{x}"], Start::After(first)).unwrap();
    let mut pulled = Vec::new();
    hub.pull(NOW, key, 100, &mut pulled);
    // In one go, although twenty thousand lie between.
    assert_eq!(pulled.iter().map(|message| message.id.seq).collect::<Vec<_>>(), own);
    assert_eq!(hub.walked(), Some(hub.newest().seq));
}

/// Each pull looks at so few messages that nobody else waits for it.
#[test]
fn who_takes_long_to_compare_walks_in_shorter_steps() {
    let mut hub = bounded(usize::MAX);
    let dear = format!("{{+x}}/{}", "{a}b".repeat(1000));
    let feeds = [&["*"][..], &["*", &dear]].map(|texts| {
        let key = listen(&mut hub, texts, Start::Now).unwrap();
        let Memberships::One { channel, .. } = hub.subscribers[key].memberships else { unreachable!() };
        channel
    });
    let [cheap, dear] = feeds.map(|feed| hub.steps(feed));
    assert!(cheap == 4096 && (64..=128).contains(&dear), "{cheap} {dear}");
}

/// Opens feeds of one template each, each paid by somebody else, until one is refused.
fn fill(hub: &mut Hub, template: impl Fn(usize) -> String) -> Vec<SubscriberKey> {
    let mut all = Vec::new();
    loop {
        hub.pays(Payer(100 + all.len() as u64));
        match listen(hub, &[&template(all.len())], Start::Now) {
            Ok(key) => all.push(key),
            Err(error) => {
                assert_eq!(error, HubError::TooManyTemplates);
                return all;
            }
        }
    }
}

#[test]
fn what_one_topic_is_compared_with_is_bounded() {
    let mut hub = bounded(usize::MAX);
    // By one, of what begins alike; what does not has room.
    let own = |number: usize| format!("/a/{{+x}}{number}");
    let mine = (0..).take_while(|&number| listen(&mut hub, &[&own(number)], Start::Now).is_ok()).count();
    assert!((50..=COMPARED_OF_ONE_MAX).contains(&mine), "{mine}");
    listen(&mut hub, &["/b/{+x}"], Start::Now).unwrap();
    hub.check();
    // By all, whatever it begins with that any topic has: from the longest beginning to the shortest.
    let deep = |number: usize| format!("{}{{+x}}{number}", &"/a/b/c/d/e/f/g"[..14 - number % 15]);
    let all = fill(&mut hub, deep);
    hub.check();
    let most = hub.feeds.templates.most();
    assert!((COMPARED_MAX - 4..=COMPARED_MAX).contains(&most), "{most}");
    // Who asks for what is compared anyway is served, and so is who asks for what other topics begin with.
    listen(&mut hub, &[&deep(0), "named"], Start::Now).unwrap();
    listen(&mut hub, &["/c/{+x}"], Start::Now).unwrap();
    // A selection is entered as a whole, or not at all.
    let error = listen(&mut hub, &["/c/{+y}", "/a/b/{+z}"], Start::Now).unwrap_err();
    assert_eq!(error, HubError::TooManyTemplates);
    hub.check();
    all.into_iter().for_each(|key| hub.detach(NOW, key));
    hub.check();
    listen(&mut hub, &["/c/{+y}", "/a/b/{+z}"], Start::Now).unwrap();
}

#[test]
fn what_each_message_is_compared_with_is_bounded() {
    let mut config = Config::default();
    config.limits.channels_per_pattern = 10;
    let mut hub = Hub::new(&config, Epoch::from_random(1), NOW);
    hub.serve_selections(Vec::new());
    (0..20).for_each(|number| _ = say(&mut hub, &format!("/a/{number}")));
    // All have the dear templates; each takes all of them, and one more.
    let dear: Vec<String> = (0..40).map(|number| format!("/a/{{+x}}/{number}")).collect();
    let open = |hub: &mut Hub, last: &str| {
        let mut texts: Vec<&str> = dear.iter().map(String::as_str).collect();
        texts.push(last);
        listen(hub, &texts, Start::Now)
    };
    let mut count = 0;
    let refused = loop {
        hub.pays(Payer(100 + count));
        match open(&mut hub, &format!("/a/{{x}}{{y{count}}}")) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
        hub.check();
    };
    assert_eq!(refused, HubError::TooManyTemplates);
    assert!(hub.feeds.asked.0.bytes() <= ASKED_MAX && count > 20, "{count}");
    // Who comes to reach too much ends, then.
    let key = listen(&mut hub, &["/b/{x}", "/b/{x}/{y}"], Start::Now).unwrap();
    (0..10).for_each(|number| _ = say(&mut hub, &format!("/b/{number}")));
    assert!(!hub.has_overfull() && hub.subscribers.contains(key));
    for number in 0..200 {
        hub.pays(Payer(7000 + number));
        _ = listen(&mut hub, &["/a/{x}", &format!("/none/{number}/{{x}}")], Start::Now);
    }
    say(&mut hub, "/b/10");
    assert!(hub.has_overfull());
    assert_eq!(hub.take_overfull(NOW).len(), 1);
    hub.check();
}
