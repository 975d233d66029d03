//! The seed of a server: what makes its ids impossible to guess, and what makes a run of it repeatable.
//!
//! Only the reactor asks the system for randomness, once, and hands a [`Seed`] down. Every secret id and every key of
//! a hash is derived from it by SipHash, a pseudo-random function: whoever knows some of them learns nothing about the
//! others, and two runs with the same seed and the same input write the same bytes.

use super::Epoch;
use crate::carry::{carry, resume};
use siphasher::sip::SipHasher13;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::fmt;
use std::hash::{Hash, Hasher};

/// What a server begins with.
#[derive(Clone, Copy)]
pub struct Seed {
    /// The name of its history.
    pub epoch: Epoch,
    /// 128 random bits that nobody else may know.
    pub secret: u128,
}

carry! {
    struct Seed { epoch, secret }
}

impl Seed {
    /// The seed of a test or simulation, which is no secret.
    pub const fn of_number(number: u64) -> Self {
        Self { epoch: Epoch::from_random(number), secret: number as u128 }
    }

    /// The key for one `purpose`, which no other purpose shares.
    pub fn key(self, purpose: &str) -> Key {
        let mut hasher = SipHasher24::new_with_keys(self.secret as u64, (self.secret >> 64) as u64);
        hasher.write(purpose.as_bytes());
        let hash = hasher.finish128();
        Key(hash.h1, hash.h2)
    }
}

// Secrets do not belong in logs.
impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seed").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// A secret key: makes hashes that nobody else can make, and ids that nobody else can guess.
#[derive(Clone, Copy)]
pub struct Key(u64, u64);

impl Key {
    /// A hash for tables: cheap, and peers cannot choose values that share one.
    pub fn hash(self, value: impl Hash) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.0, self.1);
        value.hash(&mut hasher);
        hasher.finish()
    }

    /// A hash that stands for the value itself: no two values are known that share one.
    pub fn digest(self, value: impl Hash) -> u128 {
        let mut hasher = SipHasher24::new_with_keys(self.0, self.1);
        value.hash(&mut hasher);
        hasher.finish128().as_u128()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Draws ids that cannot be guessed, each once.
#[derive(Debug)]
pub struct Secrets {
    key: Key,
    drawn: u64,
}

resume! {
    Secrets {
        carried: drawn;
        resumed: ;
        given: key
    }
}

impl Secrets {
    /// Those that `key` makes.
    pub const fn new(key: Key) -> Self {
        Self { key, drawn: 0 }
    }

    /// The next one.
    pub fn draw(&mut self) -> u128 {
        self.drawn += 1;
        self.key.digest(self.drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_is_derived_depends_on_seed_and_purpose_alone() {
        let seed = Seed::of_number(7);
        assert_eq!(seed.key("a").hash("x"), Seed::of_number(7).key("a").hash("x"));
        assert_ne!(seed.key("a").hash("x"), seed.key("b").hash("x"));
        assert_ne!(seed.key("a").hash("x"), Seed::of_number(8).key("a").hash("x"));
        assert_ne!(seed.key("a").digest(("ab", "c")), seed.key("a").digest(("a", "bc")));
    }

    #[test]
    fn no_secret_is_drawn_twice() {
        let mut secrets = Secrets::new(Seed::of_number(1).key("sessions"));
        let drawn: BTreeSet<u128> = (0..10_000).map(|_| secrets.draw()).collect();
        assert_eq!(drawn.len(), 10_000);
    }

    #[test]
    fn secrets_are_not_printed() {
        let seed = Seed { epoch: Epoch::from_random(1), secret: 0xDEAD_BEEF };
        let printed = format!("{seed:?} {:?}", seed.key("a"));
        assert!(!printed.contains("3735928559") && printed.contains("Key(..)"), "{printed}");
    }
}
