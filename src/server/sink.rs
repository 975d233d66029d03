//! Where the server writes.

use crate::conn::{ConnId, Slot};
use std::io::IoSlice;
use std::net::SocketAddr;

/// Where the server writes: sockets, or what a test puts in their place.
pub trait Sink {
    /// Writes what the socket takes at once of `slices`, in order.
    fn write(&mut self, id: ConnId, slices: &[IoSlice<'_>]) -> Wrote;

    /// Writes to several connections that have subscribers, one after the other. Their slots are enough to name them:
    /// a subscriber leaves before its connection's slot is given back.
    fn write_each(&mut self, writes: &mut [Write<'_>]);

    /// Whether the one who is served has been for long enough, of whom `done` requests or messages have been dealt with
    /// at a stretch. The rest has another turn. It is here that time comes in while something is being done, and a
    /// seed may answer as it likes.
    fn is_over(&mut self, done: usize) -> bool {
        let _ = done;
        false
    }

    /// What the socket of a connection says of itself, if there is one.
    fn line(&mut self, id: ConnId) -> Option<Line> {
        let _ = id;
        None
    }

    /// Whether this part of the turn has taken long enough: what is left has the next one.
    fn is_late(&mut self) -> bool {
        false
    }

    /// Another part of the turn begins, which has a share of its time.
    fn begin_part(&mut self) {}

    /// Microseconds that have passed since [`Sink::is_late`], or this, was last asked: what somebody has just cost.
    fn spent(&mut self) -> u32 {
        0
    }
}

/// One of several writes.
#[derive(Debug)]
pub struct Write<'a> {
    /// To whom.
    pub slot: Slot,
    /// What.
    pub bytes: &'a [u8],
    /// What became of it.
    pub wrote: Wrote,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrote {
    /// So many bytes were taken. If fewer than offered, [`super::Server::writable`] is called when there is room.
    Bytes(usize),
    /// The connection is broken.
    Broken,
}

/// Writes `slices`, if there is anything in them: an empty message is nothing on a `raw` stream.
pub fn write_slices(sink: &mut impl Sink, id: ConnId, slices: &[IoSlice<'_>]) -> Wrote {
    if slices.iter().all(|slice| slice.is_empty()) { Wrote::Bytes(0) } else { sink.write(id, slices) }
}

/// What a socket says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// The other end.
    pub peer: SocketAddr,
    /// Milliseconds since something was sent, and since something came.
    pub sent_ms: u32,
    /// See [`Line::sent_ms`].
    pub received_ms: u32,
    /// The round trip, in microseconds.
    pub round_trip_us: u32,
    /// Segments that are on their way and not acknowledged.
    pub unacknowledged: u32,
    /// Bytes that the kernel has and has not sent yet.
    pub unsent_bytes: u32,
    /// Segments that had to be sent again.
    pub retransmitted: u32,
}
