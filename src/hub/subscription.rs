//! Subscriptions: attaching a subscriber, and giving it further channels and patterns.

use super::channel::ChannelKey;
use super::memory::MEMBERSHIP_BYTES;
use super::name::Pattern;
use super::patterns::Patterns;
use super::shares::Payer;
use super::subscriber::{Many, Membership, Memberships, Owner, Start, Stranger, Subscriber, SubscriberKey};
use super::view::{View, Wish};
use super::{Hub, HubError, LOOKS_PER_JOIN};
use crate::id::{MessageId, Place, Seq};
use crate::time::Instant;

impl Hub {
    /// Adds a subscriber of the channels `names` (which must be distinct) and of all channels that match
    /// `patterns`, beginning at `start`. If something is waiting for it, it is ready at once.
    pub fn attach(
        &mut self,
        now: Instant,
        owner: Owner,
        names: &[&str],
        patterns: Vec<Pattern>,
        start: Start,
    ) -> Result<SubscriberKey, HubError> {
        self.attach_as(now, owner, names, patterns, start, Wish::default())
    }

    /// The same for who has a wish.
    pub fn attach_as(
        &mut self,
        now: Instant,
        owner: Owner,
        names: &[&str],
        patterns: Vec<Pattern>,
        start: Start,
        wish: Wish,
    ) -> Result<SubscriberKey, HubError> {
        let start = self.taken_up(start.meant_for(wish));
        if let ([name], true) = (names, patterns.is_empty()) {
            let channel = self.admit_listener(now, name)?;
            let only = Memberships::One { channel: ChannelKey::NONE, index: 0 };
            let key = self.insert(owner, only, false, start, wish);
            self.join_at_start(now, key, channel, start);
            self.note_moved(key);
            return Ok(key);
        }
        let strange = self.strange(&patterns, &|_: &str| start)?;
        let matching = self.admit_listeners(names, &patterns, 0)?;
        let payer = self.payer;
        let joining = names.len() + matching.len();
        self.admit_share(payer, joining, &patterns)?;
        self.spend(joining * LOOKS_PER_JOIN)?;
        let key = self.insert(owner, Memberships::Many(Many::of(payer)), !strange.is_empty(), start, wish);
        for name in names {
            let channel = self.channel_to_hear(now, name);
            self.join_at_start(now, key, channel, start);
            self.set_named(key, channel);
        }
        for (channel, _) in matching {
            self.join_at_start(now, key, channel, start);
        }
        if !patterns.is_empty()
            && let Some(stranger) = self.strangers.get_mut(&key)
        {
            stranger.patterns = strange;
        }
        self.add_patterns(key, patterns);
        if matches!(start, Start::Oldest | Start::Last(_)) {
            self.begin_at_floors(key);
        }
        self.note_beginning(key, start);
        if self.subscribers[key].stranger || start == Start::Snapshot {
            self.mark(key);
        }
        self.note_moved(key);
        Ok(key)
    }

    /// Adds a subscriber that is on no list yet.
    #[inline(always)]
    pub(super) fn insert(
        &mut self,
        owner: Owner,
        memberships: Memberships,
        had_lost: bool,
        start: Start,
        wish: Wish,
    ) -> SubscriberKey {
        let is_ahead = self.note_claim(start);
        let after = match start {
            Start::Now => self.seq,
            Start::After(id) if self.is_ours(id) => self.had_by(id),
            Start::At(place) if self.is_place(place) => place.id.seq,
            _ => 0,
        };
        let is_foreign = had_lost || self.is_foreign(start);
        let came_with = start.rest().filter(|&id| is_foreign || !self.is_known(id));
        let stranger = came_with.is_some();
        let joined = self.seq;
        let (view, note, queued) = (View::of(wish), 0, false);
        let subscriber = Subscriber { after, joined, memberships, owner, view, note, queued, stranger };
        let key = self.subscribers.insert(subscriber);
        if is_ahead {
            self.note_claimant(key, start);
        }
        if let Some(id) = came_with {
            self.strangers.insert(key, Stranger { id: Some(id), patterns: Vec::new() });
        }
        if !view.is_plain() {
            self.begin_latest(key, start);
        }
        key
    }

