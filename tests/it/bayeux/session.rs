//! Handshake, connect, disconnect, expiry.

use super::*;
use crate::harness::until;
use crate::redis::Redis;
use crate::store::Directory;

#[test]
fn case_1_handshake() {
    let server = start(&[]);
    let answer = server.ask("POST", "/bayeux", &[], json!([handshake()]).to_string().as_bytes());
    let reply = &replies(&answer)[0];
    assert!(ok(reply) && reply["id"] == "1" && reply["version"] == "1.0");
    assert_eq!(
        reply["advice"],
        json!({"reconnect": "retry", "interval": 0, "timeout": 30000, "maxInterval": 10000})
    );
    let id = reply["clientId"].as_str().unwrap();
    assert!(id.len() >= 22 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert!(reply["supportedConnectionTypes"].as_array().unwrap().contains(&"long-polling".into()));
    let cookie = answer.get("set-cookie").unwrap();
    assert!(cookie.starts_with("BAYEUX_BROWSER=") && cookie.contains("HttpOnly"), "{cookie}");
}

#[test]
fn case_2_connect_echoes_the_id() {
    let server = start(&[]);
    let mut session = Session::handshake(&server, &handshake());
    for id in [json!("4"), json!(4), json!("é\u{1f600}\""), json!(-1.5e3)] {
        let connect = json!({"channel": "/meta/connect", "connectionType": "long-polling", "id": id, "advice": {"timeout": 0}});
        let reply = session.ask(connect);
        assert!(ok(&reply) && reply["id"] == id && reply["advice"]["reconnect"] == "retry", "{reply}");
    }
}

// Cases 3, 24 and 25 are about time: src/server/tests/bayeux.rs has them on the virtual clock.

#[test]
fn case_4_a_message_wakes_a_held_connect() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    assert!(ok(&session.subscribe("/a/b")));
    let mut held = session.hold(&json!({"id": "5"}));
    assert!(ok(&Session::begin(&server).publish("/a/b", json!({"x": [1, 2]}))));
    let woken = replies(&held.answer());
    assert_eq!(woken[0], json!({"channel": "/a/b", "data": {"x": [1, 2]}}));
    assert!(woken.len() == 2 && ok(&woken[1]) && woken[1]["id"] == "5");
}

#[test]
fn cases_5_and_6_unknown_sessions() {
    let server = start(&[]);
    let mut client = server.connect();
    for id in [json!("nope"), json!(7), json!("z".repeat(1000))] {
        let connect =
            json!({"channel": "/meta/connect", "clientId": id, "connectionType": "long-polling", "id": "1"});
        let reply = &post(&mut client, &connect)[0];
        assert!(error(reply).starts_with("402::"));
        assert_eq!(reply["advice"], json!({"reconnect": "handshake", "interval": 0}));
        for (channel, field) in [
            ("/a", "data"),
            ("/meta/subscribe", "subscription"),
            ("/meta/unsubscribe", "subscription"),
            ("/meta/disconnect", "x"),
        ] {
            let reply = &post(&mut client, &json!({"channel": channel, "clientId": id, field: "/a"}))[0];
            assert!(error(reply).starts_with("402::") && reply.get("advice").is_none(), "{reply}");
        }
    }
    for channel in ["/meta/connect", "/meta/subscribe"] {
        assert!(
            error(&post(&mut client, &json!({"channel": channel, "subscription": "/a"}))[0])
                .starts_with("402::")
        );
    }
}

#[test]
fn case_12_the_older_of_two_connects_ends_without_bayeux() {
    let server = start(&[]);
    let session = Session::begin(&server);
    let mut older = session.hold(&json!({"id": "a"}));
    let mut newer = session.hold(&json!({"id": "b"}));
    let answer = older.answer();
    assert_eq!(answer.status, 409);
    assert!(answer.json().as_array().is_none(), "{}", answer.text());
    assert!(!newer.answered_within(MOMENT));
}

#[test]
fn case_13_events_follow_the_latest_connect_to_another_socket() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    session.subscribe("/a");
    let connect = json!([{"channel": "/meta/connect", "clientId": session.id, "connectionType": "websocket", "id": "1"}]);
    let (mut older, mut newer) = (Socket::open(&server), Socket::open(&server));
    older.send(&connect);
    older.settle();
    newer.send(&connect);
    newer.settle();
    session.publish("/a", 1);
    assert_eq!(events(&newer.read()), [1]);
    older.settle();
}

