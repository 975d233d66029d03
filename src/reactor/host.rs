//! What the reactor asks of the process around it: its settings, and to tell the service manager what goes on.

use crate::config::Config;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::time::Duration;

/// What a service manager is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Connections are accepted; also after a reload.
    Ready,
    /// Settings are read anew.
    Reloading,
    /// A shutdown has begun.
    Leaving,
    /// It is alive.
    Alive,
    /// The process of this number serves from now on.
    Succeeded(u32),
}

/// The process around the reactor.
pub trait Host {
    /// Reads the settings anew. The error is all that is wrong, a line for each.
    fn read(&mut self) -> Result<Config, Vec<String>>;

    /// Hears that these settings count now.
    fn applied(&mut self, config: &Config);

    /// Tells the service manager, if there is one.
    fn tell(&mut self, moment: Moment);

    /// Which version it is.
    fn version(&self) -> String;

    /// Starts the program anew, with this end of a line as its standard input.
    fn start_successor(&mut self, line: OwnedFd) -> io::Result<Child>;

    /// How often the service manager wants to hear that the process is alive.
    fn watchdog(&self) -> Option<Duration>;
}
