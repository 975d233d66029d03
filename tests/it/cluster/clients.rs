//! What clients see of several servers: one history, whichever they ask.

use serde_json::json;

use super::*;
use crate::fdajax::{Page, Site};
use crate::harness::parts;
use crate::{access, mercure};
use std::time::{SystemTime, UNIX_EPOCH};

#[test]
fn one_history_on_every_server() {
    let redis = Redis::start(&[]);
    let (one, other) = (node(&redis.url(), &[]), node(&redis.url(), &[]));
    let (_, mut stream) = other.open("/sub/a?as=stream&after=now", &[]);
    let id = one.publish("a", "hello");
    assert_eq!(parts(&id).0, other.json("/stats")["epoch"].as_str().unwrap());
    assert!((stream.envelope()["data"] == "hello"), "what is published on one is seen on the other");
    // A key is one on all.
    let key = ["Idempotency-Key: k"];
    let first = one.ask("POST", "/pub/a", &key, b"once");
    let second = other.ask("POST", "/pub/a", &key, b"once");
    assert_eq!((first.status, first.json()["id"].clone()), (202, second.json()["id"].clone()));
    assert_eq!(other.ask("POST", "/pub/a", &key, b"another").status, 422);
    assert_eq!(one.ask("POST", "/pub/a", &key, b"another").status, 422);
    // Numbers of a batch are known on both.
    let batch = one.ask(
        "POST",
        "/pub",
        &["Content-Type: application/x-ndjson"],
        b"{\"channel\":\"a\",\"data\":1}\n{\"channel\":\"b\",\"data\":2}\n",
    );
    let ids: Vec<u64> =
        batch.json().as_array().unwrap().iter().map(|one| seq(one["id"].as_str().unwrap())).collect();
    assert_eq!(ids[1], ids[0] + 1);
    until("the other has them", || (other.history("b") == ["2"]).then_some(()));
    // Values of keys, and removals.
    let value = |node: &Encke| node.get("/pub/prices?key=x", &[]);
    let put = one.ask("PUT", "/pub/prices?key=x", &["Content-Type: application/json"], b"{\"bid\":1}");
    assert!(matches!(put.status, 200..=202), "{}", put.text());
    until("the other has the value", || (value(&other).status == 200).then_some(()));
    assert_eq!(other.ask("DELETE", "/pub/prices?key=x", &[], b"").status, 200);
    until("the value is gone", || (value(&one).status == 404).then_some(()));
    // A deletion is one on all.
    assert_eq!(other.ask("DELETE", "/pub/b", &[], b"").status, 204);
    until("it is gone", || one.history("b").is_empty().then_some(()));
    // Who comes late has it all.
    let late = node(&redis.url(), &[]);
    well(&late);
    assert_eq!(late.history("a"), one.history("a"));
    assert!(late.history("b").is_empty());
    assert_eq!(late.ask("POST", "/pub/a", &key, b"once").json()["id"], first.json()["id"]);
    until("all know of each other", || (late.json("/stats")["engine_nodes"] == 3).then_some(()));
    drop(other);
    drop(one);
    until("who is gone is gone", || (late.json("/stats")["engine_nodes"] == 1).then_some(()));
}

