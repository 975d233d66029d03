use std::collections::{HashSet, VecDeque};

use super::*;
use crate::cli::client::Backoff;
use crate::cli::client::mock::{Mock, Request, Step, answer};

const MS: Duration = Duration::from_millis(1);

fn args(channel: &str) -> PublishArgs {
    PublishArgs {
        channel: channel.into(),
        message: Vec::new(),
        rate: None,
        event: None,
        key: None,
        key_field: None,
        ttl: None,
        content_type: None,
        timeout: None,
        url: None,
    }
}

/// A reader that gives one piece at a time.
struct Pieces<'a>(VecDeque<&'a [u8]>);

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.0.front_mut() else { return Ok(0) };
        let count = piece.len().min(out.len());
        out[..count].copy_from_slice(&piece[..count]);
        *piece = &piece[count..];
        if piece.is_empty() {
            self.0.pop_front();
        }
        Ok(count)
    }
}

/// The answer to a batch of so many.
fn receipts(count: usize) -> Step {
    let receipt = r#"{"id":"k3:1","channel":"x","subscribers":3,"messages":1}"#;
    let body = format!("[{}]", vec![receipt; count].join(","));
    Step::Answer(answer("201 Created", "Content-Type: application/json\r\n", &body))
}

fn receipt(subscribers: u64) -> Step {
    let body = format!(r#"{{"id":"k3:1","channel":"x","subscribers":{subscribers},"messages":1}}"#);
    Step::Answer(answer("201 Created", "Content-Type: application/json\r\n", &body))
}

fn refusal(status: &str, headers: &str) -> Step {
    let headers = format!("Content-Type: application/problem+json\r\n{headers}");
    Step::Answer(answer(status, &headers, r#"{"detail":"because"}"#))
}

/// Publishes the lines of `input` to a server with this script: the result, what was said, what was asked.
fn publish(
    args: &PublishArgs,
    script: Vec<Step>,
    input: &[u8],
) -> (Result<(), String>, String, Vec<Request>) {
    let mock = Mock::start(script);
    let server = Server::new(&mock.url, Duration::from_secs(10)).unwrap();
    let mut publisher = Publisher::new(server, args, Some("s3cret")).unwrap();
    publisher.backoff = Backoff::new(MS, 4 * MS);
    let mut said = Vec::new();
    let mut progress = Progress::new(&mut said, false, &args.channel, Instant::now());
    publisher.timeout = args.timeout;
    let pacer = args.rate.map(Pacer::new);
    // What stands behind "|" comes later.
    let mut input = BufReader::new(Pieces(input.split(|byte| *byte == b'|').collect()));
    let result = Lines { publisher: &mut publisher, progress: &mut progress, pacer, number: 0, refused: 0 }
        .publish(&mut input, Batch::new(args));
    drop(publisher);
    (result, String::from_utf8(said).unwrap(), mock.requests())
}

#[test]
fn every_line_is_a_message_on_one_connection() {
    let input = b"one\n|\n|two\r\n|\xff\xfe\n|last";
    let (result, said, requests) =
        publish(&args("a,b/c"), vec![receipt(0), receipt(1), receipt(2), receipt(3)], input);
    assert_eq!(result, Ok(()));
    let bodies: Vec<&[u8]> = requests.iter().map(|request| &request.body[..]).collect();
    assert_eq!(bodies, [&b"one"[..], b"two", b"\xff\xfe", b"last"]);
    assert!(requests.iter().all(|request| request.connection == 1), "{requests:?}");
    assert!(requests.iter().all(|request| request.line == "POST /pub/a%2Cb/c HTTP/1.1"), "{requests:?}");
    let keys: HashSet<&str> = requests.iter().map(|r| r.header("idempotency-key").unwrap()).collect();
    assert_eq!(keys.len(), 4, "each message has its own key");
    assert_eq!(requests[0].header("authorization"), Some("Bearer s3cret"));
    assert!(said.starts_with("published 4 messages to a,b/c in "), "{said}");
    assert!(said.ends_with(", 3 listening\n"), "{said}");
}

#[test]
fn options_reach_the_server() {
    let args = PublishArgs {
        event: Some("größer".into()),
        key: Some("a&b".into()),
        ttl: Some(0),
        content_type: Some("application/json".into()),
        ..args("x")
    };
    let (result, _, requests) = publish(&args, vec![receipt(0)], b"{}\n");
    assert_eq!(result, Ok(()));
    assert_eq!(requests[0].line, "POST /pub/x?event=gr%C3%B6%C3%9Fer&key=a%26b&ttl=0 HTTP/1.1");
    assert_eq!(requests[0].header("content-type"), Some("application/json"));
}

#[test]
fn a_lost_answer_is_asked_for_again_with_the_same_key() {
    let cut_in_the_answer = "HTTP/1.1 201 Created\r\nContent-Length: 50\r\n\r\n{\"id\"";
    let script = vec![
        Step::Cut(String::new()),
        Step::Cut(cut_in_the_answer.into()),
        refusal("429 Too Many Requests", "Retry-After: 0\r\n"),
        refusal("503 Service Unavailable", ""),
        receipt(5),
        receipt(6),
    ];
    let (result, said, requests) = publish(&args("x"), script, b"one\n|two\n");
    assert_eq!(result, Ok(()), "{said}");
    let keys: Vec<&str> = requests.iter().map(|r| r.header("idempotency-key").unwrap()).collect();
    assert!(keys[..5].iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_ne!(keys[5], keys[0]);
    assert!(requests[..5].iter().all(|request| request.body == b"one"));
    assert_eq!(said.matches("line 1: http://").count(), 4, "{said}");
    assert!(said.contains("503 Service Unavailable: because; trying again in "), "{said}");
    assert!(said.contains("published 2 messages"), "{said}");
}

#[test]
fn retry_after_is_waited_for() {
    let begin = Instant::now();
    let script = vec![refusal("503 Service Unavailable", "Retry-After: 1\r\n"), receipt(0)];
    let (result, said, _) = publish(&args("x"), script, b"one\n");
    assert_eq!(result, Ok(()));
    assert!(begin.elapsed() >= Duration::from_secs(1), "{said}");
    assert!(said.contains("trying again in 1 s"), "{said}");
}

#[test]
fn a_refusal_ends_it_with_the_reason() {
    let (result, said, requests) =
        publish(&args("x"), vec![receipt(1), refusal("403 Forbidden", "")], b"1\n|2\n|3\n");
    assert_eq!(result, Err("line 2 is not published: 403 Forbidden: because".into()));
    assert_eq!(requests.len(), 2);
    assert!(said.contains("published 1 message to x, 1 listening"), "{said}");
}

#[test]
fn a_line_too_large_is_reported_and_the_next_ones_go_on() {
    let mut input = vec![b'x'; 100_000];
    input.extend_from_slice(b"\n|small\n");
    let too_large = answer("413 Content Too Large", "Connection: close\r\n", "");
    let (result, said, requests) = publish(&args("x"), vec![Step::Cut(too_large), receipt(1)], &input);
    assert!(result.unwrap_err().starts_with("1 too large"));
    assert_eq!(requests[0].header("expect"), Some("100-continue"));
    assert_eq!(requests[0].header("connection"), Some("close"));
    assert_eq!(requests[0].body, b"", "a message that is refused is not sent");
    assert_eq!(requests[1].body, b"small");
    assert!(said.contains("line 1 is not published: 413"), "{said}");
}

#[test]
fn lines_that_came_together_go_together() {
    let args = PublishArgs { event: Some("e".into()), ttl: Some(9), ..args("a/b") };
    let script = vec![receipts(3), receipt(0), receipt(1)];
    let (result, said, requests) = publish(&args, script, b"one\ntwo\n\nth\"ree\n\xff\n|four\n");
    assert_eq!(result, Ok(()));
    let lines: Vec<&str> = requests.iter().map(|request| request.line.as_str()).collect();
    let single = "POST /pub/a/b?event=e&ttl=9 HTTP/1.1";
    assert_eq!(
        lines,
        ["POST /pub HTTP/1.1", single, single],
        "no batch for bytes that are no text, nor for one line"
    );
    let expected = "{\"channel\":\"a/b\",\"data\":\"one\",\"event\":\"e\",\"ttl\":9}\n\
                    {\"channel\":\"a/b\",\"data\":\"two\",\"event\":\"e\",\"ttl\":9}\n\
                    {\"channel\":\"a/b\",\"data\":\"th\\\"ree\",\"event\":\"e\",\"ttl\":9}\n";
    assert_eq!(String::from_utf8_lossy(&requests[0].body), expected);
    assert_eq!(requests[0].header("content-type"), Some("application/x-ndjson"));
    assert_eq!(requests[1].body, b"\xff");
    assert!(said.starts_with("published 5 messages to a/b in "), "{said}");
}

#[test]
fn many_lines_are_several_batches() {
    let input = "x\n".repeat(1201);
    let script = vec![receipts(500), receipts(500), receipts(201)];
    let (result, said, requests) = publish(&args("x"), script, input.as_bytes());
    assert_eq!((result, requests.len()), (Ok(()), 3), "{said}");
    let keys: HashSet<&str> = requests.iter().map(|r| r.header("idempotency-key").unwrap()).collect();
    assert_eq!(keys.len(), 3);
    assert!(said.starts_with("published 1201 messages"), "{said}");
}

#[test]
fn a_batch_that_is_refused_goes_line_by_line() {
    let script = vec![
        refusal("413 Content Too Large", ""),
        receipt(0),
        refusal("413 Content Too Large", ""),
        receipt(0),
    ];
    let (result, said, requests) = publish(&args("x"), script, b"1\n2\n3\n");
    assert_eq!(result, Err("1 too large for the server and not published".into()));
    assert_eq!(
        requests.iter().map(|request| &request.body[..]).skip(1).collect::<Vec<_>>(),
        [b"1", b"2", b"3"]
    );
    assert!(said.contains("line 2 is not published: 413"), "{said}");
}

#[test]
fn json_goes_along_as_it_was_written() {
    let args = PublishArgs { content_type: Some("application/json".into()), ..args("x") };
    let (result, said, requests) =
        publish(&args, vec![receipts(2), receipt(0)], b"{\"b\": 1.0}\n[1]\n\"text\"\n");
    assert_eq!(result, Ok(()), "{said}");
    let expected = "{\"channel\":\"x\",\"data\":{\"b\": 1.0}}\n{\"channel\":\"x\",\"data\":[1]}\n";
    assert_eq!(String::from_utf8_lossy(&requests[0].body), expected);
    assert_eq!(requests[1].body, b"\"text\"", "in a batch, it would become text");
}

#[test]
fn a_message_is_given_up_in_time() {
    let begin = Instant::now();
    let args = PublishArgs { timeout: Some(300 * MS), ..args("x") };
    // The second one keeps the server waiting; nobody asks for it.
    let script = vec![Step::Hang(String::new()), Step::Hang(String::new())];
    let (result, said, requests) = publish(&args, script, b"one\n");
    let error = result.unwrap_err();
    assert!(
        error.contains("given up after 0.3 s (--timeout); it may have been published all the same"),
        "{error}"
    );
    assert!(begin.elapsed() >= 290 * MS, "{said}");
    assert_eq!(requests.len(), 1);
}

#[test]
fn the_refusal_of_a_token_says_where_it_comes_from() {
    let (result, ..) = publish(&args("x"), vec![refusal("401 Unauthorized", "")], b"1\n");
    assert!(result.unwrap_err().ends_with("the environment variable ENCKE_PUBLISH_TOKEN)"));
}

#[test]
fn a_doubt_that_is_too_old_is_left_to_the_person() {
    let mock = Mock::start([Step::Cut(String::new())]);
    let server = Server::new(&mock.url, Duration::from_secs(10)).unwrap();
    let mut publisher = Publisher::new(server, &args("x"), None).unwrap();
    publisher.in_doubt_max = Duration::ZERO;
    let error = publisher.publish(b"one", |notice| panic!("{notice}")).unwrap_err();
    assert!(error.contains("publishing twice"), "{error}");
}

#[test]
fn a_server_of_another_kind_is_noticed() {
    let script =
        vec![Step::Answer(answer("200 OK", "Content-Type: text/html\r\n", "<html>It works!</html>"))];
    let (result, _, _) = publish(&args("x"), script, b"one\n");
    assert!(result.unwrap_err().contains("is an Encke server there?"));
}

#[test]
fn the_rate_is_kept() {
    let begin = Instant::now();
    let args = PublishArgs { rate: Some(50.0), ..args("x") };
    let (result, ..) = publish(&args, (0..6).map(receipt).collect(), b"1\n2\n3\n4\n5\n6\n");
    assert_eq!(result, Ok(()));
    assert!(begin.elapsed() >= 100 * MS, "six messages are five intervals of 20 ms: {:?}", begin.elapsed());
}

#[test]
fn the_pace_does_not_drift_and_a_pause_makes_no_burst() {
    let begin = Instant::now();
    let mut pacer = Pacer::new(100.0);
    let mut now = begin;
    for n in 0..1000_u32 {
        now += pacer.wait(now);
        assert!(now >= begin + n * 10 * MS, "message {n} is early");
        assert!(now <= begin + n * 10 * MS + 3 * MS, "message {n} is late: {:?}", now - begin);
        now += 3 * MS; // each sleep is too long, each request takes its time
    }
    now += Duration::from_secs(60);
    assert_eq!(pacer.wait(now), Duration::ZERO);
    assert_eq!(pacer.wait(now), 10 * MS);
}

#[test]
fn rates_are_checked() {
    for good in ["200", "0.5", "1e3", "1000000"] {
        assert!(parse_rate(good).is_ok(), "{good}");
    }
    for bad in ["0", "-1", "NaN", "inf", "1e-300", "1e300", "fast", ""] {
        assert!(parse_rate(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_terminal_sees_a_line_that_counts() {
    let begin = Instant::now();
    let mut out = Vec::new();
    let mut progress = Progress::new(&mut out, true, "x", begin);
    for n in 1..=200_u32 {
        progress.published(Some(7), begin + n * 10 * MS);
    }
    progress.note("hello");
    progress.finish(begin + 2000 * MS);
    let out = String::from_utf8(out).unwrap();
    assert_eq!(out.matches('\r').count(), 20 + 1, "ten lines a second, and one is erased: {out:?}");
    assert!(out.contains("\r191 published, 100 per second, 7 listening\x1b[K"), "{out:?}");
    let end =
        "\r\x1b[Kencke pub: hello\npublished 200 messages to x in 2.0 s (100.0 per second), 7 listening\n";
    assert!(out.ends_with(end), "{out:?}");
}

#[test]
fn keys_are_taken_from_a_member() {
    let args = PublishArgs { key_field: Some("s".into()), ..args("x") };
    let (result, _, requests) = publish(&args, vec![receipt(0)], b"{\"s\":\"\xc3\xa9\",\"p\":1}\n");
    assert_eq!(result, Ok(()));
    assert_eq!(requests[0].header("content-type"), Some("application/json"));
    assert_eq!(batch::key_of(b"{\"a\":1,\"s\":1.50}", "s").as_deref(), Some("1.50"));
    for line in [&b"{\"a\":1}"[..], b"[1]", b"{\"s\":null}", b"{\"s\":{}}", b"x"] {
        assert_eq!(batch::key_of(line, "s"), None);
    }
    let (result, ..) = publish(&args, Vec::new(), b"{\"p\":1}\n");
    assert!(result.unwrap_err().contains("whose member \"s\""));
}
