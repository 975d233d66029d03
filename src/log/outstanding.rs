//! Where somebody stands who shares a history with others: up to where it has read, and what it has proposed that has been
//! taken and has not come back.
//!
//! Two take part who do not wait for each other: the writer, who is told that a batch was taken and the number of its last
//! record, and the tail, which reads. Either may be first. What the tail *brings* is history; whatever it passes by and
//! does not bring is lost. While a history has been found anew and the tail has not yet compared it with what it has read,
//! its numbers say nothing of what was taken since: it may be with a half that has lost.

use super::{Jump, Jumps, Ticket};
use crate::id::Seq;
use std::collections::{BTreeSet, VecDeque};

/// A batch that was taken: proposals, and the number of its last record.
pub type Taken = (Vec<Ticket>, Seq);

/// Where somebody stands in a shared history.
#[derive(Debug, Clone, Default)]
pub struct Outstanding {
    /// The number up to which the tail has read.
    seen: Seq,
    /// Jumps that it has read.
    jumps: Jumps,
    /// Those of the history as it was found, with the first number that is kept, until the tail has compared them.
    found: Option<(Jumps, Seq)>,
    /// Batches that the tail has yet to come to.
    taken: VecDeque<Taken>,
    /// Those that were taken since the history was found that the tail has yet to compare.
    ahead: Vec<Taken>,
    /// Proposals that the tail has brought before it was known that they were taken.
    early: BTreeSet<Ticket>,
}

impl Outstanding {
    /// The number up to which the tail has read.
    pub const fn seen(&self) -> Seq {
        self.seen
    }

    /// Jumps that the tail has read.
    pub const fn jumps(&self) -> &Jumps {
        &self.jumps
    }

    /// The history has been found for the first time, and is read from the number `first` on.
    pub fn begin(&mut self, jumps: &Jumps, first: Seq) {
        self.jumps = jumps.up_to(first - 1);
        self.seen = first - 1;
    }

    /// The history has been found anew: its numbers go from `first` to `last`, and it has had these jumps. `settled` is in it,
    /// which was in doubt. Returns which proposals are not in it.
    pub fn attach(
        &mut self,
        jumps: &Jumps,
        (first, last): (Seq, Seq),
        settled: Option<Taken>,
    ) -> Vec<Ticket> {
        self.found = Some((jumps.clone(), first));
        if let Some((tickets, last)) = settled {
            self.note_taken(tickets, last);
        }
        let mut lost = Vec::new();
        let mut is_there = |(tickets, upto): &mut Taken| {
            let is_there = *upto <= last;
            if !is_there {
                lost.append(tickets);
            }
            is_there
        };
        self.taken.retain_mut(&mut is_there);
        self.ahead.retain_mut(&mut is_there);
        lost
    }

    /// Compares the history that was found with what was read. Goes back to where they have parted, if they have: returns that
    /// number. Returns also which proposals do not come back. To be asked when nothing is read any more of what was there
    /// before.
    pub fn go_back(&mut self) -> (Option<Seq>, Vec<Ticket>) {
        let Some((found, first)) = self.found.take() else { return (None, Vec::new()) };
        let parting = found.parting(&self.jumps, self.seen);
        let mut lost = Vec::new();
        if let Some(after) = parting {
            // What was trimmed is not read again.
            self.jumps = found.up_to(after.max(first - 1));
            self.seen = after;
            lost.extend(self.taken.drain(..).flat_map(|(tickets, _)| tickets));
        }
        for (tickets, last) in std::mem::take(&mut self.ahead) {
            lost.extend(self.note_taken(tickets, last));
        }
        // Two halves may have given numbers as they liked.
        self.taken.make_contiguous().sort_by_key(|(_, last)| *last);
        (parting, lost)
    }

    /// Whether an entry that begins with number `first`, and is a jump from `lost` if it is one, does not go on from what was read:
    /// it is of another half, which the tail has come to before it has compared the two. Whoever showed it would mix them.
    pub fn is_elsewhere(&self, first: Seq, lost: Option<Seq>) -> bool {
        first <= self.seen && lost.is_none_or(|after| self.jumps.pass_by(after))
    }

    /// Notes that a jump has been read.
    pub fn note_jump(&mut self, jump: Jump) {
        self.jumps.note(jump);
    }

    /// Notes that proposals were taken, the last record with this number. Returns those that the tail has passed by.
    pub fn note_taken(&mut self, mut tickets: Vec<Ticket>, last: Seq) -> Vec<Ticket> {
        tickets.retain(|ticket| !self.early.remove(ticket));
        match () {
            () if tickets.is_empty() => {}
            () if self.found.is_some() => self.ahead.push((tickets, last)),
            () if last > self.seen => self.taken.push_back((tickets, last)),
            () => return tickets,
        }
        Vec::new()
    }

    /// Forgets that proposals up to this one came early: nobody is going to say any more that they were taken.
    pub fn forget_early(&mut self, upto: Ticket) {
        self.early.retain(|ticket| *ticket > upto);
    }

