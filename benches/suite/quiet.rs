//! What disturbs a measurement: other processes, which the servers need not wait for, and other machines.
//!
//! Rounds in which a server or a generator had to wait for its processor are measured again. Whether it had is known
//! from the kernel's account of waiting (`/proc/PID/schedstat`) and of stolen time (proc_stat(5)), and never from what
//! was measured. A p99 is what happens in one hundredth of a round, so a round may not lose much more than that.

use std::cell::Cell;
use std::fs;
use std::io;
use std::time::Instant;

/// The part of the time that a process may wait for its processor.
const BEARABLE: f64 = 0.01;
/// The unit in which stolen time is told, seconds (`USER_HZ`). What is less than two of them says nothing.
const TICK: f64 = 0.01;
/// So often rounds are measured again before they are taken as they are: a measurement ends on a machine that is never
/// quiet, too.
const AGAIN_MOST: usize = 1;

/// Looks for what disturbs, and counts it.
pub struct Quiet {
    /// The processors that matter.
    cpus: [usize; 2],
    measured: Cell<usize>,
    again: Cell<usize>,
    disturbed: Cell<usize>,
}

impl Quiet {
    /// Of servers and generators on the processors `cpus`.
    pub fn new(cpus: [usize; 2]) -> Self {
        Self { cpus, measured: Cell::default(), again: Cell::default(), disturbed: Cell::default() }
    }

    /// Measures until none of the processes had to wait too long for its processor, or has not too often.
    pub fn undisturbed<T>(&self, pids: &[u32], mut measure: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.measured.set(self.measured.get() + 1);
        for _ in 0..AGAIN_MOST {
            let (result, is_disturbed) = self.watch(pids, &mut measure)?;
            if !is_disturbed {
                return Ok(result);
            }
            self.again.set(self.again.get() + 1);
        }
        let (result, is_disturbed) = self.watch(pids, &mut measure)?;
        self.disturbed.set(self.disturbed.get() + usize::from(is_disturbed));
        Ok(result)
    }

    /// A sentence for the head of a table.
    pub fn summary(&self) -> String {
        let [measured, again, disturbed] = [&self.measured, &self.again, &self.disturbed].map(Cell::get);
        format!(
            "{measured} pairs; {again} were measured again because a server or its generator had waited for its \
             processor, or the hypervisor had taken it, for more than {} % of the time; {disturbed} are disturbed all \
             the same",
            BEARABLE * 100.0
        )
    }

    /// What `measure` gives, and whether it was disturbed.
    fn watch<T>(&self, pids: &[u32], measure: &mut impl FnMut() -> io::Result<T>) -> io::Result<(T, bool)> {
        let (before, began) = ((waited(pids), self.stolen()), Instant::now());
        let result = measure()?;
        let bearable = began.elapsed().as_secs_f64() * BEARABLE;
        let longest = |after: Vec<f64>, before: Vec<f64>| {
            after.into_iter().zip(before).map(|(after, before)| after - before).fold(0.0, f64::max)
        };
        let (waited, stolen) = (longest(waited(pids), before.0), longest(self.stolen(), before.1));
        Ok((result, waited > bearable || stolen > bearable.max(1.5 * TICK)))
    }

    /// How much was stolen from each processor so far, seconds: the eighth number of its line `cpuN`.
    fn stolen(&self) -> Vec<f64> {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let ticks = |cpu: &usize| {
            let line =
                stat.lines().find(|line| line.split_whitespace().next() == Some(&format!("cpu{cpu}")))?;
            line.split_whitespace().nth(8)?.parse::<f64>().ok()
        };
        self.cpus.iter().map(|cpu| ticks(cpu).unwrap_or(0.0) * TICK).collect()
    }
}

/// How long each process has been ready and not running so far, seconds; nothing where the kernel does not say.
fn waited(pids: &[u32]) -> Vec<f64> {
    let read = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/schedstat")).ok();
    let nanoseconds = |text: String| text.split_whitespace().nth(1)?.parse::<f64>().ok();
    pids.iter().map(|pid| read(pid).and_then(nanoseconds).unwrap_or(0.0) / 1e9).collect()
}
