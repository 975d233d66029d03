//! What the reactor asks of the process around it: its settings, and to tell the service manager what goes on.

use crate::config::Config;
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
}

/// The process around the reactor.
pub trait Host {
    /// Reads the settings anew. The error is all that is wrong, a line for each.
    fn read(&mut self) -> Result<Config, Vec<String>>;

    /// Hears that these settings count now.
    fn applied(&mut self, config: &Config);

    /// Tells the service manager, if there is one.
    fn tell(&mut self, moment: Moment);

    /// How often the service manager wants to hear that the process is alive.
    fn watchdog(&self) -> Option<Duration>;
}
