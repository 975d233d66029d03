//! The order of all messages: who is accepted gets the next number, and history takes them in that order.
//!
//! Accepting and committing are two steps. Here they follow each other at once. Where a log or another machine has to
//! agree first, what is accepted is committed when it says so; what readers see as the newest message is the newest
//! that was committed, in any case, as the hub knows no other.

use crate::carry::carry;
use crate::id::Seq;

/// Gives out numbers.
#[derive(Debug, Default)]
pub struct Order {
    /// The last that was given out.
    last: Seq,
}

carry! {
    struct Order { last }
}

impl Order {
    /// Goes on at number `next`.
    pub const fn go_on_at(&mut self, next: Seq) {
        self.last = next - 1;
    }

    /// The number of one more message. History has come to `newest`: what expires, and channels that are deleted, take
    /// numbers there.
    pub const fn accept(&mut self, newest: Seq) -> Seq {
        if newest > self.last {
            self.last = newest;
        }
        self.last += 1;
        self.last
    }
}
