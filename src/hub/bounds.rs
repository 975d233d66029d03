//! How much there may be of everything, and why somebody is refused.

use crate::config::Config;

/// How many there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Channels. At most half of them may be there only because somebody listens to them: who may only listen
    /// cannot keep others from publishing.
    pub(super) channels: usize,
    /// Subscribers of one channel.
    pub(super) subscribers: usize,
    /// Channels that the patterns of one subscriber match.
    pub(super) matches: usize,
    /// Keys of one channel that have a value, and removals remembered there.
    pub(super) keys_per_channel: usize,
    /// Keys of all channels.
    pub(super) keys: usize,
    /// Removals remembered of all channels.
    pub(super) removals: usize,
}

/// Looks that it costs as much as to join a channel and to leave it again.
pub const LOOKS_PER_JOIN: usize = 4;
/// Channels that may be looked at in a second for the patterns of one address.
pub const LOOKED_AT_PER_SECOND: u32 = 1_000_000;
/// The same for one request, during which nobody else is served.
pub const LOOKED_AT_PER_VISIT: u64 = 250_000;
/// The same for all addresses together.
pub const LOOKED_AT_IN_ALL: u64 = 8_000_000;

/// Why a publication or a subscription was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubError {
    /// `limits.channels` is reached.
    TooManyChannels,
    /// `limits.subscribers_per_channel` is reached.
    TooManySubscribers,
    /// `limits.channels_per_pattern` is exceeded.
    TooManyMatches,
    /// [`LOOKED_AT_PER_SECOND`] or [`LOOKED_AT_IN_ALL`] is reached.
    TooManySearches,
    /// `limits.memory_per_address` is reached, or what all strangers may have together.
    ShareExceeded,
    /// [`TEMPLATE_BYTES_MAX`](super::TEMPLATE_BYTES_MAX) or [`TEMPLATE_BYTES_IN_ALL`](super::TEMPLATE_BYTES_IN_ALL) is
    /// reached, a topic would be compared with more than
    /// [`COMPARED_MAX`](super::COMPARED_MAX), or a message asked of more than [`ASKED_MAX`](super::ASKED_MAX).
    TooManyTemplates,
    /// `limits.keys_per_channel` or `limits.keys` is reached.
    TooManyKeys,
    /// Latest values alone would take more than `history.total_bytes`.
    TooManyValueBytes,
}

impl HubError {
    /// A sentence for the client's author.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::TooManyChannels => "limits.channels is reached; no new channel can be made",
            Self::TooManySubscribers => "limits.subscribers_per_channel is reached; try again later",
            Self::TooManyMatches => {
                "the patterns match more channels than limits.channels_per_pattern; narrow them"
            }
            Self::TooManySearches => {
                "too many channels would be looked at for patterns of your address, or of all, in this second; try again later"
            }
            Self::ShareExceeded => {
                "the subscriptions of your address, or of all, take as much memory as they may (limits.memory_per_address)"
            }
            Self::TooManyTemplates => {
                "the templates of your address, or of all, are as many as may be compared with new topics"
            }
            Self::TooManyKeys => {
                "limits.keys_per_channel or limits.keys is reached; no new key can have a value"
            }
            Self::TooManyValueBytes => {
                "the latest values of all keys take history.total_bytes; remove some, or raise the limit"
            }
        }
    }
}

impl Bounds {
    /// Those of the settings.
    pub(super) const fn new(config: &Config) -> Self {
        Self {
            channels: config.limits.channels,
            subscribers: config.limits.subscribers_per_channel,
            matches: config.limits.channels_per_pattern,
            keys_per_channel: config.limits.keys_per_channel,
            keys: config.limits.keys,
            removals: config.limits.tombstones,
        }
    }
}
