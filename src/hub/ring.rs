//! The latest messages of one channel, oldest first, and the watermark of what was thrown away.

use super::latest::Latest;
use super::message::Message;
use crate::carry::carry;
use crate::id::Seq;
use crate::time::Instant;
use std::collections::VecDeque;
use std::rc::Rc;

/// What an expiry took out of a ring.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    /// Messages whose own TTL ran out: no gap.
    pub expired: usize,
    /// Messages a limit threw away: a gap for whoever had not had them.
    pub evicted: usize,
    /// Bytes they were charged with.
    pub bytes: usize,
}

/// A ring of messages in ascending order of their numbers.
#[derive(Debug, Default)]
pub struct Ring {
    /// Each with its number beside it: looking for one does not touch the others, which are cold.
    messages: VecDeque<(Seq, Rc<Message>)>,
    /// Bytes of the messages without their frames.
    bytes: usize,
    /// The highest number that a limit threw away. Everything kept is newer.
    evicted: Seq,
    /// The same of messages without a key, which nothing supersedes.
    evicted_unkeyed: Seq,
    /// No message has to leave before this.
    soonest: Instant,
    /// The moment at which something was lost last.
    lost_at: u64,
    /// What was thrown away here last, if it was in other rings then.
    beside: Option<Box<Beside>>,
}

carry! {
    struct Ring { messages, bytes, evicted, evicted_unkeyed, soonest, lost_at, beside }
}

/// Messages that a limit threw away here, and that were in the ring of another of their topics then. Whoever listens there,
/// too, may not lack them.
#[derive(Debug, Default)]
struct Beside {
    /// What was thrown away up to this number is lost, as far as is known.
    alone: Seq,
    /// The numbers of the others.
    others: VecDeque<Seq>,
}

carry! {
    struct Beside { alone, others }
}

/// So many of them are remembered; earlier ones count as lost.
const BESIDE_MAX: usize = 64;

impl Ring {
    /// An empty ring of a channel that lost messages up to `evicted` in a former life.
    pub fn new(evicted: Seq) -> Self {
        Self { evicted, evicted_unkeyed: evicted, soonest: Instant::NEVER, ..Self::default() }
    }

    /// Messages kept.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bytes kept, without frames.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The highest number thrown away by a limit; 0 if none was.
    pub const fn evicted(&self) -> Seq {
        self.evicted
    }

    /// Whether something newer than `had` was thrown away by a limit that is at hand nowhere else; `is_elsewhere` is asked of
    /// what was in other rings then.
    pub fn has_lost(&self, had: Seq, is_elsewhere: impl Fn(Seq) -> bool) -> bool {
        self.evicted > had
            && self.beside.as_ref().is_none_or(|beside| {
                let Beside { alone, others } = &**beside;
                *alone > had || others.iter().any(|&seq| seq > had && !is_elsewhere(seq))
            })
    }

    /// Notes that message `seq` was thrown away by a limit, and whether it is in another ring.
    fn note_evicted(&mut self, seq: Seq, is_elsewhere: bool) {
        let before = std::mem::replace(&mut self.evicted, seq);
        if !is_elsewhere {
            self.beside = None;
            return;
        }
        let beside =
            self.beside.get_or_insert_with(|| Box::new(Beside { alone: before, ..Beside::default() }));
        beside.others.push_back(seq);
        if beside.others.len() > BESIDE_MAX {
            beside.alone = beside.others.pop_front().unwrap_or(seq);
        }
    }

    /// The moment at which something was lost last.
    pub const fn lost_at(&self) -> u64 {
        self.lost_at
    }

    /// Notes that something was lost at that moment.
    pub const fn note_lost_at(&mut self, moment: u64) {
        self.lost_at = moment;
    }

    /// The highest number of a message without a key thrown away by a limit; 0 if none was.
    pub const fn evicted_unkeyed(&self) -> Seq {
        self.evicted_unkeyed
    }

    /// Notes that everything up to `seq` is lost, whatever it was.
    pub fn lose(&mut self, seq: Seq) {
        (self.evicted, self.evicted_unkeyed) = (seq, seq);
        self.beside = None;
    }

    /// Notes that of what was lost up to `upto`, nothing after `unkeyed` had no key.
    pub fn restore_loss_of_latest(&mut self, upto: Seq, unkeyed: Seq) {
        // What was lost since is what it is.
        if self.evicted_unkeyed == upto {
            self.evicted_unkeyed = unkeyed.min(upto);
        }
    }

