//! `encke config`: prints the settings, or checks a file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::settings::{self, Options};
use crate::config::{self, File, Problem, Sources};
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
    let (problems, warnings) = match settings::read(path) {
        Ok(text) => check_text(&path.display().to_string(), &text),
        Err(problem) => (vec![problem], Vec::new()),
    };
    // Without the program's name in front, editors can jump to the lines.
    for warning in &warnings {
        eprintln!("warning: {warning}");
    }
    if problems.is_empty() {
        return super::print("ok\n");
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    ExitCode::FAILURE
}

/// What is wrong with a file and with the keys that it names, and what to warn of.
fn check_text(name: &str, text: &str) -> (Vec<Problem>, Vec<String>) {
    let file = File { name, text };
    let problems = config::check(file);
    if !problems.is_empty() {
        return (problems, Vec::new());
    }
    let checked = config::load(&Sources { options: &[], environment: &|_| None, file: Some(file) })
        .and_then(|mut loaded| settings::read_keys(&mut loaded).map(|()| loaded));
    match checked {
        Ok(loaded) => (Vec::new(), settings::warnings(&loaded)),
        Err(problems) => (problems, Vec::new()),
    }
}
