//! What the hypervisor takes: a round that lost a part of its processors to other machines is measured again.
//!
//! Whether it is depends on the kernel's account of stolen time (proc_stat(5)) and never on what was measured. One
//! hundredth of a round is the p99 of what happens in it, so a round may not lose more than that.

use std::cell::Cell;
use std::fs;
use std::io;
use std::time::Instant;

/// The part of one processor's time that a round may lose.
const BEARABLE: f64 = 0.01;
/// The account's unit in seconds (`USER_HZ`). What is less than two of them cannot be told from nothing.
const TICK: f64 = 0.01;
/// So often a round is measured again before it is taken as it is: on a machine that is never quiet, too, a
/// measurement ends.
const AGAIN_MOST: usize = 2;

/// Counts what was taken.
#[derive(Default)]
pub struct Steal {
    measured: Cell<usize>,
    again: Cell<usize>,
    disturbed: Cell<usize>,
}

impl Steal {
    /// Measures until the hypervisor has left the processors alone, or has not too often.
    pub fn undisturbed<T>(&self, mut measure: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.measured.set(self.measured.get() + 1);
        for _ in 0..AGAIN_MOST {
            let (result, is_disturbed) = watch(&mut measure)?;
            if !is_disturbed {
                return Ok(result);
            }
            self.again.set(self.again.get() + 1);
        }
        let (result, is_disturbed) = watch(&mut measure)?;
        self.disturbed.set(self.disturbed.get() + usize::from(is_disturbed));
        Ok(result)
    }

    /// A sentence for the head of a table.
    pub fn summary(&self) -> String {
        let [measured, again, disturbed] = [&self.measured, &self.again, &self.disturbed].map(Cell::get);
        format!(
            "{measured} rounds, {again} of them measured again because more than {} % of a processor was stolen, \
             {disturbed} disturbed all the same",
            BEARABLE * 100.0
        )
    }
}

/// What `measure` gives, and whether too much of a processor was stolen meanwhile.
fn watch<T>(measure: &mut impl FnMut() -> io::Result<T>) -> io::Result<(T, bool)> {
    let (before, began) = (stolen(), Instant::now());
    let result = measure()?;
    let bearable = (began.elapsed().as_secs_f64() * BEARABLE).max(1.5 * TICK);
    let taken = stolen().into_iter().zip(before).map(|(after, before)| (after - before) as f64 * TICK);
    Ok((result, taken.fold(0.0, f64::max) > bearable))
}

/// Stolen ticks of each processor so far; none where the kernel does not say.
fn stolen() -> Vec<u64> {
    parse(&fs::read_to_string("/proc/stat").unwrap_or_default())
}

/// The eighth number of every line `cpuN`.
fn parse(stat: &str) -> Vec<u64> {
    let processors = stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "));
    processors.filter_map(|line| line.split_whitespace().nth(8)?.parse().ok()).collect()
}
