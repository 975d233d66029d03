//! The suite: runs the standard set beside the floor and writes tables and plots.
//!
//! ```text
//! args        what to measure
//! bench       the servers, and measuring them in turn
//! standard    the standard set, one function per group of measures
//! server, generator, nchan, wrk    the processes
//! certificate what those have who speak TLS
//! crowd, feed, publisher           subscribers and publishers of the suite's own
//! processor   where they work
//! quiet       what disturbs a measurement
//! statistics, results, plot        ratios with errors, tables, SVG
//! ```
//! The generator's `meter` and `report` are its own files, so that both agree on what a number means.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod certificate;
mod crowd;
mod feed;
mod generator;
#[path = "../load/meter.rs"]
mod meter;
mod nchan;
mod plot;
mod processor;
mod publisher;
mod quiet;
#[path = "../load/report.rs"]
#[allow(dead_code)]
mod report;
mod results;
mod server;
mod standard;
mod statistics;
mod wrk;

use std::env;
use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::args::Args;
use crate::bench::Bench;

fn main() -> ExitCode {
    if env::args().skip(1).all(|argument| argument == "--bench") {
        println!("{}", Args::command().render_help());
        return ExitCode::SUCCESS;
    }
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("suite: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> io::Result<()> {
    let mut bench = Bench::new(args)?;
    standard::run(&mut bench)?;
    bench.write()
}
