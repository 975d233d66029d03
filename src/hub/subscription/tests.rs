//! Tests of subscribing, unsubscribing and what they cost.

use super::*;
use crate::config::Config;
use crate::hub::channel::Entry;
use crate::id::{Epoch, Random, Seq};

const NOW: Instant = Instant::from_millis(0);

fn hub() -> Hub {
    Hub::new(&Config::default(), Epoch::from_random(1), NOW)
}

fn publish(hub: &mut Hub, channel: &str) -> Seq {
    let publication = crate::hub::Publication::of(crate::hub::Data::Text(channel.into()));
    hub.publish(NOW, channel, publication).unwrap().id.seq
}

/// What the subscriber gets now.
fn pull(hub: &mut Hub, key: SubscriberKey) -> Vec<Seq> {
    let mut pulled = Vec::new();
    hub.pull(NOW, key, 100, &mut pulled);
    let seqs: Vec<Seq> = pulled.iter().map(|message| message.id.seq).collect();
    if let Some(&last) = seqs.last() {
        hub.advance(key, last);
    }
    seqs
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text.as_bytes()).unwrap().unwrap()
}

#[test]
fn several_channels_begin_where_the_first_of_them_does() {
    let mut hub = hub();
    let now = Instant::default();
    for channel in ["a", "b", "a", "b", "b"] {
        publish(&mut hub, channel);
    }
    let mut position = |start| {
        let key = hub.attach(now, Owner(0), &["a", "b"], Vec::new(), start).unwrap();
        (hub.position(key).seq, pull(&mut hub, key))
    };
    assert_eq!(position(Start::Last(1)), (2, vec![3, 5]));
    assert_eq!(position(Start::Last(0)), (5, vec![]));
    assert_eq!(position(Start::Oldest), (0, vec![1, 2, 3, 4, 5]));
    let nothing_matches = hub.attach(now, Owner(0), &[], vec![pattern("x/*")], Start::Oldest).unwrap();
    assert_eq!(hub.position(nothing_matches).seq, 5);
}

/// Publishes an update of several topics.
fn update(hub: &mut Hub, topics: &[&str]) -> Seq {
    let topics = topics.iter().map(|&topic| topic.into()).collect();
    let update = Some(Box::new(crate::hub::Update { topics, ..crate::hub::Update::default() }));
    let data = crate::hub::Data::Text("x".into());
    let publication = crate::hub::Publication { update, ..crate::hub::Publication::of(data) };
    let name = publication.update.as_ref().unwrap().channel();
    hub.publish(NOW, &name, publication).unwrap().id.seq
}

