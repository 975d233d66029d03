//! A stream of Mercure of which more is known than what it is sent: by which grant it listens, and what others are told of it.

use crate::broker::access::{Draft, MercureGrant};
use crate::carry::carry;
use crate::dialect::mercure::subscriptions::Subscription;
use crate::hub::{Selection, Selector};
use std::rc::Rc;

/// Somebody who listens.
#[derive(Debug)]
pub(super) struct Listener {
    /// What it goes by, if others are told of it.
    pub name: Option<Box<str>>,
    pub selection: Rc<Selection>,
    /// By which draft it came, and whether it asks for everything by a URL pattern.
    pub draft: Draft,
    pub has_any_url: bool,
    pub grant: Option<Rc<MercureGrant>>,
}

carry! {
    struct Listener { name, selection, draft, has_any_url, grant }
}

impl Listener {
    /// Its subscriptions, if others are told of it.
    pub(super) fn subscriptions<'a>(&'a self, hub: &'a str) -> impl Iterator<Item = Subscription<'a>> {
        (0..).map_while(move |place| self.subscription(place, hub, true))
    }

    /// How many these are.
    pub(super) fn count(&self) -> usize {
        self.name.as_ref().map_or(0, |_| self.selection.selectors().len())
    }

    /// One of them, as it begins or ends.
    pub(super) fn subscription<'a>(
        &'a self,
        place: usize,
        hub: &'a str,
        active: bool,
    ) -> Option<Subscription<'a>> {
        let subscriber = self.name.as_deref()?;
        let selector = self.selection.selectors().get(place)?;
        let topic = selector.as_str();
        let payload = self.grant.as_ref().and_then(|grant| grant.payload(topic));
        let is_url_pattern = match selector {
            Selector::Url(_) => true,
            Selector::All => self.has_any_url,
            Selector::Exact(_) | Selector::Template(_) => false,
        };
        Some(Subscription { hub, draft: self.draft, is_url_pattern, topic, subscriber, active, payload })
    }

    /// Bytes that are kept for it until all of it has been told.
    pub(super) fn bytes(&self) -> usize {
        self.selection.bytes()
    }
}