    /// Notes that the tail has come to `last`, and has brought these proposals. Returns those that it has passed by.
    pub fn note_read(&mut self, last: Seq, brought: &[Ticket]) -> Vec<Ticket> {
        self.seen = last;
        let mut brought: BTreeSet<Ticket> = brought.iter().copied().collect();
        let mut passed = Vec::new();
        while self.taken.front().is_some_and(|(_, upto)| *upto <= last) {
            let tickets = self.taken.pop_front().map(|(tickets, _)| tickets).unwrap_or_default();
            passed.extend(tickets.into_iter().filter(|ticket| !brought.remove(ticket)));
        }
        self.early.append(&mut brought);
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jumps(list: &[(Seq, Seq)]) -> Jumps {
        list.iter().map(|&(to, after)| Jump { to, after }).collect()
    }

    fn tickets(numbers: &[u64]) -> Vec<Ticket> {
        numbers.iter().copied().map(Ticket).collect()
    }

    #[test]
    fn what_the_tail_passes_by_is_lost() {
        let mut all = Outstanding::default();
        for (ticket, last) in [(3, 10), (5, 20), (8, 30)] {
            assert!(all.note_taken(tickets(&[ticket]), last).is_empty());
        }
        assert!(all.note_read(10, &tickets(&[3])).is_empty());
        assert_eq!(all.note_read(1 << 20, &[]), tickets(&[5, 8]), "a jump");
        assert_eq!(all.note_taken(tickets(&[9]), 17), tickets(&[9]), "it had passed by");
        // It may come before it is known that it was taken.
        assert!(all.note_read((1 << 20) + 3, &tickets(&[10, 11])).is_empty());
        assert!(all.note_taken(tickets(&[10, 11]), (1 << 20) + 3).is_empty());
        assert!(all.note_read((1 << 20) + 4, &tickets(&[12])).is_empty());
        all.forget_early(Ticket(12));
        assert!(all.early.is_empty() && all.taken.is_empty());
    }

    #[test]
    fn who_was_with_a_half_that_has_lost_goes_back() {
        let mut all = Outstanding::default();
        all.begin(&jumps(&[(100, 10)]), 101);
        assert!(all.note_read(120, &[]).is_empty());
        _ = all.attach(&jumps(&[(100, 10)]), (101, 130), None);
        assert_eq!(all.go_back(), (None, Vec::new()), "it was there");
        all.note_jump(Jump { to: 300, after: 130 });
        assert!(all.note_read(310, &[]).is_empty());
        assert!(all.note_taken(tickets(&[1]), 320).is_empty());
        assert!(all.note_taken(tickets(&[2]), 500).is_empty());
        let lost = all.attach(&jumps(&[(100, 10), (400, 320)]), (101, 410), None);
        assert_eq!(lost, tickets(&[2]), "it is not there");
        assert_eq!(all.go_back(), (Some(130), tickets(&[1])), "the others did not jump there");
        assert_eq!((all.seen(), all.go_back()), (130, (None, Vec::new())));
        assert!(all.note_read(310, &[]).is_empty());
        assert!(all.note_taken(tickets(&[3]), 320).is_empty());
        let others = jumps(&[(100, 10), (200, 125), (400, 250)]);
        _ = all.attach(&others, (101, 410), None);
        assert_eq!(all.go_back(), (Some(125), tickets(&[3])), "the others jumped, and it did not see that");
        assert_eq!(all.seen(), 125);
        all.note_jump(Jump { to: 200, after: 125 });
        _ = all.attach(&others, (101, 410), None);
        assert_eq!(all.go_back(), (None, Vec::new()));
    }

    /// The tail is with a half that has lost, at a higher number than what the other half takes.
    #[test]
    fn what_is_taken_while_the_tail_is_with_another_half_is_waited_for() {
        let mut all = Outstanding::default();
        all.begin(&Jumps::default(), 1);
        all.note_jump(Jump { to: 900, after: 10 });
        assert!(all.note_read(910, &[]).is_empty());
        let others = jumps(&[(500, 10)]);
        assert!(all.attach(&others, (1, 520), Some((tickets(&[1, 2]), 520))).is_empty());
        assert!(all.note_taken(tickets(&[3]), 530).is_empty());
        assert!(all.note_read(911, &tickets(&[1])).is_empty(), "it may have had one of them, too");
        assert_eq!(all.go_back(), (Some(10), Vec::new()));
        all.note_jump(Jump { to: 500, after: 10 });
        assert!(all.note_read(500, &[]).is_empty());
        assert!(all.note_read(520, &tickets(&[1, 2])).is_empty());
        assert!(all.note_read(530, &tickets(&[3])).is_empty());
        // What was in doubt may have been read where the halves are one, before it was known that it was taken.
        assert!(all.note_read(540, &tickets(&[4])).is_empty());
        assert!(all.attach(&others, (1, 540), Some((tickets(&[4]), 540))).is_empty());
        assert_eq!(all.go_back(), (None, Vec::new()));
    }

    #[test]
    fn the_tail_sees_where_it_is_not() {
        let mut all = Outstanding::default();
        assert!(all.note_read(79, &[]).is_empty());
        assert!(!all.is_elsewhere(80, None) && all.is_elsewhere(79, None), "no batch begins before its end");
        assert!(
            !all.is_elsewhere(80, Some(79)) && !all.is_elsewhere(77, Some(76)),
            "it has lost, as all have"
        );
        all.note_jump(Jump { to: 600, after: 79 });
        assert!(all.note_read(610, &[]).is_empty());
        // The others have jumped twice: from 76 to 200, and from there.
        assert!(
            all.is_elsewhere(201, Some(200)),
            "what is between 76 and 79 has never been, and it would not notice"
        );
        assert!(!all.is_elsewhere(77, Some(76)) && !all.is_elsewhere(601, Some(600)));
    }
}