    /// Notes what a subscriber of latest values counts as had, and from which values patches cannot be made.
    #[inline(never)]
    fn begin_latest(&mut self, key: SubscriberKey, start: Start) {
        let newest = self.seq;
        let horizon = match start {
            Start::Snapshot => newest,
            Start::At(place) if self.is_place(place) => {
                if place.ahead > 0 {
                    place.rest()
                } else {
                    0
                }
            }
            Start::At(_) => newest,
            Start::Now | Start::Oldest | Start::Last(_) | Start::After(_) | Start::Since(_) => 0,
        };
        let given = match start {
            Start::Snapshot | Start::Oldest => 0,
            // Another history: it begins anew.
            Start::At(place) if !self.is_place(place) => 0,
            Start::At(_) | Start::Now | Start::Last(_) | Start::After(_) | Start::Since(_) => newest,
        };
        if horizon > 0 {
            self.aside_mut(key).horizon = horizon;
        }
        if given > 0 && self.subscribers[key].view.is_delta() {
            self.aside_mut(key).given = given;
        }
    }

    /// Whether `place` was given out by this history, and we know all up to there. Who has latest values from another server
    /// that knows more is told of a gap, and is given them anew: a snapshot leaves out what was removed.
    fn is_place(&self, place: Place) -> bool {
        place.id.epoch == self.epoch && place.rest() <= self.seq
    }

    /// Up to where a client counts as having had everything that comes with one of our ids.
    fn had_by(&self, id: MessageId) -> Seq {
        if self.ahead.has_refuted(id.seq) { id.seq.min(self.seq) } else { id.seq }
    }

    /// Whether who wants latest values begins anew.
    fn is_foreign(&self, start: Start) -> bool {
        matches!(start, Start::At(place) if !self.is_place(place))
    }

    /// Moves the cursor of a subscriber of several channels up to the first message that it is given: what is
    /// older was not asked for, and an id from before it would be taken for a gap when it comes back.
    fn begin_at_floors(&mut self, key: SubscriberKey) {
        let newest = self.seq;
        let subscriber = &mut self.subscribers[key];
        if let Memberships::Many(many) = &subscriber.memberships {
            let first = |membership: &Membership| {
                self.channels[membership.channel]
                    .ring
                    .after(membership.floor)
                    .next()
                    .map(|message| message.id.seq)
            };
            let first = many.all.iter().filter_map(|(_, membership)| first(membership)).min();
            subscriber.after = first.map_or(newest, |first| first - 1);
        }
    }

    /// Whether `id` was given out by this history, here or by a server that shares it.
    pub fn is_ours(&self, id: MessageId) -> bool {
        id.epoch == self.epoch && id.seq <= self.seq + self.ahead.most
    }

    /// Whether all that was published since `id` was given out is known, but for what limits threw away. The last number
    /// before `lost` is the place of whoever comes before anything new is published.
    pub fn is_known(&self, id: MessageId) -> bool {
        self.is_ours(id) && id.seq + 1 >= self.lost && !self.ahead.has_refuted(id.seq)
    }

    /// The channel `name`, which may be new.
    fn channel_to_hear(&mut self, now: Instant, name: &str) -> ChannelKey {
        match self.names.find(&self.channels, name) {
            Some(key) => key,
            None => self.open_channel(now, name),
        }
    }

    /// Joins a channel with the floor that `start` means there.
    fn join_at_start(&mut self, now: Instant, key: SubscriberKey, channel: ChannelKey, start: Start) {
        if !self.subscribers[key].view.is_plain() {
            return self.join_latest(now, key, channel, start);
        }
        let ring = &self.channels[channel].ring;
        let floor = match start {
            Start::Now | Start::Snapshot | Start::After(_) | Start::At(_) => 0,
            Start::Oldest => ring.evicted(),
            Start::Last(count) => ring.before_last(count, now),
            Start::Since(time) => ring.before(time),
        };
        self.note_claimant(key, start);
        let floor = match start {
            Start::At(place @ Place { began: Some(began), .. }) => {
                self.began_on(now, channel, place.rest(), began)
            }
            _ => floor,
        };
        self.join(key, channel, floor);
        let foreign = start.rest().is_some_and(|id| !self.is_known(id));
        let ring = &self.channels[channel].ring;
        let subscriber = &mut self.subscribers[key];
        let had = subscriber.after.max(floor);
        if let Memberships::Many(many) = &mut subscriber.memberships
            && foreign
            && let Some(place) = many.find(channel)
        {
            many.all[place as usize].stranger = true;
            many.expect(place, had + 1);
        }
        if ring.newest() > had || ring.evicted() > had || foreign {
            self.mark(key);
        }
    }

