//! Who listens by the application's word, and when it is asked about them again.
//!
//! Each is asked about at a random moment in the last fifth of the time that its word counts, so that ten thousand who
//! came in the same second do not come back in the same second; meanwhile it goes on.

use crate::broker::access::{Action, Asker, Grant, Question, Word};
use crate::carry::carry;
use crate::dialect::Holder;
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Milliseconds after which the application is asked again that has not answered.
const AGAIN_MS: u64 = 1000;
/// So many are looked at in a turn.
const PER_TURN: usize = 256;

/// All of them.
#[derive(Debug, Default)]
pub struct Listeners {
    all: BTreeMap<Holder, Listener>,
    /// When something is due for each, but for those whose word counts for ever.
    timers: BTreeSet<(Instant, Holder)>,
}

#[derive(Debug)]
struct Listener {
    asker: Rc<Asker>,
    grant: Rc<Grant>,
    ends: Instant,
    /// When to ask about it again.
    again: Instant,
    /// The number of the question about it that is open.
    asking: Option<u64>,
}

carry! {
    struct Listeners { all, timers }
}

carry! {
    struct Listener { asker, grant, ends, again, asking }
}

/// What is due for somebody.
#[derive(Debug)]
pub enum Due {
    /// The application is to be asked again.
    Again(Holder),
    /// Its word counts no more.
    Ended(Holder),
}

impl Listener {
    fn due(&self) -> Instant {
        self.ends.min(self.again)
    }
}

impl Listeners {
    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// By which grant somebody listens.
    pub fn grant(&self, holder: Holder) -> Option<&Rc<Grant>> {
        self.all.get(&holder).map(|listener| &listener.grant)
    }

    /// Those whose grants `is_meant`.
    pub fn holders(&self, is_meant: impl Fn(&Grant) -> bool) -> Vec<Holder> {
        let meant = self.all.iter().filter(|(_, listener)| is_meant(&listener.grant));
        meant.map(|(holder, _)| *holder).collect()
    }

    /// Notes that somebody listens by `word`, from now on or to more channels. `share` is drawn by chance: when in the
    /// last fifth of its time it is asked about again.
    pub fn listen(&mut self, now: Instant, holder: Holder, word: &Word, share: u8) {
        let asker = Rc::clone(&word.question.asker);
        let again = again(now, word.ends, share);
        let Some(old) = self.take(holder) else {
            let grant = Rc::clone(&word.grant);
            return self.put(holder, Listener { asker, grant, ends: word.ends, again, asking: None });
        };
        let mut subscribe = [&*old.grant.subscribe, &*word.grant.subscribe].concat();
        subscribe.sort_unstable();
        subscribe.dedup();
        let grant = Rc::new(Grant { subscribe, ..Grant::clone(&word.grant) });
        let (ends, again) = (old.ends.min(word.ends), old.again.min(again));
        self.put(holder, Listener { asker, grant, ends, again, asking: old.asking });
    }

    /// Replaces what somebody is granted by what the application has said when it was asked again.
    pub fn confirm(&mut self, now: Instant, holder: Holder, word: &Word, share: u8) {
        let Some(old) = self.take(holder) else { return };
        let again = again(now, word.ends, share);
        self.put(
            holder,
            Listener { grant: Rc::clone(&word.grant), ends: word.ends, again, asking: None, ..old },
        );
    }

    /// Forgets channels that somebody listens to no longer.
    pub fn keep(&mut self, holder: Holder, is_kept: impl Fn(&str) -> bool) {
        let Some(listener) = self.all.get_mut(&holder) else { return };
        if listener.grant.subscribe.iter().all(|name| is_kept(name)) {
            return;
        }
        let grant = Rc::make_mut(&mut listener.grant);
        grant.subscribe.retain(|name| is_kept(name));
        if grant.subscribe.is_empty() {
            self.forget(holder);
        }
    }

    /// Notes that somebody listens no longer.
    pub fn forget(&mut self, holder: Holder) {
        self.take(holder);
    }

    /// Has everybody asked about again, within `spread_ms`. `share` draws when.
    pub fn ask_all(&mut self, now: Instant, spread_ms: u64, mut share: impl FnMut() -> u8) {
        let holders: Vec<Holder> = self.all.keys().copied().collect();
        for holder in holders {
            let Some(old) = self.take(holder) else { continue };
            let again = now + spread_ms * u64::from(share()) / 256;
            self.put(holder, Listener { again, asking: None, ..old });
        }
    }

    /// What the application is to be asked again about somebody, unless they listen by its word no longer.
    pub fn question(&mut self, holder: Holder, is_listened: impl Fn(&str) -> bool) -> Option<Question> {
        self.keep(holder, is_listened);
        let listener = self.all.get(&holder)?;
        let channels = listener.grant.subscribe.clone();
        Some(Question::new(Action::Subscribe, channels, Rc::clone(&listener.asker)))
    }

    /// Whether that question is the one about somebody that is open.
    pub fn waits_for(&self, holder: Holder, number: u64) -> bool {
        self.all.get(&holder).is_some_and(|listener| listener.asking == Some(number))
    }

    /// Notes the question about somebody that is open.
    pub fn asked(&mut self, holder: Holder, number: u64) {
        if let Some(listener) = self.all.get_mut(&holder) {
            listener.asking = Some(number);
        }
    }

    /// Notes that the question about somebody came to nothing: it is asked again soon.
    pub fn unanswered(&mut self, now: Instant, holder: Holder) {
        if let Some(old) = self.take(holder) {
            self.put(holder, Listener { again: now + AGAIN_MS, asking: None, ..old });
        }
    }

    /// Has those asked about again whose question another server has asked.
    pub fn go_on(&mut self, now: Instant) {
        let asking = self.all.iter().filter(|(_, listener)| listener.asking.is_some());
        let asking: Vec<Holder> = asking.map(|(holder, _)| *holder).collect();
        asking.into_iter().for_each(|holder| self.unanswered(now, holder));
    }

    /// When something is due next.
    pub fn next_deadline(&self) -> Instant {
        self.timers.first().map_or(Instant::NEVER, |(due, _)| *due)
    }

    /// What is due now, for some of those for whom something is.
    pub fn due(&mut self, now: Instant) -> Vec<Due> {
        let mut all = Vec::new();
        while let Some(&(due, holder)) = self.timers.first() {
            if due > now || all.len() == PER_TURN {
                break;
            }
            let Some(listener) = self.take(holder) else { break };
            if listener.ends <= now {
                all.push(Due::Ended(holder));
                continue;
            }
            all.push(Due::Again(holder));
            self.put(holder, Listener { again: Instant::NEVER, ..listener });
        }
        all
    }

    fn take(&mut self, holder: Holder) -> Option<Listener> {
        let listener = self.all.remove(&holder)?;
        self.timers.remove(&(listener.due(), holder));
        Some(listener)
    }

    fn put(&mut self, holder: Holder, listener: Listener) {
        if listener.due() != Instant::NEVER {
            self.timers.insert((listener.due(), holder));
        }
        self.all.insert(holder, listener);
    }
}

/// A moment in the last fifth of the time until `ends`.
fn again(now: Instant, ends: Instant, share: u8) -> Instant {
    match ends {
        Instant::NEVER => Instant::NEVER,
        ends => {
            let left = ends.millis_since(now);
            now + left * 4 / 5 + left / 5 * u64::from(share) / 256
        }
    }
}
