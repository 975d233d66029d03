//! A client that never reads its stream costs a cursor, not memory.

use crate::client::Client;
use crate::harness::Encke;

const COUNT: usize = 10_000;

/// Publishes `COUNT` numbered messages of about 2 kB, 20 MB in all: far more than two socket buffers hold.
fn storm(server: &Encke) {
    let mut publisher = server.admin();
    let padding = "x".repeat(2000);
    for batch in 0..COUNT / 400 {
        let line = |n: usize| format!("{{\"channel\":\"x\",\"data\":\"{n} {padding}\"}}\n");
        let lines: String = (batch * 400..(batch + 1) * 400).map(line).collect();
        let answer = publisher.ask("POST", "/pub", &["Content-Type: application/x-ndjson"], lines.as_bytes());
        assert!(matches!(answer.status, 201 | 202), "{}: {}", answer.status, answer.text());
    }
}

fn stalled(server: &Encke) -> Client {
    let mut client = server.connect();
    client.fix_window();
    client.request("GET", "/sub/x?as=stream", &[], b"");
    assert_eq!(client.head().status, 200);
    client
}

#[test]
fn a_stalled_reader_is_closed_and_the_log_says_why() {
    let server = Encke::start(&["--limits-stalled-seconds", "1"]);
    let _stalled = stalled(&server);
    storm(&server);
    server.listeners("x", 0);
    server.logged("stalled");
}

#[test]
fn a_slow_reader_is_told_of_its_gaps_and_memory_stays_flat() {
    let server = Encke::start(&["--history-messages", "50", "--history-grace-seconds", "0"]);
    let before = server.allocated_bytes();
    let mut slow = stalled(&server);
    storm(&server);
    let growth = server.allocated_bytes().saturating_sub(before);
    assert!(growth < 12 << 20, "memory grew by {growth} bytes while 20 MB were published");

    // Every message comes in order and once; where numbers are missing, a notice comes first.
    let (mut expected, mut gaps) = (0, 0);
    while expected < COUNT {
        let mut envelope = slow.envelope();
        let told = envelope.get("gap").is_some();
        while envelope.get("gap").is_some() {
            assert_eq!(envelope["gap"]["channel"], "x");
            gaps += 1;
            envelope = slow.envelope();
        }
        let number = envelope["data"].as_str().and_then(|data| data.split(' ').next()?.parse::<usize>().ok());
        let number = number.unwrap_or_else(|| panic!("{envelope}"));
        assert_eq!(told, number > expected, "expected {expected}, got {number}");
        assert!(number >= expected, "{number} came again");
        expected = number + 1;
    }
    assert!(gaps > 0, "50 kept messages cannot be 10,000");
    assert_eq!(server.json("/pub/x")["subscribers"], 1, "it listens still");
}