    /// The same for a subscriber of latest values.
    #[inline(never)]
    fn join_latest(&mut self, now: Instant, key: SubscriberKey, channel: ChannelKey, start: Start) {
        let of = &self.channels[channel];
        let newest = self.seq;
        let floor = match start {
            Start::Now | Start::Snapshot | Start::After(_) | Start::At(_) | Start::Oldest => 0,
            Start::Last(count) => of.ring.before_last(count, now),
            Start::Since(time) => of.ring.before(time),
        };
        let foreign = self.is_foreign(start);
        let horizon = match start {
            Start::Snapshot => Some(newest),
            Start::At(place) if !foreign => (place.ahead > 0).then_some(place.rest()),
            Start::At(_) => Some(newest),
            Start::Oldest => Some(of.lost_of_latest()),
            Start::Now | Start::Last(_) | Start::After(_) | Start::Since(_) => None,
        };
        self.join(key, channel, floor);
        if let Some(horizon) = horizon.filter(|&horizon| horizon > 0) {
            self.set_horizon(key, channel, horizon);
        }
        let subscriber = &mut self.subscribers[key];
        if let Memberships::Many(many) = &mut subscriber.memberships
            && foreign
            && let Some(place) = many.find(channel)
        {
            many.all[place as usize].stranger = true;
        }
        let had = subscriber.after.max(floor);
        let of = &self.channels[channel];
        let is_lost = of.lost_of_latest() > had.max(horizon.unwrap_or(0));
        if of.newest() > had || is_lost || foreign || start == Start::Snapshot {
            self.mark(key);
        }
    }

    /// Adds channels or patterns to a subscriber, each beginning where `start` says; what it listens to already is
    /// left as it is. Does all of it or nothing.
    pub fn subscribe(
        &mut self,
        now: Instant,
        key: SubscriberKey,
        names: &[&str],
        patterns: &[Pattern],
        start: impl Fn(&str) -> Start,
    ) -> Result<(), HubError> {
        let wish = self.wish(key);
        let start = |name: &str| start(name).meant_for(wish);
        let known = self.patterns.of(key);
        let is_new = |pattern: &&Pattern| known.binary_search(pattern).is_err();
        let patterns: Vec<Pattern> = patterns.iter().filter(is_new).cloned().collect();
        let strange = self.strange(&patterns, &start)?;
        let matching = self.admit_listeners(names, &patterns, self.channels_of(key))?;
        let named = names.iter().map(|name| self.names.peek(&self.channels, name));
        let matched = matching.iter().map(|&(channel, _)| Some(channel));
        let is_new = |channel: &Option<ChannelKey>| channel.is_none_or(|channel| !self.listens(key, channel));
        let joining = named.chain(matched).filter(is_new).count();
        // What it has already comes to count when it is one of several.
        let first = matches!(self.subscribers[key].memberships, Memberships::One { .. });
        let joining = joining + usize::from(first && (joining > 0 || !patterns.is_empty()));
        self.admit_share(self.payer_of(key), joining, &patterns)?;
        self.spend(names.len() + joining * LOOKS_PER_JOIN)?;
        for name in names.iter().copied().chain(patterns.iter().map(Pattern::as_str)) {
            self.admit_claim(key, start(name))?;
        }
        self.grow(key);
        let mut joining: Vec<(ChannelKey, Start)> = Vec::new();
        for name in names {
            let start = start(name);
            let channel = match self.names.find(&self.channels, name) {
                Some(channel) if !self.has_left(key, channel) => channel,
                left => {
                    // A channel without messages goes with its last subscriber, and comes again.
                    left.into_iter().for_each(|channel| self.come_back(now, key, channel, start));
                    self.channel_to_hear(now, name)
                }
            };
            joining.push((channel, start));
        }
        let named: Vec<ChannelKey> = joining.iter().map(|&(channel, _)| channel).collect();
        for (channel, at) in matching {
            let start = start(patterns[at].as_str());
            self.come_back(now, key, channel, start);
            joining.push((channel, start));
        }
        joining.retain(|&(channel, _)| !self.listens(key, channel));
        self.begin_at(key, &joining);
        for (channel, start) in joining {
            // It may be named twice.
            if !self.listens(key, channel) {
                self.join_at_start(now, key, channel, start);
                self.settle_floor(key, channel, start);
            }
        }
        for channel in named {
            self.set_named(key, channel);
        }
        self.add_patterns(key, patterns);
        if !strange.is_empty() {
            self.subscribers[key].stranger = true;
            self.strangers.entry(key).or_default().patterns.extend(strange);
            self.mark(key);
        }
        self.note_moved(key);
        Ok(())
    }