/// What the ring of one topic has lost and that of another has, is no gap for who listens to both.
#[test]
fn what_comes_by_another_channel_is_not_lost() {
    const TOPICS: [&str; 4] = ["a", "b", "c", "d"];
    let mut seen = (0, 0);
    for seed in 0..500 {
        let mut random = Random::new(seed);
        let mut config = Config::default();
        (config.history.messages, config.history.grace_seconds) = (1 + random.below(4) as usize, 0);
        let mut hub = Hub::new(&config, Epoch::from_random(1), NOW);
        let pick = |random: &mut Random| -> Vec<&str> {
            TOPICS
                .into_iter()
                .enumerate()
                .filter(|&(place, _)| random.one_in(2 + place as u64))
                .map(|it| it.1)
                .collect()
        };
        let (mut all, mut has_deleted) = (vec![Vec::new()], false);
        for _ in 0..random.below(30) {
            let topics = pick(&mut random);
            let topics = if topics.is_empty() { vec!["a"] } else { topics };
            update(&mut hub, &topics);
            hub.tick(NOW);
            all.push(topics);
            if random.one_in(20) {
                hub.delete(NOW, "b", |_| false);
                has_deleted = true;
            }
        }
        for _ in 0..10 {
            let mut names = pick(&mut random);
            if names.len() < 2 {
                names = vec!["a", "b"];
            }
            let after = random.below(all.len() as u64);
            let start = Start::After(MessageId { epoch: Epoch::from_random(1), seq: after });
            let key = hub.attach(NOW, Owner(0), &names, Vec::new(), start).unwrap();
            let gaps = hub.take_gaps(key);
            let got = pull(&mut hub, key);
            hub.check();
            let is_for = |seq: &usize| all[*seq].iter().any(|topic| names.contains(topic));
            let owed = (after as usize + 1..all.len()).filter(is_for);
            let missing: Vec<usize> = owed.filter(|seq| !got.contains(&(*seq as Seq))).collect();
            // Of what a forgotten channel had lost it is not known whether others have it.
            for gap in gaps.iter().filter(|gap| &*gap.channel != "b" || !has_deleted) {
                let is_right = missing.iter().any(|&seq| all[seq].contains(&&*gap.channel));
                assert!(is_right, "{seed}: {gap:?} for {names:?}, who lacks {missing:?} of {all:?}");
            }
            for &seq in &missing {
                let is_told = gaps.iter().any(|gap| all[seq].contains(&&*gap.channel));
                assert!(is_told, "{seed}: {seq} of {:?} is missing for {names:?}: {gaps:?}", all[seq]);
            }
            seen.0 += gaps.len();
            seen.1 += missing.len();
            hub.detach(NOW, key);
        }
    }
    assert!(seen.0 > 100 && seen.1 > 100, "{seen:?}");
}

/// An update of several topics is in the ring of each of them.
#[test]
fn an_update_of_several_topics_comes_once() {
    for wish in [Wish::default(), Wish { latest: true, ..Wish::default() }] {
        let mut hub = hub();
        for topics in [&["a", "b"][..], &["b", "a", "c"], &["c", "b"]] {
            update(&mut hub, topics);
        }
        for (names, patterns, start, expected) in [
            (&["a", "b"][..], &[][..], Start::Oldest, &[1, 2, 3][..]),
            (&["a", "b", "c"], &[], Start::Oldest, &[1, 2, 3]),
            (&[], &["*"], Start::Oldest, &[1, 2, 3]),
            (&["a"], &["*"], Start::Last(1), &[2, 3]),
        ] {
            let patterns = patterns.iter().map(|text| pattern(text)).collect();
            let key = hub.attach_as(NOW, Owner(0), names, patterns, start, wish).unwrap();
            assert_eq!(pull(&mut hub, key), expected, "{names:?} {wish:?}");
        }
        let key = hub.attach_as(NOW, Owner(0), &["a", "b"], Vec::new(), Start::Now, wish).unwrap();
        let seq = update(&mut hub, &["a", "b"]);
        assert_eq!(pull(&mut hub, key), [seq], "as it is published, {wish:?}");
        assert_eq!(pull(&mut hub, key), [0; 0]);
    }
}

#[test]
fn a_subscriber_grows_and_shrinks() {
    let mut hub = hub();
    let key = hub.attach(NOW, Owner(0), &["a"], Vec::new(), Start::Now).unwrap();
    let (a, b) = (publish(&mut hub, "a"), publish(&mut hub, "b"));
    hub.subscribe(NOW, key, &["b"], &[pattern("*")], |_| Start::Now).unwrap();
    let (b2, c) = (publish(&mut hub, "b"), publish(&mut hub, "c"));
    assert_eq!(hub.subscriptions(key), 3);
    assert_eq!(pull(&mut hub, key), [a, b2, c], "what was published on b before is not its own: {b}");
    hub.unsubscribe(NOW, key, &["a", "b", "never"], &[]).unwrap();
    let again = ["a", "b", "c"].map(|name| publish(&mut hub, name));
    assert_eq!(pull(&mut hub, key), again, "the pattern still asks for them");
    hub.subscribe(NOW, key, &["b"], &[], |_| Start::Now).unwrap();
    hub.unsubscribe(NOW, key, &[], &[pattern("*")]).unwrap();
    let [_, b, _] = ["a", "b", "c"].map(|name| publish(&mut hub, name));
    assert_eq!(pull(&mut hub, key), [b]);
    hub.unsubscribe(NOW, key, &["b"], &[]).unwrap();
    assert_eq!((publish(&mut hub, "b"), hub.subscriptions(key)).1, 0);
    assert!(pull(&mut hub, key).is_empty());
}

