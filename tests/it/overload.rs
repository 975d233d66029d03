//! More than there is room for: what is accepted is finished, what is refused is told, health checks are answered.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::client::{Client, request};
use crate::harness::{Encke, until};

fn count(server: &Encke, counter: &str) -> u64 {
    server.json("/stats")[counter].as_u64().unwrap_or_else(|| panic!("there is no counter {counter}"))
}

#[test]
fn a_full_server_answers_health_checks_and_tells_everybody_else() {
    let server = Encke::start(&["--limits-connections", "4"]);
    let mut parked: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    let mut control = server.connect();
    for poll in &mut parked {
        poll.request("GET", "/sub/x", &[], b"");
    }
    control.listeners("x", 3);
    let mut retries = BTreeSet::new();
    for _ in 0..30 {
        let health = server.get("/healthz", &[]);
        assert_eq!((health.status, health.get("connection")), (200, Some("close")));
        let refused = server.get("/sub/x", &[]);
        assert_eq!((refused.status, refused.get("connection")), (503, Some("close")));
        retries.insert(refused.get("retry-after").expect("when to come back").parse::<u32>().unwrap());
    }
    assert!(retries.len() > 3 && retries.iter().all(|seconds| (1..=10).contains(seconds)), "{retries:?}");
    assert_eq!(control.get("/stats", &[]).json()["connections_refused"], 30);
    assert_eq!(control.ask("POST", "/pub/x", &[], b"news").status, 201);
    for poll in &mut parked {
        assert_eq!(poll.answer().text(), "news", "who was accepted is served");
    }
}

#[test]
fn a_crowd_is_refused_and_those_inside_notice_nothing() {
    let server = Encke::start(&["--limits-connections", "20", "--admin-listen", "127.0.0.1:0"]);
    let mut streams: Vec<Client> = (0..20).map(|_| server.open("/sub/x?as=stream", &[]).1).collect();
    // Each asks as soon as it has come: who says nothing for long is not told anything.
    let come = |_| {
        let mut client = server.connect();
        client.try_send(request("GET", "/sub/x?as=stream", &[], b""));
        client
    };
    let crowd: Vec<Client> = (0..300).map(come).collect();
    // The admin listener has places of its own.
    let mut control = server.admin();
    for number in 0..5 {
        control.publish("x", &[], format!("m{number}").as_bytes());
        for stream in &mut streams {
            assert_eq!(stream.envelope()["data"], format!("m{number}"));
        }
    }
    let refused = until("all are refused", || {
        let refused = control.get("/stats", &[]).json()["connections_refused"].as_u64()?;
        (refused >= 300).then_some(refused)
    });
    assert_eq!(refused, 300, "each is counted once");
    let told =
        crowd.into_iter().map(|mut client| client.rest()).filter(|rest| rest.starts_with(b"HTTP/1.1 503 "));
    assert!(told.count() >= 64, "as many are told as there are places for that");
    until("they are gone", || (control.get("/stats", &[]).json()["connections"] == 21).then_some(()));
}

#[test]
fn an_address_has_its_share_of_the_connections() {
    let server = Encke::start(&["--limits-connections-per-address", "3"]);
    let connect = |last: u8| Client::connect_from(server.addr(), [127, 0, 0, last].into());
    let mut inside: Vec<Client> = (0..3).map(|_| connect(2)).collect();
    for client in &mut inside {
        assert_eq!(client.get("/healthz", &[]).status, 200);
    }
    let mut surplus = connect(2);
    let refused = surplus.get("/healthz", &[]);
    assert_eq!((refused.status, refused.get("connection")), (429, Some("close")), "{}", refused.text());
    assert!(refused.get("retry-after").is_some());
    surplus.closed();
    assert_eq!(connect(3).get("/healthz", &[]).status, 200, "another address");
    let own: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    assert_eq!(
        count(&server, "connections_refused_per_address"),
        1,
        "programs of this machine are not counted"
    );
    drop(own);
    inside.pop();
    until("there is a place again", || {
        let mut client = connect(2);
        client.try_send(request("GET", "/healthz", &[], b""));
        (client.answer().status == 200).then_some(())
    });
    let closed: Vec<Client> = (0..20).map(|_| connect(2)).collect();
    until("most are closed without a word", || {
        (count(&server, "connections_refused_per_address") >= 13).then_some(())
    });
    drop(closed);
    assert_eq!(inside[0].get("/healthz", &[]).status, 200, "those inside noticed nothing");
}

