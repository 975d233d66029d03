//! `encke backup`: a copy of the history on disk, whether its server runs or not.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::settings::{self, Options};
use super::status::{bytes, grouped};
use crate::reactor::store;

/// Arguments of `encke backup`.
#[derive(Debug, Args)]
#[command(
    after_help = "The history is that of the setting store.dir: --store-dir, ENCKE_STORE_DIR, or the file of --config. Run \
                  this as the server's user, or as root. To restore it: stop the server, put FILE in the place of \
                  history.redb in store.dir, start the server; clients are then told of a gap."
)]
pub struct BackupArgs {
    /// Where to; a file of that name is replaced when the copy is complete
    file: PathBuf,
    /// Megabytes a second, at most
    #[arg(long, default_value_t = 20, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: u64,
    #[command(flatten)]
    options: Options,
}

/// Runs it.
pub fn run(args: &BackupArgs) -> ExitCode {
    let loaded = match args.options.load() {
        Ok(loaded) => loaded,
        Err(problems) => return settings::report(&problems),
    };
    let Some(path) = &loaded.config.store.dir else {
        return fail("which history? Name its directory by --store-dir");
    };
    match store::back_up(path, &args.file, args.rate * 1_000_000) {
        Ok(copied) => {
            super::print(&format!("{} messages, {}\n", grouped(copied.messages), bytes(copied.bytes)))
        }
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("encke backup: {why}");
    ExitCode::FAILURE
}