#[test]
fn a_channel_joined_later_may_begin_before_the_cursor() {
    let mut hub = hub();
    let old = [0; 3].map(|_| publish(&mut hub, "old"));
    let key = hub.attach(NOW, Owner(0), &["a"], Vec::new(), Start::Now).unwrap();
    let a = publish(&mut hub, "a");
    assert_eq!(pull(&mut hub, key), [a]);
    let after = MessageId { seq: old[0], ..hub.newest() };
    hub.subscribe(NOW, key, &["old"], &[], |_| Start::After(after)).unwrap();
    let new = publish(&mut hub, "a");
    assert_eq!(pull(&mut hub, key), [old[1], old[2], new], "nothing twice");
    hub.unsubscribe(NOW, key, &["old"], &[]).unwrap();
    hub.subscribe(NOW, key, &["old"], &[], |_| Start::Oldest).unwrap();
    assert_eq!(pull(&mut hub, key), old);
}

#[test]
fn who_comes_to_match_too_many_channels_goes() {
    let mut config = Config::default();
    config.limits.channels_per_pattern = 2;
    let mut hub = Hub::new(&config, Epoch::from_random(1), NOW);
    hub.attach(NOW, Owner(1), &[], vec![pattern("*")], Start::Now).unwrap();
    hub.attach(NOW, Owner(2), &["c"], vec![pattern("x/*")], Start::Now).unwrap();
    ["a", "b"].iter().for_each(|name| _ = publish(&mut hub, name));
    assert!(!hub.has_overfull());
    ["c", "d"].iter().for_each(|name| _ = publish(&mut hub, name));
    let ended = hub.take_overfull(NOW);
    assert_eq!(ended.iter().map(|(owner, _)| *owner).collect::<Vec<_>>(), [Owner(1)]);
    hub.check();
    assert!(!hub.has_overfull() && hub.owners().eq([Owner(2)]));
}

/// Looks at memberships that a subscriber has cost so far.
fn looks(hub: &Hub, key: SubscriberKey) -> usize {
    match &hub.subscribers[key].memberships {
        Memberships::One { .. } => 0,
        Memberships::Many(many) => many.looks.get(),
    }
}

#[test]
fn a_name_costs_the_same_however_many_there_are() {
    let mut hub = hub();
    let names: Vec<String> = (0..5_000).map(|number| format!("c/{number}")).collect();
    let key = hub.attach(NOW, Owner(0), &["own"], Vec::new(), Start::Now).unwrap();
    for name in &names {
        hub.subscribe(NOW, key, &[name], &[], |_| Start::Now).unwrap();
        hub.subscribe(NOW, key, &[name], &[], |_| Start::Now).unwrap();
    }
    assert_eq!(hub.subscriptions(key), 5_001);
    names.iter().for_each(|name| hub.unsubscribe(NOW, key, &[name], &[]).unwrap());
    let most = looks(&hub, key);
    assert!(most < 20 * 5_000, "{most} looks for 15,000 commands");
    assert_eq!(hub.subscriptions(key), 1);
    hub.check();
}

#[test]
fn a_message_costs_the_same_however_many_channels_have_news() {
    let mut hub = hub();
    let names: Vec<String> = (0..2_000).map(|number| format!("c/{number}")).collect();
    let key = hub.attach(NOW, Owner(0), &[], vec![pattern("c/*")], Start::Now).unwrap();
    for _ in 0..10 {
        names.iter().for_each(|name| _ = publish(&mut hub, name));
    }
    let mut had = 0;
    let before = looks(&hub, key);
    loop {
        assert!(hub.take_gaps_for(NOW, key, 64).is_empty());
        let mut pulled = Vec::new();
        hub.pull(NOW, key, 64, &mut pulled);
        let Some(last) = pulled.last().map(|message| message.id.seq) else { break };
        had += pulled.len();
        assert_eq!(last, had as Seq);
        hub.advance(key, last);
    }
    let most = looks(&hub, key) - before;
    hub.check();
    assert_eq!(had, 20_000);
    assert!(most < 10 * had, "{most} looks for {had} messages");
}

