//! `encke upgrade`: has a running server hand over to the program that is installed now.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::Signal;

use super::host::PREDECESSOR;
use super::process::{find, signal};
use super::settings::{self, Options};

/// How often to look.
const LOOK: Duration = Duration::from_millis(20);
/// What the server may take beyond its own deadlines.
const GRACE_SECONDS: u64 = 5;

/// In this time another process is seen, unless it ended at once.
const SEEN: Duration = Duration::from_secs(3);

/// Arguments of `encke upgrade`.
#[derive(Debug, Args)]
#[command(
    after_help = "The running server starts the program from the file that it was itself started from, with the same options, and \
                  hands over every connection but those by TLS, which end in good order. If the new process does not come up, the \
                  old one goes on as if nothing had happened, and this command fails. Takes the options of `encke serve`, to check \
                  the same settings."
)]
pub struct UpgradeArgs {
    /// Number of the server's process [default: from the file that the setting pid_file names]
    #[arg(long)]
    pid: Option<u32>,
    #[command(flatten)]
    options: Options,
}

/// Runs it. Nothing is done if the settings are wrong.
pub fn run(args: &UpgradeArgs) -> ExitCode {
    let loaded = match args.options.load() {
        Ok(loaded) => loaded,
        Err(problems) => return settings::report(&problems),
    };
    let seconds = loaded.config.upgrade_seconds;
    let told = find(args.pid, loaded.config.pid_file.as_deref()).and_then(|pid| upgrade(pid, seconds));
    match told {
        Ok(text) => super::print(&text),
        Err(reason) => {
            eprintln!("encke upgrade: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Has process `pid` hand over, which may take `seconds` twice.
pub fn upgrade(pid: u32, seconds: u64) -> Result<String, String> {
    signal(pid, Signal::USR2)?;
    let begun = Instant::now();
    let until = begun + Duration::from_secs(2 * seconds + GRACE_SECONDS);
    let (mut child, mut has_ended) = (None, false);
    while Instant::now() < until {
        thread::sleep(LOOK);
        child = child.or_else(|| successor_of(pid));
        let is_there = child.is_some_and(is_running);
        match (child, is_running(pid)) {
            (Some(child), false) if is_there => {
                return Ok(format!("process {child} has taken over from process {pid}\n"));
            }
            // It may have ended a moment before it was looked for.
            (None, false) if !has_ended => has_ended = true,
            (_, false) => return Err(format!("process {pid} has ended; its log says why")),
            (Some(_), true) if !is_there => break,
            (None, true) if begun.elapsed() > SEEN => break,
            _ => {}
        }
    }
    Err(format!("process {pid} goes on: no other one has taken over; its log says why"))
}

/// Whether the file of the program that runs as process `pid` is another one than that of this program.
pub fn is_another_program(pid: u32) -> bool {
    let file = |path: &str| fs::metadata(path).ok().map(|data| (data.dev(), data.ino()));
    let (theirs, own) = (file(&format!("/proc/{pid}/exe")), file("/proc/self/exe"));
    theirs.is_some() && own.is_some() && theirs != own
}

/// Whether there is a process of that number that has not ended.
fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name of the process may contain blanks, its closing parenthesis is the last one.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The process that is to take over from process `pid`, even if that has ended: it was told so when it was started.
fn successor_of(pid: u32) -> Option<u32> {
    let told = format!("{PREDECESSOR}={pid}");
    let entries = fs::read_dir("/proc").ok()?;
    let mut numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.find(|number: &u32| {
        let variables = fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
        variables.split(|byte| *byte == 0).any(|variable| variable == told.as_bytes())
    })
}
