//! Our reader of requests beside another one: Node's llhttp, strict as Node ships it, on thousands of mutated
//! requests. What both accept they must read alike, as a difference is what smuggling is made of; where only one of
//! them accepts, the reason is one of those explained here, and each of these is seen at least once.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::thread;

use data_encoding::BASE64;
use encke::config::Config;
use encke::conn::Input;
use encke::id::Random;
use encke::wire::head::{self, Method, Refusal};
use serde_json::Value;

const CASES: usize = 12_000;

/// Requests that are changed.
const BASES: [&str; 8] = [
    "GET /a?b=c HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "PUT /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: t\r\n\r\n5;e=f\r\nhello\r\n0\r\nt: u\r\n\r\n",
    "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "DELETE /a HTTP/1.1\r\nhost:x\r\nX-Long: a, b;c=\"d\"\r\nConnection: close\r\n\r\n",
    "\r\nOPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
];

/// What is put in, and what takes the place of something.
const PIECES: [&[u8]; 40] = [
    b" ",
    b"\t",
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b":",
    b",",
    b";",
    b"\x0b",
    b"\x0c",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"0",
    b"1",
    b"+",
    b"-",
    b"_",
    b"x",
    b"\"",
    b"#",
    b"?",
    b"/",
    b"%",
    b"(",
    b"\r\n ",
    b"\r\n\t",
    b"\r\n\r\n",
    b" :",
    b"chunked",
    b"Content-Length: 5\r\n",
    b"Content-Length: 6\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: x, chunked\r\n",
    b"Host: y\r\n",
    b"HTTP/1.1",
    b"5, 5",
    b"0x5",
];

/// A request as either of them reads it.
#[derive(Debug, Clone, PartialEq)]
struct Read {
    method: String,
    target: String,
    version: String,
    body: Option<Vec<u8>>,
}

/// All requests of a stream until the connection ends, and why it ended, if it was refused.
#[derive(Debug)]
struct Verdict {
    requests: Vec<Read>,
    refused: Option<String>,
}

fn mutated(random: &mut Random) -> Vec<u8> {
    let mut bytes = BASES[random.below(BASES.len() as u64) as usize].as_bytes().to_vec();
    for _ in 0..=random.below(2) {
        let at = random.below(bytes.len() as u64) as usize;
        let piece = PIECES[random.below(PIECES.len() as u64) as usize];
        match random.below(5) {
            0 => drop(bytes.remove(at)),
            1 => drop(bytes.splice(at..=at, piece.iter().copied())),
            // Field lines go where field lines are.
            _ if piece.ends_with(b"\r\n") && piece.len() > 4 => {
                let line = bytes.windows(2).position(|pair| pair == b"\r\n").map_or(at, |end| end + 2);
                bytes.splice(line..line, piece.iter().copied());
            }
            2 => {
                let name_or_value =
                    bytes[at..].iter().position(|byte| b":\r".contains(byte)).unwrap_or(0) + at;
                bytes.splice(name_or_value..name_or_value, piece.iter().copied());
            }
            _ => drop(bytes.splice(at..at, piece.iter().copied())),
        }
    }
    // What follows shows where a reader thinks that the first request ends.
    bytes.extend_from_slice(b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    bytes
}

fn ours(bytes: &[u8]) -> Verdict {
    let limits = Config::default().limits;
    let mut verdict = Verdict { requests: Vec::new(), refused: None };
    let (mut input, mut rest) = (Input::default(), bytes);
    let refused = |refusal: Refusal| Some(refusal.detail.to_owned());
    while !rest.is_empty() {
        let gathered = match input.gather(rest, &limits) {
            Ok(gathered) => gathered,
            Err(refusal) => return Verdict { refused: refused(refusal), ..verdict },
        };
        rest = &rest[gathered.used..];
        if gathered.complete {
            let mut slots = head::slots();
            let request = input.request(&mut slots).unwrap();
            let head = request.head;
            verdict.requests.push(Read {
                method: method(head.method).to_owned(),
                target: head.target.to_owned(),
                version: if head.http11 { "1.1" } else { "1.0" }.to_owned(),
                body: Some(request.body.to_vec()),
            });
            if !head.keep_alive {
                return verdict;
            }
            input = Input::default();
        }
    }
    verdict
}

const fn method(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
        Method::Query => "QUERY",
    }
}

/// What Node makes of all `cases`.
fn theirs(cases: &[Vec<u8>]) -> Vec<Verdict> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/differential.mjs");
    let node = Command::new("node").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut node = node.expect("node is there: `make test` installs it");
    let mut stdin = node.stdin.take().unwrap();
    let lines: String = cases.iter().map(|case| BASE64.encode(case) + "\n").collect();
    let writer = thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let answers = BufReader::new(node.stdout.take().unwrap()).lines();
    let verdicts = answers.map(|line| read_answer(&serde_json::from_str(&line.unwrap()).unwrap())).collect();
    writer.join().unwrap().unwrap();
    node.wait().unwrap();
    verdicts
}