#[test]
fn latest_values_are_those_of_every_server() {
    let redis = Redis::start(&[]);
    let (one, other) = (node(&redis.url(), &[]), node(&redis.url(), &[]));
    [&one, &other].into_iter().for_each(well);
    let put = |node: &Encke, key: &str, value: &str| {
        let answer = node.ask(
            "PUT",
            &format!("/pub/prices?key={key}"),
            &["Content-Type: application/json"],
            value.as_bytes(),
        );
        assert!(matches!(answer.status, 200..=202), "{}", answer.text());
    };
    put(&one, "x", r#"{"bid":1,"ask":2}"#);
    put(&one, "y", r#"{"bid":5}"#);
    until("the other has both", || (other.get("/pub/prices?key=y", &[]).status == 200).then_some(()));
    let (_, mut stream) = other.open("/sub/prices?as=stream&latest", &[]);
    let mut next = || loop {
        let line = stream.line();
        match serde_json::from_str::<Value>(&line) {
            Ok(line) if line.get("key").is_some() => return line,
            _ => {}
        }
    };
    let table = [next(), next()].map(|line| (line["key"].clone(), line["data"].clone()));
    assert_eq!(table, [(json!("x"), json!({"bid": 1, "ask": 2})), (json!("y"), json!({"bid": 5}))]);
    // A patch on one is made of what the other has put there, and who listens to the other sees the whole.
    let merge = ["Content-Type: application/merge-patch+json"];
    let patched = one.ask("PATCH", "/pub/prices?key=x", &merge, br#"{"bid":3}"#);
    assert_eq!(patched.status, 202, "{}", patched.text());
    let line = next();
    assert_eq!((&line["key"], &line["data"]), (&json!("x"), &json!({"bid": 3, "ask": 2})), "{line}");
    // A condition holds on the other, too.
    let stale = other.ask("DELETE", "/pub/prices?key=y", &["If-Match: \"0:1\""], b"");
    assert_eq!(stale.status, 412, "{}", stale.text());
    assert_eq!(other.ask("DELETE", "/pub/prices?key=y", &[], b"").status, 200);
    let line = next();
    assert_eq!((&line["key"], &line["removed"]), (&json!("y"), &json!(true)), "{line}");
    until("one has removed it", || (one.get("/pub/prices?key=y", &[]).status == 404).then_some(()));
    // Who starts now has the same table.
    let late = node(&redis.url(), &[]);
    well(&late);
    let table = late.get("/sub/prices?latest", JSON).json();
    assert_eq!(data(&table), [r#"{"ask":2,"bid":3}"#.to_owned()], "{table}");
    // Their positions are good on any of them.
    let place = table["next"].as_str().unwrap().to_owned();
    put(&late, "x", r#"{"bid":7}"#);
    until("one has it", || one.get("/pub/prices?key=x", &[]).text().contains('7').then_some(()));
    let rest = one.get(&format!("/sub/prices?latest&after={place}"), JSON).json();
    assert_eq!((data(&rest), &rest["gap"]), (vec![r#"{"bid":7}"#.to_owned()], &json!(false)), "{rest}");
}

#[test]
fn a_right_that_is_taken_back_is_gone_on_every_server() {
    let redis = Redis::start(&[]);
    let folder = access::settings("cluster", access::CHAT, access::KEY);
    let file = folder.join("encke.toml");
    let start = || {
        let node = node(&redis.url(), &["--config", file.to_str().unwrap()]);
        well(&node);
        node
    };
    let token = |subject: &str| {
        let make = ["token", "--config", "encke.toml", "--key", "app.key", "--subject", subject];
        let made = access::encke(
            &folder,
            &[&make[..], &["--subscribe", "chat/*", "--publish", "chat/*", "--expires", "1h"]].concat(),
        );
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        format!("Authorization: Bearer {}", String::from_utf8(made.stdout).unwrap().trim())
    };
    let (alice, bob) = (token("alice"), token("bob"));
    let (one, other) = (start(), start());
    let listen = |node: &Encke, token: &str| node.get("/sub/chat/a?as=interval", &[token]).status;
    let (_, mut stream) = other.open("/sub/chat/a?as=stream", &[&alice]);
    let (_, mut stays) = other.open("/sub/chat/a?as=stream", &[&bob]);
    let revoked = one.ask("POST", "/revoke", &["Content-Type: application/json"], br#"{"subject":"alice"}"#);
    assert_eq!(revoked.status, 200, "{}", revoked.text());
    assert_eq!(revoked.json()["durable"], true, "{}", revoked.text());
    let end = String::from_utf8_lossy(&stream.rest()).into_owned();
    assert!(end.contains("revoked"), "who listens to the other is told: {end}");
    for node in [&one, &other] {
        assert_eq!((listen(node, &alice), listen(node, &bob)), (401, 304));
    }
    // So it is on a server that starts later, and on one that meets an engine which has forgotten it.
    let late = start();
    assert_eq!((listen(&late, &alice), listen(&late, &bob)), (401, 304));
    redis.ask(&["FLUSHALL"]);
    until("they have found it again", || (redis.ask(&["EXISTS", "{encke}:revoked"]) == "1").then_some(()));
    let later = start();
    assert_eq!((listen(&later, &alice), listen(&later, &bob)), (401, 304));
    one.admin().publish("chat/a", &[&bob], b"hello");
    until("the other stream goes on", || stays.line().contains("hello").then_some(()));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn updates_of_mercure_have_one_history() {
    let redis = Redis::start(&[]);
    let url = redis.url();
    let start = || {
        let hub = mercure::hub(&["--mercure-anonymous", "--engine-url", &url]);
        well(&hub);
        hub
    };
    let (one, other) = (start(), start());
    let (_, mut open) = other.open(&mercure::target(&["/books/{id}"], ""), &[]);
    let grant = mercure::bearer(&mercure::subscriber(&["/books/2"]));
    let (_, mut granted) = other.open(&mercure::target(&["/books/{id}"], ""), &[&grant]);
    let first = mercure::publish(
        &one,
        &[("topic", "/books/1"), ("topic", "/authors/7"), ("id", "urn:first"), ("data", "1")],
    );
    assert_eq!(first, "urn:first");
    let private = mercure::publish(&one, &[("topic", "/books/2"), ("private", "on"), ("data", "2")]);
    let third = mercure::publish(&other, &[("topic", "/books/3"), ("type", "new"), ("data", "3")]);
    let seen = |client: &mut crate::client::Client| {
        let event = mercure::event(client);
        (event.id, event.event, event.data)
    };
    let told = |id: &str, kind: &str, data: &str| (id.to_owned(), kind.to_owned(), data.to_owned());
    let all = [told("urn:first", "", "1"), told(&private, "", "2"), told(&third, "new", "3")];
    assert_eq!([seen(&mut granted), seen(&mut granted), seen(&mut granted)], all);
    assert_eq!([seen(&mut open), seen(&mut open)], [all[0].clone(), all[2].clone()]);
    // The id that a publisher chose, and the other topic, are as good on any server, also on one that starts now.
    let late = start();
    for node in [&one, &other, &late] {
        let after = ["Last-Event-ID: urn:first", &grant];
        let (head, mut client) = node.open(&mercure::target(&["/books/{id}"], ""), &after);
        assert_eq!(head.get("last-event-id"), Some("urn:first"));
        assert_eq!([seen(&mut client), seen(&mut client)], all[1..]);
        let before = format!("Last-Event-ID: {}:0", third.split(':').next().unwrap());
        let (_, mut client) = node.open(&mercure::target(&["/authors/7"], ""), &[&before]);
        assert_eq!(seen(&mut client), all[0]);
    }
}

/// What its sender wants of a message goes with it: a number is known only when Redis has given it.
#[test]
fn what_no_window_of_fdajax_wants_is_kept_as_its_sender_says() {
    let redis = Redis::start(&[]);
    let [site, other] = [(); 2].map(|()| Site::start(&["--engine-url", &redis.url()]));
    for site in [&site, &other] {
        well(&site.server);
        site.login(1);
    }
    let push = |site: &Site, types: &str, text: &str| {
        assert_eq!(site.admin(&format!("cmd=push&peer_id=1&types={types}&mes={text}")), "CMD_OK");
        until("it is read", || {
            other.server.history("fdajax/users/1").contains(&text.to_owned()).then_some(())
        });
        until("it is read", || {
            site.server.history("fdajax/users/1").contains(&text.to_owned()).then_some(())
        });
    };
    push(&site, "ord&amode=1", "one");
    push(&other, "chat&amode=1", "two");
    push(&site, "ord", "three");
    // The window that asks for what nobody wanted is told of each once, and so is one that takes some of them itself.
    let since = || format!("sec={}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - 60);
    for site in [&site, &other] {
        let mut page = site.page(1).at("www1.example.com");
        let mut told = Vec::new();
        while told.len() < 4 {
            let query = format!("cmd=wait&user_id=1&win_id=11&types=ord|unw&{}", since());
            told.extend(page.get(&query).lines().map(str::to_owned));
        }
        assert_eq!(told, ["one", "unw.two", "js_alert_id_func(1);", "unw.three"]);
        let mut new = site.page(1).at("www2.example.com");
        assert_eq!(
            new.get(&format!("cmd=wait&user_id=1&win_id=12&types=chat|unw&{}", since())),
            "two\njs_alert_id_func(1);\nunw.three"
        );
    }
    let mut pages = [&site, &other].map(|site| {
        let mut page = site.page(1).at("www1.example.com");
        page.send("cmd=wait&user_id=1&win_id=11&types=ord|unw");
        site.window(11, "open");
        page
    });
    push(&site, "ord&amode=1", "end");
    assert_eq!(pages.each_mut().map(Page::text), ["end", "end"], "nothing is left of them");
}
