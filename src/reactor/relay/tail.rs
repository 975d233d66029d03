//! The thread that reads the stream: from the first entry that is kept, then from its cursor, whatever happens to the
//! connection.

use super::link;
use super::pace::{Pace, READ};
use super::scripts::{self, BEATS, Scripts};
use super::state::State;
use super::{Settings, Tell, Told};
use crate::id::Seq;
use crate::log::{Condition, Entry, Jump, Proposal, Record, Refusal, Tail, Ticket};
use redis::{Connection, RedisResult, Value};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Entries that are read at once. Each has a quarter of a megabyte at most, or one publication.
const COUNT: usize = 64;
/// Milliseconds that Redis holds a read back for news.
const BLOCK_MS: usize = 1000;
/// How long an answer may take: longer than that.
const ANSWER: Duration = Duration::from_secs(3);
/// How long it is waited until the next attempt.
const WAIT: Duration = Duration::from_millis(100);

/// The reader.
pub struct TailReader {
    settings: Settings,
    scripts: Scripts,
    state: Arc<State>,
    tell: Tell,
    /// The last number that was read.
    cursor: Seq,
    /// Until it comes to this one, what it reads was there before us.
    loads_to: Option<Seq>,
    pace: Pace,
    /// When something was read last.
    read_at: Instant,
}

impl TailReader {
    /// A reader that has not begun.
    pub fn new(settings: Settings, state: Arc<State>, tell: Tell) -> Self {
        let scripts = Scripts::new(&settings);
        let now = Instant::now();
        Self {
            settings,
            scripts,
            state,
            tell,
            cursor: 0,
            loads_to: None,
            pace: Pace::new(READ, now),
            read_at: now,
        }
    }

    /// Reads until the process leaves.
    pub fn run(mut self) {
        let Some((first, last)) = self.state.wait() else { return };
        self.cursor = first - 1;
        self.loads_to = Some(last);
        while !self.state.is_ended() {
            let generation = self.state.generation();
            self.go_back();
            // If it does not come back, the writer notices.
            if let Ok(mut connection) = link::connect(&self.settings, ANSWER) {
                while self.state.generation() == generation && !self.state.is_ended() {
                    if !self.read(&mut connection).unwrap_or(false) {
                        break;
                    }
                }
            }
            if self.state.generation() == generation {
                thread::sleep(WAIT);
            }
        }
    }

    /// Goes back where what was read is not history any more.
    fn go_back(&mut self) {
        let (parting, lost) = self.state.go_back();
        if let Some(after) = parting {
            log::warn!(
                "engine: what this server has read after number {after} is not history; it is read anew from there"
            );
            self.cursor = after;
            let entries = vec![Entry { seq: after, record: Record::Lost(after) }];
            let tail = Tail { entries, ..Tail::default() };
            (self.tell)(Told::Tails(vec![tail], Box::new(self.state.figures())));
        }
        self.refuse(lost);
    }

    fn refuse(&self, tickets: Vec<Ticket>) {
        if !tickets.is_empty() {
            let why = Refusal("the shared history lost it".to_owned());
            (self.tell)(Told::Refused { tickets, why });
        }
    }

