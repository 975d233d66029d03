//! Clients that come with a number which we do not know yet. They had it from another server that shares our history, and
//! nearly always we read it in a moment. But it may be of a half of the history that was lost together with every server
//! that knew it. Then it never comes, and what comes instead has lower numbers, which such a client would be taken to have
//! had. So such a number is a *claim*, and our own beats decide about it: a beat is in the history, and whoever has read it
//! has read all that was there before. A claim that is older than a beat which has come back, and still ahead of us, is false.

use super::subscriber::{Memberships, Start, Subscriber};
use super::{Hub, HubError, SubscriberKey};
use crate::id::Seq;
use std::collections::{BTreeMap, BTreeSet};

/// How far ahead of us a client may be. Between two servers are milliseconds, or a jump of numbers; what is further away
/// nobody has given out.
pub(super) const AHEAD_MAX: Seq = 1 << 30;
/// Numbers ahead of us that are remembered. Whoever comes with another one is told of a gap at once.
pub const CLAIMS_MAX: usize = 1024;
/// Beats of ours that have to come back: the first may have been under way when the claim was made.
const BEATS: u64 = 2;

/// Numbers that clients came with.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// How far ahead a client may be; 0 if nobody shares our history.
    pub most: Seq,
    /// Beats of ours that have come back.
    beats: u64,
    /// Since which beat each number is waited for; none if it has turned out not to be history.
    claims: BTreeMap<Seq, Option<u64>>,
    /// Who may be ahead of us: nobody else is looked at when a beat decides.
    claimants: BTreeSet<SubscriberKey>,
}

impl Ahead {
    /// Whether a number is none of this history, as far as we know.
    pub fn has_refuted(&self, seq: Seq) -> bool {
        !self.claims.is_empty() && self.claims.get(&seq).is_some_and(Option::is_none)
    }

    /// Notes that somebody has come with a number ahead of us.
    fn claim(&mut self, seq: Seq) {
        if self.claims.contains_key(&seq) {
            return;
        }
        let mut since = Some(self.beats);
        if self.claims.len() >= CLAIMS_MAX {
            let refuted = self.claims.iter().find(|(_, since)| since.is_none()).map(|(seq, _)| *seq);
            match refuted {
                Some(refuted) => _ = self.claims.remove(&refuted),
                // What is furthest ahead is least likely to be true: who waits for it is told with the next beat, and whoever
                // comes when there is no room, at once.
                None => (_, since) = (self.claims.pop_last(), None),
            }
        }
        self.claims.insert(seq, since);
    }

    /// Notes that a beat of ours has come back, with this number.
    fn beat(&mut self, newest: Seq) {
        self.beats += 1;
        let beats = self.beats;
        self.claims.retain(|seq, since| since.is_none() || *seq > newest);
        let is_due = |since: &Option<u64>| since.is_some_and(|since| beats >= since + BEATS);
        self.claims.values_mut().filter(|since| is_due(since)).for_each(|since| *since = None);
    }

    /// Whether somebody may be ahead of us.
    #[cfg(any(test, feature = "check"))]
    pub fn has_claimant(&self, key: SubscriberKey) -> bool {
        self.claimants.contains(&key)
    }

    /// Notes that somebody leaves.
    pub fn forget(&mut self, key: SubscriberKey) {
        if !self.claimants.is_empty() {
            self.claimants.remove(&key);
        }
    }

    /// Whether it has yet to be seen whether a number is history.
    fn is_open(&self, seq: Seq) -> bool {
        self.claims.get(&seq).is_some_and(Option::is_some)
    }
}

impl Hub {
    /// Notes where somebody comes from who may know more than we do. Returns whether it is so.
    #[inline(always)]
    pub(super) fn note_claim(&mut self, start: Start) -> bool {
        let is_ahead = self.is_ahead(start);
        // Who wants latest values is told at once.
        if is_ahead && let Start::After(id) = start {
            self.ahead.claim(id.seq);
        }
        is_ahead
    }

    /// The same of somebody who listens from now on.
    #[inline(always)]
    pub(super) fn note_claimant(&mut self, key: SubscriberKey, start: Start) {
        if self.note_claim(start) {
            self.ahead.claimants.insert(key);
        }
    }

    /// Whether somebody comes with a number of this history that we do not know yet.
    #[inline(always)]
    fn is_ahead(&self, start: Start) -> bool {
        matches!(start, Start::After(id) if id.seq > self.seq && self.is_ours(id))
    }

    /// Counts what it may take to find out where a subscriber stands that comes to further channels ahead of us: all that it
    /// listens to is looked at. Who attaches has paid for that by what it joins.
    pub(super) fn admit_claim(&mut self, key: SubscriberKey, start: Start) -> Result<(), HubError> {
        if self.is_ahead(start) { self.spend(self.channels_of(key)) } else { Ok(()) }
    }

