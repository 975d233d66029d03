//! What can go wrong: each ends the run.

use std::fmt;
use std::io;

use crate::mark::Torn;

/// Why there is no result.
#[derive(Debug)]
pub enum Error {
    /// No connection could be made.
    Unreachable(io::Error),
    /// The server closed or reset a connection, in the words given.
    Closed(String),
    /// An answer that no server of this kind should give.
    Refused(String),
    /// A message came twice, not at all, out of order, or not as it was sent.
    Wrong(String),
    /// Nothing arrived for too long.
    Silence(String),
    /// The machine does not allow what was asked.
    Limit(String),
    Io(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "cannot connect: {error}. Is the server running there?"),
            Self::Closed(what) => write!(f, "the server closed a connection: {what}"),
            Self::Refused(what) => write!(f, "unexpected answer: {what}"),
            Self::Wrong(what) => write!(f, "not delivered as published: {what}"),
            Self::Silence(what) => write!(f, "nothing comes any more: {what}"),
            Self::Limit(what) => f.write_str(what),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Torn> for Error {
    fn from(_: Torn) -> Self {
        Self::Wrong("a payload arrived with other bytes than were sent".into())
    }
}
