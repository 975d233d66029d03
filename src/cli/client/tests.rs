use std::io::BufReader;
use std::time::Duration;

use super::lines::read_line_within;
use super::*;

#[test]
fn channels_are_encoded_segment_by_segment() {
    for (name, encoded) in [
        ("ticks", "ticks"),
        ("stocks/AAPL", "stocks/AAPL"),
        ("stocks/*", "stocks/*"),
        ("stocks/**", "stocks/**"),
        ("a,b", "a%2Cb"),
        ("what?#", "what%3F%23"),
        ("50%", "50%25"),
        ("a b", "a%20b"),
        ("Zürich", "Z%C3%BCrich"),
        ("a:b@c+d", "a%3Ab%40c%2Bd"),
    ] {
        assert_eq!(encode_channel(name), encoded, "{name}");
    }
}

#[test]
fn urls_are_built_on_the_base() {
    let server = Server::new("http://example.test:8080/push/", Duration::from_secs(1)).unwrap();
    assert_eq!(server.url("/pub/x", &[]), "http://example.test:8080/push/pub/x");
    assert_eq!(
        server.url("/sub/x", &[("as", "stream"), ("after", "k3:42&x")]),
        "http://example.test:8080/push/sub/x?as=stream&after=k3%3A42%26x"
    );
}

#[test]
fn urls_that_cannot_work_say_why() {
    for (url, word) in [
        ("https://example.test", "plain HTTP"),
        ("localhost:8080", "must begin with http://"),
        ("ftp://example.test", "must begin with http://"),
        ("http://", "cannot be read"),
        ("http://me:secret@example.test", "ENCKE_PUBLISH_TOKEN"),
        ("http://example.test/?a=b", "question mark"),
        ("", "cannot be read"),
    ] {
        let error = Server::new(url, Duration::from_secs(1)).unwrap_err();
        assert!(error.contains(word), "{url}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn delays_double_up_to_their_cap_and_begin_again() {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
    let seconds: Vec<u64> = (0..8).map(|_| backoff.next().as_secs()).collect();
    assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30, 30]);
    backoff.reset();
    assert_eq!(backoff.next(), Duration::from_secs(1));
}

#[test]
fn jitter_covers_everything_below_its_ceiling() {
    let ceiling = Duration::from_secs(10);
    assert_eq!(full_jitter(ceiling, 0), Duration::ZERO);
    assert_eq!(full_jitter(ceiling, u32::MAX), ceiling);
    let middle = full_jitter(ceiling, u32::MAX / 2);
    assert!(middle > Duration::from_secs(4) && middle < Duration::from_secs(6), "{middle:?}");
}

#[test]
fn lines_are_the_same_wherever_the_input_is_split() {
    let input = b"one\n\ntwo\r\n\xff\xfe\nlast";
    let expected: [(&[u8], Line); 6] = [
        (b"one", Line::Complete),
        (b"", Line::Complete),
        (b"two", Line::Complete),
        (b"\xff\xfe", Line::Complete),
        (b"last", Line::Cut),
        (b"", Line::End),
    ];
    for capacity in 1..=input.len() {
        let mut reader = BufReader::with_capacity(capacity, &input[..]);
        let mut line = Vec::new();
        for (bytes, kind) in &expected {
            assert_eq!(read_line(&mut reader, &mut line).unwrap(), *kind, "capacity {capacity}");
            assert_eq!(line, *bytes, "capacity {capacity}");
        }
    }
}

#[test]
fn a_line_has_a_limit() {
    let mut line = Vec::new();
    assert_eq!(read_line_within(&mut &b"1234\n"[..], &mut line, 4).unwrap(), Line::Complete);
    assert_eq!(read_line_within(&mut &b"1234"[..], &mut line, 4).unwrap(), Line::Cut);
    let error = read_line_within(&mut &b"12345\n"[..], &mut line, 4);
    assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::InvalidData);
}

/// What becomes of an answer that is no success.
fn trouble(status: &str, headers: &str, body: &str) -> Trouble {
    let mock = mock::Mock::start([mock::Step::Cut(mock::answer(status, headers, body))]);
    let server = Server::new(&mock.url, Duration::from_secs(5)).unwrap();
    check(server.agent.get(server.url("/", &[])).call()).unwrap_err()
}

#[test]
fn answers_are_told_apart() {
    let retry = |seconds: Option<u64>, perhaps_done| Remedy::Retry {
        after: seconds.map(Duration::from_secs),
        perhaps_done,
    };
    for (status, headers, remedy) in [
        ("301 Moved Permanently", "Location: /x\r\n", Remedy::GiveUp),
        ("400 Bad Request", "", Remedy::GiveUp),
        ("403 Forbidden", "Retry-After: 1\r\n", Remedy::GiveUp),
        ("408 Request Timeout", "", retry(None, false)),
        ("413 Content Too Large", "", Remedy::Skip),
        ("429 Too Many Requests", "Retry-After: 7\r\n", retry(Some(7), false)),
        ("503 Service Unavailable", "Retry-After: 99999999\r\n", retry(Some(3600), false)),
        ("503 Service Unavailable", "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n", retry(None, false)),
        ("502 Bad Gateway", "", retry(None, true)),
    ] {
        assert_eq!(trouble(status, headers, "").remedy, remedy, "{status}");
    }
}

#[test]
fn the_reason_is_the_detail_of_the_problem() {
    let problem = "Content-Type: application/problem+json\r\n";
    let text = "Content-Type: text/plain; charset=utf-8\r\n";
    for (headers, body, reason) in [
        (problem, r#"{"title":"Forbidden","detail":"set a token"}"#, "403 Forbidden: set a token"),
        (problem, r#"{"title":"No entry"}"#, "403 Forbidden: No entry"),
        (text, "go away\n", "403 Forbidden: go away"),
        (text, "red \u{1b}[31m alert", "403 Forbidden: red  [31m alert"),
        ("Content-Type: text/html\r\n", "<html>", "403 Forbidden"),
        ("", "", "403 Forbidden"),
    ] {
        assert_eq!(trouble("403 Forbidden", headers, body).reason, reason);
    }
}

#[test]
fn a_server_that_is_not_there_was_not_asked() {
    // Bound and not listening would be better, but std has no such socket; the port was ours a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::new(&format!("http://{address}"), Duration::from_secs(5)).unwrap();
    let trouble = check(server.agent.get(server.url("/", &[])).call()).unwrap_err();
    assert_eq!(trouble.remedy, Remedy::Retry { after: None, perhaps_done: false }, "{}", trouble.reason);
}

#[test]
fn a_connection_lost_before_the_answer_leaves_a_doubt() {
    let mock = mock::Mock::start([mock::Step::Cut(String::new())]);
    let server = Server::new(&mock.url, Duration::from_secs(5)).unwrap();
    let trouble = check(server.agent.get(server.url("/", &[])).call()).unwrap_err();
    assert_eq!(trouble.remedy, Remedy::Retry { after: None, perhaps_done: true }, "{}", trouble.reason);
}
