//! Selectors of topics, as Mercure has them: everything, a text, a template, a URL pattern.
//!
//! They are compiled once, when they come, and matching takes linear time. What two selectors are is compared by kind
//! and text, never by a text that was joined of both.

mod machine;
pub mod template;
pub mod url;

use crate::carry::{Carry, Damaged, Parcel, Shape, Unpack};
use std::cmp::Ordering;
use std::rc::Rc;
use template::Template;
use url::UrlPattern;

/// Whether a character is not seen: a control character, or of the category `Cf` of Unicode. Draft 08 of Mercure has
/// none of them in names.
pub fn is_unseen(c: char) -> bool {
    let is_format = |c: char| {
        matches!(
            u32::from(c),
            0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x890..=0x891 | 0x8e2 | 0x180e | 0x200b..=0x200f
                | 0x202a..=0x202e | 0x2060..=0x2064 | 0x2066..=0x206f | 0xfeff | 0xfff9..=0xfffb | 0x110bd | 0x110cd
                | 0x13430..=0x1343f | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0001 | 0xe0020..=0xe007f
        )
    };
    c.is_control() || is_format(c)
}

/// What selects topics.
#[derive(Debug, Clone)]
pub enum Selector {
    /// Every topic (`*`).
    All,
    /// The topic that is spelled like this.
    Exact(Rc<str>),
    /// Topics that match a template, or are spelled like it.
    Template(Rc<Template>),
    /// Topics that are URLs, and match a pattern.
    Url(Rc<UrlPattern>),
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

    /// The topic that is spelled like this, whatever is in it; `*` is every topic.
    pub fn exact(text: &str) -> Self {
        if text == "*" { Self::All } else { Self::Exact(text.into()) }
    }

    /// Topics that match a URL pattern, relative to the URL `base`; `*` is every topic. `None` if it is no pattern.
    pub fn url_pattern(text: &str, base: &Rc<str>) -> Option<Self> {
        match text {
            "*" => Some(Self::All),
            _ => Some(Self::Url(Rc::new(UrlPattern::compile(text, base)?))),
        }
    }

    /// How it is written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::All => "*",
            Self::Exact(text) => text,
            Self::Template(template) => template.as_str(),
            Self::Url(pattern) => pattern.as_str(),
        }
    }

    /// Whether it selects `topic`.
    pub fn matches(&self, topic: &str) -> bool {
        match self {
            Self::All => true,
            Self::Exact(text) => **text == *topic,
            Self::Template(template) => template.matches(topic),
            Self::Url(pattern) => pattern.matches(topic),
        }
    }

    /// What every topic begins with that it selects, unless the topic is spelled like the selector itself.
    pub fn prefix(&self) -> &str {
        match self {
            // Of a URL there are many spellings.
            Self::All | Self::Url(_) => "",
            Self::Exact(text) => text,
            Self::Template(template) => template.prefix(),
        }
    }

    /// What it costs to compare a topic with it, in looks at a channel.
    pub fn weight(&self) -> usize {
        match self {
            Self::All | Self::Exact(_) => 1,
            Self::Template(template) => template.weight(),
            Self::Url(pattern) => pattern.weight(),
        }
    }

    /// Bytes that it takes, about.
    pub fn bytes(&self) -> usize {
        match self {
            Self::All => 0,
            Self::Exact(text) => text.len(),
            Self::Template(template) => template.bytes(),
            Self::Url(pattern) => pattern.bytes(),
        }
    }

    /// What it is relative to, if that matters.
    fn base(&self) -> &str {
        match self {
            Self::Url(pattern) => pattern.base(),
            Self::All | Self::Exact(_) | Self::Template(_) => "",
        }
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::All => 0,
            Self::Exact(_) => 1,
            Self::Template(_) => 2,
            Self::Url(_) => 3,
        }
    }
}

impl Carry for Selector {
    fn shape(shape: &mut Shape) {
        shape.add("Selector");
        <(u8, String, String)>::shape(shape);
    }

    fn pack(&self, parcel: &mut Parcel) {
        (self.kind(), self.as_str().to_owned(), self.base().to_owned()).pack(parcel);
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        let (kind, text, base) = <(u8, String, String)>::unpack(from)?;
        let read = match kind {
            0 => Some(Self::All),
            1 => Some(Self::Exact(text.into())),
            2 => Template::compile(&text).map(|template| Self::Template(Rc::new(template))),
            3 => UrlPattern::compile(&text, &base.into()).map(|pattern| Self::Url(Rc::new(pattern))),
            _ => None,
        };
        read.ok_or(Damaged("Selector of no known kind"))
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
        let texts = || self.as_str().cmp(other.as_str()).then_with(|| self.base().cmp(other.base()));
        self.kind().cmp(&other.kind()).then_with(texts)
    }
}