#[test]
fn what_is_too_dear_is_refused_as_a_whole() {
    let mut hub = hub();
    let names: Vec<String> = (0..1_000).map(|number| format!("c/{number}")).collect();
    names.iter().for_each(|name| _ = publish(&mut hub, name));
    // All of them share names with the first.
    let patterns: Vec<Pattern> = (0..900).map(|number| pattern(&format!("*/x{number}"))).collect();
    let key = hub.attach(NOW, Owner(0), &[], vec![pattern("c/*")], Start::Now).unwrap();
    let mut listen = |some: &[Pattern]| hub.subscribe(NOW, key, &[], some, |_| Start::Now).unwrap();
    patterns.chunks(90).for_each(&mut listen);
    let (before, spent) = (hub.subscriptions(key), hub.looked_at());
    hub.allow(100_000);
    assert_eq!(hub.unsubscribe(NOW, key, &["c/1"], &[pattern("c/*")]), Err(HubError::TooManySearches));
    assert!(hub.looked_at() - spent <= 100_000, "it is counted before it is done");
    assert_eq!((hub.subscriptions(key), hub.channels_of(key)), (before, 1_000));
    hub.allow(1_000_000);
    hub.unsubscribe(NOW, key, &[], &[pattern("c/*")]).unwrap();
    assert_eq!(hub.channels_of(key), 0);
    // Of long names each look costs more.
    let long = format!("{}z", "a/".repeat(126));
    publish(&mut hub, &long);
    let spent = hub.looked_at();
    let dear = pattern(&format!("{}*", "a/".repeat(126)));
    hub.subscribe(NOW, key, &[], &[dear], |_| Start::Now).unwrap();
    assert_eq!(hub.looked_at() - spent, 32 + 4, "looked at and joined");
    hub.check();
}

#[test]
fn tombstones_that_are_looked_at_count() {
    let mut hub = hub();
    publish(&mut hub, "first");
    let begin = hub.newest();
    (0..500).for_each(|number| _ = publish(&mut hub, &format!("gone/{number}")));
    (0..500).for_each(|number| _ = hub.delete(NOW, &format!("gone/{number}"), |_| true));
    let spent = hub.looked_at();
    let patterns: Vec<Pattern> = (0..10).map(|number| pattern(&format!("gone/*/{number}"))).collect();
    hub.allow(9_000);
    let refused = hub.attach(NOW, Owner(0), &[], patterns.clone(), Start::After(begin));
    assert_eq!(refused, Err(HubError::TooManySearches));
    hub.allow(10_000);
    hub.attach(NOW, Owner(0), &[], patterns, Start::After(begin)).unwrap();
    assert!(hub.looked_at() - spent >= 10_000);
}

#[test]
fn what_is_taken_away_in_few_bytes_costs_little() {
    let mut hub = hub();
    let names: Vec<String> = (0..9_000).map(|number| format!("c/{number}")).collect();
    names.iter().for_each(|name| _ = publish(&mut hub, name));
    let key = hub.attach(NOW, Owner(0), &["own"], Vec::new(), Start::Now).unwrap();
    let before = hub.looked_at();
    hub.unsubscribe(NOW, key, &[], &[]).unwrap();
    hub.unsubscribe(NOW, key, &["never"], &[pattern("never/*")]).unwrap();
    assert_eq!(hub.looked_at(), before + 1, "nothing was taken away, and only a name looked at");
    for _ in 0..20 {
        hub.subscribe(NOW, key, &[], &[pattern("c/*")], |_| Start::Now).unwrap();
        hub.subscribe(NOW, key, &[], &[pattern("c/*")], |_| Start::Now).unwrap();
        assert_eq!(hub.channels_of(key), 9_001);
        hub.unsubscribe(NOW, key, &[], &[pattern("c/*")]).unwrap();
        assert_eq!(hub.channels_of(key), 1);
    }
    hub.check();
    assert!(hub.looked_at() - before <= 20 * 8 * 9_001, "each channel once a command that does anything");
}

