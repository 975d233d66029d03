//! The application's word: where rules say `hook`, the application is asked.
//!
//! ```text
//! request ─▶ judge ─▶ a question? ─▶ said before? remembered? ─▶ judged by it
//!                         │ no
//!                         ▼
//!     bytes wait, Hook::ask ─▶ queue ─▶ Question to ask ─▶ a thread that may wait ─▶ Hook::answered ─▶ the same bytes again
//! ```
//!
//! Nothing here waits, and nothing is a closure: what waits is the name of a connection, whose bytes are handled again
//! when the application has said something, when its time is over, or when its client has left. Equal questions are
//! asked once. A revocation or other settings make what is under way worthless: it is asked again.

mod answer;
mod listeners;
mod memory;
mod waiters;

pub use answer::{BODY_BYTES_MAX, Reply};
pub use listeners::Due;

use super::{Denial, Holder};
use crate::broker::access::{Grant, Question, Word};
use crate::broker::{Client, network};
use crate::carry::{carry, resume};
use crate::config::Config;
use crate::conn::ConnId;
use crate::hub::PRESENCE;
use crate::id::{Secrets, Seed};
use crate::stats::Stats;
use crate::time::{Instant, Now};
use listeners::Listeners;
use memory::Memory;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use waiters::{Waiters, Waiting};

/// Milliseconds between two log lines about an application that does not answer.
const COMPLAINT_MS: u64 = 60_000;
/// Bounds of the classes that durations of questions are counted in, in milliseconds.
pub const BUCKETS_MS: [u64; 10] = [1, 2, 5, 10, 25, 50, 100, 250, 1000, 5000];
/// After a reload, everybody who listens is asked about within so many milliseconds, and one more for each.
const AGAIN_MS: u64 = 1000;

/// A question that is to be asked now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Its number, by which it is answered.
    pub number: u64,
    /// What the application is sent.
    pub body: Vec<u8>,
    /// When nobody waits for the answer any more.
    pub deadline: Instant,
}

carry! {
    struct Ask { number, body, deadline }
}

/// How long the application took, counted.
#[derive(Debug, Default)]
pub struct Times {
    /// Answers of each class of [`BUCKETS_MS`], and those that took longer.
    pub classes: [u64; BUCKETS_MS.len() + 1],
    /// Milliseconds in all.
    pub sum_ms: u64,
}

/// Whether who listens to the channels `listened` listens to `name`, or to who is there.
pub fn is_among(listened: &[Rc<str>], name: &str) -> bool {
    listened.iter().any(|listened| **listened == *name || listened.strip_prefix(PRESENCE) == Some(name))
}

impl Times {
    fn note(&mut self, ms: u64) {
        let class = BUCKETS_MS.iter().position(|bound| ms <= *bound).unwrap_or(BUCKETS_MS.len());
        self.classes[class] += 1;
        self.sum_ms += ms;
    }
}

/// What the application is asked, and has said.
#[derive(Debug)]
pub struct Hook {
    timeout_ms: u64,
    concurrency: usize,
    cache_seconds: u64,
    draws: Secrets,
    /// The number of the newest question.
    newest: u64,
    open: BTreeMap<u64, Open>,
    numbers: BTreeMap<Rc<Question>, u64>,
    /// Questions of those who wait, and questions about those who listen, which must not stand behind the others.
    at_door: VecDeque<u64>,
    about_listeners: VecDeque<u64>,
    /// Whose turn it is.
    is_listeners_turn: bool,
    under_way: usize,
    asks: VecDeque<Ask>,
    /// Whose bytes wait.
    waiters: Waiters,
    /// What those may know whose bytes are handled again.
    said: BTreeMap<ConnId, Vec<Said>>,
    /// Whose bytes are to be handled again.
    ready: Vec<ConnId>,
    /// Who is to hear what the question about it came to.
    confirmed: Vec<(Holder, Rc<Word>)>,
    memory: Memory,
    /// Who listens by what was said.
    pub listeners: Listeners,
    /// All of them are to be asked about.
    asks_all: bool,
    /// How long it took.
    pub times: Times,
    complained: Option<Instant>,
}

resume! {
    Hook {
        carried: said, listeners;
        resumed: draws;
        // What is under way, and what was remembered, is asked again.
        given: timeout_ms, concurrency, cache_seconds, newest, open, numbers, at_door, about_listeners,
            is_listeners_turn, under_way, asks, waiters, ready, confirmed, memory, asks_all, times, complained
    }
}

