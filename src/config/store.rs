//! Settings of the history on disk: kinds of values.

/// What a publisher who has an answer may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// The message is on the disk; nobody has seen it before.
    Synced,
    /// It will be there soon.
    Behind,
}

impl Promise {
    /// How it is written.
    pub const NAMES: [(&'static str, Self); 2] = [("synced", Self::Synced), ("behind", Self::Behind)];
}
