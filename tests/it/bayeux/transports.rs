//! The ways that messages travel: long polling, callback polling, eventsource, WebSocket.

use super::*;
use crate::client::request;

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn case_26_paths_below_the_mount_are_the_mount() {
    let server = start(&["--bayeux-mounts", "/cometd,/a/faye"]);
    for path in ["/cometd", "/cometd/", "/cometd/handshake", "/a/faye", "/a/faye/connect/x?y=z"] {
        let answer = server.ask("POST", path, &[], handshake().to_string().as_bytes());
        assert!(ok(&replies(&answer)[0]), "{path}");
    }
    for path in ["/bayeux", "/cometdx", "/a"] {
        assert_eq!(server.ask("POST", path, &[], handshake().to_string().as_bytes()).status, 404, "{path}");
    }
}

#[test]
fn case_27_chunked_bodies_cut_inside_a_character() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    session.subscribe("/a");
    let body = json!([{"channel": "/a", "data": "Grüße \u{1f600}"}]).to_string();
    let head = "POST /bayeux/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = server.connect();
    client.send(head);
    for byte in body.as_bytes() {
        client.send([b"1\r\n", &[*byte][..], b"\r\n"].concat());
    }
    client.send("0\r\n\r\n");
    assert!(ok(&replies(&client.answer())[0]));
    assert_eq!(session.poll(), ["Grüße \u{1f600}"]);
}

#[test]
fn cases_28_and_29_the_body_decides_and_not_its_type() {
    let server = start(&[]);
    let json = json!([handshake()]).to_string();
    let form = format!("message={}", percent(&json));
    for body in [&json, &form, &format!(" \r\n{json}"), &handshake().to_string()] {
        for header in
            [&[][..], &["Content-Type: text/plain"], &["Content-Type: application/x-www-form-urlencoded"]]
        {
            let answer = server.ask("POST", "/bayeux", header, body.as_bytes());
            assert!(ok(&replies(&answer)[0]), "{header:?} {body}");
        }
    }
    let mut session = Session::begin(&server);
    session.subscribe("/a");
    let [one, two] =
        [1, 2].map(|data| percent(&json!({"channel": "/a", "data": data, "id": data}).to_string()));
    let answer = server.ask("POST", "/bayeux", &[], format!("message={one}&x=y&message={two}").as_bytes());
    assert_eq!(replies(&answer).len(), 2);
    assert_eq!(session.poll(), [1, 2]);
}

#[test]
fn case_30_callback_polling() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    session.subscribe("/a");
    session.publish("/a", "\u{2028}</script>");
    let connect = json!([{"channel": "/meta/connect", "clientId": session.id, "connectionType": "callback-polling", "id": "1"}]);
    let target = format!("/bayeux/connect?jsonp=_cometd_jsonp_2&message={}", percent(&connect.to_string()));
    let answer = server.get(&target, &[]);
    assert_eq!((answer.status, answer.media_type()), (200, "text/javascript"));
    assert_eq!(answer.get("x-content-type-options"), Some("nosniff"));
    assert!(answer.lists("cache-control", "no-store"));
    let text = answer.text();
    let script = text.strip_prefix("/**/_cometd_jsonp_2(").and_then(|rest| rest.strip_suffix(");")).unwrap();
    assert!(script.contains(r"\u2028") && !script.contains('\u{2028}'));
    let messages: Vec<Value> = serde_json::from_str(script).unwrap();
    assert_eq!(events(&messages), ["\u{2028}</script>"]);

    let mut held = server.connect();
    held.request("GET", &target, &[], b"");
    server.does(held.addr(), Some("bayeux"));
    session.publish("/a", 2);
    assert!(held.answer().text().starts_with("/**/_cometd_jsonp_2([{\"channel\":\"/a\",\"data\":2},"));

    let message = percent(&handshake().to_string());
    assert!(
        server.get(&format!("/bayeux?message={message}"), &[]).text().starts_with("/**/jsonpcallback([{")
    );
    for bad in ["alert(1)", "a;b", ""] {
        let target = format!("/bayeux?jsonp={}&message={message}", percent(bad));
        assert_eq!(server.get(&target, &[]).status, 400, "{bad}");
    }
}

#[test]
fn case_32_an_empty_array_is_answered() {
    let server = start(&[]);
    let answer = server.ask("POST", "/bayeux", &[], b"[]");
    assert_eq!((answer.status, answer.text().as_str()), (200, "[]"));
    let mut socket = Socket::open(&server);
    assert_eq!(socket.ask(&json!([])), Vec::<Value>::new());
    assert!(ok(&socket.ask(&json!([handshake()]))[0]));
}

