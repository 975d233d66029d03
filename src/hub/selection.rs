//! What a subscriber of Mercure asks for, and what of it the subscriber may see.

use super::message::{Message, Update};
use super::name::{HIDDEN, PRIVATE, is_internal, topic_of};
use super::selector::Selector;
use crate::carry::{Carry, Damaged, Parcel, Shape, Unpack};
use std::rc::Rc;

/// Bytes of a selection beside its selectors: of the feed, and of its place among all.
const SELECTION_BYTES: usize = 384;
/// Bytes of a selector beside its text: itself, and its places among those of all selections.
const ENTRY_BYTES: usize = 128;

/// Selectors, and those whose private updates may be seen. Two that are equal are served as one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selection {
    /// What is asked for, sorted, each once.
    selectors: Vec<Selector>,
    /// Of which topics private updates may be seen; none are without.
    sight: Rc<[Selector]>,
}

impl Carry for Selection {
    fn shape(shape: &mut Shape) {
        shape.add("Selection");
        Vec::<Selector>::shape(shape);
        Vec::<Selector>::shape(shape);
    }

    fn pack(&self, parcel: &mut Parcel) {
        let Self { selectors, sight } = self;
        selectors.pack(parcel);
        sight.to_vec().pack(parcel);
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        let (selectors, sight): (Vec<Selector>, Vec<Selector>) = Carry::unpack(from)?;
        Ok(Self::new(selectors, sight.into()))
    }
}

impl Selection {
    /// A selection of these. Private updates are seen of topics that `sight` selects.
    pub fn new(mut selectors: Vec<Selector>, sight: Rc<[Selector]>) -> Self {
        selectors.sort_unstable();
        selectors.dedup();
        Self { selectors, sight }
    }

    /// What is asked for.
    pub fn selectors(&self) -> &[Selector] {
        &self.selectors
    }

    /// The only topic, if it is one and nothing private can be seen: a plain channel serves as well.
    pub fn only_topic(&self) -> Option<&Rc<str>> {
        match &self.selectors[..] {
            [Selector::Exact(topic)] if self.sight.is_empty() => Some(topic),
            _ => None,
        }
    }

    /// Whether everything is asked for.
    pub fn has_all(&self) -> bool {
        self.selectors.first().is_some_and(|first| matches!(first, Selector::All))
    }

    /// Whether private updates may be seen.
    pub fn sees_private(&self) -> bool {
        !self.sight.is_empty()
    }

    /// Whether it selects a topic.
    pub fn selects(&self, topic: &str) -> bool {
        let exact = self.selectors.binary_search_by(|selector| match selector {
            Selector::All => std::cmp::Ordering::Less,
            Selector::Exact(text) => (**text).cmp(topic),
            Selector::Template(_) | Selector::Url(_) => std::cmp::Ordering::Greater,
        });
        exact.is_ok() || self.has_all() || self.templates().any(|selector| selector.matches(topic))
    }

    /// Whether it asks for that topic by its name.
    pub fn names(&self, topic: &str) -> bool {
        self.selectors.iter().any(|selector| matches!(selector, Selector::Exact(text) if **text == *topic))
    }

    /// The selectors that have to be tried.
    pub(super) fn templates(&self) -> impl Iterator<Item = &Selector> {
        self.selectors
            .iter()
            .rev()
            .take_while(|selector| matches!(selector, Selector::Template(_) | Selector::Url(_)))
    }

    /// Whether it may be asked for what is published on channel `name`, and may be seen.
    pub fn reaches(&self, name: &str) -> bool {
        // What is ours is nobody's topic.
        !name.starts_with(HIDDEN)
            && (self.sees_private() || !is_internal(name))
            && self.selects(topic_of(name))
    }

    /// Whether a message on a channel that it reaches may be seen: if one of its topics is granted.
    pub fn sees(&self, message: &Message) -> bool {
        let Some(update) = message.publication.update.as_deref() else { return true };
        !update.private || update.topics.iter().any(|topic| self.grants(topic))
    }

    /// Whether it selects one of the topics of an update.
    pub fn selects_any(&self, update: &Update) -> bool {
        update.topics.iter().any(|topic| self.selects(topic))
    }

    /// Whether private updates of a topic may be seen.
    pub fn grants(&self, topic: &str) -> bool {
        self.sight.iter().any(|selector| selector.matches(topic))
    }

    /// What all topics begin with that a selector selects, for each selector, in the form that names of channels have;
    /// and the name that is spelled like it.
    pub fn searched(&self) -> impl Iterator<Item = (&Selector, String)> {
        let spaces: &[&str] = if self.sees_private() { &["", PRIVATE] } else { &[""] };
        let spaces = spaces.iter();
        spaces.flat_map(|space| {
            self.selectors.iter().map(move |selector| (selector, format!("{space}{}", selector.prefix())))
        })
    }

    /// What it costs to compare a topic with it, in looks at a channel.
    pub fn weight(&self) -> usize {
        1 + self.templates().map(Selector::weight).sum::<usize>()
    }

    /// What it costs to find out whether a message on a channel that it reaches may be seen, in looks at a channel.
    pub fn weight_of_sight(&self) -> usize {
        1 + self.sight.iter().map(Selector::weight).sum::<usize>()
    }

    /// Bytes that it takes, about: with those of the grant, which it keeps, and of its places among all selections.
    pub fn bytes(&self) -> usize {
        let of = |selectors: &[Selector]| {
            selectors.iter().map(|selector| ENTRY_BYTES + selector.bytes()).sum::<usize>()
        };
        SELECTION_BYTES + of(&self.selectors) + of(&self.sight)
    }

    /// Bytes of its templates.
    pub fn compared(&self) -> usize {
        self.templates().map(Selector::bytes).sum()
    }
}
