//! What the server tells of itself: health, counters.

use super::Server;
use crate::time::Now;
use crate::wire::media;
use crate::wire::response::Response;
use serde_json::{Map, Value, json};
use std::fmt::Write;

impl Server {
    pub(super) fn health(&self) -> Response {
        match self.draining {
            false => Response::new(200, media::TEXT, &b"ok\n"[..]),
            true => Response::new(503, media::TEXT, &b"draining\n"[..]),
        }
    }

    /// What there is at this moment, by name and meaning.
    fn gauges(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let hub = self.broker.hub.gauges();
        let own = [
            ("connections", "Connections open.", self.connections.len() as u64),
            ("subscribers", "Subscribers listening.", hub.subscribers as u64),
            ("channels", "Channels that exist.", hub.channels as u64),
            ("keys", "Keys that have a latest value on some channel.", hub.keys as u64),
            ("history_messages", "Messages kept.", hub.messages as u64),
            ("memory_bytes", "Bytes of the process in memory, as last seen.", self.memory.resident as u64),
            (
                "memory_limit_bytes",
                "`limits.memory`, or what it stands for.",
                self.config.limits.memory as u64,
            ),
            ("history_bytes", "Bytes of the messages kept, with their encoded frames.", hub.bytes as u64),
        ];
        own.into_iter().chain(self.dialects.gauges())
    }

    /// The counters in the Prometheus text format.
    pub(super) fn metrics(&self) -> Response {
        let mut text = String::new();
        for (name, help, value) in self.stats().each() {
            let _ = writeln!(
                text,
                "# HELP encke_{name}_total {help}\n# TYPE encke_{name}_total counter\nencke_{name}_total {value}"
            );
        }
        for (name, help, value) in self.gauges() {
            let _ =
                writeln!(text, "# HELP encke_{name} {help}\n# TYPE encke_{name} gauge\nencke_{name} {value}");
        }
        let facts = [
            ("process_start_time_seconds", "When it started, in seconds since 1970.", self.started.unix),
            (
                "process_resident_memory_bytes",
                "Bytes of the process in memory, as last seen.",
                self.memory.resident as u64,
            ),
        ];
        for (name, help, value) in facts {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        }
        let _ = writeln!(
            text,
            "# HELP encke_build_info Which version runs.\n# TYPE encke_build_info gauge\n\
             encke_build_info{{version=\"{}\"}} 1",
            env!("VERSION_AND_COMMIT")
        );
        Response::new(200, "text/plain; version=0.0.4; charset=utf-8", text.into_bytes())
    }

    /// The counters as JSON.
    pub(super) fn statistics(&self, now: Now) -> Response {
        let mut all = Map::new();
        all.insert("epoch".into(), self.broker.hub.newest().epoch.to_string().into());
        all.insert("newest".into(), self.broker.hub.newest().to_string().into());
        all.insert("uptime_seconds".into(), json!(now.at.millis_since(self.started.at) / 1000));
        let stats = self.stats();
        let values = stats.each().chain(self.gauges());
        all.extend(values.map(|(name, _, value)| (name.to_owned(), Value::from(value))));
        Response::new(200, media::JSON, Value::Object(all).to_string().into_bytes())
    }
}
