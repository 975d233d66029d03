//! What a subscriber listens to, for whoever asks.

use super::Hub;
use super::key::{ChannelKey, SubscriberKey};
use super::name::Pattern;
use super::subscriber::Memberships;
use crate::id::Seq;
use std::rc::Rc;

impl Hub {
    /// What a subscriber asks for: channels by their names, those too that it has left and not had all of, and
    /// patterns.
    pub fn listens_to(&self, key: SubscriberKey) -> (Vec<Rc<str>>, Vec<Pattern>) {
        let name = |channel: ChannelKey| Rc::clone(&self.channels[channel].name);
        let names = match &self.subscribers[key].memberships {
            Memberships::One { channel, .. } => vec![name(*channel)],
            Memberships::Many(many) => {
                let named =
                    many.all.iter().filter(|(_, membership)| membership.named || membership.is_left());
                named.map(|(_, membership)| name(membership.channel)).collect()
            }
        };
        (names, self.patterns.of(key).to_vec())
    }

    /// Some of what it listens to: at most `max` names and patterns.
    pub fn some_channels(&self, key: SubscriberKey, max: usize) -> Vec<String> {
        let name = |channel: ChannelKey| self.channels[channel].name.to_string();
        let mut some: Vec<String> = match &self.subscribers[key].memberships {
            Memberships::One { channel, .. } => vec![name(*channel)],
            Memberships::Many(many) => {
                let named = many.all.iter().take(max).filter(|(_, membership)| membership.named);
                named.map(|(_, membership)| name(membership.channel)).collect()
            }
        };
        let patterns = self.patterns.of(key).iter().map(|pattern| pattern.as_str().to_owned());
        some.extend(patterns.take(max));
        some.truncate(max);
        some
    }

    /// How many messages it has not had of the first `max` of its channels; of latest values, keys.
    pub fn lacks(&self, key: SubscriberKey, max: usize) -> usize {
        let subscriber = &self.subscribers[key];
        let of = |channel: ChannelKey, floor: Seq| {
            let (channel, after) = (&self.channels[channel], subscriber.after.max(floor));
            match (subscriber.view.is_plain(), channel.latest()) {
                (false, Some(latest)) => latest.after(after).count(),
                _ => channel.ring.after(after).count(),
            }
        };
        match &subscriber.memberships {
            Memberships::One { channel, .. } => of(*channel, 0),
            Memberships::Many(many) => many
                .all
                .iter()
                .take(max)
                .map(|(_, membership)| of(membership.channel, membership.floor))
                .sum(),
        }
    }

    /// How many channels a subscriber asks for by name, or has left and not had all of, and by how many patterns it
    /// asks.
    pub fn subscriptions(&self, key: SubscriberKey) -> usize {
        match &self.subscribers[key].memberships {
            Memberships::One { .. } => 1,
            Memberships::Many(many) => many.named + many.left + self.patterns.of(key).len(),
        }
    }
}
