//! The jumps of a history that several servers share. Every loss, and every half that goes its own way, begins with one,
//! at a number of its own; so two histories are the same up to where their jumps differ.

use crate::id::Seq;

/// Jumps that are remembered: the latest.
pub const JUMPS_MAX: usize = 64;

/// Numbers that were skipped, as what had them may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Jump {
    /// The last of them, which is that of the jump itself.
    pub to: Seq,
    /// The number before the first of them.
    pub after: Seq,
}

/// The latest jumps of a history, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Jumps(Vec<Jump>);

impl FromIterator<Jump> for Jumps {
    fn from_iter<T: IntoIterator<Item = Jump>>(jumps: T) -> Self {
        let mut jumps = Self(jumps.into_iter().collect());
        jumps.0.sort_unstable();
        jumps.bound();
        jumps
    }
}

impl Jumps {
    /// Notes that a jump has been read. Those that come after the number that it goes back to are not history any more.
    /// One that has skipped this number stays: it shows that this is not the history in which it was read.
    pub fn note(&mut self, jump: Jump) {
        self.0.retain(|one| one.after < jump.after);
        self.0.push(jump);
        self.bound();
    }

    fn bound(&mut self) {
        self.0.drain(..self.0.len().saturating_sub(JUMPS_MAX));
    }

    /// Those up to a number.
    pub fn up_to(&self, seq: Seq) -> Self {
        Self(self.0.iter().copied().filter(|jump| jump.to <= seq).collect())
    }

    /// Whether this is one of them.
    pub fn have(&self, jump: Jump) -> bool {
        self.0.contains(&jump)
    }

    /// Whether a number was skipped.
    pub fn skip(&self, seq: Seq) -> bool {
        self.0.iter().any(|jump| jump.after < seq && seq <= jump.to)
    }

    /// Whether a number was skipped that is not that of a jump itself: nothing of this history ends there.
    pub fn pass_by(&self, seq: Seq) -> bool {
        self.0.iter().any(|jump| jump.after < seq && seq < jump.to)
    }

    /// The number after which somebody has left this history who has read `ours` on the way to number `seen`: with a half
    /// that has lost, or with a run that was lost together with its jump.
    pub fn parting(&self, ours: &Self, seen: Seq) -> Option<Seq> {
        // What only one of them remembers says nothing.
        let from = self.forgotten().max(ours.forgotten());
        let differ = |one: &'_ Self, other: &Self| {
            let told =
                one.0.iter().filter(|jump| from <= jump.to && jump.to <= seen && !other.0.contains(jump));
            told.map(|jump| jump.after).min()
        };
        differ(self, ours).into_iter().chain(differ(ours, self)).min()
    }

    /// The number from which on all jumps are remembered.
    fn forgotten(&self) -> Seq {
        if self.0.len() < JUMPS_MAX { 0 } else { self.0[0].to }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jumps(list: &[(Seq, Seq)]) -> Jumps {
        list.iter().map(|&(to, after)| Jump { to, after }).collect()
    }

    #[test]
    fn histories_part_where_their_jumps_differ() {
        let history = jumps(&[(400, 250), (100, 10), (200, 125)]);
        for (ours, seen, parting) in [
            (&[(100, 10), (200, 125), (400, 250)][..], 410, None),
            (&[(100, 10), (200, 125)], 399, None),
            (&[(100, 10), (200, 125)], 400, Some(250)),
            (&[(100, 10)], 410, Some(125)),
            (&[(100, 10), (300, 130)], 310, Some(125)),
            // Who has jumped where the history has not left it there, even if it came back with a jump.
            (&[(90, 5)], 99, Some(5)),
            (&[(90, 5), (400, 250)], 410, Some(5)),
            (&[(100, 10), (200, 125), (400, 250), (500, 410)], 500, Some(410)),
        ] {
            assert_eq!(history.parting(&jumps(ours), seen), parting, "{ours:?}");
        }
    }

    #[test]
    fn a_jump_takes_those_back_that_it_goes_behind() {
        let mut read = jumps(&[(100, 10), (200, 125), (400, 250)]);
        read.note(Jump { to: 600, after: 150 });
        assert_eq!(
            read,
            jumps(&[(100, 10), (200, 125), (600, 150)]),
            "one shows that it was another history"
        );
        read.note(Jump { to: 600, after: 125 });
        assert_eq!(read, jumps(&[(100, 10), (600, 125)]));
        assert!(read.skip(11) && read.skip(600) && !read.skip(10) && !read.skip(101) && !read.skip(601));
        assert!(read.pass_by(599) && !read.pass_by(600) && !read.pass_by(125));
        assert_eq!(read.up_to(599), jumps(&[(100, 10)]));
    }

    #[test]
    fn what_only_one_remembers_says_nothing() {
        let all: Vec<(Seq, Seq)> = (1..200).map(|number| (number * 100, number * 100 - 50)).collect();
        let (mut read, last) = (jumps(&all[..80]), 19_900);
        assert_eq!(read.0.len(), JUMPS_MAX);
        assert_eq!(jumps(&all[..81]).parting(&read, 8_050), None);
        all[80..].iter().for_each(|&(to, after)| read.note(Jump { to, after }));
        assert_eq!((read.0.len(), jumps(&all).parting(&read, last)), (JUMPS_MAX, None));
        assert_eq!(jumps(&all[1..]).parting(&jumps(&all[..198]), last), Some(19_850));
    }
}
