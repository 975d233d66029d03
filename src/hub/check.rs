//! What always holds in a hub, for tests.

use super::key::{Entry, Owner, SubscriberKey};
use super::latest::Latest;
use super::memory::MEMBERSHIP_BYTES;
use super::pace::Pace;
use super::patterns::Patterns;
use super::shares::Payer;
use super::subscriber::{Memberships, NOT_YET};
use super::{Hub, HubError, Publication, Published};
use crate::id::Seq;
use crate::time::Instant;
use std::collections::BTreeSet;

impl Hub {
    /// Accepts and commits a message, if there is room for its channel.
    pub fn publish(
        &mut self,
        now: Instant,
        name: &str,
        publication: Publication,
    ) -> Result<Published, HubError> {
        self.admits_one(name, &publication)?;
        Ok(self.commit(now, name, self.seq + 1, publication))
    }

    /// Publishes that `key` is gone from channel `name`; `None` if it has no value there.
    pub fn remove(&mut self, now: Instant, name: &str, key: &str) -> Option<Published> {
        self.value(now, name, key)?;
        self.publish(now, name, Publication::removal(key)).ok()
    }

    /// What the owner of a subscriber has noted.
    pub fn noted(&self, key: SubscriberKey) -> u8 {
        self.subscribers[key].note
    }

    /// Whose the subscribers are.
    pub(crate) fn owners(&self) -> impl Iterator<Item = Owner> {
        self.subscribers.iter().map(|(_, subscriber)| subscriber.owner)
    }

    /// Up to which number any channel that nobody remembers may have lost something.
    pub fn suspected(&self) -> Seq {
        self.tombstones.lost("")
    }

    /// Panics if lists, indices, marks or sums contradict each other.
    pub(crate) fn check(&self) {
        self.check_channels();
        self.check_subscribers();
        let (mut messages, mut bytes, mut keys, mut value_bytes, mut removals) = (0, 0, 0, 0, 0);
        let mut base_bytes = 0;
        let mut seen = BTreeSet::new();
        for (_, channel) in self.channels.iter() {
            let ring = &channel.ring;
            let kept: Vec<_> = ring.after(0).collect();
            assert_eq!(ring.bytes(), kept.iter().map(|message| message.cost()).sum::<usize>());
            if channel.feed.is_some() {
                continue;
            }
            messages += kept.len();
            let counted = kept.iter().filter(|message| seen.insert(message.id.seq));
            bytes += counted.map(|message| message.cost() + message.frames_cost()).sum::<usize>();
            assert!(kept.windows(2).all(|pair| pair[0].id.seq < pair[1].id.seq));
            assert!(kept.first().is_none_or(|oldest| oldest.id.seq > ring.evicted()));
            assert!(ring.evicted_unkeyed() <= ring.evicted());
            base_bytes += channel.base_bytes();
            let Some(latest) = channel.latest() else { continue };
            latest.check();
            let others = latest.after(0).filter(|message| !ring.contains(message.id.seq));
            bytes += others.map(|message| message.cost() + message.frames_cost()).sum::<usize>();
            keys += latest.keys();
            value_bytes += latest.bytes();
            removals += latest.removals();
            assert!(latest.keys() <= self.bounds.keys_per_channel);
            assert!(latest.removals() <= self.bounds.keys_per_channel);
        }
        assert_eq!((self.history.messages(), self.history.bytes()), (messages, bytes + base_bytes));
        assert_eq!(self.base_bytes, base_bytes);
        self.check_feeds();
        assert_eq!((self.keys, self.value_bytes, self.removals.len()), (keys, value_bytes, removals));
    }

