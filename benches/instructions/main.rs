//! Instructions per operation of the sans-IO server, counted by valgrind: a number that does not depend on
//! what else the machine is doing, so that a regression of a few per cent shows.
//!
//! `--check` runs this program under callgrind twice for each script, short and long, and compares the
//! difference with `benches/instructions/expected.txt`; `--update` writes that file anew. Counts depend on
//! compiler and target: update the file together with `rust-version`, in a commit of its own.

use encke::config::{Algorithm, ChannelRule, Config, KeyText, TokenKey, Who};
use encke::conn::ConnId;
use encke::id::Seed;
use encke::server::{Server, Sink, Write, Wrote};
use encke::time::{Instant, Now};
use std::fmt::Write as _;
use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, ExitCode};
use std::{env, fs};

const SCRIPTS: [&str; 7] = ["publish", "poll", "token", "waiting", "stream", "ticker", "bayeux"];
const CLIENTS: usize = 100;
/// Channels of the ticker, each with as many of the clients: a publication and its ten deliveries are a turn.
const CHANNELS: usize = 10;
/// Rounds of the short and of the long run.
const SHORT: u64 = 20;
const LONG: u64 = 120;
/// How far above its expectation a count may be.
const TOLERANCE: f64 = 0.05;
const EXPECTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/expected.txt");

const PUBLISH: &[u8] = b"POST /pub/ticks HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Length: 100\r\n\r\n\
    0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";
const POLL: &[u8] = b"GET /sub/ticks?as=poll&timeout=60 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\
    User-Agent: Mozilla/5.0\r\nAccept: */*\r\nAccept-Language: en\r\n\r\n";
/// What a poll has besides that shows a token: of alice, for this and another channel, good for an hour.
const TOKEN: &str = "\
    eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImFwcCJ9.eyJzdWIiOiJhbGljZSIsImlhdCI6MTAwMDAwM\
    DAwMCwiZXhwIjoxMDAwMDAzNjAwLCJlbmNrZSI6eyJzdWJzY3JpYmUiOlsidGlja3MiLCJjaGF0LyoiXSwicHVibGl\
    zaCI6WyJjaGF0L2xvYmJ5Il19fQ.5R8URaYLyHcy9kmsK4wGkRluU1_TE2vmmt3Edm_vH_Y";
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
/// A poll that finds a message waiting.
const WAITING: &[u8] = b"GET /sub/ticks?after=oldest HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
const STREAM: &[u8] = b"GET /sub/ticks?as=stream HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

/// A socket that takes everything.
struct Takes;

