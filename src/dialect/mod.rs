//! What clients speak. A dialect turns a request into a [`Command`]; the server carries it out.
//!
//! Each protocol is a folder of its own here; none has a branch inside another's.

pub mod access;
mod bayeux;
pub mod cors;
mod denial;
pub mod fdajax;
pub mod holder;
pub mod hook;
pub mod identity;
pub mod mercure;
pub mod native;
mod protocols;
mod session;
mod token;
pub mod upgrade;

pub use bayeux::DEPTH_MAX as BAYEUX_DEPTH_MAX;
pub use denial::{Denial, Heard};
pub use holder::Holder;
pub use identity::{Access, Identity};
use native::Asked;
use native::admin::Inquiry;
pub use protocols::Dialects;
pub use session::{Act, Context};

use crate::broker::access::{Action, Guest, Revocation};
use crate::broker::{IfMatch, Publishing};
use crate::config::Config;
use crate::hub::Start;
use crate::transport::{Streaming, Transport};
use crate::wire::response::Response;
use std::net::IpAddr;

/// Who sent a request, and the rules that hold for it.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The other end of the connection.
    pub peer: IpAddr,
    /// What is for operators and backends may be served on this connection.
    pub admin: bool,
    /// The settings.
    pub config: &'a Config,
    /// The judge.
    pub access: &'a Access,
    /// Who asks.
    pub identity: &'a Identity,
    /// The second since 1970.
    pub unix: u64,
}

/// What a request asks for.
#[derive(Debug)]
pub enum Command<'b> {
    /// This answer.
    Respond(Response),
    /// To publish.
    Publish(Publish<'b>),
    /// Messages.
    Subscribe(Subscribe<'b>),
    /// To be told how the server does, second by second.
    Watch(Subscribe<'b>),
    /// A WebSocket.
    Open(Open<'b>),
    /// What mostly operators ask for.
    Operate(Operation),
    /// The application's word, before it can be carried out.
    Ask(Box<Unheard>),
}

/// What the application has to say something about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unheard {
    /// What is to be done.
    pub action: Action,
    /// Where.
    pub channels: Vec<Box<str>>,
}

/// To tell of the server or of channels, or to forget one.
#[derive(Debug)]
pub enum Operation {
    /// What is known of one channel.
    Info(String),
    /// The channels whose name begins so.
    List(String),
    /// To forget a channel.
    Delete(String),
    /// The latest value of a key.
    Value {
        /// Its channel.
        channel: String,
        /// The key.
        key: Box<str>,
        /// What the client has of it.
        has: Option<IfMatch>,
    },
    /// Who is on a channel.
    Presence {
        /// Which.
        channel: String,
        /// Who asks may know their names.
        names: bool,
        /// It is not only asked how many there are.
        has_members: bool,
    },
    /// Whether the server is well.
    Health,
    /// Counters as Prometheus text.
    Metrics,
    /// Counters as JSON.
    Stats,
    /// To take a right back.
    Revoke(Revocation),
    /// To be a guest of the demo.
    Welcome(Guest),
    /// What an operator asks.
    Inquire(Inquiry),
}

/// Messages to publish.
#[derive(Debug)]
pub struct Publish<'b> {
    /// Which.
    pub what: Publishing<'b>,
    /// It is a removal, which is answered by 200.
    pub is_removal: bool,
    /// The answer is a list even for one message.
    pub list: bool,
    /// The answer is text rather than JSON.
    pub as_text: bool,
}

/// What a subscriber wants.
#[derive(Debug)]
pub struct Subscribe<'b> {
    /// What the target says.
    pub asked: &'b Asked,
    /// Where to begin.
    pub start: Start,
    /// How messages reach it.
    pub transport: Transport,
    /// A poll is answered by a JSON batch rather than by one message verbatim.
    pub batch: bool,
    /// The function that scripts call, where the technique has them.
    pub callback: Option<&'b str>,
}

/// A subscriber that wants a WebSocket.
#[derive(Debug)]
pub struct Open<'b> {
    /// What it begins with.
    pub subscribe: Subscribe<'b>,
    /// Envelopes or bare messages.
    pub stream: Streaming,
    /// The answer to its handshake.
    pub response: Response,
    /// It may publish, too.
    pub may_publish: bool,
}
