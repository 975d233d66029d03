//! `encke sub`: prints the messages of channels as they come.
//!
//! It goes on by itself after a lost connection, from the last message it printed, and says when the server
//! no longer had what was missed in between.

mod envelope;
mod follower;
#[cfg(test)]
mod tests;

use std::io::{self, BufWriter};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::client::Server;
use follower::Follower;

/// No message and no heartbeat for this long, three times the server's interval: the connection is dead.
const SILENCE: Duration = Duration::from_secs(45);

/// Print the messages of channels as they come
///
/// With a wildcard or several channels, each message is printed behind its channel and a tab.
#[derive(Debug, Clone, Args)]
pub struct SubscribeArgs {
    /// Channels, such as stocks/AAPL; a segment * matches one, a last segment ** everything below
    #[arg(required = true, value_name = "CHANNEL")]
    pub channels: Vec<String>,
    /// Print whole envelopes (id, channel, event, key, data) as JSON, one per line
    #[arg(long)]
    pub json: bool,
    /// Where to begin: after the message with this id, or oldest, now, -N (the last N of each channel) [default: now]
    #[arg(long, value_name = "ID|oldest|now|-N", allow_negative_numbers = true)]
    pub after: Option<String>,
    /// The latest value of each key, then only values that no newer one has superseded [begins with all of them]
    #[arg(long)]
    pub latest: bool,
    /// At most so many deliveries a second, 0.1 to 50; implies --latest
    #[arg(long, value_name = "N")]
    pub rate: Option<f64>,
    /// Have what changed sent instead of whole values, which are printed all the same; implies --latest
    #[arg(long)]
    pub delta: bool,
    /// Stop after this many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Address of the server [default: http://127.0.0.1:8080, or the environment's ENCKE_URL]
    #[arg(long)]
    pub url: Option<String>,
}

/// Runs `encke sub`: messages go to standard output, all else to standard error.
pub fn run(args: &SubscribeArgs) -> ExitCode {
    let followed = Server::find(args.url.as_deref(), SILENCE).and_then(|server| {
        let out = BufWriter::new(io::stdout().lock());
        Follower::new(server, args, out, io::stderr()).follow()
    });
    match followed {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("encke sub: {reason}");
            ExitCode::FAILURE
        }
    }
}
