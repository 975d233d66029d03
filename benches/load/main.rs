//! The load generator: thousands of subscribers and some publishers on one thread against one server.
//!
//! ```text
//! args       what to run
//! run        the loop: connect, settle, warm up, measure
//! subscriber, publisher, technique, bayeux, answer, frame     what is spoken
//! secure                                               TLS
//! mark, ledger                                         what is checked
//! meter, report                                        what is told
//! ```
#![forbid(unsafe_code)]

mod answer;
mod args;
mod bayeux;
mod error;
mod frame;
mod ledger;
mod mark;
mod meter;
mod publisher;
mod report;
mod run;
mod secure;
mod subscriber;
mod technique;

use std::env;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::args::Args;
use crate::error::Error;
use crate::run::Run;

fn main() -> ExitCode {
    if env::args().skip(1).all(|argument| argument == "--bench") {
        println!("{}", Args::command().render_help());
        return ExitCode::SUCCESS;
    }
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {}: {error}", args.server);
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Error> {
    if let Some(cpu) = args.cpu {
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set).map_err(|error| Error::Limit(format!("processor {cpu}: {error}")))?;
    }
    let mut run = Run::new(args)?;
    if args.rounds {
        return run.rounds();
    }
    let report = run.once()?;
    print!("{}", report.table());
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_string_pretty(&report).expect("plain values") + "\n")?;
    }
    Ok(())
}
