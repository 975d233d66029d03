//! What has come for a user and has not been delivered: messages to be judged, and alerts.
//!
//! The messages themselves lie in the ring of the user's channel. This is what a channel cannot say: whether
//! any window wanted a message, and what becomes of one that no window wanted (`amode`).

use crate::carry::carry;
use crate::config::Config;
use crate::hub::Message;
use crate::id::Seq;
use crate::time::Instant;
use std::collections::VecDeque;
use std::rc::Rc;

/// Alerts of one user; beyond, the oldest goes.
const ALERTS_MAX: usize = 10;

/// How much is kept for one user, of messages and of alerts; beyond, the oldest goes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Messages.
    pub messages: usize,
    /// Bytes; the newest stays whatever they say.
    pub bytes: usize,
}

impl Bounds {
    /// Those of the ring of any channel.
    pub const fn of(config: &Config) -> Self {
        Self { messages: config.history.messages, bytes: config.history.bytes }
    }
}

/// What is to become of a message that no window has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// A window wants it.
    Waiting,
    /// No window wants it: one that asks for unwanted messages will be shown it.
    Kept,
    /// It has been shown as unwanted. A window that wants it can still get it.
    Shown,
    /// It has become an alert, or nothing; no window gets it any more.
    Withdrawn,
}

carry! {
    enum Fate { 0 => Waiting, 1 => Kept, 2 => Shown, 3 => Withdrawn }
}

/// A message that no window has got.
#[derive(Debug)]
pub struct Stored {
    /// The message.
    pub message: Rc<Message>,
    /// What its sender wanted in case that it is unwanted.
    pub amode: u32,
    /// What is to become of it.
    pub fate: Fate,
}

carry! {
    struct Stored { message, amode, fate }
}

/// A text that is told every window that asks for unwanted messages, until the user dismisses it.
#[derive(Debug)]
pub struct Alert {
    /// Counted from 1 for each user.
    pub number: u32,
    /// JavaScript.
    pub text: Box<[u8]>,
}

carry! {
    struct Alert { number, text }
}

/// All that.
#[derive(Debug, Default)]
pub struct Post {
    stored: VecDeque<Stored>,
    /// Bytes of these.
    bytes: usize,
    alerts: VecDeque<Alert>,
    /// Alerts there have been.
    numbers: u32,
}

carry! {
    struct Post { stored, bytes, alerts, numbers }
}

