//! The soak: thousands of clients of every technique against one server for as long as one likes, coming, going and
//! being killed all the time, while what the server takes is watched.
//!
//! ```text
//! args               how long, how many
//! driver             the loop: births, deaths, publishing, silence
//! client, technique  one client after the other in each place; what each technique asks
//! book               what was published: ids, and what must come next
//! publisher          the one connection that publishes
//! server, process    the process: starting, stopping, what /proc and /stats tell
//! watch              samples, verdicts and plots
//! ```
//! The generator's `mark`, `frame` and `technique` and the suite's `plot` are their own files, so that all agree on what they mean.
#![forbid(unsafe_code)]

mod args;
mod book;
mod client;
mod driver;
#[path = "../load/frame.rs"]
mod frame;
#[path = "../load/technique.rs"]
#[allow(dead_code)]
mod load_technique;
#[path = "../load/mark.rs"]
mod mark;
#[path = "../suite/plot.rs"]
#[allow(dead_code)]
mod plot;
mod process;
mod publisher;
mod server;
mod technique;
mod watch;

use std::env;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::args::Args;

fn main() -> ExitCode {
    if env::args().skip(1).all(|argument| argument == "--bench") {
        println!("{}", Args::command().render_help());
        return ExitCode::SUCCESS;
    }
    match driver::run(&Args::parse()) {
        Ok(verdicts) => {
            let mut is_fine = true;
            for verdict in verdicts {
                println!("{verdict}");
                is_fine &= verdict.holds;
            }
            if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}
