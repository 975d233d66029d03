//! What to run, from the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

use crate::technique::{Dialect, Technique};

/// The load generator: thousands of subscribers and some publishers against one server.
///
/// Every payload carries its channel, number and time of sending, so that loss, duplication and order are
/// checked and the latency is measured from publishing to reading. Whatever goes wrong is an error, never a nicer number.
#[derive(Parser, Debug)]
#[command(name = "load", after_help = EXAMPLES)]
pub struct Args {
    /// The server
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    pub server: SocketAddr,
    /// Where subscribers speak TLS; publishers go to the server in clear text
    #[arg(long, value_name = "ADDR:PORT")]
    pub tls: Option<SocketAddr>,
    /// Whose URLs to use
    #[arg(long, value_enum, default_value_t = Dialect::Encke)]
    pub dialect: Dialect,
    /// How the subscribers listen
    #[arg(long = "as", value_enum, value_name = "TECHNIQUE", default_value_t = Technique::Stream)]
    pub technique: Technique,
    /// Subscribers in all, spread evenly over the channels
    #[arg(short = 'n', long, default_value_t = 1000)]
    pub subscribers: usize,
    /// Channels, called c0, c1, …
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..1_000_000))]
    pub channels: u32,
    /// Channels that each subscriber listens to, the same for every run; more than one only as Bayeux
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..1000))]
    pub rooms: u32,
    /// Publishing connections
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..10_000))]
    pub publishers: u32,
    /// Closed loop: so many messages under way at once, where a message is under way until every subscriber of its channel has it
    #[arg(long, default_value_t = 1, conflicts_with = "rate", value_parser = clap::value_parser!(u32).range(1..100_000))]
    pub in_flight: u32,
    /// Open loop instead: messages a second over all channels, at even distances whatever the server does
    #[arg(long)]
    pub rate: Option<f64>,
    /// Open loop: so many messages at once, at distances that keep the rate
    #[arg(long, default_value_t = 1, requires = "rate", value_parser = clap::value_parser!(u32).range(1..100_000))]
    pub burst: u32,
    /// Bytes per message
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(48..1_000_000))]
    pub payload: u32,
    /// How long to publish
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    /// Publish so many messages instead
    #[arg(long)]
    pub messages: Option<u64>,
    /// Publish for so long before measuring
    #[arg(long, default_value_t = 0.2)]
    pub warm_up: f64,
    /// Distance of interval polls, milliseconds
    #[arg(long, default_value_t = 1000)]
    pub interval_ms: u64,
    /// Further subscribers of c0 that never read, and are given 8 MB before the others come
    #[arg(long, default_value_t = 0)]
    pub stalled: usize,
    /// Connections being opened at the same time
    #[arg(long, default_value_t = 500)]
    pub connecting: usize,
    /// Only connect: measures how long it takes until every stream has begun
    #[arg(long)]
    pub connect_only: bool,
    /// Give up when nothing arrives for so many seconds
    #[arg(long, default_value_t = 10.0)]
    pub patience: f64,
    /// The server's process, for its CPU time and memory (its children are counted in)
    #[arg(long)]
    pub pid: Option<u32>,
    /// Run on this processor
    #[arg(long)]
    pub cpu: Option<usize>,
    /// Write the results here as JSON too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Measure one round per line read from standard input, and print each as a line of JSON
    #[arg(long)]
    pub rounds: bool,
    /// What `cargo bench` passes
    #[arg(long, hide = true)]
    pub bench: bool,
}

const EXAMPLES: &str = "Examples:\n  \
    load --pid $(pidof encke) -n 10000                       fan-out, next message when all have the last\n  \
    load --pid $(pidof encke) --in-flight 64 --publishers 4  saturated\n  \
    load --as poll -n 5000                                   long polls, each asking again at once\n  \
    load --channels 1000 -n 10000 --rate 2000                open loop\n  \
    load --as bayeux --rooms 10 --channels 100 --payload 50 --rate 1000 --burst 10   CometD's load test";
