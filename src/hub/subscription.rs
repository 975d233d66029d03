//! Subscriptions: attaching a subscriber, and giving it further channels and patterns or taking them away.

use super::channel::ChannelKey;
use super::name::Pattern;
use super::subscriber::{Many, Membership, Memberships, Owner, Start, Subscriber, SubscriberKey};
use super::{Hub, HubError};
use crate::id::MessageId;
use crate::time::Instant;
use std::collections::BTreeSet;

impl Hub {
    /// Adds a subscriber of the channels `names` (which must be distinct) and of all channels that match
    /// `patterns`, beginning at `start`. If something is waiting for it, it is ready at once.
    pub fn attach(
        &mut self,
        now: Instant,
        owner: Owner,
        names: &[&str],
        mut patterns: Vec<Pattern>,
        start: Start,
    ) -> Result<SubscriberKey, HubError> {
        if let ([name], true) = (names, patterns.is_empty()) {
            let channel = self.admit_listener(now, name)?;
            let only = Memberships::One { channel: ChannelKey::NONE, index: 0 };
            let key = self.insert(owner, only, &[], start);
            self.join_at_start(now, key, channel, start);
            return Ok(key);
        }
        let matching = self.admit_listeners(names, &patterns, 0)?;
        let key = self.insert(owner, Memberships::Many(Box::default()), &patterns, start);
        for name in names {
            let channel = self.channel_to_hear(now, name);
            self.join_at_start(now, key, channel, start);
            self.set_named(key, channel, true);
        }
        for channel in matching {
            self.join_at_start(now, key, channel, start);
        }
        if !patterns.is_empty() {
            patterns.sort_unstable();
            patterns.dedup();
            self.patterns.insert(key, patterns);
        }
        if matches!(start, Start::Oldest | Start::Last(_)) {
            self.begin_at_floors(key);
        }
        if self.subscribers[key].stranger {
            self.mark(key);
        }
        Ok(key)
    }

    /// Adds a subscriber that is on no list yet.
    #[inline(always)]
    fn insert(
        &mut self,
        owner: Owner,
        memberships: Memberships,
        patterns: &[Pattern],
        start: Start,
    ) -> SubscriberKey {
        let after = match start {
            Start::Now => self.seq,
            Start::After(id) if self.is_ours(id) => id.seq,
            _ => 0,
        };
        // Channels that a pattern would have matched may be forgotten, with messages that it never had.
        let had_lost =
            |id: MessageId| patterns.iter().any(|pattern| self.tombstones.may_have_lost(pattern, id.seq));
        let stranger = matches!(start, Start::After(id) if !self.is_ours(id) || had_lost(id));
        let joined = self.seq;
        let subscriber = Subscriber { after, joined, memberships, owner, note: 0, queued: false, stranger };
        let key = self.subscribers.insert(subscriber);
        if let Start::After(id) = start
            && stranger
        {
            self.strangers.insert(key, id);
        }
        key
    }

    /// Moves the cursor of a subscriber of several channels up to where the first of them begins: what is
    /// older was not asked for, and an id from before it would be taken for a gap when it comes back.
    fn begin_at_floors(&mut self, key: SubscriberKey) {
        let newest = self.seq;
        let subscriber = &mut self.subscribers[key];
        if let Memberships::Many(many) = &subscriber.memberships {
            let first = many.all.iter().map(|membership| membership.floor).min();
            subscriber.after = first.unwrap_or(newest);
        }
    }

    /// Whether `id` was given out by this history.
    pub(super) fn is_ours(&self, id: MessageId) -> bool {
        id.epoch == self.epoch && id.seq <= self.seq
    }

    /// The channel `name`, which may be new.
    fn channel_to_hear(&mut self, now: Instant, name: &str) -> ChannelKey {
        match self.names.find(&self.channels, name) {
            Some(key) => key,
            None => self.open_channel(now, name),
        }
    }

