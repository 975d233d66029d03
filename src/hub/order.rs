//! The order in which messages were published, over all channels: who goes first when memory is short.
//!
//! A message may leave its ring for other reasons, and its entry stays behind. Such entries are swept out a few at
//! a time: a pass over all of them would be a pause of tens of milliseconds with some hundred thousand messages.

use super::key::ChannelKey;
use crate::carry::carry;
use crate::id::Seq;
use std::collections::VecDeque;

/// Entries that a call of [`Order::sweep`] looks at. More than one, or a sweep would never reach the end.
const STEPS: usize = 4;
/// So many entries may be left behind without being swept out, besides as many as there are messages.
const LEFT_BEHIND: usize = 1024;

/// Entries, oldest first: `[kept][left behind][not looked at]`. The first two parts are there during a sweep, which
/// moves what it keeps to the front.
#[derive(Debug, Default)]
pub struct Order {
    entries: VecDeque<(Seq, ChannelKey)>,
    /// Where the first part ends.
    kept: usize,
    /// Where the second part ends.
    looked_at: usize,
}

carry! {
    struct Order { entries, kept, looked_at }
}

impl Order {
    /// Adds the newest message.
    pub fn push(&mut self, seq: Seq, channel: ChannelKey) {
        self.entries.push_back((seq, channel));
    }

    /// The entries newer than `after`, oldest first.
    pub fn since(&self, after: Seq) -> impl Iterator<Item = (Seq, ChannelKey)> {
        let from = |begin: usize, end: usize| {
            let (mut low, mut high) = (begin, end);
            while low < high {
                let middle = low.midpoint(high);
                match self.entries[middle].0 <= after {
                    true => low = middle + 1,
                    false => high = middle,
                }
            }
            self.entries.range(low..end).copied()
        };
        // Without a sweep, all is in the last part.
        from(0, self.kept).chain(from(self.looked_at, self.entries.len()))
    }

    /// Takes the oldest out, whether it is still kept or not.
    pub fn pop(&mut self) -> Option<(Seq, ChannelKey)> {
        if self.kept == 0 {
            self.entries.drain(..self.looked_at);
            self.looked_at = 0;
        }
        self.kept = self.kept.saturating_sub(1);
        self.looked_at = self.looked_at.saturating_sub(1);
        self.entries.pop_front()
    }

    /// Goes on looking for entries of messages that are not kept any more, if there are many among them; `messages`
    /// are.
    pub fn sweep(&mut self, messages: usize, is_kept: impl Fn(Seq, ChannelKey) -> bool) {
        if self.looked_at == 0 && self.entries.len() <= 2 * messages + LEFT_BEHIND {
            return;
        }
        for _ in 0..STEPS {
            let Some(&(seq, channel)) = self.entries.get(self.looked_at) else {
                self.entries.truncate(self.kept);
                (self.kept, self.looked_at) = (0, 0);
                return;
            };
            if is_kept(seq, channel) {
                self.entries[self.kept] = (seq, channel);
                self.kept += 1;
            }
            self.looked_at += 1;
        }
    }

    /// Looks at all entries and keeps those that `is_kept` says, oldest first.
    pub fn retain(&mut self, mut is_kept: impl FnMut(Seq, ChannelKey) -> bool) {
        self.entries.drain(self.kept..self.looked_at);
        (self.kept, self.looked_at) = (0, 0);
        self.entries.retain(|&(seq, channel)| is_kept(seq, channel));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Random;
    use std::collections::BTreeSet;

    /// Messages come and go in any order; what is taken out and still kept is the oldest.
    #[test]
    fn the_oldest_is_found_during_every_sweep() {
        for seed in 0..50 {
            let mut random = Random::new(seed);
            let (mut order, mut kept) = (Order::default(), BTreeSet::new());
            let mut longest = 0;
            for seq in 1..20_000 {
                order.push(seq, ChannelKey::new(7));
                kept.insert(seq);
                if kept.len() > 500 {
                    // Young ones leave, too: entries are left behind everywhere.
                    let some = *kept.iter().nth(random.below(kept.len() as u64) as usize).unwrap();
                    kept.remove(&some);
                }
                if random.one_in(100) {
                    let oldest = std::iter::from_fn(|| order.pop()).find(|(seq, _)| kept.contains(seq));
                    assert_eq!(oldest, kept.pop_first().map(|seq| (seq, ChannelKey::new(7))));
                }
                if random.one_in(5_000) {
                    order.retain(|seq, _| kept.contains(&seq) && (seq % 2 == 0 || !kept.remove(&seq)));
                }
                order.sweep(kept.len(), |seq, _| kept.contains(&seq));
                longest = longest.max(order.entries.len());
            }
            assert!(longest < 2 * (2 * 500 + LEFT_BEHIND), "{longest} entries for 500 messages");
            let rest: Vec<Seq> = std::iter::from_fn(|| order.pop())
                .map(|(seq, _)| seq)
                .filter(|seq| kept.contains(seq))
                .collect();
            assert_eq!(rest, kept.into_iter().collect::<Vec<_>>());
        }
    }
}