/// An id of another history.
const FOREIGN: MessageId = MessageId { epoch: Epoch::from_random(2), seq: 3 };

#[test]
fn a_channel_that_goes_while_it_is_asked_for_again() {
    let mut hub = hub();
    let key = hub.attach(NOW, Owner(0), &["own"], Vec::new(), Start::Now).unwrap();
    hub.subscribe(NOW, key, &["silent"], &[], |_| Start::After(FOREIGN)).unwrap();
    hub.unsubscribe(NOW, key, &["silent"], &[]).unwrap();
    // The gap has not been told yet; nobody else is there, and the channel has no messages.
    hub.subscribe(NOW, key, &["silent"], &[], |_| Start::Oldest).unwrap();
    hub.check();
    assert!(pull(&mut hub, key).is_empty());
    let seq = publish(&mut hub, "silent");
    assert_eq!(pull(&mut hub, key), [seq]);
}

#[test]
fn who_subscribes_with_an_id_of_another_history_is_told() {
    let mut hub = hub();
    publish(&mut hub, "a");
    let key = hub.attach(NOW, Owner(0), &["own"], Vec::new(), Start::Now).unwrap();
    hub.subscribe(NOW, key, &["a"], &[pattern("x/*")], |_| Start::After(FOREIGN)).unwrap();
    assert_eq!(hub.next_ready(), Some(key));
    let told: Vec<_> = hub.take_gaps(key).into_iter().map(|gap| gap.channel.to_string()).collect();
    assert_eq!(told, ["a", "x/*"]);
    assert!(hub.take_gaps(key).is_empty(), "once");
    hub.check();
}

#[test]
fn who_subscribes_by_a_pattern_is_told_what_forgotten_channels_lost() {
    let mut hub = hub();
    let before = hub.newest();
    publish(&mut hub, "x/gone");
    hub.delete(NOW, "x/gone", |_| true);
    let key = hub.attach(NOW, Owner(0), &["own"], Vec::new(), Start::Now).unwrap();
    hub.subscribe(NOW, key, &[], &[pattern("x/*"), pattern("y/*")], |_| Start::After(before)).unwrap();
    let told: Vec<_> = hub.take_gaps(key).into_iter().map(|gap| gap.channel.to_string()).collect();
    assert_eq!(told, ["x/*"]);
}

/// As sessions do that acknowledge: something is lost between what was pulled and the word that it has come.
#[test]
fn a_gap_comes_before_all_that_is_newer() {
    let mut hub = hub();
    let key = hub.attach(NOW, Owner(0), &["b", "c"], Vec::new(), Start::Now).unwrap();
    let had = publish(&mut hub, "b");
    publish(&mut hub, "b");
    publish(&mut hub, "c");
    hub.delete(NOW, "b", |_| false);
    publish(&mut hub, "b");
    hub.advance(key, had);
    let told: Vec<_> =
        hub.take_gaps_for(NOW, key, 1).into_iter().map(|gap| gap.channel.to_string()).collect();
    assert_eq!(told, ["b"]);
    hub.check();
}