    /// A beat of ours has come back, and we have read all that was in the history before it. Whoever is still ahead of us
    /// with what was claimed before that is told of a gap, and gets what comes from now on.
    pub fn refute_claims(&mut self) {
        self.ahead.beat(self.seq);
        for key in std::mem::take(&mut self.ahead.claimants) {
            let subscriber = &self.subscribers[key];
            if let Memberships::Many(many) = &subscriber.memberships {
                many.note_looks(many.all.len());
            }
            if !self.any_ahead(subscriber, |_| true) {
                continue;
            }
            match self.any_ahead(subscriber, |seq| !self.ahead.is_open(seq)) {
                true => self.bring_back(key, Seq::MAX),
                false => _ = self.ahead.claimants.insert(key),
            }
        }
    }

    /// Whether a subscriber counts as having had a number ahead of us, somewhere, of which this is so.
    pub(super) fn any_ahead(&self, subscriber: &Subscriber, is_so: impl Fn(Seq) -> bool) -> bool {
        let is_one = |seq: Seq| seq > self.seq && is_so(seq);
        is_one(subscriber.after)
            || match &subscriber.memberships {
                Memberships::One { .. } => false,
                Memberships::Many(many) => many.all.iter().any(|(_, membership)| is_one(membership.floor)),
            }
    }

