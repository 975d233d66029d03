//! Plain requests, made by wrk over 64 connections: publishing to nobody, interval polls, polls with a waiting message.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use crate::bench::{Bench, in_turn};
use crate::results::{Goal, Row};
use crate::server::Server;
use crate::statistics::{Ratio, median};
use crate::wrk;

/// A server, the name in the table, and the path to ask.
type Target<'a> = (&'a Server, &'static str, &'static str);

pub fn run(bench: &mut Bench<'_>) -> io::Result<()> {
    if !wrk::is_there() {
        eprintln!("wrk is not installed: its measures are left out (apt-get install wrk)");
        return Ok(());
    }
    let oldest = "/sub/c900?as=poll&after=oldest";
    let interval = "/sub/c900?as=interval&after=oldest";
    for (name, script, own, peer, plain, most) in [
        ("wrk: publishing to nobody", "publish", "/pub/c901", "/pub/c901", "/return/publish", 1.25),
        ("wrk: poll, message waiting", "poll", oldest, "/oldest/c900", "/return/waiting", 1.2),
        ("wrk: interval poll, message waiting", "interval", interval, "/oldest/c900", "/return/waiting", 1.2),
    ] {
        if !bench.begins(name) {
            continue;
        }
        let mut targets: Vec<Target<'_>> = Vec::new();
        for server in &bench.servers {
            let path = if server.dialect == "nchan" { peer } else { own };
            targets.push((server, server.name, path));
            publish(server)?;
        }
        if let Some(nginx) = bench.servers.iter().find(|server| server.dialect == "nchan") {
            targets.push((nginx, "nginx return", plain));
        }
        let row = Row::new(name, "µs CPU/request").goal(Goal::RatioAtMost(most));
        let row = compare(row, &targets, script, bench)?;
        bench.row(row);
    }
    Ok(())
}

fn compare(mut row: Row, targets: &[Target<'_>], script: &str, bench: &Bench<'_>) -> io::Result<Row> {
    let seconds = if bench.args.is_full() { 2 } else { 1 };
    let pids: Vec<u32> = targets.iter().flat_map(|(server, _, _)| server.pids.iter().copied()).collect();
    let costs = in_turn(targets.len(), bench.args.pairs(), 0, &bench.quiet, &pids, |at| {
        let (server, _, path) = targets[at];
        wrk::cpu_per_request(server, script, path, seconds)
    })?;
    for (at, (_, name, _)) in targets.iter().enumerate() {
        row = row.value(name, median(costs[at].iter().copied()));
        if at > 0 {
            let pairs: Vec<(f64, f64)> = costs[at].iter().copied().zip(costs[0].iter().copied()).collect();
            row = row.ratio(name, Ratio::of(&pairs));
        }
    }
    Ok(row)
}

/// Publishes the message of 100 bytes that the polls find waiting.
fn publish(server: &Server) -> io::Result<()> {
    let mut socket = TcpStream::connect(server.address)?;
    let body = "x".repeat(100);
    write!(
        socket,
        "POST /pub/c900 HTTP/1.1\r\nHost: bench\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 100\r\n\r\n{body}"
    )?;
    let mut answer = [0; 12];
    socket.read_exact(&mut answer)?;
    if answer[9] == b'2' {
        Ok(())
    } else {
        Err(io::Error::other(format!("{} refuses a message", server.name)))
    }
}
