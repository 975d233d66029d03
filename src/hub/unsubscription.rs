//! Unsubscribing: taking channels and patterns away from a subscriber, and what that leaves.

use super::key::{ChannelKey, SubscriberKey};
use super::name::Pattern;
use super::parting::Until;
use super::subscriber::Memberships;
use super::{Hub, HubError};
use crate::time::Instant;
use std::collections::BTreeSet;

impl Hub {
    /// Takes channels or patterns away from a subscriber. A channel stays while it is asked for by its name
    /// or by another pattern. What it costs is asked before: all of it is done, or nothing.
    pub fn unsubscribe(
        &mut self,
        now: Instant,
        key: SubscriberKey,
        names: &[&str],
        patterns: &[Pattern],
    ) -> Result<(), HubError> {
        let left = self.no_longer(key, names, patterns)?;
        self.part(now, key, &left);
        Ok(())
    }

    /// The same while something has been accepted that has no number yet, and may be for the subscriber: what is on its way
    /// `until` there still is; see [`Hub::part_now`].
    pub fn unsubscribe_later(
        &mut self,
        now: Instant,
        key: SubscriberKey,
        names: &[&str],
        patterns: &[Pattern],
        until: Until,
    ) -> Result<(), HubError> {
        let left = self.no_longer(key, names, patterns)?;
        self.part_later(now, key, &left, until);
        Ok(())
    }

    /// The same for a subscriber that has lost the right to them: what was published before is not for it any more.
    pub fn take_away(
        &mut self,
        now: Instant,
        key: SubscriberKey,
        names: &[&str],
        patterns: &[Pattern],
    ) -> Result<(), HubError> {
        for channel in self.no_longer(key, names, patterns)? {
            self.end_membership(now, key, channel);
        }
        Ok(())
    }

    /// Notes that a subscriber no longer asks for these channels and patterns. Returns the channels that it has no more
    /// to do with.
    fn no_longer(
        &mut self,
        key: SubscriberKey,
        names: &[&str],
        patterns: &[Pattern],
    ) -> Result<Vec<ChannelKey>, HubError> {
        self.spend(names.len())?;
        let known = |name: &&str| self.names.peek(&self.channels, name);
        let unnamed: BTreeSet<ChannelKey> = names.iter().filter_map(known).collect();
        let known = self.patterns.of(key);
        let mut unwanted: Vec<&Pattern> = patterns.iter().collect();
        unwanted.sort_unstable();
        let is_removed = |pattern: &Pattern| unwanted.binary_search(&pattern).is_ok();
        let (removed, kept): (Vec<Pattern>, Vec<Pattern>) = known.iter().cloned().partition(is_removed);
        if unnamed.is_empty() && removed.is_empty() {
            return Ok(Vec::new());
        }
        self.grow(key);
        let left = self.left_after(key, &unnamed, &removed, &kept)?;
        self.note_moved(key);
        let Memberships::Many(many) = &mut self.subscribers[key].memberships else { return Ok(left) };
        unnamed.iter().for_each(|&channel| many.set_named(channel, false));
        if !removed.is_empty() {
            let bytes = self.patterns.retain(key, |pattern| kept.binary_search(pattern).is_ok());
            self.shares.release(many.payer, bytes);
        }
        Ok(left)
    }

    /// The channels that a subscriber has no more to do with once it no longer asks for some by their names, nor for
    /// those that the `removed` patterns match, but still for what those that are `kept` do.
    fn left_after(
        &mut self,
        key: SubscriberKey,
        unnamed: &BTreeSet<ChannelKey>,
        removed: &[Pattern],
        kept: &[Pattern],
    ) -> Result<Vec<ChannelKey>, HubError> {
        // Nearly always few of those that are kept can match what those that are removed do.
        self.spend(removed.len() * weight(kept))?;
        let overlaps = |pattern: &&Pattern| removed.iter().any(|removed| removed.overlaps(pattern));
        let overlapping: Vec<&Pattern> = kept.iter().filter(overlaps).collect();
        self.spend(self.channels_of(key) * weight(removed) + unnamed.len() * weight(kept))?;
        let Memberships::Many(many) = &self.subscribers[key].memberships else {
            return Ok(Vec::new());
        };
        let channels = &self.channels;
        let matches = |channel: ChannelKey, mut patterns: std::slice::Iter<Pattern>| {
            let name = channels[channel].name();
            patterns.any(|pattern| pattern.matches(name) && !self.terms.hides(pattern, name))
        };
        let is_spoken = |channel: ChannelKey| channels[channel].spoken;
        let by_name = unnamed.iter().copied().filter(|&channel| many.find(channel).is_some());
        let mut left: Vec<ChannelKey> =
            by_name.filter(|&channel| !(is_spoken(channel) && matches(channel, kept.iter()))).collect();
        if removed.is_empty() {
            return Ok(left);
        }
        let candidates: Vec<ChannelKey> = many
            .all
            .iter()
            .filter(|(_, membership)| !membership.named && matches(membership.channel, removed.iter()))
            .map(|(_, membership)| membership.channel)
            .collect();
        let dear = overlapping.iter().map(|pattern| pattern.weight()).sum::<usize>();
        self.spend(candidates.len() * dear)?;
        let channels = &self.channels;
        let stays = |channel: &ChannelKey| {
            let channel = &channels[*channel];
            let reaches = |pattern: &&&Pattern| !self.terms.hides(pattern, channel.name());
            channel.spoken
                && overlapping.iter().filter(reaches).any(|pattern| pattern.matches(channel.name()))
        };
        left.extend(candidates.into_iter().filter(|channel| !stays(channel)));
        Ok(left)
    }
}

/// What it costs to compare a name with all of `patterns`.
fn weight(patterns: &[Pattern]) -> usize {
    patterns.iter().map(Pattern::weight).sum()
}