    /// Which of `patterns` are to begin at an id that cannot be taken up, and at which: it is of another history, or
    /// channels that they would have matched are forgotten since.
    fn strange(
        &mut self,
        patterns: &[Pattern],
        start: &impl Fn(&str) -> Start,
    ) -> Result<Vec<(Pattern, MessageId)>, HubError> {
        let mut strange = Vec::new();
        for pattern in patterns {
            let start = start(pattern.as_str());
            let Some(id) = start.rest() else { continue };
            let since = match start {
                Start::At(Place { began: Some(began), .. }) => began.moment,
                _ => 0,
            };
            if since > 0 && self.history.is_unburied(since) {
                continue;
            }
            self.note_claim(start);
            let mut had_lost = !self.is_known(id) || self.is_foreign(start);
            if self.is_ours(id) {
                let (lost, looked_at) = self.tombstones.may_have_lost(pattern, id.seq, since);
                had_lost |= lost;
                self.spend(2 * looked_at * pattern.weight())?;
            }
            if had_lost {
                strange.push((pattern.clone(), id));
            }
        }
        Ok(strange)
    }

    /// A subscriber that has left a channel, and has not had all that it is owed there, asks for it again.
    fn come_back(&mut self, now: Instant, key: SubscriberKey, channel: ChannelKey, start: Start) {
        match start {
            _ if !self.has_left(key, channel) => {}
            Start::Now => self.stay(key, channel),
            // It begins anew elsewhere.
            _ => self.end_membership(now, key, channel),
        }
    }

    /// Who pays for what a subscriber joins.
    fn payer_of(&self, key: SubscriberKey) -> Payer {
        match &self.subscribers[key].memberships {
            Memberships::One { .. } => self.payer,
            Memberships::Many(many) => many.payer,
        }
    }

    /// Bytes that are kept for who pays for a subscriber, and how many may be.
    pub fn kept_for(&self, key: SubscriberKey) -> (usize, usize) {
        self.shares.of(self.payer_of(key))
    }

    /// Whether so many more channels, and these patterns, may be kept for `payer`. Asked before anything is changed.
    fn admit_share(&mut self, payer: Payer, channels: usize, patterns: &[Pattern]) -> Result<(), HubError> {
        self.admit_bytes(payer, channels * MEMBERSHIP_BYTES + Patterns::cost(patterns))
    }

    /// Whether so many more bytes may be kept for `payer`.
    pub(super) fn admit_bytes(&mut self, payer: Payer, bytes: usize) -> Result<(), HubError> {
        if self.shares.admits(payer, bytes) {
            return Ok(());
        }
        self.counts.subscriptions_refused += 1;
        Err(HubError::ShareExceeded)
    }

    /// Gives a subscriber of several channels more patterns.
    fn add_patterns(&mut self, key: SubscriberKey, patterns: Vec<Pattern>) {
        if !patterns.is_empty() {
            let bytes = self.patterns.add(key, patterns);
            self.shares.add(self.payer_of(key), bytes);
        }
    }

