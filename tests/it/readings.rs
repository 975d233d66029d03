//! One reading of each request: what could be taken in two ways, or overlooked in silence, is refused or follows one
//! stated rule.

use serde_json::{Value, json};
use tungstenite::Message;

use crate::client::Answer;
use crate::harness::{Encke, data};

const JSON: &str = "Accept: application/json";
const TEXT: &str = "Accept: text/plain";

fn raw(server: &Encke, bytes: impl AsRef<[u8]>) -> Answer {
    let mut client = server.connect();
    client.send(bytes);
    client.answer()
}

fn status(server: &Encke, bytes: impl AsRef<[u8]>) -> u16 {
    raw(server, bytes).status
}

/// What a poll from `query` with `headers` gets; none if there is nothing.
fn polled(server: &Encke, query: &str, headers: &[&str]) -> Vec<String> {
    let headers: Vec<&str> = headers.iter().copied().chain([JSON]).collect();
    let answer = server.get(&format!("/sub/x?as=interval&{query}"), &headers);
    match answer.status {
        304 => Vec::new(),
        status => {
            assert_eq!(status, 200, "{query} {headers:?}: {}", answer.text());
            data(&answer.json())
        }
    }
}

#[test]
fn a_position_that_was_reached_beats_the_start_that_was_named() {
    let server = Encke::start(&[]);
    let ids: Vec<String> = ["1", "2", "3"].map(|body| server.publish("x", body)).into();
    let [first, second, third] = [&ids[0], &ids[1], &ids[2]];
    for reached in ["last_event_id", "lastEventId"] {
        for query in [format!("after=oldest&{reached}={second}"), format!("{reached}={second}&after=oldest")]
        {
            assert_eq!(polled(&server, &query, &[]), ["3"], "{query}");
        }
        assert_eq!(polled(&server, &format!("after=-2&{reached}="), &[]), ["2", "3"], "an empty one is none");
        let header = format!("Last-Event-ID: {third}");
        assert!(polled(&server, &format!("{reached}={first}"), &[&header]).is_empty(), "a header wins");
    }
    assert_eq!(polled(&server, &format!("after={first}&after={second}"), &[]), ["3"], "the last of several");
    assert_eq!(polled(&server, &format!("lastEventId={third}&last_event_id={second}"), &[]), ["3"]);
    let fields = [format!("Last-Event-ID: {first}"), format!("Last-Event-ID: {second}")];
    assert_eq!(
        polled(&server, "after=oldest", &[&fields[0], &fields[1]]),
        ["3"],
        "the last of several fields"
    );
    assert!(polled(&server, "after=", &[]).is_empty(), "an empty start is none");
    assert_eq!(polled(&server, "after=oldest&max=3&max=1", &[]).len(), 1);
}

#[test]
fn positions_that_browsers_fill_in_are_taken_for_those_of_another_history() {
    let server = Encke::start(&[]);
    let id = server.publish("x", "kept");
    for foreign in ["banana", "42", "urn:uuid:0-1", "1700000000:0", ""] {
        for (query, header) in [
            (String::new(), Some(format!("Last-Event-ID: {foreign}"))),
            (String::new(), Some(format!("If-None-Match: \"{foreign}\""))),
            (format!("lastEventId={}", foreign), None),
        ] {
            let headers: Vec<&str> = header.iter().map(String::as_str).chain([JSON]).collect();
            let answer = server.get(&format!("/sub/x?as=interval&{query}"), &headers);
            if foreign.trim().is_empty() {
                assert_eq!(answer.status, 304, "{query} {header:?}");
                continue;
            }
            assert_eq!(answer.status, 200, "{query} {header:?}: {}", answer.text());
            assert_eq!((data(&answer.json()), answer.get("encke-gap")), (vec!["kept".into()], Some("x")));
        }
        if foreign.trim().is_empty() {
            continue;
        }
        let (_, mut sse) = server.open("/sub/x?as=sse", &[&format!("Last-Event-ID: {foreign}")]);
        sse.block();
        assert!(sse.block().unwrap().starts_with("event: encke.gap\n"));
        assert!(sse.block().unwrap().contains(&id));
        if foreign != "1700000000:0" {
            assert_eq!(server.get(&format!("/sub/x?after={foreign}"), &[]).status, 400, "{foreign}");
        }
    }
}