#[test]
fn case_38_pages_of_other_origins() {
    let check = |options: &[&str], origin: &str, named: bool, credentials: bool| {
        let server = start(options);
        let field = format!("Origin: {origin}");
        let preflight =
            server.ask("OPTIONS", "/bayeux/connect", &[&field, "Access-Control-Request-Method: POST"], b"");
        assert!(preflight.lists("access-control-allow-methods", "POST"));
        assert!(preflight.lists("access-control-allow-headers", "content-type"));
        assert!(preflight.lists("access-control-allow-headers", "pragma"));
        assert_eq!(preflight.get("access-control-max-age"), Some("86400"));
        let posted = server.ask("POST", "/bayeux", &[&field], handshake().to_string().as_bytes());
        for answer in [preflight, posted] {
            let allowed = answer.get("access-control-allow-origin");
            assert_eq!(allowed == Some(origin), named, "{options:?} {origin}: {allowed:?}");
            assert_eq!(answer.get("access-control-allow-credentials").is_some(), credentials);
        }
    };
    check(&[], "https://a.example", true, true);
    check(&["--cors-origins", "https://a.example"], "https://a.example", true, true);
    check(&["--cors-origins", "https://a.example"], "https://b.example", false, false);
    check(&["--bayeux-bind-sessions-to-cookie"], "https://a.example", false, false);
}

#[test]
fn eventsource_carries_events_and_connects_follow_their_pace() {
    let server = start(&[]);
    let mut session = Session::handshake(&server, &handshake());
    session.subscribe("/a");
    session.publish("/a", 1);
    let (head, mut stream) = server.open(&format!("/bayeux/{}", session.id), &["Accept: text/event-stream"]);
    assert_eq!(head.media_type(), "text/event-stream");
    assert_eq!(stream.line(), "retry: 5000\r\n\r\n");
    let connect = json!({"channel": "/meta/connect", "connectionType": "eventsource", "id": "1"});
    let reply = session.ask(connect);
    assert!(ok(&reply));
    assert_eq!(
        reply["advice"],
        json!({"reconnect": "retry", "interval": 30000, "timeout": 0, "maxInterval": 10000})
    );
    assert_eq!(stream.line(), ":\r\n\r\n");
    assert_eq!(stream.line(), "data: [{\"channel\":\"/a\",\"data\":1}]\r\n\r\n");
    session.send(&[json!({"channel": "/a", "data": 2}), json!({"channel": "/a", "data": 3})]);
    assert_eq!(
        stream.line(),
        "data: [{\"channel\":\"/a\",\"data\":2},{\"channel\":\"/a\",\"data\":3}]\r\n\r\n"
    );

    let (_, mut newer) = server.open(&format!("/bayeux/{}", session.id), &["Accept: text/event-stream"]);
    newer.line();
    assert_eq!(stream.chunk(), None, "the newer stream takes over");
    session.publish("/a", 4);
    assert_eq!(newer.line(), "data: [{\"channel\":\"/a\",\"data\":4}]\r\n\r\n");
    let addr = newer.addr();
    newer.reset();
    server.does(addr, None);
    session.publish("/a", 5);
    assert_eq!(events(&session.connect(json!({}))), [5], "long polling goes on where the stream ended");
    let unknown = server.get("/bayeux/nobody", &["Accept: text/event-stream"]);
    assert_eq!(unknown.status, 404);
}

#[test]
fn a_stream_takes_the_place_of_a_connect_that_is_held() {
    let server = start(&["--bayeux-timeout-ms", "3600000"]);
    let mut session = Session::begin(&server);
    session.subscribe("/a");
    let mut held = session.hold(&json!({"id": "5"}));
    let (_, mut stream) = server.open(&format!("/bayeux/{}", session.id), &["Accept: text/event-stream"]);
    stream.line();
    let replies = replies(&held.answer());
    assert_eq!(replies.len(), 1);
    assert!(ok(&replies[0]), "{replies:?}");
    session.publish("/a", 1);
    let reply = session.ask(json!({"channel": "/meta/connect", "connectionType": "eventsource", "id": "1"}));
    assert!(ok(&reply), "{reply}");
    assert_eq!(stream.line(), ":\r\n\r\n");
    assert_eq!(stream.line(), "data: [{\"channel\":\"/a\",\"data\":1}]\r\n\r\n");
}

