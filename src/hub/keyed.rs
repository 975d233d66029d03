//! Keys of a channel: publishing values and removals, what they may take, what expires.

use super::channel::Channel;
use super::key::ChannelKey;
use super::message::{Data, Message, Publication};
use super::{Hub, HubError};
use crate::id::{MessageId, Seq};
use crate::merge;
use crate::time::Instant;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Bytes of values and patches that the patches of one request may work through, beside the first: a line of fifty bytes
/// may be for a value of a megabyte, and nobody else is served meanwhile.
pub const PATCHED_BYTES_MAX: usize = 3 << 19;

/// What is superseded and kept for patches takes such a part of what all history may take, at most: readers who ask for
/// patches push out no more than that.
pub const BASES_SHARE: usize = 8;

/// Why a change of a key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyError {
    /// A patch or a removal of a key that has no value.
    NoSuchKey,
    /// A patch of a value that is no JSON object, or nested too deeply.
    NotPatchable,
    /// A patch makes a value of more than `limits.message_bytes`.
    TooLarge,
    /// Patches of one request would work through more than [`PATCHED_BYTES_MAX`].
    TooMuch,
    /// There is no room.
    NoRoom(HubError),
}

impl KeyError {
    /// A sentence for the client's author.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::NoSuchKey => "the key has no value on this channel",
            Self::NotPatchable => {
                "the latest value is no JSON object, or it or the patch is nested too deeply; publish a whole value"
            }
            Self::TooLarge => "the patched value is larger than limits.message_bytes",
            Self::TooMuch => {
                "the patches of one request may work through 1.5 MiB of values; send fewer in one, or whole values"
            }
            Self::NoRoom(error) => error.detail(),
        }
    }
}

/// One change of a batch of changes, which has not been carried out.
#[derive(Debug)]
pub struct Change<'a> {
    /// The channel.
    pub channel: &'a str,
    /// What is to be published. With a patch, what [`Hub::resolve`] makes of it.
    pub publication: &'a mut Publication,
    /// Its data is a merge patch for the latest value.
    pub is_patch: bool,
}

/// What earlier changes of the same batch would have done.
#[derive(Default)]
struct Earlier {
    /// By channel and key: the value, if there is one then.
    values: BTreeMap<(Box<str>, Box<str>), Option<Publication>>,
    /// Keys that would be there, by channel, and in all.
    keys: BTreeMap<Box<str>, isize>,
    all_keys: isize,
    bytes: isize,
    /// Bytes that patches have worked through.
    patched: usize,
}

impl Hub {
    /// The latest value of `key` on channel `name`.
    pub fn value(&self, now: Instant, name: &str, key: &str) -> Option<&Rc<Message>> {
        let channel = self.names.get(name)?;
        self.channels[channel].latest()?.value(key, now)
    }

    /// Whether the newest of a key is a value that has expired.
    pub fn has_expired_value(&self, now: Instant, name: &str, key: &str) -> bool {
        let latest = self.names.get(name).and_then(|channel| self.channels[channel].latest());
        let newest = latest.and_then(|latest| latest.of_key(key));
        newest.is_some_and(|message| !message.is_removal() && message.expired(now))
    }