#[test]
fn a_position_that_is_no_text_is_one_of_another_history() {
    let server = Encke::start(&[]);
    server.publish("x", "kept");
    for query in ["lastEventId=%ff", "last_event_id=a%c0%af", "after=now&lastEventId=%ed%a0%80"] {
        let answer = server.get(&format!("/sub/x?as=interval&{query}"), &[JSON]);
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        assert_eq!((data(&answer.json()), answer.get("encke-gap")), (vec!["kept".into()], Some("x")));
        let (_, mut stream) = server.open(&format!("/sub/x?as=sse&{query}"), &[]);
        stream.read_until(b"event: encke.gap");
    }
    for query in ["after=%ff", "lastEventId=x&max=%ff", "%ff=x"] {
        assert_eq!(server.get(&format!("/sub/x?as=interval&{query}"), &[]).status, 400, "{query}");
    }
}

#[test]
fn the_target_that_is_the_whole_server_is_for_options_alone() {
    let server = Encke::start(&[]);
    let ask =
        |method: &str| raw(&server, format!("{method} * HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"));
    let options = ask("OPTIONS");
    assert_eq!(options.status, 204);
    assert!(options.lists("allow", "POST"), "{options:?}");
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "QUERY"] {
        assert_eq!(ask(method).status, 400, "{method}");
    }
}

#[test]
fn entity_tags_that_proxies_changed_are_read() {
    let server = Encke::start(&[]);
    let ids: Vec<String> = ["1", "2", "3"].map(|body| server.publish("x", body)).into();
    let id = &ids[1];
    for tag in [
        format!("\"{id}\""),
        format!("W/\"{id}\""),
        format!("\"{id}-gzip\""),
        format!("W/\"{id}-br\""),
        format!("\"{id}--gzip\""),
        format!("\"{}\", \"{id}\"", ids[0]),
        format!("W/\"{id}-gzip\" , \"{}\"", ids[0]),
        format!("\"something\", \"{id}\""),
        format!("*, \"{id}\""),
    ] {
        assert_eq!(polled(&server, "", &[&format!("If-None-Match: {tag}")]), ["3"], "{tag}");
    }
    assert_eq!(polled(&server, "after=oldest", &["If-None-Match: *"]).len(), 3, "* is no position");
    let two = [format!("If-None-Match: \"{id}\""), format!("If-None-Match: \"{}\"", ids[0])];
    assert_eq!(polled(&server, "", &[&two[0], &two[1]]), ["3"], "one list");
}

#[test]
fn a_poll_of_a_deleted_channel_learns_where_it_was() {
    let server = Encke::start(&[]);
    let id = server.publish("x", "1");
    let mut poll = server.park(&format!("/sub/x,y?after={id}"), &[], "x", 1);
    assert_eq!(server.ask("DELETE", "/pub/x", &[], b"").status, 204);
    let answer = poll.answer();
    assert_eq!((answer.status, answer.next()), (410, id.clone()));
    assert_eq!(answer.get("etag"), Some(format!("\"{id}\"").as_str()));
}

