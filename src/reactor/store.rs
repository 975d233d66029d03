//! The history on disk: one file of `redb`, behind a thread of its own.
//!
//! ```text
//! reactor ── Order::Append(Proposal) ─▶ thread: what has come is one transaction, fdatasync ── Mail::Tail(Batch) ─▶ reactor
//!         ── Order::Kept ◀─▶ Mail::Look: which rows the hub still keeps, so that the others can be swept
//! ```
//!
//! One row a message, keyed by its number. What a ring evicts is not deleted on the spot, which would cost more than
//! writing it: dead rows wait until they are as many as the living, and then leave a few with each commit. Rows of dead
//! messages come back at a restart, and the same limits evict them again in the same order.
//!
//! This folder is the only place that knows `redb`.

mod clocks;
mod copy;
mod directory;
mod engine;
mod frozen;
mod idle;
mod orders;
mod revoked;
mod rows;
mod tables;
#[cfg(test)]
mod tests;
mod thread;

pub use copy::{Copied, back_up};
pub use directory::Directory;
pub use engine::DEAD_MAX;
pub use idle::{Contents, Idle};
pub use orders::{Order, Settings, Told};
pub use thread::{Store, go_on, start};

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a store cannot be opened or written.
#[derive(Debug)]
pub enum StoreError {
    /// The directory above it is not there.
    NoDirectory(PathBuf),
    /// There is no history in it.
    NoHistory(PathBuf),
    /// Another process has it open.
    Locked(PathBuf),
    /// What the file says of its format; ours is another.
    Version(u64),
    /// It is not what was written.
    Damaged(String),
    /// What the system said.
    Io(io::Error),
}

impl StoreError {
    /// Whether there was no room.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::StorageFull
            || error.kind() == io::ErrorKind::QuotaExceeded)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDirectory(path) => {
                write!(f, "{} does not exist; create it, or mount what belongs there", path.display())
            }
            Self::NoHistory(path) => write!(f, "there is no history in {}", path.display()),
            Self::Locked(path) => write!(f, "another process uses {}", path.display()),
            Self::Version(version) => write!(
                f,
                "the history has format {version}, this program reads format {}; use the version that wrote it",
                rows::FORMAT
            ),
            Self::Damaged(why) => write!(
                f,
                "the history is damaged ({why}); restore a backup, or move the file away to begin with an empty history"
            ),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => match error.kind() {
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Self::Damaged(error.to_string()),
                _ => Self::Io(error),
            },
            redb::Error::UpgradeRequired(version) => Self::Damaged(format!("file format {version} of redb")),
            redb::Error::DatabaseClosed => Self::Io(io::Error::other("it was closed meanwhile")),
            redb::Error::PreviousIo => Self::Io(io::Error::other("an earlier write failed")),
            error => Self::Damaged(error.to_string()),
        }
    }
}
