use std::io::Write;

use super::envelope::Event;
use super::*;
use crate::cli::client::Backoff;
use crate::cli::client::mock::{Mock, Request, Step, answer, stream};

fn args(channels: &[&str]) -> SubscribeArgs {
    SubscribeArgs {
        channels: channels.iter().map(|&name| name.into()).collect(),
        json: false,
        after: None,
        latest: false,
        rate: None,
        delta: false,
        count: None,
        url: None,
    }
}

/// The line of a message whose text is its number.
fn message(n: u32) -> String {
    format!("{{\"id\":\"k3:{n}\",\"channel\":\"x\",\"data\":\"{n}\"}}\n")
}

struct Seen {
    result: Result<(), String>,
    out: String,
    err: String,
    requests: Vec<Request>,
}

fn follow(args: &SubscribeArgs, script: Vec<Step>) -> Seen {
    follow_within(args, script, Duration::from_secs(10))
}

/// Follows a server with this script; `silence` is when a connection counts as dead.
fn follow_within(args: &SubscribeArgs, script: Vec<Step>, silence: Duration) -> Seen {
    let mock = Mock::start(script);
    let server = Server::new(&mock.url, silence).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut follower = Follower::new(server, args, &mut out, &mut err);
    follower.backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(4));
    let result = follower.follow();
    drop(follower);
    let text = |bytes| String::from_utf8(bytes).unwrap().replace(&mock.url, "URL");
    let (out, err) = (text(out), text(err));
    Seen { result, out, err, requests: mock.requests() }
}

fn lines(seen: &Seen) -> Vec<&str> {
    seen.requests.iter().map(|request| request.line.as_str()).collect()
}

#[test]
fn a_lost_connection_is_resumed_after_the_last_whole_line() {
    let half = &message(3)[..20];
    let script = vec![
        Step::Cut(stream("Encke-Next: k3:0\r\n", &format!("\n{}{}{half}", message(1), message(2)))),
        Step::Cut(String::new()),
        Step::Cut(answer("503 Service Unavailable", "Retry-After: 0\r\n", "")),
        Step::Cut(stream("Encke-Next: k3:2\r\n", &format!("\n{}{}", message(3), message(4)))),
    ];
    let seen = follow(&SubscribeArgs { count: Some(4), ..args(&["x", "a,b/*"]) }, script);
    assert_eq!(seen.result, Ok(()));
    assert_eq!(seen.out, "x\t1\nx\t2\nx\t3\nx\t4\n", "with a wildcard, each behind its channel");
    let resumed = "GET /sub/x,a%2Cb/*?as=stream&after=k3%3A2 HTTP/1.1";
    assert_eq!(lines(&seen), ["GET /sub/x,a%2Cb/*?as=stream HTTP/1.1", resumed, resumed, resumed]);
    assert_eq!(seen.requests[0].header("accept"), Some("application/x-ndjson"));
    let said: Vec<&str> = seen.err.lines().collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("encke sub: URL: connection lost ("), "{said:?}");
    assert_eq!(said[1], "encke sub: connected again");
}

#[test]
fn before_the_first_message_the_stream_resumes_where_it_began() {
    let script = vec![
        Step::Cut(stream("Encke-Next: k3:7\r\n", "\n")),
        Step::Cut(stream("Encke-Next: zz:9\r\n", "\n")),
        Step::Cut(stream("", &message(8))),
    ];
    let seen = follow(&SubscribeArgs { count: Some(1), after: Some("-5".into()), ..args(&["x"]) }, script);
    assert_eq!(seen.result, Ok(()));
    let resumed = "GET /sub/x?as=stream&after=k3%3A7 HTTP/1.1";
    assert_eq!(lines(&seen), ["GET /sub/x?as=stream&after=-5 HTTP/1.1", resumed, resumed]);
}

#[test]
fn a_server_that_does_not_say_where_it_begins_is_asked_the_same_again() {
    let script = vec![Step::Cut(stream("", "\n")), Step::Cut(stream("", &message(8)))];
    let seen =
        follow(&SubscribeArgs { count: Some(1), after: Some("oldest".into()), ..args(&["x"]) }, script);
    assert_eq!(lines(&seen), ["GET /sub/x?as=stream&after=oldest HTTP/1.1"; 2]);
}

#[test]
fn a_gap_is_told() {
    let gap = r#"{"gap":{"channel":"x","after":"k3:1","oldest":"k3:5"}}"#;
    let later = r#"{"weather":"fine"}"#;
    let script = vec![Step::Cut(stream("", &format!("{}{gap}\n{later}\n{}", message(1), message(5))))];
    let seen = follow(&SubscribeArgs { count: Some(2), ..args(&["x"]) }, script);
    assert_eq!(seen.out, "1\n5\n");
    assert_eq!(
        seen.err,
        "encke sub: gap: messages of channel x after k3:1 before k3:5 are no longer there\n"
    );
}

#[test]
fn silence_is_a_dead_connection() {
    // On a machine so busy that an answer counts as silence, it is asked for once more.
    let mut script = vec![Step::Hang(stream("", &message(1)))];
    script.resize_with(50, || Step::Cut(stream("", &message(2))));
    let args = SubscribeArgs { count: Some(2), ..args(&["x"]) };
    let seen = follow_within(&args, script, Duration::from_millis(300));
    assert_eq!(seen.out, "1\n2\n");
    assert_eq!(seen.requests[1].connection, 2);
    assert!(seen.err.contains("connection lost (timeout"), "{}", seen.err);
}

