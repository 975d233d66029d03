//! The memory of the process, and what is done when it becomes short.
//!
//! What counts is what is resident, as that is what the system kills for. What is given back to the allocator often
//! stays resident and is used again, though: so memory is taken to be what the server holds (history, channels,
//! subscribers, sessions, connections, what arrives in pieces) and, beyond that, as much as there was when most was
//! resident. What that is nobody knows: if it makes connections be refused and has not grown for a while, it is
//! taken to be the allocator's and forgiven, as a shortage that does not end helps nobody.
//!
//! What a client can make grow is bounded before it grows, by its share (`hub::Shares`), by its pace (`readers`) or by
//! what it may leave unread; what is here is for the sum of it all. History takes half of `limits.memory` at most,
//! whatever `history.total_bytes` allows, and the subscriptions of strangers the other half. Above nine tenths, until
//! eight tenths are left,
//!
//! 1. connections that leave most unread are closed, until what is unread takes an eighth of the memory,
//! 2. history of channels without subscribers goes, the oldest first; then that of all channels, except for an eighth,
//!    which is not what makes memory short,
//! 3. the others that leave much unread, or incomplete, are closed, those with most of it first.
//!
//! While that does not suffice, strangers are refused whatever takes memory: new connections, sessions, subscriptions, what
//! arrives in pieces. The application's own programs (`limits.exempt`, the admin listener) are refused that only when
//! 93 % are in use, and publishing never. Batches are smaller then, as each is its client's own, and less
//! may be pipelined. What is on its way to those who are connected is delivered in any case.

use super::Server;
use crate::broker::{Shortage, is_exempt};
use crate::carry::resume;
use crate::conn::{Connection, Door, Slot};
use crate::hub::Message;
use crate::time::{Instant, Now};
use crate::transport::poll::BATCH_BYTES_MAX;
use std::cmp::Reverse;
use std::net::IpAddr;
use std::rc::Rc;

/// Bytes of messages after which a batch ends while memory is scarce.
pub const BATCH_BYTES_SCARCE: usize = 64 << 10;
/// Bytes that a connection takes, with its subscriber and what the kernel interface needs.
const CONNECTION_BYTES: usize = 160;
/// Bytes that a session of a protocol takes beside its subscriber.
const SESSION_BYTES: usize = 320;
/// What is unread may take so much of the memory before history goes for it: an eighth.
const UNREAD_SHARE: usize = 8;
/// Nobody who keeps less is closed for lack of memory.
const UNREAD_MIN: usize = 4 << 10;
/// Bytes of what is unread that are let go of at once: giving them back takes time. The others follow at once.
const UNREAD_AT_ONCE: usize = 64 << 20;
/// Milliseconds between two looks at how much is resident: usually, when half of it is in use, and while it is short.
const WEIGH_MS: u64 = 1000;
const WEIGH_OFTEN_MS: u64 = 20;
const WEIGH_SHORT_MS: u64 = 100;
/// Milliseconds without growth after which what nobody knows of is forgiven.
const STEADY_MS: u64 = 10_000;
/// Milliseconds without shortage after which it is over.
const CALM_MS: u64 = 30_000;
/// Bytes that must have been let go before free memory is given back to the system.
const GIVE_BACK_MIN: usize = 1 << 20;
/// A process that has more than this keeps what is free: giving it back takes a look at every free piece, about
/// a tenth of a second for so many bytes of small ones, and nobody is served meanwhile.
const GIVE_BACK_MAX: usize = 512 << 20;

/// How much memory there is, and whether it is short.
#[derive(Debug)]
pub struct Memory {
    /// `limits.memory`; 0 = there is no limit.
    max: usize,
    /// The most that ever was resident, and what of it the server did not know of.
    highest: usize,
    overhead: usize,
    /// How much of that has been forgiven.
    forgiven: usize,
    /// What has been resident, give or take a little, and since when; counted anew when refusing begins.
    steady: (usize, Instant),
    /// What was resident, and what was held, when it was last measured.
    pub resident: usize,
    held: usize,
    /// What is held at the end of a turn.
    held_now: usize,
    /// The most that was held at the end of a turn since memory was last given back.
    most_held: usize,
    /// Bytes of incomplete bodies and messages, and of answers not taken, that have been kept since then.
    pub gathered: usize,
    /// Strangers are refused what takes memory.
    refusing: bool,
    /// Everybody is.
    full: bool,
    /// When it was last short, until that is over.
    short_at: Option<Instant>,
    /// After a crowd: how few connections must be left for memory to be given back.
    pub ebb: Option<usize>,
    /// When the hub last kept its limits.
    pub trimmed: Instant,
}

