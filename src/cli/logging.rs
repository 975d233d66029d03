//! Where log lines go: through a thread of its own to standard error, which may be a full disk, a pipe that nobody
//! reads or a stopped terminal. The reactor waits for none of them; what finds no room is counted, and told when
//! there is room again.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use env_logger::{Env, Target, WriteStyle};

/// Lines that wait to be written; further ones are lost.
const LINES_MAX: usize = 4096;
/// How long the end of the program waits for its last lines to be written.
const PATIENCE: Duration = Duration::from_secs(1);

enum Item {
    Line(Vec<u8>),
    /// Says so when everything before it has been written.
    Mark(Sender<()>),
}

/// The log, to be finished before the program ends.
pub struct Log(SyncSender<Item>);

/// Sets up logging. `RUST_LOG` says how much is logged (`info`).
pub fn start() -> Log {
    let (sender, items) = mpsc::sync_channel(LINES_MAX);
    let lost = Arc::new(AtomicU64::new(0));
    let lines = Lines { sender: sender.clone(), lost: Arc::clone(&lost) };
    let thread =
        thread::Builder::new().name("log".into()).spawn(move || write_all(&items, &lost, io::stderr()));
    let mut builder = env_logger::Builder::new();
    // A pipe has no colours of its own accord.
    if io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        builder.write_style(WriteStyle::Always);
    }
    builder.parse_env(Env::default().default_filter_or("info"));
    // Without a thread it goes the direct way.
    if thread.is_ok() {
        builder.target(Target::Pipe(Box::new(lines)));
    }
    builder.init();
    Log(sender)
}

impl Log {
    /// Waits until the lines so far are written, but not for ever.
    pub fn finish(self) {
        let deadline = Instant::now() + PATIENCE;
        let (done, is_done) = mpsc::channel();
        while self.0.try_send(Item::Mark(done.clone())).is_err() {
            if Instant::now() >= deadline {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        // If it takes longer, these lines are lost with whoever should read them.
        let _ = is_done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// What the logger writes to: each write is one line.
struct Lines {
    sender: SyncSender<Item>,
    lost: Arc<AtomicU64>,
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.sender.try_send(Item::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes lines as they come. What cannot be written is nobody's business any more.
fn write_all(items: &Receiver<Item>, lost: &AtomicU64, mut out: impl Write) {
    for item in items {
        match item {
            Item::Line(line) => {
                let lost = lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    let _ = writeln!(
                        out,
                        "({lost} lines of the log are lost: they could not be written in time)"
                    );
                }
                let _ = out.write_all(&line);
            }
            Item::Mark(done) => drop(done.send(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that begins to read when it is told.
    struct Slow(Receiver<()>, Sender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_is_told_how_many() {
        let (sender, items) = mpsc::sync_channel(LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let mut lines = Lines { sender, lost: Arc::clone(&lost) };
        let (go, wait) = mpsc::channel();
        let (written, read) = mpsc::channel();
        let writer = Arc::clone(&lost);
        let thread = thread::spawn(move || write_all(&items, &writer, Slow(wait, written)));
        for number in 0..LINES_MAX + 100 {
            lines.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        let count = lost.load(Ordering::Relaxed);
        assert!((99..=100).contains(&count), "one line may be on its way: {count}");
        drop((go, lines));
        thread.join().unwrap();
        let text: Vec<u8> = read.iter().flatten().collect();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(&format!("({count} lines of the log are lost")), "{text:.200}");
        assert_eq!(
            text.lines().filter(|line| line.parse::<u64>().is_ok()).count() as u64,
            LINES_MAX as u64 + 100 - count
        );
    }
}
