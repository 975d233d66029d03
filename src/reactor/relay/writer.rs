//! The thread that writes: takes what has come, has it numbered in one call, and knows what to do where that fails.

use super::link::{self, Link};
use super::pace::{Pace, WRITE};
use super::scripts::{self, Outcome, Scripts};
use super::state::State;
use super::{Settings, Tell, Told};
use crate::id::{Epoch, Seed, Seq};
use crate::log::{BEAT_MS, Condition, Opening, Proposal, Refusal, Ticket};
use redis::RedisError;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// Proposals of one batch, and bytes unless a single one has more.
const BATCH: usize = 1024;
const BATCH_BYTES: usize = 256 << 10;
/// How long it is waited until the next attempt, at first and at most.
const WAIT_MS: std::ops::RangeInclusive<u64> = 20..=500;

/// How soon it is tried again whether Redis takes something, after it did not.
const REFUSED_BEAT: Duration = Duration::from_secs(1);
/// Why something is refused that had been taken.
const LOST: &str = "the shared history lost it";

/// What waits, and since when.
struct Waiting {
    proposal: Proposal,
    since: Instant,
}

/// The writer.
pub struct Writer {
    settings: Settings,
    scripts: Scripts,
    state: Arc<State>,
    orders: Receiver<Proposal>,
    tell: Tell,
    link: Option<Link>,
    /// Under which name the history is known; before it is found, under which it would begin.
    seed: Seed,
    is_known: bool,
    queue: VecDeque<Waiting>,
    /// The serial number of the last batch.
    serial: u64,
    /// That of the last batch that was sent.
    sent: u64,
    /// Of the last batch it is not known whether it was taken: so many at the front of the queue.
    doubtful: usize,
    beat_at: Instant,
    pace: Pace,
    /// When something was written last.
    written_at: Instant,
    wait_ms: u64,
    /// The reactor is no more.
    ended: bool,
}

impl Writer {
    /// A writer that has not begun.
    pub fn new(settings: Settings, state: Arc<State>, orders: Receiver<Proposal>, tell: Tell) -> Self {
        let now = Instant::now();
        Self {
            scripts: Scripts::new(&settings),
            seed: settings.fresh,
            is_known: false,
            settings,
            state,
            orders,
            tell,
            link: None,
            queue: VecDeque::new(),
            serial: 0,
            sent: 0,
            doubtful: 0,
            beat_at: now,
            pace: Pace::new(WRITE, now),
            written_at: now,
            wait_ms: *WAIT_MS.start(),
            ended: false,
        }
    }

    /// Works until the reactor is no more.
    pub fn run(mut self) {
        loop {
            match self.link.take() {
                None => self.attach(),
                Some(link) => {
                    self.wait();
                    self.work(link);
                }
            }
            if self.ended && (self.queue.is_empty() || self.link.is_none()) {
                return self.leave();
            }
        }
    }

    /// Looks for the history.
    fn attach(&mut self) {
        // Whatever of ours is still under way is too late from now on.
        self.serial += 1;
        let known = self.state.known();
        match link::attach(&self.settings, &self.scripts, self.seed, known, self.serial) {
            Ok((link, found)) => self.begin(link, found),
            Err(error) => {
                self.away(&link::why(&error));
                self.pause();
            }
        }
    }

    /// Goes on with a history that was found.
    fn begin(&mut self, mut link: Link, found: scripts::Found) {
        let (epoch, secret) = found.seed;
        if self.is_known && epoch != self.seed.epoch {
            let why = format!(
                "the engine has another history now ({epoch} instead of {}): this server begins anew with it",
                self.seed.epoch
            );
            (self.tell)(Told::Condition(Condition::Failed(why)));
            self.ended = true;
            return;
        }
        if let Err(error) = self.exchange_revocations(&mut link) {
            self.away(&link::why(&error));
            return self.pause();
        }
        if let Err(error) = link.connection.set_read_timeout(Some(self.settings.patience)) {
            return self.away(&link::why(&error));
        }
        if !std::mem::replace(&mut self.is_known, true) {
            self.open(epoch, secret, &found);
        }
        let (serial, last) = found.before;
        let settled = (serial == self.sent).then(|| (self.settle_doubt(), last));
        self.doubtful = 0;
        let lost = self.state.attach(&found, settled);
        self.refuse(lost, LOST);
        (self.beat_at, self.wait_ms) = (Instant::now(), *WAIT_MS.start());
        self.link = Some(link);
    }

