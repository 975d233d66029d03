//! `encke serve`: starts the reactor and says what runs.

use crate::config::Config;
use crate::demo;
use crate::hub::{Data, Publication};
use crate::reactor::{self, Mail, Mailbox, Reactor};
use std::io;
use std::process::ExitCode;
use std::thread;

/// Descriptors that are not clients: listeners, the poll, standard streams, and some air.
const OWN_DESCRIPTORS: u64 = 100;

/// Starts the server and returns when it has left.
pub fn run(config: Config) -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(mut config: Config) -> io::Result<()> {
    fit_connections(&mut config);
    let demo = config.demo;
    let drain_seconds = config.drain_seconds;
    log::info!("encke {}", env!("CARGO_PKG_VERSION"));
    log_facts(&config);
    let reactor = Reactor::new(config)?;
    for (address, what) in reactor.addresses().zip(["listening on", "admin listening on"]) {
        log::info!("{what} {address}");
    }
    if demo {
        start_demo(reactor.mailbox())?;
        log::info!("demo: market data on channel {}, page at /", demo::CHANNEL);
    }
    let left = reactor.run()?;
    match left.connections {
        0 => log::info!("left; every connection had its answer"),
        cut => log::warn!("left; {cut} connections were cut off after {drain_seconds} s"),
    }
    Ok(())
}

/// Every client takes a descriptor: makes room for as many as the settings allow, or allows fewer.
fn fit_connections(config: &mut Config) {
    let descriptors = reactor::raise_descriptors();
    let room = usize::try_from(descriptors.saturating_sub(OWN_DESCRIPTORS)).unwrap_or(usize::MAX).max(16);
    if room < config.limits.connections {
        log::info!(
            "limits.connections lowered from {} to {room}: the system allows {descriptors} open files (LimitNOFILE, ulimit -n)",
            config.limits.connections
        );
        config.limits.connections = room;
    }
}

/// One line for each fact that an operator may wonder about.
fn log_facts(config: &Config) {
    let publishers = match config.publish.token {
        Some(_) => "whoever shows the token",
        None => "loopback peers only",
    };
    log::info!("publishing: {publishers}");
    let history = &config.history;
    log::info!(
        "history: {} messages, {} KiB and {} s a channel, {} MiB in all",
        history.messages,
        history.bytes >> 10,
        history.seconds,
        history.total_bytes >> 20
    );
    log::info!(
        "limits: {} connections, {} bytes a message",
        config.limits.connections,
        config.limits.message_bytes
    );
}

/// Publishes the demo's data from a thread of its own.
fn start_demo(mailbox: Mailbox) -> io::Result<()> {
    let publish = move |json: String| {
        let publication = Publication {
            content_type: Some(demo::CONTENT_TYPE.into()),
            ..Publication::of(Data::Json(json.into()))
        };
        mailbox.send(Mail::Publish { channel: demo::CHANNEL, publication })
    };
    thread::Builder::new().name("demo".into()).spawn(move || demo::run(publish))?;
    Ok(())
}
