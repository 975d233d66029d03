//! The forms that messages are encoded in, and their numbers.

use super::{Look, Streaming};
use crate::carry::{Carry, Damaged, Parcel, Shape, Unpack};

/// One of the byte forms that a message is encoded in at most once. No form's number is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// On a stream.
    Stream(Look),
    /// A whole answer to a poll: the message verbatim.
    PollVerbatim,
    /// A whole answer to a poll: a batch of this message alone.
    PollBatch,
    /// The body of such an answer.
    BatchBody,
    /// An event of Bayeux.
    Bayeux,
    /// An event of Bayeux that tells its position.
    BayeuxReplay,
}

impl Format {
    /// What it is known by among a message's frames.
    pub const fn number(self) -> u8 {
        match self {
            Self::Stream(look) => 1 + 2 * look.stream as u8 + look.chunked as u8,
            Self::PollVerbatim => 0x80,
            Self::PollBatch => 0x81,
            Self::BatchBody => 0x82,
            Self::Bayeux => 0x83,
            Self::BayeuxReplay => 0x84,
        }
    }

    /// The format with this number.
    pub fn numbered(number: u8) -> Option<Self> {
        Some(match number {
            0x80 => Self::PollVerbatim,
            0x81 => Self::PollBatch,
            0x82 => Self::BatchBody,
            0x83 => Self::Bayeux,
            0x84 => Self::BayeuxReplay,
            _ => Self::Stream(Self::look(number)?),
        })
    }

    /// The look of a stream whose format has this number.
    fn look(number: u8) -> Option<Look> {
        const ALL: [Streaming; 10] = [
            Streaming::Sse,
            Streaming::SseEnvelope,
            Streaming::Lines,
            Streaming::Raw,
            Streaming::Iframe,
            Streaming::Multipart,
            Streaming::Replace,
            Streaming::WebSocket,
            Streaming::WebSocketRaw,
            Streaming::Mercure,
        ];
        let bits = number.wrapping_sub(1);
        let stream = *ALL.get(usize::from(bits / 2))?;
        Some(Look { stream, chunked: bits % 2 == 1 })
    }

    /// Whether the format with this number is a whole answer to a poll.
    pub const fn is_poll(number: u8) -> bool {
        number == Self::PollVerbatim.number() || number == Self::PollBatch.number()
    }
}

impl Carry for Format {
    fn shape(shape: &mut Shape) {
        shape.add("Format");
        u8::shape(shape);
    }

    fn pack(&self, parcel: &mut Parcel) {
        self.number().pack(parcel);
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        Self::numbered(u8::unpack(from)?).ok_or(Damaged("a format of no known number"))
    }
}
