//! The memory of the process, and what is done when it becomes short.
//!
//! What counts is what is resident, as that is what the system kills for. What is given back to the allocator often
//! stays resident and is used again, though: so memory is taken to be what the server holds (history, channels,
//! subscribers, sessions, connections, what arrives in pieces) and, beyond that, as much as there was when most was
//! resident. What that is nobody knows: if it makes connections be refused and has not grown for a while, it is
//! taken to be the allocator's and forgiven, as a shortage that does not end helps nobody.
//!
//! History takes half of `limits.memory` at most, whatever `history.total_bytes` allows. Above nine tenths, history of
//! channels without subscribers goes, the oldest first, until eight tenths are left; then that of all channels, except
//! for an eighth, which is not what makes memory short. If that does not suffice, new connections are refused until it
//! does, and with them what has not arrived whole: bodies, and messages of WebSockets. Batches are smaller then, as
//! each is its client's own, and less may be pipelined. What is on its way to those who
//! are connected is delivered in any case.

use super::Server;
use crate::conn::Connection;
use crate::time::{Instant, Now};
use crate::transport::poll::BATCH_BYTES_MAX;

/// Bytes of messages after which a batch ends while memory is scarce.
pub const BATCH_BYTES_SCARCE: usize = 64 << 10;
/// Bytes that a connection takes, with its subscriber and what the kernel interface needs.
const CONNECTION_BYTES: usize = 160;
/// Bytes that a session of a protocol takes beside its subscriber.
const SESSION_BYTES: usize = 320;
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
    /// New connections are refused.
    refusing: bool,
    /// When it was last short, until that is over.
    short_at: Option<Instant>,
}

impl Memory {
    /// Room for `max` bytes; 0 = any number of them.
    pub const fn new(max: usize) -> Self {
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
            short_at: None,
        }
    }

    /// Whether new connections are refused, and what arrives in pieces.
    pub const fn is_short(&self) -> bool {
        self.refusing
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
        if self.forgiven > 0 && resident <= self.low() {
            (self.forgiven, self.highest) = (0, 0);
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
        if self.refusing && !was_refusing {
            self.steady = (self.resident, now);
            log::warn!(
                "memory is short: new connections are refused; {used} bytes are in use (limits.memory)"
            );
        }
        if self.refusing {
            self.short_at = Some(now);
        }
    }
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

    /// Whether new connections are refused because memory is short.
    pub const fn is_refusing(&self) -> bool {
        self.memory.is_short()
    }

    /// Takes note of how much memory of the process is resident, and sheds what exceeds the limit. To be called
    /// once a second while anything happens, and when the server [`is_heavier`](Server::is_heavier).
    #[cold]
    pub fn note_memory(&mut self, now: Now, resident: usize) {
        let held = self.held_bytes();
        (self.memory.resident, self.memory.held, self.memory.gathered) = (resident, held, 0);
        if self.memory.max == 0 {
            return;
        }
        let swept = self.buffered_bytes() + self.broker.hub.membership_bytes();
        let mut used = self.memory.used(now.at, resident, held + swept);
        if used > self.memory.bound() {
            used = self.shed(now.at, used);
        }
        self.memory.judge(now.at, used);
        if self.memory.short_at.is_some_and(|short_at| short_at + CALM_MS <= now.at) {
            self.memory.short_at = None;
            log::info!("memory is no longer short: {used} bytes are in use (limits.memory)");
        }
    }

    /// Throws history away, of `used` bytes that are in use as many as are too many. Returns what is left.
    fn shed(&mut self, now: Instant, used: usize) -> usize {
        let (low, keep) = (self.memory.low(), self.memory.max / 8);
        // More may go than is resident: some may have been swapped out.
        let idle = self.broker.hub.shed_idle(now, used - low);
        let mut left = used.saturating_sub(idle);
        if left > self.memory.bound() {
            left = left.saturating_sub(self.broker.hub.shed_heard(now, left - low, keep));
        }
        self.begin_shortage(now, used, used - left);
        self.memory.held_now = self.held_bytes();
        self.memory.held = self.memory.held_now;
        left
    }

    /// Says so, once, when memory becomes short.
    fn begin_shortage(&mut self, now: Instant, used: usize, shed: usize) {
        if self.memory.short_at.replace(now).is_none() {
            self.broker.stats.memory_shortages += 1;
            let max = self.memory.max;
            log::warn!(
                "memory becomes short: {used} of {max} bytes (limits.memory) are in use; history is thrown away, \
                 that of channels without subscribers first, to begin with {shed} bytes"
            );
        }
    }

    /// Bytes of what has arrived in part, and of what clients have not taken yet.
    fn buffered_bytes(&self) -> usize {
        let of_one = |connection: &Connection| {
            let input = connection.input.as_ref().map_or(0, |input| input.kept_len());
            input + connection.output.as_ref().map_or(0, |output| output.own_len())
        };
        let incoming = self.incoming.values().map(|incoming| incoming.reader.payload_len());
        self.connections.iter().map(|(_, connection)| of_one(connection)).sum::<usize>()
            + incoming.sum::<usize>()
    }

    /// Bytes that the server knows it holds beside these. Costs next to nothing.
    fn held_bytes(&self) -> usize {
        self.broker.hub.bytes()
            + self.broker.remembered_bytes()
            + self.connections.len() * CONNECTION_BYTES
            + self.dialects.sessions() * SESSION_BYTES
    }
}
