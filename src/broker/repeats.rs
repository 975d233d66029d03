//! Requests that were sent again because their answer got lost: each is published once, and answered like the first.
//!
//! One rule for whatever language a publisher speaks: a key belongs to the request as a whole. The same key with another
//! request is a mistake of its publisher, and is refused rather than taken for the first, whose messages it is not.
//!
//! Publishers with keys of their own and clients of sessions, who may be strangers, have separate shares: nobody can push
//! out what an application relies on.

use super::publish::{Once, Receipt, Receipts, Terms};
use super::refusal::Refusal;
use super::several::Several;
use crate::carry::{carry, resume};
use crate::config::Config;
use crate::hub::{Publication, Published};
use crate::id::{Epoch, Key, MessageId, Seq};
use crate::time::Instant;
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

/// Milliseconds a request is remembered.
pub const REMEMBERED_MS: u64 = 120_000;

/// Where a request is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remembered {
    is_key: bool,
    digest: u128,
}

impl Remembered {
    /// A name for it that means the same as long as the secret stays.
    pub fn text(self) -> String {
        format!("{:032x}", self.digest)
    }
}

/// A message's outcome as it is stored: channel, number, subscribers, messages.
type Outcome<'a> = (Cow<'a, str>, Seq, usize, usize);

/// The requests that are remembered.
#[derive(Debug)]
pub struct Repeats {
    secret: Key,
    /// By a key that the publisher chose.
    keys: Memory,
    /// Messages of sessions.
    messages: Memory,
}

resume! {
    Repeats {
        carried: ;
        resumed: keys, messages;
        given: secret
    }
}

/// What is known of a request.
#[derive(Debug)]
pub struct Known {
    place: u128,
    request: u128,
    is_key: bool,
    /// What became of it the first time, if it is a repeat.
    pub receipts: Option<Receipts<'static>>,
}

impl Known {
    /// Where it is remembered.
    pub const fn place(&self) -> Remembered {
        Remembered { is_key: self.is_key, digest: self.place }
    }

    /// What a later life has to know of it: that of sessions, which end with this one, is nothing.
    #[cold]
    pub fn remembered(&self, receipts: &Receipts) -> Option<Box<[u8]>> {
        let outcomes: Vec<Outcome> = receipts
            .iter()
            .map(|Receipt { channel, published }| {
                (Cow::Borrowed(&**channel), published.id.seq, published.subscribers, published.messages)
            })
            .collect();
        let request = format!("{:032x}", self.request);
        let bytes = serde_json::to_vec(&(request, outcomes)).ok()?;
        self.is_key.then(|| bytes.into())
    }
}

impl Repeats {
    /// Nothing is remembered yet. `secret` hides which requests share a hash.
    pub fn new(config: &Config, secret: Key) -> Self {
        let limits = &config.limits;
        Self {
            secret,
            keys: Memory::new(limits.idempotency_keys, limits.idempotency_bytes),
            messages: Memory::new(config.bayeux.repeats, usize::MAX),
        }
    }

    /// Takes the limits of `config`.
    pub const fn reconfigure(&mut self, config: &Config) {
        self.keys.max = config.limits.idempotency_keys;
        self.keys.bytes_max = config.limits.idempotency_bytes;
    }

    /// Hides by another secret which requests share a hash. Nothing must be remembered yet.
    pub const fn use_secret(&mut self, secret: Key) {
        self.secret = secret;
    }

    /// Remembers until `until` what an earlier life did, as [`Known::remembered`] tells it.
    pub fn restore(&mut self, until: Instant, place: &str, answer: &[u8], epoch: Epoch) {
        let number = |text: &str| u128::from_str_radix(text, 16).ok();
        let Ok((request, outcomes)) = serde_json::from_slice::<(String, Vec<Outcome>)>(answer) else {
            return;
        };
        let (Some(place), Some(request)) = (number(place), number(&request)) else { return };
        let mut receipts = outcomes.into_iter().map(|(channel, seq, subscribers, messages)| Receipt {
            channel: channel.into_owned().into(),
            published: Published { id: MessageId { epoch, seq }, subscribers, messages },
        });
        let Some(first) = receipts.next() else { return };
        let receipts = Several { first, others: receipts.collect() };
        let done_at = Instant::from_millis(until.as_millis().saturating_sub(REMEMBERED_MS));
        self.keys.insert(done_at, place, Done { request, receipts });
    }

