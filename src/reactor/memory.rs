//! How much memory the process has, and how much there is.

use rustix::system::sysinfo;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Tells how much memory of this process is resident.
#[derive(Debug)]
pub struct Resident {
    /// `/proc/self/statm`, if there is one.
    file: Option<File>,
    page_bytes: usize,
}

impl Resident {
    /// For this process.
    pub fn open() -> Self {
        Self { file: File::open("/proc/self/statm").ok(), page_bytes: rustix::param::page_size() }
    }

    /// Looks; 0 if the system does not tell.
    pub fn look(&self) -> Weight {
        let mut buffer = [0; 128];
        let read = self.file.as_ref().and_then(|file| file.read_at(&mut buffer, 0).ok());
        let text = str::from_utf8(&buffer[..read.unwrap_or(0)]).unwrap_or_default();
        let mut pages = text.split(' ').map(|pages| pages.parse::<usize>().unwrap_or(0));
        let mut next = || pages.next().unwrap_or(0) * self.page_bytes;
        Weight { size: next(), resident: next() }
    }
}

/// What this process takes.
#[derive(Debug, Clone, Copy)]
pub struct Weight {
    /// Bytes of address space.
    pub size: usize,
    /// Bytes that are resident.
    pub resident: usize,
}

/// Bytes of memory that this process may count on: what the machine has or, if that is less, what its control
/// group may have.
pub fn available() -> usize {
    std::iter::once(machine()).chain(group_limits()).min().unwrap_or(0)
}

/// What the machine has. The kernel is asked, as `/proc/meminfo` is not shown to sandboxed services (`ProcSubset=pid`).
fn machine() -> usize {
    let told = sysinfo();
    let units = usize::try_from(told.totalram).unwrap_or(usize::MAX);
    units.saturating_mul(usize::try_from(told.mem_unit).unwrap_or(1))
}

/// The limits of the control group of this process and of those around it.
fn group_limits() -> impl Iterator<Item = usize> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_owned();
    let files: Vec<_> = Path::new(&own)
        .ancestors()
        .map(|group| Path::new("/sys/fs/cgroup").join(group).join("memory.max"))
        .collect();
    files.into_iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_resident_in_what_there_is() {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
        let told = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
        let kib: usize = told.trim().strip_suffix(" kB").unwrap().parse().unwrap();
        assert_eq!(machine() >> 10, kib);
        let (Weight { resident, .. }, available) = (Resident::open().look(), available());
        assert!(resident > 100_000 && resident < available, "{resident} of {available}");
    }
}
