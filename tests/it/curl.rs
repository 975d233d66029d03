//! curl as a client: what a person types first.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::harness::{Encke, PATIENCE, data};

fn spawn(arguments: &[&str], input: &[u8]) -> Child {
    let mut command = Command::new("curl");
    let patience = PATIENCE.as_secs().to_string();
    command.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", &patience]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("these tests need curl, please install it (on Debian: apt-get install curl): {error}")
    });
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // curl may leave before it has read everything, for example when the server refuses its upload.
    let _ = stdin.write_all(input);
    child
}

fn output(child: Child) -> String {
    let output = child.wait_with_output().expect("curl ends by its --max-time");
    assert!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn curl(arguments: &[&str]) -> String {
    output(spawn(arguments, b""))
}

/// A curl that prints a stream, ended when the test is over.
struct Reader {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Reader {
    fn start(arguments: &[&str]) -> Self {
        let mut child = spawn(arguments, b"");
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Self { child, lines }
    }

    /// Skips to the line that begins so; fails when curl's time is over.
    fn line(&mut self, beginning: &str) -> String {
        let lines = (&mut self.lines).lines().map_while(Result::ok);
        let mut found = lines.skip_while(|line| !line.starts_with(beginning));
        found.next().unwrap_or_else(|| panic!("curl printed no line {beginning:?}"))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Both fail only if curl is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_plain_curl_is_parked_and_answered() {
    let server = Encke::start(&[]);
    let poll = spawn(&[&server.url("/sub/ticks")], b"");
    server.listeners("ticks", 1);
    let answer = curl(&["-d", "hello", &server.url("/pub/ticks")]);
    assert!(answer.contains("\"subscribers\":1"), "{answer}");
    assert_eq!(output(poll), "hello");
}

#[test]
fn curl_n_shows_events_as_they_come() {
    let server = Encke::start(&[]);
    let url = server.url("/sub/ticks");
    let mut sse = Reader::start(&["-N", "-H", "Accept: text/event-stream", &url]);
    assert_eq!(sse.line("retry:"), "retry: 2000");
    let mut stream = Reader::start(&["-N", "-H", "Accept: application/x-ndjson", &url]);
    let mut raw = Reader::start(&["-N", &server.url("/sub/ticks?as=raw")]);
    server.listeners("ticks", 3);
    for n in 1..=3 {
        let id = server.publish("ticks", format!("tick {n}\n"));
        assert_eq!(sse.line("data: t"), format!("data: tick {n}"));
        assert_eq!(
            stream.line("{"),
            format!("{{\"id\":\"{id}\",\"channel\":\"ticks\",\"data\":\"tick {n}\\n\"}}")
        );
        assert_eq!(raw.line("tick"), format!("tick {n}"));
    }
}

#[test]
fn curl_publishes_in_every_way() {
    let server = Encke::start(&[]);
    let url = server.url("/pub/x");
    curl(&["-H", "Content-Type: text/plain", "-d", "posted", &url]);
    output(spawn(&["-T", "-", &url], b"put in chunks"));
    output(spawn(&["-T", "-", "-H", "Expect: 100-continue", &url], b"put after 100"));
    curl(&["--http1.0", "-H", "Content-Type: text/plain", "-d", "1.0", &url]);
    curl(&["--http2", "-H", "Content-Type: text/plain", "-d", "no HTTP/2 here", &url]);
    let expected = ["posted", "put in chunks", "put after 100", "1.0", "no HTTP/2 here"];
    assert_eq!(server.history("x"), expected);

    let lines = b"{\"channel\":\"y\",\"data\":\"1\"}\n{\"channel\":\"y\",\"data\":\"2\"}\n";
    let ndjson = ["-H", "Content-Type: application/x-ndjson", "--data-binary", "@-", &server.url("/pub")];
    output(spawn(&ndjson, lines));
    let batch = curl(&["-H", "Accept: application/json", &server.url("/sub/y?after=oldest")]);
    assert_eq!(data(&serde_json::from_str(&batch).expect("JSON")), ["1", "2"]);
}

#[test]
fn curl_sees_the_refusal_of_a_large_upload() {
    let server = Encke::start(&[]);
    let large = vec![b'x'; 3 << 20];
    let url = server.url("/pub/x");
    for expect in ["Expect:", "Expect: 100-continue"] {
        let arguments = ["--data-binary", "@-", "-H", expect, "-o", "/dev/null", "-w", "%{http_code}", &url];
        assert_eq!(output(spawn(&arguments, &large)), "413", "{expect}");
    }
}

#[test]
fn curl_keeps_its_connection() {
    let server = Encke::start(&[]);
    server.publish("x", "1");
    let (health, news, nowhere) =
        (server.url("/healthz"), server.url("/sub/x?after=oldest"), server.url("/nowhere"));
    let mut arguments = vec!["-w", "%{num_connects} "];
    for url in [&health, &news, &nowhere, &health] {
        arguments.extend(["-o", "/dev/null", url]);
    }
    assert_eq!(curl(&arguments), "1 0 0 0 ");
}

#[test]
fn curl_head_and_options() {
    let server = Encke::start(&[]);
    let head = curl(&["-I", &server.url("/healthz")]);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let options = curl(&["-i", "-X", "OPTIONS", &server.url("/sub/x")]).to_lowercase();
    assert!(options.contains("\r\nallow: "), "{options}");
}
