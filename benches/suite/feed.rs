//! A feed of quotes: so many keys in turn, so many updates a second, in batches, by a thread of its own.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::publisher::Publisher;

/// What the time of a feed begins with, so that it always has twelve digits.
pub const BEGIN: u64 = 100_000_000_000;
/// Updates of one batch.
const BATCH: usize = 50;

/// A quote of ten members and 300 bytes, of which three change: the last price, the volume and the time, in microseconds
/// of the feed.
fn quote(key: usize, number: usize, at: u64) -> String {
    format!(
        r#"{{"symbol":"KEY{key:05}","name":"Instrument number {key:05} of the feed that is measured here","currency":"EUR","exchange":"Frankfurt am Main, Xetra, continuous trading","sector":"Industrial goods, machinery and services","open":100.25,"close":101.75,"last":{},"volume":{},"at":{}}}"#,
        90.0 + (number * 7919 % 2000) as f64 / 100.0,
        1_000_000 + number * 104_729 % 9_000_000,
        BEGIN + at,
    )
}

/// A batch: the next `count` of `keys` from `number` on.
pub fn lines(keys: usize, number: usize, count: usize, at: u64) -> String {
    let mut lines = String::new();
    for number in number..number + count {
        let key = number % keys;
        let quote = quote(key, number, at);
        _ = writeln!(lines, r#"{{"channel":"quotes","key":"KEY{key:05}","data":{quote}}}"#);
    }
    lines
}

/// One that runs; ends with the value.
pub struct Feed {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Feed {
    /// Publishes `keys` in turn, `per_second` updates; its time is counted from `begun`.
    pub fn quotes(address: SocketAddr, keys: usize, per_second: usize, begun: Instant) -> io::Result<Self> {
        let period = Duration::from_secs(1) * BATCH as u32 / per_second as u32;
        let mut number = 0;
        Self::every(address, period, move |publisher| {
            let lines = lines(keys, number, BATCH, begun.elapsed().as_micros() as u64);
            number += BATCH;
            publisher.publish_batch(&lines)
        })
    }

    /// Publishes the same body again and again.
    pub fn same(
        address: SocketAddr,
        target: &'static str,
        body: Vec<u8>,
        period: Duration,
    ) -> io::Result<Self> {
        Self::every(address, period, move |publisher| publisher.publish(target, "", &body))
    }

    fn every(
        address: SocketAddr,
        period: Duration,
        mut publish: impl FnMut(&mut Publisher) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let mut publisher = Publisher::to(address)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let mut due = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                due += period;
                publish(&mut publisher)?;
            }
            Ok(())
        });
        Ok(Self { is_over, thread: Some(thread) })
    }

    /// Ends it; says what went wrong, if something did.
    pub fn end(mut self) -> io::Result<()> {
        self.stop()
    }

    fn stop(&mut self) -> io::Result<()> {
        self.is_over.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join).transpose();
        ended.map_err(|_| io::Error::other("a publisher panicked"))?.unwrap_or(Ok(()))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        _ = self.stop();
    }
}
