//! Answers of the application that are remembered: bounded, by the whole question, each for as long as it may be.

use crate::broker::access::{Question, Word};
use crate::time::Instant;
use std::collections::BTreeMap;
use std::rc::Rc;

type Half = BTreeMap<Rc<Question>, (Rc<Word>, Instant)>;

/// They are in two halves; when the younger is full, the older is forgotten and their places are exchanged.
#[derive(Debug, Default)]
pub struct Memory {
    /// Most answers in a half.
    max: usize,
    younger: Half,
    older: Half,
}

impl Memory {
    /// None, and room for `max`.
    pub fn new(max: usize) -> Self {
        Self { max: max.div_ceil(2), ..Self::default() }
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        (self.younger, self.older) = Default::default();
    }

    /// What was answered to `question`, as long as it counts.
    pub fn find(&self, now: Instant, question: &Question) -> Option<Rc<Word>> {
        let (word, until) = self.younger.get(question).or_else(|| self.older.get(question))?;
        (now < *until && now < word.ends).then(|| Rc::clone(word))
    }

    /// Remembers an answer until then.
    pub fn insert(&mut self, word: &Rc<Word>, until: Instant) {
        if self.younger.len() >= self.max {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(Rc::clone(&word.question), (Rc::clone(word), until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Client;
    use crate::broker::access::{Action, Asker, Grant};
    use crate::config::Config;
    use crate::wire::head;

    fn word(name: &str, ends: Instant) -> Rc<Word> {
        let bytes = b"GET /sub/a HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut slots = head::slots();
        let head = head::parse(bytes, &mut slots).unwrap();
        let asker = Rc::new(Asker::of(&head, Client::OWN, "sse", &Config::default()));
        let question = Rc::new(Question::new(Action::Subscribe, vec![name.into()], asker));
        Rc::new(Word { question, grant: Rc::new(Grant::default()), status: 403, reason: None, ends })
    }

    #[test]
    fn what_is_remembered_is_bounded_and_ends() {
        let at = Instant::from_millis;
        let mut memory = Memory::new(10);
        for number in 0..100 {
            let word = word(&number.to_string(), Instant::NEVER);
            memory.insert(&word, at(1000));
            assert!(memory.younger.len() + memory.older.len() <= 10);
            assert_eq!(memory.find(at(999), &word.question), Some(Rc::clone(&word)));
            assert_eq!(memory.find(at(1000), &word.question), None);
        }
        assert_eq!(memory.find(at(0), &word("1", Instant::NEVER).question), None);
        let ending = word("x", at(500));
        memory.insert(&ending, at(1000));
        assert!(memory.find(at(499), &ending.question).is_some());
        assert!(memory.find(at(500), &ending.question).is_none());
        memory.clear();
        assert!(memory.find(at(0), &ending.question).is_none());
    }
}
