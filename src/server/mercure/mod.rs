//! Mercure carried out: what is published, who subscribes, and streams.
//!
//! A stream of Mercure is a stream like any other, and is delivered to as one. What is kept beside it, only where it is
//! needed, is the grant by which it listens, as it has to end with that, and what others are told of it.

mod listener;
mod listeners;
mod stream;
mod untold;

pub(super) use listeners::Mercure;
pub(super) use untold::UNTOLD_BYTES_MAX;

use super::pending::Shape;
use super::request::Reply;
use super::{Server, Sink};
use crate::broker::Client;
use crate::conn::{Request, Slot};
use crate::dialect::mercure::subscriptions::{self, DOCUMENT_BYTES_MAX, DOCUMENT_BYTES_OF_ONE, Query};
use crate::dialect::mercure::{self, Asked, Judge, WELL_KNOWN};
use crate::dialect::{Command, Identity, native};
use crate::hub::Publication;
use crate::time::Now;
use crate::transport;
use crate::wire::head::{Head, Method};
use crate::wire::media;
use crate::wire::response::Response;
use crate::wire::tags;

/// What telling of a subscription costs, in looks at one.
const LOOKS_PER_DOCUMENT: usize = 32;
const NONE_SUCH: &str = "there is no such subscription";
const TOO_MANY: &str =
    "there are more subscriptions than one answer has room for: ask for those of one topic";

impl Server {
    /// Has the hub serve what Mercure needs, by the rules that hold now.
    pub(super) fn serve_mercure(&mut self) {
        let shown = self.access.rules.shown();
        self.broker.serve_mercure(&[WELL_KNOWN, &self.config.mercure.path], shown);
    }

    /// Whether Mercure serves `path`.
    pub(super) fn is_mercure(&self, path: &str) -> bool {
        self.mercure.is_some() && mercure::claims(path, &self.config)
    }

    fn judge(&mut self, now: Now, slot: Slot, head: &Head) -> Judge<'_> {
        let client = Client::of(head, self.connections[slot].peer, &self.config);
        let Self { config, access, broker, .. } = self;
        Judge { config, access, stats: &mut broker.stats, client, now }
    }

    /// The answer to a request whose body has not come, if it does not depend on it.
    #[cold]
    pub(super) fn mercure_before_body(&mut self, now: Now, slot: Slot, head: &Head) -> Option<Response> {
        mercure::before_body(head, self.judge(now, slot, head))
    }

    /// Understands a request and carries it out.
    #[inline(never)]
    pub(super) fn handle_mercure(&mut self, now: Now, slot: Slot, request: &Request, sink: &mut impl Sink) {
        let head = &request.head;
        self.log_request(now, slot, head, None);
        let begin = self.writer.out.len();
        let identity = Identity::default();
        let reply = Reply {
            head_only: head.method == Method::Head,
            close: !head.keep_alive || self.drain.begun || self.connections[slot].door.surplus().is_some(),
            head,
            body: request.body,
            origin: self.writer.cors.find(head),
            identity: &identity,
        };
        let asked = match head.has_fragment {
            true => Asked::Respond(Response::problem(400, native::HAS_FRAGMENT, native::wants_text(head))),
            false => mercure::asked(head, request.body, self.judge(now, slot, head)),
        };
        let response = match asked {
            Asked::Respond(response) => response,
            Asked::Publish { channel, publication } => {
                let has_id = publication.update.as_ref().is_some_and(|update| update.id.is_some());
                let response = self.publish_update(now, slot, head, channel, *publication);
                let shape = (native::wants_text(head), (!has_id).then_some(Shape::Update));
                match self.propose(now.at) {
                    Some(ticket) => {
                        return self.answer_stored(now, slot, ticket, &response, &reply, shape);
                    }
                    None => response,
                }
            }
            Asked::Listen(listen) => match self.begin_mercure(now, slot, *listen, &reply) {
                Ok(()) => return,
                Err(response) => response,
            },
            Asked::List(query) => self.list_subscriptions(now, slot, head, &query),
        };
        self.execute(now, slot, Command::Respond(response), &reply, sink);
        self.log_answer(now.at, slot, begin, false);
    }

    fn publish_update(
        &mut self,
        now: Now,
        slot: Slot,
        head: &Head,
        channel: String,
        publication: Publication,
    ) -> Response {
        let client = Client::of(head, self.connections[slot].peer, &self.config);
        let chosen = publication.update.as_ref().and_then(|update| update.id.clone());
        match self.broker.publish_update(now.at, client, channel, publication) {
            Ok(receipts) => {
                let own = || transport::mercure::own_id(receipts.first.published.id);
                let id = chosen.map_or_else(own, String::from);
                Response::new(200, media::TEXT, id.into_bytes())
            }
            Err(refusal) => self.refused(slot, refusal, native::wants_text(head)),
        }
    }

    /// Who subscribes, as the API tells it. Each look at a subscription counts, and more so each that is told.
    fn list_subscriptions(&mut self, now: Now, slot: Slot, head: &Head, query: &Query) -> Response {
        let newest = self.broker.hub.newest();
        let cursor = if newest.seq == 0 { "earliest".into() } else { transport::mercure::own_id(newest) };
        let dress = |response: Response| {
            response
                .with("ETag", format_args!("\"{cursor}\""))
                .with("Cache-Control", "private, must-revalidate")
        };
        if query.has.iter().any(|has| **has == *cursor || **has == *tags::ANY) {
            return dress(Response::empty(304));
        }
        let client = Client::of(head, self.connections[slot].peer, &self.config);
        let most = if client.counted { DOCUMENT_BYTES_OF_ONE } else { DOCUMENT_BYTES_MAX };
        let Self { broker, mercure, config, .. } = self;
        let listeners = || mercure.iter().flat_map(|mercure| mercure.listeners.values());
        let body = broker.searching(now.at, client, |broker, _| {
            broker.hub.spend(listeners().map(|listener| listener.count()).sum())?;
            let all = listeners().flat_map(|listener| listener.subscriptions(&config.mercure.path));
            let mut wanted = all.filter(|one| {
                query.draft == one.draft
                    && query.kind.as_deref().is_none_or(|kind| kind == one.kind())
                    && query.topic.as_deref().is_none_or(|topic| topic == one.topic)
                    && query.subscriber.as_deref().is_none_or(|subscriber| subscriber == one.subscriber)
            });
            if query.subscriber.is_some() {
                let one = wanted.next().map(|one| one.document(true)).ok_or((404, NONE_SUCH));
                return Ok(one.map(|document| subscriptions::single(document, query.draft, &cursor)));
            }
            let mut documents = String::new();
            for one in wanted {
                broker.hub.spend(LOOKS_PER_DOCUMENT)?;
                documents += if documents.is_empty() { "" } else { "," };
                documents += &one.document(false);
                if documents.len() > most {
                    return Ok(Err((503, TOO_MANY)));
                }
            }
            Ok(Ok(subscriptions::collection(query, &cursor, &documents)))
        });
        let body = match body {
            Ok(Ok(body)) => body,
            Ok(Err((status, detail))) => return Response::problem(status, detail, query.as_text),
            Err(refusal) => return self.refused(slot, refusal, query.as_text),
        };
        dress(subscriptions::answer(query, &self.config.mercure.path, &cursor, body))
    }
}
