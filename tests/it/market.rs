//! Keys, latest values, paces and patches, on the real binary.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::client::Client;
use crate::harness::{Encke, seq};
use crate::sse::parse;

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
    for price in 1..=30 {
        put(&server, "q", "A", &quote(price));
    }
    // In one request they come between two ticks, however slow the machine is.
    let line = |price: u32| format!("{{\"channel\":\"q\",\"key\":\"A\",\"data\":{}}}", quote(price));
    let lines: Vec<String> = (31..=40).map(line).collect();
    let ndjson = ["Content-Type: application/x-ndjson"];
    assert_eq!(server.ask("POST", "/pub", &ndjson, lines.join("\n").as_bytes()).status, 201);
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

/// What a page does with an `EventSource`: it keeps a table of each channel, and the browser the last id.
struct Page {
    stream: Client,
    last_id: String,
    /// By channel and key.
    table: BTreeMap<(String, String), Value>,
    /// Channels and patterns of which a gap was told.
    gaps: Vec<String>,
    /// What had no key.
    others: Vec<Value>,
}

impl Page {
    const TARGET: &str = "/sub/q/*?as=sse-envelope&latest";

    fn open(server: &Encke) -> Self {
        let (_, stream) = server.open(Self::TARGET, &[]);
        let (table, gaps, others) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut page = Self { stream, last_id: String::new(), table, gaps, others };
        assert!(page.read()["heartbeat"].is_number(), "a stream tells first where it begins");
        page
    }

    /// The line is cut, and `meanwhile` something happens before the browser reconnects.
    fn reconnect(&mut self, server: &Encke, channel: &str, meanwhile: impl FnOnce()) {
        self.stream = server.connect();
        server.listeners(channel, 0);
        meanwhile();
        (_, self.stream) = server.open(Self::TARGET, &[&format!("Last-Event-ID: {}", self.last_id)]);
        self.gaps.clear();
        assert!(self.read()["heartbeat"].is_number());
    }

    /// Reads the next event. Returns its data.
    fn read(&mut self) -> Value {
        let event = parse(&self.stream.block().expect("the stream goes on"));
        if let Some(id) = event.id {
            self.last_id = id;
        }
        let Some(Ok(data)) = event.data.map(|data| serde_json::from_str::<Value>(&data)) else {
            return Value::Null;
        };
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        if let Some(of) = text(&data["gap"]["channel"]) {
            let is_meant = |channel: &str| of == "q/*" || of == channel;
            self.table.retain(|(channel, _), _| !is_meant(channel));
            self.gaps.push(of);
        } else if let (Some(channel), Some(key)) = (text(&data["channel"]), text(&data["key"])) {
            match data["removed"].as_bool() {
                Some(true) => _ = self.table.remove(&(channel, key)),
                _ => _ = self.table.insert((channel, key), data["data"].clone()),
            }
        } else if data["channel"].is_string() {
            self.others.push(data["data"].clone());
        }
        data
    }

    /// Reads up to where a snapshot is complete.
    fn read_snapshot(&mut self) {
        while self.read()["next"].is_null() {}
    }

    fn read_until_key(&mut self, key: &str) {
        while self.read()["key"] != key {}
    }

    #[track_caller]
    fn shows(&self, server: &Encke, truth: &[(&str, &str, i32)]) {
        let expected =
            truth.iter().map(|&(channel, key, value)| ((channel.into(), key.into()), json!(value)));
        assert_eq!(self.table, expected.collect::<BTreeMap<_, _>>());
        for (channel, key, value_) in truth {
            let target = format!("/pub/{}?key={key}", channel.replace('/', "%2F"));
            assert_eq!(value(server, &target), (200, value_.to_string()), "{target}");
        }
    }
}

/// An `EventSource` knows nothing but its last id, and listens to whatever matches a pattern.
#[test]
fn an_event_source_is_right_again_after_a_gap_of_its_pattern() {
    let server = Encke::start(&["--history-messages", "1", "--history-grace-seconds", "0"]);
    let set = |channel: &str, key: &str, number: i32| put(&server, channel, key, &number.to_string());
    set("q%2Fa", "A", 1);
    set("q%2Fa", "gone", 1);
    set("q%2Fb", "B", 1);
    set("other", "A", 1);
    let mut page = Page::open(&server);
    page.read_snapshot();
    page.shows(&server, &[("q/a", "A", 1), ("q/a", "gone", 1), ("q/b", "B", 1)]);
    // Without a gap: what has changed since.
    page.reconnect(&server, "q%2Fa", || _ = set("q%2Fb", "B", 2));
    page.read_until_key("B");
    assert!(page.gaps.is_empty(), "{:?}", page.gaps);
    // Of one channel, what has no key is lost; a key of it is removed, one of another changes, a channel comes.
    page.reconnect(&server, "q%2Fa", || {
        (0..3).for_each(|number| _ = server.publish("q%2Fa", number.to_string()));
        server.ask("DELETE", "/pub/q%2Fa?key=gone", &[], b"");
        set("q%2Fb", "B", 3);
        set("q%2Fc", "C", 1);
    });
    page.read_snapshot();
    assert_eq!(page.gaps, ["q/a"]);
    page.shows(&server, &[("q/a", "A", 1), ("q/b", "B", 3), ("q/c", "C", 1)]);
    // It goes on.
    set("q%2Fa", "A", 2);
    page.read_until_key("A");
    server.publish("q%2Fb", "no key");
    while page.others.is_empty() {
        page.read();
    }
    page.shows(&server, &[("q/a", "A", 2), ("q/b", "B", 3), ("q/c", "C", 1)]);
    // A channel is forgotten that its pattern matched: it may have been any, and everything begins anew.
    page.reconnect(&server, "q%2Fa", || {
        assert_eq!(server.ask("DELETE", "/pub/q%2Fa", &[], b"").status, 204);
        set("q%2Fc", "D", 1);
    });
    page.read_snapshot();
    assert_eq!(page.gaps, ["q/*"]);
    page.shows(&server, &[("q/b", "B", 3), ("q/c", "C", 1), ("q/c", "D", 1)]);
    // The line is cut again after the first value of the snapshot that follows such a gap.
    page.reconnect(&server, "q%2Fb", || {
        assert_eq!(server.ask("DELETE", "/pub/q%2Fb", &[], b"").status, 204);
        set("q%2Fa", "A", 3);
    });
    page.read_until_key("C");
    assert_eq!(page.gaps, ["q/*"]);
    page.reconnect(&server, "q%2Fc", || _ = set("q%2Fc", "E", 1));
    page.read_until_key("E");
    page.shows(&server, &[("q/a", "A", 3), ("q/c", "C", 1), ("q/c", "D", 1), ("q/c", "E", 1)]);
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
