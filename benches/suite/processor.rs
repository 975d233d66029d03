//! Which processor somebody works on, and who need not wait for it.

use std::io;
use std::process::{Command, Stdio};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Moves this thread, and what it starts from now on, to a processor.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|error| io::Error::other(format!("processor {cpu}: {error}")))
}

/// Starts something on a processor: it inherits this thread's, which goes back to its own.
pub fn start_on<T>(cpu: usize, start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let own = sched_getaffinity(None)?;
    pin(cpu)?;
    let started = start();
    sched_setaffinity(None, &own)?;
    started
}

/// Gives processes a priority above all that is not a matter of real time. Returns whether that is allowed.
pub fn prefer(pids: &[u32]) -> bool {
    pids.iter().all(|pid| {
        let mut chrt = Command::new("chrt");
        chrt.args(["--fifo", "--pid", "1", &pid.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        chrt.status().is_ok_and(|status| status.success())
    })
}
