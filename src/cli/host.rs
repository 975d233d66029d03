//! What the process is to the reactor: where settings come from, and who is told what goes on (systemd).

use std::path::PathBuf;
use std::time::Duration;

use sd_notify::NotifyState;

use super::logging;
use super::serve::effective;
use super::settings::{self, Options};
use crate::config::Config;
use crate::reactor::{Host, Moment};

/// This process.
pub struct Process {
    options: Options,
    /// File with its number, to be removed at the end.
    pid_file: Option<PathBuf>,
}

impl Process {
    /// The process that was started with these options.
    pub const fn new(options: Options) -> Self {
        Self { options, pid_file: None }
    }

    /// Writes the number of the process where `encke reload` looks for it.
    pub fn write_pid(&mut self, config: &Config) -> std::io::Result<()> {
        let Some(path) = &config.pid_file else { return Ok(()) };
        std::fs::write(path, format!("{}\n", std::process::id()))
            .map_err(|error| std::io::Error::other(format!("pid_file: {}: {error}", path.display())))?;
        self.pid_file = Some(path.clone());
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(path) = &self.pid_file {
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

    fn tell(&mut self, moment: Moment) {
        let told = match moment {
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