fn read_answer(answer: &Value) -> Verdict {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let read = |entry: &Value| Read {
        method: text(&entry[0]),
        target: text(&entry[1]),
        version: text(&entry[2]),
        body: entry[3].as_str().map(|body| BASE64.decode(body.as_bytes()).unwrap()),
    };
    let requests = answer["requests"].as_array().unwrap().iter().map(read);
    let requests = requests.filter(|read| read.body.is_some()).collect();
    // What follows a request that ends the connection is no offence here.
    let refused = answer["refused"].as_str().filter(|code| *code != "HPE_CLOSED_CONNECTION");
    Verdict { requests, refused: refused.map(str::to_owned) }
}

/// Where only one of them goes on, and why that is meant so. The first column is our sentence or their code.
const EXPLAINED: [(&str, &str); 13] = [
    // We refuse, they do not.
    (
        "an HTTP/1.1 request must have a Host field",
        "Node leaves it to its server, where it is switched off here",
    ),
    (
        "more than one Host field",
        "they take it for a field like any other; a proxy might route by the other one",
    ),
    ("a CR stands alone in the head", "they pass over a CR before the request line; we want CR LF"),
    (
        "a line of the head ends with LF alone; it must end with CR LF",
        "they pass over LFs before the request line",
    ),
    ("the only transfer coding understood is chunked", "they take any coding if the last one is chunked"),
    ("the request line is malformed", "they still speak HTTP/0.9, and take two blanks for one"),
    (
        "the request target must begin with a slash",
        "`*x` is a target to them; it is none in RFC 9112, section 3.2",
    ),
    ("Host is no host with or without a port", "they do not look at what a Host is"),
    (
        "a % in the path is not followed by two hexadecimal digits; % in a name is %25",
        "they leave the path to others",
    ),
    // They refuse, we do not.
    ("HPE_UNEXPECTED_CONTENT_LENGTH", "the same length twice; RFC 9110, section 8.6 lets us take it for one"),
    ("HPE_INVALID_CONTENT_LENGTH", "a tab behind the length, which RFC 9112, section 5 allows"),
    ("HPE_STRICT", "the grammar of chunk extensions, which we skip, if they are printable"),
    // Neither refuses, and they serve more.
    (HTTP10, "we close after an answer to HTTP/1.0, whatever its Connection field says"),
];
const HTTP10: &str = "a request of HTTP/1.0";

/// Who ends the conversation earlier, and by what; `None` if they agree.
fn difference<'a>(ours: &'a Verdict, theirs: &'a Verdict) -> Option<&'a str> {
    let (our_count, their_count) = (ours.requests.len(), theirs.requests.len());
    let (our_reason, their_reason) = (ours.refused.as_deref(), theirs.refused.as_deref());
    match our_count.cmp(&their_count) {
        Ordering::Less => Some(our_reason.unwrap_or(HTTP10)),
        Ordering::Greater => Some(their_reason.unwrap_or("no reason given by the other parser")),
        Ordering::Equal if our_reason.is_some() == their_reason.is_some() => None,
        Ordering::Equal if ours.requests.last().is_some_and(|last| last.version == "1.0") => Some(HTTP10),
        Ordering::Equal => our_reason.or(their_reason),
    }
}

#[test]
fn what_two_parsers_accept_they_read_alike() {
    let mut random = Random::new(9112);
    let cases: Vec<_> = (0..CASES).map(|_| mutated(&mut random)).collect();
    let theirs = theirs(&cases);
    assert_eq!(theirs.len(), cases.len());
    let mut seen = BTreeSet::new();
    for (case, theirs) in cases.iter().zip(&theirs) {
        let ours = ours(case);
        let case = String::from_utf8_lossy(case);
        let both = ours.requests.iter().zip(&theirs.requests);
        for (our, their) in both {
            assert_eq!(our, their, "the same bytes, two requests: {case:?}");
        }
        let Some(reason) = difference(&ours, theirs) else { continue };
        let explained = EXPLAINED.iter().any(|(known, _)| *known == reason);
        assert!(explained, "unexplained: {reason}\n{case:?}\nours: {ours:?}\ntheirs: {theirs:?}");
        seen.insert(reason.to_owned());
    }
    for (reason, why) in EXPLAINED {
        assert!(seen.contains(reason), "nothing shows this any more: {reason} ({why})");
    }
}
