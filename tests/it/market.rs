//! Keys, latest values, paces and patches, on the real binary.

use serde_json::{Value, json};

use crate::client::Client;
use crate::harness::{Encke, seq};

const JSON: &str = "Content-Type: application/json";
const PATCH: &str = "Content-Type: application/merge-patch+json";

fn patch(server: &Encke, target: &str, content_type: &str, body: &str) -> u16 {
    let length = format!("Content-Length: {}", body.len());
    server.ask("PATCH", target, &[content_type, &length], body.as_bytes()).status
}

fn put(server: &Encke, channel: &str, key: &str, value: &str) -> String {
    server.admin().publish(channel, &[JSON, &format!("Encke-Key: {key}")], value.as_bytes())
}

fn value(server: &Encke, target: &str) -> (u16, String) {
    let answer = server.get(target, &[]);
    (answer.status, answer.text())
}

/// The lines of a stream up to one that `is_last`, without empty ones.
fn lines(stream: &mut Client, is_last: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let line = stream.line();
        let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
        all.push(line);
        if is_last(&all[all.len() - 1]) {
            return all;
        }
    }
}

#[test]
fn values_are_patched_removed_and_read_by_their_key() {
    let server = Encke::start(&["--limits-message-bytes", "100"]);
    let first = put(&server, "q", "A", r#"{"p":1.10,"n":9007199254740993}"#);
    let answer = server.get("/pub/q?key=A", &[]);
    assert_eq!((answer.status, answer.get("etag")), (200, Some(&*format!("\"{first}\""))));
    assert_eq!(
        (answer.media_type(), answer.text()),
        ("application/json", r#"{"p":1.10,"n":9007199254740993}"#.into())
    );
    let known = server.get("/pub/q?key=A", &[&format!("If-None-Match: \"{first}\"")]);
    assert_eq!(known.status, 304);
    assert_eq!(patch(&server, "/pub/q?key=A", PATCH, r#"{"p":2.20}"#), 202);
    assert_eq!(value(&server, "/pub/q?key=A").1, r#"{"p":2.20,"n":9007199254740993}"#);
    for (target, content_type, body, status) in [
        ("/pub/q?key=A", JSON, "{}", 415),
        ("/pub/q?key=A", PATCH, "[1]", 400),
        ("/pub/q?key=A", PATCH, "{", 400),
        ("/pub/q", PATCH, "{}", 400),
        ("/pub/q,r?key=A", PATCH, "{}", 400),
        ("/pub/q?key=B", PATCH, "{}", 404),
        ("/pub/none?key=B", PATCH, "{}", 404),
    ] {
        assert_eq!(patch(&server, target, content_type, body), status, "{target} {content_type} {body}");
    }
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(80));
    assert_eq!(patch(&server, "/pub/q?key=A", PATCH, &large), 413);
    server.ask("POST", "/pub/q?key=T", &[], b"text");
    assert_eq!(patch(&server, "/pub/q?key=T", PATCH, "{}"), 409);
    assert!(server.get("/pub/none", &[]).status == 404, "a patch makes no channel");
    assert_eq!(server.json("/pub/q")["keys"], 2);

    let stale = server.ask("POST", "/pub/q?key=A", &[&format!("If-Match: \"{first}\"")], b"x");
    assert_eq!(stale.status, 412);
    assert_eq!(server.ask("DELETE", "/pub/q?key=", &[], b"").status, 400, "no key is not the channel");
    let removed = server.ask("DELETE", "/pub/q", &["Encke-Key: A", "Idempotency-Key: once"], b"");
    assert_eq!((removed.status, removed.json()["channel"].as_str()), (200, Some("q")));
    let again = server.ask("DELETE", "/pub/q", &["Encke-Key: A", "Idempotency-Key: once"], b"");
    assert_eq!((again.status, again.text()), (200, removed.text()), "a repeat is answered like the first");
    assert_eq!(server.ask("DELETE", "/pub/q?key=A", &[], b"").status, 404);
    assert_eq!((value(&server, "/pub/q?key=A").0, server.json("/pub/q")["keys"].as_u64()), (404, Some(1)));
}

#[test]
fn a_batch_acts_in_order_or_not_at_all() {
    let server = Encke::start(&["--limits-keys-per-channel", "2"]);
    let batch = |lines: &[&str]| {
        let answer =
            server.ask("POST", "/pub", &["Content-Type: application/x-ndjson"], lines.join("\n").as_bytes());
        (answer.status, answer.text())
    };
    let ok = batch(&[
        r#"{"channel":"q","key":"A","data":{"a":1}}"#,
        r#"{"channel":"q","key":"A","patch":{"b":2}}"#,
        r#"{"channel":"q","key":"B","data":1}"#,
        r#"{"channel":"q","key":"B","remove":true}"#,
        r#"{"channel":"q","key":"C","data":1}"#,
    ]);
    assert_eq!(ok.0, 202, "{}", ok.1);
    assert_eq!(value(&server, "/pub/q?key=A").1, r#"{"a":1,"b":2}"#);
    for (lines, status, told) in [
        (
            &[r#"{"channel":"q","key":"A","data":7}"#, r#"{"channel":"q","key":"N","remove":true}"#][..],
            404,
            "line 2",
        ),
        (&[r#"{"channel":"q","key":"A","data":7}"#, r#"{"channel":"q","key":"N","data":7}"#], 503, "line 2"),
        (
            &[r#"{"channel":"q","key":"A","data":7}"#, r#"{"channel":"q","key":"A","patch":{}}"#],
            409,
            "line 2",
        ),
        (&[r#"{"channel":"q","key":"A","data":7,"remove":true}"#], 400, "line 1"),
        (
            &["", r#"{"channel":"q","key":"A","data":7}"#, "", r#"{"channel":"q","key":"N","remove":true}"#],
            404,
            "line 4",
        ),
    ] {
        let refused = batch(lines);
        assert!(refused.0 == status && refused.1.contains(told), "{refused:?}");
        assert_eq!(value(&server, "/pub/q?key=A").1, r#"{"a":1,"b":2}"#, "all or none");
    }
    assert!(server.json("/stats")["keys_refused"].as_u64() > Some(0));
}

#[test]
fn a_snapshot_then_what_changes_on_streams() {
    let server = Encke::start(&["--history-messages", "100", "--history-grace-seconds", "0"]);
    put(&server, "q", "A", "1");
    put(&server, "q", "B", "2");
    let newest = put(&server, "q", "A", "3");
    let unkeyed = server.publish("q", "no key");
    let (head, mut stream) = server.open("/sub/q?as=stream&latest", &[]);
    assert_eq!(
        head.next(),
        format!("{}:0~4", newest.split(':').next().unwrap()),
        "the place before the snapshot"
    );
    let snapshot = lines(&mut stream, |line| line["next"].is_string());
    let [b, a, next] = &snapshot[..] else { panic!("{snapshot:?}") };
    assert_eq!((b["key"].as_str(), b["data"].as_i64()), (Some("B"), Some(2)));
    assert_eq!((a["key"].as_str(), a["data"].as_i64()), (Some("A"), Some(3)));
    assert_eq!(next, &json!({ "next": unkeyed }));
    let removed = server.ask("DELETE", "/pub/q?key=B", &[], b"").json();
    assert_eq!(stream.envelope(), json!({"id": removed["id"], "channel": "q", "key": "B", "removed": true}));
    // Whoever comes back is told of what changed, however long ago.
    for _ in 0..300 {
        put(&server, "q", "A", "4");
    }
    let (_, mut back) = server.open(&format!("/sub/q?as=stream&latest&after={unkeyed}"), &[]);
    let since = lines(&mut back, |line| line["key"] == "A");
    assert_eq!((since.len(), since[0]["removed"].as_bool()), (2, Some(true)), "{since:?}");
    // What had no key and left the ring is a gap; a fresh snapshot follows.
    let (_, mut lost) = server.open("/sub/q?as=stream&latest&after=oldest", &[]);
    assert_eq!(lost.envelope()["key"], "B", "a removal that is remembered");
    let old = format!("{}:1", newest.split(':').next().unwrap());
    let (_, mut lost) = server.open(&format!("/sub/q?as=stream&latest&after={old}"), &[]);
    let told = lines(&mut lost, |line| line["next"].is_string() || line["key"] == "A");
    assert!(told[0]["gap"].is_object() && told[1]["key"] == "A" && told.len() == 2, "{told:?}");
}

#[test]
fn polls_continue_at_places() {
    let server = Encke::start(&[]);
    for key in ["A", "B", "C"] {
        put(&server, "q", key, "1");
    }
    server.publish("q", "no key");
    let accept = "Accept: application/json";
    let first = server.get("/sub/q?latest&max=2", &[accept]).json();
    assert_eq!(first["messages"].as_array().unwrap().len(), 2);
    let next = first["next"].as_str().unwrap();
    assert!(next.ends_with(":2~2"), "{next}");
    let second = server.get(&format!("/sub/q?latest&max=2&after={next}"), &[accept]).json();
    assert_eq!((second["messages"][0]["key"].as_str(), second["gap"].as_bool()), (Some("C"), Some(false)));
    let next = second["next"].as_str().unwrap().to_owned();
    put(&server, "q", "A", "2");
    let third = server.get(&format!("/sub/q?latest&after={next}"), &[accept]).json();
    assert_eq!(
        (third["messages"].as_array().unwrap().len(), third["messages"][0]["key"].as_str()),
        (1, Some("A"))
    );
    server.ask("DELETE", "/pub/q?key=B", &[], b"");
    let next = third["next"].as_str().unwrap();
    let removed = server.get(&format!("/sub/q?latest&after={next}"), &[]);
    assert_eq!(
        (removed.status, removed.get("encke-removed"), removed.get("content-type")),
        (200, Some("B"), None)
    );
    assert_eq!(removed.get("content-length"), Some("0"));
}

#[test]
fn paces_and_patches() {
    let server = Encke::start(&[]);
    let quote = |price: u32| format!(r#"{{"last":{price},"name":"{}"}}"#, "n".repeat(100));
    put(&server, "q", "A", &quote(0));
    let (_, mut stream) = server.open("/sub/q?as=stream&rate=10&delta", &[]);
    let mut table: Value = lines(&mut stream, |line| line["key"] == "A").remove(0);
    for price in 1..=40 {
        put(&server, "q", "A", &quote(price));
    }
    let mut given = 0;
    while table["data"]["last"] != 40 {
        let line = stream.envelope();
        given += 1;
        match &line["patch"] {
            Value::Null => table = line,
            patch => {
                assert_eq!(line["base"], table["id"], "the base is what was given last");
                assert_eq!(patch.as_object().unwrap().len(), 1);
                table["data"]["last"] = patch["last"].clone();
                table["id"] = line["id"].clone();
            }
        }
    }
    assert!(given < 40, "conflated: {given}");
    assert!(seq(table["id"].as_str().unwrap()) == 41);
    for query in ["rate=0", "rate=51", "rate=1e1", "rate=-1", "latest=0", "delta=no", "as=sse&delta", "delta"]
    {
        assert_eq!(server.get(&format!("/sub/q?{query}"), &[]).status, 400, "{query}");
    }
}

#[test]
fn a_time_to_live_that_runs_out_is_a_removal() {
    let server = Encke::start(&[]);
    let (_, mut stream) = server.open("/sub/q?as=stream", &[]);
    server.admin().publish("q", &[JSON, "Encke-Key: A", "Encke-TTL: 0"], b"1");
    let [given, removed] = [stream.envelope(), stream.envelope()];
    assert_eq!((given["data"].as_i64(), removed["removed"].as_bool()), (Some(1), Some(true)));
    assert_eq!(value(&server, "/pub/q?key=A").0, 404);
}

/// Of a stream that nobody reads, the kernel would keep megabytes, none of which is superseded any more.
#[test]
fn what_waits_for_a_reader_is_superseded() {
    let server = Encke::start(&[]);
    let mut stream = server.connect();
    stream.narrow_window();
    stream.request("GET", "/sub/q?as=stream&latest", &[], b"");
    server.listeners("q", 1);
    let text = "x".repeat(10_000);
    let mut publisher = server.admin();
    for round in 0..100 {
        let line =
            |key: u32| json!({"channel": "q", "key": key.to_string(), "data": [round, text]}).to_string();
        let lines: Vec<String> = (0..20).map(line).collect();
        let answer = publisher.ask(
            "POST",
            "/pub",
            &["Content-Type: application/x-ndjson"],
            lines.join("\n").as_bytes(),
        );
        assert!(matches!(answer.status, 200..=202), "{}", answer.text());
    }
    let mut bytes = 0;
    assert_eq!(stream.head().status, 200);
    loop {
        let line = stream.line();
        bytes += line.len();
        let is_last = |value: &Value| value["key"] == "19" && value["data"][0] == 99;
        if serde_json::from_str(&line).is_ok_and(|value: Value| is_last(&value)) {
            break;
        }
    }
    // 20 MB were published; the latest values are 200 KB.
    assert!(bytes < 800_000, "{bytes} bytes");
}
