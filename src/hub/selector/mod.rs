//! Selectors of topics, as Mercure has them: everything, a text, a template, a URL pattern.
//!
//! They are compiled once, when they come, and matching takes linear time. What two selectors are is compared by kind
//! and text, never by a text that was joined of both.

mod machine;
pub mod template;

use crate::carry::{Carry, Damaged, Parcel, Shape, Unpack};
use std::cmp::Ordering;
use std::rc::Rc;
use template::Template;

/// What selects topics.
#[derive(Debug, Clone)]
pub enum Selector {
    /// Every topic (`*`).
    All,
    /// The topic that is spelled like this.
    Exact(Rc<str>),
    /// Topics that match a template, or are spelled like it.
    Template(Rc<Template>),
}

impl Selector {
    /// The selector that `text` is where it may be a template (RFC 6570). What is no valid template is text.
    pub fn templated(text: &str) -> Self {
        match Template::compile(text) {
            _ if text == "*" => Self::All,
            Some(template) => Self::Template(Rc::new(template)),
            None => Self::Exact(text.into()),
        }
    }

    /// How it is written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::All => "*",
            Self::Exact(text) => text,
            Self::Template(template) => template.as_str(),
        }
    }

    /// Whether it selects `topic`.
    pub fn matches(&self, topic: &str) -> bool {
        match self {
            Self::All => true,
            Self::Exact(text) => **text == *topic,
            Self::Template(template) => template.matches(topic),
        }
    }

    /// What every topic begins with that it selects, unless the topic is spelled like the selector itself.
    pub fn prefix(&self) -> &str {
        match self {
            Self::All => "",
            Self::Exact(text) => text,
            Self::Template(template) => template.prefix(),
        }
    }

    /// What it costs to compare a topic with it, in looks at a channel.
    pub fn weight(&self) -> usize {
        match self {
            Self::All | Self::Exact(_) => 1,
            Self::Template(template) => template.weight(),
        }
    }

    /// Bytes that it takes, about.
    pub fn bytes(&self) -> usize {
        match self {
            Self::All => 0,
            Self::Exact(text) => text.len(),
            Self::Template(template) => template.bytes(),
        }
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::All => 0,
            Self::Exact(_) => 1,
            Self::Template(_) => 2,
        }
    }
}

impl Carry for Selector {
    fn shape(shape: &mut Shape) {
        shape.add("Selector");
        <(u8, String)>::shape(shape);
    }

    fn pack(&self, parcel: &mut Parcel) {
        (self.kind(), self.as_str().to_owned()).pack(parcel);
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        let (kind, text) = <(u8, String)>::unpack(from)?;
        match (kind, Template::compile(&text)) {
            (0, _) => Ok(Self::All),
            (1, _) => Ok(Self::Exact(text.into())),
            (2, Some(template)) => Ok(Self::Template(Rc::new(template))),
            _ => Err(Damaged("Selector of no known kind")),
        }
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Selector {}

impl PartialOrd for Selector {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Selector {
    fn cmp(&self, other: &Self) -> Ordering {
        self.kind().cmp(&other.kind()).then_with(|| self.as_str().cmp(other.as_str()))
    }
}
