//! Rules and tokens at the door, on every technique and in every protocol.

mod lapsing;
mod revoking;
mod sessions;
mod story;

use super::bench::Bench;
use crate::cli::token::sign::Signer;
use crate::config::{Algorithm, ChannelRule, Config, KeyText, TokenKey, Who};
use crate::conn::ConnId;
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
