//! `encke reload`: checks the settings, then has the running server read them anew.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};

use super::settings::{self, Options};
use super::upgrade;

/// Arguments of `encke reload`.
#[derive(Debug, Args)]
#[command(
    after_help = "Takes the options of `encke serve`, to check the same settings. What has changed, and what of it needs a \
                  restart, is in the log of the server. If another version is installed than the one that runs, hands over to it \
                  (see encke upgrade). Under systemd: systemctl reload encke."
)]
pub struct ReloadArgs {
    /// Number of the server's process [default: from the file that the setting pid_file names]
    #[arg(long)]
    pid: Option<u32>,
    #[command(flatten)]
    options: Options,
}

/// Runs it. Nothing is done if the settings are wrong.
pub fn run(args: &ReloadArgs) -> ExitCode {
    let loaded = match args.options.load() {
        Ok(loaded) => loaded,
        Err(problems) => return settings::report(&problems),
    };
    let process = find(args.pid, loaded.config.pid_file.as_deref());
    let told = process.and_then(|pid| match upgrade::is_another_program(pid) {
        // What is installed is another version: it reads the settings, too.
        true => upgrade::upgrade(pid, loaded.config.upgrade_seconds),
        false => signal(pid, Signal::HUP)
            .map(|pid| format!("process {pid} reads its settings anew; its log says what has changed\n")),
    });
    match told {
        Ok(text) => super::print(&text),
        Err(reason) => {
            eprintln!("encke reload: {reason}");
            ExitCode::FAILURE
        }
    }
}

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
