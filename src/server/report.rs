//! What the server tells of itself: health, counters.

use super::Server;
use crate::broker::LogWaiting;
use crate::dialect::hook::{BUCKETS_MS, Times};
use crate::log::{COMMIT_BUCKETS_US, Figures};
use crate::stats::histogram::{self, BOUNDS_US};
use crate::time::{Instant, Now};
use crate::wire::media;
use crate::wire::response::Response;
use serde_json::{Map, Value, json};
use std::fmt::Write;

impl LogWaiting {
    /// What there is at this moment, while the hub keeps `live` messages.
    fn gauges(&self, live: u64) -> [(&'static str, &'static str, u64); 5] {
        let Self { figures, proposals, bytes } = self;
        [
            ("store_waiting", "Publications that wait for the disk.", *proposals as u64),
            ("store_waiting_bytes", "Bytes of messages that wait for the disk.", *bytes as u64),
            ("store_rows", "Messages on the disk.", figures.rows),
            (
                "store_rows_dead",
                "Messages on the disk that are of no use any more.",
                figures.rows.saturating_sub(live),
            ),
            ("store_file_bytes", "Bytes of the history's file.", figures.file_bytes),
        ]
    }
}

impl LogWaiting {
    /// The same of a history that several servers share, `nodes` of them.
    fn gauges_of_engine(&self, nodes: u64) -> [(&'static str, &'static str, u64); 3] {
        [
            ("engine_waiting", "Publications that wait for the engine.", self.proposals as u64),
            ("engine_waiting_bytes", "Bytes of messages that wait for the engine.", self.bytes as u64),
            ("engine_nodes", "Servers that share the history, this one among them.", nodes),
        ]
    }
}

/// What the store has counted, in the Prometheus text format.
fn write_store(text: &mut String, log: &LogWaiting) {
    let figures = &log.figures;
    write_times(text, figures, "encke_store_commit_seconds", "Time that writing to the disk took.");
    write_counts(
        text,
        &[
            ("store_failures", "Times that the disk did not take what it was given.", figures.failures),
            (
                "store_rows_swept",
                "Messages of no use any more that were deleted from the disk.",
                figures.swept,
            ),
        ],
    );
}

/// The same of the engine.
fn write_engine(text: &mut String, log: &LogWaiting) {
    let figures = &log.figures;
    write_times(text, figures, "encke_engine_batch_seconds", "Time that the engine took for a batch.");
    write_counts(
        text,
        &[("engine_failures", "Times that the engine could not be reached, or refused.", figures.failures)],
    );
}

fn write_times(text: &mut String, figures: &Figures, name: &str, help: &str) {
    let classes = (&COMMIT_BUCKETS_US[..], &figures.commits[..]);
    histogram::write(text, name, help, classes, figures.commit_us);
}

fn write_counts(text: &mut String, counts: &[(&str, &str, u64)]) {
    for (name, help, value) in counts {
        let _ = writeln!(
            text,
            "# HELP encke_{name}_total {help}\n# TYPE encke_{name}_total counter\nencke_{name}_total {value}"
        );
    }
}

/// How long the application took to answer, in the Prometheus text format.
fn write_hook(text: &mut String, times: &Times) {
    let name = "encke_hook_seconds";
    let _ =
        writeln!(text, "# HELP {name} Time that the application took to answer.\n# TYPE {name} histogram");
    let mut count = 0;
    for (class, answers) in times.classes.iter().enumerate() {
        count += answers;
        let bound = BUCKETS_MS.get(class).map(|&ms| (ms as f64 / 1e3).to_string());
        let bound = bound.unwrap_or_else(|| "+Inf".to_owned());
        let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}");
    }
    let _ = writeln!(text, "{name}_sum {}\n{name}_count {count}", times.sum_ms as f64 / 1e3);
}

impl Server {
    pub(super) fn health(&self, now: Now) -> Response {
        match self.broker.complaint(now.at) {
            _ if self.drain.begun => Response::new(503, media::TEXT, &b"draining\n"[..]),
            Some(complaint) => Response::new(503, media::TEXT, format!("{complaint}\n").into_bytes()),
            None => Response::new(200, media::TEXT, &b"ok\n"[..]),
        }
    }