    fn check_channels(&self) {
        self.names.check();
        let feeds = self.channels.iter().filter(|(_, channel)| channel.feed.is_some()).count();
        assert_eq!(self.names.under("").count() + feeds, self.channels.len());
        let silent = self.channels.iter().filter(|(_, channel)| !channel.spoken).count();
        assert_eq!(silent, self.silent);
        for (name, key) in self.names.under("") {
            let channel = &self.channels[key];
            let is_needed = channel.spoken || channel.ring.is_empty() && channel.places() > 0;
            assert!(is_needed, "{name}: without messages, and nobody listens");
            assert_eq!(channel.name(), name);
            assert!(channel.ring.newest() <= self.seq && channel.ring.evicted() <= self.seq);
            if let Some(expiry) = channel.ring.next_expiry() {
                assert!(self.timers.fires_by(key, expiry), "{name}: what expires is overlooked");
            }
            if let Some(at) = self.history.next_cut(channel) {
                let is_seen =
                    self.history.is_overfull(key) || self.timers.fires_by(key, at) || self.has_unfitted();
                assert!(is_seen, "{name}: its count is overlooked");
            }
            let has_left = |entry: &&Entry| self.has_left(entry.subscriber, key);
            assert_eq!(channel.subscribers.iter().filter(has_left).count(), channel.left as usize, "{name}");
            if let Some(expiry) = channel.latest().and_then(Latest::next_expiry) {
                assert!(self.timers.fires_by(key, expiry), "{name}: a value that expires is overlooked");
            }
            let mut all = vec![(Pace::NONE, &channel.subscribers)];
            let groups = channel.keyed.iter().flat_map(|keyed| &keyed.groups);
            all.extend(groups.map(|group| (group.pace, &group.members)));
            let listed =
                all.iter().flat_map(|(pace, list)| list.iter().enumerate().map(move |it| (*pace, it)));
            for (pace, (place, entry)) in listed {
                let subscriber = &self.subscribers[entry.subscriber];
                assert_eq!(subscriber.view.list(), pace, "{name}: a subscriber on a wrong list");
                let (of, index) = match &subscriber.memberships {
                    Memberships::One { channel, index } => (*channel, *index),
                    Memberships::Many(many) => many.all[entry.membership as usize].place(),
                };
                assert_eq!((of, index), (key, place as u32), "{name}: a subscriber and its list disagree");
            }
        }
    }

    fn check_subscribers(&self) {
        let queued: BTreeSet<_> = self.ready.iter().chain(&self.bulk).collect();
        let mut listed = 0;
        for (key, subscriber) in self.subscribers.iter() {
            assert!(!subscriber.queued || queued.contains(&key), "{key:?} is ready but not queued");
            assert_eq!(subscriber.stranger, self.strangers.contains_key(&key));
            assert!(subscriber.after <= self.seq + self.ahead.most);
            let is_ahead = self.any_ahead(subscriber, |_| true);
            assert!(!is_ahead || self.ahead.has_claimant(key), "{key:?} is ahead of us, and nobody knows");
            assert_eq!(subscriber.view.has_aside(), self.asides.contains_key(&key));
            let view = subscriber.view;
            assert!(
                !view.is_early() || self.ticks.is_early(view.pace(), key),
                "{key:?} is told at no tick any more"
            );
            listed += match &subscriber.memberships {
                Memberships::One { .. } => 1,
                Memberships::Many(many) => {
                    many.check();
                    for (_, membership) in &many.all {
                        let channel = &self.channels[membership.place().0];
                        let had = subscriber.after.max(membership.floor);
                        let first = channel.ring.after(had).next().map(|message| message.id.seq);
                        let first = first.filter(|seq| *seq <= membership.until);
                        let behind = match view.is_plain() {
                            true => first.is_some() || channel.ring.evicted() > had && had < membership.until,
                            false => Self::has_news(channel, view, had),
                        };
                        // What waits for a tick is noted with the tick; and who has left, and had all, leaves with it.
                        let is_settled = self.settled.contains(&(key, membership.place().0));
                        let behind = behind && view.list().is_none() && !is_settled;
                        assert!(!behind || membership.has_news(), "{key:?} overlooks news");
                        let is_early = first.is_none_or(|first| membership.next <= first);
                        assert!(is_early || !view.is_plain(), "{key:?} comes to its news too late");
                    }
                    many.all.len()
                }
            };
        }
        let places: usize = self.channels.iter().map(|(_, channel)| channel.places()).sum();
        assert_eq!(listed, places);
        let waiting = self.subscribers.iter().flat_map(|(key, subscriber)| match &subscriber.memberships {
            Memberships::One { .. } => Vec::new(),
            Memberships::Many(many) => {
                let waits = many.all.iter().filter(|(_, membership)| membership.until == NOT_YET);
                waits.map(|(_, membership)| (key, membership.place().0)).collect()
            }
        });
        self.parting.check(waiting);
        self.patterns.check(|key| self.subscribers.contains(key));
        let of_subscribers = self.subscribers.iter().map(|(key, subscriber)| match &subscriber.memberships {
            Memberships::One { .. } => (Payer::NOBODY, 0),
            Memberships::Many(many) => {
                let patterns = Patterns::cost(self.patterns.of(key));
                (many.payer, patterns + many.all.len() * MEMBERSHIP_BYTES)
            }
        });
        self.shares.check(of_subscribers.chain(self.paid_for_feeds()));
        assert!(self.strangers.keys().all(|&key| self.subscribers.contains(key)));
        assert!(self.beginnings.keys().all(|&key| self.subscribers.contains(key)));
    }
}
