//! HTTP/1.1 on one connection: keep-alive, pipelining, bodies in every framing, and the small pages.

use crate::client::request;
use crate::harness::Encke;

#[test]
fn a_connection_serves_many_requests() {
    let server = Encke::start(&[]);
    let mut client = server.connect();
    for n in 0..3 {
        client.publish("x", &[], n.to_string().as_bytes());
        assert_eq!(client.get("/healthz", &[]).status, 200);
        assert_eq!(client.get("/nowhere", &[]).status, 404, "an error does not end the connection");
    }
    let last = client.get("/healthz", &["Connection: foo, Close"]);
    assert_eq!((last.status, last.get("connection")), (200, Some("close")));
    client.closed();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Encke::start(&[]);
    let mut client = server.connect();
    let all = [
        request("POST", "/pub/x", &[], b"one"),
        request("GET", "/sub/x?after=oldest", &[], b""),
        request("GET", "/nowhere", &[], b""),
        request("POST", "/pub/x", &[], b"two"),
        request("GET", "/sub/x?after=-1", &["Connection: close"], b""),
    ];
    client.send(all.concat());
    assert_eq!(client.answer().status, 202);
    assert_eq!(client.answer().text(), "one");
    assert_eq!(client.answer().status, 404);
    assert_eq!(client.answer().status, 202);
    assert_eq!(client.answer().text(), "two");
    client.closed();
}

#[test]
fn a_request_behind_a_parked_poll_waits_for_it() {
    let server = Encke::start(&[]);
    let mut together = server.connect();
    together.send([request("GET", "/sub/x", &[], b""), request("POST", "/pub/y", &[], b"1")].concat());
    server.listeners("x", 1);
    let mut later = server.park("/sub/x", &[], "x", 2);
    later.request("POST", "/pub/y", &[], b"2");
    later.request("GET", "/healthz", &[], b"");
    assert_eq!(server.history("y"), [""; 0], "not even begun");
    server.publish("x", "news");
    for client in [&mut together, &mut later] {
        assert_eq!(client.answer().text(), "news");
        assert_eq!(client.answer().status, 202);
    }
    assert_eq!(later.answer().status, 200);
    assert_eq!(server.history("y").len(), 2);
}

#[test]
fn a_request_can_come_byte_by_byte() {
    let server = Encke::start(&[]);
    let mut client = server.connect();
    let chunked = "POST /pub/x?event=e HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\none\r\nA;x=y\r\n, two, 3\r\n\r\n0\r\nTrailer: t\r\n\r\n";
    for bytes in [chunked.as_bytes(), &request("POST", "/pub/x", &[], b"with a length")] {
        for byte in bytes {
            client.send([*byte]);
        }
        assert_eq!(client.answer().status, 202);
    }
    assert_eq!(server.history("x"), ["one, two, 3\r\n", "with a length"]);
}