#[test]
fn who_has_left_a_channel_is_told_that_what_it_is_owed_was_deleted() {
    let mut hub = hub();
    let key = hub.attach(NOW, Owner(0), &["left", "other"], Vec::new(), Start::Now).unwrap();
    publish(&mut hub, "left");
    hub.unsubscribe(NOW, key, &["left"], &[]).unwrap();
    assert!(hub.delete(NOW, "left", |_| true).unwrap().is_empty(), "it goes on elsewhere");
    hub.check();
    assert_eq!(hub.next_ready(), Some(key));
    let told: Vec<_> = hub.take_gaps(key).into_iter().map(|gap| gap.channel.to_string()).collect();
    assert_eq!(told, ["left"]);
    hub.advance(key, hub.newest().seq);
    hub.tick(NOW);
    assert_eq!(hub.subscriptions(key), 1, "it has no more to do with the channel that it left");
    let seq = publish(&mut hub, "other");
    publish(&mut hub, "left");
    assert_eq!(pull(&mut hub, key), [seq]);
    hub.check();
}

#[test]
fn a_pattern_still_asks_for_what_was_left_by_its_name() {
    let mut hub = hub();
    let key = hub.attach(NOW, Owner(0), &["own"], vec![pattern("*")], Start::Now).unwrap();
    hub.subscribe(NOW, key, &["silent"], &[], |_| Start::After(FOREIGN)).unwrap();
    hub.unsubscribe(NOW, key, &["silent"], &[]).unwrap();
    let seq = publish(&mut hub, "silent");
    assert_eq!(hub.take_gaps(key).len(), 1);
    assert_eq!(pull(&mut hub, key), [seq]);
    hub.check();
}

#[test]
fn what_has_expired_is_not_for_who_comes_later() {
    let mut hub = hub();
    let key = hub.attach(NOW, Owner(0), &["own"], Vec::new(), Start::Now).unwrap();
    let text = crate::hub::Data::Text("brief".into());
    let brief = crate::hub::Publication { ttl_ms: Some(1), ..crate::hub::Publication::of(text) };
    hub.publish(NOW, "a", brief).unwrap();
    let later = NOW + 2;
    hub.subscribe(later, key, &["a"], &[], |_| Start::Oldest).unwrap();
    let mut pulled = Vec::new();
    hub.pull(later, key, 100, &mut pulled);
    assert!(pulled.is_empty());
}

#[test]
fn who_leaves_gets_what_was_published_before() {
    let mut hub = hub();
    let key = hub.attach(NOW, Owner(0), &["a", "b"], Vec::new(), Start::Now).unwrap();
    let owed = publish(&mut hub, "a");
    hub.unsubscribe(NOW, key, &["a"], &[]).unwrap();
    assert_eq!(hub.info("a").unwrap().subscribers, 0, "nobody listens to what comes");
    let other = publish(&mut hub, "b");
    publish(&mut hub, "a");
    hub.check();
    assert_eq!(pull(&mut hub, key), [owed, other], "and nothing that came later");
    hub.tick(NOW);
    hub.check();
    assert!(!hub.listens(key, hub.names.get("a").unwrap()), "it has left");
    assert_eq!(hub.subscriptions(key), 1);
    // The only channel, by a pattern, and once more while it owes.
    let key = hub.attach(NOW, Owner(1), &[], vec![pattern("*")], Start::Now).unwrap();
    let owed = [publish(&mut hub, "a"), publish(&mut hub, "c")];
    for _ in 0..2 {
        hub.unsubscribe(NOW, key, &[], &[pattern("*")]).unwrap();
        publish(&mut hub, "c");
    }
    assert_eq!(hub.subscriptions(key), 2, "what it is owed counts: of a and of c");
    hub.check();
    assert_eq!(pull(&mut hub, key), owed);
    hub.tick(NOW);
    assert_eq!(hub.subscriptions(key), 0);
}

