//! What no client should send: an error, and nobody else is disturbed.

use super::*;

#[test]
fn case_31_what_is_no_message() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    let deep = format!("[{{\"data\":{}{}}}]", "[".repeat(50_000), "]".repeat(50_000));
    for body in [
        &b""[..],
        b"[",
        b"{",
        b"1",
        b"null",
        b"\"x\"",
        b"[1]",
        b"[null]",
        b"[[]]",
        b"[{}",
        b"{}x",
        b"hello",
        b"message=",
        b"message=1",
        b"message=%ff",
        b"\xff",
        b"[\xff]",
        b"[{\"id\":1,\"id\":2}]",
        b"[{\"data\":1e}]",
        b"{\"a\":\"\x01\"}",
        deep.as_bytes(),
    ] {
        let answer = server.ask("POST", "/bayeux", &[], body);
        assert_eq!(answer.status, 400, "{:?}", String::from_utf8_lossy(&body[..body.len().min(50)]));
    }
    for body in ["1", "hello", "[", "[1]", &deep] {
        let mut socket = Socket::open(&server);
        socket.0.send(Message::text(body)).unwrap();
        assert!(matches!(socket.0.read().unwrap(), Message::Close(_)), "{}", &body[..body.len().min(50)]);
    }
    assert!(ok(&session.connect(json!({}))[0]));
}

#[test]
fn bounded_in_every_direction() {
    let server = start(&["--bayeux-request-messages", "100"]);
    let mut session = Session::begin(&server);
    let many = vec![json!({"channel": "/a", "data": 1}); 10_000];
    let answer = server.ask("POST", "/bayeux", &[], Value::from(many).to_string().as_bytes());
    assert_eq!(answer.status, 413);
    assert_eq!(server.history("a"), Vec::<String>::new(), "none of them");
    let full = vec![json!({"channel": "/a", "data": 1}); 100];
    assert_eq!(post(&mut server.connect(), &full.into()).len(), 100);

    let long = "9".repeat(1_000_000);
    for id in [json!(long), json!({"a": 1}), json!([1]), json!(true)] {
        let reply = session.ask(json!({"channel": "/a", "data": 1, "id": id}));
        assert_eq!(error(&reply), "405::message_id_invalid");
        assert!(reply.get("id").is_none());
    }
    let reply = session.ask(json!({"channel": format!("/{long}"), "data": 1}));
    assert!(error(&reply).starts_with("405:") && reply.get("channel").is_none());
    assert_eq!(server.ask("POST", "/bayeux", &[], format!("[\"{long}{long}\"]").as_bytes()).status, 413);
    assert!(ok(&session.connect(json!({}))[0]));
}

/// Half of a surrogate pair is no text: echoed, it would break the parser of who sent it.
#[test]
fn what_is_echoed_is_text() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    let id = &session.id;
    for (message, wrong) in [
        (r#"{"channel":"/a","data":1,"id":"\ud83d"}"#.to_owned(), "405::message_id_invalid"),
        (
            format!(
                r#"{{"channel":"/meta/connect","clientId":"{id}","connectionType":"long-polling","id":"\ude00x"}}"#
            ),
            "405::message_id_invalid",
        ),
        (r#"{"channel":"/a/\ud83d","data":1}"#.to_owned(), "405::channel_invalid"),
        (r#"{"channel":"/meta/\udfff"}"#.to_owned(), "405::channel_invalid"),
        (
            format!(r#"{{"channel":"/meta/subscribe","clientId":"{id}","subscription":"/\ud83d"}}"#),
            "405::subscription_invalid",
        ),
    ] {
        let answer = server.ask("POST", "/bayeux", &[], format!("[{message}]").as_bytes());
        let replies = answer.json();
        assert_eq!(error(&replies[0]), wrong, "{message}");
    }
    // A pair is a character.
    let body = r#"[{"channel":"/a","data":1,"id":"\ud83d\ude00"}]"#;
    let answer = server.ask("POST", "/bayeux", &[], body.as_bytes());
    let replies = answer.json();
    assert_eq!((replies[0]["id"].as_str(), ok(&replies[0])), (Some("\u{1f600}"), true));
    assert!(ok(&session.connect(json!({}))[0]));
}

#[test]
fn methods_and_targets() {
    let server = start(&[]);
    for method in ["PUT", "DELETE", "HEAD"] {
        let mut client = server.connect();
        client.request(method, "/bayeux", &[], b"");
        let head = client.head();
        assert_eq!((head.status, head.get("allow")), (405, Some("GET, POST, OPTIONS")), "{method}");
    }
    assert_eq!(server.get("/bayeux", &[]).status, 400);
    assert_eq!(server.get("/bayeux?message=", &[]).status, 400);
    assert_eq!(server.get("/bayeux?message=%00", &[]).status, 400);
}
