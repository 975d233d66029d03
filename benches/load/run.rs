//! The loop: connect, settle, warm up, measure.

mod publish;
mod wire;

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::Interest;
use mio::unix::SourceFd;

use crate::args::Args;
use crate::error::Error;
use crate::meter::{Cpu, Memory, Meter};
use crate::report::{CpuReport, Latency, Report};
use crate::technique::Technique;
use publish::Publishing;
use wire::{STDIN, Wire};

/// A generator at work.
pub struct Run<'a> {
    args: &'a Args,
    wire: Wire<'a>,
    meter: Option<Meter>,
    /// What the subscribers cost the server.
    memory: Option<Memory>,
    connect_s: f64,
}

impl<'a> Run<'a> {
    pub fn new(args: &'a Args) -> Result<Self, Error> {
        let meter = match args.pid.map(Meter::new) {
            Some(Err(error)) => {
                return Err(Error::Limit(format!("process {}: {error}", args.pid.unwrap_or(0))));
            }
            Some(Ok(meter)) => Some(meter),
            None => None,
        };
        Ok(Self { args, wire: Wire::new(args)?, meter, memory: None, connect_s: 0.0 })
    }

    /// One measurement.
    pub fn once(&mut self) -> Result<Report, Error> {
        if self.args.connect_only {
            return self.storm();
        }
        self.gather()?;
        let report = self.round()?;
        self.wire.disperse();
        self.wire.progress_done();
        Ok(report)
    }

    /// One measurement per line of standard input, until it ends; the first line of output is what gathering gave.
    pub fn rounds(&mut self) -> Result<(), Error> {
        if !self.args.connect_only {
            self.gather()?;
        }
        print_line(&self.report(0.0, Cpu::default(), Cpu::default()))?;
        let stdin = io::stdin().as_raw_fd();
        self.wire.registry().register(&mut SourceFd(&stdin), STDIN, Interest::READABLE)?;
        loop {
            self.wire.turn(Some(Duration::from_secs(1)))?;
            let Some(lines) = self.wire.take_lines() else {
                self.wire.disperse();
                return Ok(());
            };
            for _ in 0..lines {
                let report = if self.args.connect_only { self.storm()? } else { self.round()? };
                print_line(&report)?;
            }
        }
    }

    /// Opens all connections at once, as far as `--connecting` lets it, and closes them.
    fn storm(&mut self) -> Result<Report, Error> {
        let before = self.cpu()?;
        let start = Instant::now();
        self.wire.begin_round();
        self.wire.subscribe_all()?;
        self.connect_s = start.elapsed().as_secs_f64();
        let after = self.cpu()?;
        let report = self.report(self.connect_s, before, after);
        self.wire.disperse();
        self.settle()?;
        Ok(report)
    }

    /// Brings the publishers, the stalled readers and the subscribers together.
    fn gather(&mut self) -> Result<(), Error> {
        self.wire.add_publishers()?;
        self.wire.stall(self.args.stalled)?;
        self.settle()?;
        let before = self.meter.as_ref().map(Meter::memory).transpose()?;
        let start = Instant::now();
        self.wire.subscribe_all()?;
        self.connect_s = start.elapsed().as_secs_f64();
        self.settle()?;
        if let (Some(meter), Some(before)) = (&self.meter, before) {
            self.memory = Some(meter.memory()?.since(before));
        }
        Ok(())
    }

    /// Waits until the server has nothing more to do: its CPU time stands still for 50 ms (or, of an unknown process,
    /// 300 ms have passed). That is how one knows that a poll is parked, which is answered by silence.
    fn settle(&mut self) -> Result<(), Error> {
        if self.meter.is_none() {
            return self.wire.serve_for(Duration::from_millis(300));
        }
        if self.args.technique == Technique::Interval {
            return Ok(());
        }
        let deadline = Instant::now() + Duration::from_secs_f64(self.args.patience);
        let mut last = self.cpu()?.total_us;
        loop {
            self.wire.serve_for(Duration::from_millis(50))?;
            let now = self.cpu()?.total_us;
            if now - last < 200.0 || Instant::now() > deadline {
                return Ok(());
            }
            last = now;
        }
    }

    /// Warms up and measures.
    fn round(&mut self) -> Result<Report, Error> {
        let args = self.args;
        if args.warm_up > 0.0 && args.messages.is_none() {
            Publishing::new(args, Duration::from_secs_f64(args.warm_up), None).run(&mut self.wire)?;
        }
        self.wire.begin_round();
        let before = self.cpu()?;
        let start = Instant::now();
        Publishing::new(args, Duration::from_secs_f64(args.seconds), args.messages).run(&mut self.wire)?;
        let elapsed = start.elapsed().as_secs_f64();
        let after = self.cpu()?;
        // A duplicate would come late: one more look.
        self.wire.turn(Some(Duration::from_millis(5)))?;
        Ok(self.report(elapsed, before, after))
    }

    fn cpu(&self) -> Result<Cpu, Error> {
        let Some(meter) = &self.meter else { return Ok(Cpu::default()) };
        meter.cpu().map_err(|error| Error::Closed(format!("its process is gone: {error}")))
    }

    fn report(&self, elapsed_s: f64, before: Cpu, after: Cpu) -> Report {
        let ledger = &self.wire.ledger;
        let per_second = if elapsed_s > 0.0 { ledger.deliveries as f64 / elapsed_s } else { 0.0 };
        let units = [ledger.deliveries, ledger.published, self.args.subscribers as u64];
        let units = units.into_iter().find(|&n| n > 0).unwrap_or(1) as f64;
        let cpu = self.meter.as_ref().map(|_| {
            let total_us = after.total_us - before.total_us;
            let (user, system) = (after.user_us - before.user_us, after.system_us - before.system_us);
            let user_share = if user + system > 0.0 { user / (user + system) } else { 0.0 };
            CpuReport { total_us, per_unit_us: total_us / units, user_share }
        });
        Report {
            subscribers: self.args.subscribers,
            channels: self.args.channels,
            connect_s: self.connect_s,
            elapsed_s,
            published: ledger.published,
            deliveries: ledger.deliveries,
            deliveries_per_s: per_second,
            bytes_per_delivery: self.wire.bytes as f64 / ledger.deliveries.max(1) as f64,
            latency: Latency::of(&ledger.latency),
            cpu,
            memory: self.memory,
        }
    }
}

fn print_line(report: &Report) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(report).expect("plain values"))?;
    Ok(out.flush()?)
}

/// A line about where we are, rewritten in place; only for a person who watches.
struct Progress {
    wanted: bool,
    shown: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { wanted: io::stderr().is_terminal(), shown: Instant::now() }
    }

    fn show(&mut self, text: impl FnOnce() -> String) {
        if self.wanted && self.shown.elapsed() > Duration::from_millis(200) {
            self.shown = Instant::now();
            eprint!("\r{:<76}", text());
        }
    }

    fn clear(&self) {
        if self.wanted {
            eprint!("\r{:<76}\r", "");
        }
    }
}