    /// What has numbers ahead of us, up to `upto`, has never been: whoever counts as having had it is told of a gap on all that
    /// it listens to, and gets what comes from now on.
    pub(super) fn bring_back(&mut self, key: SubscriberKey, upto: Seq) {
        let (newest, id) = (self.seq, self.position(key));
        self.strangers.entry(key).or_default().id.get_or_insert(id);
        let back = |seq: &mut Seq| {
            if newest < *seq && *seq <= upto {
                *seq = newest;
            }
        };
        self.beginnings.remove(&key);
        let subscriber = &mut self.subscribers[key];
        back(&mut subscriber.after);
        back(&mut subscriber.joined);
        if let Memberships::Many(many) = &mut subscriber.memberships {
            many.news.unsort();
            let mut owed = Vec::new();
            for (place, membership) in &mut many.all {
                back(&mut membership.floor);
                back(&mut membership.joined);
                if membership.is_left() {
                    back(&mut membership.until);
                    owed.push((place as u32, membership.floor.max(subscriber.after) + 1));
                }
            }
            // Where it has left, it may be owed nothing any more.
            owed.into_iter().for_each(|(place, next)| many.expect(place, next));
        }
        self.estrange(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::hub::{Data, Owner, Pattern, Publication, Wish};
    use crate::id::{Epoch, MessageId, Place};
    use crate::time::Instant;

    const NOW: Instant = Instant::from_millis(1000);

    struct World(Hub);

    impl World {
        /// A hub that shares its history, and has come to number 10.
        fn new() -> Self {
            let mut hub = Hub::new(&Config::default(), Epoch::from_random(7), NOW);
            hub.begin_shared(0);
            hub.go_on_at(10);
            let mut world = Self(hub);
            world.publish("a", 10);
            world
        }

        fn publish(&mut self, channel: &str, seq: Seq) {
            self.0.commit(NOW, channel, seq, Publication::of(Data::Text("x".into())));
        }

        /// A beat of ours comes back, with the next number.
        fn beat(&mut self) {
            self.0.go_on_at(self.0.seq + 2);
            self.0.refute_claims();
            self.0.check();
        }

        fn after(&self, seq: Seq) -> Start {
            Start::After(MessageId { epoch: self.0.epoch, seq })
        }

        fn come(&mut self, names: &[&str], pattern: Option<&str>, start: Start) -> SubscriberKey {
            let patterns = pattern.map(|pattern| Pattern::parse(pattern.as_bytes()).unwrap().unwrap());
            let wish = Wish { latest: matches!(start, Start::At(_)), ..Wish::default() };
            self.0.attach_as(NOW, Owner(0), names, patterns.into_iter().collect(), start, wish).unwrap()
        }

        /// What somebody is told: gaps (channel, after, position), and numbers.
        fn told(&mut self, key: SubscriberKey) -> (Vec<(String, Seq, Seq)>, Vec<Seq>) {
            let gaps = self.0.take_gaps_of_poll(key);
            let gaps = gaps.iter().map(|gap| (gap.channel.to_string(), gap.after.seq, gap.position.seq));
            let gaps = gaps.collect();
            let mut pulled = Vec::new();
            self.0.pull(NOW, key, 100, &mut pulled);
            let pulled: Vec<Seq> = pulled.iter().map(|message| message.id.seq).collect();
            if let Some(last) = pulled.last() {
                self.0.advance(key, *last);
            }
            self.0.check();
            (gaps, pulled)
        }
    }

    #[test]
    fn what_never_comes_is_told_when_it_is_known() {
        let mut world = World::new();
        let start = world.after(500);
        let one = world.come(&["a"], None, start);
        let many = world.come(&["a", "b"], Some("c/*"), start);
        world.beat();
        assert_eq!((world.told(one), world.told(many)), ((vec![], vec![]), (vec![], vec![])));
        world.beat();
        let gap = |channel: &str| (channel.to_owned(), 500, 12);
        assert_eq!(world.told(one), (vec![gap("a")], vec![]));
        assert_eq!(world.told(many), (vec![gap("a"), gap("b"), gap("c/*")], vec![]));
        for (seq, channel) in [(13, "a"), (14, "b"), (15, "c/new")] {
            world.publish(channel, seq);
        }
        assert_eq!((world.told(one).1, world.told(many).1), (vec![13], vec![13, 14, 15]));
        // Who polls comes anew each time.
        let again = world.come(&["a"], None, start);
        assert_eq!(world.told(again), (vec![("a".to_owned(), 500, 15)], vec![]));
        world.publish("a", 16);
        assert_eq!(world.told(again).1, [16]);
    }

    #[test]
    fn what_comes_in_time_is_no_gap() {
        let mut world = World::new();
        let start = world.after(13);
        let one = world.come(&["a"], None, start);
        world.beat();
        (12..20).for_each(|seq| world.publish("a", seq));
        world.beat();
        world.beat();
        assert_eq!(world.told(one), (vec![], (14..20).collect()), "it had some of them");
        let again = world.come(&["a"], None, start);
        assert_eq!(world.told(again).0, []);
        assert!(world.0.ahead.claims.is_empty());
    }

    #[test]
    fn what_joins_later_is_ahead_as_well() {
        let mut world = World::new();
        let key = world.come(&["a"], None, Start::Now);
        let start = world.after(500);
        world.0.subscribe(NOW, key, &["b"], &[], |_| start).unwrap();
        world.beat();
        world.beat();
        let (gaps, _) = world.told(key);
        assert!(gaps.iter().any(|(channel, _, position)| channel == "b" && *position == 12), "{gaps:?}");
        world.publish("b", 13);
        world.publish("a", 14);
        assert_eq!(world.told(key).1, [13, 14]);
    }

    #[test]
    fn who_wants_latest_values_begins_anew_at_once() {
        let mut world = World::new();
        let value =
            |key: &str| Publication { key: Some(key.into()), ..Publication::of(Data::Text("x".into())) };
        world.0.commit(NOW, "a", 11, value("k"));
        for (seq, ahead) in [(500, 0), (5, 495), (11, 489)] {
            let start = Start::At(Place { id: MessageId { epoch: world.0.epoch, seq }, ahead, began: None });
            for names in [&["a"][..], &["a", "b"]] {
                let key = world.come(names, None, start);
                let (gaps, pulled) = world.told(key);
                assert!(gaps.iter().any(|(channel, after, _)| channel == "a" && *after == 500), "{gaps:?}");
                assert_eq!(pulled, [11], "a fresh snapshot");
                world.0.finish(NOW, key);
                assert_eq!(world.0.place(key).rest(), 11);
            }
        }
        assert!(world.0.ahead.claims.is_empty());
    }

    #[test]
    fn claims_are_bounded_and_who_finds_no_room_is_told() {
        let mut world = World::new();
        let keys: Vec<SubscriberKey> = (0..CLAIMS_MAX as Seq)
            .map(|number| {
                let start = world.after(1000 + number);
                world.come(&["a"], None, start)
            })
            .collect();
        let start = world.after(700);
        let last = world.come(&["a"], None, start);
        assert_eq!(world.told(last).0, [("a".to_owned(), 700, 10)], "at once");
        assert_eq!(world.0.ahead.claims.len(), CLAIMS_MAX);
        world.beat();
        assert_eq!(world.told(keys[CLAIMS_MAX - 1]).0.len(), 1, "it had to make room");
        assert!(world.told(keys[CLAIMS_MAX - 2]).0.is_empty());
        world.beat();
        assert!(keys[..CLAIMS_MAX - 1].iter().all(|key| world.told(*key).0.len() == 1));
        // What is known to be false makes room.
        let start = world.after(700_000);
        let key = world.come(&["a"], None, start);
        assert!(world.told(key).0.is_empty());
        assert_eq!(world.0.ahead.claims.len(), CLAIMS_MAX);
    }

    /// The numbers of a half that has lost may be higher than those of the other one.
    #[test]
    fn who_listens_while_we_go_back_gets_what_others_have() {
        let mut world = World::new();
        let one = world.come(&["a"], None, Start::Now);
        let many = world.come(&["a", "b"], Some("c/*"), Start::Now);
        world.0.lose_after(NOW, 10, 500);
        world.publish("a", 501);
        for key in [one, many] {
            assert_eq!(world.told(key).1, [501]);
        }
        world.0.go_back_to(NOW, 10);
        world.0.lose_after(NOW, 10, 300);
        for (seq, channel) in [(301, "a"), (302, "b"), (303, "c/new")] {
            world.publish(channel, seq);
        }
        let (gaps, pulled) = world.told(one);
        assert_eq!((gaps, pulled), (vec![("a".to_owned(), 501, 10)], vec![301]));
        let (gaps, pulled) = world.told(many);
        assert_eq!((gaps.len(), pulled), (4, vec![301, 302, 303]));
        assert!(gaps.iter().all(|(_, after, _)| *after == 501), "{gaps:?}");
        // It is as if it had always been with them.
        world.publish("b", 304);
        assert_eq!(world.told(many), (vec![], vec![304]));
    }

    /// Channels that it matches may have come and be lost before we have heard of them.
    #[test]
    fn who_listens_by_a_pattern_alone_is_told_what_is_lost() {
        let mut world = World::new();
        let key = world.come(&[], Some("c/*"), Start::Now);
        world.0.lose_after(NOW, 10, 500);
        assert_eq!(world.told(key), (vec![("c/*".to_owned(), 10, 500)], vec![]));
        // It may have had something on any of them.
        world.publish("c/new", 501);
        assert_eq!(world.told(key), (vec![("c/new".to_owned(), 10, 500)], vec![501]));
    }

    /// What it is owed there has never been.
    #[test]
    fn who_has_left_a_channel_gets_nothing_of_another_half_there() {
        let mut world = World::new();
        let key = world.come(&["a", "b"], None, Start::Now);
        world.0.lose_after(NOW, 10, 500);
        world.publish("b", 501);
        world.0.unsubscribe(NOW, key, &["b"], &[]).unwrap();
        world.0.go_back_to(NOW, 10);
        world.0.lose_after(NOW, 10, 300);
        world.publish("b", 301);
        world.publish("a", 302);
        assert_eq!(world.told(key).1, [302]);
        world.0.tick(NOW);
        assert_eq!(world.0.channels_of(key), 1);
    }

    #[test]
    fn a_beat_looks_at_nobody_who_is_not_ahead() {
        let mut world = World::new();
        let names: Vec<String> = (0..50).map(|number| format!("b/{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let crowd: Vec<SubscriberKey> = (0..20).map(|_| world.come(&names, None, Start::Now)).collect();
        let looks = |world: &World, key: SubscriberKey| match &world.0.subscribers[key].memberships {
            Memberships::One { .. } => 0,
            Memberships::Many(many) => many.looks.get(),
        };
        let before: Vec<usize> = crowd.iter().map(|key| looks(&world, *key)).collect();
        let start = world.after(500);
        let one = world.come(&["a", "b/1"], None, start);
        let gone = world.come(&["a"], None, start);
        world.0.detach(NOW, gone);
        assert_eq!(world.0.ahead.claimants.len(), 1);
        let of_one = looks(&world, one);
        (0..3).for_each(|_| {
            world.0.go_on_at(world.0.seq + 2);
            world.0.refute_claims();
        });
        assert!(world.0.ahead.claimants.is_empty(), "it has been told");
        assert!(looks(&world, one) - of_one <= 2 * BEATS as usize, "and is not looked at again");
        assert_eq!(crowd.iter().map(|key| looks(&world, *key)).collect::<Vec<_>>(), before);
        assert_eq!(world.told(one).0.len(), 2);
    }

    /// A line of a WebSocket may claim anew what takes a look at a thousand channels.
    #[test]
    fn who_comes_ahead_to_one_more_channel_pays_for_all() {
        let mut world = World::new();
        let names: Vec<String> = (0..50).map(|number| format!("b/{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let key = world.come(&names, None, Start::Now);
        world.0.allow(20);
        let ahead = world.after(500);
        assert_eq!(world.0.subscribe(NOW, key, &["c"], &[], |_| ahead), Err(HubError::TooManySearches));
        world.0.subscribe(NOW, key, &["c"], &[], |_| Start::Now).unwrap();
        world.0.allow(100);
        world.0.subscribe(NOW, key, &["d"], &[], |_| ahead).unwrap();
    }
}
