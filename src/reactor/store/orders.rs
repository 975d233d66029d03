//! What a store and the reactor say to each other.

use super::StoreError;
use super::tables::Snapshot;
use crate::config::Promise;
use crate::id::Seq;
use crate::log::{Batch, Condition, Lost, Opening, Proposal, Refusal, Ticket};
use std::sync::mpsc::SyncSender;

/// How a store works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// What an answer promises.
    pub promise: Promise,
    /// Milliseconds from a commit to the next.
    pub pause_ms: u64,
    /// Idempotency keys that are remembered.
    pub keys_max: usize,
    /// Dead rows that are not worth sweeping.
    pub dead_max: u64,
    /// Channels of which is remembered what they have lost.
    pub channels_max: usize,
}

/// What the reactor asks of a store.
#[derive(Debug)]
pub enum Order {
    /// To keep this.
    Append {
        /// What.
        proposal: Proposal,
        /// Messages that the hub keeps at this moment.
        live: u64,
    },
    /// To take rows away: the answer to [`Told::Look`].
    Kept {
        /// Those that the hub does not keep, in order.
        dead: Vec<Seq>,
        /// What their channels have lost.
        lost: Vec<Lost>,
    },
    /// To hand over all of it as it is now.
    Copy(SyncSender<Result<Snapshot, StoreError>>),
    /// To end when all that was asked before is done.
    End,
}

/// What a store tells the reactor, in order.
#[derive(Debug)]
pub enum Told {
    /// The history is this; it will be handed over.
    Opened {
        /// What is known of it.
        opening: Opening,
        /// It begins with this life.
        is_new: bool,
    },
    /// This is history now.
    Tail(Batch),
    /// Nothing of what was proposed up to this ticket, and is not history, will be.
    Refused {
        /// The last of them.
        upto: Ticket,
        /// Why.
        why: Refusal,
    },
    /// Which of these rows does the hub still keep?
    Look(Vec<(Seq, Box<str>)>),
    /// The store is in another state.
    Condition(Condition),
}
