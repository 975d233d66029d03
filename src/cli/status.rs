//! `encke status`: one screen of how a server does, out of `/stats`.

use std::fmt::Write;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Map, Value};

use super::client::{Server, check, env};

/// Nothing comes for so long: the server is not well.
const SILENCE: Duration = Duration::from_secs(10);

/// How much a rate is made of.
const SAMPLE: Duration = Duration::from_secs(1);

/// A figure: its label, its name in `/stats`, and whether its pace is shown, too.
type Figure = (&'static str, &'static str, bool);

/// What is shown, under which headings.
const SECTIONS: &[(&str, &[Figure])] = &[
    (
        "Clients",
        &[
            ("connections open", "connections", false),
            ("accepted", "connections_accepted", true),
            ("subscribers", "subscribers", false),
            ("polls that waited", "polls_parked", true),
            ("streams begun", "streams_started", true),
            ("requests", "requests", true),
            ("TLS handshakes", "tls_handshakes", true),
            ("of them resumed", "tls_resumed", false),
        ],
    ),
    (
        "Messages",
        &[
            ("published", "messages_published", true),
            ("delivered", "messages_delivered", true),
            ("kept", "history_messages", false),
            ("channels", "channels", false),
        ],
    ),
    (
        "Memory",
        &[
            ("in use", "memory_bytes", false),
            ("limit", "memory_limit_bytes", false),
            ("history", "history_bytes", false),
        ],
    ),
];

/// What should be zero; shown where it is not.
const TROUBLES: &[(&str, &str)] = &[
    ("gaps told to clients", "gaps_told"),
    ("messages that a limit threw away", "messages_evicted"),
    ("connections refused, too many", "connections_refused"),
    ("connections refused, too many of an address", "connections_refused_per_address"),
    ("publications refused, too fast", "publications_refused"),
    ("subscriptions refused", "subscriptions_refused"),
    ("channels refused", "channels_refused"),
    ("requests refused", "requests_refused"),
    ("requests that failed", "requests_failed"),
    ("requests too slow", "heads_timed_out"),
    ("clients that stopped reading", "connections_stalled"),
    ("WebSockets that broke the protocol", "sockets_failed"),
    ("TLS handshakes that failed", "tls_failed"),
    ("TLS handshakes that had to wait", "tls_delayed"),
    ("shortages of memory", "memory_shortages"),
];

/// Show how a running server does, on one screen
///
/// Asks for /stats twice, a second apart. With admin_listen, the URL is that of the admin listener.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Address of the server [default: http://127.0.0.1:8080, or the environment's ENCKE_URL]
    #[arg(long)]
    url: Option<String>,
}

type Stats = Map<String, Value>;

/// Runs it.
pub fn run(args: &StatusArgs) -> ExitCode {
    match status(args) {
        Ok(text) => super::print(&text),
        Err(reason) => {
            eprintln!("encke status: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn status(args: &StatusArgs) -> Result<String, String> {
    let server = Server::find(args.url.as_deref(), SILENCE)?;
    let token = env("ENCKE_PUBLISH_TOKEN")?;
    let first = ask(&server, token.as_deref())?;
    let begin = Instant::now();
    sleep(SAMPLE);
    let second = ask(&server, token.as_deref())?;
    Ok(screen(server.base(), &first, &second, begin.elapsed()))
}

fn ask(server: &Server, token: Option<&str>) -> Result<Stats, String> {
    let url = server.url("/stats", &[]);
    let mut request = server.agent.get(&url).header("Accept", "application/json");
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let mut response =
        check(request.call()).map_err(|trouble| format!("{}: {}", server.base(), trouble.reason))?;
    let body = response.body_mut().read_to_vec().map_err(|error| error.to_string())?;
    serde_json::from_slice(&body)
        .map_err(|_| format!("{url} answered with something else: is an Encke server there?"))
}

/// The text of the screen: `second` was asked for so long after `first`.
fn screen(base: &str, first: &Stats, second: &Stats, between: Duration) -> String {
    let number = |stats: &Stats, name: &str| stats.get(name).and_then(Value::as_u64);
    let uptime = number(second, "uptime_seconds").unwrap_or_default();
    let epoch = second.get("epoch").and_then(Value::as_str).unwrap_or("unknown");
    let mut text = format!("{base}: up {}, history {epoch}\n", duration(uptime));
    for (heading, figures) in SECTIONS {
        let _ = writeln!(text, "\n{heading}");
        for (label, name, has_pace) in *figures {
            let Some(value) = number(second, name) else { continue };
            let shown = if name.ends_with("_bytes") { bytes(value) } else { grouped(value) };
            let grown = value.saturating_sub(number(first, name).unwrap_or(value));
            let pace = grown as f64 / between.as_secs_f64().max(1e-3);
            let _ = match *has_pace {
                true => writeln!(text, "  {label:<22}{shown:>16}{:>14}/s", grouped(pace.round() as u64)),
                false => writeln!(text, "  {label:<22}{shown:>16}"),
            };
        }
    }
    let troubles: Vec<_> =
        TROUBLES.iter().filter_map(|(label, name)| Some((label, number(second, name)?))).collect();
    let _ = writeln!(text, "\nTrouble since the start");
    for (label, value) in troubles.iter().filter(|(_, value)| *value > 0) {
        let _ = writeln!(text, "  {label:<44}{:>12}", grouped(*value));
    }
    if troubles.iter().all(|(_, value)| *value == 0) {
        text += "  none\n";
    }
    text
}

/// 1234567 as 1,234,567.
pub(super) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(super) fn bytes(value: u64) -> String {
    match value {
        0..1024 => format!("{value} B"),
        1024..1_048_576 => format!("{:.1} KiB", value as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", value as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", value as f64 / 1_073_741_824.0),
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn figures_are_read_at_a_glance() {
        let stats = |published: u64| {
            let value = json!({
                "epoch": "k3", "uptime_seconds": 90_061, "connections": 1234, "messages_published": published,
                "memory_bytes": 3 << 20, "gaps_told": 0, "connections_stalled": 2,
            });
            value.as_object().unwrap().clone()
        };
        let text = screen("http://a", &stats(1_000_000), &stats(1_002_000), Duration::from_secs(2));
        assert!(text.starts_with("http://a: up 1 d 1 h, history k3\n"), "{text}");
        assert!(text.contains("  connections open                 1,234\n"), "{text}");
        assert!(text.contains("  published                    1,002,000         1,000/s\n"), "{text}");
        assert!(text.contains("  in use                         3.0 MiB\n"), "{text}");
        assert!(text.contains("  clients that stopped reading                           2\n"), "{text}");
        assert!(!text.contains("gaps told") && !text.contains("none") && !text.contains("TLS"), "{text}");
    }

    #[test]
    fn every_figure_is_one_of_the_server() {
        let stats = crate::stats::Stats::default();
        let counters: Vec<&str> = stats.each().map(|(name, ..)| name).collect();
        for (_, name) in TROUBLES {
            assert!(counters.contains(name), "{name}");
        }
        for (_, name, has_pace) in SECTIONS.iter().flat_map(|(_, figures)| *figures) {
            assert!(!has_pace || counters.contains(name), "{name}");
        }
    }
}