#[test]
fn who_comes_back_goes_on() {
    let mut hub = hub();
    let key = hub.attach(NOW, Owner(0), &["a"], Vec::new(), Start::Now).unwrap();
    let mut expected = vec![publish(&mut hub, "a")];
    hub.unsubscribe(NOW, key, &["a"], &[]).unwrap();
    hub.subscribe(NOW, key, &["a"], &[], |_| Start::Now).unwrap();
    expected.push(publish(&mut hub, "a"));
    hub.check();
    assert_eq!(hub.info("a").unwrap().subscribers, 1);
    assert_eq!(pull(&mut hub, key), expected);
    // Once it has all, what came while it was away is not for it.
    hub.unsubscribe(NOW, key, &["a"], &[]).unwrap();
    publish(&mut hub, "a");
    hub.subscribe(NOW, key, &["a"], &[], |_| Start::Now).unwrap();
    hub.check();
    let news = publish(&mut hub, "a");
    assert_eq!(pull(&mut hub, key), [news]);
    // Elsewhere it begins there.
    publish(&mut hub, "a");
    hub.unsubscribe(NOW, key, &["a"], &[]).unwrap();
    hub.subscribe(NOW, key, &["a"], &[], |_| Start::Oldest).unwrap();
    hub.check();
    assert_eq!(pull(&mut hub, key).len(), 5);
}

#[test]
fn what_is_owed_and_lost_is_told() {
    let mut config = Config::default();
    (config.history.messages, config.history.grace_seconds) = (2, 0);
    let mut hub = Hub::new(&config, Epoch::from_random(1), NOW);
    let key = hub.attach(NOW, Owner(0), &["a", "b"], Vec::new(), Start::Now).unwrap();
    for _ in 0..3 {
        publish(&mut hub, "a");
    }
    hub.unsubscribe(NOW, key, &["a"], &[]).unwrap();
    publish(&mut hub, "a");
    publish(&mut hub, "a");
    hub.tick(NOW);
    let gaps = hub.take_gaps(key);
    assert_eq!(gaps.iter().map(|gap| &*gap.channel).collect::<Vec<_>>(), ["a"]);
    assert!(pull(&mut hub, key).is_empty(), "what is kept came later");
    let position = hub.position(key).seq;
    hub.advance(key, position);
    hub.tick(NOW);
    hub.check();
    assert_eq!(hub.subscriptions(key), 1);
    // Nothing was owed, so nothing can be missing.
    publish(&mut hub, "b");
    assert_eq!(pull(&mut hub, key).len(), 1);
    hub.unsubscribe(NOW, key, &["b"], &[]).unwrap();
    for _ in 0..5 {
        publish(&mut hub, "b");
    }
    hub.tick(NOW);
    assert!(hub.take_gaps(key).is_empty());
    hub.detach(NOW, key);
    hub.check();
}

#[test]
fn sessions_stay_on_a_deleted_channel() {
    let mut hub = hub();
    let stays = hub.attach(NOW, Owner(1), &["a"], Vec::new(), Start::Now).unwrap();
    hub.attach(NOW, Owner(2), &["a"], Vec::new(), Start::Now).unwrap();
    publish(&mut hub, "a");
    let ended = hub.delete(NOW, "a", |owner| owner == Owner(2)).unwrap();
    assert!(ended.iter().map(|(owner, at)| (*owner, at.seq)).eq([(Owner(2), 0)]), "and where it was");
    let seq = publish(&mut hub, "a");
    assert_eq!(hub.take_gaps(stays).len(), 1, "what was deleted is missing");
    assert_eq!(pull(&mut hub, stays), [seq]);
}

#[test]
fn a_subscriber_of_one_channel_takes_forty_bytes() {
    assert_eq!(size_of::<Subscriber>(), 40);
    assert_eq!(size_of::<Entry>(), 8);
}

/// Takes channels and patterns away from a subscriber while a proposal is on its way whose last record has number `last`.
fn leave(
    hub: &mut Hub,
    key: SubscriberKey,
    names: &[&str],
    patterns: &[Pattern],
    (proposal, last): (u64, Seq),
) {
    hub.unsubscribe_later(NOW, key, names, patterns, (proposal, last)).unwrap();
    hub.check();
}