/// A question, and what it came to; none = nothing was said in time.
type Said = (Rc<Question>, Option<Rc<Word>>);

/// A question that is not answered yet.
#[derive(Debug)]
struct Open {
    question: Rc<Question>,
    /// Whose bytes wait.
    waiting: Vec<ConnId>,
    /// Who listens, and goes on meanwhile.
    about: Vec<Holder>,
    /// When it was sent, if it was.
    sent: Option<Now>,
    /// What comes back does not count: it was asked before a revocation, or before other settings.
    is_stale: bool,
}

impl Hook {
    /// Nothing has been asked.
    pub fn new(config: &Config, seed: Seed) -> Self {
        let hook = &config.hook;
        Self {
            timeout_ms: hook.timeout_ms,
            concurrency: hook.concurrency,
            cache_seconds: hook.cache_seconds,
            draws: Secrets::new(seed.key("when the application is asked again")),
            newest: 0,
            open: BTreeMap::new(),
            numbers: BTreeMap::new(),
            at_door: VecDeque::new(),
            about_listeners: VecDeque::new(),
            is_listeners_turn: false,
            under_way: 0,
            asks: VecDeque::new(),
            waiters: Waiters::new(config.limits.judged_waiting, config.limits.judged_bytes),
            said: BTreeMap::new(),
            ready: Vec::new(),
            confirmed: Vec::new(),
            memory: Memory::new(config.limits.judged_remembered),
            listeners: Listeners::default(),
            asks_all: false,
            times: Times::default(),
            complained: None,
        }
    }

    /// Takes other settings: what was said before does not count for what comes, and those who listen by it are asked
    /// about again.
    pub fn reconfigure(&mut self, config: &Config) {
        let hook = &config.hook;
        (self.timeout_ms, self.concurrency) = (hook.timeout_ms, hook.concurrency);
        self.cache_seconds = hook.cache_seconds;
        self.waiters.reconfigure(config.limits.judged_waiting, config.limits.judged_bytes);
        self.memory = Memory::new(config.limits.judged_remembered);
        self.forget_said();
        self.asks_all = !self.listeners.is_empty();
    }

    /// Forgets what was said: a right was taken back, or the settings are others.
    pub fn forget_said(&mut self) {
        self.memory.clear();
        // That they were asked about stays.
        self.said.values_mut().for_each(Vec::clear);
        self.confirmed.clear();
        self.open.values_mut().filter(|open| open.sent.is_some()).for_each(|open| open.is_stale = true);
    }

    /// What the application has said to `question`, as far as it is known for whoever asks on the connection `from`;
    /// the inner `None` = it has said nothing, and nobody waits for it any longer.
    pub fn known(
        &self,
        now: Instant,
        from: ConnId,
        question: &Question,
        stats: &mut Stats,
    ) -> Option<Option<Rc<Word>>> {
        let said = self.said.get(&from).and_then(|all| all.iter().find(|(about, _)| **about == *question));
        if let Some((_, word)) = said {
            return Some(word.clone());
        }
        let word = self.memory.find(now, question)?;
        stats.questions_remembered += 1;
        Some(Some(word))
    }

    /// Whether something was said to whoever asks on that connection, and its bytes have not been handled yet.
    pub fn has_said(&self, from: ConnId) -> bool {
        self.said.contains_key(&from)
    }

    /// Has the application asked, while `bytes` bytes of the connection `from` wait.
    pub fn ask(
        &mut self,
        now: Now,
        (from, client): (ConnId, Client),
        question: Question,
        bytes: usize,
    ) -> Result<(), Denial> {
        let address = client.counted.then(|| network(client.address));
        self.waiters.check_room(address, bytes)?;
        let number = self.open(Rc::new(question), false);
        let deadline = now.at + self.timeout_ms;
        self.forget_waiting(from);
        if let Some(open) = self.open.get_mut(&number) {
            open.waiting.push(from);
        }
        self.waiters.enter(from, Waiting { number, deadline, address, bytes });
        self.send(now);
        Ok(())
    }

    /// Has the application asked again about somebody who listens to the channels `listened`.
    pub fn ask_again(&mut self, now: Now, holder: Holder, listened: &[Rc<str>]) {
        let is_listened = |name: &str| is_among(listened, name);
        let Some(question) = self.listeners.question(holder, is_listened) else { return };
        let number = self.open(Rc::new(question), true);
        if let Some(open) = self.open.get_mut(&number) {
            open.about.push(holder);
        }
        self.listeners.asked(holder, number);
        self.send(now);
    }