    /// Notes that nothing after `seq` was ever lost.
    pub fn lower_loss(&mut self, seq: Seq) {
        self.evicted = self.evicted.min(seq);
        self.beside = None;
        self.evicted_unkeyed = self.evicted_unkeyed.min(seq);
    }

    /// The number of the newest message kept, 0 if none is.
    pub fn newest(&self) -> Seq {
        self.messages.back().map_or(0, |&(seq, _)| seq)
    }

    /// The number of the oldest message kept.
    pub fn oldest(&self) -> Option<Seq> {
        self.messages.front().map(|&(seq, _)| seq)
    }

    /// When the oldest message kept was published.
    pub fn oldest_published(&self) -> Option<Instant> {
        self.messages.front().map(|(_, message)| message.published)
    }

    /// Whether message `seq` is kept.
    pub fn contains(&self, seq: Seq) -> bool {
        // What is asked about has mostly gone.
        self.messages.front().is_some_and(|&(first, _)| first <= seq)
            && self.messages.binary_search_by_key(&seq, |&(seq, _)| seq).is_ok()
    }

    /// The messages newer than `after`, oldest first.
    pub fn after(&self, after: Seq) -> impl Iterator<Item = &Rc<Message>> {
        // Nearly always a subscriber lacks the last message or the last few.
        let near = self.messages.iter().rev().take(4).take_while(|&&(seq, _)| seq > after).count();
        let start = match near {
            4 => self.messages.partition_point(|&(seq, _)| seq <= after),
            _ => self.messages.len() - near,
        };
        self.messages.range(start..).map(|(_, message)| message)
    }

    /// The number after which the last `count` messages begin that have not expired at `now`.
    pub fn before_last(&self, count: usize, now: Instant) -> Seq {
        let live = self.messages.iter().rev().filter(|(_, message)| !message.expired(now));
        let first = live.take(count).last().map(|&(seq, _)| seq);
        first.map_or_else(|| self.newest().max(self.evicted), |first| first - 1)
    }

    /// The number after which the last `count` messages up to number `newest` begin that have not expired at `now`; none if
    /// there are not so many.
    pub fn before_last_of(&self, count: usize, newest: Seq, now: Instant) -> Option<Seq> {
        let end = self.messages.partition_point(|&(seq, _)| seq <= newest);
        let live = self.messages.range(..end).rev().filter(|(_, message)| !message.expired(now));
        live.take(count)
            .enumerate()
            .last()
            .filter(|(place, _)| place + 1 == count)
            .map(|(_, &(seq, _))| seq - 1)
    }

    /// The number after which the messages published at `time` or later begin.
    pub fn before(&self, time: Instant) -> Seq {
        let older = self.messages.partition_point(|(_, message)| message.published < time);
        let last = older.checked_sub(1).and_then(|at| self.messages.get(at));
        last.map_or(self.evicted, |&(seq, _)| seq)
    }

    /// Appends the newest message.
    pub fn push(&mut self, message: Rc<Message>, age_ms: u64) {
        debug_assert!(message.id.seq > self.newest());
        self.soonest = self.soonest.min(leaves(&message, age_ms));
        self.bytes += message.cost();
        message.hold();
        self.messages.push_back((message.id.seq, message));
    }

    /// Appends a message that is kept elsewhere: this is the ring of a feed.
    pub fn pass(&mut self, message: &Rc<Message>) {
        debug_assert!(message.id.seq > self.newest());
        self.bytes += message.cost();
        self.messages.push_back((message.id.seq, Rc::clone(message)));
    }

    /// Lets the oldest message of a feed's ring go.
    pub fn let_pass(&mut self) {
        if let Some((seq, message)) = self.messages.pop_front() {
            self.bytes -= message.cost();
            self.evicted = seq;
        }
    }

    /// The oldest message kept.
    pub fn first(&self) -> Option<&Rc<Message>> {
        self.messages.front().map(|(_, message)| message)
    }

    /// Message `seq`, if it is kept.
    pub fn find(&self, seq: Seq) -> Option<&Rc<Message>> {
        // Nearly always it is the last.
        if let Some((newest, message)) = self.messages.back()
            && *newest == seq
        {
            return Some(message);
        }
        let place = self.messages.binary_search_by_key(&seq, |&(seq, _)| seq).ok()?;
        self.messages.get(place).map(|(_, message)| message)
    }

