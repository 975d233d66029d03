//! System calls, counted: what a delivery costs is decided by how many there are.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::harness::{Encke, until};

const LISTENERS: usize = 20;
const MESSAGES: usize = 10;

/// What the server asked of the kernel, one call a line.
struct Trace(String);

impl Trace {
    /// Runs `script` against a traced server, stops the server and reads the trace.
    fn of(name: &str, script: impl FnOnce(&Encke)) -> Self {
        let file: PathBuf = std::env::temp_dir().join(format!("encke-trace-{name}-{}", std::process::id()));
        let mut server = Encke::start_traced(&file);
        script(&server);
        server.signal(Signal::TERM);
        assert!(server.exit().success());
        let trace = until("the trace is complete", || {
            let trace = fs::read_to_string(&file).ok()?;
            trace.contains("+++ exited").then_some(trace)
        });
        fs::remove_file(file).unwrap();
        Self(trace)
    }

    /// Calls whose line shows `part`. One that another thread interrupted stands on two lines, and shows
    /// what it reads on the second.
    fn count(&self, call: &str, part: &str) -> usize {
        let (whole, resumed) = (format!("{call}("), format!("{call} resumed"));
        let is_it = |line: &&str| line.contains(&whole) || !part.is_empty() && line.contains(&resumed);
        self.0.lines().filter(is_it).filter(|line| line.contains(part)).count()
    }
}

#[test]
fn a_delivery_to_a_parked_stream_is_one_write() {
    let mut connections = 0;
    let trace = Trace::of("stream", |server| {
        let mut streams: Vec<_> = (0..LISTENERS).map(|_| server.open("/sub/x?as=stream", &[]).1).collect();
        let mut publisher = server.connect();
        connections = LISTENERS + 1;
        for number in 0..MESSAGES {
            publisher.publish("x", &[], format!("m{number}").as_bytes());
            for stream in &mut streams {
                let has_it =
                    |chunk: Vec<u8>| chunk.windows(2).any(|part| part == format!("m{number}").as_bytes());
                while !has_it(stream.chunk().expect("the stream goes on")) {}
            }
        }
    });
    let writes = trace.count("sendto", r#"{\"id\":\""#) - trace.count("sendto", "201 Created");
    assert_eq!(writes, LISTENERS * MESSAGES);
    assert_eq!(trace.count("writev", ""), 0, "one frame is one slice");
    check_epoll(&trace, connections);
}

#[test]
fn a_poll_cycle_is_one_read_and_one_write() {
    let trace = Trace::of("poll", |server| {
        let mut polls: Vec<_> = (0..LISTENERS).map(|_| server.connect()).collect();
        let mut publisher = server.connect();
        let mut after = "now".to_owned();
        for number in 0..MESSAGES {
            for poll in &mut polls {
                poll.request("GET", &format!("/sub/x?as=poll&after={after}"), &[], b"");
            }
            publisher.listeners("x", LISTENERS as u64);
            after = publisher.publish("x", &[], format!("m{number}").as_bytes());
            for poll in &mut polls {
                assert_eq!(poll.answer().text(), format!("m{number}"));
            }
        }
    });
    assert_eq!(trace.count("recvfrom", "GET /sub/x"), LISTENERS * MESSAGES);
    assert_eq!(trace.count("sendto", "Encke-Next: "), LISTENERS * MESSAGES);
    assert_eq!(trace.count("writev", ""), 0);
    // A short read has drained the socket. A second edge for the same bytes is possible, as a rule there is none.
    let vain = trace.count("recvfrom", "EAGAIN");
    assert!(vain <= LISTENERS, "{vain} reads in vain for {} polls", LISTENERS * MESSAGES);
    check_epoll(&trace, LISTENERS + 1);
}

/// Sockets are registered once: nothing between accept and close.
fn check_epoll(trace: &Trace, connections: usize) {
    // The listener, the waker, and what watches for signals.
    let own = 4;
    let calls = trace.count("epoll_ctl", "");
    assert!(calls <= connections + own, "{calls} calls of epoll_ctl for {connections} connections");
}
