//! What to measure, from the command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// The standard set: what Encke costs beside the floor, in interleaved pairs.
///
/// All servers are up all the time, on one processor, where they wait for no other process if that is allowed (it takes
/// root, and chrt); the generators are on another. A ratio is the geometric mean of the pairs' ratios, with two standard
/// errors of the mean logarithm, where nothing else is said. Tables and plots are written to the output directory.
#[derive(Parser, Debug)]
#[command(name = "suite")]
pub struct Args {
    /// The server to measure
    #[arg(long, default_value = "target/release/encke")]
    pub encke: PathBuf,
    /// The floor [default: the newest beside this program]
    #[arg(long)]
    pub floor: Option<PathBuf>,
    /// The load generator [default: the newest beside this program]
    #[arg(long)]
    pub load: Option<PathBuf>,
    /// How much to measure
    #[arg(long, value_enum, default_value_t = Size::Quick)]
    pub size: Size,
    /// Pairs per ratio [default: 10, full: 30]
    #[arg(long)]
    pub pairs: Option<usize>,
    /// Measure nchan (and nginx `return 200`) in the same run
    #[arg(long)]
    pub peers: bool,
    /// Measure the floor against a second floor instead of Encke: what the noise alone gives
    #[arg(long)]
    pub floor_twice: bool,
    /// Only measures whose name contains this
    #[arg(long, default_value = "")]
    pub only: String,
    /// Where tables and plots go
    #[arg(long, default_value = "target/bench")]
    pub output: PathBuf,
    /// Seconds between two heartbeats of Encke's streams. By default there are none, as the floor and nchan send none:
    /// each costs what a delivery costs, and those of a server that rests are felt by the one that is measured
    #[arg(long, default_value_t = 3600)]
    pub heartbeat: u64,
    /// The servers' processor
    #[arg(long, default_value_t = 0)]
    pub server_cpu: usize,
    /// The generators' processor
    #[arg(long, default_value_t = 1)]
    pub load_cpu: usize,
    /// What `cargo bench` passes
    #[arg(long, hide = true)]
    pub bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// A few minutes
    Quick,
    /// Half an hour
    Full,
}

impl Args {
    pub fn pairs(&self) -> usize {
        let usual = if self.is_full() { 30 } else { 10 };
        self.pairs.unwrap_or(usual).max(2)
    }

    pub fn is_full(&self) -> bool {
        self.size == Size::Full
    }
}