    /// Remembers until `until` what another server has answered. Returns what is to be answered here; `None` if the key
    /// belongs to another request than the one that is remembered there.
    pub fn adopt(
        &mut self,
        until: Instant,
        place: Remembered,
        answer: &[u8],
        first: MessageId,
    ) -> Option<Receipts<'static>> {
        let ours = self.keys.by_key.get(&place.digest).map(|done| done.request);
        self.forget(place);
        self.restore(until, &place.text(), answer, first.epoch);
        self.number(place, first.seq);
        let done = self.keys.by_key.get(&place.digest)?;
        (ours == Some(done.request)).then(|| done.receipts.clone())
    }

    /// Notes that the log has numbered the messages of a request, the first of them `first`.
    pub fn number(&mut self, place: Remembered, first: Seq) {
        let memory = if place.is_key { &mut self.keys } else { &mut self.messages };
        if let Some(done) = memory.by_key.get_mut(&place.digest) {
            number(&mut done.receipts, first);
        }
    }

    /// Forgets requests whose messages are lost: those after this number. What is `open` has no numbers yet.
    pub fn forget_after(&mut self, seq: Seq, open: impl Fn(Remembered) -> bool) {
        for (is_key, memory) in [(true, &mut self.keys), (false, &mut self.messages)] {
            let lost = memory.by_key.iter().filter(|(_, done)| done.receipts.first.published.id.seq > seq);
            let lost =
                lost.map(|(digest, _)| Remembered { is_key, digest: *digest }).filter(|place| !open(*place));
            let lost: Vec<Remembered> = lost.collect();
            lost.into_iter().for_each(|place| memory.forget(place.digest));
        }
    }

    /// Forgets a request: nothing of it has happened.
    pub fn forget(&mut self, place: Remembered) {
        let memory = if place.is_key { &mut self.keys } else { &mut self.messages };
        memory.forget(place.digest);
    }

    /// Bytes that are remembered.
    pub const fn bytes(&self) -> usize {
        self.keys.bytes + self.messages.bytes
    }

    /// Looks for a request that publishes `messages`.
    ///
    /// # Errors
    ///
    /// [`Refusal::KeyReused`] if its key belongs to another request.
    #[inline(never)]
    pub fn find(
        &mut self,
        now: Instant,
        once: Once,
        whose: Option<&str>,
        messages: &Several<(Cow<str>, Publication)>,
        terms: Option<&Terms>,
    ) -> Result<Known, Refusal> {
        let (place, request, memory) = match once {
            Once::Key { key, method } => {
                let request = self.secret.digest((method, messages, terms));
                (self.secret.digest((whose, key)), request, &mut self.keys)
            }
            Once::Message { session, id } => {
                let request = self.secret.digest((session, id, messages));
                (request, request, &mut self.messages)
            }
        };
        let is_key = matches!(once, Once::Key { .. });
        match memory.get(now, place) {
            Some(done) if done.request != request => Err(Refusal::KeyReused),
            done => Ok(Known { place, request, is_key, receipts: done.map(|done| done.receipts.clone()) }),
        }
    }

    /// Remembers what became of a request that was not known. Returns how many keys had to be forgotten for it.
    #[inline(never)]
    pub fn insert(&mut self, now: Instant, known: Known, receipts: &Receipts) -> usize {
        let Known { place, request, is_key, .. } = known;
        // Sessions are told that it is done, and no more.
        let owned = |receipt: &Receipt| Receipt {
            channel: if is_key { receipt.channel.clone().into_owned().into() } else { "".into() },
            published: receipt.published.clone(),
        };
        let receipts =
            Several { first: owned(&receipts.first), others: receipts.others.iter().map(owned).collect() };
        let memory = if is_key { &mut self.keys } else { &mut self.messages };
        let forgotten = memory.insert(now, place, Done { request, receipts });
        if is_key { forgotten } else { 0 }
    }
}

/// The same receipts, borrowed from nobody.
pub fn owned(receipts: &Receipts) -> Receipts<'static> {
    let owned = |receipt: &Receipt| Receipt {
        channel: receipt.channel.clone().into_owned().into(),
        published: receipt.published.clone(),
    };
    Several { first: owned(&receipts.first), others: receipts.others.iter().map(owned).collect() }
}

/// Gives the messages of a request, which are counted from 1, the numbers that begin with `first`.
pub fn number(receipts: &mut Receipts, first: Seq) {
    for receipt in std::iter::once(&mut receipts.first).chain(&mut receipts.others) {
        receipt.published.id.seq += first - 1;
    }
}

/// What a request was, and what became of it.
#[derive(Debug)]
struct Done {
    request: u128,
    receipts: Receipts<'static>,
}

carry! {
    struct Done { request, receipts }
}

/// Requests by a hash of their key, bounded in number and bytes; the oldest is forgotten first.
#[derive(Debug)]
struct Memory {
    max: usize,
    bytes_max: usize,
    bytes: usize,
    by_key: BTreeMap<u128, Done>,
    order: VecDeque<(Instant, u128)>,
}

resume! {
    Memory {
        carried: bytes, by_key, order;
        resumed: ;
        given: max, bytes_max
    }
}

impl Memory {
    /// Room for `max` requests, and for `bytes_max` bytes of them unless a single one is larger.
    const fn new(max: usize, bytes_max: usize) -> Self {
        Self { max, bytes_max, bytes: 0, by_key: BTreeMap::new(), order: VecDeque::new() }
    }

