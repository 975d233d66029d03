//! What a client has not taken yet.

use crate::carry::carry;
use crate::hub::Message;
use crate::time::Instant;
use crate::transport::Format;
use std::collections::VecDeque;
use std::rc::Rc;

/// Bytes that the socket did not take. It exists only while a client is slower than we are, even if there
/// are no bytes left over: then it says that nothing more should be tried until the socket is writable.
#[derive(Debug)]
pub struct Output {
    parts: VecDeque<Part>,
    /// Bytes of the first part that were written.
    written: usize,
    /// When the client last took anything.
    pub progress: Instant,
}

carry! {
    struct Output { parts, written, progress }
}

#[derive(Debug)]
enum Part {
    Own(Vec<u8>),
    /// A message's shared frame.
    Frame(Rc<Message>, Format),
    /// A message's payload.
    Body(Rc<Message>),
}

carry! {
    enum Part { 0 => Own(bytes: Vec<u8>), 1 => Frame(message: Rc<Message>, format: Format), 2 => Body(message: Rc<Message>) }
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            // A frame that is being written has been encoded.
            Self::Frame(message, format) => message.encoded(format.number()).unwrap_or_default(),
            Self::Body(message) => message.publication.data.bytes(),
        }
    }
}

impl Output {
    /// No bytes, but a socket that takes none.
    pub const fn blocked(now: Instant) -> Self {
        Self { parts: VecDeque::new(), written: 0, progress: now }
    }

    /// Adds bytes of this connection alone.
    pub fn push(&mut self, bytes: &[u8]) {
        match self.parts.back_mut() {
            Some(Part::Own(last)) => last.extend_from_slice(bytes),
            _ if bytes.is_empty() => {}
            _ => self.parts.push_back(Part::Own(bytes.to_vec())),
        }
    }

    /// Begins with the rest of a shared frame of which `written` bytes are out.
    pub fn push_frame(&mut self, message: &Rc<Message>, format: Format, written: usize) {
        debug_assert!(self.parts.is_empty());
        self.parts.push_back(Part::Frame(Rc::clone(message), format));
        self.written = written;
    }

    /// Adds a message's payload, or its frame of `format`, of which `written` bytes are out if it comes first.
    pub fn push_body(&mut self, message: &Rc<Message>, format: Option<Format>, written: usize) {
        if self.parts.is_empty() {
            self.written = written;
        }
        let message = Rc::clone(message);
        self.parts.push_back(match format {
            Some(format) => Part::Frame(message, format),
            None => Part::Body(message),
        });
    }

    /// The next bytes to write.
    pub fn next(&self) -> Option<&[u8]> {
        self.parts.front().map(|part| &part.bytes()[self.written..])
    }

    /// Notes that the socket took `count` of [`Output::next`].
    pub fn took(&mut self, count: usize, now: Instant) {
        if count > 0 {
            self.progress = now;
        }
        self.written += count;
        if self.parts.front().is_some_and(|part| self.written >= part.bytes().len()) {
            self.parts.pop_front();
            self.written = 0;
        }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Bytes of memory that it takes itself: those of this connection alone, with the room they have grown into.
    pub fn own_bytes(&self) -> usize {
        let own = |part: &Part| if let Part::Own(bytes) = part { bytes.capacity() } else { 0 };
        size_of::<Self>() + self.parts.iter().map(own).sum::<usize>()
    }

    /// The messages of which something is left: they stay for as long.
    pub fn messages(&self) -> impl Iterator<Item = &Rc<Message>> {
        self.parts.iter().filter_map(|part| match part {
            Part::Own(_) => None,
            Part::Frame(message, _) | Part::Body(message) => Some(message),
        })
    }

    /// Bytes of this connection alone that are kept.
    pub fn own_len(&self) -> usize {
        let own = |part: &Part| if let Part::Own(bytes) = part { bytes.len() } else { 0 };
        self.parts.iter().map(own).sum()
    }

    /// Bytes left.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.bytes().len()).sum::<usize>() - self.written
    }
}