    /// The messages that a limit of age takes at `now`, whatever else does.
    pub fn aged(&self, age_ms: u64, now: Instant) -> impl Iterator<Item = &Rc<Message>> {
        let messages = self.messages.iter().map(|(_, message)| message);
        messages.filter(move |message| leaves(message, age_ms) <= now && !message.expired(now))
    }

    /// Throws the oldest message away because of a limit. Bytes of one that is among the `latest` values do not go.
    pub fn evict(&mut self, now: Instant, latest: Option<&Latest>) -> Gone {
        let Some((_, message)) = self.messages.pop_front() else { return Gone::default() };
        self.remove(&message, now, latest)
    }

    /// Takes out what is newer than `after`, which has never happened. Bytes of what is among the `latest` values do not go.
    pub fn take_back(&mut self, after: Seq, latest: Option<&Latest>) -> Gone {
        let mut gone = Gone::default();
        while let Some((seq, message)) = self.messages.pop_back() {
            if seq <= after {
                self.messages.push_back((seq, message));
                break;
            }
            self.bytes -= message.cost();
            gone.evicted += 1;
            if !latest.is_some_and(|latest| latest.contains(seq)) {
                gone.bytes += message.cost() + message.frames_cost();
            }
        }
        gone
    }

    /// Where message `seq` is held, if it is kept.
    pub fn holder(&mut self, seq: Seq) -> Option<&mut Rc<Message>> {
        // Nearly always it is the last.
        let last = self.messages.len().saturating_sub(1);
        let place = match self.newest() == seq {
            true => Ok(last),
            false => self.messages.binary_search_by_key(&seq, |&(seq, _)| seq),
        };
        place.ok().and_then(|place| self.messages.get_mut(place)).map(|(_, message)| message)
    }

    /// Takes out what is too old at `now`, by its own TTL or by the age limit.
    pub fn expire(&mut self, age_ms: u64, now: Instant, latest: Option<&Latest>) -> Gone {
        let mut gone = Gone::default();
        let mut soonest = Instant::NEVER;
        for (seq, message) in std::mem::take(&mut self.messages) {
            let end = leaves(&message, age_ms);
            if end <= now {
                let one = self.remove(&message, now, latest);
                gone.expired += one.expired;
                gone.evicted += one.evicted;
                gone.bytes += one.bytes;
            } else {
                soonest = soonest.min(end);
                self.messages.push_back((seq, message));
            }
        }
        self.soonest = soonest;
        gone
    }

    /// When [`Ring::expire`] may have something to do; `None` if nothing is kept.
    pub fn next_expiry(&self) -> Option<Instant> {
        (!self.is_empty()).then_some(self.soonest)
    }

    /// Accounts for a message that has left.
    fn remove(&mut self, message: &Message, now: Instant, latest: Option<&Latest>) -> Gone {
        self.bytes -= message.cost();
        let expired = message.expired(now);
        // With several topics it is in several rings, and counts once.
        let is_elsewhere = !message.let_go();
        if !expired {
            self.note_evicted(message.id.seq, is_elsewhere);
            if message.key().is_none() {
                self.evicted_unkeyed = message.id.seq;
            }
        }
        let stays = is_elsewhere || latest.is_some_and(|latest| latest.contains(message.id.seq));
        Gone {
            expired: usize::from(expired),
            evicted: usize::from(!expired),
            bytes: if stays { 0 } else { message.cost() + message.frames_cost() },
        }
    }
}

/// When a message must leave its ring.
fn leaves(message: &Message, age_ms: u64) -> Instant {
    message.expires().min(message.published + age_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{Data, Publication};
    use crate::id::{Epoch, MessageId};

    #[test]
    fn the_messages_since_a_time() {
        let mut ring = Ring::new(0);
        for (seq, ms) in [(3, 100), (5, 200), (6, 200), (9, 300)] {
            let id = MessageId { epoch: Epoch::from_random(1), seq };
            let publication = Publication::of(Data::Text("".into()));
            ring.push(Rc::new(Message::new(id, "c".into(), publication, Instant::from_millis(ms))), 1000);
        }
        for (ms, after) in [(0, 0), (100, 0), (101, 3), (200, 3), (201, 6), (300, 6), (301, 9)] {
            assert_eq!(ring.before(Instant::from_millis(ms)), after, "since {ms}");
        }
    }
}