    fn get(&mut self, now: Instant, key: u128) -> Option<&Done> {
        while self.order.front().is_some_and(|(done_at, _)| *done_at + REMEMBERED_MS <= now) {
            self.forget_oldest();
        }
        self.by_key.get(&key)
    }

    /// Remembers a request whose key is new. Returns how many others had to be forgotten.
    fn insert(&mut self, now: Instant, key: u128, done: Done) -> usize {
        self.bytes += cost(&done);
        self.order.push_back((now, key));
        self.by_key.insert(key, done);
        let before = self.order.len();
        while self.order.len() > self.max || self.bytes > self.bytes_max && self.order.len() > 1 {
            self.forget_oldest();
        }
        before - self.order.len()
    }

    fn forget(&mut self, key: u128) {
        if let Some(done) = self.by_key.remove(&key) {
            self.bytes -= cost(&done);
            self.order.retain(|(_, other)| *other != key);
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, key)) = self.order.pop_front() else { return };
        let Some(done) = self.by_key.remove(&key) else { return };
        self.bytes -= cost(&done);
    }
}

/// Bytes that a remembered request takes.
fn cost(done: &Done) -> usize {
    let entry = size_of::<(u128, Done)>() + size_of::<(Instant, u128)>();
    let others = done.receipts.others.len() * size_of::<Receipt>();
    entry + others + done.receipts.iter().map(|receipt| receipt.channel.len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{Data, Published};
    use crate::id::{Epoch, MessageId, Seed};

    fn done(request: u128) -> Done {
        let id = MessageId { epoch: Epoch::from_random(1), seq: 1 };
        let published = Published { id, subscribers: 0, messages: 1 };
        Done { request, receipts: Several::one(Receipt { channel: "a".into(), published }) }
    }

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn keys_are_forgotten_in_time_and_beyond_the_limit() {
        let mut memory = Memory::new(2, 1 << 20);
        memory.insert(at(0), 1, done(1));
        assert!(memory.get(at(119_999), 1).is_some());
        assert!(memory.get(at(120_000), 1).is_none());
        for key in [2, 3, 4] {
            memory.insert(at(120_000), key, done(key));
        }
        assert!(memory.get(at(120_001), 2).is_none(), "the oldest gave way");
        assert!(memory.get(at(120_001), 4).is_some());
        assert!(memory.by_key.len() == 2 && memory.order.len() == 2);
    }

    #[test]
    fn keys_are_bounded_in_bytes() {
        let one = cost(&done(0));
        let mut memory = Memory::new(1000, 3 * one);
        let forgotten: Vec<usize> = (0..4).map(|number| memory.insert(at(0), number, done(number))).collect();
        assert_eq!(forgotten, [0, 0, 0, 1], "three fit, to the byte");
        assert_eq!(memory.bytes, 3 * one);
        assert!(memory.get(at(0), 0).is_none() && memory.get(at(0), 1).is_some());
    }

    #[test]
    fn a_key_belongs_to_the_whole_request() {
        let mut repeats = Repeats::new(&Config::default(), Seed::of_number(1).key("test"));
        let publication = |text: &str| Publication::of(Data::Text(text.into()));
        let messages =
            |channel: &'static str, text: &str| Several::one((Cow::Borrowed(channel), publication(text)));
        let key = |method| Once::Key { key: "k", method };
        let first = messages("a", "x");
        let known = repeats.find(at(0), key("POST"), None, &first, None).unwrap();
        assert!(known.receipts.is_none());
        let receipts = done(0).receipts;
        repeats.insert(at(0), known, &receipts);
        assert_eq!(repeats.find(at(0), key("POST"), None, &first, None).unwrap().receipts, Some(receipts));
        for (method, messages) in
            [("PUT", &first), ("POST", &messages("b", "x")), ("POST", &messages("a", "y"))]
        {
            assert_eq!(
                repeats.find(at(0), key(method), None, messages, None).unwrap_err(),
                Refusal::KeyReused
            );
        }
        let message = |session| Once::Message { session, id: "k" };
        assert!(repeats.find(at(0), key("POST"), Some("alice"), &first, None).unwrap().receipts.is_none());
        assert!(repeats.find(at(0), message("s"), None, &first, None).unwrap().receipts.is_none());
        let known = repeats.find(at(0), message("s"), None, &first, None).unwrap();
        repeats.insert(at(0), known, &done(0).receipts);
        assert!(repeats.find(at(0), message("s"), None, &first, None).unwrap().receipts.is_some());
        assert!(repeats.find(at(0), message("t"), None, &first, None).unwrap().receipts.is_none());
        assert!(
            repeats.find(at(0), message("s"), None, &messages("a", "y"), None).unwrap().receipts.is_none()
        );
    }
}