impl Post {
    /// Takes a new message, of which its sender wants `amode`. The oldest are given up for it if there is no room.
    pub fn store(&mut self, message: Rc<Message>, amode: u32, max: Bounds) {
        // A shared history that has lost its end goes on before that.
        while self.stored.back().is_some_and(|last| last.message.id.seq >= message.id.seq) {
            let lost = self.stored.pop_back();
            self.bytes -= lost.map_or(0, |lost| lost.message.cost());
        }
        self.bytes += message.cost();
        self.stored.push_back(Stored { message, amode, fate: Fate::Waiting });
        while self.stored.len() > max.messages.max(1) || self.bytes > max.bytes && self.stored.len() > 1 {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let gone = self.stored.pop_front();
        self.bytes -= gone.map_or(0, |gone| gone.message.cost());
    }

    /// Drops what is too old to be delivered.
    pub fn expire(&mut self, now: Instant, age_ms: u64) {
        while self.stored.front().is_some_and(|it| it.message.published + age_ms < now) {
            self.drop_oldest();
        }
    }

    /// The messages that no window has got.
    pub fn stored(&self) -> impl Iterator<Item = &Stored> {
        self.stored.iter()
    }

    /// What is to become of message `seq`, if it is here.
    pub fn fate(&self, seq: Seq) -> Option<Fate> {
        self.position(seq).map(|at| self.stored[at].fate)
    }

    /// Decides what is to become of message `seq`.
    pub fn decide(&mut self, seq: Seq, fate: Fate) {
        if let Some(at) = self.position(seq) {
            self.stored[at].fate = fate;
        }
    }

    /// Notes that a window got message `seq`.
    pub fn delivered(&mut self, seq: Seq) {
        if let Some(at) = self.position(seq) {
            let gone = self.stored.remove(at);
            self.bytes -= gone.map_or(0, |gone| gone.message.cost());
        }
    }

    fn position(&self, seq: Seq) -> Option<usize> {
        self.stored.binary_search_by_key(&seq, |stored| stored.message.id.seq).ok()
    }

    /// Adds an alert.
    pub fn alert(&mut self, text: Box<[u8]>, max: Bounds) {
        self.numbers += 1;
        self.alerts.push_back(Alert { number: self.numbers, text });
        let bytes = |alerts: &VecDeque<Alert>| alerts.iter().map(|alert| alert.text.len()).sum::<usize>();
        while self.alerts.len() > ALERTS_MAX || self.alerts.len() > 1 && bytes(&self.alerts) > max.bytes {
            self.alerts.pop_front();
        }
    }

    /// The alerts after that number, in order.
    pub fn alerts_after(&self, number: u32) -> impl Iterator<Item = &Alert> {
        self.alerts.iter().filter(move |alert| alert.number > number)
    }

    /// Removes an alert; says whether there was one.
    pub fn dismiss(&mut self, number: u32) -> bool {
        let before = self.alerts.len();
        self.alerts.retain(|alert| alert.number != number);
        self.alerts.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{Data, Publication};
    use crate::id::{Epoch, MessageId};

    const BOUNDS: Bounds = Bounds { messages: 100, bytes: 1000 };

    #[test]
    fn of_many_alerts_the_last_ten_stay() {
        let mut post = Post::default();
        (1..=12).for_each(|n: u32| post.alert(n.to_string().into_bytes().into(), BOUNDS));
        let numbers = |post: &Post, after| post.alerts_after(after).map(|it| it.number).collect::<Vec<_>>();
        assert_eq!(numbers(&post, 0), (3..=12).collect::<Vec<_>>());
        assert!(!post.dismiss(2) && post.dismiss(5) && !post.dismiss(5));
        assert_eq!(numbers(&post, 4), [6, 7, 8, 9, 10, 11, 12]);
        post.alert(Box::default(), BOUNDS);
        assert_eq!(numbers(&post, 11), [12, 13]);
        post.alert(vec![b'x'; 900].into(), BOUNDS);
        post.alert(vec![b'x'; 900].into(), BOUNDS);
        assert_eq!(numbers(&post, 0), [15], "of large ones, as many as there is room for");
    }

    #[test]
    fn what_no_window_got_is_bounded_in_bytes() {
        let mut post = Post::default();
        let message = |seq, text: &str| {
            let publication = Publication::of(Data::Text(text.into()));
            let id = MessageId { epoch: Epoch::from_random(1), seq };
            Rc::new(Message::new(id, "fdajax/users/1".into(), publication, Instant::default()))
        };
        let cost = message(1, "").cost();
        let max = Bounds { messages: 100, bytes: 3 * (cost + 1000) };
        let seqs = |post: &Post| post.stored().map(|it| it.message.id.seq).collect::<Vec<_>>();
        (1..=5).for_each(|seq| post.store(message(seq, &"x".repeat(1000)), 0, max));
        assert_eq!(seqs(&post), [3, 4, 5]);
        post.delivered(4);
        post.store(message(6, &"x".repeat(1000)), 0, max);
        assert_eq!(seqs(&post), [3, 5, 6], "what was delivered makes room");
        post.store(message(7, &"x".repeat(9000)), 0, max);
        assert_eq!(seqs(&post), [7], "the newest stays");
        post.expire(Instant::default() + 10, 5);
        assert_eq!((seqs(&post), post.bytes), (vec![], 0));
        (8..=20).for_each(|seq| post.store(message(seq, ""), 0, Bounds { messages: 2, bytes: 1 << 20 }));
        assert_eq!(seqs(&post), [19, 20]);
        post.store(message(20, ""), 0, max);
        assert_eq!(seqs(&post), [19, 20], "a number that is given anew");
    }
}
