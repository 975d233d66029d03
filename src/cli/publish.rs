//! `encke pub`: publishes one message from its arguments, or every line of standard input as it comes.
//!
//! A line that was read is published, or the program says which one was not and ends with a failure: it
//! tries again for as long as trying again cannot publish a message twice.

mod pace;
mod progress;
mod publisher;
#[cfg(test)]
mod tests;

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;

use super::client::{Line, Server, env, read_line};
use pace::Pacer;
use progress::Progress;
use publisher::{Outcome, Publisher};

/// Nothing moves for this long while an answer is awaited: the connection is dead.
const SILENCE: Duration = Duration::from_secs(30);

/// Publish a message, or every line of standard input, to a channel
///
/// The token for a server that wants one is read from the environment variable ENCKE_PUBLISH_TOKEN.
#[derive(Debug, Clone, Args)]
pub struct PublishArgs {
    /// Channel to publish to, such as stocks/AAPL
    pub channel: String,
    /// The message, its words joined by spaces; none = every line of standard input is a message
    pub message: Vec<String>,
    /// Messages per second at most, evenly spaced
    #[arg(long, value_name = "N", value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// Event type of the messages
    #[arg(long, value_name = "TYPE")]
    pub event: Option<String>,
    /// Key whose latest value each message is
    #[arg(long)]
    pub key: Option<String>,
    /// Seconds the messages may wait in the history; 0 = only for those connected now
    #[arg(long, value_name = "SECONDS")]
    pub ttl: Option<u64>,
    /// What the messages are [default: text/plain; charset=utf-8]
    #[arg(long, value_name = "MIME")]
    pub content_type: Option<String>,
    /// Address of the server [default: http://127.0.0.1:8080, or the environment's ENCKE_URL]
    #[arg(long)]
    pub url: Option<String>,
}

/// Runs `encke pub`; what it has to say goes to standard error.
pub fn run(args: &PublishArgs) -> ExitCode {
    let stderr = io::stderr();
    let on_terminal = stderr.is_terminal();
    let publisher = Server::find(args.url.as_deref(), SILENCE)
        .and_then(|server| Publisher::new(server, args, env("ENCKE_PUBLISH_TOKEN")?.as_deref()));
    let mut progress = Progress::new(stderr, on_terminal, &args.channel, Instant::now());
    let published = publisher.and_then(|mut publisher| {
        if args.message.is_empty() {
            let pacer = args.rate.map(Pacer::new);
            publish_lines(&mut publisher, &mut io::stdin().lock(), pacer, &mut progress)
        } else {
            publish_one(&mut publisher, args.message.join(" ").as_bytes(), &mut progress)
        }
    });
    match published {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            progress.note(&reason);
            ExitCode::FAILURE
        }
    }
}

fn publish_one(
    publisher: &mut Publisher,
    message: &[u8],
    progress: &mut Progress<impl Write>,
) -> Result<(), String> {
    match publisher.publish(message, |notice| progress.note(notice))? {
        Outcome::Published { subscribers } => progress.published(subscribers, Instant::now()),
        Outcome::TooLarge(reason) => return Err(reason),
    }
    progress.finish(Instant::now());
    Ok(())
}

/// Publishes the lines of `input` as they come. A line that is too large is reported and the next ones go
/// on, but it makes the whole a failure.
fn publish_lines(
    publisher: &mut Publisher,
    input: &mut impl BufRead,
    mut pacer: Option<Pacer>,
    progress: &mut Progress<impl Write>,
) -> Result<(), String> {
    let mut line = Vec::new();
    let mut refused = 0_u64;
    let mut number = 0_u64;
    let ended = loop {
        number += 1;
        match read_line(input, &mut line) {
            Ok(Line::End) => break Ok(()),
            Ok(_) if line.is_empty() => continue,
            Ok(_) => {}
            Err(error) => break Err(format!("standard input, line {number}: {error}")),
        }
        if let Some(pacer) = &mut pacer {
            sleep(pacer.wait(Instant::now()));
        }
        match publisher.publish(&line, |notice| progress.note(&format!("line {number}: {notice}"))) {
            Ok(Outcome::Published { subscribers }) => progress.published(subscribers, Instant::now()),
            Ok(Outcome::TooLarge(reason)) => {
                refused += 1;
                progress.note(&format!("line {number} is not published: {reason}"));
            }
            Err(reason) => break Err(format!("line {number} is not published: {reason}")),
        }
    };
    progress.finish(Instant::now());
    ended?;
    if refused > 0 {
        return Err(format!("{refused} too large for the server and not published"));
    }
    Ok(())
}

/// A rate between one message a day and a million a second.
fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (1.0 / 86_400.0..=1e6).contains(&rate) => Ok(rate),
        _ => Err("a number of messages per second above 0 and up to 1000000, such as 200 or 0.5".into()),
    }
}
