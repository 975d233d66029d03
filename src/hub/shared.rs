//! The hub of one of several servers that share a history: somebody else gives the numbers, clients come with ids that we
//! do not know yet, and what was history may turn out to be lost.

use super::ahead::AHEAD_MAX;
use super::subscriber::Memberships;
use super::{ChannelKey, Hub, SubscriberKey};
use crate::id::Seq;
use crate::time::Instant;
use std::rc::Rc;

impl Hub {
    /// Becomes the hub of a history of which everything up to `watermark` may be lost. Nobody must listen yet.
    pub fn begin_shared(&mut self, watermark: Seq) {
        self.ahead.most = AHEAD_MAX;
        self.suspect(watermark);
        self.go_on_at(watermark + 1);
    }

    /// Notes that what had the numbers after `after`, up to `to`, is lost: what we keep of it has never happened, as the
    /// others do not know of it, and whoever listens is told of a gap, as it may be the messages that are missing.
    pub fn lose_after(&mut self, now: Instant, after: Seq, to: Seq) {
        self.forget_after(now, after);
        self.suspect(to);
        self.lose(to + 1);
        self.go_on_at(to + 1);
        self.estrange_all();
    }

    /// The same, but what others have instead of it follows, with numbers after `after`.
    pub fn go_back_to(&mut self, now: Instant, after: Seq) {
        let newest = self.seq;
        self.forget_after(now, after);
        // What was lost of what has never happened is none.
        self.channels.iter_mut().for_each(|(_, channel)| channel.ring.lower_loss(after));
        self.tombstones.lower(after);
        self.lose(newest + 1);
        self.go_on_at(after + 1);
        // What they have instead may have lower numbers than what we had.
        let all: Vec<SubscriberKey> = self.subscribers.iter().map(|(key, _)| key).collect();
        all.into_iter().for_each(|key| self.bring_back(key, newest));
    }

    fn forget_after(&mut self, now: Instant, after: Seq) {
        let channels: Vec<ChannelKey> = self.channels.iter().map(|(key, _)| key).collect();
        for &key in &channels {
            if self.channels[key].newest() > after {
                self.take_back_from(key, after);
                self.schedule(now, key);
            }
        }
    }

    fn estrange_all(&mut self) {
        let all: Vec<SubscriberKey> = self.subscribers.iter().map(|(key, _)| key).collect();
        all.into_iter().for_each(|key| self.estrange(key));
    }

    /// Takes back what a channel has from after `after`. Keys have the value again that they had before, if it is kept.
    fn take_back_from(&mut self, key: ChannelKey, after: Seq) {
        let channel = &mut self.channels[key];
        self.history.take_back(channel, after);
        let Some(keyed) = &mut channel.keyed else { return };
        let (keys, bytes) = (keyed.latest.keys(), keyed.latest.bytes());
        let taken = keyed.latest.take_back(after);
        self.keys = self.keys + keyed.latest.keys() - keys;
        self.value_bytes = self.value_bytes + keyed.latest.bytes() - bytes;
        let mut before = Vec::new();
        for message in &taken {
            if message.is_removal() {
                self.removals.remove(&message.id.seq);
            }
            self.history.release(message);
            let ring = channel.ring.after(0);
            before.extend(ring.filter(|older| older.key() == message.key()).last().map(Rc::clone));
        }
        for message in before {
            self.keep_latest(key, &message);
        }
        // Patches would be made against what has never happened.
        self.change_groups(key, |channel| {
            let newest = channel.newest();
            let groups = channel.keyed.iter_mut().flat_map(|keyed| &mut keyed.groups);
            groups.for_each(|group| group.begin_anew(newest));
        });
    }

    /// Has a subscriber told of a gap on all it listens to.
    pub(super) fn estrange(&mut self, key: SubscriberKey) {
        let id = self.position(key);
        let patterns = self.patterns.of(key);
        let stranger = self.strangers.entry(key).or_default();
        // Of channels that they match we may have heard nothing yet.
        let had = *stranger.id.get_or_insert(id);
        stranger.patterns = patterns.iter().map(|pattern| (pattern.clone(), had)).collect();
        let subscriber = &mut self.subscribers[key];
        subscriber.stranger = true;
        if let Memberships::Many(many) = &mut subscriber.memberships {
            let places: Vec<(u32, Seq)> = many
                .all
                .iter()
                .filter(|(_, membership)| !membership.is_left())
                .map(|(place, membership)| (place as u32, membership.floor.max(id.seq)))
                .collect();
            for (place, had) in places {
                let membership = &mut many.all[place as usize];
                membership.stranger = true;
                if membership.next == 0 || membership.next > had + 1 {
                    many.expect(place, had + 1);
                }
            }
        }
        self.mark(key);
    }
}
