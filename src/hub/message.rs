//! A published message and its encoded forms.

use crate::carry::{Carry, Damaged, Parcel, Shape, Unpack, carry};
use crate::id::{MessageId, Seq};
use crate::time::Instant;
use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::rc::Rc;

/// What a message carries, classified once, when it is published.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Data {
    /// Valid JSON, as it was published; see [`one_line`].
    Json(Box<str>),
    /// UTF-8 text.
    Text(Box<str>),
    /// Anything else.
    Binary(Box<[u8]>),
    /// Nothing: the key of the message is gone.
    Removed,
}

carry! {
    enum Data { 0 => Json(json: Box<str>), 1 => Text(text: Box<str>), 2 => Binary(bytes: Box<[u8]>), 3 => Removed }
}

impl Data {
    /// The bytes as they were published.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Json(text) | Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
            Self::Removed => &[],
        }
    }
}

/// JSON without line ends, which it has only between its tokens, where spaces do as well.
pub fn one_line(json: &str) -> Cow<'_, str> {
    match memchr::memchr2(b'\n', b'\r', json.as_bytes()) {
        Some(_) => Cow::Owned(json.replace(['\n', '\r'], " ")),
        None => Cow::Borrowed(json),
    }
}

/// A message before it has a number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Publication {
    /// The payload.
    pub data: Data,
    /// Its media type; none = `text/plain; charset=utf-8`.
    pub content_type: Option<Box<str>>,
    /// The type of event, for subscribers that distinguish them.
    pub event: Option<Box<str>>,
    /// The key whose latest value this is.
    pub key: Option<Box<str>>,
    /// Milliseconds it may wait in the history; 0 = only for those connected now; none = as long as others.
    pub ttl_ms: Option<u64>,
    /// What it is beside that, as an update of Mercure.
    pub update: Option<Box<Update>>,
}

/// What an update of Mercure has that other messages have not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Update {
    /// All its topics, the canonical one first. It lies in the ring of each.
    pub topics: Vec<Box<str>>,
    /// It is only for those who are granted one of them.
    pub private: bool,
    /// The id that its publisher chose.
    pub id: Option<Box<str>>,
    /// Milliseconds after which its readers shall reconnect (`retry`).
    pub retry_ms: Option<u64>,
}

carry! {
    struct Update { topics, private, id, retry_ms }
}

impl Update {
    /// Bytes that it takes.
    pub fn cost(&self) -> usize {
        let topics = self.topics.iter().map(|topic| topic.len() + size_of::<Box<str>>());
        size_of::<Self>() + topics.sum::<usize>() + self.id.as_ref().map_or(0, |id| id.len())
    }
}

carry! {
    struct Publication { data, content_type, event, key, ttl_ms, update }
}

impl Publication {
    /// A publication of `data` and nothing else.
    pub const fn of(data: Data) -> Self {
        Self { data, content_type: None, event: None, key: None, ttl_ms: None, update: None }
    }

    /// Bytes that a message of it takes without frames: what the limits of a ring count.
    pub fn cost(&self) -> usize {
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        size_of::<Message>()
            + self.data.bytes().len()
            + text(&self.content_type)
            + text(&self.event)
            + text(&self.key)
            + self.update.as_ref().map_or(0, |update| update.cost())
    }

    /// Says that `key` is gone.
    pub fn removal(key: &str) -> Self {
        Self { key: Some(key.into()), ..Self::of(Data::Removed) }
    }
}

/// Messages that have just been encoded, and what that takes.
#[derive(Debug, Default)]
pub struct Encoded {
    messages: Vec<Rc<Message>>,
    bytes: usize,
}

impl Encoded {
    /// Notes what was newly encoded of a message; 0 = nothing.
    pub fn note(&mut self, message: &Rc<Message>, bytes: usize) {
        if bytes > 0 {
            self.messages.push(Rc::clone(message));
            self.bytes += bytes;
        }
    }

    /// What all of it takes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Which messages these are.
    pub fn messages(&self) -> impl Iterator<Item = &Rc<Message>> {
        self.messages.iter()
    }
}

/// A message in a ring. Immutable, but for the cache of its encoded forms.
#[derive(Debug)]
pub struct Message {
    /// Its id; the number in it orders all messages.
    pub id: MessageId,
    /// The channel it was published on.
    pub channel: Rc<str>,
    /// What was published.
    pub publication: Publication,
    /// When the hub took it.
    pub published: Instant,
    /// Rings that it is in, but those of feeds.
    held: Cell<u32>,
    /// The form that it was first asked for, and those after it.
    frame: OnceCell<Frame>,
}

/// One encoded form of a message, in a list of them. The list only grows while the message is shared, so that a
/// frame can be lent out.
#[derive(Debug)]
struct Frame {
    format: u8,
    bytes: Box<[u8]>,
    next: OnceCell<Box<Self>>,
}

