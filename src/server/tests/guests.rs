//! Guests of the demo's chat at the door: a token for whoever keeps a secret, good there and nowhere else.

use super::access::{NOW, config, has, status, with};
use super::bench::Bench;
use crate::broker::{GUESTS, GUESTS_BY_ONE};
use crate::config::{Config, Shows, Who};
use serde_json::Value;

const SECRET: &str = "the secret of a page";

/// Only the demo is switched on.
fn plain() -> Config {
    let mut config = Config { demo: true, ..Config::default() };
    config.limits.exempt = Vec::new();
    config
}

/// An application with rules and keys of its own, too, where everybody who listens to the wall is shown.
fn both() -> Config {
    let mut config = Config { demo: true, ..config() };
    config.channels[2].presence = Shows::Subjects;
    config
}

impl Bench {
    fn ask_for_guest(&mut self, body: &str) -> String {
        self.post_with("/demo/guest", "", body)
    }

    /// The token and the id of a guest.
    fn guest(&mut self, secret: &str, name: &str) -> (String, String) {
        let answer = self.ask_for_guest(&serde_json::json!({ "secret": secret, "name": name }).to_string());
        has(&answer, &["HTTP/1.1 200 OK", "Cache-Control: no-store"]);
        let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        (text("token"), text("id"))
    }

