//! Pages of other sites, in a browser on the machine of a server that trusts loopback peers: they may not publish,
//! delete, or look at channels, whatever a form, a script or a name that points here makes the browser send.

use serde_json::json;
use tungstenite::Message;
use tungstenite::client::IntoClientRequest;

use crate::client::Client;
use crate::harness::{Encke, PATIENCE};

/// Sends a request with exactly these fields and gives the answer's status.
fn status(server: &Encke, method: &str, target: &str, fields: &[&str], body: &str) -> u16 {
    let mut head = format!("{method} {target} HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
    fields.iter().for_each(|field| head.push_str(&format!("{field}\r\n")));
    let mut client = Client::connect(server.addr());
    client.send(format!("{head}\r\n{body}"));
    client.answer().status
}

#[test]
fn a_form_of_another_site_publishes_nothing() {
    let server = Encke::start(&[]);
    let host = format!("Host: {}", server.addr());
    // What browsers send with a form, by their age: both fields, one of them, or only where the form is.
    let senders: [&[&str]; 6] = [
        &["Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"],
        &["Origin: null", "Sec-Fetch-Site: cross-site"],
        &["Sec-Fetch-Site: cross-site"],
        &["Origin: http://evil.example"],
        &["Referer: http://evil.example/win-a-prize"],
        // Another program's page on the same machine is another site, too.
        &["Origin: http://localhost:3000", "Sec-Fetch-Site: same-site"],
    ];
    for sender in senders {
        for content in ["application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "text/plain"]
        {
            let content = format!("Content-Type: {content}");
            for (method, target) in [
                ("POST", "/pub/x"),
                ("POST", "/pub"),
                ("DELETE", "/pub/x"),
                ("GET", "/pub/"),
                ("GET", "/pub/x"),
            ] {
                let fields = [&[&*host, &content], sender].concat();
                assert_eq!(
                    status(&server, method, target, &fields, "a=b"),
                    403,
                    "{method} {target} {fields:?}"
                );
            }
        }
    }
    assert!(server.history("x").is_empty());
    // A program, a page of the server itself, and an address that somebody typed.
    let own = format!("Origin: http://{}", server.addr());
    for sender in [&[][..], &[&*own, "Sec-Fetch-Site: same-origin"], &["Sec-Fetch-Site: none"]] {
        let fields = [&[&*host], sender].concat();
        assert_eq!(status(&server, "POST", "/pub/x", &fields, "a=b"), 202, "{fields:?}");
    }
}

#[test]
fn a_name_that_points_here_opens_nothing() {
    let server = Encke::start(&[]);
    server.publish("x", "kept");
    let port = server.addr().port();
    for name in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example"] {
        let host = format!("Host: {name}:{port}");
        let origin = format!("Origin: http://{name}:{port}");
        // A page that came from that name is of the same origin; reading, it does not even say so.
        for fields in [&[&*host][..], &[&*host, &origin], &[&*host, &origin, "Sec-Fetch-Site: same-origin"]] {
            for (method, target) in
                [("POST", "/pub/x"), ("DELETE", "/pub/x"), ("GET", "/pub/"), ("GET", "/pub/x")]
            {
                assert_eq!(status(&server, method, target, fields, "a"), 403, "{method} {target} {fields:?}");
            }
        }
    }
    assert_eq!(server.history("x"), ["kept"]);
}

#[test]
fn a_websocket_of_another_site_publishes_nothing() {
    let server = Encke::start(&[]);
    for (host, origin) in
        [("localhost", "http://evil.example"), ("evil.example", "http://evil.example"), ("localhost", "null")]
    {
        let mut request = format!("ws://{}/sub/x", server.addr()).into_client_request().unwrap();
        request.headers_mut().insert("Host", host.parse().unwrap());
        request.headers_mut().insert("Origin", origin.parse().unwrap());
        let stream = std::net::TcpStream::connect(server.addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut socket, _) = tungstenite::client(request, stream).unwrap();
        socket.read().unwrap();
        let command = json!({"publish": {"channel": "x", "data": 1}, "ref": 1});
        socket.send(Message::text(command.to_string())).unwrap();
        let answer = socket.read().unwrap();
        assert!(answer.to_text().unwrap().contains("may not publish"), "{host} {origin}: {answer}");
    }
    assert!(server.history("x").is_empty());
}

#[test]
fn listed_origins_decide_who_may_open_a_websocket() {
    let server = Encke::start(&["--cors-origins", "https://app.example"]);
    for (origin, expected) in [("https://app.example", 101), ("https://evil.example", 403), ("null", 403)] {
        let fields = [
            "Host: localhost",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            &format!("Origin: {origin}"),
        ];
        for target in ["/sub/x", "/bayeux"] {
            assert_eq!(status(&server, "GET", target, &fields, ""), expected, "{target} {origin}");
        }
    }
}

#[test]
fn bayeux_and_fdajax_are_no_way_around() {
    let server = Encke::start(&["--fdajax"]);
    let host = format!("Host: {}", server.addr());
    let handshake =
        r#"[{"channel":"/meta/handshake","version":"1.0","supportedConnectionTypes":["long-polling"]}]"#;
    let mut client = Client::connect(server.addr());
    let answer = client.ask("POST", "/bayeux", &["Origin: http://evil.example"], handshake.as_bytes()).json();
    let id = &answer[0]["clientId"];
    let message = json!([{"channel": "/x", "data": 1, "clientId": id}]).to_string();
    let answer = client.ask("POST", "/bayeux", &["Origin: http://evil.example"], message.as_bytes()).json();
    assert_eq!(answer[0]["successful"], false, "{answer}");
    for sender in [
        "Origin: http://evil.example",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-origin",
        "Referer: http://evil.example/",
    ] {
        let target = "/live.fdajax?cmd=push&user_id=1&types=unw&mes=1";
        assert_eq!(status(&server, "GET", target, &[&host, sender], ""), 403, "{sender}");
    }
    let rebound = ["Host: evil.example"];
    assert_eq!(status(&server, "GET", "/live.fdajax?cmd=push&user_id=1&types=unw&mes=1", &rebound, ""), 403);
    assert!(server.history("x").is_empty());
}

#[test]
fn no_answer_tells_the_version() {
    let server = Encke::start(&[]);
    for target in
        ["/", "/nowhere", "/healthz", "/stats", "/metrics", "/sub/x?as=interval", "/encke.js", "/bayeux"]
    {
        let answer = server.get(target, &[]);
        assert_eq!(answer.get("server"), None, "{target}");
        assert!(!answer.text().contains(concat!("encke/", env!("CARGO_PKG_VERSION"))), "{target}");
    }
    assert!(server.json("/stats").get("version").is_none());
}

#[test]
fn techniques_are_switched_off() {
    let server = Encke::start(&["--techniques-off", "jsonp,iframe,websocket"]);
    server.publish("x", "a");
    for (technique, status) in [("jsonp&callback=f", 403), ("iframe", 403), ("interval", 200)] {
        let answer = server.get(&format!("/sub/x?after=oldest&as={technique}"), &[]);
        assert_eq!(answer.status, status, "{technique}");
        assert!(status == 200 || answer.text().contains("techniques_off"), "{}", answer.text());
    }
    let upgrade = [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    for target in ["/sub/x", "/bayeux", "/bayeux?message=%5B%5D&jsonp=f"] {
        assert_eq!(server.get(target, &upgrade).status, 403, "{target}");
    }
    assert_eq!(server.get("/bayeux?message=%5B%5D&jsonp=f", &[]).status, 403);
}

#[test]
fn a_token_is_not_an_option_and_never_shown() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_encke"))
        .args(["serve", "--publish-token", "x"])
        .output();
    assert_eq!(output.unwrap().status.code(), Some(2), "ps shows options to everybody");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_encke"))
        .arg("config")
        .env("ENCKE_PUBLISH_TOKEN", "s3cret-s3cret")
        .output();
    assert!(!String::from_utf8_lossy(&output.unwrap().stdout).contains("s3cret"));
}
