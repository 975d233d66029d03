//! `encke pub`: publishes one message from its arguments, or every line of standard input as it comes.
//!
//! A line that was read is published, or the program says which one was not and ends with a failure: it
//! tries again for as long as trying again cannot publish a message twice. Lines that have come together go to the server
//! together.

mod batch;
mod pace;
mod progress;
mod publisher;
#[cfg(test)]
mod tests;

use std::io::{self, BufReader, IsTerminal, Read, Write};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;

use super::client::{Line, Server, env, read_line};
use crate::config;
use batch::Batch;
use pace::Pacer;
use progress::Progress;
use publisher::{Outcome, Publisher};

/// Nothing moves for this long while an answer is awaited: the connection is dead.
const SILENCE: Duration = Duration::from_secs(30);

/// How long a message is tried that does not come out of a pipe.
const TIMEOUT: Duration = Duration::from_secs(30);

const TOKEN: &str =
    "The token for a server that wants one is read from the environment variable ENCKE_PUBLISH_TOKEN.";

/// Publish a message, or every line of standard input, to a channel
#[derive(Debug, Clone, Args)]
#[command(after_help = TOKEN)]
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
    #[arg(long, conflicts_with = "key_field")]
    pub key: Option<String>,
    /// Take the key of each message from this member of it; messages are JSON objects then
    #[arg(long, value_name = "MEMBER")]
    pub key_field: Option<String>,
    /// Seconds the messages may wait in the history; 0 = only for those connected now
    #[arg(long, value_name = "SECONDS")]
    pub ttl: Option<u64>,
    /// What the messages are [default: text/plain; charset=utf-8]
    #[arg(long, value_name = "MIME")]
    pub content_type: Option<String>,
    /// Give up a message that the server has not taken after so many seconds, or a time such as 500ms or 2m; 0 = never
    /// [default: 30, and never for lines of a pipe]
    #[arg(long, value_name = "TIME", value_parser = parse_timeout)]
    pub timeout: Option<Duration>,
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
    let is_pipe = args.message.is_empty() && !io::stdin().is_terminal();
    let timeout =
        args.timeout.or(if is_pipe { None } else { Some(TIMEOUT) }).filter(|timeout| !timeout.is_zero());
    let mut progress = Progress::new(stderr, on_terminal, &args.channel, Instant::now());
    let published = publisher.and_then(|mut publisher| {
        publisher.timeout = timeout;
        if args.message.is_empty() {
            let pacer = args.rate.map(Pacer::new);
            let mut lines = BufReader::with_capacity(batch::BYTES, io::stdin().lock());
            Lines { publisher: &mut publisher, progress: &mut progress, pacer, number: 0, refused: 0 }
                .publish(&mut lines, Batch::new(args))
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

/// Publishes lines, and remembers which it is at.
struct Lines<'a, W: Write> {
    publisher: &'a mut Publisher,
    progress: &'a mut Progress<W>,
    pacer: Option<Pacer>,
    /// Of the line that was read last.
    number: u64,
    /// Lines that were too large.
    refused: u64,
}

impl<W: Write> Lines<'_, W> {
    /// Publishes the lines of `input` as they come. A line that is too large is reported and the next ones go
    /// on, but it makes the whole a failure.
    fn publish(&mut self, input: &mut BufReader<impl Read>, mut batch: Option<Batch>) -> Result<(), String> {
        if self.pacer.is_some() {
            batch = None;
        }
        let mut line = Vec::new();
        let ended = loop {
            self.number += 1;
            match read_line(input, &mut line) {
                Ok(Line::End) => break Ok(()),
                Ok(_) if line.is_empty() => {}
                Ok(_) if batch.as_mut().is_some_and(|batch| batch.take(self.number, &line)) => {}
                Ok(_) => {
                    // What came before it goes first.
                    if let Err(reason) = self.flush(&mut batch).and_then(|()| self.one(self.number, &line)) {
                        break Err(reason);
                    }
                }
                Err(error) => {
                    let number = self.number;
                    break self
                        .flush(&mut batch)
                        .and_then(|()| Err(format!("standard input, line {number}: {error}")));
                }
            }
            // Another line is here already: it may go along.
            let more = memchr::memchr(b'\n', input.buffer()).is_some();
            if (!more || batch.as_ref().is_some_and(Batch::is_full))
                && let Err(reason) = self.flush(&mut batch)
            {
                break Err(reason);
            }
        };
        let ended = ended.and_then(|()| self.flush(&mut batch));
        self.progress.finish(Instant::now());
        ended?;
        match self.refused {
            0 => Ok(()),
            refused => Err(format!("{refused} too large for the server and not published")),
        }
    }

    /// Publishes what has been collected.
    fn flush(&mut self, batch: &mut Option<Batch>) -> Result<(), String> {
        let Some(batch) = batch.as_mut().filter(|batch| !batch.is_empty()) else { return Ok(()) };
        let lines = batch.clear();
        if let [(number, line)] = &lines.each[..] {
            return self.one(*number, line);
        }
        let (first, count) = (lines.each[0].0, lines.each.len());
        let Self { publisher, progress, .. } = self;
        let notice = |notice: &str| progress.note(&format!("line {first} and those after it: {notice}"));
        match publisher.publish_batch(&lines.json, notice) {
            Ok(Some(Outcome::Published { subscribers })) => {
                (0..count).for_each(|_| progress.published(subscribers, Instant::now()));
                Ok(())
            }
            // It took nothing of it: what is wrong with which line shows when they go one by one.
            Ok(_) => lines.each.iter().try_for_each(|(number, line)| self.one(*number, line)),
            Err(reason) => Err(format!("line {first} and those after it are not published: {reason}")),
        }
    }

    fn one(&mut self, number: u64, line: &[u8]) -> Result<(), String> {
        if let Some(pacer) = &mut self.pacer {
            sleep(pacer.wait(Instant::now()));
        }
        let Self { publisher, progress, .. } = self;
        match publisher.publish(line, |notice| progress.note(&format!("line {number}: {notice}"))) {
            Ok(Outcome::Published { subscribers }) => progress.published(subscribers, Instant::now()),
            Ok(Outcome::TooLarge(reason)) => {
                self.refused += 1;
                progress.note(&format!("line {number} is not published: {reason}"));
            }
            Err(reason) => return Err(format!("line {number} is not published: {reason}")),
        }
        Ok(())
    }
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    config::milliseconds(text)
        .map(Duration::from_millis)
        .ok_or_else(|| "a number of seconds, or a time such as 500ms, 15s or 2m".into())
}

/// A rate between one message a day and a million a second.
fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (1.0 / 86_400.0..=1e6).contains(&rate) => Ok(rate),
        _ => Err("a number of messages per second above 0 and up to 1000000, such as 200 or 0.5".into()),
    }
}