    /// How many channels a subscriber is on the lists of.
    pub(super) fn channels_of(&self, key: SubscriberKey) -> usize {
        match &self.subscribers[key].memberships {
            Memberships::One { .. } => 1,
            Memberships::Many(many) => many.all.len(),
        }
    }

    /// Makes a subscriber of one channel one of several.
    pub(super) fn grow(&mut self, key: SubscriberKey) {
        let subscriber = &mut self.subscribers[key];
        let Memberships::One { channel, index } = subscriber.memberships else { return };
        let (floor, stranger) = (subscriber.after, subscriber.stranger);
        let (joined, named, until) = (subscriber.joined, true, Seq::MAX);
        let only = Membership { channel, index, floor, joined, next: floor + 1, named, stranger, until };
        let mut many = Many::of(self.payer);
        self.shares.add(many.payer, MEMBERSHIP_BYTES);
        let place = many.insert(only);
        subscriber.memberships = Memberships::Many(many);
        let list = subscriber.view.list();
        self.channels[channel].list(list)[index as usize].membership = place;
    }

    /// Moves the cursor back if one of the channels about to be joined begins before it: what the subscriber had on
    /// its other channels is kept as their floor.
    fn begin_at(&mut self, key: SubscriberKey, joining: &[(ChannelKey, Start)]) {
        let begin = |&(channel, start): &(ChannelKey, Start)| match start {
            Start::Now => None,
            Start::After(id) if self.is_ours(id) => Some(self.had_by(id)),
            Start::Snapshot | Start::At(_) => Some(0),
            Start::After(_) | Start::Oldest | Start::Last(_) | Start::Since(_) => {
                Some(self.channels[channel].ring.evicted())
            }
        };
        let Some(begin) = joining.iter().filter_map(begin).min() else { return };
        let subscriber = &mut self.subscribers[key];
        if let Memberships::Many(many) = &mut subscriber.memberships
            && begin < subscriber.after
        {
            for (_, membership) in &mut many.all {
                membership.floor = membership.floor.max(subscriber.after);
            }
            subscriber.after = begin;
        }
    }

    /// The channel just joined begins at `start`, wherever the subscriber's cursor is.
    fn settle_floor(&mut self, key: SubscriberKey, channel: ChannelKey, start: Start) {
        let floor = match start {
            Start::Now => self.seq,
            Start::After(id) if self.is_ours(id) => self.had_by(id),
            Start::At(_) | Start::Snapshot | Start::Oldest if self.is_latest(key) => 0,
            _ => self.channels[channel].ring.evicted(),
        };
        if let Memberships::Many(many) = &mut self.subscribers[key].memberships
            && let Some(place) = many.find(channel)
        {
            let membership = &mut many.all[place as usize];
            membership.floor = membership.floor.max(floor);
        }
    }

    /// Notes that the subscriber asks for a channel by its name.
    fn set_named(&mut self, key: SubscriberKey, channel: ChannelKey) {
        if let Memberships::Many(many) = &mut self.subscribers[key].memberships {
            many.set_named(channel, true);
        }
    }

    /// Counts work that is about to be done for somebody who asked for it in few bytes: channels looked at, or compared
    /// with patterns. Refused if it is more than was allowed.
    pub fn spend(&mut self, work: usize) -> Result<(), HubError> {
        let work = work as u64;
        if work > self.allowance {
            self.counts.subscriptions_refused += 1;
            return Err(HubError::TooManySearches);
        }
        self.allowance -= work;
        self.looked_at += work;
        Ok(())
    }

    /// Allows so much work for what is asked next; `u64::MAX` = any.
    pub const fn allow(&mut self, work: u64) {
        self.allowance = work;
    }

    /// Whose share of the memory what is asked next is kept from.
    pub const fn pays(&mut self, payer: Payer) {
        self.payer = payer;
    }

    /// Who owns a subscriber.
    pub fn owner(&self, key: SubscriberKey) -> Owner {
        self.subscribers[key].owner
    }
}

#[cfg(test)]
mod tests;
