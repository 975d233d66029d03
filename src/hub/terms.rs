//! What rules say of channels as far as the hub is concerned: how much of them is kept.

use super::Hub;
use super::channel::ChannelKey;
use super::history::Limits;
use super::name::{covers, is_internal, topic_of};
use crate::config::Config;
use crate::time::Instant;

/// So many channels are looked at in a turn after the rules have changed, or as many as keep so many messages.
const CHANNELS_PER_TURN: u32 = 1000;
const MESSAGES_PER_TURN: usize = 10_000;

/// Which bounds hold for which channel: those of the first rule that covers its name.
#[derive(Debug, Default)]
pub struct Terms {
    /// The rules in their order, each with the place of its bounds in the history; none if all have the same.
    rules: Vec<(Box<str>, u16)>,
    /// The rules have changed: from this place on, channels have yet to be looked at.
    unfitted: Option<u32>,
}

/// The bounds of all channels that no rule says anything else of.
pub fn bounds(config: &Config) -> Limits {
    let history = &config.history;
    Limits {
        messages: history.messages,
        grace_ms: history.grace_seconds.saturating_mul(1000),
        bytes: history.bytes,
        age_ms: history.seconds.saturating_mul(1000),
    }
}

impl Terms {
    /// The place of the bounds of channel `name`. What the server tells by itself is kept as all others are.
    fn of(&self, name: &str) -> u16 {
        let topic = topic_of(name);
        let rule = self.rules.iter().find(|(pattern, _)| covers(pattern, topic));
        rule.filter(|_| !is_internal(topic)).map_or(0, |(_, place)| *place)
    }
}

impl Hub {
    /// Takes over what rules say. Channels that are there already follow in the turns to come.
    pub(super) fn set_terms(&mut self, config: &Config) {
        let others = bounds(config);
        let mut rules = Vec::new();
        for rule in &config.channels {
            let keeps = &rule.history;
            let limits = Limits {
                messages: keeps.messages.unwrap_or(others.messages),
                bytes: keeps.bytes.unwrap_or(others.bytes),
                age_ms: keeps.seconds.map_or(others.age_ms, |seconds| seconds.saturating_mul(1000)),
                ..others
            };
            rules.push((rule.pattern.as_str().into(), self.history.place_of(limits)));
        }
        if rules.iter().all(|(_, place)| *place == 0) {
            rules.clear();
        }
        if rules != self.terms.rules {
            self.terms.rules = rules;
            self.begin_to_fit();
        }
    }

    /// The place of the bounds of a channel that is opened.
    pub(super) fn terms_of(&self, name: &str) -> u16 {
        match self.terms.rules.is_empty() {
            true => 0,
            false => self.terms.of(name),
        }
    }

    /// Finds out which bounds hold for each channel, after they have come from another process, which may have had others.
    /// What is beyond them goes in the turns to come.
    pub fn refit(&mut self) {
        let terms = &self.terms;
        self.channels.iter_mut().for_each(|(_, channel)| channel.terms = terms.of(channel.name()));
        self.begin_to_fit();
    }

    fn begin_to_fit(&mut self) {
        self.terms.unfitted = (!self.channels.is_empty()).then_some(0);
    }

    /// Whether there are channels that have yet to be looked at.
    pub(super) const fn has_unfitted(&self) -> bool {
        self.terms.unfitted.is_some()
    }

