//! What the application has said when it was asked.

use super::{Action, Grant, Question};
use crate::carry::carry;
use crate::time::Instant;
use std::rc::Rc;

/// Its word on a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// What it was asked.
    pub question: Rc<Question>,
    /// What it grants, of what it was asked, and to whom. Names only, and compared exactly.
    pub grant: Rc<Grant>,
    /// 401 or 403, for what it does not grant.
    pub status: u16,
    /// Why not, in its own words.
    pub reason: Option<Box<str>>,
    /// Until when it counts.
    pub ends: Instant,
}

carry! {
    struct Word { question, grant, status, reason, ends }
}

impl Word {
    /// Whether it allows that channel, if it was asked about it.
    pub fn allows(&self, action: Action, name: &str) -> Option<bool> {
        if self.question.action != action || !self.question.is_about(name) {
            return None;
        }
        let granted = match action {
            Action::Subscribe => &self.grant.subscribe,
            Action::Publish => &self.grant.publish,
        };
        Some(granted.iter().any(|granted| **granted == *name))
    }

    /// Whether it allows all that it was asked.
    pub fn allows_all(&self) -> bool {
        self.question.channels.iter().all(|name| self.allows(self.question.action, name) == Some(true))
    }
}
