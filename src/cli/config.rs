//! `encke config`: prints the settings, or checks a file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::settings::{self, Options};
use crate::config::{self, File};
use crate::server::limits;

/// Arguments of `encke config`.
#[derive(Debug, Args)]
#[command(after_help = "Takes every option of `encke serve` and shows what would be in force.")]
pub struct ConfigArgs {
    /// Only check this TOML file: report everything that is wrong in it, by line
    #[arg(long, value_name = "FILE", exclusive = true)]
    check: Option<PathBuf>,
    /// Only print every limit, what happens when it is reached, and what counts it, as a table in Markdown
    #[arg(long, exclusive = true)]
    limits: bool,
    #[command(flatten)]
    options: Options,
}

/// Runs it.
pub fn run(args: &ConfigArgs) -> ExitCode {
    if let Some(path) = &args.check {
        return check(path);
    }
    if args.limits {
        return super::print(&limits::markdown());
    }
    settings::warn_of_variables();
    match args.options.load() {
        Ok(loaded) => super::print(&config::toml(&loaded)),
        Err(problems) => settings::report(&problems),
    }
}

fn check(path: &Path) -> ExitCode {
    let problems = match settings::read(path) {
        Ok(text) => config::check(File { name: &path.display().to_string(), text: &text }),
        Err(problem) => vec![problem],
    };
    if problems.is_empty() {
        return super::print("ok\n");
    }
    // Without the program's name in front, editors can jump to the lines.
    for problem in &problems {
        eprintln!("{problem}");
    }
    ExitCode::FAILURE
}
