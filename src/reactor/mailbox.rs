//! How other threads speak to the reactor: a channel, and a waker that ends its sleep.

use crate::hub::Publication;
use mio::Waker;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

/// What other threads ask of the reactor: to publish a message of the process itself.
#[derive(Debug)]
pub struct Mail {
    /// On this channel.
    pub channel: &'static str,
    /// This message.
    pub publication: Publication,
}

/// A handle to the reactor, for any thread.
#[derive(Debug, Clone)]
pub struct Mailbox {
    sender: Sender<Mail>,
    waker: Arc<Waker>,
}

impl Mailbox {
    /// A mailbox and its other end.
    pub(super) fn new(waker: Arc<Waker>) -> (Self, Receiver<Mail>) {
        let (sender, receiver) = mpsc::channel();
        (Self { sender, waker }, receiver)
    }

    /// Sends mail; false if the reactor is no more.
    pub fn send(&self, mail: Mail) -> bool {
        let sent = self.sender.send(mail).is_ok();
        self.wake();
        sent
    }

    /// Ends the reactor's sleep.
    pub(super) fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            log::error!("cannot wake the reactor: {error}");
        }
    }
}