    /// The number of a question that is open from now on.
    fn open(&mut self, question: Rc<Question>, is_about_listener: bool) -> u64 {
        if let Some(number) = self.numbers.get(&question) {
            return *number;
        }
        self.newest += 1;
        self.numbers.insert(Rc::clone(&question), self.newest);
        let open = Open { question, waiting: Vec::new(), about: Vec::new(), sent: None, is_stale: false };
        self.open.insert(self.newest, open);
        let queue = if is_about_listener { &mut self.about_listeners } else { &mut self.at_door };
        queue.push_back(self.newest);
        self.newest
    }

    /// Sends what may be sent.
    fn send(&mut self, now: Now) {
        while self.under_way < self.concurrency {
            self.is_listeners_turn = !self.is_listeners_turn;
            let (first, second) = match self.is_listeners_turn {
                true => (&mut self.about_listeners, &mut self.at_door),
                false => (&mut self.at_door, &mut self.about_listeners),
            };
            let Some(number) = first.pop_front().or_else(|| second.pop_front()) else { return };
            let Some(open) = self.open.get_mut(&number) else { continue };
            // Who left is not asked for.
            if open.waiting.is_empty() && open.about.is_empty() {
                let question = Rc::clone(&open.question);
                self.numbers.remove(&question);
                self.open.remove(&number);
                continue;
            }
            let deadline = open.waiting.iter().filter_map(|id| self.waiters.deadline(*id)).max();
            let deadline = if open.about.is_empty() { deadline } else { None };
            let deadline = deadline.unwrap_or_else(|| now.at + self.timeout_ms);
            open.sent = Some(now);
            self.under_way += 1;
            self.asks.push_back(Ask { number, body: open.question.json(), deadline });
        }
    }

    /// The next question to be asked.
    pub fn next_ask(&mut self) -> Option<Ask> {
        self.asks.pop_front()
    }

    /// Takes what the application has answered to question `number`.
    pub fn answered(&mut self, now: Now, number: u64, reply: &Reply, stats: &mut Stats) {
        let Some(open) = self.open.get_mut(&number) else { return };
        let Some(sent) = open.sent.take() else { return };
        self.under_way -= 1;
        stats.questions_asked += 1;
        self.times.note(now.at.millis_since(sent.at));
        if std::mem::take(&mut open.is_stale) {
            let queue = if open.waiting.is_empty() { &mut self.about_listeners } else { &mut self.at_door };
            queue.push_front(number);
            return self.send(now);
        }
        match answer::read(reply, &open.question, (now.at, sent.unix), self.cache_seconds) {
            Ok(answer) => {
                let word = Rc::new(answer.word);
                if answer.cache_seconds > 0 {
                    self.memory.insert(&word, now.at.plus_seconds(answer.cache_seconds));
                }
                self.close(now, number, Some(&word), false);
            }
            Err(why) => {
                stats.questions_unanswered += 1;
                self.complain(now.at, &why);
                self.close(now, number, None, *reply == Reply::Late);
            }
        }
        self.send(now);
    }

    /// Tells all whom a question concerns what it came to. If it `was_late`, some may have come when it was under way:
    /// they have time left, in which it is asked once more.
    fn close(&mut self, now: Now, number: u64, word: Option<&Rc<Word>>, was_late: bool) {
        let Some(open) = self.open.remove(&number) else { return };
        self.numbers.remove(&open.question);
        for id in open.waiting {
            let has_time = self.waiters.deadline(id).is_some_and(|deadline| deadline > now.at);
            if was_late && has_time {
                let number = self.open(Rc::clone(&open.question), false);
                if let Some(open) = self.open.get_mut(&number) {
                    open.waiting.push(id);
                }
                self.waiters.turn_to(id, number);
                continue;
            }
            self.forget_waiting(id);
            self.said.entry(id).or_default().push((Rc::clone(&open.question), word.cloned()));
            self.ready.push(id);
        }
        for holder in open.about {
            if !self.listeners.waits_for(holder, number) {
                continue;
            }
            match word {
                Some(word) => self.confirmed.push((holder, Rc::clone(word))),
                None => self.listeners.unanswered(now.at, holder),
            }
        }
    }

