//! `encke reload`: checks the settings, then has the running server read them anew.

use std::process::ExitCode;

use clap::Args;
use rustix::process::Signal;

use super::process::{find, signal};
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
