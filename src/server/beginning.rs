//! Deliveries to streams that have not come to where all their channels begin.
//!
//! If such a stream is cut, the number of the last message is not enough for its client to go on: behind each message it is
//! told the place, where the technique has room for it. So what is written is not what others get, and is composed for it.

use super::{Server, Sink, Wrote};
use crate::conn::{Output, Slot};
use crate::hub::{Message, SubscriberKey};
use crate::id::Seq;
use crate::time::{Instant, Now};
use crate::transport::{self, Look};
use std::io::IoSlice;
use std::rc::Rc;

/// Most messages in one write.
const MESSAGES_MAX: usize = 64;
/// A write is not made larger than this by a further message.
const BYTES_MAX: usize = 256 << 10;

/// What is written at once.
#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    /// Where each message and its place end, its number, and when it was published.
    messages: Vec<(usize, Seq, Instant)>,
    /// There may be more to pull.
    more: bool,
}

impl Server {
    /// Writes what such a stream lacks.
    #[cold]
    pub(super) fn deliver_beginning(
        &mut self,
        now: Now,
        slot: Slot,
        key: SubscriberKey,
        look: Look,
        sink: &mut impl Sink,
    ) {
        let Written { bytes, messages, more } = self.compose_beginning(now.at, key, look);
        let wrote = match bytes.is_empty() {
            true => Wrote::Bytes(0),
            false => sink.write(self.id(slot), &[IoSlice::new(&bytes)]),
        };
        let Wrote::Bytes(taken) = wrote else { return self.close(now.at, slot) };
        self.log_bytes(slot, bytes.len());
        // The message begun is on its way.
        let whole = messages.partition_point(|&(end, ..)| end <= taken);
        let begin = whole.checked_sub(1).map_or(0, |last| messages[last].0);
        let count = whole + usize::from(taken > begin);
        let newest = count.checked_sub(1).map(|last| messages[last]);
        if let Some((_, seq, published)) = newest {
            self.note_wait(now, key, seq, published, 1);
        }
        self.settle(key, newest.map(|(_, seq, _)| seq), count);
        if taken < bytes.len() {
            let mut output = Output::blocked(now.at);
            if count > whole {
                output.push(&bytes[taken..messages[whole].0]);
            }
            self.block(slot, output, taken);
            self.arm(slot, now.at);
        } else if more {
            self.note_taken(now.at, slot, taken);
            self.broker.hub.mark_bulk(key);
        } else {
            self.note_caught_up(slot);
        }
    }

    /// Pulls what it lacks.
    fn compose_beginning(&self, now: Instant, key: SubscriberKey, look: Look) -> Written {
        let hub = &self.broker.hub;
        let mut pulled: Vec<&Rc<Message>> = Vec::new();
        hub.pull(now, key, MESSAGES_MAX, &mut pulled);
        let mut written = Written::default();
        for message in &pulled {
            let begin = written.bytes.len();
            let place = hub.place_after(key, message.id);
            transport::write_message(&mut written.bytes, look, message);
            if place != message.id.into() {
                written.bytes.extend(transport::place_notice(look, place));
            }
            if begin > 0 && written.bytes.len() > BYTES_MAX {
                written.bytes.truncate(begin);
                break;
            }
            written.messages.push((written.bytes.len(), message.id.seq, message.published));
        }
        let is_all = written.messages.len() == pulled.len() && pulled.len() < MESSAGES_MAX;
        written.more = !is_all || hub.is_cut(key);
        written
    }
}
