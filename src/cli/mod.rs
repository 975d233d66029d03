//! The command line.

mod client;
pub mod publish;
pub mod subscribe;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "encke", version)]
enum Command {
    Pub(publish::PublishArgs),
    Sub(subscribe::SubscribeArgs),
}

/// Runs the program.
pub fn main() -> ExitCode {
    match Command::parse() {
        Command::Pub(args) => publish::run(&args),
        Command::Sub(args) => subscribe::run(&args),
    }
}