#[test]
fn who_leaves_gets_what_has_no_number_yet() {
    let mut hub = hub();
    let key = hub.attach(NOW, Owner(0), &["a", "b"], vec![pattern("c/*")], Start::Now).unwrap();
    publish(&mut hub, "c/1");
    leave(&mut hub, key, &["a", "b"], &[pattern("c/*")], (1, 2));
    assert_eq!(pull(&mut hub, key), [1]);
    hub.tick(NOW);
    hub.check();
    assert_eq!(hub.channels_of(key), 3, "it may be owed something everywhere");
    assert_eq!(hub.counts_of("a").0, 0, "who publishes now is told that nobody listens");
    leave(&mut hub, key, &["a"], &[], (2, 9));
    publish(&mut hub, "a");
    // That is it: what follows is not for it.
    publish(&mut hub, "a");
    publish(&mut hub, "b");
    hub.part_now(NOW, &(2..=9), 1);
    assert_eq!(hub.channels_of(key), 3, "it has left before what came second");
    hub.part_now(NOW, &(0..=1), 1);
    hub.check();
    assert_eq!(hub.channels_of(key), 1);
    assert_eq!(pull(&mut hub, key), [2]);
    hub.tick(NOW);
    hub.check();
    assert_eq!(hub.channels_of(key), 0);
    // Who comes back meanwhile stays.
    hub.subscribe(NOW, key, &["a"], &[], |_| Start::Now).unwrap();
    leave(&mut hub, key, &["a"], &[], (3, Seq::MAX));
    hub.subscribe(NOW, key, &["a"], &[], |_| Start::Now).unwrap();
    hub.check();
    hub.part_now(NOW, &(0..=3), 1);
    publish(&mut hub, "a");
    hub.check();
    assert_eq!(pull(&mut hub, key), [5]);
    // Who comes and goes again waits for what is on its way by then.
    leave(&mut hub, key, &["a"], &[], (4, 6));
    hub.subscribe(NOW, key, &["a"], &[], |_| Start::Now).unwrap();
    leave(&mut hub, key, &["a"], &[], (5, 7));
    hub.part_now(NOW, &(0..=4), 1);
    publish(&mut hub, "a");
    publish(&mut hub, "a");
    publish(&mut hub, "a");
    hub.part_now(NOW, &(0..=5), 1);
    assert_eq!(pull(&mut hub, key), [6, 7]);
    hub.subscribe(NOW, key, &["a"], &[], |_| Start::Now).unwrap();
    leave(&mut hub, key, &["a"], &[], (6, 9));
    hub.detach(NOW, key);
    hub.check();
}

#[test]
fn who_leaves_gets_what_there_was_whatever_becomes_of_the_rest() {
    let mut hub = hub();
    let key = hub.attach(NOW, Owner(0), &["a", "b"], Vec::new(), Start::Now).unwrap();
    publish(&mut hub, "b");
    publish(&mut hub, "a");
    // What has no numbers counts from 1; both are refused, the second first.
    leave(&mut hub, key, &["a"], &[], (2, 1));
    hub.part_with(2, (1, 3));
    publish(&mut hub, "a");
    hub.part_now(NOW, &(2..=2), 0);
    hub.check();
    hub.part_now(NOW, &(1..=1), 0);
    hub.check();
    assert_eq!(pull(&mut hub, key), [1, 2]);
}

#[test]
fn an_answer_costs_what_waits_for_it_and_not_what_waits() {
    const COUNT: u64 = 1000;
    let mut hub = hub();
    let keys: Vec<SubscriberKey> =
        (0..COUNT).map(|_| hub.attach(NOW, Owner(0), &["a", "b"], Vec::new(), Start::Now).unwrap()).collect();
    for (proposal, key) in (1..).zip(&keys) {
        hub.unsubscribe_later(NOW, *key, &["a"], &[], (proposal, proposal)).unwrap();
    }
    (1..=COUNT).for_each(|proposal| hub.part_now(NOW, &(0..=proposal), 1));
    hub.check();
    assert!(keys.iter().all(|key| hub.channels_of(*key) == 1));
    let looked_at = hub.parting.looked_at as u64;
    assert!(looked_at <= 2 * COUNT, "{looked_at} looked at for {COUNT} who have left");
}