    /// Looks at some channels whose bounds may have changed, and throws away what is beyond them.
    #[cold]
    pub(super) fn fit_some(&mut self, now: Instant) {
        let Some(from) = self.terms.unfitted else { return };
        let (mut place, end, mut messages) = (from, self.channels.end(), 0);
        while place < end && place < from + CHANNELS_PER_TURN && messages < MESSAGES_PER_TURN {
            let key = ChannelKey::new(place);
            place += 1;
            // What a feed passes on is kept elsewhere.
            let Some(channel) = self.channels.get_mut(key).filter(|channel| channel.feed.is_none()) else {
                continue;
            };
            messages += channel.ring.len();
            channel.terms = self.terms.of(channel.name());
            let gone = self.history.fit(key, channel, now);
            self.counts.messages_expired += gone.expired as u64;
            self.counts.messages_evicted += gone.evicted as u64;
            self.schedule(now, key);
            if let Some(at) = self.history.next_cut(&self.channels[key]) {
                self.timers.set_by(key, at);
            }
        }
        self.terms.unfitted = (place < end).then_some(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ChannelRule, Keeps};
    use crate::hub::{Data, Publication};
    use crate::id::Epoch;

    fn rule(pattern: &str, history: Keeps) -> ChannelRule {
        ChannelRule { pattern: pattern.into(), history, ..ChannelRule::default() }
    }

    fn keeping(messages: usize) -> Keeps {
        Keeps { messages: Some(messages), ..Keeps::default() }
    }

    fn config(rules: &[(&str, Keeps)]) -> Config {
        let channels = rules.iter().map(|(pattern, history)| rule(pattern, *history)).collect();
        let mut config = Config { channels, ..Config::default() };
        config.history.grace_seconds = 0;
        config
    }

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn hub(config: &Config) -> Hub {
        Hub::new(config, Epoch::from_random(7), at(0))
    }

    fn publish(hub: &mut Hub, ms: u64, name: &str, count: usize) {
        for _ in 0..count {
            hub.publish(at(ms), name, Publication::of(Data::Text("12345".into()))).unwrap();
        }
    }

    /// Ticks until nothing is left to do now. Returns how often.
    fn settle(hub: &mut Hub, ms: u64) -> usize {
        let mut turns = 0;
        loop {
            hub.tick(at(ms));
            hub.check();
            turns += 1;
            if hub.next_deadline() > at(ms) {
                return turns;
            }
        }
    }

    fn kept(hub: &Hub, name: &str) -> usize {
        hub.info(name).map_or(0, |info| info.messages)
    }

    #[test]
    fn the_first_rule_that_covers_a_name_holds() {
        let mut config = config(&[("chat/**", keeping(2)), ("chat/a", keeping(9)), ("**", Keeps::default())]);
        config.history.messages = 5;
        let mut hub = hub(&config);
        for name in ["chat/a", "chat/b/c", "chat", "news"] {
            publish(&mut hub, 1, name, 10);
        }
        assert_eq!(settle(&mut hub, 1), 1, "nobody has to be looked at");
        let counts = ["chat/a", "chat/b/c", "chat", "news"].map(|name| kept(&hub, name));
        assert_eq!(counts, [2, 2, 5, 5]);
    }

    #[test]
    fn bytes_and_seconds_are_those_of_the_rule() {
        let bytes = Keeps { bytes: Some(700), ..Keeps::default() };
        let seconds = Keeps { seconds: Some(10), ..Keeps::default() };
        let mut hub = hub(&config(&[("small", bytes), ("short", seconds)]));
        for name in ["small", "short", "other"] {
            publish(&mut hub, 1, name, 20);
        }
        settle(&mut hub, 1);
        let few = kept(&hub, "small");
        assert!((1..10).contains(&few), "{few}");
        settle(&mut hub, 10_000);
        assert_eq!((kept(&hub, "short"), kept(&hub, "other")), (20, 20));
        settle(&mut hub, 10_010);
        assert_eq!((kept(&hub, "short"), kept(&hub, "other"), kept(&hub, "small")), (0, 20, few));
    }

    #[test]
    fn channels_follow_other_rules_some_a_turn() {
        let mut hub = hub(&config(&[]));
        for number in 0..2500 {
            publish(&mut hub, 1, &format!("chat/{number}"), 3);
        }
        publish(&mut hub, 1, "chat/long", 1000);
        settle(&mut hub, 1);
        hub.reconfigure(&config(&[("chat/long", keeping(500)), ("chat/**", keeping(2))]));
        assert!(settle(&mut hub, 2) >= 3, "all at once");
        assert_eq!(["chat/0", "chat/2499", "chat/long"].map(|name| kept(&hub, name)), [2, 2, 500]);
        // Back, and nothing is thrown away; what comes is kept by the new bounds.
        hub.reconfigure(&config(&[("chat/**", keeping(4))]));
        settle(&mut hub, 3);
        publish(&mut hub, 3, "chat/0", 3);
        settle(&mut hub, 3);
        assert_eq!((kept(&hub, "chat/0"), kept(&hub, "chat/long")), (4, 4));
        // An age, bytes, and then no rule.
        hub.reconfigure(&config(&[("chat/0", Keeps { seconds: Some(1), ..Keeps::default() })]));
        settle(&mut hub, 4);
        assert_eq!(kept(&hub, "chat/0"), 4);
        settle(&mut hub, 1020);
        assert_eq!((kept(&hub, "chat/0"), kept(&hub, "chat/1")), (0, 2));
        hub.reconfigure(&config(&[("**", Keeps { bytes: Some(1), ..Keeps::default() })]));
        settle(&mut hub, 1030);
        assert_eq!((kept(&hub, "chat/1"), kept(&hub, "chat/long")), (1, 1), "the newest stays");
        hub.reconfigure(&config(&[]));
        settle(&mut hub, 1040);
        publish(&mut hub, 1040, "chat/1", 5);
        settle(&mut hub, 1040);
        assert_eq!(kept(&hub, "chat/1"), 6);
    }

    #[test]
    fn the_same_rules_are_no_other() {
        let rules = config(&[("a", keeping(2))]);
        let mut hub = hub(&rules);
        publish(&mut hub, 1, "a", 1);
        hub.reconfigure(&rules);
        assert_eq!(settle(&mut hub, 1), 1);
        assert!(!hub.has_unfitted());
    }
}
