//! Plain deliveries, which nearly all are: one message, no gap to be told, bytes that all subscribers of a kind share,
//! a socket that is not blocked.
//!
//! The kernel pushes our instructions and records out of the processor's caches with every write. So these
//! deliveries are planned, written and settled some at a time, each step in a loop of its own, which finds in the
//! caches what the round before left there. Whatever is not plain goes the long way of [`super::deliver`].

use super::{Server, Sink, WRITES, Write, Wrote};
use crate::conn::{Output, Phase, Slot};
use crate::dialect::Holder;
use crate::hub::{ChannelKey, Lacking, SubscriberKey};
use crate::id::Seq;
use crate::time::{Instant, Now};
use crate::transport::{self, Format, Polling, poll};
use crate::wire::response::Envelope;
use arrayvec::ArrayVec;

/// A frame that is larger costs its own time with every write, which is to be counted for who gets it: it is not plain.
const BYTES_MAX: usize = 16 << 10;

/// A delivery that is planned.
#[derive(Debug, Clone, Copy)]
struct Plain {
    subscriber: SubscriberKey,
    /// What its cursor was.
    after: Seq,
    slot: Slot,
    frame: Frame,
}

/// Which bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    channel: ChannelKey,
    seq: Seq,
    /// The number of its format: that is compared for each delivery.
    format: u8,
}

impl Frame {
    const fn is_poll(self) -> bool {
        Format::is_poll(self.format)
    }
}

impl Server {
    /// Delivers to the first of those that are ready, as long as it is plain, at most `max` times. Returns how often.
    pub(super) fn deliver_plain(&mut self, now: Now, max: usize, sink: &mut impl Sink) -> usize {
        let mut batch: ArrayVec<Plain, WRITES> = ArrayVec::new();
        let mut lacking = None;
        while batch.len() < max.min(WRITES)
            && let Some(plain) = self.plan(now, batch.last(), &mut lacking)
        {
            batch.push(plain);
        }
        let mut outcomes = ArrayVec::new();
        self.write_plain(now, &batch, &mut outcomes, sink);
        self.note_plain(now, &batch, &outcomes);
        let mut delivered = 0;
        for (plain, &outcome) in batch.iter().zip(&outcomes) {
            let is_settled = outcome == Outcome::Whole && !plain.frame.is_poll();
            delivered += u64::from(is_settled || self.settle_plain(now.at, plain, outcome));
        }
        if self.telemetry.access_log.is_some() {
            self.log_plain_streams(&batch);
        }
        self.broker.stats.messages_delivered += delivered;
        self.broker.stats.deliveries += delivered;
        batch.len()
    }

    /// Notes how long a batch took to be delivered, all of it like its first, which has waited for longest.
    fn note_plain(&mut self, now: Now, batch: &[Plain], outcomes: &[Outcome]) {
        let Some(&Plain { subscriber, frame, .. }) = batch.first() else { return };
        let polls = batch.iter().filter(|plain| plain.frame.is_poll()).count() as u64;
        if polls > 0 {
            self.telemetry.note_answers(200, polls);
        }
        let message = self.broker.hub.message(frame.channel, frame.seq);
        let Some(published) = message.map(|message| message.published) else { return };
        let whole = outcomes.iter().filter(|&&outcome| outcome == Outcome::Whole).count() as u64;
        self.note_wait(now, subscriber, frame.seq, published, whole);
    }

    /// Takes the first of those that are ready out of the queue, if its delivery is plain; `before` is the delivery
    /// planned before, for what was `lacking`.
    fn plan(&mut self, now: Now, before: Option<&Plain>, lacking: &mut Option<Lacking>) -> Option<Plain> {
        *lacking = self.broker.hub.first_lacking(now.at, *lacking);
        let Lacking { owner, note, channel, after, seq, more } = (*lacking)?;
        let slot = Holder::connection(owner)?;
        let format = match note {
            0 => self.plain_answer(slot, more)?.number(),
            _ if more => return None,
            noted => noted,
        };
        let frame = Frame { channel, seq, format };
        if before.is_none_or(|before| before.frame != frame) && !self.prepare(now, frame) {
            return None;
        }
        // Nearly every write takes it, and now its record is in the caches.
        let subscriber = self.broker.hub.take_first(seq)?;
        Some(Plain { subscriber, after, slot, frame })
    }

    /// The format of the answer to a poll that waits, if that is plain; `more`: it lacks several messages. Whoever else
    /// has nothing noted for it is not plain: streams that are blocked.
    fn plain_answer(&self, slot: Slot, more: bool) -> Option<Format> {
        let connection = &self.connections[slot];
        let Phase::Parked(parked) = &connection.phase else { return None };
        let ends = parked.close || connection.is_done();
        let is_shared = parked.origin.is_none() && parked.polling != Polling::Script;
        let is_batch = parked.batch.is_some();
        let is_alone = !(is_batch && more) && connection.input.is_none() && connection.output.is_none();
        let format = if is_batch { Format::PollBatch } else { Format::PollVerbatim };
        (is_shared && is_alone && !ends).then_some(format)
    }

