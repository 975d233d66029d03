//! What rules say of channels as far as the hub is concerned: how much of them is kept, and whether it is noted who listens.

use super::Hub;
use super::channel::ChannelKey;
use super::history::Limits;
use super::name::{Pattern, covers, is_internal, topic_of};
use super::subscriber::{Memberships, Owner, SubscriberKey};
use crate::config::{Config, Shows, is_demo_chat};
use crate::time::Instant;
use std::rc::Rc;

/// What the names of channels begin with that tell who is on others.
pub const PRESENCE: &str = "encke/presence/";

/// On so many channels one subscriber is shown at most.
pub const SHOWN_MAX: usize = 1000;

/// So many channels are looked at in a turn after the rules have changed, or as many as keep so many messages.
const CHANNELS_PER_TURN: u32 = 1000;
const MESSAGES_PER_TURN: usize = 10_000;

/// Which terms hold for which channel: those of the first rule that covers its name.
#[derive(Debug, Default)]
pub struct Terms {
    /// The rules in their order; none if all say the same.
    rules: Vec<Rule>,
    /// The demo has a chat, where it is noted who listens, whatever rules say.
    has_chat: bool,
    /// Some have it noted who listens.
    has_presence: bool,
    /// The same, or some had until now.
    notes: bool,
    /// The rules have changed: from this place on, channels have yet to be looked at.
    unfitted: Option<u32>,
}

#[derive(Debug, PartialEq)]
struct Rule {
    pattern: Box<str>,
    /// The place of its bounds in the history.
    place: u16,
    /// Whether it is noted who listens.
    shows: bool,
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
    /// The place of the bounds of channel `name`, and whether it is noted who listens to it. What the server tells by itself
    /// is kept as all others are.
    fn of(&self, name: &str) -> (u16, bool) {
        let topic = topic_of(name);
        let is_own = is_internal(topic) || self.is_presence(topic);
        let place = self.rule(topic).filter(|_| !is_own).map_or(0, |rule| rule.place);
        (place, !is_own && self.shows(topic))
    }

    /// Whether it is noted who listens to channel `name`.
    fn shows(&self, name: &str) -> bool {
        self.has_chat && is_demo_chat(name) || self.rule(name).is_some_and(|rule| rule.shows)
    }

    fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| covers(&rule.pattern, name))
    }

    /// Whether channel `name` tells who is on another.
    fn is_presence(&self, name: &str) -> bool {
        self.has_presence && name.strip_prefix(PRESENCE).is_some_and(|told_of| self.shows(told_of))
    }

    /// How many segments of channel `name` a pattern has to have as they are to reach it: who wants to know who is on others
    /// says so.
    pub fn written(&self, name: &str) -> usize {
        if self.is_presence(name) { PRESENCE.matches('/').count() } else { 0 }
    }

    /// Whether a pattern does not reach a channel that it would match.
    pub fn hides(&self, pattern: &Pattern, name: &str) -> bool {
        self.is_presence(name) && !pattern.as_str().starts_with(PRESENCE)
    }
}

