//! How other threads speak to the reactor: a bounded queue, and a waker that ends its sleep once per batch.

use super::relay;
use super::store::Told;
use crate::dialect::hook::Reply;
use crate::hub::Publication;
use crate::log::Figures;
use mio::Waker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};

/// Mails that may wait. Who sends more waits for the reactor, which never waits for who sends.
const WAITING_MAX: usize = 256;

/// What other threads ask of the reactor.
#[derive(Debug)]
pub enum Mail {
    /// To publish a message of the process itself.
    Publish {
        /// On this channel.
        channel: &'static str,
        /// This message.
        publication: Publication,
    },
    /// To hear what the application has answered.
    Word {
        /// To which question.
        number: u64,
        /// What.
        reply: Reply,
    },
    /// To hear what the store tells, and has counted.
    Store(Vec<Told>, Box<Figures>),
    /// To hear what the relay tells.
    Relay(Box<relay::Told>),
}

/// A handle to the reactor, for any thread.
#[derive(Debug, Clone)]
pub struct Mailbox {
    sender: SyncSender<Mail>,
    bell: Arc<Bell>,
}

/// Ends the reactor's sleep.
#[derive(Debug)]
struct Bell {
    waker: Waker,
    /// It has rung, and the reactor has not looked since.
    rung: AtomicBool,
}

impl Mailbox {
    /// A mailbox and its other end.
    pub(super) fn new(waker: Waker) -> (Self, Receiver<Mail>) {
        let (sender, receiver) = mpsc::sync_channel(WAITING_MAX);
        (Self { sender, bell: Arc::new(Bell { waker, rung: AtomicBool::new(false) }) }, receiver)
    }

    /// Sends mail, and waits while too much of it is there already; false if the reactor is no more.
    pub fn send(&self, mail: Mail) -> bool {
        let sent = self.sender.send(mail).is_ok();
        if !self.bell.rung.swap(true, Ordering::AcqRel) {
            self.wake();
        }
        sent
    }

    /// Notes that the reactor looks: what is sent from now on rings again.
    pub(super) fn opened(&self) {
        self.bell.rung.store(false, Ordering::Release);
    }

    /// Ends the reactor's sleep.
    pub(super) fn wake(&self) {
        if let Err(error) = self.bell.waker.wake() {
            log::error!("cannot wake the reactor: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Data;
    use mio::{Events, Poll, Token};
    use std::thread;
    use std::time::Duration;

    fn mail(number: usize) -> Mail {
        Mail::Publish { channel: "c", publication: Publication::of(Data::Text(number.to_string().into())) }
    }

    #[test]
    fn a_batch_wakes_once_and_nothing_is_overlooked() {
        let mut poll = Poll::new().unwrap();
        let (mailbox, mails) = Mailbox::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let mut events = Events::with_capacity(8);
        let woken = |poll: &mut Poll, events: &mut Events| {
            poll.poll(events, Some(Duration::ZERO)).unwrap();
            !events.is_empty()
        };
        assert!((0..10).all(|number| mailbox.send(mail(number))));
        assert!(woken(&mut poll, &mut events));
        mailbox.send(mail(10));
        assert!(!woken(&mut poll, &mut events), "it has rung already");
        mailbox.opened();
        assert_eq!(mails.try_iter().count(), 11);
        mailbox.send(mail(11));
        assert!(woken(&mut poll, &mut events), "after a look it rings again");
    }

    #[test]
    fn who_sends_too_much_waits() {
        let poll = Poll::new().unwrap();
        let (mailbox, mails) = Mailbox::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let sender = thread::spawn(move || (0..1000).all(|number| mailbox.send(mail(number))));
        for _ in 0..100 {
            assert!(!sender.is_finished(), "there is no room for all of them");
            thread::yield_now();
        }
        assert_eq!(mails.iter().count(), 1000);
        assert!(sender.join().unwrap());
    }

    #[test]
    fn without_a_reactor_nothing_waits() {
        let poll = Poll::new().unwrap();
        let (mailbox, mails) = Mailbox::new(Waker::new(poll.registry(), Token(0)).unwrap());
        (0..WAITING_MAX).for_each(|number| assert!(mailbox.send(mail(number))));
        let sender = thread::spawn(move || mailbox.send(mail(0)));
        drop(mails);
        assert!(!sender.join().unwrap(), "who waits is let go");
    }
}
