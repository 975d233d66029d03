//! A kernel that fails, clients that break off in any phase, a process that is stopped: nothing is lost that is not
//! announced, nobody waits in vain, nothing is left behind.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionbio;
use rustix::process::Signal;

use crate::client::{Client, request};
use crate::harness::{Crowd, Encke, free_address, until};

/// Everything is forgotten soon, so that it can be seen to be forgotten.
const FORGETFUL: [&str; 4] = ["--channel-idle-seconds", "1", "--history-seconds", "1"];

const LISTENERS: usize = 10;
const MESSAGES: usize = 30;

/// Publishes to streams and long polls while the kernel fails: everybody gets everything, in order, and no connection
/// breaks.
fn delivers_with(faults: &[&str]) {
    let server = Encke::start_with_faults(faults, &FORGETFUL);
    let before = server.descriptors();
    let mut publisher = server.connect();
    let mut streams: Vec<Client> = (0..LISTENERS).map(|_| server.open("/sub/x?as=stream", &[]).1).collect();
    let mut polls: Vec<Client> = (0..LISTENERS).map(|_| server.connect()).collect();
    let mut after = "now".to_owned();
    for number in 0..MESSAGES {
        for poll in &mut polls {
            poll.request("GET", &format!("/sub/x?after={after}"), &[], b"");
        }
        publisher.listeners("x", 2 * LISTENERS as u64);
        let text = format!("m{number}");
        after = publisher.publish("x", &[], text.as_bytes());
        for poll in &mut polls {
            assert_eq!(poll.answer().text(), text, "{faults:?}");
        }
        for stream in &mut streams {
            assert_eq!(stream.envelope()["data"], text, "{faults:?}");
        }
    }
    drop((publisher, polls, streams));
    server.forgotten(before);
}

#[test]
fn a_kernel_without_memory_for_writes_delays_them() {
    delivers_with(&["sendto,writev:error=ENOBUFS:when=3+3"]);
    delivers_with(&["sendto,writev:error=ENOMEM:when=2+2"]);
}

#[test]
fn interrupted_calls_are_repeated() {
    delivers_with(&[
        "sendto,writev:error=EINTR:when=2+2",
        "recvfrom:error=EINTR:when=3+2",
        "epoll_wait:error=EINTR:when=2+3",
        "accept4:error=EINTR:when=2+2",
    ]);
}

#[test]
fn a_failing_accept_delays_whoever_comes() {
    delivers_with(&["accept4:error=ENOBUFS:when=4+16"]);
    delivers_with(&["accept4:error=ECONNABORTED:when=2+2"]);
}

#[test]
fn large_messages_pass_through_smaller_buffers() {
    const COUNT: usize = 8;
    let server = Encke::start(&["--history-bytes", "100MiB"]);
    let bodies: Vec<String> =
        (0..COUNT).map(|number| format!("{number} {}", "x".repeat(1_000_000))).collect();
    let mut readers: Vec<Client> = ["stream", "sse", "raw", "poll", "multipart"]
        .into_iter()
        .map(|technique| {
            let mut client = server.connect();
            client.fix_window();
            client.request("GET", &format!("/sub/x?as={technique}&timeout=300"), &[], b"");
            client
        })
        .collect();
    server.listeners("x", readers.len() as u64);
    bodies.iter().for_each(|body| drop(server.publish("x", body)));
    let mut poll = readers.remove(3);
    for client in &mut readers {
        assert_eq!(client.head().status, 200);
    }
    for body in &bodies {
        assert_eq!(readers[0].envelope()["data"], body.as_str());
        assert_eq!(readers[2].line(), *body);
        let answer = poll.answer();
        assert!(answer.text() == *body, "a poll got {:.20}", answer.text());
        poll.request("GET", &format!("/sub/x?after={}", answer.next()), &[], b"");
        let sse = std::iter::from_fn(|| readers[1].block())
            .find(|block| block.contains("data: ") && !block.contains("encke.open"));
        assert!(sse.is_some_and(|block| block.ends_with(body.as_str())));
        readers[3].read_until(body.as_bytes());
    }
}

/// What a client may have sent, and been sent, when it breaks off.
const PHASES: [&str; 22] = [
    "",
    "GET /sub/x HTTP/1.1\r\nHo",
    "POST /pub/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
    "POST /pub/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha",
    "POST /pub/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "NONSENSE\r\n\r\n",
    "GET /sub/x HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /sub/x HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /heal",
    "GET /sub/x,y,z/*?as=stream HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /sub/x?as=stream HTTP/1.0\r\n\r\n",
    "GET /sub/**?as=sse HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /sub/x?as=raw HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /sub/x?as=iframe HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /sub/x?as=multipart HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /sub/x?as=jsonp&callback=f HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /sub/large?after=oldest&as=stream HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /sub/large?after=oldest HTTP/1.1\r\nHost: x\r\n\r\nGET /sub/large?after=oldest HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /sub/x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "GET /sub/x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x01\x7f",
    "POST /bayeux HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 98\r\n\r\n\
     [{\"channel\":\"/meta/handshake\",\"version\":\"1.0\",\"supportedConnectionTypes\":[\"long-polling\"],\"id\":1}]",
    "POST /bayeux HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 98\r\n\r\n[{\"channel\":",
];

