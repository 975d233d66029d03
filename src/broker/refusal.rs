//! What is refused, as data: each dialect has its own words for it.

use crate::hub::{HubError, KeyError};

/// Why something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `limits.publishes_per_second` is exceeded by the client, whatever it speaks.
    TooManyMessages,
    /// [`LOOKED_AT_PER_SECOND`](crate::hub::LOOKED_AT_PER_SECOND) is exceeded by the client, whatever it speaks.
    TooManySearches,
    /// `limits.memory_per_address` is exceeded by the client, whatever it speaks, or what all may have together.
    ShareExceeded,
    /// [`TEMPLATE_BYTES_MAX`](crate::hub::TEMPLATE_BYTES_MAX) is exceeded by the client, or what all may have together.
    TooManyTemplates,
    /// `limits.memory` is near.
    MemoryShort,
    /// The idempotency key belongs to another request.
    KeyReused,
    /// `limits.channels` is reached.
    TooManyChannels,
    /// `limits.subscribers_per_channel` is reached.
    TooManySubscribers,
    /// `limits.channels_per_pattern` is exceeded.
    TooManyMatches,
    /// Too much waits for the log.
    LogBehind,
    /// Another server has published a value of the key at the same time.
    Outdated,
    /// The name of the channel is Mercure's.
    Reserved,
    /// The channel tells who is on another, which only the server does.
    Presence,
    /// Other servers have not said yet who is there.
    PresenceUnknown,
    /// What was to become of a key cannot be.
    Key {
        /// Why.
        error: KeyError,
        /// Which message of several, from 0.
        place: usize,
    },
    /// The latest value is not the one that the publisher named.
    NotLatest,
}

impl From<HubError> for Refusal {
    fn from(error: HubError) -> Self {
        match error {
            HubError::TooManyChannels => Self::TooManyChannels,
            HubError::TooManySubscribers => Self::TooManySubscribers,
            HubError::TooManyMatches => Self::TooManyMatches,
            HubError::TooManySearches => Self::TooManySearches,
            HubError::ShareExceeded => Self::ShareExceeded,
            HubError::TooManyTemplates => Self::TooManyTemplates,
            HubError::TooManyKeys | HubError::TooManyValueBytes => {
                Self::Key { error: KeyError::NoRoom(error), place: 0 }
            }
        }
    }
}

impl Refusal {
    /// A sentence for the client's author.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::TooManyMessages => {
                "your address publishes more messages a second than limits.publishes_per_second"
            }
            Self::TooManySearches => HubError::TooManySearches.detail(),
            Self::ShareExceeded => HubError::ShareExceeded.detail(),
            Self::TooManyTemplates => HubError::TooManyTemplates.detail(),
            Self::MemoryShort => "memory is short (limits.memory); try again later",
            Self::KeyReused => {
                "this idempotency key belongs to a request with another method, other channels or another body; \
                 nothing was published: use a new key for each request"
            }
            Self::TooManyChannels => HubError::TooManyChannels.detail(),
            Self::TooManySubscribers => HubError::TooManySubscribers.detail(),
            Self::TooManyMatches => HubError::TooManyMatches.detail(),
            Self::Reserved => "topics of Mercure's own events are reserved; choose another name",
            Self::Presence => "who is on a channel is told by the server; nobody else publishes there",
            Self::PresenceUnknown => {
                "who is there is shown since a moment ago, and the other servers have not said yet whom they have; try again later"
            }
            Self::LogBehind => {
                "what keeps the history does not keep up (store.staged_bytes, store.lag_ms, engine.staged_bytes); \
                 try again later, with the same Idempotency-Key"
            }
            Self::Outdated => {
                "the value was changed through another server at the same time; nothing was published: try again"
            }
            Self::Key { error, .. } => error.detail(),
            Self::NotLatest => {
                "the latest value of the key is not what If-Match or If-None-Match asks for; nothing was published"
            }
        }
    }

    /// After how many seconds it is worth trying again: at least, and over how many more the clients should be spread.
    /// `None` if the same request will be refused again.
    pub const fn retry_seconds(self) -> Option<(u64, u64)> {
        match self {
            Self::TooManyMessages | Self::LogBehind => Some((1, 5)),
            Self::PresenceUnknown => Some((1, 1)),
            Self::Outdated => Some((0, 1)),
            Self::TooManySearches | Self::MemoryShort => Some((1, 10)),
            Self::TooManyChannels
            | Self::TooManySubscribers
            | Self::ShareExceeded
            | Self::TooManyTemplates
            | Self::Key { error: KeyError::NoRoom(_), .. } => Some((60, 60)),
            Self::KeyReused | Self::TooManyMatches | Self::NotLatest | Self::Reserved | Self::Presence => {
                None
            }
            Self::Key {
                error: KeyError::NoSuchKey | KeyError::NotPatchable | KeyError::TooLarge | KeyError::TooMuch,
                ..
            } => None,
        }
    }
}
