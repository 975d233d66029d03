//! The patterns of subscribers, and whom of them a new channel is for.
//!
//! They lie in the order of their text, so that all that begin alike lie together. A name is followed segment by segment
//! through what patterns there are that begin like it: a new channel costs as much as what matches it, in part or as a
//! whole, and not as much as all patterns.

use super::key::SubscriberKey;
use super::name::{Pattern, is_internal};
use crate::carry::carry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Bytes that one takes beside its text, which is kept twice: its places in both tables, and of the allocator.
const PATTERN_BYTES: usize = 192;

/// All of them.
#[derive(Debug, Default)]
pub struct Patterns {
    /// Those of each subscriber, in order.
    of: BTreeMap<SubscriberKey, Vec<Pattern>>,
    /// Who has each.
    who: BTreeMap<Box<str>, BTreeSet<SubscriberKey>>,
}

carry! {
    struct Patterns { of, who }
}

impl Patterns {
    /// Those of a subscriber, in order.
    pub fn of(&self, key: SubscriberKey) -> &[Pattern] {
        self.of.get(&key).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a subscriber has any.
    pub fn has_any(&self, key: SubscriberKey) -> bool {
        self.of.contains_key(&key)
    }

    /// Whether nobody has any.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Gives a subscriber more of them. Returns how many bytes these take.
    pub fn add(&mut self, key: SubscriberKey, patterns: Vec<Pattern>) -> usize {
        let mut bytes = 0;
        for pattern in patterns {
            let who = match self.who.get_mut(pattern.as_str()) {
                Some(who) => who,
                None => self.who.entry(pattern.as_str().into()).or_default(),
            };
            if who.insert(key) {
                bytes += cost(&pattern);
                let own = self.of.entry(key).or_default();
                let place = own.binary_search(&pattern).unwrap_or_else(|place| place);
                own.insert(place, pattern);
            }
        }
        bytes
    }

    /// Takes away those of a subscriber that are not to be kept. Returns how many bytes these took.
    pub fn retain(&mut self, key: SubscriberKey, keep: impl Fn(&Pattern) -> bool) -> usize {
        let Some(own) = self.of.get_mut(&key) else { return 0 };
        let mut bytes = 0;
        own.retain(|pattern| {
            let stays = keep(pattern);
            if !stays {
                bytes += cost(pattern);
                forget(&mut self.who, pattern, key);
            }
            stays
        });
        if own.is_empty() {
            self.of.remove(&key);
        }
        bytes
    }

    /// Takes away all of a subscriber. Returns how many bytes they took.
    pub fn remove(&mut self, key: SubscriberKey) -> usize {
        let own = self.of.remove(&key).unwrap_or_default();
        own.iter().for_each(|pattern| forget(&mut self.who, pattern, key));
        own.iter().map(cost).sum()
    }

    /// Who has a pattern that matches `name`, and has the first `written` segments of it as they are. As with
    /// [`Pattern::matches`], none matches a channel of the server's own.
    pub fn matching(&self, name: &str, written: usize) -> BTreeSet<SubscriberKey> {
        let mut found = BTreeSet::new();
        if is_internal(name) {
            return found;
        }
        let mut note = |pattern: &str| found.extend(self.who.get(pattern).into_iter().flatten());
        // What patterns begin with that match the segments so far, each with the `/` behind it.
        let mut begun = vec![String::new()];
        let mut segments = name.split('/').enumerate().peekable();
        while let Some((place, segment)) = segments.next() {
            let mut further = Vec::new();
            for begin in &begun {
                let wild: &[&str] = if place < written { &[] } else { &["*"] };
                if place >= written {
                    note(&format!("{begin}**"));
                }
                for segment in [segment].iter().chain(wild) {
                    let mut longer = format!("{begin}{segment}");
                    if segments.peek().is_none() {
                        note(&longer);
                        continue;
                    }
                    longer.push('/');
                    if self.is_begun(&longer) {
                        further.push(longer);
                    }
                }
            }
            begun = further;
        }
        found
    }

    /// Whether any begins so.
    fn is_begun(&self, begin: &str) -> bool {
        self.who
            .range::<str, _>((Bound::Included(begin), Bound::Unbounded))
            .next()
            .is_some_and(|(pattern, _)| pattern.starts_with(begin))
    }

    /// What these take for one subscriber.
    pub fn cost<'a>(patterns: impl IntoIterator<Item = &'a Pattern>) -> usize {
        patterns.into_iter().map(cost).sum()
    }