#[test]
fn an_address_publishes_so_much_a_second() {
    let server = Encke::start(&["--limits-publishes-per-second", "5"]);
    let mut publisher = Client::connect_from(server.addr(), [127, 0, 0, 2].into());
    let batch = |count: usize| {
        let lines = "{\"channel\":\"x\",\"data\":1}\n".repeat(count);
        request("POST", "/pub", &["Content-Type: application/x-ndjson"], lines.as_bytes())
    };
    publisher.send(batch(6));
    assert_eq!(publisher.answer().status, 429, "more than may come in a second, all or none");
    // They arrive together, so that they are of one second.
    publisher.send([batch(5), request("POST", "/pub/x", &[], b"one too many")].concat());
    assert_eq!(publisher.answer().status, 202);
    let refused = publisher.answer();
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(refused.get("retry-after").is_some() && refused.get("connection").is_none());
    assert_eq!(count(&server, "publications_refused"), 2);
    assert_eq!(server.history("x").len(), 5);
    for _ in 0..20 {
        server.publish("x", "own programs are exempt");
    }
    until("another second has come", || {
        (publisher.ask("POST", "/pub/x", &[], b"x").status == 202).then_some(())
    });
}

#[test]
fn bayeux_clients_publish_no_more() {
    let server = Encke::start(&["--limits-publishes-per-second", "5", "--bayeux-publish", "x"]);
    let messages = |count: usize| format!("[{}]", ["{\"channel\":\"/x\",\"data\":1}"; 6][..count].join(","));
    let mut client = Client::connect_from(server.addr(), [127, 0, 0, 2].into());
    let replies =
        client.ask("POST", "/bayeux", &["Content-Type: application/json"], messages(6).as_bytes()).json();
    let failed: Vec<_> =
        replies.as_array().unwrap().iter().filter(|reply| reply["successful"] == false).collect();
    assert_eq!(failed.len(), 1, "{replies}");
    assert_eq!(failed[0]["error"], "429::too_many_messages");
    assert_eq!((count(&server, "publications_refused"), server.history("x").len()), (1, 5));
    let replies =
        server.ask("POST", "/bayeux", &["Content-Type: application/json"], messages(6).as_bytes()).json();
    assert!(replies.as_array().unwrap().iter().all(|reply| reply["successful"] == true), "{replies}");
}

#[test]
fn a_body_of_a_byte_a_second_is_given_up() {
    let server = Encke::start(&[]);
    let mut slow = server.connect();
    slow.send("POST /pub/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n");
    let begun = Instant::now();
    while !slow.answered_within(Duration::from_secs(1)) {
        slow.try_send("x");
    }
    let answer = slow.answer();
    let took = begun.elapsed();
    assert_eq!((answer.status, answer.get("connection")), (408, Some("close")));
    assert!(
        took >= Duration::from_secs(4) && took < Duration::from_secs(25),
        "after {took:?}, long before 30 s"
    );
    assert_eq!(count(&server, "heads_timed_out"), 1);
}

