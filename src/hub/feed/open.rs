//! Feeds that begin and end, and who listens to them.

use super::super::key::ChannelKey;
use super::super::name::{SUBSCRIPTIONS, is_internal, topic_of};
use super::super::selection::Selection;
use super::super::selector::Selector;
use super::super::subscriber::{Memberships, Owner, Start, SubscriberKey};
use super::super::view::Wish;
use super::super::{Hub, HubError};
use super::{Feed, Losses};
use crate::id::Seq;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

impl Hub {
    /// Adds a subscriber of a selection, beginning at `start`. Returns it, and the selection as it is kept.
    pub fn attach_selection(
        &mut self,
        owner: Owner,
        selection: Rc<Selection>,
        start: Start,
    ) -> Result<(SubscriberKey, Rc<Selection>), HubError> {
        let known = self.feeds.known.get_key_value(&selection).map(|(same, &feed)| (Rc::clone(same), feed));
        let (selection, feed) = match known {
            Some((_, feed)) if self.channels[feed].listeners() >= self.bounds.subscribers => {
                self.counts.subscriptions_refused += 1;
                return Err(HubError::TooManySubscribers);
            }
            Some(known) => known,
            None => (Rc::clone(&selection), self.open_feed(selection)?),
        };
        let only = Memberships::One { channel: ChannelKey::NONE, index: 0 };
        let key = self.insert(owner, only, false, start, Wish::default());
        self.join(key, feed, 0);
        let after = self.subscribers[key].after;
        let is_stranger = self.subscribers[key].stranger;
        if let Some(of) = self.channels[feed].feed.as_mut().filter(|_| start == Start::Oldest) {
            of.told.insert(key, of.losses.moment);
        }
        if after < self.seq || is_stranger {
            self.mark(key);
        }
        Ok((key, selection))
    }

    /// Makes a feed, and finds the channels that it reaches.
    fn open_feed(&mut self, selection: Rc<Selection>) -> Result<ChannelKey, HubError> {
        if self.channels.len() >= self.bounds.channels {
            self.counts.channels_refused += 1;
            return Err(HubError::TooManyChannels);
        }
        let (payer, bytes, compared) = (self.payer, selection.bytes(), selection.compared());
        if !self.compared.admits(payer, compared) {
            self.counts.subscriptions_refused += 1;
            return Err(HubError::TooManyTemplates);
        }
        self.admit_bytes(payer, bytes)?;
        self.spend(selection.selectors().len() + selection.weight())?;
        let most = usize::try_from(self.allowance).unwrap_or(usize::MAX);
        self.spend(self.feeds.templates.breadth(&selection, most))?;
        let found = self.search(&selection)?;
        let is_wide = selection.has_all() || found.len() > self.bounds.matches;
        let mut losses = Losses::default();
        let evicted = found.iter().map(|&key| self.lost_to(&selection, key)).max();
        let lost = evicted.unwrap_or(0).max(if selection.has_all() { self.feeds.lost } else { 0 });
        let stones = selection.searched().map(|(selector, prefix)| {
            let matches = |name: &str| selection.reaches(name) && !self.feeds.hides(name);
            match selector {
                Selector::Exact(_) if self.names.get(&prefix).is_some() => 0,
                Selector::Exact(_) => self.tombstones.lost(&prefix),
                Selector::All | Selector::Template(_) | Selector::Url(_) => {
                    self.tombstones.highest_of(&prefix, matches)
                }
            }
        });
        let lost = stones.fold(lost, Seq::max);
        if lost > 0 {
            losses.note(lost);
        }
        let told = BTreeMap::new();
        let channels = BTreeSet::new();
        let selected = Rc::clone(&selection);
        let feed = Feed { selection: selected, channels, is_wide, losses, told, payer, bytes, compared };
        let asks_too_much = is_wide && !self.feeds.asked.0.admits(payer, feed.asked());
        if asks_too_much || !self.feeds.templates.admit(self.channels.vacant(), payer, &selection) {
            self.counts.subscriptions_refused += 1;
            return Err(HubError::TooManyTemplates);
        }
        let asked = feed.asked();
        let feed = self.insert_feed(feed);
        self.shares.add(payer, bytes);
        self.compared.add(payer, compared);
        self.feeds.enter(feed, &selection);
        self.feeds.known.insert(selection, feed);
        match is_wide {
            true => self.feeds.add_wide(feed, payer, asked),
            false => found.into_iter().for_each(|key| self.note_reached(feed, key)),
        }
        Ok(feed)
    }

    /// The channels that a selection reaches; of one of everything only those of private updates, as there nothing has to
    /// be known of the others.
    fn search(&mut self, selection: &Selection) -> Result<Vec<ChannelKey>, HubError> {
        let mut found = BTreeSet::new();
        let mut spent = 0;
        for (selector, prefix) in selection.searched() {
            let is_template = matches!(selector, Selector::Template(_));
            match selector {
                Selector::All if !is_internal(&prefix) => {}
                Selector::Exact(_) => found.extend(self.names.get(&prefix)),
                Selector::All | Selector::Template(_) | Selector::Url(_) => {
                    let weight = selector.weight();
                    for (name, key) in self.names.under(&prefix) {
                        // Long names take long.
                        spent += weight * (1 + name.len() / 64);
                        if spent as u64 > self.allowance {
                            break;
                        }
                        let is_of_space = is_internal(name) == is_internal(&prefix);
                        if is_of_space && selector.matches(topic_of(name)) && !self.feeds.hides(name) {
                            found.insert(key);
                        }
                    }
                }
            }
            // A topic that is spelled like the template.
            if is_template {
                let spelled = prefix[..prefix.len() - selector.prefix().len()].to_owned() + selector.as_str();
                found.extend(self.names.get(&spelled));
            }
        }
        // What was in vain is counted, too: it would be tried again.
        let most = usize::try_from(self.allowance).unwrap_or(usize::MAX);
        self.spend(spent.min(most))?;
        if spent > most {
            self.counts.subscriptions_refused += 1;
            return Err(HubError::TooManySearches);
        }
        if selection.sees_private() {
            found.extend(self.names.get(SUBSCRIPTIONS));
        }
        Ok(found.into_iter().collect())
    }

    /// Forgets a feed that nobody listens to any more.
    #[cold]
    pub(in super::super) fn close_feed(&mut self, key: ChannelKey) {
        let channel = self.channels.remove(key);
        let Some(feed) = channel.feed else { return };
        for reached in &feed.channels {
            if let Some(channel) = self.channels.get_mut(*reached) {
                channel.feeds.retain(|other| *other != key);
            }
        }
        self.shares.release(feed.payer, feed.paid(feed.channels.len()));
        self.compared.release(feed.payer, feed.compared);
        self.feeds.drop_wide(key, feed.payer, feed.asked());
        self.feeds.strike(key, &feed.selection);
        self.feeds.known.remove(&feed.selection);
    }

    /// Notes that a subscriber is on a feed's list no longer.
    pub(in super::super) fn leave_feed(&mut self, key: SubscriberKey, feed: ChannelKey) {
        if let Some(feed) = &mut self.channels[feed].feed {
            feed.told.remove(&key);
        }
    }
}