    /// Panics if both tables contradict each other. Returns what all of them take.
    #[cfg(any(test, feature = "check"))]
    pub fn check(&self, is_there: impl Fn(SubscriberKey) -> bool) -> usize {
        let mut listed: Vec<(&str, SubscriberKey)> = Vec::new();
        for (&key, own) in &self.of {
            assert!(is_there(key) && !own.is_empty() && own.is_sorted());
            listed.extend(own.iter().map(|pattern| (pattern.as_str(), key)));
        }
        listed.sort_unstable();
        let who = self.who.iter().flat_map(|(pattern, who)| who.iter().map(|key| (&**pattern, *key)));
        assert!(who.eq(listed) && self.who.values().all(|who| !who.is_empty()));
        self.of.values().flatten().map(cost).sum()
    }
}

/// Bytes that a pattern takes for one subscriber.
fn cost(pattern: &Pattern) -> usize {
    PATTERN_BYTES + 2 * pattern.as_str().len()
}

fn forget(who: &mut BTreeMap<Box<str>, BTreeSet<SubscriberKey>>, pattern: &Pattern, key: SubscriberKey) {
    if let Some(of) = who.get_mut(pattern.as_str()) {
        of.remove(&key);
        if of.is_empty() {
            who.remove(pattern.as_str());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Random;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text.as_bytes()).unwrap().unwrap()
    }

    /// A pattern of few words, so that many match.
    fn draw(random: &mut Random) -> Pattern {
        let mut segments: Vec<&str> =
            (0..=random.below(3)).map(|_| ["a", "b", "aa", "*"][random.below(4) as usize]).collect();
        match random.below(3) {
            0 => segments.push("**"),
            _ => segments.push("*"),
        }
        pattern(&segments.join("/"))
    }

    #[test]
    fn agrees_with_comparing_all_of_them() {
        let mut random = Random::new(11);
        let mut patterns = Patterns::default();
        let mut twin: BTreeMap<SubscriberKey, Vec<Pattern>> = BTreeMap::new();
        let mut bytes = 0;
        for _ in 0..3000 {
            let key = SubscriberKey::new(random.below(8) as u32);
            match random.below(4) {
                0 | 1 => {
                    let more: Vec<Pattern> = (0..random.below(4)).map(|_| draw(&mut random)).collect();
                    bytes += patterns.add(key, more.clone());
                    let own = twin.entry(key).or_default();
                    own.extend(more);
                    own.sort_unstable();
                    own.dedup();
                }
                2 => {
                    let away = draw(&mut random);
                    bytes -= patterns.retain(key, |pattern| *pattern != away);
                    twin.entry(key).or_default().retain(|pattern| *pattern != away);
                }
                _ => {
                    bytes -= patterns.remove(key);
                    twin.remove(&key);
                }
            }
            let name: Vec<&str> =
                (0..=random.below(4)).map(|_| ["a", "b", "aa", "c"][random.below(4) as usize]).collect();
            let own = if random.one_in(8) { "\u{1}" } else { "" };
            let name = format!("{own}{}", name.join("/"));
            let matches = |own: &Vec<Pattern>| own.iter().any(|pattern| pattern.matches(&name));
            let expected = twin.iter().filter(|(_, own)| matches(own)).map(|(key, _)| *key);
            assert!(patterns.matching(&name, 0).into_iter().eq(expected), "{name}");
            let literal = |own: &Vec<Pattern>| {
                let begins_so =
                    |pattern: &&Pattern| pattern.as_str().split('/').next() == name.split('/').next();
                own.iter().filter(begins_so).any(|pattern| pattern.matches(&name))
            };
            let expected = twin.iter().filter(|(_, own)| literal(own)).map(|(key, _)| *key);
            assert!(patterns.matching(&name, 1).into_iter().eq(expected), "{name}");
            assert_eq!(patterns.of(key), twin.get(&key).map(Vec::as_slice).unwrap_or_default());
            assert_eq!(bytes, patterns.check(|_| true));
        }
    }

    /// Comparisons with each of a million patterns would take a second.
    #[test]
    fn a_name_costs_what_matches_it() {
        let mut patterns = Patterns::default();
        let others = (0..50_000).map(|number| pattern(&format!("*/x{number}")));
        patterns.add(SubscriberKey::new(1), others.collect());
        patterns.add(SubscriberKey::new(2), vec![pattern("a/*")]);
        let mut begun = 0;
        for number in 0..20_000 {
            begun += patterns.matching(&format!("a/{number}"), 0).len();
        }
        assert_eq!(begun, 20_000);
    }
}