#[test]
fn the_host_of_the_target_counts() {
    let server = Encke::start(&[]);
    let ask = |target: &str, host: &str| {
        status(&server, format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
    };
    assert_eq!(ask("http://localhost/pub/", "localhost"), 200);
    assert_eq!(ask("HTTP://localhost/pub/", "localhost"), 200, "schemes have no case");
    assert_eq!(ask("http://evil.example/pub/", "localhost"), 403, "a public name, whatever Host says");
    assert_eq!(ask("http://localhost/pub/", "evil.example"), 200);
    assert_eq!(ask("http://localhost?prefix=", "localhost"), 200, "no path is the first page");
    for bad in [
        "http:///pub/",
        "http://:80/pub/",
        "http://user@localhost/pub/",
        "http://a b/",
        "ftp://localhost/",
        "://x/",
        "localhost:1",
    ] {
        assert_eq!(ask(bad, "localhost"), 400, "{bad}");
    }
}

#[test]
fn a_host_is_a_host() {
    let server = Encke::start(&[]);
    for (host, expected) in [
        ("localhost", 200),
        ("localhost:8080", 200),
        ("LOCALHOST:", 200),
        ("my_name.local", 200),
        ("[::1]:8080", 200),
        ("%6c.example", 200),
        ("", 200),
        ("user@localhost", 400),
        ("localhost/x", 400),
        ("localhost:port", 400),
        ("localhost:123456", 400),
        ("localhost:80:80", 400),
        ("http://localhost", 400),
        ("localhost:65535", 200),
        ("localhost:65536", 400),
        ("[::ffff:127.0.0.1]", 200),
        ("[abc]", 400),
        ("[:::]", 400),
        ("[127.0.0.1]", 400),
        ("[::1", 400),
        ("[::1]x", 400),
        ("a, b", 400),
        ("a,b", 400),
        ("a\\b", 400),
        ("a?b", 400),
        ("a%zz", 400),
        ("b\u{fc}cher.example", 400),
    ] {
        assert_eq!(
            status(&server, format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n")),
            expected,
            "{host}"
        );
    }
}

#[test]
fn fragments_and_broken_escapes_are_not_cut_off() {
    let server = Encke::start(&[]);
    server.publish("c", "1");
    for target in
        ["/pub/c#x", "/pub/c?a=b#x", "/pub/c#", "/pub/c%", "/pub/c%2", "/pub/c%zz", "/sub/%g0", "/%zz"]
    {
        let request = format!("DELETE {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(status(&server, &request), 400, "{target}");
        assert_eq!(status(&server, request.replace("DELETE", "GET")), 400, "{target}");
    }
    assert_eq!(server.history("c"), ["1"]);
    server.publish("a%23b", "2");
    assert_eq!(server.get("/pub/a%23b", &[]).json()["channel"], "a#b");
}

#[test]
fn coded_bodies_are_refused() {
    let server = Encke::start(&["--fdajax"]);
    let publish = |target: &str, headers: &[&str], body: &[u8]| server.ask("POST", target, headers, body);
    for coding in ["gzip", "br", "identity, gzip", "GZIP", "x-unknown"] {
        let header = format!("Content-Encoding: {coding}");
        let answer = publish("/pub/c", &[&header], b"\x1f\x8b");
        assert_eq!((answer.status, answer.get("accept-encoding")), (415, Some("identity")), "{coding}");
        let batch = ["Content-Type: application/x-ndjson", &header];
        assert_eq!(publish("/pub", &batch, b"{\"channel\":\"c\",\"data\":1}").status, 415);
        assert_eq!(publish("/bayeux", &[&header], b"[]").status, 415);
        assert_eq!(publish("/live.fdajax", &[&header], b"cmd=info").status, 415);
    }
    assert_eq!(publish("/pub/c", &["Content-Encoding: identity"], b"1").status, 202);
    assert_eq!(publish("/pub/c", &["Content-Encoding:"], b"2").status, 202);
    assert_eq!(server.history("c"), ["1", "2"]);
    let mut early = server.connect();
    early.send(
        "POST /pub/c HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\
         Expect: 100-continue\r\n\r\n",
    );
    assert_eq!(early.answer().status, 415, "before the body is asked for");
}

#[test]
fn a_body_without_a_length_is_not_read_as_none() {
    let server = Encke::start(&[]);
    for target in ["/pub/c", "/pub", "/bayeux"] {
        let answer = raw(&server, format!("POST {target} HTTP/1.0\r\nHost: localhost\r\n\r\nlost"));
        assert_eq!((answer.status, answer.get("connection")), (411, Some("close")), "{target}");
    }
    assert_eq!(server.get("/pub/c", &[]).status, 404);
    assert_eq!(status(&server, "POST /pub/c HTTP/1.0\r\nContent-Length: 4\r\n\r\nhere"), 202);
    assert_eq!(status(&server, "GET /healthz HTTP/1.0\r\n\r\n"), 200, "a GET has none");
}

#[test]
fn parameters_that_look_like_a_slip_are_refused() {
    let server = Encke::start(&[]);
    let publish = |query: &str| server.ask("POST", &format!("/pub/c?{query}"), &[], b"x");
    for slip in ["tll=5", "TTL=5", "tt=5", "ttll=5", "keey=a", "evnet=a", "events=a"] {
        let answer = publish(slip);
        assert_eq!(answer.status, if slip == "tt=5" { 202 } else { 400 }, "{slip}");
        if answer.status == 400 {
            assert!(answer.text().contains("may be meant"), "{}", answer.text());
        }
    }
    for fine in ["ttl=5", "_=1", "t=123", "rand=0.5", "utm_source=x", "cachebuster=1", ""] {
        assert!(publish(fine).status < 300, "{fine}");
    }
    for slip in [
        "AS=poll",
        "mx=1&maxx=3",
        "time_out=3",
        "timout=3",
        "afetr=oldest",
        "lasteventid=1",
        "last-event-id=1",
        "Last_Event_ID=1",
        "max[]=1",
        "after[0]=oldest",
        "heartbeet=message",
    ] {
        assert_eq!(server.get(&format!("/sub/c?as=interval&{slip}"), &[]).status, 400, "{slip}");
    }
    for fine in ["_=1", "ts=1", "nocache=1", "random=1"] {
        assert_eq!(server.get(&format!("/sub/c?as=interval&{fine}"), &[]).status, 304, "{fine}");
    }
    assert_eq!(server.get("/pub/?prefx=a", &[]).status, 400);
    for field in [
        "Idempotency-Key=1",
        "idempotency_key=1",
        "Encke-TTL=5",
        "encke-event=e",
        "Encke-Key=k",
        "encke_key=k",
    ] {
        for (method, target) in
            [("POST", "/pub/c"), ("PUT", "/pub/c"), ("DELETE", "/pub/c"), ("PATCH", "/pub/c")]
        {
            let merge = ["Content-Type: application/merge-patch+json"];
            let answer = server.ask(method, &format!("{target}?{field}"), &merge, b"{}");
            assert_eq!(answer.status, 400, "{method} {field}");
            assert!(answer.text().contains("header field"), "{method} {field}: {}", answer.text());
        }
    }
    let batch = |query: &str| {
        let target = format!("/pub?{query}");
        server
            .ask("POST", &target, &["Content-Type: application/x-ndjson"], b"{\"channel\":\"c\",\"data\":1}")
            .status
    };
    assert_eq!((batch("ttl=5"), batch("evnt=5"), batch("_=5")), (400, 400, 202), "it would be dropped");
    assert_eq!(batch("idempotency-key=5"), 400);
}

#[test]
fn the_last_of_several_counts_when_publishing_too() {
    let server = Encke::start(&[]);
    server.ask("POST", "/pub/c?event=a&event=b", &[], b"1");
    server.ask("POST", "/pub/c?event=c", &["Encke-Event: d", "Encke-Event: e"], b"2");
    let batch = server.get("/sub/c?after=oldest", &[JSON]).json();
    let events: Vec<&Value> =
        batch["messages"].as_array().unwrap().iter().map(|envelope| &envelope["event"]).collect();
    assert_eq!(events, ["b", "e"], "and a field wins over the query");
}

#[test]
fn names_that_an_event_source_takes_for_its_own() {
    let server = Encke::start(&[]);
    for (event, expected) in
        [("open", 400), ("error", 400), ("encke.open", 400), ("message", 202), ("opened", 202)]
    {
        assert_eq!(
            server.ask("POST", &format!("/pub/c?event={event}"), &[], b"x").status,
            expected,
            "{event}"
        );
    }
}

#[test]
fn weights_decide() {
    let server = Encke::start(&[]);
    let id = server.publish("x", "1");
    let media = |headers: &[&str]| {
        let mut client = server.connect();
        client.request("GET", "/sub/x?after=oldest&timeout=1", headers, b"");
        client.head().media_type().to_owned()
    };
    for (accept, expected) in [
        ("text/event-stream", "text/event-stream"),
        ("application/json, text/event-stream", "text/event-stream"),
        ("application/json, text/event-stream;q=0.9", "application/json"),
        ("application/json;q=0.8, text/event-stream;q=0.9", "text/event-stream"),
        ("text/event-stream;q=0.1, application/x-ndjson;q=0.2", "application/x-ndjson"),
        ("text/event-stream;q=0, application/json;q=0", "text/plain"),
        ("application/json;q=0.5, text/plain", "text/plain"),
        ("application/json, text/plain, */*", "application/json"),
        ("text/html, text/event-stream;q=0.001", "text/event-stream"),
    ] {
        assert_eq!(media(&[&format!("Accept: {accept}")]), expected, "{accept}");
    }
    for (te, expected) in [
        ("chunked", "application/octet-stream"),
        ("trailers, chunked;q=0.5", "application/octet-stream"),
        ("chunked;q=0", "text/plain"),
        ("trailers;q=0.5, chunked; q=0.000", "text/plain"),
    ] {
        assert_eq!(media(&[&format!("TE: {te}")]), expected, "{te}");
    }
    let error = server.get("/nowhere", &["Accept: application/json;q=0.5, text/plain;q=0.6"]);
    assert_eq!(error.media_type(), "text/plain");
    assert_eq!(
        server.get("/nowhere", &["Accept: application/json, text/plain"]).media_type(),
        "application/problem+json"
    );
    assert_eq!(server.get(&format!("/sub/x?as=interval&after={id}"), &[TEXT]).status, 304);
}

#[test]
fn a_sub_protocol_is_answered_as_it_was_offered() {
    let server = Encke::start(&[]);
    for (offered, answered) in
        [("encke.raw", "encke.raw"), ("Encke.RAW", "Encke.RAW"), ("other, ENCKE.raw", "ENCKE.raw")]
    {
        let mut client = server.connect();
        let headers = crate::websocket::HANDSHAKE.into_iter().map(str::to_owned);
        let headers: Vec<String> = headers.chain([format!("Sec-WebSocket-Protocol: {offered}")]).collect();
        client.request("GET", "/sub/x", &headers.iter().map(String::as_str).collect::<Vec<_>>(), b"");
        let head = client.head();
        assert_eq!((head.status, head.get("sec-websocket-protocol")), (101, Some(answered)), "{offered}");
    }
}

#[test]
fn a_handshake_whose_upgrade_a_proxy_dropped_is_told_so_at_once() {
    let server = Encke::start(&[]);
    let key = crate::websocket::HANDSHAKE.into_iter().filter(|field| field.starts_with("Sec-WebSocket-"));
    let key: Vec<&str> = key.collect();
    for target in ["/sub/x", "/sub/x?as=sse", "/bayeux", "/bayeux/websocket"] {
        for dropped in [&[][..], &["Connection: close"], &["Upgrade: h2c", "Connection: Upgrade"]] {
            let headers: Vec<&str> = key.iter().chain(dropped).copied().collect();
            let answer = server.get(target, &headers);
            assert_eq!(answer.status, 426, "{target} {dropped:?}");
            assert!(answer.lists("upgrade", "websocket") && answer.lists("connection", "upgrade"));
            assert!(answer.text().contains("proxy"), "{}", answer.text());
        }
    }
    let mut head = server.connect();
    head.request("HEAD", "/sub/x", &key, b"");
    assert_ne!(head.head().status, 426, "HEAD asks for no WebSocket");
}

/// What becomes of `data`, a JSON value, on each way it can take: by POST, in a batch, by a WebSocket, by Bayeux.
fn fates(server: &Encke, data: &str) -> [bool; 4] {
    let json = ["Content-Type: application/json"];
    let post = server.ask("POST", "/pub/chat", &json, data.as_bytes()).status;
    let line = format!("{{\"channel\":\"chat\",\"data\":{data}}}");
    let batch = server.ask("POST", "/pub", &["Content-Type: application/x-ndjson"], line.as_bytes()).status;
    let mut socket = crate::websocket::open(server, "/sub/other");
    socket.send(Message::text(format!("{{\"publish\":{line},\"ref\":1}}"))).unwrap();
    let answer: Value = serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap();
    let message = format!("[{{\"channel\":\"/chat\",\"data\":{data}}}]");
    let bayeux = server.ask("POST", "/bayeux", &json, message.as_bytes());
    let is_taken = bayeux.status == 200 && bayeux.json()[0]["successful"] == true;
    [post < 300, batch < 300, answer.get("ok").is_some(), is_taken]
}

#[test]
fn one_message_has_one_fate() {
    let server = Encke::start(&["--bayeux-publish", "chat"]);
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for (value, passes) in [
        ("1".to_owned(), true),
        ("null".to_owned(), true),
        (r#""\ud83d\ude00""#.to_owned(), true),
        (nested(128), true),
        (nested(129), false),
        (format!("{{\"a\":{}}}", nested(128)), false),
        (r#""\ud83d""#.to_owned(), false),
        (r#"{"a":"\ude00"}"#.to_owned(), false),
        (r#"{"\ud83d":1}"#.to_owned(), false),
        (r#"["\ud83d x"]"#.to_owned(), false),
    ] {
        assert_eq!(fates(&server, &value), [passes; 4], "{value}");
    }
}

#[test]
fn arrays_are_no_objects() {
    let server = Encke::start(&[]);
    let batch = |line: &str| {
        server.ask("POST", "/pub", &["Content-Type: application/x-ndjson"], line.as_bytes()).status
    };
    assert_eq!(batch(r#"["c",1,null,"ev","key",5]"#), 400);
    assert_eq!(batch(r#"{"channel":"c","data":1,"event":"ev","key":"key","ttl":5}"#), 202);
    let mut socket = crate::websocket::open(&server, "/sub/other");
    for command in [
        r#"{"publish":["c",1,null,"ev","key",5],"ref":7}"#,
        r#"[{"channel":"c","data":1},null,null,7]"#,
        "[7]",
        "7",
    ] {
        socket.send(Message::text(command)).unwrap();
        let answer: Value = serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap();
        let reference = command.starts_with('{').then(|| json!(7));
        assert_eq!(
            (answer.get("ref"), answer["error"].is_string()),
            (reference.as_ref(), true),
            "{command}: {answer}"
        );
    }
    assert_eq!(server.history("c").len(), 1);
}

#[test]
fn publishers_are_told_when_their_connection_will_be_closed() {
    let server = Encke::start(&["--limits-idle-seconds", "33"]);
    let mut client = server.connect();
    for (method, target, expected) in
        [("POST", "/pub/x", 202), ("GET", "/pub/x", 200), ("GET", "/nowhere", 404)]
    {
        let answer = client.ask(method, target, &[], b"");
        assert_eq!(answer.status, expected);
        assert_eq!((answer.get("keep-alive"), answer.get("connection")), (Some("timeout=33"), None));
    }
    let last = client.ask("POST", "/pub/x", &["Connection: close"], b"");
    assert_eq!((last.get("keep-alive"), last.get("connection")), (None, Some("close")));
}