#[test]
fn whoever_breaks_off_in_whatever_phase_leaves_nothing_behind() {
    let options = [
        "--limits-idle-seconds",
        "60",
        "--bayeux-max-interval-ms",
        "500",
        "--poll-timeout-seconds",
        "1",
        "--bayeux-timeout-ms",
        "500",
    ];
    let server = Encke::start(&[&options[..], &FORGETFUL].concat());
    let before = server.descriptors();
    let large = vec![b'x'; 1 << 20];
    for round in 0..4 {
        let mut crowd = Vec::new();
        (0..8).for_each(|_| drop(server.publish("large", &large)));
        for phase in PHASES.iter().cycle().take(3 * PHASES.len()) {
            let mut client = server.connect();
            client.narrow_window();
            client.send(phase);
            crowd.push(client);
        }
        // Some have been served by now, others are in the middle; in half of the rounds there is news for them.
        if round % 2 == 0 {
            let others = crowd.len() as u64;
            until("all are inside", || {
                (server.json("/stats")["connections"].as_u64() >= Some(others / 2)).then_some(())
            });
            server.publish("x", "news");
        }
        for (at, client) in crowd.into_iter().enumerate() {
            match at % 3 {
                0 => client.reset(),
                1 => client.half_close(),
                _ => {}
            }
        }
        let mut poll = server.park("/sub/survivor?timeout=60", &[], "survivor", 1);
        server.publish("survivor", "served");
        assert_eq!(poll.answer().text(), "served");
    }
    server.forgotten(before);
}

/// How long the process is stopped: longer than anything may take in these tests. `make test-slow` stops it for 30 s,
/// which is what happens to a machine that is moved to another host.
fn stop_seconds() -> u64 {
    std::env::var("ENCKE_STOP_SECONDS").map_or(3, |seconds| seconds.parse().expect("a number"))
}

/// Stops the server while `meanwhile` happens.
fn stopped<T>(server: &Encke, meanwhile: impl FnOnce() -> T) -> T {
    server.signal(Signal::STOP);
    let alarm = thread::spawn(|| thread::sleep(Duration::from_secs(stop_seconds())));
    let result = meanwhile();
    alarm.join().expect("it only sleeps");
    server.signal(Signal::CONT);
    result
}

#[test]
fn a_stopped_process_goes_on_where_it_was() {
    let server = Encke::start(&[&FORGETFUL[..2], &["--heartbeat", "1", "--history-seconds", "100"]].concat());
    let before = server.descriptors();
    let id = server.publish("x", "before");
    let mut long = server.park("/sub/x?timeout=300", &[], "x", 1);
    let (_, mut stream) = server.open("/sub/x?as=stream", &[]);
    let (mut publisher, mut late) = (server.connect(), None);
    // Wherever this one is when the process stops, it has a place from which to go on.
    let mut short = server.connect();
    short.request("GET", &format!("/sub/x?timeout=1&after={id}"), &[], b"");
    stopped(&server, || {
        publisher.request("POST", "/pub/x", &[], b"news");
        let mut client = server.connect();
        client.request("GET", &format!("/sub/x?after={id}"), &[], b"");
        late = Some(client);
    });
    assert_eq!(publisher.answer().status, 201);
    for client in [Some(long.answer()), late.as_mut().map(Client::answer)] {
        assert_eq!(client.expect("it connected").text(), "news");
    }
    assert_eq!(stream.envelope()["data"], "news");
    // Its time was up before the news came, and neither is wrong: but it is one of them, and nothing is lost.
    let answer = short.answer();
    let next = match answer.status {
        204 => server.get(&format!("/sub/x?after={}", answer.next()), &[]).text(),
        _ => answer.text(),
    };
    assert_eq!(next, "news");
    server.ask("DELETE", "/pub/x", &[], b"");
    drop((short, long, stream, publisher, late));
    server.forgotten(before);
}

#[test]
fn what_arrived_while_the_process_was_stopped_is_not_late() {
    const MANY: usize = 1200;
    const LIMIT: Duration = Duration::from_secs(2);
    let server = Encke::start(&["--limits-body-seconds", "2", "--limits-head-seconds", "2"]);
    let whole = request("POST", "/pub/x", &[], b"0123456789");
    let (first, second) = whole.split_at(whole.len() - 5);
    let late = until("the machine is fast enough once", || {
        let mut crowd: Vec<Client> = (0..MANY).map(|_| server.connect()).collect();
        until("all are inside", || {
            (server.json("/stats")["connections"].as_u64() >= Some(MANY as u64 + 1)).then_some(())
        });
        let begun = Instant::now();
        crowd.iter_mut().for_each(|client| client.send(first));
        let is_in_time = stopped(&server, || {
            // Nobody was late when the process stopped, or this says nothing.
            until("it is stopped", || server.is_stopped().then_some(()));
            let is_in_time = begun.elapsed() < LIMIT;
            crowd.iter_mut().for_each(|client| _ = client.try_send(second));
            is_in_time
        });
        is_in_time.then(|| crowd.iter_mut().map(Client::answer).filter(|answer| answer.status != 202).count())
    });
    assert_eq!(late, 0, "so many of {MANY} were told that they came too late");
}