    /// Who is on a channel, as somebody with these fields is told.
    fn who(&mut self, channel: &str, fields: &str) -> String {
        let answer = self.get_with(&format!("/presence/{channel}"), fields);
        status(&answer, 200);
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}

#[test]
fn guests_see_each_other_come_and_leave() {
    for config in [plain(), both()] {
        let mut bench = Bench::new(config);
        let (johann, id) = bench.guest(SECRET, "Johann");
        let (caroline, _) = bench.guest("the secret of another", "Caroline");
        let (watcher, _) = bench.socket("/sub/encke/presence/demo/chat/lobby?latest", &with(&caroline));
        let (socket, opened) = bench.socket("/sub/demo/chat/lobby", &with(&johann));
        status(&opened, 101);
        let told = format!(r#""key":"{id}","data":{{"id":"{id}","info":{{"name":"Johann"}}}}"#);
        has(&bench.heard(watcher), &[&told]);
        // Another tab is the same guest, by another technique and name.
        let (again, _) = bench.guest(SECRET, "Jo");
        let second = bench.subscriber(&format!("demo/chat/lobby?as=stream&access_token={again}"));
        bench.turn();
        has(&bench.heard(watcher), &[&format!(r#""key":"{id}""#), r#""name":"Jo""#]);
        let members = format!(r#"[{{"id":"{id}","info":{{"name":"Jo"}},"connections":2}}]"#);
        let here = format!(r#"{{"channel":"demo/chat/lobby","count":1,"anonymous":0,"members":{members}}}"#);
        assert_eq!(bench.who("demo/chat/lobby", ""), format!("{here}\n"), "and that is no secret");
        // An open socket takes another name, too, and stays the same guest.
        let (renewed, _) = bench.guest(SECRET, "Johann");
        has(&bench.tell(socket, &format!(r#"{{"token":"{renewed}","ref":1}}"#)), &["\"expires\":"]);
        has(&bench.heard(watcher), &[r#""name":"Johann""#]);
        has(&bench.tell(socket, &format!(r#"{{"token":"{caroline}","ref":2}}"#)), &["another subject"]);
        for id in [socket, second] {
            bench.server.reset(bench.world.now, id);
        }
        bench.turn();
        bench.seconds(9);
        assert_eq!(bench.heard(watcher), "");
        bench.seconds(2);
        has(&bench.heard(watcher), &[&format!(r#""key":"{id}","removed":true"#)]);
        has(&bench.who("demo/chat/lobby", ""), &["\"count\":0"]);
    }
}

#[test]
fn what_a_page_may_say_of_a_guest() {
    let mut bench = Bench::new(plain());
    for body in [
        "",
        "[]",
        "{}",
        r#"{"secret":"the secret of a page"}"#,
        r#"{"secret":"too short","name":"x"}"#,
        r#"{"secret":"the secret of a page","name":""}"#,
        r#"{"secret":"the secret of a page","name":"a\u0007"}"#,
        r#"{"secret":"the secret of a page","name":7}"#,
        r#"{"secret":"the secret of a page","name":"x","sub":"alice"}"#,
        r#"{"secret":"the secret of a page","name":"x","name":"y"}"#,
    ] {
        let answer = bench.ask_for_guest(body);
        status(&answer, 400);
        assert!(!answer.contains("secret of a page"), "{answer}");
        bench.seconds(1);
    }
    let long = "é".repeat(41);
    status(&bench.ask_for_guest(&format!(r#"{{"secret":"{SECRET}","name":"{long}"}}"#)), 400);
    status(&bench.get_with("/demo/guest", ""), 405);
    let head = "POST /demo/guest HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n";
    status(&bench.says(&format!("{head}Expect: 100-continue\r\n\r\n")), 100);
    status(&bench.says(&format!("{head}Expect: 100-continue\r\nContent-Encoding: gzip\r\n\r\n")), 415);
    has(
        &bench.says("OPTIONS /demo/guest HTTP/1.1\r\nHost: x\r\nOrigin: http://a\r\nAccess-Control-Request-Method: POST\r\n\r\n"),
        &["204", "Allow: POST, OPTIONS"],
    );
    // Without a demo there are no guests, and nothing is shown.
    let mut bench = Bench::new(config());
    status(&bench.ask_for_guest(&format!(r#"{{"secret":"{SECRET}","name":"x"}}"#)), 404);
    status(&bench.get_with("/presence/demo/chat/lobby", &with("application-token-1")), 404);
}

#[test]
fn no_more_guests_come_than_the_limits_say() {
    let mut bench = Bench::new(plain());
    let body = format!(r#"{{"secret":"{SECRET}","name":"x"}}"#);
    let request =
        format!("POST /demo/guest HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let welcomed = |bench: &mut Bench, address: [u8; 4], times: u32| {
        let id = bench.connect_from(address).unwrap();
        (0..times)
            .map(|_| {
                bench.send(id, &request);
                bench.turn();
                let answer = bench.heard(id);
                match answer.starts_with("HTTP/1.1 429 ") {
                    true => has(&answer, &["Retry-After: 1", "too many guests"]),
                    false => status(&answer, 200),
                }
                u32::from(answer.contains("200 OK"))
            })
            .sum::<u32>()
    };
    bench.seconds(1);
    assert_eq!(welcomed(&mut bench, [192, 0, 2, 1], GUESTS_BY_ONE + 1), GUESTS_BY_ONE);
    assert_eq!(welcomed(&mut bench, [192, 0, 2, 2], 1), 1);
    let addresses = 3..=(GUESTS / GUESTS_BY_ONE) as u8 + 3;
    let others: u32 = addresses.map(|last| welcomed(&mut bench, [192, 0, 2, last], GUESTS_BY_ONE)).sum();
    assert_eq!(others, GUESTS - GUESTS_BY_ONE - 1, "and all together no more than {GUESTS}");
    bench.seconds(1);
    assert_eq!(welcomed(&mut bench, [192, 0, 2, 1], 1), 1);
}

#[test]
fn a_guest_is_nobody_elsewhere() {
    let mut bench = Bench::new(both());
    let (guest, id) = bench.guest(SECRET, "Johann");
    let fields = with(&guest);
    for target in [
        "/sub/wall/a",
        "/sub/chat/lobby",
        "/sub/ops/a",
        "/sub/news",
        "/sub/demo/ticks",
        "/sub/demo/**",
        "/sub/demo/chat/lobby,wall/a",
        "/sub/encke/presence/wall/a",
        "/sub/**",
        "/presence/wall/a",
    ] {
        has(&bench.get_with(target, &fields), &["403 Forbidden", "error=\"insufficient_scope\""]);
    }
    for target in ["/pub/wall/a", "/pub/chat/lobby", "/pub/ops/a", "/pub/news", "/pub/demo/ticks"] {
        status(&bench.post_with(target, &fields, "x"), 403);
    }
    has(&bench.post_with("/revoke", &fields, r#"{"subject":"alice"}"#), &["403", "insufficient_scope"]);
    status(&bench.post_with("/pub/demo/chat/lobby", &fields, "x"), 202);
    let lines = "{\"channel\":\"demo/chat/lobby\",\"data\":1}\n{\"channel\":\"wall/a\",\"data\":1}\n";
    has(
        &bench.post_with("/pub", &format!("{fields}Content-Type: application/x-ndjson\r\n"), lines),
        &["403", "line 2"],
    );
    // Who shows nothing may go on, and is shown without a name: what a guest may not, others still may.
    let (socket, _) = bench.socket("/sub/wall/a", "");
    status(&bench.post_with("/pub/wall/a", "", "x"), 201);
    bench.heard(socket);
    // On an open socket, what is not the guest's ends.
    let told = bench.tell(socket, &format!(r#"{{"token":"{guest}","ref":1}}"#));
    has(&told, &[r#"{"revoked":true,"channels":["wall/a"]}"#, "\"expires\""]);
    has(&bench.tell(socket, r#"{"subscribe":["wall/a"],"ref":2}"#), &["is not granted"]);
    has(&bench.tell(socket, r#"{"subscribe":["demo/chat/lobby"],"ref":3}"#), &["\"ok\""]);
    has(&bench.tell(socket, r#"{"publish":{"channel":"wall/a","data":1},"ref":4}"#), &["is not granted"]);
    has(&bench.who("demo/chat/lobby", ""), &[&id]);
    has(&bench.who("wall/a", &with("application-token-1")), &["\"count\":0,\"anonymous\":0,\"members\":[]"]);
    // A cookie is no way to be one.
    let cookie = format!("Cookie: t={guest}\r\nOrigin: https://app.example\r\n");
    status(&bench.get_with("/sub/demo/chat/lobby?as=interval", &cookie), 401);
}

#[test]
fn a_bearer_means_what_it_meant() {
    // To the demo alone it means nothing, unless it says that it is a guest's.
    let mut bench = Bench::new(plain());
    let jwt = super::access::token("alice", NOW + 60, &["**"], &["**"]);
    for shown in ["opaque", &jwt, "guest.of.somebody", "ENCKE-GUEST.a.b", "encke-guests.a.b", ""] {
        for target in ["/sub/news?as=interval", "/sub/demo/chat/lobby?as=interval"] {
            let answer = bench.get_with(target, &with(shown));
            assert!(!answer.starts_with("HTTP/1.1 401 "), "{shown}: {answer}");
        }
    }
    for shown in ["encke-guest.a.b", "encke-guest."] {
        has(&bench.get_with("/sub/demo/chat/lobby", &with(shown)), &["401", "error=\"invalid_token\""]);
    }
    // An application that is asked is given all others.
    let mut config = plain();
    config.channels =
        vec![super::access::rule("room/**", Who::Hook, None), super::access::rule("**", Who::Anyone, None)];
    config.hook.url = Some("http://127.0.0.1:1/".into());
    config.hook.headers = vec!["authorization".into()];
    let mut bench = Bench::new(config);
    bench.subscriber("room/1");
    let id = bench.connect();
    bench.send(id, "GET /sub/room/1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer opaque\r\n\r\n");
    bench.turn();
    assert_eq!(bench.asked.len(), 2, "both are asked about");
    let (guest, _) = bench.guest(SECRET, "Johann");
    status(&bench.get_with("/sub/room/1", &with(&guest)), 403);
    assert_eq!(bench.asked.len(), 2, "and a guest is not");
    status(&bench.get_with("/sub/demo/chat/lobby?as=interval", &with(&guest)), 304);
    // To a server without a demo it is a bad token.
    let mut bench = Bench::new(super::access::config());
    has(&bench.get_with("/sub/demo/chat/lobby", &with(&guest)), &["401", "error=\"invalid_token\""]);
}

#[test]
fn who_makes_guests_up_is_told_to_wait() {
    let mut config = plain();
    config.limits.tokens_refused_per_second = 3;
    let mut bench = Bench::new(config);
    let statuses: Vec<String> = (0..5)
        .map(|number| {
            bench.get_with("/sub/demo/chat/a", &with(&format!("encke-guest.{number}.x")))[9..12].to_owned()
        })
        .collect();
    assert_eq!(statuses, ["401", "401", "401", "429", "429"]);
}

#[test]
fn a_guest_ends_with_the_token_and_when_it_is_taken_back() {
    let mut bench = Bench::new(plain());
    let (guest, id) = bench.guest(SECRET, "Johann");
    let (socket, _) = bench.socket("/sub/demo/chat/lobby", &with(&guest));
    has(&bench.post_with("/revoke", "", &format!(r#"{{"subject":"{id}"}}"#)), &["\"ended\":1"]);
    has(&bench.heard(socket), &["\"revoked\":true"]);
    has(&bench.get_with("/sub/demo/chat/lobby", &with(&guest)), &["401", "revoked"]);
    bench.seconds(1);
    let (guest, _) = bench.guest(SECRET, "Johann");
    let (socket, _) = bench.socket("/sub/demo/chat/lobby", &with(&guest));
    bench.seconds(900 + 29);
    assert!(!bench.heard(socket).contains("expired"));
    bench.seconds(2);
    has(&bench.heard(socket), &["\"expired\":true"]);
    has(&bench.get_with("/sub/demo/chat/lobby", &with(&guest)), &["401", "expired"]);
}

#[test]
fn the_next_process_knows_its_guests() {
    let mut bench = Bench::new(both());
    let (guest, id) = bench.guest(SECRET, "Johann");
    let (socket, _) = bench.socket("/sub/demo/chat/lobby", &with(&guest));
    super::handover::adopt(&mut bench);
    bench.turn();
    has(&bench.who("demo/chat/lobby", ""), &[&id, "\"connections\":1"]);
    assert_eq!(bench.guest(SECRET, "Johann").1, id);
    has(&bench.tell(socket, &format!(r#"{{"token":"{guest}","ref":1}}"#)), &["\"expires\""]);
    has(&bench.tell(socket, r#"{"subscribe":["wall/a"],"ref":2}"#), &["is not granted"]);
    status(&bench.get_with("/sub/demo/chat/lobby?as=interval", &with(&guest)), 304);
}