    /// Logs that the application does not answer, once a minute.
    fn complain(&mut self, now: Instant, why: &str) {
        if self.complained.is_none_or(|last| now.millis_since(last) >= COMPLAINT_MS) {
            self.complained = Some(now);
            log::warn!("hook: the application was asked, and {why}; who asks gets 503");
        }
    }

    /// Notes that nothing waits on the connection any more.
    pub fn leave(&mut self, from: ConnId) {
        if self.waiters.count() > 0 {
            self.forget_waiting(from);
        }
        self.forget(from);
    }

    /// Forgets what was said for the bytes of a connection, which have been handled.
    pub fn forget(&mut self, from: ConnId) {
        if !self.said.is_empty() {
            self.said.remove(&from);
        }
    }

    fn forget_waiting(&mut self, from: ConnId) {
        let Some(number) = self.waiters.leave(from) else { return };
        if let Some(open) = self.open.get_mut(&number) {
            open.waiting.retain(|id| *id != from);
        }
    }

    /// Notes by what word somebody listens.
    pub fn listen(&mut self, now: Instant, holder: Holder, word: &Word) {
        let share = self.draws.draw() as u8;
        self.listeners.listen(now, holder, word, share);
    }

    /// By what word somebody listens.
    pub fn grant_of(&self, holder: Holder) -> Option<&Grant> {
        if self.listeners.is_empty() { None } else { self.listeners.grant(holder).map(|grant| &**grant) }
    }

    /// Notes that somebody listens by no word of the application.
    pub fn end(&mut self, holder: Holder) {
        if !self.listeners.is_empty() {
            self.listeners.forget(holder);
        }
    }

    /// Gives up on answers that have not come in time. Returns what is due for some of those who listen.
    pub fn expire(&mut self, now: Now) -> Vec<Due> {
        while let Some((id, number, deadline)) = self.waiters.first() {
            if deadline > now.at {
                break;
            }
            let question = self.open.get(&number).map(|open| Rc::clone(&open.question));
            self.forget_waiting(id);
            self.complain(now.at, "has not answered in time (hook.timeout_ms)");
            self.said.entry(id).or_default().extend(question.map(|question| (question, None)));
            self.ready.push(id);
        }
        if std::mem::take(&mut self.asks_all) {
            let Self { draws, listeners, .. } = self;
            let spread_ms = AGAIN_MS + listeners.count() as u64;
            listeners.ask_all(now.at, spread_ms, || draws.draw() as u8);
        }
        self.send(now);
        self.listeners.due(now.at)
    }

    /// When [`Hook::expire`] has something to do.
    pub fn next_deadline(&self) -> Instant {
        if self.asks_all {
            return Instant::default();
        }
        let waiting = self.waiters.first().map_or(Instant::NEVER, |(_, _, deadline)| deadline);
        waiting.min(self.listeners.next_deadline())
    }

    /// Those whose bytes are to be handled again.
    pub fn take_ready(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.ready)
    }

    /// Those who listen about whom the application has said something.
    pub fn take_confirmed(&mut self) -> Vec<(Holder, Rc<Word>)> {
        std::mem::take(&mut self.confirmed)
    }

    /// Notes what the application has said about somebody who listens, unless it means somebody else by now. Returns
    /// whether it does not.
    pub fn confirm(&mut self, now: Instant, holder: Holder, word: &Word) -> bool {
        let is_same = self.listeners.grant(holder).is_some_and(|grant| grant.subject == word.grant.subject);
        let share = self.draws.draw() as u8;
        self.listeners.confirm(now, holder, word, share);
        is_same
    }

    /// How many wait for the application's word.
    pub fn waiting(&self) -> usize {
        self.waiters.count()
    }

    /// Goes on where another server has parted, on whose answers the connections `asking` waited: they have been asked
    /// about, and nothing was said.
    pub fn go_on(&mut self, now: Instant, asking: impl Iterator<Item = ConnId>) {
        asking.for_each(|id| self.said.entry(id).or_default().clear());
        self.listeners.go_on(now);
    }

    /// Whether somebody waits on that connection.
    pub fn is_waiting(&self, from: ConnId) -> bool {
        self.waiters.deadline(from).is_some()
    }

    /// Whether there is nothing left: nobody waits, and nobody listens.
    #[cfg(any(test, feature = "check"))]
    pub fn is_idle(&self) -> bool {
        let has_nobody = self.waiters.is_idle() && self.listeners.is_empty();
        has_nobody && self.said.is_empty() && self.ready.is_empty() && self.asks.is_empty()
    }
}
