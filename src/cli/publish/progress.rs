//! What `encke pub` tells its person: notices, a line that counts on a terminal, and a summary.
//!
//! The counting line is rewritten in place, at most ten times a second; a notice takes its place and the
//! count goes on below it.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::cli::client::printable;

/// Time between two counting lines.
const REDRAW: Duration = Duration::from_millis(100);
/// Time over which the rate shown is measured.
const WINDOW: Duration = Duration::from_secs(1);

/// Counts and reports; `out` is where (standard error). Nothing depends on whether it can be written.
#[derive(Debug)]
pub struct Progress<W: Write> {
    out: W,
    on_terminal: bool,
    channel: String,
    started: Instant,
    published: u64,
    listeners: Option<u64>,
    drawn_at: Option<Instant>,
    window: (Instant, u64),
    per_second: Option<f64>,
}

impl<W: Write> Progress<W> {
    /// Begins to count; only a terminal sees the counting line.
    pub fn new(out: W, on_terminal: bool, channel: &str, now: Instant) -> Self {
        Self {
            out,
            on_terminal,
            channel: printable(channel),
            started: now,
            published: 0,
            listeners: None,
            drawn_at: None,
            window: (now, 0),
            per_second: None,
        }
    }

    /// One more message was accepted; the server counted its `listeners`.
    pub fn published(&mut self, listeners: Option<u64>, now: Instant) {
        self.published += 1;
        self.listeners = listeners;
        let (since, count) = self.window;
        if now.duration_since(since) >= WINDOW {
            self.per_second = Some(rate(self.published - count, now.duration_since(since)));
            self.window = (now, self.published);
        }
        if self.on_terminal && self.drawn_at.is_none_or(|at| now.duration_since(at) >= REDRAW) {
            let per_second = self.per_second.unwrap_or_else(|| rate(self.published, now - self.started));
            let _ = write!(
                self.out,
                "\r{} published, {per_second:.0} per second, {}\x1b[K",
                self.published,
                listening(self.listeners)
            );
            let _ = self.out.flush();
            self.drawn_at = Some(now);
        }
    }

    /// Says something, on a line of its own.
    pub fn note(&mut self, notice: &str) {
        self.erase();
        let _ = writeln!(self.out, "encke pub: {notice}");
    }

    /// The last line: what was done.
    pub fn finish(&mut self, now: Instant) {
        self.erase();
        let elapsed = now - self.started;
        let plural = if self.published == 1 { "" } else { "s" };
        let _ = write!(self.out, "published {} message{plural} to {}", self.published, self.channel);
        if self.published > 1 {
            let per_second = rate(self.published, elapsed);
            let _ = write!(self.out, " in {:.1} s ({per_second:.1} per second)", elapsed.as_secs_f64());
        }
        if self.published > 0 {
            let _ = write!(self.out, ", {}", listening(self.listeners));
        }
        let _ = writeln!(self.out);
    }

    fn erase(&mut self) {
        if self.drawn_at.take().is_some() {
            let _ = write!(self.out, "\r\x1b[K");
        }
    }
}

fn rate(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64().max(1e-3)
}

fn listening(listeners: Option<u64>) -> String {
    match listeners {
        Some(count) => format!("{count} listening"),
        None => "listeners unknown".into(),
    }
}
