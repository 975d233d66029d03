//! Where log lines go: through a thread to standard error, which may be a full disk, a pipe that nobody reads or a
//! stopped terminal. The reactor waits for none of them; what finds no room is counted, and told when there is room
//! again.
//!
//! The thread is there while there is something to write, and for a moment after: a process with one thread has cheaper
//! system calls. Before the reactor runs, a moment more or less is nobody's loss: lines are written as they come, as
//! long as standard error takes them without delay. So a server that has nothing more to say never has a thread.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use env_logger::{Env, Target, WriteStyle};
use log::LevelFilter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Lines that wait to be written; further ones are lost.
const LINES_MAX: usize = 4096;
/// How long the thread waits for another line.
const IDLE: Duration = Duration::from_secs(1);
/// How long the end of the program waits for its last lines to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// The log, to be finished before the program ends.
pub struct Log(Arc<Lines>);

/// Lines on their way, and who takes them there.
#[derive(Default)]
struct Lines {
    state: Mutex<State>,
    /// There are lines, or there are none any more.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    /// Lines for which there was no room.
    lost: u64,
    /// Lines go through a thread.
    aside: bool,
    /// That thread is there.
    has_thread: bool,
    /// It is writing a line.
    is_writing: bool,
}

/// Sets up logging: as much as `RUST_LOG` says, or else up to `level`; and the access log, which has a switch of its own.
pub fn start(level: &str) -> Log {
    let lines = Arc::new(Lines::default());
    let mut builder = env_logger::Builder::new();
    // A pipe has no colours of its own accord.
    if io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        builder.write_style(WriteStyle::Always);
    }
    match has_filter() {
        true => drop(builder.parse_env(Env::default()).filter_module("encke::access", LevelFilter::Info)),
        // All passes here, so that the level can be another one later.
        false => drop(builder.filter_level(LevelFilter::Trace)),
    }
    let writer = Writer { lines: Arc::clone(&lines), out: io::stderr, has_room: stderr_has_room };
    builder.target(Target::Pipe(Box::new(writer)));
    builder.init();
    set_level(level);
    Log(lines)
}

/// From now on, logs up to `level`, unless `RUST_LOG` has the say.
pub fn set_level(level: &str) {
    if !has_filter()
        && let Ok(level) = level.parse()
    {
        log::set_max_level(level);
    }
}

fn has_filter() -> bool {
    std::env::var_os("RUST_LOG").is_some_and(|filter| !filter.is_empty())
}

impl Log {
    /// From now on nobody may be kept waiting, not even for a disk.
    pub fn step_aside(&self) {
        self.0.lock().aside = true;
    }

    /// Waits until the lines so far are written, but not for ever.
    pub fn finish(self) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.0.lock();
        while state.is_writing || !state.waiting.is_empty() && state.has_thread {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // These lines are lost with whoever should read them.
                return;
            }
            state = self.0.wait(state, left);
        }
        // For these there was no thread to be had.
        state.write_out(io::stderr(), stderr_has_room);
    }
}

impl State {
    /// Writes what waits, as long as nobody is kept waiting by that.
    fn write_out(&mut self, mut out: impl Write, has_room: fn() -> bool) {
        while !self.waiting.is_empty() && has_room() {
            let line = self.waiting.pop_front().unwrap_or_default();
            let _ = out.write_all(&line);
        }
    }
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something has changed, at most so long.
    fn wait<'a>(&self, state: MutexGuard<'a, State>, most: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, most).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Writes lines as they come, until there are none for a while. What cannot be written is nobody's business any
    /// more.
    fn write(&self, mut out: impl Write) {
        let mut state = self.lock();
        loop {
            if state.waiting.is_empty() {
                self.changed.notify_all();
                state = self.wait(state, IDLE);
            }
            let Some(line) = state.waiting.pop_front() else {
                state.has_thread = false;
                return;
            };
            let lost = std::mem::take(&mut state.lost);
            state.is_writing = true;
            drop(state);
            if lost > 0 {
                let notice = "lines of the log are lost: they could not be written in time";
                let _ = writeln!(out, "({lost} {notice})");
            }
            let _ = out.write_all(&line);
            state = self.lock();
            state.is_writing = false;
        }
    }
}

/// Whether standard error takes a line at once. A pipe in which a page is free does, and so does a file.
fn stderr_has_room() -> bool {
    let stderr = io::stderr();
    let mut stderr = [PollFd::new(&stderr, PollFlags::OUT)];
    poll(&mut stderr, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// What the logger writes to: each write is one line.
struct Writer<O> {
    lines: Arc<Lines>,
    /// Gives what lines are written to in the end.
    out: fn() -> O,
    /// Whether that takes a line at once.
    has_room: fn() -> bool,
}

impl<O: Write + 'static> Writer<O> {
    /// Starts the thread. If there is none to be had, what waits is written without it as far as there is room, and the
    /// next line asks again.
    fn start_thread(&self, state: &mut State) {
        let (lines, out) = (Arc::clone(&self.lines), self.out);
        let thread = thread::Builder::new().name("log".into()).spawn(move || lines.write(out()));
        state.has_thread = thread.is_ok();
        if !state.has_thread {
            state.write_out((self.out)(), self.has_room);
        }
    }
}

impl<O: Write + 'static> Write for Writer<O> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.lines.lock();
        match state.waiting.len() < LINES_MAX {
            true => state.waiting.push_back(line.to_vec()),
            false => state.lost += 1,
        }
        self.lines.changed.notify_all();
        if !state.has_thread && !state.aside {
            state.write_out((self.out)(), self.has_room);
        }
        if !state.has_thread && !state.waiting.is_empty() {
            self.start_thread(&mut state);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::OnceLock;
    use std::sync::mpsc::{self, Receiver, Sender};

    /// A reader that begins to read when it is told.
    struct Slow {
        go: Mutex<Receiver<()>>,
        written: Sender<Vec<u8>>,
    }

    static SLOW: OnceLock<Slow> = OnceLock::new();

    impl Write for &'static Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.go.lock().unwrap().recv();
            self.written.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_is_told_how_many() {
        let (go, wait) = mpsc::channel();
        let (written, read) = mpsc::channel();
        assert!(SLOW.set(Slow { go: Mutex::new(wait), written }).is_ok());
        let lines = Arc::new(Lines::default());
        let log = Log(Arc::clone(&lines));
        log.step_aside();
        let mut writer = Writer { lines: Arc::clone(&lines), out: || SLOW.get().unwrap(), has_room: || true };
        writer.write_all(b"0\n").unwrap();
        // It is on its way, and stays there.
        while !lines.lock().is_writing {
            thread::yield_now();
        }
        for number in 1..=LINES_MAX + 100 {
            writer.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        let lost = lines.lock().lost;
        assert_eq!(lost, 100);
        drop(go);
        while !lines.lock().waiting.is_empty() {
            thread::yield_now();
        }
        log.finish();
        let text: Vec<u8> = read.try_iter().flatten().collect();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(&format!("({lost} lines of the log are lost")), "{text:.200}");
        assert_eq!(
            text.lines().filter(|line| line.parse::<u64>().is_ok()).count() as u64,
            LINES_MAX as u64 + 1
        );
    }
}