resume! {
    Memory {
        carried: ebb, trimmed;
        resumed: ;
        // Measured anew.
        given: max, highest, overhead, forgiven, steady, resident, held, held_now, most_held, gathered, refusing, full,
            short_at
    }
}

impl Memory {
    /// Room for `max` bytes; 0 = any number of them.
    pub const fn new(max: usize, now: Instant) -> Self {
        Self {
            max,
            highest: 0,
            overhead: 0,
            forgiven: 0,
            steady: (0, Instant::from_millis(0)),
            resident: 0,
            held: 0,
            held_now: 0,
            most_held: 0,
            gathered: 0,
            refusing: false,
            full: false,
            short_at: None,
            ebb: None,
            trimmed: now,
        }
    }

    /// Whom there is no memory for.
    pub const fn shortage(&self) -> Shortage {
        match (self.full, self.refusing) {
            (true, _) => Shortage::Everybody,
            (false, true) => Shortage::Strangers,
            (false, false) => Shortage::None,
        }
    }

    /// In how many milliseconds to look again how much is resident.
    pub const fn weigh_ms(&self) -> u64 {
        match () {
            () if self.max == 0 || self.resident < self.max / 2 => WEIGH_MS,
            () if self.refusing => WEIGH_SHORT_MS,
            () => WEIGH_OFTEN_MS,
        }
    }

    /// Whether it is short, or so much has come since it was measured that it may be.
    pub const fn is_scarce(&self) -> bool {
        self.refusing || self.max > 0 && self.gathered > self.max / 32
    }

    /// Bytes of messages after which a batch ends.
    pub const fn batch_bytes(&self) -> usize {
        if self.is_scarce() { BATCH_BYTES_SCARCE } else { BATCH_BYTES_MAX }
    }

    const fn high(&self) -> usize {
        self.max / 10 * 9
    }

    const fn low(&self) -> usize {
        self.max / 10 * 8
    }

    /// Above this, everybody is refused.
    const fn top(&self) -> usize {
        self.max / 100 * 93
    }

    /// Above this, something has to be done.
    const fn bound(&self) -> usize {
        if self.refusing { self.low() } else { self.high() }
    }

    /// Bytes of history that there is room for, of the `total` that are allowed.
    pub fn room_for_history(&self, total: usize) -> usize {
        if self.max == 0 { total } else { total.min(self.max / 2) }
    }

    /// What is in use, of `resident` bytes of which the server knows that it holds `held`.
    fn used(&mut self, now: Instant, resident: usize, held: usize) -> usize {
        if resident <= self.low() {
            // What it knew of then is not looked for: it is learned anew when there is more.
            (self.forgiven, self.highest) = (0, 0);
            return resident;
        }
        if resident > self.highest {
            self.highest = resident;
            self.overhead = resident.saturating_sub(held + self.forgiven);
        }
        if resident > self.steady.0 + self.max / 64 {
            self.steady = (resident, now);
        }
        if self.refusing && self.steady.1 + STEADY_MS <= now {
            let excess = (held + self.overhead).saturating_sub(self.low()).min(self.overhead);
            self.overhead -= excess;
            self.forgiven += excess;
        }
        resident.min(held + self.overhead)
    }

    /// Begins or stops to refuse, of which `used` bytes are in use.
    fn judge(&mut self, now: Instant, used: usize) {
        let was_refusing = self.refusing;
        self.refusing = used > self.bound();
        self.full = used > self.top();
        if self.refusing && !was_refusing {
            self.steady = (self.resident, now);
            // It may come and go; how it began has been said.
            log::debug!(
                "memory is short: strangers are refused what takes more of it; {used} bytes are in use"
            );
        }
        if self.refusing {
            self.short_at = Some(now);
        }
    }
}

