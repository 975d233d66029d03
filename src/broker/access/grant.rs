//! What somebody may do, and until when.

use crate::carry::carry;
use crate::hub::{covers, meets};

/// What was granted to somebody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grant {
    /// Who it is (`sub`).
    pub subject: Option<Box<str>>,
    /// The number of the token (`jti`).
    pub id: Option<Box<str>>,
    /// The second since 1970 in which it was issued, by the issuer's clock.
    pub issued: Option<u64>,
    /// The second since 1970 before which it does not count; leeway is in it.
    pub begins: u64,
    /// The second since 1970 from which it does not count any more; leeway is in it.
    pub ends: u64,
    /// Names and patterns of channels to subscribe to.
    pub subscribe: Vec<Box<str>>,
    /// Names and patterns of channels to publish to.
    pub publish: Vec<Box<str>>,
    /// Names and patterns of channels that were taken back.
    pub except: Vec<Box<str>>,
    /// Which key verified it, as [`Tokens::has_key`](super::Tokens::has_key) knows.
    pub key: u64,
    /// What others are told about the subject, as JSON.
    pub info: Option<Box<str>>,
    /// A guest of the demo, who is one in its chat and nobody elsewhere.
    pub is_guest: bool,
}

carry! {
    struct Grant { subject, id, issued, begins, ends, subscribe, publish, except, key, info, is_guest }
}

impl Grant {
    /// Whether `item`, a name or a pattern, or some channel of it, was taken back.
    pub fn lacks(&self, item: &str) -> bool {
        self.except.iter().any(|taken| meets(taken, item))
    }

    /// Whether one of the granted patterns includes all of `item`, a name or a pattern. Never several together: that
    /// errs on refusing, and is clear to who writes the patterns.
    pub fn may_subscribe(&self, item: &str) -> bool {
        self.subscribe.iter().any(|granted| covers(granted, item))
    }

    /// Whether it grants publishing to that channel.
    pub fn may_publish(&self, name: &str) -> bool {
        self.publish.iter().any(|granted| covers(granted, name))
    }

    /// Whether it counts in that second.
    pub const fn is_valid(&self, unix: u64) -> bool {
        self.begins <= unix && unix < self.ends
    }
}
