//! Templates by what they begin with: with which of them a topic is compared, and how much that may cost.
//!
//! Only templates are compared with a topic whose beginning the topic has: those of one group, and of all groups that
//! begin as it does. Such a row of groups is a *chain*. What a chain costs is bounded when a template comes, so that no
//! publication waits for longer than that, however many templates there are in all.

use super::super::key::ChannelKey;
use super::super::selection::Selection;
use super::super::selector::Selector;
use super::super::shares::Payer;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;

/// What it may cost to compare a topic with all templates that it has the beginning of, in looks at a channel.
pub const COMPARED_MAX: usize = 1024;
/// The same with those of one address that begin alike.
pub const COMPARED_OF_ONE_MAX: usize = COMPARED_MAX / 8;

/// All templates.
#[derive(Debug, Default)]
pub struct Compared {
    groups: BTreeMap<Rc<str>, Group>,
    /// How long the beginnings of groups are, and of how many.
    lengths: BTreeMap<usize, usize>,
}

/// Those with one beginning.
#[derive(Debug, Default)]
struct Group {
    /// What it costs to compare a topic with them, and with those of the groups that begin as this one does.
    chain: usize,
    /// The same with those that somebody pays for.
    paid: BTreeMap<Payer, usize>,
    of: BTreeMap<Selector, Entry>,
}

/// A template: who was the first to ask for it, and the feeds that do.
#[derive(Debug)]
struct Entry {
    payer: Payer,
    feeds: BTreeSet<ChannelKey>,
}

