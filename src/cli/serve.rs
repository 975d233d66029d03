//! `encke serve`: starts the reactor and says what runs.

use super::host::{self, Process};
use super::logging::{self, Log};
use super::settings::{self, Options};
use super::system::effective;
use crate::config::{Config, Loaded};
use crate::demo;
use crate::hub::{Data, Publication};
use crate::reactor::{Mail, Mailbox, Reactor};
use std::io;
use std::process::ExitCode;
use std::thread;

/// Starts the server and returns when it has left.
pub fn run(loaded: Loaded, options: Options) -> ExitCode {
    let logging = logging::start(&loaded.config.log.level);
    for warning in settings::warnings(&loaded) {
        log::warn!("{warning}");
    }
    let code = match serve(loaded.config, options, &logging) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    };
    logging.finish();
    code
}

fn serve(config: Config, options: Options, logging: &Log) -> io::Result<()> {
    let config = effective(config);
    let demo = config.demo.then_some(config.store.dir.is_some());
    let drain_seconds = config.drain_seconds;
    log::info!("encke {}", super::VERSION);
    log_facts(&config);
    let mut process = Process::new(options);
    let reactor = match host::line()? {
        Some(line) => {
            process.write_pid_later(&config);
            Reactor::take_over(config, Box::new(process), line)?
        }
        None => {
            process.write_pid(&config)?;
            Reactor::new(config, Box::new(process))?
        }
    };
    for (what, address) in reactor.addresses() {
        log::info!("{what} {address}");
    }
    if let Some(lasts) = demo {
        start_demo(reactor.mailbox(), lasts)?;
        log::info!(
            "demo: market data on channels {}, demo/stocks/*, {} and {}*, pages at / and /demo/ticker",
            demo::CHANNEL,
            demo::quotes::CHANNEL,
            demo::quotes::BARS
        );
    }
    logging.step_aside();
    let left = reactor.run()?;
    if let Some(pid) = left.successor {
        log::info!("left; process {pid} serves");
        return Ok(());
    }
    match left.connections {
        0 => log::info!("left; every connection had its answer"),
        cut => log::warn!("left; {cut} connections were cut off after {drain_seconds} s"),
    }
    Ok(())
}

/// One line for each fact that an operator may wonder about.
fn log_facts(config: &Config) {
    let publishers = match config.publish.token.len() {
        0 => "loopback peers only",
        1 => "whoever shows the token",
        _ => "whoever shows one of the tokens",
    };
    log::info!("publishing: {publishers}");
    if !config.channels.is_empty() || !config.token_keys.is_empty() {
        log::info!("access: rules: {}, keys of tokens: {}", config.channels.len(), config.token_keys.len());
    }
    let history = &config.history;
    let room = if config.limits.memory == 0 { usize::MAX } else { config.limits.memory / 2 };
    log::info!(
        "history: {} messages, {} KiB and {} s a channel, {} MiB in all",
        history.messages,
        history.bytes >> 10,
        history.seconds,
        history.total_bytes.min(room) >> 20
    );
    log::info!(
        "limits: {} connections, {} bytes a message, {} MiB of memory",
        config.limits.connections,
        config.limits.message_bytes,
        config.limits.memory >> 20
    );
}

/// Publishes the demo's data from a thread of its own.
fn start_demo(mailbox: Mailbox, lasts: bool) -> io::Result<()> {
    let publish = move |channel, key: Option<&str>, json: String| {
        let publication = Publication {
            key: key.map(Into::into),
            content_type: Some(demo::CONTENT_TYPE.into()),
            ..Publication::of(Data::Json(json.into()))
        };
        mailbox.send(Mail::Publish { channel, publication })
    };
    thread::Builder::new().name("demo".into()).spawn(move || demo::run(lasts, publish))?;
    Ok(())
}