    fn open(&mut self, epoch: Epoch, secret: u128, found: &scripts::Found) {
        self.seed = Seed { epoch, secret };
        let opening = Opening {
            epoch,
            secret,
            next: found.last + 1,
            lost: 0,
            watermark: found.first - 1,
            time: found.time,
        };
        (self.tell)(Told::Opened(opening));
        let revoked = self.state.revoked(unix()).into_values().map(|(text, _)| text).collect();
        (self.tell)(Told::Revoked(revoked));
    }

    /// Reads which rights were taken back, and puts those there that are missing, as the history may have been lost.
    fn exchange_revocations(&self, link: &mut Link) -> Result<(), RedisError> {
        let key = format!("{}revoked", self.scripts.prefix);
        let there: Vec<(String, String)> = redis::cmd("HGETALL").arg(&key).query(&mut link.connection)?;
        let mut ours = self.state.revoked(unix());
        for (name, value) in there {
            let Some((lapses, text)) = value.split_once(' ') else { continue };
            let lapses = lapses.parse().unwrap_or(0);
            ours.remove(&name);
            match lapses > unix() {
                true => self.state.note_revoked(name, text.into(), lapses),
                false => redis::cmd("HDEL").arg(&key).arg(name).query(&mut link.connection)?,
            }
        }
        for (name, (text, lapses)) in ours {
            let value = format!("{lapses} {text}");
            redis::cmd("HSET").arg(&key).arg(name).arg(value).query::<()>(&mut link.connection)?;
        }
        Ok(())
    }

    /// A batch of which it was not known whether it was taken is in the stream: the tail brings it. Returns the proposals. What
    /// was proposed with a key is proposed again, as it may have been a repeat, which is not there.
    fn settle_doubt(&mut self) -> Vec<Ticket> {
        let (mut again, mut tickets) = (VecDeque::new(), Vec::new());
        for waiting in self.queue.drain(..self.doubtful.min(self.queue.len())) {
            let is_plain = waiting.proposal.answered.is_none() && waiting.proposal.seen.is_none();
            match is_plain {
                true => tickets.push(waiting.proposal.ticket),
                false => again.push_back(waiting),
            }
        }
        again.append(&mut self.queue);
        self.queue = again;
        tickets
    }

    /// Waits for something to do, until the next beat.
    fn wait(&mut self) {
        if self.queue.is_empty() {
            self.receive(self.beat_at.saturating_duration_since(Instant::now()));
        }
        thread::sleep(self.pace.wait(self.written_at, Instant::now()));
        self.take_rest();
    }

