//! What this system has, where the settings leave it open: descriptors and memory.

use crate::config::Config;
use crate::reactor;
use crate::server::limits::RESERVED;

/// Descriptors that are not clients: listeners, the poll, the waker, standard streams.
const OWN_DESCRIPTORS: usize = 16;

/// The settings with what this system has put in where they leave it open.
pub fn effective(mut config: Config) -> Config {
    make_room(&mut config);
    if config.limits.memory == 0 {
        config.limits.memory = reactor::available_memory() / 4 * 3;
    }
    config
}

/// Every client takes a descriptor: takes as many as the system gives. If they do not suffice, lowers
/// `limits.connections`, so that those who are too many are told so, and health checks are answered. With very few
/// descriptors there is no room for that either, and accepting pauses when they are used up.
fn make_room(config: &mut Config) {
    let descriptors = reactor::raise_descriptors();
    let connections = &mut config.limits.connections;
    let room = usize::try_from(descriptors).unwrap_or(usize::MAX).saturating_sub(OWN_DESCRIPTORS);
    if room >= 2 * RESERVED && room - RESERVED < *connections {
        let lowered = room - RESERVED;
        log::info!(
            "the system allows {descriptors} open files: limits.connections is {lowered} instead of {connections} \
             (raise LimitNOFILE or ulimit -n)"
        );
        *connections = lowered;
    }
}
