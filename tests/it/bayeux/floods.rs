//! Clients that ask for too much, too often: they are told to come later, and nobody else is disturbed.

use super::*;
use crate::harness::until;

const FROM_A_PROXY: [&str; 2] = ["--trusted-proxies", "127.0.0.1"];

fn unknown() -> Value {
    json!([{"channel": "/meta/connect", "clientId": "nope", "connectionType": "long-polling", "id": "1"}])
}

/// The reply to a handshake of the client at `address`, which comes through a proxy.
fn shake_hands(client: &mut Client, address: &str) -> Value {
    let field = format!("X-Forwarded-For: {address}");
    replies(&client.ask("POST", "/bayeux", &[&field], handshake().to_string().as_bytes())).remove(0)
}

#[test]
fn the_sessions_that_exist_survive_a_flood_of_handshakes() {
    let server = start(&["--bayeux-sessions", "200", "--bayeux-handshakes-per-second", "100000"]);
    let mut session = Session::begin(&server);
    session.subscribe("/a");
    let mut held = session.hold(&json!({"id": "5"}));
    let mut flood = server.connect();
    let refused = (0..1000).filter(|_| !ok(&post(&mut flood, &handshake())[0])).count();
    assert!(refused > 0, "the limit holds");
    post(&mut flood, &json!({"channel": "/a", "data": 1}));
    assert_eq!(events(&replies(&held.answer())), [1]);
}

#[test]
fn an_address_may_shake_hands_so_often() {
    let server = start(&[&["--bayeux-handshakes-per-second", "2"], &FROM_A_PROXY[..]].concat());
    let mut client = server.connect();
    let mut intervals = Vec::new();
    until("handshakes wait for more than a second", || {
        let reply = shake_hands(&mut client, "192.0.2.1");
        if !ok(&reply) {
            assert_eq!(error(&reply), "429::too_many_handshakes");
            assert_eq!(reply["advice"]["reconnect"], "handshake");
            assert_eq!(reply["id"], "1");
            intervals.push(reply["advice"]["interval"].as_u64().unwrap());
        }
        (intervals.last() > Some(&1000)).then_some(())
    });
    assert_eq!(intervals[0], 1000, "the first come back in the next second");
    assert!(ok(&shake_hands(&mut client, "192.0.2.2")), "others are not disturbed");
    until("a second has passed", || ok(&shake_hands(&mut client, "192.0.2.1")).then_some(()));
    let mut socket = Socket::open(&server);
    until("a socket is refused", || (!ok(&socket.ask(&json!([handshake()]))[0])).then_some(()));
}

#[test]
fn an_ipv6_network_is_one_address() {
    let server = start(&[&["--bayeux-handshakes-per-second", "5"], &FROM_A_PROXY[..]].concat());
    let mut client = server.connect();
    let mut host = 0;
    until("the network is refused", || {
        host += 1;
        (!ok(&shake_hands(&mut client, &format!("2001:db8::{host:x}")))).then_some(())
    });
    assert!(ok(&shake_hands(&mut client, "2001:db8:0:1::1")), "its neighbour is not");
}

#[test]
fn unknown_sessions_are_answered_so_often() {
    let server = start(&["--bayeux-unknown-per-second", "5"]);
    let mut session = Session::begin(&server);
    let mut client = server.connect();
    let body = unknown().to_string();
    let answer = until("the limit is reached", || {
        let answer = client.ask("POST", "/bayeux", &[], body.as_bytes());
        (answer.status != 200).then_some(answer)
    });
    assert_eq!((answer.status, answer.get("retry-after")), (429, Some("1")));
    for _ in 0..100 {
        client.ask("POST", "/bayeux", &[], body.as_bytes());
        assert!(ok(&session.publish("/a", 1)), "sessions of the same address go on");
    }
    until("a second has passed", || {
        (client.ask("POST", "/bayeux", &[], body.as_bytes()).status == 200).then_some(())
    });
}

#[test]
fn a_socket_or_stream_that_names_unknown_sessions_is_limited_too() {
    let server = start(&["--bayeux-unknown-per-second", "5"]);
    let mut socket = Socket::open(&server);
    until("the socket is closed", || {
        socket.0.send(Message::text(unknown().to_string())).ok()?;
        matches!(socket.0.read(), Ok(Message::Close(_)) | Err(_)).then_some(())
    });
    let mut client = server.connect();
    until("a stream is refused", || {
        (client.get("/bayeux/nobody", &["Accept: text/event-stream"]).status == 429).then_some(())
    });
}

#[test]
fn a_socket_that_reads_nothing_has_no_history_copied_for_it() {
    const MESSAGES: usize = 16;
    let server = start(&[]);
    let mut publisher = server.connect();
    for number in 0..MESSAGES {
        publisher.publish(&format!("h/{number}"), &[], "y".repeat(1_000_000).as_bytes());
    }
    let before = server.allocated_bytes();
    let mut sockets: Vec<Socket> = (0..4).map(|_| Socket::open(&server)).collect();
    for socket in &mut sockets {
        let id = socket.ask(&json!([handshake()]))[0]["clientId"].clone();
        let connect = json!({"channel": "/meta/connect", "clientId": id, "connectionType": "websocket"});
        socket.ask(&json!([connect]));
        let ext = json!({"replay": {"/h/*": -2}});
        let subscribe =
            json!({"channel": "/meta/subscribe", "clientId": id, "subscription": "/h/*", "ext": ext});
        assert!(ok(&socket.ask(&json!([subscribe]))[0]));
    }
    std::thread::sleep(3 * MOMENT);
    let grown = server.allocated_bytes().saturating_sub(before) >> 20;
    // A socket may hold one answer, and what it tells is encoded once for all of them.
    assert!(grown < 24, "{grown} MiB for four sockets that lack {MESSAGES} MB each");
    let mut told = 0;
    while told < MESSAGES {
        told += sockets[0]
            .read()
            .iter()
            .filter(|message| message["channel"].as_str().unwrap().starts_with("/h/"))
            .count();
    }
    assert_eq!(told, MESSAGES, "nothing is lost by waiting");
}