    /// Waits until it is worth trying again.
    fn pause(&mut self) {
        let until = Instant::now() + Duration::from_millis(self.wait_ms);
        self.wait_ms = (2 * self.wait_ms).min(*WAIT_MS.end());
        while !self.ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let due = self.queue.front().map(|waiting| waiting.since + self.settings.patience);
            let due = due.map_or(left, |due| due.saturating_duration_since(Instant::now()));
            self.receive(left.min(due));
            self.lose_patience();
        }
    }

    fn receive(&mut self, wait: Duration) {
        match self.orders.recv_timeout(wait) {
            Ok(proposal) => self.queue.push_back(Waiting { proposal, since: Instant::now() }),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.ended = true,
        }
    }

    fn take_rest(&mut self) {
        let now = Instant::now();
        self.queue.extend(self.orders.try_iter().map(|proposal| Waiting { proposal, since: now }));
    }

    /// Refuses what has waited for too long.
    fn lose_patience(&mut self) {
        let mut tickets = Vec::new();
        while let Some(waiting) = self.queue.front()
            && waiting.since.elapsed() >= self.settings.patience
        {
            tickets.push(waiting.proposal.ticket);
            self.doubtful = self.doubtful.saturating_sub(1);
            self.queue.pop_front();
        }
        self.refuse(tickets, "the shared history cannot be reached");
    }

    fn refuse(&self, tickets: Vec<Ticket>, why: &str) {
        if !tickets.is_empty() {
            (self.tell)(Told::Refused { tickets, why: Refusal(why.to_owned()) });
        }
    }

    fn away(&self, why: &str) {
        if self.state.note_away(why) {
            (self.tell)(Told::Condition(Condition::Away(why.to_owned())));
        }
    }

    /// Writes what waits, and a beat if it is time.
    fn work(&mut self, mut link: Link) {
        if self.state.is_beat_lost() {
            return self.away("what is written does not come back");
        }
        let mut bytes = 0;
        let count = self.queue.iter().take(BATCH).take_while(|waiting| {
            let is_first = bytes == 0;
            bytes += waiting.proposal.bytes();
            is_first || bytes <= BATCH_BYTES
        });
        let count = count.count();
        let beat =
            (self.beat_at <= Instant::now()).then(|| scripts::beat(&self.settings, self.state.begin_beat()));
        if beat.is_some() {
            self.beat_at = Instant::now() + Duration::from_millis(BEAT_MS);
        }
        let batch: Vec<&Proposal> =
            self.queue.iter().take(count).map(|waiting| &waiting.proposal).chain(&beat).collect();
        if batch.is_empty() {
            self.link = Some(link);
            return;
        }
        self.serial += 1;
        self.sent = self.serial;
        let began = Instant::now();
        let records = batch.iter().map(|proposal| proposal.records.len() as u64).sum();
        self.pace.note(began, records);
        // What is left over is written at once.
        if count == self.queue.len() {
            self.written_at = began;
        }
        let Link { connection, run } = &mut link;
        let numbered = (self.serial, self.state.keep());
        match self.scripts.append(connection, run, &self.settings, numbered, &batch) {
            Ok((outcomes, last)) => {
                self.link = Some(link);
                self.settle(&outcomes[..count], last, began.elapsed());
            }
            Err(error) => self.fail(link, &error, count),
        }
    }

    /// Tells what the tail does not bring.
    fn settle(&mut self, outcomes: &[Outcome], last: Seq, took: Duration) {
        let taken: Vec<Waiting> = self.queue.drain(..outcomes.len()).collect();
        let mut tickets = Vec::with_capacity(taken.len());
        for (waiting, outcome) in taken.iter().zip(outcomes) {
            let ticket = waiting.proposal.ticket;
            match outcome {
                Outcome::Taken => tickets.push(ticket),
                Outcome::Repeated(first, answer) => {
                    // A half that loses may have given it out, and this server never come to read it.
                    self.state.note_told(*first + waiting.proposal.records.len().saturating_sub(1) as Seq);
                    (self.tell)(Told::Repeated { ticket, first: *first, answer: answer.clone() });
                }
                Outcome::Outdated => _ = (self.tell)(Told::Outdated(ticket)),
            }
        }
        let newest = taken.last().map(|waiting| waiting.proposal.ticket).unwrap_or_default();
        let lost = self.state.note_taken(tickets, newest, last, took);
        self.refuse(lost, LOST);
    }

    /// A batch was not taken, or it is not known whether it was.
    fn fail(&mut self, link: Link, error: &RedisError, count: usize) {
        let code = error.code().unwrap_or_default();
        // Before version 7, what fails inside a script has the script's code.
        let is_full = code == "OOM" || error.detail().is_some_and(|detail| detail.contains("-OOM "));
        match code {
            // Another run, or somebody else's fence: the history is looked for at once.
            "ATTACH" => {}
            // There is no room, or it must not be written now. Nothing of it has happened.
            _ if is_full || matches!(code, "MISCONF" | "NOREPLICAS" | "NOPERM") => {
                let why = link::why(error);
                self.away(&why);
                let tickets = self.queue.drain(..count).map(|waiting| waiting.proposal.ticket).collect();
                self.refuse(tickets, &why);
                self.beat_at = Instant::now() + REFUSED_BEAT;
                self.link = Some(link);
            }
            _ => {
                self.doubtful = count;
                if !code.is_empty() {
                    self.away(&link::why(error));
                }
                self.lose_patience();
            }
        }
    }

    /// The process leaves: the others are told, if that is possible.
    fn leave(mut self) {
        if let Some(Link { mut connection, run }) = self.link.take() {
            let numbered = (self.serial + 1, self.state.keep());
            let leaving = scripts::leaving(&self.settings);
            _ = self.scripts.append(&mut connection, &run, &self.settings, numbered, &[&leaving]);
        }
    }
}

/// The second since 1970.
fn unix() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