/// What connections keep.
#[derive(Debug, Default)]
struct Kept {
    bytes: usize,
    /// Who keeps much, the largest last.
    large: Vec<(usize, Slot)>,
}

impl Server {
    /// Takes note of how much is held. To be called at the end of every turn.
    pub fn note_held(&mut self) {
        self.memory.held_now = self.held_bytes();
        self.memory.most_held = self.memory.most_held.max(self.memory.held_now);
    }

    /// Whether much more is held than when memory was last measured, so that it should be measured now.
    pub const fn is_heavier(&self) -> bool {
        let Memory { max, held_now, held, gathered, .. } = self.memory;
        max > 0 && held_now + gathered > held + max / 32
    }

    /// Whether a quarter of what was held has been let go, so that free memory should be given back to the system: the
    /// allocator keeps what lies between pieces in use, however much it is, and it may never be needed again. Costs
    /// next to nothing; giving back costs about as much as it took to free so many bytes.
    pub fn is_lighter(&self) -> bool {
        let Memory { held_now, most_held, resident, .. } = self.memory;
        held_now + GIVE_BACK_MIN.max(most_held / 4) <= most_held && resident <= GIVE_BACK_MAX
    }

    /// Takes note that free memory has been given back.
    pub const fn note_given_back(&mut self) {
        self.memory.most_held = self.memory.held_now;
    }

    /// Whether strangers are refused what takes memory.
    pub const fn is_refusing(&self) -> bool {
        self.memory.refusing
    }

    /// In how many milliseconds to call [`Server::note_memory`] again, if anything happens.
    pub const fn weigh_ms(&self) -> u64 {
        self.memory.weigh_ms()
    }

    /// Whether there is no memory for what a peer brings: a connection, or what does not arrive at once. The
    /// application's own programs come last.
    pub(super) fn is_short_for(&self, peer: IpAddr, admin: bool) -> bool {
        match self.memory.shortage() {
            Shortage::None => false,
            Shortage::Strangers => !admin && !is_exempt(peer, &self.config),
            Shortage::Everybody => !admin,
        }
    }

    /// The same of a connection that is there.
    #[cold]
    pub(super) fn is_short_on(&self, slot: Slot) -> bool {
        let connection = &self.connections[slot];
        self.is_short_for(connection.peer, connection.door == Door::Admin)
    }

    /// Takes note of how much memory of the process is resident, and sheds what exceeds the limit. To be called
    /// after [`Server::weigh_ms`] while anything happens, and when the server [`is_heavier`](Server::is_heavier).
    #[cold]
    pub fn note_memory(&mut self, now: Now, resident: usize) {
        let held = self.held_bytes();
        (self.memory.resident, self.memory.held, self.memory.gathered) = (resident, held, 0);
        if self.memory.max == 0 {
            return;
        }
        // Nobody is looked at while there is enough.
        let kept = if resident > self.memory.low() { self.kept() } else { Kept::default() };
        let mut used = self.memory.used(now.at, resident, held + kept.bytes);
        if used > self.memory.bound() {
            used = self.shed(now.at, used, kept);
        }
        self.memory.judge(now.at, used);
        self.broker.note_shortage(self.memory.shortage());
        if self.memory.short_at.is_some_and(|short_at| short_at + CALM_MS <= now.at) {
            self.memory.short_at = None;
            log::info!("memory is no longer short: {used} bytes are in use (limits.memory)");
        }
    }