impl Sink for Takes {
    fn write(&mut self, _: ConnId, slices: &[IoSlice<'_>]) -> Wrote {
        Wrote::Bytes(slices.iter().map(|slice| slice.len()).sum())
    }

    fn write_each(&mut self, writes: &mut [Write<'_>]) {
        writes.iter_mut().for_each(|write| write.wrote = Wrote::Bytes(write.bytes.len()));
    }
}

/// A socket that shows what it was given.
#[derive(Default)]
struct Keeps(Vec<u8>);

impl Sink for Keeps {
    fn write(&mut self, _: ConnId, slices: &[IoSlice<'_>]) -> Wrote {
        slices.iter().for_each(|slice| self.0.extend_from_slice(slice));
        Wrote::Bytes(slices.iter().map(|slice| slice.len()).sum())
    }

    fn write_each(&mut self, writes: &mut [Write<'_>]) {
        for write in writes {
            self.0.extend_from_slice(write.bytes);
            write.wrote = Wrote::Bytes(write.bytes.len());
        }
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--script", script, rounds] => run(script, rounds.parse().unwrap_or(0)),
        ["--check"] => return report(false),
        ["--update"] => return report(true),
        _ => println!(
            "Counts instructions of the server.\n\n  --check    compare with {EXPECTED}\n  --update   write that file"
        ),
    }
    ExitCode::SUCCESS
}

/// Runs a script: publications, with clients that listen or not.
fn run(script: &str, rounds: u64) {
    let now = Now { at: Instant::from_millis(0), unix: 1_000_000_000, unix_ms: 0 };
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    // A ring that is full during the script, so that what leaves it is counted, too.
    let mut config = Config::default();
    (config.history.messages, config.history.grace_seconds) = (100, 0);
    if script == "token" {
        let text = KeyText(SECRET.into());
        let key = TokenKey { id: Some("app".into()), algorithm: Some(Algorithm::HS256), file: None, text };
        config.token_keys = vec![key];
        config.channels =
            vec![ChannelRule { pattern: "**".into(), subscribe: Who::Token, ..ChannelRule::default() }];
    }
    let mut server = Server::new(config, Seed::of_number(1), now);
    let publisher = server.accept(now, peer, false).expect("there is room");
    let clients: Vec<ConnId> = (0..CLIENTS).filter_map(|_| server.accept(now, peer, false)).collect();
    let subscribe = |server: &mut Server, request: &[u8]| {
        clients.iter().for_each(|&client| server.receive(now, client, request, &mut Takes));
    };
    if script == "stream" {
        subscribe(&mut server, STREAM);
    }
    let ticks: Vec<Vec<u8>> = (0..CHANNELS).map(|channel| of_channel(PUBLISH, channel)).collect();
    if script == "ticker" {
        for (index, &client) in clients.iter().enumerate() {
            server.receive(now, client, &of_channel(STREAM, index % CHANNELS), &mut Takes);
        }
    }
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n\r\n");
    let shown = [&POLL[..POLL.len() - 2], bearer.as_bytes()].concat();
    let sessions = if script == "bayeux" { &clients[..] } else { &[] };
    let connects: Vec<_> =
        sessions.iter().map(|&client| (client, session(&mut server, now, client))).collect();
    for _ in 0..rounds {
        match script {
            "publish" => (1..CLIENTS).for_each(|_| server.receive(now, publisher, PUBLISH, &mut Takes)),
            "poll" => subscribe(&mut server, POLL),
            "token" => subscribe(&mut server, &shown),
            "waiting" => subscribe(&mut server, WAITING),
            "ticker" => {
                for index in 0..CLIENTS {
                    server.receive(now, publisher, &ticks[index % CHANNELS], &mut Takes);
                    server.tick(now, &mut Takes);
                    while server.deliver(now, &mut Takes) {}
                }
            }
            "bayeux" => {
                connects
                    .iter()
                    .for_each(|(client, connect)| server.receive(now, *client, connect, &mut Takes));
            }
            _ => {}
        }
        server.receive(now, publisher, PUBLISH, &mut Takes);
        server.tick(now, &mut Takes);
        while server.deliver(now, &mut Takes) {}
    }
    assert_eq!(server.stats().messages_published % rounds.max(1), 0, "every round is the same");
}

/// `request` about another channel than `ticks`.
fn of_channel(request: &[u8], channel: usize) -> Vec<u8> {
    String::from_utf8_lossy(request).replacen("/ticks", &format!("/ticks{channel}"), 1).into_bytes()
}

/// Begins a Bayeux session that listens; gives the connect it sends again and again.
fn session(server: &mut Server, now: Now, client: ConnId) -> Vec<u8> {
    let mut answer = Keeps::default();
    let handshake = r#"[{"id":"1","version":"1.0","channel":"/meta/handshake","supportedConnectionTypes":["long-polling"]}]"#;
    server.receive(now, client, &post(handshake), &mut answer);
    let answer = String::from_utf8_lossy(&answer.0).into_owned();
    let id =
        answer.split("\"clientId\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a session");
    let subscribe =
        format!(r#"[{{"id":"2","channel":"/meta/subscribe","subscription":"/ticks","clientId":"{id}"}}]"#);
    server.receive(now, client, &post(&subscribe), &mut Takes);
    let connect = format!(
        r#"[{{"id":"3","channel":"/meta/connect","connectionType":"long-polling","clientId":"{id}"}}]"#
    );
    server.receive(now, client, &post(&connect), &mut Takes);
    post(&connect)
}

fn post(messages: &str) -> Vec<u8> {
    format!(
        "POST /bayeux/connect HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: Mozilla/5.0\r\n\
         Content-Type: application/json;charset=UTF-8\r\nContent-Length: {}\r\n\r\n{messages}",
        messages.len()
    )
    .into_bytes()
}

/// Instructions per operation of `script`, or why they could not be counted.
fn count(script: &str) -> Result<u64, String> {
    let short = total(script, SHORT)?;
    let long = total(script, LONG)?;
    Ok((long - short) / ((LONG - SHORT) * CLIENTS as u64))
}

fn total(script: &str, rounds: u64) -> Result<u64, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--script", script, &rounds.to_string()])
        .output()
        .map_err(|error| {
            format!("valgrind could not be started: {error} (on Debian: apt-get install valgrind)")
        })?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text.lines().find_map(|line| line.split_once("Collected :"));
    let number = collected.and_then(|(_, number)| number.trim().parse().ok());
    number.ok_or_else(|| format!("valgrind did not say how many instructions it counted:\n{text}"))
}

fn report(update: bool) -> ExitCode {
    let expected = fs::read_to_string(EXPECTED).unwrap_or_default();
    let (mut table, mut worse) = (String::new(), false);
    for script in SCRIPTS {
        let counted = match count(script) {
            Ok(counted) => counted,
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::FAILURE;
            }
        };
        let known =
            expected.lines().filter_map(|line| line.split_once(' ')).find(|(name, _)| *name == script);
        let before: Option<f64> = known.and_then(|(_, number)| number.trim().parse().ok());
        let change = before.map_or(0.0, |before| counted as f64 / before - 1.0);
        worse |= change > TOLERANCE;
        println!("{script:8} {counted:6} instructions per operation ({:+.1} %)", change * 100.0);
        let _ = writeln!(table, "{script} {counted}");
    }
    if update && let Err(error) = fs::write(EXPECTED, table) {
        eprintln!("error: {EXPECTED}: {error}");
        return ExitCode::FAILURE;
    }
    if worse && !update {
        eprintln!("error: more than {} % above {EXPECTED}", TOLERANCE * 100.0);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