    /// Has a frame encoded. Returns whether it may be written as it is: there is something in it, but not too much, and an
    /// answer rendered earlier still tells the time.
    fn prepare(&mut self, now: Now, frame: Frame) -> bool {
        let Some((bytes, encoded)) = self.frame(now, frame) else { return false };
        let is_fit = (1..=BYTES_MAX).contains(&bytes.len())
            && (!frame.is_poll() || poll::is_current(bytes, &self.writer.dates.at(now.unix)));
        if encoded > 0 {
            self.broker.hub.charge_once(frame.channel, frame.seq, encoded);
        }
        is_fit
    }

    /// The bytes of a frame, and how many were newly encoded.
    fn frame(&self, now: Now, frame: Frame) -> Option<(&[u8], usize)> {
        let message = self.broker.hub.message(frame.channel, frame.seq)?;
        let format = Format::numbered(frame.format)?;
        if let Format::Stream(look) = format {
            return Some(transport::frame(message, look));
        }
        let fields = self.writer.cors.fields(None);
        let envelope = Envelope {
            date: self.writer.dates.at(now.unix),
            head_only: false,
            close: false,
            fields,
            keep_alive: "",
        };
        Some(poll::shared_answer(message, format, &envelope))
    }

    /// Writes what is planned, and adds what became of each of it.
    fn write_plain(
        &self,
        now: Now,
        batch: &[Plain],
        outcomes: &mut ArrayVec<Outcome, WRITES>,
        sink: &mut impl Sink,
    ) {
        let mut writes: ArrayVec<Write, WRITES> = ArrayVec::new();
        let mut last: Option<(Frame, &[u8])> = None;
        for &Plain { slot, frame, .. } in batch {
            let bytes = match last {
                Some((same, bytes)) if same == frame => bytes,
                _ => self.frame(now, frame).map_or(&[][..], |(bytes, _)| bytes),
            };
            debug_assert!(!bytes.is_empty(), "it was prepared");
            last = Some((frame, bytes));
            writes.push(Write { slot, bytes, wrote: Wrote::Broken });
        }
        sink.write_each(&mut writes);
        outcomes.extend(writes.iter().map(Outcome::of));
    }

    /// Notes what became of the answer to a poll, or of a write that was not taken whole. Returns whether the message is
    /// delivered, be it that the connection has still to take some of it.
    fn settle_plain(&mut self, now: Instant, plain: &Plain, outcome: Outcome) -> bool {
        let Plain { subscriber, after, slot, frame } = *plain;
        let is_poll = frame.is_poll();
        let mut is_delivered = true;
        match outcome {
            Outcome::Whole => {}
            Outcome::Broken => {
                self.close(now, slot);
                return false;
            }
            Outcome::Part(taken) => {
                let mut output = Output::blocked(now);
                // A stream of which nothing is out yet pulls again.
                let message =
                    self.broker.hub.message(frame.channel, frame.seq).filter(|_| taken > 0 || is_poll);
                match message.zip(Format::numbered(frame.format)) {
                    Some((message, format)) => output.push_frame(message, format, taken),
                    None => is_delivered = false,
                }
                if !is_delivered {
                    self.broker.hub.take_back(subscriber, after);
                }
                self.block(slot, output, taken);
            }
        }
        if is_poll {
            self.log_plain(now, slot, frame);
            self.leave(now, slot);
        }
        self.arm(slot, now);
        is_delivered
    }
}

impl Server {
    /// Notes the answer to a poll in the access log.
    fn log_plain(&mut self, now: Instant, slot: Slot, frame: Frame) {
        if self.telemetry.access_log.is_some() {
            let bytes = self.encoded_len(frame);
            self.log_written(now, slot, bytes);
        }
    }

    /// Counts what streams got in the access log.
    #[cold]
    fn log_plain_streams(&mut self, batch: &[Plain]) {
        for &Plain { slot, frame, .. } in batch.iter().filter(|plain| !plain.frame.is_poll()) {
            let bytes = self.encoded_len(frame);
            self.log_bytes(slot, bytes);
        }
    }

    /// Bytes of a frame that has been encoded.
    #[cold]
    fn encoded_len(&self, frame: Frame) -> usize {
        let message = self.broker.hub.message(frame.channel, frame.seq);
        message.and_then(|message| message.encoded(frame.format)).map_or(0, <[u8]>::len)
    }
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// All of it was taken.
    Whole,
    /// So many bytes were.
    Part(usize),
    /// The connection is broken.
    Broken,
}

impl Outcome {
    const fn of(write: &Write<'_>) -> Self {
        match write.wrote {
            Wrote::Bytes(taken) if taken == write.bytes.len() => Self::Whole,
            Wrote::Bytes(taken) => Self::Part(taken),
            Wrote::Broken => Self::Broken,
        }
    }
}
