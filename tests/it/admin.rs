//! `/admin`: what operators are told, and who is not.

use crate::harness::{Encke, until};
use serde_json::{Value, json};
use std::process::Command;

/// The rows of a list, over all its parts.
fn all(server: &Encke, list: &str, place: &str, search: &str) -> Vec<Value> {
    let (mut rows, mut next) = (Vec::new(), String::new());
    loop {
        let part = server.json(&format!("/admin/{list}?search={search}&{place}={next}"));
        rows.extend(part[list].as_array().unwrap().iter().cloned());
        match &part["next"] {
            Value::Null => return rows,
            Value::String(name) => next = name.clone(),
            number => next = number.to_string(),
        }
    }
}

#[test]
fn figures_come_each_second_by_a_stream_of_the_servers_own() {
    let server = Encke::start(&[]);
    let (_, mut everything) = server.open("/sub/**?as=stream&after=now", &[]);
    let (_, mut live) = server.open("/admin/live", &[]);
    let first = live.envelope();
    let second = live.envelope();
    for told in [&first, &second] {
        let state = &told["data"];
        assert_eq!(state["clients"]["stream"], 2);
        assert_eq!(
            state["deliveries"].as_array().unwrap().len(),
            state["bounds_us"].as_array().unwrap().len() + 1
        );
        assert!(state["counters"]["requests"].as_u64().unwrap() >= 2);
    }
    assert!(second["data"]["uptime_seconds"].as_u64() >= first["data"]["uptime_seconds"].as_u64());
    // Nobody else is told, whatever they ask for.
    server.publish("x", "for all");
    assert_eq!(everything.envelope()["data"], "for all");
    assert_eq!(server.json("/pub/").as_array().unwrap().len(), 1);
    let past = server.json("/admin/history");
    assert_eq!(past["columns"].as_array().unwrap().len(), past["rows"][0].as_array().unwrap().len());
}

#[test]
fn channels_are_listed_in_parts_and_looked_at() {
    let server = Encke::start(&[]);
    for number in 0..250 {
        server.publish(&format!("many/{number:03}"), "1");
    }
    server.admin().publish("quotes", &["Encke-Key: a", "Content-Type: application/json"], b"{\"last\":1}");
    server.admin().publish("quotes", &["Encke-Key: a", "Content-Type: application/json"], b"{\"last\":2}");
    assert_eq!(server.json("/admin/channels")["channels"].as_array().unwrap().len(), 100);
    assert_eq!(all(&server, "channels", "after", "").len(), 251);
    assert_eq!(all(&server, "channels", "after", "many/").len(), 250);
    assert_eq!(all(&server, "channels", "after", "y/24").len(), 10);
    let quotes = server.json("/admin/channels/quotes");
    assert_eq!((&quotes["messages"], quotes["recent"].as_array().unwrap().len()), (&2.into(), 2));
    assert_eq!(
        (&quotes["values"][0]["key"], &quotes["values"][0]["data"]),
        (&"a".into(), &"{\"last\":2}".into())
    );
    assert_eq!(server.get("/admin/channels/nowhere", &[]).status, 404);
    assert_eq!(server.get("/admin/channels/..", &[]).status, 400);
}

