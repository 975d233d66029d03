//! The access log: one line a request, with what was really answered.

use std::net::TcpStream;

use tungstenite::client::IntoClientRequest;

use crate::harness::{Encke, until};

/// The lines of the access log, without what the logger puts before them.
fn lines(server: &Encke) -> Vec<String> {
    let log = server.log();
    let lines = log.lines().filter_map(|line| line.split_once("encke::access] "));
    lines.map(|(_, line)| line.to_owned()).collect()
}

/// The line that begins so, when it is there.
fn line(server: &Encke, begin: &str) -> Vec<String> {
    let found = until(&format!("a line for {begin}"), || {
        lines(server).into_iter().find(|line| line.starts_with(begin))
    });
    let (plain, quoted) = found.split_once(" \"").expect("an agent in quotes");
    plain.split(' ').map(str::to_owned).chain(quoted.split('"').map(str::to_owned)).collect()
}

/// Status of the line that begins so.
fn status(server: &Encke, begin: &str) -> String {
    line(server, begin)[3].clone()
}

#[test]
fn a_line_tells_what_was_answered() {
    let server = Encke::start(&["--log-access"]);
    server.ask("POST", "/pub/a", &["User-Agent: me/1.0"], b"hello");
    let published = line(&server, "127.0.0.1 POST /pub/a ");
    assert_eq!((&*published[3], &*published[6]), ("202", "me/1.0"));
    let bytes: usize = published[4].parse().unwrap();
    assert!(bytes > 100, "{published:?}");
    assert!(published[5].parse::<u64>().is_ok(), "milliseconds: {published:?}");
    server.ask("POST", "/pub/q", &["User-Agent: a \"quoted\" one"], b"hello");
    line(&server, "127.0.0.1 POST /pub/q ");
    assert!(server.log().contains(r#" "a \"quoted\" one""#), "quotes are escaped");
    // Neither is a 200.
    server.get("/sub/b?as=interval", &[]);
    assert_eq!(status(&server, "127.0.0.1 GET /sub/b?as=interval "), "304");
    server.get("/sub/b?timeout=1", &[]);
    let waited = line(&server, "127.0.0.1 GET /sub/b?timeout=1 ");
    assert_eq!(waited[3], "204");
    assert!(waited[5].parse::<u64>().unwrap() >= 1000, "{waited:?}");
    let mut client = server.connect();
    client.request("HEAD", "/healthz", &[], b"");
    client.head();
    assert_eq!(status(&server, "127.0.0.1 HEAD /healthz "), "200");
    let mut parked = server.park("/sub/parked", &[], "parked", 1);
    server.publish("parked", "x");
    assert_eq!(parked.answer().status, 200);
    assert_eq!(status(&server, "127.0.0.1 GET /sub/parked "), "200");
}

#[test]
fn refusals_tell_their_reason_and_secrets_stay_secret() {
    let server = Encke::start(&["--log-access"]);
    server.ask("POST", "/pub/a?access_token=wr0ng", &["X-Forwarded-For: 192.0.2.1"], b"x");
    let refused = line(&server, "127.0.0.1 POST /pub/a?access_token=[redacted] ");
    assert_eq!(refused[3], "403");
    assert!(refused.last().is_some_and(|end| end.is_empty()));
    assert!(refused[8].contains("loopback peers only"), "{refused:?}");
    let mut client = server.connect();
    client.send("nonsense\r\n\r\n");
    client.rest();
    let unread = line(&server, "127.0.0.1 - - ");
    assert!(unread[3] == "400" && !unread[8].is_empty(), "{unread:?}");
    for target in [
        "/sub/f?x=1#access_token=wr0ng",
        "/sub/g#access_token=wr0ng",
        "/sub/h?as=x;access_token=wr0ng",
        "/sub/i?as=interval&x=1?token=wr0ng",
        "/sub/j?as=interval&password=wr0ng&code=wr0ng",
    ] {
        server.get(target, &[]);
        line(&server, &format!("127.0.0.1 GET {}", &target[..6]));
    }
    assert!(!server.log().contains("wr0ng"), "{}", server.log());
}

#[test]
fn what_is_refused_before_it_is_understood_is_named_all_the_same() {
    let server = Encke::start(&["--log-access", "--limits-head-seconds", "1", "--limits-body-seconds", "1"]);
    for (request, begin, status) in [
        ("POST /pub/big HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", "POST /pub/big", "413"),
        ("POST /pub/old HTTP/1.0\r\n\r\n", "POST /pub/old", "411"),
        ("PUT /pub/odd HTTP/1.1\r\nHost: x\r\nExpect: more\r\n\r\n", "PUT /pub/odd", "417"),
        ("POST /pub/te HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", "POST /pub/te", "501"),
        (
            "POST /pub/ch HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "POST /pub/ch",
            "400",
        ),
        ("BREW /pot?token=s3cret HTTP/1.1\r\nHost: x\r\n\r\n", "- /pot?token=[redacted]", "501"),
        ("GET /new HTTP/9.0\r\nHost: x\r\n\r\n", "GET /new", "505"),
        ("GET /name HTTP/1.1\r\nHo st: x\r\n\r\n", "GET /name", "400"),
        ("GET http://me:s3cret@x/ HTTP/1.1\r\nHost: x\r\n\r\n", "GET http://[redacted]@x/", "400"),
        ("GET /bayeux/0123456789012345678901234567 HTTP/1.1\r\n\r\n", "GET /bayeux/[redacted]", "400"),
        ("POST /pub/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na", "POST /pub/slow", "408"),
        ("GET /slower HTTP/1.1\r\nHost:", "GET /slower", "408"),
    ] {
        let mut client = server.connect();
        client.send(request);
        client.rest();
        let refused = line(&server, &format!("127.0.0.1 {begin} "));
        assert!(refused[3] == status && !refused[8].is_empty(), "{request}: {refused:?}");
    }
    assert!(!server.log().contains("s3cret"));
}

#[test]
fn an_agent_that_is_no_text_is_shown_as_far_as_it_is() {
    let server = Encke::start(&["--log-access"]);
    let mut client = server.connect();
    client.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nUser-Agent: odd\xff\xc2\x85one\r\n\r\n");
    client.answer();
    assert_eq!(line(&server, "127.0.0.1 GET /healthz ")[6], "odd\u{fffd}\\u{85}one");
}

#[test]
fn streams_and_sockets_have_their_line_at_the_end() {
    let server = Encke::start(&["--log-access"]);
    let (_, mut stream) = server.open("/sub/s?as=stream", &[]);
    server.publish("s", "x".repeat(1000));
    stream.envelope();
    assert!(lines(&server).iter().all(|line| !line.contains("/sub/s")), "it goes on");
    drop(stream);
    let ended = line(&server, "127.0.0.1 GET /sub/s?as=stream ");
    assert_eq!(ended[3], "200");
    assert!(ended[4].parse::<usize>().unwrap() > 1000, "{ended:?}");
    let request = format!("ws://{}/sub/w", server.addr()).into_client_request().unwrap();
    let (socket, _) =
        tungstenite::client(request, TcpStream::connect(server.addr()).unwrap()).expect("a WebSocket");
    drop(socket);
    assert_eq!(status(&server, "127.0.0.1 GET /sub/w "), "101");
    // Who leaves without an answer is not said to have had one.
    let parked = server.park("/sub/left", &[], "left", 1);
    parked.reset();
    assert_eq!(status(&server, "127.0.0.1 GET /sub/left "), "499");
}

#[test]
fn the_address_is_that_of_the_client_behind_a_trusted_proxy() {
    let server = Encke::start(&["--log-access", "--trusted-proxies", "127.0.0.1"]);
    server.get("/healthz", &["X-Forwarded-For: 192.0.2.7"]);
    assert_eq!(status(&server, "192.0.2.7 GET /healthz "), "200");
    let handshake = br#"[{"channel":"/meta/handshake","version":"1.0","supportedConnectionTypes":["long-polling"],"id":"1"}]"#;
    server.ask("POST", "/bayeux/handshake", &["X-Forwarded-For: 192.0.2.8"], handshake);
    assert_eq!(status(&server, "192.0.2.8 POST /bayeux/handshake "), "200");
}

#[test]
fn without_the_setting_there_is_none() {
    let server = Encke::start_logging("debug", &[]);
    server.get("/healthz", &[]);
    server.publish("a", "x");
    assert_eq!(lines(&server), [""; 0]);
    let quiet = Encke::start_logging("encke::cli=info", &["--log-access"]);
    quiet.get("/healthz", &[]);
    assert_eq!(status(&quiet, "127.0.0.1 GET /healthz "), "200", "whatever else is logged");
}