    /// Tries out changes of keys, one after the other: applies patches, and finds out whether there is room. Changes
    /// nothing in the hub. The first that is refused is told by its place.
    pub fn resolve<'a>(
        &self,
        now: Instant,
        changes: impl Iterator<Item = Change<'a>>,
        message_bytes: usize,
    ) -> Result<(), (usize, KeyError)> {
        let mut earlier = Earlier::default();
        for (place, change) in changes.enumerate() {
            self.resolve_one(now, change, message_bytes, &mut earlier).map_err(|error| (place, error))?;
        }
        Ok(())
    }

    fn resolve_one(
        &self,
        now: Instant,
        change: Change,
        message_bytes: usize,
        earlier: &mut Earlier,
    ) -> Result<(), KeyError> {
        let Change { channel, publication, is_patch } = change;
        let Some(key) = publication.key.clone() else { return Ok(()) };
        let place = (channel.into(), key);
        let known = earlier.values.get(&place);
        let old = match known {
            Some(value) => value.as_ref(),
            None => self.value(now, channel, &place.1).map(|message| &message.publication),
        };
        let is_removal = publication.data == Data::Removed;
        if is_patch {
            let old = old.ok_or(KeyError::NoSuchKey)?;
            let is_first = earlier.patched == 0;
            earlier.patched += old.data.bytes().len() + publication.data.bytes().len();
            if !is_first && earlier.patched > PATCHED_BYTES_MAX {
                return Err(KeyError::TooMuch);
            }
            publication.data = patched(old, &publication.data, message_bytes)?;
            publication.content_type = old.content_type.clone();
        } else if is_removal && old.is_none() {
            return Err(KeyError::NoSuchKey);
        }
        let cost = |publication: Option<&Publication>| publication.map_or(0, |it| it.cost() as isize);
        let value = (!is_removal).then_some(&*publication);
        let keys = isize::from(value.is_some()) - isize::from(old.is_some());
        earlier.bytes += cost(value) - cost(old);
        earlier.all_keys += keys;
        let of_channel = earlier.keys.entry(place.0.clone()).or_default();
        *of_channel += keys;
        if value.is_some() {
            let before = self.names.get(channel).and_then(|channel| self.channels[channel].latest());
            let before = before.map_or(0, |latest| latest.keys());
            let is_full = before as isize + *of_channel > self.bounds.keys_per_channel as isize
                || self.keys as isize + earlier.all_keys > self.bounds.keys as isize;
            if keys > 0 && is_full {
                return Err(KeyError::NoRoom(HubError::TooManyKeys));
            }
            if self.value_bytes as isize + earlier.bytes > self.history.total_bytes() as isize {
                return Err(KeyError::NoRoom(HubError::TooManyValueBytes));
            }
        }
        let value = value.cloned();
        earlier.values.insert(place, value);
        Ok(())
    }

    /// Whether a publication with a key may be kept: in `channel`, if that exists.
    #[inline(never)]
    pub(super) fn admits_key(
        &self,
        channel: Option<ChannelKey>,
        publication: &Publication,
    ) -> Result<(), HubError> {
        let Some(key) = publication.key.as_deref().filter(|_| publication.data != Data::Removed) else {
            return Ok(());
        };
        let latest = channel.and_then(|channel| self.channels[channel].latest());
        let old = latest.and_then(|latest| latest.of_key(key)).filter(|message| !message.is_removal());
        let keys = latest.map_or(0, |latest| latest.keys());
        if old.is_none() && (keys >= self.bounds.keys_per_channel || self.keys >= self.bounds.keys) {
            return Err(HubError::TooManyKeys);
        }
        let bytes = self.value_bytes - old.map_or(0, |old| old.cost()) + publication.cost();
        match bytes <= self.history.total_bytes() {
            true => Ok(()),
            false => Err(HubError::TooManyValueBytes),
        }
    }

    /// Makes `message` the newest of its key. Returns the one before.
    #[inline(never)]
    pub(super) fn keep_latest(&mut self, key: ChannelKey, message: &Rc<Message>) -> Option<Rc<Message>> {
        let channel = &mut self.channels[key];
        let latest = &mut channel.keyed().latest;
        let (keys, bytes) = (latest.keys(), latest.bytes());
        let old = latest.put(message);
        self.keys = self.keys + latest.keys() - keys;
        self.value_bytes = self.value_bytes + latest.bytes() - bytes;
        if let Some(old) = &old {
            if !channel.ring.contains(old.id.seq) {
                self.history.release(old);
            }
            if old.is_removal() {
                self.removals.remove(&old.id.seq);
            }
        }
        if message.is_removal() {
            self.removals.insert(message.id.seq, key);
            self.forget_removals(key);
        }
        old
    }

    /// Forgets the oldest removals while more are remembered than may be, on the channel or in all.
    fn forget_removals(&mut self, key: ChannelKey) {
        let latest = |hub: &Self| {
            hub.channels[key]
                .latest()
                .map_or((0, None), |latest| (latest.removals(), latest.oldest_removal()))
        };
        while let (count, Some(seq)) = latest(self)
            && count > self.bounds.keys_per_channel
        {
            self.removals.remove(&seq);
            self.forget_removal(key, seq);
        }
        while self.removals.len() > self.bounds.removals {
            let Some((seq, key)) = self.removals.pop_first() else { return };
            self.forget_removal(key, seq);
        }
    }

    fn forget_removal(&mut self, key: ChannelKey, seq: Seq) {
        let channel = &mut self.channels[key];
        let Some(keyed) = &mut channel.keyed else { return };
        if let Some(removal) = keyed.latest.forget_removal(seq) {
            self.counts.removals_forgotten += 1;
            if !channel.ring.contains(seq) {
                self.history.release(&removal);
            }
        }
    }

    /// Publishes the removal of values that have expired on a channel.
    pub(super) fn remove_expired(&mut self, now: Instant, key: ChannelKey) {
        if self.is_numbered_outside {
            let channel = &mut self.channels[key];
            let name = Rc::clone(channel.name());
            let Some(keyed) = &mut channel.keyed else { return };
            let expired = std::iter::from_fn(|| keyed.latest.take_expired(now));
            let keys = expired.filter_map(|value| Some((Rc::clone(&name), value.key()?.into())));
            return self.expired_keys.extend(keys);
        }
        while let Some(keyed) = &self.channels[key].keyed
            && let Some(value) = keyed.latest.expired(now)
            && let Some(of) = value.key()
        {
            let id = self.next_id();
            self.accept(now, key, id, Publication::removal(of));
        }
    }

    /// Lets go of all that is kept of a channel's keys. Returns whether there was anything.
    pub(super) fn clear_latest(&mut self, key: ChannelKey) -> bool {
        let channel = &mut self.channels[key];
        let Some(keyed) = &mut channel.keyed else { return false };
        let latest = std::mem::take(&mut keyed.latest);
        self.keys -= latest.keys();
        self.value_bytes -= latest.bytes();
        for message in latest.after(0) {
            if message.is_removal() {
                self.removals.remove(&message.id.seq);
            }
            if !channel.ring.contains(message.id.seq) {
                self.history.release(message);
            }
        }
        latest.was_used()
    }

    /// Takes note, for those who are told at some pace, of message `seq`, which superseded `old`.
    #[inline(never)]
    pub(super) fn note_paced(
        &mut self,
        now: Instant,
        key: ChannelKey,
        (seq, is_keyed): (Seq, bool),
        old: Option<&Rc<Message>>,
    ) {
        let Some(keyed) = &mut self.channels[key].keyed else { return };
        if !is_keyed {
            keyed.unkeyed = seq;
        }
        // Who came after a value had expired was not given it.
        let old = old.filter(|old| !old.expired(now));
        let before = self.base_bytes;
        for group in &mut keyed.groups {
            // Values themselves come first.
            let total = self.history.total_bytes();
            let most = total.saturating_sub(self.value_bytes).min(total / BASES_SHARE);
            let room = most.saturating_sub(self.base_bytes);
            let bytes = group.bytes();
            group.note(seq, old, room);
            self.base_bytes = self.base_bytes + group.bytes() - bytes;
            if group.pace.is_none() {
                if !std::mem::replace(&mut group.is_pending, true) {
                    self.in_delivery.push(key);
                }
            } else if !group.members.is_empty() && !std::mem::replace(&mut group.is_pending, true) {
                self.ticks.add(now, group.pace, key);
            }
        }
        self.history.charge(self.base_bytes.saturating_sub(before));
        self.history.discharge(before.saturating_sub(self.base_bytes));
    }

    /// Changes the groups of a channel, which may let go of what they keep for patches.
    pub(super) fn change_groups(&mut self, key: ChannelKey, change: impl FnOnce(&mut Channel)) {
        let channel = &mut self.channels[key];
        let before = channel.base_bytes();
        change(channel);
        let let_go = before - channel.base_bytes();
        self.base_bytes -= let_go;
        self.history.discharge(let_go);
    }

    /// The next message's id.
    pub(super) const fn next_id(&mut self) -> MessageId {
        self.seq += 1;
        MessageId { epoch: self.epoch, seq: self.seq }
    }
}

/// What a patch makes of a value.
fn patched(old: &Publication, patch: &Data, message_bytes: usize) -> Result<Data, KeyError> {
    let (Data::Json(old), Data::Json(patch)) = (&old.data, patch) else { return Err(KeyError::NotPatchable) };
    let new = merge::apply(old, patch).ok_or(KeyError::NotPatchable)?;
    match new.len() <= message_bytes {
        true => Ok(Data::Json(new.into())),
        false => Err(KeyError::TooLarge),
    }
}