#[test]
fn case_14_disconnect_releases_the_held_connect() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    let mut held = session.hold(&json!({"id": "5"}));
    assert!(ok(&session.ask(json!({"channel": "/meta/disconnect", "id": "6"}))));
    let released = &replies(&held.answer())[0];
    assert!(ok(released) && released["id"] == "5" && released["advice"]["reconnect"] == "none");
    assert!(error(&session.connect(json!({}))[0]).starts_with("402::"));
}

#[test]
fn case_18_the_id_of_a_pending_call_is_not_taken_by_another_clients_event() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    session.subscribe("/**");
    assert!(ok(&session.ask(json!({"channel": "/service/call", "id": "7", "data": 1}))));
    Session::begin(&server).ask(json!({"channel": "/news", "id": "7", "data": 2}));
    let answer = session.connect(json!({}));
    assert!(answer[0]["data"] == 2 && answer[0].get("id").is_none(), "{answer:?}");
}

#[test]
fn case_21_a_connect_beside_others_is_answered_at_once() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    let connect = json!({"channel": "/meta/connect", "connectionType": "long-polling", "id": "1"});
    let replies =
        session.send(&[connect, json!({"channel": "/meta/subscribe", "subscription": "/a", "id": "2"})]);
    assert!(replies.len() == 2 && replies.iter().all(ok), "{replies:?}");
}

#[test]
fn case_36_handshakes_that_fail() {
    let server = start(&[]);
    let mut client = server.connect();
    let types = json!(["flash"]);
    for (handshake, code) in [
        (json!({"channel": "/meta/handshake", "version": "1.0", "supportedConnectionTypes": types}), "301:"),
        (json!({"channel": "/meta/handshake", "version": "1.0"}), "301:"),
        (json!({"channel": "/meta/handshake", "supportedConnectionTypes": ["long-polling"]}), "402:"),
        (
            json!({"channel": "/meta/handshake", "version": "x", "supportedConnectionTypes": ["long-polling"]}),
            "402:",
        ),
    ] {
        let reply = &post(&mut client, &handshake)[0];
        assert!(error(reply).starts_with(code) && reply["advice"]["reconnect"] == "none", "{reply}");
    }
}

#[test]
fn case_37_beside_a_handshake_nothing_counts() {
    let server = start(&[]);
    let publish = json!({"channel": "/a", "data": 1, "id": "2"});
    let replies = post(&mut server.connect(), &json!([publish, handshake(), publish]));
    assert!(replies.len() == 1 && replies[0]["id"] == "1" && ok(&replies[0]), "{replies:?}");
    assert_eq!(server.history("a"), Vec::<String>::new());
}

#[test]
fn sessions_are_bounded_and_others_go_on() {
    let server = start(&["--bayeux-sessions", "3"]);
    let mut sessions: Vec<Session> = (0..3).map(|_| Session::begin(&server)).collect();
    let reply = &post(&mut server.connect(), &handshake())[0];
    assert!(error(reply).starts_with("503:") && reply["advice"]["reconnect"] == "handshake");
    for session in &mut sessions {
        assert!(ok(&session.connect(json!({}))[0]));
    }
    assert_eq!(server.get("/stats", &[]).json()["bayeux_sessions"], 3);
    sessions[0].ask(json!({"channel": "/meta/disconnect"}));
    assert_eq!(server.get("/stats", &[]).json()["bayeux_sessions"], 2);
    Session::begin(&server);
}

