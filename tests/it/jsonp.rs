//! JSONP: long polling for pages of other origins, answered by scripts.

use serde_json::{Value, json};

use crate::client::Answer;
use crate::harness::{Encke, PATIENCE};

/// The arguments of the call that a script consists of.
fn arguments(answer: &Answer, callback: &str) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.get("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(answer.get("x-content-type-options"), Some("nosniff"));
    let text = answer.text();
    let list = text.strip_prefix(&format!("/**/{callback}(")).and_then(|rest| rest.strip_suffix(");"));
    serde_json::from_str(&format!("[{}]", list.unwrap_or_else(|| panic!("{text:?}")))).unwrap()
}

#[test]
fn waiting_messages_come_at_once_and_new_ones_when_they_come() {
    let server = Encke::start(&[]);
    let ids = ["1", "2"].map(|text| server.publish("x", text));
    let answer = server.get("/sub/x?as=jsonp&callback=my.app.$take&after=oldest", &["Accept: */*"]);
    let got = arguments(&answer, "my.app.$take");
    assert_eq!(got[0][0], json!({"id": ids[0], "channel": "x", "data": "1"}));
    assert_eq!((&got[0][1]["data"], &got[1], got.len()), (&json!("2"), &json!(ids[1]), 2));
    let target = format!("/sub/x?as=jsonp&callback=f&after={}", ids[1]);
    let mut polls = [1, 2].map(|count| server.park(&target, &[], "x", count));
    let id = server.publish("x", "3");
    for poll in &mut polls {
        let answer = poll.answer();
        assert_eq!(arguments(&answer, "f")[1], json!(id));
        assert_eq!(answer.get("encke-next"), Some(&*id));
        // The connection serves on, and other polls get no script.
        poll.request("GET", "/sub/x?after=oldest", &[], b"");
        assert!(poll.answered_within(PATIENCE));
        assert_eq!(poll.answer().text(), "1");
    }
}

#[test]
fn no_news_are_a_script_too() {
    let server = Encke::start(&[]);
    let start = server.publish("x", "1");
    let answer = server.get("/sub/x?as=jsonp&callback=f&timeout=1", &[]);
    assert_eq!(answer.text(), format!("/**/f([],\"{start}\");"));
}

#[test]
fn what_could_end_a_script_is_escaped() {
    let server = Encke::start(&[]);
    let nasty = "</script><!-- \u{2028}\u{2029} <script>";
    server.publish("x", nasty);
    server.admin().publish("x", &["Content-Type: application/json"], b"{\"a\":\"</script>\"}");
    let answer = server.get("/sub/x?as=jsonp&callback=f&after=oldest", &[]);
    let text = answer.text();
    assert!(!text.contains(['<', '\u{2028}', '\u{2029}']), "{text}");
    let got = arguments(&answer, "f");
    assert_eq!((&got[0][0]["data"], &got[0][1]["data"]["a"]), (&json!(nasty), &json!("</script>")));
}

#[test]
fn a_gap_is_the_third_argument() {
    let server = Encke::start(&["--history-messages", "1", "--history-grace-seconds", "0"]);
    let first = server.publish("x", "1");
    server.publish("x", "2");
    server.publish("x", "3");
    let answer = server.get(&format!("/sub/x?as=jsonp&callback=f&after={first}"), &[]);
    let got = arguments(&answer, "f");
    assert_eq!((&got[0][0]["data"], &got[2], got.len()), (&json!("3"), &json!(true), 3));
}

#[test]
fn a_callback_that_is_no_name_is_refused() {
    let server = Encke::start(&[]);
    for query in
        ["", "&callback=", "&callback=alert(1)", "&callback=a..b", "&callback=1a", "&callback=%3Cscript%3E"]
    {
        assert_eq!(server.get(&format!("/sub/x?as=jsonp{query}"), &[]).status, 400, "{query}");
    }
    let long = "x".repeat(65);
    assert_eq!(server.get(&format!("/sub/x?as=jsonp&callback={long}"), &[]).status, 400);
}

#[test]
fn pages_that_may_not_read_get_no_script() {
    let server = Encke::start(&["--cors-origins", "https://app.example"]);
    server.publish("x", "1");
    let check = |fields: &[&str], status| {
        let answer = server.get("/sub/x?as=jsonp&callback=f&after=oldest", fields);
        assert_eq!(answer.status, status, "{fields:?}");
    };
    check(&[], 403);
    check(&["Referer: https://evil.example/https://app.example"], 403);
    check(&["Referer: https://app.example.evil.example/"], 403);
    check(&["Sec-Fetch-Site: cross-site"], 403);
    check(&["Referer: https://app.example/page?x"], 200);
    check(&["Referer: http://localhost/page"], 200);
    check(&["Sec-Fetch-Site: same-origin"], 200);
}

#[test]
fn old_clients_and_head() {
    let server = Encke::start(&[]);
    server.publish("x", "1");
    let mut old = server.connect();
    old.send("GET /sub/x?as=jsonp&callback=f&after=oldest HTTP/1.0\r\n\r\n");
    let answer = old.answer();
    assert_eq!(arguments(&answer, "f").len(), 2);
    old.closed();
    let mut head_only = server.connect();
    head_only.request("HEAD", "/sub/x?as=jsonp&callback=f", &["Connection: close"], b"");
    let head = head_only.head();
    assert_eq!((head.status, head.media_type()), (200, "text/javascript"));
    head_only.closed();
}
