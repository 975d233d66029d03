//! The store's thread: takes what has come, lets it be one transaction, tells the reactor, and pauses.

use super::clocks::Clocks;
use super::engine::Engine;
use super::orders::{Order, Settings, Told};
use super::{Directory, StoreError, copy};
use crate::id::Seed;
use crate::log::{Condition, Figures, Opening};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Bytes of one transaction, unless a single publication has more.
const COMMIT_BYTES: usize = 4 << 20;

/// A store that runs.
#[derive(Debug)]
pub struct Store {
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

/// Opens the history in the directory at `path`, or begins one there that is named `fresh`, hands it over, and then keeps
/// what it is sent. What takes no time is looked at before this returns; all else is told, and opening may take a second for
/// a million messages. `tell` returns whether anybody listens.
pub fn start(
    path: &Path,
    settings: Settings,
    fresh: Seed,
    mut tell: impl FnMut(Vec<Told>, Figures) -> bool + Send + 'static,
) -> Result<Store, StoreError> {
    let directory = Directory::take(path)?;
    let (orders, received) = mpsc::channel();
    let for_copies = orders.clone();
    let work = move || {
        let path = directory.path().to_owned();
        copy::listen(&path, for_copies);
        match Engine::open(directory, settings, fresh, Clocks::read()) {
            Ok((engine, opening, is_new)) => {
                _ = tell(vec![Told::Opened { opening, is_new }], engine.figures);
                work(engine, settings, &received, tell);
            }
            Err(error) => {
                let failed = Condition::Failed(error.to_string());
                _ = tell(vec![Told::Condition(failed)], Figures::default());
            }
        }
        copy::listen_no_more(&path);
    };
    let thread = thread::Builder::new().name("store".into()).spawn(work)?;
    Ok(Store { orders, thread: Some(thread) })
}

/// Opens the history in the directory at `path`, of which whoever asks has all in memory that it has to have: nothing is
/// handed over. Returns what the history is when it is open, and whether it has just been begun.
pub fn go_on(
    path: &Path,
    settings: Settings,
    fresh: Seed,
    mut tell: impl FnMut(Vec<Told>, Figures) -> bool + Send + 'static,
) -> Result<(Store, Opening, bool), StoreError> {
    let directory = Directory::take(path)?;
    let path = directory.path().to_owned();
    let (engine, opening, is_new) = Engine::open(directory, settings, fresh, Clocks::read())?;
    let (orders, received) = mpsc::channel();
    let for_copies = orders.clone();
    let work = move || {
        copy::listen(&path, for_copies);
        keep(engine, settings, &received, Vec::new(), &mut tell);
        copy::listen_no_more(&path);
    };
    let thread = thread::Builder::new().name("store".into()).spawn(work)?;
    Ok((Store { orders, thread: Some(thread) }, opening, is_new))
}

impl Store {
    /// Asks something of the store.
    pub fn send(&self, order: Order) {
        // A thread that is no more has said why.
        _ = self.orders.send(order);
    }

    /// Takes nothing more: its thread ends when all that was sent is stored, and told.
    pub fn close(&self) {
        self.send(Order::End);
    }

    /// Whether its thread has ended.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends when all that was sent is stored.
    pub fn end(mut self) {
        self.send(Order::End);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.send(Order::End);
    }
}

fn work(
    engine: Engine<Directory>,
    settings: Settings,
    orders: &Receiver<Order>,
    mut tell: impl FnMut(Vec<Told>, Figures) -> bool,
) {
    let figures = engine.figures;
    let loaded = engine.load(|batch| tell(vec![Told::Tail(batch)], figures));
    let condition = match loaded {
        Ok(()) => Condition::Ready,
        Err(error) => Condition::Failed(error.to_string()),
    };
    keep(engine, settings, orders, vec![Told::Condition(condition)], &mut tell);
}

/// Keeps what it is sent.
fn keep(
    mut engine: Engine<Directory>,
    settings: Settings,
    orders: &Receiver<Order>,
    mut told: Vec<Told>,
    tell: &mut impl FnMut(Vec<Told>, Figures) -> bool,
) {
    let mut inbox = Inbox { orders, left: None, ended: false };
    let mut quiet_at = Instant::now();
    // Whoever listens no more may have sent before.
    while !inbox.ended {
        _ = tell(std::mem::take(&mut told), engine.figures);
        let clocks = Clocks::read();
        let wait = engine.retry_at().map(|at| Duration::from_millis(at.saturating_sub(clocks.up_ms)));
        let orders = inbox.take(wait, quiet_at);
        engine.take(orders, Clocks::read());
        quiet_at = Instant::now() + Duration::from_millis(settings.pause_ms);
        told.extend(std::iter::from_fn(|| engine.poll()));
    }
    _ = tell(told, engine.figures);
    if let Err(error) = engine.end(Clocks::read()) {
        log::error!("store: cannot end in good order: {error}");
    }
}

/// Orders that have come.
struct Inbox<'a> {
    orders: &'a Receiver<Order>,
    /// One that had no room in the last transaction.
    left: Option<Order>,
    /// The reactor is no more.
    ended: bool,
}

impl Inbox<'_> {
    /// Waits for an order, for `wait` at most, and until `quiet_at`; takes what has come by then.
    fn take(&mut self, wait: Option<Duration>, quiet_at: Instant) -> Vec<Order> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        if self.left.is_none() {
            let first = match wait {
                Some(wait) => self.orders.recv_timeout(wait),
                None => self.orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match first {
                Ok(order) => self.left = Some(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.ended = true,
            }
        }
        while let Some(order) = self.left.take() {
            if matches!(order, Order::End) {
                self.ended = true;
                break;
            }
            let size = size(&order);
            if bytes > 0 && bytes + size > COMMIT_BYTES {
                self.left = Some(order);
                break;
            }
            bytes += size;
            taken.push(order);
            let pause = quiet_at.saturating_duration_since(Instant::now());
            self.left = match self.orders.try_recv() {
                Ok(order) => Some(order),
                Err(_) if pause.is_zero() => None,
                Err(_) => self.orders.recv_timeout(pause).ok(),
            };
        }
        taken
    }
}

fn size(order: &Order) -> usize {
    match order {
        Order::Append { proposal, .. } => proposal.bytes(),
        Order::Kept { .. } | Order::Copy(_) | Order::End => 0,
    }
}