/// More requests, each of which is logged, than a pipe holds lines.
const TALKATIVE: usize = 2000;

#[test]
fn a_full_disk_for_the_log_costs_the_log_alone() {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let mut server = Encke::start_at(free_address(), full.into(), &["--log-access"]);
    let mut client = server.connect();
    (0..TALKATIVE).for_each(|_| assert_eq!(client.get("/healthz", &[]).status, 200));
    drop(client);
    server.signal(Signal::TERM);
    assert_eq!(server.exit().code(), Some(0));
}

#[test]
fn nobody_waits_for_the_reader_of_the_log() {
    let mut server = Encke::start_at(free_address(), Stdio::piped(), &["--log-access"]);
    let mut client = server.connect();
    for _ in 0..4 * TALKATIVE {
        assert_eq!(client.get("/healthz", &[]).status, 200);
    }
    // It begins to read: what was kept comes, and that something is missing.
    let mut log = server.stderr().expect("it is a pipe");
    let reader = thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).map(|_| text)
    });
    until("there is room again", || (client.get("/late", &[]).status == 404).then_some(()));
    drop(client);
    server.signal(Signal::TERM);
    assert_eq!(server.exit().code(), Some(0));
    let text = reader.join().expect("it only reads").expect("the log is text");
    assert!(text.contains("lines of the log are lost"), "{text:.1000}");
}

#[test]
fn a_log_that_nobody_reads_keeps_no_server_from_starting() {
    let (mut log, mut full) = io::pipe().expect("two descriptors");
    ioctl_fionbio(&full, true).expect("a pipe need not wait");
    let filled = std::iter::from_fn(|| full.write(&[b'.'; 1]).ok()).sum::<usize>();
    ioctl_fionbio(&full, false).expect("a pipe can wait");
    let mut server = Encke::start_at(free_address(), full.into(), &[]);
    assert_eq!(server.get("/healthz", &[]).status, 200);
    let reader = thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).map(|_| text)
    });
    server.signal(Signal::TERM);
    assert_eq!(server.exit().code(), Some(0));
    let text = reader.join().expect("it only reads").expect("the log is text");
    let text = &text[filled..];
    let said = |what: &str| text.find(what).unwrap_or_else(|| panic!("nothing is said of {what:?}: {text}"));
    assert!(said(" encke ") < said("listening on") && said("listening on") < said("shutting down"));
}

/// Clients that come back when a server starts again. Each has a descriptor at both ends.
const CROWD: usize = 10_000;

#[test]
fn ten_thousand_come_back_within_a_second_after_a_restart() {
    let room = Crowd::of(CROWD);
    let addr = free_address();
    let first = Encke::start_at(addr, Stdio::null(), &[]);
    let id = first.publish("x", "before");
    first.signal(Signal::KILL);
    drop(first);

    let server =
        Encke::start_at(addr, Stdio::null(), &[&FORGETFUL[..2], &["--history-seconds", "30"]].concat());
    let before = server.descriptors();
    let ask = request("GET", &format!("/sub/x?after={id}&timeout=300"), &["Accept: application/json"], b"");
    let connect = |count: usize| -> Vec<Client> {
        let one = |_| {
            let mut client = Client::connect(addr);
            client.send(&ask);
            client
        };
        (0..count).map(one).collect()
    };
    let mut clients: Vec<Client> = thread::scope(|scope| {
        let parts: Vec<_> = (0..4).map(|_| scope.spawn(|| connect(room.count / 4))).collect();
        parts.into_iter().flat_map(|part| part.join().expect("all connect")).collect()
    });
    // Each is told that it may have missed something, and goes on from there.
    let go_on = clients.iter_mut().map(|client| {
        let answer = client.answer();
        assert_eq!((answer.status, answer.json()["gap"].as_bool()), (200, Some(true)), "{}", answer.text());
        let target = format!("/sub/x?after={}&timeout=300", answer.next());
        client.request("GET", &target, &[], b"");
    });
    assert_eq!(go_on.count(), room.count / 4 * 4);
    server.listeners("x", clients.len() as u64);
    server.publish("x", "after");
    for client in &mut clients {
        assert_eq!(client.answer().text(), "after");
    }
    server.ask("DELETE", "/pub/x", &[], b"");
    clients.into_iter().for_each(Client::reset);
    server.forgotten(before);
}
