//! Rules and tokens at the door, and what ends when a token does, on every technique and in every protocol.

use super::delivery::Bench;
use crate::cli::token::sign::Signer;
use crate::config::{Algorithm, ChannelRule, Config, KeyText, TokenKey, Who};
use crate::conn::ConnId;
use crate::id::Random;
use serde_json::{Value, json};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
/// The wall clock when a bench begins.
pub(super) const NOW: u64 = 1_700_000_001;

pub(super) fn rule(pattern: &str, subscribe: Who, publish: Option<Who>) -> ChannelRule {
    ChannelRule { pattern: pattern.into(), subscribe, publish, ..ChannelRule::default() }
}

pub(super) fn config() -> Config {
    let key = TokenKey {
        id: Some("k".into()),
        algorithm: Some(Algorithm::HS256),
        file: None,
        text: KeyText(SECRET.into()),
    };
    let mut config = Config {
        channels: vec![
            rule("chat/**", Who::Token, Some(Who::Token)),
            rule("ops/**", Who::Publishers, Some(Who::Publishers)),
            rule("wall/**", Who::Anyone, Some(Who::Anyone)),
            rule("**", Who::Anyone, None),
        ],
        token_keys: vec![key],
        ..Config::default()
    };
    config.publish.token = vec!["application-token-1".into(), "application-token-2".into()];
    config.tokens.cookie = Some("t".into());
    config.cors.origins = vec!["*".into(), "https://app.example".into()];
    config.limits.exempt = Vec::new();
    config
}

pub(super) fn token(subject: &str, expires: u64, subscribe: &[&str], publish: &[&str]) -> String {
    let rights = json!({"subscribe": subscribe, "publish": publish});
    let claims = json!({"sub": subject, "iat": NOW, "exp": expires, "encke": rights});
    Signer::Secret(SECRET.into()).token(Algorithm::HS256, Some("k"), &claims).unwrap()
}

/// A token that says just that.
pub(super) fn signed(claims: &Value) -> String {
    Signer::Secret(SECRET.into()).token(Algorithm::HS256, Some("k"), claims).unwrap()
}

/// Alice may listen to all of the chat and publish in the lobby, for a minute; the leeway is half of one.
fn alice() -> String {
    token("alice", NOW + 60, &["chat/**"], &["chat/lobby"])
}

impl Bench {
    /// What a connection was sent, whatever it is.
    pub(super) fn heard(&mut self, id: ConnId) -> String {
        String::from_utf8_lossy(&self.world.read(id, usize::MAX)).into_owned()
    }

    pub(super) fn says(&mut self, request: &str) -> String {
        let id = self.connect();
        self.send(id, request);
        self.turn();
        self.heard(id)
    }

