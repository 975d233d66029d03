//! The process of a server that runs: which it is, and signals to it.

use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

/// The number of the process that is meant.
pub fn find(pid: Option<u32>, file: Option<&Path>) -> Result<u32, String> {
    match (pid, file) {
        (Some(pid), _) => Ok(pid),
        (None, Some(file)) => read(file),
        (None, None) => {
            Err("which process? Name it by --pid, or the file with its number by --pid-file".into())
        }
    }
}

fn read(file: &Path) -> Result<u32, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("{}: {error}; does the server run?", file.display()))?;
    text.trim().parse().map_err(|_| format!("{}: holds no number of a process", file.display()))
}

/// Sends a server a signal.
pub fn signal(number: u32, signal: Signal) -> Result<u32, String> {
    let pid = i32::try_from(number).ok().and_then(Pid::from_raw).ok_or("that is no number of a process")?;
    // A number that another program has by now must not cost that program its life.
    let program = PathBuf::from(format!("/proc/{number}/comm"));
    let name = std::fs::read_to_string(program).map_err(|_| format!("there is no process {number}"))?;
    if name.trim() != "encke" {
        return Err(format!("process {number} is {}, not encke", name.trim()));
    }
    kill_process(pid, signal).map_err(|error| format!("process {number}: {error}"))?;
    Ok(number)
}
