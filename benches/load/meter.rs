//! What `/proc` tells of a server: CPU time and memory.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

/// A server's processes: the one given and its children.
#[derive(Clone, Debug)]
pub struct Meter {
    pids: Vec<u32>,
}

/// CPU time since the process began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// Microseconds on a processor, from the scheduler (nanosecond clock).
    pub total_us: f64,
    /// The kernel's split of it, which counts in ticks of 10 ms: good for seconds, not for less.
    pub user_us: f64,
    pub system_us: f64,
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    pub rss: i64,
    pub pss: i64,
    /// Resident, and not a file's: heap and stack.
    pub anonymous: i64,
    /// The whole kernel's slabs, so of both ends of every connection, and of everything else that runs.
    pub slab: i64,
}

impl Meter {
    /// Fails if there is no such process.
    pub fn new(pid: u32) -> io::Result<Self> {
        let mut pids = vec![pid];
        let mut at = 0;
        while let Some(pid) = pids.get(at) {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
            pids.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            at += 1;
        }
        Ok(Self { pids })
    }

    /// The process and its children.
    #[allow(dead_code)]
    pub fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// CPU time of all threads of all processes.
    pub fn cpu(&self) -> io::Result<Cpu> {
        const TICK_US: f64 = 10_000.0;
        let mut sum = Cpu::default();
        for pid in &self.pids {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
            let ticks =
                |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0) * TICK_US;
            sum.user_us += ticks(11);
            sum.system_us += ticks(12);
            let mut exact = 0.0;
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
                exact += text.split_whitespace().next().and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0)
                    / 1000.0;
            }
            sum.total_us += if exact > 0.0 { exact } else { ticks(11) + ticks(12) };
        }
        Ok(sum)
    }

    pub fn memory(&self) -> io::Result<Memory> {
        let mut sum = Memory { slab: slab()?, ..Memory::default() };
        for pid in &self.pids {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            sum.rss += field(&text, "Rss:");
            sum.pss += field(&text, "Pss:");
            sum.anonymous += field(&text, "Anonymous:");
        }
        Ok(sum)
    }
}

impl Memory {
    /// What `self` is more than `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            rss: self.rss - before.rss,
            pss: self.pss - before.pss,
            anonymous: self.anonymous - before.anonymous,
            slab: self.slab - before.slab,
        }
    }
}

fn slab() -> io::Result<i64> {
    Ok(field(&fs::read_to_string("/proc/meminfo")?, "Slab:"))
}

/// Bytes of a line `name   123 kB`.
fn field(text: &str, name: &str) -> i64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()).and_then(|n| n.parse::<i64>().ok()).unwrap_or(0)
        << 10
}
