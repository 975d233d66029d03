//! `encke serve`.

use std::process::ExitCode;

use crate::config::Config;

/// Starts the server.
pub fn run(config: Config) -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    log::info!("listening on {}", config.listen);
    ExitCode::SUCCESS
}
