//! The servers, and measuring them in turn.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::args::Args;
use crate::certificate::Certificate;
use crate::generator::{Generator, Generators};
use crate::plot::{Line, Plot};
use crate::processor;
use crate::quiet::Quiet;
use crate::report::Report;
use crate::results::{self, Row};
use crate::server::{self, Server};
use crate::statistics::{Ratio, median};

pub struct Bench<'a> {
    pub args: &'a Args,
    floor: PathBuf,
    pub generators: Generators,
    /// The floor first, then the one that is judged, then peers. All are up all the time.
    pub servers: Vec<Server>,
    pub quiet: Quiet,
    rows: Vec<Row>,
    plots: Vec<(&'static str, Plot)>,
}

/// Pairs that are measured with the same connections: an odd number, so that of two servers each measures itself as
/// often right after a round of its own, which costs a tenth more than one after a rest.
const PAIRS_PER_CROWD: usize = 5;

/// One server's rounds.
pub struct Rounds {
    pub name: &'static str,
    pub reports: Vec<Report>,
}

impl Rounds {
    fn of(server: &Server) -> Self {
        Self { name: server.name, reports: Vec::new() }
    }
}

/// Measures `count` things in turn, each as often first as any other: A B, B A, A B …, or A B C, B C A, C A B …, which
/// `first` begins; of each, as many values as there are pairs. A pair that was disturbed is measured again as a whole,
/// so that what goes before a round stays as it is.
pub fn in_turn<T>(
    count: usize,
    pairs: usize,
    first: usize,
    quiet: &Quiet,
    pids: &[u32],
    mut measure: impl FnMut(usize) -> io::Result<T>,
) -> io::Result<Vec<Vec<T>>> {
    let mut measured: Vec<Vec<T>> = (0..count).map(|_| Vec::new()).collect();
    for pair in 0..pairs {
        let order: Vec<usize> = (0..count).map(|turn| (first + pair + turn) % count).collect();
        let values: Vec<T> =
            quiet.undisturbed(pids, || order.iter().map(|&at| measure(at)).collect::<io::Result<_>>())?;
        for (at, value) in order.into_iter().zip(values) {
            measured[at].push(value);
        }
    }
    Ok(measured)
}

impl<'a> Bench<'a> {
    pub fn new(args: &'a Args) -> io::Result<Self> {
        let program = |given: &Option<PathBuf>, name| given.clone().map_or_else(|| server::sibling(name), Ok);
        let floor = program(&args.floor, "floor")?;
        let generators = Generators { program: program(&args.load, "load")?, cpu: args.load_cpu };
        fs::create_dir_all(&args.output)?;
        let mut bench = Self {
            args,
            floor,
            generators,
            servers: Vec::new(),
            quiet: Quiet::new([args.server_cpu, args.load_cpu]),
            rows: Vec::new(),
            plots: Vec::new(),
        };
        bench.servers.push(bench.floor(false)?);
        bench.servers.push(bench.judged()?);
        if args.peers {
            bench.servers.push(bench.nchan()?);
        }
        processor::pin(args.load_cpu)?;
        Ok(bench)
    }

    /// A further floor.
    pub fn floor(&self, nagle: bool) -> io::Result<Server> {
        Server::floor(&self.floor, "floor", nagle, self.args.server_cpu)
    }

    /// A floor that speaks TLS.
    pub fn floor_by_tls(&self, certificate: &Certificate) -> io::Result<Server> {
        Server::floor_by_tls(&self.floor, certificate, self.args.server_cpu)
    }

    /// A further server of the kind that is judged.
    pub fn judged(&self) -> io::Result<Server> {
        if self.args.floor_twice {
            return Server::floor(&self.floor, "floor 2", false, self.args.server_cpu);
        }
        self.encke_with(&[])
    }

    /// A further Encke with further options.
    pub fn encke_with(&self, options: &[&str]) -> io::Result<Server> {
        let heartbeat = self.args.heartbeat.to_string();
        let options = [&["--heartbeat", &heartbeat], options].concat();
        Server::encke(&self.args.encke, &options, self.args.server_cpu)
    }