    /// What there is at this moment, by name and meaning.
    pub(super) fn gauges(&self, now: Instant) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let hub = self.broker.hub.gauges();
        let own = [
            ("connections", "Connections open.", self.connections.len() as u64),
            ("subscribers", "Subscribers listening.", hub.subscribers as u64),
            ("channels", "Channels that exist.", hub.channels as u64),
            ("feeds", "Selections of Mercure that somebody listens to.", hub.feeds as u64),
            (
                "mercure_listeners",
                "Streams of Mercure that have a token, or are told of.",
                self.mercure.as_ref().map_or(0, |mercure| mercure.listeners()) as u64,
            ),
            ("keys", "Keys that have a latest value on some channel.", hub.keys as u64),
            ("history_messages", "Messages kept.", hub.messages as u64),
            ("memory_bytes", "Bytes of the process in memory, as last seen.", self.memory.resident as u64),
            (
                "memory_limit_bytes",
                "`limits.memory`, or what it stands for.",
                self.config.limits.memory as u64,
            ),
            (
                "questions_waiting",
                "Requests and commands that wait for the application's word.",
                self.access.hook.waiting() as u64,
            ),
            ("history_bytes", "Bytes of the messages kept, with their encoded frames.", hub.bytes as u64),
        ];
        let log = self.broker.log_waiting();
        let is_shared = self.broker.is_shared();
        let store = log.filter(|_| !is_shared).map(|log| log.gauges(hub.messages as u64));
        let nodes = self.broker.nodes(now) as u64;
        let engine = log.filter(|_| is_shared).map(|log| log.gauges_of_engine(nodes));
        let logs = store.into_iter().flatten().chain(engine.into_iter().flatten());
        own.into_iter().chain(logs).chain(self.dialects.gauges())
    }

    /// The counters in the Prometheus text format.
    pub(super) fn metrics(&self, now: Now) -> Response {
        let mut text = String::new();
        for (name, help, value) in self.stats().each() {
            let _ = writeln!(
                text,
                "# HELP encke_{name}_total {help}\n# TYPE encke_{name}_total counter\nencke_{name}_total {value}"
            );
        }
        for (name, help, value) in self.gauges(now.at) {
            let _ =
                writeln!(text, "# HELP encke_{name} {help}\n# TYPE encke_{name} gauge\nencke_{name} {value}");
        }
        self.write_telemetry(&mut text);
        let facts = [
            (
                "process_start_time_seconds",
                "When it started, in seconds since 1970.",
                self.telemetry.started.unix,
            ),
            (
                "process_resident_memory_bytes",
                "Bytes of the process in memory, as last seen.",
                self.memory.resident as u64,
            ),
            (
                "process_virtual_memory_bytes",
                "Bytes of address space, as last seen.",
                self.telemetry.process.virtual_bytes,
            ),
            (
                "process_max_fds",
                "Most descriptors that it may have open.",
                self.telemetry.process.descriptors,
            ),
        ];
        let open = self.telemetry.process.open_descriptors;
        let open =
            (open > 0).then_some(("process_open_fds", "Descriptors that it has open, as last seen.", open));
        for (name, help, value) in facts.into_iter().chain(open) {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        }
        let _ = writeln!(
            text,
            "# HELP encke_build_info Which version runs.\n# TYPE encke_build_info gauge\n\
             encke_build_info{{version=\"{}\"}} 1",
            env!("VERSION_AND_COMMIT")
        );
        if let Some(waiting) = self.broker.log_waiting() {
            match self.broker.is_shared() {
                true => write_engine(&mut text, &waiting),
                false => write_store(&mut text, &waiting),
            }
        }
        if self.config.hook.url.is_some() {
            write_hook(&mut text, &self.access.hook.times);
        }
        Response::new(200, "text/plain; version=0.0.4; charset=utf-8", text.into_bytes())
    }

    /// What is measured, by class and label.
    fn write_telemetry(&self, text: &mut String) {
        let telemetry = &self.telemetry;
        for (name, help, histogram) in [
            ("encke_turn_seconds", "Time that turns of the loop took, without sleep.", &telemetry.turns),
            (
                "encke_delivery_seconds",
                "Time from accepting a message until it was written to somebody who listened.",
                &telemetry.deliveries,
            ),
        ] {
            histogram::write(text, name, help, (&BOUNDS_US, &histogram.classes), histogram.sum_us);
        }
        let name = "encke_responses_total";
        let _ =
            writeln!(text, "# HELP {name} Answers to requests, by class of status.\n# TYPE {name} counter");
        for (digit, count) in (1..).zip(telemetry.responses) {
            let _ = writeln!(text, "{name}{{class=\"{digit}xx\"}} {count}");
        }
        let name = "encke_clients";
        let _ = writeln!(text, "# HELP {name} Connections open, by what they do.\n# TYPE {name} gauge");
        for (technique, count) in self.census() {
            let _ = writeln!(text, "{name}{{technique=\"{technique}\"}} {count}");
        }
        let (name, sent) = ("encke_sent_bytes_total", telemetry.process.sent_bytes);
        let help = "Bytes written to clients, as last seen.";
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {sent}");
        let (name, seconds) = ("process_cpu_seconds_total", telemetry.process.cpu_us as f64 / 1e6);
        let help = "Seconds of the processor, as last seen.";
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {seconds}");
    }

    /// The counters as JSON.
    pub(super) fn statistics(&self, now: Now) -> Response {
        let mut all = Map::new();
        all.insert("epoch".into(), self.broker.hub.newest().epoch.to_string().into());
        all.insert("newest".into(), self.broker.hub.newest().to_string().into());
        all.insert("uptime_seconds".into(), json!(now.at.millis_since(self.telemetry.started.at) / 1000));
        let stats = self.stats();
        let values = stats.each().chain(self.gauges(now.at));
        all.extend(values.map(|(name, _, value)| (name.to_owned(), Value::from(value))));
        Response::new(200, media::JSON, Value::Object(all).to_string().into_bytes())
    }
}