impl Compared {
    /// Whether there is none.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.lengths.is_empty()
    }

    /// How many groups are looked at when a selection is entered, or struck out: up to `most`.
    pub fn breadth(&self, selection: &Selection, most: usize) -> usize {
        by_prefix(selection).keys().fold(0, |looked_at, prefix| {
            looked_at + 1 + self.below(prefix).take(most.saturating_sub(looked_at)).count()
        })
    }

    /// Enters the templates of a feed. False, and nothing is entered, if a topic would be compared with more than it may.
    pub fn admit(&mut self, feed: ChannelKey, payer: Payer, selection: &Selection) -> bool {
        let all = by_prefix(selection);
        for (at, (prefix, selectors)) in all.iter().enumerate() {
            let fits = self.enter_group(feed, payer, prefix, selectors);
            if !fits && payer != Payer::NOBODY {
                let entered = all.iter().take(at + 1);
                entered.for_each(|(prefix, selectors)| self.strike_group(feed, prefix, selectors));
                return false;
            }
        }
        true
    }

    /// The same whatever it costs.
    pub fn enter(&mut self, feed: ChannelKey, payer: Payer, selection: &Selection) {
        for (prefix, selectors) in by_prefix(selection) {
            self.enter_group(feed, payer, prefix, &selectors);
        }
    }

    /// Strikes out the templates of a feed.
    pub fn strike(&mut self, feed: ChannelKey, selection: &Selection) {
        for (prefix, selectors) in by_prefix(selection) {
            self.strike_group(feed, prefix, &selectors);
        }
    }

    /// The feeds with templates that match a topic.
    pub fn matching(&self, topic: &str) -> impl Iterator<Item = ChannelKey> {
        let lengths = self.lengths.keys().take_while(|length| **length <= topic.len());
        let prefixes = lengths.filter_map(|&length| topic.get(..length));
        let groups = prefixes.filter_map(|prefix| self.groups.get(prefix));
        let matching = groups.flat_map(|group| &group.of).filter(|(template, _)| template.matches(topic));
        matching.flat_map(|(_, entry)| &entry.feeds).copied()
    }

    /// Returns whether a topic is compared with no more than it may.
    fn enter_group(&mut self, feed: ChannelKey, payer: Payer, prefix: &str, selectors: &[&Selector]) -> bool {
        if !self.groups.contains_key(prefix) {
            let chain = self.ancestor(prefix).map_or(0, |group| group.chain);
            self.groups.insert(prefix.into(), Group { chain, ..Group::default() });
            *self.lengths.entry(prefix.len()).or_default() += 1;
        }
        let Some(group) = self.groups.get_mut(prefix) else { return false };
        let mut more = 0;
        for &selector in selectors {
            let entry = group.of.entry(selector.clone()).or_insert_with(|| {
                more += selector.weight();
                Entry { payer, feeds: BTreeSet::new() }
            });
            entry.feeds.insert(feed);
        }
        if more == 0 {
            return true;
        }
        let paid = group.paid.entry(payer).or_default();
        *paid += more;
        let fits = *paid <= COMPARED_OF_ONE_MAX;
        self.change(prefix, |chain| *chain += more) <= COMPARED_MAX && fits
    }

    fn strike_group(&mut self, feed: ChannelKey, prefix: &str, selectors: &[&Selector]) {
        let Some(group) = self.groups.get_mut(prefix) else { return };
        let mut less = 0;
        for &selector in selectors {
            let Some(entry) = group.of.get_mut(selector) else { continue };
            entry.feeds.remove(&feed);
            if !entry.feeds.is_empty() {
                continue;
            }
            let (payer, weight) = (entry.payer, selector.weight());
            group.of.remove(selector);
            less += weight;
            if let Some(paid) = group.paid.get_mut(&payer) {
                *paid -= weight;
                if *paid == 0 {
                    group.paid.remove(&payer);
                }
            }
        }
        let is_empty = group.of.is_empty();
        if less > 0 {
            self.change(prefix, |chain| *chain -= less);
        }
        if is_empty {
            self.groups.remove(prefix);
            if let Some(count) = self.lengths.get_mut(&prefix.len()) {
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&prefix.len());
                }
            }
        }
    }

    /// Changes what the chains cost that a group is in. Returns what the dearest of them costs then.
    fn change(&mut self, prefix: &str, change: impl Fn(&mut usize)) -> usize {
        let below = self.groups.range_mut::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        let below = below.take_while(|(other, _)| other.starts_with(prefix));
        below.fold(0, |most, (_, group)| {
            change(&mut group.chain);
            most.max(group.chain)
        })
    }

    /// The groups that begin as the one of that beginning does, it among them.
    fn below(&self, prefix: &str) -> impl Iterator<Item = &Group> {
        let below = self.groups.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        let below = below.take_while(move |(other, _)| other.starts_with(prefix));
        below.map(|(_, group)| group)
    }

    /// The group with the longest beginning that `prefix` has, too.
    fn ancestor(&self, prefix: &str) -> Option<&Group> {
        let mut upto = prefix;
        loop {
            let (found, group) =
                self.groups.range::<str, _>((Bound::Unbounded, Bound::Included(upto))).next_back()?;
            if upto.starts_with(&**found) {
                return Some(group);
            }
            // Whatever lies between an ancestor and this has what both have in common.
            let same = found.bytes().zip(upto.bytes()).take_while(|(one, other)| one == other).count();
            upto = (0..=same).rev().find_map(|end| upto.get(..end)).unwrap_or_default();
        }
    }

    /// What the dearest topic costs.
    #[cfg(test)]
    pub fn most(&self) -> usize {
        self.groups.values().map(|group| group.chain).max().unwrap_or_default()
    }

    /// Panics if sums are others than of what there is.
    #[cfg(any(test, feature = "check"))]
    pub fn check(&self) {
        let mut lengths = BTreeMap::<usize, usize>::new();
        for (prefix, group) in &self.groups {
            *lengths.entry(prefix.len()).or_default() += 1;
            let of_chain = self.groups.iter().filter(|(other, _)| prefix.starts_with(&***other));
            let weight = |group: &Group| group.of.keys().map(Selector::weight).sum::<usize>();
            assert_eq!(group.chain, of_chain.map(|(_, group)| weight(group)).sum::<usize>(), "{prefix}");
            assert_eq!(group.paid.values().sum::<usize>(), weight(group), "{prefix}");
            assert!(group.of.values().all(|entry| !entry.feeds.is_empty()) && !group.of.is_empty());
        }
        assert_eq!(self.lengths, lengths);
    }
}

/// The templates of a selection by what they begin with.
fn by_prefix(selection: &Selection) -> BTreeMap<&str, Vec<&Selector>> {
    let mut all = BTreeMap::<&str, Vec<&Selector>>::new();
    for selector in selection.templates() {
        all.entry(selector.prefix()).or_default().push(selector);
    }
    all
}