    /// Lets go of what is too much of the `used` bytes that are in use, some of which connections have `kept`. Returns
    /// what is left.
    fn shed(&mut self, now: Instant, used: usize, mut kept: Kept) -> usize {
        let (low, keep) = (self.memory.low(), self.memory.max / 8);
        let excess = kept.bytes.saturating_sub(self.memory.max / UNREAD_SHARE);
        let mut left = used - self.close_largest(now, &mut kept, excess.min(used - low), false);
        // More may go than is resident: some may have been swapped out.
        if left > self.memory.bound() {
            left = left.saturating_sub(self.broker.hub.shed_idle(now, left - low));
        }
        if left > self.memory.bound() {
            left = left.saturating_sub(self.broker.hub.shed_heard(now, left - low, keep));
        }
        if left > self.memory.bound() {
            left = left.saturating_sub(self.close_largest(now, &mut kept, left - low, false));
        }
        if left > self.memory.top() {
            left = left.saturating_sub(self.close_largest(now, &mut kept, left - low, true));
        }
        self.begin_shortage(now, used, used - left.min(used));
        self.memory.held_now = self.held_bytes();
        self.memory.held = self.memory.held_now;
        left
    }

    /// Closes connections that keep most, until `bytes` of it have been let go; those of the application's own programs
    /// only if `all` may go. Returns how many bytes that were.
    fn close_largest(&mut self, now: Instant, kept: &mut Kept, bytes: usize, all: bool) -> usize {
        let most = bytes.min(UNREAD_AT_ONCE);
        let (mut freed, mut closed) = (0, 0_u64);
        let mut spared = Vec::new();
        while freed < most
            && let Some(of @ (_, slot)) = kept.large.pop()
        {
            let connection = &self.connections[slot];
            let is_own = connection.door == Door::Admin || self.payer(slot).is_none();
            // What the application sends is refused when it goes on, with a word.
            if is_own && !(all && connection.output.is_some()) {
                spared.push(of);
                continue;
            }
            let why = format!("memory is short, and {} bytes were kept for it (limits.memory)", of.0);
            self.close_quietly(now, slot, why);
            freed += of.0;
            closed += 1;
        }
        kept.large.extend(spared.into_iter().rev());
        if closed > 0 {
            self.broker.stats.connections_shed += closed;
            log::debug!(
                "memory is short: {closed} connections that had left most unread, or incomplete, are closed; \
                 {freed} bytes were kept for them (limits.memory)"
            );
        }
        freed
    }

    /// Says so, once, when memory becomes short.
    fn begin_shortage(&mut self, now: Instant, used: usize, shed: usize) {
        if self.memory.short_at.replace(now).is_none() {
            self.broker.stats.memory_shortages += 1;
            let max = self.memory.max;
            log::warn!(
                "memory becomes short: {used} of {max} bytes (limits.memory) are in use; what is left unread goes, and \
                 history, that of channels without subscribers first, to begin with {shed} bytes; while that does not \
                 suffice, strangers are refused what takes memory"
            );
        }
    }

    /// What connections keep of what has arrived in part, and of what clients have not taken yet.
    fn kept(&self) -> Kept {
        let mut kept = Kept::default();
        for (slot, connection) in self.connections.iter() {
            let bytes = self.kept_by(slot, connection);
            kept.bytes += bytes;
            if bytes >= UNREAD_MIN {
                kept.large.push((bytes, slot));
            }
        }
        // The largest last, of those the oldest place.
        kept.large.sort_unstable_by_key(|&(bytes, slot)| (bytes, Reverse(slot)));
        kept
    }

    fn kept_by(&self, slot: Slot, connection: &Connection) -> usize {
        let mut bytes = connection.input.as_ref().map_or(0, |input| input.kept_bytes());
        if !self.aside.incoming.is_empty() {
            bytes += self.aside.incoming.get(&slot).map_or(0, |incoming| incoming.reader.payload_len());
        }
        let Some(output) = &connection.output else { return bytes };
        // A message that history has let go of stays as long as somebody has to take something of it, in all its forms.
        let own = |message: &Rc<Message>| match self.broker.hub.keeps(&message.channel, message.id.seq) {
            true => 0,
            false => (message.cost() + message.frames_cost()) / Rc::strong_count(message),
        };
        bytes + output.own_bytes() + output.messages().map(own).sum::<usize>()
    }

    /// Bytes that the server knows it holds beside these. Costs next to nothing.
    fn held_bytes(&self) -> usize {
        self.broker.hub.bytes()
            + self.broker.remembered_bytes()
            + self.connections.len() * CONNECTION_BYTES
            + self.dialects.sessions() * SESSION_BYTES
    }
}