#[test]
fn a_stream_ends_with_its_session() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    let (_, mut stream) = server.open(&format!("/bayeux/{}", session.id), &["Accept: text/event-stream"]);
    stream.line();
    assert!(ok(&session.ask(json!({"channel": "/meta/disconnect"}))));
    assert_eq!(stream.chunk(), None);
}

#[test]
fn a_socket_carries_whole_sessions() {
    let server = start(&["--bayeux-timeout-ms", "2000"]);
    let mut socket = Socket::open(&server);
    let id = socket.ask(&json!([handshake()]))[0]["clientId"].clone();
    let connect = |number: u32| json!([{"channel": "/meta/connect", "clientId": id, "connectionType": "websocket", "id": number}]);
    let batch = json!([
        {"channel": "/meta/subscribe", "clientId": id, "subscription": "/a", "id": 2},
        {"channel": "/meta/subscribe", "clientId": id, "subscription": "/b", "id": 3},
    ]);
    assert!(socket.ask(&batch).iter().all(ok));
    assert!(ok(&socket.ask(&connect(4))[0]), "the first is answered at once");
    socket.send(&connect(5));
    server.publish("a", "pushed");
    assert_eq!(socket.read(), [json!({"channel": "/a", "data": "pushed"})], "while the connect is held");
    assert_eq!(socket.read()[0]["id"], 5, "which is answered when its time is up");
    server.publish("b", "while no connect is pending");
    assert_eq!(events(&socket.read()), ["while no connect is pending"]);
    let replies = socket.ask(&json!([{"channel": "/meta/disconnect", "clientId": id, "id": 6}]));
    assert!(replies[0]["id"] == 6 && ok(&replies[0]));
    assert!(!ok(&socket.ask(&connect(7))[0]));
}

#[test]
fn a_session_moves_between_transports() {
    let server = start(&[]);
    let mut session = Session::handshake(&server, &handshake());
    session.subscribe("/a");
    let mut socket = Socket::open(&server);
    let connect =
        json!({"channel": "/meta/connect", "clientId": session.id, "connectionType": "websocket", "id": "w"});
    assert!(ok(&socket.ask(&connect)[0]));
    session.publish("/a", 1);
    assert_eq!(events(&socket.read()), [1]);
    let addr = socket.addr();
    drop(socket);
    server.does(addr, None);
    session.publish("/a", 2);
    assert_eq!(session.poll(), [2], "a socket that has gone takes nothing with it");
    let mut held = session.hold(&json!({"id": "5"}));
    session.publish("/a", 3);
    assert_eq!(events(&replies(&held.answer())), [3]);
}

#[test]
fn a_keep_alive_connection_serves_connect_after_connect() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    session.subscribe("/a");
    let connect = json!({"channel": "/meta/connect", "clientId": session.id, "connectionType": "long-polling", "id": 1});
    let mut client = server.connect();
    for number in 0..20 {
        client.send(request("POST", "/bayeux/connect", &[], connect.to_string().as_bytes()));
        session.publish("/a", number);
        assert_eq!(events(&replies(&client.answer())), [number]);
    }
    assert_eq!(client.get("/healthz", &[]).status, 200, "and anything else");
}

#[test]
fn a_half_closed_connect_is_answered_and_given_no_messages() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    session.subscribe("/a");
    let begin = Instant::now();
    let mut timed = session.begin_connect(&json!({"id": "5", "advice": {"timeout": 1000}}));
    timed.half_close();
    let reply = &replies(&timed.answer())[0];
    assert!(ok(reply) && reply["id"] == "5");
    // The server's clock has whole milliseconds.
    assert!(begin.elapsed() > Duration::from_millis(990), "not before its time is up");
    timed.closed();
    let mut woken = session.hold(&json!({"id": "6"}));
    woken.half_close();
    woken.end_has_arrived();
    session.publish("/a", 1);
    let woken = replies(&woken.answer());
    assert!(woken.len() == 1 && woken[0]["id"] == "6" && ok(&woken[0]), "{woken:?}");
    assert_eq!(session.poll(), [1], "whoever closed altogether would have missed it");
}

#[test]
fn a_client_that_went_away_is_not_given_messages() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    session.subscribe("/a");
    let held = session.hold(&json!({"id": "5"}));
    let addr = held.addr();
    held.reset();
    server.does(addr, None);
    session.publish("/a", 1);
    assert_eq!(session.poll(), [1], "the message waited for the session");
}
