//! Deliveries by TLS, beside a floor that encrypts and writes, and does nothing else.

use std::io;

use crate::bench::{Bench, compare, cpu};
use crate::certificate::Certificate;
use crate::results::{Goal, Row};
use crate::server::Server;

pub fn run(bench: &mut Bench<'_>) -> io::Result<()> {
    let name = "TLS streaming fan-out, N=1000";
    if bench.args.floor_twice || !bench.begins(name) {
        return Ok(());
    }
    let certificate = Certificate::make(&bench.args.output)?;
    let options = certificate.options();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let fresh = [bench.floor_by_tls(&certificate)?, bench.encke_with(&options)?];
    let servers: Vec<&Server> = fresh.iter().collect();
    let seconds = if bench.args.is_full() { 0.8 } else { 0.4 };
    let arguments = format!("--as stream -n 1000 --seconds {seconds} --warm-up 0.1");
    let rounds = bench.interleave(&servers, &arguments, bench.args.pairs())?;
    bench.row(compare(Row::new(name, "µs CPU/delivery").goal(Goal::RatioAtMost(1.25)), &rounds, cpu));
    Ok(())
}
