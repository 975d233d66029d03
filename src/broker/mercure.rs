//! The door to the hub for Mercure: updates with several topics, and selections of topics.

use super::{Broker, Client, Publishing, Receipts, Refusal};
use crate::hub::{Owner, Publication, Selection, Start, SubscriberKey};
use crate::time::Instant;
use std::rc::Rc;

impl Broker {
    /// Keeps names that contain one of these for the server itself, and serves selections; `shown` is as in
    /// [`Hub::serve_selections`](crate::hub::Hub::serve_selections).
    pub fn serve_mercure(&mut self, reserved: &[&str], shown: Vec<(Box<str>, bool)>) {
        self.reserved = reserved.iter().map(|text| (*text).into()).collect();
        self.find_exceptions();
        self.hub.serve_selections(shown);
    }

    /// Whether a name is Mercure's own.
    pub(super) fn is_reserved(&self, name: &str) -> bool {
        self.reserved.iter().any(|reserved| name.contains(&**reserved))
    }

    /// Publishes an update on all its topics, or on none. It counts as one message for each.
    ///
    /// # Errors
    ///
    /// As [`Broker::publish`].
    pub fn publish_update<'b>(
        &mut self,
        now: Instant,
        client: Client,
        channel: String,
        publication: Publication,
    ) -> Result<Receipts<'b>, Refusal> {
        let others = publication.update.as_ref().map_or(0, |update| update.topics.len().saturating_sub(1));
        if others > 0 && !self.gate.admits_publications(now, client, others) {
            self.stats.publications_refused += 1;
            return Err(Refusal::TooManyMessages);
        }
        self.publish(now, client, Publishing::of(channel, publication))
    }

    /// Counts messages that the server will publish because of what `client` asks for.
    ///
    /// # Errors
    ///
    /// The client has published too many in this second.
    pub fn admits_events(&mut self, now: Instant, client: Client, count: usize) -> Result<(), Refusal> {
        match self.gate.admits_publications(now, client, count) {
            true => Ok(()),
            false => {
                self.stats.subscriptions_refused += 1;
                Err(Refusal::TooManyMessages)
            }
        }
    }

    /// Adds a subscriber of a selection: of one topic, by its channel; of others, by a feed. Returns it, and the selection
    /// as it is kept, so that those that are equal are kept once.
    ///
    /// # Errors
    ///
    /// There is no room for it, or the client has had too many channels looked at in this second.
    pub fn attach_selection(
        &mut self,
        now: Instant,
        client: Client,
        owner: Owner,
        selection: Rc<Selection>,
        start: Start,
    ) -> Result<(SubscriberKey, Rc<Selection>), Refusal> {
        if let Some(topic) = selection.only_topic() {
            let subscriber = self.attach(now, owner, &[&**topic], start)?;
            return Ok((subscriber, selection));
        }
        self.searching(now, client, |broker, _| Ok(broker.hub.attach_selection(owner, selection, start)?))
    }
}