#[test]
fn chunked_bodies() {
    let server = Encke::start(&[]);
    let mut client = server.connect();
    let mut check = |body: &str, expected: &str| {
        client.send(format!(
            "POST /pub/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: Chunked\r\n\r\n{body}"
        ));
        let answer = client.answer();
        assert_eq!(answer.status, 202, "{body:?}: {}", answer.text());
        assert_eq!(server.get("/sub/x?after=-1", &[]).text(), expected);
    };
    check("0\r\n\r\n", "");
    check("1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "abc");
    check("000c\r\n0\r\n\r\n0\r\n\r\n!!\r\n0\r\n\r\n", "0\r\n\r\n0\r\n\r\n!!");
    check("1;name=value;other=\"quoted\"\r\na\r\n0;last\r\nA: b\r\nC: d\r\n\r\n", "a");
    let long = "0123456789".repeat(19);
    check(&format!("be\r\n{long}\r\n0\r\n\r\n"), &long);
    check(&format!("BE\r\n{long}\r\n0\r\n\r\n"), &long);
}

#[test]
fn expect_continue() {
    let server = Encke::start(&["--limits-message-bytes", "100"]);
    let mut client = server.connect();
    client
        .send("POST /pub/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.answer().status, 100);
    client.send("hello");
    assert_eq!(client.answer().status, 202);
    client.send(
        "POST /pub/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nExpect: 100-Continue\r\n\r\n",
    );
    assert_eq!(client.answer().status, 100);
    client.send("5\r\nthere\r\n0\r\n\r\n");
    assert_eq!(client.answer().status, 202);
    assert_eq!(server.history("x"), ["hello", "there"]);

    client.send(
        "POST /pub/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 101\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(client.head().status, 413, "the body is refused before it is sent");
}

#[test]
fn http_1_0_is_answered_and_closed() {
    let server = Encke::start(&[]);
    server.publish("x", "news");
    for headers in ["", "Host: localhost\r\n", "Connection: keep-alive\r\n"] {
        let mut client = server.connect();
        client.send(format!("GET /sub/x?after=oldest HTTP/1.0\r\n{headers}\r\n"));
        let answer = client.answer();
        assert_eq!((answer.text().as_str(), answer.get("connection")), ("news", Some("close")));
        assert_eq!(answer.get("transfer-encoding"), None);
        client.closed();
    }
}

#[test]
fn unusual_but_correct_heads_are_served() {
    let server = Encke::start(&[]);
    for head in [
        "GET http://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /healthz?x HTTP/1.1\r\nHost:\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhOsT:localhost   \r\n\r\n",
        "\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Bytes: \u{e9}\t\u{fc}\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    ] {
        let mut client = server.connect();
        client.send(head);
        assert_eq!(client.answer().text().trim(), "ok", "{head:?}");
    }
}

#[test]
fn a_body_nobody_asked_for_is_not_the_next_request() {
    let server = Encke::start(&[]);
    let mut client = server.connect();
    let smuggled = request("POST", "/pub/x", &[], b"smuggled");
    for target in ["/healthz", "/sub/x?as=interval", "/nowhere"] {
        let both = [request("GET", target, &[], &smuggled), request("GET", "/healthz", &[], b"")].concat();
        client.send(both);
        client.answer();
        assert_eq!(client.answer().text().trim(), "ok", "after {target}");
    }
    assert_eq!(server.get("/stats", &[]).json()["messages_published"], 0);
}

#[test]
fn the_small_pages() {
    let server = Encke::start(&[]);
    let health = server.get("/healthz", &[]);
    assert_eq!((health.status, health.text().trim()), (200, "ok"));
    let page = server.get("/", &["Accept: text/html"]);
    assert_eq!((page.status, page.media_type()), (200, "text/html"));
    let stats = server.get("/stats", &[]);
    assert_eq!((stats.status, stats.media_type()), (200, "application/json"));
    assert!(stats.json().is_object());
}

#[test]
fn metrics_are_prometheus_text() {
    let server = Encke::start(&[]);
    server.publish("x", "1");
    let answer = server.get("/metrics", &[]);
    assert_eq!((answer.status, answer.media_type()), (200, "text/plain"));
    let text = answer.text();
    assert!(text.ends_with('\n'), "the format ends with a line feed");
    let mut samples = 0;
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")) {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?} is no sample"));
        assert!(name.starts_with("encke_") || name.starts_with("process_"), "{line:?}");
        assert!(value.parse::<f64>().is_ok(), "{line:?}");
        let family = name.split('{').next().unwrap();
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|part| family.strip_suffix(part));
        let is_typed = text.contains(&format!("# TYPE {family} "))
            || of_histogram.is_some_and(|family| text.contains(&format!("# TYPE {family} histogram")));
        assert!(is_typed, "{family} has a type");
        samples += 1;
    }
    assert!(samples > 0);
}

#[test]
fn metrics_tell_how_long_deliveries_took_and_who_is_there() {
    let server = Encke::start(&[]);
    let value = |name: &str| {
        let text = server.get("/metrics", &[]).text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("there is no {name}")).parse::<f64>().unwrap()
    };
    server.publish("x", "0");
    let (_, mut stream) = server.open("/sub/x?as=stream&after=oldest", &[]);
    assert_eq!(stream.envelope()["data"], "0");
    assert_eq!(value("encke_delivery_seconds_count"), 0.0, "nobody waited for what lay in the history");
    for count in 1..=3 {
        server.publish("x", count.to_string());
        assert_eq!(stream.envelope()["data"], count.to_string());
        assert_eq!(value("encke_delivery_seconds_count"), f64::from(count));
        assert_eq!(value("encke_delivery_seconds_bucket{le=\"+Inf\"}"), f64::from(count));
    }
    assert_eq!(value("encke_clients{technique=\"stream\"}"), 1.0);
    assert!(value("encke_responses_total{class=\"2xx\"}") >= 8.0);
    let before = value("encke_responses_total{class=\"4xx\"}");
    assert_eq!(server.get("/nowhere", &[]).status, 404);
    assert_eq!(value("encke_responses_total{class=\"4xx\"}"), before + 1.0);
    assert!(value("encke_turn_seconds_count") >= 10.0);
    // Each class has those before it.
    let text = server.get("/metrics", &[]).text();
    let classes: Vec<f64> = text
        .lines()
        .filter(|line| line.starts_with("encke_turn_seconds_bucket"))
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(classes.len() > 5 && classes.is_sorted(), "{classes:?}");
}

#[test]
fn the_demo_publishes_by_itself() {
    let server = Encke::start(&["--demo"]);
    let (_, mut stream) = server.open("/sub/demo/ticks?as=stream", &[]);
    for _ in 0..2 {
        assert_eq!(stream.envelope()["channel"], "demo/ticks");
    }
}

#[test]
fn head_is_get_without_its_body() {
    let server = Encke::start(&[]);
    server.publish("x", "1");
    for target in ["/", "/healthz", "/pub/x", "/pub/", "/nowhere", "/pub/unknown"] {
        let get = server.get(target, &[]);
        let mut client = server.connect();
        client.request("HEAD", target, &["Connection: close"], b"");
        let head = client.head();
        assert_eq!((head.status, head.media_type()), (get.status, get.media_type()), "HEAD {target}");
        assert_eq!(head.get("content-length"), get.get("content-length"), "HEAD {target}");
        client.closed();
    }
}
