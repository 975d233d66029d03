//! Deliveries to streams of latest values.
//!
//! What such a subscriber lacks may be thousands of messages, and all who are at the same stage lack the same: those of
//! one pace at each tick, and those who come at once. So it is composed in pages, each of them once for all who are at
//! that stage, and written with one call. What a socket does not take of a page is pulled anew when it takes bytes
//! again, but for the message begun: a slow client is given fresher values, not later ones.

use super::deliver::{SMALL_BYTES, Turn};
use super::{Server, Sink, Wrote};
use crate::conn::{Output, Phase, Slot};
use crate::hub::{Message, Stage, SubscriberKey};
use crate::id::Seq;
use crate::time::{Instant, Now};
use crate::transport::{self, Format, Look};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::rc::Rc;

/// A page is not made larger by a further message than this; twice as large if it has patches, which are for who gets
/// all of it at once.
const PAGE_BYTES_MAX: usize = 256 << 10;
/// Most messages of a page.
const PAGE_MESSAGES_MAX: usize = 2000;
/// Microseconds after which a page ends, whatever is left, as others wait meanwhile; the clock is looked at after so many
/// messages.
const PAGE_US: u32 = 1000;
const UNTIMED: usize = 64;
/// The same on a slow line, whose socket will hardly take more.
const SLOW_BYTES_MAX: usize = 32 << 10;
const SLOW_MESSAGES_MAX: usize = 500;
/// Pages that are kept until all who are to be told have been.
const PAGES_MAX: usize = 64;
/// Bytes of patches that are kept for further pages, and what one takes beside its bytes.
const PATCHES_BYTES_MAX: usize = 2 << 20;
const PATCH_BYTES: usize = 64;

/// What subscribers at one stage are given.
#[derive(Debug)]
pub struct Page {
    bytes: Vec<u8>,
    /// Where each message ends, and its number.
    messages: Vec<(usize, Seq)>,
    /// There is more to give.
    is_cut: bool,
}

/// Pages that are at hand.
#[derive(Debug, Default)]
pub struct Pages {
    all: Vec<(Stage, Look, Rc<Page>)>,
    patches: Patches,
}

impl Pages {
    fn find(&self, stage: Stage, look: Look) -> Option<&Rc<Page>> {
        let found = self.all.iter().rev().find(|(of, with, _)| (*of, *with) == (stage, look));
        found.map(|(_, _, page)| page)
    }

