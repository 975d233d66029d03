//! What is published, and what became of it.

use super::several::Several;
use crate::carry::carry;
use crate::hub::{Publication, Published};
use crate::id::MessageId;
use std::borrow::Cow;

/// Messages to publish, all or none.
#[derive(Debug)]
pub struct Publishing<'b> {
    /// Channel and message, in this order.
    pub messages: Several<(Cow<'b, str>, Publication)>,
    /// How a repeat is recognised.
    pub once: Option<Once<'b>>,
    /// Whose key that is: that of the subject of a token, which may be nobody in particular. None = the application's,
    /// which a client must not be able to guess.
    pub whose: Option<Box<str>>,
    /// What is to be done with values that are there, or must hold of them.
    pub terms: Option<Box<Terms>>,
}

/// What is to be done with latest values that are there, or must hold of them: then all of it is tried out first.
#[derive(Debug, Default, Hash)]
pub struct Terms {
    /// Which messages are merge patches for the latest value of their key, in ascending order.
    pub patches: Vec<usize>,
    /// What the id of the latest value of each key must be.
    pub if_match: Option<IfMatch>,
}

/// A condition for an id (RFC 9110, section 13.1).
#[derive(Debug, Hash)]
pub enum IfMatch {
    /// There is one.
    Any,
    /// It is one of these.
    Ids(Vec<MessageId>),
    /// That does not hold.
    Not(Box<Self>),
}

impl IfMatch {
    /// Whether it holds for that id; none = there is no value.
    pub fn holds(&self, id: Option<MessageId>) -> bool {
        match self {
            Self::Any => id.is_some(),
            Self::Ids(ids) => id.is_some_and(|id| ids.contains(&id)),
            Self::Not(condition) => !condition.holds(id),
        }
    }
}

impl<'b> Publishing<'b> {
    /// One message that may be published again and again.
    pub fn of(channel: impl Into<Cow<'b, str>>, publication: Publication) -> Self {
        Self { messages: Several::one((channel.into(), publication)), once: None, whose: None, terms: None }
    }
}

/// How a repeat of a request is recognised.
#[derive(Debug, Clone, Copy)]
pub enum Once<'b> {
    /// By a key that its publisher chose. It belongs to the request as a whole: the method, the channels, and the
    /// messages. Another request with the same key is refused.
    Key {
        /// The key.
        key: &'b str,
        /// The method.
        method: &'static str,
    },
    /// By everything: what its client named it, and what it says. Clients that give several messages one name lose
    /// nothing.
    Message {
        /// Whose it is.
        session: &'b str,
        /// What its client named it.
        id: &'b str,
    },
}

/// What became of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt<'b> {
    /// Its channel.
    pub channel: Cow<'b, str>,
    /// Its number, and who was there.
    pub published: Published,
}

carry! {
    struct Receipt<'static> { channel, published }
}

/// What became of all of them, in order.
pub type Receipts<'b> = Several<Receipt<'b>>;
