//! Who comes before the history is there.

use super::bench::Bench;
use super::disk::Disk;
use super::limits::{field, status};
use crate::broker::LogSettings;
use crate::config::Config;
use crate::id::Epoch;

/// A server whose history is on its way.
fn loading() -> Bench {
    let mut bench = Bench::new(Config::default());
    bench.server.use_log(LogSettings { behind: false, staged_bytes: 1 << 20, lag_ms: 60_000, shared: None });
    bench
}

#[test]
fn health_is_told_however_the_request_is_cut() {
    let request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    for cut in 1..request.len() {
        let mut bench = loading();
        let id = bench.connect();
        for part in [&request[..cut], &request[cut..]] {
            bench.send(id, part);
            bench.turn();
        }
        let told = bench.read(id);
        assert!(status(&told) == 503 && told.ends_with("loading\n"), "{cut}: {told}");
    }
}

#[test]
fn what_begins_like_a_health_check_waits_like_anything_else() {
    for (parts, status_of) in [
        (["GET /healthz", "ier HTTP/1.1\r\nHost: x\r\n\r\n"], 404),
        (["GET /", "stats HTTP/1.1\r\nHost: x\r\n\r\n"], 200),
    ] {
        let mut bench = loading();
        let id = bench.connect();
        for part in parts {
            bench.send(id, part);
            bench.turn();
        }
        assert_eq!(bench.read(id), "", "{parts:?}");
        let mut disk = Disk::new();
        disk.begin(false, true);
        let now = bench.world.now;
        bench.server.log_opened(now, disk.opening(Epoch::from_random(1), 0));
        disk.load(&mut bench.server, &mut bench.world, |_| ());
        bench.turn();
        assert_eq!(status(&bench.read(id)), status_of, "{parts:?}");
    }
}

#[test]
fn a_history_that_does_not_come_is_told_to_who_waits_for_it() {
    let mut bench = loading();
    let idle = bench.server.config().limits.idle_seconds * 1000;
    let asks = |request: &str| format!("{request} HTTP/1.1\r\nHost: x\r\n");
    let [poll, events, half] = [
        asks("GET /sub/a") + "\r\n",
        asks("GET /sub/a") + "Accept: text/event-stream\r\n\r\n",
        "POST /pub/a HTTP/1.1\r\n".to_owned(),
    ]
    .map(|request| bench.client(&request).0);
    bench.pass(idle - 1);
    assert!([poll, events, half].into_iter().all(|id| bench.read(id).is_empty()), "it may still come");
    bench.pass(1);
    for id in [poll, half] {
        let told = bench.read(id);
        assert!(status(&told) == 503 && field(&told, "Retry-After").is_some(), "{told}");
    }
    let told = bench.read(events);
    assert!(status(&told) == 200 && told.contains("\nretry: "), "an EventSource would not come back: {told}");
    let now = bench.world.now;
    assert!(bench.server.next_deadline(now) > now.at, "there is nothing to do until something happens");
}