    fn keep(&mut self, stage: Stage, look: Look, page: &Rc<Page>) {
        if self.all.len() >= PAGES_MAX {
            self.all.remove(0);
        }
        self.all.push((stage, look, Rc::clone(page)));
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && self.patches.all.is_empty()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

type Bytes = Box<[u8]>;

/// Patches that are at hand: two pages have most of them in common. By base, message and format; none if there is no such
/// patch.
#[derive(Debug, Default)]
struct Patches {
    all: BTreeMap<(Seq, Seq, u8), Option<Bytes>>,
    bytes: usize,
}

impl Patches {
    /// Appends `message` as a patch of `base`, if there is such a patch.
    fn write(&mut self, out: &mut Vec<u8>, look: Look, base: &Message, message: &Message) -> bool {
        let place = (base.id.seq, message.id.seq, Format::Stream(look).number());
        if let Some(known) = self.all.get(&place) {
            out.extend_from_slice(known.as_deref().unwrap_or_default());
            return known.is_some();
        }
        let begin = out.len();
        let is_patch = transport::write_patch(out, look, base, message);
        if self.bytes > PATCHES_BYTES_MAX {
            *self = Self::default();
        }
        self.bytes += PATCH_BYTES + out.len() - begin;
        self.all.insert(place, is_patch.then(|| out[begin..].into()));
        is_patch
    }
}

impl Server {
    /// Writes what a stream of latest values lacks. Returns whether it has: what has to be composed for it, or is large, has
    /// to wait if it is `Early`.
    pub(super) fn deliver_latest(
        &mut self,
        now: Now,
        slot: Slot,
        key: SubscriberKey,
        turn: Turn,
        sink: &mut impl Sink,
    ) -> bool {
        let gaps = self.broker.hub.take_gaps(key);
        let Some(look) = self.connections[slot].look() else { return true };
        if !gaps.is_empty() {
            let Some(notice) = transport::gap_notice(look, &gaps) else {
                self.cut_off(now.at, slot, sink);
                return true;
            };
            self.send_bytes(now.at, slot, &notice, sink);
            let connection = &self.connections[slot];
            if connection.output.is_some() || matches!(connection.phase, Phase::Closed) {
                return true;
            }
        }
        let stage = self.broker.hub.stage(key);
        let at_hand = stage.and_then(|stage| self.writer.pages.find(stage, look)).cloned();
        let is_small = at_hand.as_ref().is_some_and(|page| page.bytes.len() <= SMALL_BYTES);
        if turn == Turn::Early && (!is_small || self.broker.hub.has_snapshot(key)) {
            self.broker.hub.mark_bulk(key);
            return false;
        }
        let page = at_hand.unwrap_or_else(|| {
            let page = Rc::new(self.compose_page(now.at, slot, key, look, sink));
            if let Some(stage) = stage {
                self.writer.pages.keep(stage, look, &page);
            }
            page
        });
        self.give_page(now, slot, key, look, &page, sink);
        true
    }

    /// Gives a stream a page of what it lacks.
    fn give_page(
        &mut self,
        now: Now,
        slot: Slot,
        key: SubscriberKey,
        look: Look,
        page: &Page,
        sink: &mut impl Sink,
    ) {
        let mut taken = 0;
        if !page.bytes.is_empty() {
            let Wrote::Bytes(bytes) = sink.write(self.id(slot), &[IoSlice::new(&page.bytes)]) else {
                return self.close(now.at, slot);
            };
            taken = bytes;
        }
        let hub = &mut self.broker.hub;
        let is_whole = taken == page.bytes.len();
        // The message begun is on its way.
        let given = match is_whole {
            true => page.messages.len(),
            false => {
                page.messages.partition_point(|&(end, _)| end <= taken) + usize::from(is_begun(page, taken))
            }
        };
        if !is_whole || page.is_cut {
            hub.cut(key);
        }
        if let Some(&(_, last)) = page.messages[..given].last() {
            hub.advance(key, last);
        }
        self.broker.stats.messages_delivered += given as u64;
        self.broker.stats.deliveries += u64::from(given > 0);
        if !is_whole {
            let output = Self::rest_of(now.at, page, taken);
            self.block(slot, output, taken);
            self.arm(slot, now.at);
        } else if page.is_cut {
            hub.mark_bulk(key);
            self.note_taken(now.at, slot, taken);
        } else {
            let end = hub.finish(now.at, key);
            self.note_caught_up(slot);
            if let Some((_, id)) = end {
                self.send_bytes(now.at, slot, &transport::place_notice(look, id.into()), sink);
            }
        }
    }

    /// Composes a page of what a subscriber lacks.
    fn compose_page(
        &mut self,
        now: Instant,
        slot: Slot,
        key: SubscriberKey,
        look: Look,
        sink: &mut impl Sink,
    ) -> Page {
        let is_slow = self.keeps_little(slot);
        let (hub, patches) = (&self.broker.hub, &mut self.writer.pages.patches);
        let mut pulled: Vec<&Rc<Message>> = Vec::new();
        let max = if is_slow { SLOW_MESSAGES_MAX } else { PAGE_MESSAGES_MAX };
        hub.pull(now, key, max, &mut pulled);
        let mut page = Page { bytes: Vec::new(), messages: Vec::with_capacity(pulled.len()), is_cut: false };
        let is_delta = hub.wish(key).delta;
        let most = match is_slow {
            true => SLOW_BYTES_MAX,
            false if is_delta => 2 * PAGE_BYTES_MAX,
            false => PAGE_BYTES_MAX,
        };
        let mut spent = sink.spent();
        for (place, message) in pulled.iter().enumerate() {
            if place > 0 && place.is_multiple_of(UNTIMED) {
                spent = spent.saturating_add(sink.spent());
            }
            if page.bytes.len() > most || spent > PAGE_US {
                page.is_cut = true;
                break;
            }
            let base = if is_delta { hub.base(key, message) } else { None };
            let is_patch = base.is_some_and(|base| patches.write(&mut page.bytes, look, base, message));
            if !is_patch {
                transport::write_message(&mut page.bytes, look, message);
            }
            page.messages.push((page.bytes.len(), message.id.seq));
        }
        page.is_cut |= pulled.len() == max;
        self.note_work(now, slot, spent as usize, sink);
        self.broker.hub.note_encoded(page.messages.len());
        page
    }

    /// What a socket has still to take of the message of a page in the midst of which `taken` lies.
    fn rest_of(now: Instant, page: &Page, taken: usize) -> Output {
        let mut output = Output::blocked(now);
        if !is_begun(page, taken) {
            return output;
        }
        let place = page.messages.partition_point(|&(end, _)| end <= taken);
        output.push(&page.bytes[taken..page.messages[place].0]);
        output
    }
}

/// Whether `taken` lies in the midst of a message of the page.
fn is_begun(page: &Page, taken: usize) -> bool {
    let place = page.messages.partition_point(|&(end, _)| end <= taken);
    let begin = place.checked_sub(1).map_or(0, |before| page.messages[before].0);
    taken > begin
}
