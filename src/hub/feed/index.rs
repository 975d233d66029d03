//! All feeds, and how those are found that a topic is for.

use super::super::key::ChannelKey;
use super::super::name::{covers, topic_of};
use super::super::selection::Selection;
use super::super::selector::Selector;
use super::super::shares::{Bounds, Payer, Shares};
use super::compared::Compared;
use crate::carry::resume;
use crate::id::Seq;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What it may cost to ask the feeds about a message that reach too many channels to note them, in looks at a channel.
pub const ASKED_MAX: usize = 16_384;
/// The same with those of one address.
pub const ASKED_OF_ONE_MAX: usize = ASKED_MAX / 64;

/// What asking wide feeds costs, in looks at a channel.
#[derive(Debug)]
pub struct Asked(pub Shares);

impl Default for Asked {
    fn default() -> Self {
        Self(Shares::new(Bounds { each: ASKED_OF_ONE_MAX, all: ASKED_MAX }))
    }
}

/// All feeds, and how they are found.
#[derive(Debug, Default)]
pub struct Feeds {
    pub(super) is_on: bool,
    pub(super) known: BTreeMap<Rc<Selection>, ChannelKey>,
    /// Feeds by a topic that they ask for.
    exact: BTreeMap<Rc<str>, Vec<ChannelKey>>,
    /// Feeds by their templates.
    pub(super) templates: Compared,
    pub(super) wide: BTreeSet<ChannelKey>,
    /// What it costs to ask these about a message, as that is asked of every one.
    pub(super) asked: Asked,
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
        given: is_on, known, exact, templates, wide, asked, shown, walked
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
        self.exact.is_empty() && self.templates.is_empty() && self.asked.0.bytes() == 0
    }

    /// Enters the topics that a feed asks for by their names; its templates are entered where they are admitted.
    pub(super) fn enter(&mut self, key: ChannelKey, selection: &Selection) {
        for topic in topics(selection) {
            self.exact.entry(Rc::clone(topic)).or_default().push(key);
        }
    }

    /// Strikes out what a feed asks for.
    pub(super) fn strike(&mut self, key: ChannelKey, selection: &Selection) {
        for topic in topics(selection) {
            if let Some(feeds) = self.exact.get_mut(topic) {
                feeds.retain(|other| *other != key);
                if feeds.is_empty() {
                    self.exact.remove(topic);
                }
            }
        }
        self.templates.strike(key, selection);
    }

    /// Has a feed asked about each message, which costs that much.
    pub(super) fn add_wide(&mut self, key: ChannelKey, payer: Payer, weight: usize) {
        self.wide.insert(key);
        self.asked.0.add(payer, weight);
    }

    /// Asks it no longer.
    pub(super) fn drop_wide(&mut self, key: ChannelKey, payer: Payer, weight: usize) {
        if self.wide.remove(&key) {
            self.asked.0.release(payer, weight);
        }
    }

    /// The feeds with selectors that select `topic`, but for those of everything.
    pub(super) fn asking(&self, topic: &str) -> BTreeSet<ChannelKey> {
        self.exact.get(topic).into_iter().flatten().copied().chain(self.templates.matching(topic)).collect()
    }
}

/// The topics that a selection has by their names.
fn topics(selection: &Selection) -> impl Iterator<Item = &Rc<str>> {
    selection.selectors().iter().filter_map(|selector| match selector {
        Selector::Exact(topic) => Some(topic),
        Selector::All | Selector::Template(_) | Selector::Url(_) => None,
    })
}