#[test]
fn a_connection_is_found_looked_at_and_ended() {
    let server = Encke::start(&[]);
    let (_, mut stream) = server.open("/sub/found/here,b?as=stream", &[]);
    let _poll = server.park("/sub/other?as=poll", &[], "other", 1);
    let found = all(&server, "connections", "from", "found/h");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(all(&server, "connections", "from", "poll").len(), 1);
    assert_eq!((&found[0]["does"], &found[0]["channels_all"]), (&"stream".into(), &2.into()));
    let (id, peer) = (found[0]["id"].as_str().unwrap(), found[0]["peer"].as_str().unwrap());
    let by_id = server.json(&format!("/admin/connections/{id}"));
    let by_peer = server.json(&format!("/admin/connections/{peer}"));
    for told in [&by_id, &by_peer] {
        assert_eq!((&told["id"], &told["peer"], &told["does"]), (&id.into(), &peer.into(), &"stream".into()));
        assert_eq!((&told["unsent_bytes"], &told["subscriber"]["lacks"]), (&0.into(), &0.into()));
        assert!(told["tcp"]["round_trip_us"].as_u64().unwrap() > 0, "{told}");
    }
    let said = Command::new(env!("CARGO_BIN_EXE_encke"))
        .args(["why", peer, "--url", &server.url("")])
        .output()
        .unwrap();
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(text.contains("does: stream\n") && text.contains("channels: b, found/here\n"), "{text}");
    assert_eq!(server.ask("DELETE", &format!("/admin/connections/{id}"), &[], b"").status, 204);
    stream.rest();
    until("it is gone", || all(&server, "connections", "from", "found").is_empty().then_some(()));
    assert_eq!(server.get(&format!("/admin/connections/{id}"), &[]).status, 404);
    let (_, _again) = server.open("/sub/again?as=stream", &[]);
    let again = &all(&server, "connections", "from", "again")[0];
    let told = server.json(&format!("/admin/connections/{}", again["id"].as_str().unwrap()));
    assert_eq!(told["last_closed_of_address"]["why"], "ended by an operator", "{told}");
    assert_eq!(told["near_limits"].as_array().unwrap().len(), 0, "{told}");
    assert_eq!(server.get("/admin/connections/nonsense", &[]).status, 400);
    assert_eq!(server.get("/admin/nowhere", &[]).status, 404);
}

#[test]
fn a_limit_that_is_near_is_named() {
    for (limit, count, expected) in [("5", 3, json!(["limits.connections: 4 of 5"])), ("4", 1, json!([]))] {
        let server = Encke::start(&["--limits-connections", limit]);
        let _streams: Vec<_> = (0..count).map(|_| server.open("/sub/a?as=stream", &[])).collect();
        // Whoever asks is one more, as long as it asks by one connection.
        let mut client = server.connect();
        let found = client.get("/admin/connections?search=stream", &[]).json();
        let id = found["connections"][0]["id"].as_str().unwrap();
        let told = client.get(&format!("/admin/connections/{id}"), &[]).json();
        assert_eq!(told["near_limits"], expected, "{told}");
    }
}

#[test]
fn it_is_not_for_everybody() {
    let paths =
        ["/admin", "/admin/now", "/admin/live", "/admin/connections", "/admin/channels", "/admin/history"];
    let server = Encke::start(&["--admin-listen", "127.0.0.1:0"]);
    for path in paths {
        assert_eq!(server.get(path, &[]).status, 404, "{path} is on the admin listener only");
    }
    assert_eq!(server.admin().ask("GET", "/admin", &[], b"").media_type(), "text/html");
    assert_eq!(server.admin().ask("GET", "/admin/now", &[], b"").status, 200);
    let server =
        Encke::start_with_environment(&[("ENCKE_PUBLISH_TOKEN", "a-token-that-is-long-enough")], &[]);
    for path in &paths[1..] {
        assert_eq!(server.get(path, &[]).status, 401, "{path}");
        if *path != "/admin/live" {
            let with = ["Authorization: Bearer a-token-that-is-long-enough"];
            assert_eq!(server.get(path, &with).status, 200, "{path}");
        }
    }
    let server = Encke::start(&[]);
    for field in ["X-Forwarded-For: 192.0.2.1", "Origin: http://evil.example", "Sec-Fetch-Site: cross-site"] {
        for path in &paths[1..] {
            assert_eq!(server.get(path, &[field]).status, 403, "{path} {field}");
        }
        assert_eq!(server.ask("DELETE", "/admin/connections/0.1", &[field], b"").status, 403);
    }
}
