//! How long, how many.

use std::path::PathBuf;

use clap::Parser;

/// Thousands of clients of every technique come, go and are killed, while the server's memory and descriptors are
/// watched and every message is accounted for.
#[derive(Parser, Debug)]
#[command(name = "soak")]
pub struct Args {
    /// How long
    #[arg(long, default_value_t = 600)]
    pub seconds: u64,
    /// Clients at once, spread evenly over techniques and channels
    #[arg(long, default_value_t = 2000)]
    pub clients: usize,
    /// Channels that the clients listen to
    #[arg(long, default_value_t = 50)]
    pub channels: usize,
    /// Messages a second on these channels together
    #[arg(long, default_value_t = 100)]
    pub rate: u64,
    /// Seconds a client lives on average
    #[arg(long, default_value_t = 15)]
    pub lifetime: u64,
    /// The server
    #[arg(long, default_value = "target/release/encke")]
    pub encke: PathBuf,
    /// Where the plots go
    #[arg(long, default_value = "target/soak")]
    pub output: PathBuf,
    /// Repeats a run's decisions
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What `cargo bench` passes
    #[arg(long, hide = true)]
    pub bench: bool,
}
