//! What the process is to the reactor: where settings come from, and who is told what goes on (systemd).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::getppid;
use rustix::stdio::dup2_stdin;

use sd_notify::NotifyState;

use super::logging;
use super::settings::{self, Options};
use super::system::effective;
use crate::config::Config;
use crate::reactor::{Host, Moment};

/// This process.
pub struct Process {
    options: Options,
    /// The file that the program was started from.
    program: Option<PathBuf>,
    /// File with its number, to be removed at the end.
    pid_file: Option<PathBuf>,
}

impl Process {
    /// The process that was started with these options.
    pub fn new(options: Options) -> Self {
        Self { options, program: program(), pid_file: None }
    }

    /// Writes the number of the process where `encke reload` looks for it.
    pub fn write_pid(&mut self, config: &Config) -> io::Result<()> {
        let Some(path) = &config.pid_file else { return Ok(()) };
        write_pid(path)?;
        self.pid_file = Some(path.clone());
        Ok(())
    }

    /// Writes it when the process before has handed over.
    pub fn write_pid_later(&mut self, config: &Config) {
        self.pid_file.clone_from(&config.pid_file);
    }
}

/// Names, to a process that is to take over, the one that started it: then its standard input is the line to that one.
pub const PREDECESSOR: &str = "PREDECESSOR_OF_ENCKE";

/// The line to the process that this one is to take over from, if there is one.
pub fn line() -> io::Result<Option<UnixStream>> {
    let named = std::env::var(PREDECESSOR).ok().and_then(|pid| pid.parse().ok());
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get());
    if named.is_none() || named != parent {
        return Ok(None);
    }
    let line = io::stdin().as_fd().try_clone_to_owned()?;
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(Some(line.into()))
}

fn write_pid(path: &Path) -> io::Result<()> {
    std::fs::write(path, format!("{}\n", std::process::id()))
        .map_err(|error| io::Error::other(format!("pid_file: {}: {error}", path.display())))
}

/// The file that this program was started from, by the name that it was started by: that may be a link which points to
/// another version by now.
fn program() -> Option<PathBuf> {
    let named = std::env::args_os().next().map(PathBuf::from);
    let named = named.filter(|path| path.components().count() > 1 && path.exists());
    named.or_else(|| std::env::current_exe().ok())
}

impl Drop for Process {
    fn drop(&mut self) {
        let own = std::process::id().to_string();
        let is_own = |path: &PathBuf| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == own);
        if let Some(path) = self.pid_file.as_ref().filter(|path| is_own(path)) {
            // Somebody may have removed it, or the directory is not ours any more.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Host for Process {
    fn read(&mut self) -> Result<Config, Vec<String>> {
        let loaded = self
            .options
            .load()
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<String>>())?;
        for warning in settings::warnings(&loaded) {
            log::warn!("{warning}");
        }
        Ok(effective(loaded.config))
    }

    fn applied(&mut self, config: &Config) {
        logging::set_level(&config.log.level);
    }

    fn version(&self) -> String {
        super::VERSION.to_owned()
    }

    fn start_successor(&mut self, line: OwnedFd) -> io::Result<Child> {
        let program = self.program.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let mut command = Command::new(program);
        command.args(std::env::args_os().skip(1)).stdin(Stdio::from(line));
        command.env(PREDECESSOR, std::process::id().to_string());
        // It names this process, and is for the one that serves.
        command.env_remove("WATCHDOG_PID");
        command
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.display())))
    }

    fn tell(&mut self, moment: Moment) {
        if let (Moment::Ready, Some(path)) = (moment, &self.pid_file)
            && let Err(error) = write_pid(path)
        {
            log::warn!("{error}");
        }
        if let Moment::Succeeded(_) = moment {
            // It is the other one's.
            self.pid_file = None;
        }
        let told = match moment {
            Moment::Succeeded(pid) => sd_notify::notify(&[NotifyState::MainPid(pid)]),
            Moment::Ready => sd_notify::notify(&[NotifyState::Ready]),
            Moment::Reloading => NotifyState::monotonic_usec_now()
                .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now])),
            Moment::Leaving => sd_notify::notify(&[NotifyState::Stopping]),
            Moment::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
        };
        if let Err(error) = told {
            log::warn!("cannot tell the service manager that this is {moment:?}: {error}");
        }
    }

    fn watchdog(&self) -> Option<Duration> {
        sd_notify::watchdog_enabled()
    }
}
