//! The server among strangers: what an innocent client feels, and what the server takes, while others do what they may,
//! as much as they can, of each kind and of all kinds together.
//!
//! ```text
//! args      for how long, of which kinds
//! kinds     what strangers do: one entry each
//! words     what they say
//! rights    what they may beside the defaults: what a page with a token may
//! crowd     carries it out: many sockets, one thread for each kind
//! innocent  publishes fifty times a second and listens, as a client of an address of its own, by TLS or without
//! server    the process: starting, what it is given to keep, what /proc tells
//! ```
//! The process itself is that of the soak, TLS that of the load generator, and where it works is said as the suite says it: the
//! server has a processor of its own and goes before others there, and strangers make way for the innocent client and the
//! application on the other. What is measured is the server, not how a machine with two processors shares them among thirty
//! threads.
#![forbid(unsafe_code)]

mod args;
#[path = "../suite/certificate.rs"]
mod certificate;
mod crowd;
mod innocent;
mod kinds;
#[allow(dead_code)]
#[path = "../soak/process.rs"]
mod process;
#[allow(dead_code)]
#[path = "../suite/processor.rs"]
mod processor;
mod rights;
#[allow(dead_code)]
#[path = "../load/secure.rs"]
mod secure;
mod server;
mod words;

use std::env;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{CommandFactory, Parser};

use crate::args::Args;
use crate::crowd::Crowd;
use crate::innocent::{By, Innocent};
use crate::kinds::{Does, KINDS, Kind};
use crate::server::Server;

/// The innocent client waits no longer than this, at its 99th percentile.
const P99: Duration = Duration::from_millis(50);
/// The server takes no more than this of what it may.
const SHARE: f64 = 1.15;
/// How far strangers make way for others on their processor, as nice(1) counts.
const COURTESY: i32 = 19;
/// Where the server works, and where all others do.
const PROCESSORS: [usize; 2] = [0, 1];

fn main() -> ExitCode {
    if env::args().skip(1).all(|argument| argument == "--bench") {
        println!("{}", Args::command().render_help());
        return ExitCode::SUCCESS;
    }
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hostile: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> io::Result<bool> {
    let is_asked = |kind: &&Kind| args.only.is_empty() || args.only.iter().any(|name| name == kind.name);
    let kinds: Vec<&'static Kind> = KINDS.iter().filter(is_asked).collect();
    processor::pin(PROCESSORS[1])?;
    println!("| strangers | p50 ms | p99 ms | most ms | RSS MiB | of the limit | CPU | held |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut holds = measure(args, "nobody", &[], By::Plain)?;
    if !args.together {
        for kind in &kinds {
            holds &= measure(args, kind.name, &[kind], By::Plain)?;
            if matches!(kind.does, Does::Handshake) {
                let name = format!("{}, the innocent by TLS", kind.name);
                holds &= measure(args, &name, &[kind], By::Tls)?;
            }
        }
    }
    if kinds.len() > 1 {
        holds &= measure(args, "all together", &kinds, By::Plain)?;
    }
    Ok(holds)
}

/// One row: a server of its own, an innocent client, and some kinds of strangers.
fn measure(args: &Args, name: &str, kinds: &[&'static Kind], by: By) -> io::Result<bool> {
    let server = Server::start(&args.encke, args.memory_mib, PROCESSORS[0])?;
    server.prepare()?;
    let innocent = Innocent::start(server.addresses, by)?;
    thread::sleep(Duration::from_millis(300));
    innocent.take();
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = kinds
        .iter()
        .map(|&kind| {
            let (stop, addresses) = (Arc::clone(&stop), server.addresses);
            thread::spawn(move || {
                rustix::process::nice(COURTESY)?;
                Crowd::new(kind, addresses).and_then(|mut crowd| crowd.run(&stop))
            })
        })
        .collect();
    let application = server.publish_on(Arc::clone(&stop));
    let (begun, cpu) = (Instant::now(), server.cpu()?);
    let mut resident = 0;
    while begun.elapsed() < Duration::from_secs(args.seconds) {
        resident = resident.max(server.resident()?);
        thread::sleep(Duration::from_millis(20));
    }
    let cpu = (server.cpu()? - cpu) / begun.elapsed().as_secs_f64();
    let felt = innocent.take();
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a crowd has panicked"))??;
    }
    application.join().map_err(|_| io::Error::other("the application has panicked"))??;
    let limit = (args.memory_mib << 20) as f64;
    let holds = felt.at(0.99) <= P99 && resident as f64 <= SHARE * limit && felt.is_alive;
    println!(
        "| {name} | {:.1} | {:.1} | {:.1} | {} | {:.2} | {:.0} % | {} |",
        ms(felt.at(0.5)),
        ms(felt.at(0.99)),
        ms(felt.at(1.0)),
        resident >> 20,
        resident as f64 / limit,
        100.0 * cpu,
        if holds { "yes" } else { "NO" }
    );
    Ok(holds)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