    /// Reads what comes next. Returns whether it goes on from what was read: else the writer has to find the history anew.
    fn read(&mut self, connection: &mut Connection) -> RedisResult<bool> {
        if self.loads_to.is_some_and(|last| self.cursor >= last) {
            self.loads_to = None;
            (self.tell)(Told::Condition(Condition::Ready));
        }
        thread::sleep(self.pace.wait(self.read_at, Instant::now()));
        let mut ask = redis::cmd("XREAD");
        ask.arg("COUNT").arg(COUNT);
        if self.loads_to.is_none() {
            ask.arg("BLOCK").arg(BLOCK_MS);
        }
        let answer: Value =
            ask.arg("STREAMS").arg(&self.scripts.log).arg(format!("{}-0", self.cursor)).query(connection)?;
        let entries = scripts::entries(answer)?;
        if entries.is_empty() {
            // Nothing is left of what was there a moment ago: the jump that follows tells so.
            if self.loads_to.is_some() {
                thread::sleep(WAIT);
            }
            return Ok(true);
        }
        self.note_pace(&entries);
        let (mut tails, mut refused, mut is_well) = (Vec::with_capacity(entries.len()), Vec::new(), false);
        let mut is_elsewhere = false;
        for entry in entries {
            // Nearly always one follows the other.
            if entry.first <= self.cursor && self.state.is_elsewhere(entry.first, entry.lost) {
                is_elsewhere = true;
                break;
            }
            refused.extend(self.take(entry, &mut tails, &mut is_well));
        }
        if !tails.is_empty() {
            (self.tell)(Told::Tails(tails, Box::new(self.state.figures())));
        }
        self.refuse(refused);
        if is_well {
            (self.tell)(Told::Condition(Condition::Well));
        }
        Ok(!is_elsewhere)
    }

    fn note_pace(&mut self, entries: &[scripts::Entry]) {
        let now = Instant::now();
        let records =
            |entry: &scripts::Entry| if entry.lost.is_some() { 0 } else { entry.last + 1 - entry.first };
        self.pace.note(now, entries.iter().map(records).sum());
        // Whoever is behind reads on.
        if entries.len() < COUNT {
            self.read_at = now;
        }
    }

    /// Takes an entry. Returns which proposals of ours are lost.
    fn take(&mut self, entry: scripts::Entry, tails: &mut Vec<Tail>, is_well: &mut bool) -> Vec<Ticket> {
        let scripts::Entry { last, first, at, node, bytes, lost } = entry;
        if last <= self.cursor {
            return Vec::new();
        }
        // What lies between was trimmed before we came there, or is lost.
        if first > self.cursor + 1 {
            let record = Record::Lost(self.cursor);
            tails.push(Tail { at, entries: vec![Entry { seq: first - 1, record }], own: Vec::new() });
        }
        let mut tail = Tail { at, entries: Vec::new(), own: Vec::new() };
        let is_ours = node == self.settings.node.to_string().as_bytes();
        match lost {
            Some(after) => {
                self.state.note_jump(Jump { to: last, after });
                tail.entries.push(Entry { seq: last, record: Record::Lost(after) });
            }
            None => {
                if !self.decode(&bytes, (first, last), is_ours, &mut tail, is_well) {
                    log::error!(
                        "engine: the entry of number {last} cannot be read, another version may have written it; \
                         it is told as a gap"
                    );
                    let record = Record::Lost(first - 1);
                    tail = Tail { at, entries: vec![Entry { seq: last, record }], own: Vec::new() };
                }
            }
        }
        let count = if lost.is_some() { 0 } else { last + 1 - first };
        self.cursor = last;
        let brought: Vec<Ticket> = tail.own.iter().map(|(ticket, _)| *ticket).collect();
        tails.push(tail);
        self.state.note_read(at.0, last, count, &brought)
    }

    /// Reads the proposals of an entry. Returns whether that was possible.
    fn decode(
        &self,
        mut bytes: &[u8],
        (first, last): (Seq, Seq),
        is_ours: bool,
        tail: &mut Tail,
        is_well: &mut bool,
    ) -> bool {
        let mut next = first;
        while !bytes.is_empty() {
            let Ok((ticket, records)) = Proposal::read(&mut bytes) else { return false };
            match is_ours {
                true if ticket >= BEATS => *is_well |= self.state.end_beat(ticket.0 - BEATS.0),
                true => tail.own.push((ticket, next)),
                false => {}
            }
            for record in records {
                if let Record::Revoked { text, lapses } = &record {
                    self.state.note_revoked(scripts::digest(&[text]), text.clone(), *lapses);
                }
                tail.entries.push(Entry { seq: next, record });
                next += 1;
            }
        }
        next == last + 1
    }
}
