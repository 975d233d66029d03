//! What protocols with sessions of their own get from the server, and what they may ask of it; who calls them when is told
//! in [`super::protocols`].

use super::identity::may_ask;
use crate::broker::access::{Asker, Question};
use crate::broker::{Broker, Client};
use crate::carry::carry;
use crate::config::Config;
use crate::conn::{ConnId, Connection, Slot};
use crate::dialect::{Access, Denial, Heard, Identity, Unheard};
use crate::table::Table;
use crate::time::Now;
use crate::wire::head::Head;
use crate::wire::response::Response;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

/// What a protocol asks of the server for a connection that it holds.
#[derive(Debug)]
pub enum Act {
    /// Answer the request; the connection is free again.
    Answer(Response),
    /// Begin an endless answer with these header fields (complete lines); chunked for HTTP/1.1.
    Begin(Response),
    /// Make the connection a WebSocket with this answer (see [`upgrade::answer`](super::upgrade::answer)).
    Upgrade(Response),
    /// Write these bytes of an endless answer, as one chunk; or, on a WebSocket, this text as one message.
    Write(Vec<u8>),
    /// End an endless answer, or a WebSocket, in good order.
    End,
    /// Have the request, or the message, wait for the application's word, and then come again. Nothing of it has been
    /// done.
    Wait,
    /// Close the connection without a word.
    Close,
}

carry! {
    enum Act { 0 => Answer(response: Response), 1 => Begin(response: Response), 2 => Upgrade(response: Response), 3 => Write(bytes: Vec<u8>), 4 => End, 5 => Close, 6 => Wait }
}

/// What a protocol works with while it is called.
#[derive(Debug)]
pub struct Context<'a> {
    /// The settings.
    pub config: &'a Config,
    /// The door to channels and subscribers.
    pub broker: &'a mut Broker,
    /// Who may do what.
    pub access: &'a mut Access,
    /// Whose budget pays for what is asked.
    pub client: Client,
    /// The clocks.
    pub now: Now,
    /// Acts for the server, carried out in this order when the call returns.
    pub outbox: &'a mut Vec<(ConnId, Act)>,
    /// All connections, to look at.
    pub connections: &'a Table<Slot, Connection>,
    /// Bytes of messages that there is room for in one answer; less while memory is scarce, or while the WebSocket at
    /// hand has answers to be taken. The rest waits for the next answer.
    pub room: usize,
}

impl Context<'_> {
    /// Who sent `head` on a connection.
    pub fn identify(&mut self, from: ConnId, head: &Head) -> Result<Identity, Denial> {
        let peer = self.peer(from).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        self.access.identify(head, peer, self.config, self.now, &mut self.broker.stats)
    }

    /// What the application says to `unheard`, asked for by `asker` on a connection, of whose request or message `bytes`
    /// wait if it has to be asked.
    pub fn hear(&mut self, from: ConnId, asker: &Rc<Asker>, unheard: Unheard, bytes: usize) -> Heard {
        let question = Question::new(unheard.action, unheard.channels, Rc::clone(asker));
        self.access.hear(self.now, (from, self.client), question, bytes, &mut self.broker.stats)
    }

    /// Who sent `head`, as the application is told; none if it must not be asked for them.
    pub fn asker(&self, head: &Head, technique: &'static str) -> Option<Rc<Asker>> {
        let asks = self.access.rules.asks() && may_ask(head, self.config);
        asks.then(|| Rc::new(Asker::of(head, self.client, technique, self.config)))
    }

    /// Asks something for a held connection.
    pub fn act(&mut self, connection: ConnId, act: Act) {
        self.outbox.push((connection, act));
    }

    /// Whether the client has not taken what was written to it before. Nothing more should be written then;
    /// [`Dialects::writable`](super::Dialects::writable) tells when it has.
    pub fn is_blocked(&self, id: ConnId) -> bool {
        self.connections.get(id.slot).is_some_and(|connection| connection.output.is_some())
    }

    /// Whether a connection that was held still is.
    pub fn is_held(&self, id: ConnId) -> bool {
        self.connections
            .get(id.slot)
            .is_some_and(|connection| connection.generation == id.generation && connection.holder().is_some())
    }

    /// Whether the client will send nothing more. It may have gone altogether: both look the same.
    pub fn is_half_closed(&self, id: ConnId) -> bool {
        self.connections.get(id.slot).is_some_and(|connection| connection.half_closed)
    }

    /// Who is at the other end of a connection.
    pub fn peer(&self, id: ConnId) -> Option<IpAddr> {
        self.connections.get(id.slot).map(|connection| connection.peer)
    }
}