#[test]
fn who_may_not_publish_is_told_before_the_body() {
    let server = Encke::start(&[]);
    let fields = ["X-Forwarded-For: 192.0.2.1", "Expect: 100-continue", "Content-Length: 1000000"];
    for (target, status) in [("/pub/x", 403), ("/pub", 403), ("/nowhere", 404), ("/sub/x", 405)] {
        let mut client = server.connect();
        client.send(format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n{}\r\n\r\n", fields.join("\r\n")));
        let answer = client.answer();
        assert_eq!((answer.status, answer.get("connection")), (status, Some("close")), "{target}");
    }
    let server = Encke::start(&["--admin-listen", "127.0.0.1:0"]);
    let mut client = server.connect();
    client.send(format!("POST /pub/x HTTP/1.1\r\nHost: localhost\r\n{}\r\n\r\n", fields[1..].join("\r\n")));
    assert_eq!(client.answer().status, 404, "publishing is elsewhere");
}

#[test]
fn what_was_let_go_is_given_back_to_the_system() {
    let server = Encke::start(&["--history-messages", "100000", "--history-bytes", "1GiB"]);
    let mut publisher = server.admin();
    // A little more than is asked for below: some of it lies in pages that are there before.
    let text = "x".repeat(20_200);
    publisher.publish("kept", &[], text.as_bytes());
    let before = server.allocated_bytes();
    // What is kept lies between what is not.
    for number in 0..2000 {
        publisher.publish("gone", &[], text.as_bytes());
        if number % 50 == 0 {
            publisher.publish("kept", &[], b"small");
        }
    }
    let most = server.allocated_bytes() - before;
    assert!(most > 40_000_000, "{most} bytes");
    // Although nothing happens any more.
    assert_eq!(publisher.ask("DELETE", "/pub/gone", &[], b"").status, 204);
    until("it is given back", || (server.allocated_bytes() < before + (2 << 20)).then_some(()));
    assert_eq!(server.history("kept").len(), 41);
}

#[test]
fn memory_stays_within_its_budget() {
    const BUDGET: usize = 64 << 20;
    let server = Encke::start(&[
        "--limits-memory",
        "64MiB",
        "--history-bytes",
        "1GiB",
        "--history-total-bytes",
        "1GiB",
    ]);
    let (_, mut stream) = server.open("/sub/live?as=stream", &[]);
    let mut publisher = server.admin();
    // Bodies that do not come to an end take what history leaves, which itself takes half at most.
    let head = "POST /pub/body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n";
    let most_of_it = [head.as_bytes(), &[b'x'; 900_000]].concat();
    let mut bodies: Vec<Client> = (0..28).map(|_| server.connect()).collect();
    bodies.iter_mut().for_each(|client| client.send(&most_of_it));
    let big = "x".repeat(100_000);
    publisher.publish("live", &[], b"first");
    assert_eq!(stream.envelope()["data"], "first");
    let mut most = 0;
    // 100 MB that nobody hears.
    for number in 0..1000 {
        publisher.publish("live", &["Encke-TTL: 0"], format!("{number}").as_bytes());
        assert_eq!(stream.envelope()["data"], number.to_string(), "no live delivery is lost");
        publisher.publish(&format!("idle/{}", number % 10), &[], big.as_bytes());
        publisher.publish("idle/small", &[], &big.as_bytes()[..300]);
        most = most.max(server.resident_bytes());
    }
    assert!(most < BUDGET, "{most} bytes were resident");
    server.logged("memory becomes short");
    assert_eq!(server.history("live"), ["first"], "history of idle channels goes first");
    let stats = server.json("/stats");
    assert_eq!(stats["memory_shortages"], 1, "it is said once");
    assert_eq!(stats["memory_limit_bytes"], BUDGET);
    assert!(stats["messages_evicted"].as_u64().unwrap() > 300);
    assert_eq!(stats["connections_refused"], 0, "that was enough");
    assert_eq!(server.get("/sub/idle/1?after=oldest&as=interval", &["Accept: application/json"]).status, 200);
}

#[test]
fn bodies_that_arrive_in_pieces_stay_within_the_budget() {
    const BUDGET: usize = 64 << 20;
    let server = Encke::start(&["--limits-memory", "64MiB"]);
    let (_, mut stream) = server.open("/sub/live?as=stream", &[]);
    let mut publisher = server.admin();
    let head = "POST /pub/big HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n";
    let most_of_it = [head.as_bytes(), &[b'x'; 900_000]].concat();
    // 180 MB, if they were kept.
    let mut crowd: Vec<Client> = (0..200).map(|_| server.connect()).collect();
    let mut most = 0;
    for (number, client) in crowd.iter_mut().enumerate() {
        client.try_send(&most_of_it);
        publisher.publish("live", &[], number.to_string().as_bytes());
        assert_eq!(stream.envelope()["data"], number.to_string());
        most = most.max(server.resident_bytes());
    }
    assert!(most < BUDGET, "{most} bytes were resident");
    let stats = publisher.get("/stats", &[]).json();
    assert!(stats["requests_refused"].as_u64().unwrap() > 100, "{stats}");
    drop(crowd);
    until("there is room for them again", || {
        let mut client = server.connect();
        client.try_send(request("POST", "/pub/big", &[], &[b'x'; 900_000]));
        let answer = client.answer();
        (answer.status == 202).then_some(())
    });
}

#[test]
fn a_client_that_proxies_name_in_two_ways_is_counted() {
    let server = Encke::start(&[
        "--trusted-proxies=127.0.0.1",
        "--limits-publishes-per-second=5",
        "--bayeux-publish=x",
    ]);
    let messages = format!("[{}]", ["{\"channel\":\"/x\",\"data\":1}"; 6].join(","));
    let failed = |fields: &[&str]| {
        let answer = server.ask("POST", "/bayeux", fields, messages.as_bytes());
        answer.json().as_array().unwrap().iter().filter(|reply| reply["successful"] == false).count()
    };
    assert_eq!(failed(&[]), 0, "the proxy itself is exempt");
    assert_eq!(failed(&["X-Forwarded-For: 192.0.2.1"]), 1);
    assert_eq!(failed(&["X-Forwarded-For: 192.0.2.2", "Forwarded: for=192.0.2.3"]), 1, "not as the proxy");
    assert!(failed(&["X-Forwarded-For: rubbish"]) > 0, "nor who has no name");
    let mut socket = server.connect();
    let fields = ["X-Forwarded-For: 192.0.2.4", "Forwarded: for=192.0.2.5"];
    let handshake = crate::websocket::HANDSHAKE.iter().chain(&fields).copied().collect::<Vec<_>>();
    socket.request("GET", "/bayeux", &handshake, b"");
    assert_eq!(socket.head().status, 101);
    let mut frame = vec![0x81, 0x80 | 126, 0, messages.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(messages.as_bytes());
    socket.send(frame);
    let text = String::from_utf8(socket.read_until(b"}]"))
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into());
    assert!(text.contains("429::too_many_messages"), "{text}");
}