impl Hub {
    /// Takes over what rules say. Channels that are there already follow in the turns to come. Returns whether it is noted on
    /// other channels than before who listens, as far as that can be seen.
    pub(super) fn set_terms(&mut self, config: &Config) -> bool {
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
            let (place, shows) = (self.history.place_of(limits), rule.presence != Shows::Nobody);
            rules.push(Rule { pattern: rule.pattern.as_str().into(), place, shows });
        }
        let has_chat = std::mem::replace(&mut self.terms.has_chat, config.demo);
        let shows = rules.iter().any(|rule| rule.shows);
        self.terms.has_presence = shows || config.demo;
        if !shows && rules.iter().all(|rule| rule.place == 0) {
            rules.clear();
        }
        self.terms.notes |= self.terms.has_presence;
        let says = |rules: &[Rule]| -> Vec<(Box<str>, bool)> {
            rules.iter().map(|rule| (rule.pattern.clone(), rule.shows)).collect()
        };
        let shows_more = has_chat != config.demo || says(&rules) != says(&self.terms.rules);
        if rules != self.terms.rules {
            self.terms.rules = rules;
            self.begin_to_fit();
        }
        shows_more
    }

    /// The place of the bounds of a channel that is opened, and whether it is noted who listens.
    pub(super) fn terms_of(&self, name: &str) -> (u16, bool) {
        match self.terms.rules.is_empty() && !self.terms.has_presence {
            true => (0, false),
            false => self.terms.of(name),
        }
    }

    /// Finds out which bounds hold for each channel, after they have come from another process, which may have had others.
    /// What is beyond them goes in the turns to come.
    pub fn refit(&mut self) {
        let terms = &self.terms;
        self.channels.iter_mut().for_each(|(_, channel)| channel.terms = terms.of(channel.name()).0);
        self.begin_to_fit();
    }

    fn begin_to_fit(&mut self) {
        self.terms.unfitted = (!self.channels.is_empty()).then_some(0);
        self.end_fitting();
    }

    /// Once all channels have been looked at, only what rules say now is noted.
    const fn end_fitting(&mut self) {
        if self.terms.unfitted.is_none() {
            self.terms.notes = self.terms.has_presence;
        }
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
            let (terms, shows) = self.terms.of(channel.name());
            channel.terms = terms;
            if std::mem::replace(&mut channel.shows, shows) != shows {
                let listening = channel.members().map(|entry| self.subscribers[entry.subscriber].owner);
                self.moved.extend(listening);
            }
            let gone = self.history.fit(key, channel, now);
            self.counts.messages_expired += gone.expired as u64;
            self.counts.messages_evicted += gone.evicted as u64;
            self.schedule(now, key);
            if let Some(at) = self.history.next_cut(&self.channels[key]) {
                self.timers.set_by(key, at);
            }
        }
        self.terms.unfitted = (place < end).then_some(place);
        self.end_fitting();
    }

    /// Notes that a subscriber may listen elsewhere than it did, or is about to go.
    #[inline]
    pub fn note_moved(&mut self, key: SubscriberKey) {
        if self.terms.notes {
            let owner = self.subscribers[key].owner;
            // A thousand commands fit one read.
            if self.moved.back() != Some(&owner) {
                self.moved.push_back(owner);
            }
        }
    }

    /// Whether it is noted who listens to some channels.
    pub const fn has_presence(&self) -> bool {
        self.terms.has_presence
    }

    /// Whether channel `name` tells who is on another.
    pub fn is_presence(&self, name: &str) -> bool {
        self.terms.is_presence(name)
    }

    /// Whether [`Hub::next_moved`] has anybody to name.
    pub fn has_moved(&self) -> bool {
        !self.moved.is_empty()
    }

    /// The next whose subscriber may listen elsewhere than it did, or is gone.
    pub fn next_moved(&mut self) -> Option<Owner> {
        self.moved.pop_front()
    }

    /// The channels of which it is noted who listens, and that a subscriber listens to by name, in order; [`SHOWN_MAX`] at
    /// most.
    pub fn shown_on(&self, key: SubscriberKey) -> Vec<Rc<str>> {
        let shown = |key: ChannelKey| {
            let channel = &self.channels[key];
            channel.shows.then(|| Rc::clone(channel.name()))
        };
        match &self.subscribers[key].memberships {
            Memberships::One { channel, .. } => shown(*channel).into_iter().collect(),
            Memberships::Many(many) => {
                let named =
                    many.all.iter().filter(|(_, membership)| membership.named && !membership.is_left());
                let mut found: Vec<_> =
                    named.filter_map(|(_, membership)| shown(membership.channel)).take(SHOWN_MAX).collect();
                found.sort_unstable();
                found
            }
        }
    }

    /// Notes that an earlier life told who was there, up to now: whoever comes back has missed it.
    pub const fn lose_presence(&mut self) {
        self.presence_lost = self.seq;
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

    #[test]
    fn what_tells_who_is_there_is_reached_by_who_says_so() {
        let shown = |pattern: &str, presence| ChannelRule { presence, ..rule(pattern, keeping(7)) };
        let channels = vec![shown("chat/**", Shows::Subjects), shown("**", Shows::Nobody)];
        let terms = hub(&Config { channels, ..Config::default() }).terms;
        assert_eq!(
            ["chat/a", "chat", "encke/presence/chat/a"].map(|name| terms.of(name)),
            [(1, true), (1, false), (0, false)]
        );
        let pattern = |text: &str| Pattern::parse(text.as_bytes()).unwrap().unwrap();
        assert!(terms.hides(&pattern("**"), "encke/presence/chat/a"));
        assert!(!terms.hides(&pattern("**"), "chat/a"));
        assert!(!terms.hides(&pattern("encke/presence/**"), "encke/presence/chat/a"));
        assert_eq!(["encke/presence/chat/a", "chat/a"].map(|name| terms.written(name)), [2, 0]);
        let plain = hub(&config(&[])).terms;
        assert!(!plain.hides(&pattern("**"), "encke/presence/chat/a"));
    }

    #[test]
    fn the_chat_of_the_demo_shows_who_is_there_whatever_is_written() {
        let channels = vec![rule("demo/**", keeping(7))];
        let names = ["demo/chat/a", "demo/chat", "demo/chats", "demo/ticks", "encke/presence/demo/chat/a"];
        for (channels, place) in [(Vec::new(), 0), (channels, 1)] {
            let terms = |demo| {
                let hub = hub(&Config { demo, channels: channels.clone(), ..Config::default() });
                names.map(|name| hub.terms_of(name))
            };
            let shown =
                |shows, own| [(place, shows), (place, shows), (place, false), (place, false), (own, false)];
            assert_eq!(terms(true), shown(true, 0));
            assert_eq!(terms(false), shown(false, 0));
        }
    }
}