    pub fn nchan(&self) -> io::Result<Server> {
        Server::nchan(&self.args.output.join("nchan"), self.args.server_cpu)
    }

    /// A fresh one of every server, for what depends on the past.
    pub fn fresh(&self) -> io::Result<Vec<Server>> {
        let mut servers = vec![self.floor(false)?, self.judged()?];
        if self.args.peers {
            servers.push(self.nchan()?);
        }
        Ok(servers)
    }

    /// The program whose size counts.
    pub fn judged_program(&self) -> &std::path::Path {
        if self.args.floor_twice { &self.floor } else { &self.args.encke }
    }

    /// Whether the measure is wanted; says that it begins.
    pub fn begins(&self, measure: &str) -> bool {
        let wanted = measure.contains(&self.args.only);
        if wanted {
            eprintln!("measuring: {measure}");
        }
        wanted
    }

    pub fn row(&mut self, row: Row) {
        let names = self.names();
        let judged = self.servers[1].name;
        eprint!("{}", results::text(std::slice::from_ref(&row), &names, judged));
        self.rows.push(row);
    }

    pub fn plot(&mut self, file: &'static str, plot: Plot) {
        self.plots.push((file, plot));
    }

    /// Rounds of all `servers` in turn, the arguments being the generators'.
    pub fn interleave(&self, servers: &[&Server], arguments: &str, pairs: usize) -> io::Result<Vec<Rounds>> {
        let runs: Vec<(&Server, &str)> = servers.iter().map(|&server| (server, arguments)).collect();
        self.interleave_runs(&runs, pairs)
    }

    /// The same with arguments for each. Every few pairs come other subscribers: where the kernel happens to put the
    /// sockets of a crowd shows for as long as they live.
    pub fn interleave_runs(&self, runs: &[(&Server, &str)], pairs: usize) -> io::Result<Vec<Rounds>> {
        let mut rounds: Vec<Rounds> = runs.iter().map(|(server, _)| Rounds::of(server)).collect();
        for crowd in 0..pairs.div_ceil(PAIRS_PER_CROWD) {
            self.measure_crowd(runs, crowd, pairs, &mut rounds)?;
        }
        Ok(rounds)
    }

    /// The same with servers that are started anew for every crowd, as where a process happens to lie in memory shows
    /// for as long as it lives: of two floors, one took 3 % less than the other in 40 pairs.
    pub fn interleave_fresh(&self, arguments: &str, pairs: usize) -> io::Result<Vec<Rounds>> {
        let mut rounds: Vec<Rounds> = self.servers.iter().map(Rounds::of).collect();
        for crowd in 0..pairs.div_ceil(PAIRS_PER_CROWD) {
            let fresh = [self.floor(false)?, self.judged()?];
            // A peer's settings are its own business: it stays.
            let servers = fresh.iter().chain(self.servers.iter().skip(fresh.len()));
            let runs: Vec<(&Server, &str)> = servers.map(|server| (server, arguments)).collect();
            self.measure_crowd(&runs, crowd, pairs, &mut rounds)?;
        }
        Ok(rounds)
    }

    /// Adds the rounds of one crowd of subscribers, of the many that all `pairs` take.
    fn measure_crowd(
        &self,
        runs: &[(&Server, &str)],
        crowd: usize,
        pairs: usize,
        rounds: &mut [Rounds],
    ) -> io::Result<()> {
        let mut generators: Vec<Generator> = runs
            .iter()
            .map(|(server, arguments)| self.generators.start(server, arguments))
            .collect::<io::Result<_>>()?;
        let pairs = PAIRS_PER_CROWD.min(pairs - crowd * PAIRS_PER_CROWD);
        let servers = runs.iter().flat_map(|(server, _)| server.pids.iter().copied());
        let pids: Vec<u32> = servers.chain(generators.iter().map(Generator::pid)).collect();
        let reports = in_turn(runs.len(), pairs, crowd, &self.quiet, &pids, |at| generators[at].round())?;
        for (rounds, reports) in rounds.iter_mut().zip(reports) {
            rounds.reports.extend(reports);
        }
        Ok(())
    }

    fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<&'static str> = self.servers.iter().map(|server| server.name).collect();
        let others: Vec<&'static str> =
            self.rows.iter().flat_map(|row| row.values.iter().map(|(name, _)| *name)).collect();
        for name in others {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Writes all tables and plots, and prints the table.
    pub fn write(&self) -> io::Result<()> {
        let (names, judged) = (self.names(), self.servers[1].name);
        let text = results::text(&self.rows, &names, judged);
        let priority = match self.servers.iter().all(|server| server.is_preferred) {
            true => "servers with real-time priority",
            false => "servers may have to wait for other processes (real-time priority needs root)",
        };
        let heartbeat = self.args.heartbeat;
        let about = format!(
            "{}; {priority}; Encke with --heartbeat {heartbeat}\n{}",
            about(self.args.pairs()),
            self.quiet.summary()
        );
        let write = |file: &str, content: String| fs::write(self.args.output.join(file), content);
        write("results.txt", format!("{about}\n\n{text}"))?;
        let mut markdown = format!("{about}\n\n{}", results::markdown(&self.rows, &names, judged));
        for (file, plot) in &self.plots {
            write(file, plot.svg())?;
            markdown += &format!("\n![{}]({file})\n", plot.title);
        }
        write("results.md", markdown)?;
        write("results.json", serde_json::to_string_pretty(&self.rows).map_err(io::Error::other)? + "\n")?;
        println!("{about}\n\n{text}\nTables and plots: {}", self.args.output.display());
        Ok(())
    }
}

/// Medians, and ratios to the first server, of what `metric` takes from each round.
pub fn compare(row: Row, rounds: &[Rounds], metric: impl Fn(&Report) -> f64) -> Row {
    compare_by(row, rounds, metric, Ratio::of)
}

/// The same with another way to put ratios together.
pub fn compare_by(
    mut row: Row,
    rounds: &[Rounds],
    metric: impl Fn(&Report) -> f64,
    ratio: fn(&[(f64, f64)]) -> Ratio,
) -> Row {
    for (at, server) in rounds.iter().enumerate() {
        row = row.value(server.name, median(server.reports.iter().map(&metric)));
        if at > 0 {
            row = row.ratio(server.name, ratio(&pairs_of(server, &rounds[0], &metric)));
        }
    }
    row
}

/// What `metric` takes from each round of `own` and of `reference`, pair by pair.
pub fn pairs_of(own: &Rounds, reference: &Rounds, metric: impl Fn(&Report) -> f64) -> Vec<(f64, f64)> {
    own.reports.iter().zip(&reference.reports).map(|(own, other)| (metric(own), metric(other))).collect()
}

/// CPU time per delivery (message, connection).
pub fn cpu(report: &Report) -> f64 {
    report.cpu.map_or(f64::NAN, |cpu| cpu.per_unit_us)
}

/// One line per server: percentile against latency, each the median over the rounds.
pub fn latency_lines(rounds: &[Rounds]) -> Vec<Line> {
    let curve =
        |report: &Report| report.latency.as_ref().map(|latency| latency.curve.clone()).unwrap_or_default();
    rounds
        .iter()
        .map(|server| {
            let curves: Vec<Vec<(f64, f64)>> = server.reports.iter().map(curve).collect();
            let points = curves.first().map_or(0, Vec::len);
            let at =
                |point: usize| median(curves.iter().filter_map(|curve| curve.get(point)).map(|(_, us)| *us));
            // The last point, 100 %, has no place on a scale of nines.
            let line =
                (0..points.saturating_sub(1)).map(|point| (100.0 / (100.0 - curves[0][point].0), at(point)));
            Line { name: server.name.into(), points: line.collect() }
        })
        .collect()
}

/// The machine, for the reader of a table.
fn about(pairs: usize) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("")
        .trim_start_matches([' ', '\t', ':']);
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{cores} × {model}, Linux {}; {pairs} interleaved pairs per ratio, ± 2 standard errors",
        kernel.trim()
    )
}