    pub(super) fn get_with(&mut self, target: &str, fields: &str) -> String {
        self.says(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n"))
    }

    pub(super) fn post_with(&mut self, target: &str, fields: &str, body: &str) -> String {
        let length = body.len();
        self.says(&format!(
            "POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
        ))
    }

    /// Seconds pass.
    pub(super) fn seconds(&mut self, count: u64) {
        self.world.advance(count * 1000);
        self.turn();
    }

    pub(super) fn socket(&mut self, target: &str, fields: &str) -> (ConnId, String) {
        let id = self.connect();
        self.send(
            id,
            &format!(
                "GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
            ),
        );
        self.turn();
        let text = self.heard(id);
        (id, text)
    }

    pub(super) fn tell(&mut self, id: ConnId, text: &str) -> String {
        let mut frame = vec![0x81];
        match text.len() {
            length @ 0..126 => frame.push(0x80 | length as u8),
            length => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(text.as_bytes());
        self.send_bytes(id, &frame);
        self.turn();
        self.heard(id)
    }
}

fn bench() -> Bench {
    Bench::new(config())
}

pub(super) fn with(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[track_caller]
pub(super) fn has(answer: &str, parts: &[&str]) {
    for part in parts {
        assert!(answer.contains(part), "{part:?} is not in\n{answer}");
    }
}

#[track_caller]
pub(super) fn status(answer: &str, status: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status} expected:\n{answer}");
}

#[test]
fn listening_is_judged_and_refusals_say_what_would_help() {
    let mut bench = bench();
    let refused = bench.get_with("/sub/chat/lobby?as=interval", "");
    status(&refused, 401);
    has(&refused, &["WWW-Authenticate: Bearer\r\n", "listening to \\\"chat/lobby\\\" needs a token"]);
    assert!(!refused.contains("\"error\""));

    let good = with(&alice());
    status(&bench.get_with("/sub/chat/lobby?as=interval", &good), 304);
    status(&bench.get_with("/sub/chat/*?as=interval", &good), 304);
    status(&bench.get_with("/sub/news?as=interval", ""), 304);
    for (target, item) in [("chat/a,ops/x", "ops/x"), ("ops/*", "ops/*"), ("news,**", "**")] {
        let refused = bench.get_with(&format!("/sub/{target}?as=interval"), &good);
        status(&refused, 403);
        let named = format!("listening to \\\"{item}\\\" is not granted");
        has(&refused, &["Bearer error=\"insufficient_scope\"", "\"error\":\"insufficient_scope\"", &named]);
    }
    // HEAD is judged as GET, OPTIONS never.
    let ask = |method: &str| format!("{method} /sub/chat/a?as=sse HTTP/1.1\r\nHost: x\r\n\r\n");
    status(&bench.says(&ask("HEAD")), 401);
    status(&bench.says(&ask("OPTIONS")), 204);
    // Who publishes may everything everywhere, and either token will do.
    for token in ["application-token-1", "application-token-2"] {
        status(&bench.get_with("/sub/**,ops/a?as=interval", &with(token)), 304);
    }
    assert_eq!(bench.server.stats().requests_failed, 5);
}

#[test]
fn a_bad_token_is_refused_everywhere_and_never_anonymous() {
    let mut bench = bench();
    let others = token("alice", NOW - 31, &["**"], &[]);
    for (fields, what) in [
        (with("rubbish"), "not a signed JWT"),
        (with(&others), "has expired"),
        ("Authorization: Bearer\r\n".into(), "not a signed JWT"),
        ("Authorization: bearer \r\n".into(), "not a signed JWT"),
    ] {
        for target in ["/sub/news?as=interval", "/sub/news?as=sse", "/sub/chat/a", "/pub/news"] {
            let refused = bench.get_with(target, &fields);
            status(&refused, 401);
            has(&refused, &["Bearer error=\"invalid_token\", error_description=\"the token ", what]);
        }
    }
    // Another scheme is no token.
    status(&bench.get_with("/sub/news?as=interval", "Authorization: Basic YTpi\r\n"), 304);
    // A page elsewhere can read why.
    let refused = bench.get_with("/sub/news", &format!("Origin: https://a.example\r\n{}", with("x")));
    has(&refused, &["Access-Control-Allow-Origin: *", "Retry-After, WWW-Authenticate\r\n"]);
    assert_eq!(refused.matches("Access-Control-Expose-Headers").count(), 1, "{refused}");
}

#[test]
fn tokens_in_queries_are_kept_from_caches_and_logs() {
    let mut bench = bench();
    let alice = alice();
    let answer = bench.get_with(&format!("/sub/chat/a?as=interval&access_token={alice}&max=3"), "");
    status(&answer, 304);
    has(&answer, &["Cache-Control: no-store\r\n", "Referrer-Policy: no-referrer\r\n"]);
    let refused = bench.get_with("/sub/chat/a?%61ccess_token=x", "");
    status(&refused, 401);
    has(&refused, &["Cache-Control: no-store\r\n", "Referrer-Policy: no-referrer\r\n"]);
    // Whatever the answer says of itself, it is in no cache, and says so once.
    let (stats, script) = (format!("/stats?access_token={alice}"), format!("/encke.js?access_token={alice}"));
    for answer in [answer, refused, bench.get_with(&stats, ""), bench.get_with(&script, "")] {
        let head = answer.split("\r\n\r\n").next().unwrap();
        assert_eq!(head.matches("no-store").count(), 1, "{head}");
    }
    // What comes twice, or differs, is refused.
    let target = format!("/sub/chat/a?as=interval&access_token={alice}");
    status(&bench.get_with(&target, &with(&alice)), 304);
    for (target, fields) in [
        (format!("{target}&access_token={alice}"), String::new()),
        (target.clone(), with("other")),
        ("/sub/chat/a".into(), with(&alice) + &with(&alice)),
    ] {
        let refused = bench.get_with(&target, &fields);
        status(&refused, 400);
        has(&refused, &["error=\"invalid_request\"", "\"error\":\"invalid_request\""]);
    }
    // A target is remembered without the token: another's request with the same target is another's.
    status(&bench.get_with("/sub/chat/a?as=interval&access_token=", ""), 401);
    // A poll that waits is answered with the same fields.
    let id = bench.connect();
    bench.send(id, &format!("GET /sub/chat/a?access_token={alice} HTTP/1.1\r\nHost: x\r\n\r\n"));
    bench.turn();
    bench.publish("chat/a", "hello", None);
    bench.turn();
    let answer = bench.heard(id);
    has(&answer, &["Referrer-Policy: no-referrer\r\n", "hello"]);
}

#[test]
fn a_cookie_counts_for_pages_of_ours_only() {
    let mut bench = bench();
    let cookie = format!("Cookie: a=b; t={}\r\n", alice());
    for (fields, expected) in [
        ("", 401),
        ("Origin: http://x\r\n", 304),
        ("Origin: https://app.example\r\n", 304),
        ("Origin: https://evil.example\r\n", 401),
        ("Origin: null\r\n", 401),
        ("Origin: https://evil.example\r\nSec-Fetch-Site: same-origin\r\n", 401),
        ("Sec-Fetch-Site: same-origin\r\n", 304),
        ("Sec-Fetch-Site: none\r\n", 304),
        ("Sec-Fetch-Site: cross-site\r\n", 401),
        ("Sec-Fetch-Site: same-site\r\nReferer: http://x/\r\n", 401),
        ("Referer: http://x/page\r\n", 304),
        ("Referer: https://app.example/page\r\n", 304),
        ("Referer: https://evil.example/http://x/\r\n", 401),
    ] {
        let answer = bench.get_with("/sub/chat/a?as=interval", &format!("{cookie}{fields}"));
        status(&answer, expected);
    }
    // Publishing needs the origin.
    status(
        &bench.post_with("/pub/chat/lobby", &format!("{cookie}Sec-Fetch-Site: same-origin\r\n"), "x"),
        401,
    );
    status(&bench.post_with("/pub/chat/lobby", &format!("{cookie}Origin: http://x\r\n"), "x"), 202);
    // A WebSocket is not opened for a page elsewhere.
    let (_, answer) = bench.socket("/sub/chat/a", &format!("{cookie}Origin: https://evil.example\r\n"));
    status(&answer, 401);
    let (_, answer) = bench.socket("/sub/chat/a", &format!("{cookie}Origin: https://app.example\r\n"));
    status(&answer, 101);
    // A header counts, and the cookie is not looked at; two different cookies are none.
    let old = format!("Cookie: t=old\r\nOrigin: http://x\r\n{}", with(&alice()));
    status(&bench.get_with("/sub/chat/a?as=interval", &old), 304);
    let two = format!("Cookie: t=a; t={}\r\nOrigin: http://x\r\n", alice());
    status(&bench.get_with("/sub/news?as=interval", &two), 401);
    status(&bench.get_with("/sub/news?as=interval", "Cookie: t=expired\r\nOrigin: http://x\r\n"), 401);
}

#[test]
fn publishing_is_judged_by_channel() {
    let mut bench = bench();
    let good = with(&alice());
    status(&bench.post_with("/pub/chat/lobby", &good, "x"), 202);
    // How many listen is told to who publishes everything.
    assert!(!bench.post_with("/pub/chat/lobby", &good, "x").contains("subscribers"));
    has(&bench.post_with("/pub/chat/lobby", &with("application-token-1"), "x"), &["\"subscribers\":0"]);
    status(&bench.post_with("/pub/wall/a", "", "x"), 202);
    status(&bench.post_with("/pub/chat/lobby", "", "x"), 401);
    status(&bench.post_with("/pub/ops/a", &good, "x"), 403);
    status(&bench.post_with("/pub/news", &good, "x"), 401);
    status(&bench.post_with("/pub/ops/a,chat/b,news", &with("application-token-2"), "x"), 202);
    let refused = bench.post_with("/pub/chat/lobby,chat/other", &good, "x");
    status(&refused, 403);
    has(&refused, &["publishing to \\\"chat/other\\\" is not granted"]);
    assert_eq!(bench.server.hub().info("chat/other").map(|info| info.messages), None, "all or nothing");
    // A batch is judged when it is parsed.
    let batch = |lines: &str| lines.replace('\'', "\"");
    let fields = format!("{good}Content-Type: application/x-ndjson\r\n");
    let good_lines = batch("{'channel':'chat/lobby','data':1}\n{'channel':'wall/a','data':1}\n");
    status(&bench.post_with("/pub", &fields, &good_lines), 202);
    let bad_lines = batch("{'channel':'chat/lobby','data':1}\n\n{'channel':'ops/a','data':1}\n");
    let refused = bench.post_with("/pub", &fields, &bad_lines);
    status(&refused, 403);
    has(&refused, &["line 3: publishing to \\\"ops/a\\\""]);
    // Everything else below /pub is for who publishes everything.
    let delete = |target: &str, fields: &str| format!("DELETE {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    status(&bench.says(&delete("/pub/chat/lobby", &good)), 403);
    status(&bench.says(&delete("/pub/wall/a", "")), 401);
    has(&bench.get_with("/pub/chat/lobby", &good), &["403 Forbidden", "error=\"insufficient_scope\""]);
    status(&bench.get_with("/pub/", &good), 403);
    status(&bench.says(&delete("/pub/chat/lobby", &with("application-token-1"))), 204);
}

#[test]
fn a_token_that_is_remembered_is_looked_at_as_a_new_one_is() {
    let mut bench = bench();
    let (alice, bob) = (alice(), token("bob", NOW + 60, &["chat/**"], &[]));
    let target = "/sub/chat/lobby?as=interval";
    for round in 0..2 {
        status(&bench.get_with(target, &format!("Authorization: bEARER   {alice}  \r\n")), 304);
        status(&bench.get_with(target, &with(&bob)), 304);
        status(&bench.get_with(&format!("{target}&access_token={alice}"), &with(&alice)), 304);
        for (query, fields) in [
            (format!("&access_token={alice}"), with(&bob)),
            (format!("&%61ccess%5Ftoken={alice}"), with(&bob)),
            (format!("&access_token={alice}&access_token={alice}"), with(&alice)),
            (String::new(), format!("{}{}", with(&alice), with(&bob))),
            (String::new(), format!("{}{}", with(&alice), with(&alice))),
        ] {
            has(&bench.get_with(&format!("{target}{query}"), &fields), &["400", "invalid_request"]);
        }
        status(&bench.get_with("/sub/ops/a?as=interval", &with(&alice)), 403);
        assert_eq!(bench.server.stats().tokens_verified, 2, "round {round}");
    }
    bench.seconds(90);
    let refused = bench.server.stats().tokens_refused;
    has(&bench.get_with(target, &with(&alice)), &["401", "the token has expired"]);
    assert_eq!(bench.server.stats().tokens_refused, refused + 1);
}

#[test]
fn the_loopback_rule_counts_for_publishers_and_nowhere_else() {
    let mut config = config();
    config.publish.token = Vec::new();
    config.bayeux.publish = vec!["**".into()];
    let mut bench = Bench::new(config);
    status(&bench.post_with("/pub/ops/a", "", "x"), 202);
    status(&bench.post_with("/pub/news", "", "x"), 202);
    status(&bench.post_with("/pub/chat/lobby", "", "x"), 401);
    status(&bench.get_with("/sub/ops/a", ""), 403);
    let (socket, _) = bench.socket("/sub/news", "");
    has(&bench.tell(socket, r#"{"publish":{"channel":"ops/a","data":1},"ref":1}"#), &["\"ok\""]);
    has(&bench.tell(socket, r#"{"publish":{"channel":"chat/a","data":1},"ref":1}"#), &["needs a token"]);
    has(&bench.tell(socket, r#"{"subscribe":["ops/a"],"ref":1}"#), &["is not granted"]);
    let session = handshake(&mut bench, "", json!({}));
    for (channel, error) in [("/ops/a", json!("403:/ops/a:publish_denied")), ("/news", Value::Null)] {
        let publish = json!([{"channel": channel, "clientId": session["clientId"], "data": 1}]);
        assert_eq!(bayeux(&mut bench, "", publish)[0]["error"], error);
    }
}

#[test]
fn nobody_is_asked_for_a_body_who_may_not_publish() {
    let mut bench = bench();
    let ask = |fields: &str| {
        format!(
            "POST /pub/chat/lobby HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n{fields}\r\n"
        )
    };
    status(&bench.says(&ask("")), 401);
    status(&bench.says(&ask(&with("bad"))), 401);
    status(&bench.says(&ask(&with(&token("bob", NOW + 60, &["**"], &[])))), 403);
    status(&bench.says(&ask(&with(&alice()))), 100);
}

#[test]
fn an_idempotency_key_is_its_subjects() {
    let mut bench = bench();
    let key = "Idempotency-Key: 1\r\n";
    let bob = token("bob", NOW + 60, &[], &["chat/lobby"]);
    for (fields, messages) in [
        (with(&alice()), 1),
        (with(&alice()), 1),
        (with(&bob), 2),
        (with("application-token-1"), 3),
        (with("application-token-2"), 3),
        (with(&bob), 3),
    ] {
        let answer = bench.post_with("/pub/chat/lobby", &format!("{key}{fields}"), "x");
        status(&answer, 202);
        assert_eq!(bench.server.hub().info("chat/lobby").unwrap().messages, messages, "{fields}");
    }
}

#[test]
fn the_listener_for_clients_takes_what_rules_let_clients_publish() {
    let mut config = config();
    config.admin_listen = Some(([127, 0, 0, 1], 1).into());
    let mut bench = Bench::new(config);
    status(&bench.post_with("/pub/chat/lobby", &with(&alice()), "x"), 202);
    status(&bench.post_with("/pub/wall/a", "", "x"), 202);
    status(&bench.post_with("/pub/chat/lobby", "", "x"), 401);
    // Publish tokens count on the other listener only.
    status(&bench.post_with("/pub/news", &with("application-token-1"), "x"), 404);
    status(&bench.post_with("/pub/ops/a", &with("application-token-1"), "x"), 404);
    status(&bench.post_with("/pub/wall/a,news", "", "x"), 404);
    status(&bench.post_with("/pub", &with(&alice()), "{}"), 404);
    status(&bench.get_with("/pub/chat/lobby", &with(&alice())), 404);
    let (socket, _) = bench.socket("/sub/wall/a", &with(&alice()));
    has(&bench.tell(socket, r#"{"publish":{"channel":"chat/lobby","data":1},"ref":1}"#), &["\"ok\""]);
    has(&bench.tell(socket, r#"{"publish":{"channel":"news","data":1},"ref":1}"#), &["\"error\""]);
}

#[test]
fn expiry_ends_listening_in_band_on_every_technique() {
    let ends: [(&str, &str, &[&str]); 10] = [
        ("", "", &["HTTP/1.1 401 ", "error=\"invalid_token\"", "has expired", "Encke-Next: "]),
        ("?as=jsonp&callback=f", "", &["HTTP/1.1 200 ", "/**/f([],\"", "\",{\"expired\":true});"]),
        ("?as=sse", "", &["event: encke.expired\nid: ", "\ndata: {\"expired\":true}\n\n", "0\r\n\r\n"]),
        ("?as=sse-envelope", "", &["id: ", "data: {\"expired\":true,\"next\":\""]),
        ("?as=stream", "", &["{\"expired\":true,\"next\":\"", "\"}\n", "0\r\n\r\n"]),
        ("?as=raw", "", &["0\r\n\r\n"]),
        ("?as=iframe", "", &["<script>e({\"expired\":true,\"next\":\"", "0\r\n\r\n"]),
        ("?as=multipart", "", &["Encke-Expired: true\r\nEncke-Next: ", "{\"expired\":true", "--\r\n"]),
        ("?as=x-mixed-replace", "", &["Encke-Expired: true\r\n", "Content-Length: 0\r\n"]),
        ("?timeout=300&max=2", "Accept: application/json\r\n", &["HTTP/1.1 401 ", "Encke-Next: "]),
    ];
    for (query, fields, expected) in ends {
        // Open channels end, too: a good token that ends does not make its bearer anonymous.
        for channel in ["chat/a", "news"] {
            let mut bench = bench();
            let id = bench.connect();
            let good = with(&alice());
            bench.send(id, &format!("GET /sub/{channel}{query} HTTP/1.1\r\nHost: x\r\n{fields}{good}\r\n"));
            bench.turn();
            let begun = bench.heard(id);
            let waits = query.is_empty() || query.contains("jsonp") || query.contains("timeout");
            if waits && !query.contains("timeout") {
                // The poll that runs out is asked again with the same token.
                bench.seconds(29);
                assert_eq!(bench.heard(id), "");
                bench.seconds(1);
                assert!(!bench.heard(id).is_empty());
                bench.send(
                    id,
                    &format!(
                        "GET /sub/{channel}{query}{}timeout=300 HTTP/1.1\r\nHost: x\r\n{good}\r\n",
                        if query.is_empty() { "?" } else { "&" }
                    ),
                );
                bench.turn();
                bench.seconds(59);
            } else {
                assert!(waits || begun.starts_with("HTTP/1.1 200"), "{begun}");
                bench.seconds(89);
            }
            let before = bench.heard(id);
            assert!(!before.contains("expired"), "{query}: {before}");
            bench.seconds(1);
            has(&bench.heard(id), expected);
            bench.publish(channel, "secret", None);
            bench.seconds(1);
            assert_eq!(bench.heard(id), "", "{query}");
            assert_eq!(bench.server.hub().gauges().subscribers, 0);
        }
    }
}

#[test]
fn a_clock_that_steps_ends_what_has_ended_by_it() {
    let mut bench = bench();
    let id = bench.connect();
    bench.send(id, &format!("GET /sub/chat/a?as=sse HTTP/1.1\r\nHost: x\r\n{}\r\n", with(&alice())));
    bench.turn();
    bench.heard(id);
    bench.world.skew = 100;
    bench.seconds(1);
    has(&bench.heard(id), &["encke.expired"]);
    // Nor is there a timer that goes off by itself when the clock was set back.
    bench.world.skew = -100;
    bench.seconds(1);
    let (socket, _) = bench.socket("/sub/chat/a", &with(&alice()));
    bench.seconds(120);
    assert!(!bench.heard(socket).contains("expired"));
    bench.seconds(80);
    has(&bench.heard(socket), &["{\"expired\":true,\"next\":\""]);
}

#[test]
fn who_does_not_drain_is_cut_soon() {
    let mut bench = bench();
    let id = bench.connect();
    bench.send(id, &format!("GET /sub/chat/a?as=sse HTTP/1.1\r\nHost: x\r\n{}\r\n", with(&alice())));
    bench.turn();
    bench.heard(id);
    bench.seconds(88);
    bench.world.socket(id).capacity = 10;
    bench.publish("chat/a", &"x".repeat(100), None);
    bench.turn();
    bench.seconds(2);
    assert!(!bench.world.socket(id).closed);
    bench.seconds(6);
    assert!(bench.world.socket(id).closed);
}

#[test]
fn a_websocket_is_renewed_and_loses_what_is_not_granted_any_more() {
    let mut bench = bench();
    let (id, opened) = bench.socket("/sub/chat/a,chat/b,news", &with(&alice()));
    status(&opened, 101);
    // Of another subject, or bad: nothing changes.
    let bob = token("bob", NOW + 600, &["chat/**"], &[]);
    has(
        &bench.tell(id, &format!("{{\"token\":\"{bob}\",\"ref\":1}}")),
        &["\"ref\":1,\"error\":\"", "another subject"],
    );
    has(&bench.tell(id, "{\"token\":\"x\"}"), &["\"error\":\"the token is not a signed JWT"]);
    has(&bench.tell(id, "{\"subscribe\":[\"ops/a\"]}"), &["listening to \\\"ops/a\\\" is not granted"]);
    has(&bench.tell(id, r#"{"publish":{"channel":"chat/lobby","data":1},"ref":2}"#), &["\"ok\""]);
    // A renewed one lasts longer, and grants less.
    let renewed = token("alice", NOW + 600, &["chat/a"], &[]);
    let answer = bench.tell(id, &format!("{{\"token\":\"{renewed}\",\"ref\":7}}"));
    has(
        &answer,
        &[
            "{\"revoked\":true,\"channels\":[\"chat/b\"]}",
            &format!("{{\"ref\":7,\"ok\":{{\"expires\":{}}}}}", NOW + 600),
        ],
    );
    has(&bench.tell(id, r#"{"publish":{"channel":"chat/lobby","data":1},"ref":2}"#), &["\"error\""]);
    bench.seconds(200);
    bench.heard(id);
    for channel in ["chat/a", "chat/b", "news"] {
        bench.publish(channel, channel, None);
    }
    bench.turn();
    let heard = bench.heard(id);
    has(&heard, &["\"chat/a\"", "\"news\""]);
    assert!(!heard.contains("chat/b"), "{heard}");
    bench.seconds(430);
    let end = bench.heard(id);
    has(&end, &["{\"expired\":true,\"next\":\"", "\u{11}1the token has expired"]);
}

#[test]
fn a_token_may_come_later() {
    let mut bench = bench();
    let (_, refused) = bench.socket("/sub/chat/a", "");
    status(&refused, 401);
    let (id, opened) = bench.socket("/sub/", "");
    status(&opened, 101);
    has(&bench.tell(id, "{\"subscribe\":[\"chat/a\"]}"), &["listening to \\\"chat/a\\\" needs a token"]);
    let token = format!("{{\"token\":\"{}\"}}", alice());
    has(&bench.tell(id, &token), &["{\"ok\":{\"expires\":"]);
    bench.tell(id, "{\"subscribe\":[\"chat/a\"]}");
    bench.publish("chat/a", "hello", None);
    bench.turn();
    has(&bench.heard(id), &["hello"]);
    bench.seconds(30);
    assert!(!bench.world.socket(id).ended);
    // One that never says what it wants is closed.
    let (id, _) = bench.socket("/sub/", "");
    bench.seconds(9);
    assert!(!bench.world.socket(id).ended);
    bench.seconds(1);
    has(&bench.heard(id), &["\u{11}1"]);
    // Without rules and tokens there is nothing to come later.
    let mut plain = Bench::new(Config::default());
    let (_, refused) = plain.socket("/sub/", "");
    status(&refused, 400);
}

#[test]
fn bad_tokens_of_one_address_are_verified_so_often_only() {
    let mut config = config();
    config.limits.tokens_refused_per_second = 3;
    let mut bench = Bench::new(config);
    for expected in [401, 401, 401, 429, 429] {
        let answer = bench.get_with("/sub/chat/a", &with("x"));
        status(&answer, expected);
        assert_eq!(answer.contains("Retry-After: 1\r\n"), expected == 429);
    }
    // Not even a good one that has not been seen; but one that was verified before is no work.
    status(&bench.get_with("/sub/chat/a?as=interval", &with(&alice())), 429);
    bench.seconds(1);
    status(&bench.get_with("/sub/chat/a?as=interval", &with(&alice())), 304);
    for _ in 0..4 {
        bench.get_with("/sub/chat/a", &with("x"));
    }
    status(&bench.get_with("/sub/chat/a?as=interval", &with(&alice())), 304);
    // A WebSocket is closed.
    let (socket, _) = bench.socket("/sub/news", "");
    let goodbye = bench.tell(socket, "{\"token\":\"x\"}");
    assert!(goodbye.ends_with("too many bad tokens"), "{goodbye}");
    assert!(bench.world.socket(socket).ended);
}

pub(super) fn bayeux(bench: &mut Bench, fields: &str, messages: Value) -> Value {
    let answer = bench.post_with(
        "/bayeux",
        &format!("Content-Type: application/json\r\n{fields}"),
        &messages.to_string(),
    );
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"))
}

pub(super) fn handshake(bench: &mut Bench, fields: &str, ext: Value) -> Value {
    let message = json!([{"channel": "/meta/handshake", "version": "1.0",
        "supportedConnectionTypes": ["long-polling"], "ext": ext}]);
    bayeux(bench, fields, message)[0].clone()
}

#[test]
fn bayeux_sessions_have_one_identity() {
    let mut bench = bench();
    let bad = handshake(&mut bench, "", json!({"token": "x"}));
    assert_eq!((&bad["error"], &bad["advice"]["reconnect"]), (&json!("401::invalid_token"), &json!("none")));
    let bad = handshake(&mut bench, &with("x"), json!({}));
    assert_eq!((&bad["error"], &bad["advice"]["reconnect"]), (&json!("401::invalid_token"), &json!("none")));

    let nobody = handshake(&mut bench, "", json!({}));
    let alice_session = handshake(&mut bench, "", json!({"token": alice()}));
    let by_header = handshake(&mut bench, &with(&alice()), json!({}));
    let subscribe = |session: &Value, channel: &str| json!([{"channel": "/meta/subscribe", "clientId": session["clientId"], "subscription": channel}]);
    let publish = |session: &Value, channel: &str| json!([{"channel": channel, "clientId": session["clientId"], "data": 1}]);
    for (session, channel, error) in [
        (&nobody, "/news", Value::Null),
        (&nobody, "/chat/a", json!("401:/chat/a:subscribe_denied")),
        (&nobody, "/**", json!("401:/**:subscribe_denied")),
        (&alice_session, "/chat/a", Value::Null),
        (&by_header, "/chat/*", Value::Null),
        (&alice_session, "/ops/a", json!("403:/ops/a:subscribe_denied")),
    ] {
        assert_eq!(bayeux(&mut bench, "", subscribe(session, channel))[0]["error"], error, "{channel}");
    }
    for (session, channel, error) in [
        (&nobody, "/wall/a", Value::Null),
        (&nobody, "/chat/lobby", json!("401:/chat/lobby:publish_denied")),
        (&nobody, "/news", json!("403:/news:publish_denied")),
        (&alice_session, "/chat/lobby", Value::Null),
        (&alice_session, "/chat/b", json!("403:/chat/b:publish_denied")),
        (&alice_session, "/ops/b", json!("403:/ops/b:publish_denied")),
    ] {
        assert_eq!(bayeux(&mut bench, "", publish(session, channel))[0]["error"], error, "{channel}");
    }
    // Somebody else's token at the session.
    let bob = with(&token("bob", NOW + 60, &["chat/**"], &[]));
    let refused = bayeux(&mut bench, &bob, subscribe(&alice_session, "/chat/c"));
    assert_eq!(refused[0]["error"], json!("403::another_subject"));
    assert_eq!(
        bayeux(&mut bench, &with("x"), subscribe(&alice_session, "/chat/c"))[0]["error"],
        "401::invalid_token"
    );
}

#[test]
fn bayeux_sessions_are_renewed_and_expire() {
    let mut bench = bench();
    let connect = |session: &Value, ext: Value| {
        json!([{"channel": "/meta/connect", "clientId": session["clientId"],
            "connectionType": "long-polling", "ext": ext}])
    };
    let session = handshake(&mut bench, "", json!({"token": alice()}));
    for channel in ["/chat/a", "/chat/b"] {
        let subscribe =
            json!([{"channel": "/meta/subscribe", "clientId": session["clientId"], "subscription": channel}]);
        assert_eq!(bayeux(&mut bench, "", subscribe)[0]["successful"], true);
    }
    assert_eq!(bayeux(&mut bench, "", connect(&session, json!({})))[0]["successful"], true);
    let bob = token("bob", NOW + 600, &["chat/**"], &[]);
    for (ext, error) in [(bob.as_str(), "403::another_subject"), ("x", "401::invalid_token")] {
        let refused = bayeux(&mut bench, "", connect(&session, json!({"token": ext})));
        assert_eq!(
            (&refused[0]["error"], &refused[0]["advice"]["reconnect"]),
            (&json!(error), &json!("retry"))
        );
    }
    let renewed = token("alice", NOW + 100, &["chat/a"], &[]);
    let held = bench.connect();
    let body = connect(&session, json!({"token": renewed})).to_string();
    bench.send(
        held,
        &format!("POST /bayeux HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
    );
    bench.turn();
    bench.publish("chat/b", "not granted any more", None);
    bench.turn();
    assert_eq!(bench.heard(held), "");
    bench.publish("chat/a", "granted", None);
    bench.turn();
    has(&bench.heard(held), &["granted", "/meta/connect"]);
    let body = connect(&session, json!({})).to_string();
    let again = format!("POST /bayeux HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for _ in 0..4 {
        bench.send(held, &again);
        bench.turn();
        bench.seconds(29);
        assert_eq!(bench.heard(held), "");
        bench.seconds(1);
        has(&bench.heard(held), &["\"successful\":true"]);
    }
    // The first token would have ended at ninety seconds, the second does at a hundred and thirty.
    bench.send(held, &again);
    bench.turn();
    bench.seconds(10);
    has(&bench.heard(held), &["\"successful\":false", "401::token_expired"]);
}

#[test]
fn a_held_connect_is_told_that_its_token_has_expired() {
    let mut bench = bench();
    let session = handshake(&mut bench, "", json!({"token": token("alice", NOW - 20, &["chat/**"], &[])}));
    let connect = json!([{"channel": "/meta/connect", "clientId": session["clientId"], "connectionType": "long-polling"}]);
    assert_eq!(bayeux(&mut bench, "", connect.clone())[0]["successful"], true);
    let held = bench.connect();
    let body = connect.to_string();
    bench.send(
        held,
        &format!("POST /bayeux HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
    );
    bench.turn();
    bench.seconds(9);
    assert_eq!(bench.heard(held), "");
    bench.seconds(1);
    has(&bench.heard(held), &["\"successful\":false", "401::token_expired", "\"reconnect\":\"handshake\""]);
    assert_eq!(bench.server.stats().sessions_refused, 0);
}

#[test]
fn fdajax_groups_are_channels_with_rules() {
    let mut config = config();
    config.fdajax.enabled = true;
    config.fdajax.win_timeout = 5000;
    config.channels.insert(0, rule("fdajax/groups/feed", Who::Token, None));
    let mut bench = Bench::new(config);
    let wait = "/live.fdajax?cmd=wait&types=feed&win_id=7";
    let session = "Cookie: _session_id=abcdef0123456789abcdef0123456789\r\n";
    let refused = bench.get_with(wait, session);
    status(&refused, 401);
    let bob = with(&token("bob", NOW + 60, &["chat/**"], &[]));
    status(&bench.get_with(wait, &format!("{session}{bob}")), 403);
    status(&bench.get_with(wait, &format!("{session}{}", with("x"))), 401);

    let carol = with(&token("carol", NOW - 20, &["fdajax/groups/*"], &[]));
    let id = bench.connect();
    bench.send(id, &format!("GET {wait} HTTP/1.1\r\nHost: x\r\n{session}{carol}\r\n"));
    bench.turn();
    assert_eq!(bench.heard(id), "");
    bench.seconds(9);
    assert_eq!(bench.heard(id), "");
    bench.seconds(1);
    has(&bench.heard(id), &["HTTP/1.1 401 ", "has expired"]);
}

#[test]
fn without_rules_and_keys_nothing_is_judged() {
    let mut bench = Bench::new(Config::default());
    status(&bench.get_with("/sub/chat/a?as=interval&access_token=x", &with("x")), 304);
    let answer = bench.get_with("/sub/chat/a?as=interval&access_token=x", "");
    assert!(!answer.contains("Referrer-Policy") && !answer.contains("WWW-Authenticate:"), "{answer}");
    let (socket, _) = bench.socket("/sub/chat/a", "");
    has(&bench.tell(socket, "{\"token\":\"x\"}"), &["\"error\":\"this server"]);
}

/// Revokes as the application does. Returns how many ended.
pub(super) fn revoke(bench: &mut Bench, body: &Value) -> u64 {
    let answer = bench.post_with("/revoke", &with("application-token-1"), &body.to_string());
    status(&answer, 200);
    let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["durable"], false);
    body["ended"].as_u64().unwrap()
}

#[test]
fn revocation_ends_listening_in_the_same_turn_on_every_technique() {
    let ends: [(&str, &[&str]); 9] = [
        ("?timeout=300", &["HTTP/1.1 403 ", "error=\"insufficient_scope\"", "Encke-Next: "]),
        ("?as=jsonp&callback=f", &["/**/f([],\"", "\",{\"revoked\":true});"]),
        ("?as=sse", &["event: encke.revoked\nid: ", "\ndata: {\"revoked\":true}\n\n", "0\r\n\r\n"]),
        ("?as=sse-envelope", &["data: {\"revoked\":true,\"next\":\""]),
        ("?as=stream", &["{\"revoked\":true,\"next\":\"", "0\r\n\r\n"]),
        ("?as=raw", &["0\r\n\r\n"]),
        ("?as=iframe", &["<script>e({\"revoked\":true"]),
        ("?as=multipart", &["Encke-Revoked: true\r\n"]),
        ("?as=x-mixed-replace", &["Encke-Revoked: true\r\n"]),
    ];
    let mut bench = bench();
    let bob = token("bob", NOW + 60, &["chat/**"], &[]);
    let listen = |bench: &mut Bench, query: &str, token: &str| {
        let id = bench.connect();
        bench.send(id, &format!("GET /sub/chat/a{query} HTTP/1.1\r\nHost: x\r\n{}\r\n", with(token)));
        bench.turn();
        bench.heard(id);
        id
    };
    let concerned: Vec<_> =
        ends.iter().map(|(query, expected)| (listen(&mut bench, query, &alice()), query, expected)).collect();
    let other = listen(&mut bench, "?as=stream", &bob);
    assert_eq!(revoke(&mut bench, &json!({"subject": "alice"})), 9);
    bench.publish("chat/a", "secret", None);
    bench.turn();
    for (id, query, expected) in concerned {
        let heard = bench.heard(id);
        has(&heard, expected);
        assert!(!heard.contains("secret"), "{query}: {heard}");
    }
    has(&bench.heard(other), &["secret"]);
    // A replay is refused, whether the token had been remembered or not; one that was issued later is not.
    let refused = bench.get_with("/sub/chat/a?as=interval", &with(&alice()));
    status(&refused, 401);
    has(&refused, &["error=\"invalid_token\"", "the token was revoked"]);
    status(&bench.get_with("/sub/chat/a?as=interval", &with(&bob)), 304);
    assert_eq!(revoke(&mut bench, &json!({"subject": "alice"})), 0);
    let later = json!({"sub": "alice", "iat": NOW + 1, "exp": NOW + 60, "encke": {"subscribe": ["chat/**"]}});
    let later = Signer::Secret(SECRET.into()).token(Algorithm::HS256, Some("k"), &later).unwrap();
    status(&bench.get_with("/sub/chat/a?as=interval", &with(&later)), 304);
    assert_eq!(revoke(&mut bench, &json!({"subject": "alice", "before": NOW + 1})), 0);
    status(&bench.get_with("/sub/chat/a?as=interval", &with(&later)), 401);
}

#[test]
fn revocation_of_one_token_and_of_some_channels() {
    let mut bench = bench();
    let numbered = |id: &str| {
        let claims = json!({"sub": "alice", "jti": id, "iat": NOW, "exp": NOW + 60,
            "encke": {"subscribe": ["chat/**"], "publish": ["chat/**"]}});
        Signer::Secret(SECRET.into()).token(Algorithm::HS256, Some("k"), &claims).unwrap()
    };
    let (one, _) = bench.socket("/sub/chat/a", &with(&numbered("1")));
    let (two, _) = bench.socket("/sub/chat/a,chat/b,news", &with(&numbered("2")));
    let (plain, _) = bench.socket("/sub/chat/a", &with(&alice()));
    assert_eq!(revoke(&mut bench, &json!({"token": "1"})), 1);
    has(&bench.heard(one), &["{\"revoked\":true,\"next\":\"", "\u{11}3the right to listen was revoked"]);
    // Pasting a whole token does what is meant, and pasting rubbish is told.
    assert_eq!(revoke(&mut bench, &json!({"token": alice()})), 1);
    has(&bench.heard(plain), &["{\"revoked\":true,\"next\":\""]);
    status(&bench.get_with("/sub/chat/a", &with(&alice())), 401);

    // What was published before, and had not been delivered, is not either.
    bench.world.socket(two).capacity = 0;
    bench.publish("news", &"x".repeat(100), None);
    bench.turn();
    bench.publish("chat/b", "secret", None);
    bench.turn();
    assert_eq!(revoke(&mut bench, &json!({"token": numbered("2"), "channels": ["chat/b", "chat/z"]})), 1);
    bench.world.socket(two).capacity = 1 << 20;
    bench.world.edges.push(two);
    bench.turn();
    let heard = bench.heard(two);
    has(&heard, &["{\"revoked\":true,\"channels\":[\"chat/b\"]}", "xxxxx"]);
    assert!(!heard.contains("secret"), "{heard}");
    bench.publish("chat/b", "secret", None);
    bench.publish("chat/a", "hello", None);
    bench.turn();
    let heard = bench.heard(two);
    assert!(heard.contains("hello") && !heard.contains("secret"), "{heard}");
    has(&bench.tell(two, "{\"subscribe\":[\"chat/*\"]}"), &["is not granted"]);
    has(&bench.tell(two, r#"{"publish":{"channel":"chat/z","data":1},"ref":2}"#), &["is not granted"]);
    has(&bench.tell(two, r#"{"publish":{"channel":"chat/a","data":1},"ref":2}"#), &["\"ok\""]);
    status(&bench.get_with("/sub/chat/b?as=interval", &with(&numbered("2"))), 403);
    status(&bench.get_with("/sub/chat/a?as=interval", &with(&numbered("2"))), 304);
}

#[test]
fn revoking_is_for_who_publishes_everything() {
    let mut bench = bench();
    let body = "{\"subject\":\"alice\"}";
    status(&bench.post_with("/revoke", "", body), 401);
    // A token that is good is not good for this.
    let refused = bench.post_with("/revoke", &with(&token("root", NOW + 60, &["**"], &["**"])), body);
    status(&refused, 403);
    has(&refused, &["WWW-Authenticate: Bearer error=\"insufficient_scope\""]);
    status(&bench.post_with("/revoke", &with("x"), body), 401);
    let application = with("application-token-2");
    status(&bench.get_with("/revoke", &application), 405);
    for body in [
        "",
        "{}",
        "[]",
        "{\"subject\":\"a\",\"token\":\"b\"}",
        "{\"subject\":\"\"}",
        "{\"subject\":7}",
        "{\"subject\":\"a\",\"channels\":[\"a//b\"]}",
        "{\"subject\":\"a\",\"channel\":[\"a\"]}",
        "{\"token\":\"eyJhbGciOiJIUzI1NiJ9.e30.AAAA\"}",
    ] {
        let refused = bench.post_with("/revoke", &application, body);
        status(&refused, 400);
        assert!(!refused.contains("eyJ"), "{refused}");
    }
    let mut config = config();
    config.admin_listen = Some(([127, 0, 0, 1], 1).into());
    status(&Bench::new(config).post_with("/revoke", &application, body), 404);
}

#[test]
fn revocation_reaches_bayeux_sessions_and_windows() {
    let mut config = config();
    config.fdajax.enabled = true;
    config.channels.insert(0, rule("fdajax/groups/feed", Who::Token, None));
    let mut bench = Bench::new(config);
    let session = handshake(&mut bench, "", json!({"token": alice()}));
    let other = handshake(&mut bench, "", json!({"token": token("bob", NOW + 60, &["chat/**"], &[])}));
    let connect = |session: &Value| json!([{"channel": "/meta/connect", "clientId": session["clientId"], "connectionType": "long-polling"}]);
    for session in [&session, &other] {
        for channel in ["/chat/a", "/chat/b"] {
            let subscribe = json!([{"channel": "/meta/subscribe", "clientId": session["clientId"], "subscription": channel}]);
            assert_eq!(bayeux(&mut bench, "", subscribe)[0]["successful"], true);
        }
        bayeux(&mut bench, "", connect(session));
    }
    let held = bench.connect();
    let body = connect(&session).to_string();
    bench.send(
        held,
        &format!("POST /bayeux HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
    );
    let window = bench.connect();
    let carol = with(&token("carol", NOW + 60, &["fdajax/groups/*"], &[]));
    let cookie = "Cookie: _session_id=abcdef0123456789abcdef0123456789\r\n";
    bench.send(
        window,
        &format!("GET /live.fdajax?cmd=wait&types=feed&win_id=7 HTTP/1.1\r\nHost: x\r\n{cookie}{carol}\r\n"),
    );
    bench.turn();
    assert_eq!(bench.heard(held) + &bench.heard(window), "");
    assert_eq!(revoke(&mut bench, &json!({"subject": "alice"})), 1);
    has(&bench.heard(held), &["\"successful\":false", "403::revoked", "\"reconnect\":\"none\""]);
    assert_eq!(revoke(&mut bench, &json!({"subject": "carol"})), 1);
    has(&bench.heard(window), &["HTTP/1.1 403 "]);
    assert_eq!(revoke(&mut bench, &json!({"subject": "bob", "channels": ["chat/a"]})), 1);
    bench.publish("chat/a", "secret", None);
    bench.publish("chat/b", "hello", None);
    let got = bayeux(&mut bench, "", connect(&other)).to_string();
    assert!(got.contains("hello") && !got.contains("secret"), "{got}");
}

#[test]
fn after_a_reload_everybody_is_judged_again() {
    let mut bench = bench();
    let listen = |bench: &mut Bench, channel: &str, fields: &str| {
        let id = bench.connect();
        bench.send(id, &format!("GET /sub/{channel}?as=stream HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
        bench.turn();
        bench.heard(id);
        id
    };
    let by_token = listen(&mut bench, "chat/a", &with(&alice()));
    let open = listen(&mut bench, "news", "");
    let closing = listen(&mut bench, "wall/a", "");
    let (socket, _) = bench.socket("/sub/wall/a,news", "");
    let session = handshake(&mut bench, "", json!({"token": alice()}));
    let subscribe =
        json!([{"channel": "/meta/subscribe", "clientId": session["clientId"], "subscription": "/chat/a"}]);
    bayeux(&mut bench, "", subscribe);

    // The wall is closed; the key stays.
    let mut config = config();
    config.channels[2].subscribe = Who::Token;
    bench.server.reconfigure(config.clone());
    bench.turn();
    assert_eq!(bench.heard(by_token) + &bench.heard(open), "");
    has(&bench.heard(closing), &["{\"revoked\":true,\"next\":\""]);
    has(&bench.heard(socket), &["{\"revoked\":true,\"channels\":[\"wall/a\"]}"]);
    status(&bench.get_with("/sub/wall/a", ""), 401);
    status(&bench.get_with("/sub/chat/a?as=interval", &with(&alice())), 304);

    // The key is exchanged.
    config.token_keys[0].text = KeyText(b"another secret that is long enough!!".to_vec());
    bench.server.reconfigure(config.clone());
    bench.turn();
    assert_eq!(bench.heard(open) + &bench.heard(socket), "");
    has(&bench.heard(by_token), &["{\"revoked\":true,\"next\":\""]);
    status(&bench.get_with("/sub/chat/a?as=interval", &with(&alice())), 401);
    let connect = json!([{"channel": "/meta/connect", "clientId": session["clientId"], "connectionType": "long-polling"}]);
    assert_eq!(bayeux(&mut bench, "", connect)[0]["successful"], false);

    // Rules go altogether, and come where there were none.
    bench.server.reconfigure(Config { channels: Vec::new(), token_keys: Vec::new(), ..config.clone() });
    bench.turn();
    let late = listen(&mut bench, "chat/a", "");
    bench.server.reconfigure(config);
    bench.turn();
    has(&bench.heard(late), &["{\"revoked\":true"]);
}

const ROOMS: [&str; 4] = ["chat/a", "chat/b", "chat/c", "chat/d"];

/// Somebody who listens, and what the oracle knows of them.
struct Listener {
    id: ConnId,
    is_socket: bool,
    subject: u64,
    issued: u64,
    ends: u64,
    granted: [bool; 4],
    listens: [bool; 4],
    is_there: bool,
}

/// A seed decides who comes with which token, what is published, renewed and revoked, and what the clock does.
struct Story {
    random: Random,
    bench: Bench,
    listeners: Vec<Listener>,
    /// Subject, the second until which its tokens are concerned, and the room, if not all are meant.
    revoked: Vec<(u64, u64, Option<usize>)>,
    published: u64,
}

impl Story {
    fn rooms(&mut self) -> [bool; 4] {
        std::array::from_fn(|_| self.random.one_in(2))
    }

    /// A token of `subject` that is made now, and what it grants once what was revoked is taken off; nothing if all was.
    fn token(&mut self, subject: u64) -> (String, u64, u64, Option<[bool; 4]>) {
        let (mut granted, now) = (self.rooms(), self.bench.world.now.unix);
        let expires = now + self.random.below(60);
        let names: Vec<&str> =
            ROOMS.iter().zip(granted).filter(|(_, is)| *is).map(|(name, _)| *name).collect();
        let claims = json!({"sub": format!("user{subject}"), "iat": now, "exp": expires,
            "jti": self.random.below(u64::MAX).to_string(), "encke": {"subscribe": names}});
        let token = Signer::Secret(SECRET.into()).token(Algorithm::HS256, Some("k"), &claims).unwrap();
        let concerned = self.revoked.iter().filter(|(whose, before, _)| *whose == subject && now <= *before);
        let mut left = true;
        for (_, _, room) in concerned {
            match room {
                Some(room) => granted[*room] = false,
                None => left = false,
            }
        }
        (token, now, expires + 30, left.then_some(granted))
    }

    fn come(&mut self) {
        let (subject, is_socket) = (self.random.below(3), self.random.one_in(2));
        let (token, issued, ends, granted) = self.token(subject);
        let mut listens = self.rooms();
        listens[self.random.below(4) as usize] = true;
        let names: Vec<&str> =
            ROOMS.iter().zip(listens).filter(|(_, is)| *is).map(|(name, _)| *name).collect();
        let (target, fields) = (format!("/sub/{}?as=stream", names.join(",")), with(&token));
        let (id, answer) = match is_socket {
            true => self.bench.socket(&target, &fields),
            false => {
                let id = self.bench.connect();
                self.bench.send(id, &format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
                self.bench.turn();
                let heard = self.bench.heard(id);
                (id, heard)
            }
        };
        let Some(granted) = granted else { return status(&answer, 401) };
        if (0..4).any(|room| listens[room] && !granted[room]) {
            return status(&answer, 403);
        }
        status(&answer, if is_socket { 101 } else { 200 });
        self.listeners.push(Listener {
            id,
            is_socket,
            subject,
            issued,
            ends,
            granted,
            listens,
            is_there: true,
        });
    }

    fn renew(&mut self) {
        let sockets: Vec<usize> = (0..self.listeners.len())
            .filter(|at| self.listeners[*at].is_socket && self.listeners[*at].is_there)
            .collect();
        if sockets.is_empty() {
            return;
        }
        let at = sockets[self.random.below(sockets.len() as u64) as usize];
        let subject = if self.random.one_in(5) { 7 } else { self.listeners[at].subject };
        let (token, issued, ends, granted) = self.token(subject);
        let answer = self.bench.tell(self.listeners[at].id, &format!("{{\"token\":\"{token}\"}}"));
        let listener = &mut self.listeners[at];
        match granted.filter(|_| subject == listener.subject) {
            None => has(&answer, &["\"error\""]),
            Some(granted) => {
                has(&answer, &["\"ok\":{\"expires\":"]);
                (listener.issued, listener.ends, listener.granted) = (issued, ends, granted);
                (0..4).for_each(|room| listener.listens[room] &= granted[room]);
            }
        }
    }

    fn revoke(&mut self) {
        let (subject, now) = (self.random.below(3), self.bench.world.now.unix);
        let room = self.random.one_in(2).then(|| self.random.below(4) as usize);
        let mut body = json!({"subject": format!("user{subject}")});
        if let Some(room) = room {
            body["channels"] = json!([ROOMS[room]]);
        }
        let mut ended = 0;
        for listener in &mut self.listeners {
            if !listener.is_there || listener.subject != subject || listener.issued > now {
                continue;
            }
            match room {
                Some(room) => {
                    ended += u64::from(listener.listens[room]);
                    listener.is_there = listener.is_socket || !listener.listens[room];
                    (listener.granted[room], listener.listens[room]) = (false, false);
                }
                None => {
                    ended += 1;
                    listener.is_there = false;
                }
            }
        }
        self.revoked.push((subject, now, room));
        assert_eq!(revoke(&mut self.bench, &body), ended);
        self.hear(None);
    }

    fn publish(&mut self) {
        let room = self.random.below(4) as usize;
        self.published += 1;
        let text = format!("<message {}>", self.published);
        self.bench.publish(ROOMS[room], &text, None);
        self.bench.turn();
        self.hear(Some((room, text)));
    }

    /// Everybody reads: who is there gets what was published, and nobody else.
    fn hear(&mut self, published: Option<(usize, String)>) {
        let now = self.bench.world.now.unix;
        for listener in &mut self.listeners {
            let is_due = listener.ends <= now;
            let heard = self.bench.heard(listener.id);
            if listener.is_there && is_due {
                listener.is_there = false;
                has(&heard, &["\"expired\":true"]);
            }
            let expected =
                published.as_ref().filter(|(room, _)| listener.is_there && listener.listens[*room]);
            match expected {
                Some((_, text)) => assert_eq!(heard.matches(&**text).count(), 1, "{text} in {heard}"),
                None => assert!(!heard.contains("<message"), "{heard}"),
            }
        }
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0..3 => self.come(),
            3..8 => self.publish(),
            8 => self.renew(),
            9 => self.revoke(),
            10 => {
                let seconds = self.random.below(25);
                self.bench.seconds(seconds);
                self.hear(None);
            }
            _ => {
                self.bench.world.skew += self.random.below(41) as i64 - 20;
                self.bench.seconds(0);
                self.hear(None);
            }
        }
    }
}

#[test]
fn nobody_hears_what_is_not_granted_and_nobody_misses_what_is() {
    for seed in 0..200 {
        let mut story = Story {
            random: Random::new(seed),
            bench: bench(),
            listeners: Vec::new(),
            revoked: Vec::new(),
            published: 0,
        };
        story.bench.world.advance(0);
        (0..80).for_each(|_| story.step());
        assert!(story.published > 10, "seed {seed}");
    }
}