#[test]
fn a_session_may_be_bound_to_its_browser() {
    let server = start(&["--bayeux-bind-sessions-to-cookie"]);
    let mut client = server.connect();
    let answer = client.ask("POST", "/bayeux", &[], handshake().to_string().as_bytes());
    let cookie = answer.get("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let id = answer.json()[0]["clientId"].clone();
    let connect =
        json!({"channel": "/meta/connect", "clientId": id, "connectionType": "long-polling"}).to_string();
    for (field, good) in [
        ("Cookie: a=b", false),
        ("Cookie: BAYEUX_BROWSER=0123", false),
        (&format!("Cookie: a=b; {cookie}"), true),
    ] {
        let answer = client.ask("POST", "/bayeux", &[field], connect.as_bytes());
        assert_eq!(ok(&replies(&answer)[0]), good, "{field}");
    }
}

#[test]
fn a_shutdown_answers_held_connects() {
    let mut server = start(&[]);
    let session = Session::begin(&server);
    let mut held = session.hold(&json!({"id": "5"}));
    drop(session);
    server.signal(rustix::process::Signal::TERM);
    assert!(ok(&replies(&held.answer())[0]));
    held.closed();
    assert_eq!(server.exit().code(), Some(0));
}

/// A session that has shaken hands by a socket.
fn by_socket(socket: &mut Socket) -> String {
    let reply = socket.ask(
        &json!([{"channel": "/meta/handshake", "version": "1.0", "supportedConnectionTypes": ["websocket"]}]),
    );
    reply[0]["clientId"].as_str().unwrap().to_owned()
}

#[test]
fn a_socket_is_pushed_to_from_the_handshake_on() {
    let server = start(&[]);
    let mut socket = Socket::open(&server);
    let id = by_socket(&mut socket);
    let subscribed =
        socket.ask(&json!([{"channel": "/meta/subscribe", "subscription": "/a", "clientId": id}]));
    assert!(ok(&subscribed[0]));
    for number in 0..3 {
        server.publish("a", number.to_string());
        assert_eq!(events(&socket.read()), [json!(number.to_string())], "before any connect");
    }
    let connect = json!([{"channel": "/meta/connect", "clientId": id, "connectionType": "websocket"}]);
    let connected = socket.ask(&connect);
    assert!(ok(&connected[0]) && events(&connected).is_empty(), "none comes twice");
    server.publish("a", "3");
    assert_eq!(events(&socket.read()), ["3"]);
    // Whoever goes on by other means gets what comes there, and nothing here.
    let mut client = server.connect();
    let poll = json!([{"channel": "/meta/connect", "clientId": id, "connectionType": "long-polling", "advice": {"timeout": 0}}]);
    post(&mut client, &poll);
    server.publish("a", "4");
    assert_eq!(events(&post(&mut client, &poll)), ["4"]);
    socket.settle();
}

#[test]
fn a_socket_is_told_a_gap_before_the_events_behind_it() {
    let server = start(&["--history-messages", "3", "--history-grace-seconds", "0"]);
    let mut socket = Socket::open(&server);
    let id = by_socket(&mut socket);
    socket.ask(&json!([{"channel": "/meta/subscribe", "subscription": "/a", "clientId": id}]));
    let connect =
        json!([{"channel": "/meta/connect", "clientId": id, "connectionType": "websocket", "id": "c"}]);
    assert!(ok(&socket.ask(&connect)[0]));
    socket.send(&connect);
    // While it has no way to be pushed to, more comes than is kept.
    let mut client = server.connect();
    let poll = json!([{"channel": "/meta/connect", "clientId": id, "connectionType": "long-polling", "advice": {"timeout": 0}}]);
    post(&mut client, &poll);
    for number in 0..10 {
        server.publish("a", number.to_string());
    }
    turn(&server);
    let told = socket.ask(&connect);
    assert_eq!((ok(&told[0]), &told[0]["ext"]), (true, &json!({"gap": ["/a"]})), "{told:?}");
    assert_eq!(events(&socket.read()), ["7", "8", "9"], "behind it");
}

#[test]
fn what_was_published_before_a_session_unsubscribes_reaches_it() {
    reaches_it(&start(&[]));
}

/// There it has a number only when the session has unsubscribed already.
#[test]
fn what_was_published_before_a_session_unsubscribes_reaches_it_by_a_disk() {
    let directory = Directory::new("unsubscribes");
    reaches_it(&start(&["--store-dir", &directory.store()]));
}

#[test]
fn what_was_published_before_a_session_unsubscribes_reaches_it_by_an_engine() {
    let redis = Redis::start(&[]);
    reaches_it(&start(&["--engine-url", &redis.url()]));
}

fn reaches_it(server: &Encke) {
    let mut socket = Socket::open(server);
    let id = by_socket(&mut socket);
    let batch = |id: &str| {
        json!([
            {"channel": "/meta/subscribe", "subscription": "/a", "clientId": id},
            {"channel": "/a", "data": 1, "clientId": id},
            {"channel": "/meta/unsubscribe", "subscription": "/a", "clientId": id},
            {"channel": "/a", "data": 2, "clientId": id},
        ])
    };
    let replies = socket.ask(&batch(&id));
    assert!(replies.iter().all(ok), "{replies:?}");
    assert_eq!(events(&socket.read()), [1]);
    assert_eq!(socket.ask(&json!([])), Vec::<Value>::new(), "nothing else came");
    // By polling it waits for the next connect.
    let mut session = Session::begin(server);
    let replies = post(&mut session.client, &batch(&session.id.clone()));
    assert!(replies.iter().all(ok), "{replies:?}");
    assert_eq!(session.poll(), [1]);
    assert!(session.poll().is_empty());
    // Nobody is left on the list.
    let listening = || server.json("/pub/a")["subscribers"].as_u64();
    until("nobody listens", || (listening() == Some(0)).then_some(()));
}