#[test]
fn json_prints_the_lines_as_they_came() {
    let line = "{\"id\":\"k3:1\", \"channel\":\"x\",\"event\":\"e\",\"data\":{ \"a\" : 1.0 }}";
    let script = vec![Step::Cut(stream("", &format!("\n{line}\n")))];
    let seen = follow(&SubscribeArgs { json: true, count: Some(1), ..args(&["x"]) }, script);
    assert_eq!(seen.out, format!("{line}\n"));
}

#[test]
fn what_cannot_get_better_ends_it() {
    let problem = "Content-Type: application/problem+json\r\n";
    for (script, reason) in [
        (answer("400 Bad Request", problem, r#"{"detail":"no such id"}"#), "400 Bad Request: no such id"),
        (answer("302 Found", "Location: /x\r\n", ""), "302 Found"),
        (answer("200 OK", "Content-Type: text/html\r\n", "<p>"), "is an Encke server there?"),
        (stream("", "<p>\n"), "no envelope"),
    ] {
        let seen = follow(&args(&["x"]), vec![Step::Cut(script)]);
        let error = seen.result.unwrap_err();
        assert!(error.contains(reason), "{error}");
        assert_eq!(seen.err, "");
    }
}

/// Standard output whose reader went away, or whose disk is full.
struct Closed(io::ErrorKind);

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_went_away_ends_it_quietly_and_a_full_disk_does_not() {
    for (kind, ok) in [(io::ErrorKind::BrokenPipe, true), (io::ErrorKind::StorageFull, false)] {
        let mock = Mock::start([Step::Cut(stream("", &message(1)))]);
        let server = Server::new(&mock.url, Duration::from_secs(10)).unwrap();
        let mut err = Vec::new();
        assert_eq!(Follower::new(server, &args(&["x"]), Closed(kind), &mut err).follow().is_ok(), ok);
        assert_eq!(err, b"");
    }
}

fn payload(fields: &str) -> Vec<u8> {
    let line = format!("{{\"id\":\"k3:1\",\"channel\":\"x\"{fields}}}");
    let mut out = Vec::new();
    match Event::parse(line.as_bytes()).unwrap() {
        Event::Message(envelope) => envelope.write_payload(&mut out).unwrap(),
        other => panic!("{other:?}"),
    }
    out
}

#[test]
fn payloads_are_printed_as_published() {
    for (fields, printed) in [
        (r#","data":"plain""#, &b"plain"[..]),
        (r#","data":"two\nlines \"q\" \u00fc""#, "two\nlines \"q\" ü".as_bytes()),
        (r#","data":"""#, b""),
        (
            r#","data":{ "b" : [ 1.0, 12345678901234567890123 ] , "a":"x \" y\\" }"#,
            br#"{"b":[1.0,12345678901234567890123],"a":"x \" y\\"}"#,
        ),
        (r#","data":null"#, b"null"),
        (r#","data": 17"#, b"17"),
        (r#","data64":"/wAK""#, b"\xff\x00\n"),
        ("", b""),
    ] {
        assert_eq!(payload(fields), printed, "{fields}");
    }
}

#[test]
fn lines_of_other_kinds_are_told_apart() {
    assert!(matches!(Event::parse(b""), Ok(Event::Heartbeat)));
    assert!(matches!(Event::parse(br#"{"gap":{}}"#), Ok(Event::Gap(_))));
    assert!(matches!(Event::parse(br#"{"news":1}"#), Ok(Event::Other)));
    for bad in [&b"{"[..], b"\xff", b"[]x", br#"{"id":1}"#, br#"{"id":"k3:1","data64":"?"}"#] {
        assert!(Event::parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
    }
}

#[test]
fn patches_are_applied_and_removals_are_printed() {
    let body = "\n{\"id\":\"k3:1\",\"channel\":\"x\",\"key\":\"A\",\"data\":{\"p\":1.10,\"n\":2}}\n{\"next\":\"k3:5\"}\n\
        {\"id\":\"k3:6\",\"channel\":\"x\",\"key\":\"A\",\"base\":\"k3:1\",\"patch\":{\"n\":3}}\n\
        {\"id\":\"k3:7\",\"channel\":\"x\",\"key\":\"A\",\"removed\":true}\n\
        {\"id\":\"k3:8\",\"channel\":\"x\",\"key\":\"A\",\"base\":\"k3:6\",\"patch\":{\"n\":4}}\n";
    let script = vec![
        Step::Cut(stream("Encke-Next: k3:0~5\r\n", body)),
        Step::Cut(stream("Encke-Next: k3:7\r\n", &format!("\n{}", message(9)))),
    ];
    let seen = follow(
        &SubscribeArgs { count: Some(4), latest: true, rate: Some(2.0), delta: true, ..args(&["x"]) },
        script,
    );
    assert_eq!(seen.result, Ok(()));
    assert_eq!(seen.out, "{\"p\":1.10,\"n\":2}\n{\"p\":1.10,\"n\":3}\n(removed A)\n9\n");
    let asked = "GET /sub/x?as=stream&latest=1&delta=1&rate=2";
    let resumed = format!("{asked}&after=k3%3A7 HTTP/1.1");
    assert_eq!(lines(&seen), [format!("{asked} HTTP/1.1"), resumed], "a patch of something unknown: again");
}