impl Frame {
    /// Bytes it takes; the place of the first, which is in the message, is charged with both.
    fn cost(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }
}

impl Carry for Message {
    fn shape(shape: &mut Shape) {
        shape.add("Message");
        shape.field("id", |it: &Self| &it.id);
        shape.field("channel", |it: &Self| &it.channel);
        shape.field("publication", |it: &Self| &it.publication);
        shape.field("published", |it: &Self| &it.published);
        shape.add("held");
        u32::shape(shape);
        shape.add("frames");
        Vec::<(u8, Box<[u8]>)>::shape(shape);
    }

    fn pack(&self, parcel: &mut Parcel) {
        let Self { id, channel, publication, published, held, frame: _ } = self;
        id.pack(parcel);
        channel.pack(parcel);
        publication.pack(parcel);
        published.pack(parcel);
        held.get().pack(parcel);
        self.frames().count().pack(parcel);
        self.frames().for_each(|frame| {
            frame.format.pack(parcel);
            frame.bytes.pack(parcel);
        });
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        let (id, channel) = Carry::unpack(from)?;
        let (publication, published) = Carry::unpack(from)?;
        let message = Self::new(id, channel, publication, published);
        message.held.set(Carry::unpack(from)?);
        // Somebody may be in the midst of one, and each is charged to the history.
        for (format, bytes) in Vec::<(u8, Box<[u8]>)>::unpack(from)? {
            message.frame(format, |_| bytes);
        }
        Ok(message)
    }
}

impl Message {
    pub(crate) const fn new(
        id: MessageId,
        channel: Rc<str>,
        publication: Publication,
        published: Instant,
    ) -> Self {
        Self { id, channel, publication, published, held: Cell::new(0), frame: OnceCell::new() }
    }

    /// The message's bytes in wire format number `format`, made by `encode` for the first who asks.
    /// The number returned beside them is what was newly encoded, 0 if they were there already.
    pub fn frame(&self, format: u8, encode: impl FnOnce(&Self) -> Box<[u8]>) -> (&[u8], usize) {
        let make = || Frame { format, bytes: encode(self), next: OnceCell::new() };
        let Some(mut frame) = self.frame.get() else {
            let frame = self.frame.get_or_init(make);
            return (&frame.bytes, frame.cost());
        };
        while frame.format != format {
            let Some(next) = frame.next.get() else {
                let next = frame.next.get_or_init(|| Box::new(make()));
                return (&next.bytes, next.cost());
            };
            frame = next;
        }
        (&frame.bytes, 0)
    }

    /// The frame already encoded as `format`.
    pub fn encoded(&self, format: u8) -> Option<&[u8]> {
        self.frames().find(|frame| frame.format == format).map(|frame| &*frame.bytes)
    }

    /// Notes that it has been put into a ring.
    pub(super) fn hold(&self) {
        self.held.set(self.held.get() + 1);
    }

    /// Notes that it has been taken out of a ring. Whether that was the last one.
    pub(super) fn let_go(&self) -> bool {
        self.held.set(self.held.get().saturating_sub(1));
        !self.is_held()
    }

    /// Whether it is in a ring.
    pub(super) fn is_held(&self) -> bool {
        self.held.get() > 0
    }

    /// What it has as an update of Mercure, if its publisher used that.
    pub fn update(&self) -> Option<&Update> {
        self.publication.update.as_deref()
    }

    /// Throws its frames away: who still lacks it has it encoded again. Returns what they took.
    pub(super) fn forget_frames(&mut self) -> usize {
        let bytes = self.frames_cost();
        self.frame.take();
        bytes
    }

    /// The key whose latest value this is, or that it removes.
    pub fn key(&self) -> Option<&str> {
        self.publication.key.as_deref()
    }

    /// Whether it says that its key is gone.
    pub const fn is_removal(&self) -> bool {
        matches!(self.publication.data, Data::Removed)
    }

    /// When the message's own TTL runs out.
    pub fn expires(&self) -> Instant {
        self.publication.ttl_ms.map_or(Instant::NEVER, |ttl| self.published + ttl)
    }

    /// Whether its own TTL has run out.
    pub fn expired(&self, now: Instant) -> bool {
        self.expires() <= now
    }

    /// Whether it still has to reach whoever has not had it, and came or asked for its channel when `joined` was the newest
    /// message: what is newer reaches them whatever its TTL.
    pub fn reaches(&self, joined: Seq, now: Instant) -> bool {
        self.id.seq > joined || !self.expired(now)
    }

    /// Bytes the message takes without its frames: what the limits of a ring count.
    pub fn cost(&self) -> usize {
        self.publication.cost()
    }

    /// Bytes of its frames.
    pub fn frames_cost(&self) -> usize {
        self.frames().map(Frame::cost).sum()
    }

    fn frames(&self) -> impl Iterator<Item = &Frame> {
        std::iter::successors(self.frame.get(), |frame| frame.next.get().map(|next| &**next))
    }
}
