//! For how long, of which kinds.

use std::path::PathBuf;

use clap::Parser;

/// What an innocent client feels while strangers do what they may, as much as they can.
#[derive(Parser, Debug)]
#[command(name = "hostile")]
pub struct Args {
    /// Seconds for each kind
    #[arg(long, default_value_t = 8)]
    pub seconds: u64,
    /// MiB of memory that the server may take
    #[arg(long, default_value_t = 256)]
    pub memory_mib: u64,
    /// Only these kinds, separated by commas
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Only all of them together
    #[arg(long)]
    pub together: bool,
    /// The server
    #[arg(long, default_value = "target/release/encke")]
    pub encke: PathBuf,
    /// What `cargo bench` passes
    #[arg(long, hide = true)]
    pub bench: bool,
}