    /// Joins a channel with the floor that `start` means there.
    fn join_at_start(&mut self, now: Instant, key: SubscriberKey, channel: ChannelKey, start: Start) {
        let ring = &self.channels[channel].ring;
        let floor = match start {
            Start::Now | Start::After(_) => 0,
            Start::Oldest => ring.evicted(),
            Start::Last(count) => ring.before_last(count, now),
            Start::Since(time) => ring.before(time),
        };
        self.join(key, channel, floor);
        let foreign = matches!(start, Start::After(id) if !self.is_ours(id));
        let ring = &self.channels[channel].ring;
        let subscriber = &mut self.subscribers[key];
        if let Memberships::Many(many) = &mut subscriber.memberships
            && let Some(membership) = many.all.last_mut()
        {
            membership.stranger = foreign;
        }
        let had = subscriber.after.max(floor);
        if ring.newest() > had || ring.evicted() > had || foreign {
            self.mark(key);
        }
    }

    /// Adds channels or patterns to a subscriber, each beginning at `start`; what it listens to already is
    /// left as it is.
    pub fn subscribe(
        &mut self,
        now: Instant,
        key: SubscriberKey,
        names: &[&str],
        patterns: &[Pattern],
        start: Start,
    ) -> Result<(), HubError> {
        let known = self.patterns.get(&key);
        let is_new = |pattern: &&Pattern| known.is_none_or(|known| known.binary_search(pattern).is_err());
        let patterns: Vec<Pattern> = patterns.iter().filter(is_new).cloned().collect();
        let matching = self.admit_listeners(names, &patterns, self.channels_of(key))?;
        self.grow(key);
        for name in names {
            let channel = self.channel_to_hear(now, name);
            self.add(now, key, channel, start);
            self.set_named(key, channel, true);
        }
        let joined = if matching.is_empty() { BTreeSet::new() } else { self.joined(key) };
        for channel in matching.into_iter().filter(|channel| !joined.contains(channel)) {
            self.add_new(now, key, channel, start);
        }
        if !patterns.is_empty() {
            let known = self.patterns.entry(key).or_default();
            known.extend(patterns);
            known.sort_unstable();
            known.dedup();
        }
        Ok(())
    }

    /// How many channels a subscriber is on the lists of.
    fn channels_of(&self, key: SubscriberKey) -> usize {
        match &self.subscribers[key].memberships {
            Memberships::One { .. } => 1,
            Memberships::Many(many) => many.all.len(),
        }
    }

    /// Makes a subscriber of one channel one of several.
    fn grow(&mut self, key: SubscriberKey) {
        let subscriber = &mut self.subscribers[key];
        let Memberships::One { channel, index } = subscriber.memberships else { return };
        let (floor, stranger) = (subscriber.after, subscriber.stranger);
        let only = Membership { channel, index, floor, dirty: true, named: true, stranger };
        subscriber.memberships = Memberships::Many(Box::new(Many { all: vec![only], dirty: vec![0] }));
    }

    /// Joins a channel, unless it listens there already.
    fn add(&mut self, now: Instant, key: SubscriberKey, channel: ChannelKey, start: Start) {
        if !self.listens(key, channel) {
            self.add_new(now, key, channel, start);
        }
    }

    /// Joins a channel that it does not listen to.
    fn add_new(&mut self, now: Instant, key: SubscriberKey, channel: ChannelKey, start: Start) {
        self.begin_at(key, channel, start);
        self.join_at_start(now, key, channel, start);
        self.settle_floor(key, start);
    }

    /// The channels that a subscriber of several is on the lists of.
    fn joined(&self, key: SubscriberKey) -> BTreeSet<ChannelKey> {
        match &self.subscribers[key].memberships {
            Memberships::One { channel, .. } => BTreeSet::from([*channel]),
            Memberships::Many(many) => many.all.iter().map(|membership| membership.channel).collect(),
        }
    }

    /// Moves the cursor back if the channel about to be joined begins before it: what the subscriber had on
    /// its other channels is kept as their floor.
    fn begin_at(&mut self, key: SubscriberKey, channel: ChannelKey, start: Start) {
        let begin = match start {
            Start::Now => return,
            Start::After(id) if self.is_ours(id) => id.seq,
            Start::After(_) | Start::Oldest | Start::Last(_) | Start::Since(_) => {
                self.channels[channel].ring.evicted()
            }
        };
        let subscriber = &mut self.subscribers[key];
        if let Memberships::Many(many) = &mut subscriber.memberships
            && begin < subscriber.after
        {
            for membership in &mut many.all {
                membership.floor = membership.floor.max(subscriber.after);
            }
            subscriber.after = begin;
        }
    }

