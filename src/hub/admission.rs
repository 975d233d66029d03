//! Admission: whether a subscriber may listen to channels and patterns, asked before anything is changed.

use super::key::ChannelKey;
use super::name::Pattern;
use super::{Hub, HubError};
use crate::time::Instant;
use std::collections::BTreeSet;

/// So many channels may be looked at for each that a pattern may match.
const LOOKED_AT_PER_MATCH: usize = 10;

impl Hub {
    /// The channel `name` for one more subscriber, or why it may not come.
    pub(super) fn admit_listener(&mut self, now: Instant, name: &str) -> Result<ChannelKey, HubError> {
        if let Some(key) = self.names.find(&self.channels, name)
            && self.channels[key].listeners() < self.bounds.subscribers
        {
            return Ok(key);
        }
        self.admit_listeners(&[name], &[], 0)?;
        Ok(self.open_channel(now, name))
    }

    /// Whether a subscriber that has `so_far` channels may listen to all of these, too. Changes nothing. Returns
    /// the channels that the patterns match, each with the first pattern that does.
    pub(super) fn admit_listeners(
        &mut self,
        names: &[&str],
        patterns: &[Pattern],
        so_far: usize,
    ) -> Result<Vec<(ChannelKey, usize)>, HubError> {
        let known = names.iter().filter_map(|name| self.names.peek(&self.channels, name));
        let known: Vec<ChannelKey> = known.collect();
        if let Err(error) = self.admits_new(names.len() - known.len()) {
            self.counts.channels_refused += 1;
            return Err(error);
        }
        let room = self.bounds.matches.saturating_sub(if patterns.is_empty() { 0 } else { so_far });
        let matching = self.matching(&known, patterns, room)?;
        let full = |key: ChannelKey| self.channels[key].listeners() >= self.bounds.subscribers;
        let matched = matching.iter().flatten().map(|&(key, _)| key);
        let is_full = known.iter().copied().chain(matched).any(full);
        match matching {
            Some(matching) if !is_full => Ok(matching),
            found => {
                self.counts.subscriptions_refused += 1;
                Err(if found.is_none() { HubError::TooManyMatches } else { HubError::TooManySubscribers })
            }
        }
    }

    /// Whether there is room for the channels that a subscriber of `names` would make.
    pub fn admits_listener<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<(), HubError> {
        self.admits_new(names.filter(|name| self.names.peek(&self.channels, name).is_none()).count())
    }

    /// Whether there is room for so many channels that have no messages yet.
    fn admits_new(&self, count: usize) -> Result<(), HubError> {
        let max = self.bounds.channels;
        match self.channels.len() + count <= max && self.silent + count <= max.div_ceil(2) || count == 0 {
            true => Ok(()),
            false => Err(HubError::TooManyChannels),
        }
    }

    /// Existing channels with messages that match one of `patterns`, each with the first that it matches, without those
    /// that are `named`. `None` if they are more than `max`, or if too many have to be looked at to know.
    fn matching(
        &mut self,
        named: &[ChannelKey],
        patterns: &[Pattern],
        max: usize,
    ) -> Result<Option<Vec<(ChannelKey, usize)>>, HubError> {
        let mut found: Vec<(ChannelKey, usize)> = Vec::new();
        let (mut looked_at, most) = (0, max.saturating_mul(LOOKED_AT_PER_MATCH));
        let (mut spent, mut is_too_dear) = (0, false);
        'patterns: for (at, pattern) in patterns.iter().enumerate() {
            let weight = pattern.weight();
            for (name, key) in self.names.under(pattern.prefix()) {
                looked_at += 1;
                is_too_dear = (spent + weight) as u64 > self.allowance;
                if is_too_dear || looked_at > most {
                    break 'patterns;
                }
                spent += weight;
                if pattern.matches(name) && self.channels[key].spoken && !self.terms.hides(pattern, name) {
                    found.push((key, at));
                }
            }
        }
        // What was in vain is counted, too: it would be tried again.
        self.spend(spent)?;
        if is_too_dear {
            self.counts.subscriptions_refused += 1;
            return Err(HubError::TooManySearches);
        }
        found.sort_unstable();
        found.dedup_by_key(|(key, _)| *key);
        if !named.is_empty() {
            let named: BTreeSet<ChannelKey> = named.iter().copied().collect();
            found.retain(|(key, _)| !named.contains(key));
        }
        Ok((found.len() <= max && looked_at <= most).then_some(found))
    }
}
