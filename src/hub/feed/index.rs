//! All feeds, and how those are found that a topic is for.

use super::super::key::ChannelKey;
use super::super::name::{covers, topic_of};
use super::super::selection::Selection;
use super::super::selector::Selector;
use crate::carry::resume;
use crate::id::Seq;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// All feeds, and how they are found.
#[derive(Debug, Default)]
pub struct Feeds {
    pub(super) is_on: bool,
    pub(super) known: BTreeMap<Rc<Selection>, ChannelKey>,
    /// Feeds by a topic that they ask for.
    exact: BTreeMap<Rc<str>, Vec<ChannelKey>>,
    /// Feeds by what their templates begin with, and how long these beginnings are.
    templates: BTreeMap<Rc<str>, BTreeMap<Selector, Vec<ChannelKey>>>,
    lengths: BTreeMap<usize, usize>,
    pub(super) wide: BTreeSet<ChannelKey>,
    /// Names and patterns of channels, and whether they are shown to who does not name them; the first counts that
    /// covers a name.
    pub(super) shown: Vec<(Box<str>, bool)>,
    /// The highest number that a limit took from a channel that all may see.
    pub(super) lost: Seq,
    /// The highest number that a limit took from a channel of private updates, of those that had other topics, too: by
    /// one of these, it may have been seen by who may not see the channel's own.
    pub(super) lost_beside: BTreeMap<ChannelKey, Seq>,
    /// Feeds with something in their rings.
    pub(super) filled: Vec<ChannelKey>,
    /// How far the last walk came.
    pub(super) walked: std::cell::Cell<Option<Seq>>,
}

resume! {
    Feeds {
        carried: lost, lost_beside, filled;
        resumed: ;
        // What follows from the feeds is found out again when selections are served.
        given: is_on, known, exact, templates, lengths, wide, shown, walked
    }
}

impl Feeds {
    /// The same without the feeds, which are to be entered anew.
    pub(super) fn emptied(self) -> Self {
        let Self { lost, lost_beside, filled, shown, .. } = self;
        Self { is_on: true, lost, lost_beside, filled, shown, ..Self::default() }
    }

    /// Whether there may be any.
    pub const fn is_on(&self) -> bool {
        self.is_on
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn hides(&self, name: &str) -> bool {
        let topic = topic_of(name);
        !self.shown.iter().find(|(pattern, _)| covers(pattern, topic)).is_none_or(|(_, is_shown)| *is_shown)
    }

    /// Whether no topic is asked for.
    #[cfg(test)]
    pub(super) fn asks_nothing(&self) -> bool {
        self.exact.is_empty() && self.templates.is_empty() && self.lengths.is_empty()
    }

    /// Enters what a feed asks for.
    #[expect(clippy::mutable_key_type, reason = "selectors are compared by their texts")]
    pub(super) fn enter(&mut self, key: ChannelKey, selection: &Selection) {
        for selector in selection.selectors() {
            match selector {
                Selector::All => {}
                Selector::Exact(topic) => self.exact.entry(Rc::clone(topic)).or_default().push(key),
                Selector::Template(_) | Selector::Url(_) => {
                    let prefix = selector.prefix();
                    if !self.templates.contains_key(prefix) {
                        *self.lengths.entry(prefix.len()).or_default() += 1;
                    }
                    let under = self.templates.entry(prefix.into()).or_default();
                    under.entry(selector.clone()).or_default().push(key);
                }
            }
        }
    }

    /// Strikes it out.
    pub(super) fn strike(&mut self, key: ChannelKey, selection: &Selection) {
        for selector in selection.selectors() {
            match selector {
                Selector::All => {}
                Selector::Exact(topic) => {
                    if let Some(feeds) = self.exact.get_mut(topic) {
                        feeds.retain(|other| *other != key);
                        if feeds.is_empty() {
                            self.exact.remove(topic);
                        }
                    }
                }
                Selector::Template(_) | Selector::Url(_) => self.strike_template(key, selector),
            }
        }
    }

    fn strike_template(&mut self, key: ChannelKey, selector: &Selector) {
        let prefix = selector.prefix();
        let Some(under) = self.templates.get_mut(prefix) else { return };
        if let Some(feeds) = under.get_mut(selector) {
            feeds.retain(|other| *other != key);
            if feeds.is_empty() {
                under.remove(selector);
            }
        }
        if under.is_empty() {
            self.templates.remove(prefix);
            if let Some(count) = self.lengths.get_mut(&prefix.len()) {
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&prefix.len());
                }
            }
        }
    }

    /// The feeds with selectors that select `topic`, but for those of everything.
    pub(super) fn asking(&self, topic: &str) -> BTreeSet<ChannelKey> {
        let mut found: BTreeSet<ChannelKey> = self.exact.get(topic).into_iter().flatten().copied().collect();
        let lengths = self.lengths.keys().take_while(|length| **length <= topic.len());
        let prefixes = lengths.filter_map(|&length| topic.get(..length));
        let under = prefixes.filter_map(|prefix| self.templates.get(prefix)).flatten();
        for (_, feeds) in under.filter(|(template, _)| template.matches(topic)) {
            found.extend(feeds);
        }
        found
    }
}