    /// The channel joined last begins at `start`, wherever the subscriber's cursor is.
    fn settle_floor(&mut self, key: SubscriberKey, start: Start) {
        let floor = match start {
            Start::Now => self.seq,
            Start::After(id) if self.is_ours(id) => id.seq,
            _ => return,
        };
        if let Memberships::Many(many) = &mut self.subscribers[key].memberships
            && let Some(membership) = many.all.last_mut()
        {
            membership.floor = membership.floor.max(floor);
        }
    }

    /// Takes channels or patterns away from a subscriber. A channel stays while it is asked for by its name
    /// or by another pattern.
    pub fn unsubscribe(&mut self, now: Instant, key: SubscriberKey, names: &[&str], patterns: &[Pattern]) {
        let unnamed: BTreeSet<ChannelKey> = names.iter().filter_map(|name| self.names.get(name)).collect();
        let removed = self.remove_patterns(key, patterns);
        if unnamed.is_empty() && removed.is_empty() {
            return;
        }
        self.grow(key);
        let Memberships::Many(many) = &mut self.subscribers[key].memberships else { return };
        self.looked_at += (many.all.len() * (1 + removed.len())) as u64;
        let known = self.patterns.get(&key).map(Vec::as_slice).unwrap_or_default();
        let mut left = BTreeSet::new();
        for membership in &mut many.all {
            let channel = &self.channels[membership.channel];
            let matches =
                |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(channel.name()));
            let is_unnamed = unnamed.contains(&membership.channel);
            membership.named &= !is_unnamed;
            if (is_unnamed || matches(&removed)) && !membership.named && !(channel.spoken && matches(known)) {
                left.insert(membership.channel);
            }
        }
        self.part(now, key, &left);
    }

    /// Takes patterns away from a subscriber; returns those that it had.
    fn remove_patterns(&mut self, key: SubscriberKey, patterns: &[Pattern]) -> Vec<Pattern> {
        let Some(known) = self.patterns.get_mut(&key) else { return Vec::new() };
        let is_known = |pattern: &&Pattern| known.binary_search(pattern).is_ok();
        let mut removed: Vec<Pattern> = patterns.iter().filter(is_known).cloned().collect();
        removed.sort_unstable();
        known.retain(|pattern| removed.binary_search(pattern).is_err());
        if known.is_empty() {
            self.patterns.remove(&key);
        }
        removed
    }

    /// Notes whether the subscriber asks for a channel by its name.
    fn set_named(&mut self, key: SubscriberKey, channel: ChannelKey, named: bool) {
        if let Memberships::Many(many) = &mut self.subscribers[key].memberships
            && let Some(membership) = many.all.iter_mut().find(|membership| membership.channel == channel)
        {
            membership.named = named;
        }
    }

    /// How many channels a subscriber asks for by name, and by how many patterns.
    pub fn subscriptions(&self, key: SubscriberKey) -> usize {
        match &self.subscribers[key].memberships {
            Memberships::One { .. } => 1,
            Memberships::Many(many) => {
                let named = many.all.iter().filter(|membership| membership.named).count();
                named + self.patterns.get(&key).map_or(0, Vec::len)
            }
        }
    }

    /// Who owns a subscriber.
    pub fn owner(&self, key: SubscriberKey) -> Owner {
        self.subscribers[key].owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::channel::Entry;
    use crate::id::Seq;

    const NOW: Instant = Instant::from_millis(0);

    fn hub() -> Hub {
        Hub::new(&crate::config::Config::default(), crate::id::Epoch::from_random(1), NOW)
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
        assert_eq!(position(Start::Last(0)), (3, vec![]));
        assert_eq!(position(Start::Oldest), (0, vec![1, 2, 3, 4, 5]));
        let nothing_matches = hub.attach(now, Owner(0), &[], vec![pattern("x/*")], Start::Oldest).unwrap();
        assert_eq!(hub.position(nothing_matches).seq, 5);
    }

    #[test]
    fn a_subscriber_grows_and_shrinks() {
        let mut hub = hub();
        let key = hub.attach(NOW, Owner(0), &["a"], Vec::new(), Start::Now).unwrap();
        let (a, b) = (publish(&mut hub, "a"), publish(&mut hub, "b"));
        hub.subscribe(NOW, key, &["b"], &[pattern("*")], Start::Now).unwrap();
        let (b2, c) = (publish(&mut hub, "b"), publish(&mut hub, "c"));
        assert_eq!(hub.subscriptions(key), 3);
        assert_eq!(pull(&mut hub, key), [a, b2, c], "what was published on b before is not its own: {b}");
        hub.unsubscribe(NOW, key, &["a", "b", "never"], &[]);
        let again = ["a", "b", "c"].map(|name| publish(&mut hub, name));
        assert_eq!(pull(&mut hub, key), again, "the pattern still asks for them");
        hub.subscribe(NOW, key, &["b"], &[], Start::Now).unwrap();
        hub.unsubscribe(NOW, key, &[], &[pattern("*")]);
        let [_, b, _] = ["a", "b", "c"].map(|name| publish(&mut hub, name));
        assert_eq!(pull(&mut hub, key), [b]);
        hub.unsubscribe(NOW, key, &["b"], &[]);
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
        hub.subscribe(NOW, key, &["old"], &[], Start::After(after)).unwrap();
        let new = publish(&mut hub, "a");
        assert_eq!(pull(&mut hub, key), [old[1], old[2], new], "nothing twice");
        hub.unsubscribe(NOW, key, &["old"], &[]);
        hub.subscribe(NOW, key, &["old"], &[], Start::Oldest).unwrap();
        assert_eq!(pull(&mut hub, key), old);
    }

    #[test]
    fn who_stays_with_too_many_channels_loses_nothing() {
        let mut config = crate::config::Config::default();
        config.limits.channels_per_pattern = 2;
        let mut hub = Hub::new(&config, crate::id::Epoch::from_random(1), NOW);
        let stays = hub.attach(NOW, Owner(1), &[], vec![pattern("*")], Start::Now).unwrap();
        let goes = hub.attach(NOW, Owner(2), &[], vec![pattern("*")], Start::Now).unwrap();
        let [a, b] = ["a", "b"].map(|name| publish(&mut hub, name));
        assert!(!hub.has_overfull());
        let c = publish(&mut hub, "c");
        let ended = hub.take_overfull(NOW, |owner| owner == Owner(2));
        assert_eq!(ended.iter().map(|(owner, _)| *owner).collect::<Vec<_>>(), [Owner(2)]);
        hub.check();
        assert!(!hub.subscribers.contains(goes) && !hub.has_overfull());
        assert!(hub.take_gaps(stays).is_empty());
        assert_eq!(pull(&mut hub, stays), [a, b, c]);
        let more = publish(&mut hub, "c");
        assert_eq!(pull(&mut hub, stays), [more]);
    }

    #[test]
    fn what_is_taken_away_in_few_bytes_costs_little() {
        let mut hub = hub();
        let names: Vec<String> = (0..9_000).map(|number| format!("c/{number}")).collect();
        names.iter().for_each(|name| _ = publish(&mut hub, name));
        let key = hub.attach(NOW, Owner(0), &["own"], Vec::new(), Start::Now).unwrap();
        let before = hub.looked_at();
        hub.unsubscribe(NOW, key, &[], &[]);
        hub.unsubscribe(NOW, key, &["never"], &[pattern("never/*")]);
        assert_eq!(hub.looked_at(), before, "nothing was taken away, and nothing looked at");
        for _ in 0..20 {
            hub.subscribe(NOW, key, &[], &[pattern("c/*")], Start::Now).unwrap();
            hub.subscribe(NOW, key, &[], &[pattern("c/*")], Start::Now).unwrap();
            assert_eq!(hub.channels_of(key), 9_001);
            hub.unsubscribe(NOW, key, &[], &[pattern("c/*")]);
            assert_eq!(hub.channels_of(key), 1);
        }
        hub.check();
        assert!(hub.looked_at() - before <= 20 * 4 * 9_001, "each channel once a command that does anything");
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
}
